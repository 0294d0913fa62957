//! The answers to UIDL and LIST.

use crate::disk::blocking;
use crate::line::Protocol;
use crate::message::{Listing, ListingBuilder};
use crate::pop3::{
    Capabilities, Client, Command, Event, Reply, Request, Status, is_status, parse_size, parse_stat,
    parse_unique_id,
};

use super::error::{About, SourceFailed};
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
    /// Gives what was refused: that counts, whatever comes after it.
    pub fn refused(&self) -> Option<SourceFailed> {
        let (said, doing) = match (&self.list_refused, &self.uidl_refused) {
            (Some(said), _) => (said, "ask for sizes (LIST)"),
            (None, Some(said)) => (said, "ask for unique-ids (UIDL)"),
            (None, None) => return None,
        };
        Some(SourceFailed::refused(&Reply { status: Status::Err, text: said }, About::Other, doing))
    }

    /// Says why no more can be read.
    fn broken(&self, error: WireError) -> SourceFailed {
        match (error, self.refused()) {
            (WireError::Closed { .. } | WireError::Lost { .. }, Some(refused)) => refused,
            (error, _) => SourceFailed { doing: "list the maildrop".to_owned(), error: error.into() },
        }
    }

    /// Says whether the maildrop may be empty, and a refusal may mean just that.
    pub fn may_be_of_nothing(&self) -> bool {
        self.builder.is_empty() && (self.uidl_refused.is_some() || self.list_refused.is_some())
    }

    /// Says whether the commands may have been refused for where they stood: behind a log-in that was not answered yet, or
    /// one behind the other.
    pub fn may_be_refused_for_its_place(&self, announced: &Capabilities) -> bool {
        self.list_refused.as_deref().is_some_and(is_uncoded)
            || (announced.has("UIDL") && self.uidl_refused.as_deref().is_some_and(is_uncoded))
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
) -> Result<Heard, SourceFailed> {
    let mut due = commands.iter();
    let mut heard = Heard::default();
    loop {
        // In lockstep one command follows another's answer, else all go at once.
        while (sending == Sending::Ahead || wire.unanswered() == 0)
            && let Some(command) = due.next()
        {
            wire.send(command.clone()).map_err(|error| heard.broken(error))?;
        }
        if wire.unanswered() == 0 {
            return Ok(heard);
        }
        // Lines that lie in the buffer cost no wait; the other accounts have their turn all the same.
        tokio::task::coop::consume_budget().await;
        match wire.event().await.map_err(|error| heard.broken(error))? {
            Event::Reply { to: Request::Uidl, status: Status::Err, text } => {
                heard.uidl_refused = Some(text.to_vec());
            }
            Event::Reply { to: Request::List, status: Status::Err, text } => {
                heard.list_refused = Some(text.to_vec());
            }
            // A status line where none belongs: an answer came with a line too many.
            Event::Line { line, .. } if is_status(line) => {
                return Err(heard.broken(Client::unasked(line).into()));
            }
            Event::Line { to: Request::Uidl, line } => heard.builder.unique_id(parse_unique_id(line)),
            Event::Line { to: Request::List, line } => heard.builder.size(parse_size(line)),
            Event::Line { .. } | Event::Reply { .. } | Event::Octets { .. } | Event::End { .. } => {}
        }
    }
}

/// Says whether STAT counts no message (RFC 1939, 5), where that may be why what was heard is a refusal.
pub async fn is_empty(wire: &mut Wire, heard: &Heard) -> Result<bool, SourceFailed> {
    wire.send(Command::Stat).map_err(|error| heard.broken(error))?;
    let reply = wire.reply().await.map_err(|error| heard.broken(error))?.1;
    Ok(reply.is_ok() && parse_stat(reply.text) == Some(0))
}
