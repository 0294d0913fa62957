//! Messages at which the session breaks, or of which less comes than was listed: they stop no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;

use postrider::testing::session::WallClock;

use crate::support::dialogue::{honest, mail};
use crate::support::maildrop::{Maildrop, Protection, Settings, Trick, What};
use crate::support::poller::Poller;
use crate::support::postrider::Home;

/// Ways to break a session at a message that does not come whole.
const BREAKS: [Trick; 6] = [
    Trick::CutBefore,
    Trick::CutWithin(10),
    Trick::StallBefore,
    Trick::StallWithin(10),
    Trick::OutOfStep,
    Trick::DotCr,
];

fn filled(keys: &str, tricks: &[(usize, Trick)]) -> (Maildrop, Home) {
    let (server, home) = honest(Settings::default(), keys);
    (0..9).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("timeout: 3s", "timeout: 1s"));
    tricks.iter().for_each(|(i, trick)| server.play(&format!("uid-{i}"), Some(*trick)));
    (server, home)
}

fn held(home: &Home) -> Vec<String> {
    let listed = home.must(&["held", "list", "test"], 0).stdout;
    listed
        .lines()
        .map(|line| line.split(") ").nth(1).unwrap().split(':').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_message_at_which_the_session_breaks_keeps_no_other_away_and_no_deletion_from_being_real() {
    // Side by side: with those that fall silent it is waiting that takes the time.
    thread::scope(|scope| {
        for trick in BREAKS {
            scope.spawn(move || is_held_alone(trick));
        }
    });
}

fn is_held_alone(trick: Trick) {
    for pace in ["", "\npipelining: off"] {
        for place in [0, 4, 8] {
            // As the last one it is believed by its size: nothing more is due that could show it.
            if (trick, place) == (Trick::OutOfStep, 8) {
                continue;
            }
            let (server, home) = filled(&format!("keep: none{pace}"), &[(place, trick)]);
            let bad = format!("uid-{place}");
            home.must(&["sync"], 75);
            assert_eq!(home.maildir("Mail").len(), 8, "{trick:?}{pace} at {place}");
            assert_eq!(server.uids(), [bad.as_str()], "{trick:?}{pace} at {place}");
            assert_eq!(held(&home), [bad.as_str()], "{trick:?}{pace} at {place}");
            // Held and unchanged is no news.
            assert_eq!(home.must(&["sync"], 75).stderr, "");
            server.play(&bad, None);
            home.must(&["held", "retry", "test"], 0);
            assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 9));
        }
    }
}

#[test]
fn a_message_whose_header_ends_sessions_does_not_tell_that_a_server_has_no_top() {
    for pace in ["", "PIPELINING"] {
        let capabilities = Some(vec!["TOP".to_owned(), "USER".to_owned(), pace.to_owned()]);
        let settings = Settings { capabilities, unknown: vec!["UIDL".to_owned()], ..Settings::default() };
        let (server, home) = honest(settings, "");
        (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
        server.play("uid-0", Some(Trick::CutAtTop));
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 3, "{pace}");
        server.put("uid-3", mail(3));
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 4, "{pace}");
    }
}

#[test]
fn a_poll_of_which_every_message_breaks_the_session_has_failed() {
    for trick in [Trick::CutBefore, Trick::StallBefore] {
        let (server, home) = filled("", &[(0, trick), (1, trick)]);
        (2..9).for_each(|i| server.remove(&format!("uid-{i}")));
        let said = home.must(&["sync"], 75).stderr;
        assert!(said.contains("none of 2 messages could be fetched and delivered"), "{trick:?}: {said}");
        let status = home.must(&["status"], 0).stdout;
        assert!(status.contains("failed (message)"), "{trick:?}: {status}");
        home.must(&["status", "--max-age", "1h"], 75);
    }
}

#[test]
fn a_message_that_breaks_the_session_and_shows_another_size_each_time_keeps_no_other_away() {
    for pace in ["", "\npipelining: off"] {
        let (server, home) = filled(&format!("keep: none{pace}"), &[(2, Trick::Wobbles)]);
        home.must(&["sync"], 75);
        assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["uid-2".to_string()], 8), "{pace}");
        assert_eq!(held(&home), ["uid-2"], "{pace}");
        server.put("uid-9", mail(9));
        home.must(&["sync"], 75);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (1, 9), "{pace}");
        let retrs = server.count(|what| *what == What::Command("RETR 1".into()));
        assert!(retrs < 8, "{retrs}");
    }
}

#[test]
fn a_message_that_came_whole_before_the_break_counts_as_fetched() {
    for pace in ["", "\npipelining: off"] {
        let all: Vec<_> = (0..9).map(|i| (i, Trick::CutBehind)).collect();
        let (server, home) = filled(&format!("keep: none{pace}"), &all);
        home.must(&["sync"], 0);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 9));
        assert_eq!(home.leftovers("Mail").len(), 0);
        assert!(held(&home).is_empty());
    }
}

