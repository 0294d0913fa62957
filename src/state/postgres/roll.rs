//! The accounts that tenants have in the table: read as they change, each checked by itself.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::accounts::Accounts;
use super::rows::{PAGE, Page, Revisions, Strange};
use crate::config::{self, Account, Row};
use crate::logging;
use crate::seal::Ring;
use crate::state::StateError;

/// Rows of one look of which is told what is wrong with each; of more, how many there are.
const TOLD: usize = 20;

/// Accounts as they were read last.
pub struct Roll {
    table: Accounts,
    fleet: config::Fleet,
    ring: Arc<Ring>,
    /// What has been read: a digest of all rows, and each row's revision and account.
    digest: Option<String>,
    known: HashMap<i64, (i64, Read)>,
    /// What was told of rows that stand in each other's way, or that nobody can look at.
    told: HashSet<String>,
}

/// The account of a row, or what is known of one that cannot be used here.
type Read = Result<Arc<Account>, Unusable>;

/// A row that cannot be used here.
struct Unusable {
    /// What is known of it all the same.
    outline: Arc<Account>,
    why: String,
    /// Whoever has its key may well use it.
    is_of_key: bool,
}

/// The accounts that a table has.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Those that are to be polled.
    pub polled: Vec<Arc<Account>>,
    /// Those that are not enabled.
    pub disabled: Vec<Arc<Account>>,
    /// Those that are left to whoever has their keys. Their names and their maildrops are what is known of them.
    pub unusable: Vec<Arc<Account>>,
    /// Those that make no account for anybody: they stand in nobody's way.
    pub wrong: Vec<Arc<Account>>,
    /// Why those that cannot be used cannot, by their names.
    pub why: HashMap<String, String>,
}

impl Roll {
    pub fn new(table: Accounts, fleet: config::Fleet, ring: impl Into<Arc<Ring>>) -> Self {
        let (digest, known, told) = Default::default();
        Self { table, fleet, ring: ring.into(), digest, known, told }
    }

    /// Looks whether anything has changed since it was looked last. Gives all accounts then; `None` if nothing has. A row that
    /// makes no account is told when it is read, and leaves the others alone.
    pub async fn look(&mut self) -> Result<Option<Rows>, StateError> {
        let digest = self.table.digest().await?;
        if self.digest.as_ref() == Some(&digest) {
            return Ok(None);
        }
        let Revisions { of, wrong } = self.table.revisions().await?;
        let (there, shown_twice) = once(of);
        self.known.retain(|id, _| there.contains_key(id));
        let is_new =
            |(id, revision): &(&i64, &i64)| self.known.get(*id).is_none_or(|(known, _)| known != *revision);
        let new: Vec<i64> = there.iter().filter(is_new).map(|(id, _)| *id).collect();
        let mut left = TOLD;
        for ids in new.chunks(PAGE) {
            let read = self.page(self.table.rows(ids).await?);
            // At once. Should what follows fail, the page is read again, and told again.
            let wrong: Vec<_> = read.iter().filter_map(|(_, account)| account.as_ref().err()).collect();
            tell(&wrong, &mut left);
            let is_changed = |(id, _): &&(i64, Read)| self.known.contains_key(id);
            let changed = read.iter().filter(is_changed).filter_map(|(_, account)| account.as_ref().ok());
            let changed = changed.filter(|account| account.enabled);
            let changed: Vec<String> = changed.map(|account| account.maildrop_id.clone()).collect();
            // What kept them waiting may have been what has changed.
            self.table.failed_are_due(&changed).await?;
            let revision = |id| there.get(&id).copied().unwrap_or_default();
            self.known.extend(read.into_iter().map(|(id, account)| (id, (revision(id), account))));
        }
        self.digest = Some(digest);
        Ok(Some(self.rows(&shown_twice, wrong)))
    }

    /// Makes accounts of rows: of those that have one id, of the first.
    fn page(&self, page: Page) -> Vec<(i64, Read)> {
        let Page { mut rows, strange, .. } = page;
        rows.sort_by(|one, other| {
            (one.id, &one.tenant, &one.name).cmp(&(other.id, &other.tenant, &other.name))
        });
        rows.dedup_by_key(|row| row.id);
        let unread = strange.iter().map(|strange| {
            let Strange { row, .. } = strange;
            (row.id, Err(self.unusable(row, strange.to_string())))
        });
        rows.iter().map(|row| (row.id, self.read(row))).chain(unread).collect()
    }

