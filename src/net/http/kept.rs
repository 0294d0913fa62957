//! A connection over which one request goes after the other, each with a body of any size that streams.
//!
//! Every wait has a limit, and none is on the whole: a large body takes what it takes as long as the server takes some of
//! it. A server may answer before it has read everything, and may then read no more: what it says counts all the same,
//! and so a write that fails ends nothing before what may have been said was read.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{HttpError, LONGEST_HEAD, MOST_FIELDS, Reply};
use crate::config::HttpUrl;
use crate::config::account::Tls;
use crate::lock::lock;
use crate::net::{Connector, Endpoint, Stream};

/// What is sent.
pub type Upload = UnsyncBoxBody<Bytes, io::Error>;

/// An answer may take so many times the limit of a wait, if it trickles in.
const TRICKLE: u32 = 10;

/// A connection that is kept from one request to the next.
pub struct Kept {
    sender: http1::SendRequest<Watched>,
    /// Moves the octets; `None` once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    pulse: Arc<Mutex<Pulse>>,
    timeout: Duration,
    /// Requests that were answered.
    pub served: usize,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answered {
    Reply { reply: Reply, sent: Sent },
    Nothing { error: HttpError, sent: Sent },
}

/// How much of a body was on its way when the answer came, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It may have arrived.
    Whole,
    Part,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("served", &self.served).finish_non_exhaustive()
    }
}

impl Kept {
    /// Connects within the endpoint's `timeout`. `to` says how the URL's host is reached; its own host, port and mode
    /// count for nothing.
    pub async fn connect(connector: &Connector, to: &Endpoint<'_>, url: &HttpUrl) -> Result<Self, HttpError> {
        let tls = Tls { mode: url.mode, ..to.tls.clone() };
        let endpoint = Endpoint { host: &url.host, port: url.port, tls: &tls, ..*to };
        let stream = connector.connect(endpoint).await?;
        let pulse = Arc::new(Mutex::new(Pulse::new()));
        let stream = Patient { stream, pulse: pulse.clone(), is_broken: false };
        let handshake = http1::Builder::new()
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_FIELDS)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        Ok(Self { sender, connection: Some(Box::pin(connection)), pulse, timeout: to.timeout, served: 0 })
    }

    /// Says whether another request may go over it, as far as is known.
    pub async fn is_usable(&mut self) -> bool {
        let Self { sender, connection, .. } = self;
        let Some(running) = connection else { return false };
        // It hears of the server's goodbye only when it is asked.
        let ended = std::future::poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_ready())).await;
        if ended {
            *connection = None;
            return false;
        }
        !sender.is_closed() && sender.is_ready()
    }

    /// Sends a request and takes the answer, of whose body so many octets count. After anything but a reply to a body
    /// that was sent whole the connection is of no more use.
    pub async fn ask(&mut self, request: Request<Upload>, most: usize) -> Answered {
        *lock(&self.pulse) = Pulse::new();
        let all = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| Watched { body, sent: all.clone() });
        let is_whole = || all.load(Relaxed);
        let sent = || if is_whole() { Sent::Whole } else { Sent::Part };
        let answer = self.sender.send_request(request);
        let response = match driven(&mut self.connection, &self.pulse, self.timeout, answer).await {
            Ok(response) => response,
            Err(error) => return Answered::Nothing { error, sent: sent() },
        };
        let (head, incoming) = response.into_parts();
        let reply = Reply::of(&head);
        // What the status says counts even if the rest does not come.
        let mut body = Taken { octets: Vec::new(), is_cut: false };
        let reading = body.read(incoming, most);
        let read = driven(&mut self.connection, &self.pulse, self.timeout, reading).await;
        if !is_whole() && head.status.is_success() {
            // It may go on reading.
            let all = std::future::poll_fn(|_| if is_whole() { Poll::Ready(Ok(())) } else { Poll::Pending });
            let _ = driven(&mut self.connection, &self.pulse, self.timeout, all).await;
        }
        if read.is_err() || body.is_cut || !is_whole() {
            self.connection = None;
        }
        self.served += 1;
        let body = body.octets.into();
        Answered::Reply { reply: Reply { body, ..reply }, sent: sent() }
    }
}

/// Waits for something that the connection brings about, as long as octets move.
async fn driven<T>(
    connection: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    pulse: &Mutex<Pulse>,
    timeout: Duration,
    wanted: impl Future<Output = Result<T, hyper::Error>>,
) -> Result<T, HttpError> {
    let mut wanted = std::pin::pin!(wanted);
    let mut late = std::pin::pin!(tokio::time::sleep(timeout));
    std::future::poll_fn(|cx| {
        if let Some(running) = connection
            && running.as_mut().poll(cx).is_ready()
        {
            // How it failed is told to who asked.
            *connection = None;
        }
        if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(HttpError::from));
        }
        if connection.is_none() {
            return Poll::Ready(Err(HttpError::Closed));
        }
        loop {
            let until = lock(pulse).until(timeout);
            if until <= Instant::now() {
                return Poll::Ready(Err(HttpError::TimedOut { after: timeout }));
            }
            late.as_mut().reset(until);
            ready!(late.as_mut().poll(cx));
        }
    })
    .await
}

/// The body of an answer, as far as it counts.
struct Taken {
    octets: Vec<u8>,
    is_cut: bool,
}

impl Taken {
    async fn read(&mut self, mut incoming: Incoming, most: usize) -> Result<(), hyper::Error> {
        while let Some(frame) = incoming.frame().await {
            let Ok(octets) = frame?.into_data() else { continue };
            let room = most - self.octets.len();
            self.octets.extend_from_slice(&octets[..octets.len().min(room)]);
            if octets.len() > room {
                self.is_cut = true;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// When octets moved last, and when the answer to a request began.
#[derive(Debug)]
struct Pulse {
    moved: Instant,
    answering: Option<Instant>,
}

impl Pulse {
    fn new() -> Self {
        Self { moved: Instant::now(), answering: None }
    }

    /// Gives the moment at which it is given up.
    fn until(&self, timeout: Duration) -> Instant {
        let silent = self.moved + timeout;
        self.answering.map_or(silent, |began| silent.min(began + timeout * TRICKLE))
    }

    fn read(&mut self) {
        self.moved = Instant::now();
        self.answering.get_or_insert(self.moved);
    }
}

/// A body of which is known whether all of it is on its way.
pub struct Watched {
    body: Upload,
    sent: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || frame.as_ref().is_some_and(Result::is_ok) && self.body.is_end_stream() {
            self.sent.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let is_end = self.body.is_end_stream();
        if is_end {
            self.sent.store(true, Relaxed);
        }
        is_end
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream on which a write that fails waits for ever: what there is to be read comes first.
struct Patient {
    stream: Stream,
    pulse: Arc<Mutex<Pulse>>,
    is_broken: bool,
}

impl Patient {
    fn written<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.is_broken = true;
                Poll::Pending
            }
            Poll::Ready(Ok(done)) => {
                lock(&self.pulse).moved = Instant::now();
                Poll::Ready(Ok(done))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if into.filled().len() > before {
            lock(&self.pulse).read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, octets);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken {
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            failed => self.written(Poll::Ready(failed)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
