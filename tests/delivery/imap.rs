//! Delivery into mailboxes by IMAP: what arrives, and what every refusal, cut and doubt comes to.

use std::sync::Arc;

use postrider::testing::config::{Destination, Keep, Provider, Target};
use postrider::testing::failure::Class;
use postrider::testing::session::WallClock;

use crate::smtp::target;
use crate::support::imap_server::{Drop, Habits, ImapServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::poller::Poller;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::wait_until;

const LITERALS: [&str; 4] = [
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
    fn new(habits: Habits) -> Self {
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
    fn assert_once(&self, numbers: std::ops::Range<usize>, why: &str) {
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

const POINTS: [Drop; 5] =
    [Drop::BeforeLiteral, Drop::InLiteral, Drop::AfterLiteral, Drop::BeforeOk, Drop::AfterOk];

fn is_dropped(capabilities: &'static str, point: Drop, number: usize) {
    let why = format!("{capabilities}: {point:?} of {number}");
    let way = Way::new(Habits { capabilities, drops: Some((number, point)), ..Habits::default() });
    way.put(0..6);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (6, 0), "{why}: {report:?}");
    way.assert_once(0..6, &why);
    assert!(way.maildrop.uids().is_empty(), "{why}");
}

#[test]
fn a_dropped_connection_loses_nothing_and_repeats_nothing_wherever_it_is_dropped() {
    for capabilities in LITERALS {
        // What was not kept is waited for, at all points at once.
        std::thread::scope(|scope| {
            for point in POINTS {
                scope.spawn(move || [1, 3, 6].map(|number| is_dropped(capabilities, point, number)));
            }
        });
    }
}

#[test]
fn what_is_in_doubt_when_the_server_is_gone_is_looked_for_by_the_next_session() {
    for rewrites in [false, true] {
        for point in [Drop::AfterLiteral, Drop::BeforeOk] {
            let why = format!("{point:?}, rewrites: {rewrites}");
            let mut way = Way::new(Habits { rewrites, ..Habits::default() });
            way.put(0..5);
            way.server.change(|habits| {
                habits.drops = Some((3, point));
                habits.down_after = Some(3);
            });
            let failure = way.poller.poll().failure.expect("the server is gone");
            assert_eq!(failure.class, Class::Target, "{failure}");
            assert!(failure.to_string().contains(&format!("127.0.0.1:{}", way.server.port())), "{failure}");
            way.server.change(|habits| habits.down_after = None);
            way.a_day_passes();
            way.poller.must();
            let found = way.server.inbox();
            assert_eq!(found.len(), 5, "{why}");
            if !rewrites {
                way.assert_once(0..5, &why);
            }
            assert!(way.maildrop.uids().is_empty(), "{why}");
        }
    }
}

#[test]
fn two_messages_of_one_message_id_both_arrive() {
    let way = Way::new(Habits::default());
    let other = |subject: &str| format!("Message-ID: <1@a>\r\nDate: d\r\nSubject: {subject}\r\n\r\nx\r\n");
    way.maildrop.put("1", other("one"));
    way.maildrop.put("2", other("two"));
    // Even one that is equal octet for octet is another message.
    way.maildrop.put("3", other("two"));
    way.poller.must();
    assert_eq!(way.server.inbox().len(), 3);
}

/// A message whose identity others share, with this body.
fn of_one_identity(body: &str) -> Vec<u8> {
    format!("Message-ID: <same@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 +0000\r\nSubject: s\r\n\r\n{body}\r\n")
        .into_bytes()
}

#[test]
fn of_two_messages_of_one_identity_the_one_that_is_there_is_not_taken_for_the_other() {
    let (one, other) = ("of one", "longer, of the other");
    for (bodies, there, rewrites) in [
        ([one, other], other, false),
        ([other, one], other, false),
        (["equal", "agual"], "agual", false),
        ([one, other], other, true),
        ([one, one], one, false),
    ] {
        let why = format!("{bodies:?}, {there} is there, rewrites: {rewrites}");
        let way = Way::new(Habits::default());
        (0..)
            .zip(bodies)
            .for_each(|(number, body)| way.maildrop.put(&number.to_string(), of_one_identity(body)));
        // By a state that was lost.
        let text = String::from_utf8(of_one_identity(there)).unwrap();
        way.server.put(if rewrites { text.replacen(": ", ":\r\n  ", 3) } else { text }.as_bytes());
        let report = way.poller.must();
        assert_eq!((report.delivered, report.already_there), (1, 1), "{why}: {report:?}");
        let inbox = way.server.inbox();
        let count = |body: &str| {
            inbox.iter().filter(|message| message.ends_with(format!("\r\n\r\n{body}\r\n").as_bytes())).count()
        };
        for body in bodies {
            assert_eq!(count(body), bodies.iter().filter(|other| **other == body).count(), "{why}: {body}");
        }
        assert!(way.maildrop.uids().is_empty(), "{why}");
    }
}

#[test]
fn of_two_messages_of_one_identity_in_doubt_the_one_that_was_not_kept_is_sent_again() {
    let (swallows, drops) = (Some("of one"), Some((2, Drop::BeforeOk)));
    let way = Way::new(Habits { swallows, drops, ..Habits::default() });
    way.maildrop.put("1", of_one_identity("of one"));
    way.maildrop.put("2", of_one_identity("longer, of the other"));
    way.poller.must();
    let mut inbox = way.server.inbox();
    inbox.sort();
    assert_eq!(inbox, [of_one_identity("longer, of the other"), of_one_identity("of one")]);
}

#[test]
fn messages_are_known_though_their_server_adds_fields_or_munges_them_in_doubt_and_after_a_lost_state() {
    let certain = "Message-ID: <1@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 +0000\r\nFrom: J\u{fc}rgen <a@x>\r\n";
    let all: [String; 7] = [
        format!(
            "Received: from a by b; Sat, 29 Nov 2025 12:00:00 +0000\r\n{certain}Subject: Gr\u{fc}\u{df}e\r\n\r\nx\r\n"
        ),
        format!("Delivered-To: one@a\r\n{certain}Subject: Gr\u{fc}\u{df}e\r\n\r\nx\r\n"),
        format!("Delivered-To: two@a\r\n{certain}Subject: Gr\u{fc}\u{df}e\r\n\r\nx\r\n"),
        format!("{certain}Subject: a\rb\r\n\r\nof another\r\n"),
        "Subject: w\u{fc}\r\n\r\nline1\nline2\r\n".to_owned(),
        "Subject: w\u{fc}\r\n\r\nline1\rline3\r\n".to_owned(),
        "no header at all\r\n".to_owned(),
    ];
    let adds = [
        "",
        "X-Server: y\r\n",
        "Received: by imap (APPEND); Sat, 29 Nov 2025 12:00:00 +0000\r\n",
        "Delivered-To: bob\r\nReceived: by imap; Sat, 29 Nov 2025 12:00:00 +0000\r\n",
        "Return-Path: <>\r\n",
    ];
    let is_known = |adds: &'static str, munges: bool, number: usize| {
        let why = format!("adds {adds:?}, munges: {munges}, {number}");
        let drops = Some((number, Drop::BeforeOk));
        let mut way = Way::new(Habits { adds, munges, drops, ..Habits::default() });
        way.poller.account.keep = Keep::Forever;
        (0..).zip(&all).for_each(|(number, text)| way.maildrop.put(&number.to_string(), text.as_bytes()));
        let report = way.poller.poll();
        assert_eq!((report.delivered, way.server.inbox().len()), (all.len(), all.len()), "{why}: {report:?}");
        let mut again = Poller::new(way.maildrop.port(), "tls: none\nauth: [user-pass]");
        again.account.deliver = way.poller.account.deliver.clone();
        let report = again.must();
        assert_eq!((report.delivered, report.already_there), (0, all.len()), "{why}: {report:?}");
        assert_eq!(way.server.inbox().len(), all.len(), "{why}");
    };
    std::thread::scope(|scope| {
        for adds in adds {
            for munges in [false, true] {
                scope.spawn(move || [1, 3, 5, 7].map(|number| is_known(adds, munges, number)));
            }
        }
    });
}

#[test]
fn a_message_without_an_identity_is_known_whatever_its_size() {
    let way = Way::new(Habits { drops: Some((1, Drop::BeforeOk)), ..Habits::default() });
    let large = format!("Subject: w\r\n\r\n{}", "x".repeat(78).repeat(9 << 17));
    way.maildrop.put("1", large.as_bytes());
    way.maildrop.put("2", "Subject: w\r\n\r\nx\r\n");
    way.poller.must();
    assert_eq!(way.server.inbox().len(), 2);
    let mut again = Poller::new(way.maildrop.port(), "tls: none\nauth: [user-pass]");
    way.maildrop.put("1", large.as_bytes());
    again.account.deliver = way.poller.account.deliver.clone();
    assert_eq!(again.must().already_there, 1);
    assert_eq!(way.server.inbox().len(), 2);
}

#[test]
fn messages_without_an_identity_are_known_though_we_have_put_a_line_on_top() {
    let way =
        Way::with(Habits { drops: Some((1, Drop::BeforeOk)), ..Habits::default() }, "", "received: true");
    way.maildrop.put("1", "Subject: s\r\n\r\nx\r\n");
    way.poller.must();
    assert_eq!(way.server.inbox().len(), 1);
}

#[test]
fn what_lay_in_a_folder_before_swallows_nothing_that_comes_later() {
    let weak = b"From: cron@a\r\nSubject: backup ok\r\n\r\nok\r\n";
    let mut way = Way::with(
        Habits { append_of: Some(("of 1\r\n", "NO [TOOBIG] x")), ..Habits::default() },
        "",
        "max_messages: 1",
    );
    way.server.put(weak);
    // The first waits for a later poll, the second is held.
    way.put(0..2);
    way.poller.poll();
    way.poller.poll();
    assert_eq!(way.server.inbox().len(), 2);
    way.put(2..4);
    way.poller.must();
    way.maildrop.put("weak", weak);
    for _ in 0..4 {
        way.a_day_passes();
        way.poller.poll();
    }
    assert_eq!(way.server.inbox().iter().filter(|message| *message == weak).count(), 2);
    assert_eq!(way.server.count("EXAMINE"), 1);
}

#[test]
fn messages_without_an_identity_are_known_by_their_content() {
    let way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), ..Habits::default() });
    (0..3)
        .for_each(|number| way.maildrop.put(&number.to_string(), format!("Subject: s\r\n\r\n{number}\r\n")));
    way.poller.must();
    assert_eq!(way.server.inbox().len(), 3);
}

