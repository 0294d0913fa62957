//! Workers that make files durable, and the bound on the octets that wait for them.
//!
//! The async threads never wait for a disk: work is queued, and workers on tokio's blocking threads take it. A worker
//! takes a group of small messages at once, writes all of them and starts their writeback, and only then waits for
//! each. 10,000 messages of 4 KiB, fsync of each file, one fsync of `new` a batch, on a journalled ext4 on a loop
//! device, two cores, compilers and tests beside; messages/s, median (lowest..highest); each column is one interleaved
//! set, with the load during it, and only figures of one column can be compared:
//!
//! | workers x group | load 3 to 17, 7 runs | load 6 to 26, 9 runs | load 10 to 28, 7 runs |
//! |---|---|---|---|
//! | 16 x 1 (each by itself) | 4,500 (2,150..6,858) | | 2,135 (1,917..9,461) |
//! | 32 x 1 | 6,331 (2,978..7,141) | | 3,714 (3,048..9,460) |
//! | 8 x 16 | 6,973 (4,854..7,931) | | 3,210 (2,438..11,275) |
//! | 16 x 8 | | 4,463 (3,484..6,359) | 3,706 (2,462..11,619) |
//! | 16 x 16 | 8,390 (3,067..10,564) | 4,930 (3,696..8,348) | 4,984 (3,967..12,467) |
//! | 32 x 4 | 7,309 (5,118..8,382) | 5,476 (4,240..6,938) | 5,698 (4,492..8,699) |
//! | 32 x 8 | 8,916 (6,502..10,077) | 6,867 (5,302..8,248) | 5,818 (4,863..7,909) |
//! | 64 x 4 | | | 6,272 (5,259..8,556) |
//!
//! So 32 x 8: the best median or within the noise of it in each, with 10 to 11 MiB for the whole process. It takes as
//! much CPU time as 32 x 1 (1.16 and 1.20 s in the first column). The busier the disk, the more the number of workers
//! matters; presumably since each fsync flushes the disk's cache and the kernel joins flushes that wait together (not
//! traced). One syncfs for a group of 64, by a single thread without the rest of this program, did 12,124/s where
//! 8 x 16 did 10,994/s: not much faster on a disk where nobody else writes, and it waits for everything that others
//! wrote, which is unbounded on a busy one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::durable::{FileSystem, Native};

/// Access to the file system for all deliveries of a process, with a bounded number of workers and a bound on the
/// octets that wait for them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Arc<dyn FileSystem>,
    /// Messages to be stored, by groups.
    stores: Mutex<Queue>,
    /// Everything else. Its own workers, so that the next part of a large message does not wait in the queue behind
    /// a thousand small ones.
    others: Mutex<Queue>,
    /// Tasks that will queue more work when some is done.
    following: AtomicUsize,
    idle: Notify,
    limits: Limits,
    room: Arc<Room>,
}

/// How much goes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Workers that store messages; as many again do everything else.
    pub workers: usize,
    /// Small messages that one worker stores together.
    pub group: usize,
    /// Octets of messages in memory, over all accounts. It may be passed by one slice of each session.
    pub octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { workers: 32, group: 8, octets: 4 << 20 }
    }
}

/// The second half of a store: waits for what the first half started.
pub(super) type Wait = Box<dyn FnOnce(&dyn FileSystem) + Send>;

/// A piece of blocking work. What it returns is called once the first halves of the whole group are done.
type Work = Box<dyn FnOnce(&dyn FileSystem) -> Option<Wait> + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    workers: usize,
}

impl Disk {
    /// Uses the system's own files.
    pub fn new() -> Self {
        Self::over(Arc::new(Native), Limits::default())
    }

    /// Uses another file system, or other limits.
    pub fn over(files: Arc<dyn FileSystem>, limits: Limits) -> Self {
        let limits = Limits { workers: limits.workers.max(1), group: limits.group.max(1), ..limits };
        let room = Arc::new(Room { limit: limits.octets, ..Room::default() });
        let (stores, others, following, idle) = Default::default();
        Self(Arc::new(Shared { files, stores, others, following, idle, limits, room }))
    }

