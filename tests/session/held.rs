//! Messages that cannot be had, delivered or told apart: they stop no other, and somebody decides about them.

use std::time::Duration;

use crate::support::dialogue::{GOODBYE, LOG_IN, honest, mail, scripted};
use crate::support::maildrop::{Fault, Maildrop, Settings, What};
use crate::support::mounted::Mounted;
use crate::support::postrider::Home;

#[test]
fn a_message_that_the_server_refuses_is_held_and_the_others_are_fetched() {
    let (server, home) = honest(Settings::default(), "keep: none");
    (0..4).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    server.refuse("uid-1", Some("-ERR cannot convert this message"));
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("uid-1") && ended.stderr.contains("cannot convert"), "{}", ended.stderr);
    assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["uid-1".to_string()], 3));
    // Held and unchanged is no news, and no success either.
    let quiet = home.must(&["sync"], 75);
    assert_eq!(quiet.stderr, "");
    assert!(home.must(&["status"], 0).stdout.contains("uid-1"));
}

#[test]
fn a_message_that_is_refused_where_it_was_asked_for_ahead_is_asked_for_singly_before_it_is_held() {
    let listed = "S: +OK\nS: 1 a\nS: 2 b\nS: 3 c\nS: .\nS: +OK\nS: 1 36\nS: 2 36\nS: 3 36\nS: .\n";
    let came = |i: usize| format!("S: +OK\nS: Message-ID: <{i}@a>\nS: Date: b\nS:\nS: body\nS: .\n");
    let ahead = format!("C: RETR 1\nC: RETR 2\nC: RETR 3\n{}S: -ERR too many commands\n{}", came(1), came(3));
    let singly = format!("C: NOOP\nS: +OK\nC: RETR 2\n{}", came(2));
    let (server, home) = scripted(&[&[LOG_IN, listed, &ahead, &singly, GOODBYE]], "");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    server.finish();
    assert_eq!(home.maildir("Mail").len(), 3);
}

#[test]
fn what_may_not_be_recorded_is_not_delivered_where_nobody_could_say_later_that_it_is_there() {
    let (server, home) = honest(Settings::default(), "");
    (0..4).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    let Some(mounted) = Mounted::tmpfs(home.path("small"), "512k") else { return };
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    let (state, maildir) = (home.path("small/state.db"), home.path("Mail"));
    let mbox = config.replace(
        &format!("maildir: {}", maildir.display()),
        &format!("mbox: {}", home.path("mbox").display()),
    );
    home.configure(&format!("state: {}\n{mbox}", state.display()));
    for _ in 0..2 {
        let said = home.must(&["sync"], 75).stderr;
        assert!(said.is_empty() || said.contains("full") && said.contains("make room"), "{said}");
        assert!(!home.path("mbox").exists());
    }
    mounted.remount("size=16m");
    home.must(&["sync"], 0);
    let mbox = std::fs::read_to_string(home.path("mbox")).unwrap();
    assert_eq!(mbox.matches("\nSubject: number ").count(), 4);
}

#[test]
fn many_bad_messages_in_a_row_are_held_and_the_others_are_fetched() {
    for keys in ["", "pipelining: off"] {
        let (server, home) = honest(Settings::default(), keys);
        for i in 0..12 {
            server.put(&format!("uid-{i}"), mail(i));
        }
        (2..9).for_each(|i| server.refuse(&format!("uid-{i}"), Some("-ERR cannot convert this message")));
        home.must(&["sync"], 75);
        assert_eq!(home.maildir("Mail").len(), 5);
        assert_eq!(home.must(&["held", "list", "test"], 0).stdout.lines().count(), 7);
        home.must(&["sync"], 75);
    }
}

#[test]
fn held_messages_are_listed_tried_again_and_given_up_when_somebody_says_so() {
    let (server, home) = honest(Settings::default(), "keep: none");
    (0..4).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    assert_eq!(home.must(&["held", "list", "test"], 0).stdout, "");
    assert!(home.must(&["held", "retry", "test"], 0).stdout.contains("nothing is held"));
    (0..3).for_each(|i| server.refuse(&format!("uid-{i}"), Some("-ERR cannot convert this message")));
    home.must(&["sync"], 75);
    let listed = home.must(&["held", "list", "test"], 0).stdout;
    assert!(listed.lines().count() == 3 && listed.contains("uid-2: server refused RETR 3"), "{listed}");
    let listed = home.must(&["held", "list", "test", "--json"], 0).stdout;
    assert!(listed.lines().count() == 3 && listed.contains(r#""uid":"uid-0""#), "{listed}");
    assert!(home.must(&["check"], 0).stdout.contains("3 of them held"));
    assert!(home.must_at(1200, &["check"], 0).stdout.contains("3 of them held"), "though their wait is over");

    // Nobody need wait for its time ...
    server.refuse("uid-0", None);
    home.must(&["sync"], 75);
    assert_eq!(home.maildir("Mail").len(), 1);
    let retrieved = |uid: &str| server.count(|what| *what == What::Sent(uid.into()));
    assert_eq!(retrieved("uid-0"), 0);
    home.must(&["held", "retry", "test", "uid-0"], 0);
    assert_eq!((home.maildir("Mail").len(), retrieved("uid-0")), (2, 1));
    // ... and who asks is told that it was in vain.
    let in_vain = home.must(&["held", "retry", "test"], 75);
    assert!(in_vain.stdout.contains("2 still"), "{}", in_vain.stdout);

    // Given up is given up: deleted as if it had been delivered, and the rest stays held.
    home.must(&["held", "discard", "test"], 2);
    home.must(&["held", "discard", "test", "uid-1", "uid-7"], 2);
    assert_eq!(home.must(&["held", "list", "test"], 0).stdout.lines().count(), 2);
    home.must(&["held", "discard", "test", "uid-1"], 0);
    assert!(home.must(&["seen", "list", "test"], 0).stdout.contains("discarded"));
    home.must(&["sync"], 75);
    assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["uid-2".to_string()], 2));
    home.must(&["held", "discard", "test", "--all"], 0);
    home.must(&["sync"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 2));
    home.must(&["check"], 1);
}

