//! The program, and the servers, killed again and again at any moment: nothing is ever lost, and nothing is ever twice.
//!
//! `POSTRIDER_KILLS` sets how often the program is killed (520 times without it), `POSTRIDER_SEED` when.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::dovecot::{self, Dovecot, Format};
use crate::support::maildrop::{Fault, Maildrop, Settings, What};
use crate::support::mails;
use crate::support::postrider::{Home, LIMIT, assert_same};

/// Messages that arrive before each kill.
const ARRIVING: usize = 15;
/// Kills before a run that is left alone.
const ROUND: usize = 20;

/// A maildrop that can be filled and looked into.
trait Source {
    fn tls_port(&self) -> u16;
    fn authority(&self) -> &str;
    fn user(&self) -> &str;
    fn put(&self, messages: &[(usize, Vec<u8>)]);
    /// The messages that are left, line ends LF.
    fn left(&self) -> Vec<Vec<u8>>;
}

impl Source for Dovecot {
    fn tls_port(&self) -> u16 {
        self.tls_port
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn user(&self) -> &str {
        "u1"
    }

    fn put(&self, messages: &[(usize, Vec<u8>)]) {
        let octets: Vec<_> = messages.iter().map(|(_, octets)| octets.clone()).collect();
        self.put("u1", &octets);
    }

    fn left(&self) -> Vec<Vec<u8>> {
        self.messages("u1").iter().map(|(_, octets)| mails::with_lf(octets)).collect()
    }
}

impl Source for Maildrop {
    fn tls_port(&self) -> u16 {
        self.port()
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn user(&self) -> &str {
        "alice"
    }

    fn put(&self, messages: &[(usize, Vec<u8>)]) {
        for (number, octets) in messages {
            let crlf = octets.split_inclusive(|octet| *octet == b'\n').flat_map(|line| {
                let (text, end) = line.split_at(line.len() - usize::from(line.ends_with(b"\n")));
                [text, if end.is_empty() { b"" } else { b"\r\n" }].concat()
            });
            self.put(&number.to_string(), crlf.collect::<Vec<u8>>());
        }
    }

    fn left(&self) -> Vec<Vec<u8>> {
        let numbers = self.uids();
        numbers.iter().map(|number| message(number.parse().expect("a number"))).collect()
    }
}

/// Messages that are all different; one in twelve is so large that it goes to its file in parts.
fn message(number: usize) -> Vec<u8> {
    let line = format!("Line of message {number}, so that no two messages are alike.\n");
    let lines = if number.is_multiple_of(12) { 3000 } else { 1 + number * 7 % 60 };
    [format!("Subject: message {number}\nMessage-ID: <{number}@example.org>\n\n"), line.repeat(lines)]
        .concat()
        .into_bytes()
}

/// A user's home and what was sent to them.
struct Life<'a> {
    server: &'a dyn Source,
    home: Home,
    sent: Vec<Vec<u8>>,
    next: usize,
}

impl<'a> Life<'a> {
    fn begin(server: &'a dyn Source, next: usize) -> Self {
        let home = Home::new();
        home.write("ca.pem", server.authority());
        home.configure(&format!(
            "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: {}\n    password: {}\n    \
             tls_ca: ~/ca.pem\n    keep: none\n    deliver: {{ maildir: ~/Mail }}\n",
            server.tls_port(),
            server.user(),
            dovecot::PASSWORD
        ));
        Self { server, home, sent: Vec::new(), next }
    }

    fn mail_arrives(&mut self) {
        let messages: Vec<_> =
            (self.next..self.next + ARRIVING).map(|number| (number, message(number))).collect();
        self.next += ARRIVING;
        self.server.put(&messages);
        self.sent.extend(messages.into_iter().map(|(_, octets)| octets));
    }

