//! The bound on the octets of messages that wait in memory, and the buffers that are counted.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::lock::lock;

/// The bound on the octets of messages that are in memory, over all accounts of a process.
#[derive(Debug, Default)]
pub(crate) struct AllRoom {
    limit: usize,
    /// Octets in all [`Buffer`]s.
    pub(crate) held: AtomicUsize,
    /// Those of them that a worker will free without anyone's help.
    leaving: AtomicUsize,
    freed: Notify,
}

/// What a session takes of it.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) all: Arc<AllRoom>,
    mine: Mutex<Mine>,
}

#[derive(Debug, Default)]
struct Mine {
    held: usize,
    leaving: usize,
    /// They are counted no more: a worker has them that hangs.
    forgiven: bool,
}

/// Why [`Room::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Room,
    /// There is none, and waiting would not make any: everything is held by drafts, this one among them.
    InVain,
}

impl Room {
    pub(crate) fn new(all: &Arc<AllRoom>) -> Self {
        Self { all: all.clone(), mine: Mutex::default() }
    }

    /// Says whether the bound is passed.
    pub(crate) fn is_full(&self) -> bool {
        self.all.held.load(SeqCst) > self.all.limit
    }

    /// Says whether a draft that holds so many octets should [`Room::wait`]: there is no room, and either it will come
    /// or the draft itself can make some.
    pub(crate) fn makes_wait(&self, held: usize) -> bool {
        self.is_full() && (held > 0 || self.all.leaving.load(SeqCst) > 0)
    }

    /// Waits until there is room, as long as workers are about to free some. One that hangs is given up in time.
    pub(crate) async fn wait(&self) -> Waited {
        loop {
            let freed = self.all.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if !self.is_full() || lock(&self.mine).forgiven {
                return Waited::Room;
            }
            if self.all.leaving.load(SeqCst) == 0 {
                return Waited::InVain;
            }
            freed.await;
        }
    }

    /// Counts octets more or less, held and of these leaving.
    fn count(&self, held: isize, leaving: isize) {
        let mut mine = lock(&self.mine);
        mine.held = mine.held.wrapping_add_signed(held);
        mine.leaving = mine.leaving.wrapping_add_signed(leaving);
        if !mine.forgiven {
            self.all.add(held, leaving);
        }
    }

    /// Counts what it has no more: a worker has it that hangs.
    pub(crate) fn forgive(&self) {
        let mut mine = lock(&self.mine);
        if !mem::replace(&mut mine.forgiven, true) {
            self.all.add(-mine.held.cast_signed(), -mine.leaving.cast_signed());
        }
    }
}

impl AllRoom {
    pub(crate) fn of(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn add(&self, held: isize, leaving: isize) {
        // Additions wrap, which is how they subtract.
        self.held.fetch_add(held.cast_unsigned(), SeqCst);
        self.leaving.fetch_add(leaving.cast_unsigned(), SeqCst);
        if held < 0 || leaving < 0 {
            self.freed.notify_waiters();
        }
    }
}

/// Octets of a message in memory, counted by their allocation.
#[derive(Debug)]
pub(crate) struct Buffer {
    octets: Vec<u8>,
    room: Arc<Room>,
    counted: usize,
    leaving: bool,
}

impl Buffer {
    pub(crate) fn new(room: &Arc<Room>) -> Self {
        Self { octets: Vec::new(), room: room.clone(), counted: 0, leaving: false }
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Lets `fill` append octets.
    pub(crate) fn fill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.octets);
        let capacity = self.octets.capacity();
        if capacity != self.counted {
            self.room.count(capacity.cast_signed() - self.counted.cast_signed(), 0);
            self.counted = capacity;
        }
    }

    /// Says that a worker has it, or is about to: it will be dropped or cleared without anyone's help.
    pub(crate) fn leaving(mut self) -> Self {
        self.leaving = true;
        self.room.count(0, self.counted.cast_signed());
        self
    }

    /// Takes it back, empty, for more.
    pub(crate) fn cleared(mut self) -> Self {
        self.octets.clear();
        if mem::take(&mut self.leaving) {
            self.room.count(0, -self.counted.cast_signed());
        }
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let counted = -self.counted.cast_signed();
        self.room.count(counted, if self.leaving { counted } else { 0 });
    }
}
