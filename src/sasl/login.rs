//! LOGIN: the server asks twice, for user and password. Never standardised; its prompts differ (`Username:`,
//! `User Name\0`), their order does not, so they are not read.

use zeroize::Zeroizing;

use super::{Credentials, Mechanism, SaslError};
use crate::secret::Secret;

/// The answers that are still to be given.
pub(super) struct Login {
    user: Option<Zeroizing<Vec<u8>>>,
    password: Option<Secret>,
}

impl Login {
    pub(super) fn new(credentials: &Credentials<'_>) -> Self {
        Self {
            user: Some(Zeroizing::new(credentials.user.as_bytes().to_vec())),
            password: Some(credentials.secret.clone()),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.password.is_none()
    }

    pub(super) fn respond(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        if let Some(user) = self.user.take() {
            return Ok(user);
        }
        match self.password.take() {
            Some(password) => Ok(Zeroizing::new(password.reveal().to_vec())),
            None => Err(SaslError::OneChallengeTooMany(Mechanism::Login)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::credentials;
    use super::*;

    #[test]
    fn user_and_password_are_given_once_each_in_this_order() {
        let secret = Secret::new(*b"s3cret");
        let mut login = Login::new(&credentials("alice", &secret));
        assert_eq!(*login.respond().unwrap(), b"alice");
        assert_eq!(*login.respond().unwrap(), b"s3cret");
        assert!(matches!(login.respond(), Err(SaslError::OneChallengeTooMany(Mechanism::Login))));
    }
}
