//! The mbox target: its format, its locks, and what is left of it after faults.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use crate::sink::{assert_unlocked, deliver, mbox, mbox_file, open, scratch};
use crate::support::mounted::Mounted;
#[cfg(target_os = "linux")]
use crate::system::{Entry, Fault, Lasts, Op, Watch};
use nix::errno::Errno;
use postrider::testing::config::Target;
use postrider::testing::delivery::Outcome;
use postrider::testing::disk::{Disk, Limits};

const HELLO: &[u8] = b"Return-Path: <bob@example.org>\r\nSubject: hello\r\n\r\nFrom here\r\n";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_new_mbox_is_for_its_owner_only_and_is_made_durable_with_its_name() {
    let dir = scratch();
    let watch = Watch::of(dir.path());
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    assert!(!dir.path().join("mbox").exists(), "made before there is a message");
    assert_eq!(deliver(&sink, &[("1", HELLO)]).await.unwrap(), [Outcome::Delivered]);
    let text = fs::read_to_string(dir.path().join("mbox")).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    assert!(
        line.starts_with("From bob@example.org ") && line.len() == "From bob@example.org ".len() + 24,
        "{line}"
    );
    assert_eq!(rest, "Return-Path: <bob@example.org>\nSubject: hello\n\n>From here\n\n");
    assert_eq!(fs::metadata(dir.path().join("mbox")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_unlocked(dir.path());

    let entries = watch.end();
    let place = |path: &str, wanted: fn(&Op) -> bool| {
        let is_meant =
            |entry: &Entry| entry.path == Path::new(path) && entry.error.is_none() && wanted(&entry.op);
        entries.iter().rposition(is_meant).expect("the operation was done")
    };
    let appended = place("mbox", |op| matches!(op, Op::Write { .. }));
    let synced = place("mbox", |op| matches!(op, Op::Sync { .. }));
    let named = place("", |op| matches!(op, Op::Sync { .. }));
    let released = place("mbox.lock", |op| matches!(op, Op::Remove { .. }));
    assert!(appended < synced && synced < named && named < released);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_batch_costs_one_pair_of_locks_and_one_fsync() {
    let dir = scratch();
    let watch = Watch::of(dir.path());
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    let uids: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let batch: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), HELLO)).collect();
    assert_eq!(deliver(&sink, &batch).await.unwrap(), vec![Outcome::Delivered; 50]);
    let entries = watch.end();
    let count = |path: &str, wanted: fn(&Op) -> bool| {
        entries.iter().filter(|entry| entry.path == Path::new(path) && wanted(&entry.op)).count()
    };
    assert_eq!(count("mbox", |op| matches!(op, Op::Lock { .. })), 1);
    assert_eq!(count("mbox.lock", |op| matches!(op, Op::Create { .. } | Op::Name { .. })), 1);
    assert_eq!(count("mbox", |op| matches!(op, Op::Sync { .. })), 1);
    assert_eq!(mbox_file(dir.path()).len(), 50);
}

#[tokio::test]
async fn what_is_no_mbox_is_refused_and_stays_as_it_is() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("notes"), "Dear diary\n").unwrap();
    fs::write(at("real"), "").unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    std::os::unix::fs::symlink("missing", at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (name, what) in [
        ("notes", "is not an mbox: it does not begin with `From `"),
        ("link", "not a regular file"),
        ("dangling", "not a regular file"),
        ("directory", "not a regular file"),
        ("fifo", "not a regular file"),
        ("socket", "not a regular file"),
        ("absent/mbox", "there is no such directory"),
        ("real/mbox", "is not a directory"),
    ] {
        let error = open(&Target::Mbox(at(name)), &Disk::new()).await.unwrap_err();
        assert!(error.to_string().contains(what), "{name}: {error}");
    }
    for target in ["/dev/null", "/"] {
        assert!(open(&Target::Mbox(target.into()), &Disk::new()).await.is_err(), "{target}");
    }
    assert_eq!(fs::read(at("notes")).unwrap(), b"Dear diary\n");
    assert_eq!(fs::read(at("real")).unwrap(), b"");
    assert!(!at("missing").exists() && !at("absent").exists());
    // What takes its place after it was opened is refused as well.
    let sink = open(&Target::Mbox(at("later")), &Disk::new()).await.unwrap();
    std::os::unix::fs::symlink("real", at("later")).unwrap();
    deliver(&sink, &[("1", HELLO)]).await.unwrap_err();
    assert_eq!(fs::read(at("real")).unwrap(), b"");
}

