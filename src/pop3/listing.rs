//! What is in the maildrop: the answers to LIST and UIDL, put together (RFC 1939, 5 and 7).

use std::collections::{HashMap, HashSet};

use super::MessageNumber;

/// Reads a line of LIST: message-number and octets.
pub fn parse_size(line: &[u8]) -> Option<(MessageNumber, u64)> {
    let (number, rest) = parse_number(line)?;
    let word = rest.split(u8::is_ascii_whitespace).next()?;
    Some((number, std::str::from_utf8(word).ok()?.parse().ok()?))
}

/// Reads a line of UIDL: message-number and unique-id.
///
/// Any run of blanks separates the two; the unique-id is the rest of the line as it is, blanks and 8-bit octets
/// included, and empty if there is nothing but blanks.
pub fn parse_unique_id(line: &[u8]) -> Option<(MessageNumber, &[u8])> {
    parse_number(line)
}

/// Reads what STAT answers: the number of messages.
pub fn parse_stat(text: &[u8]) -> Option<u64> {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

/// Reads a message-number (RFC 1939, 3: from 1 up) and what stands behind the blanks that follow it.
fn parse_number(line: &[u8]) -> Option<(MessageNumber, &[u8])> {
    let line = line.trim_ascii_start();
    let digits = line.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (number, rest) = line.split_at(digits);
    if !rest.first().is_none_or(u8::is_ascii_whitespace) {
        return None;
    }
    match std::str::from_utf8(number).ok()?.parse() {
        Ok(0) | Err(_) => None,
        Ok(number) => Some((MessageNumber(number), rest.trim_ascii_start())),
    }
}

/// Gathers listing lines; [`ListingBuilder::build`] makes a [`Listing`] of them.
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
#[derive(Debug, Default)]
pub struct Listing {
    rows: Vec<Row>,
    uids: Vec<u8>,
    /// Indices of rows, sorted by unique-id and then by number.
    by_uid: Vec<u32>,
    /// The names of those that go by another than their unique-id and its ordinal, by index.
    names: HashMap<usize, (Box<[u8]>, u32)>,
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
    /// Takes a line of LIST. Lines that are none are counted and left out.
    pub fn size_line(&mut self, line: &[u8]) {
        match parse_size(line) {
            Some(size) => self.sizes.push(size),
            None => self.garbage += 1,
        }
    }

    /// Takes a line of UIDL. Lines that are none are counted and left out.
    pub fn unique_id_line(&mut self, line: &[u8]) {
        let Some((number, uid)) = parse_unique_id(line) else {
            self.garbage += 1;
            return;
        };
        // The client's limits on lines and listings keep both far below what the fields hold.
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
                    unnamed.push(Row { number, uid_start: 0, uid_len: 0, is_hole: true, ordinal: 0, octets })
                }
            }
        }
        if !unnamed.is_empty() {
            rows.append(&mut unnamed);
            rows.sort_by_key(|row| row.number);
        }

        let mut listing = Listing {
            octets: rows.iter().fold(0, |sum, row| sum.saturating_add(row.octets)),
            by_uid: Vec::new(),
            names: HashMap::new(),
            rows,
            uids,
            garbage,
        };
        listing.index();
        listing
    }
}

impl Listing {
    /// Counts the messages.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Says whether the maildrop is empty.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sums the octets up, by the server's word.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Counts lines that could not be read or named a message again.
    pub fn garbage(&self) -> usize {
        self.garbage
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
        let row = &self.rows[index];
        Listed {
            number: row.number,
            uid: self.uid(row),
            ordinal: row.ordinal,
            octets: row.octets,
            is_hole: row.is_hole,
        }
    }

    /// Finds the index of a message-number.
    pub fn find(&self, number: MessageNumber) -> Option<usize> {
        self.rows.binary_search_by_key(&number, |row| row.number).ok()
    }

    /// Gives the indices of messages that share their unique-id with others.
    pub fn shared(&self) -> HashSet<usize> {
        let order: Vec<usize> = self.by_uid().collect();
        let same = |a: &usize, b: &usize| self.uid(&self.rows[*a]) == self.uid(&self.rows[*b]);
        order.chunk_by(same).filter(|group| group.len() > 1).flatten().copied().collect()
    }

    /// Gives the indices of all messages, sorted by unique-id and ordinal: the order in which to look them up in
    /// something that is sorted likewise.
    pub fn by_uid(&self) -> impl ExactSizeIterator<Item = usize> {
        self.by_uid.iter().map(|index| *index as usize)
    }

