//! Delivery over HTTP: what an endpoint gets, and what each of its answers, silences and cuts comes to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use postrider::testing::failure::Class;
use postrider::testing::session::WallClock;
use sha2::{Digest as _, Sha256};

use crate::smtp::target;
use crate::support::http_server::{Answer, HttpServer, answer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::poller::Poller;

/// A maildrop, an endpoint, and the account between them.
struct Way {
    maildrop: Maildrop,
    server: HttpServer,
    poller: Poller,
}

impl Way {
    fn new(keys: &str) -> Self {
        Self::before(HttpServer::start(|_| answer(204)), keys)
    }

    fn before(server: HttpServer, keys: &str) -> Self {
        let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
        let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
        poller.account.deliver = vec![to(&server, keys).into()];
        Self { maildrop, server, poller }
    }

    fn put(&self, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| self.maildrop.put(&number.to_string(), message(number)));
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, seconds: i64) {
        let clock = &mut self.poller.environment.clock;
        *clock = WallClock::Set(Arc::new((clock.now() + seconds).into()));
    }

    /// Gives the numbers of the messages that came, by their keys each once.
    fn keys(&self) -> BTreeSet<String> {
        self.server.asked().iter().map(|asked| asked.field("idempotency-key").to_owned()).collect()
    }
}

fn to(server: &HttpServer, keys: &str) -> postrider::testing::config::Target {
    target(&format!("{{ http: {{ url: '{}'{keys} }} }}", server.url("/in?box=1")))
}

fn message(number: usize) -> Vec<u8> {
    format!("Message-ID: <{number}@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 +0000\r\nFrom: bob@example.net\r\nSubject: {number}\r\n\r\nof {number}\r\n")
        .into_bytes()
}

#[test]
fn a_message_comes_octet_for_octet_with_what_it_is_known_by() {
    let way =
        Way::new(", user: desk, password: 'p:w', hmac: 'the key', headers: { X-Api-Key: k1, X-Source: pop }");
    let odd = b"Return-Path: <carol@example.org>\r\nSubject: x\r\n\r\na\nb\rc\0\xff\r\n.\r\nno end".to_vec();
    way.maildrop.put("id 1%\u{e4}", odd.clone());
    way.poller.must();
    let [asked] = &way.server.asked()[..] else { panic!("one came") };
    // The maildrop ends what lacks an end.
    let body = [odd, b"\r\n".to_vec()].concat();
    assert!(asked.body == body, "{:?}", asked.body.escape_ascii().to_string());
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/in?box=1"));
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let time = asked.field("x-postrider-timestamp").to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"the key").unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(&body);
    for (name, value) in [
        ("host", format!("127.0.0.1:{}", way.server.port())),
        ("content-type", "message/rfc822".into()),
        ("content-length", body.len().to_string()),
        ("authorization", format!("Basic {}", STANDARD.encode("desk:p:w"))),
        ("content-digest", format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&body)))),
        ("x-postrider-account", "test".into()),
        ("x-postrider-uid", "id%201%25%C3%A4".into()),
        ("x-postrider-from", "carol@example.org".into()),
        ("x-postrider-recipient", "alice".into()),
        ("x-postrider-signature", hex(&mac.finalize().into_bytes())),
        ("x-api-key", "k1".into()),
        ("x-source", "pop".into()),
    ] {
        assert_eq!(asked.field(name), value, "{name}");
    }
    assert!(time.parse::<i64>().unwrap() > 1_700_000_000);
    assert_eq!(asked.field("idempotency-key").len(), 64);
}

#[test]
fn many_messages_go_over_one_connection_and_one_that_was_closed_in_between_is_made_anew() {
    let way = Way::new("");
    way.put(0..30);
    assert_eq!(way.poller.must().delivered, 30);
    assert_eq!((way.server.asked().len(), way.server.state().connections), (30, 1));
    assert!(way.maildrop.uids().is_empty());
    // Whoever closes after each answer gets a connection for each message, and whoever says so as well.
    for fields in ["Connection: close\r\n", ""] {
        let way = Way::new(", method: PUT");
        way.put(0..5);
        let closes = if fields.is_empty() {
            Answer::Raw("HTTP/1.1 204 x\r\n\r\n")
        } else {
            Answer::Is(204, fields.into(), Vec::new())
        };
        way.server.plan(vec![closes; 5]);
        assert_eq!(way.poller.must().delivered, 5);
        let asked = way.server.asked();
        assert!(asked.iter().all(|asked| asked.method == "PUT"));
        assert_eq!((way.keys().len(), asked.len(), way.server.state().connections), (5, 5, 5), "{fields}");
    }
}

