//! What account and user allow to be done with a maildrop. Pure.

use crate::config::account::{Account, FirstSync, Keep, Order};
use crate::state::{Detail, Entry, Kind, Memory, Timestamp};

use super::waits::seconds;
use super::{Limits, MayDelete};

/// Deletions that the server accepted but did not carry out, or refused, after which one a day is tried.
const DELETE_TRIES: u32 = 3;
const DAY: Timestamp = 24 * 60 * 60;

/// What the account and the user allow.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub keep: Keep,
    /// What the first poll fetches.
    pub first_sync: FirstSync,
    pub order: Order,
    /// Octets above which a message stays.
    pub max_size: Option<u64>,
    /// Messages to fetch at most.
    pub limit: Option<usize>,
    /// Octets after which no other is begun.
    pub octets: Option<u64>,
    /// Whether this run may delete.
    pub deletions: MayDelete,
    /// The time of the poll.
    pub now: Timestamp,
}

/// Whether a recorded message is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not yet, or never.
    No,
    /// The time has come, and is noted: a day later, if the clock still says so, it is deleted.
    Noted,
    /// It was delivered after now: the clock was wrong, then or now. Its time begins now.
    Reset,
    Now,
    /// Deletions came back three times: told once, and tried once a day.
    GivenUp,
}

impl Policy {
    /// Takes the account's policy and the limits of one run.
    pub fn new(account: &Account, limits: Limits, now: Timestamp) -> Self {
        Self {
            keep: account.keep,
            first_sync: account.first_sync,
            order: account.order,
            max_size: account.max_size,
            limit: [account.max_messages, limits.limit].into_iter().flatten().min(),
            octets: limits.turn.map(|turn| turn.octets),
            deletions: limits.deletions,
            now,
        }
    }

    /// Says whether `first_sync` is still to be obeyed. One that goes by age may take several polls.
    pub fn is_first(&self, memory: &Memory) -> bool {
        match self.first_sync {
            FirstSync::All => false,
            FirstSync::None => memory.listed_at.is_none() && memory.entries.is_empty(),
            FirstSync::Within(_) => memory.listed_at.is_none(),
        }
    }

    /// Says whether a message is deleted as soon as it is delivered.
    pub fn deletes_at_once(&self) -> bool {
        self.deletions == MayDelete::AsConfigured && self.keep == Keep::None
    }

    /// Says whether a time has come or a day may have to pass first, as far as that can be said without the details.
    pub fn may_be_due(&self, entry: &Entry) -> bool {
        let deletes = self.deletions == MayDelete::AsConfigured && self.keep != Keep::Forever;
        let came = match self.keep {
            Keep::For(time) => entry
                .delivered_at
                .is_some_and(|at| at > self.now || at.saturating_add(seconds(time)) <= self.now),
            Keep::None | Keep::Forever => true,
        };
        deletes && came && !matches!(entry.kind, Kind::Marked | Kind::Pending)
    }

    /// Says whether a recorded message is to be deleted.
    pub fn due(&self, entry: &Entry, detail: &Detail) -> Due {
        if !self.may_be_due(entry) {
            return Due::No;
        }
        let came = match (self.keep, entry.kind) {
            (Keep::Forever, _) | (Keep::None, Kind::Imported) => Due::No,
            (Keep::None, _) => Due::Now,
            // What nothing but the name is known of would come as another one if it were fetched to be compared.
            (Keep::For(_), Kind::Imported) if !detail.may_be_certain() => Due::No,
            (Keep::For(time), _) => self.came(seconds(time), entry, detail),
        };
        match (came, entry.delete_tries) {
            (Due::Now, DELETE_TRIES) => Due::GivenUp,
            (Due::Now, tries) if tries > DELETE_TRIES && !self.is_a_day_after(detail.tried_at) => Due::No,
            (came, _) => came,
        }
    }

    /// What a clock says once is not believed: what it said at an earlier poll, and says still, is.
    fn came(&self, time: Timestamp, entry: &Entry, detail: &Detail) -> Due {
        if entry.delivered_at.is_none_or(|at| at > self.now) {
            return Due::Reset;
        }
        match detail.due_since {
            Some(since) if since <= self.now && self.now - since >= time.min(DAY) => Due::Now,
            Some(since) if since <= self.now => Due::No,
            Some(_) | None if time == 0 => Due::Now,
            Some(_) | None => Due::Noted,
        }
    }

    /// Says whether deletions of a message that came back again and again are left alone for now.
    pub fn rests(&self, entry: &Entry, detail: &Detail) -> bool {
        entry.delete_tries >= DELETE_TRIES && self.due(entry, detail) != Due::Now
    }

    fn is_a_day_after(&self, then: Option<Timestamp>) -> bool {
        // A time to come is one of a wrong clock.
        then.is_none_or(|then| then > self.now || self.now - then >= DAY)
    }
}
