//! The requests that only read rows.

use std::collections::HashMap;

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension, Result, Row, params};

use crate::message::UniqueId;
use crate::message::{Certainty, Content, FileId, Identity};

use super::entries::{Entry, Packed};
use super::memory::open_mark;
use super::{
    Came, Detail, Entries, Held, HeldKind, Holder, Kind, LogInRefused, LogIns, Maildrop, MaildropKey, Memory,
    Naming, PollResult, Reached, RecordedFiles, SeenLine, ServerMemory, Standing, Status, Told, Unclaimed,
};

/// Those of the held messages that a user is shown: that the last listing showed (the others are remembered for whoever
/// has them), and that a user did not want to be left where they are.
pub(super) const SHOWN: &str =
    "AND missed_at IS NULL AND suspected = 0 AND kind NOT IN ('too-large', 'undeletable')";

/// Loads what is known of a maildrop.
pub(super) fn memory(connection: &Connection, key: MaildropKey) -> Result<Memory> {
    let maildrop = key.identity.clone();
    let mut memory = Memory {
        key,
        known: false,
        unclosed: true,
        cut_off: false,
        listed_at: None,
        newest_file: 0,
        naming: Naming::default(),
        entries: Entries::default(),
        held: Vec::new(),
        reached: Vec::new(),
    };
    let mut row = connection.prepare_cached(
        "SELECT id, publisher, listed_at, newest_file, renames, holes, sample FROM maildrop WHERE identity = ?1",
    )?;
    let mut rows = row.query([&*maildrop])?;
    let Some(row) = rows.next()? else { return Ok(memory) };
    let id = row.get(0)?;
    memory.known = true;
    let publisher: Option<i64> = row.get(1)?;
    memory.unclosed = publisher != Some(0);
    memory.cut_off = publisher.is_some_and(|session| session != 0);
    memory.listed_at = row.get(2)?;
    memory.newest_file = octets(row, 3)?;
    memory.naming = Naming { renames: row.get(4)?, holes: row.get(5)?, sample: row.get(6)? };
    memory.entries = entries(connection, id, publisher)?;
    (memory.held, memory.reached) = held(connection, id, "")?;
    memory.reached.sort_by_key(|reached| reached.content);
    // A row without a listing and without a message is what a first session leaves that did not get to the listing.
    memory.unclosed |= memory.listed_at.is_none() && memory.entries.is_empty();
    Ok(memory)
}

/// Loads the row of a maildrop.
pub(super) fn maildrop(connection: &Connection, identity: &str) -> Result<Maildrop> {
    let mut select = connection.prepare_cached("SELECT * FROM maildrop WHERE identity = ?1")?;
    let mut rows = select.query([identity])?;
    rows.next()?.map_or_else(|| Ok(Maildrop::default()), |row| of_row(connection, row))
}

/// Loads the rows of all maildrops, by identity.
pub(super) fn maildrops(connection: &Connection) -> Result<Vec<Maildrop>> {
    let mut select = connection.prepare_cached("SELECT * FROM maildrop ORDER BY identity")?;
    select.query_map([], |row| of_row(connection, row))?.collect()
}

fn of_row(connection: &Connection, row: &Row<'_>) -> Result<Maildrop> {
    let refused = match row.get("refused_at")? {
        Some(at) => Some(LogInRefused {
            at,
            count: row.get("refused_count")?,
            credentials: row.get("refused_credentials")?,
            said: row.get::<_, Option<_>>("refused_said")?.unwrap_or_default(),
            class: row.get::<_, Option<_>>("refused_class")?.unwrap_or_default(),
        }),
        None => None,
    };
    let last = match row.get("poll_at")? {
        Some(at) => Some((at, poll(row)?)),
        None => None,
    };
    Ok(Maildrop {
        identity: row.get("identity")?,
        server: ServerMemory { capabilities: row.get("capabilities")?, learned: row.get("learned")? },
        log_ins: LogIns { ok_at: row.get("login_ok_at")?, mark: row.get("login_mark")?, refused },
        last,
        last_success: row.get("last_success")?,
        failures: row.get("failures")?,
        told: told(connection, row.get("id")?)?,
    })
}