#[test]
fn refusals_of_all_messages_may_be_the_servers_trouble_and_hold_nothing_at_first() {
    let (server, home) = honest(Settings::default(), "");
    for i in 0..23 {
        server.put(&format!("uid-{i}"), mail(i));
        server.refuse(&format!("uid-{i}"), Some("-ERR Download exceed"));
    }
    let ended = home.must(&["sync"], 75);
    assert!(
        ended.stderr.contains("none of 20 messages") && ended.stderr.contains("Download exceed"),
        "{}",
        ended.stderr
    );
    assert!(!home.must(&["status"], 0).stdout.contains("held uid-"), "a message is held");
    // They are tried again without a wait.
    (0..23).for_each(|i| server.refuse(&format!("uid-{i}"), None));
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 23);
}

#[test]
fn refusals_of_all_messages_in_two_sessions_hold_twenty_and_leave_the_rest_for_the_next_poll() {
    for keys in ["", "pipelining: off"] {
        let (server, home) = honest(Settings::default(), keys);
        for i in 0..50 {
            server.put(&format!("uid-{i}"), mail(i));
            server.refuse(&format!("uid-{i}"), Some("-ERR [X-VIRUS] no"));
        }
        let held = || home.must(&["held", "list", "test"], 0).stdout.lines().count();
        for expected in [0, 0, 10, 30, 50, 50] {
            home.must(&["sync"], 75);
            assert_eq!(held(), expected);
        }
    }
}

#[test]
fn a_refusal_whose_code_tells_of_the_server_holds_no_message_and_stops_no_other() {
    for code in ["SYS/TEMP", "IN-USE", "LOGIN-DELAY"] {
        let (server, home) = honest(Settings::default(), "");
        (0..40).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
        let line = format!("-ERR [{code}] not now");
        (5..15).for_each(|i| server.refuse(&format!("uid-{i}"), Some(&line)));
        let said = home.must(&["sync"], 75).stderr;
        assert!(said.contains(&format!("server: [{code}] not now")), "{said}");
        assert_eq!(
            (home.maildir("Mail").len(), home.must(&["held", "list", "test"], 0).stdout.as_str()),
            (30, "")
        );
        (5..15).for_each(|i| server.refuse(&format!("uid-{i}"), None));
        home.must(&["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 40);
    }
}

#[test]
fn a_message_that_is_refused_by_such_a_code_each_time_stops_neither_mail_nor_deletions() {
    let line = "-ERR [SYS/TEMP] internal error";
    for keys in ["keep: 1d", "keep: 1d\n    max_messages: 1", "keep: 1d\n    pipelining: off"] {
        let (server, home) = honest(Settings::default(), keys);
        (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
        server.refuse("uid-0", Some(line));
        for days in 0..8 {
            home.run_at(days * 86_400, &["sync"]);
        }
        assert_eq!((home.maildir("Mail").len(), server.uids()), (2, vec!["uid-0".to_owned()]), "{keys}");
        let held = home.must(&["held", "list", "test"], 0).stdout;
        assert!(held.contains("internal error") && held.lines().count() == 1, "{keys}: {held}");
        server.refuse("uid-0", None);
        home.must_at(10 * 86_400, &["sync"], 0);
        assert_eq!(home.maildir("Mail").len(), 3, "{keys}");
    }
}

#[test]
fn refusals_with_a_code_of_the_messages_own_abort_no_session() {
    let (server, home) = honest(Settings::default(), "");
    (0..12).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    (2..9).for_each(|i| server.refuse(&format!("uid-{i}"), Some("-ERR [SYS/PERM] this message is damaged")));
    home.must(&["sync"], 75);
    assert_eq!(home.maildir("Mail").len(), 5);
    assert_eq!(home.must(&["held", "list", "test"], 0).stdout.lines().count(), 7);
}

#[test]
fn a_server_without_uidl_is_served_by_the_headers() {
    let settings = Settings { unknown: vec!["UIDL".into()], ..Settings::default().without("UIDL") };
    let (server, home) = honest(settings, "");
    (0..5).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    home.must(&["sync"], 0);
    server.put("uid-5", mail(5));
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 6);
    assert_eq!(server.count(|what| matches!(what, What::Sent(_))), 6);
}

/// A server with neither UIDL nor TOP.
fn nameless(keys: &str) -> (Maildrop, Home) {
    let unknown = vec!["UIDL".into(), "TOP".into()];
    honest(Settings { unknown, ..Settings::default().without("UIDL").without("TOP") }, keys)
}

#[test]
fn a_server_with_neither_uidl_nor_top_is_emptied_or_left_alone() {
    let (server, home) = nameless("");
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("keep: none"), "{said}");
    home.must(&["seen", "mark", "test", "--all"], 75);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (3, 0));

    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&format!("{config}    keep: none\n"));
    home.must(&["check"], 0);
    home.must(&["sync", "--keep"], 75);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (3, 0));
    home.must(&["sync"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 3));
}

