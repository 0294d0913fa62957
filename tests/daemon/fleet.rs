//! Workers that share a database, and what becomes of mail when they are killed, stopped, or cut off from it.
//!
//! Some seconds each; `POSTRIDER_FLEET=5m` lets the killing go on for so long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, SOON};
use crate::support::http_server::{HttpServer, answer};
use crate::support::postgres::Postgres;
use crate::support::postrider::Home;
use crate::support::process::{free_port, wait_until};
use crate::support::provider::Provider;
use crate::support::relay::Relay;

pub const SILENCE: &str = "2s";
/// The time after which a silent worker is evicted.
pub const EVICTED: Duration = Duration::from_secs(2);

/// A provider, where its mail goes, and the home that all workers have.
pub struct Site {
    pub provider: Provider,
    pub receiver: HttpServer,
    pub home: Home,
    url: String,
    /// By the number in its header: every message that was put.
    put: BTreeMap<usize, Vec<u8>>,
    maildrops: usize,
}

impl Site {
    /// Half of the maildrops go to the receiver, half into a maildir that all workers see.
    pub fn new(maildrops: usize, url: String) -> Self {
        let (provider, receiver) = (Provider::start(), HttpServer::start(|_| answer(204)));
        (0..maildrops).for_each(|number| provider.make(&format!("u{number}")));
        let site = Self { provider, receiver, home: Home::new(), url, put: BTreeMap::new(), maildrops };
        site.configure("config/postrider/config.yaml", &format!("{{ url: \"{}\" }}", site.url));
        site
    }

    fn configure(&self, path: &str, database: &str) {
        let mut yaml = format!(
            "state: {{ postgres: {database} }}\n\
             daemon: {{ max_sessions: 60, max_sessions_per_host: 60, startup_spread: 1s }}\n\
             notify: {{ deliver: false }}\n\
             defaults: {{ host: 127.0.0.1, port: {}, password: x, tls: none, auth: [user-pass], interval: 1s, \
             keep: none, timeout: 10s }}\naccounts:\n",
            self.provider.port()
        );
        for number in 0..self.maildrops {
            let target = match number % 2 {
                0 => format!("{{ http: {{ url: \"{}\" }} }}", self.receiver.url("/in")),
                _ => "{ maildir: ~/Mail, shared: true }".to_owned(),
            };
            yaml += &format!("  a{number}: {{ user: u{number}, deliver: {target} }}\n");
        }
        self.home.write(path, &yaml);
    }

    pub fn worker(&self) -> Daemon {
        Daemon::start_with(&self.home, &["-v", "daemon"], &[("POSTRIDER_FLEET_SILENCE", SILENCE)])
    }

    /// Puts a message into a maildrop.
    pub fn put(&mut self, maildrop: usize) {
        let number = self.put.len();
        let text = format!(
            "Message-ID: <{number}@a>\r\nDate: b\r\nSubject: {number}\r\n\r\n{}",
            format!("line of {number}\r\n").repeat(50)
        );
        self.provider.put(&format!("u{maildrop}"), &format!("uid-{number}"), text.clone());
        self.put.insert(number, text.into_bytes());
    }

    fn is_empty(&self) -> bool {
        self.provider.messages() == 0
    }

    /// Waits until all has been fetched and deleted.
    pub fn settles(&self, limit: Duration, logs: impl Fn() -> String) {
        assert!(wait_until(limit, || self.is_empty()), "{} are left\n{}", self.provider.messages(), logs());
    }

    /// Says that each message is there, in the maildir once, and at the receiver under one key.
    pub fn has_each_once(&self) {
        let number = |octets: &[u8]| -> usize {
            let text = String::from_utf8_lossy(octets);
            text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().parse().unwrap()
        };
        let mut found: Vec<usize> = self.home.maildir("Mail").iter().map(|octets| number(octets)).collect();
        let mut keys: BTreeMap<String, usize> = BTreeMap::new();
        for asked in self.receiver.asked() {
            let own = number(&asked.body);
            assert_eq!(asked.body, self.put[&own], "{own} was changed");
            let known = *keys.entry(asked.field("idempotency-key").to_owned()).or_insert(own);
            assert_eq!(known, own, "two messages have one key");
        }
        found.extend(keys.into_values());
        found.sort_unstable();
        assert_eq!(found, self.put.keys().copied().collect::<Vec<_>>());
    }
}

