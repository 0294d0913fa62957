//! What is remembered of a mailbox from one session of a maildrop to the next.

/// What a session must know of the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// The UIDVALIDITY that the mailbox had.
    pub(super) validity: u32,
    /// What lies there from here on may be unrecorded; `None`: nothing that this maildrop delivered is.
    pub(super) from: Option<u32>,
    /// Days since 1970, and octets that were uploaded on that day.
    pub(super) day: i64,
    pub(super) octets: u64,
}

impl Memory {
    /// Writes it.
    pub(super) fn to_octets(self) -> Vec<u8> {
        let Self { validity, from, day, octets } = self;
        format!("1 {validity} {} {day} {octets}", from.unwrap_or(0)).into_bytes()
    }

    /// Reads what [`Memory::to_octets`] wrote; what it did not means nothing.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut words = text.strip_prefix("1 ")?.split(' ');
        Some(Self {
            validity: words.next()?.parse().ok()?,
            from: Some(words.next()?.parse().ok()?).filter(|from| *from > 0),
            day: words.next()?.parse().ok()?,
            octets: words.next()?.parse().ok()?,
        })
    }

    /// Says from which UID on messages may be there that no record tells of, in a mailbox that is at this UIDVALIDITY:
    /// all of them where nothing is known, or where those in doubt may have other UIDs by now.
    pub(super) fn doubtful(before: Option<Self>, validity: u32) -> Option<u32> {
        match before {
            None => Some(1),
            Some(Self { from: None, .. }) => None,
            Some(Self { from, validity: known, .. }) if known == validity => from,
            Some(_) => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back() {
        for from in [None, Some(7)] {
            let memory = Memory { validity: 5, from, day: 20_000, octets: u64::MAX };
            assert_eq!(Memory::from_octets(&memory.to_octets()), Some(memory));
        }
        for wrong in ["", "1 ", "2 5 7 1 1", "1 5 7 1", "1 5 x 1 1", "1 -5 7 1 1"] {
            assert_eq!(Memory::from_octets(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn all_of_a_mailbox_is_looked_at_where_nothing_is_known_or_what_is_in_doubt_has_other_uids() {
        let memory = |from| Some(Memory { validity: 5, from, day: 0, octets: 0 });
        assert_eq!(Memory::doubtful(None, 5), Some(1));
        assert_eq!(Memory::doubtful(memory(None), 5), None);
        assert_eq!(Memory::doubtful(memory(None), 6), None);
        assert_eq!(Memory::doubtful(memory(Some(9)), 5), Some(9));
        assert_eq!(Memory::doubtful(memory(Some(9)), 6), Some(1));
    }
}