    /// Gives a message another name than the server does.
    pub fn name(&mut self, index: usize, uid: &[u8], ordinal: u32) {
        self.names.insert(index, (uid.into(), ordinal));
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(uidl: &[&[u8]], list: &[&[u8]]) -> Listing {
        let mut builder = ListingBuilder::default();
        uidl.iter().for_each(|line| builder.unique_id_line(line));
        list.iter().for_each(|line| builder.size_line(line));
        builder.build()
    }

    fn rows(listing: &Listing) -> Vec<(u32, &[u8], u32, u64)> {
        (0..listing.len()).map(|i| listing.get(i)).map(|m| (m.number.0, m.uid, m.ordinal, m.octets)).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 1939, 5 and 7
        let listing = build(&[b"1 whqtswO00WBw418f9t5JxYwZ", b"2 QhdPYR:00WBw1Ph7x7"], &[b"1 120", b"2 200"]);
        assert_eq!(
            rows(&listing),
            [(1, &b"whqtswO00WBw418f9t5JxYwZ"[..], 0, 120), (2, &b"QhdPYR:00WBw1Ph7x7"[..], 0, 200)]
        );
        assert_eq!((listing.octets(), listing.garbage()), (320, 0));
        assert_eq!(listing.by_uid().collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn unique_ids_are_kept_as_they_are() {
        assert_eq!(parse_unique_id(b"1   a b\xff/c "), Some((MessageNumber(1), &b"a b\xff/c "[..])));
        assert_eq!(parse_unique_id(b"12\t\tx"), Some((MessageNumber(12), &b"x"[..])));
        assert_eq!(parse_unique_id(b"3 "), Some((MessageNumber(3), &b""[..])));
        assert_eq!(parse_unique_id(b"3"), Some((MessageNumber(3), &b""[..])));
        let long = [b"1 ".as_slice(), &[b'u'; 500]].concat();
        assert_eq!(parse_unique_id(&long).unwrap().1.len(), 500);
    }

    #[test]
    fn garbage_is_counted_and_left_out() {
        let listing = build(
            &[b"1 a", b"", b"x", b"0 zero", b"-1 b", b"99999999999 c", b"2x d", b"1 again"],
            &[b"1 10", b"1 %!d(float64=5461)", b"nonsense 2", b"1 -5"],
        );
        assert_eq!(rows(&listing), [(1, &b"a"[..], 0, 10)]);
        assert_eq!(listing.garbage(), 10);
    }

    #[test]
    fn the_two_listings_are_joined_by_number_and_never_by_position() {
        let listing = build(&[b"3 c", b"1 a", b"4 "], &[b"4 40", b"2 20", b"1 10", b"9 90"]);
        assert_eq!(
            rows(&listing),
            [(1, &b"a"[..], 0, 10), (2, b"", 0, 20), (3, b"c", 0, 0), (4, b"", 1, 40), (9, b"", 2, 90)]
        );
        let holes: Vec<bool> = (0..5).map(|index| listing.get(index).is_hole).collect();
        assert_eq!(holes, [false, true, false, false, true], "an empty unique-id is no hole");
    }

    #[test]
    fn a_message_goes_by_the_name_that_was_given_to_it() {
        let mut listing = build(&[], &[b"1 10", b"2 20"]);
        assert_eq!(rows(&listing), [(1, &b""[..], 0, 10), (2, &b""[..], 1, 20)]);
        listing.name(1, b"y", 7);
        assert_eq!(rows(&listing), [(1, &b""[..], 0, 10), (2, &b"y"[..], 7, 20)]);
        assert_eq!(listing.shown(1).uid, b"");
    }

    #[test]
    fn messages_that_share_a_unique_id_are_told_apart() {
        let listing = build(&[b"1 a", b"2 b", b"3 a", b"4 a"], &[]);
        assert_eq!(rows(&listing).iter().map(|row| row.2).collect::<Vec<_>>(), [0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn any_lines_make_a_listing_in_order_with_each_number_once(
            uidl in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..20),
            list in prop::collection::vec("[0-9]{1,3} ?[0-9a-]{0,5}", 0..20),
        ) {
            let uidl: Vec<&[u8]> = uidl.iter().map(Vec::as_slice).collect();
            let list: Vec<&[u8]> = list.iter().map(String::as_bytes).collect();
            let listing = build(&uidl, &list);
            let rows = rows(&listing);
            prop_assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let mut names: Vec<_> = rows.iter().map(|row| (row.1, row.2)).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), rows.len());
            prop_assert!(rows.len() + listing.garbage() <= uidl.len() + list.len());
        }
    }
}
