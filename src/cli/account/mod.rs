//! `postrider account`: the tenants' accounts in the database.

mod add;
mod list;
mod table;

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::stdout::Results;
use super::{CliError, Common};
use list::Switch;

pub use table::Table;

/// What to do with the accounts of the table.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Adds an account, its secret sealed
    #[command(after_help = super::example("postrider account add acme/alice account.json", super::EXIT_STATUS))]
    Add(add::Add),
    /// Adds accounts, one JSON object a line, and leaves alone those that are there
    #[command(after_help = super::example("postrider account import accounts.jsonl", super::EXIT_STATUS))]
    Import(add::Import),
    /// Lists the accounts
    #[command(after_help = super::example("postrider account list --json", super::EXIT_STATUS))]
    List(list::List),
    /// Shows what an account is with all that holds for it, secrets masked
    #[command(after_help = super::example("postrider account show acme/alice", super::EXIT_STATUS))]
    Show(list::Show),
    /// Validates accounts, and opens their secrets; contacts no mail server
    #[command(after_help = super::example("postrider account check", super::EXIT_STATUS))]
    Check(list::Check),
    /// Has accounts polled no more
    #[command(after_help = super::example("postrider account disable acme/alice", super::EXIT_STATUS))]
    Disable(list::Names),
    /// Has accounts polled again
    #[command(after_help = super::example("postrider account enable acme/alice", super::EXIT_STATUS))]
    Enable(list::Names),
    /// Removes accounts; what was recorded of their maildrops stays for a while
    #[command(after_help = super::example("postrider account remove acme/alice", super::EXIT_STATUS))]
    Remove(list::Names),
    /// Seals all secrets with the first key of `secrets_key`, so that the others are needed no more
    #[command(after_help = super::example("postrider account rekey", super::EXIT_STATUS))]
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
