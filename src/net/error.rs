//! Why there is no connection, or no longer one.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::rustls::{AlertDescription, Error as TlsError, PeerIncompatible};

use super::verify::BadCertificate;
use crate::config::account::TlsMode;
use crate::failure::Class;
use crate::text::Shown;

/// Why there is no connection, or no longer one.
///
/// The text does not name host and port of the account: [`crate::failure::Failure`] does.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot find an address of {host}: there is no such name")]
    UnknownHost { host: String },
    /// The resolver failed, so that nobody knows whether the name exists.
    #[error("cannot look up {host}: {reason}")]
    Resolver { host: String, reason: String },
    #[error("gave up after {after:?} waiting for the address of {host}")]
    ResolverTimedOut { host: String, after: Duration },
    #[error("cannot find an address of {host}{}", .bind.map(|b| format!(" that can be reached from {b}")).unwrap_or_default())]
    NoSuchFamily {
        host: String,
        /// The configured source address.
        bind: Option<IpAddr>,
    },
    /// A stranger has named the host.
    #[error("{host} is at {}, which is no address of the public Internet", list(.addresses))]
    Forbidden { host: String, addresses: Vec<IpAddr> },
    #[error("cannot use the source address for {family}: {source}")]
    Bind {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        source: io::Error,
    },
    #[error("connection refused by {}", list(.addresses))]
    Refused { addresses: Vec<IpAddr>, port: u16 },
    #[error("cannot reach {}: {source}", list(.addresses))]
    Unreachable { addresses: Vec<IpAddr>, source: io::Error },
    #[error("cannot connect to {}: {source}", list(.addresses))]
    NoConnection { addresses: Vec<IpAddr>, source: io::Error },
    #[error("gave up after {after:?} waiting for {} to accept the connection", list(.addresses))]
    ConnectTimedOut { addresses: Vec<IpAddr>, after: Duration },
    /// A proxy could not be reached, or does not connect us.
    #[error("cannot connect by the proxy {proxy}: {what}")]
    Proxy {
        /// Its URL, with the password masked.
        proxy: String,
        what: String,
        hint: Option<&'static str>,
    },
    #[error("cannot start the connect command {command}: {source}")]
    Command { command: String, source: io::Error },
    /// The `connect` command ended, before the server had said anything or while it was written to.
    #[error("the connect command ended{}", after_colon(.words))]
    CommandEnded {
        /// The last line of its standard error.
        words: String,
    },
    #[error("cannot verify a server by the name {}", Shown(.name.as_bytes()))]
    ServerName { name: String },
    #[error("{0}")]
    Certificate(Box<BadCertificate>),
    #[error("server sent \"{}\" where the TLS handshake was expected", Shown(first_line(.sent)))]
    NotTls {
        /// The first octets that it sent.
        sent: Vec<u8>,
        mode: TlsMode,
    },
    #[error("server closed the connection during the TLS handshake")]
    ClosedInHandshake { mode: TlsMode },
    #[error("gave up after {after:?} waiting for the TLS handshake")]
    HandshakeTimedOut { after: Duration, mode: TlsMode },
    #[error("server offers no version of TLS that is accepted here ({what})")]
    OldTls {
        /// How it said so.
        what: String,
    },
    /// The server ended the handshake, or the connection, with a TLS alert.
    #[error("server refused TLS (alert: {alert})")]
    Alert {
        /// The alert's name as in RFC 8446, 6.
        alert: String,
        /// Whether the alert is about the client's certificate.
        client_certificate: ClientCertificateAlert,
    },
    #[error("cannot speak TLS with the server: {what}")]
    Protocol { what: String },
    #[error("connection lost: {}", loss(.source))]
    Lost { source: io::Error },
    #[error("cannot use the tls_ca file {}: {what}", .path.display())]
    CaFile { path: PathBuf, what: String },
    #[error("cannot use the client certificate file {}: {what}", .path.display())]
    ClientCertificate { path: PathBuf, what: String },
    #[error("cannot verify any server: the system has no trusted certificates ({why})")]
    NoRoots {
        /// Why none were found.
        why: String,
    },
    #[error("cannot set up TLS: {what}")]
    Configuration { what: String },
    #[error("cannot start TLS: the connection is protected already")]
    AlreadyProtected,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    LookUp,
    Connect,
    SetUpTls,
    NegotiateTls,
    Talk,
}

/// Whether an alert is about the client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificateAlert {
    /// The server wants one.
    Required,
    /// The server does not accept the one that it got, or got none.
    Refused,
    /// It is about something else.
    No,
}

