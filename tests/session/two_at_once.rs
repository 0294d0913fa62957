//! Several processes on one maildrop, one maildir or one state file.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::maildrop::{Fault, Maildrop, Settings, What};
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::wait_until;
use crate::support::relay::Relay;

fn message(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\n{}", format!("line of message {number}\r\n").repeat(40)).into_bytes()
}

fn as_file(number: usize) -> Vec<u8> {
    String::from_utf8(message(number)).unwrap().replace("\r\n", "\n").into_bytes()
}

fn server_with(messages: usize) -> Maildrop {
    let server = Maildrop::start(Settings::default());
    (0..messages).for_each(|number| server.put(&format!("uid-{number}"), message(number)));
    server
}

fn account(server: &Maildrop, name: &str, keys: &str) -> String {
    format!(
        "  {name}:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/{name}.pem\n    deliver: {{ maildir: ~/Mail }}\n{keys}",
        server.port()
    )
}

fn home(accounts: &[(&Maildrop, &str, &str)]) -> Home {
    let home = Home::new();
    let mut config = "accounts:\n".to_owned();
    for (server, name, keys) in accounts {
        home.write(&format!("{name}.pem"), &server.certificate.authority_pem);
        config += &account(server, name, keys);
    }
    home.configure(&config);
    home
}

/// A session that has its maildrop to itself and does not end by itself.
fn stalled(server: &Maildrop, home: &Home) -> crate::support::process::Running {
    server.set_fault(Fault::StallAt(1));
    let holder = home.start(&["sync"]);
    server.wait_for(1, |what| matches!(what, What::Faulted(_)));
    holder
}

#[test]
fn eight_processes_on_one_maildrop_deliver_each_message_once() {
    let server = server_with(100);
    let home = home(&[(&server, "home", "    keep: none\n")]);
    let running: Vec<_> = (0..8).map(|_| home.start(&["sync"])).collect();
    for process in running {
        let ended = process.wait(LIMIT);
        assert_eq!((ended.status, &*ended.stderr), (Some(0), ""));
    }
    assert_same(home.maildir("Mail"), (0..100).map(as_file).collect());
    assert_eq!(server.uids().len(), 0);
    assert_eq!(server.count(|what| matches!(what, What::Sent(_))), 100, "a message was fetched twice");
}

#[test]
fn who_waits_in_vain_for_a_maildrop_says_so_and_a_killed_holder_leaves_no_lock() {
    let server = server_with(5);
    let home = home(&[(&server, "home", "    timeout: 60s\n")]);
    let holder = stalled(&server, &home);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("timeout: 60s", "timeout: 1s"));
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("another postrider has had this maildrop"), "{}", ended.stderr);
    let ended = home.must(&["seen", "forget", "home", "uid-1"], 75);
    assert!(ended.stderr.contains("another process is polling this maildrop"), "{}", ended.stderr);
    holder.signal(Signal::SIGKILL);
    holder.wait(LIMIT);
    home.must(&["sync"], 0);
    assert_same(home.maildir("Mail"), (0..5).map(as_file).collect());
}

#[test]
fn who_waits_for_a_maildrop_ends_at_once_when_asked_to() {
    let server = server_with(1);
    let home = home(&[(&server, "home", "    timeout: 60s\n")]);
    let _holder = stalled(&server, &home);
    let mut waiting = home.start(&["-vv", "sync"]);
    // It never gets as far as to connect.
    assert!(!crate::support::process::wait_until(Duration::from_millis(1500), || !waiting.is_running()));
    waiting.signal(Signal::SIGTERM);
    let ended = waiting.wait(LIMIT);
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert_eq!(server.count(|what| matches!(what, What::Connected)), 1);
}

#[test]
fn marking_while_a_poll_runs_waits_for_it_and_breaks_nothing() {
    let server = server_with(60);
    let home = home(&[(&server, "home", "")]);
    let poll = home.start(&["sync"]);
    server.wait_for(1, |what| matches!(what, What::Sent(_)));
    let mark = home.start(&["seen", "mark", "home", "--all"]);
    assert_eq!(poll.wait(LIMIT).status, Some(0));
    assert_eq!(mark.wait(LIMIT).status, Some(0));
    assert_same(home.maildir("Mail"), (0..60).map(as_file).collect());
    // What was marked in the meantime is seen, and what is forgotten comes once more, but not into the maildir.
    server.put("uid-60", message(60));
    home.must(&["seen", "mark", "home", "--all"], 0);
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 60);
    home.must(&["seen", "forget", "home", "uid-3", "uid-60"], 0);
    home.must(&["sync"], 0);
    assert_same(home.maildir("Mail"), (0..61).map(as_file).collect());
}

#[test]
fn two_accounts_of_one_maildrop_take_turns_and_repeat_nothing() {
    let server = server_with(40);
    let keys = "    maildrop_id: one\n    keep: none\n";
    // Two that are enabled would be refused, so one is polled only by its name.
    let home = home(&[(&server, "first", keys), (&server, "second", &format!("{keys}    enabled: false\n"))]);
    let both = [home.start(&["sync", "first"]), home.start(&["sync", "second"])];
    for process in both {
        let ended = process.wait(LIMIT);
        assert_eq!((ended.status, &*ended.stderr), (Some(0), ""));
    }
    assert_same(home.maildir("Mail"), (0..40).map(as_file).collect());
    assert_eq!(server.count(|what| matches!(what, What::Sent(_))), 40);
}

