//! What `sync` says when nobody sits at a terminal: a failure that lasts is told when it begins, when it becomes another,
//! and when it is over; the exit status tells it every time.

use crate::support::dialogue::{GOODBYE, KNOWN_LOG_IN, LOG_IN, ONE_RETRIEVED, honest, mail, scripted};
use crate::support::maildrop::{Maildrop, Settings, Trick};
use crate::support::postrider::Home;
use crate::support::process::free_port;

fn at(home: &Home, server: &Maildrop, port: u16) {
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    let lines: Vec<_> = config
        .lines()
        .map(|line| if line.starts_with("    port:") { format!("    port: {port}") } else { line.to_owned() })
        .collect();
    home.configure(&(lines.join("\n") + "\n"));
    assert!(server.port() > 0);
}

#[test]
fn a_failure_that_lasts_is_told_when_it_begins_changes_and_is_over_and_not_between() {
    let (server, home) = honest(Settings::default(), "");
    home.must(&["sync"], 0);
    at(&home, &server, free_port());
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("test: 127.0.0.1:") && said.contains("refused"), "{said}");
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 75).stderr, "");
    }
    // Whoever asks for more hears it each time.
    assert!(home.must(&["sync", "-v"], 75).stderr.contains("refused"));
    at(&home, &server, server.port());
    let said = home.must(&["sync"], 0).stderr;
    assert!(said.contains("test: succeeds again, after 5 failed polls in"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
    // It becomes another one.
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    at(&home, &server, free_port());
    assert_eq!(home.must(&["sync"], 75).stderr, "", "within the hour it was told");
    home.configure(&config.replace("correct horse", "wrong horse"));
    assert!(home.must(&["sync"], 77).stderr.contains("authentication failed"));
    assert_eq!(home.must(&["sync"], 77).stderr, "");
}

#[test]
fn held_messages_are_told_when_they_come_to_be_held_and_the_status_tells_them_every_time() {
    let (server, home) = honest(Settings::default(), "");
    (0..5).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    server.refuse("uid-2", Some("-ERR no"));
    assert!(home.must(&["sync"], 75).stderr.contains("uid-2: held: server refused RETR 3: no"));
    for _ in 0..3 {
        assert_eq!(home.must(&["sync"], 75).stderr, "");
    }
    // For another reason it is no news.
    server.refuse("uid-2", Some("-ERR not today either"));
    assert_eq!(home.must(&["held", "retry", "test"], 75).stderr, "");
    // Another one is.
    server.put("uid-5", mail(5));
    server.put("uid-6", mail(6));
    server.play("uid-5", Some(Trick::Short(0)));
    assert!(home.must(&["sync"], 75).stderr.contains("uid-5: held: short: 0 of"));
    server.refuse("uid-2", None);
    server.play("uid-5", None);
    let said = home.must(&["held", "retry", "test"], 0).stderr;
    assert!(said.contains("no message is held any more"), "{said}");
    assert_eq!(home.must(&["sync"], 0).stderr, "");
}

#[test]
fn many_messages_that_come_to_be_held_are_one_line_and_those_that_follow_in_the_same_trouble_none() {
    for (refused, first) in [("uid-1?*", "uid-10: held: "), ("*", "none of ")] {
        let (server, home) = honest(Settings::default(), "");
        let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
        let deliver = config.lines().find(|line| line.trim_start().starts_with("deliver:")).unwrap().trim();
        let pipe = format!("deliver: {{ pipe: 'case $POSTRIDER_UID in {refused}) exit 69;; esac' }}");
        home.configure(&config.replace(deliver, &pipe));
        (0..30).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
        let said = home.must(&["sync"], 75).stderr;
        assert!(said.contains(first) && said.lines().count() == 2, "{said}");
        assert_eq!(said.contains("; 9 more held\n"), refused != "*", "{said}");
        assert!(said.ends_with("and why\n"), "{said}");
        for i in 100..103 {
            server.put(&format!("uid-{i}"), mail(i));
            assert_eq!(home.must(&["sync"], 75).stderr, "");
        }
        // Who asks for more hears of each message.
        server.put("uid-103", mail(103));
        let said = home.must(&["sync", "-v"], 75).stderr;
        assert!(said.contains("uid-103: held: "), "{said}");
    }
}

#[test]
fn hooks_and_the_notice_tell_once_that_messages_are_held_and_that_it_is_over() {
    let hooks = "hooks: { on_error: 'echo on_error $POSTRIDER_CLASS >> ~/told', on_recover: 'echo on_recover >> ~/told' }";
    let (server, home) = honest(Settings::default(), hooks);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&format!("notify: {{ after: 3, remind: 1d }}\n{config}"));
    let told = || std::fs::read_to_string(home.path("told")).unwrap_or_default();
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    server.refuse("uid-1", Some("-ERR no"));
    for _ in 0..4 {
        home.must(&["sync"], 75);
        assert_eq!(told(), "on_error message\n");
        assert_eq!(home.maildir("Mail").len(), 3, "two messages and one notice");
    }
    let notices: Vec<_> =
        home.maildir("Mail").into_iter().filter(|octets| octets.starts_with(b"From:")).collect();
    let notice = String::from_utf8(notices.concat()).unwrap();
    for words in ["Subject: postrider: mail for test is held", "1 message held", "postrider held list test"] {
        assert!(notice.contains(words), "{words}: {notice}");
    }
    server.refuse("uid-1", None);
    home.must(&["held", "retry", "test"], 0);
    assert_eq!((told().as_str(), home.maildir("Mail").len()), ("on_error message\non_recover\n", 4));
}

