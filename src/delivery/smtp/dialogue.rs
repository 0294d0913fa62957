//! Commands and replies, by the SMTP library over [`super::stream`].

use std::error::Error as _;
use std::io;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use super::Protocol;
use super::stream::{Carrier, Failure, Greeting, SmtpStream, Wire};
use crate::smtp::Extensions;
use crate::text::Shown;

/// How long a server may take for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// To MAIL, RCPT and the like, and for its greeting.
    pub(super) command: Duration,
    /// To DATA.
    pub(super) data: Duration,
    /// To the end of a message: whoever goes away too early sends it twice.
    pub(super) end: Duration,
}

impl Patience {
    /// Takes what RFC 5321, 4.5.3.2 has, or what the configuration says, but never less for the end of a message.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            command: timeout.unwrap_or(5 * MINUTE),
            data: timeout.unwrap_or(2 * MINUTE),
            end: timeout.unwrap_or_default().max(10 * MINUTE),
        }
    }
}

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
    /// How long the answer to the greeting took.
    pub(super) round_trip: Duration,
    pub(super) patience: Patience,
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

    /// Says, of a reply to MAIL, whether this sender is the trouble (RFC 3463, 3.2: bad sender's address; sendmail's
    /// 451 4.1.8 where its domain does not resolve).
    pub(super) fn is_about_the_sender(&self) -> bool {
        matches!(self.text.get(..5), Some("4.1.7" | "4.1.8"))
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
        patience: Patience,
    ) -> Result<Self, NoDialogue> {
        let (stream, wire) = SmtpStream::over(carrier, greeting, protocol, account);
        wire.patience(patience.command);
        let hello = match protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        match AsyncSmtpConnection::connect_with_transport(Box::new(stream), name).await {
            Ok(library) => {
                // Whatever lines the answer to HELO has, nothing is offered by it.
                let extensions = if wire.said_helo() {
                    Extensions::default()
                } else {
                    Extensions::new(&wire.last_reply())
                };
                let round_trip = wire.waited();
                Ok(Self { library, wire, extensions, round_trip, patience, account: account.to_owned() })
            }
            Err(error) => {
                // What broke the dialogue is itself among the replies, unless the connection did.
                let heard = wire.replies().saturating_sub(usize::from(wire.failure().is_none()));
                let to = if heard > 0 { hello } else { "greeting" };
                Err(match refusal(&error) {
                    Some(reply) => NoDialogue::Refused(to, reply),
                    None => NoDialogue::Broken(broken(&wire, &error.to_string(), to)),
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
        self.send(line, self.patience.command).await
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

    /// Sends a part of a message as it is to stand on the wire.
    pub(super) async fn part(&mut self, octets: &[u8]) -> Result<(), Broken> {
        let written = self.wire.write(octets).await;
        written.map_err(|error| self.lost(&error))
    }

    /// Sends the last part of a message, its end, which begins `at` there, and what follows that; gives the (first) reply
    /// to the message.
    pub(super) async fn end(&mut self, octets: &[u8], at: usize) -> Result<Reply, Broken> {
        let written = self.wire.write_end(octets, at).await;
        written.map_err(|error| self.lost(&error))?;
        self.reply("the message", self.patience.end).await
    }

    fn lost(&self, error: &io::Error) -> Broken {
        broken(&self.wire, &error.to_string(), "the message")
    }

    fn answered(&self, answered: Result<Response, Error>, to: &str) -> Result<Reply, Broken> {
        match answered {
            Ok(response) => Ok(Reply {
                code: response.code().into(),
                text: response.message().collect::<Vec<_>>().join(" "),
            }),
            Err(error) => refusal(&error).ok_or_else(|| broken(&self.wire, &error.to_string(), to)),
        }
    }
}

/// A negative reply is an error to the library.
fn refusal(error: &Error) -> Option<Reply> {
    let code = error.status()?;
    Some(Reply { code: code.into(), text: error.source().map(ToString::to_string).unwrap_or_default() })
}

fn broken(wire: &Wire, error: &str, to: &str) -> Broken {
    let waiting = if to == "greeting" { "the greeting".to_owned() } else { format!("the reply to {to}") };
    let (what, said) = match wire.failure() {
        Some(Failure::Silence(after)) => {
            (format!("gave up after {} waiting for {waiting}", humantime::format_duration(after)), None)
        }
        Some(Failure::Closed) => (format!("server closed the connection before {waiting}"), None),
        Some(Failure::Lost(why)) => (format!("connection lost before {waiting}: {why}"), None),
        Some(Failure::NotAReply(why)) => (format!("{why}, in place of {waiting}"), None),
        Some(Failure::Early(line)) => (format!("server spoke out of turn, before {waiting}"), Some(line)),
        Some(Failure::CutOff) => (format!("was asked to end before {waiting}"), None),
        None => {
            let line = wire.last_reply().into_iter().next();
            (format!("server sent what is no reply, in place of {waiting} ({error})"), line)
        }
    };
    Broken { what, said }
}
