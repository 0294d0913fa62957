//! What is done between listing and QUIT: sort, ask, fetch, delete.
//!
//! Mail that needs no question comes first; then the questions about mail that may be new, and what they leave to be
//! fetched; then those about deletions; and at last, at leisure, those about messages that were only marked.

use crate::config::account::{Account, FirstSync, Keep};
use crate::delivery::Sink;
use crate::message::{Fingerprint, UniqueId};
use crate::source::{Blamed, Finished, Last, Opened, Order, Parting, Source, WIND_DOWN};
use crate::state::{Closing, Memory, Recorded};
use crate::text::Shown;

use super::book::{Book, Circumstances, Top};
use super::course::Course;
use super::fetch::Fetched;
use super::plan::{self, Plan, Policy, Step};
use super::poll::Poll;
use super::trouble::{Aborted, During, Trouble};
use super::which::{self, Nameless, Uidl};
use super::{Limits, Planned, Report, Task};

const ASK: &str = "ask for headers (TOP)";
/// Messages that show whether the server has TOP.
const FEW: usize = 16;

/// A session that is logged in and listed, and how far it has come.
struct Turn<'p, 'b> {
    poll: &'p Poll<'p>,
    course: &'p Course,
    source: Source,
    book: Book<'b>,
    sink: Option<Sink>,
    fetched: Fetched,
    /// Messages to be fetched, and their octets, as far as is known.
    planned: (usize, u64),
    /// Messages that were recorded as seen.
    marked: usize,
}

impl Poll<'_> {
    /// Does the task in a session that is logged in and listed.
    pub(super) async fn work(
        &self,
        opened: Opened,
        memory: &Memory,
        course: &mut Course,
        report: &mut Report,
        closing: &mut Closing,
    ) -> Result<(), Aborted> {
        let Opened { source, listing, uidl_refused } = opened;
        let limits = match self.task {
            Task::Sync(limits) | Task::DryRun(limits) => limits,
            Task::Check(_) | Task::MarkAll(_) => Limits::default(),
        };
        let limits = course.limits(limits, self.account, report);
        let policy = Policy::new(self.account, limits, self.now);
        let which = if course.is_first() { which::Turn::First } else { which::Turn::Further };
        let uidl = if uidl_refused.is_some() { Uidl::Refused } else { Uidl::Answered };
        let top = if source.announces_headers() { Top::Announced } else { Top::Unannounced };
        let around = Circumstances { uidl, top, nameless: self.nameless(), turn: which };
        let maildrop = &self.account.maildrop_id;
        let mut turn = Turn {
            poll: self,
            course,
            source,
            book: Book::new(listing, memory, policy, maildrop, around),
            sink: None,
            fetched: Fetched { in_step: true, ..Fetched::default() },
            planned: (0, 0),
            marked: 0,
        };
        turn.book.sort(&self.environment.store).await?;
        if !matches!(self.task, Task::Sync(_)) {
            return turn.look(report, closing).await;
        }
        if let Err(aborted) = turn.sync(report, closing).await {
            turn.fetched.in_step = false;
            turn.fetched.aborted.get_or_insert(aborted);
        }
        let Turn { source, mut book, sink, mut fetched, marked, .. } = turn;
        if let Some(sink) = &sink {
            sink.close().await;
            if let Some(news) = sink.news() {
                let target = self.account.deliver.to_string();
                self.environment.store.remember(target, news).await.during("write the state")?;
            }
        }
        // After a session that was killed this is as it should be. Else somebody wants to know where the time went.
        if fetched.already_there > 0 && !(memory.known && memory.unclosed) {
            log::warn!(
                "{}: {} messages were in the target and not in the state file, which is new or older; \
                 they were fetched, compared and not delivered again",
                self.account.name,
                fetched.already_there
            );
        }
        // What was only compared, and is to be compared again, brings nothing on.
        let delivered = fetched.delivered + fetched.already_there > 0;
        self.find_crowded(&mut fetched.failed, &book.listing).await;
        self.settle(&book.listing, memory, &fetched, report, closing);
        report.leaves_held = report.held;
        // What waits for another session was not tried yet.
        if fetched.aborted.is_none() && fetched.postponed == 0 {
            fetched.aborted = all_refused(&fetched);
        }
        book.close(fetched.aborted.is_none(), closing);

        let parting = match (fetched.in_step, fetched.shown_undelivered) {
            (false, _) => Parting::Broken,
            (true, true) => Parting::Undelivered,
            (true, false) => Parting::Whole,
        };
        let stopped = matches!(fetched.aborted, Some(Aborted { trouble: Trouble::Stopped, .. }));
        let Finished { deleted, undeleted, ended } =
            source.finish(parting, stopped.then_some(WIND_DOWN)).await;
        let names = |indices: &[usize]| -> Vec<(UniqueId, u32)> {
            indices.iter().map(|index| book.name_of(*index)).collect()
        };
        closing.undeleted.extend(names(&undeleted));
        match fetched.broke.as_ref().map(|broke| broke.at) {
            Some(Blamed::Deletion(index) | Blamed::Had(index)) => {
                let octets = book.listing.get(index).octets;
                self.hold_undeletable(book.name_of(index), octets, memory, closing);
            }
            Some(Blamed::Message(_) | Blamed::Nobody) | None => {}
        }
        closing.deleted = names(&deleted);
        report.deleted += deleted.len();
        let fruitful = delivered || marked > 0 || !closing.deleted.is_empty();
        course.note(fetched.broke, fruitful, fetched.postponed, &book.listing);
        match fetched.aborted {
            Some(aborted) => Err(aborted),
            None => Ok(ended?),
        }
    }

    /// Says what becomes of messages that nothing tells apart: they are fetched only where each of them is deleted as
    /// soon as it is delivered, so that the server shows none of them again. If it does (its answer to QUIT was lost),
    /// the content tells.
    fn nameless(&self) -> Nameless {
        let deletes = match self.task {
            Task::Sync(limits) | Task::DryRun(limits) => limits.deletions == super::Deletions::AsConfigured,
            Task::Check(_) => true,
            Task::MarkAll(_) => false,
        };
        match deletes && self.account.keep == Keep::None && self.account.first_sync != FirstSync::None {
            true => Nameless::Come,
            false => Nameless::Stay,
        }
    }
}

