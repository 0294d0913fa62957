//! Several targets: each message goes to all of them, each at its own speed.
//!
//! A message comes once, into the spool, and from there each target's lane copies it, delivers it in batches of its own
//! and says so; the `ledger` records who has it, and that it is delivered once all have it. What a target that is away, or
//! slower than the others, does not get in this session is fetched again for it alone, and not kept here: what waits for
//! a week would be a second maildrop, to be made as safe as the first. The server has it anyway, since nothing is deleted
//! before all have it.

mod lane;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll::{Pending, Ready};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::config::Account;
use crate::config::target::{self, Target};
use crate::delivery::Leftover;
use crate::delivery::spool::Unspooled;
use crate::state::{Holder, Memory, Timestamp, Unclaimed};

use super::book::ToCome;
use super::commit::{self, Complete};
pub use super::ledger::Of;
use super::ledger::{Event, Ledger, Parcel, Way};
use super::poll::Poll;
use super::target::note_log_in;
use super::trouble::{During, Failed};
use lane::{Arrivals, LAST, Lane, Opened};

/// How long the others wait in a session for one that is slower; what comes then it gets later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that may wait for one target.
const QUEUE: usize = 64;

/// The targets of an account in one session.
pub struct Fan {
    lanes: Vec<Lane>,
    /// For how long the others still wait for each.
    patience: Vec<Duration>,
    /// Which of them gets what others refuse.
    refused: Option<usize>,
}

impl Fan {
    /// Makes one for an account, unless its only target may as well get messages directly.
    pub fn of(account: &Account, memory: &Memory) -> Option<Self> {
        let is_elsewhere = |holder: &Holder| holder.recipients.is_none();
        let any_elsewhere = memory.reached.iter().flat_map(|reached| &reached.targets).any(is_elsewhere);
        if account.deliver.len() == 1 && account.refused.is_none() && !any_elsewhere {
            return None;
        }
        let lanes: Vec<Lane> = account.deliver.iter().chain(&account.refused).map(Lane::new).collect();
        let refused = account.refused.as_ref().map(|_| lanes.len() - 1);
        Some(Self { patience: vec![PATIENCE; lanes.len()], lanes, refused })
    }

    /// Gives the targets that each message goes to.
    fn all(&self) -> impl Iterator<Item = usize> {
        (0..self.lanes.len()).filter(|lane| Some(*lane) != self.refused)
    }

    /// Gives the targets that a message is missing in.
    pub fn lacking(&self, holders: &[Holder]) -> Vec<usize> {
        let has = |lane: &usize| {
            let key = &self.lanes[*lane].key;
            holders.iter().any(|holder| holder.target == *key && holder.recipients.is_none())
        };
        self.all().filter(|lane| !has(lane)).collect()
    }

    /// Gives a target that can be had, if it is one.
    pub fn usable(&self, lane: usize) -> Option<&Target> {
        let Lane { to, opened, why, .. } = &self.lanes[lane];
        (opened.is_some() && why.is_none()).then_some(&to.target)
    }

