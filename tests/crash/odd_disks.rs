//! Disks that cannot do everything, are small, or do not answer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::support::daemon::{Daemon, SOON};
use crate::support::maildrop::{Maildrop, Settings};
use crate::support::mounted::{Image, Mounted};
use crate::support::postrider::{Home, assert_same};
use crate::support::process::{Ended, Running, wait_until};

const LINE: &str = "0123456789abcde\r\n";

/// Octets of a message with so many lines, as the server has them.
fn message(uid: &str, lines: usize) -> String {
    format!("Subject: {uid}\r\n\r\n{}", LINE.repeat(lines))
}

fn put(server: &Maildrop, uids: &[&str], lines: usize) {
    uids.iter().for_each(|uid| server.put(uid, message(uid, lines)));
}

fn expected(uids: &[&str], lines: usize) -> Vec<Vec<u8>> {
    uids.iter().map(|uid| message(uid, lines).replace("\r\n", "\n").into_bytes()).collect()
}

/// An account as it stands in the configuration; `~` is the home.
fn account(name: &str, server: &Maildrop, keys: &str, deliver: &str) -> String {
    format!(
        "  {name}:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n    maildrop_id: {name}\n{keys}    deliver: {deliver}\n",
        server.port()
    )
}

fn home(server: &Maildrop) -> Home {
    let home = Home::new();
    home.write("ca.pem", &server.certificate.authority_pem);
    home
}

#[test]
fn a_disk_without_hard_links_and_permissions_holds_mail_and_state() {
    // What stands in for the kernel's FAT has no shared memory, which SQLite needs.
    for (image, state) in [(Image::ExFat, "disk/state"), (Image::Fat, "state")] {
        let server = Maildrop::start(Settings::default());
        let home = home(&server);
        let Some(disk) = Mounted::image(home.path("disk"), image, 16 << 10) else { return };
        home.configure(&format!(
            "state: ~/{state}/state.db\naccounts:\n{}",
            account("home", &server, "", "{ maildir: ~/disk/Mail }")
        ));
        put(&server, &["a", "b"], 3);
        put(&server, &["large"], 20_000);
        let sync = || {
            let ended = home.must(&["sync"], 0);
            assert!(ended.stderr.is_empty(), "{image:?}: {}", ended.stderr);
        };
        sync();
        let all = [expected(&["a", "b"], 3), expected(&["large"], 20_000)].concat();
        assert_same(home.maildir("disk/Mail"), all.clone());
        put(&server, &["c"], 3);
        sync();
        let all = [all, expected(&["c"], 3)].concat();
        assert_same(home.maildir("disk/Mail"), all.clone());
        assert!(home.leftovers("disk/Mail").is_empty(), "{image:?}");
        home.must(&["status"], 0);
        // Without the state, the mail itself tells.
        fs::remove_dir_all(home.path(state)).unwrap();
        let ended = home.must(&["sync"], 0);
        assert!(ended.stderr.contains("4 messages in the target"), "{image:?}: {}", ended.stderr);
        assert_same(home.maildir("disk/Mail"), all);
        drop(disk);
    }
}

#[test]
fn each_target_goes_on_once_there_is_room_on_a_disk_of_a_mebibyte() {
    for (target, state) in [
        ("{ maildir: ~/disk/Mail }", "~/state.db"),
        ("{ mbox: ~/disk/mbox }", "~/state.db"),
        // The spool is there, and the messages are too large for memory.
        ("{ pipe: \"cat >> ~/mbox\" }", "~/state.db"),
        ("{ maildir: ~/Mail }", "~/disk/state.db"),
    ] {
        let server = Maildrop::start(Settings::default());
        let home = home(&server);
        let Some(disk) = Mounted::image(home.path("disk"), Image::Ext2, 1024) else { return };
        let root = home.path("").display().to_string();
        let at = |text: &str| text.replace("~/", &root);
        home.configure(&format!(
            "state: {}\naccounts:\n{}",
            at(state),
            account("home", &server, "    keep: none\n", &at(target))
        ));
        let uids = ["a", "b", "c", "d"];
        put(&server, &uids, 6_000);
        let filler = disk.fill();
        let run = || {
            let mut command = home.command(&["sync"]);
            command.env("TMPDIR", disk.path());
            crate::support::process::Running::start(&mut command).wait(Duration::from_secs(60))
        };
        for first in [true, false] {
            let ended = run();
            assert_eq!(ended.status, Some(75), "{target}: {}", ended.stderr);
            let told = ended.stderr.to_lowercase();
            // What is held is told once.
            assert!(
                !first || told.contains("no space left") || told.contains("is full"),
                "{target}: {}",
                ended.stderr
            );
            assert!(!told.contains("sandbox"), "{}", ended.stderr);
            assert_eq!(server.uids(), uids, "{target}");
        }
        fs::remove_file(filler).unwrap();
        for _ in 0..4 {
            // What was held may be waited for.
            end_waits(&home.path(at(state)));
            run();
        }
        assert!(server.uids().is_empty(), "{target}: {:?}", server.uids());
        let files = [home.maildir("disk/Mail"), home.maildir("Mail")].concat();
        let mbox = [home.path("mbox"), home.path("disk/mbox")]
            .map(|path| fs::read(path).unwrap_or_default())
            .concat();
        let subjects = |octets: &[u8]| String::from_utf8_lossy(octets).matches("Subject: ").count();
        assert_eq!(files.len() + subjects(&mbox), uids.len(), "{target}");
    }
}

