//! The rows of the table of accounts, as far as they can be read.
//!
//! What is read is cast, so that a view may have a column as its own tables have it. A value that is none of its column's kind
//! has the server refuse the whole statement; then the rows are looked for that it cannot read, and the others are read.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio_postgres::Row as Tuple;
use tokio_postgres::types::Type;

use super::accounts::Accounts;
use super::connection::Param;
use crate::config::Row;
use crate::seal::Sealed;
use crate::state::{StateError, Trouble};
use crate::text::Shown;

/// Rows that are read by one statement.
pub const PAGE: usize = 1000;

/// The table that is there by itself.
const OURS: &str = "account";

/// How the words of an error end that is of a column that is not there (SQLSTATE).
const NO_COLUMN: &str = "[42703]";

/// Some rows.
#[derive(Debug, Default)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Those that the server cannot read.
    pub strange: Vec<Strange>,
    /// The tenant, the name and the id of the last of all.
    last: Option<(String, String, i64)>,
}

/// A row that the server cannot read.
#[derive(Debug)]
pub struct Strange {
    /// What can be read of it: its id, and in most cases tenant, name and maildrop.
    pub row: Row,
    why: String,
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, why } = self;
        match row.name.is_empty() {
            true => write!(f, "the account of id {}: cannot be read: {why}", row.id),
            false => write!(f, "account {}: cannot be read: {why}", Shown(row.account().as_bytes())),
        }
    }
}

/// The revision of each row.
#[derive(Debug, Default)]
pub struct Revisions {
    /// By its id, which may be there more than once.
    pub of: Vec<(i64, i64)>,
    /// What is wrong with rows whose id or revision is no number.
    pub wrong: Vec<String>,
}

impl Accounts {
    /// Gives a text that changes whenever a row does.
    pub async fn digest(&self) -> Result<String, StateError> {
        let sql = format!(
            "SELECT count(*)::text, sum(id::numeric)::text, sum(revision::numeric)::text, max(revision::numeric)::text,
             (count(*) FILTER (WHERE enabled::boolean))::text FROM {}",
            self.table
        );
        let texts = match self.read(&sql, &[]).await {
            // What cannot be added up is looked at one by one.
            Err(error) if is_of_a_value(&error) => return Ok(digest(&self.texts().await?)),
            rows => rows?,
        };
        let text = |column: usize| texts.first().and_then(|row| row.try_get::<_, Option<&str>>(column).ok());
        Ok((0..5).filter_map(text).flatten().collect::<Vec<_>>().join(" "))
    }

    /// Gives the revision of each account.
    pub async fn revisions(&self) -> Result<Revisions, StateError> {
        let sql =
            format!("SELECT coalesce(id::bigint, 0), coalesce(revision::bigint, 0) FROM {}", self.table);
        match self.read(&sql, &[]).await {
            Err(error) if is_of_a_value(&error) => Ok(numbers(&self.texts().await?)),
            rows => {
                let of = rows?.iter().map(|row| (row.get(0), row.get(1))).collect();
                Ok(Revisions { of, wrong: Vec::new() })
            }
        }
    }

    /// Gives id, revision and whether it is enabled of each account, as they are written.
    async fn texts(&self) -> Result<Vec<[String; 3]>, StateError> {
        let sql = format!("SELECT id::text, revision::text, enabled::text FROM {}", self.table);
        let text = |row: &Tuple, column: usize| match row.try_get::<_, Option<String>>(column) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        Ok(self.read(&sql, &[]).await?.iter().map(|row| [0, 1, 2].map(|column| text(row, column))).collect())
    }

