//! Log-ins and tokens of accounts in the table, where several workers share them.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;

use crate::support::authorization_server::{AuthorizationServer, CLIENT, browse};
use crate::support::daemon::{Daemon, SOON};
use crate::support::http_server::{HttpServer, answer};
use crate::support::maildrop::{Maildrop, Settings};
use crate::support::postgres::Postgres;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::wait_until;
use crate::tokens::{Terminal, is_told};

/// A provider of tokens, a maildrop that takes them, a receiver, and the home that all workers have.
struct Site {
    tokens: AuthorizationServer,
    server: Maildrop,
    receiver: HttpServer,
    home: Home,
    database: String,
}

impl Site {
    fn new() -> Self {
        let tokens = AuthorizationServer::start();
        let server = Maildrop::start(Settings::with_tokens(tokens.check("pop")));
        let receiver = HttpServer::start(|_| answer(204));
        let database = Postgres::shared().database().rsplit('/').next().unwrap().to_owned();
        let site = Self { tokens, server, receiver, home: Home::new(), database };
        site.home.write("key", &format!("{}\n", STANDARD.encode([1; 32])));
        site.configure(", secrets_key: { file: ~/key }", &site.tokens.keys(""));
        site
    }

    fn configure(&self, keys: &str, provider: &str) {
        self.home.configure(&format!(
            "state: {{ postgres: {{ url: '{}'{keys} }} }}\nnotify: {{ deliver: false }}\n\
             daemon: {{ startup_spread: 0s, max_sessions: 3, max_sessions_per_host: 3 }}\ndefaults: {{ timeout: 3s }}\n\
             fleet: {{ allow_networks: [127.0.0.0/8], targets: {{ desk: {{ http: {{ url: '{}' }} }} }}, providers: {{ own: \
             {provider} }} }}\n",
            Postgres::shared().url(&self.database),
            self.receiver.url("/in"),
        ));
    }

    fn add(&self, name: &str, user: &str) {
        let row = format!(
            "{{ host: 127.0.0.1, port: {}, tls: none, auth: [xoauth2], user: {user}, maildrop: {name}, interval: 1m, \
             oauth2: {{ provider: own }} }}",
            self.server.port()
        );
        self.home.write("row", &row);
        self.home.must(&["account", "add", name, "row"], 0);
    }

    fn put(&self, number: usize) {
        self.server.put(&number.to_string(), format!("Message-ID: <{number}@a>\r\n\r\n{number}\r\n"));
    }

    fn log_in(&self, arguments: &[&str]) -> String {
        let mut terminal = Terminal::start(&self.home, &[&["login"], arguments].concat());
        if !arguments.contains(&"--device") {
            let location = browse(&terminal.shows("/authorize?")).unwrap().1.unwrap();
            terminal.paste(&location);
        }
        terminal.ends(0).0
    }

    fn asked(&self, sql: &str) -> String {
        Postgres::shared().execute(&self.database, sql)
    }

    /// Ends a poll while the provider, which has done what it was asked for, takes its time to answer.
    fn end_before_the_answer(&self, account: &str, signal: Signal, delay: Duration) {
        self.tokens.revoke_access();
        let before = self.tokens.count("refresh_token");
        self.tokens.state().delay = delay;
        let polling = self.home.start(&["sync", account]);
        assert!(wait_until(SOON, || self.tokens.count("refresh_token") > before));
        polling.signal(signal);
        polling.wait(LIMIT);
        self.tokens.state().delay = Duration::ZERO;
        self.asked("UPDATE lease SET token = 0, owner = 0");
    }
}

