//! What of an account's troubles is news: when they begin, when they become others, once a day, and when they are over.
//!
//! One pure function, `news`, for the log, the hooks and the notices.

use std::fmt;
use std::time::Duration;

use log::Level;

use crate::state::{Subject, Timestamp, Told};

/// How often a trouble that lasts is told.
const REMINDER: Timestamp = 24 * 3600;

/// How long a trouble of a kind that was told is not told again when it comes back after it was over: a server that
/// fails every other second is told once an hour.
const RELAPSE: Timestamp = 3600;

/// What a look at something means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// What is to be remembered; `None`: nothing.
    pub told: Option<Told>,
    pub change: Change,
    /// Whether that is to be told.
    pub news: News,
}

/// What became of something that may be in trouble. Whoever acts on changes looks at this; [`News`] is what a log can
/// bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change {
    #[default]
    None,
    Began,
    Ended,
}

/// Whether something is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum News {
    #[default]
    None,
    /// A trouble began, or became another.
    Trouble,
    /// It has lasted for so long, and this is the reminder.
    Reminder(Lasted),
    Over(Lasted),
}

/// How long a trouble lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasted {
    /// Since it was met first.
    pub time: Duration,
    /// How often it was met.
    pub times: u32,
}

/// What is to be remembered, by what it is of.
pub type Changes = Vec<(Subject, Option<Told>)>;

/// Takes note of the same as `news`, among what was told before, and of what is to be remembered from now on.
pub fn note(
    before: &[Told],
    changes: &mut Changes,
    what: Subject,
    kind: Option<&str>,
    now: Timestamp,
) -> (Change, News) {
    let before = before.iter().find(|told| told.what == what);
    let noted = news(before, what, kind, now);
    if noted.told.as_ref() != before {
        changes.push((what, noted.told));
    }
    (noted.change, noted.news)
}

/// Takes note that something is in trouble of a kind, or works, and says what that means.
fn news(before: Option<&Told>, what: Subject, kind: Option<&str>, now: Timestamp) -> Noted {
    match kind {
        Some(kind) => failed(before, what, kind, now),
        None => worked(before, now),
    }
}

fn failed(before: Option<&Told>, what: Subject, kind: &str, now: Timestamp) -> Noted {
    let lasts = before.filter(|told| told.lasts);
    let mut told = Told {
        what,
        // Whoever set the clock back has not begun to fail in the future.
        since: lasts.map_or(now, |told| told.since.min(now)),
        times: lasts.map_or(0, |told| told.times).saturating_add(1),
        lasts: true,
        kinds: before.map(|told| told.kinds.clone()).unwrap_or_default(),
        noticed_at: lasts.and_then(|told| told.noticed_at),
    };
    let lasted = told.lasted(now);
    let news = match told.kinds.iter_mut().find(|(told, _)| told == kind) {
        None => {
            told.kinds.push((kind.into(), now));
            News::Trouble
        }
        Some((_, at)) => {
            let pause = apart(now, *at);
            // It was told of an earlier trouble.
            let is_relapse = (lasts.is_none() || *at < told.since) && pause >= RELAPSE;
            if is_relapse {
                *at = now;
                News::Trouble
            } else if pause >= REMINDER {
                *at = now;
                News::Reminder(lasted)
            } else {
                News::None
            }
        }
    };
    let change = if lasts.is_some() { Change::None } else { Change::Began };
    Noted { told: Some(told), change, news }
}

fn worked(before: Option<&Told>, now: Timestamp) -> Noted {
    let nothing = Noted { told: None, change: Change::None, news: News::None };
    let Some(before) = before else { return nothing };
    let mut told = before.clone();
    told.kinds.retain(|(_, at)| apart(now, *at) < RELAPSE);
    (told.lasts, told.noticed_at) = (false, None);
    let told = (!told.kinds.is_empty()).then_some(told);
    if !before.lasts {
        return Noted { told, ..nothing };
    }
    let was_told = before.kinds.iter().any(|(_, at)| *at >= before.since);
    let news = if was_told { News::Over(before.lasted(now)) } else { News::None };
    Noted { told, change: Change::Ended, news }
}

/// Whoever set the clock back waits no longer than that either.
fn apart(now: Timestamp, at: Timestamp) -> Timestamp {
    Timestamp::try_from(now.abs_diff(at)).unwrap_or(Timestamp::MAX)
}

impl Told {
    fn lasted(&self, now: Timestamp) -> Lasted {
        let time = Duration::from_secs(u64::try_from(now.saturating_sub(self.since)).unwrap_or(0));
        Lasted { time, times: self.times }
    }
}

