//! The table of tenants' accounts, or a view of that shape over somebody else's tables.
//!
//! What is read is cast, so that a view may have a column as its own tables have it; a view of one table can be written
//! as well.

use std::collections::HashMap;

use tokio_postgres::Row as Tuple;
use tokio_postgres::types::Type;

use super::connection::{Database, Param};
use crate::config::Row;
use crate::seal::Sealed;
use crate::state::fleet::GONE;
use crate::state::{StateError, Trouble};

/// Rows that are read by one statement.
pub const PAGE: usize = 1000;

/// The table that is there by itself.
const OURS: &str = "account";

/// How the words of an error end that is of a column that is not there (SQLSTATE).
const NO_COLUMN: &str = "[42703]";

/// After a change the maildrop is due so soon: when all workers have seen it.
const SEEN: &str = "5 s";

/// The accounts that a database has. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    database: Database,
    /// Its name, which the configuration has checked.
    table: String,
}

/// A row to be written, and what of its account other rows are sorted by.
#[derive(Debug, Clone)]
pub struct Written {
    pub row: Row,
    /// In lower case.
    pub host: String,
}

impl Accounts {
    pub fn new(database: Database, table: impl Into<String>) -> Self {
        Self { database, table: table.into() }
    }

    /// Gives a text that changes whenever a row does.
    pub async fn digest(&self) -> Result<String, StateError> {
        let sql = format!(
            "SELECT concat_ws(' ', count(*), sum(id::numeric), sum(revision::numeric), max(revision), count(*) FILTER (WHERE enabled)) FROM {}",
            self.table
        );
        let rows = self.read(&sql, &[]).await?;
        Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
    }

