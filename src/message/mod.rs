//! What may be looked at in a message, the few octets that delivery changes in it or adds, and the listing of many.

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
pub use ids::{MessageNumber, UniqueId};
pub use in_mailbox::InMailbox;
pub use line_ends::{ToCrlf, ToLf, ToLines};
pub use listing::{Listed, Listing, ListingBuilder};
pub use trace::Trace;
