//! Whole sessions against a server that goes wrong as the input says.
//!
//! The first octet says what the server is like (`RAW` ... below). In raw mode the rest is what it says, all at once,
//! whatever it is asked. Otherwise it answers correctly, but for the faults in the rest, four octets each: which answer
//! (counted from the greeting), what goes wrong with it, where, and with which octet. A second poll meets the same
//! maildrop without faults.
//!
//! What a fault leaves a client waiting for never comes: the server hangs up then, so that a session takes
//! milliseconds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postrider::testing::config::{Account, Config};
use postrider::testing::session::{self, Environment, Limits, Task};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Bits of the first octet.
const RAW: u8 = 1;
const PIPELINING: u8 = 2;
const NO_CAPA: u8 = 4;
const EXPIRE_0: u8 = 8;
const NO_UIDL: u8 = 16;
/// How many messages more than one, in the two bits from here.
const COUNT_SHIFT: u8 = 5;

/// Sessions after which the directory is made anew: the state must not grow for ever.
const SESSIONS_IN_A_DIRECTORY: usize = 200;
/// How long a server waits for a client that may be waiting for it.
const IMPATIENCE: Duration = Duration::from_millis(20);
/// The longest that one input may take; the account's own time limit is a second, and there are three attempts.
const LONGEST: Duration = Duration::from_secs(15);

const MESSAGES: [&str; 4] = [
    "Subject: one\r\n\r\nbody of one\r\n",
    "Subject: two\r\n\r\n.\r\n..dots\r\n.\r\nend of two\r\n",
    "Subject: three\r\n\r\n",
    "no header\r\n\r\nFrom here\r\n",
];

/// One fault.
#[derive(Debug, Clone, Copy)]
struct Fault {
    answer: usize,
    kind: u8,
    place: u8,
    octet: u8,
}

/// How a server behaves, and what it has seen.
#[derive(Debug, Default)]
struct Server {
    flags: u8,
    raw: Option<Vec<u8>>,
    faults: Vec<Fault>,
    /// Octets sent, a connection each.
    sent: Vec<Vec<u8>>,
    /// Messages deleted in UPDATE state.
    removed: BTreeSet<usize>,
    /// Messages that a DELE named, a connection each.
    marked: Vec<BTreeSet<usize>>,
    answers: usize,
    /// A fault has happened that changed what the server said, rather than ending it.
    lied: bool,
}

