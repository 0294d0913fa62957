//! The table, the keys, and what the file says for rows.

use super::super::database::server;
use super::super::{CliError, Common};
use crate::config::Fleet;
use crate::credential;
use crate::seal::Ring;
use crate::state::postgres::{Accounts, Database};

pub struct Table {
    pub accounts: Accounts,
    pub fleet: Fleet,
    pub ring: Ring,
}

impl Table {
    pub async fn open(common: &Common) -> Result<Self, CliError> {
        let config = common.load_whatever_state()?;
        let Some(database) = &config.database else { return Err(CliError::NoTable) };
        let ring = credential::ring(&database.secrets_keys, database.timeout).await?;
        let fleet = config.fleet.unwrap_or_default();
        let database = Database::new(server(database).await?);
        Ok(Self { accounts: Accounts::new(database, &fleet.accounts), fleet, ring })
    }
}

/// Splits `TENANT/NAME`.
pub fn split(account: &str) -> Result<(&str, &str), CliError> {
    account.split_once('/').ok_or_else(|| {
        let what = format!("{account:?} is no account of a table: those are called TENANT/NAME");
        CliError::Usage(what)
    })
}
