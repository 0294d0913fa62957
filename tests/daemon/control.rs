//! The control socket: what a running daemon can be asked, and what clients cannot do to it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::daemon::{
    Daemon, SOON, account, arrives, begun, config, message, polls, server, settings,
};
use crate::support::maildrop::{Fault, Maildrop, What};
use crate::support::mails::with_lf;
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{Running, wait_until};
use crate::support::relay::Relay;
use nix::sys::signal::Signal;
use serde_json::Value;

const SOCKET: &str = "state/postrider/state.db.control";

fn connections(server: &Maildrop) -> usize {
    server.count(|what| *what == What::Connected)
}

fn status(home: &Home) -> Value {
    serde_json::from_str(home.must(&["status", "--json"], 0).stdout.lines().next().unwrap()).unwrap()
}

/// A daemon whose account `home` has been polled once and rests for an hour.
fn resting(home: &Home, server: &Maildrop) -> Daemon {
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let daemon = Daemon::start_with(home, &["-v", "daemon"], &[]);
    daemon.logs("; next poll in ");
    daemon
}

/// A sync of this account that the daemon has taken on.
fn waiting(home: &Home, account: &str) -> Running {
    let log = home.path("sync.log");
    let sync = Running::start_logging(&mut home.command(&["-vv", "sync", account]), &log);
    let log = || fs::read_to_string(&log).unwrap();
    assert!(wait_until(SOON, || log().contains("the running daemon polls 1 account")), "{}", log());
    sync
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
    assert!(!home.path(SOCKET).exists() && connections(&other) == 0);
}

#[test]
fn status_knows_of_a_running_daemon_what_it_does_and_when_it_polls_next() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    let row = status(&home);
    assert_eq!(row["polling"], false);
    let next = row["next_poll"].as_str().expect("a time");
    assert!(next > row["last_success"].as_str().unwrap(), "{row}");
    assert!(home.must(&["status"], 0).stdout.contains("\n  next poll 20"));

    server.set_fault(Fault::StallAt(1));
    home.must(&["wake"], 0);
    assert!(wait_until(SOON, || status(&home)["polling"] == true), "{}", daemon.log());
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
fn sync_has_the_running_daemon_poll_and_ends_as_if_it_had_polled_itself() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    server.put("one", message(1));
    let ended = home.must(&["sync", "--json"], 0);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&report["delivered"], &report["exit_status"]), (&1.into(), &0.into()));
    daemon.logs("home: 1 message delivered");
    (2..5).for_each(|number| server.put(&number.to_string(), message(number)));
    let said = home.must(&["-v", "sync", "--limit", "1"], 0).stdout;
    assert!(said.starts_with("home: 1 message delivered") && said.contains("2 left for later"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stdout, "", "nothing for cron to send");
    assert_eq!(connections(&server), 4);
    let polls_told = daemon.log().matches("; next poll in ").count();
    assert_eq!(polls_told, 4, "the daemon did all of it");

    server.refuse("5", Some("-ERR no"));
    server.put("5", message(5));
    assert_eq!(home.run(&["sync"]).status, Some(75));
    server.set_fault(Fault::CutInsteadOf(1));
    let told = home.must(&["sync"], 75).stderr;
    assert!(told.starts_with(&format!("postrider: home: 127.0.0.1:{}: ", server.port())), "{told}");
    daemon.stop();
    assert_same(home.maildir("home"), (1..5).map(|number| with_lf(&message(number))).collect());
}

/// Has a client ask while the daemon's session is held up; the poll that it gets sees what came meanwhile.
fn asks_amid_a_session(server: &Maildrop) {
    let home = Home::new();
    let relay = Relay::start(server.port());
    server.put("one", b"0123456789\r\n".repeat(10_000));
    relay.hold_after(50_000);
    home.configure(&config("", &[account("home", relay.port(), "interval: 1h")]));
    let daemon = Daemon::start_with(&home, &["-vv", "daemon"], &[]);
    relay.wait_for_hold();
    server.put("two", message(2));
    let sync = waiting(&home, "home");
    relay.open();
    assert_eq!(sync.wait(LIMIT).status, Some(0));
    assert_eq!((home.maildir("home").len(), connections(server)), (2, 2));
    daemon.stop();
}

