//! The mbox target among the programs that read and write an mbox too, and under `kill -9` of the whole program.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::sink::{assert_unlocked, deliver, id, mbox, mbox_file, open, scratch};
use crate::support::maildrop::{Maildrop, Settings};
use crate::support::postrider::Home;
use crate::support::process::{mail_owner, program, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::getuid;
use postrider::testing::delivery::{Access, Outcome, Sink};
use postrider::testing::disk::Disk;

/// Messages that a reader could take for something else.
const MESSAGES: [(&str, &[u8]); 5] = [
    ("1", b"Return-Path: <bob@example.org>\r\nSubject: one\r\n\r\nFrom here\r\n>From there\r\n\r\n\r\nFrom x Mon Nov 23 03:25:34 2026\r\nSubject: no\r\n"),
    ("2", b"Subject: two\r\n\r\nno last newline"),
    ("3", b"From z@z Mon Nov 23 03:25:34 2026\r\nSubject: three\r\n\r\nits first line is no header\r\n"),
    ("4", b"Subject: four\r\n\r\n"),
    ("5", b"Subject: five\r\n\r\nn\0l and \xff\r\n"),
];

#[tokio::test]
async fn pythons_mailbox_reads_every_message_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    deliver(&sink, &MESSAGES).await.unwrap();
    let script = "import mailbox,sys\nfor m in mailbox.mbox(sys.argv[1]).values():\n print(m.get_from().split()[0], bytes(m).hex())";
    let read =
        Command::new("python3").args(["-c", script]).arg(dir.path().join("mbox")).output().expect("python3");
    assert!(read.status.success(), "{read:?}");
    let text = String::from_utf8(read.stdout).unwrap();
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let senders: Vec<&str> = lines.iter().map(|(sender, _)| *sender).collect();
    assert_eq!(
        senders,
        ["bob@example.org", "MAILER-DAEMON", "MAILER-DAEMON", "MAILER-DAEMON", "MAILER-DAEMON"]
    );
    // It leaves quoted lines as they are.
    let quoted: Vec<String> = [
        &b"Return-Path: <bob@example.org>\nSubject: one\n\n>From here\n>>From there\n\n\n>From x Mon Nov 23 03:25:34 2026\nSubject: no\n"[..],
        b"Subject: two\n\nno last newline\n",
    ]
    .iter()
    .map(|octets| octets.iter().map(|octet| format!("{octet:02x}")).collect())
    .collect();
    assert_eq!(lines[..2].iter().map(|(_, message)| *message).collect::<Vec<_>>(), quoted);
    assert_eq!(
        lines[4].1,
        b"Subject: five\n\nn\0l and \xff\n".iter().map(|o| format!("{o:02x}")).collect::<String>()
    );
}

