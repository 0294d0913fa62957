//! Commands and replies, by the SMTP library over [`super::stream`].

use std::error::Error as _;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use super::Protocol;
use super::extensions::Extensions;
use super::stream::{Carrier, Failure, Greeting, SmtpStream, Wire};
use crate::text::Shown;

/// RFC 5321, 4.5.3.2: how long a server may take for its greeting, MAIL and RCPT; for DATA; for what it does at the
/// end of a message.
pub(super) const PATIENCE: Duration = Duration::from_secs(5 * 60);
pub(super) const DATA_PATIENCE: Duration = Duration::from_secs(2 * 60);
pub(super) const END_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What a server said, all lines of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// RFC 5321, 4.2.
    pub(super) code: u16,
    /// The lines, joined by blanks.
    pub(super) text: String,
}

/// The dialogue cannot go on; the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Broken {
    /// `gave up after 5m waiting for the reply to MAIL`.
    pub(super) what: String,
    /// The first line that the server sent out of turn.
    pub(super) said: Option<String>,
}

/// Why there is no dialogue.
#[derive(Debug)]
pub(super) enum NoDialogue {
    /// The server's greeting, or its answer to EHLO, was no.
    Refused(&'static str, Reply),
    /// See [`Broken`].
    Broken(Broken),
}

/// A connection on which the server has greeted and said what it can do.
pub(super) struct Dialogue {
    library: AsyncSmtpConnection,
    pub(super) wire: Wire,
    pub(super) extensions: Extensions,
    account: String,
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Broken {
    /// Says what it means after the end of a message went out.
    pub(super) fn may_have_arrived(&self) -> String {
        format!("{self}; the message may have arrived, and may arrive again")
    }
}

impl Reply {
    /// Says whether it is 2yz.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Says whether it is 4yz.
    pub(super) fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Says that the server is about to end the connection.
    pub(super) fn is_closing(&self) -> bool {
        self.code == 421
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, Shown(self.text.as_bytes()))
    }
}

impl Dialogue {
    /// Hears the greeting and says EHLO, or LHLO.
    pub(super) async fn open(
        carrier: Box<dyn Carrier>,
        greeting: Greeting,
        protocol: Protocol,
        name: &ClientId,
        account: &str,
    ) -> Result<Self, NoDialogue> {
        let (stream, wire) = SmtpStream::over(carrier, greeting, protocol, account);
        wire.patience(PATIENCE);
        let hello = match protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        match AsyncSmtpConnection::connect_with_transport(Box::new(stream), name).await {
            Ok(library) => {
                let extensions = Extensions::new(&wire.last_reply());
                Ok(Self { library, wire, extensions, account: account.to_owned() })
            }
            Err(error) => {
                // What broke the dialogue is itself among the replies, unless the connection did.
                let heard = wire.replies().saturating_sub(usize::from(wire.failure().is_none()));
                let to = if heard > 0 { hello } else { "greeting" };
                Err(match refusal(&error) {
                    Some(reply) => NoDialogue::Refused(to, reply),
                    None => NoDialogue::Broken(broken(&wire, &error, to)),
                })
            }
        }
    }

    /// Sends a command, or several (RFC 2920), and gives the reply to the first.
    pub(super) async fn command(&mut self, octets: &str, patience: Duration) -> Result<Reply, Broken> {
        if log::log_enabled!(log::Level::Trace) {
            for line in octets.lines() {
                log::trace!("{}: target: C: {}", self.account, Shown(line.as_bytes()));
            }
        }
        self.send(octets, patience).await
    }

    /// Sends a line of a log-in, which no log shows.
    pub(super) async fn log_in(&mut self, line: &str) -> Result<Reply, Broken> {
        log::trace!("{}: target: C: [secret]", self.account);
        self.send(line, PATIENCE).await
    }

    async fn send(&mut self, octets: &str, patience: Duration) -> Result<Reply, Broken> {
        self.wire.patience(patience);
        let name = match octets.split([' ', '\r']).next() {
            Some(name @ ("MAIL" | "RCPT" | "DATA" | "RSET" | "STARTTLS" | "QUIT")) => name,
            Some(_) | None => "AUTH",
        };
        let answered = self.library.command(octets).await;
        self.answered(answered, name)
    }

    /// Gives the reply to the next command, `to`, of those that were sent together.
    pub(super) async fn reply(&mut self, to: &str, patience: Duration) -> Result<Reply, Broken> {
        self.wire.patience(patience);
        let answered = self.library.read_response().await;
        self.answered(answered, to)
    }

    /// Sends a message, whose lines all end with CRLF, and gives the (first) reply to it. `end` is what is written
    /// after its last octet, with whatever commands follow it.
    pub(super) async fn message<B: AsRef<[u8]>>(
        &mut self,
        octets: impl Iterator<Item = B>,
        end: Vec<u8>,
    ) -> Result<Reply, Broken> {
        self.wire.patience(END_PATIENCE);
        self.wire.allow_end(end);
        let answered = self.library.message_iter(octets).await;
        self.answered(answered, "the message")
    }

    fn answered(&self, answered: Result<Response, Error>, to: &str) -> Result<Reply, Broken> {
        match answered {
            Ok(response) => Ok(Reply {
                code: response.code().into(),
                text: response.message().collect::<Vec<_>>().join(" "),
            }),
            Err(error) => refusal(&error).ok_or_else(|| broken(&self.wire, &error, to)),
        }
    }
}

/// A negative reply is an error to the library.
fn refusal(error: &Error) -> Option<Reply> {
    let code = error.status()?;
    Some(Reply { code: code.into(), text: error.source().map(ToString::to_string).unwrap_or_default() })
}

fn broken(wire: &Wire, error: &Error, to: &str) -> Broken {
    let waiting = if to == "greeting" { "the greeting".to_owned() } else { format!("the reply to {to}") };
    let (what, said) = match wire.failure() {
        Some(Failure::Silence(after)) => {
            (format!("gave up after {} waiting for {waiting}", humantime::format_duration(after)), None)
        }
        Some(Failure::Closed) => (format!("server closed the connection before {waiting}"), None),
        Some(Failure::Lost(why)) => (format!("connection lost before {waiting}: {why}"), None),
        Some(Failure::NotAReply(why)) => (format!("{why}, in place of {waiting}"), None),
        Some(Failure::Early(line)) => (format!("server spoke out of turn, before {waiting}"), Some(line)),
        Some(Failure::Unreadable(why)) => (format!("cannot read the message from the spool: {why}"), None),
        Some(Failure::CutOff) => (format!("was asked to end before {waiting}"), None),
        None => {
            let line = wire.last_reply().into_iter().next();
            (format!("server sent what is no reply, in place of {waiting} ({error})"), line)
        }
    };
    Broken { what, said }
}
