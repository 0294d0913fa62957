//! One poll: connect, log in, list, plan, fetch, delete, QUIT, remember.

use std::sync::Arc;
use std::time::Instant;

use crate::blocking;
use crate::config::Account;
use crate::config::account::{FirstSync, Keep};
use crate::delivery::Sink;
use crate::failure::Class;
use crate::net::Stream;
use crate::pop3::{Command, Listing, MessageNumber, ProtocolError, Reply, Status, UniqueId};
use crate::sasl::SaslError;
use crate::secret::Secret;
use crate::state::{
    Closing, Delivery, HeldKind, LogIn, LoginMemory, Memory, PollResult, Recorded, Standing, StateError,
    Timestamp,
};
use crate::text::Shown;

use super::blame::Blamed;
use super::course::Course;
use super::fetch::Fetched;
use super::login::{self, Listed, Login, Trials};
use super::maildrop::Deletions;
use super::plan::{self, Plan, Policy, Step};
use super::server::{Outcome, Server, Trial};
use super::transfer::{FetchOrder, Last};
use super::trouble::{Aborted, About, During, Trouble};
use super::wire::{Wire, WireError};
use super::{
    Environment, Limits, Planned, Progress, Report, Retry, Task, WIND_DOWN, credentials, headers, hooks,
    lockout,
};

/// A poll of one account; the lease on its maildrop is held meanwhile.
pub struct Poll<'a> {
    /// Whose maildrop.
    pub account: &'a Account,
    /// What sessions share.
    pub environment: &'a Environment,
    /// What to do.
    pub task: Task,
    /// Hears how it goes.
    pub progress: &'a dyn Progress,
    /// The time of the poll.
    pub now: Timestamp,
    /// When the session began.
    pub began: Instant,
}

/// How a poll ended that did not succeed.
pub struct End {
    /// Why.
    pub aborted: Aborted,
    /// What the server may not have taken: to be left out at the next attempt.
    pub suspect: Option<Trial>,
}

