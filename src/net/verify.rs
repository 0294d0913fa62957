//! Which server certificates are accepted, and what is said of the others.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::certificate::{date, names, now, parse, shown};
use super::proof::{self, Handshake, Peculiarity, Signed, Unproved};
use crate::config::account::pin;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCertificate {
    pub fault: CertificateFault,
    /// SHA-256 of the certificate (DER), for `tls_pin`.
    pub fingerprint: [u8; 32],
    /// Whom it names, made safe to show; empty if it cannot be read.
    pub subject: String,
}

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    /// It was signed with its own key and is not among the trusted ones.
    SelfSigned,
    /// No trusted certificate leads to it.
    UnknownIssuer {
        /// Who issued it, made safe to show.
        issuer: String,
        /// The server sent no certificate beside it.
        alone: bool,
    },
    Expired {
        /// The last second it was valid, since 1970-01-01 UTC.
        not_after: u64,
    },
    /// Its time has not come, or this machine's clock is wrong.
    NotYetValid {
        /// The first second it is valid, since 1970-01-01 UTC.
        not_before: u64,
    },
    WrongName {
        expected: String,
        /// The names it is for, made safe to show.
        names: Vec<String>,
    },
    /// It is none of those in `tls_pin`.
    NotPinned,
    /// Whoever shows it did not prove to have its key; the words are the TLS library's.
    NotProved(String),
    /// Only a pin accepts it: what is peculiar about it, as a predicate.
    Peculiar(String),
    /// Nothing accepts it, since it cannot be told whether its key signed: what is peculiar about it, as a predicate.
    Unprovable(String),
    /// Something else, in the words of the TLS library.
    Other(String),
}

impl BadCertificate {
    pub(super) fn hint(&self) -> String {
        let pin = pin(&self.fingerprint);
        match &self.fault {
            CertificateFault::NotPinned => format!(
                "if the server's operator confirms the new certificate, write `tls_pin: {pin}` (a list may hold old and \
                 new)"
            ),
            CertificateFault::WrongName { names, .. } => {
                let name =
                    names.first().filter(|name| !name.contains('*')).map_or("its name", String::as_str);
                format!(
                    "write `tls_server_name: {name}` if that is the server you mean, or trust this very certificate: \
                     `tls_pin: {pin}`"
                )
            }
            CertificateFault::SelfSigned | CertificateFault::UnknownIssuer { alone: false, .. } => format!(
                "if you know that this is the right server, trust its certificate: `tls_pin: {pin}`, or its issuer: \
                 `tls_ca: FILE`"
            ),
            CertificateFault::UnknownIssuer { alone: true, .. } => format!(
                "the server sent no intermediate certificate, which may be its mistake; trust its issuer: `tls_ca: \
                 FILE`, or this certificate: `tls_pin: {pin}`"
            ),
            CertificateFault::Expired { .. } => format!(
                "the server's operator must renew it; to trust this certificate until then: `tls_pin: {pin}`"
            ),
            CertificateFault::NotYetValid { .. } => not_yet_valid(now(), &pin),
            CertificateFault::NotProved(_) => {
                "it may be shown by someone else than its owner; do not trust this connection".to_owned()
            }
            CertificateFault::Unprovable(_) => {
                "a pin does not help: the server's operator must give it another certificate (an RSA key of 2048 bits or \
                 more, or ECDSA on P-256), or `connect: openssl s_client ...` reaches it"
                    .to_owned()
            }
            CertificateFault::Peculiar(_) | CertificateFault::Other(_) => {
                format!("to trust this very certificate: `tls_pin: {pin}`")
            }
        }
    }
}

/// When this version was released, in seconds since 1970-01-01 UTC: a clock that shows less is wrong.
const RELEASED: u64 = 1_795_996_800; // 2026-11-30

/// Says what to do about a certificate whose time has not come.
fn not_yet_valid(now: u64, pin: &str) -> String {
    if now < RELEASED {
        return format!(
            "this machine's clock is wrong: it shows {}, and this program was released on {}; set it",
            date(now),
            date(RELEASED)
        );
    }
    format!(
        "the server shows it too early, or this machine's clock, which shows {}, is behind; to trust this certificate: \
         `tls_pin: {pin}`",
        date(now)
    )
}

