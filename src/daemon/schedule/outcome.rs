//! What the schedule is told of polls.

use std::time::Duration;

use super::entry::GRACE;
use super::wait::LONGEST;
use crate::failure::Class;

/// How a session ended, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All that was to be done was done.
    Complete,
    /// The messages that it might fetch were fetched, and there are more.
    Unfinished,
    Failed(Class),
}

/// What a session learnt of log-ins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogIn {
    /// When it had been answered, or had failed, counted from the session's beginning; `None` if there was none.
    pub after: Option<Duration>,
    /// The server's LOGIN-DELAY, if it announced one.
    pub delay: Option<Duration>,
    /// How long it is not to be tried again, if the server refused it.
    pub refused_for: Option<Duration>,
}

impl LogIn {
    /// Gives the server's LOGIN-DELAY from now on, where a poll ended so and so much was known of it before.
    pub fn delay(self, ended: Ended, every: Option<Duration>, known: Duration) -> Duration {
        match (ended, self.delay) {
            (_, Some(announced)) => announced.min(24 * LONGEST),
            // It says that it was too soon, not how much: whatever was waited, twice that is tried next time. Whoever
            // can keep that gives it as `known` from then on, or every second poll would be refused.
            (Ended::Failed(Class::LoginDelay), None) => {
                every.unwrap_or(known).max(known).saturating_mul(2).min(LONGEST)
            }
            (_, None) => known,
        }
    }

    /// Gives how long the server wants to be left alone from now on, where the session began so long ago. RFC 2449, 6.5
    /// counts from the answer to a log-in.
    pub fn apart(self, began: Duration) -> Duration {
        let Some(delay) = self.delay.filter(|delay| !delay.is_zero()) else { return Duration::ZERO };
        let since = began.saturating_sub(self.after.unwrap_or(began));
        delay.min(24 * LONGEST).saturating_add(GRACE).saturating_sub(since)
    }
}

/// What is known of an account from before the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// How long ago its last poll began.
    pub ago: Duration,
    pub class: Option<Class>,
    /// Failures in a row.
    pub failures: u32,
    /// The server's LOGIN-DELAY, if it announced one.
    pub login_delay: Option<Duration>,
}
