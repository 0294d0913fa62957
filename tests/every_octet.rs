//! A whole session, cut after each of its octets in either direction, stalled at each command, and trickled.

mod account;
mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use postrider::config::account::{Auth, Keep, Password, Pipelining};
use postrider::config::{Account, Target};
use postrider::delivery::Disk;
use postrider::net::Connector;
use postrider::sasl::Mechanism;
use postrider::secret::Secret;
use postrider::session::{self, Ask, Environment, Limits, Report, Task};
use postrider::state::Store;

use support::maildrop::{Fault, Maildrop, Protection, Settings};
use support::mails;
use support::postrider::assert_same;

/// Sessions that go on side by side.
const WORKERS: usize = 4;

/// Messages of a few octets each, so that there are not too many octets to cut after; with what is hard about ends.
const MESSAGES: [(&str, &[u8]); 4] = [
    ("uid-a", b"A: 1\r\n\r\nbody\r\n"),
    ("uid-b", b""),
    ("uid-c", b"A: 3\r\n\r\n.\r\n..\r\n.x\r\n"),
    ("uid-d", b"A: 4\r\n\r\nend\r\n\r\n"),
];

/// One server and what a process needs to poll it, again and again, each time as somebody new.
struct World {
    server: Maildrop,
    environment: Environment,
    scratch: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    polls: usize,
}

/// One user's account and maildir.
struct User {
    account: Account,
    maildir: PathBuf,
}

