//! UTF8 and LANG before a log-in (RFC 6856): servers that lose them, refuse them, or go away because of them.

use crate::support::dialogue::*;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::Running;

/// Before the log-in: a server that announces UTF8, and this.
pub fn announces_utf8(more: &str) -> String {
    format!("!tls\nS: +OK\nC: CAPA\nS: +OK\nS: UTF8 USER\nS: USER\nS: UIDL\n{more}S: .\n")
}

#[test]
fn utf8_is_said_wherever_it_is_announced_and_a_refusal_means_nothing() {
    let listed = format!("{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}");
    for answer in ["+OK", "-ERR no", "-ERR [AUTH] no"] {
        let lockstep =
            format!("C: UTF8\nS: {answer}\nC: USER alice\nS: +OK\nC: PASS correct horse\nS: +OK\n");
        let at_first = format!("{}{lockstep}{ASKED_AFTER}C: UIDL\nC: LIST\n{listed}", announces_utf8(""));
        let known = format!("!tls\nS: +OK\n{lockstep}C: UIDL\nC: LIST\n{ONE_LISTED}{GOODBYE}");
        let (server, home) = scripted(&[&[&at_first], &[&known]], "auth: [user-pass]");
        assert_eq!(home.must(&["sync"], 0).stderr, "");
        assert_eq!(home.must(&["sync"], 0).stderr, "");
        server.finish();
    }
}

#[test]
fn utf8_costs_no_round_trip_where_commands_may_be_sent_ahead() {
    for answer in ["+OK", "-ERR no"] {
        let announces = announces_utf8("S: PIPELINING\nS: SASL PLAIN\n");
        let at_first = format!(
            "{announces}C: UTF8\nC: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: {answer}\nS: +OK\nS: +OK\nS: +OK\nS: PIPELINING\nS: .\n\
             C: UIDL\nC: LIST\n!flight 4\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
        );
        let known = format!(
            "!tls\nS: +OK\nC: UTF8\nC: AUTH PLAIN *\nC: UIDL\nC: LIST\nS: {answer}\nS: +OK\n!flight 2\n{ONE_LISTED}{GOODBYE}"
        );
        let (server, home) = scripted(&[&[&at_first], &[&known], &[&known]], "");
        for _ in 0..3 {
            assert_eq!(home.must(&["sync"], 0).stderr, "");
        }
        server.finish();
    }
}

