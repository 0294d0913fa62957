//! What is sent along with a log-in, before that is answered: servers that lose it, refuse it, or go away because of it;
//! proxies that show first their own capabilities and then those of the server behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use postrider::testing::session::WallClock;

use crate::support::dialogue::*;
use crate::support::maildrop::{Ahead, Lock, Maildrop, Protection, Settings, What};
use crate::support::poller::Poller;
use crate::utf8::announces_utf8;

const ANNOUNCED: &[&str] = &["TOP", "UIDL", "USER", "SASL PLAIN LOGIN", "PIPELINING"];
const LOG_INS: &[&str] = &["plain", "login", "user-pass"];
const DAY: i64 = 24 * 3600;

/// A server without TLS that announces all of this, and one who polls it by this way of logging in.
fn server(log_in: &str) -> (Maildrop, Poller, Arc<AtomicI64>) {
    let settings = Settings { tls: Protection::None, lock: Lock::Exclusive, ..Settings::default() };
    let server = Maildrop::start(settings);
    server.set_capabilities(ANNOUNCED, ANNOUNCED);
    let mut poller = Poller::new(server.port(), &format!("tls: none\nauth: [{log_in}]\ntimeout: 60s"));
    let clock = Arc::new(AtomicI64::new(1_800_000_000));
    poller.environment.clock = WallClock::Set(clock.clone());
    (server, poller, clock)
}

/// Polls so often, with a message more each time; all of it must come, and soon.
fn polls(server: &Maildrop, poller: &Poller, times: usize) {
    for _ in 0..times {
        let there = poller.maildir().len();
        server.put(&format!("uid-{there}"), mail(there));
        let began = Instant::now();
        poller.must();
        assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        assert_eq!(poller.maildir().len(), there + 1);
        rest(server);
    }
}

/// Waits until the server has no session: what we do not wait for may still hold the maildrop.
fn rest(server: &Maildrop) {
    server.wait_for(sessions(server), |what| *what == What::Closed);
}

/// Counts the sessions in which something came along with this command.
fn along(server: &Maildrop, command: &str) -> usize {
    server.count(|what| *what == What::Along(command.into()))
}

fn sessions(server: &Maildrop) -> usize {
    server.count(|what| *what == What::Connected)
}

/// The command that ends a log-in.
fn last_of(log_in: &str) -> &'static str {
    if log_in == "user-pass" { "PASS" } else { "AUTH" }
}

#[test]
fn a_server_that_takes_what_comes_along_with_a_log_in_gets_it_at_every_poll() {
    for log_in in LOG_INS {
        let (server, poller, _) = server(log_in);
        polls(&server, &poller, 4);
        assert_eq!(along(&server, last_of(log_in)), 4, "{log_in}");
        assert_eq!(along(&server, "USER"), if *log_in == "user-pass" { 3 } else { 0 });
        assert_eq!(sessions(&server), 4);
    }
}

#[test]
fn what_is_lost_behind_a_log_in_costs_a_second_once_and_no_second_session() {
    for log_in in LOG_INS {
        for fate in [Ahead::Lost, Ahead::Refused] {
            let (server, poller, _) = server(log_in);
            server.set_ahead(Ahead::Taken, fate);
            polls(&server, &poller, 5);
            assert_eq!(along(&server, last_of(log_in)), 1, "{log_in}, {fate:?}");
            assert_eq!(sessions(&server), 5, "{log_in}, {fate:?}");
        }
    }
}

#[test]
fn a_server_that_goes_when_something_comes_along_with_a_log_in_is_polled_all_the_same() {
    for log_in in LOG_INS {
        for fate in [Ahead::Closed, Ahead::Reset] {
            let (server, poller, _) = server(log_in);
            server.set_ahead(Ahead::Taken, fate);
            polls(&server, &poller, 5);
            assert_eq!(along(&server, last_of(log_in)), 1, "{log_in}, {fate:?}");
            assert_eq!(sessions(&server), 6, "{log_in}, {fate:?}");
        }
    }
}

#[test]
fn each_way_of_logging_in_is_tried_for_itself() {
    let (server, mut poller, _) = server("plain");
    server.set_ahead(Ahead::Taken, Ahead::Lost);
    polls(&server, &poller, 2);
    let other = Poller::new(server.port(), "tls: none\nauth: [login]").account.auth;
    poller.account.auth = other;
    server.set_ahead(Ahead::Taken, Ahead::Taken);
    polls(&server, &poller, 2);
    assert_eq!(along(&server, "AUTH"), 3);
}

