//! The maildir target: complete and durable before it is visible, and never there twice.
//!
//! A message is written to `tmp` and made durable there; a batch of such files gets its names in `new`, and then one
//! fsync of `new` makes the names durable. Only after it are they delivered. So at any instant a crash leaves a
//! message either not visible (and not counted, so the server still has it) or whole.
//!
//! The name holds a digest of maildrop and content, and the time at which the message was begun, which tells two of one
//! content apart: after a crash in between, [`super::Sink::recover`] finds what had become visible, and a message of that
//! content which no record claims is compared with it and not written again. Compared is everything but the fields that
//! servers write: they change between two downloads of one message.
//!
//! # After an error
//!
//! A failed operation ([`TargetError`]) concerns the whole target, as the next message would meet it too: no space,
//! no permission, a read-only or broken disk. Nothing of the batch counts as delivered then, and its files are
//! removed, also those that had got their names in `new` when the fsync of the directory failed. That removal is no
//! more durable than the names are, a reader may have moved a file to `cur` before, and a crash may bring one back;
//! so the caller leaves its session open in the state after any error of a commit, and the next one begins with
//! [`super::Sink::recover`], which finds whatever is left. A failed fsync is never repeated: the kernel tells an error
//! once and drops the octets, so that the second call would succeed and mean nothing.
//!
//! Two errors concern one message, and the others go on: `EFBIG` (the file system's or the process's limit for one
//! file), it is refused; and no space or no quota for a large one, it is put off, or it would keep away for ever those
//! that fit. A name that exists already is no error: the message gets another.

mod content;
mod draft;
mod index;
mod name;
mod opened;
mod place;
mod tmp;

use std::path::Path;
use std::sync::Arc;

use super::space::may_hold;
use super::{LARGE, Outcome, TargetError, file_error, is_no_room};
use crate::clock::WallClock;
use crate::disk::{Disk, Moved};
use crate::message::{FileId, MessageId};
use crate::net;
use name::{MayBe, Named, Namer};
use opened::Opened;
use place::Directories;
use tmp::{Stored, Unstored};

pub use draft::{Draft, Finished};

/// Makes a maildir as opening it for a delivery would, on this thread.
pub(crate) fn create(path: &Path) -> Result<(), TargetError> {
    Directories::open(path).map(drop)
}

/// One maildrop's deliveries into one maildir. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Maildir(Arc<Opened>);

impl Maildir {
    /// Opens a maildir; a missing one is created, 0700, with the directories above it.
    pub(super) async fn open(
        path: &Path,
        maildrop: Arc<str>,
        disk: Disk,
        clock: WallClock,
    ) -> Result<Self, TargetError> {
        let owned = path.to_owned();
        let opened = disk.run(path, move || Directories::open(&owned)).await;
        let directories = opened.unwrap_or_else(|error| Err(file_error("open", path, error)))?;
        let namer = Namer::new(&maildrop, net::host_name().as_ref()).with(clock);
        Ok(Self(Arc::new(Opened::new(disk, namer, directories))))
    }

    /// Indexes what this maildrop delivered, and removes what it left in `tmp`. No other session of the maildrop may
    /// be under way.
    pub(super) async fn recover(&self) -> Result<Vec<FileId>, TargetError> {
        let opened = self.0.clone();
        let new = &self.0.directories.new.path;
        let recovered = self.0.disk.run(new, move || opened.recover()).await;
        recovered.unwrap_or_else(|error| Err(file_error("list", new, error)))?;
        Ok(self.0.files())
    }

    pub(super) fn draft(&self, message: MessageId) -> Draft {
        let named = Named { digest: name::digest(&message), time: self.0.namer.time(), may_be: MayBe::Any };
        Draft::new(self.0.clone(), message, named)
    }

    pub(super) async fn commit(&self, finished: Vec<Finished>) -> Result<Vec<Outcome>, TargetError> {
        let mut results = Vec::with_capacity(finished.len());
        for message in finished {
            results.push(message.stored().await);
        }
        // A small message that found no room while a large one was taking all there was does not mean a full disk; it
        // does where there is none now that the large one is gone.
        let crowded = results.iter().any(|result| matches!(result, Err(Unstored::Later(_))))
            && self.takes_small().await;
        let mut stored = Vec::with_capacity(results.len());
        let mut failed = None;
        for result in results {
            match result {
                Ok(message) => stored.push(message),
                Err(Unstored::Refused(reason)) => stored.push(Stored::Refused(reason)),
                Err(Unstored::Later(reason)) => stored.push(Stored::Later(reason)),
                Err(Unstored::Target(TargetError::File { source, .. })) if crowded && is_no_room(&source) => {
                    let error = file_error("write into", &self.0.directories.tmp.path, source);
                    stored.push(Stored::Later(error.to_string()));
                }
                Err(Unstored::Target(error)) => failed = failed.or(Some(error)),
            }
        }
        if stored.is_empty() && failed.is_none() {
            return Ok(Vec::new());
        }
        let opened = self.0.clone();
        let new = &self.0.directories.new.path;
        let publish = move || publish_or_discard(&opened.directories, stored, failed);
        let published = self.0.disk.run(new, publish).await;
        published.unwrap_or_else(|error| Err(file_error("deliver into", new, error)))
    }

    /// Says whether there is room for a message that is not large.
    async fn takes_small(&self) -> bool {
        let tmp = self.0.directories.tmp.path.clone();
        self.0.disk.run(&tmp.clone(), move || may_hold(&tmp, LARGE)).await.unwrap_or(false)
    }
}

fn publish_or_discard(
    directories: &Directories,
    mut stored: Vec<Stored>,
    failed: Option<TargetError>,
) -> Result<Vec<Outcome>, TargetError> {
    match failed.map_or_else(|| publish(directories, &mut stored), Err) {
        Ok(()) => Ok(stored.into_iter().map(Stored::into_outcome).collect()),
        Err(error) => {
            for message in stored {
                if let Stored::New(file) = message {
                    file.discard();
                }
            }
            Err(error)
        }
    }
}

/// Gives durable files their names, and makes the names durable.
fn publish(directories: &Directories, stored: &mut [Stored]) -> Result<(), TargetError> {
    let Directories { tmp, new, cur } = directories;
    let (mut any_new, mut any_there, mut in_steps) = (false, false, false);
    for message in stored {
        match message {
            Stored::New(file) => {
                in_steps |= file.publish()? == Moved::InSteps;
                any_new = true;
            }
            Stored::There => any_there = true,
            Stored::Refused(_) | Stored::Later(_) => {}
        }
    }
    if any_there || in_steps {
        // Second copies, or second names, were removed from there. Once the message is recorded, nobody would look
        // for them.
        tmp.sync().map_err(|source| file_error("make durable", &tmp.path, source))?;
    }
    if any_new || any_there {
        new.sync().map_err(|source| file_error("make durable", &new.path, source))?;
    }
    if any_there {
        // It may lie in either, and readers move it.
        cur.sync().map_err(|source| file_error("make durable", &cur.path, source))?;
    }
    Ok(())
}
