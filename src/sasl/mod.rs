//! Authentication mechanisms, without I/O: challenges in, responses out.
//!
//! [`MECHANISMS`] is the table of all of them; configuration values, `auth: auto` and the manual follow from it.
//! [`choose()`] picks one, an [`Exchange`] speaks it. USER/PASS and APOP are commands of POP3 itself and have no
//! exchange.
//!
//! | file | what it is |
//! |---|---|
//! | `plain`, `login`, `cram_md5`, `scram`, `external`, `bearer` | one mechanism each, `bearer` two that take a token |
//! | `choose` | which of them a log-in uses |
//! | `exchange`, `credentials`, `coding`, `error` | the exchange, what it is made of, and why it cannot go on |

mod bearer;
mod choose;
mod coding;
mod cram_md5;
mod credentials;
mod error;
mod exchange;
mod external;
mod login;
mod plain;
mod scram;

pub use bearer::TokenRefused;
pub use choose::{NoMechanism, Offered, Protection, User, choose, instead, why};
pub use credentials::Credentials;
pub use error::SaslError;
pub use exchange::Exchange;

/// A way to log in, by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// SASL EXTERNAL (RFC 4422, A): the TLS client certificate is the identity.
    External,
    /// OAUTHBEARER (RFC 7628): an access token.
    OAuthBearer,
    /// XOAUTH2 (never standardised; Google's and Microsoft's).
    Xoauth2,
    /// SCRAM-SHA-256 bound to the TLS channel (RFC 7677, RFC 9266).
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-1 (RFC 5802).
    ScramSha1,
    /// SASL PLAIN (RFC 4616).
    Plain,
    /// SASL LOGIN (never standardised; widely deployed).
    Login,
    /// The USER and PASS commands (RFC 1939, 7).
    UserPass,
    /// CRAM-MD5 (RFC 2195).
    CramMd5,
    /// The APOP command (RFC 1939, 7).
    Apop,
}

/// Which mechanisms may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The best that the server offers; see [`MECHANISMS`].
    Auto,
    /// These, the first that the server offers.
    List(Vec<Mechanism>),
}

/// What a mechanism is like, for those who choose, configure and explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub mechanism: Mechanism,
    /// What the server, and without TLS whoever listens, learns from one log-in.
    pub exposes: Exposes,
    /// Whether `auth: auto` may take it.
    pub auto: Auto,
    /// One line for the manual.
    pub about: &'static str,
}

/// What the other end of the line learns from one log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exposes {
    /// Nothing that would let anyone log in.
    Nothing,
    /// A salted, slow digest at which a password can be guessed.
    SlowDigest,
    /// An MD5 digest at which a password can be guessed fast.
    FastDigest,
    /// An access token, which is good for an hour or so.
    Token,
    Password,
}

/// Whether `auth: auto` may take a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Auto {
    /// Over TLS, if the server offers it.
    OverTls,
    /// Over TLS, if a client certificate is configured and the server offers it.
    WithClientCertificate,
    /// Over TLS, if tokens are configured (`oauth2`), and then nothing that takes a password.
    WithTokens,
    /// Only when it is listed.
    Never,
}

/// All mechanisms in the order in which `auth: auto` takes them.
///
/// The password goes before SCRAM without channel binding: inside TLS with a verified server, that SCRAM protects
/// against no one but the server itself, to which the user gave the password; it costs two to three round trips
/// more, and 13 ms against 3 ms for a log-in to Dovecot. Whoever wants it lists it. With channel binding it also
/// shows that no one sits between the two ends of TLS, and goes first.
pub const MECHANISMS: &[Row] = &[
    Row {
        mechanism: Mechanism::External,
        exposes: Exposes::Nothing,
        auto: Auto::WithClientCertificate,
        about: "The TLS client certificate (tls_client_cert) says who logs in; no password.",
    },
    Row {
        mechanism: Mechanism::OAuthBearer,
        exposes: Exposes::Token,
        auto: Auto::WithTokens,
        about: "Sends an access token (oauth2); as safe as the TLS around it.",
    },
    Row {
        mechanism: Mechanism::Xoauth2,
        exposes: Exposes::Token,
        auto: Auto::WithTokens,
        about: "As oauthbearer, in the older form of Google and Microsoft.",
    },
    Row {
        mechanism: Mechanism::ScramSha256Plus,
        exposes: Exposes::SlowDigest,
        auto: Auto::OverTls,
        about: "Both sides prove that they know the password, bound to this TLS 1.3 connection.",
    },
    Row {
        mechanism: Mechanism::Plain,
        exposes: Exposes::Password,
        auto: Auto::OverTls,
        about: "Sends user and password in one message; as safe as the TLS around it.",
    },
    Row {
        mechanism: Mechanism::Login,
        exposes: Exposes::Password,
        auto: Auto::OverTls,
        about: "As plain, in an older form with more round trips.",
    },
    Row {
        mechanism: Mechanism::UserPass,
        exposes: Exposes::Password,
        auto: Auto::OverTls,
        about: "POP3's own USER and PASS commands; as safe as the TLS around them.",
    },
    Row {
        mechanism: Mechanism::ScramSha256,
        exposes: Exposes::SlowDigest,
        auto: Auto::OverTls,
        about: "Both sides prove that they know the password; two to three round trips more than plain.",
    },
    Row {
        mechanism: Mechanism::ScramSha1,
        exposes: Exposes::SlowDigest,
        auto: Auto::OverTls,
        about: "As scram-sha-256, with an older digest.",
    },
    Row {
        mechanism: Mechanism::CramMd5,
        exposes: Exposes::FastDigest,
        auto: Auto::Never,
        about: "An MD5 digest in place of the password; broken, for old servers only.",
    },
    Row {
        mechanism: Mechanism::Apop,
        exposes: Exposes::FastDigest,
        auto: Auto::Never,
        about: "POP3's own MD5 digest; broken, for old servers only.",
    },
];

