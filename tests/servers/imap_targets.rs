//! Mailboxes as targets of whole polls: Dovecot's, and what kills at any moment make of it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use postrider::testing::session::Environment;

use crate::mechanisms::{by_certificate, client_certificates};
use crate::support::certificate::Certificate;
use crate::support::courier::Courier;
use crate::support::cyrus::Cyrus;
use crate::support::dovecot::{Dovecot, Format, PASSWORD};
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{free_port, wait_until};
use crate::support::real_server::{RealServer, USER};
use crate::support::relay::{Relay, Side};

/// A Dovecot that speaks IMAP, and its port.
fn dovecot() -> (Dovecot, u16) {
    dovecot_with("")
}

fn dovecot_with(more: &str) -> (Dovecot, u16) {
    let port = free_port();
    let more = format!(
        "protocols = pop3 imap\nservice imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n{more}"
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
    // What is in doubt may wait for another poll, and so may who is let in while the server still has the killed ones.
    assert!(wait_until(LIMIT, || home.run(&["sync"]).status == Some(0)), "no poll was whole any more");
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
    makes_a_folder_below_the_inbox(&imap);
}

fn makes_a_folder_below_the_inbox(imap: &str) {
    let maildrop = maildrop();
    maildrop.put("1", message(1));
    let home = home(&maildrop, &imap.replace(" }", ", folder: Lists/Rust }"));
    let ended = home.must(&["sync", "-vvv"], 0);
    assert!(ended.stderr.contains("INBOX.Lists.Rust"), "{}", ended.stderr);
    assert!(maildrop.uids().is_empty());
}

#[test]
fn courier_gets_each_message_once_though_the_program_is_killed_and_folders_with_its_separator() {
    let courier = Courier::with_imap();
    let port = courier.imap_port();
    let imap =
        format!("{{ host: 127.0.0.1, port: {port}, tls: none, user: {USER}, password: '{PASSWORD}' }}");
    let all = || courier.messages().into_iter().map(|(_, octets)| octets).collect();
    kills_lose_and_repeat_nothing(&imap, || courier.left(), all);
    makes_a_folder_below_the_inbox(&imap);
}

#[test]
fn a_refused_password_of_a_mailbox_is_one_error_with_the_servers_words_and_what_to_do() {
    let (dovecot, port) = dovecot();
    let courier = Courier::with_imap();
    for (user, port, words) in [
        ("u1", port, "server: NO [AUTHENTICATIONFAILED] Authentication failed."),
        (USER, courier.imap_port(), "server: NO Login failed."),
    ] {
        let maildrop = maildrop();
        maildrop.put("1", message(1));
        let imap = format!("{{ host: 127.0.0.1, port: {port}, tls: none, user: {user}, password: wrong }}");
        let synced = home(&maildrop, &imap).must(&["sync"], 77).stderr;
        let seen = home(&maildrop, &imap).must(&["doctor"], 77).stdout;
        assert!(synced.starts_with("postrider: home: imap:") && synced.matches("postrider: ").count() == 1);
        for (told, remedy) in [(synced, "hint: check `user` and"), (seen, "what to do: check `user` and")] {
            let refused = format!("server refused the log-in as {user}");
            for once in [&*refused, words, remedy] {
                assert_eq!(told.matches(once).count(), 1, "{once}: {told}");
            }
        }
        assert_eq!(maildrop.uids(), ["1"]);
    }
    assert_eq!((dovecot.arrived("u1"), courier.left()), (0, 0));
}

#[test]
fn a_mailbox_whose_certificate_is_another_gets_nothing_until_that_is_trusted() {
    let (mut dovecot, port) = dovecot();
    let maildrop = maildrop();
    let pinned = |certificate: &Certificate| {
        let pin = certificate.pin();
        format!(
            "{{ imap: {{ host: localhost, port: {port}, tls: starttls, tls_pin: '{pin}', user: u1, password: '{PASSWORD}' }} }}"
        )
    };
    let home = home_of(&maildrop, &pinned(&dovecot.certificate));
    let arrive = |numbers: std::ops::Range<usize>| {
        numbers.for_each(|number| maildrop.put(&number.to_string(), message(number)));
    };
    arrive(0..2);
    home.must(&["sync"], 0);
    dovecot.kill();
    let other = Certificate::for_loopback();
    dovecot.certify(other.clone());
    dovecot.restart();
    arrive(2..5);
    let ended = home.must(&["sync"], 75);
    for words in ["target", &format!("localhost:{port}"), "tls_pin", &other.pin()] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert_eq!((maildrop.uids().len(), dovecot.arrived("u1")), (3, 2));
    assert!(!dovecot.log().contains("AUTHENTICATE"), "something was said to it");
    let config = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    let trusted = config.split("deliver:").next().unwrap().to_owned() + "deliver: " + &pinned(&other) + "}\n";
    home.configure(&trusted);
    home.must(&["sync"], 0);
    assert_eq!((maildrop.uids().len(), dovecot.arrived("u1")), (0, 5));
}

#[test]
fn a_client_certificate_logs_in_to_a_mailbox_by_external_and_another_s_does_not() {
    let home = Home::new();
    client_certificates(&home, &["u1", "u2"]);
    let (dovecot, port) = dovecot_with(&by_certificate(&home));
    home.write("ca.pem", &dovecot.certificate.authority_pem);
    let maildrop = maildrop();
    let ways =
        [("", "u2", 77), ("auth: [external], ", "u2", 77), ("", "u1", 0), ("auth: [external], ", "u1", 0)];
    for (number, (keys, certificate, status)) in ways.into_iter().enumerate() {
        maildrop.put(&number.to_string(), message(number));
        home.configure(&format!(
            "accounts:\n  home:\n    {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none,\n     \
             auth: [user-pass], keep: none, deliver: {{ imap: {{ host: localhost, port: {port}, tls: starttls, tls_ca: \
             ~/ca.pem, user: u1, {keys}tls_client_cert: ~/{certificate}.pem, tls_client_key: ~/{certificate}.key }} }} }}\n",
            maildrop.port()
        ));
        let ended = home.run(&["sync", "-vvv", "--force"]);
        assert_eq!(ended.status, Some(status), "{keys}{certificate}: {}{}", ended.stderr, dovecot.log());
        assert!(ended.stderr.contains("target: C: AUTH EXTERNAL"), "{}", ended.stderr);
        assert_eq!(
            ended.stderr.contains("`tls_client_cert` of the target"),
            status == 77,
            "{}",
            ended.stderr
        );
        assert_eq!(maildrop.uids().is_empty(), status == 0);
    }
    assert_eq!(dovecot.arrived("u1"), ways.len());
}

#[test]
fn an_app_password_that_is_revoked_while_messages_are_appended_loses_and_repeats_none() {
    let (dovecot, port) = dovecot();
    let maildrop = maildrop();
    let relay = Relay::start(port);
    let imap = |password: &str| {
        format!("{{ host: 127.0.0.1, port: {}, tls: none, user: u1, password: '{password}' }}", relay.port())
    };
    let home = home(&maildrop, &imap(PASSWORD));
    const SENT: usize = 1000;
    (0..SENT).for_each(|number| maildrop.put(&number.to_string(), message(number)));
    // The connection is cut in the middle, and the log-in that is made anew is refused.
    relay.hold_after(3000);
    let running = home.start(&["sync"]);
    relay.wait_for_hold();
    dovecot.change_password("u1", "another");
    relay.cut_after(Side::Server, 0);
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status, Some(77), "{}", ended.stderr);
    assert!(ended.stderr.contains("AUTHENTICATIONFAILED"), "{}", ended.stderr);
    let left = maildrop.uids().len();
    assert!((1..=SENT).contains(&left), "{left}");
    // It is not shown again.
    let tried = || dovecot.log().matches("auth failed").count();
    let before = tried();
    home.must(&["sync"], 77);
    assert_eq!(tried(), before);
    assert_eq!(maildrop.uids().len(), left);
    let config = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace(&imap(PASSWORD), &imap("another")));
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    assert_each_once(dovecot.read_by("u1", "another"), SENT);
}

