//! The scripted server does what its transcripts say, notices what they do not say, and counts right.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::support::certificate::{Certificate, Validity};
use crate::support::reader::Reader;
use crate::support::scripted::{Script, ScriptedServer};
use crate::support::transcript::{Step, body};

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

/// The words with which `finish` fails.
fn complaint(server: ScriptedServer) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| server.finish())).expect_err("it kept to the script");
    *panic.downcast::<String>().expect("a panic with words")
}

#[test]
fn a_dialogue_that_keeps_to_its_script_passes_and_is_recorded() {
    let server = ScriptedServer::start([Script::parse(
        "dialogue",
        "
        # the greeting has no text
        S: +OK
        C: USER alice
        S: +OK
        C: AUTH PLAIN *
        !capture secret
        C: *
        C: \\*
        !any 2
        S- bye\\r\\n
        ",
    )]);
    let mut client = connect(&server);
    client.write_all(b"USER alice\r\nAUTH PLAIN AGFsaWNl\r\nc2VjcmV0\r\nanything\r\n*\r\na\r\nb\n").unwrap();
    assert_eq!(read_all(&mut client), b"+OK\r\n+OK\r\nbye\r\n");
    drop(client);
    let played = server.finish();
    assert_eq!(played.len(), 1);
    assert_eq!(played[0].name, "dialogue");
    assert_eq!(played[0].captured("secret"), b"c2VjcmV0");
    assert_eq!(played[0].lines.len(), 7);
    assert_eq!(played[0].lines[6], b"b");
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
fn sessions_are_played_one_after_the_other() {
    let scripts = ["one", "two", "three"].map(|name| Script::new(name).says(format!("+OK {name}")));
    let mut server = ScriptedServer::start(scripts);
    for name in ["one", "two"] {
        assert_eq!(read_all(&mut connect(&server)), format!("+OK {name}\r\n").into_bytes());
        assert_eq!(server.next().name, name);
    }
    assert_eq!(read_all(&mut connect(&server)), b"+OK three\r\n");
    assert_eq!(server.finish().len(), 1);
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
fn a_stalling_server_says_nothing_until_the_client_goes() {
    let server = ScriptedServer::start([Script::parse("stall", "S: +OK\n!stall")]);
    let mut client = connect(&server);
    assert_eq!(read_line(&mut client), "+OK\r\n");
    client.write_all(b"QUIT\r\nQUIT\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(client.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(client);
    server.finish();
}

#[test]
fn a_client_that_must_close_is_not_helped() {
    let server = ScriptedServer::start([Script::parse("close", "S: +OK\n!expect-close")]);
    let mut client = connect(&server);
    assert_eq!(read_line(&mut client), "+OK\r\n");
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(client.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(client);
    server.finish();
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
fn big_things_are_sent_from_small_scripts() {
    let script = Script::parse(
        "big",
        "!body 3M\n!repeat 1000 {} {}\\r\\n\nS: .\n!body 2\n!body 0\n!body 77\n!body 78\n",
    );
    let server = ScriptedServer::start([script]);
    let sent = read_all(&mut connect(&server));
    server.finish();
    let text = &sent[..3 << 20];
    assert_eq!(text, body(3 << 20));
    assert!(
        text.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= 77 && line.ends_with(b"\r\n"))
    );
    let listing = String::from_utf8(sent[3 << 20..sent.len() - 157].to_vec()).unwrap();
    assert_eq!(listing.lines().count(), 1001);
    assert_eq!(listing.lines().nth(999), Some("1000 1000"));
    assert_eq!(&sent[sent.len() - 157..sent.len() - 155], b"\r\n");
}

#[test]
fn an_endless_text_ends_with_the_client() {
    let server = ScriptedServer::start([Script::parse("endless", "S- +OK\\s\n!endless x{}")]);
    let mut client = connect(&server);
    let mut octets = vec![0; 1 << 20];
    client.read_exact(&mut octets).unwrap();
    assert!(octets.starts_with(b"+OK x1x2x3x4"));
    drop(client);
    server.finish();
}

#[test]
fn tls_begins_where_the_script_says_so() {
    let server = ScriptedServer::start([
        Script::parse("implicit", "!tls\nS: +OK\nC: QUIT\nS: +OK"),
        Script::parse("stls", "S: +OK\nC: STLS\nS: +OK\n!tls\nC: QUIT\nS: +OK"),
    ]);
    let authority = server.certificate.authority_pem.clone();
    Reader::tls(server.port(), &authority).ok("QUIT");
    Reader::stls(server.port(), &authority).ok("QUIT");
    server.finish();
}

#[test]
fn octets_in_front_of_the_handshake_fail() {
    let server = ScriptedServer::start([Script::parse("early", "C: STLS\nS: +OK\n!tls")]);
    connect(&server).write_all(b"STLS\r\nCAPA\r\n").unwrap();
    assert!(complaint(server).contains("the client sent \"CAPA\\r\\n\" before the handshake"));
}

#[test]
fn a_certificate_that_must_be_refused_is() {
    for (names, validity) in
        [(&["localhost"][..], Validity::Expired), (&["pop.example.org"][..], Validity::Current)]
    {
        let certificate = Certificate::issue(names, validity);
        let (authority, tls) = (certificate.authority_pem.clone(), certificate.server());
        let server = ScriptedServer::start_with([Script::parse("refused", "!tls refused")], certificate, tls);
        let port = server.port();
        assert!(catch_unwind(|| drop(Reader::tls(port, &authority))).is_err());
        server.finish();
    }
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
#[should_panic = "cannot read \"!sulk\""]
fn an_unknown_directive_is_refused() {
    Script::parse("bad", "S: +OK\n!sulk");
}

#[test]
fn a_script_is_built_step_by_step_too() {
    let built =
        Script::new("s").says("+OK").expects("QUIT").says_octets(*b"x").then(Step::Split(3)).play("!stall");
    assert_eq!(built, Script::parse("s", "S: +OK\nC: QUIT\nS- x\n!split 3\n!stall"));
}
