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
            CredentialError::SeveralLines { .. } => {
                Some("one key has one line; of several each has a source of its own: `secrets_key: [{ file: NEW }, { file: OLD }]`".to_owned())
            }
            CredentialError::Start { .. } | CredentialError::Failed { .. } => {
                Some("it must print the key alone, and be found in the PATH of this process".to_owned())
            }
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
            CredentialError::NotSet { name } => {
                write!(f, "cannot get a key of `secrets_key`: the environment variable {name} is not set")
            }
            CredentialError::Start { command, source } => {
                write!(f, "cannot start the command {command} for a key of `secrets_key`: {source}")
            }
            CredentialError::Failed { command, status, words } => {
                let colon = if words.is_empty() { "" } else { ": " };
                write!(f, "the command {command} for a key of `secrets_key` failed ({status}){colon}{words}")
            }
            CredentialError::TimedOut { what, after } => {
                let what = what.replacen("the password command", "the command", 1);
                write!(f, "gave up after {after:?} waiting for {what} for a key of `secrets_key`")
            }
            CredentialError::SeveralLines { what } => {
                write!(f, "there is more than one line for a key of `secrets_key` in {what}")
            }
            CredentialError::Empty { what } => write!(f, "there is no key of `secrets_key` in {what}"),
            CredentialError::Seal(error) => error.fmt(f),
            error => write!(f, "cannot get a key of `secrets_key`: {error}"),
        }
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::account::CommandLine;

    #[tokio::test]
    async fn what_is_wrong_with_a_key_is_never_told_of_a_password() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            Password::File(path)
        };
        let command = |line: &str| Password::Command(CommandLine::Shell(line.to_owned()));
        let patience = Duration::from_secs(5);
        for (source, said, hint) in [
            (
                Password::Env("POSTRIDER_NO_KEY".into()),
                "a key of `secrets_key`: the environment variable",
                "environment",
            ),
            (command("exit 3"), "for a key of `secrets_key` failed", "print the key alone"),
            (command("true"), "no key of `secrets_key` in", "openssl"),
            (file("two", "one\ntwo\n"), "more than one line for a key of `secrets_key`", "secrets_key: ["),
            (file("empty", ""), "no key of `secrets_key` in", "openssl"),
        ] {
            let error = ring(&[source], patience).await.unwrap_err();
            let (told, hinted) = (error.to_string(), error.hint().unwrap_or_default());
            assert!(told.contains(said) && hinted.contains(hint), "{told}: {hinted}");
            assert!(!format!("{told}{hinted}").contains("pass"), "{told}: {hinted}");
        }
        let late = ring(&[command("sleep 60")], Duration::from_millis(50)).await.unwrap_err();
        assert!(!late.to_string().contains("pass") && late.hint().is_none(), "{late}");
    }
}
