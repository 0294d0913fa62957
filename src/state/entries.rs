//! The recorded unique-ids of one maildrop in memory, made for looking up whole listings.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::clock::Timestamp;

/// How names begin that were made where the server gave none.
const MADE_NAMES: [&str; 3] = ["header:", "content:", "place:"];

/// Recorded unique-ids of one maildrop, sorted by (unique-id, ordinal): the octets in one arena and 36 octets each
/// beside them, no allocation per entry.
#[derive(Default)]
pub struct Entries {
    /// Shared with the store's thread while it closes the session.
    packed: Arc<Packed>,
    /// Where the next look-up starts: after the last hit, or where the last miss would stand. Only a hint, so that a
    /// listing in the order of the unique-ids, which most servers send, costs one comparison a line.
    next: AtomicUsize,
}

/// How a record came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Delivered,
    /// It was only marked as seen, and is never deleted.
    Marked,
    /// It was listed, and is not delivered yet.
    Pending,
    /// It was held, and the user gave it up.
    Discarded,
    /// Another program fetched it.
    Imported,
}

impl Kind {
    /// Gives the number that stands in the table.
    pub(super) fn to_number(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::Marked => 1,
            Self::Pending => 2,
            Self::Discarded => 3,
            Self::Imported => 4,
        }
    }

    /// Reads a number of the table; one that is none is the kind that is never deleted.
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Delivered,
            2 => Self::Pending,
            3 => Self::Discarded,
            4 => Self::Imported,
            _ => Self::Marked,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in [`Entries`]; dense from 0.
    pub index: usize,
    /// Octets by the server's listing when it was recorded (0: unknown).
    pub octets: u64,
    /// When it was delivered; `None` if it was only marked as seen.
    pub delivered_at: Option<Timestamp>,
    /// The time of the last listing that showed it; `None` as long as each listing does.
    pub last_listed: Option<Timestamp>,
    /// Deletions that were tried by a session that sent QUIT, whatever the server answered.
    pub delete_tries: u32,
    /// The last deletion reached UPDATE state.
    pub deleted: bool,
    /// A deletion was sent, or was about to be; whether it reached UPDATE state is not known.
    pub deleting: bool,
    /// How the record came to be.
    pub kind: Kind,
    /// It goes by its place.
    pub placed: bool,
    /// Nothing is known of it but its name.
    pub blank: bool,
}

impl Entry {
    /// Says whether this was deleted, for all we know or for what we tried.
    pub fn was_deleted(&self) -> bool {
        self.deleted || self.deleting || self.delete_tries > 0
    }

    /// Says whether a complete listing has not shown it since it was last listed.
    pub fn is_missed(&self) -> bool {
        self.last_listed.is_some()
    }
}

impl Entries {
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// Says whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says whether a server's own unique-ids are recorded, rather than only names that were made.
    pub fn has_unique_ids(&self) -> bool {
        (0..self.len()).any(|index| !self.is_made(index))
    }

    /// Says whether the name of an entry was made, because the server gave none that lasts.
    pub fn is_made(&self, index: usize) -> bool {
        let (uid, ..) = self.get(index);
        MADE_NAMES.iter().any(|prefix| uid.starts_with(prefix.as_bytes()))
    }

    /// Finds a message: by one or two comparisons when called in the order of a listing that is sorted by unique-id,
    /// else by binary search.
    pub fn find(&self, uid: &[u8], ordinal: u32) -> Option<Entry> {
        match self.packed.search((uid, ordinal), self.next.load(Relaxed)) {
            Ok(index) => {
                self.next.store(index + 1, Relaxed);
                Some(self.packed.entry(index))
            }
            Err(index) => {
                self.next.store(index, Relaxed);
                None
            }
        }
    }

    /// Finds all messages of this name, by index.
    pub fn of(&self, uid: &[u8]) -> std::ops::Range<usize> {
        let first = match self.packed.search((uid, 0), self.next.load(Relaxed)) {
            Ok(index) | Err(index) => index,
        };
        let mut end = first;
        while end < self.len() && self.packed.name(end).0 == uid {
            end += 1;
        }
        self.next.store(end, Relaxed);
        first..end
    }

    /// Gives an entry with its unique-id and ordinal. Panics if there is none of this index.
    pub fn get(&self, index: usize) -> (&[u8], u32, Entry) {
        let (uid, ordinal) = self.packed.name(index);
        (uid, ordinal, self.packed.entry(index))
    }

