//! Why a source gives nothing more, and what its user can do about it.

use std::io;
use std::path::Path;

use crate::config::Account;
use crate::failure::{Class, speaks_of_a_lock};
use crate::line::Awaited;
use crate::net::{self, NetError};
use crate::pop3::{Code, ProtocolError, Reply, Request, Status};
use crate::sasl::{NoMechanism, SaslError};

use super::wire::WireError;

/// Why a source gives nothing more.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Net(#[from] NetError),
    /// The connection, or what came over it.
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("refused")]
    Refused {
        said: Vec<u8>,
        code: Option<Code>,
        about: About,
        /// What to do about it, if only who asked knows that.
        hint: Option<String>,
    },
    /// The server offers nothing that may be used to log in.
    #[error(transparent)]
    NoMechanism(#[from] NoMechanism),
    /// The exchange of a mechanism went wrong.
    #[error(transparent)]
    Sasl(#[from] SaslError),
    /// A message has no end.
    #[error("server sent far more octets than the {listed} that it listed for this message")]
    Endless { listed: u64 },
    /// A message goes on with the answer to the next command, or comes for the second time.
    #[error("server's answers are out of step")]
    OutOfStep,
}

/// What a refusal was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Greeting,
    LogIn,
    Other,
}

/// What went wrong with a source, and what was being done.
#[derive(Debug)]
pub struct SourceFailed {
    /// A verb phrase: `log in as alice (PLAIN)`.
    pub doing: String,
    pub error: SourceError,
}

/// A log-in that the server refused.
#[derive(Debug)]
pub struct RefusedLogIn {
    pub said: Vec<u8>,
    /// What its response code says of it: [`Class::Credentials`] if there is none that says otherwise.
    pub class: Class,
    /// What to do instead of looking at the password, if that is known.
    pub hint: Option<String>,
}

/// Says what was being done when a result went wrong.
pub(super) trait Doing<T> {
    /// `doing` is a verb phrase.
    fn doing(self, doing: &str) -> Result<T, SourceFailed>;
}

impl<T, E: Into<SourceError>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &str) -> Result<T, SourceFailed> {
        self.map_err(|error| SourceFailed { doing: doing.into(), error: error.into() })
    }
}

/// A failed connect says itself what was being done.
impl From<NetError> for SourceFailed {
    fn from(error: NetError) -> Self {
        Self { doing: error.doing(), error: error.into() }
    }
}

impl SourceFailed {
    /// Adds what to do, unless the server said so.
    pub(super) fn or_hint(mut self, words: &str) -> Self {
        if let SourceError::Refused { hint, .. } = &mut self.error {
            hint.get_or_insert_with(|| words.to_owned());
        }
        self
    }

    /// Makes a refusal of a reply.
    pub(super) fn refused(reply: &Reply<'_>, about: About, doing: &str) -> Self {
        Self { doing: doing.into(), error: SourceError::refused(reply, about) }
    }

    /// Says what to do about a refusal that its code does not explain; of a log-in, instead of looking at the password.
    pub(super) fn because(mut self, why: Option<String>) -> Self {
        if let (SourceError::Refused { hint, .. }, Some(why)) = (&mut self.error, why) {
            *hint = Some(why);
        }
        self
    }
}

/// Where a POP3 server is.
const POP3: &str = "POP3 is usually on port 995 or 110";
/// What to do about a refused password.
pub const CHECK: &str =
    "check user and password; some providers want an app password, or POP3 switched on first";
/// What to do about a maildrop that is locked.
pub const LOCKED: &str = "another program has the mailbox open, or a lost session still holds it";
/// What to do about `[LOGIN-DELAY]`.
pub const TOO_OFTEN: &str = "poll this account less often";
/// What to do about `[SYS/PERM]`.
pub const OPERATOR: &str = "the server says that a person must act: ask its operator";

/// Says what a refusal is about, by its response code.
fn class(code: Option<Code>, about: About) -> Class {
    match (code, about) {
        (Some(Code::InUse), _) => Class::InUse,
        (Some(Code::LoginDelay), _) => Class::LoginDelay,
        (Some(Code::SysTemp), _) => Class::Refused,
        (Some(Code::SysPerm), _) => Class::Permanent,
        (Some(Code::Auth), _) | (_, About::LogIn) => Class::Credentials,
        (Some(Code::Other) | None, About::Greeting | About::Other) => Class::Refused,
    }
}

