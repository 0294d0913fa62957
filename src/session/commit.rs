//! The order of safety, and nowhere else: make durable and visible, record durably, hand the proof on.

use tokio::sync::mpsc;

use crate::delivery::{Finished, Outcome, Sink};
use crate::pop3::MessageNumber;
use crate::state::{Delivery, MaildropKey, Reached, Recorded, Store, Timestamp};
use crate::text::Shown;

use super::trouble::{Aborted, During};

/// Messages that wait for the target at once; beyond that, downloading waits too.
pub const WAITING: usize = 256;

/// A message that came in whole.
#[derive(Debug)]
pub struct Complete {
    /// Its place in the listing.
    pub index: usize,
    /// Its name in this session.
    pub number: MessageNumber,
    /// The message in the target, not visible yet.
    pub finished: Finished,
    /// What is recorded of it once it is delivered.
    pub delivery: Delivery,
    /// Octets that came in.
    pub octets: u64,
}

/// What became of a message.
#[derive(Debug)]
pub enum Result {
    /// Delivered and recorded; only the proof allows its deletion.
    Recorded(Recorded<Done>),
    /// The target does not have it, and why.
    Declined {
        /// Its place in the listing.
        index: usize,
        /// For the user.
        reason: String,
    },
}

/// A message that is delivered and recorded.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Its place in the listing.
    pub index: usize,
    /// Its name in this session.
    pub number: MessageNumber,
    /// Octets that came in.
    pub octets: u64,
    /// The identical message had been delivered before.
    pub already_there: bool,
}

/// Where messages are delivered and recorded.
pub struct Commit<'a> {
    /// The target.
    pub sink: &'a Sink,
    /// The store.
    pub store: &'a Store,
    /// The maildrop in the store.
    pub maildrop: MaildropKey,
    /// The time of the poll.
    pub now: Timestamp,
    /// The account's name, for the log.
    pub account: &'a str,
    /// How the target is shown.
    pub target: String,
}

impl Commit<'_> {
    /// Commits what comes in until the sender is dropped; a batch is whatever has gathered while the one before was
    /// being committed, so that the slower the disk, the more messages share a flush.
    pub async fn run(
        &self,
        mut complete: mpsc::Receiver<Complete>,
        results: mpsc::UnboundedSender<Result>,
    ) -> std::result::Result<(), Aborted> {
        let mut marked = false;
        let mut batch = Vec::new();
        let most = self.sink.most_at_once().min(WAITING);
        while complete.recv_many(&mut batch, most).await > 0 {
            if !marked {
                self.store.publishing(self.maildrop).await.during("write the state")?;
                marked = true;
            }
            self.batch(std::mem::take(&mut batch), &results).await?;
        }
        Ok(())
    }

    async fn batch(
        &self,
        batch: Vec<Complete>,
        results: &mpsc::UnboundedSender<Result>,
    ) -> std::result::Result<(), Aborted> {
        let (mut rest, mut finished) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Complete { index, number, finished: message, delivery, octets } in batch {
            finished.push(message);
            rest.push((delivery, Done { index, number, octets, already_there: false }));
        }
        let outcomes = self.sink.commit(finished).await.during("deliver")?;
        let mut deliveries = Vec::with_capacity(rest.len());
        let mut reached = Vec::new();
        let mut told = Vec::new();
        for ((delivery, done), outcome) in rest.into_iter().zip(outcomes) {
            let (already_there, declined) = match outcome {
                Outcome::Delivered => (false, None),
                Outcome::AlreadyThere => (true, None),
                Outcome::Later(reason) | Outcome::Refused(reason) => (false, Some(reason)),
                Outcome::Partly { delivered, reason, others: _ } => {
                    reached.push(Reached {
                        uid: delivery.uid.clone(),
                        ordinal: delivery.ordinal,
                        octets: delivery.octets,
                        recipients: delivered,
                        reason: reason.clone(),
                    });
                    (false, Some(reason))
                }
                Outcome::NotTried => continue,
            };
            let what =
                declined.as_deref().unwrap_or(if already_there { "already there" } else { "delivered" });
            // What is declined is told again, louder, if that is news.
            log::info!(
                "{}: {}: {} octets: {}: {what}",
                self.account,
                Shown(delivery.uid.as_bytes()),
                done.octets,
                self.target
            );
            match declined {
                Some(reason) => told.push(Result::Declined { index: done.index, reason }),
                None => deliveries.push((delivery, Done { already_there, ..done })),
            }
        }
        if !reached.is_empty() {
            let reached = self.store.reached(self.maildrop, self.now, reached).await;
            reached.during("record who has a message")?;
        }
        for declined in told {
            // The session is gone if nobody listens; the message is fetched again then.
            let _ = results.send(declined);
        }
        let recorded = self
            .store
            .record(self.maildrop, self.now, deliveries)
            .await
            .during("record what was delivered")?;
        for proof in recorded {
            let _ = results.send(Result::Recorded(proof));
        }
        match self.sink.failure() {
            Some(error) => Err(error).during("deliver"),
            None => Ok(()),
        }
    }
}

/// Makes what is recorded of a message.
pub fn delivery(
    uid: crate::pop3::UniqueId,
    ordinal: u32,
    octets: u64,
    header: [u8; 32],
    now: Timestamp,
) -> Delivery {
    Delivery { uid, ordinal, octets, header: Some(header), delivered_at: Some(now) }
}
