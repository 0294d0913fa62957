//! A small honest SMTP and LMTP server in memory: it takes what RFC 5321 calls a message, octet for octet.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A message as it arrived, with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// What stood after `MAIL FROM:`, parameters included.
    pub mail: String,
    /// What stood after each `RCPT TO:` that was accepted.
    pub rcpt: Vec<String>,
    /// The octets, dots unstuffed, with the last CRLF.
    pub octets: Vec<u8>,
}

/// A server with its mail; its threads end with their connections, and with the process.
#[derive(Debug, Clone, Default)]
pub struct MailServer {
    port: u16,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    connections: Arc<Mutex<usize>>,
    faults: Arc<(Mutex<Faults>, Condvar)>,
}

/// What goes wrong, by the count of messages that have arrived.
#[derive(Debug, Default)]
struct Faults {
    /// The answer to the message with this count is held back.
    hold: Option<usize>,
    /// The server is gone once so many have arrived.
    gone: Option<usize>,
    /// What becomes of the next DATA.
    data: Data,
    /// How long it thinks about each message that it has.
    thinks: Duration,
}

/// Whether a DATA is answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Data {
    #[default]
    Answered,
    ToBeHeld,
    Held,
}

/// A bidirectional connection.
trait Duplex: Read + Write + Send {
    fn twice(&self) -> Box<dyn Duplex>;
}

impl Duplex for TcpStream {
    fn twice(&self) -> Box<dyn Duplex> {
        Box::new(self.try_clone().expect("a second handle"))
    }
}

impl Duplex for UnixStream {
    fn twice(&self) -> Box<dyn Duplex> {
        Box::new(self.try_clone().expect("a second handle"))
    }
}