#[test]
fn a_slow_line_with_little_room_in_its_buffers_ends_nothing_that_goes_on() {
    let (dovecot, port) = dovecot();
    let maildrop = maildrop();
    // 200 KiB a second: what lies in the system's buffers drains within the timeout, and all of a message does not.
    let relay = Relay::slow(port, 8 << 10, Duration::from_millis(40));
    let large = [message(0), b"0123456789abcdef0123456789abcdef\r\n".repeat(36_000)].concat();
    maildrop.put("large", large.clone());
    (1..4).for_each(|number| maildrop.put(&number.to_string(), message(number)));
    let home = home(
        &maildrop,
        &format!(
            "{{ host: 127.0.0.1, port: {}, tls: none, user: u1, password: '{PASSWORD}', timeout: 3s }}",
            relay.port()
        ),
    );
    let begun = Instant::now();
    home.must(&["sync"], 0);
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(maildrop.uids().is_empty());
    let mut sizes: Vec<usize> = dovecot.messages("u1").iter().map(|(_, octets)| octets.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.last(), Some(&large.len()));
    assert_eq!(sizes.len(), 4);
}

#[test]
fn a_days_budget_counts_all_that_was_uploaded_though_the_program_is_killed() {
    const KILLS: usize = 6;
    const ARRIVING: usize = 40;
    let (server, maildrop) = (ImapServer::start(Habits::default()), maildrop());
    let home = home_of(&maildrop, &server.target(", provider: gmail"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = || Environment::new(home.path("state/postrider/state.db")).store;
    let name = || "uploaded bob 127.0.0.1".to_owned();
    let kept = || {
        let kept = runtime.block_on(store().target_memory(name())).unwrap().expect("it is counted");
        let (day, octets) = std::str::from_utf8(&kept).unwrap().split_once(' ').unwrap();
        (day.to_owned(), octets.parse::<usize>().unwrap())
    };
    let uploaded = || server.ever().iter().map(|(_, octets)| octets.len()).sum::<usize>();
    let mut sent = 0;
    for number in 0..KILLS {
        (sent..sent + ARRIVING).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        sent += ARRIVING;
        let before = server.appends();
        let mut running = home.start(&["sync"]);
        wait_until(LIMIT, || server.appends() > before + 5 * number || !running.is_running());
        running.signal(Signal::SIGKILL);
        running.wait(LIMIT);
        assert!(kept().1 >= uploaded(), "{:?} of {}", kept(), uploaded());
    }
    home.must(&["sync"], 0);
    assert_each_once(server.inbox(), sent);
    let (day, octets) = kept();
    let most = uploaded() + KILLS * ARRIVING * 2 * message(sent).len();
    assert!((uploaded()..most).contains(&octets), "{octets} of {}", uploaded());
    // What is left of the day is for one message, and the others wait.
    let left = message(sent).len() + 100;
    runtime.block_on(store().remember(name(), format!("{day} {}", (400 << 20) - left).into_bytes())).unwrap();
    (sent..sent + 3).for_each(|number| maildrop.put(&number.to_string(), message(number)));
    let ended = home.must(&["sync"], 75);
    assert!(
        ended.stderr.contains("the 400 MiB that may be uploaded there in a day are used up"),
        "{}",
        ended.stderr
    );
    assert_each_once(server.inbox(), sent + 1);
    assert!(home.must(&["status"], 0).stdout.contains("in a day are used up"));
    assert!(maildrop.uids().len() >= 2);
}
