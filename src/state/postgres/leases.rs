//! Leases of maildrops, and the workers that hold them: rows, fenced by random tokens, on the database's clock.
//!
//! A worker is heard of by its heartbeat. One that was not for too long is evicted, for good: its identity is never used
//! again, and what it held is free. Freeing is a sweep that is done again and again, so that whoever dies in between leaves
//! nothing behind: a lease is free unless its owner is a live worker, and a worker gives back what it does not know to hold.
//!
//! A maildrop's `owner` is who polled it last, and the first to be asked to do it again, or [`GONE`], or [`LEFT`]; the lease itself
//! is `token`.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connection::{Database, Param, TIME};
use crate::clock::since_boot;
use crate::config::Account;
use crate::net::host_name;
use crate::state::fleet::{GONE, LEFT};
use crate::state::{StateError, Trouble};

/// What is polled only when somebody asks is due in so long, in microseconds: a hundred years.
const NEVER: i64 = 100 * 365 * 86_400 * 1_000_000;

/// The owner of a maildrop that waits for its first poll.
pub const NEW: i64 = 0;
/// The owners of maildrops that no worker has polled last.
pub const NOBODY: [i64; 3] = [NEW, GONE, LEFT];

/// What was recorded of a maildrop goes so long after it was listed last, as records of messages do.
const KEPT: &str = "90 days";

/// A maildrop that is to have a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    pub identity: String,
    /// In lower case.
    pub host: String,
    /// Empty: the operator's own.
    pub tenant: String,
    /// When it is due for the first time, from now; `None`: when somebody asks.
    pub wait: Option<Duration>,
}

impl Entered {
    pub fn of(account: &Account, wait: Option<Duration>) -> Self {
        Self {
            identity: account.maildrop_id.clone(),
            host: account.host.to_ascii_lowercase(),
            tenant: account.tenant().to_owned(),
            wait,
        }
    }
}

/// A maildrop that is due, and free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub maildrop: i64,
    pub due: SystemTime,
    /// How long ago it was due.
    pub late: Duration,
}

/// What whoever looks for what is due looks past: hosts, tenants, maildrops, and all up to one, in the order of what is due.
pub type Past<'p> = (&'p [String], &'p [String], &'p [i64], Option<Due>);

/// A maildrop that is of no account, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub maildrop: i64,
    pub identity: String,
    /// The account that polled it last.
    pub account: Option<String>,
}

/// A lease that this worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub maildrop: i64,
    /// What every write names.
    pub token: i64,
    /// When it was due: another time by the end says that somebody wants it polled again.
    pub due: SystemTime,
    /// Failures in a row.
    pub failures: u32,
    /// How long no mail has come.
    pub quiet: Duration,
}

/// A lease that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    pub claim: Claim,
    /// When it is due next, from now; `None`: when somebody asks.
    pub wait: Option<Duration>,
    /// How long its server wants to be left alone, whoever asks.
    pub apart: Duration,
    pub failures: u32,
    /// Mail has come.
    pub mail: bool,
}

/// A worker, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: i64,
    pub name: String,
    pub version: String,
    /// How long ago it was heard of.
    pub heard: Duration,
    pub is_draining: bool,
    pub is_evicted: bool,
    /// Leases that it holds.
    pub holds: u64,
}

/// The rows of workers and leases. Cheap to clone.
#[derive(Clone)]
pub struct Leases(Database);

impl Leases {
    pub fn new(database: Database) -> Self {
        Self(database)
    }

