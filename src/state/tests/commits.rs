//! What is written, when, and what is answered.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::state::file::Limits;
use crate::state::path::beside;

/// Counts the commits that lie in the write-ahead log: frames that say how large the database is then.
fn commits_in_log(path: &Path) -> usize {
    let log = fs::read(beside(path, "-wal")).unwrap_or_default();
    let frames = log.get(32..).unwrap_or_default().chunks_exact(24 + 4096);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn beginning_a_session_writes_nothing() {
    let (_directory, path) = directory();
    let store = Store::open(&path);
    begin(&store).await;
    assert_eq!(commits_in_log(&path), 0);
    assert_eq!(store.status().await.unwrap(), []);
}

#[tokio::test]
async fn a_poll_that_finds_nothing_new_writes_one_row_whatever_is_recorded() {
    let (_directory, path) = directory();
    let store = Store::open(&path);
    let memory = begin(&store).await;
    let many = (0..5000).map(|n| delivery(format!("{n:05}"), 0)).collect();
    store.record(&memory.key, 1, many).await.unwrap();
    drop(store);
    let store = Store::open(&path);
    session(&store, |_| listed(2)).await;
    let log = fs::metadata(beside(&path, "-wal")).unwrap().len();
    assert!(log <= 32 + 2 * (24 + 4096), "{log} octets were written");
}

#[test]
fn a_record_that_was_answered_survives_sigkill() {
    if let Some(path) = child_path() {
        // Records one after the other and says so, until it is killed.
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let store = Store::open(&path);
            let memory = begin(&store).await;
            for n in 0.. {
                record(&store, &memory.key, n, &[&n.to_string()]).await;
                println!("recorded {n}");
            }
        });
    }
    let (_directory, path) = directory();
    let mut child = child(&this_program(), "commits::a_record_that_was_answered_survives_sigkill", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut answered = Vec::new();
    for line in lines {
        // The harness's own words may stand before the first.
        if let Some((_, n)) = line.split_once("recorded ") {
            answered.push(n.to_owned());
        }
        if answered.len() == 50 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(answered.len() >= 50);
    let memory = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(begin(&Store::open(&path)));
    for n in answered {
        assert!(memory.entries.find(n.as_bytes(), 0).is_some(), "{n} was answered and is lost");
    }
}

#[tokio::test]
async fn requests_that_wait_together_share_one_commit() {
    let (_directory, path) = directory();
    let store = made(&path).await;
    let memory = begin(&store).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let callers: Vec<_> = (0..64)
        .map(|n| {
            let (store, key) = (store.clone(), memory.key.clone());
            let deliveries = vec![(n, delivery(format!("{n}"), 0))];
            tokio::spawn(async move { store.record_listed(&key, 1, deliveries).await })
        })
        .collect();
    // Runs after they have all asked, for a runtime of one thread takes tasks in turn.
    tokio::spawn(async move { other.execute_batch("ROLLBACK").unwrap() }).await.unwrap();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().len(), 1);
    }
    // The first may have been alone; the rest waited for it.
    assert!((1..=2).contains(&commits_in_log(&path)), "{} commits", commits_in_log(&path));
    assert_eq!(begin(&store).await.entries.len(), 64);
}

#[tokio::test]
async fn a_request_that_fails_leaves_no_trace_and_spoils_no_other() {
    let (_directory, path) = directory();
    let store = made(&path).await;
    let memory = begin(&store).await;
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON seen WHEN NEW.ordinal = 7
             BEGIN SELECT RAISE(ABORT, 'refused'); END;
             BEGIN IMMEDIATE",
        )
        .unwrap();
    let callers = [("a", 0), ("b", 7), ("c", 0)].map(|(name, ordinal)| {
        let (store, key) = (store.clone(), memory.key.clone());
        let deliveries = vec![delivery(format!("{name}1"), 0), delivery(format!("{name}2"), ordinal)];
        tokio::spawn(async move { store.record(&key, 1, deliveries).await })
    });
    tokio::spawn(async move { other.execute_batch("ROLLBACK").unwrap() }).await.unwrap();
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.unwrap());
    }
    assert!(matches!(&outcomes[..], [Ok(()), Err(StateError::Statement { .. }), Ok(())]), "{outcomes:?}");
    assert_eq!(names(&store).await, ["a1", "a2", "c1", "c2"]);
}

#[tokio::test]
async fn a_rolled_back_transaction_answers_no_request_with_success() {
    let (_directory, path) = directory();
    let store = made(&path).await;
    let memory = begin(&store).await;
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON seen WHEN NEW.ordinal = 7
             BEGIN SELECT RAISE(ROLLBACK, 'all'); END;
             BEGIN IMMEDIATE",
        )
        .unwrap();
    // The first ones may be in a group of their own, which succeeds; that of the others fails.
    let callers = [("a", 0), ("b", 0), ("c", 7), ("d", 0)].map(|(name, ordinal)| {
        let (store, key) = (store.clone(), memory.key.clone());
        tokio::spawn(async move { store.record(&key, 1, vec![delivery(name, ordinal)]).await })
    });
    tokio::spawn(async move { other.execute_batch("ROLLBACK").unwrap() }).await.unwrap();
    let mut successes = Vec::new();
    for (caller, name) in callers.into_iter().zip(["a", "b", "c", "d"]) {
        if caller.await.unwrap().is_ok() {
            successes.push(name.to_owned());
        }
    }
    assert!(!successes.contains(&"c".to_owned()), "{successes:?}");
    assert_eq!(names(&store).await, successes);
    record(&store, &memory.key, 1, &["later"]).await;
}

#[tokio::test]
async fn another_process_that_writes_is_waited_for_but_not_for_ever() {
    let (_directory, path) = directory();
    let patience = Duration::from_millis(30);
    made(&path).await;
    let store = Store::open_within(&path, Limits { patience, ..Limits::default() });
    let memory = begin(&store).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.publishing(&memory.key, Vec::new()).await.unwrap_err();
    assert_eq!(error, StateError::Locked { path: path.clone(), waited: patience });
    assert!(error.to_string().starts_with("gave up after 30ms waiting for another process"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    store.publishing(&memory.key, Vec::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_file_lose_nothing_of_each_other() {
    let (_directory, path) = directory();
    // Both create it.
    let stores = [Store::open(&path), Store::open(&path)];
    let writers = [0, 1].map(|which| {
        let store = stores[which].clone();
        tokio::spawn(async move {
            let memory = store.begin(format!("maildrop {which}").into()).await.unwrap();
            for n in 0..50 {
                record(&store, &memory.key, n, &[&n.to_string()]).await;
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    for store in &stores {
        let seen: Vec<_> = store.status().await.unwrap().iter().map(|status| status.seen).collect();
        assert_eq!(seen, [50, 50]);
    }
}

#[tokio::test]
async fn a_store_is_the_same_by_each_of_its_handles() {
    let (_directory, store) = store();
    let same = store.clone();
    let memory = begin(&store).await;
    record(&same, &memory.key, 1, &["a"]).await;
    let maildrop: Arc<str> = ALICE.into();
    assert_eq!(store.seen(maildrop).await.unwrap().len(), 1);
}
