//! An IMAP server in memory, with the peculiarities of real ones, which can be set while it runs.

// By its path, so that the file is found wherever this one is taken from.
#[path = "imap_session.rs"]
mod session;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use session::Session;

/// What is peculiar about it.
#[derive(Debug, Clone)]
pub struct Habits {
    /// What it can do, after the log-in.
    pub capabilities: &'static str,
    /// The prefix and the separator of the personal namespace.
    pub namespace: (&'static str, char),
    /// Its answer to a log-in, if that is no.
    pub log_in: Option<&'static str>,
    /// Octets of a message that each folder takes, if it is asked.
    pub limit: Option<u64>,
    /// From this connection on, counted from 1, it refuses log-ins.
    pub refused_from: usize,
    /// Its greeting, if that is not the usual one.
    pub greeting: Option<&'static str>,
    /// Its answer to each APPEND, and to that of messages with these octets.
    pub append: Option<&'static str>,
    pub append_of: Option<(&'static str, &'static str)>,
    /// The message, counted over all connections from 1, at which it drops the connection, and where.
    pub drops: Option<(usize, Drop)>,
    /// It is down once so many messages have come.
    pub down_after: Option<usize>,
    /// It has a folder with the messages of all others.
    pub all_mail: bool,
    /// It folds the fields of the messages that it takes, and puts some of its own on top.
    pub rewrites: bool,
    /// It puts these fields on top of the messages that it takes.
    pub adds: &'static str,
    /// It writes X for each octet of a header that is not ASCII.
    pub munges: bool,
    /// It shows no messages.
    pub hides: bool,
    /// It neither keeps nor answers the first message with these octets.
    pub swallows: Option<&'static str>,
    /// UIDVALIDITY of its folders.
    pub validity: u32,
    /// Further items of each FETCH answer.
    pub items: &'static str,
    /// Its answers to FETCH and EXAMINE, if those are no.
    pub fetch: Option<&'static str>,
    pub examine: Option<&'static str>,
    /// What it says again and again in the place of an answer to APPEND.
    pub babbles: Option<&'static str>,
    /// What it says in the place of obeying a command.
    pub odd: Option<Odd>,
    /// It answers APPENDs once the client sends no more before.
    pub answers_late: bool,
    /// It waits for so long before it greets, and before it shows messages.
    pub opening_takes: Duration,
    pub fetch_takes: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            capabilities: "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ UIDPLUS NAMESPACE",
            namespace: ("", '/'),
            log_in: None,
            limit: None,
            refused_from: usize::MAX,
            greeting: None,
            append: None,
            append_of: None,
            drops: None,
            down_after: None,
            all_mail: false,
            rewrites: false,
            adds: "",
            munges: false,
            hides: false,
            swallows: None,
            validity: 7,
            items: "",
            fetch: None,
            examine: None,
            babbles: None,
            odd: None,
            answers_late: false,
            opening_takes: Duration::ZERO,
            fetch_takes: Duration::ZERO,
        }
    }
}

/// Where a connection is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    BeforeLiteral,
    InLiteral,
    /// The message came whole and is not kept.
    AfterLiteral,
    /// It is kept, and its OK does not go out.
    BeforeOk,
    /// As before, but it is kept a second later.
    Late,
    /// It is kept after four seconds, and the connection stays and is silent.
    Silent,
    /// It is kept, and all that the folder has gets other UIDs, under another UIDVALIDITY.
    Renewed,
    AfterOk,
}

/// What is said in the place of obeying a command.
#[derive(Debug, Clone, Copy)]
pub struct Odd {
    /// The command's first word; GREETING is what comes before all of them.
    pub at: &'static str,
    /// Octets, in which TAG stands for the command's tag.
    pub says: &'static str,
    pub then: Then,
}

/// What it does behind that.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    GoesOn,
    Closes,
    /// It says this again and again, a hundred times each 20 ms, until the client goes.
    Repeats(&'static str),
}

/// A message in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub uid: u32,
    pub octets: Vec<u8>,
    /// What stood between mailbox and literal.
    pub words: String,
}

