//! Messages out of the source into drafts, while what is complete is committed beside it and deleted behind it.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::{Draft, Sink};
use crate::disk::Disk;
use crate::message::{Content, Fingerprinter, MessageId, Trace, UniqueId};
use crate::source::{Begin, Blamed, End, Event, Refusal, Rest, Source, SourceError};
use crate::state::{Came, Delivery, HeldKind, Holder, Standing};
use crate::stop::{MESSAGES, Stop};
use crate::text::Shown;

use super::Progress;
use super::book::{Book, Extent, Identified};
use super::commit::{self, Complete};
use super::fetched::{Fetched, Unfetched};
use super::short;
use super::trouble::{During, Failed, Trouble};

/// Refusals in a row, by the server or by the target, after which the rest is left for the next poll.
const REFUSALS: usize = 20;

/// The way of messages from the source into drafts.
pub struct Fetch<'a, 'b> {
    pub source: &'a mut Source,
    /// What messages are written into; `None` if nothing is to be fetched.
    pub drafts: Option<Drafts<'a>>,
    /// What is in the maildrop, and what is known of it.
    pub book: &'a mut Book<'b>,
    pub maildrop: Arc<str>,
    pub stop: Stop,
    /// When no more messages are begun.
    pub until: Option<Instant>,
    pub progress: &'a dyn Progress,
    /// What is put on top of each message.
    pub trace: Option<Trace>,
    /// Where what came whole goes; dropped when nothing more will be committed.
    pub complete: Option<mpsc::Sender<Complete>>,
    pub round: Round,
}

/// What messages are written into.
#[derive(Clone, Copy)]
pub enum Drafts<'a> {
    /// The only target, and how it is recorded.
    Of(&'a Sink, &'a str),
    /// The spool, out of which several targets get them.
    Spooled(&'a Disk),
}

impl Drafts<'_> {
    fn draft(self, id: MessageId) -> Draft {
        match self {
            Self::Of(sink, _) => sink.draft(id),
            Self::Spooled(disk) => Draft::for_several(disk, id),
        }
    }

    /// Begins to take what a message is known by.
    fn fingerprinter(self) -> Fingerprinter {
        match self {
            Self::Of(sink, _) if sink.mailbox().is_none() => Fingerprinter::new(),
            Self::Of(..) | Self::Spooled(_) => Fingerprinter::with_mailbox(),
        }
    }

    /// Gives who of the recipients at the only target has a message.
    fn reached(self, holders: &[Holder]) -> Vec<String> {
        let Self::Of(_, target) = self else { return Vec::new() };
        let of = |name: &str| holders.iter().find(|holder| holder.target == name);
        // Before there could be several it was not noted which.
        of(target).or_else(|| of("")).and_then(|holder| holder.recipients.clone()).unwrap_or_default()
    }
}

/// How far fetching has come.
#[derive(Default)]
pub struct Round {
    incoming: Option<Incoming>,
    /// A message that came, and whose end is being proven.
    doubtful: Option<Complete>,
    /// Handed over, and nothing heard of them yet.
    uncommitted: usize,
    /// The server has sent a message.
    came: bool,
    /// What came last, by its content, and its size by the listing.
    before: Option<(Content, u64)>,
    /// Messages that the server refused, since it sent one.
    refused: Vec<Refusal>,
    /// Messages that the target did not take, since it took one.
    declined_in_a_row: usize,
    /// Messages that are delivered as they came, and never deleted.
    kept: HashSet<usize>,
    /// Set once no more is begun: when to leave what is still coming in.
    winding_down: Option<Instant>,
    fetched: Fetched,
}

/// What is to be done once what may go was sent.
enum Todo {
    Send,
    Wait,
    Nothing,
}

/// The message that is coming in.
struct Incoming {
    draft: Draft,
    fingerprint: Fingerprinter,
}

impl Fetch<'_, '_> {
    /// Fetches the messages that the source was given, and deletes what the policy says as soon as it is recorded.
    pub async fn run(mut self, mut results: mpsc::UnboundedReceiver<commit::Result>) -> Fetched {
        let ended = self.fetch(&mut results).await;
        if ended.is_err() || self.source.unanswered() > 0 {
            self.round.fetched.uncertain = self.source.uncertain();
        }
        if let Err(Failed { trouble: Trouble::Source(error), .. }) = &ended
            && error.is_break()
        {
            self.broke(error).await;
        }
        self.complete = None;
        // What was handed over goes its way whatever became of the connection.
        while let Some(result) = results.recv().await {
            self.committed(result);
        }
        let Rest { left, postponed } = self.source.rest();
        self.settle_refused();
        let Round { incoming, doubtful, uncommitted, mut fetched, .. } = self.round;
        fetched.left += left;
        fetched.postponed += postponed;
        fetched.shown_undelivered |= incoming.is_some() || doubtful.is_some() || uncommitted > 0;
        fetched.in_step = ended.is_ok() && self.source.unanswered() == 0;
        fetched.aborted = fetched.aborted.or(ended.err());
        fetched
    }

