//! What a log-in is made of.

use crate::secret::Secret;

/// Who logs in, and over what.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    pub user: &'a str,
    pub secret: &'a Secret,
    /// The TLS channel's exporter value (RFC 9266), if it has one.
    pub exporter: Option<[u8; 32]>,
    /// The server offers SCRAM with channel binding. One without it must then not say that the server cannot.
    pub plus_offered: bool,
}
