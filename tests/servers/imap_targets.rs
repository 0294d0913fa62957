//! Mailboxes as targets of whole polls: Dovecot's, and what kills at any moment make of it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::cyrus::Cyrus;
use crate::support::dovecot::{Dovecot, Format, PASSWORD};
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{free_port, wait_until};
use crate::support::real_server::{RealServer, USER};

/// A Dovecot that speaks IMAP, and its port.
fn dovecot() -> (Dovecot, u16) {
    let port = free_port();
    let more = format!(
        "protocols = pop3 imap\nservice imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n"
    );
    (Dovecot::start_with(Format::Maildir, 1, &more), port)
}

fn maildrop() -> Maildrop {
    Maildrop::start(Settings { tls: Protection::None, ..Settings::default() })
}

fn message(number: usize) -> Vec<u8> {
    format!(
        "Received: from a by b;\r\n\tSat, 29 Nov 2025 12:00:00 +0000\r\nMessage-ID: <{number}@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 \
         +0000\r\nSubject: {number}\r\n\r\n.of\u{fc} {number}\r\n"
    )
    .into_bytes()
}

/// The program in a home of its own, with this target.
fn home(maildrop: &Maildrop, imap: &str) -> Home {
    home_of(maildrop, &format!("{{ imap: {imap} }}"))
}

fn home_of(maildrop: &Maildrop, deliver: &str) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home:\n    {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none,\n     \
         auth: [user-pass], keep: none, deliver: {deliver}}}\n",
        maildrop.port()
    ));
    home
}

fn assert_each_once(arrived: Vec<Vec<u8>>, sent: usize) {
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    arrived.into_iter().for_each(|octets| *counts.entry(octets).or_default() += 1);
    for number in 0..sent {
        assert_eq!(counts.remove(&message(number)), Some(1), "{number}");
    }
    let others: Vec<_> = counts.keys().map(|octets| String::from_utf8_lossy(octets)).collect();
    assert!(others.is_empty(), "these were never sent: {others:?}");
}

/// Kills the program at moments spread over its runs; in the end each message is there, once. `POSTRIDER_KILLS` says how
/// often.
fn kills_lose_and_repeat_nothing(imap: &str, arrived: impl Fn() -> usize, all: impl Fn() -> Vec<Vec<u8>>) {
    kills_of_several(&format!("{{ imap: {imap} }}"), arrived, || vec![all()]);
}

/// The same for several targets: `all` gives what is in each.
fn kills_of_several(deliver: &str, arrived: impl Fn() -> usize, all: impl Fn() -> Vec<Vec<Vec<u8>>>) {
    const ARRIVING: usize = 30;
    let kills: usize = std::env::var("POSTRIDER_KILLS").map_or(36, |kills| kills.parse().expect("a number"));
    let maildrop = maildrop();
    let home = home_of(&maildrop, deliver);
    let mut sent = 0;
    let mut mail_arrives = || {
        (sent..sent + ARRIVING).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        sent += ARRIVING;
        sent
    };
    mail_arrives();
    let begun = Instant::now();
    home.must(&["sync"], 0);
    let (whole, mut amid, mut sent, mut cut_off) = (begun.elapsed(), 0, ARRIVING, false);
    for number in 0..kills {
        let before = arrived();
        sent = mail_arrives();
        let mut running = home.start(&["sync"]);
        if number % 2 == 0 {
            // Behind one that was killed it waits first until the server is done with what that had sent.
            let waits = Duration::from_secs(if cut_off { 2 } else { 0 });
            wait_until(waits + 2 * whole * number as u32 / kills as u32, || !running.is_running());
        } else {
            let enough = before + 1 + number % ARRIVING;
            wait_until(LIMIT, || arrived() >= enough || !running.is_running());
        }
        cut_off = running.is_running();
        running.signal(Signal::SIGKILL);
        running.wait(LIMIT);
        // To look may take longer than what is left to be done.
        amid += usize::from(cut_off && arrived() > before);
    }
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    all().into_iter().for_each(|arrived| assert_each_once(arrived, sent));
    // How many depends on how busy the machine is.
    assert!(amid > 0, "none of {kills} kills fell while messages were handed over");
}

#[test]
fn kills_at_any_moment_lose_and_repeat_nothing_on_the_way_into_a_mailbox() {
    let server = ImapServer::start(Habits::default());
    let target = server.target("");
    let imap = target.strip_prefix("{ imap: ").and_then(|rest| rest.strip_suffix(" }")).unwrap();
    kills_lose_and_repeat_nothing(imap, || server.inbox().len(), || server.inbox());
}

#[test]
fn kills_at_any_moment_lose_and_repeat_nothing_on_the_way_into_dovecot() {
    let (dovecot, port) = dovecot();
    let imap = format!("{{ host: 127.0.0.1, port: {port}, tls: none, user: u1, password: '{PASSWORD}' }}");
    let all = || dovecot.messages("u1").into_iter().map(|(_, octets)| octets).collect();
    kills_lose_and_repeat_nothing(&imap, || dovecot.arrived("u1"), all);
}

