//! What a server's certificate says of itself, made safe to show.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::text::{Shown, counted};

/// Names of a certificate that are shown at most.
const NAMES_SHOWN: usize = 8;
const DAY: u64 = 24 * 60 * 60;

/// A server's certificate, and whoever vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The DNS names and addresses that it is for.
    pub names: Vec<String>,
    /// The subjects of what the server sent, its own first, and who issued the last of them.
    pub chain: Vec<String>,
    /// The last second it is valid, since 1970-01-01 UTC.
    pub not_after: u64,
    /// SHA-256 of the certificate (DER), for `tls_pin`.
    pub fingerprint: [u8; 32],
}

impl Certificate {
    /// Reads what a server sent, its own certificate first; `None` if that cannot be read.
    pub(super) fn of(sent: &[CertificateDer<'_>]) -> Option<Self> {
        let parsed: Vec<_> = sent.iter().map_while(|der| parse(der)).collect();
        let (own, last) = (parsed.first()?, parsed.last()?);
        let mut chain: Vec<_> = parsed.iter().map(|certificate| shown(certificate.subject())).collect();
        if last.issuer() != last.subject() {
            chain.push(shown(last.issuer()));
        }
        Some(Self {
            names: names(own),
            chain,
            not_after: u64::try_from(own.validity().not_after.timestamp()).unwrap_or_default(),
            fingerprint: Sha256::digest(sent.first()?).into(),
        })
    }

    /// Says how long it is valid from now on.
    pub fn validity(&self) -> String {
        let (until, now) = (date(self.not_after), now());
        match self.not_after.checked_sub(now) {
            Some(left) => format!("valid until {until}, {} left", counted(left / DAY, "day")),
            None => format!("expired on {until}"),
        }
    }
}

pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).ok()
}

pub(super) fn shown(name: &X509Name<'_>) -> String {
    Shown(name.to_string().as_bytes()).to_string()
}

/// The DNS names and addresses that a certificate is for (RFC 6125: its subject does not count).
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(Shown(name.as_bytes()).to_string()),
        GeneralName::IPAddress(octets) => match **octets {
            [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).to_string()),
            _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    };
    alternatives.value.general_names.iter().filter_map(name).take(NAMES_SHOWN).collect()
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn date(seconds: u64) -> String {
    let timestamp =
        i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    match timestamp {
        Some(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        None => format!("second {seconds} since 1970"),
    }
}
