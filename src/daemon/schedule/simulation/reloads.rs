//! What a reload changes, and what it does not.

use super::*;

#[test]
fn an_account_that_a_reload_changed_keeps_to_login_delay_and_goes_on_counting_its_failures() {
    let one = account("a", "a", Interval::Every(5 * MINUTE));
    let changed = Arc::new(Account { timeout: SECOND, ..(*one).clone() });
    let elsewhere = [
        Arc::new(Account { maildrop_id: "other".into(), ..(*one).clone() }),
        Arc::new(Account { port: 1, ..(*one).clone() }),
    ];
    let delayed = || {
        let mut world = World::new(std::slice::from_ref(&one), LIMITS);
        world.run(MINUTE, |_, _| (SECOND, Ended::Complete, Some(15 * MINUTE)));
        world
    };
    let mut world = delayed();
    assert!(world.schedule.set_accounts(MINUTE, std::slice::from_ref(&changed), LIMITS).is_empty());
    world.run(HOUR, |_, _| fine(SECOND));
    assert!(world.of("a")[1] >= 15 * MINUTE, "{:?}", world.of("a"));
    for elsewhere in elsewhere {
        let mut world = delayed();
        let unknown = world.schedule.set_accounts(MINUTE, &[elsewhere], LIMITS);
        assert_eq!(unknown, HashSet::from(["a".into()]));
        world.run(HOUR, |_, _| fine(SECOND));
        assert_eq!(world.of("a")[1], MINUTE, "another maildrop");
    }

    let mut world = World::new(std::slice::from_ref(&one), LIMITS);
    world.run(2 * HOUR, |_, _| failed(Class::Refused));
    let (polls, now) = (world.of("a").len(), world.now);
    world.schedule.set_accounts(now, &[changed], LIMITS);
    world.run(now + 25 * MINUTE, |_, _| failed(Class::Refused));
    assert_eq!(world.of("a")[polls..], [now], "tried at once, and then as late as before");
}

#[test]
fn login_delay_counts_from_the_log_in_not_from_the_beginning_or_the_end() {
    let one = [account("a", "a", Interval::Every(MINUTE))];
    for (after, counts_from) in [(None, Duration::ZERO), (Some(40 * SECOND), 40 * SECOND)] {
        let mut schedule = Schedule::new(LIMITS, 1);
        schedule.set_accounts(Duration::ZERO, &one, LIMITS);
        assert_eq!(schedule.next(Duration::ZERO).start.len(), 1);
        let log_in = LogIn { after, delay: Some(10 * MINUTE), ..LogIn::default() };
        let next = schedule.ended(9 * MINUTE, "a", Ended::Complete, log_in);
        assert_eq!(next, Some(counts_from + 10 * MINUTE + GRACE));
    }
}

#[test]
fn a_session_that_a_reload_left_behind_says_nothing_of_the_maildrop_that_is_meant_now() {
    let one = account("a", "a", Interval::Every(MINUTE));
    let moved = Arc::new(Account { host: "b".into(), ..(*one).clone() });
    let mut schedule = Schedule::new(LIMITS, 1);
    schedule.set_accounts(Duration::ZERO, &[one], LIMITS);
    schedule.next(Duration::ZERO);
    schedule.set_accounts(SECOND, std::slice::from_ref(&moved), LIMITS);
    let log_in = LogIn { after: Some(SECOND), delay: Some(HOUR), ..LogIn::default() };
    assert_eq!(schedule.ended(MINUTE, "a", Ended::Failed(Class::Permanent), log_in), Some(MINUTE));
    let start = schedule.next(MINUTE).start;
    assert_eq!(start.iter().map(|start| &start.account).collect::<Vec<_>>(), [&moved]);
    assert!(schedule.entries.values().all(|entry| entry.failures == 0));
}