impl Turn<'_, '_> {
    /// Looks at the maildrop, or marks what is there, and says goodbye.
    async fn look(mut self, report: &mut Report, closing: &mut Closing) -> Result<(), Aborted> {
        self.ask().await?;
        let mut plan = self.book.plan();
        self.is_told_apart(&plan)?;
        (report.new, report.new_octets) = (plan.new, plan.new_octets);
        match self.poll.task {
            Task::Check(_) => report.held = count(&plan, |step| matches!(step, Step::Held)),
            Task::DryRun(_) => {
                plan = self.date(plan).await?;
                report.planned = planned(&plan, &self.book);
            }
            Task::MarkAll(_) => {
                let is_unrecorded = |(_, step): &&(usize, Step)| {
                    !matches!(step, Step::Delete(_) | Step::GiveUpDeleting(_) | Step::Nameless)
                };
                let all: Vec<usize> =
                    plan.steps.iter().filter(is_unrecorded).map(|(index, _)| *index).collect();
                let known = self.header_of(&all).await?;
                known.into_iter().for_each(|(index, header)| self.book.answers.note(index, header));
                self.book.name_marked(&all);
                self.skip(&all).await?;
                closing.listed_at = Some(self.poll.now);
            }
            Task::Sync(_) => {}
        }
        self.source.finish(Parting::Whole, None).await;
        Ok(())
    }

    /// Does all that a sync does before QUIT.
    async fn sync(&mut self, report: &mut Report, closing: &mut Closing) -> Result<(), Aborted> {
        let mut plan = self.book.plan();
        closing.released = std::mem::take(&mut plan.released);
        let asks = !self.book.sorted.questions.is_empty();
        if asks {
            let plain = self.fetches(&plan);
            if self.course.is_first() {
                (report.new, report.new_octets) = self.sum(&plain);
            }
            if !self.fetch(plain, Vec::new(), Vec::new()).await? {
                return Ok(());
            }
            self.ask().await?;
            plan = self.book.plan();
            // Now they have the names that they were held by.
            closing.released = std::mem::take(&mut plan.released);
        }
        plan = self.date(plan).await?;
        if self.course.is_first() {
            report.new += plan.new;
            report.new_octets = report.new_octets.saturating_add(plan.new_octets);
        }
        self.is_told_apart(&plan)?;
        self.poll.hold_crowded(&mut plan, &self.book.listing, self.book.memory).await;
        self.tell(&plan, report, closing).await?;
        match count(&plan, |step| matches!(step, Step::Undated)) {
            // What `first_sync` leaves is recorded.
            0 => closing.listed_at = Some(self.poll.now),
            undated => self.fetched.postponed += undated,
        }
        self.end_cut_off(&plan).await?;
        let wanted = self.fetches(&plan);
        if self.fetch(wanted, Vec::new(), Vec::new()).await? && self.delete(&plan).await? {
            self.ask_at_leisure().await?;
        }
        Ok(())
    }

