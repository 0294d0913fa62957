//! Sorts a listing: which message is which. Pure.

mod groups;

use std::collections::HashMap;

use crate::message::{Fingerprint, Identity};
use crate::state::{Detail, Entry, Kind};

use super::naming::{HOLES, RENAMES, is_numbers, naming};
use super::which::{Answer, Evidence, Group, Sorted, UniqueIds, Verdict};

/// Names that must be new, and recorded messages that must have vanished with the same listing, before headers are asked
/// for to save downloads.
const RENUMBERED: usize = 10;

/// Sorts a listing as far as the answers go. With a listing that contradicts nothing it costs one look-up a message.
pub fn sort(evidence: &Evidence<'_>) -> Sorted {
    let mut sorting = Sorting::new(evidence);
    for (index, settled) in evidence.settled {
        match settled {
            Some(entry) => sorting.take(*index, *entry),
            None => sorting.sorted.verdicts[*index] = Verdict::Done,
        }
    }
    sorting.by_place();
    sorting.by_uid();
    // The groups of one unique-id first: the others may have what is left.
    let mut groups = std::mem::take(&mut sorting.sorted.groups);
    groups.sort_by_key(|(group, _)| !matches!(group, Group::Shared(_)));
    for (group, members) in &groups {
        sorting.group(group, members);
    }
    sorting.sorted.groups = groups;
    sorting.other_spellings();
    sorting.fresh();
    sorting.finish()
}

struct Sorting<'a> {
    of: &'a Evidence<'a>,
    sorted: Sorted,
    /// Whether a message of this name is listed, by entry.
    named: Vec<bool>,
    grouped: Vec<bool>,
    fresh: Vec<usize>,
    standing: Vec<usize>,
    /// About mail that may be new, and about what was deleted.
    questions: [Vec<usize>; 2],
}

/// By what a header is looked up.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Identity(Identity),
    Header([u8; 32]),
}

impl<'a> Sorting<'a> {
    fn new(of: &'a Evidence<'a>) -> Self {
        let (messages, entries) = (of.listing.len(), of.entries.len());
        let sorted = Sorted {
            verdicts: vec![Verdict::Open; messages],
            taken: vec![false; entries],
            naming: naming(of),
            ..Sorted::default()
        };
        Self {
            of,
            sorted,
            named: vec![false; entries],
            grouped: vec![false; messages],
            fresh: Vec::new(),
            standing: Vec::new(),
            questions: Default::default(),
        }
    }

    fn finish(self) -> Sorted {
        let mut sorted = self.sorted;
        let [first, last] = self.questions;
        sorted.standing = self.standing.len();
        sorted.questions = [self.standing, first, last].concat();
        sorted.wants.sort_unstable();
        sorted.wants.dedup();
        for (group, (_, members)) in sorted.groups.iter().enumerate() {
            sorted.group_of.extend(members.iter().map(|index| (*index, group)));
        }
        sorted
    }

    fn entry(&self, index: usize) -> Entry {
        self.of.entries.get(index).2
    }

