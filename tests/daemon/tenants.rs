//! Accounts of the table, and commands, where the state is a database that a worker has, too.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, SOON};
use crate::support::http_server::{HttpServer, answer};
use crate::support::postgres::Postgres;
use crate::support::postrider::Home;
use crate::support::process::wait_until;
use crate::support::provider::Provider;

/// A change of the table is in force by then.
const IN_FORCE: Duration = Duration::from_secs(10);

/// How long a message that is on the line may still come in.
const MESSAGES: Duration = Duration::from_millis(800);

struct Site {
    provider: Provider,
    receiver: HttpServer,
    home: Home,
    url: String,
    database: String,
    messages: usize,
}

impl Site {
    /// Has maildrops `u0`, `u1` ... at a provider, and a table without accounts. `more` is what the file has besides.
    fn new(maildrops: usize, more: &str) -> Self {
        let url = Postgres::shared().database();
        let database = url.rsplit('/').next().unwrap().to_owned();
        let (provider, receiver) = (Provider::start(), HttpServer::start(|_| answer(204)));
        (0..maildrops).for_each(|number| provider.make(&format!("u{number}")));
        let site = Self { provider, receiver, home: Home::new(), url, database, messages: 0 };
        site.home.write("key", &format!("{}\n", STANDARD.encode([1; 32])));
        site.configure(&site.url, more);
        site
    }

    fn configure(&self, url: &str, more: &str) {
        self.home.configure(&format!(
            "state: {{ postgres: {{ url: '{url}', secrets_key: {{ file: ~/key }} }} }}\n\
             daemon: {{ startup_spread: 0s, max_sessions_per_host: 20 }}\nnotify: {{ deliver: false }}\n\
             defaults: {{ timeout: 2s }}\n\
             fleet: {{ allow_networks: [127.0.0.0/8], targets: {{ desk: {{ http: {{ url: '{}' }} }} }} }}\n{more}",
            self.receiver.url("/in")
        ));
    }

    /// The keys of a row.
    fn row(&self, user: &str) -> String {
        format!(
            "{{ host: 127.0.0.1, port: {}, tls: none, auth: [user-pass], user: {user}, password: hunter2, interval: 1m, keep: none }}",
            self.provider.port()
        )
    }

    fn add(&self, name: &str, user: &str, options: &[&str]) {
        self.home.write("row", &self.row(user));
        let arguments = [&["account", "add"], options, &[name, "row"]].concat();
        self.home.must(&arguments, 0);
    }

    fn put(&mut self, user: &str) {
        self.messages += 1;
        let (number, uid) = (self.messages, format!("uid-{}", self.messages));
        self.provider.put(user, &uid, format!("Message-ID: <{number}@a>\r\nDate: b\r\n\r\n{number}\r\n"));
    }

    /// Gives whose messages came, in their order.
    fn came(&self) -> Vec<String> {
        self.receiver.asked().iter().map(|asked| asked.field("x-postrider-account").to_owned()).collect()
    }

    fn comes(&self, accounts: &[&str], worker: &Daemon) {
        let begun = Instant::now();
        assert!(wait_until(SOON, || self.came() == accounts), "{:?}\n{}", self.came(), worker.log());
        assert!(begun.elapsed() < 2 * IN_FORCE, "{:?}", begun.elapsed());
    }

    fn execute(&self, sql: &str) -> String {
        Postgres::shared().execute(&self.database, sql)
    }

    /// Starts a worker whose session waits for u0's message.
    fn held_at(&mut self, start: impl FnOnce(&Self) -> Daemon) -> Daemon {
        self.put("u0");
        self.provider.hold("RETR", 1);
        let worker = start(self);
        assert!(wait_until(SOON, || self.provider.held().len() == 1), "{}", worker.log());
        worker
    }

    /// Starts a worker that waits for its servers for longer than commands do.
    fn worker_with_patience(&self) -> Daemon {
        let place = "config/postrider/config.yaml";
        let config = std::fs::read_to_string(self.home.path(place)).unwrap();
        self.home.write(place, &config.replace("timeout: 2s", "timeout: 60s"));
        let worker = self.worker();
        worker.logs("of the table from now on");
        self.home.write(place, &config);
        worker
    }

    fn worker(&self) -> Daemon {
        Daemon::start_with(&self.home, &["-v", "daemon"], &[("POSTRIDER_FLEET_SILENCE", "2s")])
    }
}

