//! Workers of one process, with a real PostgreSQL and sessions that poll nothing.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::config;
use crate::config::account::Interval;
use crate::lock::lock;
use crate::session::{Answer, Host};
use crate::state::postgres::schema::statements;
use crate::state::postgres::{Database, Server};
use server::{Pooler, Postgres};

mod crowds;

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, reason = "each program of tests uses its part")]
mod server;

const SECOND: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(2);

/// Who is polled now, and who was when.
#[derive(Default)]
struct World {
    inside: HashMap<String, usize>,
    polled: HashMap<String, Instant>,
    polls: usize,
    overlaps: usize,
    /// Sessions with each host, and the most of them at once.
    hosts: HashMap<String, (usize, usize)>,
    /// Polls of each tenant.
    tenants: HashMap<String, usize>,
    /// Hosts that sessions began with in the knowledge that they are away.
    away: HashSet<String>,
}

type Shared = Arc<Mutex<World>>;

/// A session that is under way.
struct Inside(Shared, Arc<Account>);

impl Inside {
    fn new(world: Shared, account: &Arc<Account>, host: Host) -> Self {
        {
            let mut world = lock(&world);
            let inside = world.inside.entry(account.maildrop_id.clone()).or_default();
            *inside += 1;
            let overlaps = usize::from(*inside > 1);
            world.overlaps += overlaps;
            world.polls += 1;
            world.polled.insert(account.maildrop_id.clone(), Instant::now());
            let (running, most) = world.hosts.entry(account.host.clone()).or_default();
            *running += 1;
            *most = (*most).max(*running);
            *world.tenants.entry(account.tenant().to_owned()).or_default() += 1;
            if host == Host::Away {
                world.away.insert(account.host.clone());
            }
        }
        Self(world, account.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut world = lock(&self.0);
        *world.inside.get_mut(&self.1.maildrop_id).unwrap() -= 1;
        world.hosts.get_mut(&self.1.host).unwrap().0 -= 1;
    }
}

/// A database with its name, and accounts of it.
struct Site {
    name: String,
    server: Server,
    accounts: Vec<Arc<Account>>,
    limits: Limits,
    /// How long a session takes.
    takes: Duration,
    world: Shared,
}

fn limits() -> Limits {
    Limits { sessions: 100, per_host: 100, startup_spread: SECOND, ..Limits::default() }
}

impl Site {
    fn new(accounts: usize) -> Self {
        let url = Postgres::shared().database();
        let name = url.rsplit('/').next().unwrap().to_owned();
        Self::at(name, server_of(&url), accounts)
    }

    /// One whose workers come to the database so.
    fn at(name: String, server: Server, accounts: usize) -> Self {
        Postgres::shared().execute(&name, &statements());
        let account = |number: usize| Account {
            maildrop_id: format!("{number}@h"),
            host: "h".into(),
            interval: Interval::Every(SECOND),
            ..Account::new(number.to_string())
        };
        let accounts = (0..accounts).map(|number| Arc::new(account(number))).collect();
        let takes = Duration::from_millis(20);
        Self { name, server, accounts, limits: limits(), takes, world: Shared::default() }
    }

    fn leases(&self) -> Leases {
        Leases::new(Database::new(self.server.clone()))
    }

    fn worker(&self) -> Fleet {
        let mut fleet = Fleet::join(self.leases(), self.leases(), self.limits.clone(), SILENCE);
        fleet.set_accounts(&self.accounts, self.limits.clone());
        fleet
    }

    /// Starts a worker that waits for a table's accounts.
    fn worker_of_a_table(&self) -> Fleet {
        let mut fleet = Fleet::join(self.leases(), self.leases(), self.limits.clone(), SILENCE);
        fleet.await_rows();
        fleet.set_accounts(&[], self.limits.clone());
        fleet
    }

    fn execute(&self, sql: &str) -> String {
        Postgres::shared().execute(&self.name, sql)
    }

    /// Runs a worker until it is dropped; nobody gets through to hosts that are called dead.
    async fn work(&self) {
        let (mut fleet, mut sessions) = (self.worker(), JoinSet::new());
        loop {
            tokio::select! {
                begin = fleet.begin() => {
                    let Begin { account, lease, session } = begin.unwrap();
                    let inside = Inside::new(self.world.clone(), &account, session.host);
                    let (course, term, takes) = (fleet.course(&session), session.term.clone(), self.takes);
                    let task = sessions.spawn(async move {
                        let _lease = lease;
                        tokio::select! {
                            () = sleep(takes) => {}
                            () = term.over() => {}
                        }
                        drop(inside);
                        let answer = if account.host == "dead" { Answer::Failed } else { Answer::Answered };
                        let report = Report { account: account.name.clone(), answer, ..Report::default() };
                        course.leave(&report);
                        report
                    });
                    fleet.began(task.id(), session);
                }
                Some(joined) = sessions.join_next_with_id() => {
                    let (task, report) = joined.unwrap();
                    let ended = match report.answer {
                        Answer::Failed => Ended::Failed(Class::Network),
                        Answer::Answered | Answer::None => Ended::Complete,
                    };
                    fleet.ended(task, ended, LogIn::default(), &report);
                }
            }
        }
    }

