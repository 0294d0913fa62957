//! Whether a disk that was full has room again, seen without fetching a message for it.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::config::Target;
use crate::disk::{self, Disk};

/// What a message takes beside its octets.
const MARGIN: u64 = 64 << 10;

/// Says whether there is room for a message of so many octets where this target, or its spool, writes it. Where that
/// cannot be seen there may be, and whoever delivers meets what is wrong.
pub async fn has_room(target: &Target, workers: &Disk, octets: u64) -> bool {
    let mut directories = match target {
        Target::Maildir(path) => vec![path.join("tmp")],
        Target::Mbox(path) => path.parent().map(Path::to_owned).into_iter().collect(),
        Target::Pipe(_) | Target::Smtp(_) | Target::Lmtp(_) | Target::Imap(_) => Vec::new(),
    };
    if !matches!(target, Target::Maildir(_)) {
        directories.push(disk::spool_directory());
    }
    let octets = octets.saturating_add(MARGIN);
    let Some(about) = directories.first().cloned() else { return true };
    let looked =
        workers.run(&about, move || directories.iter().all(|directory| may_hold(directory, octets))).await;
    looked.unwrap_or(true)
}

fn may_hold(directory: &PathBuf, octets: u64) -> bool {
    let free = nix::sys::statvfs::statvfs(directory).map(|disk| {
        #[allow(clippy::unnecessary_cast, reason = "the sizes of these depend on the system")]
        let (blocks, size) = (disk.blocks_available() as u64, disk.fragment_size() as u64);
        blocks.saturating_mul(size)
    });
    match free {
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
