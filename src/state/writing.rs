//! The requests that change rows, each as statements inside the transaction of its group.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, Result, params};

use crate::message::UniqueId;
use crate::message::file::digest_of_name;
use crate::message::{FileId, Identity};

use super::entries::Packed;
use super::reading::{CERTAIN, find};
use super::{
    Change, Closing, Delivery, Held, LogIn, Reached, RecordedFile, Standing, Timestamp, Told, Unclaimed,
};

const DAY: Timestamp = 24 * 60 * 60;

/// A unique-id is forgotten this long after the last listing that showed it ...
const FORGET_VANISHED: Timestamp = 90 * DAY;
/// ... and this long after a deletion that reached UPDATE state; also the least time from the first listing without it,
/// so that one short listing after a long pause does not forget it.
const FORGET_DELETED: Timestamp = 30 * DAY;

/// Forgets what is long gone of maildrop ?1: not listed since ?2, or since ?3 if it was deleted by then. The comparison
/// that both have in common lets SQLite use the index of those that have vanished, which are few.
const FORGET: &str = "DELETE FROM seen WHERE maildrop = ?1 AND last_listed <= ?3
    AND ((last_listed <= ?2 AND missed_at <= ?3) OR deleted_at <= ?3)";

/// A request that changes rows.
pub(super) enum Write {
    /// See [`super::Store::publishing`].
    Publishing { maildrop: Arc<str>, session: i64, unclaimed: Vec<Unclaimed> },
    /// See [`super::Store::record`].
    Record { maildrop: Arc<str>, at: Timestamp, deliveries: Vec<Delivery> },
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
    /// See [`super::Store::logged_in`].
    LoggedIn { maildrop: Arc<str>, at: Timestamp, outcome: LogIn },
    /// See [`super::Store::tell`].
    Tell { maildrop: Arc<str>, told: Vec<(&'static str, Option<Told>)> },
}

impl Write {
    /// Executes the statements; gives the count that [`super::Store::forget`] and [`super::Store::hasten`] answer.
    pub(super) fn apply(&self, connection: &Connection) -> Result<usize> {
        match self {
            Self::Publishing { maildrop, session, unclaimed: files } => {
                let id = existing_or_new(connection, maildrop)?;
                connection
                    .prepare_cached("UPDATE maildrop SET publisher = ?2 WHERE id = ?1")?
                    .execute(params![id, session])?;
                unclaimed(connection, id, files).map(|()| 0)
            }
            Self::Record { maildrop, at, deliveries } => {
                let id = existing_or_new(connection, maildrop)?;
                record(connection, id, *at, deliveries).map(|()| 0)
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
            Self::LoggedIn { maildrop, at, outcome } => {
                let id = existing_or_new(connection, maildrop)?;
                login(connection, id, *at, outcome).map(|()| 0)
            }
            Self::Tell { maildrop, told } => {
                let id = existing_or_new(connection, maildrop)?;
                tell(connection, id, told).map(|()| 0)
            }
        }
    }
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

fn record(connection: &Connection, id: i64, at: Timestamp, deliveries: &[Delivery]) -> Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO seen (maildrop, uid, ordinal, octets, first_seen, delivered_at, kind,
             identity, second, content, sent, listed, fields, file, place, deleting)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (maildrop, uid, ordinal) DO UPDATE SET
             octets = excluded.octets, delivered_at = excluded.delivered_at, kind = excluded.kind,
             identity = excluded.identity, second = excluded.second, content = excluded.content,
             sent = excluded.sent, listed = excluded.listed, fields = excluded.fields,
             file = excluded.file, place = excluded.place, deleting = excluded.deleting, header = NULL,
             last_listed = NULL, missed_at = NULL, delete_tries = 0, deleted_at = NULL, tried_at = NULL,
             due_since = NULL",
    )?;
    let mut files = Vec::new();
    for delivery in deliveries {
        let fingerprint = delivery.fingerprint.as_ref();
        files.extend(delivery.file);
        upsert.execute(params![
            id,
            delivery.uid.as_bytes(),
            delivery.ordinal,
            to_column(delivery.octets),
            at,
            delivery.delivered_at,
            delivery.kind.to_number(),
            fingerprint.map(|known| to_blob(&known.identity)),
            delivery.second.as_ref().map(to_blob),
            fingerprint.map(|known| &known.content.0[..]),
            to_column(fingerprint.map_or(0, |known| known.octets)),
            to_column(delivery.octets),
            to_column(fingerprint.map_or(0, |known| known.fields)),
            delivery.file.map_or(Vec::new(), |file| file.to_octets().to_vec()),
            delivery.place,
            delivery.deleting,
        ])?;
    }
    claim(connection, id, &files)?;
    let holds = connection.prepare_cached("SELECT 1 FROM held WHERE maildrop = ?1 LIMIT 1")?.exists([id])?;
    if holds {
        release(connection, id, deliveries.iter().map(|delivery| (&delivery.uid, delivery.ordinal)))?;
    }
    Ok(())
}

/// Notes that files belong to no record.
fn unclaimed(connection: &Connection, id: i64, files: &[Unclaimed]) -> Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO unclaimed (maildrop, file) VALUES (?1, ?2)")?;
    files.iter().try_for_each(|file| insert.execute(params![id, file.to_octets()]).map(drop))
}

/// Notes that files belong to records now.
fn claim(connection: &Connection, id: i64, files: &[FileId]) -> Result<()> {
    let Some(newest) = files.iter().map(|file| file.time).max() else { return Ok(()) };
    connection
        .prepare_cached("UPDATE maildrop SET newest_file = max(newest_file, ?2) WHERE id = ?1")?
        .execute(params![id, to_column(newest)])?;
    let any =
        connection.prepare_cached("SELECT 1 FROM unclaimed WHERE maildrop = ?1 LIMIT 1")?.exists([id])?;
    if !any {
        return Ok(());
    }
    let mut delete = connection.prepare_cached("DELETE FROM unclaimed WHERE maildrop = ?1 AND file = ?2")?;
    for file in files {
        delete.execute(params![id, file.to_octets()])?;
        delete.execute(params![id, &file.digest[..]])?;
    }
    Ok(())
}

/// Writes what was learned of recorded messages; what is known of content and identity replaces the old header.
fn change(connection: &Connection, id: i64, entries: &Packed, changes: &[Change]) -> Result<()> {
    let mut update = connection.prepare_cached(
        "UPDATE seen SET uid = ?4, ordinal = ?5, octets = ?6, delivered_at = ?7, identity = ?8, second = ?9,
             content = ?10, header = ?11, sent = ?12, listed = ?13, fields = ?14, file = ?15, place = ?16,
             due_since = ?17, tried_at = ?18,
             deleting = CASE WHEN ?19 THEN 0 ELSE deleting END,
             delete_tries = CASE WHEN ?19 THEN 0 ELSE delete_tries END,
             deleted_at = CASE WHEN ?19 THEN NULL ELSE deleted_at END
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    )?;
    for Change { index, uid, ordinal, octets, delivered_at, detail, stays } in changes {
        let (old_uid, old_ordinal) = entries.name(*index);
        let [first, second] = &detail.identities;
        update.execute(params![
            id,
            old_uid,
            old_ordinal,
            uid.as_bytes(),
            ordinal,
            to_column(*octets),
            delivered_at,
            first.as_ref().map(to_blob),
            second.as_ref().map(to_blob),
            detail.content.map(|content| content.0),
            detail.header,
            to_column(detail.sent),
            to_column(detail.listed),
            to_column(detail.fields),
            match detail.file {
                RecordedFile::ByName => None,
                RecordedFile::File(file) => Some(file.to_octets().to_vec()),
                RecordedFile::Elsewhere => Some(Vec::new()),
            },
            detail.place,
            detail.due_since,
            detail.tried_at,
            stays,
        ])?;
    }
    Ok(())
}

fn to_blob(identity: &Identity) -> Vec<u8> {
    let letter = if identity.is_certain() { CERTAIN } else { b'W' };
    [&[letter], &identity.digest[..]].concat()
}

fn release<'a>(
    connection: &Connection,
    id: i64,
    names: impl Iterator<Item = (&'a UniqueId, u32)>,
) -> Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3")?;
    for (uid, ordinal) in names {
        delete.execute(params![id, uid.as_bytes(), ordinal])?;
    }
    Ok(())
}

