//! Processes that end with their owner, and ports for them.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User, getuid};

/// How long processes may take to end and to give their ports back.
const RELEASE: Duration = Duration::from_secs(20);

/// How often the world outside is looked at when it cannot be waited for.
const GLANCE: Duration = Duration::from_millis(10);

/// A server in a process group of its own; dropping it ends the whole group.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
    ports: Vec<u16>,
}

impl Server {
    /// Starts a server that stays in the foreground, its output going to `log`, and waits until all ports answer.
    /// Gives what the log says if the server ends instead.
    ///
    /// What is left of a server that had the ports or sockets before may still have them; they are waited for.
    pub fn start(command: &mut Command, log: &Path, ports: &[u16]) -> Result<Self, String> {
        let begin = Instant::now();
        let is_taken = |log: &str| log.contains("in use") || log.contains("already running");
        loop {
            wait_until(RELEASE, || ports.iter().all(|port| is_free(*port)));
            match Self::start_once(command, log, ports) {
                Err(log) if is_taken(&log) && begin.elapsed() < RELEASE => thread::sleep(GLANCE),
                ended => return ended,
            }
        }
    }

    fn start_once(command: &mut Command, log: &Path, ports: &[u16]) -> Result<Self, String> {
        let output = File::create(log).expect("a log file");
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log file"))
            .stderr(output)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", command.get_program().to_string_lossy()))?;
        let mut server = Self { child, log: log.to_path_buf(), ports: ports.to_vec() };
        let up = wait_until(Duration::from_secs(30), || {
            server.ended().is_some() || ports.iter().all(|port| answers(*port))
        });
        match server.ended() {
            Some(status) => Err(format!("{status}: {}", server.log())),
            None if !up => Err(format!("no answer on ports {ports:?}: {}", server.log())),
            None => Ok(server),
        }
    }

    /// Gives what the server wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal to the server and all its processes.
    pub fn signal(&self, signal: Signal) {
        // The group is named by its first process, which is not reaped before `wait`; it may have ended.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Ends the server as a crash does, with all its processes, and waits until its ports are free again.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        // Processes that were not our children end in their own time.
        wait_until(RELEASE, || self.ports.iter().all(|port| is_free(*port)));
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
            wait_until(Duration::from_secs(5), || self.ended().is_some());
        }
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// What a process that ended left behind.
#[derive(Debug)]
pub struct Ended {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took from the moment when it was waited for.
    pub took: Duration,
}

/// A process whose output is gathered.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
}

impl Running {
    /// Starts a process with nothing on standard input and without a terminal.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", command.get_program()));
        let stdout = gather(child.stdout.take().expect("a pipe"));
        let stderr = gather(child.stderr.take().expect("a pipe"));
        Self { child, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// Starts a process whose standard error goes into a file, to be read while it runs.
    pub fn start_logging(command: &mut Command, log: &Path) -> Self {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).expect("a log file"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {:?}: {error}", command.get_program()));
        Self { child, stdout: None, stderr: None }
    }

    /// Gives the process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = nix::sys::signal::kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Says whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Waits for its end; ends it and panics if that takes longer than the limit.
    pub fn wait(mut self, limit: Duration) -> Ended {
        let begin = Instant::now();
        let ended = wait_until(limit, || !self.is_running());
        let took = begin.elapsed();
        self.signal(Signal::SIGKILL);
        let status = self.child.wait().expect("a child of ours");
        let text = |pipe: Option<thread::JoinHandle<String>>| {
            pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        assert!(ended, "it had not ended after {limit:?}\nstdout: {stdout}\nstderr: {stderr}");
        Ended { status: status.code(), stdout, stderr, took }
    }
}

impl Running {
    /// Waits like [`Running::wait`], and gives the most memory of its own that was resident, in octets. Pages of the program's
    /// file are not in it: those depend on how it was built.
    pub fn wait_and_weigh(mut self, limit: Duration) -> (Ended, u64) {
        let status = format!("/proc/{}/status", self.child.id());
        let mut peak = 0;
        let begin = Instant::now();
        while self.is_running() && begin.elapsed() < limit {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            peak = peak.max(kib.unwrap_or(0) << 10);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(peak > 0, "nothing was seen of the process");
        (self.wait(limit), peak)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Says whether someone listens on a loopback port.
pub fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Waits until something is so, and says whether it came to be within the limit.
pub fn wait_until(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if so() {
            return true;
        }
        if begin.elapsed() > limit {
            return false;
        }
        thread::sleep(GLANCE);
    }
}

/// Finds a loopback port for a server that must be told one. It lies below the range from which the kernel takes ports
/// for connections, every call in this process gives another, and no other test program is given it as long as this one
/// runs, so that a server that is started again finds it as it left it.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20000;
    const COUNT: u16 = 12000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // The datagrams' port of the same number: nobody else needs it, and only one process can have it.
    static OURS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    // Processes begin at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if let (Ok(ours), true) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, port)), is_free(port)) {
            OURS.lock().unwrap_or_else(PoisonError::into_inner).push(ours);
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// Says whether nobody listens on a loopback port, nor has a socket that could.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The user to whom a real server's mail belongs: `mail` as root (servers refuse to open root's mail), else the caller.
pub fn mail_owner() -> User {
    let owner = if getuid().is_root() { User::from_name("mail") } else { User::from_uid(getuid()) };
    owner.expect("the user database").expect("a user for the mail")
}

/// Finds a program of the system, also where only root's PATH leads.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}

fn gather(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut octets = Vec::new();
        // What came before an error is worth showing.
        let _ = pipe.read_to_end(&mut octets);
        String::from_utf8_lossy(&octets).into_owned()
    })
}
