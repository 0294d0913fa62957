//! Polls accounts concurrently: one's failure, or a defect met by one, never keeps another from being polled.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use tokio::task::{Id, JoinSet};

use super::CliError;
use super::exit::Exit;
use super::progress::{self, Bars};
use crate::config::{Account, Config, Hosts, SessionLimits};
use crate::daemon::schedule::queue::Queue;
use crate::daemon::signals;
use crate::failure::Class;
use crate::logging;
use crate::session::{self, Audience, Environment, Report, Retry, Task};
use crate::stop::{SETTLING, Stop};

/// Polls accounts of a configuration once, as many at a time as it allows, and tells each failure on standard error as
/// it happens. `ended` hears of each account as it ends; the reports come in the order of the accounts.
///
/// # Errors
///
/// The state cannot be used.
pub async fn accounts(
    accounts: &[Arc<Account>],
    config: &Config,
    task: Task,
    bars: Bars,
    mut ended: impl FnMut(&Report),
) -> Result<Vec<Report>, CliError> {
    let stop = signals::stop(Exit::LATER.number());
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let environment = Environment {
        stop: stop.clone(),
        ask: progress::ask(),
        notify: config.notify,
        ..Environment::of_config(config).await?
    };
    let disk = environment.disk.clone();
    let session = move |account: Arc<Account>| {
        let (environment, bar) = (environment.clone(), bars.of(&account));
        async move { session::run(&account, &environment, task, &*bar).await }
    };
    // Who wants a log-in tried now is there to read what came of it, be it by a line to another machine.
    let is_person = io::stderr().is_terminal() || task.retry() == Retry::Now;
    let audience = if is_person { Audience::Person } else { Audience::Log };
    let reports = concurrently(accounts, (config.daemon, &config.hosts), stop, session, |report| {
        session::log_report(report, audience);
        ended(report);
    })
    .await;
    // Messages that were given up are still being removed from `tmp`.
    let _ = tokio::time::timeout(SETTLING, disk.settled()).await;
    log_stopped(&reports);
    Ok(reports)
}

/// Logs in one line which sessions a signal ended, however many they were.
fn log_stopped(reports: &[Report]) {
    let stopped =
        |report: &&Report| report.failure.as_ref().is_some_and(|failure| failure.class == Class::Stopped);
    let stopped: Vec<_> = reports.iter().filter(stopped).map(|report| report.account.as_str()).collect();
    let (named, more) = stopped.split_at(stopped.len().min(5));
    if !named.is_empty() {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        log::error!("stopped by a signal before the end of {}{more}; nothing is lost", named.join(", "));
    }
}

