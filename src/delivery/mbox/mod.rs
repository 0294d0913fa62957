//! The mbox target: messages appended to one file that other programs read, write and lock.
//!
//! A batch of messages is appended under one pair of locks and made durable by one fsync, and only then it counts as
//! delivered. Both locks are only ever tried, first the kernel's on the open file (fcntl(2)), then the dot-lock
//! (`lock`); whoever does not get both gives up what he has and comes back later, so nobody waits for anybody with a
//! lock in hand, whatever the order in which other programs take theirs. Then the file is still looked up by its name,
//! lest it was replaced meanwhile.
//!
//! # After an error
//!
//! The file is cut back to the size that it had before the batch: no part of a message stays, and none of the batch
//! counts as delivered ([`TargetError`]). A failed fsync is never repeated, as in [`super::maildir`]. Where there is
//! no room for a large message, it alone is cut off and put off, and those that fit go on.
//!
//! # After a crash
//!
//! Nothing that counts as delivered is lost. But an mbox has no place for a journal: what a kill left between the
//! append and the record is delivered once more, and what a kill or power cut left of a message in the middle of the
//! append stays as it is, before the whole one. It cannot be told from what another program appended, and to cut off
//! what somebody else's message may be is not for us. The next message begins on a line of its own, after an empty
//! one, whatever the file ends with.

mod lock;
mod quote;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep};

use super::spool::{self, LineEnds, Spooled, Unspooled};
use super::{LARGE, Outcome, TargetError, file_error, is_no_room, owner};
use crate::disk::{Directory, Disk, Identity, OpenFile, above, spool_directory};
use crate::lock::lock;
use crate::message::{Header, MessageId, header};
use crate::stop::Stop;
use lock::{DotLock, Tried};
use quote::{FROM, Quoter};

pub(super) use quote::from_line;

/// How long locks are waited for, before the messages are put off.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause between two tries; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Octets that are read, quoted and written at once.
const PART: usize = 64 << 10;

/// An mbox that is delivered into. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disk: Disk,
    stop: Stop,
    directory: Directory,
    name: OsString,
    /// The file whose name is known to be durable.
    durable: Mutex<Option<Identity>>,
}

/// What came of a try to append.
enum Attempt {
    Done(Vec<Outcome>),
    /// Somebody has a lock: who, for the user; and the messages, untouched.
    Busy(String, Vec<Spooled>),
}

