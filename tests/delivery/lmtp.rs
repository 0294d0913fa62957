//! Delivery by LMTP: a reply for each recipient, and nobody gets a message twice because another did not.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::sink::{MAILDROP, deliver};
use crate::support::mail_server::{MailServer, lmtp};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::poller::Poller;
use crate::support::scripted::{Script, ScriptedServer};
use postrider::testing::config::{Config, Target};
use postrider::testing::delivery::{Access, Others, Outcome, Sink};
use postrider::testing::disk::Disk;
use postrider::testing::pop3::UniqueId;
use postrider::testing::stop;

const MESSAGE: &[u8] = b"Return-Path: <alice@example.net>\r\nSubject: x\r\n\r\nEHLO x\r\n";
const HELLO: &str = "S: 220 test\nC: LHLO *\nS: 250-test\nS: 250 PIPELINING\n";
const RCPT: &str = "C: RCPT TO:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<c@x>\n";
const TEXT: &str = "C: Return-Path: <alice@example.net>\nC: Subject: x\nC: \nC: EHLO x\nC: .\n";

fn target(deliver: &str) -> Target {
    let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {deliver}}}}}");
    let config = Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{error}"));
    config.accounts.into_iter().next().unwrap().deliver.remove(0).target
}

fn on_port(port: u16, to: &str) -> Target {
    target(&format!("{{ lmtp: {{ host: 127.0.0.1, port: {port}, to: [{to}] }} }}"))
}

async fn open(target: &Target) -> Sink {
    let access = Access { timeout: Duration::from_secs(20), ..Access::default() };
    Sink::open(target, MAILDROP.into(), Disk::new(), access).await.unwrap()
}

/// Plays one connection to a client that delivers so many messages to three recipients.
async fn play(script: &str, messages: usize) -> Vec<Outcome> {
    play_to("a@x, b@x, c@x", script, messages).await
}

async fn play_to(to: &str, script: &str, messages: usize) -> Vec<Outcome> {
    let server = ScriptedServer::start([Script::parse("lmtp", script)]);
    let sink = open(&on_port(server.port(), to)).await;
    let uids: Vec<String> = (0..messages).map(|number| number.to_string()).collect();
    let batch: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), MESSAGE)).collect();
    let outcomes = deliver(&sink, &batch).await.unwrap();
    sink.close().await;
    server.finish();
    outcomes
}

fn partly(delivered: &[&str], reason: &str, others: Others) -> Outcome {
    let delivered = delivered.iter().map(|text| (*text).to_owned()).collect();
    Outcome::Partly { delivered, reason: reason.to_owned(), others }
}

#[tokio::test]
async fn each_recipient_has_a_reply_of_its_own() {
    let commands = format!("C: MAIL FROM:<alice@example.net>\n{RCPT}C: DATA\n");
    let begin = format!("{commands}S: 250 ok\nS: 250 a\nS: 250 b\nS: 250 c\nS: 354 go\n{TEXT}");
    let quit = "C: QUIT\nS: 221 bye\n";
    let full = "server cannot take the message now: 452 4.2.2 full";
    let gone = "server refused the message: 550 5.1.1 gone";
    let rows = [
        ("S: 250 a\nS: 250 b\nS: 250 c\n", Outcome::Delivered),
        ("S: 250 a\nS: 452 4.2.2 full\nS: 250 c\n", partly(&["a@x", "c@x"], full, Others::Later)),
        ("S: 550 5.1.1 gone\nS: 250 b\nS: 250 c\n", partly(&["b@x", "c@x"], gone, Others::Refused)),
        ("S: 550 5.1.1 gone\nS: 452 4.2.2 full\nS: 250 c\n", partly(&["c@x"], full, Others::Later)),
        ("S: 550 5.1.1 gone\nS: 452 4.2.2 full\nS: 550 x\n", Outcome::Later(full.into())),
        ("S: 550 5.1.1 gone\nS: 550 x\nS: 550 x\n", Outcome::Refused(gone.into())),
    ];
    for (replies, expected) in &rows {
        let script = format!("{HELLO}{begin}{replies}{quit}");
        assert_eq!(play(&script, 1).await, std::slice::from_ref(expected), "{replies}");
        let script = format!("{HELLO}{begin}{replies}{begin}{replies}{quit}");
        assert_eq!(play(&script, 2).await, [expected.clone(), expected.clone()], "{replies}");
    }
}

#[tokio::test]
async fn to_one_recipient_the_commands_of_the_next_message_leave_with_the_end_of_this_one() {
    let commands = "C: MAIL FROM:<alice@example.net>\nC: RCPT TO:<a@x>\nC: DATA\n";
    let ready = "S: 250 ok\nS: 250 a\nS: 354 go\n";
    let script = format!(
        "{HELLO}{commands}{ready}{TEXT}{commands}S: 452 full\n{ready}{TEXT}S: 250 a\nC: QUIT\nS: 221 bye\n"
    );
    let outcomes = play_to("a@x", &script, 2).await;
    assert!(matches!(&outcomes[..], [Outcome::Later(_), Outcome::Delivered]), "{outcomes:?}");
}

