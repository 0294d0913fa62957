//! What a session is to retrieve and delete, and what its server says meanwhile.

use std::collections::HashSet;

use crate::message::Listing;
use crate::pop3::{Command, Reply};
use crate::state::Recorded;
use crate::text::Shown;

use super::error::{About, SourceError, SourceFailed};

/// What is to be retrieved and deleted. Messages go by their index in the listing.
#[derive(Debug, Default)]
pub struct Order {
    /// In this order.
    pub wanted: Vec<usize>,
    /// Deletions of messages that were recorded before.
    pub old: Vec<Recorded>,
    /// What broke a session before, in this order, when everything else is done and this session's deletions are real.
    pub last: Vec<Last>,
    /// Messages that are asked for singly.
    pub careful: HashSet<usize>,
}

/// Something at which a session broke before.
#[derive(Debug)]
pub enum Last {
    Retrieve(usize),
    Delete(Recorded),
}

/// What is sent where an answer is wanted, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Noop,
    /// Where the server does not bear NOOP.
    Stat,
}

impl Proof {
    pub(super) fn command(self) -> Command<'static> {
        match self {
            Self::Noop => Command::Noop,
            Self::Stat => Command::Stat,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Anything,
    /// No message more; those that were to be retrieved are left once none is under way.
    Deletions,
    Nothing,
}

/// What the server says while messages are retrieved.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message begins to come in.
    Began(usize),
    /// Octets of it, unstuffed; never empty.
    Octets(&'a [u8]),
    /// All of it has come, as it seems. What looks like the end may be a line of the message that the server did not
    /// byte-stuff: whoever needs to know asks for [`Source::ended`](super::Source::ended).
    Came { index: usize, octets: u64 },
    /// The server does not send a message.
    Refused(Refusal),
    /// It has answered something else.
    Answered,
    /// It is in the middle of an answer that matters to nobody.
    Nothing,
}

/// A message that the server did not send.
#[derive(Debug)]
pub struct Refusal {
    pub index: usize,
    pub reason: String,
    /// It said by its code that the message is not to blame.
    pub of_server: Option<SourceFailed>,
}

/// What was not begun, or did not come.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rest {
    /// Messages for another poll.
    pub left: usize,
    /// Messages and deletions for another session, behind the deletions of this one.
    pub postponed: usize,
}

impl Refusal {
    pub(super) fn of(index: usize, reply: Reply<'_>, listing: &Listing) -> Self {
        let number = listing.get(index).number;
        let of_server = match SourceError::refused(&reply, About::Other) {
            error @ SourceError::Refused { code: Some(code), .. } if code.is_of_server() => {
                Some(SourceFailed { doing: format!("fetch message {number}"), error })
            }
            _ => None,
        };
        Self { index, reason: format!("server refused RETR {number}: {}", Shown(reply.text)), of_server }
    }
}
