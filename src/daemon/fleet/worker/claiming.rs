//! Claims what is due into free places, and has sessions begin.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::since_boot;
use crate::state::Claimed;
use crate::state::postgres::NEW;
use crate::state::postgres::beat::Identity;

use super::super::floor::Candidate;
use super::super::looks::{Looks, Past};
use super::super::session::{Begin, Event, Session};
use super::{Held, Out, Waiting, Worker};

/// Maildrops that are looked at beyond the places that are free, so that tenants can take turns.
const CHOICE: usize = 200;
/// What others polled last is taken over when it is so late.
const GRACE: Duration = Duration::from_secs(5);
/// All workers have heard of an account so soon after it was made.
const HEARD: Duration = Duration::from_secs(15);

/// What one look has shown.
struct Seen {
    candidates: Vec<Candidate>,
    /// What is left to others hides what is due behind it, which the next look shows.
    behind: Waiting,
}

impl Worker {
    /// Claims what is due, as far as there is place.
    pub(super) async fn claim(&mut self, identity: &Identity, out: &Out<'_>) -> Waiting {
        let free = self.floor.free();
        if free == 0 {
            return Waiting::None;
        }
        let (grace, others) = (GRACE.min(self.silence / 6), self.others.clone());
        // A first poll is nobody's more than another's.
        let mut due = self.look(&[identity.id, NEW], Duration::ZERO, free).await;
        let (mut found, mut claimed) = (due.len(), 0);
        // Who is late with its own has the longest due go first, whoever polled that last: or what a dead worker had would wait
        // until it is no more.
        let is_late = due.iter().any(|candidate| candidate.late >= grace);
        if !is_late {
            claimed = self.take(identity, std::mem::take(&mut due), out).await;
        }
        if is_late || claimed < free {
            let known: HashSet<i64> = due.iter().map(|candidate| candidate.maildrop).collect();
            let mut others = self.look(&others, grace, free).await;
            others.retain(|candidate| !known.contains(&candidate.maildrop));
            found += others.len();
            due.extend(others);
            due.sort_by_key(|candidate| Reverse(candidate.late));
            claimed += self.take(identity, due, out).await;
        }
        if claimed > 0 && claimed < found { Waiting::Some } else { Waiting::None }
    }

    /// Looks for what is due and has a place, and again past whoever fills the view.
    async fn look(&mut self, owners: &[i64], grace: Duration, free: usize) -> Vec<Candidate> {
        let (mut looks, mut all, mut known) = (Looks::new(self.floor.full()), Vec::new(), HashSet::new());
        let most = self.gone.page(free + CHOICE);
        while let Some(past) = looks.next() {
            let Seen { candidates, behind } = self.see(owners, grace, &past, most).await;
            match behind {
                Waiting::Some => looks.again(past),
                Waiting::None if candidates.len() < most => {}
                Waiting::None => looks.is_filled(past, &candidates, |past| self.accounts.has_others(past)),
            }
            all.extend(candidates.into_iter().filter(|candidate| known.insert(candidate.maildrop)));
        }
        all.retain(|candidate| self.floor.has_room(candidate));
        all
    }

    /// Looks once.
    async fn see(&mut self, owners: &[i64], grace: Duration, past: &Past, most: usize) -> Seen {
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
                    let (door, tenant) = (known.door.clone(), known.tenant.clone());
                    candidates.push(Candidate { maildrop: due.maildrop, door, tenant, late: due.late });
                }
                // What others have made may not have been heard of yet.
                None if due.late >= HEARD => unknown.push(due),
                None => {}
            }
        }
        let mut behind = Waiting::None;
        if !unknown.is_empty() && self.knows_all() {
            let set_aside = self.gone.set_aside(&self.leases, &unknown).await;
            let is_more = self.troubles.noted("set aside what is of no account", set_aside).unwrap_or(false);
            if is_more && last.is_some() && !grace.is_zero() {
                behind = Waiting::Some;
            }
        }
        if !grace.is_zero() {
            self.gone.look_behind(last.filter(|_| behind == Waiting::Some));
        }
        Seen { candidates, behind }
    }

    /// Claims what is chosen of these, and has their sessions begin. Gives how many that were.
    async fn take(&mut self, identity: &Identity, due: Vec<Candidate>, out: &Out<'_>) -> usize {
        let chosen = self.floor.choose(due);
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
            let host = self.floor.host(&candidate.door);
            self.floor.begins(candidate);
            let (account, token) = (known.account.clone(), claim.token);
            let (maildrop, door) = (claim.maildrop, Some(candidate.door.clone()));
            self.held.insert(token, Held { maildrop, door, is_released: false, close: None });
            let (released, term) = (out.released.clone(), identity.term.own());
            let lease =
                Claimed::new(token, term.clone(), move || drop(released.send(Event::Released(token))));
            let session = Session {
                claim,
                term,
                began: since_boot(),
                late: candidate.late,
                host,
                account: account.clone(),
                generation: self.generation,
                stopper: None,
            };
            let _ = out.begin.send(Ok(Begin { account, lease: Arc::new(lease), session }));
        }
        count
    }
}
