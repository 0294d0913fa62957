//! The stream under the SMTP library: what it must do that the library does not.
//!
//! The library reads replies and writes commands. Between it and the connection this stream
//!
//! - hands over one reply at a time, so that what a server says too much is seen here and not taken for the answer to
//!   a later command;
//! - makes replies readable for it: bare LF, octets that are not ASCII, a code without text (RFC 5321, 4.2);
//! - bounds lines, replies and waits (RFC 5321, 4.5.3.1.5 and 4.5.3.2);
//! - turns `EHLO` into `LHLO`, says `HELO` to a server that knows no `EHLO` (RFC 5321, 3.2), and makes up the greeting
//!   that no server sends after STARTTLS;
//! - takes messages past the library, which would read them on the runtime's thread, and ends them: not at all if the
//!   server has spoken already, and with the next message's commands behind (RFC 2920, 3.1).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep};

use super::Protocol;
use crate::net::Stream;
use crate::text::Shown;

/// RFC 5321, 4.5.3.1.5 has 512 for a reply line; the library breaks at 1,000.
const LONGEST_LINE: usize = 990;
/// Octets of a reply at most, and of what a server may say ahead.
const MOST_OCTETS: usize = 64 << 10;
/// RFC 5321, 4.5.3.2.5: no part of a message may take longer to be taken.
pub(super) const PART_LIMIT: Duration = Duration::from_secs(3 * 60);

/// What carries the dialogue.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {
    /// Gives the connection back on which TLS may be started.
    fn into_net(self: Box<Self>) -> Option<Stream>;
}

impl Carrier for Stream {
    fn into_net(self: Box<Self>) -> Option<Stream> {
        Some(*self)
    }
}

impl Carrier for UnixStream {
    fn into_net(self: Box<Self>) -> Option<Stream> {
        None
    }
}

#[cfg(test)]
impl Carrier for tokio::io::DuplexStream {
    fn into_net(self: Box<Self>) -> Option<Stream> {
        None
    }
}

/// Who says the first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The server greets.
    Awaited,
    /// It did before TLS was started, and will not again (RFC 3207, 4.2).
    Over,
}

/// Why the dialogue cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server said or took nothing for so long.
    Silence(Duration),
    /// The server ended the connection.
    Closed,
    /// The connection broke; the system's words.
    Lost(String),
    /// What the server sent is no reply.
    NotAReply(String),
    /// The server spoke before the message had ended: the first line of that.
    Early(String),
    /// The process is about to end.
    CutOff,
}

/// The stream that the library gets.
#[derive(Debug)]
pub(super) struct SmtpStream(Wire);

/// A hold on the stream beside the library's. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Wire(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    account: String,
    carrier: Option<Box<dyn Carrier>>,
    /// How the greeting that the library has still to write is spelt.
    protocol: Protocol,
    incoming: Replies,
    /// Octets of the reply that is being handed over.
    handing_over: usize,
    /// Replies that were handed over.
    replies: usize,
    /// The reply that was handed over last.
    last: Vec<u8>,
    /// What is to be written before anything else.
    outgoing: VecDeque<u8>,
    /// What stands behind EHLO until that is answered by yes.
    hello: Option<Vec<u8>>,
    /// The server knows no EHLO.
    said_helo: bool,
    /// The end of a message was written, so that the server may have accepted it.
    ended: bool,
    patience: Duration,
    /// When something was written last, and how long the last reply took from there.
    written_at: Option<Instant>,
    waited: Duration,
    timer: Option<(Waiting, Pin<Box<Sleep>>)>,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    ForReply,
    ForRoom,
}

impl SmtpStream {
    /// Wraps a connection; the hold stays with the caller.
    pub(super) fn over(
        carrier: Box<dyn Carrier>,
        greeting: Greeting,
        protocol: Protocol,
        account: &str,
    ) -> (Self, Wire) {
        let incoming = match greeting {
            Greeting::Awaited => Replies::default(),
            Greeting::Over => Replies::made_up(b"220 TLS\r\n"),
        };
        let wire = Wire(Arc::new(Mutex::new(Inner {
            account: account.to_owned(),
            carrier: Some(carrier),
            protocol,
            incoming,
            handing_over: 0,
            replies: 0,
            last: Vec::new(),
            outgoing: VecDeque::new(),
            hello: None,
            said_helo: false,
            ended: false,
            patience: PART_LIMIT,
            written_at: None,
            waited: Duration::ZERO,
            timer: None,
            failure: None,
        })));
        (Self(wire.clone()), wire)
    }
}

