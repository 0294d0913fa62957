//! Where messages go.

use std::fmt;
use std::path::PathBuf;

use super::account::{Password, Tls};

/// One delivery target; `delivery::open` makes a sink of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A maildir, created if missing.
    Maildir(PathBuf),
    /// A server that speaks SMTP (RFC 5321).
    Smtp(Box<MailServer>),
    /// A server that speaks LMTP (RFC 2033).
    Lmtp(Box<MailServer>),
}

/// A server that takes messages, and the envelopes that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Where it listens.
    pub place: Place,
    /// Who logs in there, if anyone.
    pub login: Option<Login>,
    /// To whom messages go.
    pub to: Recipients,
    /// From whom they come.
    pub from: Sender,
}

/// Where a mail server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On a TCP port.
    Tcp {
        /// Host name or address literal (IPv6 without brackets).
        host: String,
        /// TCP port.
        port: u16,
        /// How the connection is protected.
        tls: Tls,
    },
    /// On a Unix socket.
    Socket(PathBuf),
}

/// Who logs in to a mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name, as it goes onto the wire.
    pub user: String,
    /// Where the password comes from.
    pub password: Password,
}

/// To whom messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// To these addresses, at least one, each of them an [`is_address`].
    List(Vec<String>),
}

/// From whom messages come, for the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// From whom the message's header says: `Return-Path`, else `From`, else nobody.
    Keep,
    /// From this address, an [`is_address`].
    Address(String),
}

/// Octets of an address at most; RFC 5321, 4.5.3.1.3 lets a path be 256, and some forwarders make longer ones.
const LONGEST_ADDRESS: usize = 512;

/// Says whether a text can stand between the angle brackets of MAIL and RCPT: nothing in it ends the address, the
/// argument or the command.
pub fn is_address(text: &str) -> bool {
    let breaks_out = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>');
    !text.is_empty() && text.len() <= LONGEST_ADDRESS && !text.contains(breaks_out)
}

impl Target {
    /// Gives the password that stands or is named in the target, if one does, with the host and the user it is for.
    pub fn login(&self) -> Option<(&str, &Login)> {
        match self {
            Self::Maildir(_) => None,
            Self::Smtp(server) | Self::Lmtp(server) => match (&server.place, &server.login) {
                (Place::Tcp { host, .. }, Some(login)) => Some((host, login)),
                (Place::Tcp { .. } | Place::Socket(_), _) => None,
            },
        }
    }
}

/// Shows the target as users write it: `maildir:/home/alice/Mail`, `smtp:localhost:25`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Smtp(server) => write!(f, "smtp:{}", server.place),
            Self::Lmtp(server) => write!(f, "lmtp:{}", server.place),
        }
    }
}

/// Shows `host:port`, IPv6 addresses in brackets, or the socket's path.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_can_end_the_command_it_stands_in() {
        for sound in ["a@b.example", "u1", "-a@b", "\"x\"@b", "grün@bücher.example", "a@[::1]"] {
            assert!(is_address(sound), "{sound}");
        }
        for bad in
            ["", "a b@c", "a@b\r\nDATA", "a@b\n", "a\0@b", "<a@b>", "a>", "a@b\tX", "a@b\u{a0}", "a\u{7f}@b"]
        {
            assert!(!is_address(bad), "{bad:?}");
        }
        assert!(!is_address(&"a".repeat(LONGEST_ADDRESS + 1)));
    }
}