fn poll(row: &Row<'_>) -> Result<PollResult> {
    let count = |column| -> Result<_> { Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned)) };
    Ok(PollResult {
        account: row.get("poll_account")?,
        host: row.get("poll_host")?,
        failure: row.get::<_, Option<String>>("poll_class")?.zip(row.get("poll_failure")?),
        messages: count("poll_messages")?.unwrap_or_default(),
        octets: count("poll_octets")?.unwrap_or_default(),
        listed: count("poll_listed")?,
        backlog: count("poll_backlog")?.unwrap_or_default(),
        target: row.get("poll_target")?,
    })
}

/// Reads what somebody was told of a maildrop.
fn told(connection: &Connection, id: i64) -> Result<Vec<Told>> {
    let mut select = connection.prepare_cached(
        "SELECT what, since, times, lasts, kinds, noticed_at FROM told WHERE maildrop = ?1 ORDER BY what",
    )?;
    let told = select.query_map([id], |row| {
        let kinds: String = row.get(4)?;
        let kind = |line: &str| {
            let (at, kind) = line.split_once(' ')?;
            Some((kind.to_owned(), at.parse().ok()?))
        };
        Ok(Told {
            what: row.get(0)?,
            since: row.get(1)?,
            times: row.get(2)?,
            lasts: row.get(3)?,
            kinds: kinds.lines().filter_map(kind).collect(),
            noticed_at: row.get(5)?,
        })
    })?;
    told.collect()
}

/// Gives what a delivery target has learned of its server.
pub(super) fn target_memory(connection: &Connection, target: &str) -> Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT memory FROM target WHERE name = ?1")?
        .query_row([target], |row| row.get(0))
        .optional()
}

/// Loads what recorded messages are known by. They are looked up one by one, since most polls need few or none.
pub(super) fn details(
    connection: &Connection,
    maildrop: &str,
    entries: &Packed,
    indexes: &[usize],
) -> Result<Vec<Detail>> {
    let Some(id) = find(connection, maildrop)? else { return Ok(vec![Detail::default(); indexes.len()]) };
    let mut select = connection.prepare_cached(
        "SELECT identity, second, content, header, sent, listed, fields, file, place, due_since, tried_at, octets
         FROM seen WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    )?;
    let of = |index: &usize| {
        let (uid, ordinal) = entries.name(*index);
        // A message that another command forgot meanwhile is known by nothing.
        Ok(select.query_row(params![id, uid, ordinal], detail).optional()?.unwrap_or_default())
    };
    indexes.iter().map(of).collect()
}

/// Lists what recorded messages consist of.
pub(super) fn contents(connection: &Connection, maildrop: &str) -> Result<Vec<Content>> {
    let Some(id) = find(connection, maildrop)? else { return Ok(Vec::new()) };
    let mut select =
        connection.prepare_cached("SELECT content FROM seen WHERE maildrop = ?1 AND content IS NOT NULL")?;
    let contents = select.query_map([id], |row| row.get::<_, [u8; 32]>(0).map(Content))?;
    contents.collect()
}

/// Lists the files that recorded messages are.
pub(super) fn files(connection: &Connection, maildrop: &str) -> Result<Vec<FileId>> {
    let Some(id) = find(connection, maildrop)? else { return Ok(Vec::new()) };
    let mut select =
        connection.prepare_cached("SELECT file FROM seen WHERE maildrop = ?1 AND file IS NOT NULL")?;
    let files = select.query_map([id], |row| Ok(FileId::all_from_octets(blob(row, 0)?)))?;
    Ok(files.collect::<Result<Vec<_>>>()?.concat())
}

