//! Commands and answers over the wire, each with its time limit, and what it means when that breaks.

use std::pin::Pin;
use std::time::Duration;

use crate::imap::{
    Append, Capabilities, Client, Command, Data, Event, Fetched, Mailbox, ProtocolError, Status,
};
use crate::net::wire::{Wire, WireError};
use crate::net::{NetError, Stream};
use crate::secret::Secret;
use crate::stop::{self, Stop};
use crate::text::Shown;

/// The dialogue cannot go on; the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Broken {
    /// `gave up after 60s waiting for the answer to APPEND`.
    pub(super) what: String,
    /// What the server said last, if it had something to say of it.
    pub(super) said: Option<String>,
    /// Its goodbye, if it said one.
    pub(super) bye: Option<Status>,
    /// It said nothing for as long as is allowed, or too little: it may be at work still.
    pub(super) is_silence: bool,
}

/// Time in which a server must have shown all of a folder.
const LONGEST_FETCH: Duration = Duration::from_secs(60 * 60);

/// Octets of messages that a server shows at most in answer to a command, and what one counts at least.
const MOST_SHOWN: u64 = 4 << 30;
const AT_LEAST: u64 = 512;

/// Why a wait ends with the process.
const TOO_LATE: &str = "was asked to end";

/// A connection to the server.
pub(super) struct Dialogue {
    wire: Wire<Client>,
    pub(super) capabilities: Capabilities,
    /// What was told on the way to the last answer.
    pub(super) told: ServerData,
    /// The server's goodbye.
    bye: Option<Status>,
    /// Ends when the process must end; `None` once it has.
    too_late: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What a folder is at.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    /// UIDVALIDITY.
    pub(super) validity: u32,
    /// UIDNEXT.
    pub(super) next: u32,
}

/// What data tell.
#[derive(Debug, Default)]
pub(super) struct ServerData {
    capabilities: Option<Vec<String>>,
    pub(super) namespace: Option<(String, Option<char>)>,
    pub(super) separator: Option<char>,
    pub(super) all: Option<Mailbox>,
    pub(super) validity: Option<u32>,
    pub(super) next: Option<u32>,
    pub(super) append_limit: Option<u64>,
}

impl ServerData {
    /// Gives what a folder is at; no UID is 0, whatever a server says.
    pub(super) fn at(&self) -> Option<At> {
        Some(At { validity: self.validity?, next: self.next?.max(1) })
    }
}

/// A word of the server's that somebody waits for.
#[derive(Debug)]
pub(super) enum Word {
    /// The answer to the command with this number in its tag.
    Answer(u64, Status),
    /// It wants the rest of a command.
    Continue(Vec<u8>),
}

/// Who takes messages that come in.
pub(super) trait Reader {
    /// Takes octets of a section that is too long for memory.
    fn octets(&mut self, octets: &[u8]);
    /// Takes a message, whose section is empty if it came before.
    fn fetched(&mut self, message: Fetched);
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

impl Broken {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), said: None, bye: None, is_silence: false }
    }

    fn of(error: WireError<ProtocolError>) -> Self {
        match error {
            WireError::Lost { waiting, source: NetError::Lost { source } } => {
                Self::new(format!("connection lost ({waiting}): {source}"))
            }
            WireError::Protocol(ProtocolError::NotAnAnswer { line } | ProtocolError::Unasked { line }) => {
                let said = Some(Shown(&line).to_string());
                Self { said, ..Self::new("server sent what is no answer") }
            }
            other => Self {
                is_silence: matches!(other, WireError::Silence { .. } | WireError::Trickle { .. }),
                ..Self::new(other.to_string())
            },
        }
    }

    /// Says why nothing more can be had of a server that may have said goodbye.
    fn after(bye: Option<&Status>, error: WireError<ProtocolError>) -> Self {
        match (&error, bye) {
            // It has said why.
            (WireError::Closed { .. } | WireError::Lost { .. }, Some(status)) => {
                let (said, bye) = (Some(status.to_string()), Some(status.clone()));
                Self { said, bye, ..Self::new("server ended the session") }
            }
            _ => Self::of(error),
        }
    }
}

