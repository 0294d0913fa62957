//! CRAM-MD5 (RFC 2195): HMAC-MD5 of a challenge, keyed with the password.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use zeroize::Zeroizing;

use super::{Credentials, SaslError};
use crate::text::hex;

/// Answers the challenge: user, space, digest in lower-case hexadecimal.
pub(super) fn response(
    credentials: &Credentials<'_>,
    challenge: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    let mac = Hmac::<Md5>::new_from_slice(credentials.secret.reveal()).map_err(|_| SaslError::Key)?;
    let digest = mac.chain_update(challenge).finalize().into_bytes();
    Ok(Zeroizing::new(format!("{} {}", credentials.user, hex(&digest)).into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::credentials;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_example_of_rfc_2195_comes_out() {
        let secret = Secret::new(*b"tanstaaftanstaaf");
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        assert_eq!(
            *response(&credentials("tim", &secret), challenge).unwrap(),
            b"tim b913a602c7eda7a495b4e6e7334d3890"
        );
    }
}
