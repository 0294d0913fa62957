//! Where passwords come from: commands, files, the environment, systemd, netrc, the terminal.
//!
//! Whatever holds one on its way is wiped; one trailing newline is dropped, and what still has one is refused, since
//! no password has: `pass show` prints the whole entry.

mod command;
mod file;
mod netrc;
mod terminal;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::account::Password;
use crate::secret::Secret;
use crate::text::Shown;

/// Octets of a password at most.
const LONGEST: usize = 64 * 1024;

/// Gets the password; `host` and `user` choose the netrc entry. What must be waited for, a command above all, may
/// take `patience`; then its process group is ended.
pub async fn password(
    source: &Password,
    host: &str,
    user: &str,
    patience: Duration,
) -> Result<Secret, CredentialError> {
    let octets = match source {
        // As it stands there: it was written for this.
        Password::Literal(secret) => return Ok(secret.clone()),
        Password::Command(line) => command::output(line, patience).await?,
        Password::File(path) => file::content(path.clone(), LONGEST, patience).await?,
        Password::Env(name) => environment(name)?,
        Password::Credential(name) => {
            let path =
                systemd_credential(name, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))?;
            file::content(path, LONGEST, patience).await?
        }
        Password::Netrc(path) => netrc::password(path, host, user, patience).await?,
    };
    secret(octets, source)
}

/// Asks for a password on the terminal (never on standard input), without echo; one question at a time.
pub async fn ask(prompt: String) -> Result<Secret, CredentialError> {
    terminal::ask(prompt).await
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// None is configured, and nobody is there to be asked.
    #[error("no password is configured, and there is no terminal to ask for it")]
    Missing,
    /// The command cannot be started.
    #[error("cannot start the password command {command}: {source}")]
    Start {
        /// The command's name.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The command failed.
    #[error("the password command {command} failed ({status}){}{}", if .words.is_empty() { "" } else { ": " }, .words)]
    Failed {
        /// The command's name.
        command: String,
        /// How it ended.
        status: String,
        /// The first line of its standard error, made safe to show.
        words: String,
    },
    /// It took too long.
    #[error("gave up after {after:?} waiting for {what}")]
    TimedOut {
        /// `the password command pass`, `/run/secrets/mail`.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// A file cannot be read.
    #[error("cannot read the password from {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The environment variable is not set.
    #[error("cannot get the password: the environment variable {name} is not set")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// systemd gave no credentials.
    #[error("cannot get the credential {name}: $CREDENTIALS_DIRECTORY is not set")]
    NoCredentials {
        /// The credential's name.
        name: String,
    },
    /// The credential's name is no file name.
    #[error("cannot get the credential {}: a credential's name has no / in it", Shown(.name.as_bytes()))]
    CredentialName {
        /// The credential's name.
        name: String,
    },
    /// The netrc file has no password for this host and user.
    #[error("cannot find a password of {user} for {host} in {}", .path.display())]
    NoEntry {
        /// The netrc file.
        path: PathBuf,
        /// The host looked for.
        host: String,
        /// The user looked for.
        user: String,
    },
    /// The netrc file is not in its format.
    #[error("cannot read {}: line {line}: {what}", .path.display())]
    Netrc {
        /// The netrc file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is nothing in it.
    #[error("there is no password in {what}")]
    Empty {
        /// Where it was looked for.
        what: String,
    },
    /// There is more in it than a password.
    #[error("there is more than one line in {what}")]
    SeveralLines {
        /// Where it was looked for.
        what: String,
    },
    /// There is far more in it than a password.
    #[error("there are more than {LONGEST} octets in {what}")]
    TooLong {
        /// Where it was looked for.
        what: String,
    },
    /// There is no terminal to ask on.
    #[error("cannot ask for the password: there is no terminal ({0})")]
    NoTerminal(io::Error),
    /// Nobody answered.
    #[error("no password was typed")]
    NotTyped,
}

impl CredentialError {
    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
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
            | Self::NotTyped => return None,
        };
        Some(hint.to_owned())
    }
}

fn environment(name: &str) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    use std::os::unix::ffi::OsStringExt;
    match std::env::var_os(name) {
        Some(value) => Ok(Zeroizing::new(value.into_vec())),
        None => Err(CredentialError::NotSet { name: name.to_owned() }),
    }
}

fn systemd_credential(name: &str, directory: Option<PathBuf>) -> Result<PathBuf, CredentialError> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(CredentialError::CredentialName { name: name.to_owned() });
    }
    match directory {
        Some(directory) => Ok(directory.join(name)),
        None => Err(CredentialError::NoCredentials { name: name.to_owned() }),
    }
}

/// Drops one trailing newline, and refuses what cannot be a password.
fn secret(mut octets: Zeroizing<Vec<u8>>, source: &Password) -> Result<Secret, CredentialError> {
    if octets.last() == Some(&b'\n') {
        octets.pop();
        if octets.last() == Some(&b'\r') {
            octets.pop();
        }
    }
    if octets.is_empty() {
        return Err(CredentialError::Empty { what: shown(source) });
    }
    if octets.len() > LONGEST {
        return Err(CredentialError::TooLong { what: shown(source) });
    }
    if octets.iter().any(|octet| matches!(octet, b'\r' | b'\n')) {
        return Err(CredentialError::SeveralLines { what: shown(source) });
    }
    Ok(Secret::new(std::mem::take(&mut *octets)))
}

fn shown(source: &Password) -> String {
    let path = |path: &Path| path.display().to_string();
    match source {
        Password::Literal(_) => "the configuration".to_owned(),
        Password::Command(line) => format!("the output of {line}"),
        Password::File(file) | Password::Netrc(file) => path(file),
        Password::Env(name) => format!("the environment variable {name}"),
        Password::Credential(name) => format!("the credential {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(octets: &[u8]) -> Result<Secret, CredentialError> {
        secret(Zeroizing::new(octets.to_vec()), &Password::Env("X".into()))
    }

    #[test]
    fn exactly_one_trailing_newline_is_dropped() {
        assert_eq!(of(b"s3 cret").unwrap().reveal(), b"s3 cret");
        assert_eq!(of(b"s3 cret \n").unwrap().reveal(), b"s3 cret ");
        assert_eq!(of(b"s\r\n").unwrap().reveal(), b"s");
        assert!(matches!(of(b"s\n\n"), Err(CredentialError::SeveralLines { .. })));
    }

    #[test]
    fn what_cannot_be_a_password_is_refused() {
        assert!(matches!(of(b""), Err(CredentialError::Empty { .. })));
        assert!(matches!(of(b"\r\n"), Err(CredentialError::Empty { .. })));
        assert!(matches!(of(b"s\nlogin: alice\n"), Err(CredentialError::SeveralLines { .. })));
        assert!(matches!(of(&[b'x'; LONGEST + 2]), Err(CredentialError::TooLong { .. })));
    }

    #[test]
    fn a_credentials_name_cannot_leave_its_directory() {
        let directory = || Some(PathBuf::from("/run/credentials/x"));
        assert_eq!(
            systemd_credential("mail", directory()).unwrap(),
            Path::new("/run/credentials/x/mail").to_path_buf()
        );
        for name in ["../shadow", "..", ".", "", "/etc/shadow"] {
            assert!(systemd_credential(name, directory()).is_err(), "{name}");
        }
        assert!(matches!(systemd_credential("mail", None), Err(CredentialError::NoCredentials { .. })));
    }
}
