//! The status page as a phone shows it, by day and in the dark, read back out of a real Chromium.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, SOON, account, message, server};
use crate::support::postrider::Home;
use crate::support::process::{free_port, program, wait_until};

/// A Chromium of 360 by 740 points, driven by its driver; both end when this is dropped.
struct Phone {
    driver: Child,
    port: u16,
    session: String,
}

impl Phone {
    /// Starts one; `None` if there is no driver, which Debian has as chromium-driver.
    fn start(home: &Home) -> Option<Self> {
        let port = free_port();
        let mut driver = Command::new(program("chromedriver")?);
        driver.arg(format!("--port={port}")).env("HOME", home.path(""));
        let driver = driver.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "it never listened");
        let mut phone = Self { driver, port, session: String::new() };
        let profile = format!("--user-data-dir={}", home.path("chromium").display());
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &profile];
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let made = phone.ask("/session", &json!({ "capabilities": { "alwaysMatch": options } }));
        phone.session = format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        phone.is_wide(360);
        Some(phone)
    }

    fn is_wide(&self, points: u32) {
        let screen = json!({ "width": points, "height": 740, "deviceScaleFactor": 2, "mobile": true });
        self.command("Emulation.setDeviceMetricsOverride", screen);
    }

    /// Says that by day and in the dark all can be read, and that nothing is wider than the screen; gives how many texts were
    /// looked at.
    fn can_be_read(&self, points: u32) -> u64 {
        let looked = ["light", "dark"].map(|scheme| {
            let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            self.command("Emulation.setEmulatedMedia", media);
            let seen = self.evaluate(PALE);
            assert_eq!(seen["pale"], json!([]), "{scheme}");
            let width = self.evaluate("return [document.documentElement.scrollWidth, innerWidth]");
            assert_eq!(width, json!([points, points]), "{scheme}: it is wider than the screen");
            seen["looked"].as_u64().unwrap()
        });
        looked[0].min(looked[1])
    }

    /// Loads the page; says whether these words stand in it.
    fn shows(&self, port: u16, words: &str) -> bool {
        self.ask("/url", &json!({ "url": format!("http://127.0.0.1:{port}/") }));
        self.evaluate("return document.body.innerText").as_str().unwrap().contains(words)
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        let answer = self.request("POST", path, body);
        assert!(answer["error"].is_null(), "{path}: {answer}");
        answer
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(2 * SOON)).unwrap();
        let body = body.to_string();
        let head =
            format!("{method} {}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close", self.session);
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let (mut reader, mut length) = (BufReader::new(stream), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut octets = vec![0; length];
        reader.read_exact(&mut octets).unwrap();
        let answer: Value = serde_json::from_slice(&octets).unwrap();
        answer["value"].clone()
    }

    /// Sends a command of the DevTools protocol.
    fn command(&self, command: &str, parameters: Value) -> Value {
        self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    fn evaluate(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Gives what a screen reader is told: role and name of each node.
    fn told(&self) -> Vec<(String, String)> {
        let tree = self.command("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().expect("nodes").iter().filter(|node| node["ignored"] == false);
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        nodes.map(|node| (text(&node["role"]), text(&node["name"]))).collect()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        // Ends the browser.
        self.request("DELETE", "", &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Gives each text that is shown whose contrast with what is behind it is under 4.5 (WCAG 2.1, 1.4.3).
const PALE: &str = "
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const pale = [];
    let looked = 0;
    for (const element of document.body.querySelectorAll('*')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        for (const [part, shown] of [[null, own], ['::before', true]]) {
            const style = getComputedStyle(element, part);
            if (!shown || part && style.content === 'none' || element.closest('svg')) continue;
            const [one, other] = [light(style.color), light(behind(element))].sort((a, b) => b - a);
            looked += 1;
            const contrast = (one + 0.05) / (other + 0.05);
            if (contrast < 4.5) pale.push(element.tagName + (part || '') + ' ' + contrast);
        }
    }
    return { pale, looked };
";

/// Gives what stands before each cell.
const LABELS: &str =
    "return [...document.querySelectorAll('td')].map(cell => getComputedStyle(cell, '::before').content);";

#[test]
fn on_a_phone_the_table_keeps_its_names_and_everything_can_be_read() {
    let (server, home, port) = (server(), Home::new(), free_port());
    let Some(phone) = Phone::start(&home) else { return eprintln!("there is no chromedriver here") };
    server.put("one", message(1));
    let long = format!("long-{}", "name".repeat(14));
    let accounts = [
        account("home", server.port(), "interval: 1h"),
        account("bad", free_port(), "interval: 1h"),
        account(&long, free_port(), "enabled: false"),
    ];
    home.configure(&format!(
        "daemon: {{ startup_spread: 0s, status_listen: 127.0.0.1:{port} }}\naccounts:\n{}",
        accounts.concat()
    ));
    let daemon = Daemon::start(&home);
    assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "{}", daemon.log());
    assert!(wait_until(2 * SOON, || phone.shows(port, "1 failing, 1 fine")), "{}", daemon.log());
    assert!(phone.can_be_read(360) > 30);
    let expected = ["State", "Last poll", "Next poll", "What it did"].map(|name| format!("\"{name}: \""));
    let labels = phone.evaluate(LABELS);
    let joined = labels.as_array().unwrap().iter().map(|label| label.as_str().unwrap());
    assert_eq!(joined.collect::<Vec<_>>(), expected.iter().cycle().take(12).collect::<Vec<_>>());
    let told = phone.told();
    let count = |role: &str| told.iter().filter(|(of, _)| of == role).count();
    for (role, expected) in [("table", 1), ("row", 4), ("columnheader", 5), ("rowheader", 3), ("cell", 12)] {
        assert_eq!(count(role), expected, "{role}: {told:?}");
    }
    let is_told = |role: &str, name: &str| told.iter().any(|(of, said)| of == role && said.contains(name));
    for (role, name) in [
        ("table", "Accounts, what fails first"),
        ("columnheader", "Next poll"),
        ("rowheader", &long),
        ("image", "Messages and failed polls of each hour"),
        ("link", "look again"),
    ] {
        assert!(is_told(role, name), "{role} {name}: {told:?}");
    }
    drop(phone);
    daemon.stop();
}

#[test]
fn five_hundred_accounts_that_all_fail_can_be_read_on_the_narrowest_screen_and_on_a_wide_one() {
    const ACCOUNTS: usize = 500;
    let (home, port, closed) = (Home::new(), free_port(), free_port());
    let Some(phone) = Phone::start(&home) else { return eprintln!("there is no chromedriver here") };
    let mut accounts: Vec<String> = (1..ACCOUNTS)
        .map(|number| account(&format!("customer-{number:03}"), closed, "interval: 1h"))
        .collect();
    let long = format!("long-{}", "name".repeat(14));
    accounts.push(account(&long, closed, "interval: 1h"));
    home.configure(&format!(
        "daemon: {{ startup_spread: 0s, max_sessions_per_host: 64, status_listen: 127.0.0.1:{port} }}\naccounts:\n{}",
        accounts.concat()
    ));
    let daemon = Daemon::start(&home);
    assert!(wait_until(SOON, || TcpStream::connect(("127.0.0.1", port)).is_ok()), "{}", daemon.log());
    let words = format!("{ACCOUNTS} accounts: {ACCOUNTS} failing");
    assert!(wait_until(4 * SOON, || phone.shows(port, &words)), "{}", daemon.log());
    for points in [320, 1280] {
        phone.is_wide(points);
        assert!(phone.can_be_read(points) > 2 * ACCOUNTS as u64);
    }
    let told = phone.told();
    let names: Vec<_> = told.iter().filter(|(role, _)| role == "rowheader").map(|(_, name)| name).collect();
    assert!(names.len() == ACCOUNTS && names.contains(&&long), "{names:?}");
    drop(phone);
    daemon.stop();
}
