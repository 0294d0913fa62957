//! A file gets another name, and never replaces one: on file systems that can do just that, and on those that cannot.
//!
//! | way | by | where |
//! |---|---|---|
//! | at once | `renameat2(RENAME_NOREPLACE)` | Linux, and local file systems that know it |
//! | by a link | `link`, then `unlink` of the old name | NFS, other systems, many in user space |
//! | by a claim | a claim, a look, `rename` | no hard links either: FAT, exFAT, VirtualBox's shared folders, many cloud folders |
//!
//! A claim is an empty file beside the old name, made exclusively, `NEW-NAME.claim`. Whoever wants to give a file this
//! name by this way makes the same one; so from the look, which finds the name free, to the rename nobody else takes
//! it who goes by these rules. Others have no reason to: the names are those of `maildir::name`, with the microsecond
//! and a digest of the message.
//!
//! Each way shows the file under the new name whole or not at all. A crash between the steps of the second leaves both
//! names, of the third a claim: both lie where the old name was, and recovery removes what is there. Neither step is
//! on the disk before both directories were synced ([`Moved::InSteps`]).
//!
//! # Lost replies
//!
//! A server's file system may do what it was asked, lose its answer, be asked again, and then say that the old name is
//! gone (`ENOENT`) or that the new one is there (`EEXIST`). So after these two is looked whether it is our file that is
//! there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::durable::is_unknown;

/// How a file got its new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Both names changed as one.
    AtOnce,
    /// A power cut may bring back the old name, or what was beside it, until its directory was synced as well.
    InSteps,
}

/// The ways, from the best to the one that every file system knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AtOnce,
    Link,
    Claim,
}

/// The way that worked last, so that the others are not tried for each file.
#[derive(Debug, Default)]
pub(super) struct LastWay(AtomicU8);

impl LastWay {
    /// Takes a step in the directory that this is known of.
    pub(super) fn rename(&self, step: &Move<'_>) -> io::Result<Moved> {
        let mut way = self.get();
        loop {
            match way.take(step) {
                Ok(()) => {
                    self.set(way);
                    return Ok(if way == Way::AtOnce { Moved::AtOnce } else { Moved::InSteps });
                }
                Err(errno) => way = way.after(errno).ok_or(errno)?,
            }
        }
    }

    fn get(&self) -> Way {
        match self.0.load(Relaxed) {
            0 => Way::AtOnce,
            1 => Way::Link,
            _ => Way::Claim,
        }
    }

    fn set(&self, way: Way) {
        self.0.store(way as u8, Relaxed);
    }
}

impl Way {
    fn take(self, step: &Move<'_>) -> nix::Result<()> {
        match self {
            Self::AtOnce => step.at_once(),
            Self::Link => step.by_link(),
            Self::Claim => step.by_claim(),
        }
    }

    /// Gives the way to try when this one ended with an error that may mean that it is not to be had here. Whatever
    /// else it means, the last one ends with it again.
    fn after(self, errno: Errno) -> Option<Self> {
        let refused = is_unknown(errno) || errno == Errno::EPERM;
        match self {
            // EPERM: a filter of system calls that does not know this one.
            Self::AtOnce if refused => Some(Self::Link),
            // EPERM: what Linux says for a file system without hard links. EMLINK: one with a single link. EXDEV: one
            // with none from directory to directory (AFS). EACCES: what servers make of any of these.
            Self::Link if refused || matches!(errno, Errno::EMLINK | Errno::EXDEV | Errno::EACCES) => {
                Some(Self::Claim)
            }
            Self::AtOnce | Self::Link | Self::Claim => None,
        }
    }
}

/// A file that gets another name in another directory of the same file system; none is replaced (`EEXIST`).
#[derive(Debug)]
pub(super) struct Move<'a> {
    pub(super) from: &'a OwnedFd,
    pub(super) name: &'a OsStr,
    pub(super) to: &'a OwnedFd,
    pub(super) new_name: &'a OsStr,
}

