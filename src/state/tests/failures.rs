//! What is told when the state cannot be used.

use std::fs::{self, Permissions};
use std::io::{Seek, SeekFrom, Write as _};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::state::file::Limits;
use crate::state::path::beside;

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_recorded_before_stays() {
    let (_directory, path) = directory();
    let store = Store::open_within(&path, Limits { pages: Some(20), ..Limits::default() });
    let memory = begin(&store).await;
    let mut recorded = 0;
    let error = loop {
        let deliveries = vec![delivery(format!("{recorded:0500}"), 0)];
        match store.record(&memory.key, 1, deliveries).await {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StateError::Full { path: path.clone() });
    assert!(error.hint().unwrap().contains("make room"));
    assert_eq!(begin(&store).await.entries.len(), recorded);
    // Room was made.
    store.forget(ALICE.into(), vec![uid(format!("{:0500}", 0)), uid(format!("{:0500}", 1))]).await.unwrap();
    record(&store, &memory.key, 1, &["short"]).await;
}

async fn error_of(path: &Path) -> StateError {
    let store = Store::open(path);
    let first = store.begin(ALICE.into()).await.unwrap_err();
    // Not only the first call.
    assert_eq!(store.status().await.unwrap_err(), first);
    assert!(first.hint().is_some(), "{first}");
    first
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_left_as_it_is() {
    let (directory, path) = directory();
    let text = b"These are the times that try men's souls.\n".repeat(100);
    fs::write(&path, &text).unwrap();
    assert!(matches!(error_of(&path).await, StateError::Foreign { .. }));
    assert_eq!(fs::read(&path).unwrap(), text);

    let theirs = directory.path().join("theirs.db");
    Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = fs::read(&theirs).unwrap();
    assert!(matches!(error_of(&theirs).await, StateError::Foreign { .. }));
    assert_eq!(fs::read(&theirs).unwrap(), before);

    assert!(matches!(error_of(directory.path()).await, StateError::Foreign { .. }));
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_readers_and_writers() {
    let (_directory, path) = directory();
    session(&Store::open(&path), |_| listed(1)).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    let newer = StateError::Newer { path: path.clone(), found: schema::VERSION + 1, known: schema::VERSION };
    assert_eq!(error_of(&path).await, newer);
    assert_eq!(Store::open_read_only(&path).status().await.unwrap_err(), newer);
}

/// Makes a state file of many pages.
async fn many_pages(path: &Path) {
    let store = Store::open(path);
    let memory = begin(&store).await;
    let many = (0..3000).map(|n| delivery(format!("{n:050}"), 0)).collect();
    store.record(&memory.key, 1, many).await.unwrap();
}

/// Overwrites a page in the middle, which holds recorded unique-ids.
fn damage(path: &Path) {
    let pages = fs::metadata(path).unwrap().len() / 4096;
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(pages / 2 * 4096)).unwrap();
    file.write_all(&[0x5a; 4096]).unwrap();
}

#[tokio::test]
async fn a_truncated_file_is_damaged() {
    let (_directory, path) = directory();
    many_pages(&path).await;
    let octets = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(octets / 2).unwrap();
    assert!(matches!(error_of(&path).await, StateError::Corrupt { .. }));
}

#[tokio::test]
async fn a_maildrop_with_damaged_pages_is_not_loaded_and_nothing_is_recorded_after() {
    let (_directory, path) = directory();
    many_pages(&path).await;
    damage(&path);
    let store = Store::open(&path);
    let key = store.begin("someone else".into()).await.unwrap().key;
    let error = store.begin(ALICE.into()).await.unwrap_err();
    assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
    assert_eq!(store.record(&key, 1, vec![delivery("a", 0)]).await.unwrap_err(), error);
}

#[tokio::test]
async fn a_file_found_damaged_is_not_written_again_even_at_the_end() {
    let (_directory, path) = directory();
    many_pages(&path).await;
    damage(&path);
    let store = Store::open(&path);
    let key = store.begin("someone else".into()).await.unwrap().key;
    record(&store, &key, 1, &["a"]).await;
    let before = fs::read(beside(&path, "-wal")).unwrap();
    assert!(store.begin(ALICE.into()).await.is_err());
    drop(store);
    assert_eq!(fs::read(beside(&path, "-wal")).unwrap(), before);
}

#[tokio::test]
async fn rows_out_of_order_are_damage() {
    let (_directory, path) = directory();
    let uids = ["aaaaaaaaaaaaaaaa", "mmmmmmmmmmmmmmmm", "zzzzzzzzzzzzzzzz"];
    {
        let store = Store::open(&path);
        let memory = begin(&store).await;
        record(&store, &memory.key, 1, &uids).await;
    }
    let mut octets = fs::read(&path).unwrap();
    let at = octets.windows(16).position(|window| window == uids[1].as_bytes()).unwrap();
    octets[at] = b'!';
    fs::write(&path, octets).unwrap();
    assert!(matches!(Store::open(&path).begin(ALICE.into()).await.unwrap_err(), StateError::Corrupt { .. }));
}

#[tokio::test]
async fn a_directory_without_permission_is_told_as_such() {
    let test = "failures::a_directory_without_permission_is_told_as_such";
    if let Some(path) = child_path() {
        let missing = path.with_file_name("missing").join("state.db");
        match error_of(&missing).await {
            StateError::Directory { why, .. } => assert!(why.contains("ermission denied"), "{why}"),
            other => panic!("{other}"),
        }
        match error_of(&path.with_file_name("other.db")).await {
            StateError::Lock { why, .. } => assert!(why.contains("ermission denied"), "{why}"),
            other => panic!("{other}"),
        }
        // The file is there and ours, the directory takes no log beside it.
        match error_of(&path).await {
            StateError::Unreachable { why, .. } | StateError::Unwritable { why, .. } => {
                assert!(why.contains("ermission denied"), "{why}");
            }
            other => panic!("{other}"),
        }
        // Reading needs nothing beside it.
        assert_eq!(names(&Store::open_read_only(&path)).await, ["a"]);
        return;
    }
    let (directory, path) = directory();
    {
        let store = Store::open(&path);
        let memory = begin(&store).await;
        record(&store, &memory.key, 1, &["a"]).await;
    }
    let programs = tempfile::tempdir().unwrap();
    let mut command = child(&this_program(), test, &path);
    if nix::unistd::geteuid().is_root() {
        // Root may do everything; nobody may not, not even run what lies in root's own directories.
        let nobody = 65_534;
        let program = programs.path().join("program");
        fs::copy(this_program(), &program).unwrap();
        fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).unwrap();
        for owned in [path.as_path(), directory.path()] {
            chown(owned, Some(nobody), Some(nobody)).unwrap();
        }
        command = child(&program, test, &path);
        command.uid(nobody).gid(nobody).current_dir("/");
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
    must_pass(command);
}

#[tokio::test]
async fn an_error_that_the_user_has_repaired_is_not_told_again() {
    let (_directory, path) = directory();
    fs::create_dir(&path).unwrap();
    let store = Store::open(&path);
    assert!(matches!(store.begin(ALICE.into()).await.unwrap_err(), StateError::Foreign { .. }));
    fs::remove_dir(&path).unwrap();
    assert!(is_fresh(&begin(&store).await));
}

#[test]
fn every_error_says_what_it_is_about() {
    let path = PathBuf::from("/s/state.db");
    let why = "because".to_owned();
    for error in [
        StateError::Full { path: path.clone() },
        StateError::Replaced { path: path.clone() },
        StateError::Io { path: path.clone(), why: why.clone() },
        StateError::Thread { path, why },
    ] {
        assert!(error.to_string().contains("/s/state.db"), "{error}");
    }
}

#[test]
fn no_hint_asks_for_a_new_start_where_the_daemon_goes_on_by_itself() {
    let hint = StateError::Io { path: "state.db".into(), why: "fsync".into() }.hint().unwrap();
    assert!(hint.ends_with("the next poll opens it anew") && !hint.contains("start"), "{hint}");
}

#[tokio::test]
async fn a_damaged_file_is_let_be_and_one_put_in_its_place_is_opened_after_a_while() {
    let (_directory, path) = directory();
    many_pages(&path).await;
    let copy = fs::read(&path).unwrap();
    damage(&path);
    for (again, heals) in [(Limits::default().again, false), (Duration::ZERO, true)] {
        let store = Store::open_within(&path, Limits { again, ..Limits::default() });
        let error = store.begin(ALICE.into()).await.unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
        let damaged = fs::read(&path).unwrap();
        fs::write(&path, &copy).unwrap();
        assert_eq!(
            store.begin(ALICE.into()).await.map(|memory| memory.entries.len()).ok(),
            heals.then_some(3000)
        );
        fs::write(&path, damaged).unwrap();
    }
}

#[tokio::test]
async fn a_defect_that_one_request_meets_is_told_and_costs_no_other() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let defect = store.read(|_| -> crate::state::tables::Result<()> { panic!("a defect") }).await;
    assert!(matches!(defect, Err(StateError::Thread { .. })), "{defect:?}");
    record(&store, &memory.key, 1, &["a"]).await;
    assert_eq!(names(&store).await, ["a"]);
}
