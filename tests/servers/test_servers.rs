//! The servers that other tests rely on are what they claim to be; seen by a client that shares nothing with the program.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::dovecot::{self, Dovecot, Format};
use crate::support::gnu_pop3d::{self, GnuPop3d};
use crate::support::maildrop::{Fault, Lock, Maildrop, Protection, Settings, What};
use crate::support::mails;
use crate::support::process;
use crate::support::reader::Reader;
use crate::support::relay::Relay;

fn log_in(server: &Maildrop) -> Reader {
    Reader::tls(server.port(), &server.certificate.authority_pem).log_in("alice", "correct horse")
}

/// What a client must find when the maildrop holds these octets.
fn with_last_crlf(octets: &[u8]) -> Vec<u8> {
    let end: &[u8] = if octets.is_empty() || octets.ends_with(b"\r\n") { b"" } else { b"\r\n" };
    [octets, end].concat()
}

#[test]
fn the_maildrop_sends_what_was_put_and_removes_what_was_deleted() {
    let server = Maildrop::start(Settings::default());
    let messages: [&[u8]; 6] =
        [b"Subject: a\r\n\r\n.\r\n..\r\nend\r\n", b"", b"no line end", b"\r\n", b"bare\nlf\n", b"\0\xff\r"];
    for (number, message) in messages.iter().enumerate() {
        server.put(&format!("uid-{number}"), *message);
    }
    let mut reader = log_in(&server);
    let octets: usize = messages.iter().map(|message| with_last_crlf(message).len()).sum();
    assert_eq!(reader.ok("STAT"), format!("+OK 6 {octets}"));
    assert_eq!(reader.lines("UIDL")[2], "3 uid-2");
    assert_eq!(reader.lines("LIST")[2], "3 13");
    assert_eq!(reader.ok("UIDL 6"), "+OK 6 uid-5");
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(reader.octets(&format!("RETR {}", number + 1)), with_last_crlf(message));
    }
    assert_eq!(reader.octets("TOP 1 0"), b"Subject: a\r\n\r\n");
    assert_eq!(reader.octets("TOP 1 2"), b"Subject: a\r\n\r\n.\r\n..\r\n");
    reader.ok("DELE 1");
    assert!(reader.command("RETR 1").starts_with("-ERR"));
    reader.ok("RSET");
    reader.ok("DELE 2");
    assert_eq!(server.uids().len(), 6);
    reader.ok("QUIT");
    assert_eq!(server.uids(), ["uid-0", "uid-2", "uid-3", "uid-4", "uid-5"]);
    assert_eq!(server.count(|what| *what == What::Removed("uid-1".into())), 1);
    assert_eq!(server.count(|what| *what == What::Removed("uid-0".into())), 0);
    assert_eq!(server.count(|what| *what == What::Marked("uid-0".into())), 1);
    assert_eq!(server.count(|what| matches!(what, What::Sent(_))), 6);
}

#[test]
fn the_maildrop_keeps_what_was_deleted_without_quit() {
    let server = Maildrop::start(Settings::default());
    server.put("a", "x\r\n");
    let mut reader = log_in(&server);
    reader.ok("DELE 1");
    drop(reader);
    server.wait_for(1, |what| *what == What::Closed);
    assert_eq!(server.uids(), ["a"]);
}

#[test]
fn the_maildrop_demands_stls_and_the_right_password() {
    let server = Maildrop::start(Settings { tls: Protection::Stls, ..Settings::default() });
    let mut plain = Reader::plain(server.port());
    assert!(plain.lines("CAPA").contains(&"STLS".to_string()));
    assert!(plain.command("USER alice").starts_with("-ERR"));
    let mut reader = Reader::stls(server.port(), &server.certificate.authority_pem);
    assert!(!reader.lines("CAPA").contains(&"STLS".to_string()));
    reader.ok("USER alice");
    assert_eq!(reader.command("PASS wrong"), "-ERR [AUTH] authentication failed");
    assert!(reader.command("STAT").starts_with("-ERR"));
    // NUL alice NUL correct horse
    reader.ok("AUTH PLAIN AGFsaWNlAGNvcnJlY3QgaG9yc2U=");
    reader.ok("STAT");
    let mut reader = Reader::stls(server.port(), &server.certificate.authority_pem);
    assert_eq!(reader.command("AUTH PLAIN"), "+");
    reader.ok("AGFsaWNlAGNvcnJlY3QgaG9yc2U=");
}

