//! The store's handle: what can be asked of it.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::clock::WallClock;
use crate::disk::{self, blocking};
use crate::message::{Content, FileId, UniqueId};
use crate::stop::Term;

use super::engine::{Answer, Request, serve};
use super::file::Limits;
use super::keeper::{Keeper, Looker};
use super::outlook::{self, Due, Seen, Which};
use super::postgres::{self, Server};
use super::reading::Of;
use super::spending::Spending;
use super::tables::{self, Tables};
use super::thread::{Place, Worker};
use super::writing::Write;
use super::{
    Closing, Delivery, Detail, Entries, LogIn, Maildrop, MaildropKey, Memory, Overview, Reached, Recorded,
    SeenLine, StateError, Status, Subject, Timestamp, Told, Trouble, Unclaimed, reading,
};

/// A handle on the state, in a file or a database. Cheap to clone; all work happens on the store's own thread. Dropping the last handle
/// waits until the thread has closed the file, unless that does not answer.
#[derive(Debug, Clone)]
pub struct Store {
    worker: Arc<Worker>,
    /// How long an answer is waited for.
    patience: Duration,
    /// The lease in a database that its sessions have.
    token: Option<i64>,
    /// Ends when that is found to be lost.
    term: Term,
}

/// Octets that a batch of records may take, with the log before them.
const RESERVE: u64 = 1 << 20;

/// How long an answer is waited for by whoever has said nothing of it.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

impl Store {
    /// Starts the store's thread, which opens the file at once, beside whatever the caller does next; an error is told by
    /// the first call. A missing one is made (0600, its directory 0700) with the first commit.
    ///
    /// Later calls try again to open it; where the file is damaged or the disk failed, those after five seconds.
    pub fn open(path: &Path) -> Self {
        Self::open_within(path, Limits::default())
    }

    /// Opens an existing file for reading only; a missing one is empty. For `status` and `seen list`.
    ///
    /// Nothing is created or changed, and a process that writes is neither waited for nor kept waiting.
    pub fn open_read_only(path: &Path) -> Self {
        let looker = Looker(path.to_owned());
        Self::start(Place::File(path.to_owned()), move |requests| serve(looker, &requests))
    }

    /// Starts the store's thread, which connects when something is asked of it. Tables that are missing are made.
    pub fn connect(server: Server) -> Self {
        Self::start(Place::Database(server.clone()), move |requests| match postgres::Keeper::new(server) {
            Ok(keeper) => serve(keeper, &requests),
            // Whoever asks hears that nobody answers.
            Err(error) => log::error!("{error}"),
        })
    }

    /// Gives where the database is, if it is one.
    pub fn server(&self) -> Option<&Server> {
        match &self.worker.place {
            Place::File(_) => None,
            Place::Database(server) => Some(server),
        }
    }

    /// Gives the clock that its times are of.
    pub fn clock(&self) -> WallClock {
        self.server().map(Server::clock).unwrap_or_default()
    }

    /// Gives a handle whose sessions write under a lease of this token, and nothing once that is another's. Where the kernel
    /// keeps the leases (`None`) it keeps them from the others.
    pub fn under(&self, token: Option<i64>) -> Self {
        Self { token, ..self.clone() }
    }

    /// Gives a handle that ends a term when it finds the lease lost, so that nothing more is done under it.
    pub fn ending(&self, term: &Term) -> Self {
        Self { term: term.clone(), ..self.clone() }
    }

