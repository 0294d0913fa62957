//! What a client that waits for polls is to be told: bounded, however slowly it reads.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Reply;
use crate::session::{Progress, Report};

/// How far a poll is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What is being done.
    pub stage: Stage,
    /// Messages that will be fetched.
    pub messages: usize,
    /// Octets of those.
    pub octets: u64,
    /// Octets that came in.
    pub received: u64,
    /// Messages delivered and recorded.
    pub delivered: usize,
}

/// What a session is doing, in the words of [`Progress::stage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It waits for a free session, or has not said.
    #[default]
    #[serde(rename = "waiting for the daemon")]
    Waiting,
    /// The server is being connected to.
    #[serde(rename = "connecting")]
    Connecting,
    /// The client is logging in.
    #[serde(rename = "logging in")]
    LoggingIn,
    /// The listing is being read.
    #[serde(rename = "listing")]
    Listing,
    /// Messages are being fetched.
    #[serde(rename = "fetching")]
    Fetching,
}

impl Stage {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Waiting, "waiting for the daemon"),
        (Self::Connecting, "connecting"),
        (Self::LoggingIn, "logging in"),
        (Self::Listing, "listing"),
        (Self::Fetching, "fetching"),
    ];

    /// Gives the words.
    pub fn words(self) -> &'static str {
        Self::ALL.iter().find(|(stage, _)| *stage == self).map_or("", |(_, words)| words)
    }

    fn of(words: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == words).map(|(stage, _)| *stage)
    }
}

/// Polls that one client waits for. It holds a line for each account and no more.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    /// Accounts whose polls have not ended.
    awaited: HashSet<String>,
    progress: BTreeMap<String, Snapshot>,
    /// Those of them that changed since they were last told.
    changed: HashSet<String>,
    reports: VecDeque<Report>,
}

impl Feed {
    /// Begins to wait for the polls of these accounts.
    pub fn new(accounts: impl IntoIterator<Item = String>) -> Self {
        let state = State {
            awaited: accounts.into_iter().collect(),
            progress: BTreeMap::new(),
            changed: HashSet::new(),
            reports: VecDeque::new(),
        };
        Self { state: Mutex::new(state), news: Notify::new() }
    }

    /// An account's poll has ended.
    pub fn ended(&self, report: &Report) {
        let mut state = self.lock();
        if state.awaited.remove(&report.account) {
            state.forget(&report.account);
            state.reports.push_back(report.clone());
            self.news.notify_one();
        }
    }

    /// An account will not be polled after all.
    pub fn gone(&self, account: &str) {
        let mut state = self.lock();
        state.awaited.remove(account);
        state.forget(account);
        self.news.notify_one();
    }

    /// Waits for something to tell; [`Reply::Done`] is the last.
    pub async fn news(&self) -> Vec<Reply> {
        loop {
            // A permit is left if something happens between the look and the wait.
            if let Some(news) = self.lock().take() {
                return news;
            }
            self.news.notified().await;
        }
    }

    fn note(&self, account: &str, change: impl FnOnce(&mut Snapshot)) {
        let mut state = self.lock();
        if state.awaited.contains(account) {
            change(state.progress.entry(account.into()).or_default());
            if state.changed.insert(account.into()) {
                self.news.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, account: &str) {
        self.progress.remove(account);
        self.changed.remove(account);
    }

    fn take(&mut self) -> Option<Vec<Reply>> {
        let mut news: Vec<Reply> = std::mem::take(&mut self.changed)
            .into_iter()
            .filter_map(|account| {
                let at = *self.progress.get(&account)?;
                Some(Reply::Progress { account, at })
            })
            .collect();
        news.extend(self.reports.drain(..).map(|report| Reply::Report(Box::new(report))));
        if self.awaited.is_empty() {
            news.push(Reply::Done);
        }
        (!news.is_empty()).then_some(news)
    }
}

/// Tells several feeds how far a session is.
#[derive(Debug, Default)]
pub struct Followers {
    account: String,
    feeds: Vec<Arc<Feed>>,
}

impl Followers {
    /// Lets these feeds follow the session of an account.
    pub fn new(account: &str, feeds: Vec<Arc<Feed>>) -> Self {
        Self { account: account.into(), feeds }
    }

    fn note(&self, change: impl Fn(&mut Snapshot)) {
        self.feeds.iter().for_each(|feed| feed.note(&self.account, &change));
    }
}

impl Progress for Followers {
    fn stage(&self, stage: &'static str) {
        if let Some(stage) = Stage::of(stage) {
            self.note(|at| at.stage = stage);
        }
    }

    fn planned(&self, messages: usize, octets: u64) {
        self.note(|at| (at.messages, at.octets) = (messages, octets));
    }

    fn received(&self, octets: u64) {
        self.note(|at| at.received += octets);
    }

    fn delivered(&self, messages: usize) {
        self.note(|at| at.delivered += messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_told_the_sum_and_never_more_than_a_line_an_account() {
        let feed = Arc::new(Feed::new(["a".to_owned(), "b".to_owned()]));
        let followers = Followers::new("a", vec![feed.clone()]);
        followers.stage("fetching");
        followers.planned(2, 2000);
        (0..1000).for_each(|_| followers.received(2));
        followers.delivered(1);
        let at = Snapshot { stage: Stage::Fetching, messages: 2, octets: 2000, received: 2000, delivered: 1 };
        assert_eq!(feed.news().await, [Reply::Progress { account: "a".into(), at }]);
        let report = Report { account: "a".into(), delivered: 2, ..Report::default() };
        feed.ended(&report);
        // Somebody else's poll of the same account, later.
        feed.ended(&report);
        followers.received(9);
        assert_eq!(feed.news().await, [Reply::Report(Box::new(report))]);
        feed.gone("b");
        assert_eq!(feed.news().await, [Reply::Done]);
    }

    #[test]
    fn every_stage_has_its_words_on_the_wire() {
        for (stage, words) in Stage::ALL {
            assert_eq!(serde_json::to_string(&stage).unwrap(), format!("{words:?}"));
            assert_eq!((Stage::of(words), stage.words()), (Some(stage), words));
        }
    }
}