    /// Says that each maildrop was polled lately, and none twice at once.
    fn is_well(&self, within: Duration) {
        let world = lock(&self.world);
        assert_eq!(world.overlaps, 0, "in {} polls", world.polls);
        assert_eq!(world.polled.len(), self.accounts.len());
        let oldest = world.polled.values().map(Instant::elapsed).max().unwrap();
        assert!(oldest < within, "{oldest:?}");
    }
}

#[tokio::test]
async fn workers_share_what_is_due_and_take_over_what_a_dead_one_held() {
    let site = Site::new(60);
    let [first, second] = [site.work(), site.work()];
    let mut second = Box::pin(second);
    let mut first = Box::pin(first);
    tokio::select! {
        () = &mut first => {}
        () = &mut second => {}
        () = sleep(4 * SECOND) => {}
    }
    site.is_well(3 * SECOND);
    let workers = site.leases().workers().await.unwrap();
    assert_eq!(workers.iter().filter(|worker| !worker.is_evicted).count(), 2);
    drop(first);
    tokio::select! {
        () = &mut second => {}
        () = sleep(4 * SILENCE) => {}
    }
    site.is_well(3 * SECOND);
    let workers = site.leases().workers().await.unwrap();
    assert_eq!(workers.iter().filter(|worker| worker.is_evicted).count(), 1, "{workers:?}");
}

fn server_of(url: &str) -> Server {
    Server::new(config::Postgres::new(url).unwrap(), None)
}

#[tokio::test]
async fn workers_poll_all_in_time_behind_a_pooler_and_where_others_always_come_between() {
    let pooler = Pooler::start(Postgres::shared());
    let made = || Postgres::shared().database().rsplit('/').next().unwrap().to_owned();
    let (one, other) = (made(), made());
    let isolated = "?options=-cdefault_transaction_isolation%3Dserializable";
    let isolated = server_of(&(Postgres::shared().url(&other) + isolated)).disturbed();
    let pooled = server_of(&pooler.url(&one));
    let (pooled, isolated) = (Site::at(one, pooled, 30), Site::at(other, isolated, 30));
    tokio::select! {
        () = pooled.work() => {}
        () = pooled.work() => {}
        () = isolated.work() => {}
        () = isolated.work() => {}
        () = sleep(6 * SECOND) => {}
    }
    pooled.is_well(4 * SECOND);
    isolated.is_well(4 * SECOND);
}

#[tokio::test]
async fn a_worker_that_is_late_with_its_own_does_not_let_what_nobody_has_wait() {
    // Of sixty polls a second there is place for half at most.
    let site = Site { limits: Limits { sessions: 6, ..limits() }, ..Site::new(60) };
    let name = site.name.clone();
    let left = async {
        sleep(SECOND).await;
        let left = move || {
            Postgres::shared()
                .execute(&name, "UPDATE lease SET owner = -1 WHERE token = 0 AND maildrop % 2 = 0")
        };
        tokio::task::spawn_blocking(left).await.unwrap();
        sleep(14 * SECOND).await;
    };
    tokio::select! {
        () = site.work() => {}
        () = left => {}
    }
    site.is_well(12 * SECOND);
}

#[tokio::test]
async fn connections_that_are_cut_lose_no_claim_for_good() {
    let site = Site::new(60);
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
        site.name
    );
    let cutting = async {
        for _ in 0..12 {
            sleep(SECOND / 4).await;
            let cut = cut.clone();
            tokio::task::spawn_blocking(move || Postgres::shared().execute("postgres", &cut)).await.unwrap();
        }
        sleep(4 * SECOND).await;
    };
    tokio::select! {
        () = site.work() => {}
        () = site.work() => {}
        () = cutting => {}
    }
    site.is_well(3 * SECOND);
}

