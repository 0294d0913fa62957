//! What broke sessions before, and when it has its turn.

use crate::message::UniqueId;
use crate::state::{Held, HeldKind, Memory, Recorded, Standing, Timestamp};

use super::super::waits::is_due;
use super::super::which::{Showing, Verdict};
use super::Book;

impl<'a> Book<'a> {
    /// Says whether what is held is not tried now: its wait is not over, or it had its turn in this poll.
    fn is_put_off(&self, held: &Held) -> bool {
        let had_its_turn = self.around.showing == Showing::Again && held.tried_at == self.policy.now;
        had_its_turn || !is_due(held, self.policy.now)
    }

    /// Says whether the deletion of a record broke sessions, or was tried in this poll, and is not tried now.
    pub fn rests(&self, entry: usize) -> bool {
        self.was_tried(entry) || undeletable(self.memory, entry).is_some_and(|held| self.is_put_off(held))
    }

    /// Says whether an earlier session of this poll has tried the deletion of a record, and ended with a QUIT that did not
    /// make it real.
    fn was_tried(&self, entry: usize) -> bool {
        let known = self.memory.entries.get(entry).2;
        let tried_at = self.details.get(&entry).and_then(|detail| detail.tried_at);
        let is_unreal = known.delete_tries > 0 && !known.deleted;
        is_unreal && self.around.showing == Showing::Again && tried_at >= Some(self.around.since)
    }

    /// Says whether a session broke at a message, and it is not tried now.
    pub fn waits(&self, index: usize) -> bool {
        let breaks = self.held(index).filter(|held| held.kind == HeldKind::Breaks);
        breaks.is_some_and(|held| self.is_put_off(held))
    }

    /// Gives what is remembered of a message at which a session broke: of its RETR, or of its deletion.
    pub fn broke(&self, index: usize) -> Option<&'a Held> {
        let deletion = match self.sorted.verdicts[index] {
            Verdict::Known(entry) => undeletable(self.memory, entry),
            _ => {
                let mut named = self.memory.entries.of(self.listing.shown(index).uid);
                named.find_map(|entry| {
                    let is_promised = self.owner(entry) == Some(index);
                    is_promised.then(|| undeletable(self.memory, entry)).flatten()
                })
            }
        };
        let breaks = || self.held(index).filter(|held| held.kind == HeldKind::Breaks);
        deletion.or_else(breaks)
    }

    /// Gives what is remembered of the deletion of a message at which a session broke, whatever name it had then.
    pub fn undeleted(&self, index: usize) -> Option<&'a Held> {
        let (uid, ordinal) = match self.sorted.verdicts[index] {
            Verdict::Known(entry) => {
                let (uid, ordinal, _) = self.memory.entries.get(entry);
                (UniqueId::new(uid), ordinal)
            }
            _ => self.name_of(index),
        };
        let held = self.memory.held(uid.as_bytes(), ordinal, self.listing.get(index).octets);
        held.filter(|held| held.kind == HeldKind::Undeletable)
    }

    /// Gives a deletion back, unless a session broke at it: then it comes last, or not now.
    pub(super) fn unless_it_breaks(&mut self, entry: usize, proof: Recorded) -> Option<Recorded> {
        if self.was_tried(entry) {
            return None;
        }
        let Some(held) = undeletable(self.memory, entry) else { return Some(proof) };
        if self.is_put_off(held) {
            return None;
        }
        let Some(late) = &mut self.late else { return Some(proof) };
        late.push((held.tried_at, proof));
        None
    }

    /// Takes the deletions at which a session broke before, with when they were tried; from now on they go their way at
    /// once.
    pub fn take_late(&mut self) -> Vec<(Timestamp, Recorded)> {
        self.late.take().unwrap_or_default()
    }
}

/// Gives what is remembered of the deletion of a record at which two sessions broke.
fn undeletable(memory: &Memory, entry: usize) -> Option<&Held> {
    let (uid, ordinal, _) = memory.entries.get(entry);
    let held = memory.held(uid, ordinal, 0)?;
    (held.kind == HeldKind::Undeletable && held.standing == Standing::Held).then_some(held)
}
