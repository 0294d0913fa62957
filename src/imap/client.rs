//! The client's side of a session as a state machine with a queue of expected answers.

use std::collections::VecDeque;
use std::ops::Range;

use super::command::Announcement;
use super::command::{Append, Command, Request};
use super::fetch::{self, Fetched};
use super::response::{Data, Event, Kind, Status, may_have_literals};
use crate::line::{
    self, AuthLine, Awaited, CommandError, Output, Pace, Protocol, Taken, TooLong, Waiting, start_of,
};
use crate::text::Shown;

/// Octets of a line of a response.
const LONGEST_LINE: usize = 64 << 10;
/// Octets of a literal that is handed over with its response; longer ones are streamed.
const LARGEST_LITERAL: usize = 64 << 10;
/// Octets of a response, without literals that are streamed.
const LONGEST_RESPONSE: usize = 256 << 10;

/// The server broke the protocol; nothing it says after that means anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// What came is no response, or answers nothing that was asked.
    #[error("server sent what is no answer: \"{}\"", Shown(.line))]
    NotAnAnswer {
        /// The line, its start at most.
        line: Vec<u8>,
    },
    /// A response does not end.
    #[error("server sent far more than a response")]
    TooLong,
    /// Octets came before anything was asked.
    #[error("server spoke out of turn: \"{}\"", Shown(.line))]
    Unasked {
        /// What came, its start at most.
        line: Vec<u8>,
    },
}

/// A session's protocol state: what has been sent and not yet answered, and how much of a message.
#[derive(Debug)]
pub struct Client {
    output: Output,
    greeted: bool,
    /// What is to be answered, with the numbers in the tags.
    expected: VecDeque<(u64, Request)>,
    tags: u64,
    /// A response that has begun; literals that were streamed are empty in it.
    begun: Vec<u8>,
    /// Octets of a literal that are still to come.
    literal: u64,
    /// Octets that were queued and written since the connection was made.
    queued: u64,
    written: u64,
}

impl Client {
    /// Begins a session on a new connection: a greeting is expected.
    pub fn new() -> Self {
        Self { greeted: false, ..Self::after_starttls() }
    }

    /// Goes on behind a TLS handshake in the middle of a session: no greeting comes (RFC 9051, 6.2.1).
    pub fn after_starttls() -> Self {
        Self {
            output: Output::default(),
            greeted: true,
            expected: VecDeque::new(),
            tags: 0,
            begun: Vec::new(),
            literal: 0,
            queued: 0,
            written: 0,
        }
    }

    /// Queues octets of the message that an APPEND has announced, once the server asks for them or was not to be asked.
    pub fn literal(&mut self, octets: &[u8]) {
        self.output.queue().extend_from_slice(octets);
        self.queued += octets.len() as u64;
    }

    /// Announces another message in the same APPEND (RFC 3502), behind the last octet of the one before.
    pub fn another(&mut self, append: &Append<'_>) {
        self.literal(format!("{}\r\n", Announcement(append)).as_bytes());
    }

    /// Queues the end of an APPEND, behind the last octet of its message.
    pub fn end(&mut self) {
        self.literal(b"\r\n");
    }

    /// Counts the octets that have been queued on this connection.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Counts those of them that have been written: where the last octet of a message is among them, the server may have
    /// all of it.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Gives the number in the tag of the last command.
    pub fn tag(&self) -> u64 {
        self.tags
    }

    /// Counts the commands that are not answered yet.
    pub fn under_way(&self) -> usize {
        self.expected.len()
    }

    /// Gives what is to be answered next; `None` if nothing was asked.
    pub fn awaiting(&self) -> Option<Request> {
        self.expected.front().map(|(_, request)| *request)
    }

    fn awaits(&self, request: Request) -> bool {
        self.expected.iter().any(|(_, expected)| *expected == request)
    }

    /// Reads a response that has come whole.
    fn response(&mut self, octets: &[u8]) -> Result<Event<Range<usize>>, ProtocolError> {
        let wrong = |octets: &[u8]| ProtocolError::NotAnAnswer { line: start_of(octets) };
        if !self.greeted {
            let greeting = octets.strip_prefix(b"* ").and_then(|line| Status::read(line.trim_ascii_end()));
            let greeting = greeting.filter(|status| !matches!(status.kind, Kind::No | Kind::Bad));
            self.greeted = true;
            return greeting.map(Event::Greeting).ok_or_else(|| wrong(octets));
        }
        match octets {
            [b'*', b' ', ..] if fetch::is_fetch(octets) => match fetch::read(octets) {
                // News of messages may come at any time.
                _ if !self.awaits(Request::Fetch) => Ok(Event::Data(Data::Other)),
                Some(fetched) => Ok(Event::Data(Data::Fetched(fetched))),
                None => Err(wrong(octets)),
            },
            [b'*', b' ', ..] => Ok(Event::Data(Data::read(octets))),
            [b'+', words @ ..] => Ok(Event::Continue(words.trim_ascii().to_vec())),
            tagged => self.tagged(tagged.trim_ascii_end()).ok_or_else(|| wrong(tagged)),
        }
    }

