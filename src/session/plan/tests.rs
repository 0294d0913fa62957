//! Listings against records: what each message of one needs.

use std::sync::Arc;
use std::time::Duration;

use super::super::MayDelete;
use super::*;
use crate::config::account::Keep;
use crate::message::{Fingerprint, ListingBuilder, MessageNumber};
use crate::session::book::{Book, Circumstances, Top};
use crate::session::which::{Showing, UniqueIds};
use crate::state::{Closing, Delivery, HeldKind, Kind, Standing, Store};

const DAY: Timestamp = 86_400;
const NOW: Timestamp = 1000 * DAY;

fn policy() -> Policy {
    Policy {
        keep: Keep::Forever,
        first_sync: FirstSync::All,
        order: Order::Oldest,
        max_size: None,
        limit: None,
        octets: None,
        deletions: MayDelete::AsConfigured,
        now: NOW,
    }
}

fn delivery(uid: &str, octets: u64, delivered_at: Option<Timestamp>) -> Delivery {
    let kind = if delivered_at.is_some() { Kind::Delivered } else { Kind::Marked };
    let text = format!("Message-ID: <{uid}>\r\nDate: today\r\n\r\n");
    let fingerprint = Some(Fingerprint::from(text.as_bytes()));
    let new = Delivery::new(UniqueId::new(uid.as_bytes()), 0, octets, kind);
    Delivery { delivered_at, fingerprint, ..new }
}

/// A store that recorded these and then closed a session in this way.
async fn recorded(deliveries: Vec<Delivery>, closing: Closing) -> Remembered {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.db"));
    let name: Arc<str> = "alice@pop.example.org".into();
    let memory = store.begin(name.clone()).await.unwrap();
    store.record(&memory.key, NOW - DAY, deliveries).await.unwrap();
    let closing = Closing { at: NOW - DAY, listed_at: Some(NOW - DAY), ..closing };
    store.close(&memory.key, &memory.entries, closing).await.unwrap();
    let memory = store.begin(name).await.unwrap();
    Remembered { _directory: directory, store, memory }
}

struct Remembered {
    _directory: tempfile::TempDir,
    store: Store,
    memory: Memory,
}

impl Remembered {
    async fn book(&self, messages: &[(&str, u64)], policy: &Policy) -> Book<'_> {
        let around = Circumstances {
            unique_ids: UniqueIds::Given,
            top: Top::Announced,
            nameless: Nameless::Come,
            showing: Showing::First,
            since: policy.now,
        };
        let mut book = Book::new(listing(messages), &self.memory, *policy, around);
        book.sort(&self.store).await.unwrap();
        book
    }

    async fn close(self, closing: Closing) -> Self {
        let Self { _directory, store, memory } = self;
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
        let memory = store.begin("alice@pop.example.org".into()).await.unwrap();
        Self { _directory, store, memory }
    }
}

async fn seen(uids: &[(&str, u64)]) -> Remembered {
    let deliveries = uids.iter().map(|(uid, octets)| delivery(uid, *octets, Some(NOW - DAY)));
    recorded(deliveries.collect(), Closing::default()).await
}

fn listing(messages: &[(&str, u64)]) -> Listing {
    let mut builder = ListingBuilder::default();
    for (i, (uid, octets)) in messages.iter().enumerate() {
        let number = MessageNumber(u32::try_from(i).unwrap() + 1);
        builder.unique_id(Some((number, uid.as_bytes())));
        builder.size(Some((number, *octets)));
    }
    builder.build()
}

/// The steps as text: message-number and step; behind them the numbers of messages that are asked for.
async fn steps(messages: &[(&str, u64)], known: &Remembered, policy: &Policy) -> Vec<String> {
    let book = known.book(messages, policy).await;
    let number = |index: &usize| book.listing.get(*index).number;
    let steps = book.plan().steps;
    let steps = steps.iter().filter(|(_, step)| *step != Step::Unasked);
    let asked = book.sorted.questions.iter().map(|index| format!("{} Asked", number(index)));
    steps.map(|(index, step)| format!("{} {step:?}", number(index))).chain(asked).collect()
}

