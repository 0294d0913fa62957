//! A worker of a fleet: polls what it has claimed in the database that all workers share, in the place of the schedule.
//!
//! | file | what it is |
//! |---|---|
//! | [`floor`] | what of that which is due is claimed (pure) |
//! | [`looks`] | what is looked past to see it (pure) |
//! | [`share`] | how many maildrops a worker takes over from whoever has more (pure) |
//! | [`session`] | a session of a worker, and what is told of it |
//! | [`table`] | the table of accounts, looked at again and again |
//! | [`accounts`] | who is polled, and the rows of their maildrops |
//! | [`gone`] | maildrops that are of no account |
//! | [`troubles`] | what the database refuses, told once |
//! | [`worker`] | the task that claims and closes, tidies up after the dead, and takes another identity once it is evicted |
//!
//! A claim is a lease with a random token that each write of its session names. The session ends without another word once
//! the worker was not heard of for three quarters of the time after which others evict it (`stop::Term`).

mod accounts;
mod floor;
mod gone;
mod looks;
mod session;
mod share;
#[cfg(test)]
mod simulation;
mod table;
#[cfg(test)]
mod tests;
mod troubles;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinHandle};
use tokio::time::timeout;

use crate::clock::since_boot;
use crate::config::{Account, Config, Hosts, SessionLimits};
use crate::failure::Class;
use crate::session::{Progress, Report};
use crate::state::postgres::beat::silence;
use crate::state::postgres::{Claim, Close, Database, Leases, Rows};
use crate::state::{StateError, Store};
use crate::stop::{LEAVING, Stopper};

use super::schedule::{Dice, Ended, LogIn, Next, Poll, interval};
use session::{Event, Roster, Told};
use worker::Worker;

pub use floor::Limits;
pub use session::{Begin, Session};
pub use table::Table;

/// Joins the fleet of a store that is a database.
pub fn join(store: &Store, limits: Limits) -> Option<Fleet> {
    let server = store.server()?;
    let leases = || Leases::new(Database::new(server.clone()));
    Some(Fleet::join(leases(), leases(), limits, silence()))
}

/// Gives an account, or a target for rows, whose messages would lie on whatever worker's machine fetched them, and where.
pub fn unshared(config: &Config) -> Option<(String, String)> {
    let enabled = config.accounts.iter().filter(|account| account.enabled);
    let of_file = enabled
        .flat_map(|account| account.deliver.iter().chain(&account.refused).map(|to| (&account.name, to)));
    let of_rows = config.fleet.iter().flat_map(|fleet| &fleet.targets);
    let of_rows = of_rows.flat_map(|(name, targets)| targets.iter().map(move |to| (name, to)));
    let (whose, to) = of_file.chain(of_rows).find(|(_, to)| to.is_of_one_machine())?;
    Some((whose.clone(), to.to_string()))
}

/// Gives the limits of a configuration.
pub fn limits(daemon: &SessionLimits, hosts: &Hosts) -> Limits {
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
    begins: mpsc::UnboundedReceiver<Result<Begin, StateError>>,
    events: mpsc::UnboundedSender<Event>,
    running: HashMap<Id, Session>,
    dice: Dice,
    /// The accounts of the file, and those of the table.
    of_file: Vec<Arc<Account>>,
    of_table: Vec<Arc<Account>>,
    /// Those of the table that whoever has their keys can use, and those that nobody can.
    unusable: Vec<Arc<Account>>,
    wrong: Vec<Arc<Account>>,
    roster: Roster,
    /// Grows with each change of them.
    generation: u64,
    /// Those of all that are enabled.
    polled: usize,
    limits: Limits,
    task: JoinHandle<()>,
}

/// Says when a session logs in, and when it has left its server.
#[derive(Debug, Clone)]
pub struct Course(mpsc::UnboundedSender<Event>, Claim);

