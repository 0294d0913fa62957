//! What is in a maildrop by the word of its server: numbers, sizes and unique-ids, put together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::MessageNumber;

/// Gathers what a server lists, line by line.
#[derive(Debug, Default)]
pub struct ListingBuilder {
    rows: Vec<Row>,
    uids: Vec<u8>,
    sizes: Vec<(MessageNumber, u64)>,
    garbage: usize,
}

/// One maildrop's messages, in the order of their numbers.
///
/// Numbers, sizes and unique-ids lie in two flat arrays: about 20 octets a message beside the unique-id itself.
#[derive(Debug, Default, Clone)]
pub struct Listing {
    maildrop: Arc<Maildrop>,
    /// The names of those that go by another than their unique-id and its ordinal, by index.
    names: HashMap<usize, (Box<[u8]>, u32)>,
}

/// What the server shows; what is made of it has its own names, and shares this.
#[derive(Debug, Default)]
struct Maildrop {
    rows: Vec<Row>,
    uids: Vec<u8>,
    /// Indices of rows, sorted by unique-id and then by number.
    by_uid: Vec<u32>,
    octets: u64,
    garbage: usize,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    number: MessageNumber,
    uid_start: u32,
    uid_len: u16,
    /// UIDL has no line of it.
    is_hole: bool,
    ordinal: u32,
    octets: u64,
}

/// One message of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its name in this session.
    pub number: MessageNumber,
    /// Its unique-id, empty if the server shows none; or the name that was given to it.
    pub uid: &'a [u8],
    /// Which of the messages with this unique-id, in the order of their numbers, from 0; or of those with its name.
    pub ordinal: u32,
    /// Octets by the server's word; 0 if it gives none.
    pub octets: u64,
    /// LIST shows it and UIDL does not.
    pub is_hole: bool,
}

impl ListingBuilder {
    /// Takes a message's octets; a line that says nothing is counted.
    pub fn size(&mut self, line: Option<(MessageNumber, u64)>) {
        match line {
            Some(size) => self.sizes.push(size),
            None => self.garbage += 1,
        }
    }

    /// Takes a message's unique-id; a line that says nothing is counted.
    pub fn unique_id(&mut self, line: Option<(MessageNumber, &[u8])>) {
        let Some((number, uid)) = line else {
            self.garbage += 1;
            return;
        };
        // The protocol's limits on lines and listings keep both far below what the fields hold.
        let (Ok(uid_start), Ok(uid_len)) = (u32::try_from(self.uids.len()), u16::try_from(uid.len())) else {
            self.garbage += 1;
            return;
        };
        self.uids.extend_from_slice(uid);
        self.rows.push(Row { number, uid_start, uid_len, is_hole: false, ordinal: 0, octets: 0 });
    }

    /// Counts the lines that were taken.
    pub fn len(&self) -> usize {
        self.rows.len() + self.sizes.len()
    }

    /// Says whether no line was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts sizes and unique-ids together by message-number, never by position.
    ///
    /// A number that is listed twice counts once, as first listed. A message that only LIST shows has an empty
    /// unique-id.
    pub fn build(self) -> Listing {
        let Self { mut rows, uids, mut sizes, mut garbage } = self;
        rows.sort_by_key(|row| row.number);
        sizes.sort_by_key(|(number, _)| *number);
        let listed = rows.len() + sizes.len();
        rows.dedup_by_key(|row| row.number);
        sizes.dedup_by_key(|(number, _)| *number);
        garbage += listed - rows.len() - sizes.len();

        let mut unnamed = Vec::new();
        let mut at = 0;
        for (number, octets) in sizes {
            while rows.get(at).is_some_and(|row| row.number < number) {
                at += 1;
            }
            match rows.get_mut(at) {
                Some(row) if row.number == number => row.octets = octets,
                _ => {
                    unnamed.push(Row { number, uid_start: 0, uid_len: 0, is_hole: true, ordinal: 0, octets });
                }
            }
        }
        if !unnamed.is_empty() {
            rows.append(&mut unnamed);
            rows.sort_by_key(|row| row.number);
        }

        let octets = rows.iter().fold(0, |sum: u64, row| sum.saturating_add(row.octets));
        let mut maildrop = Maildrop { rows, uids, by_uid: Vec::new(), octets, garbage };
        maildrop.index();
        Listing { maildrop: Arc::new(maildrop), names: HashMap::new() }
    }
}

