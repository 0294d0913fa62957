//! What to do with each message of a listing: a pure function of listing, records and policy.

use std::collections::HashSet;
use std::time::Duration;

use crate::config::account::{Account, FirstSync, Keep, Order};
use crate::pop3::{Listing, MessageNumber, UniqueId};
use crate::state::{Entries, Entry, Held, Memory, Recorded, Timestamp};

use super::held::is_due;
use super::{Deletions, Limits};

/// Deletions that the server accepted but did not carry out, or refused, after which no more are tried.
const DELETE_TRIES: u32 = 3;
/// Known unique-ids that must be gone, and new ones that must be there, before a maildrop counts as renumbered.
const RENUMBERED: usize = 10;

/// What the account and the user allow.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// When messages are deleted.
    pub keep: Keep,
    /// What the first poll fetches.
    pub first_sync: FirstSync,
    /// Which messages come first.
    pub order: Order,
    /// Octets above which a message stays.
    pub max_size: Option<u64>,
    /// Messages to fetch at most.
    pub limit: Option<usize>,
    /// Whether this run may delete.
    pub deletions: Deletions,
    /// The time of the poll.
    pub now: Timestamp,
}

/// Why a message is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// It is not recorded.
    New,
    /// It was held and its wait is over, or what held it has changed.
    Retry,
    /// Its unique-id is recorded with another size: the server has used it again, or counts otherwise now.
    Reused,
}

/// What one message of the listing needs. A message that is recorded and stays needs nothing and has no step.
#[derive(Debug)]
pub enum Step {
    /// Download and deliver.
    Fetch(Fetch),
    /// It is recorded: delete it.
    Delete(Recorded<MessageNumber>),
    /// Its deletion was tried often enough.
    GiveUpDeleting,
    /// Larger than the limit; it stays on the server.
    TooLarge,
    /// Held, and its wait is not over.
    Held,
    /// Beyond the limit on messages; later.
    Later,
    /// Counts as seen without being fetched.
    Skip,
}

/// The steps for one listing.
#[derive(Debug, Default)]
pub struct Plan {
    /// Indices in the listing and their steps, in the order in which they are to be taken.
    pub steps: Vec<(usize, Step)>,
    /// Recorded messages that the listing no longer shows, by index in the entries.
    pub vanished: Vec<usize>,
    /// Recorded messages that were gone from it and are back.
    pub returned: Vec<usize>,
    /// Held messages that the listing no longer shows.
    pub released: Vec<(UniqueId, u32)>,
    /// Messages that are not recorded.
    pub new: usize,
    /// Octets of those.
    pub new_octets: u64,
    /// Nothing that was known is left, and much is new: before anything is fetched, headers must be compared.
    pub renumbered: bool,
    /// The server counts octets otherwise than before: sizes say nothing about whether a message is the same.
    pub recounted: bool,
}

impl Step {
    /// Says whether it is for a message that is not recorded.
    pub fn is_unrecorded(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::TooLarge | Self::Held | Self::Later | Self::Skip => true,
            Self::Delete(_) | Self::GiveUpDeleting => false,
        }
    }
}

impl Policy {
    /// Takes the account's policy and the limits of one run.
    pub fn new(account: &Account, limits: Limits, now: Timestamp) -> Self {
        Self {
            keep: account.keep,
            first_sync: account.first_sync,
            order: account.order,
            max_size: account.max_size,
            limit: [account.max_messages, limits.limit].into_iter().flatten().min(),
            deletions: limits.deletions,
            now,
        }
    }

    /// Says whether a message that was delivered then is to be deleted now.
    pub fn deletes(&self, delivered_at: Option<Timestamp>) -> bool {
        // What was only marked as seen was never delivered by us, so it is never deleted either.
        let Some(delivered_at) = delivered_at else { return false };
        match (self.deletions, self.keep) {
            (Deletions::NotNow, _) | (_, Keep::Forever) => false,
            (Deletions::AsConfigured, Keep::None) => true,
            (Deletions::AsConfigured, Keep::For(time)) => {
                delivered_at.saturating_add(seconds(time)) <= self.now
            }
        }
    }
}

