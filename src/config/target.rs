//! Where messages go.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command_line::CommandLine;
use super::host::HostAndPort;
use super::password::Password;
use super::providers::Protocol;
use crate::sasl::{Auth, Mechanism};

pub use super::envelope::{CatchAll, Occurrence, Recipients, Sender, Unknown, is_address};
pub use super::target_server::{
    Address, Gmail, Login, MailServer, Mailbox, MessageDate, Method, Provider, Receiver, Route, Scheme, Spam,
};

/// One delivery target; `delivery::Sink::open` makes a sink of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A maildir, created if missing.
    Maildir(PathBuf),
    /// An mbox, created if missing.
    Mbox(PathBuf),
    /// A command that takes each message on its standard input.
    Pipe(Box<Pipe>),
    /// A server that speaks SMTP (RFC 5321).
    Smtp(Box<MailServer>),
    /// A server that speaks LMTP (RFC 2033).
    Lmtp(Box<MailServer>),
    /// A mailbox on a server that speaks IMAP (RFC 9051).
    Imap(Box<Mailbox>),
    /// A user's Gmail, by its API.
    Gmail(Box<Gmail>),
    /// An endpoint that takes messages over HTTP (RFC 9110).
    Http(Box<Receiver>),
}

/// A target, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// It is the same place for all workers of a fleet.
    pub shared: bool,
    pub target: Target,
}

impl Destination {
    /// Gives that under which it is recorded who has a message: the name, else kind and place.
    pub fn key(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.target.to_string())
    }
}

impl From<Target> for Destination {
    fn from(target: Target) -> Self {
        Self { name: None, shared: false, target }
    }
}

/// Shows the target, behind its name if it has one: `archive, maildir:/home/alice/Archive`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}, ")?;
        }
        self.target.fmt(f)
    }
}

/// A command that delivers messages, one process each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe {
    /// What is run. A word of a list may be the name of a [`Fact`]; text for the shell has none in it.
    pub command: CommandLine,
    /// How long it may take for one message.
    pub timeout: Duration,
    /// Whether a `From ` line, as in an mbox, comes before the message.
    pub from_line: bool,
    /// The user that it is run as; ours if none is named.
    pub run_as: Option<String>,
    /// Who is told to be the recipient; the account's user if nobody is named.
    pub to: Option<Recipients>,
}

/// What a command is told about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The envelope sender as the header tells it; empty if there is none.
    From,
    To,
    /// The account's name.
    Account,
    User,
    Uid,
    /// Octets of the message.
    Size,
    /// What follows a `+` in the recipient's local part.
    Extension,
}

impl Fact {
    /// All of them, as they are written.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("%(from)", Self::From),
        ("%(to)", Self::To),
        ("%(account)", Self::Account),
        ("%(user)", Self::User),
        ("%(uid)", Self::Uid),
        ("%(size)", Self::Size),
        ("%(extension)", Self::Extension),
    ];

    /// Finds the fact of which a word is the name, parentheses and all.
    pub fn named(word: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(name, _)| *name == word).map(|(_, fact)| fact)
    }
}

/// What holds for all targets of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Messages get a `Received` line unless the account says otherwise: what is handed to a mail server goes on its way
    /// again, and loops are found by these lines (RFC 5321, 6.3).
    pub traces: bool,
    pub memory: Memory,
    /// What is spoken there, for who gives tokens.
    pub protocol: Protocol,
    pub stock: Stock,
    pub shows_token: ShowsToken,
    /// The keys that say who logs in there.
    pub log_in_keys: &'static str,
}

/// What is remembered of a target from one session of a maildrop to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    None,
    /// What its server is like, which is so for all who use it.
    OfServer,
    /// What may be there unrecorded, which is of one maildrop.
    OfMaildrop,
}

/// Where a session looks for what one that did not end has left in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// Nothing tells which messages are there.
    None,
    /// Among files, by their names.
    Files,
    /// In a mailbox on a server, which may hold many more.
    Mailbox,
}

/// When a target sees an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowsToken {
    AtLogIn,
    /// With each request, so that it is renewed in the middle of a session.
    EachTime,
}

impl Target {
    /// Gives the row of what holds for its kind.
    pub fn facts(&self) -> Facts {
        let usual = Facts {
            traces: false,
            memory: Memory::None,
            protocol: Protocol::Smtp,
            stock: Stock::None,
            shows_token: ShowsToken::AtLogIn,
            log_in_keys: "`user` and `password`",
        };
        match self {
            Self::Maildir(_) => Facts { stock: Stock::Files, ..usual },
            Self::Mbox(_) | Self::Pipe(_) => usual,
            Self::Smtp(_) | Self::Lmtp(_) => Facts { traces: true, memory: Memory::OfServer, ..usual },
            Self::Imap(_) => {
                let (memory, protocol) = (Memory::OfMaildrop, Protocol::Imap);
                Facts { memory, protocol, stock: Stock::Mailbox, ..usual }
            }
            Self::Gmail(_) => {
                let (memory, protocol) = (Memory::OfMaildrop, Protocol::Gmail);
                Facts { memory, protocol, shows_token: ShowsToken::EachTime, ..usual }
            }
            Self::Http(_) => Facts { memory: Memory::OfServer, log_in_keys: Receiver::LOG_IN_KEYS, ..usual },
        }
    }

