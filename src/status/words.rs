//! How an account stands, in words.

use super::Snapshot;
pub use super::ago::{age, time};
use super::row::{Row, Standing};
use crate::session::summary::{Octets, accounts, messages};
use crate::state::fleet::Standings;
use crate::state::{Held, HeldKind, Timestamp};
use crate::text::{Shown, counted, shell_word};

/// `2026-11-23 14:05:12 (3 minutes ago)`
pub(super) fn when(now: Timestamp, at: Timestamp) -> String {
    format!("{} ({})", time(at), age(now, at))
}

/// Says when a held message is tried again, in a word for a time.
pub fn again(held: &Held, when: impl Fn(Timestamp) -> String) -> String {
    match held.kind {
        HeldKind::NoRoom => "when a poll finds room for it".to_owned(),
        HeldKind::Doubtful => "when you say so".to_owned(),
        HeldKind::Away => "when a poll reaches the target".to_owned(),
        HeldKind::Refused
        | HeldKind::Later
        | HeldKind::TooLarge
        | HeldKind::Breaks
        | HeldKind::Short
        | HeldKind::Undeletable => when(held.next_try),
    }
}

impl Row {
    /// Says how the last poll went, in one line.
    pub fn outcome(&self) -> String {
        let absent = match self.standing() {
            Standing::NotConfigured => ", not in the configuration",
            Standing::Disabled => ", not enabled",
            Standing::Failing | Standing::Holding | Standing::Unpolled | Standing::Fine => "",
        };
        if self.last_poll.is_none() {
            let to_the_end = if self.recorded { " to the end" } else { "" };
            return format!("never polled{to_the_end}{absent}");
        }
        let delivered = messages(usize::try_from(self.delivered).unwrap_or(usize::MAX));
        if let Some(failed) = &self.failure {
            let mut said = match &self.target {
                Some(target) => format!("target failed ({}): {}", failed.class, Shown(target.as_bytes())),
                None => format!("failed ({})", failed.class),
            };
            if self.failures > 1 {
                said += &format!(", {} times in a row", self.failures);
            }
            if self.target.is_some() && self.delivered > 0 {
                said += &format!(", {delivered} delivered before");
            }
            return said + absent;
        }
        let mut said = "succeeded".to_owned();
        if !self.held.is_empty() {
            said += &format!(" but for {} held", messages(self.held.len()));
        }
        said += &format!(", {delivered} delivered");
        if self.delivered > 0 {
            said += &format!(" ({})", Octets(self.delivered_octets));
        }
        if let Some(listed) = self.listed {
            said += &format!(", {listed} in the maildrop");
        }
        if self.left > 0 {
            said += &format!(", {} left for later", self.left);
        }
        said + absent
    }

    /// Says when it is polled next, if a daemon polls it.
    pub fn next(&self, now: Timestamp) -> Option<String> {
        Some(match (self.polling?, self.next_poll) {
            (true, None) => match &self.worker {
                Some(worker) => format!("being polled now by {}", Shown(worker.as_bytes())),
                None => "being polled now".into(),
            },
            (true, Some(since)) => format!("polling since {}", when(now, since)),
            (false, None) => "polled when asked for".into(),
            (false, Some(at)) if at <= now => "to be polled next".into(),
            (false, Some(at)) => format!("next poll {}", when(now, at)),
        })
    }

    /// Says what is wrong, a line each: when a poll last succeeded if the last one failed, and why it did; and why its row
    /// cannot be used.
    pub fn wrong(&self, shown: impl Fn(Timestamp) -> String) -> Vec<String> {
        let unusable = self.unusable.iter().map(|why| format!("not polled: {}", Shown(why.as_bytes())));
        let Some(failed) = &self.failure else { return unusable.collect() };
        let before = match self.last_success {
            Some(at) => format!("last succeeded {}", shown(at)),
            None => "never succeeded".into(),
        };
        let said = self.words_of(failed).lines().map(|line| Shown(line.trim_start().as_bytes()).to_string());
        said.chain([before]).chain(unusable).collect()
    }