#[tokio::test]
async fn a_message_begins_after_an_empty_line_whatever_the_file_ends_with() {
    for (before, gap) in [
        ("From a Mon\nx\n\n", ""),
        ("From a Mon\nx\n", "\n"),
        ("From a Mon\nhalf a li", "\n\n"),
        ("From ", "\n\n"),
    ] {
        let dir = scratch();
        fs::write(dir.path().join("mbox"), before).unwrap();
        let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
        deliver(&sink, &[("1", HELLO)]).await.unwrap();
        let after = fs::read_to_string(dir.path().join("mbox")).unwrap();
        let expected = format!("{before}{gap}From bob@example.org ");
        assert!(after.starts_with(&expected), "{before:?}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_stays_puts_the_batch_off_after_30_seconds_and_says_who_has_it() {
    let dir = scratch();
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    deliver(&sink, &[("0", HELLO)]).await.unwrap();
    // A process that lives, however old its lock is.
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (words, age, holder) in [
        (format!("{}:{host}", sleeper.id()), 10_000, format!("process {}", sleeper.id())),
        ("0".into(), 60, "another program".into()),
        (format!("1:elsewhere.{host}"), 60, format!("a process on elsewhere.{host}")),
    ] {
        lock_file(dir.path(), &words, age);
        age_file(&dir.path().join("mbox"), age);
        let begun = tokio::time::Instant::now();
        let outcomes = deliver(&sink, &[("1", HELLO), ("2", HELLO)]).await.unwrap();
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_secs(30) && waited < Duration::from_secs(32), "{waited:?}");
        let [Outcome::Later(reason), Outcome::Later(_)] = &outcomes[..] else { panic!("{outcomes:?}") };
        let expected = format!(
            "gave up after 30s waiting for its lock, which {holder} ({}/mbox.lock) holds",
            dir.path().display()
        );
        assert!(reason.ends_with(&expected), "{reason}");
        assert_eq!(fs::read_to_string(dir.path().join("mbox.lock")).unwrap(), words);
        assert_eq!(mbox_file(dir.path()).len(), 1);
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    // Put off, not lost: the next time it goes in.
    fs::remove_file(dir.path().join("mbox.lock")).unwrap();
    assert_eq!(deliver(&sink, &[("1", HELLO)]).await.unwrap(), [Outcome::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_taken_over_only_if_its_holder_is_dead_or_nothing_changed_for_two_minutes() {
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let own = std::process::id();
    for (words, lock_age, mbox_age, stale) in [
        (format!("{}:{host}", dead.id()), 0, 0, true),
        (format!("{}:elsewhere.{host}", dead.id()), 0, 200, false),
        // Of a container's earlier life, where we had the same number.
        (format!("{own}:{host}"), 200, 200, true),
        (format!("{own}:{host}"), 60, 200, false),
        ("0".into(), 200, 200, true),
        ("0".into(), 200, 60, false),
        ("0".into(), 60, 200, false),
        (String::new(), 119, 200, false),
        (String::new(), 200, 200, true),
        // By a clock that is ahead.
        (String::new(), -1000, -1000, false),
    ] {
        let dir = scratch();
        let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
        deliver(&sink, &[("0", HELLO)]).await.unwrap();
        lock_file(dir.path(), &words, lock_age);
        age_file(&dir.path().join("mbox"), mbox_age);
        let outcomes = deliver(&sink, &[("1", HELLO)]).await.unwrap();
        let case = format!("{words:?}, changed {lock_age} s ago, mbox {mbox_age} s ago: {outcomes:?}");
        assert_eq!(outcomes == [Outcome::Delivered], stale, "{case}");
        assert_eq!(dir.path().join("mbox.lock").exists(), !stale, "{case}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stale_lock_that_another_takes_over_at_the_same_moment_is_not_taken_from_him() {
    let dir = scratch();
    let path = dir.path().to_owned();
    let once = Once::new();
    fs::write(dir.path().join("mbox"), "").unwrap();
    lock_file(dir.path(), "0", 1000);
    age_file(&dir.path().join("mbox"), 1000);
    // Between the first look at the lock and the second, another program removes it and makes its own.
    let _watch = Watch::telling(dir.path(), move |op, at| {
        if matches!(op, Op::Open { .. }) && at == Path::new("mbox.lock") {
            once.call_once(|| {
                fs::remove_file(path.join("mbox.lock")).unwrap();
                fs::write(path.join("mbox.lock"), "theirs").unwrap();
            });
        }
    });
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    let commit = deliver(&sink, &[("1", HELLO)]);
    assert!(tokio::time::timeout(Duration::from_millis(300), commit).await.is_err(), "it was delivered");
    assert_eq!(fs::read_to_string(dir.path().join("mbox.lock")).unwrap(), "theirs");
    assert_eq!(fs::read(dir.path().join("mbox")).unwrap(), b"");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_another_made_of_our_lock_is_not_removed() {
    let dir = scratch();
    let path = dir.path().to_owned();
    // We slept for so long that another program took our lock for stale.
    let _watch = Watch::telling(dir.path(), move |op, at| {
        if matches!(op, Op::Sync { .. }) && at == Path::new("mbox") {
            fs::remove_file(path.join("mbox.lock")).unwrap();
            fs::write(path.join("mbox.lock"), "theirs").unwrap();
        }
    });
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    deliver(&sink, &[("1", HELLO)]).await.unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("mbox.lock")).unwrap(), "theirs");
}

#[tokio::test]
async fn waiting_for_a_lock_ends_with_whoever_waits_and_holds_no_other() {
    let dir = scratch();
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    let holder = Fcntl::lock(&dir.path().join("mbox"));
    let commit = deliver(&sink, &[("1", HELLO)]);
    assert!(tokio::time::timeout(Duration::from_millis(200), commit).await.is_err());
    assert_unlocked(dir.path());
    holder.release();
    assert_eq!(deliver(&sink, &[("1", HELLO)]).await.unwrap(), [Outcome::Delivered]);
    assert_eq!(mbox_file(dir.path()).len(), 1, "the one that was given up came too");
}

#[tokio::test]
async fn a_lock_that_is_released_is_soon_noticed() {
    let dir = scratch();
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    let holder = Fcntl::lock(&dir.path().join("mbox"));
    let messages = [("1", HELLO)];
    let mut commit = std::pin::pin!(deliver(&sink, &messages));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut commit).await.is_err());
    holder.release();
    let outcomes = tokio::time::timeout(Duration::from_secs(5), commit).await.expect("noticed").unwrap();
    assert_eq!(outcomes, [Outcome::Delivered]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn while_we_append_no_other_program_gets_a_lock() {
    let dir = scratch();
    let path = dir.path().join("mbox");
    let (said, heard) = std::sync::mpsc::channel();
    let at = path.clone();
    let _watch = Watch::telling(dir.path(), move |op, on| {
        if matches!(op, Op::Write { .. } | Op::Sync { .. }) && on == Path::new("mbox") {
            let dot_lock = Command::new("lockfile").args(["-r", "0"]).arg(at.with_extension("lock")).output();
            said.send((
                Fcntl::can_lock(&at),
                dot_lock.expect("lockfile (Debian: procmail)").status.success(),
            ))
            .unwrap();
        }
    });
    let sink = open(&Target::Mbox(path.clone()), &Disk::new()).await.unwrap();
    deliver(&sink, &[("1", HELLO)]).await.unwrap();
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(false, false); 2]);
    assert!(Fcntl::can_lock(&path), "still locked");
    assert_unlocked(dir.path());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_being_locked_is_not_appended_to() {
    let dir = scratch();
    let path = dir.path().join("mbox");
    fs::write(&path, "").unwrap();
    let (at, once) = (path.clone(), Once::new());
    let _watch = Watch::telling(dir.path(), move |op, _| {
        if matches!(op, Op::Lock { .. }) {
            once.call_once(|| {
                fs::rename(&at, at.with_extension("old")).unwrap();
                fs::write(&at, "").unwrap();
            });
        }
    });
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    assert_eq!(deliver(&sink, &[("1", HELLO)]).await.unwrap(), [Outcome::Delivered]);
    assert_eq!(fs::read(path.with_extension("old")).unwrap(), b"");
    assert_eq!(mbox_file(dir.path()).len(), 1);
}

// Paused, since a dot-lock that could not be removed is waited for in vain.
#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn whatever_operation_fails_the_mbox_is_as_before_or_whole() {
    let large = [b"Subject: large\r\n\r\n", &b"A line of a large message\r\n".repeat(10_000)[..]].concat();
    let batch: [(&str, &[u8]); 3] = [("1", HELLO), ("2", &large), ("3", HELLO)];
    let operations = {
        let dir = scratch();
        let watch = Watch::of(dir.path());
        let disk = Disk::within(Limits { workers: 1, ..Limits::default() });
        let sink = open(&mbox(dir.path()), &disk).await.unwrap();
        deliver(&sink, &[("0", HELLO)]).await.unwrap();
        deliver(&sink, &batch).await.unwrap();
        disk.settled().await;
        watch.end().len()
    };
    let (mut failed, mut put_off) = (0, 0);
    for errno in [Errno::EIO, Errno::ENOSPC] {
        for at in 0..operations {
            let dir = scratch();
            let fault = Fault { at, errno, lasts: Lasts::Once };
            let watch = Watch::failing(dir.path(), fault);
            let disk = Disk::within(Limits { workers: 1, ..Limits::default() });
            let Ok(sink) = open(&mbox(dir.path()), &disk).await else { continue };
            let file = || fs::read(dir.path().join("mbox")).unwrap_or_default();
            let failed_at =
                || watch.look(|entries| entries.iter().find(|entry| entry.error == Some(errno)).cloned());
            if deliver(&sink, &[("0", HELLO)]).await.is_err() {
                assert_eq!(file(), b"", "after {:?}", failed_at());
                continue;
            }
            let before = file();
            let outcomes = deliver(&sink, &batch).await;
            disk.settled().await;
            // How many operations there are depends on how parts of the large message fall together.
            let Some(Entry { op: operation, .. }) = failed_at() else { continue };
            match outcomes {
                Ok(outcomes) => {
                    let delivered = outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count();
                    put_off += 3 - delivered;
                    assert_eq!(mbox_file(dir.path()).len(), 1 + delivered, "{errno} in {operation:?}");
                    assert!(delivered == 3 || outcomes[1] != Outcome::Delivered, "{errno} in {operation:?}");
                }
                Err(error) => {
                    failed += 1;
                    assert!(file() == before, "{errno} in {operation:?}: {error}");
                }
            }
            if !matches!(operation, Op::Remove { .. }) {
                assert_unlocked(dir.path());
            }
        }
    }
    assert!(failed > 10 && put_off > 0, "{failed} failed, {put_off} put off");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_failed_fsync_is_not_repeated() {
    let dir = scratch();
    fs::write(dir.path().join("mbox"), "").unwrap();
    let syncs = |entry: &Entry| matches!(entry.op, Op::Sync { .. }) && entry.path == Path::new("mbox");
    let at = {
        let watch = Watch::of(dir.path());
        let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
        deliver(&sink, &[("0", HELLO)]).await.unwrap();
        watch.end().iter().position(syncs).unwrap()
    };
    fs::write(dir.path().join("mbox"), "").unwrap();
    let watch = Watch::failing(dir.path(), Fault { at, errno: Errno::EIO, lasts: Lasts::Once });
    let sink = open(&mbox(dir.path()), &Disk::new()).await.unwrap();
    let error = deliver(&sink, &[("1", HELLO)]).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot make durable"), "{error}");
    let count = watch.end().into_iter().filter(syncs).count();
    assert_eq!((count, fs::read(dir.path().join("mbox")).unwrap()), (1, Vec::new()));
}

#[tokio::test]
async fn a_full_disk_leaves_no_part_of_a_message_and_small_ones_still_fit() {
    let dir = scratch();
    let Some(mounted) = Mounted::tmpfs(dir.path().join("small"), "1m") else { return };
    let at = mounted.path();
    let sink = open(&mbox(at), &Disk::new()).await.unwrap();
    let huge = b"octets of a huge message\r\n".repeat(60_000);
    let outcomes = deliver(&sink, &[("1", HELLO), ("2", &huge), ("3", HELLO)]).await.unwrap();
    let [Outcome::Delivered, Outcome::Later(reason), Outcome::Delivered] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("No space left on device"), "{reason}");
    assert_eq!(mbox_file(at).len(), 2);
    // Until nothing fits any more: then it is the target that fails.
    let medium = b"octets of a medium one\r\n".repeat(2_000);
    let error = loop {
        let before = fs::read(at.join("mbox")).unwrap();
        if let Err(error) = deliver(&sink, &[("4", &medium)]).await {
            assert!(fs::read(at.join("mbox")).unwrap() == before, "{error}");
            break error;
        }
    };
    assert!(error.hint().is_some_and(|hint| hint.contains("free space")), "{error}");
}

/// A program that holds the kernel's lock on a file, made by Python's `fcntl.lockf`.
struct Fcntl(Child);

impl Fcntl {
    fn lock(path: &Path) -> Self {
        let script = "import fcntl,sys\nf=open(sys.argv[1],'a+b')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()";
        let mut child =
            python(script, path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).expect("the lock is held");
        Self(child)
    }

    fn release(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    fn can_lock(path: &Path) -> bool {
        let script =
            "import fcntl,sys\nf=open(sys.argv[1],'a+b')\nfcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)";
        python(script, path).stderr(Stdio::null()).status().expect("python3").success()
    }
}

fn python(script: &str, path: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path);
    command
}

fn lock_file(dir: &Path, words: &str, age: i64) {
    fs::write(dir.join("mbox.lock"), words).unwrap();
    age_file(&dir.join("mbox.lock"), age);
}

/// Has a file look as if it was changed so many seconds ago.
fn age_file(path: &Path, age: i64) {
    let now = SystemTime::now();
    let span = Duration::from_secs(age.unsigned_abs());
    let then = if age < 0 { now + span } else { now - span };
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}
