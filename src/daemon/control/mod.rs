//! The control socket: what a running daemon can be asked, and by whom.
//!
//! A client writes requests, one JSON object a line ([`Request`]), and reads replies ([`Reply`]); `sync` is answered by
//! many, up to [`Reply::Done`]. The socket is its owner's alone ([`place`]), and whoever connects is still not trusted
//! to send sense, to send anything, or to read ([`server`]).

pub mod client;
pub mod feed;
pub mod place;
pub mod server;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::session::{Deletions, Limits, Report};

pub use feed::{Feed, Snapshot};

/// The longest request, in octets: names of a few thousand accounts.
const LONGEST_REQUEST: u64 = 256 << 10;

/// How often the daemon says that it still lives while a client waits for a poll.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Poll now; without names all accounts that have an interval. Answered by [`Reply::Woken`].
    Wake {
        /// Names of accounts.
        accounts: Vec<String>,
    },
    /// Say how it stands. Answered by [`Reply::Status`].
    Status,
    /// Poll now, and tell how it goes. Answered by [`Reply::Taken`], then others, then [`Reply::Done`].
    Sync {
        /// Names of accounts.
        accounts: Vec<String>,
        /// The configuration that the client has read.
        configuration: Stamp,
        /// Fetch at most this many messages of each.
        limit: Option<usize>,
        /// Delete nothing this time.
        keep: bool,
    },
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// So many accounts are polled as soon as their servers and the limits allow.
    Woken {
        /// How many.
        accounts: usize,
        /// Names that the daemon does not know.
        unknown: Vec<String>,
    },
    /// How it stands.
    Status(Live),
    /// It is going to poll these; the others are the client's.
    Taken {
        /// Names of accounts.
        accounts: Vec<String>,
    },
    /// How far the poll of an account is.
    Progress {
        /// Its name.
        account: String,
        /// How far.
        at: Snapshot,
    },
    /// The poll of an account has ended.
    Report(Box<Report>),
    /// Nothing has happened, but the daemon lives.
    Alive,
    /// Everything that was asked for is done.
    Done,
    /// The request cannot be understood.
    Error {
        /// Why.
        what: String,
    },
}

/// How a running daemon stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Its process.
    pub pid: u32,
    /// Its accounts, by name.
    pub accounts: Vec<LiveAccount>,
}

/// How an account of a running daemon stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAccount {
    /// Its name.
    pub account: String,
    /// What it is doing.
    pub doing: Doing,
    /// Failed polls in a row that made the wait longer.
    pub failures: u32,
}

/// What an account is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// It is being polled.
    Polling,
    /// Its time has come, and it waits for a free session.
    Due,
    /// It is polled in so many milliseconds.
    Waiting(u64),
    /// It is polled when it is asked for.
    Resting,
}

/// Tells one state of a configuration file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    file: (u64, u64),
    octets: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at a file.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            file: (found.dev(), found.ino()),
            octets: found.len(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Gives the limits that a request asks for.
fn limits(limit: Option<usize>, keep: bool) -> Limits {
    Limits { limit, deletions: if keep { Deletions::NotNow } else { Deletions::AsConfigured } }
}

fn line(of: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(of).expect("strings, numbers and lists of them are always JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Class, Failure};

    #[test]
    fn a_report_comes_through_as_it_is() {
        let failure = Failure {
            account: "home".into(),
            host: "pop.example.org:995".into(),
            doing: "log in".into(),
            class: Class::InUse,
            what: "refused".into(),
            said: Some(b"[IN-USE] \xff\n".to_vec()),
            hint: Some("wait".into()),
        };
        let report = Report {
            account: "home".into(),
            delivered: 3,
            left: 2,
            took: Duration::from_micros(1_234_567),
            login_delay: Some(Duration::from_secs(60)),
            failure: Some(failure),
            ..Report::default()
        };
        let sent = line(&Reply::Report(Box::new(report.clone())));
        assert_eq!(sent.iter().filter(|octet| **octet == b'\n').count(), 1, "one line");
        assert_eq!(serde_json::from_slice::<Reply>(&sent).unwrap(), Reply::Report(Box::new(report)));
    }

    #[test]
    fn requests_are_what_the_manual_shows() {
        let wake = Request::Wake { accounts: vec!["home".into()] };
        assert_eq!(line(&wake), b"{\"wake\":{\"accounts\":[\"home\"]}}\n");
        assert_eq!(line(&Request::Status), b"\"status\"\n");
    }
}