/// What sessions share, so that one costs little.
struct Bench {
    runtime: Runtime,
    scratch: PathBuf,
    environment: Environment,
    sessions: usize,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// Polls twice: the server that the octets describe, and the same without its faults.
pub fn session(octets: &[u8]) {
    let Some((&flags, rest)) = octets.split_first() else { return };
    BENCH.with_borrow_mut(|bench| {
        if bench.as_ref().is_none_or(|bench| bench.sessions >= SESSIONS_IN_A_DIRECTORY) {
            bench.take();
            *bench = Some(Bench::new());
        }
        let bench = bench.as_mut().expect("it was just made");
        bench.sessions += 1;
        let mut server = Server { flags, ..Server::default() };
        if flags & RAW != 0 {
            server.raw = Some(rest.to_vec());
        } else {
            let (faults, _) = rest.as_chunks::<4>();
            let fault = |&[answer, kind, place, octet]: &[u8; 4]| Fault {
                answer: usize::from(answer),
                kind: kind % 8,
                place,
                octet,
            };
            server.faults = faults.iter().take(8).map(fault).collect();
        }
        bench.run(server);
    });
}

impl Bench {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
        let scratch = base.join(format!("postrider-fuzz-{}-{thread}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).expect("a scratch directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let state = scratch.join("state.db");
        let environment = Environment::new(state);
        Self { runtime, scratch, environment, sessions: 0 }
    }

    fn run(&mut self, mut server: Server) {
        let mail = self.scratch.join(format!("Mail-{}", self.sessions));
        let began = Instant::now();
        let session = self.sessions;
        let Self { runtime, environment, .. } = self;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
            let port = listener.local_addr().expect("the listener's address").port();
            let account = account(port, &mail, session);
            poll(&account, environment, &listener, &mut server).await;
            let seen = environment.store.seen(account.maildrop_id.as_str().into()).await.expect("the state");
            let delivered = files(&mail.join("new"));
            for file in &delivered {
                assert!(
                    server.sent.iter().any(|sent| holds(sent, file)),
                    "delivered and not sent: {}",
                    file.escape_ascii()
                );
            }
            for marked in &server.marked {
                assert!(marked.len() <= seen.len(), "{marked:?} were deleted, and {} recorded", seen.len());
                assert!(marked.len() <= delivered.len(), "deleted and not delivered: {marked:?}");
                if !server.lied && server.raw.is_none() && server.flags & NO_UIDL == 0 {
                    for number in marked {
                        let uid = format!("uid-{number}").into_bytes();
                        assert!(
                            seen.iter().any(|line| line.uid.as_bytes() == uid),
                            "DELE {number}: not recorded"
                        );
                    }
                }
            }
            environment.disk.settled().await;
            assert_eq!(files(&mail.join("tmp")).len(), 0, "something is left in tmp");

            let lied = server.lied || server.raw.is_some();
            (server.raw, server.faults) = (None, Vec::new());
            let report = poll(&account, environment, &listener, &mut server).await;
            if !lied {
                assert_eq!(report.failure, None, "a server without faults");
                let mut delivered = files(&mail.join("new"));
                delivered.sort();
                let mut expected: Vec<Vec<u8>> =
                    MESSAGES[..server.count()].iter().map(|m| m.replace("\r\n", "\n").into_bytes()).collect();
                expected.sort();
                assert_eq!(delivered, expected, "each message once, whole");
            }
        });
        assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
        let _ = fs::remove_dir_all(&mail);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

fn account(port: u16, mail: &Path, session: usize) -> Account {
    let yaml = format!(
        "accounts:\n  fuzz:\n    host: 127.0.0.1\n    port: {port}\n    user: alice\n    password: secret\n    tls: none\n    auth: [user-pass]\n    timeout: 1s\n    keep: none\n    deliver: {{ maildir: {} }}\n",
        mail.display()
    );
    let config = Config::from_yaml(&yaml, Path::new("/etc/postrider/config.yaml")).expect("a configuration");
    let mut account = config.accounts.into_iter().next().expect("one account");
    account.maildrop_id = format!("{}-{session}", account.maildrop_id);
    account
}

async fn poll(
    account: &Account,
    environment: &Environment,
    listener: &TcpListener,
    server: &mut Server,
) -> session::Report {
    let serve = async {
        loop {
            if let Ok((socket, _)) = listener.accept().await {
                // What ends a connection is the fault that was asked for.
                let _ = server.serve(socket).await;
            }
        }
    };
    tokio::select! {
        report = session::run(account, environment, Task::Sync(Limits::default()), &()) => report,
        () = serve => unreachable!("a server without end"),
    }
}

impl Server {
    fn count(&self) -> usize {
        1 + usize::from(self.flags >> COUNT_SHIFT & 3)
    }

    async fn serve(&mut self, mut socket: TcpStream) -> io::Result<()> {
        self.sent.push(Vec::new());
        self.marked.push(BTreeSet::new());
        self.answers = 0;
        let _ = socket.set_nodelay(true);
        let (read, mut write) = socket.split();
        let mut read = BufReader::new(read);
        if let Some(raw) = self.raw.clone() {
            self.sent.last_mut().expect("a connection").extend(&raw);
            write.write_all(&raw).await?;
            write.shutdown().await?;
            self.listen(&mut read).await?;
            return Ok(());
        }
        let mut marked = BTreeSet::new();
        if !self.say(&mut write, b"+OK ready\r\n".to_vec()).await? {
            return Ok(());
        }
        let mut line = String::new();
        loop {
            line.clear();
            let faulty = self.faults.iter().any(|fault| fault.answer < self.answers);
            let patience = if faulty { IMPATIENCE } else { LONGEST };
            match tokio::time::timeout(patience, read.read_line(&mut line)).await {
                Ok(Ok(octets)) if octets > 0 => {}
                Ok(Ok(_)) | Ok(Err(_)) | Err(_) => return Ok(()),
            }
            let (word, argument) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
            let answer = self.answer(word, argument, &mut marked);
            let ends = word == "QUIT";
            if !self.say(&mut write, answer).await? || ends {
                return Ok(());
            }
        }
    }

