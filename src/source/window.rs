//! RETRs and deletions ahead of their answers, and what the answers say.

use std::collections::{HashSet, VecDeque};

use crate::message::Listing;
use crate::pop3::{self, Command, Reply, Request, Status};
use crate::state::Recorded;

use super::blame::{self, Blamed, Broke, End, Moment};
use super::deletions::Deletions;
use super::error::{Doing, SourceError, SourceFailed};
use super::order::{Begin, Event, Last, Order, Proof, Refusal, Rest};
use super::server::Trial;
use super::step::Steps;
use super::wire::{Sending, Wire};

/// RETRs under way at most, counted in messages and in octets by the listing; the octets are what one round trip may
/// bring on a fast line far away. They take no memory: what is not read stays in TCP's windows.
const WINDOW_MESSAGES: usize = 1024;
const WINDOW_OCTETS: u64 = 4 << 20;
/// A body may exceed what the listing says this many times, and by this many octets, before it counts as endless.
const EXCESS_FACTOR: u64 = 16;
const EXCESS_OCTETS: u64 = 1 << 30;

/// A message that comes or came in, and its octets so far.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    index: usize,
    octets: u64,
}

/// Whether an answer may have come twice, so that one more is to come than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twice {
    No,
    Maybe,
    /// It is being found out.
    Asked,
}

/// What is under way, and what is to be.
#[derive(Debug)]
pub struct Window {
    pub deletions: Deletions,
    sending: Sending,
    /// What is sent to prove the end of a message.
    proof: Proof,
    /// NOOP was answered last.
    behind_noop: bool,
    /// Still to be asked for.
    wanted: VecDeque<usize>,
    old: VecDeque<Recorded>,
    last: VecDeque<Last>,
    careful: HashSet<usize>,
    /// Asked for; the first is the one that is answered next.
    under_way: VecDeque<usize>,
    octets_under_way: u64,
    incoming: Option<Incoming>,
    /// The message that came last, until a reply proves that the server goes on behind it.
    came: Option<Incoming>,
    /// The same one if its end is to be proven.
    doubtful: Option<Incoming>,
    /// The message whose end was proven.
    ended: Option<usize>,
    /// What is under way is asked for singly.
    alone: bool,
    /// The message at which a session broke before, and that is asked for now.
    suspect: Option<usize>,
    twice: Twice,
    /// Nothing that is refused among others is asked for once more, singly.
    ends: bool,
    steps: Steps,
    rest: Rest,
}

impl Window {
    pub fn new(sending: Sending, proof: Proof, deletions: Deletions) -> Self {
        Self {
            deletions,
            sending,
            proof,
            behind_noop: false,
            wanted: VecDeque::new(),
            old: VecDeque::new(),
            last: VecDeque::new(),
            careful: HashSet::new(),
            under_way: VecDeque::new(),
            octets_under_way: 0,
            incoming: None,
            came: None,
            doubtful: None,
            ended: None,
            alone: false,
            suspect: None,
            twice: Twice::No,
            ends: true,
            steps: Steps::default(),
            rest: Rest::default(),
        }
    }

    /// Takes an order when the one before is done.
    pub fn take_order(&mut self, order: Order) {
        let Order { wanted, old, last, careful } = order;
        (self.wanted, self.old, self.last, self.careful) = (wanted.into(), old.into(), last.into(), careful);
        (self.alone, self.suspect, self.came) = (false, None, None);
        self.ends = self.sending == Sending::Lockstep || self.wanted.len() + self.old.len() < 2;
    }

    /// Gives what is left of the order, and forgets it.
    pub fn take_rest(&mut self) -> Rest {
        self.rest.left += self.wanted.len() + self.under_way.len() + self.last.len();
        std::mem::take(&mut self.rest)
    }

    /// Counts the messages that will be deleted, those under way and those (`uncommitted`) that came; none if those are
    /// not deleted at once.
    fn coming(&self, uncommitted: Option<usize>) -> usize {
        uncommitted.map_or(0, |uncommitted| self.under_way.len() + uncommitted)
    }

