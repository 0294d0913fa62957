//! Endpoints as targets of whole polls: a receiver that looks at the key, and what kills at any moment make of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;

use crate::support::http_server::{Answer, Asked, HttpServer, answer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{free_port, program, wait_until};

fn maildrop() -> Maildrop {
    Maildrop::start(Settings { tls: Protection::None, ..Settings::default() })
}

fn message(number: usize) -> Vec<u8> {
    format!("Message-ID: <{number}@a>\r\nSubject: {number}\r\n\r\nof {number}\r\n").into_bytes()
}

/// The program in a home of its own, with this target.
fn home(maildrop: &Maildrop, http: &str) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home:\n    {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none,\n     \
         auth: [user-pass], keep: none, deliver: {{ http: {http} }}}}\n",
        maildrop.port()
    ));
    home
}

/// The receiver that stands in `contrib`.
struct Receiver {
    child: Child,
    port: u16,
}

impl Receiver {
    fn start(directory: &Path, port: u16) -> Self {
        let python = program("python3").expect("python3 (Debian: python3)");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/http/receiver.py");
        let mut command = Command::new(python);
        let child =
            command.args([script, &port.to_string()]).arg(directory).stdin(Stdio::null()).spawn().unwrap();
        let is_up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(wait_until(LIMIT, is_up), "it never listened");
        Self { child, port }
    }

