//! `postrider wake`: tells the running daemon to poll now.

use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::Args;

use super::accounts::{add_rows, look, named};
use super::exit::Exit;
use super::stdout::Results;
use super::{CliError, Common};
use crate::config::account::Interval;
use crate::config::{Account, Config};
use crate::daemon::wake::Running;
use crate::session;
use crate::state::Store;
use crate::state::postgres::beat::silence;
use crate::state::postgres::{Database, Leases};

#[derive(Debug, Args)]
pub struct Wake {
    /// Accounts of the configuration [default: all that have an interval]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,
}

impl Wake {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let mut config = common.load()?;
        add_rows(&mut config, &self.accounts).await?;
        self.accounts.iter().try_for_each(|name| named(&config, name).map(drop))?;
        let names: HashSet<&str> = self.accounts.iter().map(String::as_str).collect();
        let is_meant = |account: &&Account| match names.is_empty() {
            true => account.enabled && matches!(account.interval, Interval::Every(_)),
            false => names.contains(account.name.as_str()),
        };
        let (meant, off): (Vec<_>, Vec<_>) =
            config.accounts.iter().filter(is_meant).partition(|account| account.enabled);
        let maildrops: Vec<Arc<str>> =
            meant.iter().map(|account| account.maildrop_id.as_str().into()).collect();
        let woken = match config.database {
            None => wake_daemon(&config, maildrops).await?,
            Some(_) => self.wake_workers(&config, &maildrops).await?,
        };
        if common.verbose > 0 || io::stdout().is_terminal() {
            let accounts = if woken == 1 { "account is" } else { "accounts are" };
            results.done(format_args!("{woken} {accounts} polled now"));
        }
        match off.is_empty() {
            true => Ok(Exit::SUCCESS),
            false => {
                Err(CliError::NotScheduled(off.into_iter().map(|account| account.name.clone()).collect()))
            }
        }
    }

    /// Makes maildrops due in the database, for whichever worker has room. Without names that is all that are polled by
    /// themselves.
    async fn wake_workers(&self, config: &Config, maildrops: &[Arc<str>]) -> Result<usize, CliError> {
        let store = look(config).await?;
        let Some(server) = store.server() else { return Ok(0) };
        let leases = Leases::new(Database::new(server.clone()));
        let workers = leases.workers().await?;
        // A command that polls once, and whoever is about to end, claims nothing.
        if !workers
            .iter()
            .any(|worker| !(worker.is_evicted || worker.is_draining) && worker.heard < silence())
        {
            return Err(CliError::NoWorker(server.place()));
        }
        match self.accounts.is_empty() {
            true => Ok(leases.wake_all().await?),
            false => {
                let maildrops: Vec<String> = maildrops.iter().map(ToString::to_string).collect();
                Ok(leases.wake(&maildrops).await?)
            }
        }
    }
}

/// Has the daemon that runs look into the store. Gives how many accounts are asked for.
async fn wake_daemon(config: &Config, maildrops: Vec<Arc<str>>) -> Result<usize, CliError> {
    let Some(daemon) = Running::find(&config.state).map_err(CliError::Unasked)? else {
        return Err(CliError::NoDaemon(config.state.clone()));
    };
    let woken = maildrops.len();
    Store::open(&config.state).ask_for(maildrops, session::now()).await?;
    match daemon.wake().map_err(CliError::Unasked)? {
        true => Ok(woken),
        false => Err(CliError::NoDaemon(config.state.clone())),
    }
}