/// Reads the messages in a maildir, with CRLF.
fn maildir(path: &Path) -> Vec<Vec<u8>> {
    let folders = ["new", "cur"].map(|folder| path.join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let read = |path: PathBuf| fs::read(path).expect("a message");
    let crlf = |octets: Vec<u8>| octets.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
    files.map(|file| crlf(read(file.expect("an entry").path()))).collect()
}

#[test]
fn kills_between_targets_lose_and_repeat_nothing_in_any_of_them() {
    let (dovecot, port) = dovecot();
    let directory = tempfile::tempdir().expect("a directory");
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    let deliver = format!(
        "[{{ maildir: {} }}, {{ imap: {{ host: 127.0.0.1, port: {port}, tls: none, user: u1, password: '{PASSWORD}' }} }}, \
         {{ maildir: {}, name: copy }}]",
        one.display(),
        two.display()
    );
    let inbox = || dovecot.messages("u1").into_iter().map(|(_, octets)| octets).collect();
    kills_of_several(&deliver, || dovecot.arrived("u1"), || vec![maildir(&one), inbox(), maildir(&two)]);
}

#[test]
fn a_dovecot_that_is_killed_while_it_takes_messages_loses_and_repeats_none() {
    let (mut dovecot, port) = dovecot();
    let maildrop = maildrop();
    let imap = format!("{{ host: 127.0.0.1, port: {port}, tls: none, user: u1, password: '{PASSWORD}' }}");
    let home = home(&maildrop, &imap);
    let mut sent = 0;
    for round in 1..8 {
        (sent..sent + 40).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        sent += 40;
        let before = dovecot.arrived("u1");
        let mut running = home.start(&["sync"]);
        wait_until(LIMIT, || dovecot.arrived("u1") >= before + 5 * round || !running.is_running());
        dovecot.kill();
        running.wait(LIMIT);
        dovecot.restart();
        home.must(&["held", "retry", "home"], 0);
    }
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    let arrived = dovecot.messages("u1").into_iter().map(|(_, octets)| octets).collect();
    assert_each_once(arrived, sent);
}

#[test]
fn dovecot_gets_messages_over_tls_into_folders_by_every_mechanism() {
    let (dovecot, port) = dovecot();
    let home = Home::new();
    let authority = home.write("ca.pem", &dovecot.certificate.authority_pem);
    for (number, mechanism) in
        ["plain", "login", "user-pass", "cram-md5", "scram-sha-1", "scram-sha-256"].iter().enumerate()
    {
        let maildrop = maildrop();
        maildrop.put("1", message(number));
        let imap = format!(
            "{{ host: localhost, port: {port}, tls: starttls, tls_ca: {}, user: u1, password: '{PASSWORD}', \
             auth: [{mechanism}], folder: 'Lists/Grün {number}', flags: ['\\Seen'] }}",
            authority.display()
        );
        let home = self::home(&maildrop, &imap);
        home.must(&["sync"], 0);
        assert!(maildrop.uids().is_empty());
    }
    let folders = fs::read_dir(dovecot.home("u1")).unwrap().flatten();
    let names: Vec<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    for number in 0..6 {
        assert!(names.contains(&format!(".Lists.Gr&APw-n {number}")), "{names:?}");
    }
}

#[test]
fn a_message_of_150_megabytes_goes_through_in_little_memory() {
    let server = ImapServer::start(Habits::default());
    let maildrop = maildrop();
    let large = [message(0), b"0123456789abcdef0123456789abcdef\r\n".repeat(4_600_000)].concat();
    maildrop.put("large", large.clone());
    let target = server.target("");
    let imap = target.strip_prefix("{ imap: ").and_then(|rest| rest.strip_suffix(" }")).unwrap();
    let home = home(&maildrop, imap);
    let (ended, octets) = home.start(&["sync"]).wait_and_weigh(Duration::from_secs(120));
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(server.inbox() == [large], "another message arrived");
    assert!(octets <= 10 << 20, "{octets} octets of memory");
}

#[test]
fn cyrus_gets_each_message_once_though_the_program_is_killed_and_folders_with_its_separator() {
    let cyrus = Cyrus::start();
    // Makes the mailbox.
    cyrus.messages();
    let port = cyrus.imap_port();
    let imap =
        format!("{{ host: 127.0.0.1, port: {port}, tls: none, user: {USER}, password: '{PASSWORD}' }}");
    let all = || cyrus.messages().into_iter().map(|(_, octets)| octets).collect::<Vec<_>>();
    kills_lose_and_repeat_nothing(&imap, || all().len(), all);
    let maildrop = maildrop();
    maildrop.put("1", message(1));
    let home = home(&maildrop, &imap.replace(" }", ", folder: Lists/Rust }"));
    let ended = home.must(&["sync", "-vvv"], 0);
    assert!(ended.stderr.contains("INBOX.Lists.Rust"), "{}", ended.stderr);
    assert!(maildrop.uids().is_empty());
}
