//! Tokens of logins in the database, sealed: all workers use the same, and one at a time changes them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use zeroize::Zeroizing;

use super::connection::{Database, Param};
use super::leases::random;
use crate::clock::WallClock;
use crate::seal::{Ring, SealError, Sealed, place};
use crate::secret::Secret;
use crate::state::{StateError, Trouble};

/// Whoever died with the turn had it for so long at most; to ask a provider takes less.
const LONGEST: Duration = Duration::from_secs(120);

/// What a provider has given is written for so long where the database does not answer: the old one may be forgotten there.
const PERSISTENCE: Duration = Duration::from_secs(60);

/// Between two tries for a turn that somebody has.
const PAUSE: Duration = Duration::from_millis(250);

/// The tokens. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    database: Database,
    ring: Arc<Ring>,
}

/// One login's turn; dropped = given back, once what is being written is.
#[derive(Debug)]
pub struct Turn(Arc<Held>);

#[derive(Debug)]
struct Held {
    vault: Vault,
    login: String,
    /// What it is known by.
    token: i64,
}

impl Vault {
    pub fn new(database: Database, ring: Arc<Ring>) -> Self {
        Self { database, ring }
    }

    /// Gives the database's clock.
    pub fn clock(&self) -> WallClock {
        self.database.clock()
    }

    /// Reads what the login of this digest has left; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// Its key is not among those of `secrets_key`, or somebody has changed it.
    pub async fn read(&self, login: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let sql = "SELECT sealed, secret_key FROM token_store WHERE login = $1 AND sealed IS NOT NULL";
        let rows = self.database.query(sql, &[(&login, Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let sealed = Sealed { octets: row.get(0), key: row.get::<_, Option<_>>(1).unwrap_or_default() };
        let opened = self.ring.open(&place("token_store", login, "sealed"), &sealed);
        let opened = opened.map_err(|error| self.unusable(&error))?;
        Ok(Some(Zeroizing::new(opened.reveal().to_vec())))
    }

    /// Gives the digests of all logins that have left something.
    pub async fn logins(&self) -> Result<Vec<String>, StateError> {
        let sql = "SELECT login FROM token_store WHERE sealed IS NOT NULL ORDER BY login";
        Ok(self.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Waits for a login's turn; `Ok(None)` if somebody else still has it after `patience`.
    pub async fn turn(&self, login: &str, patience: Duration) -> Result<Option<Turn>, StateError> {
        if self.ring.current().is_none() {
            return Err(self.unusable(&SealError::NoKey));
        }
        let began = Instant::now();
        let token = random();
        let row = "INSERT INTO token_store (login) VALUES ($1) ON CONFLICT DO NOTHING";
        self.database.query(row, &[(&login, Type::TEXT)]).await?;
        let sql = "UPDATE token_store SET turn = $2, turn_until = now() + $3 * interval '1 microsecond'
                   WHERE login = $1 AND (turn = 0 OR turn_until < now()) RETURNING login";
        let longest = i64::try_from(LONGEST.as_micros()).unwrap_or(i64::MAX);
        let params: [Param<'_>; 3] = [(&login, Type::TEXT), (&token, Type::INT8), (&longest, Type::INT8)];
        loop {
            if !self.database.query(sql, &params).await?.is_empty() {
                let held = Held { vault: self.clone(), login: login.to_owned(), token };
                return Ok(Some(Turn(Arc::new(held))));
            }
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE.min(left)).await;
        }
    }

    /// Says that somebody has a login's turn for too long.
    pub fn busy(&self) -> StateError {
        let what = "another process renews its tokens, or was killed while it did; try again in two minutes";
        StateError::of_database(&self.database.place(), Trouble::Contended, what)
    }

    fn unusable(&self, error: &SealError) -> StateError {
        let what = format!("its tokens: {error}");
        StateError::of_database(&self.database.place(), Trouble::Secrets, what)
    }
}

impl Turn {
    /// Puts the octets in the place of what was there, durably, unless the turn has become another's. It is done though
    /// whoever waits for it goes away, and again until the database answers: nobody gives them twice.
    pub async fn write(&self, octets: Zeroizing<Vec<u8>>) -> Result<(), StateError> {
        let Held { vault, login, .. } = &*self.0;
        let sealed = vault.ring.seal(&place("token_store", login, "sealed"), &Secret::new(&**octets));
        let sealed = sealed.map_err(|error| vault.unusable(&error))?;
        let (held, began) = (self.0.clone(), Instant::now());
        let writing = tokio::spawn(async move {
            loop {
                match held.write(&sealed).await {
                    Err(error) if is_passing(&error) && began.elapsed() < PERSISTENCE => {
                        log::debug!("tokens are not written yet: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                    written => return written,
                }
            }
        });
        writing.await.unwrap_or_else(|error| {
            Err(StateError::of_database(&vault.database.place(), Trouble::Statement, error.to_string()))
        })
    }
}

impl Held {
    async fn write(&self, sealed: &Sealed) -> Result<(), StateError> {
        let Self { vault, login, token } = self;
        let sql = "UPDATE token_store SET sealed = $3, secret_key = $4 WHERE login = $1 AND turn = $2 RETURNING login";
        let params: [Param<'_>; 4] = [
            (login, Type::TEXT),
            (token, Type::INT8),
            (&sealed.octets, Type::BYTEA),
            (&sealed.key, Type::TEXT),
        ];
        match vault.database.query(sql, &params).await?.is_empty() {
            false => Ok(()),
            true => {
                let what =
                    "another process has taken this login's turn meanwhile; its tokens are those that count";
                Err(StateError::of_database(&vault.database.place(), Trouble::LeaseLost, what))
            }
        }
    }
}

/// Says whether the database may take it soon.
fn is_passing(error: &StateError) -> bool {
    use Trouble::{Busy, Contended, Full, Lost, ReadOnly, Silent, Unreachable};
    matches!(
        error,
        StateError::Database {
            trouble: Unreachable | Lost | Silent | ReadOnly | Full | Busy | Contended,
            ..
        }
    )
}

impl Drop for Held {
    fn drop(&mut self) {
        let (database, login, token) = (self.vault.database.clone(), self.login.clone(), self.token);
        // Where nobody does it any more, it ends by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let sql = "UPDATE token_store SET turn = 0 WHERE login = $1 AND turn = $2";
                let params: [Param<'_>; 2] = [(&login, Type::TEXT), (&token, Type::INT8)];
                if let Err(error) = database.query(sql, &params).await {
                    log::debug!("cannot give back the turn of a login: {error}");
                }
            });
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.database.place())
    }
}
