//! Connections: name resolution, TCP, commands, TLS. Every error is told apart and says what to do.
//!
//! [`Connector::connect`] resolves the host and tries its addresses (`connect`) or starts the account's command
//! (`command`), and does the TLS handshake (`tls`, `verify`); what comes out is a [`Stream`]. `wire` drives a line protocol
//! over it, with a deadline on every wait; `auth` speaks a SASL exchange in any of them; `http` asks for one thing.
//!
//! | file | what it is |
//! |---|---|
//! | `endpoint`, `connect`, `proxy`, `command` | where to, and the roads there |
//! | `tcp`, `ahead`, `stream` | what carries the octets |
//! | `tls`, `verify`, `proof`, `certificate` | TLS, which certificates are accepted, and what they say of themselves |
//! | `wire`, `auth`, `greeting` | under every line protocol; what may be there that does not greet as one should |
//! | `http` | HTTP/1.1 |
//! | `process` | commands in process groups of their own |
//! | `stage`, `error` | what a connection goes through, for who watches; why there is none |

/// Has all that is written to a type go to one of its fields, and wait for as long as `waits` says of it.
macro_rules! write_through {
    ($type:ty, $field:ident) => {
        write_through!($type, $field, |_| false);
    };
    ($type:ty, $field:ident, $waits:expr) => {
        write_through!($type, $field, $waits, poll_write(octets: &[u8]) -> usize,
            poll_write_vectored(slices: &[std::io::IoSlice<'_>]) -> usize, poll_flush() -> (), poll_shutdown() -> ());
    };
    ($type:ty, $field:ident, $waits:expr, $($poll:ident($($what:ident: $of:ty)?) -> $done:ty),*) => {
        impl tokio::io::AsyncWrite for $type {
            $(fn $poll(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                $($what: $of)?
            ) -> std::task::Poll<std::io::Result<$done>> {
                let waits: fn(&Self) -> bool = $waits;
                match waits(&self) {
                    true => std::task::Poll::Pending,
                    false => std::pin::Pin::new(&mut self.$field).$poll(cx, $($what)?),
                }
            })*
            fn is_write_vectored(&self) -> bool {
                self.$field.is_write_vectored()
            }
        }
    };
}

mod ahead;
pub(crate) mod auth;
mod certificate;
mod command;
mod connect;
mod endpoint;
mod error;
mod greeting;
pub(crate) mod http;
pub(crate) mod process;
mod proof;
mod proxy;
mod stage;
mod stream;
mod tcp;
mod tls;
mod verify;
pub(crate) mod wire;

use std::sync::Arc;

pub use certificate::Certificate;
use endpoint::Deadline;
pub use endpoint::Endpoint;
pub use error::NetError;
pub use greeting::{another_server, looks_like_tls};
pub use stage::{Moment, Stage, Token, Watch, Watched};
pub use stream::{Stream, TlsFacts};
pub use verify::CertificateFault;

use crate::config::account::TlsMode;
use crate::stop::Term;

/// Names this machine.
pub fn host_name() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes connections; holds what they share: TLS configurations with their session caches and roots. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    configurations: Arc<tls::Configurations>,
    watch: Watch,
    term: Term,
}

impl Connector {
    /// Gives one whose connections are watched.
    pub fn watched(watch: Watch) -> Self {
        Self { watch, ..Self::default() }
    }

    /// Gives one whose connections send nothing any more once a term is over.
    pub fn under(&self, term: &Term) -> Self {
        Self { term: term.clone(), ..self.clone() }
    }

    /// Gives whoever hears of the stages of its connections.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Connects to a server within its `timeout`: TCP (or its `connect` command), and TLS if that comes first
    /// (`tls: implicit`).
    pub async fn connect<'a>(&self, to: impl Into<Endpoint<'a>>) -> Result<Stream, NetError> {
        let to = &to.into();
        let deadline = Deadline::after(to.timeout);
        let socket = async { Ok(socket(to, &deadline, &self.watch).await?.under(&self.term)) };
        match to.tls.mode {
            TlsMode::None => socket.await,
            // Files are read and roots parsed while TCP waits for its answer; and what is wrong with them is told
            // before the server has heard anything.
            TlsMode::StartTls => {
                let (socket, _) =
                    tokio::try_join!(socket, self.configurations.get(to.tls, deadline.patience))?;
                Ok(socket)
            }
            TlsMode::Implicit => {
                let (socket, configuration) =
                    tokio::try_join!(socket, self.configurations.get(to.tls, deadline.patience))?;
                tls::handshake(configuration, socket, to, &deadline, &self.watch).await
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
        let configuration = self.configurations.get(to.tls, deadline.patience).await?;
        tls::handshake(configuration, stream, to, &deadline, &self.watch).await
    }
}

async fn socket(to: &Endpoint<'_>, deadline: &Deadline, watch: &Watch) -> Result<Stream, NetError> {
    match to.connect {
        Some(line) => {
            let piped = command::start(line, to.account).await?;
            watch.saw(|| Stage::Connected(format!("by the command {line}")));
            Ok(Stream::plain(piped))
        }
        None => match to.proxy {
            Some(proxy) => proxy::connect(proxy, to, deadline, watch).await,
            None => Ok(Stream::plain(tcp::Tcp::new(connect::tcp(to, deadline, watch).await?))),
        },
    }
}
