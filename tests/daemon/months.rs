//! What a daemon must do for months, seen in a minute: it grows in nothing, and wakes for nothing but the schedule.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, SOON, account, arrives, config, message, server, soak};
use crate::support::maildrop::{Maildrop, What};
use crate::support::mails::with_lf;
use crate::support::postrider::{Home, assert_same};
use crate::support::process::wait_until;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    octets: u64,
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn by(daemon: &Daemon) -> Self {
        let of = |name: &str| PathBuf::from(format!("/proc/{}/{name}", daemon.running.id()));
        let status = fs::read_to_string(of("status")).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        let count = |name| fs::read_dir(of(name)).unwrap().count();
        Self {
            octets: kib.unwrap().trim().parse::<u64>().unwrap() << 10,
            descriptors: count("fd"),
            threads: count("task"),
        }
    }
}

/// Counts how often the threads of a process went to sleep, which is as often as they woke.
fn wakes(daemon: &Daemon) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.running.id())).unwrap();
    let of = |task: PathBuf| {
        // A thread may have ended since.
        let status = fs::read_to_string(task.join("status")).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        count.trim().parse::<u64>().ok()
    };
    tasks.filter_map(|task| of(task.unwrap().path())).sum()
}

fn closed(server: &Maildrop) -> usize {
    server.count(|what| *what == What::Closed)
}

fn log_of_state(home: &Home) -> u64 {
    fs::metadata(home.path("state/postrider/state.db-wal")).unwrap().len()
}

#[test]
fn thousands_of_polls_leave_no_memory_descriptors_or_threads_behind() {
    let (server, home) = (server(), Home::new());
    let count = 20;
    let accounts: Vec<_> = (0..count)
        .map(|number| account(&format!("a{number}"), server.port(), "interval: 1h, keep: forever"))
        .collect();
    (0..50).for_each(|number| server.put(&number.to_string(), message(number)));
    home.configure(&config("max_sessions_per_host: 8", &accounts));
    let daemon = Daemon::start(&home);
    // Each tells the daemon to poll all of them, and comes back when it has.
    let mut polls = 0;
    let mut poll = |rounds: usize| {
        for _ in 0..rounds {
            polls += count;
            assert!(wait_until(SOON, || closed(&server) >= polls), "{} of {polls} polls", closed(&server));
            // A client, too, leaves nothing behind.
            home.must(&["wake"], 0);
        }
        polls += count;
        assert!(wait_until(SOON, || closed(&server) >= polls));
        polls -= count;
    };
    poll(50);
    let before = Held::by(&daemon);
    poll(if soak().is_some() { 5000 } else { 100 });
    let mut after = Held::by(&daemon);
    // Threads without work end ten seconds after their last.
    let settled = wait_until(SOON, || {
        after = Held::by(&daemon);
        after.descriptors <= before.descriptors && after.threads <= 4
    });
    assert!(settled, "{before:?} became {after:?}");
    // 2,000 polls: none may leave 500 octets.
    assert!(after.octets <= before.octets + (1 << 20), "{before:?} became {after:?}");
    assert!(log_of_state(&home) < 6 << 20, "{} octets of log", log_of_state(&home));
    daemon.stop();
    assert_same(home.maildir("a0"), (0..50).map(|number| with_lf(&message(number))).collect());
}

#[test]
fn a_thousand_idle_accounts_need_less_than_30_mb_and_nobody_wakes() {
    let (server, home) = (server(), Home::new());
    server.put("one", message(1));
    let count = 1000;
    let accounts: Vec<_> =
        (0..count).map(|number| account(&format!("a{number}"), server.port(), "interval: 1d")).collect();
    home.configure(&config("max_sessions_per_host: 16", &accounts));
    let daemon = Daemon::start(&home);
    assert!(wait_until(3 * SOON, || closed(&server) >= count), "{} of {count} polls", closed(&server));
    arrives(&home, "a999", 1);
    let held = Held::by(&daemon);
    assert!(held.octets < 16 << 20, "{held:?}");

    // Threads without work end ten seconds after their last; then nothing happens until somebody's time has come.
    let idle = Duration::from_secs(5);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = wakes(&daemon);
        thread::sleep(idle);
        let woke = wakes(&daemon).abs_diff(before);
        if woke == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "it woke {woke} times in {idle:?}");
    }
    daemon.stop();
}
