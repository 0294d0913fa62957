//! Workers in a world of their own, where an hour takes a moment: what is due is a list, and sessions are ends in time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::floor::{Candidate, Door, Floor, Limits};
use super::looks::Looks;
use crate::config::{Account, Hosts};
use crate::daemon::schedule::{Dice, Ended, Poll};
use crate::failure::Class;
use crate::session::Answer;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// A maildrop, and what its server is like.
#[derive(Clone)]
struct Drop {
    host: &'static str,
    door: Arc<Door>,
    tenant: Arc<str>,
    every: u64,
    failures: u32,
    polls: u64,
}

struct Site {
    drops: Vec<Drop>,
    /// Those that are free, by the second in which they are due.
    due: BTreeSet<(u64, i64)>,
    workers: Vec<Floor>,
    places: usize,
    /// Sessions by their end: worker, maildrop, when it was due.
    ends: BTreeMap<(u64, u64), (usize, i64)>,
    begun: u64,
    dice: Dice,
    /// The longest wait beyond its time of a maildrop of a host, once an hour has passed.
    late: HashMap<&'static str, u64>,
    most: HashMap<&'static str, usize>,
}

impl Site {
    fn new(drops: Vec<Drop>, workers: usize, limits: &Limits) -> Self {
        let mut dice = Dice::new(42);
        let due = drops.iter().enumerate().map(|(number, drop)| {
            let first = dice.between(Duration::ZERO, Duration::from_secs(drop.every));
            (first.as_secs(), i64::try_from(number).unwrap())
        });
        let due = due.collect();
        let workers = (0..workers).map(|_| Floor::new(limits.clone())).collect();
        let (ends, late, most) = Default::default();
        Self { drops, due, workers, places: limits.sessions, ends, begun: 0, dice, late, most }
    }

    /// Lets hours pass; `fate` says how long a session with a host takes, and whether that answers.
    fn run(&mut self, hours: u64, fate: impl Fn(&str, u64) -> (u64, Answer)) {
        self.seconds(0..hours * HOUR, &fate);
    }

    fn seconds(&mut self, seconds: Range<u64>, fate: &impl Fn(&str, u64) -> (u64, Answer)) {
        for now in seconds {
            while let Some(end) = self.ends.first_entry().filter(|end| end.key().0 <= now) {
                let (worker, number) = end.remove();
                self.end(now, worker, number, fate);
            }
            for worker in 0..self.workers.len() {
                self.turn(now, worker, fate);
            }
        }
    }

    fn end(&mut self, now: u64, worker: usize, number: i64, fate: &impl Fn(&str, u64) -> (u64, Answer)) {
        let drop = &mut self.drops[usize::try_from(number).unwrap()];
        let (took, answer) = fate(drop.host, now);
        self.workers[worker].left(number, &drop.door, answer);
        let ended = match answer {
            Answer::Failed => Ended::Failed(Class::Network),
            Answer::Answered | Answer::None => Ended::Complete,
        };
        let poll = Poll {
            every: Some(Duration::from_secs(drop.every)),
            ended,
            began: Duration::from_secs(took),
            failures: drop.failures,
            refused_for: None,
            apart: Duration::ZERO,
            dispersal: None,
            quiet: Duration::ZERO,
            late: Duration::ZERO,
        };
        let next = poll.next(&mut self.dice);
        drop.failures = next.failures;
        self.due.insert((now + next.wait.unwrap().as_secs(), number));
    }

    fn turn(&mut self, now: u64, worker: usize, fate: &impl Fn(&str, u64) -> (u64, Answer)) {
        let floor = &mut self.workers[worker];
        let free = floor.free();
        if free == 0 {
            return;
        }
        let drops = &self.drops;
        let candidate = |(due, number): &(u64, i64)| {
            let drop = &drops[usize::try_from(*number).unwrap()];
            let (door, tenant) = (drop.door.clone(), drop.tenant.clone());
            Candidate { maildrop: *number, door, tenant, late: Duration::from_secs(now - due) }
        };
        let (mut looks, most) = (Looks::new(floor.full()), free + 200);
        let (mut seen, mut known) = (Vec::new(), BTreeSet::new());
        while let Some(past) = looks.next() {
            let is_seen = |(_, number): &&(u64, i64)| {
                let drop = &drops[usize::try_from(*number).unwrap()];
                !past.hosts.iter().any(|host| host == drop.host)
                    && !past.tenants.iter().any(|tenant| **tenant == *drop.tenant)
            };
            let window: Vec<(u64, i64)> =
                self.due.range(..=(now, i64::MAX)).filter(is_seen).take(most).copied().collect();
            let candidates: Vec<_> = window.iter().map(candidate).collect();
            seen.extend(window.into_iter().filter(|seen| known.insert(*seen)));
            if candidates.len() >= most {
                looks.is_filled(past, &candidates, |_| true);
            }
        }
        let due: HashMap<i64, u64> = seen.iter().map(|(due, number)| (*number, *due)).collect();
        for chosen in floor.choose(seen.iter().map(candidate).collect()) {
            floor.begins(&chosen);
            let at = due[&chosen.maildrop];
            self.due.remove(&(at, chosen.maildrop));
            let drop = &mut self.drops[usize::try_from(chosen.maildrop).unwrap()];
            drop.polls += 1;
            if now >= HOUR {
                let late = self.late.entry(drop.host).or_default();
                *late = (*late).max(now - at);
            }
            self.begun += 1;
            self.ends.insert((now + fate(drop.host, now).0.max(1), self.begun), (worker, chosen.maildrop));
        }
        let running: usize = self.ends.values().filter(|(of, _)| *of == worker).count();
        assert_eq!(running + self.workers[worker].free(), self.places);
        let mut here: HashMap<&str, usize> = HashMap::new();
        for (_, number) in self.ends.values() {
            *here.entry(self.drops[usize::try_from(*number).unwrap()].host).or_default() += 1;
        }
        for (host, count) in here {
            let most = self.most.entry(host).or_default();
            *most = (*most).max(count);
        }
    }
}

