//! The schedule in a world of its own, where a week takes a second.

mod any_order;
mod reloads;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::entry::GRACE;
use super::*;
use crate::config::account::Interval;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const LIMITS: SessionLimits =
    SessionLimits { max_sessions: 64, max_sessions_per_host: 4, startup_spread: Duration::from_secs(30) };

/// What a session comes to: how long it takes, how it ends, the LOGIN-DELAY announced.
type Fate = (Duration, Ended, Option<Duration>);

/// A schedule, its sessions and their limits.
struct World {
    schedule: Schedule,
    limits: SessionLimits,
    now: Duration,
    /// Sessions by their end.
    ends: BTreeMap<(Duration, u64), (Arc<Account>, Fate)>,
    begun: u64,
    running: HashMap<Arc<str>, usize>,
    /// Beginnings of sessions: when, whose.
    starts: Vec<(Duration, Arc<Account>)>,
}

impl World {
    fn new(accounts: &[Arc<Account>], limits: SessionLimits) -> Self {
        let mut schedule = Schedule::new(limits, 42);
        schedule.set_accounts(Duration::ZERO, accounts, limits);
        Self {
            schedule,
            limits,
            now: Duration::ZERO,
            ends: BTreeMap::new(),
            begun: 0,
            running: HashMap::new(),
            starts: Vec::new(),
        }
    }

    /// Lets the world go on until a time; `fate` decides over each session. The limits are never exceeded.
    fn run(&mut self, until: Duration, mut fate: impl FnMut(&Start, Duration) -> Fate) {
        loop {
            while let Some(end) = self.ends.first_entry().filter(|end| end.key().0 <= self.now) {
                let (account, (_, ended, login_delay)) = end.remove();
                *self.running.get_mut(&*account.host).unwrap() -= 1;
                let log_in = LogIn { delay: login_delay, ..LogIn::default() };
                self.schedule.ended(self.now, &account.name, ended, log_in);
            }
            let turn = self.schedule.next(self.now);
            for start in turn.start {
                let fate = fate(&start, self.now);
                let host = &*start.account.host;
                if !self.running.contains_key(host) {
                    self.running.insert(host.into(), 0);
                }
                let here = self.running.get_mut(host).unwrap();
                *here += 1;
                assert!(
                    *here <= self.limits.max_sessions_per_host,
                    "{} at {:?}",
                    start.account.name,
                    self.now
                );
                self.starts.push((self.now, start.account.clone()));
                self.begun += 1;
                self.ends.insert((self.now + fate.0, self.begun), (start.account, fate));
            }
            assert!(
                self.ends.len() <= self.limits.max_sessions && self.ends.len() == self.schedule.sessions()
            );
            let ended = self.ends.first_key_value().map(|(end, _)| end.0);
            match [ended, turn.wait_until].into_iter().flatten().min() {
                Some(next) if next < until => {
                    assert!(next > self.now || ended == Some(self.now), "no time passes at {:?}", self.now);
                    self.now = next;
                }
                _ => return self.now = until,
            }
        }
    }

    /// Counts the sessions that begin in a span.
    fn between(&self, from: Duration, to: Duration) -> usize {
        self.starts.iter().filter(|(at, _)| (from..to).contains(at)).count()
    }

    /// Gives when the sessions of an account began.
    fn of(&self, name: &str) -> Vec<Duration> {
        self.starts.iter().filter(|(_, account)| account.name == name).map(|(at, _)| *at).collect()
    }
}

fn account(name: &str, host: &str, interval: Interval) -> Arc<Account> {
    Arc::new(Account { host: host.into(), interval, ..Account::new(name) })
}

/// Makes accounts `0`, `1` ... from one.
fn accounts(
    count: usize,
    host: impl Fn(usize) -> String,
    every: impl Fn(usize) -> Duration,
) -> Vec<Arc<Account>> {
    let model = account("", "", Interval::Manual);
    let account = |number: usize| Account {
        name: number.to_string(),
        host: host(number),
        interval: Interval::Every(every(number)),
        ..(*model).clone()
    };
    (0..count).map(|number| Arc::new(account(number))).collect()
}

