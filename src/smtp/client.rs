//! The client's side of a session as a state machine with a queue of expected replies.

use std::collections::VecDeque;
use std::fmt;

use super::reply::Bad;
use super::text::Stuffing;
use super::{Command, Dialect, Reply};
use crate::line::{Awaited, CommandError, Output, Pace, Protocol, Taken, Waiting, start_of};
use crate::text::Shown;

/// What a reply is the reply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Nothing: the server speaks first.
    Greeting,
    Ehlo,
    Lhlo,
    Helo,
    StartTls,
    /// AUTH, or a line within its exchange
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The end of a message; in LMTP for one of its recipients
    Message,
    Rset,
    Quit,
}

/// A reply, and what it is the reply to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub to: Request,
    pub reply: Reply,
}

/// The server broke the protocol; nothing it says after that means anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// What came is no reply.
    #[error("server sent what is no reply, in place of {to}: \"{}\"", Shown(.line))]
    NotAReply {
        to: Request,
        /// The line, its start at most.
        line: Vec<u8>,
    },
    /// A line does not end.
    #[error("server sent a line that is too long for a reply, in place of {to}")]
    LineTooLong { to: Request },
    /// A reply does not end.
    #[error("server sent far more than a reply, in place of {to}")]
    ReplyTooLong { to: Request },
    /// Octets came that nothing asked for.
    #[error("server spoke out of turn: \"{}\"", Shown(.line))]
    Unasked {
        /// What came, its start at most.
        line: Vec<u8>,
    },
}

/// A session's protocol state: what has been sent and not yet answered, and how much of a message.
#[derive(Debug)]
pub struct Client {
    dialect: Dialect,
    output: Output,
    expected: VecDeque<Request>,
    stuffing: Stuffing,
    end: End,
}

/// How far the end of the message has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not been queued.
    Missing,
    /// So many octets are to be written before it.
    Behind(usize),
    /// It was written, or a part of it.
    Written,
}

impl Request {
    /// Says what the reply to a command is the reply to.
    pub fn of(command: &Command<'_>) -> Self {
        match command {
            Command::Ehlo(_) => Self::Ehlo,
            Command::Lhlo(_) => Self::Lhlo,
            Command::Helo(_) => Self::Helo,
            Command::StartTls => Self::StartTls,
            Command::Auth(_) => Self::Auth,
            Command::Mail(..) => Self::Mail,
            Command::Rcpt(_) => Self::Rcpt,
            Command::Data => Self::Data,
            Command::Rset => Self::Rset,
            Command::Quit => Self::Quit,
        }
    }
}

/// Names the reply: `the greeting`, `the reply to MAIL`, `the reply to the message`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting => f.write_str("the greeting"),
            Self::Message => f.write_str("the reply to the message"),
            other => write!(f, "the reply to {}", format!("{other:?}").to_uppercase()),
        }
    }
}

impl Client {
    /// Begins a session on a new connection: a greeting is expected.
    pub fn new(dialect: Dialect) -> Self {
        Self { expected: VecDeque::from([Request::Greeting]), ..Self::after_starttls(dialect) }
    }

    /// Goes on behind a TLS handshake in the middle of a session: no greeting comes (RFC 3207, 4.2).
    pub fn after_starttls(dialect: Dialect) -> Self {
        Self {
            dialect,
            output: Output::default(),
            expected: VecDeque::new(),
            stuffing: Stuffing::new(),
            end: End::Missing,
        }
    }

    /// Begins another message: the server has nothing of it.
    pub fn begin(&mut self) {
        self.stuffing = Stuffing::new();
        self.end = End::Missing;
    }

    /// Queues a part of the message, after a 354 to DATA.
    pub fn text(&mut self, part: &[u8]) {
        self.stuffing.stuff(part, self.output.queue());
    }

    /// Queues the end of the message, for which the server has accepted so many recipients: in LMTP as many replies are
    /// expected (RFC 2033, 4.2), else one.
    pub fn end(&mut self, recipients: usize) {
        self.end = End::Behind(self.output.outgoing().len());
        self.output.queue().extend_from_slice(self.stuffing.end());
        let replies = match self.dialect {
            Dialect::Smtp => 1,
            Dialect::Lmtp => recipients,
        };
        self.expected.extend(std::iter::repeat_n(Request::Message, replies));
    }

