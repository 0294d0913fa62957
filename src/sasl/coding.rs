//! Base64 within a message (RFC 4648, 4).

use base64::DecodeError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Writes octets, which may be secret.
pub(super) fn encode(response: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(response))
}

/// Reads octets. Alphabet, padding and unused bits must be as RFC 4648 wants them.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    STANDARD.decode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_survive_the_wire() {
        assert_eq!(*encode(b"\0alice\0s3"), "AGFsaWNlAHMz");
        assert_eq!(decode(b"AGFsaWNlAHMz").unwrap(), b"\0alice\0s3");
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn what_rfc_4648_does_not_allow_is_refused() {
        for wrong in ["YQ", "YQ=", "YR==", "Y Q=", "YQ==\r", "-_==", "YQ==YQ==", "="] {
            assert!(decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
