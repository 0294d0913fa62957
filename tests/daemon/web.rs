//! The status over HTTP: what is served, to whom, and what clients cannot do to it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::daemon::{Daemon, SOON, account, arrives, message, polls, server};
use crate::support::postrider::Home;
use crate::support::process::{free_port, wait_until};

/// A status, a head and a body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn ask(port: u16, head: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    let text = String::from_utf8(octets).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("{head}")),
        head: head.to_lowercase(),
        body: body.into(),
    }
}

fn get(port: u16, path: &str) -> Answer {
    ask(port, &format!("GET {path} HTTP/1.1\nHost: 127.0.0.1:{port}\n\n"))
}

/// A configuration with these addresses and accounts.
fn config(listen: &str, accounts: &[String]) -> String {
    format!("daemon: {{ startup_spread: 0s, status_listen: {listen} }}\naccounts:\n{}", accounts.concat())
}

/// A daemon that serves one account that works and one that fails.
fn serving(home: &Home, port: u16, mail: u16) -> Daemon {
    let accounts = [account("home", mail, "interval: 1h"), account("bad", free_port(), "interval: 1h")];
    home.configure(&config(&format!("127.0.0.1:{port}"), &accounts));
    let daemon = Daemon::start_with(home, &["-v", "daemon"], &[]);
    let known = |row: &Value| !row["last_poll"].is_null() && row["polling"] == false;
    let all_polled = || {
        let answer = TcpStream::connect(("127.0.0.1", port)).is_ok().then(|| get(port, "/status.json"));
        let json = answer.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
        json.is_some_and(|json| json["accounts"].as_array().is_some_and(|rows| rows.iter().all(known)))
    };
    assert!(wait_until(SOON, all_polled), "{}", daemon.log());
    daemon
}

#[test]
fn the_status_is_served_as_a_page_json_metrics_and_health_and_nothing_else_is() {
    let (server, home, port) = (server(), Home::new(), free_port());
    server.put("one", message(1));
    let daemon = serving(&home, port, server.port());
    let page = get(port, "/");
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/html; charset=utf-8"), "{}", page.head);
    assert!(
        page.head.contains("content-security-policy: default-src 'none'; style-src 'sha256-"),
        "{}",
        page.head
    );
    assert!(page.body.contains("2 accounts: 1 failing, 1 fine"), "{}", page.body);
    assert!(page.body.contains("scope=\"row\">bad</th>"), "{}", page.body);
    assert!(page.body.contains("last day: 1 message"), "{}", page.body);
    let head = ask(port, "HEAD / HTTP/1.1\nHost: localhost\n\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    let json: Value = serde_json::from_str(&get(port, "/status.json").body).unwrap();
    let shown: Vec<Value> = home
        .must(&["status", "--json"], 0)
        .stdout
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    assert_eq!(json["accounts"], Value::Array(shown), "what `status` shows");
    assert!(json["accounts"][0]["next_poll"].is_string() && json["hours"][0]["messages"] == 1, "{json}");

    let metrics = get(port, "/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("postrider_messages_total{account=\"home\"} 1\n"), "{}", metrics.body);
    let open = ask(port, "GET /metrics HTTP/1.1\nHost: localhost\nAccept: application/openmetrics-text\n\n");
    assert!(
        open.head.contains("application/openmetrics-text") && open.body.ends_with("# EOF\n"),
        "{}",
        open.head
    );
    check_metrics(&metrics.body);

    assert_eq!((get(port, "/healthz").status, get(port, "/healthz").body.as_str()), (200, "ok\n"));
    let health = get(port, "/healthz?max_age=1h");
    assert_eq!(health.status, 503);
    assert!(health.body.starts_with("bad: no poll has ever succeeded"), "{}", health.body);
    assert_eq!(get(port, "/healthz?max_age=soon").status, 400);
    assert_eq!(get(port, "/nothing").status, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = ask(port, &format!("{method} / HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n"));
        assert_eq!(refused.status, 405, "{method}");
        assert!(refused.head.contains("allow: get, head"), "{}", refused.head);
    }
    // A page of a stranger whose name was made to lead here.
    for path in ["/", "/status.json", "/metrics"] {
        assert_eq!(
            ask(port, &format!("GET {path} HTTP/1.1\nHost: evil.example:{port}\n\n")).status,
            421,
            "{path}"
        );
    }
    assert_eq!(ask(port, "nonsense\n\n").status, 400);
    daemon.stop();
}

/// Asks Prometheus' own tool what it thinks of the metrics, where it is there.
fn check_metrics(text: &str) {
    let unpacked = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/servers/usr/bin/promtool");
    let program = if unpacked.exists() { unpacked } else { "promtool".into() };
    let tool = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else { return eprintln!("promtool is not there") };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let ended = tool.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stdout.is_empty(), "{ended:?}\n{text}");
}

