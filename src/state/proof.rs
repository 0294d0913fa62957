//! The key to DELE.

use crate::message::{Fingerprint, MessageId, UniqueId};

use super::{Delivery, Detail, Kind, MaildropKey, Memory};

/// Proof that one listed message is durably recorded as delivered, and that this session has seen it to be that message.
/// Two make one: a durable commit ([`Store::record_listed`](super::Store::record_listed)) and [`Memory::prove`].
#[derive(Debug)]
pub struct Recorded {
    index: usize,
    message: MessageId,
}

impl Recorded {
    /// Proves, once this is committed, that a listed message is recorded; what is only marked is never deleted.
    pub(super) fn by_commit(maildrop: &MaildropKey, index: usize, delivery: &Delivery) -> Option<Self> {
        let Delivery { uid, ordinal, kind, .. } = delivery;
        let is_kept = matches!(kind, Kind::Marked | Kind::Pending);
        (!is_kept).then(|| Self::new(index, maildrop, uid.clone(), *ordinal))
    }

    fn new(index: usize, maildrop: &MaildropKey, uid: UniqueId, ordinal: u32) -> Self {
        Self { index, message: MessageId { maildrop: maildrop.identity.clone(), uid, ordinal } }
    }

    /// Gives the message's index in this session's listing.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Names the record.
    pub fn message(&self) -> &MessageId {
        &self.message
    }
}

/// What a session has seen of a listed message that a record may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Its place in the listing alone: octets by the server's word.
    Listed(u64),
    /// Its header too, by TOP.
    Header {
        /// Octets by the server's word.
        listed: u64,
        /// What the header is known by.
        header: Fingerprint,
    },
    /// All of it, by RETR.
    Whole {
        /// Octets by the server's word.
        listed: u64,
        /// What it is known by.
        whole: Fingerprint,
    },
}

impl Memory {
    /// Proves that a listed message is the one that was recorded, if that is so: by its content, or by a certain identity
    /// and a size that RETR verified. What the user gave up is deleted by name and size, and what was only marked never. Both are given by
    /// their indexes: the message by that in the listing, the record by that in [`Memory::entries`].
    pub fn prove(&self, (index, entry): (usize, usize), detail: &Detail, seen: &Seen) -> Option<Recorded> {
        let (uid, ordinal, entry) = self.entries.get(entry);
        let proven = match (entry.kind, seen) {
            (Kind::Marked | Kind::Pending, _) => false,
            (
                Kind::Discarded,
                Seen::Listed(listed) | Seen::Header { listed, .. } | Seen::Whole { listed, .. },
            ) => entry.octets == *listed,
            (Kind::Delivered | Kind::Imported, Seen::Listed(_)) => false,
            (Kind::Delivered | Kind::Imported, Seen::Header { listed, header }) => {
                let octets = listed.saturating_sub(header.fields);
                let is_certain = header.identity.is_certain() && !detail.is_weak();
                is_certain && detail.has_header_of(header) && detail.is_verified(octets)
            }
            (Kind::Delivered, Seen::Whole { listed, whole }) => detail.is_whole(*listed, whole),
            // Nobody here has seen more of it than its header.
            (Kind::Imported, Seen::Whole { whole, .. }) => {
                whole.identity.is_certain() && !detail.is_weak() && detail.has_header_of(whole)
            }
        };
        proven.then(|| Recorded::new(index, &self.key, UniqueId::new(uid), ordinal))
    }
}