#[test]
fn a_target_that_refuses_everything_fails_the_poll_and_sets_off_the_hook() {
    let hooks = "hooks: { on_error: 'echo on_error $POSTRIDER_CLASS >> ~/told' }";
    let (server, home) = honest(Settings::default(), hooks);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    let deliver = config.lines().find(|line| line.trim_start().starts_with("deliver:")).unwrap().trim();
    home.configure(&config.replace(deliver, "deliver: { pipe: 'cat > /dev/null; exit 77' }"));
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("none of 3 messages could be fetched and delivered"), "{said}");
    assert!(home.must(&["status"], 0).stdout.contains("failed (message)"));
    home.must(&["status", "--max-age", "1h"], 75);
    assert_eq!(std::fs::read_to_string(home.path("told")).unwrap(), "on_error message\n");
    assert_eq!(home.must(&["sync"], 75).stderr, "");
    assert_eq!(std::fs::read_to_string(home.path("told")).unwrap(), "on_error message\n");
    // That nothing was tried since is no success.
    assert!(home.must(&["status"], 0).stdout.contains("succeeded but for 3 messages held"));
    let said = home.must(&["status", "--max-age", "1h"], 75).stderr;
    assert!(said.contains("test: no poll has ever succeeded; 3 messages held"), "{said}");
    home.must(&["held", "discard", "test", "--all"], 0);
    home.must(&["sync"], 0);
    home.must(&["status", "--max-age", "1h"], 0);
}

#[test]
fn a_quiet_status_says_nothing_unless_something_failed() {
    let (server, home) = honest(Settings::default(), "");
    server.put("uid-0", mail(0));
    home.must(&["sync"], 0);
    let quiet = home.must(&["status", "-q"], 0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    assert_eq!(home.must(&["status", "-q", "--max-age", "1h"], 0).stdout, "");
    at(&home, &server, free_port());
    home.must(&["sync"], 75);
    assert!(home.must(&["status", "-q"], 0).stdout.contains("failed (network)"));
}

#[test]
fn after_seen_mark_no_session_is_said_not_to_have_ended() {
    let (server, home) = honest(Settings::default(), "");
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    home.must(&["seen", "mark", "test", "--all"], 0);
    let said = home.must(&["sync", "-v"], 0).stderr;
    assert!(!said.contains("did not end"), "{said}");
    server.put("uid-3", mail(3));
    let said = home.must(&["sync", "-v"], 0).stderr;
    assert!(!said.contains("did not end") && home.maildir("Mail").len() == 1, "{said}");
}

#[test]
fn a_trouble_that_another_one_follows_is_no_recovery() {
    let hooks = "hooks: { on_error: 'echo on_error $POSTRIDER_CLASS >> ~/told', on_recover: 'echo on_recover >> ~/told' }";
    let (server, home) = honest(Settings::default(), hooks);
    let told = || std::fs::read_to_string(home.path("told")).unwrap_or_default();
    (0..3).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    at(&home, &server, free_port());
    home.must(&["sync"], 75);
    let config = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    let deliver = config.lines().find(|line| line.trim_start().starts_with("deliver:")).unwrap().trim();
    at(&home, &server, server.port());
    let good = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&good.replace(deliver, "deliver: { pipe: 'cat > /dev/null; exit 77' }"));
    let said = home.must(&["sync"], 75).stderr;
    assert!(said.contains("none of 3 messages") && !said.contains("succeeds again"), "{said}");
    assert_eq!(told(), "on_error network\non_error message\n");
    // The server goes and comes while messages are held.
    at(&home, &server, free_port());
    home.must(&["sync"], 75);
    at(&home, &server, server.port());
    home.must(&["sync"], 75);
    assert!(!told().contains("on_recover"), "{}", told());
    home.configure(&good);
    home.must(&["held", "retry", "test"], 0);
    assert_eq!(told().matches("on_recover").count(), 1, "{}", told());
}

#[test]
fn a_listing_with_lines_that_mean_nothing_is_told_when_it_begins_and_not_at_each_poll() {
    let listed = "S: +OK\nS: 1 uid-1\nS: garbage\nS: .\nS: +OK\nS: 1 36\nS: .\n";
    let known = format!("{KNOWN_LOG_IN}{listed}{GOODBYE}");
    let (server, home) =
        scripted(&[&[LOG_IN, listed, ONE_RETRIEVED, GOODBYE], &[&known], &[&known], &[&known]], "");
    let words = "server sent 1 listing lines that mean nothing";
    assert!(home.must(&["sync"], 0).stderr.contains(words));
    for _ in 0..2 {
        assert_eq!(home.must(&["sync"], 0).stderr, "");
    }
    assert!(home.must(&["check"], 1).stderr.contains(words), "a look remembers nothing");
    server.finish();
}
