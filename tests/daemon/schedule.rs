//! The daemon, as its service manager and its servers see it. Nothing here waits for a time to pass but where a time
//! is what is promised.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::daemon::{
    Daemon, SOON, account, arrives, begun, config, message, polls, server, settings,
};
use crate::support::maildrop::{Fault, Maildrop, What};
use crate::support::mails::with_lf;
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{Running, free_port, wait_until};
use crate::support::relay::Relay;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

#[test]
fn an_account_is_polled_at_its_interval_and_new_mail_arrives() {
    let (server, home) = (server(), Home::new());
    server.put("one", message(1));
    home.configure(&config("", &[account("home", server.port(), "interval: 1s")]));
    let daemon = Daemon::start(&home);
    arrives(&home, "home", 1);
    polls(&server, 2);
    server.put("two", message(2));
    arrives(&home, "home", 2);
    polls(&server, 4);
    daemon.stop();
    assert_same(home.maildir("home"), [message(1), message(2)].map(|message| with_lf(&message)).to_vec());
    let gaps: Vec<_> = begun(&server).windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(850)), "sooner than the interval: {gaps:?}");
}

#[test]
fn sigusr1_polls_now_and_a_manual_account_is_left_alone() {
    let (server, manual, home) = (server(), server(), Home::new());
    let accounts =
        [account("home", server.port(), "interval: 1h"), account("other", manual.port(), "interval: manual")];
    home.configure(&config("", &accounts));
    let daemon = Daemon::start(&home);
    polls(&server, 1);
    server.put("one", message(1));
    daemon.running.signal(Signal::SIGUSR1);
    arrives(&home, "home", 1);
    daemon.stop();
    assert_eq!(manual.count(|what| *what == What::Connected), 0);
}

#[test]
fn sighup_takes_over_a_good_configuration_and_reports_a_bad_one() {
    let (first, second, home) = (server(), server(), Home::new());
    let old = account("old", first.port(), "interval: 1h");
    home.configure(&config("", std::slice::from_ref(&old)));
    let daemon = Daemon::start(&home);
    polls(&first, 1);

    home.configure(&config("", &[old.replace("interval", "intervall")]));
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("did you mean");
    daemon.logs("nothing was changed");
    daemon.running.signal(Signal::SIGUSR1);
    polls(&first, 2);

    second.put("one", message(1));
    // Within what the process confined itself to when it started.
    let new = account("new", second.port(), "interval: 1h").replace("~/new", "~/old/.new");
    home.configure(&config("", &[old, new.clone()]));
    daemon.running.signal(Signal::SIGHUP);
    arrives(&home, "old/.new", 1);
    assert_eq!(begun(&first).len(), 2, "an account that did not change keeps its time");

    home.configure(&config("", &[new]));
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("again: 1 account");
    daemon.running.signal(Signal::SIGUSR1);
    polls(&second, 2);
    daemon.stop();
    assert_eq!(begun(&first).len(), 2, "an account that is gone is not polled");
}

#[test]
fn a_session_that_is_under_way_goes_on_through_a_reload_that_leaves_its_account_out() {
    let (server, other, home) = (server(), server(), Home::new());
    home.write("mail/.keep", "");
    let large = b"0123456789\r\n".repeat(100_000);
    server.put("large", large.clone());
    let relay = Relay::start(server.port());
    relay.hold_after(600_000);
    home.configure(&config(
        "",
        &[account("home", relay.port(), "interval: 1h").replace("~/home", "~/mail/home")],
    ));
    let daemon = Daemon::start(&home);
    relay.wait_for_hold();
    home.configure(&config(
        "",
        &[account("other", other.port(), "interval: 1h").replace("~/other", "~/mail/other")],
    ));
    daemon.running.signal(Signal::SIGHUP);
    polls(&other, 1);
    relay.open();
    arrives(&home, "mail/home", 1);
    polls(&server, 1);
    daemon.stop();
    assert_same(home.maildir("mail/home"), vec![with_lf(&large)]);
    assert_eq!(begun(&server).len(), 1);
}

