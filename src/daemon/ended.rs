//! What follows the end of a session: its account's next turn, what is told of it, what is shown.

use std::time::Duration;

use log::Level;
use tokio::task::{Id, JoinError};

use super::Daemon;
use super::schedule::{Ended, LogIn, Start};
use crate::failure::Class;
use crate::logging;
use crate::session::summary::{Took, synced};
use crate::session::{self, Audience, Report};

/// How often certificates are read again after a TLS failure: in months they change under a process.
const CERTIFICATES: Duration = Duration::from_secs(3600);

impl Daemon {
    pub(super) fn session_ended(&mut self, now: Duration, joined: Result<(Id, Report), JoinError>) {
        let (id, report) = match joined {
            Ok((id, report)) => (id, Ok(report)),
            Err(error) => (error.id(), Err(error)),
        };
        let start = self.running.remove(&id).expect("each task was entered when it was spawned");
        let report = report.unwrap_or_else(|error| Report::defect(&start.account, &error));
        let log_in =
            LogIn { after: report.logged_in, delay: report.login_delay, refused_for: report.refused_for };
        let how = ended(&start, &report);
        let next = match &mut self.fleet {
            Some(fleet) => fleet.ended(id, how, log_in, &report).map(|wait| now.saturating_add(wait)),
            None => self.schedule.ended(now, &report.account, how, log_in),
        };
        self.tell_the_schedule(now);
        self.tell(now, &report, next);
        if let Some(view) = &self.view {
            view.note(&report);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.changed();
        }
        let is_of_tls = report.failure.as_ref().is_some_and(|failure| failure.class == Class::Tls);
        if is_of_tls && now.saturating_sub(self.certificates_read) >= CERTIFICATES {
            self.environment.read_certificates();
            self.certificates_read = now;
        }
    }

    /// Tells what is news to everybody, and the rest to those who asked for more.
    fn tell(&mut self, now: Duration, report: &Report, next: Option<Duration>) {
        if self.tell_what_befell(report) {
            return;
        }
        match &report.failure {
            None => drop(self.failing.remove(&report.account)),
            // Whoever stopped it knows.
            Some(failure) if failure.class == Class::Stopped => {}
            Some(_) => drop(self.failing.insert(report.account.clone())),
        }
        session::log_report(report, Audience::Log);
        logging::about(&report.account, || {
            if log::log_enabled!(Level::Info) {
                let next = match next {
                    Some(next) => format!("next poll in {}", Took(next.saturating_sub(now))),
                    None => "next poll when asked for".into(),
                };
                log::info!("{}; {next}", synced(report));
            }
        });
    }
}

/// Says how a session ended, as far as its account's next turn depends on it.
fn ended(start: &Start, report: &Report) -> Ended {
    // That one of several targets fails is no reason to let the others wait.
    if let Some(failure) = report.failure.as_ref().filter(|_| !report.serves_others) {
        return Ended::Failed(failure.class);
    }
    match start.messages {
        // What the account's own limit leaves waits for its next poll. Where nothing was settled, such as nameless
        // messages that all fail, going on at once would meet the same ones.
        Some(turn)
            if report.beyond > 0
                && report.settled > 0
                && report.login_delay.is_none_or(|delay| delay.is_zero())
                && start.account.max_messages.is_none_or(|max| max > turn) =>
        {
            Ended::Unfinished
        }
        Some(_) | None => Ended::Complete,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Account, Config};

    fn start(messages: Option<usize>, max_messages: Option<usize>) -> Start {
        let yaml =
            "accounts: { a: { host: a.example, user: a, password: x, deliver: { maildir: /nowhere } } }";
        let config = Config::from_yaml(yaml, std::path::Path::new("config.yaml")).unwrap();
        let account = config.accounts.into_iter().next().unwrap();
        Start { account: Arc::new(Account { max_messages, ..account }), messages }
    }

    #[test]
    fn only_a_session_that_its_turn_cut_short_goes_on_at_once() {
        let report = |settled, beyond| Report { settled, beyond, left: beyond + 7, ..Report::default() };
        for (start, report, expected) in [
            (start(Some(1000), None), report(1000, 1), Ended::Unfinished),
            (start(Some(1000), Some(2000)), report(1000, 1), Ended::Unfinished),
            // Everything was fetched; those that are left are too large.
            (start(Some(1000), None), report(1000, 0), Ended::Complete),
            // It would meet the same ones again.
            (start(Some(1000), None), report(0, 1), Ended::Complete),
            // The user wants no more a poll.
            (start(Some(1000), Some(1000)), report(1000, 1), Ended::Complete),
            (start(None, Some(10)), report(10, 1), Ended::Complete),
            // It was not its turn that was over.
            (
                start(Some(50), Some(100)),
                Report { login_delay: Some(Duration::from_secs(9)), ..report(100, 1) },
                Ended::Complete,
            ),
            (start(None, None), Report::failed("a", Class::Target), Ended::Failed(Class::Target)),
            // Other targets have theirs.
            (
                start(None, None),
                Report { serves_others: true, ..Report::failed("a", Class::Target) },
                Ended::Complete,
            ),
        ] {
            assert_eq!(ended(&start, &report), expected, "{start:?} {report:?}");
        }
    }
}
