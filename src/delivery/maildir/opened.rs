//! An open maildir: what it shares among the messages that are on their way into it, and what lies there already.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use super::content::Content;
use super::index::{Index, Subdirectory};
use super::name::{MayBe, Named, Namer};
use super::place::Directories;
use crate::delivery::{TargetError, file_error};
use crate::disk::Disk;
use crate::lock::lock;
use crate::message::FileId;

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) namer: Namer,
    pub(super) directories: Directories,
    /// What lay there when [`Opened::recover`] looked, or later; empty without it.
    index: Mutex<Arc<Index>>,
}

impl Opened {
    pub(super) fn new(disk: Disk, namer: Namer, directories: Directories) -> Self {
        Self { disk, namer, directories, index: Mutex::default() }
    }

    /// See [`crate::delivery::Sink::recover`].
    pub(super) fn recover(&self) -> Result<(), TargetError> {
        let tmp = &self.directories.tmp;
        let mut leftovers = Vec::new();
        let listed = tmp.names(|name| {
            if self.namer.parse(name).is_some() {
                leftovers.push(name.to_vec());
            }
        });
        listed.map_err(|source| file_error("list", &tmp.path, source))?;
        let any = !leftovers.is_empty();
        for name in leftovers {
            let name = OsStr::from_bytes(&name);
            match tmp.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error("remove", &tmp.path.join(name), error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        if any {
            // Else the next crash could bring them back, after a session that ends well and is not recovered from.
            tmp.sync().map_err(|source| file_error("make durable", &tmp.path, source))?;
        }
        self.read_index()
    }

    fn read_index(&self) -> Result<(), TargetError> {
        let Directories { new, cur, .. } = &self.directories;
        let index = Index::read(&self.namer, new, cur).map_err(|(place, source)| match place {
            Subdirectory::New => file_error("list", &new.path, source),
            Subdirectory::Cur => file_error("list", &cur.path, source),
        })?;
        *lock(&self.index) = Arc::new(index);
        Ok(())
    }

    pub(super) fn files(&self) -> Vec<FileId> {
        self.index().files()
    }

    fn index(&self) -> Arc<Index> {
        lock(&self.index).clone()
    }

    /// Says whether the identical message lies in the maildir already, and makes its file durable if so: the session
    /// that delivered it may have been killed at any point.
    pub(super) fn is_there(&self, message: &Named, content: Content<'_>) -> Result<bool, TargetError> {
        let (digest, time) = match &message.may_be {
            MayBe::None => return Ok(false),
            MayBe::Any => (&message.digest, None),
            MayBe::File(file) => (&file.digest, Some(file.time)),
        };
        // A reader may move files while we look, so what is not found is looked up again. It may do so again and
        // again; then the message is delivered beside: rather twice than never.
        for _ in 0..LOOKS {
            let index = self.index();
            if !index.has(digest) {
                return Ok(false);
            }
            let mut moved = false;
            for (place, name) in index.find(&self.namer, digest, time) {
                let directory = match place {
                    Subdirectory::New => &self.directories.new,
                    Subdirectory::Cur => &self.directories.cur,
                };
                let path = || directory.path.join(&name);
                let existing = match directory.open_existing(&name) {
                    Ok(existing) => existing,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        moved = true;
                        continue;
                    }
                    // Not a regular file: not a message of ours.
                    Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => continue,
                    Err(error) => return Err(file_error("open", &path(), error)),
                };
                let same = content.is_in(&existing).map_err(|error| file_error("read", &path(), error))?;
                if same {
                    existing.sync().map_err(|error| file_error("make durable", &path(), error))?;
                    return Ok(true);
                }
            }
            if !moved {
                return Ok(false);
            }
            // Another worker may have read it again meanwhile.
            if Arc::ptr_eq(&index, &self.index()) {
                self.read_index()?;
            }
        }
        Ok(false)
    }
}

/// How often a moving message is looked for.
const LOOKS: usize = 3;
