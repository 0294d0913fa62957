//! The system calls that change files, interposed: written down in the order in which they happen, and failing where
//! a test wants them to.
//!
//! The functions below have the names of the C library's, so that everything that is linked into the test program
//! calls them: the standard library, `nix`, SQLite. One record therefore holds the operations of target, state file,
//! log and locks in one order, and nothing that the program does to its files goes past it; the recordings of whole polls
//! make sure of that by comparing what the record says with what is on the disk. Only what lies below the directory that
//! is watched is recorded, and files are known by their inodes, so the tests beside are not disturbed.

#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    reason = "only so can it stand between a program and the system; each function passes on what the program gave"
)]

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_long, c_uint, c_void, mode_t, off_t, size_t, ssize_t};

/// A file or directory, whatever its names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u32);

/// The directory that is watched.
pub const ROOT: Node = Node(0);

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub directory: Node,
    pub name: OsString,
}

/// Files and directories with their paths, by device and inode.
pub type Nodes = HashMap<(u64, u64), (Node, PathBuf)>;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Something was opened that is there, or is not.
    Open {
        at: Place,
        writes: bool,
    },
    Create {
        at: Place,
        node: Node,
    },
    MakeDirectory {
        at: Place,
        node: Node,
    },
    Write {
        node: Node,
        offset: u64,
        octets: Vec<u8>,
    },
    Resize {
        node: Node,
        size: u64,
    },
    Sync {
        node: Node,
    },
    Rename {
        from: Place,
        to: Place,
    },
    Link {
        from: Place,
        to: Place,
    },
    Remove {
        at: Place,
    },
    /// A file without a name was made.
    Unnamed {
        within: Node,
        node: Node,
    },
    /// It got one.
    Name {
        node: Node,
        to: Place,
    },
    /// See [`Wanted::all`].
    Read {
        node: Node,
    },
    /// See [`Wanted::all`].
    Lock {
        node: Node,
    },
}

/// An operation, when it was over, and how it failed.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Instant,
    pub op: Op,
    pub error: Option<Errno>,
    /// Where it was, for messages.
    pub path: PathBuf,
}

/// Which operation fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The first one that may, counted from 0.
    pub at: usize,
    pub errno: Errno,
    pub lasts: Lasts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    Once,
    ForGood,
    /// Once, and although it was done: the reply of a server was lost, and the second answer is about what the first
    /// request did.
    LostReply,
}

/// What the file system cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lacks {
    #[default]
    Nothing,
    /// RENAME_NOREPLACE, as NFS.
    Exclusion,
    /// Hard links besides, as FAT.
    Links,
}

impl Fault {
    /// Says whether a file system gives this error for this operation.
    pub fn suits(&self, op: &Op) -> bool {
        match (self.errno, op) {
            (_, _) if self.lasts == Lasts::LostReply => match op {
                Op::Rename { .. } | Op::Remove { .. } => self.errno == Errno::ENOENT,
                Op::Link { .. } => self.errno == Errno::EEXIST,
                Op::Open { .. }
                | Op::Create { .. }
                | Op::MakeDirectory { .. }
                | Op::Write { .. }
                | Op::Resize { .. }
                | Op::Sync { .. }
                | Op::Unnamed { .. }
                | Op::Name { .. }
                | Op::Read { .. }
                | Op::Lock { .. } => false,
            },
            (Errno::EIO, _) => true,
            (_, Op::Open { writes: false, .. } | Op::Read { .. } | Op::Lock { .. }) => false,
            (Errno::EFBIG, op) => matches!(op, Op::Write { .. } | Op::Resize { .. }),
            (Errno::EROFS | Errno::EACCES, _) => true,
            // No space, no quota.
            (_, Op::Open { .. } | Op::Remove { .. }) => false,
            (_, _) => true,
        }
    }
}

/// What a test wants besides a record.
#[derive(Default)]
pub struct Wanted {
    pub fault: Option<Fault>,
    pub lacks: Lacks,
    /// What changes nothing is recorded, too, and may fail: reads at a place, and locks. SQLite does many of both.
    pub all: bool,
    /// Hears of each operation before it is done, and where it is; what this does to files itself is not recorded.
    pub before: Option<Listener>,
}

pub type Listener = Arc<dyn Fn(&Op, &Path) + Send + Sync>;

/// A directory that is being watched, one at a time in a process.
pub struct Watch {
    _only: MutexGuard<'static, ()>,
}

