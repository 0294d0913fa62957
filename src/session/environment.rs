//! What all sessions of a process share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::news::Changes;
use super::report::Host;
use super::told::{self, Unwritten};
use crate::clock::WallClock;
use crate::config::account::Interval;
use crate::config::{Account, Config, Notify, Postgres};
use crate::credential::oauth2::Renewals;
use crate::credential::{self, CredentialError};
use crate::delivery::TargetError;
use crate::disk::Disk;
use crate::failure::{Class, Failure};
use crate::net::Connector;
use crate::seal::Ring;
use crate::secret::Ask;
use crate::state::postgres::{Accounts, Database, Entered, Roll, Server, Vault};
use crate::state::tokens::Shelf;
use crate::state::{Claimed, Guest, Lease, StateError, Store, Taken, Told};
use crate::stop::Stop;

/// Hooks after sessions, and notices, that are under way at once: as many as there are sessions where nothing else is
/// configured.
const AT_ONCE: usize = 64;

/// What all sessions of a process share.
#[derive(Debug, Clone)]
pub struct Environment {
    pub store: Store,
    /// The state file's path; leases lie beside it.
    pub state: PathBuf,
    /// Where tokens are kept.
    pub shelf: Shelf,
    /// The renewals of tokens that are under way.
    pub renewals: Renewals,
    pub connector: Connector,
    pub disk: Disk,
    /// Once it was asked, no new message is begun.
    pub stop: Stop,
    /// Whether a person is there who can be asked for a password.
    pub ask: Ask,
    /// How failures that last are told, if they are.
    pub notify: Option<Notify>,
    pub beside: BesidePolls,
    /// What is known of the account's host.
    pub host: Host,
    pub clock: WallClock,
    /// The lease, where a worker has claimed it already.
    pub claimed: Option<Arc<Claimed>>,
    /// By what leases are taken where the state is a database.
    pub guest: Option<Guest>,
    /// The keys of its secrets.
    pub ring: Arc<Ring>,
}

impl Environment {
    /// Gives what a process with this state file has: nobody to be asked for a password or to be told of failures, and
    /// nobody who stops it.
    pub fn new(state: PathBuf) -> Self {
        Self::with(Store::open(&state), state)
    }

    fn with(store: Store, state: PathBuf) -> Self {
        Self {
            store,
            shelf: Shelf::Beside(state.clone()),
            renewals: Renewals::default(),
            state,
            connector: Connector::default(),
            disk: Disk::default(),
            stop: Stop::default(),
            ask: Ask::Never,
            notify: None,
            beside: BesidePolls::default(),
            host: Host::default(),
            clock: WallClock::System,
            claimed: None,
            guest: None,
            ring: Arc::default(),
        }
    }

    /// Gives what a process with this configuration has, see [`Environment::new`].
    ///
    /// # Errors
    ///
    /// The database's password, or the keys of its secrets, cannot be had.
    pub async fn of_config(config: &Config) -> Result<Self, Box<Failure>> {
        let state = config.state.clone();
        let Some(database) = &config.database else { return Ok(Self::new(state)) };
        let server = opened(database).await?;
        let store = Store::connect(server.clone());
        let ring = Arc::new(ring(database).await?);
        let shelf = shelf(database, &state, server.clone(), &ring);
        // What one of its workers writes down the others compare with the time.
        let clock = server.clock();
        let guest = Some(Guest::new(store.clone(), server));
        Ok(Self { guest, shelf, ring, clock, ..Self::with(store, state) })
    }

    /// Gives where tokens are kept: in a database that has keys to seal them with, else beside the state file.
    ///
    /// # Errors
    ///
    /// The database's password, or the keys of its secrets, cannot be had.
    pub async fn shelf(config: &Config) -> Result<Shelf, Box<Failure>> {
        match &config.database {
            Some(database) if !database.secrets_keys.is_empty() => {
                let server = opened(database).await?;
                Ok(shelf(database, &config.state, server, &Arc::new(ring(database).await?)))
            }
            Some(_) | None => Ok(Shelf::Beside(config.state.clone())),
        }
    }

    /// Gives the accounts of the table of its database, if the configuration says what rows of one may be.
    pub fn roll(&self, config: &Config) -> Option<Roll> {
        let (server, fleet) = (self.store.server()?, config.fleet.as_ref()?);
        let accounts = Accounts::new(Database::new(server.clone()), &fleet.accounts);
        Some(Roll::new(accounts, fleet.clone(), self.ring.clone()))
    }

    /// Gives what sessions to come have by a configuration that was read again: the keys of its secrets may be others.
    ///
    /// # Errors
    ///
    /// They cannot be had.
    pub async fn again(&self, config: &Config) -> Result<Self, Box<Failure>> {
        let (Some(server), Some(database)) = (self.store.server(), &config.database) else {
            return Ok(self.clone());
        };
        let ring = Arc::new(ring(database).await?);
        let shelf = shelf(database, &self.state, server.clone(), &ring);
        Ok(Self { shelf, ring, ..self.clone() })
    }

    /// Reads the certificates that are trusted again, for sessions to come: in months they change under a process.
    pub fn read_certificates(&mut self) {
        self.connector = Connector::default();
    }