impl Poll<'_> {
    /// Polls once and writes down how it went.
    ///
    /// The recorded unique-ids, which may be many, are loaded while the server lists its own.
    pub async fn run(&self, course: &mut Course, report: &mut Report) -> Result<(), End> {
        course.begin();
        let store = &self.environment.store;
        let maildrop: Arc<str> = self.account.maildrop_id.as_str().into();
        let login = store.login_memory(maildrop.clone());
        let state = self.environment.state.clone();
        let about = state.clone();
        // Where nothing answers, the state does not either.
        let there =
            blocking::ask(&about, self.account.timeout, move || state.exists()).await.unwrap_or(false);
        let (login, connected) = if there {
            // Whoever is refused is not even called upon again.
            let login = login.await.during("read the state").map_err(End::plain)?;
            let connected = self.connect(course, Some(&login)).await;
            (login, connected)
        } else {
            // Nothing is remembered, and making the file takes about as long as connecting.
            let (login, connected) = tokio::join!(login, self.connect(course, None));
            (login.during("read the state").map_err(End::plain)?, connected)
        };
        let mut server = Server::new(&login.server, self.account, self.now, &course.left_out);
        report.login_delay = server.capabilities().login_delay();
        let mut closing = Closing { at: self.now, ..Closing::default() };
        let (memory, listed) = tokio::join!(
            store.begin(maildrop),
            self.log_in(course, &mut server, &login, connected, &mut closing)
        );
        // That the log-in succeeded is known with the listing at the latest.
        report.logged_in = Some(self.began.elapsed());
        let logged_in = Instant::now();
        let memory = memory.during("read the state").map_err(End::plain)?;
        let mut result = match listed {
            Ok(listed) => self.poll(course, &mut server, listed, &memory, report, &mut closing).await,
            Err(end) => Err(end),
        };
        if let Err(end) = &mut result {
            course.say_why_it_broke(&mut end.aborted, &closing);
        }
        if matches!(self.task, Task::DryRun(_) | Task::Check(_)) {
            self.remember_login(&login, closing.login).await.during("write the state").map_err(End::plain)?;
            return result;
        }
        course.end(result.as_ref().err(), self, logged_in, report);
        if result.as_ref().is_err_and(|end| end.is_a_surprise(closing.listed_at.is_some())) {
            server.ask_again();
        }
        closing.server = Some(server.memory()).filter(|learned| *learned != login.server);
        closing.poll = course.is_over().then(|| self.poll_result(report, result.as_ref().err()));
        let closed = store.close(memory.key, &memory.entries, closing).await;
        result.and(closed.during("write the state").map_err(End::plain))
    }

    /// Gets the password and connects, unless that password must not be tried.
    async fn connect(
        &self,
        course: &Course,
        memory: Option<&LoginMemory>,
    ) -> Result<(Secret, Stream), Aborted> {
        if let (Task::Sync(_), true) = (self.task, course.is_first()) {
            hooks::before(self.account, &self.environment.stop).await.during("prepare the poll")?;
        }
        let connect = async {
            let secret = credentials::password(self.account, self.environment.ask).await;
            let secret = secret.during("get the password")?;
            if let Some(memory) = memory {
                self.may_try(course, &secret, memory).await?;
            }
            self.progress.stage("connecting");
            let stream = self.environment.connector.connect(self.account).await.map_err(login::aborted)?;
            Ok((secret, stream))
        };
        self.unless_stopped("connect", connect).await
    }

    /// Logs in and lists, and notes a refusal of the credentials.
    async fn log_in(
        &self,
        course: &Course,
        server: &mut Server,
        memory: &LoginMemory,
        connected: Result<(Secret, Stream), Aborted>,
        closing: &mut Closing,
    ) -> Result<Listed, End> {
        let (secret, stream) = connected.map_err(End::plain)?;
        self.may_try(course, &secret, memory).await.map_err(End::plain)?;
        self.progress.stage("logging in");
        // What is tried is remembered, or it would be tried each time.
        let trials = match self.task {
            Task::Sync(_) | Task::MarkAll(_) => Trials::Allowed,
            Task::DryRun(_) | Task::Check(_) => Trials::NotNow,
        };
        let mut login =
            Login { account: self.account, secret: &secret, server: &mut *server, trials, suspect: None };
        let listed = self.unless_stopped("log in", login.run(&self.environment.connector, stream)).await;
        let suspect = login.suspect;
        match listed {
            Ok(listed) => {
                closing.login = Some(LogIn::Worked(lockout::worked(self.account, &secret, memory)));
                Ok(listed)
            }
            Err(aborted) => {
                let suspect = suspect.filter(|_| is_broken(&aborted.trouble));
                if let Some(trial) = suspect.filter(|trial| trial.is_told_by_one_failure()) {
                    server.learn(trial, Outcome::Breaks);
                }
                let aborted = self.judge(course, aborted, &secret, memory, closing).await;
                Err(End { suspect, aborted })
            }
        }
    }

    /// Refuses to try what the server has refused.
    async fn may_try(&self, course: &Course, secret: &Secret, memory: &LoginMemory) -> Result<(), Aborted> {
        // What has logged in once in this poll is refused because its last session is not over yet.
        let retry = if course.is_first() { self.task.retry() } else { Retry::Now };
        let may = lockout::may_try(self.account, secret, memory, self.now, retry).await;
        may.map_err(Trouble::LockedOut).during("log in")
    }

    /// Notes a refusal of the log-in, and says what it means.
    async fn judge(
        &self,
        course: &Course,
        aborted: Aborted,
        secret: &Secret,
        memory: &LoginMemory,
        closing: &mut Closing,
    ) -> Aborted {
        let Aborted { doing, trouble } = aborted;
        let (said, code, hint) = match trouble {
            Trouble::Refused { said, code, about: About::LogIn, hint } => (said, code, hint),
            Trouble::Sasl(SaslError::Refused(reason)) => {
                let hint = SaslError::Refused(reason.clone()).hint();
                (reason, None, hint)
            }
            trouble => return Aborted { doing, trouble },
        };
        let (refused, refusal) =
            lockout::refused(self.account, secret, memory, self.now, (&said, code)).await;
        if course.is_first() || refusal.class != Class::InUse {
            closing.login = Some(LogIn::Refused(refused));
        }
        Aborted { doing, trouble: Trouble::LogInRefused { refusal, hint } }
    }

    /// A look changes nothing, but for the memory of refused log-ins: that is there to prevent lock-outs.
    async fn remember_login(&self, before: &LoginMemory, login: Option<LogIn>) -> Result<(), StateError> {
        match login {
            Some(LogIn::Worked(_)) if before.refused.is_none() => Ok(()),
            Some(outcome) => {
                let maildrop = self.account.maildrop_id.as_str().into();
                self.environment.store.logged_in(maildrop, self.now, outcome).await
            }
            None => Ok(()),
        }
    }

    /// Gives up what loses nothing once the process is asked to end.
    pub(super) async fn unless_stopped<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, Aborted>>,
    ) -> Result<T, Aborted> {
        let mut stop = self.environment.stop.clone();
        tokio::select! {
            done = work => done,
            Ok(_) = stop.wait_for(|stop| *stop) => {
                Err(Aborted { doing: doing.into(), trouble: Trouble::Stopped })
            }
        }
    }

    /// Does the task, and notes what the server turned out to be like.
    async fn poll(
        &self,
        course: &mut Course,
        server: &mut Server,
        mut listed: Listed,
        memory: &Memory,
        report: &mut Report,
        closing: &mut Closing,
    ) -> Result<(), End> {
        if let Some(said) = &listed.uidl_refused
            && memory.entries.has_unique_ids()
        {
            // It had UIDL before. Under other names every message would be new.
            let reply = Reply { status: Status::Err, text: said };
            let trouble = Trouble::refused(&reply, About::Other);
            return Err(End::plain(Aborted { doing: "ask for unique-ids (UIDL)".into(), trouble }));
        }
        let doing = "ask for headers (TOP)";
        let named = async {
            headers::name(&mut listed.wire, &mut listed.listing, listed.pipelined).await.during(doing)
        };
        let nameless = self.unless_stopped(doing, named).await.map_err(End::plain)?;
        if listed.uidl_refused.is_some()
            && nameless > 0
            && nameless == listed.listing.len()
            && !self.fetches_nameless()
        {
            return Err(End::plain(Aborted {
                doing: "list the maildrop".into(),
                trouble: Trouble::Nameless,
            }));
        }
        closing.listed_at = Some(self.now);
        if report.listed.is_none() {
            report.listed = Some(listed.listing.len());
            report.listed_octets = listed.listing.octets();
        }
        // Counted anew by each attempt.
        (report.held, report.left, report.beyond) = (0, 0, 0);
        let pipelined = listed.pipelined;
        report.login_delay = listed.capabilities.login_delay();
        let ended = self.work(listed, memory, course, report, closing).await;
        let is_why = ended.is_ok() && !course.broke_without;
        server.left_out_helped(|trial| trial != Trial::Pipelining || is_why);
        ended.map_err(|aborted| End {
            suspect: Some(Trial::Pipelining).filter(|_| pipelined && loses_step(&aborted.trouble)),
            aborted,
        })
    }

    /// Does the task in a session that is logged in and listed.
    async fn work(
        &self,
        listed: Listed,
        memory: &Memory,
        course: &mut Course,
        report: &mut Report,
        closing: &mut Closing,
    ) -> Result<(), Aborted> {
        let Listed { mut wire, capabilities, pipelined, listing, .. } = listed;
        let limits = match self.task {
            Task::Sync(limits) | Task::DryRun(limits) => limits,
            Task::Check(_) | Task::MarkAll(_) => Limits::default(),
        };
        let limits = course.limits(limits, self.account, report);
        let policy = Policy::new(self.account, limits, self.now);
        let mut plan = plan::plan(&listing, memory, &policy);
        if course.is_first() {
            (report.new, report.new_octets) = (plan.new, plan.new_octets);
        }
        if !self.fetches_nameless() {
            let nameless = plan.steps.len();
            plan.steps.retain(|(index, _)| !listing.get(*index).uid.is_empty());
            let nameless = nameless - plan.steps.len();
            if nameless > 0 {
                // Nothing tells them from other messages at the next poll, so they are neither recorded nor deleted.
                log::warn!(
                    "{}: {nameless} messages have no unique-id and no header to know them by",
                    self.account.name
                );
                report.left += nameless;
            }
        }
        closing.released = std::mem::take(&mut plan.released);
        match self.task {
            Task::Check(_) => {
                report.held = count(&plan, |step| matches!(step, Step::Held));
                self.hang_up(wire).await;
                return Ok(());
            }
            Task::DryRun(_) => {
                report.planned = planned(&plan, &listing);
                self.hang_up(wire).await;
                return Ok(());
            }
            Task::MarkAll(_) => {
                let all = plan
                    .steps
                    .iter()
                    .filter(|(_, step)| !matches!(step, Step::Delete(_) | Step::GiveUpDeleting));
                let all = all.map(|(index, _)| *index).collect();
                self.skip(&listing, memory, all).await?;
                self.hang_up(wire).await;
                return Ok(());
            }
            Task::Sync(_) => {}
        }

        let any_named = plan.steps.iter().any(|(index, _)| !listing.get(*index).uid.is_empty());
        if plan.renumbered && any_named {
            let adopted = self.adopt(&mut wire, &listing, memory, &plan, pipelined);
            let adopted = self.unless_stopped("compare headers (TOP)", adopted).await?;
            plan.steps.retain(|(index, _)| !adopted.contains(index));
        }
        closing.vanished = std::mem::take(&mut plan.vanished);
        closing.returned = std::mem::take(&mut plan.returned);
        if plan.recounted {
            log::warn!("{}: server now counts the octets of most messages otherwise", self.account.name);
        }
        let mut work = self.sort(plan, &listing, memory, report, closing);
        if !work.skip.is_empty() {
            let (_, there) = self.sink().await?;
            if there > 0 {
                log::warn!(
                    "{0}: first_sync: none leaves {1} messages unfetched, as the state file is new; but {there} are in \
                     the target, so this is not the first poll, and some may never have been delivered: \
                     `postrider seen list {0}` shows them, `postrider seen forget {0} UID...` has them fetched",
                    self.account.name,
                    work.skip.len()
                );
            }
        }
        self.skip(&listing, memory, std::mem::take(&mut work.skip)).await?;

        let octets = work.fetch.iter().map(|index| listing.get(*index).octets).sum();
        if course.is_first() {
            self.progress.planned(work.fetch.len(), octets);
        }
        let mut deletions = Deletions::of(&self.account.name);
        let cut_off = memory.known && memory.unclosed;
        if cut_off {
            log::info!(
                "{}: the last session did not end; what it delivered is found again",
                self.account.name
            );
        }
        let fetches = !work.fetch.is_empty() || work.last.iter().any(|last| matches!(last, Last::Fetch(_)));
        let sink = if !fetches && !cut_off { None } else { Some(self.sink().await?.0) };
        if !fetches && cut_off {
            // All that it delivered is recorded or gone from the server, and what it left half-written is removed now.
            // As one that published, this session marks the maildrop closed, and the next need not look again.
            self.environment.store.publishing(memory.key).await.during("write the state")?;
        }
        let mut fetched = if !fetches && work.delete.is_empty() && work.last.is_empty() {
            Fetched { in_step: true, ..Fetched::default() }
        } else {
            self.progress.stage("fetching");
            let careful = course.careful(&listing);
            let Work { fetch: wanted, delete: old, last, .. } = work;
            let fetch = FetchOrder { wanted, old, last, careful, pipelined, policy };
            self.fetch(&mut wire, &listing, memory, sink.as_ref(), fetch, &mut deletions).await
        };
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
        let delivered = fetched.delivered + fetched.already_there > 0;
        self.settle(&listing, memory, &fetched, report, closing);
        report.leaves_held = report.held;
        if fetched.aborted.is_none() {
            fetched.aborted = all_refused(&fetched);
        }

        // On a server where a clean QUIT ends the showing, one that hears no QUIT shows again what was not delivered.
        let may_quit = fetched.in_step && !(capabilities.expires_at_once() && fetched.shown_undelivered);
        let updated = match (may_quit, deletions.accepted().is_empty()) {
            (false, _) => Ok(()),
            (true, true) => {
                self.hang_up(wire).await;
                Ok(())
            }
            (true, false) => self.update(&mut wire, &fetched).await,
        };
        let reached_update = may_quit && updated.is_ok();
        let name = |number: &MessageNumber| -> Option<(UniqueId, u32)> {
            let listed = || listing.find(*number).map(|index| listing.get(index));
            let named = fetched.named.get(number).cloned();
            named.or_else(|| listed().map(|message| (UniqueId::new(message.uid), message.ordinal)))
        };
        let names =
            |numbers: &[MessageNumber]| -> Vec<(UniqueId, u32)> { numbers.iter().filter_map(name).collect() };
        closing.undeleted.extend(names(deletions.refused()));
        if let Some(Blamed::Deletion(number)) = fetched.broke.as_ref().map(|broke| broke.at) {
            self.hold_undeletable(name(&number), &listing, number, memory, closing);
        }
        if reached_update {
            closing.deleted = names(deletions.accepted());
            report.deleted += deletions.accepted().len();
        } else if matches!(updated, Err(Aborted { trouble: Trouble::Refused { .. }, .. })) {
            // QUIT was refused; too many of that and the deletions are given up.
            closing.undeleted.extend(names(deletions.accepted()));
        }
        let fruitful = delivered || !closing.deleted.is_empty();
        course.note(fetched.broke, fruitful, fetched.postponed, &listing);
        match fetched.aborted {
            Some(aborted) => Err(aborted),
            None => updated,
        }
    }

    /// Says whether messages that nothing tells apart are fetched: only where each of them is deleted as soon as it is
    /// delivered, so that the server shows none of them again. If it does (its answer to QUIT was lost), the content
    /// tells.
    fn fetches_nameless(&self) -> bool {
        let deletes = match self.task {
            Task::Sync(limits) | Task::DryRun(limits) => limits.deletions == super::Deletions::AsConfigured,
            Task::Check(_) => true,
            Task::MarkAll(_) => false,
        };
        deletes && self.account.keep == Keep::None && self.account.first_sync == FirstSync::All
    }

    /// Opens the target and takes stock of it; gives how many messages of this maildrop are there.
    async fn sink(&self) -> Result<(Sink, usize), Aborted> {
        let open = super::open_target(self.account, self.environment);
        let sink = self.unless_stopped("open the target", open).await?;
        // What is there already is found again whatever the state remembers: it may have been lost, be last week's
        // from a backup, or not know of messages that a killed session had made visible.
        let there = sink.recover().await.during("look through the target")?;
        Ok((sink, there))
    }

    /// Sorts the steps of a plan by what is to be done with them.
    fn sort(
        &self,
        plan: Plan,
        listing: &Listing,
        memory: &Memory,
        report: &mut Report,
        closing: &mut Closing,
    ) -> Work {
        let (mut work, mut last) = (Work::default(), Vec::new());
        let broke = |index: usize, kind| {
            let message = listing.get(index);
            memory.held(message.uid, message.ordinal, message.octets).filter(|held| held.kind == kind)
        };
        for (index, step) in plan.steps {
            match step {
                Step::Fetch(_) => match broke(index, HeldKind::Breaks) {
                    Some(held) => last.push((held.tried_at, Last::Fetch(index))),
                    None => work.fetch.push(index),
                },
                Step::Delete(proof) => match broke(index, HeldKind::Undeletable) {
                    Some(held) if held.standing == Standing::Held => {}
                    Some(held) => last.push((held.tried_at, Last::Delete(proof))),
                    None => work.delete.push(proof),
                },
                Step::Skip => work.skip.push(index),
                Step::Later => {
                    report.left += 1;
                    report.beyond += 1;
                }
                Step::Held => report.held += 1,
                Step::TooLarge => {
                    report.left += 1;
                    self.hold_large(index, listing, memory, closing);
                }
                Step::GiveUpDeleting => {
                    let message = listing.get(index);
                    log::warn!(
                        "{}: {}: server keeps this message in spite of three deletions; it stays there",
                        self.account.name,
                        Shown(message.uid)
                    );
                    closing.undeleted.push((UniqueId::new(message.uid), message.ordinal));
                }
            }
        }
        // Of several that broke a session, the one that was tried longest ago comes first.
        last.sort_by_key(|(tried_at, _)| *tried_at);
        work.last = last.into_iter().map(|(_, last)| last).collect();
        work
    }

    /// Records messages as seen without fetching them.
    async fn skip(&self, listing: &Listing, memory: &Memory, indices: Vec<usize>) -> Result<(), Aborted> {
        if indices.is_empty() {
            return Ok(());
        }
        let seen = indices.into_iter().map(|index| {
            let message = listing.get(index);
            let uid = UniqueId::new(message.uid);
            let octets = message.octets;
            (Delivery { uid, ordinal: message.ordinal, octets, header: None, delivered_at: None }, ())
        });
        self.environment
            .store
            .record(memory.key, self.now, seen.collect())
            .await
            .during("write the state")?;
        Ok(())
    }

    /// Enters UPDATE state: only `+OK` to QUIT makes deletions real (RFC 1939, 6).
    async fn update(&self, wire: &mut Wire, fetched: &Fetched) -> Result<(), Aborted> {
        let doing = "delete messages (QUIT)";
        wire.send(Command::Quit).during(doing)?;
        let stopped = matches!(fetched.aborted, Some(Aborted { trouble: Trouble::Stopped, .. }));
        let reply = if stopped {
            let waiting = || WireError::Silence { waiting: "waiting for QUIT".into(), after: WIND_DOWN };
            tokio::time::timeout(WIND_DOWN, wire.reply()).await.unwrap_or_else(|_| Err(waiting()))
        } else {
            wire.reply().await
        };
        let reply = reply.during(doing)?.1;
        if reply.is_ok() {
            Ok(())
        } else {
            Err(Aborted { doing: doing.into(), trouble: Trouble::refused(&reply, About::Other) })
        }
    }

    /// Says goodbye where nothing was deleted, so that nothing depends on the answer and none is waited for.
    async fn hang_up(&self, mut wire: Wire) {
        match wire.send(Command::Quit) {
            Ok(()) => wire.hang_up(self.account.timeout.min(WIND_DOWN)).await,
            Err(error) => log::debug!("{}: {error}", self.account.name),
        }
    }

    fn poll_result(&self, report: &Report, end: Option<&End>) -> PollResult {
        let failure = end.map(|end| end.aborted.failure(self.account));
        PollResult {
            account: self.account.name.clone(),
            host: self.account.server(),
            failure: failure.map(|failure| (failure.class.name().to_string(), failure.to_string())),
            messages: report.delivered as u64,
            octets: report.delivered_octets,
            listed: report.listed.map(|listed| listed as u64),
            backlog: report.left as u64,
        }
    }
}

