//! What all that keep files need of the system, done alike by all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

/// Waits until a file's octets and size are on the disk.
///
/// Never to be repeated after an error: the kernel has told it once and may have dropped the octets, so a second call
/// would succeed and mean nothing.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    match to_the_disk(file) {
        // A file system that cannot make the drive empty its cache (SMB and others under macOS).
        Err(errno) if cfg!(target_vendor = "apple") && is_unknown(errno) => Ok(nix::unistd::fsync(file)?),
        synced => Ok(synced?),
    }
}

/// Waits until a directory's names are on the disk. Some network and FUSE file systems have no such operation, and
/// their names are as durable as they can be.
pub(crate) fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    match to_the_disk(&directory) {
        // EBADF: that of a file system which knows no fsync of what is open for reading (PostgreSQL met it too).
        Err(Errno::EBADF) => Ok(()),
        Err(errno) if is_unknown(errno) => match nix::unistd::fsync(&directory) {
            Err(Errno::EBADF) => Ok(()),
            Err(errno) if is_unknown(errno) => Ok(()),
            synced => Ok(synced?),
        },
        synced => Ok(synced?),
    }
}

/// Waits until the names in the directory of a file are on the disk.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    sync_directory(File::open(above(path))?)
}

/// Gives a file another name, in the place of what has it. A power cut may undo that before the directory is synced.
pub(crate) fn replace(path: &Path, by: &Path) -> io::Result<()> {
    match fs::rename(by, path) {
        // A server's file system that lost its first answer (see `moving`): the old name is gone, since the file has the
        // other one now.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
        renamed => renamed,
    }
}

/// Puts a file that all may read in the place of what has its name, so that nobody reads half of it; it is made under a
/// name that begins with `prefix`. A power cut may undo that.
pub(crate) fn publish(path: &Path, prefix: &str, octets: &[u8]) -> io::Result<()> {
    let readable = || Permissions::from_mode(0o644);
    let mut file =
        tempfile::Builder::new().prefix(prefix).permissions(readable()).tempfile_in(above(path))?;
    file.write_all(octets)?;
    // The umask keeps it from others, who are meant to read it.
    file.as_file().set_permissions(readable())?;
    file.persist(path)?;
    Ok(())
}

/// A file that is to replace another, or to be the first of its name: complete and on the disk, but not in its place yet.
/// Dropped before, it leaves no trace.
pub(crate) struct Successor {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Successor {
    /// Writes it beside the one that is to be replaced, for the same owner and with the same permissions; without one for
    /// us alone. A symbolic link stays, and what it leads to is replaced.
    pub(crate) fn write(path: &Path, octets: &[u8]) -> io::Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut file = tempfile::Builder::new().prefix(".postrider-").tempfile_in(above(&path))?;
        file.write_all(octets)?;
        match fs::metadata(&path) {
            Ok(before) => {
                let ours = file.as_file().metadata()?;
                if (ours.uid(), ours.gid()) != (before.uid(), before.gid()) {
                    fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
                }
                file.as_file().set_permissions(before.permissions())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        sync(file.as_file())?;
        Ok(Self { file, path })
    }

    /// Puts it in its place, durably.
    pub(crate) fn put_in_place(self) -> io::Result<()> {
        self.file.persist(&self.path)?;
        sync_directory_of(&self.path)
    }
}

/// Gives the directory that a path is in.
pub(crate) fn above(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Takes from others what they may do with a file of ours (0600). On a file system without permissions (FAT, many in
/// user space) its mount says who may read it, and nothing can be done about that here.
pub(crate) fn make_private(file: &File) -> io::Result<()> {
    match file.set_permissions(Permissions::from_mode(0o600)) {
        Err(error) if error.raw_os_error().map(Errno::from_raw).is_some_and(has_none) => Ok(()),
        set => set,
    }
}

/// Does the same by a path that is no link.
pub(crate) fn make_private_at(path: &Path) -> io::Result<()> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink) {
        Err(errno) if has_none(errno) => Ok(()),
        set => Ok(set?),
    }
}

/// Says whether a change of permissions failed for want of any; FAT under Linux says EPERM.
fn has_none(errno: Errno) -> bool {
    errno == Errno::EPERM || is_unknown(errno)
}

/// Says whether an error means that a file system does not have an operation at all.
pub(crate) fn is_unknown(errno: Errno) -> bool {
    // Two of these are one number on Linux.
    [Errno::EINVAL, Errno::ENOSYS, Errno::ENOTSUP, Errno::EOPNOTSUPP, Errno::ENOTTY].contains(&errno)
}

/// Under macOS fsync(2) gets as far as the drive's own cache only.
#[cfg(target_vendor = "apple")]
fn to_the_disk(file: impl AsFd) -> nix::Result<()> {
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_FULLFSYNC).map(drop)
}

#[cfg(not(target_vendor = "apple"))]
fn to_the_disk(file: impl AsFd) -> nix::Result<()> {
    nix::unistd::fsync(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_not_seen_before_it_is_whole_and_has_what_its_predecessor_had() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let names = || fs::read_dir(directory.path()).unwrap().count();
        drop(Successor::write(&path, b"never").unwrap());
        assert_eq!(names(), 0);
        let first = Successor::write(&path, b"first").unwrap();
        assert!(!path.exists());
        first.put_in_place().unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path), names()), (&b"first"[..], 0o600, 1));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        Successor::write(&link, b"second").unwrap().put_in_place().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path), names()), (&b"second"[..], 0o640, 2));
    }
}
