//! RETR after RETR into drafts, while what is complete is committed beside it and deleted behind it.

use std::collections::{HashSet, VecDeque};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::delivery::{Draft, MessageId, Sink};
use crate::message::{Fingerprinter, Listing, MessageNumber, Trace, UniqueId};
use crate::pop3::{Command, Event, Reply, Request, Status};
use crate::source::{self, About, Deletions, SourceError, Wire};
use crate::state::{Came, Delivery, HeldKind, Kind, Recorded, Standing};
use crate::text::Shown;

use super::blame::{self, Blamed, Broke, Moment};
use super::book::{self, Book, Extent};
use super::commit::{self, Complete};
use super::stopped;
use super::transfer::{FetchOrder, Last};
use super::trouble::{Aborted, During, Trouble};
use super::{Progress, WIND_DOWN};

/// RETRs under way at most, counted in messages and in octets by the listing; the octets are what one round trip may
/// bring on a fast line far away. They take no memory: what is not read stays in TCP's windows.
const WINDOW_MESSAGES: usize = 1024;
const WINDOW_OCTETS: u64 = 4 << 20;
/// Refusals in a row, by the server or by the target, after which the rest is left for the next poll.
const REFUSALS: usize = 20;
/// A body may exceed what the listing says this many times, and by this many octets, before it counts as endless.
const EXCESS_FACTOR: u64 = 16;
const EXCESS_OCTETS: u64 = 1 << 30;

/// The way of messages from the server into drafts.
pub struct Fetch<'a, 'b> {
    /// The connection.
    pub wire: &'a mut Wire,
    /// The target; `None` if nothing is to be fetched.
    pub sink: Option<&'a Sink>,
    /// What is in the maildrop, and what is known of it.
    pub book: &'a mut Book<'b>,
    /// The maildrop's identity.
    pub maildrop: std::sync::Arc<str>,
    /// Whether commands are sent ahead of answers.
    pub pipelined: bool,
    /// What is asked for singly, by index in the listing.
    pub careful: HashSet<usize>,
    /// True once the process was asked to end.
    pub stop: watch::Receiver<bool>,
    /// Hears how it goes.
    pub progress: &'a dyn Progress,
    /// What is put on top of each message.
    pub trace: Option<Trace>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Messages delivered and recorded.
    pub delivered: usize,
    /// Octets of those as they came in.
    pub octets: u64,
    /// Those of them that had been delivered before.
    pub already_there: usize,
    /// Messages that could not be had or delivered.
    pub failed: Vec<Failed>,
    /// Messages that came and are ones that were recorded before.
    pub known: usize,
    /// Messages that were to be fetched and were not begun, or not finished.
    pub left: usize,
    /// Messages and deletions that wait for another session, behind this one's deletions.
    pub postponed: usize,
    /// How the session broke, if it did.
    pub broke: Option<Broke>,
    /// RETR was answered with content that was not delivered: on a server whose messages vanish once shown, the
    /// session must not end with QUIT.
    pub shown_undelivered: bool,
    /// Why it ended early, if it did.
    pub aborted: Option<Aborted>,
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
        self.shown_undelivered |= other.shown_undelivered;
        self.in_step &= other.in_step;
        self.aborted = self.aborted.take().or(other.aborted);
    }
}

/// A message that could not be had or delivered.
#[derive(Debug)]
pub struct Failed {
    /// Its index in the listing.
    pub index: usize,
    /// Whose trouble it is.
    pub kind: HeldKind,
    /// Whether it is held for it at once.
    pub standing: Standing,
    /// Why.
    pub reason: String,
    /// What came of it, if that was less than was listed.
    pub came: Option<Came>,
}

/// The message that is coming in.
struct Incoming {
    index: usize,
    draft: Draft,
    fingerprint: Fingerprinter,
    octets: u64,
}