    fn target(&self) -> String {
        format!("{{ url: 'http://127.0.0.1:{}/' }}", self.port)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kept(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().len() == 64).map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn kills_at_any_moment_give_a_receiver_that_looks_at_the_key_each_message_once() {
    const ARRIVING: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(directory.path(), free_port());
    let maildrop = maildrop();
    let home = home(&maildrop, &receiver.target());
    let mut sent = 0;
    home.kill_syncs(60, || {
        (sent..sent + ARRIVING).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        // One of each lot has no name, and an equal one.
        (0..2).for_each(|twin| {
            maildrop.put(&format!("twin {sent} {twin}"), format!("Subject: {sent}\r\n\r\n"));
        });
        sent += ARRIVING;
    });
    home.must(&["held", "retry", "home"], 0);
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    let twins = (0..sent).step_by(ARRIVING).flat_map(|lot| [lot, lot]);
    let twins = twins.map(|lot| format!("Subject: {lot}\r\n\r\n").into_bytes());
    assert_same(kept(directory.path()), (0..sent).map(message).chain(twins).collect());
}

#[test]
fn a_receiver_that_is_killed_and_comes_back_has_each_message_once() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut receiver = Some(Receiver::start(directory.path(), port));
    let maildrop = maildrop();
    let home = home(&maildrop, &receiver.as_ref().unwrap().target());
    let mut sent = 0;
    for round in 0..12 {
        (sent..sent + 40).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        sent += 40;
        let before = kept(directory.path()).len();
        let mut running = home.start(&["sync"]);
        wait_until(LIMIT, || kept(directory.path()).len() > before + 2 * round || !running.is_running());
        drop(receiver.take());
        let ended = running.wait(LIMIT);
        assert!(matches!(ended.status, Some(0 | 75)), "{}", ended.stderr);
        receiver = Some(Receiver::start(directory.path(), port));
        home.must(&["held", "retry", "home"], 0);
    }
    home.must(&["sync"], 0);
    assert_same(kept(directory.path()), (0..sent).map(message).collect());
}

#[test]
fn a_message_of_150_megabytes_is_sent_in_little_memory() {
    let server = HttpServer::start(|_| answer(204));
    let maildrop = maildrop();
    let large =
        [message(1), b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(150 << 14)]
            .concat();
    maildrop.put("large", large.clone());
    maildrop.put("small", message(2));
    let home = home(&maildrop, &format!("{{ url: '{}', hmac: a key }}", server.url("/")));
    let (ended, most) = home.start(&["sync"]).wait_and_weigh(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let came: Vec<_> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert!(came == [large, message(2)], "another message came");
    assert!(most < 10 << 20, "{most} octets");
}

#[test]
fn an_answer_of_a_gigabyte_takes_neither_memory_nor_time() {
    for (status, left) in [(200, 0), (422, 1)] {
        let server = HttpServer::start(|_| answer(204));
        server.plan([Answer::Large(status, 1 << 30)]);
        let maildrop = maildrop();
        (0..2).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        let home = home(&maildrop, &format!("{{ url: '{}' }}", server.url("/")));
        let begun = std::time::Instant::now();
        let (ended, most) = home.start(&["sync"]).wait_and_weigh(LIMIT);
        assert_eq!(ended.status, Some(if left == 0 { 0 } else { 75 }), "{}", ended.stderr);
        assert!(most < 10 << 20 && begun.elapsed().as_secs() < 20, "{most} octets, {:?}", begun.elapsed());
        assert_eq!(maildrop.uids().len(), left, "{status}");
    }
}

/// Does as the relay ingress of Rails' Action Mailbox does (`ActionMailbox::Ingresses::Relay::InboundEmailsController`).
fn rails(asked: &Asked) -> Answer {
    let login = format!("Basic {}", STANDARD.encode("actionmailbox:let me in"));
    match asked {
        _ if asked.path != "/rails/action_mailbox/relay/inbound_emails" => answer(404),
        _ if asked.field("authorization") != login => answer(401),
        _ if asked.field("content-type") != "message/rfc822" => answer(415),
        _ if asked.body.windows(6).any(|octets| octets == b"poison") => answer(500),
        _ => answer(204),
    }
}

const INGRESS: &str = "/rails/action_mailbox/relay/inbound_emails";

#[test]
fn rails_ingress_takes_messages_and_its_refusals_are_told_apart() {
    let server = HttpServer::start(rails);
    let maildrop = maildrop();
    (0..3).for_each(|number| maildrop.put(&number.to_string(), message(number)));
    let keys = |path: &str, password: &str| {
        format!("{{ url: '{}', user: actionmailbox, password: {password} }}", server.url(path))
    };
    let told = |http: &str, status, words: &str| {
        let ended = home(&maildrop, http).must(&["sync"], status);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    told(&keys("/inbound_emails", "let me in"), 75, "check `url`");
    told(&keys(INGRESS, "let me out"), 77, "401 Unauthorized");
    assert_eq!(maildrop.uids().len(), 3);
    maildrop.put("poison", "Subject: poison\r\n\r\n");
    let home = home(&maildrop, &keys(INGRESS, "let me in"));
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("500 Internal Server Error"), "{}", ended.stderr);
    assert_eq!(maildrop.uids(), ["poison"]);
    assert!(home.must(&["held", "list", "home"], 0).stdout.contains("500"));
}

#[test]
fn an_endpoint_stands_behind_deliver_and_doctor_sends_it_no_mail() {
    let server = HttpServer::start(|_| answer(204));
    let maildrop = maildrop();
    maildrop.put("1", message(1));
    let home = Home::new();
    let url = format!("pop://alice;AUTH=%2BUSER@127.0.0.1:{}", maildrop.port());
    let password = ["--tls", "none", "--password-command", "echo correct horse"];
    let deliver = server.url("/in?key=secret-word");
    let arguments = [&["sync", &url, "--deliver", &deliver, "-v"][..], &password].concat();
    let ended = home.must(&arguments, 0);
    assert_eq!(server.asked().len(), 1);
    assert!(!ended.stderr.contains("secret-word"), "{}", ended.stderr);
    let ended =
        home.must(&[&["sync", &url, "--deliver", "http://desk.example.org/in"][..], &password].concat(), 2);
    assert!(ended.stderr.contains("must be an https:// URL"), "{}", ended.stderr);
    let home = self::home(&maildrop, &format!("{{ url: '{}', bearer: a token }}", server.url("/in")));
    let ended = home.must(&["doctor"], 0);
    assert!(ended.stdout.contains("can be written into"), "{}", ended.stdout);
    assert_eq!(server.asked().len(), 1, "it was asked");
    assert!(server.state().connections >= 2);
}

#[test]
fn a_sync_that_is_asked_to_end_while_an_endpoint_is_silent_ends_in_time() {
    let server = HttpServer::start(|_| Answer::Silence);
    let maildrop = maildrop();
    maildrop.put("1", message(1));
    let home = home(&maildrop, &format!("{{ url: '{}' }}", server.url("/in")));
    let mut running = home.start(&["sync"]);
    assert!(wait_until(LIMIT, || !server.asked().is_empty() || !running.is_running()));
    running.signal(Signal::SIGTERM);
    let begun = std::time::Instant::now();
    running.wait(LIMIT);
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(maildrop.uids(), ["1"]);
}
