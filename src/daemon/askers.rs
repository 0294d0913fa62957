//! Clients that wait for polls which have not begun.

use std::collections::HashMap;
use std::sync::Arc;

use super::control::Feed;
use crate::session::Limits;

/// By account: what each wants, in the order in which they came.
#[derive(Debug, Default)]
pub struct Askers(HashMap<String, Vec<(Limits, Arc<Feed>)>>);

impl Askers {
    /// Lets a client wait for the next poll of an account that begins.
    pub fn add(&mut self, account: &str, limits: Limits, feed: Arc<Feed>) {
        self.0.entry(account.into()).or_default().push((limits, feed));
    }

    /// Takes those whom the poll serves that begins now: the first, and all who want the same.
    pub fn take(&mut self, account: &str) -> Option<(Limits, Vec<Arc<Feed>>)> {
        let all = self.0.remove(account)?;
        let (wanted, _) = *all.first()?;
        let (served, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(limits, _)| *limits == wanted);
        if !others.is_empty() {
            self.0.insert(account.into(), others);
        }
        Some((wanted, served.into_iter().map(|(_, feed)| feed).collect()))
    }

    /// Says whether somebody waits for a poll of an account.
    pub fn wait_for(&self, account: &str) -> bool {
        self.0.contains_key(account)
    }

    /// Lets those go who wait for accounts that are not going to be polled.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        self.0.retain(|account, all| {
            let keep = wanted(account);
            if !keep {
                all.iter().for_each(|(_, feed)| feed.gone(account));
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_serves_all_who_want_the_same_and_leaves_the_others() {
        let mut askers = Askers::default();
        let few = Limits { limit: Some(3), ..Limits::default() };
        for limits in [Limits::default(), few, Limits::default()] {
            askers.add("home", limits, Arc::new(Feed::new(["home".to_owned()])));
        }
        let served = |taken: Option<(Limits, Vec<_>)>| taken.map(|(limits, feeds)| (limits, feeds.len()));
        assert_eq!(served(askers.take("home")), Some((Limits::default(), 2)));
        assert!(askers.wait_for("home"));
        assert_eq!(served(askers.take("home")), Some((few, 1)));
        assert!(!askers.wait_for("home") && askers.take("home").is_none());
    }

    #[tokio::test]
    async fn who_waits_for_an_account_that_is_gone_is_told() {
        let (mut askers, feed) = (Askers::default(), Arc::new(Feed::new(["home".to_owned()])));
        askers.add("home", Limits::default(), feed.clone());
        askers.retain(|_| true);
        assert!(askers.wait_for("home"));
        askers.retain(|account| account != "home");
        assert_eq!(feed.news().await, [super::super::control::Reply::Done]);
    }
}