/// Runs a session for each account, as many at a time as may be. Of the daemon's schedule only the queue is needed: here
/// everything is due once, at once and in the order of the accounts, and nothing is due again.
async fn concurrently<S, F>(
    accounts: &[Arc<Account>],
    (limits, hosts): (SessionLimits, &Hosts),
    stop: Stop,
    session: S,
    mut ended: impl FnMut(&Report),
) -> Vec<Report>
where
    S: Fn(Arc<Account>) -> F + Send + Sync + 'static,
    F: Future<Output = Report> + Send + 'static,
{
    let session = Arc::new(session);
    let mut queue = Queue::new(limits.max_sessions_per_host);
    queue.set_hosts(hosts.clone());
    let hosts: Vec<Arc<str>> = accounts.iter().map(|of| of.host.to_ascii_lowercase().into()).collect();
    for (index, host) in hosts.iter().enumerate() {
        queue.push(host, index);
    }
    let mut sessions = JoinSet::new();
    let mut running: HashMap<Id, usize> = HashMap::new();
    let mut reports: Vec<Option<Report>> = accounts.iter().map(|_| None).collect();
    loop {
        while running.len() < limits.max_sessions.max(1)
            && let Some(index) = queue.take()
        {
            let (session, stop, account) = (session.clone(), stop.clone(), accounts[index].clone());
            let handle = sessions.spawn(async move {
                match stop.is_asked() {
                    true => Report::not_begun(&account),
                    false => logging::of_account(account.name.as_str().into(), session(account)).await,
                }
            });
            running.insert(handle.id(), index);
        }
        let (id, report) = match sessions.join_next_with_id().await {
            Some(Ok((id, report))) => (id, Ok(report)),
            Some(Err(error)) => (error.id(), Err(error)),
            None => break,
        };
        let index = running.remove(&id).expect("each task was entered when it was spawned");
        queue.release(&hosts[index]);
        let report = report.unwrap_or_else(|error| Report::defect(&accounts[index], &error));
        ended(&report);
        reports[index] = Some(report);
    }
    reports.into_iter().map(|report| report.expect("each task was joined")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::cli::Exit;
    use crate::config::Target;
    use crate::config::account::Interval;

    pub(in crate::cli) fn account(name: &str, host: &str) -> Arc<Account> {
        Arc::new(Account {
            host: host.into(),
            user: name.into(),
            maildrop_id: format!("{name}@{host}"),
            interval: Interval::Manual,
            deliver: vec![Target::Maildir("/nowhere".into()).into()],
            ..Account::new(name)
        })
    }

    fn limits(max_sessions: usize, max_sessions_per_host: usize) -> SessionLimits {
        SessionLimits { max_sessions, max_sessions_per_host, startup_spread: std::time::Duration::ZERO }
    }

    fn fine(account: &Account) -> Report {
        Report { account: account.name.clone(), ..Report::default() }
    }

    /// Polls 24 accounts of three hosts and gives the most sessions seen at once: of all, of one host.
    async fn most_at_once(limits: SessionLimits) -> (usize, usize) {
        static HOSTS: [&str; 3] = ["a.example", "A.Example", "b.example"];
        let accounts: Vec<_> = (0..24).map(|i| account(&i.to_string(), HOSTS[i % 3])).collect();
        let now = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
        let most = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let session = {
            let (now, most) = (now.clone(), most.clone());
            move |account: Arc<Account>| {
                let (now, most) = (now.clone(), most.clone());
                async move {
                    let host = account.host.to_ascii_lowercase();
                    {
                        let mut now = now.lock().unwrap();
                        *now.entry(host.clone()).or_default() += 1;
                        most.0.fetch_max(now.values().sum(), Ordering::Relaxed);
                        most.1.fetch_max(now[&host], Ordering::Relaxed);
                    }
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    *now.lock().unwrap().get_mut(&host).unwrap() -= 1;
                    fine(&account)
                }
            }
        };
        let reports =
            concurrently(&accounts, (limits, &Hosts::default()), Stop::default(), session, |_| ()).await;
        assert_eq!(reports.len(), 24);
        (most.0.load(Ordering::Relaxed), most.1.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn sessions_stay_within_both_limits_and_reach_them() {
        assert_eq!(most_at_once(limits(5, 4)).await, (5, 4));
        assert_eq!(most_at_once(limits(64, 4)).await, (8, 4), "the case of a host's name does not matter");
        assert_eq!(most_at_once(limits(64, 64)).await, (24, 16));
        assert_eq!(most_at_once(limits(usize::MAX, 0)).await, (2, 1));
    }

    #[tokio::test]
    async fn an_account_that_panics_does_not_keep_the_others_from_being_polled() {
        let accounts = ["one", "two", "three"].map(|name| account(name, "pop.example.org"));
        let session = |account: Arc<Account>| async move {
            assert_ne!(account.name, "two", "a defect");
            fine(&account)
        };
        let mut heard = Vec::new();
        let ended = |report: &Report| heard.push(report.account.clone());
        let reports =
            concurrently(&accounts, (limits(64, 1), &Hosts::default()), Stop::default(), session, ended)
                .await;
        let names: Vec<_> = reports.iter().map(|report| report.account.as_str()).collect();
        assert_eq!(names, ["one", "two", "three"], "reports come in the order of the accounts");
        heard.sort();
        assert_eq!(heard, ["one", "three", "two"]);
        assert!(reports[0].failure.is_none() && reports[2].failure.is_none());
        let failure = reports[1].failure.as_ref().unwrap();
        assert_eq!(failure.class, Class::Internal);
        assert!(
            failure.to_string().starts_with("two: pop.example.org:995: poll: ended by an internal error")
        );
    }

    #[tokio::test]
    async fn accounts_that_wait_their_turn_are_not_begun_after_a_stop() {
        let accounts = ["one", "two"].map(|name| account(name, "pop.example.org"));
        let (stopper, stop) = crate::stop::channel();
        let stopper = Arc::new(stopper);
        let session = move |account: Arc<Account>| {
            let stopper = stopper.clone();
            async move {
                assert!(!stopper.stop(), "a session began after the stop");
                fine(&account)
            }
        };
        let reports = concurrently(&accounts, (limits(1, 1), &Hosts::default()), stop, session, |_| ()).await;
        assert!(reports[0].failure.is_none());
        assert_eq!(reports[1].failure.as_ref().unwrap().class, Class::Stopped);
        assert_eq!(Exit::of(&reports), Exit::LATER);
    }
}