    /// Keeps the window of RETRs full, and sends deletions along.
    pub fn send_ahead(
        &mut self,
        wire: &mut Wire,
        listing: &Listing,
        begin: Begin,
        uncommitted: Option<usize>,
    ) -> Result<(), SourceFailed> {
        while begin != Begin::Nothing && self.send_one(wire, listing, begin, uncommitted)? {}
        if begin == Begin::Deletions && self.under_way.is_empty() {
            self.rest.left += self.wanted.len();
            self.wanted.clear();
        }
        if self.deletions.are_many(self.coming(uncommitted)) {
            self.rest.postponed += self.wanted.len() + self.old.len() + self.last.len();
            self.drop_order();
        }
        Ok(())
    }

    /// Sends what comes next, if it may go now; says whether it did.
    fn send_one(
        &mut self,
        wire: &mut Wire,
        listing: &Listing,
        begin: Begin,
        uncommitted: Option<usize>,
    ) -> Result<bool, SourceFailed> {
        let unanswered = wire.unanswered();
        self.alone &= unanswered > 0;
        if unanswered > 0 && (self.sending == Sending::Lockstep || self.alone) {
            return Ok(false);
        }
        let old = self.old.front().filter(|_| !self.deletions.are_all(0)).map(Recorded::index);
        // Some servers delete without QUIT: as long as an answer may be missing, nothing is deleted in whose place another
        // may have come.
        let is_open = |index: &usize| {
            self.steps.is_open(*index) && (self.incoming.is_some() || !self.under_way.is_empty())
        };
        let waiting = self.deletions.peek_waiting().filter(|index| !is_open(index));
        if let Some(index) = waiting.or(old) {
            if self.twice != Twice::No {
                return self.finds_out(wire);
            }
            self.alone = self.careful.contains(&index);
            if self.alone && unanswered > 0 {
                return Ok(false);
            }
            let proof = if waiting.is_some() { self.deletions.next_waiting() } else { self.old.pop_front() };
            if let Some(proof) = proof {
                self.deletions.delete(wire, listing, proof).doing("delete")?;
            }
            return Ok(true);
        }
        let full = self.under_way.len() >= WINDOW_MESSAGES
            || self.octets_under_way >= WINDOW_OCTETS
            || self.deletions.have_waited(listing);
        if full || unanswered >= 2 * WINDOW_MESSAGES || self.deletions.are_all(self.coming(uncommitted)) {
            return Ok(false);
        }
        let Some(&index) = self.wanted.front().filter(|_| begin == Begin::Anything) else { return Ok(false) };
        self.alone = self.careful.contains(&index);
        // The end of what came singly is proven first.
        let is_proven = self.doubtful.is_none_or(|message| !self.careful.contains(&message.index));
        if (self.alone || !is_proven) && (unanswered > 0 || self.doubtful.is_some()) {
            return Ok(false);
        }
        self.wanted.pop_front();
        self.retrieve(wire, listing, index)?;
        Ok(true)
    }

    /// Has an answer too many show itself before anything is deleted: its first line would be taken for the first of two
    /// replies, and what follows is none. Says whether anything was sent.
    fn finds_out(&mut self, wire: &mut Wire) -> Result<bool, SourceFailed> {
        if wire.unanswered() > 0 {
            return Ok(false);
        }
        if self.twice == Twice::Asked {
            self.twice = Twice::No;
            return Ok(true);
        }
        for _ in 0..2 {
            wire.send(self.proof.command()).doing("delete")?;
        }
        self.twice = Twice::Asked;
        Ok(true)
    }

    fn retrieve(&mut self, wire: &mut Wire, listing: &Listing, index: usize) -> Result<(), SourceFailed> {
        let message = listing.get(index);
        wire.send(Command::Retr(message.number)).doing("fetch")?;
        self.under_way.push_back(index);
        self.octets_under_way = self.octets_under_way.saturating_add(message.octets);
        Ok(())
    }

