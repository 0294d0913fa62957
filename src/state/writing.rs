//! The requests that change rows, each as statements inside the transaction of its group.

use std::sync::Arc;

use rusqlite::{Connection, Result, params};

use crate::message::FileId;
use crate::message::UniqueId;
use crate::message::file::digest_of_name;

use super::closing::{close, doubt_open, login, tell};
use super::entries::Packed;
use super::memory::open_mark;
use super::outlook::{Due, ask_for, schedule};
use super::reading::{self, find};
use super::recording::{forget_messages, reached, record, unclaimed};
use super::spending::Spending;
use super::{Closing, Delivery, LogIn, Reached, Timestamp, Told, Unclaimed};

/// A request that changes rows.
pub(super) enum Write {
    /// See [`super::Store::publishing`].
    Publishing { maildrop: Arc<str>, session: i64, unclaimed: Vec<Unclaimed> },
    /// See [`super::Store::forget_messages`].
    ForgetMessages { maildrop: Arc<str> },
    /// See [`super::Store::record`].
    Record { maildrop: Arc<str>, session: i64, at: Timestamp, deliveries: Vec<Delivery> },
    /// See [`super::Store::reached`].
    Reached { maildrop: Arc<str>, at: Timestamp, reached: Vec<Reached> },
    /// See [`super::Store::close`].
    Close { maildrop: Arc<str>, session: i64, entries: Arc<Packed>, closing: Box<Closing> },
    /// See [`super::Store::forget`].
    Forget { maildrop: Arc<str>, uids: Vec<UniqueId> },
    /// See [`super::Store::hasten`].
    Hasten { maildrop: Arc<str>, names: Vec<(UniqueId, u32)>, at: Timestamp },
    /// See [`super::Store::remember`].
    Remember { target: String, memory: Vec<u8> },
    /// See [`super::Store::spend`].
    Spend(Spending),
    /// See [`super::Store::logged_in`].
    LoggedIn { maildrop: Arc<str>, at: Timestamp, outcome: LogIn },
    /// See [`super::Store::tell`].
    Tell { maildrop: Arc<str>, told: Vec<(&'static str, Option<Told>)> },
    /// See [`super::Store::schedule`].
    Schedule(Due),
    /// See [`super::Store::ask_for`].
    AskFor { maildrops: Vec<Arc<str>>, at: Timestamp },
    /// See [`super::Store::drop_maildrop`].
    Drop { maildrop: Arc<str> },
}

impl Write {
    /// Says whether it may be lost by a power cut, so that no fsync is due to it.
    pub(super) fn may_be_lost(&self) -> bool {
        matches!(self, Self::Schedule(_) | Self::AskFor { at: 0.., .. })
    }

    /// Executes the statements; gives the count that [`super::Store::forget`] and [`super::Store::hasten`] answer.
    pub(super) fn apply(&self, connection: &Connection) -> Result<usize> {
        match self {
            Self::Publishing { maildrop, session, unclaimed: files } => {
                let id = existing_or_new(connection, maildrop)?;
                doubt_open(connection, id, *session)?;
                connection
                    .prepare_cached("UPDATE maildrop SET publisher = ?2 WHERE id = ?1")?
                    .execute(params![id, session])?;
                unclaimed(connection, id, files).map(|()| 0)
            }
            Self::ForgetMessages { maildrop } => match find(connection, maildrop)? {
                Some(id) => forget_messages(connection, id),
                None => Ok(0),
            },
            Self::Record { maildrop, session, at, deliveries } => {
                let id = existing_or_new(connection, maildrop)?;
                record(connection, id, (*at, open_mark(*session)), deliveries).map(|()| 0)
            }
            Self::Reached { maildrop, at, reached: messages } => {
                let id = existing_or_new(connection, maildrop)?;
                reached(connection, id, *at, messages).map(|()| 0)
            }
            Self::Close { maildrop, session, entries, closing } => {
                let id = existing_or_new(connection, maildrop)?;
                close(connection, id, *session, entries, closing).map(|()| 0)
            }
            Self::Forget { maildrop, uids } => match find(connection, maildrop)? {
                Some(id) => forget(connection, id, maildrop, uids),
                None => Ok(0),
            },
            Self::Hasten { maildrop, names, at } => match find(connection, maildrop)? {
                Some(id) => hasten(connection, id, names, *at),
                None => Ok(0),
            },
            Self::Remember { target, memory } => connection
                .prepare_cached(
                    "INSERT INTO target (name, memory) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET memory = excluded.memory",
                )?
                .execute(params![target, memory]),
            Self::Spend(spending) => spend(connection, spending),
            Self::LoggedIn { maildrop, at, outcome } => {
                let id = existing_or_new(connection, maildrop)?;
                login(connection, id, *at, outcome).map(|()| 0)
            }
            Self::Tell { maildrop, told } => {
                let id = existing_or_new(connection, maildrop)?;
                tell(connection, id, told).map(|()| 0)
            }
            Self::Schedule(due) => schedule(connection, due).map(|()| 0),
            Self::AskFor { maildrops, at } => ask_for(connection, maildrops, *at).map(|()| 0),
            Self::Drop { maildrop } => match find(connection, maildrop)? {
                Some(id) => drop_maildrop(connection, id, maildrop),
                None => Ok(0),
            },
        }
    }
}

/// Grants octets of a day's budget, and counts them as used.
fn spend(connection: &Connection, spending: &Spending) -> Result<usize> {
    let Spending { name, day, most, octets, unspent } = spending;
    let kept = reading::target_memory(connection, name)?.unwrap_or_default();
    let used = Spending::used(&kept, *day).saturating_sub(*unspent);
    let granted = most.saturating_sub(used).min(*octets);
    if granted > 0 || *unspent > 0 {
        let memory = format!("{day} {}", used + granted).into_bytes();
        Write::Remember { target: name.clone(), memory }.apply(connection)?;
    }
    Ok(usize::try_from(granted).unwrap_or(usize::MAX))
}

/// Finds the row of a maildrop or makes it. It is made with the first thing that is worth a commit, not when a session
/// begins: no row and an empty one mean the same.
fn existing_or_new(connection: &Connection, maildrop: &str) -> Result<i64> {
    match find(connection, maildrop)? {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached("INSERT INTO maildrop (identity) VALUES (?1) RETURNING id")?
            .query_row([maildrop], |row| row.get(0)),
    }
}

fn forget(connection: &Connection, id: i64, maildrop: &str, uids: &[UniqueId]) -> Result<usize> {
    // A file that is still there is the message: it is fetched again, and found.
    let mut select = connection.prepare_cached(
        "SELECT ordinal, file FROM seen WHERE maildrop = ?1 AND uid = ?2
         UNION ALL SELECT ordinal, coalesce(file, x'') FROM reached WHERE maildrop = ?1 AND uid = ?2",
    )?;
    for uid in uids {
        let files = select.query_map(params![id, uid.as_bytes()], |row| {
            let file: Option<Vec<u8>> = row.get(1)?;
            Ok(match file {
                Some(octets) => FileId::all_from_octets(&octets).into_iter().map(Unclaimed::File).collect(),
                None => vec![Unclaimed::Digest(digest_of_name(maildrop, uid.as_bytes(), row.get(0)?))],
            })
        })?;
        unclaimed(connection, id, &files.collect::<Result<Vec<_>>>()?.concat())?;
    }
    let mut seen = connection.prepare_cached("DELETE FROM seen WHERE maildrop = ?1 AND uid = ?2")?;
    let mut held = connection.prepare_cached("DELETE FROM held WHERE maildrop = ?1 AND uid = ?2")?;
    let mut reached = connection.prepare_cached("DELETE FROM reached WHERE maildrop = ?1 AND uid = ?2")?;
    let mut forgotten = 0;
    for uid in uids {
        let row = params![id, uid.as_bytes()];
        forgotten += usize::from(seen.execute(row)? > 0);
        held.execute(row)?;
        reached.execute(row)?;
    }
    Ok(forgotten)
}

/// Drops all that is known of a maildrop.
fn drop_maildrop(connection: &Connection, id: i64, maildrop: &str) -> Result<usize> {
    for table in ["seen", "held", "reached", "unclaimed", "told"] {
        connection.execute(&format!("DELETE FROM {table} WHERE maildrop = ?1"), [id])?;
    }
    connection.execute("DELETE FROM due WHERE maildrop = ?1", [maildrop])?;
    connection.execute("DELETE FROM maildrop WHERE id = ?1", [id])
}

fn hasten(connection: &Connection, id: i64, names: &[(UniqueId, u32)], at: Timestamp) -> Result<usize> {
    let mut update = connection
        .prepare_cached("UPDATE held SET next_try = ?4 WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3")?;
    names.iter().map(|(uid, ordinal)| update.execute(params![id, uid.as_bytes(), ordinal, at])).sum()
}