    /// Whatever was just killed: each message is on the server or whole in the maildir, and none is there twice.
    fn assert_nothing_lost(&self) {
        let left: HashSet<_> = self.server.left().into_iter().collect();
        let delivered = self.home.maildir("Mail");
        let distinct: HashSet<_> = delivered.iter().collect();
        assert_eq!(distinct.len(), delivered.len(), "a message is in the maildir twice");
        for message in &self.sent {
            let subject = message.split(|octet| *octet == b'\n').next().map(String::from_utf8_lossy);
            assert!(left.contains(message) || distinct.contains(message), "lost: {subject:?}");
        }
    }

    /// After a run that nobody disturbed, each message is in the maildir once, and nothing else anywhere.
    fn assert_complete(&self) {
        self.home.must(&["sync"], 0);
        assert_same(self.home.maildir("Mail"), self.sent.clone());
        assert_eq!(self.home.leftovers("Mail"), Vec::<std::path::PathBuf>::new(), "left in tmp");
        assert_eq!(self.server.left().len(), 0, "messages are left on the server");
    }
}

/// Numbers that look like chance and are the same for the same seed (xorshift).
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = std::env::var("POSTRIDER_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(0x9e37_79b9_7f4a_7c15_u64);
        println!("POSTRIDER_SEED={seed}");
        Self(seed.max(1))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    fn moment(&mut self, within: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(within.as_micros()).expect("a short time")))
    }
}

