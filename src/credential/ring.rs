//! The keys that seal secrets in a database.

use std::time::Duration;

use super::{CredentialError, sources};
use crate::config::account::Password;
use crate::seal::Ring;

/// Gets the keys from where the configuration says that they are, each by itself; the first of them seals.
pub async fn ring(keys: &[Password], patience: Duration) -> Result<Ring, CredentialError> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.push(sources::password(key, "state", "secrets_key", patience).await?);
    }
    Ring::new(&found).map_err(CredentialError::Seal)
}
