//! The program against real servers: Dovecot and GNU pop3d, started here on loopback.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::certificate::Certificate;
use crate::support::dovecot::{self, Dovecot, Format};
use crate::support::gnu_pop3d::{self, GnuPop3d};
use crate::support::mails;
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::wait_until;
use crate::support::reader::Reader;
use crate::support::relay::Relay;

/// What an account's configuration is made of; `more` are further keys, a line each.
struct Account<'a> {
    name: &'a str,
    port: u16,
    user: &'a str,
    password: &'a str,
    maildir: &'a str,
    more: &'a str,
}

impl Account<'_> {
    fn yaml(&self) -> String {
        let Self { name, port, user, password, maildir, more } = self;
        // An authority has no meaning without TLS, and is refused there.
        let authority = if more.contains("tls: none") { "" } else { "\ntls_ca: ~/ca.pem" };
        let keys = format!("{more}{authority}");
        let keys: String =
            keys.lines().filter(|key| !key.is_empty()).map(|key| format!("    {}\n", key.trim())).collect();
        format!(
            "  {name}:\n    host: 127.0.0.1\n    port: {port}\n    user: {user}\n    password: {password}\n    \
             deliver: {{ maildir: ~/{maildir} }}\n{keys}"
        )
    }
}

/// A home with these accounts, all of which trust the certificate's authority.
fn home(certificate: &Certificate, accounts: &[Account<'_>]) -> Home {
    let home = Home::new();
    home.write("ca.pem", &certificate.authority_pem);
    let accounts: String = accounts.iter().map(Account::yaml).collect();
    home.configure(&format!("accounts:\n{accounts}"));
    home
}

/// A home with one account, `u1` of a Dovecot, by way of this port.
fn dovecot_home(server: &Dovecot, port: u16, more: &str) -> Home {
    home(&server.certificate, &[dovecot_account("home", port, "u1", "Mail", more)])
}

fn dovecot_account<'a>(
    name: &'a str,
    port: u16,
    user: &'a str,
    maildir: &'a str,
    more: &'a str,
) -> Account<'a> {
    Account { name, port, user, password: dovecot::PASSWORD, maildir, more }
}

fn gnu_home(server: &GnuPop3d, port: u16, more: &str) -> Home {
    let (user, password) = (gnu_pop3d::USER, gnu_pop3d::PASSWORD);
    home(&server.certificate, &[Account { name: "home", port, user, password, maildir: "Mail", more }])
}

/// What a maildir must hold after everything that the server sends was delivered.
fn delivered(messages: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
    messages.iter().map(|(_, octets)| mails::with_lf(octets)).collect()
}

/// Every message of a maildir is there once, and nothing half done beside them.
fn assert_delivered(home: &Home, maildir: &str, expected: &[Vec<u8>]) {
    assert_same(home.maildir(maildir), expected.to_vec());
    assert_eq!(home.leftovers(maildir), Vec::<std::path::PathBuf>::new(), "left in tmp");
}

/// Messages that servers and clients get wrong.
fn odd_messages() -> Vec<Vec<u8>> {
    let mut messages = mails::odd();
    messages.push(mails::with_nul());
    messages
}

#[test]
fn every_octet_from_dovecot_arrives_by_implicit_tls_and_by_stls() {
    for format in [Format::Maildir, Format::Mdbox] {
        let server = Dovecot::start(format, 1);
        server.put("u1", &odd_messages());
        let expected = delivered(&server.messages("u1"));
        assert_eq!(expected.len(), odd_messages().len());
        for (port, tls) in [(server.tls_port, "tls: implicit"), (server.port, "tls: starttls")] {
            let home = dovecot_home(&server, port, tls);
            let ended = home.must(&["sync"], 0);
            assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""), "a run that works says nothing");
            assert_delivered(&home, "Mail", &expected);
            home.must(&["sync"], 0);
            assert_delivered(&home, "Mail", &expected);
        }
        assert_eq!(server.left("u1"), expected.len());
    }
}

#[test]
fn what_arrives_later_is_fetched_and_nothing_else() {
    let dovecot = Dovecot::start(Format::Mdbox, 1);
    let gnu = GnuPop3d::start();
    let mails = mails::ordinary(12);
    let (first, second) = mails.split_at(7);
    dovecot.put("u1", first);
    gnu.put(first);
    let homes = [dovecot_home(&dovecot, dovecot.tls_port, ""), gnu_home(&gnu, gnu.tls_port, "")];
    for home in &homes {
        home.must(&["sync"], 0);
        assert_eq!(home.files("Mail").len(), 7);
    }
    dovecot.put("u1", second);
    gnu.put(second);
    for (home, messages) in homes.iter().zip([dovecot.messages("u1"), gnu.messages()]) {
        home.must(&["sync"], 0);
        assert_delivered(home, "Mail", &delivered(&messages));
    }
}

#[test]
fn the_keep_option_and_a_dry_run_delete_nothing() {
    let server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(5));
    let home = dovecot_home(&server, server.tls_port, "keep: none");
    home.must(&["sync", "--dry-run"], 0);
    assert!(home.files("Mail").is_empty());
    home.must(&["sync", "--keep"], 0);
    assert_eq!((home.files("Mail").len(), server.left("u1")), (5, 5));
    home.must(&["sync"], 0);
    assert_eq!((home.files("Mail").len(), server.left("u1")), (5, 0));
}

