//! What is written of messages: delivered ones, held ones, files that belong to them or to none.

use rusqlite::params;

use crate::message::{FileId, Identity, UniqueId};

use super::reading::CERTAIN;
use super::tables::{Result, Tables};
use super::{Delivery, Held, Holder, Kind, Reached, Standing, Timestamp, Unclaimed};

/// Records messages; `open` marks what the session doubts.
pub(super) fn record(
    tables: Tables<'_>,
    id: i64,
    (at, open): (Timestamp, i64),
    deliveries: &[Delivery],
) -> Result<()> {
    let mut upsert = tables.prepare(
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
    );
    let mut files = Vec::new();
    for delivery in deliveries {
        let fingerprint = delivery.fingerprint.as_ref();
        files.extend(&delivery.files);
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
            FileId::all_to_octets(&delivery.files),
            delivery.place,
            if delivery.open { open } else { i64::from(delivery.deleting) },
        ])?;
    }
    claim(tables, id, &files)?;
    if exists(tables, "held", id)? {
        // What is only listed may be held all the same, and somebody have it.
        let delivered = deliveries.iter().filter(|delivery| delivery.kind != Kind::Pending);
        release(tables, id, delivered.map(|delivery| (&delivery.uid, delivery.ordinal)))?;
    }
    Ok(())
}

/// Notes that files belong to no record.
pub(super) fn unclaimed(tables: Tables<'_>, id: i64, files: &[Unclaimed]) -> Result<()> {
    let mut insert =
        tables.prepare("INSERT INTO unclaimed (maildrop, file) VALUES (?1, ?2) ON CONFLICT DO NOTHING");
    files.iter().try_for_each(|file| insert.execute(params![id, file.to_octets()]))
}

/// Forgets the messages in mailboxes that belonged to no record.
pub(super) fn forget_messages(tables: Tables<'_>, id: i64) -> Result<()> {
    // The first bit of what follows the digest, see `FileId`.
    let sql = "DELETE FROM unclaimed WHERE maildrop = ?1 AND length(file) = 24 AND substr(file, 17, 1) >= ?2";
    tables.execute(sql, params![id, [0x80_u8]])
}

/// Notes that files belong to records now.
fn claim(tables: Tables<'_>, id: i64, files: &[FileId]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let times = files.iter().filter(|file| file.uid().is_none()).map(|file| file.time);
    if let Some(newest) = times.max() {
        let sql = "UPDATE maildrop SET newest_file = ?2 WHERE id = ?1 AND newest_file < ?2";
        tables.execute(sql, params![id, to_column(newest)])?;
    }
    if !exists(tables, "unclaimed", id)? {
        return Ok(());
    }
    let mut delete = tables.prepare("DELETE FROM unclaimed WHERE maildrop = ?1 AND file = ?2");
    for file in files {
        delete.execute(params![id, file.to_octets()])?;
        delete.execute(params![id, &file.digest[..]])?;
    }
    Ok(())
}

/// Says whether there is any row of a maildrop, so that nothing is looked for one by one where there is none.
fn exists(tables: Tables<'_>, table: &str, id: i64) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {table} WHERE maildrop = ?1 LIMIT 1");
    // Far away the question costs more than what it saves.
    Ok(matches!(tables, Tables::Postgres(_)) || tables.first(&sql, params![id], |_| Ok(()))?.is_some())
}

fn release<'a>(tables: Tables<'_>, id: i64, names: impl Iterator<Item = (&'a UniqueId, u32)>) -> Result<()> {
    let mut held = tables.prepare("DELETE FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3");
    let mut reached = tables.prepare("DELETE FROM reached WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3");
    for (uid, ordinal) in names {
        held.execute(params![id, uid.as_bytes(), ordinal])?;
        reached.execute(params![id, uid.as_bytes(), ordinal])?;
    }
    Ok(())
}

pub(super) fn hold(tables: Tables<'_>, id: i64, held: &[Held]) -> Result<()> {
    // Another size is another message, which nobody has. What is known of the size stays known.
    let mut other = tables.prepare(
        "DELETE FROM reached WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND ?4 != 0 AND EXISTS (
             SELECT 1 FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND octets NOT IN (0, ?4))",
    );
    let mut upsert = tables.prepare(
        "INSERT INTO held (maildrop, uid, ordinal, octets, reason, since, tries, next_try, kind, suspected,
             tried_at, came, came_times, came_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
         ON CONFLICT (maildrop, uid, ordinal) DO UPDATE SET
             octets = CASE excluded.octets WHEN 0 THEN held.octets ELSE excluded.octets END,
             reason = excluded.reason, since = excluded.since,
             tries = excluded.tries, next_try = excluded.next_try, missed_at = NULL,
             kind = excluded.kind, suspected = excluded.suspected, tried_at = excluded.tried_at,
             came = excluded.came, came_times = excluded.came_times, came_since = excluded.came_since",
    );
    for held in held {
        let came = held.came.as_ref();
        other.execute(params![id, held.uid.as_bytes(), held.ordinal, to_column(held.octets)])?;
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

pub(super) fn reached(tables: Tables<'_>, id: i64, at: Timestamp, messages: &[Reached]) -> Result<()> {
    let mut upsert = tables.prepare(
        "INSERT INTO held (maildrop, uid, ordinal, octets, reason, since, tries, next_try, content, identity)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?6, ?7, ?8)
         ON CONFLICT (maildrop, uid, ordinal) DO UPDATE SET
             octets = CASE excluded.octets WHEN 0 THEN held.octets ELSE excluded.octets END,
             content = excluded.content, identity = excluded.identity, missed_at = NULL",
    );
    let mut other = tables.prepare(
        "DELETE FROM reached WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND EXISTS (
             SELECT 1 FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND content IS DISTINCT FROM ?4)",
    );
    let mut holder = tables.prepare(
        "INSERT INTO reached (maildrop, uid, ordinal, target, recipients, file)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (maildrop, uid, ordinal, target) DO UPDATE SET
             recipients = excluded.recipients, file = excluded.file",
    );
    let mut files = Vec::new();
    for message in messages {
        // Whoever had another one under this name does not have this.
        let content = message.content.map(|content| content.0);
        other.execute(params![id, message.uid.as_bytes(), message.ordinal, content])?;
        upsert.execute(params![
            id,
            message.uid.as_bytes(),
            message.ordinal,
            to_column(message.octets),
            message.reason,
            at,
            content,
            message.identity.as_ref().map(to_blob),
        ])?;
        for Holder { target, recipients, file } in &message.targets {
            files.extend(*file);
            holder.execute(params![
                id,
                message.uid.as_bytes(),
                message.ordinal,
                target,
                recipients.as_ref().map(|recipients| recipients.join("\n")),
                file.map(FileId::to_octets),
            ])?;
        }
    }
    claim(tables, id, &files)
}

pub(super) fn to_blob(identity: &Identity) -> Vec<u8> {
    let letter = if identity.is_certain() { CERTAIN } else { b'W' };
    [&[letter], &identity.digest[..]].concat()
}

/// A server may claim any number of octets; SQLite's integers are signed, so the upper half is stored as negative.
pub(super) fn to_column(octets: u64) -> i64 {
    octets.cast_signed()
}
