//! Leases that a process takes one by one where the state is a database, such as a command that polls once: it is a worker
//! that claims nothing by itself.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::claim::{Claimed, Leaseholder};
use super::lease::{Lease, Taken};
use super::postgres::beat::{self, Identity, silence};
use super::postgres::{Claim, Database, Entered, Leases, Server};
use super::{StateError, Store};
use crate::clock::WallClock;
use crate::stop::Term;

/// Between two tries for a lease that somebody has.
const PAUSE: Duration = Duration::from_millis(250);

/// Whoever is evicted leaves its maildrops this much later at most.
const LATER: Duration = Duration::from_secs(2);

/// A process among the workers. Cheap to clone; once the last is dropped, nobody knows it any more.
#[derive(Clone)]
pub struct Guest(Arc<Shared>);

struct Shared {
    store: Store,
    server: Server,
    leases: Leases,
    joined: Mutex<Option<Joined>>,
}

impl Guest {
    /// `store` is that of the same database: what is given back goes through it, so that its end waits for that.
    pub fn new(store: Store, server: Server) -> Self {
        let leases = Leases::new(Database::new(server.clone()));
        Self(Arc::new(Shared { store, server, leases, joined: Mutex::default() }))
    }

    /// Takes the lease on a maildrop, waiting for at most `patience`; longer for whoever was not heard of meanwhile, until it is
    /// evicted.
    pub async fn take(&self, maildrop: &Entered, patience: Duration) -> Result<Taken, StateError> {
        let (leases, began) = (&self.0.leases, Instant::now());
        let entered = leases.enter(slice::from_ref(maildrop)).await?;
        let mut seen = Seen::default();
        loop {
            let (worker, term) = self.identity().await?;
            if let Some(claim) = leases.claim(worker, &entered).await?.first() {
                return Ok(Taken::Own(self.lease(&maildrop.identity, claim, &term)));
            }
            for number in &entered {
                seen.note(leases.holder(*number).await?, &maildrop.identity);
            }
            let waited = began.elapsed();
            if waited >= silence() {
                leases.evict(silence()).await?;
            }
            leases.sweep().await?;
            let patience = match seen.lives {
                true => patience,
                false => patience.max(silence() + LATER),
            };
            let left = patience.saturating_sub(waited);
            if left.is_zero() {
                return Ok(Taken::Others(seen.holder));
            }
            tokio::time::sleep(PAUSE.min(left)).await;
        }
    }

    /// Gives who this process is among the workers, and for how long.
    async fn identity(&self) -> Result<(i64, Term), StateError> {
        let mut joined = self.0.joined.lock().await;
        if let Some(Joined { identity, .. }) =
            joined.as_ref().filter(|joined| !joined.identity.term.is_over())
        {
            return Ok((identity.id, identity.term.clone()));
        }
        // One of its own, so that no statement is waited for before a heartbeat.
        let beats = Leases::new(Database::new(self.0.server.clone()));
        let (identity, pulse) = beat::join(&beats, silence()).await?;
        let (id, term) = (identity.id, identity.term.clone());
        beats.drain(id).await?;
        let beating = tokio::spawn(beat::beat(beats, id, silence(), pulse));
        *joined = Some(Joined { identity, beating, store: self.0.store.clone() });
        Ok((id, term))
    }

    fn lease(&self, identity: &str, claim: &Claim, term: &Term) -> Lease {
        let (store, maildrop, token) = (self.0.store.clone(), Arc::from(identity), claim.token);
        Lease::of(Arc::new(Claimed::new(token, term.own(), move || store.release(maildrop, token))))
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest({})", self.0.server.place())
    }
}

/// Who was seen to have a lease that is waited for.
#[derive(Default)]
struct Seen {
    holder: Option<Leaseholder>,
    /// How long ago it was heard of, when it was looked last.
    heard: Duration,
    /// It was heard of since, or another has it.
    lives: bool,
}

impl Seen {
    fn note(&mut self, found: Option<(String, Duration)>, maildrop: &str) {
        let Some((worker, heard)) = found else { return };
        let left = i64::try_from(silence().saturating_sub(heard).as_secs()).unwrap_or(i64::MAX);
        let until = WallClock::System.now().saturating_add(left);
        let is_first = self.holder.is_none();
        self.lives |= !is_first
            && (heard < self.heard || self.holder.as_ref().is_some_and(|known| known.worker != worker));
        let holder = Leaseholder { worker, until };
        if is_first {
            log::info!("{maildrop}: the worker {} has it; {}", holder.worker, holder.until());
        }
        (self.holder, self.heard) = (Some(holder), heard);
    }
}

/// Its place among the workers; dropped = it has left, and has no lease any more.
struct Joined {
    identity: Identity,
    beating: JoinHandle<()>,
    store: Store,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.beating.abort();
        self.store.leave(self.identity.id);
    }
}
