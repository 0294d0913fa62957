//! How a session went, for whoever prints, schedules or counts.

use std::fmt;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use tokio::task::JoinError;

use crate::config::Account;
use crate::failure::{Class, Failure};

use super::news::Heard;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub account: String,
    /// `host:port`.
    pub host: String,
    /// Messages in the maildrop, if the listing was read.
    pub listed: Option<usize>,
    /// Octets in the maildrop by the listing.
    pub listed_octets: u64,
    /// Messages not recorded when the session began (what `check` calls new).
    pub new: usize,
    /// Octets of those by the listing.
    pub new_octets: u64,
    /// Messages delivered in this session.
    pub delivered: usize,
    /// Octets of those, as delivered.
    pub delivered_octets: u64,
    /// Messages found to be in the target already (after a crash or a lost state file).
    pub already_there: usize,
    /// Deletions that reached UPDATE state.
    pub deleted: usize,
    /// Messages held now, old ones included, and without those that `max_size` leaves.
    pub held: usize,
    /// Those of them that a sync leaves held.
    pub leaves_held: usize,
    /// Messages that came to be held, or failed for another reason than before, in this session.
    pub newly_held: usize,
    /// Those that came to be held, or whose trouble became another's, in this session.
    pub came_held: Option<CameHeld>,
    /// Messages that another program fetched and left, and that stay although all else is deleted.
    pub stays: usize,
    /// Messages left for later by a limit (`max_messages`, `--limit`, `max_size`) or by a stop.
    pub left: usize,
    /// Messages among those left that nothing tells from others.
    pub nameless: usize,
    /// Lines of the listing that mean nothing.
    pub garbage: usize,
    /// The time that the server wants between two log-ins, if it announced one, in this session or before.
    pub login_delay: Option<Duration>,
    /// Messages among those left that are there to be fetched: only the limit on their number, or on octets, kept them.
    pub beyond: usize,
    /// Messages that this session fetched and that need nothing more for now: delivered, found there, or held.
    pub settled: usize,
    /// When the log-in had been answered, or had failed, counted from the session's beginning; `None` if there was none.
    pub logged_in: Option<Duration>,
    /// How long a log-in that the server refused is not to be tried again.
    pub refused_for: Option<Duration>,
    /// What a dry run would do. Only the process that makes one tells it.
    pub planned: Vec<Planned>,
    pub took: Duration,
    /// Why the session ended early, if it did, or what was wrong with one of several targets.
    pub failure: Option<Failure>,
    /// Other targets have their messages in spite of that.
    pub serves_others: bool,
    /// What ended it, if that says nothing of the account.
    pub befell: Option<Befell>,
    /// What of it is news; `None` if that is not remembered.
    pub heard: Option<Heard>,
    /// What it has shown of its host.
    pub answer: Answer,
}

/// What a session has shown of its host: network, TLS and greeting are the host's, a log-in is an account's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// It was not asked, or there was no waiting for its answer.
    #[default]
    None,
    /// It answered, if only to refuse somebody's log-in.
    Answered,
    /// Network, TLS or greeting failed.
    Failed,
}

/// What is known of an account's host before it is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Host {
    #[default]
    Unknown,
    /// Others found it away so often that it is told once, for all of its accounts.
    Away,
}

/// What ends sessions of all accounts alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Befell {
    /// Its worker meets it, too, and tells it: the lease or the database is lost.
    Worker,
    /// Only whoever records something meets it.
    Records,
}

/// As JSON it is what `sync --json` prints; the manual describes the fields, and their names stay.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Report", 17)?;
        fields.serialize_field("account", &self.account)?;
        fields.serialize_field("host", &self.host)?;
        fields.serialize_field("exit_status", &self.exit_status())?;
        fields.serialize_field("listed", &self.listed)?;
        fields.serialize_field("listed_octets", &self.listed_octets)?;
        fields.serialize_field("new", &self.new)?;
        fields.serialize_field("new_octets", &self.new_octets)?;
        fields.serialize_field("delivered", &self.delivered)?;
        fields.serialize_field("delivered_octets", &self.delivered_octets)?;
        fields.serialize_field("already_there", &self.already_there)?;
        fields.serialize_field("deleted", &self.deleted)?;
        fields.serialize_field("held", &self.held)?;
        fields.serialize_field("newly_held", &self.newly_held)?;
        fields.serialize_field("left", &self.left)?;
        fields.serialize_field("seconds", &((self.took.as_secs_f64() * 1e3).round() / 1e3))?;
        fields.serialize_field("planned", &self.planned)?;
        fields.serialize_field("failure", &self.failure)?;
        fields.end()
    }
}

