//! Whether the answers of a session that sends commands ahead are in step. One that never comes, one that comes twice,
//! or an end that is missing puts each later message in the place of another, and the octets that came against those
//! that were listed are the only sign of it.

use std::collections::{HashSet, VecDeque};

use crate::message::Listing;

/// Octets around the listed end of a message in which the next answer begins if the end was not sent as it should be:
/// a dot and a line end too much or too little.
const AROUND: u64 = 8;
/// How a line begins that is an end without its LF and the answer behind it, less the dot.
const ENDLESS: [&[u8]; 2] = [b"\r+OK", b"\r-ERR"];
/// Messages on either side that may have come in the place of one: as many as are under way at most.
const NEAR: usize = 1024;
/// Those of them that are looked at each time.
const FEW: usize = 16;

/// The messages of a session and what came of them, in the order in which they were asked for.
#[derive(Debug, Default)]
pub struct Steps {
    /// By index in the listing, with the octets that came.
    came: Vec<(usize, u64)>,
    /// What came around the listed end of the one that comes in.
    around: Vec<u8>,
    line: Line,
    /// One came in another size than was listed: no size is a sign any more.
    is_inexact: bool,
    /// Those that may have come in the place of others, for all that is known as long as more are under way.
    open: HashSet<usize>,
}

/// The line of a message that comes in, if it begins with CR, as does what is left of an end that lacks its LF.
#[derive(Debug, Default)]
struct Line {
    is_begun: bool,
    /// Its first octets; none of a line that begins otherwise.
    start: Vec<u8>,
}

impl Line {
    /// Notes octets; says whether an answer stands behind an end that lacks its LF.
    fn holds_an_answer(&mut self, octets: &[u8]) -> bool {
        if !self.is_begun {
            self.start.clear();
        }
        if (!self.is_begun && octets.first() == Some(&b'\r'))
            || (1..ENDLESS[1].len()).contains(&self.start.len())
        {
            let missing = ENDLESS[1].len() - self.start.len();
            self.start.extend_from_slice(&octets[..missing.min(octets.len())]);
        }
        self.is_begun = !octets.ends_with(b"\n") && (self.is_begun || !octets.is_empty());
        ENDLESS.iter().any(|line| self.start.starts_with(line))
    }
}

impl Steps {
    /// Notes octets of a message, of which so many came before; says whether an answer begins where it should end.
    pub fn hold_an_answer(&mut self, before: u64, octets: &[u8], listed: u64) -> bool {
        self.line.holds_an_answer(octets) || self.is_answered_at_the_end(before, octets, listed)
    }

    fn is_answered_at_the_end(&mut self, before: u64, octets: &[u8], listed: u64) -> bool {
        let end = listed.saturating_add(AROUND);
        let after = before + octets.len() as u64;
        if listed == 0 || after <= listed || before >= end {
            return false;
        }
        // Both are places in what is in memory.
        let (from, to) = (listed.saturating_sub(before) as usize, end.min(after) as usize - before as usize);
        self.around.extend_from_slice(&octets[from..to]);
        [&b"+OK"[..], b"-ERR"].iter().any(|word| self.around.windows(word.len()).any(|found| found == *word))
    }

    /// Notes a message that came, and its octets; says whether it is one that was asked for behind it, as far as sizes
    /// show that. `next`: what is under way.
    pub fn came(&mut self, index: usize, octets: u64, next: &VecDeque<usize>, listing: &Listing) -> bool {
        self.around.clear();
        self.line = Line::default();
        self.came.push((index, octets));
        let listed = listing.get(index).octets;
        let is_exact = octets == listed;
        let size = |next: &usize| listing.get(*next).octets;
        if !next.is_empty() && (!is_exact || next.iter().take(FEW).any(|next| size(next) == listed)) {
            self.open.insert(index);
        }
        let is_next = !is_exact && !self.is_inexact && next.iter().take(FEW).any(|next| size(next) == octets);
        self.is_inexact |= !is_exact;
        is_next
    }

    /// Notes that the octets of a message are those of the one before: its answer may have come twice.
    pub fn came_again(&mut self, index: usize) {
        self.open.insert(index);
    }

    /// Says whether a message may have come in the place of another as long as more are under way.
    pub fn is_open(&self, index: usize) -> bool {
        self.open.contains(&index)
    }