#[test]
fn equal_messages_are_several_and_each_has_one_key_at_all_tries() {
    let mut way = Way::new("");
    let same = b"Subject: status\r\n\r\nall is well\r\n";
    for uid in ["a", "b"] {
        way.maildrop.put(uid, &same[..]);
    }
    way.put(0..1);
    way.server.plan([Answer::CloseBehind, answer(503)]);
    // The first comes again at once or later, by the same key.
    for _ in 0..6 {
        way.poller.poll();
        way.pass(3600);
    }
    assert!(way.maildrop.uids().is_empty(), "{:?}", way.maildrop.uids());
    assert_eq!(way.keys().len(), 3, "{:?}", way.keys());
    let before = way.keys();
    // One more of the same is another one, in another session.
    way.maildrop.put("c", &same[..]);
    way.poller.must();
    assert_eq!(way.keys().len(), 4);
    // Without its state it sends the same again, under the keys that it had.
    let mut other = Poller::new(way.maildrop.port(), "tls: none\nauth: [user-pass]");
    other.account.deliver = way.poller.account.deliver.clone();
    other.account.maildrop_id = way.poller.account.maildrop_id.clone();
    for uid in ["x", "y"] {
        way.maildrop.put(uid, &same[..]);
    }
    let four = way.keys();
    other.must();
    assert_eq!(way.keys(), four);
    assert!(before.is_subset(&four));
}

#[test]
fn each_status_is_held_refused_or_the_targets_trouble() {
    for (status, class, held) in [
        (200, None, false),
        (201, None, false),
        (202, None, false),
        (204, None, false),
        (400, None, true),
        (413, None, true),
        (422, None, true),
        (302, Some(Class::Target), false),
        (404, Some(Class::Target), false),
        (405, Some(Class::Target), false),
        (410, Some(Class::Target), false),
        (415, Some(Class::Target), false),
        (429, Some(Class::Target), false),
        (401, Some(Class::Credentials), false),
        (403, Some(Class::Credentials), false),
        (500, None, true),
        (503, None, true),
        (409, None, true),
    ] {
        let way = Way::new(", bearer: 'the token'");
        way.put(0..2);
        way.server.plan([answer(status)]);
        let report = way.poller.poll();
        let failure = report.failure.as_ref().filter(|failure| !held || failure.class != Class::Target);
        let is_all = class.is_none();
        assert_eq!(report.delivered, if held { 1 } else { usize::from(is_all) * 2 }, "{status}: {report:?}");
        assert_eq!(report.held, usize::from(held), "{status}: {report:?}");
        if let Some(class) = class {
            let failure = failure.unwrap_or_else(|| panic!("{status}: {report:?}"));
            assert_eq!(failure.class, class, "{status}: {failure}");
            assert!(failure.hint.is_some(), "{status}: {failure}");
            // What it said is said, and the rest waits.
            let said = String::from_utf8(failure.said.clone().unwrap()).unwrap();
            assert!(said.starts_with(&status.to_string()), "{said}");
            assert_eq!(way.server.asked().len(), 1);
            assert_eq!(way.maildrop.uids().len(), 2);
        }
    }
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    let elsewhere = HttpServer::start(|_| answer(204));
    let way = Way::new("");
    way.put(0..1);
    let location = format!("Location: {}\r\n", elsewhere.url("/there?token=hunter2"));
    way.server.plan([Answer::Is(307, location, Vec::new())]);
    let failure = way.poller.poll().failure.unwrap();
    let told = failure.to_string();
    assert!(told.contains(&elsewhere.url("/there")) && !told.contains("hunter2"), "{told}");
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_web_page_is_no_success_unless_that_was_written() {
    let page = || Answer::Is(200, "Content-Type: text/html; charset=utf-8\r\n".into(), b"<p>Log in".to_vec());
    let way = Way::new("");
    way.put(0..1);
    way.server.plan([page()]);
    let failure = way.poller.poll().failure.unwrap();
    assert!(failure.to_string().contains("web page"), "{failure}");
    assert_eq!(way.maildrop.uids().len(), 1);
    let written = Way::new(", success: [200, 409]");
    written.put(0..3);
    written.server.plan([page(), answer(409), answer(204)]);
    let report = written.poller.poll();
    assert_eq!(report.delivered, 2);
    assert!(report.failure.unwrap().to_string().contains("no success"));
}

#[test]
fn who_says_when_to_come_again_is_asked_nothing_before() {
    let mut way = Way::new("");
    way.put(0..3);
    way.server.plan([answer(204), Answer::Is(503, "Retry-After: 600\r\n".into(), b"busy".to_vec())]);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (1, 0), "{report:?}");
    assert!(report.failure.unwrap().to_string().contains("10m"));
    let connections = way.server.state().connections;
    way.pass(300);
    let failure = way.poller.poll().failure.unwrap();
    assert!(failure.to_string().contains("Retry-After"), "{failure}");
    assert_eq!(way.server.state().connections, connections);
    way.pass(301);
    assert_eq!(way.poller.must().delivered, 2);
}

