//! Targets that are servers: how each is reached, and what it gets.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::envelope::{Recipients, Sender};
use super::host::HostAndPort;
use super::http_url::HttpUrl;
use super::oauth2::Credential;
use super::password::Password;
use super::proxy::Proxy;
use super::tls::{Tls, TlsMode};
use crate::sasl::Auth;

/// A server that takes messages, and the envelopes that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    pub address: Address,
    /// Without a timeout answers have what RFC 5321, 4.5.3.2 gives them. A socket has no more than that of it.
    pub route: Route,
    pub login: Option<Login>,
    pub to: Recipients,
    pub from: Sender,
}

/// Where a mail server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp {
        /// Host name or address literal (IPv6 without brackets).
        host: String,
        port: u16,
    },
    Socket(PathBuf),
}

/// How the server of a target is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// How the connection is protected; where there is a URL, its mode is the URL's.
    pub tls: Tls,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// What connects to it in our place.
    pub proxy: Option<Proxy>,
    /// The longest wait for a connect, and for the server to say or take anything; `None`: the account's.
    pub timeout: Option<Duration>,
}

impl Route {
    pub fn bare(mode: TlsMode) -> Self {
        Self { tls: Tls::bare(mode), bind: None, proxy: None, timeout: None }
    }
}

/// Who logs in at a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user name, as it goes onto the wire.
    pub user: String,
    pub credential: Credential,
}

/// A mailbox on a server, and how messages get into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Whose server it is, if that is one of those with keys of their own.
    pub provider: Option<&'static Provider>,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    pub port: u16,
    pub route: Route,
    pub auth: Auth,
    pub login: Login,
    /// The folder, a slash between its parts.
    pub folder: String,
    /// Whether a missing folder is made.
    pub create: bool,
    /// `\\Seen` and the like.
    pub flags: Vec<String>,
    /// What the server is to take for the date of a message (INTERNALDATE).
    pub date: MessageDate,
}

impl Mailbox {
    /// Gives the octets that may be uploaded there in a day, if that is limited.
    pub fn octets_a_day(&self) -> Option<u64> {
        self.provider.and_then(|provider| provider.octets_a_day)
    }
}

/// What stands for the keys of a provider's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name in the configuration.
    pub name: &'static str,
    pub host: &'static str,
    /// Its port for TLS at once.
    pub port: u16,
    /// Its folders are labels, and one of them has all messages: what is in doubt is looked for there.
    pub has_all_mail: bool,
    /// What the date of a message is.
    pub date: MessageDate,
    /// Octets of a message that it takes, if it does not say so itself.
    pub append_limit: Option<u64>,
    /// Octets that an account may upload in a day.
    pub octets_a_day: Option<u64>,
}

/// What the date of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageDate {
    /// When it arrived at the maildrop: the topmost `Received`, else `Date`.
    Received,
    /// Its `Date` field.
    Header,
    /// The time at which it is delivered.
    Now,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gmail {
    /// Whose it is, and where tokens come from.
    pub login: Login,
    /// Labels of each message, by name.
    pub labels: Vec<String>,
    pub spam: Spam,
    /// What Gmail is to take for the date of a message: not when it arrived, which it cannot be told.
    pub date: MessageDate,
    /// Where the API is; no query.
    pub url: HttpUrl,
    pub route: Route,
}

/// What becomes of what Gmail takes for spam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spam {
    /// Gmail's filter decides.
    Classify,
    /// It is none.
    Never,
}

/// An endpoint that takes each message as the body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    pub url: HttpUrl,
    pub method: Method,
    pub route: Route,
    pub scheme: Scheme,
    /// Who asks, if that is to be shown; a token has no user.
    pub login: Login,
    /// The key by which requests are signed.
    pub hmac: Option<Password>,
    /// More header fields. Each value may be a secret.
    pub headers: Vec<(String, Password)>,
    /// Statuses that mean that the message was taken, if they were written.
    pub success: Option<Vec<u16>>,
}

/// What a request asks for (RFC 9110, 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Post,
    Put,
}

/// How a request shows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// By nothing that is a log-in.
    None,
    /// By user and password (RFC 7617).
    Basic,
    /// By a token (RFC 6750).
    Bearer,
}

impl Receiver {
    /// The keys by which requests show who asks.
    pub const LOG_IN_KEYS: &str = "`user` and `password`, `bearer`, `hmac` or `headers`";
}

impl Mailbox {
    /// Shows the server: `imap.example.org:993`.
    pub fn server(&self) -> String {
        HostAndPort(&self.host, self.port).to_string()
    }
}

/// Shows `host:port`, or the socket's path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => HostAndPort(host, *port).fmt(f),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}
