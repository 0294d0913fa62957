//! When which account is polled: a pure function of the times and outcomes it is told.
//!
//! Time is an argument everywhere, as what a clock shows that runs on while the machine is suspended and that nobody
//! sets; only differences count. Each account is in one place: resting (`manual`), on a timer, in the queue for a free
//! session, or in a session. Every event takes logarithmic time.
//!
//! A caller that comes much later than [`Turn::wait_until`] was suspended, or hung. What became due meanwhile is then
//! spread as at a start instead of being begun at once.

mod entry;
mod next;
mod outcome;
pub mod queue;
#[cfg(test)]
mod simulation;
mod wait;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Account, Hosts, SessionLimits};
use crate::failure::{Backoff, Class};

use entry::{Entry, Place, Running, is_same_maildrop};
use queue::Queue;
use wait::LONGEST;

pub use entry::interval;
pub use next::{Next, Poll};
pub use outcome::{Ended, LogIn, Past};
pub use wait::Dice;

/// Messages that one session may fetch before others get their turn. Logging in again for the next thousand costs
/// little beside fetching them.
const MESSAGES_A_TURN: usize = 1000;

/// Coming so much later than was asked for is no matter of a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// Decides when which account is polled.
#[derive(Debug)]
pub struct Schedule {
    limits: SessionLimits,
    dice: Dice,
    entries: HashMap<Arc<str>, Entry>,
    /// By the time they are due.
    timers: BTreeSet<(Duration, Arc<str>)>,
    queue: Queue<Arc<str>>,
    running: HashMap<Arc<str>, Running>,
    /// How many of them have a place.
    placed: usize,
    /// By server (host and port): the accounts whose last poll it did not answer.
    unreachable: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// What was last given as the time to come back.
    promised: Option<Duration>,
    /// By maildrop: what has changed of the next polls and nobody has been told of.
    changes: HashMap<Arc<str>, Option<Duration>>,
}

#[derive(Debug, Default)]
pub struct Turn {
    /// Sessions to begin; each is to be followed by [`Schedule::ended`].
    pub start: Vec<Start>,
    /// When to come back if nothing else happens; `None`: nothing is due by itself.
    pub wait_until: Option<Duration>,
}

/// A session to begin.
#[derive(Debug, Clone)]
pub struct Start {
    pub account: Arc<Account>,
    /// Messages that it may fetch, so that others get their turn; `None`: as many as there are.
    pub messages: Option<usize>,
}

/// Whether a server was there for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Answered,
    Silent,
}

impl Schedule {
    /// Makes a schedule without accounts; the seed decides over all chance.
    pub fn new(limits: SessionLimits, seed: u64) -> Self {
        Self {
            limits,
            dice: Dice::new(seed),
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            queue: Queue::new(limits.max_sessions_per_host),
            running: HashMap::new(),
            placed: 0,
            unreachable: HashMap::new(),
            promised: None,
            changes: HashMap::new(),
        }
    }

    /// Takes these limits of single hosts in place of those it had.
    pub fn set_hosts(&mut self, hosts: Hosts) {
        self.queue.set_hosts(hosts);
    }

    /// Takes the enabled ones of these accounts in place of those it had.
    ///
    /// Accounts that did not change keep their timers and all that is known of them. New and changed ones are polled
    /// as at a start: spread, the first at once. One whose maildrop stayed the same keeps to the LOGIN-DELAY that is
    /// known, and its failures in a row: the change is tried at once, and if it did not help, the waits go on growing.
    /// Sessions that are under way go on, also those of accounts that are gone.
    ///
    /// Gives the accounts of whose maildrops nothing is known, for [`Schedule::recall`].
    pub fn set_accounts(
        &mut self,
        now: Duration,
        accounts: &[Arc<Account>],
        limits: SessionLimits,
    ) -> HashSet<Arc<str>> {
        self.limits = limits;
        self.queue.set_per_host(limits.max_sessions_per_host);
        let accounts: Vec<_> = accounts.iter().filter(|account| account.enabled).collect();
        let names: HashSet<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        let gone: Vec<_> = self.entries.keys().filter(|name| !names.contains(&***name)).cloned().collect();
        gone.iter().for_each(|name| drop(self.remove(name)));

        let (mut fresh, mut unknown) = (Vec::new(), HashSet::new());
        for account in accounts {
            let name: Arc<str> = account.name.as_str().into();
            if self.entries.get(&name).is_some_and(|entry| entry.account == *account) {
                continue;
            }
            let known = self.remove(&name).filter(|entry| is_same_maildrop(&entry.account, account));
            if known.is_none() {
                unknown.insert(name.clone());
            }
            let running = self.running.get(&name);
            let began = running
                .filter(|running| is_same_maildrop(&running.account, account))
                .map(|running| running.began);
            let entry = Entry {
                account: account.clone(),
                host: account.host.to_ascii_lowercase().into(),
                server: account.server().to_ascii_lowercase().into(),
                place: if running.is_some() { Place::Session } else { Place::Resting },
                failures: known.as_ref().map_or(0, |known| known.failures),
                login_delay: known.as_ref().map_or(Duration::ZERO, |known| known.login_delay),
                began: known.as_ref().map_or(began, |known| known.began),
                logged_in: known.as_ref().map_or(began, |known| known.logged_in),
                // What is going on was begun with another configuration.
                again: running.is_some() && interval(account).is_some(),
                dispersal: None,
            };
            match (running, interval(account)) {
                (Some(_), _) => {}
                (None, Some(_)) => fresh.push(name.clone()),
                (None, None) => self.note_next(account, None),
            }
            self.entries.insert(name, entry);
        }
        self.spread(now, fresh);
        unknown
    }