#[test]
fn a_server_that_never_finds_what_it_has_gets_it_again_and_loses_nothing() {
    let habits = Habits { hides: true, drops: Some((2, Drop::BeforeOk)), ..Habits::default() };
    let way = Way::new(habits);
    way.put(0..3);
    way.poller.must();
    let mut inbox = way.server.inbox();
    assert_eq!(inbox.len(), 4);
    inbox.sort();
    inbox.dedup();
    assert_eq!(inbox.len(), 3);
}

#[test]
fn after_a_lost_state_the_mailbox_is_read_once_and_nothing_repeats() {
    let mut way = Way::with(Habits::default(), "", "max_messages: 4");
    way.poller.account.keep = Keep::Forever;
    way.put(0..4);
    way.server.put(&message(9));
    way.poller.must();
    way.put(4..8);
    // Another state: what was there is found, one for one, over two polls.
    let mut again = Poller::new(way.maildrop.port(), "tls: none\nauth: [user-pass]\nmax_messages: 4");
    again.account.deliver = way.poller.account.deliver.clone();
    let report = again.must();
    assert_eq!((report.delivered, report.already_there), (0, 4), "{report:?}");
    let report = again.must();
    assert_eq!((report.delivered, report.already_there), (4, 0), "{report:?}");
    way.put(10..11);
    again.must();
    assert_eq!(way.server.inbox().len(), 10);
    assert_eq!(way.server.count("EXAMINE"), 2, "each state has looked once");
    way.server.put(&message(11));
    way.put(11..12);
    again.must();
    assert_eq!(way.server.count("EXAMINE"), 2);
}

