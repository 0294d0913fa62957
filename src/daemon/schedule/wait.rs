//! How long until the next poll: interval, jitter, backoff.

use std::time::Duration;

use crate::failure::Backoff;

pub const LONGEST: Duration = Duration::from_secs(3600);

impl Backoff {
    /// Gives the wait after so many failures in a row (from 1) of an account with this interval: never shorter than
    /// the interval, and no longer than [`LONGEST`] unless that is.
    pub fn wait(self, interval: Duration, failures: u32) -> Duration {
        let wait = match self {
            Self::No => interval,
            Self::Doubling => {
                let factor = 1_u32 << failures.saturating_sub(1).min(30);
                interval.saturating_mul(factor).min(LONGEST)
            }
            Self::Longest => LONGEST,
        };
        wait.max(interval)
    }
}

/// Random numbers that a seed determines (SplitMix64): for spreading, not for secrets.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Makes a sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Gives the interval, ten percent more or less.
    pub fn about(&mut self, interval: Duration) -> Duration {
        self.between(interval.saturating_sub(interval / 10), interval.saturating_add(interval / 10))
    }

    /// Gives the wait after so many failures in a row, down to half of it (but about the interval at least): accounts
    /// that failed together do not come back together, and none waits longer than the longest.
    pub fn backoff(&mut self, backoff: Backoff, interval: Duration, failures: u32) -> Duration {
        let wait = backoff.wait(interval, failures);
        self.between(wait / 2, wait).max(interval / 10 * 9)
    }

    /// Gives a time between two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let range = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product lies evenly in 0..=range.
        let share = (u128::from(mixed) * (u128::from(range) + 1)) >> 64;
        least.saturating_add(Duration::from_nanos(u64::try_from(share).unwrap_or(range)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_backoff_doubles_up_to_an_hour_and_is_never_shorter_than_the_interval() {
        let waits: Vec<_> = (1..=6)
            .map(|failures| Backoff::Doubling.wait(5 * MINUTE, failures) / 60)
            .map(|m| m.as_secs())
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(Backoff::Doubling.wait(24 * LONGEST, 3), 24 * LONGEST);
        assert_eq!(Backoff::Doubling.wait(MINUTE, u32::MAX), LONGEST);
        assert_eq!(Class::Permanent.backoff().wait(MINUTE, 1), LONGEST);
        assert_eq!(Class::Message.backoff().wait(MINUTE, 9), MINUTE);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_reaches_them() {
        let mut dice = Dice::new(7);
        let times: Vec<_> = (0..10_000).map(|_| dice.about(100 * MINUTE).as_secs_f64() / 60.0).collect();
        let least = times.iter().copied().fold(f64::MAX, f64::min);
        let most = times.iter().copied().fold(0.0, f64::max);
        assert!((90.0..90.1).contains(&least) && (109.9..=110.0).contains(&most), "{least} to {most}");
        let mut backoff = || dice.backoff(Backoff::Doubling, MINUTE, 6);
        assert!((0..10_000).all(|_| (16 * MINUTE..=32 * MINUTE).contains(&backoff())));
        let mut first = || dice.backoff(Backoff::Doubling, MINUTE, 1);
        assert!((0..10_000).all(|_| (MINUTE / 10 * 9..=MINUTE).contains(&first())));
        assert_eq!(dice.between(MINUTE, MINUTE), MINUTE);
        assert!(dice.about(Duration::MAX) >= Duration::MAX / 10 * 8);
    }
}
