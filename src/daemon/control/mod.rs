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
    /// The request cannot be understood.
    Error { what: String },
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
    }
}
