//! Who of several targets has a message: recorded one by one, and as delivered once all have it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::delivery::spool::Spooled;
use crate::message::file::MERGED;
use crate::state::{Delivery, HeldKind, Holder, Memory, Reached};

use super::commit::{self, Committed, Declined, Done};
use super::poll::Poll;
use super::trouble::{During, Failed, Trouble};

/// Why a target does not have what the others have.
pub const SLOWER: &str = "it is slower than the others, and gets this later";

/// A message on its way to several targets.
pub struct Parcel {
    pub index: usize,
    pub delivery: Delivery,
    /// Who has it from earlier sessions.
    pub holders: Vec<Holder>,
    pub octets: u64,
    pub content: Spooled,
}

/// What a round of fetching is about.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    pub poll: &'a Poll<'a>,
    pub memory: &'a Memory,
}

/// What the ledger hears.
pub enum Event {
    /// A message came, and goes to these targets.
    Came(Arc<Parcel>, BTreeSet<usize>),
    /// A message has no room in the spool.
    Unspooled(usize, String),
    /// A target does not get this message now.
    Left(usize, usize),
    /// This became of a batch at a target.
    Committed(usize, Committed),
    /// A target takes no more, and why.
    Ended(usize, Option<String>),
}

/// A target, as the ledger sees it.
pub struct Way {
    /// How it is recorded.
    pub key: String,
    pub shown: String,
    /// Its batches that may be unrecorded.
    pub unrecorded: Arc<Semaphore>,
    /// Why it takes nothing, if that is so.
    pub why: Option<String>,
}

/// A message that not all targets have answered for.
struct Waiting {
    parcel: Arc<Parcel>,
    /// Who has it now, those of earlier sessions included.
    holders: Vec<Holder>,
    /// Who has not answered.
    open: BTreeSet<usize>,
    /// Who refused it, and why: it goes to the target for that.
    refused: Vec<(usize, String)>,
    missing: Vec<(usize, HeldKind, String)>,
    /// A target has got it in this session.
    is_new: bool,
}

pub struct Ledger<'a> {
    of: Of<'a>,
    ways: Vec<Way>,
    /// The target of what others refuse.
    refused: Option<(usize, mpsc::UnboundedSender<Arc<Parcel>>)>,
    results: mpsc::UnboundedSender<commit::Result>,
    waiting: HashMap<usize, Waiting>,
    /// Targets that still take messages.
    running: BTreeSet<usize>,
    failures: Vec<(usize, Failed)>,
    is_stopped: bool,
}

/// What is to be written down of some events, and told behind it.
#[derive(Default)]
struct Page {
    touched: HashSet<usize>,
    /// Who has which message in part.
    partly: Vec<Reached>,
    told: Vec<commit::Result>,
    /// Whose batches these were.
    batches: Vec<usize>,
}

impl<'a> Ledger<'a> {
    pub fn new(
        of: Of<'a>,
        ways: Vec<Way>,
        refused: Option<(usize, mpsc::UnboundedSender<Arc<Parcel>>)>,
        results: mpsc::UnboundedSender<commit::Result>,
    ) -> Self {
        let running = (0..ways.len()).collect();
        let (waiting, failures) = Default::default();
        Self { of, ways, refused, results, waiting, running, failures, is_stopped: false }
    }

    /// Writes down what it hears until nobody says more; gives what was wrong with which targets.
    pub async fn run(
        mut self,
        mut heard: mpsc::UnboundedReceiver<Event>,
    ) -> Result<Vec<(usize, Failed)>, Failed> {
        let mut events = Vec::new();
        while heard.recv_many(&mut events, usize::MAX).await > 0 {
            let mut page = Page::default();
            events.drain(..).for_each(|event| self.hear(event, &mut page));
            if let Err(failed) = self.write(page).await {
                self.ways.iter().for_each(|way| way.unrecorded.close());
                return Err(failed);
            }
            // What is refused goes there until nobody can refuse any more.
            let is_waited_for = |(lane, _): &(usize, _)| self.running.iter().any(|other| other != lane);
            self.refused = self.refused.take().filter(is_waited_for);
        }
        if self.is_stopped {
            return Err(Failed { doing: "deliver".into(), trouble: Trouble::Stopped });
        }
        Ok(self.failures)
    }

