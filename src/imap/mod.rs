//! IMAP (RFC 9051, RFC 3501) without I/O: commands in, octets out; octets in, events out.
//!
//! [`Client`] is the state machine: it tags commands, knows which answer belongs to which however many are under way, and
//! streams literals both ways, so that no message is ever in memory whole. What the server says is cut into responses
//! here, within bounds; the grammar of LIST and NAMESPACE is imap-codec's, which reads one response at a time out of memory.
//! Status responses, capabilities, continuations, STATUS and FETCH are read leniently here: servers write anything into
//! them, and what is not read counts as not there.

mod capabilities;
mod client;
mod command;
mod fetch;
mod name;
mod response;

pub use capabilities::Capabilities;
pub use client::{Client, ProtocolError};
pub use command::{Append, Command, Items, Literal};
pub use fetch::Fetched;
pub use name::Mailbox;
pub use response::{Data, Event, Kind, Status};
