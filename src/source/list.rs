//! The answers to UIDL and LIST.

use crate::disk::blocking;
use crate::line::Protocol;
use crate::message::{Listing, ListingBuilder};
use crate::pop3::{
    Client, Command, Event, Reply, Request, Status, is_status, parse_size, parse_stat, parse_unique_id,
};

use super::wire::{Sending, Wire, WireError};

/// What came in answer to UIDL and LIST.
#[derive(Default)]
pub struct Heard {
    pub builder: ListingBuilder,
    /// What the server said when it refused UIDL.
    pub uidl_refused: Option<Vec<u8>>,
    pub list_refused: Option<Vec<u8>>,
}

impl Heard {
    /// Says whether the maildrop may be empty, and a refusal may mean just that.
    pub fn may_be_of_nothing(&self) -> bool {
        self.builder.is_empty() && (self.uidl_refused.is_some() || self.list_refused.is_some())
    }

    /// Says whether the commands may have been refused for where they stood: behind a log-in that was not answered yet, or
    /// one behind the other.
    pub fn may_be_refused_for_its_place(&self, has_uidl: bool) -> bool {
        self.list_refused.as_deref().is_some_and(is_uncoded)
            || (has_uidl && self.uidl_refused.as_deref().is_some_and(is_uncoded))
    }
}

/// Says whether a refusal has no response code.
pub fn is_uncoded(said: &[u8]) -> bool {
    Reply { status: Status::Err, text: said }.code().is_none()
}

/// How many lines of a listing are sorted at once, beside everything else that the thread does.
const MANY: usize = 20_000;

/// Puts a listing together: a hostile one, of millions of lines, not on the thread that serves all accounts.
pub async fn built(builder: ListingBuilder) -> Listing {
    if builder.len() <= MANY {
        return builder.build();
    }
    blocking::compute(move || builder.build()).await
}

/// Sends these commands and reads what UIDL and LIST are answered, those that are under way included.
pub async fn read_listing(
    wire: &mut Wire,
    commands: &[Command<'_>],
    sending: Sending,
) -> Result<Heard, WireError> {
    let mut due = commands.iter();
    let mut heard = Heard::default();
    loop {
        // In lockstep one command follows another's answer, else all go at once.
        while (sending == Sending::Ahead || wire.unanswered() == 0)
            && let Some(command) = due.next()
        {
            wire.send(command.clone())?;
        }
        if wire.unanswered() == 0 {
            return Ok(heard);
        }
        // Lines that lie in the buffer cost no wait; the other accounts have their turn all the same.
        tokio::task::coop::consume_budget().await;
        match wire.event().await? {
            Event::Reply { to: Request::Uidl, status: Status::Err, text } => {
                heard.uidl_refused = Some(text.to_vec());
            }
            Event::Reply { to: Request::List, status: Status::Err, text } => {
                heard.list_refused = Some(text.to_vec());
            }
            // A status line where none belongs: an answer came with a line too many.
            Event::Line { line, .. } if is_status(line) => return Err(Client::unasked(line).into()),
            Event::Line { to: Request::Uidl, line } => heard.builder.unique_id(parse_unique_id(line)),
            Event::Line { to: Request::List, line } => heard.builder.size(parse_size(line)),
            Event::Line { .. } | Event::Reply { .. } | Event::Octets { .. } | Event::End { .. } => {}
        }
    }
}

/// Says whether STAT counts no message (RFC 1939, 5).
pub async fn is_empty(wire: &mut Wire) -> Result<bool, WireError> {
    wire.send(Command::Stat)?;
    let reply = wire.reply().await?.1;
    Ok(reply.is_ok() && parse_stat(reply.text) == Some(0))
}