/// Plans a session. Costs time and memory in proportion to the listing, and no look-up by hash.
pub fn plan(listing: &Listing, memory: &Memory, policy: &Policy) -> Plan {
    let entries = &memory.entries;
    let mut plan = Plan::default();
    let mut matched = vec![false; entries.len()];
    // By index in the listing, for messages that are recorded; `u32::MAX` for the others.
    let mut known = vec![u32::MAX; listing.len()];
    let mut resized = 0;
    for index in listing.by_uid() {
        let message = listing.get(index);
        let Some(entry) = entries.find(message.uid, message.ordinal) else { continue };
        matched[entry.index] = true;
        known[index] = u32::try_from(entry.index).unwrap_or(u32::MAX);
        resized += usize::from(is_resized(&entry, message.octets));
        if entry.last_listed.is_some() {
            plan.returned.push(entry.index);
        }
    }
    let present = matched.iter().filter(|matched| **matched).count();
    // One message of another size is another message; when most are, it is the server that counts otherwise.
    plan.recounted = resized >= RENUMBERED && resized * 2 > present;

    // Not only since the last listing: the poll that first missed them may have been cut off, or have been shown an
    // empty maildrop.
    let mut gone = 0;
    for (index, _) in matched.iter().enumerate().filter(|(_, matched)| !**matched) {
        let entry = entries.get(index).2;
        gone += usize::from(!entry.deleted);
        if entry.last_listed.is_none() {
            plan.vanished.push(index);
        }
    }
    plan.released = held_and_gone(listing, &memory.held);

    // A group of messages that share a unique-id is deleted only as a whole: with one of them gone, the server's
    // listing could no longer tell which of them is left.
    let partly_recorded = partly_recorded(listing, &known);

    let first_poll = memory.listed_at.is_none() && entries.is_empty();
    let mut wanted = 0;
    let mut one = |plan: &mut Plan, index: usize| {
        let message = listing.get(index);
        let entry = (known[index] != u32::MAX).then(|| entries.get(known[index] as usize).2);
        let reused = entry.is_some_and(|entry| is_resized(&entry, message.octets)) && !plan.recounted;
        let step = match entry {
            Some(entry) if !reused => match recorded_step(entries, &entry, message.number, policy) {
                Some(Step::Delete(_)) if partly_recorded.contains(&index) => return,
                Some(step) => step,
                None => return,
            },
            Some(_) | None => {
                plan.new += 1;
                plan.new_octets = plan.new_octets.saturating_add(message.octets);
                let held = memory.held(message.uid, message.ordinal, message.octets);
                match held {
                    _ if first_poll && policy.first_sync == FirstSync::None => Step::Skip,
                    _ if policy.max_size.is_some_and(|limit| message.octets > limit) => Step::TooLarge,
                    Some(held) if !is_due(held, policy.now) => Step::Held,
                    _ if policy.limit.is_some_and(|limit| wanted >= limit) => Step::Later,
                    Some(_) => Step::Fetch(Fetch::Retry),
                    None if reused => Step::Fetch(Fetch::Reused),
                    None => Step::Fetch(Fetch::New),
                }
            }
        };
        wanted += usize::from(matches!(step, Step::Fetch(_)));
        plan.steps.push((index, step));
    };
    match policy.order {
        Order::Oldest => (0..listing.len()).for_each(|index| one(&mut plan, index)),
        Order::Newest => (0..listing.len()).rev().for_each(|index| one(&mut plan, index)),
    }
    // What failed before comes last, the small ones first: a large one that finds no room takes all there is while it
    // is tried, and should keep nothing away.
    plan.steps.sort_by_key(|(index, step)| match step {
        Step::Fetch(Fetch::Retry) => (true, listing.get(*index).octets),
        _ => (false, 0),
    });
    plan.renumbered = present == 0 && gone >= RENUMBERED && plan.new >= RENUMBERED;
    plan
}