    /// Says how what is recorded of a maildrop that nobody polls any more can go.
    pub fn forgetting(&self) -> Option<String> {
        let maildrop = shell_word(&self.maildrop);
        (self.standing() == Standing::NotConfigured)
            .then(|| format!("`postrider status forget {}` drops it", Shown(maildrop.as_bytes())))
    }

    /// Writes it for people, in as many lines as it takes.
    pub fn told(&self, now: Timestamp) -> String {
        let name = Shown(self.account.as_bytes());
        let wrong = self.wrong(|at| when(now, at)).into_iter().map(|line| format!("\n  {line}"));
        let wrong: String = wrong.collect();
        let Some(at) = self.last_poll else {
            let seen = if self.recorded { format!("\n  {} seen", self.seen) } else { String::new() };
            return format!("{name}: {}{wrong}{seen}", self.outcome()) + &self.also(now);
        };
        format!("{name}: {} {}{wrong}\n  {} seen", when(now, at), self.outcome(), self.seen) + &self.also(now)
    }

    fn also(&self, now: Timestamp) -> String {
        let held = self.held.iter().map(|held| format!("\n  {}", held_words(held, |at| when(now, at))));
        let last = self.worker.as_ref().filter(|_| self.polling != Some(true));
        let last = last.map(|worker| format!("polled last by worker {}", Shown(worker.as_bytes())));
        let also = self.next(now).into_iter().chain(last).chain(self.forgetting());
        held.chain(also.map(|line| format!("\n  {line}"))).collect()
    }
}

/// `held QhdPYR (25.0 MiB) since ..., tried 4 times, again ...: larger than what is free`
pub fn held_words(held: &Held, when: impl Fn(Timestamp) -> String) -> String {
    let Held { uid, octets, reason, since, tries, .. } = held;
    format!(
        "held {uid} ({}) since {}, tried {}, again {}: {}",
        Octets(*octets),
        when(*since),
        counted(*tries, "time"),
        again(held, &when),
        Shown(reason.as_bytes())
    )
}

impl Snapshot {
    /// `500 accounts: 12 failing, 3 with 5 messages held, 485 fine`
    pub fn sum(&self) -> String {
        if let (Some(in_all), Some(fleet)) = (self.in_all, &self.fleet) {
            return Self::sum_of(in_all, fleet.accounts);
        }
        let count = |standing| self.rows.iter().filter(|row| row.standing() == standing).count();
        let held: usize = self.rows.iter().map(|row| row.held.len()).sum();
        let mut parts = Vec::new();
        for (standing, what) in [
            (Standing::Failing, "failing".to_owned()),
            (Standing::Holding, format!("with {} held", messages(held))),
            (Standing::Unpolled, "never polled".into()),
            (Standing::Fine, "fine".into()),
            (Standing::Disabled, "not enabled".into()),
            (Standing::NotConfigured, "not in the configuration".into()),
        ] {
            match count(standing) {
                0 => {}
                count => parts.push(format!("{count} {what}")),
            }
        }
        let all = accounts(self.rows.len());
        if parts.is_empty() { all } else { format!("{all}: {}", parts.join(", ")) }
    }

    /// The same where not all accounts are listed.
    fn sum_of(in_all: u64, stand: Standings) -> String {
        let Standings { polled, failing, holding, held } = stand;
        let mut said = format!("{}: {polled} polled, {failing} failing", counted(in_all, "account"));
        if holding > 0 {
            let held = messages(usize::try_from(held).unwrap_or(usize::MAX));
            said += &format!(", {holding} with {held} held");
        }
        said
    }

    /// `last day: 530 messages (12.3 MiB), 4 failed polls`
    pub fn day(&self) -> String {
        let all = |count: fn(&crate::state::Hour) -> u64| self.hours.iter().map(count).sum::<u64>();
        let failed = match all(|hour| hour.failures) {
            0 => String::new(),
            failures => format!(", {}", counted(failures, "failed poll")),
        };
        let octets = Octets(all(|hour| hour.octets));
        format!("last day: {} ({octets}){failed}", counted(all(|hour| hour.messages), "message"))
    }
}
