//! Headers by TOP: what tells messages apart where unique-ids do not, or are contradicted.

use std::time::Duration;

use tokio::time::Instant;

use crate::message::{Fingerprint, Fingerprinter, Listing};
use crate::pop3::{Command, Event, Request, Status};

use super::blame::{Blamed, Broke};
use super::error::SourceError;
use super::server::Trial;
use super::wire::{Sending, Wire, WireError};

/// TOPs under way at most.
const WINDOW: usize = 256;
/// Questions that a turn asks at most, and how long it takes; those that a group asks at each poll not counted.
const MOST: usize = 2000;
const LONGEST: Duration = Duration::from_secs(60);

/// What asking for headers gave; messages by index in the listing.
#[derive(Debug)]
pub struct Asked {
    /// The headers that came; `None` for those that the server refuses.
    pub answers: Answers,
    pub ended: Result<(), BrokeAtHeader>,
}

type Answers = Vec<(usize, Option<Fingerprint>)>;

/// Why no more headers came.
#[derive(Debug)]
pub struct BrokeAtHeader {
    pub error: SourceError,
    /// The message whose header was to come next, if the session broke there.
    pub broke: Option<(usize, Broke)>,
}

/// How headers are asked for, and what a turn may still ask.
#[derive(Debug)]
pub struct Headers {
    /// TOPs under way at most.
    window: usize,
    questions: usize,
    until: Instant,
}

impl Headers {
    pub fn new(sending: Sending) -> Self {
        let window = match sending {
            Sending::Ahead => WINDOW,
            Sending::Lockstep => 1,
        };
        Self { window, questions: MOST, until: Instant::now() + LONGEST }
    }

    /// Says whether nothing more may be asked.
    pub fn is_spent(&self) -> bool {
        self.questions == 0 || Instant::now() >= self.until
    }

    /// Asks for the headers of messages at these indices, as far as the budget goes; the first `free` of them cost none of
    /// it.
    ///
    /// One pipelined `TOP n 0` each (RFC 1939, 7); content for delivery is never taken from TOP, which servers are known
    /// to cut.
    pub async fn ask(
        &mut self,
        wire: &mut Wire,
        listing: &Listing,
        questions: &[usize],
        free: usize,
    ) -> Asked {
        let mut answers = Vec::with_capacity(questions.len().min(MOST + free));
        let ended = self.hear(wire, listing, questions, free, &mut answers).await;
        let ended = ended.map_err(|error| broke(error.into(), questions, answers.len(), wire));
        Asked { answers, ended }
    }

    async fn hear(
        &mut self,
        wire: &mut Wire,
        listing: &Listing,
        questions: &[usize],
        free: usize,
        answers: &mut Answers,
    ) -> Result<(), WireError> {
        let mut asked = questions.iter().copied().enumerate();
        let mut fingerprinter = Fingerprinter::new();
        loop {
            while wire.unanswered() < self.window
                && let Some((at, index)) = asked.next()
            {
                if at >= free {
                    if self.is_spent() {
                        asked.by_ref().for_each(drop);
                        break;
                    }
                    self.questions -= 1;
                }
                wire.send(Command::Top(listing.get(index).number, 0))?;
            }
            if wire.unanswered() == 0 {
                return Ok(());
            }
            // Answers come in the order of the questions.
            let index = questions.get(answers.len()).copied();
            match wire.event().await? {
                Event::Reply { to: Request::Top(_), status: Status::Err, .. } => {
                    answers.extend(index.map(|index| (index, None)));
                }
                Event::Octets { octets, .. } => fingerprinter.write(octets),
                Event::End { .. } => {
                    let header = std::mem::take(&mut fingerprinter).finish();
                    answers.extend(index.map(|index| (index, Some(header))));
                }
                Event::Reply { .. } | Event::Line { .. } => {}
            }
        }
    }
}

/// Says what the session broke at when so many of the questions were answered.
fn broke(error: SourceError, questions: &[usize], answered: usize, wire: &Wire) -> BrokeAtHeader {
    let at = if wire.unanswered() > 1 { Blamed::Headers } else { Blamed::Nobody };
    // What is sent behind a TOP may be lost, too.
    let suspect = (at == Blamed::Headers).then_some(Trial::Pipelining);
    let broke = Broke { at, under_way: Vec::new(), silent: error.is_silence(), suspect, end: None };
    let asked = questions.get(answered).copied().filter(|_| wire.unanswered() > 0 && error.is_break());
    BrokeAtHeader { error, broke: asked.map(|index| (index, broke)) }
}
