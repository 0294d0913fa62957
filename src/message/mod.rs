//! What may be looked at in a message, and the few octets that delivery changes in it.

pub mod fingerprint;
pub mod line_ends;

pub use fingerprint::HeaderDigest;
pub use line_ends::ToLf;
