//! A server that plays transcripts. It knows no POP3, and so it can lie.
//!
//! ```ignore
//! let server = ScriptedServer::start([Script::parse("login", "
//!     S: +OK ready
//!     C: USER alice
//!     S: -ERR no
//!     !cut
//! ")]);
//! // ... a client talks to server.port() ...
//! let played = server.finish();
//! assert_eq!(played[0].lines, [b"USER alice"]);
//! ```

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io, mem};

use tokio_rustls::rustls::ServerConfig;

use super::certificate::Certificate;
use super::transcript::{Step, body_lines, escaped};
use super::wire::{Flights, PATIENCE, Wire};

pub use super::transcript::Script;

/// Octets of generated text that are sent at once.
const CHUNK: usize = 1 << 16;

/// Plays one script after the other, one for each connection, in this order.
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    /// The certificate it shows.
    pub certificate: Certificate,
    ended: Receiver<Result<Played, Mismatch>>,
    unplayed: VecDeque<String>,
    live: Arc<Mutex<Live>>,
    player: Option<JoinHandle<()>>,
}

/// How one session went that kept to its script.
#[derive(Debug, Clone, Default)]
pub struct Played {
    /// The script's name.
    pub name: String,
    /// Lines that the client sent, without CRLF.
    pub lines: Vec<Vec<u8>>,
    /// Lines that `!capture` took, by name.
    pub captured: Vec<(String, Vec<u8>)>,
    /// How often the client spoke only after it had been answered; exact if the script says `!flight` anywhere.
    /// What the server said last before an end reached the client `flights + 2` round trips after its SYN.
    pub flights: usize,
}

impl Played {
    /// Gives the line that was captured under a name; panics if there is none.
    pub fn captured(&self, name: &str) -> &[u8] {
        let found = self.captured.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("{}: nothing was captured as {name:?}", self.name)).1
    }
}

/// A session that left its script; shown as the dialogue up to there.
#[derive(Debug, Clone)]
pub struct Mismatch {
    name: String,
    dialogue: Vec<String>,
    problem: String,
    ahead: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "session {:?} left its script:", self.name)?;
        for line in &self.dialogue {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "  ! {}", self.problem)?;
        for line in &self.ahead {
            writeln!(f, "    {line}    (not reached)")?;
        }
        Ok(())
    }
}

/// The connection being played, so that it can be ended from outside.
#[derive(Debug, Default)]
struct Live {
    over: bool,
    socket: Option<TcpStream>,
}

