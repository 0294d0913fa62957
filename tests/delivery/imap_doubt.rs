//! What a mailbox has, where a connection broke or the state was lost: nothing is lost, nothing is there twice.

use postrider::testing::config::Keep;
use postrider::testing::failure::Class;

use crate::imap::{LITERALS, Way, message};
use crate::support::imap_server::{Drop, Habits};
use crate::support::poller::Poller;
use crate::support::postrider::LIMIT;
use crate::support::process::wait_until;

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
