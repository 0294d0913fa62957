//! What a monitoring system wants to know, as text: gauges of a snapshot, and counts of the process that polls.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Row, Snapshot};
use crate::session::Report;
use crate::state::Timestamp;

/// What the polls of accounts came to since the process began.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<String, Tally>);

#[derive(Debug, Default)]
struct Tally {
    polls: u64,
    messages: u64,
    octets: u64,
    failures: BTreeMap<&'static str, u64>,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, of which a file can be seen to be whole.
    Open,
    /// Prometheus' own, version 0.0.4, which names counters otherwise.
    Prometheus,
}

impl Counts {
    /// Counts for these accounts, and forgets all others.
    pub fn set_accounts<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut old = std::mem::take(&mut self.0);
        self.0 = names.map(|name| (name.to_owned(), old.remove(name).unwrap_or_default())).collect();
    }

    pub fn note(&mut self, report: &Report) {
        let Some(tally) = self.0.get_mut(&report.account) else { return };
        tally.polls += 1;
        tally.messages += report.delivered as u64;
        tally.octets += report.delivered_octets;
        if let Some(failure) = &report.failure {
            *tally.failures.entry(failure.class.name()).or_default() += 1;
        }
    }
}

/// Writes the metrics; without a snapshot, where the store cannot be read, the counts alone.
pub fn text(snapshot: Option<&Snapshot>, counts: &Counts, format: Format) -> String {
    let mut out = Lines { text: String::new(), format };
    if let Some(snapshot) = snapshot {
        let rows: Vec<_> =
            snapshot.rows.iter().filter(|row| row.enabled).map(|row| (label(&row.account), row)).collect();
        let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Row) -> Option<i128>| {
            out.family(name, "gauge", help);
            for (label, row) in &rows {
                if let Some(value) = value(row) {
                    out.sample(name, &format!("account=\"{label}\""), value);
                }
            }
        };
        // One to come is of a clock that was wrong.
        let success = |at: Timestamp| at.min(snapshot.at).into();
        gauge(
            "postrider_last_success_timestamp_seconds",
            "When the last poll that did not fail ended.",
            &|row| row.last_success.map(success),
        );
        gauge("postrider_next_poll_timestamp_seconds", "When the next poll is due.", &|row| {
            row.next_poll.map(Into::into)
        });
        gauge("postrider_failed_polls_in_a_row", "Polls that failed since the last that did not.", &|row| {
            row.recorded.then_some(row.failures.into())
        });
        gauge("postrider_held_messages", "Messages that could not be fetched or delivered.", &|row| {
            // Without a listing, that none is held would be a guess.
            (row.listed.is_some() || !row.held.is_empty()).then_some(row.held.len() as i128)
        });
        gauge("postrider_backlog_messages", "Messages left for later by a limit.", &|row| {
            row.listed.map(|_| row.left.into())
        });
    }
    let tallies: Vec<_> = counts.0.iter().map(|(name, tally)| (label(name), tally)).collect();
    let mut counter = |name: &str, help: &str, value: fn(&Tally) -> u64| {
        out.family(name, "counter", help);
        for (label, tally) in &tallies {
            out.sample(&format!("{name}_total"), &format!("account=\"{label}\""), value(tally).into());
        }
    };
    counter("postrider_polls", "Polls, failed ones included.", |tally| tally.polls);
    counter("postrider_messages", "Messages delivered.", |tally| tally.messages);
    counter("postrider_octets", "Octets of the messages delivered.", |tally| tally.octets);
    out.family("postrider_failures", "counter", "Failed polls by class.");
    for (label, tally) in &tallies {
        for (class, count) in &tally.failures {
            let labels = format!("account=\"{label}\",class=\"{class}\"");
            out.sample("postrider_failures_total", &labels, (*count).into());
        }
    }
    match format {
        Format::Open => out.text + "# EOF\n",
        Format::Prometheus => out.text,
    }
}

struct Lines {
    text: String,
    format: Format,
}

impl Lines {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let suffix = if (self.format, kind) == (Format::Prometheus, "counter") { "_total" } else { "" };
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: i128) {
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;
    use crate::status::tests::{failing, fine, snapshot};

    fn report(account: &str, class: Option<Class>) -> Report {
        let ended = match class {
            Some(class) => Report::failed(account, class),
            None => Report { account: account.into(), delivered: 1, ..Report::default() },
        };
        Report { delivered_octets: 10, ..ended }
    }

    #[test]
    fn each_account_has_its_counts_and_each_class_of_failure() {
        let mut counts = Counts::default();
        counts.set_accounts(["home", "a\"b\\\n", "gone"].into_iter());
        for class in [None, Some(Class::Network), Some(Class::Network), Some(Class::Tls)] {
            counts.note(&report("home", class));
        }
        counts.note(&report("unknown", None));
        counts.set_accounts(["home", "a\"b\\\n"].into_iter());
        let never = Row { last_poll: None, listed: None, recorded: false, ..fine("never") };
        let ahead = Row { last_success: Some(Timestamp::MAX), ..failing("ahead") };
        let snapshot = snapshot(vec![fine("home"), fine("a\"b\\\n"), never, ahead]);
        let open = text(Some(&snapshot), &counts, Format::Open);
        for line in [
            "# TYPE postrider_messages counter",
            "postrider_last_success_timestamp_seconds{account=\"home\"} 1763800000",
            "postrider_last_success_timestamp_seconds{account=\"a\\\"b\\\\\\n\"} 1763800000",
            // A clock was wrong.
            "postrider_last_success_timestamp_seconds{account=\"ahead\"} 1763900180",
            "postrider_next_poll_timestamp_seconds{account=\"home\"} 1763900420",
            "postrider_failed_polls_in_a_row{account=\"ahead\"} 3",
            "postrider_polls_total{account=\"home\"} 4",
            "postrider_messages_total{account=\"home\"} 1",
            "postrider_octets_total{account=\"home\"} 40",
            "postrider_held_messages{account=\"home\"} 0",
            "postrider_backlog_messages{account=\"home\"} 3",
            "postrider_failures_total{account=\"home\",class=\"network\"} 2",
            "postrider_failures_total{account=\"home\",class=\"tls\"} 1",
        ] {
            assert!(open.lines().any(|found| found == line), "{line}\n{open}");
        }
        assert!(!open.contains("gone") && !open.contains("unknown"));
        // It has not been listed: that nothing is held there would be a guess.
        for unknown in
            ["postrider_held_messages{account=\"never", "postrider_backlog_messages{account=\"never"]
        {
            assert!(!open.contains(unknown), "{open}");
        }
        assert!(open.ends_with("# EOF\n"));
        let own = text(Some(&snapshot), &counts, Format::Prometheus);
        assert!(own.contains("# TYPE postrider_messages_total counter\n") && !own.contains("# EOF"), "{own}");
        assert!(text(None, &counts, Format::Open).contains("postrider_polls_total{account=\"home\"} 4"));
    }
}
