//! Which messages are there already: those of this session whose answer never came, and those of earlier ones.

use std::collections::{HashMap, HashSet};
use std::io;

use super::dialogue::{Broken, Dialogue};
use super::known::KnownBy;
use super::look::{self, Blind, Found, Settled, Sought};
use super::round::{Round, State};
use super::upload::Letter;
use crate::delivery::reading::Parts;
use crate::delivery::spool::{Content, Spooled};
use crate::delivery::{Outcome, TargetError};
use crate::lock::lock;
use crate::message::file::sender_of;
use crate::message::in_mailbox::Said;
use crate::message::{Body, FileDigest, FileId};

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
        let senders: HashSet<FileDigest> = doubtful.iter().map(|(_, known)| sender_of(known.name)).collect();
        let taken: Vec<KnownBy> = {
            let taken = lock(&self.shared.taken);
            senders.iter().filter_map(|sender| taken.get(sender)).flatten().cloned().collect()
        };
        let is_all = |found: &[Found]| there(&doubtful, &taken, found).len() == doubtful.len();
        let place = self.shared.place(at);
        let looked = look::look_until_still(dialogue, place, at.next, Sought::Of(&senders), is_all).await;
        let (found, settled) = match looked {
            Ok(looked) => looked,
            Err(Blind::Broken(broken)) => return Ok(Err(broken)),
            Err(blind) => return Err(self.shared.blind(blind)),
        };
        let there = there(&doubtful, &taken, &found);
        for (number, _) in doubtful {
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

    /// Gives the messages in doubt, by their numbers. One that is known by nothing stays in doubt: it could not be found.
    fn doubtful(&mut self) -> Vec<(usize, KnownBy)> {
        let mut doubtful = Vec::new();
        for (number, message) in self.batch.iter_mut().enumerate() {
            let (Some(letter), State::Doubtful { why, .. }) = (&message.letter, &message.state) else {
                continue;
            };
            match &letter.known {
                Some(known) => doubtful.push((number, known.clone())),
                None => message.state = State::Decided(Outcome::InDoubt(why.clone())),
            }
        }
        doubtful
    }

    /// Recognizes what earlier sessions delivered by its name alone where the way that it came, or its body, tells it from
    /// all others.
    pub(super) fn recognize_by_name(&mut self) {
        for number in 0..self.batch.len() {
            let Some((letter, found)) = self.may_be(number) else { continue };
            let is_named = letter.known.as_ref().is_some_and(|known| known.name == found.digest);
            let is_told = !letter.is_certain() || letter.is_traced && found.has(letter.octets);
            if is_named && is_told {
                self.recognize(number, found);
            }
        }
    }

    /// Recognizes what earlier sessions delivered by its header and its body.
    pub(super) async fn recognize_by_asking(&mut self, dialogue: &mut Dialogue) -> Asked<()> {
        let place = self.shared.place(*lock(&self.shared.at));
        let asked = (0..self.batch.len()).filter_map(|number| self.may_be(number));
        let asked = asked.filter(|(letter, found)| letter.has_another_way(found));
        let uids: Vec<u32> = asked.filter_map(|(_, found)| found.uid()).collect();
        let headers = match uids.is_empty() {
            true => Ok(HashMap::new()),
            false => look::headers(dialogue, place, &uids).await,
        };
        let headers = match headers {
            Ok(headers) => headers,
            Err(Blind::Broken(broken)) => return Ok(Err(broken)),
            Err(blind) => return Err(self.shared.blind(blind)),
        };
        for number in 0..self.batch.len() {
            let Some((letter, found)) = self.may_be(number) else { continue };
            let Some(uid) = found.uid() else { continue };
            let (Some(true), Ok(body)) =
                (letter.came_as(&found, headers.get(&uid)), body(&letter.message).await)
            else {
                self.batch[number].is_compared = true;
                continue;
            };
            match look::has_body(dialogue, place, uid, body).await {
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

impl Letter {
    fn is_certain(&self) -> bool {
        self.message.known.whole.as_ref().is_some_and(|whole| whole.in_mailbox.is_certain)
    }

    /// Says whether a message that may be this one has come by another way, or has had fields added.
    fn has_another_way(&self, found: &FileId) -> bool {
        self.is_certain() && self.known.as_ref().is_none_or(|known| known.name != found.digest)
    }

    /// Says whether a message that may be this one has come by its way; `None` if nobody knows.
    fn came_as(&self, found: &FileId, said: Option<&Said>) -> Option<bool> {
        match self.has_another_way(found) {
            true => Some(said?.may_have_come(&self.known.as_ref()?.way)),
            false => Some(true),
        }
    }
}

/// Digests what follows the header of a message, with the line ends that it has in a mailbox.
async fn body(message: &Spooled) -> io::Result<[u8; 32]> {
    let mut body = Body::default();
    match &message.content {
        Content::Memory(octets) => body.write(octets.as_ref()),
        Content::File(file) => {
            let mut parts = Parts::of(file, message.octets)?;
            while parts.are_left() {
                body.write(&parts.next().await?);
            }
        }
    }
    Ok(body.finish())
}

/// Messages that nothing but their octets tells apart.
struct Alike<'a> {
    known: &'a KnownBy,
    /// Octets of those that the server took.
    taken: Vec<u64>,
    /// Numbers and octets of those in doubt.
    doubtful: Vec<(usize, u64)>,
}

/// Says which messages in doubt are among those that were found, by their numbers.
fn there(doubtful: &[(usize, KnownBy)], taken: &[KnownBy], found: &[Found]) -> Vec<usize> {
    let mut all: Vec<Alike<'_>> = Vec::new();
    let numbered = doubtful.iter().map(|(number, known)| (Some(*number), known));
    for (number, known) in numbered.chain(taken.iter().map(|known| (None, known))) {
        let is_it = |alike: &Alike<'_>| alike.known.name == known.name && alike.known.way == known.way;
        let at = all.iter().position(is_it).unwrap_or_else(|| {
            all.push(Alike { known, taken: Vec::new(), doubtful: Vec::new() });
            all.len() - 1
        });
        match number {
            Some(number) => all[at].doubtful.push((number, known.octets)),
            None => all[at].taken.push(known.octets),
        }
    }
    // What tells little of its way may be what others are.
    all.sort_by_key(|alike| std::cmp::Reverse(alike.known.way.len()));
    let mut found: Vec<&Found> = found.iter().collect();
    all.iter().flat_map(|alike| alike.matched(&mut found)).collect()
}

impl Alike<'_> {
    fn may_be(&self, found: &Found) -> bool {
        let KnownBy { name, way, .. } = self.known;
        let is_of_sender = sender_of(found.id.digest) == sender_of(*name);
        found.id.digest == *name
            || is_of_sender && found.said.known.is_certain && found.said.may_have_come(way)
    }

    /// Says which are among the messages that lie there, besides those that are known to, and takes them away. Equal octets
    /// go first. Servers may rewrite messages: then they are there if so many are, else nobody knows which.
    fn matched(&self, there: &mut Vec<&Found>) -> Vec<usize> {
        let mut take = |is_it: &dyn Fn(&FileId) -> bool| {
            let at = there.iter().position(|found| self.may_be(found) && is_it(&found.id));
            at.map(|at| there.swap_remove(at)).is_some()
        };
        let rewritten = self.taken.iter().filter(|octets| !take(&|found| found.has(**octets))).count();
        let is_of_doubtful = |found: &FileId| self.doubtful.iter().any(|(_, octets)| found.has(*octets));
        for _ in 0..rewritten {
            let _ = take(&|found| !is_of_doubtful(found)) || take(&|_| true);
        }
        let (found, left): (Vec<_>, Vec<_>) =
            self.doubtful.iter().partition(|(_, octets)| take(&|found| found.has(*octets)));
        let mut found: Vec<usize> = found.into_iter().map(|(number, _)| number).collect();
        if there.iter().filter(|found| self.may_be(found)).count() >= left.len() {
            for (number, _) in left {
                if let Some(at) = there.iter().position(|found| self.may_be(found)) {
                    there.swap_remove(at);
                }
                found.push(number);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::InMailbox;

    fn found(uid: u32, octets: u64, way: &[u64]) -> Found {
        let said = Said { way: way.to_vec(), ..Said::default() };
        let said = Said { known: InMailbox { is_certain: true, ..said.known }, ..said };
        Found { id: FileId::of_message([0; 16], uid, octets), recorded: [0; 16], said }
    }

    fn known(octets: u64, way: &[u64]) -> KnownBy {
        let mut name = [0; 16];
        name[15] = way.len() as u8;
        KnownBy { name, way: way.to_vec(), octets }
    }

    #[test]
    fn messages_of_one_identity_are_told_apart_by_their_octets() {
        for (lies, taken, doubtful, expected) in [
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
            let lies: Vec<Found> = (1..).zip(lies).map(|(uid, octets)| found(uid, *octets, &[])).collect();
            let taken: Vec<KnownBy> = taken.iter().map(|octets| known(*octets, &[])).collect();
            let doubtful: Vec<_> = doubtful.iter().map(|octets| known(*octets, &[])).enumerate().collect();
            assert_eq!(there(&doubtful, &taken, &lies), expected, "{lies:?} {taken:?} {doubtful:?}");
        }
    }

    #[test]
    fn messages_of_one_sender_are_told_apart_by_their_way_to_which_servers_add() {
        for (lies, taken, doubtful, expected) in [
            (&[&[1][..]][..], &[][..], &[&[1][..], &[2]][..], &[0][..]),
            (&[&[9, 2]], &[], &[&[1], &[2]], &[1]),
            (&[&[9, 1, 2]], &[&[1, 2][..]], &[&[], &[2]], &[]),
            (&[&[9, 1], &[9]], &[], &[&[], &[1]], &[1, 0]),
            (&[&[2, 1]], &[], &[&[1, 2]], &[]),
        ] {
            let lies: Vec<Found> = (1..).zip(lies).map(|(uid, way)| found(uid, 7, way)).collect();
            let taken: Vec<KnownBy> = taken.iter().map(|way: &&[u64]| known(5, way)).collect();
            let doubtful: Vec<_> = doubtful.iter().map(|way| known(5, way)).enumerate().collect();
            assert_eq!(there(&doubtful, &taken, &lies), expected, "{lies:?} {taken:?} {doubtful:?}");
        }
    }
}
