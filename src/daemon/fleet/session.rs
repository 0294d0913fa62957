//! A session of a worker, and what the worker's task is told of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::floor::Limits;
use crate::config::Account;
use crate::session::{Answer, Host};
use crate::state::Claimed;
use crate::state::postgres::{Claim, Close};
use crate::stop::{Stop, Stopper, Term};

/// A session to begin.
#[derive(Debug)]
pub struct Begin {
    pub account: Arc<Account>,
    /// The lease; once the last of it is dropped its maildrop may be polled by others.
    pub lease: Arc<Claimed>,
    pub session: Session,
}

/// What is known of a session that was begun.
#[derive(Debug)]
pub struct Session {
    pub(super) claim: Claim,
    /// For how long the lease may be used.
    pub term: Term,
    /// By the clock that runs on while the machine is suspended.
    pub(super) began: Duration,
    /// How late it was.
    pub(super) late: Duration,
    /// What was known of its host.
    pub host: Host,
    pub(super) account: Arc<Account>,
    /// Which accounts it was begun for: [`Told::generation`].
    pub(super) generation: u64,
    /// Asks it to end, once it was begun.
    pub(super) stopper: Option<Stopper>,
}

impl Session {
    /// Gives what its session hears of: that the process is to end, that its lease is lost, or that its account is not as it
    /// was.
    pub fn stop(&mut self, of_process: &Stop) -> Stop {
        let (stopper, stop) = of_process.of_one();
        self.stopper = Some(stopper);
        stop.under(self.term.clone())
    }
}

/// Whether accounts are all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Roster {
    Whole,
    /// Those of the table have not been read yet.
    OfFile,
    /// As far as this worker knows: it reads no table, and another may.
    WithoutTable,
}

/// The accounts from now on.
#[derive(Debug)]
pub(super) struct Told {
    pub polled: Vec<Arc<Account>>,
    /// Those that this worker leaves to others.
    pub elsewhere: Vec<Arc<Account>>,
    /// Those that are there, and that nobody polls.
    pub besides: Vec<Arc<Account>>,
    pub limits: Limits,
    pub roster: Roster,
    /// Grows with each change.
    pub generation: u64,
}

/// What a worker's task is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A session logs in at a server that wants to be left alone for so long after it.
    LogsIn(Claim, Duration),
    /// The session with this token has left its server, and failed so, if it did.
    Left {
        token: i64,
        answer: Answer,
        why: Option<String>,
    },
    /// It has ended, and is to be closed so.
    Ended(Close),
    /// Nothing of it is under way any more.
    Released(i64),
    Accounts(Box<Told>),
    /// All that is polled by itself is due.
    WakeAll,
    /// Nothing more is claimed.
    Drain,
    /// What is held is given back, and whoever waits is told.
    Finish(oneshot::Sender<()>),
}
