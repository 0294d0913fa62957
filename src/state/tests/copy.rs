//! A state from a file into a database, and back.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::server::Postgres;
use super::*;
use crate::state::copy::{Copied, CopyError, Differing, Place, copy};
use crate::state::lease::DAEMON;
use crate::state::postgres::{Begun, Database, Keeper, Leases, Purpose};

/// Gives the tables of a file, and the columns of each.
fn tables(file: &Connection) -> Vec<(String, Vec<(String, String)>)> {
    let mut names =
        file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let columns = |table: &String| {
        let mut select = file.prepare("SELECT name, type FROM pragma_table_info(?1)").unwrap();
        let columns = select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        columns.map(Result::unwrap).collect()
    };
    names.iter().map(|name| (name.clone(), columns(name))).collect()
}

/// Puts so many rows into each table, with another value in each column.
fn fill(path: &Path, maildrops: i64, rows: i64) {
    let file = Connection::open(path).unwrap();
    for (table, columns) in tables(&file) {
        let count = if table == "maildrop" || table == "due" { maildrops } else { rows };
        for number in 1..=count {
            let value =
                |(place, (name, kind)): (usize, &(String, String))| match (name.as_str(), kind.as_str()) {
                    ("maildrop", "INTEGER") => Value::Integer(number % maildrops + 1),
                    ("identity", "TEXT") | ("maildrop", _) => Value::Text(format!("u{number}@h")),
                    ("id" | "at", _) => Value::Integer(number),
                    ("publisher", _) => Value::Null,
                    (_, "TEXT") => Value::Text(format!("{name} {number} \u{e4}\0")),
                    (_, "BLOB") => Value::Blob(vec![number as u8, 0, (number >> 8) as u8, place as u8]),
                    _ => Value::Integer(number * 1000 + place as i64 - (1 << 40)),
                };
            let values: Vec<Value> = columns.iter().enumerate().map(value).collect();
            let places: Vec<_> = (1..=values.len()).map(|place| format!("?{place}")).collect();
            let insert = format!("INSERT OR REPLACE INTO {table} VALUES ({})", places.join(", "));
            file.execute(&insert, rusqlite::params_from_iter(values)).unwrap();
        }
    }
}

/// Gives all that a file says, but for the numbers of maildrops; a database has no NUL in a text.
fn said(path: &Path) -> Vec<String> {
    let file = Connection::open(path).unwrap();
    let mut all = Vec::new();
    for (table, columns) in tables(&file) {
        let is_number = |(name, kind): &&(String, String)| name == "maildrop" && kind == "INTEGER";
        let own = columns.iter().filter(|column| column.0 != "id" && !is_number(column));
        let own: Vec<_> = own.map(|(name, _)| format!("t.{name}")).collect();
        let (whose, with) = match columns.iter().any(|column| is_number(&column)) {
            true => ("m.identity", "JOIN maildrop m ON m.id = t.maildrop"),
            false => ("''", ""),
        };
        let sql = format!("SELECT {whose}, {} FROM {table} t {with}", own.join(", "));
        let mut select = file.prepare(&sql).unwrap();
        let row =
            |row: &rusqlite::Row<'_>| (0..=own.len()).map(|column| row.get::<_, Value>(column)).collect();
        let rows = select.query_map([], row).unwrap();
        let rows = rows.map(|row: rusqlite::Result<Vec<Value>>| format!("{table}: {:?}", row.unwrap()));
        all.extend(rows.map(|row| row.replace("\\0", "\u{fffd}")));
    }
    all.sort();
    all
}

async fn filled(maildrops: i64, rows: i64) -> (TempDir, PathBuf) {
    let (directory, path) = directory();
    drop(made(&path).await);
    fill(&path, maildrops, rows);
    (directory, path)
}

fn database() -> (String, Place) {
    let url = Postgres::shared().database();
    let place = Place::Database(on_postgres::server(Path::new(&url)));
    (url.rsplit_once('/').unwrap().1.to_owned(), place)
}

fn file(path: &Path) -> Place {
    Place::File(path.to_owned())
}

