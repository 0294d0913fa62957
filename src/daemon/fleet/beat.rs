//! The heartbeat of a worker, and the time for which it may use what it holds.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::clock::since_boot;
use crate::state::StateError;
use crate::state::postgres::{Leases, process_name};
use crate::stop::{Renewer, Term, term};

/// The longest pause between two heartbeats.
const PAUSE: Duration = Duration::from_secs(5);

/// A worker's place among the living.
#[derive(Debug)]
pub struct Identity {
    pub id: i64,
    /// Over once the worker was not heard of for too long, or was evicted.
    pub term: Term,
}

/// Gives for how long what is held may be used, of the time after which others evict: what is begun by then has a quarter
/// of it to come to its end.
fn usable(silence: Duration) -> Duration {
    silence / 4 * 3
}

/// Enters a worker, and begins its term.
pub async fn join(leases: &Leases, silence: Duration) -> Result<(Identity, Renewer), StateError> {
    // Counted from before it is heard of: the database counts from later.
    let before = since_boot();
    let id = leases.join(&process_name()).await?;
    let (renewer, term) = term(before + usable(silence));
    Ok((Identity { id, term }, renewer))
}

/// Says again and again that a worker lives, and lets its term last as long as it is heard of. Returns when it is evicted.
///
/// A worker that hears nothing must not be taken for one that works: where only its own words arrive, it says no more until
/// it has heard something, and is evicted.
pub async fn beat(leases: Leases, id: i64, silence: Duration, renewer: Renewer) {
    let pause = PAUSE.min(silence / 6);
    let mut hears = true;
    loop {
        sleep(pause).await;
        let before = since_boot();
        // One that hangs is not waited for: the next may find another connection.
        let said = timeout(silence / 3, async {
            match hears || leases.lives(id).await? {
                true => leases.beat(id).await,
                false => Ok(false),
            }
        });
        let said = said.await;
        hears = matches!(said, Ok(Ok(_)));
        match said {
            Ok(Ok(true)) => renewer.renew(before + usable(silence)),
            Ok(Ok(false)) => return renewer.end(),
            Ok(Err(error)) => log::debug!("no heartbeat: {error}"),
            Err(_) => log::debug!("no heartbeat: the database does not answer"),
        }
    }
}
