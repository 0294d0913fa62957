//! What the program says to a server, and what it makes of the server's answers: transcripts that must be kept to the
//! letter, and servers that lie, stall and forget.

use std::time::{Duration, Instant};

use crate::support::dialogue::*;
use crate::support::maildrop::{Settings, What};

#[test]
fn an_idle_poll_takes_six_round_trips_at_first_and_four_once_the_server_is_known() {
    // A flight is one wait for an answer before the client goes on, the handshake of TLS 1.3 included. With the one of
    // TCP and the way of the last answer back it makes two round trips more.
    let at_first = format!("{LOG_IN}\n!flight 4\n{ONE_LISTED}{ONE_RETRIEVED}{GOODBYE}");
    let known = format!("{KNOWN_LOG_IN}\n!flight 2\n{ONE_LISTED}{GOODBYE}");
    let (server, home) = scripted(&[&[&at_first], &[&known]], "");
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    server.finish();
    assert_eq!(home.maildir("Mail"), [ONE.to_vec()]);
}

#[test]
fn messages_are_asked_for_ahead_and_deleted_while_others_come_in() {
    let (server, home) = honest(Settings::default(), "keep: none");
    let large = [b"A: b\r\n\r\n".as_slice(), &b"0123456789abcdef\r\n".repeat(100_000)].concat();
    for i in 0..60 {
        server.put(&format!("uid-{i}"), large.clone());
    }
    home.must(&["sync"], 0);
    let events = server.events();
    let place = |wanted: &dyn Fn(&What) -> bool| events.iter().position(|event| wanted(&event.what));
    let first_dele = place(&|what| matches!(what, What::Marked(_))).expect("a deletion");
    let last_sent = events.iter().rposition(|event| matches!(event.what, What::Sent(_))).expect("a message");
    assert!(first_dele < last_sent, "the first DELE came after the last message");
    assert!(server.count(|what| *what == What::Pipelined) > 30);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 60));
}

#[test]
fn without_pipelining_each_command_waits_for_its_answer() {
    let (server, home) = honest(Settings::default().without("PIPELINING"), "keep: none");
    (0..5).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    assert_eq!(server.count(|what| *what == What::Pipelined), 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 5));
}

#[test]
fn the_first_octet_of_a_forged_answer_before_the_handshake_ends_the_session() {
    let script = "S: +OK ready\nC: STLS\nS- +OK begin\\r\\n+OK forged\\r\\n\n!expect-close";
    let (server, home) = scripted(&[&[script]], "tls: starttls");
    let ended = home.must(&["sync"], 75);
    server.finish();
    assert!(ended.stderr.contains("before the handshake"), "{}", ended.stderr);
}

