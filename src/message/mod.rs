//! What may be looked at in a message, and the few octets that delivery changes in it or adds.

pub mod arrival;
pub mod file;
pub mod fingerprint;
pub mod header;
pub mod ids;
pub mod line_ends;
pub mod trace;

pub use file::{FileDigest, FileId};
pub use fingerprint::{Certainty, Content, Fingerprint, Fingerprinter, Identity};
pub use header::{Header, ReversePath};
pub use ids::{MessageNumber, UniqueId};
pub use line_ends::{ToCrlf, ToLf};
pub use trace::Trace;
