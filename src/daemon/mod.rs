//! The daemon: polls many accounts, for months, without anyone looking.
//!
//! [`run`] is one loop over what can happen: a session ends, somebody asks for something, it is time. What to begin is
//! decided by [`schedule`], which knows no clock; [`clock`] is the one it goes by. Each session is a task of its own, so
//! that a defect met by one ends that one. [`systemd`] hears how it goes; what clients ask for
//! stands in the store, and [`wake`] says so.
//!
//! | file | what it is |
//! |---|---|
//! | `schedule`, `clock` | what is due, as a pure function of time; the time |
//! | `ended` | what follows the end of a session: its account's next turn, what is told of it |
//! | `reload` | a configuration read again, and what is known of earlier polls |
//! | `fleet`, `claims` | the same as one of several workers that share a database |
//! | `signals`, `wake`, `systemd` | what asks it for something, and who hears how it goes |
//! | `view`, `metrics`, `web` | what it shows: in a file, and over HTTP |

mod claims;
pub mod clock;
mod ended;
mod fleet;
pub mod metrics;
mod reload;
pub mod schedule;
pub mod signals;
pub mod systemd;
mod view;
pub mod wake;
mod web;

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};

use crate::config::{Account, Config, ConfigError, Listen};
use crate::failure::{Class, Failure};
use crate::logging;
use crate::session::{self, Budget, Environment, Limits, Report, Task, summary};
use crate::state::lease::DAEMON;
use crate::state::postgres::Rows;
use crate::state::{Lease, StateError, Timestamp};
use crate::stop::{CLOSING, SESSIONS, SETTLING};

use clock::Clock;
use fleet::{Begin, Fleet, Table};
use metrics::Metrics;
use schedule::{Schedule, Start};
use signals::{Request, Requests};
use systemd::Systemd;
use view::View;
use wake::Asked;
use web::Web;