#[test]
fn what_was_found_is_kept_for_messages_that_come_later_and_looked_for_again_under_other_uids() {
    for renews in [false, true] {
        let way = Way::with(Habits::default(), "", "max_messages: 2");
        (0..5).for_each(|number| way.server.put(&message(number)));
        way.put(0..5);
        way.poller.must();
        if renews {
            way.server.change(|habits| habits.validity = 8);
        }
        for _ in 0..2 {
            way.poller.must();
        }
        way.assert_once(0..5, &format!("renews: {renews}"));
        assert_eq!(way.server.count("EXAMINE"), if renews { 2 } else { 1 });
        assert!(way.maildrop.uids().is_empty());
    }
}

#[test]
fn a_mailbox_with_another_uidvalidity_is_looked_at_whole_if_anything_was_in_doubt() {
    let mut way =
        Way::new(Habits { drops: Some((2, Drop::BeforeOk)), down_after: Some(2), ..Habits::default() });
    way.put(0..3);
    way.poller.poll();
    way.server.change(|habits| {
        habits.down_after = None;
        habits.validity = 8;
    });
    way.a_day_passes();
    way.poller.must();
    way.assert_once(0..3, "another UIDVALIDITY");
}

#[test]
fn a_message_that_comes_in_after_the_break_or_under_another_uidvalidity_is_not_sent_again() {
    for point in [Drop::Late, Drop::Renewed] {
        let way =
            Way::new(Habits { drops: Some((2, point)), capabilities: "IMAP4rev1", ..Habits::default() });
        way.server.put(&message(9));
        way.server.remove("INBOX");
        way.put(0..3);
        let report = way.poller.must();
        assert_eq!((report.delivered, report.held), (3, 0), "{point:?}: {report:?}");
        way.assert_once(0..3, &format!("{point:?}"));
    }
}