    /// Shares the octets with the store's thread.
    pub(super) fn share(&self) -> Arc<Packed> {
        Arc::clone(&self.packed)
    }
}

impl From<Packed> for Entries {
    fn from(packed: Packed) -> Self {
        Self { packed: Arc::new(packed), next: AtomicUsize::new(0) }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entries({})", self.len())
    }
}

/// The rows of a maildrop, in the order of the table's primary key.
#[derive(Default)]
pub(super) struct Packed {
    /// Unique-ids, one after the other.
    octets: Vec<u8>,
    /// Where each ends in `octets`. `u32`: 4 GiB of unique-ids are more than a server can list within its limits.
    ends: Vec<u32>,
    /// What is known of each.
    facts: Vec<Facts>,
}

/// Stands for a time that is not there; no clock shows it.
const NEVER: Timestamp = Timestamp::MIN;

/// An [`Entry`] without its name, in 32 octets.
struct Facts {
    octets: u64,
    delivered_at: Timestamp,
    last_listed: Timestamp,
    ordinal: u32,
    /// Deletions tried, and in the upper bits what else is known: see below.
    deletions: u32,
}

const DELETED: u32 = 1 << 31;
const DELETING: u32 = 1 << 30;
const PLACED: u32 = 1 << 29;
/// The kind, 0 to 4, stands in three bits from here.
const KIND: u32 = 26;
const BLANK: u32 = 1 << 25;
/// All below are deletions tried.
const TRIES: u32 = BLANK - 1;

/// Entries do not come in ascending order, or are too many: the table is damaged.
#[derive(Debug, thiserror::Error)]
#[error("recorded unique-ids are out of order, twice there, or endless")]
pub(super) struct Unordered;

impl Packed {
    /// Adds an entry; `entry.index` is ignored. The order is verified, which finds a damaged table without another
    /// pass over it.
    pub(super) fn push(&mut self, uid: &[u8], ordinal: u32, entry: Entry) -> Result<(), Unordered> {
        if self.len().checked_sub(1).is_some_and(|last| self.name(last) >= (uid, ordinal)) {
            return Err(Unordered);
        }
        let end = u32::try_from(self.octets.len() + uid.len()).map_err(|_| Unordered)?;
        self.octets.extend_from_slice(uid);
        self.ends.push(end);
        self.facts.push(Facts {
            octets: entry.octets,
            delivered_at: entry.delivered_at.unwrap_or(NEVER),
            last_listed: entry.last_listed.unwrap_or(NEVER),
            ordinal,
            deletions: entry.delete_tries.min(TRIES)
                | if entry.deleted { DELETED } else { 0 }
                | if entry.deleting { DELETING } else { 0 }
                | if entry.placed { PLACED } else { 0 }
                | if entry.blank { BLANK } else { 0 }
                | u32::from(entry.kind.to_number()) << KIND,
        });
        Ok(())
    }

    /// Gives back what growing has reserved too much.
    pub(super) fn shrink(&mut self) {
        self.octets.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.facts.shrink_to_fit();
    }

