//! What tests are made with helps no program that is wrong: the scripted server notices what its transcript does not
//! say and counts right, faults happen, and what the honest server was told not to have it has not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::support::maildrop::{Fault, Maildrop, Protection, Settings, What};
use crate::support::reader::Reader;
use crate::support::relay::Relay;
use crate::support::scripted::{Script, ScriptedServer};

fn connect(server: &ScriptedServer) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        line.push(octet[0]);
    }
    String::from_utf8(line).unwrap()
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
}

fn log_in(server: &Maildrop) -> Reader {
    Reader::tls(server.port(), &server.certificate.authority_pem).log_in("alice", "correct horse")
}

/// The words with which `finish` fails.
fn complaint(server: ScriptedServer) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| server.finish())).expect_err("it kept to the script");
    *panic.downcast::<String>().expect("a panic with words")
}

#[test]
fn octets_are_sent_exactly_as_they_are_written() {
    let server =
        ScriptedServer::start([Script::parse("octets", "S- a\\0\\xff\\\\\\r\\n\\tb \\s\nS: end\n!cut")]);
    assert_eq!(read_all(&mut connect(&server)), b"a\0\xff\\\r\n\tb  end\r\n");
    server.finish();
}

#[test]
fn a_wrong_line_fails_with_the_dialogue_and_what_was_not_reached() {
    let server =
        ScriptedServer::start([Script::parse("login", "S: +OK hello\nC: CAPA\nS: +OK\nC: QUIT\nS: +OK bye")]);
    let mut client = connect(&server);
    client.write_all(b"CAPA\r\nSTAT\r\n").unwrap();
    read_all(&mut client);
    assert_eq!(
        complaint(server),
        "session \"login\" left its script:\n    S: +OK hello\n    C: CAPA\n    S: +OK\n    C: STAT\n  \
         ! expected C: QUIT\n    S: +OK bye    (not reached)\n"
    );
}

#[test]
fn a_client_that_says_more_than_the_script_fails() {
    let server = ScriptedServer::start([Script::parse("short", "S: +OK")]);
    let mut client = connect(&server);
    client.write_all(b"NOOP\r\n").unwrap();
    drop(client);
    assert!(complaint(server).contains("the client said more: NOOP\\r\\n"));
}

#[test]
fn a_client_that_goes_early_fails() {
    let server = ScriptedServer::start([Script::parse("early", "S: +OK\nC: QUIT")]);
    drop(connect(&server));
    assert!(complaint(server).contains("expected C: QUIT, but the client closed the connection"));
}

#[test]
fn a_server_that_is_dropped_without_being_asked_fails_too() {
    let server = ScriptedServer::start([Script::parse("dropped", "C: QUIT\n!cut")]);
    let mut client = connect(&server);
    client.write_all(b"NOOP\r\n").unwrap();
    read_all(&mut client);
    // After its last session the server listens no more.
    let ended = || TcpStream::connect(server.address()).is_err();
    assert!(crate::support::process::wait_until(Duration::from_secs(10), ended));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(server))).is_err());
}

#[test]
fn a_cut_ends_in_order_and_a_reset_does_not() {
    let server = ScriptedServer::start([
        Script::parse("fin", "S: +OK\nC: GO\n!cut"),
        Script::parse("rst", "S: +OK\nC: GO\n!cut rst"),
    ]);
    for kind in [None, Some(ErrorKind::ConnectionReset)] {
        let mut client = connect(&server);
        assert_eq!(read_line(&mut client), "+OK\r\n");
        client.write_all(b"GO\r\n").unwrap();
        assert_eq!(client.read(&mut [0; 10]).err().map(|error| error.kind()), kind);
    }
    server.finish();
}

#[test]
fn a_client_that_must_close_is_not_helped() {
    for end in ["!expect-close", "!stall"] {
        let server = ScriptedServer::start([Script::parse("close", &format!("S: +OK\n{end}"))]);
        let mut client = connect(&server);
        assert_eq!(read_line(&mut client), "+OK\r\n");
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(client.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock, "{end}");
        drop(client);
        server.finish();
    }
}

#[test]
fn pieces_trickle() {
    let server =
        ScriptedServer::start([Script::parse("trickle", "!split 2\n!trickle 10\nS: +OK.\n!split 0\nS: x")]);
    let begin = Instant::now();
    let mut client = connect(&server);
    assert_eq!(read_all(&mut client), b"+OK.\r\nx\r\n");
    // Three pieces, and a pause after each.
    assert!(begin.elapsed() >= Duration::from_millis(30));
    drop(client);
    server.finish();
}

#[test]
fn octets_in_front_of_the_handshake_fail() {
    let server = ScriptedServer::start([Script::parse("early", "C: STLS\nS: +OK\n!tls")]);
    connect(&server).write_all(b"STLS\r\nCAPA\r\n").unwrap();
    assert!(complaint(server).contains("the client sent \"CAPA\\r\\n\" before the handshake"));
}

#[test]
fn a_client_that_waits_for_each_answer_makes_a_flight_for_each() {
    let server = ScriptedServer::start([Script::parse(
        "lockstep",
        "S: +OK\nC: A\nS: a\nC: B\nS: b\nC: C\nS: c\n!flight 3",
    )]);
    let mut client = connect(&server);
    for command in ["A\r\n", "B\r\n", "C\r\n"] {
        read_line(&mut client);
        client.write_all(command.as_bytes()).unwrap();
    }
    read_line(&mut client);
    drop(client);
    assert_eq!(server.finish()[0].flights, 3);
}

#[test]
fn a_client_that_pipelines_makes_one_flight_however_its_octets_arrive() {
    let server = ScriptedServer::start([Script::parse(
        "pipelined",
        "S: +OK\nC: A\nS: a\nC: B\nS: b\nC: C\nS: c\n!flight 1",
    )]);
    let mut client = connect(&server);
    read_line(&mut client);
    for piece in ["A\r", "\n", "B\r\n", "C\r\n"] {
        client.write_all(piece.as_bytes()).unwrap();
    }
    read_line(&mut client);
    drop(client);
    server.finish();
}

#[test]
fn a_client_that_speaks_before_the_greeting_makes_no_flight() {
    let server = ScriptedServer::start([Script::parse("rash", "S: +OK\nC: A\nS: a\n!flight 0")]);
    let mut client = connect(&server);
    client.write_all(b"A\r\n").unwrap();
    read_line(&mut client);
    drop(client);
    server.finish();
}

#[test]
fn a_wrong_count_of_flights_fails() {
    let server = ScriptedServer::start([Script::parse("wrong", "S: +OK\nC: A\nS: a\n!flight 0")]);
    let mut client = connect(&server);
    read_line(&mut client);
    client.write_all(b"A\r\n").unwrap();
    drop(client);
    assert!(complaint(server).contains("the client waited for an answer 1 times, not 0"));
}

#[test]
fn the_handshake_counts_as_one_flight_more() {
    // TLS 1.3: ClientHello (0), Finished (1), QUIT after the greeting (2).
    let server = ScriptedServer::start([Script::parse("tls", "!tls\nS: +OK\nC: QUIT\nS: +OK\n!flight 2")]);
    let authority = server.certificate.authority_pem.clone();
    Reader::tls(server.port(), &authority).ok("QUIT");
    server.finish();
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
