//! One poll of one account: the only place that knows source, sink and store together.
//!
//! [`run`] takes the lease on the maildrop and polls. A poll is one session, from SYN to QUIT, after another as long as each
//! brings something on. What goes wrong is a `trouble` until it becomes the [`Failure`] that the user reads.
//!
//! | file | what it is |
//! |---|---|
//! | `attempt` | one session: connect, log in and list, carry the task out, remember |
//! | `tasks` | check, dry run, mark all, sync: four functions over the stages of `turn` and `skip` |
//! | `book`, `which`, `sort`, `naming` | which message of a listing is which of those that are recorded |
//! | `plan`, `policy` | what is to be done with each, and what may be (pure) |
//! | `fetch`, `fetched`, `commit`, `transfer` | messages into drafts; durable and visible, recorded, proven; both side by side |
//! | `fan`, `ledger` | the same for several targets: each at its own speed; who has what |
//! | `held`, `waits`, `short` | what could not be had or delivered, when it is tried again; what came short |
//! | `course`, `lockout` | what follows a session; when a log-in that was refused may be tried again |
//! | `credentials`, `target` | a password, or tokens in its place; opens a target, unless its log-in was refused lately |
//! | `task`, `environment`, `poll`, `notes` | what a poll is told, what it goes by, and what it notes |
//! | `report`, `summary`, `trouble` | what came of it |
//! | `news`, `told`, `beside`, `hooks`, `notice` | what people hear of it, once |
//!
//! [`Failure`]: crate::failure::Failure

mod attempt;
mod beside;
mod book;
mod commit;
mod course;
mod credentials;
mod environment;
mod fan;
mod fetch;
mod fetched;
mod held;
mod hooks;
mod ledger;
mod lockout;
mod naming;
mod news;
mod notes;
mod notice;
mod plan;
mod policy;
mod poll;
pub mod report;
mod short;
mod skip;
mod sort;
pub mod summary;
mod target;
mod task;
mod tasks;
mod told;
mod transfer;
mod trouble;
mod turn;
mod waits;
mod which;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Account;
use crate::config::account::Hooks;
use crate::credential::oauth2::Renewals;
use crate::failure::Class;
use crate::source::Server;
use crate::state::{Maildrop, StateError, Taken, Timestamp};

use beside::Beside;
use course::{Course, Next};
use poll::Poll;
use target::open_target;
use trouble::{AttemptFailed, During, Failed, Health, Trouble};

pub use crate::clock::WallClock;
pub use crate::secret::Ask;
pub use environment::{Environment, server};
pub use report::{Activity, Answer, Befell, Host, Planned, Progress, Report};
pub use target::examine;
pub use task::{Budget, Limits, MayDelete, Retry, Task};
pub use told::{Audience, log_report};

/// A wait that a person does not wonder about.
const UNNOTICED: Duration = Duration::from_secs(1);

/// Polls an account, does what the user wants done after that, and says how it went; never panics for anything from
/// outside, never fails without a [`crate::failure::Failure`] in the report.
///
/// The future is a `dyn Future`, so that whoever awaits it in another crate does not compile all of a session once more.
pub fn run<'a>(
    account: &'a Account,
    environment: &'a Environment,
    task: Task,
    progress: &'a dyn Progress,
) -> Pin<Box<dyn Future<Output = Report> + Send + 'a>> {
    Box::pin(async move {
        let polled = poll(account, environment, task, progress).await;
        let Hooks { after, on_new, on_error, on_recover, .. } = &account.hooks;
        if matches!(task, Task::Sync(_))
            && [after, on_new, on_error, on_recover].iter().any(|hook| hook.is_some())
        {
            progress.doing(Activity::RunningHooksAfter);
        }
        polled.follow_up(account, environment).await
    })
}

/// Gives the LOGIN-DELAY that the server of a maildrop announced when it was last polled.
pub fn login_delay(known: &Maildrop) -> Option<Duration> {
    Server::announced_delay(known.learned.as_deref()?)
}