#[test]
fn a_login_of_a_row_is_in_the_database_for_all_workers_and_sealed() {
    let site = Site::new();
    site.add("acme/alice", "alice");
    site.put(1);
    let ended = site.home.must(&["sync", "acme/alice"], 77);
    is_told(&ended, &["no login of alice is stored", "hint: run `postrider login acme/alice`"]);
    let said = site.log_in(&["acme/alice"]);
    assert!(
        said.contains("Logged in as alice at 127.0.0.1") && said.contains("`postrider check acme/alice`"),
        "{said}"
    );
    assert_eq!(site.asked("SELECT count(*) FROM token_store WHERE sealed IS NOT NULL"), "1");
    let kept = site.asked("SELECT login, secret_key, encode(sealed, 'escape') FROM token_store");
    assert!(!site.tokens.secrets().iter().any(|secret| kept.contains(secret.as_str())), "{kept}");
    assert!(!site.home.path(".local/state/postrider/state.db.tokens").exists());
    site.home.must(&["sync", "acme/alice"], 0);
    assert_eq!(site.receiver.asked().len(), 1);
    site.log_in(&["--device", "acme/alice"]);
    assert_eq!(site.asked("SELECT count(*) FROM token_store"), "1");
    site.put(2);
    site.home.must(&["sync", "acme/alice"], 0);
    assert_eq!(site.receiver.asked().len(), 2);
}

#[test]
fn a_row_in_which_nobody_logs_in_or_whose_tokens_nobody_could_seal_is_told() {
    let site = Site::new();
    site.add("acme/alice", "alice");
    is_told(&site.home.must(&["login", "acme/bob"], 2), &["no account \"acme/bob\" in the table account"]);
    site.home.write("row", "{ host: h, user: u, password: hunter2 }");
    site.home.must(&["account", "add", "acme/carol", "row"], 0);
    is_told(
        &site.home.must(&["login", "acme/carol"], 2),
        &["account acme/carol has no `oauth2`", "`password`"],
    );
    site.configure("", &site.tokens.keys(""));
    is_told(&site.home.must(&["login", "acme/alice"], 78), &["set `secrets_key`"]);
}

#[test]
fn workers_that_need_a_token_at_once_have_it_renewed_once() {
    let site = Site::new();
    let names: Vec<String> = (0..6).map(|number| format!("acme/a{number}")).collect();
    names.iter().for_each(|name| site.add(name, "alice"));
    site.put(0);
    site.log_in(&["acme/a0"]);
    let workers = [(); 2]
        .map(|()| Daemon::start_with(&site.home, &["-v", "daemon"], &[("POSTRIDER_FLEET_SILENCE", "2s")]));
    let came = |count: usize| wait_until(2 * SOON, || site.receiver.asked().len() == count);
    let logs = || workers.iter().map(Daemon::log).collect::<Vec<_>>().join("\n--\n");
    workers.iter().for_each(|worker| worker.logs("polling 6 accounts of the table from now on"));
    assert!(came(6), "{}\n{}", site.receiver.asked().len(), logs());
    assert_eq!(site.tokens.count("refresh_token"), 0);
    // Each can take three of the six that are due, and all are refused.
    site.tokens.state().delay = Duration::from_secs(1);
    for round in 1..=2 {
        site.asked("UPDATE worker SET claims = 0");
        site.put(round);
        site.tokens.revoke_access();
        site.home.must(&["wake"], 0);
        assert!(came(6 * (round + 1)), "{}\n{}", site.receiver.asked().len(), logs());
        assert_eq!(site.tokens.count("refresh_token"), round, "{}", logs());
        let claims = "SELECT count(*) FROM worker WHERE NOT draining AND claims > 0";
        assert_eq!(site.asked(claims), "2", "{}", logs());
    }
    workers.into_iter().for_each(Daemon::stop);
}

#[test]
fn a_worker_that_reads_its_file_again_seals_with_the_new_key_and_opens_with_the_old() {
    let site = Site::new();
    for key in [1_u8, 2] {
        site.home.write(&format!("keys/{key}"), &format!("{}\n", STANDARD.encode([key; 32])));
    }
    site.configure(", secrets_key: { file: ~/keys/1 }", &site.tokens.keys(""));
    site.add("acme/alice", "alice");
    site.put(1);
    site.log_in(&["acme/alice"]);
    let key = || site.asked("SELECT secret_key FROM token_store");
    let old = key();
    let worker = Daemon::start_with(&site.home, &["-v", "daemon"], &[("POSTRIDER_FLEET_SILENCE", "2s")]);
    let came = |count: usize| {
        assert!(wait_until(2 * SOON, || site.receiver.asked().len() == count), "{}", worker.log());
    };
    came(1);
    site.configure(", secrets_key: [{ file: ~/keys/2 }, { file: ~/keys/1 }]", &site.tokens.keys(""));
    worker.running.signal(Signal::SIGHUP);
    worker.logs("read the configuration again");
    // It takes the old token to have a new one.
    site.tokens.revoke_access();
    site.put(2);
    site.home.must(&["wake", "acme/alice"], 0);
    came(2);
    assert_ne!(key(), old, "{}", worker.log());
    worker.stop();
}