impl Fleet {
    /// Joins the fleet that shares this database; `beats` is another handle on it, so that no statement is waited for before
    /// a heartbeat.
    pub fn join(leases: Leases, beats: Leases, limits: Limits, silence: Duration) -> Self {
        let (begin, begins) = mpsc::unbounded_channel();
        let (events, heard) = mpsc::unbounded_channel();
        let worker = Worker::new(leases, beats, limits.clone(), silence);
        let task = tokio::spawn(worker.run(begin, heard, events.clone()));
        // Without randomness the polls of many workers are spread less well.
        let dice = Dice::new(getrandom::u64().unwrap_or_else(|_| std::process::id().into()));
        let (running, of_file, of_table, unusable, wrong) = Default::default();
        let roster = Roster::WithoutTable;
        Self {
            begins,
            events,
            running,
            dice,
            of_file,
            of_table,
            unusable,
            wrong,
            roster,
            generation: 0,
            polled: 0,
            limits,
            task,
        }
    }

    /// Polls the enabled ones of these accounts of the file from now on.
    pub fn set_accounts(&mut self, accounts: &[Arc<Account>], limits: Limits) {
        (self.of_file, self.limits) = (accounts.to_vec(), limits);
        self.tell_accounts();
    }

    /// Waits for the accounts of a table: until they are there nobody is put off because he is in no file.
    pub fn await_rows(&mut self) {
        self.roster = Roster::OfFile;
    }

    /// Polls these accounts of the table from now on. What the file has, too, is the operator's.
    pub fn set_rows(&mut self, rows: Rows) {
        let Rows { mut polled, disabled, unusable, wrong, .. } = rows;
        let own: HashSet<&str> = self.of_file.iter().map(|account| account.maildrop_id.as_str()).collect();
        polled.retain(|row| {
            let is_free = !own.contains(row.maildrop_id.as_str());
            if !is_free {
                log::error!(
                    "{}: an account of the file has its maildrop {}; it is not polled",
                    row.name,
                    row.maildrop_id
                );
            }
            is_free
        });
        polled.extend(disabled);
        (self.of_table, self.unusable, self.wrong) = (polled, unusable, wrong);
        self.roster = Roster::Whole;
        self.tell_accounts();
    }

    /// Reads no table any more. What was recorded of its rows stays, as others may read them.
    pub fn read_no_table(&mut self) {
        (self.of_table, self.unusable, self.wrong) = Default::default();
        self.roster = Roster::WithoutTable;
    }

    fn tell_accounts(&mut self) {
        let (polled, mut besides): (Vec<_>, Vec<_>) =
            self.accounts().cloned().partition(|account| account.enabled);
        besides.extend(self.wrong.iter().cloned());
        let elsewhere = self.unusable.clone();
        self.polled = polled.len();
        self.generation += 1;
        let (limits, roster, generation) = (self.limits.clone(), self.roster, self.generation);
        self.tell(Event::Accounts(Box::new(Told { polled, elsewhere, besides, limits, roster, generation })));
        self.end_what_has_changed();
    }

    /// Asks those sessions to end whose accounts are polled no more, or not as they were when these began: others begin for
    /// what the accounts are now.
    fn end_what_has_changed(&mut self) {
        let generation = self.generation;
        let older = self.running.values_mut().filter(|session| session.generation != generation);
        let older: HashMap<&str, (&Arc<Account>, &Stopper)> = older
            .filter_map(|session| {
                session.generation = generation;
                Some((session.account.maildrop_id.as_str(), (&session.account, session.stopper.as_ref()?)))
            })
            .collect();
        if older.is_empty() {
            return;
        }
        let polled = self.of_file.iter().chain(&self.of_table).filter(|account| account.enabled);
        let is_as_it_was = |account: &&Arc<Account>| {
            let begun = older.get(account.maildrop_id.as_str());
            begun.is_some_and(|(then, _)| is_polled_alike(account, then))
        };
        let same: HashSet<&str> =
            polled.filter(is_as_it_was).map(|account| account.maildrop_id.as_str()).collect();
        for (_, (account, stopper)) in older.iter().filter(|(maildrop, _)| !same.contains(*maildrop)) {
            if !stopper.stop() {
                log::info!("{}: the account has changed, or is gone; its session ends", account.name);
            }
        }
    }