/// A poll that is over; what is to be done after it is not.
#[derive(Debug)]
pub struct Polled {
    report: Report,
    task: Task,
    health: Health,
}

/// Polls alone. A server that does not take what was tried with it is asked again at once without.
pub async fn poll(
    account: &Account,
    environment: &Environment,
    task: Task,
    progress: &dyn Progress,
) -> Polled {
    let began = Instant::now();
    let mut report = Report { account: account.name.clone(), host: account.server(), ..Report::default() };
    let ended = match environment.of(account).during("use the target") {
        Ok(own) => {
            let own = Environment { renewals: Renewals::default(), ..own };
            under_lease(account, own, task, progress, began, &mut report).await
        }
        // Work that still waits for an answer has the state's lease, but not the state.
        Err(aborted) => Err(aborted),
    };
    // A host that let somebody in and listed is there, whatever broke the session afterwards.
    let has_listed = report.listed.is_some();
    let host = if has_listed { Host::Unknown } else { environment.host };
    let health = Health::of(ended.as_ref().map(drop), host);
    report.answer = match ended.as_ref().map_err(Failed::answer) {
        Err(answer) if !has_listed => answer,
        Ok(()) | Err(_) => Answer::Answered,
    };
    let is_over = environment.stop.term().is_over();
    report.befell = ended.as_ref().err().and_then(Failed::befell).or(is_over.then_some(Befell::Worker));
    let until = ended.as_ref().err().and_then(Failed::refused_until);
    let now = environment.clock.now();
    report.refused_for =
        until.map(|until| Duration::from_secs(u64::try_from(until.saturating_sub(now)).unwrap_or(0)));
    report.failure = ended.err().map(|aborted| aborted.failure(account));
    report.took = began.elapsed();
    let is_written = report.heard.is_some() && !is_of_state(&report);
    match task {
        // What another worker may be writing by now is none of our business.
        Task::Sync(_) if report.befell.is_some() => {}
        Task::Sync(_) if is_written => environment.beside.forget(&account.name),
        Task::Sync(_) => unwritten(account, environment, health, &mut report).await,
        Task::DryRun(_) | Task::Check(_) | Task::MarkAll(_) => {}
    }
    Polled { report, task, health }
}

impl Polled {
    /// Says how the poll went, as far as it has.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Runs the hooks after the poll, and delivers a notice if one is due: for minutes, maybe, but without the server.
    /// Of one process's accounts not more than 64 do so at once, so that hooks that hang do not fill the machine.
    pub async fn follow_up(self, account: &Account, environment: &Environment) -> Report {
        let Self { report, task, health } = self;
        if matches!(task, Task::Sync(_))
            && (account.hooks != Hooks::default() || environment.notify.is_some())
            && report.befell.is_none()
            && !environment.stop.term().is_over()
        {
            let mut beside = Beside::of(account, environment).await;
            hooks::after(&mut beside, health, &report).await;
            if let (Some(notify), Health::Fails | Health::Works) = (&environment.notify, health) {
                notice::notify(&mut beside, notify, &report).await;
            }
            beside.write().await;
        }
        report
    }
}

fn is_of_state(report: &Report) -> bool {
    report.failure.as_ref().is_some_and(|failure| failure.class == Class::State)
}

/// Remembers what was told of a poll that could not close the state: that another one has the maildrop is written, that
/// the state itself fails is remembered as long as this process lasts.
async fn unwritten(account: &Account, environment: &Environment, health: Health, report: &mut Report) {
    let maildrop: Arc<str> = account.maildrop_id.as_str().into();
    let fails = is_of_state(report);
    let store = &environment.store;
    let written =
        if fails { Vec::new() } else { store.maildrop(maildrop.clone()).await.unwrap_or_default().told };
    let before = environment.beside.merged(&account.name, written);
    let (heard, told) = told::polled(&before, health, report, environment.clock.now());
    report.heard = Some(heard);
    if fails || store.tell(maildrop, told.clone()).await.is_err() {
        environment.beside.keep(&account.name, told);
    }
}

