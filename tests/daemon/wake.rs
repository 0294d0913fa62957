//! What a running daemon can be asked by whoever has its state file, and what they cannot do to it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::support::daemon::{Daemon, SOON, account, arrives, begun, config, message, polls, server};
use crate::support::maildrop::{Fault, Maildrop, What};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::wait_until;
use nix::libc::O_NONBLOCK;
use nix::sys::signal::Signal;
use serde_json::Value;

const PIPE: &str = "state/postrider/state.db.wake";

fn connections(server: &Maildrop) -> usize {
    server.count(|what| *what == What::Connected)
}

fn status(home: &Home) -> Value {
    serde_json::from_str(home.must(&["status", "--json"], 0).stdout.lines().next().unwrap()).unwrap()
}

/// Says whether the poll after the one that has ended is written down.
fn knows_the_next_poll(home: &Home) -> bool {
    let row = status(home);
    row["next_poll"].as_str() > row["last_success"].as_str()
}

/// A daemon whose account `home` has been polled once and rests for an hour.
fn resting(home: &Home, server: &Maildrop) -> Daemon {
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let daemon = Daemon::start_with(home, &["-v", "daemon"], &[]);
    daemon.logs("; next poll in ");
    daemon
}

#[test]
fn wake_polls_now_and_says_what_the_daemon_does_not_have() {
    let (server, other, home) = (server(), server(), Home::new());
    let off = account("off", other.port(), "enabled: false");
    home.configure(&config("", &[account("home", server.port(), "interval: 1h"), off.clone()]));
    let told = home.must(&["wake"], 75).stderr;
    assert!(
        told.contains("no daemon runs with the state file ") && told.contains("  hint: start one"),
        "{told}"
    );
    let daemon = Daemon::start(&home);
    polls(&server, 1);
    server.put("one", message(1));
    assert_eq!(home.must(&["-v", "wake"], 0).stdout, "1 account is polled now\n");
    arrives(&home, "home", 1);
    server.put("two", message(2));
    assert_eq!(home.must(&["wake", "home"], 0).stdout, "", "nothing for cron to send");
    arrives(&home, "home", 2);
    home.must(&["wake", "nobody"], 2);
    let told = home.must(&["wake", "home", "off"], 75).stderr;
    assert!(told.contains("the running daemon has no account off"), "{told}");
    daemon.stop();
    home.must(&["wake"], 75);
    assert!(!home.path(PIPE).exists() && connections(&other) == 0);
}

#[test]
fn status_knows_of_a_running_daemon_what_it_does_and_when_it_polls_next() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    assert!(wait_until(SOON, || knows_the_next_poll(&home)), "{}", daemon.log());
    let row = status(&home);
    assert_eq!(row["polling"], false);
    let next = row["next_poll"].as_str().expect("a time");
    assert!(next > row["last_success"].as_str().unwrap(), "{row}");
    assert!(home.must(&["status"], 0).stdout.contains("\n  next poll 20"));

    server.set_fault(Fault::StallAt(1));
    home.must(&["wake"], 0);
    assert!(wait_until(SOON, || status(&home)["polling"] == true), "{}", daemon.log());
    assert!(wait_until(SOON, || home.must(&["status"], 0).stdout.contains("\n  polling since 20")));
    daemon.running.signal(Signal::SIGKILL);
    daemon.running.wait(LIMIT);
    let row = status(&home);
    assert_eq!((&row["polling"], &row["next_poll"]), (&Value::Null, &Value::Null));
}

#[test]
fn status_max_age_says_by_its_exit_status_whether_polls_succeed() {
    let (server, home) = (server(), Home::new());
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let told = home.must(&["status", "--max-age", "1h"], 75).stderr;
    assert!(told.contains("home: no poll has ever succeeded"), "{told}");
    home.must(&["sync"], 0);
    home.must(&["status", "--max-age", "1h", "--json"], 0);
    assert!(wait_until(SOON, || home.run(&["status", "--max-age", "0s"]).status == Some(75)));
    home.must(&["status", "--max-age", "3"], 2);
}

