//! What a connection goes through, for whoever watches it: `doctor` drives the stages of a session, and adds none.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::Certificate;
use crate::config::account::pin;
use crate::sasl::{self, Auth, Mechanism, Offered};
use crate::text::{Shown, counted};

/// Something that a connection has gone through. Strangers' words in it are made safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The password is there.
    Password,
    /// The provider of access tokens that is asked, whose stages follow.
    Asking(String),
    /// An access token is there, in the place of the password.
    Token(Token),
    /// The host's addresses, in the order in which they are tried.
    Resolved(Vec<IpAddr>),
    /// One address that was tried in vain, and why.
    Unreached(SocketAddr, String),
    /// An address, a command, a socket: the connection is there.
    Connected(String),
    /// TLS is there: version, cipher suite, the server's certificate.
    Secured {
        version: String,
        suite: String,
        certificate: Option<Box<Certificate>>,
    },
    /// The server's first words.
    Greeted(String),
    /// What the server announces.
    Announced(Moment, Vec<String>),
    /// The mechanism of the log-in, what was offered, and why it is this one.
    Chosen {
        mechanism: &'static str,
        offered: Vec<String>,
        why: &'static str,
    },
    LoggedIn,
    /// Messages and octets of the maildrop.
    Listed(usize, u64),
    /// A folder of a mailbox.
    Opened(String),
}

/// What is known of an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where it comes from: `had just now`.
    pub from: &'static str,
    /// What it is for, as the provider says.
    pub scope: String,
    /// How long it is good, if that is known.
    pub left: Option<Duration>,
}

/// When capabilities were read: each of the three sets is believed only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    BeforeTls,
    BeforeLogIn,
    AfterLogIn,
}

/// Hears of stages, if anybody listens. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Watch(Option<UnboundedSender<Watched>>);

/// A stage, and when it was over.
#[derive(Debug)]
pub struct Watched {
    pub stage: Stage,
    pub at: Instant,
}

impl Watch {
    /// Gives one that is heard by the other.
    pub fn channel() -> (Self, UnboundedReceiver<Watched>) {
        let (sender, receiver) = unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Says whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells a stage, which is put into words only if somebody listens.
    pub fn saw(&self, stage: impl FnOnce() -> Stage) {
        if let Some(sender) = &self.0 {
            // Who has stopped listening misses nothing.
            let _ = sender.send(Watched { stage: stage(), at: Instant::now() });
        }
    }
}

impl Stage {
    /// Makes a server's words safe to show.
    pub fn greeted(words: &[u8]) -> Self {
        Self::Greeted(Shown(words).to_string())
    }

    /// Makes what a server announces safe to show.
    pub fn announced<'a>(moment: Moment, words: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::Announced(moment, words.into_iter().map(|words| Shown(words).to_string()).collect())
    }

    /// Says which mechanism was chosen of what is offered, and why.
    pub fn chosen(auth: &Auth, offered: &Offered<'_>, mechanism: Mechanism) -> Self {
        let why = sasl::why(auth, offered, mechanism);
        Self::Chosen { mechanism: mechanism.shown(), offered: offered.shown(), why }
    }

    /// Names the stage, in a word for people and machines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Asking(_) => "provider",
            Self::Token(_) => "token",
            Self::Resolved(_) => "name",
            Self::Unreached(..) | Self::Connected(_) => "connection",
            Self::Secured { .. } => "tls",
            Self::Greeted(_) => "greeting",
            Self::Announced(..) => "capabilities",
            Self::Chosen { .. } => "mechanism",
            Self::LoggedIn => "log-in",
            Self::Listed(..) => "listing",
            Self::Opened(_) => "folder",
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.from)?;
        match self.left {
            Some(left) if left.as_secs() < 120 => {
                write!(f, "; good for {}", counted(left.as_secs(), "second"))?;
            }
            Some(left) => write!(f, "; good for {}", counted(left.as_secs() / 60, "minute"))?,
            None => f.write_str("; nobody says how long it is good")?,
        }
        match self.scope.as_str() {
            "" => Ok(()),
            scope => write!(f, "\nscopes: {}", Shown(scope.as_bytes())),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeTls => "before TLS",
            Self::BeforeLogIn => "before the log-in",
            Self::AfterLogIn => "after the log-in",
        })
    }
}

/// What was seen, in lines.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved(addresses) => {
                let all: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(", "))
            }
            Self::Unreached(address, why) => write!(f, "{address} in vain: {why}"),
            Self::Connected(to) => f.write_str(to),
            Self::Secured { version, suite, certificate } => {
                write!(f, "{version}, {suite}")?;
                match certificate {
                    Some(certificate) => write!(f, "\n{certificate}"),
                    None => Ok(()),
                }
            }
            Self::Asking(whom) => write!(f, "asking {whom} for an access token"),
            Self::Greeted(words) | Self::Opened(words) => f.write_str(words),
            Self::Announced(moment, words) if words.is_empty() => write!(f, "none {moment}"),
            Self::Announced(moment, words) => write!(f, "{moment}: {}", words.join(", ")),
            Self::Chosen { mechanism, offered, why } if offered.is_empty() => write!(f, "{mechanism}: {why}"),
            Self::Chosen { mechanism, offered, why } => {
                write!(f, "{mechanism} of {}: {why}", offered.join(", "))
            }
            Self::Password => f.write_str("there"),
            Self::Token(token) => token.fmt(f),
            Self::LoggedIn => f.write_str("accepted"),
            Self::Listed(messages, octets) => {
                write!(f, "{}, {}", counted(*messages, "message"), counted(*octets, "octet"))
            }
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "no host".to_owned() } else { self.names.join(", ") };
        write!(f, "certificate for {names}; {}", self.validity())?;
        for subject in &self.chain {
            write!(f, "\nchain: {subject}")?;
        }
        write!(f, "\ntls_pin: {}", pin(&self.fingerprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_nobody_hears_asks_for_no_words() {
        Watch::default().saw(|| panic!("asked"));
        let (watch, mut heard) = Watch::channel();
        watch.saw(|| Stage::greeted(b"\x1b[2J hello"));
        let Watched { stage, .. } = heard.try_recv().unwrap();
        assert_eq!((stage.name(), stage.to_string().as_str()), ("greeting", r"\u{1b}[2J hello"));
    }
}