    /// Gives a handle whose requests are answered within `patience`, or not any more. What was to be written then may be
    /// written later.
    pub fn within(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Keeps something until all that was asked of the store so far is done, or given up.
    pub fn keep_until_settled(&self, what: impl Send + 'static) {
        let kept = Request::Read(Box::new(move |_| {
            drop(what);
            None
        }));
        // Where the thread has ended, so has what was asked of it.
        let _ = self.worker.send(kept);
    }

    /// Says whether an answer was waited for in vain, and has not come since.
    pub fn is_silent(&self) -> bool {
        self.worker.silent.load(Relaxed) > 0
    }

    /// Loads what is known of a maildrop.
    ///
    /// Writes nothing: the maildrop gets its row with the first commit of the session that is worth one. A session
    /// that is cut off before that leaves no row, and one that never got to publishing leaves a row that says so: both
    /// read as [unclosed](super::Left::is_unclosed) next time, just as if the state file had been lost.
    pub async fn begin(&self, maildrop: Arc<str>) -> Result<Memory, StateError> {
        let random = || {
            let words = |error| format!("the system gives no random numbers: {error}");
            let number = getrandom::u64().map_err(|error| self.worker.place.defect(words(error)))?;
            // Above 0, which stands for no session.
            Ok((number >> 1).max(1).cast_signed())
        };
        let session = self.token.map_or_else(random, Ok)?;
        let key = MaildropKey { identity: maildrop, session };
        self.read(move |tables| reading::memory(tables, key.clone())).await
    }

    /// Loads the row of a maildrop, without waiting for its unique-ids.
    pub async fn maildrop(&self, identity: Arc<str>) -> Result<Maildrop, StateError> {
        self.read(move |tables| reading::maildrop(tables, &identity)).await
    }

    /// Loads the rows of all maildrops, by identity; quick however many unique-ids there are.
    pub async fn maildrops(&self) -> Result<Vec<Maildrop>, StateError> {
        self.read(reading::maildrops).await
    }

    /// Notes durably what became of a log-in, for a session that leaves nothing else behind.
    pub async fn logged_in(
        &self,
        maildrop: Arc<str>,
        at: Timestamp,
        outcome: LogIn,
    ) -> Result<(), StateError> {
        self.write(Write::LoggedIn { maildrop, session: self.token, at, outcome }).await?;
        Ok(())
    }

    /// Marks the session open, durably, after the target was recovered (if [`Memory::left`] asked for it) and
    /// before the session publishes its first message. Only a session that called this marks the maildrop closed.
    /// `unclaimed` are files that were found then; each stays known until a record claims it.
    pub async fn publishing(
        &self,
        maildrop: &MaildropKey,
        unclaimed: Vec<Unclaimed>,
    ) -> Result<(), StateError> {
        let session = maildrop.session;
        self.write(Write::Publishing { maildrop: maildrop.identity.clone(), session, unclaimed }).await?;
        Ok(())
    }

    /// Forgets the messages in mailboxes that belonged to no record: none that will come can be one of them.
    pub async fn forget_messages(&self, maildrop: &MaildropKey) -> Result<(), StateError> {
        let session = maildrop.session;
        self.write(Write::ForgetMessages { maildrop: maildrop.identity.clone(), session }).await?;
        Ok(())
    }

    /// Fails with [`StateError::Full`] if the disk is so full that what is delivered next might not be recorded.
    pub async fn has_room(&self) -> Result<(), StateError> {
        let Place::File(path) = &self.worker.place else { return self.has_room_there().await };
        let asked = path.clone();
        // Not behind what is being recorded; who does not answer says nothing about room.
        match blocking::ask(path, self.patience, move || is_nearly_full(&asked)).await {
            Ok(true) => Err(StateError::Full { path: path.clone() }),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    /// Another machine's disk says that it is full when it is written. From then on it is asked before anything is delivered.
    async fn has_room_there(&self) -> Result<(), StateError> {
        if self.worker.is_full.load(Relaxed) {
            self.write(Write::Probe).await?;
            self.worker.is_full.store(false, Relaxed);
        }
        Ok(())
    }

    /// Records messages durably, as first seen `at` this time, and releases them if they were held. Requests that wait
    /// together share one commit; each is recorded whole or not at all.
    ///
    /// What was recorded under this name, a message that was not delivered yet, is replaced but for the time of its
    /// first sight.
    pub async fn record(
        &self,
        maildrop: &MaildropKey,
        at: Timestamp,
        deliveries: Vec<Delivery>,
    ) -> Result<(), StateError> {
        let session = maildrop.session;
        self.write(Write::Record { maildrop: maildrop.identity.clone(), session, at, deliveries }).await?;
        Ok(())
    }

    /// Records listed messages, given by their indexes in the listing, as [`Store::record`] does. The proofs are in the
    /// same order; of what is only marked there is none.
    pub async fn record_listed(
        &self,
        maildrop: &MaildropKey,
        at: Timestamp,
        listed: Vec<(usize, Delivery)>,
    ) -> Result<Vec<Option<Recorded>>, StateError> {
        let prove = |(index, delivery): &(usize, Delivery)| Recorded::by_commit(maildrop, *index, delivery);
        let proofs = listed.iter().map(prove).collect();
        self.record(maildrop, at, listed.into_iter().map(|(_, delivery)| delivery).collect()).await?;
        Ok(proofs)
    }

    /// Notes durably who has messages that others of their recipients have not, so that only those get them later.
    /// Until the session says more, they are held, and due.
    pub async fn reached(
        &self,
        maildrop: &MaildropKey,
        at: Timestamp,
        reached: Vec<Reached>,
    ) -> Result<(), StateError> {
        let session = maildrop.session;
        self.write(Write::Reached { maildrop: maildrop.identity.clone(), session, at, reached }).await?;
        Ok(())
    }

    /// Writes the end of a session and, if it published, marks it closed. `entries` are those that it began with.
    ///
    /// With a complete listing it forgets what was last listed 90 days before (30 after a deletion that reached UPDATE
    /// state), but never what this listing is the first not to show.
    ///
    /// Panics if an index in `closing` is not one of `entries`.
    pub async fn close(
        &self,
        maildrop: &MaildropKey,
        entries: &Entries,
        closing: Closing,
    ) -> Result<(), StateError> {
        let changed = closing.changes.iter().map(|change| &change.index);
        let dropped = &closing.superseded;
        let mut indexes = closing.vanished.iter().chain(&closing.returned).chain(dropped).chain(changed);
        assert!(
            indexes.all(|&index| index < entries.len()),
            "a session closes with the entries it began with"
        );
        let session = maildrop.session;
        let (maildrop, entries, closing) = (maildrop.identity.clone(), entries.share(), Box::new(closing));
        self.write(Write::Close { maildrop, session, entries, closing }).await?;
        Ok(())
    }

    /// Loads what these messages are known by, in the same order. Panics if an index is not one of `entries`.
    pub async fn details(
        &self,
        maildrop: &MaildropKey,
        entries: &Entries,
        indexes: Vec<usize>,
    ) -> Result<Vec<Detail>, StateError> {
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let (maildrop, entries) = (maildrop.identity.clone(), entries.share());
        self.read(move |tables| reading::details(tables, &maildrop, &entries, &indexes)).await
    }

    /// Lists what the recorded messages of a maildrop consist of, as far as that is known.
    pub async fn contents(&self, maildrop: &MaildropKey) -> Result<Vec<Content>, StateError> {
        let maildrop = maildrop.identity.clone();
        self.read(move |tables| reading::contents(tables, &maildrop)).await
    }

    /// Lists the files that the recorded messages of a maildrop are.
    pub async fn files(&self, maildrop: &MaildropKey) -> Result<Vec<FileId>, StateError> {
        let maildrop = maildrop.identity.clone();
        self.read(move |tables| reading::files(tables, &maildrop)).await
    }

    /// Lists the files in the target that no record claimed when the state was new, or when a session had not ended.
    pub async fn unclaimed(&self, maildrop: &MaildropKey) -> Result<Vec<Unclaimed>, StateError> {
        let maildrop = maildrop.identity.clone();
        self.read(move |tables| reading::unclaimed(tables, &maildrop)).await
    }

    /// Forgets unique-ids, so that they are fetched again; counts those that were recorded (and not held).
    pub async fn forget(&self, maildrop: Arc<str>, uids: Vec<UniqueId>) -> Result<usize, StateError> {
        self.write(Write::Forget { maildrop, uids }).await
    }

    /// Makes held messages due at once; counts those that are held.
    pub async fn hasten(
        &self,
        maildrop: Arc<str>,
        names: Vec<(UniqueId, u32)>,
        at: Timestamp,
    ) -> Result<usize, StateError> {
        self.write(Write::Hasten { maildrop, names, at }).await
    }

    pub async fn seen(&self, maildrop: Arc<str>) -> Result<Vec<SeenLine>, StateError> {
        self.read(move |tables| reading::seen(tables, &maildrop)).await
    }

    /// Lists all maildrops that were ever polled, with what is recorded and held of them, by identity.
    pub async fn status(&self) -> Result<Vec<Status>, StateError> {
        self.read(|tables| reading::status(tables, &Of::All, reading::counts(tables, &Of::All)?)).await
    }

    /// Reads what there is to be seen: these maildrops, when they are polled next, what the last day brought.
    pub async fn overview(&self, which: Which, seen: Seen) -> Result<Overview, StateError> {
        self.read(move |tables| outlook::overview(tables, &which, seen)).await
    }

    /// Remembers durably what somebody was told of a maildrop, by what it is of; `None` forgets it.
    pub async fn tell(
        &self,
        maildrop: Arc<str>,
        told: Vec<(Subject, Option<Told>)>,
    ) -> Result<(), StateError> {
        self.write(Write::Tell { maildrop, told }).await?;
        Ok(())
    }

    /// Notes when maildrops are polled next, for who looks. Nobody waits for it, and it costs no fsync: a power cut may
    /// take it back.
    pub fn schedule(&self, due: Due) {
        self.tell_only(Write::Schedule(due));
    }

    /// Has something written whose outcome nobody waits for.
    fn tell_only(&self, write: Write) {
        // A store that cannot be written tells those who have more to lose.
        let _ = self.worker.send(Request::Write(write, Answer::channel().0));
    }

    /// Gives a lease in the database back. Nobody waits for it but whoever drops the last handle.
    pub(super) fn release(&self, maildrop: Arc<str>, token: i64) {
        self.tell_only(Write::Release { maildrop, token });
    }

    /// Takes a process out that was a worker, and gives back all that it held.
    pub(super) fn leave(&self, worker: i64) {
        self.tell_only(Write::Leave { worker });
    }

    /// Asks the daemon for polls of these maildrops, for [`Store::asked_for`] to find.
    pub async fn ask_for(&self, maildrops: Vec<Arc<str>>, at: Timestamp) -> Result<(), StateError> {
        self.write(Write::AskFor { maildrops, at: -at }).await?;
        Ok(())
    }

    /// Gives the maildrops that polls are asked for of, once.
    pub async fn asked_for(&self, at: Timestamp) -> Result<Vec<String>, StateError> {
        let found = self.read(outlook::asked_for).await?;
        if !found.is_empty() {
            // Who asks again meanwhile asks for the poll that follows this.
            let maildrops = found.iter().map(|maildrop| maildrop.as_str().into()).collect();
            self.write(Write::AskFor { maildrops, at }).await?;
        }
        Ok(found)
    }

    /// Drops all that is known of a maildrop, durably; says whether there was anything.
    pub async fn drop_maildrop(&self, maildrop: Arc<str>) -> Result<usize, StateError> {
        self.write(Write::Drop { maildrop }).await
    }

    /// Gives what was last kept for a delivery target by [`Store::remember`].
    pub async fn target_memory(&self, target: String) -> Result<Option<Vec<u8>>, StateError> {
        self.read(move |tables| reading::target_memory(tables, &target)).await
    }

    /// Keeps what a delivery target has learned of its server, in place of what was kept for it before.
    pub async fn remember(&self, target: String, memory: Vec<u8>) -> Result<(), StateError> {
        self.write(Write::Remember { target, memory }).await?;
        Ok(())
    }

    /// Grants octets of a day's budget, and counts them as used before they are: no two sessions are granted the same.
    /// Gives how many.
    pub async fn spend(&self, spending: Spending) -> Result<u64, StateError> {
        Ok(self.write(Write::Spend(spending)).await? as u64)
    }

    pub(super) fn open_within(path: &Path, limits: Limits) -> Self {
        let opened = path.to_owned();
        let work = move |requests| serve(Keeper::open(opened, limits), &requests);
        Self::start(Place::File(path.to_owned()), work)
    }

    fn start(place: Place, work: impl FnOnce(mpsc::Receiver<Request>) + Send + 'static) -> Self {
        let worker = Arc::new(Worker::start(place, work));
        Self { worker, patience: PATIENCE, token: None, term: Term::default() }
    }

    async fn write(&self, write: Write) -> Result<usize, StateError> {
        let (answer, answered) = Answer::channel();
        self.worker.send(Request::Write(write, answer))?;
        let written = self.worker.receive(answered, self.patience).await;
        if let Err(StateError::Database { trouble, .. }) = &written {
            match trouble {
                Trouble::LeaseLost => self.term.lose(),
                Trouble::Full => self.worker.is_full.store(true, Relaxed),
                _ => {}
            }
        }
        written
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl Fn(Tables<'_>) -> tables::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = Answer::channel();
        self.worker.send(Request::Read(Box::new(move |engine| {
            let mut found = None;
            let looked = engine.look(&mut |tables| {
                found = Some(query(tables)?);
                Ok(())
            });
            answer.give(looked.map(|()| found.expect("a look that went well has found something")))
        })))?;
        self.worker.receive(answered, self.patience).await
    }
}

/// Says whether little is free where the file is; where nobody can say it is not.
fn is_nearly_full(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk::free(directory.unwrap_or(Path::new("."))).is_ok_and(|free| free < RESERVE)
}
