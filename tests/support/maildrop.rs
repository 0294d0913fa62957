//! A small, honest POP3 server in memory (RFC 1939, 2449, 2595, 5034), with faults that can be set and a memory of
//! all that happened. For tests of crashes, and for the demo.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::ServerConfig;

use super::certificate::Certificate;
use super::wire::PATIENCE;

// By its path, so that the file is found from the examples too.
#[path = "maildrop_session.rs"]
mod session;

use session::Session;

/// How a maildrop's server presents itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only user.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Who knows which tokens are good; then there is no password.
    pub tokens: Option<TokenCheck>,
    /// When TLS begins.
    pub tls: Protection,
    /// Whether several sessions may have the maildrop open.
    pub lock: Lock,
    /// Capabilities as CAPA shows them, STLS excepted; `None`: CAPA is an unknown command.
    pub capabilities: Option<Vec<String>>,
    /// Commands that the server does not know, whatever it announces: `UIDL`, `TOP` ...
    pub unknown: Vec<String>,
}

/// Says whether a token is this user's.
#[derive(Clone)]
pub struct TokenCheck(pub Arc<Check>);

/// Judges user and token.
pub type Check = dyn Fn(&str, &str) -> bool + Send + Sync;

impl fmt::Debug for TokenCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCheck")
    }
}

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Never.
    None,
    /// With the connection.
    Implicit,
    /// When the client says STLS; no log-in before.
    Stls,
}

/// Whether several sessions may have the maildrop open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// As many as come, each with its own view of what is there.
    Shared,
    /// One; others are refused with [IN-USE] (RFC 2449, 8.1.2).
    Exclusive,
}

/// What goes wrong. Octets and commands are counted from the moment when the fault is set, over all connections; a
/// fault that has happened is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// After so many octets the connection is cut.
    CutAfterOctets(u64),
    /// In the place of the reply to the k-th command (from 1), the connection is cut, and the command is not obeyed.
    CutInsteadOf(u64),
    /// The k-th command is obeyed, but the connection is cut before it is answered.
    CutUnanswered(u64),
    /// From the k-th command on the server says nothing more in this connection.
    StallAt(u64),
    /// The connection is cut at each QUIT, and nothing is deleted.
    CutAtQuit,
}

/// What a message does to the session, each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// The connection is cut at its RETR.
    CutBefore,
    /// The connection is cut at its RETR and at its TOP, and LIST shows another size at each session.
    Wobbles,
    /// LIST counts its line ends as one octet each.
    CountsLf,
    /// The connection is cut after so many of its octets.
    CutWithin(usize),
    /// The connection is cut when it has come whole.
    CutBehind,
    /// The server falls silent at its RETR.
    StallBefore,
    /// The server falls silent after so many of its octets.
    StallWithin(usize),
    /// What follows it is no reply.
    OutOfStep,
    /// Its end lacks the last LF, and the server waits.
    DotCr,
    /// Only so many octets of it come, in good order.
    Short(usize),
    /// The connection is cut at its DELE.
    CutAtDele,
    /// The connection is cut at its TOP.
    CutAtTop,
    /// The server falls silent at its TOP.
    StallAtTop,
    /// What is sent behind its TOP before that is answered is lost, and the connection cut.
    CutBehindTop,
    /// Its RETR is not answered, and what follows is.
    Unanswered,
    /// The same, the first time only.
    UnansweredOnce,
    /// Its RETR is answered twice, the first time only.
    TwiceOnce,
    /// This stands in the place of its last line, and the server goes on.
    EndsSo(&'static str),
    /// Its last line lacks its CRLF, so that its end stands behind that, and the server goes on.
    Glued,
}

/// What becomes of commands that come before an earlier one is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ahead {
    /// They are taken.
    #[default]
    Taken,
    /// They are read into a buffer that nobody looks at again.
    Lost,
    /// The first of them is answered `-ERR`, whatever it is.
    Refused,
    /// The server closes the connection.
    Closed,
    /// The server resets the connection.
    Reset,
    /// They are answered after this time.
    Late(Duration),
}

