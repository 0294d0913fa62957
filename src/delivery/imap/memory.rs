//! What is remembered of a mailbox from one session of a maildrop to the next.

/// What a session must know of the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// The UIDVALIDITY that the mailbox had.
    pub(super) validity: u32,
    /// What lies there from here on may be unrecorded; `None`: nothing that this maildrop delivered is, but for what is
    /// kept in mind.
    pub(super) from: Option<u32>,
    /// Polls that delivered what lies there from `from` on began at this time or later.
    pub(super) since: i64,
    /// Messages that were found there and belong to no record are kept in the state.
    pub(super) keeps: bool,
}

/// What may be in a mailbox and is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubtful {
    /// Nothing but what was found there before.
    Nothing,
    /// Nobody knows: nothing is remembered, or the UIDs are others by now.
    Anything,
    /// What a session left that did not end; its server may be at work still.
    From(u32),
}

impl Memory {
    pub(super) fn to_octets(self) -> Vec<u8> {
        let Self { validity, from, since, keeps } = self;
        format!("2 {validity} {} {since} {}", from.unwrap_or(0), u8::from(keeps)).into_bytes()
    }

    /// Reads what [`Memory::to_octets`] wrote; what it did not means nothing.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut words = text.strip_prefix("2 ")?.split(' ');
        Some(Self {
            validity: words.next()?.parse().ok()?,
            from: Some(words.next()?.parse().ok()?).filter(|from| *from > 0),
            since: words.next()?.parse().ok()?,
            keeps: words.next()? == "1",
        })
    }

    /// Says what may be unrecorded in a mailbox that is at this UIDVALIDITY.
    pub(super) fn doubtful(before: Option<Self>, validity: u32) -> Doubtful {
        let Some(before) = before else { return Doubtful::Anything };
        match before.from {
            _ if before.validity != validity && (before.from.is_some() || before.keeps) => Doubtful::Anything,
            Some(from) => Doubtful::From(from),
            None => Doubtful::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back() {
        for (from, keeps) in [(None, true), (Some(7), false)] {
            let memory = Memory { validity: 5, from, since: -3, keeps };
            assert_eq!(Memory::from_octets(&memory.to_octets()), Some(memory));
        }
        for wrong in ["", "2 ", "1 5 7 1 1", "2 5 7", "2 5 x 1 0 1 1", "2 -5 7 1 0 1 1"] {
            assert_eq!(Memory::from_octets(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn all_of_a_mailbox_is_looked_at_where_nothing_is_known_or_what_is_in_doubt_has_other_uids() {
        let memory = |from, keeps| Some(Memory { validity: 5, from, since: 0, keeps });
        for (before, validity, doubtful) in [
            (None, 5, Doubtful::Anything),
            (memory(None, false), 5, Doubtful::Nothing),
            (memory(None, false), 6, Doubtful::Nothing),
            (memory(None, true), 5, Doubtful::Nothing),
            (memory(None, true), 6, Doubtful::Anything),
            (memory(Some(9), false), 5, Doubtful::From(9)),
            (memory(Some(9), false), 6, Doubtful::Anything),
        ] {
            assert_eq!(Memory::doubtful(before, validity), doubtful, "{before:?} {validity}");
        }
    }
}