    /// Says whether the server may have the whole message: its end was written, or a part of the end.
    pub fn may_have_the_message(&self) -> bool {
        self.end == End::Written
    }

    /// Gives what is to be answered next.
    pub fn awaiting(&self) -> Option<Request> {
        self.expected.front().copied()
    }
}

impl Protocol for Client {
    type Command<'a> = Command<'a>;
    type Event<T> = Event;
    type Error = ProtocolError;

    fn send(&mut self, command: &Command<'_>) -> Result<(), CommandError> {
        match command {
            Command::Auth(_) => command.encode(self.output.queue_secret())?,
            _ => command.encode(self.output.queue())?,
        }
        self.expected.push_back(Request::of(command));
        Ok(())
    }

    fn outgoing(&self) -> &[u8] {
        self.output.outgoing()
    }

    fn wrote(&mut self, octets: usize) {
        self.output.wrote(octets);
        if let End::Behind(before) = self.end {
            self.end = before.checked_sub(octets).map_or(End::Written, End::Behind);
        }
    }

    fn incoming(&mut self, input: &[u8]) -> Result<Option<Taken<Self>>, ProtocolError> {
        let first = Reply::first(input);
        let Some(to) = self.awaiting() else {
            // What has not come whole is told when it has, or when a command is to be sent.
            return if matches!(first, Ok(None)) { Ok(None) } else { Err(Self::unasked(input)) };
        };
        match first {
            Ok(None) => Ok(None),
            Ok(Some((consumed, reply))) => {
                self.expected.pop_front();
                Ok(Some((consumed, Event { to, reply })))
            }
            Err(Bad::Line) => Err(ProtocolError::NotAReply { to, line: start_of(input) }),
            Err(Bad::LineTooLong) => Err(ProtocolError::LineTooLong { to }),
            Err(Bad::TooLong) => Err(ProtocolError::ReplyTooLong { to }),
        }
    }

    fn unanswered(&self) -> usize {
        self.expected.len()
    }

    fn waiting(&self) -> Waiting {
        let words =
            self.awaiting().map_or_else(|| "waiting for the server".into(), |to| format!("waiting for {to}"));
        Waiting::new(Awaited::Other, words)
    }

    fn unasked(octets: &[u8]) -> ProtocolError {
        ProtocolError::Unasked { line: start_of(octets) }
    }

    fn placed(event: Event, _input: &[u8], _base: usize) -> Event {
        event
    }

    fn pace(_event: &Event) -> Pace {
        Pace::Whole
    }