impl NetError {
    /// Makes sense of an error that reading from or writing to a [`super::Stream`] gave.
    ///
    /// With TLS 1.3 a server's refusal of the client's certificate comes here, when the handshake seems over.
    pub fn of_traffic(error: io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Self::of_tls(tls);
        }
        if let Some(ended) = error.get_ref().and_then(|inner| inner.downcast_ref::<Ended>()) {
            return Self::CommandEnded { words: ended.words.clone() };
        }
        Self::Lost { source: error }
    }

    /// Says whether the `connect` command ended, which has said why.
    pub(crate) fn is_end_of_command(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Ended>())
    }

    /// Makes sense of the TLS library's error that is not about the server's certificate.
    pub(super) fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
                Self::OldTls { what: "alert: protocol_version".into() }
            }
            TlsError::PeerIncompatible(
                incompatible @ (PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled),
            ) => Self::OldTls { what: format!("{incompatible:?}") },
            TlsError::AlertReceived(alert) => {
                let about_certificate = matches!(
                    alert,
                    AlertDescription::NoCertificate
                        | AlertDescription::BadCertificate
                        | AlertDescription::UnsupportedCertificate
                        | AlertDescription::CertificateRevoked
                        | AlertDescription::CertificateExpired
                        | AlertDescription::CertificateUnknown
                        | AlertDescription::UnknownCA
                        | AlertDescription::AccessDenied
                );
                let client_certificate = match alert {
                    AlertDescription::CertificateRequired => ClientCertificateAlert::Required,
                    _ if about_certificate => ClientCertificateAlert::Refused,
                    _ => ClientCertificateAlert::No,
                };
                Self::Alert { alert: snake_case(&format!("{alert:?}")), client_certificate }
            }
            other => Self::Protocol { what: other.to_string() },
        }
    }

    fn step(&self) -> Phase {
        match self {
            Self::UnknownHost { .. }
            | Self::Resolver { .. }
            | Self::ResolverTimedOut { .. }
            | Self::NoSuchFamily { .. }
            | Self::Forbidden { .. } => Phase::LookUp,
            Self::Bind { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::NoConnection { .. }
            | Self::ConnectTimedOut { .. }
            | Self::Proxy { .. }
            | Self::Command { .. }
            | Self::CommandEnded { .. } => Phase::Connect,
            Self::ServerName { .. }
            | Self::CaFile { .. }
            | Self::ClientCertificate { .. }
            | Self::NoRoots { .. }
            | Self::Configuration { .. } => Phase::SetUpTls,
            Self::Certificate(_)
            | Self::NotTls { .. }
            | Self::ClosedInHandshake { .. }
            | Self::HandshakeTimedOut { .. }
            | Self::OldTls { .. }
            | Self::Alert { .. }
            | Self::Protocol { .. }
            | Self::AlreadyProtected => Phase::NegotiateTls,
            Self::Lost { .. } => Phase::Talk,
        }
    }

    pub fn class(&self) -> Class {
        match (self, self.step()) {
            (Self::AlreadyProtected, _) => Class::Internal,
            (Self::HandshakeTimedOut { .. }, _) | (_, Phase::LookUp | Phase::Connect | Phase::Talk) => {
                Class::Network
            }
            (_, Phase::SetUpTls | Phase::NegotiateTls) => Class::Tls,
        }
    }

    /// Gives what was being done, as a verb phrase: `connect`, `look up the host`, `negotiate TLS`.
    pub fn doing(&self) -> String {
        match self.step() {
            Phase::LookUp => "look up the host",
            Phase::Connect => "connect",
            Phase::SetUpTls => "set up TLS",
            Phase::NegotiateTls => "negotiate TLS",
            Phase::Talk => "talk to the server",
        }
        .to_owned()
    }

    /// Gives the same for a target: other ports are usual there.
    pub fn hint_of_target(&self) -> Option<String> {
        match self {
            Self::NotTls { mode: TlsMode::Implicit, .. } => {
                Some("this port begins without TLS: write `tls: starttls`, or give the port for TLS".into())
            }
            Self::Refused { .. } => Some("the server may be down; check `port`".into()),
            other => other.hint(),
        }
    }

    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownHost { .. } => "check `host` for a misspelling",
            Self::Resolver { .. } | Self::ResolverTimedOut { .. } => {
                "the network or the name server may be down; this is tried again"
            }
            Self::NoSuchFamily { bind: Some(_), .. } => {
                "`bind` must be of the same family as the host's address"
            }
            Self::Forbidden { .. } => {
                "an account of the table may name public servers alone; others stand in `fleet: allow_networks`"
            }
            Self::Bind { .. } => "`bind` must be an address of this machine",
            Self::Refused { port, .. } => match port {
                995 => "the server may be down, or may offer TLS on port 110 only: `tls: starttls`",
                110 => "the server may be down, or may offer TLS on port 995 only: `tls: implicit`",
                _ => "the server may be down; check `port`",
            },
            Self::ConnectTimedOut { .. } => {
                "the server may be down, or a firewall drops the connection; check `port`"
            }
            Self::Proxy { hint, .. } => (*hint)?,
            Self::Command { .. } => "check `connect`",
            Self::ServerName { .. } => {
                "`host` or `tls_server_name` must be a DNS name in ASCII (xn--...) or an address"
            }
            Self::Certificate(bad) => return Some(bad.hint()),
            Self::NotTls { mode: TlsMode::Implicit, .. } => {
                "this port begins without TLS: write `tls: starttls`, or the port for TLS (995 by default)"
            }
            Self::NotTls { .. } => "the server said that it would speak TLS, and did not",
            Self::ClosedInHandshake { mode: TlsMode::Implicit }
            | Self::HandshakeTimedOut { mode: TlsMode::Implicit, .. } => {
                "is this the port for TLS? A port that begins without it wants `tls: starttls`"
            }
            Self::OldTls { .. } => {
                "the server's TLS is too old (`tls_min`), which is no matter of user or password; it must be updated, \
                 or reached through `connect: openssl s_client ...`"
            }
            Self::Alert { client_certificate, alert } => of_alert(*client_certificate, alert)?,
            Self::CaFile { .. } => "`tls_ca` must name a readable PEM file of certificates",
            Self::ClientCertificate { .. } => {
                "`tls_client_cert` and `tls_client_key` must name readable PEM files that belong together; a key with a \
                 passphrase must be decrypted first (openssl pkey)"
            }
            Self::NoRoots { .. } => "install the package ca-certificates, or set `tls_ca` or `tls_pin`",
            Self::NoSuchFamily { bind: None, .. }
            | Self::Unreachable { .. }
            | Self::NoConnection { .. }
            | Self::CommandEnded { .. }
            | Self::ClosedInHandshake { mode: TlsMode::StartTls | TlsMode::None }
            | Self::HandshakeTimedOut { mode: TlsMode::StartTls | TlsMode::None, .. }
            | Self::Protocol { .. }
            | Self::Lost { .. }
            | Self::Configuration { .. }
            | Self::AlreadyProtected => return None,
        };
        Some(hint.to_owned())
    }
}

