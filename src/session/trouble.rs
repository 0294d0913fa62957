//! Everything that can end a session, and what each becomes for the user.

use std::io;
use std::time::Duration;

use jiff::Timestamp as Moment;
use jiff::tz::TimeZone;

use crate::config::Account;
use crate::config::account::TlsMode;
use crate::credential::CredentialError;
use crate::delivery::TargetError;
use crate::failure::{Class, Failure};
use crate::net::{self, NetError};
use crate::pop3::{Code, ProtocolError, Reply, Request, Status};
use crate::sandbox;
use crate::sasl::{NoMechanism, SaslError};
use crate::state::{StateError, Timestamp};

use super::lockout::{Refusal, speaks_of_a_lock};
use super::wire::WireError;

/// Why a session ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No connection.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The connection, or what came over it.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server said no.
    #[error("refused")]
    Refused {
        /// What it said.
        said: Vec<u8>,
        /// Its response code.
        code: Option<Code>,
        /// What was refused.
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
    /// The hook before the poll did not do its work.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// There is no password.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The server refused the log-in.
    #[error("refused")]
    LogInRefused {
        /// What it said, and what follows.
        refusal: Refusal,
        /// What to do instead of looking at the password, if that is known.
        hint: Option<String>,
    },
    /// The server refused this log-in before, and another attempt could lock the account.
    #[error(
        "not tried: the server refused this log-in at {}; no further unattended attempt before {} or a change of \
         configuration or password",
        clock_time(.0.at), clock_time(.0.until)
    )]
    LockedOut(Refusal),
    /// Another session of ours has the maildrop.
    #[error("another postrider has had this maildrop for {} now", humantime::format_duration(*.waited))]
    Leased {
        /// How long was waited for it.
        waited: std::time::Duration,
    },
    /// The state file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Neither unique-ids nor headers can be had.
    #[error(
        "server offers neither UIDL nor TOP, so that messages cannot be told apart from one poll to the next"
    )]
    Nameless,
    /// None of the messages that were tried could be had and delivered.
    #[error("none of {count} messages could be fetched and delivered; the last: {reason}")]
    AllRefused {
        /// How many.
        count: usize,
        /// Why the last one was not.
        reason: String,
    },
    /// A message has no end.
    #[error("server sent far more octets than the {listed} that it listed for this message")]
    Endless {
        /// Octets by the listing.
        listed: u64,
    },
    /// The process was asked to end.
    #[error("stopped before all messages were fetched")]
    Stopped,
}

/// What a refusal was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The log-in.
    LogIn,
    /// Anything else.
    Other,
}

/// A trouble and what was being done.
#[derive(Debug)]
pub struct Aborted {
    /// A verb phrase.
    pub doing: String,
    /// What happened.
    pub trouble: Trouble,
}

/// What a poll says of its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It can be polled.
    Works,
    /// It cannot.
    Fails,
    /// Nothing: the poll was stopped, or another session of ours has the maildrop at this moment.
    Open,
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It cannot be run.
    #[error("cannot run the hook `{hook}` ({command}): {source}")]
    Start {
        /// `before`, ...
        hook: &'static str,
        /// The program.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("the hook `{hook}` ({command}) failed: {status}{words}")]
    Failed {
        /// `before`, ...
        hook: &'static str,
        /// The program.
        command: String,
        /// Its exit status or signal.
        status: String,
        /// A colon and the last line that it wrote, if it wrote one.
        words: String,
    },
    /// It was ended at its time limit, or because the process was asked to end.
    #[error("the hook `{hook}` ({command}) had not ended after {}", humantime::format_duration(*.after))]
    TimedOut {
        /// `before`, ...
        hook: &'static str,
        /// The program.
        command: String,
        /// How long it had.
        after: Duration,
    },
}

/// Says what was being done when a result went wrong.
pub trait During<T> {
    /// `doing` is a verb phrase: `log in as alice (PLAIN)`.
    fn during(self, doing: impl Into<String>) -> Result<T, Aborted>;
}

impl<T, E: Into<Trouble>> During<T> for Result<T, E> {
    fn during(self, doing: impl Into<String>) -> Result<T, Aborted> {
        self.map_err(|error| Aborted { doing: doing.into(), trouble: error.into() })
    }
}

impl Verdict {
    /// Judges by how a session ended.
    pub fn of(ended: Result<(), &Aborted>) -> Self {
        match ended {
            Ok(()) => Self::Works,
            // The lease is tried before anything is written to the state, which does not count these either. A server's
            // [IN-USE] is something else: it may last until a person ends the session that has the maildrop.
            Err(Aborted { trouble: Trouble::Stopped | Trouble::Leased { .. }, .. }) => Self::Open,
            Err(_) => Self::Fails,
        }
    }
}

