//! How the accounts stand: one [`Snapshot`], read from the store once, for the terminal, for machines, for the metrics and
//! for the page.
//!
//! | file | what it is |
//! |---|---|
//! | `row` | an account and what is known of its maildrop, and since when it is stale |
//! | `fleet` | the workers that share a database, in words |
//! | `ago` | times in words |
//! | `words` | the same in words: when, what the last poll did, what is held |
//! | `why` | why there was no mail |
//! | `metrics` | for a monitoring system |
//! | `page`, `picture`, `html` | for a browser |

mod ago;
mod fleet;
mod html;
pub mod metrics;
pub mod page;
mod picture;
mod row;
mod why;
pub mod words;

use std::collections::HashSet;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::clock::in_utc;
use crate::config::Account;
use crate::state::fleet::Fleet;
use crate::state::lease::DAEMON;
use crate::state::outlook::{Seen, Which};
use crate::state::{Hour, Lease, Overview, StateError, Store, Timestamp};

#[cfg(test)]
pub use row::PollFailure;
pub use row::{Row, Standing};

/// How all accounts stand, at one moment. The manual describes the fields of the JSON, and their names stay.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    #[serde(serialize_with = "in_utc")]
    pub at: Timestamp,
    /// The accounts in the order of their file, then maildrops that the file does not name (any more).
    #[serde(rename = "accounts")]
    pub rows: Vec<Row>,
    /// Hours of the last day in which something came or failed, the oldest first.
    pub hours: Vec<Hour>,
    /// The workers, if several share the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
    /// The accounts that there are, where not all are listed.
    #[serde(rename = "accounts_in_all", skip_serializing_if = "Option::is_none")]
    pub in_all: Option<u64>,
}

impl Snapshot {
    /// Reads how these accounts stand, and maildrops that are not theirs; contacts nobody, changes nothing.
    pub async fn take(
        store: &Store,
        state: &Path,
        accounts: &[Arc<Account>],
        seen: Seen,
    ) -> Result<Self, StateError> {
        let (overview, at) = (store.overview(Which::All, seen).await?, store.clock().now());
        if overview.fleet.is_some() {
            return Ok(Self::of_fleet(overview, accounts, at));
        }
        let scheduled = accounts.iter().filter(|account| account.enabled);
        let maildrops = scheduled.map(|account| account.maildrop_id.as_str().into());
        // What the state says is worth showing without it.
        let held =
            Lease::held(state, maildrops.chain([DAEMON.into()]).collect()).await.unwrap_or_else(|error| {
                log::debug!("cannot look at the leases: {error}");
                Default::default()
            });
        Ok(Self::of(overview, accounts, at, |maildrop| held.contains(maildrop)))
    }

    /// Says how these accounts stand in a fleet; where not all maildrops were looked at, those of whose something was seen.
    pub fn of_fleet(mut overview: Overview, accounts: &[Arc<Account>], at: Timestamp) -> Self {
        let in_all = overview.in_all;
        let (fleet, mut next) = (overview.fleet.take(), mem::take(&mut overview.next_polls));
        let seen: HashSet<&str> =
            overview.maildrops.iter().map(|known| known.maildrop.identity.as_str()).collect();
        let is_seen =
            |account: &&Arc<Account>| in_all.is_none() || seen.contains(account.maildrop_id.as_str());
        let accounts: Vec<_> = accounts.iter().filter(is_seen).cloned().collect();
        let due = next.iter().filter(|(_, next)| !next.is_polled);
        overview.due = due.filter_map(|(maildrop, next)| Some((maildrop.clone(), next.due?))).collect();
        let lives = fleet.as_ref().is_some_and(|fleet| fleet.live() > 0);
        let is_polled = |maildrop: &str| match maildrop {
            DAEMON => lives,
            maildrop => next.get(maildrop).is_some_and(|next| next.is_polled),
        };
        let mut snapshot = Self::of(overview, &accounts, at, is_polled);
        for row in &mut snapshot.rows {
            row.worker = next.remove(&row.maildrop).and_then(|next| next.worker);
        }
        Self { fleet, in_all, ..snapshot }
    }

    fn of(
        mut overview: Overview,
        accounts: &[Arc<Account>],
        at: Timestamp,
        is_held: impl Fn(&str) -> bool,
    ) -> Self {
        let mut rows: Vec<Row> = Vec::with_capacity(accounts.len());
        let daemon_runs = is_held(DAEMON);
        for account in accounts {
            let identity = account.maildrop_id.as_str();
            let known =
                overview.maildrops.binary_search_by(|known| known.maildrop.identity.as_str().cmp(identity));
            let known = known.ok().map(|at| overview.maildrops.remove(at));
            let due = overview.due.get(identity).copied().filter(|_| daemon_runs && account.enabled);
            let polling = (daemon_runs && account.enabled).then(|| is_held(identity));
            rows.push(Row { polling, next_poll: due, ..Row::of(Some(account), known) });
        }
        for known in overview.maildrops {
            let mut row = Row::of(None, Some(known));
            // An account whose host or user was mended has the name of what it polled before.
            if accounts.iter().any(|account| account.name == row.account) {
                row.account.clone_from(&row.maildrop);
            }
            rows.push(row);
        }
        let day = at.div_euclid(3600) - 23..=at.div_euclid(3600);
        overview.hours.retain(|hour| day.contains(&hour.hour));
        Self { at, rows, hours: overview.hours, fleet: None, in_all: None }
    }

    /// Gives what fails first, then what has messages held, what was never polled, what works, and what is polled by nobody;
    /// those of one trouble stand together.
    pub fn worst_first(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|one, other| one.rank().cmp(&other.rank()));
        rows
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }
}

#[cfg(test)]
pub(crate) mod tests;
