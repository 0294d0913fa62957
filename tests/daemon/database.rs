//! Workers whose database is behind a pooler, is promoted in the middle, has no room, takes no writes, or is away; and where
//! their mail goes.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::fleet::{EVICTED, SILENCE, Site, log_of};
use crate::support::daemon::{Daemon, SOON};
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::mail_server::{MailServer, smtp};
use crate::support::mounted::Mounted;
use crate::support::postgres::{Pooler, Postgres, own};
use crate::support::postrider::Home;
use crate::support::process::wait_until;
use crate::support::provider::Provider;

/// Everything that makes waiting for a disk but the commit, which a standby waits for.
const NEARLY_FAST: &str = "fsync = off\nfull_page_writes = off\n";

#[test]
fn workers_behind_a_pooler_by_transactions_lose_nothing_and_repeat_nothing() {
    let server = Postgres::shared();
    let url = server.database();
    let pooler = Pooler::start(server);
    let mut site = Site::new(60, pooler.url(url.rsplit('/').next().unwrap()));
    let mut workers: Vec<_> = (0..2).map(|_| Some(site.worker())).collect();
    for turn in 0..15 {
        (0..5).for_each(|step| site.put((turn * 5 + step) % 60));
        thread::sleep(Duration::from_millis(300));
        let killed = workers[turn % 2].take().unwrap();
        killed.running.signal(Signal::SIGKILL);
        drop(killed);
        workers[turn % 2] = Some(site.worker());
    }
    site.settles(2 * SOON, || log_of(&workers));
    site.has_each_once();
    assert_eq!(site.provider.polls().1, 0, "a maildrop had two sessions at once");
    site.home.must(&["check", "a0"], 1);
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_synchronous_standby_that_is_promoted_in_the_middle_costs_no_message_and_repeats_none() {
    let mut primary = Postgres::start(0, NEARLY_FAST);
    let url = primary.database();
    let standby = primary.standby();
    let mut site = Site::new(60, primary.url_with(&standby, url.rsplit('/').next().unwrap()));
    let workers: Vec<_> = (0..2).map(|_| Some(site.worker())).collect();
    for turn in 0..6 {
        (0..20).for_each(|step| site.put((turn * 20 + step * 7) % 60));
        thread::sleep(Duration::from_millis(500));
        if turn == 2 {
            primary.stop_at_once();
            standby.execute("postgres", "SELECT pg_promote()");
        }
    }
    site.settles(2 * SOON, || log_of(&workers));
    site.has_each_once();
    assert_eq!(site.provider.polls().1, 0, "a maildrop had two sessions at once");
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_standby_that_takes_no_writes_is_one_clear_error() {
    let primary = Postgres::start(0, NEARLY_FAST);
    let url = primary.database();
    let standby = primary.standby();
    let site = Site::new(2, standby.url(url.rsplit('/').next().unwrap()));
    for arguments in [&["sync"][..], &["seen", "list", "a0"], &["wake"]] {
        let told = site.home.must(arguments, 75).stderr;
        assert!(
            told.contains("it takes no writes: it is a standby") && told.contains("name the primary"),
            "{told}"
        );
    }
    let worker = quiet(&site.home);
    worker.logs("it takes no writes");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(worker.log().matches("no writes").count(), 1, "{}", worker.log());
    worker.stop();
    drop(primary);
}

fn quiet(home: &Home) -> Daemon {
    Daemon::start_with(home, &["daemon"], &[("POSTRIDER_FLEET_SILENCE", SILENCE)])
}

#[test]
fn a_database_that_is_away_is_told_once_and_all_goes_on_when_it_is_back() {
    let mut server = Postgres::start(0, NEARLY_FAST);
    let url = server.database();
    let mut site = Site::new(40, url);
    let worker = quiet(&site.home);
    (0..40).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || worker.log());
    server.stop_at_once();
    (0..40).for_each(|maildrop| site.put(maildrop));
    thread::sleep(3 * EVICTED);
    let told = worker.log();
    assert_eq!(told.lines().filter(|line| line.contains("cannot ")).count(), 1, "{told}");
    server.run();
    site.settles(2 * SOON, || worker.log());
    worker.logs("the database answers again");
    site.has_each_once();
    worker.stop();
}

#[test]
fn a_full_disk_of_the_database_is_told_once_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let Some(disk) = Mounted::tmpfs(directory.path().join("disk"), "40m") else { return };
    own(directory.path());
    own(disk.path());
    let server = Postgres::start(0, NEARLY_FAST);
    let place = disk.path().display();
    server.execute("postgres", &format!("CREATE TABLESPACE small LOCATION '{place}'"));
    server.execute("postgres", "CREATE DATABASE small TABLESPACE small");
    let mut site = Site::new(10, server.url("small"));
    let worker = quiet(&site.home);
    site.put(0);
    site.settles(SOON, || worker.log());
    let filler = disk.fill();
    // More than the pages that are there have room for.
    (0..400).for_each(|number| site.put(number % 10));
    worker.logs("No space left on device");
    worker.logs("make room there");
    let received = || site.receiver.asked().len() + site.home.maildir("Mail").len();
    assert!(wait_until(SOON, || received() > 100));
    thread::sleep(Duration::from_secs(3));
    let told = worker.log();
    assert_eq!(told.matches("No space left on device").count(), 1, "{told}");
    std::fs::remove_file(filler).unwrap();
    site.home.must(&["wake"], 0);
    site.settles(2 * SOON, || worker.log());
    worker.logs("the database takes records again");
    site.has_each_once();
    worker.stop();
}

