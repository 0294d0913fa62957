//! Maildrops that are of no account of a worker: what others may know how to poll is left to them; the rest is counted no more,
//! and what was recorded of it goes with its age.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::accounts::{Accounts, CHUNK};
use super::session::Roster;
use crate::config::Account;
use crate::state::StateError;
use crate::state::postgres::{Due, Leases, Named};

/// What is of no account is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(600);
/// What is old is looked for so often.
const OLD: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Gone {
    /// Identities of maildrops whose accounts are there, and cannot be used by this worker.
    elsewhere: HashSet<String>,
    /// Names of accounts, and identities of their maildrops, that are there although this worker polls them not.
    kept: HashSet<String>,
    /// Without a table what is there is not known well enough to drop anything.
    roster: Roster,
    /// Maildrops of others that were due here and that nobody had taken.
    left: Vec<i64>,
    /// Up to where more of them were seen than are noted by number: the next look begins behind.
    behind: Option<Due>,
    /// Those whose accounts have gone.
    retired: Vec<i64>,
    /// What went before this worker came was found.
    is_found: bool,
    old_at: Instant,
}

impl Gone {
    pub fn new() -> Self {
        let (elsewhere, kept, left, behind, retired) = Default::default();
        let roster = Roster::OfFile;
        Self { elsewhere, kept, roster, left, behind, retired, is_found: false, old_at: Instant::now() }
    }

    /// Takes these accounts for those that are there besides the ones that are polled: those that are left to others, and
    /// those that nobody polls.
    pub fn set(&mut self, roster: Roster, elsewhere: &[Arc<Account>], besides: &[Arc<Account>]) {
        (self.elsewhere, self.kept, self.left) = Default::default();
        (self.roster, self.behind) = (roster, None);
        self.elsewhere.extend(elsewhere.iter().map(|account| account.maildrop_id.clone()));
        for account in elsewhere.iter().chain(besides) {
            self.kept.extend([account.name.clone(), account.maildrop_id.clone()]);
        }
    }

    /// Gives what is looked past: maildrops, and up to where.
    pub fn left(&self) -> (&[i64], Option<Due>) {
        (&self.left, self.behind)
    }

    /// Says how many are looked at at once, if it is to be so many.
    pub fn page(&self, most: usize) -> usize {
        if self.left.len() < CHUNK { most } else { most.max(CHUNK) }
    }

    /// Has the next look begin behind this one; `None`: at the longest due.
    pub fn look_behind(&mut self, last: Option<Due>) {
        self.behind = last;
    }

    /// Gives the identities of the maildrops that this worker leaves to others.
    pub fn elsewhere(&self) -> Vec<&str> {
        self.elsewhere.iter().map(String::as_str).collect()
    }

    /// Takes note of maildrops that this worker knew, and knows no more.
    pub fn retire(&mut self, maildrops: impl IntoIterator<Item = i64>) {
        self.retired.extend(maildrops);
    }

    /// Lets what is due wait that is of no account, and leaves to others what may be of one. Says whether there is more of that
    /// than is noted by number.
    pub async fn set_aside(&mut self, leases: &Leases, due: &[Due]) -> Result<bool, StateError> {
        let identities = self.identities(leases, due.iter().map(|due| due.maildrop).collect()).await?;
        let (mut nobodys, mut more) = (Vec::new(), Vec::new());
        for due in due {
            let is_elsewhere =
                identities.get(&due.maildrop).is_some_and(|identity| self.elsewhere.contains(identity));
            match is_elsewhere {
                true if self.left.len() < CHUNK => self.left.push(due.maildrop),
                true => more.push(due.maildrop),
                false => nobodys.push(due.maildrop),
            }
        }
        if !nobodys.is_empty() {
            leases.put_off(&nobodys, AGAIN).await?;
        }
        if !more.is_empty() {
            leases.leave_to_others(&more, AGAIN).await?;
        }
        Ok(!more.is_empty())
    }

    /// Says whether maildrops are left to others.
    pub fn leaves_some(&self) -> bool {
        !self.left.is_empty()
    }

    /// Takes note of those left to others that nobody has taken for long: they do not say that polls are late.
    pub async fn leave(&self, leases: &Leases) -> Result<(), StateError> {
        leases.leave_to_others(&self.left, AGAIN).await
    }

    /// Says whether something is to be tidied up.
    pub fn is_untidy(&self) -> bool {
        !self.is_found || !self.retired.is_empty() || Instant::now() >= self.old_at
    }

    /// Takes note of what has gone, and drops what has been gone for long. All accounts that there are must be known.
    pub async fn tidy(&mut self, leases: &Leases, accounts: &Accounts) -> Result<(), StateError> {
        if !self.is_found {
            let counted = leases.counted().await?;
            self.retired.extend(counted.into_iter().filter(|maildrop| accounts.get(*maildrop).is_none()));
            self.is_found = true;
        }
        while !self.retired.is_empty() {
            let some: Vec<i64> = self.retired.iter().copied().take(CHUNK).collect();
            let identities = self.identities(leases, some.clone()).await?;
            let is_gone = |maildrop: &i64| {
                accounts.get(*maildrop).is_none()
                    && identities.get(maildrop).is_none_or(|identity| !self.elsewhere.contains(identity))
            };
            let gone: Vec<i64> = some.iter().copied().filter(is_gone).collect();
            leases.retire(&gone).await?;
            self.retired.drain(..some.len());
        }
        if Instant::now() >= self.old_at {
            self.forget(leases, accounts).await?;
            self.old_at = Instant::now() + OLD;
        }
        Ok(())
    }

    async fn forget(&self, leases: &Leases, accounts: &Accounts) -> Result<(), StateError> {
        if self.roster != Roster::Whole {
            return Ok(());
        }
        let (mut behind, mut count) = (0, 0);
        loop {
            let old = leases.old(behind, CHUNK).await?;
            let Some(last) = old.last() else { break };
            behind = last.maildrop;
            let is_gone = |named: &&Named| {
                let names = [Some(&named.identity), named.account.as_ref()];
                !accounts.has(&named.identity)
                    && names.into_iter().flatten().all(|name| !self.kept.contains(name))
            };
            let gone: Vec<i64> = old.iter().filter(is_gone).map(|named| named.maildrop).collect();
            count += leases.forget(&gone).await?;
        }
        if count > 0 {
            log::info!("dropped what was recorded of {count} maildrops whose accounts are gone for long");
        }
        Ok(())
    }

    /// Gives identities, if there is anything to be looked for among them.
    async fn identities(
        &self,
        leases: &Leases,
        maildrops: Vec<i64>,
    ) -> Result<HashMap<i64, String>, StateError> {
        match self.elsewhere.is_empty() {
            true => Ok(HashMap::new()),
            false => leases.identities(&maildrops).await,
        }
    }
}
