//! What whoever looks at the accounts is told besides their maildrops: when they are polled next, and what the last day
//! brought.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::params;

use super::fleet::{Fleet, GONE, Host, LEFT, NextPoll, Standings, Tally, Worker};
use super::reading::{Of, SHOWN, counts, find, status};
use super::recording::to_column;
use super::tables::{Result, Row, Tables};
use super::{Hour, Overview, PollResult, Timestamp};

/// Hours of which the counts are kept: a day, and the hour that has begun.
pub const HOURS: Timestamp = 25;

/// Maildrops of a fleet that are looked at one by one; of more, those alone that want a look most, however many there are.
pub const MANY: u64 = 1000;

/// So many of them.
const WORST: usize = 200;

/// Hosts that are told one by one; the others are in the sum alone.
const HOSTS: usize = 20;

/// Whether the recorded messages are counted, which takes reading all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Counted,
    /// They are told as none.
    Uncounted,
}

/// Which maildrops are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All; of more than a thousand of a fleet the two hundred that want a look most.
    All,
    /// Those of these identities.
    These(Vec<String>),
}

/// When maildrops are polled next; `None`: when somebody asks for it.
pub type Due = Vec<(Arc<str>, Option<Timestamp>)>;

/// Notes when maildrops are polled next. What is asked for stays: its time stands below zero until it is looked for.
pub(super) fn schedule(tables: Tables<'_>, due: &Due) -> Result<()> {
    let mut set = tables.prepare(
        "INSERT INTO due (maildrop, at) VALUES (?1, ?2) ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at
         WHERE due.at >= 0",
    );
    let mut unset = tables.prepare("DELETE FROM due WHERE maildrop = ?1 AND at >= 0");
    due.iter().try_for_each(|(maildrop, at)| match at {
        Some(at) => set.execute(params![maildrop, at]),
        None => unset.execute(params![maildrop]),
    })
}

