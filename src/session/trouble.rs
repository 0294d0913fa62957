//! Everything that can end a session, and what each becomes for the user.

use std::io;
use std::time::Duration;

use jiff::Timestamp as Moment;
use jiff::tz::TimeZone;

use crate::config::account::TlsMode;
use crate::config::oauth2::{Grant, OAuth2};
use crate::config::target::Destination;
use crate::config::{Account, Whose, on_command_line};
use crate::credential::CredentialError;
use crate::delivery::TargetError;
use crate::failure::{
    Class, Failure, explained, meaning, speaks_of_a_lock, speaks_of_pop_off, speaks_of_tls,
};
use crate::source::{self, CHECK, LOCKED, OPERATOR, SourceError, TOO_OFTEN, Trial, class_of_refused_log_in};
use crate::state::{self, Closing, Leaseholder, StateError, Timestamp};
use crate::text::shell_word;

use super::lockout::Refusal;
use super::report::{Answer, Befell, Host};
use super::summary::messages;

pub const DAY: Timestamp = 24 * 60 * 60;

/// Why a session ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The hook before the poll did not do its work.
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The server refused the log-in.
    #[error("refused")]
    LogInRefused {
        /// What it said, and what follows.
        refusal: Refusal,
        /// What to do instead of looking at the password, if that is known.
        hint: Option<String>,
        /// Who said it, if it was not the account's server.
        at: Option<String>,
    },
    /// The server refused this log-in before, and another attempt could lock the account.
    #[error(
        "not tried: the server refused this log-in at {}; no further unattended attempt before {} or a change of \
         configuration or password",
        clock_time(.0.at), clock_time(.0.until)
    )]
    LockedOut(Refusal),
    /// Another session of ours has the maildrop.
    #[error(
        "{} has had this maildrop for {} now{}", holder(.by.as_ref()), humantime::format_duration(*.waited),
        .by.as_ref().map_or_else(String::new, |by| format!("; {}", by.until()))
    )]
    Leased {
        /// How long was waited for it.
        waited: std::time::Duration,
        /// The worker that has it, if one has.
        by: Option<Leaseholder>,
    },
    /// Another worker may have the maildrop by now: this one was not heard of for too long.
    #[error("the lease on the maildrop was lost")]
    LeaseLost,
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Target(#[from] TargetError),
    /// One of several targets is in trouble, and the others are not.
    #[error("{trouble}")]
    OneTarget {
        /// How it is shown.
        to: String,
        trouble: Box<Self>,
    },
    /// Neither unique-ids nor headers can be had.
    #[error(
        "server offers neither UIDL nor TOP, so that messages cannot be told apart from one poll to the next"
    )]
    Nameless,
    /// None of the messages that were tried could be had and delivered.
    #[error("none of {} could be fetched and delivered; the last: {reason}", messages(*count))]
    AllRefused {
        count: usize,
        /// How many of all are held by now; the others are tried again.
        held: usize,
        /// Why the last one was not.
        reason: String,
    },
    /// The process was asked to end.
    #[error("stopped before all messages were fetched")]
    Stopped,
}

/// A trouble and what was being done.
#[derive(Debug)]
pub struct Failed {
    /// A verb phrase.
    pub doing: String,
    pub trouble: Trouble,
}

impl From<source::SourceFailed> for Failed {
    fn from(source::SourceFailed { doing, error }: source::SourceFailed) -> Self {
        Self { doing, trouble: error.into() }
    }
}

/// How a poll ended that did not succeed.
pub struct AttemptFailed {
    pub aborted: Failed,
    /// What the server may not have taken: to be left out at the next attempt.
    pub suspect: Option<Trial>,
}

/// What a poll says of its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Works,
    Fails,
    /// Nothing: the poll was stopped, or another session of ours has the maildrop at this moment.
    Open,
    /// Nothing that is its own: its host is away, which is told once for all accounts.
    HostAway,
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("cannot run the hook `{hook}` ({command}): {source}")]
    Start {
        /// `before`, ...
        hook: &'static str,
        command: String,
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("the hook `{hook}` ({command}) failed: {status}{words}")]
    Failed {
        /// `before`, ...
        hook: &'static str,
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
        command: String,
        after: Duration,
    },
}