    /// Opens the mailboxes on servers, as far as they open while the others wait, and says whether one of them has much to
    /// look at unless it is told how far back.
    pub async fn looks_far_back(&mut self, of: Of<'_>) -> Result<bool, Failed> {
        let refused = self.refused;
        let is_meant = |number: usize, lane: &Lane| {
            Some(number) != refused && lane.to.target.facts().stock == target::Stock::Mailbox
        };
        let lanes = self.lanes.iter_mut().zip(&mut self.patience).enumerate();
        let lanes = lanes.filter(|(number, (lane, _))| is_meant(*number, lane));
        let opening = lanes
            .map(|(_, (lane, patience))| -> Work<'_, bool> { Box::pin(lane.looks_far_back(of, patience)) });
        Ok(all(opening.collect()).await?.contains(&true))
    }

    /// Opens targets side by side, and counts the files of this maildrop that are there.
    pub async fn open(&mut self, of: Of<'_>, which: &BTreeSet<usize>) -> Result<usize, Failed> {
        let lanes = self.lanes.iter_mut().enumerate().filter(|(lane, _)| which.contains(lane));
        let opening = lanes.map(|(_, lane)| -> Work<'_, usize> { Box::pin(lane.open(of)) });
        Ok(all(opening.collect()).await?.into_iter().sum())
    }

    /// Opens all of them that messages go to, and counts the files of this maildrop that are there.
    pub async fn open_all(&mut self, of: Of<'_>) -> Result<usize, Failed> {
        let which = self.all().collect();
        self.open(of, &which).await
    }

    /// Opens all targets, which removes what dead sessions left, and gives what no record claims there; nothing if one
    /// of them cannot be had.
    pub async fn recover(&mut self, of: Of<'_>) -> Result<Option<Vec<Unclaimed>>, Failed> {
        self.open_all(of).await?;
        if self.all().any(|lane| self.usable(lane).is_none()) {
            return Ok(None);
        }
        let opened = self.lanes.iter_mut().filter_map(|lane| lane.opened.as_mut());
        Ok(Some(opened.flat_map(|opened| std::mem::take(&mut opened.stock.found)).collect()))
    }

    /// Delivers what comes in until the sender is dropped, and records it.
    pub async fn run(
        &mut self,
        of: Of<'_>,
        incoming: mpsc::Receiver<Complete>,
        results: mpsc::UnboundedSender<commit::Result>,
    ) -> Result<(), Failed> {
        let others = self.lanes.len() > 1;
        let (events, heard) = mpsc::unbounded_channel();
        let (all_came, last) = watch::channel(None);
        let (mut ways, mut queues, mut works): (Vec<_>, Vec<_>, Vec<Work<'_, ()>>) = Default::default();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let unrecorded = Arc::new(Semaphore::new(0));
            ways.push(Way {
                key: lane.key.clone(),
                shown: lane.to.to_string(),
                unrecorded: unrecorded.clone(),
                why: lane.why.clone(),
            });
            // What others refuse comes from the ledger, which does not wait.
            let (queue, parcels) = mpsc::unbounded_channel();
            let places = Arc::new(Semaphore::new(QUEUE));
            queues.push(Queue { parcels: queue, places: places.clone() });
            let events = events.clone();
            let arrivals = Arrivals { parcels, places, last: last.clone(), is_late: false };
            works.push(Box::pin(async move { lane.run(of, number, arrivals, &unrecorded, &events).await }));
        }
        let refused = self.refused.map(|lane| (lane, queues[lane].parcels.clone()));
        let lacking: Vec<String> = ways.iter().map(|way| way.key.clone()).collect();
        let ledger = Ledger::new(of, ways, refused, results);
        let targets: Vec<usize> = (0..lacking.len()).filter(|lane| Some(*lane) != self.refused).collect();
        let dispatch = Dispatch { queues, targets, keys: lacking, patience: &mut self.patience, events };
        let dispatching = async {
            let dispatched = dispatch.run(incoming).await;
            // Where it is the only one, nobody waits for it in vain.
            if others {
                all_came.send_replace(Some(Instant::now() + LAST));
            }
            dispatched
        };
        let (dispatched, worked, recorded) = tokio::join!(dispatching, all(works), ledger.run(heard));
        let failures = recorded?;
        dispatched?;
        worked?;
        for (lane, failed) in failures {
            self.lanes[lane].fail(failed);
        }
        Ok(())
    }

    /// Ends the use of the targets, and says whether what no record claims is kept for a session to come.
    pub async fn close(&mut self, of: Of<'_>, how: Closing) -> Result<Leftover, Failed> {
        let store = &of.poll.environment.store;
        let mut kept = Leftover::Nothing;
        for lane in &mut self.lanes {
            if let Some(unused) = lane.sink.take() {
                unused.close().await;
            }
            let Some(Opened { sink, stock }) = &lane.opened else { continue };
            if lane.why.is_none() && how != Closing::Broken {
                let to_come = match how {
                    Closing::Unfinished => ToCome::Some,
                    Closing::Unnamed => ToCome::Unnamed,
                    Closing::Whole | Closing::Broken => ToCome::Nothing,
                };
                let leftover = stock.settle(&of.memory.key, store, sink, to_come).await?;
                if let Some(mailbox) = sink.mailbox() {
                    mailbox.settle(leftover, of.poll.now);
                }
                if leftover == Leftover::Kept {
                    kept = leftover;
                }
            }
            let failed = lane.failed.as_mut().and_then(Failed::target_error);
            let Poll { account, environment, .. } = *of.poll;
            note_log_in((account, &lane.to.target), environment, sink, failed).await?;
            sink.close().await;
            let memory = lane.to.target.memory(&of.poll.account.maildrop_id);
            if let (Some(news), Some(name)) = (sink.news(), memory) {
                store.remember(name, news).await.during("write the state")?;
            }
        }
        Ok(kept)
    }

    /// Says whether a target may have what no record tells of, and is to be asked for that before the next session
    /// counts on the records.
    pub fn stays_open(&self, memory: &Memory) -> bool {
        let is_missed = |lane: &Lane| {
            memory.left.is_unclosed()
                && lane.opened.is_none()
                && lane.to.target.facts().stock == target::Stock::Files
        };
        self.lanes.iter().any(|lane| lane.broke || is_missed(lane))
    }

    /// Gives what was wrong with targets: refused credentials before all, since they do not mend themselves.
    pub fn failure(&mut self, account: &Account) -> Option<Failed> {
        let mut failures: Vec<Failed> = self.lanes.iter_mut().filter_map(|lane| lane.failed.take()).collect();
        failures.sort_by_key(|failed| failed.trouble.class().exit_status() != 77);
        for other in failures.iter().skip(1) {
            log::info!("{}: another target fails: {}: {}", account.name, other.doing, other.trouble);
        }
        failures.into_iter().next()
    }

    /// Names the targets that may get again what they have.
    pub fn forgetful(&self) -> Vec<String> {
        let is_forgetful =
            |lane: &&Lane| lane.opened.as_ref().is_some_and(|opened| !opened.sink.facts().recognizes);
        self.lanes.iter().filter(is_forgetful).map(|lane| lane.to.to_string()).collect()
    }

    /// Takes that none of the messages that may be there came before this time.
    pub fn look_back_to(&mut self, oldest: Option<Timestamp>) {
        self.lanes.iter_mut().for_each(|lane| lane.oldest = oldest);
    }

    /// Says whether nothing is wrong with one of the targets, as far as is known.
    pub fn serves(&self) -> bool {
        self.all().any(|lane| self.lanes[lane].why.is_none())
    }
}

/// How a session that used the targets came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing is left to be fetched.
    Whole,
    /// Messages are left.
    Unfinished,
    /// The same, and the server has not named them yet.
    Unnamed,
    Broken,
}

/// The way to one target.
struct Queue {
    parcels: mpsc::UnboundedSender<Arc<Parcel>>,
    /// For as many as may wait there.
    places: Arc<Semaphore>,
}

/// Hands messages to the targets that they are missing in.
struct Dispatch<'a> {
    queues: Vec<Queue>,
    targets: Vec<usize>,
    keys: Vec<String>,
    patience: &'a mut [Duration],
    events: mpsc::UnboundedSender<Event>,
}

