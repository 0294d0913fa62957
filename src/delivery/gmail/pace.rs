//! The pace under Gmail's quota: units a user and minute, over all accounts of the process that deliver to the user.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// What requests cost (Gmail API, usage limits).
pub(super) const UPLOAD: u32 = 25;
pub(super) const LABELS: u32 = 1;
pub(super) const NEW_LABEL: u32 = 5;

/// Units that may be spent at once: with those of a minute, fewer than the 6,000 that a user has.
const BURST: f64 = 600.0;
/// Units that come back in a second.
const RATE: f64 = 88.0;

/// What may be spent, and when that was so.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    units: f64,
    at: Instant,
}

impl Bucket {
    /// Spends units; gives how long is to be waited before they may be used.
    fn spend(&mut self, units: u32, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.units = (self.units + elapsed * RATE).min(BURST) - f64::from(units);
        self.at = now;
        Duration::from_secs_f64((-self.units).max(0.0) / RATE)
    }
}

/// Gives how long a request of a user that costs so much must wait; `server` is where the API is.
pub(super) fn pause(server: &str, user: &str, units: u32) -> Duration {
    static USERS: Mutex<Option<HashMap<(String, String), Bucket>>> = Mutex::new(None);
    let mut users = lock(&USERS);
    let users = users.get_or_insert_default();
    let now = Instant::now();
    // Who has been away for so long has all of it again.
    users.retain(|_, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(60));
    users
        .entry((server.to_owned(), user.to_owned()))
        .or_insert(Bucket { units: BURST, at: now })
        .spend(units, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_minute_has_more_than_a_user_may_spend(gaps in prop::collection::vec(0..2000u64, 1..600)) {
            let mut now = Instant::now();
            let mut bucket = Bucket { units: BURST, at: now };
            let mut spent: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                now += bucket.spend(UPLOAD, now);
                spent.push(now);
            }
            for (at, begin) in spent.iter().enumerate() {
                let minute = spent[at..].iter().take_while(|other| **other - *begin < Duration::from_secs(60));
                prop_assert!(minute.count() as u32 * UPLOAD <= 6000);
            }
        }
    }

    #[test]
    fn a_few_go_at_once_and_many_at_the_pace_of_the_quota() {
        let begin = Instant::now();
        let mut bucket = Bucket { units: BURST, at: begin };
        let mut now = begin;
        for _ in 0..24 {
            assert_eq!(bucket.spend(UPLOAD, now), Duration::ZERO);
        }
        for _ in 0..211 {
            now += bucket.spend(UPLOAD, now);
        }
        let took = (now - begin).as_secs_f64();
        assert!((59.0..61.0).contains(&took), "{took}");
    }
}
