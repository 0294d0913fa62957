//! The POP3 protocol without I/O: octets in, events out.
//!
//! [`Client`] is the state machine: it turns commands into octets and the server's octets into [`Event`]s, and knows
//! which answer belongs to which command however many are under way. The rest are its parts: [`event`] (what is asked and
//! said), [`reply`] (status lines and response codes), [`capability`], [`listing`] (lines of LIST and UIDL), [`body`]
//! (dot-unstuffing), [`command`].

pub mod apop;
pub mod body;
pub mod capability;
pub mod client;
pub mod command;
pub mod event;
pub mod listing;
pub mod reply;

pub use capability::Capabilities;
pub use client::Client;
pub use command::Command;
pub use event::{Event, ProtocolError, Request};
pub use listing::{parse_size, parse_stat, parse_unique_id};
pub use reply::{Code, Reply, Status, is_status};

pub use crate::line::CommandError;
pub use crate::message::{MessageNumber, UniqueId};