    /// Waits until nothing is queued or under way: abandoned messages are removed, too. To be awaited before the
    /// runtime ends.
    pub async fn settled(&self) {
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            // From here on no wake-up is missed, so the check may follow.
            idle.as_mut().enable();
            self.staff(Lane::Stores);
            self.staff(Lane::Others);
            let workers = [Lane::Stores, Lane::Others].map(|lane| lock(self.0.lane(lane)).workers);
            if workers == [0, 0] && self.0.following.load(SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Queues the storing of a message, in two halves.
    pub(super) fn store(&self, work: impl FnOnce(&dyn FileSystem) -> Option<Wait> + Send + 'static) {
        self.queue(Lane::Stores, Box::new(work));
    }

    /// Queues other work.
    pub(super) fn queue_work(&self, work: impl FnOnce(&dyn FileSystem) + Send + 'static) {
        self.queue(
            Lane::Others,
            Box::new(move |files| {
                work(files);
                None
            }),
        );
    }

    /// Does other work and waits for its result; `None` if the worker came to grief. Dropping the future does not
    /// stop the work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn FileSystem) -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.queue_work(move |files| {
            // Nobody waits any more: fine.
            let _ = done.send(work(files));
        });
        result.await.ok()
    }

    /// Lets [`Disk::settled`] wait for a task that is going to queue more work.
    pub(super) fn following(&self) -> Following {
        self.0.following.fetch_add(1, SeqCst);
        Following(self.clone())
    }

    /// The bound on octets in memory.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.0.room
    }

    fn queue(&self, lane: Lane, work: Work) {
        lock(self.0.lane(lane)).waiting.push_back(work);
        self.staff(lane);
    }

    /// Starts a worker if there is work for one more.
    fn staff(&self, lane: Lane) {
        {
            let mut queue = lock(self.0.lane(lane));
            if queue.waiting.is_empty() || queue.workers >= self.0.limits.workers {
                return;
            }
            queue.workers += 1;
        }
        let worker = Worker { disk: self.clone(), lane, counted: true };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || worker.work())),
            // Outside a runtime (a draft that is dropped when all is over) there is nobody to keep waiting.
            Err(_) => worker.work(),
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

/// See [`Disk::following`].
#[derive(Debug)]
pub(super) struct Following(Disk);

impl Following {
    /// Lets it wait for one more.
    pub(super) fn again(&self) -> Self {
        self.0.following()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.0.following.fetch_sub(1, SeqCst);
        self.0.0.idle.notify_waiters();
    }
}

#[derive(Debug, Clone, Copy)]
enum Lane {
    Stores,
    Others,
}

impl Shared {
    fn lane(&self, lane: Lane) -> &Mutex<Queue> {
        match lane {
            Lane::Stores => &self.stores,
            Lane::Others => &self.others,
        }
    }
}

/// Takes work until there is none; counted from before its thread starts.
struct Worker {
    disk: Disk,
    lane: Lane,
    counted: bool,
}

impl Worker {
    fn work(mut self) {
        let shared = self.disk.0.clone();
        let most = match self.lane {
            Lane::Stores => shared.limits.group,
            Lane::Others => 1,
        };
        loop {
            let group: Vec<Work> = {
                let mut queue = lock(shared.lane(self.lane));
                let count = most.min(queue.waiting.len());
                if count == 0 {
                    // Under the lock in which the queue was seen empty, or work queued just now would lie there.
                    queue.workers -= 1;
                    self.counted = false;
                    return;
                }
                queue.waiting.drain(..count).collect()
            };
            let waits: Vec<Wait> = group.into_iter().filter_map(|work| work(&*shared.files)).collect();
            for wait in waits {
                wait(&*shared.files);
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.counted {
            // It panicked, or the runtime ended before it could begin.
            lock(self.disk.0.lane(self.lane)).workers -= 1;
            if std::thread::panicking() {
                self.disk.staff(self.lane);
            }
        }
        self.disk.0.idle.notify_waiters();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).field("workers", &self.workers).finish()
    }
}

/// The bound on the octets of messages that are in memory, over all accounts of a process.
#[derive(Debug, Default)]
pub(super) struct Room {
    limit: usize,
    /// Octets in all [`Buffer`]s.
    held: AtomicUsize,
    /// Those of them that a worker will free without anyone's help.
    leaving: AtomicUsize,
    freed: Notify,
}

/// Why [`Room::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// There is room.
    Room,
    /// There is none, and waiting would not make any: everything is held by drafts, this one among them.
    InVain,
}

impl Room {
    /// Says whether the bound is passed.
    pub(super) fn is_full(&self) -> bool {
        self.held.load(SeqCst) > self.limit
    }

    /// Says whether a draft that holds so many octets should [`Room::wait`]: there is no room, and either it will come
    /// or the draft itself can make some.
    pub(super) fn makes_wait(&self, held: usize) -> bool {
        self.is_full() && (held > 0 || self.leaving.load(SeqCst) > 0)
    }

