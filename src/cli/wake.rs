//! `postrider wake`: tells the running daemon to poll now.

use std::io::{self, IsTerminal};

use clap::Args;

use super::accounts::named;
use super::exit::Exit;
use super::stdout::Results;
use super::{CliError, Common};
use crate::daemon::control::client::Client;

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
        let Some(mut daemon) = Client::connect(&config.state).await? else {
            return Err(CliError::NoDaemon(config.state));
        };
        let (woken, unknown) = daemon.wake(self.accounts.clone()).await?;
        if common.verbose > 0 || io::stdout().is_terminal() && !common.quiet {
            let accounts = if woken == 1 { "account is" } else { "accounts are" };
            results.line(format_args!("{woken} {accounts} polled now"));
        }
        if unknown.is_empty() { Ok(Exit::SUCCESS) } else { Err(CliError::NotScheduled(unknown)) }
    }
}