impl ScriptedServer {
    /// Starts on a free loopback port, with a good certificate for `!tls`.
    pub fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let certificate = Certificate::for_loopback();
        let tls = certificate.server();
        Self::start_with(scripts, certificate, tls)
    }

    /// Starts with a certificate and TLS versions of the caller's.
    pub fn start_with(
        scripts: impl IntoIterator<Item = Script>,
        certificate: Certificate,
        tls: Arc<ServerConfig>,
    ) -> Self {
        let scripts: Vec<Script> = scripts.into_iter().collect();
        let unplayed = scripts.iter().map(|script| script.name.clone()).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the listener's address");
        let live = Arc::new(Mutex::new(Live::default()));
        let (tell, ended) = channel();
        let player = thread::spawn({
            let live = Arc::clone(&live);
            move || {
                for script in scripts {
                    let Ok((socket, _)) = listener.accept() else { return };
                    {
                        let mut live = live.lock().expect("nobody panics with it");
                        if live.over {
                            return;
                        }
                        live.socket = socket.try_clone().ok();
                    }
                    let result = Session::play(socket, &script, &tls);
                    // The last handle: what was not closed in order, and what is to be reset, ends with it.
                    live.lock().expect("nobody panics with it").socket = None;
                    if let Err(mismatch) = &result {
                        // Told at once too: the client's own complaint will usually come first.
                        eprintln!("{mismatch}");
                    }
                    if tell.send(result).is_err() {
                        return;
                    }
                }
            }
        });
        Self { address, certificate, ended, unplayed, live, player: Some(player) }
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Gives address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next session to end and gives how it went; panics if it left its script.
    pub fn next(&mut self) -> Played {
        self.wait(2 * PATIENCE)
    }

    /// Waits for all sessions to end and gives how they went; panics if one left its script or was not begun. To be
    /// called when the client is done: little time is left to it.
    pub fn finish(mut self) -> Vec<Played> {
        let mut all = Vec::new();
        while !self.unplayed.is_empty() {
            all.push(self.wait(Duration::from_secs(10)));
        }
        all
    }

    fn wait(&mut self, limit: Duration) -> Played {
        let name = self.unplayed.pop_front().expect("no session is left to wait for");
        match self.ended.recv_timeout(limit) {
            Ok(Ok(played)) => played,
            Ok(Err(mismatch)) => panic!("{mismatch}"),
            Err(RecvTimeoutError::Timeout) => panic!("session {name:?} was not begun, or does not end"),
            Err(RecvTimeoutError::Disconnected) => panic!("the scripted server failed"),
        }
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        let mismatch = self.ended.try_iter().find_map(Result::err);
        {
            let mut live = self.live.lock().expect("nobody panics with it");
            live.over = true;
            if let Some(socket) = &live.socket {
                // It may be gone already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        // Wakes the player if it waits for a client; if it does not, nobody is there to be woken.
        drop(TcpStream::connect(self.address));
        if let Some(player) = self.player.take() {
            let _ = player.join();
        }
        if let (Some(mismatch), false) = (mismatch, thread::panicking()) {
            panic!("{mismatch}");
        }
    }
}

/// One connection while its script is played.
struct Session<'a> {
    wire: Option<Wire>,
    tls: &'a Arc<ServerConfig>,
    pieces: usize,
    pause: Duration,
    played: Played,
    dialogue: Vec<String>,
}

impl<'a> Session<'a> {
    fn play(socket: TcpStream, script: &Script, tls: &'a Arc<ServerConfig>) -> Result<Played, Mismatch> {
        let counted = script.steps.iter().any(|step| matches!(step, Step::Flight(_)));
        let flights = if counted { Flights::Counted } else { Flights::Estimated };
        let wire = Wire::new(socket, flights).ok();
        let played = Played { name: script.name.clone(), ..Played::default() };
        let mut session = Self { wire, tls, pieces: 0, pause: Duration::ZERO, played, dialogue: Vec::new() };
        for (index, step) in script.steps.iter().enumerate() {
            if let Err(problem) = session.step(step) {
                let ahead = script.steps[index + 1..].iter().map(written).collect();
                return Err(session.mismatch(problem, ahead));
            }
        }
        match session.end() {
            Ok(()) => Ok(session.played),
            Err(problem) => Err(session.mismatch(problem, Vec::new())),
        }
    }

    fn mismatch(self, problem: String, ahead: Vec<String>) -> Mismatch {
        Mismatch { name: self.played.name, dialogue: self.dialogue, problem, ahead }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if !matches!(step, Step::Expect(_) | Step::Capture(_) | Step::Any(_) | Step::ExpectClose) {
            self.dialogue.push(written(step));
        }
        match step {
            Step::Say(octets) => self.send(octets),
            Step::Body(octets) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                body_lines(*octets, |line| {
                    chunk.extend_from_slice(line);
                    if chunk.len() < CHUNK { Ok(()) } else { self.send(&mem::take(&mut chunk)) }
                })?;
                self.send(&chunk)
            }
            Step::Repeat(times, text) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                for count in 1..=times.unwrap_or(u64::MAX) {
                    chunk.extend_from_slice(&counted(text, count));
                    if chunk.len() >= CHUNK
                        && let Err(problem) = self.send(&mem::take(&mut chunk))
                    {
                        if times.is_some() {
                            return Err(problem);
                        }
                        // An endless text ends when the client has had enough of it.
                        self.wire = None;
                        return Ok(());
                    }
                }
                self.send(&chunk)
            }
            Step::Expect(pattern) => {
                let line = self.line(&format!("expected {}", written(step)))?;
                if pattern.matches(&line) {
                    return Ok(());
                }
                Err(format!("expected {}", written(step)))
            }
            Step::Capture(name) => {
                let line = self.line(&format!("expected a line to be captured as {name}"))?;
                self.played.captured.push((name.clone(), line));
                Ok(())
            }
            Step::Any(count) => {
                for left in (1..=*count).rev() {
                    self.line(&format!("expected {left} more lines"))?;
                }
                Ok(())
            }
            Step::Split(octets) => {
                self.pieces = *octets;
                Ok(())
            }
            Step::Trickle(pause) => {
                self.pause = *pause;
                self.pieces = self.pieces.max(1);
                Ok(())
            }
            Step::Tls => {
                let wire = self.take().and_then(|wire| wire.start_tls(Arc::clone(self.tls)));
                self.wire = Some(wire.map_err(|error| format!("the TLS handshake failed: {error}"))?);
                Ok(())
            }
            Step::TlsRefused => match self.take().and_then(|wire| wire.start_tls(Arc::clone(self.tls))) {
                Ok(_) => Err("the client made peace with a certificate that it had to refuse".into()),
                Err(_) => Ok(()),
            },
            Step::Flight(expected) => match self.wire()?.flights() {
                flights if flights == *expected => Ok(()),
                flights => Err(format!("the client waited for an answer {flights} times, not {expected}")),
            },
            Step::ExpectClose => {
                let mut wire = self.take().map_err(|error| error.to_string())?;
                self.played.flights = wire.flights();
                nothing_more(wire.rest())
            }
            Step::Cut(how) => {
                let mut wire = self.take().map_err(|error| error.to_string())?;
                self.played.flights = wire.flights();
                // The client may be gone before it is sent away.
                let _ = wire.cut(*how);
                Ok(())
            }
            Step::Stall => {
                let mut wire = self.take().map_err(|error| error.to_string())?;
                wire.release().map_err(|error| error.to_string())?;
                wire.wait_for_end();
                self.played.flights = wire.flights();
                Ok(())
            }
        }
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(mut wire) = self.wire.take() else { return Ok(()) };
        self.played.flights = wire.flights();
        nothing_more(wire.finish())
    }

    fn line(&mut self, expected: &str) -> Result<Vec<u8>, String> {
        match self.wire()?.read_line() {
            Ok(Some(line)) => {
                self.dialogue.push(format!("C: {}", escaped(&line)));
                self.played.lines.push(line.clone());
                Ok(line)
            }
            Ok(None) => Err(format!("{expected}, but the client closed the connection")),
            Err(error) => Err(format!("{expected}, but: {error}")),
        }
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        let (pieces, pause) = (self.pieces, self.pause);
        let wire = self.wire()?;
        let gone = |error: io::Error| format!("the client is gone: {error}");
        if pieces == 0 {
            return wire.send(octets).map_err(gone);
        }
        for piece in octets.chunks(pieces) {
            wire.send(piece).map_err(gone)?;
            if !pause.is_zero() {
                wire.release().map_err(gone)?;
                thread::sleep(pause);
            }
        }
        Ok(())
    }

    fn wire(&mut self) -> Result<&mut Wire, String> {
        self.wire.as_mut().ok_or_else(|| "the script goes on after the connection's end".to_string())
    }

    fn take(&mut self) -> io::Result<Wire> {
        self.wire.take().ok_or_else(|| io::Error::other("the script goes on after the connection's end"))
    }
}

