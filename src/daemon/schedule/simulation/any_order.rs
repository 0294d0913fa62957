//! Whatever happens, in any order.

use super::*;

/// Something that happens to a schedule.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Leave(usize),
    End(usize, Ended),
    Wake(usize),
    WakeAll,
    Reload(Vec<(usize, bool)>, usize, usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let class = prop_oneof![
        Just(Ended::Complete),
        Just(Ended::Unfinished),
        Just(Ended::Failed(Class::Network)),
        Just(Ended::Failed(Class::LoginDelay)),
        Just(Ended::Failed(Class::Permanent)),
    ];
    let event = prop_oneof![
        4 => (0_u64..2000).prop_map(Event::Pass),
        4 => any::<usize>().prop_map(Event::Leave),
        8 => (any::<usize>(), class).prop_map(|(which, ended)| Event::End(which, ended)),
        1 => (0_usize..12).prop_map(Event::Wake),
        1 => Just(Event::WakeAll),
        1 => (prop::collection::vec((0_usize..12, any::<bool>()), 0..12), 0_usize..5, 0_usize..4)
            .prop_map(|(accounts, all, here)| Event::Reload(accounts, all, here)),
    ];
    prop::collection::vec(event, 0..120)
}

proptest! {
    /// Whatever happens in whatever order: one session an account, limits kept by all that begins, no turn that
    /// leaves a free place to nobody while somebody is due, and every account with an interval comes again.
    #[test]
    fn limits_hold_and_nobody_is_forgotten(events in events(), seed in any::<u64>()) {
        let make = |number: usize, changed: bool| {
            let every = Interval::Every(Duration::from_secs(60 * (1 + number as u64 % 4)));
            let host = if number.is_multiple_of(3) { "a" } else { "B" };
            let account = account(&number.to_string(), host, if number == 11 { Interval::Manual } else { every });
            Arc::new(Account { user: if changed { "x" } else { "y" }.into(), ..(*account).clone() })
        };
        let mut limits = SessionLimits { max_sessions: 3, max_sessions_per_host: 2, startup_spread: MINUTE };
        let mut schedule = Schedule::new(limits, seed);
        let mut accounts: Vec<_> = (0..6).map(|number| make(number, false)).collect();
        schedule.set_accounts(Duration::ZERO, &accounts, limits);
        let mut now = Duration::ZERO;
        let mut running: Vec<Arc<Account>> = Vec::new();
        let mut placed: Vec<Arc<Account>> = Vec::new();
        for event in events {
            match event {
                Event::Pass(seconds) => now += Duration::from_secs(seconds),
                Event::Leave(which) if !placed.is_empty() => {
                    let account = placed.swap_remove(which % placed.len());
                    schedule.left(&account.name);
                }
                Event::Leave(_) => {}
                Event::End(which, ended) if !running.is_empty() => {
                    let account = running.swap_remove(which % running.len());
                    placed.retain(|other| other.name != account.name);
                    schedule.ended(now, &account.name, ended, LogIn::default());
                }
                Event::End(..) => {}
                Event::Wake(number) => {
                    let known = accounts.iter().any(|account| account.name == number.to_string());
                    prop_assert_eq!(schedule.wake(now, &number.to_string()), known);
                }
                Event::WakeAll => schedule.wake_all(now),
                Event::Reload(named, all, here) => {
                    limits = SessionLimits { max_sessions: all, max_sessions_per_host: here, ..limits };
                    let named: BTreeMap<_, _> = named.into_iter().collect();
                    accounts = named.into_iter().map(|(number, changed)| make(number, changed)).collect();
                    schedule.set_accounts(now, &accounts, limits);
                }
            }
            let turn = schedule.next(now);
            for start in turn.start {
                prop_assert!(running.iter().all(|other| other.name != start.account.name));
                prop_assert!(accounts.contains(&start.account));
                running.push(start.account.clone());
                placed.push(start.account.clone());
                let here = placed.iter().filter(|other| other.host == start.account.host).count();
                prop_assert!(placed.len() <= limits.max_sessions.max(1));
                prop_assert!(here <= limits.max_sessions_per_host.max(1));
            }
            prop_assert_eq!(schedule.sessions(), placed.len());
            prop_assert!(turn.wait_until.is_none_or(|until| until > now));
        }
        // From here all goes well.
        let mut polled = HashSet::new();
        for _ in 0..1000 {
            for account in std::mem::take(&mut running) {
                schedule.ended(now, &account.name, Ended::Complete, LogIn::default());
                polled.insert(account.name.clone());
            }
            let turn = schedule.next(now);
            running.extend(turn.start.into_iter().map(|start| start.account));
            if running.is_empty() {
                match turn.wait_until {
                    Some(until) => now = until,
                    None => break,
                }
            }
        }
        let scheduled = accounts.iter().filter(|account| interval(account).is_some());
        prop_assert!(scheduled.clone().all(|account| polled.contains(&account.name)));
    }
}