    fn read(&self, row: &Row) -> Read {
        self.fleet.open(row, &self.ring).map(Arc::new).map_err(|error| Unusable {
            is_of_key: error.is_of_key(),
            ..self.unusable(row, error.to_string())
        })
    }

    fn unusable(&self, row: &Row, why: String) -> Unusable {
        Unusable { outline: Arc::new(self.fleet.outline(row)), why, is_of_key: false }
    }

    /// Sorts them. Of two that have one name or one maildrop the one of the lower id has it, for all workers alike; what is
    /// wrong for all of them has neither. Tells of those and of what else is wrong, once.
    fn rows(&mut self, shown_twice: &HashSet<i64>, wrong: Vec<String>) -> Rows {
        let mut all: Vec<_> = self.known.iter().map(|(id, (_, read))| (*id, read)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        let (mut names, mut maildrops) = (HashSet::new(), HashSet::new());
        let mut rows = Rows::default();
        let mut told: HashMap<_, _> =
            wrong.into_iter().map(|what| (format!("{what}; it is not polled"), String::new())).collect();
        for (id, read) in all {
            let account = read.as_ref().unwrap_or_else(|unusable| &unusable.outline);
            let mut double =
                |what| told.insert(format!("account {}: {what}", account.name), account.name.clone());
            if shown_twice.contains(&id) {
                double(format!(
                    "the table has more than one row of the id {id}; the first is the one that is polled"
                ));
            }
            if !account.enabled {
                rows.disabled.push(account.clone());
                continue;
            }
            if let Err(Unusable { outline, why, is_of_key }) = read {
                rows.why.insert(outline.name.clone(), why.clone());
                if !is_of_key {
                    rows.wrong.push(outline.clone());
                    continue;
                }
            }
            let has_name = !names.insert(account.name.as_str());
            let has_maildrop =
                !account.maildrop_id.is_empty() && !maildrops.insert(account.maildrop_id.as_str());
            match read {
                Err(_) => rows.unusable.push(account.clone()),
                Ok(_) if has_name => {
                    double(
                        "another row has the same tenant and name, and a lower id; it is not polled"
                            .to_owned(),
                    );
                }
                Ok(_) if has_maildrop => {
                    let maildrop = &account.maildrop_id;
                    double(format!("another account has the same maildrop {maildrop}; it is not polled"));
                }
                Ok(account) => rows.polled.push(account.clone()),
            }
        }
        for (what, name) in told.iter().filter(|(what, _)| !self.told.contains(*what)) {
            logging::about(name, || log::error!("{what}"));
        }
        self.told = told.into_keys().collect();
        rows
    }
}

/// Gives the revision of each id, and the ids that there are more than once: a view can show a row again.
fn once(revisions: Vec<(i64, i64)>) -> (HashMap<i64, i64>, HashSet<i64>) {
    let (mut there, mut again) = (HashMap::with_capacity(revisions.len()), HashSet::new());
    for (id, revision) in revisions {
        match there.entry(id) {
            Entry::Vacant(new) => drop(new.insert(revision)),
            Entry::Occupied(mut known) => {
                known.insert(revision.max(*known.get()));
                again.insert(id);
            }
        }
    }
    (there, again)
}

/// Tells what is wrong with rows, of so many of them as are left to be told of.
fn tell(wrong: &[&Unusable], left: &mut usize) {
    let (each, more) = wrong.split_at(wrong.len().min(*left));
    *left -= each.len();
    for Unusable { outline, why, is_of_key } in each {
        logging::about(&outline.name, || match is_of_key {
            true => log::error!("{why}; it is left to the workers that have the key"),
            false => log::error!("{why}; it is not polled, the others are"),
        });
    }
    if !more.is_empty() {
        let more = more.len();
        log::error!(
            "{more} more rows cannot be used here: `postrider account check` tells what is wrong with each"
        );
    }
}
