//! Connections that end, stall, trickle and lose step, at every place of a session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::maildrop::{Fault, Maildrop, Protection, Settings, What};
use crate::support::poller::Poller;
use crate::support::postrider::assert_same;
use crate::support::relay::{Relay, Side};
use crate::support::scripted::{Script, ScriptedServer};

const PLAIN: &str = "tls: none\nauth: [user-pass]\nkeep: none\ntimeout: 5s";

/// What the octets of a maildrop's session are cut in.
#[derive(Debug, Clone, Copy)]
struct Session {
    pipelining: bool,
    tls: bool,
    /// An earlier, empty poll has made the server known, so that more is sent ahead.
    known: bool,
}

impl Session {
    fn settings(self) -> Settings {
        let settings = Settings {
            tls: if self.tls { Protection::Implicit } else { Protection::None },
            ..Settings::default()
        };
        if self.pipelining { settings } else { settings.without("PIPELINING") }
    }

    /// Polls through a relay that cuts, and then once more; gives the octets of the side that have passed.
    fn cut(self, side: Side, after: Option<u64>) -> u64 {
        let server = Maildrop::start(self.settings());
        let keys = if self.tls { "tls_ca: {}/ca.pem\nkeep: none\ntimeout: 5s" } else { PLAIN };
        let mut poller = Poller::new(server.port(), keys);
        poller.write("ca.pem", &server.certificate.authority_pem);
        if self.known {
            poller.must();
        }
        for (uid, octets) in mails() {
            server.put(&uid, octets);
        }
        let relay = Relay::start(server.port());
        if let Some(octets) = after {
            relay.cut_after(side, octets);
        }
        poller.account.port = relay.port();
        let report = poller.poll();
        if after.is_none() {
            assert_eq!(report.failure, None);
        }
        // Whatever the server has deleted by now is in the maildir, whole.
        let delivered = poller.maildir();
        let left = server.uids();
        for (uid, octets) in mails() {
            let octets = with_lf(&octets);
            let copies = delivered.iter().filter(|message| **message == octets).count();
            assert!(copies <= 1, "{uid} is there {copies} times");
            assert!(left.contains(&uid) || copies == 1, "{uid} is deleted and not delivered");
        }
        let passed = relay.passed(side);
        let sent = |uid: &str| server.count(|what| *what == What::Sent(uid.into()));
        let asked: Vec<_> = mails().iter().map(|(uid, _)| sent(uid)).collect();
        let recorded: Vec<_> = poller.seen();
        poller.must();
        for ((uid, _), asked) in mails().iter().zip(asked) {
            assert!(
                sent(uid) == asked || !recorded.contains(uid),
                "{uid} was recorded and is downloaded again"
            );
        }
        assert_same(poller.maildir(), mails().iter().map(|(_, octets)| with_lf(octets)).collect());
        assert!(server.uids().is_empty(), "{:?} are still there", server.uids());
        assert!(poller.leftovers().is_empty());
        passed
    }

    /// Cuts after every `step`th octet of the side, several sessions at a time.
    fn cut_everywhere(self, side: Side, step: u64) {
        let octets = self.cut(side, None);
        assert!(octets > 60, "{octets} octets are no session");
        let next = AtomicU64::new(1);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    loop {
                        let after = next.fetch_add(step, Ordering::SeqCst);
                        if after > octets {
                            return;
                        }
                        // A panic in here names the place.
                        let place = Place(self, side, after);
                        self.cut(side, Some(after));
                        std::mem::forget(place);
                    }
                });
            }
        });
    }
}

/// Says where a cut was that went wrong.
struct Place(Session, Side, u64);

impl Drop for Place {
    fn drop(&mut self) {
        eprintln!("cut after octet {} of the {:?} in {:?}", self.2, self.1, self.0);
    }
}

fn mails() -> Vec<(String, Vec<u8>)> {
    [".\r\n..two\r\n", "last line.\r\n", ""]
        .iter()
        .enumerate()
        .map(|(i, text)| {
            (format!("uid-{i}"), format!("Message-ID: <{i}@a>\r\nDate: b\r\n\r\n{text}").into_bytes())
        })
        .collect()
}

fn with_lf(octets: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(octets).replace("\r\n", "\n").into_bytes()
}

const PIPELINED: Session = Session { pipelining: true, tls: false, known: false };
const KNOWN: Session = Session { known: true, ..PIPELINED };
const LOCKSTEP: Session = Session { pipelining: false, ..PIPELINED };

#[test]
fn a_cut_after_any_octet_of_the_server_loses_nothing_and_repeats_nothing() {
    for session in [PIPELINED, KNOWN, LOCKSTEP] {
        session.cut_everywhere(Side::Server, 1);
    }
}

