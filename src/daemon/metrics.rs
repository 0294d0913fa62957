//! What a monitoring system wants to know, in a file of OpenMetrics text (which Prometheus' node exporter collects,
//! too): replaced as a whole, so that nobody reads half of one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::disk::durable;
use crate::session::Report;
use crate::state::Timestamp;

/// The file is written this often at most, however many polls end.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts since the process began, and where they are written.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    accounts: BTreeMap<String, Tally>,
    /// When it was written last.
    written: Option<Duration>,
    /// Something was counted since.
    stale: bool,
    /// The write that is under way. There is one at most: each would wait for the same disk, on a thread of its own.
    writing: JoinSet<io::Result<()>>,
    /// It cannot be written, which was told.
    failed: bool,
}

#[derive(Debug, Default)]
struct Tally {
    last_success: Option<Timestamp>,
    polls: u64,
    messages: u64,
    octets: u64,
    /// Not known before the first listing.
    held: Option<usize>,
    backlog: Option<usize>,
    failures: BTreeMap<&'static str, u64>,
}

/// Text to be written to a file.
#[derive(Debug)]
struct Page {
    path: PathBuf,
    text: String,
}

impl Metrics {
    pub fn new(path: PathBuf) -> Self {
        let (accounts, writing) = (BTreeMap::new(), JoinSet::new());
        Self { path, accounts, written: None, stale: true, writing, failed: false }
    }

    /// Counts for these accounts, and forgets all others.
    pub fn set_accounts<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut old = std::mem::take(&mut self.accounts);
        self.accounts = names.map(|name| (name.to_owned(), old.remove(name).unwrap_or_default())).collect();
        self.stale = true;
    }

    /// Takes over when an account's poll last succeeded, by an earlier process.
    pub fn recall(&mut self, account: &str, last_success: Timestamp) {
        if let Some(tally) = self.accounts.get_mut(account) {
            tally.last_success.get_or_insert(last_success);
        }
    }

    /// Counts a poll that ended at this time.
    pub fn note(&mut self, report: &Report, at: Timestamp) {
        let Some(tally) = self.accounts.get_mut(&report.account) else { return };
        self.stale = true;
        tally.polls += 1;
        tally.messages += report.delivered as u64;
        tally.octets += report.delivered_octets;
        if let Some(failure) = &report.failure {
            *tally.failures.entry(failure.class.name()).or_default() += 1;
        }
        tally.last_success = match report.exit_status() {
            0 => Some(at),
            // One to come is of a clock that was wrong.
            _ => tally.last_success.map(|success| success.min(at)),
        };
        if report.listed.is_some() {
            (tally.held, tally.backlog) = (Some(report.held), Some(report.left));
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to write the file, on a thread of its own, if something was counted and it is time; gives when it is,
    /// unless that depends on the end of the write before ([`Metrics::written`]). A disk that hangs holds up nobody.
    pub fn write(&mut self, now: Duration) -> Option<Duration> {
        self.write_by(now, Page::write)
    }

    fn write_by(
        &mut self,
        now: Duration,
        write: impl FnOnce(&Page) -> io::Result<()> + Send + 'static,
    ) -> Option<Duration> {
        if !self.stale || !self.writing.is_empty() {
            return None;
        }
        let due = self.written.map_or(Duration::ZERO, |written| written.saturating_add(PAUSE));
        if now < due {
            return Some(due);
        }
        let page = self.page(now);
        self.writing.spawn_blocking(move || write(&page));
        None
    }

    /// Waits for the end of the write that is under way, for ever if none is. What goes wrong is told once. Nothing is
    /// lost if it is dropped.
    pub async fn written(&mut self) {
        let Some(ended) = self.writing.join_next().await else { return future::pending().await };
        match ended.map_err(io::Error::other).flatten() {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !self.failed {
                    log::warn!("cannot write the metrics to {}: {error}", self.path.display());
                }
                self.failed = true;
            }
        }
    }

    /// Writes what was counted since the last time.
    pub async fn finish(mut self, now: Duration) {
        if !self.writing.is_empty() {
            self.written().await;
        }
        self.written = None;
        self.write(now);
        if !self.writing.is_empty() {
            self.written().await;
        }
    }

    /// Gives the text to be written now.
    fn page(&mut self, now: Duration) -> Page {
        (self.written, self.stale) = (Some(now), false);
        Page { path: self.path.clone(), text: self.text() }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let names: Vec<(String, &Tally)> =
            self.accounts.iter().map(|(name, tally)| (label(name), tally)).collect();
        let mut family = |name: &str, kind: &str, help: &str, value: fn(&Tally) -> Option<i128>| {
            let suffix = if kind == "counter" { "_total" } else { "" };
            // Writing to a String does not fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (label, tally) in &names {
                if let Some(value) = value(tally) {
                    let _ = writeln!(out, "{name}{suffix}{{account=\"{label}\"}} {value}");
                }
            }
        };
        family(
            "postrider_last_success_timestamp_seconds",
            "gauge",
            "When the last poll that did not fail ended.",
            |tally| tally.last_success.map(Into::into),
        );
        family("postrider_polls", "counter", "Polls, failed ones included.", |tally| {
            Some(tally.polls.into())
        });
        family("postrider_messages", "counter", "Messages delivered.", |tally| Some(tally.messages.into()));
        family("postrider_octets", "counter", "Octets of the messages delivered.", |tally| {
            Some(tally.octets.into())
        });
        family(
            "postrider_held_messages",
            "gauge",
            "Messages that could not be fetched or delivered.",
            |tally| i128::try_from(tally.held?).ok(),
        );
        family("postrider_backlog_messages", "gauge", "Messages left for later by a limit.", |tally| {
            i128::try_from(tally.backlog?).ok()
        });
        out.push_str("# HELP postrider_failures Failed polls by class.\n# TYPE postrider_failures counter\n");
        for (label, tally) in &names {
            for (class, count) in &tally.failures {
                let _ = writeln!(
                    out,
                    "postrider_failures_total{{account=\"{label}\",class=\"{class}\"}} {count}"
                );
            }
        }
        out.push_str("# EOF\n");
        out
    }
}