    fn sum(&self, indices: &[usize]) -> (usize, u64) {
        (indices.len(), indices.iter().map(|index| self.book.listing.get(*index).octets).sum())
    }

    /// Asks what is to be asked of the server before it can be said which message is which.
    async fn ask(&mut self) -> Result<(), Aborted> {
        while !self.book.sorted.questions.is_empty() {
            let (questions, free) = (self.book.sorted.questions.clone(), self.book.sorted.standing);
            if questions.len() > free {
                self.poll.progress.stage("comparing headers");
                log::debug!("{}: asking for {} headers", self.poll.account.name, questions.len());
            }
            for (index, header) in self.headers(&questions, free).await? {
                self.book.answers.note(index, header);
            }
            if self.source.asks_no_more() {
                self.book.answers.spend();
            }
            self.book.sort(&self.poll.environment.store).await?;
        }
        Ok(())
    }

    /// Asks how old the messages are where that decides whether they are fetched, the newest first: they are what is
    /// waited for, and those that are fetched are not asked about again.
    async fn date(&mut self, plan: Plan) -> Result<Plan, Aborted> {
        let is_undated = |(_, step): &&(usize, Step)| matches!(step, Step::Undated);
        let mut undated: Vec<usize> = plan.steps.iter().filter(is_undated).map(|(index, _)| *index).collect();
        if undated.is_empty() {
            return Ok(plan);
        }
        self.poll.progress.stage("asking how old messages are");
        undated.sort_unstable_by(|one, other| other.cmp(one));
        // A server without TOP is found out by a few.
        let (few, rest) = undated.split_at(undated.len().min(FEW));
        for questions in [few, rest] {
            for (index, header) in self.header_of(questions).await? {
                self.book.answers.note(index, header);
            }
        }
        Ok(self.book.plan())
    }

    async fn headers(
        &mut self,
        questions: &[usize],
        free: usize,
    ) -> Result<Vec<(usize, Option<Fingerprint>)>, Aborted> {
        let asked = self.source.headers(questions, free);
        self.poll.unless_stopped(ASK, async { asked.await.during(ASK) }).await
    }

    /// Asks for the headers of messages that are marked, as far as the budget goes and unless the server has no TOP.
    async fn header_of(
        &mut self,
        indices: &[usize],
    ) -> Result<Vec<(usize, Option<Fingerprint>)>, Aborted> {
        if indices.is_empty() || self.book.answers.are_none() {
            return Ok(Vec::new());
        }
        let unasked = |index: &usize| self.book.answers.header(*index).is_none();
        let indices: Vec<usize> = indices.iter().copied().filter(unasked).collect();
        self.headers(&indices, 0).await
    }

    /// Fails if neither unique-ids nor headers can be had of any message.
    fn is_told_apart(&self, plan: &Plan) -> Result<(), Aborted> {
        let nameless = count(plan, |step| matches!(step, Step::Nameless));
        let listing = &self.book.listing;
        let any_name = (0..listing.len()).any(|index| !listing.shown(index).is_hole);
        if nameless > 0 && nameless == listing.len() && !any_name {
            return Err(Aborted { doing: "list the maildrop".into(), trouble: Trouble::Nameless });
        }
        Ok(())
    }

    /// Tells and notes what is not fetched, and marks what counts as seen.
    async fn tell(&mut self, plan: &Plan, report: &mut Report, closing: &mut Closing) -> Result<(), Aborted> {
        let name = &self.poll.account.name;
        let (mut skip, mut nameless) = (Vec::new(), 0);
        for (index, step) in &plan.steps {
            match step {
                Step::Fetch(_) | Step::Delete(_) | Step::Undated => {}
                Step::Unasked => report.left += 1,
                Step::Skip => skip.push(*index),
                Step::Nameless => nameless += 1,
                Step::Later => {
                    report.left += 1;
                    report.beyond += 1;
                }
                Step::Held => report.held += 1,
                Step::TooLarge => {
                    report.left += 1;
                    self.poll.hold_large(*index, &self.book.listing, self.book.memory, closing);
                }
                Step::GiveUpDeleting(_) => {
                    let message = self.book.listing.get(*index);
                    log::warn!(
                        "{name}: {}: server keeps this message in spite of three deletions; it stays there, and one \
                         deletion a day is tried",
                        Shown(message.uid)
                    );
                    closing.undeleted.push(self.book.name_of(*index));
                }
            }
        }
        if nameless > 0 {
            // Nothing tells them from other messages at the next poll, so they are neither recorded nor deleted.
            log::warn!("{name}: {nameless} messages have no unique-id and no header to know them by");
            report.left += nameless;
        }
        self.skip_first(skip).await
    }