/// What is to be done, sorted.
#[derive(Default)]
struct Work {
    fetch: Vec<usize>,
    delete: Vec<Recorded<MessageNumber>>,
    /// What broke a session before.
    last: Vec<Last>,
    skip: Vec<usize>,
}

impl End {
    fn plain(aborted: Aborted) -> Self {
        Self { aborted, suspect: None }
    }

    /// Says whether the server did not do as expected, so that what is known of it may be out of date. Once it has
    /// listed, what goes wrong is a message's, or the network's.
    fn is_a_surprise(&self, listed: bool) -> bool {
        let is_the_servers = matches!(
            self.aborted.trouble,
            Trouble::Wire(_)
                | Trouble::Refused { .. }
                | Trouble::NoMechanism(_)
                | Trouble::Sasl(_)
                | Trouble::Nameless
        );
        self.suspect.is_some() || (is_the_servers && !listed)
    }
}

/// Says whether a server that was sent what it does not take may end a session so.
fn is_broken(trouble: &Trouble) -> bool {
    loses_step(trouble) || matches!(trouble, Trouble::Wire(WireError::Closed { .. } | WireError::Lost { .. }))
}

/// Says whether the server answers what it should not have, or nothing. What has no end is no answer to anything else.
fn loses_step(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Wire(WireError::Protocol(error)) => match error {
            ProtocolError::NotAReply { .. } | ProtocolError::Unasked { .. } => true,
            ProtocolError::LineTooLong { .. } | ProtocolError::ListingTooLong { .. } => false,
        },
        Trouble::Wire(WireError::Silence { .. }) => true,
        _ => false,
    }
}

