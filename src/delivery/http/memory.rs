//! What is remembered of an endpoint from one session to the next: when it may be asked again.

use std::time::Duration;

use crate::clock::Timestamp;

/// Nobody waits longer, whatever a server says.
const LONGEST: Timestamp = 24 * 60 * 60;

/// Reads until when a server is to be left alone; `None` if it may be asked. A wait beyond the longest is a wrong clock's.
pub fn waits(remembered: Option<&[u8]>, now: Timestamp) -> Option<Timestamp> {
    let until = std::str::from_utf8(remembered?).ok()?.strip_prefix("1 ")?.parse().ok()?;
    (now + 1..=now.saturating_add(LONGEST)).contains(&until).then_some(until)
}

/// Gives until when a server is to be left alone that wants so much time.
pub fn until(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = Timestamp::try_from(wait.as_secs()).unwrap_or(LONGEST);
    now.saturating_add(wait.clamp(1, LONGEST))
}

/// Writes what [`waits`] reads.
pub fn to_octets(until: Timestamp) -> Vec<u8> {
    format!("1 {until}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_left_alone_until_the_time_that_it_said_and_for_a_day_at_most() {
        let kept = |wait| to_octets(until(1000, Duration::from_secs(wait)));
        assert_eq!(waits(Some(&kept(120)), 1000), Some(1120));
        assert_eq!(waits(Some(&kept(120)), 1119), Some(1120));
        assert_eq!(waits(Some(&kept(120)), 1120), None);
        assert_eq!(waits(Some(&kept(u64::MAX)), 1000), Some(1000 + LONGEST));
        assert_eq!(waits(Some(&kept(0)), 1000), Some(1001));
        // The clock was set back.
        assert_eq!(waits(Some(&kept(120)), 1000 - LONGEST), None);
        for wrong in [&b""[..], b"1 ", b"2 5", b"1 x", b"\xff"] {
            assert_eq!(waits(Some(wrong), 0), None);
        }
        assert_eq!(waits(None, 0), None);
    }
}
