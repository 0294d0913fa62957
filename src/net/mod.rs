//! Connections: name resolution, TCP, commands, TLS. Every error is told apart and says what to do.
//!
//! [`Connector::connect`] resolves the host and tries its addresses (`connect`) or starts the account's command
//! (`command`), and does the TLS handshake (`tls`, `verify`); what comes out is a [`Stream`]. `wire` drives a line protocol
//! over it, with a deadline on every wait; `auth` speaks a SASL exchange in any of them.

pub(crate) mod auth;
mod command;
mod connect;
mod error;
pub(crate) mod process;
mod proof;
mod stream;
mod tls;
mod verify;
pub(crate) mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use error::{ClientCertificateAlert, NetError};
pub use stream::{Stream, TlsFacts};
pub use verify::{BadCertificate, CertificateFault, pin};

use crate::config::Account;
use crate::config::account::{CommandLine, Tls, TlsMode};

/// Makes connections; holds what they share: TLS configurations with their session caches and roots. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connector(Arc<tls::Configurations>);

/// A server to connect to: an account's, or one that mail is delivered to.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    /// The account's name, for the log.
    pub account: &'a str,
    /// Host name or address literal (IPv6 without brackets).
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: &'a Tls,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// A command whose standard input and output are the connection.
    pub connect: Option<&'a CommandLine>,
    /// The longest wait, for TCP and TLS together.
    pub timeout: Duration,
}

impl<'a> From<&'a Account> for Endpoint<'a> {
    fn from(account: &'a Account) -> Self {
        Self {
            account: &account.name,
            host: &account.host,
            port: account.port,
            tls: &account.tls,
            bind: account.bind,
            connect: account.connect.as_ref(),
            timeout: account.timeout,
        }
    }
}

impl Connector {
    /// Connects to a server within its `timeout`: TCP (or its `connect` command), and TLS if that comes first
    /// (`tls: implicit`).
    pub async fn connect<'a>(&self, to: impl Into<Endpoint<'a>>) -> Result<Stream, NetError> {
        let to = &to.into();
        let deadline = Deadline::after(to.timeout);
        let socket = socket(to, &deadline);
        match to.tls.mode {
            TlsMode::None => socket.await,
            // Files are read and roots parsed while TCP waits for its answer; and what is wrong with them is told
            // before the server has heard anything.
            TlsMode::StartTls => {
                let (socket, _) = tokio::try_join!(socket, self.0.get(to.tls, deadline.patience))?;
                Ok(socket)
            }
            TlsMode::Implicit => {
                let (socket, configuration) =
                    tokio::try_join!(socket, self.0.get(to.tls, deadline.patience))?;
                tls::handshake(configuration, socket, to, &deadline).await
            }
        }
    }

    /// Does the TLS handshake, within the `timeout`, on a connection whose server has agreed to it (STLS, STARTTLS).
    /// The caller made sure that no octets were waiting.
    pub async fn start_tls<'a>(
        &self,
        stream: Stream,
        to: impl Into<Endpoint<'a>>,
    ) -> Result<Stream, NetError> {
        let to = &to.into();
        let deadline = Deadline::after(to.timeout);
        if stream.tls().is_some() {
            return Err(NetError::AlreadyProtected);
        }
        let configuration = self.0.get(to.tls, deadline.patience).await?;
        tls::handshake(configuration, stream, to, &deadline).await
    }
}

/// Says whether these octets, the first that a server sent, are TLS: the port wants `tls: implicit`.
pub fn looks_like_tls(first_octets: &[u8]) -> bool {
    // RFC 8446, 5.1: content type (change_cipher_spec to application_data), then a version that begins with 3.
    match first_octets {
        [] => false,
        [kind, rest @ ..] => (0x14..=0x17).contains(kind) && rest.first().is_none_or(|&major| major == 3),
    }
}

async fn socket(to: &Endpoint<'_>, deadline: &Deadline) -> Result<Stream, NetError> {
    match to.connect {
        Some(line) => Ok(Stream::plain(command::start(line, to.account).await?)),
        None => Ok(Stream::plain(connect::tcp(to, deadline).await?)),
    }
}

/// The end of a wait, and how long it was to be.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Option<Instant>,
    patience: Duration,
}

impl Deadline {
    fn after(patience: Duration) -> Self {
        Self { at: Instant::now().checked_add(patience), patience }
    }

    /// Waits for the future; `waiting_for` completes "gave up after 60s waiting for ...".
    async fn wait<T>(
        &self,
        waiting_for: impl FnOnce() -> NetError,
        future: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, NetError> {
        match self.at {
            Some(at) => match tokio::time::timeout_at(at, future).await {
                Ok(result) => result,
                Err(_) => Err(waiting_for()),
            },
            None => future.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_records_are_told_from_greetings() {
        assert!(looks_like_tls(&[0x15, 3, 1, 0, 2, 2, 70]));
        assert!(looks_like_tls(&[0x16]));
        assert!(!looks_like_tls(b"+OK ready"));
        assert!(!looks_like_tls(b"-ERR"));
        assert!(!looks_like_tls(&[0x16, 4]));
        assert!(!looks_like_tls(b""));
    }
}