    /// Waits until there is room, as long as workers are about to free some.
    pub(super) async fn wait(&self) -> Waited {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if !self.is_full() {
                return Waited::Room;
            }
            if self.leaving.load(SeqCst) == 0 {
                return Waited::InVain;
            }
            freed.await;
        }
    }
}

/// Octets of a message in memory, counted by their allocation.
#[derive(Debug)]
pub(super) struct Buffer {
    octets: Vec<u8>,
    room: Arc<Room>,
    counted: usize,
    leaving: bool,
}

impl Buffer {
    pub(super) fn new(room: &Arc<Room>) -> Self {
        Self { octets: Vec::new(), room: room.clone(), counted: 0, leaving: false }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Lets `fill` append octets.
    pub(super) fn fill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.octets);
        let capacity = self.octets.capacity();
        self.room.held.fetch_add(capacity - self.counted, SeqCst);
        self.counted = capacity;
    }

    /// Says that a worker has it, or is about to: it will be dropped or cleared without anyone's help.
    pub(super) fn leaving(mut self) -> Self {
        self.leaving = true;
        self.room.leaving.fetch_add(self.counted, SeqCst);
        self
    }

    /// Takes it back, empty, for more.
    pub(super) fn cleared(mut self) -> Self {
        self.octets.clear();
        self.stays();
        self
    }

    fn stays(&mut self) {
        if std::mem::take(&mut self.leaving) {
            self.room.leaving.fetch_sub(self.counted, SeqCst);
            self.room.freed.notify_waiters();
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.counted, SeqCst);
        self.stays();
        self.room.freed.notify_waiters();
    }
}

/// A worker that panicked left the queue as it was: it is whole.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn disk(workers: usize, group: usize, octets: usize) -> Disk {
        Disk::over(Arc::new(Native), Limits { workers, group, octets })
    }

    fn buffer(disk: &Disk, octets: usize) -> Buffer {
        let mut buffer = Buffer::new(disk.room());
        buffer.fill(|held| held.resize(octets, b'x'));
        buffer
    }

    #[tokio::test]
    async fn second_halves_of_a_group_follow_all_of_its_first_halves() {
        let disk = disk(1, 2, 0);
        let (said, heard) = mpsc::channel();
        // Holds the only worker until all four are queued.
        let (go, wait) = mpsc::channel::<()>();
        disk.store(move |_| {
            wait.recv().unwrap();
            None
        });
        // The first group may be the blocking one alone, or with the first of these: so an odd one out leads.
        for at in 0..5 {
            let said = said.clone();
            disk.store(move |_| {
                said.send((1, at)).unwrap();
                Some(Box::new(move |_: &dyn FileSystem| said.send((2, at)).unwrap()))
            });
        }
        go.send(()).unwrap();
        disk.settled().await;
        let order: Vec<_> = heard.try_iter().collect();
        let alone = [(1, 0), (1, 1), (2, 0), (2, 1), (1, 2), (1, 3), (2, 2), (2, 3), (1, 4), (2, 4)];
        let joined = [(1, 0), (2, 0), (1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (1, 4), (2, 3), (2, 4)];
        assert!(order == alone || order == joined, "{order:?}");
    }

    #[tokio::test]
    async fn a_worker_that_panics_takes_no_others_down() {
        let disk = disk(1, 1, 0);
        disk.queue_work(|_| panic!("on purpose"));
        assert_eq!(disk.run(|_| 1).await, Some(1));
        assert_eq!(disk.run(|_| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(disk.run(|_| 2).await, Some(2));
        disk.settled().await;
    }

    #[test]
    fn work_queued_outside_a_runtime_is_done_at_once() {
        let (said, heard) = mpsc::channel();
        disk(1, 1, 0).queue_work(move |_| said.send(()).unwrap());
        assert!(heard.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_full_room_is_waited_for_only_while_a_worker_will_make_some() {
        let disk = disk(1, 1, 1000);
        let kept = buffer(&disk, 600);
        assert!(!disk.room().is_full());
        let going = buffer(&disk, 600).leaving();
        assert!(disk.room().is_full());
        let waiting = tokio::spawn({
            let room = disk.room().clone();
            async move { room.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(going);
        assert_eq!(waiting.await.unwrap(), Waited::Room);
        let more = buffer(&disk, 600);
        assert_eq!(disk.room().wait().await, Waited::InVain);
        drop((kept, more));
        assert!(!disk.room().is_full());
        assert_eq!(disk.room().held.load(SeqCst), 0);
    }
}
