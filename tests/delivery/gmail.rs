//! Delivery into Gmail by its API: what arrives, and what every refusal, limit, cut and doubt comes to.

use std::sync::Arc;

use postrider::testing::failure::Class;
use postrider::testing::pop3::UniqueId;
use postrider::testing::session::WallClock;
use serde_json::json;

use crate::smtp::target;
use crate::support::gmail_server::{GmailServer, error};
use crate::support::http_server::Answer;
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::poller::Poller;

/// A maildrop, a Gmail, and the account between them.
struct Way {
    maildrop: Maildrop,
    gmail: GmailServer,
    poller: Poller,
}

impl Way {
    fn new(keys: &str) -> Self {
        let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
        let gmail = GmailServer::start();
        let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
        poller.account.deliver = vec![target(&gmail.target(keys)).into()];
        Self { maildrop, gmail, poller }
    }

    fn put(&self, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| self.maildrop.put(&number.to_string(), message(number)));
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, seconds: i64) {
        let clock = &mut self.poller.environment.clock;
        *clock = WallClock::Set(Arc::new((clock.now() + seconds).into()));
    }

    /// Has what is held tried again, as a person does.
    fn retry(&self, uid: &str) {
        let names = vec![(UniqueId::new(uid.as_bytes()), 0)];
        let store = &self.poller.environment.store;
        let maildrop = self.poller.account.maildrop_id.as_str().into();
        let now = self.poller.environment.clock.now();
        self.poller.block_on(store.hasten(maildrop, names, now)).unwrap();
    }
}

fn message(number: usize) -> Vec<u8> {
    format!(
        "Message-ID: <{number}@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 +0000\r\nFrom: bob@example.net\r\nSubject: {number}\r\n\r\nof {number}\r\n"
    )
    .into_bytes()
}

/// The normal course, in a plan.
const USUAL: Answer = Answer::Continue(0);

#[test]
fn messages_arrive_as_they_are_under_their_labels_and_are_classified_unless_told_otherwise() {
    for (keys, labels, how) in [
        ("", &["INBOX", "UNREAD"][..], "import?uploadType=multipart&internalDateSource=dateHeader"),
        (
            ", labels: [Inbox, Lists/Grün], spam: never, date: now",
            &["INBOX", "Label_1"],
            "import?uploadType=multipart&internalDateSource=receivedTime&neverMarkSpam=true",
        ),
        (", labels: []", &[], "import?uploadType=multipart&internalDateSource=dateHeader"),
    ] {
        let way = Way::new(keys);
        way.put(0..20);
        assert_eq!(way.poller.must().delivered, 20);
        let mut sent: Vec<_> = (0..20).map(message).collect();
        sent.sort();
        assert!(way.gmail.octets() == sent);
        for mail in &way.gmail.state().mails {
            assert_eq!(
                (&mail.labels[..], mail.how.as_str()),
                (&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>()[..], how)
            );
        }
        let connections = way.gmail.http.state().connections;
        assert_eq!(
            (connections, way.gmail.count("/labels")),
            (1, if labels.contains(&"Label_1") { 2 } else { 1 })
        );
        assert!(way.maildrop.uids().is_empty());
    }
}

#[test]
fn line_ends_are_mended_and_what_has_no_message_id_gets_one_that_is_the_same_at_every_try() {
    let way = Way::new("");
    way.maildrop.put("odd", "From: a@b\r\nSubject: x\r\n\r\na\rb\nc\r\n\r");
    way.gmail.http.plan([USUAL, Answer::Lost]);
    way.poller.must();
    let mails = way.gmail.octets();
    let [mail] = &mails[..] else { panic!("{} are there", mails.len()) };
    let text = String::from_utf8(mail.clone()).unwrap();
    let (id, rest) = text.split_once("\r\n").unwrap();
    assert!(id.starts_with("Message-ID: <") && id.ends_with("@postrider.invalid>"), "{id}");
    assert_eq!(rest, "From: a@b\r\nSubject: x\r\n\r\na\r\nb\r\nc\r\n\r\n\r\n");
    assert_eq!(way.gmail.count("import"), 2);
    // Another one with the same octets is another one.
    way.maildrop.put("twin", "From: a@b\r\nSubject: x\r\n\r\na\rb\nc\r\n\r");
    way.poller.must();
    assert_eq!(way.gmail.octets().len(), 2);
    assert!(way.maildrop.uids().is_empty());
}

#[test]
fn a_label_is_made_once_and_again_when_it_was_removed_and_one_that_cannot_be_is_told() {
    let way = Way::new(", labels: [Work]");
    way.put(0..1);
    way.poller.must();
    way.put(1..2);
    way.poller.must();
    let made = |way: &Way| {
        way.gmail
            .http
            .asked()
            .iter()
            .filter(|asked| asked.method == "POST" && asked.path.ends_with("labels"))
            .count()
    };
    assert_eq!(made(&way), 1);
    // In the middle of a session.
    way.gmail.state().instead.push_back(error(400, "invalidArgument", "Invalid label: Label_1"));
    way.gmail.http.plan([USUAL]);
    way.put(2..4);
    way.poller.must();
    assert_eq!(way.gmail.octets().len(), 4);
    let way = Way::new(", labels: [Gelesen]");
    way.gmail.state().reserved.push("Gelesen".into());
    way.put(0..1);
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target);
    assert!(failure.to_string().contains("label Gelesen") && failure.hint.is_some(), "{failure}");
    assert!(!way.maildrop.events().iter().any(|event| format!("{:?}", event.what).contains("RETR")));
}

