//! A connection, plain or protected, over whatever carries it.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConnection, ProtocolVersion};

use super::command::Piped;

/// Octets of a handshake that are kept, to show what a server sent that does not speak TLS.
const FIRST_OCTETS: usize = 96;

/// What carries a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {
    /// Acknowledges what was read, before more is waited for. Many servers write a reply in pieces, and TCP holds the
    /// second one back until the first is acknowledged (Nagle's algorithm), which the system here would put off for
    /// 40 ms, hoping for something to send along: popa3d took 44 ms a message. It forgets this with all that is sent.
    fn acknowledge(&self) {}
}

impl Io for TcpStream {
    fn acknowledge(&self) {
        // A connection that is broken says so when it is read.
        #[cfg(target_os = "linux")]
        let _ = self.set_quickack(true);
    }
}

impl Io for UnixStream {}
impl Io for Piped {}
impl Io for TlsStream<BufReader<Stream>> {}
#[cfg(test)]
impl Io for tokio::io::DuplexStream {}

/// A connection to a server, plain or protected.
///
/// A TLS connection that ends without the server's close_notify gives `UnexpectedEof`, never a silent end: a message
/// must not be cut by whoever can cut the line.
#[derive(Debug)]
pub struct Stream {
    io: Box<dyn Io>,
    tls: Option<TlsFacts>,
    /// The first octets read, while they are of interest.
    first: Option<Vec<u8>>,
    /// Octets were read that may not have been acknowledged.
    unacknowledged: bool,
}

/// What a TLS connection turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// SHA-256 of the server's certificate (DER).
    pub fingerprint: Option<[u8; 32]>,
    /// RFC 9266 tls-exporter channel binding; TLS 1.3 only.
    pub exporter: Option<[u8; 32]>,
}

impl Stream {
    /// Makes a connection without TLS of whatever carries it.
    pub fn plain(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), tls: None, first: None, unacknowledged: false }
    }

    /// Makes one of TLS over a plain connection.
    pub(super) fn protected(tls: TlsStream<BufReader<Stream>>) -> Self {
        let facts = TlsFacts::of(tls.get_ref().1);
        Self { io: Box::new(tls), tls: Some(facts), first: None, unacknowledged: false }
    }

    /// Keeps the first octets that are read from now on.
    pub(super) fn remember_first(&mut self) {
        self.first = Some(Vec::new());
    }

    /// Gives the first octets that were read since, and stops keeping them.
    pub(super) fn take_first(&mut self) -> Vec<u8> {
        self.first.take().unwrap_or_default()
    }

    /// Says what TLS came to; `None` on a plain connection.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }
}

impl TlsFacts {
    fn of(connection: &ClientConnection) -> Self {
        let (version, exporter) = match connection.protocol_version() {
            // RFC 9266, 3: for TLS 1.2 the value is safe only with extensions that not all servers have.
            Some(ProtocolVersion::TLSv1_3) => (
                "TLSv1.3".to_owned(),
                connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).ok(),
            ),
            Some(ProtocolVersion::TLSv1_2) => ("TLSv1.2".to_owned(), None),
            Some(other) => (format!("{other:?}"), None),
            None => ("unknown".to_owned(), None),
        };
        let fingerprint =
            connection.peer_certificates().and_then(|chain| chain.first()).map(|c| Sha256::digest(c).into());
        Self { version, fingerprint, exporter }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                if std::mem::take(&mut self.unacknowledged) {
                    self.io.acknowledge();
                }
                return Poll::Pending;
            }
        }
        self.unacknowledged = true;
        if let Some(first) = &mut self.first {
            let room = FIRST_OCTETS.saturating_sub(first.len());
            first.extend(buf.filled().iter().skip(before).take(room));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reply_that_a_server_writes_in_pieces_is_not_waited_for() {
        const REPLIES: u32 = 100;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // As popa3d does, without TCP_NODELAY.
        let server = std::thread::spawn(move || {
            let (mut far, _) = listener.accept().unwrap();
            for line in BufReader::new(far.try_clone().unwrap()).lines() {
                line.unwrap();
                far.write_all(b"+OK\r\n").unwrap();
                far.write_all(b"body\r\n").unwrap();
                far.write_all(b".\r\n").unwrap();
            }
        });
        let mut stream = Stream::plain(socket);
        let began = Instant::now();
        for _ in 0..REPLIES {
            stream.write_all(b"RETR 1\r\n").await.unwrap();
            let mut reply = [0; 14];
            stream.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"+OK\r\nbody\r\n.\r\n");
        }
        let took = began.elapsed();
        drop(stream);
        server.join().unwrap();
        // A delayed acknowledgement takes 40 ms.
        assert!(took < REPLIES * Duration::from_millis(10), "{took:?}");
    }
}