impl Wire {
    /// Sets how long the server may take for each reply from here on.
    pub(super) fn patience(&self, patience: Duration) {
        self.inner().patience = patience;
    }

    /// Begins another message.
    pub(super) fn begin(&self) {
        self.inner().ended = false;
    }

    /// Writes a part of a message.
    pub(super) async fn write(&self, octets: &[u8]) -> io::Result<()> {
        let mut written = 0;
        poll_fn(|cx| self.inner().poll_write_all(octets, &mut written, usize::MAX, cx)).await
    }

    /// Writes the last part of a message, of which the end begins `at` there.
    pub(super) async fn write_end(&self, octets: &[u8], at: usize) -> io::Result<()> {
        // A reply that came before the end is none to the message, and must not be taken for one.
        if self.inner().has_spoken() {
            self.write(&octets[..at]).await?;
            let mut inner = self.inner();
            let early = Failure::Early(inner.incoming.first_line());
            return Err(inner.fail(early));
        }
        let mut written = 0;
        poll_fn(|cx| self.inner().poll_write_all(octets, &mut written, at, cx)).await?;
        poll_fn(|cx| self.inner().poll_flush(cx)).await
    }

    /// Says whether the end of the message went out.
    pub(super) fn ended(&self) -> bool {
        self.inner().ended
    }

    /// Ends the dialogue where it is; whoever waits for it is not woken.
    pub(super) fn cut_off(&self) {
        self.inner().failure.get_or_insert(Failure::CutOff);
    }

