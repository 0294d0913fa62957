//! What is known of one account, and of one session.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Account;
use crate::config::account::Interval;

use super::queue::Ticket;

/// Added to a server's LOGIN-DELAY, which it may count in whole seconds.
pub const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Entry {
    /// As it is configured now.
    pub account: Arc<Account>,
    /// The host without regard to case: who shares it shares its limit.
    pub host: Arc<str>,
    /// Host and port.
    pub server: Arc<str>,
    pub place: Place,
    /// In a row.
    pub failures: u32,
    /// The server's LOGIN-DELAY, announced or found out.
    pub login_delay: Duration,
    /// When the last session began.
    pub began: Option<Duration>,
    /// When that had logged in, or had failed to; while that is not known, when it began.
    pub logged_in: Option<Duration>,
    /// Somebody asked for a poll while one was going on.
    pub again: bool,
    /// The shortest wait after this poll, where many were spread over less than their interval.
    pub dispersal: Option<Duration>,
}

/// Where an account is: in one place at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere, until it is asked for.
    Resting,
    /// Among the timers, until this time.
    Timer(Duration),
    /// In the queue for a free session.
    Queue(Ticket),
    /// In a session, or in what is done after it.
    Session,
}

/// A session; it may outlive its account's place in the configuration.
#[derive(Debug)]
pub struct Running {
    /// As it was configured when the session began.
    pub account: Arc<Account>,
    /// Where it has a place; `None` once it has given it back.
    pub host: Option<Arc<str>>,
    pub began: Duration,
}

impl Entry {
    /// Gives when the server allows the next log-in, if there was one. RFC 2449, 6.5 counts from the "+OK" that answers
    /// a log-in to the next attempt, however long the session lasts.
    pub fn earliest(&self) -> Option<Duration> {
        self.logged_in.map(|at| at.saturating_add(self.apart()))
    }

    /// Gives how far apart log-ins are to be.
    pub fn apart(&self) -> Duration {
        match self.login_delay {
            Duration::ZERO => Duration::ZERO,
            delay => delay.saturating_add(GRACE),
        }
    }
}

/// Says whether two accounts are one maildrop at one server, under whatever name and with whatever password.
pub fn is_same_maildrop(one: &Account, other: &Account) -> bool {
    one.maildrop_id == other.maildrop_id && one.server().eq_ignore_ascii_case(&other.server())
}

/// Gives the account's interval, if it has one.
pub fn interval(account: &Account) -> Option<Duration> {
    match account.interval {
        Interval::Every(every) => Some(every),
        Interval::Manual => None,
    }
}
