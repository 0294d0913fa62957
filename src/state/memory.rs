//! What goes into the store and what comes out of it.

use std::sync::Arc;

use crate::message::{Content, FileDigest, FileId, Fingerprint, Identity};
use crate::pop3::UniqueId;

use super::Entries;

/// Seconds since 1970-01-01 UTC.
pub type Timestamp = i64;

/// Names a maildrop, and the session that began with it, in the store that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MaildropKey {
    pub(super) identity: Arc<str>,
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
    /// The last session that published did not close: it was killed, or the power was cut.
    pub cut_off: bool,
    /// When the last complete listing was seen.
    pub listed_at: Option<Timestamp>,
    /// The latest time in the name of a file in a maildir that a record has claimed, in microseconds.
    pub newest_file: u64,
    /// How the server named its messages lately.
    pub naming: Naming,
    /// Recorded messages.
    pub entries: Entries,
    /// Messages that could not be fetched or delivered; also those gone from the listing that some of their recipients
    /// have.
    pub held: Vec<Held>,
    /// Those of them that some of their recipients have, by content.
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

    /// Finds who has a message that others of its recipients have not.
    pub fn reached(&self, uid: &[u8], octets: u64, content: &Content) -> Option<&Reached> {
        let at = self.reached.partition_point(|reached| reached.content.as_ref() < Some(content));
        let known = self.reached.get(at).filter(|reached| reached.content.as_ref() == Some(content));
        // Those of which version 0.1.0 did not say what they consist of come first.
        let mut others = self.reached.iter().take_while(|reached| reached.content.is_none());
        known.or_else(|| others.find(|other| other.uid.as_bytes() == uid && other.octets == octets))
    }
}

/// A message that some of its recipients have, and others not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The name under which it is held.
    pub uid: UniqueId,
    /// Which of those recorded under this name.
    pub ordinal: u32,
    /// Octets by the listing.
    pub octets: u64,
    /// What it consists of: whoever has it has this, whatever the server calls it. `None`: version 0.1.0 did not say.
    pub content: Option<Content>,
    /// Who has it; no address has white space in it.
    pub recipients: Vec<String>,
    /// Why the others have not.
    pub reason: String,
}

/// A maildrop as its row shows it, with what its user was told; the default is one that was never polled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maildrop {
    /// Its identity.
    pub identity: String,
    /// What its server was found to be like.
    pub server: ServerMemory,
    /// When a log-in last succeeded.
    pub ok_at: Option<Timestamp>,
    /// The mark of the credentials with which it did.
    pub mark: Option<Vec<u8>>,
    /// Set after log-ins that the server refused, until one succeeds.
    pub refused: Option<LogInRefused>,
    /// The last poll and when it ended.
    pub last: Option<(Timestamp, PollResult)>,
    /// When the last poll that did not fail ended.
    pub last_success: Option<Timestamp>,
    /// Failed polls in a row.
    pub failures: u32,
    /// What somebody was told of.
    pub told: Vec<Told>,
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

/// Proof that a message is durably recorded as delivered, and that this session has seen it to be that message; only
/// this module makes one.
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

/// What a session has seen of a listed message that a record may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Its place in the listing alone: octets by the server's word.
    Listed(u64),
    /// Its header too, by TOP.
    Header {
        /// Octets by the server's word.
        listed: u64,
        /// What the header is known by.
        header: Fingerprint,
    },
    /// All of it, by RETR.
    Whole {
        /// Octets by the server's word.
        listed: u64,
        /// What it is known by.
        whole: Fingerprint,
    },
}

