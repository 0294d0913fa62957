//! Commands and replies over the wire, each with its time limit, and what it means when that breaks.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::target::Address;
use crate::delivery::{ServerError, TargetError};
use crate::failure::Class;
use crate::net::wire::{TimeLimits, Wire, WireError};
use crate::net::{Moment, NetError, Stage, Stream, Watch};
use crate::smtp::{Client, ClientId, Command, Dialect, Event, Extensions, ProtocolError, Reply, Request};
use crate::stop::{self, Stop};
use crate::text::Shown;

/// RFC 5321, 4.5.3.2.5: no part of a message may take longer to be taken.
pub(super) const PART_LIMIT: Duration = Duration::from_secs(3 * 60);

/// How long a server may take for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// To MAIL, RCPT and the like, and for its greeting.
    pub(super) command: Duration,
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

/// The dialogue cannot go on; the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Broken {
    pub(super) how: How,
    /// `gave up after 5m waiting for the reply to MAIL`.
    pub(super) what: String,
    /// The first line that the server sent out of turn.
    pub(super) said: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The server said or took nothing for as long as is allowed.
    Silence,
    Ended,
    /// By what the server said, or for a reason of our own.
    Otherwise,
}

/// Why there is no dialogue.
#[derive(Debug)]
pub(super) enum NoDialogue {
    /// The server's greeting, or its answer to EHLO, was no.
    Refused(&'static str, Reply),
    /// It did not greet, or with something else.
    NoGreeting(Broken),
    /// See [`Broken`].
    Broken(Broken),
}

impl From<Broken> for NoDialogue {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Who talks, and how.
pub(super) struct Introduction<'a> {
    pub(super) dialect: Dialect,
    /// How this machine is named.
    pub(super) name: &'a ClientId,
    /// Whose messages they are, for the log.
    pub(super) account: &'a str,
    pub(super) patience: Patience,
    pub(super) stop: Stop,
    /// Who hears of what the server says.
    pub(super) watch: &'a Watch,
    /// When it says what it offers.
    pub(super) moment: Moment,
}

/// A connection on which the server has greeted and said what it can do.
pub(super) struct Dialogue {
    wire: Wire<Client>,
    pub(super) extensions: Extensions,
    /// How long the answer to the greeting took.
    pub(super) round_trip: Duration,
    pub(super) patience: Patience,
    sent_at: Instant,
    waited: Duration,
    /// Ends when the process must end; `None` once it has.
    too_late: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Broken {
    pub(super) fn new(what: String) -> Self {
        Self { how: How::Otherwise, what, said: None }
    }

    /// Tells that it broke at this server.
    pub(super) fn at(self, address: &Address) -> TargetError {
        let Self { what, said, .. } = self;
        let (place, said) = (address.to_string(), said.map(String::into_bytes));
        TargetError::Server(Box::new(ServerError { place, what, said, hint: None, class: Class::Target }))
    }

    /// Says what it means after the end of a message went out.
    pub(super) fn may_have_arrived(&self) -> String {
        format!("{self}; the message may have arrived, and may arrive again")
    }

    fn of(error: WireError<ProtocolError>, to: Request) -> Self {
        let (how, what, said) = match error {
            WireError::Silence { after, .. } | WireError::Trickle { after, .. } => {
                let after = humantime::format_duration(after);
                (How::Silence, format!("gave up after {after} waiting for {to}"), None)
            }
            WireError::Closed { .. } => {
                (How::Ended, format!("server closed the connection before {to}"), None)
            }
            WireError::Lost { source, .. } => {
                let why = match source {
                    NetError::Lost { source } => source.to_string(),
                    other => other.to_string(),
                };
                (How::Ended, format!("connection lost before {to}: {why}"), None)
            }
            WireError::Protocol(ProtocolError::Unasked { line }) => {
                (How::Otherwise, format!("server spoke out of turn, before {to}"), Some(line))
            }
            WireError::Protocol(ProtocolError::NotAReply { line, .. }) => {
                (How::Otherwise, format!("server sent what is no reply, in place of {to}"), Some(line))
            }
            other => (How::Otherwise, other.to_string(), None),
        };
        Self { how, what, said: said.map(|line| Shown(&line).to_string()) }
    }
}

impl Dialogue {
    /// Hears the greeting, unless that was before TLS, and says EHLO, or LHLO.
    pub(super) async fn open(
        stream: Stream,
        protocol: Client,
        introduction: &Introduction<'_>,
    ) -> Result<Self, NoDialogue> {
        let Introduction { dialect, name, account, patience, stop, watch, moment } = introduction;
        let stop = stop.clone();
        let mut dialogue = Self {
            wire: Wire::new(stream, protocol, limits(patience.command), &format!("{account}: target")),
            extensions: Extensions::default(),
            round_trip: Duration::ZERO,
            patience: *patience,
            sent_at: Instant::now(),
            waited: Duration::ZERO,
            too_late: Some(Box::pin(async move { stop.over(stop::SERVER).await })),
        };
        if dialogue.wire.unanswered() > 0 {
            let greeting = dialogue.reply(patience.command).await.map_err(NoDialogue::NoGreeting)?;
            if !greeting.is_positive() {
                return Err(NoDialogue::Refused("greeting", greeting));
            }
            watch.saw(|| Stage::greeted(greeting.text().as_bytes()));
        }
        let (hello, command) = match dialect {
            Dialect::Smtp => ("EHLO", Command::Ehlo(name)),
            Dialect::Lmtp => ("LHLO", Command::Lhlo(name)),
        };
        let mut reply = dialogue.command(command, patience.command).await?;
        dialogue.round_trip = dialogue.waited;
        // RFC 5321, 3.2 and 4.2.1: x0z is about the command, and not every server says 500 or 502.
        if *dialect == Dialect::Smtp && (500..=504).contains(&reply.code) {
            // Whatever lines the answer to HELO has, nothing is offered by it.
            log::debug!("{account}: target: server knows no EHLO; saying HELO");
            reply = dialogue.command(Command::Helo(name), patience.command).await?;
        } else {
            dialogue.extensions = Extensions::new(reply.lines());
        }
        if reply.is_positive() {
            let offered = &dialogue.extensions.keywords;
            watch.saw(|| Stage::announced(*moment, offered.iter().map(String::as_bytes)));
            return Ok(dialogue);
        }
        if dialogue.send(Command::Quit).is_ok() {
            dialogue.wire.hang_up(stop::GOODBYE).await;
        }
        Err(NoDialogue::Refused(hello, reply))
    }

