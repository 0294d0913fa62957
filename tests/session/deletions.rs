//! Deletions that go wrong: tried again, without another download, and given up with a word.

use std::fs;

use crate::support::dialogue::{KNOWN_LOG_IN, LOG_IN, ONE_ASKED, ONE_LISTED, ONE_RETRIEVED};
use crate::support::maildrop::{Fault, Maildrop, Settings, Trick, What};
use crate::support::postrider::{Home, LIMIT, faketime};
use crate::support::process::Running;
use crate::support::scripted::{Script, ScriptedServer};

fn home(port: u16, authority: &str, keys: &str) -> Home {
    let home = Home::new();
    home.write("ca.pem", authority);
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {port}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n    timeout: 5s\n    deliver: {{ maildir: ~/Mail }}\n    {keys}\n"
    ));
    home
}

fn honest(settings: Settings, keys: &str) -> (Maildrop, Home) {
    let server = Maildrop::start(settings);
    let home = home(server.port(), &server.certificate.authority_pem, keys);
    (server, home)
}

fn fill(server: &Maildrop, messages: usize) {
    (0..messages).for_each(|n| {
        server.put(&format!("uid-{n}"), format!("Message-ID: <{n}@a>\r\nDate: b\r\n\r\nbody\r\n"));
    });
}

fn retrieved(server: &Maildrop) -> usize {
    server.count(|what| matches!(what, What::Command(line) if line.starts_with("RETR")))
}

/// A session of a server that is asked step by step: log-in, a message, and what is said about its deletion.
fn session(retrieve: &str, rest: &str) -> String {
    format!("{}{ONE_LISTED}{retrieve}{rest}", if retrieve.is_empty() { KNOWN_LOG_IN } else { LOG_IN },)
}

const RETRIEVE: &str = ONE_RETRIEVED;
/// The message is asked for its header, to see whether it is the one that is recorded.
const ASK: &str = ONE_ASKED;

fn scripted(sessions: &[String]) -> (ScriptedServer, Home) {
    let scripts = sessions.iter().enumerate().map(|(i, text)| Script::parse(&format!("session {i}"), text));
    let server = ScriptedServer::start(scripts);
    let home = home(server.port(), &server.certificate.authority_pem, "keep: none");
    (server, home)
}