    /// Gives what an entry is known by; notes that it is wanted if it is not there.
    fn detail(&mut self, index: usize) -> Option<&'a Detail> {
        let detail = self.of.details.get(&index);
        if detail.is_none() {
            self.sorted.wants.push(index);
        }
        detail
    }

    fn all_details(&mut self, of: &[usize]) -> bool {
        of.iter().filter(|entry| self.detail(**entry).is_none()).count() == 0
    }

    fn octets(&self, index: usize) -> u64 {
        self.of.listing.shown(index).octets
    }

    /// Says that a listed message is a recorded one.
    fn take(&mut self, index: usize, entry: usize) {
        self.sorted.taken[entry] = true;
        self.sorted.verdicts[index] = match self.entry(entry).kind {
            Kind::Pending => Verdict::New { pending: Some(entry) },
            Kind::Delivered | Kind::Marked | Kind::Discarded | Kind::Imported => Verdict::Known(entry),
        };
    }

    fn is_settled(&self, index: usize) -> bool {
        self.of.settled.contains_key(&index)
    }

    fn is_new(&mut self, index: usize) {
        self.sorted.verdicts[index] = Verdict::New { pending: None };
    }

    /// Says whether a size by the listing contradicts nothing; `None` if that is not known yet.
    fn fits(&mut self, entry: usize, octets: u64) -> Option<bool> {
        let known = self.entry(entry);
        if known.octets == octets || known.octets == 0 || octets == 0 {
            return Some(true);
        }
        self.detail(entry).map(|detail| detail.has_size(octets))
    }

    /// Says the same where the header tells what servers have written into the message.
    fn fits_header(&mut self, entry: usize, index: usize, header: &Fingerprint) -> bool {
        let octets = self.octets(index);
        let less = octets.saturating_sub(header.fields);
        self.fits(entry, octets) == Some(true)
            || self.of.details.get(&entry).is_some_and(|detail| detail.is_verified(less))
    }

    /// Finds the messages that go by their place.
    fn by_place(&mut self) {
        let listing = self.of.listing;
        let shared = listing.shared();
        let all = self.of.unique_ids != UniqueIds::Given
            || is_numbers(listing)
            || self.sorted.naming.renames >= RENAMES;
        let mut groups: HashMap<Group, Vec<usize>> = HashMap::new();
        for index in 0..listing.len() {
            let message = listing.shown(index);
            let group = if all {
                Group::All
            } else if message.is_hole && self.sorted.naming.holes < HOLES {
                self.sorted.verdicts[index] = Verdict::Hole;
                self.grouped[index] = true;
                continue;
            } else if message.uid.is_empty() {
                Group::Unnamed
            } else if shared.contains(&index) {
                Group::Shared(message.uid.to_vec())
            } else {
                continue;
            };
            self.grouped[index] = true;
            groups.entry(group).or_default().push(index);
        }
        self.sorted.groups = groups.into_iter().collect();
        self.sorted.groups.sort();
    }

    /// Looks up those that go by their unique-ids.
    fn by_uid(&mut self) {
        let listing = self.of.listing;
        for index in listing.by_uid() {
            if self.grouped[index] {
                continue;
            }
            let uid = listing.shown(index).uid;
            let records = self.of.entries.of(uid);
            if records.clone().any(|entry| self.entry(entry).placed) {
                // Others had it, too, when its place was all that told it from them.
                self.sorted.groups.push((Group::Shared(uid.to_vec()), vec![index]));
                continue;
            }
            records.clone().for_each(|entry| self.named[entry] = true);
            if !self.is_settled(index) {
                if records.is_empty() { self.fresh.push(index) } else { self.one(index, records.collect()) }
            }
        }
    }

    /// Sorts a message whose unique-id is recorded.
    fn one(&mut self, index: usize, mut records: Vec<usize>) {
        records.retain(|entry| !self.sorted.taken[*entry]);
        // What is there for all we know comes before what should be gone, the latest first.
        records.sort_by_key(|entry| {
            let known = self.entry(*entry);
            (known.is_missed(), known.was_deleted(), std::cmp::Reverse(*entry))
        });
        let Some(&first) = records.first() else { return self.is_new(index) };
        let known = self.entry(first);
        let Some(fits) = self.fits(first, self.octets(index)) else { return };
        if fits && !known.is_missed() {
            if !known.was_deleted() {
                return self.take(index, first);
            }
            let Some(detail) = self.detail(first) else { return };
            if (self.of.rests)(first, detail) {
                return self.take(index, first);
            }
        }
        if !self.all_details(&records) {
            return;
        }
        let may_settle = records.iter().any(|entry| {
            let known = self.entry(*entry).kind != Kind::Delivered;
            known || self.of.details[entry].may_be_certain()
        });
        match self.of.answers.of(index) {
            Answer::Header(header) => {
                for entry in &records {
                    if self.is_same(index, *entry, header, Named::ByUid) == Some(true) {
                        return self.take(index, *entry);
                    }
                }
                self.is_new(index);
            }
            Answer::Never => match records.iter().copied().find(|entry| self.is_claimed(*entry)) {
                Some(entry) => return self.take(index, entry),
                None => self.is_new(index),
            },
            // Its content must tell anyway.
            Answer::Open | Answer::Unasked if !may_settle => self.is_new(index),
            Answer::Open => self.questions[usize::from(known.was_deleted())].push(index),
            Answer::Unasked => self.sorted.verdicts[index] = Verdict::Unasked,
        }
        for entry in records {
            self.sorted.owners.insert(entry, index);
        }
    }

    /// Says whether a header settles that a message is a recorded one.
    fn is_same(&mut self, index: usize, entry: usize, header: &Fingerprint, named: Named) -> Option<bool> {
        let (known, octets) = (self.entry(entry), self.octets(index));
        let fits = self.fits(entry, octets)?;
        let detail = self.detail(entry)?;
        let is_blank = is_blank(detail);
        Some(match known.kind {
            Kind::Discarded => fits,
            // Nothing is known of it that could contradict.
            Kind::Marked | Kind::Imported if is_blank => fits || named == Named::ByUid && !known.is_missed(),
            Kind::Pending if is_blank => fits && named == Named::ByPlace,
            _ if !detail.has_header_of(header) => false,
            Kind::Pending => true,
            // It is never deleted for that, so a weak identity will do where nothing else speaks against it.
            Kind::Marked | Kind::Imported if self.is_claimed(entry) && named == Named::ByUid => true,
            Kind::Delivered | Kind::Marked | Kind::Imported => {
                let fits = fits || self.fits_header(entry, index, header);
                let is_certain = header.identity.is_certain() && !detail.is_weak();
                is_certain && (fits || !known.was_deleted() && !known.is_missed())
            }
        })
    }

    /// Says whether a record is of a message that was never fetched, and is there for all we know. Its size is what the
    /// server claimed once: another one contradicts nothing.
    fn is_claimed(&self, entry: usize) -> bool {
        let known = self.entry(entry);
        matches!(known.kind, Kind::Marked | Kind::Imported) && !known.is_missed() && !known.was_deleted()
    }

    /// Finds the record of a message by its header.
    fn match_header(&mut self, index: usize, known: &HashMap<Key, Vec<usize>>, size: Size) {
        if self.sorted.verdicts[index] != Verdict::Open {
            return;
        }
        let Answer::Header(header) = self.of.answers.of(index) else { return };
        for key in keys(header) {
            for entry in known.get(&key).into_iter().flatten() {
                if self.sorted.taken[*entry]
                    || size == Size::Fits && !self.fits_header(*entry, index, header)
                    || self.is_same(index, *entry, header, Named::ByPlace) != Some(true)
                {
                    continue;
                }
                return self.take(index, *entry);
            }
        }
    }

    /// Finds messages that another program fetched and whose unique-ids it wrote otherwise. They are called as the server
    /// calls them from now on.
    fn other_spellings(&mut self) {
        for index in std::mem::take(&mut self.fresh) {
            let found = spellings(self.of.listing.shown(index).uid).into_iter().find_map(|spelt| {
                self.of.entries.of(&spelt).find(|entry| {
                    let known = self.entry(*entry);
                    known.kind == Kind::Imported
                        && known.blank
                        && !known.is_missed()
                        && !self.sorted.taken[*entry]
                        && !self.named[*entry]
                })
            });
            match found {
                Some(entry) if self.detail(entry).is_some() => self.take(index, entry),
                Some(_) => {}
                None => self.fresh.push(index),
            }
        }
    }

    /// Sorts messages whose unique-ids are not recorded. Where many are new while many have vanished, their headers
    /// save the downloads.
    fn fresh(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let is_missing = |entry: &usize| {
            let known = self.entry(*entry);
            !self.sorted.taken[*entry]
                && !self.sorted.owners.contains_key(entry)
                && !known.is_missed()
                && !known.was_deleted()
        };
        let missing: Vec<usize> = match fresh.len() >= RENUMBERED {
            true => (0..self.of.entries.len()).filter(is_missing).collect(),
            false => Vec::new(),
        };
        if missing.len() < RENUMBERED || self.of.answers.are_none() {
            fresh.iter().for_each(|index| self.is_new(*index));
            return;
        }
        if !self.all_details(&missing) {
            return;
        }
        let known = by_header(&missing, self.of.details);
        for index in fresh {
            match self.of.answers.of(index) {
                Answer::Header(header) => {
                    if header.identity.is_certain() {
                        self.match_header(index, &known, Size::Fits);
                    }
                    if self.sorted.verdicts[index] == Verdict::Open {
                        self.is_new(index);
                    }
                }
                Answer::Never => self.is_new(index),
                Answer::Open => self.questions[0].push(index),
                Answer::Unasked => self.sorted.verdicts[index] = Verdict::Unasked,
            }
        }
    }
}