/// Says so if messages were tried and none was had and delivered.
fn all_refused(fetched: &Fetched) -> Option<Aborted> {
    let last = fetched.failed.last().filter(|_| fetched.delivered + fetched.already_there == 0)?;
    let (count, reason) = (fetched.failed.len(), last.reason.clone());
    Some(Aborted { doing: "fetch".into(), trouble: Trouble::AllRefused { count, reason } })
}

fn count(plan: &Plan, of: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().filter(|(_, step)| of(step)).count()
}

fn planned(plan: &Plan, listing: &Listing) -> Vec<Planned> {
    let step = |(index, step): &(usize, Step)| {
        let (action, reason) = match step {
            Step::Fetch(plan::Fetch::New) => ("fetch", "new"),
            Step::Fetch(plan::Fetch::Retry) => ("fetch", "held, and its wait is over"),
            Step::Fetch(plan::Fetch::Reused) => ("fetch", "its unique-id was recorded with another size"),
            Step::Delete(_) => ("delete", "delivered, and keep says so"),
            Step::GiveUpDeleting => ("leave", "the server keeps it in spite of three deletions"),
            Step::TooLarge => ("leave", "larger than max_size"),
            Step::Held => ("hold", "held, and its wait is not over"),
            Step::Later => ("leave", "beyond the limit on messages"),
            Step::Skip => ("leave", "first_sync: none"),
        };
        let message = listing.get(*index);
        let uid = Shown(message.uid).to_string();
        Planned { uid, octets: message.octets, action, reason: reason.into() }
    };
    plan.steps.iter().map(step).collect()
}
