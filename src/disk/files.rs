//! Open directories, and the files in them.
//!
//! Files are named relative to open directories: whoever swaps a directory of the path for a symbolic link in the
//! middle of a delivery does not send the mail elsewhere.
//!
//! All of this blocks, and is done by the workers of a [`super::Disk`]. It fails with the system's error and nothing
//! around it; the caller knows what it was about.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{AccessFlags, Uid, UnlinkatFlags, faccessat, linkat, unlinkat};

use super::answers::answered;
use super::moving::{self, Moved};
use super::{blocking, durable, trust};

/// Gives the octets that are free on the disk of a directory.
pub(crate) fn free(directory: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(directory)?;
    #[allow(clippy::unnecessary_cast, reason = "the sizes of these depend on the system")]
    let (blocks, size) = (disk.blocks_available() as u64, disk.fragment_size() as u64);
    Ok(blocks.saturating_mul(size))
}

/// How long a look for the directory of spools may take.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Directory {
    /// The path that it was opened by, for messages.
    pub(crate) path: PathBuf,
    fd: OwnedFd,
    moving: moving::LastWay,
}

#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The path of its name when it was opened, for messages.
    pub(crate) path: PathBuf,
    file: File,
}

/// Which file it is, whatever its name, and when it was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    /// When its content was changed.
    pub(crate) modified: SystemTime,
}

impl Identity {
    /// Says whether both are one file, changed or not.
    pub(crate) fn is_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Directory {
    /// Opens a directory, following symbolic links; root follows its own only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path.to_owned(), answered(trust::open_directory(path))?))
    }

    fn new(path: PathBuf, fd: OwnedFd) -> Self {
        Self { path, fd, moving: moving::LastWay::default() }
    }

    /// Opens a directory within this one; a symbolic link there is not followed (`ENOTDIR`).
    pub(crate) fn open_subdirectory(&self, name: &OsStr) -> io::Result<Self> {
        let fd = answered(openat(&self.fd, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()))?;
        Ok(Self::new(self.path.join(name), fd))
    }

    /// Opens the directory that really holds this one, whatever links led to it.
    pub(crate) fn open_parent(&self) -> io::Result<Self> {
        let fd = answered(openat(&self.fd, "..", DIRECTORY, Mode::empty()))?;
        Ok(Self::new(self.path.join(".."), fd))
    }

    /// Makes a directory, 0700.
    pub(crate) fn make_directory(&self, name: &OsStr) -> io::Result<()> {
        Ok(answered(mkdirat(&self.fd, name, Mode::S_IRWXU))?)
    }

    /// Says whether names can be made and removed here (`EACCES`, `EROFS`).
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
        Ok(answered(faccessat(&self.fd, ".", wanted, AtFlags::AT_EACCESS))?)
    }

    /// Gives the user that it belongs to.
    pub(crate) fn owner(&self) -> io::Result<Uid> {
        Ok(Uid::from_raw(answered(fstat(&self.fd))?.st_uid))
    }

    /// Calls `each` with every name but `.` and `..`.
    pub(crate) fn names(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        // Opened again, since the position of reading belongs to the open directory, which tasks share.
        let mut dir = answered(Dir::openat(&self.fd, ".", DIRECTORY, Mode::empty()))?;
        for entry in dir.iter() {
            let entry = answered(entry)?;
            let name = CStr::to_bytes(entry.file_name());
            if name != b"." && name != b".." {
                each(name);
            }
        }
        Ok(())
    }

    /// Makes a new file, 0600, for writing and reading; never opens an existing one (`EEXIST`).
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<OpenFile> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = answered(openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR))?;
        Ok(OpenFile { path: self.path.join(name), file: File::from(fd) })
    }

    /// Makes a new file as [`Directory::create`] does, with this content. Where the file system can do that, it has the
    /// content from the moment on at which it has the name.
    pub(crate) fn create_with(&self, name: &OsStr, content: &[u8]) -> io::Result<OpenFile> {
        match answered(create_complete(self, name, content)) {
            // No file without a name on this file system (NFS, many in user space), none that gets one by a link, or
            // no /proc to give it one by.
            Err(Errno::EISDIR | Errno::ENOENT | Errno::EPERM | Errno::EMLINK | Errno::EXDEV) => {
                self.create_and_write(name, content)
            }
            Err(errno) if durable::is_unknown(errno) => self.create_and_write(name, content),
            created => Ok(created?),
        }
    }

    fn create_and_write(&self, name: &OsStr, content: &[u8]) -> io::Result<OpenFile> {
        let file = self.create(name)?;
        file.append(content).inspect_err(|_| {
            // Told as not made, so it must not stay.
            let _ = self.remove(name);
        })?;
        Ok(file)
    }

    /// Opens an existing regular file for reading; links are not followed, and FIFOs not waited for.
    pub(crate) fn open_existing(&self, name: &OsStr) -> io::Result<OpenFile> {
        self.open_file(name, OFlag::O_RDONLY)
    }

    /// Opens an existing regular file for reading and for writing at its end; links are not followed, and FIFOs not
    /// waited for.
    pub(crate) fn open_to_append(&self, name: &OsStr) -> io::Result<OpenFile> {
        self.open_file(name, OFlag::O_RDWR | OFlag::O_APPEND)
    }

    fn open_file(&self, name: &OsStr, access: OFlag) -> io::Result<OpenFile> {
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(answered(openat(&self.fd, name, flags, Mode::empty()))?);
        if !file.metadata()?.is_file() {
            return Err(Errno::ELOOP.into());
        }
        Ok(OpenFile { path: self.path.join(name), file })
    }

    /// Says which file has this name, and since when it is unchanged; a symbolic link is not followed.
    pub(crate) fn identify(&self, name: &OsStr) -> io::Result<Identity> {
        let status = answered(fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        let modified = after_epoch(status.st_mtime, status.st_mtime_nsec);
        Ok(Identity { device: status.st_dev, inode: status.st_ino, modified })
    }

    /// Waits until its names are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        answered(durable::sync_directory(&self.fd))
    }

    /// Gives a file another name in another directory of the same file system; never replaces one (`EEXIST`).
    pub(crate) fn rename(&self, name: &OsStr, to: &Self, new_name: &OsStr) -> io::Result<Moved> {
        let step = moving::Move { from: &self.fd, name, to: &to.fd, new_name };
        answered(to.moving.rename(&step))
    }

    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(answered(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir))?)
    }
}