/// Plays the same refusal in three sessions; in the fourth the deletion is given up, and said once.
fn given_up_after_three(rest: &str, status: i32) {
    let bye = "C: QUIT\n";
    let again = &format!("{ASK}{rest}");
    let sessions =
        [session(RETRIEVE, rest), session("", again), session("", again), session("", bye), session("", bye)];
    let (server, home) = scripted(&sessions);
    for _ in 0..3 {
        home.must(&["sync"], status);
        assert_eq!(home.maildir("Mail").len(), 1);
    }
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("home: uid-1") && said.contains("three deletions"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "", "it is said once");
    // No session asked for the message again, or its transcript would have failed.
    server.finish();
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn a_refused_dele_is_tried_in_three_sessions_and_given_up_with_a_word() {
    given_up_after_three("C: DELE 1\nS: -ERR locked\nC: QUIT\n", 0);
}

#[test]
fn a_refused_quit_is_tried_in_three_sessions_and_given_up_with_a_word() {
    given_up_after_three("C: DELE 1\nS: +OK\nC: QUIT\nS: -ERR some messages were not removed\n", 75);
}

#[test]
fn deletions_whose_quit_ends_in_silence_or_a_close_are_tried_in_three_sessions_and_given_up_with_a_word() {
    for end in ["!cut", "!cut rst"] {
        given_up_after_three(&format!("C: DELE 1\nS: +OK\nC: QUIT\n{end}\n"), 75);
    }
}

#[test]
fn messages_that_only_their_content_tells_are_not_fetched_at_each_poll_where_quit_is_always_lost() {
    let (server, home) = honest(Settings::default(), "keep: none");
    (0..3).for_each(|n| server.put(&format!("uid-{n}"), format!("Subject: {n}\r\n\r\nbody\r\n")));
    server.set_fault(Fault::CutAtQuit);
    for (poll, (status, fetched)) in [(75, 3), (75, 6), (75, 9), (0, 9), (0, 9)].into_iter().enumerate() {
        home.must(&["sync"], status);
        assert_eq!((retrieved(&server), home.maildir("Mail").len()), (fetched, 3), "poll {poll}");
    }
}

#[test]
fn what_this_session_has_deleted_is_asked_for_no_more() {
    for keys in ["keep: none", "keep: none\n    pipelining: off"] {
        let (server, home) = honest(Settings::default(), keys);
        // One that its content tells alone, and one that TOP tells.
        server.put("weak", "Subject: weak\r\n\r\nbody\r\n");
        server.put("certain", "Message-ID: <1@a>\r\nDate: today\r\n\r\nbody\r\n");
        server.set_fault(Fault::CutAtQuit);
        home.must(&["sync"], 75);
        server.set_fault(Fault::None);
        home.must(&["sync"], 0);
        assert_eq!(
            (retrieved(&server), server.uids().len(), home.maildir("Mail").len()),
            (3, 0, 2),
            "{keys}"
        );
    }
}

#[test]
fn a_deletion_that_only_retr_can_prove_and_that_breaks_the_session_waits() {
    let (server, home) = honest(Settings::default(), "keep: 1d");
    (0..3).for_each(|n| server.put(&format!("uid-{n}"), format!("Subject: {n}\r\n\r\nbody\r\n")));
    home.must(&["sync"], 0);
    home.must_at(90_000, &["sync"], 0);
    server.play("uid-0", Some(Trick::CutBefore));
    let sessions = |minutes: i64| {
        let log_ins = || server.count(|what| matches!(what, What::Command(line) if line.starts_with("UIDL")));
        let before = log_ins();
        home.run_at(180_000 + 60 * minutes, &["sync"]);
        log_ins() - before
    };
    let polls: Vec<usize> = (0..12).map(|poll| sessions(5 * poll)).collect();
    assert!(polls.iter().all(|sessions| *sessions <= 4), "{polls:?}");
    assert!(polls.iter().filter(|sessions| **sessions > 1).count() <= 4, "its waits are kept: {polls:?}");
    assert_eq!(server.uids(), ["uid-0"], "the others went");
}

#[test]
fn a_refusal_of_a_deletion_names_the_account() {
    let rest = "C: DELE 1\nS: -ERR locked\nC: QUIT\n";
    let (server, home) = scripted(&[session(RETRIEVE, rest)]);
    let said = home.must(&["sync"], 0).stderr;
    server.finish();
    assert!(said.contains("home: server refused DELE 1: locked"), "{said}");
}

#[test]
fn a_connection_cut_between_any_dele_and_the_answer_to_quit_costs_no_second_download() {
    let twin = honest(Settings::default(), "keep: none");
    fill(&twin.0, 10);
    twin.1.must(&["sync"], 0);
    let commands = twin.0.count(|what| matches!(what, What::Command(_))) as u64;
    let first_dele = {
        let events = twin.0.events().into_iter();
        let lines = events.filter_map(|event| match event.what {
            What::Command(line) => Some(line),
            _ => None,
        });
        lines.collect::<Vec<_>>().iter().position(|line| line.starts_with("DELE")).expect("a deletion") as u64
            + 1
    };
    for command in first_dele..=commands {
        for fault in [Fault::CutInsteadOf(command), Fault::CutUnanswered(command)] {
            let (server, home) = honest(Settings::default(), "keep: none");
            fill(&server, 10);
            server.set_fault(fault);
            home.run(&["sync"]);
            let recorded = home.must(&["seen", "list", "home"], 0).stdout.lines().count();
            let before = retrieved(&server);
            server.set_fault(Fault::None);
            home.must(&["sync"], 0);
            assert_eq!(
                retrieved(&server) - before,
                10 - recorded,
                "{fault:?}: fetched again what is recorded"
            );
            assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 10), "{fault:?}");
        }
    }
}

#[test]
fn messages_are_deleted_a_time_after_their_delivery_by_our_own_record() {
    let (server, home) = honest(Settings::default(), "keep: 14d");
    fill(&server, 4);
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    assert_eq!(server.uids().len(), 4);
    // Two of them were delivered thirteen and fifteen days ago; whatever their Date says.
    let state = rusqlite::Connection::open(home.path("state/postrider/state.db")).unwrap();
    for (uid, days) in [("uid-1", 13), ("uid-2", 15)] {
        let changed = state.execute(
            "UPDATE seen SET delivered_at = delivered_at - ?2 * 86400 WHERE uid = CAST(?1 AS BLOB)",
            rusqlite::params![uid, days],
        );
        assert_eq!(changed.unwrap(), 1);
    }
    home.must(&["sync"], 0);
    assert_eq!(server.uids().len(), 4, "no clock is believed at once");
    state.execute("UPDATE seen SET due_since = due_since - 86400", []).unwrap();
    drop(state);
    home.must(&["sync"], 0);
    assert_eq!(server.uids(), ["uid-0", "uid-1", "uid-3"]);
    let tops = server.count(|what| matches!(what, What::Command(line) if line.starts_with("TOP")));
    assert_eq!(tops, 1, "what an earlier session delivered is asked for");
    // A message that was only marked as seen was never delivered, and is never deleted.
    server.put("uid-9", "A: 9\r\n\r\n");
    home.must(&["seen", "mark", "home", "--all"], 0);
    let config = home.path("config/postrider/config.yaml");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("keep: 14d", "keep: none")).unwrap();
    home.must(&["sync"], 0);
    assert_eq!(server.uids(), ["uid-9"]);
}