#[test]
fn each_refusal_is_somebodys_trouble_and_says_what_to_do() {
    let url = "https://console.developers.google.com/apis/api/gmail.googleapis.com/overview?project=1";
    for (status, reason, message, held, hint) in [
        (
            403,
            "accessNotConfigured",
            &*format!("Gmail API is disabled. Enable it by visiting {url} then retry."),
            0,
            url,
        ),
        (403, "insufficientPermissions", "Insufficient Permission", 0, "postrider login"),
        (403, "domainPolicy", "The domain administrators have disabled Gmail apps.", 0, "administrator"),
        (400, "failedPrecondition", "Mail service not enabled", 0, "switch Gmail on"),
        (403, "forbidden", "Delegation denied", 0, "sign in as"),
        (404, "notFound", "Requested entity was not found.", 0, "`user`"),
        (400, "invalidArgument", "Bad Request", 1, ""),
        (413, "uploadTooLarge", "Too large", 1, ""),
    ] {
        let way = Way::new("");
        way.put(0..3);
        way.gmail.state().instead.push_back(error(status, reason, message));
        let report = way.poller.poll();
        assert_eq!(report.held, held, "{reason}: {report:?}");
        assert_eq!(report.delivered, if held == 0 { 0 } else { 2 }, "{reason}");
        if held == 0 {
            let failure = report.failure.unwrap();
            assert_eq!(failure.class, Class::Target, "{reason}");
            assert!(failure.hint.clone().unwrap_or_default().contains(hint), "{reason}: {failure:?}");
            assert!(
                String::from_utf8(failure.said.unwrap())
                    .unwrap()
                    .contains(message.split('.').next().unwrap())
            );
            // It passes without a person's help in the state.
            assert_eq!(way.poller.must().delivered, 3, "{reason}");
        }
    }
}

#[test]
fn limits_are_waited_for_a_little_and_then_left_alone_until_they_are_over() {
    let way = Way::new("");
    way.put(0..2);
    way.gmail.state().instead.extend([
        error(429, "rateLimitExceeded", "Too many concurrent requests for user"),
        error(403, "userRateLimitExceeded", "User Rate Limit Exceeded"),
        error(503, "backendError", "Backend Error"),
    ]);
    assert_eq!(way.poller.must().delivered, 2);
    let mut way = Way::new("");
    way.put(0..2);
    let after = jiff::Timestamp::from_second(way.poller.environment.clock.now() + 3600).unwrap();
    let told = format!("User-rate limit exceeded.  Retry after {after}");
    way.gmail.state().instead.push_back(error(429, "rateLimitExceeded", &told));
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (0, 0), "{report:?}");
    assert!(report.failure.unwrap().to_string().contains("quota"));
    let asked = way.gmail.http.asked().len();
    way.pass(1800);
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Target);
    assert_eq!(way.gmail.http.asked().len(), asked, "it was asked all the same");
    way.pass(1900);
    assert_eq!(way.poller.must().delivered, 2);
}

#[test]
fn a_header_that_import_refuses_is_inserted() {
    let way = Way::new("");
    way.put(0..1);
    for (uid, from) in [("none", ""), ("odd", "From: nobody\r\n"), ("two", "From: a@b\r\nFrom: c@d\r\n")] {
        way.maildrop.put(uid, format!("Message-ID: <{uid}@a>\r\n{from}Subject: x\r\n\r\n{uid}\r\n"));
    }
    assert_eq!(way.poller.must().delivered, 4);
    let mails = way.gmail.state().mails.clone();
    let inserted =
        mails.iter().filter(|mail| mail.how == "insert?uploadType=multipart&internalDateSource=dateHeader");
    assert_eq!(inserted.count(), 3);
    assert!(mails.iter().all(|mail| mail.labels == ["INBOX", "UNREAD"]));
    assert!(way.maildrop.uids().is_empty());
}

#[test]
fn an_insert_in_doubt_is_not_repeated_by_itself() {
    for lost in [Answer::Lost, Answer::Silence, Answer::Is(500, String::new(), Vec::new())] {
        let mut way = Way::new(", timeout: 1s");
        way.maildrop.put("odd", "Message-ID: <odd@a>\r\nSubject: x\r\n\r\nodd\r\n");
        way.put(0..1);
        way.gmail.http.plan([USUAL, USUAL, lost.clone()]);
        let report = way.poller.poll();
        assert_eq!(report.held, 1, "{lost:?}: {report:?}");
        for _ in 0..3 {
            way.pass(40 * 24 * 3600);
            way.poller.poll();
        }
        assert_eq!(way.gmail.count("insert"), 1, "{lost:?}");
        assert_eq!(way.maildrop.uids(), ["odd"]);
        assert_eq!(way.gmail.count("import"), 2);
        way.retry("odd");
        way.poller.must();
        assert_eq!(way.gmail.count("insert"), 2);
        assert!(way.maildrop.uids().is_empty());
    }
}