#[tokio::test]
async fn all_that_a_file_says_is_in_the_database_and_comes_back() {
    let (directory, path) = filled(120, 600).await;
    let (name, there) = database();
    let copied = copy(file(&path), there.clone(), Differing::Stays).await.unwrap();
    assert_eq!((copied.maildrops, copied.there), (120, 0));
    let leases = Postgres::shared()
        .execute(&name, "SELECT count(*), min(due) = 'epoch'::timestamptz + interval '1 s' FROM lease");
    assert_eq!(leases, "120|t");
    let back = directory.path().join("back.db");
    assert_eq!(copy(there.clone(), file(&back), Differing::Stays).await.unwrap(), copied);
    let (expected, found) = (said(&path), said(&back));
    assert!(expected.len() > 6 * 600, "{}", expected.len());
    for (ours, theirs) in expected.iter().zip(&found) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(expected.len(), found.len());
    // Nothing is done twice.
    let again = Copied { maildrops: 0, rows: 0, there: 120 };
    assert_eq!(copy(file(&path), there, Differing::Stays).await.unwrap(), again);
}

#[tokio::test]
async fn what_differs_stays_unless_it_is_to_be_replaced() {
    let (_directory, path) = filled(3, 9).await;
    let (name, there) = database();
    copy(file(&path), there.clone(), Differing::Stays).await.unwrap();
    Postgres::shared().execute(&name, "UPDATE maildrop SET failures = 77 WHERE identity = 'u2@h'");
    Postgres::shared().execute(
        &name,
        "DELETE FROM held WHERE maildrop = (SELECT id FROM maildrop WHERE identity = 'u3@h')",
    );
    let differ = copy(file(&path), there.clone(), Differing::Stays).await.unwrap_err();
    assert!(matches!(&differ, CopyError::Differ { count: 2, first, .. } if first == "u2@h"), "{differ}");
    assert!(differ.hint().unwrap().contains("--replace"));
    assert_eq!(Postgres::shared().execute(&name, "SELECT max(failures) FROM maildrop"), "77");
    assert_eq!(Postgres::shared().execute(&name, "SELECT oldest FROM postrider"), "12");
    let replaced = copy(file(&path), there, Differing::IsReplaced).await.unwrap();
    assert_eq!((replaced.maildrops, replaced.there), (2, 1));
    assert_ne!(Postgres::shared().execute(&name, "SELECT max(failures) FROM maildrop"), "77");
}

#[tokio::test]
async fn a_maildrop_of_which_a_worker_has_made_the_row_is_not_there_yet() {
    let (_directory, path) = filled(2, 4).await;
    let (name, there) = database();
    let Place::Database(server) = &there else { unreachable!() };
    server.connect().await.unwrap();
    Postgres::shared().execute(&name, "INSERT INTO maildrop (identity) VALUES ('u1@h')");
    assert_eq!(copy(file(&path), there, Differing::Stays).await.unwrap().maildrops, 2);
}

#[tokio::test]
async fn nothing_is_copied_from_or_into_what_is_in_use() {
    let (_directory, path) = filled(2, 4).await;
    let (name, there) = database();
    let refused = |from: Place, to: Place, by: &'static str| async move {
        let error = copy(from, to, Differing::Stays).await.unwrap_err();
        assert!(error.to_string().contains(by), "{error}");
        assert!(matches!(error, CopyError::InUse { .. }), "{error}");
    };
    let daemon = Lease::take(&path, DAEMON, std::time::Duration::ZERO).await.unwrap();
    refused(file(&path), there.clone(), "a daemon runs with it").await;
    drop(daemon);
    let session = Lease::take(&path, "u2@h", std::time::Duration::ZERO).await.unwrap();
    refused(file(&path), there.clone(), "u2@h is being polled").await;
    drop(session);
    let Place::Database(server) = &there else { unreachable!() };
    server.connect().await.unwrap();
    let worker = "INSERT INTO worker (id, name, version, beat) VALUES (1, 'busy:1', '0', now())";
    Postgres::shared().execute(&name, worker);
    refused(file(&path), there.clone(), "worker busy:1 polls with it").await;
    let back = path.with_file_name("back.db");
    refused(there.clone(), file(&back), "worker busy:1 polls with it").await;
    // It was killed, and is back when the copy has begun: it cannot go on.
    Postgres::shared().execute(&name, "UPDATE worker SET beat = now() - interval '1 minute'");
    copy(file(&path), there, Differing::Stays).await.unwrap();
    assert_eq!(Postgres::shared().execute(&name, "SELECT evicted FROM worker"), "t");
    let missing = copy(file(&path.with_file_name("none.db")), file(&back), Differing::Stays).await;
    assert!(matches!(missing, Err(CopyError::Missing(_))));
}