/// Waits until a worker polls so many accounts of the table.
fn polls(worker: &Daemon, count: usize) {
    let words = format!("polling {count} account");
    let last =
        || worker.log().lines().rfind(|line| line.contains(" of the table from now on")).map(str::to_owned);
    let is_so = || last().is_some_and(|line| line.contains(&words));
    assert!(wait_until(IN_FORCE, is_so), "not {words}: {}", worker.log());
}

#[test]
fn accounts_of_the_table_are_polled_as_it_says_now() {
    let mut site = Site::new(4, "");
    let worker = site.worker();
    worker.logs("polling 0 accounts of the table from now on");
    site.put("u0");
    site.add("acme/alice", "u0", &[]);
    site.comes(&["acme/alice"], &worker);
    // Its maildrop is another now.
    site.put("u1");
    site.add("acme/alice", "u1", &["--replace"]);
    site.comes(&["acme/alice"; 2], &worker);
    // Rows that make no account stop nobody.
    site.put("u2");
    let bad = "INSERT INTO account (id, tenant, name, maildrop, host, config) VALUES
        (7, 'evil', 'eve', 'x', 'h', '{ host: h, user: u, password: { command: touch /tmp/x } }'), (8, 'evil', '', '', '', 'nonsense')";
    site.execute(bad);
    site.add("beta/bob", "u2", &[]);
    site.comes(&["acme/alice", "acme/alice", "beta/bob"], &worker);
    worker.logs("password.command: ");
    assert_eq!(worker.log().matches("password.command: ").count(), 1, "{}", worker.log());
    // Of two with one maildrop one is polled.
    site.add("acme/other", "u3", &[]);
    polls(&worker, 3);
    let same =
        "UPDATE account SET revision = 2, maildrop = (SELECT maildrop FROM account WHERE name = 'alice')
        WHERE name = 'other'";
    site.execute(same);
    worker.logs("another account has the same maildrop");
    polls(&worker, 2);
    // Who is switched off is left alone, even if asked for.
    site.home.must(&["account", "disable", "acme/alice", "acme/other"], 0);
    polls(&worker, 1);
    site.put("u1");
    let told = site.home.must(&["wake", "acme/alice"], 75).stderr;
    assert!(told.contains("has no account acme/alice"), "{told}");
    assert!(told.contains("`postrider account enable acme/alice` has them polled"), "{told}");
    site.home.must(&["wake"], 0);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(site.came().len(), 3);
    site.home.must(&["account", "enable", "acme/alice"], 0);
    site.comes(&["acme/alice", "acme/alice", "beta/bob", "acme/alice"], &worker);
    site.home.must(&["account", "remove", "beta/bob"], 0);
    polls(&worker, 1);
    worker.stop();
}

#[test]
fn with_default_settings_what_is_added_enabled_or_replaced_is_polled_within_ten_seconds() {
    let mut site = Site::new(4, "");
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    let own = "daemon: { startup_spread: 0s, max_sessions_per_host: 20 }\n";
    assert!(config.contains(own));
    site.home.configure(&config.replace(own, ""));
    site.add("acme/bob", "u1", &[]);
    site.add("acme/carol", "u2", &[]);
    site.home.must(&["account", "disable", "acme/bob"], 0);
    let worker = Daemon::start_with(&site.home, &["-v", "daemon"], &[]);
    polls(&worker, 1);
    assert!(wait_until(IN_FORCE, || site.execute("SELECT count(*) FROM lease WHERE owner >= 0") == "1"));
    thread::sleep(Duration::from_secs(2));
    ["u0", "u1", "u3"].into_iter().for_each(|user| site.put(user));
    site.add("acme/alice", "u0", &[]);
    site.home.must(&["account", "enable", "acme/bob"], 0);
    site.add("acme/carol", "u3", &["--replace"]);
    let all_came = || {
        let mut came = site.came();
        came.sort_unstable();
        came == ["acme/alice", "acme/bob", "acme/carol"]
    };
    assert!(wait_until(IN_FORCE, all_came), "{:?}\n{}", site.came(), worker.log());
    worker.stop();
}