fn fine(took: Duration) -> Fate {
    (took, Ended::Complete, None)
}

fn failed(class: Class) -> Fate {
    (SECOND, Ended::Failed(class), None)
}

#[test]
fn whoever_looks_is_told_of_each_next_poll_once() {
    let named = |name: &str, interval| {
        Arc::new(Account { maildrop_id: name.into(), ..(*account(name, name, interval)).clone() })
    };
    let hourly = |name| named(name, Interval::Every(HOUR));
    let accounts = [hourly("a"), hourly("b"), named("c", Interval::Manual)];
    let mut world = World::new(&accounts, LIMITS);
    let id = |n: usize| accounts[n].maildrop_id.as_str();
    let changes = world.schedule.changes();
    assert_eq!((changes.len(), changes[id(2)], changes[id(0)]), (3, None, Some(Duration::ZERO)));
    assert!(world.schedule.changes().is_empty());
    // Of a poll that has begun, since when it goes on.
    world.schedule.next(MINUTE);
    let begun = [(id(0).into(), Some(MINUTE)), (id(1).into(), Some(MINUTE))];
    assert_eq!(world.schedule.changes(), HashMap::from(begun));
    let next = world.schedule.ended(2 * MINUTE, "a", Ended::Complete, LogIn::default());
    assert_eq!(world.schedule.changes(), HashMap::from([(id(0).into(), next)]));
    world.schedule.set_accounts(2 * MINUTE, &accounts[..1], LIMITS);
    assert_eq!(world.schedule.changes()[id(1)], None);
}

#[test]
fn in_a_week_of_ten_thousand_accounts_none_starves_and_no_limit_is_exceeded() {
    let dead = |number: usize| number % 10 < 3;
    let host = |number: usize| if dead(number) { "dead".into() } else { format!("host{}", number % 700) };
    let every = |number: usize| if number < 10 { 10 * MINUTE } else { (16 + number as u32 % 17) * HOUR };
    let all = accounts(10_000, host, every);
    let mut world = World::new(&all, LIMITS);
    let away = DAY..3 * DAY;
    // One has very many messages, and a slow line.
    let mut waiting: usize = 20_000;
    world.run(7 * DAY, |start, now| match &*start.account.host {
        "dead" if away.contains(&now) => (MINUTE, Ended::Failed(Class::Network), None),
        _ if start.account.name == "17" && waiting > 0 => {
            let fetched = waiting.min(start.messages.unwrap());
            waiting -= fetched;
            let ended = if waiting > 0 { Ended::Unfinished } else { Ended::Complete };
            (SECOND * fetched as u32, ended, None)
        }
        _ => fine(2 * SECOND),
    });
    assert_eq!(waiting, 0);
    let mut last: HashMap<&str, Duration> =
        all.iter().map(|account| (account.name.as_str(), Duration::ZERO)).collect();
    for (at, account) in &world.starts {
        let before = last.insert(&account.name, *at).unwrap();
        let every = interval(account).unwrap();
        if account.host != "dead" || at < &away.start || before > away.end + DAY {
            // The jitter, and the wait for a place among those who share the host: fifteen fellows at most, one of
            // which may be the one with many messages.
            let longest = every.mul_f64(1.1) + 30 * MINUTE;
            assert!(*at - before <= longest, "{} at {at:?}, before that at {before:?}", account.name);
        }
    }
    let end = 7 * DAY;
    assert!(
        all.iter()
            .all(|account| end - last[&*account.name] <= interval(account).unwrap().mul_f64(1.1) + HOUR)
    );
}

