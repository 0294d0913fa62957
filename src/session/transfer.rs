//! Fetching and committing, side by side.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::delivery::Sink;
use crate::message::{MessageNumber, Trace};
use crate::source::{Deletions, Wire};
use crate::state::Recorded;

use super::book::Book;
use super::commit::Commit;
use super::fetch::{Fetch, Fetched};
use super::poll::Poll;
use super::stopped;
use super::trouble::{Aborted, Trouble};

/// How long what has come in may take to be delivered and recorded once the process was asked to end; it has ten
/// seconds. Whatever ends by itself needs less.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// What one run of fetching is about.
pub(super) struct FetchOrder {
    /// Messages to fetch, by index in the listing, in this order.
    pub wanted: Vec<usize>,
    /// Deletions of messages that were recorded before.
    pub old: Vec<Recorded<MessageNumber>>,
    /// What broke a session before, in this order, when everything else is done and this session's deletions are real.
    pub last: Vec<Last>,
    /// What is asked for singly, by index in the listing.
    pub careful: HashSet<usize>,
    /// Whether commands are sent ahead of answers.
    pub pipelined: bool,
}

/// Something at which a session broke before.
#[derive(Debug)]
pub(super) enum Last {
    /// A message to fetch, by index in the listing.
    Fetch(usize),
    /// The deletion of one that was recorded before.
    Delete(Recorded<MessageNumber>),
}

impl Poll<'_> {
    /// Fetches while it commits, as two futures of one task.
    pub(super) async fn fetch(
        &self,
        wire: &mut Wire,
        book: &mut Book<'_>,
        sink: Option<&Sink>,
        mut order: FetchOrder,
        deletions: &mut Deletions,
    ) -> Fetched {
        let (complete, incoming) = mpsc::channel(sink.map_or(1, Sink::most_waiting));
        let (results, outcomes) = mpsc::unbounded_channel();
        let (maildrop, found) = (book.memory.key.clone(), std::mem::take(&mut book.found));
        let fetch = Fetch {
            wire,
            sink,
            book,
            maildrop: Arc::from(self.account.maildrop_id.as_str()),
            pipelined: order.pipelined,
            careful: std::mem::take(&mut order.careful),
            stop: self.environment.stop.clone(),
            progress: self.progress,
            trace: self.account.received.then(|| self.trace()),
        }
        .run(order, complete, outcomes, deletions);
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
            target: self.account.deliver.to_string(),
            found,
        };
        // A disk may hang, and a command may take five minutes.
        let mut stop = self.environment.stop.clone();
        let wound_down = async {
            stopped(&mut stop).await;
            tokio::time::sleep(WIND_DOWN).await;
        };
        let commit = async {
            tokio::select! {
                committed = commit.run(incoming, results) => committed,
                () = wound_down => {
                    if !sink.recognizes() {
                        log::warn!(
                            "{}: {} did not take what it was given in time; it may have, and may get it again",
                            self.account.name,
                            self.account.deliver
                        );
                    }
                    Err(Aborted { doing: "deliver".into(), trouble: Trouble::Stopped })
                }
            }
        };
        let (mut fetched, committed) = tokio::join!(fetch, commit);
        if let Err(aborted) = committed {
            fetched.aborted = Some(aborted);
        }
        fetched
    }

    fn trace(&self) -> Trace {
        let here = nix::unistd::gethostname().unwrap_or_default();
        Trace::new(&self.account.host, &here.to_string_lossy(), &self.account.name)
    }
}