#[test]
fn a_server_that_forgets_what_it_has_shown_hears_no_quit_after_an_undelivered_message() {
    for (expire, quits) in [("EXPIRE 0", 0), ("EXPIRE NEVER", 1)] {
        let mut settings = Settings::default().without("EXPIRE NEVER");
        settings.capabilities.as_mut().expect("capabilities").push(expire.into());
        let (server, home) = honest(settings, "keep: forever");
        // More than a file may have under this limit: shown, and not delivered.
        server.put("uid-0", [b"A: 0\r\n\r\n".as_slice(), &[b'x'; 3 << 20], b"\r\n"].concat());
        server.put("uid-1", "A: 1\r\n\r\nbody\r\n");
        let program = home.command(&["sync"]);
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "ulimit -f 2048 && exec \"$0\" sync"]).arg(program.get_program()).env_clear();
        limited.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let ended =
            crate::support::process::Running::start(&mut limited).wait(crate::support::postrider::LIMIT);
        assert_eq!(ended.status, Some(75), "{}", ended.stderr);
        assert_eq!(home.maildir("Mail").len(), 1);
        server.wait_for(1, |what| *what == What::Closed);
        let heard = server.count(|what| matches!(what, What::Command(line) if line == "QUIT"));
        assert_eq!(heard, quits, "{expire}");
        // Once all was delivered, the showing may end.
        home.must(&["held", "retry", "home"], 0);
        assert_eq!(home.maildir("Mail").len(), 2);
        server.wait_for(2, |what| *what == What::Closed);
        let heard = server.count(|what| matches!(what, What::Command(line) if line == "QUIT"));
        assert_eq!(heard, quits + 1, "{expire}");
    }
}

/// Says whether deletions were real before the last message was sent.
fn was_real_in_between(server: &Maildrop) -> bool {
    let events = server.events();
    let removed = events.iter().position(|event| matches!(event.what, What::Removed(_)));
    let sent = events.iter().rposition(|event| matches!(event.what, What::Sent(_)));
    removed.is_some() && removed < sent
}

#[test]
fn a_sync_makes_deletions_real_after_each_thousand() {
    let (server, home) = honest(Settings::default(), "keep: none");
    fill(&server, 2100);
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    assert_eq!((server.uids().len(), home.maildir("Mail").len(), retrieved(&server)), (0, 2100, 2100));
    assert!(was_real_in_between(&server));
    assert_eq!(server.count(|what| *what == What::LoggedIn), 3);
}

#[test]
fn a_sync_makes_deletions_real_after_five_minutes() {
    let (server, home) = honest(Settings::default().without("PIPELINING"), "keep: none");
    let config = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    // For the target time goes as ever.
    let slow = "deliver: { pipe: 'unset LD_PRELOAD; cat >> mails; sleep 0.03' }";
    home.configure(&config.replace("deliver: { maildir: ~/Mail }", slow).replace("5s", "1h"));
    fill(&server, 150);
    let mut command = home.command(&["sync"]);
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", "+0 x100");
    let ended = Running::start(&mut command).wait(LIMIT);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!((server.uids().len(), retrieved(&server)), (0, 150));
    assert!(was_real_in_between(&server));
    assert!(server.count(|what| *what == What::LoggedIn) > 1);
}

#[test]
fn where_log_ins_must_be_further_apart_than_the_timeout_the_rest_is_left_and_told() {
    let mut settings = Settings::default();
    settings.capabilities.as_mut().unwrap().push("LOGIN-DELAY 60".into());
    let (server, home) = honest(settings, "keep: none");
    fill(&server, 1100);
    let ended = home.must(&["sync", "--json"], 0);
    let told = "home: the rest waits for the next poll, since the server wants 1m 1s between two log-ins";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(server.count(|what| *what == What::LoggedIn), 1);
    let left = server.uids().len();
    assert!((1..=100).contains(&left), "{left} are left");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["left"], left, "{report}");
    home.must(&["sync"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len(), retrieved(&server)), (0, 1100, 1100));
}
