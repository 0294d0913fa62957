//! `postrider wake`: tells the running daemon to poll now.

use std::collections::HashSet;
use std::io::{self, IsTerminal};

use clap::Args;

use super::accounts::named;
use super::exit::Exit;
use super::stdout::Results;
use super::{CliError, Common};
use crate::config::Account;
use crate::config::account::Interval;
use crate::daemon::wake::Running;
use crate::session;
use crate::state::Store;

#[derive(Debug, Args)]
pub struct Wake {
    /// Accounts of the configuration [default: all that have an interval]
    #[arg(value_name = "ACCOUNT")]
    accounts: Vec<String>,
}

impl Wake {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let config = common.load()?;
        self.accounts.iter().try_for_each(|name| named(&config, name).map(drop))?;
        let Some(daemon) = Running::find(&config.state).map_err(CliError::Unasked)? else {
            return Err(CliError::NoDaemon(config.state));
        };
        let names: HashSet<&str> = self.accounts.iter().map(String::as_str).collect();
        let is_meant = |account: &&Account| match names.is_empty() {
            true => account.enabled && matches!(account.interval, Interval::Every(_)),
            false => names.contains(account.name.as_str()),
        };
        let (meant, off): (Vec<_>, Vec<_>) =
            config.accounts.iter().filter(is_meant).partition(|account| account.enabled);
        let maildrops = meant.iter().map(|account| account.maildrop_id.as_str().into()).collect();
        Store::open(&config.state).ask_for(maildrops, session::now()).await?;
        if !daemon.wake().map_err(CliError::Unasked)? {
            return Err(CliError::NoDaemon(config.state));
        }
        if common.verbose > 0 || io::stdout().is_terminal() {
            let woken = meant.len();
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
}
