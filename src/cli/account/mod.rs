//! `postrider account`: the tenants' accounts in the database.

mod add;
mod list;
mod table;

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::help::{self, below};
use super::stdout::Results;
use super::{CliError, Common};
use list::Switch;

pub use table::Table;

/// What to do with the accounts of the table.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Adds an account, its secret sealed
    #[command(after_help = below("postrider account add acme/alice account.json", help::ACCOUNT))]
    Add(add::Add),
    /// Adds accounts, one JSON object a line, and leaves alone those that are there
    #[command(after_help = below("postrider account import accounts.jsonl", help::ACCOUNT))]
    Import(add::Import),
    /// Lists the accounts
    #[command(after_help = below("postrider account list --json", help::ACCOUNT))]
    List(list::List),
    /// Shows what an account is with all that holds for it, secrets masked
    #[command(after_help = below("postrider account show acme/alice", help::ACCOUNT))]
    Show(list::Show),
    /// Validates accounts, and opens their secrets; contacts no mail server
    #[command(after_help = below("postrider account check", help::ACCOUNT))]
    Check(list::Check),
    /// Has accounts polled no more
    #[command(after_help = below("postrider account disable acme/alice", help::ACCOUNT))]
    Disable(list::Names),
    /// Has accounts polled again
    #[command(after_help = below("postrider account enable acme/alice", help::ACCOUNT))]
    Enable(list::Names),
    /// Removes accounts; what was recorded of their maildrops stays for a while
    #[command(after_help = below("postrider account remove acme/alice", help::ACCOUNT))]
    Remove(list::Names),
    /// Seals all secrets with the first key of `secrets_key`, so that the others are needed no more
    #[command(after_help = below("postrider account rekey", help::ACCOUNT))]
    Rekey(Rekey),
}

#[derive(Debug, Args)]
pub struct Rekey {}

impl AccountCommand {
    pub async fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        let table = Table::open(common).await?;
        match self {
            Self::Add(add) => add.run(&table, results).await,
            Self::Import(import) => import.run(&table, results).await,
            Self::List(list) => list.run(&table, results).await,
            Self::Show(show) => show.run(&table, results).await,
            Self::Check(check) => check.run(&table, results).await,
            Self::Disable(names) => table.switch(names, Switch::Off, results).await,
            Self::Enable(names) => table.switch(names, Switch::On, results).await,
            Self::Remove(names) => table.remove(names, results).await,
            Self::Rekey(_) => table.rekey(results).await,
        }
    }
}
