//! Databases that cannot be used: each is one clear error of a command and of a worker, with what to do about it.

use std::time::Duration;

use crate::site::SILENCE;
use crate::support::daemon::{Daemon, SOON};
use crate::support::postgres::Postgres;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{free_port, wait_until};

/// A database that cannot be used.
struct Bad {
    database: String,
    /// What is said of it, and what to do.
    says: &'static str,
    hint: &'static str,
    /// How `status` ends, which writes nothing.
    status: i32,
}

impl Bad {
    fn new(url: &str, says: &'static str, hint: &'static str) -> Self {
        Self { database: format!("{{ url: '{url}' }}"), says, hint, status: 75 }
    }

    /// One of the shared server, after these statements.
    fn after(sql: &str, says: &'static str, hint: &'static str) -> Self {
        let url = Postgres::shared().database();
        Postgres::shared().execute(name_of(&url), sql);
        Self::new(&url, says, hint)
    }

    /// One that has its tables, after these statements.
    fn with_tables(sql: &str, says: &'static str, hint: &'static str) -> Self {
        let url = Postgres::shared().database();
        home(&format!("{{ url: '{url}' }}")).must(&["status"], 0);
        Postgres::shared().execute(name_of(&url), sql);
        Self::new(&url, says, hint)
    }
}

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// A home whose account is at a server that is never asked.
fn home(database: &str) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "state: {{ postgres: {database} }}\nnotify: {{ deliver: false }}\ndaemon: {{ startup_spread: 0s }}\n\
         defaults: {{ timeout: 5s }}\naccounts:\n  a0: {{ host: 127.0.0.1, port: {}, tls: none, auth: [user-pass], user: u, \
         password: x, interval: 1h, deliver: {{ maildir: ~/Mail, shared: true }} }}\n",
        free_port()
    ));
    home
}

fn worker(home: &Home) -> Daemon {
    Daemon::start_with(home, &["daemon"], &[("POSTRIDER_FLEET_SILENCE", SILENCE)])
}

/// Has the server say that its disk is full when this is done to a table.
fn full(what: &str) -> String {
    format!(
        "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_ BEFORE {what} FOR EACH ROW EXECUTE FUNCTION full_()"
    )
}

const NEWER: &str = "a newer version made its tables";

#[test]
fn whatever_is_wrong_with_a_database_is_one_clear_error_of_commands_and_workers_with_what_to_do() {
    let port = free_port();
    let server = Postgres::start(port, "");
    server.execute("postgres", "ALTER USER postrider PASSWORD 'secret'");
    let far = format!("postgresql://postrider@127.0.0.1:{port}/postgres");
    let url = Postgres::shared().database();
    let read_only = format!("ALTER DATABASE {} SET default_transaction_read_only = on", name_of(&url));
    Postgres::shared().execute("postgres", &read_only);
    let cases = [
        Bad::new(
            &format!("postgresql://postrider@127.0.0.1:{}/postrider", free_port()),
            "onnection refused",
            "see whether it runs",
        ),
        Bad {
            database: format!("{{ url: '{far}', password: wrong }}"),
            ..Bad::new("", "password authentication failed", "check `url` and `password`")
        },
        Bad::new(&Postgres::shared().url("nowhere"), "database \"nowhere\" does not exist", "createdb"),
        Bad::new(
            &format!("{}?options=-csearch_path%3Dnowhere", Postgres::shared().database()),
            "no schema has been selected",
            "CREATE SCHEMA",
        ),
        Bad::after(
            "CREATE TABLE account (number INTEGER)",
            "relation \"account\" already exists",
            "make a schema for postrider alone",
        ),
        Bad::new(&url, "it takes no writes", "name the primary"),
        Bad {
            status: 0,
            ..Bad::with_tables(&full("INSERT ON worker"), "No space left on device", "make room there")
        },
        Bad::with_tables("UPDATE postrider SET oldest = 99", NEWER, "use that version"),
        Bad::with_tables(
            &format!("UPDATE postrider SET oldest = {}", i64::MAX),
            "was not copied whole",
            "do again what `postrider state copy`",
        ),
        Bad::with_tables("DELETE FROM postrider", "its table postrider is empty", "names the right database"),
    ];
    std::thread::scope(|scope| {
        for Bad { database, says, hint, status } in &cases {
            scope.spawn(move || {
                let home = home(database);
                let worker = worker(&home);
                let told = home.must(&["sync"], 75).stderr;
                assert!(told.contains(says) && told.contains(hint), "sync: {told}");
                let told = home.must(&["status"], *status).stderr;
                assert!(*status == 0 || told.contains(says) && told.contains(hint), "status: {told}");
                worker.logs(says);
                worker.logs(hint);
                let told = worker.log();
                assert_eq!(told.matches(says).count(), 1, "{told}");
                match *says {
                    NEWER => assert_eq!(worker.running.wait(LIMIT).status, Some(75), "{told}"),
                    _ => worker.stop(),
                }
            });
        }
    });
}

#[test]
fn a_worker_whose_lease_cannot_be_written_says_so_and_goes_on_when_it_can() {
    let url = Postgres::shared().database();
    let home = home(&format!("{{ url: '{url}' }}"));
    home.must(&["status"], 0);
    let database = name_of(&url);
    Postgres::shared().execute(database, &full("INSERT ON lease"));
    let worker = worker(&home);
    worker.logs("No space left on device");
    Postgres::shared().execute(database, "DROP TRIGGER full_ ON lease");
    let entered = || Postgres::shared().execute(database, "SELECT count(*) FROM lease WHERE failures > 0");
    assert!(wait_until(SOON, || entered() == "1"), "{}", worker.log());
    let told = worker.log();
    assert_eq!(told.matches("No space left on device").count(), 1, "{told}");
    worker.stop();
}

#[test]
fn a_worker_that_has_become_too_old_while_it_runs_says_so_and_ends_with_75() {
    let url = Postgres::shared().database();
    let home = home(&format!("{{ url: '{url}' }}"));
    let worker = worker(&home);
    let ask = |sql: &str| Postgres::shared().execute(name_of(&url), sql);
    home.must(&["status"], 0);
    assert!(wait_until(SOON, || ask("SELECT count(*) FROM worker") == "1"), "{}", worker.log());
    ask("UPDATE postrider SET version = 99, oldest = 99");
    worker.logs(NEWER);
    assert_eq!(worker.running.wait(Duration::from_secs(20)).status, Some(75));
    assert_eq!(ask("SELECT count(*) FROM worker"), "0", "it has left");
}
