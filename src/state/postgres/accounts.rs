//! The table of tenants' accounts, or a view of that shape over somebody else's tables: a view of one table can be written as
//! well. How it is read stands in [`super::rows`].

use tokio_postgres::types::Type;

use super::connection::{Database, Param};
use crate::config::Row;
use crate::seal::Sealed;
use crate::state::StateError;
use crate::state::fleet::GONE;

/// After a change the maildrop is due so soon: when all workers have seen it.
const SEEN: &str = "5 s";

/// The accounts that a database has. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    pub(super) database: Database,
    /// Its name, which the configuration has checked.
    pub(super) table: String,
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
