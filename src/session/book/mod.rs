//! What a session knows of the messages that are listed and recorded, and what it learns of them.
//!
//! | file | what it is |
//! |---|---|
//! | `names` | the names that messages have, or will have, in the state |
//! | `came` | which message it is that came whole |
//! | `late` | what broke sessions before, and when it has its turn |
//! | `stock` | what lies in a target, and that no record claims |
//! | `close` | what is written down at the end |

mod came;
mod close;
mod late;
mod names;
mod stock;

use std::collections::{HashMap, HashSet};

use crate::config::account::Keep;
use crate::message::{Content, Fingerprint, Identity, Listing, UniqueId};
use crate::state::{
    Change, Confirmed, Delivery, Detail, Entry, Held, HeldKind, Holder, Kind, Memory, Reached, Recorded,
    Seen, Store, Timestamp,
};

use super::plan::{self, Grounds, Plan};
use super::policy::Policy;
use super::sort::sort;
use super::trouble::{During, Failed};
use super::which::{Answer, Answers, Evidence, Group, Nameless, Showing, Sorted, UniqueIds, Verdict};

/// A listing beside what is recorded of its maildrop.
pub struct Book<'a> {
    /// What the server lists; messages go by the names that they have in the state.
    pub listing: Listing,
    pub memory: &'a Memory,
    pub policy: Policy,
    /// What the server answered to TOP.
    pub answers: Answers,
    pub sorted: Sorted,
    around: Circumstances,
    details: HashMap<usize, Detail>,
    /// Records of which something was learned, with the name and octets that they have now.
    changes: HashMap<usize, Change>,
    /// What RETR has settled, by index in the listing.
    settled: HashMap<usize, Option<usize>>,
    /// Messages that came whole.
    whole: HashSet<usize>,
    /// What is added to records of this session at its end, by index.
    doubted: HashMap<usize, Confirmed>,
    /// Messages that were recorded in this session, under the names by which they are listed.
    recorded: HashSet<usize>,
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
    /// What lies in the target.
    pub stock: Stock,
    /// Messages that were found in a mailbox are kept for those that are to come.
    keeps_found: bool,
    /// Deletions at which a session broke before, with when they were tried; `None` once those have their turn.
    late: Option<Vec<(Timestamp, Recorded)>>,
    /// Records of messages that turned out to be others.
    superseded: Vec<usize>,
}

/// What is known of server and poll when a listing comes.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// Whether the server has UIDL.
    pub unique_ids: UniqueIds,
    pub top: Top,
    /// What becomes of messages that nothing tells apart.
    pub nameless: Nameless,
    /// Which session of the poll this is.
    pub showing: Showing,
    /// When the poll began, or a second before.
    pub since: Timestamp,
}

/// Whether a server announces TOP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    /// In what it answers to CAPA.
    Announced,
    /// It does not, or has no CAPA.
    Unannounced,
}

pub use came::{Extent, Identified};
pub use stock::{Inventory, Stock, ToCome};

impl<'a> Book<'a> {
    pub fn new(listing: Listing, memory: &'a Memory, policy: Policy, around: Circumstances) -> Self {
        Self {
            listing,
            memory,
            policy,
            answers: Answers::default(),
            sorted: Sorted::default(),
            around,
            details: HashMap::new(),
            changes: HashMap::new(),
            settled: HashMap::new(),
            whole: HashSet::new(),
            doubted: HashMap::new(),
            recorded: HashSet::new(),
            names: HashSet::new(),
            named: HashSet::new(),
            renamed: HashMap::new(),
            places: HashMap::new(),
            by_content: HashMap::new(),
            by_identity: HashMap::new(),
            by_header: HashMap::new(),
            stock: Stock::default(),
            keeps_found: false,
            late: Some(Vec::new()),
            superseded: Vec::new(),
        }
    }

