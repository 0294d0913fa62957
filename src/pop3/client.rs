//! The client's side of a session as a state machine with a queue of expected answers.

use std::collections::VecDeque;
use std::ops::Range;

use super::body::{LineEnd, Piece, Unstuffer};
use super::event::{Event, LONGEST_LINE, ProtocolError, Request, Shape, waiting_for};
use super::reply::{self, Status};
use super::{Command, CommandError};
use crate::line::{self, Awaited, Output, Pace, Protocol, Waiting, start_of};
use crate::text::Shown;

/// An event taken off the input: how many octets are consumed, and the event with its octets as ranges of the input.
type Taken = line::Taken<Client>;

/// Lines of a listing. Two million messages are more than any server known lists.
const LONGEST_LISTING: u64 = 2_000_000;
/// Octets of a listing: bounds the memory for unique-ids.
const LARGEST_LISTING: u64 = 192 << 20;

/// A session's protocol state: what has been sent and not yet answered, and where in an answer the input stands.
#[derive(Debug)]
pub struct Client {
    output: Output,
    expected: VecDeque<Request>,
    inside: Inside,
}

#[derive(Debug)]
enum Inside {
    Nothing,
    Listing { of: Request, lines: u64, octets: u64 },
    Body { of: Request, unstuffer: Unstuffer, octets: u64 },
}

impl Client {
    /// Begins a session on a new connection: a greeting is expected.
    pub fn new() -> Self {
        Self {
            output: Output::default(),
            expected: VecDeque::from([Request::Greeting]),
            inside: Inside::Nothing,
        }
    }

    /// Goes on behind a TLS handshake in the middle of a session: no greeting comes (RFC 2595, 4).
    pub fn after_stls() -> Self {
        Self { expected: VecDeque::new(), ..Self::new() }
    }

    /// Takes what was sent for lost: no answer to it is expected any more. Says whether that can be: not inside an
    /// answer.
    pub fn forget(&mut self) -> bool {
        let between = matches!(self.inside, Inside::Nothing);
        if between {
            self.expected.clear();
        }
        between
    }

    /// Expects an answer after all to what was taken for lost.
    pub fn expect(&mut self, to: Request) {
        self.expected.push_back(to);
    }

    /// Gives what is being answered, or will be next.
    pub fn awaiting(&self) -> Option<Request> {
        match &self.inside {
            Inside::Nothing => self.expected.front().copied(),
            Inside::Listing { of, .. } | Inside::Body { of, .. } => Some(*of),
        }
    }

    fn status_line(&mut self, input: &[u8]) -> Result<Option<Taken>, ProtocolError> {
        let Some(to) = self.expected.front().copied() else {
            if input.is_empty() {
                return Ok(None);
            }
            return Err(Self::unasked(input));
        };
        // What can no longer become a reply is told at once, not when its line ends: a TLS server sends no LF.
        let could_be = [&b"+"[..], b"-ERR"].iter().any(|word| {
            let len = word.len().min(input.len());
            input[..len].eq_ignore_ascii_case(&word[..len])
        });
        if !could_be {
            return Err(ProtocolError::NotAReply { to, line: start_of(input) });
        }
        let Some((line, consumed)) = first_line(input, to)? else { return Ok(None) };
        let Some((status, text)) = reply::split(&input[line.clone()]) else {
            return Err(ProtocolError::NotAReply { to, line: start_of(&input[line]) });
        };
        // RFC 5034, 4: only AUTH is answered with a challenge.
        if status == Status::Continue && to != Request::Auth {
            return Err(ProtocolError::NotAReply { to, line: start_of(&input[line]) });
        }
        self.expected.pop_front();
        if status == Status::Ok {
            let line_end = if consumed - line.end == 2 { LineEnd::Crlf } else { LineEnd::Lf };
            self.inside = match to.shape() {
                Shape::Line => Inside::Nothing,
                Shape::Listing => Inside::Listing { of: to, lines: 0, octets: 0 },
                Shape::Body => Inside::Body { of: to, unstuffer: Unstuffer::new(line_end), octets: 0 },
            };
        }
        Ok(Some((
            consumed,
            Event::Reply { to, status, text: line.start + text.start..line.start + text.end },
        )))
    }
}

impl Protocol for Client {
    type Command<'a> = Command<'a>;
    type Event<T> = Event<T>;
    type Error = ProtocolError;

    fn send(&mut self, command: &Command<'_>) -> Result<(), CommandError> {
        command.encode(self.output.queue_secret())?;
        self.expected.push_back(Request::of(command));
        Ok(())
    }

    fn outgoing(&self) -> &[u8] {
        self.output.outgoing()
    }

    fn wrote(&mut self, octets: usize) {
        self.output.wrote(octets);
    }

