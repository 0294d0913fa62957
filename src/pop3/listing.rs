//! Lines of LIST and UIDL, and the answer to STAT (RFC 1939, 5 and 7).

use super::MessageNumber;

/// Reads a line of LIST: message-number and octets.
pub fn parse_size(line: &[u8]) -> Option<(MessageNumber, u64)> {
    let (number, rest) = parse_number(line)?;
    let word = rest.split(u8::is_ascii_whitespace).next()?;
    Some((number, value(word.strip_prefix(b"+").unwrap_or(word))?))
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
    match u32::try_from(value(number)?) {
        Ok(0) | Err(_) => None,
        Ok(number) => Some((MessageNumber(number), rest.trim_ascii_start())),
    }
}

/// Reads a number. There are two in the lines of each message, and to take them for text first costs thrice as much.
fn value(digits: &[u8]) -> Option<u64> {
    let add = |value: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        value.checked_mul(10)?.checked_add(digit.into())
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Listing, ListingBuilder};

    fn build(uidl: &[&[u8]], list: &[&[u8]]) -> Listing {
        let mut builder = ListingBuilder::default();
        uidl.iter().for_each(|line| builder.unique_id(parse_unique_id(line)));
        list.iter().for_each(|line| builder.size(parse_size(line)));
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
    fn stat_keeps_the_count_when_the_octets_are_nonsense() {
        assert_eq!(parse_stat(b"2 320"), Some(2));
        assert_eq!(parse_stat(b"33852 -1972428639"), Some(33852));
        assert_eq!(parse_stat(b"0"), Some(0));
        assert_eq!(parse_stat(b"many"), None);
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