#[test]
fn three_thousand_accounts_of_a_dead_host_are_no_storm_and_are_all_back_soon_after_it() {
    let every = 5 * MINUTE;
    let mut all = accounts(3000, |_| "dead".into(), |_| every);
    all.extend((0..50).map(|number| account(&format!("other{number}"), "alive", Interval::Every(every))));
    let mut world = World::new(&all, LIMITS);
    let tenth = SECOND / 10;
    world.run(HOUR, |_, _| fine(tenth));
    // The host refuses at once, which is when a client could be fastest.
    let back = 6 * HOUR;
    world.run(back, |start, _| match &*start.account.host {
        "dead" => (SECOND / 50, Ended::Failed(Class::Network), None),
        _ => fine(tenth),
    });
    world.run(7 * HOUR, |_, _| fine(tenth));
    let mut minutes = vec![0; 7 * 60];
    let dead = |account: &Account| account.host == "dead";
    world.starts.iter().filter(|(_, account)| dead(account)).for_each(|(at, _)| {
        minutes[usize::try_from(at.as_secs() / 60).unwrap()] += 1;
    });
    // A healthy host sees 600 a minute, once the crowd of the start has dispersed.
    let worst = minutes[10..].iter().max().unwrap();
    assert!(*worst <= 800, "{worst} log-ins in one minute: {minutes:?}");
    let later = minutes[3 * 60..6 * 60].iter().max().unwrap();
    assert!(*later <= 150, "{later} attempts in one minute, hours after it died: {minutes:?}");
    let again: HashSet<_> = world
        .starts
        .iter()
        .filter(|(at, account)| (back..back + every + MINUTE).contains(at) && dead(account))
        .map(|(_, account)| &account.name)
        .collect();
    assert_eq!(again.len(), 3000, "polled within an interval and a minute after the host came back");
    let others = world.starts.iter().filter(|(_, account)| !dead(account));
    let mut polls: HashMap<&str, Vec<Duration>> = HashMap::new();
    others.for_each(|(at, account)| polls.entry(&account.name).or_default().push(*at));
    assert_eq!(polls.len(), 50);
    let longest = every.mul_f64(1.1) + 2 * SECOND;
    assert!(polls.values().all(|polls| polls.windows(2).all(|two| two[1] - two[0] <= longest)), "{polls:?}");
}

#[test]
fn first_polls_are_spread_evenly_and_the_first_is_at_once() {
    let mut world = World::new(&accounts(300, |_| "a".into(), |_| 5 * MINUTE), LIMITS);
    world.run(5 * MINUTE, |_, _| fine(SECOND / 10));
    assert_eq!(world.starts[0].0, Duration::ZERO);
    let mut seen = HashSet::new();
    let first: Vec<_> = world.starts.iter().filter(|(_, account)| seen.insert(&account.name)).collect();
    for second in 0..30 {
        let begun = first.iter().filter(|(at, _)| at.as_secs() == second).count();
        assert!((9..=11).contains(&begun), "{begun} in second {second}");
    }
    let most = (1..5).map(|minute| world.between(minute * MINUTE, (minute + 1) * MINUTE)).max().unwrap();
    assert!(most <= 120, "{most} polls in one minute: the second ones are dispersed over the interval");
    let alone = account("a", "a", Interval::Every(SECOND));
    let mut world = World::new(&[alone.clone(), account("b", "b", Interval::Every(2 * SECOND))], LIMITS);
    world.run(SECOND / 4, |_, _| fine(SECOND / 10));
    assert_eq!((world.of("a").len(), world.of("b").len()), (1, 0));
    world.run(2 * SECOND, |_, _| fine(SECOND / 10));
    assert!(!world.of("b").is_empty(), "no spread is longer than the interval");
}

#[test]
fn after_a_suspend_there_is_no_burst_and_nobody_waits_another_interval() {
    let mut world = World::new(&accounts(600, |number| number.to_string(), |_| 5 * MINUTE), LIMITS);
    world.run(HOUR, |_, _| fine(SECOND));
    // Sessions that were under way fail when the machine wakes up.
    let woken = 10 * HOUR;
    world.now = woken;
    world.run(woken + 5 * MINUTE, |_, _| fine(SECOND));
    for second in 0..30 {
        let begun = world.between(woken + second * SECOND, woken + (second + 1) * SECOND);
        assert!(begun <= 25, "{begun} sessions in second {second}");
    }
    let polled: HashSet<_> =
        world.starts.iter().filter(|(at, _)| *at >= woken).map(|(_, a)| &a.name).collect();
    assert_eq!(polled.len(), 600);
    assert!(world.between(woken, woken + 30 * SECOND) >= 590, "what was missed comes within the spread");
}

