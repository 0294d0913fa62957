//! A state file that was lost, or that is older than the mail: the maildir itself says what it has.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::maildrop::{Maildrop, Settings, What};
use crate::support::postrider::{Home, assert_same};
use crate::support::process::wait_until;
use crate::support::relay::Relay;

fn message(number: usize) -> Vec<u8> {
    let lines = if number.is_multiple_of(5) { 2000 } else { 3 };
    format!("Subject: {number}\r\n\r\n{}", format!("line of message {number}\r\n").repeat(lines)).into_bytes()
}

fn life(keys: &str) -> (Maildrop, Home) {
    let server = Maildrop::start(Settings::default());
    let home = Home::new();
    home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n    deliver: {{ maildir: ~/Mail }}\n{keys}",
        server.port()
    ));
    (server, home)
}

fn arrive(server: &Maildrop, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| server.put(&format!("uid-{number}"), message(number)));
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers
        .map(|number| String::from_utf8(message(number)).unwrap().replace("\r\n", "\n").into_bytes())
        .collect()
}

/// Puts the files of a directory somewhere else, or back.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn is_said(stderr: &str, messages: usize) -> bool {
    stderr.contains(&format!("{messages} messages in the target and not in the state file"))
}

#[test]
fn a_state_file_that_was_deleted_repeats_nothing_and_the_log_says_so() {
    let (server, home) = life("");
    arrive(&server, 0..20);
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    fs::remove_dir_all(home.path("state")).unwrap();
    arrive(&server, 20..25);
    let said = home.must(&["sync"], 0).stderr;
    assert!(is_said(&said, 20), "{said}");
    assert_same(home.maildir("Mail"), expected(0..25));
    assert_eq!(home.must(&["sync"], 0).stderr, "", "it is said once");
}

#[test]
fn a_state_file_from_last_weeks_backup_repeats_nothing_and_the_log_says_so() {
    for keep in ["forever", "none"] {
        let (server, home) = life(&format!("    keep: {keep}\n"));
        arrive(&server, 0..10);
        home.must(&["sync", "--keep"], 0);
        copy(&home.path("state/postrider"), &home.path("backup"));
        arrive(&server, 10..30);
        home.must(&["sync", "--keep"], 0);
        fs::remove_dir_all(home.path("state/postrider")).unwrap();
        copy(&home.path("backup"), &home.path("state/postrider"));
        let said = home.must(&["sync"], 0).stderr;
        assert!(is_said(&said, 20), "{said}");
        assert_same(home.maildir("Mail"), expected(0..30));
        assert_eq!(server.uids().len(), if keep == "none" { 0 } else { 30 });
    }
}