#[tokio::test]
async fn a_worker_that_ends_gives_back_what_it_held_at_once() {
    let site = Site::new(10);
    let mut fleet = site.worker();
    let mut held = Vec::new();
    while held.len() < 10 {
        held.push(fleet.begin().await.unwrap());
    }
    fleet.drain();
    fleet.finish().await;
    assert_eq!(site.leases().due(&[0], Duration::ZERO, (&[], &[], &[], None), 100).await.unwrap().len(), 10);
    assert_eq!(site.leases().workers().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_late_is_not_put_off_before_the_table_has_been_read() {
    let site = Site::new(5);
    let mut fleet = site.worker();
    for _ in 0..5 {
        fleet.begin().await.unwrap();
    }
    fleet.finish().await;
    Postgres::shared().execute(&site.name, "UPDATE lease SET due = now() - interval '1 minute'");
    let mut fleet = site.worker_of_a_table();
    sleep(3 * SECOND).await;
    assert_eq!(site.leases().due(&[0], Duration::ZERO, (&[], &[], &[], None), 100).await.unwrap().len(), 5);
    fleet.set_rows(Rows { polled: site.accounts.clone(), ..Rows::default() });
    for _ in 0..5 {
        fleet.begin().await.unwrap();
    }
}

/// Has a worker look for a while at what is late, with these rows in the table.
async fn looks_at_what_is_late(site: &Site, rows: Rows) {
    Postgres::shared().execute(&site.name, "UPDATE lease SET due = now() - interval '1 minute'");
    let mut fleet = site.worker_of_a_table();
    fleet.set_rows(rows);
    sleep(3 * SECOND).await;
    fleet.finish().await;
}

#[tokio::test]
async fn what_a_worker_cannot_use_stays_as_it_is_for_the_others() {
    let site = Site::new(5);
    let mut fleet = site.worker();
    for _ in 0..5 {
        fleet.begin().await.unwrap();
    }
    fleet.finish().await;
    let late = "SELECT count(*) FROM lease WHERE due < now() AND owner = 0";
    let left = |unusable: &[Arc<Account>]| Rows { unusable: unusable.to_vec(), ..Rows::default() };
    looks_at_what_is_late(&site, left(&site.accounts)).await;
    assert_eq!(Postgres::shared().execute(&site.name, late), "5");
    // What is of no account at all, or of a row that is wrong for all workers, waits, is counted no more, and is back at once
    // when it is an account's again.
    let rows = Rows { wrong: site.accounts[2..4].to_vec(), ..left(&site.accounts[..2]) };
    looks_at_what_is_late(&site, rows).await;
    assert_eq!(Postgres::shared().execute(&site.name, late), "2");
    let gone = "SELECT count(*) FROM lease WHERE due > now() + interval '5 minutes' AND owner = -1";
    assert_eq!(Postgres::shared().execute(&site.name, gone), "3");
    let mut fleet = site.worker();
    for _ in 0..5 {
        fleet.begin().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_worker_leaves_to_others_hides_nothing_from_it_however_much_that_is() {
    let site = Site::new(1);
    let many = "WITH made AS (INSERT INTO maildrop (identity) SELECT 'left' || n FROM generate_series(1, 9000) AS n RETURNING id)
        INSERT INTO lease (maildrop, due) SELECT id, now() - interval '1 hour' FROM made";
    Postgres::shared().execute(&site.name, many);
    let due =
        "SELECT sum(extract(epoch FROM due)::bigint) FROM lease WHERE due < now() - interval '50 minutes'";
    let before = Postgres::shared().execute(&site.name, due);
    let account =
        |number: i32| Account { maildrop_id: format!("left{number}"), ..Account::new(number.to_string()) };
    let unusable = (1..=9000).map(|number| Arc::new(account(number))).collect();
    let mut fleet = site.worker_of_a_table();
    fleet.set_rows(Rows { polled: site.accounts.clone(), unusable, ..Rows::default() });
    let begin =
        tokio::time::timeout(60 * SECOND, fleet.begin()).await.expect("it is seen behind them").unwrap();
    assert_eq!(begin.account.maildrop_id, "0@h");
    assert_eq!(Postgres::shared().execute(&site.name, due), before, "they wait where they were");
}

#[tokio::test]
async fn a_worker_that_reads_no_table_drops_nothing_that_may_be_of_a_row() {
    let site = Site::new(2);
    let fleet = site.worker();
    while Postgres::shared().execute(&site.name, "SELECT count(*) FROM lease") != "2" {
        sleep(SECOND / 10).await;
    }
    fleet.finish().await;
    let old = "UPDATE lease SET owner = -1, mail_at = now() - interval '91 days'";
    Postgres::shared().execute(&site.name, old);
    let left = || Postgres::shared().execute(&site.name, "SELECT count(*) FROM lease");
    let mut fleet = Fleet::join(site.leases(), site.leases(), limits(), SILENCE);
    // As one does whose file named a table until it was read again.
    fleet.await_rows();
    fleet.read_no_table();
    fleet.set_accounts(&[], limits());
    sleep(3 * SECOND).await;
    assert_eq!(left(), "2");
    fleet.finish().await;
    looks_at_what_is_late(&site, Rows { disabled: site.accounts[..1].to_vec(), ..Rows::default() }).await;
    assert_eq!(left(), "1", "the other is of no row");
}

#[tokio::test]
async fn a_session_ends_whose_account_is_gone_or_another_and_goes_on_for_the_others() {
    let site = Site::new(3);
    let mut fleet = site.worker();
    let (mut stops, mut sessions) = (HashMap::new(), JoinSet::new());
    while stops.len() < 3 {
        let Begin { account, mut session, .. } = fleet.begin().await.unwrap();
        stops.insert(account.name.clone(), session.stop(&Default::default()));
        fleet.began(sessions.spawn(std::future::pending::<()>()).id(), session);
    }
    let changed = |number: usize, keys: &dyn Fn(&mut Account)| {
        let mut account = Account::clone(&site.accounts[number]);
        keys(&mut account);
        Arc::new(account)
    };
    let now = [
        changed(0, &|account| account.user = "another".into()),
        changed(1, &|account| account.interval = Interval::Manual),
        changed(2, &|account| account.enabled = false),
    ];
    fleet.set_accounts(&now, Limits::default());
    assert!(stops["0"].is_asked() && !stops["1"].is_asked() && stops["2"].is_asked());
}
