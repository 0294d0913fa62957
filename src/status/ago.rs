//! Times in words.

use std::fmt;
use std::time::Duration;

use crate::state::Timestamp;
use crate::text::counted;

/// How far away a time is.
#[derive(Debug, Clone, Copy)]
pub enum Age {
    Past(Duration),
    Ahead(Duration),
}

pub fn age(now: Timestamp, at: Timestamp) -> Age {
    let time = Duration::from_secs(now.abs_diff(at));
    if at <= now { Age::Past(time) } else { Age::Ahead(time) }
}

/// `12 seconds ago`, `in 4 minutes`, `now`.
impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let (Self::Past(time) | Self::Ahead(time)) = self;
        // Of what is less than two of a unit, the next smaller one says more.
        let whole = |(size, unit): (u64, &str)| {
            let count = time.as_secs() / size;
            let enough = if size > 60 { 2 } else { 1 };
            (count >= enough).then(|| counted(count, unit))
        };
        match (UNITS.into_iter().find_map(whole), self) {
            (None, _) => f.write_str("now"),
            (Some(count), Self::Past(_)) => write!(f, "{count} ago"),
            (Some(count), Self::Ahead(_)) => write!(f, "in {count}"),
        }
    }
}

/// Shows a time where the user is: `2026-11-23 14:05:12`.
pub fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at) {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        // Only a state file that was tampered with has such a time.
        Err(_) => format!("@{at}"),
    }
}
