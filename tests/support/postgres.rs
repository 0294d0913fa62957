//! A private PostgreSQL 13 or later (Debian: postgresql) in a temporary directory, run as another user, since it refuses
//! root.

use std::fs;
use std::io::Write as _;
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
            "unix_socket_directories = '{}'\nlisten_addresses = '{listen}'\nport = {}\nmax_connections = 200\n\
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
        let log = fs::File::create(self.log()).expect("a log file");
        // Whatever ends the test closes the pipe, and then the server ends at once.
        let script = "\"$0\" -D \"$1\" & server=$!; cat >/dev/null; kill -QUIT $server; wait $server";
        let mut command = as_owner("sh");
        command.args(["-c", script, path(&tool("postgres")), path(&self.data())]);
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log file")).stderr(log);
        let mut child = command.process_group(0).spawn().expect("a shell");
        let pipe = child.stdin.take().expect("a pipe");
        self.running = Some((child, pipe));
        let begin = Instant::now();
        while !self.psql("postgres", "SELECT 1").status.success() {
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
        let output = self.psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> Output {
        let mut psql = Command::new(tool("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            USER,
            "-h",
            path(self.directory.path()),
        ]);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-f", "-"]).stdin(Stdio::piped());
        let mut child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql runs");
        // It may have ended already, and says why.
        let _ = child.stdin.take().expect("a pipe").write_all(sql.as_bytes());
        child.wait_with_output().expect("psql ends")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
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