#[test]
fn answers_that_are_late_are_not_taken_for_others_and_the_server_for_none_that_loses_them() {
    for log_in in LOG_INS {
        let (server, poller, _) = server(log_in);
        server.set_ahead(Ahead::Taken, Ahead::Late(Duration::from_millis(1500)));
        polls(&server, &poller, 3);
        assert_eq!((along(&server, last_of(log_in)), sessions(&server)), (3, 3), "{log_in}");
    }
}

#[test]
fn a_log_in_that_takes_long_gives_what_comes_along_with_it_as_much_more_time() {
    let (server, poller, _) = server("user-pass");
    // Each answer takes three seconds, that to PASS included: twenty-four are given to what follows.
    server.set_delay(Duration::from_secs(3));
    poller.must();
    rest(&server);
    poller.must();
    assert_eq!((along(&server, "USER"), along(&server, "PASS")), (1, 2));
    assert_eq!(sessions(&server), 2);
}

#[test]
fn pass_is_sent_along_with_user_only_where_it_is_not_lost() {
    let (server, poller, _) = server("user-pass");
    server.set_ahead(Ahead::Lost, Ahead::Taken);
    polls(&server, &poller, 5);
    assert_eq!((along(&server, "USER"), along(&server, "PASS")), (1, 5));
    assert_eq!(sessions(&server), 6);
}

#[test]
fn a_server_that_loses_all_of_it_is_found_out_within_two_polls() {
    let (server, poller, _) = server("user-pass");
    server.set_ahead(Ahead::Lost, Ahead::Lost);
    polls(&server, &poller, 5);
    assert_eq!((along(&server, "USER"), along(&server, "PASS")), (1, 1));
}

#[test]
fn what_a_server_was_seen_to_take_and_takes_no_more_is_sent_no_more() {
    for fate in [Ahead::Lost, Ahead::Refused] {
        let (server, mut poller, _) = server("plain");
        poller.account.timeout = Duration::from_secs(2);
        polls(&server, &poller, 2);
        server.set_ahead(Ahead::Taken, fate);
        polls(&server, &poller, 3);
        assert_eq!(along(&server, "AUTH"), 3, "{fate:?}");
    }
    for fate in [Ahead::Closed, Ahead::Reset] {
        let (server, poller, _) = server("plain");
        polls(&server, &poller, 2);
        // This may be a server that is being restarted, so one poll fails; the next tries what it takes.
        server.set_ahead(Ahead::Taken, fate);
        assert!(poller.poll().failure.is_some());
        rest(&server);
        polls(&server, &poller, 3);
        assert_eq!(along(&server, "AUTH"), 4, "{fate:?}");
    }
}

#[test]
fn something_between_that_closes_before_the_time_limit_does_not_keep_a_server_from_being_found_out() {
    let known = "!tls\nS: +OK\nC: AUTH PLAIN *\nC: UIDL\nC: LIST\nS: +OK\n!cut";
    let again =
        format!("{ASKED}C: AUTH PLAIN *\nS: +OK\n{ASKED_AFTER}C: UIDL\nC: LIST\n{ONE_LISTED}{GOODBYE}");
    let alone = format!("!tls\nS: +OK\nC: AUTH PLAIN *\nS: +OK\nC: UIDL\nC: LIST\n{ONE_LISTED}{GOODBYE}");
    let first = [LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE];
    let (server, home) = scripted(&[&first, &[known], &[&again], &[&alone]], "");
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}

#[test]
fn what_was_lost_is_tried_again_when_the_server_shows_other_capabilities() {
    let (server, poller, clock) = server("plain");
    server.set_ahead(Ahead::Taken, Ahead::Lost);
    polls(&server, &poller, 2);
    server.set_ahead(Ahead::Taken, Ahead::Taken);
    server.set_capabilities(&[ANNOUNCED, &["IMPLEMENTATION other"]].concat(), ANNOUNCED);
    // The capabilities are asked for once a day, and the first wait is as long.
    clock.fetch_add(DAY - 60, Relaxed);
    polls(&server, &poller, 1);
    assert_eq!(along(&server, "AUTH"), 1);
    clock.fetch_add(120, Relaxed);
    polls(&server, &poller, 3);
    assert_eq!(along(&server, "AUTH"), 4);
}

#[test]
fn what_is_lost_is_tried_again_more_and_more_rarely() {
    let (server, poller, clock) = server("plain");
    server.set_ahead(Ahead::Taken, Ahead::Lost);
    let mut tried = Vec::new();
    for day in 0..40 {
        let before = along(&server, "AUTH");
        poller.must();
        rest(&server);
        if along(&server, "AUTH") > before {
            tried.push(day);
        }
        clock.fetch_add(DAY, Relaxed);
    }
    assert_eq!(tried, [0, 1, 3, 7, 15, 31]);
}

