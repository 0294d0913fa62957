//! `postrider sync`: polls accounts once.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use log::Level;

use super::accounts::{OfUrl, add_rows, address_hint, chosen, is_row, is_url, retry};
use super::exit::Exit;
use super::progress::Bars;
use super::stdout::Results;
use super::{CliError, Common, confine, poll, report};
use crate::config::{Account, Config, ConfigError};
use crate::sandbox::{self, Missing, Purpose};
use crate::session::{Limits, MayDelete, Report, Retry, Task};

#[derive(Debug, Args)]
#[command(override_usage = "postrider sync [OPTIONS] [ACCOUNT]...\n       \
                            postrider sync [OPTIONS] URL --deliver TARGET [--tls MODE] [--password-command COMMAND]")]
pub struct Sync {
    /// Accounts of the configuration [default: all that are enabled], or one URL: pop://USER@HOST, pops://USER@HOST
    #[arg(value_name = "ACCOUNT|URL")]
    accounts: Vec<String>,
    /// Say what would be fetched and deleted, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Fetch at most N messages of each account
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Delete nothing on the server this time
    #[arg(long)]
    keep: bool,
    /// Try a log-in that the server refused once more now, before its wait is over
    #[arg(long)]
    force: bool,
    /// Print one result object an account, each as it ends
    #[arg(long)]
    json: bool,
    /// With a URL: where messages go: maildir:~/Mail, mbox:PATH, pipe:COMMAND, smtp://HOST?to=ADDRESS, lmtp:SOCKET?to=ADDRESS,
    /// imaps://USER@HOST, https://HOST/PATH; given more than once, to each of them
    #[arg(long, value_name = "TARGET")]
    deliver: Vec<String>,
    #[command(flatten)]
    of_url: OfUrl,
}

impl Sync {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let begun = Instant::now();
        let config = self.config(common)?;
        let reports = self
            .reports(config, common, |report| {
                if self.json {
                    results.line(report::json(report));
                    results.flush();
                }
            })
            .await?;
        // Elsewhere than on a terminal what went well is not worth a word: cron would send it by mail.
        let summary = common.verbose > 0 || io::stdout().is_terminal() && !common.quiet;
        match (self.json, self.dry_run) {
            (true, _) => {}
            (false, true) => reports.iter().flat_map(report::planned).for_each(|line| results.line(line)),
            (false, false) if summary => {
                reports.iter().for_each(|report| results.line(report::synced(report)));
                if reports.len() > 1 {
                    results.line(report::all_synced(&reports, begun.elapsed()));
                }
            }
            (false, false) => {}
        }
        Ok(Exit::of(&reports))
    }

    async fn reports(
        &self,
        mut config: Config,
        common: &Common,
        ended: impl FnMut(&Report),
    ) -> Result<Vec<Report>, CliError> {
        // A URL's account has another name, and is the only one.
        let names = if self.is_url() { &[][..] } else { &self.accounts };
        let (rows, of_file): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| is_row(name));
        let mut accounts = match rows.is_empty() || !of_file.is_empty() {
            true => chosen(&mut config, &of_file)?,
            false => Vec::new(),
        };
        self.confine(&config, &accounts, &rows);
        if !rows.is_empty() {
            add_rows(&mut config, &rows).await?;
            accounts.extend(chosen(&mut config, &rows)?);
        }
        accounts.iter().filter(|account| !account.enabled).for_each(|account| {
            let level = if io::stderr().is_terminal() { Level::Warn } else { Level::Info };
            log::log!(level, "{}: not enabled: polled only because it was named", account.name);
        });
        let bars = if self.json { Bars::none() } else { Bars::new(common, accounts.len()) };
        poll::accounts(&accounts, &config, self.task(), bars, ended).await
    }

    /// Confines the process to what these accounts need, before anything that might start a thread.
    fn confine(&self, config: &Config, accounts: &[Arc<Account>], rows: &[String]) {
        let whole = Purpose::of(config);
        let purpose = Purpose {
            accounts: accounts.iter().map(Arc::as_ref).collect(),
            fleet: if rows.is_empty() { Vec::new() } else { whole.fleet },
            metrics: None,
            served: Vec::new(),
            ..whole
        };
        let missing = if self.dry_run { Missing::Left } else { confine::MADE };
        sandbox::enter(config.sandbox, missing, &purpose);
    }

    /// Reads the configuration, or makes one of a URL.
    fn config(&self, common: &Common) -> Result<Config, CliError> {
        if !self.is_url() {
            if !self.deliver.is_empty() || self.of_url.is_given() {
                let instead = self.accounts.first().and_then(|name| address_hint(name, &[]));
                let instead =
                    instead.unwrap_or_else(|| "a URL is pops://USER@HOST or pop://USER@HOST".into());
                return Err(CliError::Usage(format!(
                    "--deliver, --tls and --password-command go with a URL only; {instead}"
                )));
            }
            return common.load().map_err(|error| {
                // Somebody's first try. Without any configuration a URL is what works.
                let hint = self.accounts.first().and_then(|name| address_hint(name, &[]));
                match hint.filter(|_| matches!(error, ConfigError::NotFound { .. })) {
                    Some(hint) => CliError::Unconfigured { error, hint },
                    None => error.into(),
                }
            });
        }
        let [url] = self.accounts.as_slice() else {
            return Err(CliError::Usage("a URL stands alone: one URL, and no account beside it".into()));
        };
        if self.deliver.is_empty() {
            return Err(CliError::Usage("a URL needs --deliver, such as --deliver maildir:~/Mail".into()));
        }
        let (config, account) = self.of_url.account(url, &self.deliver)?;
        Ok(Config { accounts: vec![account], ..config })
    }

    fn is_url(&self) -> bool {
        self.accounts.iter().any(|name| is_url(name))
    }

    fn task(&self) -> Task {
        let limits = Limits {
            limit: self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            turn: None,
            deletions: if self.keep { MayDelete::NotNow } else { MayDelete::AsConfigured },
            retry: if self.force { Retry::Now } else { retry(&self.accounts) },
        };
        if self.dry_run { Task::DryRun(limits) } else { Task::Sync(limits) }
    }
}
