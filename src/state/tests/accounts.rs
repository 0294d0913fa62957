//! The table of tenants' accounts, in a real PostgreSQL.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_postgres::types::Type;

use super::server::Postgres;
use crate::config::{Account, Config, Fleet, Row};
use crate::seal::Ring;
use crate::secret::Secret;
use crate::state::postgres::{Accounts, Database, Roll, Written};

const FILE: &str = "fleet: { targets: { desk: { http: { url: https://desk.example.org } } } }";

fn database() -> Database {
    let (_directory, path) = super::directory();
    Database::new(super::server(&path))
}

fn fleet() -> Fleet {
    Config::from_yaml(FILE, std::path::Path::new("f")).unwrap().fleet.unwrap()
}

fn ring() -> Ring {
    Ring::new([&Secret::new(STANDARD.encode([7; 32]))]).unwrap()
}

fn row(id: i64, name: &str) -> Written {
    let mut row = Row { id, tenant: "acme".into(), name: name.into(), enabled: true, ..Row::default() };
    row.config = format!("{{ host: POP.example.org, user: {name} }}");
    row.maildrop = format!("acme/{name}@pop.example.org");
    row.secret = Some(ring().seal(&row.place(), &Secret::new(format!("secret of {name}"))).unwrap());
    Written { row, host: "pop.example.org".into() }
}

async fn names(roll: &mut Roll) -> Option<Vec<String>> {
    let accounts = roll.look().await.unwrap()?;
    Some(accounts.polled.iter().map(|account| account.name.clone()).collect())
}

