//! What a monitoring system wants to know, as text: gauges of a snapshot, and counts of the process that polls.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Row, Snapshot};
use crate::failure::Class;
use crate::session::Report;
use crate::state::Timestamp;
use crate::state::fleet::{Fleet, Host, Standings};

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

    /// Counts for all accounts together from now on, however many there are.
    pub fn set_together(&mut self) {
        self.set_accounts([""].into_iter());
    }

    pub fn note(&mut self, report: &Report) {
        let name = if self.0.contains_key("") { "" } else { &report.account };
        let Some(tally) = self.0.get_mut(name) else { return };
        tally.polls += 1;
        tally.messages += report.delivered as u64;
        tally.octets += report.delivered_octets;
        if let Some(failure) = report.failure.as_ref().filter(|failure| failure.class != Class::Stopped) {
            *tally.failures.entry(failure.class.name()).or_default() += 1;
        }
    }
}

/// Writes the metrics; without a snapshot, where the store cannot be read, the counts alone.
pub fn text(snapshot: Option<&Snapshot>, counts: &Counts, format: Format) -> String {
    let mut out = Lines { text: String::new(), format };
    if let Some(snapshot) = snapshot {
        of_rows(&mut out, snapshot);
    }
    if let Some(fleet) = snapshot.and_then(|snapshot| snapshot.fleet.as_ref()) {
        of_fleet(&mut out, fleet);
    }
    let tallies: Vec<_> = counts.0.iter().map(|(name, tally)| (label(name), tally)).collect();
    let mut counter = |name: &str, help: &str, value: fn(&Tally) -> u64| {
        out.family(name, "counter", help);
        for (label, tally) in &tallies {
            out.sample(&format!("{name}_total"), &of_account(label), value(tally).into());
        }
    };
    counter("postrider_polls", "Polls, failed ones included.", |tally| tally.polls);
    counter("postrider_messages", "Messages delivered.", |tally| tally.messages);
    counter("postrider_octets", "Octets of the messages delivered.", |tally| tally.octets);
    out.family("postrider_failures", "counter", "Failed polls by class.");
    for (label, tally) in &tallies {
        for (class, count) in &tally.failures {
            let labels = match label.is_empty() {
                true => format!("class=\"{class}\""),
                false => format!("account=\"{label}\",class=\"{class}\""),
            };
            out.sample("postrider_failures_total", &labels, (*count).into());
        }
    }
    match format {
        Format::Open => out.text + "# EOF\n",
        Format::Prometheus => out.text,
    }
}

/// Writes how each account stands.
fn of_rows(out: &mut Lines, snapshot: &Snapshot) {
    // Of many accounts those that are listed are others each time.
    let listed: &[Row] = if snapshot.in_all.is_none() { &snapshot.rows } else { &[] };
    let rows: Vec<_> =
        listed.iter().filter(|row| row.enabled).map(|row| (label(&row.account), row)).collect();
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

/// Writes how the workers stand, and where maildrops wait: hosts and workers are few, however many accounts there are.
fn of_fleet(out: &mut Lines, fleet: &Fleet) {
    let Standings { polled, failing, holding, held } = fleet.accounts;
    for (name, help, value) in [
        ("postrider_fleet_workers", "Workers that are heard of.", fleet.live() as u64),
        (
            "postrider_fleet_evicted_workers",
            "Workers that were evicted in the last hours.",
            fleet.evicted() as u64,
        ),
        (
            "postrider_fleet_lag_seconds",
            "How long the maildrop has been due that waits longest.",
            fleet.lag_seconds,
        ),
        ("postrider_fleet_maildrops", "Maildrops that are polled in turn.", fleet.all.maildrops),
        ("postrider_fleet_polled_maildrops", "Maildrops that were polled to the end ever.", polled),
        ("postrider_fleet_failing_maildrops", "Maildrops whose last poll failed.", failing),
        ("postrider_fleet_holding_maildrops", "Others with messages held.", holding),
        ("postrider_fleet_held_messages", "Messages that could not be fetched or delivered.", held),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, "", value.into());
    }
    let name = "postrider_fleet_claims";
    out.family(name, "counter", "Maildrops that a worker has claimed since it began.");
    for worker in &fleet.workers {
        out.sample(
            &format!("{name}_total"),
            &format!("worker=\"{}\"", label(&worker.name)),
            worker.claims.into(),
        );
    }
    let name = "postrider_fleet_host_maildrops";
    out.family(name, "gauge", "Maildrops of the hosts with the most that wait or fail, by how they stand.");
    for Host { host, tally } in &fleet.hosts {
        for (state, count) in
            [("polling", tally.polling), ("waiting", tally.waiting), ("failing", tally.failing)]
        {
            out.sample(name, &format!("host=\"{}\",state=\"{state}\"", label(host)), count.into());
        }
    }
}

/// Gives the label of an account; what is counted of all together has none.
fn of_account(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!("account=\"{label}\"") }
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
        let _ = match labels.is_empty() {
            true => writeln!(self.text, "{name} {value}"),
            false => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let classes = [Class::Network, Class::Network, Class::Tls, Class::Stopped];
        for class in [None].into_iter().chain(classes.map(Some)) {
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
            "postrider_polls_total{account=\"home\"} 5",
            "postrider_messages_total{account=\"home\"} 1",
            "postrider_octets_total{account=\"home\"} 50",
            "postrider_held_messages{account=\"home\"} 0",
            "postrider_backlog_messages{account=\"home\"} 3",
            "postrider_failures_total{account=\"home\",class=\"network\"} 2",
            "postrider_failures_total{account=\"home\",class=\"tls\"} 1",
        ] {
            assert!(open.lines().any(|found| found == line), "{line}\n{open}");
        }
        assert!(!open.contains("gone") && !open.contains("unknown") && !open.contains("stopped"));
        // It has not been listed: that nothing is held there would be a guess.
        for unknown in
            ["postrider_held_messages{account=\"never", "postrider_backlog_messages{account=\"never"]
        {
            assert!(!open.contains(unknown), "{open}");
        }
        assert!(open.ends_with("# EOF\n"));
        let own = text(Some(&snapshot), &counts, Format::Prometheus);
        assert!(own.contains("# TYPE postrider_messages_total counter\n") && !own.contains("# EOF"), "{own}");
        assert!(text(None, &counts, Format::Open).contains("postrider_polls_total{account=\"home\"} 5"));
    }

    #[test]
    fn of_many_accounts_of_a_fleet_the_metrics_are_those_of_all_together() {
        let mut counts = Counts::default();
        counts.set_together();
        for (account, class) in [("a", None), ("b", None), ("c", Some(Class::Network))] {
            counts.note(&report(account, class));
        }
        let fleet = crate::status::fleet::tests::fleet();
        let snapshot =
            Snapshot { fleet: Some(fleet), in_all: Some(100_000), ..snapshot(vec![failing("work")]) };
        let open = text(Some(&snapshot), &counts, Format::Open);
        for line in [
            "postrider_polls_total 3",
            "postrider_messages_total 2",
            "postrider_failures_total{class=\"network\"} 1",
            "postrider_fleet_workers 1",
            "postrider_fleet_evicted_workers 1",
            "postrider_fleet_lag_seconds 95",
            "postrider_fleet_claims_total{worker=\"mx1:4711\"} 1200",
            "postrider_fleet_host_maildrops{host=\"pop.example.org\",state=\"waiting\"} 4",
        ] {
            assert!(open.lines().any(|found| found == line), "{line}:\n{open}");
        }
        assert!(!open.contains("account="), "{open}");
    }
}
