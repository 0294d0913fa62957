//! The wire under a line protocol: reads and writes at once, with a deadline on every wait.

mod limits;

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::{NetError, Stream};
use crate::line::{CommandError, Pace, Protocol, Waiting};
use crate::secret::{Secret, masked};
use limits::{Clock, Over};

pub use limits::TimeLimits;

/// Octets of the read buffer at first; thousands of idle connections stay small.
const SMALLEST_BUFFER: usize = 4 << 10;
/// Octets it grows to while the server fills it: four TLS records.
const LARGEST_BUFFER: usize = 64 << 10;

/// A connection under a line protocol. Every method may be dropped while it waits and called again: what has been read
/// and not yet told stays in the buffer.
pub struct Wire<P, S = Stream> {
    stream: S,
    protocol: P,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Octets were written and the stream holds them back.
    unflushed: bool,
    /// Writing failed; reading goes on, for the server may have said why.
    broken: Option<io::Error>,
    clock: Clock,
    /// The account, for the dialogue in the log.
    name: String,
    /// What must not stand there, whoever says it.
    secrets: Vec<Secret>,
}

/// An event, and where in the buffer its octets are counted from.
type Came<P> = (usize, <P as Protocol>::Event<Range<usize>>);

/// Why nothing more can be had from a connection.
#[derive(Debug, thiserror::Error)]
pub enum WireError<E> {
    /// The server broke the protocol.
    #[error(transparent)]
    Protocol(#[from] E),
    /// Nothing came, or was taken, for as long as is allowed.
    #[error("gave up after {} {waiting}", humantime::format_duration(*.after))]
    Silence {
        waiting: Waiting,
        /// For how long.
        after: Duration,
    },
    /// Octets came, but too slowly to end.
    #[error("gave up after {} {waiting}: the reply trickles in too slowly, or has no end", humantime::format_duration(*.after))]
    Trickle {
        waiting: Waiting,
        /// For how long.
        after: Duration,
    },
    #[error("server closed the connection ({waiting})")]
    Closed { waiting: Waiting },
    #[error("{source} ({waiting})")]
    Lost {
        waiting: Waiting,
        /// What became of it; a refusal of the client's certificate comes this way too.
        source: NetError,
    },
    /// Octets were waiting where a TLS handshake begins (RFC 2595, 4: they could be an attacker's).
    #[error("server sent more than its answer to STLS before the handshake")]
    Injected,
    /// The session's own command cannot be sent.
    #[error(transparent)]
    Command(CommandError),
}

impl<P: Protocol, S: AsyncRead + AsyncWrite + Unpin> Wire<P, S> {
    /// Takes a connection over; `protocol` says whether a greeting is expected.
    pub fn new(stream: S, protocol: P, limits: impl Into<TimeLimits>, name: &str) -> Self {
        Self {
            stream,
            protocol,
            buffer: vec![0; SMALLEST_BUFFER],
            start: 0,
            end: 0,
            unflushed: false,
            broken: None,
            clock: Clock::new(limits.into()),
            name: name.into(),
            secrets: Vec::new(),
        }
    }

    /// Keeps a secret out of the trace, which the server may say again.
    pub fn conceal(&mut self, secret: Secret) {
        self.secrets.push(secret);
    }

    /// Queues a command; it is written with the next [`Wire::event`].
    ///
    /// Fails if octets have come in that answer nothing: they would be taken for the answer to this command.
    pub fn send(&mut self, command: P::Command<'_>) -> Result<(), WireError<P::Error>> {
        if self.protocol.unanswered() == 0 && self.start < self.end {
            return Err(P::unasked(&self.buffer[self.start..self.end]).into());
        }
        log::trace!("{}: C: {command}", self.name);
        if self.protocol.unanswered() == 0 {
            self.clock.restart();
        }
        self.protocol.send(&command).map_err(WireError::Command)
    }

    /// Lets the wait for the next reply begin anew, after one that the server is not to blame for.
    pub fn has_all_time_again(&mut self) {
        self.clock.restart();
    }

    /// Sets how long the server may take from here on.
    pub fn set_limits(&mut self, limits: TimeLimits) {
        self.clock.limits = limits;
        self.clock.rearm();
    }

    /// Counts the answers that are still to come.
    pub fn unanswered(&self) -> usize {
        self.protocol.unanswered()
    }