fn of_alert(client_certificate: ClientCertificateAlert, alert: &str) -> Option<&'static str> {
    match (client_certificate, alert) {
        (ClientCertificateAlert::Required, _) => {
            Some("the server wants a client certificate: `tls_client_cert`, `tls_client_key`")
        }
        (ClientCertificateAlert::Refused, _) => Some(
            "the server wants a client certificate that it knows: check `tls_client_cert` and `tls_client_key`",
        ),
        (ClientCertificateAlert::No, "handshake_failure" | "insufficient_security") => {
            Some("the server's TLS has nothing in common with ours; it may be too old")
        }
        (ClientCertificateAlert::No, "unrecognised_name") => {
            Some("the server does not know itself by this name: `tls_server_name`")
        }
        (ClientCertificateAlert::No, _) => None,
    }
}

/// The command ended too early; its last words, if it had any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connect command ended{}{}", if .words.is_empty() { "" } else { ": " }, .words)]
pub(super) struct Ended {
    pub(super) words: String,
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn after_colon(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn first_line(octets: &[u8]) -> &[u8] {
    octets.split(|octet| matches!(octet, b'\r' | b'\n')).next().unwrap_or_default()
}

fn loss(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => "the server, or something between, cut it off".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the server reset it".to_owned(),
        _ => source.to_string(),
    }
}

/// `CertificateRequired`, the library's name of an alert, as RFC 8446 writes it: `certificate_required`.
fn snake_case(camel_case: &str) -> String {
    let mut name = String::new();
    let mut after_lower = false;
    for c in camel_case.chars() {
        if c.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = c.is_ascii_lowercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_named_as_the_rfc_does() {
        assert_eq!(snake_case("CertificateRequired"), "certificate_required");
        assert_eq!(snake_case("UnknownCA"), "unknown_ca");
    }

    #[test]
    fn a_server_with_old_tls_is_told_from_one_that_refuses() {
        let old = NetError::of_tls(&TlsError::AlertReceived(AlertDescription::ProtocolVersion));
        assert!(matches!(old, NetError::OldTls { .. }));
        assert!(old.hint().is_some_and(|hint| hint.contains("TLS is too old")));
        let other = NetError::of_tls(&TlsError::AlertReceived(AlertDescription::HandshakeFailure));
        assert_eq!(other.to_string(), "server refused TLS (alert: handshake_failure)");
    }

    #[test]
    fn what_a_server_sends_in_place_of_tls_is_shown_safely() {
        let error = NetError::NotTls { sent: b"+OK \x1b ready\r\nmore".to_vec(), mode: TlsMode::Implicit };
        assert_eq!(
            error.to_string(),
            "server sent \"+OK \\u{1b} ready\" where the TLS handshake was expected"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("tls: starttls")));
    }
}
