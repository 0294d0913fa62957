//! Leases that a process takes one by one where the state is a database, such as a command that polls once: it is a worker
//! that claims nothing by itself.

use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::lease::{Claimed, Lease, Taken};
use super::postgres::beat::{self, Identity, silence};
use super::postgres::{Claim, Database, Entered, Leases, Server};
use super::{StateError, Store};
use crate::stop::Term;

/// Between two tries for a lease that somebody has.
const PAUSE: Duration = Duration::from_millis(250);

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

    /// Takes the lease on a maildrop, waiting for at most `patience`. Whoever died with it is evicted when it was not heard of
    /// for as long as any worker.
    pub async fn take(&self, maildrop: &Entered, patience: Duration) -> Result<Taken, StateError> {
        let (leases, began) = (&self.0.leases, Instant::now());
        let entered = leases.enter(slice::from_ref(maildrop)).await?;
        loop {
            let (worker, term) = self.identity().await?;
            if let Some(claim) = leases.claim(worker, &entered).await?.first() {
                return Ok(Taken::Own(self.lease(&maildrop.identity, claim, &term)));
            }
            if began.elapsed() >= silence() {
                leases.evict(silence()).await?;
            }
            leases.sweep().await?;
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                let holder = entered.first().map(|maildrop| leases.holder(*maildrop));
                return Ok(Taken::Others(match holder {
                    Some(holder) => holder.await?,
                    None => None,
                }));
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
        let (identity, renewer) = beat::join(&beats, silence()).await?;
        let (id, term) = (identity.id, identity.term.clone());
        beats.drain(id).await?;
        let beating = tokio::spawn(beat::beat(beats, id, silence(), renewer));
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