    /// Waits for the server's next event, and writes meanwhile what the server takes.
    ///
    /// Reading never waits for writing nor writing for reading: a pipelining peer whose buffers are full would
    /// otherwise wait for us while we wait for it.
    pub async fn event(&mut self) -> Result<P::Event<&[u8]>, WireError<P::Error>> {
        let (base, event) = self.come_in().await?;
        Ok(self.told(base, event))
    }

    /// Waits no longer than this for the server's next event.
    pub async fn event_within(&mut self, limit: Duration) -> Result<P::Event<&[u8]>, WireError<P::Error>> {
        match tokio::time::timeout(limit, self.come_in()).await {
            Ok(came) => came.map(|(base, event)| self.told(base, event)),
            Err(_) => Err(WireError::Silence { waiting: self.waiting(), after: limit }),
        }
    }

    /// Waits until what is queued was written, or the server says something that it was asked for.
    pub async fn written(&mut self) -> Result<(), WireError<P::Error>> {
        self.clock.restart();
        loop {
            self.make_room();
            if std::future::poll_fn(|cx| self.poll_written(cx)).await? || self.protocol.unanswered() > 0 {
                return Ok(());
            }
            self.protocol.incoming(&self.buffer[self.start..self.end])?;
        }
    }

    /// Waits for the server's next event, or until all that is queued was written (`None`).
    pub async fn event_unless_written(&mut self) -> Result<Option<P::Event<&[u8]>>, WireError<P::Error>> {
        let (base, event) = loop {
            if let Some(came) = self.next()? {
                break came;
            }
            self.make_room();
            if std::future::poll_fn(|cx| self.poll_written(cx)).await? {
                return Ok(None);
            }
        };
        Ok(Some(self.told(base, event)))
    }

    /// Fails if by now the server has said something that nobody asked for, or has ended the connection. Nothing may be
    /// unanswered.
    pub async fn is_quiet(&mut self) -> Result<(), WireError<P::Error>> {
        // Lets the runtime hear of what has come in.
        tokio::task::yield_now().await;
        if self.start == self.end {
            self.make_room();
            let read = std::future::poll_fn(|cx| match self.poll_read(cx) {
                Poll::Pending => Poll::Ready(Ok(())),
                Poll::Ready(read) => Poll::Ready(read),
            });
            read.await?;
        }
        if self.start < self.end {
            Err(P::unasked(&self.buffer[self.start..self.end]).into())
        } else {
            Ok(())
        }
    }

    /// Waits for the next event; gives where its octets are in the buffer.
    async fn come_in(&mut self) -> Result<Came<P>, WireError<P::Error>> {
        loop {
            if let Some(came) = self.next()? {
                return Ok(came);
            }
            self.make_room();
            std::future::poll_fn(|cx| self.poll_progress(cx)).await?;
        }
    }

    /// Takes the next event if it has come in whole; gives where its octets are in the buffer.
    fn next(&mut self) -> Result<Option<Came<P>>, WireError<P::Error>> {
        let Some((consumed, event)) = self.protocol.incoming(&self.buffer[self.start..self.end])? else {
            return Ok(None);
        };
        let base = self.start;
        self.start += consumed;
        match P::pace(&event) {
            Pace::Octets(octets) => self.clock.body(octets),
            Pace::Whole => self.clock.restart(),
            Pace::Line if self.clock.is_reply_late() => {
                return Err(Over::Reply(self.clock.limits.reply).error(self.waiting()));
            }
            Pace::Line => {}
        }
        Ok(Some((base, event)))
    }

    /// Waits until all that is queued was written (true), or more has come in.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, WireError<P::Error>>> {
        let left = self.protocol.outgoing().len();
        self.poll_write(cx);
        if self.protocol.outgoing().len() < left {
            self.clock.restart();
        }
        if self.is_written() { Poll::Ready(Ok(true)) } else { self.poll_come_in(cx).map_ok(|()| false) }
    }

    fn told(&self, base: usize, event: P::Event<Range<usize>>) -> P::Event<&[u8]> {
        let event = P::placed(event, &self.buffer, base);
        if log::log_enabled!(log::Level::Trace)
            && let Some(line) = P::shown(&event)
        {
            let secrets: Vec<&Secret> = self.secrets.iter().collect();
            let line = masked(line.as_bytes(), &secrets);
            log::trace!("{}: S: {}", self.name, String::from_utf8_lossy(&line));
        }
        event
    }