/// What a poll's end means for its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    pub polls: (Change, News),
    pub held: (Change, News),
    /// Whether to tell of mail that another program left and nothing deletes.
    pub stays: bool,
    /// Messages that nothing tells from others.
    pub nameless: News,
    /// Listings with lines that mean nothing.
    pub garbage: News,
}

/// Gives the level at which something beside polls is told.
pub fn level(news: News) -> Level {
    match news {
        News::Trouble | News::Reminder(_) | News::Over(_) => Level::Warn,
        News::None => Level::Info,
    }
}

impl fmt::Display for Lasted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} polls have failed in {}", self.times, Time(self.time))
    }
}

/// A time that a trouble lasted, for people: `2h 5m`, without the seconds if there are hours.
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let shown = if seconds < 3600 { seconds } else { seconds / 60 * 60 };
        write!(f, "{}", humantime::format_duration(Duration::from_secs(shown)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Timestamp = 3600;
    const DAY: Timestamp = 24 * HOUR;

    /// What is told of one account.
    #[derive(Default)]
    struct Account(Option<Told>);

    impl Account {
        fn note(&mut self, now: Timestamp, kind: Option<&str>) -> Noted {
            let noted = news(self.0.as_ref(), Subject::Polls, kind, now);
            self.0 = noted.told.clone();
            noted
        }

        fn news(&mut self, now: Timestamp, kind: Option<&str>) -> News {
            self.note(now, kind).news
        }
    }

    fn lasted(hours: u64, times: u32) -> Lasted {
        Lasted { time: Duration::from_secs(hours * 3600), times }
    }

    #[test]
    fn a_trouble_is_told_when_it_begins_changes_and_ends_and_once_a_day_between() {
        let mut account = Account::default();
        let (network, refused) = (Some("network"), Some("refused"));
        assert_eq!(account.news(HOUR, None), News::None);
        assert_eq!(account.news(2 * HOUR, network), News::Trouble);
        assert_eq!(account.news(3 * HOUR, network), News::None);
        assert_eq!(account.news(4 * HOUR, refused), News::Trouble);
        assert_eq!(account.news(5 * HOUR, network), News::None, "told before");
        assert_eq!(account.news(26 * HOUR, network), News::Reminder(lasted(24, 5)));
        assert_eq!(account.news(27 * HOUR, network), News::None);
        assert_eq!(account.news(28 * HOUR, None), News::Over(lasted(26, 6)));
        assert_eq!(account.news(29 * HOUR, None), News::None);
        assert_eq!(account.0, None, "nothing is kept of what was told long ago");
    }

    #[test]
    fn a_server_that_fails_every_second_for_a_week_now_so_now_so_fills_no_log() {
        let (mut account, kinds) = (Account::default(), ["network", "refused", "protocol"]);
        let told = (0..7 * DAY).filter(|second| {
            let kind = kinds[usize::try_from(*second).unwrap() % kinds.len()];
            account.news(*second, Some(kind)) != News::None
        });
        assert_eq!(told.count(), 3 * 7);
    }

    #[test]
    fn a_server_that_fails_every_other_second_is_told_once_an_hour() {
        let mut account = Account::default();
        let told = (0..DAY)
            .filter(|second| account.news(*second, (second % 2 == 0).then_some("network")) != News::None);
        let told = told.count();
        assert!((40..=50).contains(&told), "{told}");
    }

    #[test]
    fn every_change_is_known_whether_it_is_told_or_not() {
        let mut account = Account::default();
        let mut change = |at, kind| account.note(at, kind).change;
        assert_eq!(change(0, None), Change::None);
        assert_eq!(change(1, Some("network")), Change::Began);
        assert_eq!(change(3, Some("refused")), Change::None);
        assert_eq!(change(5, None), Change::Ended);
        assert_eq!(change(6, Some("network")), Change::Began);
        assert_eq!(change(8, None), Change::Ended);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nothing_for_longer_than_a_day() {
        let mut account = Account::default();
        account.news(365 * DAY, Some("network"));
        assert!(matches!(account.news(DAY, Some("network")), News::Reminder(_)));
        assert_eq!(account.news(DAY + HOUR, Some("network")), News::None);
        assert!(matches!(account.news(2 * DAY, Some("network")), News::Reminder(_)));
    }

    #[test]
    fn how_long_a_trouble_lasted_is_told_as_people_say_it() {
        let told = [59, 125, 3661, 90_061].map(|seconds| Time(Duration::from_secs(seconds)).to_string());
        assert_eq!(told, ["59s", "2m 5s", "1h 1m", "1day 1h 1m"]);
    }
}
