//! Polls by the running daemon, for a `sync` that would otherwise wait for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::poll;
use super::progress::Bars;
use crate::config::Account;
use crate::daemon::control::client::{Client, ClientError};
use crate::daemon::control::{Reply, Request, Snapshot, Stamp};
use crate::session::{Deletions, Limits, Progress, Report, summary};

/// A daemon that has agreed to poll accounts.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    accounts: Vec<String>,
}

impl Remote {
    /// Asks the daemon that uses this state file, if one runs, to poll those of the accounts that it has.
    ///
    /// It takes none if it has read another configuration. Accounts whose password a person is asked for are not its.
    pub async fn ask(
        accounts: &[Arc<Account>],
        state: &Path,
        stamp: Option<Stamp>,
        limits: Limits,
    ) -> Option<Self> {
        let configuration = stamp?;
        let names = accounts.iter().filter(|account| account.password.is_some());
        let accounts = names.map(|account| account.name.clone()).collect();
        let keep = match limits.deletions {
            Deletions::NotNow => true,
            Deletions::AsConfigured => false,
        };
        let request = Request::Sync { accounts, configuration, limit: limits.limit, keep };
        match Self::agreed(state, &request).await {
            Ok(agreed) => agreed,
            Err(error) => {
                log::debug!("{error}");
                None
            }
        }
    }

    async fn agreed(state: &Path, request: &Request) -> Result<Option<Self>, ClientError> {
        let Some(mut client) = Client::connect(state).await? else { return Ok(None) };
        let accounts = client.sync(request).await?;
        log::debug!("the running daemon polls {}", summary::accounts(accounts.len()));
        Ok(Some(Self { client, accounts }))
    }

    /// Says whether the daemon polls this account.
    pub fn has(&self, account: &Account) -> bool {
        self.accounts.contains(&account.name)
    }

    /// Waits for the polls, and tells each failure on standard error as it happens. `ended` hears of each account as it
    /// ends. Accounts without a report are those that the daemon left to its client: it was stopped, or hangs.
    pub async fn reports(
        mut self,
        accounts: &[Arc<Account>],
        bars: &Bars,
        mut stop: watch::Receiver<bool>,
        mut ended: impl FnMut(&Report),
    ) -> Vec<Report> {
        let mut waiting: HashMap<_, _> = accounts
            .iter()
            .map(|account| (account.name.as_str(), Shown { account, bar: None, at: Snapshot::default() }))
            .collect();
        let mut reports = Vec::new();
        loop {
            let reply = tokio::select! {
                Ok(_) = stop.wait_for(|stop| *stop) => {
                    // The daemon goes on, and this process does not wait for it.
                    let left = accounts.iter().filter(|account| waiting.contains_key(account.name.as_str()));
                    reports.extend(left.map(|account| Report::not_begun(account)));
                    return reports;
                }
                reply = self.client.reply() => reply,
            };
            match reply {
                Ok(Reply::Progress { account, at }) => {
                    if let Some(Shown { account, bar, at: before }) = waiting.get_mut(account.as_str()) {
                        show(&**bar.get_or_insert_with(|| bars.of(account)), *before, at);
                        *before = at;
                    }
                }
                Ok(Reply::Report(report)) => {
                    if waiting.remove(report.account.as_str()).is_some() {
                        poll::tell(&report);
                        ended(&report);
                        reports.push(*report);
                    }
                }
                Ok(Reply::Alive) => {}
                Ok(Reply::Done) => return reports,
                Ok(Reply::Woken { .. } | Reply::Status(_) | Reply::Taken { .. } | Reply::Error { .. }) => {
                    log::debug!("the running daemon says what was not asked for");
                    return reports;
                }
                Err(error) => {
                    log::debug!("{error}");
                    return reports;
                }
            }
        }
    }
}

/// An account whose poll has not ended, and what is shown of it.
struct Shown<'a> {
    account: &'a Account,
    /// Of a poll that has begun.
    bar: Option<Box<dyn Progress>>,
    at: Snapshot,
}

/// Shows what has happened between two looks.
fn show(bar: &dyn Progress, before: Snapshot, now: Snapshot) {
    if now.stage != before.stage {
        bar.stage(now.stage.words());
    }
    if (now.messages, now.octets) != (before.messages, before.octets) {
        bar.planned(now.messages, now.octets);
    }
    if now.received > before.received {
        bar.received(now.received - before.received);
    }
    if now.delivered > before.delivered {
        bar.delivered(now.delivered - before.delivered);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::daemon::control::feed::Stage;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn stage(&self, stage: &'static str) {
            self.0.lock().unwrap().push(stage.into());
        }
        fn planned(&self, messages: usize, octets: u64) {
            self.0.lock().unwrap().push(format!("{messages} of {octets}"));
        }
        fn received(&self, octets: u64) {
            self.0.lock().unwrap().push(format!("+{octets}"));
        }
        fn delivered(&self, messages: usize) {
            self.0.lock().unwrap().push(format!("{messages} more"));
        }
    }

    #[test]
    fn a_bar_hears_what_has_changed_since_the_last_look_and_nothing_twice() {
        let heard = Heard::default();
        let planned =
            Snapshot { stage: Stage::Fetching, messages: 3, octets: 900, received: 0, delivered: 0 };
        let going = Snapshot { received: 400, delivered: 1, ..planned };
        let further = Snapshot { received: 500, ..going };
        for (before, now) in
            [(Snapshot::default(), planned), (planned, going), (going, further), (further, further)]
        {
            show(&heard, before, now);
        }
        assert_eq!(*heard.0.lock().unwrap(), ["fetching", "3 of 900", "+400", "1 more", "+100"]);
    }
}
