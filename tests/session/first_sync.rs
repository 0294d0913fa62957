//! `first_sync: DURATION`: what the first poll takes as seen, by the date that a message tells.

use crate::support::dialogue::*;
use crate::support::maildrop::{Fault, Maildrop, Settings, What};
use crate::support::postrider::Home;

const FORTNIGHT: &str = "first_sync: 14d";

/// A date so many days ago, as a header has it.
fn ago(days: i64) -> String {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
    then.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A message that arrived so many days ago.
fn aged(i: usize, days: i64) -> Vec<u8> {
    [format!("Received: from a by b; {}\r\n", ago(days)).as_bytes(), &mail(i)].concat()
}

fn put(server: &Maildrop, some: std::ops::Range<usize>, days: i64) {
    some.for_each(|i| server.put(&format!("uid-{i}"), aged(i, days)));
}

fn numbers(home: &Home) -> Vec<usize> {
    let number = |text: &Vec<u8>| {
        let text = String::from_utf8(text.clone()).unwrap();
        let (_, rest) = text.split_once("body of ").expect("a body");
        rest.trim().parse().expect("its number")
    };
    let mut numbers: Vec<usize> = home.maildir("Mail").iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn tops(server: &Maildrop) -> usize {
    server.count(|what| matches!(what, What::Command(line) if line.starts_with("TOP")))
}

#[test]
fn a_dry_run_says_what_is_deleted_some_time() {
    let (server, home) = honest(Settings::default(), "keep: 14d");
    server.put("one", mail(1));
    let planned = home.must(&["sync", "--dry-run"], 0).stdout;
    assert!(planned.ends_with(": new; deleted on the server 14d after delivery\n"), "{planned}");
}

#[test]
fn the_first_poll_fetches_what_arrived_within_the_duration_and_what_says_no_date() {
    let (server, home) = honest(Settings::default(), &format!("keep: none\n{FORTNIGHT}"));
    let dated = |i: usize, date: &str| {
        String::from_utf8(mail(i)).unwrap().replace("Date: today", &format!("Date: {date}"))
    };
    server.put("old", aged(0, 15));
    server.put("young", aged(1, 13));
    server.put("sent long ago", format!("Received: by b; {}\r\n{}", ago(1), dated(2, &ago(99))));
    server.put("old by its date", dated(3, &ago(15)));
    server.put("young by its date", dated(4, &ago(13)));
    server.put("without a date", mail(5));
    server.put("from the future", aged(6, -99));
    server.put("Received without a date", format!("Received: by b\r\n{}", dated(7, &ago(15))));
    let planned = home.must(&["sync", "--dry-run"], 0).stdout;
    assert_eq!(planned.matches("older than first_sync fetches").count(), 3, "{planned}");
    assert_eq!(planned.matches("fetch ").count(), 5, "{planned}");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    assert_eq!(numbers(&home), [1, 2, 4, 5, 6]);
    // Whatever comes later is new, and what was only marked is never deleted.
    server.put("a late one", aged(8, 99));
    home.must(&["sync"], 0);
    assert_eq!(numbers(&home), [1, 2, 4, 5, 6, 8]);
    assert_eq!(server.uids(), ["old", "old by its date", "Received without a date"]);
    let asked = tops(&server);
    home.must(&["sync"], 0);
    assert_eq!(tops(&server), asked, "nothing is asked twice");
}

#[test]
fn without_top_the_first_poll_fetches_everything() {
    let settings = Settings { unknown: vec!["TOP".into()], ..Settings::default().without("TOP") };
    let (server, home) = honest(settings, FORTNIGHT);
    put(&server, 0..40, 99);
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 40);
    assert!(tops(&server) < 40, "{} were asked for", tops(&server));
}

#[test]
fn a_first_poll_of_thousands_goes_on_in_further_sessions_and_fetches_the_newest_at_once() {
    let (server, home) = honest(Settings::default(), FORTNIGHT);
    put(&server, 0..10, 1);
    put(&server, 10..2100, 15);
    put(&server, 2100..2110, 1);
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    assert_eq!(numbers(&home), [(0..10).collect::<Vec<_>>(), (2100..2110).collect()].concat());
    assert_eq!(server.count(|what| *what == What::LoggedIn), 2);
    let events = server.events();
    let place = |wanted: &What| events.iter().position(|event| event.what == *wanted);
    let logged_in = events.iter().rposition(|event| event.what == What::LoggedIn);
    assert!(place(&What::Sent("uid-2109".into())) < logged_in);
    let asked = tops(&server);
    assert!(asked < 2115, "{asked} were asked for");
    put(&server, 2110..2111, 99);
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 21);
    assert_eq!(tops(&server), asked);
}

#[test]
fn a_first_poll_that_is_broken_off_is_still_the_first_one() {
    let (server, home) = honest(Settings::default(), FORTNIGHT);
    put(&server, 0..20, 15);
    put(&server, 20..25, 1);
    home.write("Mail", "no directory");
    home.must(&["sync"], 75);
    std::fs::remove_file(home.path("Mail")).unwrap();
    // In the midst of the headers.
    server.set_fault(Fault::CutInsteadOf(20));
    home.must(&["sync"], 0);
    assert_eq!(server.count(|what| matches!(what, What::Faulted(_))), 1);
    assert_eq!(numbers(&home), [20, 21, 22, 23, 24]);
}

#[test]
fn what_a_limit_leaves_to_a_later_poll_is_fetched_and_what_is_old_is_not() {
    let (server, home) = honest(Settings::default(), &format!("{FORTNIGHT}\nmax_messages: 1"));
    put(&server, 0..3, 1);
    put(&server, 3..6, 15);
    for fetched in [1, 2, 3, 3] {
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), fetched);
    }
    assert_eq!(numbers(&home), [0, 1, 2]);
}

#[test]
fn after_the_loss_of_the_state_what_is_old_is_not_left_in_silence() {
    let (server, home) = honest(Settings::default(), FORTNIGHT);
    put(&server, 0..2, 1);
    put(&server, 2..5, 15);
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    std::fs::remove_dir_all(home.path("state")).unwrap();
    let said = home.must(&["sync"], 0).stderr;
    assert!(
        said.contains("first_sync: 14d leaves 3 messages unfetched") && said.contains("the target has 2"),
        "{said}"
    );
    assert_eq!(numbers(&home), [0, 1]);
}

#[test]
fn where_the_server_wants_long_waits_between_log_ins_the_first_poll_ends_in_a_later_one() {
    let mut settings = Settings::default();
    settings.capabilities.as_mut().unwrap().push("LOGIN-DELAY 60".into());
    let (server, home) = honest(settings, FORTNIGHT);
    put(&server, 0..1, 1);
    put(&server, 1..2100, 15);
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("the rest waits for the next poll"), "{said}");
    assert!(numbers(&home).is_empty());
    home.must(&["sync"], 0);
    assert_eq!(numbers(&home), [0]);
}
