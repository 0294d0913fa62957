//! How connections are protected.

use std::path::PathBuf;

use crate::text::hex;

/// How the connection is protected (RFC 8314; RFC 2595, 4 for STLS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub mode: TlsMode,
    /// PEM file of certificates trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// SHA-256 digests of server certificates (DER); a match replaces chain and name checks. Empty: no pinning.
    pub pins: Vec<[u8; 32]>,
    /// PEM files of the client's certificate chain and private key.
    pub client: Option<ClientCertificate>,
    /// The name to verify and to send as SNI, when it is not the host.
    pub server_name: Option<String>,
    /// The lowest version accepted.
    pub min: TlsVersion,
}

/// When the TLS handshake happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Before anything else.
    Implicit,
    /// After the STLS command; never without.
    StartTls,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// PEM files that identify the client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientCertificate {
    /// Certificate chain, leaf first.
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// Gives the mode with the system's roots, no pins, no client certificate and TLS 1.2 or later.
    pub fn bare(mode: TlsMode) -> Self {
        Self { mode, ca: None, pins: Vec::new(), client: None, server_name: None, min: TlsVersion::Tls12 }
    }
}

impl TlsMode {
    /// Gives the port when none is configured (RFC 8314, 3.3: 995 for implicit TLS).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Implicit => 995,
            Self::StartTls | Self::None => 110,
        }
    }
}

/// Writes a certificate's SHA-256 digest as `tls_pin` takes it: `sha256:` and lower-case hexadecimal.
pub fn pin(digest: &[u8; 32]) -> String {
    format!("sha256:{}", hex(digest))
}