#[test]
fn a_view_over_other_tables_is_as_good_and_one_that_is_missing_is_told_once() {
    let mut site = Site::new(2, "");
    site.home.must(&["account", "list"], 0);
    let port = site.provider.port();
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    site.home.configure(&config.replace("fleet: {", "fleet: { accounts: mailboxes,"));
    let worker = site.worker();
    worker.logs("cannot read the table of accounts");
    site.put("u0");
    site.execute("CREATE TABLE box (id BIGINT, login TEXT, on_ BOOLEAN, changed BIGINT)");
    site.execute("INSERT INTO box VALUES (1, 'u0', true, 1)");
    // A broker gives the tokens of rows without a secret; this one has a secret that does not open.
    site.execute(&format!(
        "CREATE VIEW mailboxes AS SELECT id, 'acme' AS tenant, login AS name, NULL::text AS maildrop, '127.0.0.1' AS host,
         '{{\"host\": \"127.0.0.1\", \"port\": {port}, \"tls\": \"none\", \"auth\": [\"user-pass\"], \"user\": \"' || login ||
         '\"}}' AS config, '\\x00'::bytea AS secret, 'none' AS secret_key, on_ AS enabled, changed AS revision FROM box"
    ));
    worker.logs("the table of accounts can be read again");
    worker.logs("account acme/u0: ");
    assert_eq!(worker.log().matches("cannot read the table").count(), 1, "{}", worker.log());
    assert!(site.came().is_empty());
    worker.stop();
}

#[test]
fn commands_poll_and_edit_where_the_state_is_a_database() {
    let mut site = Site::new(2, "");
    site.add("acme/alice", "u0", &[]);
    site.put("u0");
    site.put("u0");
    let says = |arguments: &[&str], status: i32| site.home.must(arguments, status).stdout;
    assert!(says(&["check", "acme/alice"], 0).contains("2 new"));
    assert!(says(&["-v", "sync", "--dry-run", "acme/alice"], 0).contains("fetch"));
    assert!(says(&["seen", "list", "acme/alice"], 0).is_empty());
    assert_eq!(
        says(&["seen", "mark", "acme/alice", "uid-1", "other"], 0),
        "acme/alice: 2 messages marked as seen\n"
    );
    assert_eq!(
        says(&["seen", "forget", "acme/alice", "other"], 0),
        "acme/alice: 1 message will be fetched again\n"
    );
    site.home.must(&["sync", "acme/alice"], 0);
    assert_eq!(site.came(), ["acme/alice"], "one is marked");
    assert_eq!(says(&["seen", "list", "acme/alice"], 0).lines().count(), 2);
    assert!(says(&["held", "list", "acme/alice"], 0).is_empty());
    assert!(says(&["held", "retry", "acme/alice"], 0).contains("nothing is held"));
    assert!(says(&["status", "acme/alice"], 0).contains("acme/alice"));
    assert!(says(&["doctor", "acme/alice"], 0).contains("mail"));
    let told = site.home.must(&["sync", "acme/nobody"], 2).stderr;
    assert!(told.contains("no account \"acme/nobody\" in the table account"), "{told}");
    site.home.must(&["account", "remove", "acme/alice"], 0);
    assert!(says(&["status", "forget", "acme/u0@127.0.0.1"], 0).contains("forgotten, 2 recorded messages"));
    assert_eq!(site.execute("SELECT count(*) FROM worker"), "0", "commands leave when they end");
    assert_eq!(site.execute("SELECT count(*) FROM lease WHERE token <> 0"), "0");
    let told = site.home.must(&["wake"], 75).stderr;
    assert!(told.contains("no worker is heard of"), "{told}");
}

#[test]
fn a_command_waits_for_a_worker_that_has_the_maildrop_and_names_it() {
    let mut site = Site::new(1, "");
    site.add("acme/alice", "u0", &[]);
    let worker = site.held_at(Site::worker_with_patience);
    let name = site.execute("SELECT name FROM worker WHERE NOT draining");
    for arguments in [["sync", "acme/alice"].as_slice(), &["seen", "mark", "acme/alice", "x"]] {
        let told = site.home.must(arguments, 75).stderr;
        assert!(told.contains(&format!("the worker {name} ")), "{told}");
        assert!(told.contains("its lease lasts until ") && told.contains("while it is heard of"), "{told}");
    }
    site.provider.release();
    site.comes(&["acme/alice"], &worker);
    assert_eq!(site.provider.polls().1, 0, "a maildrop had two sessions at once");
    worker.stop();
}