fn close(connection: &Connection, id: i64, session: i64, entries: &Packed, closing: &Closing) -> Result<()> {
    if closing.listed_at.is_some() {
        listing(connection, id, entries, closing)?;
    }
    supersede(connection, id, entries, &closing.superseded)?;
    change(connection, id, entries, &closing.changes)?;
    deletions(connection, id, closing)?;
    record(connection, id, closing.at, &closing.pending)?;
    hold(connection, id, &closing.held)?;
    if closing.listed_at.is_some() {
        gone(connection, id, closing)?;
    }
    server(connection, id, closing)?;
    tell(connection, id, &closing.told)?;
    poll(connection, id, session, closing)
}

/// Releases held messages that a complete listing does not show. Who has a message is remembered until it is long gone:
/// the next listing may show it again.
fn gone(connection: &Connection, id: i64, closing: &Closing) -> Result<()> {
    let mut select = connection
        .prepare_cached("SELECT uid, ordinal FROM held WHERE maildrop = ?1 AND missed_at IS NOT NULL")?;
    let missed: Vec<(Vec<u8>, u32)> =
        select.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_>>()?;
    let still: HashSet<(&[u8], u32)> =
        closing.released.iter().map(|(uid, ordinal)| (uid.as_bytes(), *ordinal)).collect();
    let mut returned = connection.prepare_cached(
        "UPDATE held SET missed_at = NULL WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    )?;
    for (uid, ordinal) in missed.iter().filter(|(uid, ordinal)| !still.contains(&(uid, *ordinal))) {
        returned.execute(params![id, uid, ordinal])?;
    }
    let mut delete = connection.prepare_cached(
        "DELETE FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3
             AND (recipients IS NULL OR missed_at <= ?4)",
    )?;
    let mut miss = connection.prepare_cached(
        "UPDATE held SET missed_at = ?4
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND missed_at IS NULL",
    )?;
    for (uid, ordinal) in &closing.released {
        delete.execute(params![id, uid.as_bytes(), ordinal, closing.at - FORGET_VANISHED])?;
        miss.execute(params![id, uid.as_bytes(), ordinal, closing.listed_at])?;
    }
    Ok(())
}

/// Notes which recorded messages a complete listing shows and forgets those that are long gone.
fn listing(connection: &Connection, id: i64, entries: &Packed, closing: &Closing) -> Result<()> {
    let mut returned = connection.prepare_cached(
        "UPDATE seen SET last_listed = NULL, missed_at = NULL, delete_tries = 0
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    )?;
    for &index in &closing.returned {
        let (uid, ordinal) = entries.name(index);
        returned.execute(params![id, uid, ordinal])?;
    }
    // Before the newly vanished are marked: what this listing is the first not to show is never forgotten by it. And
    // never without a listing: that a server cannot be reached says nothing of its messages.
    if !closing.open {
        connection.prepare_cached(FORGET)?.execute(params![
            id,
            closing.at - FORGET_VANISHED,
            closing.at - FORGET_DELETED
        ])?;
    }
    // The last listing that showed a message is the maildrop's last one, or, if its session did not come to its end,
    // the one in which the message was recorded.
    let before: Option<Timestamp> = connection
        .prepare_cached("SELECT listed_at FROM maildrop WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    let mut vanished = connection.prepare_cached(
        "UPDATE seen SET last_listed = CASE WHEN first_seen > ?4 THEN first_seen ELSE ?4 END, missed_at = ?5
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND last_listed IS NULL",
    )?;
    for &index in &closing.vanished {
        let (uid, ordinal) = entries.name(index);
        vanished.execute(params![id, uid, ordinal, before.unwrap_or(Timestamp::MIN), closing.listed_at])?;
    }
    Ok(())
}

fn supersede(connection: &Connection, id: i64, entries: &Packed, superseded: &[usize]) -> Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM seen WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3")?;
    for &index in superseded {
        let (uid, ordinal) = entries.name(index);
        delete.execute(params![id, uid, ordinal])?;
    }
    Ok(())
}