    /// Writes what is queued, for as long as `patience` lasts, and closes the connection without waiting for an
    /// answer: what the server says to it makes no difference.
    pub async fn hang_up(mut self, patience: Duration) {
        let write = async {
            std::future::poll_fn(|cx| {
                self.poll_write(cx);
                if self.is_written() || self.broken.is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            // Says that nothing more will come, to TLS as to TCP.
            self.stream.shutdown().await
        };
        // Failing here loses nothing: whatever the server does not hear is said again next time.
        let _ = tokio::time::timeout(patience, write).await;
    }

    /// Gives the bare connection for a TLS handshake, and makes sure that nothing came in before it.
    pub fn into_stream(self) -> Result<S, WireError<P::Error>> {
        if self.start < self.end { Err(WireError::Injected) } else { Ok(self.stream) }
    }

    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Gives the protocol's state, to be changed where no octets are involved.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    fn lost(&self, error: io::Error) -> WireError<P::Error> {
        WireError::Lost { waiting: self.waiting(), source: NetError::of_traffic(error) }
    }

    fn waiting(&self) -> Waiting {
        self.protocol.waiting()
    }

    pub fn silence(&self) -> WireError<P::Error> {
        WireError::Silence { waiting: self.waiting(), after: self.clock.limits.saying }
    }

    fn is_written(&self) -> bool {
        self.protocol.outgoing().is_empty() && !self.unflushed
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        while self.broken.is_none() && !self.protocol.outgoing().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.protocol.outgoing()) {
                Poll::Ready(Ok(0)) => self.broken = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(octets)) => {
                    self.protocol.wrote(octets);
                    self.unflushed = true;
                    self.clock.progress = Instant::now();
                }
                Poll::Ready(Err(error)) => self.broken = Some(error),
                Poll::Pending => break,
            }
        }
        if self.broken.is_none() && self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.broken = Some(error),
                Poll::Pending => {}
            }
        }
    }

    /// Writes what is to be written, and waits for more from the server.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError<P::Error>>> {
        self.poll_write(cx);
        self.poll_come_in(cx)
    }

    /// Waits for more from the server, and no longer than is allowed.
    fn poll_come_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError<P::Error>>> {
        match self.poll_read(cx) {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => {
                let limits = &self.clock.limits;
                let longest = if self.is_written() { limits.saying } else { limits.taking };
                self.clock.poll(longest, cx).map(|over| Err(over.error(self.waiting())))
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError<P::Error>>> {
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room)) {
            Ok(()) => {
                let octets = room.filled().len();
                if octets == 0 {
                    return Poll::Ready(Err(match self.broken.take() {
                        Some(error) => self.lost(error),
                        None => WireError::Closed { waiting: self.waiting() },
                    }));
                }
                self.end += octets;
                self.clock.progress = Instant::now();
                if self.end == self.buffer.len() && self.buffer.len() < LARGEST_BUFFER {
                    self.buffer.resize(self.buffer.len() * 4, 0);
                }
                Poll::Ready(Ok(()))
            }
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof && !NetError::is_end_of_command(&error) =>
            {
                Poll::Ready(Err(WireError::Closed { waiting: self.waiting() }))
            }
            Err(error) => Poll::Ready(Err(self.lost(error))),
        }
    }
}

impl Over {
    fn error<E>(self, waiting: Waiting) -> WireError<E> {
        match self {
            Self::Wait(after) => WireError::Silence { waiting, after },
            Self::Reply(after) => WireError::Trickle { waiting, after },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::{Client, Command};

    /// A server that says one line again and again, as fast as it is read, and takes everything.
    struct Flood(std::iter::Cycle<std::slice::Iter<'static, u8>>);

    impl AsyncRead for Flood {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let octets: Vec<u8> = self.0.by_ref().take(into.remaining()).copied().collect();
            into.put_slice(&octets);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Flood {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(octets.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn lines_without_end_are_given_up_in_time_however_fast_they_come() {
        let flood = Flood(b"* 1 EXISTS\r\n".iter().cycle());
        let mut wire = Wire::new(flood, Client::after_starttls(), Duration::from_millis(20), "test");
        wire.send(Command::Noop).unwrap();
        let began = Instant::now();
        let error = loop {
            match wire.event().await {
                Ok(_) => assert!(began.elapsed() < Duration::from_secs(20), "it is heard for ever"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, WireError::Trickle { .. }), "{error}");
    }
}
