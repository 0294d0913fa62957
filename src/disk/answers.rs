//! Counts what file systems answer, so that whoever waits for a worker tells a slow one from one that is dead.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

thread_local! {
    /// Where the answers to this thread are counted, while it works for somebody who waits.
    static COUNTED: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Has the answers to this thread counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counting(Option<Arc<AtomicU64>>);

impl Counting {
    pub(super) fn into(answers: &Arc<AtomicU64>) -> Self {
        Self(COUNTED.replace(Some(answers.clone())))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        COUNTED.set(self.0.take());
    }
}

/// Counts an answer, whatever it is.
pub(super) fn answered<T>(answer: T) -> T {
    COUNTED.with_borrow(|counted| {
        if let Some(counted) = counted {
            counted.fetch_add(1, Relaxed);
        }
    });
    answer
}