impl Page {
    /// Replaces the file, readable by all: it has no secrets, and who collects it is another user.
    fn write(&self) -> io::Result<()> {
        durable::publish(&self.path, ".postrider-metrics", self.text.as_bytes())
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;

    fn report(account: &str, class: Option<Class>) -> Report {
        let ended = match class {
            Some(class) => Report::failed(account, class),
            None => Report { account: account.into(), delivered: 1, ..Report::default() },
        };
        Report { delivered_octets: 10, listed: Some(3), held: 2, left: 4, ..ended }
    }

    #[test]
    fn a_success_to_come_ends_with_the_next_failure() {
        let mut metrics = Metrics::new("m".into());
        metrics.set_accounts(["home"].into_iter());
        metrics.recall("home", 500);
        for at in [100, 200] {
            metrics.note(&report("home", Some(Class::Tls)), at);
            assert_eq!(metrics.accounts["home"].last_success, Some(100));
        }
        metrics.note(&Report { leaves_held: 2, ..report("home", None) }, 300);
        assert_eq!(metrics.accounts["home"].last_success, Some(100), "a poll that leaves some held is none");
    }

    #[test]
    fn each_account_has_its_counts_and_each_class_of_failure() {
        let mut metrics = Metrics::new("m".into());
        metrics.set_accounts(["home", "a\"b\\\n", "gone"].into_iter());
        metrics.recall("a\"b\\\n", 50);
        for (class, at) in
            [(None, 100), (Some(Class::Network), 200), (Some(Class::Network), 300), (Some(Class::Tls), 400)]
        {
            metrics.note(&report("home", class), at);
        }
        metrics.note(&report("unknown", None), 1);
        metrics.set_accounts(["home", "a\"b\\\n"].into_iter());
        let text = metrics.text();
        for line in [
            "# TYPE postrider_messages counter",
            "postrider_last_success_timestamp_seconds{account=\"home\"} 100",
            "postrider_last_success_timestamp_seconds{account=\"a\\\"b\\\\\\n\"} 50",
            "postrider_polls_total{account=\"home\"} 4",
            "postrider_messages_total{account=\"home\"} 1",
            "postrider_octets_total{account=\"home\"} 40",
            "postrider_held_messages{account=\"home\"} 2",
            "postrider_backlog_messages{account=\"home\"} 4",
            "postrider_failures_total{account=\"home\",class=\"network\"} 2",
            "postrider_failures_total{account=\"home\",class=\"tls\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("gone") && !text.contains("unknown"));
        // It has not been listed: that nothing is held there would be a guess.
        for unknown in ["postrider_held_messages{account=\"a", "postrider_backlog_messages{account=\"a"] {
            assert!(!text.contains(unknown), "{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn the_file_is_written_at_once_then_at_most_every_ten_seconds_and_only_if_something_was_counted() {
        let mut metrics = Metrics::new("m".into());
        metrics.set_accounts(["home"].into_iter());
        let mut begins = |seconds: u32, counted: bool| {
            if counted {
                metrics.note(&report("home", None), 1);
            }
            let next = metrics.write_by(seconds * SECOND, |_| Ok(()));
            let begun = metrics.writing.len();
            metrics.writing.detach_all();
            (begun, next)
        };
        assert_eq!(begins(100, false), (1, None));
        assert_eq!(begins(200, false), (0, None));
        assert_eq!(begins(201, true), (1, None));
        assert_eq!(begins(202, true), (0, Some(211 * SECOND)));
        assert_eq!(begins(211, false), (1, None));
    }

    #[tokio::test]
    async fn a_disk_that_hangs_gets_one_write_and_the_next_when_that_has_ended() {
        let mut metrics = Metrics::new("m".into());
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hangs = move |_: &Page| released.recv().map_err(io::Error::other);
        metrics.write_by(SECOND, hangs);
        for minute in 1..10 {
            metrics.note(&report("home", None), 1);
            metrics.stale = true;
            assert_eq!(metrics.write_by(60 * minute * SECOND, |_| Ok(())), None);
            assert_eq!(metrics.writing.len(), 1);
        }
        release.send(()).unwrap();
        metrics.written().await;
        assert!(metrics.writing.is_empty() && metrics.stale);
        metrics.write_by(600 * SECOND, |_| Ok(()));
        assert_eq!(metrics.writing.len(), 1);
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_all_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("postrider.prom");
        let mut metrics = Metrics::new(path.clone());
        for _ in 0..2 {
            metrics.page(Duration::ZERO).write().unwrap();
            assert!(std::fs::read_to_string(&path).unwrap().ends_with("# EOF\n"));
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