impl Watch {
    /// Begins to write down all that happens below a directory.
    pub fn of(root: &Path) -> Self {
        Self::begin(nodes(root), Wanted { all: true, ..Wanted::default() })
    }

    /// Does the same, on a disk that fails.
    pub fn failing(root: &Path, fault: Fault) -> Self {
        Self::begin(nodes(root), Wanted { all: true, fault: Some(fault), ..Wanted::default() })
    }

    /// Does the same, and tells of each operation before it is done.
    pub fn telling(root: &Path, before: impl Fn(&Op, &Path) + Send + Sync + 'static) -> Self {
        let before: Option<Listener> = Some(Arc::new(before));
        Self::begin(nodes(root), Wanted { all: true, before, ..Wanted::default() })
    }

    /// Begins to write down what happens below a directory. `nodes` are those that are there.
    pub fn begin(nodes: Nodes, wanted: Wanted) -> Self {
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let next = nodes.values().map(|(Node(number), _)| number + 1).max().unwrap_or(0);
        *lock() = Some(Watching { nodes, next, log: Vec::new(), count: 0, wanted });
        ACTIVE.store(true, SeqCst);
        Self { _only: only }
    }

    /// Looks at what has happened so far.
    pub fn look<T>(&self, look: impl FnOnce(&[Entry]) -> T) -> T {
        look(&lock().as_ref().expect("it was begun").log)
    }

    /// Holds up every other thread that does something to a file, until it is dropped.
    pub fn hold_up(&self) -> HeldUp {
        let held_up = HeldUp(lock());
        ASIDE.set(true);
        held_up
    }

    /// Ends it, and gives what happened.
    pub fn end(self) -> Vec<Entry> {
        ACTIVE.store(false, SeqCst);
        let watching = lock().take();
        watching.expect("it was begun").log
    }
}

