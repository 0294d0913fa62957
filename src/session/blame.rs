//! At which message a session broke, and what came of messages that are less than was listed.

use sha2::{Digest, Sha256};

use crate::message::MessageNumber;
use crate::pop3::Request;
use crate::state::{Came, Held, Timestamp};

const DAY: Timestamp = 24 * 60 * 60;
/// A message that is listed with more octets than this came short if less than half of them came.
const SMALL: u64 = 2 << 10;
/// How often the same octets must have come before they count for all there is.
const TIMES: u32 = 3;

/// What a session broke at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blamed {
    /// At the message of this index in the listing.
    Message(usize),
    /// At this one, after all of it had come.
    Had(usize),
    /// At the deletion of this one.
    Deletion(MessageNumber),
    /// At nothing that tells.
    Nobody,
}

/// How a session broke while it fetched.
#[derive(Debug)]
pub struct Broke {
    /// At what.
    pub at: Blamed,
    /// What was asked for and had not come, by index in the listing: answers may have been lost with the connection, so
    /// that it may have been any of these.
    pub under_way: Vec<usize>,
    /// It fell silent.
    pub silent: bool,
}

/// What was going on when a session broke.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What is to be answered next.
    pub awaited: Option<Request>,
    /// The message that was coming in.
    pub incoming: Option<usize>,
    /// The one that had come, with nothing behind it that proved its end.
    pub doubtful: Option<usize>,
    /// The one that was to come next.
    pub next: Option<usize>,
}

/// Finds what a session broke at.
pub fn blamed(moment: Moment) -> Blamed {
    match (moment.incoming.or(moment.doubtful), moment.awaited) {
        // What follows a message and is no reply may be the rest of it. One that came whole is not doubtful.
        (Some(index), _) => Blamed::Message(index),
        (None, Some(Request::Dele(number))) => Blamed::Deletion(number),
        (None, Some(Request::Retr(_))) => moment.next.map_or(Blamed::Nobody, Blamed::Message),
        (None, _) => Blamed::Nobody,
    }
}

/// Says whether so little of a message came that it is not believed to be all.
pub fn is_short(octets: u64, listed: u64) -> bool {
    (octets == 0 && listed > 0) || (listed > SMALL && octets < listed.div_ceil(2))
}

/// Counts how often the same octets of a message have come: as many, under the same header.
pub fn came(before: Option<&Held>, header: [u8; 32], octets: u64, now: Timestamp) -> Came {
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
    fn the_message_that_comes_or_is_to_come_next_is_blamed() {
        let nothing = Moment { awaited: None, incoming: None, doubtful: None, next: None };
        let number = MessageNumber(3);
        let retr = Moment { awaited: Some(Request::Retr(number)), next: Some(2), ..nothing };
        assert_eq!(blamed(retr), Blamed::Message(2));
        assert_eq!(blamed(Moment { doubtful: Some(1), ..retr }), Blamed::Message(1));
        assert_eq!(blamed(Moment { incoming: Some(2), next: Some(3), ..retr }), Blamed::Message(2));
        let dele = Moment { awaited: Some(Request::Dele(number)), ..retr };
        assert_eq!(blamed(dele), Blamed::Deletion(number));
        assert_eq!(blamed(Moment { awaited: Some(Request::Noop), ..nothing }), Blamed::Nobody);
    }

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
        let first = came(None, [1; 32], 0, 100);
        assert!(!is_all_there_is(&first, 100 + 9 * DAY));
        let second = came(Some(&held(first)), [1; 32], 0, 100 + 9 * DAY);
        assert!(!is_all_there_is(&second, 100 + 9 * DAY), "twice is not three times");
        let third = came(Some(&held(second.clone())), [1; 32], 0, 100 + 9 * DAY);
        assert!(is_all_there_is(&third, 100 + 9 * DAY));
        let early = came(Some(&held(second.clone())), [1; 32], 0, 99 + DAY);
        assert!(!is_all_there_is(&early, 99 + DAY));
        for (header, octets) in [([2; 32], 0), ([1; 32], 1)] {
            assert_eq!(came(Some(&held(second.clone())), header, octets, 7 * DAY).times, 1);
        }
        // Since a time to come: the clock was wrong.
        assert_eq!(came(Some(&held(second)), [1; 32], 0, 99), Came { times: 1, since: 99, ..third });
    }
}
