//! Why there is no password, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::oauth2::error::OAuth2Error;
use crate::failure::Class;
use crate::seal::SealError;
use crate::text::Shown;

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("no password is configured, and there is no terminal to ask for it")]
    Missing,
    #[error("cannot start the password command {command}: {source}")]
    Start { command: String, source: io::Error },
    #[error("the password command {command} failed ({status}){}{}", if .words.is_empty() { "" } else { ": " }, .words)]
    Failed {
        command: String,
        status: String,
        /// The first line of its standard error, made safe to show.
        words: String,
    },
    #[error("gave up after {after:?} waiting for {what}")]
    TimedOut {
        /// `the password command pass`, `/run/secrets/mail`.
        what: String,
        after: Duration,
    },
    #[error("cannot read the password from {}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot get the password: the environment variable {name} is not set")]
    NotSet { name: String },
    #[error("cannot get the credential {name}: $CREDENTIALS_DIRECTORY is not set")]
    NoCredentials { name: String },
    #[error("cannot get the credential {}: a credential's name has no / in it", Shown(.name.as_bytes()))]
    CredentialName { name: String },
    #[error("cannot find a password of {user} for {host} in {}", .path.display())]
    NoEntry { path: PathBuf, host: String, user: String },
    #[error("cannot read {}: line {line}: {what}", .path.display())]
    Netrc {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        what: &'static str,
    },
    #[error("there is no password in {what}")]
    Empty { what: String },
    #[error("there is more than one line in {what}")]
    SeveralLines { what: String },
    #[error("there are more than {LONGEST} octets in {what}")]
    TooLong { what: String },
    #[error("cannot ask for the password: there is no terminal ({0})")]
    NoTerminal(io::Error),
    #[error("no password was typed")]
    NotTyped,
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no token in its place.
    #[error(transparent)]
    Tokens(#[from] Box<OAuth2Error>),
}

impl From<OAuth2Error> for CredentialError {
    fn from(error: OAuth2Error) -> Self {
        Self::Tokens(Box::new(error))
    }
}

impl CredentialError {
    /// Gives what kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Tokens(error) => error.class(),
            // A later run may have an answer.
            Self::TimedOut { .. } => Class::Hook,
            _ => Class::Credentials,
        }
    }

    /// Gives what a provider of tokens said, if it refused.
    pub fn said(&self) -> Option<&[u8]> {
        match self {
            Self::Tokens(error) => error.said(),
            _ => None,
        }
    }

    /// Gives what the user can do about it, if that is known; `name` is the account's.
    pub fn hint(&self, name: &str) -> Option<String> {
        let hint = match self {
            Self::Tokens(error) => return error.hint(name),
            Self::NoTerminal(_) | Self::Missing => {
                "set `password`, such as `password: { command: \"pass show mail/home\" }` or `password: { file: PATH }`"
            }
            Self::NoCredentials { .. } => "under systemd, `LoadCredential=` in the unit provides it",
            Self::NotSet { .. } => {
                "the variable must be in the environment of this process, not only of a shell"
            }
            Self::NoEntry { .. } => {
                "it needs `machine HOST login USER password PASSWORD`, with `host` and `user` as \
                                     they are in the configuration"
            }
            Self::SeveralLines { .. } => {
                "let it give the password alone, such as `pass show mail/home | head -n 1`"
            }
            Self::Start { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::File { .. }
            | Self::CredentialName { .. }
            | Self::Netrc { .. }
            | Self::Empty { .. }
            | Self::TooLong { .. }
            | Self::Seal(_)
            | Self::NotTyped => return None,
        };
        Some(hint.to_owned())
    }
}

/// Octets of a password at most.
pub(super) const LONGEST: usize = 64 * 1024;