    /// Enters a worker under an identity that nobody had before, and gives that.
    ///
    /// # Errors
    ///
    /// Those of [`Database::may_be_used`], among others.
    pub async fn join(&self, name: &str) -> Result<i64, StateError> {
        let id = random();
        // Who keeps workers out waits for this one, and sees it; or is waited for.
        let sql = "INSERT INTO worker (id, name, version, beat) SELECT $1, $2, $3, now()
                   FROM (SELECT oldest FROM postrider FOR SHARE) AS tables WHERE oldest <= $4 RETURNING id";
        let (version, known) = (env!("CARGO_PKG_VERSION"), self.0.version());
        let params: [Param<'_>; 4] =
            [(&id, Type::INT8), (&name, Type::TEXT), (&version, Type::TEXT), (&known, Type::INT8)];
        if self.0.query(sql, &params).await?.is_empty() {
            self.may_go_on().await?;
            let what = "who may use its tables has changed just now; try again";
            return Err(StateError::of_database(&self.0.place(), Trouble::Contended, what));
        }
        Ok(id)
    }

    /// Looks whether this program may use the tables still.
    ///
    /// # Errors
    ///
    /// Those of [`Database::may_be_used`].
    pub async fn may_go_on(&self) -> Result<(), StateError> {
        self.0.may_be_used().await
    }

    /// Says that a worker lives; false if it has been evicted. Takes note of the database's time.
    pub async fn beat(&self, worker: i64) -> Result<bool, StateError> {
        let asked = since_boot();
        let sql = format!("UPDATE worker SET beat = now() WHERE id = $1 AND NOT evicted RETURNING {TIME}");
        let rows = self.0.query(&sql, &[(&worker, Type::INT8)]).await?;
        rows.iter().for_each(|row| self.0.note_time(asked, row.get(0)));
        Ok(!rows.is_empty())
    }

    /// Says whether a worker has not been evicted.
    pub async fn lives(&self, worker: i64) -> Result<bool, StateError> {
        let sql = "SELECT id FROM worker WHERE id = $1 AND NOT evicted";
        Ok(!self.0.query(sql, &[(&worker, Type::INT8)]).await?.is_empty())
    }

    /// Says that a worker claims nothing any more.
    pub async fn drain(&self, worker: i64) -> Result<(), StateError> {
        let sql = "UPDATE worker SET draining = true WHERE id = $1";
        self.0.query(sql, &[(&worker, Type::INT8)]).await.map(drop)
    }

    /// Takes a worker out that has ended, and frees what it held.
    pub async fn leave(&self, worker: i64) -> Result<(), StateError> {
        self.0.query("DELETE FROM worker WHERE id = $1", &[(&worker, Type::INT8)]).await?;
        self.sweep().await.map(drop)
    }

    /// Evicts those that were not heard of for so long, and forgets those that were evicted long ago. Gives their names.
    pub async fn evict(&self, silence: Duration) -> Result<Vec<String>, StateError> {
        let long = silence.saturating_mul(1000);
        let old = "DELETE FROM worker WHERE evicted AND beat < now() - $1 * interval '1 microsecond'";
        self.0.query(old, &[(&micros(long), Type::INT8)]).await?;
        let sql = "UPDATE worker SET evicted = true
                   WHERE NOT evicted AND beat < now() - $1 * interval '1 microsecond' RETURNING name";
        let evicted = self.0.query(sql, &[(&micros(silence), Type::INT8)]).await?;
        Ok(evicted.iter().map(|row| row.get(0)).collect())
    }

    /// Frees what is owned by nobody who lives. Gives how many that were.
    pub async fn sweep(&self) -> Result<usize, StateError> {
        let sql = "UPDATE lease SET token = 0, owner = 0, due = greatest(due, log_in_at) WHERE owner > 0 AND NOT EXISTS
                   (SELECT 1 FROM worker WHERE worker.id = lease.owner AND NOT worker.evicted) RETURNING maildrop";
        Ok(self.0.query(sql, &[]).await?.len())
    }

    /// Gives back what a worker holds without knowing it, since the answer to its claim was lost, or a close. No claim of
    /// it may be under way.
    pub async fn give_back(&self, worker: i64, known: &[i64]) -> Result<usize, StateError> {
        let sql = "UPDATE lease SET token = 0, due = greatest(due, log_in_at)
                   WHERE owner = $1 AND token <> 0 AND NOT (token = ANY($2)) RETURNING maildrop";
        Ok(self.0.query(sql, &[(&worker, Type::INT8), (&known, Type::INT8_ARRAY)]).await?.len())
    }

    /// Makes the rows of maildrops that have none, and gives the number of each in the same order.
    pub async fn enter(&self, maildrops: &[Entered]) -> Result<Vec<i64>, StateError> {
        let identities: Vec<&str> = maildrops.iter().map(|maildrop| maildrop.identity.as_str()).collect();
        let hosts: Vec<&str> = maildrops.iter().map(|maildrop| maildrop.host.as_str()).collect();
        let tenants: Vec<&str> = maildrops.iter().map(|maildrop| maildrop.tenant.as_str()).collect();
        let waits: Vec<i64> = maildrops.iter().map(|maildrop| maildrop.wait.map_or(NEVER, micros)).collect();
        let own = "INSERT INTO maildrop (identity) SELECT x.identity FROM unnest($1::text[]) AS x(identity)
                   ON CONFLICT (identity) DO NOTHING";
        self.0.query(own, &[(&identities, Type::TEXT_ARRAY)]).await?;
        let sql = "INSERT INTO lease (maildrop, host, tenant, due, mail_at)
                   SELECT m.id, x.host, x.tenant, now() + x.wait * interval '1 microsecond', now()
                   FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS x(identity, host, wait, tenant)
                   JOIN maildrop m ON m.identity = x.identity
                   ON CONFLICT (maildrop) DO UPDATE SET host = excluded.host, tenant = excluded.tenant,
                       owner = greatest(lease.owner, 0)
                   WHERE lease.host <> excluded.host OR lease.tenant <> excluded.tenant OR lease.owner < 0";
        let parameters: [Param<'_>; 4] = [
            (&identities, Type::TEXT_ARRAY),
            (&hosts, Type::TEXT_ARRAY),
            (&waits, Type::INT8_ARRAY),
            (&tenants, Type::TEXT_ARRAY),
        ];
        self.0.query(sql, &parameters).await?;
        let sql = "SELECT identity, id FROM maildrop WHERE identity = ANY($1)";
        let rows = self.0.query(sql, &[(&identities, Type::TEXT_ARRAY)]).await?;
        let known: HashMap<&str, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(identities.iter().map(|identity| known.get(identity).copied().unwrap_or_default()).collect())
    }

    /// Gives what is due and free of what these owners polled last ([`NOBODY`]), the longest due first, once it has waited for
    /// a grace.
    pub async fn due(
        &self,
        owners: &[i64],
        grace: Duration,
        (hosts, tenants, maildrops, behind): Past<'_>,
        most: usize,
    ) -> Result<Vec<Due>, StateError> {
        let sql = "SELECT maildrop, due, (extract(epoch FROM now() - due) * 1000000)::bigint FROM lease
                   WHERE owner = ANY($1) AND token = 0 AND due <= now() - $2 * interval '1 microsecond'
                   AND NOT (host = ANY($3)) AND NOT (tenant = ANY($4)) AND NOT (maildrop = ANY($5))
                   AND (due, maildrop) > ($7, $8) ORDER BY due, maildrop LIMIT $6";
        let (grace, most) = (micros(grace), i64::try_from(most).unwrap_or(i64::MAX));
        let (due, last) = behind.map_or((UNIX_EPOCH, 0), |behind| (behind.due, behind.maildrop));
        let parameters: [Param<'_>; 8] = [
            (&owners, Type::INT8_ARRAY),
            (&grace, Type::INT8),
            (&hosts, Type::TEXT_ARRAY),
            (&tenants, Type::TEXT_ARRAY),
            (&maildrops, Type::INT8_ARRAY),
            (&most, Type::INT8),
            (&due, Type::TIMESTAMPTZ),
            (&last, Type::INT8),
        ];
        let rows = self.0.query(sql, &parameters).await?;
        Ok(rows.iter().map(|row| Due { maildrop: row.get(0), due: row.get(1), late: span(row, 2) }).collect())
    }

    /// Lets maildrops wait that nobody holds, and that are of no account that this worker knows.
    pub async fn put_off(&self, maildrops: &[i64], wait: Duration) -> Result<(), StateError> {
        let sql = format!(
            "UPDATE lease SET owner = {GONE}, due = now() + $2 * interval '1 microsecond'
             WHERE maildrop = ANY($1) AND token = 0"
        );
        self.0.query(&sql, &[(&maildrops, Type::INT8_ARRAY), (&micros(wait), Type::INT8)]).await.map(drop)
    }

    /// Takes note that a worker cannot use the rows of these maildrops, of those that nobody has polled for so long after they
    /// were due. They stay due.
    pub async fn leave_to_others(&self, maildrops: &[i64], late: Duration) -> Result<(), StateError> {
        let sql = format!(
            "UPDATE lease SET owner = {LEFT} WHERE maildrop = ANY($1) AND token = 0 AND owner >= 0
             AND due < now() - $2 * interval '1 microsecond'"
        );
        self.0.query(&sql, &[(&maildrops, Type::INT8_ARRAY), (&micros(late), Type::INT8)]).await.map(drop)
    }

    /// Takes note that maildrops are of no account any more. Whoever knows better, and polls one, counts it again.
    pub async fn retire(&self, maildrops: &[i64]) -> Result<(), StateError> {
        let sql = format!(
            "UPDATE lease SET owner = {GONE} WHERE maildrop = ANY($1) AND token = 0 AND owner <> {GONE}"
        );
        self.0.query(&sql, &[(&maildrops, Type::INT8_ARRAY)]).await.map(drop)
    }

    /// Gives all maildrops that are counted as an account's, and free.
    pub async fn counted(&self) -> Result<Vec<i64>, StateError> {
        let sql = format!("SELECT maildrop FROM lease WHERE owner <> {GONE} AND token = 0");
        Ok(self.0.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Gives the identities of these maildrops.
    pub async fn identities(&self, maildrops: &[i64]) -> Result<HashMap<i64, String>, StateError> {
        let sql = "SELECT id, identity FROM maildrop WHERE id = ANY($1)";
        let rows = self.0.query(sql, &[(&maildrops, Type::INT8_ARRAY)]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Gives up to so many maildrops behind one, by number, that are of no account, and of which nothing was heard for as long as records last.
    pub async fn old(&self, behind: i64, most: usize) -> Result<Vec<Named>, StateError> {
        let sql = format!(
            "SELECT id, identity, poll_account FROM lease JOIN maildrop ON id = lease.maildrop
             WHERE id > $1 AND owner = {GONE} AND token = 0 AND mail_at < now() - interval '{KEPT}'
             AND greatest(listed_at, poll_at, 0) < extract(epoch FROM now() - interval '{KEPT}') ORDER BY id LIMIT {most}"
        );
        let named = |row: &Row| Named { maildrop: row.get(0), identity: row.get(1), account: row.get(2) };
        Ok(self.0.query(&sql, &[(&behind, Type::INT8)]).await?.iter().map(named).collect())
    }

    /// Drops all that is recorded of maildrops that are of no account, unless somebody has them meanwhile. Gives how many.
    pub async fn forget(&self, maildrops: &[i64]) -> Result<usize, StateError> {
        let records = ["seen", "held", "reached", "unclaimed", "told"].map(|table| {
            format!("{table}_gone AS (DELETE FROM {table} WHERE maildrop IN (SELECT maildrop FROM gone))")
        });
        let sql = format!(
            "WITH gone AS (DELETE FROM lease WHERE maildrop = ANY($1) AND token = 0 AND owner = {GONE} RETURNING maildrop),
             {} DELETE FROM maildrop WHERE id IN (SELECT maildrop FROM gone) RETURNING id",
            records.join(", ")
        );
        Ok(self.0.query(&sql, &[(&maildrops, Type::INT8_ARRAY)]).await?.len())
    }

    /// Counts the maildrops that each worker polled last.
    pub async fn owned(&self) -> Result<HashMap<i64, u64>, StateError> {
        let sql = "SELECT owner, count(*) FROM lease WHERE owner <> 0 GROUP BY owner";
        let rows = self.0.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1).cast_unsigned())).collect())
    }

    /// Has a worker be the first to poll so many maildrops that another one polled last, and that nobody polls now: some of
    /// each time, or both would be idle in turn. Those of some identities it leaves. Gives how many that were.
    pub async fn take_over(
        &self,
        worker: i64,
        from: i64,
        most: u64,
        left: &[&str],
    ) -> Result<u64, StateError> {
        let sql = "UPDATE lease SET owner = $1 FROM (
                       SELECT maildrop FROM lease WHERE owner = $2 AND token = 0
                       AND NOT (maildrop IN (SELECT id FROM maildrop WHERE identity = ANY($4)))
                       ORDER BY mod(maildrop * 40503, 65536), maildrop LIMIT $3) AS chosen
                   WHERE lease.maildrop = chosen.maildrop AND lease.owner = $2 AND lease.token = 0
                   AND EXISTS (SELECT 1 FROM worker WHERE worker.id = $1 AND NOT worker.evicted)
                   RETURNING lease.maildrop";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Param<'_>; 4] =
            [(&worker, Type::INT8), (&from, Type::INT8), (&most, Type::INT8), (&left, Type::TEXT_ARRAY)];
        Ok(self.0.query(sql, &parameters).await?.len() as u64)
    }

