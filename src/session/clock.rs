//! What time it is for sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::state::Timestamp;

use super::plan;

/// Tells sessions the time of day, as the state keeps it.
#[derive(Debug, Clone, Default)]
pub enum WallClock {
    /// The system's.
    #[default]
    System,
    /// The one that somebody sets: months pass in a test without waiting.
    Set(Arc<AtomicI64>),
}

impl WallClock {
    /// Gives the time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => plan::seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Set(at) => at.load(Relaxed),
        }
    }
}
