//! The requests that change rows, each as statements inside the transaction of its group.

use std::sync::Arc;

use rusqlite::params;

use crate::message::FileId;
use crate::message::UniqueId;
use crate::message::file::digest_of_name;

use super::closing::{close, doubt_open, login, tell};
use super::entries::Packed;
use super::memory::open_mark;
use super::outlook::{Due, ask_for, brought, schedule};
use super::reading::{self, find};
use super::recording::{forget_messages, reached, record, unclaimed};
use super::spending::Spending;
use super::tables::{Fault, Result, Tables};
use super::{Closing, Delivery, Hour, LogIn, Reached, Subject, Timestamp, Told, Unclaimed, postgres};

/// Octets that a batch of records takes at most.
const PROBE: usize = 128 << 10;

/// A request that changes rows.
pub(super) enum Write {
    /// See [`super::Store::publishing`].
    Publishing { maildrop: Arc<str>, session: i64, unclaimed: Vec<Unclaimed> },
    /// See [`super::Store::forget_messages`].
    ForgetMessages { maildrop: Arc<str>, session: i64 },
    /// See [`super::Store::record`].
    Record { maildrop: Arc<str>, session: i64, at: Timestamp, deliveries: Vec<Delivery> },
    /// See [`super::Store::reached`].
    Reached { maildrop: Arc<str>, session: i64, at: Timestamp, reached: Vec<Reached> },
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
    LoggedIn { maildrop: Arc<str>, session: Option<i64>, at: Timestamp, outcome: LogIn },
    /// See [`super::Store::tell`].
    Tell { maildrop: Arc<str>, told: Vec<(Subject, Option<Told>)> },
    /// See [`super::Store::schedule`].
    Schedule(Due),
    /// See [`super::Store::ask_for`].
    AskFor { maildrops: Vec<Arc<str>>, at: Timestamp },
    /// See [`super::Store::drop_maildrop`].
    Drop { maildrop: Arc<str> },
    /// See [`super::Store::release`].
    Release { maildrop: Arc<str>, token: i64 },
    /// See [`super::Store::leave`].
    Leave { worker: i64 },
    /// See [`super::Store::has_room`].
    Probe,
}

impl Write {
    /// Gives the maildrop that it is about, if it is about one.
    pub(super) fn maildrop(&self) -> Option<&Arc<str>> {
        match self {
            Self::Publishing { maildrop, .. }
            | Self::ForgetMessages { maildrop, .. }
            | Self::Record { maildrop, .. }
            | Self::Reached { maildrop, .. }
            | Self::Close { maildrop, .. }
            | Self::Forget { maildrop, .. }
            | Self::Hasten { maildrop, .. }
            | Self::LoggedIn { maildrop, .. }
            | Self::Tell { maildrop, .. }
            | Self::Release { maildrop, .. }
            | Self::Drop { maildrop } => Some(maildrop),
            Self::Remember { .. }
            | Self::Spend(_)
            | Self::Schedule(_)
            | Self::AskFor { .. }
            | Self::Leave { .. }
            | Self::Probe => None,
        }
    }

    /// Says whether it may be lost by a power cut, so that no fsync is due to it.
    pub(super) fn may_be_lost(&self) -> bool {
        matches!(
            self,
            Self::Schedule(_) | Self::AskFor { at: 0.., .. } | Self::Release { .. } | Self::Leave { .. }
        )
    }

    /// Says whether it costs no more than a poll if the database loses it: what comes after is lost with it, and nothing before.
    pub(super) fn costs_a_poll(&self) -> bool {
        matches!(self, Self::Close { closing, .. } if closing.is_idle())
    }

    /// Gives what is counted of the poll that it ends.
    pub(super) fn brought(&self) -> Option<Hour> {
        match self {
            Self::Close { closing, .. } => brought(closing.at, closing.poll.as_ref()?),
            _ => None,
        }
    }

