//! What is wrong with which account: told when it begins, when its kind changes, once a day, and when it is over.

use std::collections::HashMap;
use std::time::Duration;

use crate::failure::Class;
use crate::session::Report;

/// How often a trouble that lasts is told.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

/// How long a trouble of a kind that was told is not told again when it comes back after a success: a server that
/// fails every other second is told once an hour.
const RELAPSE: Duration = Duration::from_secs(3600);

/// The accounts whose last poll failed, or that were told of lately.
#[derive(Debug, Default)]
pub struct Troubles(HashMap<String, Account>);

#[derive(Debug, Default)]
struct Account {
    trouble: Option<Trouble>,
    /// The kinds that were told, and when. A server that fails now so, now so, does not fill the log either.
    told: Vec<(Class, Duration)>,
}

/// Since when polls have failed, and how many.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Duration,
    polls: u64,
}

/// What a poll's end means for its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// What became of the account.
    pub change: Change,
    /// Whether it is to be told.
    pub news: News,
}

/// What became of an account. Whoever acts on changes looks at this; [`News`] is what a log can bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It works, as before; or nothing is known, since the process was asked to end.
    None,
    /// It fails: since the first poll that did, and so many of them; 1 is the change from working.
    Failing {
        /// Since the first poll that failed.
        lasted: Duration,
        /// Polls that failed.
        polls: u64,
    },
    /// It works again.
    Recovered {
        /// Since the first poll that failed.
        lasted: Duration,
        /// Polls that failed.
        polls: u64,
    },
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
    /// Takes note of how a poll ended, and says what that means.
    pub fn note(&mut self, now: Duration, report: &Report) -> Noted {
        match &report.failure {
            None => self.succeeded(now, &report.account),
            // Whoever stopped it knows.
            Some(failure) if failure.class == Class::Stopped => {
                Noted { change: Change::None, news: News::None }
            }
            Some(failure) => self.failed(now, &report.account, failure.class),
        }
    }

    fn succeeded(&mut self, now: Duration, name: &str) -> Noted {
        let nothing = Noted { change: Change::None, news: News::None };
        let Some(account) = self.0.get_mut(name) else { return nothing };
        let ended = account.trouble.take();
        let was_told =
            ended.is_some_and(|trouble| account.told.iter().any(|(_, told)| *told >= trouble.since));
        account.told.retain(|(_, told)| now.saturating_sub(*told) < RELAPSE);
        if account.told.is_empty() {
            self.0.remove(name);
        }
        let Some(Trouble { since, polls }) = ended else { return nothing };
        let lasted = now.saturating_sub(since);
        let news = if was_told { News::Over { lasted, polls } } else { News::None };
        Noted { change: Change::Recovered { lasted, polls }, news }
    }

    fn failed(&mut self, now: Duration, name: &str, class: Class) -> Noted {
        let account = self.0.entry(name.to_owned()).or_default();
        let trouble = account.trouble.get_or_insert(Trouble { since: now, polls: 0 });
        trouble.polls += 1;
        let Trouble { since, polls } = *trouble;
        let lasted = now.saturating_sub(since);
        let news = match account.told.iter_mut().find(|(told, _)| *told == class) {
            None => {
                account.told.push((class, now));
                News::Trouble
            }
            // It was told of an earlier trouble.
            Some((_, told)) if *told < since && now.saturating_sub(*told) >= RELAPSE => {
                *told = now;
                News::Trouble
            }
            Some((_, told)) if now.saturating_sub(*told) >= REMINDER => {
                *told = now;
                News::Reminder { lasted, polls }
            }
            Some(_) => News::None,
        };
        Noted { change: Change::Failing { lasted, polls }, news }
    }

    /// Forgets the accounts that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|account, _| wanted(account));
    }

    /// Counts the accounts in trouble.
    pub fn count(&self) -> usize {
        self.0.values().filter(|account| account.trouble.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ended(class: Option<Class>) -> Report {
        match class {
            Some(class) => Report::failed("home", class),
            None => Report { account: "home".into(), ..Report::default() },
        }
    }

    fn news(troubles: &mut Troubles, now: Duration, report: &Report) -> News {
        troubles.note(now, report).news
    }

    #[test]
    fn a_trouble_is_told_when_it_begins_changes_and_ends_and_once_a_day_between() {
        let mut troubles = Troubles::default();
        let (network, refused) = (ended(Some(Class::Network)), ended(Some(Class::Refused)));
        assert_eq!(news(&mut troubles, HOUR, &ended(None)), News::None);
        assert_eq!(news(&mut troubles, 2 * HOUR, &network), News::Trouble);
        assert_eq!(news(&mut troubles, 3 * HOUR, &network), News::None);
        assert_eq!(news(&mut troubles, 4 * HOUR, &refused), News::Trouble);
        assert_eq!(news(&mut troubles, 5 * HOUR, &network), News::None, "told before");
        assert_eq!(news(&mut troubles, 6 * HOUR, &ended(Some(Class::Stopped))), News::None);
        assert_eq!(troubles.count(), 1);
        assert_eq!(news(&mut troubles, 26 * HOUR, &network), News::Reminder { lasted: 24 * HOUR, polls: 5 });
        assert_eq!(news(&mut troubles, 27 * HOUR, &network), News::None);
        assert_eq!(news(&mut troubles, 28 * HOUR, &ended(None)), News::Over { lasted: 26 * HOUR, polls: 6 });
        assert_eq!(news(&mut troubles, 29 * HOUR, &ended(None)), News::None);
        assert_eq!(troubles.count(), 0);
    }

    #[test]
    fn a_server_that_fails_every_second_for_a_week_now_so_now_so_fills_no_log() {
        let mut troubles = Troubles::default();
        let kinds = [Class::Network, Class::Refused, Class::Protocol].map(|class| ended(Some(class)));
        let news = (0..7 * 24 * 3600).filter(|second| {
            let report = &kinds[*second as usize % kinds.len()];
            news(&mut troubles, Duration::from_secs(*second), report) != News::None
        });
        assert_eq!(news.count(), 3 * 7);
    }

    #[test]
    fn a_server_that_fails_every_other_second_is_told_once_an_hour() {
        let mut troubles = Troubles::default();
        let (fails, works) = (ended(Some(Class::Network)), ended(None));
        let day = 24 * 3600;
        let told = (0..day).filter(|second| {
            let report = if second % 2 == 0 { &fails } else { &works };
            news(&mut troubles, Duration::from_secs(*second), report) != News::None
        });
        let told = told.count();
        assert!((40..=50).contains(&told), "{told}");
        assert_eq!(troubles.count(), 0);
        news(&mut troubles, Duration::from_secs(day + 7200), &works);
        assert!(troubles.0.is_empty(), "nothing is kept of what was told long ago");
    }

    #[test]
    fn every_change_of_state_is_known_whether_it_is_told_or_not() {
        let mut troubles = Troubles::default();
        let (fails, works, stopped) = (ended(Some(Class::Network)), ended(None), ended(Some(Class::Stopped)));
        let second = Duration::from_secs;
        let mut change = |at, report| troubles.note(second(at), report).change;
        assert_eq!(change(0, &works), Change::None);
        assert_eq!(change(1, &fails), Change::Failing { lasted: second(0), polls: 1 });
        assert_eq!(change(3, &fails), Change::Failing { lasted: second(2), polls: 2 });
        assert_eq!(change(5, &works), Change::Recovered { lasted: second(4), polls: 2 });
        assert_eq!(change(6, &fails), Change::Failing { lasted: second(0), polls: 1 });
        assert_eq!(change(7, &stopped), Change::None);
        assert_eq!(change(8, &works), Change::Recovered { lasted: second(2), polls: 1 });
    }
}