#[test]
fn after_silence_nothing_is_sent_again_before_the_next_poll_has_looked() {
    let habits = Habits { drops: Some((2, Drop::Silent)), capabilities: "IMAP4rev1", ..Habits::default() };
    let mut way = Way::with(habits, ", timeout: 1s", "");
    way.put(0..3);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (2, 1), "{report:?}");
    way.a_day_passes();
    wait_until(LIMIT, || way.server.inbox().len() == 3);
    let before = way.server.count("APPEND");
    way.poller.must();
    assert_eq!(way.server.count("APPEND"), before);
    way.assert_once(0..3, "silence");
    assert!(way.maildrop.uids().is_empty());
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
fn what_is_in_doubt_because_the_server_went_away_waits_for_nothing_but_the_server() {
    let way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), down_after: Some(2), ..Habits::default() });
    way.put(0..3);
    for _ in 0..2 {
        let report = way.poller.poll();
        assert_eq!(report.failure.as_ref().map(|failure| failure.class), Some(Class::Target), "{report:?}");
        assert_eq!(report.held, 0, "{report:?}");
    }
    way.server.change(|habits| habits.down_after = None);
    way.poller.must();
    way.assert_once(0..3, "gone");
}

#[test]
fn messages_are_found_however_the_server_shows_them() {
    let found = [
        Habits { items: " MODSEQ (5) X-ODD (\"a)\" b) ", ..Habits::default() },
        Habits { fetch: Some("NO Some messages could not be FETCHed"), ..Habits::default() },
    ];
    let unseen = Habits { examine: Some("NO [ALERT] you may post here"), ..Habits::default() };
    for (habits, copies) in found.into_iter().map(|habits| (habits, 3)).chain([(unseen, 4)]) {
        let why = format!("{habits:?}");
        let way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), ..habits });
        way.put(0..3);
        assert_eq!(way.poller.must().delivered, 3, "{why}");
        assert_eq!(way.server.inbox().len(), copies, "{why}");
    }
}

