//! A command whose standard input and output are the connection (`ssh`, `openssl s_client` to an old server).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::oneshot;

use super::error::{Ended, NetError};
use super::process::{self, Group, Started};
use crate::config::account::CommandLine;
use crate::text::Shown;

/// The connection that a command makes; dropped = the command is ended, after its pipes were closed.
#[derive(Debug)]
pub(super) struct Piped {
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// The server has said something.
    heard: bool,
    last_words: LastWords,
    _group: Group,
}

/// The last line of the command's standard error.
#[derive(Debug)]
enum LastWords {
    Awaited(oneshot::Receiver<String>),
    Spoken(String),
}

/// Starts the command; its standard error goes into the log.
pub(super) async fn start(line: &CommandLine, account: &str) -> Result<Piped, NetError> {
    let unusable = |source| NetError::Command { command: line.to_string(), source };
    let mut command = process::command(line);
    command.stdin(Stdio::piped());
    let started = process::start(command).await.map_err(unusable)?;
    let Started { group, input: Some(input), output: Some(output), errors: Some(errors) } = started else {
        return Err(unusable(io::Error::other("it has no pipes")));
    };
    let (ended, last_words) = oneshot::channel();
    let account = account.to_owned();
    tokio::spawn(async move {
        let mut last = String::new();
        process::each_line(errors, |line| {
            let line = Shown(line).to_string();
            log::debug!("{account}: connect command: {line}");
            if !line.is_empty() {
                last = line;
            }
        })
        .await;
        // Nobody is left to hear it when the stream was dropped first.
        let _ = ended.send(last);
    });
    let last_words = LastWords::Awaited(last_words);
    Ok(Piped { input: Some(input), output, heard: false, last_words, _group: group })
}

impl Piped {
    /// Makes the error that says why the command is gone, as soon as it has said so.
    fn poll_ended(&mut self, cx: &mut Context<'_>, kind: io::ErrorKind) -> Poll<io::Error> {
        if let LastWords::Awaited(words) = &mut self.last_words {
            let words = ready!(Pin::new(words).poll(cx)).unwrap_or_default();
            self.last_words = LastWords::Spoken(words);
        }
        match &self.last_words {
            LastWords::Spoken(words) => Poll::Ready(io::Error::new(kind, Ended { words: words.clone() })),
            LastWords::Awaited(_) => Poll::Pending,
        }
    }

    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut ChildStdin>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.input {
            Some(input) => ready!(write(Pin::new(input), cx)),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.poll_ended(cx, io::ErrorKind::BrokenPipe).map(Err)
            }
            other => Poll::Ready(other),
        }
    }
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard = true;
        } else if !self.heard && buf.remaining() > 0 {
            return self.poll_ended(cx, io::ErrorKind::UnexpectedEof).map(Err);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Piped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |input, cx| input.poll_write(cx, octets))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |input, cx| input.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.input.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Only closing it tells the command that no more will come.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}
