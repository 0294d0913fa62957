//! When what is held is tried again.

use std::time::Duration;

use crate::state::{Held, HeldKind, Standing, Timestamp};

/// Waits of what the target may take soon: minutes, growing to an hour.
const LATER: [u64; 5] = [5, 10, 20, 40, 60];
/// Waits of everything else, growing to a day.
const REFUSED: [u64; 4] = [15, 60, 240, 1440];

/// Nobody tries again what a person must decide.
const DOUBTFUL: [u64; 1] = [100 * 365 * 24 * 60];

/// Polls in which the session may break at the same deletion before it waits: a server that was restarted a few times has
/// nothing against the message.
const RESTARTS: u32 = 4;

/// Says when a message is tried again after so many tries, of which the last was now. One that is only suspected is tried
/// by the next session.
pub fn next_try(kind: HeldKind, standing: Standing, tries: u32, now: Timestamp) -> Timestamp {
    match (standing, kind) {
        (Standing::Suspected, _) => now,
        (Standing::Held, HeldKind::Undeletable) if tries <= RESTARTS => now,
        (Standing::Held, HeldKind::Undeletable) => now.saturating_add(seconds(wait(kind, tries - RESTARTS))),
        (Standing::Held, _) => now.saturating_add(seconds(wait(kind, tries))),
    }
}

/// Says how long a message of this kind waits after so many tries.
fn wait(kind: HeldKind, tries: u32) -> Duration {
    let waits: &[u64] = match kind {
        HeldKind::Later | HeldKind::NoRoom | HeldKind::Away => &LATER,
        HeldKind::Doubtful => &DOUBTFUL,
        HeldKind::Refused
        | HeldKind::Breaks
        | HeldKind::Short
        | HeldKind::TooLarge
        | HeldKind::Undeletable => &REFUSED,
    };
    let at = usize::try_from(tries.saturating_sub(1)).unwrap_or(usize::MAX).min(waits.len() - 1);
    Duration::from_secs(waits[at] * 60)
}

/// Says whether a message is to be tried again. A wait beyond the longest comes from a clock that was wrong.
pub fn is_due(held: &Held, now: Timestamp) -> bool {
    let longest = seconds(wait(held.kind, u32::MAX));
    // The target is looked at by each poll.
    matches!(held.kind, HeldKind::NoRoom | HeldKind::Away)
        || held.next_try <= now
        || held.next_try > now.saturating_add(longest)
}

/// Gives a duration in whole seconds.
pub fn seconds(time: Duration) -> Timestamp {
    Timestamp::try_from(time.as_secs()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::UniqueId;

    const MINUTE: Timestamp = 60;

    #[test]
    fn what_the_target_takes_later_waits_for_an_hour_at_most_and_what_it_refuses_for_a_day() {
        let minutes =
            |kind| [1, 2, 3, 4, 5, 6, u32::MAX].map(|tries| wait(kind, tries).as_secs() / 60).to_vec();
        assert_eq!(minutes(HeldKind::Later), [5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(minutes(HeldKind::Refused), [15, 60, 240, 1440, 1440, 1440, 1440]);
        assert_eq!(minutes(HeldKind::Breaks), minutes(HeldKind::Refused));
    }

    #[test]
    fn a_wait_beyond_the_longest_is_over() {
        let now = 1_000_000;
        let held = |kind, next_try| Held {
            uid: UniqueId::new(&b"a"[..]),
            ordinal: 0,
            octets: 1,
            kind,
            standing: Standing::Held,
            reason: String::new(),
            since: 0,
            tries: 1,
            tried_at: 0,
            next_try,
            came: None,
        };
        for (kind, next_try, due) in [
            (HeldKind::Later, now, true),
            (HeldKind::Later, now + 60 * MINUTE, false),
            (HeldKind::Later, now + 61 * MINUTE, true),
            (HeldKind::Refused, now + 61 * MINUTE, false),
            (HeldKind::Refused, now + 1440 * MINUTE, false),
            (HeldKind::Refused, now + 366 * 1440 * MINUTE, true),
        ] {
            assert_eq!(is_due(&held(kind, next_try), now), due, "{kind:?} {next_try}");
        }
    }
}
