//! What a session knows of the messages that are listed and recorded, and what it learns of them.

use std::collections::{HashMap, HashSet};

use crate::config::account::Keep;
use crate::message::file::{digest_of_content, digest_of_name};
use crate::message::{Content, FileDigest, FileId, Fingerprint, Identity, Listing, UniqueId};
use crate::state::{
    Change, Closing, Delivery, Detail, Entry, Held, HeldKind, Kind, Memory, Recorded, RecordedFile, Seen,
    Standing, Store, Timestamp, Unclaimed, prove,
};
use crate::text::hex;

use super::plan::{self, Due, Plan, Policy};
use super::trouble::{Aborted, During};
use super::waits::is_due;
use super::which::{self, Answers, Evidence, Group, Nameless, Sorted, Turn, Uidl, Verdict};

/// How many files in a row, of those that version 0.1.0 gave one name and counted, may be gone.
const GAP: u32 = 4;

/// A listing beside what is recorded of its maildrop.
pub struct Book<'a> {
    /// What the server lists; messages go by the names that they have in the state.
    pub listing: Listing,
    /// What is recorded.
    pub memory: &'a Memory,
    /// What may be done.
    pub policy: Policy,
    /// What the server answered to TOP.
    pub answers: Answers,
    /// What the messages are.
    pub sorted: Sorted,
    around: Circumstances,
    maildrop: &'a str,
    details: HashMap<usize, Detail>,
    /// Records of which something was learned, with the name and octets that they have now.
    changes: HashMap<usize, Change>,
    /// What RETR has settled, by index in the listing.
    settled: HashMap<usize, Option<usize>>,
    /// Messages that came whole.
    whole: HashSet<usize>,
    /// Under which names messages were recorded in this session, by index.
    recorded: HashMap<usize, (UniqueId, u32)>,
    /// Names that were given in this session, and to which messages.
    names: HashSet<(UniqueId, u32)>,
    named: HashSet<usize>,
    /// The names that records have after the session, where they have others than before.
    renamed: HashMap<usize, (UniqueId, u32)>,
    /// Where messages stand in their groups, by index.
    places: HashMap<usize, u32>,
    /// Records that are not listed, by what they are known by.
    by_content: HashMap<Content, Vec<usize>>,
    by_identity: HashMap<Identity, Vec<usize>>,
    by_header: HashMap<[u8; 32], Vec<usize>>,
    unclaimed: HashMap<FileDigest, Vec<FileId>>,
    /// Deletions at which a session broke before, with when they were tried; `None` once those have their turn.
    late: Option<Vec<(Timestamp, Recorded<usize>)>>,
    /// Records of messages that turned out to be others.
    superseded: Vec<usize>,
    /// Files that were found to belong to no record, for the state.
    pub found: Vec<Unclaimed>,
}

/// What is known of server and poll when a listing comes.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// Whether the server has UIDL.
    pub uidl: Uidl,
    /// Whether it announces TOP.
    pub top: Top,
    /// What becomes of messages that nothing tells apart.
    pub nameless: Nameless,
    /// Which session of the poll this is.
    pub turn: Turn,
}

/// Whether a server announces TOP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    /// In what it answers to CAPA.
    Announced,
    /// It does not, or has no CAPA.
    Unannounced,
}

/// How much of a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// As much as may be all.
    Whole,
    /// So little that it is not believed to be all.
    Short,
}

/// What a message that came whole is.
#[derive(Debug)]
pub enum Came {
    /// A recorded one; the proof allows its deletion, if it is due.
    Known(Option<Recorded<usize>>),
    /// None that is recorded.
    New {
        /// What is to be recorded.
        delivery: Box<Delivery>,
        /// A file that may be it already.
        unclaimed: Option<FileId>,
        /// Who has it from an earlier session.
        recipients: Vec<String>,
    },
}

