//! What is forgotten, and when.

use super::*;
use crate::message::FileId;

#[tokio::test]
async fn a_unique_id_is_forgotten_90_days_after_it_was_last_listed() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    record(&store, &memory.key, 0, &["gone", "here"]).await;
    store.close(&memory.key, &memory.entries, listed(0)).await.unwrap();
    session(&store, |entries| Closing { vanished: vec![index(entries, "gone")], ..listed(DAY) }).await;
    assert_eq!(begin(&store).await.entries.find(b"gone", 0).unwrap().last_listed, Some(0));
    // Marked once more: the time stays.
    session(&store, |entries| Closing { vanished: vec![index(entries, "gone")], ..listed(90 * DAY - 1) })
        .await;
    assert_eq!(names(&store).await, ["gone", "here"]);
    // A poll without a listing says nothing of the messages.
    session(&store, |_| Closing { at: 95 * DAY, ..Closing::default() }).await;
    assert_eq!(names(&store).await, ["gone", "here"]);
    session(&store, |_| listed(90 * DAY)).await;
    assert_eq!(names(&store).await, ["here"]);
}

#[tokio::test]
async fn a_unique_id_is_forgotten_30_days_after_a_deletion_that_succeeded_only() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    record(&store, &memory.key, 0, &["deleted", "refused", "zombie"]).await;
    let closing = Closing {
        deleted: vec![(uid("deleted"), 0), (uid("zombie"), 0)],
        undeleted: vec![(uid("refused"), 0)],
        ..listed(0)
    };
    store.close(&memory.key, &memory.entries, closing).await.unwrap();
    let entries = begin(&store).await.entries;
    let tried = |name: &str| {
        entries.find(name.as_bytes(), 0).map(|entry| (entry.delete_tries, entry.deleted)).unwrap()
    };
    assert_eq!((tried("deleted"), tried("refused")), ((1, true), (1, false)));
    session(&store, |entries| Closing {
        vanished: vec![index(entries, "deleted"), index(entries, "refused")],
        ..listed(DAY)
    })
    .await;
    session(&store, |_| listed(30 * DAY - 1)).await;
    assert_eq!(names(&store).await, ["deleted", "refused", "zombie"]);
    session(&store, |_| listed(30 * DAY)).await;
    assert_eq!(names(&store).await, ["refused", "zombie"], "one that is still listed would be fetched again");
    session(&store, |entries| Closing { vanished: vec![index(entries, "zombie")], ..listed(40 * DAY) }).await;
    session(&store, |_| listed(60 * DAY - 1)).await;
    assert_eq!(names(&store).await, ["refused", "zombie"], "it was listed less than 30 days before");
    session(&store, |_| listed(60 * DAY)).await;
    assert_eq!(names(&store).await, ["refused"]);
}

#[tokio::test]
async fn one_short_listing_after_a_long_pause_forgets_nothing() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    record(&store, &memory.key, 0, &["a"]).await;
    store.close(&memory.key, &memory.entries, listed(0)).await.unwrap();
    for poll in 0..3 {
        let closing =
            |entries: &Entries| Closing { vanished: vec![index(entries, "a")], ..listed(200 * DAY + poll) };
        session(&store, closing).await;
    }
    assert_eq!(names(&store).await, ["a"]);
    session(&store, |entries| Closing { returned: vec![index(entries, "a")], ..listed(201 * DAY) }).await;
    assert_eq!(begin(&store).await.entries.find(b"a", 0).unwrap().last_listed, None);
    session(&store, |_| listed(400 * DAY)).await;
    assert_eq!(names(&store).await, ["a"]);
}

#[tokio::test]
async fn a_message_of_a_session_without_an_end_was_last_listed_when_it_was_recorded() {
    let (_directory, store) = store();
    session(&store, |_| listed(10)).await;
    let memory = begin(&store).await;
    record(&store, &memory.key, 20, &["a"]).await;
    // Killed. The next listing is without it.
    session(&store, |entries| Closing { vanished: vec![index(entries, "a")], ..listed(30) }).await;
    assert_eq!(begin(&store).await.entries.find(b"a", 0).unwrap().last_listed, Some(20));
}

#[tokio::test]
async fn forgetting_counts_unique_ids_that_were_recorded_and_forgets_holds_too() {
    let (_directory, store) = store();
    assert_eq!(store.forget(ALICE.into(), vec![uid("a")]).await.unwrap(), 0);
    let memory = begin(&store).await;
    let deliveries = vec![delivery("a", 0), delivery("a", 1), delivery("b", 0)];
    store.record(&memory.key, 1, deliveries).await.unwrap();
    let held = Held {
        uid: uid("h"),
        ordinal: 0,
        octets: 1,
        reason: "r".into(),
        since: 1,
        tries: 1,
        next_try: 9,
        kind: HeldKind::Refused,
        standing: Standing::Held,
        tried_at: 0,
        came: None,
    };
    store.close(&memory.key, &memory.entries, Closing { held: vec![held], ..listed(1) }).await.unwrap();
    assert_eq!(store.forget(ALICE.into(), vec![uid("a"), uid("h"), uid("nobody")]).await.unwrap(), 1);
    assert_eq!(names(&store).await, ["b"]);
    assert_eq!(begin(&store).await.held, []);
}

#[tokio::test]
async fn messages_in_mailboxes_are_forgotten_and_files_are_not() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let file = FileId { digest: [7; 16], time: 1_764_414_000_123_456 };
    let message = FileId::of_message([7; 16], 5, 100);
    store.publishing(&memory.key, vec![Unclaimed::File(file), Unclaimed::File(message)]).await.unwrap();
    // Nor does one count as the newest file.
    store.record(&memory.key, 1, vec![Delivery { files: vec![message], ..delivery("a", 0) }]).await.unwrap();
    assert_eq!(look(&store).await.newest_file, 0);
    store.publishing(&memory.key, vec![Unclaimed::File(message)]).await.unwrap();
    store.forget_messages(&memory.key).await.unwrap();
    assert_eq!(store.unclaimed(&memory.key).await.unwrap(), [Unclaimed::File(file)]);
}
