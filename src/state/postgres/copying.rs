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

/// The names of workers that live; nothing was done then.
type Workers = Vec<String>;

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

    /// Keeps everybody from the database but copies of the state. Says whether that was so already.
    pub fn shut_out(&mut self) -> Result<Result<bool, Workers>, StateError> {
        self.carry_out(BEGIN, &mut |tables| {
            unless_used(tables, &mut |tables| {
                let was_begun = tables.first("SELECT oldest FROM postrider", &[], |row| row.get(0))?;
                // They were not heard of for long, and may be back.
                tables.execute("UPDATE worker SET evicted = true", &[])?;
                tables.execute("UPDATE postrider SET oldest = ?1", params![COPYING])?;
                Ok(was_begun == Some(COPYING))
            })
        })
    }

    /// Lets everybody in again.
    pub fn let_in(&mut self) -> Result<Result<(), Workers>, StateError> {
        self.write(&mut |tables| tables.execute("UPDATE postrider SET oldest = ?1", params![OLDEST]))
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