impl Report {
    /// Says that a process that was asked to end did not begin the session.
    pub fn not_begun(account: &Account) -> Self {
        Self::without_session(account, Class::Stopped, "not begun: stopped by a signal", None)
    }

    /// Makes what the panic hook has already told in detail this account's failure, and only this one's.
    pub fn defect(account: &Account, error: &JoinError) -> Self {
        let what = if error.is_panic() { "ended by an internal error" } else { "cancelled" };
        let hint = "nothing is lost; please report this together with the line before";
        Self::without_session(account, Class::Internal, what, Some(hint))
    }

    fn without_session(account: &Account, class: Class, what: &str, hint: Option<&str>) -> Self {
        let failure = Failure {
            account: account.name.clone(),
            host: account.server(),
            doing: "poll".into(),
            class,
            what: what.into(),
            said: None,
            hint: hint.map(str::to_owned),
        };
        Self {
            account: account.name.clone(),
            host: account.server(),
            failure: Some(failure),
            ..Self::default()
        }
    }

    /// Gives what becomes of a poll of this account that fails with this class.
    #[cfg(test)]
    pub(crate) fn failed(account: &str, class: Class) -> Self {
        let failure = Failure {
            account: account.into(),
            host: String::new(),
            doing: String::new(),
            class,
            what: String::new(),
            said: None,
            hint: None,
        };
        Self { account: account.into(), failure: Some(failure), ..Self::default() }
    }

    /// Gives the exit status that this account alone would cause (0, 75 or 77).
    pub fn exit_status(&self) -> u8 {
        match &self.failure {
            Some(failure) => failure.class.exit_status(),
            None if self.leaves_held > 0 => 75,
            None => 0,
        }
    }
}

/// Messages that came to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameHeld {
    /// Whose trouble the first of them is.
    pub kind: &'static str,
    pub count: usize,
    /// The first of them, and why it is held.
    pub words: String,
}

/// One message in the plan of a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The unique-id, made safe to show.
    pub uid: String,
    pub octets: u64,
    /// `fetch`, `delete`, `leave`, `hold`.
    pub action: &'static str,
    pub reason: String,
}

/// What a session does at a moment, or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Begun,
    WaitingForLease,
    RunningHookBefore,
    /// A person may be asked for it, on the terminal on which progress may be shown.
    GettingPassword,
    GettingToken,
    Connecting,
    /// Log-in and listing are one flight of commands.
    LoggingIn,
    ComparingHeaders,
    AskingAges,
    OpeningTarget,
    Fetching,
    EndingSession,
    RunningHooksAfter,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "begun",
            Self::WaitingForLease => "waiting for another process that polls this maildrop",
            Self::RunningHookBefore => "running the hook `before`",
            Self::GettingPassword => "getting the password",
            Self::GettingToken => "getting an access token",
            Self::Connecting => "connecting",
            Self::LoggingIn => "logging in and listing",
            Self::ComparingHeaders => "comparing headers",
            Self::AskingAges => "asking how old messages are",
            Self::OpeningTarget => "opening the target",
            Self::Fetching => "fetching",
            Self::EndingSession => "ending the session",
            Self::RunningHooksAfter => "running the hooks after the poll",
        })
    }
}

/// Hears of a session's progress while it goes on. All calls are cheap and never block.
pub trait Progress: Send + Sync {
    /// The session has begun to do this, or to wait for it.
    fn doing(&self, _activity: Activity) {}
    /// The session is about to log in, or has done so, at a server that wants so much time between two log-ins.
    fn logs_in(&self, _delay: Duration) {}
    /// The plan is made: so many messages of so many octets will be fetched.
    fn planned(&self, _messages: usize, _octets: u64) {}
    /// So many octets of message content came in since the last call.
    fn received(&self, _octets: u64) {}
    /// So many messages more are delivered and recorded.
    fn delivered(&self, _messages: usize) {}
}

impl Progress for () {}