#[test]
fn a_worker_that_is_killed_while_it_renews_costs_a_login_only_where_the_old_token_is_worthless_then() {
    let site = Site::new();
    site.add("acme/alice", "alice");
    site.put(1);
    site.tokens.state().rotates = false;
    site.log_in(&["acme/alice"]);
    site.home.must(&["sync", "acme/alice"], 0);
    site.end_before_the_answer("acme/alice", Signal::SIGKILL, LIMIT);
    // Nobody knows yet that it was killed.
    let ended = site.home.must(&["sync", "acme/alice"], 75);
    is_told(&ended, &["renew"]);
    site.asked("UPDATE token_store SET turn_until = now()");
    site.home.must(&["sync", "acme/alice"], 0);
    site.tokens.state().rotates = true;
    site.end_before_the_answer("acme/alice", Signal::SIGKILL, LIMIT);
    site.asked("UPDATE token_store SET turn_until = now()");
    let ended = site.home.must(&["sync", "acme/alice"], 77);
    is_told(&ended, &["invalid_grant", "run `postrider login acme/alice`"]);
    site.log_in(&["acme/alice"]);
    site.put(2);
    site.home.must(&["sync", "acme/alice"], 0);
    assert_eq!(site.receiver.asked().len(), 2);
}

#[test]
fn a_poll_that_is_told_to_end_while_it_renews_hears_the_answer_and_keeps_the_login() {
    let site = Site::new();
    site.add("acme/alice", "alice");
    site.put(1);
    site.log_in(&["acme/alice"]);
    site.home.must(&["sync", "acme/alice"], 0);
    site.end_before_the_answer("acme/alice", Signal::SIGTERM, Duration::from_secs(2));
    site.put(2);
    site.home.must(&["sync", "acme/alice"], 0);
    assert_eq!(site.receiver.asked().len(), 2);
    assert_eq!(site.tokens.count("refresh_token"), 1, "what the provider gave is used");
}

#[test]
fn a_broker_is_asked_for_the_token_of_a_tenants_account_and_once_for_all_workers() {
    let site = Site::new();
    site.tokens.state().rotates = false;
    for (whose, user) in [("acme-alice", "alice"), ("beta-bob", "bob")] {
        site.home.write(&format!("refresh-{whose}"), &site.tokens.refresh_token(user, "pop"));
    }
    let broker = site.home.write(
        "broker",
        &format!(
            "echo $1-$2 >>~/asked\ncurl -s -d grant_type=refresh_token -d client_id={CLIENT} \
             -d refresh_token=$(cat ~/refresh-$1-$2) {}\n",
            site.tokens.url("token")
        ),
    );
    let provider = format!("{{ token_command: [sh, '{}', '%(tenant)', '%(account)'] }}", broker.display());
    site.configure(", secrets_key: { file: ~/key }", &provider);
    site.add("acme/alice", "alice");
    site.add("beta/bob", "bob");
    site.put(1);
    for _ in 0..2 {
        site.home.must(&["sync", "acme/alice", "beta/bob"], 0);
    }
    assert_eq!(site.receiver.asked().len(), 2);
    let asked = fs::read_to_string(site.home.path("asked")).unwrap();
    let mut asked: Vec<&str> = asked.lines().collect();
    asked.sort_unstable();
    assert_eq!(asked, ["acme-alice", "beta-bob"], "what it gave is kept as long as it is good");
    is_told(&site.home.must(&["login", "beta/bob"], 2), &["has no `oauth2` in which a person logs in"]);
}
