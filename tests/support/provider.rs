//! A provider: any number of maildrops behind one port, without TLS, that says who was there at once.
//!
//! It locks nothing, as some providers do, so that it sees what whoever polls does by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_postgres::NoTls;

/// A provider. Its port is free again once this is dropped.
pub struct Provider {
    port: u16,
    state: Arc<Mutex<State>>,
    /// Whether what is held is let go.
    released: watch::Sender<bool>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    maildrops: HashMap<String, Maildrop>,
    /// Commands that came, of all sessions, in their order: maildrop, session, line.
    said: Vec<(String, u64, String)>,
    keeps_said: bool,
    sessions: u64,
    here: BTreeSet<u64>,
    most_open: usize,
    polls: u64,
    /// Log-ins while another session had the maildrop.
    overlaps: u64,
    delay: Duration,
    /// How many commands that begin so are still to be held; and the sessions whose they were.
    hold: (String, usize),
    held: BTreeSet<u64>,
    /// Where it is asked at each DELE what is recorded, how many DELEs that were, and of which messages nothing was.
    database: Option<String>,
    deletions: usize,
    unrecorded: Vec<String>,
}

/// The connection over which a database is asked.
type Asker = Arc<tokio::sync::Mutex<Option<tokio_postgres::Client>>>;

#[derive(Default)]
struct Maildrop {
    messages: BTreeMap<u64, (String, Arc<[u8]>)>,
    next: u64,
    here: HashSet<u64>,
    polls: u64,
}

