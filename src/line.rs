//! Line protocols without I/O: what each implements for the wire, and what they share.

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::secret::MASK;

/// The client's side of a line protocol as a state machine: commands in, octets out; octets in, events out.
///
/// Any number of commands may be under way; their answers come in their order. `T` of an event is where its octets are:
/// a range of the input, or the octets themselves.
pub trait Protocol {
    /// What can be sent. Shown, it has its secrets masked.
    type Command<'a>: fmt::Display;
    /// What the server says.
    type Event<T>;
    /// The server broke the protocol; nothing it says after that means anything.
    type Error: std::error::Error + 'static;

    /// Queues a command; its answer is expected behind all earlier ones.
    fn send(&mut self, command: &Self::Command<'_>) -> Result<(), CommandError>;

    /// Gives the octets that are to be written.
    fn outgoing(&self) -> &[u8];

    /// Notes that so many of them were written.
    fn wrote(&mut self, octets: usize);

    /// Takes one event off the input, with the number of octets consumed. `None` if there must be more input first; what
    /// was not consumed is offered again with it.
    fn incoming(&mut self, input: &[u8]) -> Result<Option<Taken<Self>>, Self::Error>;

    /// Counts the answers that are still to come, one that has begun included.
    fn unanswered(&self) -> usize;

    fn waiting(&self) -> Waiting;

    /// Complains of octets that nobody asked for.
    fn unasked(octets: &[u8]) -> Self::Error;

    /// Puts the octets in the place of their ranges, which begin `base` octets into `input`.
    fn placed(event: Self::Event<Range<usize>>, input: &[u8], base: usize) -> Self::Event<&[u8]>;

    /// Says how far an event brings the answer that it belongs to.
    fn pace(event: &Self::Event<Range<usize>>) -> Pace;

    /// Shows an event as a line of the log, if it is worth one.
    fn shown(event: &Self::Event<&[u8]>) -> Option<String>;
}

/// What is being waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub awaited: Awaited,
    /// `waiting for RETR 7`
    words: Box<str>,
}

/// What kind of answer it is, where that says something of a server that sends none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    Greeting,
    /// To credentials.
    LogIn,
    Other,
}

impl Waiting {
    pub fn new(awaited: Awaited, words: impl Into<Box<str>>) -> Self {
        Self { awaited, words: words.into() }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// An event taken off the input: how many octets are consumed, and the event with its octets as ranges of the input.
pub type Taken<P> = (usize, <P as Protocol>::Event<Range<usize>>);

/// How far an event brings the answer that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// To its end.
    Whole,
    /// A line further.
    Line,
    /// So many octets of a body further.
    Octets(u64),
}

/// A value that cannot stand in a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {0} holds a line break or a NUL, which cannot be sent")]
pub struct CommandError(
    /// Which value it is: `user`, `password`.
    pub &'static str,
);

/// Gives the octets of a value if it can stand in a command line: a line break would let it become a command of its own.
pub fn sendable<'a>(what: &'static str, octets: &'a [u8]) -> Result<&'a [u8], CommandError> {
    if octets.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        Err(CommandError(what))
    } else {
        Ok(octets)
    }
}

/// A line is longer than its protocol can bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Finds the first line: its octets without the line end (CRLF, or LF alone), and how many octets to consume. `None` if
/// it has not come whole.
pub fn first(input: &[u8], longest: usize) -> Result<Option<(Range<usize>, usize)>, TooLong> {
    match memchr::memchr(b'\n', &input[..input.len().min(longest)]) {
        Some(lf) => {
            let end = if lf > 0 && input[lf - 1] == b'\r' { lf - 1 } else { lf };
            Ok(Some((0..end, lf + 1)))
        }
        None if input.len() >= longest => Err(TooLong),
        None => Ok(None),
    }
}

/// Octets of a wrong line that an error keeps.
const LINE_SHOWN: usize = 160;

/// Gives the start of the first line, for an error.
pub fn start_of(octets: &[u8]) -> Vec<u8> {
    let end = memchr::memchr(b'\n', octets).unwrap_or(octets.len()).min(LINE_SHOWN);
    octets[..end].trim_ascii_end().to_vec()
}

/// What is to be written, and how much of it has been.
#[derive(Debug, Default)]
pub struct Output {
    octets: Vec<u8>,
    written: usize,
    /// There is a secret among the octets.
    secret: bool,
}

impl Output {
    /// Gives what is to be written.
    pub fn outgoing(&self) -> &[u8] {
        &self.octets[self.written..]
    }

    /// Gives the end of the queue, for more to be put there.
    pub fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }

    /// Gives the end of the queue, for what may hold a password: it is wiped when it was written.
    pub fn queue_secret(&mut self) -> &mut Vec<u8> {
        self.secret = true;
        &mut self.octets
    }

    /// Notes that so many octets were written.
    pub fn wrote(&mut self, octets: usize) {
        self.written += octets;
        if self.written == self.octets.len() {
            if std::mem::take(&mut self.secret) {
                self.octets[..].zeroize();
            }
            self.octets.clear();
            self.written = 0;
        }
    }
}

/// A line of a SASL exchange, the same in POP3 (RFC 5034, 4) and SMTP (RFC 4954, 4). Responses are raw, without base64.
#[derive(Debug, Clone, Copy)]
pub enum AuthLine<'a> {
    /// Begins an exchange, with the initial response if there is one to be sent along.
    Begin(&'static str, Option<&'a [u8]>),
    Response(&'a [u8]),
    /// Gives the exchange up.
    Cancel,
}

impl AuthLine<'_> {
    /// Appends the line without its CRLF.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begin(mechanism, initial) => {
                out.extend_from_slice(b"AUTH ");
                out.extend_from_slice(mechanism.as_bytes());
                match initial {
                    // An empty initial response is a single equals sign.
                    Some([]) => out.extend_from_slice(b" ="),
                    Some(initial) => {
                        out.push(b' ');
                        out.extend_from_slice(base64(initial).as_bytes());
                    }
                    None => {}
                }
            }
            Self::Response(response) => out.extend_from_slice(base64(response).as_bytes()),
            Self::Cancel => out.push(b'*'),
        }
    }
}

/// Shows the line with what may be secret masked.
impl fmt::Display for AuthLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(mechanism, None) => write!(f, "AUTH {mechanism}"),
            Self::Begin(mechanism, Some(_)) => write!(f, "AUTH {mechanism} {MASK}"),
            Self::Response(_) => f.write_str(MASK),
            Self::Cancel => f.write_str("*"),
        }
    }
}

/// Reads a server's challenge. What is no base64 is none: some servers write words there.
pub fn challenge(text: &[u8]) -> Vec<u8> {
    STANDARD.decode(text.trim_ascii()).unwrap_or_default()
}

fn base64(octets: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(octets))
}