#[test]
fn a_cut_after_any_octet_of_the_client_loses_nothing_and_repeats_nothing() {
    for session in [PIPELINED, KNOWN, LOCKSTEP] {
        session.cut_everywhere(Side::Client, 1);
    }
}

#[test]
fn a_cut_within_tls_loses_nothing_and_repeats_nothing() {
    for side in [Side::Server, Side::Client] {
        Session { tls: true, ..PIPELINED }.cut_everywhere(side, 41);
    }
}

#[test]
fn a_server_that_falls_silent_at_any_command_is_left_and_nothing_is_lost() {
    thread::scope(|scope| {
        for session in [PIPELINED, KNOWN, LOCKSTEP] {
            for command in 1..=16 {
                scope.spawn(move || {
                    let server = Maildrop::start(session.settings());
                    let poller = Poller::new(server.port(), &PLAIN.replace("5s", "1s"));
                    if session.known {
                        poller.must();
                    }
                    mails().into_iter().for_each(|(uid, octets)| server.put(&uid, octets));
                    server.set_fault(Fault::StallAt(command));
                    let report = poller.poll();
                    assert!(report.took < Duration::from_secs(8), "{:?} at command {command}", report.took);
                    server.set_fault(Fault::None);
                    poller.must();
                    let expected = mails().iter().map(|(_, octets)| with_lf(octets)).collect();
                    assert_same(poller.maildir(), expected);
                    assert!(server.uids().is_empty());
                });
            }
        }
    });
}

/// A log-in that pipelines nothing, and each command after the answer before.
const LOG_IN: &str = "
    S: +OK ready
    C: CAPA
    S: -ERR
    C: USER alice
    S: +OK
    C: PASS correct horse
    S: +OK
    C: UIDL
    S: +OK
    S: 1 uid-1
    S: .
    C: LIST
    S: +OK
    S: 1 14
    S: .
";

/// Its message is fetched.
const ONE: &str = "C: RETR 1\nS: +OK\nS: A: b\nS:\nS: body\nS: .\n";

/// Polls a server that plays these sessions: the messages delivered, and what each poll's failure said.
fn play(sessions: &[&str], polls: usize) -> (Vec<Vec<u8>>, Vec<String>) {
    let scripts = sessions.iter().enumerate().map(|(i, text)| Script::parse(&format!("session {i}"), text));
    let server = ScriptedServer::start(scripts);
    let poller = Poller::new(server.port(), &PLAIN.replace("5s", "1s"));
    let failures = (0..polls)
        .map(|_| poller.poll().failure.map(|failure| failure.to_string()).unwrap_or_default())
        .collect();
    server.finish();
    assert!(poller.leftovers().is_empty());
    (poller.maildir(), failures)
}

/// The same log-in once the server is known to have no CAPA.
fn known() -> String {
    LOG_IN.replace("C: CAPA\n    S: -ERR\n", "")
}

#[test]
fn one_octet_at_a_time_is_enough_as_long_as_each_reply_ends() {
    let script = format!(
        "!split 1\n!trickle 5\n{LOG_IN}C: RETR 1\nS: +OK\nS: A: b\nS:\nS: body\nS: .\nC: DELE 1\nS: +OK\nC: QUIT\nS: +OK"
    );
    let (delivered, failures) = play(&[&script], 1);
    assert_eq!((delivered, failures), (vec![b"A: b\n\nbody\n".to_vec()], vec![String::new()]));
}

#[test]
fn a_reply_that_trickles_for_ten_time_limits_is_given_up() {
    // Never silent for a second, and no end in ten.
    let script = format!("{LOG_IN}C: RETR 1\nS: +OK\n!split 1\n!trickle 400\n!endless x");
    let server = ScriptedServer::start([Script::parse("trickle", &script)]);
    let poller = Poller::new(server.port(), &PLAIN.replace("5s", "1s"));
    let report = poller.poll();
    let said = report.failure.expect("a failure").to_string();
    assert!(said.contains("gave up after 10s") && said.contains("too slowly"), "{said}");
    assert!(report.took < Duration::from_secs(15), "{:?}", report.took);
    assert!(poller.maildir().is_empty());
}

#[test]
fn an_end_that_is_glued_to_the_last_line_is_no_end() {
    // Exchange 2000 did so: "last line.CRLF" and then silence.
    let glued = format!("{LOG_IN}C: RETR 1\nS: +OK\nS: A: b\nS:\nS: last line.\n!stall");
    let (delivered, failures) = play(&[&glued], 1);
    assert!(delivered.is_empty());
    assert!(failures[0].contains("gave up after 1s waiting for RETR 1"), "{}", failures[0]);
}

