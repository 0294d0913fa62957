//! What a session takes out of the store, and what it leaves in it.

use std::sync::Arc;

use crate::message::UniqueId;
use crate::message::{Content, FileDigest, FileId, Fingerprint, Identity};

use super::{Entries, Held, Kind, LogIn, PollResult, Reached, Subject, Timestamp, Told};

/// Names a maildrop, and the session that began with it, in the store that gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MaildropKey {
    pub(super) identity: Arc<str>,
    /// A random number above 0; the maildrop's row holds it while this session publishes.
    pub(super) session: i64,
}

/// Gives what stands in `deleting` of a record that is doubted for as long as its session is open: neither 0 nor 1, and
/// nothing has to be written of all those records when it closes.
pub(super) fn open_mark(session: i64) -> i64 {
    (session >> 32).max(2)
}

/// Everything a session must know of its maildrop before it plans.
#[derive(Debug)]
pub struct Memory {
    /// The maildrop's key in the store.
    pub key: MaildropKey,
    pub left: Left,
    /// When the last complete listing was seen.
    pub listed_at: Option<Timestamp>,
    /// The latest time in the name of a file in a maildir that a record has claimed, in microseconds.
    pub newest_file: u64,
    /// How the server named its messages lately.
    pub naming: Naming,
    pub entries: Entries,
    /// Messages that could not be fetched or delivered; also those gone from the listing that somebody has.
    pub held: Vec<Held>,
    /// Those of them that some targets or recipients have, by content.
    pub reached: Vec<Reached>,
}

/// How the sessions before have left a maildrop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// None got as far as to publish something or to close.
    Unknown,
    /// None has published and closed, or no listing was completed and nothing is recorded.
    Unpublished,
    /// The last one that published did not close: it was killed, or the power was cut.
    CutOff,
    Closed,
}

impl Left {
    /// Says whether the target may hold messages that are not recorded, so that it must be recovered before anything is
    /// published.
    pub fn is_unclosed(self) -> bool {
        self != Self::Closed
    }

    /// Says whether that is so although there were sessions before.
    pub fn is_to_be_ended(self) -> bool {
        matches!(self, Self::Unpublished | Self::CutOff)
    }
}

impl Memory {
    /// Finds what is known of a listed message that failed.
    pub fn held(&self, uid: &[u8], ordinal: u32, octets: u64) -> Option<&Held> {
        // The order in which they are read.
        let name = |held: &Held| (held.uid.as_bytes(), held.ordinal).cmp(&(uid, ordinal));
        let found = self.held.binary_search_by(name).ok()?;
        Some(&self.held[found]).filter(|held| held.is_of(octets))
    }

    /// Finds who has a message that others have not. Of several that are equal each is one, and `is_listed` says which
    /// are there under the names that they had.
    pub fn reached(
        &self,
        (uid, ordinal): (&[u8], u32),
        octets: u64,
        content: &Content,
        is_listed: impl Fn(&UniqueId, u32) -> bool,
    ) -> Option<&Reached> {
        let at = self.reached.partition_point(|reached| reached.content.as_ref() < Some(content));
        let equal = self.reached[at..].iter().take_while(|reached| reached.content.as_ref() == Some(content));
        let is_own = |reached: &&Reached| reached.uid.as_bytes() == uid && reached.ordinal == ordinal;
        let renamed = |reached: &&Reached| !is_listed(&reached.uid, reached.ordinal);
        // Those of which version 0.1.0 did not say what they consist of come first.
        let mut others = self.reached.iter().take_while(|reached| reached.content.is_none());
        let own = equal.clone().find(is_own).or_else(|| equal.clone().find(renamed));
        own.or_else(|| others.find(|other| other.uid.as_bytes() == uid && other.octets == octets))
    }
}

impl Detail {
    /// Says whether a header shows an identity that the message is known by.
    pub fn has_header_of(&self, header: &Fingerprint) -> bool {
        self.identities.contains(&Some(header.identity)) || self.has_old_header_of(header)
    }

    /// Says whether RETR has shown that a header settles nothing, whatever TOP makes of it.
    pub fn is_weak(&self) -> bool {
        self.identities[0].is_some_and(|identity| !identity.is_certain())
    }

