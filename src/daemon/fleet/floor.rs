//! Which of the maildrops that are due a worker claims: into free places only, so that whoever is slow claims less, and
//! never so that one server's trouble becomes everybody's.
//!
//! Pure: what is due, what began and how it ended are told. A host has as many places as `max_sessions_per_host` or `hosts:`
//! say; at most half of all while others wait. Where it failed five times in a row in one way to reach it there are two of
//! those until it answers. Tenants take turns.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::account::{Tls, TlsMode, TlsVersion};
use crate::config::{Account, Hosts};
use crate::session::{Answer, Host};

/// Failures in a row after which a host counts as failing.
const FAILING: u32 = 5;
/// Sessions that find out whether a failing host is back.
const PROBES: usize = 2;

/// Turns that are remembered.
const TURNS: usize = 10_000;

/// How many sessions there may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub sessions: usize,
    pub per_host: usize,
    /// For hosts that have a limit of their own.
    pub hosts: Hosts,
    /// Time over which the first polls of a few maildrops are spread.
    pub startup_spread: Duration,
}

/// How a host is reached. What goes wrong there is nobody's trouble who reaches it in another way: port and pin are an
/// account's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Door {
    /// In lower case.
    pub host: Arc<str>,
    port: u16,
    mode: TlsMode,
    min: TlsVersion,
    pins: Vec<[u8; 32]>,
    server_name: Option<String>,
}

impl Door {
    pub fn of(account: &Account, host: Arc<str>) -> Self {
        let Tls { mode, min, pins, server_name, .. } = account.tls.clone();
        Self { host, port: account.port, mode, min, pins, server_name }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A maildrop that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub maildrop: i64,
    pub door: Arc<Door>,
    pub tenant: Arc<str>,
    /// How long ago it was due.
    pub late: Duration,
}

/// What is news of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// So many accounts in a row found it away that it is no account's own trouble.
    Away,
    Back,
}

/// The places of a worker, and who has them.
#[derive(Debug, Default)]
pub struct Floor {
    limits: Limits,
    running: usize,
    /// Sessions by host.
    hosts: HashMap<Arc<str>, usize>,
    doors: HashMap<Arc<Door>, Behind>,
    /// When a tenant had a turn last: the least goes first.
    turns: HashMap<Arc<str>, u64>,
    turn: u64,
}

/// What is behind a door.
#[derive(Debug, Default)]
struct Behind {
    running: usize,
    /// In a row.
    failures: u32,
    /// The maildrops that failed so, as many as it takes to say that none of them is why.
    failed: Vec<i64>,
}

impl Floor {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Changes the limits. What is above them goes on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn free(&self) -> usize {
        self.places().saturating_sub(self.running)
    }

    pub fn places(&self) -> usize {
        self.limits.sessions.max(1)
    }

    /// Says whether more than half of the places are taken.
    pub fn is_busy(&self) -> bool {
        self.running * 2 > self.limits.sessions
    }

    /// Names the hosts that have no place for now.
    pub fn full(&self) -> Vec<String> {
        let full = self.hosts.keys().filter(|host| self.room(host) == 0);
        full.map(|host| host.to_string()).collect()
    }

    /// Says whether there is a place for it.
    pub fn has_room(&self, candidate: &Candidate) -> bool {
        self.room(&candidate.door.host) > 0 && self.probes(&candidate.door) > 0
    }

    /// Says what is known of a host.
    pub fn host(&self, door: &Door) -> Host {
        match self.doors.get(door) {
            Some(behind) if behind.failed.len() >= FAILING as usize => Host::Away,
            Some(_) | None => Host::Unknown,
        }
    }

    /// Chooses of what is due, the longest due first, what is to be claimed. Nothing is taken until it [`Floor::begins`].
    pub fn choose(&mut self, due: Vec<Candidate>) -> Vec<Candidate> {
        let (mut free, share) = (self.free(), (self.limits.sessions / 2).max(1));
        let mut at_hosts: HashMap<Arc<str>, usize> = HashMap::new();
        let mut at_doors: HashMap<Arc<Door>, usize> = HashMap::new();
        let (mut chosen, mut waiting) = (Vec::new(), self.in_turn(due));
        // First so that nobody has more than half; what is free then is free for anybody.
        for most in [share, usize::MAX] {
            let mut left = Vec::new();
            for candidate in waiting {
                let host = &candidate.door.host;
                let at_host = at_hosts.entry(host.clone()).or_default();
                let at_door = at_doors.entry(candidate.door.clone()).or_default();
                let running = self.hosts.get(host).copied().unwrap_or(0);
                let has_room = *at_host < self.room(host) && *at_door < self.probes(&candidate.door);
                if free > 0 && has_room && running + *at_host < most {
                    (*at_host, *at_door, free) = (*at_host + 1, *at_door + 1, free - 1);
                    chosen.push(candidate);
                } else {
                    left.push(candidate);
                }
            }
            waiting = left;
        }
        chosen
    }

