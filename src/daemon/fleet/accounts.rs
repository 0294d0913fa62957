//! Who is polled, and the rows of their maildrops.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Account;
use crate::config::account::Interval;
use crate::daemon::schedule::Dice;
use crate::state::StateError;
use crate::state::postgres::{Entered, Leases};

use super::floor::Door;
use super::looks::Past;

/// Rows of one statement.
pub const CHUNK: usize = 2000;
/// Accounts that are so many times the places for sessions are polled within their interval, and fewer at the start.
const MANY_AT_START: usize = 10;
/// As many as there are places are polled so soon if they come later: somebody waits for them.
const SOON: Duration = Duration::from_secs(1);

/// An account and how it is chosen.
#[derive(Debug, Clone)]
pub struct Known {
    pub account: Arc<Account>,
    pub door: Arc<Door>,
    pub tenant: Arc<str>,
}

/// What many accounts share, once in memory.
#[derive(Debug, Default)]
struct Shared {
    hosts: HashSet<Arc<str>>,
    doors: HashSet<Arc<Door>>,
    tenants: HashSet<Arc<str>>,
}

impl Shared {
    fn known(&mut self, account: Arc<Account>) -> Known {
        let host = once(&mut self.hosts, account.host.to_ascii_lowercase().into());
        let door = once(&mut self.doors, Arc::new(Door::of(&account, host)));
        let tenant = once(&mut self.tenants, account.tenant().into());
        Known { account, door, tenant }
    }
}

/// Gives the one that is like this.
fn once<T: ?Sized + Eq + Hash>(all: &mut HashSet<Arc<T>>, one: Arc<T>) -> Arc<T> {
    match all.get(&one) {
        Some(known) => known.clone(),
        None => {
            all.insert(one.clone());
            one
        }
    }
}

/// Whether those that were there at the start have their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Start {
    #[default]
    Begun,
    Over,
}

/// The accounts of a worker, by the numbers of their maildrops.
#[derive(Debug, Default)]
pub struct Accounts {
    known: HashMap<i64, Known>,
    /// By the identities of maildrops.
    numbers: HashMap<String, i64>,
    /// Those that are not entered yet.
    to_enter: Vec<Known>,
    shared: Shared,
    start: Start,
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
        self.shared = Shared::default();
        for account in accounts {
            let new = self.shared.known(account);
            let number = self.numbers.get(&new.account.maildrop_id);
            match number.and_then(|number| self.known.get_mut(number)) {
                Some(known) if known.door.host == new.door.host && known.tenant == new.tenant => *known = new,
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

    /// Takes whatever comes from now on for what somebody has just added.
    pub fn started(&mut self) {
        self.start = Start::Over;
    }

    /// Says whether there are any but those that are looked past.
    pub fn has_others(&self, past: &Past) -> bool {
        let has_others = |all: &HashSet<Arc<str>>, past: &[String]| {
            all.iter().any(|name| !past.iter().any(|past| **past == **name))
        };
        has_others(&self.shared.hosts, &past.hosts) && has_others(&self.shared.tenants, &past.tenants)
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
    pub async fn enter(&mut self, leases: &Leases, dice: &mut Dice, places: usize) -> Result<(), StateError> {
        let (count, start, startup_spread) = (self.to_enter.len(), self.start, self.startup_spread);
        let spread_over = |every| match start {
            _ if count > MANY_AT_START * places => every,
            Start::Over if count <= places => startup_spread.min(SOON),
            Start::Begun | Start::Over => startup_spread,
        };
        while !self.to_enter.is_empty() {
            let rest = self.to_enter.len();
            let chunk = &self.to_enter[rest.saturating_sub(CHUNK)..];
            let rows: Vec<_> = chunk
                .iter()
                .map(|known| {
                    let spread = match known.account.interval {
                        Interval::Manual => None,
                        Interval::Every(every) => Some(spread_over(every)),
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
            let known = accounts.shared.known(account(name, "h"));
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
        let past = |hosts: &[&str]| Past {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            ..Past::default()
        };
        assert!(accounts.has_others(&past(&["h"])) && !accounts.has_others(&past(&["h", "other"])));
    }
}
