//! One way to both engines: the text of the statements is the same, and so are parameters and rows.

use rusqlite::types::{FromSql, ToSql, ValueRef};
use rusqlite::{CachedStatement, Connection};

use super::StateError;
use super::postgres::{self, Column, Transaction};

/// Why a statement gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Postgres(#[from] postgres::Fault),
    /// There is something in the tables that was never written there.
    #[error("{0}")]
    Damaged(String),
    /// Another store failed from which this one was to be written.
    #[error(transparent)]
    Elsewhere(Box<StateError>),
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// The tables, inside a transaction.
#[derive(Clone, Copy)]
pub(super) enum Tables<'a> {
    Sqlite(&'a Connection),
    Postgres(&'a Transaction<'a>),
}

/// A statement, to be executed again and again, or not at all. Its parameters are `?1`, `?2` ...
pub(super) enum Statement<'a> {
    /// SQLite reads it when it is executed first.
    Sqlite(&'a Connection, String, Option<CachedStatement<'a>>),
    Postgres(&'a Transaction<'a>, String),
}

/// Rows that have been asked for.
pub(super) enum Asked<'a, T> {
    Read(Vec<T>),
    Awaited(postgres::Asked<'a>, fn(&Row<'_>) -> Result<T>),
}

/// A row, as it is read.
pub(super) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl<'a> Tables<'a> {
    pub(super) fn prepare(self, sql: &str) -> Statement<'a> {
        match self {
            Self::Sqlite(connection) => Statement::Sqlite(connection, sql.to_owned(), None),
            Self::Postgres(transaction) => Statement::Postgres(transaction, sql.replace('?', "$")),
        }
    }

    /// Executes a statement once, see [`Statement::execute`].
    pub(super) fn execute(self, sql: &str, params: &[&dyn ToSql]) -> Result<()> {
        self.prepare(sql).execute(params)
    }

    /// Executes a statement, and counts the rows that it has changed.
    pub(super) fn count(self, sql: &str, params: &[&dyn ToSql]) -> Result<usize> {
        self.prepare(sql).count(params)
    }

    /// Waits until what was executed is done, where it is far away.
    pub(super) fn settle(self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(transaction) => Ok(transaction.settle()?),
        }
    }

    /// Gives the rows of a query.
    pub(super) fn rows<T>(
        self,
        sql: &str,
        params: &[&dyn ToSql],
        of: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.prepare(sql).rows(params, of)
    }

    /// Gives the first row of a query, if there is one.
    pub(super) fn first<T>(
        self,
        sql: &str,
        params: &[&dyn ToSql],
        of: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(sql, params, of)?.into_iter().next())
    }
}

impl<'a> Statement<'a> {
    /// Executes the statement. PostgreSQL's answer is waited for when the next rows or the commit are: what it refuses is
    /// told then, and nothing of the transaction is done.
    pub(super) fn execute(&mut self, params: &[&dyn ToSql]) -> Result<()> {
        match self {
            Self::Sqlite(connection, sql, read) => {
                once_read(connection, sql, read)?.execute(params)?;
            }
            Self::Postgres(transaction, sql) => transaction.execute(sql, params)?,
        }
        Ok(())
    }

    /// Executes the statement, and counts the rows that it has changed.
    pub(super) fn count(&mut self, params: &[&dyn ToSql]) -> Result<usize> {
        match self {
            Self::Sqlite(connection, sql, read) => Ok(once_read(connection, sql, read)?.execute(params)?),
            Self::Postgres(transaction, sql) => Ok(transaction.count(sql, params)?),
        }
    }

    pub(super) fn rows<T>(
        &mut self,
        params: &[&dyn ToSql],
        mut of: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        match self {
            Self::Sqlite(connection, sql, read) => {
                let (mut rows, mut all) = (once_read(connection, sql, read)?.query(params)?, Vec::new());
                while let Some(row) = rows.next()? {
                    all.push(of(&Row::Sqlite(row))?);
                }
                Ok(all)
            }
            Self::Postgres(transaction, sql) => {
                let rows = transaction.ask(sql, params)?.rows()?;
                rows.iter().map(|row| of(&Row::Postgres(row))).collect()
            }
        }
    }

    /// Asks for rows without waiting for them, where they are far away.
    pub(super) fn ask<T>(
        &mut self,
        params: &[&dyn ToSql],
        of: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Asked<'a, T>> {
        match self {
            Self::Sqlite(..) => self.rows(params, of).map(Asked::Read),
            Self::Postgres(transaction, sql) => Ok(Asked::Awaited(transaction.ask(sql, params)?, of)),
        }
    }
}

/// Gives a statement that SQLite has read, now or before.
fn once_read<'a, 's>(
    connection: &'a Connection,
    sql: &str,
    read: &'s mut Option<CachedStatement<'a>>,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    match read {
        Some(statement) => Ok(statement),
        None => Ok(read.insert(connection.prepare_cached(sql)?)),
    }
}

impl<T> Asked<'_, T> {
    pub(super) fn rows(self) -> Result<Vec<T>> {
        match self {
            Self::Read(rows) => Ok(rows),
            Self::Awaited(asked, of) => asked.rows()?.iter().map(|row| of(&Row::Postgres(row))).collect(),
        }
    }
}

impl Row<'_> {
    /// Gives a column, by its place or its name.
    pub(super) fn get<T: FromSql>(&self, column: impl Column) -> Result<T> {
        T::column_result(self.value(column)?).map_err(|error| Fault::Damaged(error.to_string()))
    }

    pub(super) fn value(&self, column: impl Column) -> Result<ValueRef<'_>> {
        match self {
            Self::Sqlite(row) => Ok(row.get_ref(column)?),
            Self::Postgres(row) => Ok(postgres::value(row, column)?),
        }
    }

    pub(super) fn blob(&self, column: impl Column) -> Result<&[u8]> {
        self.value(column)?.as_blob().map_err(|error| Fault::Damaged(error.to_string()))
    }

    /// The inverse of how octets are written: the upper half of `u64` is negative in the table.
    pub(super) fn octets(&self, column: impl Column) -> Result<u64> {
        Ok(self.get::<i64>(column)?.cast_unsigned())
    }
}