pub fn log_of(workers: &[Option<Daemon>]) -> String {
    workers.iter().flatten().map(|worker| worker.log()).collect::<Vec<_>>().join("\n--\n")
}

#[test]
fn three_workers_of_which_one_is_killed_again_and_again_lose_nothing_and_repeat_nothing() {
    let long = std::env::var("POSTRIDER_FLEET").ok().and_then(|text| humantime::parse_duration(&text).ok());
    let mut site = Site::new(200, Postgres::shared().database());
    let mut workers: Vec<_> = (0..3).map(|_| Some(site.worker())).collect();
    let until = Instant::now() + long.unwrap_or(Duration::from_secs(8));
    let mut turn = 0;
    while Instant::now() < until {
        for step in 0..10 {
            site.put((turn * 37 + step * 19) % 200);
        }
        thread::sleep(Duration::from_millis(300));
        let killed = workers[turn % 3].take().unwrap();
        killed.running.signal(Signal::SIGKILL);
        drop(killed);
        workers[turn % 3] = Some(site.worker());
        turn += 1;
    }
    site.settles(2 * SOON, || log_of(&workers));
    site.has_each_once();
    assert_eq!(site.provider.polls().1, 0, "a maildrop had two sessions at once");
    // No claim is lost for good: each maildrop is polled again.
    thread::sleep(2 * EVICTED);
    let (longest, never) = site.provider.longest();
    assert!(never == 0 && longest < SOON, "{longest:?}, {never} never");
    workers.into_iter().flatten().for_each(Daemon::stop);
}

/// Stops a worker at a command for longer than its lease, lets another do all, and wakes it.
fn stopped_at(command: &str) {
    let mut site = Site::new(1, Postgres::shared().database());
    site.put(0);
    site.put(0);
    site.provider.listen();
    site.provider.hold(command);
    let sleeper = site.worker();
    assert!(wait_until(SOON, || site.provider.held().is_some()), "{command}: {}", sleeper.log());
    let session = site.provider.held().unwrap();
    sleeper.running.signal(Signal::SIGSTOP);
    let other = site.worker();
    let is_next = || site.provider.said().iter().any(|(_, number, line)| *number > session && line == "QUIT");
    assert!(wait_until(SOON, is_next), "{command}: {}", other.log());
    site.settles(SOON, || other.log());
    let before = site.provider.said().iter().filter(|(_, number, _)| *number == session).count();
    site.provider.release();
    sleeper.running.signal(Signal::SIGCONT);
    sleeper.logs("evicted");
    thread::sleep(Duration::from_millis(500));
    let after: Vec<_> =
        site.provider.said().into_iter().filter(|(_, number, _)| *number == session).collect();
    assert_eq!(after.len(), before, "{command}: it went on: {after:?}");
    site.has_each_once();
    // It goes on as another worker.
    other.stop();
    site.put(0);
    site.settles(SOON, || sleeper.log());
    site.has_each_once();
    sleeper.stop();
}

#[test]
fn a_worker_that_was_stopped_for_longer_than_its_lease_says_and_writes_nothing_more() {
    thread::scope(|scope| {
        for command in ["PASS", "RETR", "DELE", "QUIT"] {
            scope.spawn(move || stopped_at(command));
        }
    });
}

#[test]
fn a_worker_that_was_stopped_while_a_receiver_had_its_message_records_nothing() {
    let mut site = Site::new(1, Postgres::shared().database());
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let held = gate.clone();
    site.receiver = HttpServer::start(move |_| {
        let (count, changed) = &*held;
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count == 1 {
            drop(changed.wait_while(count, |count| *count < 100).unwrap());
        }
        answer(204)
    });
    site.configure("config/postrider/config.yaml", &format!("{{ url: \"{}\" }}", site.url));
    site.put(0);
    site.provider.listen();
    let sleeper = site.worker();
    assert!(wait_until(SOON, || *gate.0.lock().unwrap() == 1), "{}", sleeper.log());
    sleeper.running.signal(Signal::SIGSTOP);
    let other = site.worker();
    site.settles(SOON, || other.log());
    *gate.0.lock().unwrap() = 100;
    gate.1.notify_all();
    sleeper.running.signal(Signal::SIGCONT);
    sleeper.logs("evicted");
    site.has_each_once();
    let quits: BTreeSet<u64> = site
        .provider
        .said()
        .iter()
        .filter(|(.., line)| line == "QUIT")
        .map(|(_, number, _)| *number)
        .collect();
    assert!(!quits.contains(&1), "the stopped session said QUIT");
    other.stop();
    sleeper.stop();
}