impl Provider {
    pub fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let (released, hold) = watch::channel(false);
        let (end, ended) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn({
            let state = state.clone();
            move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let asker = Asker::default();
                    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                    tell.send(listener.local_addr().expect("an address").port()).expect("somebody waits");
                    let serve = async {
                        loop {
                            let Ok((socket, _)) = listener.accept().await else { continue };
                            let (state, hold, asker) = (state.clone(), hold.clone(), asker.clone());
                            tokio::spawn(async move {
                                let mut session = Session::new(state, hold, asker);
                                let _ = session.serve(socket).await;
                                session.ends();
                            });
                        }
                    };
                    tokio::select! {
                        () = serve => {}
                        _ = ended => {}
                    }
                });
            }
        });
        let port = told.recv().expect("a port");
        Self { port, state, released, end: Some(end), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// Puts a message into a maildrop, which is made by that.
    pub fn put(&self, user: &str, uid: &str, octets: impl Into<Vec<u8>>) {
        let mut state = self.lock();
        let maildrop = state.maildrops.entry(user.to_owned()).or_default();
        let octets: Vec<u8> = octets.into();
        maildrop.messages.insert(maildrop.next, (uid.to_owned(), octets.into()));
        maildrop.next += 1;
    }

    /// Makes an empty maildrop.
    pub fn make(&self, user: &str) {
        self.lock().maildrops.entry(user.to_owned()).or_default();
    }

    /// Counts the messages in all maildrops.
    pub fn messages(&self) -> usize {
        self.lock().maildrops.values().map(|maildrop| maildrop.messages.len()).sum()
    }

    /// Counts the log-ins, and those while another session had the maildrop.
    pub fn polls(&self) -> (u64, u64) {
        let state = self.lock();
        (state.polls, state.overlaps)
    }

    /// Counts the log-ins to each maildrop.
    pub fn polls_of_each(&self) -> BTreeMap<String, u64> {
        self.lock().maildrops.iter().map(|(user, maildrop)| (user.clone(), maildrop.polls)).collect()
    }

    /// Asks this database at each DELE whether its message is recorded as delivered, for as long as it takes to answer.
    pub fn ask(&self, url: &str) {
        self.lock().database = Some(url.to_owned());
    }

    /// Counts the DELEs of which a database was asked, and gives the messages that it knew nothing of.
    pub fn deletions(&self) -> (usize, Vec<String>) {
        let state = self.lock();
        (state.deletions, state.unrecorded.clone())
    }

    /// Counts the connections that were open at once at most.
    pub fn most_open(&self) -> usize {
        self.lock().most_open
    }

    /// Lets each answer to a log-in take so long.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Keeps what is said from now on.
    pub fn listen(&self) {
        self.lock().keeps_said = true;
    }

    /// Gives what was said: maildrop, session, line.
    pub fn said(&self) -> Vec<(String, u64, String)> {
        self.lock().said.clone()
    }

    /// Answers the next commands that begin so, this many, by half (an empty one: it greets by half), and says no more in
    /// those sessions until it is released.
    pub fn hold(&self, command: &str, count: usize) {
        self.released.send_replace(false);
        let mut state = self.lock();
        state.hold = (command.to_owned(), count);
        state.held.clear();
    }

    /// Gives the sessions that are held.
    pub fn held(&self) -> BTreeSet<u64> {
        self.lock().held.clone()
    }

    /// Says whether all of these sessions are over.
    pub fn are_over(&self, sessions: &BTreeSet<u64>) -> bool {
        self.lock().here.is_disjoint(sessions)
    }

    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Session {
    state: Arc<Mutex<State>>,
    released: watch::Receiver<bool>,
    asker: Asker,
    number: u64,
    user: String,
    is_in: bool,
    messages: Vec<(u64, String, Arc<[u8]>)>,
    deleted: HashSet<u64>,
}

impl Session {
    fn new(state: Arc<Mutex<State>>, released: watch::Receiver<bool>, asker: Asker) -> Self {
        let number = {
            let mut state = state.lock().expect("nobody panics with it");
            state.sessions += 1;
            let number = state.sessions;
            state.here.insert(number);
            state.most_open = state.most_open.max(state.here.len());
            number
        };
        Self {
            state,
            released,
            asker,
            number,
            user: String::new(),
            is_in: false,
            messages: Vec::new(),
            deleted: HashSet::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn ends(&mut self) {
        let (user, number) = (self.user.clone(), self.number);
        let mut state = self.lock();
        state.here.remove(&number);
        if let Some(maildrop) = state.maildrops.get_mut(&user) {
            maildrop.here.remove(&number);
        }
    }

    async fn serve(&mut self, socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let (read, mut write) = socket.into_split();
        let mut read = BufReader::new(read);
        // The greeting answers nothing.
        let (mut command, mut ahead, mut octets) = (String::new(), VecDeque::new(), Vec::new());
        loop {
            let is_held = self.holds(&command);
            let delay = if command.starts_with("PASS") { self.lock().delay } else { Duration::ZERO };
            let is_last = command == "QUIT";
            self.look_up(&command).await;
            let answer = self.answer(&command);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let (first, rest) = answer.split_at(if is_held { answer.len() / 2 } else { answer.len() });
            write.write_all(first).await?;
            if is_held {
                let mut released = self.released.clone();
                loop {
                    tokio::select! {
                        _ = released.wait_for(|released| *released) => break,
                        // Who goes away meanwhile is gone.
                        more = read.read_until(b'\n', &mut octets) => if more? == 0 { return Ok(()) },
                    }
                    ahead.push_back(self.hears(&mut octets));
                }
                write.write_all(rest).await?;
            }
            if is_last {
                return Ok(());
            }
            command = match ahead.pop_front() {
                Some(command) => command,
                None if read.read_until(b'\n', &mut octets).await? == 0 => return Ok(()),
                None => self.hears(&mut octets),
            };
        }
    }

    /// Takes note of a command that has come.
    fn hears(&self, octets: &mut Vec<u8>) -> String {
        let command = String::from_utf8_lossy(octets).trim_end().to_owned();
        octets.clear();
        let mut state = self.lock();
        if state.keeps_said {
            state.said.push((self.user.clone(), self.number, command.clone()));
        }
        command
    }

    /// Says whether a command is to be held.
    fn holds(&self, command: &str) -> bool {
        let mut state = self.lock();
        let (held, count) = &mut state.hold;
        let is_held =
            *count > 0 && command.starts_with(held.as_str()) && command.is_empty() == held.is_empty();
        if is_held {
            *count -= 1;
            state.held.insert(self.number);
        }
        is_held
    }

    /// The place of the message that a command names.
    fn place(&self, argument: &str) -> Option<usize> {
        let number: usize = argument.split(' ').next()?.parse().ok()?;
        number.checked_sub(1).filter(|place| *place < self.messages.len())
    }

    /// Asks the database about the message that is to be deleted.
    async fn look_up(&self, command: &str) {
        let place = command.strip_prefix("DELE ").and_then(|argument| self.place(argument));
        let (Some(place), Some(url)) = (place, self.lock().database.clone()) else { return };
        let uid = &self.messages[place].1;
        let is_recorded = is_recorded(&self.asker, &url, uid).await;
        let mut state = self.lock();
        state.deletions += 1;
        if !is_recorded {
            state.unrecorded.push(uid.clone());
        }
    }

    fn answer(&mut self, command: &str) -> Vec<u8> {
        let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
        let message = || self.place(argument).map(|place| &self.messages[place]);
        match verb {
            "" => b"+OK ready\r\n".to_vec(),
            "CAPA" => b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n".to_vec(),
            "USER" => {
                self.user = argument.to_owned();
                b"+OK\r\n".to_vec()
            }
            "PASS" => self.log_in(),
            "NOOP" => b"+OK\r\n".to_vec(),
            _ if !self.is_in && verb != "QUIT" => b"-ERR log in first\r\n".to_vec(),
            "STAT" => format!("+OK {} {}\r\n", self.messages.len(), self.octets()).into_bytes(),
            "UIDL" => self.list(|(_, uid, _)| uid.clone()),
            "LIST" => self.list(|(.., octets)| octets.len().to_string()),
            "RETR" | "TOP" => match message() {
                Some((.., octets)) => [b"+OK\r\n", &octets[..], b".\r\n"].concat(),
                None => b"-ERR no such message\r\n".to_vec(),
            },
            "DELE" => match message() {
                Some((key, ..)) => {
                    let key = *key;
                    self.deleted.insert(key);
                    b"+OK\r\n".to_vec()
                }
                None => b"-ERR no such message\r\n".to_vec(),
            },
            "QUIT" => {
                let (deleted, user) = (std::mem::take(&mut self.deleted), self.user.clone());
                if let Some(maildrop) = self.lock().maildrops.get_mut(&user) {
                    maildrop.messages.retain(|key, _| !deleted.contains(key));
                }
                b"+OK\r\n".to_vec()
            }
            _ => b"-ERR what\r\n".to_vec(),
        }
    }

    fn log_in(&mut self) -> Vec<u8> {
        let number = self.number;
        let mut state = self.state.lock().expect("nobody panics with it");
        let Some(maildrop) = state.maildrops.get_mut(&self.user) else {
            return b"-ERR [AUTH] who\r\n".to_vec();
        };
        let overlaps = !maildrop.here.is_empty();
        maildrop.here.insert(number);
        maildrop.polls += 1;
        let message =
            |(key, (uid, octets)): (&u64, &(String, Arc<[u8]>))| (*key, uid.clone(), octets.clone());
        self.messages = maildrop.messages.iter().map(message).collect();
        self.is_in = true;
        state.polls += 1;
        state.overlaps += u64::from(overlaps);
        b"+OK\r\n".to_vec()
    }

    fn octets(&self) -> usize {
        self.messages.iter().map(|(.., octets)| octets.len()).sum()
    }

    fn list(&self, of: impl Fn(&(u64, String, Arc<[u8]>)) -> String) -> Vec<u8> {
        let mut answer = b"+OK\r\n".to_vec();
        for (index, message) in self.messages.iter().enumerate() {
            answer.extend(format!("{} {}\r\n", index + 1, of(message)).into_bytes());
        }
        answer.extend(b".\r\n");
        answer
    }
}

/// Asks a database whether a message is recorded as delivered; again and again for a while, if it is away.
async fn is_recorded(asker: &Asker, url: &str, uid: &str) -> bool {
    let begun = Instant::now();
    let mut client = asker.lock().await;
    while begun.elapsed() < Duration::from_secs(20) {
        if client.is_none()
            && let Ok((connected, connection)) = tokio_postgres::connect(url, NoTls).await
        {
            tokio::spawn(connection);
            *client = Some(connected);
        }
        let sql = "SELECT 1 FROM seen WHERE uid = $1 AND kind = 0 AND delivered_at IS NOT NULL";
        match client.as_ref() {
            Some(connected) => match connected.query(sql, &[&uid.as_bytes()]).await {
                Ok(rows) => return !rows.is_empty(),
                Err(_) => *client = None,
            },
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    false
}