#[test]
fn a_server_that_refuses_stls_never_hears_a_password() {
    let script = "S: +OK ready\nC: STLS\nS: -ERR what?\n!expect-close";
    let (server, home) = scripted(&[&[script]], "tls: starttls");
    let ended = home.must(&["sync"], 75);
    server.finish();
    assert!(ended.stderr.contains("ask for TLS (STLS): refused"), "{}", ended.stderr);
    assert!(ended.stderr.contains("what?"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: this port has no TLS by STLS"), "{}", ended.stderr);
}

#[test]
fn a_server_that_loses_step_is_polled_again_in_lockstep_and_remembered() {
    let breaks = format!("{KNOWN_LOG_IN}\nS: hello?\n!expect-close");
    let listing = "C: UIDL\nS: +OK\nS: .\nC: LIST\nS: +OK\nS: .\n";
    let lockstep = format!("!tls\nS: +OK ready\nC: AUTH PLAIN *\nS: +OK\n{listing}");
    // What is known is asked for again where something was not as expected.
    let asked = format!("{ASKED}C: AUTH PLAIN *\nS: +OK\n{ASKED_AFTER}{listing}");
    let (server, home) = scripted(
        &[
            &[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE],
            // Behind the log-in first, then at all.
            &[&breaks],
            &[&asked.replace(listing, "C: UIDL\nC: LIST\nS: +OK\nS: hello?\n!expect-close")],
            &[&asked, GOODBYE],
            &[&lockstep, GOODBYE],
        ],
        "",
    );
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    server.finish();
}

#[test]
fn a_server_that_capa_drives_away_is_asked_without_and_remembered() {
    let drops = "!tls\nS: +OK\nC: CAPA\n!cut";
    let without = "
        !tls
        S: +OK
        C: USER alice
        S: +OK
        C: PASS correct horse
        S: +OK
        C: UIDL
        S: +OK
        S: .
        C: LIST
        S: +OK
        S: .
        C: QUIT
    ";
    let (server, home) = scripted(&[&[drops], &[without], &[without]], "");
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    server.finish();
}

#[test]
fn refused_credentials_are_not_tried_again_until_they_change() {
    let refuses = "
        !tls
        S: +OK
        C: CAPA
        S: +OK
        S: SASL PLAIN
        S: .
        C: AUTH PLAIN *
        S: -ERR [AUTH] Authentication failed.
        !expect-close
    ";
    let (server, home) = scripted(&[&[refuses], &[refuses]], "");
    let ended = home.must(&["sync"], 77);
    assert!(ended.stderr.contains("server: [AUTH] Authentication failed."), "{}", ended.stderr);
    assert_eq!(home.must(&["sync"], 77).stderr, "", "a failure that lasts is no news");
    let ended = home.must(&["sync", "-v"], 77);
    assert!(ended.stderr.contains("not tried"), "{}", ended.stderr);
    // Another password is another attempt.
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("correct horse", "battery staple"));
    home.must(&["sync"], 77);
    server.finish();
}

#[test]
fn a_refusal_that_was_read_counts_whatever_comes_of_the_connection() {
    let refusal = "-ERR Invalid login or password";
    // nginx hangs up at once; others when something more is said, with the answers to what was sent ahead unsaid.
    for end in ["!cut", "!cut rst", "S: -ERR\nS: -ERR\nC: CAPA\n!cut rst", "!stall"] {
        let accepted = KNOWN_LOG_IN.strip_suffix("    S: +OK\n").expect("the log-in ends with its answer");
        let refuses = format!("{accepted}S: {refusal}\n{end}");
        let (server, home) = scripted(&[&[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE], &[&refuses]], "");
        home.must(&["sync"], 0);
        // Credentials that worked within the day are not wrong at once.
        let ended = home.must(&["sync"], 75);
        assert!(ended.stderr.contains("worked within the last day"), "{}", ended.stderr);
        assert!(ended.stderr.contains("refused") && ended.stderr.contains(&refusal[5..]), "{}", ended.stderr);
        server.finish();
    }
}

#[test]
fn a_password_is_never_sent_without_tls_unless_a_list_says_so() {
    let plain = "
        S: +OK
        C: CAPA
        S: +OK
        S: USER
        S: SASL PLAIN CRAM-MD5
        S: UIDL
        S: .
        C: USER alice
        S: +OK
        C: PASS correct horse
        S: +OK
        C: CAPA
        S: +OK
        S: .
        C: UIDL
        S: +OK
        S: .
        C: LIST
        S: +OK
        S: .
        C: QUIT
    ";
    let (server, home) = scripted(&[&[plain]], "tls: none\nauth: [user-pass]");
    home.must(&["sync"], 0);
    server.finish();
}

#[test]
fn a_silent_server_is_given_up_after_the_time_limit() {
    let (server, home) = scripted(&[&["!tls\n!stall"]], "");
    let began = Instant::now();
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("gave up after 3s waiting for the greeting"), "{}", ended.stderr);
    assert!(began.elapsed() < Duration::from_secs(10));
    server.finish();
}

#[test]
fn a_message_that_ended_too_early_is_neither_delivered_nor_deleted() {
    // The server does not byte-stuff: a line of one dot in the content looks like the end.
    let listing = "
        S: +OK
        S: 1 uid-1
        S: 2 uid-2
        S: .
        S: +OK
        S: 1 100
        S: 2 14
        S: .
        C: RETR 1
        C: RETR 2
        S: +OK
        S: A: b
        S:
        S: .
        S: rest of the message
        S: .
        !expect-close
    ";
    let lockstep = "
        C: AUTH PLAIN *
        S: +OK
        C: CAPA
        S: +OK
        S: PIPELINING
        S: UIDL
        S: .
        C: UIDL
        S: +OK
        S: 1 uid-1
        S: 2 uid-2
        S: .
        C: LIST
        S: +OK
        S: 1 100
        S: 2 14
        S: .
        C: RETR 2
        S: +OK
        S: A: b
        S:
        S: body
        S: .
        C: DELE 2
        S: +OK
        C: QUIT
        S: +OK
    ";
    let (server, home) = scripted(&[&[LOG_IN, listing], &[ASKED, lockstep]], "keep: none");
    let ended = home.must(&["sync"], 75);
    server.finish();
    assert!(ended.stderr.contains("uid-1") && ended.stderr.contains("doubtful"), "{}", ended.stderr);
    assert_eq!(home.maildir("Mail"), [b"A: b\n\nbody\n".to_vec()]);
    assert!(home.leftovers("Mail").is_empty());
}

