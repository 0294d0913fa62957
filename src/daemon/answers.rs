//! What the daemon's loop answers to those who ask by the control socket.

use std::time::Duration;

use super::Daemon;
use super::control::server::{Asked, each_once};
use super::control::{Doing, Live, LiveAccount};
use super::schedule::Standing;

impl Daemon {
    pub(super) fn answer(&mut self, now: Duration, asked: Asked) {
        // A client that is gone needs no answer.
        match asked {
            Asked::Wake(accounts, answer) => drop(answer.send(self.wake(now, accounts))),
            Asked::Status(answer) => drop(answer.send(self.live(now))),
        }
    }

    fn wake(&mut self, now: Duration, accounts: Vec<String>) -> (usize, Vec<String>) {
        if accounts.is_empty() {
            return (self.schedule.wake_all(now), Vec::new());
        }
        let accounts = each_once(accounts);
        let all = accounts.len();
        let unknown: Vec<_> =
            accounts.into_iter().filter(|account| !self.schedule.wake(now, account)).collect();
        (all - unknown.len(), unknown)
    }

    fn live(&self, now: Duration) -> Live {
        let mut accounts: Vec<_> = self
            .schedule
            .standings()
            .map(|(account, standing, failures)| {
                let doing = match standing {
                    Standing::Resting => Doing::Resting,
                    Standing::Due => Doing::Due,
                    Standing::Polling => Doing::Polling,
                    Standing::Waiting(due) => {
                        let wait = due.saturating_sub(now).as_millis();
                        Doing::Waiting(u64::try_from(wait).unwrap_or(u64::MAX))
                    }
                };
                LiveAccount { account: account.into(), doing, failures }
            })
            .collect();
        accounts.sort_unstable_by(|one, other| one.account.cmp(&other.account));
        Live { pid: std::process::id(), accounts }
    }
}
