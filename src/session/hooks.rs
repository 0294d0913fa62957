//! The commands that the user has run around a poll.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use log::Level;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::told::Told;
use super::trouble::Verdict;
use super::{Environment, Report, stopped};
use crate::config::Account;
use crate::config::account::CommandLine;
use crate::failure::Failure;
use crate::net::process;
use crate::text::Shown;

/// How long a hook may take.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How long it still may take once the process was asked to end.
const WIND_DOWN: Duration = Duration::from_secs(2);
/// Hooks after sessions, and notices, that are under way at once: as many as there are sessions where nothing else is
/// configured.
const AT_ONCE: usize = 64;
/// Lines of a hook that are told.
const MOST_LINES: usize = 100;

/// What fails, as far as this process knows, and room for what is done about it.
#[derive(Debug, Clone, Default)]
pub struct Failing(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    /// For hooks after sessions and for notices.
    places: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    /// The accounts whose last poll failed: what has no state file to be remembered in, or failed before it was reached,
    /// is told once all the same.
    polls: HashSet<String>,
    /// Hooks and notices.
    told: Told,
}

impl Default for Shared {
    fn default() -> Self {
        Self { known: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It cannot be run.
    #[error("cannot run the hook `{hook}` ({command}): {source}")]
    Start {
        /// `before`, ...
        hook: &'static str,
        /// The program.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("the hook `{hook}` ({command}) failed: {status}{words}")]
    Failed {
        /// `before`, ...
        hook: &'static str,
        /// The program.
        command: String,
        /// Its exit status or signal.
        status: String,
        /// A colon and the last line that it wrote, if it wrote one.
        words: String,
    },
    /// It was ended at its time limit, or because the process was asked to end.
    #[error("the hook `{hook}` ({command}) had not ended after {}", humantime::format_duration(*.after))]
    TimedOut {
        /// `before`, ...
        hook: &'static str,
        /// The program.
        command: String,
        /// How long it had.
        after: Duration,
    },
}

/// What hooks are told of a poll.
#[derive(Debug, Clone, Copy, Default)]
struct Facts<'a> {
    delivered: usize,
    failure: Option<&'a Failure>,
}

/// Runs the hook before a poll; where it fails, there is none.
pub(super) async fn before(account: &Account, stop: &watch::Receiver<bool>) -> Result<(), HookError> {
    match &account.hooks.before {
        Some(line) => run("before", line, account, Facts::default(), stop).await,
        None => Ok(()),
    }
}

/// Says whether the poll before this one failed, if a hook wants to know.
pub(super) async fn was_failing(account: &Account, environment: &Environment) -> bool {
    if account.hooks.on_error.is_none() && account.hooks.on_recover.is_none() {
        return false;
    }
    if environment.failing.knows(&account.name) {
        return true;
    }
    match environment.store.health(account.maildrop_id.as_str().into()).await {
        Ok(health) => health.failures > 0,
        // The poll is going to meet it, and tells it.
        Err(_) => false,
    }
}

/// Runs the hooks after a poll, one after the other. What goes wrong is told and changes nothing.
pub(super) async fn after(
    account: &Account,
    environment: &Environment,
    was_failing: bool,
    verdict: Verdict,
    report: &Report,
) {
    let hooks = &account.hooks;
    let failure = report.failure.as_ref();
    environment.failing.note(&account.name, verdict);
    let due = [
        ("after", &hooks.after, true),
        ("on_new", &hooks.on_new, report.delivered > 0),
        ("on_error", &hooks.on_error, verdict == Verdict::Fails && !was_failing),
        ("on_recover", &hooks.on_recover, verdict == Verdict::Works && was_failing),
    ];
    let facts = Facts { delivered: report.delivered, failure };
    for (hook, line, due) in due {
        let (Some(line), true) = (line, due) else { continue };
        let mut stop = environment.stop.clone();
        let place = tokio::select! {
            biased;
            place = environment.failing.place() => Some(place),
            () = stopped(&mut stop) => None,
        };
        if place.is_none() {
            // All together would be too many, and one after the other too late.
            let words = format_args!("the hook `{hook}` was not run: the process was asked to end");
            environment.failing.failed(account, hook, words);
            continue;
        }
        match run(hook, line, account, facts, &environment.stop).await {
            Ok(()) => {
                environment.failing.worked(account, hook, format_args!("the hook `{hook}` works again"))
            }
            Err(error) => environment.failing.failed(account, hook, format_args!("{error}")),
        }
    }
}

async fn run(
    hook: &'static str,
    line: &CommandLine,
    account: &Account,
    facts: Facts<'_>,
    stop: &watch::Receiver<bool>,
) -> Result<(), HookError> {
    let name = process::name(line);
    let mut command = process::command(line);
    command.env("POSTRIDER_ACCOUNT", &account.name);
    command.env("POSTRIDER_NEW", facts.delivered.to_string());
    command.env("POSTRIDER_ERROR", facts.failure.map(Failure::to_string).unwrap_or_default());
    command.env("POSTRIDER_CLASS", facts.failure.map_or("", |failure| failure.class.name()));
    log::info!("{}: running the hook `{hook}`: {name}", account.name);
    // Its output and its errors are heard side by side.
    let heard = Mutex::new((0, String::new()));
    let told = |line: &[u8]| {
        let line = Shown(line);
        let (lines, last) = &mut *heard.lock().unwrap_or_else(PoisonError::into_inner);
        *lines += 1;
        if *lines <= MOST_LINES {
            log::info!("{}: {hook}: {line}", account.name);
        }
        *last = format!(": {line}");
    };
    let mut asked_to_end = stop.clone();
    let wound_down = async {
        stopped(&mut asked_to_end).await;
        tokio::time::sleep(WIND_DOWN).await;
    };
    let ended = tokio::select! {
        ended = process::run(command, |output| process::each_line(output, told), told) => ended.map(Some),
        () = tokio::time::sleep(LONGEST) => Ok(None),
        () = wound_down => Ok(None),
    };
    let (_, words) = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
    match ended {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(HookError::Failed { hook, command: name, status: status.to_string(), words }),
        // Dropping the future has ended the process group.
        Ok(None) => {
            let after = if *stop.borrow() { WIND_DOWN } else { LONGEST };
            Err(HookError::TimedOut { hook, command: name, after })
        }
        Err(source) => Err(HookError::Start { hook, command: name, source }),
    }
}

impl Failing {
    fn knows(&self, account: &str) -> bool {
        self.lock().polls.contains(account)
    }

    fn note(&self, account: &str, verdict: Verdict) {
        let polls = &mut self.lock().polls;
        match verdict {
            Verdict::Fails => drop(polls.insert(account.to_owned())),
            Verdict::Works => drop(polls.remove(account)),
            Verdict::Open => {}
        }
    }

    /// Tells that something around the polls of an account failed, unless that is no news.
    pub(super) fn failed(&self, account: &Account, what: &'static str, words: fmt::Arguments<'_>) {
        let news = self.lock().told.failed(Instant::now(), &account.name, what);
        let level = if news { Level::Warn } else { Level::Info };
        log::log!(level, "{}: {words}", account.name);
    }

    /// Tells that it works again, if that is news.
    pub(super) fn worked(&self, account: &Account, what: &'static str, words: fmt::Arguments<'_>) {
        if self.lock().told.worked(Instant::now(), &account.name, what) {
            log::warn!("{}: {words}", account.name);
        }
    }

    /// Waits for a place, first come, first served.
    pub(super) async fn place(&self) -> SemaphorePermit<'_> {
        self.0.places.acquire().await.expect("nobody closes it")
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing that holds it can panic half-way.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