    /// Takes over what is known of an account that was not polled yet: a wait that was not over goes on.
    /// Gives when it is over.
    pub fn recall(&mut self, now: Duration, name: &str, past: Past) -> Option<Duration> {
        let (name, entry) = self.entries.get_key_value(name)?;
        let (name, server) = (name.clone(), entry.server.clone());
        let backoff = past.class.map_or(Backoff::No, Class::backoff);
        let every = interval(&entry.account);
        let mut wait = match (backoff, every) {
            (Backoff::No, _) | (_, None) => Duration::ZERO,
            (Backoff::Doubling | Backoff::Longest, Some(every)) => {
                self.dice.backoff(backoff, every, past.failures)
            }
        };
        let entry = self.entry(&name);
        if let Some(login_delay) = past.login_delay {
            entry.login_delay = login_delay.min(24 * LONGEST);
        }
        if backoff != Backoff::No {
            // A backoff disperses by itself.
            (entry.failures, entry.dispersal) = (past.failures, None);
        }
        // Before the clock's own beginning there is nothing to remember. A session that is under way began later.
        let began = now.checked_sub(past.ago);
        (entry.began, entry.logged_in) = (entry.began.max(began), entry.logged_in.max(began));
        wait = wait.max(entry.apart()).saturating_sub(past.ago);
        let (due, place) = (now.saturating_add(wait), entry.place);
        match place {
            Place::Timer(sooner) if sooner >= due => {}
            Place::Queue(_) if due <= now => {}
            Place::Timer(_) | Place::Queue(_) => {
                self.leave(&name);
                self.set(now, due, &name);
            }
            Place::Resting | Place::Session => {}
        }
        if past.class == Some(Class::Network) {
            self.note_server(now, server, name, Server::Silent);
        }
        (!wait.is_zero()).then_some(due)
    }

    /// Gives the sessions to begin now, and when to come back.
    pub fn next(&mut self, now: Duration) -> Turn {
        let due = self.due(now);
        if self.promised.is_some_and(|promised| now > promised.saturating_add(LATE)) {
            self.spread(now, due);
        } else {
            due.into_iter().for_each(|name| self.enqueue(&name));
        }
        let mut start = Vec::new();
        while self.placed < self.limits.max_sessions.max(1)
            && let Some(name) = self.queue.take()
        {
            let entry = self.entries.get_mut(&name).expect("who waits in the queue has an entry");
            (entry.place, entry.again) = (Place::Session, false);
            (entry.began, entry.logged_in) = (Some(now), Some(now));
            // Where log-ins are rationed, each takes all it can.
            let messages = (entry.login_delay == Duration::ZERO).then_some(MESSAGES_A_TURN);
            start.push(Start { account: entry.account.clone(), messages });
            let (account, host) = (entry.account.clone(), Some(entry.host.clone()));
            self.note_next(&account, Some(now));
            self.running.insert(name, Running { account, host, began: now });
            self.placed += 1;
        }
        self.promised = self.timers.first().map(|(due, _)| *due);
        Turn { start, wait_until: self.promised }
    }

