//! A slow, simple POP3 client, written apart from the program: it learns what a server really sends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::wire::PATIENCE;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A session with a server on loopback; one command at a time, and a panic when anything is refused.
pub struct Reader {
    stream: BufReader<Box<dyn Stream>>,
    /// The server's first line.
    pub greeting: String,
}

impl Reader {
    /// Connects without TLS.
    pub fn plain(port: u16) -> Self {
        Self::greeted(Box::new(tcp(port)))
    }

    /// Connects with TLS; the certificate must be signed by this authority.
    pub fn tls(port: u16, authority_pem: &str) -> Self {
        Self::greeted(Box::new(StreamOwned::new(client(authority_pem), tcp(port))))
    }

    /// Connects, and begins TLS by STLS.
    pub fn stls(port: u16, authority_pem: &str) -> Self {
        let mut socket = tcp(port);
        let greeting = line_by_octets(&mut socket);
        socket.write_all(b"STLS\r\n").expect("STLS sent");
        let reply = line_by_octets(&mut socket);
        assert!(reply.starts_with("+OK"), "STLS: {reply}");
        let stream: Box<dyn Stream> = Box::new(StreamOwned::new(client(authority_pem), socket));
        Self { stream: BufReader::new(stream), greeting }
    }

    fn greeted(stream: Box<dyn Stream>) -> Self {
        let mut reader = Self { stream: BufReader::new(stream), greeting: String::new() };
        reader.greeting = reader.line();
        assert!(reader.greeting.starts_with("+OK"), "greeting: {}", reader.greeting);
        reader
    }

    /// Logs in by USER and PASS.
    pub fn log_in(mut self, user: &str, password: &str) -> Self {
        self.ok(&format!("USER {user}"));
        self.ok(&format!("PASS {password}"));
        self
    }

    /// Sends a command and gives the reply's first line.
    pub fn command(&mut self, command: &str) -> String {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("command sent");
        stream.flush().expect("command sent");
        self.line()
    }

    /// Sends a command that must be accepted.
    pub fn ok(&mut self, command: &str) -> String {
        let reply = self.command(command);
        assert!(reply.starts_with("+OK"), "{command}: {reply}");
        reply
    }

    /// Sends a command with a multi-line reply and gives its octets, unstuffed, without the terminator.
    pub fn octets(&mut self, command: &str) -> Vec<u8> {
        self.ok(command);
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line).expect("a line");
            assert!(line.ends_with(b"\n"), "{command}: the server hung up");
            if line == b".\r\n" {
                return all;
            }
            all.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Gives the lines of a multi-line reply.
    pub fn lines(&mut self, command: &str) -> Vec<String> {
        String::from_utf8_lossy(&self.octets(command)).lines().map(str::to_string).collect()
    }

    /// Gives each message in the maildrop, unique-id and octets as they were sent, and ends the session.
    pub fn messages(mut self) -> Vec<(String, Vec<u8>)> {
        let listing = self.lines("UIDL");
        let messages = listing
            .iter()
            .map(|line| {
                let (number, uid) = line.split_once(' ').expect("number and unique-id");
                (uid.to_string(), self.octets(&format!("RETR {number}")))
            })
            .collect();
        self.ok("QUIT");
        messages
    }

    /// Ends the session.
    pub fn quit(mut self) {
        self.ok("QUIT");
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("a line");
        assert!(line.ends_with(b"\r\n"), "the server hung up after {:?}", String::from_utf8_lossy(&line));
        String::from_utf8_lossy(&line).trim_end().to_string()
    }
}

fn tcp(port: u16) -> TcpStream {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server on loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    socket.set_nodelay(true).expect("no delay");
    socket
}

fn client(authority_pem: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that ring knows")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a TLS client")
}

fn line_by_octets(socket: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut octet = [0];
    while !line.ends_with(b"\r\n") {
        socket.read_exact(&mut octet).expect("a line");
        line.extend_from_slice(&octet);
    }
    String::from_utf8_lossy(&line).trim_end().to_string()
}
