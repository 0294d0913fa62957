//! The key to DELE.

use crate::message::Fingerprint;

use super::{Detail, Entry, Kind};

/// Proof that a message is durably recorded as delivered, and that this session has seen it to be that message; only
/// the state makes one.
#[derive(Debug)]
pub struct Recorded<T>(pub(super) T);

impl<T> Recorded<T> {
    /// Gives what it is the proof for.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Says the same of a part of it.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Recorded<U> {
        Recorded(part(self.0))
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

/// Proves that a listed message is the one that was recorded, if that is so: by its content, or by a certain identity
/// and a size that RETR verified. What the user gave up is deleted by name and size, and what was only marked never.
pub fn prove<T>(entry: &Entry, detail: &Detail, seen: &Seen, of: T) -> Option<Recorded<T>> {
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
    proven.then_some(Recorded(of))
}