    /// Gives the rows of these ids, as far as they are there.
    pub async fn rows(&self, ids: &[i64]) -> Result<Page, StateError> {
        let (mut page, mut left) = (Page::default(), vec![ids]);
        while let Some(ids) = left.pop() {
            match (self.select("id = ANY($1)", &[(&ids, Type::INT8_ARRAY)]).await, ids) {
                (Err(error), [id]) if is_of_a_value(&error) => {
                    page.strange.push(self.strange(*id, error).await?);
                }
                (Err(error), _) if is_of_a_value(&error) => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    left.extend([second, first]);
                }
                (rows, _) => page.rows.extend(rows?),
            }
        }
        Ok(page)
    }

    /// Gives what can be read of a row all the same.
    async fn strange(&self, id: i64, error: StateError) -> Result<Strange, StateError> {
        let StateError::Database { what: why, .. } = error else { return Err(error) };
        let sql = format!(
            "SELECT coalesce(tenant::text, ''), coalesce(name::text, ''), coalesce(maildrop::text, '')
             FROM {} WHERE id = $1",
            self.table
        );
        let found = match self.read(&sql, &[(&id, Type::INT8)]).await {
            Err(error) if is_of_a_value(&error) => Vec::new(),
            found => found?,
        };
        let text = |column: usize| -> String {
            found.first().and_then(|row| row.try_get(column).ok()).unwrap_or_default()
        };
        let row =
            Row { id, tenant: text(0), name: text(1), maildrop: text(2), enabled: true, ..Row::default() };
        Ok(Strange { row, why })
    }

    /// Gives the row of this name.
    pub async fn find(&self, tenant: &str, name: &str) -> Result<Option<Row>, StateError> {
        let rows =
            self.select("tenant = $1 AND name = $2", &[(&tenant, Type::TEXT), (&name, Type::TEXT)]).await?;
        Ok(rows.into_iter().next())
    }

    /// Gives the rows of the accounts that have these maildrops, but for those that the server cannot read.
    pub async fn with(&self, maildrops: &[String]) -> Result<Vec<Row>, StateError> {
        Ok(self.readable("maildrop = ANY($1)", &[(&maildrops, Type::TEXT_ARRAY)]).await?.rows)
    }

    /// Names the accounts that have these maildrops, by maildrop.
    pub async fn holders(&self, maildrops: &[String]) -> Result<HashMap<String, String>, StateError> {
        let rows = self.with(maildrops).await?;
        Ok(rows.into_iter().map(|row| (row.maildrop.clone(), row.account())).collect())
    }

    /// Gives all rows, of one tenant or of all, page by page.
    pub fn pages<'a>(&'a self, tenant: Option<&'a str>) -> Pages<'a> {
        Pages { accounts: self, tenant, last: None }
    }

    /// Gives up to [`PAGE`] rows behind one, by tenant, name and id.
    async fn page(
        &self,
        behind: Option<&(String, String, i64)>,
        tenant: Option<&str>,
    ) -> Result<Page, StateError> {
        // What a view has nothing for is in no index.
        let order = match self.table == OURS {
            true => "tenant, name, id",
            false => "coalesce(tenant::text, ''), coalesce(name::text, ''), coalesce(id::bigint, 0)",
        };
        let condition = format!(
            "($1::text IS NULL OR ({order}) > ($1, $2, $3)) AND ($4::text IS NULL OR tenant = $4)
             ORDER BY {order} LIMIT {PAGE}"
        );
        let last = (behind.map(|last| &last.0), behind.map(|last| &last.1), behind.map(|last| last.2));
        let params: [Param<'_>; 4] =
            [(&last.0, Type::TEXT), (&last.1, Type::TEXT), (&last.2, Type::INT8), (&tenant, Type::TEXT)];
        self.readable(&condition, &params).await
    }

    /// Gives the rows that a condition holds for.
    async fn readable(&self, condition: &str, params: &[Param<'_>]) -> Result<Page, StateError> {
        let key = |row: &Row| (row.tenant.clone(), row.name.clone(), row.id);
        let keys = match self.select(condition, params).await {
            Err(error) if is_of_a_value(&error) => {
                let sql = format!("SELECT {KEY} FROM {} WHERE {condition}", self.table);
                self.read(&sql, params).await?
            }
            rows => {
                let rows = rows?;
                return Ok(Page { last: rows.last().map(key), rows, strange: Vec::new() });
            }
        };
        let keys: Result<Vec<(String, String, i64)>, tokio_postgres::Error> =
            keys.iter().map(|row| Ok((row.try_get(1)?, row.try_get(2)?, row.try_get(0)?))).collect();
        let keys = keys.map_err(|error| self.unread(&error))?;
        let mut ids: Vec<i64> = keys.iter().map(|(_, _, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut page = self.rows(&ids).await?;
        page.rows.sort_by_key(key);
        Ok(Page { last: keys.into_iter().next_back(), ..page })
    }

    /// What a view has nothing for is empty, and not switched off.
    async fn select(&self, condition: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StateError> {
        let sql = format!(
            "SELECT {KEY}, coalesce(maildrop::text, ''), coalesce(config::text, ''), secret::bytea,
             coalesce(secret_key::text, ''), coalesce(enabled::boolean, true), coalesce(revision::bigint, 0)
             FROM {} WHERE {condition}",
            self.table
        );
        let rows: Result<_, _> = self.read(&sql, params).await?.iter().map(row).collect();
        rows.map_err(|error| self.unread(&error))
    }

    /// Says that what the server has read cannot be: its texts may be in any encoding where the database knows of none.
    fn unread(&self, error: &tokio_postgres::Error) -> StateError {
        let what = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        StateError::of_database(&self.database.place(), Trouble::Value, what)
    }

    /// Asks the table, which may be somebody else's view.
    async fn read(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Tuple>, StateError> {
        self.database.query(sql, params).await.map_err(|error| match error {
            // Ours it is only by its default name.
            StateError::Database { place, trouble: Trouble::NoTables, what } if self.table != OURS => {
                StateError::Database { place, trouble: Trouble::NoAccounts, what }
            }
            StateError::Database { place, trouble: Trouble::Statement, what }
                if what.ends_with(NO_COLUMN) =>
            {
                StateError::Database { place, trouble: Trouble::NoColumn, what }
            }
            error => error,
        })
    }
}

/// Id, tenant and name.
const KEY: &str = "coalesce(id::bigint, 0), coalesce(tenant::text, ''), coalesce(name::text, '')";

/// Rows, page by page.
pub struct Pages<'a> {
    accounts: &'a Accounts,
    tenant: Option<&'a str>,
    last: Option<(String, String, i64)>,
}

impl Pages<'_> {
    /// Gives the next page, until there is none.
    pub async fn next(&mut self) -> Result<Option<Page>, StateError> {
        let page = self.accounts.page(self.last.as_ref(), self.tenant).await?;
        self.last = page.last.clone();
        Ok(page.last.is_some().then_some(page))
    }
}

/// Says whether the server, or this program, cannot read a value: of which row, nobody knows.
fn is_of_a_value(error: &StateError) -> bool {
    matches!(error, StateError::Database { trouble: Trouble::Value, .. })
}

/// Takes a row of [`Accounts::select`]: all but the secret is there, whatever a view leaves out.
fn row(row: &Tuple) -> Result<Row, tokio_postgres::Error> {
    let key = row.try_get(6)?;
    Ok(Row {
        id: row.try_get(0)?,
        tenant: row.try_get(1)?,
        name: row.try_get(2)?,
        maildrop: row.try_get(3)?,
        config: row.try_get(4)?,
        secret: row.try_get::<_, Option<Vec<u8>>>(5)?.map(|octets| Sealed { octets, key }),
        enabled: row.try_get(7)?,
        revision: row.try_get(8)?,
    })
}

/// Gives a text that changes with any of these, in whatever order they come.
fn digest(rows: &[[String; 3]]) -> String {
    let one = |row: &[String; 3]| {
        let mut hasher = DefaultHasher::new();
        row.hash(&mut hasher);
        hasher.finish()
    };
    let sum = rows.iter().map(one).fold(0_u64, u64::wrapping_add);
    format!("{} rows, {sum:x}", rows.len())
}

/// Reads ids and revisions; what there is none of is 0.
fn numbers(rows: &[[String; 3]]) -> Revisions {
    let number = |text: &str| match text.split_once('.').map_or(text, |(whole, _)| whole) {
        "" => Some(0),
        whole => whole.parse::<i64>().ok(),
    };
    let mut revisions = Revisions::default();
    for [id, revision, _] in rows {
        match (number(id), number(revision)) {
            (Some(id), Some(revision)) => revisions.of.push((id, revision)),
            (None, _) => {
                let id = Shown(id.as_bytes());
                revisions.wrong.push(format!("an account has the id {id}, which is no number that fits"));
            }
            (Some(id), None) => {
                let revision = Shown(revision.as_bytes());
                let what = "which is no number that fits";
                revisions.wrong.push(format!("the account of id {id} has the revision {revision}, {what}"));
            }
        }
    }
    revisions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told_of_its_row_and_the_others_are_read() {
        let rows = [["1", "7", "true"], ["x", "1", ""], ["2", "1.50", ""], ["3", "1e9", ""], ["", "", ""]]
            .map(|row| row.map(str::to_owned));
        let Revisions { of, wrong } = numbers(&rows);
        assert_eq!(of, [(1, 7), (2, 1), (0, 0)]);
        assert!(wrong[0].contains("id x") && wrong[1].contains("id 3 has the revision 1e9"), "{wrong:?}");
        let mut other = rows.clone();
        other.reverse();
        assert_eq!(digest(&rows), digest(&other));
        other[1][2] = "maybe".to_owned();
        assert_ne!(digest(&rows), digest(&other));
    }
}