#[test]
fn sync_during_a_session_of_the_daemon_is_followed_by_one_that_sees_what_came_meanwhile() {
    asks_amid_a_session(&server());
}

#[test]
fn sync_does_not_wait_for_a_login_delay_that_is_announced_while_it_waits() {
    let mut settings = settings();
    settings.capabilities.as_mut().unwrap().push("LOGIN-DELAY 600".into());
    asks_amid_a_session(&Maildrop::start(settings));
}

#[test]
fn sync_gets_its_poll_although_a_reload_makes_its_account_manual() {
    let (server, slow, home) = (server(), server(), Home::new());
    let relay = Relay::start(slow.port());
    slow.put("one", b"0123456789\r\n".repeat(10_000));
    relay.hold_after(50_000);
    let configured = |interval: &str| {
        let accounts =
            [account("slow", relay.port(), "interval: 1h"), account("home", server.port(), interval)];
        home.configure(&config("max_sessions: 1", &accounts));
    };
    configured("interval: 1h");
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    relay.wait_for_hold();
    server.put("one", message(1));
    let sync = waiting(&home, "home");
    configured("interval: manual");
    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("again: 2 accounts");
    relay.open();
    assert_eq!(sync.wait(LIMIT).status, Some(0));
    daemon.logs("home: 1 message delivered");
    assert_eq!(connections(&server), 1);
    daemon.stop();
}