#[test]
fn a_message_that_is_under_way_at_sigterm_is_neither_lost_nor_there_twice() {
    let (server, home) = (server(), Home::new());
    let large = [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789\r\n".repeat(100_000)].concat();
    server.put("one", message(1));
    server.put("large", large.clone());
    server.put("three", message(3));
    let relay = Relay::start(server.port());
    relay.hold_after(600_000);
    home.configure(&config("", &[account("home", relay.port(), "interval: 1h")]));
    let daemon = Daemon::start(&home);
    assert!(wait_until(SOON, || relay.is_holding()), "{}", daemon.log());
    daemon.stop();
    assert_same(home.maildir("home"), vec![with_lf(&message(1))]);
    assert!(home.leftovers("home").is_empty());

    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let daemon = Daemon::start(&home);
    arrives(&home, "home", 3);
    polls(&server, 2);
    daemon.stop();
    assert_same(
        home.maildir("home"),
        [message(1), large, message(3)].map(|message| with_lf(&message)).to_vec(),
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (server, home) = (server(), Home::new());
    server.put("large", b"0123456789\r\n".repeat(100_000));
    let relay = Relay::start(server.port());
    relay.hold_after(600_000);
    home.configure(&config("", &[account("home", relay.port(), "interval: 1h")]));
    let daemon = Daemon::start(&home);
    assert!(wait_until(SOON, || relay.is_holding()), "{}", daemon.log());
    daemon.running.signal(Signal::SIGTERM);
    daemon.logs("a second signal ends at once");
    daemon.running.signal(Signal::SIGINT);
    assert_eq!(daemon.running.wait(LIMIT).status, Some(75));
}

#[test]
fn a_server_that_is_dead_is_told_once_and_so_is_its_return() {
    let (port, home) = (free_port(), Home::new());
    home.configure(&config("", &[account("home", port, "interval: 1s")]));
    let daemon = Daemon::start(&home);
    let failures = || {
        let status = home.must(&["status", "--json"], 0).stdout;
        let status: Value = status.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap();
        status["failures"].as_u64().unwrap()
    };
    assert!(wait_until(SOON, || failures() >= 3), "{}", daemon.log());
    let server = Maildrop::start_at(port, settings());
    server.put("one", message(1));
    arrives(&home, "home", 1);
    polls(&server, 3);
    daemon.logs("succeeds again");
    let log = daemon.log();
    daemon.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with("postrider: ")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].starts_with(&format!("postrider: home: 127.0.0.1:{port}: connect: ")), "{log}");
    assert!(lines[1].contains("home: succeeds again, after ") && lines[1].contains(" failed poll"), "{log}");
}

#[test]
fn a_hook_or_a_notice_that_fails_at_each_poll_is_told_once_and_so_is_that_it_works_again() {
    let (server, home) = (server(), Home::new());
    home.write("taken", "");
    let accounts = [
        account("home", server.port(), "interval: 1s, hooks: { after: 'test -e ~/good' }"),
        account("bad", free_port(), "interval: 1s").replace("~/bad", "~/taken/bad"),
    ];
    home.configure(&format!("notify: {{ after: 1 }}\n{}", config("", &accounts)));
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    let told = |words: &str| daemon.log().lines().filter(|line| line.contains(words)).count();
    // At -v each is there.
    let (hook, notice) = ("the hook `after` (test) failed", "cannot deliver a notice: ");
    assert!(wait_until(SOON, || told(hook) >= 3 && told(notice) >= 3), "{}", daemon.log());
    home.write("good", "");
    daemon.logs("home: the hook `after` works again");
    daemon.stop();
    let _ = fs::remove_file(home.path("good"));
    // What was told is remembered in the state.
    fs::remove_dir_all(home.path("state")).unwrap();
    let daemon = Daemon::start(&home);
    let polled = server.count(|what| *what == What::Closed);
    polls(&server, polled + 3);
    home.write("good", "");
    daemon.logs("home: the hook `after` works again");
    let log = daemon.log();
    daemon.stop();
    assert_eq!(log.matches(hook).count(), 1, "{log}");
    assert!(log.matches(notice).count() <= 1, "{log}");
}

#[test]
fn a_hook_that_takes_long_after_a_poll_keeps_no_other_account_waiting() {
    let (first, second, home) = (server(), server(), Home::new());
    second.put("one", message(1));
    let hook = "hooks: { after: 'echo >> ~/begun; while ! test -e ~/go; do sleep 0.05; done' }";
    let accounts = [
        account("first", first.port(), &format!("interval: 1h, {hook}")),
        account("second", second.port(), "interval: 1h"),
    ];
    home.configure(&config("max_sessions: 1", &accounts));
    let daemon = Daemon::start(&home);
    arrives(&home, "second", 1);
    assert!(wait_until(SOON, || home.path("begun").exists()));
    // Its own next poll comes after the hook.
    second.put("two", message(2));
    home.must(&["wake"], 0);
    arrives(&home, "second", 2);
    assert_eq!(begun(&first).len(), 1);
    home.write("go", "");
    polls(&first, 2);
    daemon.stop();
}

#[test]
fn a_backoff_survives_a_restart_and_a_wake_ends_it() {
    let (port, home) = (free_port(), Home::new());
    home.configure(&config("", &[account("home", port, "interval: 10m")]));
    let daemon = Daemon::start(&home);
    daemon.logs("connect: ");
    daemon.stop();
    let server = Maildrop::start_at(port, settings());
    server.put("one", message(1));
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    daemon.logs("home: 1 poll has failed before; next poll in ");
    daemon.running.signal(Signal::SIGUSR1);
    arrives(&home, "home", 1);
    daemon.stop();
    assert_eq!(begun(&server).len(), 1, "polled before its time");
}