    /// Takes messages as seen that `first_sync` leaves; says so if it is not the first sync after all.
    async fn skip_first(&mut self, skip: Vec<usize>) -> Result<(), Aborted> {
        if skip.is_empty() {
            return Ok(());
        }
        let there = if self.book.memory.entries.is_empty() { self.open().await? } else { 0 };
        let Account { name, first_sync, .. } = self.poll.account;
        if there > 0 {
            log::warn!(
                "{name}: first_sync: {first_sync} leaves {} messages unfetched, as the state file is new; but {there} \
                 are in the target, so this is not the first poll, and some may never have been delivered: \
                 `postrider seen list {name}` shows them, `postrider seen forget {name} UID...` has them fetched",
                skip.len()
            );
        }
        log::info!("{name}: first_sync: {first_sync}: {} messages count as seen", skip.len());
        let known = self.header_of(&skip).await?;
        known.into_iter().for_each(|(index, header)| self.book.answers.note(index, header));
        self.book.name_marked(&skip);
        self.skip(&skip).await
    }

    /// Records messages as seen without fetching them.
    async fn skip(&mut self, indices: &[usize]) -> Result<(), Aborted> {
        if indices.is_empty() {
            return Ok(());
        }
        let (store, seen) = (&self.poll.environment.store, self.book.marked(indices));
        store.record(&self.book.memory.key, self.poll.now, seen).await.during("write the state")?;
        indices.iter().for_each(|index| self.book.recorded(*index));
        self.marked += indices.len();
        Ok(())
    }

    /// Ends what a session has left that was cut off, if nothing is fetched that would.
    async fn end_cut_off(&mut self, plan: &Plan) -> Result<(), Aborted> {
        let memory = self.book.memory;
        if !memory.known || !memory.unclosed {
            return Ok(());
        }
        let name = &self.poll.account.name;
        if memory.cut_off {
            log::info!("{name}: the last session did not end; what it delivered is found again");
        }
        let any = plan.steps.iter().any(|(_, step)| matches!(step, Step::Fetch(_) | Step::Delete(_)));
        if !any && self.sink.is_none() {
            // All that it delivered is recorded or gone from the server, and what it left half-written is removed now.
            // As one that published, this session marks the maildrop closed, and the next need not look again.
            self.open().await?;
            let found = std::mem::take(&mut self.book.found);
            let store = &self.poll.environment.store;
            store.publishing(&memory.key, found).await.during("write the state")?;
        }
        Ok(())
    }

    /// Opens the target, if it is not open, and takes stock of what lies there; says how many messages do.
    async fn open(&mut self) -> Result<usize, Aborted> {
        if self.sink.is_some() {
            return Ok(0);
        }
        let (sink, files) = self.poll.sink().await?;
        self.sink = Some(sink);
        let there = files.len();
        self.book.take_stock(&self.poll.environment.store, files).await?;
        Ok(there)
    }

