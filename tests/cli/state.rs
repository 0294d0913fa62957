//! `postrider state copy`, into a real PostgreSQL.

use nix::sys::signal::Signal;

use crate::support::postgres::Postgres;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::wait_until;

/// Makes a state of so many maildrops, with thirty records each.
fn recorded(home: &Home, maildrops: usize) {
    home.configure("accounts: { first: { host: h, user: u0, password: x, deliver: { maildir: ~/Mail } } }");
    home.must(&["seen", "mark", "first", "uid-1"], 0);
    let state = rusqlite::Connection::open(home.path("state/postrider/state.db")).unwrap();
    state
        .execute_batch(&format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {maildrops})
             INSERT INTO maildrop (identity, poll_at, poll_account, poll_host)
                 SELECT 'u' || n || '@h', n, 'a' || n, 'h:995' FROM n;
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30)
             INSERT INTO seen (maildrop, uid, ordinal, octets, first_seen)
                 SELECT id, CAST('uid-' || n AS BLOB), 0, n, n FROM maildrop, n WHERE identity <> 'u0@h'"
        ))
        .unwrap();
}

#[test]
fn a_copy_that_is_killed_in_the_middle_goes_on_where_it_was() {
    const MAILDROPS: usize = 1500;
    let home = Home::new();
    recorded(&home, MAILDROPS);
    let url = Postgres::shared().database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let count = |table: &str| -> usize {
        Postgres::shared().execute(&name, &format!("SELECT count(*) FROM {table}")).parse().unwrap()
    };
    let copy = ["state", "copy", "state/postrider/state.db", &url];
    let there = "SELECT to_regclass('maildrop') IS NOT NULL";
    let mut met = 0;
    for kill in 1..=3 {
        let mut running = home.start(&copy);
        let enough =
            || Postgres::shared().execute(&name, there) == "t" && count("maildrop") >= kill * MAILDROPS / 5;
        assert!(wait_until(LIMIT, || enough() || !running.is_running()), "{}", count("maildrop"));
        met += usize::from(running.is_running());
        running.signal(Signal::SIGKILL);
        running.wait(LIMIT);
        assert!(count("maildrop") < MAILDROPS, "it was too fast to be killed");
    }
    assert_eq!(met, 3);
    home.write("worker.yaml", &format!("state: {{ postgres: {{ url: '{url}' }} }}\nfleet: {{}}\n"));
    let half = home.must(&["--config", "worker.yaml", "account", "list"], 75).stderr;
    assert!(half.contains("was not copied whole") && half.contains("postrider state copy"), "{half}");
    let before = count("maildrop");
    let ended = home.must(&copy, 0).stdout;
    assert!(ended.starts_with(&format!("{} maildrops (", MAILDROPS + 1 - before)), "{ended}");
    assert!(ended.ends_with(&format!("copied, {before} there already; compared, and the same\n")), "{ended}");
    assert_eq!((count("maildrop"), count("seen")), (MAILDROPS + 1, MAILDROPS * 30 + 1));
    home.must(&["--config", "worker.yaml", "account", "list"], 0);
    // The other way.
    let back = home.must(&["state", "copy", &url, "back.db"], 0).stdout;
    assert!(back.starts_with("1501 maildrops (46502 rows) copied, 0 there"), "{back}");
}

#[test]
fn a_copy_says_what_it_cannot_read_or_write() {
    let home = Home::new();
    let url = Postgres::shared().database();
    let told = home.must(&["state", "copy", "none.db", &url], 75).stderr;
    assert!(told.contains("there is no state file none.db"), "{told}");
    let told = home.must(&["state", "copy", &url, &url], 2).stderr;
    assert!(told.contains("FROM and TO are the same"), "{told}");
    home.must(&["state", "copy", "postgresql://u:hunter2@h/d", "x.db"], 2);
    recorded(&home, 2);
    let nowhere = url.replace("/test", "/nowhere");
    let told = home.must(&["state", "copy", "state/postrider/state.db", &nowhere], 75).stderr;
    assert!(told.contains("does not exist"), "{told}");
    let daemon = home.start(&["daemon"]);
    assert!(wait_until(LIMIT, || home.run(&["wake"]).status == Some(0)));
    let told = home.must(&["state", "copy", "state/postrider/state.db", &url], 75).stderr;
    assert!(told.contains("is in use: a daemon runs with it") && told.contains("stop all"), "{told}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait(LIMIT);
}
