//! What time it is: the time of day of sessions and of what they deliver; and how long what went wrong is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::Serializer;

/// Seconds since 1970.
pub type Timestamp = i64;

/// Shows a time for machines: RFC 3339, UTC.
pub fn utc(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| format!("@{at}"), |at| at.to_string())
}

/// Writes a time so into JSON.
pub fn in_utc<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&utc(*at))
}

/// Tells the time of day.
#[derive(Debug, Clone, Default)]
pub enum WallClock {
    #[default]
    System,
    /// Another machine's, as it was read last; the system's until it was.
    Remote(Arc<Remote>),
    /// The one that somebody sets, in seconds since 1970: months pass in a test without waiting.
    Set(Arc<AtomicI64>),
}

impl WallClock {
    /// Gives the time of day.
    pub fn now(&self) -> Timestamp {
        Timestamp::try_from(self.since_1970().as_secs()).unwrap_or(Timestamp::MAX)
    }

    /// Gives the time in microseconds since 1970.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.since_1970().as_micros()).unwrap_or(u64::MAX)
    }

    fn since_1970(&self) -> Duration {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            Self::System => system,
            Self::Remote(remote) => remote.since_1970().unwrap_or(system),
            // A second has its parts, as the system's has.
            Self::Set(at) => {
                let seconds = u64::try_from(at.load(Relaxed)).unwrap_or(0);
                Duration::new(seconds, system.subsec_nanos())
            }
        }
    }
}

/// The time of day of another machine: how far it is ahead of [`since_boot`], whatever this machine takes for the time.
#[derive(Debug)]
pub struct Remote(AtomicI64);

/// It was not read yet.
const UNREAD: i64 = i64::MIN;

/// A time that took longer to be had is not taken where one is known: it may be wrong by half as much.
const PROMPT: Duration = Duration::from_secs(1);

impl Default for Remote {
    fn default() -> Self {
        Self(AtomicI64::new(UNREAD))
    }
}

impl Remote {
    /// Takes note of the time there, in microseconds since 1970, that has just come; it was asked for at `asked`, by
    /// [`since_boot`].
    pub fn note(&self, asked: Duration, micros: i64) {
        let took = since_boot().saturating_sub(asked);
        if took > PROMPT && self.0.load(Relaxed) != UNREAD {
            return;
        }
        let at = i64::try_from((asked + took / 2).as_micros()).unwrap_or(i64::MAX);
        self.0.store(micros.saturating_sub(at), Relaxed);
    }

    fn since_1970(&self) -> Option<Duration> {
        let ahead = Some(self.0.load(Relaxed)).filter(|ahead| *ahead != UNREAD)?;
        let now = i64::try_from(since_boot().as_micros()).unwrap_or(i64::MAX).saturating_add(ahead);
        Some(Duration::from_micros(u64::try_from(now).unwrap_or(0)))
    }
}

/// CLOCK_MONOTONIC stands still while Linux is suspended; other systems have no clock that does otherwise.
#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::CLOCK_MONOTONIC;

/// Gives the time since some moment in the past, by a clock that runs on while the machine is suspended and that nobody
/// sets.
pub fn since_boot() -> Duration {
    clock_gettime(BOOT).expect("every system has this clock").into()
}

/// The longest time for which what went wrong is left alone, in days.
const LONGEST_REST: Timestamp = 32;

/// Says whether what a server was found not to take is left alone still: for a day once it went wrong (at `at`, in seconds
/// since 1970) for the first time, for two after the second, up to 32. A time to come is a wrong clock's.
pub(crate) fn is_left_alone(at: Timestamp, times: u32, now: Timestamp) -> bool {
    let days = 1_i64.checked_shl(times.saturating_sub(1)).unwrap_or(LONGEST_REST).clamp(1, LONGEST_REST);
    (at..at.saturating_add(days * 24 * 3600)).contains(&now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_another_machine_runs_on_from_where_it_was_read_and_a_late_word_does_not_move_it() {
        let remote = Arc::new(Remote::default());
        let clock = WallClock::Remote(remote.clone());
        assert!((clock.now() - WallClock::System.now()).abs() <= 1, "nobody has read it");
        remote.note(since_boot(), 5_000_000_000_000);
        assert!((5_000_000..5_000_060).contains(&clock.now()), "{}", clock.now());
        remote.note(since_boot().saturating_sub(PROMPT * 2), 7_000_000_000_000);
        assert!((5_000_000..5_000_060).contains(&clock.now()), "{}", clock.now());
        let first = Remote::default();
        first.note(since_boot().saturating_sub(PROMPT * 2), 7_000_000_000_000);
        assert_eq!(first.since_1970().unwrap().as_secs(), 7_000_001, "half of the two seconds are over");
    }
}