    /// Takes note that a session begins.
    pub fn begins(&mut self, candidate: &Candidate) {
        self.running += 1;
        *self.hosts.entry(candidate.door.host.clone()).or_default() += 1;
        self.doors.entry(candidate.door.clone()).or_default().running += 1;
        self.turn += 1;
        self.turns.insert(candidate.tenant.clone(), self.turn);
        if self.turns.len() > 2 * TURNS {
            // Whoever had a turn long ago has as good a claim as who had none.
            let long_ago = self.turn - TURNS as u64;
            self.turns.retain(|_, turn| *turn > long_ago);
        }
    }

    /// Takes note that the session of a maildrop has left its host. Gives what is news of that.
    pub fn left(&mut self, maildrop: i64, door: &Arc<Door>, answer: Answer) -> Option<News> {
        self.running = self.running.saturating_sub(1);
        if let Some(running) = self.hosts.get_mut(&door.host) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.hosts.remove(&door.host);
            }
        }
        let was = self.host(door);
        let behind = self.doors.get_mut(door)?;
        behind.running = behind.running.saturating_sub(1);
        match answer {
            Answer::Answered => (behind.failures, behind.failed) = (0, Vec::new()),
            Answer::Failed => {
                behind.failures = behind.failures.saturating_add(1);
                if behind.failed.len() < FAILING as usize && !behind.failed.contains(&maildrop) {
                    behind.failed.push(maildrop);
                }
            }
            Answer::None => {}
        }
        if behind.running == 0 && behind.failures == 0 {
            self.doors.remove(door);
        }
        match (was, self.host(door)) {
            (Host::Unknown, Host::Away) => Some(News::Away),
            (Host::Away, Host::Unknown) => Some(News::Back),
            _ => None,
        }
    }

    /// Counts the sessions that may begin with a host.
    fn room(&self, host: &Arc<str>) -> usize {
        let most = self.limits.hosts.max_sessions(host).unwrap_or(self.limits.per_host).max(1);
        most.saturating_sub(self.hosts.get(host).copied().unwrap_or(0))
    }

    /// Counts those that may begin at a door: it is probed while it fails.
    fn probes(&self, door: &Door) -> usize {
        match self.doors.get(door) {
            Some(behind) if behind.failures >= FAILING => PROBES.saturating_sub(behind.running),
            Some(_) | None => usize::MAX,
        }
    }

    /// Puts what is due in the order of its tenants' turns: one of each, then the next of each.
    fn in_turn(&self, due: Vec<Candidate>) -> Vec<Candidate> {
        let mut rounds: HashMap<Arc<str>, usize> = HashMap::new();
        let mut ordered: Vec<_> = due
            .into_iter()
            .enumerate()
            .map(|(place, candidate)| {
                let round = rounds.entry(candidate.tenant.clone()).or_default();
                *round += 1;
                let last = self.turns.get(&candidate.tenant).copied().unwrap_or(0);
                ((*round, last, place), candidate)
            })
            .collect();
        ordered.sort_unstable_by_key(|(order, _)| *order);
        ordered.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn floor(sessions: usize, per_host: usize) -> Floor {
        Floor::new(Limits { sessions, per_host, ..Limits::default() })
    }

    fn door(host: &str) -> Arc<Door> {
        Arc::new(Door::of(&Account::new("a"), host.into()))
    }

    fn due(maildrops: std::ops::Range<i64>, host: &str, tenant: &str) -> Vec<Candidate> {
        let (door, tenant): (_, Arc<str>) = (door(host), tenant.into());
        let candidate = |maildrop| {
            let (door, tenant) = (door.clone(), tenant.clone());
            Candidate { maildrop, door, tenant, late: Duration::ZERO }
        };
        maildrops.map(candidate).collect()
    }

    fn begin(floor: &mut Floor, due: Vec<Candidate>) -> Vec<i64> {
        let chosen = floor.choose(due);
        chosen.iter().for_each(|candidate| floor.begins(candidate));
        chosen.iter().map(|candidate| candidate.maildrop).collect()
    }

    #[test]
    fn no_more_begin_than_places_are_free() {
        let mut floor = floor(5, 100);
        assert_eq!(begin(&mut floor, due(0..3, "a", "t")).len(), 3);
        assert_eq!(begin(&mut floor, due(3..20, "a", "t")).len(), 2);
        assert_eq!(floor.free(), 0);
        floor.left(0, &door("a"), Answer::Answered);
        assert_eq!(begin(&mut floor, due(5..20, "a", "t")), [5]);
    }

    #[test]
    fn a_host_has_its_limit_and_one_of_its_own_if_it_is_written() {
        let mut floor = floor(100, 4);
        let yaml = "hosts: { large: { max_sessions: 10 } }\naccounts: { a: { host: h, user: u, password: p, deliver: { maildir: /m } } }";
        floor.limits.hosts = Config::from_yaml(yaml, std::path::Path::new("config.yaml")).unwrap().hosts;
        let all = [due(0..50, "large", "t"), due(50..100, "small", "t")].concat();
        let begun = begin(&mut floor, all);
        assert_eq!(begun.iter().filter(|maildrop| **maildrop < 50).count(), 10);
        assert_eq!(begun.len(), 14);
        let mut full = floor.full();
        full.sort_unstable();
        assert_eq!(full, ["large", "small"]);
    }

    #[test]
    fn a_host_has_more_than_half_only_while_nobody_else_waits() {
        let mut crowded = floor(10, 100);
        let all = [due(0..50, "a", "t"), due(50..100, "b", "t")].concat();
        let begun = begin(&mut crowded, all);
        assert_eq!(begun.iter().filter(|maildrop| **maildrop < 50).count(), 5);
        assert_eq!(begin(&mut floor(10, 100), due(0..50, "a", "t")).len(), 10);
    }

    #[test]
    fn a_host_that_fails_is_probed_by_two_until_it_answers() {
        let (mut floor, dead) = (floor(100, 20), door("dead"));
        assert_eq!(begin(&mut floor, due(0..5, "dead", "t")).len(), 5);
        (0..4).for_each(|maildrop| assert_eq!(floor.left(maildrop, &dead, Answer::Failed), None));
        assert_eq!(begin(&mut floor, due(5..6, "dead", "t")).len(), 1, "four in a row are chance");
        assert_eq!(floor.left(4, &dead, Answer::Failed), Some(News::Away));
        assert_eq!(floor.left(5, &dead, Answer::None), None);
        assert_eq!(begin(&mut floor, due(6..50, "dead", "t")).len(), 2);
        assert!(due(8..9, "dead", "t").iter().all(|candidate| !floor.has_room(candidate)));
        assert_eq!(floor.left(6, &dead, Answer::Failed), None, "it is told once");
        assert_eq!(begin(&mut floor, due(8..50, "dead", "t")).len(), 1);
        assert_eq!(floor.left(7, &dead, Answer::Answered), Some(News::Back));
        assert_eq!(begin(&mut floor, due(9..50, "dead", "t")).len(), 19);
    }

    #[test]
    fn a_port_or_a_pin_that_is_wrong_is_nobody_elses_trouble() {
        let (mut floor, well) = (floor(100, 20), due(0..50, "h", "t"));
        let wrong = Account { port: 1, ..Account::new("a") };
        let mut pinned = Account::new("a");
        pinned.tls.pins = vec![[7; 32]];
        for account in [&wrong, &pinned] {
            let door = Arc::new(Door::of(account, "h".into()));
            let failing: Vec<_> = due(90..96, "h", "evil")
                .into_iter()
                .map(|due| Candidate { door: door.clone(), ..due })
                .collect();
            assert_eq!(begin(&mut floor, failing.clone()).len(), 6);
            (90..96).for_each(|maildrop| {
                assert_ne!(floor.left(maildrop, &door, Answer::Failed), Some(News::Back));
            });
            assert_eq!(begin(&mut floor, failing).len(), 2);
            assert_eq!((floor.host(&door), floor.host(&well[0].door)), (Host::Away, Host::Unknown));
        }
        assert_eq!(begin(&mut floor, well).len(), 16, "places are the host's");
    }

    #[test]
    fn what_fails_of_few_accounts_may_be_their_own_trouble() {
        let (mut floor, typo) = (floor(100, 20), door("typo"));
        for _ in 0..5 {
            begin(&mut floor, due(0..4, "typo", "t"));
            (0..4).for_each(|maildrop| assert_eq!(floor.left(maildrop, &typo, Answer::Failed), None));
        }
        assert_eq!(floor.host(&typo), Host::Unknown);
        assert_eq!(begin(&mut floor, due(0..4, "typo", "t")).len(), 2);
    }

    #[test]
    fn tenants_take_turns_however_many_maildrops_one_has() {
        let mut floor = floor(6, 100);
        let all = [due(0..1000, "h", "many"), due(1000..1002, "h", "few"), due(1002..1003, "h", "one")];
        assert_eq!(begin(&mut floor, all.concat()), [0, 1000, 1002, 1, 1001, 2]);
        floor.left(0, &door("h"), Answer::Answered);
        // Whoever had its turn longest ago.
        let all = [due(3..1000, "h", "many"), due(1000..1002, "h", "few"), due(1002..1003, "h", "one")];
        assert_eq!(begin(&mut floor, all.concat()), [1002]);
    }
}