impl Mbox {
    /// Opens the mbox's directory, which must be there, and looks at the file if it is there.
    pub(super) async fn open(path: &Path, disk: Disk, stop: Stop) -> Result<Self, TargetError> {
        let owned = path.to_owned();
        let opened = disk.run(path, move || open(&owned)).await;
        let (directory, name) = opened.unwrap_or_else(|error| Err(file_error("open", path, error)))?;
        Ok(Self(Arc::new(Shared { disk, stop, directory, name, durable: Mutex::default() })))
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, LineEnds::Lf)
    }

    /// May be dropped: what a worker has begun by then it finishes, locks and all.
    pub(super) async fn commit(&self, finished: Vec<spool::Finished>) -> Result<Vec<Outcome>, TargetError> {
        let mut outcomes = Vec::with_capacity(finished.len());
        let mut messages = Vec::with_capacity(finished.len());
        for message in finished {
            outcomes.push(match message.spooled().await {
                Ok(message) => {
                    messages.push(message);
                    None
                }
                Err(Unspooled::Later(reason)) => Some(Outcome::Later(reason)),
                Err(Unspooled::Disk(error)) => return Err(error),
            });
        }
        let mut appended = self.append(messages).await?.into_iter();
        let whole = outcomes.into_iter().map(|outcome| outcome.or_else(|| appended.next()));
        Ok(whole.map(|outcome| outcome.expect("each message that was spooled has an outcome")).collect())
    }

    async fn append(&self, messages: Vec<Spooled>) -> Result<Vec<Outcome>, TargetError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut messages = messages;
        let (begun, mut pause) = (Instant::now(), PAUSE);
        loop {
            let (shared, path) = (self.0.clone(), self.0.path());
            let attempt = self.0.disk.run(&path, move || shared.attempt(messages)).await;
            match attempt.unwrap_or_else(|error| Err(file_error("append to", &path, error)))? {
                Attempt::Done(outcomes) => return Ok(outcomes),
                Attempt::Busy(holder, back) if begun.elapsed() >= PATIENCE => {
                    let reason = format!(
                        "cannot append to {}: gave up after {}s waiting for its lock, which {holder} holds",
                        self.0.path().display(),
                        PATIENCE.as_secs()
                    );
                    return Ok(vec![Outcome::Later(reason); back.len()]);
                }
                Attempt::Busy(_, back) => messages = back,
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.0.stop.asked() => return Ok(vec![Outcome::NotTried; messages.len()]),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Shared {
    fn path(&self) -> std::path::PathBuf {
        self.directory.path.join(&self.name)
    }

    /// Appends if both locks can be had at once.
    fn attempt(&self, messages: Vec<Spooled>) -> Result<Attempt, TargetError> {
        let Some(mbox) = self.open_or_create()? else {
            return Ok(Attempt::Busy("another program".into(), messages));
        };
        // It may be another file than the one that was there at first.
        check_owner(&mbox)?;
        let locked = mbox.try_lock().map_err(|error| file_error("lock", &mbox.path, error))?;
        if !locked {
            return Ok(Attempt::Busy("another program".into(), messages));
        }
        let held = match DotLock::try_take(&self.directory, &self.name, &mbox)? {
            Tried::Taken(held) => held,
            Tried::Held(holder) => {
                let holder = format!("{holder} ({}.lock)", self.path().display());
                return Ok(Attempt::Busy(holder, messages));
            }
        };
        let ours = mbox.identify().map_err(|error| file_error("look at", &mbox.path, error))?;
        let outcomes = match self.directory.identify(&self.name) {
            Ok(named) if named.is_file(&ours) => self.append(&mbox, ours, &messages).map(Attempt::Done),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("look at", &mbox.path, error))
            }
            // It was replaced or removed while we came; the next try meets the new one.
            Ok(_) | Err(_) => Ok(Attempt::Busy("another program".into(), messages)),
        };
        // The dot-lock first: whoever sees it gone may at once try the other.
        drop(held);
        drop(mbox);
        outcomes
    }

    /// Opens the file; nothing if it is made and removed by others while we try.
    fn open_or_create(&self) -> Result<Option<OpenFile>, TargetError> {
        if let Some(mbox) = open_existing(&self.directory, &self.name)? {
            return Ok(Some(mbox));
        }
        match self.directory.create(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file_error("create", &self.path(), error));
            }
            Ok(_) | Err(_) => {}
        }
        open_existing(&self.directory, &self.name)
    }

    /// Appends a batch and makes it durable; both locks are held.
    fn append(
        &self,
        mbox: &OpenFile,
        identity: Identity,
        messages: &[Spooled],
    ) -> Result<Vec<Outcome>, TargetError> {
        let before = check_content(mbox)?;
        let delivered = self.append_all(mbox, before, messages).and_then(|outcomes| {
            mbox.sync().map_err(|error| file_error("make durable", &mbox.path, error))?;
            self.make_name_durable(identity)?;
            Ok(outcomes)
        });
        if delivered.is_err() {
            cut(mbox, before);
        }
        delivered
    }

    fn append_all(
        &self,
        mbox: &OpenFile,
        before: u64,
        messages: &[Spooled],
    ) -> Result<Vec<Outcome>, TargetError> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut gap = gap(mbox, before)?;
        for message in messages {
            if self.stop.is_asked() {
                outcomes.resize(messages.len(), Outcome::NotTried);
                break;
            }
            let start = mbox.size().map_err(|error| file_error("look at", &mbox.path, error))?;
            outcomes.push(match write(mbox, gap, message) {
                Ok(()) => {
                    gap = b"";
                    Outcome::Delivered
                }
                Err(TargetError::File { source, .. }) if message.octets > LARGE && is_no_room(&source) => {
                    cut(mbox, start);
                    let cut = mbox.size().map_err(|error| file_error("look at", &mbox.path, error))?;
                    if cut != start {
                        return Err(file_error("append to", &mbox.path, source));
                    }
                    Outcome::Later(file_error("append to", &mbox.path, source).to_string())
                }
                Err(error) => return Err(error),
            });
        }
        Ok(outcomes)
    }

    /// An earlier run may have been killed between making the file and making its name durable.
    fn make_name_durable(&self, identity: Identity) -> Result<(), TargetError> {
        let mut durable = lock(&self.durable);
        if durable.is_none_or(|known| !known.is_file(&identity)) {
            self.directory.sync().map_err(|error| file_error("make durable", &self.directory.path, error))?;
            *durable = Some(identity);
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<(Directory, OsString), TargetError> {
    let unfit = |path: &Path, what: &str| TargetError::Unfit { path: path.to_owned(), what: what.to_owned() };
    let Some(name) = path.file_name() else {
        return Err(unfit(path, "is a directory; an mbox is a file: write the path of one"));
    };
    let above = above(path);
    let directory = Directory::open(above).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unfit(above, "there is no such directory; create it for the mbox"),
        io::ErrorKind::NotADirectory => unfit(above, "is not a directory"),
        _ => file_error("open", above, error),
    })?;
    let owns = directory.owner().map_err(|error| file_error("look at", above, error))?;
    owner::check(owns, above)?;
    match directory.check_writable() {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied) => {
            return Err(unfit(
                above,
                "no lock can be made beside the mbox: this user may not write there; for the system's mail directory \
                 that takes its group (often `mail`), else choose an mbox in a directory of your own",
            ));
        }
        writable => writable.map_err(|source| file_error("write into", above, source))?,
    }
    if let Some(mbox) = open_existing(&directory, name)? {
        check_owner(&mbox)?;
        check_content(&mbox)?;
    }
    Ok((directory, name.to_owned()))
}

