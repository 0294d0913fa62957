//! A connection under a [`Client`]: reads and writes at once, with a deadline on every wait.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{NetError, Stream};
use crate::pop3::client::waiting_for;
use crate::pop3::{Client, Command, CommandError, Event, ProtocolError, Reply, Request};
use crate::text::Shown;

/// Octets of the read buffer at first; thousands of idle connections stay small.
const SMALLEST_BUFFER: usize = 4 << 10;
/// Octets it grows to while the server fills it: four TLS records.
const LARGEST_BUFFER: usize = 64 << 10;
/// How often the time limit may pass while one reply, or a MiB of a body, trickles in.
const TRICKLE: u32 = 10;
/// Octets of a body that begin a new allowance for trickling.
const TRICKLE_OCTETS: u64 = 1 << 20;

/// Octets that nobody asked for, of which an error keeps so many.
const UNASKED_SHOWN: usize = 80;

/// A session's connection. Every method may be dropped while it waits and called again: what has been read and not
/// yet told stays in the buffer.
pub struct Wire<S = Stream> {
    stream: S,
    client: Client,
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
}

/// Time limits: one wait, and one reply that trickles in.
struct Clock {
    timeout: Duration,
    alarm: Pin<Box<Sleep>>,
    progress: Instant,
    reply_began: Instant,
    body_octets: u64,
}

