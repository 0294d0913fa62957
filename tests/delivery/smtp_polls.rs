//! Polls that deliver by SMTP: what is recorded, held and told, and what a kill costs.

use std::time::Duration;

use nix::sys::signal::Signal;
use postrider::testing::failure::Class;

use crate::smtp::{EXTENSIONS, target};
use crate::support::mail_server::{MailServer, smtp};
use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::poller::Poller;
use crate::support::postrider::Home;
use crate::support::process::wait_until;
use crate::support::scripted::{Script, ScriptedServer};

/// A poller whose one account delivers to this server.
fn poller(maildrop: &Maildrop, deliver: &str) -> Poller {
    let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
    poller.account.deliver = vec![target(deliver).into()];
    poller
}

fn maildrop(messages: usize) -> Maildrop {
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    for number in 0..messages {
        maildrop.put(&number.to_string(), format!("Subject: {number}\r\n\r\nx\r\n"));
    }
    maildrop
}

#[test]
fn a_session_delivers_to_a_server_records_and_deletes() {
    let (maildrop, server) = (maildrop(40), MailServer::start(EXTENSIONS));
    let poller = poller(&maildrop, &smtp(server.port(), ""));
    let report = poller.must();
    assert_eq!((report.delivered, report.deleted), (40, 40));
    let subjects: Vec<_> = server.arrived().into_iter().map(|arrived| arrived.octets).collect();
    let expected: Vec<_> =
        (0..40).map(|number| format!("Subject: {number}\r\n\r\nx\r\n").into_bytes()).collect();
    assert_eq!(subjects, expected);
    assert_eq!(server.connections(), 1);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
}

#[test]
fn a_server_that_is_away_fails_the_session_and_holds_no_message() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let maildrop = maildrop(3);
    let mut poller = poller(&maildrop, &smtp(closed, ""));
    let report = poller.poll();
    let failure = report.failure.unwrap();
    assert_eq!(failure.class, Class::Target);
    assert_eq!(failure.host, format!("smtp:127.0.0.1:{closed}"));
    assert_eq!((report.held, report.newly_held), (0, 0));
    assert_eq!(maildrop.count(|what| matches!(what, What::Command(line) if line.starts_with("RETR"))), 0);
    let server = MailServer::start(EXTENSIONS);
    poller.account.deliver = vec![target(&smtp(server.port(), "")).into()];
    assert_eq!(poller.must().delivered, 3);
}

#[test]
fn what_was_delivered_before_the_server_went_away_is_recorded_and_not_repeated() {
    let (maildrop, server) = (maildrop(6), MailServer::start(EXTENSIONS));
    let poller = poller(&maildrop, &smtp(server.port(), ""));
    server.hold(1);
    server.gone_after(4);
    let first = std::thread::scope(|scope| {
        // While the answer to the first message is held back, the others gather into one batch.
        scope.spawn(|| {
            maildrop.wait_for(6, |what| matches!(what, What::Sent(_)));
            server.release();
        });
        poller.poll()
    });
    assert_eq!(first.failure.expect("the server is gone").class, Class::Target);
    assert_eq!((first.delivered, first.held), (4, 0));
    assert_eq!(poller.seen(), ["0", "1", "2", "3"]);
    server.gone_after(usize::MAX);
    assert_eq!(poller.must().delivered, 2);
    assert_eq!(server.arrived().len(), 6);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
}

/// The program in a home of its own, with this target.
fn home(maildrop: &Maildrop, deliver: &str) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  test:\n    {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none,\n     \
         auth: [user-pass], keep: none, received: false, deliver: {deliver}}}\n",
        maildrop.port()
    ));
    home
}

#[test]
fn a_kill_between_the_end_of_a_message_and_its_record_repeats_at_most_that_message_and_loses_none() {
    for killed_at in 1..=4 {
        let (maildrop, server) = (maildrop(4), MailServer::start(EXTENSIONS));
        let home = home(&maildrop, &smtp(server.port(), ""));
        server.hold(killed_at);
        let running = home.start(&["sync"]);
        let limit = Duration::from_secs(30);
        assert!(wait_until(limit, || server.arrived().len() == killed_at), "it hands over {killed_at}");
        running.signal(Signal::SIGKILL);
        assert_eq!(running.wait(limit).status, None);
        server.release();
        home.must(&["sync"], 0);
        assert_eq!(maildrop.uids(), Vec::<String>::new());
        let count = |number: usize| {
            let text = format!("Subject: {number}\r\n\r\nx\r\n").into_bytes();
            server.arrived().iter().filter(|arrived| arrived.octets == text).count()
        };
        let counts: Vec<usize> = (0..4).map(count).collect();
        // Those whose answer came just before the kill may not have been recorded yet.
        assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
        assert!(counts[killed_at..].iter().all(|count| *count == 1), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), server.arrived().len());
    }
}

#[test]
fn a_server_that_thinks_about_a_message_does_not_keep_the_program_from_ending() {
    let (maildrop, server) = (maildrop(2), MailServer::start(EXTENSIONS));
    let home = home(&maildrop, &smtp(server.port(), ""));
    server.hold(1);
    let running = home.start(&["sync"]);
    assert!(wait_until(Duration::from_secs(30), || server.arrived().len() == 1));
    running.signal(Signal::SIGTERM);
    running.wait(Duration::from_secs(10));
    server.release();
    assert_eq!(maildrop.uids(), ["0", "1"]);
}

