//! The requests that only read rows.

use std::collections::HashMap;

use rusqlite::params;
use rusqlite::types::ValueRef;

use crate::failure::Class;
use crate::message::{Certainty, Content, FileId, Identity, UniqueId};

use super::entries::{Entry, Packed};
use super::memory::open_mark;
use super::tables::{Asked, Fault, Result, Row, Tables};
use super::{
    Came, Detail, Entries, Held, HeldKind, Holder, Kind, Left, LogInRefused, LogIns, Maildrop, MaildropKey,
    Memory, Naming, PollResult, Reached, RecordedFiles, SeenLine, Standing, Status, Subject, Told, Unclaimed,
};

/// Those of the held messages that a user is shown: that the last listing showed (the others are remembered for whoever
/// has them), and that a user did not want to be left where they are.
pub(super) const SHOWN: &str =
    "AND missed_at IS NULL AND suspected = 0 AND kind NOT IN ('too-large', 'undeletable')";

/// Loads what is known of a maildrop.
pub(super) fn memory(tables: Tables<'_>, key: MaildropKey) -> Result<Memory> {
    let maildrop = key.identity.clone();
    let mut memory = Memory {
        key,
        left: Left::Unknown,
        listed_at: None,
        newest_file: 0,
        naming: Naming::default(),
        entries: Entries::default(),
        held: Vec::new(),
        reached: Vec::new(),
    };
    let sql = "SELECT id, publisher, listed_at, newest_file, renames, holes, sample FROM maildrop WHERE identity = ?1";
    let row = tables.first(sql, params![maildrop], |row| {
        memory.listed_at = row.get(2)?;
        memory.newest_file = row.octets(3)?;
        memory.naming = Naming { renames: row.get(4)?, holes: row.get(5)?, sample: row.get(6)? };
        Ok((row.get(0)?, row.get::<Option<i64>>(1)?))
    })?;
    let Some((id, publisher)) = row else { return Ok(memory) };
    // Asked for before the entries are waited for.
    let (held, holders) = (held(tables, &Of::One(id), "")?, holders(tables, id)?);
    memory.entries = entries(tables, id, publisher)?;
    (memory.held, memory.reached) = with_holders(held, holders)?;
    memory.reached.sort_by_key(|reached| reached.content);
    memory.left = match publisher {
        // A row without a listing and without a message is what a first session leaves that did not get to the listing.
        Some(0) if memory.listed_at.is_none() && memory.entries.is_empty() => Left::Unpublished,
        Some(0) => Left::Closed,
        Some(_) => Left::CutOff,
        None => Left::Unpublished,
    };
    Ok(memory)
}

/// Loads the row of a maildrop.
pub(super) fn maildrop(tables: Tables<'_>, identity: &str) -> Result<Maildrop> {
    let sql = "SELECT * FROM maildrop WHERE identity = ?1";
    let Some((id, mut maildrop)) = tables.first(sql, params![identity], of_row)? else {
        return Ok(Maildrop::default());
    };
    maildrop.told = told(tables, &Of::One(id))?.remove(&id).unwrap_or_default();
    Ok(maildrop)
}

/// Loads the rows of all maildrops, by identity.
pub(super) fn maildrops(tables: Tables<'_>) -> Result<Vec<Maildrop>> {
    Ok(rows_of(tables, &Of::All)?.into_iter().map(|(_, maildrop)| maildrop).collect())
}

/// Loads them with their numbers.
fn rows_of(tables: Tables<'_>, of: &Of) -> Result<Vec<(i64, Maildrop)>> {
    let (condition, id) = of.condition("id");
    let mut all = tables.rows(&format!("SELECT * FROM maildrop WHERE {condition}"), &[&id], of_row)?;
    let mut told = told(tables, of)?;
    for (id, maildrop) in &mut all {
        maildrop.told = told.remove(id).unwrap_or_default();
    }
    // Here, since a database may have an alphabet of its own.
    all.sort_by(|(_, one), (_, other)| one.identity.cmp(&other.identity));
    Ok(all)
}

/// Whose rows are read.
#[derive(Debug, Clone)]
pub(super) enum Of {
    One(i64),
    Some(Vec<i64>),
    All,
}

impl Of {
    /// Gives the condition on the column with the number of the maildrop, and its parameter.
    pub(super) fn condition(&self, column: &str) -> (String, i64) {
        match self {
            Self::One(id) => (format!("{column} = ?1"), *id),
            Self::Some(ids) if ids.is_empty() => ("?1 <> 0".to_owned(), 0),
            Self::Some(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                (format!("{column} IN ({}) AND ?1 = 0", ids.join(", ")), 0)
            }
            Self::All => ("?1 = 0".to_owned(), 0),
        }
    }
}