/// See [`Watch::hold_up`].
pub struct HeldUp(#[expect(dead_code, reason = "it is only held")] MutexGuard<'static, Option<Watching>>);

impl Drop for HeldUp {
    fn drop(&mut self) {
        ASIDE.set(false);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        ACTIVE.store(false, SeqCst);
        *lock() = None;
    }
}

/// Gives what is below a directory, by number, itself as [`ROOT`], each directory before what it holds.
pub fn nodes(root: &Path) -> Nodes {
    fn add(nodes: &mut Nodes, root: &Path, below: PathBuf) {
        let found = std::fs::symlink_metadata(root.join(&below)).unwrap();
        let node = Node(u32::try_from(nodes.len()).unwrap());
        nodes.insert(identity_of(&found), (node, below.clone()));
        if found.is_dir() {
            for entry in std::fs::read_dir(root.join(&below)).unwrap() {
                add(nodes, root, below.join(entry.unwrap().file_name()));
            }
        }
    }
    let mut nodes = Nodes::new();
    add(&mut nodes, root, PathBuf::new());
    nodes
}

static ACTIVE: AtomicBool = AtomicBool::new(false);
static WATCHING: Mutex<Option<Watching>> = Mutex::new(None);

thread_local! {
    /// What this thread does now is no operation: it tells a [`Listener`], or holds up the others.
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

fn lock() -> MutexGuard<'static, Option<Watching>> {
    WATCHING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Watching {
    nodes: Nodes,
    next: u32,
    log: Vec<Entry>,
    /// Operations so far, failed ones included.
    count: usize,
    wanted: Wanted,
}

impl Watching {
    fn node(&self, fd: c_int) -> Option<(Node, PathBuf)> {
        self.nodes.get(&identity(fd, c"", libc::AT_EMPTY_PATH)?).cloned()
    }

    fn place(&self, directory: c_int, path: &CStr) -> Option<(Place, PathBuf)> {
        let octets = path.to_bytes();
        let (above, name) = match octets.iter().rposition(|octet| *octet == b'/') {
            Some(slash) => (&octets[..slash.max(1)], &octets[slash + 1..]),
            None => (&b""[..], octets),
        };
        let name = OsStr::from_bytes(name);
        let directory = match above {
            b"" if directory == libc::AT_FDCWD => return None,
            b"" => self.node(directory),
            above => {
                let above = std::ffi::CString::new(above).ok()?;
                self.nodes.get(&identity(directory, &above, 0)?).cloned()
            }
        };
        let (node, path) = directory?;
        Some((Place { directory: node, name: name.to_owned() }, path.join(name)))
    }

    fn new_node(&self) -> Node {
        Node(self.next)
    }

    /// Learns of what was just made.
    fn made(&mut self, directory: c_int, name: &CStr, path: &Path) {
        self.learn(identity(directory, name, libc::AT_SYMLINK_NOFOLLOW), path);
    }

    fn learn(&mut self, identity: Option<(u64, u64)>, path: &Path) {
        if let Some(identity) = identity {
            self.nodes.insert(identity, (Node(self.next), path.to_owned()));
            self.next += 1;
        }
    }

    /// Gives the error that this operation is to have.
    fn fails(&mut self, op: &Op) -> Option<Fault> {
        let count = self.count;
        self.count += 1;
        let fault = self.wanted.fault.filter(|fault| count >= fault.at && fault.suits(op))?;
        match fault.lasts {
            Lasts::Once | Lasts::LostReply => self.wanted.fault = None,
            Lasts::ForGood => {}
        }
        Some(fault)
    }

    fn note(&mut self, op: Op, path: &Path, error: Option<Errno>) {
        self.log.push(Entry { at: Instant::now(), op, error, path: path.to_owned() });
    }
}

/// Gives device and inode.
fn identity(directory: c_int, path: &CStr, flags: c_int) -> Option<(u64, u64)> {
    // SAFETY: the path is a C string, and a zeroed stat is a valid one to be filled.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        let done = libc::fstatat(directory, path.as_ptr(), &mut found, flags);
        (done == 0).then_some((found.st_dev, found.st_ino))
    }
}

/// Gives device and inode as [`Watch::begin`] takes them.
pub fn identity_of(found: &std::fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Performs an operation if it does not concern what is watched, else writes it down around performing it.
fn perform(
    describe: impl FnOnce(&Watching) -> Option<(Op, PathBuf)>,
    before_failing: impl FnOnce(&mut Watching),
    native: impl Fn() -> c_long,
    after: impl FnOnce(&mut Watching, &Path, c_long),
) -> c_long {
    if !ACTIVE.load(SeqCst) || ASIDE.get() {
        return native();
    }
    let mut guard = lock();
    let described = guard.as_ref().and_then(describe);
    let before = guard.as_ref().and_then(|watching| watching.wanted.before.clone());
    if let (Some(before), Some((op, path))) = (before, &described) {
        drop(guard);
        ASIDE.set(true);
        before(op, path);
        ASIDE.set(false);
        guard = lock();
    }
    let (Some(watching), Some((op, path))) = (guard.as_mut(), described) else {
        drop(guard);
        return native();
    };
    let fault = watching.fails(&op);
    let lost = fault.filter(|fault| fault.lasts == Lasts::LostReply);
    if let (Some(fault), None) = (fault, lost) {
        before_failing(watching);
        watching.note(op, &path, Some(fault.errno));
        drop(guard);
        fault.errno.set();
        return -1;
    }
    let result = native();
    let error = (result < 0).then(Errno::last);
    if error.is_none() {
        after(watching, &path, result);
    }
    watching.note(op, &path, error);
    drop(guard);
    if let Some(errno) = error {
        // Giving the lock back may have changed it.
        errno.set();
    } else if let Some(fault) = lost {
        fault.errno.set();
        return -1;
    }
    result
}

/// Says whether the disk that is watched lacks something; the tests beside have whole ones.
fn is_lacking(any: &[Lacks]) -> bool {
    ACTIVE.load(SeqCst) && lock().as_ref().is_some_and(|watching| any.contains(&watching.wanted.lacks))
}

fn nothing(_: &mut Watching) {}

fn nothing_after(_: &mut Watching, _: &Path, _: c_long) {}

unsafe fn open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as the caller promises.
    let name = unsafe { CStr::from_ptr(path) };
    // SAFETY: the same arguments.
    let native = || unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, c_uint::from(mode)) };
    if flags & libc::O_TMPFILE == libc::O_TMPFILE {
        let describe = |watching: &Watching| {
            let (within, path) = watching.nodes.get(&identity(directory, name, 0)?).cloned()?;
            Some((Op::Unnamed { within, node: watching.new_node() }, path))
        };
        let after = |watching: &mut Watching, path: &Path, fd| {
            watching.learn(identity(fd as c_int, c"", libc::AT_EMPTY_PATH), path);
        };
        return perform(describe, nothing, native, after) as c_int;
    }
    let creates = flags & libc::O_CREAT != 0
        && ACTIVE.load(SeqCst)
        && identity(directory, name, libc::AT_SYMLINK_NOFOLLOW).is_none();
    let describe = |watching: &Watching| {
        let (at, path) = watching.place(directory, name)?;
        let op = if creates {
            Op::Create { at, node: watching.new_node() }
        } else {
            Op::Open { at, writes: flags & libc::O_ACCMODE != libc::O_RDONLY }
        };
        Some((op, path))
    };
    let after = |watching: &mut Watching, path: &Path, _| {
        if creates {
            watching.made(directory, name, path);
        }
    };
    perform(describe, nothing, native, after) as c_int
}

