//! What a session fetches from. Today that is a POP3 maildrop.
//!
//! # The contract
//!
//! - [`Source::open`] is one call: log-in and listing together, because on a server that takes it they share a flight.
//!   How the server is asked for TLS, its capabilities and the log-in, and what is tried again without, is inside
//!   (`open`, `login`, `list`), and so is what is remembered of it ([`Server`]: octets to whoever keeps them).
//! - A message goes by its index in the [`Listing`], never by its message-number.
//! - [`Source::headers`] shows headers, as many at once as the server takes.
//! - [`Source::retrieve`] takes an [`Order`]; [`Source::send_ahead`] keeps it under way, [`Source::event`] tells what
//!   comes: [`Event::Began`], [`Event::Octets`], [`Event::Came`], [`Event::Refused`]. A message has ended when
//!   [`Source::ended`] says so, and that is only when its end is certain.
//! - A deletion takes [`Recorded`] and nothing else; `deletions` is the only file that writes DELE.
//! - [`Source::broke`] says what a session broke at; [`Source::finish`] ends it, and says which deletions are real.
//!
//! | file | what it is |
//! |---|---|
//! | `open`, `login`, `credentials`, `list` | up to the listing, which is one call |
//! | `headers`, `headerless` | what TOP shows, and of which messages nothing is asked any more |
//! | `order`, `window`, `step` | what is to be retrieved; RETRs ahead of their answers, and whether these are in step |
//! | `deletions` | DELE |
//! | `blame`, `error` | at what a session broke, and what to do about it |
//! | `server`, `locale` | what is known of a server; the language that it is asked for |
//! | `wire` | the wire of POP3 |

mod blame;
mod credentials;
mod deletions;
mod error;
mod headerless;
mod headers;
mod list;
mod locale;
mod login;
mod open;
mod order;
mod server;
mod step;
mod window;
mod wire;

use std::time::Duration;

use crate::message::Listing;
use crate::net::{Connector, Stream};
use crate::pop3::{Capabilities, Command};
use crate::state::Recorded;
use crate::stop::QUIT;

use deletions::Deletions;
use error::{About, Doing};
use headers::Headers;
use open::Listed;
use order::Proof;
use server::Found;
use window::Window;
use wire::{Sending, Wire, WireError};

pub use blame::{Blamed, Broke, End};
pub use credentials::password;
pub use error::{
    CHECK, LOCKED, OPERATOR, RefusedLogIn, SourceError, SourceFailed, TOO_OFTEN, class_of_refused_log_in,
};
pub use headerless::Shows;
pub use headers::{Asked, BrokeAtHeader};
pub use login::{Authorization, Trials};
pub use order::{Begin, Event, Last, Order, Refusal, Rest};
pub use server::{Helped, Server, Trial};

/// A maildrop that is logged in to and listed.
pub struct Source {
    account: String,
    wire: Wire,
    capabilities: Capabilities,
    sending: Sending,
    listing: Listing,
    headers: Headers,
    window: Window,
    /// A message came that is octet for octet the one before: an answer may have come twice.
    doubled: bool,
    /// How long a goodbye that nothing depends on may take to be written.
    goodbye: Duration,
}

/// What opening a source gives.
pub struct Opened {
    pub source: Source,
    pub listing: Listing,
    /// The server refused UIDL, so that the messages of the listing have no unique-ids.
    pub uidl_refused: Option<SourceFailed>,
}

/// Why a source could not be opened.
#[derive(Debug)]
pub struct NotOpened {
    pub failed: SourceFailed,
    /// What the server may not have taken: to be left out at the next attempt.
    pub suspect: Option<Trial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// Every answer was read, and what was shown is delivered.
    Whole,
    /// Every answer was read, but something was shown that is not delivered. Where messages vanish once they were shown,
    /// one that hears no QUIT shows them again.
    Undelivered,
    /// It broke: there is no QUIT.
    Broken,
}

/// What came of the end of a session; messages by index in the listing.
#[derive(Debug)]
pub struct Finished {
    /// Deletions that are real: UPDATE state was reached.
    pub deleted: Vec<usize>,
    /// Deletions that the server refused, and all of them if it did not answer QUIT with `+OK`.
    pub undeleted: Vec<usize>,
    /// Messages that may have come in the place of others, since what came at last answers nothing.
    pub uncertain: Vec<usize>,
    pub ended: Result<(), SourceFailed>,
}

