//! SMTP and LMTP servers as they are: what they lose, when they have enough, and what of that is remembered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider::testing::failure::Class;
use postrider::testing::session::{Report, WallClock};

use crate::smtp::target;
use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::odd_mail_server::{Habits, OddMailServer};
use crate::support::poller::Poller;

/// A maildrop, a server, and the account between them.
struct Way {
    maildrop: Maildrop,
    server: OddMailServer,
    poller: Poller,
    messages: usize,
}

impl Way {
    fn new(habits: Habits) -> Self {
        Self::by("smtp", habits)
    }

    fn by(protocol: &str, habits: Habits) -> Self {
        // One RETR after the other: what is asked for is what the target had room for.
        let settings = Settings { tls: Protection::None, ..Settings::default() };
        let maildrop = Maildrop::start(settings.without("PIPELINING"));
        let server = OddMailServer::start(habits);
        let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
        poller.account.deliver = vec![
            target(&format!(
                "{{ {protocol}: {{ host: 127.0.0.1, port: {}, to: [bob@example.org] }} }}",
                server.port()
            ))
            .into(),
        ];
        Self { maildrop, server, poller, messages: 0 }
    }

    /// Puts messages into the maildrop.
    fn put(&mut self, count: usize) {
        for number in self.messages..self.messages + count {
            self.put_from("alice@example.net", number);
        }
        self.messages += count;
    }

    fn put_from(&self, sender: &str, number: usize) {
        let message = format!("Return-Path: <{sender}>\r\nSubject: {number}\r\n\r\nx\r\n");
        self.maildrop.put(&number.to_string(), message);
    }

    fn retrieved(&self) -> usize {
        self.maildrop.count(|what| matches!(what, What::Command(line) if line.starts_with("RETR")))
    }

    fn must_deliver(&mut self, count: usize) {
        self.put(count);
        let all = self.maildrop.uids().len();
        let report = self.poller.must();
        assert_eq!((report.delivered, report.held), (all, 0), "{report:?}");
        assert_eq!(self.server.messages().len(), self.messages);
    }

    /// Polls in vain, which must hold nothing and leave everything where it is.
    fn must_fail(&self) -> Report {
        let before = self.maildrop.uids();
        let report = self.poller.poll();
        let failure = report.failure.as_ref().expect("the target took nothing");
        assert_eq!(failure.class, Class::Target, "{failure}");
        assert_eq!((report.delivered, report.held, report.newly_held), (0, 0, 0), "{report:?}");
        assert_eq!(self.maildrop.uids(), before);
        report
    }
}

#[test]
fn a_server_that_loses_what_stands_behind_the_end_of_a_message_is_tried_once_and_remembered() {
    for protocol in ["smtp", "lmtp"] {
        let extensions = vec!["PIPELINING", "8BITMIME"];
        let mut way = Way::by(protocol, Habits { extensions, loses_behind_end: true, ..Habits::default() });
        let began = Instant::now();
        way.must_deliver(20);
        assert_eq!(way.server.connections(), 2, "{protocol}");
        assert!(began.elapsed() < Duration::from_secs(10), "{protocol}: {:?}", began.elapsed());
        // Another process knows it, too: it is in the state.
        way.must_deliver(20);
        assert_eq!(way.server.connections(), 3, "{protocol}");
        // One with other extensions may be another server, and is tried again.
        way.server.change(|habits| {
            habits.extensions.push("X-NEW");
            habits.loses_behind_end = false;
        });
        way.must_deliver(20);
        way.must_deliver(20);
        assert_eq!(way.server.connections(), 5, "{protocol}");
        assert_eq!(way.server.count("QUIT"), 4, "{protocol}");
    }
}

#[test]
fn a_server_that_ends_the_connection_over_what_stands_behind_a_message_is_tried_once_a_day() {
    let extensions = vec!["PIPELINING"];
    let mut way = Way::new(Habits { extensions, ends_over_ahead: true, ..Habits::default() });
    way.must_deliver(10);
    way.must_deliver(10);
    assert_eq!(way.server.connections(), 3);
    // A day later it may have learned.
    let clock = &mut way.poller.environment.clock;
    *clock = WallClock::Set(Arc::new((clock.now() + 24 * 3600).into()));
    way.must_deliver(10);
    assert_eq!(way.server.connections(), 5);
}

#[test]
fn a_server_that_loses_commands_of_a_packet_is_served_in_lock_step_from_then_on() {
    let extensions = vec!["PIPELINING"];
    let mut way = Way::new(Habits { extensions, loses_packets: true, ..Habits::default() });
    let began = Instant::now();
    way.must_deliver(10);
    assert_eq!(way.server.connections(), 2);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    way.must_deliver(10);
    assert_eq!(way.server.connections(), 3);
    // In lock-step nothing is lost, so nothing is asked twice.
    assert_eq!(way.server.count("MAIL"), 21);
}

#[test]
fn a_slow_server_is_not_taken_for_one_that_loses_commands() {
    let extensions = vec!["PIPELINING"];
    let thinks = Duration::from_millis(1200);
    let mut way = Way::new(Habits { extensions, thinks, ..Habits::default() });
    way.must_deliver(3);
    way.server.change(|habits| habits.thinks = Duration::ZERO);
    let connections = way.server.connections();
    way.must_deliver(5);
    assert_eq!(way.server.connections(), connections + 1);
}

#[test]
fn a_server_that_takes_so_many_messages_a_connection_gets_all_of_them() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let mut way = Way::new(Habits { extensions, most_messages: Some(10), ..Habits::default() });
        way.must_deliver(35);
        assert_eq!(way.server.connections(), 4);
    }
}

