//! Delivery to the servers that people run: Postfix and Exim by SMTP, Dovecot by LMTP.

use std::path::Path;

use crate::sink::{MAILDROP, deliver};
use crate::support::dovecot::Dovecot;
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::mta::{DOMAIN, LIMIT, Mta, PASSWORD, USER};
use crate::support::poller::Poller;
use postrider::testing::config::{Config, Target};
use postrider::testing::delivery::{Access, Outcome, Sink, TargetError};
use postrider::testing::disk::Disk;
use postrider::testing::failure::Class;
use postrider::testing::pop3::UniqueId;
use postrider::testing::secret::Secret;

fn target(deliver: &str) -> Target {
    let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {deliver}}}}}");
    let config = Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{error}"));
    config.accounts.into_iter().next().unwrap().deliver.remove(0).target
}

async fn open(deliver: &str, password: Option<&str>) -> Result<Sink, TargetError> {
    let access = Access {
        account: "test".into(),
        secret: password.map(Secret::new),
        timeout: std::time::Duration::from_secs(20),
        ..Access::default()
    };
    Sink::open(&target(deliver), MAILDROP.into(), Disk::new(), access).await
}

fn smtp(mta: &Mta, to: &str, keys: &str) -> String {
    format!("{{ smtp: {{ host: 127.0.0.1, port: {}, to: [{to}]{keys} }} }}", mta.port)
}

/// Messages as a POP3 server may send them; all that SMTP can carry.
fn messages() -> Vec<Vec<u8>> {
    let header =
        |name: &str| format!("Return-Path: <sender@example.net>\r\nSubject: {name}\r\nX-Test: {name}\r\n");
    let with = |name: &str, rest: &[u8]| [header(name).as_bytes(), rest].concat();
    let large: Vec<u8> =
        (0..20_000).flat_map(|line| format!("{line} .\r\n.{line}\r\n").into_bytes()).collect();
    vec![
        with("usual", b"\r\nHello\r\n"),
        with("dots", b"\r\n.\r\n..\r\n...\r\n.x\r\n\r\n.\r\n"),
        with("8-bit", "\r\nGrüße \u{1f4a1}\r\n".as_bytes()),
        with("latin1", b"\r\nGr\xfc\xdfe \x80\xff\r\n"),
        with("no end", b"\r\nthe last line"),
        with("empty lines", b"\r\n\r\n\r\n\r\n"),
        with("no body", b""),
        with("large", &[&b"\r\n"[..], &large].concat()),
        with("bare lf", b"\r\nMAIL\n.\nRCPT\n.\r\nDATA\n"),
    ]
}

/// What must lie in a mailbox: line ends as in files, and a last one.
fn in_files(message: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = Vec::with_capacity(message.len());
    for octet in message {
        if *octet == b'\n' && text.last() == Some(&b'\r') {
            text.pop();
        }
        text.push(*octet);
    }
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    text
}

/// Takes off the lines that a server puts on top, and that we sent: those of the envelope.
fn without_trace(message: &[u8]) -> Vec<u8> {
    const TRACE: [&[u8]; 6] = [
        b"Return-Path:",
        b"Return-path:",
        b"Received:",
        b"Delivered-To:",
        b"X-Original-To:",
        b"Envelope-to:",
    ];
    let mut rest = message;
    loop {
        let is_trace =
            TRACE.iter().any(|field| rest.starts_with(field)) || rest.starts_with(b"Delivery-date:");
        if !(is_trace || rest.starts_with(b"\t") || rest.starts_with(b" ")) {
            return rest.to_vec();
        }
        let end = rest.iter().position(|octet| *octet == b'\n').expect("a line ends");
        rest = &rest[end + 1..];
    }
}

