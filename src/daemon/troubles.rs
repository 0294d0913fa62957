//! What is wrong with which account: told when it begins, when its kind changes, once a day, and when it is over.

use std::collections::HashMap;
use std::time::Duration;

use crate::failure::Class;
use crate::session::Report;

/// How often a trouble that lasts is told.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

/// The accounts whose last poll failed.
#[derive(Debug, Default)]
pub struct Troubles(HashMap<String, Trouble>);

#[derive(Debug)]
struct Trouble {
    since: Duration,
    polls: u64,
    /// The kinds that were told, and when. A server that fails now so, now so, does not fill the log either.
    told: Vec<(Class, Duration)>,
}

/// Whether a poll's end is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It went as the one before.
    None,
    /// A trouble began, or became another.
    Trouble,
    /// It has lasted for so long, and this is the reminder.
    Reminder {
        /// Since the first poll that failed.
        lasted: Duration,
        /// Polls that failed.
        polls: u64,
    },
    /// It is over.
    Over {
        /// Since the first poll that failed.
        lasted: Duration,
        /// Polls that failed.
        polls: u64,
    },
}

impl Troubles {
    /// Takes note of how a poll ended, and says what is to be told of it.
    pub fn note(&mut self, now: Duration, report: &Report) -> News {
        let Some(failure) = &report.failure else {
            return match self.0.remove(&report.account) {
                None => News::None,
                Some(Trouble { since, polls, .. }) => News::Over { lasted: now.saturating_sub(since), polls },
            };
        };
        // Whoever stopped it knows.
        if failure.class == Class::Stopped {
            return News::None;
        }
        let trouble = self.0.entry(report.account.clone());
        let trouble = trouble.or_insert(Trouble { since: now, polls: 0, told: Vec::new() });
        trouble.polls += 1;
        match trouble.told.iter_mut().find(|(class, _)| *class == failure.class) {
            None => {
                trouble.told.push((failure.class, now));
                News::Trouble
            }
            Some((_, told)) if now.saturating_sub(*told) >= REMINDER => {
                *told = now;
                News::Reminder { lasted: now.saturating_sub(trouble.since), polls: trouble.polls }
            }
            Some(_) => News::None,
        }
    }

    /// Forgets the accounts that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|account, _| wanted(account));
    }

    /// Counts the accounts in trouble.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ended(class: Option<Class>) -> Report {
        let failure = |class| Failure {
            account: "home".into(),
            host: String::new(),
            doing: String::new(),
            class,
            what: String::new(),
            said: None,
            hint: None,
        };
        Report { account: "home".into(), failure: class.map(failure), ..Report::default() }
    }

    #[test]
    fn a_trouble_is_told_when_it_begins_changes_and_ends_and_once_a_day_between() {
        let mut troubles = Troubles::default();
        let (network, refused) = (ended(Some(Class::Network)), ended(Some(Class::Refused)));
        assert_eq!(troubles.note(HOUR, &ended(None)), News::None);
        assert_eq!(troubles.note(2 * HOUR, &network), News::Trouble);
        assert_eq!(troubles.note(3 * HOUR, &network), News::None);
        assert_eq!(troubles.note(4 * HOUR, &refused), News::Trouble);
        assert_eq!(troubles.note(5 * HOUR, &network), News::None, "told before");
        assert_eq!(troubles.note(6 * HOUR, &ended(Some(Class::Stopped))), News::None);
        assert_eq!(troubles.count(), 1);
        assert_eq!(troubles.note(26 * HOUR, &network), News::Reminder { lasted: 24 * HOUR, polls: 5 });
        assert_eq!(troubles.note(27 * HOUR, &network), News::None);
        assert_eq!(troubles.note(28 * HOUR, &ended(None)), News::Over { lasted: 26 * HOUR, polls: 6 });
        assert_eq!(troubles.note(29 * HOUR, &ended(None)), News::None);
        assert_eq!(troubles.count(), 0);
    }

    #[test]
    fn a_server_that_fails_every_second_for_a_week_now_so_now_so_fills_no_log() {
        let mut troubles = Troubles::default();
        let kinds = [Class::Network, Class::Refused, Class::Protocol].map(|class| ended(Some(class)));
        let news = (0..7 * 24 * 3600).filter(|second| {
            let report = &kinds[*second as usize % kinds.len()];
            troubles.note(Duration::from_secs(*second), report) != News::None
        });
        assert_eq!(news.count(), 3 * 7);
    }
}
