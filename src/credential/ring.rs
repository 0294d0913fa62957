//! The keys that seal secrets in a database.

use std::fmt;
use std::time::Duration;

use super::{CredentialError, sources};
use crate::config::account::Password;
use crate::failure::Class;
use crate::seal::Ring;

/// Why there is no key: what is said of passwords is said of it.
#[derive(Debug)]
pub struct KeyError(CredentialError);

/// Gets the keys from where the configuration says that they are, each by itself; the first of them seals.
pub async fn ring(keys: &[Password], patience: Duration) -> Result<Ring, KeyError> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.push(sources::password(key, "state", "secrets_key", patience).await.map_err(KeyError)?);
    }
    Ring::new(&found).map_err(|error| KeyError(error.into()))
}

impl KeyError {
    /// Gives what kind of trouble it is: nobody has refused it, and a command may give it another time.
    pub fn class(&self) -> Class {
        match &self.0 {
            CredentialError::Start { .. }
            | CredentialError::Failed { .. }
            | CredentialError::TimedOut { .. } => Class::Hook,
            _ => Class::Configuration,
        }
    }

    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match &self.0 {
            CredentialError::Empty { .. } | CredentialError::File { .. } => Some(
                "`openssl rand -base64 32` makes one, for a fleet that has none yet; all workers have the same".to_owned(),
            ),
            error => error.hint("state"),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            CredentialError::File { path, source } => {
                write!(f, "cannot read a key of `secrets_key` from {}: {source}", path.display())
            }
            CredentialError::Empty { what } => write!(f, "there is no key of `secrets_key` in {what}"),
            CredentialError::Seal(error) => error.fmt(f),
            error => write!(f, "cannot get a key of `secrets_key`: {error}"),
        }
    }
}

impl std::error::Error for KeyError {}
