//! The names that messages have, or will have, in the state.

use std::collections::HashSet;

use crate::message::{Fingerprint, UniqueId};
use crate::state::Timestamp;

use super::super::which::{Group, Verdict};
use super::Book;
use super::stock::old_name;

impl Book<'_> {
    /// Says where the messages that go by their place stand, as far as all before them are known. Those that stand in
    /// the order in which they stood keep their places.
    pub(super) fn place(&mut self) {
        for (_, members) in &self.sorted.groups {
            let mut next = 0;
            for index in members {
                if matches!(self.sorted.verdicts[*index], Verdict::Open | Verdict::Unasked) {
                    break;
                }
                let known = self.record_of(*index).and_then(|entry| self.details.get(&entry)?.place);
                let place = known.filter(|place| *place >= next).unwrap_or(next);
                self.places.insert(*index, place);
                next = place + 1;
            }
        }
    }

    /// Gives messages the names that they have, or will have, in the state.
    pub(super) fn name(&mut self) {
        for index in 0..self.listing.len() {
            match (self.sorted.verdicts[index], self.record_of(index)) {
                (_, Some(entry)) => {
                    let (uid, ordinal, _) = self.memory.entries.get(entry);
                    let message = self.listing.get(index);
                    if (message.uid, message.ordinal) != (uid, ordinal) {
                        self.listing.name(index, uid, ordinal);
                    }
                }
                (Verdict::New { .. }, None) => self.name_one(index),
                (Verdict::Done | Verdict::Open | Verdict::Unasked | Verdict::Hole | Verdict::Known(_), _) => {
                }
            }
        }
    }

    /// Gives names to messages that are to be marked, and to which the server gives none.
    pub fn name_marked(&mut self, indices: &[usize]) {
        for index in indices {
            if self.listing.shown(*index).uid.is_empty() && self.record_of(*index).is_none() {
                self.name_one(*index);
            }
        }
    }

    /// Gives a message that has no record the name that it will have.
    pub(super) fn name_one(&mut self, index: usize) {
        if !self.named.insert(index) {
            return;
        }
        let uid = match self.sorted.group_of(index) {
            Some(Group::Shared(_)) | None if !self.listing.shown(index).uid.is_empty() => {
                UniqueId::new(self.listing.shown(index).uid)
            }
            _ => match self.answers.header(index) {
                Some(header) => header_name(header),
                None => made_name(self.policy.now, index),
            },
        };
        self.rename(index, uid);
    }

    /// Gives a message a name that nothing else has.
    pub(super) fn rename(&mut self, index: usize, uid: UniqueId) {
        let (uid, ordinal) = self.free(uid);
        let message = self.listing.get(index);
        if (message.uid, message.ordinal) != (uid.as_bytes(), ordinal) {
            self.listing.name(index, uid.as_bytes(), ordinal);
        }
    }

    /// Makes a name that nothing else has.
    pub(super) fn free(&mut self, uid: UniqueId) -> (UniqueId, u32) {
        let entries = &self.memory.entries;
        let used: HashSet<u32> = entries.of(uid.as_bytes()).map(|entry| entries.get(entry).1).collect();
        let names = &mut self.names;
        let takes = |ordinal: &u32| !used.contains(ordinal) && names.insert((uid.clone(), *ordinal));
        let ordinal = (0..).find(takes).unwrap_or(u32::MAX);
        (uid, ordinal)
    }

    /// Gives the record under which a message is deleted.
    pub fn name_of(&self, index: usize) -> (UniqueId, u32) {
        match self.sorted.verdicts[index] {
            Verdict::Known(entry) if !self.recorded.contains(&index) => {
                self.renamed.get(&entry).cloned().unwrap_or_else(|| {
                    let (uid, ordinal, _) = self.memory.entries.get(entry);
                    (UniqueId::new(uid), ordinal)
                })
            }
            _ => self.listed_name(index),
        }
    }

    /// Gives the name by which a message is listed.
    pub(super) fn listed_name(&self, index: usize) -> (UniqueId, u32) {
        let message = self.listing.get(index);
        (UniqueId::new(message.uid), message.ordinal)
    }
}

/// Makes a name of a header for a message to which its server gives none that lasts.
pub(super) fn header_name(header: &Fingerprint) -> UniqueId {
    UniqueId::new(old_name("header:", &header.header[0]).into_bytes())
}

/// Makes a name for a message to which its server gives none that lasts: of the time and its place in the listing.
pub(super) fn made_name(now: Timestamp, index: usize) -> UniqueId {
    UniqueId::new(format!("place:{now:x}-{index}").into_bytes())
}