unsafe fn write_at(
    fd: c_int,
    octets: *const c_void,
    count: size_t,
    offset: Option<off_t>,
    native: impl Fn(size_t) -> c_long,
) -> ssize_t {
    let watched = |watching: &Watching| {
        let (node, path) = watching.node(fd)?;
        // SAFETY: only asks.
        let offset = offset.unwrap_or_else(|| unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) });
        // SAFETY: as the caller promises.
        let octets = unsafe { std::slice::from_raw_parts(octets.cast::<u8>(), count) };
        Some((Op::Write { node, offset: offset.cast_unsigned(), octets: octets.to_vec() }, path))
    };
    let half = |watching: &mut Watching| {
        // What comes before the place where the disk is full, or broken, is written.
        if let Some((Op::Write { node, offset, mut octets }, path)) = watched(watching) {
            octets.truncate(count / 2);
            if native(count / 2) == (count / 2) as c_long {
                watching.note(Op::Write { node, offset, octets }, &path, None);
            }
        }
    };
    perform(watched, half, || native(count), nothing_after) as ssize_t
}

unsafe fn two(
    directories: [c_int; 2],
    paths: [*const c_char; 2],
    make: impl Fn(Place, Place) -> Op,
    native: impl Fn() -> c_long,
) -> c_int {
    // SAFETY: as the caller promises.
    let [from, to] = paths.map(|path| unsafe { CStr::from_ptr(path) });
    let describe = |watching: &Watching| {
        let (from, _) = watching.place(directories[0], from)?;
        let (to, path) = watching.place(directories[1], to)?;
        Some((make(from, to), path))
    };
    perform(describe, nothing, native, nothing_after) as c_int
}

unsafe fn one(
    directory: c_int,
    path: *const c_char,
    make: impl Fn(Place, &Watching) -> Op,
    native: impl Fn() -> c_long,
    after: impl FnOnce(&mut Watching, &CStr, &Path),
) -> c_int {
    // SAFETY: as the caller promises.
    let name = unsafe { CStr::from_ptr(path) };
    let describe = |watching: &Watching| {
        let (at, path) = watching.place(directory, name)?;
        Some((make(at, watching), path))
    };
    perform(describe, nothing, native, |watching, path, _| after(watching, name, path)) as c_int
}

/// What changes nothing.
fn harmless(fd: c_int, make: impl Fn(Node) -> Op, native: impl Fn() -> c_long) -> c_long {
    let describe = |watching: &Watching| {
        let (node, path) = watching.node(fd).filter(|_| watching.wanted.all)?;
        Some((make(node), path))
    };
    perform(describe, nothing, native, nothing_after)
}

fn on_node(fd: c_int, make: impl Fn(Node) -> Op, native: impl Fn() -> c_long) -> c_int {
    let describe = |watching: &Watching| watching.node(fd).map(|(node, path)| (make(node), path));
    perform(describe, nothing, native, nothing_after) as c_int
}

/// The C library's functions, with its contracts.
mod interposed {
    use super::*;