    fn incoming(&mut self, input: &[u8]) -> Result<Option<Taken>, ProtocolError> {
        match &mut self.inside {
            Inside::Nothing => self.status_line(input),
            Inside::Listing { of, lines, octets } => {
                let to = *of;
                let Some((line, consumed)) = first_line(input, to)? else { return Ok(None) };
                let text = &input[line.clone()];
                let event = if text == b"." {
                    let octets = *octets;
                    self.inside = Inside::Nothing;
                    Event::End { to, octets }
                } else {
                    *lines += 1;
                    *octets += consumed as u64;
                    if *lines > LONGEST_LISTING || *octets > LARGEST_LISTING {
                        return Err(ProtocolError::ListingTooLong { to });
                    }
                    Event::Line { to, line: line.start + usize::from(text.first() == Some(&b'.'))..line.end }
                };
                Ok(Some((consumed, event)))
            }
            Inside::Body { of, unstuffer, octets } => {
                let to = *of;
                let (consumed, piece) = unstuffer.next(input);
                let event = match piece {
                    Piece::More => return Ok(None),
                    Piece::Octets(range) => {
                        *octets += range.len() as u64;
                        Event::Octets { to, octets: range }
                    }
                    Piece::End => {
                        let octets = *octets;
                        self.inside = Inside::Nothing;
                        Event::End { to, octets }
                    }
                };
                Ok(Some((consumed, event)))
            }
        }
    }

    fn unanswered(&self) -> usize {
        self.expected.len() + usize::from(!matches!(self.inside, Inside::Nothing))
    }

    fn waiting(&self) -> Waiting {
        let awaiting = self.awaiting();
        let words = awaiting.as_ref().map_or_else(|| "waiting for the server".into(), waiting_for);
        let awaited = match awaiting {
            Some(Request::Greeting) => Awaited::Greeting,
            Some(Request::Pass | Request::Auth) => Awaited::LogIn,
            Some(_) | None => Awaited::Other,
        };
        Waiting::new(awaited, words)
    }

    fn unasked(octets: &[u8]) -> ProtocolError {
        ProtocolError::Unasked { line: start_of(octets) }
    }

    fn placed(event: Event<Range<usize>>, input: &[u8], base: usize) -> Event<&[u8]> {
        let at = |range: Range<usize>| &input[base + range.start..base + range.end];
        match event {
            Event::Reply { to, status, text } => Event::Reply { to, status, text: at(text) },
            Event::Line { to, line } => Event::Line { to, line: at(line) },
            Event::Octets { to, octets } => Event::Octets { to, octets: at(octets) },
            Event::End { to, octets } => Event::End { to, octets },
        }
    }

    fn pace(event: &Event<Range<usize>>) -> Pace {
        match event {
            Event::Octets { octets, .. } => Pace::Octets(octets.len() as u64),
            Event::Reply { .. } | Event::End { .. } => Pace::Whole,
            Event::Line { .. } => Pace::Line,
        }
    }

    fn shown(event: &Event<&[u8]>) -> Option<String> {
        match event {
            Event::Reply { status, text, .. } => Some(format!("{status:?} {}", Shown(text))),
            Event::Line { line, .. } => Some(Shown(line).to_string()),
            Event::Octets { .. } => None,
            Event::End { octets, .. } => Some(format!(". ({octets} octets)")),
        }
    }
}