    /// Says whether a header may settle that a message is this one.
    pub fn may_be_certain(&self) -> bool {
        let mut identities = self.identities.iter().flatten();
        !self.is_weak() && (self.header.is_some() || identities.any(|identity| identity.is_certain()))
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
                // The listing may count otherwise than RETR, line ends as one octet, and have the servers' fields in it or not.
                let bare = listed.saturating_sub(whole.fields);
                let plain = [listed, whole.octets, whole.octets - whole.fields, bare, bare + whole.lines];
                self.has_old_header_of(whole) && plain.iter().any(|octets| self.is_verified(*octets))
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
    /// Its files in maildirs.
    pub files: Vec<FileId>,
    /// Where it stands among those that go by their place.
    pub place: Option<u32>,
    /// It is deleted as soon as it is recorded.
    pub deleting: bool,
    /// It may have come in the place of another: what is recorded is believed once its session has closed.
    pub open: bool,
}

impl Delivery {
    /// Has a message recorded as one that is never deleted.
    pub fn keep(&mut self) {
        (self.kind, self.delivered_at, self.deleting) = (Kind::Marked, None, false);
    }

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
            files: Vec::new(),
            place: None,
            deleting: false,
            open: false,
        }
    }
}

/// What a recorded message is known by, and what is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// What RETR showed, and what TOP shows if that is something else.
    pub identities: [Option<Identity>; 2],
    pub content: Option<Content>,
    /// SHA-256 of the whole header: what version 0.1.0 recorded in the place of identity and content.
    pub header: Option<[u8; 32]>,
    /// Octets that RETR gave (0: unknown).
    pub sent: u64,
    /// Octets by the listing of that session (0: unknown).
    pub listed: u64,
    /// Octets of the servers' fields among those that RETR gave.
    pub fields: u64,
    /// Its files in maildirs.
    pub files: RecordedFiles,
    /// Where it stands among those that go by their place.
    pub place: Option<u32>,
    /// Since when it is due to be deleted.
    pub due_since: Option<Timestamp>,
    /// When a deletion was tried last.
    pub tried_at: Option<Timestamp>,
}

/// The files of a recorded message in maildirs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecordedFiles {
    /// As version 0.1.0 named it: by unique-id and ordinal.
    #[default]
    ByName,
    /// One for each maildir among the targets.
    Files(Vec<FileId>),
}

/// A file of ours in a maildir that no record claims: a message that is there, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unclaimed {
    File(FileId),
    /// Any with this digest in its name: the file of a record that version 0.1.0 made and the user has forgotten.
    Digest(FileDigest),
}

impl Unclaimed {
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

/// What is to be added to an open record ([`Delivery::open`]) when its session closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    pub name: (UniqueId, u32),
    /// By the listing.
    pub octets: u64,
    pub place: Option<u32>,
    /// By TOP, if RETR showed another.
    pub second: Option<Identity>,
}

/// What a session leaves behind, written in one commit at its end.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    pub at: Timestamp,
    /// A target may have what no record tells of: the next session asks it.
    pub stays_open: bool,
    /// Set when the listing was read completely: the listing's time.
    pub listed_at: Option<Timestamp>,
    /// A listed message is not told apart yet, and may be any that was not listed: nothing is forgotten.
    pub open: bool,
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
    /// Deletions that the server refused, or whose QUIT it did not answer with `+OK`.
    pub undeleted: Vec<(UniqueId, u32)>,
    /// Records that may be of other messages, and of what came: they are asked about, and compared where what came has
    /// another size than is listed.
    pub doubted: Vec<(UniqueId, u32)>,
    /// What is added to records of this session, with the messages' indices in the listing.
    pub confirmed: Vec<(usize, Confirmed)>,
    /// Messages newly held, or held again.
    pub held: Vec<Held>,
    /// Held messages that are gone from the listing (delivered ones are released by `record`). Of those that somebody
    /// has it is remembered who, for 90 days.
    pub released: Vec<(UniqueId, u32)>,
    /// What is known of the server now, as in [`Maildrop::learned`](super::Maildrop); `None` leaves it as it was.
    pub learned: Option<Vec<u8>>,
    /// What became of the log-in, if there was one.
    pub login: Option<LogIn>,
    /// What somebody was told of, as it is now; `None`: of this there is nothing to remember.
    pub told: Vec<(Subject, Option<Told>)>,
    /// For `status`; `None` if another session of the same poll follows.
    pub poll: Option<PollResult>,
}