    /// Fetches messages, and sends the deletions of others along; says whether the session can go on.
    async fn fetch(
        &mut self,
        wanted: Vec<usize>,
        old: Vec<Recorded<usize>>,
        last: Vec<Last>,
    ) -> Result<bool, Aborted> {
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
            if self.course.is_first() {
                self.poll.progress.planned(self.planned.0, self.planned.1);
            }
        }
        self.poll.progress.stage("fetching");
        let sink = if tried.is_empty() { None } else { self.sink.as_ref() };
        let careful = self.course.careful(&self.book.listing);
        self.source.retrieve(Order { wanted, old, last, careful });
        let fetched = self.poll.fetch(&mut self.source, &mut self.book, sink).await;
        tried.into_iter().for_each(|index| self.book.tried(index));
        if let Some(limit) = &mut self.book.policy.limit {
            *limit = limit.saturating_sub(fetched.delivered + fetched.already_there);
        }
        self.fetched.add(fetched);
        Ok(self.fetched.aborted.is_none() && self.fetched.postponed == 0)
    }

    /// Deletes what earlier sessions delivered, as far as it is seen to be that.
    async fn delete(&mut self, plan: &Plan) -> Result<bool, Aborted> {
        let due: Vec<(usize, usize)> = plan
            .steps
            .iter()
            .filter_map(|(index, step)| match step {
                Step::Delete(entry) if !self.book.rests(*entry) => Some((*index, *entry)),
                _ => None,
            })
            .collect();
        let asks = |(index, entry): &&(usize, usize)| self.book.asks_to_prove(*index, *entry);
        let questions: Vec<usize> = due.iter().filter(asks).map(|(index, _)| *index).collect();
        if !questions.is_empty() {
            for (index, header) in self.headers(&questions, 0).await? {
                self.book.answers.note(index, header);
            }
        }
        let (mut proven, mut compared, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in due {
            match (self.book.prove(index, entry), self.book.broke(index)) {
                (Some(proof), Some(held)) => last.push((held.tried_at, Last::Delete(proof))),
                (Some(proof), None) => proven.push(proof),
                // There was no time to ask.
                (None, _) if self.book.asks_to_prove(index, entry) => {}
                (None, Some(held)) => last.push((held.tried_at, Last::Retrieve(index))),
                (None, None) => compared.push(index),
            }
        }
        if !self.fetch(compared, proven, Vec::new()).await? {
            return Ok(false);
        }
        let late = self.book.take_late().into_iter();
        last.extend(late.map(|(tried_at, proof)| (tried_at, Last::Delete(proof))));
        let broke = plan.steps.iter().filter(|(_, step)| matches!(step, Step::Fetch(_)));
        last.extend(
            broke.filter_map(|(index, _)| Some((self.book.broke(*index)?.tried_at, Last::Retrieve(*index)))),
        );
        // Of several that broke a session, the one that was tried longest ago comes first.
        last.sort_by_key(|(tried_at, _)| *tried_at);
        let last = last.into_iter().map(|(_, last)| last).collect();
        self.fetch(Vec::new(), Vec::new(), last).await
    }

    /// Gives what a plan fetches before that at which a session broke.
    fn fetches(&self, plan: &Plan) -> Vec<usize> {
        let fetch = plan.steps.iter().filter(|(_, step)| matches!(step, Step::Fetch(_)));
        let fetch = fetch.map(|(index, _)| *index);
        fetch.filter(|index| self.book.broke(*index).is_none()).collect()
    }

    /// Asks for the identity of what was only marked, so that it is known again under another name.
    async fn ask_at_leisure(&mut self) -> Result<(), Aborted> {
        let blank = self.book.blank();
        if blank.is_empty() {
            return Ok(());
        }
        let indices: Vec<usize> = blank.iter().map(|(index, _)| *index).collect();
        let answers = self.header_of(&indices).await?;
        self.book.know(&self.poll.environment.store, &blank, answers).await
    }
}

/// Says so if messages were tried and none was had and delivered.
fn all_refused(fetched: &Fetched) -> Option<Aborted> {
    let had = fetched.delivered + fetched.already_there + fetched.known;
    let last = fetched.failed.last().filter(|_| had == 0)?;
    let (count, reason) = (fetched.failed.len(), last.reason.clone());
    Some(Aborted { doing: "fetch".into(), trouble: Trouble::AllRefused { count, reason } })
}

fn count(plan: &Plan, of: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().filter(|(_, step)| of(step)).count()
}

fn planned(plan: &Plan, book: &Book<'_>) -> Vec<Planned> {
    let Book { listing, policy, .. } = book;
    let step = |(index, step): &(usize, Step)| {
        let (action, reason) = match step {
            Step::Fetch(plan::Fetch::New) => ("fetch", "new"),
            Step::Fetch(plan::Fetch::Retry) => ("fetch", "held, and its wait is over"),
            Step::Fetch(plan::Fetch::Compared) => ("fetch", "to be compared with the one that was recorded"),
            Step::Delete(_) => ("delete", "delivered, and keep says so"),
            Step::GiveUpDeleting(_) => ("leave", "the server keeps it in spite of three deletions"),
            Step::TooLarge => ("leave", "larger than max_size"),
            Step::Held => ("hold", "held, and its wait is not over"),
            Step::Later => ("leave", "beyond the limit on messages"),
            Step::Skip => match policy.first_sync {
                FirstSync::Within(_) => ("leave", "older than first_sync fetches"),
                FirstSync::All | FirstSync::None => ("leave", "first_sync: none"),
            },
            Step::Undated => ("leave", "it is not known yet how old it is"),
            Step::Nameless => ("leave", "nothing tells it from others"),
            Step::Unasked => ("leave", "it is not known yet which message it is"),
        };
        let message = listing.get(*index);
        let uid = Shown(message.uid).to_string();
        Planned { uid, octets: message.octets, action, reason: reason.into() }
    };
    plan.steps.iter().map(step).collect()
}