    /// Asks singly for what broke a session before, once everything else is done; what this session has deleted until
    /// then must be real before. Says whether there was anything to ask for.
    pub fn send_last(&mut self, wire: &mut Wire, listing: &Listing) -> Result<bool, SourceFailed> {
        if !self.deletions.accepted().is_empty() {
            self.rest.postponed += std::mem::take(&mut self.last).len();
        }
        while self.twice != Twice::No {
            if self.finds_out(wire)? && self.twice == Twice::Asked {
                return Ok(true);
            }
        }
        self.alone = true;
        match self.last.pop_front() {
            Some(Last::Retrieve(index)) => {
                self.suspect = Some(index);
                self.retrieve(wire, listing, index)?;
            }
            Some(Last::Delete(proof)) => self.deletions.delete(wire, listing, proof).doing("delete")?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Says whether something is still to be asked for at the end.
    pub fn has_last(&self) -> bool {
        !self.last.is_empty()
    }

    /// Says whether every message of the order has come in, but for those at its end.
    pub fn is_all_in(&self) -> bool {
        let none_to_come = self.wanted.is_empty() && self.under_way.is_empty();
        none_to_come && self.incoming.is_none() && self.doubtful.is_none()
    }

    /// Begins nothing more of the order.
    pub fn wind_down(&mut self) {
        self.rest.left += self.wanted.len() + self.last.len();
        self.drop_order();
    }

    fn drop_order(&mut self) {
        self.wanted.clear();
        self.old.clear();
        self.last.clear();
        self.ends = true;
    }

    /// Gives the message that comes in, or is to come next.
    pub fn expected(&self) -> Option<usize> {
        self.incoming.map(|incoming| incoming.index).or(self.under_way.front().copied())
    }

    /// Takes what the server says; never waits, because the octets lie in the connection's buffer.
    pub fn take<'a>(
        &mut self,
        event: pop3::Event<&'a [u8]>,
        listing: &Listing,
    ) -> Result<Event<'a>, SourceError> {
        Ok(match event {
            pop3::Event::Octets { octets, .. } => {
                let Some(incoming) = &mut self.incoming else { return Ok(Event::Nothing) };
                let listed = listing.get(incoming.index).octets;
                let is_followed = !self.under_way.is_empty();
                if self.steps.hold_an_answer(incoming.octets, octets, listed) && is_followed {
                    return Err(SourceError::OutOfStep);
                }
                incoming.octets += octets.len() as u64;
                if incoming.octets
                    > listed.saturating_mul(EXCESS_FACTOR).max(listed.saturating_add(EXCESS_OCTETS))
                {
                    return Err(SourceError::Endless { listed });
                }
                Event::Octets(octets)
            }
            pop3::Event::End { to: Request::Retr(_), .. } => match self.incoming {
                Some(came) => {
                    if self.steps.came(came.index, came.octets, &self.under_way, listing) {
                        return Err(SourceError::OutOfStep);
                    }
                    (self.incoming, self.came) = (None, Some(came));
                    Event::Came { index: came.index, octets: came.octets }
                }
                None => Event::Nothing,
            },
            pop3::Event::Reply { to: Request::Retr(_), status, text } => {
                // Answers come in the order of the commands, so this is the first one under way.
                let Some(index) = self.under_way.pop_front() else { return Ok(Event::Nothing) };
                self.behind_noop = false;
                self.octets_under_way = self.octets_under_way.saturating_sub(listing.get(index).octets);
                self.confirm();
                if status == Status::Ok {
                    self.incoming = Some(Incoming { index, octets: 0 });
                    Event::Began(index)
                } else {
                    self.refused(Refusal::of(index, Reply { status, text }, listing))
                }
            }
            pop3::Event::Reply { to, status, text } => {
                if let Request::Dele(number) = to
                    && let Some(index) = listing.find(number)
                {
                    self.deletions.answered(index, number, Reply { status, text });
                }
                self.confirm();
                self.behind_noop = to == Request::Noop;
                Event::Answered
            }
            pop3::Event::Line { .. } | pop3::Event::End { .. } => Event::Nothing,
        })
    }

    /// Takes a refusal; where it may be for its place among others, the message is asked for again.
    fn refused<'a>(&mut self, refusal: Refusal) -> Event<'a> {
        let Refusal { index, of_server, .. } = &refusal;
        let was_alone = self.careful.contains(index) || self.suspect == Some(*index);
        if self.ends || was_alone || of_server.is_some() {
            return Event::Refused(refusal);
        }
        self.careful.insert(*index);
        self.wanted.push_back(*index);
        Event::Answered
    }

