//! When a maildrop is polled next: counted from now, so that the database's clock can tell the time.

use std::time::Duration;

use crate::daemon::schedule::{Dice, Ended, LogIn};
use crate::failure::Backoff;

/// No mail for so long makes a maildrop quiet.
const QUIET: Duration = Duration::from_secs(24 * 3600);
/// How many times as long its interval may get.
const LONGEST: u32 = 6;
/// Polls that are later than this are late.
const LATE: Duration = Duration::from_secs(10);
/// How soon whoever is left unfinished goes on, behind those who wait.
const SOON: Duration = Duration::ZERO;

/// A poll that is over.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// The account's interval; `None`: it is polled when somebody asks.
    pub every: Option<Duration>,
    pub ended: Ended,
    pub log_in: LogIn,
    /// How long ago it began.
    pub began: Duration,
    /// Failures in a row before it.
    pub failures: u32,
    /// How long no mail has come.
    pub quiet: Duration,
    /// How late polls are.
    pub lag: Duration,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// From now; `None`: when somebody asks.
    pub wait: Option<Duration>,
    /// How long its server wants to be left alone from now on, whoever asks.
    pub apart: Duration,
    /// Failures in a row.
    pub failures: u32,
}

impl Poll {
    pub fn next(&self, dice: &mut Dice) -> Next {
        let backoff = match self.ended {
            Ended::Complete | Ended::Unfinished => Backoff::No,
            Ended::Failed(class) => class.backoff(),
        };
        let failures = if backoff == Backoff::No { 0 } else { self.failures.saturating_add(1) };
        let wait = match (self.ended, self.every) {
            (Ended::Unfinished, _) => Some(SOON),
            (Ended::Complete | Ended::Failed(_), None) => None,
            (Ended::Failed(_), Some(every)) if backoff != Backoff::No => {
                let wait = dice.backoff(backoff, every, failures);
                Some(self.log_in.refused_for.map_or(wait, |tried_in| wait.min(tried_in.max(every))))
            }
            (Ended::Complete | Ended::Failed(_), Some(every)) => {
                Some(dice.about(self.stretched(every)).saturating_sub(self.began).max(every / 10))
            }
        };
        // LOGIN-DELAY counts from the log-in's answer, whichever worker logs in next.
        let apart = self.log_in.apart(self.began);
        Next { wait: wait.map(|wait| wait.max(apart)), apart, failures }
    }

    /// Polls what has had no mail for days less often, if there are more polls to do than are done.
    fn stretched(&self, every: Duration) -> Duration {
        if self.lag < LATE || self.quiet < QUIET {
            return every;
        }
        let days = u32::try_from(self.quiet.as_secs() / QUIET.as_secs()).unwrap_or(u32::MAX);
        every.saturating_mul(days.saturating_add(1).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Class;

    const MINUTE: Duration = Duration::from_secs(60);

    fn poll(ended: Ended) -> Poll {
        Poll {
            every: Some(5 * MINUTE),
            ended,
            log_in: LogIn::default(),
            began: Duration::from_secs(2),
            failures: 0,
            quiet: Duration::ZERO,
            lag: Duration::ZERO,
        }
    }

    fn minutes(poll: Poll) -> u64 {
        let wait = poll.next(&mut Dice::new(1)).wait.unwrap() + Duration::from_secs(32);
        wait.as_secs() / 60
    }

    #[test]
    fn polls_come_at_their_interval_counted_from_the_beginning_of_the_last() {
        let next = poll(Ended::Complete).next(&mut Dice::new(1));
        let wait = next.wait.unwrap() + Duration::from_secs(2);
        assert!((MINUTE * 9 / 2..=MINUTE * 11 / 2).contains(&wait), "{wait:?}");
        assert_eq!(next.failures, 0);
        let slow = Poll { began: MINUTE * 60, ..poll(Ended::Complete) };
        assert_eq!(slow.next(&mut Dice::new(1)).wait, Some(MINUTE / 2), "others get their turn");
        let manual = Poll { every: None, ..poll(Ended::Complete) };
        assert_eq!(manual.next(&mut Dice::new(1)).wait, None);
        assert_eq!(poll(Ended::Unfinished).next(&mut Dice::new(1)).wait, Some(Duration::ZERO));
    }

    #[test]
    fn failures_wait_longer_whoever_met_the_ones_before() {
        let failed = |failures| Poll { failures, ..poll(Ended::Failed(Class::Network)) };
        let next = failed(3).next(&mut Dice::new(1));
        assert_eq!(next.failures, 4);
        assert!((20 * MINUTE..=40 * MINUTE).contains(&next.wait.unwrap()), "{next:?}");
        assert!(failed(u32::MAX).next(&mut Dice::new(1)).wait.unwrap() <= 60 * MINUTE);
    }

    #[test]
    fn login_delay_holds_across_workers() {
        let delay = Some(20 * MINUTE);
        let log_in = LogIn { after: Some(Duration::from_secs(1)), delay, refused_for: None };
        let next = Poll { log_in, ..poll(Ended::Complete) }.next(&mut Dice::new(1));
        assert_eq!(next.wait, Some(20 * MINUTE), "a second's grace, and one that passed since the log-in");
        let next = Poll { log_in, ..poll(Ended::Unfinished) }.next(&mut Dice::new(1));
        assert_eq!(next.wait, Some(20 * MINUTE));
    }

    #[test]
    fn quiet_maildrops_are_polled_less_often_only_when_polls_are_late() {
        let quiet =
            |days, lag| Poll { quiet: QUIET * days, lag: Duration::from_secs(lag), ..poll(Ended::Complete) };
        let interval = |poll: Poll| f64::from(u32::try_from(minutes(poll)).unwrap()) / 5.0;
        assert!(interval(quiet(30, 0)) < 1.3);
        assert!(interval(quiet(0, 60)) < 1.3);
        assert!((1.7..2.4).contains(&interval(quiet(1, 60))));
        assert!((5.2..6.8).contains(&interval(quiet(30, 60))));
    }
}