#[test]
fn many_messages_arrive_with_pipelining_and_without() {
    let dovecot = Dovecot::start(Format::Mdbox, 1);
    let gnu = GnuPop3d::start();
    dovecot.put("u1", &mails::ordinary(300));
    // A client that waits for each of its answers is given 25 of them a second.
    gnu.put(&mails::ordinary(60));
    let (from_dovecot, from_gnu) = (delivered(&dovecot.messages("u1")), delivered(&gnu.messages()));
    for pipelining in ["auto", "on", "off"] {
        let more = format!("pipelining: {pipelining}");
        let home = dovecot_home(&dovecot, dovecot.tls_port, &more);
        home.must(&["sync"], 0);
        assert_delivered(&home, "Mail", &from_dovecot);
        let home = gnu_home(&gnu, gnu.tls_port, &more);
        home.must(&["sync"], 0);
        assert_delivered(&home, "Mail", &from_gnu);
    }
}

#[test]
fn check_says_by_its_status_whether_mail_waits_and_changes_nothing() {
    let server = Dovecot::start(Format::Maildir, 1);
    let home = dovecot_home(&server, server.tls_port, "keep: none");
    home.must(&["check"], 1);
    server.put("u1", &mails::ordinary(3));
    for _ in 0..2 {
        let ended = home.must(&["check"], 0);
        assert!(ended.stdout.contains("home"), "{}", ended.stdout);
    }
    assert!(home.files("Mail").is_empty());
    assert_eq!(server.left("u1"), 3);
    home.must(&["sync"], 0);
    home.must(&["check"], 1);
}

#[test]
fn a_wrong_password_is_told_apart_and_not_repeated() {
    let server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(1));
    let account = Account {
        name: "home",
        port: server.tls_port,
        user: "u1",
        password: "wrong-battery",
        maildir: "Mail",
        more: "",
    };
    let home = home(&server.certificate, &[account]);
    for arguments in [&["sync"][..], &["-vvv", "sync"][..], &["check"][..]] {
        let ended = home.must(arguments, 77);
        assert!(ended.stderr.contains("home") && ended.stderr.contains("127.0.0.1"), "{}", ended.stderr);
        for said in [&ended.stdout, &ended.stderr] {
            assert!(!said.contains("wrong-battery"), "{said}");
            // The same in base64, as PLAIN sends it: NUL u1 NUL wrong-battery
            assert!(!said.contains("AHUxAHdyb25nLWJhdHRlcnk"), "{said}");
        }
    }
    assert!(home.files("Mail").is_empty());
}

#[test]
fn no_dialogue_shows_the_password_that_was_accepted() {
    let server = Dovecot::start(Format::Maildir, 1);
    for auth in ["user-pass", "plain", "login"] {
        let home = dovecot_home(&server, server.tls_port, &format!("auth: [{auth}]"));
        let ended = home.must(&["-vvv", "sync"], 0);
        assert!(ended.stderr.contains("QUIT"), "no dialogue: {}", ended.stderr);
        // As it is; as PLAIN sends it; as LOGIN sends it.
        for secret in [dovecot::PASSWORD, "AHUxAGNvcnJlY3QgaG9yc2U", "Y29ycmVjdCBob3JzZQ"] {
            assert!(!ended.stderr.contains(secret), "{auth}: {}", ended.stderr);
        }
    }
}

#[test]
fn each_mechanism_logs_in_when_it_is_asked_for() {
    let server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(1));
    let mechanisms = [
        ("user-pass", "PLAIN"),
        ("plain", "PLAIN"),
        ("login", "LOGIN"),
        ("cram-md5", "CRAM-MD5"),
        ("scram-sha-1", "SCRAM-SHA-1"),
        ("scram-sha-256", "SCRAM-SHA-256"),
        ("apop", "APOP"),
    ];
    for (mechanism, logged) in mechanisms {
        for (port, tls) in [(server.tls_port, "implicit"), (server.port, "starttls"), (server.port, "none")] {
            let before = logins(&server, logged);
            let home = dovecot_home(&server, port, &format!("tls: {tls}\nauth: [{mechanism}]"));
            home.must(&["sync"], 0);
            assert_eq!(home.files("Mail").len(), 1);
            let seen = wait_until(Duration::from_secs(5), || logins(&server, logged) == before + 1);
            assert!(seen, "{mechanism}, tls {tls}: not by {logged}: {}", server.log());
        }
    }
}

#[test]
fn an_interrupt_ends_a_sync_within_two_seconds_and_nothing_is_lost_or_repeated() {
    let server = Dovecot::start(Format::Mdbox, 1);
    server.put("u1", &mails::ordinary(300));
    let expected = delivered(&server.messages("u1"));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for octets in [100, 3_000, 150_000] {
            let relay = Relay::start(server.tls_port);
            let home = dovecot_home(&server, relay.port(), "");
            relay.hold_after(octets);
            let running = home.start(&["sync"]);
            relay.wait_for_hold();
            running.signal(signal);
            let ended = running.wait(LIMIT);
            assert!(ended.took < Duration::from_secs(2), "{signal}, after {octets} octets: {:?}", ended.took);
            assert_eq!(ended.status, Some(75), "{}", ended.stderr);
            relay.open();
            home.must(&["sync"], 0);
            assert_delivered(&home, "Mail", &expected);
        }
    }
}