#[test]
fn beyond_loopback_only_metrics_and_health_are_served() {
    let (server, home, here, everywhere) = (server(), Home::new(), free_port(), free_port());
    let account = account("home", server.port(), "interval: 1h");
    home.configure(&config(&format!("[127.0.0.1:{here}, 0.0.0.0:{everywhere}]"), &[account]));
    let daemon = Daemon::start(&home);
    assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", everywhere)).is_ok()), "{}", daemon.log());
    for (path, from_here, from_afar) in
        [("/", 200, 404), ("/status.json", 200, 404), ("/metrics", 200, 200), ("/healthz", 200, 200)]
    {
        assert_eq!((get(here, path).status, get(everywhere, path).status), (from_here, from_afar), "{path}");
    }
    daemon.stop();
}

#[test]
fn a_socket_is_served_as_well_and_a_reload_moves_the_page() {
    let (server, home, port) = (server(), Home::new(), free_port());
    let account = account("home", server.port(), "interval: 1h");
    home.configure(&config("unix:~/run/status", std::slice::from_ref(&account)));
    fs::create_dir(home.path("run")).unwrap();
    let daemon = Daemon::start(&home);
    let socket = home.path("run/status");
    assert!(wait_until(SOON, || socket.exists()), "{}", daemon.log());
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let curl = Command::new("curl")
        .args(["-sf", "--unix-socket"])
        .arg(&socket)
        .arg("http://mail.example/")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&curl.stdout).contains("1 account"), "{curl:?}");
    home.configure(&config(&format!("localhost:{port}"), std::slice::from_ref(&account)));
    daemon.running.signal(Signal::SIGHUP);
    assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "{}", daemon.log());
    assert!(!socket.exists());
    home.configure(&config("none", &[account]));
    daemon.running.signal(Signal::SIGHUP);
    assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", port)).is_err()), "{}", daemon.log());
    daemon.stop();
    // What is not a socket is left alone, and mail is fetched all the same.
    home.write("run/status", "precious");
    home.configure(&config(
        "unix:~/run/status",
        &[crate::support::daemon::account("home", server.port(), "")],
    ));
    let daemon = Daemon::start(&home);
    daemon.logs("cannot listen at unix:");
    polls(&server, 2);
    daemon.stop();
    assert_eq!(fs::read_to_string(home.path("run/status")).unwrap(), "precious");
}

#[test]
fn clients_that_are_slow_silent_endless_or_thousands_hold_up_neither_polls_nor_the_page_for_long() {
    let (server, home, port) = (server(), Home::new(), free_port());
    home.configure(&config(&format!("127.0.0.1:{port}"), &[account("home", server.port(), "interval: 1s")]));
    let daemon = Daemon::start(&home);
    polls(&server, 1);
    let connect = || TcpStream::connect(("127.0.0.1", port));
    assert!(wait_until(SOON, || connect().is_ok()), "{}", daemon.log());
    let mut endless = connect().unwrap();
    endless.set_write_timeout(Some(SOON)).unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
    let mut written = 0;
    while let Ok(octets @ 1..) = endless.write(&[b'x'; 65536]) {
        written += octets;
    }
    assert!(written < 8 << 20, "it read {written} octets");
    let mut silent = Vec::new();
    // Those that have a place, and as many as the system lets wait for one.
    for number in 0..180 {
        let Ok(mut stream) = connect() else { break };
        if number % 3 == 0 {
            // Whoever has gone is told nothing.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: local");
        }
        silent.push(stream);
    }
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.running.id())).unwrap().count();
    assert!(open() < 200, "{} descriptors are open", open());
    server.put("one", message(1));
    arrives(&home, "home", 1);
    drop(silent);
    let asked = Instant::now();
    assert_eq!(get(port, "/healthz").status, 200);
    assert!(asked.elapsed() < Duration::from_secs(30));
    daemon.stop();
}

#[test]
fn a_browser_shows_the_page_and_finds_nothing_to_complain_of() {
    let Some(chromium) = ["/usr/bin/chromium", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| fs::exists(path).unwrap_or(false))
    else {
        return eprintln!("there is no Chromium here");
    };
    let (server, home, port) = (server(), Home::new(), free_port());
    server.put("one", message(1));
    let daemon = serving(&home, port, server.port());
    let mut command = Command::new(chromium);
    command.env("HOME", home.path("")).args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", home.path("chromium").display()));
    let ended = command.arg(format!("http://127.0.0.1:{port}/")).output().unwrap();
    let (dom, log) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(dom.contains("1 failing, 1 fine") && dom.contains("<svg"), "{dom}\n{log}");
    // What the policy forbids, and what fails to load, is told there.
    assert!(!log.contains("CONSOLE"), "{log}");
    daemon.stop();
}
