//! Delivery into mailboxes by IMAP: what arrives, and how.

use std::sync::Arc;

use postrider::testing::config::{Destination, Provider, Target};
use postrider::testing::failure::Class;
use postrider::testing::session::WallClock;

use crate::smtp::target;
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::poller::Poller;

pub const LITERALS: [&str; 4] = [
    "IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE",
    "IMAP4rev1 LITERAL+ MULTIAPPEND",
    "IMAP4rev1 LITERAL- NAMESPACE",
    "IMAP4rev1",
];

/// A maildrop, a server, and the account between them.
pub struct Way {
    pub maildrop: Maildrop,
    pub server: ImapServer,
    pub poller: Poller,
}

impl Way {
    pub fn new(habits: Habits) -> Self {
        Self::with(habits, "", "")
    }

    pub fn with(habits: Habits, target_keys: &str, keys: &str) -> Self {
        let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
        let server = ImapServer::start(habits);
        let keys = format!("tls: none\nauth: [user-pass]\nkeep: none\n{keys}");
        let mut poller = Poller::new(maildrop.port(), &keys);
        poller.account.deliver = vec![target(&server.target(target_keys)).into()];
        Self { maildrop, server, poller }
    }

    pub fn put(&self, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| self.maildrop.put(&number.to_string(), message(number)));
    }

    /// Lets so much time pass that whatever waits is tried again.
    pub fn a_day_passes(&mut self) {
        let clock = &mut self.poller.environment.clock;
        *clock = WallClock::Set(Arc::new((clock.now() + 25 * 3600).into()));
    }

    /// Says that each of these messages is there once, and no other.
    pub fn assert_once(&self, numbers: std::ops::Range<usize>, why: &str) {
        let mut inbox = self.server.inbox();
        inbox.sort();
        let mut sent: Vec<_> = numbers.map(message).collect();
        sent.sort();
        let text = |messages: &[Vec<u8>]| -> Vec<String> {
            messages.iter().map(|octets| String::from_utf8_lossy(octets).into_owned()).collect()
        };
        assert_eq!(text(&inbox), text(&sent), "{why}");
    }
}

pub fn message(number: usize) -> Vec<u8> {
    format!(
        "Received: from a by b; Sat, 29 Nov 2025 12:00:00 +0000\r\nMessage-ID: <{number}@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 \
         +0000\r\nFrom: alice@example.net\r\nSubject: {number}\r\n\r\nof {number}\r\n"
    )
    .into_bytes()
}

#[test]
fn messages_arrive_as_they_are_with_their_date_over_one_connection() {
    for capabilities in LITERALS {
        let mut way = Way::new(Habits { capabilities, ..Habits::default() });
        way.put(0..40);
        assert_eq!(way.poller.must().delivered, 40);
        way.assert_once(0..40, capabilities);
        assert_eq!(way.server.connections(), 1);
        assert!(way.maildrop.uids().is_empty());
        assert_eq!(way.server.folder("INBOX")[0].words, "\"29-Nov-2025 12:00:00 +0000\"");
        // Nothing is in doubt after a session that ended: nobody looks.
        way.a_day_passes();
        way.put(40..41);
        way.poller.must();
        assert_eq!(way.server.count("EXAMINE"), 0);
    }
}

#[test]
fn messages_are_sent_before_earlier_ones_are_answered_where_the_server_lets_it() {
    for capabilities in ["IMAP4rev1 LITERAL+", "IMAP4rev1 LITERAL-", "IMAP4rev1"] {
        let way = Way::new(Habits { capabilities, answers_late: true, ..Habits::default() });
        way.put(0..40);
        way.poller.must();
        let owed = way.server.most_owed();
        assert!(owed >= 8, "{capabilities}: {owed}");
        way.assert_once(0..40, capabilities);
    }
}

#[test]
fn flags_folder_and_date_are_as_configured() {
    let habits = Habits { namespace: ("INBOX.", '.'), ..Habits::default() };
    for (date, words) in
        [("header", "(\\Seen work) \"29-Nov-2025 11:00:00 +0000\""), ("now", "(\\Seen work)")]
    {
        let keys = format!(", folder: Lists/Grün & x, flags: ['\\Seen', work], date: {date}");
        let way = Way::with(habits.clone(), &keys, "");
        way.put(0..1);
        way.poller.must();
        let kept = way.server.folder("INBOX.Lists.Gr&APw-n &- x");
        assert_eq!(kept.iter().map(|kept| &*kept.words).collect::<Vec<_>>(), [words]);
    }
    let missing = Way::with(Habits::default(), ", folder: Lists, create: false", "");
    missing.put(0..1);
    let failure = missing.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target);
    assert!(failure.to_string().contains("there is no folder Lists"), "{failure}");
    assert_eq!(missing.server.count("CREATE"), 0);
}