/// Says what was being done when a result went wrong.
pub trait During<T> {
    /// `doing` is a verb phrase: `log in as alice (PLAIN)`.
    fn during(self, doing: impl Into<String>) -> Result<T, Failed>;
}

impl<T, E: Into<Trouble>> During<T> for Result<T, E> {
    fn during(self, doing: impl Into<String>) -> Result<T, Failed> {
        self.map_err(|error| Failed { doing: doing.into(), trouble: error.into() })
    }
}

impl Health {
    /// Judges by how a session ended, and by what was known of its host.
    pub fn of(ended: Result<(), &Failed>, host: Host) -> Self {
        match ended {
            Ok(()) => Self::Works,
            // The lease is tried before anything is written to the state, which does not count these either. A server's
            // [IN-USE] is something else: it may last until a person ends the session that has the maildrop.
            Err(Failed {
                trouble: Trouble::Stopped | Trouble::Leased { .. } | Trouble::LeaseLost, ..
            }) => Self::Open,
            Err(failed) if host == Host::Away && failed.answer() == Answer::Failed => Self::HostAway,
            Err(_) => Self::Fails,
        }
    }
}

impl Trouble {
    /// Gives what kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Source(error) => error.class(),
            Self::Nameless => Class::Permanent,
            Self::Credential(error) => error.class(),
            Self::LogInRefused { refusal, .. } | Self::LockedOut(refusal) => refusal.class,
            Self::Leased { .. } | Self::LeaseLost => Class::InUse,
            Self::State(_) => Class::State,
            Self::Target(TargetError::Server(error)) => error.class,
            Self::Target(_) => Class::Target,
            Self::OneTarget { trouble, .. } => trouble.class(),
            Self::AllRefused { .. } => Class::Message,
            Self::Hook(_) => Class::Hook,
            Self::Stopped => Class::Stopped,
        }
    }

    fn said(&self) -> Option<Vec<u8>> {
        match self {
            Self::Source(error) => error.said().map(<[u8]>::to_vec),
            Self::LogInRefused { refusal: Refusal { said, .. }, .. }
            | Self::LockedOut(Refusal { said, .. })
                if !said.is_empty() =>
            {
                Some(said.clone())
            }
            Self::Target(TargetError::Server(error)) => error.said.clone(),
            Self::Credential(error) => error.said().map(<[u8]>::to_vec),
            Self::OneTarget { trouble, .. } => trouble.said(),
            _ => None,
        }
    }

    /// Gives a hint if this process is kept from a file.
    fn explained(&self) -> Option<String> {
        match self {
            Self::Target(TargetError::File { path, source, .. })
            | Self::Credential(CredentialError::File { path, source }) => explained(path, Some(source)),
            Self::Source(error) => error.file().and_then(|(path, source)| explained(path, source)),
            Self::OneTarget { trouble, .. } => trouble.explained(),
            _ => None,
        }
    }

    fn hint(&self, account: &Account) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(account),
            Self::Credential(error) => error.hint(&account.name),
            Self::State(error) => error.hint(),
            Self::Target(error) => error.hint(),
            Self::OneTarget { trouble, .. } => trouble.hint(account),
            Self::Nameless => {
                Some("such a server can only be emptied: write `keep: none`, without `first_sync: none`, and every message is deleted once it is delivered".into())
            }
            Self::Leased { .. } => Some("wait until it has finished, or poll less often".into()),
            Self::LeaseLost => {
                Some("another worker polls it; nothing is lost, and what was not recorded it fetches again".into())
            }
            Self::LogInRefused { refusal, hint, .. } => Some(refused_log_in(account, refusal, hint.as_deref())),
            Self::LockedOut(refusal) => {
                let instead = match (account.tls.mode, speaks_of_tls(&refusal.said)) {
                    (TlsMode::None, true) => {
                        Some("the server wants TLS before a log-in: write `tls: starttls` or `tls: implicit`")
                    }
                    (TlsMode::None, false) => Some(
                        "check user and password, and whether the server wants TLS first (`tls: starttls`)",
                    ),
                    _ => None,
                };
                let cause = cause(account, refusal, instead).map_or_else(String::new, |cause| cause + "; ");
                Some(format!("{cause}{}", tries_once(account)))
            }
            Self::Hook(_) => Some("nothing was fetched; run the command by hand to see what it lacks".into()),
            Self::AllRefused { held: 0, .. } => None,
            Self::AllRefused { .. } => {
                Some(format!("`postrider held list {}` shows what is held, and why", shell_word(&account.name)))
            }
            Self::Stopped => None,
        }
    }
}

