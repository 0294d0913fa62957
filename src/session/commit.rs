//! The order of safety, and nowhere else: make durable and visible, record durably, hand the proof on.

use tokio::sync::{Semaphore, mpsc};

use crate::delivery::{Finished, Others, Outcome, Sink, TargetError};
use crate::message::FileId;
use crate::state::spending::Spending;
use crate::state::{
    Delivery, HeldKind, Holder, MaildropKey, Reached, Recorded, StateError, Store, Timestamp, Unclaimed,
};
use crate::stop::Stop;
use crate::text::Shown;

use super::trouble::{DAY, During, Failed, Trouble};

/// A message that came in whole.
#[derive(Debug)]
pub struct Complete {
    /// Its place in the listing.
    pub index: usize,
    /// The message in the target, not visible yet.
    pub finished: Finished,
    /// What is recorded of it once it is delivered.
    pub delivery: Delivery,
    /// The file that it is if the target has it already.
    pub unclaimed: Option<FileId>,
    /// Who has it from an earlier session.
    pub holders: Vec<Holder>,
    pub octets: u64,
}

/// What became of a message.
#[derive(Debug)]
pub enum Result {
    /// Delivered and recorded; only the proof allows its deletion.
    Recorded(Done, Option<Recorded>),
    /// The target does not have it.
    Declined(Declined),
    /// What was declined at this place in the listing was not the message's trouble but the target's.
    Retracted(usize),
    /// The same, and other targets have it.
    Away(usize),
}

/// A message that the target does not have.
#[derive(Debug)]
pub struct Declined {
    /// Its place in the listing.
    pub index: usize,
    /// Whether it may take it later.
    pub kind: HeldKind,
    pub reason: String,
    /// Its octets, if another target has got it.
    pub reached: Option<u64>,
}

/// A message that is delivered and recorded.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Its place in the listing.
    pub index: usize,
    pub octets: u64,
    /// The identical message had been delivered before.
    pub already_there: bool,
    /// It is not to be deleted.
    pub stays: bool,
}

/// Where messages are delivered and recorded.
pub struct Commit<'a> {
    pub sink: &'a Sink,
    pub store: &'a Store,
    /// The maildrop in the store.
    pub maildrop: MaildropKey,
    /// The time of the poll.
    pub now: Timestamp,
    /// The account's name, for the log.
    pub account: &'a str,
    /// How the target is shown.
    pub target: String,
    /// How it is recorded.
    pub key: &'a str,
    /// By what the target's memory goes in the store, if it has one.
    pub memory: Option<String>,
    /// The budget for what may be uploaded there in a day, and its octets.
    pub budget: Option<(String, u64)>,
    /// Files in the target that belong to no record.
    pub found: Vec<Unclaimed>,
    pub stop: &'a Stop,
}

/// What has become of a batch, of which nothing is recorded yet.
#[derive(Default)]
pub struct Committed {
    pub deliveries: Vec<(Delivery, Done)>,
    pub reached: Vec<Reached>,
    pub declined: Vec<Declined>,
    /// Of those that were declined, here or in batches before: it was not their trouble.
    pub retracted: Vec<usize>,
    /// Why some of it was not tried.
    pub ended: Option<Failed>,
}