fn assert_all_arrived(mut arrived: Vec<Vec<u8>>, mut sent: Vec<Vec<u8>>) {
    arrived.iter_mut().for_each(|message| *message = without_trace(message));
    sent.iter_mut().for_each(|message| *message = without_trace(message));
    arrived.sort();
    sent.sort();
    assert_eq!(arrived.len(), sent.len());
    for (arrived, sent) in arrived.iter().zip(&sent) {
        let shown = |octets: &[u8]| String::from_utf8_lossy(&octets[..octets.len().min(200)]).into_owned();
        assert!(arrived == sent, "{:?} came as {:?}", shown(sent), shown(arrived));
    }
}

/// One batch over one connection, which each server takes as it was sent.
async fn all_messages_arrive(mta: &Mta, keys: &str, password: Option<&str>, stored: fn(&[u8]) -> Vec<u8>) {
    let sink = open(&smtp(mta, &format!("box@{DOMAIN}"), keys), password).await.unwrap();
    let sent = messages();
    let uids: Vec<String> = (0..sent.len()).map(|number| number.to_string()).collect();
    let batch: Vec<(&str, &[u8])> =
        uids.iter().zip(&sent).map(|(uid, octets)| (uid.as_str(), &octets[..])).collect();
    let outcomes = deliver(&sink, &batch).await.unwrap();
    assert_eq!(outcomes, vec![Outcome::Delivered; sent.len()], "{}", mta.log());
    sink.close().await;
    let sent = sent.iter().map(|message| stored(message)).collect();
    assert_all_arrived(mta.mailbox("box", outcomes.len()), sent);
}

/// Exim stores header and body apart and puts the empty line between them, whether it came or not.
fn in_exims_files(message: &[u8]) -> Vec<u8> {
    let text = in_files(message);
    if text.windows(2).any(|pair| pair == b"\n\n") { text } else { [&text[..], b"\n"].concat() }
}

/// What a server refuses or puts off, in the middle of a batch in which all else arrives.
async fn refusals_concern_one_message_or_one_recipient(mta: &Mta) {
    let usual = messages().remove(0);
    for (to, expected) in [
        ("refused", "Refused(\"server refused the recipient"),
        ("later", "Later(\"server cannot take the recipient"),
    ] {
        let sink = open(&smtp(mta, &format!("{to}@{DOMAIN}"), ""), None).await.unwrap();
        let outcomes = deliver(&sink, &[("1", &usual), ("2", &usual), ("3", &usual)]).await.unwrap();
        assert!(outcomes.iter().all(|outcome| format!("{outcome:?}").starts_with(expected)), "{outcomes:?}");
        sink.close().await;
    }
    let both = format!("refused@{DOMAIN}, mixed@{DOMAIN}, later@{DOMAIN}");
    let sink = open(&smtp(mta, &both, ""), None).await.unwrap();
    let too_large = [&usual[..], &b"x\r\n".repeat(LIMIT / 3)].concat();
    let outcomes = deliver(&sink, &[("1", &usual), ("2", &too_large), ("3", &usual)]).await.unwrap();
    let mixed = format!("mixed@{DOMAIN}");
    for at in [0, 2] {
        assert!(
            matches!(&outcomes[at], Outcome::Partly { delivered, .. } if *delivered == [mixed.clone()]),
            "{outcomes:?}"
        );
    }
    assert!(matches!(&outcomes[1], Outcome::Refused(why) if why.contains("SIZE")), "{outcomes:?}");
    sink.close().await;
    assert_eq!(mta.mailbox("mixed", 2).len(), 2);
}

#[tokio::test]
async fn postfix_takes_every_message_as_it_was_sent() {
    let mta = Mta::postfix();
    all_messages_arrive(&mta, "", None, in_files).await;
    refusals_concern_one_message_or_one_recipient(&mta).await;
}

