//! What a session leaves when it ends, written by one request.

use std::collections::HashSet;

use rusqlite::params;

use crate::failure::Class;
use crate::message::{FileId, UniqueId};

use super::entries::Packed;
use super::memory::open_mark;
use super::outlook::count;
use super::reading::SHOWN;
use super::recording::{hold, record, to_blob, to_column};
use super::tables::{Result, Tables};
use super::{Change, Closing, Confirmed, LogIn, RecordedFiles, Subject, Timestamp, Told};

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

pub(super) fn close(
    tables: Tables<'_>,
    id: i64,
    session: i64,
    entries: &Packed,
    closing: &Closing,
) -> Result<()> {
    if closing.listed_at.is_some() {
        listing(tables, id, entries, closing)?;
    }
    supersede(tables, id, entries, &closing.superseded)?;
    change(tables, id, entries, &closing.changes)?;
    deletions(tables, id, closing)?;
    confirm(tables, id, &closing.confirmed)?;
    doubt(tables, id, &closing.doubted)?;
    if closing.stays_open {
        settle_open(tables, id, session, 0)?;
    }
    record(tables, id, (closing.at, open_mark(session)), &closing.pending)?;
    hold(tables, id, &closing.held)?;
    if closing.listed_at.is_some() {
        gone(tables, id, closing)?;
    }
    server(tables, id, closing)?;
    tell(tables, id, &closing.told)?;
    poll(tables, id, session, closing)
}

/// Writes what was learned of recorded messages; what is known of content and identity replaces the old header.
fn change(tables: Tables<'_>, id: i64, entries: &Packed, changes: &[Change]) -> Result<()> {
    let mut update = tables.prepare(
        "UPDATE seen SET uid = ?4, ordinal = ?5, octets = ?6, delivered_at = ?7, identity = ?8, second = ?9,
             content = ?10, header = ?11, sent = ?12, listed = ?13, fields = ?14, file = ?15, place = ?16,
             due_since = ?17, tried_at = ?18,
             deleting = CASE WHEN ?19 != 0 THEN 0 ELSE deleting END,
             delete_tries = CASE WHEN ?19 != 0 THEN 0 ELSE delete_tries END,
             deleted_at = CASE WHEN ?19 != 0 THEN NULL ELSE deleted_at END
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    );
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
            match &detail.files {
                RecordedFiles::ByName => None,
                RecordedFiles::Files(files) => Some(FileId::all_to_octets(files)),
            },
            detail.place,
            detail.due_since,
            detail.tried_at,
            stays,
        ])?;
    }
    Ok(())
}

