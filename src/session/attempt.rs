//! One attempt of a poll: connect, log in and list, do the task, remember.

use std::time::Instant;

use crate::credential::oauth2::{AccessToken, Age, Look, OAuth2Error, Unwanted};
use crate::failure::Class;
use crate::net::{Stage, Stream};
use crate::secret::{Secret, masked};
use crate::source::{
    Authorization, Helped, NotOpened, Opened, RefusedLogIn, Server, Source, SourceError, SourceFailed, Trials,
};
use crate::state::{Closing, LogIn, Maildrop, Memory, Naming, PollResult, StateError};

use super::course::{Course, Ended};
use super::credentials::{self, Credentials, Reached, no_token, token, unwanted};
use super::lockout::{Attempted, Word};
use super::notes::Notes;
use super::policy::Policy;
use super::poll::Poll;
use super::trouble::{AttemptFailed, During, Failed, Health, Trouble};
use super::{Activity, Limits, Report, Retry, Task, hooks, lockout, tasks, told};

/// Polls in a row in which a server that had UIDL may refuse it, before it is taken for one that has none.
const REFUSED_UIDL: u32 = 2;

impl Poll<'_> {
    /// Polls once and writes down how it went.
    ///
    /// The recorded unique-ids, which may be many, are loaded while the server lists its own.
    pub async fn attempt(&self, course: &mut Course, report: &mut Report) -> Result<(), AttemptFailed> {
        course.begin();
        let (known, connected) = self.reach(course).await.map_err(AttemptFailed::plain)?;
        let mut server = Server::new(known.learned.as_deref(), self.account, self.now, &course.left_out);
        if course.goes_in_step() {
            server.go_in_step();
        }
        if self.environment.connector.watch().is_heard() {
            // Whoever watches wants to see what the server says.
            server.ask_again();
        }
        report.login_delay = server.login_delay();
        self.note_log_in(report);
        let closing = &mut Closing { at: self.now, ..Closing::default() };
        let mut notes = Notes { course, report, closing, server: &mut server };
        let store = &self.environment.store;
        let (memory, opened) =
            tokio::join!(store.begin(self.maildrop()), self.log_in(notes.lend(), &known, connected));
        // That the log-in succeeded is known with the listing at the latest.
        notes.report.logged_in = Some(self.began.elapsed());
        let logged_in = Instant::now();
        let memory = memory.during("read the state").map_err(AttemptFailed::plain)?;
        let mut result = match opened {
            Ok(opened) => self.listed(notes.lend(), opened, &memory).await,
            Err(end) => Err(end),
        };
        let Notes { course, report, closing, server } = notes;
        if let Err(end) = &mut result {
            course.say_why_it_broke(&mut end.aborted, closing);
        }
        if matches!(self.task, Task::DryRun(_) | Task::Check(_)) {
            let login = closing.login.take();
            self.remember_login(&known, login)
                .await
                .during("write the state")
                .map_err(AttemptFailed::plain)?;
            return result;
        }
        let (account, task, is_stopped) = (self.account, self.task, self.environment.stop.is_asked());
        course.end(result.as_ref().err(), &Ended { account, task, logged_in, is_stopped }, report);
        if result.is_ok()
            && let Some(failed) = course.left_undone()
        {
            result = Err(AttemptFailed::plain(failed));
        }
        if result.as_ref().is_err_and(|end| end.is_a_surprise(closing)) {
            server.ask_again();
        }
        closing.learned = Some(server.remembered()).filter(|learned| Some(learned) != known.learned.as_ref());
        if course.is_over() {
            self.write_down(result.as_ref().err(), known, report, closing);
        }
        let closed = store.close(&memory.key, &memory.entries, std::mem::take(closing)).await;
        result.and(closed.during("write the state").map_err(AttemptFailed::plain))
    }

    /// Reads what is known of the maildrop, and connects; side by side where nothing known could forbid it.
    async fn reach(&self, course: &Course) -> Result<(Maildrop, Result<Reached, Failed>), Failed> {
        let known = self.environment.store.maildrop(self.maildrop());
        if self.has_state {
            // Whoever is refused is not even called upon again.
            let known = known.await.during("read the state")?;
            let connected = self.connect(course, Some(&known)).await;
            Ok((known, connected))
        } else {
            let (known, connected) = tokio::join!(known, self.connect(course, None));
            Ok((known.during("read the state")?, connected))
        }
    }

    /// Writes down how a poll ended.
    fn write_down(
        &self,
        failed: Option<&AttemptFailed>,
        known: Maildrop,
        report: &mut Report,
        closing: &mut Closing,
    ) {
        report.failure = failed.map(|end| end.aborted.failure(self.account));
        let target = failed.and_then(|end| end.aborted.target(self.account));
        closing.poll = Some(PollResult { target, ..self.poll_result(report) });
        if let Task::Sync(_) = self.task {
            let before = self.environment.beside.merged(&self.account.name, known.told);
            let health = Health::of(failed.map_or(Ok(()), |end| Err(&end.aborted)), self.environment.host);
            let (heard, told) = told::polled(&before, health, report, self.now);
            (report.heard, closing.told) = (Some(heard), told);
        }
    }

    /// Gets the password or token and connects, unless it must not be tried.
    async fn connect(&self, course: &Course, memory: Option<&Maildrop>) -> Result<Reached, Failed> {
        if let (Task::Sync(_), true) = (self.task, course.is_first()) {
            if self.account.hooks.before.is_some() {
                self.progress.doing(Activity::RunningHookBefore);
            }
            hooks::before(self.account, &self.environment.stop).await.during("prepare the poll")?;
        }
        let connect = async {
            self.progress.doing(Activity::GettingPassword);
            // Secrets that were refused may be others by now.
            let look = match memory.and_then(|memory| memory.log_ins.refused.as_ref()) {
                Some(_) => Look::AtSecrets,
                None => Look::AtWhatIsKept,
            };
            let credentials = Credentials::of(self.account, self.environment, look).await?;
            if let Some(memory) = memory {
                self.may_try(course, credentials.identity(), memory).await?;
            }
            let unwanted = memory.map_or(Unwanted::None, |memory| unwanted(&memory.log_ins));
            self.reach_with(credentials, unwanted).await
        };
        self.unless_stopped("connect", connect).await
    }

    /// Gets a token where there is no password, and connects.
    async fn reach_with(&self, credentials: Credentials, unwanted: Unwanted<'_>) -> Result<Reached, Failed> {
        if let Credentials::Tokens { .. } = &credentials {
            self.progress.doing(Activity::GettingToken);
        }
        let watch = self.environment.connector.watch();
        let (identity, secret, age) = match credentials {
            Credentials::Password(password) => {
                watch.saw(|| Stage::Password);
                (password.clone(), password, Age::New)
            }
            Credentials::Tokens { identity } => match token(self.account, self.environment, unwanted).await {
                Ok(token) => {
                    watch.saw(|| credentials::stage(&token, self.environment));
                    let AccessToken { secret, age, .. } = token;
                    (identity, secret, age)
                }
                Err(error) => return no_token(self.account, identity, error),
            },
        };
        self.progress.doing(Activity::Connecting);
        let stream = self.environment.connector.connect(self.account).await.map_err(SourceFailed::from)?;
        Ok(Reached::Server { identity, secret, age, stream })
    }

    /// Logs in and lists, and notes a refusal of the credentials.
    async fn log_in(
        &self,
        mut notes: Notes<'_>,
        known: &Maildrop,
        reached: Result<Reached, Failed>,
    ) -> Result<Opened, AttemptFailed> {
        let mut reached = reached.map_err(AttemptFailed::plain)?;
        loop {
            let (identity, secret, age, stream) = match reached {
                Reached::Server { identity, secret, age, stream } => (identity, secret, age, stream),
                Reached::Provider { identity, at, refused } => {
                    let aborted = self.judge_provider(notes, (&identity, at), *refused, known).await;
                    return Err(AttemptFailed::plain(aborted));
                }
            };
            self.may_try(notes.course, &identity, known).await.map_err(AttemptFailed::plain)?;
            let opened = self.open(notes.lend(), &secret, stream).await.map_err(AttemptFailed::plain)?;
            let NotOpened { failed, suspect } = match opened {
                Ok(opened) => {
                    let attempted = Attempted::at_source(self.account, &identity);
                    let worked = lockout::worked(&attempted, &known.log_ins);
                    notes.closing.login = Some(LogIn::Worked(worked));
                    return Ok(opened);
                }
                Err(not_opened) => not_opened,
            };
            // It is tried again at once, so that this was no word on the password.
            if suspect.is_some() {
                return Err(AttemptFailed { suspect, aborted: failed.into() });
            }
            if age == Age::New || !failed.error.refuses_credentials() {
                let aborted = self.judge(notes, failed, (&identity, &secret), known).await;
                return Err(AttemptFailed::plain(aborted));
            }
            // It may have been revoked: one new one, once.
            log::info!("{}: server refuses the access token; getting a new one", self.account.name);
            let again = self.reach_with(Credentials::Tokens { identity }, Unwanted::This(&secret));
            reached = self.unless_stopped("connect", again).await.map_err(AttemptFailed::plain)?;
        }
    }

    /// Logs in with a secret, and lists.
    async fn open(
        &self,
        notes: Notes<'_>,
        secret: &Secret,
        stream: Stream,
    ) -> Result<Result<Opened, NotOpened>, Failed> {
        self.progress.doing(Activity::LoggingIn);
        // What is tried is remembered, or it would be tried each time.
        let trials = match self.task {
            Task::Sync(_) | Task::MarkAll(_) => Trials::Allowed,
            Task::DryRun(_) | Task::Check(_) => Trials::NotNow,
        };
        let login = Authorization::new(self.account, secret, notes.server, trials);
        let opened = Source::open(login, &self.environment.connector, stream);
        self.unless_stopped("log in", async { Ok(opened.await) }).await
    }

    /// Refuses to try what the server has refused.
    async fn may_try(&self, course: &Course, identity: &Secret, memory: &Maildrop) -> Result<(), Failed> {
        // What has logged in once in this poll is refused because its last session is not over yet.
        let retry = if course.is_first() { self.task.retry() } else { Retry::Now };
        let may =
            lockout::may_try(&Attempted::at_source(self.account, identity), &memory.log_ins, self.now, retry)
                .await;
        may.map_err(Trouble::LockedOut).during("log in")
    }

    /// Notes a refusal of the log-in, and says what it means.
    async fn judge(
        &self,
        notes: Notes<'_>,
        failed: SourceFailed,
        (identity, secret): (&Secret, &Secret),
        known: &Maildrop,
    ) -> Failed {
        let SourceFailed { doing, error } = failed;
        let RefusedLogIn { said, class, hint } = match error.refused_log_in() {
            Ok(refused) => refused,
            Err(error) => return SourceFailed { doing, error }.into(),
        };
        let said = masked(&said, &[secret]);
        let attempted = Attempted::at_source(self.account, identity);
        let (refused, refusal) =
            lockout::refused(&attempted, &known.log_ins, self.now, (&said, Word::Of(class))).await;
        if notes.course.is_first() || refusal.class != Class::InUse {
            notes.closing.login = Some(LogIn::Refused(refused));
        }
        Failed { doing, trouble: Trouble::LogInRefused { refusal, hint, at: None } }
    }

    /// Notes that a provider gives no token, and says what it means.
    async fn judge_provider(
        &self,
        notes: Notes<'_>,
        (identity, at): (&Secret, String),
        error: OAuth2Error,
        known: &Maildrop,
    ) -> Failed {
        let attempted = Attempted::at_source(self.account, identity);
        let said = error.full_said();
        let noted = lockout::refused(&attempted, &known.log_ins, self.now, (&said, Word::Certain));
        let (refused, refusal) = noted.await;
        notes.closing.login = Some(LogIn::Refused(refused));
        let hint = error.hint(&self.account.name);
        let doing = format!("get an access token for {}", self.account.user);
        Failed { doing, trouble: Trouble::LogInRefused { refusal, hint, at: Some(at) } }
    }

    /// A look changes nothing, but for the memory of refused log-ins: that is there to prevent lock-outs.
    async fn remember_login(&self, before: &Maildrop, login: Option<LogIn>) -> Result<(), StateError> {
        match login {
            Some(LogIn::Worked(_)) if before.log_ins.refused.is_none() => Ok(()),
            Some(outcome) => {
                let maildrop = self.account.maildrop_id.as_str().into();
                self.environment.store.logged_in(maildrop, self.now, outcome).await
            }
            None => Ok(()),
        }
    }

    /// Does the task, and notes what the server turned out to be like.
    async fn listed(
        &self,
        mut notes: Notes<'_>,
        mut opened: Opened,
        memory: &Memory,
    ) -> Result<(), AttemptFailed> {
        let had_unique_ids = memory.entries.has_unique_ids() && memory.naming.holes < REFUSED_UIDL;
        if let Some(refused) = opened.uidl_refused.take_if(|_| had_unique_ids) {
            // It had UIDL before, and may have it again; under other names every message must be asked for.
            let holes = memory.naming.holes + 1;
            notes.closing.naming = Some(Naming { holes, ..memory.naming.clone() });
            return Err(AttemptFailed::plain(refused.into()));
        }
        // What counts as seen may not be recorded in the end: the next poll is the first one then.
        let is_first = Policy::new(self.account, Limits::default(), self.now).is_first(memory);
        notes.closing.listed_at = Some(self.now).filter(|_| !is_first);
        let report = &mut *notes.report;
        if report.listed.is_none() {
            report.listed = Some(opened.listing.len());
            report.listed_octets = opened.listing.octets();
        }
        // Counted anew by each attempt.
        (report.held, report.left, report.beyond, report.nameless) = (0, 0, 0, 0);
        report.garbage = opened.listing.garbage();
        report.login_delay = opened.source.login_delay();
        self.note_log_in(report);
        let trial = opened.source.trial();
        // On the heap: the way here is long, and stacks are short.
        let ended = Box::pin(tasks::carry_out(self, notes.lend(), opened, memory)).await;
        let is_why = ended.is_ok() && !notes.course.broke_without && !notes.course.goes_in_step();
        notes.server.left_out_helped(if is_why { Helped::All } else { Helped::Opening });
        ended.map_err(|aborted| {
            let lost_step = || trial.filter(|_| aborted.is_of_source(SourceError::loses_step));
            AttemptFailed { suspect: notes.course.suspect().or_else(lost_step), aborted }
        })
    }

    /// Says that there is a log-in, where the server wants time before the next: before it, where that is known by then, and
    /// once it was answered, from where the time counts.
    fn note_log_in(&self, report: &Report) {
        if let Some(delay) = report.login_delay.filter(|delay| !delay.is_zero()) {
            self.progress.logs_in(delay);
        }
    }

    fn poll_result(&self, report: &Report) -> PollResult {
        let failure = report.failure.as_ref();
        PollResult {
            account: self.account.name.clone(),
            host: self.account.server(),
            failure: failure.map(|failure| (failure.class.name().to_string(), failure.to_string())),
            messages: report.delivered as u64,
            octets: report.delivered_octets,
            listed: report.listed.map(|listed| listed.saturating_sub(report.deleted) as u64),
            backlog: report.left as u64,
            target: None,
        }
    }
}