fn nothing_more(rest: io::Result<Vec<u8>>) -> Result<(), String> {
    match rest {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => Err(format!("the client said more: {}", escaped(&rest))),
        Err(error) => Err(error.to_string()),
    }
}

fn counted(text: &[u8], count: u64) -> Vec<u8> {
    match text.windows(2).position(|pair| pair == b"{}") {
        Some(place) => {
            [&text[..place], count.to_string().as_bytes(), &counted(&text[place + 2..], count)].concat()
        }
        None => text.to_vec(),
    }
}

fn written(step: &Step) -> String {
    use super::transcript::Pattern;
    use super::wire::Cut;
    match step {
        Step::Say(octets) => match octets.strip_suffix(b"\r\n") {
            Some(line) => format!("S: {}", escaped(line)),
            None => format!("S- {}", escaped(octets)),
        },
        Step::Body(octets) => format!("!body {octets}"),
        Step::Repeat(Some(times), text) => format!("!repeat {times} {}", escaped(text)),
        Step::Repeat(None, text) => format!("!endless {}", escaped(text)),
        Step::Expect(Pattern::Exactly(line)) => format!("C: {}", escaped(line)),
        Step::Expect(Pattern::Begins(start)) => format!("C: {}*", escaped(start)),
        Step::Capture(name) => format!("!capture {name}"),
        Step::Any(count) => format!("!any {count}"),
        Step::Split(octets) => format!("!split {octets}"),
        Step::Trickle(pause) => format!("!trickle {}", pause.as_millis()),
        Step::Tls => "!tls".into(),
        Step::TlsRefused => "!tls refused".into(),
        Step::Flight(count) => format!("!flight {count}"),
        Step::ExpectClose => "!expect-close".into(),
        Step::Cut(Cut::Fin) => "!cut".into(),
        Step::Cut(Cut::Rst) => "!cut rst".into(),
        Step::Stall => "!stall".into(),
    }
}
