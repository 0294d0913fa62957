//! One connection as its server sees it: lines in, octets out, TLS put under it at any moment, round trips counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The longest wait for a client that ought to say something.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client that sends more without waiting for an answer does so within this time.
const GRACE: Duration = Duration::from_millis(40);

/// Octets that are held back at most while round trips are counted.
const HELD_BACK: usize = 1 << 16;

/// How a connection ends when the server has had enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In order, as far as TCP goes (FIN); under TLS without a close_notify.
    Fin,
    /// With a reset (RST), which may overtake what was said before.
    Rst,
}

/// Whether the round trips of a connection are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flights {
    /// Exactly: answers are held back until the client says nothing more by itself.
    Counted,
    /// Answers leave at once; the count is an upper bound.
    Estimated,
}

/// A connection with a client.
#[derive(Debug)]
pub struct Wire {
    layer: Layer,
    socket: TcpStream,
    incoming: Vec<u8>,
}

#[derive(Debug)]
enum Layer {
    Plain(Counter),
    Tls(Box<StreamOwned<ServerConnection, Counter>>),
}

impl Wire {
    /// Takes over an accepted connection.
    pub fn new(socket: TcpStream, flights: Flights) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let counter = Counter {
            socket: socket.try_clone()?,
            held: Vec::new(),
            mode: flights,
            unanswered: false,
            flights: 0,
            patience: Some(PATIENCE),
        };
        Ok(Self { layer: Layer::Plain(counter), socket, incoming: Vec::new() })
    }

    /// Does the handshake. Octets that the client sent before it are an error.
    pub fn start_tls(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Self { layer, socket, incoming } = self;
        if !incoming.is_empty() {
            let early = String::from_utf8_lossy(&incoming).into_owned();
            return Err(io::Error::other(format!("the client sent {early:?} before the handshake")));
        }
        let Layer::Plain(mut counter) = layer else {
            return Err(io::Error::other("TLS is there already"));
        };
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut counter)?;
        }
        let layer = Layer::Tls(Box::new(StreamOwned::new(connection, counter)));
        Ok(Self { layer, socket, incoming })
    }

    /// Reads one line without its CRLF (or LF); `None` if the client ended the connection.
    pub fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.incoming.iter().position(|&octet| octet == b'\n') {
                let mut line: Vec<u8> = self.incoming.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            let mut octets = [0; 8192];
            match self.read(&mut octets) {
                Ok(0) if self.incoming.is_empty() => return Ok(None),
                Ok(0) => {
                    let rest = String::from_utf8_lossy(&self.incoming).into_owned();
                    return Err(io::Error::other(format!(
                        "the client left in the middle of a line: {rest:?}"
                    )));
                }
                Ok(n) => self.incoming.extend_from_slice(&octets[..n]),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says whether a whole line is here already: the client did not wait for an answer.
    pub fn line_is_waiting(&self) -> bool {
        self.incoming.contains(&b'\n')
    }

    /// Loses what has come in and was not read.
    pub fn discard(&mut self) {
        self.incoming.clear();
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let stream: &mut dyn Write = match &mut self.layer {
            Layer::Plain(counter) => counter,
            Layer::Tls(stream) => stream,
        };
        stream.write_all(octets)?;
        stream.flush()
    }

    /// Lets what was held back for counting go out.
    pub fn release(&mut self) -> io::Result<()> {
        self.counter().release()
    }

    /// Counts how often the client spoke only after it had been answered. The first octets of a connection count
    /// for nothing, so the answer to what came last arrives `flights + 2` round trips after the client's SYN.
    pub fn flights(&mut self) -> usize {
        self.counter().flights
    }

    /// Reads and drops whatever comes until the client goes; for as long as it takes.
    pub fn wait_for_end(&mut self) {
        self.counter().patience = None;
        let mut octets = [0; 8192];
        while !matches!(self.read(&mut octets), Ok(0) | Err(_)) {}
    }

    /// Waits for the client to close the connection, and gives what it still sends (nothing, if it only closes).
    pub fn rest(mut self) -> io::Result<Vec<u8>> {
        self.release()?;
        let mut rest = std::mem::take(&mut self.incoming);
        let mut octets = [0; 8192];
        loop {
            match self.read(&mut octets) {
                Ok(0) => return Ok(rest),
                Ok(n) => rest.extend_from_slice(&octets[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::other("the client does not close the connection"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing more comes, and then does as [`Wire::rest`] does.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        // A client that has closed already cannot be told so any more.
        if let Layer::Tls(stream) = &mut self.layer {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.release();
        let _ = self.socket.shutdown(Shutdown::Write);
        self.rest()
    }

    /// Ends the connection at once.
    pub fn cut(mut self, how: Cut) -> io::Result<()> {
        self.release()?;
        match how {
            Cut::Fin => self.socket.shutdown(Shutdown::Both),
            Cut::Rst => {
                // The standard library cannot set SO_LINGER yet; tokio can.
                self.socket.set_nonblocking(true)?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
                let _entered = runtime.enter();
                let socket = tokio::net::TcpStream::from_std(self.socket)?;
                socket.set_zero_linger()
            }
        }
    }

    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.layer {
            Layer::Plain(counter) => counter.read(octets),
            Layer::Tls(stream) => stream.read(octets),
        };
        match read {
            // A client may go without close_notify, or with octets of ours unread: it is gone all the same.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Ok(0)
            }
            read => read,
        }
    }

    fn counter(&mut self) -> &mut Counter {
        match &mut self.layer {
            Layer::Plain(counter) => counter,
            Layer::Tls(stream) => &mut stream.sock,
        }
    }
}

/// The TCP stream under TLS or under nothing. While round trips are counted exactly, it holds back what is written
/// until the client has nothing more to say unasked; a client that pipelines is then never taken for one that waits.
#[derive(Debug)]
struct Counter {
    socket: TcpStream,
    held: Vec<u8>,
    mode: Flights,
    unanswered: bool,
    flights: usize,
    patience: Option<Duration>,
}

impl Counter {
    fn release(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.socket.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

impl Read for Counter {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        if self.unanswered && self.mode == Flights::Counted {
            self.socket.set_read_timeout(Some(GRACE))?;
            match self.socket.read(octets) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.release()?,
                read => return read,
            }
        }
        self.socket.set_read_timeout(self.patience)?;
        let read = self.socket.read(octets)?;
        if read > 0 && self.unanswered {
            self.flights += 1;
            self.unanswered = false;
        }
        Ok(read)
    }
}

impl Write for Counter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.unanswered = true;
        match self.mode {
            Flights::Estimated => self.socket.write(octets),
            Flights::Counted => {
                self.held.extend_from_slice(octets);
                if self.held.len() > HELD_BACK {
                    self.release()?;
                }
                Ok(octets.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