    fn tagged(&mut self, line: &[u8]) -> Option<Event<Range<usize>>> {
        let blank = line.iter().position(|octet| *octet == b' ')?;
        let tag = std::str::from_utf8(line[..blank].strip_prefix(b"P")?).ok()?.parse().ok()?;
        let status = Status::read(&line[blank + 1..])?;
        let at = self.expected.iter().position(|(expected, _)| *expected == tag)?;
        let (_, request) = self.expected.remove(at)?;
        Some(Event::Done(tag, request, status))
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Protocol for Client {
    type Command<'a> = Command<'a>;
    type Event<T> = Event<T>;
    type Error = ProtocolError;

    fn send(&mut self, command: &Command<'_>) -> Result<(), CommandError> {
        let is_secret = matches!(command, Command::Authenticate(_) | Command::Login(..));
        let queue = if is_secret { self.output.queue_secret() } else { self.output.queue() };
        let begin = queue.len();
        let is_tagged = !matches!(command, Command::Authenticate(AuthLine::Response(_) | AuthLine::Cancel));
        if is_tagged {
            queue.extend_from_slice(format!("P{} ", self.tags + 1).as_bytes());
        }
        if let Err(error) = command.encode(queue) {
            queue.truncate(begin);
            return Err(error);
        }
        self.queued += (queue.len() - begin) as u64;
        if is_tagged {
            self.tags += 1;
            self.expected.push_back((self.tags, Request::of(command)));
        }
        Ok(())
    }

    fn outgoing(&self) -> &[u8] {
        self.output.outgoing()
    }

    fn wrote(&mut self, octets: usize) {
        self.output.wrote(octets);
        self.written += octets as u64;
    }

    fn incoming(&mut self, input: &[u8]) -> Result<Option<Taken<Self>>, ProtocolError> {
        if self.literal > 0 {
            let octets = usize::try_from(self.literal).map_or(input.len(), |left| left.min(input.len()));
            self.literal -= octets as u64;
            return Ok((octets > 0).then_some((octets, Event::Octets(0..octets))));
        }
        let mut begin = 0;
        loop {
            let found = line::first(&input[begin..], LONGEST_LINE);
            let Some((line, octets)) = found.map_err(|TooLong| ProtocolError::TooLong)? else {
                return Ok(None);
            };
            let (line, end) = (&input[begin..][line], begin + octets);
            let is_within = begin > 0 || !self.begun.is_empty();
            let literal = announced(line).filter(|_| is_within || self.greeted && may_have_literals(line));
            let Some((length, announcement)) = literal else {
                let mut response = std::mem::take(&mut self.begun);
                if response.len() + end > LONGEST_RESPONSE {
                    return Err(ProtocolError::TooLong);
                }
                response.extend_from_slice(&input[..begin + line.len()]);
                response.extend_from_slice(b"\r\n");
                return Ok(Some((end, self.response(&response)?)));
            };
            let streams = self.awaits(Request::Fetch);
            match usize::try_from(length) {
                Ok(length) if length <= LARGEST_LITERAL => {
                    if self.begun.len() + end + length > LONGEST_RESPONSE {
                        return Err(ProtocolError::TooLong);
                    }
                    if input.len() < end + length {
                        return Ok(None);
                    }
                    begin = end + length;
                }
                // Nobody asked for it.
                _ if !streams => return Err(ProtocolError::TooLong),
                _ => {
                    self.begun.extend_from_slice(&input[..begin + line.len() - announcement]);
                    self.begun.extend_from_slice(b"{0}\r\n");
                    self.literal = length;
                    if self.begun.len() > LONGEST_RESPONSE {
                        return Err(ProtocolError::TooLong);
                    }
                    return Ok(Some((end, Event::Octets(end..end))));
                }
            }
        }
    }

    /// Counts BYE too: a server may end the session, or tell news of it, at any time, and nothing that it says after the
    /// greeting is out of turn.
    fn unanswered(&self) -> usize {
        self.expected.len() + 1
    }

    fn waiting(&self) -> Waiting {
        match self.awaiting() {
            Some(request) => Waiting::new(Awaited::Other, format!("waiting for the answer to {request}")),
            None if self.greeted => Waiting::new(Awaited::Other, "waiting for the server"),
            None => Waiting::new(Awaited::Greeting, "waiting for the greeting"),
        }
    }

    fn unasked(octets: &[u8]) -> ProtocolError {
        ProtocolError::Unasked { line: start_of(octets) }
    }

    fn placed(event: Event<Range<usize>>, input: &[u8], base: usize) -> Event<&[u8]> {
        match event {
            Event::Greeting(status) => Event::Greeting(status),
            Event::Done(tag, request, status) => Event::Done(tag, request, status),
            Event::Continue(words) => Event::Continue(words),
            Event::Data(data) => Event::Data(data),
            Event::Octets(octets) => Event::Octets(&input[base + octets.start..base + octets.end]),
        }
    }

    fn pace(event: &Event<Range<usize>>) -> Pace {
        match event {
            Event::Greeting(_) | Event::Done(..) => Pace::Whole,
            // A folder is longer than any reply, and each message of it is as good as one.
            Event::Data(Data::Fetched(Fetched { section: Some(_), .. })) => Pace::Whole,
            // Whoever waits for it says so.
            Event::Continue(_) | Event::Data(_) => Pace::Line,
            Event::Octets(octets) => Pace::Octets(octets.len() as u64),
        }
    }

    fn shown(event: &Event<&[u8]>) -> Option<String> {
        match event {
            Event::Greeting(status) | Event::Data(Data::Status(status)) => Some(format!("* {status}")),
            Event::Done(tag, _, status) => Some(format!("P{tag} {status}")),
            Event::Continue(_) => Some("+".to_owned()),
            Event::Data(Data::Other) | Event::Octets(_) => None,
            Event::Data(Data::Fetched(message)) => message.uid.map(|uid| format!("* FETCH of UID {uid}")),
            Event::Data(data) => Some(format!("* {data:?}")),
        }
    }
}

/// Reads the literal that a line announces at its end: octets, and the length of the announcement.
fn announced(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', digits)?;
    let count = std::str::from_utf8(&digits[open + 1..]).ok()?;
    let count = count.bytes().all(|octet| octet.is_ascii_digit()).then(|| count.parse().ok())??;
    Some((count, line.len() - open))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::command::Items;
    use super::super::name::{Charset, Mailbox};
    use super::*;

    fn asked() -> Client {
        let mut client = Client::new();
        let mailbox = Mailbox::new("x", Charset::ModifiedUtf7);
        for command in [
            Command::Capability,
            Command::Authenticate(AuthLine::Begin("LOGIN", None)),
            Command::Status(&mailbox),
            Command::UidFetch(1, None, Items::Whole),
            Command::Logout,
        ] {
            client.send(&command).unwrap();
        }
        client
    }

    /// Runs the input through the client in pieces that end at `splits`. Gives the events as text, octets joined.
    fn events(input: &[u8], splits: &[usize]) -> Result<Vec<String>, ProtocolError> {
        let mut client = asked();
        let (mut start, mut all) = (0, Vec::new());
        let mut streamed: Option<Vec<u8>> = None;
        for end in splits.iter().copied().chain([input.len()]) {
            while let Some((consumed, event)) = client.incoming(&input[start..end])? {
                assert!(consumed > 0, "an event takes octets");
                let event = Client::placed(event, input, start);
                start += consumed;
                if let Event::Octets(octets) = event {
                    streamed.get_or_insert_default().extend(octets);
                    continue;
                }
                all.extend(
                    streamed.take().map(|octets| format!("{} octets {:?}", octets.len(), octets.first())),
                );
                all.push(format!("{event:?}"));
            }
        }
        Ok(all)
    }

    fn session() -> Vec<u8> {
        let mut session = b"* OK [CAPABILITY IMAP4rev1] hi {3}\r\n* CAPABILITY IMAP4rev1\nP1 OK done\r\n+\r\n\
            * 5 EXISTS\r\nP2 OK in\r\n* STATUS {1}\r\nx (UIDNEXT 7)\r\nP3 NO [X] text\r\n* 1 FETCH (UID 4 BODY[] {5}\r\nab}\r\n)\r\n\
            * 2 FETCH (UID 5 BODY[] {70000}\r\n"
            .to_vec();
        session.resize(session.len() + 70_000, b'\n');
        session.extend(b")\r\nP4 OK done\r\n* BYE bye\r\nP5 OK\r\n");
        session
    }

    #[test]
    fn a_session_reads_the_same_at_every_split() {
        let input = session();
        let whole = events(&input, &[]).unwrap();
        let begins: Vec<&str> = whole.iter().map(|event| &event[..event.len().min(24)]).collect();
        assert_eq!(
            begins,
            [
                "Greeting(Status { kind: ",
                "Data(Capability([\"IMAP4R",
                "Done(1, Capability, Stat",
                "Continue([])",
                "Data(Other)",
                "Done(2, LogIn, Status { ",
                "Data(Mailbox { validity:",
                "Done(3, Status, Status {",
                "Data(Fetched(Fetched { u",
                "70000 octets Some(10)",
                "Data(Fetched(Fetched { u",
                "Done(4, Fetch, Status { ",
                "Data(Status(Status { kin",
                "Done(5, Logout, Status {",
            ]
        );
        assert!(whole[8].contains(&format!("section: Some({:?})", b"ab}\r\n")), "{}", whole[8]);
        let large = input.len() - 70_040;
        for at in (0..large).chain(input.len() - 60..input.len()) {
            assert_eq!(events(&input, &[at]).unwrap(), whole, "split at {at}");
        }
        let every: Vec<usize> = (0..large).chain((large..input.len()).step_by(997)).collect();
        assert_eq!(events(&input, &every).unwrap(), whole);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let refused = |input: &[u8]| events(input, &[]).unwrap_err().to_string();
        assert_eq!(refused(b"+OK ready\r\n"), "server sent what is no answer: \"+OK ready\"");
        assert_eq!(refused(b"* NO\r\n"), "server sent what is no answer: \"* NO\"");
        for answer in ["P9 OK\r\n", "P1\r\n", "P1 5\r\n", "x\r\n", "\r\n", "P1 OK\r\nP1 OK\r\n"] {
            let input = format!("* OK\r\n{answer}");
            assert!(refused(input.as_bytes()).starts_with("server sent what is no answer"), "{answer}");
        }
    }

    #[test]
    fn no_server_fills_the_memory() {
        let greeted = |rest: &[u8]| events(&[&b"* OK\r\n"[..], rest].concat(), &[]);
        assert_eq!(greeted(&[b'*'; 70_000]), Err(ProtocolError::TooLong));
        let literals = b"* 1 FETCH (X {60000}\r\n".to_vec();
        let literal = [vec![b'x'; 60_000], b" {60000}\r\n".to_vec()].concat();
        assert_eq!(greeted(&[literals, literal.repeat(9)].concat()), Err(ProtocolError::TooLong));
        let streamed = [b" {65537}\r\n".to_vec(), vec![b'x'; 65_537]].concat();
        assert_eq!(
            greeted(&[b"* 1 FETCH (".to_vec(), streamed.repeat(4), vec![b'y'; 60_000]].concat()),
            greeted(&[b"* 1 FETCH (".to_vec(), streamed.repeat(4)].concat())
        );
        assert!(
            matches!(greeted(b"* 1 FETCH (X {18446744073709551615}\r\nx"), Ok(events) if events.len() == 1)
        );
    }

    #[test]
    fn what_nobody_asked_for_does_not_count_as_an_answer() {
        let mut client = Client::after_starttls();
        client.send(&Command::Noop).unwrap();
        for line in [
            &b"* 1 FETCH (FLAGS ())\r\n"[..],
            b"* 1 FETCH (UID 1 BODY[] \"x\")\r\n",
            b"+ x\r\n",
            b"* 1 FETCH x\r\n",
        ] {
            let (_, event) = client.incoming(line).unwrap().unwrap();
            assert_eq!(Client::pace(&event), Pace::Line, "{event:?}");
        }
        assert_eq!(client.incoming(b"* X {70000}\r\n"), Err(ProtocolError::TooLong));
    }

    #[test]
    fn octets_of_a_message_are_counted_as_they_are_written() {
        let mut client = Client::after_starttls();
        client.send(&Command::Noop).unwrap();
        assert_eq!((client.outgoing(), client.queued()), (&b"P1 NOOP\r\n"[..], 9));
        client.literal(b"abc");
        client.end();
        assert_eq!((client.outgoing(), client.queued()), (&b"P1 NOOP\r\nabc\r\n"[..], 14));
        client.wrote(11);
        assert_eq!(client.written(), 11);
        client.wrote(3);
        assert_eq!((client.written(), client.outgoing()), (14, &b""[..]));
    }

    #[test]
    fn a_command_that_cannot_be_sent_leaves_nothing_behind() {
        let mut client = Client::after_starttls();
        let secret = crate::secret::Secret::new("a\nb");
        assert!(client.send(&Command::Login("alice", &secret)).is_err());
        assert_eq!((client.outgoing(), client.under_way()), (&b""[..], 0));
    }

    proptest! {
        #[test]
        fn any_octets_end_in_events_or_an_error(
            input in prop::collection::vec(prop::sample::select(&b"*+P1 OK[](){3}\r\n\"FETCHLISTUID"[..]), 0..160),
            split in 0usize..160,
        ) {
            let input = [b"* OK\r\n".to_vec(), input].concat();
            let whole = events(&input, &[]);
            let halves = events(&input, &[split.min(input.len())]);
            prop_assert_eq!(whole, halves);
        }
    }
}
