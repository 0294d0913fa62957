//! When an account is polled next, by how its last poll ended: for one machine's schedule and for a fleet alike. Pure.

use std::time::Duration;

use super::entry::GRACE;
use super::outcome::Ended;
use super::wait::Dice;
use crate::failure::Backoff;

/// The shortest time that a refused log-in is not tried again.
const REFUSED: Duration = Duration::from_secs(15 * 60);
/// No mail for so long makes a maildrop quiet.
const QUIET: Duration = Duration::from_secs(24 * 3600);
/// How many times as long its interval may get.
const LONGEST: u32 = 6;
/// A poll that was later than this was late.
const LATE: Duration = Duration::from_secs(10);

/// A poll that is over.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// The account's interval; `None`: it is polled when somebody asks.
    pub every: Option<Duration>,
    pub ended: Ended,
    /// How long ago it began.
    pub began: Duration,
    /// Failures in a row before it.
    pub failures: u32,
    /// How long its log-in is not to be tried again, if the server refused it.
    pub refused_for: Option<Duration>,
    /// How long its server wants to be left alone from now on, whoever asks.
    pub apart: Duration,
    /// The shortest wait after it, where many began together that are to come apart.
    pub dispersal: Option<Duration>,
    /// How long no mail has come.
    pub quiet: Duration,
    /// How late it was itself: quiet maildrops are polled less often where there are more polls to do than are done.
    pub late: Duration,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// From now; `None`: when somebody asks.
    pub wait: Option<Duration>,
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
        let wait = match (self.ended, self.every, self.dispersal) {
            // There is more: behind those who wait already.
            (Ended::Unfinished, ..) => Some(Duration::ZERO),
            (Ended::Complete | Ended::Failed(_), None, _) => None,
            (Ended::Failed(_), Some(every), dispersal) if backoff != Backoff::No => {
                let wait = match dispersal {
                    Some(least) => dice.between(least, backoff.wait(every, failures)),
                    None => dice.backoff(backoff, every, failures),
                };
                Some(self.tried_in(every).map_or(wait, |tried_in| wait.min(tried_in)))
            }
            (Ended::Complete | Ended::Failed(_), Some(every), Some(least)) => {
                Some(dice.between(least, every))
            }
            // Counted from its beginning, so that polls do not drift by their length; but one that took longer than
            // the interval leaves the maildrop to others for a while.
            (Ended::Complete | Ended::Failed(_), Some(every), None) => {
                Some(dice.about(self.stretched(every)).saturating_sub(self.began).max(every / 10))
            }
        };
        Next { wait: wait.map(|wait| wait.max(self.apart)), failures }
    }

    /// Gives when a log-in that was refused is tried again. Coming sooner tries nothing, but notices a password that was
    /// changed. A long interval is a wish.
    fn tried_in(&self, every: Duration) -> Option<Duration> {
        let least = if every > REFUSED { every } else { Duration::ZERO };
        self.refused_for.map(|wait| wait.saturating_add(GRACE).max(least))
    }

    /// Polls what has had no mail for days less often, if it was late.
    fn stretched(&self, every: Duration) -> Duration {
        if self.late < LATE || self.quiet < QUIET {
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
            began: Duration::from_secs(2),
            failures: 0,
            refused_for: None,
            apart: Duration::ZERO,
            dispersal: None,
            quiet: Duration::ZERO,
            late: Duration::ZERO,
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
    fn a_refused_log_in_is_waited_for_no_longer_than_it_is_not_tried() {
        let refused = |every: Duration| {
            let ended = Ended::Failed(Class::Credentials);
            let wait = Some(16 * MINUTE);
            Poll { every: Some(every), failures: 9, refused_for: wait, ..poll(ended) }
        };
        assert_eq!(refused(MINUTE).next(&mut Dice::new(1)).wait, Some(16 * MINUTE + GRACE));
        assert!(refused(50 * MINUTE).next(&mut Dice::new(1)).wait >= Some(45 * MINUTE), "that is a wish");
    }

    #[test]
    fn a_server_that_wants_time_between_log_ins_has_it_however_the_poll_ended() {
        for ended in [Ended::Complete, Ended::Unfinished, Ended::Failed(Class::Network)] {
            let next = Poll { apart: 20 * MINUTE, ..poll(ended) }.next(&mut Dice::new(1));
            assert_eq!(next.wait, Some(20 * MINUTE), "{ended:?}");
        }
    }

    #[test]
    fn quiet_maildrops_are_polled_less_often_only_when_polls_are_late() {
        let quiet = |days, late| Poll {
            quiet: QUIET * days,
            late: Duration::from_secs(late),
            ..poll(Ended::Complete)
        };
        let interval = |poll: Poll| f64::from(u32::try_from(minutes(poll)).unwrap()) / 5.0;
        assert!(interval(quiet(30, 0)) < 1.3);
        assert!(interval(quiet(0, 60)) < 1.3);
        assert!((1.7..2.4).contains(&interval(quiet(1, 60))));
        assert!((5.2..6.8).contains(&interval(quiet(30, 60))));
    }
}