    async fn fetch(&mut self, results: &mut mpsc::UnboundedReceiver<commit::Result>) -> Result<(), Failed> {
        let stop = self.stop.clone();
        let mut asked = pin!(stop.asked());
        loop {
            match self.send()? {
                Todo::Send => continue,
                Todo::Wait => {}
                Todo::Nothing => return Ok(()),
            }
            let unanswered = self.source.unanswered();
            let winds_down = self.round.winding_down.is_some();
            let deadline = self.round.winding_down;
            tokio::select! {
                biased;
                result = results.recv(), if self.round.uncommitted > 0 => match result {
                    Some(result) => self.committed(result),
                    // The target begins nothing more.
                    None if winds_down => {
                        self.round.fetched.shown_undelivered = true;
                        self.round.fetched.left += std::mem::take(&mut self.round.uncommitted);
                        self.complete = None;
                    }
                    // The committing side has failed and will say why.
                    None => return Err(Failed { doing: "deliver".into(), trouble: Trouble::Stopped }),
                },
                // Before what comes in, which on a fast line never ends.
                () = &mut asked, if !winds_down => {
                    self.source.wind_down();
                    self.round.winding_down = Some(Instant::now() + MESSAGES);
                    self.round.fetched.aborted = Some(Failed { doing: "fetch".into(), trouble: Trouble::Stopped });
                }
                // What was handed over has its own time limit.
                () = over(deadline), if winds_down && unanswered > 0 => {
                    return Err(Failed { doing: "fetch".into(), trouble: Trouble::Stopped });
                }
                event = self.source.event(), if unanswered > 0 => {
                    match event {
                        Ok(Event::Octets(octets)) => {
                            self.progress.received(octets.len() as u64);
                            if let Some(incoming) = &mut self.round.incoming {
                                incoming.write(octets).await?;
                            }
                            continue;
                        }
                        Ok(Event::Nothing) => continue,
                        Ok(Event::Began(index)) => self.began(index),
                        Ok(Event::Came { index, octets }) => self.came(index, octets).during("fetch")?,
                        Ok(Event::Refused(refusal)) => self.round.refused.push(refusal),
                        Ok(Event::Answered) => {}
                        Err(error) => return Err(error).during(self.doing()),
                    }
                    self.hand_over_ended().await?;
                    // A target that makes us wait is no fault of the server's.
                    self.source.has_all_time_again();
                }
            }
        }
    }

    /// Sends what may go now.
    fn send(&mut self) -> Result<Todo, Failed> {
        self.source.send_ahead(self.may_begin(), self.to_be_deleted())?;
        let is_settled = self.source.unanswered() == 0 && self.round.uncommitted == 0;
        if self.source.is_all_in() {
            if is_settled && self.source.send_last()? {
                return Ok(Todo::Send);
            }
            if !self.source.has_last() {
                self.complete = None;
            }
        }
        if is_settled && self.complete.is_none() {
            return Ok(Todo::Nothing);
        }
        Ok(if self.source.ask_for_proof()? { Todo::Send } else { Todo::Wait })
    }

    /// Says what the source may begin.
    fn may_begin(&self) -> Begin {
        let is_over = |deadline: Instant| Instant::now() >= deadline;
        if self.round.winding_down.is_some_and(is_over) {
            // There is time for QUIT alone.
            Begin::Nothing
        } else if self.is_refused_too_often() || self.until.is_some_and(is_over) {
            Begin::Deletions
        } else {
            Begin::Anything
        }
    }

    /// Says that nothing more is to be asked for unless one that is under way is taken.
    fn is_refused_too_often(&self) -> bool {
        self.round.refused.len() >= REFUSALS || self.round.declined_in_a_row >= REFUSALS
    }

    /// Counts the messages that came and will be deleted, if they are deleted at once.
    fn to_be_deleted(&self) -> Option<usize> {
        self.book.policy.deletes_at_once().then_some(self.round.uncommitted)
    }

