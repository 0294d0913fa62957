//! What to do with each message of a sorted listing: a pure function of listing, records and policy.

use std::collections::{HashMap, HashSet};

use crate::config::account::{FirstSync, Order};
use crate::message::{Listing, UniqueId};
use crate::state::{Detail, Held, Memory, Timestamp};

use super::policy::{Due, Policy};
use super::waits::{is_due, seconds};
use super::which::{Answers, Nameless, Sorted, Verdict};

/// Why a message is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not recorded.
    New,
    /// It was held and its wait is over, or what held it has changed.
    Retry,
    /// Something contradicts its being the one that is recorded: its content will tell.
    Compared,
}

/// What one message of the listing needs. A message that is recorded and stays needs nothing and has no step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Download; deliver it if it is none that is recorded.
    Fetch(Reason),
    /// Delete it, once it is seen to be the recorded message of this index.
    Delete(usize),
    /// Its deletion was tried often enough for now; it is told once.
    GiveUpDeleting(usize),
    /// Larger than the limit; it stays on the server.
    TooLarge,
    /// Held, and its wait is not over.
    Held,
    /// Beyond the limit on messages; later.
    Later,
    /// Counts as seen without being fetched.
    Skip,
    /// Its age, on which that depends, is not known yet.
    Undated,
    /// Nothing tells it from others at the next poll.
    Nameless,
    /// What must be known of it is not known yet.
    Unasked,
}

/// The steps for one listing.
#[derive(Debug, Default)]
pub struct Plan {
    /// Indices in the listing and their steps, in the order in which they are to be taken.
    pub steps: Vec<(usize, Step)>,
    /// Held messages that the listing no longer shows.
    pub released: Vec<(UniqueId, u32)>,
    /// Messages that are not recorded.
    pub new: usize,
    pub new_octets: u64,
}

/// Says what a first poll leaves of what is new. Without a date nothing is known to be old.
fn left_at_first(policy: &Policy, index: usize, answers: &Answers) -> Option<Step> {
    match policy.first_sync {
        FirstSync::All => None,
        FirstSync::None => Some(Step::Skip),
        FirstSync::Within(_) if answers.is_unasked(index) => Some(Step::Undated),
        FirstSync::Within(time) => {
            let arrived = answers.header(index)?.arrived?;
            (arrived < policy.now.saturating_sub(seconds(time))).then_some(Step::Skip)
        }
    }
}

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    pub listing: &'a Listing,
    pub sorted: &'a Sorted,
    pub memory: &'a Memory,
    /// What is remembered of a message that failed, by index in the listing.
    pub held: &'a dyn Fn(usize) -> Option<&'a Held>,
    /// Of those that were needed so far.
    pub details: &'a HashMap<usize, Detail>,
    pub policy: &'a Policy,
    pub answers: &'a Answers,
    /// What becomes of messages that nothing tells apart.
    pub nameless: Nameless,
}