fn recorded_step(entries: &Entries, entry: &Entry, number: MessageNumber, policy: &Policy) -> Option<Step> {
    if !policy.deletes(entry.delivered_at) {
        return None;
    }
    match entry.delete_tries {
        // Said once: the caller counts it as one more try.
        DELETE_TRIES => Some(Step::GiveUpDeleting),
        0..DELETE_TRIES => Some(Step::Delete(entries.proof(entry, number))),
        _ => None,
    }
}

fn is_resized(entry: &Entry, octets: u64) -> bool {
    entry.octets != octets && entry.octets != 0 && octets != 0
}

/// Finds the messages that share a unique-id with one that is not recorded.
fn partly_recorded(listing: &Listing, known: &[u32]) -> HashSet<usize> {
    let shared = listing.shared();
    let unrecorded: HashSet<&[u8]> = shared
        .iter()
        .filter(|index| known[**index] == u32::MAX)
        .map(|index| listing.get(*index).uid)
        .collect();
    shared.into_iter().filter(|index| unrecorded.contains(listing.get(*index).uid)).collect()
}

fn held_and_gone(listing: &Listing, held: &[Held]) -> Vec<(UniqueId, u32)> {
    if held.is_empty() {
        return Vec::new();
    }
    let order: Vec<usize> = listing.by_uid().collect();
    let is_listed = |held: &Held| {
        order
            .binary_search_by(|index| {
                let message = listing.get(*index);
                (message.uid, message.ordinal).cmp(&(held.uid.as_bytes(), held.ordinal))
            })
            .is_ok()
    };
    held.iter().filter(|held| !is_listed(held)).map(|held| (held.uid.clone(), held.ordinal)).collect()
}