/// Something that happened, and when.
#[derive(Debug, Clone)]
pub struct Event {
    /// The moment.
    pub at: Instant,
    /// The connection, counted from 0.
    pub session: usize,
    /// What happened.
    pub what: What,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A client connected.
    Connected,
    /// The maildrop was opened.
    LoggedIn,
    /// A command came in; lines of an AUTH exchange are not commands.
    Command(String),
    /// A command was read while an earlier one was unanswered: the client pipelines.
    Pipelined,
    /// Something came along with this command, USER or the last one of a log-in, before that was answered.
    Along(String),
    /// The message was sent to its end.
    Sent(String),
    /// The message was marked as deleted (DELE).
    Marked(String),
    /// The message is gone (QUIT, UPDATE state).
    Removed(String),
    /// A fault happened.
    Faulted(Fault),
    /// The connection is over.
    Closed,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct Maildrop {
    address: SocketAddr,
    /// The certificate it shows.
    pub certificate: Certificate,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Default for Settings {
    fn default() -> Self {
        let capabilities = [
            "TOP",
            "UIDL",
            "USER",
            "SASL PLAIN",
            "PIPELINING",
            "RESP-CODES",
            "AUTH-RESP-CODE",
            "EXPIRE NEVER",
        ];
        Self {
            user: "alice".into(),
            password: "correct horse".into(),
            tokens: None,
            tls: Protection::Implicit,
            lock: Lock::Shared,
            capabilities: Some(capabilities.map(String::from).to_vec()),
            unknown: Vec::new(),
        }
    }
}

impl Settings {
    /// Has no TLS, and takes tokens that are found good.
    pub fn with_tokens(tokens: TokenCheck) -> Self {
        let mut settings = Self { tls: Protection::None, tokens: Some(tokens), ..Self::default() };
        for line in settings.capabilities.iter_mut().flatten().filter(|line| line.starts_with("SASL")) {
            *line = "SASL XOAUTH2 OAUTHBEARER".into();
        }
        settings.without("USER")
    }

    /// Leaves a capability out, by the beginning of its line.
    pub fn without(mut self, capability: &str) -> Self {
        if let Some(known) = &mut self.capabilities {
            known.retain(|line| !line.starts_with(capability));
        }
        self
    }
}

impl Maildrop {
    /// Starts on a free loopback port with an empty maildrop.
    pub fn start(settings: Settings) -> Self {
        Self::start_at(0, settings)
    }

    /// Starts on this port, as a server that comes back does.
    pub fn start_at(port: u16, settings: Settings) -> Self {
        Self::start_with(port, settings, Certificate::for_loopback())
    }

    /// Starts on this port with this certificate.
    pub fn start_with(port: u16, settings: Settings, certificate: Certificate) -> Self {
        let tls = certificate.server();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free loopback port");
        let address = listener.local_addr().expect("the listener's address");
        let shared = Arc::new(Shared { settings, tls, state: Mutex::default(), happened: Condvar::new() });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while let Ok((socket, _)) = listener.accept() {
                    let session = {
                        let mut state = shared.lock();
                        if state.over {
                            return;
                        }
                        let session = state.sessions;
                        state.sessions += 1;
                        state.sockets.extend(socket.try_clone().map(|socket| (session, socket)));
                        session
                    };
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        shared.tell(session, What::Connected);
                        // What ends a connection early is what the tests make happen; it is in the events.
                        let _ = Session::serve(socket, &shared, session);
                        shared.unlock(session);
                        shared.lock().sockets.remove(&session);
                        shared.tell(session, What::Closed);
                    });
                }
            }
        });
        Self { address, certificate, shared, acceptor: Some(acceptor) }
    }

    /// Starts one that holds these texts, under `uid0` and so on.
    pub fn holding(messages: &[&str]) -> Self {
        let this = Self::start(Settings::default());
        for (number, message) in messages.iter().enumerate() {
            this.put(&format!("uid{number}"), message.replace('\n', "\r\n"));
        }
        this
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Puts a message into the maildrop: its octets as they are to be sent, neither stuffed nor terminated. A CRLF
    /// that the end lacks is added on the wire.
    pub fn put(&self, uid: &str, octets: impl Into<Vec<u8>>) {
        self.shared.lock().messages.push(Arc::new(Message { uid: uid.to_string(), octets: octets.into() }));
    }

    /// Lists the unique-ids of what is in the maildrop.
    pub fn uids(&self) -> Vec<String> {
        self.shared.lock().messages.iter().map(|message| message.uid.clone()).collect()
    }

    /// Removes a message, as another client does.
    pub fn remove(&self, uid: &str) {
        self.shared.lock().messages.retain(|message| message.uid != uid);
    }

    /// Gives a message another unique-id, as a server that was migrated does.
    pub fn rename(&self, from: &str, to: &str) {
        for message in &mut self.shared.lock().messages {
            if message.uid == from {
                *message = Arc::new(Message { uid: to.to_string(), octets: message.octets.clone() });
            }
        }
    }

    /// Sets what goes wrong from now on.
    pub fn set_fault(&self, fault: Fault) {
        let mut state = self.shared.lock();
        (state.fault, state.octets, state.commands) = (fault, 0, 0);
    }

    /// Makes the server wait before each reply.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.lock().delay = delay;
    }

    /// Decides what becomes of what is sent along with USER, and with the last message of a log-in.
    pub fn set_ahead(&self, user: Ahead, log_in: Ahead) {
        let mut state = self.shared.lock();
        (state.behind_user, state.behind_log_in) = (user, log_in);
    }

    /// Shows these capabilities from now on, before the log-in and after it.
    pub fn set_capabilities(&self, before: &[&str], after: &[&str]) {
        let owned = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect();
        self.shared.lock().capabilities = Some((owned(before), owned(after)));
    }

    /// Answers RETR of a message with this line (`-ERR ...`) from now on; `None` sends it again.
    pub fn refuse(&self, uid: &str, line: Option<&str>) {
        let mut state = self.shared.lock();
        match line {
            Some(line) => state.refused.insert(uid.to_string(), line.to_string()),
            None => state.refused.remove(uid),
        };
    }

    /// Has a message do this to each session from now on; `None` makes an end of it.
    pub fn play(&self, uid: &str, trick: Option<Trick>) {
        let mut state = self.shared.lock();
        match trick {
            Some(trick) => state.tricks.insert(uid.to_string(), trick),
            None => state.tricks.remove(uid),
        };
    }

    /// Gives all that happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// Counts what happened so far in this way.
    pub fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.shared.lock().events.iter().filter(|event| wanted(&event.what)).count()
    }

    /// Waits until something has happened so many times; panics if it does not.
    pub fn wait_for(&self, times: usize, wanted: impl Fn(&What) -> bool) {
        let state = self.shared.lock();
        let missing =
            |state: &mut State| state.events.iter().filter(|event| wanted(&event.what)).count() < times;
        let (state, wait) = self
            .shared
            .happened
            .wait_timeout_while(state, PATIENCE, missing)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(!wait.timed_out(), "it did not happen; what did: {:#?}", state.events);
    }
}

