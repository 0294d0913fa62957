//! What a user is told when an account's poll failed: account, host, step, class, the server's words, a hint.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use crate::text::Shown;

/// Says what kind of trouble a [`Failure`] is; it decides exit status and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Name resolution, connection, time limit, a connection that ended early: the network or the server is away.
    Network,
    /// TLS: the certificate or the handshake.
    Tls,
    /// The server broke the protocol.
    Protocol,
    /// The server refused for now (`[SYS/TEMP]`, or a refusal without a code).
    Refused,
    /// The maildrop is locked by another session, here or elsewhere (`[IN-USE]`).
    InUse,
    /// The server wants longer pauses between log-ins (`[LOGIN-DELAY]`).
    LoginDelay,
    /// The server refused the credentials, or there are none.
    Credentials,
    /// The server says that a person must act (`[SYS/PERM]`).
    Permanent,
    /// The delivery target failed as a whole (disk full, not writable).
    Target,
    State,
    /// A hook of the user's that the poll depends on failed, or what the password comes from gave no answer in time.
    Hook,
    /// A message could not be fetched or delivered; the others were.
    Message,
    /// Ended by a signal before the work was done.
    Stopped,
    /// A defect of this program.
    Internal,
}

impl Class {
    /// Gives the exit status of a one-shot run that met this class (sysexits.h: 75 `EX_TEMPFAIL`, 77 `EX_NOPERM`).
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Credentials => 77,
            Self::Network
            | Self::Tls
            | Self::Protocol
            | Self::Refused
            | Self::InUse
            | Self::LoginDelay
            | Self::Permanent
            | Self::Target
            | Self::State
            | Self::Hook
            | Self::Message
            | Self::Stopped
            | Self::Internal => 75,
        }
    }

    pub const ALL: [Self; 14] = [
        Self::Network,
        Self::Tls,
        Self::Protocol,
        Self::Refused,
        Self::InUse,
        Self::LoginDelay,
        Self::Credentials,
        Self::Permanent,
        Self::Target,
        Self::State,
        Self::Hook,
        Self::Message,
        Self::Stopped,
        Self::Internal,
    ];

    /// Finds the class of this name; a newer version may have written one that is not known here.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Names the class for machines: JSON results, the state file, hooks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
            Self::InUse => "in-use",
            Self::LoginDelay => "login-delay",
            Self::Credentials => "credentials",
            Self::Permanent => "permanent",
            Self::Target => "target",
            Self::State => "state",
            Self::Hook => "hook",
            Self::Message => "message",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }
}

/// Says why this process could not use a path, if it was kept from it; without `error` nothing is known but the path.
type Explain = fn(path: &Path, error: Option<&io::Error>) -> Option<String>;

static EXPLAIN: OnceLock<Explain> = OnceLock::new();

/// Has failures on paths explained by who keeps this process from files.
pub(crate) fn set_explanation(explain: Explain) {
    // There is one, as there is one process.
    let _ = EXPLAIN.set(explain);
}

/// Gives a hint for a failed operation on a path, if this process is kept from it.
pub(crate) fn explained(path: &Path, error: Option<&io::Error>) -> Option<String> {
    EXPLAIN.get()?(path, error)
}

/// The end of a poll that did not succeed, in the words a user needs.
///
/// Display is one to three lines, without the program's name:
///
/// ```text
/// home: pop.example.org:995: log in as alice (PLAIN): refused
///   server: [AUTH] Authentication failed.
///   hint: check the password
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The account's name in the configuration.
    pub account: String,
    /// `host:port`, empty when no server was involved.
    pub host: String,
    /// What was being done, as a verb phrase: `log in as alice (PLAIN)`.
    pub doing: String,
    /// What kind of trouble it is.
    pub class: Class,
    /// What went wrong: `refused`, `gave up after 60s waiting for the greeting`.
    pub what: String,
    /// The server's own words, if it said any.
    pub said: Option<Vec<u8>>,
    /// What the user can do, if that is known.
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.account)?;
        if !self.host.is_empty() {
            write!(f, "{}: ", self.host)?;
        }
        if !self.doing.is_empty() {
            write!(f, "{}: ", self.doing)?;
        }
        f.write_str(&self.what)?;
        if let Some(said) = &self.said {
            write!(f, "\n  server: {}", Shown(said))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_account_host_step_words_and_hint() {
        let failure = Failure {
            account: "home".into(),
            host: "pop.example.org:995".into(),
            doing: "log in as alice (PLAIN)".into(),
            class: Class::Credentials,
            what: "refused".into(),
            said: Some(b"[AUTH] no\x07".to_vec()),
            hint: Some("check the password".into()),
        };
        assert_eq!(
            failure.to_string(),
            "home: pop.example.org:995: log in as alice (PLAIN): refused\n  server: [AUTH] no\\u{7}\n  hint: check the password"
        );
        assert_eq!(failure.class.exit_status(), 77);
    }
}