impl Failed {
    /// Says whether something is so of an error of the source.
    pub fn is_of_source(&self, is: impl Fn(&SourceError) -> bool) -> bool {
        matches!(&self.trouble, Trouble::Source(error) if is(error))
    }

    /// Says what it shows of the account's host.
    pub fn answer(&self) -> Answer {
        match &self.trouble {
            Trouble::Source(error) if error.is_of_host() => Answer::Failed,
            Trouble::Source(_)
            | Trouble::Nameless
            | Trouble::LogInRefused { at: None, .. }
            | Trouble::AllRefused { .. } => Answer::Answered,
            _ => Answer::None,
        }
    }

    /// Gives what of it says nothing of the account: another worker may have the maildrop by now, or the database is in
    /// trouble that all sessions meet.
    pub fn befell(&self) -> Option<Befell> {
        match &self.trouble {
            Trouble::LeaseLost => Some(Befell::Worker),
            Trouble::State(StateError::Database { trouble, .. }) => match trouble {
                state::Trouble::Statement | state::Trouble::Value => None,
                state::Trouble::Full | state::Trouble::Forbidden => Some(Befell::Records),
                _ => Some(Befell::Worker),
            },
            _ => None,
        }
    }

    /// Gives until when the log-in is not to be tried again, if it was refused.
    pub fn refused_until(&self) -> Option<Timestamp> {
        match &self.trouble {
            Trouble::LogInRefused { refusal, .. } | Trouble::LockedOut(refusal) => Some(refusal.until),
            _ => None,
        }
    }

    /// Says which of several targets is in trouble.
    pub fn of_target(self, to: &Destination) -> Self {
        let trouble = Trouble::OneTarget { to: to.to_string(), trouble: Box::new(self.trouble) };
        Self { trouble, ..self }
    }

