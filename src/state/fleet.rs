//! How the workers stand that share a database, and what they have to do.

use serde::Serialize;

use crate::clock::Timestamp;

/// The owner of a maildrop that is of no account any more: it is not counted among the fleet's, and its records age.
pub const GONE: i64 = -1;

/// The owner of a maildrop that has waited for long, and whose row some worker cannot use: it is the fleet's, and whoever has
/// the key polls it, but it does not say that polls are late.
pub const LEFT: i64 = -2;

/// The workers, and the maildrops that they poll in turn. As JSON it is what `status --json` prints; the manual describes
/// the fields, and their names stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Those that were heard of lately, and those that were evicted in the last hours, by name.
    pub workers: Vec<Worker>,
    /// How long the maildrop has been due that waits longest for its poll.
    pub lag_seconds: u64,
    /// All of them.
    #[serde(flatten)]
    pub all: Tally,
    /// Hosts with the most maildrops that wait, then with the most that fail.
    pub hosts: Vec<Host>,
    #[serde(skip)]
    pub accounts: Standings,
}

/// A process that polls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Worker {
    pub name: String,
    pub version: String,
    /// How long ago it was heard of.
    pub heard_seconds: u64,
    /// It claims nothing more by itself: it ends, or is a command.
    pub draining: bool,
    /// It was not heard of for too long.
    pub evicted: bool,
    /// Maildrops that it polls now.
    pub polling: u64,
    /// Maildrops that it has claimed since it began.
    pub claims: u64,
}

/// How many maildrops there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub maildrops: u64,
    pub polling: u64,
    /// They are due, and nobody polls them yet.
    pub waiting: u64,
    /// Their last poll failed.
    pub failing: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Host {
    pub host: String,
    #[serde(flatten)]
    pub tally: Tally,
}

/// How many maildrops stand how, where not all are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standings {
    pub polled: u64,
    pub failing: u64,
    /// Not failing, and with messages held.
    pub holding: u64,
    /// Messages that are held.
    pub held: u64,
}

/// When a maildrop is polled next, and by whom it was last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NextPoll {
    /// Who polls it, or polled it last, if that one is there still.
    pub worker: Option<String>,
    pub is_polled: bool,
    /// `None`: when somebody asks.
    pub due: Option<Timestamp>,
}

impl Fleet {
    /// Counts those that poll.
    pub fn live(&self) -> usize {
        self.workers.iter().filter(|worker| !worker.evicted).count()
    }

    /// Counts those that were evicted in the last hours.
    pub fn evicted(&self) -> usize {
        self.workers.len() - self.live()
    }
}