/// Octets of a unique-id that fetchmail writes down.
const FETCHMAIL_OCTETS: usize = 128;

/// Gives how other programs write a unique-id down, where that is not as the server has it.
fn spellings(uid: &[u8]) -> Vec<Vec<u8>> {
    let mut spellings = Vec::new();
    // getmail has no slash in its lists; fetchmail's line ends at a blank, and is cut.
    if uid.contains(&b'/') {
        spellings.push(uid.iter().map(|octet| if *octet == b'/' { b'-' } else { *octet }).collect());
    }
    let blank = uid.iter().position(|octet| matches!(octet, b' ' | b'\t'));
    let end = blank.unwrap_or(uid.len()).min(FETCHMAIL_OCTETS);
    if end < uid.len() && end > 0 {
        spellings.push(uid[..end].to_vec());
    }
    spellings
}

/// By what a message was found that may be a recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    ByUid,
    ByPlace,
}

/// Which size a record of the same header must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Fits,
    Any,
}

/// Says whether nothing is known of a record that could contradict a header.
fn is_blank(detail: &Detail) -> bool {
    detail.identities == [None, None] && detail.header.is_none()
}

fn by_header(entries: &[usize], details: &HashMap<usize, Detail>) -> HashMap<Key, Vec<usize>> {
    let mut known: HashMap<Key, Vec<usize>> = HashMap::new();
    for entry in entries {
        let detail = &details[entry];
        let identities = detail.identities.iter().flatten().map(|identity| Key::Identity(*identity));
        for key in identities.chain(detail.header.map(Key::Header)) {
            known.entry(key).or_default().push(*entry);
        }
    }
    known
}

fn keys(header: &Fingerprint) -> [Key; 3] {
    [Key::Identity(header.identity), Key::Header(header.header[0]), Key::Header(header.header[1])]
}
