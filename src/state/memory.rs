//! What goes into the store and what comes out of it.

use crate::pop3::UniqueId;

use super::Entries;

/// Seconds since 1970-01-01 UTC.
pub type Timestamp = i64;

/// Names a maildrop, and the session that began with it, in the store that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaildropKey {
    /// Index of the identity in the table of the store's thread.
    pub(super) slot: usize,
    /// A random number above 0; the maildrop's row holds it while this session publishes.
    pub(super) session: i64,
}

/// Everything a session must know of its maildrop before it plans.
#[derive(Debug)]
pub struct Memory {
    /// The maildrop's key in the store.
    pub key: MaildropKey,
    /// No session has completed a listing of this maildrop or recorded anything of it: this is the first sync (or the
    /// state file was lost).
    pub fresh: bool,
    /// There is a row for the maildrop: some session got as far as to publish something or to close.
    pub known: bool,
    /// The target may hold messages that are not recorded, so it must be recovered before anything is published: no
    /// session of this maildrop has published and closed, or the last one that published did not close (it was
    /// killed, or the power was cut). True whenever `fresh` is.
    pub unclosed: bool,
    /// When the last complete listing was seen.
    pub listed_at: Option<Timestamp>,
    /// Recorded unique-ids.
    pub entries: Entries,
    /// Messages that could not be fetched or delivered; also those gone from the listing that some of their recipients
    /// have.
    pub held: Vec<Held>,
    /// Those of them that some of their recipients have.
    pub reached: Vec<Reached>,
}

impl Memory {
    /// Finds what is known of a listed message that failed.
    pub fn held(&self, uid: &[u8], ordinal: u32, octets: u64) -> Option<&Held> {
        // The order in which they are read.
        let name = |held: &Held| (held.uid.as_bytes(), held.ordinal).cmp(&(uid, ordinal));
        let found = self.held.binary_search_by(name).ok()?;
        Some(&self.held[found]).filter(|held| held.is_of(octets))
    }

    /// Finds who has a listed message that others of its recipients have not.
    pub fn reached(&self, uid: &UniqueId, ordinal: u32, octets: u64) -> Option<&Reached> {
        let found =
            self.reached.binary_search_by(|reached| (&reached.uid, reached.ordinal).cmp(&(uid, ordinal)));
        Some(&self.reached[found.ok()?]).filter(|reached| reached.is_of(uid, ordinal, octets))
    }
}

/// A message that some of its recipients have, and others not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The unique-id.
    pub uid: UniqueId,
    /// Which of those that share it.
    pub ordinal: u32,
    /// Octets by the listing.
    pub octets: u64,
    /// Who has it; no address has white space in it.
    pub recipients: Vec<String>,
    /// Why the others have not.
    pub reason: String,
}

impl Reached {
    /// Says whether this is of a listed message: another size is another message, under a unique-id that the server
    /// uses again. No size, 0, is no other size.
    pub fn is_of(&self, uid: &UniqueId, ordinal: u32, octets: u64) -> bool {
        let is_same_size = self.octets == octets || self.octets == 0 || octets == 0;
        self.uid == *uid && self.ordinal == ordinal && is_same_size
    }
}

/// What a session must know before it logs in. It is one row, there long before all of [`Memory`] is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginMemory {
    /// What the server was found to be like.
    pub server: ServerMemory,
    /// When a log-in last succeeded.
    pub ok_at: Option<Timestamp>,
    /// The mark of the credentials with which it did.
    pub mark: Option<Vec<u8>>,
    /// Set after log-ins that the server refused, until one succeeds.
    pub refused: Option<LogInRefused>,
}

/// What became of a log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogIn {
    /// It succeeded.
    Worked(LogInWorked),
    /// The server refused it.
    Refused(LogInRefused),
}

/// A log-in that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInWorked {
    /// A salt, and one octet of a digest of configuration and secret: most others have another one.
    pub mark: Vec<u8>,
}

/// What the server was found to be like, so that it need not be asked again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerMemory {
    /// The capability lines, as they were sent, joined by newlines; `None` if unknown.
    pub capabilities: Option<Vec<u8>>,
    /// What else the session keeps of it: nothing that the store understands.
    pub learned: Option<Vec<u8>>,
}

/// Refused log-ins, counted so that an account is not locked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInRefused {
    /// When it was refused last.
    pub at: Timestamp,
    /// Refusals in a row.
    pub count: u32,
    /// A salted, slow digest of configuration and secret; another one means that they changed.
    pub credentials: Vec<u8>,
    /// What the server said to the last one.
    pub said: Vec<u8>,
    /// What kind of trouble that was, by its name.
    pub class: String,
}

/// Proof that a message is durably recorded as delivered or seen; only this module makes one.
#[derive(Debug)]
pub struct Recorded<T>(pub(super) T);

impl<T> Recorded<T> {
    /// Gives what it is the proof for.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Says the same of a part of it.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Recorded<U> {
        Recorded(part(self.0))
    }
}

/// A message to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The server's unique-id.
    pub uid: UniqueId,
    /// Which of those that share the unique-id.
    pub ordinal: u32,
    /// Octets by the server's listing (0: unknown).
    pub octets: u64,
    /// SHA-256 of the header as the server sent it, up to and without the empty line.
    pub header: Option<[u8; 32]>,
    /// When it was delivered; `None` marks it as seen without delivery.
    pub delivered_at: Option<Timestamp>,
}