#[test]
fn two_maildrops_that_share_unique_ids_and_messages_share_a_maildir_without_harm() {
    let (first, second) = (server_with(30), server_with(30));
    let home =
        home(&[(&first, "first", "    maildrop_id: a\n"), (&second, "second", "    maildrop_id: b\n")]);
    for _ in 0..2 {
        home.must(&["sync"], 0);
        // Each maildrop's messages, and each of them once.
        assert_same(home.maildir("Mail"), (0..30).chain(0..30).map(as_file).collect());
        // Recovery of one must not take the other's for its own, nor remove what the other has in tmp.
        std::fs::remove_dir_all(home.path("state")).unwrap();
    }
}

#[test]
fn two_state_files_for_one_maildrop_and_one_maildir_in_turn_repeat_nothing() {
    let server = server_with(25);
    let home = home(&[(&server, "home", "")]);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    for state in ["one", "two", "one"] {
        home.configure(&format!("state: {}\n{config}", home.path(state).join("state.db").display()));
        home.must(&["sync"], 0);
        assert_same(home.maildir("Mail"), (0..25).map(as_file).collect());
    }
}

/// A session that has begun a large message and cannot end it before the relay lets the rest through.
fn amid_a_message(
    server: &Maildrop,
    home: &Home,
    relay: &Relay,
    arguments: &[&str],
) -> crate::support::process::Running {
    server.put("large", large());
    relay.hold_after(200_000);
    let running = home.start(arguments);
    relay.wait_for_hold();
    assert!(wait_until(LIMIT, || !home.leftovers("Mail").is_empty()));
    running
}

fn large() -> Vec<u8> {
    [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcdef\r\n".repeat(20_000)].concat()
}

fn large_as_file() -> Vec<u8> {
    String::from_utf8(large()).unwrap().replace("\r\n", "\n").into_bytes()
}

#[test]
fn what_another_maildrop_has_in_tmp_is_not_touched_by_a_recovery() {
    let (first, second) = (server_with(3), server_with(3));
    let relay = Relay::start(first.port());
    let keys = ["    maildrop_id: a\n", "    maildrop_id: b\n"];
    let home = home(&[(&first, "first", keys[0]), (&second, "second", keys[1])]);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace(&first.port().to_string(), &relay.port().to_string()));
    let held = amid_a_message(&first, &home, &relay, &["sync", "first"]);
    // It has no records yet, so it looks through the whole maildir.
    home.must(&["sync", "second"], 0);
    assert!(!home.leftovers("Mail").is_empty());
    relay.open();
    let ended = held.wait(LIMIT);
    assert_eq!((ended.status, &*ended.stderr), (Some(0), ""));
    let mut expected: Vec<_> = (0..3).chain(0..3).map(as_file).collect();
    expected.push(large_as_file());
    assert_same(home.maildir("Mail"), expected);
}

#[test]
fn two_state_files_at_once_lose_nothing_and_repeat_at_most_once_each() {
    let server = server_with(60);
    let home = home(&[(&server, "home", "    keep: none\n")]);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    let names: Vec<_> = (0..4).map(|number| format!("{number}.yaml")).collect();
    for name in &names {
        let state = home.path(format!("state-of-{name}/state.db"));
        home.write(name, &format!("state: {}\n{config}", state.display()));
    }
    // The leases lie beside the state files, so these polls do not know of each other.
    let polls: Vec<_> = names.iter().map(|name| home.start(&["--config", name, "sync"])).collect();
    for poll in polls {
        let ended = poll.wait(LIMIT);
        assert!(matches!(ended.status, Some(0 | 75)), "{:?}: {}", ended.status, ended.stderr);
    }
    let delivered = home.maildir("Mail");
    for number in 0..60 {
        let copies = delivered.iter().filter(|message| **message == as_file(number)).count();
        let is_left = server.uids().contains(&format!("uid-{number}"));
        assert!(copies <= names.len() && (copies > 0 || is_left), "{number}: {copies}, left: {is_left}");
    }
    // In turn they repeat nothing more.
    let before: Vec<_> = (0..60).filter(|number| !delivered.contains(&as_file(*number))).collect();
    names.iter().for_each(|name| drop(home.must(&["--config", name, "sync"], 0)));
    assert_same(home.maildir("Mail"), delivered.into_iter().chain(before.into_iter().map(as_file)).collect());
    assert_eq!(server.uids().len(), 0);
    assert_eq!(home.leftovers("Mail"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn forgetting_while_a_poll_runs_waits_for_it_and_has_the_message_compared_and_not_repeated() {
    let server = server_with(3);
    let relay = Relay::start(server.port());
    let home = home(&[(&server, "home", "")]);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace(&server.port().to_string(), &relay.port().to_string()));
    let poll = amid_a_message(&server, &home, &relay, &["sync"]);
    let mut forget = home.start(&["seen", "forget", "home", "large"]);
    assert!(!wait_until(Duration::from_millis(500), || !forget.is_running()), "it did not wait");
    relay.open();
    assert_eq!(poll.wait(LIMIT).status, Some(0));
    let ended = forget.wait(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    home.must(&["sync"], 0);
    let mut expected: Vec<_> = (0..3).map(as_file).collect();
    expected.push(large_as_file());
    assert_same(home.maildir("Mail"), expected);
    assert_eq!(server.count(|what| *what == What::Sent("large".into())), 2, "it was not forgotten");
}