#[test]
fn a_look_tries_nothing_and_uses_what_is_known() {
    let (server, home) = honest(Settings::default(), "");
    home.must(&["check"], 1);
    assert_eq!(along(&server, "AUTH"), 0);
    home.must(&["sync"], 0);
    home.must(&["check"], 1);
    assert_eq!(along(&server, "AUTH"), 2);
}

#[test]
fn a_proxy_is_not_pipelined_to_on_the_word_of_the_server_behind_it() {
    // As perdition is: it announces no PIPELINING, and hangs when PASS comes along with USER.
    let before = &["USER", "UIDL", "TOP"];
    let (server, poller, _) = server("user-pass");
    server.set_capabilities(before, ANNOUNCED);
    server.set_ahead(Ahead::Lost, Ahead::Lost);
    polls(&server, &poller, 3);
    assert_eq!((along(&server, "USER"), along(&server, "PASS"), sessions(&server)), (0, 0, 3));
    assert!(
        server.count(|what| *what == What::Pipelined) > 0,
        "the server behind it takes UIDL and LIST at once"
    );
}

#[test]
fn the_server_behind_a_proxy_is_not_pipelined_to_on_the_proxy_s_word() {
    let after = &["USER", "UIDL", "TOP"];
    let (server, poller, _) = server("plain");
    server.set_capabilities(ANNOUNCED, after);
    polls(&server, &poller, 3);
    // NOOP and CAPA, at the first poll, are all.
    assert_eq!(server.count(|what| *what == What::Pipelined), 2);
}

#[test]
fn what_is_known_of_a_server_is_not_believed_of_another() {
    let (server, mut poller, _) = server("plain");
    polls(&server, &poller, 2);
    let settings = Settings { tls: Protection::None, ..Settings::default() };
    let other = Maildrop::start(settings);
    other.set_capabilities(&["SASL LOGIN PLAIN", "UIDL"], &["UIDL"]);
    poller.account.port = other.port();
    poller.must();
    assert_eq!(other.count(|what| *what == What::Command("CAPA".into())), 2);
    assert_eq!(other.count(|what| *what == What::Pipelined), 0);
}

#[test]
fn a_server_that_loses_what_comes_along_takes_seven_round_trips_at_first_and_five_then() {
    let at_first = format!(
        "{ASKED}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: +OK\n{ASKED_AFTER}C: UIDL\nC: LIST\n!flight 5\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
    );
    let known =
        format!("!tls\nS: +OK\nC: AUTH PLAIN *\nS: +OK\nC: UIDL\nC: LIST\n!flight 3\n{ONE_LISTED}{GOODBYE}");
    let (server, home) = scripted(&[&[&at_first], &[&known], &[&known]], "");
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}

#[test]
fn a_server_that_falls_silent_for_good_costs_two_seconds_and_another_session() {
    let stalls = format!("{ASKED}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: +OK\n!stall");
    let again = format!(
        "{ASKED}C: AUTH PLAIN *\nS: +OK\n{ASKED_AFTER}C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
    );
    let known = format!("!tls\nS: +OK\nC: AUTH PLAIN *\nS: +OK\nC: UIDL\nC: LIST\n{ONE_LISTED}{GOODBYE}");
    let (server, home) = scripted(&[&[&stalls], &[&again], &[&known]], "");
    for _ in 0..2 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}

#[test]
fn a_log_in_refused_with_something_along_goes_alone_next_time() {
    // This server takes NOOP for the answer to a challenge of its own.
    let asks = format!("{ASKED}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: +\nS: -ERR\n!expect-close");
    let refuses =
        format!("{ASKED}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: -ERR [SYS/TEMP] later\n!expect-close");
    let alone = format!(
        "{ASKED}C: AUTH PLAIN *\nS: +\nC: *\nS: +OK\n{ASKED_AFTER}C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
    );
    let (server, home) = scripted(&[&[&refuses], &[&asks], &[&alone]], "");
    home.must(&["sync"], 75);
    home.must(&["sync", "--force"], 0);
    server.finish();
}