    fn hear(&mut self, event: Event, page: &mut Page) {
        match event {
            Event::Came(parcel, open) => {
                let index = parcel.index;
                let holders = parcel.holders.clone();
                let (refused, missing) = Default::default();
                let waiting = Waiting { parcel, holders, open, refused, missing, is_new: false };
                self.waiting.insert(index, waiting);
                page.touched.insert(index);
            }
            Event::Unspooled(index, reason) => {
                let declined = Declined { index, kind: HeldKind::Later, reason, reached: None };
                page.told.push(commit::Result::Declined(declined));
            }
            Event::Left(lane, index) => {
                let slower = SLOWER.to_owned();
                let why = self.ways[lane].why.clone().unwrap_or(slower);
                self.miss(lane, index, (HeldKind::Away, why), page);
            }
            Event::Committed(lane, committed) => {
                page.batches.push(lane);
                self.committed(lane, committed, page);
            }
            Event::Ended(lane, why) => {
                self.running.remove(&lane);
                let way = &mut self.ways[lane];
                let why = way.why.take().or(why).unwrap_or_else(|| "the target takes no more".to_owned());
                way.why = Some(why.clone());
                let left: Vec<usize> = self
                    .waiting
                    .iter()
                    .filter(|(_, waiting)| waiting.open.contains(&lane))
                    .map(|(index, _)| *index)
                    .collect();
                for index in left {
                    self.miss(lane, index, (HeldKind::Away, why.clone()), page);
                }
            }
        }
    }

    fn committed(&mut self, lane: usize, committed: Committed, page: &mut Page) {
        let Committed { deliveries, reached, declined, retracted, ended } = committed;
        page.partly.extend(reached);
        for (delivery, done) in deliveries {
            self.has(lane, &delivery, done, page);
        }
        for Declined { index, kind, reason, .. } in declined {
            match (kind, &self.refused) {
                (HeldKind::Refused, Some((other, _))) if *other != lane => {
                    self.refuse(lane, index, reason, page);
                }
                _ => self.miss(lane, index, (kind, reason), page),
            }
        }
        for index in retracted {
            match self.waiting.get_mut(&index) {
                Some(waiting) => {
                    let missing = waiting.missing.iter_mut().filter(|(other, ..)| *other == lane);
                    missing.for_each(|(_, kind, _)| *kind = HeldKind::Away);
                }
                None => page.told.push(commit::Result::Away(index)),
            }
        }
        match ended {
            Some(Failed { trouble: Trouble::Stopped, .. }) => self.is_stopped = true,
            Some(failed) => {
                self.ways[lane].why.get_or_insert_with(|| failed.trouble.to_string());
                self.failures.push((lane, failed));
            }
            None => {}
        }
    }

    /// Notes that a target has a message.
    fn has(&mut self, lane: usize, delivery: &Delivery, done: Done, page: &mut Page) {
        let Some(waiting) = self.waiting.get_mut(&done.index) else { return };
        page.touched.insert(done.index);
        waiting.open.remove(&lane);
        waiting.is_new |= !done.already_there;
        let file = if done.stays { Some(MERGED) } else { delivery.files.first().copied() };
        waiting.hold(Holder { target: self.ways[lane].key.clone(), recipients: None, file });
        // It has it for those that refused it.
        for (refuser, _) in std::mem::take(&mut waiting.refused) {
            let target = self.ways[refuser].key.clone();
            waiting.hold(Holder { target, recipients: None, file: None });
        }
    }

    /// Notes that a target refuses a message, which then goes to the target for that, if that does not have it.
    fn refuse(&mut self, lane: usize, index: usize, reason: String, page: &mut Page) {
        let (Some(waiting), Some((other, queue))) = (self.waiting.get_mut(&index), &self.refused) else {
            return;
        };
        page.touched.insert(index);
        waiting.open.remove(&lane);
        let other_key = &self.ways[*other].key;
        if waiting.holders.iter().any(|holder| holder.target == *other_key) {
            let target = self.ways[lane].key.clone();
            waiting.hold(Holder { target, recipients: None, file: None });
            return;
        }
        let name = &self.of.poll.account.name;
        log::warn!(
            "{name}: {}: {}: goes to {other_key}: {reason}",
            waiting.parcel.delivery.uid,
            self.ways[lane].shown
        );
        waiting.refused.push((lane, reason));
        if self.running.contains(other)
            && waiting.open.insert(*other)
            && queue.send(waiting.parcel.clone()).is_err()
        {
            let why = self.ways[*other].why.clone().unwrap_or_default();
            self.miss(*other, index, (HeldKind::Away, why), page);
        }
    }