impl World {
    fn new() -> Self {
        let server = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("state.db");
        let environment = Environment {
            store: Store::open(&state),
            state,
            connector: Connector::default(),
            disk: Disk::new(),
            stop: tokio::sync::watch::channel(false).1,
            ask: Ask::Never,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { server, environment, scratch, runtime: runtime.unwrap(), polls: 0 }
    }

    /// Somebody new, to whom the server is unknown and all messages are new.
    fn user(&mut self, pipelining: Pipelining) -> User {
        self.polls += 1;
        let maildir = self.scratch.path().join(format!("mail-{}", self.polls));
        let account = Account {
            maildrop_id: format!("user-{}", self.polls),
            auth: Auth::List(vec![Mechanism::from_name("plain").unwrap()]),
            password: Some(Password::Literal(Secret::new("correct horse"))),
            keep: Keep::None,
            pipelining,
            deliver: Target::Maildir(maildir.clone()),
            ..account::plain("127.0.0.1", self.server.port())
        };
        for (uid, octets) in MESSAGES {
            self.server.put(uid, octets);
        }
        User { account, maildir }
    }

    fn poll(&self, account: &Account) -> Report {
        let task = Task::Sync(Limits::default());
        self.runtime.block_on(session::run(account, &self.environment, task, &()))
    }

    /// Nothing is lost after a poll that went wrong, and the next one, which nobody disturbs, delivers all of it.
    fn assert_safe(&self, user: &User, what: &str) {
        let all: Vec<_> = MESSAGES.iter().map(|(_, octets)| mails::with_lf(octets)).collect();
        let (left, there) = (self.server.uids(), delivered(&user.maildir));
        for ((uid, _), octets) in MESSAGES.iter().zip(&all) {
            let copies = there.iter().filter(|message| *message == octets).count();
            assert!(copies <= 1, "{what}: {uid} is there {copies} times");
            assert!(copies == 1 || left.iter().any(|left| left == uid), "{what}: {uid} is lost");
        }
        assert!(there.iter().all(|message| all.contains(message)), "{what}: something else was delivered");
        let account = Account { port: self.server.port(), ..user.account.clone() };
        let report = self.poll(&account);
        assert_eq!(report.failure, None, "{what}: the poll after it failed");
        assert_same(delivered(&user.maildir), all);
        assert_eq!(self.server.uids().len(), 0, "{what}: messages are left");
        assert_eq!(fs::read_dir(user.maildir.join("tmp")).unwrap().count(), 0, "{what}: left in tmp");
        fs::remove_dir_all(&user.maildir).unwrap();
    }
}

/// Gives the messages in a maildir, which need not exist yet.
fn delivered(maildir: &Path) -> Vec<Vec<u8>> {
    let files = ["new", "cur"].into_iter().filter_map(|folder| fs::read_dir(maildir.join(folder)).ok());
    files.flatten().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// What is done to the octets of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Whole,
    /// Cut after so many.
    CutAfter(u64),
    /// One after the other, with a pause before each.
    Trickle(Duration),
}

/// Stands before the server for one connection; says how many octets went by from the client and from the server.
fn relay(server: u16, from_client: Flow, from_server: Flow) -> (u16, Arc<[AtomicU64; 2]>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let passed = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counts = passed.clone();
    thread::spawn(move || {
        // A second connection, if the client tries again, comes to nothing, as with a server that is gone.
        let (client, _) = listener.accept().unwrap();
        drop(listener);
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
        let both = [(client.try_clone().unwrap(), server.try_clone().unwrap(), from_client, 0)];
        let both = both.into_iter().chain([(server, client, from_server, 1)]);
        for (from, to, flow, direction) in both {
            let counts = counts.clone();
            thread::spawn(move || pass(from, to, flow, &counts[direction]));
        }
    });
    (port, passed)
}

fn pass(mut from: TcpStream, mut to: TcpStream, flow: Flow, passed: &AtomicU64) {
    let _ = to.set_nodelay(true);
    let mut octets = [0; 4096];
    if flow == Flow::CutAfter(0) {
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
    while let Ok(read @ 1..) = from.read(&mut octets) {
        for chunk in octets[..read].chunks(if let Flow::Trickle(_) = flow { 1 } else { 4096 }) {
            if let Flow::Trickle(pause) = flow {
                thread::sleep(pause);
            }
            let before = passed.load(SeqCst);
            let (chunk, cut) = match flow {
                Flow::CutAfter(limit) if before + chunk.len() as u64 >= limit => {
                    (&chunk[..(limit - before) as usize], true)
                }
                Flow::Whole | Flow::CutAfter(_) | Flow::Trickle(_) => (chunk, false),
            };
            if to.write_all(chunk).is_err() {
                return;
            }
            passed.fetch_add(chunk.len() as u64, SeqCst);
            if cut {
                let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
                return;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Does something for each of these numbers, by several workers with a world each.
fn for_each(numbers: std::ops::RangeInclusive<u64>, each: impl Fn(&mut World, u64) + Sync) {
    let numbers = Mutex::new(numbers);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut world = World::new();
                loop {
                    let next = numbers.lock().unwrap().next();
                    let Some(number) = next else { return };
                    each(&mut world, number);
                }
            });
        }
    });
}

/// Counts the octets of one whole session: from the client, from the server.
fn octets_of_a_session(pipelining: Pipelining) -> [u64; 2] {
    let mut world = World::new();
    let user = world.user(pipelining);
    let (port, passed) = relay(world.server.port(), Flow::Whole, Flow::Whole);
    let report = world.poll(&Account { port, ..user.account.clone() });
    assert_eq!(
        (report.failure.clone(), report.delivered, report.deleted),
        (None, MESSAGES.len(), MESSAGES.len())
    );
    [passed[0].load(SeqCst), passed[1].load(SeqCst)]
}

fn cut_after_each(pipelining: Pipelining) {
    let [client, server] = octets_of_a_session(pipelining);
    assert!(client > 100 && server > 300, "{client} and {server} octets are no whole session");
    let (failed, began) = (AtomicU64::new(0), Instant::now());
    for_each(0..=client + server - 1, |world, number| {
        let (from_client, from_server) = match number.checked_sub(client) {
            None => (Flow::CutAfter(number), Flow::Whole),
            Some(number) => (Flow::Whole, Flow::CutAfter(number)),
        };
        let user = world.user(pipelining);
        let (port, _) = relay(world.server.port(), from_client, from_server);
        let report = world.poll(&Account { port, ..user.account.clone() });
        failed.fetch_add(u64::from(report.failure.is_some()), SeqCst);
        world.assert_safe(
            &user,
            &format!("cut from the client {from_client:?}, from the server {from_server:?}"),
        );
    });
    let failed = failed.into_inner();
    println!("{} sessions, {failed} of them failed, {:?}", client + server, began.elapsed());
    // Those cut within the last line, and after what need not be answered, need not fail.
    assert!(failed + 60 > client + server, "only {failed} of {} sessions failed", client + server);
}

#[test]
fn a_session_cut_after_any_octet_of_either_side_loses_and_repeats_nothing() {
    cut_after_each(Pipelining::Auto);
}

#[test]
fn a_session_in_lockstep_cut_after_any_octet_of_either_side_loses_and_repeats_nothing() {
    cut_after_each(Pipelining::Off);
}

#[test]
fn a_server_that_stalls_at_any_command_is_given_up_within_its_time_and_costs_nothing() {
    for_each(1..=20, |world, command| {
        let user = world.user(Pipelining::Auto);
        world.server.set_fault(Fault::StallAt(command));
        let account = Account { timeout: Duration::from_millis(500), ..user.account.clone() };
        let report = world.poll(&account);
        world.server.set_fault(Fault::None);
        // Two attempts, if silence looks like one that CAPA or pipelining drives away, and some patience.
        assert!(report.took < Duration::from_secs(5), "command {command}: it took {:?}", report.took);
        // CAPA, AUTH, CAPA, UIDL, LIST, four RETR, four DELE and QUIT are fourteen commands, perhaps with a NOOP.
        let waited = report.failure.is_some() || report.took >= account.timeout;
        assert!(command > 13 || waited, "command {command} was answered");
        world.assert_safe(&user, &format!("stalled at command {command}"));
    });
}

#[test]
fn a_reply_that_trickles_in_is_given_up_after_ten_times_the_time_limit_and_a_slow_server_is_not() {
    let mut world = World::new();
    // No octet is late, but a reply of some hundred octets would take 20 s.
    let user = world.user(Pipelining::Auto);
    let (port, _) = relay(world.server.port(), Flow::Whole, Flow::Trickle(Duration::from_millis(150)));
    let timeout = Duration::from_millis(200);
    let report = world.poll(&Account { port, timeout, ..user.account.clone() });
    assert!(report.failure.is_some());
    assert!((2..20).contains(&report.took.as_secs()), "it took {:?}", report.took);
    world.assert_safe(&user, "trickled");
    // All replies together take longer than the limit, but none of them does.
    let user = world.user(Pipelining::Auto);
    let (port, _) = relay(world.server.port(), Flow::Whole, Flow::Trickle(Duration::from_millis(2)));
    let report = world.poll(&Account { port, timeout, ..user.account.clone() });
    assert_eq!(report.failure, None);
    world.assert_safe(&user, "slow");
}