#[test]
fn a_command_waits_until_the_lease_of_a_killed_worker_is_over() {
    let mut site = Site::new(1, "");
    site.add("acme/alice", "u0", &[]);
    let worker = site.held_at(Site::worker);
    let name = site.execute("SELECT name FROM worker WHERE NOT draining");
    worker.running.signal(Signal::SIGKILL);
    drop(worker);
    site.provider.release();
    // Longer than its servers are waited for.
    let mut sync = site.home.command(&["-v", "sync", "acme/alice"]);
    let ended =
        crate::support::process::Running::start(sync.env("POSTRIDER_FLEET_SILENCE", "8s")).wait(2 * SOON);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("the worker {name} has it; its lease lasts until ")),
        "{}",
        ended.stderr
    );
    assert_eq!(site.came(), ["acme/alice"]);
}

#[test]
fn a_session_of_an_account_that_is_removed_or_disabled_ends_and_is_no_failure_and_counts_no_more() {
    for change in ["remove", "disable"] {
        let mut site = Site::new(2, "");
        site.add("acme/alice", "u0", &[]);
        site.add("acme/bob", "u1", &[]);
        let worker = site.held_at(Site::worker_with_patience);
        site.home.must(&["account", change, "acme/alice"], 0);
        let is_over = || site.execute("SELECT count(*) FROM lease WHERE token <> 0") == "0";
        let begun = Instant::now();
        assert!(wait_until(SOON, is_over), "{}", worker.log());
        assert!(begun.elapsed() < IN_FORCE + MESSAGES, "{:?}", begun.elapsed());
        worker.logs("acme/alice: the account has changed, or is gone");
        let is_counted = || site.home.must(&["status"], 0).stdout.contains("of 1 maildrop 0 being polled");
        assert!(wait_until(IN_FORCE, is_counted), "{}", site.home.must(&["status"], 0).stdout);
        assert_eq!(site.execute("SELECT count(*) FROM maildrop WHERE poll_class IS NOT NULL"), "0");
        assert!(site.came().is_empty());
        if change == "disable" {
            site.provider.release();
            site.home.must(&["account", "enable", "acme/alice"], 0);
            site.comes(&["acme/alice"], &worker);
        }
        worker.stop();
    }
}

#[test]
fn a_worker_that_is_told_to_end_counts_no_session_as_failed() {
    let mut site = Site::new(1, "");
    site.add("acme/alice", "u0", &[]);
    let worker = site.held_at(Site::worker_with_patience);
    worker.stop();
    assert_eq!(site.execute("SELECT count(*) FROM maildrop WHERE poll_class IS NOT NULL"), "0");
    assert_eq!(
        site.execute("SELECT count(*) FROM lease WHERE token = 0 AND due < now() + interval '1 s'"),
        "1"
    );
    assert!(!site.home.must(&["status", "acme/alice"], 0).stdout.contains("failed"));
    site.provider.release();
    let worker = site.worker();
    site.comes(&["acme/alice"], &worker);
    worker.stop();
}

#[test]
fn a_row_that_a_worker_cannot_open_is_left_to_those_that_have_its_key_and_status_says_so() {
    let mut site = Site::new(1, "");
    site.add("acme/alice", "u0", &[]);
    site.put("u0");
    let other = Home::new();
    other.write("key", &format!("{}\n", STANDARD.encode([2; 32])));
    other.configure(&std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap());
    let foreign = Daemon::start_with(&other, &["-v", "daemon"], &[("POSTRIDER_FLEET_SILENCE", "2s")]);
    foreign.logs("it is left to the workers that have the key");
    let told = other.must(&["status", "acme/alice"], 0).stdout;
    assert!(
        told.contains("no worker polls it that could") && told.contains("which is not in `secrets_key`"),
        "{told}"
    );
    let worker = site.worker();
    site.comes(&["acme/alice"], &worker);
    worker.stop();
    site.execute("UPDATE lease SET due = now() - interval '1 minute'");
    site.put("u0");
    thread::sleep(Duration::from_secs(4));
    assert_eq!(site.execute("SELECT count(*) FROM lease WHERE due < now()"), "1", "{}", foreign.log());
    let worker = site.worker();
    site.comes(&["acme/alice"; 2], &worker);
    assert_eq!(foreign.log().matches("secrets_key").count(), 1, "{}", foreign.log());
    worker.stop();
    foreign.stop();
}

