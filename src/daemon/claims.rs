//! What the daemon's loop does as a worker of a fleet.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use super::Daemon;
use super::fleet::Begin;
use super::schedule::Start;
use crate::config::Account;
use crate::logging;
use crate::session::summary;
use crate::session::{self, Befell, Budget, Environment, Limits, Report, Task};
use crate::state::postgres::Rows;

/// What one session may fetch before others get their turn.
const BUDGET: Budget = Budget { messages: 50, octets: 256 << 20 };

impl Daemon {
    /// Polls the accounts that the table has now.
    pub(super) fn set_rows(&mut self, mut rows: Rows) {
        let Some(fleet) = &mut self.fleet else { return };
        log::info!("polling {} of the table from now on", summary::accounts(rows.polled.len()));
        let unusable = [&rows.unusable[..], &rows.wrong].concat();
        let why = mem::take(&mut rows.why);
        fleet.set_rows(rows);
        let all: Vec<_> = fleet.accounts().cloned().collect();
        self.forget_failures(&all);
        if let Some(view) = &self.view {
            view.set_accounts(&[all, unusable].concat());
            view.set_unusable(why);
        }
    }

    /// Tells once what ends the sessions of all accounts alike, and says whether this was ended by that.
    pub(super) fn tell_what_befell(&mut self, report: &Report) -> bool {
        if report.delivered > 0 && report.failure.is_none() && mem::take(&mut self.no_records) {
            log::warn!("the database takes records again");
        }
        let (Some(failure), Some(befell)) = (&report.failure, report.befell) else { return false };
        logging::about(&report.account, || match befell {
            Befell::Records if !self.no_records => {
                log::error!(
                    "{failure}\n  all accounts that have mail meet the same, which is not told again"
                );
            }
            // The worker says it.
            Befell::Records | Befell::Worker => log::info!("{failure}"),
        });
        self.no_records |= befell == Befell::Records;
        true
    }

    /// Forgets which accounts fail but these.
    pub(super) fn forget_failures(&mut self, accounts: &[Arc<Account>]) {
        let enabled = accounts.iter().filter(|account| account.enabled);
        let wanted: HashSet<&str> = enabled.map(|account| account.name.as_str()).collect();
        self.failing.retain(|name| wanted.contains(name.as_str()));
    }

    /// Begins a session of what the worker has claimed.
    pub(super) fn begin_claimed(&mut self, begin: Begin) {
        let Some(fleet) = &mut self.fleet else { return };
        let Begin { account, lease, session: mut begun } = begin;
        let stop = begun.stop(&self.environment.stop);
        let (course, host) = (fleet.course(&begun), begun.host);
        let environment = Environment { stop, host, claimed: Some(lease), ..self.environment.clone() };
        let start = Start { account, messages: Some(BUDGET.messages) };
        let limits = Limits { turn: Some(BUDGET), ..Limits::default() };
        let (account, name) = (start.account.clone(), Arc::from(start.account.name.as_str()));
        let session = async move {
            let polled = session::poll(&account, &environment, Task::Sync(limits), &course).await;
            course.leave(polled.report());
            polled.follow_up(&account, &environment).await
        };
        let task = self.sessions.spawn(logging::of_account(name, session)).id();
        fleet.began(task, begun);
        self.running.insert(task, start);
    }
}
