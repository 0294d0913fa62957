//! When a maildrop is polled next: a row of its own in a file, and in a database that of its lease.

use rusqlite::params;

use crate::state::Timestamp;
use crate::state::tables::{Result, Tables};

/// Gives when a maildrop is polled next, if it is by itself; below zero, somebody waits for it since then.
pub fn read(tables: Tables<'_>, identity: &str) -> Result<Option<Timestamp>> {
    let sql = match tables {
        Tables::Sqlite(_) => "SELECT at FROM due WHERE maildrop = ?1",
        // What is polled when somebody asks is due in a hundred years.
        Tables::Postgres(_) => {
            "SELECT extract(epoch FROM lease.due)::bigint FROM lease JOIN maildrop ON maildrop.id = lease.maildrop
             WHERE identity = ?1 AND lease.due < now() + interval '10 years'"
        }
    };
    tables.first(sql, params![identity], |row| row.get(0))
}

/// Notes it for the maildrop of this identity and number.
pub fn write(tables: Tables<'_>, (identity, id): (&str, i64), at: Option<Timestamp>) -> Result<()> {
    let Some(at) = at else { return Ok(()) };
    match tables {
        Tables::Sqlite(_) => {
            let sql = "INSERT INTO due (maildrop, at) VALUES (?1, ?2)
                 ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at";
            tables.execute(sql, params![identity, at])
        }
        Tables::Postgres(_) => {
            let sql = "INSERT INTO lease (maildrop, due, failures)
                 SELECT id, TIMESTAMPTZ 'epoch' + ?2 * interval '1 second', failures FROM maildrop WHERE id = ?1
                 ON CONFLICT (maildrop) DO UPDATE SET due = excluded.due, failures = excluded.failures";
            tables.execute(sql, params![id, at.abs()])
        }
    }
}
