//! The few things that nobody can see, each with its reason.
//!
//! What may repeat, be left or be deleted is in [`Judge::excuse_for_repeating`], [`Judge::excuse_for_leaving`] and
//! [`Judge::excuse_for_deleting`], and what rest is in [`Judge::is_blind`], [`Judge::is_flooded`] and
//! [`Judge::are_taking_turns`].

use super::super::scenario::{Deletes, Event, First, Keep, Sizes, Top, Uids, Writes};
use super::{Fact, Judge, Mark};

/// Octets that a server may count less or more than there are.
const LESS: usize = 16;

impl Judge {
    /// Says how many copies more than there are messages may lie in the maildir.
    pub(super) fn excuse_for_repeating(&self, content: &[u8]) -> usize {
        let ids = self.ids(content);
        let facts: Vec<&Fact> = ids.iter().map(|id| &self.facts[*id]).collect();
        // Sizes alone tell messages apart, and something went: nobody can see which.
        if self.is_blind() || facts.iter().any(|fact| fact.is_swapped) {
            return usize::MAX / 2;
        }
        // What a reader had filed when the state was lost is known by nothing.
        let mut excuse = self.forgotten.get(content).copied().unwrap_or(0);
        // Another one of its certain identity may have taken its record, whatever their bodies are.
        excuse += ids.iter().map(|id| self.twins(*id).count()).sum::<usize>();
        // It was missing for so long that it was forgotten.
        excuse += facts.iter().map(|fact| fact.forgotten).sum::<usize>();
        // A weak identity that is brought back may come once more: it may as well be another message.
        excuse += facts.iter().filter(|fact| !fact.mail.is_certain).map(|fact| fact.comebacks).sum::<usize>();
        // One comes under a new name, and its own stands at another of its size, which is taken for it.
        excuse += facts.iter().map(|fact| fact.ousted).sum::<usize>();
        // Where the last known one of a group has a twin, it does not prove that those before it are where they were.
        if self.scenario.uids.are_by_place() && self.deletions_lie() {
            excuse += self.facts.iter().map(|fact| self.equals(fact.mail.id).count()).sum::<usize>();
        }
        // Where sizes do not tell it from the one that was asked for behind it, it is delivered in the place of that, too.
        excuse += facts
            .iter()
            .filter(|fact| self.has_no_size_of_its_own(fact))
            .map(|fact| fact.doubled)
            .sum::<usize>();
        // Weak twins by place change their places unseen.
        excuse += 2 * ids.iter().map(|id| self.weak_twins(*id).count()).sum::<usize>();
        excuse
    }

    /// Says whether a message may be left on the server unfetched.
    pub fn excuse_for_leaving(&self, id: usize) -> bool {
        let fact = &self.facts[id];
        // It took the place, unique-id and size of another between two polls, or sizes alone tell messages apart.
        fact.mark != Mark::Not
            || fact.is_swapped
            || self.is_blind()
            || self.is_nameless(id)
            || self.twins(id).any(|twin| twin.mark != Mark::Not || self.delivered(&twin.content) > 0)
            || self.twins(id).any(|twin| twin.mail.flaw.is_short() && self.delivered(&twin.mail.short()) > 0)
            || fact.mail.is_certain && self.equals(id).any(|equal| equal.mark != Mark::Not)
            || self.weak_twins(id).any(|twin| twin.mark != Mark::Not || self.delivered(&twin.content) > 0)
    }

    /// Says whether a message may be deleted that was not delivered.
    pub(super) fn excuse_for_deleting(&self, id: usize) -> bool {
        // Identity and size are those of another, and RETR has verified them: no more is asked before a deletion.
        // Servers that count otherwise may list one as large as the other.
        let size = self.facts[id].content.len();
        let counts =
            self.scenario.sizes == Sizes::Estimate || self.scenario.has(|event| *event == Event::Recount);
        let most = if counts { LESS } else { 0 };
        self.twins(id)
            .any(|twin| twin.content.len().abs_diff(size) <= most && self.delivered(&twin.content) > 0)
    }

    /// Says whether what was only marked may be fetched.
    pub(super) fn excuse_for_fetching_marked(&self, id: usize) -> bool {
        let fact = &self.facts[id];
        let changes = self.scenario.uids.are_by_place()
            || self
                .scenario
                .has(|event| matches!(event, Event::Renumber | Event::EmptyUidl | Event::Holes(_)));
        // It has no identity that settles anything, and no content was recorded.
        let is_weak = !fact.mail.is_certain || self.scenario.top != Top::Works;
        // Another one of its certain identity may have taken its record.
        let has_twin = self.twins(id).next().is_some();
        (changes || fact.comebacks > 0) && is_weak || has_twin || fact.is_swapped || self.is_blind()
    }

