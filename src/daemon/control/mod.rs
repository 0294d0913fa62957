//! The control socket: what a running daemon can be asked, and by whom.
//!
//! A client writes requests, one JSON object a line ([`Request`]), and reads a reply to each ([`Reply`]). The socket is
//! its owner's alone ([`socket_path`]), and whoever connects is still not trusted to send sense, to send anything, or to
//! read ([`server`]).

pub mod client;
pub mod server;
pub mod socket_path;

use serde::{Deserialize, Serialize};

/// The longest request, in octets: names of a few thousand accounts.
const LONGEST_REQUEST: u64 = 256 << 10;

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Poll now; without names all accounts that have an interval. Answered by [`Reply::Woken`].
    Wake { accounts: Vec<String> },
    /// Say how it stands. Answered by [`Reply::Status`].
    Status,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// So many accounts are polled as soon as their servers and the limits allow.
    Woken {
        accounts: usize,
        /// Names that the daemon does not know.
        unknown: Vec<String>,
    },
    Status(Live),
    /// The request cannot be understood.
    Error {
        what: String,
    },
}

/// How a running daemon stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub pid: u32,
    /// Its accounts, by name.
    pub accounts: Vec<LiveAccount>,
}

/// How an account of a running daemon stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAccount {
    pub account: String,
    pub doing: Doing,
    /// Failed polls in a row that made the wait longer.
    pub failures: u32,
}

/// What an account is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    Polling,
    /// Its time has come, and it waits for a free session.
    Due,
    /// It is polled in so many milliseconds.
    Waiting(u64),
    /// It is polled when it is asked for.
    Resting,
}

fn line(of: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(of).expect("strings, numbers and lists of them are always JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_manual_shows() {
        let wake = Request::Wake { accounts: vec!["home".into()] };
        assert_eq!(line(&wake), b"{\"wake\":{\"accounts\":[\"home\"]}}\n");
        assert_eq!(line(&Request::Status), b"\"status\"\n");
    }
}
