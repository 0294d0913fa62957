//! The commands that the user has run around a poll.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Report;
use super::beside::Beside;
use super::news::{Change, Heard};
use super::summary::messages;
use super::trouble::{Health, HookError};
use crate::config::Account;
use crate::config::account::CommandLine;
use crate::failure::{Class, Failure};
use crate::net::process;
use crate::state::Subject;
use crate::stop::{self, Stop};
use crate::text::{Shown, shell_word};

/// How long a hook may take.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Lines of a hook that are told.
const MOST_LINES: usize = 100;

/// What hooks are told of a poll.
#[derive(Debug, Clone, Copy, Default)]
struct Facts<'a> {
    delivered: usize,
    failure: Option<&'a Failure>,
}

/// Runs the hook before a poll; where it fails, there is none.
pub(super) async fn before(account: &Account, stop: &Stop) -> Result<(), HookError> {
    match &account.hooks.before {
        Some(line) => run("before", line, account, Facts::default(), stop).await,
        None => Ok(()),
    }
}

/// Runs the hooks after a poll, one after the other. What goes wrong is told and changes nothing.
pub(super) async fn after(beside: &mut Beside<'_>, health: Health, report: &Report) {
    let (account, environment) = (beside.account, beside.environment);
    let hooks = &account.hooks;
    let Heard { polls: (polls, _), held: (held, _), .. } = report.heard.unwrap_or_default();
    let is_open = health == Health::Open;
    // One trouble may be over while another lasts, or begins.
    let is_well = report.failure.is_none()
        && [Subject::Polls, Subject::Held].into_iter().all(|what| beside.lasting(what).is_none());
    let held_ones = report.failure.is_none().then(|| held_ones(report));
    let failure = report.failure.as_ref().or(held_ones.as_ref().filter(|_| held == Change::Began));
    // Whoever stopped it did not fail.
    let failed = report.failure.as_ref().filter(|failure| failure.class != Class::Stopped);
    let due = [
        (Subject::After, &hooks.after, failed, true),
        (Subject::OnNew, &hooks.on_new, failed, report.delivered > 0),
        (Subject::OnError, &hooks.on_error, failure, !is_open && (polls, held).begins()),
        (Subject::OnRecover, &hooks.on_recover, None, is_well && !is_open && (polls, held).ends()),
    ];
    for (what, line, failure, due) in due {
        let (Some(line), true) = (line, due) else { continue };
        let hook = what.name();
        let facts = Facts { delivered: report.delivered, failure };
        let place = tokio::select! {
            biased;
            place = environment.beside.place() => Some(place),
            () = environment.stop.asked() => None,
        };
        if place.is_none() {
            // All together would be too many, and one after the other too late.
            beside.failed(what, format_args!("the hook `{hook}` was not run: the process was asked to end"));
            continue;
        }
        match run(hook, line, account, facts, &environment.stop).await {
            Ok(()) => beside.worked(what, format_args!("the hook `{hook}` works again")),
            Err(error) => beside.failed(what, format_args!("{error}")),
        }
    }
}

/// Whether one of several things has changed.
trait Changes {
    fn begins(self) -> bool;
    fn ends(self) -> bool;
}

impl Changes for (Change, Change) {
    fn begins(self) -> bool {
        self.0 == Change::Began || self.1 == Change::Began
    }

    fn ends(self) -> bool {
        self.0 == Change::Ended || self.1 == Change::Ended
    }
}

/// Says in the words of a failure that messages are held.
pub(super) fn held_ones(report: &Report) -> Failure {
    Failure {
        account: report.account.clone(),
        host: report.host.clone(),
        doing: String::new(),
        class: Class::Message,
        what: format!("{} held", messages(report.held)),
        said: None,
        hint: Some(format!("`postrider held list {}` shows why", shell_word(&report.account))),
    }
}

async fn run(
    hook: &'static str,
    line: &CommandLine,
    account: &Account,
    facts: Facts<'_>,
    stop: &Stop,
) -> Result<(), HookError> {
    let name = line.to_string();
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
    let ended = tokio::select! {
        ended = process::run(command, |output| process::each_line(output, told), told) => ended.map(Some),
        () = tokio::time::sleep(LONGEST) => Ok(None),
        () = stop.over(stop::HOOK) => Ok(None),
    };
    let (_, words) = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
    match ended {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(HookError::Failed { hook, command: name, status: status.to_string(), words }),
        // Dropping the future has ended the process group.
        Ok(None) => {
            let after = if stop.is_asked() { stop::HOOK } else { LONGEST };
            Err(HookError::TimedOut { hook, command: name, after })
        }
        Err(source) => Err(HookError::Start { hook, command: name, source }),
    }
}
