//! A poll of one account: whose maildrop, what is to be done, and what for.

use std::sync::Arc;
use std::time::Instant;

use crate::config::{Account, Target};
use crate::delivery::Sink;
use crate::message::FileId;
use crate::state::Timestamp;
use crate::stop::PROVIDER;

use super::trouble::{During, Failed, Trouble};
use super::{Environment, Progress, Task};

/// A poll of one account; the lease on its maildrop is held meanwhile.
pub struct Poll<'a> {
    pub account: &'a Account,
    pub environment: &'a Environment,
    pub task: Task,
    pub progress: &'a dyn Progress,
    /// The time of the poll.
    pub now: Timestamp,
    pub began: Instant,
    /// Whether there is a state, so that something may be remembered.
    pub has_state: bool,
}

impl Poll<'_> {
    pub fn maildrop(&self) -> Arc<str> {
        self.account.maildrop_id.as_str().into()
    }

    /// Gives up what loses nothing once the process is asked to end. What a provider of tokens has been asked is waited for: it may
    /// have forgotten the old refresh token by then, and its answer must be written.
    pub async fn unless_stopped<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        tokio::select! {
            done = work => return done,
            () = self.environment.stop.asked() => {}
        }
        let _ = tokio::time::timeout(PROVIDER, self.environment.renewals.ended()).await;
        Err(Failed { doing: doing.into(), trouble: Trouble::Stopped })
    }

    pub async fn sink(&self, target: &Target) -> Result<Sink, Failed> {
        let open = super::open_target(self.account, target, self.environment, self.task.retry());
        // On the heap, as it is long and seldom.
        self.unless_stopped("open the target", Box::pin(open)).await
    }

    /// Gives the files of this maildrop that are in a target, none of which came before `oldest`, if that is known. What is
    /// there is found again whatever the state remembers: it may have been lost, be last week's from a backup, or not know of
    /// messages that a killed session had made visible.
    pub async fn recover(sink: &Sink, oldest: Option<Timestamp>) -> Result<Vec<FileId>, Failed> {
        sink.recover(oldest).await.during("look through the target")
    }
}
