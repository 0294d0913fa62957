//! A client's side of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Reply, Request, line, socket_path};

/// How long a daemon that lives may take for a reply: its loop waits for nothing itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest reply, in octets: it repeats names of the request.
const LONGEST_REPLY: u64 = 2 * super::LONGEST_REQUEST;

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a running daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is there, but the socket is another user's.
    #[error("cannot ask the running daemon: {0}")]
    Connect(#[source] io::Error),
    /// It went away, or hangs.
    #[error("the running daemon did not answer: {0}")]
    Io(#[source] io::Error),
    /// It said something else than was asked for: another version.
    #[error("the running daemon answered {0:?}; is it of another version?")]
    Strange(String),
}

impl Client {
    /// Connects to the daemon that uses this state file; `None` if none runs.
    pub async fn connect(state: &Path) -> Result<Option<Self>, ClientError> {
        match timeout(PATIENCE, UnixStream::connect(socket_path::by_state(state))).await {
            Ok(Ok(stream)) => Ok(Some(Self { stream: BufReader::new(stream) })),
            // Nobody listens on a socket that a killed daemon left.
            Ok(Err(error))
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Ok(Err(error)) => Err(ClientError::Connect(error)),
            Err(_) => Err(ClientError::Connect(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Has accounts polled now; without names all that have an interval. Gives how many, and the names that the daemon
    /// does not know.
    pub async fn wake(&mut self, accounts: Vec<String>) -> Result<(usize, Vec<String>), ClientError> {
        self.send(&Request::Wake { accounts }).await?;
        match self.reply().await? {
            Reply::Woken { accounts, unknown } => Ok((accounts, unknown)),
            other => Err(strange(&other)),
        }
    }

    async fn reply(&mut self) -> Result<Reply, ClientError> {
        let mut octets = Vec::new();
        let mut bounded = (&mut self.stream).take(LONGEST_REPLY);
        match timeout(PATIENCE, bounded.read_until(b'\n', &mut octets)).await {
            Ok(Ok(0)) => Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => serde_json::from_slice(&octets).map_err(|_| {
                ClientError::Strange(String::from_utf8_lossy(&octets).chars().take(80).collect())
            }),
            Ok(Err(error)) => Err(ClientError::Io(error)),
            Err(_) => Err(ClientError::Io(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        match timeout(PATIENCE, self.stream.get_mut().write_all(&line(request))).await {
            Ok(sent) => sent.map_err(ClientError::Io),
            Err(_) => Err(ClientError::Io(io::ErrorKind::TimedOut.into())),
        }
    }
}

fn strange(reply: &Reply) -> ClientError {
    ClientError::Strange(String::from_utf8_lossy(&line(reply)).trim_end().to_owned())
}