fn keeping(keep: Keep) -> Policy {
    Policy { keep, ..policy() }
}

#[tokio::test]
async fn what_is_not_recorded_is_fetched_and_what_is_recorded_needs_nothing() {
    let known = seen(&[("b", 10), ("d", 10)]).await;
    let messages = [("a", 10), ("b", 10), ("c", 10), ("d", 10)];
    assert_eq!(steps(&messages, &known, &policy()).await, ["1 Fetch(New)", "3 Fetch(New)"]);
    let newest = Policy { order: Order::Newest, limit: Some(1), ..policy() };
    assert_eq!(steps(&messages, &known, &newest).await, ["3 Fetch(New)", "1 Later"]);
}

#[tokio::test]
async fn deletion_goes_by_our_own_record_of_delivery() {
    let deliveries = vec![delivery("old", 10, Some(NOW - 15 * DAY)), delivery("marked", 10, None)];
    let known = recorded(deliveries, Closing::default()).await;
    let messages = [("marked", 10), ("old", 10)];
    let none = steps(&messages, &known, &keeping(Keep::None)).await;
    assert_eq!(none, ["2 Delete(1)"], "the marked one was never delivered");
    let not_now = Policy { deletions: MayDelete::NotNow, ..keeping(Keep::None) };
    assert!(steps(&messages, &known, &not_now).await.is_empty());
}

#[tokio::test]
async fn a_duration_is_over_when_a_poll_a_day_before_has_seen_it_over() {
    let weeks = Policy { keep: Keep::For(Duration::from_secs(14 * 86_400)), ..policy() };
    let deliveries = vec![
        delivery("future", 10, Some(NOW + DAY)),
        delivery("old", 10, Some(NOW - 15 * DAY)),
        delivery("young", 10, Some(NOW - 13 * DAY)),
    ];
    let known = recorded(deliveries, Closing::default()).await;
    let messages = [("future", 10), ("old", 10), ("young", 10)];
    let mut book = known.book(&messages, &weeks).await;
    assert!(book.plan().steps.is_empty(), "no clock is believed at once");
    let mut closing = Closing { at: NOW, ..Closing::default() };
    book.close(None, &mut closing);
    drop(book);
    let known = known.close(closing).await;
    let at = |now| Policy { now, ..weeks };
    assert!(steps(&messages, &known, &at(NOW + DAY - 1)).await.is_empty());
    assert_eq!(steps(&messages, &known, &at(NOW + DAY)).await, ["2 Delete(1)"]);
    // What was delivered after now begins its time now.
    let reset = known.memory.entries.find(b"future", 0).unwrap();
    assert_eq!(reset.delivered_at, Some(NOW));
}

#[tokio::test]
async fn a_short_duration_needs_no_whole_day() {
    let hour = Policy { keep: Keep::For(Duration::from_secs(3600)), ..policy() };
    let known = recorded(vec![delivery("a", 10, Some(NOW - 7200))], Closing::default()).await;
    let mut book = known.book(&[("a", 10)], &hour).await;
    let mut closing = Closing { at: NOW, ..Closing::default() };
    book.close(None, &mut closing);
    drop(book);
    let known = known.close(closing).await;
    let later = Policy { now: NOW + 3600, ..hour };
    assert_eq!(steps(&[("a", 10)], &known, &later).await, ["1 Delete(0)"]);
}

#[tokio::test]
async fn deletions_that_come_back_are_tried_in_three_sessions_told_once_and_then_tried_once_a_day() {
    let uid = UniqueId::new(&b"a"[..]);
    for (tries, hours, expected) in [
        (1, 1, &["1 Asked"][..]),
        (2, 1, &["1 Asked"]),
        (3, 1, &["1 GiveUpDeleting(0)"]),
        (4, 1, &[]),
        (4, 23, &[]),
        (4, 24, &["1 Asked"]),
        (5, 1, &[]),
    ] {
        let undeleted = vec![(uid.clone(), 0); tries];
        let closing = Closing { undeleted, ..Closing::default() };
        let known = recorded(vec![delivery("a", 10, Some(NOW - 2 * DAY))], closing).await;
        let now = NOW - DAY + hours * 3600;
        let none = Policy { now, ..keeping(Keep::None) };
        assert_eq!(steps(&[("a", 10)], &known, &none).await, expected, "{tries} {hours}");
    }
}