#[test]
fn five_messages_in_a_row_that_cannot_be_taken_are_the_endpoints_trouble() {
    let way = Way::before(HttpServer::start(|_| answer(500)), "");
    way.put(0..12);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (0, 0), "{report:?}");
    assert_eq!(report.failure.unwrap().class, Class::Target);
    assert_eq!(way.server.asked().len(), 5);
}

#[test]
fn refused_credentials_are_not_shown_again_until_they_change_or_time_passes() {
    let mut way = Way::before(
        HttpServer::start(|asked| {
            answer(if asked.field("authorization") == "Bearer right-token" { 204 } else { 401 })
        }),
        ", bearer: wrong-token",
    );
    way.put(0..2);
    let first = way.poller.poll().failure.unwrap();
    assert_eq!(first.class, Class::Credentials, "{first}");
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Credentials);
    assert_eq!(way.server.asked().len(), 1);
    way.pass(16 * 60);
    way.poller.poll();
    assert_eq!(way.server.asked().len(), 2);
    way.poller.account.deliver = vec![to(&way.server, ", bearer: right-token").into()];
    assert_eq!(way.poller.must().delivered, 2);
    // Credentials that worked lately are not doubted at the first refusal.
    way.server.plan([answer(401)]);
    way.put(2..3);
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Refused);
}

#[test]
fn a_refused_key_header_or_address_is_not_shown_again_either() {
    for (wrong, right) in [
        (", hmac: a wrong key", ", hmac: the right key"),
        (", headers: { X-Api-Key: a wrong key }", ", headers: { X-Api-Key: the right key }"),
        ("", ", bind: 127.0.0.1"),
    ] {
        let mut way = Way::before(HttpServer::start(|_| answer(403)), wrong);
        way.put(0..2);
        assert_eq!(way.poller.poll().failure.unwrap().class, Class::Credentials, "{wrong}");
        let told = way.poller.poll().failure.unwrap();
        assert_eq!(told.class, Class::Credentials, "{wrong}");
        assert!(told.to_string().contains("not tried") && told.hint.unwrap().contains("`hmac`"), "{wrong}");
        assert_eq!(way.server.asked().len(), 1, "{wrong}");
        way.pass(16 * 60);
        way.poller.poll();
        assert_eq!(way.server.asked().len(), 2, "{wrong}");
        way.server.plan([answer(204), answer(204)]);
        way.poller.account.deliver = vec![to(&way.server, right).into()];
        assert_eq!(way.poller.must().delivered, 2, "{right}");
        // What worked lately is not doubted at the first refusal.
        way.put(2..3);
        assert_eq!(way.poller.poll().failure.unwrap().class, Class::Refused, "{right}");
    }
}

#[test]
fn what_an_endpoint_echoes_of_secrets_is_masked() {
    let way = Way::new(", bearer: the-bearer-token, headers: { X-Key: the-header-key }, hmac: the-hmac-key");
    way.put(0..1);
    let body =
        b"bad the-bearer-token, the-header-key, the-hmac-key, VGhlIGJvZHkgdGhlLWhlYWRlci1rZXk=".to_vec();
    way.server.plan([Answer::Is(422, "Content-Type: text/plain\r\n".into(), body)]);
    let report = way.poller.poll();
    let told = format!("{report:?}");
    assert!(told.contains("bad [secret], [secret], [secret], [secret]"), "{told}");
}

