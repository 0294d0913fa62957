//! Which targets and recipients have a message that others lack.

use super::*;
use crate::message::{Content, FileId};

#[tokio::test]
async fn who_has_a_message_is_known_at_once_and_until_the_message_is_recorded() {
    let (_directory, path) = directory();
    let reached = |recipients: &[&str]| Reached {
        uid: uid("h"),
        ordinal: 0,
        octets: 5,
        content: None,
        identity: None,
        targets: vec![holder("", Some(recipients))],
        reason: "over quota".into(),
    };
    {
        let store = open(&path);
        let memory = begin(&store).await;
        store.reached(&memory.key, 7, vec![reached(&["a@b"])]).await.unwrap();
        // The session is cut off here.
    }
    let store = open(&path);
    let memory = begin(&store).await;
    assert_eq!(memory.reached, [reached(&["a@b"])]);
    // Due at once.
    assert_eq!(memory.held.iter().map(|held| (held.tries, held.next_try)).collect::<Vec<_>>(), [(0, 7)]);
    store.reached(&memory.key, 8, vec![reached(&["a@b", "c@d"])]).await.unwrap();
    let held = held(5);
    let closing = Closing { held: vec![held.clone()], ..listed(9) };
    store.close(&memory.key, &memory.entries, closing).await.unwrap();
    let memory = begin(&store).await;
    assert_eq!((memory.held, memory.reached), (vec![held], vec![reached(&["a@b", "c@d"])]));
    store.record(&memory.key, 10, vec![delivery("h", 0)]).await.unwrap();
    let memory = begin(&store).await;
    assert_eq!((memory.held, memory.reached), (vec![], vec![]));
}

fn holder(target: &str, recipients: Option<&[&str]>) -> Holder {
    let recipients = recipients.map(|recipients| recipients.iter().map(|text| (*text).to_owned()).collect());
    Holder { target: target.to_owned(), recipients, file: None }
}

#[tokio::test]
async fn targets_that_have_a_message_are_noted_one_by_one_as_long_as_it_is_the_same() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let of = |content, targets: &[&str]| Reached {
        content: Some(Content([content; 32])),
        identity: Some(known(CERTAIN).identity),
        targets: targets.iter().map(|target| holder(target, None)).collect(),
        ..reached(5)
    };
    for target in ["maildir:/m", "archive"] {
        store.reached(&memory.key, 0, vec![of(1, &[target])]).await.unwrap();
    }
    assert_eq!(look(&store).await.reached, [of(1, &["archive", "maildir:/m"])]);
    store.reached(&memory.key, 0, vec![of(2, &["archive"])]).await.unwrap();
    let memory = begin(&store).await;
    assert_eq!(memory.reached, [of(2, &["archive"])]);
    assert!(memory.reached[0].is_in("archive") && !memory.reached[0].is_in("maildir:/m"));
    assert!(!reached(5).is_in(""), "not all recipients have it");
    // Where it is forgotten, nobody has it, and it may be found where it is.
    let file = FileId { digest: [7; 16], time: 3 };
    let there = Holder { file: Some(file), ..holder("archive", None) };
    store.publishing(&memory.key, vec![Unclaimed::File(file)]).await.unwrap();
    store.reached(&memory.key, 0, vec![Reached { targets: vec![there], ..of(2, &[]) }]).await.unwrap();
    assert_eq!(store.unclaimed(&memory.key).await.unwrap(), []);
    store.forget(ALICE.into(), vec![uid("h")]).await.unwrap();
    assert_eq!(begin(&store).await.reached, []);
    assert_eq!(store.unclaimed(&memory.key).await.unwrap(), [Unclaimed::File(file)]);
}

#[tokio::test]
async fn of_equal_messages_each_has_its_own_targets() {
    let (_directory, store) = store();
    let of = |name: &str, target: &str| Reached {
        uid: uid(name),
        content: Some(Content([1; 32])),
        targets: vec![holder(target, None)],
        ..reached(5)
    };
    let all = vec![of("a", "one"), of("b", "two")];
    store.reached(&begin(&store).await.key, 0, all.clone()).await.unwrap();
    let memory = begin(&store).await;
    let found = |name: &[u8], listed: &[&str]| {
        let is_listed = |uid: &UniqueId, _| listed.iter().any(|name| name.as_bytes() == uid.as_bytes());
        memory.reached((name, 0), 5, &Content([1; 32]), is_listed)
    };
    assert_eq!(found(b"b", &["a", "b"]), Some(&all[1]));
    assert_eq!(found(b"c", &["a", "c"]), Some(&all[1]));
    assert_eq!(found(b"c", &["a", "b", "c"]), None);
}