#[test]
fn sync_polls_by_itself_when_the_configuration_has_changed_and_when_the_daemon_dies() {
    let (server, home) = (server(), Home::new());
    let relay = Relay::start(server.port());
    let configured = config("", &[account("home", relay.port(), "interval: 1h")]);
    home.configure(&configured);
    let daemon = Daemon::start_with(&home, &["-v", "daemon"], &[]);
    daemon.logs("; next poll in ");
    home.configure(&configured.replace("~/home", "~/home/.elsewhere"));
    server.put("one", message(1));
    home.must(&["sync"], 0);
    assert_eq!((home.maildir("home/.elsewhere").len(), home.maildir("home").len()), (1, 0));

    daemon.running.signal(Signal::SIGHUP);
    daemon.logs("again: 1 account");
    polls(&server, 3);
    server.put("large", b"0123456789\r\n".repeat(10_000));
    relay.hold_after(50_000);
    let sync = home.start(&["-vv", "sync"]);
    relay.wait_for_hold();
    daemon.running.signal(Signal::SIGKILL);
    daemon.running.wait(LIMIT);
    relay.open();
    let ended = sync.wait(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the running daemon did not answer"), "{}", ended.stderr);
    assert_eq!(home.maildir("home/.elsewhere").len(), 2);
    assert!(home.leftovers("home/.elsewhere").is_empty());
}

#[test]
fn sync_does_not_wait_for_a_login_delay_of_the_daemon_but_hears_of_it() {
    let (mut settings, home) = (settings(), Home::new());
    settings.capabilities.as_mut().unwrap().push("LOGIN-DELAY 600".into());
    let server = Maildrop::start(settings);
    let daemon = resting(&home, &server);
    // This server does not insist; one that does refuses, as it does without a daemon.
    server.put("one", message(1));
    let ended = home.must(&["sync"], 0);
    assert!(ended.took < Duration::from_secs(30), "{:?}", ended.took);
    assert_eq!(home.maildir("home").len(), 1);
    assert_eq!(daemon.log().matches("; next poll in ").count(), 1, "the daemon keeps to it");
    home.must(&["wake"], 0);
    assert!(wait_until(SOON, || status(&home)["next_poll"].is_string()));
    daemon.stop();
    assert_eq!(connections(&server), 2);
}

#[test]
fn a_second_daemon_is_refused_and_the_socket_of_a_killed_one_is_taken_over() {
    let (server, home) = (server(), Home::new());
    let daemon = resting(&home, &server);
    let told = home.must(&["daemon"], 75).stderr;
    let expected = "postrider: another daemon runs with the state file ";
    assert!(told.starts_with(expected) && told.lines().count() == 2, "{told}");
    daemon.running.signal(Signal::SIGKILL);
    daemon.running.wait(LIMIT);
    assert!(home.path(SOCKET).exists());
    home.must(&["wake"], 75);
    let daemon = resting(&home, &server);
    home.must(&["wake"], 0);
    polls(&server, 3);
    daemon.stop();
}

#[test]
fn the_socket_is_its_owners_and_lies_in_the_runtime_directory_if_there_is_one() {
    let (server, home) = (server(), Home::new());
    home.configure(&config("", &[account("home", server.port(), "interval: 1h")]));
    let daemon = Daemon::start(&home);
    polls(&server, 1);
    assert_eq!(home.mode(SOCKET), 0o600);
    daemon.stop();

    let session = home.path("run");
    fs::create_dir(&session).unwrap();
    let daemon = Daemon::start_with(&home, &["daemon"], &[("XDG_RUNTIME_DIR", session.to_str().unwrap())]);
    polls(&server, 2);
    let socket = fs::read_link(home.path(SOCKET)).unwrap_or_else(|_| panic!("{}", daemon.log()));
    assert!(socket.starts_with(session.join("postrider")), "{socket:?}");
    assert_eq!((home.mode("run/postrider"), home.mode(&socket)), (0o700, 0o600));
    // A client finds it without the variable.
    home.must(&["wake"], 0);
    polls(&server, 3);
    daemon.stop();
    assert!(!socket.exists() && fs::symlink_metadata(home.path(SOCKET)).is_err());

    fs::set_permissions(&session, fs::Permissions::from_mode(0o777)).unwrap();
    let open_to_all = [("RUNTIME_DIRECTORY", session.to_str().unwrap())];
    let daemon = Daemon::start_with(&home, &["daemon"], &open_to_all);
    daemon.logs("no control socket, so that wake, status and sync cannot ask this daemon: ");
    daemon.logs("is not ours alone: others may write there");
    polls(&server, 4);
    daemon.stop();
}

#[test]
fn clients_that_say_nonsense_or_nothing_or_never_read_do_not_hurt_the_daemon() {
    let (server, home) = (server(), Home::new());
    home.configure(&config("", &[account("home", server.port(), "interval: 1s")]));
    let daemon = Daemon::start(&home);
    polls(&server, 1);
    let connect = || {
        let socket = UnixStream::connect(home.path(SOCKET)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.set_write_timeout(Some(SOON)).unwrap();
        socket
    };
    for nonsense in ["{\n", "\n", "\"stop\"\n", "{\"wake\":{\"accounts\":7}}\n", "\u{0}\n"] {
        let mut socket = connect();
        socket.write_all(nonsense.as_bytes()).unwrap();
        let mut told = String::new();
        socket.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("{\"error\":{\"what\":"), "{nonsense:?}: {told}");
    }
    // One that never ends its line, more that say nothing than have a place, one that asks and never reads.
    let mut endless = connect();
    let mut written = 0;
    while let Ok(octets @ 1..) = endless.write(&[b' '; 65536]) {
        written += octets;
    }
    assert!(written < 2 << 20, "it read {written} octets");
    let silent: Vec<_> = (0..40).map(|_| connect()).collect();
    let mut deaf = connect();
    let asks = std::thread::spawn(move || while deaf.write_all(b"\"status\"\n").is_ok() {});
    let before = connections(&server);
    // The silent ones lose their places.
    home.must(&["wake"], 0);
    server.put("one", message(1));
    arrives(&home, "home", 1);
    asks.join().unwrap();
    assert!(connections(&server) >= before + 3, "polls went on");
    drop(silent);
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.running.id())).unwrap().count();
    assert!(wait_until(SOON, || open() < 40), "{} descriptors are open", open());
    daemon.stop();
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
    daemon.running.signal(Signal::SIGSTOP);
    let ended = home.must(&["status"], 0);
    assert!(ended.stdout.contains("succeeded") && ended.took < Duration::from_secs(30));
    assert!(ended.stderr.contains("the running daemon did not answer"), "{}", ended.stderr);
    daemon.running.signal(Signal::SIGCONT);
    daemon.stop();
}
