//! Messages that could not be fetched or delivered, or are too large: remembered with a reason, told once.

use std::time::Duration;

use crate::delivery::has_room;
use crate::message::{Listing, UniqueId};
use crate::state::{Closing, Held, HeldKind, Standing, Timestamp};
use crate::text::Shown;

use super::Report;
use super::book::Book;
use super::fetched::{Fetched, Unfetched};
use super::notes::Notes;
use super::plan::{Plan, Step};
use super::poll::Poll;
use super::report::CameHeld;
use super::waits::next_try;

impl Poll<'_> {
    /// Finds those among the messages that the target could not take for which its disk has no room.
    pub(super) async fn find_crowded(&self, failed: &mut [Unfetched], listing: &Listing) {
        for failed in failed.iter_mut().filter(|failed| failed.kind == HeldKind::Later) {
            let octets = listing.get(failed.index).octets;
            if self.is_crowded(octets).await {
                failed.kind = HeldKind::NoRoom;
            }
        }
    }

    /// Says whether one of the targets has no room for so much.
    async fn is_crowded(&self, octets: u64) -> bool {
        for to in &self.account.deliver {
            if !has_room(&to.target, &self.environment.disk, octets).await {
                return true;
            }
        }
        false
    }

    /// Leaves those messages held for which there is still no room, and fetches nothing of them.
    pub(super) async fn hold_crowded(&self, plan: &mut Plan, book: &Book<'_>) {
        for (index, step) in &mut plan.steps {
            let is_crowded = |held: &Held| held.kind == HeldKind::NoRoom;
            if matches!(step, Step::Fetch(_))
                && book.held(*index).is_some_and(is_crowded)
                && self.is_crowded(book.listing.get(*index).octets).await
            {
                *step = Step::Held;
            }
        }
    }

    /// Notes a message over the limit, and gives what is to be said of it: nothing more than once.
    pub(super) fn hold_large(&self, index: usize, book: &Book<'_>, closing: &mut Closing) -> Option<String> {
        let message = book.listing.get(index);
        let limit = self.account.max_size.unwrap_or(u64::MAX);
        let reason = format!("{} octets, more than max_size allows ({limit})", message.octets);
        if book.held(index).is_some_and(|held| held.kind == HeldKind::TooLarge && held.reason == reason) {
            return None;
        }
        let words = format!("{}: stays on the server: {reason}", Shown(message.uid));
        closing.held.push(Held {
            uid: UniqueId::new(message.uid),
            ordinal: message.ordinal,
            octets: message.octets,
            kind: HeldKind::TooLarge,
            standing: Standing::Held,
            reason,
            since: self.now,
            tries: 0,
            tried_at: self.now,
            next_try: self.now,
            came: None,
        });
        Some(words)
    }

    /// Counts what was fetched, and holds what could not be.
    pub(super) fn settle(
        &self,
        book: &Book<'_>,
        fetched: &Fetched,
        Notes { report, closing, .. }: Notes<'_>,
    ) {
        report.delivered += fetched.delivered;
        report.delivered_octets += fetched.octets;
        report.already_there += fetched.already_there;
        report.left += fetched.left;
        report.settled += fetched.delivered + fetched.already_there;
        for failed in &fetched.failed {
            let message = book.listing.get(failed.index);
            if message.uid.is_empty() {
                // Its number will be another's, so nothing can be remembered of it.
                log::warn!("{}: message {}: left: {}", self.account.name, message.number, failed.reason);
                report.left += 1;
                continue;
            }
            let before = book.held(failed.index);
            let held = held(&book.listing, before, failed, self.now);
            match held.standing {
                Standing::Suspected => report.left += 1,
                Standing::Held => {
                    report.held += 1;
                    report.settled += 1;
                    self.log_held(before, &held, report);
                }
            }
            closing.held.push(held);
        }
    }

    /// Counts a deletion at which the session broke. After two it is held, comes last, and has its waits later.
    pub(super) fn hold_undeletable(&self, index: usize, book: &Book<'_>, closing: &mut Closing) {
        let ((uid, ordinal), octets) = (book.name_of(index), book.listing.get(index).octets);
        if uid.as_bytes().is_empty() {
            return;
        }
        let before = book.undeleted(index);
        let standing = if before.is_some() { Standing::Held } else { Standing::Suspected };
        let tries = before.map_or(0, |before| before.tries) + 1;
        if standing == Standing::Held && tries == 2 {
            log::warn!(
                "{}: {uid}: server ended two sessions at the deletion of this message; it stays there",
                self.account.name
            );
        }
        closing.held.push(Held {
            uid,
            ordinal,
            octets,
            kind: HeldKind::Undeletable,
            standing,
            reason: "the session broke at its deletion".into(),
            since: before.map_or(self.now, |before| before.since),
            tries,
            tried_at: self.now,
            next_try: next_try(HeldKind::Undeletable, standing, tries, self.now),
            came: None,
        });
    }

    /// Notes each try, and that a message comes to be held or is held for another reason. Whoever tells it
    /// ([`super::log_report`]) does so in one line for all.
    fn log_held(&self, before: Option<&Held>, held: &Held, report: &mut Report) {
        if held.kind == HeldKind::Away {
            // The target's trouble is told, and not once for each message.
            log::debug!("{}: {}: {}", self.account.name, held.uid, held.reason);
            return;
        }
        let was_held = before.filter(|before| before.standing == Standing::Held);
        report.newly_held += usize::from(was_held.is_none_or(|before| before.reason != held.reason));
        let words = format!(
            "{}: held: {}; tried again in {}",
            held.uid,
            held.reason,
            humantime::format_duration(Duration::from_secs(held.next_try.abs_diff(self.now)))
        );
        log::info!("{}: {words}", self.account.name);
        if was_held.is_none_or(|before| before.kind != held.kind) {
            let came = report.came_held.get_or_insert(CameHeld { kind: held.kind.name(), count: 0, words });
            came.count += 1;
        }
    }
}

/// Makes of what happened to a message, and of what happened to it before, what is remembered.
fn held(listing: &Listing, before: Option<&Held>, failed: &Unfetched, now: Timestamp) -> Held {
    let message = listing.get(failed.index);
    let before = before.filter(|before| before.kind != HeldKind::TooLarge);
    let again = |before: &Held| before.standing == Standing::Held || before.kind == failed.kind;
    let standing = if before.is_some_and(again) { Standing::Held } else { failed.standing };
    let tries = before.map_or(0, |before| before.tries).saturating_add(1);
    Held {
        uid: UniqueId::new(message.uid),
        ordinal: message.ordinal,
        octets: message.octets,
        kind: failed.kind,
        standing,
        reason: failed.reason.clone(),
        since: before.map_or(now, |before| before.since),
        tries,
        tried_at: now,
        next_try: next_try(failed.kind, standing, tries, now),
        came: failed.came.clone().or_else(|| before.and_then(|before| before.came.clone())),
    }
}
