//! Commands, as they go onto the wire and as they may be shown (RFC 5321, 4.1; RFC 2033, 4.1; RFC 3207; RFC 4954).

use std::fmt;

use super::{ClientId, MailParameter};
use crate::line::{AuthLine, CommandError, sendable};

/// A command of the client, or a line that it sends within an AUTH exchange.
#[derive(Debug, Clone)]
pub enum Command<'a> {
    /// Says who we are, and asks for the server's extensions.
    Ehlo(&'a ClientId),
    /// The same in LMTP.
    Lhlo(&'a ClientId),
    /// Says who we are, to a server that knows no EHLO.
    Helo(&'a ClientId),
    StartTls,
    /// A line of a SASL exchange.
    Auth(AuthLine<'a>),
    /// Begins a transaction: the reverse-path without angle brackets, and parameters.
    Mail(&'a str, &'a [MailParameter]),
    /// Names a recipient: the forward-path without angle brackets. LMTP's may have no domain.
    Rcpt(&'a str),
    /// Asks for the message's turn.
    Data,
    Rset,
    Quit,
}

impl Command<'_> {
    /// Appends the command line with its CRLF.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        match self {
            Self::Auth(line) => line.encode(out),
            Self::Mail(path, _) => {
                sendable("sender", path.as_bytes())?;
                out.extend_from_slice(self.to_string().as_bytes());
            }
            Self::Rcpt(path) => {
                sendable("recipient", path.as_bytes())?;
                out.extend_from_slice(self.to_string().as_bytes());
            }
            Self::Ehlo(_) | Self::Lhlo(_) | Self::Helo(_) | Self::StartTls => {
                out.extend_from_slice(self.to_string().as_bytes());
            }
            Self::Data | Self::Rset | Self::Quit => out.extend_from_slice(self.to_string().as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Shows the command with secrets masked.
impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Lhlo(name) => write!(f, "LHLO {name}"),
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Auth(line) => write!(f, "{line}"),
            Self::Mail(path, parameters) => {
                write!(f, "MAIL FROM:<{path}>")?;
                parameters.iter().try_for_each(|parameter| write!(f, " {parameter}"))
            }
            Self::Rcpt(path) => write!(f, "RCPT TO:<{path}>"),
            Self::Data => f.write_str("DATA"),
            Self::Rset => f.write_str("RSET"),
            Self::Quit => f.write_str("QUIT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use lettre::transport::smtp::extension::MailBodyParameter::EightBitMime;

    use super::*;

    fn line(command: Command<'_>) -> Result<String, CommandError> {
        let mut out = Vec::new();
        command.encode(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn commands_are_encoded_as_the_rfcs_say() {
        let name = ClientId::Domain("mail.example.org".into());
        assert_eq!(line(Command::Lhlo(&name)).unwrap(), "LHLO mail.example.org\r\n");
        let parameters =
            [MailParameter::Size(7), MailParameter::Body(EightBitMime), MailParameter::SmtpUtfEight];
        assert_eq!(
            line(Command::Mail("a@b", &parameters)).unwrap(),
            "MAIL FROM:<a@b> SIZE=7 BODY=8BITMIME SMTPUTF8\r\n"
        );
        assert_eq!(line(Command::Mail("", &[])).unwrap(), "MAIL FROM:<>\r\n");
        assert_eq!(line(Command::Rcpt("postmaster")).unwrap(), "RCPT TO:<postmaster>\r\n");
    }

    #[test]
    fn an_address_cannot_become_a_command_of_its_own() {
        assert_eq!(line(Command::Rcpt("a@b>\r\nRSET")), Err(CommandError("recipient")));
        assert_eq!(line(Command::Mail("a\n@b", &[])), Err(CommandError("sender")));
    }
}