#[test]
fn unique_ids_that_are_empty_are_none_where_there_is_no_top() {
    let (server, home) =
        honest(Settings { unknown: vec!["TOP".into()], ..Settings::default().without("TOP") }, "");
    (0..3).for_each(|i| server.put("", mail(i)));
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("keep: none"), "{said}");
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (3, 0));
}

/// A message without Message-ID and Date: equal ones are still two.
fn weak(i: usize) -> Vec<u8> {
    format!("Subject: number {i}\r\n\r\nbody of {i}\r\n").into_bytes()
}

#[test]
fn a_message_without_any_name_is_known_again_by_its_content_unless_its_deletion_is_sure() {
    let (server, home) = nameless("keep: none");
    // The same without faults, to know how many commands there are.
    let (twin, twins_home) = nameless("keep: none");
    // Two of one content are two messages; large ones do not wait in memory for their name.
    let large = [weak(3), vec![b'x'; 200_000], b"\r\n".to_vec()].concat();
    let messages = [("1", weak(1)), ("2", weak(1)), ("3", large.clone())];
    messages.iter().for_each(|(uid, octets)| server.put(uid, octets.clone()));
    // What is there already is asked for one header, which the server refuses.
    for asked in 0..2 {
        // All is delivered, but nothing deleted: QUIT, the last command, is not obeyed.
        messages.iter().for_each(|(uid, octets)| twin.put(uid, octets.clone()));
        let commands = || twin.count(|what| matches!(what, What::Command(_)));
        let before = commands();
        twins_home.must(&["sync"], 0);
        server.set_fault(Fault::CutInsteadOf((commands() - before + asked) as u64));
        home.must(&["sync"], 75);
        assert_eq!((server.uids().len(), home.maildir("Mail").len()), (3, 3));
    }
    // Numbers change, and names do not depend on them.
    server.put("4", weak(4));
    server.rename("1", "0");
    home.must(&["sync"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 4));
    // What comes after that is new, whatever is in it.
    server.put("5", weak(1));
    server.put("6", large);
    home.must(&["sync"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 6));
    assert_eq!(home.leftovers("Mail"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn messages_over_the_limit_stay_and_are_said_once() {
    let (server, home) = honest(Settings::default(), "keep: none\nmax_size: 100");
    server.put("small", mail(1));
    server.put("large", [b"A: b\r\n\r\n".as_slice(), &[b'x'; 500], b"\r\n"].concat());
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("large") && said.contains("max_size"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    assert_eq!(home.must(&["held", "list", "test"], 0).stdout, "");
    assert!(!home.must(&["status"], 0).stdout.contains("large"));
    assert_eq!((server.uids(), home.maildir("Mail").len()), (vec!["large".to_string()], 1));
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("max_size: 100", "max_size: 1k"));
    home.must(&["sync"], 0);
    assert_eq!((server.uids().len(), home.maildir("Mail").len()), (0, 2));
}

#[test]
fn many_messages_over_the_limit_are_one_line() {
    let (server, home) = honest(Settings::default(), "max_size: 100");
    let large = [b"A: b\r\n\r\n".as_slice(), &[b'x'; 500], b"\r\n"].concat();
    (0..30).for_each(|i| server.put(&format!("uid-{i}"), large.clone()));
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains(": uid-0: stays on the server: ") && said.lines().count() == 1, "{said}");
    assert!(said.ends_with("; the same of 29 more\n"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
}

#[test]
fn a_message_larger_than_a_file_may_be_stops_no_other() {
    let (server, home) = honest(Settings::default(), "");
    let large = [mail(1), vec![b'x'; 3 << 20], b"\r\n".to_vec()].concat();
    for (uid, octets) in [("uid-0", mail(0)), ("uid-1", large), ("uid-2", mail(2))] {
        server.put(uid, octets);
    }
    let program = home.command(&["sync"]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -f 2048 && exec \"$0\" sync"]).arg(program.get_program()).env_clear();
    limited.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ended = crate::support::process::Running::start(&mut limited).wait(Duration::from_secs(60));
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("uid-1") && ended.stderr.contains("File too large"), "{}", ended.stderr);
    assert_eq!(home.maildir("Mail").len(), 2);
    home.must(&["held", "retry", "test"], 0);
    assert_eq!(home.maildir("Mail").len(), 3);
}
