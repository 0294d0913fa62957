//! What is told of how a poll ended, as far as it is news.
//!
//! One memory, in the state, so that a `sync` from cron tells as little as the daemon.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::failure::Class;
use crate::lock::lock;
use crate::logging;
use crate::state::{Subject, Timestamp, Told};
use crate::text::{counted, shell_word};

use super::Report;
use super::news::{Change, Changes, Heard, Lasted, News, Time, note};
use super::summary::messages;
use super::trouble::Health;

/// Takes note of how a poll ended. One that delivered none of the messages that it tried is about messages.
pub fn polled(before: &[Told], health: Health, report: &Report, now: Timestamp) -> (Heard, Changes) {
    let (mut heard, mut changes) = (Heard::default(), Changes::new());
    let class = report.failure.as_ref().map(|failure| failure.class);
    let mut note = |what, kind: Option<&str>| note(before, &mut changes, what, kind, now);
    let lasts = |what: Subject, count: usize| (count > 0).then_some(what.name());
    let held = before.iter().find(|told| told.what == Subject::Held);
    match class {
        // Whoever stopped it knows, but not what came to be held.
        Some(Class::Stopped) => {
            if report.came_held.is_some() {
                heard.held = note(Subject::Held, Some(kind_of_held(held, report)));
            }
            return (heard, changes);
        }
        Some(_) if health == Health::Open => {
            heard.polls = (Change::None, note(Subject::Lease, Some(Subject::Lease.name())).1);
            return (heard, changes);
        }
        Some(Class::Message) | None => heard.polls = note(Subject::Polls, None),
        Some(_) if health == Health::HostAway => {}
        Some(class) => heard.polls = note(Subject::Polls, Some(class.name())),
    }
    note(Subject::Lease, None);
    if class.is_none() {
        heard.stays = note(Subject::Stays, lasts(Subject::Stays, report.stays)).1 == News::Trouble;
    }
    if class == Some(Class::Message) || report.held > 0 {
        heard.held = note(Subject::Held, Some(kind_of_held(held, report)));
    } else if class.is_none() {
        heard.held = note(Subject::Held, None);
    }
    if report.listed.is_some() {
        heard.garbage = note(Subject::Garbage, lasts(Subject::Garbage, report.garbage)).1;
        heard.nameless = note(Subject::Nameless, lasts(Subject::Nameless, report.nameless)).1;
    }
    (heard, changes)
}

/// Gives the trouble of messages that are held: that of those that came to be held if it is another, else the one that was
/// told last, so that one word a day is said of all.
fn kind_of_held<'a>(before: Option<&'a Told>, report: &Report) -> &'a str {
    let kinds = before.map_or(&[][..], |told| &told.kinds);
    let came = report.came_held.as_ref().map(|came| came.kind);
    let other = came.filter(|came| kinds.iter().all(|(kind, _)| kind != came));
    let last = kinds.iter().max_by_key(|(_, at)| *at).map(|(kind, _)| kind.as_str());
    other.or(last).unwrap_or(Subject::Held.name())
}

/// To whom something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A person at a terminal, who is told everything.
    Person,
    /// A log, or the mail that cron sends: only what is news.
    Log,
}

/// Tells why a poll ended early, if it did, and what is news of its account.
pub fn log_report(report: &Report, audience: Audience) {
    let Heard { polls, held, stays, nameless, garbage } = report.heard.unwrap_or_default();
    // A failure that is about messages is told as they are.
    let news = if is_about_messages(report) { held.1 } else { polls.1 };
    let to = if report.heard.is_none() { Audience::Person } else { audience };
    let person = to == Audience::Person;
    logging::about(&report.account, || {
        if let Some(failure) = &report.failure {
            match (failure.class, news) {
                // Who stopped it knows why.
                (Class::Stopped, _) => log::info!("{failure}"),
                (_, News::Reminder(lasted)) => log::error!("{failure}\n  {lasted}"),
                (_, News::Trouble) => log::error!("{failure}"),
                (_, News::None | News::Over(_)) if person => log::error!("{failure}"),
                (_, News::None | News::Over(_)) => log::info!("{failure}"),
            }
        }
        // One of which every message failed does not succeed, though it is another trouble.
        if let (News::Over(Lasted { time, times }), None) = (polls.1, &report.failure) {
            let polls = counted(times, "failed poll");
            log::warn!("succeeds again, after {polls} in {}", Time(time));
        }
        if stays {
            log::warn!(
                "{} that another program fetched stay on the server: `keep: none` deletes what is delivered here\n  hint: a \
                 duration, such as `keep: 14d`, deletes them that long after they were fetched; or let that program delete \
                 them",
                messages(report.stays)
            );
        }
        let is_told = |news| person || matches!(news, News::Trouble | News::Reminder(_));
        if report.garbage > 0 && is_told(garbage) {
            log::warn!("server sent {} listing lines that mean nothing", report.garbage);
        }
        if report.nameless > 0 && is_told(nameless) {
            let nameless = messages(report.nameless);
            log::warn!("{nameless} without a unique-id, and without a header to be known by");
        }
        log_held(report, held.1, to);
    });
}

