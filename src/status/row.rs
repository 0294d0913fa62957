//! An account and what is known of its maildrop.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::ago::{Age, age};
use crate::clock::utc;
use crate::config::Account;
use crate::config::account::Interval;
use crate::failure::Class;
use crate::session::summary::messages;
use crate::state::{Held, Maildrop, Status, Timestamp};

/// One maildrop. As JSON it is what `status --json` prints; the manual describes the fields, and their names stay.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    pub account: String,
    pub maildrop: String,
    pub host: Option<String>,
    pub configured: bool,
    pub enabled: bool,
    /// It is polled by itself.
    #[serde(skip)]
    pub scheduled: bool,
    /// Why this program cannot use the row of the table that it is, if nobody else polls it either.
    #[serde(skip)]
    pub unusable: Option<String>,
    /// The store has something of it.
    #[serde(skip)]
    pub recorded: bool,
    #[serde(serialize_with = "maybe_utc")]
    pub last_poll: Option<Timestamp>,
    #[serde(serialize_with = "maybe_utc")]
    pub last_success: Option<Timestamp>,
    pub failure: Option<PollFailure>,
    /// The target, if that was what failed.
    pub target: Option<String>,
    /// Failed polls in a row.
    pub failures: u32,
    pub listed: Option<u64>,
    pub delivered: u64,
    pub delivered_octets: u64,
    pub left: u64,
    pub seen: u64,
    pub held: Vec<Held>,
    /// It is being polled; `None`: no daemon polls it.
    pub polling: Option<bool>,
    #[serde(serialize_with = "maybe_utc")]
    pub next_poll: Option<Timestamp>,
    /// The worker of a fleet that polls it, or polled it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// Why the last poll failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PollFailure {
    pub class: String,
    pub message: String,
}

/// How much an account wants a look: what wants it most comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Failing,
    Holding,
    /// It is enabled, and was never polled.
    Unpolled,
    Fine,
    Disabled,
    NotConfigured,
}

impl Row {
    pub(super) fn of(account: Option<&Account>, known: Option<Status>) -> Self {
        let mut row = Self::default();
        if let Some(Status { maildrop, seen, held }) = known {
            let Maildrop { failures, last_success, .. } = maildrop;
            row = Self { seen, held, failures, last_success, recorded: true, ..row };
            row.account.clone_from(&maildrop.identity);
            row.maildrop = maildrop.identity;
            if let Some((at, last)) = maildrop.last {
                row.account = last.account;
                (row.last_poll, row.host) = (Some(at), Some(last.host));
                row.failure = last.failure.map(|(class, message)| PollFailure { class, message });
                (row.target, row.listed, row.left) = (last.target, last.listed, last.backlog);
                (row.delivered, row.delivered_octets) = (last.messages, last.octets);
            }
        }
        if let Some(account) = account {
            (row.configured, row.enabled) = (true, account.enabled);
            row.scheduled = account.enabled && matches!(account.interval, Interval::Every(_));
            (row.account, row.maildrop) = (account.name.clone(), account.maildrop_id.clone());
        }
        row
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }

    pub fn standing(&self) -> Standing {
        match self {
            Self { configured: false, .. } => Standing::NotConfigured,
            Self { enabled: false, .. } => Standing::Disabled,
            Self { failure: Some(_), .. } => Standing::Failing,
            Self { held, .. } if !held.is_empty() => Standing::Holding,
            Self { last_poll: None, .. } => Standing::Unpolled,
            Self { .. } => Standing::Fine,
        }
    }

    /// Orders rows: those of one standing by what is wrong with them.
    pub(super) fn rank(&self) -> (Standing, Option<(&str, &str)>) {
        let wrong = self.failure.as_ref().map(|failed| (failed.class.as_str(), self.words_of(failed)));
        (self.standing(), wrong)
    }

    /// Gives what went wrong without the name of the account, which stands before it.
    pub fn words_of<'a>(&self, failed: &'a PollFailure) -> &'a str {
        let text = failed.message.as_str();
        text.strip_prefix(self.account.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text)
    }

    /// Says so if an account that is to be polled by itself has not been with success for longer than this.
    pub fn stale(&self, now: Timestamp, limit: Duration) -> Option<Stale<'_>> {
        let age = self.last_success.map(|at| age(now, at));
        let is_long = age.is_none_or(|(Age::Past(time) | Age::Ahead(time))| time > limit);
        let class = self.failure.as_ref().map(|failed| failed.class.as_str());
        (self.scheduled && is_long).then_some(Stale { age, class, held: self.held.len() })
    }

    /// Says whether its last poll failed, or messages are held.
    pub fn is_in_trouble(&self) -> bool {
        self.failure.is_some() || !self.held.is_empty()
    }
}

/// An account whose mail may be waiting unseen.
#[derive(Debug)]
pub struct Stale<'a> {
    /// How long ago a poll last succeeded, if ever, or how far ahead.
    age: Option<Age>,
    class: Option<&'a str>,
    /// Messages that are held.
    held: usize,
}

impl Stale<'_> {
    pub fn class(&self) -> Class {
        self.class.and_then(Class::named).unwrap_or(Class::Network)
    }
}

impl fmt::Display for Stale<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.age {
            Some(Age::Past(age)) => {
                write!(f, "no poll has succeeded for {}", humantime::format_duration(age))?;
            }
            Some(Age::Ahead(by)) => {
                let by = humantime::format_duration(by);
                write!(f, "the last success is {by} ahead, by a clock that was wrong")?;
            }
            None => f.write_str("no poll has ever succeeded")?,
        }
        match self.class {
            Some(class) => write!(f, "; the last one failed ({class})"),
            None if self.held > 0 => write!(f, "; {} held", messages(self.held)),
            None => Ok(()),
        }
    }
}

fn maybe_utc<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(utc).serialize(serializer)
}