    fn began(&mut self, index: usize) {
        self.round.came = true;
        // Among those that were refused the server sends others.
        for refusal in std::mem::take(&mut self.round.refused) {
            self.settle_refusal(refusal, Standing::Held);
        }
        let listed = self.book.listing.get(index);
        let (maildrop, uid) = (self.maildrop.clone(), UniqueId::new(listed.uid));
        let id = MessageId { maildrop, uid, ordinal: listed.ordinal };
        self.round.incoming = self.drafts.map(|drafts| {
            let mut draft = drafts.draft(id);
            if let Some(trace) = &self.trace {
                draft.write(&trace.line(listed.uid, jiff::Timestamp::now()));
            }
            Incoming { draft, fingerprint: drafts.fingerprinter() }
        });
    }

    /// Finds out which message it is that came, and has its end proven if it is to be delivered.
    fn came(&mut self, index: usize, octets: u64) -> Result<(), SourceError> {
        let Some(Incoming { mut draft, fingerprint }) = self.round.incoming.take() else { return Ok(()) };
        let listed = self.book.listing.get(index).octets;
        let whole = fingerprint.finish();
        // The octets of the one before, which is listed with another size: its answer came twice.
        let before = self.round.before.replace((whole.content, listed));
        match before {
            Some((content, size)) if content == whole.content && self.source.trial().is_some() => {
                if size != listed {
                    return Err(SourceError::OutOfStep);
                }
                self.source.came_again(index);
            }
            Some(_) | None => {}
        }
        let extent = if short::is_short(octets, listed) { Extent::Short } else { Extent::Whole };
        let (delivery, unclaimed, holders) = match self.book.came(index, &whole, extent) {
            // What was cut short would have another content. The draft leaves no trace.
            Identified::Known(proof) => {
                self.round.fetched.known += 1;
                self.progress.delivered(1);
                proof.into_iter().for_each(|proof| self.source.delete(proof));
                return Ok(());
            }
            Identified::New { delivery, unclaimed, holders } => (*delivery, unclaimed, holders),
        };
        if let Some(whole) = &delivery.fingerprint {
            draft.identify(&delivery.uid, delivery.ordinal, whole, unclaimed);
            draft.count(self.book.stock.copies(whole));
        }
        draft.spare(self.drafts.map(|drafts| drafts.reached(&holders)).unwrap_or_default());
        let files = draft.file().into_iter().collect();
        let mut delivery = Delivery { files, ..delivery };
        if self.source.is_open(index) {
            self.book.doubt_for_now(index, &mut delivery);
        }
        let mut message = Complete { index, finished: draft.finish(), delivery, unclaimed, holders, octets };
        if extent == Extent::Short {
            let came = self.counted(&message);
            if came.as_ref().is_some_and(|came| short::is_all_there_is(came, self.book.policy.now)) {
                self.keep(&mut message);
            } else {
                self.round.fetched.shown_undelivered = true;
                let reason = format!("short: {octets} of {listed} octets");
                let (kind, standing) = (HeldKind::Short, Standing::Held);
                self.round.fetched.failed.push(Unfetched { index, kind, standing, reason, came });
                return Ok(());
            }
        }
        self.round.doubtful = Some(message);
        self.source.prove_end();
        Ok(())
    }

    /// Counts how often a message came like this.
    fn counted(&self, message: &Complete) -> Option<Came> {
        let header = message.delivery.fingerprint?.header[0];
        Some(short::counted(self.book.held(message.index), header, message.octets, self.book.policy.now))
    }

    /// Has a message delivered as it came, and never deleted.
    fn keep(&mut self, message: &mut Complete) {
        message.delivery.keep();
        self.round.kept.insert(message.index);
        // Where messages vanish once they were shown, it is to stay all the same.
        self.round.fetched.shown_undelivered = true;
    }

    /// Has the message committed whose end is certain now, if there is one.
    async fn hand_over_ended(&mut self) -> Result<(), Failed> {
        let ended = self.source.ended();
        match self.round.doubtful.take_if(|message| Some(message.index) == ended) {
            Some(message) => self.hand_over(message).await,
            None => Ok(()),
        }
    }

    async fn hand_over(&mut self, message: Complete) -> Result<(), Failed> {
        match &self.complete {
            Some(complete) if complete.send(message).await.is_ok() => {
                self.round.uncommitted += 1;
                Ok(())
            }
            Some(_) | None => Err(Failed { doing: "deliver".into(), trouble: Trouble::Stopped }),
        }
    }