impl fmt::Display for BadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server's certificate ")?;
        match &self.fault {
            CertificateFault::SelfSigned => f.write_str("is self-signed")?,
            CertificateFault::UnknownIssuer { issuer, alone: _ } => {
                write!(f, "was issued by {issuer}, who is not trusted")?;
            }
            CertificateFault::Expired { not_after } => write!(f, "expired on {}", date(*not_after))?,
            CertificateFault::NotYetValid { not_before } => {
                write!(f, "is not valid before {}", date(*not_before))?;
            }
            CertificateFault::WrongName { expected, names } if names.is_empty() => {
                write!(f, "names no host, so not {expected} either")?;
            }
            CertificateFault::WrongName { expected, names } => {
                write!(f, "is for {}, not for {expected}", names.join(", "))?;
            }
            CertificateFault::NotPinned => f.write_str("is none of those in tls_pin")?,
            CertificateFault::NotProved(what) => write!(f, "was shown without proof of its key ({what})")?,
            CertificateFault::Peculiar(what) => write!(f, "{what}, and only a pin accepts that")?,
            CertificateFault::Unprovable(what) => {
                write!(f, "{what}, so that nobody can tell whether the server has its key")?;
            }
            CertificateFault::Other(what) => write!(f, "cannot be verified ({what})")?,
        }
        let separator = if self.subject.is_empty() { "" } else { ", " };
        write!(f, " ({}{separator}{})", self.subject, pin(&self.fingerprint))
    }
}

/// A verifier's refusal, with the certificate that it is about: what rustls reports does not hold it.
#[derive(Debug)]
struct Rejected {
    certificate: Vec<u8>,
    what: Verifying,
    cause: TlsError,
}

/// What a verifier was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verifying {
    /// The certificate, which came with others.
    Chain,
    /// The certificate, which came alone.
    Alone,
    /// The handshake's signature, made with its key.
    Signature,
    /// The same; it was found to be sound, which is not enough without a pin, or could not be verified.
    Key,
}

