//! Locks on what is whole whenever a panic can happen.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, whatever became of those who had it before.
pub(crate) fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}