/// Notes what is asked for, and when; then that it was looked for.
pub(super) fn ask_for(tables: Tables<'_>, maildrops: &[Arc<str>], at: Timestamp) -> Result<()> {
    let mut set = tables.prepare(
        "INSERT INTO due (maildrop, at) VALUES (?1, ?2) ON CONFLICT (maildrop) DO UPDATE SET at = excluded.at",
    );
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

/// Gives what a poll brought, as it is counted. One that brought nothing costs nothing.
pub(super) fn brought(at: Timestamp, poll: &PollResult) -> Option<Hour> {
    let failed = poll.failure.is_some() && !poll.was_stopped();
    let &PollResult { messages, octets, .. } = poll;
    let hour = Hour { hour: at.div_euclid(3600), messages, octets, failures: failed.into() };
    (failed || messages > 0).then_some(hour)
}

/// Counts it in the file. In a database the row of an hour is all workers': see [`counting`].
pub(super) fn count(tables: Tables<'_>, at: Timestamp, poll: &PollResult) -> Result<()> {
    let (Tables::Sqlite(_), Some(hour)) = (tables, brought(at, poll)) else { return Ok(()) };
    tables.execute("DELETE FROM hour WHERE hour <= ?1", params![hour.hour - HOURS])?;
    tables.execute(
        &format!("INSERT INTO hour (hour, messages, octets, failures) VALUES (?1, ?2, ?3, ?4) {ADDED}"),
        params![hour.hour, to_column(hour.messages), to_column(hour.octets), to_column(hour.failures)],
    )
}

const ADDED: &str = "ON CONFLICT (hour) DO UPDATE SET messages = hour.messages + excluded.messages,
     octets = hour.octets + excluded.octets, failures = hour.failures + excluded.failures";

/// Gives statements that count what polls brought, to be sent as one: the server carries them out without another word, so
/// that whoever is stopped in the middle keeps the row from nobody. A power cut may take them back.
pub(super) fn counting(brought: impl Iterator<Item = Hour>) -> Option<String> {
    let mut hours: BTreeMap<Timestamp, Hour> = BTreeMap::new();
    for Hour { hour, messages, octets, failures } in brought {
        let all = hours.entry(hour).or_insert(Hour { hour, ..Hour::default() });
        (all.messages, all.octets) = (all.messages + messages, all.octets + octets);
        all.failures += failures;
    }
    let last = hours.keys().last()? - HOURS;
    let row = |of: &Hour| format!("({}, {}, {}, {})", of.hour, of.messages, of.octets, of.failures);
    let rows: Vec<_> = hours.values().map(row).collect();
    Some(format!(
        "SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = 1000; DELETE FROM hour WHERE hour <= {last};
         INSERT INTO hour (hour, messages, octets, failures) VALUES {} {ADDED}",
        rows.join(", ")
    ))
}

/// Gives the hours that have counts, the oldest first.
fn hours(tables: Tables<'_>) -> Result<Vec<Hour>> {
    tables.rows("SELECT hour, messages, octets, failures FROM hour ORDER BY hour", &[], |row| {
        let (messages, octets, failures) = (row.octets(1)?, row.octets(2)?, row.octets(3)?);
        Ok(Hour { hour: row.get(0)?, messages, octets, failures })
    })
}

/// Reads what there is to be seen.
pub(super) fn overview(tables: Tables<'_>, which: &Which, seen: Seen) -> Result<Overview> {
    let fleet = fleet(tables)?;
    let in_all = fleet.as_ref().map(|fleet| fleet.all.maildrops).filter(|count| *count > MANY);
    let of = match which {
        Which::All if in_all.is_some() => Of::Some(worst(tables)?),
        Which::All => Of::All,
        Which::These(identities) => {
            let found =
                identities.iter().map(|identity| find(tables, identity)).collect::<Result<Vec<_>>>()?;
            Of::Some(found.into_iter().flatten().collect())
        }
    };
    let counts = match seen {
        Seen::Counted => counts(tables, &of)?,
        Seen::Uncounted => HashMap::new(),
    };
    Ok(Overview {
        maildrops: status(tables, &of, counts)?,
        due: due(tables)?,
        hours: hours(tables)?,
        next_polls: next_polls(tables, &of)?,
        fleet,
        in_all: in_all.filter(|_| *which == Which::All),
    })
}

/// Gives what is counted of leases, those aside that are of no account. What nobody may have the key of waits for no worker.
fn counted() -> String {
    format!(
        "count(*), count(*) FILTER (WHERE token <> 0),
         count(*) FILTER (WHERE token = 0 AND due <= now() AND owner <> {LEFT}), count(*) FILTER (WHERE failures > 0)"
    )
}

/// Reads how they stand; in a file there are none.
fn fleet(tables: Tables<'_>) -> Result<Option<Fleet>> {
    let Tables::Postgres(_) = tables else { return Ok(None) };
    let workers = tables
        .prepare(
            "SELECT name, version, greatest(extract(epoch FROM now() - beat), 0)::bigint, draining, evicted, claims,
             (SELECT count(*) FROM lease WHERE owner = worker.id AND token <> 0) FROM worker ORDER BY name, id",
        )
        .ask(&[], worker)?;
    let counted = counted();
    let hosts = format!(
        "SELECT {counted}, host FROM lease WHERE owner <> {GONE} GROUP BY host ORDER BY 3 DESC, 4 DESC, 1 DESC, host LIMIT {HOSTS}"
    );
    let hosts = tables.prepare(&hosts).ask(&[], |row| Ok(Host { host: row.get(4)?, tally: tally(row)? }))?;
    let waiting = format!("min(due) FILTER (WHERE token = 0 AND owner <> {LEFT})");
    let lag = format!("greatest(coalesce(extract(epoch FROM now() - {waiting}), 0), 0)::bigint");
    let all = format!("SELECT {counted}, {lag} FROM lease WHERE owner <> {GONE}");
    let all = tables.prepare(&all).ask(&[], |row| Ok((tally(row)?, row.octets(4)?)))?;
    let held = format!("SELECT 1 FROM held WHERE held.maildrop = maildrop.id {SHOWN}");
    let standings = format!(
        "SELECT count(poll_at), count(poll_class), count(*) FILTER (WHERE poll_class IS NULL AND EXISTS ({held})),
         (SELECT count(*) FROM held JOIN lease ON lease.maildrop = held.maildrop AND owner <> {GONE} WHERE 1 = 1 {SHOWN})
         FROM maildrop JOIN lease ON lease.maildrop = maildrop.id AND owner <> {GONE}"
    );
    let standings = tables.prepare(&standings).ask(&[], |row| {
        let (polled, failing) = (row.octets(0)?, row.octets(1)?);
        Ok(Standings { polled, failing, holding: row.octets(2)?, held: row.octets(3)? })
    })?;
    let (workers, hosts) = (workers.rows()?, hosts.rows()?);
    let (all, lag_seconds) = all.rows()?.pop().unwrap_or_default();
    let accounts = standings.rows()?.pop().unwrap_or_default();
    Ok(Some(Fleet { workers, lag_seconds, all, hosts, accounts }))
}

/// Reads when maildrops are polled next, by identity: what is of no account, when somebody asks.
fn next_polls(tables: Tables<'_>, of: &Of) -> Result<HashMap<String, NextPoll>> {
    let Tables::Postgres(_) = tables else { return Ok(HashMap::new()) };
    let (condition, id) = of.condition("lease.maildrop");
    let sql = format!(
        "SELECT identity, token <> 0, extract(epoch FROM due)::bigint,
         due < now() + interval '10 years' AND (owner <> {GONE} OR token <> 0), worker.name
         FROM lease JOIN maildrop ON maildrop.id = lease.maildrop
         LEFT JOIN worker ON worker.id = lease.owner AND NOT worker.evicted WHERE {condition}"
    );
    let found = tables.rows(&sql, &[&id], |row| {
        let due = if row.get(3)? { Some(row.get(2)?) } else { None };
        Ok((row.get(0)?, NextPoll { worker: row.get(4)?, is_polled: row.get(1)?, due }))
    })?;
    Ok(found.into_iter().collect())
}

/// Gives the numbers of the maildrops that want a look most: those that fail, the longest first, then those with messages
/// held.
fn worst(tables: Tables<'_>) -> Result<Vec<i64>> {
    let sql = format!(
        "SELECT id FROM maildrop JOIN lease ON lease.maildrop = maildrop.id AND owner <> {GONE}
         WHERE poll_class IS NOT NULL OR EXISTS (SELECT 1 FROM held WHERE held.maildrop = maildrop.id {SHOWN})
         ORDER BY poll_class IS NULL, maildrop.failures DESC, id LIMIT {WORST}"
    );
    tables.rows(&sql, &[], |row| row.get(0))
}

fn worker(row: &Row<'_>) -> Result<Worker> {
    Ok(Worker {
        name: row.get(0)?,
        version: row.get(1)?,
        heard_seconds: row.octets(2)?,
        draining: row.get(3)?,
        evicted: row.get(4)?,
        claims: row.octets(5)?,
        polling: row.octets(6)?,
    })
}

fn tally(row: &Row<'_>) -> Result<Tally> {
    let (maildrops, polling) = (row.octets(0)?, row.octets(1)?);
    Ok(Tally { maildrops, polling, waiting: row.octets(2)?, failing: row.octets(3)? })
}
