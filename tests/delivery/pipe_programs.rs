//! The pipe target with the programs that people deliver by, and under `kill -9` of the whole program.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::maildrop::{Maildrop, Settings};
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{Running, mail_owner, program, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::getuid;

const MESSAGE: &str =
    "Return-Path: <bob@example.org>\nFrom: bob@example.org\nSubject: to the point\n\nFrom here on\n.\nend\n";

/// A home with one account whose messages go to a command; `~` in it is the home.
fn home(server: &Maildrop, pipe: &str) -> Home {
    let home = Home::new();
    let pipe = pipe.replace('~', &home.path("").display().to_string());
    home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n    keep: none\n    deliver: {{ pipe: {pipe} }}\n",
        server.port()
    ));
    home
}

#[test]
fn procmail_delivers_and_what_it_puts_off_stays() {
    program("procmail").expect("procmail (Debian: procmail)");
    let server = Maildrop::holding(&[MESSAGE]);
    let home = home(&server, "[procmail, -m, '~/rc']");
    home.write(
        "rc",
        &format!(
            "MAILDIR={0}\nLOGFILE={0}/procmail.log\n:0\n* ^Subject: to the point\nMail/\n",
            home.path("").display()
        ),
    );
    home.must(&["sync"], 0);
    let log = fs::read_to_string(home.path("procmail.log")).unwrap_or_default();
    assert_same(home.maildir("Mail"), vec![MESSAGE.as_bytes().to_vec()]);
    assert!(log.contains("Subject: to the point"), "{log}");
    assert!(server.uids().is_empty());

    server.put("later", "Subject: other\r\n\r\n");
    home.write("rc", "EXITCODE=75\nHOST\n");
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("procmail exited with 75 (EX_TEMPFAIL)"), "{}", ended.stderr);
    assert_eq!(server.uids(), ["later"]);
}

#[test]
fn a_command_can_open_its_standard_input_again_whoever_runs_it_and_however_large_the_message_is() {
    let owner = mail_owner();
    let user = if getuid().is_root() { format!(", user: {}", owner.name) } else { String::new() };
    for from_line in [false, true] {
        let server = Maildrop::start(Settings::default());
        // Once as a program that reads some of it, and then by its name.
        let command = "head -c 9 > ~/out/first; cat /dev/stdin > ~/out/$POSTRIDER_UID";
        let home = home(&server, &format!("{{ command: \"{command}\", from_line: {from_line}{user} }}"));
        fs::create_dir(home.path("out")).unwrap();
        chown(home.path("out"), Some(owner.uid.as_raw()), None).unwrap();
        // The way to it.
        fs::set_permissions(home.path(""), fs::Permissions::from_mode(0o711)).unwrap();
        let sizes = [("small", 10), ("some", 7_000), ("large", 65_536)];
        let text = |lines: usize| format!("Subject: x\n\n{}", "0123456789abcde\n".repeat(lines));
        for (uid, lines) in sizes {
            server.put(uid, text(lines).replace('\n', "\r\n"));
        }
        home.must(&["sync"], 0);
        for (uid, lines) in sizes {
            let got = fs::read_to_string(home.path("out").join(uid)).unwrap();
            let got = if from_line { got.split_once('\n').unwrap().1 } else { &got };
            assert!(got == text(lines), "{uid}: {} octets, From line {from_line}", got.len());
        }
    }
}