impl Drop for Maildrop {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.over = true;
            for socket in state.sockets.values() {
                // It may be closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        // Wakes the acceptor, so that it sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

#[derive(Debug)]
struct Message {
    uid: String,
    octets: Vec<u8>,
}

impl Message {
    fn size(&self) -> usize {
        self.octets.len() + if self.octets.is_empty() || self.octets.ends_with(b"\r\n") { 0 } else { 2 }
    }

    fn lines(&self) -> usize {
        self.octets.windows(2).filter(|octets| *octets == b"\r\n").count()
    }
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    tls: Arc<ServerConfig>,
    state: Mutex<State>,
    happened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Arc<Message>>,
    refused: HashMap<String, String>,
    tricks: HashMap<String, Trick>,
    holder: Option<usize>,
    fault: Fault,
    octets: u64,
    commands: u64,
    delay: Duration,
    behind_user: Ahead,
    behind_log_in: Ahead,
    /// Capabilities before the log-in and after it, in place of those of the settings.
    capabilities: Option<(Vec<String>, Vec<String>)>,
    events: Vec<Event>,
    /// Connections so far.
    sessions: usize,
    /// Those that are open.
    sockets: HashMap<usize, TcpStream>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked with the lock is reported anyway.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn tell(&self, session: usize, what: What) {
        self.lock().events.push(Event { at: Instant::now(), session, what });
        self.happened.notify_all();
    }

    fn unlock(&self, session: usize) {
        let mut state = self.lock();
        if state.holder == Some(session) {
            state.holder = None;
        }
    }
}
