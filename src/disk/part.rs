//! What one session has of the workers: its queues, its deadline, and what is kept until its work has ended.

use std::any::Any;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};

use super::blocking;
use super::room::{AllRoom, Room};
use crate::lock::lock;

/// The second half of a store: waits for what the first half started.
pub(crate) type Wait = Box<dyn FnOnce() + Send>;

/// A piece of blocking work. What it returns is called once the first halves of the whole group are done.
pub(super) type Work = Box<dyn FnOnce() -> Option<Wait> + Send>;

/// What one session has of the workers; or what those have who have no session.
#[derive(Debug)]
pub(super) struct Part {
    /// Messages to be stored, by groups.
    stores: Mutex<Queue>,
    /// Everything else. Its own workers, so that the next part of a large message does not wait in the queue behind
    /// a thousand small ones.
    others: Mutex<Queue>,
    pub(super) under_way: UnderWay,
    /// How long the file system may answer nothing.
    patience: Duration,
    /// Answers of the file system so far.
    pub(super) answers: Arc<AtomicU64>,
    silence: Mutex<Option<Silence>>,
    /// What is dropped when all work has ended.
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
    pub(super) room: Arc<Room>,
}

/// Since when the file system does not answer, and what it was asked about.
#[derive(Debug, Clone)]
pub struct Silence {
    pub(crate) path: PathBuf,
    since: Instant,
}

/// Workers, and tasks that will queue more work when some is done.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    count: AtomicUsize,
    pub(super) idle: Notify,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Work>,
    pub(super) workers: usize,
    /// Those of them that were started, and have taken nothing yet.
    pub(super) coming: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    Stores,
    Others,
}

impl Part {
    pub(super) fn new(room: &Arc<AllRoom>, patience: Duration) -> Self {
        let (stores, others, under_way, answers, silence, kept) = Default::default();
        let room = Arc::new(Room::new(room));
        Self { stores, others, under_way, patience, answers, silence, kept, room }
    }

    pub(super) fn queue(&self, lane: Lane) -> MutexGuard<'_, Queue> {
        lock(match lane {
            Lane::Stores => &self.stores,
            Lane::Others => &self.others,
        })
    }

    /// Says since when the file system does not answer, if it was given up.
    pub(super) fn silence(&self) -> Option<Silence> {
        lock(&self.silence).clone()
    }

    /// Waits for what a worker is going to send. Safe to drop and call again.
    pub(super) async fn answer<T>(
        &self,
        about: impl FnOnce() -> PathBuf,
        coming: &mut oneshot::Receiver<T>,
    ) -> io::Result<T> {
        let answers = || self.answers.load(SeqCst);
        loop {
            let before = answers();
            if let Some(silence) = self.silence() {
                // It was waited for long enough.
                return coming.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => silence.error(),
                    TryRecvError::Closed => panicked(),
                });
            }
            match tokio::time::timeout(self.patience, &mut *coming).await {
                Ok(Ok(sent)) => return Ok(sent),
                Ok(Err(_)) => return Err(panicked()),
                // Slow is not dead.
                Err(_) if answers() != before => {}
                Err(_) => return Err(self.give_up(about())),
            }
        }
    }

    /// Notes that the file system does not answer.
    pub(super) fn give_up(&self, path: PathBuf) -> io::Error {
        self.room.forgive();
        let since = Instant::now().checked_sub(self.patience).unwrap_or_else(Instant::now);
        lock(&self.silence).get_or_insert(Silence { path, since }).error()
    }

    /// Keeps something until all work has ended, if any is under way.
    pub(super) fn keep(&self, what: impl Send + 'static) {
        let mut kept = lock(&self.kept);
        if self.under_way.is_any() {
            kept.push(Box::new(what));
            // Others need not wait for the octets that hang.
            self.room.forgive();
        }
    }

    /// Counts work that has ended.
    pub(super) fn end(&self) {
        if self.under_way.count.fetch_sub(1, SeqCst) == 1 {
            let kept = mem::take(&mut *lock(&self.kept));
            drop(kept);
        }
        self.under_way.idle.notify_waiters();
    }
}

impl UnderWay {
    pub(super) fn is_any(&self) -> bool {
        self.count.load(SeqCst) > 0
    }

    pub(super) fn begin(&self) {
        self.count.fetch_add(1, SeqCst);
    }

    pub(super) fn end(&self) {
        self.count.fetch_sub(1, SeqCst);
        self.idle.notify_waiters();
    }
}

impl Silence {
    pub(crate) fn error(&self) -> io::Error {
        blocking::silence(self.since.elapsed())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).field("workers", &self.workers).finish()
    }
}

/// Makes the error of a worker that panicked.
pub(crate) fn panicked() -> io::Error {
    io::Error::other("the worker ended before its work was done")
}