fn end_waits(state: &Path) {
    if let Ok(state) = rusqlite::Connection::open(state) {
        // There may be no tables yet.
        let _ = state.execute("UPDATE held SET next_try = 0", []);
    }
}

/// Syncs while a disk does not answer, and gives how that ended.
fn fails_in_time(home: &Home, disk: &Mounted) -> Ended {
    let process = disk.process();
    kill(process, Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    let ended = home.run(&["sync"]);
    let took = began.elapsed();
    kill(process, Signal::SIGCONT).unwrap();
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert!(took < Duration::from_secs(40), "{took:?}");
    ended
}

#[test]
fn a_file_system_that_does_not_answer_ends_its_own_session_in_time_and_no_other() {
    let (hanging, other) = (Maildrop::start(Settings::default()), Maildrop::start(Settings::default()));
    let home = home(&hanging);
    home.write("other.pem", &other.certificate.authority_pem);
    let Some(disk) = Mounted::image(home.path("disk"), Image::ExFat, 4 << 10) else { return };
    let target = |name: &str| format!("{{ maildir: ~/{name} }}");
    home.configure(&format!(
        "accounts:\n{}{}",
        account("hanging", &hanging, "    timeout: 6s\n", &target("disk/Mail")),
        account("other", &other, "", &target("Mail")).replace("ca.pem", "other.pem")
    ));
    put(&hanging, &["a"], 3);
    put(&other, &["a"], 3);
    home.must(&["sync"], 0);
    put(&hanging, &["b"], 3);
    put(&other, &["b"], 3);
    let ended = fails_in_time(&home, &disk);
    let told = "the file system has not answered for 6s";
    assert!(ended.stderr.contains(told) && ended.stderr.contains("disk/Mail"), "{}", ended.stderr);
    assert_same(home.maildir("Mail"), expected(&["a", "b"], 3));
    home.must(&["sync"], 0);
    assert_same(home.maildir("disk/Mail"), expected(&["a", "b"], 3));
}

#[test]
fn a_state_whose_file_system_does_not_answer_is_told_in_time() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let Some(disk) = Mounted::image(home.path("disk"), Image::ExFat, 4 << 10) else { return };
    home.configure(&format!(
        "state: ~/disk/state.db\naccounts:\n{}",
        account("home", &server, "    timeout: 2s\n", "{ maildir: ~/Mail }")
    ));
    put(&server, &["a"], 3);
    home.must(&["sync"], 0);
    put(&server, &["b"], 3);
    let ended = fails_in_time(&home, &disk);
    assert!(ended.stderr.contains("state.db"), "{}", ended.stderr);
    assert!(ended.stderr.contains("has not answered for 2s"), "{}", ended.stderr);
    home.must(&["sync"], 0);
    assert_same(home.maildir("Mail"), expected(&["a", "b"], 3));
}

#[test]
fn a_configuration_or_spool_whose_file_system_does_not_answer_is_not_waited_for() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let Some(disk) = Mounted::image(home.path("disk"), Image::ExFat, 4 << 10) else { return };
    let text =
        format!("accounts:\n{}", account("home", &server, "    interval: 1s\n", "{ maildir: ~/Mail }"));
    home.configure(&text);
    let away = home.write("disk/config.yaml", &text);
    let path = away.display().to_string();
    home.must(&["--config", &path, "sync"], 0);
    let daemon = Daemon::start_with(&home, &["--config", &path, "daemon"], &[]);
    put(&server, &["a"], 3);
    assert!(wait_until(SOON, || home.files("Mail").len() == 1), "{}", daemon.log());
    let process = disk.process();
    kill(process, Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    let ended = home.run(&["--config", &path, "sync"]);
    // The daemon goes on with what it has.
    daemon.running.signal(Signal::SIGHUP);
    let logged = wait_until(SOON, || daemon.log().contains("goes on as before"));
    put(&server, &["b"], 3);
    let polled = wait_until(SOON, || home.files("Mail").len() == 2);
    let mut spooling = home.command(&["sync"]);
    let spooled = Running::start(spooling.env("TMPDIR", disk.path())).wait(Duration::from_secs(60));
    let took = began.elapsed();
    kill(process, Signal::SIGCONT).unwrap();
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    let told = "config.yaml: cannot read the configuration: the file system has not answered for 5s";
    assert!(ended.stderr.contains(told) && daemon.log().contains(told), "{}{}", ended.stderr, daemon.log());
    assert!(logged && polled, "{}", daemon.log());
    assert_eq!(spooled.status, Some(0), "{}", spooled.stderr);
    assert!(took < Duration::from_secs(60), "{took:?}");
    daemon.stop();
}
