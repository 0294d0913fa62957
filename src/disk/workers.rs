//! Workers that make files durable.
//!
//! The async threads never wait for a disk: work is queued, and workers on tokio's blocking threads take it. A worker
//! takes a group of small messages at once, writes all of them and starts their writeback, and only then waits for
//! each. How many workers and how large a group was measured: `benches/delivery.rs` says how.
//!
//! Each session has a part of it ([`Disk::of_session`]): its own queues, so that one whose file system hangs holds up
//! no other, and its own deadline. All parts share the number of workers, but each may always have a few.

mod staff;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::part::{Lane, Part, Silence, UnderWay, Wait};
use super::room::{AllRoom, Room};
use crate::lock::lock;
use crate::stop::Term;

/// Access to the file system for all deliveries of a process, with a bounded number of workers and a bound on the
/// octets that wait for them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk {
    shared: Arc<Shared>,
    part: Arc<Part>,
    /// Whether [`Disk::settled`] waits for all parts.
    is_whole: bool,
    term: Term,
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

/// How long a file system may answer nothing to whoever has no session.
const PATIENCE: Duration = Duration::from_secs(60);

impl Disk {
    /// Begins with the usual limits.
    pub fn new() -> Self {
        Self::within(Limits::default())
    }

    pub fn within(limits: Limits) -> Self {
        let limits = Limits { workers: limits.workers.max(1), group: limits.group.max(1), ..limits };
        let room = Arc::new(AllRoom::of(limits.octets));
        let part = Arc::new(Part::new(&room, PATIENCE));
        let (workers, under_way, parts) = Default::default();
        let shared = Arc::new(Shared { limits, workers, under_way, room, parts });
        Self { shared, part, is_whole: true, term: Term::default() }
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
            && let Some(silence) = earlier.silence()
            && earlier.under_way.is_any()
        {
            return Err(silence);
        }
        parts.retain(|_, part| part.strong_count() > 0);
        let part = Arc::new(Part::new(&self.shared.room, patience));
        parts.insert(maildrop.into(), Arc::downgrade(&part));
        Ok(Self { shared: self.shared.clone(), part, is_whole: false, term: Term::default() })
    }

    /// Gives one by which nothing becomes visible any more once a term is over.
    pub fn under(self, term: &Term) -> Self {
        Self { term: term.clone(), ..self }
    }

    /// Fails if nothing may become visible any more. To be asked right before a file gets its name.
    pub(crate) fn may_publish(&self) -> io::Result<()> {
        match self.term.is_over() {
            true => Err(io::Error::other("the lease on the maildrop is lost")),
            false => Ok(()),
        }
    }

    /// Waits until nothing is queued or under way: abandoned messages are removed, too. To be awaited before the
    /// runtime ends. A session's part waits for itself alone.
    pub async fn settled(&self) {
        let under_way = if self.is_whole { &self.shared.under_way } else { &self.part.under_way };
        loop {
            let idle = under_way.idle.notified();
            tokio::pin!(idle);
            // From here on no wake-up is missed, so the check may follow.
            idle.as_mut().enable();
            self.staff(Lane::Stores);
            self.staff(Lane::Others);
            if !under_way.is_any() {
                return;
            }
            idle.await;
        }
    }

    /// Ends a session's use of its part. What it has the right to by `lease` is kept until all its work has ended, which
    /// may be long after.
    pub fn leave(self, lease: impl Send + 'static) {
        self.part.keep(lease);
    }

    /// Queues the storing of a message, in two halves.
    pub(crate) fn store(&self, work: impl FnOnce() -> Option<Wait> + Send + 'static) {
        self.queue(Lane::Stores, Box::new(work));
    }

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
    /// The worker panicked, or the file system does not answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        about: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if let Some(silence) = self.part.silence() {
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
        self.part.answer(about, coming).await
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
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
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

#[cfg(test)]
mod tests {
    use super::super::room::{Buffer, Waited};
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;
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

    #[test]
    fn one_worker_takes_what_gathers_before_it_is_there_and_what_is_too_much_for_it_has_another() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let disk = disk(4, 8, 0);
            let are_coming = |count| {
                let queue = disk.part.queue(Lane::Stores);
                assert_eq!((queue.workers, queue.coming), (count, count));
            };
            // The only thread comes late.
            let (go, wait) = mpsc::channel::<()>();
            drop(tokio::task::spawn_blocking(move || assert!(wait.recv().is_err())));
            for workers in [1, 2, 3] {
                (0..8).for_each(|_| disk.store(|| None));
                are_coming(workers);
            }
            drop(go);
            disk.settled().await;
            are_coming(0);
        });
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
        part.part.give_up("/mnt/mail".into());
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