    /// Sends a command and gives the reply to it.
    pub(super) async fn command(
        &mut self,
        command: Command<'_>,
        patience: Duration,
    ) -> Result<Reply, Broken> {
        self.send(command)?;
        self.reply(patience).await
    }

    /// Queues a command; what is queued goes out together (RFC 2920) when a reply is waited for.
    pub(super) fn send(&mut self, command: Command<'_>) -> Result<(), Broken> {
        self.sent_at = Instant::now();
        let to = Request::of(&command);
        self.wire.send(command).map_err(|error| Broken::of(error, to))
    }

    /// Gives the reply to the first command that is not answered yet.
    pub(super) async fn reply(&mut self, patience: Duration) -> Result<Reply, Broken> {
        self.wire.set_limits(limits(patience));
        let to = self.awaiting();
        let event = tokio::select! {
            biased;
            event = self.wire.event() => event,
            () = over(&mut self.too_late) => return Err(self.cut_off(to)),
        };
        let Event { reply, .. } = event.map_err(|error| Broken::of(error, to))?;
        self.waited = self.sent_at.elapsed();
        Ok(reply)
    }

    /// Says how long the last reply took.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) fn begin(&mut self) {
        self.wire.protocol_mut().begin();
    }

    /// Sends a part of a message.
    pub(super) async fn part(&mut self, octets: &[u8]) -> Result<(), Broken> {
        self.wire.protocol_mut().text(octets);
        self.written().await
    }

    /// Queues the last part of a message and its end, unless the server has spoken already: a reply that came before the
    /// end is none to the message, and must not be taken for one. So many recipients were accepted.
    pub(super) async fn last_part(&mut self, octets: &[u8], recipients: usize) -> Result<(), Broken> {
        let quiet = self.is_quiet().await;
        let protocol = self.wire.protocol_mut();
        protocol.text(octets);
        if let Err(broken) = quiet {
            if broken.said.is_some() {
                // It may want to read on before it closes.
                let _ = self.written().await;
            }
            return Err(broken);
        }
        protocol.end(recipients);
        Ok(())
    }

    /// Sends the end of a message, and what is queued behind it; gives the (first) reply to the message.
    pub(super) async fn end(&mut self) -> Result<Reply, Broken> {
        self.written().await?;
        self.reply(self.patience.end).await
    }

    /// Says whether the server may have the whole message.
    pub(super) fn may_have_the_message(&self) -> bool {
        self.wire.protocol().may_have_the_message()
    }

    /// Fails if the server has said something that nobody asked for, or has ended the connection.
    pub(super) async fn is_quiet(&mut self) -> Result<(), Broken> {
        let to = self.awaiting();
        self.wire.is_quiet().await.map_err(|error| Broken::of(error, to))
    }

    /// Gives the connection for a TLS handshake; fails as [`Dialogue::is_quiet`] does.
    pub(super) async fn into_stream(mut self) -> Result<Stream, Broken> {
        self.is_quiet().await?;
        let to = self.awaiting();
        self.wire.into_stream().map_err(|error| Broken::of(error, to))
    }

    pub(super) fn stream(&self) -> &Stream {
        self.wire.stream()
    }

    async fn written(&mut self) -> Result<(), Broken> {
        self.wire.set_limits(TimeLimits { taking: PART_LIMIT, saying: PART_LIMIT, reply: PART_LIMIT });
        let to = self.awaiting();
        let written = tokio::select! {
            biased;
            written = self.wire.written() => written,
            () = over(&mut self.too_late) => return Err(self.cut_off(to)),
        };
        written.map_err(|error| Broken::of(error, to))
    }

    /// Says what the next reply is to; in the middle of a message it is to that.
    fn awaiting(&self) -> Request {
        self.wire.protocol().awaiting().unwrap_or(Request::Message)
    }

    fn cut_off(&mut self, to: Request) -> Broken {
        self.too_late = None;
        Broken::new(format!("was asked to end before {to}"))
    }
}

/// Waits until it is too late.
async fn over(too_late: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    if let Some(too_late) = too_late {
        too_late.await;
    }
}

fn limits(patience: Duration) -> TimeLimits {
    TimeLimits { taking: PART_LIMIT, saying: patience, reply: patience }
}