/// Why nothing more can be had from a connection.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The server broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// Nothing came, or was taken, for as long as is allowed.
    #[error("gave up after {} {waiting}", humantime::format_duration(*.after))]
    Silence {
        /// What was being waited for.
        waiting: String,
        /// For how long.
        after: Duration,
    },
    /// Octets came, but too slowly to end.
    #[error("gave up after {} {waiting}: the reply trickles in too slowly", humantime::format_duration(*.after))]
    Trickle {
        /// What was being waited for.
        waiting: String,
        /// For how long.
        after: Duration,
    },
    /// The server ended the connection.
    #[error("server closed the connection ({waiting})")]
    Closed {
        /// What was being waited for.
        waiting: String,
    },
    /// The connection broke.
    #[error("{source} ({waiting})")]
    Lost {
        /// What was being waited for.
        waiting: String,
        /// What became of it; a refusal of the client's certificate comes this way too.
        source: NetError,
    },
    /// Octets were waiting where a TLS handshake begins (RFC 2595, 4: they could be an attacker's).
    #[error("server sent more than its answer to STLS before the handshake")]
    Injected,
    /// The session's own command cannot be sent.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Takes a connection over; `client` says whether a greeting is expected.
    pub fn new(stream: S, client: Client, timeout: Duration, name: &str) -> Self {
        let now = Instant::now();
        Self {
            stream,
            client,
            buffer: vec![0; SMALLEST_BUFFER],
            start: 0,
            end: 0,
            unflushed: false,
            broken: None,
            clock: Clock {
                timeout,
                alarm: Box::pin(tokio::time::sleep_until(now + timeout)),
                progress: now,
                reply_began: now,
                body_octets: 0,
            },
            name: name.into(),
        }
    }

    /// Queues a command; it is written with the next [`Wire::event`].
    ///
    /// Fails if octets have come in that answer nothing: they would be taken for the answer to this command.
    pub fn send(&mut self, command: Command<'_>) -> Result<(), WireError> {
        if self.client.unanswered() == 0 && self.start < self.end {
            let line = self.buffer[self.start..self.end.min(self.start + UNASKED_SHOWN)].to_vec();
            return Err(ProtocolError::Unasked { line }.into());
        }
        log::trace!("{}: C: {command}", self.name);
        if self.client.unanswered() == 0 {
            self.clock.restart();
        }
        Ok(self.client.send(&command)?)
    }

    /// Lets the wait for the next reply begin anew, after one that the server is not to blame for.
    pub fn has_all_time_again(&mut self) {
        self.clock.restart();
    }

    /// Gives what is to be answered next.
    pub fn awaiting(&self) -> Option<Request> {
        self.client.awaiting()
    }

    /// Takes what was sent and not answered for lost; fails inside an answer.
    pub fn forget(&mut self) -> Result<(), WireError> {
        if self.client.forget() {
            Ok(())
        } else {
            Err(WireError::Silence { waiting: self.waiting(), after: self.clock.timeout })
        }
    }

    /// Expects an answer after all to what was taken for lost.
    pub fn expect(&mut self, to: Request) {
        self.client.expect(to);
    }

    /// Counts the answers that are still to come.
    pub fn unanswered(&self) -> usize {
        self.client.unanswered()
    }

    /// Waits for the server's next event, and writes meanwhile what the server takes.
    ///
    /// Reading never waits for writing nor writing for reading: a pipelining peer whose buffers are full would
    /// otherwise wait for us while we wait for it.
    pub async fn event(&mut self) -> Result<Event<&[u8]>, WireError> {
        let (base, event) = self.come_in().await?;
        Ok(self.told(base, event))
    }

    /// Waits no longer than this for the server's next event.
    pub async fn event_within(&mut self, limit: Duration) -> Result<Event<&[u8]>, WireError> {
        match tokio::time::timeout(limit, self.come_in()).await {
            Ok(came) => came.map(|(base, event)| self.told(base, event)),
            Err(_) => Err(WireError::Silence { waiting: self.waiting(), after: limit }),
        }
    }

    /// Waits for the next event; gives where its octets are in the buffer.
    async fn come_in(&mut self) -> Result<(usize, Event<Range<usize>>), WireError> {
        let (base, event) = loop {
            if let Some((consumed, event)) = self.client.next(&self.buffer[self.start..self.end])? {
                let base = self.start;
                self.start += consumed;
                break (base, event);
            }
            self.make_room();
            std::future::poll_fn(|cx| self.poll_progress(cx)).await?;
        };
        match &event {
            Event::Octets { octets, .. } => self.clock.body(octets.len() as u64),
            Event::Reply { .. } | Event::End { .. } => self.clock.restart(),
            Event::Line { .. } => {}
        }
        Ok((base, event))
    }

    fn told(&self, base: usize, event: Event<Range<usize>>) -> Event<&[u8]> {
        let event = event.of(&self.buffer, base);
        if log::log_enabled!(log::Level::Trace) {
            match &event {
                Event::Reply { status, text, .. } => {
                    log::trace!("{}: S: {status:?} {}", self.name, Shown(text))
                }
                Event::Line { line, .. } => log::trace!("{}: S: {}", self.name, Shown(line)),
                Event::Octets { .. } => {}
                Event::End { octets, .. } => log::trace!("{}: S: . ({octets} octets)", self.name),
            }
        }
        event
    }

    /// Waits for the status line that answers a request of one line.
    pub async fn reply(&mut self) -> Result<(Request, Reply<'_>), WireError> {
        one_line(self.event().await?)
    }

    /// Waits no longer than this for the status line that answers a request of one line.
    pub async fn reply_within(&mut self, limit: Duration) -> Result<(Request, Reply<'_>), WireError> {
        one_line(self.event_within(limit).await?)
    }

    /// Writes what is queued, for as long as `patience` lasts, and closes the connection without waiting for an
    /// answer: what the server says to it makes no difference.
    pub async fn hang_up(mut self, patience: Duration) {
        let write = async {
            std::future::poll_fn(|cx| {
                self.poll_write(cx);
                let done = (self.client.output().is_empty() && !self.unflushed) || self.broken.is_some();
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            // Says that nothing more will come, to TLS as to TCP.
            self.stream.shutdown().await
        };
        // Failing here loses nothing: whatever the server does not hear is said again next time.
        let _ = tokio::time::timeout(patience, write).await;
    }

    /// Gives the bare connection for a TLS handshake, and makes sure that nothing came in before it.
    pub fn into_stream(self) -> Result<S, WireError> {
        if self.start < self.end { Err(WireError::Injected) } else { Ok(self.stream) }
    }

    /// Gives the connection.
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

    fn lost(&self, error: io::Error) -> WireError {
        WireError::Lost { waiting: self.waiting(), source: NetError::of_traffic(error) }
    }

    fn waiting(&self) -> String {
        self.client
            .awaiting()
            .map_or_else(|| "waiting for the server".into(), |request| waiting_for(&request))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        while self.broken.is_none() && !self.client.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.client.output()) {
                Poll::Ready(Ok(octets)) => {
                    self.client.wrote(octets);
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

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.poll_write(cx);
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) => {
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
            Poll::Ready(Err(error))
                if error.kind() == io::ErrorKind::UnexpectedEof && !NetError::is_end_of_command(&error) =>
            {
                Poll::Ready(Err(WireError::Closed { waiting: self.waiting() }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.lost(error))),
            Poll::Pending => match self.clock.poll(cx) {
                Poll::Ready(over) => Poll::Ready(Err(over.error(self.waiting(), self.clock.timeout))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Takes an event for a status line.
fn one_line(event: Event<&[u8]>) -> Result<(Request, Reply<'_>), WireError> {
    match event {
        Event::Reply { to, status, text } => Ok((to, Reply { status, text })),
        // A listing or a body where a status line is due: the answers are out of step.
        Event::Line { line: octets, .. } | Event::Octets { octets, .. } => {
            Err(ProtocolError::Unasked { line: octets[..octets.len().min(UNASKED_SHOWN)].to_vec() }.into())
        }
        Event::End { .. } => Err(ProtocolError::Unasked { line: b".".to_vec() }.into()),
    }
}

enum Over {
    Wait,
    Reply,
}

impl Over {
    fn error(self, waiting: String, timeout: Duration) -> WireError {
        match self {
            Self::Wait => WireError::Silence { waiting, after: timeout },
            Self::Reply => WireError::Trickle { waiting, after: timeout * TRICKLE },
        }
    }
}

impl Clock {
    /// A reply has come whole, or is asked for: the next one has all the time again.
    fn restart(&mut self) {
        let now = Instant::now();
        (self.progress, self.reply_began, self.body_octets) = (now, now, 0);
    }

    fn body(&mut self, octets: u64) {
        self.body_octets += octets;
        if self.body_octets >= TRICKLE_OCTETS {
            self.restart();
        }
    }

    /// Says whether the time is over. The alarm is set late and checked when it rings, so that octets that come in
    /// cost no timer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        loop {
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let (wait, reply) = (self.progress + self.timeout, self.reply_began + self.timeout * TRICKLE);
            if now >= wait {
                return Poll::Ready(Over::Wait);
            }
            if now >= reply {
                return Poll::Ready(Over::Reply);
            }
            self.alarm.as_mut().reset(wait.min(reply));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

    use super::*;
    use crate::pop3::MessageNumber;

    const MINUTE: Duration = Duration::from_secs(60);

    fn wire(buffer: usize) -> (Wire<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(buffer);
        (Wire::new(near, Client::after_stls(), MINUTE, "test"), far)
    }

    /// Reads events until the wire ends or every answer is in; counts replies.
    async fn replies(wire: &mut Wire<DuplexStream>) -> Result<usize, WireError> {
        let mut replies = 0;
        while wire.unanswered() > 0 {
            replies += usize::from(matches!(wire.event().await?, Event::Reply { .. }));
        }
        Ok(replies)
    }

    #[tokio::test]
    async fn a_server_that_answers_more_than_its_buffers_hold_before_it_reads_on_is_not_waited_for() {
        let (mut wire, far) = wire(64);
        let server = tokio::spawn(async move {
            let mut far = BufReader::with_capacity(16, far);
            let mut line = String::new();
            while far.read_line(&mut line).await.is_ok_and(|octets| octets > 0) {
                far.get_mut().write_all(&[b"+OK ", [b'x'; 500].as_slice(), b"\r\n"].concat()).await.unwrap();
                line.clear();
            }
        });
        for _ in 0..2000 {
            wire.send(Command::Noop).unwrap();
        }
        assert_eq!(replies(&mut wire).await.unwrap(), 2000);
        drop(wire);
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_time_limit_and_says_what_was_waited_for() {
        let (mut wire, _far) = wire(1024);
        wire.send(Command::Dele(MessageNumber(7))).unwrap();
        let began = Instant::now();
        let error = wire.event().await.unwrap_err();
        assert_eq!(error.to_string(), "gave up after 1m waiting for DELE 7");
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_ends_the_wait_too() {
        let (mut wire, _far) = wire(1);
        wire.send(Command::Noop).unwrap();
        assert!(matches!(wire.event().await.unwrap_err(), WireError::Silence { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_trickles_in_ends_after_ten_time_limits() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Noop).unwrap();
        let trickle = tokio::spawn(async move {
            while far.write_all(b"+").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
        });
        let began = Instant::now();
        let error = wire.event().await.unwrap_err();
        assert!(matches!(error, WireError::Trickle { .. }), "{error}");
        assert!((590..=660).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        drop(wire);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_may_take_longer_than_ten_time_limits_as_long_as_it_moves() {
        let (mut wire, mut far) = wire(4096);
        wire.send(Command::Retr(MessageNumber(1))).unwrap();
        let server = tokio::spawn(async move {
            far.write_all(b"+OK\r\n").await.unwrap();
            for _ in 0..64 {
                far.write_all(&[[b'x'; 65_534].as_slice(), b"\r\n"].concat()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
            far.write_all(b".\r\n").await.unwrap();
            far
        });
        let began = Instant::now();
        assert_eq!(replies(&mut wire).await.unwrap(), 1);
        assert!(began.elapsed() > MINUTE * TRICKLE);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn octets_that_wait_before_a_handshake_are_refused() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Stls).unwrap();
        far.write_all(b"+OK begin\r\n+OK forged\r\n").await.unwrap();
        assert!(wire.reply().await.unwrap().1.is_ok());
        assert!(matches!(wire.into_stream(), Err(WireError::Injected)));
    }

    #[tokio::test]
    async fn an_answer_that_came_before_its_command_is_not_taken_for_one() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Noop).unwrap();
        far.write_all(b"+OK\r\n+OK deleted\r\n").await.unwrap();
        assert!(wire.reply().await.unwrap().1.is_ok());
        let error = wire.send(Command::Dele(MessageNumber(1))).unwrap_err();
        assert!(matches!(error, WireError::Protocol(ProtocolError::Unasked { .. })), "{error}");
    }

    #[tokio::test]
    async fn what_the_server_said_before_it_closed_is_still_heard() {
        let (mut wire, mut far) = wire(1024);
        far.write_all(b"-ERR [IN-USE] busy\r\n").await.unwrap();
        drop(far);
        wire.send(Command::Noop).unwrap();
        assert_eq!(wire.reply().await.unwrap().1.text, b"[IN-USE] busy");
        wire.send(Command::Noop).unwrap();
        let error = wire.reply().await.unwrap_err();
        assert!(matches!(error, WireError::Lost { .. } | WireError::Closed { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_goodbye_is_written_and_its_answer_not_waited_for() {
        let (mut wire, mut far) = wire(1024);
        wire.send(Command::Quit).unwrap();
        wire.hang_up(MINUTE).await;
        let mut said = String::new();
        far.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "QUIT\r\n");
    }
}
