//! Hundreds of accounts of one host that is away.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::daemon::{Daemon, SOON};
use crate::support::http_server::{HttpServer, answer};
use crate::support::postgres::Postgres;
use crate::support::postrider::Home;
use crate::support::process::{free_port, wait_until};
use crate::support::provider::Provider;

const ACCOUNTS: usize = 300;

#[test]
fn a_host_that_is_away_is_told_once_however_many_accounts_it_has_and_nobody_gets_a_notice() {
    let (provider, receiver, home) = (Provider::start(), HttpServer::start(|_| answer(204)), Home::new());
    let (url, away) = (Postgres::shared().database(), free_port());
    let execute = |sql: &str| Postgres::shared().execute(url.rsplit('/').next().unwrap(), sql);
    home.write("key", &format!("{}\n", STANDARD.encode([1; 32])));
    home.configure(&format!(
        "state: {{ postgres: {{ url: '{url}', secrets_key: {{ file: ~/key }} }} }}\n\
         daemon: {{ startup_spread: 0s }}\nnotify: {{ after: 2 }}\ndefaults: {{ timeout: 5s }}\n\
         fleet: {{ allow_networks: [127.0.0.0/8], targets: {{ desk: {{ http: {{ url: '{}' }} }} }} }}\n",
        receiver.url("/in")
    ));
    let row = |name: &str, port: u16| {
        format!(
            "{{\"tenant\": \"acme\", \"name\": \"{name}\", \"host\": \"127.0.0.1\", \"port\": {port}, \"tls\": \"none\", \
             \"auth\": [\"user-pass\"], \"user\": \"{name}\", \"password\": \"x\", \"keep\": \"none\"}}\n"
        )
    };
    let mut rows = row("well", provider.port());
    (0..ACCOUNTS).for_each(|number| rows.write_str(&row(&format!("a{number}"), away)).unwrap());
    home.write("rows", &rows);
    home.must(&["account", "import", "rows"], 0);
    provider.put("well", "uid-1", "Message-ID: <1@a>\r\nDate: b\r\n\r\nx\r\n");
    let worker = Daemon::start_with(&home, &["daemon"], &[]);
    worker.logs(&format!("127.0.0.1:{away}: several accounts in a row could not reach it"));
    // Each that has failed fails again, and once more.
    for failures in 2..4 {
        let again = format!("SELECT count(*) > 8 FROM lease WHERE failures >= {failures}");
        let fails_again = || {
            execute(
                "UPDATE lease SET due = now() - interval '1 h' WHERE token = 0 AND failures BETWEEN 1 AND 3",
            );
            execute(&again) == "t"
        };
        assert!(wait_until(SOON, fails_again), "{}", worker.log());
    }
    assert!(wait_until(SOON, || !receiver.asked().is_empty()), "{}", worker.log());
    let (log, came) = (worker.log(), receiver.asked());
    assert!(log.matches("connection refused").count() < 20, "{log}");
    assert_eq!(log.matches("several accounts in a row").count(), 1, "{log}");
    assert!(came.iter().all(|asked| asked.field("x-postrider-account") == "acme/well"), "a notice came");
    // It is back, if only to refuse everybody.
    let listener = TcpListener::bind(("127.0.0.1", away)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.write_all(b"+OK\r\n");
                while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"-ERR [SYS/TEMP] later\r\n");
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
    worker.logs(&format!("127.0.0.1:{away}: answers again"));
    worker.stop();
}
