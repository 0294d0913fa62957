//! What is there for who looks.

use super::*;
use crate::state::outlook::{Seen, Which};

fn polled(failure: Option<&str>, messages: u64) -> PollResult {
    let failure = failure.map(|class| (class.to_owned(), "why".to_owned()));
    PollResult { account: "home".into(), messages, octets: 10 * messages, failure, ..PollResult::default() }
}

#[tokio::test]
async fn what_is_asked_for_is_found_once_whatever_is_planned_meanwhile() {
    let (_directory, path) = directory();
    let (daemon, client) = (open(&path), open(&path));
    daemon.schedule(vec![(ALICE.into(), Some(500))]);
    client.ask_for(vec![ALICE.into(), "bob@h".into()], 100).await.unwrap();
    daemon.schedule(vec![(ALICE.into(), Some(900)), ("bob@h".into(), None)]);
    let due = daemon.overview(Which::All, Seen::Counted).await.unwrap().due;
    assert_eq!((due[ALICE], due["bob@h"]), (100, 100));
    assert_eq!(daemon.asked_for(101).await.unwrap(), [ALICE, "bob@h"]);
    assert!(daemon.asked_for(102).await.unwrap().is_empty());
    daemon.schedule(vec![(ALICE.into(), Some(900)), ("bob@h".into(), None)]);
    let due = daemon.overview(Which::All, Seen::Counted).await.unwrap().due;
    assert_eq!((due.len(), due[ALICE]), (1, 900));
}

#[tokio::test]
async fn a_day_is_counted_by_hours_and_a_poll_that_brings_nothing_not_at_all() {
    let (_directory, store) = store();
    let poll = async |at: Timestamp, poll: PollResult| {
        let memory = begin(&store).await;
        let closing = Closing { at, poll: Some(poll), ..Closing::default() };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
        store.overview(Which::All, Seen::Counted).await.unwrap().hours
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
        let memory = begin_with(&store, maildrop).await;
        record(&store, &memory.key, 1, &["a", "b"]).await;
    }
    store.schedule(vec![(ALICE.into(), Some(1)), ("bob@h".into(), Some(2))]);
    assert_eq!(store.drop_maildrop(ALICE.into()).await, Ok(1));
    assert_eq!(store.drop_maildrop(ALICE.into()).await, Ok(0));
    let left = store.overview(Which::All, Seen::Counted).await.unwrap();
    assert_eq!((left.maildrops.len(), left.maildrops[0].seen, left.due.len()), (1, 2, 1));
    assert_eq!(store.overview(Which::All, Seen::Uncounted).await.unwrap().maildrops[0].seen, 0);
    assert!(names(&store).await.is_empty() && begin(&store).await.left.is_unclosed());
}