#[tokio::test]
async fn postfix_takes_every_message_over_starttls() {
    let mta = Mta::postfix();
    let keys = format!(", tls: starttls, tls_pin: {}", mta.certificate.pin());
    all_messages_arrive(&mta, &keys, None, in_files).await;
    let wrong = format!(", tls: starttls, tls_pin: 'sha256:{}'", "0".repeat(64));
    let error = open(&smtp(&mta, &format!("box@{DOMAIN}"), &wrong), None).await.unwrap_err();
    assert!(error.to_string().contains("tls_pin"), "{error}");
}

#[tokio::test]
async fn exim_takes_every_message_as_it_was_sent() {
    let mta = Mta::exim();
    all_messages_arrive(&mta, "", None, in_exims_files).await;
    refusals_concern_one_message_or_one_recipient(&mta).await;
    let sink = open(&smtp(&mta, &format!("spam@{DOMAIN}"), ""), None).await.unwrap();
    let spam = b"From: <x@example.net>\r\nSubject: spam\r\n\r\n\r\n";
    let outcomes = deliver(&sink, &[("1", spam), ("2", &messages()[0])]).await.unwrap();
    assert!(
        matches!(&outcomes[0], Outcome::Refused(why) if why.ends_with("550 we do not want this")),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1], Outcome::Delivered);
}

#[tokio::test]
async fn exim_takes_every_message_after_a_log_in_over_starttls() {
    let mta = Mta::exim();
    let keys = format!(
        ", tls: starttls, tls_pin: {}, user: {USER}, password: {{ env: UNUSED }}",
        mta.certificate.pin()
    );
    all_messages_arrive(&mta, &keys, Some(PASSWORD), in_exims_files).await;
    let to = format!("box@{DOMAIN}");
    match open(&smtp(&mta, &to, &keys), Some("wrong")).await {
        Err(TargetError::Server(error)) => {
            assert_eq!(
                (error.what.as_str(), error.class),
                ("server refused the log-in as alice (PLAIN)", Class::Credentials)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn dovecot_takes_every_message_as_it_was_sent_for_each_of_its_users_alone() {
    let dovecot = Dovecot::start_lmtp();
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    let mut sent = messages();
    // The server that the messages are fetched from takes a bare LF for a line end.
    sent.pop();
    for (number, message) in sent.iter().enumerate() {
        maildrop.put(&number.to_string(), message.clone());
    }
    let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
    let socket = dovecot.lmtp();
    let to = |to: &str| target(&format!("{{ lmtp: {{ socket: {}, to: [{to}] }} }}", socket.display()));
    poller.account.deliver = vec![to("u1@example.org, u2@example.org").into()];
    let report = poller.poll();
    // The first message fills the second user's mailbox; the first user has all of them.
    assert_eq!((report.delivered, report.held), (1, sent.len() - 1), "{report:?} {}", dovecot.log());
    let of = |user: &str| {
        dovecot.messages(user).into_iter().map(|(_, octets)| in_files(&octets)).collect::<Vec<_>>()
    };
    assert_all_arrived(of("u1"), sent.iter().map(|message| in_files(message)).collect());
    assert_eq!(of("u2").len(), 1);
    // When there is room again, only the second user gets what is left.
    poller.account.deliver = vec![to("u1@example.org, u1+more@example.org").into()];
    let names = (1..sent.len()).map(|number| (UniqueId::new(number.to_string().into_bytes()), 0)).collect();
    let maildrop_id = poller.account.maildrop_id.as_str().into();
    poller
        .block_on(poller.environment.store.hasten(maildrop_id, names, postrider::testing::session::now()))
        .unwrap();
    assert_eq!(poller.must().delivered, sent.len() - 1);
    let again: Vec<_> = of("u1").into_iter().map(|message| without_trace(&message)).collect();
    let twice = |message: &&Vec<u8>| again.iter().filter(|other| *other == *message).count() == 2;
    assert_eq!((again.len(), again.iter().filter(twice).count()), (2 * sent.len() - 1, 2 * (sent.len() - 1)));
    assert_eq!(maildrop.uids(), Vec::<String>::new());
}
