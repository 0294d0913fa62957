//! Calls that may block for ever (a file on a server that is away, a program on one, a user in a directory service), on
//! threads that may, and each with a deadline.
//!
//! A path that has not answered in time is not asked again before it has: whoever comes meanwhile is told at once, and
//! it holds no more threads than had asked by then.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Paths that have not answered in time, and since when they were asked.
static SILENT: Mutex<Option<HashMap<PathBuf, Instant>>> = Mutex::new(None);

/// Does blocking work about a path, and waits for its result for `patience` at most.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`]; a panic in the work is another error.
pub(crate) async fn ask<T: Send + 'static>(
    about: &Path,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let since = lock(&SILENT).as_ref().and_then(|silent| silent.get(about).copied());
    if let Some(since) = since {
        return Err(silence(since.elapsed()));
    }
    let began = Instant::now();
    let mut working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(patience, &mut working).await {
        Ok(done) => done.map_err(io::Error::other),
        Err(_) => {
            let path = about.to_owned();
            lock(&SILENT).get_or_insert_default().insert(path.clone(), began);
            drop(tokio::spawn(async move {
                // Whatever it found, nobody waits for it any more.
                let _ = working.await;
                if let Some(silent) = &mut *lock(&SILENT) {
                    silent.remove(&path);
                }
            }));
            Err(silence(patience))
        }
    }
}

/// Does work that takes the processor a while beside the thread that serves all accounts. A panic in it goes on here.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Does blocking work on files, on a thread that is gone when it has answered; the caller waits, for `patience` at most.
/// Where nothing is mounted that may hang, it does it itself.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`]; no thread, and a panic in the work there, are other errors.
pub(crate) fn wait<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if nothing_hangs() { Ok(work()) } else { on_a_thread(patience, work) }
}

fn on_a_thread<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (answered, answer) = mpsc::sync_channel(1);
    let working = std::thread::Builder::new().name("wait".to_owned());
    // Whoever does not wait any more hears nothing.
    let working = working.spawn(move || drop(answered.send(work())))?;
    match answer.recv_timeout(patience) {
        Err(mpsc::RecvTimeoutError::Timeout) => Err(silence(patience)),
        answer => {
            // It only has to return.
            let _ = working.join();
            answer.map_err(io::Error::other)
        }
    }
}

/// Gives the first of these paths that does not answer within `patience`, there or not. They are looked at by a thread
/// that is gone when all have answered; the caller waits. Where nothing is mounted that may hang, nothing is looked at.
pub(crate) fn first_silent(paths: Vec<PathBuf>, patience: Duration) -> Option<PathBuf> {
    if nothing_hangs() {
        return None;
    }
    let (answered, answers) = mpsc::channel();
    let asked = paths.clone();
    let asking = std::thread::Builder::new().name("look".to_owned()).spawn(move || {
        for path in asked {
            // What it is, or that it is not, is for others to ask.
            let _ = std::fs::metadata(path);
            if answered.send(()).is_err() {
                return;
            }
        }
    });
    // Without a thread nobody is asked, and whoever asks then waits.
    let asking = asking.ok()?;
    let end = Instant::now() + patience;
    for path in paths {
        if answers.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
            return Some(path);
        }
    }
    // It only has to return.
    let _ = asking.join();
    None
}

/// File systems that nobody else has to answer for: of disks, of memory, and the kernel's own.
const LOCAL: [&str; 36] = [
    "bcachefs",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "mqueue",
    "nsfs",
    "ntfs3",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "udf",
    "vfat",
    "xfs",
];

/// Says whether no file system is mounted that may hang, as far as was seen within a second. To look, and to find none,
/// costs less than a thread's turn.
fn nothing_hangs() -> bool {
    static SEEN: Mutex<Option<(Instant, bool)>> = Mutex::new(None);
    let mut seen = lock(&SEEN);
    match *seen {
        Some((at, found)) if at.elapsed() < Duration::from_secs(1) => found,
        _ => {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo");
            seen.insert((Instant::now(), mounts.is_ok_and(|mounts| are_local(&mounts)))).1
        }
    }
}

/// Says whether all that is mounted is local; proc_pid_mountinfo(5) has the format.
fn are_local(mounts: &str) -> bool {
    let is_local = |mount: &str| {
        let (_, file_system) = mount.split_once(" - ")?;
        Some(LOCAL.contains(&file_system.split(' ').next()?))
    };
    !mounts.is_empty() && mounts.lines().all(|mount| is_local(mount) == Some(true))
}

/// Makes the error of a file system that does not answer.
pub(crate) fn silence(lasted: Duration) -> io::Error {
    let lasted = match lasted.as_secs() {
        0 => lasted,
        seconds => Duration::from_secs(seconds),
    };
    let what = format!("the file system has not answered for {}", humantime::format_duration(lasted));
    io::Error::new(io::ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_waited_for_no_longer_than_that() {
        assert_eq!(on_a_thread(Duration::from_secs(60), || 1).unwrap(), 1);
        let (release, released) = mpsc::channel::<()>();
        let error = on_a_thread(Duration::from_millis(20), move || released.recv().is_err()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(release);
        let error =
            on_a_thread(Duration::from_secs(60), || panic!("as it should")).map(|(): ()| ()).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn only_what_is_mounted_from_elsewhere_may_hang() {
        let disk = "36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n";
        let memory = "37 35 0:5 /a - b /tmp rw shared:7 - tmpfs tmpfs rw\n";
        assert!(are_local(disk));
        assert!(!are_local(&format!("{disk}38 35 0:44 / /home rw - nfs4 server:/home rw\n{disk}")));
        assert!(!are_local(&format!("{disk}39 35 0:45 / /cloud rw - fuse.sshfs host: rw\n")));
        assert!(!are_local(memory), "who mounts such a name may have the threads look");
        assert!(!are_local(""));
    }

    #[tokio::test]
    async fn a_path_that_does_not_answer_is_given_up_and_not_asked_again_until_it_has() {
        let (path, patience) = (Path::new("/blocking/one"), Duration::from_millis(20));
        let (release, released) = mpsc::channel::<()>();
        let hangs = ask(path, patience, move || released.recv().is_err()).await.unwrap_err();
        assert_eq!(hangs.to_string(), "the file system has not answered for 20ms");
        let again = ask(path, Duration::from_secs(60), || ()).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::TimedOut);
        assert_eq!(ask(Path::new("/blocking/two"), Duration::from_secs(60), || 2).await.unwrap(), 2);
        drop(release);
        while ask(path, Duration::from_secs(60), || ()).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