#[test]
fn the_maildrop_forgets_capabilities_and_commands_when_told() {
    let mut settings = Settings::default().without("PIPELINING");
    settings.unknown = vec!["UIDL".into()];
    let server = Maildrop::start(settings);
    let mut reader = log_in(&server);
    assert!(!reader.lines("CAPA").contains(&"PIPELINING".to_string()));
    assert!(reader.command("UIDL").starts_with("-ERR"));
    let server = Maildrop::start(Settings { capabilities: None, ..Settings::default() });
    assert!(log_in(&server).command("CAPA").starts_with("-ERR"));
}

#[test]
fn an_exclusive_maildrop_refuses_a_second_session() {
    let server =
        Maildrop::start(Settings { lock: Lock::Exclusive, tls: Protection::None, ..Settings::default() });
    let first = Reader::plain(server.port()).log_in("alice", "correct horse");
    let mut second = Reader::plain(server.port());
    second.ok("USER alice");
    assert!(second.command("PASS correct horse").starts_with("-ERR [IN-USE]"));
    drop(first);
    server.wait_for(1, |what| *what == What::Closed);
    second.ok("USER alice");
    second.ok("PASS correct horse");
}

#[test]
fn faults_happen_where_they_were_set_and_once() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    server.put("a", [b"x".repeat(998), b"\r\n".to_vec()].concat());
    let connect = || Reader::plain(server.port()).log_in("alice", "correct horse");
    let fails = |reader: &mut Reader, command: &str| {
        catch_unwind(AssertUnwindSafe(|| reader.octets(command))).is_err()
    };

    let mut reader = connect();
    server.set_fault(Fault::CutAfterOctets(500));
    assert!(fails(&mut reader, "RETR 1"));
    server.wait_for(1, |what| *what == What::Faulted(Fault::CutAfterOctets(500)));
    assert_eq!(connect().octets("RETR 1").len(), 1000);

    let mut reader = connect();
    server.set_fault(Fault::CutInsteadOf(2));
    reader.ok("DELE 1");
    assert!(fails(&mut reader, "QUIT"));
    assert_eq!(server.uids(), ["a"]);

    let mut reader = connect();
    server.set_fault(Fault::CutUnanswered(2));
    reader.ok("DELE 1");
    assert!(fails(&mut reader, "QUIT"));
    server.wait_for(1, |what| *what == What::Faulted(Fault::CutUnanswered(2)));
    assert!(server.uids().is_empty());
}

#[test]
fn a_refused_message_stops_no_other_and_can_be_sent_again() {
    let server = Maildrop::start(Settings::default());
    server.put("a", "a\r\n");
    server.put("b", "b\r\n");
    server.refuse("a", Some("-ERR [SYS/TEMP] not now"));
    let mut reader = log_in(&server);
    assert_eq!(reader.command("RETR 1"), "-ERR [SYS/TEMP] not now");
    assert_eq!(reader.octets("RETR 2"), b"b\r\n");
    server.refuse("a", None);
    assert_eq!(reader.octets("RETR 1"), b"a\r\n");
}

#[test]
fn a_relay_passes_so_many_octets_and_no_more_until_it_is_opened() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    server.put("a", b"0123456789\r\n".repeat(1000));
    let relay = Relay::start(server.port());
    let mut reader = Reader::plain(relay.port()).log_in("alice", "correct horse");
    relay.hold_after(5000);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader.octets("RETR 1"));
        relay.wait_for_hold();
        server.wait_for(1, |what| matches!(what, What::Sent(_)));
        assert!(!reading.is_finished());
        relay.open();
        assert_eq!(reading.join().unwrap().len(), 12000);
    });
}

