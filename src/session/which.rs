//! Which message is which: what the messages of a listing are, by the records and by what the server has answered. Pure.
//!
//! A unique-id with its size is believed as long as nothing contradicts it. What contradicts it (another size than RETR
//! gave, a message that was gone, or deleted, and is back) is a question: the header by TOP, and where that cannot settle
//! it, the whole message, whose content decides. Where unique-ids tell nothing, messages go by their place: as long as
//! the last known one is what it was, and the sizes before it are, too, so are the others.

use std::collections::{HashMap, HashSet};

use crate::message::{Fingerprint, Listing};
use crate::state::{Detail, Entries, Held, Naming};

/// What a listed message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The recorded one of this index in the entries.
    Known(usize),
    /// To be fetched: new, or to be compared by its content. It may have a record from when it was first seen.
    New { pending: Option<usize> },
    /// This session has fetched it, or tried to.
    Done,
    /// A question is open.
    Open,
    /// There was no time for its question in this session.
    Unasked,
    /// UIDL leaves it out, for once perhaps.
    Hole,
}

/// What the server has answered to TOP.
#[derive(Debug, Default)]
pub struct Answers {
    /// By index in the listing; `None`: refused.
    headers: HashMap<usize, Option<Fingerprint>>,
    /// Those that are not asked for, since sessions broke at them: that says nothing of the others.
    withheld: HashSet<usize>,
    works: bool,
    spent: bool,
}

/// The answer to one question.
pub enum Answer<'a> {
    Header(&'a Fingerprint),
    /// It cannot be had.
    Never,
    Open,
    /// No more is asked in this session.
    Unasked,
}

impl Answers {
    /// Notes an answer; `None`: refused.
    pub fn note(&mut self, index: usize, header: Option<Fingerprint>) {
        self.works |= header.is_some();
        self.headers.insert(index, header);
    }

    pub fn note_all(&mut self, answers: Vec<(usize, Option<Fingerprint>)>) {
        answers.into_iter().for_each(|(index, header)| self.note(index, header));
    }

    /// Notes that a header is not asked for.
    pub fn withhold(&mut self, index: usize) {
        self.withheld.insert(index);
    }

    pub fn spend(&mut self) {
        self.spent = true;
    }

    /// Gives a header that was shown.
    pub fn header(&self, index: usize) -> Option<&Fingerprint> {
        self.headers.get(&index)?.as_ref()
    }

    /// Says whether nobody has asked for this header yet.
    pub fn is_unasked(&self, index: usize) -> bool {
        !self.headers.contains_key(&index) && !self.withheld.contains(&index) && !self.are_none()
    }

    /// Says whether it has shown one.
    pub fn work(&self) -> bool {
        self.works
    }

    /// Says whether the server has no TOP, for all that it answered.
    pub fn are_none(&self) -> bool {
        !self.works && !self.headers.is_empty()
    }

    /// Gives the answer to the question about a message.
    pub fn of(&self, index: usize) -> Answer<'_> {
        match self.headers.get(&index) {
            Some(Some(header)) => Answer::Header(header),
            Some(None) => Answer::Never,
            None if self.are_none() || self.withheld.contains(&index) => Answer::Never,
            None if self.spent => Answer::Unasked,
            None => Answer::Open,
        }
    }
}

/// What is known when a listing is sorted.
pub struct Evidence<'a> {
    pub listing: &'a Listing,
    pub entries: &'a Entries,
    pub held: &'a [Held],
    /// Of those that were needed so far.
    pub details: &'a HashMap<usize, Detail>,
    /// To the questions so far.
    pub answers: &'a Answers,
    /// How the server has named its messages.
    pub naming: &'a Naming,
    pub unique_ids: UniqueIds,
    /// What becomes of messages that neither unique-ids nor headers tell apart: where they stay, one header is asked for.
    pub nameless: Nameless,
    pub showing: Showing,
    /// What RETR has settled, by index in the listing: which record it is, if any.
    pub settled: &'a HashMap<usize, Option<usize>>,
    /// Deletions that came back again and again, or broke the session, and are left alone for now, by entry.
    pub rests: &'a dyn Fn(usize, &Detail) -> bool,
}

/// Whether a source gives unique-ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueIds {
    Given,
    Refused,
}

/// Whether messages are fetched of which the server shows neither unique-id nor header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nameless {
    /// Each is deleted as soon as it is delivered, so that the server shows none again; if it does, its content tells.
    Come,
    /// Nothing would tell them from others at the next poll.
    Stay,
}

/// Which session of a poll a listing is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Showing {
    First,
    /// A further one: what its listing shows was shown before.
    Again,
}

/// Messages that go by their place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// All of the maildrop.
    All,
    /// Those that UIDL leaves out.
    Unnamed,
    /// Those that share a unique-id.
    Shared(Vec<u8>),
}

#[derive(Debug, Default)]
pub struct Sorted {
    /// By index in the listing.
    pub verdicts: Vec<Verdict>,
    /// Indices of messages whose headers are to be asked for, the most urgent first.
    pub questions: Vec<usize>,
    /// How many of them are those that a group asks at each poll.
    pub standing: usize,
    /// Entries of which details are needed before anything can be said.
    pub wants: Vec<usize>,
    /// Those that go by their place.
    pub groups: Vec<(Group, Vec<usize>)>,
    /// Which entries are listed, by index.
    pub taken: Vec<bool>,
    /// Records that a message's name promises and nothing has settled yet: only it can take them.
    pub owners: HashMap<usize, usize>,
    /// How the server names its messages now.
    pub naming: Naming,
    /// The group of each message that goes by its place, by index in `groups`.
    pub group_of: HashMap<usize, usize>,
}

impl Sorted {
    /// Says whether each listed message has a name and nothing was left open, so that what is not listed is not there.
    pub fn is_complete(&self) -> bool {
        let is_open = |verdict: &Verdict| matches!(verdict, Verdict::Open | Verdict::Unasked | Verdict::Hole);
        !self.verdicts.iter().any(is_open)
    }

    /// Gives the recorded messages that a complete listing shows no longer.
    pub fn vanished(&self, entries: &Entries) -> Vec<usize> {
        let is_new = |index: &usize| !self.taken[*index] && !entries.get(*index).2.is_missed();
        if self.is_complete() { (0..entries.len()).filter(is_new).collect() } else { Vec::new() }
    }

    /// Gives those that were gone and are listed again.
    pub fn returned(&self, entries: &Entries) -> Vec<usize> {
        let is_back = |index: &usize| self.taken[*index] && entries.get(*index).2.is_missed();
        (0..entries.len()).filter(is_back).collect()
    }

    /// Gives the group of a message that goes by its place.
    pub fn group_of(&self, index: usize) -> Option<&Group> {
        self.group_of.get(&index).map(|group| &self.groups[*group].0)
    }
}
