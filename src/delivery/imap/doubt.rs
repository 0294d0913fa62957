//! Which messages are there already: those of this session whose answer never came, and those of earlier ones.

use super::body;
use super::dialogue::{Broken, Dialogue};
use super::look::{self, Blind, Settled};
use super::round::{Round, State};
use super::upload::Letter;
use crate::delivery::{Outcome, TargetError};
use crate::lock::lock;
use crate::message::{FileDigest, FileId};

/// An error that leaves the target as it is, within one that does not.
type Asked<T> = Result<Result<T, Broken>, TargetError>;

impl Round<'_> {
    /// Looks for what is in doubt: it is there, or is to be sent again, but not where the server may have it still.
    pub(super) async fn resolve(&mut self, dialogue: &mut Dialogue) -> Asked<()> {
        let doubtful = self.doubtful();
        if doubtful.is_empty() {
            return Ok(Ok(()));
        }
        let at = *lock(&self.shared.at);
        let count = doubtful.iter().map(|group| group.numbers.len()).sum::<usize>();
        let is_all = |found: &[FileId]| there(&doubtful, found).len() == count;
        let looked = look::look_until_still(dialogue, self.shared.place(at), at.next, is_all).await;
        let (found, settled) = match looked {
            Ok(looked) => looked,
            Err(Blind::Broken(broken)) => return Ok(Err(broken)),
            Err(blind) => return Err(self.shared.blind(blind)),
        };
        let there = there(&doubtful, &found);
        for number in doubtful.into_iter().flat_map(|group| group.numbers) {
            let message = &mut self.batch[number];
            let (Some(letter), State::Doubtful { why, is_timeout }) = (&message.letter, &message.state)
            else {
                continue;
            };
            message.state = if there.contains(&number) {
                self.shared.took(letter);
                State::Decided(Outcome::Delivered)
            } else if *is_timeout || settled == Settled::Moving || message.was_doubtful {
                // Another copy a try, if the server never shows what it has.
                State::Decided(Outcome::InDoubt(why.clone()))
            } else {
                message.was_doubtful = true;
                State::Waiting { cuts: 0 }
            };
        }
        Ok(Ok(()))
    }

    /// Gives the messages in doubt, by their digests. One without a digest stays in doubt: it could not be found.
    fn doubtful(&mut self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let taken = lock(&self.shared.taken);
        for (number, message) in self.batch.iter_mut().enumerate() {
            let (Some(letter), State::Doubtful { why, .. }) = (&message.letter, &message.state) else {
                continue;
            };
            let Some(digest) = letter.digest else {
                message.state = State::Decided(Outcome::InDoubt(why.clone()));
                continue;
            };
            let at = groups.iter().position(|group| group.digest == digest).unwrap_or_else(|| {
                let taken = taken.get(&digest).cloned().unwrap_or_default();
                groups.push(Group { digest, numbers: Vec::new(), octets: Vec::new(), taken });
                groups.len() - 1
            });
            groups[at].numbers.push(number);
            groups[at].octets.push(letter.octets);
        }
        groups
    }

    /// Recognizes what earlier sessions delivered by its size alone where the way that it came tells it from all others.
    pub(super) fn recognize_by_size(&mut self) {
        for number in 0..self.batch.len() {
            let Some((letter, found)) = self.may_be(number) else { continue };
            if letter.is_traced && found.has(letter.octets) {
                self.recognize(number, found);
            }
        }
    }

    /// Recognizes what earlier sessions delivered by its body.
    pub(super) async fn recognize_by_body(&mut self, dialogue: &mut Dialogue) -> Asked<()> {
        for number in 0..self.batch.len() {
            let Some((letter, found)) = self.may_be(number) else { continue };
            // What cannot be read cannot be sent either, and that is told.
            let (Some(uid), Ok(body)) = (found.uid(), body::of(&letter.message).await) else { continue };
            let at = *lock(&self.shared.at);
            match look::has_body(dialogue, self.shared.place(at), uid, body).await {
                Ok(true) => self.recognize(number, found),
                Ok(false) => self.batch[number].is_compared = true,
                Err(Blind::Broken(broken)) => return Ok(Err(broken)),
                Err(blind) => return Err(self.shared.blind(blind)),
            }
        }
        Ok(Ok(()))
    }

    /// Gives what an untold message may be.
    fn may_be(&self, number: usize) -> Option<(&Letter, FileId)> {
        let message = &self.batch[number];
        let (Some(letter), State::Waiting { .. }, false) =
            (&message.letter, &message.state, message.is_compared)
        else {
            return None;
        };
        let found = letter.message.known.unclaimed?;
        (!lock(&self.shared.claimed).contains(&found)).then_some((letter, found))
    }

    fn recognize(&mut self, number: usize, found: FileId) {
        lock(&self.shared.claimed).insert(found);
        self.batch[number].state = State::Decided(Outcome::AlreadyThere);
    }
}

/// Messages of one digest that are in doubt.
struct Group {
    digest: FileDigest,
    numbers: Vec<usize>,
    /// Of each of them.
    octets: Vec<u64>,
    /// Of those that the server took.
    taken: Vec<u64>,
}

/// Says which messages in doubt are among those that were found, by their numbers.
fn there(doubtful: &[Group], found: &[FileId]) -> Vec<usize> {
    let of = |group: &Group| {
        let there = found.iter().copied().filter(|found| found.digest == group.digest).collect();
        let numbers = group.numbers.clone();
        matched(there, &group.taken, &group.octets).into_iter().map(move |at| numbers[at])
    };
    doubtful.iter().flat_map(of).collect()
}

/// Says which messages of one digest, by their octets, are among those that lie there, besides those that are known to.
/// Equal octets go first. Servers may rewrite messages: then they are there if so many are, else nobody knows which.
fn matched(mut there: Vec<FileId>, taken: &[u64], doubtful: &[u64]) -> Vec<usize> {
    let mut take = |is_it: &dyn Fn(&FileId) -> bool| {
        let at = there.iter().position(is_it);
        at.map(|at| there.swap_remove(at)).is_some()
    };
    let rewritten = taken.iter().filter(|octets| !take(&|found| found.has(**octets))).count();
    let is_of_doubtful = |found: &FileId| doubtful.iter().any(|octets| found.has(*octets));
    for _ in 0..rewritten {
        let _ = take(&|found| !is_of_doubtful(found)) || take(&|_| true);
    }
    let (mut found, left): (Vec<usize>, Vec<usize>) =
        (0..doubtful.len()).partition(|at| take(&|found| found.has(doubtful[*at])));
    if there.len() >= left.len() {
        found.extend(left);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_identity_are_told_apart_by_their_octets() {
        let there = |octets: &[u64]| -> Vec<FileId> {
            (1..).zip(octets).map(|(uid, octets)| FileId::of_message([0; 16], uid, *octets)).collect()
        };
        for (found, taken, doubtful, expected) in [
            (&[9][..], &[][..], &[5, 9][..], &[1][..]),
            (&[9, 5], &[], &[5, 9], &[0, 1]),
            (&[7], &[], &[5], &[0]),
            (&[7], &[], &[5, 9], &[]),
            (&[7, 8], &[], &[5, 9], &[0, 1]),
            (&[5], &[5], &[5], &[]),
            (&[5, 5], &[5], &[5], &[0]),
            (&[9], &[9], &[5], &[]),
            (&[7, 5], &[6], &[5], &[0]),
            (&[5], &[6], &[5], &[]),
            (&[], &[5], &[5], &[]),
        ] {
            assert_eq!(matched(there(found), taken, doubtful), expected, "{found:?} {taken:?} {doubtful:?}");
        }
    }
}
