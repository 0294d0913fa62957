//! Leases and workers in a real PostgreSQL.

use std::collections::HashSet;
use std::time::Duration;

use crate::state::Store;
use crate::state::fleet::{GONE, LEFT};
use crate::state::outlook::{Seen, Which};
use crate::state::postgres::{Claim, Close, Database, Entered, Leases, NOBODY, Server};

const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

struct Fleet {
    leases: Leases,
    server: Server,
    database: Database,
    maildrops: Vec<i64>,
}

impl Fleet {
    /// Makes so many maildrops that are due.
    async fn of(maildrops: usize) -> Self {
        let (_directory, path) = super::directory();
        let server = super::server(&path);
        let database = Database::new(server.clone());
        let leases = Leases::new(database.clone());
        let entered = |number| Entered {
            identity: format!("{number}@h"),
            host: "h".into(),
            tenant: String::new(),
            wait: Some(NOW),
        };
        let entered: Vec<_> = (0..maildrops).map(entered).collect();
        let maildrops = leases.enter(&entered).await.unwrap();
        assert_eq!(leases.enter(&entered).await.unwrap(), maildrops, "they are there");
        Self { leases, server, database, maildrops }
    }

    async fn due(&self, owners: &[i64]) -> Vec<i64> {
        let due = self.leases.due(owners, NOW, (&[], &[], &[], None), 1000).await.unwrap();
        due.iter().map(|due| due.maildrop).collect()
    }

    async fn claim(&self, worker: i64) -> Vec<Claim> {
        self.leases.claim(worker, &self.maildrops).await.unwrap()
    }

    async fn evict(&self, worker: i64) {
        let sql = format!("UPDATE worker SET beat = beat - interval '1 hour' WHERE id = {worker}");
        self.database.query(&sql, &[]).await.unwrap();
        assert_eq!(self.leases.evict(HOUR / 2).await.unwrap().len(), 1);
    }
}

fn close(claim: Claim) -> Close {
    Close { claim, wait: Some(HOUR), apart: NOW, failures: 2, mail: false }
}

#[tokio::test]
async fn each_maildrop_is_claimed_once_however_many_workers_try() {
    let fleet = Fleet::of(100).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (leases, maildrops) = (Leases::new(fleet.database.clone()), fleet.maildrops.clone());
        tasks.spawn(async move {
            let worker = leases.join("w").await.unwrap();
            leases.claim(worker, &maildrops).await.unwrap()
        });
    }
    let claims = tasks.join_all().await.concat();
    let maildrops: HashSet<i64> = claims.iter().map(|claim| claim.maildrop).collect();
    let tokens: HashSet<i64> = claims.iter().map(|claim| claim.token).collect();
    assert_eq!((claims.len(), maildrops.len(), tokens.len()), (100, 100, 100));
    assert!(fleet.due(&[0]).await.is_empty());
}

#[tokio::test]
async fn what_a_worker_polled_last_is_its_own_once_it_is_closed_and_due_again() {
    let fleet = Fleet::of(3).await;
    let worker = fleet.leases.join("w").await.unwrap();
    let claims = fleet.claim(worker).await;
    fleet.leases.close(&[close(claims[0]), Close { wait: Some(NOW), ..close(claims[1]) }]).await.unwrap();
    assert_eq!(fleet.due(&[worker]).await, [claims[1].maildrop]);
    assert!(fleet.due(&[0]).await.is_empty());
    let again = fleet.claim(worker).await;
    assert_eq!(again.len(), 2, "one is held");
    assert!(again.iter().all(|claim| claim.failures == 2 && !tokens(&claims).contains(&claim.token)));
    assert!(
        fleet.leases.due(&[worker], NOW, (&["h".into()], &[], &[], None), 9).await.unwrap().is_empty(),
        "its host is full"
    );
}

fn tokens(claims: &[Claim]) -> HashSet<i64> {
    claims.iter().map(|claim| claim.token).collect()
}

#[tokio::test]
async fn an_evicted_worker_is_dead_for_good_and_what_it_held_is_free_whoever_sweeps() {
    let fleet = Fleet::of(10).await;
    let [dead, other] = [fleet.leases.join("dead").await.unwrap(), fleet.leases.join("other").await.unwrap()];
    assert_eq!(fleet.claim(dead).await.len(), 10);
    fleet.evict(dead).await;
    // Whoever evicted it died before it freed anything.
    assert_eq!(fleet.claim(other).await, []);
    assert_eq!(fleet.leases.sweep().await.unwrap(), 10);
    assert!(!fleet.leases.beat(dead).await.unwrap(), "it comes back to life");
    assert_eq!(fleet.claim(dead).await, [], "it claims all the same");
    assert_eq!(fleet.claim(other).await.len(), 10);
    assert!(fleet.leases.beat(other).await.unwrap());
    assert_eq!(fleet.leases.sweep().await.unwrap(), 0);
    fleet.leases.leave(other).await.unwrap();
    assert_eq!(fleet.due(&[0]).await.len(), 10);
}