/// Syncs as somebody whose messages are in this language.
fn speaking(home: &Home, locale: &str) -> String {
    let mut command = home.command(&["sync"]);
    let ended = Running::start(command.env("LC_ALL", locale)).wait(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn the_users_language_is_chosen_where_lang_is_announced_and_a_refusal_means_nothing() {
    let listed = format!("{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}");
    for (answer, locale, lang) in [
        ("+OK de Jawohl", "de_CH.UTF-8", "C: LANG de-CH\nS: +OK de Jawohl\n"),
        ("-ERR no", "pt_BR", "C: LANG pt-BR\nS: -ERR no\n"),
        ("", "C.UTF-8", ""),
    ] {
        let log_in = "C: USER alice\nS: +OK\nC: PASS correct horse\nS: +OK\n";
        let lockstep = format!("C: UTF8\nS: +OK\n{lang}{log_in}");
        let announces = announces_utf8("S: LANG\n");
        let at_first = format!("{announces}{lockstep}{ASKED_AFTER}C: UIDL\nC: LIST\n{listed}");
        let (server, home) = scripted(&[&[&at_first]], "auth: [user-pass]");
        assert_eq!(speaking(&home, locale), "");
        server.finish();
        if answer.is_empty() {
            continue;
        }
        // It costs no round trip where commands may be sent ahead.
        let announces = announces_utf8("S: LANG\nS: PIPELINING\nS: SASL PLAIN\n");
        let said = lang.split_once('\n').unwrap().0;
        let at_first = format!(
            "{announces}C: UTF8\n{said}\nC: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: +OK\nS: {answer}\nS: +OK\nS: +OK\nS: +OK\n\
             S: PIPELINING\nS: .\nC: UIDL\nC: LIST\n!flight 4\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
        );
        let known = format!(
            "!tls\nS: +OK\nC: UTF8\n{said}\nC: AUTH PLAIN *\nC: UIDL\nC: LIST\nS: +OK\nS: {answer}\nS: +OK\n!flight 2\n\
             {ONE_LISTED}{GOODBYE}"
        );
        let (server, home) = scripted(&[&[&at_first], &[&known]], "");
        assert_eq!(speaking(&home, locale) + &speaking(&home, locale), "");
        server.finish();
    }
}

#[test]
fn a_server_that_goes_at_lang_is_polled_without_from_then_on() {
    let goes = format!("{}C: UTF8\nS: +OK\nC: LANG de\n!cut", announces_utf8("S: LANG\n"));
    let without = "C: UTF8\nS: +OK\nC: USER alice\nS: +OK\nC: PASS correct horse\nS: +OK\n";
    let (ask, list) = (announces_utf8("S: LANG\n"), format!("C: UIDL\nC: LIST\n{ONE_LISTED}"));
    let second = format!("{ask}{without}{ASKED_AFTER}{list}{ONE_RETRIEVED}{GOODBYE}");
    let third = format!("!tls\nS: +OK\n{without}{list}{GOODBYE}");
    let (server, home) = scripted(&[&[&goes], &[&second], &[&third]], "auth: [user-pass]");
    speaking(&home, "de");
    assert_eq!(speaking(&home, "de"), "");
    server.finish();
}

#[test]
fn a_user_whose_name_is_not_ascii_logs_in_behind_utf8() {
    let log_in = "C: UTF8\nS: +OK\nC: USER b\u{f8}rn\nS: +OK\nC: PASS correct horse\nS: +OK\n";
    let listed = format!("{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}");
    let script = format!("{}{log_in}{ASKED_AFTER}C: UIDL\nC: LIST\n{listed}", announces_utf8(""));
    let (server, home) = scripted(&[&[&script]], "auth: [user-pass]");
    let configured = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&configured.replace("user: alice", "user: b\u{f8}rn"));
    home.must(&["sync"], 0);
    server.finish();
}

#[test]
fn a_server_that_goes_at_utf8_although_it_announces_it_is_polled_without() {
    let announces = announces_utf8("");
    let goes = format!("{announces}C: UTF8\n!cut");
    let log_in = "C: USER alice\nS: +OK\nC: PASS correct horse\nS: +OK\n";
    let without =
        format!("{announces}{log_in}{ASKED_AFTER}C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}");
    let known = format!("!tls\nS: +OK\n{log_in}C: UIDL\nC: LIST\n{ONE_LISTED}{GOODBYE}");
    let (server, home) = scripted(&[&[&goes], &[&without], &[&known]], "");
    for _ in 0..2 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}

/// A log-in of one step behind UTF8, as a server gets it that is not known.
const ALONG: &str = "C: UTF8\nC: AUTH PLAIN *\nC: NOOP\nC: CAPA\n";

/// The same that waits for the answer to UTF8.
const LOCKSTEP: &str = "C: UTF8\nS: +OK\nC: AUTH PLAIN *\nC: NOOP\nC: CAPA\n";

fn pipelined_utf8() -> String {
    announces_utf8("S: PIPELINING\nS: SASL PLAIN\n")
}

#[test]
fn a_server_that_goes_at_utf8_is_found_out_in_one_poll_where_the_log_in_goes_along_with_it() {
    let announces = pipelined_utf8();
    let goes = format!("{announces}{ALONG}!cut");
    let goes_again = format!("{announces}C: UTF8\n!cut");
    let without = format!(
        "{announces}C: AUTH PLAIN *\nC: NOOP\nC: CAPA\nS: +OK\nS: +OK\nS: +OK\nS: PIPELINING\nS: .\n\
         C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
    );
    let known = format!("!tls\nS: +OK\nC: AUTH PLAIN *\nC: UIDL\nC: LIST\nS: +OK\n{ONE_LISTED}{GOODBYE}");
    let (server, home) = scripted(&[&[&goes], &[&goes_again], &[&without], &[&known]], "");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    server.finish();
}

#[test]
fn a_server_that_loses_what_comes_behind_utf8_is_found_out_in_one_poll_and_hears_utf8_alone() {
    for loses in ["!cut", "!stall", "S: -ERR Unrecognized command\n!expect-close"] {
        let announces = pipelined_utf8();
        let lost = format!("{announces}{ALONG}S: +OK\n{loses}");
        let lockstep = format!(
            "{announces}{LOCKSTEP}S: +OK\nS: +OK\nS: +OK\nS: PIPELINING\nS: .\n\
             C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
        );
        let known = format!(
            "!tls\nS: +OK\nC: UTF8\nS: +OK\nC: AUTH PLAIN *\nC: UIDL\nC: LIST\nS: +OK\n{ONE_LISTED}{GOODBYE}"
        );
        let (server, home) = scripted(&[&[&lost], &[&lockstep], &[&known]], "");
        assert_eq!(home.must(&["sync"], 0).stderr, "", "{loses}");
        assert_eq!(home.must(&["sync"], 0).stderr, "", "{loses}");
        server.finish();
    }
}

#[test]
fn a_wrong_password_behind_utf8_is_refused_twice_and_no_more() {
    let announces = pipelined_utf8();
    let along = format!("{announces}{ALONG}S: +OK\nS: -ERR wrong\n!expect-close");
    let lockstep = format!("{announces}{LOCKSTEP}S: -ERR wrong\n!expect-close");
    let (server, home) = scripted(&[&[&along], &[&lockstep]], "");
    let said = home.must(&["sync"], 77).stderr;
    assert!(said.contains("no further unattended attempt"), "{said}");
    home.must(&["sync"], 77);
    server.finish();
}

#[test]
fn a_line_too_many_in_answer_to_utf8_is_found_where_the_log_in_goes_along_with_it() {
    let announces = pipelined_utf8();
    // Each answer stands in the place of the next one, up to a listing.
    let along = format!(
        "{announces}{ALONG}S: +OK\nS: +OK more\nS: +OK\nS: +OK\nS: +OK\nS: PIPELINING\nS: .\n!expect-close"
    );
    let alone =
        format!("{announces}C: UTF8\nC: AUTH PLAIN *\nS- +OK\\r\\n+OK more\\r\\n+OK\\r\\n\n!expect-close");
    let without = format!(
        "{announces}C: AUTH PLAIN *\nS: +OK\n{ASKED_AFTER}C: UIDL\nC: LIST\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}"
    );
    let known = format!("!tls\nS: +OK\nC: AUTH PLAIN *\nS: +OK\nC: UIDL\nC: LIST\n{ONE_LISTED}{GOODBYE}");
    let (server, home) = scripted(&[&[&along], &[&alone], &[&without], &[&known]], "");
    for _ in 0..2 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}
