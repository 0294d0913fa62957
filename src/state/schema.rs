//! The tables and their versions.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as ours (`PRAGMA application_id`, which `file` shows): "prdr".
const APPLICATION_ID: i64 = 0x7072_6472;

/// What leads from each schema version to the next; a file's `user_version` counts those that it has been through.
/// Portable SQL but for WITHOUT ROWID. A step that has been released never changes.
pub(super) const STEPS: &[&str] = &["
CREATE TABLE maildrop (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    -- Null: no session has ever published. 0: the last one that published has closed. Else the session that publishes.
    publisher INTEGER,
    listed_at INTEGER,
    capabilities BLOB,
    breaks_pipelining INTEGER NOT NULL DEFAULT 0,
    breaks_capa INTEGER NOT NULL DEFAULT 0,
    login_ok_at INTEGER,
    refused_at INTEGER,
    refused_count INTEGER,
    refused_credentials BLOB,
    poll_at INTEGER,
    poll_account TEXT,
    poll_host TEXT,
    poll_class TEXT,
    poll_failure TEXT,
    poll_messages INTEGER,
    poll_octets INTEGER,
    poll_listed INTEGER,
    poll_backlog INTEGER,
    last_success INTEGER,
    failures INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE seen (
    maildrop INTEGER NOT NULL,
    uid BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    delivered_at INTEGER,
    -- Null while each listing shows it, so that a poll that finds nothing new writes one row, not each.
    last_listed INTEGER,
    -- The first listing that did not show it.
    missed_at INTEGER,
    delete_tries INTEGER NOT NULL DEFAULT 0,
    deleted_at INTEGER,
    header BLOB,
    PRIMARY KEY (maildrop, uid, ordinal)
) WITHOUT ROWID;
CREATE INDEX seen_vanished ON seen (maildrop, last_listed) WHERE last_listed IS NOT NULL;
CREATE TABLE held (
    maildrop INTEGER NOT NULL,
    uid BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_try INTEGER NOT NULL,
    PRIMARY KEY (maildrop, uid, ordinal)
) WITHOUT ROWID;
", "
-- Who has the message although others of its recipients have not: addresses, a line each.
ALTER TABLE held ADD COLUMN recipients TEXT;
", "
-- When the user was told of a failure that lasts.
ALTER TABLE maildrop ADD COLUMN noticed_at INTEGER;
", "
-- The first listing that did not show it; only a message that some of its recipients have outlives that.
ALTER TABLE held ADD COLUMN missed_at INTEGER;
", "
-- Whose trouble it is: refused, later, no-room, too-large, breaks, short, undeletable.
ALTER TABLE held ADD COLUMN kind TEXT NOT NULL DEFAULT 'refused';
-- 1: it has failed, and is not held for it yet.
ALTER TABLE held ADD COLUMN suspected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE held ADD COLUMN tried_at INTEGER NOT NULL DEFAULT 0;
-- Of a message that came short: what came, how often the same, and since when.
ALTER TABLE held ADD COLUMN came BLOB;
ALTER TABLE held ADD COLUMN came_times INTEGER;
ALTER TABLE held ADD COLUMN came_since INTEGER;
UPDATE held SET kind = 'too-large' WHERE tries = 0 AND reason LIKE '%more than max_size allows%';
", "
-- What delivery targets have learned of their servers, by how they are shown; octets that only they understand.
CREATE TABLE target (
    name TEXT PRIMARY KEY,
    memory BLOB NOT NULL
) WITHOUT ROWID;
", "
-- What was learned of the server, in the session's own words; what it breaks under is in there, and heals.
ALTER TABLE maildrop ADD COLUMN learned BLOB;
ALTER TABLE maildrop DROP COLUMN breaks_pipelining;
ALTER TABLE maildrop DROP COLUMN breaks_capa;
", "
-- What the server said to the log-in that it refused last, the kind of trouble, and a mark of what worked last.
ALTER TABLE maildrop ADD COLUMN refused_said BLOB;
ALTER TABLE maildrop ADD COLUMN refused_class TEXT;
ALTER TABLE maildrop ADD COLUMN login_mark BLOB;
", "
-- 0: delivered. 1: only marked as seen. 2: listed, and not delivered yet. 3: held, and given up. 4: fetched by another
-- program.
ALTER TABLE seen ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
UPDATE seen SET kind = CASE WHEN delivered_at IS NULL THEN 1 WHEN header IS NULL THEN 3 ELSE 0 END;
-- What it is known by, whatever its server calls it. `header` is what version 0.1.0 recorded in the place of these: the
-- digest of the whole header, as it was sent.
ALTER TABLE seen ADD COLUMN identity BLOB;
ALTER TABLE seen ADD COLUMN second BLOB;
ALTER TABLE seen ADD COLUMN content BLOB;
-- Octets that RETR gave, those that were listed then, and those of the fields that servers write; 0: unknown.
ALTER TABLE seen ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE seen ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE seen ADD COLUMN fields INTEGER NOT NULL DEFAULT 0;
-- Its file in a maildir: the digest in the name, and the time. Null: as version 0.1.0 named it.
ALTER TABLE seen ADD COLUMN file BLOB;
-- Where it stands among the messages that go by their place.
ALTER TABLE seen ADD COLUMN place INTEGER;
ALTER TABLE seen ADD COLUMN due_since INTEGER;
ALTER TABLE seen ADD COLUMN tried_at INTEGER;
-- DELE was sent, or was about to be.
ALTER TABLE seen ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;
-- Whose message it is that some of its recipients have.
ALTER TABLE held ADD COLUMN content BLOB;
-- Listings in a row that shared no unique-id with the one before, and that left messages without one; digests of some
-- unique-ids of the last one.
ALTER TABLE maildrop ADD COLUMN renames INTEGER NOT NULL DEFAULT 0;
ALTER TABLE maildrop ADD COLUMN holes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE maildrop ADD COLUMN sample BLOB NOT NULL DEFAULT x'';
-- The latest time in the name of a file that a record has claimed: younger ones are of sessions that this state knows
-- nothing of, since it was put back from a copy.
ALTER TABLE maildrop ADD COLUMN newest_file INTEGER NOT NULL DEFAULT 0;
UPDATE maildrop SET newest_file = CAST(strftime('%s', 'now') AS INTEGER) * 1000000;
-- Files of ours in a maildir that no record claimed when the state was new, or when a session had not ended.
CREATE TABLE unclaimed (
    maildrop INTEGER NOT NULL,
    file BLOB NOT NULL,
    PRIMARY KEY (maildrop, file)
) WITHOUT ROWID;
", "
-- What somebody was told of.
CREATE TABLE told (
    maildrop INTEGER NOT NULL,
    -- What is in trouble: polls, held messages, a hook.
    what TEXT NOT NULL,
    since INTEGER NOT NULL,
    times INTEGER NOT NULL,
    lasts INTEGER NOT NULL,
    -- Kinds of trouble, a line each: when each was told last, and its name.
    kinds TEXT NOT NULL,
    -- When a message told its user.
    noticed_at INTEGER,
    PRIMARY KEY (maildrop, what)
) WITHOUT ROWID;
ALTER TABLE maildrop DROP COLUMN noticed_at;
", "
-- Who has a held message that others have not.
CREATE TABLE reached (
    maildrop INTEGER NOT NULL,
    uid BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    -- A target, by its name, else by kind and place; empty: the one that there was.
    target TEXT NOT NULL,
    -- Those of its recipients who have it: addresses, a line each. Null: all.
    recipients TEXT,
    -- The file that it is there.
    file BLOB,
    PRIMARY KEY (maildrop, uid, ordinal, target)
) WITHOUT ROWID;
INSERT INTO reached (maildrop, uid, ordinal, target, recipients)
    SELECT maildrop, uid, ordinal, '', recipients FROM held WHERE recipients IS NOT NULL;
ALTER TABLE held DROP COLUMN recipients;
ALTER TABLE held ADD COLUMN identity BLOB;
-- The target, if that was what failed.
ALTER TABLE maildrop ADD COLUMN poll_target TEXT;
", "
-- When a daemon is going to poll a maildrop: a word to who looks, which a power cut may take back.
CREATE TABLE due (maildrop TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
-- What the polls of an hour, by its number since 1970, brought, and how many failed.
CREATE TABLE hour (
    hour INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL DEFAULT 0,
    octets INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0
);
"];

/// The tables as all steps leave them, for a file that is new: to take each step costs ten times as much, since SQLite
/// reads the whole schema again at each change of a table.
const TABLES: &str = "
CREATE TABLE maildrop (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    publisher INTEGER,
    listed_at INTEGER,
    capabilities BLOB,
    login_ok_at INTEGER,
    refused_at INTEGER,
    refused_count INTEGER,
    refused_credentials BLOB,
    poll_at INTEGER,
    poll_account TEXT,
    poll_host TEXT,
    poll_class TEXT,
    poll_failure TEXT,
    poll_messages INTEGER,
    poll_octets INTEGER,
    poll_listed INTEGER,
    poll_backlog INTEGER,
    last_success INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    learned BLOB,
    refused_said BLOB,
    refused_class TEXT,
    login_mark BLOB,
    renames INTEGER NOT NULL DEFAULT 0,
    holes INTEGER NOT NULL DEFAULT 0,
    sample BLOB NOT NULL DEFAULT x'',
    newest_file INTEGER NOT NULL DEFAULT 0,
    poll_target TEXT
);
CREATE TABLE seen (
    maildrop INTEGER NOT NULL,
    uid BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    delivered_at INTEGER,
    last_listed INTEGER,
    missed_at INTEGER,
    delete_tries INTEGER NOT NULL DEFAULT 0,
    deleted_at INTEGER,
    header BLOB,
    kind INTEGER NOT NULL DEFAULT 0,
    identity BLOB,
    second BLOB,
    content BLOB,
    sent INTEGER NOT NULL DEFAULT 0,
    listed INTEGER NOT NULL DEFAULT 0,
    fields INTEGER NOT NULL DEFAULT 0,
    file BLOB,
    place INTEGER,
    due_since INTEGER,
    tried_at INTEGER,
    deleting INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (maildrop, uid, ordinal)
) WITHOUT ROWID;
CREATE INDEX seen_vanished ON seen (maildrop, last_listed) WHERE last_listed IS NOT NULL;
CREATE TABLE held (
    maildrop INTEGER NOT NULL,
    uid BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_try INTEGER NOT NULL,
    missed_at INTEGER,
    kind TEXT NOT NULL DEFAULT 'refused',
    suspected INTEGER NOT NULL DEFAULT 0,
    tried_at INTEGER NOT NULL DEFAULT 0,
    came BLOB,
    came_times INTEGER,
    came_since INTEGER,
    content BLOB,
    identity BLOB,
    PRIMARY KEY (maildrop, uid, ordinal)
) WITHOUT ROWID;
CREATE TABLE reached (
    maildrop INTEGER NOT NULL,
    uid BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    target TEXT NOT NULL,
    recipients TEXT,
    file BLOB,
    PRIMARY KEY (maildrop, uid, ordinal, target)
) WITHOUT ROWID;
CREATE TABLE target (name TEXT PRIMARY KEY, memory BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unclaimed (
    maildrop INTEGER NOT NULL,
    file BLOB NOT NULL,
    PRIMARY KEY (maildrop, file)
) WITHOUT ROWID;
CREATE TABLE told (
    maildrop INTEGER NOT NULL,
    what TEXT NOT NULL,
    since INTEGER NOT NULL,
    times INTEGER NOT NULL,
    lasts INTEGER NOT NULL,
    kinds TEXT NOT NULL,
    noticed_at INTEGER,
    PRIMARY KEY (maildrop, what)
) WITHOUT ROWID;
CREATE TABLE due (maildrop TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE hour (
    hour INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL DEFAULT 0,
    octets INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0
);
";

/// Gives the tables in PostgreSQL's words.
pub(super) fn tables_in_postgres() -> String {
    in_postgres(TABLES)
}

/// Gives statements in PostgreSQL's words. Its index is of all rows, since others have no partial ones.
pub(super) fn in_postgres(statements: &str) -> String {
    let words = [
        ("id INTEGER PRIMARY KEY", "id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
        ("INTEGER", "BIGINT"),
        ("BLOB", "BYTEA"),
        ("x''", "''"),
        (" WITHOUT ROWID", ""),
        (" WHERE last_listed IS NOT NULL", ""),
    ];
    words.iter().fold(statements.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
}

/// The newest version that this program knows.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Ours, in the version that this program uses.
    Current,
    /// Ours and older; a database without a table counts as version 0.
    Older(i64),
    Newer(i64),
    Foreign,
}

/// Reads what a file says of itself; touches its first page and its schema only.
pub(super) fn examine(connection: &Connection) -> rusqlite::Result<Found> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version")?;
    Ok(match number("PRAGMA application_id")? {
        APPLICATION_ID if version == VERSION => Found::Current,
        APPLICATION_ID if version > VERSION => Found::Newer(version),
        APPLICATION_ID if version >= 0 => Found::Older(version),
        0 if version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 => Found::Older(0),
        _ => Found::Foreign,
    })
}

/// Brings a file to the current version in one transaction; a no-op if another process was first.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Found::Older(version) = examine(&transaction)? {
        let steps = match version {
            0 => std::slice::from_ref(&TABLES),
            older => STEPS.get(usize::try_from(older).unwrap_or(usize::MAX)..).unwrap_or_default(),
        };
        for step in steps {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_database_becomes_current_and_stays_so() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Older(0));
        migrate(&mut connection).unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Current);
        migrate(&mut connection).unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Current);
    }

    /// Gives all columns and indexes, with all that is said of them.
    fn shape(connection: &Connection) -> Vec<String> {
        let mut select = connection
            .prepare(
                "SELECT t.name || ' ' || t.wr || t.strict, c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' '
                     || coalesce(c.dflt_value, '-') || ' ' || c.pk
                 FROM pragma_table_list t, pragma_table_xinfo(t.name) c WHERE t.name NOT LIKE 'sqlite%'
                 UNION ALL
                 SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL
                 ORDER BY 1, 2",
            )
            .unwrap();
        let columns =
            select.query_map([], |row| Ok(row.get::<_, String>(0)? + ": " + &row.get::<_, String>(1)?));
        columns.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_new_file_has_the_tables_that_an_old_one_has_after_all_steps() {
        let mut new = Connection::open_in_memory().unwrap();
        migrate(&mut new).unwrap();
        let mut old = Connection::open_in_memory().unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        migrate(&mut old).unwrap();
        assert!(shape(&new).len() > 70, "{:?}", shape(&new));
        assert_eq!(shape(&new), shape(&old));
    }

    #[test]
    fn a_file_of_any_older_version_keeps_what_it_says() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection.execute_batch("INSERT INTO held VALUES (1, x'61', 0, 5, 'why', 7, 2, 9)").unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Older(1));
        migrate(&mut connection).unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Current);
        let row = "SELECT reason || tries || next_try FROM held";
        let kept: String = connection.query_row(row, [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "why29");
    }

    #[test]
    fn who_has_a_message_is_kept_where_there_could_be_but_one_target() {
        let mut connection = Connection::open_in_memory().unwrap();
        let before = STEPS.iter().position(|step| step.contains("CREATE TABLE reached")).unwrap();
        STEPS[..before].iter().for_each(|step| connection.execute_batch(step).unwrap());
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", before as i64).unwrap();
        let insert =
            "INSERT INTO held (maildrop, uid, ordinal, octets, reason, since, tries, next_try, recipients)
             VALUES (1, x'61', 0, 5, 'why', 7, 2, 9, 'a@b'), (1, x'62', 0, 5, 'why', 7, 2, 9, NULL)";
        connection.execute_batch(insert).unwrap();
        migrate(&mut connection).unwrap();
        let row = "SELECT group_concat(hex(uid) || target || recipients) FROM reached";
        let kept: String = connection.query_row(row, [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "61a@b");
    }

    #[test]
    fn a_database_of_another_program_is_foreign_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Foreign);
        migrate(&mut connection).unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Foreign);
    }

    #[test]
    fn a_higher_version_of_ours_is_newer() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert_eq!(examine(&connection).unwrap(), Found::Newer(VERSION + 1));
    }
}