#[test]
fn a_second_daemon_is_refused_and_the_pipe_of_a_killed_one_is_taken_over() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    let told = home.must(&["daemon"], 75).stderr;
    let expected = "postrider: another daemon runs with the state file ";
    assert!(told.starts_with(expected) && told.lines().count() == 2, "{told}");
    daemon.running.signal(Signal::SIGKILL);
    daemon.running.wait(LIMIT);
    assert!(home.path(PIPE).exists());
    home.must(&["wake"], 75);
    let daemon = resting(&home, &server);
    home.must(&["wake"], 0);
    polls(&server, 3);
    daemon.stop();
}

#[test]
fn what_was_never_polled_is_when_it_is_asked_for() {
    let (server, home) = (server(), Home::new());
    server.put("one", message(1));
    home.configure(&config("", &[account("home", server.port(), "interval: manual")]));
    let daemon = Daemon::start(&home);
    assert!(wait_until(SOON, || home.path(PIPE).exists()));
    home.must(&["wake", "home"], 0);
    arrives(&home, "home", 1);
    daemon.stop();
}

#[test]
fn an_account_that_the_daemon_has_not_read_yet_is_told_in_its_log() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    let new = account("new", server.port(), "keep: forever");
    home.configure(&config("", &[account("home", server.port(), "interval: 1h"), new]));
    home.must(&["wake", "home", "new"], 0);
    daemon.logs(
        "asked for, and the maildrop of no account\n  hint: send SIGHUP if the configuration has changed",
    );
    polls(&server, 2);
    daemon.stop();
}

#[test]
fn the_pipe_is_its_owners_and_a_daemon_without_one_polls_all_the_same() {
    let (server, home) = (server(), Home::new());
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let daemon = Daemon::start(&home);
    polls(&server, 1);
    assert_eq!(home.mode(PIPE), 0o600);
    daemon.stop();

    home.write(PIPE, "of somebody else");
    let daemon = Daemon::start(&home);
    daemon.logs("state.db.wake: not a pipe by which wake could ask this daemon: ");
    daemon.running.signal(Signal::SIGUSR1);
    polls(&server, 2);
    daemon.stop();
    assert_eq!(fs::read(home.path(PIPE)).unwrap(), b"of somebody else");
}

#[test]
fn whatever_is_written_into_the_pipe_does_not_hurt_the_daemon() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    let mut pipe = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(home.path(PIPE)).unwrap();
    for _ in 0..100 {
        // It may be full.
        let _ = pipe.write(&[0xff; 65536]);
    }
    server.put("one", message(1));
    home.must(&["wake"], 0);
    arrives(&home, "home", 1);
    daemon.stop();
    assert_eq!(begun(&server).len(), 2, "polled what nobody had asked for");
}

#[test]
fn a_reload_with_another_state_file_changes_nothing() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    let other = config("", &[account("home", server.port(), "interval: 1s")]);
    // Beside the first, where the sandbox lets it be.
    home.configure(&format!("state: ~/state/postrider/other.db\n{other}"));
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("hint: nothing was changed; the daemon goes on as before; restart it");
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    home.must(&["wake"], 0);
    polls(&server, 2);
    daemon.stop();
    assert_eq!(begun(&server).len(), 2);
    assert!(!home.path("state/postrider/other.db").exists());
}

#[test]
fn status_is_shown_although_the_daemon_hangs() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    assert!(wait_until(SOON, || knows_the_next_poll(&home)), "{}", daemon.log());
    daemon.running.signal(Signal::SIGSTOP);
    let ended = home.must(&["status"], 0);
    assert!(ended.stdout.contains("succeeded") && ended.took < Duration::from_secs(30));
    assert!(ended.stdout.contains("\n  next poll 20") && ended.stderr.is_empty(), "{ended:?}");
    daemon.running.signal(Signal::SIGCONT);
    daemon.stop();
}
