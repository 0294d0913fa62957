//! What whoever looks at the accounts is told besides their maildrops: when they are polled next, and what the last day
//! brought.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Result, params};

use super::reading::{counts, status};
use super::recording::to_column;
use super::{Hour, Overview, PollResult, Timestamp};

/// Hours of which the counts are kept: a day, and the hour that has begun.
pub const HOURS: Timestamp = 25;

/// Whether the recorded messages are counted, which takes reading all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Counted,
    /// They are told as none.
    Uncounted,
}

/// When maildrops are polled next; `None`: when somebody asks for it.
pub type Due = Vec<(Arc<str>, Option<Timestamp>)>;

/// Notes when maildrops are polled next. What is asked for stays: its time stands below zero until it is looked for.
pub(super) fn schedule(connection: &Connection, due: &Due) -> Result<()> {
    let mut set = connection.prepare_cached(
        "INSERT INTO due (maildrop, at) VALUES (?1, ?2) ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at
         WHERE due.at >= 0",
    )?;
    let mut unset = connection.prepare_cached("DELETE FROM due WHERE maildrop = ?1 AND at >= 0")?;
    due.iter().try_for_each(|(maildrop, at)| {
        let done = match at {
            Some(at) => set.execute(params![maildrop, at]),
            None => unset.execute([maildrop]),
        };
        done.map(drop)
    })
}

/// Notes what is asked for, and when; then that it was looked for.
pub(super) fn ask_for(connection: &Connection, maildrops: &[Arc<str>], at: Timestamp) -> Result<()> {
    let mut set = connection.prepare_cached(
        "INSERT INTO due (maildrop, at) VALUES (?1, ?2) ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at",
    )?;
    maildrops.iter().try_for_each(|maildrop| set.execute(params![maildrop, at]).map(drop))
}

/// Gives the maildrops that are asked for.
pub(super) fn asked_for(connection: &Connection) -> Result<Vec<String>> {
    let mut select = connection.prepare_cached("SELECT maildrop FROM due WHERE at < 0")?;
    select.query_map([], |row| row.get(0))?.collect()
}

/// Gives when each maildrop is polled next that is polled by itself.
fn due(connection: &Connection) -> Result<HashMap<String, Timestamp>> {
    let mut select = connection.prepare_cached("SELECT maildrop, abs(at) FROM due")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Counts what a poll brought. One that brought nothing costs nothing.
pub(super) fn count(connection: &Connection, at: Timestamp, poll: &PollResult) -> Result<()> {
    let failed = poll.failure.as_ref().is_some_and(|(class, _)| class != "stopped");
    if !failed && poll.messages == 0 {
        return Ok(());
    }
    let hour = at.div_euclid(3600);
    connection.prepare_cached("DELETE FROM hour WHERE hour <= ?1")?.execute([hour - HOURS])?;
    connection
        .prepare_cached(
            "INSERT INTO hour (hour, messages, octets, failures) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (hour) DO UPDATE SET messages = messages + excluded.messages,
                 octets = octets + excluded.octets, failures = failures + excluded.failures",
        )?
        .execute(params![hour, to_column(poll.messages), to_column(poll.octets), failed])?;
    Ok(())
}

/// Gives the hours that have counts, the oldest first.
fn hours(connection: &Connection) -> Result<Vec<Hour>> {
    let mut select =
        connection.prepare_cached("SELECT hour, messages, octets, failures FROM hour ORDER BY hour")?;
    let hours = select.query_map([], |row| {
        let count = |column| -> Result<u64> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
        Ok(Hour { hour: row.get(0)?, messages: count(1)?, octets: count(2)?, failures: count(3)? })
    })?;
    hours.collect()
}

/// Reads all that there is to be seen.
pub(super) fn overview(connection: &Connection, seen: Seen) -> Result<Overview> {
    let counts = match seen {
        Seen::Counted => counts(connection)?,
        Seen::Uncounted => HashMap::new(),
    };
    Ok(Overview { maildrops: status(connection, counts)?, due: due(connection)?, hours: hours(connection)? })
}
