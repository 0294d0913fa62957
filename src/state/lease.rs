//! One session a maildrop: a kernel lock that dies with its holder.
//!
//! All leases of a state file are locks on single octets of one file beside it, `<state>.lock`, which is empty and
//! never deleted: a file that comes and goes would let two processes lock two files of one name. Each lease opens the
//! file anew, and the lock belongs to that opening ("open file description"), so that two tasks of one process exclude
//! each other as two processes do, and nothing but its end or a drop gives it back: no time limit, no stale lock.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::claim::{Claimed, Leaseholder};
use super::path::is_ours;
use super::{StateError, path};
use crate::disk::{blocking, durable, trust};

/// What the right to be the daemon of a state file is called among the leases on maildrops; none can have this name.
pub const DAEMON: &str = "\0daemon";

/// Pauses between two tries grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A file system may take this long for one try, however little patience there is with who has the lock.
const SHORTEST: Duration = Duration::from_secs(1);

/// The octet that is locked while a state file is created. No maildrop hashes to it but by the chance of 1 in 2^63.
const CREATION: u64 = 0;

/// The right to hold a session with one maildrop, against other processes and other tasks of this one; dropped =
/// given back.
#[derive(Debug)]
pub struct Lease {
    held: Held,
    /// The state file was there when it was taken.
    found_state: bool,
}

/// What came of waiting for a lease.
#[derive(Debug)]
pub enum Taken {
    Own(Lease),
    /// Somebody else still has it.
    Others(Option<Leaseholder>),
}

/// By what a lease is held.
#[derive(Debug)]
enum Held {
    /// Closing it gives the lock back.
    Lock(#[expect(dead_code, reason = "it is there to be dropped")] File),
    Row(Arc<Claimed>),
}

impl Lease {
    /// Takes the lease, waiting for at most `patience`; `Ok(None)` if someone else still holds it then.
    ///
    /// `state` is the path of the state file; the lock lies beside it. A missing directory is created. A file system
    /// that hangs holds up this future alone.
    pub async fn take(state: &Path, maildrop: &str, patience: Duration) -> Result<Option<Self>, StateError> {
        let mut tries = Tries::new(state, octet_of(maildrop), patience);
        let lock = path::beside(state, ".lock");
        loop {
            let tried = blocking::ask(&lock, patience.max(SHORTEST), move || {
                let outcome = tries.next();
                (tries, outcome)
            });
            let outcome;
            (tries, outcome) = tried.await.map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => StateError::Silent { path: lock.clone(), waited: patience },
                _ => StateError::Lock { path: lock.clone(), why: error.to_string() },
            })?;
            match outcome? {
                Try::Taken(lease) => return Ok(Some(lease)),
                Try::Again(pause) => tokio::time::sleep(pause).await,
                Try::GivenUp => return Ok(None),
            }
        }
    }

    /// Gives those of these maildrops on which somebody holds the lease. Nothing is made or taken.
    ///
    /// # Errors
    ///
    /// The lock cannot be looked at, or its file system does not answer.
    pub async fn held(state: &Path, maildrops: Vec<Arc<str>>) -> io::Result<HashSet<Arc<str>>> {
        let state = path::resolve(state);
        blocking::ask(&path::beside(&state, ".lock"), SHORTEST, move || {
            let is_held = |maildrop: &Arc<str>| {
                let octet = octet_of(maildrop);
                match File::open(kernel::lock_file(&state, octet)) {
                    Ok(file) => kernel::is_locked(&file, octet),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    Err(error) => Err(error),
                }
            };
            let mut held = HashSet::new();
            for maildrop in maildrops {
                if is_held(&maildrop)? {
                    held.insert(maildrop);
                }
            }
            Ok(held)
        })
        .await?
    }

    /// Makes one of a claim.
    pub fn of(claimed: Arc<Claimed>) -> Self {
        Self { held: Held::Row(claimed), found_state: true }
    }

    /// Gives the claim in the database that it is, if it is one.
    pub fn claimed(&self) -> Option<&Claimed> {
        match &self.held {
            Held::Lock(_) => None,
            Held::Row(claimed) => Some(claimed),
        }
    }

    /// Says whether the state file was there when the lease was taken.
    pub fn found_state(&self) -> bool {
        self.found_state
    }

    /// Takes the right to create the state file, on a thread that may wait.
    pub(super) fn take_creation(state: &Path, patience: Duration) -> Result<Option<Self>, StateError> {
        let mut tries = Tries::new(state, CREATION, patience);
        loop {
            match tries.next()? {
                Try::Taken(lease) => return Ok(Some(lease)),
                Try::Again(pause) => std::thread::sleep(pause),
                Try::GivenUp => return Ok(None),
            }
        }
    }
}

