//! Kills the program at a moment that the server does not see: inside a session, by unwinding it; or robs it of its lease.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use postrider::testing::session::Progress;

thread_local! {
    /// What the log is to do in this thread.
    static WATCHED: RefCell<Watched> = const { RefCell::new(Watched { strike: None, told: None }) };
}

struct Watched {
    /// Messages to be delivered until the stroke falls.
    strike: Option<(usize, Stroke)>,
    told: Option<Vec<String>>,
}

/// What befalls a program in the middle of a session.
#[derive(Clone)]
pub enum Stroke {
    /// It is killed: its future is unwound.
    Kill,
    /// Its lease is taken away, and it goes on.
    Theft(Arc<dyn Fn() + Send + Sync>),
}

impl Stroke {
    pub fn falls(&self) {
        match self {
            Self::Kill => resume_unwind(Box::new(Killed)),
            Self::Theft(take) => take(),
        }
    }
}

/// Installs the log.
pub fn install() {
    // Another thread may have done it.
    let _ = log::set_boxed_logger(Box::new(Log));
    log::set_max_level(log::LevelFilter::Info);
}

/// Strikes once so many messages more are delivered in this thread, before they are recorded; keeps the log if it is wanted.
pub fn begin(strike: Option<(usize, Stroke)>, is_told: bool) {
    WATCHED.set(Watched { strike, told: is_told.then(Vec::new) });
}

/// Strikes no more; gives the log.
pub fn end() -> Vec<String> {
    let watched = WATCHED.replace(Watched { strike: None, told: None });
    watched.told.unwrap_or_default()
}

/// Why a session's future was unwound.
pub struct Killed;

/// The log is where it is said that a message is delivered, and before it is recorded.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = record.args().to_string();
        let stroke = WATCHED.with_borrow_mut(|watched| {
            let is_delivery = line.ends_with(": delivered");
            if let Some(told) = &mut watched.told {
                told.push(format!("    log: {}", line.replace('\n', " / ")));
            }
            match &mut watched.strike {
                Some((0, _)) if is_delivery => watched.strike.take(),
                Some((left, _)) if is_delivery => {
                    *left -= 1;
                    None
                }
                _ => None,
            }
        });
        if let Some((_, stroke)) = stroke {
            stroke.falls();
        }
    }

    fn flush(&self) {}
}

/// Strikes when so many messages are recorded.
pub struct Records(AtomicUsize, Stroke);

impl Records {
    /// Never, if it is not said when.
    pub fn new(strike_at: Option<usize>, stroke: Stroke) -> Self {
        Self(AtomicUsize::new(strike_at.unwrap_or(usize::MAX / 2)), stroke)
    }
}

impl Progress for Records {
    fn delivered(&self, _messages: usize) {
        if self.0.fetch_sub(1, Relaxed) == 0 {
            self.1.falls();
        }
    }
}