    /// A reply has come, so the message before it had really ended.
    fn confirm(&mut self) {
        self.came = None;
        self.ended = self.doubtful.take().map(|message| message.index);
    }

    /// Has the end of the message that came proven: by the next reply, and where none is due a size that was reached must
    /// do. Sizes are claims.
    pub fn prove_end(&mut self, wire: &Wire, listing: &Listing) {
        let Some(came) = self.came else { return };
        let listed = listing.get(came.index).octets;
        let reply_is_due =
            wire.unanswered() > 0 || !self.wanted.is_empty() || self.suspect == Some(came.index);
        if reply_is_due || listed == 0 || came.octets < listed {
            self.doubtful = Some(came);
        } else {
            self.ended = Some(came.index);
        }
    }

    /// Gives the message whose end has been proven since this was asked last.
    pub fn take_ended(&mut self) -> Option<usize> {
        self.ended.take()
    }

    /// Asks for a reply where an end is to be proven and none is due: whatever it says, it proves that the server is where
    /// we think it is. Says whether it did.
    pub fn ask_for_proof(&mut self, wire: &mut Wire) -> Result<bool, SourceFailed> {
        let asks = self.doubtful.is_some() && wire.unanswered() == 0;
        if asks {
            wire.send(self.proof.command()).doing("fetch")?;
        }
        Ok(asks)
    }

    /// Notes that the octets of a message are those of the one before.
    pub fn came_again(&mut self, index: usize) {
        self.steps.came_again(index);
        self.twice = Twice::Maybe;
    }

    /// Says whether a message that came may have come in the place of another, until the session has come to a good end.
    pub fn is_open(&self, index: usize) -> bool {
        self.steps.is_open(index)
    }

    /// Gives the messages of this session that may have come in the place of others, if it has come to a bad end.
    pub fn uncertain(&self, listing: &Listing) -> Vec<usize> {
        if self.sending == Sending::Lockstep {
            return Vec::new();
        }
        let incoming = self.incoming.iter().map(|incoming| incoming.index);
        self.steps.uncertain(incoming.chain(self.under_way.iter().copied()), listing)
    }

    /// Finds out what the session broke at.
    pub fn broke(&mut self, error: &SourceError, wire: &Wire, listing: &Listing) -> Broke {
        let end = self.doubtful.take().map(|message| {
            let listed = listing.get(message.index).octets;
            let end = match (error.is_end(), message.octets < listed) {
                (true, false) if listed > 0 => End::Certain,
                (true, _) => End::Unproven,
                (false, true) => End::Doubtful,
                (false, false) => End::Followed,
            };
            (message.index, end)
        });
        let open = end.filter(|(_, end)| *end != End::Certain).map(|(index, _)| index);
        let incoming = self.incoming.map(|incoming| incoming.index);
        let had = self.came.take().map(|came| came.index);
        let had = had.filter(|_| open.is_none() && incoming.is_none());
        let next = self.under_way.front().copied();
        let mut at =
            blame::blamed(Moment { awaited: wire.awaiting(), incoming, doubtful: open, next }, listing);
        // What follows a message that was asked for singly is that message's.
        if let Some(index) = had {
            let is_single = self.careful.contains(&index) || self.suspect == Some(index);
            at = match at {
                _ if is_single => Blamed::Had(index),
                Blamed::Deletion(_) => Blamed::Nobody,
                at => at,
            };
        }
        // What came twice is no fault of what was to come.
        if matches!(error, SourceError::OutOfStep) && incoming.is_none() {
            at = Blamed::Nobody;
        }
        if let Blamed::Message(index) = at {
            self.under_way.retain(|under_way| *under_way != index);
        }
        let under_way = had.iter().chain(&self.under_way).copied().collect();
        let at_noop = wire.awaiting() == Some(Request::Noop) || self.behind_noop && error.is_one_too_many();
        let suspect = at_noop.then_some(Trial::Noop);
        Broke { at, under_way, silent: error.is_silence(), suspect, end }
    }
}
