//! The built program in a home of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::{Ended, Running, wait_until};

/// The longest that any run may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A home directory with a configuration, a state and maildirs; nothing of the caller's environment reaches the program.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
}

impl Home {
    /// Makes an empty home.
    pub fn new() -> Self {
        Self { directory: TempDir::new().expect("a temporary directory") }
    }

    /// Gives a path in the home.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only its owner may read, and gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a path in the home")).expect("a directory");
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("a written file");
        path
    }

    /// Writes the configuration where the program looks for it.
    pub fn configure(&self, yaml: &str) {
        self.write("config/postrider/config.yaml", yaml);
    }

    /// Gives the program with these arguments, ready to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .current_dir(self.directory.path());
        command
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(arguments))
    }

    /// Starts the program with a umask of 077, as a service file has it; this process's own holds for all tests in it.
    pub fn start_private(&self, arguments: &[&str]) -> Running {
        let program = self.command(arguments);
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "umask 077 && exec \"$0\" \"$@\""])
            .arg(program.get_program())
            .args(program.get_args());
        shell.env_clear().current_dir(self.directory.path());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Running::start(&mut shell)
    }

    /// Runs the program to its end with a clock that is so many seconds ahead of the right one, or behind it.
    pub fn run_at(&self, ahead: i64, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        command
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME", format!("{ahead:+}"))
            // Time limits are kept by another clock, which nobody sets.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Running::start(&mut command).wait(LIMIT)
    }

    /// Runs the program with another clock; it must exit with this status.
    pub fn must_at(&self, ahead: i64, arguments: &[&str], status: i32) -> Ended {
        let ended = self.run_at(ahead, arguments);
        assert_eq!(
            ended.status,
            Some(status),
            "postrider {arguments:?}, {ahead} s ahead\nstdout: {}\nstderr: {}",
            ended.stdout,
            ended.stderr
        );
        ended
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).wait(LIMIT)
    }

    /// Runs the program, which must exit with this status.
    pub fn must(&self, arguments: &[&str], status: i32) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(
            ended.status,
            Some(status),
            "postrider {arguments:?}\nstdout: {}\nstderr: {}",
            ended.stdout,
            ended.stderr
        );
        ended
    }

    /// Has mail arrive and be fetched whole once, and then so many times arrive and the fetching killed, at moments from
    /// before the first connection to about the last record, however fast the machine is. Counts the kills that met the
    /// program alive, which must be more than a quarter.
    pub fn kill_syncs(&self, kills: u32, mut arrive: impl FnMut()) -> usize {
        arrive();
        let mut begun = Instant::now();
        self.must(&["sync"], 0);
        let mut whole = begun.elapsed();
        let mut met = 0;
        for kill in 0..kills {
            arrive();
            begun = Instant::now();
            let mut running = self.start(&["sync"]);
            wait_until(whole * (kill + 4) / (kills + 4), || !running.is_running());
            match running.is_running() {
                true => met += 1,
                // The one that was measured was slower, as the first is, and as a loaded machine makes it.
                false => whole = begun.elapsed(),
            }
            running.signal(Signal::SIGKILL);
            running.wait(Duration::from_secs(10));
        }
        assert!(met > kills as usize / 4, "only {met} kills met it alive");
        met
    }

    /// Gives the names of the commands that `--help` lists.
    pub fn commands(&self) -> BTreeSet<String> {
        let help = self.must(&["--help"], 0).stdout;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        listed
            .take_while(|line| !line.trim().is_empty())
            // What is indented deeper goes on with the line before.
            .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    }

    /// Gives the messages in a maildir, `new` and `cur`, sorted; none if there is no maildir.
    pub fn maildir(&self, name: &str) -> Vec<Vec<u8>> {
        let mut messages: Vec<_> =
            self.files(name).iter().map(|path| fs::read(path).expect("a message")).collect();
        messages.sort();
        messages
    }

    /// Gives the files of a maildir, those in `new` and `cur`.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        ["new", "cur"].iter().flat_map(|folder| listed(&self.path(name).join(folder))).collect()
    }

    /// Gives what lies in a maildir's `tmp`.
    pub fn leftovers(&self, name: &str) -> Vec<PathBuf> {
        listed(&self.path(name).join("tmp"))
    }

    /// Gives the permission bits of a path.
    pub fn mode(&self, name: impl AsRef<Path>) -> u32 {
        fs::metadata(self.path(name)).expect("a file").permissions().mode() & 0o7777
    }
}

/// Fails unless both hold the same messages, each as often; says which one differs and where.
pub fn assert_same(mut found: Vec<Vec<u8>>, mut expected: Vec<Vec<u8>>) {
    found.sort();
    expected.sort();
    if found == expected {
        return;
    }
    let missing: Vec<_> = unmatched(&expected, &found);
    let surplus: Vec<_> = unmatched(&found, &expected);
    panic!(
        "{} messages, {} expected\nmissing: {:#?}\nsurplus or wrong: {:#?}",
        found.len(),
        expected.len(),
        shortened(&missing),
        shortened(&surplus)
    );
}

fn unmatched<'a>(these: &'a [Vec<u8>], those: &[Vec<u8>]) -> Vec<&'a [u8]> {
    let count = |all: &[Vec<u8>], one: &Vec<u8>| all.iter().filter(|other| *other == one).count();
    these.iter().filter(|one| count(these, one) > count(those, one)).map(Vec::as_slice).collect()
}

fn shortened(messages: &[&[u8]]) -> Vec<String> {
    let show = |message: &&[u8]| {
        let (start, end) = (&message[..message.len().min(300)], &message[message.len().saturating_sub(40)..]);
        format!("{} octets: {} ... {}", message.len(), start.escape_ascii(), end.escape_ascii())
    };
    messages.iter().take(5).map(show).collect()
}

/// Finds the library that shows a program another time.
pub fn faketime() -> PathBuf {
    let mut all = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    all.find_map(|path| Some(path.join("faketime/libfaketimeMT.so.1")).filter(|library| library.exists()))
        .expect("libfaketime (Debian: faketime)")
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").path()).collect()
}
