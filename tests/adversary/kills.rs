//! Kills the program at a moment that the server does not see: inside a session, by unwinding it.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use postrider::testing::session::Progress;

thread_local! {
    /// What the log is to do in this thread.
    static WATCHED: RefCell<Watched> = const { RefCell::new(Watched { kill_at: None, told: None }) };
}

struct Watched {
    /// Messages to be delivered until the program is killed.
    kill_at: Option<usize>,
    told: Option<Vec<String>>,
}

/// Installs the log.
pub fn install() {
    // Another thread may have done it.
    let _ = log::set_boxed_logger(Box::new(Log));
    log::set_max_level(log::LevelFilter::Info);
}

/// Kills once so many messages more are delivered in this thread, before they are recorded; keeps the log if it is wanted.
pub fn begin(kill_at: Option<usize>, is_told: bool) {
    WATCHED.set(Watched { kill_at, told: is_told.then(Vec::new) });
}

/// Kills no more; gives the log.
pub fn end() -> Vec<String> {
    let watched = WATCHED.replace(Watched { kill_at: None, told: None });
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
        let is_killed = WATCHED.with_borrow_mut(|watched| {
            let is_delivery = line.ends_with(": delivered");
            if let Some(told) = &mut watched.told {
                told.push(format!("    log: {}", line.replace('\n', " / ")));
            }
            match &mut watched.kill_at {
                Some(0) if is_delivery => {
                    watched.kill_at = None;
                    true
                }
                Some(left) if is_delivery => {
                    *left -= 1;
                    false
                }
                _ => false,
            }
        });
        if is_killed {
            resume_unwind(Box::new(Killed));
        }
    }

    fn flush(&self) {}
}

/// Kills when so many messages are recorded.
pub struct Records(AtomicUsize);

impl Records {
    /// Never, if it is not said when.
    pub fn new(kill_at: Option<usize>) -> Self {
        Self(AtomicUsize::new(kill_at.unwrap_or(usize::MAX / 2)))
    }
}

impl Progress for Records {
    fn delivered(&self, _messages: usize) {
        if self.0.fetch_sub(1, Relaxed) == 0 {
            resume_unwind(Box::new(Killed));
        }
    }
}
