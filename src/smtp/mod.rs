//! SMTP (RFC 5321) and LMTP (RFC 2033) without I/O: commands in, octets out; octets in, replies out.
//!
//! [`Client`] is the state machine: it knows which reply belongs to which command however many are under way (RFC 2920),
//! byte-stuffs a message while it is streamed, and knows whether the server may have the whole of one. Replies are read
//! by lettre; what it cannot read (RFC 5321, 4.2: bare LF, octets that are not ASCII, a code without text) is made
//! readable first.

mod client;
mod command;
mod extensions;
mod reply;
mod text;

pub use client::{Client, Event, ProtocolError, Request};
pub use command::Command;
pub use extensions::{Extensions, Limit};
pub use lettre::transport::smtp::extension::{ClientId, MailBodyParameter, MailParameter};
pub use reply::Reply;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 5321.
    Smtp,
    /// RFC 2033: LHLO for EHLO, and a reply to the message for each recipient.
    Lmtp,
}