fn detail(row: &Row<'_>) -> Result<Detail> {
    let header = row.get::<_, Option<[u8; 32]>>(3)?;
    let files = match row.get_ref(7)?.as_blob_or_null()? {
        None => RecordedFiles::ByName,
        Some(octets) => RecordedFiles::Files(FileId::all_from_octets(octets)),
    };
    let mut detail = Detail {
        identities: [identity(row, 0)?, identity(row, 1)?],
        content: row.get::<_, Option<[u8; 32]>>(2)?.map(Content),
        header,
        sent: octets(row, 4)?,
        listed: octets(row, 5)?,
        fields: octets(row, 6)?,
        files,
        place: row.get(8)?,
        due_since: row.get(9)?,
        tried_at: row.get(10)?,
    };
    if header.is_some() {
        // Version 0.1.0 recorded the size by the listing alone.
        detail.listed = octets(row, 11)?;
    }
    Ok(detail)
}

/// An identity is a letter and the digest.
fn identity(row: &Row<'_>, column: usize) -> Result<Option<Identity>> {
    let octets = row.get_ref(column)?.as_blob_or_null()?;
    let Some((letter, digest)) = octets.and_then(<[u8]>::split_first) else { return Ok(None) };
    let certainty = if *letter == CERTAIN { Certainty::Certain } else { Certainty::Weak };
    Ok(digest.try_into().ok().map(|digest| Identity { digest, certainty }))
}

/// The letter before a digest that proves something.
pub(super) const CERTAIN: u8 = b'C';

/// Finds the row of a maildrop.
pub(super) fn find(connection: &Connection, maildrop: &str) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM maildrop WHERE identity = ?1")?
        .query_row([maildrop], |row| row.get(0))
        .optional()
}

/// Lists the files in a maildir that no record claimed when the state was new, or when a session had not ended.
pub(super) fn unclaimed(connection: &Connection, maildrop: &str) -> Result<Vec<Unclaimed>> {
    let Some(id) = find(connection, maildrop)? else { return Ok(Vec::new()) };
    let mut select = connection.prepare_cached("SELECT file FROM unclaimed WHERE maildrop = ?1")?;
    let files = select.query_map([id], |row| Ok(Unclaimed::from_octets(blob(row, 0)?)))?;
    files.filter_map(Result::transpose).collect()
}

/// Lists the recorded unique-ids of a maildrop.
pub(super) fn seen(connection: &Connection, maildrop: &str) -> Result<Vec<SeenLine>> {
    let Some(id) = find(connection, maildrop)? else { return Ok(Vec::new()) };
    let mut select = connection.prepare_cached(
        "SELECT uid, ordinal, octets, first_seen, delivered_at, last_listed,
             kind
         FROM seen WHERE maildrop = ?1 AND kind != 2 ORDER BY uid, ordinal",
    )?;
    let lines = select.query_map([id], |row| {
        Ok(SeenLine {
            uid: UniqueId::new(blob(row, 0)?),
            ordinal: row.get(1)?,
            octets: octets(row, 2)?,
            first_seen: row.get(3)?,
            delivered_at: row.get(4)?,
            last_listed: row.get(5)?,
            kind: Kind::from_number(row.get(6)?),
        })
    })?;
    lines.collect()
}

/// Counts the recorded messages of each maildrop.
pub(super) fn counts(connection: &Connection) -> Result<HashMap<i64, u64>> {
    connection
        .prepare_cached("SELECT maildrop, count(*) FROM seen WHERE kind != 2 GROUP BY maildrop")?
        .query_map([], |row| Ok((row.get(0)?, octets(row, 1)?)))?
        .collect()
}

/// Lists all maildrops with what is recorded, by these counts, and held of them, by identity.
pub(super) fn status(connection: &Connection, mut counts: HashMap<i64, u64>) -> Result<Vec<Status>> {
    let mut status = |maildrop: Maildrop| {
        let id = find(connection, &maildrop.identity)?.unwrap_or_default();
        let (held, _) = held(connection, id, SHOWN)?;
        Ok(Status { maildrop, seen: counts.remove(&id).unwrap_or(0), held })
    };
    maildrops(connection)?.into_iter().map(&mut status).collect()
}

