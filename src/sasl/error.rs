//! Why an exchange cannot go on.

use super::Mechanism;
use crate::failure::Class;
use crate::text::Shown;

#[derive(Debug, thiserror::Error)]
pub enum SaslError {
    /// USER/PASS and APOP are no SASL mechanisms.
    #[error("{} is no SASL mechanism", .0.shown())]
    NotSasl(Mechanism),
    #[error("cannot send a {what} with {with} in it")]
    Unsendable {
        /// `user name` or `password`.
        what: &'static str,
        with: &'static str,
    },
    #[error("cannot use SCRAM-SHA-256-PLUS: only TLS 1.3 connections can be bound to")]
    NoExporter,
    #[error("cannot get random octets: {0}")]
    Random(getrandom::Error),
    #[error("cannot use the password as a key")]
    Key,
    #[error("server sent one challenge more than {} has", .0.shown())]
    OneChallengeTooMany(Mechanism),
    /// SCRAM's grammar (RFC 5802, 7) was broken.
    #[error("server sent a SCRAM message {0}")]
    BadScram(&'static str),
    /// Too few iterations give the password away, too many are an attack on our time.
    #[error("server sent a SCRAM iteration count of {0}, outside of 4096 to 1000000")]
    Iterations(u32),
    /// SCRAM's `e=`: the server's reason.
    #[error("server refused the SCRAM exchange: {}", Shown(.0))]
    Refused(Vec<u8>),
    /// The server's signature is wrong: it does not know the password.
    #[error("server could not prove that it knows the password (wrong SCRAM signature)")]
    WrongSignature,
    /// The server said that all is well without a signature.
    #[error("server accepted the log-in without proving that it knows the password (no SCRAM signature)")]
    NoSignature,
}

impl SaslError {
    pub fn class(&self) -> Class {
        match self {
            Self::Unsendable { .. } => Class::Credentials,
            Self::Refused(reason) => match reason.as_slice() {
                b"invalid-proof" | b"unknown-user" | b"invalid-username-encoding" => Class::Credentials,
                _ => Class::Refused,
            },
            Self::OneChallengeTooMany(_)
            | Self::BadScram(_)
            | Self::Iterations(_)
            | Self::WrongSignature
            | Self::NoSignature => Class::Protocol,
            Self::NotSasl(_) | Self::NoExporter | Self::Random(_) | Self::Key => Class::Internal,
        }
    }

    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(reason) => match reason.as_slice() {
                b"invalid-proof" | b"unknown-user" => Some("check user and password".into()),
                b"unsupported-channel-binding-type" | b"channel-bindings-dont-match" => Some(
                    "something between here and the server ends TLS, or the server cannot bind to TLS 1.3; if that \
                     is known and right, list the mechanisms to use without scram-sha-256-plus, such as \
                     `auth: [scram-sha-256]`"
                        .into(),
                ),
                _ => None,
            },
            Self::Iterations(_) => {
                Some("over TLS to a server that is trusted, `auth: [plain]` does without SCRAM".into())
            }
            Self::WrongSignature | Self::NoSignature => {
                Some("this may not be the server that it says it is; check host and TLS settings".into())
            }
            Self::NoExporter => Some("leave scram-sha-256-plus out of `auth`".into()),
            Self::NotSasl(_)
            | Self::Unsendable { .. }
            | Self::Random(_)
            | Self::Key
            | Self::OneChallengeTooMany(_)
            | Self::BadScram(_) => None,
        }
    }
}
