//! EXTERNAL (RFC 4422, A): who the client is was settled outside, by its TLS certificate.

use zeroize::Zeroizing;

use super::{Credentials, SaslError};

/// Makes the only message: the identity to act as, which is the configured user.
pub(super) fn message(credentials: &Credentials<'_>) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    // RFC 4422, A.1: extern-resp is UTF-8 without NUL.
    if credentials.user.contains('\0') {
        return Err(SaslError::Unsendable { what: "user name", with: "a NUL" });
    }
    Ok(Zeroizing::new(credentials.user.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::credentials;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_example_of_rfc_4422_comes_out() {
        let secret = Secret::new(Vec::new());
        let message = message(&credentials("fred@example.com", &secret)).unwrap();
        assert_eq!(*message, b"fred@example.com");
    }
}
