//! What came of the messages that a session was to fetch.

use crate::source::Broke;
use crate::state::{Came, HeldKind, Standing};

use super::trouble::Failed;

#[derive(Debug, Default)]
pub struct Fetched {
    pub delivered: usize,
    /// Octets of those as they came in.
    pub octets: u64,
    /// Those of them that had been delivered before.
    pub already_there: usize,
    /// Messages that could not be had or delivered.
    pub failed: Vec<Unfetched>,
    /// Messages that came and are ones that were recorded before.
    pub known: usize,
    /// Messages that were to be fetched and were not begun, or not finished.
    pub left: usize,
    /// Messages and deletions that wait for another session, behind this one's deletions.
    pub postponed: usize,
    /// How the session broke, if it did.
    pub broke: Option<Broke>,
    /// Messages that may have come in the place of others, since the session came to a bad end.
    pub uncertain: Vec<usize>,
    /// Content was shown that was not delivered: on a server whose messages vanish once shown, the session must not end
    /// with QUIT.
    pub shown_undelivered: bool,
    /// A message was refused by a code that tells of the server; the session goes on.
    pub refused: Option<Failed>,
    /// Why it ended early, if it did.
    pub aborted: Option<Failed>,
    /// The connection can still be used: every answer was read.
    pub in_step: bool,
}

impl Fetched {
    /// Adds what came of another round in the same session.
    pub fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.octets += other.octets;
        self.already_there += other.already_there;
        self.known += other.known;
        self.failed.extend(other.failed);
        self.left += other.left;
        self.postponed += other.postponed;
        self.broke = self.broke.take().or(other.broke);
        self.uncertain.extend(other.uncertain);
        self.shown_undelivered |= other.shown_undelivered;
        self.in_step &= other.in_step;
        self.refused = self.refused.take().or(other.refused);
        self.aborted = self.aborted.take().or(other.aborted);
    }
}

/// A message that could not be had or delivered.
#[derive(Debug)]
pub struct Unfetched {
    /// Its index in the listing.
    pub index: usize,
    pub kind: HeldKind,
    /// Whether it is held for it at once.
    pub standing: Standing,
    pub reason: String,
    /// What came of it, if that was less than was listed.
    pub came: Option<Came>,
}
