//! Why a command ended before it did its work.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::exit::Exit;
use crate::config::{ConfigError, RowError, UrlError};
use crate::credential::{CredentialError, KeyError};
use crate::daemon::DaemonError;
use crate::failure::Failure;
use crate::seal::SealError;
use crate::state::StateError;
use crate::state::copy::CopyError;
use crate::text::Shown;

/// Why a command ended before it did its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no configuration, and a hint that is better than that one is made.
    #[error("{error}")]
    Unconfigured { error: ConfigError, hint: String },
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Import(#[from] crate::import::Wrong),
    #[error("{}: {what}", .file.display())]
    Foreign { file: PathBuf, what: String },
    #[error("{}: cannot be written: {source}", .file.display())]
    Unwritten { file: PathBuf, source: io::Error },
    #[error("{at}: {}: {source}", .file.display())]
    Silent { at: String, file: PathBuf, source: io::Error },
    #[error("{0}")]
    Usage(String),
    /// Nobody named a server, or whoever sits there has ended it.
    #[error("{0}; nothing was written")]
    NotSetUp(String),
    #[error("no account {name:?} in {file}{}", Nearest(.nearest.as_deref()))]
    UnknownAccount { name: String, file: String, nearest: Option<String>, hint: Option<String> },
    #[error("no recorded unique-id {0}; nothing was changed")]
    UnknownUid(String),
    #[error("no maildrop {}; nothing was changed", Shown(.0.as_bytes()))]
    UnknownMaildrop(String),
    #[error("account {0} is in the configuration; nothing was changed")]
    Configured(String),
    #[error("no held message {0}; nothing was changed")]
    NotHeld(String),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A secret that the database is kept with.
    #[error("state: {0}")]
    Credential(#[from] CredentialError),
    #[error("state: {0}")]
    Key(#[from] KeyError),
    #[error("state: {0}")]
    Seal(#[from] SealError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("there is no table of accounts: the state is a file")]
    NoTable,
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("no daemon runs with the state file {}", .0.display())]
    NoDaemon(PathBuf),
    #[error("no worker is heard of in the database {0}")]
    NoWorker(String),
    #[error("the running daemon has no account {}", .0.join(", "))]
    NotScheduled(Vec<String>),
    /// It is there, but another user's.
    #[error("cannot ask the running daemon: {0}")]
    Unasked(io::Error),
    #[error(transparent)]
    Poll(#[from] Box<Failure>),
    #[error("account {0} has no `oauth2` in which a person logs in")]
    NoLogin(String),
    #[error("{account}: log in: {error}{}", Said(error.said()))]
    Login { account: String, error: CredentialError },
    #[error("cannot become the owner of the directory of {}", .0.display())]
    Owner(PathBuf),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl CliError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            // Nobody knows what it says.
            Self::Config(ConfigError::Unreadable { source, .. }) if source.kind() == ErrorKind::TimedOut => {
                Exit::LATER
            }
            Self::Config(_)
            | Self::Unconfigured { .. }
            | Self::Import(_)
            | Self::Foreign { .. }
            | Self::Seal(_)
            | Self::Row(_)
            | Self::NoTable => Exit::CONFIGURATION,
            Self::Credential(error) => Exit::of_class(error.class()),
            Self::Key(error) => Exit::of_class(error.class()),
            Self::Url(_)
            | Self::Usage(_)
            | Self::UnknownAccount { .. }
            | Self::UnknownUid(_)
            | Self::UnknownMaildrop(_)
            | Self::Configured(_)
            | Self::NotHeld(_)
            | Self::NoLogin(_) => Exit::USAGE,
            Self::Login { error, .. } => Exit::of_class(error.class()),
            Self::Poll(failure) => Exit::of_class(failure.class),
            Self::Daemon(DaemonError::Unusable(failure)) => Exit::of_class(failure.class),
            Self::Daemon(DaemonError::Unshared { .. }) => Exit::CONFIGURATION,
            Self::NotSetUp(_)
            | Self::State(_)
            | Self::Copy(_)
            | Self::Silent { .. }
            | Self::Unwritten { .. }
            | Self::Daemon(_)
            | Self::NoDaemon(_)
            | Self::NoWorker(_)
            | Self::NotScheduled(_)
            | Self::Unasked(_)
            | Self::Owner(_)
            | Self::Input(_)
            | Self::Output(_) => Exit::LATER,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) | Self::Daemon(DaemonError::State(error)) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Daemon(DaemonError::Running(_)) => {
                Some("stop that one first, or give this one a state file of its own with `state:`".into())
            }
            Self::NoTable => Some("a fleet has `state: { postgres: { url: ... } }`".into()),
            Self::Credential(error) => error.hint("state"),
            Self::Key(error) => error.hint(),
            Self::Daemon(DaemonError::Unshared { .. }) => {
                Some("write `shared: true` beside the target if all workers see the same, or deliver to a server".into())
            }
            Self::NoDaemon(_) | Self::NoWorker(_) => {
                Some("start one with `postrider daemon`, or poll with `postrider sync`".into())
            }
            Self::NotScheduled(names) => Some(scheduling(names)),
            Self::NoLogin(_) => Some(
                "with `password`, `token_command`, a configured `refresh_token` or `grant: client_credentials` there is \
                 nothing to log in for"
                    .into(),
            ),
            Self::Login { account, error } => error.hint(account),
            Self::UnknownAccount { hint, .. } => hint.clone(),
            Self::Unconfigured { hint, .. } => Some(hint.clone()),
            Self::UnknownMaildrop(_) => {
                Some("`postrider status --json` has the maildrops that the state knows of".into())
            }
            Self::Configured(account) => Some(format!(
                "take it out of the configuration first, or have messages fetched again by `postrider seen forget {account} --all`"
            )),
            Self::Config(ConfigError::NotFound { hidden: None, .. }) => Some(UNCONFIGURED.into()),
            Self::Config(ConfigError::NotFound { .. }) => Some(NOT_YOURS.into()),
            // These have it in their text, or need none.
            Self::Config(_)
            | Self::Url(_)
            | Self::Import(_)
            | Self::Foreign { .. }
            | Self::Unwritten { .. }
            | Self::Silent { .. }
            | Self::Usage(_)
            | Self::NotSetUp(_)
            | Self::UnknownUid(_)
            | Self::NotHeld(_)
            | Self::Seal(_)
            | Self::Row(_)
            | Self::Poll(_)
            | Self::Daemon(DaemonError::Signals(_) | DaemonError::Timer(_) | DaemonError::Unusable(_))
            | Self::Unasked(_)
            | Self::Owner(_)
            | Self::Input(_)
            | Self::Output(_) => None,
        }
    }
}

