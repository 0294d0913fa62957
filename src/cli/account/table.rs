//! The table, the keys, and what the file says for rows.

use super::super::{CliError, Common};
use crate::config::{Account, Config, Fleet};
use crate::credential;
use crate::seal::Ring;
use crate::session::server;
use crate::state::postgres::{Accounts, Database};

pub struct Table {
    pub accounts: Accounts,
    pub fleet: Fleet,
    pub ring: Ring,
}

impl Table {
    pub async fn open(common: &Common) -> Result<Self, CliError> {
        Self::of(&common.load()?).await
    }

    pub async fn of(config: &Config) -> Result<Self, CliError> {
        let Some(database) = &config.database else { return Err(CliError::NoTable) };
        let ring = credential::ring(&database.secrets_keys, database.timeout).await?;
        let fleet = config.fleet.clone().unwrap_or_default();
        let database = Database::new(server(database).await?);
        Ok(Self { accounts: Accounts::new(database, &fleet.accounts), fleet, ring })
    }
}

impl Table {
    /// Gives the account of a row, with its secret.
    pub async fn account(&self, name: &str) -> Result<Account, CliError> {
        Ok(self.fleet.open(&self.named(name).await?, &self.ring)?)
    }
}

/// Splits `TENANT/NAME`.
pub fn split(account: &str) -> Result<(&str, &str), CliError> {
    account.split_once('/').ok_or_else(|| {
        let what = format!("{account:?} is no account of a table: those are called TENANT/NAME");
        CliError::Usage(what)
    })
}