impl Dialogue {
    /// Takes a connection over; `account` is whose messages they are, for the log.
    pub(super) fn new(
        stream: Stream,
        protocol: Client,
        account: &str,
        timeout: Duration,
        stop: Stop,
    ) -> Self {
        Self {
            wire: Wire::new(stream, protocol, timeout, &format!("{account}: target")),
            capabilities: Capabilities::default(),
            told: ServerData::default(),
            bye: None,
            too_late: Some(Box::pin(async move { stop.over(stop::SERVER).await })),
        }
    }

    /// Keeps a secret out of the log, which the server may say again.
    pub(super) fn conceal(&mut self, secret: Secret) {
        self.wire.conceal(secret);
    }

    pub(super) async fn greeting(&mut self) -> Result<Status, Broken> {
        match self.event().await? {
            Event::Greeting(status) => {
                self.told.capabilities = status.capabilities();
                Ok(status)
            }
            _ => Err(Broken::new("server did not greet")),
        }
    }

    /// Learns what the server can do, unless it has just said so.
    pub(super) async fn learn_capabilities(&mut self) -> Result<(), Broken> {
        if self.told.capabilities.is_none() {
            self.command(Command::Capability).await?;
        }
        self.capabilities = Capabilities::new(self.told.capabilities.take().unwrap_or_default());
        Ok(())
    }

    /// Sends a command, and gives the answer to it.
    pub(super) async fn command(&mut self, command: Command<'_>) -> Result<Status, Broken> {
        let tag = self.send(command)?;
        loop {
            match self.word().await? {
                Word::Answer(answered, status) if answered == tag => return Ok(status),
                Word::Answer(..) | Word::Continue(_) => {}
            }
        }
    }

    /// Sends a line of a log-in, and gives what comes next: the answer, or a wish for more.
    pub(super) async fn say(&mut self, command: Command<'_>) -> Result<Word, Broken> {
        self.send(command)?;
        self.word().await
    }

    /// Asks for messages. A server that shows them without end is cut off.
    pub(super) async fn fetch(
        &mut self,
        command: Command<'_>,
        reader: &mut impl Reader,
    ) -> Result<Status, Broken> {
        let fetched = tokio::time::timeout(LONGEST_FETCH, self.fetch_all(command, reader)).await;
        fetched.unwrap_or_else(|_| Err(endless()))
    }

    async fn fetch_all(&mut self, command: Command<'_>, reader: &mut impl Reader) -> Result<Status, Broken> {
        self.send(command)?;
        let mut left = MOST_SHOWN;
        loop {
            match self.event().await? {
                Event::Octets(octets) => {
                    left = left.checked_sub(octets.len() as u64).ok_or_else(endless)?;
                    reader.octets(octets);
                }
                Event::Data(Data::Fetched(message)) => {
                    left = left.checked_sub(AT_LEAST).ok_or_else(endless)?;
                    reader.fetched(message);
                }
                Event::Done(_, _, status) => return Ok(status),
                Event::Data(data) => self.note(data),
                Event::Greeting(_) | Event::Continue(_) => {}
            }
        }
    }

    /// Lets the wait for the next answer begin anew, after a word that was waited for.
    pub(super) fn goes_on(&mut self) {
        self.wire.has_all_time_again();
    }

    /// Queues the announcement of a message; gives the number in its tag.
    pub(super) fn announce(&mut self, append: &Append<'_>) -> Result<u64, Broken> {
        self.send(Command::Append(append))
    }

    /// Queues the announcement of another message of the same command.
    pub(super) fn announce_another(&mut self, append: &Append<'_>) {
        self.wire.protocol_mut().another(append);
    }

    /// Queues octets of a message.
    pub(super) fn queue(&mut self, octets: &[u8]) {
        self.wire.protocol_mut().literal(octets);
    }

    /// Queues the end of a message; gives the place of its last octet among all that are sent.
    pub(super) fn queue_end(&mut self) -> u64 {
        let last = self.wire.protocol().queued();
        self.wire.protocol_mut().end();
        last
    }

    /// Says whether the server may have all octets up to such a place.
    pub(super) fn may_have(&self, last: u64) -> bool {
        self.wire.protocol().written() >= last
    }

