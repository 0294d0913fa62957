//! What a sync leaves: told, noted, or taken as seen.

use crate::config::Account;
use crate::text::Shown;

use super::notes::Notes;
use super::plan::{Plan, Step};
use super::summary::messages;
use super::trouble::{During, Failed};
use super::turn::Turn;

impl Turn<'_> {
    /// Tells and notes what is not fetched, and marks what counts as seen.
    pub(super) async fn note_left(&mut self, plan: &Plan) -> Result<(), Failed> {
        let name = &self.poll.account.name;
        let Notes { report, closing, .. } = &mut self.notes;
        let (mut skip, mut large, mut kept, mut nameless) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, step) in &plan.steps {
            match step {
                Step::Fetch(_) | Step::Delete(_) | Step::Undated => {}
                Step::Unasked => report.left += 1,
                Step::Skip => skip.push(*index),
                Step::Nameless => nameless += 1,
                Step::Later => {
                    report.left += 1;
                    report.beyond += 1;
                }
                Step::Held => report.held += 1,
                Step::TooLarge => {
                    report.left += 1;
                    large.extend(self.poll.hold_large(*index, &self.book, closing));
                }
                Step::GiveUpDeleting(_) => {
                    let message = self.book.listing.get(*index);
                    kept.push(format!(
                        "{}: server keeps this message in spite of three deletions; it stays there, and one deletion \
                         a day is tried",
                        Shown(message.uid)
                    ));
                    closing.undeleted.push(self.book.name_of(*index));
                }
            }
        }
        warn(name, &large);
        warn(name, &kept);
        if nameless > 0 {
            // Nothing tells them from other messages at the next poll, so they are neither recorded nor deleted.
            report.nameless = nameless;
            report.left += nameless;
        }
        self.skip_first(skip).await
    }

    /// Takes messages as seen that `first_sync` leaves; says so if it is not the first sync after all.
    async fn skip_first(&mut self, skip: Vec<usize>) -> Result<(), Failed> {
        if skip.is_empty() {
            return Ok(());
        }
        let there = if self.book.memory.entries.is_empty() { self.count_there().await? } else { 0 };
        let Account { name, first_sync, .. } = self.poll.account;
        if there > 0 {
            log::warn!(
                "{name}: first_sync: {first_sync} leaves {} unfetched, as the state file is new; but the target has \
                 {there}, so this is not the first poll, and some may never have been delivered: \
                 `postrider seen list {name}` shows them, `postrider seen forget {name} UID...` has them fetched",
                messages(skip.len())
            );
        }
        log::info!("{name}: first_sync: {first_sync}: {} taken as seen", messages(skip.len()));
        self.look_at(&skip).await?;
        self.book.name_marked(&skip);
        self.skip(&skip).await
    }

    /// Records messages as seen without fetching them.
    pub(super) async fn skip(&mut self, indices: &[usize]) -> Result<(), Failed> {
        if indices.is_empty() {
            return Ok(());
        }
        let (store, seen) = (&self.poll.environment.store, self.book.marked(indices));
        store.record(&self.book.memory.key, self.poll.now, seen).await.during("write the state")?;
        indices.iter().for_each(|index| self.book.recorded(*index));
        self.marked += indices.len();
        Ok(())
    }
}

/// Warns of several messages in one line; a log that wants more has each.
fn warn(account: &str, words: &[String]) {
    match words {
        [] => {}
        [one] => log::warn!("{account}: {one}"),
        [one, more @ ..] => {
            log::warn!("{account}: {one}; the same of {} more", more.len());
            more.iter().for_each(|one| log::info!("{account}: {one}"));
        }
    }
}