/// Why a daemon cannot run, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No signals, so nobody could stop it in good order.
    #[error("cannot take signals: {0}")]
    Signals(#[source] io::Error),
    #[error("cannot set a timer: {0}")]
    Timer(#[source] io::Error),
    /// Two would poll each account twice as often, and a client would find one of them.
    #[error("another daemon runs with the state file {}", .0.display())]
    Running(PathBuf),
    #[error(transparent)]
    State(#[from] StateError),
    /// What one worker has delivered the next would not find.
    #[error("{account}: {target} is this machine's own, and others poll the account, too")]
    Unshared { account: String, target: String },
    /// What it takes to use the database cannot be had.
    #[error(transparent)]
    Unusable(#[from] Box<Failure>),
}

/// Polls the accounts of a configuration at their intervals until the process is asked to end.
///
/// `reload` reads the configuration again at SIGHUP; if it is wrong that is told, and the old one stays. Returns at
/// SIGINT or SIGTERM, when all sessions have ended, within ten seconds.
pub async fn run(
    config: Config,
    reload: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), DaemonError> {
    let _only = alone(&config).await?;
    let environment = Environment::of_config(&config).await?;
    let table = environment.roll(&config).map(Table::new);
    let mut requests = Requests::new().map_err(DaemonError::Signals)?;
    let mut clock = Clock::new().map_err(DaemonError::Timer)?;
    let stop = signals::stop(0);
    let mut asked = match &config.database {
        Some(_) => Asked::by_nobody(),
        None => Asked::listen(&config.state),
    };
    let (metrics_file, addresses) = (config.metrics_file.clone(), config.status_listen.clone());
    let (mut daemon, accounts, fresh) =
        Daemon::new(config, clock.now(), Environment { stop: stop.clone(), ..environment }, table);
    daemon.show(&accounts, metrics_file, &addresses).await;
    daemon.recall(&clock, fresh).await;
    if daemon.fleet.is_none() {
        // Somebody may have asked while the one before was ending.
        daemon.look_for_asked();
    }
    let watchdog = daemon.systemd.watchdog();
    let mut alive_by = watchdog.map(|_| clock.now());
    let mut refused = None;
    daemon.systemd.ready();
    loop {
        let now = clock.now();
        if let (Some(by), Some(every)) = (alive_by, watchdog)
            && now >= by
        {
            daemon.systemd.alive();
            alive_by = Some(now.saturating_add(every));
        }
        let next = daemon.begin_what_is_due(now);
        daemon.tell_the_schedule(now);
        let metrics_by = daemon.metrics.as_mut().and_then(|metrics| metrics.write(now));
        let wake_at = [next, alive_by, metrics_by].into_iter().flatten().min();
        // A signal goes first: the end of a session is still there at the next turn.
        tokio::select! {
            biased;
            () = stop.asked() => break,
            request = requests.next() => match request {
                Request::Wake => daemon.wake_all(clock.now()),
                Request::Reload => daemon.reload(&reload, &clock).await,
            },
            () = asked.next() => daemon.look_for_asked(),
            Some(found) = daemon.looks.join_next() => daemon.wake(clock.now(), found),
            // Before it has ended, which it may have, too.
            Some(account) = daemon.heard_leaving.recv() => daemon.schedule.left(&account),
            Some(joined) = daemon.sessions.join_next_with_id() => daemon.session_ended(clock.now(), joined),
            () = written(&mut daemon.metrics) => {}
            begin = claimed(&mut daemon.fleet) => match begin {
                Ok(begin) => daemon.begin_claimed(begin),
                // As when somebody asks it to.
                Err(error) => refused = refused.or_else(|| signals::end().map(|()| error)),
            },
            rows = read(&mut daemon.table) => daemon.set_rows(rows),
            rang = clock.until(wake_at) => rang.map_err(DaemonError::Timer)?,
        }
    }
    mem::take(&mut daemon.web).end().await;
    let status = if refused.is_some() { Class::State.exit_status() } else { 0 };
    daemon.end(&clock, asked, status).await;
    refused.map_or(Ok(()), |error| Err(error.into()))
}

/// Takes the right to be the only daemon of a state file. Of a fleet's workers there are as many as are wanted.
async fn alone(config: &Config) -> Result<Option<Lease>, DaemonError> {
    if config.database.is_some() {
        are_shared(config)?;
        return Ok(None);
    }
    match Lease::take(&config.state, DAEMON, Duration::ZERO).await? {
        Some(only) => Ok(Some(only)),
        None => Err(DaemonError::Running(config.state.clone())),
    }
}

/// Refuses accounts whose messages would lie on whatever worker's machine fetched them.
fn are_shared(config: &Config) -> Result<(), DaemonError> {
    match fleet::unshared(config) {
        Some((account, target)) => Err(DaemonError::Unshared { account, target }),
        None => Ok(()),
    }
}

/// Waits until the metrics have been written, if they are being. Nothing is lost if it is dropped.
async fn written(metrics: &mut Option<Metrics>) {
    match metrics {
        Some(metrics) => metrics.written().await,
        None => std::future::pending().await,
    }
}

/// Waits until the worker of a fleet has claimed something. Nothing is lost if it is dropped.
async fn claimed(fleet: &mut Option<Fleet>) -> Result<Begin, StateError> {
    match fleet {
        Some(fleet) => fleet.begin().await,
        None => std::future::pending().await,
    }
}

/// Waits until the table of accounts has changed. Nothing is lost if it is dropped.
async fn read(table: &mut Option<Table>) -> Rows {
    match table {
        Some(table) => table.changed().await,
        None => std::future::pending().await,
    }
}

/// Everything that the loop keeps from turn to turn.
struct Daemon {
    /// Empty in a fleet.
    schedule: Schedule,
    /// What takes the schedule's place where workers share a database.
    fleet: Option<Fleet>,
    /// The accounts that tenants have in the database.
    table: Option<Table>,
    environment: Environment,
    sessions: JoinSet<Report>,
    running: HashMap<Id, Start>,
    /// Looks into the store for what is asked for.
    looks: JoinSet<Result<Vec<String>, StateError>>,
    /// Sessions that have left their servers say so here.
    leaving: mpsc::UnboundedSender<Arc<str>>,
    heard_leaving: mpsc::UnboundedReceiver<Arc<str>>,
    /// The accounts whose last poll failed.
    failing: HashSet<String>,
    /// The database takes no records, which was told.
    no_records: bool,
    /// What others are shown, if anybody looks.
    view: Option<View>,
    metrics: Option<Metrics>,
    web: Web,
    systemd: Systemd,
    /// When the certificates that are trusted were read.
    certificates_read: Duration,
}

impl Daemon {
    /// Gives the accounts, and those of which nothing is known, too.
    fn new(
        config: Config,
        now: Duration,
        environment: Environment,
        table: Option<Table>,
    ) -> (Self, Vec<Arc<Account>>, HashSet<Arc<str>>) {
        // Without randomness the polls of many machines are spread less well.
        let seed = getrandom::u64().unwrap_or_else(|_| std::process::id().into());
        let mut schedule = Schedule::new(config.daemon, seed);
        let accounts = shared(config.accounts);
        let limits = fleet::limits(&config.daemon, &config.hosts);
        let mut fleet = fleet::join(&environment.store, limits.clone());
        schedule.set_hosts(config.hosts);
        let fresh = match &mut fleet {
            Some(fleet) => {
                if table.is_some() {
                    fleet.await_rows();
                }
                fleet.set_accounts(&accounts, limits);
                HashSet::new()
            }
            None => schedule.set_accounts(now, &accounts, config.daemon),
        };
        if table.is_none() && !accounts.iter().any(|account| account.enabled) {
            log::warn!("no account is enabled");
        }
        let (leaving, heard_leaving) = mpsc::unbounded_channel();
        let this = Self {
            schedule,
            fleet,
            table,
            environment: Environment { notify: Some(config.notify.unwrap_or_default()), ..environment },
            sessions: JoinSet::new(),
            running: HashMap::new(),
            looks: JoinSet::new(),
            leaving,
            heard_leaving,
            failing: HashSet::new(),
            no_records: false,
            view: None,
            metrics: None,
            web: Web::default(),
            systemd: Systemd::from_environment(),
            certificates_read: now,
        };
        (this, accounts, fresh)
    }

    /// Shows others how these accounts stand from now on: in this file, and at these addresses.
    async fn show(&mut self, accounts: &[Arc<Account>], file: Option<PathBuf>, addresses: &[Listen]) {
        if self.web.addresses() != addresses {
            mem::take(&mut self.web).end().await;
        }
        if file.is_none() && addresses.is_empty() {
            (self.view, self.metrics) = (None, None);
            return;
        }
        let view =
            self.view.get_or_insert_with(|| View::new(&self.environment.store, &self.environment.state));
        view.set_accounts(accounts);
        self.metrics = file.map(|path| match self.metrics.take().filter(|metrics| metrics.path() == path) {
            Some(metrics) => metrics,
            None => Metrics::new(path, view.clone()),
        });
        if let Some(metrics) = &mut self.metrics {
            metrics.changed();
        }
        if self.web.addresses() != addresses {
            self.web = Web::listen(addresses, view).await;
        }
    }

    /// Begins the sessions whose turn it is, and gives when the next is due.
    fn begin_what_is_due(&mut self, now: Duration) -> Option<Duration> {
        let turn = self.schedule.next(now);
        for start in turn.start {
            let turn = start.messages.map(|messages| Budget { messages, octets: u64::MAX });
            let limits = Limits { turn, ..Limits::default() };
            let (account, environment) = (start.account.clone(), self.environment.clone());
            let name: Arc<str> = account.name.as_str().into();
            let (leaving, leaves) = (self.leaving.clone(), name.clone());
            let session = async move {
                let polled = session::poll(&account, &environment, Task::Sync(limits), &()).await;
                // Nobody hears it when the daemon ends.
                let _ = leaving.send(leaves);
                polled.follow_up(&account, &environment).await
            };
            let handle = self.sessions.spawn(logging::of_account(name, session));
            self.running.insert(handle.id(), start);
        }
        let (accounts, sessions) = match &self.fleet {
            Some(fleet) => (fleet.polled(), self.running.len()),
            None => (self.schedule.accounts(), self.schedule.sessions()),
        };
        let (accounts, failing) = (summary::accounts(accounts), self.failing.len());
        self.systemd.status(format!("{accounts}, {sessions} being polled, {failing} failing"));
        turn.wait_until
    }

    /// Has all accounts polled that are polled by themselves.
    fn wake_all(&mut self, now: Duration) {
        match &self.fleet {
            Some(fleet) => fleet.wake_all(),
            None => self.schedule.wake_all(now),
        }
    }

    /// Writes down for who looks when accounts are polled next.
    fn tell_the_schedule(&mut self, now: Duration) {
        let changes = self.schedule.changes();
        if changes.is_empty() {
            return;
        }
        let wall = session::now();
        let at = |due: Duration| {
            let seconds = due.saturating_sub(now).as_millis().div_ceil(1000);
            wall.saturating_add(Timestamp::try_from(seconds).unwrap_or(Timestamp::MAX))
        };
        let due = changes.into_iter().map(|(maildrop, due)| (maildrop, due.map(at)));
        self.environment.store.schedule(due.collect());
    }

    fn look_for_asked(&mut self) {
        let store = self.environment.store.clone();
        self.looks.spawn(async move { store.asked_for(session::now()).await });
    }

    /// Has the maildrops polled that were found to be asked for.
    fn wake(&mut self, now: Duration, found: Result<Result<Vec<String>, StateError>, JoinError>) {
        let mut asked: HashSet<String> = match found {
            Ok(Ok(found)) => found.into_iter().collect(),
            Ok(Err(error)) => return log::error!("cannot see which accounts are asked for: {error}"),
            Err(error) => return log::error!("cannot see which accounts are asked for: {error}"),
        };
        self.schedule.wake_each(now, |account| asked.contains(&account.maildrop_id));
        for account in self.schedule.all() {
            asked.remove(&account.maildrop_id);
        }
        for maildrop in asked {
            log::warn!(
                "{maildrop}: asked for, and the maildrop of no account\n  \
                 hint: send SIGHUP if the configuration has changed"
            );
        }
    }

    /// Lets the sessions end, which were asked to; ends the process with this status if they do not.
    async fn end(mut self, clock: &Clock, asked: Asked, status: u8) {
        self.systemd.stopping();
        // Who asks now finds no daemon, and does without.
        let removed = tokio::task::spawn_blocking(move || drop(asked));
        if let Some(fleet) = &mut self.fleet {
            fleet.drain();
        }
        let wind_down = async {
            while let Some(joined) = self.sessions.join_next_with_id().await {
                self.session_ended(clock.now(), joined);
            }
        };
        if tokio::time::timeout(SESSIONS, wind_down).await.is_err() {
            let mut names: Vec<_> = self.running.values().map(|start| start.account.name.as_str()).collect();
            names.sort_unstable();
            log::warn!("did not wait any longer for the end of {}; nothing is lost", names.join(", "));
            // Dropping them would wait for the same disk.
            std::process::exit(status.into());
        }
        let (fleet, metrics, now) = (self.fleet, self.metrics, clock.now());
        // What it still held is free when they are written.
        let left = async {
            if let Some(fleet) = fleet {
                fleet.finish().await;
            }
            if let Some(metrics) = metrics {
                metrics.finish(now).await;
            }
        };
        // Messages that were given up are still being removed from `tmp`; the next poll would do it, too.
        let settled = async { tokio::join!(removed, left, self.environment.disk.settled()) };
        let _ = tokio::time::timeout(SETTLING, settled).await;
        // Closing the state file copies its log into it; on a disk that hangs the next process does that.
        let environment = self.environment;
        let _ = tokio::time::timeout(CLOSING, tokio::task::spawn_blocking(move || drop(environment))).await;
    }
}

fn shared(accounts: Vec<Account>) -> Vec<Arc<Account>> {
    accounts.into_iter().map(Arc::new).collect()
}