impl Verifying {
    fn of(intermediates: &[CertificateDer<'_>]) -> Self {
        if intermediates.is_empty() { Self::Alone } else { Self::Chain }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for Rejected {}

/// The certificate is none of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("none of those in tls_pin")]
struct NotPinned;

/// Makes sense of an error of the handshake, if it is about the server's certificate.
pub(super) fn fault(error: &TlsError) -> Option<BadCertificate> {
    let TlsError::InvalidCertificate(CertificateError::Other(OtherError(rejected))) = error else {
        return None;
    };
    let rejected = rejected.downcast_ref::<Rejected>()?;
    let parsed = parse(&rejected.certificate);
    let subject = parsed.as_ref().map(|certificate| shown(certificate.subject())).unwrap_or_default();
    let issuer = parsed.as_ref().map(|certificate| shown(certificate.issuer())).unwrap_or_default();
    // A certificate that may sign others (`openssl req -x509` makes such) is refused as a server's before its issuer
    // is looked for.
    let own_issuer = parsed.as_ref().is_some_and(|certificate| certificate.subject() == certificate.issuer());
    let peculiar = |cause: &TlsError| match (&parsed, proof::peculiarity(&rejected.certificate)) {
        (_, Some(Peculiarity::Unreadable)) => {
            CertificateFault::Unprovable(Peculiarity::Unreadable.to_string())
        }
        (None, _) => CertificateFault::Peculiar("is no sound X.509 certificate".to_owned()),
        (Some(parsed), _) if parsed.version() != X509Version::V3 => {
            // It counts from 0.
            let version = parsed.version().0.saturating_add(1);
            CertificateFault::Peculiar(format!("is of X.509 version {version}"))
        }
        (Some(_), Some(peculiarity)) => CertificateFault::Peculiar(peculiarity.to_string()),
        (Some(_), None) => CertificateFault::Other(cause.to_string()),
    };
    let fault = match &rejected.cause {
        TlsError::General(what) if rejected.what == Verifying::Key => {
            CertificateFault::Unprovable(what.clone())
        }
        cause if rejected.what == Verifying::Key => peculiar(cause),
        cause if rejected.what == Verifying::Signature => CertificateFault::NotProved(cause.to_string()),
        TlsError::InvalidCertificate(cause) => match cause {
            CertificateError::UnknownIssuer | CertificateError::Other(_) | CertificateError::BadSignature
                if own_issuer && !is_not_pinned(cause) =>
            {
                CertificateFault::SelfSigned
            }
            CertificateError::UnknownIssuer => {
                CertificateFault::UnknownIssuer { issuer, alone: rejected.what == Verifying::Alone }
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                CertificateFault::Expired { not_after: not_after.as_secs() }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                CertificateFault::NotYetValid { not_before: not_before.as_secs() }
            }
            CertificateError::NotValidForNameContext { expected, .. } => CertificateFault::WrongName {
                expected: expected.to_str().into_owned(),
                names: parsed.as_ref().map(names).unwrap_or_default(),
            },
            other if is_not_pinned(other) => CertificateFault::NotPinned,
            _ => peculiar(&rejected.cause),
        },
        other => CertificateFault::Other(other.to_string()),
    };
    Some(BadCertificate { fault, fingerprint: Sha256::digest(&rejected.certificate).into(), subject })
}

fn is_not_pinned(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(OtherError(other)) if other.is::<NotPinned>())
}

/// Decides about certificates, and keeps the one that it refuses beside the error.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// What makes a certificate acceptable.
#[derive(Debug)]
pub(super) enum Trust {
    /// Chain and name.
    Chain {
        library: Arc<WebPkiServerVerifier>,
        /// Certificates of `tls_ca`: one that the server itself shows needs no issuer.
        own: Vec<CertificateDer<'static>>,
    },
    /// That it is one of these, whatever it is like; the handshake's signature must still be made with its key.
    Pins(Vec<[u8; 32]>),
}

impl Verifier {
    /// Verifies that the server has the key. Tells one that has not from a key that is too short to be trusted by its
    /// issuer's word.
    fn proved(
        &self,
        handshake: Handshake,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let cause = match (&self.trust, handshake) {
            (Trust::Chain { library, .. }, Handshake::Tls12) => {
                library.verify_tls12_signature(message, certificate, signature)
            }
            (Trust::Chain { library, .. }, Handshake::Tls13) => {
                library.verify_tls13_signature(message, certificate, signature)
            }
            (Trust::Pins(_), _) => Err(CertificateError::BadSignature.into()),
        };
        let Err(cause) = cause else { return cause };
        let signed =
            Signed { handshake, scheme: signature.scheme, message, signature: signature.signature() };
        let (what, cause) = match (proof::verify(certificate, &signed, &self.algorithms), &self.trust) {
            (Ok(()), Trust::Pins(_)) => return Ok(HandshakeSignatureValid::assertion()),
            (Ok(()), Trust::Chain { .. }) => (Verifying::Key, cause),
            (Err(Unproved::Key(what)), _) => (Verifying::Key, TlsError::General(what.to_string())),
            (Err(Unproved::Signature), _) => (Verifying::Signature, cause),
        };
        Err(rejected(certificate, what, cause))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified = match &self.trust {
            Trust::Chain { own, .. } if own.iter().any(|own| own.as_ref() == end_entity.as_ref()) => {
                trusted_itself(end_entity, server_name, now)
            }
            Trust::Chain { library, .. } => {
                library.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Trust::Pins(pins) if pins.contains(&Sha256::digest(end_entity).into()) => {
                Ok(ServerCertVerified::assertion())
            }
            Trust::Pins(_) => Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into()),
        };
        verified.map_err(|cause| rejected(end_entity, Verifying::of(intermediates), cause))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.proved(Handshake::Tls12, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.proved(Handshake::Tls13, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies name and time of a certificate that stands in `tls_ca` itself.
///
/// The library looks for an issuer and refuses a server certificate that may sign others, which is what `openssl req
/// -x509` makes; who writes that very certificate into `tls_ca` has said that it is to be trusted.
fn trusted_itself(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let second = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or_default();
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    };
    let not_before = second(parsed.validity().not_before.timestamp());
    let not_after = second(parsed.validity().not_after.timestamp());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    Ok(ServerCertVerified::assertion())
}

fn rejected(certificate: &CertificateDer<'_>, what: Verifying, cause: TlsError) -> TlsError {
    let rejected = Rejected { certificate: certificate.to_vec(), what, cause };
    TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejected))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_this_program_is_blamed_for_a_certificate_whose_time_has_not_come() {
        let wrong = not_yet_valid(RELEASED - 1, "sha256:x");
        assert!(wrong.starts_with("this machine's clock is wrong: it shows "), "{wrong}");
        let right = not_yet_valid(RELEASED, "sha256:x");
        assert!(right.starts_with("the server shows it too early"), "{right}");
        assert!(right.ends_with("`tls_pin: sha256:x`"), "{right}");
    }

    #[test]
    fn the_date_of_release_is_not_before_the_newest_in_the_changelog() {
        let changelog = include_str!("../../CHANGELOG.md");
        let newest = changelog
            .lines()
            .find_map(|line| line.strip_prefix("## [")?.split_once("] - 2").map(|(_, date)| date));
        let newest = format!("2{}", newest.expect("a release"));
        let date: jiff::civil::Date = newest.parse().expect("a date");
        let second = date.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp().as_second();
        assert!(RELEASED >= second.unsigned_abs(), "{newest}");
    }
}