    /// Gives why the dialogue cannot go on.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.inner().failure.clone()
    }

    /// Gives the last reply, line by line, without codes.
    pub(super) fn last_reply(&self) -> Vec<String> {
        let text = |line: &[u8]| String::from_utf8_lossy(line.get(4..).unwrap_or_default()).trim().to_owned();
        let inner = self.inner();
        inner.last.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()).map(text).collect()
    }

    /// Says how long the last reply took.
    pub(super) fn waited(&self) -> Duration {
        self.inner().waited
    }

    /// Says whether the server knows no EHLO.
    pub(super) fn said_helo(&self) -> bool {
        self.inner().said_helo
    }

    /// Counts the replies that were read.
    pub(super) fn replies(&self) -> usize {
        self.inner().replies
    }

    /// Says whether the server has said nothing that nobody asked for, and has not ended the connection.
    pub(super) async fn is_quiet(&self) -> bool {
        // Lets the runtime hear of what has come in.
        tokio::task::yield_now().await;
        let mut inner = self.inner();
        !inner.has_spoken() && inner.failure.is_none()
    }

    /// Takes the connection out, unless the server has sent something more.
    pub(super) fn into_carrier(self) -> Result<Box<dyn Carrier>, Failure> {
        let mut inner = self.inner();
        if let Some(failure) = inner.failure.clone() {
            return Err(failure);
        }
        if inner.has_spoken() {
            return Err(Failure::Early(inner.incoming.first_line()));
        }
        inner.carrier.take().ok_or(Failure::Closed)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was locked leaves every field whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn fail(&mut self, failure: Failure) -> io::Error {
        io::Error::other(format!("{:?}", self.failure.get_or_insert(failure)))
    }

    fn check(&mut self) -> io::Result<()> {
        match self.failure.clone() {
            Some(failure) => Err(self.fail(failure)),
            None => Ok(()),
        }
    }

    /// Runs out of patience in time; called whenever something must be waited for.
    fn poll_patience(&mut self, waiting: Waiting, cx: &mut Context<'_>) -> Poll<io::Error> {
        let patience = match waiting {
            Waiting::ForReply => self.patience,
            Waiting::ForRoom => PART_LIMIT,
        };
        if self.timer.as_ref().is_none_or(|(last, _)| *last != waiting) {
            self.timer = Some((waiting, Box::pin(tokio::time::sleep(patience))));
        }
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(self.fail(Failure::Silence(patience)))
    }

    /// Reads what is there into `incoming`.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(carrier) = &mut self.carrier else { return Poll::Ready(Err(self.fail(Failure::Closed))) };
        let mut octets = [0; 4096];
        let mut buffer = ReadBuf::new(&mut octets);
        let failure = match ready!(Pin::new(carrier).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Failure::Closed,
            Ok(()) => match self.incoming.extend(buffer.filled()) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(why) => Failure::NotAReply(why.to_owned()),
            },
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Failure::Closed,
            Err(error) => Failure::Lost(error.to_string()),
        };
        Poll::Ready(Err(self.fail(failure)))
    }

    /// Says whether the server has said something that was not read.
    fn has_spoken(&mut self) -> bool {
        let mut unnoticed = Context::from_waker(Waker::noop());
        while self.incoming.octets.is_empty() && self.incoming.line.is_empty() {
            match self.poll_incoming(&mut unnoticed) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
        true
    }

    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let (octets, _) = self.outgoing.as_slices();
            let octets = octets.to_vec();
            let written = ready!(self.poll_carrier_write(cx, &octets))?;
            self.outgoing.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_carrier_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let Some(carrier) = &mut self.carrier else { return Poll::Ready(Err(self.fail(Failure::Closed))) };
        match Pin::new(carrier).poll_write(cx, octets) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(self.fail(Failure::Closed))),
            Poll::Ready(Ok(written)) => {
                self.timer = None;
                self.written_at = Some(Instant::now());
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.lost(&error))),
            Poll::Pending => self.poll_patience(Waiting::ForRoom, cx).map(Err),
        }
    }

    /// Writes all of a message's part; past octet `end` of it the server may have the message.
    fn poll_write_all(
        &mut self,
        octets: &[u8],
        written: &mut usize,
        end: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        while *written < octets.len() {
            *written += ready!(self.poll_carrier_write(cx, &octets[*written..]))?;
            self.ended |= *written > end;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(carrier) = &mut self.carrier else { return Poll::Ready(Err(self.fail(Failure::Closed))) };
        match Pin::new(carrier).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.lost(&error))),
            Poll::Pending => self.poll_patience(Waiting::ForRoom, cx).map(Err),
        }
    }

    /// Gives the next whole reply's length, if one is there. A no to EHLO is not one: HELO goes out, and its answer is.
    fn next_reply(&mut self) -> Option<usize> {
        let reply = self.incoming.ends.pop_front()?;
        // The greeting has been heard when EHLO goes out.
        let Some(name) = self.hello.take() else { return Some(reply) };
        let code: Vec<u8> = self.incoming.octets.iter().take(3).copied().collect();
        if !matches!(&code[..], b"500" | b"502") {
            return Some(reply);
        }
        log::debug!("{}: target: server knows no EHLO; saying HELO", self.account);
        self.incoming.octets.drain(..reply);
        self.outgoing.extend(b"HELO");
        self.outgoing.extend(name);
        self.said_helo = true;
        None
    }

    /// The server may have said why before it went.
    fn lost(&mut self, error: &io::Error) -> io::Error {
        let failure = if self.has_spoken() {
            Failure::Early(self.incoming.first_line())
        } else {
            Failure::Lost(error.to_string())
        };
        self.fail(failure)
    }
}

