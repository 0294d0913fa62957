//! Claims what is due into free places, and has sessions begin.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::since_boot;
use crate::state::Claimed;
use crate::state::postgres::NEW;
use crate::state::postgres::beat::Identity;

use super::super::floor::{Candidate, Past};
use super::super::session::{Begin, Event, Session};
use super::{Held, Out, Worker};

/// Maildrops that are looked at beyond the places that are free, so that tenants can take turns.
const CHOICE: usize = 200;
/// How often is looked past whoever crowds the view.
const LOOKS: usize = 4;
/// What others polled last is taken over when it is so late.
const GRACE: Duration = Duration::from_secs(5);
/// All workers have heard of an account so soon after it was made.
const HEARD: Duration = Duration::from_secs(15);

impl Worker {
    /// Claims what is due, as far as there is place. Says whether there is more.
    pub(super) async fn claim(&mut self, identity: &Identity, out: &Out<'_>) -> bool {
        let free = self.floor.free();
        if free == 0 {
            return false;
        }
        let (grace, others) = (GRACE.min(self.silence / 6), self.others.clone());
        // A first poll is nobody's more than another's.
        let mut due = self.look(&[identity.id, NEW], Duration::ZERO, free).await;
        let (mut lag, mut found, mut claimed) = (latest(&due), due.len(), 0);
        // Who is late with its own has the longest due go first, whoever polled that last: or what a dead worker had would wait
        // until it is no more.
        let is_late = lag >= grace;
        if !is_late {
            claimed = self.take(identity, std::mem::take(&mut due), out).await;
        }
        if is_late || claimed < free {
            let known: HashSet<i64> = due.iter().map(|(candidate, _)| candidate.maildrop).collect();
            let mut others = self.look(&others, grace, free).await;
            others.retain(|(candidate, _)| !known.contains(&candidate.maildrop));
            (lag, found) = (lag.max(latest(&others)), found + others.len());
            due.extend(others);
            due.sort_by_key(|(_, late)| Reverse(*late));
            claimed += self.take(identity, due, out).await;
        }
        self.lag = lag;
        claimed > 0 && claimed < found
    }

    /// Looks for what is due, and again past whoever crowds the view.
    async fn look(&mut self, owners: &[i64], grace: Duration, free: usize) -> Vec<(Candidate, Duration)> {
        let (mut past, mut all, most) = (self.floor.full(), Vec::new(), self.gone.page(free + CHOICE));
        let mut known = HashSet::new();
        for _ in 0..LOOKS {
            let (seen, is_hidden) = self.see(owners, grace, &past, most).await;
            let candidates: Vec<_> = seen.iter().map(|(candidate, _)| candidate.clone()).collect();
            all.extend(seen.into_iter().filter(|(candidate, _)| known.insert(candidate.maildrop)));
            if !is_hidden && (candidates.len() < most || !past.add_crowd(&candidates)) {
                break;
            }
        }
        all
    }

    /// Looks once. Says, too, whether what is left to others hides what is due behind it, which the next look shows.
    async fn see(
        &mut self,
        owners: &[i64],
        grace: Duration,
        past: &Past,
        most: usize,
    ) -> (Vec<(Candidate, Duration)>, bool) {
        let (left, behind) = self.gone.left();
        // Its own are seldom left to others, and may be due before those that are.
        let behind = behind.filter(|_| !grace.is_zero());
        let past = (&past.hosts[..], &past.tenants[..], left, behind);
        let due = self.leases.due(owners, grace, past, most).await;
        let due = self.troubles.noted("look for what is due", due).unwrap_or_default();
        let last = due.last().copied().filter(|_| due.len() >= most);
        let (mut candidates, mut unknown) = (Vec::with_capacity(due.len()), Vec::new());
        for due in due {
            match self.accounts.get(due.maildrop) {
                Some(known) => {
                    let (host, tenant) = (known.host.clone(), known.tenant.clone());
                    candidates.push((Candidate { maildrop: due.maildrop, host, tenant }, due.late));
                }
                // What others have made may not have been heard of yet.
                None if due.late >= HEARD => unknown.push(due),
                None => {}
            }
        }
        let mut is_hidden = false;
        if !unknown.is_empty() && self.knows_all() {
            let set_aside = self.gone.set_aside(&self.leases, &unknown).await;
            let is_more = self.troubles.noted("set aside what is of no account", set_aside).unwrap_or(false);
            is_hidden = is_more && last.is_some() && !grace.is_zero();
        }
        if !grace.is_zero() {
            self.gone.look_behind(last.filter(|_| is_hidden));
        }
        (candidates, is_hidden)
    }

    /// Claims what is chosen of these, and has their sessions begin. Gives how many that were.
    async fn take(&mut self, identity: &Identity, due: Vec<(Candidate, Duration)>, out: &Out<'_>) -> usize {
        let chosen = self.floor.choose(due.into_iter().map(|(candidate, _)| candidate).collect());
        if chosen.is_empty() {
            return 0;
        }
        let maildrops: Vec<i64> = chosen.iter().map(|candidate| candidate.maildrop).collect();
        let claimed = self.leases.claim(identity.id, &maildrops).await;
        let claims = self.troubles.noted("claim what is due", claimed).unwrap_or_default();
        let chosen: HashMap<i64, Candidate> =
            chosen.into_iter().map(|candidate| (candidate.maildrop, candidate)).collect();
        let count = claims.len();
        for claim in claims {
            let (Some(known), Some(candidate)) =
                (self.accounts.get(claim.maildrop), chosen.get(&claim.maildrop))
            else {
                continue;
            };
            self.floor.begins(candidate);
            let (account, host) = (known.account.clone(), known.host.clone());
            self.held.insert(claim.token, Held { host, has_left: false, is_released: false, close: None });
            let (released, token) = (out.released.clone(), claim.token);
            let term = identity.term.own();
            let lease =
                Claimed::new(token, term.clone(), move || drop(released.send(Event::Released(token))));
            let session = Session {
                claim,
                term,
                began: since_boot(),
                lag: self.lag,
                account: account.clone(),
                generation: self.generation,
                stopper: None,
            };
            let _ = out.begin.send(Begin { account, lease: Arc::new(lease), session });
        }
        count
    }
}

/// Gives how late the latest is.
fn latest(due: &[(Candidate, Duration)]) -> Duration {
    due.iter().map(|(_, late)| *late).max().unwrap_or_default()
}
