//! Files in `tmp`, on their way to `new`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use nix::errno::Errno;

use super::content::Content;
use super::name::{Named, Namer};
use super::opened::Opened;
use super::place::Directories;
use crate::delivery::{LARGE, Outcome, TargetError, file_error, is_no_room};
use crate::disk::{Moved, OpenFile};

/// A message that is where it should be before its batch is committed.
#[derive(Debug)]
pub(super) enum Stored {
    /// Durable in `tmp`.
    New(TmpFile),
    /// The identical message lies in the maildir; its file is durable, its name perhaps not yet.
    There,
    /// Larger than a file may be.
    Refused(String),
    /// Larger than what is free, which may be enough for others.
    Later(String),
}

/// Why a message is not stored.
#[derive(Debug)]
pub(super) enum Unstored {
    /// It is larger than a file may be.
    Refused(String),
    /// It is large, and there is no room for it; there may be for others.
    Later(String),
    Target(TargetError),
}

/// A file in `tmp`; it is removed in the background when it is dropped before it was published.
#[derive(Debug)]
pub(super) struct TmpFile {
    opened: Arc<Opened>,
    message: Named,
    name: OsString,
    /// Open until it is durable: another opening would not be told of errors in writing it back.
    file: Option<OpenFile>,
    size: u64,
    /// Octets whose writeback was started.
    started: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    InTmp,
    InNew(OsString),
    Removed,
}

/// A large message is written back while it is received, in steps of this many octets, so that its fsync is short and
/// the system's dirty pages few.
const WRITEBACK_STEP: u64 = 4 << 20;

impl Stored {
    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::New(_) => Outcome::Delivered,
            Self::There => Outcome::AlreadyThere,
            Self::Refused(reason) => Outcome::Refused(reason),
            Self::Later(reason) => Outcome::Later(reason),
        }
    }
}

impl Unstored {
    /// Says whom an error in storing a message of so many octets (so far) concerns. The reason names the directory, so
    /// that it is the same whenever it happens again.
    fn new(doing: &'static str, opened: &Opened, file: &OpenFile, size: u64, error: io::Error) -> Self {
        let reason = |error| file_error(doing, &opened.directories.tmp.path, error).to_string();
        if error.raw_os_error() == Some(Errno::EFBIG as i32) {
            Self::Refused(reason(error))
        } else if is_no_room(&error) && size > LARGE {
            Self::Later(reason(error))
        } else {
            Self::Target(file_error(doing, &file.path, error))
        }
    }
}

impl TmpFile {
    pub(super) fn create(opened: &Arc<Opened>, message: Named) -> Result<Self, Unstored> {
        let tmp = &opened.directories.tmp;
        let mut message = message;
        let created = unique(&opened.namer, &mut message, "", |name| tmp.create(name));
        let (name, file) = created
            .map_err(|(name, error)| Unstored::Target(file_error("create", &tmp.path.join(name), error)))?;
        let opened = opened.clone();
        Ok(Self { opened, message, name, file: Some(file), size: 0, started: 0, state: State::InTmp })
    }

    /// Says which message it turned out to be; in `tmp`, it keeps the name that it has.
    pub(super) fn identify(&mut self, message: Named) {
        self.message = message;
    }

    /// Appends octets, and starts the writeback of what has gathered.
    pub(super) fn append(&mut self, octets: &[u8]) -> Result<(), Unstored> {
        let file = self.open();
        let size = self.size + octets.len() as u64;
        file.append(octets).map_err(|error| Unstored::new("write into", &self.opened, file, size, error))?;
        self.size = size;
        if self.size - self.started >= WRITEBACK_STEP {
            self.start_writeback();
        }
        Ok(())
    }

    /// Starts the writeback of all octets that it was not started for.
    pub(super) fn start_writeback(&mut self) {
        let range = self.started..self.size;
        self.open().start_writeback(range);
        self.started = self.size;
    }

    /// Says whether its octets lie in the maildir already.
    pub(super) fn is_there(&self) -> Result<bool, TargetError> {
        self.opened.is_there(&self.message, Content::File(self.open(), self.size))
    }

    /// Makes it durable, and closes it.
    pub(super) fn sync(mut self) -> Result<Self, Unstored> {
        match self.open().sync() {
            Ok(()) => {
                self.file = None;
                Ok(self)
            }
            Err(error) => {
                let error = Unstored::new("make durable", &self.opened, self.open(), self.size, error);
                self.discard();
                Err(error)
            }
        }
    }

    /// Gives it its name in `new`. It is visible then, and its name not yet durable.
    pub(super) fn publish(&mut self) -> Result<Moved, TargetError> {
        let Self { opened, message, name, size, .. } = self;
        let Directories { tmp, new, .. } = &opened.directories;
        let published = unique(&opened.namer, message, &format!(",S={size}"), |new_name| {
            opened.disk.may_publish()?;
            tmp.rename(name, new, new_name)
        });
        let (published, moved) =
            published.map_err(|(name, error)| file_error("deliver", &new.path.join(name), error))?;
        self.state = State::InNew(published);
        Ok(moved)
    }

    /// Removes it, wherever it is. What cannot be removed from `tmp` is left to the next recovery: there is no more
    /// that could be done, and what made it necessary is told already.
    pub(super) fn discard(mut self) {
        let directories = &self.opened.directories;
        let _ = match std::mem::replace(&mut self.state, State::Removed) {
            State::InTmp => directories.tmp.remove(&self.name),
            State::InNew(name) => directories.new.remove(&name),
            State::Removed => Ok(()),
        };
    }

    fn open(&self) -> &OpenFile {
        self.file
            .as_ref()
            .expect("a file is open until it is durable, and not written or compared after that")
    }
}

impl Drop for TmpFile {
    fn drop(&mut self) {
        if let State::InTmp = self.state {
            let (opened, name) = (self.opened.clone(), std::mem::take(&mut self.name));
            self.opened.disk.queue_work(move || {
                // As in discard.
                let _ = opened.directories.tmp.remove(&name);
            });
        }
    }
}

/// Gives a message the first name that does not exist yet. Only another program can have made one that does, and each
/// has a later time than the one before; that they do not end is a defect of the file system.
fn unique<T>(
    namer: &Namer,
    message: &mut Named,
    end: &str,
    mut take: impl FnMut(&OsStr) -> io::Result<T>,
) -> Result<(OsString, T), (OsString, io::Error)> {
    let mut tries = 0;
    loop {
        let name = OsString::from(namer.name(message) + end);
        match take(&name) {
            Ok(taken) => return Ok((name, taken)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 100 => {
                tries += 1;
                message.time = namer.time();
            }
            Err(error) => return Err((name, error)),
        }
    }
}
