//! Whether a disk that was full has room again, seen without fetching a message for it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::{TargetError, file_error};
use crate::config::Target;
use crate::disk::{self, Disk};

/// What a message takes beside its octets.
const MARGIN: u64 = 64 << 10;

/// Says whether there is room for a message of so many octets where this target, or its spool, writes it. Where that
/// cannot be seen there may be, and whoever delivers meets what is wrong.
pub async fn has_room(target: &Target, workers: &Disk, octets: u64) -> bool {
    let directories = directories(target);
    let octets = octets.saturating_add(MARGIN);
    let Some(about) = directories.first().cloned() else { return true };
    let looked =
        workers.run(&about, move || directories.iter().all(|directory| may_hold(directory, octets))).await;
    looked.unwrap_or(true)
}

/// Writes into each directory that this target's messages are written into, and gives it with the octets that are free
/// there.
pub async fn probe(target: &Target, workers: &Disk) -> Result<Vec<(PathBuf, u64)>, TargetError> {
    let mut found = Vec::new();
    for directory in directories(target) {
        let about = directory.clone();
        let looked = workers.run(&about, move || {
            tempfile::tempfile_in(&directory).and_then(|mut file| file.write_all(&[0; PROBE]))?;
            disk::free(&directory)
        });
        let looked = looked.await.unwrap_or_else(Err);
        found.push((about.clone(), looked.map_err(|source| file_error("write into", &about, source))?));
    }
    Ok(found)
}

/// Octets of a probe: more than none, so that a full disk shows.
const PROBE: usize = 4096;

/// Lists where the messages of this target are written.
fn directories(target: &Target) -> Vec<PathBuf> {
    let own = match target {
        Target::Maildir(path) => return vec![path.join("tmp")],
        Target::Mbox(path) => path.parent().map(Path::to_owned),
        Target::Pipe(_)
        | Target::Smtp(_)
        | Target::Lmtp(_)
        | Target::Imap(_)
        | Target::Gmail(_)
        | Target::Http(_) => None,
    };
    own.into_iter().chain([disk::spool_directory()]).collect()
}

/// Says whether a file of so many octets may be written there.
pub(super) fn may_hold(directory: &Path, octets: u64) -> bool {
    match disk::free(directory) {
        Ok(free) if free < octets => false,
        // A quota, and a limit on files, show only when something is asked for.
        Ok(_) => tempfile::tempfile_in(directory).is_ok_and(|file| may_grow(&file, octets)),
        Err(_) => true,
    }
}

#[cfg(target_os = "linux")]
fn may_grow(file: &File, octets: u64) -> bool {
    let octets = octets.try_into().unwrap_or(i64::MAX);
    let asked = nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, octets);
    !matches!(asked, Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG))
}

#[cfg(not(target_os = "linux"))]
fn may_grow(_file: &File, _octets: u64) -> bool {
    true
}