#[test]
fn an_earlier_message_does_not_claim_the_copy_of_an_equal_one() {
    let mut way = Way::with(Habits::default(), "", "");
    way.poller.account.keep = Keep::Forever;
    way.put(0..1);
    way.poller.must();
    way.a_day_passes();
    way.maildrop.put("equal", message(0));
    way.server.change(|habits| {
        habits.drops = Some((2, Drop::BeforeOk));
        habits.down_after = Some(2);
    });
    assert!(way.poller.poll().failure.is_some());
    way.server.change(|habits| habits.down_after = None);
    way.a_day_passes();
    way.poller.must();
    assert_eq!(way.server.inbox().len(), 2);
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

#[test]
fn after_a_lost_state_the_mailbox_is_read_once_though_it_is_full() {
    let mut way = Way::new(Habits { append: Some("NO [OVERQUOTA] full"), ..Habits::default() });
    way.server.put(&message(1));
    way.put(0..3);
    (0..3).for_each(|_| assert!(way.poller.poll().failure.is_some()));
    assert_eq!(way.server.count("EXAMINE"), 1);
    way.server.change(|habits| habits.append = None);
    way.a_day_passes();
    way.poller.must();
    way.assert_once(0..3, "full");
}

#[test]
fn a_goodbye_tells_as_much_as_an_answer() {
    for (bye, class, held) in [
        ("* BYE [OVERQUOTA] full", Class::Target, 0),
        ("* BYE [EXPIRED] password", Class::Credentials, 0),
        ("* BYE [UNAVAILABLE] later", Class::Target, 0),
    ] {
        let way = Way::new(Habits { append: Some(bye), ..Habits::default() });
        way.put(0..3);
        let report = way.poller.poll();
        let failure = report.failure.as_ref().unwrap_or_else(|| panic!("{bye}: {report:?}"));
        assert_eq!((failure.class, report.held), (class, held), "{bye}: {failure}");
        assert!(failure.to_string().contains(&bye[2..]), "{failure}");
    }
    let way = Way::new(Habits { log_in: Some("* BYE [AUTHENTICATIONFAILED] no"), ..Habits::default() });
    way.put(0..1);
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Credentials, "{failure}");
    way.poller.poll();
    assert_eq!(way.server.connections(), 1, "the refusal is remembered");
}

#[test]
fn a_server_that_says_the_password_again_is_not_quoted() {
    for answer in ["NO unknown: AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=", "NO 'bob' 'secret' is wrong"] {
        let way = Way::new(Habits { log_in: Some(answer), ..Habits::default() });
        way.put(0..1);
        let said = format!("{:?}", way.poller.poll());
        assert!(said.contains("[secret]") || said.contains("91, 115, 101, 99"), "{said}");
        assert!(!said.contains("AGJvYgBzZWNyZXQ") && !said.contains("'secret'"), "{said}");
    }
}

#[test]
fn login_is_not_sent_where_the_server_disables_it() {
    let habits =
        Habits { greeting: Some("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hello"), ..Habits::default() };
    let way = Way::with(habits, ", auth: [user-pass]", "");
    way.put(0..1);
    let failure = way.poller.poll().failure.unwrap();
    assert!(failure.to_string().contains("server does not take LOGIN (LOGINDISABLED)"), "{failure}");
    assert_eq!(way.server.count("LOGIN"), 0);
}