/// Releases held messages that a complete listing does not show. Who has a message is remembered until it is long gone:
/// the next listing may show it again.
fn gone(tables: Tables<'_>, id: i64, closing: &Closing) -> Result<()> {
    let missed: Vec<(Vec<u8>, u32)> = tables.rows(
        "SELECT uid, ordinal FROM held WHERE maildrop = ?1 AND missed_at IS NOT NULL",
        params![id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let still: HashSet<(&[u8], u32)> =
        closing.released.iter().map(|(uid, ordinal)| (uid.as_bytes(), *ordinal)).collect();
    let mut returned =
        tables.prepare("UPDATE held SET missed_at = NULL WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3");
    for (uid, ordinal) in missed.iter().filter(|(uid, ordinal)| !still.contains(&(uid, *ordinal))) {
        returned.execute(params![id, uid, ordinal])?;
    }
    let mut delete = tables.prepare(
        "DELETE FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3
             AND (missed_at <= ?4 OR NOT EXISTS (
                 SELECT 1 FROM reached WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3))",
    );
    let mut forget = tables.prepare(
        "DELETE FROM reached WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND NOT EXISTS (
             SELECT 1 FROM held WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3)",
    );
    let mut miss = tables.prepare(
        "UPDATE held SET missed_at = ?4
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND missed_at IS NULL",
    );
    for (uid, ordinal) in &closing.released {
        delete.execute(params![id, uid.as_bytes(), ordinal, closing.at - FORGET_VANISHED])?;
        miss.execute(params![id, uid.as_bytes(), ordinal, closing.listed_at])?;
        forget.execute(params![id, uid.as_bytes(), ordinal])?;
    }
    Ok(())
}

/// Notes which recorded messages a complete listing shows and forgets those that are long gone.
fn listing(tables: Tables<'_>, id: i64, entries: &Packed, closing: &Closing) -> Result<()> {
    let mut returned = tables.prepare(
        "UPDATE seen SET last_listed = NULL, missed_at = NULL, delete_tries = 0
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    );
    for &index in &closing.returned {
        let (uid, ordinal) = entries.name(index);
        returned.execute(params![id, uid, ordinal])?;
    }
    // Before the newly vanished are marked: what this listing is the first not to show is never forgotten by it. And
    // never without a listing: that a server cannot be reached says nothing of its messages.
    if !closing.open {
        let (vanished, deleted) = (closing.at - FORGET_VANISHED, closing.at - FORGET_DELETED);
        tables.execute(FORGET, params![id, vanished, deleted])?;
    }
    // The last listing that showed a message is the maildrop's last one, or, if its session did not come to its end,
    // the one in which the message was recorded.
    let sql = "SELECT listed_at FROM maildrop WHERE id = ?1";
    let before: Option<Timestamp> = tables.first(sql, params![id], |row| row.get(0))?.flatten();
    let mut vanished = tables.prepare(
        "UPDATE seen SET last_listed = CASE WHEN first_seen > ?4 THEN first_seen ELSE ?4 END, missed_at = ?5
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3 AND last_listed IS NULL",
    );
    for &index in &closing.vanished {
        let (uid, ordinal) = entries.name(index);
        vanished.execute(params![id, uid, ordinal, before.unwrap_or(Timestamp::MIN), closing.listed_at])?;
    }
    Ok(())
}

fn supersede(tables: Tables<'_>, id: i64, entries: &Packed, superseded: &[usize]) -> Result<()> {
    let mut delete = tables.prepare("DELETE FROM seen WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3");
    for &index in superseded {
        let (uid, ordinal) = entries.name(index);
        delete.execute(params![id, uid, ordinal])?;
    }
    Ok(())
}

fn deletions(tables: Tables<'_>, id: i64, closing: &Closing) -> Result<()> {
    // What was refused, and what came back again and again, is where it was.
    let mut tried = tables.prepare(
        "UPDATE seen SET delete_tries = delete_tries + 1, deleted_at = CAST(?4 AS BIGINT), tried_at = ?5,
             place = CASE WHEN CAST(?4 AS BIGINT) IS NULL OR delete_tries >= 3 THEN place END
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    );
    for (uid, ordinal) in &closing.deleted {
        tried.execute(params![id, uid.as_bytes(), ordinal, closing.at, closing.at])?;
    }
    for (uid, ordinal) in &closing.undeleted {
        tried.execute(params![id, uid.as_bytes(), ordinal, None::<Timestamp>, closing.at])?;
    }
    Ok(())
}

/// Doubts for good what a session has left open that is not `session` and did not close.
pub(super) fn doubt_open(tables: Tables<'_>, id: i64, session: i64) -> Result<()> {
    let sql = "SELECT publisher FROM maildrop WHERE id = ?1";
    let publisher: Option<Option<i64>> = tables.first(sql, params![id], |row| row.get(0))?;
    match publisher.flatten() {
        Some(other) if other != 0 && other != session => settle_open(tables, id, other, 1),
        Some(_) | None => Ok(()),
    }
}

fn settle_open(tables: Tables<'_>, id: i64, session: i64, deleting: u8) -> Result<()> {
    let sql = "UPDATE seen SET deleting = ?3 WHERE maildrop = ?1 AND deleting = ?2";
    tables.execute(sql, params![id, open_mark(session), deleting])
}

/// Adds to records what was left out of them for as long as their session lasted.
fn confirm(tables: Tables<'_>, id: i64, confirmed: &[(usize, Confirmed)]) -> Result<()> {
    let mut update = tables.prepare(
        "UPDATE seen SET deleting = 0, octets = ?4, listed = ?4, place = ?5, second = ?6
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    );
    confirmed.iter().try_for_each(|(_, Confirmed { name: (uid, ordinal), octets, place, second })| {
        let second = second.as_ref().map(to_blob);
        update.execute(params![id, uid.as_bytes(), ordinal, to_column(*octets), place, second])
    })
}

/// Has records asked about like those whose deletion may not have been real; what came alone says how large they are, and
/// neither their places nor what TOP showed of the messages that they may not be.
fn doubt(tables: Tables<'_>, id: i64, doubted: &[(UniqueId, u32)]) -> Result<()> {
    let mut update = tables.prepare(
        "UPDATE seen SET deleting = 1, octets = sent, listed = sent, place = NULL, second = NULL
         WHERE maildrop = ?1 AND uid = ?2 AND ordinal = ?3",
    );
    doubted.iter().try_for_each(|(uid, ordinal)| update.execute(params![id, uid.as_bytes(), ordinal]))
}

fn server(tables: Tables<'_>, id: i64, closing: &Closing) -> Result<()> {
    if let Some(learned) = &closing.learned {
        // Version 0.2 had the capabilities a second time.
        let sql = "UPDATE maildrop SET capabilities = NULL, learned = ?2 WHERE id = ?1";
        tables.execute(sql, params![id, learned])?;
    }
    match &closing.login {
        Some(outcome) => login(tables, id, closing.at, outcome),
        None => Ok(()),
    }
}

pub(super) fn login(tables: Tables<'_>, id: i64, at: Timestamp, outcome: &LogIn) -> Result<()> {
    match outcome {
        LogIn::Worked(worked) => tables.execute(
            "UPDATE maildrop SET login_ok_at = ?2, login_mark = ?3, refused_at = NULL, refused_count = NULL,
                 refused_credentials = NULL, refused_said = NULL, refused_class = NULL WHERE id = ?1",
            params![id, at, worked.mark],
        ),
        LogIn::Refused(refused) => tables.execute(
            "UPDATE maildrop SET refused_at = ?2, refused_count = ?3, refused_credentials = ?4,
                 refused_said = ?5, refused_class = ?6 WHERE id = ?1",
            params![
                id,
                refused.at,
                refused.count,
                refused.credentials,
                refused.said,
                refused.class.map(Class::name)
            ],
        ),
    }
}

/// Notes the poll for `status`, and that the session is closed if it was this one that published: one that could not
/// log in leaves the mark of one that was killed, since nothing has been recovered yet.
fn poll(tables: Tables<'_>, id: i64, session: i64, closing: &Closing) -> Result<()> {
    tables.execute(
        "UPDATE maildrop SET
             publisher = CASE WHEN publisher = ?2 AND ?7 = 0 THEN 0 ELSE publisher END,
             listed_at = coalesce(?3, listed_at), renames = coalesce(?4, renames),
             holes = coalesce(?5, holes), sample = coalesce(?6, sample)
         WHERE id = ?1",
        params![
            id,
            session,
            closing.listed_at,
            closing.naming.as_ref().map(|naming| naming.renames),
            closing.naming.as_ref().map(|naming| naming.holes),
            closing.naming.as_ref().map(|naming| &naming.sample[..]),
            closing.stays_open,
        ],
    )?;
    let Some(poll) = &closing.poll else { return Ok(()) };
    count(tables, closing.at, poll)?;
    // Whoever stopped it says nothing of the account: what the poll before came to stays.
    if poll.was_stopped() {
        return Ok(());
    }
    let (class, failure) = poll.failure.as_ref().map(|(class, text)| (class, text)).unzip();
    tables.execute(
        &format!(
            "UPDATE maildrop SET
                 poll_at = ?2, poll_account = ?3, poll_host = ?4, poll_class = CAST(?5 AS TEXT), poll_failure = ?6,
                 poll_messages = ?7, poll_octets = ?8, poll_listed = ?9, poll_backlog = ?10, poll_target = ?11,
                 -- Whoever watches is to hear of what is held, too. One to come is of a clock that was wrong.
                 last_success = CASE
                     WHEN CAST(?5 AS TEXT) IS NULL
                         AND NOT EXISTS (SELECT 1 FROM held WHERE maildrop = ?1 {SHOWN}) THEN ?2
                     WHEN last_success > ?2 THEN ?2 ELSE last_success END,
                 failures = CASE WHEN CAST(?5 AS TEXT) IS NULL THEN 0 ELSE failures + 1 END
             WHERE id = ?1"
        ),
        params![
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
            poll.target,
        ],
    )
}

pub(super) fn tell(tables: Tables<'_>, id: i64, told: &[(Subject, Option<Told>)]) -> Result<()> {
    let mut upsert = tables.prepare(
        "INSERT INTO told (maildrop, what, since, times, lasts, kinds, noticed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (maildrop, what) DO UPDATE SET
             since = excluded.since, times = excluded.times, lasts = excluded.lasts, kinds = excluded.kinds,
             noticed_at = excluded.noticed_at",
    );
    let mut delete = tables.prepare("DELETE FROM told WHERE maildrop = ?1 AND what = ?2");
    for (what, told) in told {
        let what = what.name();
        let Some(told) = told else {
            delete.execute(params![id, what])?;
            continue;
        };
        let kinds: String = told.kinds.iter().map(|(kind, at)| format!("{at} {kind}\n")).collect();
        upsert.execute(params![id, what, told.since, told.times, told.lasts, kinds, told.noticed_at])?;
    }
    Ok(())
}

impl Closing {
    /// Says whether nothing was found that is new, and nobody was told of anything: to lose that costs a poll.
    pub(super) fn is_idle(&self) -> bool {
        let Self { at: _, listed_at: _, open: _, naming: _, stays_open, vanished, returned, .. } = self;
        let Self { superseded, changes, pending, deleted, undeleted, doubted, confirmed, .. } = self;
        let Self { held, released, learned, login, told, poll, .. } = self;
        let lists = [vanished, returned, superseded];
        let names = [deleted, undeleted, doubted, released];
        lists.iter().all(|list| list.is_empty())
            && names.iter().all(|names| names.is_empty())
            && changes.is_empty()
            && pending.is_empty()
            && confirmed.is_empty()
            && held.is_empty()
            && told.is_empty()
            && learned.is_none()
            && !stays_open
            && matches!(login, None | Some(LogIn::Worked(_)))
            && poll.as_ref().is_some_and(|poll| poll.failure.is_none() && poll.messages == 0)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::state::{PollResult, schema};

    #[test]
    fn only_a_poll_that_has_found_nothing_new_may_be_lost() {
        let idle = || Closing { listed_at: Some(1), poll: Some(PollResult::default()), ..Closing::default() };
        assert!(idle().is_idle());
        let poll = |poll| Closing { poll: Some(poll), ..idle() };
        for closing in [
            Closing::default(),
            poll(PollResult { messages: 1, ..PollResult::default() }),
            poll(PollResult { failure: Some(("network".into(), "why".into())), ..PollResult::default() }),
            Closing { deleted: vec![(UniqueId::new(*b"a"), 0)], ..idle() },
            Closing { released: vec![(UniqueId::new(*b"a"), 0)], ..idle() },
            Closing { vanished: vec![0], ..idle() },
            Closing { told: vec![(Subject::Polls, None)], ..idle() },
            Closing { stays_open: true, ..idle() },
        ] {
            assert!(!closing.is_idle(), "{closing:?}");
        }
    }

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
