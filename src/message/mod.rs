//! What may be looked at in a message, the few octets that delivery changes in it or adds, and the listing of many.
//!
//! | file | what it is |
//! |---|---|
//! | `ids`, `listing` | how messages are named, for one session and for good; what is in a maildrop |
//! | `header`, `fields`, `arrival`, `body` | what is read of a message |
//! | `fingerprint`, `in_mailbox`, `file` | by what one is known again: anywhere, in a mailbox on a server, as a file |
//! | `line_ends`, `trace` | what is changed in one: line ends, and a Received line on top |

pub mod arrival;
pub mod body;
pub mod fields;
pub mod file;
pub mod fingerprint;
pub mod header;
pub mod ids;
pub mod in_mailbox;
pub mod line_ends;
pub mod listing;
pub mod trace;

pub use body::Body;
pub use file::{FileDigest, FileId};
pub use fingerprint::{Certainty, Content, Fingerprint, Fingerprinter, Identity};
pub use header::{Header, ReversePath};
pub use ids::{MessageId, MessageNumber, UniqueId};
pub use in_mailbox::InMailbox;
pub use line_ends::{ToCrlf, ToLf, ToLines};
pub use listing::{Listed, Listing, ListingBuilder};
pub use trace::Trace;