impl Source {
    pub async fn open(
        mut login: Authorization<'_>,
        connector: &Connector,
        stream: Stream,
    ) -> Result<Opened, NotOpened> {
        let account = login.account;
        match login.run(connector, stream).await {
            Ok(Listed { wire, capabilities, sending, listing, uidl_refused }) => {
                let proof = match login.server.found(Trial::Noop) {
                    Some(Found::Breaks) => Proof::Stat,
                    Some(Found::Takes) | None => Proof::Noop,
                };
                let source = Self {
                    account: account.name.clone(),
                    wire,
                    capabilities,
                    sending,
                    listing: listing.clone(),
                    headers: Headers::new(sending),
                    window: Window::new(sending, proof, Deletions::of(&account.name)),
                    doubled: false,
                    goodbye: account.timeout.min(QUIT),
                };
                Ok(Opened { source, listing, uidl_refused })
            }
            Err(failed) => {
                let is_why = |trial: &Trial| match trial {
                    // What was sent along may have been taken for something else.
                    Trial::BehindUtf8 | Trial::BehindUser => {
                        failed.error.may_be_of_what_was_sent() || failed.error.is_uncoded_refusal()
                    }
                    _ => failed.error.may_be_of_what_was_sent(),
                };
                let suspect = login.suspect.filter(is_why).or(login.said_more(&failed.error));
                if let Some(trial) = suspect.filter(|trial| trial.is_told_by_one_failure()) {
                    login.server.learn(trial, Found::Breaks);
                }
                Err(NotOpened { failed, suspect })
            }
        }
    }

    /// Says whether the server announces that it shows headers.
    pub fn announces_headers(&self) -> bool {
        self.capabilities.has("TOP")
    }

    /// Gives the time that the server wants between two log-ins, if it announces one.
    pub fn login_delay(&self) -> Option<Duration> {
        self.capabilities.login_delay()
    }

    /// Gives what the server may not take of how this session talks to it: to be left out where it loses step.
    pub fn trial(&self) -> Option<Trial> {
        (self.sending == Sending::Ahead).then_some(Trial::Pipelining)
    }

    /// Asks for the headers of messages, as far as the session's budget of questions goes; the first `free` cost none of
    /// it.
    pub async fn headers(&mut self, messages: &[usize], free: usize) -> Asked {
        self.headers.ask(&mut self.wire, &self.listing, messages, free).await
    }

    /// Says whether the budget of questions is spent.
    pub fn asks_no_more(&self) -> bool {
        self.headers.is_spent()
    }

    /// Takes an order, once the one before is done.
    pub fn retrieve(&mut self, order: Order) {
        self.window.take_order(order);
    }

    /// Sends what may go now. `uncommitted`: messages that came and will be deleted, if they are deleted at once.
    pub fn send_ahead(&mut self, begin: Begin, uncommitted: Option<usize>) -> Result<(), SourceFailed> {
        self.window.send_ahead(&mut self.wire, &self.listing, begin, uncommitted)
    }

    /// Says whether every message of the order has come in, but for those at its end.
    pub fn is_all_in(&self) -> bool {
        self.window.is_all_in()
    }

    /// Says whether something is still to be asked for at the order's end.
    pub fn has_last(&self) -> bool {
        self.window.has_last()
    }

    /// Asks for the next thing at the order's end, when everything before is committed; says whether there was any.
    pub fn send_last(&mut self) -> Result<bool, SourceFailed> {
        self.window.send_last(&mut self.wire, &self.listing)
    }

    /// Counts the answers that are still to come.
    pub fn unanswered(&self) -> usize {
        self.wire.unanswered()
    }

