//! The workers that share a database, in words.

use std::collections::HashMap;
use std::time::Duration;

use humantime::format_duration;

use super::Snapshot;
use super::row::Row;
use super::why::LATE;
use crate::state::Timestamp;
use crate::state::fleet::{Fleet, Host, Tally, Worker};
use crate::text::{Shown, counted};

/// Hosts that are told in words.
const HOSTS: usize = 5;

impl Snapshot {
    /// Says how the workers stand, a line for all of them, one for each, and one for each host at which maildrops wait or fail.
    pub fn workers(&self) -> Vec<String> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let hosts = fleet.hosts.iter().filter(|host| host.tally.waiting > 0 || host.tally.failing > 0);
        let hosts = hosts
            .take(HOSTS)
            .map(|Host { host, tally }| format!("  {}: {}", Shown(host.as_bytes()), of_host(tally)));
        [fleet.sum()].into_iter().chain(fleet.workers.iter().map(of_worker)).chain(hosts).collect()
    }

    /// Takes note of accounts of which this program cannot use the rows, by name, where nobody else polls them either.
    pub fn note_unusable(&mut self, why: &HashMap<String, String>) {
        for row in self.rows.iter_mut().filter(|row| row.enabled && row.polling != Some(true)) {
            let is_late = row.next_poll.is_none_or(|due| self.at.saturating_sub(due) >= LATE);
            let is_left = is_late && row.worker.is_none();
            row.unusable = why.get(&row.account).filter(|_| is_left).cloned();
        }
    }

    /// Says when mail came last to an account, and why none has since.
    pub fn why(&self, row: &Row, last_mail: Option<Timestamp>) -> Option<String> {
        match &self.fleet {
            Some(fleet) if fleet.live() == 0 && row.scheduled => {
                Some("nobody polls it: no worker runs".into())
            }
            Some(_) | None => row.why(self.at, last_mail),
        }
    }
}

impl Fleet {
    /// `3 workers, 1 evicted; of 100000 maildrops 120 being polled, 4 waiting, the longest for 2s`
    pub fn sum(&self) -> String {
        let mut said = counted(self.live(), "worker");
        if self.evicted() > 0 {
            said += &format!(", {} evicted", self.evicted());
        }
        let Tally { maildrops, polling, waiting, .. } = self.all;
        said += &format!("; of {} {polling} being polled", counted(maildrops, "maildrop"));
        match waiting {
            0 => said,
            waiting => {
                let lag = format_duration(Duration::from_secs(self.lag_seconds));
                said + &format!(", {waiting} waiting, the longest for {lag}")
            }
        }
    }
}

impl Worker {
    /// Says what it does, but for its name.
    pub fn state(&self) -> &'static str {
        match self {
            Self { evicted: true, .. } => "evicted",
            Self { draining: true, .. } => "claims nothing more",
            Self { .. } => "polls",
        }
    }
}

fn of_worker(worker: &Worker) -> String {
    let Worker { name, version, heard_seconds, polling, claims, .. } = worker;
    format!(
        "  worker {} ({}): {}, heard of {} ago, {polling} being polled, {}",
        Shown(name.as_bytes()),
        Shown(version.as_bytes()),
        worker.state(),
        format_duration(Duration::from_secs(*heard_seconds)),
        counted(*claims, "claim")
    )
}

/// `5000 maildrops, 40 being polled, 300 waiting, 12 failing`
pub fn of_host(tally: &Tally) -> String {
    let Tally { maildrops, polling, waiting, failing } = tally;
    format!(
        "{}, {polling} being polled, {waiting} waiting, {failing} failing",
        counted(*maildrops, "maildrop")
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::status::tests::{failing, fine, snapshot};

    pub fn fleet() -> Fleet {
        let worker = |name: &str, evicted, polling| Worker {
            name: name.into(),
            version: "0.3.0".into(),
            heard_seconds: 2,
            evicted,
            polling,
            claims: 1200,
            ..Worker::default()
        };
        let tally = |waiting, failing| Tally { maildrops: 50_000, polling: 60, waiting, failing };
        Fleet {
            workers: vec![worker("mx1:4711", false, 120), worker("mx2:\x07", true, 0)],
            lag_seconds: 95,
            all: Tally { maildrops: 100_000, polling: 120, waiting: 4, failing: 30 },
            hosts: vec![
                Host { host: "pop.example.org".into(), tally: tally(4, 29) },
                Host { host: "pop.example.com".into(), tally: tally(0, 0) },
            ],
            ..Fleet::default()
        }
    }

    #[test]
    fn a_fleet_is_told_by_its_workers_and_the_hosts_that_are_in_trouble() {
        let snapshot = Snapshot { fleet: Some(fleet()), ..snapshot(vec![fine("home")]) };
        assert_eq!(
            snapshot.workers(),
            [
                "1 worker, 1 evicted; of 100000 maildrops 120 being polled, 4 waiting, the longest for 1m 35s",
                "  worker mx1:4711 (0.3.0): polls, heard of 2s ago, 120 being polled, 1200 claims",
                "  worker mx2:\\u{7} (0.3.0): evicted, heard of 2s ago, 0 being polled, 1200 claims",
                "  pop.example.org: 50000 maildrops, 60 being polled, 4 waiting, 29 failing",
            ]
        );
        assert!(super::super::tests::snapshot(Vec::new()).workers().is_empty());
    }

    #[test]
    fn who_polls_an_account_is_told_and_that_nobody_does() {
        let row = Row { worker: Some("mx1:4711".into()), scheduled: true, ..failing("home") };
        assert!(row.told(0).ends_with("\n  polled last by worker mx1:4711"), "{}", row.told(0));
        let polled = Row { polling: Some(true), next_poll: None, ..row.clone() };
        assert!(polled.told(0).ends_with("\n  being polled now by mx1:4711"), "{}", polled.told(0));
        let mut snapshot = Snapshot { fleet: Some(fleet()), ..snapshot(Vec::new()) };
        assert!(snapshot.why(&row, None).unwrap().contains("not known while polls fail"));
        snapshot.fleet.as_mut().unwrap().workers.remove(0);
        assert_eq!(snapshot.why(&row, None).unwrap(), "nobody polls it: no worker runs");
    }
}
