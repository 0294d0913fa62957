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

//!
//! Each session has a part of it ([`Disk::of_session`]): its own queues, so that one whose file system hangs holds up
//! no other, and its own deadline. All parts share the number of workers, but each may always have a few.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use tokio::runtime::Handle;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};

use super::answers::Counting;
use super::blocking;
use super::room::{AllRoom, Room};

/// Access to the file system for all deliveries of a process, with a bounded number of workers and a bound on the
/// octets that wait for them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk {
    shared: Arc<Shared>,
    part: Arc<Part>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// Workers of all parts, by lane.
    workers: [AtomicUsize; 2],
    under_way: UnderWay,
    room: Arc<AllRoom>,
    /// Parts that a session has, or that still work for one that is over; by maildrop.
    parts: Mutex<HashMap<Arc<str>, Weak<Part>>>,
}

/// What one session has of it.
#[derive(Debug)]
struct Part {
    /// Messages to be stored, by groups.
    stores: Mutex<Queue>,
    /// Everything else. Its own workers, so that the next part of a large message does not wait in the queue behind
    /// a thousand small ones.
    others: Mutex<Queue>,
    under_way: UnderWay,
    /// Whether [`Disk::settled`] waits for all parts.
    is_whole: bool,
    /// How long the file system may answer nothing.
    patience: Duration,
    /// Answers of the file system so far.
    answers: Arc<AtomicU64>,
    silence: Mutex<Option<Silence>>,
    /// What is dropped when all work has ended.
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
    room: Arc<Room>,
}

/// Since when the file system does not answer, and what it was asked about.
#[derive(Debug, Clone)]
pub struct Silence {
    pub(crate) path: PathBuf,
    since: Instant,
}

/// Workers, and tasks that will queue more work when some is done.
#[derive(Debug, Default)]
struct UnderWay {
    count: AtomicUsize,
    idle: Notify,
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

/// Workers of each lane that a session may have even if others, which may all hang, have all that there are.
const OWN_WORKERS: usize = 2;

/// How long a file system may answer nothing to whoever has no session.
const PATIENCE: Duration = Duration::from_secs(60);

/// The second half of a store: waits for what the first half started.
pub(crate) type Wait = Box<dyn FnOnce() + Send>;

/// A piece of blocking work. What it returns is called once the first halves of the whole group are done.
type Work = Box<dyn FnOnce() -> Option<Wait> + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    workers: usize,
}

impl Disk {
    /// Begins with the usual limits.
    pub fn new() -> Self {
        Self::within(Limits::default())
    }

    /// Begins with other limits.
    pub fn within(limits: Limits) -> Self {
        let limits = Limits { workers: limits.workers.max(1), group: limits.group.max(1), ..limits };
        let room = Arc::new(AllRoom::of(limits.octets));
        let part = Arc::new(Part::new(&room, PATIENCE, true));
        let (workers, under_way, parts) = Default::default();
        let shared = Arc::new(Shared { limits, workers, under_way, room, parts });
        Self { shared, part }
    }

    /// Gives a session with a maildrop its part: whatever it waits for, the file system may answer nothing for
    /// `patience` at most.
    ///
    /// # Errors
    ///
    /// An earlier session's work still waits for an answer.
    pub fn of_session(&self, maildrop: &str, patience: Duration) -> Result<Self, Silence> {
        let mut parts = lock(&self.shared.parts);
        if let Some(earlier) = parts.get(maildrop).and_then(Weak::upgrade)
            && let Some(silence) = lock(&earlier.silence).clone()
            && earlier.under_way.count.load(SeqCst) > 0
        {
            return Err(silence);
        }
        parts.retain(|_, part| part.strong_count() > 0);
        let part = Arc::new(Part::new(&self.shared.room, patience, false));
        parts.insert(maildrop.into(), Arc::downgrade(&part));
        Ok(Self { shared: self.shared.clone(), part })
    }

