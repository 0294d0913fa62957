//! `postrider state copy`, into a real PostgreSQL; and what commands say of a database that they cannot get into.

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
    assert!(
        ended.ends_with(&format!("and 0 log-ins copied, {before} there already; compared, and the same\n")),
        "{ended}"
    );
    assert_eq!((count("maildrop"), count("seen")), (MAILDROPS + 1, MAILDROPS * 30 + 1));
    home.must(&["--config", "worker.yaml", "account", "list"], 0);
    // The other way.
    let back = home.must(&["state", "copy", &url, "back.db"], 0).stdout;
    assert!(back.starts_with("1501 maildrops (46502 rows) and 0 log-ins copied, 0 there"), "{back}");
}

#[test]
fn tokens_are_copied_where_there_is_a_key_and_sealed_on_the_way() {
    let home = Home::new();
    recorded(&home, 1);
    let url = Postgres::shared().database();
    let name = "00112233445566778899aabbccddeeff";
    home.write(&format!("state/postrider/state.db.tokens/{name}"), "hunter2");
    home.write("state/postrider/state.db.tokens/other", "x");
    let copy = ["--config", "worker.yaml", "state", "copy", "state/postrider/state.db", &url];
    home.write("worker.yaml", &format!("state: {{ postgres: {{ url: '{url}' }} }}\nfleet: {{}}\n"));
    let told = home.must(&copy, 75).stderr;
    assert!(told.contains("there is no key to seal secrets with: set `secrets_key`"), "{told}");
    home.write("key", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    let keyed =
        format!("state: {{ postgres: {{ url: '{url}', secrets_key: {{ file: ~/key }} }} }}\nfleet: {{}}\n");
    home.write("worker.yaml", &keyed);
    let told = home.must(&copy, 0).stdout;
    assert!(told.starts_with("0 maildrops (0 rows) and 1 log-in copied, 2 there"), "{told}");
    let database = url.rsplit('/').next().unwrap();
    let kept =
        Postgres::shared().execute(database, "SELECT login, encode(sealed, 'escape') FROM token_store");
    assert!(kept.starts_with(name) && !kept.contains("hunter2"), "{kept}");
    home.must(&["--config", "worker.yaml", "state", "copy", &url, "back.db"], 0);
    let back = std::fs::read_to_string(home.path(format!("back.db.tokens/{name}"))).unwrap();
    assert_eq!((back.as_str(), home.mode(format!("back.db.tokens/{name}"))), ("hunter2", 0o600));
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
    let told = home.must(&["state", "copy", &url, "state/postrider/state.db"], 2).stderr;
    assert!(told.contains("is it the other way round?"), "{told}");
    let daemon = home.start(&["daemon"]);
    assert!(wait_until(LIMIT, || home.run(&["wake"]).status == Some(0)));
    let told = home.must(&["state", "copy", "state/postrider/state.db", &url], 75).stderr;
    assert!(told.contains("is in use: a daemon runs with it") && told.contains("stop all"), "{told}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait(LIMIT);
}

#[test]
fn the_help_of_each_command_names_the_status_of_a_database_whose_password_cannot_be_had() {
    let home = Home::new();
    home.configure(
        "state: { postgres: { url: postgresql://u@127.0.0.1:1/p, password: { env: NOT_SET } } }\nfleet: {}\n\
         accounts: { home: { host: 127.0.0.1, user: u, password: x, deliver: { http: { url: https://h.example/in } } } }",
    );
    home.write("fetchmailrc", "poll 127.0.0.1 proto pop3 uidl user u password x keep\n");
    home.write("fetchids", "u@127.0.0.1 uid-1\n");
    for (command, arguments) in [
        ("sync", &["home"][..]),
        ("check", &["home"]),
        ("doctor", &["home"]),
        ("daemon", &[]),
        ("wake", &[]),
        ("status", &[]),
        ("seen", &["list", "home"]),
        ("seen", &["forget", "home", "uid"]),
        ("held", &["list", "home"]),
        ("login", &["acme/alice"]),
        ("account", &["list"]),
        ("import", &["fetchmail", "fetchmailrc", "--seen", "--list", "fetchids"]),
        ("state", &["copy", "state.db", "postgresql://u@127.0.0.1:1/p"]),
    ] {
        let told = home.must(&[&[command][..], arguments].concat(), 77).stderr;
        assert!(told.contains("the environment variable NOT_SET is not set"), "{command}: {told}");
        let help = home.must(&[command, "--help"], 0).stdout;
        let line = help.lines().find(|line| line.starts_with("  77  "));
        assert!(line.is_some_and(|line| line.contains("the database's password cannot be had")), "{help}");
    }
}