    /// Executes the statements; gives the count that [`super::Store::forget`] and [`super::Store::hasten`] answer.
    pub(super) fn apply(&self, tables: Tables<'_>) -> Result<usize> {
        match self {
            Self::Publishing { maildrop, session, unclaimed: files } => {
                let id = fenced(tables, maildrop, *session)?;
                doubt_open(tables, id, *session)?;
                tables.execute("UPDATE maildrop SET publisher = ?2 WHERE id = ?1", params![id, session])?;
                unclaimed(tables, id, files).map(|()| 0)
            }
            Self::ForgetMessages { maildrop, session } => {
                let id = fenced(tables, maildrop, *session)?;
                forget_messages(tables, id).map(|()| 0)
            }
            Self::Record { maildrop, session, at, deliveries } => {
                let id = fenced(tables, maildrop, *session)?;
                record(tables, id, (*at, open_mark(*session)), deliveries).map(|()| 0)
            }
            Self::Reached { maildrop, session, at, reached: messages } => {
                let id = fenced(tables, maildrop, *session)?;
                reached(tables, id, *at, messages).map(|()| 0)
            }
            Self::Close { maildrop, session, entries, closing } => {
                let id = fenced(tables, maildrop, *session)?;
                close(tables, id, *session, entries, closing).map(|()| 0)
            }
            Self::Forget { maildrop, uids } => match find(tables, maildrop)? {
                Some(id) => forget(tables, id, maildrop, uids),
                None => Ok(0),
            },
            Self::Hasten { maildrop, names, at } => match find(tables, maildrop)? {
                Some(id) => hasten(tables, id, names, *at),
                None => Ok(0),
            },
            Self::Remember { target, memory } => remember(tables, target, memory).map(|()| 0),
            Self::Spend(spending) => spend(tables, spending),
            Self::LoggedIn { maildrop, session, at, outcome } => {
                let id = match session {
                    Some(session) => fenced(tables, maildrop, *session)?,
                    None => existing_or_new(tables, maildrop)?,
                };
                login(tables, id, *at, outcome).map(|()| 0)
            }
            Self::Tell { maildrop, told } => {
                let id = existing_or_new(tables, maildrop)?;
                tell(tables, id, told).map(|()| 0)
            }
            Self::Schedule(due) => schedule(tables, due).map(|()| 0),
            Self::AskFor { maildrops, at } => ask_for(tables, maildrops, *at).map(|()| 0),
            Self::Drop { maildrop } => match find(tables, maildrop)? {
                Some(id) => drop_maildrop(tables, id, maildrop),
                None => Ok(0),
            },
            Self::Release { maildrop, token } => release(tables, maildrop, *token),
            Self::Leave { worker } => leave(tables, *worker),
            Self::Probe => probe(tables).map(|()| 0),
        }
    }
}

fn release(tables: Tables<'_>, maildrop: &str, token: i64) -> Result<usize> {
    let sql = "UPDATE lease SET token = 0, owner = 0 FROM maildrop
         WHERE maildrop.identity = ?1 AND lease.maildrop = maildrop.id AND lease.token = ?2";
    tables.count(sql, params![maildrop, token])
}

fn leave(tables: Tables<'_>, worker: i64) -> Result<usize> {
    tables.execute("DELETE FROM worker WHERE id = ?1", params![worker])?;
    tables.count("UPDATE lease SET token = 0, owner = 0 WHERE owner = ?1", params![worker])
}

/// Writes more than a batch of records takes, and removes it again.
fn probe(tables: Tables<'_>) -> Result<()> {
    // No target has this name; and what is all the same would be compressed.
    let (name, mut octets) = ("\u{1}probe", vec![0; PROBE]);
    getrandom::fill(&mut octets).map_err(|error| Fault::Damaged(error.to_string()))?;
    remember(tables, name, &octets)?;
    tables.execute("DELETE FROM target WHERE name = ?1", params![name])
}

fn remember(tables: Tables<'_>, target: &str, memory: &[u8]) -> Result<()> {
    let sql = "INSERT INTO target (name, memory) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET memory = excluded.memory";
    tables.execute(sql, params![target, memory])
}

/// Grants octets of a day's budget, and counts them as used.
fn spend(tables: Tables<'_>, spending: &Spending) -> Result<usize> {
    let Spending { name, day, most, octets, unspent } = spending;
    let kept = reading::target_memory(tables, name)?.unwrap_or_default();
    let used = Spending::used(&kept, *day).saturating_sub(*unspent);
    let granted = most.saturating_sub(used).min(*octets);
    if granted > 0 || *unspent > 0 {
        let memory = format!("{day} {}", used + granted).into_bytes();
        remember(tables, name, &memory)?;
    }
    Ok(usize::try_from(granted).unwrap_or(usize::MAX))
}

