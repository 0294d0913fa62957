//! Messages of which less came than was listed.

use sha2::{Digest, Sha256};

use crate::state::{Came, Held, Timestamp};

const DAY: Timestamp = 24 * 60 * 60;
/// A message that is listed with more octets than this came short if less than half of them came.
const SMALL: u64 = 2 << 10;
/// How often the same octets must have come before they count for all there is.
const TIMES: u32 = 3;

/// Says whether so little of a message came that it is not believed to be all.
pub fn is_short(octets: u64, listed: u64) -> bool {
    (octets == 0 && listed > 0) || (listed > SMALL && octets < listed.div_ceil(2))
}

/// Counts how often the same octets of a message have come: as many, under the same header.
pub fn counted(before: Option<&Held>, header: [u8; 32], octets: u64, now: Timestamp) -> Came {
    let digest = Sha256::new().chain_update(header).chain_update(octets.to_be_bytes()).finalize().into();
    match before.and_then(|held| held.came.as_ref()) {
        Some(came) if came.digest == digest && came.since <= now => {
            Came { digest, times: came.times.saturating_add(1), since: came.since }
        }
        Some(_) | None => Came { digest, times: 1, since: now },
    }
}

/// Says whether that is often and long enough to deliver them, and keep the message on the server.
pub fn is_all_there_is(came: &Came, now: Timestamp) -> bool {
    came.times >= TIMES && now - came.since >= DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::UniqueId;
    use crate::state::{HeldKind, Standing};

    #[test]
    fn nothing_of_something_and_less_than_half_of_much_is_short() {
        for (octets, listed, short) in [
            (0, 0, false),
            (0, 1, true),
            (0, 48_019, true),
            (1, 2048, false),
            (1024, 2049, true),
            (1025, 2049, false),
            (24_009, 48_019, true),
            (24_010, 48_019, false),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(is_short(octets, listed), short, "{octets} of {listed}");
        }
    }

    #[test]
    fn the_same_octets_three_times_and_over_a_day_are_all_there_is() {
        let held = |came| Held {
            uid: UniqueId::new(&b"a"[..]),
            ordinal: 0,
            octets: 48_019,
            kind: HeldKind::Short,
            standing: Standing::Held,
            reason: String::new(),
            since: 0,
            tries: 1,
            tried_at: 0,
            next_try: 0,
            came: Some(came),
        };
        let first = counted(None, [1; 32], 0, 100);
        assert!(!is_all_there_is(&first, 100 + 9 * DAY));
        let second = counted(Some(&held(first)), [1; 32], 0, 100 + 9 * DAY);
        assert!(!is_all_there_is(&second, 100 + 9 * DAY), "twice is not three times");
        let third = counted(Some(&held(second.clone())), [1; 32], 0, 100 + 9 * DAY);
        assert!(is_all_there_is(&third, 100 + 9 * DAY));
        let early = counted(Some(&held(second.clone())), [1; 32], 0, 99 + DAY);
        assert!(!is_all_there_is(&early, 99 + DAY));
        for (header, octets) in [([2; 32], 0), ([1; 32], 1)] {
            assert_eq!(counted(Some(&held(second.clone())), header, octets, 7 * DAY).times, 1);
        }
        // Since a time to come: the clock was wrong.
        assert_eq!(counted(Some(&held(second)), [1; 32], 0, 99), Came { times: 1, since: 99, ..third });
    }
}
