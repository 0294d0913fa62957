//! What is written down at the end of a session.

use std::collections::{BTreeSet, HashSet};

use crate::config::account::Keep;
use crate::delivery::Leftover;
use crate::message::UniqueId;
use crate::state::{Change, Closing, Confirmed, Delivery, Detail, Entry, HeldKind, Kind};

use super::super::policy::Due;
use super::super::trouble::Failed;
use super::super::which::{Group, Nameless, Verdict};
use super::names::made_name;
use super::{Book, ToCome};

/// Octets by which a server may list a message as smaller or larger than it is, by counting otherwise and by what it
/// writes into it. Where nothing but content would tell a weak one again, that is not the size of another.
const NEAR: u64 = 128;

impl Book<'_> {
    /// Keeps in mind that a record is to be written.
    pub(super) fn change(&mut self, index: usize, entry: usize) {
        let (uid, ordinal, known) = self.memory.entries.get(entry);
        let group = self.sorted.group_of(index);
        let shown = self.listing.shown(index);
        let (uid, ordinal) = match group {
            Some(Group::All | Group::Unnamed) if self.memory.entries.is_made(entry) => {
                (UniqueId::new(uid), ordinal)
            }
            Some(Group::All | Group::Unnamed) => match self.changes.get(&entry) {
                Some(change) => (change.uid.clone(), change.ordinal),
                None => self.free(made_name(self.policy.now, index)),
            },
            Some(Group::Shared(_)) | None if uid == shown.uid => (UniqueId::new(uid), ordinal),
            Some(Group::Shared(_)) | None => match self.changes.get(&entry) {
                Some(change) => (change.uid.clone(), change.ordinal),
                None => self.free(UniqueId::new(shown.uid)),
            },
        };
        let octets = self.listing.shown(index).octets;
        let octets = if octets == 0 { known.octets } else { octets };
        let mut detail = self.details.get(&entry).cloned().unwrap_or_default();
        detail.place = self.places.get(&index).copied();
        let delivered_at = match self.policy.due(&known, &detail) {
            Due::Reset => Some(self.policy.now),
            Due::No | Due::Noted | Due::Now | Due::GivenUp => known.delivered_at,
        };
        if self.policy.due(&known, &detail) == Due::Noted {
            detail.due_since = Some(self.policy.now);
        }
        let stays = self.stays(&known, &detail);
        self.changes
            .insert(entry, Change { index: entry, uid, ordinal, octets, delivered_at, detail, stays });
    }

    /// Says whether a message that was to be deleted, or was doubted, is there and to be kept.
    fn stays(&self, known: &Entry, detail: &Detail) -> bool {
        let is_tried = known.deleted || known.delete_tries > 0;
        let is_due = matches!(self.policy.due(known, detail), Due::Now | Due::GivenUp);
        known.was_deleted() && (self.policy.keep == Keep::Forever || !is_tried && !is_due)
    }

    /// Writes down what was learned; `aborted` says why something that was begun was broken off.
    pub fn close(&mut self, aborted: Option<&Failed>, closing: &mut Closing) {
        for (index, entry) in self.known().collect::<Vec<_>>() {
            self.note(index, entry);
        }
        let pending: Vec<usize> = (0..self.listing.len()).filter(|index| self.is_pending(*index)).collect();
        for index in pending {
            match self.record_of(index) {
                Some(entry) => self.note(index, entry),
                None => {
                    let message = self.listing.get(index);
                    let new = Delivery::new(
                        UniqueId::new(message.uid),
                        message.ordinal,
                        message.octets,
                        Kind::Pending,
                    );
                    let second = self.answers.header(index).map(|header| header.identity);
                    let place = self.places.get(&index).copied();
                    closing.pending.push(Delivery { second, place, ..new });
                }
            }
        }
        self.unplace();
        closing.superseded = std::mem::take(&mut self.superseded);
        closing.superseded.iter().for_each(|entry| drop(self.changes.remove(entry)));
        if aborted.is_none() {
            closing.vanished = self.sorted.vanished(&self.memory.entries);
            let unseen = || (0..self.listing.len()).filter(|index| self.is_unseen(*index));
            let sizes = unseen().map(|index| self.listing.shown(index).octets).collect();
            let placed: Vec<usize> =
                unseen().filter(|index| self.sorted.group_of(*index).is_some()).collect();
            let superseded = &closing.superseded;
            let is_gone =
                |entry: &usize| !self.may_be_listed(*entry, &placed, &sizes) && !superseded.contains(entry);
            closing.vanished.retain(is_gone);
        }
        closing.returned = self.sorted.returned(&self.memory.entries);
        closing.confirmed = std::mem::take(&mut self.doubted).into_iter().collect();
        closing.confirmed.retain(|(index, _)| self.recorded.contains(index));
        let is_held = |(uid, ordinal): &(UniqueId, u32)| self.is_there(uid, *ordinal, &closing.vanished);
        closing.released.retain(|name| !is_held(name));
        closing.open = aborted.is_some() || !self.sorted.is_complete();
        closing.naming = Some(self.sorted.naming.clone());
        closing.changes = std::mem::take(&mut self.changes).into_values().collect();
        self.renamed = closing
            .changes
            .iter()
            .map(|change| (change.index, (change.uid.clone(), change.ordinal)))
            .collect();
    }

    /// Has what is recorded of a message doubted until the session has come to a good end: it may have come in the place
    /// of another, and if the program is killed before, nobody says so.
    pub fn doubt_for_now(&mut self, index: usize, delivery: &mut Delivery) {
        // What TOP showed is of the one that it may not be.
        let second = delivery.second.take();
        if delivery.deleting {
            return;
        }
        delivery.open = true;
        let (octets, place) = (delivery.octets, delivery.place.take());
        delivery.octets = delivery.fingerprint.map_or(octets, |whole| whole.octets);
        if delivery.octets != octets || place.is_some() || second.is_some() {
            let name = (delivery.uid.clone(), delivery.ordinal);
            self.doubted.insert(index, Confirmed { name, octets, place, second });
        }
    }

    /// Doubts what was written down of messages that may have come in the place of others: nothing is changed by them,
    /// and what was recorded of them is asked about before it is believed.
    pub fn doubt(&self, uncertain: &[usize], closing: &mut Closing) {
        if uncertain.is_empty() {
            return;
        }
        let came = || uncertain.iter().filter(|index| self.whole.contains(index));
        let changed: HashSet<usize> = came().filter_map(|index| self.record_of(*index)).collect();
        closing.changes.retain(|change| !changed.contains(&change.index));
        closing.returned.retain(|entry| !changed.contains(entry));
        closing.vanished.clear();
        closing.open = true;
        closing.confirmed.retain(|(index, _)| !uncertain.contains(index));
        // Whether or not it was heard that they are recorded.
        let new = came().filter(|index| self.recorded.contains(index) || self.record_of(**index).is_none());
        closing.doubted.extend(new.map(|index| self.listed_name(*index)));
    }

    /// Says whether a recorded message is there for all that is known, so that what is held of it is, too: nothing but
    /// its content may show which one it is, and that comes last.
    fn is_there(&self, uid: &UniqueId, ordinal: u32, vanished: &[usize]) -> bool {
        self.memory.entries.find(uid.as_bytes(), ordinal).is_some_and(|known| {
            let is_gone = known.is_missed() || vanished.binary_search(&known.index).is_ok();
            self.sorted.taken[known.index] || !is_gone
        })
    }

    /// Says whether a message that may be any was not looked at.
    fn is_unseen(&self, index: usize) -> bool {
        matches!(self.sorted.verdicts[index], Verdict::New { .. } | Verdict::Done)
            && !self.whole.contains(&index)
    }

    /// Says whether all that is known of the header of a message may be that of a recorded one.
    fn may_have_header_of(&self, index: usize, entry: usize) -> bool {
        let seen = self.record_of(index).and_then(|seen| self.details.get(&seen));
        let seen = seen.into_iter().flat_map(|seen| seen.identities).flatten();
        let shown = self.answers.header(index).map(|header| header.identity);
        let mut identities = seen.chain(shown).peekable();
        match self.details.get(&entry) {
            Some(known) if !known.is_weak() && identities.peek().is_some() => {
                known.header.is_some()
                    || identities.any(|identity| known.identities.contains(&Some(identity)))
            }
            Some(_) | None => true,
        }
    }

    /// Says whether a record may be of a message that is listed and that nobody has looked at: one of its name, one of
    /// those that go by their place, or one of these sizes.
    fn may_be_listed(&self, entry: usize, placed: &[usize], sizes: &BTreeSet<u64>) -> bool {
        let by_place = || placed.iter().any(|index| self.may_have_header_of(*index, entry));
        let (octets, detail) = (self.entry(entry).octets, self.details.get(&entry));
        let near = if detail.is_some_and(Detail::is_weak) { NEAR } else { 0 };
        let is_near = |octets: u64| {
            sizes.range(octets.saturating_sub(near)..=octets.saturating_add(near)).next().is_some()
        };
        let by_size = || {
            let (sent, listed) = detail.map_or((octets, octets), |detail| (detail.sent, detail.listed));
            let is_unknown = sizes.contains(&0) || octets == 0 && !sizes.is_empty();
            is_unknown || [octets, sent, listed].into_iter().any(is_near)
        };
        self.owner(entry).is_some_and(|owner| self.is_unseen(owner)) || by_place() || by_size()
    }

    /// Takes those out of the order of their groups that are not where they were. Of a group that was not asked, nobody
    /// knows.
    fn unplace(&mut self) {
        let entries = &self.memory.entries;
        let is_open =
            |index: &usize| matches!(self.sorted.verdicts[*index], Verdict::Open | Verdict::Unasked);
        let is_any_open = self.sorted.groups.iter().any(|(_, members)| members.iter().any(is_open));
        let mut gone: Vec<usize> = Vec::new();
        for (group, members) in &self.sorted.groups {
            let pool = match group {
                Group::Shared(_) if members.iter().any(is_open) => continue,
                // Any record may be of a member of the others.
                Group::All | Group::Unnamed if is_any_open => continue,
                Group::Shared(uid) => entries.of(uid),
                Group::All | Group::Unnamed => 0..entries.len(),
            };
            gone.extend(pool.filter(|entry| entries.get(*entry).2.placed && !self.sorted.taken[*entry]));
        }
        for entry in gone {
            let (uid, ordinal, known) = entries.get(entry);
            let Some(detail) = self.details.get(&entry) else { continue };
            self.changes.entry(entry).or_insert_with(|| Change {
                index: entry,
                uid: UniqueId::new(uid),
                ordinal,
                octets: known.octets,
                delivered_at: known.delivered_at,
                detail: Detail { place: None, ..detail.clone() },
                stays: false,
            });
        }
    }

    /// Says whether a message is recorded as listed, and not delivered: one that goes by its place, or that may be one of
    /// those that were found in a mailbox.
    fn is_pending(&self, index: usize) -> bool {
        let may_be_found = self.keeps_found && self.held(index).is_none();
        (may_be_found || self.places.contains_key(&index)) && self.is_to_come(index)
    }

    /// Says whether a listed message is new, and was not delivered by this session.
    fn is_to_come(&self, index: usize) -> bool {
        let is_new = match self.sorted.verdicts[index] {
            Verdict::New { .. } => true,
            Verdict::Done => true,
            Verdict::Known(_) | Verdict::Open | Verdict::Unasked | Verdict::Hole => false,
        };
        let is_nameless = self.answers.are_none() && self.listing.shown(index).uid.is_empty();
        let stays = self.around.nameless == Nameless::Stay && is_nameless;
        is_new && !stays && !self.recorded.contains(&index)
    }

    /// Says whether a message is to come that may be one that was found in a mailbox: of which no session has seen more than
    /// its name.
    pub fn to_come(&self) -> ToCome {
        let is_settled = |index: &usize| {
            let came = |held: HeldKind| matches!(held, HeldKind::Later | HeldKind::Refused);
            self.whole.contains(index) || self.held(*index).is_some_and(|held| came(held.kind))
        };
        if self.has_holes() {
            return ToCome::Unnamed;
        }
        let any = (0..self.listing.len()).any(|index| self.is_to_come(index) && !is_settled(&index));
        if any { ToCome::Some } else { ToCome::Nothing }
    }

    /// Says whether there are messages that UIDL has left out.
    pub fn has_holes(&self) -> bool {
        self.sorted.verdicts.contains(&Verdict::Hole)
    }

    /// Has those messages recorded as listed that may be one of those that are kept.
    pub fn keep_found(&mut self, leftover: Leftover) {
        self.keeps_found = leftover == Leftover::Kept;
    }

    /// Notes what has changed of a record, if anything has.
    fn note(&mut self, index: usize, entry: usize) {
        // Where it is not loaded, nothing contradicted it.
        let Some(detail) = self.details.get_mut(&entry) else { return };
        let known = self.memory.entries.get(entry).2;
        let shown = self.listing.shown(index).octets;
        let header = self.answers.header(index).map(|header| header.identity);
        let mut changed = self.changes.contains_key(&entry);
        if let (Some(identity), [None, None]) = (header, detail.identities) {
            detail.identities[1] = Some(identity);
            changed = true;
        }
        changed |= shown != 0 && shown != known.octets;
        changed |= detail.place != self.places.get(&index).copied();
        let detail = detail.clone();
        changed |= matches!(self.policy.due(&known, &detail), Due::Noted | Due::Reset);
        changed |= self.stays(&known, &detail);
        let (uid, ..) = self.memory.entries.get(entry);
        changed |= match self.sorted.group_of(index) {
            Some(Group::All | Group::Unnamed) => !self.memory.entries.is_made(entry),
            Some(Group::Shared(_)) | None => uid != self.listing.shown(index).uid,
        };
        if changed {
            self.change(index, entry);
        }
    }
}
