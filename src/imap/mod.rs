//! IMAP (RFC 9051, RFC 3501) without I/O: commands in, octets out; octets in, events out.
//!
//! [`Client`] is the state machine: it tags commands, knows which answer belongs to which however many are under way, and
//! streams literals both ways, so that no message is ever in memory whole. What the server says is cut into responses
//! here, within bounds; the grammar of mailbox data and FETCH is imap-codec's, which reads one response at a time out of
//! memory. Status responses, capabilities and continuations are read leniently here: servers write anything into them.

mod capabilities;
mod client;
mod command;
mod name;
mod response;

pub use capabilities::Capabilities;
pub use client::{Client, ProtocolError};
pub use command::{Append, Command, Items, Literal};
pub use name::Mailbox;
pub use response::{Data, Event, Fetched, Kind, Status};