#[test]
fn one_with_many_messages_goes_behind_those_who_wait() {
    let limits = SessionLimits { max_sessions: 1, max_sessions_per_host: 1, startup_spread: Duration::ZERO };
    let mut world = World::new(&accounts(3, |number| number.to_string(), |_| HOUR), limits);
    world.run(MINUTE, |start, _| {
        let ended = if start.account.name == "0" { Ended::Unfinished } else { Ended::Complete };
        (5 * SECOND, ended, None)
    });
    let order: Vec<_> = world.starts.iter().map(|(_, account)| account.name.as_str()).collect();
    assert_eq!(order[..5], ["0", "1", "2", "0", "0"]);
}

#[test]
fn login_delay_is_kept_announced_or_not_and_whoever_asks() {
    let one = [account("a", "a", Interval::Every(MINUTE))];
    let apart = |world: &World, least: Duration| {
        let polls = world.of("a");
        assert!(polls.windows(2).skip(1).all(|two| two[1] - two[0] >= least), "{polls:?}");
        polls.len()
    };
    let mut world = World::new(&one, LIMITS);
    world.run(HOUR, |_, _| (SECOND, Ended::Complete, Some(15 * MINUTE)));
    assert!(world.schedule.wake(world.now, "a"));
    world.run(2 * HOUR, |start, _| {
        assert_eq!(start.messages, None, "where log-ins are rationed, each takes all it can");
        (SECOND, Ended::Complete, Some(15 * MINUTE))
    });
    assert_eq!(apart(&world, 15 * MINUTE), 8);

    // Not announced: found out by being refused, and then kept.
    let mut world = World::new(&one, LIMITS);
    let mut last: Option<Duration> = None;
    let mut refused = 0;
    world.run(12 * HOUR, |_, now| {
        let soon = last.is_some_and(|last| now - last < 5 * MINUTE);
        last = Some(now);
        refused += u32::from(soon);
        if soon { failed(Class::LoginDelay) } else { fine(SECOND) }
    });
    assert!((1..=3).contains(&refused), "refused {refused} times");
    assert!(world.starts.len() > 12 * 60 / 10);
}

#[test]
fn failures_wait_longer_and_longer_and_a_success_ends_that() {
    let mut world = World::new(&[account("a", "a", Interval::Every(5 * MINUTE))], LIMITS);
    world.run(12 * HOUR, |_, _| failed(Class::Refused));
    let gaps: Vec<_> = world.of("a").windows(2).map(|two| (two[1] - two[0]).as_secs_f64() / 60.0).collect();
    for (gap, most) in gaps.iter().zip([5.0_f64, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0]) {
        assert!(((most * 0.5).max(4.5)..=most + 0.1).contains(gap), "{gaps:?}");
    }
    world.starts.clear();
    world.run(15 * HOUR, |_, _| fine(SECOND));
    assert!(world.of("a").windows(2).all(|two| two[1] - two[0] <= 6 * MINUTE));

    let mut world = World::new(&[account("a", "a", Interval::Every(5 * MINUTE))], LIMITS);
    world.run(50 * MINUTE, |_, _| failed(Class::Permanent));
    assert_eq!(world.starts.len(), 1, "where a person must act, the longest wait comes first");
    world.schedule.wake(world.now, "a");
    world.run(51 * MINUTE, |_, _| failed(Class::Permanent));
    assert_eq!(world.starts.len(), 2, "who asks is not made to wait");
}