    /// Reads what a client says to a server that does not care.
    async fn listen(&mut self, read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<()> {
        let mut line = Vec::new();
        while let Ok(Ok(octets)) = tokio::time::timeout(IMPATIENCE, read.read_until(b'\n', &mut line)).await {
            if octets == 0 {
                return Ok(());
            }
            if let Some(number) = line.strip_prefix(b"DELE ") {
                let number = String::from_utf8_lossy(number).trim_end().parse().expect("a message-number");
                self.marked.last_mut().expect("a connection").insert(number);
            }
            line.clear();
        }
        Ok(())
    }

    fn answer(&mut self, word: &str, argument: &str, marked: &mut BTreeSet<usize>) -> Vec<u8> {
        let number = argument.split(' ').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
        let there: Vec<usize> = (1..=self.count()).filter(|n| !self.removed.contains(n)).collect();
        let listed = |show: &dyn Fn(usize) -> String| {
            let lines: String = there.iter().map(|n| format!("{n} {}\r\n", show(*n))).collect();
            format!("+OK\r\n{lines}.\r\n")
        };
        match word {
            "CAPA" if self.flags & NO_CAPA == 0 => {
                let pipelining = if self.flags & PIPELINING != 0 { "PIPELINING\r\n" } else { "" };
                let expire = if self.flags & EXPIRE_0 != 0 { "EXPIRE 0\r\n" } else { "" };
                let uidl = if self.flags & NO_UIDL == 0 { "UIDL\r\n" } else { "" };
                format!("+OK\r\nUSER\r\nTOP\r\n{uidl}{pipelining}{expire}.\r\n")
            }
            "USER" | "PASS" | "NOOP" => "+OK\r\n".into(),
            "UIDL" if self.flags & NO_UIDL == 0 => listed(&|n| format!("uid-{n}")),
            "LIST" => listed(&|n| MESSAGES[n - 1].len().to_string()),
            "RETR" if there.contains(&number) => format!("+OK\r\n{}", stuffed(MESSAGES[number - 1])),
            "TOP" if there.contains(&number) => {
                let header = MESSAGES[number - 1].split("\r\n\r\n").next().unwrap_or("");
                format!("+OK\r\n{}", stuffed(&format!("{header}\r\n\r\n")))
            }
            "DELE" if there.contains(&number) => {
                marked.insert(number);
                self.marked.last_mut().expect("a connection").insert(number);
                "+OK\r\n".into()
            }
            "QUIT" => {
                self.removed.append(marked);
                "+OK\r\n".into()
            }
            _ => "-ERR\r\n".into(),
        }
        .into_bytes()
    }

    /// Sends an answer as the faults have it; says whether the connection goes on.
    async fn say(
        &mut self,
        write: &mut (impl AsyncWriteExt + Unpin),
        mut answer: Vec<u8>,
    ) -> io::Result<bool> {
        let mut goes_on = true;
        let number = self.answers;
        self.answers += 1;
        let faults = self.faults.clone();
        for fault in faults.iter().filter(|fault| fault.answer == number) {
            let place = usize::from(fault.place) % (answer.len() + 1);
            let octet = fault.octet;
            // Ending too early is no lie: nothing that came whole was wrong.
            self.lied |= fault.kind > 1;
            match fault.kind {
                0 => {
                    answer.truncate(place);
                    goes_on = false;
                }
                1 => answer.truncate(place.min(answer.len().saturating_sub(1))),
                2 => answer.extend_from_within(..),
                3 => answer = b"-ERR no\r\n".to_vec(),
                4 => answer.insert(place, octet),
                5 if place < answer.len() => answer[place] = octet,
                6 if place < answer.len() => drop(answer.remove(place)),
                7 => answer.retain(|octet| *octet != b'\r'),
                _ => {}
            }
            // After an answer without its end, the client may take the next one for the rest.
            self.lied |= fault.kind == 1;
        }
        self.sent.last_mut().expect("a connection").extend(&answer);
        write.write_all(&answer).await?;
        Ok(goes_on)
    }
}

fn stuffed(message: &str) -> String {
    let lines: String = message
        .split_inclusive('\n')
        .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_string() })
        .collect();
    format!("{lines}.\r\n")
}

/// Says whether a message, with lines that end in LF, stands in what was sent: its lines one after the other, a dot more
/// or not, and the termination line behind them.
fn holds(sent: &[u8], message: &[u8]) -> bool {
    let lines = |octets: &[u8]| -> Vec<Vec<u8>> {
        let lines = octets.split(|octet| *octet == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect()
    };
    let sent = lines(sent);
    let Some(message) = message.strip_suffix(b"\n") else {
        return message.is_empty() && sent.iter().any(|line| line == b".");
    };
    // Its own CRs are content: of CR CR LF one CR is left.
    let message: Vec<Vec<u8>> = message.split(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
    let same = |(sent, line): (&Vec<u8>, &Vec<u8>)| sent == line || sent.strip_prefix(b".") == Some(line);
    sent.windows(message.len() + 1)
        .any(|window| window[message.len()] == b"." && window.iter().zip(&message).all(same))
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("a file")).collect()
}
