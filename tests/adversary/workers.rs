//! The state of a story in a database that workers share: each poll is another worker's, and what would kill a program may as
//! well stop it for longer than its lease lasts, or have its lease taken away.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postrider::testing::config::Account;
use postrider::testing::session::{Environment, WallClock};
use postrider::testing::state::postgres::{
    Claim, Close, Database, Entered, Leases, Postgres as Configured, Server, statements,
};
use postrider::testing::state::{Claimed, Store};
use postrider::testing::stop::{Renewer, Term, since_boot, term};

use super::kills::Stroke;
use super::postgres::Postgres;

/// So many take turns.
const WORKERS: usize = 3;
/// No term ends by itself in a story.
const LONG: Duration = Duration::from_secs(3600);

/// The workers of a story, and their database.
pub struct Workers {
    clock: Arc<AtomicI64>,
    folder: PathBuf,
    database: String,
    /// What the database was like before polls, and all that were made.
    kept: HashMap<usize, String>,
    made: Vec<String>,
    idle: [Option<Worker>; WORKERS],
}

/// A process that polls when it is its turn.
pub struct Worker {
    environment: Environment,
    database: Database,
    leases: Leases,
    /// Who it is among the workers; none, once it was evicted.
    member: Option<Member>,
}

struct Member {
    id: i64,
    renewer: Arc<Renewer>,
    term: Term,
}

/// A worker that has the lease on the maildrop.
pub struct Polling {
    pub environment: Environment,
    worker: Worker,
    index: usize,
    claim: Claim,
    is_robbed: Arc<AtomicBool>,
}

/// How a poll ended that had not lost its lease, or had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Held,
    Lost,
    /// And something was recorded after that.
    Late,
}

/// What befalls the worker of a poll, if something does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Killed,
    /// Its lease becomes another's, and it does not hear of that.
    Robbed,
    /// It is stopped for longer than its lease lasts.
    Stopped,
    /// The same, and another one polls the maildrop meanwhile.
    Overtaken,
}

impl Workers {
    pub fn new(folder: &Path, clock: &Arc<AtomicI64>) -> Self {
        let mut workers = Self {
            clock: clock.clone(),
            folder: folder.to_owned(),
            database: String::new(),
            kept: HashMap::new(),
            made: Vec::new(),
            idle: Default::default(),
        };
        workers.database = workers.copy(empty());
        workers
    }

    /// Says what may befall the worker of a poll, by a rule that any story has.
    pub fn fate(poll: usize, events: usize) -> Fate {
        match (poll + events) % 4 {
            0 => Fate::Overtaken,
            1 => Fate::Killed,
            2 => Fate::Stopped,
            _ => Fate::Robbed,
        }
    }

    /// Has the worker whose turn it is take the lease on the maildrop.
    pub async fn claim(&mut self, turn: usize, account: &Account) -> Polling {
        let index = turn % WORKERS;
        let mut worker = match self.idle[index].take() {
            Some(worker) => worker,
            None => self.start(index),
        };
        let member = match worker.member.take() {
            Some(member) => member,
            None => {
                let id = worker.leases.join(&format!("worker {index}")).await.expect("a database");
                let (renewer, term) = term(since_boot() + LONG);
                Member { id, renewer: Arc::new(renewer), term }
            }
        };
        // Whoever was killed is not heard of any more.
        let live = self.idle.iter().flatten().filter_map(|worker| worker.member.as_ref());
        let live: Vec<String> = live.chain([&member]).map(|member| member.id.to_string()).collect();
        let evict = format!("UPDATE worker SET evicted = true WHERE id NOT IN ({})", live.join(", "));
        worker.database.query(&evict, &[]).await.expect("a database");
        let entered = Entered::of(account, Some(Duration::ZERO));
        let maildrop = worker.leases.enter(&[entered]).await.expect("a database");
        worker.leases.sweep().await.expect("a database");
        let claims = worker.leases.claim(member.id, &maildrop).await.expect("a database");
        let claim = *claims.first().expect("whoever had the lease is gone");
        let claimed = Claimed::new(claim.token, member.term.own(), || ());
        let environment = Environment { claimed: Some(Arc::new(claimed)), ..worker.environment.clone() };
        worker.member = Some(member);
        Polling { environment, worker, index, claim, is_robbed: Arc::default() }
    }

