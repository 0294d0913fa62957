//! PLAIN (RFC 4616): user and password in one message.

use zeroize::Zeroizing;

use super::{Credentials, SaslError};

/// Makes the only message: no authorization identity, NUL, user, NUL, password.
pub(super) fn message(credentials: &Credentials<'_>) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    let (user, password) = (credentials.user.as_bytes(), credentials.secret.reveal());
    if user.contains(&0) {
        return Err(SaslError::Unsendable { what: "user name", with: "a NUL" });
    }
    if password.contains(&0) {
        return Err(SaslError::Unsendable { what: "password", with: "a NUL" });
    }
    // Sized first: a vector that grows leaves its old octets behind in freed memory.
    let mut message = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 2));
    message.push(0);
    message.extend_from_slice(user);
    message.push(0);
    message.extend_from_slice(password);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::credentials;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_example_of_rfc_4616_comes_out() {
        let secret = Secret::new(*b"tanstaaftanstaaf");
        assert_eq!(*message(&credentials("tim", &secret)).unwrap(), b"\0tim\0tanstaaftanstaaf");
    }

    #[test]
    fn a_nul_cannot_move_the_border_between_user_and_password() {
        let secret = Secret::new(*b"s");
        assert!(message(&credentials("a\0b", &secret)).is_err());
        assert!(message(&credentials("a", &Secret::new(*b"s\0t"))).is_err());
    }
}
