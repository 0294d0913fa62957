//! Where an account's password comes from.

use crate::config::Account;
use crate::credential::{self, CredentialError};
use crate::sasl::{Auth, Mechanism};
use crate::secret::{Ask, Secret};

/// Gets the account's password; empty where no mechanism can want one.
pub async fn password(account: &Account, ask: Ask) -> Result<Secret, CredentialError> {
    if account.auth == Auth::List(vec![Mechanism::External]) {
        return Ok(Secret::new(Vec::new()));
    }
    match (&account.password, ask) {
        (Some(source), _) => {
            credential::password(source, &account.host, &account.user, account.timeout).await
        }
        (None, Ask::Terminal) => {
            credential::ask(format!("Password for {} at {}: ", account.user, account.server())).await
        }
        (None, Ask::Never) => Err(CredentialError::Missing),
    }
}