fn deletions(connection: &Connection, id: i64, closing: &Closing) -> Result<()> {
    // What was refused, and what came back again and again, is where it was.
    let mut tried = connection.prepare_cached(
        "UPDATE seen SET delete_tries = delete_tries + 1, deleted_at = ?4, tried_at = ?5,
             place = CASE WHEN ?4 IS NULL OR delete_tries >= 3 THEN place END
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    )?;
    for (uid, ordinal) in &closing.deleted {
        tried.execute(params![id, uid.as_bytes(), ordinal, closing.at, closing.at])?;
    }
    for (uid, ordinal) in &closing.undeleted {
        tried.execute(params![id, uid.as_bytes(), ordinal, None::<Timestamp>, closing.at])?;
    }
    Ok(())
}

fn hold(connection: &Connection, id: i64, held: &[Held]) -> Result<()> {
    // Another size is another message, which nobody has. What is known of the size stays known.
    let mut upsert = connection.prepare_cached(
        "INSERT INTO held (maildrop, uid, ordinal, octets, reason, since, tries, next_try, kind, suspected,
             tried_at, came, came_times, came_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (maildrop, uid, ordinal) DO UPDATE SET
             octets = CASE excluded.octets WHEN 0 THEN octets ELSE excluded.octets END,
             recipients = CASE WHEN octets IN (0, excluded.octets) OR excluded.octets = 0 THEN recipients END,
             reason = excluded.reason, since = excluded.since,
             tries = excluded.tries, next_try = excluded.next_try, missed_at = NULL,
             kind = excluded.kind, suspected = excluded.suspected, tried_at = excluded.tried_at,
             came = excluded.came, came_times = excluded.came_times, came_since = excluded.came_since",
    )?;
    for held in held {
        let came = held.came.as_ref();
        upsert.execute(params![
            id,
            held.uid.as_bytes(),
            held.ordinal,
            to_column(held.octets),
            held.reason,
            held.since,
            held.tries,
            held.next_try,
            held.kind.name(),
            held.standing == Standing::Suspected,
            held.tried_at,
            came.map(|came| &came.digest[..]),
            came.map(|came| came.times),
            came.map(|came| came.since),
        ])?;
    }
    Ok(())
}

