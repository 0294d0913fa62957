//! A server that was found, how, and why one may doubt it.

use std::fmt;

use super::address::Address;
use crate::config::HostAndPort;
use crate::config::account::TlsMode;
use crate::config::providers::Provider;

/// The POP3 server of an address, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
    /// Never [`TlsMode::None`].
    pub mode: TlsMode,
    /// The mailbox name that it knows the address by.
    pub user: String,
    /// Whether it takes passwords.
    pub password: bool,
    /// Whose tokens it takes, of those that we know.
    pub oauth2: Option<&'static Provider>,
    /// What the person must have done at the provider.
    pub note: Option<&'static str>,
}

/// A server and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub server: Server,
    /// Who says so: completes "found by ...".
    pub by: String,
    /// Whether it was said by what user the server knows the address; else it is a guess.
    pub user_is_known: bool,
    /// What a person should know before anything goes there; empty if nothing.
    pub doubts: Vec<Doubt>,
}

/// Why one may doubt what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It came by DNS, whose answers nobody signed.
    UnsignedDns,
    /// It came over HTTP without TLS.
    PlainHttp,
    /// Its host is of another domain than the address.
    OtherDomain,
}

/// Somebody that had nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Who was asked.
    pub asked: String,
    /// What came of it.
    pub came: String,
    /// The IMAP server that was named in the place of one for POP3.
    pub imap: Option<String>,
}

impl Found {
    /// Takes a server that `by` names, with the doubts of the way by which it came.
    pub(super) fn new(server: Server, by: String, way: &[Doubt], address: &Address) -> Self {
        let mut doubts = way.to_vec();
        if !address.has(&server.host) {
            doubts.push(Doubt::OtherDomain);
        }
        Self { server, by, user_is_known: true, doubts }
    }

    /// Says that nobody has named the user.
    pub(super) fn with_guessed_user(self) -> Self {
        Self { user_is_known: false, ..self }
    }
}

impl Miss {
    pub(super) fn new(asked: impl Into<String>, came: impl Into<String>) -> Self {
        Self { asked: asked.into(), came: came.into(), imap: None }
    }
}

/// `pop.example.org:995, TLS`
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protection = match self.mode {
            TlsMode::Implicit => "TLS",
            TlsMode::StartTls => "STARTTLS",
            TlsMode::None => "no TLS",
        };
        write!(f, "{}, {protection}", HostAndPort(&self.host, self.port))
    }
}

/// Says it to a person.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsignedDns => "it comes from DNS, which nobody signed: whoever is on the way can forge it",
            Self::PlainHttp => "it came without TLS: whoever is on the way can forge it",
            Self::OtherDomain => "its host is of another domain than the address",
        })
    }
}