#[tokio::test]
async fn nobody_records_in_a_database_that_has_a_part_of_a_state() {
    let (_directory, path) = filled(250, 500).await;
    let (name, there) = database();
    let Place::Database(server) = &there else { unreachable!() };
    server.connect().await.unwrap();
    // The last maildrop is refused there.
    let limit = "ALTER TABLE maildrop ADD CONSTRAINT most CHECK (identity <> 'u99@h')";
    Postgres::shared().execute(&name, limit);
    assert!(copy(file(&path), there.clone(), Differing::Stays).await.is_err());
    assert_eq!(Postgres::shared().execute(&name, "SELECT count(*) FROM maildrop"), "200");
    let half = server.connect().await.unwrap_err();
    assert!(matches!(half, StateError::Database { trouble: Trouble::HalfCopied, .. }), "{half}");
    let back = copy(there.clone(), file(&path.with_file_name("back.db")), Differing::Stays).await;
    assert!(matches!(back, Err(CopyError::State(StateError::Database { trouble: Trouble::HalfCopied, .. }))));
    // Another state does not make it whole.
    let (_directory_of_another, another) = filled(3, 3).await;
    let refused = copy(file(&another), there.clone(), Differing::Stays).await.unwrap_err();
    let half = path.canonicalize().unwrap().display().to_string();
    assert!(matches!(&refused, CopyError::Begun { of, .. } if of.starts_with(&half)), "{refused}");
    assert!(server.connect().await.is_err());
    Postgres::shared().execute(&name, "ALTER TABLE maildrop DROP CONSTRAINT most");
    let rest = copy(file(&path), there.clone(), Differing::Stays).await.unwrap();
    assert_eq!((rest.maildrops, rest.there), (50, 200));
    assert!(server.connect().await.is_ok());
    let rest = copy(file(&another), there, Differing::IsReplaced).await.unwrap();
    assert_eq!(rest.maildrops, 3);
}

#[tokio::test]
async fn a_file_is_written_whole_or_not_at_all() {
    let (_directory, path) = filled(120, 300).await;
    let (_, there) = database();
    copy(file(&path), there.clone(), Differing::Stays).await.unwrap();
    let back = path.with_file_name("back.db");
    drop(made(&back).await);
    let limit = "CREATE TRIGGER most BEFORE INSERT ON maildrop WHEN NEW.identity = 'u99@h' BEGIN SELECT RAISE(ABORT, 'no'); END";
    Connection::open(&back).unwrap().execute_batch(limit).unwrap();
    assert!(copy(there, file(&back), Differing::Stays).await.is_err());
    let count: i64 = Connection::open(&back)
        .unwrap()
        .query_row("SELECT count(*) FROM maildrop", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_worker_that_was_connected_before_a_copy_began_joins_only_once_it_is_whole() {
    let (_directory, path) = on_postgres::directory();
    let server = on_postgres::server(&path);
    let leases = Leases::new(Database::new(server.clone()));
    let worker = leases.join("w").await.unwrap();
    let copies = |work: fn(&mut Keeper)| {
        let server = server.clone().used_for(Purpose::CopyInto);
        tokio::task::spawn_blocking(move || work(&mut Keeper::new(server).unwrap()))
    };
    let in_use = |keeper: &mut Keeper| assert_eq!(keeper.shut_out("x").unwrap(), Err(vec!["w".to_owned()]));
    copies(in_use).await.unwrap();
    leases.leave(worker).await.unwrap();
    copies(|keeper| assert_eq!(keeper.shut_out("x").unwrap(), Ok(Begun::Nothing))).await.unwrap();
    for refused in [leases.join("w").await.map(drop), leases.may_go_on().await] {
        let error = refused.unwrap_err();
        assert!(matches!(error, StateError::Database { trouble: Trouble::HalfCopied, .. }), "{error}");
    }
    assert_eq!(leases.workers().await.unwrap(), []);
    copies(|keeper| keeper.let_in().unwrap().unwrap()).await.unwrap();
    leases.join("w").await.unwrap();
}
