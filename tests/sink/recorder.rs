//! A file system that does what it is asked, writes it down in order, and fails where a test wants it to.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use nix::errno::Errno;
use postrider::testing::disk::{Directory, FileSystem, Identity, Moved, Native, OpenFile};

/// One operation, with the paths it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    OpenDirectory(PathBuf),
    OpenSubdirectory(PathBuf),
    OpenParent(PathBuf),
    MakeDirectory(PathBuf),
    CheckWritable(PathBuf),
    Names(PathBuf),
    Create(PathBuf),
    CreateUnnamed(PathBuf),
    OpenExisting(PathBuf),
    OpenToAppend(PathBuf),
    TryLock(PathBuf),
    Identify(PathBuf),
    IdentifyOpen(PathBuf),
    Append(PathBuf, Vec<u8>),
    ReadAt(PathBuf),
    Size(PathBuf),
    Truncate(PathBuf, u64),
    SyncFile(PathBuf),
    SyncDirectory(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Which operations fail, and how.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The first one that fails, counted from 0.
    pub at: usize,
    pub errno: Errno,
    pub lasts: Lasts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    Once,
    ForGood,
}

type Listener = Box<dyn Fn(&Operation) + Send + Sync>;

/// Serialises all operations, so that the order in the record is the order on the disk.
#[derive(Default)]
pub struct Recorder {
    fault: Option<Fault>,
    /// Called before an operation is done.
    before: Option<Listener>,
    record: Mutex<Vec<(Operation, Result<(), Errno>)>>,
}

impl Recorder {
    pub fn new(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    /// Has every operation told before it is done.
    pub fn telling(before: impl Fn(&Operation) + Send + Sync + 'static) -> Self {
        Self { before: Some(Box::new(before)), ..Self::default() }
    }

    /// Gives what was done so far, and whether it failed.
    pub fn record(&self) -> MutexGuard<'_, Vec<(Operation, Result<(), Errno>)>> {
        self.record.lock().unwrap()
    }

    fn note<T>(&self, operation: Operation, perform: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut record = self.record();
        if let Some(before) = &self.before {
            before(&operation);
        }
        let fails = |fault: &Fault| match fault.lasts {
            Lasts::Once => record.len() == fault.at,
            Lasts::ForGood => record.len() >= fault.at,
        };
        let result = match self.fault.filter(fails) {
            Some(fault) => Err(fault.errno.into()),
            None => perform(),
        };
        let errno = |error: &io::Error| Errno::from_raw(error.raw_os_error().unwrap());
        record.push((operation, result.as_ref().map(drop).map_err(errno)));
        result
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl FileSystem for Recorder {
    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        self.note(Operation::OpenDirectory(path.to_owned()), || Native.open_directory(path))
    }

    fn open_subdirectory(&self, within: &Directory, name: &OsStr) -> io::Result<Directory> {
        let path = within.path.join(name);
        self.note(Operation::OpenSubdirectory(path), || Native.open_subdirectory(within, name))
    }

    fn open_parent(&self, of: &Directory) -> io::Result<Directory> {
        self.note(Operation::OpenParent(of.path.clone()), || Native.open_parent(of))
    }

    fn make_directory(&self, within: &Directory, name: &OsStr) -> io::Result<()> {
        self.note(Operation::MakeDirectory(within.path.join(name)), || Native.make_directory(within, name))
    }

    fn check_writable(&self, directory: &Directory) -> io::Result<()> {
        self.note(Operation::CheckWritable(directory.path.clone()), || Native.check_writable(directory))
    }

    fn names(&self, directory: &Directory, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.note(Operation::Names(directory.path.clone()), || Native.names(directory, each))
    }

    fn create(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile> {
        self.note(Operation::Create(within.path.join(name)), || Native.create(within, name))
    }

    fn create_unnamed(&self, within: &Path) -> io::Result<OpenFile> {
        self.note(Operation::CreateUnnamed(within.to_owned()), || Native.create_unnamed(within))
    }

    fn open_existing(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile> {
        self.note(Operation::OpenExisting(within.path.join(name)), || Native.open_existing(within, name))
    }

    fn open_to_append(&self, within: &Directory, name: &OsStr) -> io::Result<OpenFile> {
        self.note(Operation::OpenToAppend(within.path.join(name)), || Native.open_to_append(within, name))
    }

    fn try_lock(&self, file: &OpenFile) -> io::Result<bool> {
        self.note(Operation::TryLock(file.path.clone()), || Native.try_lock(file))
    }

    fn identify(&self, within: &Directory, name: &OsStr) -> io::Result<Identity> {
        self.note(Operation::Identify(within.path.join(name)), || Native.identify(within, name))
    }

    fn identify_open(&self, file: &OpenFile) -> io::Result<Identity> {
        self.note(Operation::IdentifyOpen(file.path.clone()), || Native.identify_open(file))
    }

    fn append(&self, file: &OpenFile, octets: &[u8]) -> io::Result<()> {
        self.note(Operation::Append(file.path.clone(), octets.to_vec()), || Native.append(file, octets))
    }

    fn read_at(&self, file: &OpenFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        self.note(Operation::ReadAt(file.path.clone()), || Native.read_at(file, octets, offset))
    }

    fn size(&self, file: &OpenFile) -> io::Result<u64> {
        self.note(Operation::Size(file.path.clone()), || Native.size(file))
    }

    fn truncate(&self, file: &OpenFile, size: u64) -> io::Result<()> {
        self.note(Operation::Truncate(file.path.clone(), size), || Native.truncate(file, size))
    }

    /// Changes nothing that could be seen, and cannot fail: not recorded.
    fn start_writeback(&self, file: &OpenFile, range: Range<u64>) {
        Native.start_writeback(file, range);
    }

    fn sync_file(&self, file: &OpenFile) -> io::Result<()> {
        self.note(Operation::SyncFile(file.path.clone()), || Native.sync_file(file))
    }

    fn sync_directory(&self, directory: &Directory) -> io::Result<()> {
        self.note(Operation::SyncDirectory(directory.path.clone()), || Native.sync_directory(directory))
    }

    fn rename(&self, from: &Directory, name: &OsStr, to: &Directory, new_name: &OsStr) -> io::Result<Moved> {
        let operation = Operation::Rename(from.path.join(name), to.path.join(new_name));
        self.note(operation, || Native.rename(from, name, to, new_name))
    }

    fn remove(&self, within: &Directory, name: &OsStr) -> io::Result<()> {
        self.note(Operation::Remove(within.path.join(name)), || Native.remove(within, name))
    }
}
