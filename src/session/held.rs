//! Messages that could not be fetched or delivered, or are too large: remembered with a reason, told once.

use crate::pop3::{Listing, UniqueId};
use crate::state::{Closing, Held, Memory};
use crate::text::Shown;

use super::fetch::Fetched;
use super::poll::Poll;
use super::{Report, plan};

impl Poll<'_> {
    /// Reports a message over the limit, once.
    pub(super) fn hold_large(&self, index: usize, listing: &Listing, memory: &Memory, closing: &mut Closing) {
        let message = listing.get(index);
        let limit = self.account.max_size.unwrap_or(u64::MAX);
        let reason = format!("{} octets, more than max_size allows ({limit})", message.octets);
        if find_held(memory, message.uid, message.ordinal).is_some_and(|held| held.reason == reason) {
            return;
        }
        log::warn!("{}: {}: stays on the server: {reason}", self.account.name, Shown(message.uid));
        closing.held.push(Held {
            uid: UniqueId::new(message.uid),
            ordinal: message.ordinal,
            octets: message.octets,
            reason,
            since: self.now,
            tries: 0,
            next_try: self.now,
        });
    }

    /// Counts what was fetched, and holds what could not be.
    pub(super) fn settle(
        &self,
        listing: &Listing,
        memory: &Memory,
        fetched: &Fetched,
        report: &mut Report,
        closing: &mut Closing,
    ) {
        report.delivered += fetched.delivered;
        report.delivered_octets += fetched.octets;
        report.already_there += fetched.already_there;
        report.left += fetched.left;
        report.settled += fetched.delivered + fetched.already_there;
        for (index, reason) in &fetched.failed {
            let message = listing.get(*index);
            if message.uid.is_empty() {
                // Its number will be another's, so nothing can be remembered of it.
                log::warn!("{}: message {}: left: {reason}", self.account.name, message.number);
                report.left += 1;
                continue;
            }
            let before = find_held(memory, message.uid, message.ordinal);
            let tries = before.map_or(0, |held| held.tries).saturating_add(1);
            let next_try = plan::next_try(tries, self.now);
            report.held += 1;
            report.settled += 1;
            if before.is_none_or(|held| held.reason != *reason) {
                report.newly_held += 1;
                log::error!(
                    "{}: message {} ({}): held: {reason}; tried again in {}",
                    self.account.name,
                    message.number,
                    Shown(message.uid),
                    humantime::format_duration(std::time::Duration::from_secs(
                        u64::try_from(next_try - self.now).unwrap_or(0)
                    ))
                );
            }
            closing.held.push(Held {
                uid: UniqueId::new(message.uid),
                ordinal: message.ordinal,
                octets: message.octets,
                reason: reason.clone(),
                since: before.map_or(self.now, |held| held.since),
                tries,
                next_try,
            });
        }
    }
}

fn find_held<'a>(memory: &'a Memory, uid: &[u8], ordinal: u32) -> Option<&'a Held> {
    memory.held.iter().find(|held| held.uid.as_bytes() == uid && held.ordinal == ordinal)
}
