//! A daemon in a home of its own, with accounts at honest servers.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use tempfile::{NamedTempFile, TempPath};

use super::maildrop::{Maildrop, Protection, Settings, What};
use super::postrider::{Home, LIMIT};
use super::process::{Running, wait_until};

/// How long something may take that takes a moment.
pub const SOON: Duration = Duration::from_secs(30);

/// A daemon in a home of its own; what it logs is read while it runs.
pub struct Daemon {
    /// Its process.
    pub running: Running,
    /// Not in the home, whose disk may be full.
    log: TempPath,
}

impl Daemon {
    /// Starts it.
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, &["daemon"], &[])
    }

    /// Starts it with these arguments, and with these variables besides.
    pub fn start_with(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = NamedTempFile::new().expect("a log").into_temp_path();
        let mut command = home.command(arguments);
        command.envs(environment.iter().copied());
        Self { running: Running::start_logging(&mut command, &log), log }
    }

    /// Gives what it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has logged this.
    pub fn logs(&self, words: &str) {
        assert!(wait_until(SOON, || self.log().contains(words)), "not logged: {words}\n{}", self.log());
    }

    /// Ends it as a service manager does.
    pub fn stop(self) {
        self.running.signal(Signal::SIGTERM);
        self.ends_well();
    }

    /// Waits for its end, which is to come within ten seconds.
    pub fn ends_well(self) {
        let log = self.log;
        let ended = self.running.wait(LIMIT);
        let log = fs::read_to_string(&log).unwrap();
        assert_eq!(ended.status, Some(0), "{log}");
        assert!(ended.took < Duration::from_secs(10), "it took {:?}: {log}", ended.took);
    }
}

/// Gives how long a soak is to go on, if one was asked for: `POSTRIDER_SOAK=10m tests/run --test soak --test months`.
pub fn soak() -> Option<Duration> {
    let time = std::env::var("POSTRIDER_SOAK").ok()?;
    Some(humantime::parse_duration(&time).expect("POSTRIDER_SOAK is a duration, such as 10m"))
}

/// Starts an honest server without TLS.
pub fn server() -> Maildrop {
    Maildrop::start(settings())
}

/// Gives its settings.
pub fn settings() -> Settings {
    Settings { tls: Protection::None, ..Settings::default() }
}

/// The keys of an account, each with a maildrop and a maildir of its own.
pub fn account(name: &str, port: u16, more: &str) -> String {
    format!(
        "  {name}: {{ host: 127.0.0.1, port: {port}, tls: none, auth: [plain], user: alice, password: correct horse, \
         maildrop_id: {name}, deliver: {{ maildir: ~/{name} }}, {more} }}\n"
    )
}

/// The whole configuration, without a spread at the start.
pub fn config(daemon: &str, accounts: &[String]) -> String {
    format!("daemon: {{ startup_spread: 0s, {daemon} }}\naccounts:\n{}", accounts.concat())
}

/// A message of its own for each number.
pub fn message(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\nmessage {number}\r\n").into_bytes()
}

/// Waits until a maildir has so many messages.
pub fn arrives(home: &Home, maildir: &str, count: usize) {
    assert!(wait_until(SOON, || home.maildir(maildir).len() >= count), "{:?}", home.maildir(maildir).len());
}

/// Waits until a server has seen so many sessions end.
pub fn polls(server: &Maildrop, count: usize) {
    server.wait_for(count, |what| *what == What::Closed);
}

/// Says when a server's sessions began.
pub fn begun(server: &Maildrop) -> Vec<Instant> {
    server.events().iter().filter(|event| event.what == What::Connected).map(|event| event.at).collect()
}