#[test]
fn a_log_in_that_is_refused_in_the_middle_is_remembered_for_all_folders() {
    let mut way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), ..Habits::default() });
    way.put(0..4);
    way.server.change(|habits| habits.refused_from = 2);
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Credentials, "{failure}");
    way.poller.account.deliver = vec![target(&way.server.target(", folder: Other")).into()];
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!((failure.class, way.server.connections()), (Class::Credentials, 2), "{failure}");
    way.server.change(|habits| habits.refused_from = usize::MAX);
    way.poller.account.deliver = vec![target(&way.server.target("")).into()];
    way.a_day_passes();
    way.poller.must();
    way.assert_once(0..4, "revoked in the middle");
}

#[test]
fn refusals_are_the_messages_or_the_targets_by_their_codes() {
    for (answer, class, held, words) in [
        ("NO [TOOBIG] no", Class::Message, 3, "NO [TOOBIG] no"),
        ("BAD bare LF", Class::Message, 3, "BAD bare LF"),
        ("NO [OVERQUOTA] full", Class::Target, 0, "server: NO [OVERQUOTA] full"),
        ("NO [UNAVAILABLE] later", Class::Target, 0, "server: NO [UNAVAILABLE] later"),
        ("NO [LIMIT] enough", Class::Target, 0, "server: NO [LIMIT] enough"),
        ("NO [INUSE] busy", Class::Target, 0, "server: NO [INUSE] busy"),
        ("NO [SERVERBUG] oops", Class::Target, 0, "server: NO [SERVERBUG] oops"),
        ("NO [NOPERM] not yours", Class::Credentials, 0, "server: NO [NOPERM] not yours"),
        ("NO [EXPIRED] app password", Class::Credentials, 0, "server: NO [EXPIRED] app password"),
    ] {
        for capabilities in LITERALS {
            let way = Way::new(Habits { capabilities, append: Some(answer), ..Habits::default() });
            way.put(0..3);
            let report = way.poller.poll();
            let failure = report.failure.as_ref().unwrap_or_else(|| panic!("{answer}: {report:?}"));
            assert_eq!((failure.class, report.newly_held), (class, held), "{answer}: {report:?}");
            assert!(failure.to_string().contains(words), "{answer}: {failure}");
            assert_eq!(way.maildrop.uids().len(), 3);
        }
    }
}

#[test]
fn one_message_that_is_refused_stops_nobody() {
    for answer in ["NO [CANNOT] this one", "NO what", "BAD literal"] {
        let habits = Habits { append_of: Some(("of 1\r\n", answer)), ..Habits::default() };
        let way = Way::new(habits);
        way.put(0..4);
        let report = way.poller.poll();
        assert_eq!((report.delivered, report.held), (3, 1), "{answer}: {report:?}");
        assert_eq!(way.maildrop.uids(), ["1"]);
    }
}

#[test]
fn a_server_that_says_no_to_everything_without_a_reason_is_in_trouble_itself() {
    let way = Way::new(Habits { append: Some("NO [X] computer says no"), ..Habits::default() });
    way.put(0..30);
    let report = way.poller.poll();
    let failure = report.failure.as_ref().unwrap();
    assert_eq!((failure.class, report.held), (Class::Target, 0), "{failure} {report:?}");
}

#[test]
fn messages_that_are_larger_than_the_server_takes_are_not_sent() {
    let capabilities = "IMAP4rev1 LITERAL+ APPENDLIMIT=300";
    let way = Way::new(Habits { capabilities, ..Habits::default() });
    way.put(0..1);
    way.maildrop.put("large", [message(1), vec![b'x'; 300], b"\r\n".to_vec()].concat());
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (1, 1), "{report:?}");
    assert_eq!(way.server.count("APPEND"), 1);
    // One that has a limit for each folder, and is asked for it.
    let capabilities = "IMAP4rev1 LITERAL+ APPENDLIMIT";
    let way = Way::new(Habits { capabilities, limit: Some(300), ..Habits::default() });
    way.put(0..1);
    way.maildrop.put("large", [message(1), vec![b'x'; 300], b"\r\n".to_vec()].concat());
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (1, 1), "{report:?}");
    assert_eq!(way.server.count("APPEND"), 1);
}