impl Dispatch<'_> {
    async fn run(mut self, mut incoming: mpsc::Receiver<Complete>) -> Result<(), Failed> {
        while let Some(complete) = incoming.recv().await {
            let Complete { index, finished, delivery, holders, octets, .. } = complete;
            let has = |lane: &usize| {
                let is_it =
                    |holder: &Holder| holder.target == self.keys[*lane] && holder.recipients.is_none();
                holders.iter().any(is_it)
            };
            let needed: Vec<usize> = self.targets.iter().copied().filter(|lane| !has(lane)).collect();
            let content = match finished.spooled().await {
                Ok(content) => content,
                Err(Unspooled::Later(reason)) => {
                    let _ = self.events.send(Event::Unspooled(index, reason));
                    continue;
                }
                Err(Unspooled::Disk(error)) => return Err(error).during("deliver"),
            };
            let parcel = Arc::new(Parcel { index, delivery, holders, octets, content });
            let came = Event::Came(parcel.clone(), needed.iter().copied().collect());
            if self.events.send(came).is_err() {
                // Nothing can be recorded any more.
                return Ok(());
            }
            for lane in &needed {
                // Where it is the only one, nobody waits for it in vain.
                let patience = (needed.len() > 1).then(|| self.patience[*lane]);
                if !self.give(*lane, parcel.clone(), patience).await {
                    let _ = self.events.send(Event::Left(*lane, index));
                }
            }
        }
        Ok(())
    }

    /// Hands a message to a target, if that has room for it before its others' patience is at its end.
    async fn give(&mut self, lane: usize, parcel: Arc<Parcel>, patience: Option<Duration>) -> bool {
        let Queue { parcels, places } = &self.queues[lane];
        let began = Instant::now();
        let place = match (places.try_acquire(), patience) {
            (Ok(place), _) => Some(place),
            (Err(_), None) => places.acquire().await.ok(),
            (Err(_), Some(patience)) if patience.is_zero() => None,
            (Err(_), Some(patience)) => {
                let place = tokio::time::timeout(patience, places.acquire()).await;
                self.patience[lane] = patience.saturating_sub(began.elapsed());
                place.ok().and_then(Result::ok)
            }
        };
        let Some(place) = place else { return false };
        place.forget();
        parcels.send(parcel).is_ok()
    }
}

type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send + 'a>>;

/// Waits for all of them; the error is the first one's.
async fn all<T>(works: Vec<Work<'_, T>>) -> Result<Vec<T>, Failed> {
    let mut done = Vec::with_capacity(works.len());
    let mut works: Vec<Option<Work<'_, T>>> = works.into_iter().map(Some).collect();
    std::future::poll_fn(|context| {
        for slot in &mut works {
            // What has ended lets go of what it held.
            if let Some(work) = slot
                && let Ready(result) = work.as_mut().poll(context)
            {
                done.push(result);
                *slot = None;
            }
        }
        if works.iter().all(Option::is_none) { Ready(()) } else { Pending }
    })
    .await;
    done.into_iter().collect()
}