fn drops(count: usize, host: &'static str, tenant: &str, every: u64) -> Vec<Drop> {
    let door = Arc::new(Door::of(&Account::new("a"), host.into()));
    vec![Drop { host, door, tenant: tenant.into(), every, failures: 0, polls: 0 }; count]
}

fn limits(sessions: usize, per_host: usize) -> Limits {
    Limits { sessions, per_host, hosts: Hosts::default(), startup_spread: Duration::ZERO }
}

#[test]
fn a_dead_host_of_most_accounts_makes_nobody_else_late_and_is_polled_again_once_it_is_back() {
    let mut all = drops(3000, "dead", "a", 5 * MINUTE);
    all.extend(drops(300, "well", "b", 5 * MINUTE));
    let mut site = Site::new(all, 2, &limits(20, 20));
    // Each session waits a minute for it in vain, until it is back.
    let back = HOUR + HOUR / 2;
    site.run(3, |host, now| match host {
        "dead" if now < back => (MINUTE, Answer::Failed),
        _ => (2, Answer::Answered),
    });
    assert!(site.late["well"] < 10, "{}", site.late["well"]);
    let polled = site.drops.iter().filter(|drop| drop.host == "dead" && drop.failures == 0 && drop.polls > 1);
    assert_eq!(polled.count(), 3000, "it is back");
}

#[test]
fn a_tenant_of_many_maildrops_does_not_make_one_of_few_wait() {
    let mut all = drops(6000, "h", "many", MINUTE);
    all.extend(drops(20, "h", "few", MINUTE));
    // Six thousand polls a minute want two hundred places; there are forty.
    let mut site = Site::new(all, 1, &limits(40, 40));
    site.run(2, |_, _| (2, Answer::Answered));
    let polls =
        |tenant: &str| site.drops.iter().filter(|drop| *drop.tenant == *tenant).map(|drop| drop.polls).min();
    let (many, few) = (polls("many").unwrap(), polls("few").unwrap());
    assert!(few > 100 && many < few / 3, "{many}, {few}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// However many large tenants share what is late, at however many hosts.
    #[test]
    fn a_small_tenant_waits_no_longer_than_its_turn_behind_some_large_ones(
        large in 1_usize..6, hosts in 1_usize..4, places in 4_usize..24, seed in any::<u64>(),
    ) {
        const HOSTS: [&str; 3] = ["one", "two", "three"];
        let mut all = Vec::new();
        for tenant in 0..large {
            all.extend(drops(1500 / large, HOSTS[tenant % hosts], &format!("large{tenant}"), MINUTE));
        }
        all.extend(drops(1, HOSTS[seed as usize % hosts], "small", MINUTE));
        let mut site = Site::new(all, 1, &limits(places, places));
        // All of them are late from the beginning, the small one least.
        let last = site.drops.len() as i64 - 1;
        site.due = (0..last).map(|number| (number as u64 % 60, number)).chain([(61, last)]).collect();
        site.seconds(62..62 + 5 * MINUTE, &|_: &str, _| (2, Answer::Answered));
        let polls = site.drops[last as usize].polls;
        // A minute after the other, and a turn of each tenant.
        prop_assert!(polls >= 4, "{polls} polls in five minutes");
    }
}

#[test]
fn a_host_has_half_of_the_places_at_most_while_others_wait() {
    let mut all = drops(2000, "large", "a", MINUTE);
    all.extend(drops(2000, "other", "b", MINUTE));
    let mut site = Site::new(all, 1, &limits(30, 30));
    site.run(1, |_, _| (3, Answer::Answered));
    assert!(site.most["large"] <= 16 && site.most["other"] <= 16, "{:?}", site.most);
}