#[test]
fn one_success_does_not_call_back_an_account_that_the_server_always_fails() {
    let all =
        [account("fails", "a", Interval::Every(MINUTE)), account("works", "a", Interval::Every(MINUTE))];
    let mut world = World::new(&all, LIMITS);
    world.run(10 * HOUR, |start, _| match &*start.account.name {
        "fails" => failed(Class::Network),
        _ => fine(SECOND),
    });
    assert!(world.of("fails").len() < 25 && world.of("works").len() > 500);
}

#[test]
fn a_manual_account_is_polled_when_it_is_asked_for_and_only_then() {
    let all = [account("manual", "a", Interval::Manual), account("a", "a", Interval::Every(HOUR))];
    let mut world = World::new(&all, LIMITS);
    world.run(10 * MINUTE, |_, _| fine(SECOND));
    world.schedule.wake_all(world.now);
    world.run(20 * MINUTE, |_, _| fine(SECOND));
    assert_eq!((world.of("manual").len(), world.of("a").len()), (0, 2));
    assert!(world.schedule.wake(world.now, "manual") && !world.schedule.wake(world.now, "nobody"));
    let mut fates = vec![failed(Class::Network), (SECOND, Ended::Unfinished, None)];
    world.run(30 * MINUTE, |_, _| fates.pop().unwrap());
    assert_eq!(world.of("manual").len(), 2, "it goes on to the end, but a failure is not tried again");
}

#[test]
fn a_wake_during_a_session_is_followed_by_another() {
    let mut world = World::new(&[account("a", "a", Interval::Every(HOUR))], LIMITS);
    world.run(SECOND, |_, _| fine(MINUTE));
    assert_eq!(world.schedule.sessions(), 1);
    for _ in 0..3 {
        world.schedule.wake(world.now, "a");
    }
    world.run(10 * MINUTE, |_, _| fine(MINUTE));
    assert_eq!(world.of("a"), [Duration::ZERO, MINUTE]);
}

#[test]
fn what_is_done_after_a_session_keeps_nobody_waiting_but_its_own_account() {
    let limits = SessionLimits { max_sessions: 1, max_sessions_per_host: 1, startup_spread: Duration::ZERO };
    let mut schedule = Schedule::new(limits, 1);
    schedule.set_accounts(Duration::ZERO, &accounts(3, |_| "a".into(), |_| MINUTE), limits);
    let begun = |schedule: &mut Schedule, now| -> Vec<_> {
        schedule.next(now).start.iter().map(|start| start.account.name.clone()).collect()
    };
    assert_eq!(begun(&mut schedule, Duration::ZERO), ["0"]);
    schedule.left("0");
    assert_eq!(begun(&mut schedule, SECOND), ["1"]);
    schedule.left("0");
    assert!(begun(&mut schedule, SECOND).is_empty(), "a place is given back once");
    schedule.wake(2 * SECOND, "0");
    for (number, next) in [("1", "2"), ("2", "")] {
        schedule.ended(2 * SECOND, number, Ended::Complete, LogIn::default());
        assert_eq!(begun(&mut schedule, 3 * SECOND).concat(), next, "the hook of 0 goes on");
    }
    schedule.ended(4 * SECOND, "0", Ended::Complete, LogIn::default());
    assert_eq!(begun(&mut schedule, 4 * SECOND), ["0"]);
    assert_eq!(schedule.sessions(), 1);
}

