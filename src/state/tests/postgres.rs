//! Connections to a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::types::Type;

use super::server::Postgres;
use super::*;
use crate::config;
use crate::secret::Secret;
use crate::state::fleet::{Standings, Tally};
use crate::state::outlook::{Seen, Which};
use crate::state::postgres::prepare::Known;
use crate::state::postgres::{Database, Leases, Server, Vault};

fn database(url: &str) -> Database {
    Database::new(Server::new(config::Postgres::new(url).unwrap(), None))
}

fn trouble(error: &StateError) -> Trouble {
    match error {
        StateError::Database { trouble, .. } => *trouble,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn statements_of_several_tasks_share_a_connection() {
    let database = database(&Postgres::shared().database());
    let one = database.query("SELECT $1 + 1", &[(&41_i64, Type::INT8)]);
    let other = database.query("SELECT pg_backend_pid(), $1", &[(&"x", Type::TEXT)]);
    let (one, other) = tokio::join!(one, other);
    assert_eq!(one.unwrap()[0].get::<_, i64>(0), 42);
    assert_eq!(other.unwrap()[0].get::<_, &str>(1), "x");
    let error = database.query("SELECT 1 / $1", &[(&0_i64, Type::INT8)]).await.unwrap_err();
    assert_eq!(trouble(&error), Trouble::Value);
    assert!(error.to_string().contains("division by zero [22012]"), "{error}");
}

#[tokio::test]
async fn a_statement_that_others_come_between_is_tried_again() {
    let url = Postgres::shared().database() + "?options=-cdefault_transaction_isolation%3Dserializable";
    let [one, other] = [database(&url), database(&url)];
    one.query("CREATE TABLE t (a BIGINT)", &[]).await.unwrap();
    one.query("INSERT INTO t VALUES (0)", &[]).await.unwrap();
    let add = |database: Database| async move {
        for _ in 0..20 {
            database.query("UPDATE t SET a = a + 1", &[]).await.unwrap();
        }
    };
    tokio::join!(add(one.clone()), add(other));
    assert_eq!(one.query("SELECT a FROM t", &[]).await.unwrap()[0].get::<_, i64>(0), 40);
}

#[tokio::test]
async fn a_connection_that_was_cut_is_made_anew() {
    let database = database(&Postgres::shared().database());
    let pid = "SELECT pg_backend_pid()";
    let first: i32 = database.query(pid, &[]).await.unwrap()[0].get(0);
    let killed =
        Postgres::shared().execute("postgres", &format!("SELECT pg_terminate_backend({first}, 5000)"));
    assert_eq!(killed, "t");
    let mut tries = 0;
    let second: i32 = loop {
        match database.query(pid, &[]).await {
            Ok(rows) => break rows[0].get(0),
            // It was sent before anybody could know.
            Err(error) => assert_eq!(trouble(&error), Trouble::Lost),
        }
        tries += 1;
        assert!(tries < 3);
    };
    assert_ne!(first, second);
}

#[tokio::test]
async fn what_is_wrong_with_the_database_is_one_clear_error() {
    let server = Postgres::shared();
    let url = server.database();
    let error = |url: String| async move { database(&url).query("SELECT 1", &[]).await.unwrap_err() };
    let missing = error(server.url("missing")).await;
    assert_eq!(trouble(&missing), Trouble::NoDatabase);
    let said = "cannot use the database missing at /";
    assert!(missing.to_string().starts_with(said), "{missing}");
    assert!(missing.to_string().contains("database \"missing\" does not exist"), "{missing}");
    assert_eq!(trouble(&error("postgresql://u@127.0.0.1:1/x".into()).await), Trouble::Unreachable);
    assert_eq!(trouble(&error("postgresql://u@%2Fnowhere/x".into()).await), Trouble::Unreachable);
    assert_eq!(trouble(&error(url.replace("postrider@", "stranger@")).await), Trouble::LogIn);
    let name = url.rsplit_once('/').unwrap().1;
    server.execute("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    assert_eq!(trouble(&error(url).await), Trouble::ReadOnly);
}

#[tokio::test]
async fn what_has_the_name_of_a_table_and_is_not_ours_is_named_and_a_schema_of_its_own_helps() {
    let server = Postgres::shared();
    for (foreign, name) in [
        ("CREATE TABLE account (x INTEGER)", "account"),
        ("CREATE VIEW worker AS SELECT 1 AS x", "worker"),
        ("CREATE TYPE lease AS (x INTEGER)", "lease"),
        ("CREATE TABLE postrider (x INTEGER)", "postrider"),
        (
            "CREATE TABLE postrider (version TEXT, oldest TEXT); INSERT INTO postrider VALUES ('a', 'b')",
            "postrider",
        ),
    ] {
        let url = server.database();
        let own = url.rsplit_once('/').unwrap().1;
        server.execute(own, foreign);
        let error = database(&url).query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(trouble(&error), Trouble::Foreign, "{foreign}: {error}");
        assert!(error.to_string().contains(&format!("\"{name}\"")), "{error}");
        assert!(error.hint().unwrap().contains("?options=-csearch_path"), "{foreign}");
        let elsewhere = database(&format!("{url}?options=-csearch_path%3Down"));
        let nowhere = elsewhere.query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(trouble(&nowhere), Trouble::NoSchema, "{nowhere}");
        server.execute(own, "CREATE SCHEMA own");
        assert!(elsewhere.query("SELECT id, revision FROM account", &[]).await.unwrap().is_empty());
        assert_eq!(server.execute(own, "SELECT count(*) FROM own.postrider"), "1");
    }
}

#[tokio::test]
async fn a_password_is_shown_to_the_server_alone() {
    let port = super::server::free_port();
    let server = Postgres::start(port, "");
    server.execute("postgres", "ALTER USER postrider PASSWORD 'secret'");
    let log_in = |password: Option<&str>| {
        let postgres =
            config::Postgres::new(&format!("postgresql://postrider@127.0.0.1:{port}/postgres")).unwrap();
        let server = Server::new(postgres, password.map(Secret::new));
        assert!(!format!("{server:?}").contains("secret\""));
        Database::new(server)
    };
    assert!(log_in(Some("secret")).query("SELECT 1", &[]).await.is_ok());
    for wrong in [Some("wrong"), None] {
        let error = log_in(wrong).query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(trouble(&error), Trouble::LogIn, "{error}");
    }
}

#[tokio::test]
async fn a_password_that_is_missing_and_a_mechanism_that_is_not_ours_are_troubles_of_the_log_in() {
    for (asked, what) in [
        (&b"R\0\0\0\x08\0\0\0\x03"[..], "password missing"),
        (b"R\0\0\0\x08\0\0\0\x07", "unsupported authentication method"),
        (b"R\0\0\0\x0b\0\0\0\x0aX\0\0", "password missing"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u@{}/x", listener.local_addr().unwrap());
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            stream.write_all(asked).await.unwrap();
            std::future::pending::<()>().await;
        };
        let error = tokio::select! {
            error = async { database(&url).query("SELECT 1", &[]).await.unwrap_err() } => error,
            () = answers => unreachable!(),
        };
        assert_eq!(trouble(&error), Trouble::LogIn, "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn two_processes_that_make_the_tables_at_once_make_them_once() {
    let server = Postgres::shared();
    let url = server.database();
    let prepare = || {
        let server = Server::new(config::Postgres::new(&url).unwrap(), None);
        async move { server.connect().await.map(drop) }
    };
    let (one, other, third) = tokio::join!(prepare(), prepare(), prepare());
    assert_eq!((one, other, third), (Ok(()), Ok(()), Ok(())));
    assert_eq!(prepare().await, Ok(()));
    let name = url.rsplit_once('/').unwrap().1;
    assert_eq!(server.execute(name, "SELECT count(*) FROM postrider"), "1");
    server.execute(name, "UPDATE postrider SET version = 99, oldest = 12");
    assert_eq!(prepare().await, Ok(()), "an old one may run beside a new one");
    server.execute(name, "UPDATE postrider SET oldest = 99");
    let newer = prepare().await.unwrap_err();
    assert_eq!(trouble(&newer), Trouble::Newer);
    assert!(newer.to_string().contains("(schema 99; this one knows 12)"), "{newer}");
}

/// A release to come, which has taken one more step.
fn later(oldest: i64) -> Known {
    let step = "ALTER TABLE maildrop ADD COLUMN later INTEGER NOT NULL DEFAULT 7;
                CREATE TABLE found (maildrop INTEGER NOT NULL, octets BLOB, PRIMARY KEY (maildrop)) WITHOUT ROWID;";
    let steps: Vec<&str> = Known::OURS.steps.iter().copied().chain([step]).collect();
    Known { steps: steps.leak(), oldest }
}

#[tokio::test]
async fn an_old_release_goes_on_in_tables_that_the_next_one_has_brought_up_to_date() {
    let (_directory, path) = on_postgres::directory();
    let (old, name) = (on_postgres::server(&path), path.to_str().unwrap().rsplit_once('/').unwrap().1);
    let store = Store::connect(old.clone());
    let memory = begin(&store).await;
    record(&store, &memory.key, 1, &["a"]).await;
    let leases = Leases::new(Database::new(old.clone()));
    leases.join("old").await.unwrap();
    // All new ones start at once, while the old one works.
    let new = || async { old.clone().knowing(later(12)).connect().await.map(drop) };
    let (one, other, third) = tokio::join!(new(), new(), new());
    assert_eq!((one, other, third), (Ok(()), Ok(()), Ok(())));
    let shown = |sql: &str| Postgres::shared().execute(name, sql);
    assert_eq!(shown("SELECT version, oldest FROM postrider"), "13|12");
    assert_eq!(shown("SELECT count(*), max(later) FROM maildrop"), "1|7");
    record(&store, &memory.key, 1, &["b"]).await;
    store.close(&memory.key, &memory.entries, listed(2)).await.unwrap();
    // One that starts anew, too.
    let again = Store::connect(old.clone());
    assert_eq!(names(&again).await, ["a", "b"]);
    let newer = Store::connect(old.clone().knowing(later(12)));
    record(&newer, &begin(&newer).await.key, 3, &["c"]).await;
    assert_eq!(names(&again).await, ["a", "b", "c"]);
    // The release after that does without what the old one needs.
    shown("UPDATE postrider SET oldest = 13");
    let refused = old.connect().await.unwrap_err();
    assert_eq!(trouble(&refused), Trouble::Newer);
    assert!(refused.hint().unwrap().contains("that version"), "{refused}");
    // One that is connected hears of it, too.
    assert!(leases.may_go_on().await.unwrap_err().is_of_newer_tables());
    assert!(leases.join("old").await.unwrap_err().is_of_newer_tables());
    assert_eq!(new().await, Ok(()));
    shown("UPDATE postrider SET version = 3, oldest = 3");
    assert_eq!(trouble(&old.connect().await.unwrap_err()), Trouble::NoTables);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_tables_to_the_old_release() {
    let (_directory, path) = on_postgres::directory();
    let old = on_postgres::server(&path);
    old.connect().await.unwrap();
    let steps: Vec<&str> =
        Known::OURS.steps.iter().copied().chain(["ALTER TABLE none ADD COLUMN x INTEGER;"]).collect();
    let broken = old.clone().knowing(Known { steps: steps.leak(), oldest: 13 });
    assert_eq!(trouble(&broken.connect().await.unwrap_err()), Trouble::NoTables);
    assert!(old.connect().await.is_ok());
}

#[tokio::test]
async fn a_process_that_stops_inside_a_transaction_does_not_hold_what_it_has_locked() {
    let server = Server::new(config::Postgres::new(&Postgres::shared().database()).unwrap(), None);
    let client = server.connect().await.unwrap();
    client.batch_execute(crate::state::postgres::connection::BEGIN).await.unwrap();
    let shown = client.query_typed("SHOW idle_in_transaction_session_timeout", &[]).await.unwrap();
    let shown: Duration = humantime::parse_duration(shown[0].get(0)).unwrap();
    assert!(shown <= Duration::from_secs(10), "{shown:?}");
}

#[tokio::test]
async fn a_session_whose_lease_is_anothers_writes_nothing_and_spoils_nobody_elses() {
    let (_directory, path) = on_postgres::directory();
    let store = Store::connect(on_postgres::server(&path));
    let stale = begin(&store).await;
    record(&store, &stale.key, 1, &["before"]).await;
    let other = begin_with(&store, "bob@h").await;
    let current = begin(&store).await;
    let write = |key: MaildropKey, name: &'static str| {
        let store = store.clone();
        tokio::spawn(async move { store.record(&key, 2, vec![delivery(name, 0)]).await })
    };
    let (bob, zombie, mine) = (
        write(other.key.clone(), "bob"),
        write(stale.key.clone(), "zombie"),
        write(current.key.clone(), "mine"),
    );
    assert_eq!((bob.await.unwrap(), mine.await.unwrap()), (Ok(()), Ok(())));
    let lost =
        |outcome: Result<(), StateError>| assert_eq!(trouble(&outcome.unwrap_err()), Trouble::LeaseLost);
    lost(zombie.await.unwrap());
    lost(store.publishing(&stale.key, Vec::new()).await);
    lost(store.reached(&stale.key, 2, Vec::new()).await);
    lost(store.forget_messages(&stale.key).await);
    lost(store.close(&stale.key, &stale.entries, listed(3)).await);
    let worked = LogIn::Worked(LogInWorked { mark: Vec::new() });
    lost(store.under(Some(stale.key.session)).logged_in(ALICE.into(), 3, worked).await);
    assert_eq!(names(&store).await, ["before", "mine"]);
    assert_eq!(begin(&store).await.listed_at, None);
    // Nobody has claimed anything.
    let unclaimed = store.begin("carol@h".into()).await.unwrap();
    lost(store.record(&unclaimed.key, 1, vec![delivery("c", 0)]).await);
}

#[tokio::test]
async fn what_was_recorded_is_there_after_the_server_has_crashed_and_the_store_goes_on() {
    let mut server = Postgres::start(0, "");
    let url = server.database();
    let store = Store::connect(on_postgres::server(Path::new(&url)));
    let memory = begin(&store).await;
    record(&store, &memory.key, 1, &["a"]).await;
    server.stop_at_once();
    let gone = store.record(&memory.key, 1, vec![delivery("b", 0)]).await.unwrap_err();
    assert!(matches!(trouble(&gone), Trouble::Unreachable | Trouble::Lost), "{gone}");
    assert_eq!(trouble(&store.seen(ALICE.into()).await.unwrap_err()), Trouble::Unreachable);
    server.run();
    record(&store, &memory.key, 1, &["c"]).await;
    assert_eq!(names(&store).await, ["a", "c"]);
}

#[tokio::test]
async fn a_connection_that_is_cut_between_two_requests_costs_neither() {
    let (_directory, path) = on_postgres::directory();
    let store = Store::connect(on_postgres::server(&path));
    let memory = begin(&store).await;
    let name = path.to_str().unwrap().rsplit_once('/').unwrap().1;
    let cut = format!(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    for n in ["a", "b", "c"] {
        assert_ne!(Postgres::shared().execute("postgres", &cut), "0");
        record(&store, &memory.key, 1, &[n]).await;
    }
    assert_eq!(names(&store).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_full_disk_there_is_told_and_the_rest_goes_on() {
    let (_directory, path) = on_postgres::directory();
    let store = Store::connect(on_postgres::server(&path));
    let memory = begin(&store).await;
    let name = path.to_str().unwrap().rsplit_once('/').unwrap().1;
    let full = "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_ BEFORE INSERT ON seen FOR EACH ROW EXECUTE FUNCTION full_()";
    Postgres::shared().execute(name, full);
    let error = store.record(&memory.key, 1, vec![delivery("a", 0)]).await.unwrap_err();
    assert_eq!(trouble(&error), Trouble::Full);
    assert!(error.hint().unwrap().contains("make room"));
    // From now on it is asked before anything is delivered.
    assert_eq!(store.has_room().await, Ok(()));
    let also = "CREATE TRIGGER full_ BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION full_()";
    Postgres::shared().execute(name, also);
    assert_eq!(store.has_room().await, Ok(()), "it has not been full since");
    store.record(&memory.key, 1, vec![delivery("a", 0)]).await.unwrap_err();
    assert_eq!(trouble(&store.has_room().await.unwrap_err()), Trouble::Full);
    Postgres::shared().execute(name, "DROP TRIGGER full_ ON seen; DROP TRIGGER full_ ON target");
    assert_eq!(store.has_room().await, Ok(()));
    record(&store, &memory.key, 1, &["a"]).await;
    assert_eq!(Postgres::shared().execute(name, "SELECT count(*) FROM target"), "0");
}

#[tokio::test]
async fn how_workers_and_hosts_stand_is_read_at_once_and_whose_turn_a_maildrop_is() {
    let (_directory, path) = on_postgres::directory();
    let store = Store::connect(on_postgres::server(&path));
    let name = path.to_str().unwrap().rsplit_once('/').unwrap().1;
    for (maildrop, failure) in [("a@h", Some("network")), ("b@h", None), ("c@h", None)] {
        let memory = begin_with(&store, maildrop).await;
        let failure = failure.map(|class| (class.to_owned(), "why".to_owned()));
        let poll = PollResult { account: maildrop.into(), failure, ..PollResult::default() };
        let closing = Closing { poll: Some(poll), ..listed(7) };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
    }
    Postgres::shared().execute(
        name,
        "INSERT INTO worker (id, name, version, beat, claims) VALUES (1, 'mx1:1', '0.3.0', now(), 12);
         INSERT INTO worker (id, name, version, beat, evicted) VALUES (2, 'mx2:1', '0.3.0', now(), true);
         UPDATE lease SET token = 0, owner = 0, due = now() + interval '1 h', host = 'h';
         UPDATE lease SET due = now() - interval '90 s', failures = 3 WHERE maildrop = (SELECT id FROM maildrop WHERE identity = 'a@h');
         UPDATE lease SET token = 5, owner = 1, host = 'other' WHERE maildrop = (SELECT id FROM maildrop WHERE identity = 'b@h');
         UPDATE lease SET owner = 2, due = now() + interval '100 years' WHERE maildrop = (SELECT id FROM maildrop WHERE identity = 'c@h')",
    );
    let found = store.overview(Which::All, Seen::Counted).await.unwrap();
    let fleet = found.fleet.unwrap();
    assert_eq!(
        (fleet.live(), fleet.evicted(), fleet.workers[0].claims, fleet.workers[0].polling),
        (1, 1, 12, 1)
    );
    assert!((90..600).contains(&fleet.lag_seconds), "{}", fleet.lag_seconds);
    let all = Tally { maildrops: 3, polling: 1, waiting: 1, failing: 1 };
    assert_eq!(fleet.all, all);
    let hosts: Vec<_> =
        fleet.hosts.iter().map(|of| (of.host.as_str(), of.tally.maildrops, of.tally.waiting)).collect();
    assert_eq!(hosts, [("h", 2, 1), ("other", 1, 0)]);
    assert_eq!(fleet.accounts, Standings { polled: 3, failing: 1, holding: 0, held: 0 });
    let next = |maildrop: &str| found.next_polls[maildrop].clone();
    assert_eq!((next("b@h").worker.as_deref(), next("b@h").is_polled), (Some("mx1:1"), true));
    assert_eq!(
        (next("c@h").worker, next("c@h").due),
        (None, None),
        "its worker is gone, and nobody has asked"
    );
    assert!(next("a@h").due.is_some());
    assert_eq!((found.maildrops.len(), found.in_all), (3, None));
    Postgres::shared().execute(
        name,
        "INSERT INTO maildrop (identity) SELECT n || '@many' FROM generate_series(1, 1000) n;
         INSERT INTO lease (maildrop) SELECT id FROM maildrop WHERE identity LIKE '%@many'",
    );
    let worst = store.overview(Which::All, Seen::Counted).await.unwrap();
    let names: Vec<_> = worst.maildrops.iter().map(|known| known.maildrop.identity.as_str()).collect();
    assert_eq!((names, worst.next_polls.len(), worst.in_all), (vec!["a@h"], 1, Some(1003)));
    let these = Which::These(vec!["b@h".into(), "none@h".into()]);
    assert_eq!(store.overview(these, Seen::Uncounted).await.unwrap().maildrops.len(), 1);
    assert!(store.overview(Which::These(Vec::new()), Seen::Counted).await.unwrap().maildrops.is_empty());
}

#[tokio::test]
async fn tokens_are_written_though_the_database_was_away_and_nobody_waits_any_more() {
    use zeroize::Zeroizing;

    use crate::state::tokens::Shelf;
    const SOON: Duration = Duration::from_secs(20);
    let mut server = Postgres::start(0, "");
    let database = Database::new(on_postgres::server(Path::new(&server.database())));
    let ring = crate::seal::Ring::new(&[Secret::new("A".repeat(42) + "A=")]).unwrap();
    let shelf = Shelf::In(Vault::new(database, Arc::new(ring)));
    let turn = shelf.turn("alice", SOON).await.unwrap().unwrap();
    server.stop_at_once();
    let octets = Zeroizing::new(b"rotated".to_vec());
    let written = turn.room().await.unwrap().write(octets.clone());
    assert!(tokio::time::timeout(SOON / 20, written).await.is_err(), "it is waited for");
    drop(turn);
    server.run();
    let again = shelf.turn("alice", SOON).await.unwrap();
    assert!(again.is_some(), "it is given back");
    assert_eq!(shelf.read("alice", SOON).await.unwrap(), Some(octets));
}

#[tokio::test]
async fn whoever_stops_while_it_counts_an_hour_keeps_nobody_from_recording() {
    let url = Postgres::shared().database();
    let server = on_postgres::server(Path::new(&url));
    let (one, other) = (Store::connect(server.clone()), Store::connect(server.clone()));
    let close = async |store: &Store, at| {
        let memory = begin_with(store, ALICE).await;
        let poll = PollResult { messages: 1, ..PollResult::default() };
        let closing = Closing { at, poll: Some(poll), ..Closing::default() };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
        // It is counted by now, or given up.
        store.maildrop(ALICE.into()).await.unwrap();
    };
    close(&one, 3600).await;
    let stopped = server.connect().await.unwrap();
    stopped.batch_execute("BEGIN; UPDATE hour SET messages = 2").await.unwrap();
    for _ in 0..2 {
        tokio::time::timeout(Duration::from_secs(8), close(&other, 3600)).await.unwrap();
    }
    stopped.batch_execute("COMMIT").await.unwrap();
    close(&other, 3601).await;
    let hours = other.overview(Which::All, Seen::Uncounted).await.unwrap().hours;
    assert_eq!(hours, [Hour { hour: 1, messages: 3, ..Hour::default() }]);
}
