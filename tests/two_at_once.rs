//! Several processes on one maildrop, one maildir or one state file.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;

use support::maildrop::{Fault, Maildrop, Settings, What};
use support::postrider::{Home, LIMIT, assert_same};

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
fn stalled(server: &Maildrop, home: &Home) -> support::process::Running {
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
    assert!(!support::process::wait_until(Duration::from_millis(1500), || !waiting.is_running()));
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