fn of_row(row: &Row<'_>) -> Result<(i64, Maildrop)> {
    let refused = match row.get("refused_at")? {
        Some(at) => Some(LogInRefused {
            at,
            count: row.get("refused_count")?,
            credentials: row.get("refused_credentials")?,
            said: row.get::<Option<_>>("refused_said")?.unwrap_or_default(),
            class: row.get::<Option<String>>("refused_class")?.and_then(|name| Class::named(&name)),
        }),
        None => None,
    };
    let last = match row.get("poll_at")? {
        Some(at) => Some((at, poll(row)?)),
        None => None,
    };
    let maildrop = Maildrop {
        identity: row.get("identity")?,
        learned: row.get("learned")?,
        log_ins: LogIns { ok_at: row.get("login_ok_at")?, mark: row.get("login_mark")?, refused },
        last,
        last_success: row.get("last_success")?,
        failures: row.get("failures")?,
        told: Vec::new(),
    };
    Ok((row.get("id")?, maildrop))
}

fn poll(row: &Row<'_>) -> Result<PollResult> {
    let count = |column| -> Result<_> { Ok(row.get::<Option<i64>>(column)?.map(i64::cast_unsigned)) };
    Ok(PollResult {
        account: row.get("poll_account")?,
        host: row.get("poll_host")?,
        failure: row.get::<Option<String>>("poll_class")?.zip(row.get("poll_failure")?),
        messages: count("poll_messages")?.unwrap_or_default(),
        octets: count("poll_octets")?.unwrap_or_default(),
        listed: count("poll_listed")?,
        backlog: count("poll_backlog")?.unwrap_or_default(),
        target: row.get("poll_target")?,
    })
}

/// Reads what somebody was told of maildrops, by their numbers.
fn told(tables: Tables<'_>, of: &Of) -> Result<HashMap<i64, Vec<Told>>> {
    let (condition, id) = of.condition("maildrop");
    let sql = format!(
        "SELECT what, since, times, lasts, kinds, noticed_at, maildrop FROM told WHERE {condition} ORDER BY what"
    );
    let told = tables.rows(&sql, params![id], |row| {
        let kinds: String = row.get(4)?;
        let kind = |line: &str| {
            let (at, kind) = line.split_once(' ')?;
            Some((kind.to_owned(), at.parse().ok()?))
        };
        let Some(what) = Subject::named(&row.get::<String>(0)?) else { return Ok(None) };
        let told = Told {
            what,
            since: row.get(1)?,
            times: row.get(2)?,
            lasts: row.get(3)?,
            kinds: kinds.lines().filter_map(kind).collect(),
            noticed_at: row.get(5)?,
        };
        Ok(Some((row.get(6)?, told)))
    })?;
    let mut by_maildrop: HashMap<i64, Vec<Told>> = HashMap::new();
    told.into_iter().flatten().for_each(|(id, told)| by_maildrop.entry(id).or_default().push(told));
    Ok(by_maildrop)
}

/// Gives what a delivery target has learned of its server.
pub(super) fn target_memory(tables: Tables<'_>, target: &str) -> Result<Option<Vec<u8>>> {
    tables.first("SELECT memory FROM target WHERE name = ?1", params![target], |row| row.get(0))
}

/// Loads what recorded messages are known by. They are looked up one by one, since most polls need few or none.
pub(super) fn details(
    tables: Tables<'_>,
    maildrop: &str,
    entries: &Packed,
    indexes: &[usize],
) -> Result<Vec<Detail>> {
    let Some(id) = find(tables, maildrop)? else { return Ok(vec![Detail::default(); indexes.len()]) };
    let mut select = tables.prepare(
        "SELECT identity, second, content, header, sent, listed, fields, file, place, due_since, tried_at, octets
         FROM seen WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    );
    let ask = |index: &usize| {
        let (uid, ordinal) = entries.name(*index);
        select.ask(params![id, uid, ordinal], detail)
    };
    let asked = indexes.iter().map(ask).collect::<Result<Vec<_>>>()?;
    // A message that another command forgot meanwhile is known by nothing.
    asked.into_iter().map(|detail| Ok(detail.rows()?.pop().unwrap_or_default())).collect()
}

/// Lists what recorded messages consist of.
pub(super) fn contents(tables: Tables<'_>, maildrop: &str) -> Result<Vec<Content>> {
    let Some(id) = find(tables, maildrop)? else { return Ok(Vec::new()) };
    let sql = "SELECT content FROM seen WHERE maildrop = ?1 AND content IS NOT NULL";
    tables.rows(sql, params![id], |row| row.get(0).map(Content))
}

