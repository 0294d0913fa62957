//! One of several targets: what comes for it is copied, delivered in batches of its own, and said to be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::config::target::Destination;
use crate::delivery::imap::Mailbox;
use crate::delivery::{Facts, ServerError, Sink, TargetError};
use crate::failure::Class;
use crate::message::{MessageId, Trace};
use crate::state::{Delivery, Timestamp};

use super::super::book::{Inventory, Stock};
use super::super::commit::Complete;
use super::super::ledger::{Event, Of, Parcel, SLOWER};
use super::super::poll::Poll;
use super::super::trouble::{During, Failed, Trouble};

/// How long one target may take to open while others have their mail.
const OPENING: Duration = Duration::from_secs(20);

/// How long one that is slower may still be at work once all messages have come.
pub(super) const LAST: Duration = Duration::from_secs(5 * 60);

pub(super) struct Lane {
    pub(super) to: Destination,
    pub(super) key: String,
    /// It is open, and what lies there is not known yet.
    pub(super) sink: Option<Sink>,
    pub(super) opened: Option<Opened>,
    /// What was wrong with it, until that is told.
    pub(super) failed: Option<Failed>,
    /// The same in words, for the rest of the session.
    pub(super) why: Option<String>,
    /// It was open, and may have what is not recorded.
    pub(super) broke: bool,
    /// When the oldest message arrived that may be there, if that is known.
    pub(super) oldest: Option<Timestamp>,
}

pub(super) struct Opened {
    pub(super) sink: Sink,
    pub(super) stock: Stock,
}

impl Lane {
    pub(super) fn new(to: &Destination) -> Self {
        let (to, key) = (to.clone(), to.key());
        Self { to, key, sink: None, opened: None, failed: None, why: None, broke: false, oldest: None }
    }

    pub(super) fn fail(&mut self, failed: Failed) {
        self.broke |= self.opened.is_some();
        self.why.get_or_insert_with(|| failed.trouble.to_string());
        self.failed.get_or_insert(failed.of_target(&self.to));
    }

    /// Opens the target while the others wait for it, and says whether it has much to look at.
    pub(super) async fn looks_far_back(
        &mut self,
        of: Of<'_>,
        patience: &mut Duration,
    ) -> Result<bool, Failed> {
        match tokio::time::timeout(*patience, self.connect(of)).await {
            Ok(connected) => connected?,
            // It opens when the first message comes for it.
            Err(_) => *patience = Duration::ZERO,
        }
        Ok(self.sink.as_ref().and_then(Sink::mailbox).is_some_and(Mailbox::looks_far_back))
    }

    /// Opens the target, unless that was tried in this session, and takes stock; the error is one of the session's own.
    pub(super) async fn open(&mut self, of: Of<'_>) -> Result<usize, Failed> {
        self.connect(of).await?;
        let Some(sink) = self.sink.take() else { return Ok(0) };
        let stock = tokio::time::timeout(LAST, self.take_stock(of, &sink)).await;
        match stock.unwrap_or_else(|_| Err(late(&self.to, LAST, "shows what is in it without end"))) {
            Ok((stock, there)) => {
                self.opened = Some(Opened { sink, stock });
                Ok(there)
            }
            Err(failed) => self.unless_session_failed(failed).map(|()| 0),
        }
    }

    async fn connect(&mut self, of: Of<'_>) -> Result<(), Failed> {
        if self.sink.is_some() || self.opened.is_some() || self.why.is_some() {
            return Ok(());
        }
        let opening = tokio::time::timeout(OPENING, of.poll.sink(&self.to.target)).await;
        match opening.unwrap_or_else(|_| Err(late(&self.to, OPENING, "does not open"))) {
            Ok(sink) => self.sink = Some(sink),
            Err(failed) => self.unless_session_failed(failed)?,
        }
        Ok(())
    }

    fn unless_session_failed(&mut self, failed: Failed) -> Result<(), Failed> {
        match is_of_target(&failed.trouble) {
            true => self.fail(failed),
            false => return Err(failed),
        }
        Ok(())
    }

    async fn take_stock(&self, of: Of<'_>, sink: &Sink) -> Result<(Stock, usize), Failed> {
        let files = Poll::recover(sink, self.oldest).await?;
        let there = if sink.mailbox().is_some() { 0 } else { files.len() };
        let store = &of.poll.environment.store;
        let maildrop = &of.poll.maildrop();
        let inventory = Inventory { maildrop, target: &self.key, memory: of.memory, store };
        Ok((Stock::take(inventory, sink, files).await?, there))
    }

