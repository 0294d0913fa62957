//! OAUTHBEARER (RFC 7628) and XOAUTH2, its forerunner: an access token in the place of a password.

use std::fmt;

use zeroize::Zeroizing;

use super::{Credentials, Mechanism, SaslError};
use crate::text::Shown;

/// What ends each part of a message.
const SEPARATOR: u8 = 1;

/// Makes the only message of OAUTHBEARER (RFC 7628, 3.1).
pub(super) fn oauthbearer(credentials: &Credentials<'_>) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    // RFC 5801, 4: the identity's own commas and equals signs are written so.
    let user = credentials.user.replace('=', "=3D").replace(',', "=2C");
    message(credentials, &format!("n,a={user},\x01auth=Bearer "))
}

/// Makes the only message of XOAUTH2.
pub(super) fn xoauth2(credentials: &Credentials<'_>) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    message(credentials, &format!("user={}\x01auth=Bearer ", credentials.user))
}

fn message(credentials: &Credentials<'_>, begin: &str) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    let token = credentials.secret.reveal();
    if credentials.user.contains(['\0', '\x01']) {
        return Err(SaslError::Unsendable { what: "user name", with: "a control character" });
    }
    // RFC 6750, 2.1: what a token consists of.
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(SaslError::Unsendable {
            what: "access token",
            with: "what is no visible ASCII character",
        });
    }
    let mut message = Zeroizing::new(Vec::with_capacity(begin.len() + token.len() + 2));
    message.extend_from_slice(begin.as_bytes());
    message.extend_from_slice(token);
    message.extend_from_slice(&[SEPARATOR; 2]);
    Ok(message)
}

/// Gives what the client says to a challenge that tells why its token was refused, so that the refusal itself follows.
pub(super) fn acknowledgement(mechanism: Mechanism) -> &'static [u8] {
    // RFC 7628, 3.2.3; XOAUTH2 wants an empty line.
    if mechanism == Mechanism::OAuthBearer { &[SEPARATOR] } else { &[] }
}

/// Why a server refused a token (RFC 7628, 3.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenRefused {
    /// `invalid_token`, `insufficient_scope`; Google and Microsoft write a number of HTTP.
    status: String,
    /// What a token would have to be for.
    scope: String,
}

impl TokenRefused {
    /// Reads the challenge of a failure, decoded. What is no JSON says nothing.
    pub fn of(challenge: &[u8]) -> Self {
        let Ok(said) = serde_json::from_slice::<serde_json::Value>(challenge) else { return Self::default() };
        let text = |key: &str| {
            let value = said.get(key);
            let text = value.and_then(|value| {
                value.as_str().map(str::to_owned).or_else(|| Some(value.as_u64()?.to_string()))
            });
            Shown(text.unwrap_or_default().as_bytes()).to_string()
        };
        Self { status: text("status"), scope: text("scope") }
    }
}

impl fmt::Display for TokenRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server does not take the access token")?;
        match self.status.as_str() {
            "" => {}
            "insufficient_scope" => f.write_str(": it is for something else (insufficient_scope)")?,
            status => write!(f, " ({status})")?,
        }
        if !self.scope.is_empty() {
            write!(f, "; it wants one for {}", self.scope)?;
        }
        f.write_str("; is it this user's, and is this protocol switched on for the mailbox?")
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::credentials;
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_example_of_rfc_7628_comes_out() {
        let secret = Secret::new(*b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        let message = oauthbearer(&credentials("user@example.com", &secret)).unwrap();
        let expected =
            b"n,a=user@example.com,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        assert_eq!(*message, expected);
    }

    #[test]
    fn xoauth2_says_the_same_in_fewer_words() {
        let secret = Secret::new(*b"ya29.token");
        let message = xoauth2(&credentials("someuser@example.com", &secret)).unwrap();
        assert_eq!(*message, b"user=someuser@example.com\x01auth=Bearer ya29.token\x01\x01");
    }

    #[test]
    fn neither_user_nor_token_can_say_more_than_themselves() {
        let secret = Secret::new(*b"t");
        assert!(message(&credentials("a\x01auth=x", &secret), "").is_err());
        assert!(message(&credentials("a", &Secret::new(*b"t\x01host=x")), "").is_err());
        assert!(message(&credentials("a", &Secret::new(*b"t\n")), "").is_err());
        let escaped = oauthbearer(&credentials("a,b=c", &secret)).unwrap();
        assert!(escaped.starts_with(b"n,a=a=2Cb=3Dc,\x01"));
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let told = |json: &str| TokenRefused::of(json.as_bytes()).to_string();
        let end = "; is it this user's, and is this protocol switched on for the mailbox?";
        let begin = "the server does not take the access token";
        assert_eq!(told("no json"), format!("{begin}{end}"));
        let google = r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#;
        assert_eq!(told(google), format!("{begin} (400); it wants one for https://mail.google.com/{end}"));
        assert!(told(r#"{"status":"insufficient_scope"}"#).contains("it is for something else"));
        assert!(told(r#"{"status":401,"scope":["x"]}"#).contains("(401)"));
        assert!(told("{\"status\":\"\\u001b[31m\"}").contains("(\\u{1b}[31m)"));
    }
}