impl Move<'_> {
    fn at_once(&self) -> nix::Result<()> {
        match rename_exclusive(self.from, self.name, self.to, self.new_name) {
            Err(Errno::ENOENT | Errno::EEXIST) if self.was_renamed() => Ok(()),
            renamed => renamed,
        }
    }

    fn by_link(&self) -> nix::Result<()> {
        match linkat(self.from, self.name, self.to, self.new_name, AtFlags::empty()) {
            Err(Errno::EEXIST) if self.was_linked() => {}
            Err(Errno::ENOENT) if self.was_renamed() => {}
            linked => linked?,
        }
        self.remove_or_undo(self.name)
    }

    fn by_claim(&self) -> nix::Result<()> {
        let mut claim = OsString::from(self.new_name);
        claim.push(".claim");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        drop(openat(self.from, claim.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let renamed = match status(self.to, self.new_name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => match renameat(self.from, self.name, self.to, self.new_name) {
                Err(Errno::ENOENT) if self.was_renamed() => Ok(()),
                renamed => renamed,
            },
            Err(errno) => Err(errno),
        };
        match renamed {
            Ok(()) => self.remove_or_undo(&claim),
            Err(_) => {
                // What cannot be removed is left to the recovery that follows an error.
                let _ = remove(self.from, &claim);
                renamed
            }
        }
    }

    /// Removes what a move leaves beside the old name.
    fn remove_or_undo(&self, name: &OsStr) -> nix::Result<()> {
        match remove(self.from, name) {
            // Asked twice, as above.
            Err(Errno::ENOENT) => Ok(()),
            removed => removed.inspect_err(|_| {
                // Told as not renamed, so it must not be there under the new name; the caller removes the old one.
                let _ = remove(self.to, self.new_name);
            }),
        }
    }

    /// Says whether the old name is gone and the new one there: nobody but us makes files of this name.
    fn was_renamed(&self) -> bool {
        matches!(status(self.from, self.name), Err(Errno::ENOENT)) && status(self.to, self.new_name).is_ok()
    }

    /// Says whether both names lead to one file.
    fn was_linked(&self) -> bool {
        let file = |found: FileStat| (found.st_dev, found.st_ino);
        match (status(self.from, self.name), status(self.to, self.new_name)) {
            (Ok(old), Ok(new)) => file(old) == file(new),
            _ => false,
        }
    }
}

fn status(within: &OwnedFd, name: &OsStr) -> nix::Result<FileStat> {
    fstatat(within, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn remove(within: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    unlinkat(within, name, UnlinkatFlags::NoRemoveDir)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn rename_exclusive(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new_name: &OsStr) -> nix::Result<()> {
    let flags = nix::fcntl::RenameFlags::RENAME_NOREPLACE;
    nix::fcntl::renameat2(from, name, to, new_name, flags)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn rename_exclusive(_: &OwnedFd, _: &OsStr, _: &OwnedFd, _: &OsStr) -> nix::Result<()> {
    Err(Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Moves between two directories, and what is known of the second.
    struct Moves {
        tmp: OwnedFd,
        new: OwnedFd,
        known: LastWay,
    }

    impl Moves {
        fn between(path: &Path, way: Way) -> Self {
            let [tmp, new] = ["tmp", "new"].map(|name| {
                fs::create_dir(path.join(name)).unwrap();
                fs::File::open(path.join(name)).unwrap().into()
            });
            let known = LastWay::default();
            known.set(way);
            Self { tmp, new, known }
        }

        fn rename(&self, name: &str, new_name: &str) -> io::Result<Moved> {
            let (name, new_name) = (OsStr::new(name), OsStr::new(new_name));
            self.known.rename(&Move { from: &self.tmp, name, to: &self.new, new_name })
        }
    }

    #[test]
    fn no_way_of_renaming_replaces_a_file_or_leaves_anything() {
        for way in [Way::AtOnce, Way::Link, Way::Claim] {
            let path = tempfile::tempdir().unwrap();
            let moves = Moves::between(path.path(), way);
            fs::write(path.path().join("new/old"), "old").unwrap();
            fs::write(path.path().join("tmp/a"), "new").unwrap();
            let refused = moves.rename("a", "old").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{way:?}");
            assert_eq!(fs::read(path.path().join("new/old")).unwrap(), b"old", "{way:?}");
            moves.rename("a", "b").unwrap();
            assert_eq!(fs::read(path.path().join("new/b")).unwrap(), b"new", "{way:?}");
            assert_eq!(fs::read_dir(path.path().join("tmp")).unwrap().count(), 0, "{way:?}");
            assert_eq!(moves.known.get(), way);
        }
    }

    #[test]
    fn a_name_that_another_claims_is_not_taken() {
        let path = tempfile::tempdir().unwrap();
        let moves = Moves::between(path.path(), Way::Claim);
        fs::write(path.path().join("tmp/a"), "a").unwrap();
        fs::write(path.path().join("tmp/b.claim"), "").unwrap();
        let refused = moves.rename("a", "b").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(path.path().join("tmp/a").exists() && path.path().join("tmp/b.claim").exists());
    }

    #[test]
    fn a_rename_or_link_that_was_done_although_its_answer_says_otherwise_is_done() {
        for way in [Way::AtOnce, Way::Link, Way::Claim] {
            let path = tempfile::tempdir().unwrap();
            let moves = Moves::between(path.path(), way);
            // As after a rename, or a link, whose first answer was lost.
            fs::write(path.path().join("new/gone"), "x").unwrap();
            fs::write(path.path().join("tmp/linked"), "x").unwrap();
            fs::hard_link(path.path().join("tmp/linked"), path.path().join("new/linked")).unwrap();
            let done = |name: &str| moves.rename(name, name);
            let missing = done("missing").unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound, "{way:?}");
            match way {
                Way::AtOnce => assert!(done("gone").is_ok()),
                Way::Link => assert!(done("gone").is_ok() && done("linked").is_ok()),
                Way::Claim => {}
            }
        }
    }

    #[test]
    fn the_last_way_tells_what_an_error_was_when_it_was_no_missing_operation() {
        assert_eq!(Way::AtOnce.after(Errno::EINVAL), Some(Way::Link));
        assert_eq!(Way::AtOnce.after(Errno::ENOSPC), None);
        assert_eq!(Way::Link.after(Errno::EPERM), Some(Way::Claim));
        for errno in [Errno::EEXIST, Errno::EIO, Errno::ENOENT, Errno::ENOSPC, Errno::EROFS] {
            assert_eq!(Way::Link.after(errno), None);
        }
        assert_eq!(Way::Claim.after(Errno::EPERM), None);
    }
}
