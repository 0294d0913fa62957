//! What is there for who looks.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::state::lease::DAEMON;
use crate::state::outlook::Seen;

fn polled(failure: Option<&str>, messages: u64) -> PollResult {
    let failure = failure.map(|class| (class.to_owned(), "why".to_owned()));
    PollResult { account: "home".into(), messages, octets: 10 * messages, failure, ..PollResult::default() }
}

#[tokio::test]
async fn others_see_at_once_when_a_maildrop_is_due_and_no_file_is_made_for_it() {
    let (_directory, path) = directory();
    let store = Store::open(&path);
    let due = |at| vec![(ALICE.into(), at), ("bob@h".into(), Some(7))];
    store.schedule(due(Some(100)));
    assert_eq!(store.overview(Seen::Counted).await.unwrap().due.len(), 2);
    assert!(!path.exists());
    store.remember("a target".into(), Vec::new()).await.unwrap();
    let seen = async || {
        store.maildrop("nobody".into()).await.unwrap();
        Store::open_read_only(&path).overview(Seen::Counted).await.unwrap().due
    };
    assert_eq!(seen().await[ALICE], 100);
    store.schedule(due(Some(200)));
    assert_eq!(seen().await[ALICE], 200);
    store.schedule(due(None));
    let left = seen().await;
    assert_eq!((left.len(), left["bob@h"]), (1, 7));
    // What is durable stays so.
    assert_eq!(store.read(|db| db.query_row("PRAGMA synchronous", [], |row| row.get(0))).await, Ok(2));
}

#[tokio::test]
async fn what_is_asked_for_is_found_once_whatever_is_planned_meanwhile() {
    let (_directory, path) = directory();
    let (daemon, client) = (Store::open(&path), Store::open(&path));
    daemon.schedule(vec![(ALICE.into(), Some(500))]);
    client.ask_for(vec![ALICE.into(), "bob@h".into()], 100).await.unwrap();
    daemon.schedule(vec![(ALICE.into(), Some(900)), ("bob@h".into(), None)]);
    let due = daemon.overview(Seen::Counted).await.unwrap().due;
    assert_eq!((due[ALICE], due["bob@h"]), (100, 100));
    assert_eq!(daemon.asked_for(101).await.unwrap(), [ALICE, "bob@h"]);
    assert!(daemon.asked_for(102).await.unwrap().is_empty());
    daemon.schedule(vec![(ALICE.into(), Some(900)), ("bob@h".into(), None)]);
    let due = daemon.overview(Seen::Counted).await.unwrap().due;
    assert_eq!((due.len(), due[ALICE]), (1, 900));
}

#[tokio::test]
async fn a_day_is_counted_by_hours_and_a_poll_that_brings_nothing_not_at_all() {
    let (_directory, store) = store();
    let poll = async |at: Timestamp, poll: PollResult| {
        let memory = begin(&store).await;
        let closing = Closing { at, poll: Some(poll), ..Closing::default() };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
        store.overview(Seen::Counted).await.unwrap().hours
    };
    poll(3600, polled(None, 2)).await;
    poll(7199, polled(Some("network"), 0)).await;
    poll(7199, polled(Some("message"), 3)).await;
    poll(7199, polled(Some("stopped"), 0)).await;
    let hour = Hour { hour: 1, messages: 5, octets: 50, failures: 2 };
    assert_eq!(poll(7300, polled(None, 0)).await, [hour]);
    let later = Hour { hour: 25, messages: 1, octets: 10, failures: 0 };
    assert_eq!(poll(25 * 3600, polled(None, 1)).await, [hour, later]);
    assert_eq!(poll(26 * 3600, polled(None, 1)).await, [later, Hour { hour: 26, ..later }]);
}

#[tokio::test]
async fn nothing_is_left_of_a_maildrop_that_was_dropped_and_all_of_the_others() {
    let (_directory, path) = directory();
    let store = made(&path).await;
    for maildrop in [ALICE, "bob@h"] {
        let memory = store.begin(maildrop.into()).await.unwrap();
        record(&store, &memory.key, 1, &["a", "b"]).await;
    }
    store.schedule(vec![(ALICE.into(), Some(1)), ("bob@h".into(), Some(2))]);
    assert_eq!(store.drop_maildrop(ALICE.into()).await, Ok(1));
    assert_eq!(store.drop_maildrop(ALICE.into()).await, Ok(0));
    let left = store.overview(Seen::Counted).await.unwrap();
    assert_eq!((left.maildrops.len(), left.maildrops[0].seen, left.due.len()), (1, 2, 1));
    assert_eq!(store.overview(Seen::Uncounted).await.unwrap().maildrops[0].seen, 0);
    assert!(names(&store).await.is_empty() && begin(&store).await.unclosed);
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
