//! Servers that break a session at TOP: of one message, of each, or at what is sent behind it.

use std::thread;

use crate::support::dialogue::{honest, mail};
use crate::support::maildrop::{Maildrop, Settings, Trick, What};
use crate::support::postrider::Home;

const BREAKS: [Trick; 2] = [Trick::CutAtTop, Trick::StallAtTop];
const PACES: [&str; 2] = ["", "\npipelining: off"];

/// A maildrop of so many messages, of these unique-ids.
fn filled(names: impl Fn(usize) -> String, count: usize, keys: &str) -> (Maildrop, Home) {
    let (server, home) = honest(Settings::default(), keys);
    (0..count).for_each(|i| server.put(&names(i), mail(i)));
    rewrite(&home, "timeout: 3s", "timeout: 1s");
    (server, home)
}

fn rewrite(home: &Home, from: &str, to: &str) {
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace(from, to));
}

fn uid(i: usize) -> String {
    format!("uid-{i}")
}

fn tops(server: &Maildrop) -> usize {
    server.count(|what| matches!(what, What::Command(line) if line.starts_with("TOP")))
}

/// Does this with each way to break and each pace, side by side: with those that fall silent it is waiting that takes the
/// time.
fn each(test: fn(Trick, &str)) {
    thread::scope(|scope| {
        for trick in BREAKS {
            PACES.into_iter().for_each(|pace| drop(scope.spawn(move || test(trick, pace))));
        }
    });
}

#[test]
fn a_message_at_whose_top_the_session_breaks_keeps_no_mail_away_from_the_first_poll() {
    each(|trick, pace| {
        for place in [0, 2, 4] {
            let (server, home) = filled(uid, 5, &format!("first_sync: 14d{pace}"));
            server.play(&uid(place), Some(trick));
            home.must(&["sync"], 0);
            assert_eq!(home.maildir("Mail").len(), 5, "{trick:?}{pace} at {place}");
        }
    });
}

#[test]
fn a_message_at_whose_top_the_session_breaks_can_be_marked() {
    each(|trick, pace| {
        let (server, home) = filled(uid, 4, &format!("first_sync: none{pace}"));
        server.play(&uid(1), Some(trick));
        home.must(&["sync"], 0);
        server.put("uid-4", mail(4));
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 1, "{trick:?}{pace}");
        server.play("uid-5", Some(trick));
        server.put("uid-5", mail(5));
        home.must(&["seen", "mark", "--all", "test"], 0);
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 1, "{trick:?}{pace}");
    });
}

#[test]
fn a_message_at_whose_top_the_session_breaks_keeps_no_new_mail_away_where_names_go_by_place() {
    each(|trick, pace| {
        let number = |i: usize| (i + 1).to_string();
        let (server, home) = filled(number, 4, &format!("keep: forever{pace}"));
        home.must(&["sync"], 0);
        server.play("4", Some(trick));
        server.put("5", mail(4));
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 5, "{trick:?}{pace}");
        let asked = tops(&server);
        server.put("6", mail(5));
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 6, "{trick:?}{pace}");
        assert!(tops(&server) <= asked + 2, "{trick:?}{pace}");
    });
}

#[test]
fn a_message_at_whose_top_the_session_breaks_keeps_no_deletion_from_being_real() {
    each(|trick, pace| {
        let (server, home) = filled(uid, 5, &format!("keep: forever{pace}"));
        home.must(&["sync"], 0);
        server.play("uid-1", Some(trick));
        rewrite(&home, "keep: forever", "keep: none");
        server.put("uid-5", mail(5));
        home.must(&["sync"], 0);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 6), "{trick:?}{pace}");
    });
}

#[test]
fn what_was_deleted_is_gone_before_the_top_at_which_the_session_broke_is_sent_again() {
    let (server, home) = filled(uid, 5, "keep: forever\npipelining: off");
    home.must(&["sync"], 0);
    server.play("uid-0", Some(Trick::CutAtTop));
    rewrite(&home, "keep: forever", "keep: none");
    home.must(&["sync"], 0);
    let events: Vec<_> = server.events().into_iter().map(|event| event.what).collect();
    let asked: Vec<usize> =
        (0..events.len()).filter(|at| events[*at] == What::Command("TOP 1 0".into())).collect();
    let gone = events.iter().position(|what| *what == What::Removed("uid-4".into())).unwrap();
    assert!(asked.len() == 2 && asked[0] < gone && gone < asked[1], "{asked:?} {gone} {events:#?}");
}

#[test]
fn a_server_that_breaks_at_every_top_is_taken_for_one_without_it() {
    each(|trick, pace| {
        let (server, home) = filled(uid, 8, &format!("keep: forever{pace}"));
        home.must(&["sync"], 0);
        (0..9).for_each(|i| server.play(&uid(i), Some(trick)));
        rewrite(&home, "keep: forever", "keep: none");
        home.must(&["sync"], 0);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 8), "{trick:?}{pace}");
        // It is remembered.
        let asked = tops(&server);
        rewrite(&home, "keep: none", "keep: forever");
        server.put("uid-8", mail(8));
        home.must(&["sync"], 0);
        rewrite(&home, "keep: forever", "keep: none");
        home.must(&["sync"], 0);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 9), "{trick:?}{pace}");
        assert_eq!(tops(&server), asked, "{trick:?}{pace}");
    });
}

#[test]
fn a_close_behind_lost_tops_is_learned_as_silence_is() {
    let (server, home) = filled(uid, 8, "keep: forever");
    home.must(&["sync"], 0);
    (0..12).for_each(|i| server.play(&uid(i), Some(Trick::CutBehindTop)));
    let delete = || {
        let before = server.count(|what| *what == What::LoggedIn);
        rewrite(&home, "keep: forever", "keep: none");
        home.must(&["sync"], 0);
        rewrite(&home, "keep: none", "keep: forever");
        server.count(|what| *what == What::LoggedIn) - before
    };
    // The third is for the message whose answer was lost first.
    assert_eq!((delete(), server.uids().len()), (3, 0));
    (8..12).for_each(|i| server.put(&uid(i), mail(i)));
    home.must(&["sync"], 0);
    assert_eq!((delete(), server.uids().len(), home.maildir("Mail").len()), (1, 0, 12));
}
