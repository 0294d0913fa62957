//! What whoever looks at the accounts is told besides their maildrops: when they are polled next, and what the last day
//! brought.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::params;

use super::reading::{counts, status};
use super::recording::to_column;
use super::tables::{Result, Tables};
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
pub(super) fn schedule(tables: Tables<'_>, due: &Due) -> Result<()> {
    let mut set = tables.prepare(
        "INSERT INTO due (maildrop, at) VALUES (?1, ?2) ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at
         WHERE due.at >= 0",
    )?;
    let mut unset = tables.prepare("DELETE FROM due WHERE maildrop = ?1 AND at >= 0")?;
    due.iter().try_for_each(|(maildrop, at)| match at {
        Some(at) => set.execute(params![maildrop, at]),
        None => unset.execute(params![maildrop]),
    })
}

/// Notes what is asked for, and when; then that it was looked for.
pub(super) fn ask_for(tables: Tables<'_>, maildrops: &[Arc<str>], at: Timestamp) -> Result<()> {
    let mut set = tables.prepare(
        "INSERT INTO due (maildrop, at) VALUES (?1, ?2) ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at",
    )?;
    maildrops.iter().try_for_each(|maildrop| set.execute(params![maildrop, at]))
}

/// Gives the maildrops that are asked for.
pub(super) fn asked_for(tables: Tables<'_>) -> Result<Vec<String>> {
    let mut found = tables.rows("SELECT maildrop FROM due WHERE at < 0", &[], |row| row.get(0))?;
    found.sort();
    Ok(found)
}

/// Gives when each maildrop is polled next that is polled by itself.
fn due(tables: Tables<'_>) -> Result<HashMap<String, Timestamp>> {
    let due = tables.rows("SELECT maildrop, abs(at) FROM due", &[], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(due.into_iter().collect())
}

/// Counts what a poll brought. One that brought nothing costs nothing.
pub(super) fn count(tables: Tables<'_>, at: Timestamp, poll: &PollResult) -> Result<()> {
    let failed = poll.failure.as_ref().is_some_and(|(class, _)| class != "stopped");
    if !failed && poll.messages == 0 {
        return Ok(());
    }
    let hour = at.div_euclid(3600);
    tables.execute("DELETE FROM hour WHERE hour <= ?1", params![hour - HOURS])?;
    tables.execute(
        "INSERT INTO hour (hour, messages, octets, failures) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (hour) DO UPDATE SET messages = hour.messages + excluded.messages,
             octets = hour.octets + excluded.octets, failures = hour.failures + excluded.failures",
        params![hour, to_column(poll.messages), to_column(poll.octets), failed],
    )
}

/// Gives the hours that have counts, the oldest first.
fn hours(tables: Tables<'_>) -> Result<Vec<Hour>> {
    tables.rows("SELECT hour, messages, octets, failures FROM hour ORDER BY hour", &[], |row| {
        let (messages, octets, failures) = (row.octets(1)?, row.octets(2)?, row.octets(3)?);
        Ok(Hour { hour: row.get(0)?, messages, octets, failures })
    })
}

/// Reads all that there is to be seen.
pub(super) fn overview(tables: Tables<'_>, seen: Seen) -> Result<Overview> {
    let counts = match seen {
        Seen::Counted => counts(tables)?,
        Seen::Uncounted => HashMap::new(),
    };
    Ok(Overview { maildrops: status(tables, counts)?, due: due(tables)?, hours: hours(tables)? })
}