/// Proves that a listed message is the one that was recorded, if that is so: by its content, or by a certain identity
/// and a size that RETR verified. What the user gave up is deleted by name and size, and what was only marked never.
pub fn prove<T>(entry: &super::Entry, detail: &Detail, seen: &Seen, of: T) -> Option<Recorded<T>> {
    let proven = match (entry.kind, seen) {
        (Kind::Marked | Kind::Pending, _) => false,
        (
            Kind::Discarded,
            Seen::Listed(listed) | Seen::Header { listed, .. } | Seen::Whole { listed, .. },
        ) => entry.octets == *listed,
        (Kind::Delivered | Kind::Imported, Seen::Listed(_)) => false,
        (Kind::Delivered | Kind::Imported, Seen::Header { listed, header }) => {
            let octets = listed.saturating_sub(header.fields);
            header.identity.is_certain() && detail.has_header_of(header) && detail.is_verified(octets)
        }
        (Kind::Delivered | Kind::Imported, Seen::Whole { listed, whole }) => detail.is_whole(*listed, whole),
    };
    proven.then_some(Recorded(of))
}

impl Detail {
    /// Says whether a header shows an identity that the message is known by.
    pub fn has_header_of(&self, header: &Fingerprint) -> bool {
        self.identities.contains(&Some(header.identity)) || self.has_old_header_of(header)
    }

    /// Says whether a header may settle that a message is this one.
    pub fn may_be_certain(&self) -> bool {
        let mut identities = self.identities.iter().flatten();
        self.header.is_some() || identities.any(|identity| identity.is_certain())
    }

    /// Says whether a header is that which version 0.1.0 recorded, but for what servers may have written since.
    fn has_old_header_of(&self, header: &Fingerprint) -> bool {
        self.header.is_some_and(|old| header.header.contains(&old))
    }

    /// Says whether a message that came whole is the recorded one. Version 0.1.0 recorded no content: header and size
    /// must do.
    pub fn is_whole(&self, listed: u64, whole: &Fingerprint) -> bool {
        match self.content {
            Some(content) => content == whole.content,
            None => {
                let sizes = [listed, whole.octets, whole.octets - whole.fields];
                self.has_old_header_of(whole) && sizes.iter().any(|octets| self.is_verified(*octets))
            }
        }
    }

    /// Says whether RETR gave so many octets, less those of the servers' fields, or they were listed then.
    pub fn is_verified(&self, octets: u64) -> bool {
        let counts = [self.sent, self.listed].into_iter().filter(|count| *count > 0);
        counts.into_iter().any(|count| count.saturating_sub(self.fields) == octets)
    }

    /// Says whether a size by the listing is one that the message has had.
    pub fn has_size(&self, octets: u64) -> bool {
        octets == 0 || octets == self.sent || octets == self.listed
    }
}

/// How a record came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// The message was delivered.
    #[default]
    Delivered,
    /// It was only marked as seen, and is never deleted.
    Marked,
    /// It was listed, and is not delivered yet.
    Pending,
    /// It was held, and the user gave it up.
    Discarded,
    /// Another program fetched it.
    Imported,
}

impl Kind {
    /// Gives the number that stands in the table.
    pub(super) fn to_number(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::Marked => 1,
            Self::Pending => 2,
            Self::Discarded => 3,
            Self::Imported => 4,
        }
    }

    /// Reads a number of the table; one that is none is the kind that is never deleted.
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Delivered,
            2 => Self::Pending,
            3 => Self::Discarded,
            4 => Self::Imported,
            _ => Self::Marked,
        }
    }
}

/// How a server has named its messages lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Naming {
    /// Listings in a row that shared no unique-id with the one before.
    pub renames: u32,
    /// Listings in a row that left messages without a unique-id.
    pub holes: u32,
    /// Digests of some unique-ids of the last listing, where messages do not go by them.
    pub sample: Vec<u8>,
}

/// A message to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The server's unique-id, or a name that was made for a message that goes by its place.
    pub uid: UniqueId,
    /// Which of those recorded under this name.
    pub ordinal: u32,
    /// Octets by the server's listing (0: unknown).
    pub octets: u64,
    /// How the record comes to be.
    pub kind: Kind,
    /// When it was delivered, given up, or fetched by another program.
    pub delivered_at: Option<Timestamp>,
    /// What it is known by, if it came whole.
    pub fingerprint: Option<Fingerprint>,
    /// What else TOP shows of it, or all that is known.
    pub second: Option<Identity>,
    /// Its file in a maildir.
    pub file: Option<FileId>,
    /// Where it stands among those that go by their place.
    pub place: Option<u32>,
    /// It is deleted as soon as it is recorded.
    pub deleting: bool,
}

