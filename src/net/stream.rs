//! A connection, plain or protected, over whatever carries it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConnection, ProtocolVersion};

use super::ahead::Ahead;
use super::command::Piped;
use super::tcp::Tcp;
use crate::stop::Term;

/// Octets of a handshake that are kept, to show what a server sent that does not speak TLS.
const FIRST_OCTETS: usize = 96;

pub trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}

impl Io for Tcp {}

impl Io for UnixStream {}
impl Io for Piped {}
impl Io for Ahead {}
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
    term: Term,
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
        Self { io: Box::new(io), tls: None, first: None, term: Term::default() }
    }

    /// Makes one of TLS over a plain connection.
    pub(super) fn protected(tls: TlsStream<BufReader<Stream>>) -> Self {
        let (below, connection) = tls.get_ref();
        let (facts, term) = (TlsFacts::of(connection), below.get_ref().term.clone());
        Self { io: Box::new(tls), tls: Some(facts), first: None, term }
    }

    /// Gives one that sends nothing any more once a term is over: writing waits then, until whoever has the lease ends it.
    pub(super) fn under(self, term: &Term) -> Self {
        Self { term: term.clone(), ..self }
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
        // RFC 9266, 3: for TLS 1.2 the value is safe only with extensions that not all servers have.
        let exporter = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => {
                connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).ok()
            }
            Some(_) | None => None,
        };
        let fingerprint =
            connection.peer_certificates().and_then(|chain| chain.first()).map(|c| Sha256::digest(c).into());
        Self { version: Self::version(connection), fingerprint, exporter }
    }

    pub(super) fn version(connection: &ClientConnection) -> String {
        match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
            Some(other) => format!("{other:?}"),
            None => "unknown".to_owned(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if let Some(first) = &mut self.first {
            let room = FIRST_OCTETS.saturating_sub(first.len());
            first.extend(buf.filled().iter().skip(before).take(room));
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Stream, io, |stream| stream.term.is_over());

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::since_boot;
    use crate::stop::term;

    #[tokio::test]
    async fn nothing_is_sent_once_the_term_is_over() {
        let (near, mut far) = tokio::io::duplex(64);
        let hour = std::time::Duration::from_secs(3600);
        let (renewer, term) = term(since_boot() + hour);
        let mut stream = Stream::plain(near).under(&term);
        stream.write_all(b"DATA\r\n").await.unwrap();
        renewer.end();
        {
            let end = stream.write_all(b".\r\n");
            tokio::pin!(end);
            assert!(waits(&mut end).await);
        }
        assert!(waits(&mut Box::pin(stream.shutdown())).await);
        drop(stream);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"DATA\r\n");
    }

    async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
    }
}
