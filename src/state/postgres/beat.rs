//! The heartbeat of a worker, and the time for which it may use what it holds.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::leases::{Leases, process_name};
use crate::clock::since_boot;
use crate::state::StateError;
use crate::stop::{Renewer, Term, term};

/// A worker is evicted when it was not heard of for so long.
const SILENCE: Duration = Duration::from_secs(30);

/// No shorter time is one, since statements take theirs, and no longer, since mail waits.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// The variable by which all workers of a fleet may agree on another time, such as `2s`: for tests and drills.
const SILENCE_VARIABLE: &str = "POSTRIDER_FLEET_SILENCE";

/// Gives the time after which a worker is evicted.
pub fn silence() -> Duration {
    let own = std::env::var(SILENCE_VARIABLE).ok().and_then(|text| humantime::parse_duration(&text).ok());
    own.map_or(SILENCE, |own| own.clamp(SHORTEST, LONGEST))
}

/// The longest pause between two heartbeats.
const PAUSE: Duration = Duration::from_secs(5);

/// A worker's place among the living.
#[derive(Debug)]
pub struct Identity {
    pub id: i64,
    /// Over once the worker was not heard of for too long, or was evicted.
    pub term: Term,
    well_since: watch::Receiver<Duration>,
}

/// What heartbeats change of an [`Identity`].
#[derive(Debug)]
pub struct Pulse {
    renewer: Renewer,
    /// By [`since_boot`].
    well_since: watch::Sender<Duration>,
}

impl Identity {
    /// Says for how long each heartbeat has been answered: whoever was away itself has not heard of the others either.
    pub fn well_for(&self) -> Duration {
        since_boot().saturating_sub(*self.well_since.borrow())
    }
}

/// Gives for how long what is held may be used, of the time after which others evict: what is begun by then has a quarter
/// of it to come to its end.
fn usable(silence: Duration) -> Duration {
    silence / 4 * 3
}

/// Enters a worker, and begins its term.
pub async fn join(leases: &Leases, silence: Duration) -> Result<(Identity, Pulse), StateError> {
    // Counted from before it is heard of: the database counts from later.
    let before = since_boot();
    let id = leases.join(&process_name()).await?;
    let (renewer, term) = term(before + usable(silence));
    let (sender, well_since) = watch::channel(before);
    Ok((Identity { id, term, well_since }, Pulse { renewer, well_since: sender }))
}

/// Says again and again that a worker lives, and lets its term last as long as it is heard of. Returns when it is evicted.
///
/// A worker that hears nothing must not be taken for one that works: where only its own words arrive, it says no more until
/// it has heard something, and is evicted.
pub async fn beat(leases: Leases, id: i64, silence: Duration, pulse: Pulse) {
    let pause = PAUSE.min(silence / 6);
    let Pulse { renewer, well_since } = pulse;
    let (mut hears, mut last) = (true, since_boot());
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
        // The process may have been stopped meanwhile, or the machine suspended.
        if !hears || before.saturating_sub(last) > silence / 2 {
            well_since.send_replace(since_boot());
        }
        last = before;
        match said {
            Ok(Ok(true)) => renewer.renew(before + usable(silence)),
            Ok(Ok(false)) => return renewer.end(),
            Ok(Err(error)) => log::debug!("no heartbeat: {error}"),
            Err(_) => log::debug!("no heartbeat: the database does not answer"),
        }
    }
}
