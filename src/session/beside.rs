//! What is done beside polls, hooks and notices, and what is told of it.

use std::fmt;
use std::sync::Arc;

use crate::config::Account;
use crate::state::{Subject, Timestamp, Told};

use super::Environment;
use super::news::{Changes, News, level, note};

/// What is done for one account after a poll, and what was told of it before.
pub struct Beside<'a> {
    pub account: &'a Account,
    pub environment: &'a Environment,
    /// When the poll was over.
    pub now: Timestamp,
    before: Vec<Told>,
    changes: Changes,
}

impl<'a> Beside<'a> {
    /// Reads what was told before.
    pub async fn of(account: &'a Account, environment: &'a Environment) -> Self {
        // What a state that cannot be read knows is told again.
        let known = environment.store.maildrop(account.maildrop_id.as_str().into()).await.unwrap_or_default();
        let before = environment.beside.merged(&account.name, known.told);
        Self { account, environment, now: environment.clock.now(), before, changes: Vec::new() }
    }

    /// Tells that something failed, unless that is no news.
    pub fn failed(&mut self, what: Subject, words: fmt::Arguments<'_>) {
        let level = level(self.note(what, Some(what.name())));
        log::log!(level, "{}: {words}", self.account.name);
    }

    /// Tells that it works again, if that is news.
    pub fn worked(&mut self, what: Subject, words: fmt::Arguments<'_>) {
        if let News::Over(_) = self.note(what, None) {
            log::warn!("{}: {words}", self.account.name);
        }
    }

    /// Gives what was told of something that lasts.
    pub fn lasting(&self, what: Subject) -> Option<&Told> {
        self.before.iter().find(|told| told.what == what && told.lasts)
    }

    /// Remembers that a message told the user of it.
    pub fn noticed(&mut self, what: Subject) {
        if let Some(told) = self.lasting(what).cloned() {
            self.changes.push((what, Some(Told { noticed_at: Some(self.now), ..told })));
        }
    }

    /// Writes down what was told, if there is anything.
    pub async fn write(self) {
        if self.changes.is_empty() {
            return;
        }
        let maildrop: Arc<str> = self.account.maildrop_id.as_str().into();
        if self.environment.store.tell(maildrop, self.changes.clone()).await.is_err() {
            self.environment.beside.keep(&self.account.name, self.changes);
        }
    }

    fn note(&mut self, what: Subject, kind: Option<&str>) -> News {
        note(&self.before, &mut self.changes, what, kind, self.now).1
    }
}
