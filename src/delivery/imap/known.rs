//! By what messages are known in a mailbox.

use crate::message::FileDigest;

/// By what a message is known in the mailbox.
#[derive(Debug, Clone)]
pub(super) struct KnownBy {
    pub(super) name: FileDigest,
    /// The fields that tell its way.
    pub(super) way: Vec<u64>,
    /// Octets that it has there, less those that we have put on top.
    pub(super) octets: u64,
}
