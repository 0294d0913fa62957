//! One authentication exchange, from the initial response to the proof that it may be believed.

use std::fmt;

use zeroize::Zeroizing;

use super::login::Login;
use super::scram::{Binding, Hash, Scram};
use super::{
    Credentials, Exposes, Mechanism, SaslError, TokenRefused, bearer, coding, cram_md5, external, plain,
};
use crate::secret::Secret;

/// One authentication exchange; octets in and out are raw, without base64.
///
/// It is `Send + 'static`, and SCRAM's [`Exchange::respond`] may take a second of computing at the highest iteration
/// count: call it on a thread that may block.
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

enum State {
    /// One message to give, and then nothing more.
    OneMessage(Option<Zeroizing<Vec<u8>>>),
    Login(Login),
    CramMd5(Option<(String, Secret)>),
    Scram(Box<Scram>),
}

impl Exchange {
    /// Begins an exchange. Fails for USER/PASS and APOP, for names and passwords that the mechanism cannot carry, and
    /// if there is no randomness.
    pub fn new(mechanism: Mechanism, credentials: &Credentials<'_>) -> Result<Self, SaslError> {
        let state = match mechanism {
            Mechanism::External => State::OneMessage(Some(external::message(credentials)?)),
            Mechanism::OAuthBearer => State::OneMessage(Some(bearer::oauthbearer(credentials)?)),
            Mechanism::Xoauth2 => State::OneMessage(Some(bearer::xoauth2(credentials)?)),
            Mechanism::Plain => State::OneMessage(Some(plain::message(credentials)?)),
            Mechanism::Login => State::Login(Login::new(credentials)),
            Mechanism::CramMd5 => {
                State::CramMd5(Some((credentials.user.to_owned(), credentials.secret.clone())))
            }
            Mechanism::ScramSha256Plus => match credentials.exporter {
                Some(exporter) => scram(mechanism, Hash::Sha256, Binding::Exporter(exporter), credentials)?,
                None => return Err(SaslError::NoExporter),
            },
            Mechanism::ScramSha256 => scram(mechanism, Hash::Sha256, unbound(credentials), credentials)?,
            // SCRAM-SHA-1-PLUS is not spoken here, so that "I could bind, you cannot" would not be true.
            Mechanism::ScramSha1 => scram(mechanism, Hash::Sha1, Binding::None, credentials)?,
            Mechanism::UserPass | Mechanism::Apop => return Err(SaslError::NotSasl(mechanism)),
        };
        Ok(Self { mechanism, state })
    }

    /// Gives the initial response, once; `None` where the server speaks first. One of no octets is a response too.
    ///
    /// It goes on the AUTH command's line, or answers the empty challenge that a server sends when none was there.
    pub fn initial(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        match &mut self.state {
            State::OneMessage(message) => message.take(),
            State::Scram(scram) => scram.initial(),
            State::Login(_) | State::CramMd5(_) => None,
        }
    }

