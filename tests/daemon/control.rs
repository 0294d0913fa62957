//! The control socket: what a running daemon can be asked, and what clients cannot do to it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::daemon::{Daemon, SOON, account, arrives, begun, config, message, polls, server};
use crate::support::maildrop::{Fault, Maildrop, What};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::wait_until;
use nix::sys::signal::Signal;
use serde_json::Value;

const SOCKET: &str = "state/postrider/state.db.control";

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
    assert!(!home.path(SOCKET).exists() && connections(&other) == 0);
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
    daemon.logs("no control socket, so that wake cannot ask this daemon: ");
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
    let asks =
        std::thread::spawn(
            move || while deaf.write_all(b"{\"wake\":{\"accounts\":[\"nobody\"]}}\n").is_ok() {},
        );
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
    assert!(wait_until(SOON, || knows_the_next_poll(&home)), "{}", daemon.log());
    daemon.running.signal(Signal::SIGSTOP);
    let ended = home.must(&["status"], 0);
    assert!(ended.stdout.contains("succeeded") && ended.took < Duration::from_secs(30));
    assert!(ended.stdout.contains("\n  next poll 20") && ended.stderr.is_empty(), "{ended:?}");
    daemon.running.signal(Signal::SIGCONT);
    daemon.stop();
}