#[test]
fn a_message_without_its_end_is_not_delivered_when_the_server_goes() {
    let cut = format!("{LOG_IN}C: RETR 1\nS: +OK\nS: A: b\nS:\nS: body\nS- .\n!cut");
    let whole = format!(
        "{}C: RETR 1\nS: +OK\nS: A: b\nS:\nS: body\nS: .\nC: NOOP\nS: +OK\nC: DELE 1\nS: +OK\nC: QUIT\nS: +OK",
        known()
    );
    // The poll goes on in a new session.
    let (delivered, failures) = play(&[&cut, &whole], 1);
    assert_eq!(failures, [""]);
    assert_eq!(delivered, [b"A: b\n\nbody\n".to_vec()]);
}

#[test]
fn a_dot_that_is_not_stuffed_ends_no_message_that_is_then_deleted() {
    // The size says that more should come; what comes is no reply.
    let unstuffed =
        format!("{LOG_IN}C: RETR 1\nS- +OK\\r\\nA: b\\r\\n\\r\\n.\\r\\nrest\\r\\n.\\r\\n\n!expect-close");
    let (delivered, failures) = play(&[&unstuffed], 1);
    assert!(delivered.is_empty(), "{delivered:?}");
    assert!(failures[0].contains("fetch"), "{}", failures[0]);
}

#[test]
fn two_replies_to_one_command_are_noticed_before_anything_is_deleted_for_them() {
    // The second +OK would pass for the answer to DELE.
    let twice =
        format!("{LOG_IN}C: RETR 1\nS: +OK\nS: A: b\nS:\nS: body\nS: .\nS: +OK again\nS: .\n!expect-close");
    // Its content must tell that it is the one that is recorded, as its header could be another's.
    let again = format!("{}{ONE}C: DELE 1\nS: +OK\nC: QUIT\nS: +OK", known());
    let (delivered, failures) = play(&[&twice, &again], 1);
    assert_eq!((delivered.len(), failures), (1, vec![String::new()]));
}

#[test]
fn a_reply_before_its_command_ends_the_session() {
    let early = "
        S: +OK ready
        C: CAPA
        S- -ERR\\r\\n+OK hello alice\\r\\n+OK\\r\\n+OK\\r\\n1 x\\r\\n.\\r\\n
        !expect-close
    ";
    // It may have been CAPA's, which not every server answers as it should.
    let earlier = "S- +OK ready\\r\\n+OK hello alice\\r\\n\n!expect-close";
    let (delivered, failures) = play(&[early, earlier], 1);
    assert!(delivered.is_empty());
    assert!(failures[0].contains("nobody asked for"), "{}", failures[0]);
}

#[test]
fn a_continuation_where_a_status_belongs_ends_the_session() {
    let script = format!("{LOG_IN}C: RETR 1\nS- +\\r\\nA: b\\r\\n.\\r\\n\n!expect-close");
    let (delivered, failures) = play(&[&script], 1);
    assert!(delivered.is_empty());
    assert!(failures[0].contains("no reply"), "{}", failures[0]);
}

#[test]
fn a_plus_ok_where_a_challenge_belongs_is_a_challenge() {
    let script = "
        S: +OK
        C: CAPA
        S: +OK
        S: SASL PLAIN
        S: .
        C: AUTH PLAIN
        S: +OK
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
    let server = ScriptedServer::start([Script::parse("+OK", script)]);
    let mut poller = Poller::new(server.port(), "tls: none\nauth: [plain]");
    // Too long for one line, so that it is asked for.
    poller.account.user = "alice".repeat(60);
    poller.must();
    server.finish();
}

#[test]
fn a_server_that_falls_silent_at_capa_is_asked_without_it_and_remembered() {
    let silent = "S: +OK ready\nC: CAPA\n!stall";
    let end = "C: RETR 1\nS: +OK\nS: A: b\nS:\nS: body\nS: .\nC: DELE 1\nS: +OK\nC: QUIT\nS: +OK";
    let first = format!("{}{end}", known());
    let later = known().replace("S: 1 uid-1\n", "").replace("S: 1 14\n", "");
    let later = format!("{later}C: QUIT");
    let (delivered, failures) = play(&[silent, &first, &later], 2);
    assert_eq!((delivered.len(), failures), (1, vec![String::new(); 2]));
}

#[test]
fn answers_out_of_step_end_the_session_and_what_was_recorded_is_not_delivered_again() {
    // As seen at Office 365: an empty line after the answer to DELE.
    let first = format!("{LOG_IN}{ONE}C: DELE 1\nS- \\r\\n+OK\\r\\n\n!expect-close");
    // Its content must tell that it is the one that is recorded, as its header could be another's.
    let again = format!("{}{ONE}C: DELE 1\nS: +OK\nC: QUIT\nS: +OK", known());
    let (delivered, failures) = play(&[&first, &again], 1);
    assert_eq!(delivered, [b"A: b\n\nbody\n".to_vec()]);
    assert_eq!(failures, [""]);
}
