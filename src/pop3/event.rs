//! What is asked of the server and what it says: requests, events, and what breaks the protocol.

use super::reply::Status;
use super::{Command, MessageNumber};
use crate::text::Shown;

/// What an answer is the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Nothing: the server speaks first.
    Greeting,
    Capa,
    Stls,
    Utf8,
    /// LANG with a language: without one it would be a listing
    Lang,
    User,
    Pass,
    Apop,
    /// AUTH, or a line within its exchange
    Auth,
    Stat,
    /// LIST of the whole maildrop
    List,
    /// UIDL of the whole maildrop
    Uidl,
    Retr(MessageNumber),
    Top(MessageNumber),
    Dele(MessageNumber),
    Noop,
    Quit,
}

/// What the server said. `T` is where its octets are: a range of the input, or the octets themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<T> {
    /// A status line. If it is `+OK` to a multi-line request, lines or octets and an end follow.
    Reply {
        to: Request,
        status: Status,
        /// The rest of the line.
        text: T,
    },
    /// A line of a listing (CAPA, LIST, UIDL), unstuffed, without its line end.
    Line { to: Request, line: T },
    /// Octets of a body (RETR, TOP), unstuffed; never empty.
    Octets {
        to: Request,
        /// The octets, line ends included.
        octets: T,
    },
    /// The end of a listing or body.
    End {
        to: Request,
        /// Octets of the body, unstuffed, with its line ends; of a listing the octets of its lines.
        octets: u64,
    },
}

/// The server broke the protocol; nothing it says after that means anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A line where a status line belongs is none.
    #[error("server sent a line that is no reply ({}): \"{}\"", waiting_for(.to), Shown(.line))]
    NotAReply {
        /// What was expected to be answered.
        to: Request,
        /// The line, its start at most.
        line: Vec<u8>,
    },
    /// A line does not end.
    #[error("server sent a line of more than {LONGEST_LINE} octets ({})", waiting_for(.to))]
    LineTooLong { to: Request },
    /// A listing does not end.
    #[error("server sent a listing without end ({})", waiting_for(.to))]
    ListingTooLong { to: Request },
    /// Octets came that nothing asked for.
    #[error("server sent what nobody asked for: \"{}\"", Shown(.line))]
    Unasked {
        /// What came, its start at most.
        line: Vec<u8>,
    },
}

/// Octets of a status or listing line, CRLF included. The RFCs allow 512 (RFC 2449, 4), servers send unique-ids and
/// texts beyond that.
pub const LONGEST_LINE: usize = 8192;

/// How the answer to a request is laid out.
pub(super) enum Shape {
    Line,
    Listing,
    Body,
}

impl Request {
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Capa | Self::List | Self::Uidl => Shape::Listing,
            Self::Retr(_) | Self::Top(_) => Shape::Body,
            Self::Greeting | Self::Stls | Self::Utf8 | Self::Lang => Shape::Line,
            Self::User | Self::Pass | Self::Apop | Self::Auth => Shape::Line,
            Self::Stat | Self::Dele(_) | Self::Noop | Self::Quit => Shape::Line,
        }
    }

    pub(super) fn of(command: &Command<'_>) -> Self {
        match command {
            Command::Capa => Self::Capa,
            Command::Stls => Self::Stls,
            Command::Utf8 => Self::Utf8,
            Command::Lang(_) => Self::Lang,
            Command::User(_) => Self::User,
            Command::Pass(_) => Self::Pass,
            Command::Apop(..) => Self::Apop,
            Command::Auth(_) => Self::Auth,
            Command::Stat => Self::Stat,
            Command::List => Self::List,
            Command::Uidl => Self::Uidl,
            Command::Retr(number) => Self::Retr(*number),
            Command::Top(number, _) => Self::Top(*number),
            Command::Dele(number) => Self::Dele(*number),
            Command::Noop => Self::Noop,
            Command::Quit => Self::Quit,
        }
    }
}

/// Says what is being waited for, for messages.
pub(super) fn waiting_for(to: &Request) -> String {
    match to {
        Request::Greeting => "waiting for the greeting".into(),
        Request::Retr(number) => format!("waiting for RETR {number}"),
        Request::Top(number) => format!("waiting for TOP {number}"),
        Request::Dele(number) => format!("waiting for DELE {number}"),
        other => format!("waiting for {}", format!("{other:?}").to_uppercase()),
    }
}