/// Finds the row of a maildrop or makes it. It is made with the first thing that is worth a commit, not when a session
/// begins: no row and an empty one mean the same.
fn existing_or_new(tables: Tables<'_>, maildrop: &str) -> Result<i64> {
    if let Some(id) = find(tables, maildrop)? {
        return Ok(id);
    }
    // Where another makes it at the same time, that is waited for.
    tables
        .execute("INSERT INTO maildrop (identity) VALUES (?1) ON CONFLICT DO NOTHING", params![maildrop])?;
    find(tables, maildrop)?.ok_or_else(|| Fault::Damaged("a row that was just made is not there".to_owned()))
}

/// Gives the row of a maildrop to a session that has the lease on it. In a database that is the row of the lease, which
/// the session's token opens, and which nobody else can change until the transaction has ended; beside a file the kernel
/// keeps it.
fn fenced(tables: Tables<'_>, maildrop: &str, session: i64) -> Result<i64> {
    if let Tables::Sqlite(_) = tables {
        return existing_or_new(tables, maildrop);
    }
    let sql = "UPDATE lease SET version = lease.version + 1 FROM maildrop
         WHERE maildrop.identity = ?1 AND lease.maildrop = maildrop.id AND lease.token = ?2 RETURNING lease.maildrop";
    let own = tables.first(sql, params![maildrop, session], |row| row.get(0))?;
    own.ok_or(Fault::Postgres(postgres::Fault::LeaseLost))
}

fn forget(tables: Tables<'_>, id: i64, maildrop: &str, uids: &[UniqueId]) -> Result<usize> {
    // A file that is still there is the message: it is fetched again, and found.
    let mut select = tables.prepare(
        "SELECT ordinal, file, 1 FROM seen WHERE maildrop = ?1 AND uid = ?2
         UNION ALL SELECT ordinal, file, 0 FROM reached WHERE maildrop = ?1 AND uid = ?2",
    );
    for uid in uids {
        let files = select.rows(params![id, uid.as_bytes()], |row| {
            let (file, is_recorded): (Option<Vec<u8>>, bool) = (row.get(1)?, row.get(2)?);
            Ok(match file {
                None if is_recorded => {
                    vec![Unclaimed::Digest(digest_of_name(maildrop, uid.as_bytes(), row.get(0)?))]
                }
                file => {
                    let files = FileId::all_from_octets(&file.unwrap_or_default());
                    files.into_iter().map(Unclaimed::File).collect()
                }
            })
        })?;
        unclaimed(tables, id, &files.concat())?;
    }
    let mut seen = tables.prepare("DELETE FROM seen WHERE maildrop = ?1 AND uid = ?2");
    let mut held = tables.prepare("DELETE FROM held WHERE maildrop = ?1 AND uid = ?2");
    let mut reached = tables.prepare("DELETE FROM reached WHERE maildrop = ?1 AND uid = ?2");
    let mut forgotten = 0;
    for uid in uids {
        let row = params![id, uid.as_bytes()];
        forgotten += usize::from(seen.count(row)? > 0);
        held.execute(row)?;
        reached.execute(row)?;
    }
    Ok(forgotten)
}

/// Drops all that is known of a maildrop.
fn drop_maildrop(tables: Tables<'_>, id: i64, maildrop: &str) -> Result<usize> {
    for table in ["seen", "held", "reached", "unclaimed", "told"] {
        tables.execute(&format!("DELETE FROM {table} WHERE maildrop = ?1"), params![id])?;
    }
    tables.execute("DELETE FROM due WHERE maildrop = ?1", params![maildrop])?;
    if let Tables::Postgres(_) = tables {
        tables.execute("DELETE FROM lease WHERE maildrop = ?1", params![id])?;
    }
    tables.count("DELETE FROM maildrop WHERE id = ?1", params![id])
}

fn hasten(tables: Tables<'_>, id: i64, names: &[(UniqueId, u32)], at: Timestamp) -> Result<usize> {
    let mut update =
        tables.prepare("UPDATE held SET next_try = ?4 WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3");
    let counts = names.iter().map(|(uid, ordinal)| update.count(params![id, uid.as_bytes(), ordinal, at]));
    counts.sum()
}
