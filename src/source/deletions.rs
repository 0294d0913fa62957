//! DELE: the only way to a deletion leads through a proof that the message is recorded.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::{Listing, MessageNumber};
use crate::pop3::{Command, Reply};
use crate::state::Recorded;
use crate::text::Shown;

use super::wire::{Wire, WireError};

/// Deletions after which a session ends, so that they become real ...
const MOST: usize = 1000;
/// ... and how long the first of them waits for that.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Deletions that may wait until no message is under way, their octets by the listing, and for how long: behind them no
/// more is asked for.
const MOST_WAITING: usize = 256;
const WAITING_OCTETS: u64 = 16 << 20;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The deletions of one session; messages go by their index in the listing.
///
/// Nothing is deleted before QUIT was answered with `+OK` (RFC 1939, 6: UPDATE state).
#[derive(Debug)]
pub struct Deletions {
    /// The account, for the log.
    account: String,
    waiting: VecDeque<Recorded>,
    /// Since when any waits.
    since: Option<Instant>,
    /// When the first DELE was sent, and how many were.
    begun: Option<(Instant, usize)>,
    accepted: Vec<usize>,
    refused: Vec<usize>,
}

impl Deletions {
    pub fn of(account: &str) -> Self {
        let account = account.to_owned();
        let (accepted, refused) = (Vec::new(), Vec::new());
        Self { account, waiting: VecDeque::new(), since: None, begun: None, accepted, refused }
    }

    /// Keeps a deletion for when the connection is free.
    pub fn wait(&mut self, proof: Recorded) {
        self.since.get_or_insert_with(Instant::now);
        self.waiting.push_back(proof);
    }

    /// Takes a deletion that waits.
    pub fn next_waiting(&mut self) -> Option<Recorded> {
        let next = self.waiting.pop_front();
        self.since = self.since.filter(|_| !self.waiting.is_empty());
        next
    }

    /// Says whether those that wait should go before anything more is asked for.
    pub fn have_waited(&self, listing: &Listing) -> bool {
        let octets = |sum: u64, proof: &Recorded| sum.saturating_add(listing.get(proof.index()).octets);
        self.waiting.len() >= MOST_WAITING
            || self.since.is_some_and(|since| since.elapsed() >= LONGEST_WAIT)
            || self.waiting.iter().fold(0, octets) >= WAITING_OCTETS
    }

    /// Gives the message of the deletion that waits longest.
    pub fn peek_waiting(&self) -> Option<usize> {
        self.waiting.front().map(Recorded::index)
    }

    /// Says that it is time to end the session, so that its deletions become real: this many more are to come of what
    /// is under way.
    pub fn are_many(&self, coming: usize) -> bool {
        let coming = coming + self.waiting.len();
        self.begun.is_some_and(|(since, count)| count + coming >= MOST || since.elapsed() >= LONGEST)
    }

    /// Says that with those to come there are as many as a session may have.
    pub fn are_all(&self, coming: usize) -> bool {
        self.begun.map_or(0, |(_, count)| count) + self.waiting.len() + coming >= MOST
    }

    /// Sends DELE for a message that is recorded.
    pub fn delete(&mut self, wire: &mut Wire, listing: &Listing, proof: Recorded) -> Result<(), WireError> {
        let number = listing.get(proof.index()).number;
        log::debug!("{}: {}: recorded, and so to be deleted", self.account, proof.message().uid);
        self.begun.get_or_insert_with(|| (Instant::now(), 0)).1 += 1;
        wire.send(Command::Dele(number))
    }

    /// Notes the answer to a DELE.
    pub fn answered(&mut self, index: usize, number: MessageNumber, reply: Reply<'_>) {
        if reply.is_ok() {
            self.accepted.push(index);
        } else {
            log::warn!("{}: server refused DELE {number}: {}", self.account, Shown(reply.text));
            self.refused.push(index);
        }
    }

    /// Says whether the server has answered the deletion of a message, with yes or no.
    pub fn were_answered(&self, index: usize) -> bool {
        self.accepted.contains(&index) || self.refused.contains(&index)
    }

    /// Gives the deletions that the server will carry out at QUIT.
    pub fn accepted(&self) -> &[usize] {
        &self.accepted
    }

    /// Gives those that the server will carry out at QUIT, and those that it refused.
    pub fn into_answers(self) -> (Vec<usize>, Vec<usize>) {
        (self.accepted, self.refused)
    }
}