#[test]
fn accounts_are_polled_together_and_one_failure_keeps_no_other_from_its_mail() {
    let dovecot = Dovecot::start(Format::Mdbox, 8);
    let users: Vec<String> = (1..=8).map(|n| format!("u{n}")).collect();
    for (number, user) in users.iter().enumerate() {
        dovecot.put(user, &mails::ordinary(10 + number));
    }
    let mut accounts: Vec<Account<'_>> =
        users.iter().map(|user| dovecot_account(user, dovecot.tls_port, user, user, "")).collect();
    accounts[3].password = "wrong";
    accounts[5].maildir = "shared";
    accounts[6].maildir = "shared";
    let home = home(&dovecot.certificate, &accounts);
    let ended = home.must(&["sync"], 77);
    assert!(ended.stderr.contains("u4") && !ended.stderr.contains("u5"), "{}", ended.stderr);
    for (number, user) in users.iter().enumerate() {
        let expected = match number {
            3 | 5 | 6 => continue,
            _ => delivered(&dovecot.messages(user)),
        };
        assert_delivered(&home, user, &expected);
    }
    let shared = [delivered(&dovecot.messages("u6")), delivered(&dovecot.messages("u7"))].concat();
    assert_delivered(&home, "shared", &shared);
    assert!(home.files("u4").is_empty());
    home.must(&["sync", "u1", "u2"], 0);
}

#[test]
fn a_big_message_arrives_whole() {
    let server = Dovecot::start(Format::Maildir, 1);
    let body = crate::support::transcript::body(40 << 20);
    server.put("u1", &[[b"Subject: big\n\n".as_slice(), &mails::with_lf(&body)].concat()]);
    let expected = delivered(&server.messages("u1"));
    let home = dovecot_home(&server, server.tls_port, "");
    home.must(&["sync"], 0);
    assert_delivered(&home, "Mail", &expected);
}

#[test]
fn a_url_is_enough() {
    let server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(3));
    let expected = delivered(&server.messages("u1"));
    // System roots are what SSL_CERT_FILE names.
    let home = Home::new();
    let authority = home.write("ca.pem", &server.certificate.authority_pem);
    let url = format!("pops://u1@localhost:{}", server.tls_port);
    let secret = format!("echo '{}'", dovecot::PASSWORD);
    let arguments = ["sync", &url, "--deliver", "maildir:~/Mail", "--password-command", &secret];
    for _ in 0..2 {
        let mut command = home.command(&arguments);
        command.env("SSL_CERT_FILE", &authority);
        let ended = crate::support::process::Running::start(&mut command).wait(LIMIT);
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert_delivered(&home, "Mail", &expected);
    }
}

/// Counts the log-ins by this mechanism in the server's log.
fn logins(server: &Dovecot, mechanism: &str) -> usize {
    server.log().matches(&format!("Login: user=<u1>, method={mechanism},")).count()
}

#[test]
fn sizes_that_are_estimates_until_somebody_looks_make_no_message_another_one() {
    // Dovecot then lists the size of the file, in which a line ends with LF, until another client asks for the right one.
    let server = Dovecot::start_with(Format::Maildir, 1, "pop3_fast_size_lookups = yes\n");
    let home = Home::new();
    let account = |keep: &str| {
        format!(
            "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    tls: none\n    auth: [plain]\n    user: u1\n    \
             password: {}\n    keep: {keep}\n    deliver: {{ mbox: ~/mbox }}\n",
            server.port,
            dovecot::PASSWORD
        )
    };
    home.configure(&account("forever"));
    let count = || {
        let octets = std::fs::read(home.path("mbox")).unwrap_or_default();
        octets.split(|octet| *octet == b'\n').filter(|line| line.starts_with(b"From ")).count()
    };
    let mut put = 0;
    for mails in mails::ordinary(30).chunks(10) {
        // Not by doveadm, which would know the sizes.
        for mail in mails {
            server.deliver("u1", mail);
        }
        put += mails.len();
        let listed = || Reader::plain(server.port).log_in("u1", dovecot::PASSWORD).lines("LIST").pop();
        let mail = mails.last().expect("a message");
        let lines = mail.iter().filter(|octet| **octet == b'\n').count();
        for size in [mail.len(), mail.len() + lines] {
            assert_eq!(listed(), Some(format!("{put} {size}")));
            for _ in 0..2 {
                assert_eq!(home.must(&["sync"], 0).stderr, "");
                assert_eq!(count(), put, "messages came again");
            }
            server.weigh("u1");
        }
    }
    home.configure(&account("none"));
    for _ in 0..2 {
        home.must(&["sync"], 0);
    }
    assert_eq!((count(), server.left("u1")), (put, 0));
}
