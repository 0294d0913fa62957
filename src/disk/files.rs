//! The one place of the program that makes files durable and gives them names.
//!
//! [`FileSystem`] is every operation that delivery does, one method each, so that tests can put another in its
//! place: record the operations in order, let the k-th fail, replay what a power cut may leave of them. [`Native`]
//! is the real one. All of its methods block; they are called by the workers of a [`super::Disk`] only.
//!
//! Files are named relative to open directories: whoever swaps a directory of the path for a symbolic link in the
//! middle of a delivery does not send the mail elsewhere.

use std::ffi::{CStr, OsStr};
use std::fmt;
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

use super::{blocking, durable, moving, trust};

pub use super::moving::Moved;

/// How long a look for the directory of spools may take.
const LOOK: Duration = Duration::from_secs(5);

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    /// The path that it was opened by, for messages.
    pub path: PathBuf,
    pub(super) fd: OwnedFd,
    pub(super) moving: moving::Known,
}

impl Directory {
    fn new(path: PathBuf, fd: OwnedFd) -> Self {
        Self { path, fd, moving: moving::Known::default() }
    }
}

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    /// The path of its name when it was opened, for messages.
    pub path: PathBuf,
    file: File,
}

/// Which file it is, whatever its name, and when it was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The file system's number.
    pub device: u64,
    /// The file's number in it.
    pub inode: u64,
    /// When its content was changed.
    pub modified: SystemTime,
}

