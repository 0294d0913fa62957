//! Polls inside the test's own process: no start of a program, files on tmpfs where there is one.

use std::fs;
use std::path::{Path, PathBuf};

use postrider::testing::config::{Account, Config};
use postrider::testing::session::{self, Environment, Limits, Report, Task};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// One account with a state and a maildir of its own.
#[derive(Debug)]
pub struct Poller {
    directory: TempDir,
    runtime: Runtime,
    /// The account, to be changed between polls.
    pub account: Account,
    /// What its sessions share.
    pub environment: Environment,
}

impl Poller {
    /// Makes one for a server on loopback; `keys` are further keys of the account, a line each, in
    /// which `{}` is its directory.
    pub fn new(port: u16, keys: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let directory = directory.expect("a temporary directory");
        let keys: String = keys.lines().map(|key| format!("    {}\n", key.trim())).collect();
        let mail = directory.path().join("Mail");
        let keys = keys.replace("{}", &directory.path().display().to_string());
        let yaml = format!(
            "accounts:\n  test:\n    host: 127.0.0.1\n    port: {port}\n    user: alice\n    password: correct horse\n    deliver: {{ maildir: {} }}\n{keys}",
            mail.display()
        );
        let config =
            Config::from_yaml(&yaml, &directory.path().join("config.yaml")).expect("a configuration");
        let account = config.accounts.into_iter().next().expect("one account");
        let state = directory.path().join("state.db");
        let environment = Environment::new(state);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { directory, runtime, account, environment }
    }

    /// Writes a file into its directory.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).expect("a written file");
    }

    /// Forgets all: another state, which is new.
    pub fn lose_state(&mut self) {
        self.environment = Environment::new(self.directory.path().join("another.db"));
    }

    /// Polls once.
    pub fn poll(&self) -> Report {
        let task = Task::Sync(Limits::default());
        self.block_on(session::run(&self.account, &self.environment, task, &()))
    }

    /// Polls once, which must succeed.
    pub fn must(&self) -> Report {
        let report = self.poll();
        assert_eq!(report.failure, None);
        report
    }

    /// Waits for a future.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Gives the messages in the maildir, sorted.
    pub fn maildir(&self) -> Vec<Vec<u8>> {
        let mut messages: Vec<_> = ["Mail/new", "Mail/cur"]
            .iter()
            .flat_map(|folder| listed(&self.directory.path().join(folder)))
            .map(|path| fs::read(path).expect("a message"))
            .collect();
        messages.sort();
        messages
    }

    /// Gives the unique-ids that are recorded.
    pub fn seen(&self) -> Vec<String> {
        let seen = self.environment.store.seen(self.account.maildrop_id.as_str().into());
        let seen = self.block_on(seen).expect("the state");
        seen.iter().map(|line| String::from_utf8_lossy(line.uid.as_bytes()).into_owned()).collect()
    }

    /// Gives what lies in the maildir's `tmp` once all work on files is done.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        self.block_on(self.environment.disk.settled());
        listed(&self.directory.path().join("Mail/tmp"))
    }
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").path()).collect()
}