#[tokio::test]
async fn a_held_message_waits_and_is_then_tried_again() {
    for (next_try, expected) in [(NOW + 1, "1 Held"), (NOW, "1 Fetch(Retry)")] {
        let held = Held {
            uid: UniqueId::new(&b"a"[..]),
            ordinal: 0,
            octets: 10,
            reason: "refused".into(),
            since: NOW - DAY,
            tries: 1,
            next_try,
            kind: HeldKind::Refused,
            standing: Standing::Held,
            tried_at: 0,
            came: None,
        };
        let gone = Held { uid: UniqueId::new(&b"gone"[..]), ..held.clone() };
        let closing = Closing { held: vec![held, gone], ..Closing::default() };
        let known = recorded(Vec::new(), closing).await;
        assert_eq!(steps(&[("a", 10)], &known, &policy()).await, [expected]);
        let plan = known.book(&[("a", 10)], &policy()).await.plan();
        assert_eq!(plan.released, [(UniqueId::new(&b"gone"[..]), 0)]);
        assert_eq!(steps(&[("a", 11)], &known, &policy()).await, ["1 Fetch(New)"], "another size");
    }
}

#[tokio::test]
async fn the_size_limit_is_for_what_is_not_recorded() {
    let known = seen(&[("big", 100)]).await;
    let limited = Policy { max_size: Some(50), ..policy() };
    let messages = [("big", 100), ("other", 51), ("small", 50)];
    assert_eq!(steps(&messages, &known, &limited).await, ["2 TooLarge", "3 Fetch(New)"]);
}

#[tokio::test]
async fn no_message_is_begun_once_the_octets_of_a_turn_are_fetched() {
    let (known, limited) = (seen(&[("old", 1)]).await, Policy { octets: Some(60), ..policy() });
    let messages = [("large", 50), ("next", 50), ("last", 1)];
    assert_eq!(steps(&messages, &known, &limited).await, ["1 Fetch(New)", "2 Fetch(New)", "3 Later"]);
}

#[tokio::test]
async fn beyond_the_limit_the_deletions_that_were_tried_longest_ago_are_tried_first() {
    let known = seen(&[("a", 10), ("b", 10), ("c", 10)]).await;
    let tried = |uid: &str, days: Timestamp| {
        let (at, undeleted) = (NOW - days * DAY, vec![(UniqueId::new(uid.as_bytes()), 0)]);
        Closing { at, undeleted, ..Closing::default() }
    };
    let known = known.close(tried("a", 2)).await.close(tried("b", 4)).await.close(tried("c", 3)).await;
    let limited = Policy { limit: Some(2), ..keeping(Keep::None) };
    let mut book = known.book(&[("a", 10), ("b", 10), ("c", 10), ("new", 10)], &limited).await;
    (0..3).for_each(|index| book.answers.note(index, None));
    book.sort(&known.store).await.unwrap();
    let fetched = |(_, step): &&(usize, Step)| matches!(step, Step::Fetch(_));
    let plan = book.plan();
    let fetched: Vec<usize> = plan.steps.iter().filter(fetched).map(|(index, _)| *index).collect();
    assert_eq!(fetched, [3, 1]);
}

#[tokio::test]
async fn a_unique_id_with_another_size_is_a_question_and_no_size_is_none() {
    let known = seen(&[("a", 100), ("b", 100)]).await;
    assert_eq!(steps(&[("a", 100), ("b", 101)], &known, &policy()).await, ["2 Asked"]);
    assert!(steps(&[("a", 100), ("b", 0)], &known, &policy()).await.is_empty());
}