impl<'a> Book<'a> {
    /// Begins with a listing.
    pub fn new(
        listing: Listing,
        memory: &'a Memory,
        policy: Policy,
        maildrop: &'a str,
        around: Circumstances,
    ) -> Self {
        Self {
            listing,
            memory,
            policy,
            answers: Answers::default(),
            sorted: Sorted::default(),
            around,
            maildrop,
            details: HashMap::new(),
            changes: HashMap::new(),
            settled: HashMap::new(),
            whole: HashSet::new(),
            recorded: HashMap::new(),
            names: HashSet::new(),
            named: HashSet::new(),
            renamed: HashMap::new(),
            places: HashMap::new(),
            by_content: HashMap::new(),
            by_identity: HashMap::new(),
            by_header: HashMap::new(),
            unclaimed: HashMap::new(),
            late: Some(Vec::new()),
            superseded: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Sorts the listing by what is known so far, and loads what is needed for that.
    pub async fn sort(&mut self, store: &Store) -> Result<(), Aborted> {
        loop {
            let policy = self.policy;
            let sorted = which::sort(&Evidence {
                listing: &self.listing,
                entries: &self.memory.entries,
                held: &self.memory.held,
                details: &self.details,
                answers: &self.answers,
                naming: &self.memory.naming,
                uidl: self.around.uidl,
                nameless: self.around.nameless,
                turn: self.around.turn,
                settled: &self.settled,
                rests: &|entry, detail| policy.rests(&self.entry(entry), detail) || self.rests(entry),
            });
            if sorted.wants.is_empty() {
                self.sorted = sorted;
                break;
            }
            self.load(store, sorted.wants).await?;
        }
        // What may be due is known by more than its name.
        let due = self.known().filter(|(_, entry)| self.policy.may_be_due(&self.entry(*entry)));
        let due = due.map(|(_, entry)| entry).collect();
        self.load(store, due).await?;
        self.place();
        self.name();
        Ok(())
    }

    /// Plans what is to be done with the messages.
    pub fn plan(&self) -> Plan {
        let nameless = match self.answers.are_none() {
            true => self.around.nameless,
            false => Nameless::Come,
        };
        let Self { listing, sorted, memory, details, policy, answers, .. } = self;
        plan::plan(listing, sorted, memory, details, policy, answers, nameless)
    }

    async fn load(&mut self, store: &Store, mut entries: Vec<usize>) -> Result<(), Aborted> {
        entries.retain(|entry| !self.details.contains_key(entry));
        let details = store.details(&self.memory.key, &self.memory.entries, entries.clone()).await;
        self.details.extend(entries.into_iter().zip(details.during("read the state")?));
        Ok(())
    }

    fn entry(&self, entry: usize) -> Entry {
        self.memory.entries.get(entry).2
    }

    /// Gives the listed messages that are recorded ones, with their entries.
    fn known(&self) -> impl Iterator<Item = (usize, usize)> {
        self.sorted.verdicts.iter().enumerate().filter_map(|(index, verdict)| match verdict {
            Verdict::Known(entry) => Some((index, *entry)),
            _ => None,
        })
    }

    /// Gives the record of a listed message: the one that it is, or that from when it was first seen.
    fn record_of(&self, index: usize) -> Option<usize> {
        match self.sorted.verdicts[index] {
            Verdict::Known(entry) => Some(entry),
            Verdict::New { pending } => pending,
            Verdict::Done | Verdict::Open | Verdict::Unasked | Verdict::Hole => None,
        }
    }

    /// Says where the messages that go by their place stand, as far as all before them are known. Those that stand in
    /// the order in which they stood keep their places.
    fn place(&mut self) {
        for (_, members) in &self.sorted.groups {
            let mut next = 0;
            for index in members {
                if matches!(self.sorted.verdicts[*index], Verdict::Open | Verdict::Unasked) {
                    break;
                }
                let known = self.record_of(*index).and_then(|entry| self.details.get(&entry)?.place);
                let place = known.filter(|place| *place >= next).unwrap_or(next);
                self.places.insert(*index, place);
                next = place + 1;
            }
        }
    }

    /// Gives messages the names that they have, or will have, in the state.
    fn name(&mut self) {
        for index in 0..self.listing.len() {
            match (self.sorted.verdicts[index], self.record_of(index)) {
                (_, Some(entry)) => {
                    let (uid, ordinal, _) = self.memory.entries.get(entry);
                    let message = self.listing.get(index);
                    if (message.uid, message.ordinal) != (uid, ordinal) {
                        self.listing.name(index, uid, ordinal);
                    }
                }
                (Verdict::New { .. }, None) => self.name_one(index),
                (Verdict::Done | Verdict::Open | Verdict::Unasked | Verdict::Hole | Verdict::Known(_), _) => {
                }
            }
        }
    }

    /// Gives names to messages that are to be marked, and to which the server gives none.
    pub fn name_marked(&mut self, indices: &[usize]) {
        for index in indices {
            if self.listing.shown(*index).uid.is_empty() && self.record_of(*index).is_none() {
                self.name_one(*index);
            }
        }
    }

    /// Gives a message that has no record the name that it will have.
    fn name_one(&mut self, index: usize) {
        if !self.named.insert(index) {
            return;
        }
        let uid = match self.sorted.group_of(index) {
            Some(Group::Shared(_)) | None if !self.listing.shown(index).uid.is_empty() => {
                UniqueId::new(self.listing.shown(index).uid)
            }
            _ => match self.answers.header(index) {
                Some(header) => header_name(header),
                None => made_name(self.policy.now, index),
            },
        };
        self.rename(index, uid);
    }

    /// Gives a message a name that nothing else has.
    fn rename(&mut self, index: usize, uid: UniqueId) {
        let (uid, ordinal) = self.free(uid);
        let message = self.listing.get(index);
        if (message.uid, message.ordinal) != (uid.as_bytes(), ordinal) {
            self.listing.name(index, uid.as_bytes(), ordinal);
        }
    }

    /// Makes a name that nothing else has.
    fn free(&mut self, uid: UniqueId) -> (UniqueId, u32) {
        let entries = &self.memory.entries;
        let used: HashSet<u32> = entries.of(uid.as_bytes()).map(|entry| entries.get(entry).1).collect();
        let is_free =
            |ordinal: &u32| !used.contains(ordinal) && !self.names.contains(&(uid.clone(), *ordinal));
        let ordinal = (0..).find(is_free).unwrap_or(u32::MAX);
        self.names.insert((uid.clone(), ordinal));
        (uid, ordinal)
    }

    /// Gets ready for messages that come whole: any of them may be one that is recorded and not listed.
    pub async fn expect(&mut self, store: &Store) -> Result<(), Aborted> {
        let missing: Vec<usize> =
            (0..self.memory.entries.len()).filter(|entry| !self.sorted.taken[*entry]).collect();
        self.load(store, missing.clone()).await?;
        (self.by_content, self.by_identity, self.by_header) = Default::default();
        for entry in missing {
            let detail = &self.details[&entry];
            if let Some(content) = detail.content {
                self.by_content.entry(content).or_default().push(entry);
            }
            if let Some(header) = detail.header {
                self.by_header.entry(header).or_default().push(entry);
            }
            if matches!(self.entry(entry).kind, Kind::Marked | Kind::Imported) {
                for identity in detail.identities.iter().flatten() {
                    self.by_identity.entry(*identity).or_default().push(entry);
                }
            }
        }
        Ok(())
    }

    /// Says what a message is that came whole.
    pub fn came(&mut self, index: usize, whole: &Fingerprint, extent: Extent) -> Came {
        self.whole.insert(index);
        match self.recorded_as(index, whole).filter(|entry| self.may_be(*entry, whole, extent)) {
            Some(entry) => {
                self.supersede(index, entry);
                self.sorted.taken[entry] = true;
                self.settled.insert(index, Some(entry));
                self.sorted.verdicts[index] = Verdict::Known(entry);
                self.learn(index, entry, whole);
                let proof = self.prove_whole(index, entry, whole);
                Came::Known(proof.and_then(|proof| self.unless_it_breaks(entry, proof)))
            }
            None => {
                self.settled.insert(index, None);
                self.is_other(index);
                if self.is_by_place(index) && self.record_of(index).is_none() {
                    self.rename(index, header_name(whole));
                }
                let unclaimed = self.claim(index, whole);
                let message = self.listing.get(index);
                let uid = UniqueId::new(message.uid);
                let reached = self.memory.reached(message.uid, message.octets, &whole.content);
                let header = self.answers.header(index).map(|header| header.identity);
                let delivery = Delivery {
                    delivered_at: Some(self.policy.now),
                    fingerprint: Some(*whole),
                    second: header.filter(|identity| *identity != whole.identity),
                    place: self.places.get(&index).copied(),
                    deleting: self.policy.deletes_at_once(),
                    ..Delivery::new(uid, message.ordinal, message.octets, Kind::Delivered)
                };
                let recipients = reached.map(|reached| reached.recipients.clone()).unwrap_or_default();
                Came::New { delivery: Box::new(delivery), unclaimed, recipients }
            }
        }
    }

    /// Drops the record from when a message was first seen, which is not the one that it turned out to be.
    fn supersede(&mut self, index: usize, entry: usize) {
        if let Verdict::New { pending: Some(seen) } = self.sorted.verdicts[index]
            && seen != entry
        {
            self.sorted.taken[seen] = false;
            self.changes.remove(&seen);
            self.superseded.push(seen);
        }
    }

    /// Says whether a message like one that is surely deleted, which no listing has been without, is another one: where it
    /// has a unique-id of its own, and where nothing but its content tells it from others. In the same poll it is not.
    fn may_be_another(&self, index: usize) -> bool {
        let is_told = self.around.top == Top::Announced || self.answers.work();
        let is_nameless = !is_told && self.listing.shown(index).uid.is_empty();
        self.around.turn == Turn::First && (is_nameless || self.sorted.group_of(index).is_none())
    }

    /// Says whether a message goes by its place because it has no unique-id that lasts.
    fn is_by_place(&self, index: usize) -> bool {
        matches!(self.sorted.group_of(index), Some(Group::All | Group::Unnamed))
    }

    /// Gives a message that is not the recorded one that it was taken for a record and a name of its own.
    fn is_other(&mut self, index: usize) {
        if let Verdict::Known(entry) = self.sorted.verdicts[index] {
            self.sorted.taken[entry] = false;
            self.sorted.verdicts[index] = Verdict::New { pending: None };
            self.name_one(index);
        }
    }

    /// Notes that a message was fetched, or could not be, so that it is not fetched again in this session.
    pub fn tried(&mut self, index: usize) {
        self.settled.entry(index).or_insert(None);
    }

    /// Notes that a message is recorded.
    pub fn recorded(&mut self, index: usize) {
        let message = self.listing.get(index);
        self.recorded.insert(index, (UniqueId::new(message.uid), message.ordinal));
    }

    /// Finds the record of a message that came whole.
    fn recorded_as(&self, index: usize, whole: &Fingerprint) -> Option<usize> {
        let found = [
            self.by_content.get(&whole.content),
            self.by_identity.get(&whole.identity),
            self.by_header.get(&whole.header[0]),
            self.by_header.get(&whole.header[1]),
        ];
        let mut found: Vec<usize> = found.into_iter().flatten().flatten().copied().collect();
        if let Verdict::Known(entry) = self.sorted.verdicts[index] {
            found.push(entry);
        }
        // The one that it was taken for, then its own.
        found.sort_by_key(|entry| {
            let is_listed = self.sorted.verdicts[index] == Verdict::Known(*entry);
            (!is_listed, self.owner(*entry) != Some(index), self.entry(*entry).was_deleted())
        });
        found.into_iter().find(|entry| self.is_recorded(index, *entry, whole))
    }

    /// Says whether so much of a message proves that it is a recorded one. Nothing at all is what any message may come
    /// to: only one that was delivered like this, and is never deleted, is known by it.
    fn may_be(&self, entry: usize, whole: &Fingerprint, extent: Extent) -> bool {
        let is_kept =
            || self.entry(entry).kind == Kind::Marked && self.details[&entry].content == Some(whole.content);
        extent == Extent::Whole || is_kept()
    }

    fn owner(&self, entry: usize) -> Option<usize> {
        self.sorted.owners.get(&entry).copied()
    }

    fn is_recorded(&self, index: usize, entry: usize, whole: &Fingerprint) -> bool {
        let is_listed = self.sorted.verdicts[index] == Verdict::Known(entry);
        let owner = self.owner(entry);
        // Whatever its name promises to another message.
        if self.sorted.taken[entry] && !is_listed {
            return false;
        }
        let (known, detail) = (self.entry(entry), &self.details[&entry]);
        let octets = self.listing.get(index).octets;
        let by_name = owner == Some(index) || is_listed;
        match known.kind {
            Kind::Pending | Kind::Discarded => false,
            Kind::Marked | Kind::Imported => {
                // A weak identity says that it is another message, never that it is the same.
                let fits = [0, octets, whole.octets].contains(&known.octets) || detail.has_size(octets);
                let is_believed = whole.identity.is_certain() || by_name && fits && !known.is_missed();
                detail.has_header_of(whole) && is_believed
            }
            Kind::Delivered => {
                detail.is_whole(octets, whole)
                    && is_named_so(self.memory.entries.get(entry).0, detail, whole)
                    && (whole.identity.is_certain()
                        || may_be_weak(&known, by_name)
                            && !(known.deleted && !by_name && self.may_be_another(index)))
            }
        }
    }

    /// Notes what a message that came whole says of its record.
    fn learn(&mut self, index: usize, entry: usize, whole: &Fingerprint) {
        let header = self.answers.header(index).map(|header| header.identity);
        let listed = self.listing.shown(index).octets;
        let detail = self.details.entry(entry).or_default();
        let second = header.filter(|identity| *identity != whole.identity).or_else(|| {
            detail.identities.iter().flatten().copied().find(|identity| *identity != whole.identity)
        });
        detail.identities = [Some(whole.identity), second];
        if self.memory.entries.get(entry).2.kind == Kind::Delivered {
            (detail.content, detail.header) = (Some(whole.content), None);
            (detail.sent, detail.listed, detail.fields) = (whole.octets, listed, whole.fields);
        }
        self.change(index, entry);
    }

    /// Keeps in mind that a record is to be written.
    fn change(&mut self, index: usize, entry: usize) {
        let (uid, ordinal, known) = self.memory.entries.get(entry);
        let group = self.sorted.group_of(index);
        let shown = self.listing.shown(index);
        let (uid, ordinal) = match group {
            Some(Group::All | Group::Unnamed) if self.memory.entries.is_made(entry) => {
                (UniqueId::new(uid), ordinal)
            }
            Some(Group::All | Group::Unnamed) => match self.changes.get(&entry) {
                Some(change) => (change.uid.clone(), change.ordinal),
                None => self.free(made_name(self.policy.now, index)),
            },
            Some(Group::Shared(_)) | None if uid == shown.uid => (UniqueId::new(uid), ordinal),
            Some(Group::Shared(_)) | None => match self.changes.get(&entry) {
                Some(change) => (change.uid.clone(), change.ordinal),
                None => self.free(UniqueId::new(shown.uid)),
            },
        };
        let octets = self.listing.shown(index).octets;
        let octets = if octets == 0 { known.octets } else { octets };
        let mut detail = self.details.get(&entry).cloned().unwrap_or_default();
        detail.place = self.places.get(&index).copied();
        let delivered_at = match self.policy.due(&known, &detail) {
            Due::Reset => Some(self.policy.now),
            Due::No | Due::Noted | Due::Now | Due::GivenUp => known.delivered_at,
        };
        if self.policy.due(&known, &detail) == Due::Noted {
            detail.due_since = Some(self.policy.now);
        }
        let stays = known.was_deleted() && self.policy.keep == Keep::Forever;
        self.changes
            .insert(entry, Change { index: entry, uid, ordinal, octets, delivered_at, detail, stays });
    }

    /// Says whether what is held is not tried now: its wait is not over, or it had its turn in this poll.
    fn is_put_off(&self, held: &Held) -> bool {
        let had_its_turn = self.around.turn == Turn::Further && held.tried_at == self.policy.now;
        had_its_turn || !is_due(held, self.policy.now)
    }

    /// Says whether the deletion of a record broke sessions, and is not tried now.
    pub fn rests(&self, entry: usize) -> bool {
        undeletable(self.memory, entry).is_some_and(|held| self.is_put_off(held))
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
        let message = self.listing.get(index);
        let breaks = || {
            let held = self.memory.held(message.uid, message.ordinal, message.octets);
            held.filter(|held| held.kind == HeldKind::Breaks)
        };
        deletion.or_else(breaks)
    }

    /// Gives a deletion back, unless a session broke at it: then it comes last, or not now.
    fn unless_it_breaks(&mut self, entry: usize, proof: Recorded<usize>) -> Option<Recorded<usize>> {
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
    pub fn take_late(&mut self) -> Vec<(Timestamp, Recorded<usize>)> {
        self.late.take().unwrap_or_default()
    }

    fn prove_whole(&self, index: usize, entry: usize, whole: &Fingerprint) -> Option<Recorded<usize>> {
        let (known, detail) = (self.entry(entry), &self.details[&entry]);
        if self.policy.due(&known, detail) != Due::Now {
            return None;
        }
        let message = self.listing.get(index);
        prove(&known, detail, &Seen::Whole { listed: message.octets, whole: *whole }, index)
    }

    /// Proves by what was seen so far that a listed message is a recorded one.
    pub fn prove(&self, index: usize, entry: usize) -> Option<Recorded<usize>> {
        let message = self.listing.get(index);
        let seen = match self.answers.header(index) {
            Some(header) => Seen::Header { listed: message.octets, header: *header },
            None => Seen::Listed(message.octets),
        };
        prove(&self.entry(entry), &self.details[&entry], &seen, index)
    }

    /// Says whether a header may prove that a message is a recorded one, and is not known yet.
    pub fn asks_to_prove(&self, index: usize, entry: usize) -> bool {
        let may = self.details[&entry].may_be_certain() && !self.answers.are_none();
        may && self.answers.header(index).is_none()
    }

    /// Gives those that were only marked, and of which nothing is known but the name.
    pub fn blank(&self) -> Vec<(usize, usize)> {
        let is_blank = |(index, entry): &(usize, usize)| {
            let known = self.entry(*entry);
            known.blank
                && matches!(known.kind, Kind::Marked | Kind::Imported)
                && self.answers.header(*index).is_none()
        };
        self.known().filter(is_blank).collect()
    }

    /// Notes the header of one that was only marked; one that cannot be had is not asked for again.
    pub async fn know(
        &mut self,
        store: &Store,
        blank: &[(usize, usize)],
        answers: Vec<(usize, Option<Fingerprint>)>,
    ) -> Result<(), Aborted> {
        let entries: HashMap<usize, usize> = blank.iter().copied().collect();
        self.load(store, answers.iter().filter_map(|(index, _)| entries.get(index).copied()).collect())
            .await?;
        for (index, header) in answers {
            let Some(entry) = entries.get(&index) else { continue };
            let detail = self.details.entry(*entry).or_default();
            detail.identities[1] = Some(header.map_or(Identity::NONE, |header| header.identity));
            self.change(index, *entry);
        }
        Ok(())
    }

    /// Gives the record under which a message is deleted.
    pub fn name_of(&self, index: usize) -> (UniqueId, u32) {
        if let Some(recorded) = self.recorded.get(&index) {
            return recorded.clone();
        }
        match self.sorted.verdicts[index] {
            Verdict::Known(entry) => self.renamed.get(&entry).cloned().unwrap_or_else(|| {
                let (uid, ordinal, _) = self.memory.entries.get(entry);
                (UniqueId::new(uid), ordinal)
            }),
            _ => {
                let message = self.listing.get(index);
                (UniqueId::new(message.uid), message.ordinal)
            }
        }
    }

    /// Makes the records of messages that are taken as seen.
    pub fn marked(&self, indices: &[usize]) -> Vec<(Delivery, ())> {
        let of = |index: &usize| {
            let message = self.listing.get(*index);
            let new =
                Delivery::new(UniqueId::new(message.uid), message.ordinal, message.octets, Kind::Marked);
            let second = self.answers.header(*index).map(|header| header.identity);
            (Delivery { second, place: self.places.get(index).copied(), ..new }, ())
        };
        indices.iter().map(of).collect()
    }

    /// Takes stock of the files in the target: which of them no record claims.
    pub async fn take_stock(&mut self, store: &Store, files: Vec<FileId>) -> Result<(), Aborted> {
        let entries = &self.memory.entries;
        let unclosed = self.memory.unclosed;
        let may_claim: Vec<usize> = if unclosed { (0..entries.len()).collect() } else { Vec::new() };
        self.load(store, may_claim.clone()).await?;
        let (mut claimed, mut digests) = (HashSet::new(), HashSet::new());
        for entry in may_claim {
            match self.details[&entry].file {
                RecordedFile::File(file) => drop(claimed.insert(file)),
                RecordedFile::ByName => {
                    let (uid, ordinal, _) = entries.get(entry);
                    digests.insert(digest_of_name(self.maildrop, uid, ordinal));
                }
                RecordedFile::Elsewhere => {}
            }
        }
        let known: HashSet<Unclaimed> =
            store.unclaimed(&self.memory.key).await.during("read the state")?.into_iter().collect();
        for file in files {
            let is_found = (unclosed || file.time > self.memory.newest_file)
                && !claimed.contains(&file)
                && !digests.contains(&file.digest);
            if is_found && !known.contains(&Unclaimed::File(file)) {
                self.found.push(Unclaimed::File(file));
            }
            let is_known =
                known.contains(&Unclaimed::File(file)) || known.contains(&Unclaimed::Digest(file.digest));
            if is_found || is_known {
                self.unclaimed.entry(file.digest).or_default().push(file);
            }
        }
        Ok(())
    }

    /// Takes a file that may be this message.
    fn claim(&mut self, index: usize, whole: &Fingerprint) -> Option<FileId> {
        if self.unclaimed.is_empty() {
            return None;
        }
        let shown = self.listing.shown(index);
        let mut digests = vec![
            digest_of_content(self.maildrop, &whole.content),
            digest_of_name(self.maildrop, shown.uid, shown.ordinal),
        ];
        // As version 0.1.0 named those without a unique-id: by header, or by content without TOP, and those of one name
        // were counted. Some of them may be gone.
        for name in [old_name("header:", &whole.header[0]), old_name("content:", &whole.content.0)] {
            let of_name = |ordinal| digest_of_name(self.maildrop, name.as_bytes(), ordinal);
            let is_there = |digest: &FileDigest| self.unclaimed.contains_key(digest);
            digests.extend((0..GAP).map(of_name));
            digests.extend((GAP..u32::MAX).map(of_name).take_while(is_there));
        }
        digests.iter().find_map(|digest| {
            let files = self.unclaimed.get_mut(digest)?;
            (!files.is_empty()).then(|| files.remove(0))
        })
    }

    /// Writes down what was learned. `complete`: nothing that was begun was broken off.
    pub fn close(&mut self, complete: bool, closing: &mut Closing) {
        for (index, entry) in self.known().collect::<Vec<_>>() {
            self.note(index, entry);
        }
        let pending: Vec<usize> = (0..self.listing.len()).filter(|index| self.is_pending(*index)).collect();
        for index in pending {
            match self.record_of(index) {
                Some(entry) => self.note(index, entry),
                None => {
                    let message = self.listing.get(index);
                    let new = Delivery::new(
                        UniqueId::new(message.uid),
                        message.ordinal,
                        message.octets,
                        Kind::Pending,
                    );
                    let second = self.answers.header(index).map(|header| header.identity);
                    let place = self.places.get(&index).copied();
                    closing.pending.push(Delivery { second, place, ..new });
                }
            }
        }
        self.unplace();
        closing.superseded = std::mem::take(&mut self.superseded);
        closing.superseded.iter().for_each(|entry| drop(self.changes.remove(entry)));
        if complete {
            closing.vanished = self.sorted.vanished(&self.memory.entries);
            let unseen = || (0..self.listing.len()).filter(|index| self.is_unseen(*index));
            let sizes = unseen().map(|index| self.listing.shown(index).octets).collect();
            let placed: Vec<usize> =
                unseen().filter(|index| self.sorted.group_of(*index).is_some()).collect();
            let superseded = &closing.superseded;
            let is_gone =
                |entry: &usize| !self.may_be_listed(*entry, &placed, &sizes) && !superseded.contains(entry);
            closing.vanished.retain(is_gone);
        }
        closing.returned = self.sorted.returned(&self.memory.entries);
        closing.open = !complete || !self.sorted.is_complete();
        closing.naming = Some(self.sorted.naming.clone());
        closing.changes = std::mem::take(&mut self.changes).into_values().collect();
        self.renamed = closing
            .changes
            .iter()
            .map(|change| (change.index, (change.uid.clone(), change.ordinal)))
            .collect();
    }

    /// Says whether a message that may be any was not looked at.
    fn is_unseen(&self, index: usize) -> bool {
        matches!(self.sorted.verdicts[index], Verdict::New { .. } | Verdict::Done)
            && !self.whole.contains(&index)
    }

    /// Says whether all that is known of the header of a message may be that of a recorded one.
    fn may_have_header_of(&self, index: usize, entry: usize) -> bool {
        let seen = self.record_of(index).and_then(|seen| self.details.get(&seen));
        let seen = seen.into_iter().flat_map(|seen| seen.identities).flatten();
        let shown = self.answers.header(index).map(|header| header.identity);
        let mut identities = seen.chain(shown).peekable();
        match self.details.get(&entry) {
            Some(known) if !known.is_weak() && identities.peek().is_some() => {
                known.header.is_some()
                    || identities.any(|identity| known.identities.contains(&Some(identity)))
            }
            Some(_) | None => true,
        }
    }

    /// Says whether a record may be of a message that is listed and that nobody has looked at: one of its name, one of
    /// those that go by their place, or one of these sizes.
    fn may_be_listed(&self, entry: usize, placed: &[usize], sizes: &HashSet<u64>) -> bool {
        let by_place = || placed.iter().any(|index| self.may_have_header_of(*index, entry));
        let octets = self.entry(entry).octets;
        let by_size = || sizes.contains(&0) || sizes.contains(&octets) || octets == 0 && !sizes.is_empty();
        self.owner(entry).is_some_and(|owner| self.is_unseen(owner)) || by_place() || by_size()
    }

    /// Takes those out of the order of their groups that are not where they were.
    fn unplace(&mut self) {
        let entries = &self.memory.entries;
        let mut gone: Vec<usize> = Vec::new();
        for (group, _) in &self.sorted.groups {
            let pool = match group {
                Group::Shared(uid) => entries.of(uid),
                Group::All | Group::Unnamed => 0..entries.len(),
            };
            gone.extend(pool.filter(|entry| entries.get(*entry).2.placed && !self.sorted.taken[*entry]));
        }
        for entry in gone {
            let (uid, ordinal, known) = entries.get(entry);
            let Some(detail) = self.details.get(&entry) else { continue };
            self.changes.entry(entry).or_insert_with(|| Change {
                index: entry,
                uid: UniqueId::new(uid),
                ordinal,
                octets: known.octets,
                delivered_at: known.delivered_at,
                detail: Detail { place: None, ..detail.clone() },
                stays: false,
            });
        }
    }

    /// Says whether a message that goes by its place was seen, and not delivered.
    fn is_pending(&self, index: usize) -> bool {
        let is_new = match self.sorted.verdicts[index] {
            Verdict::New { .. } => true,
            Verdict::Done => true,
            Verdict::Known(_) | Verdict::Open | Verdict::Unasked | Verdict::Hole => false,
        };
        let is_nameless = self.answers.are_none() && self.listing.shown(index).uid.is_empty();
        let stays = self.around.nameless == Nameless::Stay && is_nameless;
        is_new && !stays && self.places.contains_key(&index) && !self.recorded.contains_key(&index)
    }

    /// Notes what has changed of a record, if anything has.
    fn note(&mut self, index: usize, entry: usize) {
        // Where it is not loaded, nothing contradicted it.
        let Some(detail) = self.details.get_mut(&entry) else { return };
        let known = self.memory.entries.get(entry).2;
        let shown = self.listing.shown(index).octets;
        let header = self.answers.header(index).map(|header| header.identity);
        let mut changed = self.changes.contains_key(&entry);
        if let (Some(identity), [None, None]) = (header, detail.identities) {
            detail.identities[1] = Some(identity);
            changed = true;
        }
        changed |= shown != 0 && shown != known.octets;
        changed |= detail.place != self.places.get(&index).copied();
        changed |= matches!(self.policy.due(&known, detail), Due::Noted | Due::Reset);
        let (uid, ..) = self.memory.entries.get(entry);
        changed |= match self.sorted.group_of(index) {
            Some(Group::All | Group::Unnamed) => !self.memory.entries.is_made(entry),
            Some(Group::Shared(_)) | None => uid != self.listing.shown(index).uid,
        };
        if changed {
            self.change(index, entry);
        }
    }
}

/// Gives what is remembered of the deletion of a record at which two sessions broke.
fn undeletable(memory: &Memory, entry: usize) -> Option<&Held> {
    let (uid, ordinal, _) = memory.entries.get(entry);
    let held = memory.held(uid, ordinal, 0)?;
    (held.kind == HeldKind::Undeletable && held.standing == Standing::Held).then_some(held)
}

/// Says whether a weak message may be a recorded one of equal content. One that was deleted, or has this name, and was
/// gone by a complete listing, is not: a second mail of the same words is another one.
fn may_be_weak(known: &Entry, by_name: bool) -> bool {
    !known.is_missed() || !by_name && !known.was_deleted()
}

/// Says whether a message may have the name of a record. Version 0.1.0 recorded no content, but without unique-id and TOP
/// it made a name of it, the servers' fields included.
fn is_named_so(uid: &[u8], detail: &Detail, whole: &Fingerprint) -> bool {
    let is_compared = detail.content.is_some() || whole.fields > 0 || !uid.starts_with(b"content:");
    is_compared || uid == old_name("content:", &whole.content.0).as_bytes()
}

/// Makes a name as version 0.1.0 did.
fn old_name(of: &str, digest: &[u8; 32]) -> String {
    format!("{of}{}", hex(digest))
}

/// Makes a name of a header for a message to which its server gives none that lasts.
fn header_name(header: &Fingerprint) -> UniqueId {
    UniqueId::new(old_name("header:", &header.header[0]).into_bytes())
}

/// Makes a name for a message to which its server gives none that lasts: of the time and its place in the listing.
fn made_name(now: Timestamp, index: usize) -> UniqueId {
    UniqueId::new(format!("place:{now:x}-{index}").into_bytes())
}