    /// Gives the name of an entry. Panics if there is none of this index.
    pub(super) fn name(&self, index: usize) -> (&[u8], u32) {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        (&self.octets[start as usize..self.ends[index] as usize], self.facts[index].ordinal)
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn entry(&self, index: usize) -> Entry {
        let facts = &self.facts[index];
        Entry {
            index,
            octets: facts.octets,
            delivered_at: some_time(facts.delivered_at),
            last_listed: some_time(facts.last_listed),
            delete_tries: facts.deletions & TRIES,
            deleted: facts.deletions & DELETED != 0,
            deleting: facts.deletions & DELETING != 0,
            kind: Kind::from_number((facts.deletions >> KIND & 7) as u8),
            placed: facts.deletions & PLACED != 0,
            blank: facts.deletions & BLANK != 0,
        }
    }

    /// Finds a name, or the place where it would stand, starting with the entry at `next`.
    fn search(&self, name: (&[u8], u32), next: usize) -> Result<usize, usize> {
        // All entries before `low` are less than the name, all from `high` on are greater.
        let (mut low, mut high) = (0, self.len());
        // Steps forward stay few: a listing without the entries that have vanished skips some, one in another order
        // is searched from scratch.
        let mut probe = next;
        for step in [1, 2, 4, 8, 16] {
            if probe >= high {
                break;
            }
            match self.name(probe).cmp(&name) {
                Ordering::Equal => return Ok(probe),
                Ordering::Less => {
                    low = probe + 1;
                    probe += step;
                }
                Ordering::Greater => high = probe,
            }
        }
        // A new message stands between the last hit and the next one, or behind all.
        if low == 0 && high > 0 {
            match self.name(high - 1).cmp(&name) {
                Ordering::Equal => return Ok(high - 1),
                Ordering::Less => return Err(high),
                Ordering::Greater => high -= 1,
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(&name) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

fn some_time(time: Timestamp) -> Option<Timestamp> {
    (time != NEVER).then_some(time)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    const PLAIN: Entry = Entry {
        index: 0,
        octets: 0,
        delivered_at: None,
        last_listed: None,
        delete_tries: 0,
        deleted: false,
        deleting: false,
        kind: Kind::Delivered,
        placed: false,
        blank: true,
    };

    fn packed(names: &BTreeMap<(Vec<u8>, u32), Entry>) -> Entries {
        let mut packed = Packed::default();
        for ((uid, ordinal), entry) in names {
            packed.push(uid, *ordinal, *entry).unwrap();
        }
        packed.shrink();
        packed.into()
    }

    prop_compose! {
        fn any_entry()(
            octets: u64, delivered_at in prop::option::of(-5..i64::MAX), last_listed in prop::option::of(-5..i64::MAX),
            delete_tries in 0..TRIES, deleted: bool, deleting: bool, kind in 0..5_u8, placed: bool, blank: bool,
        ) -> Entry {
            let kind = Kind::from_number(kind);
            Entry { index: 0, octets, delivered_at, last_listed, delete_tries, deleted, deleting, kind, placed, blank }
        }
    }

    /// Short unique-ids of few letters share prefixes and collide; long ones look like those of servers.
    fn any_name() -> impl Strategy<Value = (Vec<u8>, u32)> {
        let uid = prop_oneof![
            prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff)], 0..4),
            prop::collection::vec(any::<u8>(), 0..500),
        ];
        (uid, 0..3_u32)
    }

    proptest! {
        #[test]
        fn entries_find_what_a_hash_map_finds_whatever_was_asked_before(
            names in prop::collection::btree_map(any_name(), any_entry(), 0..200),
            strangers in prop::collection::vec(any_name(), 0..50),
            order: u64,
        ) {
            let model: HashMap<_, _> = names.clone().into_iter().collect();
            let entries = packed(&names);
            prop_assert_eq!(entries.len(), model.len());
            // The names in order, then backwards, then with strangers between in an arbitrary order.
            let sorted: Vec<_> = names.keys().cloned().collect();
            let mut questions = sorted.clone();
            questions.extend(sorted.into_iter().rev());
            let mut mixed: Vec<_> = questions.iter().cloned().chain(strangers).collect();
            let count = mixed.len().max(1) as u64;
            for at in 0..mixed.len() {
                mixed.swap(at, (order.wrapping_mul(at as u64 + 7) % count) as usize);
            }
            questions.extend(mixed);
            for (uid, ordinal) in questions {
                let found = entries.find(&uid, ordinal);
                let known = model.get(&(uid.clone(), ordinal));
                prop_assert_eq!(found.map(|entry| Entry { index: 0, ..entry }), known.copied());
                if let Some(entry) = found {
                    prop_assert_eq!(entries.get(entry.index), (&uid[..], ordinal, entry));
                }
                let ordinals: Vec<u32> = entries.of(&uid).map(|index| entries.get(index).1).collect();
                let expected: Vec<u32> = names.keys().filter(|name| name.0 == uid).map(|name| name.1).collect();
                prop_assert_eq!(ordinals, expected);
            }
        }
    }

    #[test]
    fn entries_out_of_order_or_twice_there_are_damage() {
        let mut packed = Packed::default();
        packed.push(b"b", 1, PLAIN).unwrap();
        assert!(packed.push(b"b", 1, PLAIN).is_err());
        assert!(packed.push(b"b", 0, PLAIN).is_err());
        assert!(packed.push(b"a", 2, PLAIN).is_err());
        assert!(packed.push(b"b", 2, PLAIN).is_ok());
    }

    #[test]
    fn an_entry_takes_at_most_40_octets_beside_its_unique_id() {
        assert!(size_of::<Facts>() + size_of::<u32>() <= 40);
    }
}