impl AsyncRead for SmtpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.inner();
        inner.check()?;
        if inner.handing_over == 0 {
            let reply = loop {
                if let Some(reply) = inner.next_reply() {
                    break reply;
                }
                if !inner.outgoing.is_empty() {
                    ready!(inner.poll_outgoing(cx))?;
                    ready!(inner.poll_flush(cx))?;
                }
                match inner.poll_incoming(cx) {
                    Poll::Ready(read) => read?,
                    Poll::Pending => {
                        let late = ready!(inner.poll_patience(Waiting::ForReply, cx));
                        return Poll::Ready(Err(late));
                    }
                }
            };
            inner.timer = None;
            inner.waited = inner.written_at.map(|at| at.elapsed()).unwrap_or_default();
            inner.replies += 1;
            inner.handing_over = reply;
            inner.last = inner.incoming.octets.iter().take(reply).copied().collect();
            if log::log_enabled!(log::Level::Trace) {
                log::trace!("{}: target: S: {}", inner.account, Shown(inner.last.trim_ascii_end()));
            }
        }
        let count = inner.handing_over.min(buffer.remaining());
        let octets: Vec<u8> = inner.incoming.octets.drain(..count).collect();
        buffer.put_slice(&octets);
        inner.handing_over -= count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SmtpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.inner();
        inner.check()?;
        ready!(inner.poll_outgoing(cx))?;
        if inner.protocol == Protocol::Lmtp && octets.starts_with(b"EHLO") {
            inner.outgoing.extend(b"LHLO");
            inner.outgoing.extend(&octets[4..]);
            return Poll::Ready(Ok(octets.len()));
        }
        if inner.protocol == Protocol::Smtp && octets.starts_with(b"EHLO") {
            inner.hello = Some(octets[4..].to_vec());
        }
        inner.poll_carrier_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.inner();
        inner.check()?;
        ready!(inner.poll_outgoing(cx))?;
        inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.inner().carrier {
            Some(carrier) => Pin::new(carrier).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncTokioStream for SmtpStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        // The library asks for nothing that depends on it, and a Unix socket has none.
        Ok(SocketAddr::from(([0, 0, 0, 0], 0)))
    }
}

/// Replies as they come in, made readable.
#[derive(Debug, Default)]
struct Replies {
    octets: VecDeque<u8>,
    /// How long each whole reply in `octets` is.
    ends: VecDeque<usize>,
    /// Octets of the reply that is not whole.
    partial: usize,
    /// The line that is not whole.
    line: Vec<u8>,
}

impl Replies {
    fn made_up(reply: &[u8]) -> Self {
        Self { octets: reply.iter().copied().collect(), ends: [reply.len()].into(), ..Self::default() }
    }

    fn extend(&mut self, octets: &[u8]) -> Result<(), &'static str> {
        for &octet in octets {
            match octet {
                b'\n' => self.end_line()?,
                // The library knows only UTF-8, and a refusal in another charset is one all the same.
                _ => self.line.push(if octet.is_ascii() { octet } else { b'?' }),
            }
            if self.line.len() > LONGEST_LINE {
                return Err("server sent a line that is too long for a reply");
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), &'static str> {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() == 3 {
            line.push(b' ');
        }
        let goes_on = line.get(3) == Some(&b'-');
        line.extend(b"\r\n");
        self.partial += line.len();
        self.octets.extend(&line);
        if self.octets.len() > MOST_OCTETS {
            return Err("server sent far more than a reply");
        }
        if !goes_on {
            self.ends.push_back(std::mem::take(&mut self.partial));
        }
        Ok(())
    }

    fn first_line(&self) -> String {
        let line: Vec<u8> = self.octets.iter().copied().take_while(|octet| *octet != b'\r').collect();
        Shown(if line.is_empty() { &self.line } else { &line }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(octets: &[u8]) -> Result<Vec<String>, &'static str> {
        let mut replies = Replies::default();
        replies.extend(octets)?;
        let ends = std::mem::take(&mut replies.ends);
        let text = |length: usize| {
            String::from_utf8(replies.octets.drain(..length).collect()).expect("replies are ASCII")
        };
        Ok(ends.into_iter().map(text).collect())
    }

    #[test]
    fn replies_are_told_apart_and_made_readable() {
        assert_eq!(
            replies(b"250-a\r\n250 b\r\n354\r\n550 \xfcber\n250 unfinished").unwrap(),
            ["250-a\r\n250 b\r\n", "354 \r\n", "550 ?ber\r\n"]
        );
    }

    #[test]
    fn no_server_fills_the_memory() {
        assert!(replies(&[b'2'; 5000]).is_err());
        assert!(replies(&b"250-x\r\n".repeat(20_000)).is_err());
    }
}