#[tokio::test]
async fn a_row_is_read_as_it_was_written_and_a_name_is_taken_once() {
    let accounts = Accounts::new(database(), "account");
    let (alice, bob) = (row(1, "alice"), row(2, "bob"));
    assert_eq!(accounts.add(&[alice.clone(), bob.clone()]).await.unwrap(), [1, 2]);
    assert!(accounts.add(&[row(3, "alice")]).await.unwrap().is_empty());
    let found = accounts.find("acme", "alice").await.unwrap().unwrap();
    assert_eq!(found, Row { revision: 1, ..alice.row.clone() });
    let mut pages = accounts.pages(Some("acme"));
    let page = pages.next().await.unwrap().unwrap().rows;
    assert_eq!(page.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    assert!(pages.next().await.unwrap().is_none(), "there is none behind the last");
    assert!(accounts.pages(Some("other")).next().await.unwrap().is_none());
    let holders = accounts.holders(&[bob.row.maildrop.clone(), "nobody".into()]).await.unwrap();
    assert_eq!(holders.into_iter().collect::<Vec<_>>(), [(bob.row.maildrop, "acme/bob".to_owned())]);
    assert!(accounts.remove(1).await.unwrap() && !accounts.remove(1).await.unwrap());
}

#[tokio::test]
async fn each_change_is_seen_and_a_bad_row_stops_nobody() {
    let database = database();
    let accounts = Accounts::new(database.clone(), "account");
    let mut roll = Roll::new(accounts.clone(), fleet(), ring());
    assert_eq!(names(&mut roll).await, Some(Vec::new()));
    assert_eq!(names(&mut roll).await, None, "nothing has changed");
    let mut evil = row(3, "evil");
    evil.row.config = "{ host: h, user: u, connect: 'nc 10.0.0.1 1' }".into();
    let mut copied = row(4, "copied");
    copied.row.secret = row(1, "alice").row.secret;
    accounts.add(&[row(1, "alice"), row(2, "bob"), evil, copied]).await.unwrap();
    assert_eq!(names(&mut roll).await, Some(vec!["acme/alice".into(), "acme/bob".into()]));
    let alice = accounts.find("acme", "alice").await.unwrap().unwrap();
    accounts.switch(&Row { enabled: false, ..alice.clone() }).await.unwrap();
    assert_eq!(names(&mut roll).await, Some(vec!["acme/bob".into()]));
    accounts.switch(&alice).await.unwrap();
    accounts
        .replace(&Written { row: Row { id: 4, ..row(4, "copied").row }, host: "h".into() })
        .await
        .unwrap();
    assert_eq!(names(&mut roll).await.unwrap().len(), 3, "it was mended");
    let twin = Row { id: 5, maildrop: alice.maildrop.clone(), ..row(5, "twin").row };
    accounts.add(&[Written { row: twin, host: "h".into() }]).await.unwrap();
    assert_eq!(names(&mut roll).await.unwrap().len(), 3, "one maildrop is one account's");
    accounts.remove(1).await.unwrap();
    assert_eq!(names(&mut roll).await.unwrap().len(), 3, "the other has it now");
}

#[tokio::test]
async fn a_view_over_other_tables_is_read_like_the_table() {
    let database = database();
    let text = |sql: &'static str| {
        let database = database.clone();
        async move { database.query(sql, &[]).await.unwrap() }
    };
    text("CREATE TABLE customer (number INTEGER PRIMARY KEY, login VARCHAR(80), server VARCHAR(80), sealed BYTEA, key VARCHAR(16), changed TIMESTAMPTZ DEFAULT now())").await;
    text("CREATE VIEW boxes AS SELECT number AS id, 'acme'::varchar AS tenant, login AS name, NULL::text AS maildrop, server AS host,
          json_build_object('host', server, 'user', login, 'port', NULL) AS config, sealed AS secret, key AS secret_key,
          NULL::boolean AS enabled, (extract(epoch FROM changed) * 1000000)::numeric AS revision FROM customer").await;
    let sealed = ring().seal("account/9/secret", &Secret::new(*b"hunter2")).unwrap();
    let insert = "INSERT INTO customer (number, login, server, sealed, key) VALUES (9, 'alice', 'pop.example.org', $1, $2)";
    database.query(insert, &[(&sealed.octets, Type::BYTEA), (&sealed.key, Type::TEXT)]).await.unwrap();
    let accounts = Accounts::new(database.clone(), "public.boxes");
    let mut roll = Roll::new(accounts, fleet(), ring());
    let read = roll.look().await.unwrap().unwrap().polled;
    assert_eq!(
        (read[0].name.as_str(), read[0].maildrop_id.as_str()),
        ("acme/alice", "acme/alice@pop.example.org")
    );
    text("UPDATE customer SET server = 'pop.example.net', changed = now() + interval '1 s'").await;
    assert_eq!(roll.look().await.unwrap().unwrap().polled[0].host, "pop.example.net");
}

#[tokio::test]
async fn a_changed_account_that_failed_is_polled_soon_and_one_that_works_at_its_time() {
    let database = database();
    let accounts = Accounts::new(database.clone(), "account");
    let mut roll = Roll::new(accounts.clone(), fleet(), ring());
    accounts.add(&[row(1, "alice"), row(2, "bob")]).await.unwrap();
    roll.look().await.unwrap();
    for (id, failures) in [(1_i64, 0_i64), (2, 3)] {
        let name = if id == 1 { "acme/alice@pop.example.org" } else { "acme/bob@pop.example.org" };
        let maildrop = "INSERT INTO maildrop (identity) VALUES ($1) RETURNING id";
        let maildrop: i64 = database.query(maildrop, &[(&name, Type::TEXT)]).await.unwrap()[0].get(0);
        let lease = "INSERT INTO lease (maildrop, due, failures) VALUES ($1, now() + interval '1 h', $2)";
        database.query(lease, &[(&maildrop, Type::INT8), (&failures, Type::INT8)]).await.unwrap();
    }
    // As an operator does it who has no need of us.
    database.query("UPDATE account SET config = config || ' ', revision = revision + 1", &[]).await.unwrap();
    roll.look().await.unwrap();
    let soon = "SELECT failures FROM lease WHERE due < now() + interval '1 minute'";
    let soon = database.query(soon, &[]).await.unwrap();
    assert_eq!(soon.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [3]);
    let alice = accounts.find("acme", "alice").await.unwrap().unwrap();
    accounts.replace(&Written { row: alice, host: "pop.example.org".into() }).await.unwrap();
    let soon = "SELECT failures FROM lease WHERE due < now() + interval '1 minute'";
    assert_eq!(database.query(soon, &[]).await.unwrap().len(), 2, "whoever writes it wants to see it polled");
}

#[tokio::test]
async fn a_row_of_a_view_that_has_nothing_in_it_is_told_and_stops_nobody() {
    let database = database();
    let view = "CREATE VIEW bare AS
        SELECT NULL::bigint AS id, NULL::text AS tenant, NULL::text AS name, NULL::text AS maildrop, NULL::text AS host,
            NULL::text AS config, NULL::bytea AS secret, NULL::text AS secret_key, NULL::boolean AS enabled,
            NULL::bigint AS revision
        UNION ALL SELECT 9, 'acme', 'alice', NULL, 'pop.example.org', '{ host: pop.example.org, user: alice, password: x }',
            NULL, NULL, NULL, NULL";
    database.query(view, &[]).await.unwrap();
    let mut roll = Roll::new(Accounts::new(database, "bare"), fleet(), ring());
    let read = roll.look().await.unwrap().unwrap().polled;
    assert!(read.iter().all(|account| account.name == "acme/alice"), "{read:?}");
}

#[tokio::test]
async fn of_rows_that_are_shown_twice_or_have_one_name_the_first_is_polled() {
    let database = database();
    let accounts = Accounts::new(database.clone(), "account");
    accounts.add(&[row(1, "alice"), row(2, "bob"), row(3, "carol")]).await.unwrap();
    let view = "CREATE VIEW boxes AS SELECT id, tenant, name, maildrop, config, secret, secret_key, enabled, revision FROM account
        UNION ALL SELECT id, tenant, 'other' || name, maildrop, config, secret, secret_key, enabled, 7 FROM account WHERE id = 1
        UNION ALL SELECT 4, tenant, name, 'elsewhere', config, NULL, NULL, enabled, 1 FROM account WHERE id = 2
        UNION ALL SELECT 3, tenant, name, 'elsewhere', config, NULL, NULL, false, 1 FROM account WHERE id = 9";
    database.query(view, &[]).await.unwrap();
    let mut roll = Roll::new(Accounts::new(database.clone(), "boxes"), fleet(), ring());
    let rows = roll.look().await.unwrap().unwrap();
    let polled: Vec<_> = rows.polled.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(polled, ["acme/alice", "acme/bob", "acme/carol"]);
    assert_eq!(rows.wrong.len(), 1, "a row without a secret is none that can be polled");
    assert_eq!(rows.unusable.len(), 0);
    assert_eq!(names(&mut roll).await, None, "nothing has changed");
}

#[tokio::test]
async fn a_row_of_another_key_is_known_by_its_maildrop_and_one_that_is_disabled_too() {
    let accounts = Accounts::new(database(), "account");
    let other = Ring::new([&Secret::new(STANDARD.encode([8; 32]))]).unwrap();
    let mut foreign = row(2, "bob");
    foreign.row.secret = Some(other.seal(&foreign.row.place(), &Secret::new(*b"x")).unwrap());
    let mut off = row(3, "carol");
    off.row.enabled = false;
    accounts.add(&[row(1, "alice"), foreign, off]).await.unwrap();
    let mut roll = Roll::new(accounts.clone(), fleet(), ring());
    let rows = roll.look().await.unwrap().unwrap();
    let maildrops =
        |accounts: &[Arc<Account>]| accounts.iter().map(|of| of.maildrop_id.clone()).collect::<Vec<_>>();
    assert_eq!(maildrops(&rows.unusable), ["acme/bob@pop.example.org"]);
    assert_eq!(maildrops(&rows.disabled), ["acme/carol@pop.example.org"]);
    assert_eq!(rows.polled.len(), 1);
    let foreign = accounts.find("acme", "bob").await.unwrap().unwrap();
    accounts.reseal(&foreign, &row(2, "bob").row.secret.unwrap()).await.unwrap();
    assert_eq!(names(&mut roll).await.map(|names| names.len()), Some(2), "it was sealed anew");
}

#[tokio::test]
async fn a_row_that_is_wrong_for_all_takes_its_maildrop_from_none_and_one_of_another_key_does() {
    let accounts = Accounts::new(database(), "account");
    let other = Ring::new([&Secret::new(STANDARD.encode([8; 32]))]).unwrap();
    let (mut wrong, mut foreign) = (row(1, "wrong"), row(2, "foreign"));
    wrong.row.maildrop = row(3, "alice").row.maildrop;
    wrong.row.config += ", connect: nc";
    foreign.row.maildrop = row(4, "bob").row.maildrop;
    foreign.row.secret = Some(other.seal(&foreign.row.place(), &Secret::new(*b"x")).unwrap());
    accounts.add(&[wrong, foreign, row(3, "alice"), row(4, "bob")]).await.unwrap();
    let rows = Roll::new(accounts, fleet(), ring()).look().await.unwrap().unwrap();
    let names = |accounts: &[Arc<Account>]| accounts.iter().map(|of| of.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&rows.polled), ["acme/alice"]);
    assert_eq!(
        (names(&rows.wrong), names(&rows.unusable)),
        (vec!["acme/wrong".into()], vec!["acme/foreign".into()])
    );
    assert_eq!(rows.why.len(), 2);
}