/// Lists the files that recorded messages are.
pub(super) fn files(tables: Tables<'_>, maildrop: &str) -> Result<Vec<FileId>> {
    let Some(id) = find(tables, maildrop)? else { return Ok(Vec::new()) };
    let sql = "SELECT file FROM seen WHERE maildrop = ?1 AND file IS NOT NULL";
    Ok(tables.rows(sql, params![id], |row| Ok(FileId::all_from_octets(row.blob(0)?)))?.concat())
}

fn detail(row: &Row<'_>) -> Result<Detail> {
    let header = row.get::<Option<[u8; 32]>>(3)?;
    let files = match blob_or_null(row, 7)? {
        None => RecordedFiles::ByName,
        Some(octets) => RecordedFiles::Files(FileId::all_from_octets(octets)),
    };
    let mut detail = Detail {
        identities: [identity(row, 0)?, identity(row, 1)?],
        content: row.get::<Option<[u8; 32]>>(2)?.map(Content),
        header,
        sent: row.octets(4)?,
        listed: row.octets(5)?,
        fields: row.octets(6)?,
        files,
        place: row.get(8)?,
        due_since: row.get(9)?,
        tried_at: row.get(10)?,
    };
    if header.is_some() {
        // Version 0.1.0 recorded the size by the listing alone.
        detail.listed = row.octets(11)?;
    }
    Ok(detail)
}

/// An identity is a letter and the digest.
fn identity(row: &Row<'_>, column: usize) -> Result<Option<Identity>> {
    let octets = blob_or_null(row, column)?;
    let Some((letter, digest)) = octets.and_then(<[u8]>::split_first) else { return Ok(None) };
    let certainty = if *letter == CERTAIN { Certainty::Certain } else { Certainty::Weak };
    Ok(digest.try_into().ok().map(|digest| Identity { digest, certainty }))
}

/// The letter before a digest that proves something.
pub(super) const CERTAIN: u8 = b'C';

/// Finds the row of a maildrop.
pub(super) fn find(tables: Tables<'_>, maildrop: &str) -> Result<Option<i64>> {
    tables.first("SELECT id FROM maildrop WHERE identity = ?1", params![maildrop], |row| row.get(0))
}

/// Lists the files in a maildir that no record claimed when the state was new, or when a session had not ended.
pub(super) fn unclaimed(tables: Tables<'_>, maildrop: &str) -> Result<Vec<Unclaimed>> {
    let Some(id) = find(tables, maildrop)? else { return Ok(Vec::new()) };
    let sql = "SELECT file FROM unclaimed WHERE maildrop = ?1 ORDER BY file";
    let files = tables.rows(sql, params![id], |row| Ok(Unclaimed::from_octets(row.blob(0)?)))?;
    Ok(files.into_iter().flatten().collect())
}

/// Lists the recorded unique-ids of a maildrop.
pub(super) fn seen(tables: Tables<'_>, maildrop: &str) -> Result<Vec<SeenLine>> {
    let Some(id) = find(tables, maildrop)? else { return Ok(Vec::new()) };
    let sql = "SELECT uid, ordinal, octets, first_seen, delivered_at, last_listed, kind
         FROM seen WHERE maildrop = ?1 AND kind != 2 ORDER BY uid, ordinal";
    tables.rows(sql, params![id], |row| {
        Ok(SeenLine {
            uid: UniqueId::new(row.blob(0)?),
            ordinal: row.get(1)?,
            octets: row.octets(2)?,
            first_seen: row.get(3)?,
            delivered_at: row.get(4)?,
            last_listed: row.get(5)?,
            kind: Kind::from_number(row.get(6)?),
        })
    })
}

/// Counts the recorded messages of each maildrop.
pub(super) fn counts(tables: Tables<'_>, of: &Of) -> Result<HashMap<i64, u64>> {
    let (condition, id) = of.condition("maildrop");
    let sql =
        format!("SELECT maildrop, count(*) FROM seen WHERE kind != 2 AND {condition} GROUP BY maildrop");
    let counts = tables.rows(&sql, &[&id], |row| Ok((row.get(0)?, row.octets(1)?)))?;
    Ok(counts.into_iter().collect())
}

/// Lists maildrops with what is recorded, by these counts, and held of them, by identity.
pub(super) fn status(tables: Tables<'_>, of: &Of, mut counts: HashMap<i64, u64>) -> Result<Vec<Status>> {
    let mut all: HashMap<i64, Vec<Held>> = HashMap::new();
    for (id, (held, ..)) in held(tables, of, SHOWN)?.rows()? {
        all.entry(id).or_default().push(held);
    }
    let status = |(id, maildrop)| Status {
        maildrop,
        seen: counts.remove(&id).unwrap_or(0),
        held: all.remove(&id).unwrap_or_default(),
    };
    Ok(rows_of(tables, of)?.into_iter().map(status).collect())
}