    /// Answers a challenge. After an error the exchange is to be cancelled (`*`, RFC 5034, 4).
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        match &mut self.state {
            State::OneMessage(_) => Err(SaslError::OneChallengeTooMany(self.mechanism)),
            State::Login(login) => login.respond(),
            State::CramMd5(credentials) => {
                let (user, secret) =
                    credentials.take().ok_or(SaslError::OneChallengeTooMany(Mechanism::CramMd5))?;
                let credentials =
                    Credentials { user: &user, secret: &secret, exporter: None, plus_offered: false };
                cram_md5::response(&credentials, challenge)
            }
            State::Scram(scram) => scram.respond(challenge),
        }
    }

    /// Says whether all that the client has to say was said: what comes next is the outcome.
    pub fn is_complete(&self) -> bool {
        match &self.state {
            State::OneMessage(message) => message.is_none(),
            State::Login(login) => login.is_complete(),
            State::CramMd5(credentials) => credentials.is_none(),
            State::Scram(scram) => scram.is_complete(),
        }
    }

    /// Gives what is said to a challenge behind the last message, and what that challenge tells: why a token was refused.
    pub fn acknowledge(&self, challenge: &[u8]) -> Option<(&'static [u8], TokenRefused)> {
        let takes_token = self.mechanism.exposes() == Exposes::Token;
        takes_token.then(|| (bearer::acknowledgement(self.mechanism), TokenRefused::of(challenge)))
    }

    /// Says whether the server's `+OK` may be believed: SCRAM's server must have proved that it knows the password.
    pub fn finish(&mut self) -> Result<(), SaslError> {
        match &mut self.state {
            State::OneMessage(_) | State::Login(_) | State::CramMd5(_) => Ok(()),
            State::Scram(scram) => scram.finish(),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it holds are passwords, and messages made of them.
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

fn scram(
    mechanism: Mechanism,
    hash: Hash,
    binding: Binding,
    credentials: &Credentials<'_>,
) -> Result<State, SaslError> {
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(SaslError::Random)?;
    Ok(State::Scram(Box::new(Scram::new(mechanism, hash, binding, credentials, &coding::encode(&random)))))
}

/// What SCRAM without channel binding says about it (RFC 5802, 6).
fn unbound(credentials: &Credentials<'_>) -> Binding {
    match credentials.exporter {
        Some(_) if !credentials.plus_offered => Binding::NotOffered,
        Some(_) | None => Binding::None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::MECHANISMS;
    use super::*;

    pub(in super::super) fn credentials<'a>(user: &'a str, secret: &'a Secret) -> Credentials<'a> {
        Credentials { user, secret, exporter: None, plus_offered: false }
    }

    fn can_be_sent_to_another_thread<T: Send + 'static>() {}

    #[test]
    fn an_exchange_shows_no_secret_and_can_be_sent_to_another_thread() {
        can_be_sent_to_another_thread::<Exchange>();
        let secret = Secret::new(*b"hunter2");
        let bound = Credentials { exporter: Some([7; 32]), ..credentials("alice", &secret) };
        for row in MECHANISMS {
            let Ok(exchange) = Exchange::new(row.mechanism, &bound) else {
                assert!(row.mechanism.sasl_name().is_none(), "{:?}", row.mechanism);
                continue;
            };
            let shown = format!("{exchange:?}");
            // The octets of "hunter2", as a list of numbers and as text.
            assert!(!shown.contains("hunter2") && !shown.contains("104, 117, 110"), "{shown}");
        }
    }

    #[test]
    fn an_initial_response_is_given_once() {
        let secret = Secret::new(*b"s");
        let mut plain = Exchange::new(Mechanism::Plain, &credentials("alice", &secret)).unwrap();
        assert_eq!(*plain.initial().unwrap(), b"\0alice\0s");
        assert!(plain.initial().is_none());
        assert!(matches!(plain.respond(b""), Err(SaslError::OneChallengeTooMany(Mechanism::Plain))));
        let mut login = Exchange::new(Mechanism::Login, &credentials("alice", &secret)).unwrap();
        assert!(login.initial().is_none());
    }

    #[test]
    fn nonces_differ() {
        let secret = Secret::new(*b"s");
        let first = |_| {
            let exchange = Exchange::new(Mechanism::ScramSha256, &credentials("a", &secret));
            exchange.unwrap().initial().unwrap().to_vec()
        };
        assert_ne!(first(1), first(2));
    }

    proptest! {
        #[test]
        fn no_challenge_makes_a_mechanism_panic_or_be_believed(
            challenges in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..80),
                    "(m=|r=|s=|i=|v=|e=|,|[a-z0-9+/=]){0,12}".prop_map(String::into_bytes),
                ],
                0..4,
            ),
        ) {
            let secret = Secret::new(*b"s");
            let bound = Credentials { exporter: Some([7; 32]), ..credentials("a,=b", &secret) };
            for row in MECHANISMS {
                let Ok(mut exchange) = Exchange::new(row.mechanism, &bound) else { continue };
                exchange.initial();
                for challenge in &challenges {
                    let _ = exchange.respond(challenge);
                }
                if row.exposes == super::super::Exposes::SlowDigest {
                    prop_assert!(exchange.finish().is_err());
                }
            }
        }
    }
}