async fn under_lease(
    account: &Account,
    environment: Environment,
    task: Task,
    progress: &dyn Progress,
    began: Instant,
    report: &mut Report,
) -> Result<(), Failed> {
    let waiting = Instant::now();
    let taken = tokio::select! {
        taken = lease(&environment, account, progress) => taken,
        () = environment.stop.asked() => {
            return Err(Failed { doing: "lock the maildrop".into(), trouble: Trouble::Stopped });
        }
    };
    let lease = match taken.during("lock the maildrop")? {
        Taken::Own(lease) => lease,
        Taken::Others(by) => {
            // In whole seconds, as whoever reads it has no use for more.
            let waited = account.timeout.max(Duration::from_secs(waiting.elapsed().as_secs()));
            let trouble = Trouble::Leased { waited, by };
            return Err(Failed { doing: "lock the maildrop".into(), trouble });
        }
    };
    let environment = environment.under(&lease);
    let now = environment.clock.now();
    let has_state = lease.found_state();
    let poll = Poll { account, environment: &environment, task, progress, now, began, has_state };
    let ended = tokio::select! {
        biased;
        // What is under way is dropped: drafts leave no trace, and the server hears no QUIT (RFC 1939, 6: without one no
        // message is removed).
        () = environment.stop.term().over() => {
            Err(Failed { doing: "poll".into(), trouble: Trouble::LeaseLost })
        }
        ended = retrying(poll, report) => ended,
    };
    environment.leave(lease);
    ended
}

/// Polls, and again without what the server does not bear, or to go on.
async fn retrying(mut poll: Poll<'_>, report: &mut Report) -> Result<(), Failed> {
    let Poll { account, environment, .. } = poll;
    let mut course = Course::new();
    loop {
        let ended = Box::pin(poll.attempt(&mut course, report)).await;
        poll.has_state = true;
        match (course.next, ended) {
            (Next::Attempt, Err(AttemptFailed { suspect: Some(trial), aborted })) => {
                log::info!("{}: {}; trying again {}", account.name, aborted.trouble, trial.left_out());
                course.left_out.push(trial);
            }
            (Next::Session(pause), ended) => {
                match ended {
                    Err(end) => {
                        log::info!("{}: {}; going on in a new session", account.name, end.aborted.trouble);
                        course.keep(Some(end.aborted));
                    }
                    Ok(()) => {
                        log::info!("{}: going on in a new session", account.name);
                        course.keep(None);
                    }
                }
                poll.unless_stopped("wait for the next session", async {
                    tokio::time::sleep(pause).await;
                    Ok(())
                })
                .await?;
                poll.now = environment.clock.now();
            }
            (Next::Later(delay), Ok(())) => {
                log::warn!(
                    "{}: the rest waits for the next poll, since the server wants {} between two log-ins",
                    account.name,
                    humantime::format_duration(delay)
                );
                return Ok(());
            }
            (Next::End | Next::Later(_) | Next::Attempt, ended) => return ended.map_err(|end| end.aborted),
        }
    }
}

/// Takes the lease on an account's maildrop, and says so if that is a matter of waiting, for as long as the account's
/// `timeout`, and until the lease is over of a worker that is not heard of any more.
///
/// # Errors
///
/// The lock beside the state file, or the row in the database, cannot be had.
pub async fn lease(
    environment: &Environment,
    account: &Account,
    progress: &dyn Progress,
) -> Result<Taken, StateError> {
    let lease = environment.lease(account, account.timeout);
    let mut lease = std::pin::pin!(lease);
    if let Ok(taken) = tokio::time::timeout(UNNOTICED, &mut lease).await {
        return taken;
    }
    progress.doing(Activity::WaitingForLease);
    log::info!("{}: {}", account.name, Activity::WaitingForLease);
    lease.await
}

/// Gives the system's time as the state keeps it.
pub fn now() -> Timestamp {
    WallClock::System.now()
}
