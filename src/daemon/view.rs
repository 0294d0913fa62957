//! What a daemon shows of its accounts to whoever looks from outside, by a file or over HTTP.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::Account;
use crate::lock::lock;
use crate::session::Report;
use crate::state::outlook::{MANY, Seen};
use crate::state::{StateError, Store};
use crate::status::Snapshot;
use crate::status::metrics::{self, Counts, Format};

/// However many look, the store is read once in so long.
const FRESH: Duration = Duration::from_secs(1);

/// How long the store may take to answer whoever looks.
const PATIENCE: Duration = Duration::from_secs(10);

/// A view of the accounts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One of its own, so that no session waits for whoever looks.
    store: Store,
    state: PathBuf,
    shown: Mutex<Shown>,
    /// The last look. Who comes meanwhile waits for it.
    last: tokio::sync::Mutex<Option<(Instant, Seen, Arc<Snapshot>)>>,
}

#[derive(Debug, Default)]
struct Shown {
    accounts: Arc<[Arc<Account>]>,
    /// Why some of them cannot be used here.
    unusable: Arc<HashMap<String, String>>,
    counts: Counts,
}

impl View {
    pub fn new(store: &Store, state: &Path) -> Self {
        let store = match store.server() {
            Some(server) => Store::connect(server.clone()),
            None => Store::open_read_only(state),
        }
        .within(PATIENCE);
        let (shown, last) = Default::default();
        Self(Arc::new(Inner { store, state: state.to_owned(), shown, last }))
    }

    /// Shows these accounts, and counts for those that are enabled.
    pub fn set_accounts(&self, accounts: &[Arc<Account>]) {
        let mut shown = lock(&self.0.shown);
        shown.accounts = accounts.into();
        if self.0.store.server().is_some() && accounts.len() as u64 > MANY {
            return shown.counts.set_together();
        }
        let enabled = accounts.iter().filter(|account| account.enabled);
        shown.counts.set_accounts(enabled.map(|account| account.name.as_str()));
    }

    /// Says why accounts cannot be used here, by their names.
    pub fn set_unusable(&self, why: HashMap<String, String>) {
        lock(&self.0.shown).unusable = Arc::new(why);
    }

    /// Counts a poll that ended.
    pub fn note(&self, report: &Report) {
        lock(&self.0.shown).counts.note(report);
    }

    /// Reads how all accounts stand.
    pub async fn snapshot(&self, seen: Seen) -> Result<Arc<Snapshot>, StateError> {
        let mut last = self.0.last.lock().await;
        if let Some((at, counted, snapshot)) = &*last
            && at.elapsed() < FRESH
            && (*counted == seen || *counted == Seen::Counted)
        {
            return Ok(snapshot.clone());
        }
        let snapshot = Arc::new(self.look(seen).await?);
        *last = Some((Instant::now(), seen, snapshot.clone()));
        Ok(snapshot)
    }

    /// Writes the metrics; without a snapshot the counts alone.
    pub fn metrics(&self, snapshot: Option<&Snapshot>, format: Format) -> String {
        metrics::text(snapshot, &lock(&self.0.shown).counts, format)
    }

    /// Reads how all accounts stand now.
    pub async fn look(&self, seen: Seen) -> Result<Snapshot, StateError> {
        let (accounts, unusable) = {
            let shown = lock(&self.0.shown);
            (shown.accounts.clone(), shown.unusable.clone())
        };
        let mut snapshot = Snapshot::take(&self.0.store, &self.0.state, &accounts, seen).await?;
        snapshot.note_unusable(&unusable);
        Ok(snapshot)
    }
}