/// What a log-in without TLS that does not leave the machine may use.
pub const WITHIN_THE_MACHINE: [Mechanism; 5] =
    [Mechanism::ScramSha256, Mechanism::ScramSha1, Mechanism::Plain, Mechanism::Login, Mechanism::UserPass];

/// What takes a token.
pub const WITH_TOKENS: [Mechanism; 2] = [Mechanism::OAuthBearer, Mechanism::Xoauth2];

impl Mechanism {
    pub fn name(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::OAuthBearer => "oauthbearer",
            Self::Xoauth2 => "xoauth2",
            Self::ScramSha256Plus => "scram-sha-256-plus",
            Self::ScramSha256 => "scram-sha-256",
            Self::ScramSha1 => "scram-sha-1",
            Self::Plain => "plain",
            Self::Login => "login",
            Self::UserPass => "user-pass",
            Self::CramMd5 => "cram-md5",
            Self::Apop => "apop",
        }
    }

    /// Finds a mechanism by its name in the configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        MECHANISMS.iter().map(|row| row.mechanism).find(|mechanism| mechanism.name() == name)
    }

    /// Says what the other end of the line learns.
    pub fn exposes(self) -> Exposes {
        let row = MECHANISMS.iter().find(|row| row.mechanism == self);
        row.map_or(Exposes::Password, |row| row.exposes)
    }

    /// Gives the name that goes over the wire; `None` for USER/PASS and APOP, which are no SASL mechanisms.
    pub fn sasl_name(self) -> Option<&'static str> {
        match self {
            Self::External => Some("EXTERNAL"),
            Self::OAuthBearer => Some("OAUTHBEARER"),
            Self::Xoauth2 => Some("XOAUTH2"),
            Self::ScramSha256Plus => Some("SCRAM-SHA-256-PLUS"),
            Self::ScramSha256 => Some("SCRAM-SHA-256"),
            Self::ScramSha1 => Some("SCRAM-SHA-1"),
            Self::Plain => Some("PLAIN"),
            Self::Login => Some("LOGIN"),
            Self::CramMd5 => Some("CRAM-MD5"),
            Self::UserPass | Self::Apop => None,
        }
    }

    /// Gives the name as users know it: `SCRAM-SHA-256`, `USER/PASS`, `APOP`.
    pub fn shown(self) -> &'static str {
        match self {
            Self::UserPass => "USER/PASS",
            Self::Apop => "APOP",
            Self::External
            | Self::OAuthBearer
            | Self::Xoauth2
            | Self::ScramSha256Plus
            | Self::ScramSha256
            | Self::ScramSha1
            | Self::Plain
            | Self::Login
            | Self::CramMd5 => self.sasl_name().unwrap_or(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_is_in_the_table_once_and_is_found_by_its_name() {
        for Row { mechanism, .. } in MECHANISMS {
            assert_eq!(Mechanism::from_name(mechanism.name()), Some(*mechanism));
            let alike = MECHANISMS.iter().filter(|row| row.mechanism == *mechanism);
            assert_eq!(alike.count(), 1, "{mechanism:?}");
        }
        assert_eq!(MECHANISMS.len(), 11);
        assert_eq!(Mechanism::from_name("PLAIN"), None);
    }
}