    /// Claims those of these maildrops that are still free, if the worker lives.
    pub async fn claim(&self, worker: i64, maildrops: &[i64]) -> Result<Vec<Claim>, StateError> {
        let tokens: Vec<i64> = maildrops.iter().map(|_| random()).collect();
        // The recheck of the token is the lock.
        let sql = "WITH claimed AS (
                       UPDATE lease SET owner = $1, token = x.token
                       FROM unnest($2::bigint[], $3::bigint[]) AS x(maildrop, token)
                       WHERE lease.maildrop = x.maildrop AND lease.token = 0
                       AND EXISTS (SELECT 1 FROM worker WHERE worker.id = $1 AND NOT worker.evicted)
                       RETURNING lease.maildrop, lease.token, lease.due, lease.failures,
                       (extract(epoch FROM now() - lease.mail_at) * 1000000)::bigint),
                   counted AS (
                       UPDATE worker SET claims = claims + (SELECT count(*) FROM claimed)
                       WHERE id = $1 AND EXISTS (SELECT 1 FROM claimed))
                   SELECT * FROM claimed";
        let parameters: [Param<'_>; 3] =
            [(&worker, Type::INT8), (&maildrops, Type::INT8_ARRAY), (&tokens, Type::INT8_ARRAY)];
        let rows = self.0.query(sql, &parameters).await?;
        let claim = |row: &Row| Claim {
            maildrop: row.get(0),
            token: row.get(1),
            due: row.get(2),
            failures: u32::try_from(row.get::<_, i64>(3)).unwrap_or(0),
            quiet: span(row, 4),
        };
        Ok(rows.iter().map(claim).collect())
    }