impl Delivery {
    /// Makes a record of which nothing is known but the name and the octets by the listing.
    pub fn new(uid: UniqueId, ordinal: u32, octets: u64, kind: Kind) -> Self {
        Self {
            uid,
            ordinal,
            octets,
            kind,
            delivered_at: None,
            fingerprint: None,
            second: None,
            file: None,
            place: None,
            deleting: false,
        }
    }
}

/// What a recorded message is known by, and what is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// What RETR showed, and what TOP shows if that is something else.
    pub identities: [Option<Identity>; 2],
    /// What it consists of.
    pub content: Option<Content>,
    /// SHA-256 of the whole header: what version 0.1.0 recorded in the place of identity and content.
    pub header: Option<[u8; 32]>,
    /// Octets that RETR gave (0: unknown).
    pub sent: u64,
    /// Octets by the listing of that session (0: unknown).
    pub listed: u64,
    /// Octets of the servers' fields among those that RETR gave.
    pub fields: u64,
    /// Its file in a maildir.
    pub file: RecordedFile,
    /// Where it stands among those that go by their place.
    pub place: Option<u32>,
    /// Since when it is due to be deleted.
    pub due_since: Option<Timestamp>,
    /// When a deletion was tried last.
    pub tried_at: Option<Timestamp>,
}

/// The file of a recorded message in a maildir.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordedFile {
    /// As version 0.1.0 named it: by unique-id and ordinal.
    #[default]
    ByName,
    /// This one.
    File(FileId),
    /// None: another target.
    Elsewhere,
}

/// A file of ours in a maildir that no record claims: a message that is there, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unclaimed {
    /// This one.
    File(FileId),
    /// Any with this digest in its name: the file of a record that version 0.1.0 made and the user has forgotten.
    Digest(FileDigest),
}

impl Unclaimed {
    /// Gives it as octets.
    pub(super) fn to_octets(self) -> Vec<u8> {
        match self {
            Self::File(file) => file.to_octets().to_vec(),
            Self::Digest(digest) => digest.to_vec(),
        }
    }

    /// Reads octets that [`Unclaimed::to_octets`] gave.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        let digest = || octets.try_into().ok().map(Self::Digest);
        FileId::from_octets(octets).map(Self::File).or_else(digest)
    }
}

/// What a session has learned of a recorded message; written at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which one, by index in [`Entries`].
    pub index: usize,
    /// The name that it has now.
    pub uid: UniqueId,
    /// Which of those recorded under this name.
    pub ordinal: u32,
    /// Octets by the listing.
    pub octets: u64,
    /// When it was delivered; a wrong clock may have said so.
    pub delivered_at: Option<Timestamp>,
    /// What it is known by, and what is due.
    pub detail: Detail,
    /// It is listed, and nobody wants it deleted any more.
    pub stays: bool,
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

/// What somebody was told of something that is, or lately was, in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What: polls, held messages, a hook.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// How often it was met.
    pub times: u32,
    /// It is not over.
    pub lasts: bool,
    /// The kinds of trouble, and when each was told last; their names have no line end in them.
    pub kinds: Vec<(String, Timestamp)>,
    /// When a message told its user last.
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
    /// Records from when messages were first seen that turned out to be of others, by index in [`Entries`]: dropped.
    pub superseded: Vec<usize>,
    /// What was learned of recorded messages.
    pub changes: Vec<Change>,
    /// Records of messages that are listed and not delivered.
    pub pending: Vec<Delivery>,
    /// How the server names its messages now; `None` if there is no listing.
    pub naming: Option<Naming>,
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
    /// What somebody was told of, as it is now; `None`: of this there is nothing to remember.
    pub told: Vec<(&'static str, Option<Told>)>,
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
    /// Its row.
    pub maildrop: Maildrop,
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