/// Gives a duration in whole seconds.
pub fn seconds(time: Duration) -> Timestamp {
    Timestamp::try_from(time.as_secs()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pop3::listing::ListingBuilder;
    use crate::state::{Closing, Delivery, HeldKind, Standing, Store};

    const DAY: Timestamp = 86_400;
    const NOW: Timestamp = 1000 * DAY;

    fn policy() -> Policy {
        Policy {
            keep: Keep::Forever,
            first_sync: FirstSync::All,
            order: Order::Oldest,
            max_size: None,
            limit: None,
            deletions: Deletions::AsConfigured,
            now: NOW,
        }
    }

    fn delivery(uid: &str, ordinal: u32, octets: u64, delivered_at: Option<Timestamp>) -> Delivery {
        Delivery { uid: UniqueId::new(uid.as_bytes()), ordinal, octets, header: None, delivered_at }
    }

    /// What a store remembers that recorded these and then closed a session in this way.
    async fn memory(deliveries: Vec<Delivery>, closing: Closing) -> Memory {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state.db"));
        let name: Arc<str> = "alice@pop.example.org".into();
        let memory = store.begin(name.clone()).await.unwrap();
        let deliveries = deliveries.into_iter().map(|delivery| (delivery, ())).collect();
        store.record(memory.key, NOW - DAY, deliveries).await.unwrap();
        let closing = Closing { at: NOW - DAY, listed_at: Some(NOW - DAY), ..closing };
        store.close(memory.key, &memory.entries, closing).await.unwrap();
        store.begin(name).await.unwrap()
    }

    async fn seen(uids: &[(&str, u64)]) -> Memory {
        let deliveries =
            uids.iter().map(|(uid, octets)| delivery(uid, 0, *octets, Some(NOW - DAY))).collect();
        memory(deliveries, Closing::default()).await
    }

    fn listing(messages: &[(&str, u64)]) -> Listing {
        let mut builder = ListingBuilder::default();
        for (i, (uid, octets)) in messages.iter().enumerate() {
            builder.unique_id_line(format!("{} {uid}", i + 1).as_bytes());
            builder.size_line(format!("{} {octets}", i + 1).as_bytes());
        }
        builder.build()
    }

    /// The steps as text: message-number and step.
    fn steps(messages: &[(&str, u64)], memory: &Memory, policy: &Policy) -> Vec<String> {
        let listing = listing(messages);
        let plan = plan(&listing, memory, policy);
        plan.steps.iter().map(|(index, step)| format!("{} {step:?}", listing.get(*index).number)).collect()
    }

    #[tokio::test]
    async fn what_is_not_recorded_is_fetched_and_what_is_recorded_needs_nothing() {
        let memory = seen(&[("b", 10), ("d", 10)]).await;
        let messages = [("a", 10), ("b", 10), ("c", 10), ("d", 10)];
        assert_eq!(steps(&messages, &memory, &policy()), ["1 Fetch(New)", "3 Fetch(New)"]);
        let newest = Policy { order: Order::Newest, limit: Some(1), ..policy() };
        assert_eq!(steps(&messages, &memory, &newest), ["3 Fetch(New)", "1 Later"]);
    }

    #[tokio::test]
    async fn deletion_goes_by_our_own_record_of_delivery() {
        let recorded = vec![
            delivery("old", 0, 10, Some(NOW - 15 * DAY)),
            delivery("young", 0, 10, Some(NOW - 13 * DAY)),
            delivery("marked", 0, 10, None),
        ];
        let memory = memory(recorded, Closing::default()).await;
        let messages = [("old", 10), ("young", 10), ("marked", 10)];
        let delete = |number: u32| format!("{number} Delete(Recorded(MessageNumber({number})))");
        let two_weeks = Policy { keep: Keep::For(Duration::from_secs(14 * 86_400)), ..policy() };
        assert_eq!(steps(&messages, &memory, &two_weeks), [delete(1)]);
        let none = Policy { keep: Keep::None, ..policy() };
        assert_eq!(
            steps(&messages, &memory, &none),
            [delete(1), delete(2)],
            "the marked one was never delivered"
        );
        let not_now = Policy { deletions: Deletions::NotNow, ..none };
        assert!(steps(&messages, &memory, &not_now).is_empty());
    }

    #[tokio::test]
    async fn messages_that_share_a_unique_id_are_deleted_together_or_not_at_all() {
        let none = Policy { keep: Keep::None, ..policy() };
        let one = seen(&[("same", 10)]).await;
        let messages = [("same", 10), ("same", 10)];
        assert_eq!(steps(&messages, &one, &none), ["2 Fetch(New)"]);
        let recorded = (0..2).map(|ordinal| delivery("same", ordinal, 10, Some(NOW - DAY))).collect();
        let both = memory(recorded, Closing::default()).await;
        assert_eq!(steps(&messages, &both, &none).len(), 2);
    }

    #[tokio::test]
    async fn deletions_that_do_not_take_are_given_up_after_three() {
        let none = Policy { keep: Keep::None, ..policy() };
        let uid = UniqueId::new(&b"a"[..]);
        for (tries, expected) in [(2, "Delete(Recorded(MessageNumber(1)))"), (3, "GiveUpDeleting")] {
            let undeleted = vec![(uid.clone(), 0); tries];
            let closing = Closing { undeleted, ..Closing::default() };
            let memory = memory(vec![delivery("a", 0, 10, Some(NOW - DAY))], closing).await;
            assert_eq!(steps(&[("a", 10)], &memory, &none), [format!("1 {expected}")]);
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
            let memory = memory(Vec::new(), closing).await;
            assert_eq!(steps(&[("a", 10)], &memory, &policy()), [expected]);
            let plan = plan(&listing(&[("a", 10)]), &memory, &policy());
            assert_eq!(plan.released, [(UniqueId::new(&b"gone"[..]), 0)]);
        }
    }

    #[tokio::test]
    async fn the_size_limit_is_for_what_is_not_recorded() {
        let memory = seen(&[("big", 100)]).await;
        let limited = Policy { max_size: Some(50), ..policy() };
        let messages = [("big", 100), ("other", 51), ("small", 50)];
        assert_eq!(steps(&messages, &memory, &limited), ["2 TooLarge", "3 Fetch(New)"]);
    }

    #[tokio::test]
    async fn a_unique_id_with_another_size_is_fetched_unless_the_server_counts_otherwise_now() {
        let names: Vec<String> = (0..20).map(|i| format!("uid{i:02}")).collect();
        let before: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 100)).collect();
        let memory = seen(&before).await;
        let mut after = before.clone();
        after[3].1 = 101;
        assert_eq!(steps(&after, &memory, &policy()), ["4 Fetch(Reused)"]);
        after[3].1 = 0;
        assert!(steps(&after, &memory, &policy()).is_empty(), "no size is no other size");
        let recounted: Vec<(&str, u64)> = before.iter().map(|(name, octets)| (*name, octets + 7)).collect();
        assert!(steps(&recounted, &memory, &policy()).is_empty());
    }

    #[tokio::test]
    async fn a_maildrop_counts_as_renumbered_only_if_nothing_known_is_left_and_much_is_new() {
        let names = |prefix: &str, count: usize| -> Vec<(String, u64)> {
            (0..count).map(|i| (format!("{prefix}{i:02}"), 10)).collect()
        };
        let borrow = |names: &[(String, u64)]| -> Vec<(String, u64)> { names.to_vec() };
        for (known, new, left, renumbered) in
            [(10, 10, false, true), (9, 20, false, false), (20, 9, false, false), (20, 20, true, false)]
        {
            let known = names("old", known);
            let recorded =
                known.iter().map(|(uid, octets)| delivery(uid, 0, *octets, Some(NOW - DAY))).collect();
            let memory = memory(recorded, Closing::default()).await;
            let mut listed = names("new", new);
            if left {
                listed.extend(borrow(&known[..1]));
            }
            let listed: Vec<(&str, u64)> =
                listed.iter().map(|(uid, octets)| (uid.as_str(), *octets)).collect();
            let plan = plan(&listing(&listed), &memory, &policy());
            assert_eq!(plan.renumbered, renumbered, "{} known, {new} new", known.len());
            assert_eq!(plan.vanished.len(), known.len() - usize::from(left));
        }
    }

    #[tokio::test]
    async fn what_was_gone_and_is_listed_again_is_still_known() {
        let recorded = vec![delivery("a", 0, 10, Some(NOW - DAY))];
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state.db"));
        let name: Arc<str> = "bob@pop.example.org".into();
        let key = store.begin(name.clone()).await.unwrap().key;
        store.record(key, NOW, recorded.into_iter().map(|delivery| (delivery, ())).collect()).await.unwrap();
        let memory = store.begin(name.clone()).await.unwrap();
        let plan_empty = plan(&listing(&[]), &memory, &policy());
        assert_eq!(plan_empty.vanished, [0]);
        let closing =
            Closing { at: NOW, listed_at: Some(NOW), vanished: plan_empty.vanished, ..Closing::default() };
        store.close(memory.key, &memory.entries, closing).await.unwrap();
        let memory = store.begin(name).await.unwrap();
        let back = plan(&listing(&[("a", 10)]), &memory, &policy());
        assert!(back.steps.is_empty());
        assert_eq!(back.returned, [0]);
    }

    #[tokio::test]
    async fn the_first_poll_may_take_everything_as_seen() {
        let memory = memory(Vec::new(), Closing::default()).await;
        let none = Policy { first_sync: FirstSync::None, ..policy() };
        let never_listed = Memory { listed_at: None, ..memory };
        assert_eq!(steps(&[("a", 10)], &never_listed, &none), ["1 Skip"]);
        let listed = Memory { listed_at: Some(NOW), ..never_listed };
        assert_eq!(steps(&[("a", 10)], &listed, &none), ["1 Fetch(New)"]);
    }
}