    /// Gives a session of an account what it uses: what hangs for longer than the account's time limit ends it, and no
    /// other.
    pub(super) fn of(&self, account: &Account) -> Result<Self, TargetError> {
        let disk = self.disk.of_session(&account.maildrop_id, account.timeout.max(SLOW_DISK))?;
        let store = self.store.within(account.timeout.max(SLOW_STATE));
        Ok(Self { disk, store, ..self.clone() })
    }

    /// Takes the lease on an account's maildrop, waiting for at most `patience`.
    pub(super) async fn lease(&self, account: &Account, patience: Duration) -> Result<Taken, StateError> {
        if let Some(claimed) = &self.claimed {
            return Ok(Taken::Own(Lease::of(claimed.clone())));
        }
        let Some(guest) = &self.guest else {
            let lease = Lease::take(&self.state, &account.maildrop_id, patience).await?;
            return Ok(lease.map_or(Taken::Others(None), Taken::Own));
        };
        // Where no worker has polled it yet, one does as soon as it may.
        let wait = match account.interval {
            Interval::Every(_) => Some(Duration::ZERO),
            Interval::Manual => None,
        };
        guest.take(&Entered::of(account, wait), patience).await
    }

    /// Gives what is used under a lease: nothing more is said or written once it is lost.
    pub fn under(self, lease: &Lease) -> Self {
        let Some(claimed) = lease.claimed() else { return self };
        let term = claimed.term();
        Self {
            store: self.store.under(Some(claimed.token())).ending(term),
            connector: self.connector.under(term),
            disk: self.disk.under(term),
            stop: self.stop.under(term.clone()),
            ..self
        }
    }

    /// Ends its use. Work that hangs keeps the lease until it has ended: whatever it does then, nobody else is at the
    /// maildrop.
    pub(super) fn leave(self, lease: Lease) {
        let lease = Arc::new(lease);
        if self.store.is_silent() {
            self.store.keep_until_settled(lease.clone());
        }
        self.disk.leave(lease);
    }
}

/// Gives what it takes to get into a database: its password comes from where the configuration says that it is.
///
/// # Errors
///
/// The password cannot be had.
pub async fn server(database: &Postgres) -> Result<Server, CredentialError> {
    let password = match &database.password {
        Some(source) => Some(credential::password(source, STATE, "postrider", database.timeout).await?),
        None => None,
    };
    Ok(Server::new(database.clone(), password))
}

async fn opened(database: &Postgres) -> Result<Server, Box<Failure>> {
    server(database).await.map_err(|error| {
        let failure = unusable("get the database's password", error.to_string(), error.class());
        let said = error.said().map(<[u8]>::to_vec);
        Box::new(Failure { said, hint: error.hint(STATE), ..failure })
    })
}

/// Gives where tokens are kept: in a database that has keys to seal them with, else beside the state file.
fn shelf(database: &Postgres, state: &Path, server: Server, ring: &Arc<Ring>) -> Shelf {
    match database.secrets_keys.is_empty() {
        true => Shelf::Beside(state.to_owned()),
        false => Shelf::In(Vault::new(Database::new(server), ring.clone())),
    }
}

/// Gives the keys of its secrets.
async fn ring(database: &Postgres) -> Result<Ring, Box<Failure>> {
    let ring = credential::ring(&database.secrets_keys, database.timeout).await;
    ring.map_err(|error| {
        let failure = unusable("open what is sealed", error.to_string(), error.class());
        Box::new(Failure { hint: error.hint(), ..failure })
    })
}

fn unusable(doing: &str, what: String, class: Class) -> Failure {
    Failure {
        account: STATE.to_owned(),
        class,
        host: String::new(),
        doing: doing.to_owned(),
        what,
        said: None,
        hint: None,
    }
}

/// What the state is called where accounts have their names.
const STATE: &str = "state";

/// A busy disk may take this long for one operation, however short the account's time limit is.
const SLOW_DISK: Duration = Duration::from_secs(5);

/// And the state this long, for which another process may have to be waited.
const SLOW_STATE: Duration = Duration::from_secs(12);

/// What sessions of a process share for what is done beside polls: what was told and is not written yet, and places.
#[derive(Debug, Clone, Default)]
pub struct BesidePolls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What was told and could not be written: what has no state file to be remembered in is told once all the same.
    unwritten: Unwritten,
    /// For hooks after sessions and for notices.
    places: Semaphore,
}

impl Default for Shared {
    fn default() -> Self {
        Self { unwritten: Unwritten::default(), places: Semaphore::new(AT_ONCE) }
    }
}

impl BesidePolls {
    /// Puts what could not be written in the place of what was.
    pub(super) fn merged(&self, account: &str, written: Vec<Told>) -> Vec<Told> {
        told::merged(written, self.0.unwritten.of(account))
    }

    /// Remembers what cannot be written.
    pub(super) fn keep(&self, account: &str, changes: Changes) {
        self.0.unwritten.keep(account, changes);
    }

    /// Forgets what is written by now.
    pub(super) fn forget(&self, account: &str) {
        self.0.unwritten.forget(account);
    }

    /// Waits for a place, first come, first served.
    pub(super) async fn place(&self) -> SemaphorePermit<'_> {
        self.0.places.acquire().await.expect("nobody closes it")
    }
}