    /// Takes note that a session has left its server, so that others can have its place. What its user wants done after
    /// it may take long; until that has ended, too, there is no other of this account.
    pub fn left(&mut self, name: &str) {
        let Some(running) = self.running.get_mut(name) else { return };
        if let Some(host) = running.host.take() {
            self.placed -= 1;
            self.queue.release(&host);
        }
    }

    /// Takes note that a session ended, and of its log-in. Gives when the account is polled next; `None`: when it is
    /// asked for.
    pub fn ended(&mut self, now: Duration, name: &str, ended: Ended, log_in: LogIn) -> Option<Duration> {
        self.left(name);
        let (name, running) = self.running.remove_entry(name)?;
        let entry = self.entries.get_mut(&name)?;
        if !is_same_maildrop(&running.account, &entry.account) {
            // What it met says nothing of the maildrop that is meant now.
            let due = entry.again.then(|| entry.earliest().map_or(now, |earliest| earliest.max(now)));
            (entry.place, entry.again) = (Place::Resting, false);
            self.rest_or_set(now, due, &name);
            return due;
        }
        let (began, every) = (running.began, interval(&entry.account));
        if let Some(after) = log_in.after {
            entry.logged_in = Some(began.saturating_add(after));
        }
        entry.login_delay = log_in.delay(ended, every, entry.login_delay);
        let answered = match ended {
            Ended::Failed(Class::Network) => Server::Silent,
            Ended::Failed(_) | Ended::Complete | Ended::Unfinished => Server::Answered,
        };
        let poll = Poll {
            every,
            ended,
            began: now.saturating_sub(began),
            failures: entry.failures,
            refused_for: log_in.refused_for,
            apart: entry.earliest().map_or(Duration::ZERO, |earliest| earliest.saturating_sub(now)),
            dispersal: entry.dispersal.take(),
            // Each machine has few enough to be in time.
            quiet: Duration::ZERO,
            late: Duration::ZERO,
        };
        let Next { wait, failures } = poll.next(&mut self.dice);
        entry.failures = failures;
        // Or somebody wants it now: behind those who wait already.
        let wait = if entry.again { Some(poll.apart) } else { wait };
        let due = wait.map(|wait| now.saturating_add(wait));
        (entry.place, entry.again) = (Place::Resting, false);
        let server = entry.server.clone();
        self.rest_or_set(now, due, &name);
        self.note_server(now, server, name, answered);
        due
    }

    /// Has an account polled as soon as LOGIN-DELAY and the limits allow, whatever its timer or backoff says; after
    /// the session, if there is one. Says whether there is such an account.
    pub fn wake(&mut self, now: Duration, name: &str) -> bool {
        let Some((name, entry)) = self.entries.get_key_value(name) else { return false };
        let (name, earliest) = (name.clone(), entry.earliest());
        match entry.place {
            Place::Resting | Place::Timer(_) => {
                self.leave(&name);
                self.set(now, earliest.map_or(now, |earliest| earliest.max(now)), &name);
            }
            Place::Queue(_) => {}
            Place::Session => self.entry(&name).again = true,
        }
        true
    }

    /// Does the same for all accounts that have an interval.
    pub fn wake_all(&mut self, now: Duration) {
        self.wake_each(now, |account| interval(account).is_some());
    }