impl Fetch<'_, '_> {
    /// Fetches the messages of an order, and deletes what the policy says as soon as it is recorded.
    pub async fn run(
        mut self,
        order: FetchOrder,
        complete: mpsc::Sender<Complete>,
        mut results: mpsc::UnboundedReceiver<commit::Result>,
        deletions: &mut Deletions,
    ) -> Fetched {
        let mut fetched = Fetched::default();
        let mut state = Loop {
            wanted: order.wanted.into(),
            under_way: VecDeque::new(),
            octets_under_way: 0,
            incoming: None,
            doubtful: None,
            ended: None,
            uncommitted: 0,
            came: false,
            refused: Vec::new(),
            declined_in_a_row: 0,
            server_state: None,
            old: order.old.into(),
            last: order.last.into(),
            alone: false,
            suspect: None,
            kept: HashSet::new(),
            winding_down: None,
        };
        // Dropped when nothing more will be committed.
        let mut complete = Some(complete);
        let ended = self.fetch(&mut state, &mut fetched, &mut complete, &mut results, deletions).await;
        if let Err(Aborted { trouble: Trouble::Source(error), .. }) = &ended
            && error.is_break()
        {
            self.broke(&mut state, &mut fetched, error, &complete).await;
        }
        drop(complete);
        // What was handed over goes its way whatever became of the connection.
        while let Some(result) = results.recv().await {
            self.committed(result, &mut state, &mut fetched, deletions);
        }
        fetched.left += state.wanted.len() + state.under_way.len() + state.last.len();
        state.settle_refused(!deletions.accepted().is_empty(), &mut fetched);
        fetched.shown_undelivered |=
            state.incoming.is_some() || state.doubtful.is_some() || state.uncommitted > 0;
        fetched.in_step = ended.is_ok() && self.wire.unanswered() == 0;
        if let Err(aborted) = ended {
            fetched.aborted.get_or_insert(aborted);
        }
        if fetched.aborted.is_none() {
            fetched.aborted = state.server_state.take();
        }
        fetched
    }

    async fn fetch(
        &mut self,
        state: &mut Loop,
        fetched: &mut Fetched,
        complete: &mut Option<mpsc::Sender<Complete>>,
        results: &mut mpsc::UnboundedReceiver<commit::Result>,
        deletions: &mut Deletions,
    ) -> Result<(), Aborted> {
        loop {
            self.send_ahead(state, deletions)?;
            if state.is_refused_too_often() && state.under_way.is_empty() {
                fetched.left += state.wanted.len();
                state.wanted.clear();
            }
            if deletions.are_many(self.coming(state)) {
                state.postpone(&mut fetched.postponed);
            }
            let unanswered = self.wire.unanswered();
            if state.is_all_in() {
                if unanswered == 0 && state.uncommitted == 0 && self.send_last(state, fetched, deletions)? {
                    continue;
                }
                if state.last.is_empty() {
                    *complete = None;
                }
            }
            if unanswered == 0 && state.uncommitted == 0 && complete.is_none() {
                return Ok(());
            }
            if state.doubtful.is_some() && unanswered == 0 {
                // A reply, whatever it says, proves that the server is where we think it is.
                self.wire.send(Command::Noop).during("fetch")?;
                continue;
            }
            let deadline = state.winding_down.unwrap_or_else(far_away);
            tokio::select! {
                biased;
                result = results.recv(), if state.uncommitted > 0 => match result {
                    Some(result) => self.committed(result, state, fetched, deletions),
                    // The target begins nothing more.
                    None if state.winding_down.is_some() => {
                        fetched.shown_undelivered = true;
                        fetched.left += std::mem::take(&mut state.uncommitted);
                        *complete = None;
                    }
                    // The committing side has failed and will say why.
                    None => return Err(Aborted { doing: "deliver".into(), trouble: Trouble::Stopped }),
                },
                // Before what comes in, which on a fast line never ends.
                _ = stopped(&mut self.stop), if state.winding_down.is_none() => {
                    state.wind_down(fetched);
                    fetched.aborted = Some(Aborted { doing: "fetch".into(), trouble: Trouble::Stopped });
                }
                // What was handed over has its own time limit.
                () = tokio::time::sleep_until(deadline), if state.winding_down.is_some() && unanswered > 0 => {
                    return Err(Aborted { doing: "fetch".into(), trouble: Trouble::Stopped });
                }
                event = self.wire.event(), if unanswered > 0 => {
                    let event = event.during(state.doing(&self.book.listing))?;
                    let incoming = Incoming::take(event, &self.book.listing, state, fetched, self.progress, deletions)?;
                    let ends_a_reply = matches!(incoming, Next::Begin(_) | Next::Confirm | Next::End);
                    match incoming {
                        Next::Nothing => {}
                        Next::Begin(index) => {
                            let listed = self.book.listing.get(index);
                            let id = MessageId {
                                maildrop: self.maildrop.clone(),
                                uid: UniqueId::new(listed.uid),
                                ordinal: listed.ordinal,
                            };
                            let draft = self.sink.map(|sink| {
                                let mut draft = sink.draft(id);
                                if let Some(trace) = &self.trace {
                                    draft.write(&trace.line(listed.uid, jiff::Timestamp::now()));
                                }
                                draft
                            });
                            state.incoming = draft.map(|draft| Incoming {
                                index, draft, fingerprint: Fingerprinter::new(), octets: 0,
                            });
                            self.confirm(state, complete).await?;
                        }
                        Next::Full => {
                            if let Some(incoming) = &mut state.incoming {
                                incoming.draft.flush().await.during("deliver")?;
                            }
                        }
                        Next::Confirm => self.confirm(state, complete).await?,
                        Next::End => self.end(state, fetched, deletions, complete).await?,
                    }
                    if ends_a_reply {
                        // A target that makes us wait is no fault of the server's.
                        self.wire.has_all_time_again();
                    }
                }
            }
        }
    }