/// Opens the file if there is one, and refuses what is no regular file.
fn open_existing(directory: &Directory, name: &OsStr) -> Result<Option<OpenFile>, TargetError> {
    let path = directory.path.join(name);
    match directory.open_to_append(name) {
        Ok(mbox) => Ok(Some(mbox)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // ENXIO: a socket, or a FIFO; EISDIR says itself what it is.
        Err(error) => Err(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => TargetError::Unfit {
                path,
                what: "is a directory, a symbolic link or something else that is not a regular file; mail is not \
                       delivered through it: give the path of the file itself"
                    .to_owned(),
            },
            _ => file_error("open", &path, error),
        }),
    }
}

fn check_owner(mbox: &OpenFile) -> Result<(), TargetError> {
    let owner = mbox.owner().map_err(|error| file_error("look at", &mbox.path, error))?;
    owner::check(owner, &mbox.path)
}

/// Gives the size of the file, and refuses one that is no mbox: there is nothing to repair what would come of it.
fn check_content(mbox: &OpenFile) -> Result<u64, TargetError> {
    let read = |error| file_error("read", &mbox.path, error);
    let size = mbox.size().map_err(read)?;
    let mut beginning = [0; FROM.len()];
    let count = mbox.read_at(&mut beginning, 0).map_err(read)?;
    if size == 0 || beginning[..count] == *FROM {
        return Ok(size);
    }
    Err(TargetError::Unfit {
        path: mbox.path.clone(),
        what: "is not an mbox: it does not begin with `From `; nothing is appended to it".to_owned(),
    })
}

/// Gives what is missing between the end of the file and the next message.
fn gap(mbox: &OpenFile, size: u64) -> Result<&'static [u8], TargetError> {
    let mut end = [0; 2];
    let count = mbox
        .read_at(&mut end, size.saturating_sub(2))
        .map_err(|error| file_error("read", &mbox.path, error))?;
    Ok(match &end[..count] {
        [] | [b'\n', b'\n'] => b"",
        [.., b'\n'] => b"\n",
        _ => b"\n\n",
    })
}

/// Writes one message; a small one at once.
fn write(mbox: &OpenFile, gap: &[u8], message: &Spooled) -> Result<(), TargetError> {
    let unreadable = |error| file_error("read", &spool_directory(), error);
    let append =
        |octets: &[u8]| mbox.append(octets).map_err(|error| file_error("append to", &mbox.path, error));
    let mut content = message.content.reader().map_err(unreadable)?;
    let mut out = gap.to_vec();
    let path = Header::new(&message.header).fields("Return-Path").next();
    let sender = path.as_deref().and_then(header::address);
    out.extend_from_slice(&from_line(sender, jiff::Timestamp::now()));
    let (mut quoter, mut part) = (Quoter::default(), vec![0; PART]);
    loop {
        match content.read(&mut part) {
            Ok(0) => break,
            Ok(count) => quoter.convert(&part[..count], &mut out),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
        if out.len() > 2 * PART {
            append(&out)?;
            out.clear();
        }
    }
    quoter.finish(&mut out);
    append(&out)
}

/// Cuts off what was appended. If even that fails, what is there stays until the user looks at it; why it had to be
/// cut off is told besides.
fn cut(mbox: &OpenFile, size: u64) {
    if let Err(error) = mbox.truncate(size) {
        log::error!("cannot cut {} back to {size} octets: {error}", mbox.path.display());
    }
}
