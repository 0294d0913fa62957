//! Where messages go.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::command_line::CommandLine;
use super::host::HostAndPort;
use super::http_url::HttpUrl;
use super::oauth2::Credential;
use super::password::Password;
use super::providers::Protocol;
use super::proxy::Proxy;
use super::tls::{Tls, TlsMode};
use crate::sasl::{Auth, Mechanism};

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
    /// The account's name, which the command is told.
    pub account: String,
    /// The account's user.
    pub user: String,
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

/// A server that takes messages, and the envelopes that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    pub place: Place,
    /// Without a timeout answers have what RFC 5321, 4.5.3.2 gives them. A socket has no more than that of it.
    pub route: Route,
    pub login: Option<Login>,
    pub to: Recipients,
    pub from: Sender,
}

/// Where a mail server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Tcp {
        /// Host name or address literal (IPv6 without brackets).
        host: String,
        port: u16,
    },
    Socket(PathBuf),
}

/// How the server of a target is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// How the connection is protected; where there is a URL, its mode is the URL's.
    pub tls: Tls,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    /// What connects to it in our place.
    pub proxy: Option<Proxy>,
    /// The longest wait for a connect, and for the server to say or take anything; `None`: the account's.
    pub timeout: Option<Duration>,
}

impl Route {
    pub fn bare(mode: TlsMode) -> Self {
        Self { tls: Tls::bare(mode), bind: None, proxy: None, timeout: None }
    }
}

/// Who logs in at a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user name, as it goes onto the wire.
    pub user: String,
    pub credential: Credential,
}

/// A mailbox on a server, and how messages get into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Whose server it is, if that is one of those with keys of their own.
    pub provider: Option<&'static Provider>,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    pub route: Route,
    /// How to log in.
    pub auth: Auth,
    /// Who logs in.
    pub login: Login,
    /// The folder, a slash between its parts.
    pub folder: String,
    /// Whether a missing folder is made.
    pub create: bool,
    /// `\\Seen` and the like.
    pub flags: Vec<String>,
    /// What the server is to take for the date of a message (INTERNALDATE).
    pub date: MessageDate,
}

impl Mailbox {
    /// Gives the octets that may be uploaded there in a day, if that is limited.
    pub fn octets_a_day(&self) -> Option<u64> {
        self.provider.and_then(|provider| provider.octets_a_day)
    }
}

/// What stands for the keys of a provider's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The server.
    pub host: &'static str,
    /// Its port for TLS at once.
    pub port: u16,
    /// Its folders are labels, and one of them has all messages: what is in doubt is looked for there.
    pub has_all_mail: bool,
    /// What the date of a message is.
    pub date: MessageDate,
    /// Octets of a message that it takes, if it does not say so itself.
    pub append_limit: Option<u64>,
    /// Octets that an account may upload in a day.
    pub octets_a_day: Option<u64>,
}

/// What the date of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageDate {
    /// When it arrived at the maildrop: the topmost `Received`, else `Date`.
    Received,
    /// Its `Date` field.
    Header,
    /// The time at which it is delivered.
    Now,
}

/// A user's Gmail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gmail {
    /// Whose it is, and where tokens come from.
    pub login: Login,
    /// Labels of each message, by name.
    pub labels: Vec<String>,
    pub spam: Spam,
    /// What Gmail is to take for the date of a message: not when it arrived, which it cannot be told.
    pub date: MessageDate,
    /// Where the API is; no query.
    pub url: HttpUrl,
    pub route: Route,
}

/// What becomes of what Gmail takes for spam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spam {
    /// Gmail's filter decides.
    Classify,
    /// It is none.
    Never,
}

/// An endpoint that takes each message as the body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    pub url: HttpUrl,
    pub method: Method,
    pub route: Route,
    pub scheme: Scheme,
    /// Who asks, if that is to be shown; a token has no user.
    pub login: Login,
    /// The key by which requests are signed.
    pub hmac: Option<Password>,
    /// More header fields. Each value may be a secret.
    pub headers: Vec<(String, Password)>,
    /// Statuses that mean that the message was taken, if they were written.
    pub success: Option<Vec<u16>>,
    /// The account's name, which the endpoint is told.
    pub account: String,
    /// The account's user.
    pub user: String,
}

