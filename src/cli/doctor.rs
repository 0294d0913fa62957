//! `postrider doctor`: goes through the stages of a session and of opening the target, and says what it sees at each.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::accounts::{add_rows, chosen};
use super::exit::Exit;
use super::report::{Octets, Took, checked};
use super::stdout::Results;
use super::{CliError, Common, progress};
use crate::config::target::Destination;
use crate::config::{Account, Config};
use crate::daemon::signals;
use crate::failure::Failure;
use crate::net::{Connector, Watch, Watched};
use crate::session::{self, Environment, Report, Retry, Task};
use crate::text::Shown;

#[derive(Debug, Args)]
pub struct Doctor {
    /// Accounts of the configuration [default: all that are enabled]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,
    /// Print one object a step, as it ends
    #[arg(long)]
    json: bool,
}

/// One step, as JSON; the manual describes the fields, and their names stay.
#[derive(Debug, Serialize)]
struct Step<'a> {
    account: &'a str,
    /// The maildrop's server, or the target.
    at: &'a str,
    step: &'a str,
    ok: bool,
    seen: String,
    seconds: f64,
    server: Option<String>,
    hint: Option<&'a str>,
}

impl Doctor {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let mut config = Config { notify: None, ..common.load()? };
        add_rows(&mut config, &self.accounts).await?;
        let chosen = chosen(&mut config, &self.accounts)?;
        let shared = Environment::of_config(&config).await?;
        let stop = signals::stop(Exit::LATER.number());
        let mut worst = Exit::SUCCESS;
        for (index, account) in chosen.iter().enumerate() {
            if stop.is_asked() {
                return Ok(worst.max(Exit::LATER));
            }
            if index > 0 && !self.json {
                results.line("");
            }
            let (watch, heard) = Watch::channel();
            let environment = Environment {
                stop: stop.clone(),
                ask: progress::ask(),
                connector: Connector::watched(watch),
                ..shared.clone()
            };
            let mut page = Page { account, at: account.server(), json: self.json, results, heard };
            let examined = page.maildrop(&environment).await;
            worst = worst.max(examined);
            for to in account.deliver.iter().chain(&account.refused) {
                worst = worst.max(page.target(to, &environment).await);
            }
        }
        Ok(worst)
    }
}

/// What is written about one account.
struct Page<'a> {
    account: &'a Arc<Account>,
    /// What the steps are about.
    at: String,
    json: bool,
    results: &'a mut Results,
    heard: UnboundedReceiver<Watched>,
}

