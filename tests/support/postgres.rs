//! A private PostgreSQL 13 or later (Debian: postgresql) in a temporary directory, run as another user, since it refuses
//! root.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{User, getuid};
use tempfile::TempDir;

/// Who may do everything, and is believed without a password on the Unix socket.
pub const USER: &str = "postrider";

/// Everything that makes waiting for a disk, which tests of the disk switch on again.
const FAST: &str = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";

/// A running server; it ends when this is dropped, or when the process ends, however that ends.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    port: u16,
    running: Option<(Child, ChildStdin)>,
    databases: AtomicUsize,
}

impl Postgres {
    /// Gives the server that all tests of this program share: it waits for no disk, and listens on a socket alone.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(0, FAST))
    }

    /// Starts a server that listens on this port of loopback, too (0: on none), where it wants passwords, with these
    /// lines in its configuration; panics if it is not installed or does not start.
    pub fn start(port: u16, lines: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        own(directory.path());
        let data = directory.path().join("data");
        let mut initdb = as_owner("initdb");
        initdb.args(["-D", path(&data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]);
        done(&mut initdb);
        let listen = if port == 0 { "" } else { "127.0.0.1" };
        let configuration = format!(
            "unix_socket_directories = '{}'\nlisten_addresses = '{listen}'\nport = {}\nmax_connections = 400\n\
             shared_buffers = 16MB\nautovacuum = off\n{lines}\n",
            path(directory.path()),
            if port == 0 { 5432 } else { port },
        );
        fs::write(data.join("postgresql.auto.conf"), configuration).expect("a configuration");
        let allowed = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n\
                       host replication all 127.0.0.1/32 scram-sha-256\nlocal replication all trust\n";
        fs::write(data.join("pg_hba.conf"), allowed).expect("a configuration");
        let port = if port == 0 { 5432 } else { port };
        let mut server = Self { directory, port, running: None, databases: AtomicUsize::new(0) };
        server.run();
        server
    }

    /// Starts it, or starts it again.
    pub fn run(&mut self) {
        self.running = Some(kept(("postgres", "QUIT"), &["-D", path(&self.data())], &self.log()));
        let begin = Instant::now();
        while !psql(&self.url("postgres"), "SELECT 1").status.success() {
            let said = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer: {}", said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a crash does, without a word to anybody who is connected.
    pub fn stop_at_once(&mut self) {
        if let Some((mut child, pipe)) = self.running.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }

    /// Makes an empty database, and gives its URL.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Gives the URL of a database, by the Unix socket.
    pub fn url(&self, database: &str) -> String {
        let directory = path(self.directory.path()).replace('/', "%2F");
        format!("postgresql://{USER}@{directory}:{}/{database}", self.port)
    }

    /// Starts a standby of this server, which listens on a socket alone, as this one must. What is committed here is told to be
    /// so once it is on the standby's disk, too.
    pub fn standby(&self) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        own(directory.path());
        let data = directory.path().join("data");
        let mut copy = as_owner("pg_basebackup");
        copy.args(["-D", path(&data), "-h", path(self.directory.path()), "-p", &self.port.to_string()]);
        done(copy.args(["-U", USER, "-R", "-X", "stream", "-c", "fast"]));
        let own = format!("unix_socket_directories = '{}'\n", path(directory.path()));
        let configuration = data.join("postgresql.auto.conf");
        let before = fs::read_to_string(&configuration).expect("a configuration");
        fs::write(configuration, before + &own).expect("a configuration");
        let mut standby = Self { directory, port: self.port, running: None, databases: AtomicUsize::new(0) };
        standby.run();
        self.execute("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.execute("postgres", "SELECT pg_reload_conf()");
        let begin = Instant::now();
        while self.execute("postgres", "SELECT sync_state FROM pg_stat_replication") != "sync" {
            assert!(begin.elapsed() < Duration::from_secs(60), "the standby does not keep up");
            thread::sleep(Duration::from_millis(20));
        }
        standby
    }

    /// Gives the URL of a database that is here or on another server, by their sockets.
    pub fn url_with(&self, other: &Self, database: &str) -> String {
        let socket =
            |server: &Self| format!("{}:{}", path(server.directory.path()).replace('/', "%2F"), server.port);
        format!("postgresql://{USER}@{},{}/{database}", socket(self), socket(other))
    }

    /// Gives the directory of the server's socket, and its port.
    pub fn socket(&self) -> (&Path, u16) {
        (self.directory.path(), self.port)
    }

    /// Gives the directory of the server's files.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Executes statements; panics if they fail. Gives what `psql` shows of the rows, a line each.
    pub fn execute(&self, database: &str, sql: &str) -> String {
        ask(&self.url(database), sql)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

/// Executes statements in the database of a URL; panics if they fail. Gives what `psql` shows of the rows, a line each.
pub fn ask(url: &str, sql: &str) -> String {
    let output = psql(url, sql);
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn psql(url: &str, sql: &str) -> Output {
    let mut child = connected(url).stderr(Stdio::piped()).spawn().expect("psql runs");
    // It may have ended already, and says why.
    let _ = child.stdin.take().expect("a pipe").write_all(sql.as_bytes());
    child.wait_with_output().expect("psql ends")
}

fn connected(url: &str) -> Command {
    let mut psql = Command::new(tool("psql"));
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", url]);
    psql.stdin(Stdio::piped()).stdout(Stdio::piped());
    psql
}

/// A transaction that is open until this is dropped, and is rolled back then.
#[derive(Debug)]
pub struct Open(Child);

impl Open {
    /// Begins it, and waits until it has executed this.
    pub fn with(url: &str, sql: &str) -> Self {
        let mut child = connected(url).spawn().expect("psql runs");
        writeln!(child.stdin.as_mut().expect("a pipe"), "BEGIN; {sql}; SELECT 'done';").expect("psql reads");
        let mut said = String::new();
        let answers = BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut said);
        assert_eq!((answers.expect("psql answers"), said.as_str()), (5, "done\n"));
        Self(child)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A pooler (Debian: pgbouncer) before a server, which gives each transaction another of a few connections. It ends when
/// this is dropped, or when the process ends.
#[derive(Debug)]
pub struct Pooler {
    directory: TempDir,
    running: Option<(Child, ChildStdin)>,
}

impl Pooler {
    /// Starts it; panics if it is not installed.
    pub fn start(server: &Postgres) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        own(directory.path());
        let (socket, port) = server.socket();
        let configuration = directory.path().join("pgbouncer.ini");
        let lines = format!(
            "[databases]\n* = host={} port={port} user={USER}\n[pgbouncer]\nunix_socket_dir = {}\nlisten_port = 6432\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 500\n",
            path(socket),
            path(directory.path())
        );
        fs::write(&configuration, lines).expect("a configuration");
        let log = directory.path().join("log");
        let running = kept(("pgbouncer", "TERM"), &[path(&configuration)], &log);
        let begin = Instant::now();
        while !directory.path().join(".s.PGSQL.6432").exists() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_secs(60), "pgbouncer does not listen: {}", said());
            thread::sleep(Duration::from_millis(20));
        }
        Self { directory, running: Some(running) }
    }

    /// Gives the URL of a database of the server.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{USER}@{}:6432/{database}", path(self.directory.path()).replace('/', "%2F"))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some((mut child, pipe)) = self.running.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

/// Starts a server that is ended at once, by its signal for that, when the pipe is closed, which whatever ends the test does.
fn kept((program, signal): (&str, &str), arguments: &[&str], log: &Path) -> (Child, ChildStdin) {
    let log = fs::File::create(log).expect("a log file");
    let script = format!("\"$0\" \"$@\" & server=$!; cat >/dev/null; kill -{signal} $server; wait $server");
    let mut command = as_owner("sh");
    command.args(["-c", &script, path(&tool(program))]).args(arguments);
    command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log file")).stderr(log);
    let mut child = command.process_group(0).spawn().expect("a shell");
    let pipe = child.stdin.take().expect("a pipe");
    (child, pipe)
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_at_once();
    }
}

/// Finds a port of loopback on which nobody listens.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Gives a directory to the user who runs the server.
pub fn own(directory: &Path) {
    if let Some(owner) = owner() {
        chown(directory, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("root may give it away");
    }
}

/// A command of PostgreSQL's, or another, run as the user who runs the server.
pub fn as_owner(name: &str) -> Command {
    let mut command = Command::new(tool(name));
    if let Some(owner) = owner() {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    command.current_dir("/");
    command
}

/// Runs a command to its end; panics if it fails.
pub fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `None`: whoever runs the tests is not root, and runs the server, too.
fn owner() -> Option<User> {
    getuid().is_root().then(|| User::from_name("postgres").expect("users").expect("install postgresql"))
}

/// Finds a program of PostgreSQL's, which Debian keeps beside those of other versions, or another.
fn tool(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|tool| tool.is_file()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