    fn shown(event: &Event) -> Option<String> {
        Some(event.reply.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::line::AuthLine;

    fn pipelined(dialect: Dialect) -> Client {
        let mut client = Client::new(dialect);
        let name = super::super::ClientId::default();
        let hello = match dialect {
            Dialect::Smtp => Command::Ehlo(&name),
            Dialect::Lmtp => Command::Lhlo(&name),
        };
        let auth = Command::Auth(AuthLine::Begin("LOGIN", None));
        for command in
            [hello, auth, Command::Mail("", &[]), Command::Rcpt("a@b"), Command::Rcpt("c"), Command::Data]
        {
            client.send(&command).unwrap();
        }
        client.text(b".\r\n");
        client.end(2);
        client.send(&Command::Quit).unwrap();
        client
    }

    /// Runs the input through the client in pieces that end at `splits`. Gives the events as text.
    fn events(dialect: Dialect, input: &[u8], splits: &[usize]) -> Result<Vec<String>, ProtocolError> {
        let mut client = pipelined(dialect);
        let (mut start, mut all) = (0, Vec::new());
        for end in splits.iter().copied().chain([input.len()]) {
            while let Some((consumed, event)) = client.incoming(&input[start..end])? {
                start += consumed;
                all.push(format!("{:?} {}", event.to, event.reply));
            }
        }
        Ok(all)
    }

    const SESSION: &[u8] = b"220 hi\r\n250-x\r\n250-SIZE 7\r\n250 PIPELINING\r\n334 VXNlcm5hbWU6\r\n250 2.1.0 ok\r\n250\r\n550-5.1.1 no\r\n550 5.1.1 such user\n354 go\r\n250 2.0.0 taken\r\n";

    #[test]
    fn a_pipelined_session_reads_the_same_at_every_split() {
        for (dialect, hello, rest) in [
            (Dialect::Smtp, "Ehlo", &b"221 bye\r\n"[..]),
            (Dialect::Lmtp, "Lhlo", b"452 4.2.2 full\r\n221 bye\r\n"),
        ] {
            let input = [SESSION, rest].concat();
            let whole = events(dialect, &input, &[]).unwrap();
            let hello = format!("{hello} 250 x SIZE 7 PIPELINING");
            let begun =
                ["Greeting 220 hi", &hello, "Auth 334 VXNlcm5hbWU6", "Mail 250 2.1.0 ok", "Rcpt 250 "];
            assert_eq!(whole[..5], begun);
            assert_eq!(
                whole[5..8],
                ["Rcpt 550 5.1.1 no such user", "Data 354 go", "Message 250 2.0.0 taken"]
            );
            let ended: &[&str] = match dialect {
                Dialect::Smtp => &["Quit 221 bye"],
                Dialect::Lmtp => &["Message 452 4.2.2 full", "Quit 221 bye"],
            };
            assert_eq!(whole[8..], *ended);
            for at in 0..input.len() {
                assert_eq!(events(dialect, &input, &[at]).unwrap(), whole, "split at {at}");
            }
            let every: Vec<usize> = (0..input.len()).collect();
            assert_eq!(events(dialect, &input, &every).unwrap(), whole);
        }
    }

    #[test]
    fn a_message_may_have_arrived_once_its_end_begins_to_be_written_at_every_split() {
        let mut client = Client::after_starttls(Dialect::Smtp);
        client.send(&Command::Rset).unwrap();
        client.text(b"x\r\n");
        let before = client.outgoing().len();
        assert_eq!(client.outgoing(), b"RSET\r\nx\r\n");
        for first in 0..before + 3 {
            let mut client = Client::after_starttls(Dialect::Smtp);
            client.send(&Command::Rset).unwrap();
            client.text(b"x\r\n");
            client.end(1);
            client.send(&Command::Data).unwrap();
            client.wrote(first);
            assert_eq!(client.may_have_the_message(), first > before, "{first}");
            client.wrote(client.outgoing().len());
            assert!(client.may_have_the_message());
            client.begin();
            assert!(!client.may_have_the_message());
        }
    }

    #[test]
    fn what_is_no_reply_is_told_with_what_was_expected() {
        let refused = |input: &[u8]| events(Dialect::Smtp, input, &[]).unwrap_err().to_string();
        assert_eq!(refused(b"+OK\r\n"), "server sent what is no reply, in place of the greeting: \"+OK\"");
        assert_eq!(
            refused(&[&b"220 x\r\n"[..], &[b'2'; 5000]].concat()),
            "server sent a line that is too long for a reply, in place of the reply to EHLO"
        );
        assert_eq!(
            refused(&b"220-x\r\n".repeat(20_000)),
            "server sent far more than a reply, in place of the greeting"
        );
    }

    #[test]
    fn octets_that_nobody_asked_for_are_refused() {
        let mut client = Client::after_starttls(Dialect::Smtp);
        assert_eq!(client.incoming(b"421 go"), Ok(None));
        assert_eq!(
            client.incoming(b"421 go away\r\n"),
            Err(ProtocolError::Unasked { line: b"421 go away".to_vec() })
        );
    }

    proptest! {
        #[test]
        fn any_octets_end_in_events_or_an_error(
            input in prop::collection::vec(prop::sample::select(&b"2350- \r\n.x"[..]), 0..120),
            split in 0usize..120,
        ) {
            let whole = events(Dialect::Lmtp, &input, &[]);
            let halves = events(Dialect::Lmtp, &input, &[split.min(input.len())]);
            prop_assert_eq!(whole, halves);
        }
    }
}