/// Plans a session. Costs time and memory in proportion to the listing.
pub fn plan(grounds: Grounds<'_>) -> Plan {
    let Grounds { listing, sorted, memory, details, policy, answers, nameless, .. } = grounds;
    let entries = &memory.entries;
    let compared: HashSet<usize> = sorted.owners.values().copied().collect();
    let is_first = policy.is_first(memory);
    let mut plan = Plan { released: held_and_gone(listing, sorted, memory), ..Plan::default() };
    let one = |plan: &mut Plan, index: usize| {
        let message = listing.get(index);
        let step = match sorted.verdicts[index] {
            Verdict::Known(entry) => {
                let detail = details.get(&entry);
                match detail.map_or(Due::No, |detail| policy.due(&entries.get(entry).2, detail)) {
                    Due::Now => Step::Delete(entry),
                    Due::GivenUp => Step::GiveUpDeleting(entry),
                    Due::No | Due::Noted | Due::Reset => return,
                }
            }
            Verdict::Done => return,
            // What UIDL leaves out is marked by its header.
            Verdict::Hole if is_first && policy.first_sync == FirstSync::None => Step::Skip,
            Verdict::Open | Verdict::Unasked | Verdict::Hole => Step::Unasked,
            Verdict::New { .. } => {
                plan.new += 1;
                plan.new_octets = plan.new_octets.saturating_add(message.octets);
                let held = (grounds.held)(index);
                let left = if is_first { left_at_first(policy, index, answers) } else { None };
                match held {
                    _ if let Some(step) = left => step,
                    _ if nameless == Nameless::Stay && listing.shown(index).uid.is_empty() => Step::Nameless,
                    _ if policy.max_size.is_some_and(|limit| message.octets > limit) => Step::TooLarge,
                    Some(held) if !is_due(held, policy.now) => Step::Held,
                    Some(_) => Step::Fetch(Reason::Retry),
                    None if compared.contains(&index) => Step::Fetch(Reason::Compared),
                    None => Step::Fetch(Reason::New),
                }
            }
        };
        plan.steps.push((index, step));
    };
    match policy.order {
        Order::Oldest => (0..listing.len()).for_each(|index| one(&mut plan, index)),
        Order::Newest => (0..listing.len()).rev().for_each(|index| one(&mut plan, index)),
    }
    // What failed before comes last, the small ones first: a large one that finds no room takes all there is while it
    // is tried, and should keep nothing away.
    plan.steps.sort_by_key(|(index, step)| match step {
        Step::Fetch(Reason::Retry) => (2, listing.get(*index).octets),
        Step::Fetch(Reason::Compared) => (1, 0),
        _ => (0, 0),
    });
    limit(&mut plan, grounds);
    plan
}

/// Puts off what is beyond the limits on messages and octets; of those that failed before, and of those whose deletion did, the ones
/// that were tried last.
fn limit(plan: &mut Plan, grounds: Grounds<'_>) {
    let Policy { limit, octets, .. } = *grounds.policy;
    if limit.is_none() && octets.is_none() {
        return;
    }
    let tried_at = |index: usize| (grounds.held)(index).map(|held| held.tried_at);
    let deletions = grounds.sorted.owners.iter().map(|(entry, index)| (*index, entry));
    let deletions: HashMap<usize, Option<Timestamp>> =
        deletions.filter_map(|(index, entry)| Some((index, grounds.details.get(entry)?.tried_at))).collect();
    let mut fetches: Vec<&mut (usize, Step)> =
        plan.steps.iter_mut().filter(|(_, step)| matches!(step, Step::Fetch(_))).collect();
    // Neither keeps the other away for good.
    fetches.sort_by_key(|(index, step)| match step {
        Step::Fetch(Reason::Retry) => tried_at(*index),
        _ => deletions.get(index).copied().flatten(),
    });
    let mut before = 0_u64;
    for (place, (index, step)) in fetches.into_iter().enumerate() {
        if limit.is_some_and(|limit| place >= limit) || octets.is_some_and(|octets| before >= octets) {
            *step = if *step == Step::Fetch(Reason::Retry) { Step::Held } else { Step::Later };
        }
        before = before.saturating_add(grounds.listing.get(*index).octets);
    }
}

fn held_and_gone(listing: &Listing, sorted: &Sorted, memory: &Memory) -> Vec<(UniqueId, u32)> {
    let Memory { entries, held, .. } = memory;
    if held.is_empty() || !sorted.is_complete() {
        return Vec::new();
    }
    let listed: HashSet<(&[u8], u32)> = (0..listing.len())
        .map(|index| listing.get(index))
        .map(|message| (message.uid, message.ordinal))
        .collect();
    // A message that may be the recorded one, and is not seen to be that yet, has another name meanwhile.
    let may_be_listed = |held: &Held| {
        let mut records =
            entries.of(held.uid.as_bytes()).filter(|entry| entries.get(*entry).1 == held.ordinal);
        records.any(|entry| sorted.taken[entry] || sorted.owners.contains_key(&entry))
    };
    let is_gone =
        |held: &&Held| !listed.contains(&(held.uid.as_bytes(), held.ordinal)) && !may_be_listed(held);
    held.iter().filter(is_gone).map(|held| (held.uid.clone(), held.ordinal)).collect()
}

#[cfg(test)]
mod tests;
