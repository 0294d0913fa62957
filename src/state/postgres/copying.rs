//! What a copy of the state asks of a database: that nobody else records there.

use rusqlite::params;

use super::connection::BEGIN;
use super::keeper::{Keeper, Work};
use super::prepare::COPYING;
use super::schema::OLDEST;
use crate::state::StateError;
use crate::state::tables::{Result as Found, Tables};

/// Begins what lasts as long as all is read. A process that stops in it keeps all workers waiting.
const HOLD: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 600000";

/// Where the source of a copy is noted that has begun, and that no target of ours is called.
const SOURCE: &str = "source of `postrider state copy`";

/// The names of workers that live; nothing was done then.
type Workers = Vec<String>;

/// What was found where a copy was to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nothing, or what is whole.
    Nothing,
    /// A part of what is copied now.
    Same,
    /// A part of another source's, which has to become whole before.
    Others(String),
}

impl Keeper {
    /// Does work while all leases are locked, so that nobody claims one or records under it. Nothing that it writes stays
    /// for certain.
    pub(in crate::state) fn at_rest<T>(
        &mut self,
        work: Work<'_, T>,
    ) -> Result<Result<T, Workers>, StateError> {
        self.carry_out(HOLD, &mut |tables| {
            tables.rows("SELECT maildrop FROM lease ORDER BY maildrop FOR UPDATE", &[], |_| Ok(()))?;
            unless_used(tables, work)
        })
    }

    /// Keeps everybody from the database but copies of this source, unless one of another has begun.
    pub fn shut_out(&mut self, source: &str) -> Result<Result<Begun, Workers>, StateError> {
        self.carry_out(BEGIN, &mut |tables| {
            // Who joins locks it, too: from here on nobody does, and whoever has done so is seen.
            let oldest = "SELECT oldest FROM postrider FOR UPDATE";
            let oldest: Option<i64> = tables.first(oldest, &[], |row| row.get(0))?;
            unless_used(tables, &mut |tables| {
                let of: Option<Vec<u8>> =
                    tables.first("SELECT memory FROM target WHERE name = ?1", params![SOURCE], |row| {
                        row.get(0)
                    })?;
                let begun = match (oldest == Some(COPYING), of) {
                    (true, Some(of)) if of != source.as_bytes() => {
                        return Ok(Begun::Others(String::from_utf8_lossy(&of).into_owned()));
                    }
                    (true, _) => Begun::Same,
                    (false, _) => Begun::Nothing,
                };
                // They were not heard of for long, and may be back.
                tables.execute("UPDATE worker SET evicted = true", &[])?;
                tables.execute("UPDATE postrider SET oldest = ?1", params![COPYING])?;
                tables.execute(
                    "INSERT INTO target (name, memory) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET memory = excluded.memory",
                    params![SOURCE, source.as_bytes()],
                )?;
                Ok(begun)
            })
        })
    }

    /// Lets everybody in again.
    pub fn let_in(&mut self) -> Result<Result<(), Workers>, StateError> {
        self.write(&mut |tables| {
            tables.execute("DELETE FROM target WHERE name = ?1", params![SOURCE])?;
            tables.execute("UPDATE postrider SET oldest = ?1", params![OLDEST])
        })
    }

    /// Does work in one transaction.
    pub(in crate::state) fn write<T>(&mut self, work: Work<'_, T>) -> Result<Result<T, Workers>, StateError> {
        self.carry_out(BEGIN, &mut |tables| unless_used(tables, work))
    }
}

/// Does work unless somebody polls: who was connected before the others were shut out may begin to.
fn unless_used<T>(tables: Tables<'_>, work: Work<'_, T>) -> Found<Result<T, Workers>> {
    let sql = "SELECT name FROM worker WHERE NOT evicted AND beat > now() - interval '30 s' ORDER BY name";
    let workers: Workers = tables.rows(sql, &[], |row| row.get(0))?;
    match workers.is_empty() {
        true => work(tables).map(Ok),
        false => Ok(Err(workers)),
    }
}