    // The third argument of the real ones is variadic; on the platforms of this program it is passed like any other.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn openat(fd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        unsafe { open_at(fd, path, flags, mode) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn openat64(fd: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
        unsafe { open_at(fd, path, flags, mode) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn write(fd: c_int, octets: *const c_void, count: size_t) -> ssize_t {
        let native = |count: size_t| unsafe { libc::syscall(libc::SYS_write, fd, octets, count) };
        unsafe { write_at(fd, octets, count, None, native) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn pwrite(fd: c_int, octets: *const c_void, count: size_t, at: off_t) -> ssize_t {
        let native = |count: size_t| unsafe { libc::syscall(libc::SYS_pwrite64, fd, octets, count, at) };
        unsafe { write_at(fd, octets, count, Some(at), native) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn pwrite64(fd: c_int, octets: *const c_void, count: size_t, at: off_t) -> ssize_t {
        unsafe { pwrite(fd, octets, count, at) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn pread(fd: c_int, octets: *mut c_void, count: size_t, at: off_t) -> ssize_t {
        let native = || unsafe { libc::syscall(libc::SYS_pread64, fd, octets, count, at) };
        harmless(fd, |node| Op::Read { node }, native) as ssize_t
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn pread64(fd: c_int, octets: *mut c_void, count: size_t, at: off_t) -> ssize_t {
        unsafe { pread(fd, octets, count, at) }
    }

    // As open: what the argument is depends on the command, and it is passed like any other.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
        let native = || unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) };
        match command {
            libc::F_OFD_SETLK => harmless(fd, |node| Op::Lock { node }, native) as c_int,
            _ => native() as c_int,
        }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
        unsafe { fcntl(fd, command, argument) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn ftruncate(fd: c_int, size: off_t) -> c_int {
        let resize = |node| Op::Resize { node, size: size.cast_unsigned() };
        on_node(fd, resize, || unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) })
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn ftruncate64(fd: c_int, size: off_t) -> c_int {
        unsafe { ftruncate(fd, size) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
        on_node(fd, |node| Op::Sync { node }, || unsafe { libc::syscall(libc::SYS_fsync, fd) })
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
        on_node(fd, |node| Op::Sync { node }, || unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
        unsafe { renameat2(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn renameat(
        from_fd: c_int,
        from: *const c_char,
        to_fd: c_int,
        to: *const c_char,
    ) -> c_int {
        unsafe { renameat2(from_fd, from, to_fd, to, 0) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn renameat2(
        from_fd: c_int,
        from: *const c_char,
        to_fd: c_int,
        to: *const c_char,
        flags: c_uint,
    ) -> c_int {
        let native = || unsafe { libc::syscall(libc::SYS_renameat2, from_fd, from, to_fd, to, flags) };
        if flags != 0 && is_lacking(&[Lacks::Exclusion, Lacks::Links]) {
            Errno::EINVAL.set();
            return -1;
        }
        unsafe { two([from_fd, to_fd], [from, to], |from, to| Op::Rename { from, to }, native) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
        unsafe { linkat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn linkat(
        from_fd: c_int,
        from: *const c_char,
        to_fd: c_int,
        to: *const c_char,
        flags: c_int,
    ) -> c_int {
        let native = || unsafe { libc::syscall(libc::SYS_linkat, from_fd, from, to_fd, to, flags) };
        if is_lacking(&[Lacks::Links]) {
            Errno::EPERM.set();
            return -1;
        }
        if flags & libc::AT_SYMLINK_FOLLOW != 0 {
            // By a link of /proc: to a file that has no name.
            let [unnamed, name] = [from, to].map(|path| unsafe { CStr::from_ptr(path) });
            let describe = |watching: &Watching| {
                let (node, _) = watching.nodes.get(&identity(from_fd, unnamed, 0)?).cloned()?;
                let (to, path) = watching.place(to_fd, name)?;
                Some((Op::Name { node, to }, path))
            };
            return perform(describe, nothing, native, nothing_after) as c_int;
        }
        unsafe { two([from_fd, to_fd], [from, to], |from, to| Op::Link { from, to }, native) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
        unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn unlinkat(fd: c_int, path: *const c_char, flags: c_int) -> c_int {
        let native = || unsafe { libc::syscall(libc::SYS_unlinkat, fd, path, flags) };
        unsafe { one(fd, path, |at, _| Op::Remove { at }, native, |_, _, _| {}) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
        unsafe { mkdirat(libc::AT_FDCWD, path, mode) }
    }

    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn mkdirat(fd: c_int, path: *const c_char, mode: mode_t) -> c_int {
        let native = || unsafe { libc::syscall(libc::SYS_mkdirat, fd, path, c_uint::from(mode)) };
        let make = |at, watching: &Watching| Op::MakeDirectory { at, node: watching.new_node() };
        unsafe { one(fd, path, make, native, |watching, name, path| watching.made(fd, name, path)) }
    }
}
