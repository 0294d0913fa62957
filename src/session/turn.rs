//! A session that is logged in and listed: what is done between listing and QUIT, stage by stage.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::account::{FirstSync, Keep};
use crate::delivery::has_room;
use crate::delivery::imap::Mailbox;
use crate::message::Fingerprint;
use crate::source::{Asked, BrokeAtHeader, Last, Opened, Order, Shows, Source};
use crate::state::{HeldKind, Left, Memory, Recorded, Standing, Timestamp};

use super::book::{Book, Circumstances, Inventory, Stock, Top};
use super::fan::{Fan, Of};
use super::fetched::Fetched;
use super::notes::Notes;
use super::plan::{Plan, Step};
use super::policy::Policy;
use super::poll::Poll;
use super::transfer::Outlet;
use super::trouble::{During, Failed, Trouble};
use super::waits::seconds;
use super::which::{self, Nameless, UniqueIds};
use super::{Activity, Limits, Task};

const ASK: &str = "ask for headers (TOP)";
/// Messages that show whether the server has TOP.
const FEW: usize = 16;
/// Headers that are asked for at most to find out how far back a mailbox is to be looked at.
const MOST_ASKED: usize = 1000;
/// How long is fetched at most for targets that lack what others have.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// A session that is logged in and listed, and how far it has come.
pub struct Turn<'a> {
    pub poll: &'a Poll<'a>,
    pub notes: Notes<'a>,
    pub source: Source,
    pub book: Book<'a>,
    pub outlet: Option<Outlet>,
    pub fetched: Fetched,
    /// Messages to be fetched, and their octets, as far as is known.
    planned: (usize, u64),
    /// Messages that were recorded as seen.
    pub marked: usize,
    /// What was wrong with one of several targets.
    pub target_failed: Option<Failed>,
    /// When no more messages are begun, if there is a time for that.
    pub until: Option<Instant>,
}

impl<'a> Turn<'a> {
    /// Begins with a listing, sorted by what is recorded.
    pub async fn begin(
        poll: &'a Poll<'a>,
        notes: Notes<'a>,
        opened: Opened,
        memory: &'a Memory,
    ) -> Result<Self, Failed> {
        let Opened { source, listing, uidl_refused } = opened;
        let limits = match poll.task {
            Task::Sync(limits) | Task::DryRun(limits) => limits,
            Task::Check(_) | Task::MarkAll(_) => Limits::default(),
        };
        let limits = notes.course.limits(limits, poll.account, notes.report);
        let policy = Policy::new(poll.account, limits, poll.now);
        let around = Circumstances {
            unique_ids: if uidl_refused.is_some() { UniqueIds::Refused } else { UniqueIds::Given },
            top: if source.announces_headers() { Top::Announced } else { Top::Unannounced },
            nameless: poll.nameless(),
            showing: if notes.course.is_first() { which::Showing::First } else { which::Showing::Again },
            since: poll.now.saturating_sub(seconds(poll.began.elapsed()) + 1),
        };
        let mut book = Book::new(listing, memory, policy, around);
        book.sort(&poll.environment.store).await?;
        let fetched = Fetched { in_step: true, ..Fetched::default() };
        Ok(Self {
            poll,
            notes,
            source,
            book,
            outlet: None,
            fetched,
            planned: (0, 0),
            marked: 0,
            target_failed: None,
            until: None,
        })
    }
}

impl Poll<'_> {
    /// Says what becomes of messages that nothing tells apart: they are fetched only where each of them is deleted as
    /// soon as it is delivered, so that the server shows none of them again. If it does (its answer to QUIT was lost),
    /// the content tells.
    fn nameless(&self) -> Nameless {
        let deletes = match self.task {
            Task::Sync(limits) | Task::DryRun(limits) => limits.deletions == super::MayDelete::AsConfigured,
            Task::Check(_) => true,
            Task::MarkAll(_) => false,
        };
        match deletes && self.account.keep == Keep::None && self.account.first_sync != FirstSync::None {
            true => Nameless::Come,
            false => Nameless::Stay,
        }
    }
}

