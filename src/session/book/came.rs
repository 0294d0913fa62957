//! Which message it is that came whole.

use crate::message::Fingerprint;
use crate::message::{FileId, UniqueId};
use crate::state::{Delivery, Detail, Holder, Kind, Recorded, Seen};

use super::super::policy::Due;
use super::super::which::{Showing, Verdict};
use super::Book;
use super::Top;
use super::names::header_name;
use super::stock::old_name;

/// How much of a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// As much as may be all.
    Whole,
    /// So little that it is not believed to be all.
    Short,
}

/// What a message that came whole is.
#[derive(Debug)]
pub enum Identified {
    /// A recorded one; the proof allows its deletion, if it is due.
    Known(Option<Recorded>),
    /// None that is recorded.
    New {
        /// What is to be recorded.
        delivery: Box<Delivery>,
        /// A file that may be it already.
        unclaimed: Option<FileId>,
        /// Who has it from an earlier session.
        holders: Vec<Holder>,
    },
}

impl Book<'_> {
    /// Says what a message is that came whole.
    pub fn came(&mut self, index: usize, whole: &Fingerprint, extent: Extent) -> Identified {
        self.whole.insert(index);
        match self.recorded_as(index, whole).filter(|entry| self.may_be(*entry, whole, extent)) {
            Some(entry) => {
                self.supersede(index, entry);
                self.sorted.taken[entry] = true;
                self.settled.insert(index, Some(entry));
                self.sorted.verdicts[index] = Verdict::Known(entry);
                self.learn(index, entry, whole);
                let proof = self.prove_whole(index, entry, whole);
                Identified::Known(proof.and_then(|proof| self.unless_it_breaks(entry, proof)))
            }
            None => {
                self.settled.insert(index, None);
                self.is_other(index);
                if self.is_by_place(index) && self.record_of(index).is_none() {
                    self.rename(index, header_name(whole));
                }
                let shown = self.listing.shown(index);
                let unclaimed = self.stock.claim((shown.uid, shown.ordinal), whole);
                let message = self.listing.get(index);
                let uid = UniqueId::new(message.uid);
                let name = (message.uid, message.ordinal);
                let is_listed = |uid: &UniqueId, ordinal| self.is_listed(uid, ordinal);
                let reached = self.memory.reached(name, message.octets, &whole.content, is_listed);
                let header = self.answers.header(index).map(|header| header.identity);
                let delivery = Delivery {
                    delivered_at: Some(self.policy.now),
                    fingerprint: Some(*whole),
                    second: header.filter(|identity| *identity != whole.identity),
                    place: self.places.get(&index).copied(),
                    deleting: self.policy.deletes_at_once(),
                    ..Delivery::new(uid, message.ordinal, message.octets, Kind::Delivered)
                };
                let holders = reached.map(|reached| reached.targets.clone()).unwrap_or_default();
                Identified::New { delivery: Box::new(delivery), unclaimed, holders }
            }
        }
    }

    /// Says whether the listing shows a message under this name.
    fn is_listed(&self, uid: &UniqueId, ordinal: u32) -> bool {
        (0..self.listing.len()).any(|index| {
            let message = self.listing.get(index);
            message.uid == uid.as_bytes() && message.ordinal == ordinal
        })
    }

    /// Drops the record from when a message was first seen, which is not the one that it turned out to be.
    fn supersede(&mut self, index: usize, entry: usize) {
        if let Verdict::New { pending: Some(seen) } = self.sorted.verdicts[index]
            && seen != entry
        {
            self.sorted.taken[seen] = false;
            self.changes.remove(&seen);
            self.superseded.push(seen);
        }
    }

    /// Says whether a message like one that is surely deleted, which no listing has been without, is another one: where it
    /// has a unique-id of its own, and where nothing but its content tells it from others. In the same poll it is not.
    fn may_be_another(&self, index: usize) -> bool {
        let is_told = self.around.top == Top::Announced || self.answers.work();
        let is_nameless = !is_told && self.listing.shown(index).uid.is_empty();
        self.around.showing == Showing::First && (is_nameless || self.sorted.group_of(index).is_none())
    }

    /// Gives a message that is not the recorded one that it was taken for a record and a name of its own.
    fn is_other(&mut self, index: usize) {
        if let Verdict::Known(entry) = self.sorted.verdicts[index] {
            self.sorted.taken[entry] = false;
            self.sorted.verdicts[index] = Verdict::New { pending: None };
            self.name_one(index);
        }
    }

    /// Finds the record of a message that came whole.
    fn recorded_as(&self, index: usize, whole: &Fingerprint) -> Option<usize> {
        let found = [
            self.by_content.get(&whole.content),
            self.by_identity.get(&whole.identity),
            self.by_header.get(&whole.header[0]),
            self.by_header.get(&whole.header[1]),
        ];
        let mut found: Vec<usize> = found.into_iter().flatten().flatten().copied().collect();
        if let Verdict::Known(entry) = self.sorted.verdicts[index] {
            found.push(entry);
        }
        // The one that it was taken for, then its own.
        found.sort_by_key(|entry| {
            let is_listed = self.sorted.verdicts[index] == Verdict::Known(*entry);
            (!is_listed, self.owner(*entry) != Some(index), self.entry(*entry).was_deleted())
        });
        found.into_iter().find(|entry| self.is_recorded(index, *entry, whole))
    }

    /// Says whether so much of a message proves that it is a recorded one. Nothing at all is what any message may come
    /// to: only one that was delivered like this, and is never deleted, is known by it.
    fn may_be(&self, entry: usize, whole: &Fingerprint, extent: Extent) -> bool {
        let is_kept =
            || self.entry(entry).kind == Kind::Marked && self.details[&entry].content == Some(whole.content);
        extent == Extent::Whole || is_kept()
    }

    fn is_recorded(&self, index: usize, entry: usize, whole: &Fingerprint) -> bool {
        let is_listed = self.sorted.verdicts[index] == Verdict::Known(entry);
        let owner = self.owner(entry);
        // Whatever its name promises to another message.
        if self.sorted.taken[entry] && !is_listed {
            return false;
        }
        let (known, detail) = (self.entry(entry), &self.details[&entry]);
        let octets = self.listing.get(index).octets;
        let by_name = owner == Some(index) || is_listed;
        // A weak message may be a recorded one of equal content. One that was deleted, or has this name, and was gone by
        // a complete listing, is not: a second mail of the same words is another one.
        let may_be_weak = !known.is_missed() || !by_name && !known.was_deleted();
        match known.kind {
            Kind::Pending | Kind::Discarded => false,
            Kind::Marked | Kind::Imported => {
                // One that was delivered as it came, and is kept.
                if let Some(content) = detail.content {
                    return content == whole.content && may_be_weak;
                }
                // A weak identity says that it is another message, never that it is the same.
                let fits = [0, octets, whole.octets].contains(&known.octets) || detail.has_size(octets);
                let is_believed = whole.identity.is_certain() || by_name && fits && !known.is_missed();
                detail.has_header_of(whole) && is_believed
            }
            Kind::Delivered => {
                detail.is_whole(octets, whole)
                    && is_named_so(self.memory.entries.get(entry).0, detail, whole)
                    && (whole.identity.is_certain()
                        || may_be_weak && !(known.deleted && !by_name && self.may_be_another(index)))
            }
        }
    }

    /// Notes what a message that came whole says of its record.
    fn learn(&mut self, index: usize, entry: usize, whole: &Fingerprint) {
        let header = self.answers.header(index).map(|header| header.identity);
        let listed = self.listing.shown(index).octets;
        let detail = self.details.entry(entry).or_default();
        let second = header.filter(|identity| *identity != whole.identity).or_else(|| {
            detail.identities.iter().flatten().copied().find(|identity| *identity != whole.identity)
        });
        detail.identities = [Some(whole.identity), second];
        if self.memory.entries.get(entry).2.kind == Kind::Delivered {
            (detail.content, detail.header) = (Some(whole.content), None);
            (detail.sent, detail.listed, detail.fields) = (whole.octets, listed, whole.fields);
        }
        self.change(index, entry);
    }

    fn prove_whole(&self, index: usize, entry: usize, whole: &Fingerprint) -> Option<Recorded> {
        let (known, detail) = (self.entry(entry), &self.details[&entry]);
        if self.policy.due(&known, detail) != Due::Now {
            return None;
        }
        let message = self.listing.get(index);
        self.memory.prove((index, entry), detail, &Seen::Whole { listed: message.octets, whole: *whole })
    }
}

/// Says whether a message may have the name of a record. Version 0.1.0 recorded no content, but without unique-id and TOP
/// it made a name of it, the servers' fields included.
fn is_named_so(uid: &[u8], detail: &Detail, whole: &Fingerprint) -> bool {
    let is_compared = detail.content.is_some() || whole.fields > 0 || !uid.starts_with(b"content:");
    is_compared || uid == old_name("content:", &whole.content.0).as_bytes()
}