    /// Takes note of log-ins, and for how long each server wants to be left alone after it: a close may never come.
    pub async fn log_in(&self, log_ins: &[(Claim, Duration)]) -> Result<(), StateError> {
        let maildrops: Vec<i64> = log_ins.iter().map(|(claim, _)| claim.maildrop).collect();
        let tokens: Vec<i64> = log_ins.iter().map(|(claim, _)| claim.token).collect();
        let aparts: Vec<i64> = log_ins.iter().map(|(_, apart)| micros(*apart)).collect();
        let sql = "UPDATE lease SET log_in_at = now() + x.apart * interval '1 microsecond'
                   FROM (SELECT maildrop, token, max(apart) AS apart
                         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS y(maildrop, token, apart)
                         GROUP BY maildrop, token) AS x
                   WHERE lease.maildrop = x.maildrop AND lease.token = x.token";
        let parameters: [Param<'_>; 3] =
            [(&maildrops, Type::INT8_ARRAY), (&tokens, Type::INT8_ARRAY), (&aparts, Type::INT8_ARRAY)];
        self.0.query(sql, &parameters).await.map(drop)
    }

    /// Gives leases back, and says when their maildrops are due: unless somebody has said so meanwhile. One that was lost
    /// changes nothing.
    pub async fn close(&self, closes: &[Close]) -> Result<(), StateError> {
        let maildrops: Vec<i64> = closes.iter().map(|close| close.claim.maildrop).collect();
        let tokens: Vec<i64> = closes.iter().map(|close| close.claim.token).collect();
        let was: Vec<SystemTime> = closes.iter().map(|close| close.claim.due).collect();
        let waits: Vec<i64> = closes.iter().map(|close| close.wait.map_or(NEVER, micros)).collect();
        let aparts: Vec<i64> = closes.iter().map(|close| micros(close.apart)).collect();
        let failures: Vec<i64> = closes.iter().map(|close| close.failures.into()).collect();
        let mail: Vec<bool> = closes.iter().map(|close| close.mail).collect();
        let sql = "UPDATE lease SET token = 0, failures = x.failures,
                   due = CASE WHEN lease.due = x.was THEN now() + x.wait * interval '1 microsecond'
                       ELSE greatest(lease.due, now() + x.apart * interval '1 microsecond') END,
                   log_in_at = now() + x.apart * interval '1 microsecond',
                   mail_at = CASE WHEN x.mail THEN now() ELSE lease.mail_at END
                   FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bool[],
                       $7::bigint[]) AS x(maildrop, token, was, wait, failures, mail, apart)
                   WHERE lease.maildrop = x.maildrop AND lease.token = x.token";
        let parameters: [Param<'_>; 7] = [
            (&maildrops, Type::INT8_ARRAY),
            (&tokens, Type::INT8_ARRAY),
            (&was, Type::TIMESTAMPTZ_ARRAY),
            (&waits, Type::INT8_ARRAY),
            (&failures, Type::INT8_ARRAY),
            (&mail, Type::BOOL_ARRAY),
            (&aparts, Type::INT8_ARRAY),
        ];
        self.0.query(sql, &parameters).await.map(drop)
    }