    /// Finds out what the session broke at. A message that came whole before that counts.
    async fn broke(&mut self, error: &SourceError) {
        let broke = self.source.broke(error);
        let end = broke.end.map(|(_, end)| end);
        let mut partial = None;
        if let Some(mut message) =
            self.round.doubtful.take_if(|_| matches!(end, Some(End::Certain | End::Unproven | End::Followed)))
        {
            partial = self.counted(&message).filter(|_| end != Some(End::Certain));
            let is_kept =
                partial.as_ref().is_some_and(|came| short::is_all_there_is(came, self.book.policy.now));
            if is_kept {
                self.keep(&mut message);
            }
            if is_kept || end == Some(End::Certain) {
                // If it cannot be handed over, the target says why.
                let _ = self.hand_over(message).await;
            } else {
                self.round.fetched.shown_undelivered = true;
            }
        }
        if let Blamed::Message(index) = broke.at
            && !self.round.kept.contains(&index)
        {
            // What looked like its end was not, by its size: that is not to be laid to anything else.
            let (standing, what) = match end {
                Some(End::Doubtful) => (Standing::Held, "the end of the message is doubtful"),
                _ => (Standing::Suspected, "the session broke here"),
            };
            let (kind, reason) = (HeldKind::Breaks, format!("{what}: {error}"));
            self.round.fetched.failed.push(Unfetched { index, kind, standing, reason, came: partial });
        }
        self.round.fetched.broke = Some(broke);
    }

    fn committed(&mut self, result: commit::Result) {
        let Round { uncommitted, declined_in_a_row, fetched, .. } = &mut self.round;
        let is_final = !matches!(result, commit::Result::Retracted(_) | commit::Result::Away(_));
        *uncommitted -= usize::from(is_final);
        match result {
            commit::Result::Recorded(done, proof) => {
                *declined_in_a_row = 0;
                fetched.delivered += usize::from(!done.already_there);
                fetched.already_there += usize::from(done.already_there);
                fetched.octets += if done.already_there { 0 } else { done.octets };
                self.progress.delivered(1);
                self.book.recorded(done.index);
                // Where messages vanish once they were shown, it is to stay all the same.
                fetched.shown_undelivered |= done.stays;
                if self.book.policy.deletes_at_once() {
                    proof.into_iter().for_each(|proof| self.source.delete(proof));
                }
            }
            commit::Result::Declined(declined) => {
                let commit::Declined { index, kind, reason, reached } = declined;
                fetched.shown_undelivered = true;
                match reached {
                    Some(octets) => {
                        fetched.delivered += 1;
                        fetched.octets += octets;
                    }
                    // That a target is away is not the message's trouble.
                    None => *declined_in_a_row += usize::from(kind != HeldKind::Away),
                }
                fetched.failed.push(Unfetched { index, kind, standing: Standing::Held, reason, came: None });
            }
            commit::Result::Retracted(index) => fetched.failed.retain(|failed| failed.index != index),
            commit::Result::Away(index) => {
                let failed = fetched.failed.iter_mut().filter(|failed| failed.index == index);
                failed.for_each(|failed| failed.kind = HeldKind::Away);
            }
        }
    }

    /// Judges at the end those refusals behind which no message came: of many in a row the rest is left.
    fn settle_refused(&mut self) {
        let is_held = self.round.came || self.source.any_deleted();
        let standing = if is_held { Standing::Held } else { Standing::Suspected };
        for (at, refusal) in std::mem::take(&mut self.round.refused).into_iter().enumerate() {
            match at {
                ..REFUSALS => self.settle_refusal(refusal, standing),
                REFUSALS.. => self.round.fetched.left += 1,
            }
        }
    }

    fn settle_refusal(&mut self, refusal: Refusal, standing: Standing) {
        let Refusal { index, reason, of_server } = refusal;
        let (kind, standing) = match of_server {
            // It passes, as a rule; a message of which the server says so each time is to stop no other.
            Some(failed) => {
                let is_held = self.book.held(index).is_some_and(|held| held.standing == Standing::Held);
                if !is_held {
                    self.round.fetched.refused.get_or_insert_with(|| failed.into());
                }
                (HeldKind::Later, Standing::Suspected)
            }
            None => (HeldKind::Refused, standing),
        };
        self.round.fetched.failed.push(Unfetched { index, kind, standing, reason, came: None });
    }

    /// Says what is being done, for an error.
    fn doing(&self) -> String {
        match self.source.expected() {
            Some(index) => {
                let message = self.book.listing.get(index);
                format!("fetch message {} ({})", message.number, Shown(message.uid))
            }
            None => "fetch".into(),
        }
    }
}

impl Incoming {
    async fn write(&mut self, octets: &[u8]) -> Result<(), Failed> {
        self.fingerprint.write(octets);
        self.draft.write(octets);
        if self.draft.is_full() {
            self.draft.flush().await.during("deliver")?;
        }
        Ok(())
    }
}

/// Resolves at this time; never if there is none.
async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
