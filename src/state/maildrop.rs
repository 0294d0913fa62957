//! A maildrop: its row, and what `status` and `seen list` show of it.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::in_utc;
use crate::failure::Class;
use crate::message::UniqueId;

use super::fleet::{Fleet, NextPoll};
use super::{Held, Kind, Timestamp};

/// A maildrop as its row shows it, with what its user was told; the default is one that was never polled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maildrop {
    pub identity: String,
    /// What its server was found to be like, so that it need not be asked again: octets of whoever talks to it.
    pub learned: Option<Vec<u8>>,
    /// What became of log-ins.
    pub log_ins: LogIns,
    /// The last poll and when it ended.
    pub last: Option<(Timestamp, PollResult)>,
    /// When the last poll ended that did not fail and left no message held.
    pub last_success: Option<Timestamp>,
    /// Failed polls in a row.
    pub failures: u32,
    /// What somebody was told of.
    pub told: Vec<Told>,
}

/// What is remembered of log-ins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIns {
    /// When one last succeeded.
    pub ok_at: Option<Timestamp>,
    /// The mark of the credentials with which it did.
    pub mark: Option<Vec<u8>>,
    /// Set after those that the server refused, until one succeeds.
    pub refused: Option<LogInRefused>,
}

/// What became of a log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogIn {
    Worked(LogInWorked),
    Refused(LogInRefused),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInWorked {
    /// A salt, and one octet of a digest of configuration and secret: most others have another one.
    pub mark: Vec<u8>,
}

/// Refused log-ins, counted so that an account is not locked out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInRefused {
    /// When it was refused last.
    pub at: Timestamp,
    pub count: u32,
    /// A salted, slow digest of configuration and secret; another one means that they changed.
    pub credentials: Vec<u8>,
    /// What the server said to the last one.
    pub said: Vec<u8>,
    /// What kind of trouble that was; `None`: one that only another version knows.
    #[serde(deserialize_with = "class")]
    pub class: Option<Class>,
}

fn class<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Class>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|name| Class::named(&name)))
}

/// What somebody is told of as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Polls that fail.
    Polls,
    Held,
    /// Messages that another program left.
    Stays,
    /// Messages that nothing tells from others.
    Nameless,
    /// Lines of listings that mean nothing.
    Garbage,
    /// Another session of ours that has the maildrop: no trouble of the account's.
    Lease,
    /// Notices that cannot be delivered.
    Notice,
    /// Hooks that fail.
    After,
    OnNew,
    OnError,
    OnRecover,
}

/// Each with its name in the table; hooks have that of their key.
const SUBJECTS: [(Subject, &str); 11] = [
    (Subject::Polls, "polls"),
    (Subject::Held, "held"),
    (Subject::Stays, "imported"),
    (Subject::Nameless, "nameless"),
    (Subject::Garbage, "garbage"),
    (Subject::Lease, "lease"),
    (Subject::Notice, "notice"),
    (Subject::After, "after"),
    (Subject::OnNew, "on_new"),
    (Subject::OnError, "on_error"),
    (Subject::OnRecover, "on_recover"),
];

impl Subject {
    pub fn name(self) -> &'static str {
        SUBJECTS[self as usize].1
    }

    /// Finds the subject of this name; a newer version may have written one that is not known here.
    pub(super) fn named(name: &str) -> Option<Self> {
        SUBJECTS.into_iter().find(|(_, known)| *known == name).map(|(subject, _)| subject)
    }
}

/// What somebody was told of something that is, or lately was, in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub what: Subject,
    pub since: Timestamp,
    /// How often it was met.
    pub times: u32,
    pub lasts: bool,
    /// The kinds of trouble, and when each was told last; their names have no line end in them.
    pub kinds: Vec<(String, Timestamp)>,
    /// When a message told its user last.
    pub noticed_at: Option<Timestamp>,
}

/// The last poll of an account, as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollResult {
    pub account: String,
    /// Host and port.
    pub host: String,
    /// `None`: it succeeded. Else class name and text of the failure.
    pub failure: Option<(String, String)>,
    /// The target, as it is shown, if that was what failed.
    pub target: Option<String>,
    pub messages: u64,
    pub octets: u64,
    /// Messages in the maildrop at the listing.
    pub listed: Option<u64>,
    /// Messages left for later polls (limits).
    pub backlog: u64,
}

impl PollResult {
    /// Says whether the process was asked to end, or the session, before the work was done.
    pub fn was_stopped(&self) -> bool {
        self.failure.as_ref().is_some_and(|(class, _)| class == Class::Stopped.name())
    }
}

/// One maildrop, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub maildrop: Maildrop,
    pub seen: u64,
    /// Held messages that the last listing showed.
    pub held: Vec<Held>,
}

/// All that there is to be seen of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    /// By identity.
    pub maildrops: Vec<Status>,
    /// When a daemon polls next, by identity; of maildrops that were never polled, too.
    pub due: HashMap<String, Timestamp>,
    /// The oldest first.
    pub hours: Vec<Hour>,
    /// When maildrops are polled next, by identity, and how the workers stand, if the store is a database.
    pub next_polls: HashMap<String, NextPoll>,
    pub fleet: Option<Fleet>,
    /// How many there are, where not all are among them.
    pub in_all: Option<u64>,
}

/// What the polls of an hour brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// Its number since 1970.
    #[serde(rename = "from", serialize_with = "beginning")]
    pub hour: Timestamp,
    pub messages: u64,
    pub octets: u64,
    /// Polls that failed.
    pub failures: u64,
}

fn beginning<S: Serializer>(hour: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    in_utc(&hour.saturating_mul(3600), serializer)
}

/// One recorded unique-id, as `seen list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLine {
    pub uid: UniqueId,
    /// Which of those that share the unique-id.
    pub ordinal: u32,
    /// Octets by the listing (0: unknown).
    pub octets: u64,
    /// When it was first recorded.
    pub first_seen: Timestamp,
    /// When it was delivered, or given up; `None`: only marked as seen.
    pub delivered_at: Option<Timestamp>,
    /// How the record came to be.
    pub kind: Kind,
    /// The last listing that showed it; `None`: the latest.
    pub last_listed: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_its_own_name() {
        for (at, (subject, name)) in SUBJECTS.into_iter().enumerate() {
            assert_eq!((subject as usize, subject.name(), Subject::named(name)), (at, name, Some(subject)));
        }
        assert_eq!(Subject::named("of another version"), None);
    }

    #[test]
    fn a_refusal_of_a_class_that_is_not_known_is_read() {
        let read = |class: &str| {
            let json = format!(r#"{{"at":7,"count":1,"credentials":[],"said":[],"class":"{class}"}}"#);
            let refused: LogInRefused = serde_json::from_str(&json).unwrap();
            (serde_json::to_string(&refused).unwrap() == json, refused.class)
        };
        assert_eq!(read("in-use"), (true, Some(Class::InUse)));
        assert_eq!(read("of another version"), (false, None));
    }
}