#[tokio::test]
async fn mutt_reads_every_message_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    deliver(&sink, &MESSAGES).await.unwrap();
    fs::write(
        dir.path().join("muttrc"),
        "set mbox_type=mbox folder=\".\" confirmappend=no confirmcreate=no copy=no wait_key=no\n\
         folder-hook . 'push \"<tag-pattern>~A<enter><tag-prefix><copy-message>=copied<enter><exit>\"'\n",
    )
    .unwrap();
    // It wants a terminal.
    let ran = Command::new("script")
        .args(["-qec", "mutt -n -F muttrc -R -f mbox", "/dev/null"])
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .env("TERM", "vt100")
        .stdin(Stdio::null())
        .output()
        .expect("script (Debian: bsdutils)");
    let copied = fs::read(dir.path().join("copied"))
        .unwrap_or_else(|error| panic!("mutt (Debian: mutt) copied nothing: {error}: {ran:?}"));
    // What it adds to its copies.
    let plain = |message: &Vec<u8>| -> Vec<u8> {
        let lines = message.split_inclusive(|octet| *octet == b'\n');
        lines
            .filter(|line| !line.starts_with(b"Content-Length: ") && !line.starts_with(b"Lines: "))
            .flatten()
            .copied()
            .collect()
    };
    let copied: Vec<Vec<u8>> = crate::sink::mbox_messages(&copied).iter().map(plain).collect();
    assert_eq!(copied.len(), 5);
    // The third begins with no header, of which mutt makes one.
    for number in [0, 1, 3] {
        let (copy, ours) = (&copied[number], &mbox_file(dir.path())[number]);
        assert_eq!(copy.escape_ascii().to_string(), ours.escape_ascii().to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dovecot_reads_and_rewrites_the_mbox_while_it_is_delivered_into() {
    let doveadm = program("doveadm").expect("doveadm (Debian: dovecot-core)");
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let owner = mail_owner();
    fs::create_dir(at.join("home")).unwrap();
    fs::write(at.join("mbox"), "").unwrap();
    let mut settings = format!(
        "log_path = /dev/stderr\nprotocols =\nssl = no\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
         mail_location = mbox:{0}/home:INBOX={0}/mbox\nmbox_write_locks = dotlock fcntl\nmbox_lock_timeout = 30s\n\
         service stats {{\n  unix_listener stats-writer {{\n    mode = 0\n  }}\n}}\n",
        at.display()
    );
    if getuid().is_root() {
        settings += &format!("mail_uid = {}\nmail_gid = {}\n", owner.uid, owner.gid);
        chown(at.join("home"), Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        // Ours, since root delivers to nobody else's, and the group's.
        for (path, mode) in [(at.to_owned(), 0o770), (at.join("mbox"), 0o660)] {
            chown(&path, None, Some(owner.gid.as_raw())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    fs::write(at.join("dovecot.conf"), settings).unwrap();
    let fetch = move |at: &Path| {
        let output = Command::new(&doveadm)
            .arg("-c")
            .arg(at.join("dovecot.conf"))
            .args(["-f", "tab", "fetch", "uid hdr.subject size.physical", "ALL"])
            .env("HOME", at.join("home"))
            .env("USER", &owner.name)
            .output()
            .expect("doveadm runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains("Error"), "{stderr}");
        String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let sink = open(&mbox(at), &Disk::new()).await.unwrap();
    let rounds = Arc::new(AtomicUsize::new(0));
    let seen = rounds.clone();
    let delivering = tokio::spawn(async move {
        let mut number = 0;
        while seen.load(Ordering::SeqCst) < 10 {
            let text =
                format!("Subject: message {number}\r\n\r\n{}", "From a line\r\n".repeat(1 + number * 37));
            let outcome = deliver(&sink, &[(&number.to_string(), text.as_bytes())]).await.unwrap();
            assert_eq!(outcome, [Outcome::Delivered]);
            number += 1;
        }
        number
    });
    // Each time it writes X-UID fields into what is new, so that what follows moves.
    while !delivering.is_finished() {
        let (at, fetch) = (at.to_owned(), fetch.clone());
        tokio::task::spawn_blocking(move || fetch(&at)).await.unwrap();
        rounds.fetch_add(1, Ordering::SeqCst);
    }
    let delivered = delivering.await.unwrap();
    let lines = fetch(at);
    assert_eq!(lines.len(), delivered, "{lines:#?}");
    for (number, line) in lines.iter().enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[..2], [(number + 1).to_string(), format!("message {number}")], "{line}");
    }
    let messages = mbox_file(at);
    for (number, message) in messages.iter().enumerate() {
        let body = String::from_utf8(message.clone()).unwrap();
        let (_, body) = body.split_once("\n\n").unwrap();
        assert_eq!(body, "From a line\n".repeat(1 + number * 37), "message {number}");
    }
}

fn home(server: &Maildrop) -> Home {
    let home = Home::new();
    home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n    keep: none\n    deliver: {{ mbox: ~/mbox }}\n",
        server.port()
    ));
    home
}

fn message(number: usize) -> String {
    let lines = if number.is_multiple_of(9) { 4000 } else { 1 + number * 7 % 60 };
    format!("Subject: message {number}\n\n") + &format!("From message {number}, a line.\n").repeat(lines)
}

#[test]
fn a_kill_between_append_and_record_repeats_what_was_appended_once_and_loses_nothing() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    for number in 0..3 {
        server.put(&number.to_string(), message(number).replace('\n', "\r\n"));
    }
    // Held up before the append, and then before the record.
    let dot_lock = home.write("mbox.lock", "held by a test");
    let running = home.start(&["sync"]);
    let state = home.path("state/postrider/state.db");
    assert!(wait_until(Duration::from_secs(30), || home.path("mbox").exists()), "nothing was delivered");
    let database = rusqlite::Connection::open(&state).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    fs::remove_file(&dot_lock).unwrap();
    assert!(wait_until(Duration::from_secs(30), || fs::metadata(home.path("mbox")).unwrap().len() > 0));
    assert!(
        wait_until(Duration::from_secs(30), || !dot_lock.exists()),
        "the lock is kept while it is recorded"
    );
    running.signal(Signal::SIGKILL);
    running.wait(Duration::from_secs(10));
    drop(database);
    let delivered = || {
        let mut counts = HashMap::new();
        for octets in crate::sink::mbox_messages(&fs::read(home.path("mbox")).unwrap()) {
            *counts.entry(String::from_utf8(octets).unwrap()).or_insert(0) += 1;
        }
        counts
    };
    assert!(!delivered().is_empty());
    assert_eq!(server.uids().len(), 3, "deleted though not recorded");
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    let counts = delivered();
    assert_eq!(counts.len(), 3);
    for (text, count) in counts {
        assert!((1..=2).contains(&count), "{count} times: {text}");
    }
    assert!(server.uids().is_empty());
}

#[test]
fn forty_kills_at_any_moment_lose_nothing_and_leave_an_mbox() {
    const KILLS: u32 = 40;
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let mut sent = Vec::new();
    home.kill_syncs(KILLS, || {
        for _ in 0..10 {
            server.put(&sent.len().to_string(), message(sent.len()).replace('\n', "\r\n"));
            sent.push(message(sent.len()));
        }
    });
    home.must(&["sync"], 0);
    assert!(server.uids().is_empty());
    assert!(!home.path("mbox.lock").exists());
    let found = crate::sink::mbox_messages(&fs::read(home.path("mbox")).unwrap());
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for octets in &found {
        *counts.entry(octets).or_default() += 1;
    }
    for text in &sent {
        let count = counts.remove(text.as_bytes()).unwrap_or(0);
        assert!(count >= 1, "lost: {}", text.lines().next().unwrap());
        assert!(count <= 1 + KILLS as usize);
    }
    // What is left was cut off in the middle of an append, and came again.
    for rest in counts.keys() {
        let rest = rest.strip_suffix(b"\n").unwrap_or(rest);
        // A quote that was cut off is none to a reader.
        let line = rest.len() - rest.rsplit(|octet| *octet == b'\n').next().unwrap().len();
        let quote = usize::from(rest.len() > line && b">From ".starts_with(&rest[line..]));
        let begins = [&rest[..line], &rest[line + quote..]].concat();
        assert!(sent.iter().any(|text| text.as_bytes().starts_with(&begins)), "{}", begins.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_and_other_programs_deliver_into_one_mbox_without_tearing_a_message() {
    let dir = scratch();
    let target = mbox(dir.path());
    let rc = dir.path().join("rc");
    fs::write(&rc, format!("MAILDIR={0}\nLOCKSLEEP=1\n:0:\n{0}/mbox\n", dir.path().display())).unwrap();
    let procmail = |number: usize| {
        let mut child = Command::new("procmail")
            .args(["-m"])
            .arg(&rc)
            .stdin(Stdio::piped())
            .spawn()
            .expect("procmail (Debian: procmail)");
        let text = format!(
            "From p@q Mon Nov 23 00:00:00 2026\nSubject: procmail {number}\n\n{}\n",
            "body\n".repeat(3000)
        );
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        child
    };
    // Two accounts: each with its own workers, as if they were processes.
    let accounts = ["alice@a", "bob@b"].map(|name| {
        let target = target.clone();
        tokio::spawn(async move {
            let sink = Sink::open(&target, name.into(), Disk::new(), Access::default()).await.unwrap();
            for number in 0..20 {
                let text = format!("Subject: {name} {number}\r\n\r\n{}\r\n", "line\r\n".repeat(3000));
                let mut draft = sink.draft(id(&number.to_string()));
                crate::sink::fill(&mut draft, [text.as_bytes()]).await.unwrap();
                assert_eq!(sink.commit(vec![draft.finish()]).await.unwrap(), [Outcome::Delivered]);
            }
        })
    });
    let others: Vec<Child> = (0..5).map(procmail).collect();
    for account in accounts {
        account.await.unwrap();
    }
    for mut other in others {
        assert!(other.wait().unwrap().success());
    }
    let messages = mbox_file(dir.path());
    let mut subjects: Vec<String> = messages
        .iter()
        .map(|message| {
            let text = str::from_utf8(message).unwrap();
            let (header, body) = text.split_once("\n\n").unwrap();
            let (line, count) =
                if header.contains("procmail") { ("body\n", 15_000) } else { ("line\n", 15_000) };
            assert_eq!(body.matches(line).count() * line.len(), count, "torn: {header}");
            header.to_owned()
        })
        .collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!((messages.len(), subjects.len()), (45, 45));
    assert_unlocked(dir.path());
}
