//! Gmail as a target of whole polls: kills at any moment, large messages, what `doctor` and `held` say of it.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::gmail_server::{GmailServer, error};
use crate::support::http_server::Answer;
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::wait_until;

/// The normal course, in a plan.
const USUAL: Answer = Answer::Continue(0);

fn maildrop() -> Maildrop {
    Maildrop::start(Settings { tls: Protection::None, ..Settings::default() })
}

fn message(number: usize) -> Vec<u8> {
    format!("Message-ID: <{number}@a>\r\nFrom: bob@example.net\r\nSubject: {number}\r\n\r\nof {number}\r\n")
        .into_bytes()
}

/// The program in a home of its own, with this target.
fn home(maildrop: &Maildrop, gmail: &GmailServer) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home:\n    {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none,\n     \
         auth: [user-pass], keep: none, deliver: {}}}\n",
        maildrop.port(),
        gmail.target("")
    ));
    home
}

#[test]
fn kills_at_any_moment_leave_each_message_once() {
    const ARRIVING: usize = 12;
    let (gmail, maildrop) = (GmailServer::start(), maildrop());
    let home = home(&maildrop, &gmail);
    let mut sent = 0;
    home.kill_syncs(12, || {
        (sent..sent + ARRIVING).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        sent += ARRIVING;
    });
    home.must(&["held", "retry", "home"], 0);
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    assert_same(gmail.octets(), (0..sent).map(message).collect());
}

#[test]
fn an_insert_that_a_kill_left_without_an_answer_is_not_repeated_by_itself() {
    let (gmail, maildrop) = (GmailServer::start(), maildrop());
    maildrop.put("odd", "Message-ID: <odd@a>\r\nSubject: x\r\n\r\nodd\r\n");
    let home = home(&maildrop, &gmail);
    gmail.http.plan([USUAL, USUAL, Answer::Silence]);
    let mut running = home.start(&["sync"]);
    assert!(wait_until(LIMIT, || gmail.count("insert") == 1 || !running.is_running()));
    running.signal(Signal::SIGKILL);
    running.wait(LIMIT);
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("is not sent again by itself"), "{}", ended.stderr);
    home.must_at(30 * 24 * 3600, &["sync"], 75);
    assert_eq!((gmail.count("insert"), gmail.count("import")), (1, 1));
    let held = home.must(&["held", "list", "home"], 0).stdout;
    assert!(held.contains("when you say so") && held.contains("held retry"), "{held}");
    home.must(&["held", "retry", "home"], 0);
    home.must(&["sync"], 0);
    assert_eq!((gmail.count("insert"), maildrop.uids().len()), (2, 0));
}

#[test]
fn a_large_message_is_streamed_in_little_memory() {
    let (gmail, maildrop) = (GmailServer::start(), maildrop());
    let large =
        [message(1), b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(1 << 20)]
            .concat();
    maildrop.put("large", large.clone());
    let home = home(&maildrop, &gmail);
    let (ended, most) = home.start(&["sync"]).wait_and_weigh(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(gmail.octets() == [large], "another message came");
    assert!(most < 10 << 20, "{most} octets");
}

#[test]
fn doctor_goes_through_the_steps_and_sends_no_mail() {
    let (gmail, maildrop) = (GmailServer::start(), maildrop());
    let home = home(&maildrop, &gmail);
    let steps = |status| -> Vec<Value> {
        let ended = home.must(&["doctor", "--json"], status);
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let of_target = |steps: Vec<Value>| -> Vec<(String, String)> {
        let text = |step: &Value, field: &str| step[field].as_str().unwrap_or_default().to_owned();
        let steps = steps.iter().filter(|step| text(step, "at").starts_with("gmail:"));
        steps.map(|step| (text(step, "step"), text(step, "seen") + &text(step, "hint"))).collect()
    };
    let seen = of_target(steps(0));
    let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["provider", "name", "connection", "token", "name", "connection", "log-in", "folder", "directory"],
        "{seen:?}"
    );
    assert_eq!(seen[7].1, "INBOX, UNREAD");
    assert_eq!(gmail.count("messages"), 0);
    let (status, body) =
        error(403, "accessNotConfigured", "off; visit https://console.example/on then retry");
    gmail.http.plan([Answer::Is(status, String::new(), body.to_string().into_bytes())]);
    let seen = of_target(steps(75));
    assert!(seen.last().unwrap().1.contains("enable it: https://console.example/on"), "{seen:?}");
}

#[test]
fn no_token_stands_in_what_is_said() {
    let (gmail, maildrop) = (GmailServer::start(), maildrop());
    (0..3).for_each(|number| maildrop.put(&number.to_string(), message(number)));
    let home = home(&maildrop, &gmail);
    let mut said = String::new();
    let mut run = |arguments: &[&str]| {
        let ended = home.run(arguments);
        said += &(ended.stdout + &ended.stderr);
    };
    // It says what it was sent.
    let token = r#"{"error": {"code": 400, "message": "Bad Request"}}"#;
    gmail.http.plan([USUAL, Answer::Is(400, String::new(), token.into())]);
    run(&["sync", "-vvv"]);
    gmail.tokens.revoke_access();
    run(&["sync", "-vvv", "--log-format", "json"]);
    gmail.tokens.revoke_logins();
    gmail.tokens.revoke_access();
    for arguments in [
        &["sync", "-vvv"][..],
        &["doctor", "-vvv"],
        &["config", "show"],
        &["status", "--json"],
        &["held", "list", "home"],
    ] {
        run(arguments);
    }
    for secret in gmail.tokens.secrets() {
        assert!(!said.contains(&secret), "{secret}: {said}");
    }
    assert!(said.contains("gmail:alice@gmail.example"), "{said}");
}