    /// Notes that a target does not have a message, and why.
    fn miss(&mut self, lane: usize, index: usize, (kind, why): (HeldKind, String), page: &mut Page) {
        let Some(waiting) = self.waiting.get_mut(&index) else { return };
        page.touched.insert(index);
        waiting.open.remove(&lane);
        waiting.missing.push((lane, kind, why));
    }

    /// Records durably what has become of the messages, and tells it then.
    async fn write(&mut self, mut page: Page) -> Result<(), Failed> {
        let (mut deliveries, mut reached) = (Vec::new(), page.partly);
        for index in page.touched {
            let Some(waiting) = self.waiting.remove(&index) else { continue };
            let is_over = waiting.open.is_empty();
            if is_over && waiting.missing.is_empty() && waiting.refused.is_empty() {
                deliveries.push(waiting.delivered());
                continue;
            }
            if waiting.holders != waiting.parcel.holders {
                reached.push(waiting.reached());
            }
            if is_over {
                page.told.push(commit::Result::Declined(self.declined(&waiting)));
            } else {
                self.waiting.insert(index, waiting);
            }
        }
        let Poll { environment, now, .. } = *self.of.poll;
        let (store, key) = (&environment.store, &self.of.memory.key);
        if !reached.is_empty() {
            store.reached(key, now, reached).await.during("record who has a message")?;
        }
        page.told.extend(commit::record(store, key, now, deliveries).await?);
        for result in page.told {
            // If nobody listens, the session is gone, and the message is fetched again.
            let _ = self.results.send(result);
        }
        for lane in page.batches {
            self.ways[lane].unrecorded.add_permits(1);
        }
        Ok(())
    }

    /// Says of a message that not all have who has it, and why the others have not.
    fn declined(&self, waiting: &Waiting) -> Declined {
        let Waiting { parcel, holders, refused, missing, is_new, .. } = waiting;
        let kinds = [HeldKind::Away, HeldKind::Later, HeldKind::NoRoom, HeldKind::Doubtful];
        let kind = kinds.into_iter().find(|kind| missing.iter().any(|(_, other, _)| other == kind));
        let refused = refused.iter().map(|(lane, why)| (lane, why));
        let missing = missing.iter().map(|(lane, _, why)| (lane, why));
        let words: Vec<String> = refused
            .chain(missing)
            .map(|(lane, why)| format!("not in {}: {why}", self.ways[*lane].shown))
            .collect();
        let has =
            |way: &&Way| holders.iter().any(|holder| holder.target == way.key && holder.recipients.is_none());
        let there: Vec<&str> = self.ways.iter().filter(has).map(|way| &*way.shown).collect();
        let there = if there.is_empty() { String::new() } else { format!("in {}; ", there.join(" and ")) };
        Declined {
            index: parcel.index,
            kind: kind.unwrap_or(HeldKind::Refused),
            reason: format!("{there}{}", words.join("; ")),
            reached: is_new.then_some(parcel.octets),
        }
    }
}

impl Waiting {
    /// Notes who has it, in place of what was known of the same target.
    fn hold(&mut self, holder: Holder) {
        self.holders.retain(|other| other.target != holder.target);
        self.holders.push(holder);
    }

    fn delivered(self) -> (Delivery, Done) {
        let Self { parcel, holders, is_new, .. } = self;
        let stays = holders.iter().any(|holder| holder.file == Some(MERGED));
        let files = holders.iter().filter_map(|holder| holder.file).filter(|file| *file != MERGED).collect();
        let done = Done { index: parcel.index, octets: parcel.octets, already_there: !is_new, stays };
        let mut delivery = Delivery { files, ..parcel.delivery.clone() };
        if stays {
            delivery.keep();
        }
        (delivery, done)
    }

    fn reached(&self) -> Reached {
        let Delivery { uid, ordinal, octets, fingerprint, .. } = &self.parcel.delivery;
        Reached {
            uid: uid.clone(),
            ordinal: *ordinal,
            octets: *octets,
            content: fingerprint.map(|whole| whole.content),
            identity: fingerprint.map(|whole| whole.identity),
            targets: self.holders.clone(),
            reason: "not all targets have it".to_owned(),
        }
    }
}
