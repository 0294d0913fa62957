//! The C library's functions, with its contracts.

use std::ffi::CStr;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use nix::errno::Errno;
use nix::libc::{self, c_char, c_int, c_long, c_uint, c_void, mode_t, off_t, size_t, ssize_t};

use super::{ACTIVE, Lacks, Node, Op, Place, Watching, identity, lock, perform};

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

/// Says whether the disk that is watched lacks something; the tests beside have whole ones.
fn is_lacking(any: &[Lacks]) -> bool {
    ACTIVE.load(SeqCst) && lock().as_ref().is_some_and(|watching| any.contains(&watching.wanted.lacks))
}

fn nothing(_: &mut Watching) {}

fn nothing_after(_: &mut Watching, _: &Path, _: c_long) {}
