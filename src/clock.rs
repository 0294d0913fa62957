//! What time it is: the time of day of sessions and of what they deliver.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day.
#[derive(Debug, Clone, Default)]
pub enum WallClock {
    /// The system's.
    #[default]
    System,
    /// The one that somebody sets, in seconds since 1970: months pass in a test without waiting.
    Set(Arc<AtomicI64>),
}

impl WallClock {
    /// Gives the time in seconds since 1970.
    pub fn now(&self) -> i64 {
        i64::try_from(self.since_1970().as_secs()).unwrap_or(i64::MAX)
    }

    /// Gives the time in microseconds since 1970.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.since_1970().as_micros()).unwrap_or(u64::MAX)
    }

    fn since_1970(&self) -> Duration {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            Self::System => system,
            // A second has its parts, as the system's has.
            Self::Set(at) => {
                let seconds = u64::try_from(at.load(Relaxed)).unwrap_or(0);
                Duration::new(seconds, system.subsec_nanos())
            }
        }
    }
}
