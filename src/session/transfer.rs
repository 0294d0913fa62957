//! Fetching and committing, side by side.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::Target;
use crate::delivery::Sink;
use crate::message::Trace;
use crate::net::host_name;
use crate::source::Source;
use crate::state::{Memory, Unclaimed};
use crate::stop;

use super::book::Book;
use super::commit::Commit;
use super::fan::{Fan, Of};
use super::fetch::{Drafts, Fetch, Round};
use super::fetched::Fetched;
use super::poll::Poll;
use super::trouble::{Failed, Trouble};

/// Messages that may wait to be handed to several targets.
const FEW: usize = 16;

pub enum Outlet {
    /// Into the only target, which is shown so.
    One(Sink, String),
    Several(Fan),
}

impl Outlet {
    /// Names the targets that may get again what they have.
    fn forgetful(&self) -> Vec<String> {
        match self {
            Self::One(sink, _) if sink.facts().recognizes => Vec::new(),
            Self::One(_, target) => vec![target.clone()],
            Self::Several(fan) => fan.forgetful(),
        }
    }
}

impl Poll<'_> {
    /// Fetches what the source was given while it commits, as two futures of one task; nothing is begun after `until`.
    pub(super) async fn fetch(
        &self,
        source: &mut Source,
        book: &mut Book<'_>,
        mut outlet: Option<&mut Outlet>,
        until: Option<Instant>,
    ) -> Fetched {
        let (results, outcomes) = mpsc::unbounded_channel();
        let (memory, found) = (book.memory, std::mem::take(&mut book.stock.found));
        let (account, key) = (self.account, self.account.deliver[0].key());
        let sink = match outlet.as_deref() {
            Some(Outlet::One(sink, _)) => Some(sink.clone()),
            Some(Outlet::Several(_)) | None => None,
        };
        let (drafts, most_waiting) = match (&sink, outlet.is_some()) {
            (Some(sink), _) => (Some(Drafts::Of(sink, &key)), sink.facts().most_waiting),
            (None, true) => (Some(Drafts::Spooled(&self.environment.disk)), FEW),
            (None, false) => (None, 1),
        };
        let trace = sink.is_some() && account.traces(account.target());
        let forgetful = outlet.as_deref().map(Outlet::forgetful).unwrap_or_default();
        let (complete, incoming) = mpsc::channel(most_waiting);
        let fetch = Fetch {
            source,
            drafts,
            book,
            maildrop: Arc::from(self.account.maildrop_id.as_str()),
            stop: self.environment.stop.clone(),
            progress: self.progress,
            until,
            trace: trace.then(|| self.trace()),
            complete: Some(complete),
            round: Round::default(),
        }
        .run(outcomes);
        let (mut fetched, committed) = match (&sink, outlet.take()) {
            (Some(sink), _) => {
                let target = account.target();
                let commit = self.commit(sink, (target, target.to_string(), &key), memory, found);
                let committing = Box::pin(commit.run(incoming, results));
                tokio::join!(fetch, self.in_time(committing, &forgetful))
            }
            (None, Some(Outlet::Several(fan))) => {
                let committing = Box::pin(fan.run(Of { poll: self, memory }, incoming, results));
                tokio::join!(fetch, self.in_time(committing, &forgetful))
            }
            (None, Some(Outlet::One(..)) | None) => {
                drop((incoming, results));
                (fetch.await, Ok(()))
            }
        };
        if let Err(aborted) = committed {
            fetched.aborted = Some(aborted);
        }
        fetched
    }

    /// Says where messages are committed: into a target that is shown so and has this key, with what no record claims
    /// there.
    pub(super) fn commit<'a>(
        &'a self,
        sink: &'a Sink,
        (target, shown, key): (&Target, String, &'a str),
        memory: &Memory,
        found: Vec<Unclaimed>,
    ) -> Commit<'a> {
        Commit {
            sink,
            store: &self.environment.store,
            maildrop: memory.key.clone(),
            now: self.now,
            account: &self.account.name,
            target: shown,
            key,
            memory: target.memory(&self.account.maildrop_id),
            budget: target.budget(),
            found,
            stop: &self.environment.stop,
        }
    }

    /// Commits, but not for ever once the process was asked to end: a disk may hang, and a command may take five
    /// minutes.
    async fn in_time(
        &self,
        committing: impl Future<Output = Result<(), Failed>>,
        forgetful: &[String],
    ) -> Result<(), Failed> {
        tokio::select! {
            committed = committing => committed,
            () = self.environment.stop.over(stop::DELIVERY) => {
                for target in forgetful {
                    log::warn!(
                        "{}: {target} did not take what it was given in time; it may have, and may get it again",
                        self.account.name
                    );
                }
                Err(Failed { doing: "deliver".into(), trouble: Trouble::Stopped })
            }
        }
    }

    pub(super) fn trace(&self) -> Trace {
        Trace::new(&self.account.host, &host_name(), &self.account.name)
    }
}