    /// Does the same for all accounts that are meant.
    pub fn wake_each(&mut self, now: Duration, is_meant: impl Fn(&Account) -> bool) {
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(&entry.account));
        let mut names: Vec<_> = meant.map(|(name, _)| name.clone()).collect();
        // Nothing may depend on the order of a hash.
        names.sort_unstable();
        names.iter().for_each(|name| {
            self.wake(now, name);
        });
    }

    pub fn accounts(&self) -> usize {
        self.entries.len()
    }

    /// Gives the accounts, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.entries.values().map(|entry| &entry.account)
    }

    /// Takes what has changed of the next polls, by maildrop, since it was last asked for; `None`: that one is polled
    /// when it is asked for. Of one that is under way it is when it began.
    pub fn changes(&mut self) -> HashMap<Arc<str>, Option<Duration>> {
        std::mem::take(&mut self.changes)
    }

    /// Counts the sessions with servers.
    pub fn sessions(&self) -> usize {
        self.placed
    }

    /// Takes what is due off the timers, in its order.
    fn due(&mut self, now: Duration) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        while self.timers.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, name)) = self.timers.pop_first()
        {
            self.entry(&name).place = Place::Resting;
            due.push(name);
        }
        due
    }

    /// Puts resting accounts onto timers, evenly over `startup_spread`, or over its interval for one with a shorter.
    ///
    /// A thousand accounts would come back as closely together an interval later, and be dispersed only by jitter. So
    /// the more they are, the shorter may the wait for the second poll be.
    fn spread(&mut self, now: Duration, names: Vec<Arc<str>>) {
        let all = names.len().max(1) as f64;
        for (number, name) in names.iter().enumerate() {
            let startup_spread = self.limits.startup_spread;
            let entry = self.entry(name);
            let every = interval(&entry.account).unwrap_or(Duration::ZERO);
            entry.dispersal = (all > 1.0).then(|| every.div_f64(all));
            let within = startup_spread.min(every);
            let due = now.saturating_add(within.mul_f64(number as f64 / all));
            let due = entry.earliest().map_or(due, |earliest| earliest.max(due));
            self.set(now, due, name);
        }
    }

    /// Puts a resting account onto a timer, or into the queue if it is due.
    fn set(&mut self, now: Duration, due: Duration, name: &Arc<str>) {
        let account = self.entry(name).account.clone();
        self.note_next(&account, Some(due));
        if due <= now {
            return self.enqueue(name);
        }
        self.entry(name).place = Place::Timer(due);
        self.timers.insert((due, name.clone()));
    }

    fn rest_or_set(&mut self, now: Duration, due: Option<Duration>, name: &Arc<str>) {
        match due {
            Some(due) => self.set(now, due, name),
            None => {
                let account = self.entry(name).account.clone();
                self.note_next(&account, None);
            }
        }
    }

    fn enqueue(&mut self, name: &Arc<str>) {
        let host = self.entry(name).host.clone();
        let ticket = self.queue.push(&host, name.clone());
        self.entry(name).place = Place::Queue(ticket);
    }

    /// Takes an account off its timer or out of the queue.
    fn leave(&mut self, name: &Arc<str>) {
        let entry = self.entry(name);
        let (place, host) = (entry.place, entry.host.clone());
        match place {
            Place::Timer(due) => {
                self.timers.remove(&(due, name.clone()));
            }
            Place::Queue(ticket) => self.queue.remove(&host, ticket),
            Place::Resting | Place::Session => return,
        }
        self.entry(name).place = Place::Resting;
    }

    /// Forgets an account, but not its session.
    fn remove(&mut self, name: &Arc<str>) -> Option<Entry> {
        if !self.entries.contains_key(name) {
            return None;
        }
        self.leave(name);
        let entry = self.entries.remove(name)?;
        self.forget_unreachable(&entry.server, name);
        self.note_next(&entry.account, None);
        Some(entry)
    }

    fn note_next(&mut self, account: &Account, due: Option<Duration>) {
        self.changes.insert(account.maildrop_id.as_str().into(), due);
    }

    /// Remembers which accounts found no server. The first of them that finds it again tells the others, however
    /// long they meant to wait: they are polled within their intervals. Somebody else's success tells nothing; a
    /// server may fail one account and serve all others.
    fn note_server(&mut self, now: Duration, server: Arc<str>, name: Arc<str>, server_was: Server) {
        if server_was == Server::Silent {
            self.unreachable.entry(server).or_default().insert(name);
            return;
        }
        if !self.forget_unreachable(&server, &name) {
            return;
        }
        let mut others: Vec<_> = self.unreachable.remove(&server).unwrap_or_default().into_iter().collect();
        others.sort_unstable();
        for other in others {
            let entry = self.entry(&other);
            let Place::Timer(due) = entry.place else { continue };
            let every = interval(&entry.account).unwrap_or(Duration::ZERO);
            let earliest = entry.earliest().unwrap_or(now);
            let sooner = now.saturating_add(self.dice.between(Duration::ZERO, every)).max(earliest);
            if sooner < due {
                self.leave(&other);
                self.set(now, sooner, &other);
            }
        }
    }

    /// Says whether it was among them.
    fn forget_unreachable(&mut self, server: &str, name: &str) -> bool {
        let Some(accounts) = self.unreachable.get_mut(server) else { return false };
        let was = accounts.remove(name);
        if accounts.is_empty() {
            self.unreachable.remove(server);
        }
        was
    }

    fn entry(&mut self, name: &Arc<str>) -> &mut Entry {
        self.entries.get_mut(name).expect("timers, queue and servers name accounts that there are")
    }
}
