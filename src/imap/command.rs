//! Commands, as they go onto the wire and as they may be shown (RFC 9051, 6).

use std::fmt;

use super::name::Mailbox;
use crate::line::{AuthLine, CommandError, sendable};
use crate::secret::Secret;

/// A command of the client, or a line that it sends within an AUTHENTICATE exchange.
#[derive(Debug, Clone)]
pub enum Command<'a> {
    /// Asks what the server can do.
    Capability,
    Noop,
    Logout,
    StartTls,
    /// A line of a SASL exchange; an initial response only where the server has SASL-IR (RFC 4959).
    Authenticate(AuthLine<'a>),
    /// Logs in with user and password.
    Login(&'a str, &'a Secret),
    /// Enables an extension (RFC 5161).
    Enable(&'static str),
    /// Asks for the personal namespace (RFC 2342).
    Namespace,
    /// Asks for the hierarchy's separator alone.
    Separator,
    /// Asks for the mailboxes with a use of their own (RFC 6154, 5.1).
    SpecialUse,
    Create(&'a Mailbox),
    /// Asks for UIDVALIDITY and UIDNEXT.
    Status(&'a Mailbox),
    /// Asks for the octets of a message that a mailbox takes (RFC 7889, 5).
    AppendLimit(&'a Mailbox),
    /// Opens a mailbox for reading.
    Examine(&'a Mailbox),
    /// Announces a message; its octets follow as [`super::Client::literal`] says.
    Append(&'a Append<'a>),
    /// Asks for messages: the first UID, the last or all that come after it, and what is wanted of them.
    UidFetch(u32, Option<u32>, Items),
    /// Asks for messages by their UIDs, at least one.
    UidFetchThese(&'a [u32], Items),
}

/// What a tagged response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Capability,
    Noop,
    Logout,
    StartTls,
    /// AUTHENTICATE, or LOGIN
    LogIn,
    Enable,
    Namespace,
    List,
    Create,
    Status,
    Examine,
    Append,
    /// UID FETCH
    Fetch,
}

/// What is wanted of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// The size, and these header fields.
    Fields(&'static [&'static str]),
    /// The same, and INTERNALDATE.
    Dated(&'static [&'static str]),
    /// All of it.
    Whole,
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields(fields) => {
                write!(f, "(UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS ({})])", fields.join(" "))
            }
            Self::Dated(fields) => {
                let fields = fields.join(" ");
                write!(f, "(UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS ({fields})])")
            }
            Self::Whole => f.write_str("(UID BODY.PEEK[])"),
        }
    }
}

/// A message that is to be appended.
#[derive(Debug, Clone)]
pub struct Append<'a> {
    /// Where to.
    pub mailbox: &'a Mailbox,
    /// `\Seen` and the like.
    pub flags: &'a [String],
    /// INTERNALDATE as RFC 9051, 9 (`date-time`) has it, without quotes; the server's time if there is none.
    pub date: Option<&'a str>,
    /// Octets of the message.
    pub octets: u64,
    /// How they are announced.
    pub literal: Literal,
}

/// How octets are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literal {
    /// The server asks for them.
    Synchronizing,
    /// They follow at once (RFC 7888).
    NonSynchronizing,
    /// There are NULs among them (RFC 3516, 4.4); the server asks for them.
    Binary,
}

impl Request {
    pub(super) fn of(command: &Command<'_>) -> Self {
        match command {
            Command::Capability => Self::Capability,
            Command::Noop => Self::Noop,
            Command::Logout => Self::Logout,
            Command::StartTls => Self::StartTls,
            Command::Authenticate(_) | Command::Login(..) => Self::LogIn,
            Command::Enable(_) => Self::Enable,
            Command::Namespace => Self::Namespace,
            Command::Separator | Command::SpecialUse => Self::List,
            Command::Create(_) => Self::Create,
            Command::Status(_) | Command::AppendLimit(_) => Self::Status,
            Command::Examine(_) => Self::Examine,
            Command::Append(_) => Self::Append,
            Command::UidFetch(..) | Command::UidFetchThese(..) => Self::Fetch,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogIn => f.write_str("the log-in"),
            Self::Fetch => f.write_str("UID FETCH"),
            other => f.write_str(&format!("{other:?}").to_uppercase()),
        }
    }
}