    /// Says whether neither UIDL nor TOP tells a message from others: then only `keep: none` will do.
    pub fn is_nameless(&self, id: usize) -> bool {
        let has_uid = match self.scenario.uids {
            Uids::Missing | Uids::Empty => false,
            Uids::Holes => id.is_multiple_of(2),
            _ => true,
        };
        !has_uid
            && self.scenario.top == Top::Missing
            && (self.scenario.keep != Keep::Nothing || self.scenario.first == First::Skips)
    }

    /// Gives those of the same certain identity and another body: by it they are one message.
    pub(super) fn twins(&self, id: usize) -> impl Iterator<Item = &Fact> {
        let fact = &self.facts[id];
        let is_twin = |other: &&Fact| {
            fact.mail.is_certain && other.mail.header == fact.mail.header && other.content != fact.content
        };
        self.facts.iter().filter(is_twin)
    }

    /// Says whether messages get other unique-ids.
    pub fn names_change(&self) -> bool {
        let renames = |event: &Event| matches!(event, Event::Renumber | Event::EmptyUidl | Event::Holes(_));
        matches!(self.scenario.uids, Uids::Random | Uids::Plain) || self.scenario.has(renames)
    }

    /// Says whether weak messages come under new names at each poll although they were deleted: they may as well be new.
    pub fn is_flooded(&self) -> bool {
        let ignored = self.scenario.deletes == Deletes::Ignored && self.scenario.uids == Uids::Random;
        ignored && self.facts.iter().any(|fact| !fact.mail.is_certain)
    }

    /// Says whether more deletions are never carried out than `max_messages` lets be compared in one poll, for want of TOP
    /// or of an identity: those that were tried longest ago have their turn, each once a day.
    pub fn are_taking_turns(&self, messages: usize, fetched: usize) -> bool {
        let fails = matches!(self.scenario.deletes, Deletes::Ignored | Deletes::Refused | Deletes::LosesQuit);
        let is_told = self.scenario.top == Top::Works && self.facts.iter().all(|fact| fact.mail.is_certain);
        let are_compared = fails && self.scenario.keep != Keep::Forever && !is_told;
        are_compared && fetched < messages && self.scenario.limit.is_some_and(|limit| limit < messages)
    }

    pub(super) fn deletions_lie(&self) -> bool {
        let forgets = |event: &Event| matches!(event, Event::ForgetDeletions);
        self.scenario.deletes == Deletes::Ignored || self.scenario.has(forgets)
    }

    /// Says whether the size of a message, as it is listed, does not tell it from all others.
    fn has_no_size_of_its_own(&self, fact: &Fact) -> bool {
        let is_inexact = self.scenario.sizes == Sizes::Estimate
            || self.scenario.writes != Writes::Nothing
            || self.scenario.has(|event| *event == Event::Recount);
        let is_equal =
            |other: &Fact| other.mail.id != fact.mail.id && other.content.len() == fact.content.len();
        is_inexact || self.facts.iter().any(is_equal)
    }

    /// Gives those of the same header and size.
    fn equals(&self, id: usize) -> impl Iterator<Item = &Fact> {
        let fact = &self.facts[id];
        let is_equal = move |other: &&Fact| {
            other.mail.id != id
                && other.mail.header == fact.mail.header
                && other.content.len() == fact.content.len()
        };
        self.facts.iter().filter(is_equal)
    }

    /// Gives those that go by their place and have the same weak identity and size.
    fn weak_twins(&self, id: usize) -> impl Iterator<Item = &Fact> {
        let may_be = !self.facts[id].mail.is_certain && self.scenario.uids.are_by_place();
        self.equals(id).filter(move |_| may_be)
    }

    /// Says whether messages were told apart by their sizes alone while some went away.
    pub fn is_blind(&self) -> bool {
        let goes = |event: &Event| {
            matches!(
                event,
                Event::Swap
                    | Event::OtherDeletes(_)
                    | Event::Vanish(_)
                    | Event::ForgetDeletions
                    | Event::ShowHalf(_)
            )
        };
        self.scenario.top == Top::Missing
            && self.scenario.uids.are_by_place()
            && (self.scenario.deletes == Deletes::Ignored || self.scenario.has(goes))
    }
}
