//! What goes wrong beside polls time after time: told when it begins, once a day, and when it works again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often what lasts is told.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

/// How long what works again is not told when it fails again.
const RELAPSE: Duration = Duration::from_secs(3600);

/// What has failed lately, by account and what was tried.
#[derive(Debug, Default)]
pub struct Told(HashMap<(String, &'static str), Trouble>);

#[derive(Debug)]
struct Trouble {
    told: Instant,
    /// It has not worked since it was told.
    lasts: bool,
}

impl Told {
    /// Takes note that something failed, and says whether that is to be told.
    pub fn failed(&mut self, now: Instant, account: &str, what: &'static str) -> bool {
        let trouble = self.0.get_mut(&(account.to_owned(), what));
        let pause = |trouble: &Trouble| if trouble.lasts { REMINDER } else { RELAPSE };
        match trouble {
            Some(trouble) if now.saturating_duration_since(trouble.told) < pause(trouble) => false,
            Some(trouble) => {
                *trouble = Trouble { told: now, lasts: true };
                true
            }
            None => {
                self.0.insert((account.to_owned(), what), Trouble { told: now, lasts: true });
                true
            }
        }
    }

    /// Takes note that it worked, and says whether that is to be told.
    pub fn worked(&mut self, now: Instant, account: &str, what: &'static str) -> bool {
        let key = (account.to_owned(), what);
        let Some(trouble) = self.0.get_mut(&key) else { return false };
        let lasted = std::mem::replace(&mut trouble.lasts, false);
        if now.saturating_duration_since(trouble.told) >= RELAPSE {
            self.0.remove(&key);
        }
        lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_fails_each_time_is_told_once_a_day_and_when_it_works_again() {
        let (mut told, begin) = (Told::default(), Instant::now());
        let days = 3;
        let count =
            (0..days * 24 * 60).filter(|at| told.failed(begin + *at * MINUTE, "home", "after")).count();
        assert_eq!(count, 3);
        let end = begin + days * 24 * 60 * MINUTE;
        assert!(!told.worked(end, "home", "on_new") && !told.worked(end, "other", "after"));
        assert!(told.worked(end, "home", "after") && !told.worked(end, "home", "after"));
        assert!(told.failed(end, "home", "after"), "that was long after it was told");
    }

    #[test]
    fn what_fails_every_other_time_is_told_once_an_hour() {
        let (mut told, begin) = (Told::default(), Instant::now());
        let mut count = 0;
        for minute in 0..24 * 60 {
            let now = begin + minute * MINUTE;
            count += u32::from(match minute % 2 {
                0 => told.failed(now, "home", "after"),
                _ => told.worked(now, "home", "after"),
            });
        }
        assert!((40..=50).contains(&count), "{count}");
        told.worked(begin + 26 * 60 * MINUTE, "home", "after");
        assert!(told.0.is_empty(), "nothing is kept of what was told long ago");
    }
}