impl Listing {
    pub fn len(&self) -> usize {
        self.maildrop.rows.len()
    }

    /// Says whether the maildrop is empty.
    pub fn is_empty(&self) -> bool {
        self.maildrop.rows.is_empty()
    }

    /// Sums the octets up, by the server's word.
    pub fn octets(&self) -> u64 {
        self.maildrop.octets
    }

    /// Counts lines that could not be read or named a message again.
    pub fn garbage(&self) -> usize {
        self.maildrop.garbage
    }

    /// Gives the message at an index below [`Listing::len`], in the order of numbers.
    pub fn get(&self, index: usize) -> Listed<'_> {
        let shown = self.shown(index);
        match self.names.get(&index) {
            Some((uid, ordinal)) => Listed { uid, ordinal: *ordinal, ..shown },
            None => shown,
        }
    }

    /// Gives the message at an index as the server shows it, whatever name was given to it.
    pub fn shown(&self, index: usize) -> Listed<'_> {
        let row = &self.maildrop.rows[index];
        Listed {
            number: row.number,
            uid: self.maildrop.uid(row),
            ordinal: row.ordinal,
            octets: row.octets,
            is_hole: row.is_hole,
        }
    }

    /// Finds the index of a message-number.
    pub fn find(&self, number: MessageNumber) -> Option<usize> {
        self.maildrop.rows.binary_search_by_key(&number, |row| row.number).ok()
    }

    /// Gives the indices of messages that share their unique-id with others.
    pub fn shared(&self) -> HashSet<usize> {
        let order: Vec<usize> = self.by_uid().collect();
        let same = |a: &usize, b: &usize| {
            self.maildrop.uid(&self.maildrop.rows[*a]) == self.maildrop.uid(&self.maildrop.rows[*b])
        };
        order.chunk_by(same).filter(|group| group.len() > 1).flatten().copied().collect()
    }

    /// Gives the indices of all messages, sorted by unique-id and ordinal: the order in which to look them up in
    /// something that is sorted likewise.
    pub fn by_uid(&self) -> impl ExactSizeIterator<Item = usize> {
        self.maildrop.by_uid.iter().map(|index| *index as usize)
    }

    /// Gives a message another name than the server does.
    pub fn name(&mut self, index: usize, uid: &[u8], ordinal: u32) {
        self.names.insert(index, (uid.into(), ordinal));
    }
}

impl Maildrop {
    /// Sorts by unique-id and counts the messages that share one.
    fn index(&mut self) {
        let mut by_uid: Vec<u32> = (0..).take(self.rows.len()).collect();
        // Stable, so that messages with one unique-id stay in the order of their numbers; linear for servers whose
        // unique-ids ascend.
        by_uid.sort_by(|a, b| self.uid(&self.rows[*a as usize]).cmp(self.uid(&self.rows[*b as usize])));
        let mut ordinal = 0;
        for i in 0..by_uid.len() {
            let row = self.rows[by_uid[i] as usize];
            let same = i > 0 && self.uid(&self.rows[by_uid[i - 1] as usize]) == self.uid(&row);
            ordinal = if same { ordinal + 1 } else { 0 };
            self.rows[by_uid[i] as usize].ordinal = ordinal;
        }
        self.by_uid = by_uid;
    }

    fn uid(&self, row: &Row) -> &[u8] {
        let start = row.uid_start as usize;
        &self.uids[start..start + usize::from(row.uid_len)]
    }
}
