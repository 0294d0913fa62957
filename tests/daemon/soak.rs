//! A daemon for a while among servers that die, fall silent and cut connections, on a disk that fills up, itself killed
//! now and then: nothing is lost or repeated, and after each fault every account is polled in time.
//!
//! Some twenty seconds at an interval of a second; `POSTRIDER_SOAK=10m` goes on for so long at one of ten seconds.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, SOON, account, config, settings, soak};
use crate::support::maildrop::{Fault, Maildrop, What};
use crate::support::mails::with_lf;
use crate::support::mounted::Mounted;
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{free_port, wait_until};
use nix::sys::signal::Signal;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// How much later than its interval an account may be polled after a fault.
const GRACE: Duration = Duration::from_secs(60);

/// A maildrop, on a server that may be away.
struct Site {
    name: String,
    port: u16,
    server: Option<Maildrop>,
    /// Everything that was ever put into it.
    sent: BTreeMap<String, Vec<u8>>,
}

impl Site {
    fn new(number: usize) -> Self {
        let server = Maildrop::start_at(free_port(), settings());
        Self { name: format!("a{number}"), port: server.port(), server: Some(server), sent: BTreeMap::new() }
    }

    fn put(&mut self, octets: usize) {
        let uid = format!("{}.{}", self.name, self.sent.len());
        let line = format!("{uid} 0123456789\r\n");
        let message = format!("Subject: {uid}\r\n\r\n{}", line.repeat(octets / line.len() + 1)).into_bytes();
        self.server().put(&uid, message.clone());
        self.sent.insert(uid, message);
    }

    fn server(&self) -> &Maildrop {
        self.server.as_ref().expect("a server that is there")
    }

    /// Ends the server as a crash does, with its sessions, and gives what is in the maildrop.
    fn kill(&mut self) -> Vec<String> {
        let left = self.server().uids();
        self.server = None;
        left
    }

    fn restart(&mut self, left: &[String]) {
        let server = Maildrop::start_at(self.port, settings());
        left.iter().for_each(|uid| server.put(uid, self.sent[uid].clone()));
        self.server = Some(server);
    }

    fn expected(&self) -> Vec<Vec<u8>> {
        self.sent.values().map(|message| with_lf(message)).collect()
    }
}

/// The failures in a row of each account.
fn failures(home: &Home) -> Vec<u64> {
    let rows = home.must(&["status", "--json"], 0).stdout;
    let rows = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.map(|row| row["failures"].as_u64().unwrap()).collect()
}

#[test]
fn among_faults_nothing_is_lost_or_repeated_and_every_account_is_polled_in_time() {
    let (time, interval) = match soak() {
        Some(time) => (time, Duration::from_secs(10)),
        None => (Duration::from_secs(20), Duration::from_secs(1)),
    };
    let seed = getrandom::u64().unwrap();
    eprintln!("seed {seed}");
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat());
    let mut chance = |below: u64| rng.next_u64() % below;

    let home = Home::new();
    let disk = Mounted::tmpfs(home.path(""), "64m");
    let mut sites: Vec<_> = (0..6).map(Site::new).collect();
    let accounts: Vec<_> = sites
        .iter()
        .enumerate()
        .map(|(number, site)| {
            let keep = if number < 4 { "forever" } else { "none" };
            account(
                &site.name,
                site.port,
                &format!("interval: {}s, timeout: 2s, keep: {keep}", interval.as_secs()),
            )
        })
        .collect();
    home.configure(&config("max_sessions_per_host: 3", &accounts));
    let mut daemon = Daemon::start(&home);
    let begin = Instant::now();
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while begin.elapsed() < time || rounds < 5 {
        for site in &mut sites {
            (0..chance(4)).for_each(|_| site.put(chance(20_000) as usize));
        }
        let which = chance(sites.len() as u64) as usize;
        let what = match (rounds % 5, &disk) {
            (0, _) => {
                let left: Vec<_> = sites.iter_mut().take(which + 1).map(Site::kill).collect();
                let away = || failures(&home).iter().filter(|failures| **failures > 0).count() > which;
                assert!(wait_until(SOON + interval, away), "{:?}: {}", failures(&home), daemon.log());
                sites.iter_mut().zip(&left).for_each(|(site, left)| site.restart(left));
                "servers were killed"
            }
            (1, _) => {
                for site in &sites {
                    site.server().set_fault(Fault::CutAfterOctets(chance(30_000)));
                }
                sites[which].put(40_000);
                let cut = |what: &What| matches!(what, What::Faulted(Fault::CutAfterOctets(_)));
                assert!(
                    wait_until(SOON + interval, || sites[which].server().count(cut) > 0),
                    "{}",
                    daemon.log()
                );
                "connections were cut"
            }
            (2, _) => {
                sites[which].server().set_fault(Fault::StallAt(1 + chance(4)));
                let stalled = |what: &What| matches!(what, What::Faulted(Fault::StallAt(_)));
                assert!(
                    wait_until(SOON + interval, || sites[which].server().count(stalled) > 0),
                    "{}",
                    daemon.log()
                );
                "a server fell silent"
            }
            (3, Some(disk)) => {
                let told = || daemon.log().matches("full").count() + daemon.log().matches("No space").count();
                let before = told();
                let filler = disk.fill();
                sites[which].put(30_000);
                assert!(wait_until(SOON + interval, || told() > before), "{}", daemon.log());
                fs::remove_file(filler).unwrap();
                "the disk was full"
            }
            (_, _) => {
                sites[which].put(1_000_000);
                let connected = |what: &What| *what == What::Connected;
                let before = sites[which].server().count(connected);
                assert!(wait_until(SOON + interval, || sites[which].server().count(connected) > before));
                daemon.running.signal(Signal::SIGKILL);
                daemon.running.wait(LIMIT);
                daemon = Daemon::start(&home);
                "the daemon was killed"
            }
        };
        // What comes now comes after the fault, and takes a whole poll.
        let over = Instant::now();
        sites.iter_mut().for_each(|site| site.put(10));
        let all_there = || sites.iter().all(|site| home.files(&site.name).len() >= site.sent.len());
        let in_time = wait_until(interval + GRACE, all_there);
        let counts: Vec<_> =
            sites.iter().map(|site| (home.files(&site.name).len(), site.sent.len())).collect();
        assert!(in_time, "after {what}: {counts:?}\n{}\n{}", home.run(&["status"]).stdout, daemon.log());
        slowest = slowest.max(over.elapsed());
        rounds += 1;
    }
    eprintln!("{rounds} faults, all polled within {slowest:?}");
    assert!(!daemon.log().contains("internal error"), "{}", daemon.log());
    daemon.stop();
    for site in &sites {
        assert_same(home.maildir(&site.name), site.expected());
        assert!(home.leftovers(&site.name).is_empty());
    }
}