    /// Makes maildrops due now, or as soon as their servers let them be polled. Gives how many there are.
    pub async fn wake(&self, identities: &[String]) -> Result<usize, StateError> {
        let sql = "UPDATE lease SET due = greatest(now(), log_in_at)
                   WHERE maildrop IN (SELECT id FROM maildrop WHERE identity = ANY($1))
                   RETURNING maildrop";
        Ok(self.0.query(sql, &[(&identities, Type::TEXT_ARRAY)]).await?.len())
    }

    /// Makes those of these maildrops due now that were of no account. What waits for its first poll has its time.
    pub async fn wake_gone(&self, identities: &[String]) -> Result<(), StateError> {
        let sql = format!(
            "UPDATE lease SET due = greatest(now(), log_in_at) WHERE owner = {GONE} AND due > now()
             AND maildrop IN (SELECT id FROM maildrop WHERE identity = ANY($1))"
        );
        self.0.query(&sql, &[(&identities, Type::TEXT_ARRAY)]).await.map(drop)
    }

    /// Makes all due now that are polled by themselves. Gives how many there are.
    pub async fn wake_all(&self) -> Result<usize, StateError> {
        let sql = format!(
            "UPDATE lease SET due = greatest(now(), log_in_at)
             WHERE due < now() + $1 * interval '1 microsecond' AND owner <> {GONE} RETURNING maildrop"
        );
        Ok(self.0.query(&sql, &[(&(NEVER / 2), Type::INT8)]).await?.len())
    }