#[test]
fn several_messages_at_which_the_session_breaks_are_held_and_the_rest_comes() {
    let tricks =
        [(0, Trick::CutBefore), (1, Trick::CutWithin(5)), (4, Trick::OutOfStep), (8, Trick::CutBefore)];
    let (server, home) = filled("keep: none", &tricks);
    home.must(&["sync"], 75);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (4, 5));
    assert_eq!(held(&home), ["uid-0", "uid-1", "uid-4", "uid-8"]);
}

#[test]
fn what_broke_the_session_comes_last_and_behind_the_deletions_of_the_rest() {
    let (server, home) = filled("keep: none", &[(2, Trick::CutBefore), (3, Trick::CutBefore)]);
    home.must(&["sync"], 75);
    (9..12).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    let before = server.events().len();
    home.must(&["held", "retry", "test"], 75);
    let happened: Vec<_> = server.events()[before..].iter().map(|event| event.what.clone()).collect();
    let first = |wanted: &What| happened.iter().position(|what| what == wanted).unwrap();
    let retr = |number: usize| first(&What::Command(format!("RETR {number}")));
    // The two that are held are the first in the maildrop, and the others are gone before these are asked for.
    assert!(first(&What::Removed("uid-11".into())) < retr(1), "{happened:#?}");
    assert!(retr(1) < retr(2), "{happened:#?}");
    assert_eq!((server.uids(), held(&home).len()), (vec!["uid-2".to_string(), "uid-3".to_string()], 2));
}

#[test]
fn a_deletion_that_ends_the_session_is_given_up_and_the_others_become_real() {
    for pace in ["", "\npipelining: off"] {
        let (server, home) = filled(&format!("keep: none{pace}"), &[(4, Trick::CutAtDele)]);
        let said = home.must(&["sync"], 0).stderr;
        assert!(said.contains("uid-4: server ended two sessions at the deletion"), "{said}");
        assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["uid-4".to_string()], 9));
        assert!(held(&home).is_empty());
        // Nobody is told again, and nothing waits for it.
        server.put("uid-9", mail(9));
        assert_eq!(home.must(&["sync"], 0).stderr, "");
        assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["uid-4".to_string()], 10));
    }
}

#[test]
fn one_message_that_breaks_sessions_stops_nothing_where_no_size_is_exact() {
    for trick in [Trick::CutAtDele, Trick::CutBehind, Trick::CutBefore] {
        let tricks: Vec<_> = (0..9).map(|i| (i, if i == 4 { trick } else { Trick::CountsLf })).collect();
        let (server, home) = filled("keep: none", &tricks);
        home.run(&["sync"]);
        home.run_at(7200, &["sync"]);
        // One that came whole goes, too.
        let left: &[&str] = if trick == Trick::CutBehind { &[] } else { &["uid-4"] };
        assert_eq!(server.uids(), left, "{trick:?}");
        let log_ins = || server.count(|what| matches!(what, What::Command(line) if line.starts_with("UIDL")));
        let before = log_ins();
        home.run_at(8000, &["sync"]);
        assert!(log_ins() - before <= 3, "{trick:?}: {} sessions", log_ins() - before);
        assert_eq!(home.maildir("Mail").len(), if trick == Trick::CutBefore { 8 } else { 9 }, "{trick:?}");
    }
}

#[test]
fn a_deletion_that_ended_two_sessions_is_tried_in_three_polls_more_and_then_waits() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    server.put("uid-0", mail(0));
    server.play("uid-0", Some(Trick::CutAtDele));
    let mut poller = Poller::new(server.port(), "tls: none\nauth: [plain]\nkeep: none");
    let clock = Arc::new(AtomicI64::new(0));
    poller.environment.clock = WallClock::Set(clock.clone());
    let tries = [0, 1, 2, 3, 4, 17, 18, 19].map(|minute| {
        clock.store(1_800_000_000 + minute * 60, Relaxed);
        let cut = || server.count(|what| *what == What::Command("DELE 1".into()));
        let before = cut();
        poller.must();
        cut() - before
    });
    // The first of them may have been at the end of the message, which came just before.
    assert_eq!(tries, [3, 1, 1, 1, 0, 0, 1, 0]);
}

#[test]
fn nothing_or_less_than_half_of_a_message_is_held_and_nothing_is_deleted() {
    for (octets, large) in [(0, false), (0, true), (1500, true)] {
        let (server, home) = honest(Settings::default(), "keep: none");
        (0..5).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
        let filler = if large { vec![b'x'; 4000] } else { Vec::new() };
        let whole = [mail(5), filler, b"\r\n".to_vec()].concat();
        server.put("uid-5", whole.clone());
        server.play("uid-5", Some(Trick::Short(octets)));
        let said = home.must(&["sync"], 75).stderr;
        let came = if octets == 0 { 0 } else { octets + 2 };
        assert!(said.contains(&format!("uid-5: held: short: {came} of {} octets", whole.len())), "{said}");
        assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["uid-5".to_string()], 5));
        home.must(&["held", "retry", "test"], 75);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (1, 5));
        server.play("uid-5", None);
        home.must(&["held", "retry", "test"], 0);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 6));
    }
}

