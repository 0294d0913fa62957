//! How a session went, in one line for people.

use std::fmt;
use std::time::Duration;

use super::Report;
use crate::text::counted;

/// Says what a sync did for one account: `home: 2 messages delivered (12.3 KiB) in 1.4 s`.
pub fn synced(report: &Report) -> String {
    let mut said = match report.delivered {
        0 => match report.listed {
            Some(listed) => {
                // As it is now, which is what a person would see there.
                let left = listed.saturating_sub(report.deleted);
                vec![format!("nothing delivered, {} in the maildrop", messages(left))]
            }
            None => vec!["nothing delivered".into()],
        },
        delivered => {
            vec![format!("{} delivered ({})", messages(delivered), Octets(report.delivered_octets))]
        }
    };
    for (count, what) in [
        (report.already_there, "already there"),
        (report.deleted, "deleted on the server"),
        (report.held, "held"),
        (report.left, "left for later"),
    ] {
        if count > 0 {
            said.push(format!("{count} {what}"));
        }
    }
    if report.failure.is_some() {
        said.push("failed".into());
    }
    format!("{}: {} in {}", report.account, said.join(", "), Took(report.took))
}

pub fn messages(count: usize) -> String {
    counted(count, "message")
}

pub fn accounts(count: usize) -> String {
    counted(count, "account")
}

/// Octets, for people.
#[derive(Debug, Clone, Copy)]
pub struct Octets(pub u64);

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.write_str(&counted(self.0, "octet"));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // Not 1024.0 of one unit for what rounds up to 1.0 of the next.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

/// A time that something took, for people.
#[derive(Debug, Clone, Copy)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            seconds => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}
