//! Commands, as they go onto the wire and as they may be shown (RFC 1939, 5 and 7; RFC 2449; RFC 2595; RFC 5034).

use std::fmt;

use super::MessageNumber;
use crate::line::{AuthLine, CommandError, sendable};
use crate::secret::{MASK, Secret};
use crate::text::Shown;

/// A command of the client, or a line it sends within an AUTH exchange.
#[derive(Debug, Clone)]
pub enum Command<'a> {
    Capa,
    Stls,
    /// Has headers sent as they are (RFC 6856, 2.1).
    Utf8,
    /// Has the server's words said in this language (RFC 6856, 3).
    Lang(&'a str),
    User(&'a str),
    Pass(&'a Secret),
    /// Names the mailbox and proves the password (RFC 1939, 7).
    Apop(&'a str, &'a str),
    /// A line of a SASL exchange.
    Auth(AuthLine<'a>),
    /// Asks for the number of messages and octets.
    Stat,
    List,
    Uidl,
    Retr(MessageNumber),
    /// Asks for the header and so many lines of the body.
    Top(MessageNumber, u32),
    /// Marks a message as deleted.
    Dele(MessageNumber),
    Noop,
    Quit,
}

impl Command<'_> {
    /// Appends the command line with its CRLF.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let start = out.len();
        self.write(out).inspect_err(|_| out.truncate(start))?;
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        let mut put = |octets: &[u8]| out.extend_from_slice(octets);
        match self {
            Self::User(user) => {
                put(b"USER ");
                put(sendable("user", user.as_bytes())?);
            }
            Self::Pass(secret) => {
                put(b"PASS ");
                put(sendable("password", secret.reveal())?);
            }
            Self::Apop(user, digest) => {
                put(b"APOP ");
                put(sendable("user", user.as_bytes())?);
                put(b" ");
                put(digest.as_bytes());
            }
            Self::Lang(language) => {
                put(b"LANG ");
                put(sendable("language", language.as_bytes())?);
            }
            Self::Auth(line) => line.encode(out),
            Self::Capa | Self::Stls | Self::Utf8 | Self::Stat | Self::List | Self::Uidl => {
                put(self.to_string().as_bytes());
            }
            Self::Retr(_) | Self::Top(..) | Self::Dele(_) | Self::Noop | Self::Quit => {
                put(self.to_string().as_bytes());
            }
        }
        Ok(())
    }
}

/// Shows the command with secrets masked.
impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capa => f.write_str("CAPA"),
            Self::Stls => f.write_str("STLS"),
            Self::Utf8 => f.write_str("UTF8"),
            Self::Lang(language) => write!(f, "LANG {}", Shown(language.as_bytes())),
            Self::User(user) => write!(f, "USER {}", Shown(user.as_bytes())),
            Self::Pass(secret) => write!(f, "PASS {secret}"),
            Self::Apop(user, _) => write!(f, "APOP {} {MASK}", Shown(user.as_bytes())),
            Self::Auth(line) => write!(f, "{line}"),
            Self::Stat => f.write_str("STAT"),
            Self::List => f.write_str("LIST"),
            Self::Uidl => f.write_str("UIDL"),
            Self::Retr(number) => write!(f, "RETR {number}"),
            Self::Top(number, lines) => write!(f, "TOP {number} {lines}"),
            Self::Dele(number) => write!(f, "DELE {number}"),
            Self::Noop => f.write_str("NOOP"),
            Self::Quit => f.write_str("QUIT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: Command<'_>) -> String {
        let mut out = Vec::new();
        command.encode(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_are_encoded_as_the_rfcs_say() {
        assert_eq!(line(Command::User("a b@c d")), "USER a b@c d\r\n");
        assert_eq!(line(Command::Pass(&Secret::new("p w"))), "PASS p w\r\n");
        assert_eq!(
            line(Command::Auth(AuthLine::Begin("PLAIN", Some(b"\0tim\0tanstaaftanstaaf")))),
            "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n"
        );
        assert_eq!(line(Command::Auth(AuthLine::Begin("EXTERNAL", Some(b"")))), "AUTH EXTERNAL =\r\n");
        assert_eq!(line(Command::Auth(AuthLine::Begin("LOGIN", None))), "AUTH LOGIN\r\n");
        assert_eq!(line(Command::Auth(AuthLine::Response(b""))), "\r\n");
        assert_eq!(line(Command::Top(MessageNumber(7), 0)), "TOP 7 0\r\n");
        assert_eq!(line(Command::Dele(MessageNumber(4_294_967_295))), "DELE 4294967295\r\n");
    }

    #[test]
    fn a_value_cannot_become_a_command_of_its_own() {
        let mut out = b"NOOP\r\n".to_vec();
        assert_eq!(Command::User("a\r\nDELE 1").encode(&mut out), Err(CommandError("user")));
        assert_eq!(Command::Pass(&Secret::new("a\0")).encode(&mut out), Err(CommandError("password")));
        assert_eq!(out, b"NOOP\r\n", "nothing of a refused command may be left behind");
    }

    #[test]
    fn secrets_are_masked_when_shown() {
        let secret = Secret::new("hunter2");
        for command in [
            Command::Pass(&secret),
            Command::Apop("u", "hunter2"),
            Command::Auth(AuthLine::Begin("PLAIN", Some(b"hunter2"))),
            Command::Auth(AuthLine::Response(b"hunter2")),
        ] {
            let shown = command.to_string();
            assert!(shown.contains("[secret]") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