#[test]
fn the_same_octets_three_times_and_over_a_day_are_delivered_and_kept_on_the_server() {
    let settings = Settings { tls: Protection::None, ..Settings::default() };
    let server = Maildrop::start(settings);
    server.put("uid-0", [mail(0), vec![b'x'; 4000], b"\r\n".to_vec()].concat());
    server.play("uid-0", Some(Trick::Short(1500)));
    let mut poller = Poller::new(server.port(), "tls: none\nauth: [plain]\nkeep: none");
    let clock = Arc::new(AtomicI64::new(1_800_000_000));
    poller.environment.clock = WallClock::Set(clock.clone());
    let (hour, day) = (3600, 24 * 3600);
    for later in [0, hour, day - 1] {
        clock.store(1_800_000_000 + later, Relaxed);
        assert_eq!(poller.poll().leaves_held, 1);
        assert_eq!(poller.maildir().len(), 0);
    }
    clock.store(1_800_000_000 + 3 * day, Relaxed);
    let report = poller.must();
    assert_eq!((report.delivered, report.leaves_held, report.deleted), (1, 0, 0));
    assert_eq!((poller.maildir().len(), server.uids().len()), (1, 1));
    // It is never deleted, and nothing of it is fetched or held again.
    clock.store(1_800_000_000 + 30 * day, Relaxed);
    let report = poller.must();
    assert_eq!((report.delivered, report.leaves_held, report.deleted, server.uids().len()), (0, 0, 0, 1));
}

/// Ways to give one answer too few, or too many, and to go on.
const STEPS: [Trick; 8] = [
    Trick::Unanswered,
    Trick::UnansweredOnce,
    Trick::TwiceOnce,
    Trick::EndsSo(".\r"),
    Trick::EndsSo(".\n"),
    Trick::EndsSo(". \r\n"),
    Trick::EndsSo(""),
    Trick::Glued,
];

/// What tells messages apart: a Message-ID, a size of their own.
const LIKENESS: [(&str, bool); 4] = [("id", true), ("id", false), ("no id", true), ("no id", false)];

#[test]
fn an_answer_too_few_or_too_many_loses_no_message_and_puts_none_in_the_place_of_another() {
    thread::scope(|scope| {
        for trick in STEPS {
            for keep in ["none", "forever", "14d"] {
                scope.spawn(move || {
                    for (header, sized) in LIKENESS {
                        comes_once(trick, keep, header, sized);
                    }
                });
            }
        }
    });
}

fn comes_once(trick: Trick, keep: &str, header: &str, sized: bool) {
    let what = format!("{trick:?}, keep: {keep}, {header}, of a size: {sized}");
    let (server, home) = honest(Settings::default(), &format!("keep: {keep}"));
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("timeout: 3s", "timeout: 1s"));
    let id = |i: usize| {
        if header == "id" {
            format!("Message-ID: <{i}@example.org>\r\nDate: today\r\n")
        } else {
            String::new()
        }
    };
    let body = |i: usize| "x".repeat(if sized { 100 + 20 * i } else { 100 });
    let all: Vec<String> = (0..8).map(|i| format!("{}Subject: {i}\r\n\r\n{}\r\n", id(i), body(i))).collect();
    all.iter().enumerate().for_each(|(i, mail)| server.put(&format!("uid-{i}"), mail.as_str()));
    server.play("uid-3", Some(trick));
    (0..3).for_each(|_| drop(home.run(&["sync"])));
    server.play("uid-3", None);
    home.run(&["held", "retry", "test"]);
    home.must(&["sync"], 0);
    let got = home.maildir("Mail");
    let whole: Vec<String> = all.iter().map(|mail| mail.replace("\r\n", "\n")).collect();
    for (i, mail) in whole.iter().enumerate() {
        let count = got.iter().filter(|there| there.as_slice() == mail.as_bytes()).count();
        // Equal sizes show too late that it came twice.
        let most = if trick == Trick::TwiceOnce && !sized && i == 3 { 2 } else { 1 };
        assert!((1..=most).contains(&count), "{what}: {count} of {i}");
    }
    let strange = got.iter().filter(|there| !whole.iter().any(|mail| mail.as_bytes() == there.as_slice()));
    assert_eq!(strange.count(), 0, "{what}");
    assert_eq!(server.uids().len(), if keep == "none" { 0 } else { 8 }, "{what}");
    // Nothing is in doubt any more.
    let asked = || {
        server.count(
            |what| matches!(what, What::Command(line) if line.starts_with("RETR") || line.starts_with("TOP")),
        )
    };
    let before = asked();
    home.must(&["sync"], 0);
    assert_eq!(asked(), before, "{what}");
}