fn reached(connection: &Connection, id: i64, at: Timestamp, messages: &[Reached]) -> Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO held (maildrop, uid, ordinal, octets, reason, since, tries, next_try, recipients, content)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?6, ?7, ?8)
         ON CONFLICT (maildrop, uid, ordinal) DO UPDATE SET
             octets = CASE excluded.octets WHEN 0 THEN octets ELSE excluded.octets END,
             recipients = excluded.recipients, content = excluded.content, missed_at = NULL",
    )?;
    for message in messages {
        upsert.execute(params![
            id,
            message.uid.as_bytes(),
            message.ordinal,
            to_column(message.octets),
            message.reason,
            at,
            message.recipients.join("\n"),
            message.content.map(|content| content.0),
        ])?;
    }
    Ok(())
}

fn server(connection: &Connection, id: i64, closing: &Closing) -> Result<()> {
    if let Some(server) = &closing.server {
        connection
            .prepare_cached("UPDATE maildrop SET capabilities = ?2, learned = ?3 WHERE id = ?1")?
            .execute(params![id, server.capabilities, server.learned])?;
    }
    match &closing.login {
        Some(outcome) => login(connection, id, closing.at, outcome),
        None => Ok(()),
    }
}

fn login(connection: &Connection, id: i64, at: Timestamp, outcome: &LogIn) -> Result<()> {
    match outcome {
        LogIn::Worked(worked) => connection
            .prepare_cached(
                "UPDATE maildrop SET login_ok_at = ?2, login_mark = ?3, refused_at = NULL, refused_count = NULL,
                     refused_credentials = NULL, refused_said = NULL, refused_class = NULL WHERE id = ?1",
            )?
            .execute(params![id, at, worked.mark])?,
        LogIn::Refused(refused) => connection
            .prepare_cached(
                "UPDATE maildrop SET refused_at = ?2, refused_count = ?3, refused_credentials = ?4,
                     refused_said = ?5, refused_class = ?6 WHERE id = ?1",
            )?
            .execute(params![
                id,
                refused.at,
                refused.count,
                refused.credentials,
                refused.said,
                refused.class
            ])?,
    };
    Ok(())
}