#[test]
fn an_endpoint_that_answers_before_it_has_read_everything_is_understood() {
    let large = |number| [message(number), vec![b'x'; 8 << 20], b"\r\n".to_vec()].concat();
    for (planned, delivered, held) in [
        (Answer::Early(413), 1, 1),
        (Answer::Early(422), 1, 1),
        (Answer::Early(503), 1, 1),
        // It cannot have what it did not read.
        (Answer::Early(200), 1, 1),
        (Answer::EarlyAndReads(200), 2, 0),
        (Answer::Continue(1), 2, 0),
        (Answer::Continue(50), 2, 0),
        (Answer::CloseWithin(0), 1, 1),
        (Answer::CloseWithin(1 << 20), 1, 1),
    ] {
        let way = Way::new(", timeout: 20s");
        for number in 0..2 {
            way.maildrop.put(&number.to_string(), large(number));
        }
        way.server.plan([planned.clone()]);
        let report = way.poller.poll();
        assert_eq!((report.delivered, report.held), (delivered, held), "{planned:?}: {report:?}");
        assert_eq!(way.maildrop.uids().len(), held);
    }
}

#[test]
fn an_endpoint_that_closes_hangs_babbles_or_sends_without_end_is_told_and_loses_nothing() {
    for (planned, delivered, comes_again) in [
        // Kept, and the answer lost: again by the same key.
        (Answer::CloseBehind, 2, true),
        (Answer::Silence, 0, true),
        (Answer::Deaf, 0, false),
        (Answer::Raw("+OK POP3\r\n"), 0, true),
        // The status counts.
        (Answer::Large(200, 1 << 30), 3, false),
        (Answer::Large(422, 1 << 30), 2, false),
        (Answer::Half(200), 3, false),
    ] {
        let mut way = Way::new(", timeout: 1s");
        way.put(0..3);
        way.server.plan([planned.clone()]);
        let begun = std::time::Instant::now();
        let report = way.poller.poll();
        assert!(begun.elapsed() < Duration::from_secs(30), "{planned:?}");
        assert_eq!(report.delivered, delivered, "{planned:?}: {report:?}");
        for _ in 0..3 {
            way.pass(25 * 3600);
            way.poller.poll();
        }
        assert!(way.maildrop.uids().is_empty(), "{planned:?}: {:?}", way.maildrop.uids());
        assert_eq!(way.keys().len(), 3, "{planned:?}");
        let surplus = if comes_again || matches!(planned, Answer::Large(422, _)) { 4 } else { 3 };
        assert_eq!(way.server.asked().len(), surplus, "{planned:?}");
    }
}

#[test]
fn an_answer_without_an_end_is_given_up_in_time_and_loses_nothing() {
    const HEAD: &str = "HTTP/1.1 200 x\r\n";
    let chunks = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (planned, delivered, seconds) in [
        (Answer::Endless("", "HTTP/1.1 100 Continue\r\n\r\n", 0), 0, 20),
        (Answer::Endless(HEAD, "X: y\r\n", 0), 0, 20),
        (Answer::Endless("HTTP/1.1 200 ", "x", 100), 0, 20),
        (Answer::Endless("", "x", 0), 0, 20),
        // The status counts.
        (Answer::Endless(chunks, "4\r\nabcd\r\n", 0), 3, 20),
        (Answer::Endless("HTTP/1.1 200 x\r\nContent-Length: 99\r\n\r\n", "x", 500), 3, 20),
    ] {
        let mut way = Way::new(", timeout: 1s");
        way.put(0..3);
        way.server.plan([planned.clone()]);
        let begun = std::time::Instant::now();
        let report = way.poller.poll();
        assert!(begun.elapsed() < Duration::from_secs(seconds), "{planned:?}: {:?}", begun.elapsed());
        assert_eq!(report.delivered, delivered, "{planned:?}: {report:?}");
        assert_eq!(report.failure.is_some(), delivered == 0, "{planned:?}: {report:?}");
        for _ in 0..3 {
            way.pass(25 * 3600);
            way.poller.poll();
        }
        assert!(way.maildrop.uids().is_empty(), "{planned:?}: {:?}", way.maildrop.uids());
        assert_eq!(way.keys().len(), 3, "{planned:?}");
    }
}