fn kills() -> usize {
    std::env::var("POSTRIDER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(520)
}

/// Sends a signal at a moment of a run, and says whether the run had not ended by then.
fn disturbed(home: &Home, signal: Signal, at: Duration) -> (bool, Option<i32>) {
    let begin = Instant::now();
    let mut running = home.start(&["sync"]);
    thread::sleep(at.saturating_sub(begin.elapsed()));
    let was_running = running.is_running();
    running.signal(signal);
    let ended = running.wait(LIMIT);
    assert!(ended.took < Duration::from_secs(10), "it took {:?} after {signal}", ended.took);
    (was_running, ended.status)
}

/// Kills the program so often, at moments spread evenly over a whole run.
fn killed_at_any_moment(server: &dyn Source, kills: usize) {
    let mut chance = Chance::new();
    let (mut killed, mut in_flight, mut next) = (0, 0, 0);
    while killed < kills {
        let mut life = Life::begin(server, next);
        // How long a run takes here and now.
        life.mail_arrives();
        let begin = Instant::now();
        life.home.must(&["sync"], 0);
        let mut whole = begin.elapsed() * 11 / 10;
        for _ in 0..ROUND {
            life.mail_arrives();
            let before = life.home.files("Mail").len();
            let at = chance.moment(whole);
            let (was_running, _) = disturbed(&life.home, Signal::SIGKILL, at);
            if was_running {
                killed += 1;
            } else {
                whole = at;
            }
            let moved = life.home.files("Mail").len() - before;
            let half_done = moved > 0 || !life.home.leftovers("Mail").is_empty();
            in_flight += usize::from(was_running && half_done);
            life.assert_nothing_lost();
        }
        assert_eq!(life.home.must(&["sync"], 0).stderr, "", "recovery is no news to a cron job");
        life.assert_complete();
        next = life.next;
    }
    println!("{killed} kills, {in_flight} of them between the first and the last message");
    assert!(in_flight * 10 > killed, "only {in_flight} of {killed} kills fell while messages were moving");
}

#[test]
fn a_program_killed_at_any_moment_by_kill_9_loses_and_repeats_nothing_from_dovecot() {
    let server = Dovecot::start(Format::Mdbox, 1);
    killed_at_any_moment(&server, kills() / 2);
}

#[test]
fn a_program_killed_at_any_moment_by_kill_9_loses_and_repeats_nothing_from_a_fast_server() {
    let server = Maildrop::start(Settings::default());
    killed_at_any_moment(&server, kills().div_ceil(2));
}

/// Asks the program to end at any moment of so many runs, and says how many were stopped in their middle.
fn asked_to_end(server: &dyn Source, signal: Signal, rounds: usize) -> usize {
    let mut chance = Chance::new();
    let (mut next, mut stopped) = (0, 0);
    for _ in 0..rounds {
        let mut life = Life::begin(server, next);
        life.mail_arrives();
        let begin = Instant::now();
        life.home.must(&["sync"], 0);
        let whole = begin.elapsed();
        for _ in 0..ROUND {
            life.mail_arrives();
            let (_, status) = disturbed(&life.home, signal, chance.moment(whole));
            // Before the signal is taken, it ends the process, as anyone expects of a program that just began.
            assert!(matches!(status, None | Some(0 | 75)), "{status:?}");
            stopped += usize::from(status == Some(75));
            // Who is asked, and not killed, leaves nothing half-written.
            assert_eq!(life.home.leftovers("Mail"), Vec::<std::path::PathBuf>::new(), "left in tmp");
            life.assert_nothing_lost();
        }
        life.assert_complete();
        next = life.next;
    }
    stopped
}

#[test]
fn a_program_asked_to_end_at_any_moment_ends_soon_and_loses_and_repeats_nothing() {
    let server = Maildrop::start(Settings::default());
    let stopped = [Signal::SIGTERM, Signal::SIGINT].map(|signal| asked_to_end(&server, signal, 3));
    assert!(
        stopped.iter().all(|stopped| *stopped > 10),
        "only {stopped:?} runs were stopped in their middle"
    );
}

#[test]
fn a_program_asked_to_end_amid_a_session_with_dovecot_loses_and_repeats_nothing() {
    let server = Dovecot::start(Format::Mdbox, 1);
    let stopped = asked_to_end(&server, Signal::SIGTERM, 2);
    assert!(stopped > 5, "only {stopped} runs were stopped in their middle");
}

#[test]
fn a_server_that_dies_after_any_number_of_octets_costs_no_message_and_repeats_none() {
    let server = Maildrop::start(Settings::default());
    let mut chance = Chance::new();
    let mut life = Life::begin(&server, 0);
    for _ in 0..100 {
        life.mail_arrives();
        // 15 messages and what is said about them are some 200 kB, or 30 kB without a large one.
        let octets = chance.below(if life.next % 12 < ARRIVING { 220_000 } else { 30_000 });
        server.set_fault(Fault::CutAfterOctets(octets));
        let status = life.home.run(&["sync"]).status;
        assert!(matches!(status, Some(0 | 75)), "{status:?}");
        life.assert_nothing_lost();
    }
    // Most polls go on with a session of their own behind a cut, and succeed.
    let cut = server.count(|what| matches!(what, What::Faulted(_)));
    server.set_fault(Fault::None);
    life.assert_complete();
    assert!(cut > 50, "only {cut} connections were cut");
}

#[test]
fn a_dovecot_killed_at_any_moment_costs_no_message_and_repeats_none() {
    let mut server = Dovecot::start(Format::Mdbox, 1);
    let mut chance = Chance::new();
    let Life { mut home, mut sent, .. } = Life::begin(&server, 0);
    let mut failed = 0;
    let mut whole = Duration::from_secs(1);
    for round in 0..12 {
        let messages: Vec<_> = (round * 60..(round + 1) * 60).map(message).collect();
        server.put("u1", &messages);
        sent.extend(messages);
        let begin = Instant::now();
        let mut running = home.start(&["sync"]);
        // How long a run takes here and now, the first one tells.
        let at = if round == 0 { whole } else { chance.moment(whole) };
        while begin.elapsed() < at && running.is_running() {
            std::hint::spin_loop();
        }
        whole = if round == 0 { begin.elapsed() } else { whole };
        server.kill();
        let status = running.wait(LIMIT).status;
        assert!(matches!(status, Some(0 | 75)), "{status:?}");
        failed += usize::from(status == Some(75));
        server.restart();
        let life = Life { server: &server, home, sent, next: 0 };
        life.assert_nothing_lost();
        (home, sent) = (life.home, life.sent);
    }
    Life { server: &server, home, sent, next: 0 }.assert_complete();
    assert!(failed > 3, "only {failed} runs were cut off");
}
