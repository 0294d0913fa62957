//! A worker of a fleet: polls what it has claimed in the database that all workers share, in the place of the schedule.
//!
//! | file | what it is |
//! |---|---|
//! | [`floor`] | what of that which is due is claimed (pure) |
//! | [`due`] | when a maildrop is due again (pure) |
//! | [`turn`] | a session of a worker, and what is told of it |
//! | [`accounts`] | who is polled, and the rows of their maildrops |
//! | [`worker`] | the task that claims and closes, tidies up after the dead, and takes another identity once it is evicted |
//! | [`beat`] | the heartbeat, and how long what is held may be used |
//!
//! A claim is a lease with a random token that each write of its session names. The session ends without another word once
//! the worker was not heard of for three quarters of the time after which others evict it (`stop::Term`).

mod accounts;
mod beat;
mod due;
mod floor;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod turn;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinHandle};

use crate::clock::since_boot;
use crate::config::{Account, Daemon, Hosts};
use crate::failure::Class;
use crate::session::Report;
use crate::state::Store;
use crate::state::postgres::{Close, Database, Leases};

use super::schedule::{Dice, Ended, LogIn, interval};
use due::{Next, Poll};
use floor::Answer;
use turn::Event;
use worker::Worker;

pub use floor::Limits;
pub use turn::{Begin, Turn};

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

/// Joins the fleet of a store that is a database.
pub fn join(store: &Store, limits: Limits) -> Option<Fleet> {
    let server = store.server()?;
    let leases = || Leases::new(Database::new(server.clone()));
    Some(Fleet::join(leases(), leases(), limits, silence()))
}

/// Gives the limits of a configuration.
pub fn limits(daemon: &Daemon, hosts: &Hosts) -> Limits {
    Limits {
        sessions: daemon.max_sessions,
        per_host: daemon.max_sessions_per_host,
        hosts: hosts.clone(),
        startup_spread: daemon.startup_spread,
    }
}

/// What the daemon's loop has of its worker.
#[derive(Debug)]
pub struct Fleet {
    begins: mpsc::UnboundedReceiver<Begin>,
    events: mpsc::UnboundedSender<Event>,
    running: HashMap<Id, Turn>,
    dice: Dice,
    is_draining: bool,
    accounts: usize,
    task: JoinHandle<()>,
}

/// Says when a session has left its server.
#[derive(Debug, Clone)]
pub struct Leaving(mpsc::UnboundedSender<Event>, i64);

impl Fleet {
    /// Joins the fleet that shares this database; `beats` is another handle on it, so that no statement is waited for before
    /// a heartbeat.
    pub fn join(leases: Leases, beats: Leases, limits: Limits, silence: Duration) -> Self {
        let (begin, begins) = mpsc::unbounded_channel();
        let (events, heard) = mpsc::unbounded_channel();
        let worker = Worker::new(leases, beats, limits, silence);
        let task = tokio::spawn(worker.run(begin, heard, events.clone()));
        // Without randomness the polls of many workers are spread less well.
        let dice = Dice::new(getrandom::u64().unwrap_or_else(|_| std::process::id().into()));
        Self { begins, events, running: HashMap::new(), dice, is_draining: false, accounts: 0, task }
    }

    /// Polls the enabled ones of these accounts from now on.
    pub fn set_accounts(&mut self, accounts: &[Arc<Account>], limits: Limits) {
        let enabled: Vec<_> = accounts.iter().filter(|account| account.enabled).cloned().collect();
        self.accounts = enabled.len();
        self.tell(Event::Accounts(enabled, limits));
    }

    /// Counts the accounts that are polled.
    pub fn accounts(&self) -> usize {
        self.accounts
    }

    /// Has all accounts polled that are polled by themselves.
    pub fn wake_all(&self) {
        self.tell(Event::WakeAll);
    }

    /// Waits for a session to begin. Nothing is lost if it is dropped.
    pub async fn begin(&mut self) -> Begin {
        match self.begins.recv().await {
            Some(begin) => begin,
            None => std::future::pending().await,
        }
    }

    /// Takes note of the task that is a session, for [`Fleet::ended`].
    pub fn began(&mut self, task: Id, turn: Turn) {
        self.running.insert(task, turn);
    }

    /// Gives what a session says when it leaves its server.
    pub fn leaving(&self, turn: &Turn) -> Leaving {
        Leaving(self.events.clone(), turn.claim.token)
    }

    /// Takes note that a session ended. Gives when its account is polled next, from now; `None`: when it is asked for.
    pub fn ended(&mut self, task: Id, ended: Ended, log_in: LogIn, report: &Report) -> Option<Duration> {
        let Turn { claim, term, began, lag, account, .. } = self.running.remove(&task)?;
        let mail = report.delivered > 0;
        let is_cut_off = term.is_over() || (self.is_draining && ended == Ended::Failed(Class::Stopped));
        let Next { wait, failures } = match is_cut_off {
            // Somebody else goes on with it.
            true => Next { wait: Some(Duration::ZERO), failures: claim.failures },
            false => {
                let quiet = if mail { Duration::ZERO } else { claim.quiet };
                let (every, began) = (interval(&account), since_boot().saturating_sub(began));
                Poll { every, ended, log_in, began, failures: claim.failures, quiet, lag }
                    .next(&mut self.dice)
            }
        };
        let rationed = log_in.delay.is_some_and(|delay| !delay.is_zero());
        self.tell(Event::Ended(Close { claim, wait, failures, mail }, rationed));
        wait
    }

    /// Lets nothing more be claimed.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.tell(Event::Drain);
    }

    /// Gives back what is held, and leaves.
    pub async fn finish(self) {
        let (told, done) = oneshot::channel();
        self.tell(Event::Finish(told));
        let _ = done.await;
    }

    fn tell(&self, event: Event) {
        // The task is there as long as the handle is.
        let _ = self.events.send(event);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Leaving {
    /// Says so.
    pub fn leave(&self, report: &Report, account: &Account) {
        // Nobody hears it when the daemon ends.
        let _ = self.0.send(Event::Left(self.1, answer(report, account)));
    }
}

/// Says what a session has shown of its host: network, TLS and greeting are the host's, a log-in is an account's.
fn answer(report: &Report, account: &Account) -> Answer {
    match &report.failure {
        None => Answer::Answered,
        Some(failure) if failure.host == account.server() => match failure.class {
            Class::Network | Class::Tls => Answer::Failed,
            _ if failure.doing == "connect" => Answer::Failed,
            _ => Answer::Answered,
        },
        Some(_) if report.listed.is_some() => Answer::Answered,
        Some(_) => Answer::None,
    }
}
