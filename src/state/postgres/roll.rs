//! The accounts that tenants have in the table: read as they change, each checked by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::accounts::{Accounts, PAGE};
use crate::config::{self, Account, Row};
use crate::logging;
use crate::seal::Ring;
use crate::state::StateError;

/// Accounts as they were read last.
pub struct Roll {
    table: Accounts,
    fleet: config::Fleet,
    ring: Ring,
    /// What has been read: a digest of all rows, and each row's revision and account. A row that makes no account has none.
    digest: Option<String>,
    known: HashMap<i64, (i64, Option<Arc<Account>>)>,
}

impl Roll {
    pub fn new(table: Accounts, fleet: config::Fleet, ring: Ring) -> Self {
        Self { table, fleet, ring, digest: None, known: HashMap::new() }
    }

    /// Looks whether anything has changed since it was looked last. Gives all accounts then; `None` if nothing has. A row that
    /// makes no account is told when it is read, and leaves the others alone.
    pub async fn look(&mut self) -> Result<Option<Vec<Arc<Account>>>, StateError> {
        let digest = self.table.digest().await?;
        if self.digest.as_ref() == Some(&digest) {
            return Ok(None);
        }
        let revisions = self.table.revisions().await?;
        let there: HashMap<i64, i64> = revisions.iter().copied().collect();
        self.known.retain(|id, _| there.contains_key(id));
        let is_new =
            |(id, revision): &&(i64, i64)| self.known.get(id).is_none_or(|(known, _)| known != revision);
        let new: Vec<i64> = revisions.iter().filter(is_new).map(|(id, _)| *id).collect();
        for ids in new.chunks(PAGE) {
            let rows = self.table.rows(ids).await?;
            let read: Vec<_> = rows.iter().map(|row| (row, self.read(row))).collect();
            let is_changed = |(row, _): &&(&Row, Option<_>)| self.known.contains_key(&row.id);
            let changed = read.iter().filter(is_changed).filter_map(|(_, account)| account.as_ref());
            let changed: Vec<String> = changed.map(|account| account.maildrop_id.clone()).collect();
            // What kept them waiting may have been what has changed.
            self.table.failed_are_due(&changed).await?;
            self.known.extend(read.into_iter().map(|(row, account)| (row.id, (row.revision, account))));
        }
        self.digest = Some(digest);
        Ok(Some(self.accounts()))
    }

    fn read(&self, row: &Row) -> Option<Arc<Account>> {
        match self.fleet.open(row, &self.ring) {
            Ok(account) => Some(Arc::new(account)),
            Err(error) => {
                logging::about(&row.account(), || log::error!("{error}; it is not polled, the others are"));
                None
            }
        }
    }

    /// Gives the enabled ones. Of two with one maildrop the one of the lower id has it, for all workers alike.
    fn accounts(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<_> =
            self.known.iter().filter_map(|(id, (_, account))| Some((*id, account.as_ref()?))).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        let mut maildrops = HashSet::new();
        let mut accounts = Vec::with_capacity(all.len());
        for (_, account) in all.into_iter().filter(|(_, account)| account.enabled) {
            if maildrops.insert(account.maildrop_id.as_str()) {
                accounts.push(account.clone());
            } else {
                logging::about(&account.name, || {
                    log::error!(
                        "account {}: another account has the same maildrop {}; it is not polled",
                        account.name,
                        account.maildrop_id
                    );
                });
            }
        }
        accounts
    }
}