/// A running server; its threads end with their connections, and with the process.
#[derive(Debug, Clone)]
pub struct ImapServer {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    habits: Habits,
    folders: BTreeMap<String, Vec<Kept>>,
    connections: usize,
    commands: Vec<String>,
    appends: usize,
    /// The most answers that it owed at once.
    most_owed: usize,
    next: u32,
    /// All that was kept, numbered.
    ever: Vec<(u32, Vec<u8>)>,
}

impl ImapServer {
    /// Starts on a free loopback port, with an empty INBOX.
    pub fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("its address").port();
        let folders = BTreeMap::from([("INBOX".to_owned(), Vec::new())]);
        let shared = Shared { habits, folders, next: 1, ..Shared::default() };
        let server = Self { port, shared: Arc::new(Mutex::new(shared)) };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.set_nodelay(true);
                let server = serving.clone();
                // A client that goes is no error of the server.
                thread::spawn(move || drop(Session::serve(stream, server)));
            }
        });
        server
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Writes the target: a folder on it, with these further keys.
    pub fn target(&self, keys: &str) -> String {
        let port = self.port;
        format!(
            "{{ imap: {{ host: 127.0.0.1, port: {port}, tls: none, user: bob, password: secret{keys} }} }}"
        )
    }

    /// Changes what is peculiar about it.
    pub fn change(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.lock().habits);
    }

    /// Gives the messages in a folder; panics if there is no such folder.
    pub fn folder(&self, name: &str) -> Vec<Kept> {
        let shared = self.lock();
        shared
            .folders
            .get(name)
            .unwrap_or_else(|| panic!("no {name} among {:?}", shared.folders.keys()))
            .clone()
    }

    /// Gives the octets of the messages in INBOX.
    pub fn inbox(&self) -> Vec<Vec<u8>> {
        self.folder("INBOX").into_iter().map(|message| message.octets).collect()
    }

    /// Puts a message into INBOX.
    pub fn put(&self, octets: &[u8]) {
        self.lock().keep("INBOX", octets.to_vec(), String::new());
    }

    /// Puts so many messages into INBOX that have this INTERNALDATE; no UIDs are given for so many before each.
    pub fn fill(&self, count: usize, date: &str, gap: u32) {
        let mut shared = self.lock();
        for number in 0..count {
            shared.next += gap;
            let octets = format!("Message-ID: <{number}@{date}>\r\nDate: {date}\r\nSubject: s\r\n\r\nx\r\n");
            shared.keep("INBOX", octets.into_bytes(), format!("\"{date}\""));
        }
    }

    /// Removes a folder, or empties INBOX.
    pub fn remove(&self, name: &str) {
        let mut shared = self.lock();
        shared.folders.remove(name);
        if name == "INBOX" {
            shared.folders.insert(name.to_owned(), Vec::new());
        }
    }

    /// Gives all messages that it ever kept, numbered.
    pub fn ever(&self) -> Vec<(u32, Vec<u8>)> {
        self.lock().ever.clone()
    }

    /// Counts the messages that it was told of.
    pub fn appends(&self) -> usize {
        self.lock().appends
    }

    /// Gives the most answers that it owed at once, if it answers late.
    pub fn most_owed(&self) -> usize {
        self.lock().most_owed
    }

    /// Counts the connections that were made.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Counts the commands that begin so.
    pub fn count(&self, verb: &str) -> usize {
        self.lock().commands.iter().filter(|command| command.starts_with(verb)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics with it")
    }
}

impl Shared {
    fn keep(&mut self, folder: &str, octets: Vec<u8>, words: String) -> Option<u32> {
        let uid = self.next;
        let number = self.ever.len() as u32;
        self.ever.push((number, octets.clone()));
        self.folders.get_mut(folder)?.push(Kept { uid, octets, words });
        self.next += 1;
        Some(uid)
    }
}

impl Shared {
    /// Gives the messages of a folder other UIDs, under another UIDVALIDITY.
    fn renew(&mut self, folder: &str) {
        self.habits.validity += 1;
        let kept = self.folders.get_mut(folder).into_iter().flatten();
        (1..).zip(kept).for_each(|(uid, message)| message.uid = uid);
        self.next = self.folders[folder].len() as u32 + 1;
    }
}