#[test]
fn a_reload_keeps_timers_of_what_did_not_change_and_all_sessions() {
    let hourly = |name| account(name, "a", Interval::Every(HOUR));
    let [keep, change, gone, new] = ["keep", "change", "gone", "new"].map(hourly);
    let mut world = World::new(&[keep.clone(), change.clone(), gone.clone()], LIMITS);
    world.run(MINUTE, |start, _| match &*start.account.name {
        "gone" => fine(30 * MINUTE),
        _ => fine(SECOND),
    });
    let changed = Arc::new(Account { user: "other".into(), ..(*change).clone() });
    let disabled = Arc::new(Account { enabled: false, ..(*hourly("disabled")).clone() });
    world.schedule.set_accounts(world.now, &[keep.clone(), changed, new, disabled], LIMITS);
    world.run(2 * MINUTE, |_, _| fine(SECOND));
    let polls = ["keep", "change", "gone", "new", "disabled"].map(|name| world.of(name).len());
    assert_eq!((polls, world.schedule.sessions()), ([1, 2, 1, 1, 0], 1));
    // It comes back while its session goes on: one at a time, and then with what is configured now.
    world.schedule.set_accounts(world.now, &[keep.clone(), gone], LIMITS);
    world.run(40 * MINUTE, |_, _| fine(SECOND));
    assert_eq!(world.of("gone").len(), 2);
    assert!(world.of("gone")[1] >= 30 * MINUTE);
    world.run(70 * MINUTE, |_, _| fine(SECOND));
    assert_eq!(world.of("keep").len(), 2, "a reload is no reason to poll what did not change");
}

#[test]
fn a_wait_that_an_earlier_process_began_goes_on() {
    let names = ["fine", "failing", "over", "delayed", "message", "manual"];
    let interval = |name| if name == "manual" { Interval::Manual } else { Interval::Every(5 * MINUTE) };
    let accounts = names.map(|name| account(name, name, interval(name)));
    let limits = SessionLimits { startup_spread: Duration::ZERO, ..LIMITS };
    let mut world = World::new(&accounts, limits);
    world.now = HOUR;
    let past = |minutes: u32, class, failures, login_delay| Past {
        ago: minutes * MINUTE,
        class,
        failures,
        login_delay,
    };
    for (name, past) in [
        ("fine", past(1, None, 0, None)),
        ("failing", past(1, Some(Class::Network), 4, None)),
        ("over", past(50, Some(Class::Network), 4, None)),
        ("delayed", past(1, None, 0, Some(15 * MINUTE))),
        ("message", past(1, Some(Class::Message), 1, None)),
        ("manual", past(1, Some(Class::Network), 9, None)),
        ("nobody", past(1, Some(Class::Network), 9, None)),
    ] {
        world.schedule.recall(HOUR, name, past);
    }
    world.run(HOUR + 2 * MINUTE, |_, _| fine(SECOND));
    let at_once = |name| world.of(name)[0] == HOUR;
    assert!(["fine", "over", "message"].into_iter().all(at_once), "{:?}", world.starts);
    world.run(HOUR + 40 * MINUTE, |start, _| match &*start.account.name {
        "failing" => failed(Class::Network),
        _ => fine(SECOND),
    });
    let failing = world.of("failing");
    // The fourth in a row waits 20 to 40 minutes; one has passed. It goes on to count where it was.
    assert!((19 * MINUTE..=39 * MINUTE).contains(&(failing[0] - HOUR)), "{failing:?}");
    assert!(failing[1..].iter().all(|at| *at - failing[0] >= 30 * MINUTE), "{failing:?}");
    assert_eq!(world.of("delayed")[0], HOUR + 14 * MINUTE + GRACE);
    assert!(world.of("manual").is_empty());
}

#[test]
fn a_refused_log_in_is_tried_again_when_its_wait_is_over_however_long_the_backoff_has_become() {
    let one = account("a", "a.example", Interval::Every(5 * MINUTE));
    let mut schedule = Schedule::new(LIMITS, 1);
    schedule.set_accounts(Duration::ZERO, &[one], LIMITS);
    let (mut now, mut tried) = (Duration::ZERO, Vec::new());
    let mut until = Duration::ZERO;
    while now < DAY {
        assert_eq!(schedule.next(now).start.len(), 1, "at {now:?}");
        if now >= until {
            tried.push(now);
            until = now + if tried.len() > 2 { HOUR } else { 15 * MINUTE };
        }
        let log_in = LogIn { refused_for: Some(until - now), ..LogIn::default() };
        now = schedule.ended(now, "a", Ended::Failed(Class::Credentials), log_in).unwrap();
        assert!(now <= until + GRACE, "at {now:?}, until {until:?}");
    }
    assert_eq!(tried.len(), 26, "{tried:?}");
}
