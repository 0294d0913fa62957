//! Octets that no log, error or debug print can show.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// Holds a password, token or key; wiped when dropped, and shown as `[secret]` by `Debug` and `Display`.
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
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Octets that a secret must have to be looked for in what others say: shorter ones stand in many words.
const LONG_ENOUGH: usize = 6;

/// Puts `[secret]` in the place of secrets that a server has echoed, as they are or percent-encoded.
pub fn masked(said: &[u8], secrets: &[&Secret]) -> Vec<u8> {
    let mut said = said.to_vec();
    for secret in secrets.iter().map(|secret| secret.reveal()).filter(|secret| secret.len() >= LONG_ENOUGH) {
        let encoded = Zeroizing::new(percent_encode(secret, NON_ALPHANUMERIC).to_string());
        for echo in [secret, encoded.as_bytes()] {
            while let Some(at) = memchr::memmem::find(&said, echo) {
                said.splice(at..at + echo.len(), *b"[secret]");
            }
        }
    }
    said
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
    fn a_secret_is_never_printed() {
        let secret = Secret::new(*b"hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
        assert_eq!(secret.reveal(), b"hunter2");
    }
}