impl Trouble {
    /// Makes a refusal of a reply.
    pub fn refused(reply: &Reply<'_>, about: About) -> Self {
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
            Self::Refused { code, about, .. } => match (code, about) {
                (Some(Code::InUse), _) => Class::InUse,
                (Some(Code::LoginDelay), _) => Class::LoginDelay,
                (Some(Code::SysTemp), _) => Class::Refused,
                (Some(Code::SysPerm), _) => Class::Permanent,
                (Some(Code::Auth), _) | (_, About::LogIn) => Class::Credentials,
                (Some(Code::Other) | None, About::Other) => Class::Refused,
            },
            Self::NoMechanism(_) | Self::Nameless => Class::Permanent,
            Self::Endless { .. } => Class::Protocol,
            Self::Sasl(error) => error.class(),
            // A later run may have an answer.
            Self::Credential(CredentialError::TimedOut { .. }) => Class::Hook,
            Self::Credential(_) => Class::Credentials,
            Self::LogInRefused { refusal, .. } | Self::LockedOut(refusal) => refusal.class,
            Self::Leased { .. } => Class::InUse,
            Self::State(_) => Class::State,
            Self::Target(TargetError::Server(error)) => error.class,
            Self::Target(_) => Class::Target,
            Self::AllRefused { .. } => Class::Message,
            Self::Hook(_) => Class::Hook,
            Self::Stopped => Class::Stopped,
        }
    }

    fn said(&self) -> Option<Vec<u8>> {
        match self {
            Self::Refused { said, .. } if !said.is_empty() => Some(said.clone()),
            Self::LogInRefused { refusal: Refusal { said, .. }, .. }
            | Self::LockedOut(Refusal { said, .. })
                if !said.is_empty() =>
            {
                Some(said.clone())
            }
            Self::Target(TargetError::Server(error)) => error.said.clone(),
            _ => None,
        }
    }

    /// Gives a hint if our own sandbox is why.
    fn sandboxed(&self) -> Option<String> {
        match self {
            Self::Target(TargetError::File { path, source, .. })
            | Self::Credential(CredentialError::File { path, source }) => sandbox::hint(path, Some(source)),
            Self::Net(NetError::CaFile { path, .. } | NetError::ClientCertificate { path, .. }) => {
                sandbox::hint(path, None)
            }
            _ => None,
        }
    }

    fn hint(&self, account: &Account) -> Option<String> {
        match self {
            Self::Net(error) => error.hint(),
            Self::Wire(WireError::Lost { source, .. }) => source.hint(),
            Self::NoMechanism(error) => Some(error.hint().to_owned()),
            Self::Sasl(error) => error.hint(),
            Self::Credential(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Target(error) => error.hint(),
            Self::Wire(WireError::Protocol(ProtocolError::NotAReply { to: Request::Greeting, line })) => {
                Some(match line.as_slice() {
                    line if net::looks_like_tls(line) => {
                        "the server speaks TLS on this port: write `tls: implicit`, or the port for STLS"
                            .into()
                    }
                    line if line.starts_with(b"* ") => {
                        "this is an IMAP server; POP3 is usually on port 995 or 110".to_string()
                    }
                    line if line.starts_with(b"220") => {
                        "this is an SMTP or FTP server; POP3 is usually on port 995 or 110".to_string()
                    }
                    _ => format!("is there a POP3 server on {}?", account.server()),
                })
            }
            Self::Wire(WireError::Silence { waiting, .. }) if waiting.contains("greeting") => {
                match account.tls.mode {
                    TlsMode::Implicit => None,
                    _ => Some("if the server expects TLS at once on this port, write `tls: implicit`".into()),
                }
            }
            Self::Wire(WireError::Closed { waiting })
                if waiting.contains("PASS") || waiting.contains("AUTH") =>
            {
                Some("some servers close the connection when the password is wrong".into())
            }
            Self::Refused { code, about, .. } => match (code, about) {
                (Some(Code::InUse), _) => {
                    Some("another program has the mailbox open, or a lost session still holds it".into())
                }
                (Some(Code::LoginDelay), _) => Some("poll this account less often".into()),
                (Some(Code::SysPerm), _) => {
                    Some("the server says that a person must act: ask its operator".into())
                }
                (Some(Code::SysTemp), _) => None,
                (Some(Code::Auth), _) | (_, About::LogIn) => Some(CHECK.into()),
                (Some(Code::Other) | None, About::Other) => None,
            },
            Self::Nameless => {
                Some("such a server can only be emptied: write `keep: none`, without `first_sync: none`, and every message is deleted once it is delivered".into())
            }
            Self::Leased { .. } => Some("wait until it has finished, or poll less often".into()),
            Self::LogInRefused { refusal, hint } => Some(refused_log_in(account, refusal, hint.as_deref())),
            Self::LockedOut(refusal) => {
                let cause = cause(account, refusal, None).map_or_else(String::new, |cause| cause + "; ");
                Some(format!("{cause}{}", tries_once(account)))
            }
            Self::Wire(_) => None,
            Self::Hook(_) => Some("nothing was fetched; run the command by hand to see what it lacks".into()),
            Self::AllRefused { .. } => {
                Some(format!("`postrider held list {}` shows what is held, and why", account.name))
            }
            Self::Endless { .. } | Self::Stopped => None,
        }
    }
}