    /// Keeps the window of RETRs full, and sends deletions of messages recorded in earlier sessions along.
    fn send_ahead(&mut self, state: &mut Loop, deletions: &mut Deletions) -> Result<(), Aborted> {
        // There is time for QUIT alone.
        if state.winding_down.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(());
        }
        loop {
            let unanswered = self.wire.unanswered();
            state.alone &= unanswered > 0;
            if unanswered > 0 && (!self.pipelined || state.alone) {
                return Ok(());
            }
            let old = state.old.front().filter(|_| !deletions.are_all(0)).map(|proof| *proof.get());
            if let Some(number) = deletions.peek_waiting().or(old) {
                state.alone =
                    self.book.listing.find(number).is_some_and(|index| self.careful.contains(&index));
                if state.alone && unanswered > 0 {
                    return Ok(());
                }
                if let Some(proof) = deletions.next_waiting().or_else(|| state.old.pop_front()) {
                    deletions.delete(self.wire, proof).during("delete")?;
                }
                continue;
            }
            let full = state.under_way.len() >= WINDOW_MESSAGES || state.octets_under_way >= WINDOW_OCTETS;
            if full || unanswered >= 2 * WINDOW_MESSAGES || deletions.are_all(self.coming(state)) {
                return Ok(());
            }
            let Some(index) = state.peek() else { return Ok(()) };
            state.alone = self.careful.contains(&index);
            // The end of what came singly is proven first.
            let is_proven =
                state.doubtful.as_ref().is_none_or(|message| !self.careful.contains(&message.index));
            if (state.alone || !is_proven) && (unanswered > 0 || state.doubtful.is_some()) {
                return Ok(());
            }
            state.wanted.pop_front();
            self.retrieve(index, state)?;
        }
    }

    /// Counts the messages under way that will be deleted.
    fn coming(&self, state: &Loop) -> usize {
        if self.book.policy.deletes_at_once() { state.under_way.len() + state.uncommitted } else { 0 }
    }

    fn retrieve(&mut self, index: usize, state: &mut Loop) -> Result<(), Aborted> {
        let message = self.book.listing.get(index);
        self.wire.send(Command::Retr(message.number)).during("fetch")?;
        state.under_way.push_back(index);
        state.octets_under_way = state.octets_under_way.saturating_add(message.octets);
        Ok(())
    }

    /// Asks singly for what broke a session before, once everything else is done; what this session has deleted until
    /// then must be real before.
    fn send_last(
        &mut self,
        state: &mut Loop,
        fetched: &mut Fetched,
        deletions: &mut Deletions,
    ) -> Result<bool, Aborted> {
        if !deletions.accepted().is_empty() {
            fetched.postponed += std::mem::take(&mut state.last).len();
        }
        state.alone = true;
        match state.last.pop_front() {
            Some(Last::Fetch(index)) => {
                state.suspect = Some(index);
                self.retrieve(index, state)?;
            }
            Some(Last::Delete(proof)) => deletions.delete(self.wire, proof).during("delete")?,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Finds out what the session broke at. A message that came whole before that counts.
    async fn broke(
        &self,
        state: &mut Loop,
        fetched: &mut Fetched,
        error: &SourceError,
        complete: &Option<mpsc::Sender<Complete>>,
    ) {
        let mut partial = None;
        let mut had = state.ended.take();
        if let Some(mut message) = state.doubtful.take_if(|_| error.is_end()) {
            let listed = self.book.listing.get(message.index).octets;
            if listed > 0 && message.octets >= listed {
                // If it cannot be handed over, the target says why.
                let _ = state.hand_over(message, complete).await;
            } else if let (index, Some(came)) = (message.index, self.came(&message)) {
                had = None;
                partial = Some((index, came.clone()));
                if blame::is_all_there_is(&came, self.book.policy.now) {
                    state.keep(&mut message);
                    let _ = state.hand_over(message, complete).await;
                } else {
                    fetched.shown_undelivered = true;
                }
            }
        }
        had = had.filter(|_| state.doubtful.is_none() && state.incoming.is_none());
        let mut at = blame::blamed(Moment {
            awaited: self.wire.awaiting(),
            incoming: state.incoming.as_ref().map(|incoming| incoming.index),
            doubtful: state
                .doubtful
                .as_ref()
                .map(|message| message.index)
                .or(partial.as_ref().map(|partial| partial.0)),
            next: state.under_way.front().copied(),
        });
        // What follows a message that was asked for singly is that message's.
        if let Some(index) = had {
            let is_single = self.careful.contains(&index) || state.suspect == Some(index);
            at = match at {
                _ if is_single => Blamed::Had(index),
                Blamed::Deletion(_) => Blamed::Nobody,
                at => at,
            };
        }
        if let Blamed::Message(index) = at
            && !state.kept.contains(&index)
        {
            state.under_way.retain(|under_way| *under_way != index);
            // What looked like its end was not, by its size: that is not to be laid to anything else.
            let listed = self.book.listing.get(index).octets;
            let doubtful = |message: &Complete| message.index == index && message.octets < listed;
            let (standing, what) = match state.doubtful.as_ref().is_some_and(doubtful) {
                true => (Standing::Held, "the end of the message is doubtful"),
                false => (Standing::Suspected, "the session broke here"),
            };
            fetched.failed.push(Failed {
                index,
                kind: HeldKind::Breaks,
                standing,
                reason: format!("{what}: {error}"),
                came: partial.map(|partial| partial.1),
            });
        }
        let silent = error.is_silence();
        let under_way = had.iter().chain(&state.under_way).copied().collect();
        fetched.broke = Some(Broke { at, under_way, silent });
    }

    /// Counts how often a message came like this.
    fn came(&self, message: &Complete) -> Option<Came> {
        let listed = self.book.listing.get(message.index);
        let header = message.delivery.fingerprint?.header[0];
        let before = self.book.memory.held(listed.uid, listed.ordinal, listed.octets);
        Some(blame::came(before, header, message.octets, self.book.policy.now))
    }

    /// A reply has come whole, so the message before it had really ended.
    async fn confirm(&self, state: &mut Loop, to: &Option<mpsc::Sender<Complete>>) -> Result<(), Aborted> {
        state.ended = None;
        match state.doubtful.take() {
            Some(message) => state.hand_over(message, to).await,
            None => Ok(()),
        }
    }

    async fn end(
        &mut self,
        state: &mut Loop,
        fetched: &mut Fetched,
        deletions: &mut Deletions,
        to: &Option<mpsc::Sender<Complete>>,
    ) -> Result<(), Aborted> {
        let Some(Incoming { index, mut draft, fingerprint, octets }) = state.incoming.take() else {
            return Ok(());
        };
        state.ended = Some(index);
        let listed = self.book.listing.get(index).octets;
        let extent = if blame::is_short(octets, listed) { Extent::Short } else { Extent::Whole };
        let (delivery, unclaimed, recipients) = match self.book.came(index, &fingerprint.finish(), extent) {
            // What was cut short would have another content. The draft leaves no trace.
            book::Came::Known(proof) => {
                fetched.known += 1;
                self.progress.delivered(1);
                proof.into_iter().for_each(|proof| deletions.wait(proof));
                return Ok(());
            }
            book::Came::New { delivery, unclaimed, recipients } => (*delivery, unclaimed, recipients),
        };
        let listed = self.book.listing.get(index);
        if let Some(whole) = &delivery.fingerprint {
            draft.identify(&delivery.uid, delivery.ordinal, &whole.content, unclaimed);
        }
        draft.spare(recipients);
        let file = draft.file();
        let mut message = Complete {
            index,
            number: listed.number,
            finished: draft.finish(),
            delivery: Delivery { file, ..delivery },
            unclaimed,
            octets,
        };
        if blame::is_short(octets, listed.octets) {
            let came = self.came(&message);
            if came.as_ref().is_some_and(|came| blame::is_all_there_is(came, self.book.policy.now)) {
                state.keep(&mut message);
            } else {
                fetched.shown_undelivered = true;
                let reason = format!("short: {octets} of {} octets", listed.octets);
                let (kind, standing) = (HeldKind::Short, Standing::Held);
                fetched.failed.push(Failed { index, kind, standing, reason, came });
                return Ok(());
            }
        }
        // What looked like the end may have been a line of the message that the server did not byte-stuff. The next
        // reply tells, and where none is due a size that was reached must do; sizes are claims.
        let reply_is_due =
            self.wire.unanswered() > 0 || !state.wanted.is_empty() || state.suspect == Some(index);
        if reply_is_due || listed.octets == 0 || octets < listed.octets {
            state.doubtful = Some(message);
            return Ok(());
        }
        state.hand_over(message, to).await
    }

    fn committed(
        &mut self,
        result: commit::Result,
        state: &mut Loop,
        fetched: &mut Fetched,
        deletions: &mut Deletions,
    ) {
        state.uncommitted -= usize::from(!matches!(result, commit::Result::Retracted(_)));
        match result {
            commit::Result::Recorded(proof) => {
                state.declined_in_a_row = 0;
                let done = *proof.get();
                fetched.delivered += usize::from(!done.already_there);
                fetched.already_there += usize::from(done.already_there);
                fetched.octets += if done.already_there { 0 } else { done.octets };
                self.progress.delivered(1);
                self.book.recorded(done.index);
                if self.book.policy.deletes_at_once() && !state.kept.contains(&done.index) {
                    deletions.wait(proof.map(|done| done.number));
                }
            }
            commit::Result::Declined(declined) => {
                state.declined_in_a_row += 1;
                fetched.shown_undelivered = true;
                let commit::Declined { index, kind, reason } = declined;
                fetched.failed.push(Failed { index, kind, standing: Standing::Held, reason, came: None });
            }
            commit::Result::Retracted(index) => fetched.failed.retain(|failed| failed.index != index),
        }
    }
}

/// Where the loop stands.
struct Loop {
    /// Still to be asked for.
    wanted: VecDeque<usize>,
    /// Asked for; the first is the one that is answered next.
    under_way: VecDeque<usize>,
    octets_under_way: u64,
    incoming: Option<Incoming>,
    doubtful: Option<Complete>,
    /// The message that came last, until a reply proves that the server goes on behind it.
    ended: Option<usize>,
    /// Handed over, and nothing heard of them yet.
    uncommitted: usize,
    /// A RETR was answered with a message.
    came: bool,
    /// Messages whose RETR was refused, since one was not.
    refused: Vec<Refusal>,
    /// Messages that the target did not take, since it took one.
    declined_in_a_row: usize,
    /// What the server said of its own state in the place of a message.
    server_state: Option<Aborted>,
    old: VecDeque<Recorded<MessageNumber>>,
    /// What broke a session before.
    last: VecDeque<Last>,
    /// What is under way is asked for singly.
    alone: bool,
    /// The message at which a session broke before, and that is asked for now.
    suspect: Option<usize>,
    /// Messages that are delivered as they came, and never deleted.
    kept: HashSet<usize>,
    /// Set once no more is begun: when to leave what is still coming in.
    winding_down: Option<Instant>,
}

/// A message that the server did not send.
struct Refusal {
    index: usize,
    reason: String,
    /// It said by its code that the message is not to blame.
    of_server: Option<Aborted>,
}

/// What an event asks for that takes time.
enum Next {
    Nothing,
    /// A message begins.
    Begin(usize),
    /// The draft wants to be flushed.
    Full,
    /// A reply came whole.
    Confirm,
    /// The message has ended.
    End,
}

impl Incoming {
    /// Takes an event in; never waits, because the event's octets lie in the connection's buffer.
    fn take(
        event: Event<&[u8]>,
        listing: &Listing,
        state: &mut Loop,
        fetched: &mut Fetched,
        progress: &dyn Progress,
        deletions: &mut Deletions,
    ) -> Result<Next, Aborted> {
        Ok(match event {
            Event::Octets { octets, .. } => {
                progress.received(octets.len() as u64);
                let Some(incoming) = &mut state.incoming else { return Ok(Next::Nothing) };
                incoming.octets += octets.len() as u64;
                let listed = listing.get(incoming.index).octets;
                if incoming.octets
                    > listed.saturating_mul(EXCESS_FACTOR).max(listed.saturating_add(EXCESS_OCTETS))
                {
                    return Err(SourceError::Endless { listed }).during("fetch");
                }
                incoming.fingerprint.write(octets);
                incoming.draft.write(octets);
                if incoming.draft.is_full() { Next::Full } else { Next::Nothing }
            }
            Event::End { to: Request::Retr(_), .. } => Next::End,
            Event::Reply { to: Request::Retr(number), status, text } => {
                // Answers come in the order of the commands, so this is the first one under way.
                let Some(index) = state.under_way.pop_front() else { return Ok(Next::Nothing) };
                let message = listing.get(index);
                state.octets_under_way = state.octets_under_way.saturating_sub(message.octets);
                if status == Status::Ok {
                    state.came = true;
                    state.settle_row(fetched);
                    return Ok(Next::Begin(index));
                }
                let reason = format!("server refused RETR {number}: {}", Shown(text));
                let of_server = match SourceError::refused(&Reply { status, text }, About::Other) {
                    error @ SourceError::Refused { code: Some(code), .. } if code.is_of_server() => {
                        Some(source::Failed { doing: format!("fetch message {number}"), error }.into())
                    }
                    _ => None,
                };
                state.refused.push(Refusal { index, reason, of_server });
                Next::Confirm
            }
            Event::Reply { to: Request::Dele(number), status, text } => {
                deletions.answered(number, Reply { status, text });
                Next::Confirm
            }
            Event::Reply { .. } => Next::Confirm,
            Event::Line { .. } | Event::End { .. } => Next::Nothing,
        })
    }
}

impl Loop {
    async fn hand_over(
        &mut self,
        message: Complete,
        to: &Option<mpsc::Sender<Complete>>,
    ) -> Result<(), Aborted> {
        let failed = Aborted { doing: "deliver".into(), trouble: Trouble::Stopped };
        match to {
            Some(to) if to.send(message).await.is_ok() => {
                self.uncommitted += 1;
                Ok(())
            }
            Some(_) | None => Err(failed),
        }
    }

    /// Gives the message to ask for next.
    fn peek(&self) -> Option<usize> {
        if self.is_refused_too_often() { None } else { self.wanted.front().copied() }
    }

    /// Has a message delivered as it came, and never deleted.
    fn keep(&mut self, message: &mut Complete) {
        (message.delivery.kind, message.delivery.delivered_at) = (Kind::Marked, None);
        message.delivery.deleting = false;
        self.kept.insert(message.index);
    }

    /// Leaves everything that was not begun to another session.
    fn postpone(&mut self, postponed: &mut usize) {
        *postponed += self.wanted.len() + self.old.len() + self.last.len();
        self.wanted.clear();
        self.old.clear();
        self.last.clear();
    }

    /// Says that nothing more is to be asked for unless one that is under way is taken.
    fn is_refused_too_often(&self) -> bool {
        self.refused.len() >= REFUSALS || self.declined_in_a_row >= REFUSALS
    }

    /// Blames those messages for their refusals among which the server sent others.
    fn settle_row(&mut self, fetched: &mut Fetched) {
        for refusal in std::mem::take(&mut self.refused) {
            self.settle_refusal(refusal, Standing::Held, fetched);
        }
    }

    /// Does the same at the end for those that nothing came after: of many in a row the rest is left.
    fn settle_refused(&mut self, any_deleted: bool, fetched: &mut Fetched) {
        let standing = if self.came || any_deleted { Standing::Held } else { Standing::Suspected };
        for (at, refusal) in std::mem::take(&mut self.refused).into_iter().enumerate() {
            match at {
                ..REFUSALS => self.settle_refusal(refusal, standing, fetched),
                REFUSALS.. => fetched.left += 1,
            }
        }
    }

    fn settle_refusal(&mut self, refusal: Refusal, standing: Standing, fetched: &mut Fetched) {
        let Refusal { index, reason, of_server } = refusal;
        match of_server {
            Some(aborted) => {
                fetched.left += 1;
                self.server_state.get_or_insert(aborted);
            }
            None => {
                let kind = HeldKind::Refused;
                fetched.failed.push(Failed { index, kind, standing, reason, came: None });
            }
        }
    }

    /// Says that every message has come in and was handed over.
    fn is_all_in(&self) -> bool {
        let none_to_come = self.wanted.is_empty() && self.under_way.is_empty();
        none_to_come && self.incoming.is_none() && self.doubtful.is_none()
    }

    /// Begins nothing more; what is under way has a moment to come in.
    fn wind_down(&mut self, fetched: &mut Fetched) {
        fetched.left += self.wanted.len() + self.last.len();
        self.wanted.clear();
        self.old.clear();
        self.last.clear();
        self.winding_down.get_or_insert(Instant::now() + WIND_DOWN);
    }

    /// Says what is being done, for an error.
    fn doing(&self, listing: &Listing) -> String {
        let index = self.incoming.as_ref().map(|incoming| incoming.index).or(self.under_way.front().copied());
        match index {
            Some(index) => {
                let message = listing.get(index);
                format!("fetch message {} ({})", message.number, Shown(message.uid))
            }
            None => "fetch".into(),
        }
    }
}

fn far_away() -> Instant {
    Instant::now() + std::time::Duration::from_secs(86_400)
}