#[test]
fn a_server_that_ends_its_lines_with_lf_is_understood() {
    let script = "
        !tls
        S- +OK\\n
        C: CAPA
        S- -ERR\\n
        C: USER alice
        S- +OK\\n
        C: PASS correct horse
        S- +OK\\n
        C: UIDL
        S- +OK\\n1 uid-1\\n.\\n
        C: LIST
        S- +OK\\n1 10\\n.\\n
        C: RETR 1
        S- +OK\\nA: b\\n\\n..dot\\n.\\n
        C: QUIT
    ";
    let (server, home) = scripted(&[&[script]], "");
    home.must(&["sync"], 0);
    server.finish();
    assert_eq!(home.maildir("Mail"), [b"A: b\n\n.dot\n".to_vec()]);
}

#[test]
fn deletions_whose_quit_was_not_answered_are_tried_again_without_a_download() {
    let (server, home) = scripted(
        &[
            &[LOG_IN, ONE_LISTED, ONE_RETRIEVED, "C: DELE 1\nS: +OK\nC: QUIT\n!cut"],
            &[KNOWN_LOG_IN, ONE_LISTED, ONE_ASKED, "C: DELE 1\nS: +OK", UPDATE],
        ],
        "keep: none",
    );
    home.must(&["sync"], 75);
    home.must(&["sync"], 0);
    server.finish();
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn a_server_that_ignores_deletions_is_asked_three_times() {
    let deletes = [KNOWN_LOG_IN, ONE_LISTED, ONE_ASKED, "C: DELE 1\nS: +OK", UPDATE];
    let leaves = [KNOWN_LOG_IN, ONE_LISTED, GOODBYE];
    let first = [LOG_IN, ONE_LISTED, ONE_RETRIEVED, "C: DELE 1\nS: +OK", UPDATE];
    let (server, home) = scripted(&[&first, &deletes, &deletes, &leaves, &leaves], "keep: none");
    (0..3).for_each(|_| assert_eq!(home.must(&["sync"], 0).stderr, ""));
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("uid-1") && said.contains("three deletions"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "", "it is said once");
    server.finish();
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn nothing_is_changed_by_check_or_a_dry_run() {
    let (server, home) = honest(Settings::default(), "keep: none");
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    let checked = home.must(&["check"], 0);
    assert!(checked.stdout.contains("3"), "{}", checked.stdout);
    let planned = home.must(&["sync", "--dry-run"], 0).stdout;
    assert!(planned.contains("uid-2") && planned.contains("fetch"), "{planned}");
    assert_eq!(planned.matches(": delete uid-").count(), 3, "what follows is planned, too: {planned}");
    assert!(!home.must(&["sync", "--dry-run", "--keep"], 0).stdout.contains("delete"), "not this time");
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (3, 0));
    assert_eq!(server.count(|what| matches!(what, What::Command(line) if line.starts_with("RETR"))), 0);
    home.must(&["sync", "--limit", "1"], 0);
    home.must(&["sync", "--keep"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (2, 3));
    home.must(&["sync"], 0);
    assert_eq!(server.uids().len(), 0);
    home.must(&["check"], 1);
}

#[test]
fn the_dialogue_in_the_log_shows_no_secret() {
    let (server, home) = honest(Settings::default(), "");
    server.put("uid-1", mail(1));
    let log = home.must(&["-vvv", "sync"], 0).stderr;
    assert!(log.contains("C: AUTH PLAIN [secret]") && log.contains("C: RETR 1"), "{log}");
    // "\0alice\0correct horse" in base64, and the password itself.
    for secret in ["correct horse", "AGFsaWNlAGNvcnJlY3QgaG9yc2U="] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_response_that_is_too_long_for_one_line_goes_in_two_steps() {
    let script = "
        !tls
        S: +OK
        C: CAPA
        S: +OK
        S: SASL PLAIN
        S: UIDL
        S: .
        C: AUTH PLAIN
        S: +
        C: *
        S: +OK
        C: CAPA
        S: -ERR
        C: UIDL
        S: +OK
        S: .
        C: LIST
        S: +OK
        S: .
        C: QUIT
    ";
    // A password that makes the line longer than 255 octets goes in two steps.
    let (server, home) = scripted(&[&[script]], "");
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("correct horse", &"long".repeat(60)));
    home.must(&["sync"], 0);
    server.finish();
}

#[test]
fn first_sync_none_takes_what_is_there_as_seen() {
    let (server, home) = honest(Settings::default(), "keep: none\nfirst_sync: none");
    (0..3).for_each(|i| server.put(&format!("old-{i}"), mail(i)));
    home.must(&["sync"], 0);
    server.put("new", mail(9));
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 1);
    assert_eq!(server.uids().len(), 3, "what was never delivered must not be deleted");
}

#[test]
fn memory_does_not_grow_with_the_size_of_a_message_or_the_number_of_octets() {
    let large = 300 << 20;
    let script = format!(
        "{LOG_IN}
        S: +OK
        S: 1 large
        S: .
        S: +OK
        S: 1 {large}
        S: .
        C: RETR 1
        S: +OK
        !body {large}
        S: .
        C: QUIT"
    );
    let (server, home) = scripted(&[&[&script]], "");
    let (ended, peak) = home.start(&["sync"]).wait_and_weigh(Duration::from_secs(120));
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    server.finish();
    let delivered = std::fs::metadata(&home.files("Mail")[0]).unwrap().len();
    assert!(delivered > large - large / 30, "{delivered}");
    // A debug build needs more than what a user runs.
    assert!(peak < 10 << 20, "{} MiB at the peak", peak >> 20);
}

#[test]
fn a_server_that_asks_without_end_while_logging_in_is_given_up() {
    let script = "
        !tls
        S: +OK
        C: CAPA
        S: +OK
        S: SASL PLAIN
        S: .
        C: AUTH PLAIN *
        S: +
        C: *
        S: +
        !expect-close
    ";
    let (server, home) = scripted(&[&[script]], "");
    let ended = home.must(&["sync"], 75);
    server.finish();
    assert!(ended.stderr.contains("waiting for AUTH"), "{}", ended.stderr);
}

#[test]
fn a_first_poll_that_cannot_open_its_target_leaves_what_counts_as_seen_to_the_next() {
    let (server, home) = honest(Settings::default(), "first_sync: none");
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    home.write("Mail", "no directory");
    home.must(&["sync"], 75);
    std::fs::remove_file(home.path("Mail")).unwrap();
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 0);
    server.put("uid-3", mail(3));
    home.must(&["sync"], 0);
    let expected = String::from_utf8(mail(3)).unwrap().replace("\r\n", "\n");
    assert_eq!(home.maildir("Mail"), [expected.into_bytes()]);
}

#[test]
fn a_server_that_goes_at_the_noop_behind_a_message_is_asked_for_stat_and_remembered() {
    let one = "S: +OK\nS: 1 uid-1\nS: .\nS: +OK\nS: 1 99\nS: .\n";
    let goes = format!("{LOG_IN}{one}{ONE_RETRIEVED}C: NOOP\n!cut");
    let stat = format!("{LOG_IN}{one}{ONE_RETRIEVED}C: STAT\nS: +OK 1 99\n{GOODBYE}");
    let two = "S: +OK\nS: 1 uid-1\nS: 2 uid-2\nS: .\nS: +OK\nS: 1 99\nS: 2 99\nS: .\n";
    let known =
        format!("{KNOWN_LOG_IN}{two}C: RETR 2\nS: +OK\nS: A: b\nS: .\nC: STAT\nS: +OK 2 198\n{GOODBYE}");
    let (server, home) = scripted(&[&[&goes], &[&stat], &[&known]], "");
    for messages in [1, 2] {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
        assert_eq!(home.maildir("Mail").len(), messages);
    }
    server.finish();
}
