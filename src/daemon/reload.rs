//! What the daemon's loop takes over: a configuration that is read again, and what the state file knows of earlier polls.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::schedule::Past;
use super::{Daemon, shared};
use crate::config::{Config, ConfigError};
use crate::failure::Class;
use crate::logging;
use crate::net::Connector;
use crate::pop3::Capabilities;
use crate::session;
use crate::session::summary::{self, Took};
use crate::state::{LastPoll, Timestamp};

/// How long the state file may take to say how the last polls ended.
const RECALLING: Duration = Duration::from_secs(5);

impl Daemon {
    /// Reads the configuration again. Sessions go on with what they were begun with.
    pub(super) async fn reload(&mut self, read: impl Fn() -> Result<Config, ConfigError>, clock: &Clock) {
        self.systemd.reloading();
        let unchanged = "nothing was changed; the daemon goes on as before";
        match read() {
            // What is recorded there, and who may poll, belongs to the file.
            Ok(config) if config.state != self.environment.state => {
                let (new, old) = (config.state.display(), self.environment.state.display());
                log::error!(
                    "cannot go on with the state file {new} in place of {old}\n  hint: {unchanged}; restart it"
                );
            }
            Ok(config) => self.take_over(config, clock).await,
            Err(error) => log::error!("{error}\n  hint: {unchanged}"),
        }
        self.systemd.ready();
    }

    async fn take_over(&mut self, config: Config, clock: &Clock) {
        let now = clock.now();
        if self.state_failed {
            self.open_state(now);
        }
        self.environment.connector = Connector::default();
        self.environment.notify = Some(config.notify.unwrap_or_default());
        self.certificates_read = now;
        let accounts = shared(config.accounts);
        let fresh = self.schedule.set_accounts(now, &accounts, config.daemon);
        let wanted = |name: &str| accounts.iter().any(|account| account.name == name && account.enabled);
        self.failing.retain(|name| wanted(name));
        self.set_metrics(config.metrics_file);
        self.recall(clock, fresh).await;
        log::warn!("read the configuration again: {}", summary::accounts(self.schedule.accounts()));
    }

    /// Takes over what the state file knows of earlier polls, so that neither a restart nor a reload ends a backoff or a
    /// LOGIN-DELAY of these accounts.
    pub(super) async fn recall(&mut self, clock: &Clock, fresh: HashSet<Arc<str>>) {
        if fresh.is_empty() && self.metrics.is_none() {
            return;
        }
        let mut stop = self.environment.stop.clone();
        let polls = tokio::select! {
            polls = tokio::time::timeout(RECALLING, self.environment.store.last_polls()) => polls,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let polls = match polls {
            Ok(Ok(polls)) => polls,
            // Each poll is going to meet it, and tells it.
            Ok(Err(error)) => return log::debug!("{error}"),
            Err(_) => return log::debug!("nothing is known of earlier polls: the state file is slow"),
        };
        let polls: HashMap<_, _> = polls.iter().map(|poll| (poll.maildrop.as_str(), poll)).collect();
        let accounts: Vec<_> = self.schedule.all().cloned().collect();
        for account in accounts {
            let Some(poll) = polls.get(account.maildrop_id.as_str()) else { continue };
            if let (Some(metrics), Some(last_success)) = (&mut self.metrics, poll.last_success) {
                metrics.recall(&account.name, last_success.min(session::now()));
            }
            // What another server was like says nothing of this one.
            let same_server = poll.host.eq_ignore_ascii_case(&account.server());
            if !same_server || !fresh.contains(account.name.as_str()) {
                continue;
            }
            let now = clock.now();
            if let Some(next) = self.schedule.recall(now, &account.name, past(poll, session::now()))
                && poll.failures > 0
            {
                let failed = match poll.failures {
                    1 => "1 poll has".into(),
                    failures => format!("{failures} polls have"),
                };
                let wait = Took(next.saturating_sub(now));
                logging::about(&account.name, || log::info!("{failed} failed before; next poll in {wait}"));
            }
        }
    }
}

/// Says what a poll of an earlier process means for the schedule.
fn past(poll: &LastPoll, now: Timestamp) -> Past {
    // A poll to come was noted by a clock that was wrong: nothing is waited for.
    let ago = u64::try_from(now.saturating_sub(poll.at)).unwrap_or(u64::MAX);
    let capabilities = poll.capabilities.as_deref().map(Capabilities::from_octets);
    Past {
        ago: Duration::from_secs(ago),
        class: poll.class.as_deref().and_then(Class::named),
        failures: poll.failures,
        login_delay: capabilities.and_then(|capabilities| capabilities.login_delay()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_a_wrong_clock_noted_keeps_nobody_waiting() {
        let poll = |at| LastPoll {
            maildrop: String::new(),
            at,
            host: String::new(),
            class: Some("network".into()),
            failures: 9,
            last_success: None,
            capabilities: None,
        };
        assert_eq!(past(&poll(990), 1000).ago, Duration::from_secs(10));
        assert_eq!(past(&poll(1001), 1000).ago, Duration::from_secs(u64::MAX));
    }
}
