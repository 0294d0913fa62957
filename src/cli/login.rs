//! `postrider login`: a person lets the program into a mailbox by OAuth2.

use std::io::{self, BufRead as _};
use std::slice;

use clap::Args;
use tokio::sync::mpsc;

use super::account::Table;
use super::accounts::{is_row, named};
use super::exit::Exit;
use super::owner::Owner;
use super::stdout::Results;
use super::{CliError, Common};
use crate::config::Account;
use crate::credential::oauth2::log_in::{By, Person, needed};
use crate::credential::oauth2::{Means, Renewals};
use crate::net::{Connector, Endpoint};
use crate::session::Environment;
use crate::state::tokens::Shelf;
use crate::text::Shown;

#[derive(Debug, Args)]
pub struct Login {
    /// Account of the configuration, or of the table: TENANT/NAME
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// By a code that is typed in on another device, where the provider has that for mail
    #[arg(long)]
    device: bool,
}

impl Login {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let mut config = common.load()?;
        // The daemon must be able to read and renew what is stored.
        if let Some(owner) = Owner::of(&config.state) {
            owner.become_it().map_err(|_| CliError::Owner(config.state.clone()))?;
        }
        let table = match is_row(&self.account) && config.database.is_some() {
            true => Some(Table::of(&config).await?),
            false => None,
        };
        let shelf = match &table {
            Some(table) => {
                config.accounts.push(table.account(&self.account).await?);
                table.shelf()?
            }
            None => Environment::shelf(&config).await?,
        };
        let account = named(&config, &self.account)?;
        let by = if self.device { By::Device } else { By::Usual };
        let next = format!("; `postrider check {}` tries it.", account.name);
        let mut say = |text: &str| {
            results.line(text);
            results.flush();
        };
        log_in(account, (&config.accounts, &shelf), by, lines(), (&mut say, &next)).await?;
        if let Some(table) = table {
            table.accounts.failed_are_due(slice::from_ref(&account.maildrop_id)).await?;
        }
        Ok(Exit::SUCCESS)
    }
}

/// Has a person log in to all that an account, one of all, needs and lacks, and gives back the lines that are typed. `next`
/// completes what is said of each.
pub(super) async fn log_in(
    account: &Account,
    (all, shelf): (&[Account], &Shelf),
    by: By,
    lines: mpsc::UnboundedReceiver<String>,
    (say, next): (&mut dyn FnMut(&str), &str),
) -> Result<mpsc::UnboundedReceiver<String>, CliError> {
    let (connector, renewals) = (Connector::default(), Renewals::default());
    let means = Means {
        connector: &connector,
        through: Endpoint::from(account),
        shelf,
        renewals: &renewals,
        now: shelf.clock().now(),
    };
    let failed = |error| CliError::Login { account: account.name.clone(), error };
    let mut needed = needed(&means, account, all).await.map_err(failed)?;
    if needed.is_empty() {
        return Err(CliError::NoLogin(account.name.clone()));
    }
    // Whoever calls it where nothing is lacking wants all of them anew.
    if needed.iter().any(|needed| needed.is_lacking) {
        needed.retain(|needed| needed.is_lacking);
    }
    let mut person = Person { say, lines };
    for needed in &needed {
        // A person takes minutes.
        let means = Means { now: shelf.clock().now(), ..means };
        needed.log_in(&means, by, &mut person).await.map_err(failed)?;
        (person.say)(&format!("Logged in as {}{next}", Shown(needed.whose().as_bytes())));
    }
    Ok(person.lines)
}

/// Reads what is typed or pasted, on a thread that may wait for ever.
pub(super) fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // Without a thread nobody can paste; the browser may still come by itself.
    let _ = std::thread::Builder::new().name("paste".into()).spawn(move || {
        let typed = io::stdin().lock().lines().map_while(Result::ok);
        typed.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    receiver
}