#[test]
fn a_server_that_takes_no_messages_now_ends_the_session_and_holds_none() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let mail = Some("450 4.7.1 Error: too much mail from 127.0.0.1");
        let mut way = Way::new(Habits { extensions, mail, ..Habits::default() });
        way.put(500);
        let report = way.must_fail();
        let shown = report.failure.unwrap().to_string();
        assert!(shown.contains("server: 450 4.7.1 Error: too much mail"), "{shown}");
        assert!(way.retrieved() < 100, "{} messages fetched", way.retrieved());
        assert_eq!(way.server.count("MAIL"), 1);
        way.server.change(|habits| habits.mail = None);
        way.must_deliver(1);
    }
}

#[test]
fn four_twenty_one_to_mail_says_no_more_of_the_message_than_450() {
    let mail = Some("421 4.3.2 shutting down");
    let mut way = Way::new(Habits { extensions: vec!["PIPELINING"], mail, ..Habits::default() });
    way.put(5);
    way.must_fail();
}

#[test]
fn a_server_that_can_take_no_recipient_of_five_messages_ends_the_session_and_holds_none() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let rcpt = Some("451 4.3.0 Temporary lookup failure");
        let mut way = Way::new(Habits { extensions, rcpt, ..Habits::default() });
        way.put(500);
        way.must_fail();
        assert!(way.retrieved() < 100, "{} messages fetched", way.retrieved());
        assert_eq!(way.server.count("RCPT"), 5);
        way.server.change(|habits| habits.rcpt = None);
        way.must_deliver(1);
    }
}

#[test]
fn a_server_that_takes_no_recipient_after_so_many_messages_gets_all_of_them_over_new_connections() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let mut way = Way::new(Habits { extensions, most_served: Some(2), ..Habits::default() });
        way.must_deliver(7);
        assert_eq!(way.server.connections(), 4);
        // One that takes none on any connection is asked for five.
        way.put(500);
        way.server.change(|habits| (habits.most_served, habits.rcpt) = (None, Some("451 enough")));
        way.must_fail();
        assert_eq!(way.server.connections(), 5);
    }
}

#[test]
fn a_server_that_ends_the_connection_at_each_message_holds_none() {
    for extensions in [vec![], vec!["PIPELINING"]] {
        let mut way = Way::new(Habits { extensions, most_ended: Some(0), ..Habits::default() });
        way.put(500);
        let shown = way.must_fail().failure.unwrap().to_string();
        assert!(shown.contains("421 4.3.2 the filter is away"), "{shown}");
        assert!(way.retrieved() < 100, "{} messages fetched", way.retrieved());
        assert_eq!(way.server.connections(), 5);
        way.server.change(|habits| habits.most_ended = Some(3));
        way.must_deliver(7);
    }
}

#[test]
fn a_server_that_wants_tls_or_a_log_in_first_holds_nothing_and_says_what_to_write() {
    for (no, hint) in [
        ("530 5.7.0 Must issue a STARTTLS command first", "write `tls: starttls` in the target"),
        ("530 5.7.0 Authentication required", "write `user` and `password` in the target"),
    ] {
        for extensions in [vec![], vec!["PIPELINING"]] {
            let to_rcpt = Habits { extensions: extensions.clone(), rcpt: Some(no), ..Habits::default() };
            for habits in [Habits { extensions, mail: Some(no), ..Habits::default() }, to_rcpt] {
                let mut way = Way::new(habits);
                way.put(3);
                let shown = way.must_fail().failure.unwrap().to_string();
                assert!(shown.contains(hint) && shown.contains(no), "{shown}");
                assert_eq!(way.server.count("MAIL"), 1);
            }
        }
    }
}

#[test]
fn four_messages_whose_recipients_cannot_be_taken_now_are_held_one_by_one() {
    let rcpt = Some("450 4.2.0 greylisted");
    let mut way = Way::new(Habits { extensions: vec!["PIPELINING"], rcpt, ..Habits::default() });
    way.put(4);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (0, 4), "{report:?}");
}

#[test]
fn a_sender_whom_the_server_cannot_take_does_not_stand_before_the_others_for_ever() {
    let mail_from = Some(("mallory@", "450 cannot verify this sender now"));
    let mut way = Way::new(Habits { extensions: vec!["PIPELINING"], mail_from, ..Habits::default() });
    way.put_from("mallory@example.net", 1000);
    way.put(10);
    way.must_fail();
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (10, 1), "{report:?}");
    // A code that says so is believed at once.
    let mail_from = Some(("mallory@", "451 4.1.8 Domain of sender address does not resolve"));
    let mut way = Way::new(Habits { extensions: vec!["PIPELINING"], mail_from, ..Habits::default() });
    way.put_from("mallory@example.net", 1000);
    way.put(10);
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (10, 1), "{report:?}");
}

#[test]
fn a_server_that_knows_no_ehlo_is_greeted_by_helo() {
    for no in ["500 5.5.1 what?", "501 syntax error", "502 not implemented", "504 parameter not known"] {
        let mut way = Way::new(Habits { no_ehlo: Some(no), ..Habits::default() });
        way.must_deliver(3);
        assert_eq!((way.server.count("EHLO"), way.server.count("HELO")), (1, 1));
        // It offers nothing.
        assert_eq!(way.server.count("MAIL FROM:<alice@example.net>"), 3);
        assert_eq!(way.server.connections(), 1);
    }
    let way = Way::new(Habits { no_ehlo: Some("554 go away"), ..Habits::default() });
    way.must_fail_to_open();
}

impl Way {
    fn must_fail_to_open(mut self) {
        self.put(1);
        self.must_fail();
        assert_eq!(self.server.count("HELO"), 0);
    }
}