    /// Waits until nothing is queued or under way: abandoned messages are removed, too. To be awaited before the
    /// runtime ends. A session's part waits for itself alone.
    pub async fn settled(&self) {
        let under_way = if self.part.is_whole { &self.shared.under_way } else { &self.part.under_way };
        loop {
            let idle = under_way.idle.notified();
            tokio::pin!(idle);
            // From here on no wake-up is missed, so the check may follow.
            idle.as_mut().enable();
            self.staff(Lane::Stores);
            self.staff(Lane::Others);
            if under_way.count.load(SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Ends a session's use of its part. What it has the right to by `lease` is kept until all its work has ended, which
    /// may be long after.
    pub fn leave(self, lease: impl Send + 'static) {
        let mut kept = lock(&self.part.kept);
        if self.part.under_way.count.load(SeqCst) > 0 {
            kept.push(Box::new(lease));
            // Others need not wait for the octets that hang.
            self.part.room.forgive();
        }
    }

    /// Queues the storing of a message, in two halves.
    pub(crate) fn store(&self, work: impl FnOnce() -> Option<Wait> + Send + 'static) {
        self.queue(Lane::Stores, Box::new(work));
    }

    /// Queues other work.
    pub(crate) fn queue_work(&self, work: impl FnOnce() + Send + 'static) {
        self.queue(
            Lane::Others,
            Box::new(move || {
                work();
                None
            }),
        );
    }

    /// Does other work about a path and waits for its result. Dropping the future does not stop the work.
    ///
    /// # Errors
    ///
    /// The worker came to grief, or the file system does not answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        about: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if let Some(silence) = &*lock(&self.part.silence) {
            return Err(silence.error());
        }
        let (done, mut result) = oneshot::channel();
        self.queue_work(move || {
            // Nobody waits any more: fine.
            let _ = done.send(work());
        });
        self.answer(|| about.to_owned(), &mut result).await
    }

    /// Waits for what a worker is going to send. Safe to drop and call again.
    ///
    /// # Errors
    ///
    /// As [`Disk::run`].
    pub(crate) async fn answer<T>(
        &self,
        about: impl FnOnce() -> PathBuf,
        coming: &mut oneshot::Receiver<T>,
    ) -> io::Result<T> {
        let answers = || self.part.answers.load(SeqCst);
        loop {
            let before = answers();
            let silence = lock(&self.part.silence).clone();
            if let Some(silence) = silence {
                // It was waited for long enough.
                return coming.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => silence.error(),
                    TryRecvError::Closed => came_to_grief(),
                });
            }
            match tokio::time::timeout(self.part.patience, &mut *coming).await {
                Ok(Ok(sent)) => return Ok(sent),
                Ok(Err(_)) => return Err(came_to_grief()),
                // Slow is not dead.
                Err(_) if answers() != before => {}
                Err(_) => return Err(self.give_up(about())),
            }
        }
    }

    /// Lets [`Disk::settled`] wait for a task that is going to queue more work.
    pub(crate) fn following(&self) -> Following {
        self.begin();
        Following(self.clone())
    }

    /// The bound on octets in memory.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.part.room
    }

    /// Notes that the file system does not answer.
    fn give_up(&self, path: PathBuf) -> io::Error {
        self.part.room.forgive();
        let since = Instant::now().checked_sub(self.part.patience).unwrap_or_else(Instant::now);
        lock(&self.part.silence).get_or_insert(Silence { path, since }).error()
    }

    fn queue(&self, lane: Lane, work: Work) {
        lock(self.part.lane(lane)).waiting.push_back(work);
        self.staff(lane);
    }

    /// Starts a worker if there is work for one more.
    fn staff(&self, lane: Lane) {
        {
            let mut queue = lock(self.part.lane(lane));
            let most = self.shared.limits.workers;
            if queue.waiting.is_empty() || queue.workers >= most {
                return;
            }
            let all = &self.shared.workers[lane as usize];
            if all.fetch_add(1, SeqCst) >= most && queue.workers >= OWN_WORKERS {
                all.fetch_sub(1, SeqCst);
                return;
            }
            queue.workers += 1;
        }
        self.begin();
        let worker = Worker { disk: self.clone(), lane, counted: true };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || worker.work())),
            // Outside a runtime (a draft that is dropped when all is over) there is nobody to keep waiting.
            Err(_) => worker.work(),
        }
    }

    fn begin(&self) {
        self.shared.under_way.count.fetch_add(1, SeqCst);
        self.part.under_way.count.fetch_add(1, SeqCst);
    }

    fn end(&self) {
        if self.part.under_way.count.fetch_sub(1, SeqCst) == 1 {
            let kept = mem::take(&mut *lock(&self.part.kept));
            drop(kept);
        }
        self.shared.under_way.count.fetch_sub(1, SeqCst);
        self.part.under_way.idle.notify_waiters();
        self.shared.under_way.idle.notify_waiters();
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Part {
    fn new(room: &Arc<AllRoom>, patience: Duration, is_whole: bool) -> Self {
        let (stores, others, under_way, answers, silence, kept) = Default::default();
        let room = Arc::new(Room::new(room));
        Self { stores, others, under_way, is_whole, patience, answers, silence, kept, room }
    }

    fn lane(&self, lane: Lane) -> &Mutex<Queue> {
        match lane {
            Lane::Stores => &self.stores,
            Lane::Others => &self.others,
        }
    }
}

impl Silence {
    pub(crate) fn error(&self) -> io::Error {
        blocking::silence(self.since.elapsed())
    }
}

/// See [`Disk::following`].
#[derive(Debug)]
pub(crate) struct Following(Disk);

impl Following {
    /// Lets it wait for one more.
    pub(crate) fn again(&self) -> Self {
        self.0.following()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[derive(Debug, Clone, Copy)]
enum Lane {
    Stores,
    Others,
}

/// Takes work until there is none; counted from before its thread starts.
struct Worker {
    disk: Disk,
    lane: Lane,
    counted: bool,
}

impl Worker {
    fn work(mut self) {
        let Disk { shared, part } = self.disk.clone();
        let _counting = Counting::into(&part.answers);
        let most = match self.lane {
            Lane::Stores => shared.limits.group,
            Lane::Others => 1,
        };
        loop {
            let group: Vec<Work> = {
                let mut queue = lock(part.lane(self.lane));
                let count = most.min(queue.waiting.len());
                if count == 0 {
                    // Under the lock in which the queue was seen empty, or work queued just now would lie there.
                    self.leave(&mut queue);
                    return;
                }
                queue.waiting.drain(..count).collect()
            };
            let waits: Vec<Wait> = group.into_iter().filter_map(|work| work()).collect();
            for wait in waits {
                wait();
            }
        }
    }

    fn leave(&mut self, queue: &mut Queue) {
        queue.workers -= 1;
        self.disk.shared.workers[self.lane as usize].fetch_sub(1, SeqCst);
        self.counted = false;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.counted {
            // It panicked, or the runtime ended before it could begin.
            let disk = self.disk.clone();
            self.leave(&mut lock(disk.part.lane(self.lane)));
            if std::thread::panicking() {
                disk.staff(self.lane);
            }
        }
        self.disk.end();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).field("workers", &self.workers).finish()
    }
}

/// Makes the error of a worker that panicked.
pub(crate) fn came_to_grief() -> io::Error {
    io::Error::other("the worker ended before its work was done")
}

/// A worker that panicked left what it had locked as it was: it is whole.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::room::{Buffer, Waited};
    use super::*;
    use std::sync::mpsc;

    fn disk(workers: usize, group: usize, octets: usize) -> Disk {
        Disk::within(Limits { workers, group, octets })
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
        disk.store(move || {
            wait.recv().unwrap();
            None
        });
        // The first group may be the blocking one alone, or with the first of these: so an odd one out leads.
        for at in 0..5 {
            let said = said.clone();
            disk.store(move || {
                said.send((1, at)).unwrap();
                Some(Box::new(move || said.send((2, at)).unwrap()))
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
        disk.queue_work(|| panic!("on purpose"));
        assert_eq!(disk.run(Path::new("x"), || 1).await.ok(), Some(1));
        assert_eq!(disk.run(Path::new("x"), || -> u8 { panic!("on purpose") }).await.ok(), None);
        assert_eq!(disk.run(Path::new("x"), || 2).await.ok(), Some(2));
        disk.settled().await;
    }

    #[test]
    fn work_queued_outside_a_runtime_is_done_at_once() {
        let (said, heard) = mpsc::channel();
        disk(1, 1, 0).queue_work(move || said.send(()).unwrap());
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
        assert_eq!(disk.room().all.held.load(SeqCst), 0);
    }

    /// Work that hangs until the sender is dropped.
    fn hang(disk: &Disk) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        disk.queue_work(move || assert!(released.recv().is_err()));
        release
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_answers_nothing_is_given_up_and_named() {
        let disk = disk(1, 1, 0).of_session("a", Duration::from_secs(7)).unwrap();
        let release = hang(&disk);
        // Time does not pass by itself while a thread works.
        let run = disk.run(Path::new("/mnt/mail"), || ());
        tokio::pin!(run);
        assert!(tokio::time::timeout(Duration::ZERO, &mut run).await.is_err());
        tokio::time::advance(Duration::from_secs(8)).await;
        let error = run.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the file system has not answered for 7s");
        // Nothing else of the session waits again.
        assert!(disk.run(Path::new("/mnt/mail/new"), || ()).await.is_err());
        drop(release);
        disk.settled().await;
    }

    #[tokio::test]
    async fn sessions_whose_file_systems_hang_leave_workers_to_the_others() {
        let disk = disk(3, 1, 0);
        let session = |name: &str| disk.of_session(name, Duration::from_secs(60)).unwrap();
        let hanging: Vec<_> = ["a", "b"].map(session).into_iter().collect();
        let releases: Vec<_> = hanging.iter().flat_map(|part| [hang(part), hang(part), hang(part)]).collect();
        assert_eq!(session("c").run(Path::new("x"), || 1).await.unwrap(), 1);
        drop(releases);
        disk.settled().await;
    }

    #[tokio::test]
    async fn what_a_session_keeps_is_kept_until_its_work_has_ended_and_another_is_refused_till_then() {
        let disk = disk(3, 1, 0);
        let patience = Duration::from_millis(1);
        let (lease, kept) = (Arc::new(()), || disk.of_session("a", patience).is_err());
        let part = disk.of_session("a", patience).unwrap();
        let release = hang(&part);
        part.give_up("/mnt/mail".into());
        part.clone().leave(lease.clone());
        assert_eq!(Arc::strong_count(&lease), 2);
        assert!(kept());
        drop(release);
        part.settled().await;
        assert_eq!(Arc::strong_count(&lease), 1);
        assert!(!kept());
        part.leave(lease.clone());
        assert_eq!(Arc::strong_count(&lease), 1, "nothing is under way");
    }

    #[tokio::test]
    async fn octets_that_a_hanging_worker_has_take_no_room_from_others() {
        let disk = disk(2, 1, 1000);
        let hanging = disk.of_session("a", Duration::from_secs(60)).unwrap();
        let other = disk.of_session("b", Duration::from_secs(60)).unwrap();
        let release = hang(&hanging);
        let lost = buffer(&hanging, 2000).leaving();
        assert!(other.room().is_full());
        hanging.leave(());
        assert!(!other.room().is_full());
        assert_eq!(other.room().wait().await, Waited::Room);
        drop((release, lost));
        disk.settled().await;
        assert_eq!(disk.room().all.held.load(SeqCst), 0);
    }
}