impl Page<'_> {
    /// Logs in to the maildrop and lists it, as `check` does.
    async fn maildrop(&mut self, environment: &Environment) -> Exit {
        let at = self.at.clone();
        self.heading(format_args!("{}: {} at {at}", self.account.name, Shown(self.account.user.as_bytes())));
        let account = Arc::clone(self.account);
        let check = session::run(&account, environment, Task::Check(Retry::Now), &());
        let (report, since) = self.watching(check).await;
        match &report.failure {
            Some(failure) => self.failed(failure, since),
            None => self.mail(&report, since),
        }
        Exit::of_failures(&[report])
    }

    fn mail(&mut self, report: &Report, since: Instant) {
        let Some(counted) = checked(report) else { return };
        let counted = counted.split_once(": ").map_or(counted.as_str(), |(_, counted)| counted);
        self.step("mail", counted, since.elapsed());
    }

    /// Opens a target as a poll does; sends no mail.
    async fn target(&mut self, to: &Destination, environment: &Environment) -> Exit {
        self.at = to.to_string();
        let at = self.at.clone();
        self.heading(format_args!("{}: target {at}", self.account.name));
        let account = Arc::clone(self.account);
        let examine = session::examine(&account, to, environment, Retry::Now);
        let (examined, since) = self.watching(examine).await;
        match examined {
            Ok(directories) => {
                for (directory, free) in directories {
                    let seen = format!("{} can be written into, {} free", directory.display(), Octets(free));
                    self.step("directory", seen, since.elapsed());
                }
                Exit::SUCCESS
            }
            Err(failure) => {
                self.failed(&failure, since);
                Exit::of_class(failure.class)
            }
        }
    }

    /// Writes each stage as it is over, until the work is done; gives when the last one was.
    async fn watching<T>(&mut self, work: impl Future<Output = T>) -> (T, Instant) {
        let mut since = Instant::now();
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                Some(watched) = self.heard.recv() => since = self.stage(&watched, since),
                done = &mut work => break done,
            }
        };
        while let Ok(watched) = self.heard.try_recv() {
            since = self.stage(&watched, since);
        }
        (done, since)
    }

    fn stage(&mut self, watched: &Watched, since: Instant) -> Instant {
        self.step(watched.stage.name(), &watched.stage, watched.at.saturating_duration_since(since));
        watched.at
    }

    fn heading(&mut self, heading: impl Display) {
        if !self.json {
            self.results.line(heading);
            self.results.flush();
        }
    }

    fn step(&mut self, name: &str, seen: impl Display, took: Duration) {
        let seen = seen.to_string();
        if self.json {
            self.object(name, seen, took, None);
        } else {
            self.lines(&beside("ok", name, took), &seen);
        }
        self.results.flush();
    }

    fn failed(&mut self, failure: &Failure, since: Instant) {
        let took = since.elapsed();
        if self.json {
            self.object(&failure.doing, failure.what.clone(), took, Some(failure));
        } else {
            let said = failure.said.as_deref().map(|said| format!("server: {}", Shown(said)));
            let hint = failure.hint.as_deref().map(|hint| format!("what to do: {hint}"));
            let what = format!("{}: {}", failure.doing, failure.what);
            let words: Vec<_> = [Some(what), said, hint].into_iter().flatten().collect();
            self.lines(&beside("FAILED", "", took), &words.join("\n"));
        }
        self.results.flush();
    }

    fn object(&mut self, step: &str, seen: String, took: Duration, failure: Option<&Failure>) {
        let object = Step {
            account: &self.account.name,
            at: &self.at,
            step,
            ok: failure.is_none(),
            seen,
            seconds: (took.as_secs_f64() * 1e3).round() / 1e3,
            server: failure.and_then(|failure| failure.said.as_deref()).map(|said| Shown(said).to_string()),
            hint: failure.and_then(|failure| failure.hint.as_deref()),
        };
        self.results.line(serde_json::to_string(&object).expect("strings and numbers are always JSON"));
    }

    fn lines(&mut self, beside: &str, words: &str) {
        let width = if io::stdout().is_terminal() { NARROW } else { usize::MAX };
        for line in laid_out(beside, words, width) {
            self.results.line(line);
        }
    }
}

/// A terminal is at least so wide.
pub(super) const NARROW: usize = 80;

/// Gives what stands beside the words of a step: how it went, its name, and how long it took.
fn beside(mark: &str, name: &str, took: Duration) -> String {
    format!("  {mark:<6} {name:<12} {:>9}  ", Took(took).to_string())
}

/// Puts words beside their step, in lines of at most so many characters where they have blanks.
pub(super) fn laid_out(beside: &str, words: &str, width: usize) -> Vec<String> {
    let indent = " ".repeat(beside.chars().count());
    let mut lines = Vec::new();
    let mut line = beside.to_owned();
    for paragraph in words.lines() {
        let mut separator = "";
        for word in paragraph.split(' ') {
            let is_full = line.chars().count() + 1 + word.chars().count() > width;
            if is_full && !separator.is_empty() {
                lines.push(std::mem::replace(&mut line, indent.clone()));
                separator = "";
            }
            line.push_str(separator);
            line.push_str(word);
            separator = " ";
        }
        lines.push(std::mem::replace(&mut line, indent.clone()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_broken_at_blanks_and_stay_below_each_other() {
        let beside = beside("ok", "greeting", Duration::from_millis(12));
        let lines = laid_out(&beside, "one two three\nfour", 41);
        let expected = [
            "  ok     greeting         12 ms  one two",
            "                                 three",
            "                                 four",
        ];
        assert_eq!(lines, expected);
        assert_eq!(laid_out(&beside, "one two three\nfour", usize::MAX).len(), 2);
        assert_eq!(laid_out("  ", "unbreakable-and-long", 5), ["  unbreakable-and-long"]);
    }
}
