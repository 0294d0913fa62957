//! Who is polled, and the rows of their maildrops.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Account;
use crate::config::account::Interval;
use crate::daemon::schedule::Dice;
use crate::state::StateError;
use crate::state::postgres::{Entered, Leases};

/// Rows of one statement.
pub const CHUNK: usize = 2000;
/// Accounts that are so many times the places for sessions are polled within their interval, and fewer at the start.
const MANY_AT_START: usize = 10;

/// An account and how it is chosen.
#[derive(Debug, Clone)]
pub struct Known {
    pub account: Arc<Account>,
    /// In lower case.
    pub host: Arc<str>,
    pub tenant: Arc<str>,
}

impl Known {
    fn new(account: Arc<Account>) -> Self {
        let (host, tenant) = (account.host.to_ascii_lowercase().into(), account.tenant().into());
        Self { account, host, tenant }
    }
}

/// The accounts of a worker, by the numbers of their maildrops.
#[derive(Debug, Default)]
pub struct Accounts {
    known: HashMap<i64, Known>,
    /// By the identities of maildrops.
    numbers: HashMap<String, i64>,
    /// Those that are not entered yet.
    to_enter: Vec<Known>,
    startup_spread: Duration,
}

impl Accounts {
    /// Takes these from now on, in the place of all others. Whose row may be missing, or another now, is yet to be entered.
    /// Gives the numbers of the maildrops that are not among them any more.
    pub fn set(&mut self, accounts: Vec<Arc<Account>>, startup_spread: Duration) -> Vec<i64> {
        self.startup_spread = startup_spread;
        self.to_enter.clear();
        let wanted: HashSet<&str> = accounts.iter().map(|account| account.maildrop_id.as_str()).collect();
        let is_gone = |_: &i64, known: &mut Known| !wanted.contains(known.account.maildrop_id.as_str());
        let gone = self.known.extract_if(is_gone).map(|(maildrop, _)| maildrop).collect();
        self.numbers.retain(|identity, _| wanted.contains(identity.as_str()));
        for new in accounts.into_iter().map(Known::new) {
            let number = self.numbers.get(&new.account.maildrop_id);
            match number.and_then(|number| self.known.get_mut(number)) {
                Some(known) if known.host == new.host && known.tenant == new.tenant => *known = new,
                Some(_) | None => self.to_enter.push(new),
            }
        }
        gone
    }

    pub fn get(&self, maildrop: i64) -> Option<&Known> {
        self.known.get(&maildrop)
    }

    /// Says whether the maildrop of this identity is known.
    pub fn has(&self, identity: &str) -> bool {
        self.numbers.contains_key(identity)
    }

    /// Says whether all have their rows.
    pub fn are_entered(&self) -> bool {
        self.to_enter.is_empty()
    }

    /// Gives the identities of all that are polled by themselves.
    pub fn by_themselves(&self) -> Vec<String> {
        self.known.values().filter(|known| is_by_itself(known)).map(identity).collect()
    }

    /// Makes rows for those that have none. What is back is polled soon: it may have been put off while nobody knew it.
    ///
    /// # Errors
    ///
    /// The rest is entered the next time.
    pub async fn enter(&mut self, leases: &Leases, dice: &mut Dice, free: usize) -> Result<(), StateError> {
        let are_many = self.to_enter.len() > MANY_AT_START * free.max(1);
        while !self.to_enter.is_empty() {
            let rest = self.to_enter.len();
            let chunk = &self.to_enter[rest.saturating_sub(CHUNK)..];
            let rows: Vec<_> = chunk
                .iter()
                .map(|known| {
                    let spread = match known.account.interval {
                        Interval::Manual => None,
                        Interval::Every(every) if are_many => Some(every),
                        Interval::Every(_) => Some(self.startup_spread),
                    };
                    Entered::of(&known.account, spread.map(|most| dice.between(Duration::ZERO, most)))
                })
                .collect();
            let is_new = |known: &&Known| is_by_itself(known) && !self.has(&known.account.maildrop_id);
            let new: Vec<String> = chunk.iter().filter(is_new).map(identity).collect();
            if !new.is_empty() {
                leases.wake_gone(&new).await?;
            }
            let maildrops = leases.enter(&rows).await?;
            for (known, maildrop) in self.to_enter.drain(rest.saturating_sub(CHUNK)..).zip(maildrops) {
                self.numbers.insert(identity(&known), maildrop);
                self.known.insert(maildrop, known);
            }
        }
        Ok(())
    }
}

fn identity(known: &Known) -> String {
    known.account.maildrop_id.clone()
}

fn is_by_itself(known: &Known) -> bool {
    matches!(known.account.interval, Interval::Every(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, host: &str) -> Arc<Account> {
        let (maildrop_id, host) = (format!("{name}@h"), host.to_owned());
        Arc::new(Account { maildrop_id, host, ..Account::new(name) })
    }

    #[test]
    fn only_what_is_new_or_elsewhere_is_entered_anew() {
        let mut accounts = Accounts::default();
        for (number, name) in [(1, "a"), (2, "t/b"), (3, "c")] {
            let known = Known::new(account(name, "h"));
            accounts.numbers.insert(identity(&known), number);
            accounts.known.insert(number, known);
        }
        assert_eq!((&*accounts.get(1).unwrap().tenant, &*accounts.get(2).unwrap().tenant), ("", "t"));
        let changed = Account { password: None, user: "new".to_owned(), ..(*account("a", "H")).clone() };
        let now = vec![Arc::new(changed), account("t/b", "other"), account("d", "h")];
        assert_eq!(accounts.set(now, Duration::ZERO), [3]);
        let mut names: Vec<_> = accounts.to_enter.iter().map(|known| known.account.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["d", "t/b"]);
        assert_eq!(accounts.get(1).unwrap().account.user, "new", "it is polled as it is now");
        assert!(accounts.get(3).is_none() && !accounts.are_entered());
    }
}
