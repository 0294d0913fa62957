//! A lease in a database that workers share: who has it, and the claim of a session.

use std::fmt;

use jiff::Timestamp as Moment;
use jiff::tz::TimeZone;

use super::Timestamp;
use crate::stop::Term;

/// A worker that has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaseholder {
    pub worker: String,
    /// Until when it has it if it is not heard of meanwhile.
    pub until: Timestamp,
}

impl Leaseholder {
    /// Says until when, as people read it: `its lease lasts until 14:05:31, and longer while it is heard of`.
    pub fn until(&self) -> String {
        let Self { until, .. } = self;
        let at = Moment::from_second(*until)
            .map(|at| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string());
        format!(
            "its lease lasts until {}, and longer while it is heard of",
            at.unwrap_or_else(|_| until.to_string())
        )
    }
}

/// A lease that was claimed in the database; whoever claimed it is told when the last of it is dropped.
pub struct Claimed {
    token: i64,
    term: Term,
    released: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Claimed {
    /// `released` is called once nothing that the session has begun is under way any more.
    pub fn new(token: i64, term: Term, released: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { token, term, released: Some(Box::new(released)) }
    }

    /// Gives the number that every write of the session names.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Gives for how long it is held.
    pub fn term(&self) -> &Term {
        &self.term
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(released) = self.released.take() {
            released();
        }
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claimed({:016x})", self.token)
    }
}