/// A message that is held for the second time.
fn held(octets: u64) -> Held {
    Held {
        uid: uid("h"),
        ordinal: 0,
        octets,
        reason: "over quota".into(),
        since: 7,
        tries: 1,
        next_try: 99,
        kind: HeldKind::Refused,
        standing: Standing::Held,
        tried_at: 0,
        came: None,
    }
}

/// A message that one of its recipients has.
fn reached(octets: u64) -> Reached {
    Reached {
        uid: uid("h"),
        ordinal: 0,
        octets,
        content: None,
        identity: None,
        targets: vec![holder("", Some(&["a@b"]))],
        reason: "over quota".into(),
    }
}

#[tokio::test]
async fn a_held_message_of_another_size_is_one_that_nobody_has() {
    for (had, listed_now, still) in
        [(5, 5, Some(5)), (5, 6, None), (0, 6, Some(6)), (5, 0, Some(5)), (0, 0, Some(0))]
    {
        let (_directory, path) = directory();
        let store = open(&path);
        let memory = begin(&store).await;
        store.reached(&memory.key, 7, vec![reached(had)]).await.unwrap();
        let closing = Closing { held: vec![held(listed_now)], ..listed(9) };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
        let memory = begin(&store).await;
        let expected: Vec<_> = still.map(reached).into_iter().collect();
        assert_eq!(memory.reached, expected, "{had} octets, now {listed_now}");
        // The other message reaches somebody, and that is of its size.
        store.reached(&memory.key, 10, vec![reached(8)]).await.unwrap();
        assert_eq!(begin(&store).await.reached, [reached(8)]);
    }
}

#[tokio::test]
async fn who_has_a_message_is_known_when_a_later_listing_shows_it_again_and_forgotten_after_90_days() {
    let (_directory, store) = store();
    let reached = reached(5);
    let gone = |at| Closing { released: vec![(uid("h"), 0)], ..listed(at) };
    let shown = async || store.status().await.unwrap().remove(0).held.len();
    let memory = begin(&store).await;
    store.reached(&memory.key, 0, vec![reached.clone()]).await.unwrap();
    store.close(&memory.key, &memory.entries, listed(0)).await.unwrap();
    assert_eq!(shown().await, 1);
    session(&store, |_| gone(DAY)).await;
    assert_eq!((begin(&store).await.reached, shown().await), (vec![reached.clone()], 0));
    // It is back, and the days begin anew when it is gone again.
    session(&store, |_| listed(50 * DAY)).await;
    assert_eq!((begin(&store).await.reached, shown().await), (vec![reached.clone()], 1));
    session(&store, |_| gone(60 * DAY)).await;
    session(&store, |_| gone(150 * DAY - 1)).await;
    assert_eq!(begin(&store).await.reached, [reached]);
    // A poll without a listing says nothing of the messages.
    session(&store, |_| Closing { at: 200 * DAY, ..Closing::default() }).await;
    assert_eq!(begin(&store).await.reached.len(), 1);
    session(&store, |_| gone(150 * DAY)).await;
    assert_eq!((begin(&store).await.reached, begin(&store).await.held), (vec![], vec![]));
}

#[tokio::test]
async fn recording_forgets_who_has_a_message_that_was_gone() {
    let (_directory, store) = store();
    let reached = reached(5);
    let memory = begin(&store).await;
    store.reached(&memory.key, 0, vec![reached]).await.unwrap();
    store.close(&memory.key, &memory.entries, listed(0)).await.unwrap();
    session(&store, |_| Closing { released: vec![(uid("h"), 0)], ..listed(1) }).await;
    record(&store, &begin(&store).await.key, 2, &["h"]).await;
    assert_eq!((begin(&store).await.reached, begin(&store).await.held), (vec![], vec![]));
}

#[tokio::test]
async fn who_has_a_message_is_found_by_its_content_or_by_name_and_size_where_that_is_not_known() {
    let (_directory, store) = store();
    let contents = [Some(9), None, Some(3), Some(6), None];
    let all = contents.iter().enumerate().map(|(n, content)| Reached {
        uid: uid(n.to_string()),
        content: content.map(|octet| Content([octet; 32])),
        ..reached(n as u64 + 1)
    });
    let all: Vec<_> = all.collect();
    store.reached(&begin(&store).await.key, 0, all.clone()).await.unwrap();
    let memory = begin(&store).await;
    let found = |uid: &str, octets, content| {
        memory.reached((uid.as_bytes(), 0), octets, &Content([content; 32]), |_, _| false)
    };
    for (n, content) in [(0, 9), (2, 3), (3, 6)] {
        assert_eq!(found("renamed", 1, content), Some(&all[n]));
    }
    assert_eq!((found("1", 2, 7), found("4", 5, 1)), (Some(&all[1]), Some(&all[4])));
    for (uid, octets, content) in [("0", 1, 7), ("1", 3, 7), ("x", 2, 7)] {
        assert_eq!(found(uid, octets, content), None);
    }
}