#[test]
fn a_backoff_survives_a_reload_that_takes_the_account_away_and_one_that_brings_it_back() {
    let home = Home::new();
    let failing = account("home", free_port(), "interval: 10m");
    let other = account("other", free_port(), "interval: manual");
    home.configure(&config("", &[failing.clone(), other.clone()]));
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    daemon.logs("connect: ");
    home.configure(&config("", std::slice::from_ref(&other)));
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("again: 1 account");
    home.configure(&config("", &[failing, other]));
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("home: 1 poll has failed before; next poll in ");
    daemon.stop();
}

#[test]
fn a_state_file_that_fails_and_works_again_needs_no_restart_and_costs_no_descriptors() {
    let (server, home) = (server(), Home::new());
    home.configure(&config("", &[account("home", server.port(), "interval: 1s")]));
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    polls(&server, 2);
    let limit_files = |octets: &str| {
        let mut limit = Command::new("prlimit");
        limit.args(["--pid", &daemon.running.id().to_string(), &format!("--fsize={octets}:")]);
        assert!(limit.status().unwrap().success());
    };
    for round in 1..=2 {
        // Writing beyond it fails, as a disk does: neither full nor to be trusted afterwards.
        let failures = daemon.log().matches("cannot read or write the state file").count();
        limit_files("12288");
        let failed = || daemon.log().matches("cannot read or write the state file").count();
        assert!(wait_until(SOON, || failed() > failures), "{}", daemon.log());
        limit_files("unlimited");
        server.put(&round.to_string(), message(round));
        arrives(&home, "home", round);
        let fds = format!("/proc/{}/fd", daemon.running.id());
        let open_now = || {
            let open = fs::read_dir(&fds).unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            open.filter(|file| file.to_string_lossy().contains("state.db-")).count()
        };
        // Its log and its shared memory, once each.
        assert!(wait_until(SOON, || open_now() == 2), "{} are open", open_now());
    }
    daemon.stop();
}

#[test]
fn a_host_has_no_more_sessions_than_it_may_have() {
    let (silent, other, home) = (server(), server(), Home::new());
    silent.set_fault(Fault::StallAt(1));
    other.put("one", message(1));
    let accounts = [
        account("silent", silent.port(), "interval: 1h, timeout: 2s"),
        account("other", other.port(), "interval: 1h"),
    ];
    home.configure(&config("max_sessions_per_host: 1", &accounts));
    let daemon = Daemon::start(&home);
    arrives(&home, "other", 1);
    daemon.stop();
    let waited = begun(&other)[0] - begun(&silent)[0];
    assert!(waited >= Duration::from_secs(2), "both at once: {waited:?}");
}

#[test]
fn an_account_with_very_many_messages_lets_the_others_have_their_turn() {
    let (full, other, home) = (server(), server(), Home::new());
    let count = 1100;
    (0..count).for_each(|number| full.put(&number.to_string(), message(number)));
    other.put("one", message(1));
    let accounts =
        [account("full", full.port(), "interval: 1h"), account("other", other.port(), "interval: 1h")];
    home.configure(&config("max_sessions: 1", &accounts));
    let daemon = Daemon::start(&home);
    arrives(&home, "full", count);
    polls(&full, 2);
    daemon.stop();
    assert_same(home.maildir("full"), (0..count).map(|number| with_lf(&message(number))).collect());
    let full = begun(&full);
    assert_eq!(full.len(), 2);
    let others = begun(&other)[0];
    assert!(full[0] < others && others < full[1], "the other one waited for all of them");
}

#[test]
fn a_held_message_that_fails_again_does_not_leave_very_many_others_for_the_next_poll() {
    let (server, home) = (server(), Home::new());
    server.put("0", message(0));
    server.refuse("0", Some("-ERR cannot convert this message"));
    let config = config("", &[account("home", server.port(), "interval: 1h")]);
    home.configure(&format!("notify: {{ deliver: false }}\n{config}"));
    home.must(&["sync"], 75);
    // As if its wait were over.
    let state = rusqlite::Connection::open(home.path("state/postrider/state.db")).unwrap();
    assert_eq!(state.execute("UPDATE held SET next_try = 0", []).unwrap(), 1);
    drop(state);
    let count = 1100;
    (1..=count).for_each(|number| server.put(&number.to_string(), message(number)));
    let daemon = Daemon::start(&home);
    arrives(&home, "home", count);
    daemon.stop();
    assert_same(home.maildir("home"), (1..=count).map(|number| with_lf(&message(number))).collect());
}