/// Says what has accounts polled: those of the table have a tenant in their names, the others are the configuration's.
fn scheduling(names: &[String]) -> String {
    let (rows, others): (Vec<&str>, Vec<&str>) =
        names.iter().map(String::as_str).partition(|name| name.contains('/'));
    let enable = format!("`postrider account enable {}` has them polled", rows.join(" "));
    let hang_up =
        "send it SIGHUP if the configuration has changed; an account that is not enabled is not its";
    match (rows.is_empty(), others.is_empty()) {
        (_, true) => enable,
        (true, false) => hang_up.to_owned(),
        (false, false) => format!("{enable}; for {}: {hang_up}", others.join(", ")),
    }
}

/// What to do where there is no configuration.
const UNCONFIGURED: &str = "`postrider setup ADDRESS` writes one, and `postrider import fetchmail --write` one of fetchmail's \
                            (or mpop, getmail, fdm)";

/// What to do where there is the machine's alone.
const NOT_YOURS: &str = "`postrider setup ADDRESS` writes one of your own; the machine's is for root, and for the user of its \
                         service: `sudo -u postrider postrider status`";

/// What a provider said, on a line of its own.
struct Said<'a>(Option<&'a [u8]>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(said) => write!(f, "\n  server: {}", Shown(said)),
            None => Ok(()),
        }
    }
}

/// `; did you mean "home"?`
struct Nearest<'a>(Option<&'a str>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean {name:?}?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_account_that_is_not_polled_has_its_own_hint() {
        let hint = |names: &[&str]| scheduling(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let of_rows = "`postrider account enable acme/alice` has them polled";
        assert_eq!(hint(&["acme/alice"]), of_rows);
        assert!(hint(&["home"]).starts_with("send it SIGHUP"));
        let both = hint(&["acme/alice", "home", "work"]);
        assert!(both.starts_with(of_rows) && both.contains("; for home, work: send it SIGHUP"), "{both}");
    }
}