#[test]
fn a_server_that_refuses_to_bind_scram_to_the_channel_is_asked_in_the_next_way_and_remembered() {
    // As Cyrus does, which means a kind of binding that TLS 1.3 has no more.
    let announces = ASKED.replace("SASL PLAIN", "SASL SCRAM-SHA-256-PLUS PLAIN");
    let bound = "C: AUTH SCRAM-SHA-256-PLUS *\nS: -ERR [AUTH] authenticating: bad protocol / cancel\n";
    let at_first = format!(
        "{announces}{bound}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: +OK\nS: +OK\nS: +OK\nS: PIPELINING\nS: .\n"
    );
    let at_first = format!("{at_first}C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}");
    let (server, home) = scripted(&[&[&at_first], &[KNOWN_LOG_IN, ONE_LISTED, GOODBYE]], "");
    for _ in 0..2 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
    // A wrong password is one whatever carries it, and the first refusal is told.
    let wrong = format!(
        "{announces}{bound}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: -ERR no\nS: -ERR\nS: -ERR\n!expect-close"
    );
    let gone = format!("{announces}{bound}!cut");
    for refuses in [wrong, gone] {
        let (server, home) = scripted(&[&[&refuses]], "");
        let ended = home.must(&["sync"], 77);
        assert!(ended.stderr.contains("bad protocol"), "{}", ended.stderr);
        server.finish();
    }
}

#[test]
fn a_server_that_takes_auth_alone_gets_what_it_refused_along_with_it_in_a_second_step() {
    let announces = "!tls\nS: +OK\nC: CAPA\nS: +OK\nS: PIPELINING\nS: SASL PLAIN\nS: UIDL\nS: .\n";
    // What went along with the refused one is refused, or answered before the log-in.
    let along = "C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: -ERR Syntax: AUTH takes one argument\nS: -ERR\nS: +OK\nS: UIDL\nS: .\n";
    let second = "C: AUTH PLAIN\nS: +\nC: *\nS: +OK\n";
    let script = format!(
        "{announces}{along}{second}{ASKED_AFTER}C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
    );
    let (server, home) = scripted(&[&[&script]], "");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    server.finish();
    // A word on who logs in is none on the form.
    let wrong = format!(
        "{announces}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: -ERR [AUTH] bad argument\nS: -ERR\nS: -ERR\n!expect-close"
    );
    let (server, home) = scripted(&[&[&wrong]], "");
    home.must(&["sync"], 77);
    server.finish();
}

#[test]
fn a_pass_refused_along_with_user_is_sent_again_at_once() {
    let capabilities = "S: +OK\nS: USER\nS: UIDL\nS: PIPELINING\nS: .\n";
    let asked = format!("!tls\nS: +OK\nC: CAPA\n{capabilities}");
    let lockstep = format!(
        "{asked}C: USER alice\nS: +OK\nC: PASS correct horse\nC: NOOP\nC: CAPA\nS: +OK\nS: +OK\n{capabilities}\
         C: UIDL\nC: LIST\n{ONE_LISTED}"
    );
    let at_first = format!("{lockstep}{ONE_RETRIEVED}{GOODBYE}");
    let refused = format!(
        "!tls\nS: +OK\nC: USER alice\nC: PASS correct horse\nC: UIDL\nC: LIST\nS: +OK\n\
         S: -ERR what?\nS: -ERR what?\nS: -ERR what?\nC: CAPA\n{capabilities}!expect-close"
    );
    let again = format!("{lockstep}{GOODBYE}");
    let known = format!(
        "!tls\nS: +OK\nC: USER alice\nS: +OK\nC: PASS correct horse\nC: UIDL\nC: LIST\nS: +OK\n{ONE_LISTED}{GOODBYE}"
    );
    let (server, home) = scripted(&[&[&at_first], &[&refused], &[&again], &[&known]], "auth: [user-pass]");
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}

#[test]
fn an_optional_command_that_is_answered_with_a_line_too_many_is_left_out_and_remembered() {
    let announces = announces_utf8("");
    let plain = "C: USER alice\nS: +OK\nC: PASS correct horse\nS: +OK\n";
    let listed = format!("C: UIDL\nC: LIST\n{ONE_LISTED}");
    let utf8 = format!("{announces}{plain}{ASKED_AFTER}{listed}{ONE_RETRIEVED}{GOODBYE}");
    let lockstep = "C: UIDL\nS: +OK\nS: 1 uid-1\nS: .\nC: LIST\nS: +OK\nS: 1 36\nS: .\n";
    let capa = format!("!tls\nS: +OK\n{plain}{lockstep}");
    for (says_more, without, known) in [
        // At once, and late.
        ("C: UTF8\nS- +OK\\r\\n+OK more\\r\\n\n", &utf8, format!("!tls\nS: +OK\n{plain}{listed}{GOODBYE}")),
        (
            "C: UTF8\nS: +OK\nC: USER alice\nS- +OK more\\r\\n+OK\\r\\n\n",
            &utf8,
            format!("!tls\nS: +OK\n{plain}{listed}{GOODBYE}"),
        ),
        (
            "!tls\nS: +OK\nC: CAPA\nS- +OK\\r\\nUIDL\\r\\n.\\r\\n+OK\\r\\n\n",
            &format!("{capa}{ONE_RETRIEVED}{GOODBYE}"),
            format!("{capa}{GOODBYE}"),
        ),
    ] {
        let begins = if says_more.starts_with('!') { "" } else { &announces };
        let more = format!("{begins}{says_more}!expect-close");
        let (server, home) = scripted(&[&[&more], &[without], &[&known]], "");
        for _ in 0..2 {
            assert_eq!(home.must(&["sync"], 0).stderr, "", "{says_more}");
        }
        server.finish();
    }
}