#[test]
fn what_the_server_took_before_the_end_was_asked_for_is_recorded_and_the_one_in_doubt_is_named() {
    let (maildrop, server) = (maildrop(5), MailServer::start(EXTENSIONS));
    let home = home(&maildrop, &smtp(server.port(), ""));
    server.hold(1);
    let running = home.start(&["sync"]);
    // While the answer to the first message is held back, the others gather into one batch.
    maildrop.wait_for(5, |what| matches!(what, What::Sent(_)));
    server.hold(3);
    assert!(wait_until(Duration::from_secs(30), || server.arrived().len() == 3));
    running.signal(Signal::SIGTERM);
    let ended = running.wait(Duration::from_secs(10));
    let doubtful: Vec<_> = ended.stderr.lines().filter(|line| line.contains("may arrive again")).collect();
    assert!(matches!(&doubtful[..], [line] if line.contains(": 2: held: ")), "{}", ended.stderr);
    // For deletions there was no time.
    assert_eq!(maildrop.count(|what| *what == What::Command("QUIT".into())), 1);
    server.release();
    home.must(&["held", "retry", "test"], 0);
    home.must(&["sync"], 0);
    let count = |number: usize| {
        let text = format!("Subject: {number}\r\n\r\nx\r\n").into_bytes();
        server.arrived().iter().filter(|arrived| arrived.octets == text).count()
    };
    assert_eq!((0..5).map(count).collect::<Vec<_>>(), [1, 1, 2, 1, 1]);
}

#[test]
fn no_log_shows_the_targets_password() {
    let maildrop = maildrop(1);
    let script = "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250 AUTH LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\n\
                  C: czNjcmV0\nS: 535 no\n";
    let server = ScriptedServer::start([Script::parse("log in", script)]);
    let home = home(&maildrop, &smtp(server.port(), ", user: alice, password: s3cret"));
    let ended = home.must(&["-vvv", "sync"], 77);
    assert!(ended.stderr.contains("target: S: 535 no"), "{}", ended.stderr);
    for secret in ["s3cret", "czNjcmV0", "YWxpY2U="] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
    server.finish();
}

#[test]
fn a_log_in_that_the_target_refused_is_tried_again_as_one_at_a_maildrop_is() {
    let maildrop = maildrop(1);
    let refuses =
        "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250 AUTH PLAIN\nC: AUTH PLAIN *\nS: 535 5.7.8 no\n";
    let scripts = (0..4).map(|at| Script::parse(&at.to_string(), refuses));
    let server = ScriptedServer::start(scripts);
    let home = home(&maildrop, &smtp(server.port(), ", user: alice, password: s3cret"));
    let ended = home.must(&["sync"], 77);
    assert!(ended.stderr.contains("no further unattended attempt before"), "{}", ended.stderr);
    let minutes = |minutes: i64, arguments: &[&str]| {
        let said = home.must_at(minutes * 60, &[&["-v"], arguments].concat(), 77).stderr;
        assert!(said.contains("server: 535 5.7.8 no"), "{said}");
        !said.contains("not tried: the server refused this log-in at")
    };
    for (at, arguments, tried) in [
        (14, &["sync"][..], false),
        (14, &["sync", "--force"], true),
        (16, &["sync"], false),
        (30, &["sync"], true),
        // The third.
        (89, &["sync"], false),
        (91, &["sync"], true),
    ] {
        assert_eq!(minutes(at, arguments), tried, "{at}");
    }
    server.finish();
}

#[test]
fn a_message_that_the_server_refuses_is_held_and_the_others_go_on() {
    let maildrop = maildrop(0);
    for (uid, size) in [("1", 10), ("2", 100_000), ("3", 10)] {
        maildrop.put(uid, [&b"Subject: x\r\n\r\n"[..], &b"12345678\r\n".repeat(size / 10)].concat());
    }
    let server = MailServer::start(&["PIPELINING", "SIZE 50000"]);
    let poller = poller(&maildrop, &smtp(server.port(), ""));
    let report = poller.poll();
    assert_eq!((report.delivered, report.held), (2, 1));
    assert_eq!(maildrop.uids(), ["2"]);
}

#[test]
fn a_url_and_a_mail_server_on_the_command_line_need_no_configuration() {
    let (maildrop, server) = (maildrop(3), MailServer::start(EXTENSIONS));
    let home = Home::new();
    let url = format!("pop://alice;AUTH=+USER@127.0.0.1:{}", maildrop.port());
    let deliver = format!("smtp://127.0.0.1:{}?to=bob@example.org&from=me@example.org", server.port());
    let arguments = ["sync", &url, "--tls", "none", "--password-command", "echo correct horse", "--deliver"];
    home.must(&[&arguments[..], &[&deliver]].concat(), 0);
    let arrived = server.arrived();
    assert_eq!(arrived.len(), 3);
    assert_eq!(
        (&*arrived[0].rcpt[0], arrived[0].mail.split(' ').next()),
        ("<bob@example.org>", Some("<me@example.org>"))
    );
    // As from a configured account, what goes on its way again says where it has been.
    assert!(arrived[0].octets.starts_with(b"Received: "));
    let ended = home.run(&[&arguments[..], &["smtp://127.0.0.1"]].concat());
    assert!(ended.stderr.contains("`to` is missing"), "{}", ended.stderr);
}
