//! How far back a mailbox is looked at where nobody knows what is there: to the oldest message that the maildrop shows.

use std::time::{Duration, Instant};

use postrider::testing::config::Keep;
use postrider::testing::session::Report;

use crate::imap::Way;
use crate::smtp::target;
use crate::support::imap_server::Habits;
use crate::support::postrider::LIMIT;
use crate::support::process::wait_until;

const OLD: &str = "29-Nov-2020 12:00:00 +0000";

/// Delivers five messages behind as many old ones, with gaps before their UIDs, and puts newer ones there; then the state is
/// lost.
fn lost(old: usize, gap: u32, newer: usize, target_keys: &str) -> Way {
    let mut way = Way::with(Habits::default(), target_keys, "");
    way.poller.account.keep = Keep::Forever;
    way.server.fill(old, OLD, gap);
    way.put(0..5);
    way.poller.must();
    way.server.fill(newer, "30-Nov-2025 12:00:00 +0000", 0);
    assert_eq!(way.server.inbox().len(), old + 5 + newer);
    way.poller.lose_state();
    way
}

/// Says that the five are found again, and how often the server was asked for messages meanwhile.
fn found_again(way: &Way, asked: usize, why: &str) -> Report {
    let (before, there) = (way.server.count("UID FETCH"), way.server.inbox().len());
    let report = way.poller.must();
    assert_eq!((report.delivered, report.already_there), (0, 5), "{why}: {report:?}");
    assert_eq!(way.server.inbox().len(), there, "{why}");
    assert_eq!(way.server.count("UID FETCH") - before, asked, "{why}");
    report
}

fn headers_asked(way: &Way) -> usize {
    way.maildrop.events().iter().filter(|event| format!("{:?}", event.what).contains("TOP")).count()
}

#[test]
fn after_a_lost_state_a_mailbox_is_read_from_the_newest_back_to_what_the_maildrop_shows_and_no_further() {
    for (old, newer, asked) in [(20_000, 0, 2), (20_000, 9000, 4), (4000, 0, 1), (0, 20, 1)] {
        let way = lost(old, 0, newer, "");
        found_again(&way, asked, &format!("{old} older and {newer} newer ones"));
    }
}

#[test]
fn a_small_mailbox_is_read_without_a_question_to_the_maildrop() {
    let way = lost(100, 0, 0, "");
    let before = headers_asked(&way);
    found_again(&way, 1, "all of it is one page");
    assert_eq!(headers_asked(&way), before);
}

#[test]
fn all_of_a_mailbox_is_read_where_nobody_knows_how_old_a_message_may_seem_there() {
    let undated = lost(9000, 0, 0, "");
    undated.maildrop.put("undated", "Subject: undated\r\n\r\nx\r\n");
    let report = undated.poller.must();
    assert_eq!((report.delivered, report.already_there), (1, 5), "{report:?}");
    assert_eq!(undated.server.count("UID FETCH 1:"), 1);
    let by_date = lost(9000, 0, 0, ", date: header");
    found_again(&by_date, 3, "their dates are whatever their senders wrote");
}

#[test]
fn uids_of_which_most_are_gone_are_asked_for_in_few_questions() {
    // UIDs up to 60 million.
    let way = lost(30, 2_000_000, 0, ", date: header");
    let before = way.server.count("UID FETCH");
    way.poller.must();
    let asked = way.server.count("UID FETCH") - before;
    assert!((2..20).contains(&asked), "{asked}");
    assert_eq!(way.server.inbox().len(), 35);
}

/// A maildir beside the mailbox.
struct Beside(tempfile::TempDir);

impl Beside {
    fn with(way: &mut Way) -> Self {
        let beside = Self(tempfile::tempdir().unwrap());
        let maildir = format!("{{ maildir: {}/Mail }}", beside.0.path().display());
        way.poller.account.deliver.push(target(&maildir).into());
        beside
    }

    fn messages(&self) -> usize {
        std::fs::read_dir(self.0.path().join("Mail/new")).unwrap().count()
    }
}

#[test]
fn beside_another_target_a_mailbox_is_read_no_further_either() {
    let mut way = lost(20_000, 0, 0, "");
    let beside = Beside::with(&mut way);
    let before = way.server.count("UID FETCH");
    way.poller.must();
    assert_eq!((way.server.inbox().len(), way.server.count("UID FETCH") - before), (20_005, 2));
    assert_eq!((beside.messages(), way.server.connections()), (5, 2));
}

#[test]
fn beside_another_target_a_small_mailbox_is_read_without_a_question_to_the_maildrop() {
    let mut way = lost(100, 0, 0, "");
    let beside = Beside::with(&mut way);
    let before = headers_asked(&way);
    way.poller.must();
    assert_eq!((way.server.inbox().len(), beside.messages()), (105, 5));
    assert_eq!(headers_asked(&way), before);
}

#[test]
fn a_mailbox_beside_another_target_may_take_longer_to_be_read_than_to_open() {
    let mut way = lost(100, 0, 0, "");
    let beside = Beside::with(&mut way);
    way.server.change(|habits| habits.fetch_takes = Duration::from_secs(22));
    way.poller.must();
    assert_eq!((way.server.inbox().len(), beside.messages()), (105, 5));
}

#[test]
fn a_mailbox_that_does_not_open_in_the_first_poll_keeps_the_other_target_waiting_for_five_seconds() {
    let mut way = Way::with(Habits::default(), "", "");
    let beside = Beside::with(&mut way);
    way.put(0..5);
    way.server.change(|habits| habits.opening_takes = Duration::from_secs(15));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let polling = scope.spawn(|| way.poller.must());
        let is_there = || beside.0.path().join("Mail/new").is_dir() && beside.messages() == 5;
        assert!(wait_until(LIMIT, is_there), "it never came");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        polling.join().unwrap();
    });
    assert_eq!(way.server.inbox().len(), 5);
}