fn entries(tables: Tables<'_>, id: i64, publisher: Option<i64>) -> Result<Entries> {
    let open = publisher.filter(|session| *session != 0).map(open_mark);
    let mut packed = Packed::default();
    // The order of the primary key: SQLite sorts nothing, and `push` finds a damaged table by it.
    let sql = "SELECT uid, ordinal, octets, delivered_at, last_listed, delete_tries, deleted_at, deleting, kind, place,
             coalesce(identity, second, header) IS NULL
         FROM seen WHERE maildrop = ?1 ORDER BY uid, ordinal";
    tables.rows(sql, params![id], |row| {
        let entry = Entry {
            index: 0,
            octets: row.octets(2)?,
            delivered_at: row.get(3)?,
            last_listed: row.get(4)?,
            delete_tries: row.get(5)?,
            deleted: row.value(6)? != ValueRef::Null,
            deleting: match row.get(7)? {
                0 => false,
                1 => true,
                mark => Some(mark) == open,
            },
            kind: Kind::from_number(row.get(8)?),
            placed: row.value(9)? != ValueRef::Null,
            blank: row.get(10)?,
        };
        let pushed = packed.push(row.blob(0)?, row.get(1)?, entry);
        pushed.map_err(|unordered| Fault::Damaged(unordered.to_string()))
    })?;
    packed.shrink();
    Ok(packed.into())
}

/// A held message, and what else is known of it.
type HeldRow = (i64, (Held, Option<Content>, Option<Identity>));

/// Asks for the messages that are held, all or those of a condition, with the numbers of their maildrops.
fn held<'a>(tables: Tables<'a>, of: &Of, and: &str) -> Result<Asked<'a, HeldRow>> {
    let (condition, id) = of.condition("maildrop");
    let mut select = tables.prepare(&format!(
        "SELECT uid, ordinal, octets, reason, since, tries, next_try, kind, suspected, tried_at,
             came, came_times, came_since, content, identity, maildrop
         FROM held WHERE {condition} {and} ORDER BY uid, ordinal"
    ));
    select.ask(params![id], |row| {
        let held = Held {
            uid: UniqueId::new(row.blob(0)?),
            ordinal: row.get(1)?,
            octets: row.octets(2)?,
            reason: row.get(3)?,
            since: row.get(4)?,
            tries: row.get(5)?,
            next_try: row.get(6)?,
            // A newer version's, if it is not known here: as one that says nothing special.
            kind: HeldKind::named(&row.get::<String>(7)?).unwrap_or(HeldKind::Refused),
            standing: if row.get(8)? { Standing::Suspected } else { Standing::Held },
            tried_at: row.get(9)?,
            came: match row.get(10)? {
                Some(digest) => Some(Came { digest, times: row.get(11)?, since: row.get(12)? }),
                None => None,
            },
        };
        Ok((row.get(15)?, (held, row.get::<Option<[u8; 32]>>(13)?.map(Content), identity(row, 14)?)))
    })
}

/// Asks who has messages that others have not.
fn holders(tables: Tables<'_>, id: i64) -> Result<Asked<'_, ((UniqueId, u32), Holder)>> {
    let mut select = tables.prepare(
        "SELECT uid, ordinal, target, recipients, file FROM reached WHERE maildrop = ?1 ORDER BY target",
    );
    select.ask(params![id], |row| {
        let recipients = row.get::<Option<String>>(3)?;
        let holder = Holder {
            target: row.get(2)?,
            recipients: recipients.map(|recipients| recipients.lines().map(str::to_owned).collect()),
            file: blob_or_null(row, 4)?.and_then(FileId::from_octets),
        };
        Ok(((UniqueId::new(row.blob(0)?), row.get(1)?), holder))
    })
}

/// Gives the messages that are held in a maildrop, and who has those that somebody has.
fn with_holders(
    held: Asked<'_, HeldRow>,
    holders: Asked<'_, ((UniqueId, u32), Holder)>,
) -> Result<(Vec<Held>, Vec<Reached>)> {
    let mut of: HashMap<_, Vec<_>> = HashMap::new();
    holders.rows()?.into_iter().for_each(|(name, holder)| of.entry(name).or_default().push(holder));
    let (mut all, mut reached) = (Vec::new(), Vec::new());
    for (_, (held, content, identity)) in held.rows()? {
        if let Some(targets) = of.remove(&(held.uid.clone(), held.ordinal)) {
            let (uid, ordinal, octets) = (held.uid.clone(), held.ordinal, held.octets);
            let reason = held.reason.clone();
            reached.push(Reached { uid, ordinal, octets, reason, targets, content, identity });
        }
        all.push(held);
    }
    Ok((all, reached))
}

fn blob_or_null<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a [u8]>> {
    row.value(column)?.as_blob_or_null().map_err(|error| Fault::Damaged(error.to_string()))
}
