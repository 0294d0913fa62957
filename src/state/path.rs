//! Where the state file lies, wherever links lead, and the directories that are made for it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::unistd::geteuid;

use super::StateError;
use crate::disk::{above, durable, trust};
use crate::lock::lock;

/// Refuses what is others', if we are root.
pub(super) fn check(path: &Path) -> Result<(), StateError> {
    // What SQLite keeps beside it counts as much.
    trust::check_file(path, &["-wal", "-shm", "-journal"]).map_err(|error| StateError::of_io(&error, path))
}

/// Follows symbolic links, so that two names of one state file have one lock file.
pub(super) fn resolve(path: &Path) -> PathBuf {
    let resolved = fs::canonicalize(path)
        .ok()
        .or_else(|| Some(fs::canonicalize(above(path)).ok()?.join(path.file_name()?)));
    resolved.unwrap_or_else(|| path.to_owned())
}

/// Names a file beside the state file.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Directories in which others were made whose names are not on the disk yet. They are open, since the sandbox may keep
/// this process from opening them again.
static UNSYNCED: Mutex<Vec<(PathBuf, File)>> = Mutex::new(Vec::new());

/// Creates the directory of a file, and those above it, if they are missing: 0700. Their names are durable before
/// anything in the state is ([`names_are_durable`]).
pub(crate) fn make_directory_of(path: &Path) -> Result<(), StateError> {
    let Some(directory) = path.parent() else { return Ok(()) };
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    make_directory_of(directory)?;
    let failed =
        |error: io::Error| StateError::Directory { path: directory.to_owned(), why: error.to_string() };
    // Whoever sees the directory finds it in the list.
    let mut unsynced = lock(&UNSYNCED);
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {
            let above = File::open(above(directory)).map_err(failed)?;
            unsynced.push((directory.to_owned(), above));
            Ok(())
        }
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Waits until the directories that this process made for a state are on the disk. What failed is not tried again: it
/// would succeed and mean nothing.
pub(super) fn names_are_durable(path: &Path) -> Result<(), StateError> {
    if lock(&UNSYNCED).is_empty() {
        return Ok(());
    }
    let path = resolve(path);
    let is_above =
        |made: &(PathBuf, File)| fs::canonicalize(&made.0).is_ok_and(|made| path.starts_with(made));
    let (above, others) = std::mem::take(&mut *lock(&UNSYNCED)).into_iter().partition::<Vec<_>, _>(is_above);
    lock(&UNSYNCED).extend(others);
    let mut outcome = Ok(());
    for (directory, above) in above {
        let synced = durable::sync_directory(above);
        let failed = |error: io::Error| StateError::Directory { path: directory, why: error.to_string() };
        outcome = outcome.and(synced.map_err(failed));
    }
    outcome
}

/// Says whether a file belongs to the user that runs this.
pub(super) fn is_ours(found: &Metadata) -> bool {
    found.uid() == geteuid().as_raw()
}