impl Turn<'_> {
    /// Counts messages, and their octets.
    pub(super) fn sum(&self, indices: &[usize]) -> (usize, u64) {
        (indices.len(), indices.iter().map(|index| self.book.listing.get(*index).octets).sum())
    }

    /// Asks what is to be asked of the server before it can be said which message is which.
    pub(super) async fn ask(&mut self) -> Result<(), Failed> {
        while !self.book.sorted.questions.is_empty() {
            let (questions, free) = (self.book.sorted.questions.clone(), self.book.sorted.standing);
            if questions.len() > free {
                self.poll.progress.doing(Activity::ComparingHeaders);
                log::debug!("{}: asking for {} headers", self.poll.account.name, questions.len());
            }
            let headers = self.headers(&questions, free).await?;
            self.book.answers.note_all(headers);
            if self.source.asks_no_more() {
                self.book.answers.spend();
            }
            self.book.sort(&self.poll.environment.store).await?;
        }
        Ok(())
    }

    /// Asks how old the messages are where that decides whether they are fetched, the newest first: they are what is
    /// waited for, and those that are fetched are not asked about again.
    pub(super) async fn date(&mut self, plan: Plan) -> Result<Plan, Failed> {
        let is_undated = |(_, step): &&(usize, Step)| matches!(step, Step::Undated);
        let mut undated: Vec<usize> = plan.steps.iter().filter(is_undated).map(|(index, _)| *index).collect();
        if undated.is_empty() {
            return Ok(plan);
        }
        self.poll.progress.doing(Activity::AskingAges);
        undated.sort_unstable_by(|one, other| other.cmp(one));
        // A server without TOP is found out by a few.
        let (few, rest) = undated.split_at(undated.len().min(FEW));
        for questions in [few, rest] {
            self.look_at(questions).await?;
        }
        Ok(self.book.plan())
    }

    /// Asks for headers; the first `free` cost nothing of the budget. Those at which a session broke come last and
    /// singly, and once the deletions of this session are real.
    async fn headers(
        &mut self,
        questions: &[usize],
        free: usize,
    ) -> Result<Vec<(usize, Option<Fingerprint>)>, Failed> {
        let (mut plain, mut doubtful, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut free_ones = 0;
        for (at, index) in questions.iter().enumerate() {
            match self.shows_header(*index) {
                Shows::Yes => {
                    free_ones += usize::from(at < free);
                    plain.push(*index);
                }
                Shows::Doubtful => doubtful.push(*index),
                Shows::No => self.book.answers.withhold(*index),
                Shows::Never => answers.push((*index, None)),
            }
        }
        answers.extend(self.ask_for(&plain, free_ones).await?);
        if self.source.any_deleted() && !doubtful.is_empty() {
            self.fetched.postponed += doubtful.len();
            self.book.answers.spend();
            return Ok(answers);
        }
        for index in doubtful {
            answers.extend(self.ask_for(&[index], 1).await?);
        }
        Ok(answers)
    }

    /// Says whether the server shows the header of a message.
    fn shows_header(&self, index: usize) -> Shows {
        self.notes.server.shows_header(&self.book.listing.shown(index))
    }

    /// Asks for headers, and notes at which of them the session broke.
    async fn ask_for(
        &mut self,
        questions: &[usize],
        free: usize,
    ) -> Result<Vec<(usize, Option<Fingerprint>)>, Failed> {
        let asked = self.source.headers(questions, free);
        let Asked { answers, ended } = self.poll.unless_stopped(ASK, async { Ok(asked.await) }).await?;
        let (server, listing) = (&mut *self.notes.server, &self.book.listing);
        answers.iter().for_each(|(index, _)| server.answered_top(&listing.shown(*index)));
        let Err(BrokeAtHeader { error, broke }) = ended else { return Ok(answers) };
        if let Some((index, broke)) = broke {
            server.broke_at_header(&listing.shown(index));
            if answers.iter().all(|(_, header)| header.is_none()) && !self.book.answers.work() {
                server.showed_no_header();
            }
            self.fetched.broke.get_or_insert(broke);
        }
        Err(error).during(ASK)
    }

    /// Notes the headers of messages, as [`Turn::header_of`] gets them.
    pub(super) async fn look_at(&mut self, indices: &[usize]) -> Result<(), Failed> {
        let headers = self.header_of(indices).await?;
        self.book.answers.note_all(headers);
        Ok(())
    }

    /// Asks for the headers of messages that are marked, as far as the budget goes and unless the server has no TOP.
    async fn header_of(&mut self, indices: &[usize]) -> Result<Vec<(usize, Option<Fingerprint>)>, Failed> {
        if indices.is_empty() || self.book.answers.are_none() {
            return Ok(Vec::new());
        }
        let unasked = |index: &usize| self.book.answers.header(*index).is_none();
        let indices: Vec<usize> = indices.iter().copied().filter(unasked).collect();
        self.headers(&indices, 0).await
    }

    /// Fails if neither unique-ids nor headers can be had of any message.
    pub(super) fn is_told_apart(&self, plan: &Plan) -> Result<(), Failed> {
        let nameless = count(plan, |step| matches!(step, Step::Nameless));
        let listing = &self.book.listing;
        let any_name = (0..listing.len()).any(|index| !listing.shown(index).uid.is_empty());
        if nameless > 0 && nameless == listing.len() && !any_name {
            return Err(Failed { doing: "list the maildrop".into(), trouble: Trouble::Nameless });
        }
        Ok(())
    }

    /// Ends what a session has left that was cut off, if nothing is fetched that would.
    pub(super) async fn end_cut_off(&mut self, plan: &Plan) -> Result<(), Failed> {
        let memory = self.book.memory;
        if !memory.left.is_to_be_ended() {
            return Ok(());
        }
        let name = &self.poll.account.name;
        if memory.left == Left::CutOff {
            log::info!("{name}: the last session did not end; what it delivered is found again");
        }
        let any = plan.steps.iter().any(|(_, step)| matches!(step, Step::Fetch(_) | Step::Delete(_)));
        if !any && self.outlet.is_none() {
            // All that it delivered is recorded or gone from the server, and what it left half-written is removed now.
            // As one that published, this session marks the maildrop closed, and the next need not look again.
            self.open().await?;
            let of = Of { poll: self.poll, memory };
            let found = match &mut self.outlet {
                Some(Outlet::Several(fan)) => fan.recover(of).await?,
                Some(Outlet::One(..)) | None => Some(std::mem::take(&mut self.book.stock.found)),
            };
            let store = &self.poll.environment.store;
            if let Some(found) = found {
                store.publishing(&memory.key, found).await.during("write the state")?;
            }
        }
        Ok(())
    }

    /// Opens the target, if it is not open, and takes stock of what lies there; says how many messages do. Several are
    /// opened when the first message comes for each.
    pub(super) async fn open(&mut self) -> Result<usize, Failed> {
        if self.outlet.is_some() {
            return Ok(0);
        }
        let Poll { account, environment, .. } = *self.poll;
        if let Some(mut fan) = Fan::of(account, self.book.memory) {
            let of = Of { poll: self.poll, memory: self.book.memory };
            if self.book.memory.left == Left::Unknown && fan.looks_far_back(of).await? {
                fan.look_back_to(self.oldest().await?);
            }
            self.outlet = Some(Outlet::Several(fan));
            return Ok(0);
        }
        self.poll.progress.doing(Activity::OpeningTarget);
        let sink = self.poll.sink(account.target()).await?;
        let oldest =
            if sink.mailbox().is_some_and(Mailbox::looks_far_back) { self.oldest().await? } else { None };
        let files = Poll::recover(&sink, oldest).await?;
        // Whose they are in a mailbox nobody knows.
        let there = if sink.mailbox().is_some() { 0 } else { files.len() };
        let key = account.deliver[0].key();
        let (memory, store) = (self.book.memory, &environment.store);
        let of = Inventory { maildrop: &self.poll.maildrop(), target: &key, memory, store };
        self.book.stock = Stock::take(of, &sink, files).await?;
        self.outlet = Some(Outlet::One(sink, account.target().to_string()));
        Ok(there)
    }

    /// Says when the oldest message that is listed arrived; `None`: that cannot be known, or is not worth so many questions.
    async fn oldest(&mut self) -> Result<Option<Timestamp>, Failed> {
        let answers = &self.book.answers;
        let (known, unasked): (Vec<usize>, Vec<usize>) =
            (0..self.book.listing.len()).partition(|index| answers.header(*index).is_some());
        let is_shown = |index: &usize| self.shows_header(*index) == Shows::Yes;
        if !self.source.announces_headers() || unasked.len() > MOST_ASKED || !unasked.iter().all(is_shown) {
            return Ok(None);
        }
        self.poll.progress.doing(Activity::AskingAges);
        let asked = self.ask_for(&unasked, unasked.len()).await?;
        let asked = asked.iter().map(|(_, header)| header.as_ref());
        let known = known.iter().map(|index| self.book.answers.header(*index));
        let mut arrived = asked.chain(known).map(|header| header.and_then(|header| header.arrived));
        Ok(arrived.try_fold(Timestamp::MAX, |oldest, arrived| Some(oldest.min(arrived?))))
    }

    /// Counts the messages that lie in the targets.
    pub(super) async fn count_there(&mut self) -> Result<usize, Failed> {
        let there = self.open().await?;
        let of = Of { poll: self.poll, memory: self.book.memory };
        match &mut self.outlet {
            Some(Outlet::Several(fan)) => fan.open_all(of).await,
            Some(Outlet::One(..)) | None => Ok(there),
        }
    }

    /// Fetches messages, and sends the deletions of others along; says whether the session can go on.
    pub(super) async fn fetch(
        &mut self,
        wanted: Vec<usize>,
        old: Vec<Recorded>,
        last: Vec<Last>,
    ) -> Result<bool, Failed> {
        let mut tried = wanted.clone();
        tried.extend(last.iter().filter_map(|last| match last {
            Last::Retrieve(index) => Some(*index),
            Last::Delete(_) => None,
        }));
        if tried.is_empty() && old.is_empty() && last.is_empty() {
            return Ok(true);
        }
        if !tried.is_empty() {
            self.open().await?;
            self.book.expect(&self.poll.environment.store).await?;
            let (messages, octets) = self.sum(&tried);
            self.planned = (self.planned.0 + messages, self.planned.1.saturating_add(octets));
            if self.notes.course.is_first() {
                self.poll.progress.planned(self.planned.0, self.planned.1);
            }
        }
        self.poll.progress.doing(Activity::Fetching);
        let outlet = if tried.is_empty() { None } else { self.outlet.as_mut() };
        let careful = self.notes.course.careful(&self.book.listing);
        self.source.retrieve(Order { wanted, old, last, careful });
        // On the heap: it is most of what a session takes, and would be moved again and again.
        let fetch = self.poll.fetch(&mut self.source, &mut self.book, outlet, self.until);
        let fetched = Box::pin(fetch).await;
        tried.into_iter().for_each(|index| self.book.tried(index));
        if let Some(limit) = &mut self.book.policy.limit {
            *limit = limit.saturating_sub(fetched.delivered + fetched.already_there);
        }
        if let Some(octets) = &mut self.book.policy.octets {
            *octets = octets.saturating_sub(fetched.octets);
        }
        self.fetched.add(fetched);
        Ok(self.fetched.aborted.is_none() && self.fetched.postponed == 0)
    }

    /// Deletes what earlier sessions delivered, as far as it is seen to be that.
    pub(super) async fn delete(&mut self, plan: &Plan) -> Result<bool, Failed> {
        let due: Vec<(usize, usize)> = plan
            .steps
            .iter()
            .filter_map(|(index, step)| match step {
                Step::Delete(entry) if self.may_delete(*index, *entry) => Some((*index, *entry)),
                _ => None,
            })
            .collect();
        // What needs no question that may break the session comes first.
        let is_doubtful = |(index, entry): &(usize, usize)| {
            self.book.asks_to_prove(*index, *entry) && self.shows_header(*index) == Shows::Doubtful
        };
        let (doubtful, due): (Vec<_>, Vec<_>) = due.into_iter().partition(is_doubtful);
        let mut last = Vec::new();
        if !self.delete_these(due, &mut last).await? || !self.delete_these(doubtful, &mut last).await? {
            return Ok(false);
        }
        let late = self.book.take_late().into_iter();
        last.extend(late.map(|(tried_at, proof)| (tried_at, Last::Delete(proof))));
        let broke = plan.steps.iter().filter(|(_, step)| matches!(step, Step::Fetch(_)));
        let broke = broke.filter_map(|(index, _)| Some((index, self.book.broke(*index)?)));
        last.extend(broke.map(|(index, held)| (held.tried_at, Last::Retrieve(*index))));
        // Of several that broke a session, the one that was tried longest ago comes first.
        last.sort_by_key(|(tried_at, _)| *tried_at);
        let last = last.into_iter().map(|(_, last)| last).collect();
        self.fetch(Vec::new(), Vec::new(), last).await
    }

    /// Says whether a deletion that is due is to be tried now: this session has not had its word on it, and no session
    /// broke at it lately.
    fn may_delete(&self, index: usize, entry: usize) -> bool {
        !self.source.was_deleted(index) && !self.book.rests(entry)
    }

    /// Deletes those of these that are seen to be the recorded ones; what broke a session before is for the end.
    async fn delete_these(
        &mut self,
        due: Vec<(usize, usize)>,
        last: &mut Vec<(Timestamp, Last)>,
    ) -> Result<bool, Failed> {
        let asks = |(index, entry): &&(usize, usize)| self.book.asks_to_prove(*index, *entry);
        let questions: Vec<usize> = due.iter().filter(asks).map(|(index, _)| *index).collect();
        if !questions.is_empty() {
            let headers = self.headers(&questions, 0).await?;
            self.book.answers.note_all(headers);
        }
        let (mut proven, mut compared) = (Vec::new(), Vec::new());
        for (index, entry) in due {
            match (self.book.prove(index, entry), self.book.broke(index)) {
                (Some(proof), Some(held)) => last.push((held.tried_at, Last::Delete(proof))),
                (Some(proof), None) => proven.push(proof),
                // There was no time to ask.
                (None, _) if self.book.asks_to_prove(index, entry) => {}
                (None, Some(_)) if self.book.waits(index) => {}
                (None, Some(held)) => last.push((held.tried_at, Last::Retrieve(index))),
                (None, None) => compared.push(index),
            }
        }
        self.fetch(compared, proven, Vec::new()).await
    }

    /// Gives what a plan fetches before that at which a session broke.
    pub(super) fn fetches(&self, plan: &Plan) -> Vec<usize> {
        let fetch = plan.steps.iter().filter(|(_, step)| matches!(step, Step::Fetch(_)));
        let fetch = fetch.map(|(index, _)| *index);
        fetch.filter(|index| self.book.broke(*index).is_none() && !self.book.is_away(*index)).collect()
    }

    /// Fetches what only some of the targets lack, for those of them that are there: looked at before anything is fetched
    /// for them alone, and behind what all wait for. Of what takes long the rest is left for the next poll, which has new
    /// mail first.
    pub(super) async fn fetch_lacking(&mut self, plan: &Plan) -> Result<bool, Failed> {
        let fetch = plan.steps.iter().filter(|(_, step)| matches!(step, Step::Fetch(_)));
        let away: Vec<usize> =
            fetch.map(|(index, _)| *index).filter(|index| self.book.is_away(*index)).collect();
        if away.is_empty() {
            return Ok(true);
        }
        self.open().await?;
        let of = Of { poll: self.poll, memory: self.book.memory };
        let Some(Outlet::Several(fan)) = &mut self.outlet else {
            return self.fetch(away, Vec::new(), Vec::new()).await;
        };
        let lacks = |fan: &Fan, index| fan.lacking(self.book.holders(index));
        let lacking = away.iter().flat_map(|index| lacks(fan, *index)).collect();
        fan.open(of, &lacking).await?;
        let mut wanted = Vec::new();
        for index in away {
            let (lacking, octets) = (lacks(fan, index), self.book.listing.get(index).octets);
            let mut is_wanted = lacking.is_empty();
            for target in lacking.into_iter().filter_map(|lane| fan.usable(lane)) {
                is_wanted |= has_room(target, &self.poll.environment.disk, octets).await;
            }
            match is_wanted {
                true => wanted.push(index),
                false => self.notes.report.held += 1,
            }
        }
        self.until = Some(Instant::now() + LONGEST);
        let goes_on = self.fetch(wanted, Vec::new(), Vec::new()).await;
        self.until = None;
        goes_on
    }

    /// Counts what is held, though its wait may be over.
    pub(super) fn count_held(&self, plan: &Plan) -> usize {
        let is_held = |(index, step): &&(usize, Step)| {
            matches!(step, Step::Held | Step::Fetch(_) | Step::Later)
                && self
                    .book
                    .held(*index)
                    .is_some_and(|held| held.standing == Standing::Held && held.kind != HeldKind::TooLarge)
        };
        plan.steps.iter().filter(is_held).count()
    }

    /// Asks for the identity of what was only marked, so that it is known again under another name.
    pub(super) async fn ask_at_leisure(&mut self) -> Result<(), Failed> {
        let blank = self.book.blank();
        if blank.is_empty() {
            return Ok(());
        }
        let indices: Vec<usize> = blank.iter().map(|(index, _)| *index).collect();
        let answers = self.header_of(&indices).await?;
        self.book.know(&self.poll.environment.store, &blank, answers).await
    }
}

/// Counts the steps of a kind.
pub fn count(plan: &Plan, of: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().filter(|(_, step)| of(step)).count()
}