#[test]
fn each_poll_leaves_a_line_at_v_that_names_the_account_and_the_next_poll() {
    let (server, home) = (server(), Home::new());
    server.put("one", message(1));
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    daemon.logs("postrider: home: 1 message delivered (");
    daemon.logs("; next poll in ");
    daemon.stop();
}

/// The service manager's end of the notify socket.
struct Manager(UnixDatagram);

impl Manager {
    /// Listens, and gives the variables by which a daemon finds it and learns that it is to live five times a second.
    fn listen(home: &Home) -> (Self, [(&'static str, String); 2]) {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (Self(socket), [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "200000".to_owned())])
    }

    /// Waits for a message that begins like this.
    fn hears(&self, wanted: &str) -> String {
        let mut octets = [0; 500];
        loop {
            let length = self.0.recv(&mut octets).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            let message = String::from_utf8_lossy(&octets[..length]).into_owned();
            match message.starts_with(wanted) {
                true => return message,
                // They come whenever they are due.
                false => assert!(
                    ["WATCHDOG=1", "STATUS="].iter().any(|often| message.starts_with(often)),
                    "{message} came before {wanted}"
                ),
            }
        }
    }

    /// Waits until nothing has been said for five times the time in which the daemon must say that it lives.
    fn hears_no_more(&self) {
        self.0.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let begun = Instant::now();
        while self.0.recv(&mut [0; 500]).is_ok() {
            assert!(begun.elapsed() < SOON, "it goes on");
        }
        self.0.set_read_timeout(Some(SOON)).unwrap();
    }
}

/// A log that can be full, so that whoever writes to it hangs as with a file system that does not answer.
struct Log(File, PathBuf);

impl Log {
    fn new(home: &Home) -> Self {
        let path = home.path("log");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let nonblocking = nix::libc::O_NONBLOCK;
        Self(File::options().read(true).write(true).custom_flags(nonblocking).open(&path).unwrap(), path)
    }

    fn fill(&self) {
        while (&self.0).write(b".").is_ok() {}
    }

    fn read(&self) {
        while (&self.0).read(&mut [0; 4096]).is_ok() {}
    }
}

/// A daemon whose loop hangs: it was asked to read a configuration that is wrong, and cannot say so.
fn hanging(home: &Home) -> (Running, Manager, Log) {
    home.configure(&config("", &[account("home", free_port(), "interval: manual")]));
    let (manager, environment) = Manager::listen(home);
    let log = Log::new(home);
    let mut command = home.command(&["daemon"]);
    let running = Running::start_logging(command.envs(environment), &log.1);
    manager.hears("READY=1");
    (0..3).for_each(|_| drop(manager.hears("WATCHDOG=1")));
    home.configure("nonsense");
    log.fill();
    running.signal(Signal::SIGHUP);
    manager.hears("RELOADING=1");
    (running, manager, log)
}

#[test]
fn a_loop_that_hangs_does_not_tell_the_service_manager_that_it_lives() {
    let home = Home::new();
    let (running, manager, log) = hanging(&home);
    manager.hears_no_more();
    log.read();
    manager.hears("READY=1");
    (0..3).for_each(|_| drop(manager.hears("WATCHDOG=1")));
    running.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1");
    assert_eq!(running.wait(LIMIT).status, Some(0));
}

#[test]
fn sigterm_ends_a_daemon_that_hangs_within_ten_seconds_all_the_same() {
    let home = Home::new();
    let (running, _manager, _log) = hanging(&home);
    running.signal(Signal::SIGTERM);
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status, Some(0));
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
}

#[test]
fn the_service_manager_hears_when_it_is_ready_reloads_lives_and_stops() {
    let (server, home) = (server(), Home::new());
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let (manager, environment) = Manager::listen(&home);
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let daemon = Daemon::start_with(&home, &["daemon"], &environment);
    manager.hears("READY=1");
    manager.hears("STATUS=1 account, 1 being polled, 0 failing");
    manager.hears("STATUS=1 account, 0 being polled, 0 failing");
    (0..3).for_each(|_| drop(manager.hears("WATCHDOG=1")));
    for good in [true, false] {
        if !good {
            home.configure("nonsense");
        }
        daemon.running.signal(Signal::SIGHUP);
        let reloading = manager.hears("RELOADING=1\nMONOTONIC_USEC=");
        let (_, at) = reloading.rsplit_once('=').unwrap();
        assert!(at.parse::<u64>().unwrap() > 0, "{reloading}");
        manager.hears("READY=1");
    }
    daemon.running.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1");
    daemon.ends_well();
}

#[test]
fn a_configuration_that_is_wrong_at_the_start_is_a_reason_not_to_start() {
    let home = Home::new();
    home.configure("accounts: {}");
    assert!(home.must(&["daemon"], 78).stderr.contains("names no account"));
}