#[test]
fn a_log_in_that_is_refused_is_the_targets_credentials_unless_it_speaks_of_a_lock() {
    for (answer, class) in [
        ("NO [AUTHENTICATIONFAILED] Invalid credentials", Class::Credentials),
        ("NO [EXPIRED] password", Class::Credentials),
        ("NO no", Class::Credentials),
        ("NO [UNAVAILABLE] try later", Class::Target),
        ("NO Too many simultaneous connections", Class::Target),
    ] {
        let way = Way::new(Habits { log_in: Some(answer), ..Habits::default() });
        way.put(0..1);
        let failure = way.poller.poll().failure.unwrap();
        assert_eq!(failure.class, class, "{failure}");
        assert!(failure.to_string().contains("server refused the log-in as bob (PLAIN)"), "{failure}");
        assert_eq!(way.maildrop.uids().len(), 1);
    }
    let busy = Way::new(Habits { greeting: Some("* BYE busy"), ..Habits::default() });
    busy.put(0..1);
    let failure = busy.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target, "{failure}");
}

#[test]
fn an_app_password_that_is_revoked_in_the_middle_loses_nothing() {
    let mut way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), ..Habits::default() });
    way.put(0..4);
    // The first connection has logged in when it is refused from then on.
    way.poller.account.deliver = vec![target(&way.server.target("")).into()];
    way.server.change(|habits| habits.down_after = Some(2));
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target, "{failure}");
    way.server.change(|habits| {
        habits.down_after = None;
        habits.log_in = Some("NO [AUTHENTICATIONFAILED] revoked");
    });
    way.a_day_passes();
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Credentials);
    way.server.change(|habits| habits.log_in = None);
    way.a_day_passes();
    way.poller.must();
    way.assert_once(0..4, "revoked in the middle");
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

#[test]
fn what_is_in_doubt_is_looked_for_among_all_mail_where_folders_are_labels() {
    let capabilities = "IMAP4rev1 LITERAL+ SPECIAL-USE NAMESPACE";
    for (all_mail, name) in [(true, "[Gmail]/All Mail"), (false, "INBOX")] {
        let drops = Some((2, Drop::BeforeOk));
        let way =
            Way::with(Habits { capabilities, all_mail, drops, ..Habits::default() }, ", provider: gmail", "");
        way.put(0..3);
        way.poller.must();
        way.assert_once(0..3, name);
        assert!(way.server.count(&format!("EXAMINE \"{name}\"")) > 0, "{name}");
    }
}

#[test]
fn a_goodbye_that_refuses_one_message_among_several_holds_that_one_alone() {
    for answer in ["* BYE [TOOBIG] too large", "* BYE gone"] {
        let mut way = Way::new(Habits { append_of: Some(("of 2\r\n", answer)), ..Habits::default() });
        way.put(0..6);
        let report = way.poller.poll();
        assert_eq!((report.delivered, report.held), (5, 1), "{answer}: {report:?}");
        assert_eq!(way.maildrop.uids(), ["2"]);
        way.a_day_passes();
        way.server.change(|habits| habits.append_of = None);
        way.poller.must();
        way.assert_once(0..6, answer);
    }
}

#[test]
fn no_trace_shows_a_password_that_the_server_says_again() {
    for answer in ["NO unknown: AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=", "* BYE 'bob' 'secret' is wrong"] {
        let way = Way::new(Habits { log_in: Some(answer), ..Habits::default() });
        let home = Home::new();
        home.configure(&format!(
            "accounts:\n  a: {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none, auth: [user-pass], \
             deliver: {}}}\n",
            way.maildrop.port(),
            way.server.target("")
        ));
        let ended = home.run(&["-vvv", "sync"]);
        assert!(ended.stderr.contains("[secret]"), "{}", ended.stderr);
        assert!(
            !ended.stderr.contains("AGJvYgBzZWNyZXQ") && !ended.stderr.contains("'secret'"),
            "{}",
            ended.stderr
        );
    }
}
