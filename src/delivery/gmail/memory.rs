//! What is remembered of a user's Gmail from one session of a maildrop to the next: when it may be asked again, and what
//! was inserted without an answer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Messages in doubt that are remembered at most.
const MOST: usize = 1000;

/// What a session must know of the ones before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Until then nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Timestamp>,
    /// Digests of messages of which an insert was begun and not answered.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) begun: BTreeSet<String>,
}

impl Memory {
    /// Reads what [`Memory::to_octets`] wrote; what it did not means nothing.
    pub(super) fn from_octets(octets: Option<&[u8]>) -> Self {
        octets.and_then(|octets| serde_json::from_slice(octets).ok()).unwrap_or_default()
    }

    pub(super) fn to_octets(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Notes that an insert begins.
    pub(super) fn begin(&mut self, digest: String) {
        while self.begun.len() >= MOST {
            self.begun.pop_first();
        }
        self.begun.insert(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back_and_what_is_not_understood_means_nothing() {
        let mut memory = Memory { until: Some(7), ..Memory::default() };
        (0..MOST + 5).for_each(|number| memory.begin(format!("{number:05}")));
        assert_eq!(memory.begun.len(), MOST);
        assert_eq!(Memory::from_octets(Some(&memory.to_octets())), memory);
        for wrong in [None, Some(&b""[..]), Some(b"{"), Some(b"7")] {
            assert_eq!(Memory::from_octets(wrong), Memory::default());
        }
    }
}
