//! Notes that a file system answers.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::unistd::Uid;

use super::files::{Directory, FileSystem, Identity, Moved, OpenFile};

/// A file system whose answers are counted, whatever they are.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    pub(super) files: &'a dyn FileSystem,
    pub(super) answers: &'a AtomicU64,
}

impl Watched<'_> {
    fn answered<T>(&self, answer: T) -> T {
        self.answers.fetch_add(1, Relaxed);
        answer
    }
}

/// Has each of these passed on, and counts its answer.
macro_rules! pass_on {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $kind),*) -> $answer {
            self.answered(self.files.$name($($argument),*))
        })*
    };
}

impl FileSystem for Watched<'_> {
    pass_on! {
        fn open_directory(path: &Path) -> io::Result<Directory>;
        fn open_subdirectory(within: &Directory, name: &OsStr) -> io::Result<Directory>;
        fn open_parent(of: &Directory) -> io::Result<Directory>;
        fn make_directory(within: &Directory, name: &OsStr) -> io::Result<()>;
        fn check_writable(directory: &Directory) -> io::Result<()>;
        fn owner(directory: &Directory) -> io::Result<Uid>;
        fn owner_of_file(file: &OpenFile) -> io::Result<Uid>;
        fn create(within: &Directory, name: &OsStr) -> io::Result<OpenFile>;
        fn create_with(within: &Directory, name: &OsStr, content: &[u8]) -> io::Result<OpenFile>;
        fn create_unnamed(within: &Path) -> io::Result<OpenFile>;
        fn open_existing(within: &Directory, name: &OsStr) -> io::Result<OpenFile>;
        fn open_to_append(within: &Directory, name: &OsStr) -> io::Result<OpenFile>;
        fn try_lock(file: &OpenFile) -> io::Result<bool>;
        fn identify(within: &Directory, name: &OsStr) -> io::Result<Identity>;
        fn identify_open(file: &OpenFile) -> io::Result<Identity>;
        fn append(file: &OpenFile, octets: &[u8]) -> io::Result<()>;
        fn read_at(file: &OpenFile, octets: &mut [u8], offset: u64) -> io::Result<usize>;
        fn size(file: &OpenFile) -> io::Result<u64>;
        fn truncate(file: &OpenFile, size: u64) -> io::Result<()>;
        fn start_writeback(file: &OpenFile, range: Range<u64>) -> ();
        fn sync_file(file: &OpenFile) -> io::Result<()>;
        fn sync_directory(directory: &Directory) -> io::Result<()>;
        fn rename(from: &Directory, name: &OsStr, to: &Directory, new_name: &OsStr) -> io::Result<Moved>;
        fn remove(within: &Directory, name: &OsStr) -> io::Result<()>;
    }

    fn names(&self, directory: &Directory, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.files.names(directory, &mut |name| {
            each(name);
            self.answered(());
        })
    }
}
