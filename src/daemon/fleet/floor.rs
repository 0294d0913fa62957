//! Which of the maildrops that are due a worker claims: into free places only, so that whoever is slow claims less, and
//! never so that one server's trouble becomes everybody's.
//!
//! Pure: what is due, what began and how it ended are told. A host has as many places as `max_sessions_per_host` or `hosts:`
//! say; at most half of all while others wait; two once it failed five times in a row, until it answers. Tenants take turns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Hosts;
use crate::session::Answer;

/// Failures in a row after which a host counts as failing.
const FAILING: u32 = 5;
/// Sessions that find out whether a failing host is back.
const PROBES: usize = 2;

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

/// A maildrop that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub maildrop: i64,
    /// In lower case.
    pub host: Arc<str>,
    pub tenant: Arc<str>,
}

/// What whoever looks for what is due looks past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    pub hosts: Vec<String>,
    pub tenants: Vec<String>,
}

impl Past {
    /// Adds the host, or else the tenant, that has most of what was seen, so that the next look shows what waits behind; says
    /// whether there is one.
    pub fn add_crowd(&mut self, seen: &[Candidate]) -> bool {
        let crowd = |of: fn(&Candidate) -> &Arc<str>| {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            seen.iter().for_each(|candidate| *counts.entry(of(candidate)).or_default() += 1);
            let most = counts.into_iter().max_by_key(|(_, count)| *count);
            most.filter(|(name, count)| !name.is_empty() && *count > seen.len() / 2)
                .map(|(name, _)| name.to_owned())
        };
        // A tenant first: those of its host may be others'.
        match (crowd(|candidate| &candidate.tenant), crowd(|candidate| &candidate.host)) {
            (Some(tenant), _) => self.tenants.push(tenant),
            (None, Some(host)) => self.hosts.push(host),
            (None, None) => return false,
        }
        true
    }
}

/// The places of a worker, and who has them.
#[derive(Debug, Default)]
pub struct Floor {
    limits: Limits,
    running: usize,
    hosts: HashMap<Arc<str>, Host>,
    /// When a tenant had a turn last: the least goes first.
    turns: HashMap<Arc<str>, u64>,
    turn: u64,
}

#[derive(Debug, Default)]
struct Host {
    running: usize,
    /// In a row.
    failures: u32,
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
        self.limits.sessions.max(1).saturating_sub(self.running)
    }

    /// Says whether more than half of the places are taken.
    pub fn is_busy(&self) -> bool {
        self.running * 2 > self.limits.sessions
    }

    /// Names the hosts that have no place for now.
    pub fn full(&self) -> Past {
        let full = self.hosts.keys().filter(|host| self.room(host) == 0);
        Past { hosts: full.map(|host| host.to_string()).collect(), tenants: Vec::new() }
    }

    /// Chooses of what is due, the longest due first, what is to be claimed. Nothing is taken until it [`Floor::begins`].
    pub fn choose(&mut self, due: Vec<Candidate>) -> Vec<Candidate> {
        let (mut free, share) = (self.free(), (self.limits.sessions / 2).max(1));
        let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
        let (mut chosen, mut waiting) = (Vec::new(), self.in_turn(due));
        // First so that nobody has more than half; what is free then is free for anybody.
        for most in [share, usize::MAX] {
            let mut left = Vec::new();
            for candidate in waiting {
                let taken = taken.entry(candidate.host.clone()).or_default();
                let running = self.hosts.get(&candidate.host).map_or(0, |host| host.running);
                if free > 0 && *taken < self.room(&candidate.host) && running + *taken < most {
                    (*taken, free) = (*taken + 1, free - 1);
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
        self.hosts.entry(candidate.host.clone()).or_default().running += 1;
        self.turn += 1;
        self.turns.insert(candidate.tenant.clone(), self.turn);
    }

    /// Takes note that a session has left its host.
    pub fn left(&mut self, host: &Arc<str>, answer: Answer) {
        self.running = self.running.saturating_sub(1);
        let Some(known) = self.hosts.get_mut(host) else { return };
        known.running = known.running.saturating_sub(1);
        match answer {
            Answer::Answered => known.failures = 0,
            Answer::Failed => known.failures = known.failures.saturating_add(1),
            Answer::None => {}
        }
        if known.running == 0 && known.failures == 0 {
            self.hosts.remove(host);
        }
        if self.running == 0 {
            // Whoever had a turn long ago has as good a claim as who had none.
            self.turns.clear();
        }
    }

    /// Counts the sessions that may begin with a host.
    fn room(&self, host: &Arc<str>) -> usize {
        let most = self.limits.hosts.max_sessions(host).unwrap_or(self.limits.per_host).max(1);
        let Some(known) = self.hosts.get(host) else { return most };
        let most = if known.failures >= FAILING { most.min(PROBES) } else { most };
        most.saturating_sub(known.running)
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

    fn due(maildrops: std::ops::Range<i64>, host: &str, tenant: &str) -> Vec<Candidate> {
        maildrops.map(|maildrop| Candidate { maildrop, host: host.into(), tenant: tenant.into() }).collect()
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
        floor.left(&"a".into(), Answer::Answered);
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
        let mut full = floor.full().hosts;
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
        let mut floor = floor(100, 20);
        let host: Arc<str> = "dead".into();
        assert_eq!(begin(&mut floor, due(0..5, "dead", "t")).len(), 5);
        (0..4).for_each(|_| floor.left(&host, Answer::Failed));
        assert_eq!(begin(&mut floor, due(5..6, "dead", "t")).len(), 1, "four in a row are chance");
        floor.left(&host, Answer::Failed);
        floor.left(&host, Answer::None);
        assert_eq!(begin(&mut floor, due(6..50, "dead", "t")).len(), 2);
        assert_eq!(floor.full().hosts, ["dead"]);
        floor.left(&host, Answer::Failed);
        assert_eq!(begin(&mut floor, due(8..50, "dead", "t")).len(), 1);
        floor.left(&host, Answer::Answered);
        assert_eq!(begin(&mut floor, due(9..50, "dead", "t")).len(), 19);
    }

    #[test]
    fn tenants_take_turns_however_many_maildrops_one_has() {
        let mut floor = floor(6, 100);
        let all = [due(0..1000, "h", "many"), due(1000..1002, "h", "few"), due(1002..1003, "h", "one")];
        assert_eq!(begin(&mut floor, all.concat()), [0, 1000, 1002, 1, 1001, 2]);
        floor.left(&"h".into(), Answer::Answered);
        // Whoever had its turn longest ago.
        let all = [due(3..1000, "h", "many"), due(1000..1002, "h", "few"), due(1002..1003, "h", "one")];
        assert_eq!(begin(&mut floor, all.concat()), [1002]);
    }
}
