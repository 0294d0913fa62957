//! What lies on the disk, and what readers make of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::state::lease::DAEMON;
use crate::state::outlook::{Seen, Which};
use crate::state::path::beside;

#[tokio::test]
async fn the_files_are_private_whatever_the_umask() {
    let (directory, path) = directory();
    let path = path.with_file_name("new").join("deep").join("state.db");
    // The umask is the process's, so a child sets it.
    let test = "files::the_files_are_private_whatever_the_umask";
    if let Some(path) = child_path() {
        let store = made(&path).await;
        let memory = begin(&store).await;
        record(&store, &memory.key, 1, &["a"]).await;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let mode = fs::metadata(beside(&path, suffix)).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600, "{suffix} has mode {mode:o}");
        }
        for made in [path.parent().unwrap(), path.parent().unwrap().parent().unwrap()] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
        }
        return;
    }
    for umask in ["0", "0077"] {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("umask {umask}; exec \"$@\"")).arg("sh");
        let direct = child(&this_program(), test, &path);
        shell.arg(direct.get_program()).args(direct.get_args()).env(CHILD, &path);
        must_pass(shell);
        fs::remove_dir_all(directory.path().join("new")).unwrap();
    }
}

#[tokio::test]
async fn a_state_file_that_others_can_read_is_taken_from_them() {
    let (_directory, path) = directory();
    session(&Store::open(&path), |_| listed(1)).await;
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    begin(&Store::open(&path)).await;
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_clean_end_leaves_one_file_that_holds_everything() {
    let (_directory, path) = directory();
    let store = Store::open(&path);
    let memory = begin(&store).await;
    record(&store, &memory.key, 1, &["a"]).await;
    drop(store);
    assert!(
        !beside(&path, "-wal").exists() && !beside(&path, "-shm").exists() && !beside(&path, ".new").exists()
    );
    let copy = path.with_file_name("copy.db");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(names(&Store::open(&copy)).await, ["a"]);
}

#[tokio::test]
async fn leftovers_of_a_creation_that_was_killed_are_no_obstacle() {
    let (_directory, path) = directory();
    fs::write(beside(&path, ".new"), b"half").unwrap();
    fs::write(&path, b"").unwrap();
    assert!(is_fresh(&begin(&Store::open(&path)).await));
    assert!(!beside(&path, ".new").exists());
}

#[tokio::test]
async fn a_session_that_writes_nothing_leaves_no_file_and_one_that_is_closed_leaves_one() {
    let (_directory, path) = directory();
    let store = Store::open(&path);
    let memory = begin(&store).await;
    assert!(!path.exists());
    store.close(&memory.key, &memory.entries, listed(5)).await.unwrap();
    assert!(path.exists() && !beside(&path, ".new").exists() && !beside(&path, "-wal").exists());
    assert_eq!(begin(&store).await.listed_at, Some(5));
    let mode: String = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn two_processes_that_make_the_file_both_find_all_in_it() {
    let (_directory, path) = directory();
    let (one, other) = (Store::open(&path), Store::open(&path));
    let (ones, others) = (begin(&one).await, begin(&other).await);
    record(&one, &ones.key, 1, &["a"]).await;
    record(&other, &others.key, 1, &["b"]).await;
    record(&one, &ones.key, 1, &["c"]).await;
    assert_eq!(names(&other).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_state_file_that_was_replaced_is_not_written_into_the_void() {
    let (_directory, path) = directory();
    let store = made(&path).await;
    let memory = begin(&store).await;
    record(&store, &memory.key, 1, &["a"]).await;
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(beside(&path, suffix)).unwrap();
    }
    let other = Store::open(&path);
    let theirs = begin(&other).await;
    record(&other, &theirs.key, 1, &["theirs"]).await;
    let error = store.record(&memory.key, 1, vec![delivery("b", 0)]).await.unwrap_err();
    assert_eq!(error, StateError::Replaced { path: path.clone() });
    // From the next session on it works with the new file, and has not harmed it.
    assert_eq!(names(&store).await, ["theirs"]);
    record(&other, &theirs.key, 1, &["more"]).await;
    drop(store);
    assert_eq!(names(&Store::open(&path)).await, ["more", "theirs"], "the log of the new file was removed");
}

#[tokio::test]
async fn a_reader_of_a_missing_file_finds_nothing_and_creates_nothing() {
    let (directory, path) = directory();
    for path in [&path, &path.with_file_name("missing").join("state.db")] {
        let store = Store::open_read_only(path);
        assert_eq!(store.status().await.unwrap(), []);
        assert_eq!(store.seen(ALICE.into()).await.unwrap(), []);
        assert!(is_fresh(&begin(&store).await));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_reader_sees_what_is_recorded_while_a_writer_goes_on_and_after() {
    let (directory, path) = directory();
    let store = Store::open(&path);
    let memory = begin(&store).await;
    let reader = Store::open_read_only(&path);
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        record(&store, &memory.key, 1, &[name]).await;
        assert_eq!(names(&reader).await.len(), n + 1);
    }
    let error = reader.publishing(&begin(&reader).await.key, Vec::new()).await.unwrap_err();
    assert_eq!(error, StateError::ReadOnly { path: path.clone() });
    drop((store, reader));
    let before: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names(&Store::open_read_only(&path)).await, ["a", "b", "c"]);
    let after: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_log_that_a_killed_process_left_is_read_and_settled() {
    let (_directory, path) = directory();
    let copy = path.with_file_name("copy.db");
    {
        let store = made(&path).await;
        let memory = begin(&store).await;
        record(&store, &memory.key, 1, &["a"]).await;
        // As a kill would leave it.
        fs::copy(&path, &copy).unwrap();
        fs::copy(beside(&path, "-wal"), beside(&copy, "-wal")).unwrap();
    }
    assert_eq!(names(&Store::open_read_only(&copy)).await, ["a"]);
    let store = Store::open(&copy);
    assert_eq!(names(&store).await, ["a"]);
    assert_eq!(fs::metadata(beside(&copy, "-wal")).unwrap().len(), 0);
}

#[tokio::test]
async fn others_see_at_once_when_a_maildrop_is_due_and_no_file_is_made_for_it() {
    let (_directory, path) = directory();
    let store = open(&path);
    let due = |at| vec![(ALICE.into(), at), ("bob@h".into(), Some(7))];
    store.schedule(due(Some(100)));
    assert_eq!(store.overview(Which::All, Seen::Counted).await.unwrap().due.len(), 2);
    assert!(!path.exists());
    store.remember("a target".into(), Vec::new()).await.unwrap();
    let seen = async || {
        store.maildrop("nobody".into()).await.unwrap();
        Store::open_read_only(&path).overview(Which::All, Seen::Counted).await.unwrap().due
    };
    assert_eq!(seen().await[ALICE], 100);
    store.schedule(due(Some(200)));
    assert_eq!(seen().await[ALICE], 200);
    store.schedule(due(None));
    let left = seen().await;
    assert_eq!((left.len(), left["bob@h"]), (1, 7));
    // What is durable stays so.
    assert_eq!(
        store.read(|tables| tables.first("PRAGMA synchronous", &[], |row| row.get(0))).await,
        Ok(Some(2))
    );
}

#[tokio::test]
async fn whoever_looks_sees_who_holds_a_lease_and_makes_nothing() {
    let (directory, path) = directory();
    let all = || vec![Arc::from(DAEMON), Arc::from(ALICE)];
    assert!(Lease::held(&path, all()).await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let lease = Lease::take(&path, ALICE, Duration::ZERO).await.unwrap();
    assert!(lease.is_some());
    assert_eq!(Lease::held(&path, all()).await.unwrap().into_iter().collect::<Vec<_>>(), [ALICE.into()]);
    drop(lease);
    assert!(Lease::held(&path, all()).await.unwrap().is_empty());
}
