//! A provider: any number of maildrops behind one port, without TLS, that says who was there at once.
//!
//! It locks nothing, as some providers do, so that it sees what whoever polls does by itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

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
    open: usize,
    most_open: usize,
    polls: u64,
    /// Log-ins while another session had the maildrop.
    overlaps: u64,
    delay: Duration,
    /// The next command that begins so is held; and the session whose it was.
    hold: Option<String>,
    held: Option<u64>,
}

#[derive(Default)]
struct Maildrop {
    messages: BTreeMap<u64, (String, Arc<[u8]>)>,
    next: u64,
    here: HashSet<u64>,
    polled: Option<Instant>,
    longest: Duration,
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
                    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                    tell.send(listener.local_addr().expect("an address").port()).expect("somebody waits");
                    let serve = async {
                        loop {
                            let Ok((socket, _)) = listener.accept().await else { continue };
                            let (state, hold) = (state.clone(), hold.clone());
                            tokio::spawn(async move {
                                let mut session = Session::new(state, hold);
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

    /// Counts the connections that were open at once at most.
    pub fn most_open(&self) -> usize {
        self.lock().most_open
    }

    /// Gives the longest time between two log-ins to one maildrop, or since the last, and how many were never polled.
    pub fn longest(&self) -> (Duration, usize) {
        let state = self.lock();
        let longest = |maildrop: &Maildrop| {
            maildrop.polled.map_or(Duration::ZERO, |at| at.elapsed()).max(maildrop.longest)
        };
        let never = state.maildrops.values().filter(|maildrop| maildrop.polled.is_none()).count();
        (state.maildrops.values().map(longest).max().unwrap_or_default(), never)
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

    /// Answers the next command that begins so by half, and says no more in that session until it is released.
    pub fn hold(&self, command: &str) {
        self.released.send_replace(false);
        let mut state = self.lock();
        (state.hold, state.held) = (Some(command.to_owned()), None);
    }

    /// Gives the session that is held.
    pub fn held(&self) -> Option<u64> {
        self.lock().held
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
    number: u64,
    user: String,
    is_in: bool,
    messages: Vec<(u64, String, Arc<[u8]>)>,
    deleted: HashSet<u64>,
}

impl Session {
    fn new(state: Arc<Mutex<State>>, released: watch::Receiver<bool>) -> Self {
        let number = {
            let mut state = state.lock().expect("nobody panics with it");
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            state.sessions += 1;
            state.sessions
        };
        Self {
            state,
            released,
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
        state.open -= 1;
        if let Some(maildrop) = state.maildrops.get_mut(&user) {
            maildrop.here.remove(&number);
        }
    }

    async fn serve(&mut self, socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let (read, mut write) = socket.into_split();
        let mut read = BufReader::new(read);
        write.write_all(b"+OK ready\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if read.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let command = line.trim_end();
            let (user, number) = (self.user.clone(), self.number);
            let is_held = {
                let mut state = self.lock();
                if state.keeps_said {
                    state.said.push((user, number, command.to_owned()));
                }
                let held = state.hold.take_if(|held| command.starts_with(held.as_str()));
                state.held = held.as_ref().map(|_| number).or(state.held);
                held.is_some()
            };
            let delay = if command.starts_with("PASS") { self.lock().delay } else { Duration::ZERO };
            let is_last = command == "QUIT";
            let answer = self.answer(command);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let (first, rest) = answer.split_at(if is_held { answer.len() / 2 } else { answer.len() });
            write.write_all(first).await?;
            if is_held {
                // Who goes away meanwhile is gone.
                let mut released = self.released.clone();
                tokio::select! {
                    released = released.wait_for(|released| *released) => drop(released),
                    more = read.fill_buf() => if more?.is_empty() { return Ok(()) },
                }
                write.write_all(rest).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, command: &str) -> Vec<u8> {
        let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
        let number = || argument.split(' ').next().and_then(|number| number.parse::<usize>().ok());
        match verb {
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
            "RETR" | "TOP" => match number().and_then(|number| self.messages.get(number.checked_sub(1)?)) {
                Some((.., octets)) => [b"+OK\r\n", &octets[..], b".\r\n"].concat(),
                None => b"-ERR no such message\r\n".to_vec(),
            },
            "DELE" => match number().and_then(|number| self.messages.get(number.checked_sub(1)?)) {
                Some((key, ..)) => {
                    self.deleted.insert(*key);
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
        if let Some(before) = maildrop.polled.replace(Instant::now()) {
            maildrop.longest = maildrop.longest.max(before.elapsed());
        }
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