/// Tells what is news of messages that are held.
fn log_held(report: &Report, news: News, to: Audience) {
    match (news, &report.came_held) {
        (News::Over(Lasted { time, .. }), _) => {
            log::warn!("no message is held any more, after {}", Time(time));
        }
        // The failure says it.
        _ if is_about_messages(report) => {}
        (News::Reminder(Lasted { time, .. }), _) => {
            let (held, hint) = (messages(report.held), shell_word(&report.account));
            log::error!(
                "{held} held, for {} now\n  hint: `postrider held list {hint}` shows why",
                Time(time)
            );
        }
        (news, Some(came)) if to == Audience::Person || news == News::Trouble => {
            let (words, name) = (&came.words, shell_word(&report.account));
            match came.count - 1 {
                0 => log::error!("{words}"),
                others => log::error!(
                    "{words}; {others} more held\n  hint: `postrider held list {name}` shows each, and why"
                ),
            }
        }
        (News::Trouble | News::None, _) => {}
    }
}

/// Says whether what failed was of messages.
fn is_about_messages(report: &Report) -> bool {
    report.failure.as_ref().is_some_and(|failure| failure.class == Class::Message)
}

/// What was told of accounts that the state could not remember: it is what fails.
#[derive(Debug, Default)]
pub struct Unwritten(Mutex<HashMap<String, Vec<Told>>>);

impl Unwritten {
    /// Gives what is remembered of an account.
    pub fn of(&self, account: &str) -> Vec<Told> {
        lock(&self.0).get(account).cloned().unwrap_or_default()
    }

    /// Remembers what could not be written.
    pub fn keep(&self, account: &str, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        let told = &mut *lock(&self.0);
        change(told.entry(account.to_owned()).or_default(), changes);
    }

    /// Forgets what is written by now.
    pub fn forget(&self, account: &str) {
        lock(&self.0).remove(account);
    }
}

/// Puts what is to be remembered in the place of what was.
fn change(told: &mut Vec<Told>, changes: Changes) {
    told.retain(|told| changes.iter().all(|(what, _)| told.what != *what));
    told.extend(changes.into_iter().filter_map(|(_, told)| told));
}

/// Puts what could not be written in the place of what was.
pub fn merged(mut written: Vec<Told>, unwritten: Vec<Told>) -> Vec<Told> {
    written.retain(|told| unwritten.iter().all(|other| other.what != told.what));
    written.extend(unwritten);
    written
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Timestamp = 24 * 3600;

    /// Takes a poll's end, and remembers what was told of it.
    fn heard(before: &mut Vec<Told>, now: Timestamp, report: &Report) -> Heard {
        let health = if report.failure.is_some() { Health::Fails } else { Health::Works };
        let (heard, changes) = polled(before, health, report, now);
        change(before, changes);
        heard
    }

    #[test]
    fn what_is_odd_about_a_listing_is_told_when_it_begins_and_once_a_day() {
        let odd = Report { listed: Some(3), garbage: 1, nameless: 1, ..Report::default() };
        let (plain, away) =
            (Report { listed: Some(3), ..Report::default() }, Report::failed("home", Class::Network));
        let mut before = Vec::new();
        let mut heard = |now, report: &Report| {
            let heard = heard(&mut before, now, report);
            assert_eq!(heard.garbage, heard.nameless);
            heard.garbage
        };
        assert_eq!(heard(0, &odd), News::Trouble);
        assert_eq!([heard(60, &odd), heard(120, &away), heard(180, &odd)], [News::None; 3]);
        assert!(matches!(heard(DAY, &odd), News::Reminder(_)));
        assert!(matches!(heard(DAY + 60, &plain), News::Over(_)));
        assert_eq!(heard(DAY + 7200, &odd), News::Trouble);
    }

    #[test]
    fn a_host_that_is_away_is_no_news_of_its_accounts_and_its_return_is_none() {
        let away = Report::failed("home", Class::Network);
        let before = [];
        assert_eq!(polled(&before, Health::HostAway, &away, 0), (Heard::default(), Changes::new()));
        let back = polled(&before, Health::Works, &Report::default(), 60).0;
        assert_eq!(back.polls, (Change::None, News::None));
    }

    #[test]
    fn messages_that_are_refused_and_polls_that_fail_are_troubles_of_their_own() {
        let held = |held| Report { account: "home".into(), held, ..Report::default() };
        let refused = Report { held: 0, ..Report::failed("home", Class::Message) };
        let away = Report::failed("home", Class::Network);
        let mut before = Vec::new();
        let mut heard = |now, report: &Report| heard(&mut before, now, report);
        let none = (Change::None, News::None);
        let begins = (Change::Began, News::Trouble);
        assert_eq!(heard(0, &refused), Heard { polls: none, held: begins, ..Heard::default() });
        assert_eq!(
            heard(60, &held(2)),
            Heard { polls: none, held: none, ..Heard::default() },
            "it is the same trouble"
        );
        assert_eq!(heard(120, &away), Heard { polls: begins, held: none, ..Heard::default() });
        let over =
            |time, times| (Change::Ended, News::Over(Lasted { time: Duration::from_secs(time), times }));
        assert_eq!(heard(180, &held(1)), Heard { polls: over(60, 1), held: none, ..Heard::default() });
        assert!(matches!(heard(DAY, &held(1)).held, (Change::None, News::Reminder(_))));
        assert_eq!(heard(DAY + 60, &held(0)).held.0, Change::Ended);
        let stopped = Report::failed("home", Class::Stopped);
        assert_eq!(heard(DAY + 120, &stopped), Heard::default());
    }
}
