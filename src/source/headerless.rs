//! Messages whose header the server does not show, since sessions broke at their TOP.

use crate::clock::{Timestamp, is_left_alone};
use crate::message::{Listed, MessageNumber};
use crate::text::hex;

/// Messages that are remembered.
const MOST: usize = 64;
/// Messages at which sessions break within an hour, with no header shown, after which the server counts as one without
/// TOP.
pub const FEW: usize = 3;
const HOUR: Timestamp = 3600;

/// Whether the header of a message can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// For all that is known.
    Yes,
    /// A session broke at it, once, or long ago.
    Doubtful,
    /// It is taken for refused.
    No,
    /// The server shows none.
    Never,
}

/// The messages at whose TOP a session broke, those at which it broke last behind the others.
#[derive(Debug, Default)]
pub struct Headerless(Vec<Finding>);

#[derive(Debug)]
struct Finding {
    /// By its name on the server.
    message: String,
    /// Its number then: there are servers with other names in each session.
    number: MessageNumber,
    octets: u64,
    at: Timestamp,
    /// How often a session broke here again.
    times: u32,
}

impl Headerless {
    /// Says whether a message shows its header. The first break may have been the network's; after the second the
    /// message is left alone.
    pub fn shows(&self, message: &Listed<'_>, now: Timestamp) -> Shows {
        match self.find(message, now).map(|at| &self.0[at]) {
            None => Shows::Yes,
            Some(Finding { at, times: times @ 1.., .. }) if is_left_alone(*at, *times, now) => Shows::No,
            Some(_) => Shows::Doubtful,
        }
    }

    /// Notes that a session broke at the TOP of a message.
    pub fn broke(&mut self, message: &Listed<'_>, at: Timestamp) {
        let before = self.find(message, at).map(|at| self.0.remove(at));
        let times = before.map_or(0, |before| before.times.saturating_add(1));
        let Listed { number, octets, .. } = *message;
        self.0.push(Finding { message: named(message), number, octets, at, times });
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// Notes that the TOP of a message was answered.
    pub fn was_answered(&mut self, message: &Listed<'_>, now: Timestamp) {
        if let Some(at) = self.find(message, now) {
            self.0.remove(at);
        }
    }

    /// Counts the messages at which sessions broke within the hour.
    pub fn count(&self, now: Timestamp) -> usize {
        self.0.iter().filter(|finding| finding.is_fresh(now)).count()
    }

    /// Gives what is to be remembered, a message each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|Finding { message, number, octets, at, times }| {
            format!("{message} {octets} {at} {times} {number}")
        })
    }

    /// Takes one of [`Headerless::lines`]; what it does not understand is not known.
    pub fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_default();
        if let (message, Ok(octets), Ok(at), Ok(times)) =
            (next().to_owned(), next().parse(), next().parse(), next().parse())
        {
            let number = MessageNumber(next().parse().unwrap_or(0));
            self.0.push(Finding { message, number, octets, at, times });
        }
    }

    /// Another size is another message, but for the hour: some servers list another at each session. The same size in the
    /// same place is taken for the same message, whatever it is called: if it is another one, it is fetched and compared.
    fn find(&self, message: &Listed<'_>, now: Timestamp) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let name = named(message);
        let is_it = |finding: &Finding| finding.octets == message.octets || finding.is_fresh(now);
        let is_there = |finding: &Finding| {
            finding.number == message.number && finding.octets == message.octets && message.octets > 0
        };
        let by_name = self.0.iter().position(|finding| finding.message == name && is_it(finding));
        by_name.or_else(|| self.0.iter().position(is_there))
    }
}

impl Finding {
    fn is_fresh(&self, now: Timestamp) -> bool {
        (self.at..self.at.saturating_add(HOUR)).contains(&now)
    }
}

/// Names a message by what the server shows of it. That another one comes to bear this name does no harm: it is fetched
/// and compared.
fn named(message: &Listed<'_>) -> String {
    let Listed { number, uid, ordinal, .. } = message;
    match uid {
        [] => format!("#{number}"),
        uid => format!("{}-{ordinal}", hex(uid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageNumber;

    const DAY: Timestamp = 24 * 3600;

    fn message(uid: &[u8], octets: u64) -> Listed<'_> {
        Listed { number: MessageNumber(uid.len() as u32), uid, ordinal: 0, octets, is_hole: uid.is_empty() }
    }

    #[test]
    fn after_two_breaks_a_message_is_left_alone_for_a_day_and_after_another_for_two() {
        let (mut headerless, bad) = (Headerless::default(), message(b"a b", 9));
        headerless.broke(&bad, 0);
        assert_eq!(headerless.shows(&bad, 0), Shows::Doubtful);
        headerless.broke(&bad, 0);
        assert_eq!(
            [0, DAY - 1, DAY].map(|now| headerless.shows(&bad, now)),
            [Shows::No, Shows::No, Shows::Doubtful]
        );
        headerless.broke(&bad, DAY);
        assert_eq!(
            [3 * DAY - 1, 3 * DAY].map(|now| headerless.shows(&bad, now)),
            [Shows::No, Shows::Doubtful]
        );
        for other in [message(b"a b", 8), message(b"a", 9), message(b"", 9)] {
            assert_eq!(headerless.shows(&other, DAY + HOUR), Shows::Yes);
        }
        assert_eq!(headerless.shows(&message(b"a b", 8), DAY), Shows::No, "its size is another each time");
        headerless.was_answered(&bad, DAY);
        assert_eq!(headerless.shows(&bad, DAY), Shows::Yes);
    }

    #[test]
    fn a_message_is_known_by_place_and_size_where_its_name_is_another_in_each_session() {
        let mut headerless = Headerless::default();
        headerless.broke(&message(b"a", 9), 0);
        headerless.broke(&message(b"b", 9), 0);
        for (other, shows) in [
            (message(b"c", 9), Shows::No),
            (message(b"c", 8), Shows::Yes),
            (message(b"in another place", 9), Shows::Yes),
        ] {
            assert_eq!(headerless.shows(&other, 0), shows, "{other:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_read_again_and_has_a_bound() {
        let uids: Vec<String> = (0..99).map(|i| format!("uid {i}")).collect();
        let mut before = Headerless::default();
        let octets = |at: usize| 100 + at as u64;
        (0..99).for_each(|at| before.broke(&message(uids[at].as_bytes(), octets(at)), 0));
        before.broke(&message(b"", 1), 0);
        let mut after = Headerless::default();
        before.lines().for_each(|line| after.read(&line));
        after.read("nonsense");
        assert_eq!((before.count(0), after.count(0), after.count(HOUR)), (MOST, MOST, 0));
        assert_eq!(after.shows(&message(b"", 1), 0), Shows::Doubtful);
        assert_eq!(after.shows(&message(uids[98].as_bytes(), octets(98)), 0), Shows::Doubtful);
        assert_eq!(after.shows(&message(uids[0].as_bytes(), octets(0)), 0), Shows::Yes);
    }
}