#[test]
fn half_of_a_state_file_repeats_nothing() {
    for lost in ["state.db", "state.db-wal"] {
        let (server, home) = life("");
        arrive(&server, 0..10);
        // A killed session leaves its write-ahead log behind.
        let running = home.start(&["sync"]);
        server.wait_for(8, |what| matches!(what, What::Sent(_)));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait(crate::support::postrider::LIMIT);
        // What is not there cannot be lost: the kill may have come before or after.
        let _ = fs::remove_file(home.path("state/postrider").join(lost));
        let ended = home.run(&["sync"]);
        if ended.status != Some(0) {
            // A file that SQLite finds damaged is refused, and nothing is fetched until somebody has looked.
            assert!(ended.status == Some(75) && ended.stderr.contains("state.db"), "{}", ended.stderr);
            fs::remove_dir_all(home.path("state")).unwrap();
            home.must(&["sync"], 0);
        }
        assert_same(home.maildir("Mail"), expected(0..10));
        assert_eq!(home.leftovers("Mail"), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn what_a_killed_session_left_half_written_goes_though_the_message_is_gone_from_the_server() {
    let (server, home) = life("");
    arrive(&server, 1..4);
    server.put("large", [b"A: b\r\n\r\n".as_slice(), &b"0123456789abcdef\r\n".repeat(20_000)].concat());
    let relay = Relay::start(server.port());
    let config = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace(&server.port().to_string(), &relay.port().to_string()));
    relay.hold_after(200_000);
    let running = home.start(&["sync"]);
    relay.wait_for_hold();
    // The small ones are recorded, and of the large one some is in its file.
    let limit = std::time::Duration::from_secs(30);
    let recorded = || home.must(&["seen", "list", "home"], 0).stdout.lines().count() == 3;
    assert!(wait_until(limit, || recorded() && !home.leftovers("Mail").is_empty()));
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait(crate::support::postrider::LIMIT);
    assert!(!home.leftovers("Mail").is_empty());
    relay.open();
    server.remove("large");
    home.must(&["sync"], 0);
    assert_eq!(home.leftovers("Mail"), Vec::<std::path::PathBuf>::new());
    assert_same(home.maildir("Mail"), expected(1..4));
}

#[test]
fn a_state_on_a_tmpfs_that_a_reboot_empties_repeats_nothing() {
    let (server, home) = life("");
    let state = home.path("state");
    fs::create_dir_all(&state).unwrap();
    // Without the right to mount, the directory is emptied as a reboot would.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&state).status();
    let mounted = mounted.is_ok_and(|status| status.success());
    for last in [10, 20, 30] {
        arrive(&server, last - 10..last);
        let said = home.must(&["sync"], 0).stderr;
        assert!(last == 10 || is_said(&said, last - 10), "{said}");
        assert_same(home.maildir("Mail"), expected(0..last));
        if mounted {
            assert!(Command::new("umount").arg(&state).status().unwrap().success());
            if last < 30 {
                assert!(
                    Command::new("mount")
                        .args(["-t", "tmpfs", "none"])
                        .arg(&state)
                        .status()
                        .unwrap()
                        .success()
                );
            }
        } else {
            fs::remove_dir_all(&state).unwrap();
        }
    }
}

#[test]
fn messages_that_were_read_moved_and_flagged_are_found_again_and_deleted_ones_are_not() {
    let (server, home) = life("");
    arrive(&server, 0..12);
    home.must(&["sync"], 0);
    // As mail readers do: to cur with flags, and another size in the name or none.
    for (number, path) in home.files("Mail").into_iter().enumerate() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let cur = home.path("Mail/cur");
        match number % 4 {
            0 => fs::rename(&path, cur.join(format!("{name}:2,S"))).unwrap(),
            1 => fs::rename(&path, cur.join(format!("{name}:2,FRST"))).unwrap(),
            2 => fs::remove_file(&path).unwrap(),
            // Dovecot adds the size on the wire.
            _ => fs::rename(&path, cur.join(format!("{name},W=4400:2,S"))).unwrap(),
        }
    }
    let kept = home.maildir("Mail");
    assert_eq!(kept.len(), 9);
    fs::remove_dir_all(home.path("state")).unwrap();
    let said = home.must(&["sync"], 0).stderr;
    assert!(is_said(&said, 9), "{said}");
    // What a reader removed cannot be known without the state: better once more than never.
    assert_same(home.maildir("Mail"), expected(0..12));
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    home.maildir("Mail").into_iter().for_each(|message| *counts.entry(message).or_default() += 1);
    assert!(counts.values().all(|count| *count == 1));
}

#[test]
fn an_older_state_file_under_a_newer_write_ahead_log_repeats_and_loses_nothing() {
    let (server, home) = life("");
    arrive(&server, 0..10);
    home.must(&["sync"], 0);
    copy(&home.path("state/postrider"), &home.path("backup"));
    arrive(&server, 10..500);
    home.must(&["sync"], 0);
    // Killed in its middle, it leaves its write-ahead log, and somebody puts back the file alone.
    arrive(&server, 500..600);
    let running = home.start(&["sync"]);
    server.wait_for(560, |what| matches!(what, What::Sent(_)));
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait(crate::support::postrider::LIMIT);
    let state = home.path("state/postrider");
    assert!(state.join("state.db-wal").exists());
    fs::copy(home.path("backup/state.db"), state.join("state.db")).unwrap();
    for last in [600, 610, 620] {
        let ended = home.run(&["sync"]);
        if ended.status != Some(0) {
            // A file that SQLite finds damaged is refused, and nothing is fetched until somebody has looked.
            assert!(ended.status == Some(75) && ended.stderr.contains("state.db"), "{}", ended.stderr);
            fs::remove_dir_all(&state).unwrap();
            home.must(&["sync"], 0);
        }
        assert_same(home.maildir("Mail"), expected(0..last));
        arrive(&server, last..last + 10);
    }
}

#[test]
fn after_the_loss_of_the_state_first_sync_none_skips_nothing_in_silence() {
    let (server, home) = life("    first_sync: none\n");
    arrive(&server, 0..5);
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    arrive(&server, 5..10);
    home.must(&["sync"], 0);
    assert_same(home.maildir("Mail"), expected(5..10));
    fs::remove_dir_all(home.path("state")).unwrap();
    arrive(&server, 10..12);
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("leaves 12 messages unfetched") && said.contains("the target has 5"), "{said}");
    // What it says to do helps, and repeats nothing.
    home.must(&["seen", "forget", "home", "uid-7", "uid-10", "uid-11"], 0);
    home.must(&["sync"], 0);
    assert_same(home.maildir("Mail"), expected(5..12));
}

#[test]
fn a_message_that_was_forgotten_is_not_said_to_be_of_another_state_file_alone() {
    let (server, home) = life("");
    arrive(&server, 0..3);
    home.must(&["sync"], 0);
    home.must(&["seen", "forget", "home", "uid-1"], 0);
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("found 1 message") && said.contains("or was told to forget"), "{said}");
    assert_same(home.maildir("Mail"), expected(0..3));
}
