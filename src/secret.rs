//! Octets that no log, error or debug print can show.

use std::fmt;

use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// What stands in the place of a secret wherever anything with one in it is shown.
pub const MASK: &str = "[secret]";

/// Holds a password, token or key; wiped when dropped, and shown as [`MASK`] by `Debug` and `Display`.
///
/// [`Secret::reveal`] is the only way to the octets, so that every use can be found by its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(octets.into()))
    }

    /// Gives the octets to whoever must put them on the wire.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Octets that a secret must have to be looked for in what others say: shorter ones stand in many words.
const LONG_ENOUGH: usize = 6;

/// Reads base64 as far as it came.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Puts [`MASK`] in the place of secrets that a server has echoed, as they are, percent-encoded, or anywhere in base64 as
/// in the lines of a SASL exchange.
pub fn masked(said: &[u8], secrets: &[&Secret]) -> Vec<u8> {
    let mut said = said.to_vec();
    for secret in secrets.iter().map(|secret| secret.reveal()).filter(|secret| secret.len() >= LONG_ENOUGH) {
        let encoded = Zeroizing::new(percent_encode(secret, NON_ALPHANUMERIC).to_string());
        let is_other = encoded.as_bytes() != secret;
        for echo in std::iter::once(secret).chain(is_other.then(|| encoded.as_bytes())) {
            // Not again in what was put there.
            let mut from = 0;
            while let Some(at) = memchr::memmem::find(&said[from..], echo).map(|at| from + at) {
                said.splice(at..at + echo.len(), MASK.bytes());
                from = at + MASK.len();
            }
        }
    }
    let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=');
    let mut shown = Vec::with_capacity(said.len());
    for run in said.chunk_by(|one, next| is_base64(one) == is_base64(next)) {
        shown.extend_from_slice(if hold_secret(run, secrets) { MASK.as_bytes() } else { run });
    }
    shown
}

/// Says whether octets are base64 that has a secret in it.
fn hold_secret(run: &[u8], secrets: &[&Secret]) -> bool {
    let digits = run.iter().take_while(|octet| **octet != b'=').count();
    let whole = if digits % 4 == 1 { digits - 1 } else { digits };
    let Ok(octets) = LENIENT.decode(&run[..whole]).map(Zeroizing::new) else { return false };
    let mut secrets = secrets.iter().map(|secret| secret.reveal());
    secrets.any(|secret| secret.len() >= LONG_ENOUGH && memchr::memmem::find(&octets, secret).is_some())
}

/// Whether a person is there who can be asked for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// On the controlling terminal.
    Terminal,
    /// A missing one is an error.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_echoed_is_masked() {
        let (token, short) = (Secret::new(*b"1//0gToken+x"), Secret::new(*b"abc"));
        let said = b"abc: 1//0gToken+x is 1%2F%2F0gToken%2Bx, 1//0g";
        assert_eq!(masked(said, &[&token, &short]), b"abc: [secret] is [secret], 1//0g");
    }

    #[test]
    fn a_secret_that_is_echoed_in_base64_is_masked() {
        let secret = Secret::new(*b"s3cr3t-Pw");
        for (said, shown) in [
            ("unknown: AUTHENTICATE PLAIN AGJvYgBzM2NyM3QtUHc=", "unknown: AUTHENTICATE PLAIN [secret]"),
            ("czNjcjN0LVB3 is wrong", "[secret] is wrong"),
            ("<AGJvYgBzM2NyM3QtUHc>", "<[secret]>"),
            ("Invalid credentials (Failure) abcd=", "Invalid credentials (Failure) abcd="),
        ] {
            assert_eq!(String::from_utf8(masked(said.as_bytes(), &[&secret])).unwrap(), shown);
        }
        assert_eq!(masked(b"a secret", &[&Secret::new(*b"secret")]), b"a [secret]");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new(*b"hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
        assert_eq!(secret.reveal(), b"hunter2");
    }
}