#[tokio::test]
async fn a_reply_that_is_missing_is_not_taken_from_the_next_message() {
    let begin = format!(
        "C: MAIL FROM:<alice@example.net>\n{RCPT}C: DATA\nS: 250 ok\nS: 250 a\nS: 250 b\nS: 250 c\nS: 354 go\n{TEXT}"
    );
    // One reply for three recipients; then the server waits for what the client has to say.
    let outcomes = play(&format!("{HELLO}{begin}S: 250 a\nS: 421 bye\n!cut\n"), 1).await;
    let [Outcome::Partly { delivered, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(delivered, &["a@x"]);
}

#[tokio::test]
async fn a_server_that_breaks_off_between_the_replies_gets_no_more_than_three_messages() {
    let script = format!(
        "{HELLO}C: MAIL FROM:<alice@example.net>\n{RCPT}C: DATA\nS: 250 ok\nS: 250 a\nS: 250 b\nS: 250 c\nS: 354 go\n{TEXT}S: 250 a\n!cut\n"
    );
    let server = ScriptedServer::start((0..3).map(|at| Script::parse(&at.to_string(), &script)));
    let sink = open(&on_port(server.port(), "a@x, b@x, c@x")).await;
    let uids: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    let batch: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), MESSAGE)).collect();
    let outcomes = deliver(&sink, &batch).await.unwrap();
    assert!(outcomes[..3].iter().all(|outcome| matches!(outcome, Outcome::Partly { .. })), "{outcomes:?}");
    assert_eq!(outcomes[3..], [Outcome::NotTried, Outcome::NotTried]);
    assert!(sink.failure().is_some());
    server.finish();
}

#[tokio::test]
async fn only_recipients_that_were_accepted_have_a_reply_to_the_message() {
    let script = format!(
        "{HELLO}C: MAIL FROM:<alice@example.net>\n{RCPT}C: DATA\nS: 250 ok\nS: 250 a\nS: 550 5.1.1 who?\nS: 250 c\nS: 354 go\n{TEXT}\
         S: 250 a\nS: 250 c\nC: QUIT\nS: 221 bye\n"
    );
    let why = "server refused the recipient <b@x>: 550 5.1.1 who?";
    assert_eq!(play(&script, 1).await, [partly(&["a@x", "c@x"], why, Others::Refused)]);
}

#[tokio::test]
async fn a_connection_lost_between_the_replies_says_that_the_message_may_come_again() {
    let script = format!(
        "{HELLO}C: MAIL FROM:<alice@example.net>\n{RCPT}C: DATA\nS: 250 ok\nS: 250 a\nS: 250 b\nS: 250 c\nS: 354 go\n{TEXT}S: 250 a\n!cut\n"
    );
    // The first recipient's reply was read, and it has the message.
    let outcomes = play(&script, 1).await;
    let [Outcome::Partly { delivered, reason, others: Others::Later }] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(delivered, &["a@x"]);
    assert!(reason.contains("may have arrived"), "{reason}");
}

#[tokio::test]
async fn once_the_end_is_asked_for_a_recipient_whose_reply_has_come_still_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = on_port(listener.local_addr().unwrap().port(), "a@x, b@x");
    let (stopper, stop) = stop::channel();
    let server = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        stream.write_all(b"220 test\r\n").await.unwrap();
        let (mut line, mut text) = (String::new(), false);
        while stream.read_line(&mut line).await.unwrap() > 0 {
            let reply: &[u8] = match line.trim_end() {
                "." => {
                    stopper.stop();
                    b"250 a\r\n"
                }
                "DATA" => b"354 go\r\n",
                _ if text => b"",
                _ => b"250 ok\r\n",
            };
            text |= line.starts_with("DATA");
            stream.write_all(reply).await.unwrap();
            line.clear();
        }
    });
    let access = Access { timeout: Duration::from_secs(20), stop, ..Access::default() };
    let sink = Sink::open(&target, MAILDROP.into(), Disk::new(), access).await.unwrap();
    let outcomes = deliver(&sink, &[("1", MESSAGE), ("2", MESSAGE)]).await.unwrap();
    let [Outcome::Partly { delivered, reason, others: Others::Later }, Outcome::NotTried] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!(delivered, &["a@x"]);
    assert!(reason.contains("was asked to end") && reason.contains("may have arrived"), "{reason}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_speaks_smtp_is_told_from_one_that_does_not_answer() {
    let script = Script::parse("smtp", "S: 220 x\nC: LHLO *\nS: 500 what?\nC: QUIT\nS: 221 bye\n");
    let server = ScriptedServer::start([script]);
    let target = on_port(server.port(), "a@x");
    let error = Sink::open(
        &target,
        MAILDROP.into(),
        Disk::new(),
        Access { timeout: Duration::from_secs(20), ..Access::default() },
    )
    .await;
    assert!(error.unwrap_err().hint().unwrap().contains("does not speak LMTP"));
    server.finish();
}

