//! What became of an account, in words and as JSON.

use std::time::Duration;

pub use crate::session::summary::{Octets, Took, messages, synced};
use crate::session::{Planned, Report};

/// Gives one account's result as one line of JSON.
pub fn json(report: &Report) -> String {
    serde_json::to_string(report).expect("strings and numbers are always JSON")
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
    use crate::failure::{Class, Failure};

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
        let emptied = Report { delivered: 0, deleted: 120, ..report() };
        assert_eq!(
            synced(&emptied),
            "home: nothing delivered, 0 messages in the maildrop, 120 deleted on the server in 1.2 s"
        );
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
