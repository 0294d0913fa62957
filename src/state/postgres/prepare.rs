//! What a connection does before it is used: makes the tables, brings older ones up to date, or says why it may not use
//! them.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::error::is_contended;
use super::schema::{OLDEST, TUNING, statements};
use crate::state::{StateError, Trouble, schema};

/// What stands in the place of [`OLDEST`] while a copy of a state is written into the tables: no program knows as much, and
/// only copies do not ask.
pub const COPYING: i64 = i64::MAX;

/// The version of the tables in the first release that could have them in a database.
const FIRST: i64 = 12;

/// How often is looked again when others make the tables, or bring them up to date, at the same time.
const TRIES: usize = 12;

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

    fn version(self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }
}

/// Makes the tables where there are none, and brings older ones up to date; a no-op where others were first.
///
/// # Errors
///
/// The tables are a newer version's that says that this one may not use them, or cannot be made.
pub async fn prepare(
    client: &Client,
    place: &str,
    (known, purpose): (Known, Purpose),
) -> Result<(), StateError> {
    for _ in 0..TRIES {
        let found = match client.query_typed("SELECT version, oldest FROM postrider", &[]).await {
            Ok(rows) => rows.first().map(|row| (row.get(0), row.get(1))).ok_or_else(|| {
                StateError::of_database(place, Trouble::NoTables, "its table postrider is empty")
            })?,
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                made(client.batch_execute(&format!("BEGIN; {}; COMMIT", statements())).await, client, place)
                    .await?;
                continue;
            }
            Err(error) => return Err(StateError::of_postgres(&error, place)),
        };
        may_use(known.version(), found, purpose)
            .map_err(|(trouble, what)| StateError::of_database(place, trouble, what))?;
        if found.0 >= known.version() {
            return Ok(());
        }
        match bring_up_to_date(client, found.0, known).await {
            Ok(()) => log::info!("{place}: its tables are those of version {} now", known.version()),
            Err(error) if is_contended(&error) => {}
            Err(error) => return Err(StateError::of_postgres(&error, place)),
        }
    }
    Err(StateError::of_database(place, Trouble::Contended, "others make its tables all the time"))
}

/// Takes note of how making the tables went. Whoever was first has made them; another look says whether that is so.
async fn made(
    outcome: Result<(), tokio_postgres::Error>,
    client: &Client,
    place: &str,
) -> Result<(), StateError> {
    let Err(error) = outcome else {
        // Not known to the others, and not needed.
        if let Err(error) = client.batch_execute(TUNING).await {
            log::debug!("{place}: {error}");
        }
        return Ok(());
    };
    let _ = client.batch_execute("ROLLBACK").await;
    let is_there = [
        SqlState::DUPLICATE_TABLE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    match error.code().is_some_and(|code| is_there.contains(code)) {
        true => Ok(()),
        false => Err(StateError::of_postgres(&error, place)),
    }
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
