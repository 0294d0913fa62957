//! A client that shows by a signature that it is the one that is registered: a JWT (RFC 7519) as client assertion
//! (RFC 7523, 2.2).

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::crypto::ring::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::SigningKey;
use zeroize::Zeroizing;

use super::error::OAuth2Error;
use crate::clock::Timestamp;
use crate::config::account::ClientCertificate;
use crate::config::providers::Assertion;
use crate::text::hex;

/// Seconds for which an assertion is good.
const GOOD_FOR: Timestamp = 300;

/// What an assertion says.
pub(super) struct Claims<'a> {
    pub(super) client_id: &'a str,
    /// The token endpoint, for which alone it is meant.
    pub(super) audience: String,
    pub(super) now: Timestamp,
}

/// Makes a signed assertion. Reads files, and takes the processor a while.
pub(super) fn assertion(
    certificate: &ClientCertificate,
    how: Assertion,
    claims: &Claims<'_>,
) -> Result<Zeroizing<String>, OAuth2Error> {
    let (name, scheme) = match how {
        Assertion::Rs256 => ("RS256", SignatureScheme::RSA_PKCS1_SHA256),
        Assertion::Ps256 => ("PS256", SignatureScheme::RSA_PSS_SHA256),
    };
    let unusable = |path: &Path, what: String| OAuth2Error::Certificate { path: path.to_owned(), what };
    let der = CertificateDer::from_pem_file(&certificate.chain)
        .map_err(|error| unusable(&certificate.chain, format!("there is no certificate in it ({error})")))?;
    let key = key(&certificate.key).map_err(|what| unusable(&certificate.key, what))?;
    let signer = key
        .choose_scheme(&[scheme])
        .ok_or_else(|| unusable(&certificate.key, "it is no RSA key, which is what signs here".to_owned()))?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(OAuth2Error::Random)?;
    let header =
        json!({ "alg": name, "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(Sha256::digest(&der)) });
    let Claims { client_id, audience, now } = claims;
    let payload = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "jti": hex(&random),
        "iat": now,
        "nbf": now,
        "exp": now + GOOD_FOR,
    });
    let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&payload));
    let signature = signer
        .sign(signed.as_bytes())
        .map_err(|error| unusable(&certificate.key, format!("it cannot sign ({error})")))?;
    Ok(Zeroizing::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

fn key(path: &Path) -> Result<Arc<dyn SigningKey>, String> {
    let der = PrivateKeyDer::from_pem_file(path)
        .map_err(|error| format!("there is no unencrypted private key in it ({error})"))?;
    any_supported_type(&der).map_err(|error| format!("its key cannot be used ({error})"))
}
