//! What a connection does before it is used: makes the tables, brings older ones up to date, or says why it may not use
//! them.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::error::is_contended;
use super::schema::{OLDEST, TUNING, statements};
use super::tries::{TRIES, pause};
use crate::state::{StateError, Trouble, schema};

/// What stands in the place of [`OLDEST`] while a copy of a state is written into the tables: no program knows as much, and
/// only copies do not ask.
pub const COPYING: i64 = i64::MAX;

/// The version of the tables in the first release that could have them in a database.
const FIRST: i64 = 12;

/// So often is looked for the others of the tables where one is there.
const LOOKS: u32 = 6;

/// Asks which programs may use the tables.
pub const VERSIONS: &str = "SELECT version, oldest FROM postrider";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    #[default]
    Records,
    /// What is there is copied into another store.
    CopyFrom,
    /// A copy of another store is written, or goes on.
    CopyInto,
}

/// What a program knows of the tables.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// What leads from each version to the next; as many as there are versions.
    pub steps: &'static [&'static str],
    /// Programs that know at least as much may use what it makes.
    pub oldest: i64,
}

impl Known {
    /// What this program knows.
    pub const OURS: Self = Self { steps: schema::STEPS, oldest: OLDEST };

    pub fn version(self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }
}

/// Makes the tables where there are none, and brings older ones up to date; a no-op where others were first.
///
/// # Errors
///
/// The tables are a newer version's that says that this one may not use them, or cannot be made; what has the name of one is
/// not ours.
pub async fn prepare(
    client: &Client,
    place: &str,
    (known, purpose): (Known, Purpose),
) -> Result<(), StateError> {
    for attempt in 1..=TRIES {
        let found = match client.query_typed(VERSIONS, &[]).await {
            Ok(rows) => judged(&rows, place, (known, purpose))?,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                match make(client, place).await {
                    // Whoever was first has made them; another look says whether that is so.
                    Err(error) if may_be_ours(&error, attempt) => pause(attempt).await,
                    Err(error) => return Err(StateError::of_postgres(&error, place)),
                    Ok(()) => {}
                }
                continue;
            }
            // A table of that name, and of somebody else.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => return Err(not_ours(place)),
            Err(error) => return Err(StateError::of_postgres(&error, place)),
        };
        if found >= known.version() {
            return Ok(());
        }
        match bring_up_to_date(client, found, known).await {
            Ok(()) => log::info!("{place}: its tables are those of version {} now", known.version()),
            Err(error) if is_contended(&error) => pause(attempt).await,
            Err(error) => return Err(StateError::of_postgres(&error, place)),
        }
    }
    Err(StateError::of_database(place, Trouble::Contended, "others make its tables all the time"))
}

/// Gives the version of the tables, by an answer to [`VERSIONS`].
///
/// # Errors
///
/// Why this program may not use them.
pub fn judged(rows: &[Row], place: &str, (known, purpose): (Known, Purpose)) -> Result<i64, StateError> {
    let Some(row) = rows.first() else {
        return Err(StateError::of_database(place, Trouble::NoTables, "its table postrider is empty"));
    };
    let (Ok(version), Ok(oldest)) = (row.try_get(0), row.try_get(1)) else { return Err(not_ours(place)) };
    match may_use(known.version(), (version, oldest), purpose) {
        Ok(()) => Ok(version),
        Err((trouble, what)) => Err(StateError::of_database(place, trouble, what)),
    }
}

fn not_ours(place: &str) -> StateError {
    StateError::of_database(place, Trouble::Foreign, "its relation \"postrider\" is not postrider's")
}

async fn make(client: &Client, place: &str) -> Result<(), tokio_postgres::Error> {
    let made = client.batch_execute(&format!("BEGIN; {}; COMMIT", statements())).await;
    match &made {
        Err(_) => drop(client.batch_execute("ROLLBACK").await),
        Ok(()) => {
            // Not known to the others, and not needed.
            if let Err(error) = client.batch_execute(TUNING).await {
                log::debug!("{place}: {error}");
            }
        }
    }
    made
}

/// Says whether somebody else may have made the tables, or be about to. What has the name of one of them and stays without the
/// others is not ours.
fn may_be_ours(error: &tokio_postgres::Error, attempt: u32) -> bool {
    let is_there = [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT];
    let is_of = |codes: &[SqlState]| error.code().is_some_and(|code| codes.contains(code));
    is_contended(error) || is_of(&[SqlState::UNIQUE_VIOLATION]) || is_of(&is_there) && attempt < LOOKS
}

/// Takes all steps in one transaction, unless another process does.
async fn bring_up_to_date(client: &Client, from: i64, known: Known) -> Result<(), tokio_postgres::Error> {
    let steps = known.steps.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    let steps: String = steps.iter().map(|step| schema::in_postgres(step)).collect();
    client.batch_execute("BEGIN").await?;
    let taken = async {
        // Who comes second waits here, and finds that it was done.
        let own = "UPDATE postrider SET version = $1, oldest = $2 WHERE version = $3";
        let (version, oldest) = (known.version(), known.oldest);
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&version, Type::INT8), (&oldest, Type::INT8), (&from, Type::INT8)];
        if client.execute_typed(own, &params).await? > 0 {
            client.batch_execute(&steps).await?;
        }
        client.batch_execute("COMMIT").await
    };
    let taken = taken.await;
    if taken.is_err() {
        let _ = client.batch_execute("ROLLBACK").await;
    }
    taken
}

/// Says whether a program may use tables of a version, which may be used by those that know at least the second number.
fn may_use(known: i64, (found, oldest): (i64, i64), purpose: Purpose) -> Result<(), (Trouble, String)> {
    match (purpose, oldest) {
        (Purpose::Records | Purpose::CopyFrom, COPYING) => {
            Err((Trouble::HalfCopied, "a state is being copied into it, or was not copied whole".to_owned()))
        }
        // What is copied has all columns that these have, and no others.
        (Purpose::CopyFrom | Purpose::CopyInto, _) if found > known || oldest == COPYING && found < known => {
            let what = format!("its tables are another version's (schema {found}; this one copies {known})");
            Err((Trouble::Newer, what))
        }
        (Purpose::Records, oldest) if oldest > known => {
            let what = format!("a newer version made its tables (schema {found}; this one knows {known})");
            Err((Trouble::Newer, what))
        }
        _ if found < FIRST => {
            let what = format!("its tables are no version's that was released (schema {found})");
            Err((Trouble::NoTables, what))
        }
        (Purpose::Records | Purpose::CopyFrom | Purpose::CopyInto, _) => Ok(()),
    }
}
