//! The table, the keys, and what the file says for rows.

use std::sync::Arc;

use super::super::{CliError, Common};
use crate::config::{Account, Config, Fleet};
use crate::credential;
use crate::seal::{Ring, SealError};
use crate::session::server;
use crate::state::postgres::{Accounts, Database, Vault};
use crate::state::tokens::Shelf;

pub struct Table {
    pub accounts: Accounts,
    pub fleet: Fleet,
    pub ring: Arc<Ring>,
    database: Database,
}

impl Table {
    pub async fn open(common: &Common) -> Result<Self, CliError> {
        Self::of(&common.load()?).await
    }

    pub async fn of(config: &Config) -> Result<Self, CliError> {
        let Some(database) = &config.database else { return Err(CliError::NoTable) };
        let ring = Arc::new(credential::ring(&database.secrets_keys, database.timeout).await?);
        let fleet = config.fleet.clone().unwrap_or_default();
        let database = Database::new(server(database).await?);
        Ok(Self { accounts: Accounts::new(database.clone(), &fleet.accounts), fleet, ring, database })
    }
}

impl Table {
    /// Gives the account of a row, with its secret.
    pub async fn account(&self, name: &str) -> Result<Account, CliError> {
        Ok(self.fleet.open(&self.named(name).await?, &self.ring)?)
    }

    /// Gives where tokens are kept for all workers.
    pub fn shelf(&self) -> Result<Shelf, CliError> {
        self.ring.current().ok_or(SealError::NoKey)?;
        Ok(Shelf::In(Vault::new(self.database.clone(), self.ring.clone())))
    }
}

/// Splits `TENANT/NAME`.
pub fn split(account: &str) -> Result<(&str, &str), CliError> {
    account.split_once('/').ok_or_else(|| {
        let what = format!("{account:?} is no account of a table: those are called TENANT/NAME");
        CliError::Usage(what)
    })
}