#[test]
fn a_database_that_stops_at_once_and_cuts_connections_costs_no_message() {
    let port = free_port();
    let mut server = Postgres::start(port, "");
    let url = server.database();
    let mut site = Site::new(60, url);
    let workers: Vec<_> = (0..2).map(|_| Some(site.worker())).collect();
    for round in 0..3 {
        for step in 0..20 {
            site.put((round * 20 + step * 7) % 60);
        }
        thread::sleep(Duration::from_millis(700));
        match round {
            0 => {
                let cut =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
                server.execute("postgres", cut);
            }
            _ => {
                server.stop_at_once();
                thread::sleep(if round == 1 { Duration::ZERO } else { 2 * EVICTED });
                server.run();
            }
        }
    }
    site.settles(2 * SOON, || log_of(&workers));
    site.has_each_once();
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_worker_that_is_cut_off_from_the_database_leaves_its_maildrops_to_others() {
    let port = free_port();
    let server = Postgres::start(port, "");
    server.execute("postgres", "ALTER USER postrider PASSWORD 'secret'");
    let url = server.database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let mut site = Site::new(30, url);
    let relay = Relay::start(port);
    let far = format!("postgresql://postrider@127.0.0.1:{}/{database}", relay.port());
    site.configure("far.yaml", &format!("{{ url: \"{far}\", password: secret, tls: none }}"));
    let near = site.worker();
    let path = site.home.path("far.yaml");
    let arguments = ["--config", path.to_str().unwrap(), "-v", "daemon"];
    let far = Daemon::start_with(&site.home, &arguments, &[("POSTRIDER_FLEET_SILENCE", SILENCE)]);
    (0..30).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || far.log());
    relay.hold_after(0);
    (0..30).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || near.log());
    site.has_each_once();
    near.logs("was not heard of for too long");
    relay.open();
    (0..30).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || near.log());
    far.logs("evicted");
    site.has_each_once();
    [near, far].into_iter().for_each(Daemon::stop);
}

#[test]
fn a_target_that_is_one_machines_own_is_refused() {
    let site = Site::new(2, Postgres::shared().database());
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    site.home.configure(&config.replace(", shared: true", ""));
    let ended = site.home.must(&["daemon"], 78);
    assert!(ended.stderr.contains("a1: ") && ended.stderr.contains("shared: true"), "{}", ended.stderr);
}

#[test]
fn a_worker_that_starts_later_soon_polls_its_share_of_quiet_maildrops() {
    let url = Postgres::shared().database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let site = Site::new(200, url);
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    site.home.configure(&config.replace("interval: 1s", "interval: 5s"));
    let ask = |sql: &str| Postgres::shared().execute(&database, sql);
    let first = site.worker();
    let all = "SELECT count(*) FROM lease JOIN worker ON worker.id = owner";
    let has_all = || site.provider.polls().0 >= 200 && ask(all) == "200";
    assert!(wait_until(2 * SOON, has_all), "{}", first.log());
    // What they polled first is due again, and in time.
    thread::sleep(Duration::from_secs(10));
    let second = site.worker();
    let shares = |column: &str| -> Vec<u64> {
        let sql = format!("SELECT {column} FROM worker WHERE NOT evicted ORDER BY id");
        ask(&sql).lines().map(|line| line.parse().unwrap()).collect()
    };
    let owned = || shares("(SELECT count(*) FROM lease WHERE owner = worker.id)");
    let is_shared = || owned().len() == 2 && owned().iter().all(|count| *count >= 60);
    assert!(wait_until(2 * SOON, is_shared), "{:?}\n{}", owned(), second.log());
    let before = shares("claims");
    thread::sleep(Duration::from_secs(11));
    let polled: Vec<_> = shares("claims").iter().zip(before).map(|(now, before)| now - before).collect();
    let sum: u64 = polled.iter().sum();
    assert!(polled.iter().all(|count| count * 10 >= sum * 3), "{polled:?}\n{}", second.log());
    assert_eq!(site.provider.polls().1, 0, "a maildrop had two sessions at once");
    [first, second].into_iter().for_each(Daemon::stop);
}