/// The lock file, once it is open, and the patience that is left. The kernel could wait for us, but not with a time
/// limit.
struct Tries {
    state: PathBuf,
    lock: Option<(PathBuf, File)>,
    octet: u64,
    end: Instant,
    pause: Duration,
}

enum Try {
    Taken(Lease),
    Again(Duration),
    GivenUp,
}

impl Tries {
    fn new(state: &Path, octet: u64, patience: Duration) -> Self {
        let end = Instant::now() + patience;
        Self { state: state.to_owned(), lock: None, octet, end, pause: PAUSES.0 }
    }

    fn next(&mut self) -> Result<Try, StateError> {
        let (path, lock) = match self.lock.take() {
            Some(opened) => opened,
            None => self.open()?,
        };
        if kernel::try_lock(&lock, self.octet).map_err(|error| cannot(&path, &error))? {
            return Ok(Try::Taken(Lease { held: Held::Lock(lock), found_state: self.state.exists() }));
        }
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Try::GivenUp);
        }
        self.lock = Some((path, lock));
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(Try::Again(pause))
    }

    fn open(&self) -> Result<(PathBuf, File), StateError> {
        path::check(&self.state)?;
        let state = path::resolve(&self.state);
        path::make_directory_of(&state)?;
        let path = kernel::lock_file(&state, self.octet);
        let lock = open(&path).map_err(|error| cannot(&path, &error))?;
        Ok((path, lock))
    }
}

/// Gives the octet that stands for a maildrop: 63 bits of SHA-256, since offsets are signed.
fn octet_of(maildrop: &str) -> u64 {
    let digest = Sha256::digest(maildrop);
    let (first, _) = digest.split_first_chunk().expect("SHA-256 has more than 8 octets");
    // The lock's end, one octet on, must be an offset as well.
    (u64::from_be_bytes(*first) >> 1).min(i64::MAX as u64 - 1)
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // Whoever can put a link there does not have another file opened, or its mode changed.
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    // The umask may have taken bits, and a mode given once may be wider; neither keeps us from locking.
    let found = file.metadata()?;
    trust::check_owner(nix::unistd::Uid::from_raw(found.uid()), path)?;
    if found.mode() & 0o777 != 0o600 && is_ours(&found) {
        durable::make_private(&file)?;
    }
    Ok(file)
}

fn cannot(path: &Path, error: &io::Error) -> StateError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StateError::Full { path: path.to_owned() }
        }
        _ if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            StateError::Unfit { path: path.to_owned(), why: "it is a symbolic link; remove it".to_owned() }
        }
        _ if error.raw_os_error().is_none() => {
            StateError::Unfit { path: path.to_owned(), why: error.to_string() }
        }
        _ => StateError::Lock { path: path.to_owned(), why: error.to_string() },
    }
}

/// Locks on octets that belong to the open file description (`F_OFD_SETLK`, Linux 3.15).
#[cfg(target_os = "linux")]
mod kernel {
    use std::fs::File;
    use std::io;
    use std::path::{Path, PathBuf};

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    pub(super) fn lock_file(state: &Path, _octet: u64) -> PathBuf {
        super::path::beside(state, ".lock")
    }

    fn lock(octet: u64) -> libc::flock {
        libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: octet.cast_signed(),
            l_len: 1,
            l_pid: 0,
        }
    }

    pub(super) fn is_locked(file: &File, octet: u64) -> io::Result<bool> {
        let mut lock = lock(octet);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    }

    pub(super) fn try_lock(file: &File, octet: u64) -> io::Result<bool> {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock(octet))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Elsewhere: flock, which belongs to the open file description too but locks whole files, so each maildrop has one.
#[cfg(any(not(target_os = "linux"), test))]
mod whole_files {
    use std::fs::{File, TryLockError};
    use std::io;
    use std::path::{Path, PathBuf};

    pub(super) fn lock_file(state: &Path, octet: u64) -> PathBuf {
        super::path::beside(state, &format!(".lock.{octet:016x}"))
    }

    pub(super) fn is_locked(file: &File, octet: u64) -> io::Result<bool> {
        try_lock(file, octet).map(|taken| !taken)
    }

    pub(super) fn try_lock(file: &File, _octet: u64) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(not(target_os = "linux"))]