    /// Counts the accounts that are polled.
    pub fn polled(&self) -> usize {
        self.polled
    }

    /// Gives all accounts, those that are not enabled, too.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.of_file.iter().chain(&self.of_table)
    }

    /// Has all accounts polled that are polled by themselves.
    pub fn wake_all(&self) {
        self.tell(Event::WakeAll);
    }

    /// Waits for a session to begin. Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// A newer version has made the tables, and this one may use them no more: it is to end.
    pub async fn begin(&mut self) -> Result<Begin, StateError> {
        match self.begins.recv().await {
            Some(begin) => begin,
            None => std::future::pending().await,
        }
    }

    /// Takes note of the task that is a session, for [`Fleet::ended`].
    pub fn began(&mut self, task: Id, session: Session) {
        self.running.insert(task, session);
        self.end_what_has_changed();
    }

    /// Gives what hears how a session goes.
    pub fn course(&self, session: &Session) -> Course {
        Course(self.events.clone(), session.claim)
    }

    /// Takes note that a session ended. Gives when its account is polled next, from now; `None`: when it is asked for.
    pub fn ended(&mut self, task: Id, ended: Ended, log_in: LogIn, report: &Report) -> Option<Duration> {
        let Session { claim, term, began, late, account, .. } = self.running.remove(&task)?;
        let (mail, every) = (report.delivered > 0, interval(&account));
        let began = since_boot().saturating_sub(began);
        // What was not announced is kept nowhere: it holds for this wait alone.
        let delay = log_in.delay(ended, every, Duration::ZERO);
        let apart = LogIn { delay: Some(delay), ..log_in }.apart(began);
        let is_cut_off = term.is_over() || ended == Ended::Failed(Class::Stopped);
        let Next { wait, failures } = match is_cut_off {
            // Somebody else goes on with it.
            true => Next { wait: Some(apart), failures: claim.failures },
            false => {
                let (failures, refused_for) = (claim.failures, log_in.refused_for);
                let quiet = if mail { Duration::ZERO } else { claim.quiet };
                Poll { every, ended, began, failures, refused_for, apart, dispersal: None, quiet, late }
                    .next(&mut self.dice)
            }
        };
        self.tell(Event::Ended(Close { claim, wait, apart, failures, mail }));
        wait
    }

    /// Lets nothing more be claimed.
    pub fn drain(&mut self) {
        self.tell(Event::Drain);
    }

    /// Gives back what is held, and leaves; what hangs is left to the others.
    pub async fn finish(self) {
        let (told, done) = oneshot::channel();
        self.tell(Event::Finish(told));
        let _ = timeout(LEAVING, done).await;
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

impl Course {
    /// Says that it has left its server.
    pub fn leave(&self, report: &Report) {
        let why = report.failure.as_ref().map(|failure| failure.what.clone());
        // Nobody hears it when the daemon ends.
        let _ = self.0.send(Event::Left { token: self.1.token, answer: report.answer, why });
    }
}

impl Progress for Course {
    fn logs_in(&self, delay: Duration) {
        let log_in = LogIn { delay: Some(delay), ..LogIn::default() };
        let _ = self.0.send(Event::LogsIn(self.1, log_in.apart(Duration::ZERO)));
    }
}

/// Says whether a session of one account is one of the other: how often there is one does not matter.
fn is_polled_alike(one: &Arc<Account>, other: &Arc<Account>) -> bool {
    Arc::ptr_eq(one, other) || **one == Account { interval: one.interval, ..Account::clone(other) }
}