/// Maildrops that are delivered to one target by three workers, of which one is killed again and again.
struct Fleet {
    provider: Provider,
    home: Home,
    put: usize,
}

impl Fleet {
    const MAILDROPS: usize = 30;

    fn new(target: &str) -> Self {
        let (provider, home) = (Provider::start(), Home::new());
        (0..Self::MAILDROPS).for_each(|number| provider.make(&format!("u{number}")));
        let mut yaml = format!(
            "state: {{ postgres: {{ url: \"{}\" }} }}\nnotify: {{ deliver: false }}\n\
             daemon: {{ max_sessions: 60, max_sessions_per_host: 60, startup_spread: 1s }}\n\
             defaults: {{ host: 127.0.0.1, port: {}, password: x, tls: none, auth: [user-pass], interval: 1s, keep: none, \
             timeout: 10s, deliver: {target} }}\naccounts:\n",
            Postgres::shared().database(),
            provider.port()
        );
        (0..Self::MAILDROPS).for_each(|number| yaml += &format!("  a{number}: {{ user: u{number} }}\n"));
        home.configure(&yaml);
        Self { provider, home, put: 0 }
    }

    fn put(&mut self, maildrop: usize) {
        let number = self.put;
        let text = format!("Message-ID: <{number}@a>\r\nDate: b\r\nSubject: {number}\r\n\r\n{number}\r\n");
        self.provider.put(&format!("u{}", maildrop % Self::MAILDROPS), &format!("uid-{number}"), text);
        self.put += 1;
    }

    /// Lets the workers work; gives how many were killed.
    fn run(&mut self) -> usize {
        let mut workers: Vec<_> = (0..3).map(|_| Some(quiet(&self.home))).collect();
        let mut kills = 0;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(6) {
            (0..5).for_each(|step| self.put(kills * 5 + step));
            thread::sleep(Duration::from_millis(300));
            let killed = workers[kills % 3].take().unwrap();
            killed.running.signal(Signal::SIGKILL);
            drop(killed);
            workers[kills % 3] = Some(quiet(&self.home));
            kills += 1;
        }
        let is_empty = || self.provider.messages() == 0;
        assert!(
            wait_until(2 * SOON, is_empty),
            "{} are left\n{}",
            self.provider.messages(),
            log_of(&workers)
        );
        assert_eq!(self.provider.polls().1, 0, "a maildrop had two sessions at once");
        workers.into_iter().flatten().for_each(Daemon::stop);
        kills
    }

    /// Says that each message came, and gives how many came more than once.
    fn repeated<'m>(&self, came: impl Iterator<Item = &'m [u8]>) -> usize {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for octets in came {
            let text = String::from_utf8_lossy(octets);
            let number = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
            *counts.entry(number.trim().parse().unwrap()).or_default() += 1;
        }
        assert_eq!(
            counts.keys().copied().collect::<Vec<_>>(),
            (0..self.put).collect::<Vec<_>>(),
            "one is lost"
        );
        counts.values().map(|count| count - 1).sum()
    }
}

#[test]
fn into_a_mail_server_killed_workers_repeat_at_most_what_was_in_flight() {
    for protocol in ["smtp", "lmtp"] {
        let server = MailServer::start(&["PIPELINING", "8BITMIME", "SIZE"]);
        let target = smtp(server.port(), "").replace("smtp:", &format!("{protocol}:"));
        let mut fleet = Fleet::new(&target);
        let kills = fleet.run();
        let came = server.arrived();
        let repeated = fleet.repeated(came.iter().map(|message| message.octets.as_slice()));
        assert!(repeated <= 64 * kills, "{protocol}: {repeated} repeated by {kills} kills");
        println!("{protocol}: {} messages, {repeated} repeated by {kills} kills", fleet.put);
    }
}

#[test]
fn into_a_mailbox_killed_workers_repeat_nothing() {
    let server = ImapServer::start(Habits::default());
    let mut fleet = Fleet::new(&server.target(""));
    let kills = fleet.run();
    let came = server.inbox();
    let repeated = fleet.repeated(came.iter().map(Vec::as_slice));
    assert_eq!(repeated, 0, "by {kills} kills");
}