/// Finds the first line: its octets without the line end, and how many octets to consume.
fn first_line(input: &[u8], to: Request) -> Result<Option<(Range<usize>, usize)>, ProtocolError> {
    line::first(input, LONGEST_LINE).map_err(|line::TooLong| ProtocolError::LineTooLong { to })
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MessageNumber;
    use super::*;
    use crate::line::AuthLine;

    const ONE: MessageNumber = MessageNumber(1);
    const TWO: MessageNumber = MessageNumber(2);

    /// Runs the input through a client that has sent the commands, in pieces that end at `splits`; pieces of a body
    /// are joined. Gives the events as text.
    fn events(
        commands: &[Command<'_>],
        input: &[u8],
        splits: &[usize],
    ) -> Result<Vec<String>, ProtocolError> {
        let mut client = Client::new();
        commands.iter().for_each(|command| client.send(command).unwrap());
        let (mut start, mut all, mut body) = (0, Vec::new(), Vec::new());
        for end in splits.iter().copied().chain([input.len()]) {
            while let Some((consumed, event)) = client.incoming(&input[start..end])? {
                let event = Client::placed(event, input, start);
                start += consumed;
                match event {
                    Event::Octets { octets, .. } => {
                        body.extend_from_slice(octets);
                        continue;
                    }
                    Event::End { to: Request::Retr(_) | Request::Top(_), .. } => {
                        all.push(format!("body {:?}", Shown(&std::mem::take(&mut body))));
                    }
                    _ => {}
                }
                all.push(match event {
                    Event::Reply { to, status, text } => format!("{to:?} {status:?} {}", Shown(text)),
                    Event::Line { to, line } => format!("{to:?} line {}", Shown(line)),
                    Event::End { to, octets } => format!("{to:?} end {octets}"),
                    Event::Octets { .. } => unreachable!("handled above"),
                });
            }
        }
        Ok(all)
    }

    const SESSION: &[u8] = b"+OK ready\r\n+OK\r\nTOP\r\nUIDL\r\n.\r\n-ERR no\r\n+OK\r\n1 a\r\n..2 b\r\n.\r\n+OK 5 octets\r\nab\r\n..\r\n.\r\n-ERR gone\r\n+OK bye\r\n";

    fn session() -> [Command<'static>; 6] {
        [Command::Capa, Command::Noop, Command::Uidl, Command::Retr(ONE), Command::Retr(TWO), Command::Quit]
    }

    #[test]
    fn a_pipelined_session_reads_the_same_at_every_split() {
        let whole = events(&session(), SESSION, &[]).unwrap();
        assert_eq!(
            whole,
            [
                "Greeting Ok ready",
                "Capa Ok ",
                "Capa line TOP",
                "Capa line UIDL",
                "Capa end 11",
                "Noop Err no",
                "Uidl Ok ",
                "Uidl line 1 a",
                "Uidl line .2 b",
                "Uidl end 12",
                "Retr(MessageNumber(1)) Ok 5 octets",
                "body \"ab\\r\\n.\\r\\n\"",
                "Retr(MessageNumber(1)) end 7",
                "Retr(MessageNumber(2)) Err gone",
                "Quit Ok bye",
            ]
        );
        for at in 0..SESSION.len() {
            assert_eq!(events(&session(), SESSION, &[at]).unwrap(), whole, "split at {at}");
        }
        let every: Vec<usize> = (0..SESSION.len()).collect();
        assert_eq!(events(&session(), SESSION, &every).unwrap(), whole);
    }

    #[test]
    fn a_server_with_bare_line_feeds_is_understood() {
        let input = b"+OK hi\n+OK\n1 a\n.\n+OK\nx\n..y\n.\n+OK\n";
        let commands = [Command::Uidl, Command::Retr(ONE), Command::Quit];
        let seen = events(&commands, input, &[]).unwrap();
        assert!(
            seen.contains(&"Uidl line 1 a".into()) && seen.contains(&"body \"x\\n.y\\n\"".into()),
            "{seen:?}"
        );
    }

    #[test]
    fn what_is_no_reply_is_refused_before_its_line_ends() {
        let refused = |input: &[u8]| events(&[], input, &[]).unwrap_err().to_string();
        assert_eq!(
            refused(b"* OK IMAP4"),
            "server sent a line that is no reply (waiting for the greeting): \"* OK IMAP4\""
        );
        assert!(refused(b"\x15\x03\x01\x00\x02").contains("\\u{15}\\u{3}"));
        assert!(refused(b"-EX").contains("-EX"));
        assert!(
            events(&[Command::Noop], b"+OK\r\n+ what\r\n", &[]).unwrap_err().to_string().contains("NOOP")
        );
    }

    #[test]
    fn a_challenge_is_for_auth_only() {
        let input = b"+OK\r\n+ Zm9v\r\n+\r\n+OK in\r\n";
        let lines = [AuthLine::Begin("LOGIN", None), AuthLine::Response(b"u"), AuthLine::Response(b"p")];
        let commands = lines.map(Command::Auth);
        let seen = events(&commands, input, &[]).unwrap();
        assert_eq!(seen[1..], ["Auth Continue Zm9v", "Auth Continue ", "Auth Ok in"]);
    }

    #[test]
    fn octets_that_nobody_asked_for_are_refused() {
        let error = events(&[], b"+OK hello\r\n+OK you are in\r\n", &[]).unwrap_err();
        assert_eq!(error, ProtocolError::Unasked { line: b"+OK you are in".to_vec() });
    }

    #[test]
    fn endless_lines_and_listings_are_given_up() {
        let line = [&b"+OK "[..], &[b'x'; LONGEST_LINE]].concat();
        assert_eq!(events(&[], &line, &[]), Err(ProtocolError::LineTooLong { to: Request::Greeting }));

        let mut client = Client::new();
        client.send(&Command::Uidl).unwrap();
        let mut feed = |octets: &[u8]| client.incoming(octets);
        feed(b"+OK\r\n").unwrap();
        feed(b"+OK\r\n").unwrap();
        let error = (0..=LONGEST_LISTING).find_map(|_| feed(b"1 a\r\n").err());
        assert_eq!(error, Some(ProtocolError::ListingTooLong { to: Request::Uidl }));
    }

    proptest! {
        #[test]
        fn any_octets_end_in_events_or_an_error(
            input in prop::collection::vec(prop::sample::select(&b"+OKERR-. \r\n1a"[..]), 0..120),
            split in 0usize..120,
        ) {
            let whole = events(&session(), &input, &[]);
            let halves = events(&session(), &input, &[split.min(input.len())]);
            // An error may show less of a line that had not come whole.
            prop_assert_eq!(whole.is_err(), halves.is_err());
            if whole.is_ok() {
                prop_assert_eq!(whole, halves);
            }
        }
    }
}