/// What Dovecot sends for a message that was put as a file.
fn as_sent(file: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for &octet in file {
        if octet == b'\n' && sent.last() != Some(&b'\r') {
            sent.push(b'\r');
        }
        sent.push(octet);
    }
    with_last_crlf(&sent)
}

#[test]
fn dovecot_keeps_every_octet_of_odd_messages() {
    for format in [Format::Maildir, Format::Mdbox] {
        let server = Dovecot::start(format, 2);
        let messages = mails::odd();
        server.put("u1", &messages);
        assert_eq!(server.left("u1"), messages.len());
        assert_eq!(server.left("u2"), 0);
        let found = server.messages("u1");
        assert_eq!(found.len(), messages.len(), "{format:?}");
        for ((_, sent), file) in found.iter().zip(&messages) {
            assert_eq!(
                sent.escape_ascii().to_string(),
                as_sent(file).escape_ascii().to_string(),
                "{format:?}"
            );
        }
        server.put("u1", &[b"Subject: one more\n\n".to_vec()]);
        assert_eq!(server.messages("u1").len(), messages.len() + 1);
    }
}

#[test]
fn dovecot_offers_both_kinds_of_tls_and_survives_a_crash() {
    let mut server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(3));
    let before = Reader::tls(server.tls_port, &server.certificate.authority_pem)
        .log_in("u1", dovecot::PASSWORD)
        .messages();
    assert_eq!(before.len(), 3);
    let mut reader = Reader::stls(server.port, &server.certificate.authority_pem);
    let capabilities = reader.lines("CAPA");
    for wanted in ["PIPELINING", "UIDL", "SASL PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256"] {
        assert!(capabilities.contains(&wanted.to_string()), "{capabilities:?}");
    }
    assert!(reader.greeting.contains('<'), "no APOP timestamp: {}", reader.greeting);
    server.kill();
    assert!(!process::answers(server.port));
    server.restart();
    assert_eq!(server.messages("u1"), before);
    assert!(server.log().contains("Login: user=<u1>"));
}

#[test]
fn gnu_pop3d_keeps_its_unique_ids_and_adds_a_header_line() {
    let server = GnuPop3d::start();
    let mut messages = mails::ordinary(5);
    messages.push(mails::with_nul());
    messages.push(b"Subject: dots\n\n.\n..\nlast line".to_vec());
    server.put(&messages);
    let first = server.messages();
    assert_eq!(first.len(), messages.len());
    for ((uid, sent), file) in first.iter().zip(&messages) {
        let added = format!("\r\nX-UIDL: {uid}\r\n\r\n");
        let place = sent
            .windows(added.len())
            .position(|part| part == added.as_bytes())
            .unwrap_or_else(|| panic!("no {added:?} in {}", sent.escape_ascii()));
        let without = [&sent[..place], b"\r\n\r\n", &sent[place + added.len()..]].concat();
        assert_eq!(without.escape_ascii().to_string(), as_sent(file).escape_ascii().to_string());
    }
    server.put(&mails::ordinary(1));
    let second = server.messages();
    assert_eq!(second[..first.len()], first);
    assert_eq!(second.len(), first.len() + 1);

    let mut reader = Reader::tls(server.tls_port, &server.certificate.authority_pem)
        .log_in(gnu_pop3d::USER, gnu_pop3d::PASSWORD);
    assert!(reader.lines("CAPA").contains(&"EXPIRENEVER".to_string()));
    reader.ok("DELE 1");
    reader.ok("QUIT");
    assert_eq!(server.left(), second.len() - 1);
    Reader::stls(server.port, &server.certificate.authority_pem).ok("USER x");
    assert!(server.log().contains("logged in"));
}

#[test]
fn a_client_that_goes_without_a_word_leaves_the_maildrop_usable() {
    let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    socket.write_all(b"USER al").unwrap();
    drop(socket);
    server.wait_for(1, |what| *what == What::Closed);
    Reader::plain(server.port()).log_in("alice", "correct horse").ok("QUIT");
}
