//! Base64 as it goes over the wire (RFC 4648, 4; RFC 5034, 4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::SaslError;

/// Writes a response for the wire.
pub fn encode(response: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(response))
}

/// Writes an initial response for the AUTH command's own line, where `=` stands for one of no octets.
pub fn encode_initial(response: &[u8]) -> Zeroizing<String> {
    if response.is_empty() { Zeroizing::new("=".into()) } else { encode(response) }
}

/// Reads a challenge, which is what follows `+ ` on the wire. Alphabet, padding and unused bits must be as RFC 4648
/// wants them.
pub fn decode(challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
    STANDARD.decode(challenge).map_err(|_| SaslError::NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_survive_the_wire() {
        assert_eq!(*encode(b"\0alice\0s3"), "AGFsaWNlAHMz");
        assert_eq!(decode(b"AGFsaWNlAHMz").unwrap(), b"\0alice\0s3");
        assert_eq!(decode(b"").unwrap(), b"");
        assert_eq!(*encode_initial(b""), "=");
        assert_eq!(*encode_initial(b"a"), "YQ==");
    }

    #[test]
    fn what_rfc_4648_does_not_allow_is_refused() {
        for wrong in ["YQ", "YQ=", "YR==", "Y Q=", "YQ==\r", "-_==", "YQ==YQ==", "="] {
            assert!(matches!(decode(wrong.as_bytes()), Err(SaslError::NotBase64)), "{wrong}");
        }
    }
}