#[test]
fn odd_answers_are_taken_by_their_status_or_are_the_endpoints_trouble() {
    const WAITS: &str = "HTTP/1.1 503 x\r\nRetry-After: 18446744073709551615\r\n\r\n";
    for (octets, delivered) in [
        // Taken, by their status.
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 x\r\n\r\n", 3),
        ("HTTP/1.0 200 OK\r\n\r\n", 3),
        ("HTTP/1.1 200\r\n\r\n", 3),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", 3),
        (
            "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
            3,
        ),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 3),
        ("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 3),
        ("HTTP/1.1 201 x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\0\u{1}\u{2}", 3),
        ("HTTP/1.1 202 x\r\nContent-Length: 999999999999\r\n\r\n{", 3),
        // Put off.
        ("HTTP/1.1 999 x\r\n\r\n", 2),
        ("HTTP/1.1 503 x\r\nRetry-After: never\r\n\r\n", 2),
        ("HTTP/1.1 503 x\r\nRetry-After: 99999999999999999999999\r\n\r\n", 2),
        // Somebody else's words.
        (WAITS, 0),
        ("HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 0),
        ("HTTP/1.1 099 x\r\n\r\n", 0),
        ("HTTP/1.1 2000 x\r\n\r\n", 0),
        ("HTTP/2 200\r\n\r\n", 0),
        ("ICY 200 OK\r\n\r\n", 0),
        ("220 mail.example.org ESMTP\r\n", 0),
        ("HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 0),
        ("HTTP/1.1 200 x\r\nContent-Length: 18446744073709551615\r\n\r\n", 0),
        ("HTTP/1.1 200 x\r\nno field\r\n\r\n", 0),
        ("\0\0\u{12}\u{4}\0\0\0\0\0", 0),
    ] {
        let mut way = Way::new(", timeout: 5s");
        way.put(0..3);
        way.server.plan([Answer::Raw(octets)]);
        let report = way.poller.poll();
        assert_eq!(report.delivered, delivered, "{octets:?}: {report:?}");
        assert_eq!(report.failure.is_some(), delivered == 0, "{octets:?}: {report:?}");
        for _ in 0..3 {
            way.pass(25 * 3600);
            way.poller.poll();
        }
        assert!(way.maildrop.uids().is_empty(), "{octets:?}: {:?}", way.maildrop.uids());
        assert_eq!(way.keys().len(), 3, "{octets:?}");
    }
}

#[test]
fn an_answer_too_many_is_none_to_the_next_message() {
    let way = Way::new("");
    way.put(0..3);
    // Behind its own answer the first has another one, which the second would be taken by.
    way.server.plan([Answer::Is(204, String::new(), b"HTTP/1.1 204 x\r\n\r\n".to_vec()), answer(422)]);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (2, 1), "{report:?}");
    assert_eq!(way.maildrop.uids(), ["1"]);
    assert_eq!((way.server.asked().len(), way.server.state().connections), (3, 2));
}

#[test]
fn an_endpoint_that_is_not_there_is_told_before_anything_is_fetched() {
    let way = Way::new("");
    let mut poller = way.poller;
    poller.account.deliver = vec![target("{ http: { url: 'http://127.0.0.1:1/in' } }").into()];
    way.maildrop.put("1", message(1));
    let failure = poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target, "{failure}");
    let fetched = way.maildrop.events().iter().any(|event| format!("{:?}", event.what).contains("RETR"));
    assert!(!fetched, "something was fetched for nobody");
}

#[test]
fn beside_another_target_it_gets_what_it_lacks_alone_and_its_refusals_are_remembered() {
    let mut way = Way::new(", bearer: some-token");
    let mail = tempfile::tempdir().unwrap();
    let maildir = target(&format!("{{ maildir: {}/Mail }}", mail.path().display()));
    way.poller.account.deliver.push(maildir.into());
    way.put(0..3);
    way.server.plan([answer(204), answer(401)]);
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Credentials);
    assert_eq!(std::fs::read_dir(mail.path().join("Mail/new")).unwrap().count(), 3);
    way.poller.poll();
    assert_eq!(way.server.asked().len(), 2, "credentials were shown again");
    way.pass(16 * 60);
    way.poller.must();
    assert_eq!((way.keys().len(), way.server.asked().len()), (3, 4));
    assert_eq!(std::fs::read_dir(mail.path().join("Mail/new")).unwrap().count(), 3);
    assert!(way.maildrop.uids().is_empty());
}