    /// Names what is remembered of it from one session of a maildrop to the next; `None`: nothing is.
    pub fn memory(&self, maildrop: &str) -> Option<String> {
        match self.facts().memory {
            Memory::None => None,
            Memory::OfServer => Some(self.to_string()),
            Memory::OfMaildrop => Some(format!("{self} {maildrop}")),
        }
    }

    /// Gives where it lies, if it is a maildir or an mbox.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Maildir(path) | Self::Mbox(path) => Some(path),
            Self::Pipe(_)
            | Self::Smtp(_)
            | Self::Lmtp(_)
            | Self::Imap(_)
            | Self::Gmail(_)
            | Self::Http(_) => None,
        }
    }

    /// Gives the server, if it is one that speaks SMTP or LMTP.
    pub fn mail_server(&self) -> Option<&MailServer> {
        match self {
            Self::Smtp(server) | Self::Lmtp(server) => Some(server),
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Imap(_)
            | Self::Gmail(_)
            | Self::Http(_) => None,
        }
    }

    /// Says whether a log-in there needs no password: by a client certificate alone, or by other keys.
    pub fn needs_no_password(&self) -> bool {
        match self {
            Self::Imap(mailbox) => mailbox.auth == Auth::List(vec![Mechanism::External]),
            Self::Http(_) => true,
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Smtp(_)
            | Self::Lmtp(_)
            | Self::Gmail(_) => false,
        }
    }

    /// Gives the budget for what may be uploaded there in a day, if there is one: whose it is, whatever the folder, and its
    /// octets.
    pub fn budget(&self) -> Option<(String, u64)> {
        match self {
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Smtp(_)
            | Self::Lmtp(_)
            | Self::Http(_)
            | Self::Gmail(_) => None,
            Self::Imap(mailbox) => {
                let name = format!("uploaded {} {}", mailbox.login.user, mailbox.host);
                mailbox.octets_a_day().map(|most| (name.to_lowercase(), most))
            }
        }
    }

    /// Gives how its server is reached, if it is one.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Self::Smtp(server) | Self::Lmtp(server) => Some(&server.route),
            Self::Imap(mailbox) => Some(&mailbox.route),
            Self::Gmail(gmail) => Some(&gmail.route),
            Self::Http(receiver) => Some(&receiver.route),
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
        }
    }

    /// Shows the server, where everybody is known by one user name whatever becomes of the messages there; `None`: it is
    /// none.
    pub fn server(&self) -> Option<String> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Smtp(server) | Self::Lmtp(server) => Some(server.address.to_string()),
            Self::Imap(mailbox) => Some(mailbox.server()),
            Self::Gmail(gmail) => Some(gmail.url.authority()),
            Self::Http(receiver) => Some(receiver.url.without_query()),
        }
    }

    /// Gives who logs in there, and at which host, if anybody does.
    pub fn login(&self) -> Option<(&str, &Login)> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Smtp(server) | Self::Lmtp(server) => match (&server.address, &server.login) {
                (Address::Tcp { host, .. }, Some(login)) => Some((host, login)),
                (Address::Tcp { .. } | Address::Socket(_), _) => None,
            },
            Self::Imap(mailbox) => Some((&mailbox.host, &mailbox.login)),
            Self::Gmail(gmail) => Some((&gmail.url.host, &gmail.login)),
            // An endpoint may refuse a key, a header or an address, whoever asks.
            Self::Http(receiver) => Some((&receiver.url.host, &receiver.login)),
        }
    }

    /// Gives secrets that it is used with, besides the log-in's, and what each is.
    pub fn secrets(&self) -> Vec<(&Password, String)> {
        match self {
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Smtp(_)
            | Self::Lmtp(_)
            | Self::Imap(_)
            | Self::Gmail(_) => Vec::new(),
            Self::Http(receiver) => {
                let hmac = receiver.hmac.iter().map(|key| (key, "`hmac`".to_owned()));
                let headers =
                    receiver.headers.iter().map(|(name, value)| (value, format!("the header {name}")));
                hmac.chain(headers).collect()
            }
        }
    }
}

/// Shows the target as users write it: `maildir:/home/alice/Mail`, `smtp:localhost:25`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Mbox(path) => write!(f, "mbox:{}", path.display()),
            // Arguments may hold what is nobody else's business.
            Self::Pipe(pipe) => write!(f, "pipe:{}", pipe.command),
            Self::Smtp(server) => write!(f, "smtp:{}", server.address),
            Self::Lmtp(server) => write!(f, "lmtp:{}", server.address),
            Self::Imap(mailbox) => {
                let Mailbox { host, port, login, folder, .. } = &**mailbox;
                write!(f, "imap:{}@{}/{folder}", login.user, HostAndPort(host, *port))
            }
            Self::Gmail(gmail) => write!(f, "gmail:{}", gmail.login.user),
            Self::Http(receiver) => f.write_str(&receiver.url.without_query()),
        }
    }
}