    /// Gives the revision of each account, by its id.
    pub async fn revisions(&self) -> Result<Vec<(i64, i64)>, StateError> {
        let sql =
            format!("SELECT coalesce(id::bigint, 0), coalesce(revision::bigint, 0) FROM {}", self.table);
        let rows = self.read(&sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Gives the rows of these ids, as far as they are there.
    pub async fn rows(&self, ids: &[i64]) -> Result<Vec<Row>, StateError> {
        self.select("id = ANY($1)", &[(&ids, Type::INT8_ARRAY)]).await
    }

    /// Gives the row of this name.
    pub async fn find(&self, tenant: &str, name: &str) -> Result<Option<Row>, StateError> {
        let rows =
            self.select("tenant = $1 AND name = $2", &[(&tenant, Type::TEXT), (&name, Type::TEXT)]).await?;
        Ok(rows.into_iter().next())
    }

    /// Gives up to [`PAGE`] rows behind one, by tenant and name: of one tenant, or of all.
    pub async fn page(&self, behind: Option<&Row>, tenant: Option<&str>) -> Result<Vec<Row>, StateError> {
        let last = behind.map_or(("", ""), |row| (&row.tenant, &row.name));
        let condition = format!(
            "(tenant::text, name::text) > ($1, $2) AND ($3::text IS NULL OR tenant = $3) ORDER BY tenant::text, name::text LIMIT {PAGE}"
        );
        self.select(&condition, &[(&last.0, Type::TEXT), (&last.1, Type::TEXT), (&tenant, Type::TEXT)]).await
    }

    /// Gives the rows of the accounts that have these maildrops.
    pub async fn with(&self, maildrops: &[String]) -> Result<Vec<Row>, StateError> {
        self.select("maildrop = ANY($1)", &[(&maildrops, Type::TEXT_ARRAY)]).await
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

    /// What a view has nothing for is empty, and not switched off.
    async fn select(&self, condition: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StateError> {
        let sql = format!(
            "SELECT coalesce(id::bigint, 0), coalesce(tenant::text, ''), coalesce(name::text, ''),
             coalesce(maildrop::text, ''), coalesce(config::text, ''), secret::bytea, coalesce(secret_key::text, ''),
             coalesce(enabled::boolean, true), coalesce(revision::bigint, 0) FROM {} WHERE {condition}",
            self.table
        );
        Ok(self.read(&sql, params).await?.iter().map(row).collect())
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

    /// Adds rows, and gives the ids of those that were added: the others' names are taken.
    pub async fn add(&self, rows: &[Written]) -> Result<Vec<i64>, StateError> {
        let ids: Vec<i64> = rows.iter().map(|written| written.row.id).collect();
        let text = |of: fn(&Written) -> &str| rows.iter().map(of).collect::<Vec<&str>>();
        let (tenants, names) = (text(|of| &of.row.tenant), text(|of| &of.row.name));
        let (maildrops, hosts) = (text(|of| &of.row.maildrop), text(|of| &of.host));
        let configs = text(|of| &of.row.config);
        let sealed = |of: &Written| of.row.secret.clone();
        let secrets: Vec<Option<Vec<u8>>> =
            rows.iter().map(|of| sealed(of).map(|secret| secret.octets)).collect();
        let keys: Vec<Option<String>> = rows.iter().map(|of| sealed(of).map(|secret| secret.key)).collect();
        let enabled: Vec<bool> = rows.iter().map(|of| of.row.enabled).collect();
        let sql = format!(
            "INSERT INTO {} (id, tenant, name, maildrop, host, config, secret, secret_key, enabled, revision)
             SELECT x.*, 1 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                 $7::bytea[], $8::text[], $9::boolean[]) AS x
             ON CONFLICT (tenant, name) DO NOTHING RETURNING id",
            self.table
        );
        let params: [Param<'_>; 9] = [
            (&ids, Type::INT8_ARRAY),
            (&tenants, Type::TEXT_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&maildrops, Type::TEXT_ARRAY),
            (&hosts, Type::TEXT_ARRAY),
            (&configs, Type::TEXT_ARRAY),
            (&secrets, Type::BYTEA_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&enabled, Type::BOOL_ARRAY),
        ];
        Ok(self.database.query(&sql, &params).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Writes a row anew, and has its maildrop polled soon; false if it is not there.
    pub async fn replace(&self, written: &Written) -> Result<bool, StateError> {
        let Written { row, host } = written;
        let (octets, key) = match &row.secret {
            Some(Sealed { key, octets }) => (Some(octets), Some(key)),
            None => (None, None),
        };
        let sql = format!(
            "UPDATE {} SET maildrop = $2, host = $3, config = $4, secret = $5, secret_key = $6, enabled = $7,
             revision = revision + 1 WHERE id = $1 RETURNING id",
            self.table
        );
        let params: [Param<'_>; 7] = [
            (&row.id, Type::INT8),
            (&row.maildrop, Type::TEXT),
            (host, Type::TEXT),
            (&row.config, Type::TEXT),
            (&octets, Type::BYTEA),
            (&key, Type::TEXT),
            (&row.enabled, Type::BOOL),
        ];
        let is_there = !self.database.query(&sql, &params).await?.is_empty();
        self.is_polled_or_gone(row).await?;
        Ok(is_there)
    }

    /// Seals a secret anew, unless it has become another one meanwhile. Whoever has only the new key sees it.
    pub async fn reseal(&self, row: &Row, new: &Sealed) -> Result<(), StateError> {
        let Some(old) = &row.secret else { return Ok(()) };
        let sql = format!(
            "UPDATE {} SET secret = $3, secret_key = $4, revision = revision + 1 WHERE id = $1 AND secret = $2",
            self.table
        );
        let params: [Param<'_>; 4] = [
            (&row.id, Type::INT8),
            (&old.octets, Type::BYTEA),
            (&new.octets, Type::BYTEA),
            (&new.key, Type::TEXT),
        ];
        self.database.query(&sql, &params).await.map(drop)
    }

    /// Removes a row; what was recorded of its maildrop stays for 90 days after the last listing.
    pub async fn remove(&self, id: i64) -> Result<bool, StateError> {
        let sql = format!("DELETE FROM {} WHERE id = $1 RETURNING coalesce(maildrop::text, '')", self.table);
        let removed = self.database.query(&sql, &[(&id, Type::INT8)]).await?;
        for row in &removed {
            self.gone(row.get(0)).await?;
        }
        Ok(!removed.is_empty())
    }

    /// Takes note that a maildrop is polled no more.
    async fn gone(&self, maildrop: String) -> Result<(), StateError> {
        let sql = format!(
            "UPDATE lease SET owner = {GONE} WHERE token = 0
             AND maildrop IN (SELECT id FROM maildrop WHERE identity = $1)"
        );
        self.database.query(&sql, &[(&maildrop, Type::TEXT)]).await.map(drop)
    }

    /// Switches a row on or off, as it says now.
    pub async fn switch(&self, row: &Row) -> Result<(), StateError> {
        let sql = format!("UPDATE {} SET enabled = $2, revision = revision + 1 WHERE id = $1", self.table);
        self.database.query(&sql, &[(&row.id, Type::INT8), (&row.enabled, Type::BOOL)]).await?;
        self.is_polled_or_gone(row).await
    }

    /// Has a row's maildrop polled soon, or counted no more.
    async fn is_polled_or_gone(&self, row: &Row) -> Result<(), StateError> {
        match row.enabled {
            true => self.soon(std::slice::from_ref(&row.maildrop), "").await,
            false => self.gone(row.maildrop.clone()).await,
        }
    }

    /// Has maildrops polled soon whose last poll failed: what made it fail may have changed.
    pub async fn failed_are_due(&self, maildrops: &[String]) -> Result<(), StateError> {
        match maildrops.is_empty() {
            true => Ok(()),
            false => self.soon(maildrops, " AND failures > 0").await,
        }
    }

    async fn soon(&self, maildrops: &[String], condition: &str) -> Result<(), StateError> {
        // One that is being polled was due before, and is to be polled again.
        let sql = format!(
            "UPDATE lease SET owner = greatest(owner, 0), due = greatest(log_in_at,
                 CASE WHEN token = 0 THEN least(due, now() + interval '{SEEN}') ELSE now() + interval '{SEEN}' END)
             WHERE maildrop IN (SELECT id FROM maildrop WHERE identity = ANY($1)){condition}"
        );
        self.database.query(&sql, &[(&maildrops, Type::TEXT_ARRAY)]).await.map(drop)
    }
}

/// Rows, page by page.
pub struct Pages<'a> {
    accounts: &'a Accounts,
    tenant: Option<&'a str>,
    last: Option<Row>,
}

impl Pages<'_> {
    /// Gives the next page, until there is none.
    pub async fn next(&mut self) -> Result<Option<Vec<Row>>, StateError> {
        let page = self.accounts.page(self.last.as_ref(), self.tenant).await?;
        self.last = page.last().cloned();
        Ok((!page.is_empty()).then_some(page))
    }
}

/// Takes a row of [`Accounts::select`]: all but the secret is there, whatever a view leaves out.
fn row(row: &Tuple) -> Row {
    let sealed = row.get::<_, Option<Vec<u8>>>(5).map(|octets| Sealed { octets, key: row.get(6) });
    Row {
        id: row.get(0),
        tenant: row.get(1),
        name: row.get(2),
        maildrop: row.get(3),
        config: row.get(4),
        secret: sealed,
        enabled: row.get(7),
        revision: row.get(8),
    }
}