    /// Gives the messages, in order, that came since the last one that was surely the one that was asked for: it came
    /// in its listed size, which none near it has. `under_way`: what was asked for behind them.
    pub fn uncertain(&self, under_way: impl Iterator<Item = usize>, listing: &Listing) -> Vec<usize> {
        let asked: Vec<usize> = self.came.iter().map(|(index, _)| *index).chain(under_way).collect();
        let size = |at: usize| listing.get(asked[at]).octets;
        let is_certain = |at: &usize| {
            let mut near = at.saturating_sub(NEAR)..(at + NEAR).min(asked.len());
            let own = size(*at);
            own == self.came[*at].1 && near.all(|other| other == *at || size(other) != own)
        };
        let certain = (0..self.came.len()).rev().find(is_certain);
        asked[certain.map_or(0, |at| at + 1)..self.came.len()].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ListingBuilder, MessageNumber};

    fn listing(sizes: &[u64]) -> Listing {
        let mut builder = ListingBuilder::default();
        for (number, octets) in (1..).zip(sizes) {
            builder.size(Some((MessageNumber(number), *octets)));
        }
        builder.build()
    }

    #[test]
    fn a_message_is_certain_in_a_listed_size_that_no_other_near_it_has() {
        let listing = listing(&[10, 20, 30, 30, 40, 20]);
        let uncertain = |came: &[u64]| {
            let mut steps = Steps::default();
            for (index, octets) in came.iter().enumerate() {
                steps.came(index, *octets, &VecDeque::new(), &listing);
            }
            steps.uncertain(came.len()..6, &listing)
        };
        assert!(uncertain(&[10]).is_empty());
        assert_eq!(uncertain(&[10, 20, 30]), [1, 2], "others of the same sizes are under way");
        assert_eq!(uncertain(&[10, 30, 30]), [1, 2]);
        assert!(
            uncertain(&[12, 20, 30, 30, 40]).is_empty(),
            "what came before a certain one was in step, too"
        );
    }

    #[test]
    fn a_message_of_the_size_of_the_next_one_is_the_next_one_unless_sizes_are_inexact() {
        let listing = listing(&[10, 20, 30, 30, 40, 20]);
        let next = VecDeque::from([3, 4, 5]);
        let mut steps = Steps::default();
        assert!(!steps.came(1, 20, &VecDeque::from([2, 3]), &listing));
        assert!(steps.came(2, 40, &next, &listing));
        assert!(!steps.came(2, 40, &next, &listing), "one came before that was not as listed");
        assert!(!steps.is_open(1) && steps.is_open(2));
        assert!(!Steps::default().came(2, 30, &next, &listing));
    }

    #[test]
    fn an_answer_is_found_behind_an_end_without_its_lf_whatever_was_listed() {
        for (lines, found) in [
            (&["\r+OK\r\n"][..], true),
            (&["12\r\n", "\r-ERR no\r\n"], true),
            (&["12\r\n", "\r", "+O", "K\r\n"], true),
            (&["12", "\r\n", "\r+OK"], true),
            (&["12", "\r+OK\r\n"], false),
            (&["12\r\n", "\r\n", "+OK\r\n"], false),
            (&["\r+O\r\n", "K\r\n"], false),
        ] {
            let mut steps = Steps::default();
            let mut hold = |octets: &&str| steps.hold_an_answer(0, octets.as_bytes(), 0);
            assert_eq!(lines.iter().any(&mut hold), found, "{lines:?}");
        }
    }

    #[test]
    fn an_answer_is_found_at_the_listed_end_wherever_the_octets_are_split() {
        for (text, listed, found) in [
            ("0123456789\r+OK\r\n", 10, true),
            ("0123456789+OK 12\r\n", 10, true),
            ("01234567.\r\n-ERR no\r\n", 10, true),
            ("0123456789 more +OK", 10, false),
            ("0123+OK789", 10, false),
            ("0123+OK789", 0, false),
        ] {
            for at in 0..text.len() {
                let (one, other) = text.as_bytes().split_at(at);
                let mut steps = Steps::default();
                let first = steps.hold_an_answer(0, one, listed);
                assert_eq!(first || steps.hold_an_answer(at as u64, other, listed), found, "{text} {at}");
            }
        }
    }
}