#[tokio::test]
async fn headers_are_asked_for_first_where_ten_names_are_new_and_ten_have_vanished() {
    let names = |prefix: &str, count: usize| -> Vec<(String, u64)> {
        (0..count).map(|i| (format!("{prefix}{i:02}"), 10)).collect()
    };
    for (before, new, left, asked) in
        [(10, 10, 0, 10), (9, 20, 0, 0), (20, 9, 0, 0), (20, 20, 10, 20), (20, 20, 11, 0)]
    {
        let before = names("old", before);
        let deliveries = before.iter().map(|(uid, octets)| delivery(uid, *octets, Some(NOW - DAY)));
        let known = recorded(deliveries.collect(), Closing::default()).await;
        let listed = [names("new", new), before[..left].to_vec()].concat();
        let listed: Vec<(&str, u64)> = listed.iter().map(|(uid, octets)| (uid.as_str(), *octets)).collect();
        let book = known.book(&listed, &policy()).await;
        assert_eq!(book.sorted.questions.len(), asked, "{} known, {new} new, {left} left", before.len());
    }
}

#[tokio::test]
async fn what_was_gone_and_is_listed_again_is_a_question() {
    let known = seen(&[("a", 10)]).await;
    let mut closing = Closing { at: NOW, listed_at: Some(NOW), ..Closing::default() };
    let mut book = known.book(&[], &policy()).await;
    book.close(None, &mut closing);
    drop(book);
    assert_eq!(closing.vanished, [0]);
    let known = known.close(closing).await;
    assert_eq!(steps(&[("a", 10)], &known, &policy()).await, ["1 Asked"]);
    let mut book = known.book(&[("a", 10)], &policy()).await;
    book.answers.note(0, delivery("a", 10, None).fingerprint);
    book.sort(&known.store).await.unwrap();
    let mut closing = Closing::default();
    book.close(None, &mut closing);
    assert_eq!((book.plan().steps, closing.returned), (Vec::new(), vec![0]));
}

#[tokio::test]
async fn the_first_poll_may_take_everything_as_seen() {
    let known = recorded(Vec::new(), Closing::default()).await;
    let none = Policy { first_sync: FirstSync::None, ..policy() };
    assert_eq!(steps(&[("a", 10)], &known, &none).await, ["1 Fetch(New)"]);
    let Remembered { _directory, store, memory } = known;
    let memory = Memory { listed_at: None, ..memory };
    let known = Remembered { _directory, store, memory };
    assert_eq!(steps(&[("a", 10)], &known, &none).await, ["1 Skip"]);
}

#[tokio::test]
async fn what_a_first_poll_knows_to_be_old_counts_as_seen_though_others_are_recorded() {
    let known = seen(&[("known", 10)]).await;
    let fortnight = Policy { first_sync: FirstSync::Within(Duration::from_secs(14 * 86_400)), ..policy() };
    assert_eq!(steps(&[("a", 10)], &known, &fortnight).await, ["1 Fetch(New)"], "it is not the first poll");
    let Remembered { _directory, store, memory } = known;
    let known = Remembered { _directory, store, memory: Memory { listed_at: None, ..memory } };
    assert_eq!(steps(&[("known", 10), ("a", 10)], &known, &fortnight).await, ["2 Undated"]);
    let arrived = |at| Some(Fingerprint { arrived: at, ..Fingerprint::from(&b""[..]) });
    let mut book = known.book(&[("a", 10)], &fortnight).await;
    for (header, step) in [
        (arrived(Some(NOW - 14 * DAY - 1)), Step::Skip),
        (arrived(Some(NOW - 14 * DAY)), Step::Fetch(Reason::New)),
        (arrived(Some(NOW + 14 * DAY)), Step::Fetch(Reason::New)),
        (arrived(Some(i64::MIN)), Step::Skip),
        (arrived(None), Step::Fetch(Reason::New)),
        (None, Step::Fetch(Reason::New)),
    ] {
        book.answers.note(0, header);
        assert_eq!(book.plan().steps, [(0, step)], "{header:?}");
    }
}
