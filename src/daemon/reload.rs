//! What the daemon's loop takes over: a configuration that is read again, and what the state file knows of earlier polls.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::fleet::Table;
use super::schedule::Past;
use super::{Daemon, DaemonError, are_shared, fleet, shared};
use crate::config::{Config, ConfigError};
use crate::failure::Class;
use crate::logging;
use crate::session::summary::{self, Took};
use crate::session::{self, Environment};
use crate::state::postgres::Server;
use crate::state::{Maildrop, Timestamp};

/// How long the state file may take to say how the last polls ended.
const RECALLING: Duration = Duration::from_secs(5);

impl Daemon {
    /// Reads the configuration again. Sessions go on with what they were begun with.
    pub(super) async fn reload(&mut self, read: impl Fn() -> Result<Config, ConfigError>, clock: &Clock) {
        self.systemd.reloading();
        let unchanged = "nothing was changed; the daemon goes on as before";
        match read() {
            Ok(config) if self.is_of_another_database(&config) => {
                log::error!("cannot go on with another database\n  hint: {unchanged}; restart it");
            }
            // What is recorded there, and who may poll, belongs to the file.
            Ok(config) if config.state != self.environment.state => {
                let (new, old) = (config.state.display(), self.environment.state.display());
                log::error!(
                    "cannot go on with the state file {new} in place of {old}\n  hint: {unchanged}; restart it"
                );
            }
            Ok(config) => match self.environment_of(&config).await {
                Ok(environment) => {
                    self.table = environment.roll(&config).map(Table::new);
                    self.environment = environment;
                    self.take_over(config, clock).await;
                }
                Err(error) => log::error!("{error}\n  hint: {unchanged}"),
            },
            Err(error) => log::error!("{error}\n  hint: {unchanged}"),
        }
        self.systemd.ready();
    }

    fn is_of_another_database(&self, config: &Config) -> bool {
        let url = config.database.as_ref().map(|database| database.url.as_str());
        self.environment.store.server().map(Server::url) != url
    }

    /// Gives what sessions have by a configuration, which workers can share.
    async fn environment_of(&self, config: &Config) -> Result<Environment, DaemonError> {
        if self.fleet.is_some() {
            are_shared(config)?;
        }
        Ok(self.environment.again(config).await?)
    }

    async fn take_over(&mut self, config: Config, clock: &Clock) {
        let now = clock.now();
        self.environment.read_certificates();
        self.environment.notify = Some(config.notify.unwrap_or_default());
        self.certificates_read = now;
        let accounts = shared(config.accounts);
        let limits = fleet::limits(&config.daemon, &config.hosts);
        self.schedule.set_hosts(config.hosts);
        let (accounts, fresh) = match &mut self.fleet {
            Some(fleet) => {
                match &self.table {
                    Some(_) => fleet.await_rows(),
                    None => fleet.read_no_table(),
                }
                fleet.set_accounts(&accounts, limits);
                (fleet.accounts().cloned().collect(), HashSet::new())
            }
            None => {
                let fresh = self.schedule.set_accounts(now, &accounts, config.daemon);
                (accounts, fresh)
            }
        };
        let enabled = accounts.iter().filter(|account| account.enabled).count();
        self.forget_failures(&accounts);
        self.show(&accounts, config.metrics_file, &config.status_listen).await;
        self.recall(clock, fresh).await;
        log::warn!("read the configuration again: {}", summary::accounts(enabled));
    }

    /// Takes over what the state file knows of earlier polls, so that neither a restart nor a reload ends a backoff or a
    /// LOGIN-DELAY of these accounts.
    pub(super) async fn recall(&mut self, clock: &Clock, fresh: HashSet<Arc<str>>) {
        if fresh.is_empty() {
            return;
        }
        let known = tokio::select! {
            known = tokio::time::timeout(RECALLING, self.environment.store.maildrops()) => known,
            () = self.environment.stop.asked() => return,
        };
        let known = match known {
            Ok(Ok(known)) => known,
            // Each poll is going to meet it, and tells it.
            Ok(Err(error)) => return log::debug!("{error}"),
            Err(_) => return log::debug!("nothing is known of earlier polls: the state file is slow"),
        };
        let known: HashMap<_, _> =
            known.iter().map(|maildrop| (maildrop.identity.as_str(), maildrop)).collect();
        let accounts: Vec<_> = self.schedule.all().cloned().collect();
        for account in accounts {
            let Some(known) = known.get(account.maildrop_id.as_str()) else { continue };
            let Some(past) = past(known, &account.server(), session::now()) else { continue };
            if !fresh.contains(account.name.as_str()) {
                continue;
            }
            let now = clock.now();
            if let Some(next) = self.schedule.recall(now, &account.name, past)
                && known.failures > 0
            {
                let failed = match known.failures {
                    1 => "1 poll has".into(),
                    failures => format!("{failures} polls have"),
                };
                let wait = Took(next.saturating_sub(now));
                logging::about(&account.name, || log::info!("{failed} failed before; next poll in {wait}"));
            }
        }
    }
}

/// Says what the last poll of an earlier process means for the schedule. What another server was like says nothing of
/// this one.
fn past(known: &Maildrop, server: &str, now: Timestamp) -> Option<Past> {
    let (at, poll) = known.last.as_ref().filter(|(_, poll)| poll.host.eq_ignore_ascii_case(server))?;
    // A poll to come was noted by a clock that was wrong: nothing is waited for.
    let ago = u64::try_from(now.saturating_sub(*at)).unwrap_or(u64::MAX);
    Some(Past {
        ago: Duration::from_secs(ago),
        class: poll.failure.as_ref().and_then(|(class, _)| Class::named(class)),
        failures: known.failures,
        login_delay: session::login_delay(known),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::PollResult;

    #[test]
    fn a_poll_that_a_wrong_clock_noted_keeps_nobody_waiting() {
        let poll = |at| {
            let last = PollResult { host: "h:995".into(), ..PollResult::default() };
            Maildrop { last: Some((at, last)), failures: 9, ..Maildrop::default() }
        };
        let ago = |at| past(&poll(at), "H:995", 1000).unwrap().ago;
        assert_eq!(ago(990), Duration::from_secs(10));
        assert_eq!(ago(1001), Duration::from_secs(u64::MAX));
    }
}
