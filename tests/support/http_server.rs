//! An HTTP server in memory that keeps what it is sent, and misbehaves as it is told.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// A request that came.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection, counted from 1.
    pub connection: usize,
}

impl Asked {
    /// Gives a field; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Status, fields (each with its CRLF), body.
    Is(u16, String, Vec<u8>),
    /// The same before the body is read; then the connection is closed.
    Early(u16),
    /// The same, and the body is read behind it.
    EarlyAndReads(u16),
    /// 100 Continue and 103 first, so often.
    Continue(usize),
    /// The connection is closed after so many octets of the body.
    CloseWithin(usize),
    /// The body is read and kept, and the connection closed without an answer.
    CloseBehind,
    /// What would be answered is done, and the connection closed without an answer.
    Lost,
    /// The body is read and kept, and nothing is said.
    Silence,
    /// Nothing is read, and nothing said.
    Deaf,
    /// This status, and a body that ends after so many octets, if the client reads them.
    Large(u16, u64),
    /// This status, and half a body.
    Half(u16),
    /// These octets in place of an answer.
    Raw(&'static str),
    /// These octets, and then others again and again, so many milliseconds apart, until the client goes.
    Endless(&'static str, &'static str, u64),
}

/// Makes a plain answer.
pub fn answer(status: u16) -> Answer {
    Answer::Is(status, String::new(), Vec::new())
}

type Respond = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A running server; its threads end with their connections, and with the process.
#[derive(Clone)]
pub struct HttpServer {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    respond: Box<Respond>,
    state: Mutex<State>,
}

/// What came, and what is to come of it.
#[derive(Debug, Default)]
pub struct State {
    pub asked: Vec<Asked>,
    /// What is done with the next requests, before `respond` is asked.
    pub plan: VecDeque<Answer>,
    pub connections: usize,
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer").field("port", &self.port).finish_non_exhaustive()
    }
}

impl HttpServer {
    /// Starts one on a free loopback port.
    pub fn start(respond: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared { respond: Box::new(respond), state: Mutex::default() });
        let server = Self { port, shared };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                thread::spawn(move || {
                    let mut state = server.state();
                    state.connections += 1;
                    let number = state.connections;
                    drop(state);
                    // The client may go away at any point.
                    let _ = server.serve(stream, number);
                });
            }
        });
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nobody panics with it")
    }

    /// Gives what came whole.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Says what is done with the next requests.
    pub fn plan(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().plan.extend(answers);
    }

    fn serve(&self, stream: TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(mut asked) = head(&mut reader)? {
            asked.connection = connection;
            let planned = self.state().plan.pop_front();
            let length: u64 = asked.field("content-length").parse().unwrap_or(0);
            match &planned {
                Some(Answer::Early(status)) => {
                    write!(writer, "HTTP/1.1 {status} Early\r\nContent-Length: 0\r\n\r\n")?;
                    return writer.shutdown(Shutdown::Both);
                }
                Some(Answer::EarlyAndReads(status)) => {
                    write!(writer, "HTTP/1.1 {status} Early\r\nContent-Length: 0\r\n\r\n")?;
                }
                Some(Answer::Continue(times)) => {
                    for _ in 0..*times {
                        writer.write_all(
                            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n",
                        )?;
                    }
                }
                Some(Answer::CloseWithin(octets)) => {
                    let mut taken = vec![0; *octets];
                    reader.read_exact(&mut taken)?;
                    return writer.shutdown(Shutdown::Both);
                }
                Some(Answer::Deaf) => {
                    thread::sleep(Duration::from_secs(60));
                    return Ok(());
                }
                _ => {}
            }
            (&mut reader).take(length).read_to_end(&mut asked.body)?;
            if (asked.body.len() as u64) < length {
                return Ok(());
            }
            let answer = match planned {
                Some(Answer::EarlyAndReads(_)) => {
                    self.state().asked.push(asked);
                    continue;
                }
                Some(Answer::Continue(_)) | None => (self.shared.respond)(&asked),
                Some(Answer::Lost) => {
                    (self.shared.respond)(&asked);
                    Answer::CloseBehind
                }
                Some(other) => other,
            };
            self.state().asked.push(asked);
            if !send(&mut writer, &mut reader, answer)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads a request up to its body.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut asked = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Asked::default()
    };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.split_once(':') {
            Some((name, value)) => asked.fields.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(Some(asked)),
        }
    }
}

/// Sends an answer; says whether the connection goes on.
fn send(writer: &mut TcpStream, reader: &mut impl Read, answer: Answer) -> io::Result<bool> {
    match answer {
        Answer::Is(status, fields, body) => {
            let length =
                if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let head = format!("HTTP/1.1 {status} x\r\n{fields}{length}\r\n");
            writer.write_all(&[head.as_bytes(), &body].concat())?;
            Ok(!fields.contains("close"))
        }
        Answer::Large(status, octets) => {
            write!(writer, "HTTP/1.1 {status} x\r\nContent-Length: {octets}\r\n\r\n")?;
            let part = [b'x'; 1 << 16];
            for _ in 0..octets / part.len() as u64 {
                writer.write_all(&part)?;
            }
            Ok(true)
        }
        Answer::Half(status) => {
            write!(writer, "HTTP/1.1 {status} x\r\nContent-Length: 10\r\n\r\nhalf")?;
            writer.shutdown(Shutdown::Both)?;
            Ok(false)
        }
        Answer::Raw(octets) => {
            writer.write_all(octets.as_bytes())?;
            writer.shutdown(Shutdown::Both)?;
            Ok(false)
        }
        Answer::Endless(begin, more, pause) => {
            writer.write_all(begin.as_bytes())?;
            loop {
                thread::sleep(Duration::from_millis(pause));
                writer.write_all(more.as_bytes())?;
            }
        }
        Answer::Silence => {
            // Until the client goes.
            let _ = reader.read(&mut [0]);
            Ok(false)
        }
        _ => {
            writer.shutdown(Shutdown::Both)?;
            Ok(false)
        }
    }
}