#[test]
fn a_folder_that_is_removed_in_the_middle_is_made_again() {
    let way = Way::with(Habits::default(), ", folder: Work", "");
    way.put(0..1);
    way.poller.must();
    let first = way.server.folder("Work").len();
    way.put(1..2);
    way.server.remove("Work");
    way.poller.must();
    assert_eq!((first, way.server.folder("Work").len()), (1, 1));
}

#[test]
fn line_ends_are_mended_and_nuls_go_by_literal8_or_are_held() {
    for (capabilities, arrives) in [("IMAP4rev1 BINARY", true), ("IMAP4rev1 LITERAL+", false)] {
        let way = Way::new(Habits { capabilities, ..Habits::default() });
        way.maildrop.put("odd", "Subject: x\r\n\r\na\rb\nc\r\n\r");
        way.maildrop.put("nul", "Subject: y\r\n\r\na\0b\r\n");
        let report = way.poller.poll();
        let mut expected = vec![b"Subject: x\r\n\r\na\r\nb\r\nc\r\n\r\n\r\n".to_vec()];
        expected.extend(arrives.then(|| b"Subject: y\r\n\r\na\0b\r\n".to_vec()));
        assert_eq!(way.server.inbox(), expected, "{capabilities}");
        assert_eq!(report.held, usize::from(!arrives), "{report:?}");
        assert_eq!(way.server.count("APPEND \"INBOX\" ~{"), usize::from(arrives));
    }
}

#[test]
fn what_a_server_babbles_does_not_keep_a_session_alive() {
    let babbles = |babbles| {
        let way = Way::with(Habits { babbles: Some(babbles), ..Habits::default() }, ", timeout: 1s", "");
        way.put(0..1);
        let report = way.poller.poll();
        assert!(report.failure.is_some() || report.held == 1, "{babbles}: {report:?}");
        assert_eq!(way.maildrop.uids().len(), 1);
    };
    std::thread::scope(|scope| {
        for words in ["* 1 FETCH (FLAGS (\\Seen))", "+ go on", "* 1 EXISTS", "* OK still here"] {
            scope.spawn(move || babbles(words));
        }
    });
}

#[test]
fn a_folder_whose_name_is_not_ascii_is_found_on_a_server_of_utf_8_alone() {
    let way = Way::with(
        Habits { capabilities: "IMAP4rev1 UTF8=ONLY LITERAL+", ..Habits::default() },
        ", folder: 'Entwürfe (alt)'",
        "",
    );
    way.put(0..2);
    assert_eq!(way.poller.must().delivered, 2);
    assert_eq!(way.server.folder("Entwürfe (alt)").len(), 2);
}

/// Lets so many octets be uploaded in a day, as to a provider that limits that.
fn limit(to: &mut Destination, octets: u64) {
    let Target::Imap(mailbox) = &mut to.target else { panic!("it is a mailbox") };
    let gmail = mailbox.provider.expect("a provider").clone();
    mailbox.provider = Some(Box::leak(Box::new(Provider { octets_a_day: Some(octets), ..gmail })));
}

#[test]
fn what_a_provider_lets_be_uploaded_in_a_day_is_counted_and_the_rest_waits() {
    let mut way = Way::with(Habits::default(), ", provider: gmail", "");
    limit(&mut way.poller.account.deliver[0], 700);
    way.put(0..9);
    let length = message(0).len();
    let a_day = 700 / length;
    let failure = way.poller.poll().failure.unwrap();
    assert!(failure.to_string().contains("in a day are used up"), "{failure}");
    assert_eq!(way.server.inbox().len(), a_day);
    // Nothing is fetched, nor sent, for it today.
    assert!(way.poller.poll().failure.is_some());
    assert_eq!((way.server.inbox().len(), way.server.connections()), (a_day, 1));
    way.a_day_passes();
    way.poller.poll();
    assert_eq!(way.server.inbox().len(), 2 * a_day);
}

#[test]
fn one_log_in_has_one_budget_whatever_the_folder_and_what_is_not_uploaded_is_given_back() {
    let mut way = Way::with(Habits::default(), ", provider: gmail", "");
    let work = target(&way.server.target(", provider: gmail, folder: Work"));
    way.poller.account.deliver.push(work.into());
    let length = message(0).len() as u64;
    way.poller.account.deliver.iter_mut().for_each(|to| limit(to, 9 * length + 100));
    let there = || way.server.inbox().len() + way.server.folder("Work").len();
    way.put(0..4);
    // What was there is recognized, and takes nothing.
    (0..4).for_each(|number| way.server.put(&message(number)));
    way.poller.must();
    assert_eq!(there(), 8);
    way.put(4..9);
    way.poller.poll();
    assert_eq!(there(), 8 + 5);
}
