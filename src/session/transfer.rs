//! Fetching and committing, side by side.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::delivery::Sink;
use crate::message::Trace;
use crate::source::Source;
use crate::stop;

use super::book::Book;
use super::commit::{self, Commit, Complete};
use super::fetch::{Fetch, Fetched, Round};
use super::poll::Poll;
use super::trouble::{Failed, Trouble};

impl Poll<'_> {
    /// Fetches what the source was given while it commits, as two futures of one task.
    pub(super) async fn fetch(
        &self,
        source: &mut Source,
        book: &mut Book<'_>,
        sink: Option<&Sink>,
    ) -> Fetched {
        let (complete, incoming) = mpsc::channel(sink.map_or(1, Sink::most_waiting));
        let (results, outcomes) = mpsc::unbounded_channel();
        let (maildrop, found) = (book.memory.key.clone(), std::mem::take(&mut book.found));
        let fetch = Fetch {
            source,
            sink,
            book,
            maildrop: Arc::from(self.account.maildrop_id.as_str()),
            stop: self.environment.stop.clone(),
            progress: self.progress,
            trace: self.account.traces(self.account.target()).then(|| self.trace()),
            complete: Some(complete),
            round: Round::default(),
        }
        .run(outcomes);
        let Some(sink) = sink else {
            drop((incoming, results));
            return fetch.await;
        };
        let commit = Commit {
            sink,
            store: &self.environment.store,
            maildrop,
            now: self.now,
            account: &self.account.name,
            target: self.account.target().to_string(),
            memory: self.account.target().memory(&self.account.maildrop_id),
            found,
        };
        let (mut fetched, committed) = tokio::join!(fetch, self.commit(commit, incoming, results));
        if let Err(aborted) = committed {
            fetched.aborted = Some(aborted);
        }
        fetched
    }

    /// Commits what comes in, not for ever once the process was asked to end: a disk may hang, and a command may take five
    /// minutes.
    async fn commit(
        &self,
        commit: Commit<'_>,
        incoming: mpsc::Receiver<Complete>,
        results: mpsc::UnboundedSender<commit::Result>,
    ) -> Result<(), Failed> {
        tokio::select! {
            committed = commit.run(incoming, results) => committed,
            () = self.environment.stop.over(stop::DELIVERY) => {
                if !commit.sink.recognizes() {
                    log::warn!(
                        "{}: {} did not take what it was given in time; it may have, and may get it again",
                        self.account.name,
                        self.account.target()
                    );
                }
                Err(Failed { doing: "deliver".into(), trouble: Trouble::Stopped })
            }
        }
    }

    fn trace(&self) -> Trace {
        let here = nix::unistd::gethostname().unwrap_or_default();
        Trace::new(&self.account.host, &here.to_string_lossy(), &self.account.name)
    }
}