    /// Delivers what comes until no more does, or the target fails.
    pub(super) async fn run(
        &mut self,
        of: Of<'_>,
        number: usize,
        mut arrivals: Arrivals<Arc<Parcel>>,
        unrecorded: &Semaphore,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(), Failed> {
        let ended = self.work(of, number, &mut arrivals, unrecorded, events).await;
        // Before nobody takes any more.
        arrivals.places.close();
        let why = self.why.clone().or(arrivals.is_late.then(|| SLOWER.to_owned()));
        let _ = events.send(Event::Ended(number, why));
        ended
    }

    async fn work(
        &mut self,
        of: Of<'_>,
        number: usize,
        arrivals: &mut Arrivals<Arc<Parcel>>,
        unrecorded: &Semaphore,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<(), Failed> {
        if self.why.is_some() {
            return Ok(());
        }
        // Nothing is opened for nothing.
        let Some(first) = arrivals.next().await else { return Ok(()) };
        self.open(of).await?;
        let Some(Opened { sink, stock }) = &mut self.opened else { return Ok(()) };
        let Facts { most_unrecorded, most_waiting, most_at_once, .. } = sink.facts();
        unrecorded.add_permits(most_unrecorded);
        // What waits there is delivered however late it is.
        let (complete, incoming) = mpsc::channel(most_waiting.min(most_at_once));
        let target = (&self.to.target, self.to.to_string(), &*self.key);
        let commit = of.poll.commit(sink, target, of.memory, std::mem::take(&mut stock.found));
        let trace = of.poll.account.traces(&self.to.target).then(|| of.poll.trace());
        let copying = async {
            let complete = complete;
            let mut next = Some(first);
            while let Some(parcel) = next {
                let copy = parcel.copy(sink, stock, &self.key, trace.as_ref()).await?;
                if complete.send(copy).await.is_err() {
                    break;
                }
                next = arrivals.next().await;
            }
            Ok::<_, TargetError>(())
        };
        let hand_over = |committed| events.send(Event::Committed(number, committed)).is_ok();
        let delivering = commit.deliver_all(incoming, unrecorded, hand_over);
        let (copied, delivered) = tokio::join!(copying, delivering);
        if let Err(failed) = copied.during("deliver") {
            self.fail(failed);
        }
        delivered
    }
}

impl Parcel {
    /// Makes of it what goes into one target.
    async fn copy(
        &self,
        sink: &Sink,
        stock: &mut Stock,
        key: &str,
        trace: Option<&Trace>,
    ) -> Result<Complete, TargetError> {
        let Self { index, delivery, holders, octets, content } = self;
        let MessageId { maildrop, .. } = content.id.clone();
        let id = MessageId { maildrop, uid: delivery.uid.clone(), ordinal: delivery.ordinal };
        let name = (delivery.uid.as_bytes(), delivery.ordinal);
        let mut draft = sink.draft(id);
        if let Some(trace) = trace {
            draft.write(&trace.line(name.0, jiff::Timestamp::now()));
        }
        content.copy_into(&mut draft).await?;
        let unclaimed = delivery.fingerprint.as_ref().and_then(|whole| stock.claim(name, whole));
        if let Some(whole) = &delivery.fingerprint {
            draft.identify(&delivery.uid, delivery.ordinal, whole, unclaimed);
            draft.count(stock.copies(whole));
        }
        let holder = holders.iter().find(|holder| holder.target == key);
        draft.spare(holder.and_then(|holder| holder.recipients.clone()).unwrap_or_default());
        let files = draft.file().into_iter().collect();
        let delivery = Delivery { files, ..delivery.clone() };
        let (index, octets) = (*index, *octets);
        Ok(Complete { index, finished: draft.finish(), delivery, unclaimed, holders: Vec::new(), octets })
    }
}

/// What comes for one target.
pub(super) struct Arrivals<T> {
    pub(super) parcels: mpsc::UnboundedReceiver<T>,
    pub(super) places: Arc<Semaphore>,
    /// When the others have waited for long enough, once that is known.
    pub(super) last: watch::Receiver<Option<Instant>>,
    pub(super) is_late: bool,
}

impl<T> Arrivals<T> {
    async fn next(&mut self) -> Option<T> {
        let parcel = tokio::select! {
            biased;
            () = patience_ends(&mut self.last) => {
                self.is_late = true;
                return None;
            }
            parcel = self.parcels.recv() => parcel?,
        };
        self.places.add_permits(1);
        Some(parcel)
    }
}

/// Waits until the others have waited for long enough.
async fn patience_ends(last: &mut watch::Receiver<Option<Instant>>) {
    let known = last.wait_for(Option::is_some).await.map(|last| *last);
    match known {
        Ok(Some(last)) => tokio::time::sleep_until(last).await,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

fn is_of_target(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Target(_) | Trouble::Credential(_))
}

fn late(to: &Destination, after: Duration, how: &str) -> Failed {
    let after = humantime::format_duration(after);
    let error = ServerError {
        place: to.to_string(),
        what: format!("gave up after {after}: the target {how}, and others wait for nothing"),
        said: None,
        hint: Some("nothing is lost: what it lacks is fetched for it once it answers".to_owned()),
        class: Class::Target,
    };
    Failed { doing: "open the target".into(), trouble: TargetError::Server(Box::new(error)).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slower_target_takes_no_more_once_the_others_have_waited_for_five_minutes() {
        let (parcels, arriving) = mpsc::unbounded_channel();
        let (all_came, last) = watch::channel(None);
        let mut arrivals =
            Arrivals { parcels: arriving, places: Arc::new(Semaphore::new(0)), last, is_late: false };
        (0..3).for_each(|parcel| parcels.send(parcel).unwrap());
        tokio::time::sleep(2 * LAST).await;
        assert_eq!(arrivals.next().await, Some(0), "they come for as long as they come");
        all_came.send_replace(Some(Instant::now() + LAST));
        tokio::time::sleep(LAST - Duration::from_secs(1)).await;
        assert_eq!((arrivals.next().await, arrivals.is_late), (Some(1), false));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((arrivals.next().await, arrivals.is_late), (None, true));
        assert_eq!(arrivals.places.available_permits(), 2);
    }
}