    fn start(&self, index: usize) -> Worker {
        let url = Postgres::shared().url(&self.database);
        let server = Server::new(Configured::new(&url).expect("a URL"), None);
        let environment = Environment {
            clock: WallClock::Set(self.clock.clone()),
            store: Store::connect(server.clone()),
            ..Environment::new(self.folder.join(format!("worker-{index}.db")))
        };
        let database = Database::new(server);
        Worker { environment, leases: Leases::new(database.clone()), database, member: None }
    }

    /// Ends a poll, whoever has the lease by now.
    pub async fn end(&mut self, polling: Polling) -> Left {
        let Polling { environment, mut worker, index, claim, is_robbed } = polling;
        environment.disk.settled().await;
        drop(environment);
        let close =
            Close { claim, wait: Some(Duration::ZERO), apart: Duration::ZERO, failures: 0, mail: false };
        worker.leases.close(&[close]).await.expect("a database");
        let late = "SELECT maildrop FROM lease WHERE version <> -1 AND owner IN (0, 77)";
        let late = worker.database.query(late, &[]).await.expect("a database");
        let left = match (is_robbed.load(Relaxed), late.is_empty()) {
            (false, _) => Left::Held,
            (true, true) => Left::Lost,
            (true, false) => Left::Late,
        };
        if left != Left::Held {
            worker.member = None;
        }
        self.idle[index] = Some(worker);
        left
    }

    /// Keeps what is recorded before a poll.
    pub fn keep(&mut self, poll: usize) {
        self.idle = Default::default();
        let kept = self.copy(&self.database.clone());
        self.kept.insert(poll, kept);
    }

    /// Has what was kept before a poll, or nothing.
    pub fn restore(&mut self, poll: Option<usize>) {
        self.idle = Default::default();
        let kept = poll.and_then(|poll| self.kept.get(&poll).cloned());
        self.database = self.copy(kept.as_deref().unwrap_or(empty()));
    }

    fn copy(&mut self, database: &str) -> String {
        let end = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'"
        );
        Postgres::shared().execute("postgres", &end);
        let copy = copied(database);
        self.made.push(copy.clone());
        copy
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.idle = Default::default();
        for database in &self.made {
            Postgres::shared().execute("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
        }
    }
}

impl Polling {
    /// Gives what befalls it.
    pub fn stroke(&self, fate: Fate) -> Stroke {
        let member = self.worker.member.as_ref().expect("it has a lease");
        let (id, renewer, is_robbed) = (member.id, member.renewer.clone(), self.is_robbed.clone());
        let database = self.database();
        let take = move |sql: String| {
            is_robbed.store(true, Relaxed);
            Postgres::shared().execute(&database, &sql);
        };
        match fate {
            Fate::Killed => Stroke::Kill,
            // A worker whom nobody knows.
            Fate::Robbed => Stroke::Theft(Arc::new(move || {
                take("UPDATE lease SET token = 77, owner = 77, version = -1".into());
            })),
            Fate::Stopped | Fate::Overtaken => Stroke::Theft(Arc::new(move || {
                renewer.end();
                take(format!(
                    "UPDATE worker SET evicted = true WHERE id = {id};
                     UPDATE lease SET token = 0, owner = 0, version = -1"
                ));
            })),
        }
    }

    fn database(&self) -> String {
        let server = self.worker.environment.store.server().expect("a database");
        server.url().rsplit('/').next().expect("a name").to_owned()
    }
}

/// Names a database that has the tables, and nothing in them.
fn empty() -> &'static str {
    static EMPTY: OnceLock<String> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let url = Postgres::shared().database();
        let name = url.rsplit('/').next().expect("a name").to_owned();
        Postgres::shared().execute(&name, &statements());
        name
    })
}

fn copied(database: &str) -> String {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let copy = format!("story{}", COUNT.fetch_add(1, Relaxed));
    Postgres::shared().execute("postgres", &format!("CREATE DATABASE {copy} TEMPLATE {database}"));
    copy
}