impl Command<'_> {
    /// Appends the command without its tag, CRLF included.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), CommandError> {
        match self {
            Self::Authenticate(line) => {
                // The RFCs of POP3 and SMTP have another verb.
                let begin = out.len();
                line.encode(out);
                if let AuthLine::Begin(..) = line {
                    out.splice(begin..begin + "AUTH".len(), *b"AUTHENTICATE");
                }
            }
            Self::Login(user, password) => {
                let what = sendable("user", user.as_bytes())?;
                out.extend_from_slice(b"LOGIN ");
                quote(what, out);
                out.push(b' ');
                quote(sendable("password", password.reveal())?, out);
            }
            other => out.extend_from_slice(other.to_string().as_bytes()),
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Writes a quoted string (RFC 9051, 4.3).
fn quote(octets: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for octet in octets {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
}

/// A mailbox as a quoted string.
struct Quoted<'a>(&'a Mailbox);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        quote(self.0.as_str().as_bytes(), &mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Shows the command with secrets masked.
impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability => f.write_str("CAPABILITY"),
            Self::Noop => f.write_str("NOOP"),
            Self::Logout => f.write_str("LOGOUT"),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Authenticate(line) => line.fmt(f),
            Self::Login(user, secret) => {
                write!(f, "LOGIN {} {secret}", crate::text::Shown(user.as_bytes()))
            }
            Self::Enable(what) => write!(f, "ENABLE {what}"),
            Self::Namespace => f.write_str("NAMESPACE"),
            Self::Separator => f.write_str("LIST \"\" \"\""),
            Self::SpecialUse => f.write_str("LIST (SPECIAL-USE) \"\" \"*\""),
            Self::Create(mailbox) => write!(f, "CREATE {}", Quoted(mailbox)),
            Self::Status(mailbox) => write!(f, "STATUS {} (UIDVALIDITY UIDNEXT)", Quoted(mailbox)),
            Self::AppendLimit(mailbox) => write!(f, "STATUS {} (APPENDLIMIT)", Quoted(mailbox)),
            Self::Examine(mailbox) => write!(f, "EXAMINE {}", Quoted(mailbox)),
            Self::Append(append) => append.fmt(f),
            Self::UidFetch(first, last, items) => match last {
                Some(last) => write!(f, "UID FETCH {first}:{last} {items}"),
                None => write!(f, "UID FETCH {first}:* {items}"),
            },
            Self::UidFetchThese(uids, items) => {
                let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
                write!(f, "UID FETCH {} {items}", uids.join(","))
            }
        }
    }
}

impl fmt::Display for Append<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "APPEND {}{}", Quoted(self.mailbox), Announcement(self))
    }
}

/// What announces one message of a command, which may have several (RFC 3502, 6.3.11).
pub(super) struct Announcement<'a>(pub(super) &'a Append<'a>);

impl fmt::Display for Announcement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Append { flags, date, octets, literal, .. } = self.0;
        if !flags.is_empty() {
            write!(f, " ({})", flags.join(" "))?;
        }
        if let Some(date) = date {
            write!(f, " \"{date}\"")?;
        }
        match literal {
            Literal::Synchronizing => write!(f, " {{{octets}}}"),
            Literal::NonSynchronizing => write!(f, " {{{octets}+}}"),
            Literal::Binary => write!(f, " ~{{{octets}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::Charset;
    use super::*;

    fn line(command: &Command<'_>) -> Result<String, CommandError> {
        let mut out = Vec::new();
        command.encode(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn commands_are_encoded_as_the_rfc_says() {
        let mailbox = Mailbox::new("a \"b\\", Charset::ModifiedUtf7);
        let flags = ["\\Seen".to_owned(), "$x".to_owned()];
        let append = Append {
            mailbox: &mailbox,
            flags: &flags,
            date: Some("01-Jan-2026 00:00:00 +0000"),
            octets: 7,
            literal: Literal::NonSynchronizing,
        };
        let plain = Append { flags: &[], date: None, literal: Literal::Synchronizing, ..append.clone() };
        let binary = Append { literal: Literal::Binary, ..plain.clone() };
        let secret = Secret::new("p\"w");
        for (command, encoded) in [
            (Command::Append(&append), r#"APPEND "a \"b\\" (\Seen $x) "01-Jan-2026 00:00:00 +0000" {7+}"#),
            (Command::Append(&plain), r#"APPEND "a \"b\\" {7}"#),
            (Command::Append(&binary), r#"APPEND "a \"b\\" ~{7}"#),
            (Command::Login("al ice", &secret), r#"LOGIN "al ice" "p\"w""#),
            (Command::Authenticate(AuthLine::Begin("PLAIN", Some(b"x"))), "AUTHENTICATE PLAIN eA=="),
            (Command::Authenticate(AuthLine::Response(b"x")), "eA=="),
            (Command::Authenticate(AuthLine::Cancel), "*"),
            (Command::Separator, r#"LIST "" """#),
            (Command::SpecialUse, r#"LIST (SPECIAL-USE) "" "*""#),
            (Command::UidFetch(5, None, Items::Whole), "UID FETCH 5:* (UID BODY.PEEK[])"),
            (Command::UidFetchThese(&[5, 9], Items::Whole), "UID FETCH 5,9 (UID BODY.PEEK[])"),
            (
                Command::UidFetch(5, Some(9), Items::Fields(&["date", "from"])),
                "UID FETCH 5:9 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (date from)])",
            ),
            (
                Command::UidFetch(5, Some(9), Items::Dated(&["date", "from"])),
                "UID FETCH 5:9 (UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (date from)])",
            ),
        ] {
            assert_eq!(line(&command).unwrap(), format!("{encoded}\r\n"));
        }
    }

    #[test]
    fn a_secret_is_not_shown_and_cannot_become_a_command_of_its_own() {
        let secret = Secret::new("hunter2");
        assert_eq!(Command::Login("alice", &secret).to_string(), "LOGIN alice [secret]");
        let broken = Secret::new("a\r\nb");
        assert_eq!(line(&Command::Login("alice", &broken)), Err(CommandError("password")));
        assert_eq!(line(&Command::Login("al\nice", &secret)), Err(CommandError("user")));
    }
}
