//! The system calls that change files, interposed: written down in the order in which they happen, and failing where
//! a test wants them to.
//!
//! The functions of `interposed` have the names of the C library's, so that everything that is linked into the test program
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

#[path = "interposed.rs"]
mod interposed;

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
use nix::libc::{self, c_int, c_long};

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