impl MailServer {
    /// Starts on a free loopback port; `extensions` are the lines of its reply to EHLO.
    pub fn start(extensions: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("its address").port();
        let server = Self { port, ..Self::default() };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Replies that wait for an acknowledgement cost 40 ms each.
                let _ = stream.set_nodelay(true);
                serving.serve(Box::new(stream), extensions);
            }
        });
        server
    }

    /// Starts on a Unix socket.
    pub fn on_socket(path: &Path, extensions: &'static [&'static str]) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let server = Self::default();
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.serve(Box::new(stream), extensions);
            }
        });
        server
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives what arrived, in order.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().expect("nobody panics with it").clone()
    }

    /// Counts the connections that were made.
    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("nobody panics with it")
    }

    /// Holds back the answer to the message with this count (from 1), until [`MailServer::release`] or until another's
    /// is held back.
    pub fn hold(&self, count: usize) {
        self.faults.0.lock().expect("nobody panics with it").hold = Some(count);
        self.faults.1.notify_all();
    }

    /// Answers so long after a message has come.
    pub fn think(&self, thinks: Duration) {
        self.faults.0.lock().expect("nobody panics with it").thinks = thinks;
    }

    /// Holds back the answer to the next DATA, until [`MailServer::release`].
    pub fn hold_data(&self) {
        self.faults.0.lock().expect("nobody panics with it").data = Data::ToBeHeld;
    }

    /// Says whether a DATA waits for its answer.
    pub fn holds_data(&self) -> bool {
        self.faults.0.lock().expect("nobody panics with it").data == Data::Held
    }

    fn wait_with_data(&self) {
        let mut faults = self.faults.0.lock().expect("nobody panics with it");
        if faults.data == Data::ToBeHeld {
            faults.data = Data::Held;
            let held = |faults: &mut Faults| faults.data == Data::Held;
            drop(self.faults.1.wait_while(faults, held).expect("nobody panics with it"));
        }
    }

    /// Gives the answer that was held back.
    pub fn release(&self) {
        let mut faults = self.faults.0.lock().expect("nobody panics with it");
        (faults.hold, faults.data) = (None, Data::Answered);
        self.faults.1.notify_all();
    }

    /// Takes so many messages and then none, and no connection.
    pub fn gone_after(&self, count: usize) {
        self.faults.0.lock().expect("nobody panics with it").gone = Some(count);
    }

    fn is_gone(&self) -> bool {
        let gone = self.faults.0.lock().expect("nobody panics with it").gone;
        gone.is_some_and(|count| self.arrived().len() >= count)
    }

    fn wait_while_held(&self, count: usize) {
        let held = |faults: &mut Faults| faults.hold == Some(count);
        let faults = self.faults.0.lock().expect("nobody panics with it");
        drop(self.faults.1.wait_while(faults, held).expect("nobody panics with it"));
    }

    fn serve(&self, stream: Box<dyn Duplex>, extensions: &'static [&'static str]) {
        *self.connections.lock().expect("nobody panics with it") += 1;
        let server = self.clone();
        thread::spawn(move || {
            // A client that goes is no error of the server.
            let _ = server.dialogue(stream, extensions);
        });
    }

    fn dialogue(&self, mut out: Box<dyn Duplex>, extensions: &[&str]) -> std::io::Result<()> {
        let mut lines = BufReader::new(out.twice());
        if self.is_gone() {
            return Ok(());
        }
        out.write_all(b"220 test ESMTP\r\n")?;
        let mut lmtp = false;
        let (mut mail, mut rcpt) = (None, Vec::new());
        loop {
            let mut line = Vec::new();
            if lines.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            // A line without an end is the end of a connection that was cut.
            if self.is_gone() || !line.ends_with(b"\n") {
                return Ok(());
            }
            assert!(line.ends_with(b"\r\n"), "a command ends with CRLF: {line:?}");
            let line = String::from_utf8(line).expect("commands are text");
            let line = line.trim_end();
            let reply: String = match line.split([' ', ':']).next().unwrap_or_default() {
                hello @ ("EHLO" | "LHLO") => {
                    lmtp = hello == "LHLO";
                    let mut reply = String::from("250-test\r\n");
                    for extension in extensions {
                        reply += &format!("250-{extension}\r\n");
                    }
                    reply + "250 HELP"
                }
                "MAIL" if mail.is_some() => "503 5.5.1 nested MAIL".into(),
                "MAIL" => {
                    mail = Some(line["MAIL FROM:".len()..].to_owned());
                    "250 2.1.0 ok".into()
                }
                "RCPT" if mail.is_none() => "503 5.5.1 MAIL first".into(),
                "RCPT" => {
                    rcpt.push(line["RCPT TO:".len()..].to_owned());
                    "250 2.1.5 ok".into()
                }
                "DATA" if rcpt.is_empty() => "503 5.5.1 RCPT first".into(),
                "DATA" => {
                    self.wait_with_data();
                    out.write_all(b"354 go on\r\n")?;
                    let octets = message(&mut lines)?;
                    let count = if lmtp { rcpt.len() } else { 1 };
                    let mail = mail.take().unwrap_or_default();
                    let arrived = Arrived { mail, rcpt: std::mem::take(&mut rcpt), octets };
                    let all = {
                        let mut all = self.arrived.lock().expect("nobody panics with it");
                        all.push(arrived);
                        all.len()
                    };
                    self.wait_while_held(all);
                    let thinks = self.faults.0.lock().expect("nobody panics with it").thinks;
                    thread::sleep(thinks);
                    vec!["250 2.0.0 done"; count].join("\r\n")
                }
                "RSET" => {
                    (mail, rcpt) = (None, Vec::new());
                    "250 2.0.0 ok".into()
                }
                "QUIT" => return out.write_all(b"221 2.0.0 bye\r\n"),
                _ => "500 5.5.2 what?".into(),
            };
            out.write_all((reply + "\r\n").as_bytes())?;
        }
    }
}

/// Reads a message up to CRLF . CRLF, the only end that it has.
fn message(lines: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut octets: Vec<u8> = Vec::new();
    loop {
        let begin = octets.len();
        // A line ends with CRLF, and with nothing else.
        while !octets[begin..].ends_with(b"\r\n") {
            if lines.read_until(b'\n', &mut octets)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        if &octets[begin..] == b".\r\n" {
            octets.truncate(begin);
            return Ok(octets);
        }
        if octets[begin] == b'.' {
            octets.remove(begin);
        }
    }
}

/// Gives the configuration's `deliver` text for a server on loopback.
pub fn smtp(port: u16, keys: &str) -> String {
    format!("{{ smtp: {{ host: 127.0.0.1, port: {port}, to: [bob@example.org]{keys} }} }}")
}

/// The same for an LMTP server on a socket.
pub fn lmtp(socket: &Path, to: &str) -> String {
    format!("{{ lmtp: {{ socket: {}, to: [{to}] }} }}", socket.display())
}
