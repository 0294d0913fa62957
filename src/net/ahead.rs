//! A TCP connection of which some octets were read already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::tcp::Tcp;

/// A connection whose server has spoken while the proxy still did.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) ahead: Bytes,
    pub(super) tcp: Tcp,
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let octets = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(octets));
        Poll::Ready(Ok(()))
    }
}

write_through!(Ahead, tcp);
