//! Certificates for servers on loopback, made afresh for each server.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, crypto, version};

/// Names that a server on loopback is called by.
pub const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// A server's certificate, its key, and the authority that signed it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// What a client is given to trust (`tls_ca`).
    pub authority_pem: String,
    /// The server's certificate, signed by the authority.
    pub pem: String,
    /// The server's private key (PKCS #8).
    pub key_pem: String,
    der: Vec<u8>,
    key_der: Vec<u8>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Current,
    /// It ended in 2001.
    Expired,
    /// It begins in 2999.
    NotYet,
}

impl Certificate {
    /// Makes a good certificate for a server on loopback.
    pub fn for_loopback() -> Self {
        Self::issue(LOOPBACK, Validity::Current)
    }

    /// Makes a certificate for these names, with an authority of its own.
    pub fn issue(names: &[&str], validity: Validity) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "postrider test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().expect("a P-256 key");
        let authority = params.self_signed(&authority_key).expect("an authority");
        let issuer = Issuer::new(params, authority_key);

        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names for a certificate");
        params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        (params.not_before, params.not_after) = match validity {
            Validity::Current => (date_time_ymd(2020, 1, 1), date_time_ymd(2999, 1, 1)),
            Validity::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Validity::NotYet => (date_time_ymd(2999, 1, 1), date_time_ymd(2999, 12, 31)),
        };
        let key = KeyPair::generate().expect("a P-256 key");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        Self {
            authority_pem: authority.pem(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
        }
    }

    /// Gives the SHA-256 digest of the server's certificate (DER).
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Gives the digest as `tls_pin` takes it.
    pub fn pin(&self) -> String {
        let hex: String = self.fingerprint().iter().map(|octet| format!("{octet:02x}")).collect();
        format!("sha256:{hex}")
    }

    /// Gives a server configuration that shows this certificate, for TLS 1.2 and 1.3.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server_for(&[&version::TLS12, &version::TLS13])
    }

    /// Gives a server configuration for these versions of TLS only.
    pub fn server_for(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from(self.der.clone())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that ring knows")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that fits its certificate");
        // Tickets would follow the handshake at a moment of their own, and count as something said.
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}
