//! Sorts messages that go by their place: the sizes, the headers and the order in which they stood.

use std::collections::HashMap;

use super::super::which::{Answer, Group, Nameless, Verdict};
use super::{Named, Size, Sorting, by_header, is_blank, keys};
use crate::state::{Entry, Kind};

impl Sorting<'_> {
    /// Sorts messages that go by their place.
    pub(super) fn group(&mut self, group: &Group, members: &[usize]) {
        let members: Vec<usize> = members.iter().copied().filter(|index| !self.is_settled(*index)).collect();
        let pool: Vec<usize> = match group {
            Group::Shared(uid) => self.of.entries.of(uid).collect(),
            Group::All | Group::Unnamed => (0..self.of.entries.len()).collect(),
        };
        let may_be = |entry: &usize| !self.sorted.taken[*entry] && !self.named[*entry];
        let pool: Vec<usize> = pool.into_iter().filter(may_be).collect();
        let mut order: Vec<usize> = pool.iter().copied().filter(|entry| self.entry(*entry).placed).collect();
        if !self.all_details(&order) {
            return;
        }
        order.sort_by_key(|entry| self.of.details[entry].place);
        let is_there = |entry: &Entry| {
            !entry.placed && !entry.was_deleted() && !entry.is_missed() && entry.kind != Kind::Pending
        };
        let any_other = pool.iter().any(|entry| is_there(&self.entry(*entry)));
        match self.are_in_order(&members, &order) {
            Some(true) => {
                for (index, entry) in members.iter().zip(&order) {
                    self.take(*index, *entry);
                }
                let rest = &members[order.len()..];
                if any_other {
                    let pool: Vec<usize> =
                        pool.into_iter().filter(|entry| !self.sorted.taken[*entry]).collect();
                    self.ask_all(rest, &pool, &[]);
                } else {
                    rest.iter().for_each(|index| self.is_new(*index));
                }
            }
            Some(false) => self.ask_all(&members, &pool, &order),
            None => {}
        }
    }

    /// Says whether the messages of a group stand where they stood: the sizes are the same, and the last known one is
    /// the one that was there. `None`: that is still a question.
    fn are_in_order(&mut self, members: &[usize], order: &[usize]) -> Option<bool> {
        let is_nameless = |index: &usize| self.of.listing.shown(*index).uid.is_empty();
        let probed = self.of.nameless == Nameless::Stay
            && order.is_empty()
            && members.first().is_some_and(is_nameless);
        let last = if probed { members.first() } else { members.get(order.len().wrapping_sub(1)) };
        if members.len() < order.len() {
            return Some(false);
        }
        for (index, entry) in members.iter().zip(order) {
            if !self.fits(*entry, self.octets(*index))? {
                return Some(false);
            }
        }
        let Some(&last) = last else { return Some(true) };
        match self.of.answers.of(last) {
            Answer::Header(header) => Some(order.last().is_none_or(|entry| {
                let detail = &self.of.details[entry];
                detail.has_header_of(header) || is_blank(detail)
            })),
            // Nothing but sizes and places tells them apart.
            Answer::Never => Some(true),
            Answer::Open => {
                self.standing.push(last);
                None
            }
            Answer::Unasked => {
                members.iter().for_each(|index| self.sorted.verdicts[*index] = Verdict::Unasked);
                None
            }
        }
    }

    /// Sorts messages by their headers; `order` is how they stood before.
    fn ask_all(&mut self, members: &[usize], pool: &[usize], order: &[usize]) {
        if !self.all_details(pool) {
            return;
        }
        if self.of.answers.are_none() {
            return self.by_size(members, order);
        }
        let open: Vec<usize> = members
            .iter()
            .copied()
            .filter(|index| matches!(self.of.answers.of(*index), Answer::Open))
            .collect();
        if !open.is_empty() {
            self.questions[0].extend(open);
            return;
        }
        self.in_order(members, order);
        // What was delivered before what was only seen.
        let mut first = pool.to_vec();
        first.sort_by_key(|entry| self.entry(*entry).kind == Kind::Pending);
        let known = by_header(&first, self.of.details);
        for size in [Size::Fits, Size::Any] {
            for index in members {
                self.match_header(*index, &known, size);
            }
        }
        self.match_blank(members, pool);
    }

    /// Finds those that stand in the order in which they stood, whatever came or went between them: of several with one
    /// header, the first is the first.
    fn in_order(&mut self, members: &[usize], order: &[usize]) {
        let known = by_header(order, self.of.details);
        let at: HashMap<usize, usize> = order.iter().enumerate().map(|(at, entry)| (*entry, at)).collect();
        let mut next = 0;
        for index in members {
            let Answer::Header(header) = self.of.answers.of(*index) else { continue };
            let mut found: Option<usize> = None;
            for entries in keys(header).iter().filter_map(|key| known.get(key)) {
                let rest = &entries[entries.partition_point(|entry| at[entry] < next)..];
                let is_it = |entry: &&usize| {
                    !self.entry(**entry).was_deleted() && self.fits_header(**entry, *index, header)
                };
                let first = rest.iter().find(is_it).copied();
                found = found.into_iter().chain(first).min_by_key(|entry| at[entry]);
            }
            if let Some(entry) = found {
                next = at[&entry] + 1;
                self.take(*index, entry);
            }
        }
    }

    /// Finds those that are left among the records of which nothing is known but the name.
    fn match_blank(&mut self, members: &[usize], pool: &[usize]) {
        let is_blank = |entry: &usize| is_blank(&self.of.details[entry]);
        let blank: Vec<usize> = pool.iter().copied().filter(is_blank).collect();
        for index in members {
            match (self.sorted.verdicts[*index], self.of.answers.of(*index)) {
                (Verdict::Open, Answer::Unasked) => self.sorted.verdicts[*index] = Verdict::Unasked,
                (Verdict::Open, answer) => {
                    let is_free = |entry: &&usize| !self.sorted.taken[**entry];
                    let free: Vec<usize> = blank.iter().filter(is_free).copied().collect();
                    let same = match answer {
                        Answer::Header(header) => free
                            .into_iter()
                            .find(|entry| self.is_same(*index, *entry, header, Named::ByPlace) == Some(true)),
                        Answer::Never | Answer::Open | Answer::Unasked => None,
                    };
                    match same {
                        Some(entry) => self.take(*index, entry),
                        None => self.is_new(*index),
                    }
                }
                _ => {}
            }
        }
    }

    /// Without TOP: what was never fetched can only be told by place and size, the others by their content.
    fn by_size(&mut self, members: &[usize], order: &[usize]) {
        for (index, entry) in members.iter().zip(order) {
            let was_fetched = match self.entry(*entry).kind {
                Kind::Pending | Kind::Marked | Kind::Imported | Kind::Discarded => false,
                Kind::Delivered => true,
            };
            if !was_fetched && self.fits(*entry, self.octets(*index)) == Some(true) {
                self.take(*index, *entry);
            }
        }
        for index in members {
            if self.sorted.verdicts[*index] == Verdict::Open {
                self.is_new(*index);
            }
        }
    }
}
