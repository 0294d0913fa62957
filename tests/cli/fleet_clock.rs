//! Processes that share a database, on machines whose clocks are wrong: the time is the database's.

use crate::support::daemon::{Daemon, SOON, server};
use crate::support::maildrop::{Maildrop, What};
use crate::support::postgres::Postgres;
use crate::support::postrider::{Home, faketime};
use crate::support::process::wait_until;

const HOUR: i64 = 3600;

struct Site {
    server: Maildrop,
    home: Home,
    url: String,
}

impl Site {
    fn new(password: &str) -> Self {
        let (server, home, url) = (server(), Home::new(), Postgres::shared().database());
        home.configure(&format!(
            "state: {{ postgres: {{ url: '{url}' }} }}\nnotify: {{ deliver: false }}\ndaemon: {{ startup_spread: 0s }}\n\
             accounts:\n  a: {{ host: 127.0.0.1, port: {}, tls: none, auth: [plain], user: alice, password: {password}, \
             interval: 5m, deliver: {{ maildir: ~/Mail, shared: true }} }}\n",
            server.port()
        ));
        Self { server, home, url }
    }

    /// Gives a number of seconds that the database computes.
    fn seconds(&self, sql: &str) -> i64 {
        let asked = Postgres::shared().execute(self.url.rsplit('/').next().unwrap(), sql);
        asked.parse::<f64>().unwrap_or_else(|_| panic!("{sql}: {asked}")) as i64
    }
}

#[test]
fn a_refused_log_in_waits_its_time_whichever_machine_has_a_wrong_clock() {
    for (first, then) in [(0, -HOUR), (0, HOUR), (HOUR, 0), (-HOUR, 0)] {
        let site = Site::new("wrong");
        let refused = site.home.must_at(first, &["sync", "-v"], 77).stderr;
        assert!(!refused.contains("not tried"), "{refused}");
        let waits = site.home.must_at(then, &["sync", "-v"], 77).stderr;
        assert!(waits.contains("not tried"), "{first}, then {then}: {waits}");
        assert_eq!(site.seconds("SELECT refused_count FROM maildrop"), 1);
        let at = site.seconds("SELECT abs(extract(epoch FROM now()) - refused_at) FROM maildrop");
        assert!(at < 120, "{first}: {at}");
    }
}

#[test]
fn what_a_machine_with_a_wrong_clock_writes_down_and_shows_is_of_the_right_time() {
    for ahead in [HOUR, -HOUR] {
        let site = Site::new("correct horse");
        for name in ["held", "fine"] {
            site.server.put(name, format!("Message-ID: <{name}@a>\r\nDate: b\r\n\r\n{name}\r\n"));
        }
        site.server.refuse("held", Some("-ERR no such message"));
        site.home.must_at(ahead, &["sync"], 75);
        let since = |column: &str, table: &str| {
            site.seconds(&format!("SELECT min(extract(epoch FROM now()) - {column}) FROM {table}"))
        };
        for (column, table) in
            [("poll_at", "maildrop"), ("delivered_at", "seen"), ("login_ok_at", "maildrop")]
        {
            let past = since(column, table);
            assert!((-1..120).contains(&past), "{ahead}: {column} {past} s ago");
        }
        let wait = -since("next_try", "held");
        assert!((1..HOUR / 2).contains(&wait), "{ahead}: {wait}");
        // Nobody of another clock takes it for due, or for one that is never tried.
        let tried = asked(&site.server, "RETR");
        site.home.must(&["sync"], 75);
        assert_eq!(asked(&site.server, "RETR"), tried, "{ahead}: it was tried before its time");
        site.home.must_at(ahead, &["held", "retry", "a"], 75);
        site.server.refuse("held", None);
        site.home.must_at(ahead, &["held", "retry", "a"], 0);
        site.home.must_at(ahead, &["status", "--max-age", "10m"], 0);
        site.home.must_at(-ahead, &["status", "--max-age", "10m"], 0);
    }
}

fn asked(server: &Maildrop, command: &str) -> usize {
    let is_it = |what: &What| matches!(what, What::Command(line) if line.starts_with(command));
    server.events().iter().filter(|event| is_it(&event.what)).count()
}

#[test]
fn a_worker_with_a_wrong_clock_polls_when_it_is_time() {
    let site = Site::new("correct horse");
    let library = faketime();
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", "-3600"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let worker = Daemon::start_with(&site.home, &["daemon"], &environment);
    let polls = "SELECT count(*) FROM maildrop WHERE abs(extract(epoch FROM now()) - poll_at) < 120";
    // What makes the tables is asked first.
    site.home.must(&["status"], 0);
    assert!(wait_until(SOON, || site.seconds(polls) == 1), "{}", worker.log());
    let next = "SELECT coalesce(max(extract(epoch FROM due - now())), 0) FROM lease WHERE token = 0";
    assert!(wait_until(SOON, || (60..660).contains(&site.seconds(next))), "{}", site.seconds(next));
    site.home.must_at(HOUR, &["status", "--max-age", "10m"], 0);
    worker.stop();
}
