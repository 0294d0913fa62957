//! Messages that a server is given one after the other, and when it counts as the server's trouble that it takes none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::spool::{Finished, Spooled, Unspooled};
use super::{Outcome, TargetError};
use crate::lock::lock;
use crate::stop::Stop;

/// Messages in a row that are put off before it is the target's trouble and not theirs.
const MOST: usize = 5;

/// What is wrong with the server of a target, as far as messages have shown it.
#[derive(Debug, Default)]
pub struct Faults {
    pub stalls: Stalls,
    /// The server refused a log-in that was made anew.
    pub turned_away: AtomicBool,
    /// Why the last commit ended before its last message.
    pub failure: Mutex<Option<TargetError>>,
}

/// Counts messages that were put off, with none between that was not.
#[derive(Debug, Default)]
pub struct Stalls(AtomicUsize);

impl Stalls {
    /// Counts one more, and says whether it is the target's trouble now.
    pub fn add(&self) -> bool {
        self.0.fetch_add(1, Relaxed) + 1 >= MOST
    }

    pub fn are_many(&self) -> bool {
        self.0.load(Relaxed) >= MOST
    }

    pub fn end(&self) {
        self.0.store(0, Relaxed);
    }

    /// Gives how many of the last messages count as not tried: see [`super::Sink::retracted`].
    pub fn retracted(&self) -> usize {
        let stalls = self.0.load(Relaxed);
        if stalls < MOST { 0 } else { stalls }
    }
}

/// Delivers messages one after the other, until one is not and that is the target's trouble, which is left in `failure`.
pub(super) async fn one_by_one<D: Future<Output = Result<Outcome, TargetError>>>(
    finished: Vec<Finished>,
    stop: &Stop,
    failure: &Mutex<Option<TargetError>>,
    deliver: impl Fn(Arc<Spooled>) -> D,
) -> Result<Vec<Outcome>, TargetError> {
    let count = finished.len();
    let mut outcomes = Vec::with_capacity(count);
    for message in finished {
        if stop.is_asked() || lock(failure).is_some() {
            break;
        }
        let delivered = match message.spooled().await {
            Ok(message) => deliver(Arc::new(message)).await,
            Err(Unspooled::Later(reason)) => Ok(Outcome::Later(reason)),
            Err(Unspooled::Disk(error)) => Err(error),
        };
        match delivered {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) if outcomes.is_empty() => return Err(error),
            // What was delivered before must be recorded.
            Err(error) => {
                *lock(failure) = Some(error);
                break;
            }
        }
    }
    outcomes.resize(count, Outcome::NotTried);
    Ok(outcomes)
}