/// What a request asks for (RFC 9110, 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Post,
    Put,
}

/// How a request shows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// By nothing that is a log-in.
    None,
    /// By user and password (RFC 7617).
    Basic,
    /// By a token (RFC 6750).
    Bearer,
}

impl Receiver {
    /// The keys by which requests show who asks.
    pub const LOG_IN_KEYS: &str = "`user` and `password`, `bearer`, `hmac` or `headers`";
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// To these addresses, at least one, each of them an [`is_address`].
    List(Vec<String>),
    /// To whom a header names that the provider writes: the maildrop of a whole domain.
    Header(Box<CatchAll>),
}

/// How the recipients of a catch-all maildrop's messages are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchAll {
    /// The name of the trusted header field: `X-Original-To`.
    pub header: String,
    pub occurrence: Occurrence,
    /// What the provider puts in front of the local part.
    pub strip_prefix: Option<String>,
    /// The domains whose addresses are known, whatever their local part.
    pub domains: Vec<String>,
    /// Addresses in place of local parts.
    pub map: BTreeMap<String, String>,
    /// What is done with an address that is not known.
    pub unknown: Unknown,
}

/// Which of several fields of one name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    /// The topmost, which was written last.
    First,
    /// The lowest.
    Last,
    /// This one, counted from the topmost, which is 1.
    Nth(NonZeroUsize),
}

/// What is done with a message for an unknown address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    Hold,
    /// It goes to this address.
    Address(String),
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
    /// Says whether messages get a `Received` line unless the account says otherwise: what is handed to a mail server
    /// goes on its way again, and loops are found by these lines (RFC 5321, 6.3).
    pub fn traces(&self) -> bool {
        match self {
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Imap(_)
            | Self::Gmail(_)
            | Self::Http(_) => false,
            Self::Smtp(_) | Self::Lmtp(_) => true,
        }
    }

    /// Names what is remembered of it from one session of a maildrop to the next; `None`: nothing is.
    pub fn memory(&self, maildrop: &str) -> Option<String> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            // What a server is like is so for all who use it.
            Self::Smtp(_) | Self::Lmtp(_) | Self::Http(_) => Some(self.to_string()),
            // What may be there unrecorded is of one maildrop.
            Self::Imap(_) | Self::Gmail(_) => Some(format!("{self} {maildrop}")),
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

    /// Names what is spoken there, for who gives tokens.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Imap(_) => Protocol::Imap,
            Self::Gmail(_) => Protocol::Gmail,
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Smtp(_)
            | Self::Lmtp(_)
            | Self::Http(_) => Protocol::Smtp,
        }
    }

    /// Shows the server, where everybody is known by one user name whatever becomes of the messages there; `None`: it is
    /// none.
    pub fn server(&self) -> Option<String> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Smtp(server) | Self::Lmtp(server) => Some(server.place.to_string()),
            Self::Imap(mailbox) => Some(mailbox.server()),
            Self::Gmail(gmail) => Some(gmail.url.authority()),
            Self::Http(receiver) => Some(receiver.url.without_query()),
        }
    }

    /// Gives who logs in there, and at which host, if anybody does.
    pub fn login(&self) -> Option<(&str, &Login)> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Smtp(server) | Self::Lmtp(server) => match (&server.place, &server.login) {
                (Place::Tcp { host, .. }, Some(login)) => Some((host, login)),
                (Place::Tcp { .. } | Place::Socket(_), _) => None,
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
            Self::Smtp(server) => write!(f, "smtp:{}", server.place),
            Self::Lmtp(server) => write!(f, "lmtp:{}", server.place),
            Self::Imap(mailbox) => {
                let Mailbox { host, port, login, folder, .. } = &**mailbox;
                write!(f, "imap:{}@{}/{folder}", login.user, HostAndPort(host, *port))
            }
            Self::Gmail(gmail) => write!(f, "gmail:{}", gmail.login.user),
            Self::Http(receiver) => f.write_str(&receiver.url.without_query()),
        }
    }
}

impl Mailbox {
    /// Shows the server: `imap.example.org:993`.
    pub fn server(&self) -> String {
        HostAndPort(&self.host, self.port).to_string()
    }
}

/// Shows `host:port`, or the socket's path.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => HostAndPort(host, *port).fmt(f),
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