impl OpenFile {
    /// Makes a file without a name in this directory, for writing and reading; it vanishes with its last descriptor.
    pub(crate) fn unnamed(within: &Path) -> io::Result<Self> {
        Ok(Self { path: within.to_owned(), file: answered(tempfile::tempfile_in(within))? })
    }

    /// Gives the file itself, to be read or handed to another process.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Gives the user that it belongs to.
    pub(crate) fn owner(&self) -> io::Result<Uid> {
        Ok(Uid::from_raw(answered(self.file.metadata())?.uid()))
    }

    /// Takes the lock on the whole file, which excludes other processes and other openings of it, unless another has it;
    /// says whether it was taken. It goes when the file is closed.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match answered(lock_exclusive(&self.file)) {
            // POSIX allows either.
            Err(Errno::EACCES | Errno::EAGAIN) => Ok(false),
            locked => Ok(locked.map(|()| true)?),
        }
    }

    /// Says which file it is, and since when it is unchanged.
    pub(crate) fn identify(&self) -> io::Result<Identity> {
        let metadata = answered(self.file.metadata())?;
        let modified = after_epoch(metadata.mtime(), metadata.mtime_nsec());
        Ok(Identity { device: metadata.dev(), inode: metadata.ino(), modified })
    }

    /// Appends octets to a file that was created or opened for it.
    pub(crate) fn append(&self, octets: &[u8]) -> io::Result<()> {
        answered((&self.file).write_all(octets))
    }

    /// Reads at an offset; fewer octets than asked for only at the end.
    pub(crate) fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < octets.len() {
            match answered(self.file.read_at(&mut octets[filled..], offset + filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Gives its size in octets.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(answered(self.file.metadata())?.len())
    }

    /// Cuts it to a size that it had before.
    pub(crate) fn truncate(&self, size: u64) -> io::Result<()> {
        answered(self.file.set_len(size))
    }

    /// Starts to write a range back to the disk, without waiting for it; only a matter of speed.
    pub(crate) fn start_writeback(&self, range: Range<u64>) {
        start_writeback(&self.file, range);
        answered(());
    }

    /// Waits until its octets and size are on the disk; see [`durable::sync`].
    pub(crate) fn sync(&self) -> io::Result<()> {
        answered(durable::sync(&self.file))
    }
}

/// Gives the directory of files that need not outlive the process: `$TMPDIR`, else `/var/tmp`, which is on a disk
/// where `/tmp` is often memory, else the system's choice. The process looks once.
pub fn spool_directory() -> PathBuf {
    static CHOICE: OnceLock<PathBuf> = OnceLock::new();
    let choose = || {
        let disk = Path::new("/var/tmp");
        // One that does not answer is none.
        let is_there = || blocking::wait(LOOK, || disk.is_dir()).unwrap_or(false);
        match std::env::var_os("TMPDIR") {
            None if is_there() => disk.to_owned(),
            None | Some(_) => std::env::temp_dir(),
        }
    };
    CHOICE.get_or_init(choose).clone()
}

/// Makes a file that gets its name when it has its content.
#[cfg(target_os = "linux")]
fn create_complete(within: &Directory, name: &OsStr, content: &[u8]) -> nix::Result<OpenFile> {
    use std::os::fd::AsRawFd;

    let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    let file = File::from(openat(&within.fd, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    (&file).write_all(content).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(nix::fcntl::AT_FDCWD, unnamed.as_str(), &within.fd, name, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(OpenFile { path: within.path.join(name), file })
}

#[cfg(not(target_os = "linux"))]
fn create_complete(_: &Directory, _: &OsStr, _: &[u8]) -> nix::Result<OpenFile> {
    Err(Errno::EOPNOTSUPP)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

#[cfg(target_os = "linux")]
fn start_writeback(file: &File, range: Range<u64>) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

    // sync_file_range(2) says this plainly but cannot be called safely from Rust; POSIX_FADV_DONTNEED starts
    // writeback on Linux too. 4 KiB files by 4 workers in groups of 64, medians of 7 interleaved runs: 9,365/s
    // with it, 10,175/s with sync_file_range (within the noise), 4,096/s with neither; by 32 in groups of 8:
    // 11,625/s with it, 9,197/s without.
    let (Ok(start), Ok(length)) = (range.start.try_into(), (range.end - range.start).try_into()) else {
        return;
    };
    // A file system that knows no advice is only slower.
    let _ = posix_fadvise(file, start, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Elsewhere the advice starts nothing, or there is none.
#[cfg(not(target_os = "linux"))]
fn start_writeback(_: &File, _: Range<u64>) {}

/// Locks a whole file as fcntl(2) does. Locks of open file descriptions and those of processes exclude each other, so
/// that every other mail program is kept away; the former do not go when any other descriptor of the file is closed,
/// and keep two accounts of one process apart.
#[cfg(target_os = "linux")]
fn lock_exclusive(file: &File) -> nix::Result<()> {
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&WHOLE_FILE)).map(drop)
}

/// Where there are only locks of processes, the dot-lock keeps accounts of one process apart.
#[cfg(not(target_os = "linux"))]
fn lock_exclusive(file: &File) -> nix::Result<()> {
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETLK(&WHOLE_FILE)).map(drop)
}

/// A write lock from the beginning to whatever will be the end; small numbers that fit their types everywhere.
const WHOLE_FILE: nix::libc::flock = nix::libc::flock {
    l_type: nix::libc::F_WRLCK as _,
    l_whence: nix::libc::SEEK_SET as _,
    l_start: 0,
    l_len: 0,
    l_pid: 0,
};

fn after_epoch(seconds: i64, nanoseconds: i64) -> SystemTime {
    // What was changed before 1970 was changed long ago.
    let since = Duration::new(
        u64::try_from(seconds).unwrap_or(0),
        u32::try_from(nanoseconds).unwrap_or(0).min(999_999_999),
    );
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let open = Directory::open(dir.path()).unwrap();
        (dir, open)
    }

    #[test]
    fn a_rename_never_replaces_a_file() {
        let (path, dir) = directory();
        std::fs::write(path.path().join("old"), "old").unwrap();
        dir.create(OsStr::new("new")).unwrap().append(b"new").unwrap();
        let refused = dir.rename(OsStr::new("new"), &dir, OsStr::new("old")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(path.path().join("old")).unwrap(), b"old");
        dir.rename(OsStr::new("new"), &dir, OsStr::new("other")).unwrap();
        assert_eq!(std::fs::read(path.path().join("other")).unwrap(), b"new");
        assert!(!path.path().join("new").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_or_file_is_not_followed() {
        let (path, dir) = directory();
        std::fs::create_dir(path.path().join("real")).unwrap();
        std::fs::write(path.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("real", path.path().join("link")).unwrap();
        std::os::unix::fs::symlink("file", path.path().join("file link")).unwrap();
        std::os::unix::fs::symlink("missing", path.path().join("dangling")).unwrap();
        assert!(dir.open_subdirectory(OsStr::new("real")).is_ok());
        assert!(dir.open_subdirectory(OsStr::new("link")).is_err());
        assert!(dir.open_existing(OsStr::new("file")).is_ok());
        assert!(dir.open_existing(OsStr::new("file link")).is_err());
        assert!(dir.create(OsStr::new("dangling")).is_err());
        assert!(!path.path().join("missing").exists());
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let (path, dir) = directory();
        nix::unistd::mkfifo(&path.path().join("fifo"), Mode::S_IRWXU).unwrap();
        assert!(dir.open_existing(OsStr::new("fifo")).is_err());
    }

    #[test]
    fn names_can_be_listed_twice_and_are_octets() {
        let (path, dir) = directory();
        std::fs::write(path.path().join(OsStr::from_bytes(b"\xff1")), "").unwrap();
        for _ in 0..2 {
            let mut names = Vec::new();
            dir.names(|name| names.push(name.to_vec())).unwrap();
            assert_eq!(names, [b"\xff1".to_vec()]);
        }
    }
}