#[test]
fn a_worker_that_keeps_no_file_needs_no_home() {
    let mut site = Site::new(1, "");
    site.add("acme/alice", "u0", &[]);
    site.put("u0");
    let (place, key) = (site.home.path("config/postrider/config.yaml"), site.home.path("key"));
    let config = std::fs::read_to_string(&place).unwrap().replace("~/key", key.to_str().unwrap());
    site.home.configure(&config);
    let arguments = ["--config", place.to_str().unwrap(), "-v", "daemon"];
    let nowhere = [("HOME", "/proc/nowhere"), ("XDG_STATE_HOME", "/proc/nowhere/state")];
    let worker = Daemon::start_with(&site.home, &arguments, &nowhere);
    site.comes(&["acme/alice"], &worker);
    assert!(!worker.log().contains("nowhere"), "{}", worker.log());
    worker.stop();
}

#[test]
fn a_command_that_was_killed_keeps_a_maildrop_no_longer_than_a_worker() {
    let mut site = Site::new(1, "");
    site.add("acme/alice", "u0", &[]);
    site.put("u0");
    site.provider.hold("RETR", 1);
    let mut sync = site.home.command(&["sync", "acme/alice"]);
    let sync = crate::support::process::Running::start(sync.env("POSTRIDER_FLEET_SILENCE", "2s"));
    assert!(wait_until(SOON, || site.provider.held().len() == 1));
    sync.signal(Signal::SIGKILL);
    drop(sync);
    site.provider.release();
    let worker = site.worker();
    site.comes(&["acme/alice"], &worker);
    assert_eq!(site.execute("SELECT count(*) FROM worker WHERE evicted"), "1");
    worker.stop();
}

#[test]
fn wake_makes_maildrops_due_for_whichever_worker_has_room() {
    let mut site = Site::new(2, "");
    site.add("acme/alice", "u0", &[]);
    site.add("acme/bob", "u1", &[]);
    let worker = site.worker();
    assert!(wait_until(SOON, || site.provider.polls().0 >= 2), "{}", worker.log());
    site.put("u0");
    assert_eq!(site.home.must(&["-v", "wake", "acme/alice"], 0).stdout, "1 account is polled now\n");
    site.comes(&["acme/alice"], &worker);
    site.put("u1");
    assert_eq!(site.home.must(&["-v", "wake"], 0).stdout, "2 accounts are polled now\n");
    site.comes(&["acme/alice", "acme/bob"], &worker);
    worker.stop();
}

#[test]
fn a_file_that_is_read_again_changes_targets_and_keys_but_not_the_database() {
    // Which would not take a maildir that it was not made for.
    let free = "sandbox: off\n";
    let mut site = Site::new(2, free);
    site.add("acme/alice", "u0", &[]);
    let worker = site.worker();
    worker.logs("polling 1 account of the table");
    site.configure(&Postgres::shared().database(), free);
    worker.running.signal(Signal::SIGHUP);
    worker.logs("cannot go on with another database");
    site.configure(&site.url, free);
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    site.home.configure(&config.replace("desk: {", "disk: { maildir: /srv/mail }, desk: {"));
    worker.running.signal(Signal::SIGHUP);
    worker.logs("disk: maildir:/srv/mail is this machine's own");
    site.home.configure(&config);
    worker.running.signal(Signal::SIGHUP);
    worker.logs("read the configuration again");
    site.put("u0");
    site.home.must(&["wake", "acme/alice"], 0);
    site.comes(&["acme/alice"], &worker);
    worker.stop();
}

#[test]
fn a_worker_asks_for_the_databases_password_once_and_for_its_keys_once_a_reading() {
    let site = Site::new(0, "sandbox: off\n");
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    let asks = "password: { command: 'echo asked >>~/asked; echo secret' }, \
                secrets_key: { command: 'echo key >>~/keys; cat ~/key' }";
    site.home.configure(&config.replace("secrets_key: { file: ~/key }", asks));
    let worker = site.worker();
    worker.logs("polling 0 accounts of the table from now on");
    let asked = || std::fs::read_to_string(site.home.path("asked")).unwrap();
    let keys = || std::fs::read_to_string(site.home.path("keys")).unwrap();
    assert_eq!((asked().as_str(), keys().as_str()), ("asked\n", "key\n"));
    worker.running.signal(Signal::SIGHUP);
    worker.logs("read the configuration again");
    assert_eq!(asked(), "asked\n", "the database is the one that it was");
    assert_eq!(keys(), "key\n".repeat(2), "the keys may be others");
    worker.stop();
}