#[test]
fn what_is_refused_only_when_it_is_sent_together_is_asked_one_by_one_and_remembered() {
    let uidl = "S: +OK\nS: 1 uid-1\nS: .\n";
    let list = "S: +OK\nS: 1 36\nS: .\n";
    let one_by_one = format!("C: UIDL\n{uidl}C: LIST\n{list}");
    let refuses = "S: -ERR one at a time\n";
    for together in [
        format!("{uidl}{refuses}"),
        format!("{refuses}{list}"),
        format!("{refuses}{refuses}C: STAT\nS: +OK 1 36\n"),
    ] {
        let known = format!("!tls\nS: +OK\nC: AUTH PLAIN *\nS: +OK\n{one_by_one}");
        let (server, home) = scripted(
            &[
                &[LOG_IN, &together, &one_by_one, ONE_RETRIEVED, GOODBYE],
                &[&known, GOODBYE],
                &[&known, GOODBYE],
            ],
            "",
        );
        for _ in 0..3 {
            assert_eq!(home.must(&["sync"], 0).stderr, "", "{together}");
        }
        server.finish();
    }
}

#[test]
fn an_empty_maildrop_that_refuses_to_be_listed_is_empty() {
    let refusals = [
        "S: -ERR no messages\nS: -ERR no messages",
        "S: -ERR [SYS/TEMP] nothing here\nS: +OK\nS: .",
        "S: +OK\nS: .\nS: -ERR nothing",
    ];
    for refusal in refusals {
        for stat in ["S: +OK 0 0", "S: +OK  0"] {
            let (server, home) = scripted(
                &[
                    &[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE],
                    &[KNOWN_LOG_IN, refusal, "\nC: STAT\n", stat, "\n", GOODBYE],
                    // It is back after a listing without it, so it is looked at.
                    &[KNOWN_LOG_IN, ONE_LISTED, ONE_ASKED, GOODBYE],
                ],
                "",
            );
            for _ in 0..3 {
                assert_eq!(home.must(&["sync"], 0).stderr, "");
            }
            server.finish();
            assert_eq!(home.maildir("Mail").len(), 1);
        }
    }
}

#[test]
fn a_maildrop_that_is_not_empty_and_refuses_to_be_listed_is_a_failure() {
    for stat in ["S: +OK 2 300", "S: +OK -1 0", "S: +OK", "S: -ERR"] {
        let refuses = "S: -ERR no\nS: -ERR no\nC: STAT\n";
        let again = "\nC: UIDL\nS: -ERR no\nC: LIST\nS: -ERR no\n!expect-close";
        let (server, home) = scripted(
            &[&[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE], &[KNOWN_LOG_IN, refuses, stat, again]],
            "",
        );
        home.must(&["sync"], 0);
        let ended = home.must(&["sync"], 75);
        server.finish();
        assert!(ended.stderr.contains("(LIST): refused"), "{}", ended.stderr);
    }
}

#[test]
fn a_refused_listing_is_told_whatever_comes_of_the_connection() {
    for went in ["S: -ERR no\n!cut", "S: -ERR no\nS: -ERR no\n!cut", "S: -ERR no\nS: -ERR no\nC: STAT\n!cut"]
    {
        let (server, home) =
            scripted(&[&[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE], &[KNOWN_LOG_IN, went]], "");
        home.must(&["sync"], 0);
        let said = home.must(&["sync"], 75).stderr;
        assert!(said.contains(": refused\n  server: no"), "{went}: {said}");
        server.finish();
    }
}

#[test]
fn a_password_that_does_not_come_in_time_may_come_later() {
    let (server, home) = honest(Settings::default(), "");
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("correct horse", "{ command: sleep 60 }").replace("3s", "1s"));
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("gave up after 1s waiting for the password command sleep"), "{said}");
    assert_eq!(server.count(|what| *what == What::LoggedIn), 0);
}