    /// Counts the octets that are queued and not written.
    pub(super) fn unwritten(&self) -> u64 {
        self.wire.protocol().queued() - self.wire.protocol().written()
    }

    /// Waits until what is queued was written (`None`), or for the next word.
    pub(super) async fn written(&mut self) -> Result<Option<Word>, Broken> {
        loop {
            let Self { wire, too_late, bye, .. } = &mut *self;
            let event = tokio::select! {
                biased;
                event = wire.event_unless_written() => event,
                () = over(too_late) => return Err(Broken::new(TOO_LATE)),
            };
            let word = match event.map_err(|error| Broken::after(bye.as_ref(), error))? {
                None => return Ok(None),
                Some(Event::Done(tag, _, status)) => Word::Answer(tag, status),
                Some(Event::Continue(words)) => Word::Continue(words),
                Some(Event::Data(data)) => {
                    self.note(data);
                    continue;
                }
                Some(Event::Greeting(_) | Event::Octets(_)) => continue,
            };
            return Ok(Some(word));
        }
    }

    /// Waits for the next word.
    pub(super) async fn word(&mut self) -> Result<Word, Broken> {
        loop {
            match self.event().await? {
                Event::Done(tag, _, status) => {
                    if let Some(names) = status.capabilities() {
                        self.told.capabilities = Some(names);
                    }
                    return Ok(Word::Answer(tag, status));
                }
                Event::Continue(words) => return Ok(Word::Continue(words)),
                Event::Data(data) => self.note(data),
                Event::Greeting(_) | Event::Octets(_) => {}
            }
        }
    }

    /// Gives the connection for a TLS handshake; fails if something came in before it (RFC 9051, 11.1).
    pub(super) fn into_stream(self) -> Result<Stream, Broken> {
        self.wire.into_stream().map_err(|error| match error {
            WireError::Injected => {
                Broken::new("server, or somebody between, sent something before TLS was started")
            }
            other => Broken::of(other),
        })
    }

    pub(super) fn stream(&self) -> &Stream {
        self.wire.stream()
    }

    /// Says goodbye; whatever the server answers, nothing depends on it.
    pub(super) async fn leave(mut self) {
        if self.bye.is_none() && self.send(Command::Logout).is_ok() {
            self.wire.hang_up(stop::GOODBYE).await;
        }
    }

    fn send(&mut self, command: Command<'_>) -> Result<u64, Broken> {
        self.told = ServerData { capabilities: self.told.capabilities.take(), ..ServerData::default() };
        self.wire.has_all_time_again();
        self.wire.send(command).map_err(Broken::of)?;
        Ok(self.wire.protocol().tag())
    }

    async fn event(&mut self) -> Result<Event<&[u8]>, Broken> {
        let Self { wire, too_late, bye, .. } = self;
        let event = tokio::select! {
            biased;
            event = wire.event() => event,
            () = over(too_late) => return Err(Broken::new(TOO_LATE)),
        };
        event.map_err(|error| Broken::after(bye.as_ref(), error))
    }

    fn note(&mut self, data: Data) {
        let told = &mut self.told;
        match data {
            Data::Status(status) => {
                told.validity = status.number("UIDVALIDITY").or(told.validity);
                told.next = status.number("UIDNEXT").or(told.next);
                if status.kind == crate::imap::Kind::Bye {
                    self.bye = Some(status);
                }
            }
            Data::Capability(names) => told.capabilities = Some(names),
            Data::Separator(separator) => told.separator = separator,
            Data::All(mailbox) => told.all = Some(mailbox),
            Data::Namespace(namespace) => told.namespace = namespace,
            Data::AppendLimit(limit) => told.append_limit = Some(limit),
            Data::Mailbox { validity, next } => {
                told.validity = validity.or(told.validity);
                told.next = next.or(told.next);
            }
            Data::Fetched(_) | Data::Other => {}
        }
    }
}

fn endless() -> Broken {
    Broken::new("server shows messages without end")
}

/// Waits until it is too late.
async fn over(too_late: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match too_late {
        Some(waiting) => {
            waiting.await;
            *too_late = None;
        }
        // It is too late already, and what still waits has its own limit.
        None => std::future::pending().await,
    }
}