fn entries(connection: &Connection, id: i64, publisher: Option<i64>) -> Result<Entries> {
    let open = publisher.filter(|session| *session != 0).map(open_mark);
    let mut packed = Packed::default();
    // The order of the primary key: SQLite sorts nothing, and `push` finds a damaged table by it.
    let mut select = connection.prepare_cached(
        "SELECT uid, ordinal, octets, delivered_at, last_listed, delete_tries, deleted_at, deleting, kind, place,
             coalesce(identity, second, header) IS NULL
         FROM seen WHERE maildrop = ?1 ORDER BY uid, ordinal",
    )?;
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        let entry = Entry {
            index: 0,
            octets: octets(row, 2)?,
            delivered_at: row.get(3)?,
            last_listed: row.get(4)?,
            delete_tries: row.get(5)?,
            deleted: row.get_ref(6)? != ValueRef::Null,
            deleting: match row.get(7)? {
                0 => false,
                1 => true,
                mark => Some(mark) == open,
            },
            kind: Kind::from_number(row.get(8)?),
            placed: row.get_ref(9)? != ValueRef::Null,
            blank: row.get(10)?,
        };
        packed
            .push(blob(row, 0)?, row.get(1)?, entry)
            .map_err(|unordered| Error::FromSqlConversionFailure(0, Type::Blob, unordered.into()))?;
    }
    packed.shrink();
    Ok(packed.into())
}

/// Reads the messages that are held in a maildrop, all or those of a condition, and who has those that somebody has.
fn held(connection: &Connection, id: i64, condition: &str) -> Result<(Vec<Held>, Vec<Reached>)> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT uid, ordinal, octets, reason, since, tries, next_try, kind, suspected, tried_at,
             came, came_times, came_since, content, identity
         FROM held WHERE maildrop = ?1 {condition} ORDER BY uid, ordinal"
    ))?;
    let (mut all, mut reached) = (Vec::new(), Vec::new());
    let mut holders = holders(connection, id)?;
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        let held = Held {
            uid: UniqueId::new(blob(row, 0)?),
            ordinal: row.get(1)?,
            octets: octets(row, 2)?,
            reason: row.get(3)?,
            since: row.get(4)?,
            tries: row.get(5)?,
            next_try: row.get(6)?,
            // A newer version's, if it is not known here: as one that says nothing special.
            kind: HeldKind::named(&row.get::<_, String>(7)?).unwrap_or(HeldKind::Refused),
            standing: if row.get(8)? { Standing::Suspected } else { Standing::Held },
            tried_at: row.get(9)?,
            came: match row.get(10)? {
                Some(digest) => Some(Came { digest, times: row.get(11)?, since: row.get(12)? }),
                None => None,
            },
        };
        if let Some(targets) = holders.remove(&(held.uid.clone(), held.ordinal)) {
            reached.push(Reached {
                uid: held.uid.clone(),
                ordinal: held.ordinal,
                octets: held.octets,
                reason: held.reason.clone(),
                targets,
                content: row.get::<_, Option<[u8; 32]>>(13)?.map(Content),
                identity: identity(row, 14)?,
            });
        }
        all.push(held);
    }
    Ok((all, reached))
}

/// Reads who has messages that others have not.
fn holders(connection: &Connection, id: i64) -> Result<HashMap<(UniqueId, u32), Vec<Holder>>> {
    let mut select = connection.prepare_cached(
        "SELECT uid, ordinal, target, recipients, file FROM reached WHERE maildrop = ?1 ORDER BY target",
    )?;
    let mut holders: HashMap<_, Vec<_>> = HashMap::new();
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        let holder = Holder {
            target: row.get(2)?,
            recipients: row
                .get::<_, Option<String>>(3)?
                .map(|recipients| recipients.lines().map(str::to_owned).collect()),
            file: row.get_ref(4)?.as_blob_or_null()?.and_then(FileId::from_octets),
        };
        holders.entry((UniqueId::new(blob(row, 0)?), row.get(1)?)).or_default().push(holder);
    }
    Ok(holders)
}

fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8]> {
    row.get_ref(column)?
        .as_blob()
        .map_err(|other| Error::FromSqlConversionFailure(column, Type::Blob, other.into()))
}

/// The inverse of how octets are written: the upper half of `u64` is negative in the table.
fn octets(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}
