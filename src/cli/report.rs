//! What became of an account, in words and as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
pub use crate::session::summary::{Octets, Took, messages, synced};
use crate::session::{Planned, Report};
use crate::text::Shown;

/// One account's result as JSON; the manual describes the fields, and their names stay.
#[derive(Debug, Serialize)]
struct Json<'a> {
    account: &'a str,
    host: &'a str,
    exit_status: u8,
    listed: Option<usize>,
    listed_octets: u64,
    new: usize,
    new_octets: u64,
    delivered: usize,
    delivered_octets: u64,
    already_there: usize,
    deleted: usize,
    held: usize,
    newly_held: usize,
    left: usize,
    seconds: f64,
    planned: Vec<JsonPlanned<'a>>,
    failure: Option<JsonFailure<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonPlanned<'a> {
    uid: &'a str,
    octets: u64,
    action: &'a str,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct JsonFailure<'a> {
    class: &'a str,
    host: &'a str,
    doing: &'a str,
    what: &'a str,
    server: Option<String>,
    hint: Option<&'a str>,
}

/// Gives one account's result as one line of JSON.
pub fn json(report: &Report) -> String {
    let result = Json {
        account: &report.account,
        host: &report.host,
        exit_status: report.exit_status(),
        listed: report.listed,
        listed_octets: report.listed_octets,
        new: report.new,
        new_octets: report.new_octets,
        delivered: report.delivered,
        delivered_octets: report.delivered_octets,
        already_there: report.already_there,
        deleted: report.deleted,
        held: report.held,
        newly_held: report.newly_held,
        left: report.left,
        seconds: (report.took.as_secs_f64() * 1e3).round() / 1e3,
        planned: report.planned.iter().map(JsonPlanned::from).collect(),
        failure: report.failure.as_ref().map(JsonFailure::from),
    };
    serde_json::to_string(&result).expect("strings and numbers are always JSON")
}

impl<'a> From<&'a Planned> for JsonPlanned<'a> {
    fn from(planned: &'a Planned) -> Self {
        let Planned { uid, octets, action, reason } = planned;
        Self { uid, octets: *octets, action, reason }
    }
}

impl<'a> From<&'a Failure> for JsonFailure<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            class: failure.class.name(),
            host: &failure.host,
            doing: &failure.doing,
            what: &failure.what,
            // As it is shown everywhere: the octets need not be text at all.
            server: failure.said.as_deref().map(|said| Shown(said).to_string()),
            hint: failure.hint.as_deref(),
        }
    }
}

/// Sums up a sync of several accounts.
pub fn all_synced(reports: &[Report], took: Duration) -> String {
    let delivered = reports.iter().map(|report| report.delivered).sum();
    let octets = reports.iter().map(|report| report.delivered_octets).sum();
    let failed = match reports.iter().filter(|report| report.failure.is_some()).count() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let accounts = reports.len();
    format!(
        "{accounts} accounts{failed}: {} delivered ({}) in {}",
        messages(delivered),
        Octets(octets),
        Took(took)
    )
}

/// Says what a sync would do, a line a message.
pub fn planned(report: &Report) -> impl Iterator<Item = String> {
    report.planned.iter().map(|Planned { uid, octets, action, reason }| {
        format!("{}: {action} {uid} ({octets} octets): {reason}", report.account)
    })
}

/// Says what is waiting: `home: 2 new (12.3 KiB) of 120 (4.5 MiB)`. Nothing if the server was not asked so far.
pub fn checked(report: &Report) -> Option<String> {
    let listed = report.listed?;
    let (new, all) = (Octets(report.new_octets), Octets(report.listed_octets));
    let held = match report.held {
        0 => String::new(),
        held => format!(", {held} of them held"),
    };
    Some(format!("{}: {} new ({new}) of {listed} ({all}){held}", report.account, report.new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;

    fn report() -> Report {
        Report {
            account: "home".into(),
            host: "pop.example.org:995".into(),
            listed: Some(120),
            listed_octets: 5 << 20,
            new: 3,
            new_octets: 4096,
            delivered: 2,
            delivered_octets: 2000,
            deleted: 1,
            took: Duration::from_micros(1_234_567),
            ..Report::default()
        }
    }

    #[test]
    fn a_result_is_one_line_of_json_with_its_fields_in_order() {
        assert_eq!(
            json(&report()),
            concat!(
                r#"{"account":"home","host":"pop.example.org:995","exit_status":0,"listed":120,"#,
                r#""listed_octets":5242880,"new":3,"new_octets":4096,"delivered":2,"delivered_octets":2000,"#,
                r#""already_there":0,"deleted":1,"held":0,"newly_held":0,"left":0,"seconds":1.235,"#,
                r#""planned":[],"failure":null}"#
            )
        );
    }

    #[test]
    fn a_failure_in_json_has_the_servers_words_made_harmless() {
        let failure = Failure {
            account: "home".into(),
            host: "pop.example.org:995".into(),
            doing: "log in as alice (PLAIN)".into(),
            class: Class::Credentials,
            what: "refused".into(),
            said: Some(b"[AUTH] \x1b no \xff".to_vec()),
            hint: None,
        };
        let value: serde_json::Value =
            serde_json::from_str(&json(&Report { failure: Some(failure), ..report() })).unwrap();
        assert_eq!(value["exit_status"], 77);
        assert_eq!(value["failure"]["class"], "credentials");
        assert_eq!(value["failure"]["server"], r"[AUTH] \u{1b} no \xff");
        assert_eq!(value["failure"]["hint"], serde_json::Value::Null);
    }

    #[test]
    fn a_result_in_words_says_what_happened_and_nothing_else() {
        assert_eq!(
            synced(&report()),
            "home: 2 messages delivered (2.0 KiB), 1 deleted on the server in 1.2 s"
        );
        let idle = Report { delivered: 0, deleted: 0, ..report() };
        assert_eq!(synced(&idle), "home: nothing delivered, 120 messages in the maildrop in 1.2 s");
        let quick = Report { took: Duration::from_micros(18_700), ..idle };
        assert!(synced(&quick).ends_with(" in 18 ms"));
        assert_eq!(checked(&report()).unwrap(), "home: 3 new (4.0 KiB) of 120 (5.0 MiB)");
        assert_eq!(checked(&Report::default()), None);
        assert_eq!(
            all_synced(&[report(), report()], Duration::from_secs(61)),
            "2 accounts: 4 messages delivered (3.9 KiB) in 1 min 1 s"
        );
    }

    #[test]
    fn octets_are_shown_in_the_unit_that_fits() {
        for (octets, shown) in [
            (0, "0 octets"),
            (1023, "1023 octets"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (25 << 20, "25.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Octets(octets).to_string(), shown);
        }
    }
}