use whole_files as kernel;

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    use super::*;

    const CHILD: &str = "POSTRIDER_TEST_LEASE";
    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(60);

    async fn take(state: &Path, maildrop: &str, patience: Duration) -> Option<Lease> {
        Lease::take(state, maildrop, patience).await.unwrap()
    }

    #[tokio::test]
    async fn two_tasks_of_one_process_exclude_each_other_for_one_maildrop_only() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("new").join("state.db");
        let first = take(&state, "a@h", NOW).await.unwrap();
        assert!(take(&state, "a@h", NOW).await.is_none());
        let other = take(&state, "b@h", NOW).await;
        assert!(other.is_some());
        drop(first);
        assert!(take(&state, "a@h", NOW).await.is_some());
        assert!(take(&state, "b@h", NOW).await.is_none());
    }

    #[tokio::test]
    async fn a_lease_given_back_in_time_is_taken_by_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        let first = take(&state, "a@h", NOW).await.unwrap();
        let mut waiting = tokio::spawn({
            let state = state.clone();
            async move { take(&state, "a@h", LONG).await.is_some() }
        });
        assert!(tokio::time::timeout(PAUSES.1, &mut waiting).await.is_err(), "it is held");
        drop(first);
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn a_file_system_that_hangs_does_not_hang_the_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // What would be a system call that does not return has the only thread for those.
            let (release, released) = std::sync::mpsc::channel::<()>();
            let hangs = tokio::task::spawn_blocking(move || released.recv());
            let taken = take(&state, "a@h", NOW);
            tokio::pin!(taken);
            assert!(
                tokio::time::timeout(PAUSES.1, &mut taken).await.is_err(),
                "the runtime did it by itself"
            );
            drop(release);
            assert!(hangs.await.unwrap().is_err());
            assert!(taken.await.is_some());
        });
    }

    #[tokio::test]
    async fn two_names_of_one_state_file_have_one_lease() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        File::create(&state).unwrap();
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(&state, &link).unwrap();
        let _first = take(&state, "a@h", NOW).await.unwrap();
        assert!(take(&link, "a@h", NOW).await.is_none());
    }

    #[tokio::test]
    async fn a_lease_excludes_other_processes_and_ends_with_its_holder() {
        if let Some(state) = std::env::var_os(CHILD) {
            let _lease = take(Path::new(&state), "a@h", NOW).await.unwrap();
            println!("taken");
            // Until it is killed.
            let _ = std::io::stdin().read(&mut [0]);
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["state::lease::tests::a_lease_excludes_other_processes_and_ends_with_its_holder"])
            .args(["--exact", "--nocapture"])
            .env(CHILD, &state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("taken")));
        assert!(take(&state, "a@h", NOW).await.is_none());
        assert!(take(&state, "b@h", NOW).await.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(take(&state, "a@h", NOW).await.is_some());
    }

    #[test]
    fn locks_of_whole_files_exclude_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        let file = |maildrop| open(&whole_files::lock_file(&state, octet_of(maildrop))).unwrap();
        let (first, second, other) = (file("a@h"), file("a@h"), file("b@h"));
        assert!(whole_files::try_lock(&first, 0).unwrap());
        assert!(!whole_files::try_lock(&second, 0).unwrap());
        assert!(whole_files::try_lock(&other, 0).unwrap());
        assert!(whole_files::is_locked(&second, 0).unwrap());
        drop(first);
        assert!(!whole_files::is_locked(&file("a@h"), 0).unwrap());
        assert!(whole_files::try_lock(&second, 0).unwrap());
    }

    #[tokio::test]
    async fn a_lock_file_that_is_a_link_is_neither_followed_nor_changed() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (state, other) = (directory.path().join("state.db"), directory.path().join("other"));
        std::fs::write(&other, "").unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&other, path::beside(&state, ".lock")).unwrap();
        let error = Lease::take(&state, "a@h", NOW).await.unwrap_err();
        assert_eq!(error.hint(), None, "it could be written, and says what to do");
        let told = error.to_string();
        assert!(told.contains("state.db.lock: it is a symbolic link"), "{told}");
        assert_eq!(std::fs::metadata(&other).unwrap().mode() & 0o777, 0o644);
    }

    #[tokio::test]
    async fn a_lock_file_that_cannot_be_opened_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        std::fs::create_dir(path::beside(&state, ".lock")).unwrap();
        let error = Lease::take(&state, "a@h", NOW).await.unwrap_err();
        assert!(matches!(error, StateError::Lock { .. }));
        assert!(error.to_string().starts_with("cannot lock "), "{error}");
    }
}