#[tokio::test]
async fn a_lost_lease_closes_nothing_of_its_successors() {
    let fleet = Fleet::of(1).await;
    let [dead, other] = [fleet.leases.join("dead").await.unwrap(), fleet.leases.join("other").await.unwrap()];
    let stale = fleet.claim(dead).await[0];
    fleet.evict(dead).await;
    fleet.leases.sweep().await.unwrap();
    let claim = fleet.claim(other).await[0];
    fleet.leases.close(&[close(stale)]).await.unwrap();
    assert_eq!(fleet.claim(other).await, [], "it was freed by the stale one");
    fleet.leases.close(&[Close { wait: Some(NOW), failures: 0, ..close(claim) }]).await.unwrap();
    assert_eq!(fleet.claim(other).await[0].failures, 0);
}

#[tokio::test]
async fn what_is_asked_for_during_a_poll_is_due_after_it() {
    let fleet = Fleet::of(2).await;
    let worker = fleet.leases.join("w").await.unwrap();
    let claims = fleet.claim(worker).await;
    assert_eq!(fleet.leases.wake(&["0@h".into()]).await.unwrap(), 1);
    fleet.leases.close(&[close(claims[0]), close(claims[1])]).await.unwrap();
    assert_eq!(fleet.due(&[worker]).await, [fleet.maildrops[0]]);
    fleet.leases.put_off(&fleet.maildrops, HOUR).await.unwrap();
    assert!(fleet.due(&[worker]).await.is_empty());
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is_left_alone_whoever_asks() {
    let fleet = Fleet::of(2).await;
    let worker = fleet.leases.join("w").await.unwrap();
    let claims = fleet.claim(worker).await;
    let names = ["0@h".to_owned(), "1@h".to_owned()];
    // Asked for while it is polled, and after.
    fleet.leases.wake(&names[..1]).await.unwrap();
    let apart = |claim| Close { apart: HOUR, ..close(claim) };
    fleet.leases.close(&[apart(claims[0]), Close { wait: None, ..apart(claims[1]) }]).await.unwrap();
    assert_eq!(fleet.leases.wake(&names).await.unwrap(), 2);
    assert!(fleet.due(&[worker]).await.is_empty());
    assert_eq!(fleet.leases.wake_all().await.unwrap(), 2);
    assert!(fleet.due(&[worker]).await.is_empty());
    fleet.leases.retire(&fleet.maildrops[..1]).await.unwrap();
    assert_eq!(fleet.leases.wake_all().await.unwrap(), 1, "one is of no account any more");
}

#[tokio::test]
async fn a_maildrop_that_was_put_off_is_woken_once_and_one_that_waits_for_its_first_poll_is_not() {
    let fleet = Fleet::of(2).await;
    let worker = fleet.leases.join("w").await.unwrap();
    fleet.leases.put_off(&fleet.maildrops, HOUR).await.unwrap();
    let names = ["0@h".to_owned(), "1@h".to_owned()];
    fleet.leases.wake_gone(&names).await.unwrap();
    assert_eq!(fleet.due(&NOBODY).await.len(), 2);
    let claims = fleet.claim(worker).await;
    assert_eq!(fleet.leases.holder(claims[0].maildrop).await.unwrap().unwrap().0, "w");
    fleet.leases.close(&[close(claims[0]), close(claims[1])]).await.unwrap();
    assert_eq!(fleet.leases.holder(claims[0].maildrop).await.unwrap(), None);
    fleet.leases.wake_gone(&names).await.unwrap();
    assert!(fleet.due(&[0, worker]).await.is_empty(), "another worker has seen it later");
    let new = Entered { identity: "2@h".into(), host: "h".into(), tenant: String::new(), wait: Some(HOUR) };
    fleet.leases.enter(std::slice::from_ref(&new)).await.unwrap();
    fleet.leases.wake_gone(&[new.identity]).await.unwrap();
    assert!(fleet.due(&NOBODY).await.is_empty(), "its first poll is spread");
}

#[tokio::test]
async fn what_a_worker_holds_without_knowing_it_is_given_back() {
    let fleet = Fleet::of(5).await;
    let worker = fleet.leases.join("w").await.unwrap();
    let claims = fleet.claim(worker).await;
    // The answer to the claim of all but one was lost.
    assert_eq!(fleet.leases.give_back(worker, &[claims[0].token]).await.unwrap(), 4);
    assert_eq!(fleet.due(&[worker]).await.len(), 4);
    let workers = fleet.leases.workers().await.unwrap();
    assert_eq!((workers.len(), workers[0].holds, workers[0].is_draining), (1, 1, false));
    fleet.leases.drain(worker).await.unwrap();
    assert!(fleet.leases.workers().await.unwrap()[0].is_draining);
}

#[tokio::test]
async fn what_is_of_no_account_is_not_counted_and_goes_only_when_its_records_are_old() {
    let fleet = Fleet::of(4).await;
    let worker = fleet.leases.join("w").await.unwrap();
    let [kept, polled, lately, old] = fleet.maildrops[..] else { panic!("not four") };
    fleet.leases.retire(&[polled, lately, old]).await.unwrap();
    assert_eq!(fleet.leases.counted().await.unwrap(), [kept]);
    assert_eq!(fleet.leases.old(0, 9).await.unwrap(), []);
    fleet.leases.sweep().await.unwrap();
    assert_eq!(fleet.due(&[GONE]).await, [polled, lately, old], "whoever knows better finds them");
    let claims = fleet.leases.claim(worker, &[polled]).await.unwrap();
    fleet.leases.close(&[close(claims[0])]).await.unwrap();
    assert_eq!(fleet.leases.counted().await.unwrap(), [kept, polled], "somebody has polled it");
    for sql in [
        "UPDATE lease SET mail_at = now() - interval '91 days'",
        "UPDATE maildrop SET listed_at = extract(epoch FROM now() - interval '91 days')",
        &format!("UPDATE maildrop SET poll_at = extract(epoch FROM now()) - 86400 WHERE id = {lately}"),
        &format!(
            "INSERT INTO seen (maildrop, uid, ordinal, octets, first_seen) VALUES ({old}, 'a', 0, 1, 1), ({kept}, 'a', 0, 1, 1)"
        ),
    ] {
        fleet.database.query(sql, &[]).await.unwrap();
    }
    let found = fleet.leases.old(0, 9).await.unwrap();
    assert_eq!(
        found.iter().map(|named| (named.maildrop, named.identity.as_str())).collect::<Vec<_>>(),
        [(old, "3@h")]
    );
    assert_eq!(fleet.leases.forget(&[old, kept]).await.unwrap(), 1);
    let left = fleet.database.query("SELECT maildrop FROM seen", &[]).await.unwrap();
    assert_eq!(left.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [kept]);
    assert_eq!(fleet.leases.identities(&[old, kept]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_nobody_has_the_key_of_says_not_that_polls_are_late_and_is_polled_by_whoever_has() {
    let fleet = Fleet::of(3).await;
    let worker = fleet.leases.join("w").await.unwrap();
    let late =
        format!("UPDATE lease SET due = now() - interval '1 hour' WHERE maildrop = {}", fleet.maildrops[0]);
    fleet.database.query(&late, &[]).await.unwrap();
    fleet.leases.leave_to_others(&fleet.maildrops, HOUR / 2).await.unwrap();
    let owned = fleet.leases.owned().await.unwrap();
    assert_eq!(owned, [(LEFT, 1)].into(), "the others are not late enough");
    let seen = Store::connect(fleet.server.clone())
        .overview(Which::All, Seen::Uncounted)
        .await
        .unwrap()
        .fleet
        .unwrap();
    assert!(seen.lag_seconds < 60 && (seen.all.maildrops, seen.all.waiting) == (3, 2), "{seen:?}");
    assert_eq!(fleet.due(&NOBODY).await.len(), 3);
    let claims = fleet.claim(worker).await;
    assert_eq!((claims.len(), fleet.leases.owned().await.unwrap()), (3, [(worker, 3)].into()));
}

#[tokio::test]
async fn what_one_worker_polled_last_is_taken_over_as_far_as_nobody_polls_it() {
    let fleet = Fleet::of(5).await;
    let [first, second] = [fleet.leases.join("a").await.unwrap(), fleet.leases.join("b").await.unwrap()];
    let claims = fleet.claim(first).await;
    fleet.leases.close(&claims[1..].iter().copied().map(close).collect::<Vec<_>>()).await.unwrap();
    let names = ["1@h", "2@h", "3@h", "4@h"];
    assert_eq!(fleet.leases.take_over(second, first, 9, &names).await.unwrap(), 0, "it cannot poll them");
    assert_eq!(fleet.leases.take_over(second, first, 2, &names[..1]).await.unwrap(), 2);
    assert_eq!(fleet.leases.owned().await.unwrap(), [(first, 3), (second, 2)].into());
    assert_eq!(fleet.leases.take_over(second, first, 9, &[]).await.unwrap(), 2, "one is being polled");
}