/// Notes the poll for `status`, and that the session is closed if it was this one that published: one that could not
/// log in leaves the mark of one that was killed, since nothing has been recovered yet.
fn poll(connection: &Connection, id: i64, session: i64, closing: &Closing) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE maildrop SET
                 publisher = CASE WHEN publisher = ?2 THEN 0 ELSE publisher END,
                 listed_at = coalesce(?3, listed_at), renames = coalesce(?4, renames),
                 holes = coalesce(?5, holes), sample = coalesce(?6, sample)
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            session,
            closing.listed_at,
            closing.naming.as_ref().map(|naming| naming.renames),
            closing.naming.as_ref().map(|naming| naming.holes),
            closing.naming.as_ref().map(|naming| &naming.sample[..]),
        ])?;
    let Some(poll) = &closing.poll else { return Ok(()) };
    let (class, failure) = poll.failure.as_ref().map(|(class, text)| (class, text)).unzip();
    connection
        .prepare_cached(
            "UPDATE maildrop SET
                 poll_at = ?2, poll_account = ?3, poll_host = ?4, poll_class = ?5, poll_failure = ?6,
                 poll_messages = ?7, poll_octets = ?8, poll_listed = ?9, poll_backlog = ?10,
                 -- One to come is of a clock that was wrong.
                 last_success = CASE WHEN ?5 IS NULL THEN ?2 ELSE min(last_success, ?2) END,
                 -- Whoever stopped it did not fail.
                 failures = CASE WHEN ?5 IS NULL THEN 0 WHEN ?5 = 'stopped' THEN failures ELSE failures + 1 END
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            closing.at,
            poll.account,
            poll.host,
            class,
            failure,
            to_column(poll.messages),
            to_column(poll.octets),
            poll.listed.map(to_column),
            to_column(poll.backlog),
        ])?;
    Ok(())
}

fn tell(connection: &Connection, id: i64, told: &[(&'static str, Option<Told>)]) -> Result<()> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO told (maildrop, what, since, times, lasts, kinds, noticed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (maildrop, what) DO UPDATE SET
             since = excluded.since, times = excluded.times, lasts = excluded.lasts, kinds = excluded.kinds,
             noticed_at = excluded.noticed_at",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM told WHERE maildrop = ?1 AND what = ?2")?;
    for (what, told) in told {
        let Some(told) = told else {
            delete.execute(params![id, what])?;
            continue;
        };
        let kinds: String = told.kinds.iter().map(|(kind, at)| format!("{at} {kind}\n")).collect();
        upsert.execute(params![id, what, told.since, told.times, told.lasts, kinds, told.noticed_at])?;
    }
    Ok(())
}

fn forget(connection: &Connection, id: i64, maildrop: &str, uids: &[UniqueId]) -> Result<usize> {
    // A file that is still there is the message: it is fetched again, and found.
    let mut select =
        connection.prepare_cached("SELECT ordinal, file FROM seen WHERE maildrop = ?1 AND uid = ?2")?;
    for uid in uids {
        let files = select.query_map(params![id, uid.as_bytes()], |row| {
            let file: Option<Vec<u8>> = row.get(1)?;
            Ok(match file {
                Some(octets) => FileId::from_octets(&octets).map(Unclaimed::File),
                None => Some(Unclaimed::Digest(digest_of_name(maildrop, uid.as_bytes(), row.get(0)?))),
            })
        })?;
        unclaimed(connection, id, &files.filter_map(Result::transpose).collect::<Result<Vec<_>>>()?)?;
    }
    let mut seen = connection.prepare_cached("DELETE FROM seen WHERE maildrop = ?1 AND uid = ?2")?;
    let mut held = connection.prepare_cached("DELETE FROM held WHERE maildrop = ?1 AND uid = ?2")?;
    let mut forgotten = 0;
    for uid in uids {
        let row = params![id, uid.as_bytes()];
        forgotten += usize::from(seen.execute(row)? > 0);
        held.execute(row)?;
    }
    Ok(forgotten)
}

fn hasten(connection: &Connection, id: i64, names: &[(UniqueId, u32)], at: Timestamp) -> Result<usize> {
    let mut update = connection
        .prepare_cached("UPDATE held SET next_try = ?4 WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3")?;
    names.iter().map(|(uid, ordinal)| update.execute(params![id, uid.as_bytes(), ordinal, at])).sum()
}

/// A server may claim any number of octets; SQLite's integers are signed, so the upper half is stored as negative.
fn to_column(octets: u64) -> i64 {
    octets.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::schema;

    #[test]
    fn forgetting_does_not_look_at_messages_that_are_still_listed() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {FORGET}"), [1, 2, 3], |row| row.get("detail"))
            .unwrap();
        assert!(plan.contains("USING INDEX seen_vanished (maildrop=? AND last_listed<?)"), "{plan}");
    }
}
