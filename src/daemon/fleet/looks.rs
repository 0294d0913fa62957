//! What a worker looks past to see what is due: whoever fills the view hides what waits behind, so that the next looks are
//! past those. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::floor::Candidate;

/// How often is looked.
const MOST: usize = 4;

/// What whoever looks for what is due looks past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    pub hosts: Vec<String>,
    pub tenants: Vec<String>,
}

/// Looks, one after the other.
#[derive(Debug)]
pub struct Looks {
    next: VecDeque<Past>,
    left: usize,
}

impl Looks {
    /// Begins with one past the hosts that have no place.
    pub fn new(full: Vec<String>) -> Self {
        Self { next: VecDeque::from([Past { hosts: full, tenants: Vec::new() }]), left: MOST }
    }

    /// Gives what the next look is past; `None`: that was all.
    pub fn next(&mut self) -> Option<Past> {
        self.left = self.left.checked_sub(1)?;
        self.next.pop_front()
    }

    /// Has the same be looked at again.
    pub fn again(&mut self, past: Past) {
        self.next.push_front(past);
    }

    /// Takes note that a look saw as much as it could. What waits behind is seen past the tenants that have more than their
    /// share of that, whatever the host, and past such hosts, whatever the tenant: as far as anything is there.
    pub fn is_filled(&mut self, past: Past, seen: &[Candidate], is_there: impl Fn(&Past) -> bool) {
        let (tenants, hosts) =
            (crowds(seen, |candidate| &candidate.tenant), crowds(seen, |candidate| &candidate.door.host));
        let (tenants, hosts) = ([&past.tenants[..], &tenants].concat(), [&past.hosts[..], &hosts].concat());
        let further = [Past { tenants, hosts: past.hosts }, Past { hosts, tenants: past.tenants }];
        self.next.extend(further.into_iter().filter(is_there));
    }
}

/// Names those that have more of what was seen than each would if there was one more.
fn crowds(seen: &[Candidate], of: fn(&Candidate) -> &Arc<str>) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    seen.iter().for_each(|candidate| *counts.entry(of(candidate)).or_default() += 1);
    let shares = counts.len() + 1;
    counts.retain(|_, count| *count * shares > seen.len());
    counts.into_keys().map(str::to_owned).collect()
}