    /// Sorts the listing by what is known so far, and loads what is needed for that.
    pub async fn sort(&mut self, store: &Store) -> Result<(), Failed> {
        loop {
            let policy = self.policy;
            let sorted = sort(&Evidence {
                listing: &self.listing,
                entries: &self.memory.entries,
                held: &self.memory.held,
                details: &self.details,
                answers: &self.answers,
                naming: &self.memory.naming,
                unique_ids: self.around.unique_ids,
                nameless: self.around.nameless,
                showing: self.around.showing,
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
        let held = &|index| self.held(index);
        plan::plan(Grounds { listing, sorted, memory, held, details, policy, answers, nameless })
    }

    /// Gives what is remembered of a listed message that failed. Another size is another message, but not where the
    /// poll has just broken at this one: some servers list another at each session.
    pub fn held(&self, index: usize) -> Option<&'a Held> {
        let message = self.listing.get(index);
        let held = |octets| self.memory.held(message.uid, message.ordinal, octets);
        let just_broke = |held: &&Held| held.kind == HeldKind::Breaks && held.tried_at >= self.around.since;
        let again = || held(0).filter(|held| self.around.showing == Showing::Again && just_broke(held));
        held(message.octets).or_else(again)
    }

    /// Says whether a message is held since only some of the targets have it, and others were away.
    pub fn is_away(&self, index: usize) -> bool {
        self.held(index).is_some_and(|held| held.kind == HeldKind::Away)
    }

    /// Gives who is noted to have a listed message, going by its name.
    pub fn holders(&self, index: usize) -> &'a [Holder] {
        let message = self.listing.get(index);
        let is_it =
            |reached: &&Reached| reached.uid.as_bytes() == message.uid && reached.ordinal == message.ordinal;
        self.memory.reached.iter().find(is_it).map_or(&[], |reached| &reached.targets)
    }

    async fn load(&mut self, store: &Store, mut entries: Vec<usize>) -> Result<(), Failed> {
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

    /// Gets ready for messages that come whole: any of them may be one that is recorded and not listed.
    pub async fn expect(&mut self, store: &Store) -> Result<(), Failed> {
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

    /// Says whether a message goes by its place because it has no unique-id that lasts.
    fn is_by_place(&self, index: usize) -> bool {
        matches!(self.sorted.group_of(index), Some(Group::All | Group::Unnamed))
    }

    /// Notes that a message was fetched, or could not be, so that it is not fetched again in this session.
    pub fn tried(&mut self, index: usize) {
        self.settled.entry(index).or_insert(None);
    }

    /// Notes that a message is recorded.
    pub fn recorded(&mut self, index: usize) {
        self.recorded.insert(index);
    }

    fn owner(&self, entry: usize) -> Option<usize> {
        self.sorted.owners.get(&entry).copied()
    }

    /// Proves by what was seen so far that a listed message is a recorded one.
    pub fn prove(&self, index: usize, entry: usize) -> Option<Recorded> {
        let message = self.listing.get(index);
        let seen = match self.answers.header(index) {
            Some(header) => Seen::Header { listed: message.octets, header: *header },
            None => Seen::Listed(message.octets),
        };
        self.memory.prove((index, entry), &self.details[&entry], &seen)
    }

    /// Says whether a header may prove that a message is a recorded one, and is not known yet.
    pub fn asks_to_prove(&self, index: usize, entry: usize) -> bool {
        let may = self.details[&entry].may_be_certain();
        may && matches!(self.answers.of(index), Answer::Open | Answer::Unasked)
    }

    /// Counts those that another program has left, where nothing deletes them.
    pub fn left_by_others(&self) -> usize {
        let is_left = |(_, entry): &(usize, usize)| self.entry(*entry).kind == Kind::Imported;
        match self.policy.keep {
            Keep::None => self.known().filter(is_left).count(),
            Keep::Forever | Keep::For(_) => 0,
        }
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
    ) -> Result<(), Failed> {
        let entries: HashMap<usize, usize> = blank.iter().copied().collect();
        self.load(store, answers.iter().filter_map(|(index, _)| entries.get(index).copied()).collect())
            .await?;
        for (index, header) in answers {
            let Some(entry) = entries.get(&index) else { continue };
            let detail = self.details.entry(*entry).or_default();
            detail.identities[1] = Some(header.map_or(Identity::NONE, |header| header.identity));
            if let (Kind::Imported, Some(header)) = (self.memory.entries.get(*entry).2.kind, header) {
                // What it is compared with when it is deleted.
                (detail.listed, detail.fields) = (self.listing.shown(index).octets, header.fields);
            }
            self.change(index, *entry);
        }
        Ok(())
    }

    /// Makes the records of messages that are taken as seen.
    pub fn marked(&self, indices: &[usize]) -> Vec<Delivery> {
        let of = |index: &usize| {
            let message = self.listing.get(*index);
            let new =
                Delivery::new(UniqueId::new(message.uid), message.ordinal, message.octets, Kind::Marked);
            let second = self.answers.header(*index).map(|header| header.identity);
            Delivery { second, place: self.places.get(index).copied(), ..new }
        };
        indices.iter().map(of).collect()
    }
}