impl Aborted {
    /// Says what to do instead of looking at the password, if the log-in was refused.
    pub fn with_hint(mut self, instead: Option<String>) -> Self {
        if let Trouble::Refused { about: About::LogIn, hint, .. } = &mut self.trouble {
            *hint = instead;
        }
        self
    }

    /// Gives until when the log-in is not to be tried again, if it was refused.
    pub fn refused_until(&self) -> Option<Timestamp> {
        match &self.trouble {
            Trouble::LogInRefused { refusal, .. } | Trouble::LockedOut(refusal) => Some(refusal.until),
            _ => None,
        }
    }

    /// Says it to the user.
    pub fn failure(&self, account: &Account) -> Failure {
        let local = matches!(
            self.trouble,
            Trouble::State(_)
                | Trouble::Target(_)
                | Trouble::Credential(_)
                | Trouble::Hook(_)
                | Trouble::Leased { .. }
        );
        Failure {
            account: account.name.clone(),
            host: match &self.trouble {
                Trouble::Target(TargetError::Server(_)) => account.deliver.to_string(),
                _ if local => String::new(),
                _ => account.server(),
            },
            doing: self.doing.clone(),
            class: self.trouble.class(),
            what: self.trouble.to_string(),
            said: self.trouble.said(),
            hint: self.trouble.sandboxed().or_else(|| self.trouble.hint(account)),
        }
    }
}

/// What to do about a refused password.
const CHECK: &str = "check user and password; some providers want an app password, or POP3 switched on first";

/// Says what to do about a refused log-in, and what becomes of it by itself.
fn refused_log_in(account: &Account, refusal: &Refusal, instead: Option<&str>) -> String {
    let cause = cause(account, refusal, instead).map_or_else(String::new, |cause| cause + "; ");
    format!(
        "{cause}no further unattended attempt before {} or a change of configuration or password; {}",
        clock_time(refusal.until),
        tries_once(account)
    )
}

/// Says why a log-in may have been refused.
fn cause(account: &Account, refusal: &Refusal, instead: Option<&str>) -> Option<String> {
    if account.tls.mode == TlsMode::None && speaks_of_tls(&refusal.said) {
        return Some("the server wants TLS before a log-in: write `tls: starttls`".into());
    }
    let code = Reply { status: Status::Err, text: &refusal.said }.code();
    match (refusal.class, code) {
        (Class::InUse, _) => {
            Some("another program has the mailbox open, or a lost session still holds it".into())
        }
        (Class::LoginDelay, _) => Some("poll this account less often".into()),
        (Class::Credentials, Some(Code::SysPerm)) => {
            Some("the server says that a person must act: ask its operator".into())
        }
        (Class::Credentials, _) => Some(instead.unwrap_or(CHECK).into()),
        (Class::Refused, code) if code != Some(Code::SysTemp) && !speaks_of_a_lock(&refusal.said) => {
            let lately = "what was refused worked within the last day: some servers say so when they are asked too often";
            Some(instead.unwrap_or(lately).into())
        }
        _ => instead.map(str::to_owned),
    }
}

/// Names the command that tries a refused log-in again.
fn tries_once(account: &Account) -> String {
    // An account made of a URL has no other name.
    let name = if account.name.contains("://") { "URL" } else { account.name.as_str() };
    format!("`postrider sync {name}` on a terminal, or with `--force`, tries once")
}

fn speaks_of_tls(said: &[u8]) -> bool {
    let said = said.to_ascii_lowercase();
    let words: [&[u8]; 6] = [b"tls", b"ssl", b"encrypt", b"secure", b"plaintext", b"cleartext"];
    words.iter().any(|word| memchr::memmem::find(&said, word).is_some())
}

/// Shows a time of today as people read it: `14:05`.
fn clock_time(at: Timestamp) -> String {
    match Moment::from_second(at) {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%H:%M").to_string(),
        Err(_) => at.to_string(),
    }
}