#[tokio::test]
async fn a_row_with_a_value_that_cannot_be_is_told_with_its_name_and_stops_nobody() {
    let database = database();
    let accounts = Accounts::new(database.clone(), "account");
    let many: Vec<Written> = (1..=40).map(|id| row(id, &format!("u{id}"))).collect();
    accounts.add(&many).await.unwrap();
    let odd = |id: i64, is: &str, else_: &str| format!("CASE id WHEN {id} THEN {is} ELSE {else_} END");
    let view = format!(
        "CREATE VIEW odd AS SELECT {} AS id, tenant, name, maildrop, {} AS config, {} AS secret, secret_key,
         {} AS enabled, {} AS revision FROM account",
        odd(7, "'99999999999999999999'::numeric", "id::numeric"),
        odd(8, "(1 / (id - 8))::text", "config"),
        odd(9, "'\\xzz'", "secret::text"),
        odd(10, "'maybe'", "enabled::text"),
        odd(11, "'soon'", "revision::text"),
    );
    database.query(&view, &[]).await.unwrap();
    let mut roll = Roll::new(Accounts::new(database.clone(), "odd"), fleet(), ring());
    let rows = roll.look().await.unwrap().unwrap();
    assert_eq!(rows.polled.len(), 35);
    let mut why: Vec<_> = rows.why.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    why.sort();
    assert_eq!(why.len(), 3, "{why:?}");
    for (why, (name, word)) in
        why.iter().zip([("acme/u10", "maybe"), ("acme/u8", "division by zero"), ("acme/u9", "hexadecimal")])
    {
        assert!(why.starts_with(name) && why.contains(word), "{why}");
    }
    assert!(roll.look().await.unwrap().is_none(), "nothing has changed");
    database.query("UPDATE account SET revision = 5, enabled = false WHERE id = 12", &[]).await.unwrap();
    assert_eq!(names(&mut roll).await.unwrap().len(), 34, "a change is seen all the same");
    // What is of one row is no reason to say nothing of the others.
    let readable = "CREATE VIEW readable AS SELECT * FROM odd WHERE id < 100 AND revision <> 'soon'";
    database.query(readable, &[]).await.unwrap();
    let accounts = Accounts::new(database.clone(), "readable");
    let (mut pages, mut rows, mut strange) = (accounts.pages(None), 0, Vec::new());
    while let Some(page) = pages.next().await.unwrap() {
        rows += page.rows.len();
        strange.extend(page.strange.iter().map(ToString::to_string));
    }
    assert_eq!((rows, strange.len()), (35, 3), "{strange:?}");
    assert!(strange.iter().any(|told| told.starts_with("account acme/u9: cannot be read: ")), "{strange:?}");
    let maildrops: Vec<String> = (8..=13).map(|id| format!("acme/u{id}@pop.example.org")).collect();
    assert_eq!(accounts.holders(&maildrops).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_text_that_is_not_utf_8_is_its_rows_trouble_alone() {
    let (_directory, path) = super::directory();
    let name = format!("{}_ascii", super::name_of(&path));
    let sql = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0");
    Postgres::shared().execute("postgres", &sql);
    let url = path.to_str().unwrap().replace(super::name_of(&path), &name);
    let database = Database::new(super::server(Path::new(&url)));
    let accounts = Accounts::new(database.clone(), "account");
    accounts.add(&[row(1, "alice"), row(2, "bob"), row(3, "carol")]).await.unwrap();
    let spoil = "UPDATE account SET config = config || chr(233) WHERE id = 1";
    database.query(spoil, &[]).await.unwrap();
    database.query("UPDATE account SET name = name || chr(233) WHERE id = 2", &[]).await.unwrap();
    let mut roll = Roll::new(accounts.clone(), fleet(), ring());
    let rows = roll.look().await.unwrap().unwrap();
    assert_eq!(rows.polled.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["acme/carol"]);
    assert!(rows.why["acme/alice"].contains("UTF8"), "{:?}", rows.why);
    let told = accounts.pages(None).next().await.unwrap_err().to_string();
    assert!(told.contains("UTF8"), "{told}");
}

#[tokio::test]
async fn rows_without_tenant_or_name_are_listed_with_the_others() {
    let database = database();
    Accounts::new(database.clone(), "account").add(&[row(1, "alice"), row(2, "bob")]).await.unwrap();
    let view = "CREATE VIEW bare AS SELECT id, tenant, name, maildrop, config, secret, secret_key, enabled, revision FROM account
        UNION ALL SELECT 3, NULL, 'carol', NULL, '{}', NULL, NULL, true, 1
        UNION ALL SELECT 4, 'acme', NULL, NULL, '{}', NULL, NULL, true, 1
        UNION ALL SELECT n, NULL, NULL, NULL, '{}', NULL, NULL, true, 1 FROM generate_series(5, 1500) AS n";
    database.query(view, &[]).await.unwrap();
    let accounts = Accounts::new(database, "bare");
    let (mut pages, mut ids) = (accounts.pages(None), Vec::new());
    while let Some(page) = pages.next().await.unwrap() {
        ids.extend(page.rows.iter().map(|row| row.id));
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=1500).collect::<Vec<i64>>());
}