    /// Gives what a target is in trouble with.
    pub fn target_error(&mut self) -> Option<&mut TargetError> {
        match &mut self.trouble {
            Trouble::Target(error) => Some(error),
            Trouble::OneTarget { trouble, .. } => match &mut **trouble {
                Trouble::Target(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Gives the target, as it is shown, if it is not the maildrop's trouble.
    pub fn target(&self, account: &Account) -> Option<String> {
        match &self.trouble {
            Trouble::OneTarget { to, .. } => Some(to.clone()),
            Trouble::Target(_) => Some(account.target().to_string()),
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
                | Trouble::LeaseLost
        );
        Failure {
            account: account.name.clone(),
            host: match &self.trouble {
                Trouble::LogInRefused { at: Some(at), .. } => at.clone(),
                Trouble::Target(TargetError::Server(_)) => account.target().to_string(),
                Trouble::OneTarget { to, .. } => to.clone(),
                _ if local => String::new(),
                _ => account.server(),
            },
            doing: self.doing.clone(),
            class: self.trouble.class(),
            what: self.trouble.to_string(),
            said: self.trouble.said(),
            hint: self.trouble.explained().or_else(|| self.trouble.hint(account)).map(|hint| {
                let of_target = matches!(self.trouble, Trouble::Target(_));
                match account.is_of_url() {
                    true => on_command_line(&hint, if of_target { Whose::Target } else { Whose::Account }),
                    false => hint,
                }
            }),
        }
    }
}

impl AttemptFailed {
    pub fn plain(aborted: Failed) -> Self {
        Self { aborted, suspect: None }
    }

    /// Says whether the server did not do as expected, so that what is known of it may be out of date. Once it has
    /// listed, what goes wrong is a message's, or the network's.
    pub fn is_a_surprise(&self, closing: &Closing) -> bool {
        let is_the_servers = matches!(self.aborted.trouble, Trouble::Nameless)
            || self.aborted.is_of_source(SourceError::is_of_server);
        self.suspect.is_some() || (is_the_servers && closing.listed_at.is_none())
    }
}

fn holder(by: Option<&Leaseholder>) -> String {
    by.map_or_else(|| "another postrider".to_owned(), |by| format!("the worker {}", by.worker))
}

/// Says what to do about a refused log-in, and what becomes of it by itself.
fn refused_log_in(account: &Account, refusal: &Refusal, instead: Option<&str>) -> String {
    let cause = cause(account, refusal, instead).map_or_else(String::new, |cause| cause + "; ");
    format!("{cause}{}", waits(account, refusal))
}

/// Says when a refused log-in is tried again.
pub fn waits(account: &Account, refusal: &Refusal) -> String {
    format!(
        "no further unattended attempt before {} or a change of configuration or password; {}",
        clock_time(refusal.until),
        tries_once(account)
    )
}

/// Says why a log-in may have been refused.
fn cause(account: &Account, refusal: &Refusal, instead: Option<&str>) -> Option<String> {
    if let (TlsMode::None, true, Some(instead)) = (account.tls.mode, speaks_of_tls(&refusal.said), instead) {
        return Some(instead.to_owned());
    }
    if speaks_of_pop_off(&refusal.said) {
        return Some(
            "POP is switched off for this mailbox: switch it on in its settings, or ask who runs it".into(),
        );
    }
    if let Some(meaning) = meaning(&refusal.said) {
        return Some(meaning.to_owned());
    }
    // Some servers say by a code what the class leaves open.
    let told = class_of_refused_log_in(&refusal.said);
    match refusal.class {
        Class::InUse => Some(LOCKED.into()),
        Class::LoginDelay => Some(TOO_OFTEN.into()),
        Class::Credentials if told == Class::Permanent => Some(OPERATOR.into()),
        Class::Credentials => Some(instead.map_or_else(|| check(account), str::to_owned)),
        Class::Refused if told != Class::Refused && !speaks_of_a_lock(&refusal.said) => {
            let lately = "what was refused worked within the last day: some servers say so when they are asked too often";
            Some(instead.unwrap_or(lately).into())
        }
        _ => instead.map(str::to_owned),
    }
}

/// Says what to look at where credentials are refused.
fn check(account: &Account) -> String {
    match &account.oauth2 {
        None => CHECK.to_owned(),
        Some(OAuth2::Command(_)) => "look at what `token_command` prints, and at `user`".to_owned(),
        Some(OAuth2::Client(client)) if client.grant == Grant::ClientCredentials => {
            "the application must be let into this mailbox by the administrator; check `user`".to_owned()
        }
        Some(OAuth2::Client(_)) => format!(
            "run `postrider login {}` and sign in as this mailbox's user; some providers want POP3 switched on first",
            account.name
        ),
    }
}

/// Names the command that tries a refused log-in again.
pub fn tries_once(account: &Account) -> String {
    // An account made of a URL has no other name.
    let name = if account.is_of_url() { "URL --deliver TARGET".into() } else { shell_word(&account.name) };
    format!("`postrider sync {name}` on a terminal, or with `--force`, tries once")
}

/// Shows a time of today as people read it: `14:05`.
fn clock_time(at: Timestamp) -> String {
    match Moment::from_second(at) {
        Ok(moment) => moment.to_zoned(TimeZone::system()).strftime("%H:%M").to_string(),
        Err(_) => at.to_string(),
    }
}
