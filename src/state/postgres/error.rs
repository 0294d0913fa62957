//! What PostgreSQL's errors mean.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::net::NetError;
use crate::state::{StateError, Trouble};
use crate::text::Shown;

/// Says whether a transaction that failed with this shall be tried again: it was rolled back since others' came between.
pub fn is_contended(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
    })
}

/// Says whether the connection is gone, or about to go, so that another one may do better.
pub fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(code)
            // What a pooler says of its own.
            || code.code().starts_with("08")
        }
        None => error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()),
    }
}

impl StateError {
    /// Makes an error of what is known of the database at this place.
    pub fn of_database(place: &str, trouble: Trouble, what: impl Into<String>) -> Self {
        Self::Database { place: place.to_owned(), trouble, what: what.into() }
    }

    /// Says that no answer came in time.
    pub fn no_answer(place: &str, waited: Duration) -> Self {
        let what = format!("gave up after {} waiting for its answer", humantime::format_duration(waited));
        Self::of_database(place, Trouble::Silent, what)
    }

    /// Says what an error of connecting means. What neither the server nor the line has said is about the log-in: no
    /// password where it wants one, or no mechanism that both have.
    pub fn of_log_in(error: &tokio_postgres::Error, place: &str) -> Self {
        match (Self::of_postgres(error, place), error.source()) {
            (Self::Database { trouble: Trouble::Statement, .. }, Some(source)) if error.code().is_none() => {
                Self::of_database(place, Trouble::LogIn, source.to_string())
            }
            (other, _) => other,
        }
    }

    /// Says what PostgreSQL's error means.
    pub fn of_postgres(error: &tokio_postgres::Error, place: &str) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::of_database(place, meaning(said), words(said));
        }
        if let Some(net) = error.source().and_then(|source| source.downcast_ref::<NetError>()) {
            return Self::of_database(place, Trouble::Unreachable, net.to_string());
        }
        let (trouble, what) = match error.source() {
            _ if error.is_closed() => (Trouble::Lost, "server closed the connection".to_owned()),
            Some(source) if source.is::<std::io::Error>() => {
                (Trouble::Lost, format!("the connection broke: {source}"))
            }
            Some(source) => (Trouble::Statement, format!("{error}: {source}")),
            None => (Trouble::Statement, error.to_string()),
        };
        Self::of_database(place, trouble, what)
    }
}

fn meaning(said: &DbError) -> Trouble {
    let code = said.code();
    match code.code() {
        "28000" | "28P01" => Trouble::LogIn,
        "3D000" => Trouble::NoDatabase,
        "42501" => Trouble::Forbidden,
        "3F000" => Trouble::NoSchema,
        "42P01" => Trouble::NoTables,
        "42P07" | "42710" => Trouble::Foreign,
        "25006" => Trouble::ReadOnly,
        "53100" => Trouble::Full,
        "53300" | "57P03" | "53200" => Trouble::Busy,
        "40001" | "40P01" => Trouble::Contended,
        "57P01" | "57P02" | "25P03" => Trouble::Lost,
        "57014" => Trouble::Silent,
        class if class.starts_with("08") => Trouble::Lost,
        // Of a value that is no number, of two rows in one's place, of a function that raises it.
        class if ["22", "21", "P0"].iter().any(|of| class.starts_with(of)) => Trouble::Value,
        _ => Trouble::Statement,
    }
}

/// Gives the server's words, in one line.
fn words(said: &DbError) -> String {
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let words = format!("{}{detail}", said.message());
    format!("server said: {} [{}]", Shown(words.as_bytes()), said.code().code())
}
