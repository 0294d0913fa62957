//! `seen`: what is recorded by hand, and what is forgotten.

use std::io::Write;
use std::process::Stdio;

use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::Home;

fn server(messages: usize) -> Maildrop {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    for number in 1..=messages {
        server.put(&format!("uid-{number}"), format!("Subject: {number}\r\n\r\n").into_bytes());
    }
    server
}

fn home(server: &Maildrop) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home: {{ host: 127.0.0.1, port: {}, tls: none, auth: [user-pass], user: alice, \
         password: correct horse, keep: none, deliver: {{ maildir: ~/Mail }} }}\n",
        server.port()
    ));
    home
}

/// Runs the program with this on standard input, and gives what it said.
fn fed(home: &Home, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = home.command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn unique_ids_that_are_marked_are_neither_fetched_nor_deleted() {
    let server = server(4);
    let home = home(&server);
    let marked = home.must(&["seen", "mark", "home", "uid-1", "gone", "uid-1"], 0);
    assert_eq!(marked.stdout, "home: 2 messages marked as seen\n");
    let marked = fed(&home, &["seen", "mark", "home", "-", "uid-1"], "uid-2\r\n\nuid-2\n");
    assert_eq!(marked, (Some(0), "home: 1 message marked as seen, 1 recorded already\n".into()));
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail"), [b"Subject: 3\n\n", b"Subject: 4\n\n"]);
    home.must(&["sync"], 0);
    assert_eq!(server.uids(), ["uid-1", "uid-2"]);
    // What was delivered stays so.
    server.put("uid-5", b"Subject: 5\r\n\r\n".to_vec());
    home.must(&["sync", "--keep"], 0);
    home.must(&["seen", "mark", "home", "uid-5"], 0);
    home.must(&["sync"], 0);
    assert_eq!(server.uids(), ["uid-1", "uid-2"]);
}

#[test]
fn what_is_no_unique_id_is_refused_and_nothing_is_recorded() {
    let server = server(1);
    let home = home(&server);
    let long = "x".repeat(600);
    for wrong in ["tab\tbed", "bell\u{7}", &long] {
        let (status, said) = fed(&home, &["seen", "mark", "home", "-"], &format!("uid-1\n{wrong}\n"));
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("is no unique-id"), "{said}");
    }
    assert_eq!(home.must(&["seen", "list", "home"], 0).stdout, "");
    home.must(&["seen", "mark", "home"], 2);
    home.must(&["seen", "mark", "--all", "home", "uid-1"], 2);
}

#[test]
fn all_that_is_recorded_is_forgotten_at_once_or_by_a_list() {
    let server = server(3);
    let home = home(&server);
    home.must(&["sync", "--keep"], 0);
    let forgotten = home.must(&["seen", "forget", "--all", "home"], 0);
    assert_eq!(forgotten.stdout, "home: 3 messages will be fetched again\n");
    assert_eq!(home.must(&["seen", "list", "home"], 0).stdout, "");
    home.must(&["sync", "--keep"], 0);
    assert_eq!(home.maildir("Mail").len(), 3, "they were found in the maildir");
    let forgotten = fed(&home, &["seen", "forget", "home", "-"], "uid-1\nuid-3\n");
    assert_eq!(forgotten, (Some(0), "home: 2 messages will be fetched again\n".into()));
    home.must(&["seen", "forget", "home"], 2);
    home.must(&["seen", "forget", "home", "nobody"], 2);
}
