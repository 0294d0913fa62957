//! Names of messages: the server's for one session, and the ones that last.

use std::fmt;
use std::sync::Arc;

use crate::text::Shown;

/// A message-number: names a message within one session only (RFC 1939, 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageNumber(pub u32);

impl fmt::Display for MessageNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A unique-id: opaque octets that name a message across sessions (RFC 1939, 7).
///
/// The RFC allows 1 to 70 characters of 0x21 to 0x7e; servers send more, and other octets, and they are kept as sent.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UniqueId(Box<[u8]>);

impl UniqueId {
    /// Keeps the octets as the server sent them.
    pub fn new(octets: impl Into<Box<[u8]>>) -> Self {
        Self(octets.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

/// Names one message for good: the maildrop's identity, the unique-id, and which of those that share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The account's `maildrop_id`.
    pub maildrop: Arc<str>,
    /// The server's unique-id (or a fingerprint where the server has none).
    pub uid: UniqueId,
    /// 0 for the first message in the listing that shows this unique-id, 1 for the second, ...
    pub ordinal: u32,
}
