//! Servers of HTTPS that answer as they please.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificate::Certificate;

/// What is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A document.
    Text(String),
    /// Another place.
    Elsewhere(String),
    /// So many octets of nothing.
    Large(usize),
    /// Blanks without end.
    Endless,
    /// One octet, and then another, and so on.
    Trickle,
    Silence,
    /// What is no HTTP.
    Garbage,
}

/// A server on one address; it ends with the process.
#[derive(Debug, Clone)]
pub struct Web {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Starts one that has nothing (404), on port 443 or, without a certificate, on this one.
    pub fn start(address: Ipv4Addr, port: u16, certificate: Option<&Certificate>) -> Self {
        let listener = TcpListener::bind((address, port)).expect("a port of one's own");
        let this = Self { answers: Arc::default(), asked: Arc::default() };
        let (serving, tls) = (this.clone(), certificate.map(Certificate::server));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serving, tls) = (serving.clone(), tls.clone());
                thread::spawn(move || {
                    // How a client ends is its own affair.
                    let _ = match tls {
                        Some(tls) => match ServerConnection::new(tls) {
                            Ok(connection) => serving.serve(StreamOwned::new(connection, stream)),
                            Err(error) => Err(io::Error::other(error)),
                        },
                        None => serving.serve::<TcpStream>(stream),
                    };
                });
            }
        });
        this
    }

    /// Has this answered for this path.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Has nothing any more.
    pub fn forget(&self) {
        self.answers.lock().unwrap().clear();
    }

    /// Gives what was asked for: path and query.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn serve<S: Read + Write>(&self, mut stream: S) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet)?;
            head.extend(octet);
            if head == [0x16] {
                // The client begins with TLS.
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(target);
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        let ok = |length: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n")
        };
        match answer {
            None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
            Some(Answer::Text(text)) => stream.write_all((ok(text.len()) + &text).as_bytes())?,
            Some(Answer::Elsewhere(to)) => {
                let text = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(text.as_bytes())?;
            }
            Some(Answer::Large(octets)) => {
                stream.write_all(ok(octets).as_bytes())?;
                stream.write_all(&vec![b' '; octets])?;
            }
            Some(Answer::Endless) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
            Some(Answer::Trickle) => {
                for octet in ok(1 << 20).bytes().chain(std::iter::repeat(b' ')) {
                    stream.write_all(&[octet])?;
                    stream.flush()?;
                    thread::sleep(Duration::from_millis(100));
                }
            }
            Some(Answer::Silence) => thread::sleep(Duration::from_secs(60)),
            Some(Answer::Garbage) => stream.write_all(b"+OK POP3 ready\r\n")?,
        }
        stream.flush()?;
        // The client reads to the end before the connection goes.
        let _ = stream.read(&mut [0]);
        Ok(())
    }
}

/// Shows a certificate on port 443 of an address, and passes what is asked there on to a server without TLS, which ends each
/// connection behind its answer.
pub fn pass_on(address: Ipv4Addr, certificate: &Certificate, to: u16) {
    let listener = TcpListener::bind((address, 443)).expect("a port of one's own");
    let tls = certificate.server();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // How a client ends is its own affair.
            let _ = pass(&tls, stream, to);
        }
    });
}

fn pass(tls: &Arc<ServerConfig>, stream: TcpStream, to: u16) -> io::Result<()> {
    let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
    let mut client = BufReader::new(StreamOwned::new(connection, stream));
    let (mut asked, mut length) = (String::new(), 0);
    while !asked.ends_with("\r\n\r\n") {
        let begin = asked.len();
        if client.read_line(&mut asked)? == 0 {
            return Ok(());
        }
        let field = asked[begin..].to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    server.write_all(asked.as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.get_mut().write_all(&answer)?;
    client.get_mut().conn.send_close_notify();
    client.get_mut().flush()
}