    /// Waits for what the server says next. May be dropped while it waits.
    pub async fn event(&mut self) -> Result<Event<'_>, SourceError> {
        let event = self.wire.event().await?;
        self.window.take(event, &self.listing)
    }

    /// Lets the wait for the next reply begin anew, after one that the server is not to blame for.
    pub fn has_all_time_again(&mut self) {
        self.wire.has_all_time_again();
    }

    /// Has the end of the message that came last proven; without, [`Source::ended`] says nothing of it.
    pub fn prove_end(&mut self) {
        self.window.prove_end(&self.wire, &self.listing);
    }

    /// Gives the message whose end has become certain.
    pub fn ended(&mut self) -> Option<usize> {
        self.window.take_ended()
    }

    /// Asks for a reply where an end is to be proven and none is due; says whether it did.
    pub fn ask_for_proof(&mut self) -> Result<bool, SourceFailed> {
        self.window.ask_for_proof(&mut self.wire)
    }

    /// Deletes a message that is recorded, when the connection is free.
    pub fn delete(&mut self, proof: Recorded) {
        self.window.deletions.wait(proof);
    }

    /// Says whether the server has accepted a deletion.
    pub fn any_deleted(&self) -> bool {
        !self.window.deletions.accepted().is_empty()
    }

    /// Says whether this session has had its word on the deletion of a message: it is not asked for that message again.
    pub fn was_deleted(&self, index: usize) -> bool {
        self.window.deletions.were_answered(index)
    }

    /// Gives the message that comes in, or is to come next.
    pub fn expected(&self) -> Option<usize> {
        self.window.expected()
    }

    /// Begins nothing more of the order.
    pub fn wind_down(&mut self) {
        self.window.wind_down();
    }

    /// Notes that a message came whose octets are those of the one before.
    pub fn came_again(&mut self, index: usize) {
        self.doubled = true;
        self.window.came_again(index);
    }

    /// Says whether a message may have come in the place of another, for all that is known before the session's end.
    pub fn is_open(&self, index: usize) -> bool {
        self.window.is_open(index)
    }

    /// Gives the messages that may have come in the place of others, where a session has come to a bad end: as commands
    /// are sent ahead, an answer that never came is noticed at the end only.
    pub fn uncertain(&self) -> Vec<usize> {
        self.window.uncertain(&self.listing)
    }

    /// Finds out what the session broke at.
    pub fn broke(&mut self, error: &SourceError) -> Broke {
        self.window.broke(error, &self.wire, &self.listing)
    }

    /// Gives what is left of the order, and forgets it.
    pub fn rest(&mut self) -> Rest {
        self.window.take_rest()
    }

    /// Ends the session. Only `+OK` to QUIT makes deletions real (RFC 1939, 6: UPDATE state), and that is waited for as
    /// long as `within` says, or the account's time limit; where nothing was deleted no answer is, unless it is to show
    /// that no answer came twice.
    pub async fn finish(self, parting: Parting, within: Option<Duration>) -> Finished {
        // An answer that came twice is the same twice.
        let uncertain = if self.doubled || self.any_deleted() { self.uncertain() } else { Vec::new() };
        let Self { account, mut wire, capabilities, window, goodbye, .. } = self;
        let (accepted, undeleted) = window.deletions.into_answers();
        let mut finished = Finished { deleted: Vec::new(), undeleted, uncertain: Vec::new(), ended: Ok(()) };
        let may_quit = match parting {
            Parting::Whole => true,
            Parting::Undelivered => !capabilities.expires_at_once(),
            Parting::Broken => false,
        };
        if !may_quit {
            return finished;
        }
        // One alone is in the place of no other.
        let deletes = !accepted.is_empty();
        if !deletes && uncertain.len() <= 1 {
            match wire.send(Command::Quit) {
                Ok(()) => wire.hang_up(goodbye).await,
                Err(error) => log::debug!("{account}: {error}"),
            }
            return finished;
        }
        let mut ended = update(&mut wire, within).await;
        match ended {
            Ok(()) => finished.deleted = accepted,
            // Whatever became of QUIT: they are tried in so many sessions, and not for ever.
            Err(_) => finished.undeleted.extend(accepted),
        }
        // Where something was deleted, the answers to DELE have shown it.
        if ended.is_ok() && !deletes {
            ended = is_silent(&mut wire, goodbye).await;
        }
        match ended {
            Err(failed) if failed.error.is_unasked() => {
                (finished.uncertain, finished.ended) = (uncertain, Err(failed));
            }
            Err(failed) if deletes => finished.ended = Err(failed),
            Ok(()) | Err(_) => {}
        }
        finished
    }
}

/// Fails if anything follows the answer to QUIT.
async fn is_silent(wire: &mut Wire, within: Duration) -> Result<(), SourceFailed> {
    match wire.event_within(within).await {
        Err(error @ WireError::Protocol(_)) => Err(error).doing("end the session (QUIT)"),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Enters UPDATE state.
async fn update(wire: &mut Wire, within: Option<Duration>) -> Result<(), SourceFailed> {
    let doing = "delete messages (QUIT)";
    wire.send(Command::Quit).doing(doing)?;
    let reply = match within {
        Some(limit) => wire.reply_within(limit).await,
        None => wire.reply().await,
    };
    let reply = reply.doing(doing)?.1;
    if reply.is_ok() { Ok(()) } else { Err(SourceFailed::refused(&reply, About::Other, doing)) }
}