impl Identity {
    /// Says whether both are one file, changed or not.
    pub fn is_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl OpenFile {
    /// Gives the file itself, to be read or handed to another process.
    pub fn into_file(self) -> File {
        self.file
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

/// Every operation on files and directories that delivery does.
///
/// Methods fail with the system's error and nothing around it; the caller knows what it was about.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Opens a directory, following symbolic links; root follows its own only.
    fn open_directory(&self, path: &Path) -> io::Result<Directory>;
    /// Opens a directory within another; a symbolic link there is not followed (`ENOTDIR`).
    fn open_subdirectory(&self, within: &Directory, name: &OsStr) -> io::Result<Directory>;
    /// Opens the directory that really holds this one, whatever links led to it.
    fn open_parent(&self, of: &Directory) -> io::Result<Directory>;
    /// Makes a directory, 0700.
    fn make_directory(&self, within: &Directory, name: &OsStr) -> io::Result<()>;
    /// Says whether names can be made and removed in a directory (`EACCES`, `EROFS`).
    fn check_writable(&self, directory: &Directory) -> io::Result<()>;
    /// Gives the user that a directory belongs to.
    fn owner(&self, directory: &Directory) -> io::Result<Uid> {
        Ok(Uid::from_raw(fstat(&directory.fd)?.st_uid))
    }
    /// Gives the user that an open file belongs to.
    fn owner_of_file(&self, file: &OpenFile) -> io::Result<Uid> {
        Ok(Uid::from_raw(file.file.metadata()?.uid()))
    }
    /// Calls `each` with every name in a directory but `.` and `..`.
    fn names(&self, directory: &Directory, each: &mut dyn FnMut(&[u8])) -> io::Result<()>;
    /// Makes a new file, 0600, for writing and reading; never opens an existing one (`EEXIST`).
    fn create(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile>;
    /// Makes a new file as [`FileSystem::create`] does, with this content. Where the file system can do that, it has the
    /// content from the moment on at which it has the name.
    fn create_with(&self, within: &Directory, name: &OsStr, content: &[u8]) -> io::Result<OpenFile> {
        create_and_write(self, within, name, content)
    }
    /// Makes a file without a name in this directory, for writing and reading; it vanishes with its last descriptor.
    fn create_unnamed(&self, within: &Path) -> io::Result<OpenFile> {
        Ok(OpenFile { path: within.to_owned(), file: tempfile::tempfile_in(within)? })
    }
    /// Opens an existing regular file for reading; links are not followed, and FIFOs not waited for.
    fn open_existing(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile>;
    /// Opens an existing regular file for reading and for writing at its end; links are not followed, and FIFOs not
    /// waited for.
    fn open_to_append(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile>;
    /// Takes the lock on a whole file, which excludes other processes and other openings of it, unless another has it;
    /// says whether it was taken. It goes when the file is closed.
    fn try_lock(&self, file: &OpenFile) -> io::Result<bool>;
    /// Says which file has this name, and since when it is unchanged; a symbolic link is not followed.
    fn identify(&self, within: &Directory, name: &OsStr) -> io::Result<Identity>;
    /// Says the same of an open file.
    fn identify_open(&self, file: &OpenFile) -> io::Result<Identity>;
    /// Appends octets to a file that was created or opened for it.
    fn append(&self, file: &OpenFile, octets: &[u8]) -> io::Result<()>;
    /// Reads at an offset; fewer octets than asked for only at the end.
    fn read_at(&self, file: &OpenFile, octets: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Gives a file's size in octets.
    fn size(&self, file: &OpenFile) -> io::Result<u64>;
    /// Cuts a file to a size that it had before.
    fn truncate(&self, file: &OpenFile, size: u64) -> io::Result<()>;
    /// Starts to write a range of a file back to the disk, without waiting for it; only a matter of speed.
    fn start_writeback(&self, file: &OpenFile, range: Range<u64>);
    /// Waits until a file's octets and size are on the disk. Never to be repeated after an error: the kernel has
    /// told it once and may have dropped the octets, so a second call would succeed and mean nothing.
    fn sync_file(&self, file: &OpenFile) -> io::Result<()>;
    /// Waits until a directory's names are on the disk.
    fn sync_directory(&self, directory: &Directory) -> io::Result<()>;
    /// Gives a file another name in another directory of the same file system; never replaces one (`EEXIST`).
    fn rename(&self, from: &Directory, name: &OsStr, to: &Directory, new_name: &OsStr) -> io::Result<Moved>;
    /// Removes a file's name.
    fn remove(&self, within: &Directory, name: &OsStr) -> io::Result<()>;
}

/// The system's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl FileSystem for Native {
    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        Ok(Directory::new(path.to_owned(), trust::open_directory(path)?))
    }

    fn open_subdirectory(&self, within: &Directory, name: &OsStr) -> io::Result<Directory> {
        let fd = openat(&within.fd, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?;
        Ok(Directory::new(within.path.join(name), fd))
    }

    fn open_parent(&self, of: &Directory) -> io::Result<Directory> {
        let fd = openat(&of.fd, "..", DIRECTORY, Mode::empty())?;
        Ok(Directory::new(of.path.join(".."), fd))
    }

    fn make_directory(&self, within: &Directory, name: &OsStr) -> io::Result<()> {
        Ok(mkdirat(&within.fd, name, Mode::S_IRWXU)?)
    }

    fn check_writable(&self, directory: &Directory) -> io::Result<()> {
        let wanted = AccessFlags::W_OK | AccessFlags::X_OK;
        Ok(faccessat(&directory.fd, ".", wanted, AtFlags::AT_EACCESS)?)
    }

    fn names(&self, directory: &Directory, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        // Opened again, since the position of reading belongs to the open directory, which tasks share.
        let mut dir = Dir::openat(&directory.fd, ".", DIRECTORY, Mode::empty())?;
        for entry in dir.iter() {
            let entry = entry?;
            let name = CStr::to_bytes(entry.file_name());
            if name != b"." && name != b".." {
                each(name);
            }
        }
        Ok(())
    }

    fn create(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&within.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(OpenFile { path: within.path.join(name), file: File::from(fd) })
    }

    fn create_with(&self, within: &Directory, name: &OsStr, content: &[u8]) -> io::Result<OpenFile> {
        match create_complete(within, name, content) {
            // No file without a name on this file system (NFS, many in user space), none that gets one by a link, or
            // no /proc to give it one by.
            Err(Errno::EISDIR | Errno::ENOENT | Errno::EPERM | Errno::EMLINK | Errno::EXDEV) => {
                create_and_write(self, within, name, content)
            }
            Err(errno) if durable::is_unknown(errno) => create_and_write(self, within, name, content),
            created => Ok(created?),
        }
    }

    fn open_existing(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&within.fd, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(Errno::ELOOP.into());
        }
        Ok(OpenFile { path: within.path.join(name), file })
    }

    fn open_to_append(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile> {
        let flags =
            OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&within.fd, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(Errno::ELOOP.into());
        }
        Ok(OpenFile { path: within.path.join(name), file })
    }

    fn try_lock(&self, file: &OpenFile) -> io::Result<bool> {
        match lock_exclusive(&file.file) {
            // POSIX allows either.
            Err(Errno::EACCES | Errno::EAGAIN) => Ok(false),
            locked => Ok(locked.map(|()| true)?),
        }
    }

    fn identify(&self, within: &Directory, name: &OsStr) -> io::Result<Identity> {
        let status = fstatat(&within.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Identity {
            device: status.st_dev,
            inode: status.st_ino,
            modified: after_epoch(status.st_mtime, status.st_mtime_nsec),
        })
    }

    fn identify_open(&self, file: &OpenFile) -> io::Result<Identity> {
        let metadata = file.file.metadata()?;
        let modified = after_epoch(metadata.mtime(), metadata.mtime_nsec());
        Ok(Identity { device: metadata.dev(), inode: metadata.ino(), modified })
    }

    fn append(&self, file: &OpenFile, octets: &[u8]) -> io::Result<()> {
        (&file.file).write_all(octets)
    }

    fn read_at(&self, file: &OpenFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < octets.len() {
            match file.file.read_at(&mut octets[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn size(&self, file: &OpenFile) -> io::Result<u64> {
        Ok(file.file.metadata()?.len())
    }

    fn truncate(&self, file: &OpenFile, size: u64) -> io::Result<()> {
        file.file.set_len(size)
    }

    fn start_writeback(&self, file: &OpenFile, range: Range<u64>) {
        start_writeback(&file.file, range);
    }

    fn sync_file(&self, file: &OpenFile) -> io::Result<()> {
        durable::sync(&file.file)
    }

    fn sync_directory(&self, directory: &Directory) -> io::Result<()> {
        durable::sync_directory(&directory.fd)
    }

    fn rename(&self, from: &Directory, name: &OsStr, to: &Directory, new_name: &OsStr) -> io::Result<Moved> {
        moving::rename(from, name, to, new_name)
    }

    fn remove(&self, within: &Directory, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&within.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

fn create_and_write<F: FileSystem + ?Sized>(
    files: &F,
    within: &Directory,
    name: &OsStr,
    content: &[u8],
) -> io::Result<OpenFile> {
    let file = files.create(within, name)?;
    files.append(&file, content).inspect_err(|_| {
        // Told as not made, so it must not stay.
        let _ = files.remove(within, name);
    })?;
    Ok(file)
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

/// How directories are opened.
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
        let open = Native.open_directory(dir.path()).unwrap();
        (dir, open)
    }

    #[test]
    fn a_rename_never_replaces_a_file() {
        let (path, dir) = directory();
        std::fs::write(path.path().join("old"), "old").unwrap();
        Native.append(&Native.create(&dir, OsStr::new("new")).unwrap(), b"new").unwrap();
        let refused = Native.rename(&dir, OsStr::new("new"), &dir, OsStr::new("old")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(path.path().join("old")).unwrap(), b"old");
        Native.rename(&dir, OsStr::new("new"), &dir, OsStr::new("other")).unwrap();
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
        assert!(Native.open_subdirectory(&dir, OsStr::new("real")).is_ok());
        assert!(Native.open_subdirectory(&dir, OsStr::new("link")).is_err());
        assert!(Native.open_existing(&dir, OsStr::new("file")).is_ok());
        assert!(Native.open_existing(&dir, OsStr::new("file link")).is_err());
        assert!(Native.create(&dir, OsStr::new("dangling")).is_err());
        assert!(!path.path().join("missing").exists());
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let (path, dir) = directory();
        nix::unistd::mkfifo(&path.path().join("fifo"), Mode::S_IRWXU).unwrap();
        assert!(Native.open_existing(&dir, OsStr::new("fifo")).is_err());
    }

    #[test]
    fn names_can_be_listed_twice_and_are_octets() {
        let (path, dir) = directory();
        std::fs::write(path.path().join(OsStr::from_bytes(b"\xff1")), "").unwrap();
        for _ in 0..2 {
            let mut names = Vec::new();
            Native.names(&dir, &mut |name| names.push(name.to_vec())).unwrap();
            assert_eq!(names, [b"\xff1".to_vec()]);
        }
    }
}