/// Says the same of a log-in, by what the server said.
pub fn class_of_refused_log_in(said: &[u8]) -> Class {
    class(Reply { status: Status::Err, text: said }.code(), About::LogIn)
}

impl SourceError {
    /// Makes a refusal of a reply.
    pub(super) fn refused(reply: &Reply<'_>, about: About) -> Self {
        Self::Refused { said: reply.text.to_vec(), code: reply.code(), about, hint: None }
    }

    /// Gives what kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Net(error) => error.class(),
            Self::Wire(error) => match error {
                WireError::Protocol(_) | WireError::Injected | WireError::Command(_) => Class::Protocol,
                WireError::Silence { .. } | WireError::Trickle { .. } => Class::Network,
                WireError::Closed { .. } => Class::Network,
                WireError::Lost { source, .. } => source.class(),
            },
            Self::Refused { code, about, .. } => class(*code, *about),
            Self::NoMechanism(_) => Class::Permanent,
            Self::Sasl(error) => error.class(),
            Self::Endless { .. } | Self::OutOfStep => Class::Protocol,
        }
    }

    /// Gives what the server said, if it refused something.
    pub fn said(&self) -> Option<&[u8]> {
        match self {
            Self::Refused { said, .. } if !said.is_empty() => Some(said),
            _ => None,
        }
    }

    /// Says whether the credentials are refused, and not the moment.
    pub fn refuses_credentials(&self) -> bool {
        match self {
            Self::Refused { said, code, about: About::LogIn, .. } => {
                class(*code, About::LogIn) == Class::Credentials && !speaks_of_a_lock(said)
            }
            _ => false,
        }
    }

    /// Gives the log-in that was refused, if that is what went wrong.
    pub fn refused_log_in(self) -> Result<RefusedLogIn, Self> {
        match self {
            Self::Refused { said, code, about: About::LogIn, hint } => {
                Ok(RefusedLogIn { said, class: class(code, About::LogIn), hint })
            }
            Self::Sasl(SaslError::Refused(said)) => {
                let hint = SaslError::Refused(said.clone()).hint();
                Ok(RefusedLogIn { said, class: class(None, About::LogIn), hint })
            }
            other => Err(other),
        }
    }

    /// Gives the file that could not be used, if that is why.
    pub fn file(&self) -> Option<(&Path, Option<&io::Error>)> {
        match self {
            Self::Net(NetError::CaFile { path, .. } | NetError::ClientCertificate { path, .. }) => {
                Some((path, None))
            }
            _ => None,
        }
    }

    /// Says whether it is the host's, whoever polls there: network, TLS or greeting. One that hangs up or says nothing
    /// where the answer to a log-in was due may refuse that account so.
    pub fn is_of_host(&self) -> bool {
        match self {
            Self::Refused { about, .. } => *about == About::Greeting,
            Self::Wire(WireError::Protocol(
                ProtocolError::NotAReply { to, .. }
                | ProtocolError::LineTooLong { to }
                | ProtocolError::ListingTooLong { to },
            )) => *to == Request::Greeting,
            Self::Wire(
                WireError::Closed { waiting }
                | WireError::Lost { waiting, .. }
                | WireError::Silence { waiting, .. }
                | WireError::Trickle { waiting, .. },
            ) => waiting.awaited != Awaited::LogIn,
            _ => matches!(self.class(), Class::Network | Class::Tls),
        }
    }

    /// Says whether it was the server's doing, rather than the network's or one message's.
    pub fn is_of_server(&self) -> bool {
        matches!(
            self,
            Self::Wire(_) | Self::OutOfStep | Self::Refused { .. } | Self::NoMechanism(_) | Self::Sasl(_)
        )
    }

    /// Says whether the server refused without saying why by a code.
    pub(super) fn is_uncoded_refusal(&self) -> bool {
        matches!(self, Self::Refused { code: None, .. })
    }

    /// Says whether the session broke, rather than ended for a reason of our own.
    pub fn is_break(&self) -> bool {
        match self {
            Self::Endless { .. } | Self::OutOfStep => true,
            Self::Wire(error) => match error {
                WireError::Protocol(_)
                | WireError::Silence { .. }
                | WireError::Trickle { .. }
                | WireError::Closed { .. }
                | WireError::Lost { .. } => true,
                WireError::Injected | WireError::Command(_) => false,
            },
            Self::Net(_) | Self::Refused { .. } | Self::NoMechanism(_) | Self::Sasl(_) => false,
        }
    }

    /// Says whether the connection ended, or fell silent, where an answer might have begun.
    pub(super) fn is_end(&self) -> bool {
        self.is_break()
            && !matches!(self, Self::Endless { .. } | Self::OutOfStep | Self::Wire(WireError::Protocol(_)))
    }

    /// Says whether the server fell silent.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Wire(WireError::Silence { .. } | WireError::Trickle { .. }))
    }

    /// Says whether a server that was sent what it does not take may end a session so.
    pub(super) fn may_be_of_what_was_sent(&self) -> bool {
        self.loses_step() || matches!(self, Self::Wire(WireError::Closed { .. } | WireError::Lost { .. }))
    }

    /// Says whether the server answers what it should not have, or nothing. What has no end is no answer to anything else.
    pub fn loses_step(&self) -> bool {
        self.is_unasked() || matches!(self, Self::Wire(WireError::Silence { .. }))
    }

    /// Says whether the server answers what it was not asked.
    pub(super) fn is_unasked(&self) -> bool {
        match self {
            Self::Wire(WireError::Protocol(error)) => match error {
                ProtocolError::NotAReply { .. } | ProtocolError::Unasked { .. } => true,
                ProtocolError::LineTooLong { .. } | ProtocolError::ListingTooLong { .. } => false,
            },
            Self::OutOfStep => true,
            _ => false,
        }
    }

    /// Says whether a line came that nobody had asked for.
    pub(super) fn is_one_too_many(&self) -> bool {
        matches!(self, Self::Wire(WireError::Protocol(ProtocolError::Unasked { .. })))
    }

    /// Says what the user can do, if that is known.
    pub fn hint(&self, account: &Account) -> Option<String> {
        match self {
            Self::Net(error) => error.hint(),
            Self::Wire(WireError::Lost { source, .. }) => source.hint(),
            Self::NoMechanism(error) => Some(error.hint().to_owned()),
            Self::Sasl(error) => error.hint(),
            Self::Wire(WireError::Protocol(ProtocolError::NotAReply { to: Request::Greeting, line })) => {
                net::another_server(Some(line), account.tls.mode, POP3)
                    .or_else(|| Some(format!("is there a POP3 server on {}?", account.server())))
            }
            Self::Wire(WireError::Silence { waiting, .. }) if waiting.awaited == Awaited::Greeting => {
                net::another_server(None, account.tls.mode, POP3)
            }
            Self::Wire(WireError::Closed { waiting }) if waiting.awaited == Awaited::LogIn => {
                Some("some servers close the connection when the password is wrong".into())
            }
            Self::Refused { code, about, hint, .. } => match (code, about) {
                (Some(Code::InUse), _) => Some(LOCKED.into()),
                (Some(Code::LoginDelay), _) => Some(TOO_OFTEN.into()),
                (Some(Code::SysPerm), _) => Some(OPERATOR.into()),
                (Some(Code::SysTemp), _) => None,
                (Some(Code::Auth), _) | (_, About::LogIn) => Some(CHECK.into()),
                (Some(Code::Other) | None, About::Greeting | About::Other) => hint.clone(),
            },
            Self::Wire(_) | Self::Endless { .. } | Self::OutOfStep => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Waiting;

    #[test]
    fn network_and_greeting_are_the_hosts_trouble_and_a_log_in_is_an_accounts() {
        let refused = |about| SourceError::refused(&Reply { status: Status::Err, text: b"no" }, about);
        let closed = |awaited| SourceError::from(WireError::Closed { waiting: Waiting::new(awaited, "x") });
        let silent = |awaited| {
            let waiting = Waiting::new(awaited, "x");
            SourceError::from(WireError::Silence { waiting, after: std::time::Duration::from_secs(60) })
        };
        let garbled =
            |to| SourceError::from(WireError::Protocol(ProtocolError::NotAReply { to, line: Vec::new() }));
        let away = NetError::Refused { addresses: Vec::new(), port: 995 };
        for of_host in [
            away.into(),
            refused(About::Greeting),
            closed(Awaited::Greeting),
            closed(Awaited::Other),
            silent(Awaited::Greeting),
            garbled(Request::Greeting),
        ] {
            assert!(of_host.is_of_host(), "{of_host}");
        }
        for of_account in [
            refused(About::LogIn),
            closed(Awaited::LogIn),
            silent(Awaited::LogIn),
            refused(About::Other),
            garbled(Request::List),
        ] {
            assert!(!of_account.is_of_host(), "{of_account}");
        }
    }
}