    /// Gives the worker that has the lease on a maildrop, if one has, and how long ago it was heard of.
    pub async fn holder(&self, maildrop: i64) -> Result<Option<(String, Duration)>, StateError> {
        let sql = "SELECT name, (extract(epoch FROM now() - beat) * 1000000)::bigint
                   FROM worker JOIN lease ON lease.owner = worker.id WHERE lease.maildrop = $1 AND lease.token <> 0";
        let rows = self.0.query(sql, &[(&maildrop, Type::INT8)]).await?;
        Ok(rows.first().map(|row| (row.get(0), span(row, 1))))
    }

    /// Lists the workers that were heard of lately, by name.
    pub async fn workers(&self) -> Result<Vec<Peer>, StateError> {
        let sql = "SELECT id, name, version, (extract(epoch FROM now() - beat) * 1000000)::bigint, draining, evicted,
                   (SELECT count(*) FROM lease WHERE owner = worker.id AND token <> 0) FROM worker ORDER BY name, id";
        let rows = self.0.query(sql, &[]).await?;
        let worker = |row: &Row| Peer {
            id: row.get(0),
            name: row.get(1),
            version: row.get(2),
            heard: span(row, 3),
            is_draining: row.get(4),
            is_evicted: row.get(5),
            holds: row.get::<_, i64>(6).cast_unsigned(),
        };
        Ok(rows.iter().map(worker).collect())
    }
}

/// Names this process for people: its machine, and its number there.
pub fn process_name() -> String {
    format!("{}:{}", host_name(), std::process::id())
}

/// Gives a random number above 0. A counter could be given twice, after a failover to a standby that lacks the last of it.
pub fn random() -> i64 {
    // Without random numbers nothing here is safe, and no system that runs this lacks them.
    let number = getrandom::u64().expect("the system gives random numbers");
    (number >> 1).max(1).cast_signed()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn of_micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn span(row: &Row, column: usize) -> Duration {
    of_micros(row.get(column))
}