/// A message that could not be fetched, or that the target does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The server's unique-id.
    pub uid: UniqueId,
    /// Which of those that share the unique-id.
    pub ordinal: u32,
    /// Octets by the server's listing (0: unknown). Another size is another message.
    pub octets: u64,
    /// Whose trouble it is.
    pub kind: HeldKind,
    /// Whether it is held already.
    pub standing: Standing,
    /// Why, in words for the user.
    pub reason: String,
    /// When it first failed.
    pub since: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// When it was tried last.
    pub tried_at: Timestamp,
    /// When it is tried again.
    pub next_try: Timestamp,
    /// What came of it, if it came short.
    pub came: Option<Came>,
}

/// Whose trouble it is that a message is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldKind {
    /// The server does not send it, or the target does not want it.
    Refused,
    /// The target could not take it then.
    Later,
    /// There was no room for it: the target is looked at before it is fetched again.
    NoRoom,
    /// Larger than the limit: it stays, and is not shown as held.
    TooLarge,
    /// The session broke at it.
    Breaks,
    /// Less of it came than was listed.
    Short,
    /// It is delivered, and the session breaks at its deletion: not shown as held.
    Undeletable,
}

/// Whether a message is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has failed once, and it may have been the server.
    Suspected,
    /// It is held.
    Held,
}

/// The octets of a message that came short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// Their SHA-256.
    pub digest: [u8; 32],
    /// How often the same ones came.
    pub times: u32,
    /// When they first did.
    pub since: Timestamp,
}

impl Held {
    /// Says whether it is about a listed message, and not about another one under its unique-id. No size, 0, is no other
    /// size.
    pub fn is_of(&self, octets: u64) -> bool {
        self.octets == octets || self.octets == 0 || octets == 0
    }
}

impl HeldKind {
    const ALL: [Self; 7] = [
        Self::Refused,
        Self::Later,
        Self::NoRoom,
        Self::TooLarge,
        Self::Breaks,
        Self::Short,
        Self::Undeletable,
    ];

    /// Names it in the state.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Later => "later",
            Self::NoRoom => "no-room",
            Self::TooLarge => "too-large",
            Self::Breaks => "breaks",
            Self::Short => "short",
            Self::Undeletable => "undeletable",
        }
    }

    /// Finds the kind of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How the last poll of a maildrop ended, as far as the next one depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPoll {
    /// The maildrop's identity.
    pub maildrop: String,
    /// When it began.
    pub at: Timestamp,
    /// The server: host and port.
    pub host: String,
    /// How it failed, if it did.
    pub class: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When the last poll that did not fail ended.
    pub last_success: Option<Timestamp>,
    /// The capability lines of the server, joined by newlines; `None` if unknown.
    pub capabilities: Option<Vec<u8>>,
}

/// How the polls of a maildrop went lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Failures in a row.
    pub failures: u32,
    /// When the last poll that did not fail ended.
    pub last_success: Option<Timestamp>,
    /// When its user was last told of this failure in a message.
    pub noticed_at: Option<Timestamp>,
}

/// What a session leaves behind, written in one commit at its end.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// When the session ended.
    pub at: Timestamp,
    /// Set when the listing was read completely: the listing's time.
    pub listed_at: Option<Timestamp>,
    /// Recorded messages that the listing no longer shows, by index in [`Entries`].
    pub vanished: Vec<usize>,
    /// Recorded messages that it shows again, by index in [`Entries`].
    pub returned: Vec<usize>,
    /// Deletions that reached UPDATE state.
    pub deleted: Vec<(UniqueId, u32)>,
    /// Deletions that the server refused.
    pub undeleted: Vec<(UniqueId, u32)>,
    /// Messages newly held, or held again.
    pub held: Vec<Held>,
    /// Held messages that are gone from the listing (delivered ones are released by `record`). Of those that some of
    /// their recipients have it is remembered who, for 90 days.
    pub released: Vec<(UniqueId, u32)>,
    /// What is known of the server now; `None` leaves it as it was.
    pub server: Option<ServerMemory>,
    /// What became of the log-in, if there was one.
    pub login: Option<LogIn>,
    /// For `status`; `None` if another session of the same poll follows.
    pub poll: Option<PollResult>,
}

/// The last poll of an account, as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollResult {
    /// The account's name.
    pub account: String,
    /// Host and port.
    pub host: String,
    /// `None`: it succeeded. Else class name and text of the failure.
    pub failure: Option<(String, String)>,
    /// Messages delivered.
    pub messages: u64,
    /// Octets delivered.
    pub octets: u64,
    /// Messages in the maildrop at the listing.
    pub listed: Option<u64>,
    /// Messages left for later polls (limits).
    pub backlog: u64,
}

/// One maildrop, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The maildrop's identity.
    pub maildrop: String,
    /// The last poll and when it ended.
    pub last: Option<(Timestamp, PollResult)>,
    /// When a poll last succeeded.
    pub last_success: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// Recorded unique-ids.
    pub seen: u64,
    /// Held messages that the last listing showed.
    pub held: Vec<Held>,
}

/// One recorded unique-id, as `seen list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLine {
    /// The server's unique-id.
    pub uid: UniqueId,
    /// Which of those that share the unique-id.
    pub ordinal: u32,
    /// Octets by the listing (0: unknown).
    pub octets: u64,
    /// When it was first recorded.
    pub first_seen: Timestamp,
    /// When it was delivered, or given up; `None`: only marked as seen.
    pub delivered_at: Option<Timestamp>,
    /// It was held, and given up.
    pub discarded: bool,
    /// The last listing that showed it; `None`: the latest.
    pub last_listed: Option<Timestamp>,
}