#[test]
fn maildrop_delivers_and_what_it_refuses_is_held() {
    program("maildrop").expect("maildrop (Debian: maildrop)");
    let server = Maildrop::holding(&[MESSAGE, "Subject: unwanted\n\nno\n"]);
    let home = home(&server, "[maildrop, '~/filter']");
    for folder in ["Mail", "Mail/tmp", "Mail/new", "Mail/cur"] {
        fs::create_dir(home.path(folder)).unwrap();
    }
    let at = home.path("");
    home.write(
        "filter",
        &format!(
            "if (/^Subject: unwanted/)\n{{\n  echo \"not this one\"\n  EXITCODE=77\n  exit\n}}\nto \"{}/Mail\"\n",
            at.display()
        ),
    );
    let ended = home.must(&["-v", "sync"], 75);
    assert_same(home.maildir("Mail"), vec![MESSAGE.as_bytes().to_vec()]);
    assert!(ended.stderr.contains("maildrop exited with 77 (EX_NOPERM)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("postrider: home: maildrop: not this one"), "{}", ended.stderr);
    assert_eq!(server.uids(), ["uid1"]);
}

#[test]
fn dovecot_lda_delivers_as_its_user() {
    let lda = Path::new("/usr/lib/dovecot/dovecot-lda");
    assert!(lda.exists(), "dovecot-lda (Debian: dovecot-core)");
    let server = Maildrop::holding(&[MESSAGE, "Subject: second\n\nbody\n"]);
    let owner = mail_owner();
    let user = if getuid().is_root() { format!(", user: {}", owner.name) } else { String::new() };
    let home = home(
        &server,
        &format!(
            "{{ command: [{}, -c, '~/dovecot.conf', -f, '%(from)', -a, '%(to)', -o, 'mail=maildir:~/lda/Mail']{user} }}",
            lda.display()
        ),
    );
    let at = home.path("");
    fs::create_dir(home.path("lda")).unwrap();
    home.write(
        "dovecot.conf",
        &format!(
            "log_path = /dev/stderr\nprotocols =\nssl = no\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             base_dir = {0}/lda\npostmaster_address = postmaster@example.org\nhostname = test.example.org\n\
             service stats {{\n  unix_listener stats-writer {{\n    mode = 0\n  }}\n}}\n",
            at.display()
        ),
    );
    fs::set_permissions(home.path("dovecot.conf"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    if getuid().is_root() {
        chown(home.path("lda"), Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    }
    home.must(&["sync"], 0);
    let delivered = home.maildir("lda/Mail");
    assert_eq!(delivered.len(), 2);
    let message =
        String::from_utf8(delivered.into_iter().find(|found| found.ends_with(b"end\n")).unwrap()).unwrap();
    assert_eq!(message, MESSAGE);
    assert!(server.uids().is_empty());
    // A mailbox that cannot be written into: nothing is lost, and what it said is told.
    server.put("later", MESSAGE.replace('\n', "\r\n"));
    fs::remove_dir_all(home.path("lda/Mail")).unwrap();
    home.write("lda/Mail", "no directory");
    let ended = home.run(&["-v", "sync"]);
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("dovecot-lda exited with 75 (EX_TEMPFAIL)"), "{}", ended.stderr);
    assert_eq!(server.uids(), ["later"]);
}

#[test]
fn a_user_that_only_root_could_become_is_refused_with_what_to_do() {
    if !getuid().is_root() {
        eprintln!("not tested: it takes root to be someone who is not root");
        return;
    }
    let server = Maildrop::holding(&[MESSAGE]);
    let home = home(&server, "{ command: 'cat > /dev/null', user: root }");
    let mail = mail_owner();
    // The program, too, must be where that user finds it.
    let ours = home.path("postrider");
    fs::copy(env!("CARGO_BIN_EXE_postrider"), &ours).unwrap();
    for path in ["", "config", "config/postrider", "config/postrider/config.yaml", "ca.pem", "postrider"] {
        chown(home.path(path), Some(mail.uid.as_raw()), Some(mail.gid.as_raw())).unwrap();
    }
    let ended = Command::new("setpriv")
        .args(["--reuid", &mail.name, "--regid", &mail.gid.to_string(), "--clear-groups"])
        .arg(&ours)
        .arg("sync")
        .env_clear()
        .env("HOME", home.path(""))
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("XDG_CONFIG_HOME", home.path("config"))
        .env("XDG_STATE_HOME", home.path("state"))
        .output()
        .expect("setpriv (Debian: util-linux)");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{stderr}");
    assert!(
        stderr.contains(&format!("only root can run it as root, and this runs as user {}", mail.uid)),
        "{stderr}"
    );
    assert!(stderr.contains("hint: remove `user:`"), "{stderr}");
    assert_eq!(server.uids().len(), 1);
}

#[test]
fn a_command_that_writes_without_end_is_neither_held_up_nor_kept_in_memory() {
    for text in ["yes 'a line' | head -c 30000000 >&2", "head -c 30000000 /dev/zero", "cat /dev/null"] {
        let server = Maildrop::holding(&[MESSAGE]);
        let home = home(&server, "[sh, '~/script']");
        home.write("script", &format!("{text}; cat > ${{0%/*}}/message; echo end >&2"));
        let (ended, peak) = home.start(&["-v", "sync"]).wait_and_weigh(LIMIT);
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert_eq!(fs::read_to_string(home.path("message")).unwrap(), MESSAGE);
        assert!(peak < 8 << 20, "{peak} octets for {text}");
        assert!(ended.stderr.len() < 100_000, "{} octets of log", ended.stderr.len());
        assert!(ended.stderr.lines().all(|line| line.contains("home: ") || !line.contains("sh: ")));
    }
}

#[test]
fn a_command_that_cannot_be_run_fails_the_account_and_holds_no_message() {
    let server = Maildrop::holding(&[MESSAGE, MESSAGE]);
    let home = home(&server, "[no-such-mda-anywhere]");
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("cannot run no-such-mda-anywhere: No such file"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: install it"), "{}", ended.stderr);
    let status = home.must(&["status", "--json"], 0).stdout;
    assert!(status.contains("\"held\":0") || status.contains("\"held\":[]"), "{status}");
    assert_eq!(server.uids().len(), 2);
}

#[test]
fn the_limit_on_open_files_is_raised_as_far_as_is_allowed() {
    let server = Maildrop::holding(&[MESSAGE]);
    let home = home(&server, "'ulimit -Sn > ~/limit'");
    let mut command = Command::new("sh");
    let configured = home.command(&["sync"]);
    command.args(["-c", "ulimit -Sn 100; ulimit -Hn 3000; exec \"$0\" sync"]).arg(configured.get_program());
    command.env_clear().envs(configured.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = Running::start(&mut command).wait(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(home.path("limit")).unwrap(), "3000\n");
}

/// What a command was given, by unique-id.
fn handed_over(home: &Home) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in fs::read_to_string(home.path("log")).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// A run that hands messages over and cannot record any, until the connection is dropped.
fn unrecorded(server: &Maildrop, arguments: &[&str]) -> (Home, Running, rusqlite::Connection) {
    let home = home(server, "[sh, '~/script']");
    home.write(
        "script",
        "cd ${0%/*}; touch started; while [ ! -e go ]; do sleep 0.02; done; echo $POSTRIDER_UID >> log",
    );
    let running = home.start(arguments);
    assert!(wait_until(Duration::from_secs(30), || home.path("started").exists()));
    let database = rusqlite::Connection::open(home.path("state/postrider/state.db")).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    home.write("go", "");
    (home, running, database)
}

#[test]
fn a_kill_between_hand_over_and_record_repeats_three_messages_at_most_and_loses_none() {
    let server = Maildrop::holding(&["Subject: 0\n\n", "Subject: 1\n\n", "Subject: 2\n\n", "Subject: 3\n\n"]);
    let (home, running, database) = unrecorded(&server, &["sync"]);
    // While the first is being recorded, two more are handed over; the fourth has to wait.
    assert!(wait_until(Duration::from_secs(30), || handed_over(&home).len() == 3));
    assert!(!wait_until(Duration::from_millis(500), || handed_over(&home).len() > 3));
    running.signal(Signal::SIGKILL);
    running.wait(Duration::from_secs(10));
    drop(database);
    assert_eq!(server.uids().len(), 4, "deleted though not recorded");
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    let counts = handed_over(&home);
    assert_eq!(counts.len(), 4);
    assert_eq!(counts.values().sum::<usize>(), 7, "{counts:?}");
    assert!(server.uids().is_empty());
}

#[test]
fn what_could_not_be_recorded_for_a_while_is_recorded_in_the_end_and_not_handed_over_again() {
    let server = Maildrop::holding(&["Subject: 0\n\n", "Subject: 1\n\n", "Subject: 2\n\n", "Subject: 3\n\n"]);
    let (home, running, database) = unrecorded(&server, &["-v", "sync"]);
    // Longer than it waits for a lock, and not twice as long.
    std::thread::sleep(Duration::from_secs(13));
    drop(database);
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert_eq!(handed_over(&home).len(), 3, "{}", ended.stderr);
    home.must(&["sync"], 0);
    let counts = handed_over(&home);
    assert_eq!((counts.len(), counts.values().sum::<usize>()), (4, 4), "{counts:?}");
    assert!(server.uids().is_empty());
}

#[test]
fn a_command_that_does_not_end_when_it_is_asked_to_is_gone_when_the_program_is() {
    let server = Maildrop::holding(&[MESSAGE]);
    let home = home(&server, "[sh, '~/script']");
    home.write(
        "script",
        "trap '' TERM; cd ${0%/*}; echo $$ > id.new; mv id.new id; while :; do sleep 0.1; done",
    );
    let running = home.start(&["sync"]);
    assert!(wait_until(Duration::from_secs(30), || home.path("id").exists()));
    let id: i32 = fs::read_to_string(home.path("id")).unwrap().trim().parse().unwrap();
    running.signal(Signal::SIGTERM);
    let ended = running.wait(Duration::from_secs(10));
    assert!(ended.stderr.contains("may get it again"), "{}", ended.stderr);
    // A process that ended, and that init has not yet waited for, is none.
    let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    assert_eq!(server.uids(), ["uid0"]);
}

#[test]
fn kills_at_any_moment_lose_nothing_and_repeat_at_most_three_messages_each() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server, "[sh, '~/script']");
    home.write("script", "cat > /dev/null; echo $POSTRIDER_UID >> ${0%/*}/log; sleep 0.01");
    let mut sent = 0;
    let cut_off = home.kill_syncs(40, || {
        for _ in 0..5 {
            server.put(&format!("uid{sent}"), format!("Subject: {sent}\r\n\r\nbody\r\n"));
            sent += 1;
        }
    });
    home.must(&["sync"], 0);
    assert!(server.uids().is_empty());
    let counts = handed_over(&home);
    assert_eq!(counts.len(), sent, "lost");
    let surplus = counts.values().sum::<usize>() - sent;
    assert!(surplus <= 3 * cut_off, "{surplus} repeats by {cut_off} kills");
}
