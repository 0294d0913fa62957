//! Messages that could not be fetched, or that not all targets take, or not for all of their recipients.

use serde::{Serialize, Serializer};

use crate::clock::in_utc;
use crate::message::{Content, FileId, Identity, UniqueId};

use super::Timestamp;

/// A message that some targets, or some of its recipients, have, and others not.
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
    /// By what else it is known.
    pub identity: Option<Identity>,
    /// Who has it.
    pub targets: Vec<Holder>,
    /// Why the others have not.
    pub reason: String,
}

/// A target that has a message, or of which some recipients do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name, else its kind and place; empty: the one that there was.
    pub target: String,
    /// Those of its recipients who have it; no address has white space in it. `None`: all.
    pub recipients: Option<Vec<String>>,
    /// The file that it is there, if it is one.
    pub file: Option<FileId>,
}

impl Held {
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }
}

impl Reached {
    /// Says whether a target has it, for all recipients.
    pub fn is_in(&self, target: &str) -> bool {
        self.targets.iter().any(|holder| holder.target == target && holder.recipients.is_none())
    }
}

/// A message that could not be fetched, or that the target does not take. As JSON it is what `held list --json` prints;
/// the manual describes the fields, and their names stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    #[serde(serialize_with = "shown")]
    pub uid: UniqueId,
    /// Which of those that share the unique-id.
    #[serde(skip)]
    pub ordinal: u32,
    /// Octets by the server's listing (0: unknown). Another size is another message.
    pub octets: u64,
    /// Whose trouble it is.
    #[serde(skip)]
    pub kind: HeldKind,
    /// Whether it is held already.
    #[serde(skip)]
    pub standing: Standing,
    /// Why, in words for the user.
    pub reason: String,
    #[serde(serialize_with = "in_utc")]
    pub since: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// When it was tried last.
    #[serde(skip)]
    pub tried_at: Timestamp,
    /// When it is tried again.
    #[serde(serialize_with = "in_utc")]
    pub next_try: Timestamp,
    /// What came of it, if it came short.
    #[serde(skip)]
    pub came: Option<Came>,
}

fn shown<S: Serializer>(uid: &UniqueId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(uid)
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
    /// A target that others have it beside was not to be had: it is looked at before the message is fetched again.
    Away,
    /// It may be in the target, and would be there twice if it was sent again: it is tried when somebody says so.
    Doubtful,
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
    Held,
}

/// The octets of a message that came short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// Their SHA-256.
    pub digest: [u8; 32],
    /// How often the same ones came.
    pub times: u32,
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
    const ALL: [Self; 9] = [
        Self::Refused,
        Self::Later,
        Self::NoRoom,
        Self::Away,
        Self::Doubtful,
        Self::TooLarge,
        Self::Breaks,
        Self::Short,
        Self::Undeletable,
    ];

    /// Names it in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Later => "later",
            Self::NoRoom => "no-room",
            Self::Away => "away",
            Self::Doubtful => "doubtful",
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
