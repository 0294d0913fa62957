//! Statements of one transaction, from a thread that may wait: sent at once, and waited for where something depends on
//! the answers.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio::runtime::Runtime;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connection::Sent;

type Refused = Box<dyn std::error::Error + Sync + Send>;

/// Why a statement gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Server(#[from] tokio_postgres::Error),
    /// No answer came for so long.
    #[error("no answer for {0:?}")]
    Silent(Duration),
    /// A parameter is of no type that the tables have.
    #[error("cannot write a value: {0}")]
    Parameter(String),
    /// The lease is another's.
    #[error("the lease on the maildrop is lost")]
    LeaseLost,
}

type Result<T> = std::result::Result<T, Fault>;

/// A statement on its way.
type Sending<T> = Sent<'static, std::result::Result<T, tokio_postgres::Error>>;

/// A transaction that has begun.
pub struct Transaction<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) client: Arc<Client>,
    pub(super) patience: Duration,
    /// Statements whose answers nobody has waited for.
    sent: RefCell<Vec<Sending<u64>>>,
}

/// Rows that are on their way.
pub struct Asked<'a> {
    transaction: &'a Transaction<'a>,
    rows: Sending<Vec<Row>>,
}

impl<'a> Transaction<'a> {
    /// Sends what begins one.
    pub(super) fn begin(
        runtime: &'a Runtime,
        client: Arc<Client>,
        patience: Duration,
        begin: &'static str,
    ) -> Self {
        let this = Self { runtime, client: client.clone(), patience, sent: RefCell::default() };
        let begun = async move { client.batch_execute(begin).await.map(|()| 0) };
        this.sent.borrow_mut().push(Sent::now(begun));
        this
    }

    pub fn execute(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<()> {
        let statement = self.statement(sql, params)?;
        self.sent.borrow_mut().push(statement);
        Ok(())
    }

    pub fn count(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<usize> {
        let statement = self.statement(sql, params)?;
        self.settle()?;
        let rows = self.wait(statement.answer())??;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    pub fn ask(&'a self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Asked<'a>> {
        let (client, sql, params) = (self.client.clone(), sql.to_owned(), bound(params)?);
        let rows = async move { client.query_typed(&sql, &typed(&params)).await };
        Ok(Asked { transaction: self, rows: Sent::now(rows) })
    }

    /// Waits until all that was sent is done; the first that failed says why.
    pub fn settle(&self) -> Result<()> {
        for statement in self.sent.take() {
            self.wait(statement.answer())??;
        }
        Ok(())
    }

    /// Sends what ends it, and waits for that.
    pub(super) fn end(&self, client: &Client, sql: &'static str) -> Result<()> {
        // What failed has been told, or is not of interest any more.
        self.sent.take();
        Ok(self.wait(client.batch_execute(sql))??)
    }

    pub(super) fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T> {
        let patience = self.patience;
        let answered = self.runtime.block_on(async { tokio::time::timeout(patience, answer).await });
        answered.map_err(|_| Fault::Silent(patience))
    }

    fn statement(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Sending<u64>> {
        let (client, sql, params) = (self.client.clone(), sql.to_owned(), bound(params)?);
        Ok(Sent::now(async move { client.execute_typed(&sql, &typed(&params)).await }))
    }
}

impl Asked<'_> {
    pub fn rows(self) -> Result<Vec<Row>> {
        // Whatever failed before says why this did.
        self.transaction.settle()?;
        Ok(self.transaction.wait(self.rows.answer())??)
    }
}

/// A parameter on its way, and its type.
type Bound = (Box<dyn ToSql + Sync + Send>, Type);

fn bound(params: &[&dyn rusqlite::ToSql]) -> Result<Vec<Bound>> {
    let of = |value: ValueRef<'_>| -> Result<Bound> {
        Ok(match value {
            ValueRef::Integer(number) => (Box::new(number), Type::INT8),
            // PostgreSQL has no NUL in a text.
            ValueRef::Text(text) => {
                (Box::new(String::from_utf8_lossy(text).replace('\0', "\u{fffd}")), Type::TEXT)
            }
            ValueRef::Blob(octets) => (Box::new(octets.to_vec()), Type::BYTEA),
            // The server takes the type from where the parameter stands.
            ValueRef::Null => (Box::new(None::<String>), Type::UNKNOWN),
            ValueRef::Real(number) => {
                return Err(Fault::Parameter(format!("{number} is no whole number")));
            }
        })
    };
    let of = |param: &&dyn rusqlite::ToSql| match param.to_sql() {
        Ok(ToSqlOutput::Borrowed(value)) => of(value),
        Ok(ToSqlOutput::Owned(value)) => of((&value).into()),
        Ok(other) => Err(Fault::Parameter(format!("{other:?}"))),
        Err(error) => Err(Fault::Parameter(error.to_string())),
    };
    params.iter().map(of).collect()
}

fn typed(params: &[Bound]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    params.iter().map(|(param, kind)| (&**param as &(dyn ToSql + Sync), kind.clone())).collect()
}

/// Gives a column of a row as SQLite would.
pub fn value(row: &Row, column: impl Column) -> Result<ValueRef<'_>> {
    Ok(row.try_get::<_, Value<'_>>(column)?.0)
}

struct Value<'a>(ValueRef<'a>);

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> std::result::Result<Self, Refused> {
        Ok(Self(match *kind {
            Type::BYTEA => ValueRef::Blob(raw),
            Type::INT8 => ValueRef::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => ValueRef::Integer(i32::from_sql(kind, raw)?.into()),
            Type::BOOL => ValueRef::Integer(bool::from_sql(kind, raw)?.into()),
            _ => ValueRef::Text(raw),
        }))
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Refused> {
        Ok(Self(ValueRef::Null))
    }

    fn accepts(kind: &Type) -> bool {
        [Type::BYTEA, Type::INT8, Type::INT4, Type::BOOL, Type::TEXT, Type::VARCHAR].contains(kind)
    }
}

/// The place of a column, or its name.
pub trait Column: rusqlite::RowIndex + tokio_postgres::row::RowIndex + std::fmt::Display {}

impl Column for usize {}
impl Column for &str {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tables_have_no_type_for_is_refused_and_not_left_out() {
        assert_eq!(bound(&[&1_i64, &"a\0b", &b"c".as_slice(), &None::<i64>]).unwrap().len(), 4);
        assert!(matches!(bound(&[&1.5]), Err(Fault::Parameter(_))));
    }
}