#[test]
fn an_import_in_doubt_is_sent_again_and_merged() {
    let mut way = Way::new(", timeout: 1s");
    way.put(0..5);
    way.gmail.http.plan([USUAL, Answer::Lost, USUAL, Answer::CloseWithin(100), USUAL, Answer::Silence]);
    let report = way.poller.poll();
    assert!(report.delivered >= 2, "{report:?}");
    for _ in 0..3 {
        way.pass(25 * 3600);
        way.poller.poll();
    }
    let mut sent: Vec<_> = (0..5).map(message).collect();
    sent.sort();
    assert!(way.gmail.octets() == sent);
    assert!(way.maildrop.uids().is_empty(), "{:?}", way.maildrop.uids());
}

#[test]
fn a_message_that_gmail_merges_with_another_one_is_told_and_kept_on_the_server() {
    let mut way = Way::new("");
    let of = |text: &str| format!("Message-ID: <same@a>\r\nFrom: a@b\r\nSubject: x\r\n\r\n{text}\r\n");
    way.maildrop.put("first", of("one"));
    way.maildrop.put("second", of("another"));
    way.put(0..1);
    assert_eq!(way.poller.must().delivered, 3);
    assert_eq!(way.maildrop.uids(), ["second"]);
    // In another session too; and the same again is no other.
    way.maildrop.put("third", of("a third"));
    way.maildrop.put("again", of("one"));
    way.poller.must();
    assert_eq!(way.maildrop.uids(), ["second", "third"]);
    // Neither is fetched or deleted again.
    let asked = way.gmail.count("import");
    way.pass(40 * 24 * 3600);
    way.poller.must();
    assert_eq!((way.gmail.count("import"), way.maildrop.uids().len()), (asked, 2));
    assert_eq!(way.gmail.octets().len(), 2);
}

#[test]
fn beside_another_target_what_is_merged_stays_even_if_that_gets_it_later() {
    let mut way = Way::new("");
    let mail = tempfile::tempdir().unwrap();
    std::fs::write(mail.path().join("Mail"), "in the way").unwrap();
    let maildir = target(&format!("{{ maildir: {}/Mail }}", mail.path().display()));
    way.poller.account.deliver.push(maildir.into());
    for text in ["one", "another"] {
        way.maildrop.put(text, format!("Message-ID: <same@a>\r\nFrom: a@b\r\n\r\n{text}\r\n"));
    }
    way.poller.poll();
    assert_eq!(way.gmail.count("import"), 2);
    std::fs::remove_file(mail.path().join("Mail")).unwrap();
    way.pass(3600);
    way.poller.must();
    assert_eq!(way.maildrop.uids(), ["another"]);
    assert_eq!(
        (way.gmail.count("import"), std::fs::read_dir(mail.path().join("Mail/new")).unwrap().count()),
        (2, 2)
    );
}

#[test]
fn a_token_that_ends_in_the_middle_is_renewed_once_and_one_that_is_refused_then_is_77() {
    let way = Way::new("");
    way.put(0..3);
    way.gmail.tokens.state().lifetime = 3600;
    way.poller.must();
    way.put(3..6);
    // What is kept is refused at the first question ...
    way.gmail.tokens.revoke_access();
    assert_eq!(way.poller.must().delivered, 3);
    // ... and in the middle.
    way.put(6..9);
    let tokens = way.gmail.tokens.count("refresh_token");
    way.gmail.state().instead.push_back(error(401, "authError", "Invalid Credentials"));
    assert_eq!(way.poller.must().delivered, 3);
    assert_eq!(way.gmail.tokens.count("refresh_token"), tokens + 1);
    way.put(9..12);
    way.gmail.state().instead.extend([error(401, "authError", "x"), error(401, "authError", "x")]);
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Credentials, "{failure}");
    assert!(failure.hint.unwrap().contains("postrider login"));
    way.gmail.tokens.revoke_logins();
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Credentials);
    assert_eq!(way.maildrop.uids().len(), 3);
}

#[test]
fn a_server_that_is_no_gmail_is_told_before_anything_is_fetched() {
    for body in ["<html>", "{}", r#"{"labels": 7}"#] {
        let way = Way::new("");
        way.put(0..1);
        way.gmail.http.plan([Answer::Is(200, "Content-Type: text/html\r\n".into(), body.into())]);
        let report = way.poller.poll();
        match body {
            // No labels at all: those of ours are made.
            "{}" => assert_eq!(report.delivered, 0, "{report:?}"),
            _ => assert!(report.failure.unwrap().to_string().contains("lists no labels")),
        }
        assert_eq!(way.maildrop.uids().len(), 1);
    }
    let way = Way::new("");
    way.put(0..1);
    way.gmail.state().instead.push_back((200, json!({})));
    let report = way.poller.poll();
    assert_eq!((report.delivered, way.maildrop.uids().len()), (0, 1), "{report:?}");
}