impl Commit<'_> {
    /// Commits what comes in until the sender is dropped; a batch is whatever has gathered while the one before was
    /// being committed, so that the slower the disk, the more messages share a flush. What is delivered is recorded
    /// while more is being delivered, as far as the sink allows.
    pub async fn run(
        &self,
        complete: mpsc::Receiver<Complete>,
        results: mpsc::UnboundedSender<Result>,
    ) -> std::result::Result<(), Failed> {
        let (committed, mut gathered) = mpsc::unbounded_channel();
        let unrecorded = Semaphore::new(self.sink.facts().most_unrecorded);
        let delivering = async {
            let committed = committed;
            self.deliver_all(complete, &unrecorded, |batch| committed.send(batch).is_ok()).await
        };
        let recording = async {
            let (mut batches, mut failed) = (Vec::new(), None);
            while gathered.recv_many(&mut batches, usize::MAX).await > 0 {
                let count = batches.len();
                match self.record(&mut batches, &results).await {
                    Ok(()) => unrecorded.add_permits(count),
                    Err(aborted) => {
                        failed.get_or_insert(aborted);
                        unrecorded.close();
                    }
                }
            }
            // What is delivered would be delivered again; a lock may be gone by now.
            if !batches.is_empty() && self.record(&mut batches, &results).await.is_ok() {
                log::info!("{}: what was delivered is recorded after all", self.account);
            }
            failed.map_or(Ok(()), Err)
        };
        let (delivered, recorded) = tokio::join!(delivering, recording);
        recorded.and(delivered)
    }

    /// Delivers what comes in, and hands over what is to be recorded of each batch, as long as that is taken. A place
    /// in `unrecorded` is taken for each, and is given back by who has recorded it.
    pub async fn deliver_all(
        &self,
        mut complete: mpsc::Receiver<Complete>,
        unrecorded: &Semaphore,
        committed: impl Fn(Committed) -> bool,
    ) -> std::result::Result<(), Failed> {
        let mut marked = false;
        // Places of the messages that were put off last, with none between that was not.
        let mut put_off = Vec::new();
        // Closed when nothing can be recorded any more.
        while let Ok(place) = unrecorded.acquire().await {
            let mut batch = Vec::new();
            if complete.recv_many(&mut batch, self.sink.facts().most_at_once).await == 0 {
                break;
            }
            if !marked {
                // Both before the target may have anything that is not recorded.
                let publishing = self.store.publishing(&self.maildrop, self.found.clone());
                let (remembered, published) = tokio::join!(self.remember(), publishing);
                remembered.and(published).during("write the state")?;
                marked = true;
            }
            // Nobody could say later which of these messages are there.
            if !self.sink.facts().recognizes {
                self.store.has_room().await.during("record what is to be delivered")?;
            }
            let batch = self.deliver(batch, &mut put_off).await?;
            let goes_on = batch.ended.is_none();
            place.forget();
            if !committed(batch) || !goes_on {
                break;
            }
        }
        self.spend(&[]).await.during("write the state")
    }

    /// Keeps what a session after this one must know of a mailbox on a server, if this one does not end.
    async fn remember(&self) -> std::result::Result<(), StateError> {
        let Some(name) = self.memory.clone().filter(|_| self.sink.mailbox().is_some()) else { return Ok(()) };
        match self.sink.news() {
            Some(news) => self.store.remember(name, news).await,
            None => Ok(()),
        }
    }

    /// Has octets of a day's budget granted, before any of them is uploaded, and gives back what was not used.
    async fn spend(&self, finished: &[Finished]) -> std::result::Result<(), StateError> {
        let (Some((name, most)), Some(mailbox)) = (self.budget.clone(), self.sink.mailbox()) else {
            return Ok(());
        };
        let Some((octets, unspent)) = mailbox.takes(finished.iter().map(Finished::spooled_octets).sum())
        else {
            return Ok(());
        };
        if octets > 0 || unspent > 0 {
            let day = self.now.div_euclid(DAY);
            let spending = Spending { name, day, most, octets, unspent };
            mailbox.grant(self.store.spend(spending).await?);
        }
        Ok(())
    }

    async fn deliver(
        &self,
        batch: Vec<Complete>,
        put_off: &mut Vec<usize>,
    ) -> std::result::Result<Committed, Failed> {
        let (mut rest, mut finished) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Complete { index, finished: message, delivery, unclaimed, octets, .. } in batch {
            finished.push(message);
            rest.push((delivery, unclaimed, Done { index, octets, already_there: false, stays: false }));
        }
        let mut committed = Committed::default();
        self.spend(&finished).await.during("write the state")?;
        if self.stop.term().is_over() {
            // Somebody else may have the maildrop by now, and deliver these.
            return Err(Failed { doing: "deliver".into(), trouble: Trouble::LeaseLost });
        }
        let outcomes = match self.sink.commit(finished).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.end(&mut committed, error, put_off);
                return Ok(committed);
            }
        };
        for ((delivery, unclaimed, done), outcome) in rest.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Later(_) => put_off.push(done.index),
                Outcome::InDoubt(_) | Outcome::NotTried => {}
                Outcome::Delivered
                | Outcome::Filed(_)
                | Outcome::Merged(_)
                | Outcome::AlreadyThere
                | Outcome::Unknown(_)
                | Outcome::Refused(_)
                | Outcome::Partly { .. } => {
                    put_off.clear();
                }
            }
            self.sort(&mut committed, (delivery, unclaimed, done), outcome);
        }
        if let Some(error) = self.sink.failure() {
            self.end(&mut committed, error, put_off);
        }
        Ok(committed)
    }

    /// Notes what became of one message, in the log too.
    fn sort(
        &self,
        committed: &mut Committed,
        (mut delivery, unclaimed, mut done): (Delivery, Option<FileId>, Done),
        outcome: Outcome,
    ) {
        let declined = match outcome {
            Outcome::Delivered => None,
            Outcome::Filed(file) => {
                delivery.files = vec![file];
                None
            }
            Outcome::Merged(why) => {
                self.leave(&mut delivery, &mut done, &why);
                None
            }
            Outcome::AlreadyThere => {
                if unclaimed.is_some() {
                    delivery.files = unclaimed.into_iter().collect();
                }
                done.already_there = true;
                None
            }
            Outcome::Later(reason) | Outcome::InDoubt(reason) => Some((HeldKind::Later, reason)),
            Outcome::Unknown(reason) => Some((HeldKind::Doubtful, reason)),
            Outcome::Refused(reason) => Some((HeldKind::Refused, reason)),
            Outcome::Partly { delivered, reason, others } => {
                committed.reached.push(self.reached(&delivery, delivered, reason.clone()));
                let kind = match others {
                    Others::Later => HeldKind::Later,
                    Others::Refused => HeldKind::Refused,
                };
                Some((kind, reason))
            }
            Outcome::NotTried => {
                committed.ended = Some(Failed { doing: "deliver".into(), trouble: Trouble::Stopped });
                return;
            }
        };
        let what = match &declined {
            Some((_, reason)) => reason.as_str(),
            None if done.already_there => "already there",
            None => "delivered",
        };
        // What is declined is told again, louder, if that is news.
        log::info!(
            "{}: {}: {} octets: {}: {what}",
            self.account,
            Shown(delivery.uid.as_bytes()),
            done.octets,
            self.target
        );
        match declined {
            Some((kind, reason)) => {
                committed.declined.push(Declined { index: done.index, kind, reason, reached: None });
            }
            None => committed.deliveries.push((delivery, done)),
        }
    }

    /// Says which recipients have a message.
    fn reached(&self, delivery: &Delivery, recipients: Vec<String>, reason: String) -> Reached {
        let recipients = Some(recipients);
        Reached {
            uid: delivery.uid.clone(),
            ordinal: delivery.ordinal,
            octets: delivery.octets,
            content: delivery.fingerprint.map(|whole| whole.content),
            identity: delivery.fingerprint.map(|whole| whole.identity),
            targets: vec![Holder { target: self.key.to_owned(), recipients, file: None }],
            reason,
        }
    }

    /// Notes that a message is delivered, and stays where it came from.
    fn leave(&self, delivery: &mut Delivery, done: &mut Done, why: &str) {
        log::warn!("{}: {}: {}: {why}", self.account, Shown(delivery.uid.as_bytes()), self.target);
        delivery.keep();
        done.stays = true;
    }

    /// Notes that the target failed, and of which messages it turns out not to have been the trouble.
    fn end(&self, committed: &mut Committed, error: TargetError, put_off: &mut Vec<usize>) {
        let first = put_off.len().saturating_sub(self.sink.retracted());
        committed.retracted = put_off.split_off(first);
        let failed: std::result::Result<(), _> = Err(error).during("deliver");
        committed.ended = failed.err();
    }

    /// Records batches and empties the list; after an error it has what is not recorded.
    async fn record(
        &self,
        batches: &mut Vec<Committed>,
        results: &mpsc::UnboundedSender<Result>,
    ) -> std::result::Result<(), Failed> {
        for declined in batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.declined)) {
            // The session is gone if nobody listens; the message is fetched again then.
            let _ = results.send(Result::Declined(declined));
        }
        for retracted in batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.retracted)) {
            let _ = results.send(Result::Retracted(retracted));
        }
        let reached: Vec<_> = batches.iter().flat_map(|batch| batch.reached.iter().cloned()).collect();
        if !reached.is_empty() {
            let reached = self.store.reached(&self.maildrop, self.now, reached).await;
            reached.during("record who has a message")?;
        }
        let deliveries: Vec<_> = batches.iter().flat_map(|batch| batch.deliveries.iter().cloned()).collect();
        for recorded in record(self.store, &self.maildrop, self.now, deliveries).await? {
            // If nobody listens, the message is deleted by a later session.
            let _ = results.send(recorded);
        }
        let ended = batches.drain(..).find_map(|batch| batch.ended);
        ended.map_or(Ok(()), Err)
    }
}

/// Records durably what was delivered, and gives the result of each.
pub async fn record(
    store: &Store,
    maildrop: &MaildropKey,
    now: Timestamp,
    deliveries: Vec<(Delivery, Done)>,
) -> std::result::Result<Vec<Result>, Failed> {
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let listed = |(delivery, done): (Delivery, Done)| ((done.index, delivery), done);
    let (listed, done): (Vec<_>, Vec<_>) = deliveries.into_iter().map(listed).unzip();
    let proofs = store.record_listed(maildrop, now, listed).await.during("record what was delivered")?;
    Ok(done.into_iter().zip(proofs).map(|(done, proof)| Result::Recorded(done, proof)).collect())
}