#[tokio::test]
async fn a_unix_socket_that_is_not_there_is_told_with_its_path() {
    let access = Access { timeout: Duration::from_secs(20), ..Access::default() };
    let missing = target("{ lmtp: { socket: /nonexistent/lmtp, to: [a] } }");
    let error = Sink::open(&missing, MAILDROP.into(), Disk::new(), access).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect: No such file or directory (os error 2)");
    assert!(error.hint().unwrap().contains("is this the path of its socket"));
}

#[test]
fn messages_go_through_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("lmtp");
    let server = MailServer::on_socket(&socket, &["PIPELINING", "8BITMIME"]);
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    // It begins as the greeting does, which is another in LMTP.
    const LIKE_A_GREETING: &[u8] = b"EHLO there: x\r\n\r\n";
    (0..20).for_each(|number| maildrop.put(&number.to_string(), LIKE_A_GREETING));
    let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]");
    poller.account.deliver = vec![target(&lmtp(&socket, "u1, u2@example.org")).into()];
    assert_eq!(poller.must().delivered, 20);
    let arrived = server.arrived();
    assert_eq!(arrived.len(), 20);
    assert!(arrived.iter().all(|arrived| arrived.octets == LIKE_A_GREETING));
    assert_eq!(arrived[0].rcpt, ["<u1>", "<u2@example.org>"]);
}

#[test]
fn those_who_have_a_message_do_not_get_it_again_with_those_who_have_not() {
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    maildrop.put("one", MESSAGE);
    let session = |rcpt: &[&str], replies: &str| {
        let commands: String = rcpt.iter().map(|to| format!("C: RCPT TO:<{to}>\n")).collect();
        let accepted = "S: 250 ok\n".repeat(rcpt.len() + 1);
        format!(
            "{HELLO}C: MAIL FROM:<alice@example.net>\n{commands}C: DATA\n{accepted}S: 354 go\n{TEXT}{replies}C: QUIT\nS: 221 bye\n"
        )
    };
    let server = ScriptedServer::start([
        Script::parse(
            "one of three",
            &session(&["a@x", "b@x", "c@x"], "S: 452 full\nS: 250 b\nS: 452 full\n"),
        ),
        Script::parse("one of two", &session(&["a@x", "c@x"], "S: 452 full\nS: 250 c\n")),
        Script::parse("none of one", &session(&["a@x"], "S: 452 full\n")),
        Script::parse("the last", &session(&["a@x"], "S: 250 a\n")),
    ]);
    let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
    poller.account.deliver = vec![on_port(server.port(), "a@x, b@x, c@x").into()];
    for _ in 0..3 {
        let report = poller.poll();
        assert_eq!((report.delivered, report.held), (0, 1), "{report:?}");
        assert_eq!(maildrop.uids(), ["one"]);
        let maildrop_id = poller.account.maildrop_id.as_str().into();
        let all = poller.environment.store.hasten(
            maildrop_id,
            vec![(UniqueId::new(*b"one"), 0)],
            postrider::testing::session::now(),
        );
        poller.block_on(all).unwrap();
    }
    let report = poller.must();
    assert_eq!((report.delivered, report.deleted), (1, 1));
    server.finish();
}

#[test]
fn another_message_under_the_same_unique_id_goes_to_everybody() {
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    maildrop.put("one", MESSAGE);
    let session = |text: &str, replies: &str| {
        let rcpt = "C: RCPT TO:<a@x>\nC: RCPT TO:<b@x>\n";
        let accepted = "S: 250 ok\n".repeat(3);
        format!(
            "{HELLO}C: MAIL FROM:<alice@example.net>\n{rcpt}C: DATA\n{accepted}S: 354 go\n{text}{replies}C: QUIT\nS: 221 bye\n"
        )
    };
    const OTHER: &[u8] = b"Return-Path: <alice@example.net>\r\n\r\nother\r\n";
    let server = ScriptedServer::start([
        Script::parse("one of two", &session(TEXT, "S: 452 full\nS: 250 b\n")),
        Script::parse(
            "both",
            &session("C: Return-Path: <alice@example.net>\nC: \nC: other\nC: .\n", "S: 250 a\nS: 250 b\n"),
        ),
    ]);
    let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
    poller.account.deliver = vec![on_port(server.port(), "a@x, b@x").into()];
    assert_eq!(poller.poll().held, 1);
    maildrop.remove("one");
    maildrop.put("one", OTHER);
    let maildrop_id = poller.account.maildrop_id.as_str().into();
    let names = vec![(UniqueId::new(*b"one"), 0)];
    poller
        .block_on(poller.environment.store.hasten(maildrop_id, names, postrider::testing::session::now()))
        .unwrap();
    assert_eq!(poller.must().delivered, 1);
    server.finish();
}
