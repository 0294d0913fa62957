//! What the daemon's loop answers to those who ask by the control socket.

use std::time::Duration;

use super::Daemon;
use super::control::server::{Asked, each_once};

impl Daemon {
    pub(super) fn answer(&mut self, now: Duration, asked: Asked) {
        // A client that is gone needs no answer.
        match asked {
            Asked::Wake(accounts, answer) => drop(answer.send(self.wake(now, accounts))),
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
}
