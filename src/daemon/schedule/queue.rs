//! Accounts whose turn has come, in the order in which it came, and the places that hosts have for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::Hosts;

/// A place in the queue; earlier ones are smaller.
pub type Ticket = u64;

/// First come, first served, but nobody waits behind an account whose host is full. All operations take logarithmic
/// time.
#[derive(Debug)]
pub struct Queue<T> {
    per_host: usize,
    /// Limits of single hosts, in its place.
    own: Hosts,
    hosts: HashMap<Arc<str>, Host<T>>,
    /// Hosts with a free place and somebody who waits for it, by the ticket of the first who does.
    open: BTreeSet<(Ticket, Arc<str>)>,
    next: Ticket,
}

#[derive(Debug)]
struct Host<T> {
    running: usize,
    waiting: BTreeMap<Ticket, T>,
    /// The ticket under which it stands in `open`.
    open: Option<Ticket>,
}

impl<T> Queue<T> {
    /// Makes an empty queue for so many sessions with one host at once.
    pub fn new(per_host: usize) -> Self {
        Self {
            per_host: per_host.max(1),
            own: Hosts::default(),
            hosts: HashMap::new(),
            open: BTreeSet::new(),
            next: 0,
        }
    }

    /// Changes how many sessions one host may have. Those above it go on.
    pub fn set_per_host(&mut self, per_host: usize) {
        self.per_host = per_host.max(1);
        self.settle_all();
    }

    /// Changes how many sessions single hosts may have, whatever others may.
    pub fn set_hosts(&mut self, own: Hosts) {
        self.own = own;
        self.settle_all();
    }

    fn settle_all(&mut self) {
        let hosts: Vec<_> = self.hosts.keys().cloned().collect();
        hosts.iter().for_each(|host| self.settle(host));
    }

    /// Puts an account behind all others.
    pub fn push(&mut self, host: &Arc<str>, account: T) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let new = || Host { running: 0, waiting: BTreeMap::new(), open: None };
        self.hosts.entry(host.clone()).or_insert_with(new).waiting.insert(ticket, account);
        self.settle(host);
        ticket
    }

    pub fn remove(&mut self, host: &Arc<str>, ticket: Ticket) {
        if let Some(waiting) = self.hosts.get_mut(host) {
            waiting.waiting.remove(&ticket);
        }
        self.settle(host);
    }

    /// Takes the first account whose host has a place, and takes the place.
    pub fn take(&mut self) -> Option<T> {
        let (ticket, host) = self.open.first()?.clone();
        let place = self.hosts.get_mut(&host)?;
        let account = place.waiting.remove(&ticket);
        place.running += usize::from(account.is_some());
        self.settle(&host);
        account
    }

    pub fn release(&mut self, host: &Arc<str>) {
        if let Some(place) = self.hosts.get_mut(host) {
            place.running = place.running.saturating_sub(1);
        }
        self.settle(host);
    }

    /// Brings `open` up to date with a host, and forgets a host that nobody wants any more.
    fn settle(&mut self, name: &Arc<str>) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let most = self.own.max_sessions(name).unwrap_or(self.per_host);
        let first = host.waiting.keys().next().copied().filter(|_| host.running < most);
        if first != host.open {
            if let Some(ticket) = host.open {
                self.open.remove(&(ticket, name.clone()));
            }
            if let Some(ticket) = first {
                self.open.insert((ticket, name.clone()));
            }
            host.open = first;
        }
        if host.running == 0 && host.waiting.is_empty() {
            self.hosts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_first_whose_host_has_a_place_is_taken() {
        let mut queue = Queue::new(1);
        let [a, b] = ["a.example", "b.example"].map(Arc::<str>::from);
        for (host, account) in [(&a, "1"), (&a, "2"), (&b, "3"), (&a, "4")] {
            queue.push(host, account);
        }
        assert_eq!(queue.take(), Some("1"));
        assert_eq!(queue.take(), Some("3"), "2 waits for its host, and nobody behind it waits with it");
        assert_eq!(queue.take(), None);
        queue.release(&a);
        assert_eq!(queue.take(), Some("2"));
        queue.set_per_host(2);
        assert_eq!(queue.take(), Some("4"));
    }

    #[test]
    fn a_host_with_a_limit_of_its_own_has_that_and_no_other() {
        let yaml = "hosts: { A.example: { max_sessions: 2 } }\naccounts: { a: { host: h, user: u, deliver: { mbox: /m } } }";
        let config = Config::from_yaml(yaml, std::path::Path::new("f")).unwrap();
        let mut queue = Queue::new(1);
        let hosts = ["a.example", "b.example"].map(Arc::<str>::from);
        for (host, account) in hosts.iter().flat_map(|host| ["1", "2", "3"].map(|name| (host, name))) {
            queue.push(host, account);
        }
        queue.set_hosts(config.hosts);
        let taken: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(taken.len(), 3, "two of the one and one of the other");
        queue.set_hosts(Hosts::default());
        queue.release(&hosts[0]);
        assert_eq!(queue.take(), None, "one goes on");
    }

    #[test]
    fn a_host_that_nobody_wants_any_more_is_forgotten() {
        let mut queue = Queue::new(4);
        let host: Arc<str> = "a.example".into();
        let ticket = queue.push(&host, "1");
        queue.push(&host, "2");
        queue.remove(&host, ticket);
        assert_eq!(queue.take(), Some("2"));
        queue.release(&host);
        assert!(queue.hosts.is_empty() && queue.open.is_empty());
    }
}
