//! The two ends of a copy: at rest for its time, and kept from everybody who would record meanwhile.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::error::CopyError;
use crate::net::host_name;
use crate::state::file::{Limits, StateFile};
use crate::state::lease::{DAEMON, Lease};
use crate::state::postgres::{Begun, Keeper, Purpose, Server};
use crate::state::tables::{self, Fault, Tables};
use crate::state::{StateError, Trouble};

/// Where a state is.
#[derive(Debug, Clone)]
pub enum Place {
    File(PathBuf),
    Database(Server),
}

impl Place {
    /// Names it for people.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Database(server) => server.place(),
        }
    }

    /// Says which state it is, for whoever finds a part of it: a file of this machine, or a database.
    pub fn identity(&self) -> String {
        let Self::File(path) = self else { return self.name() };
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let number = std::fs::metadata(&path).map_or(0, |found| found.ino());
        format!("{} on {} (file {number})", path.display(), host_name())
    }

    /// Keeps a daemon from starting with a file, as long as what is given is kept.
    pub async fn keep(&self) -> Result<Option<Lease>, CopyError> {
        let Self::File(path) = self else { return Ok(None) };
        match Lease::take(path, DAEMON, Duration::ZERO).await? {
            Some(lease) => Ok(Some(lease)),
            None => Err(self.in_use("a daemon runs with it")),
        }
    }

    pub fn in_use(&self, by: impl Into<String>) -> CopyError {
        CopyError::InUse { place: self.name(), by: by.into() }
    }

    /// Says what a fault of its tables means.
    pub(super) fn failed(&self, fault: Fault) -> StateError {
        match (self, fault) {
            (Self::File(path), fault) => StateError::of_fault(fault, path, Limits::default().patience),
            (Self::Database(_), Fault::Elsewhere(error)) => *error,
            (Self::Database(server), fault) => {
                StateError::of_database(&server.place(), Trouble::Statement, fault.to_string())
            }
        }
    }
}

/// An end of a copy. Whoever would write into a file waits, and gives up, until this is dropped; what was written into it then
/// is undone unless [`Side::end`] was called.
pub struct Side {
    place: Place,
    store: Store,
}

enum Store {
    File(Box<StateFile>),
    Database(Box<Keeper>),
}

impl Side {
    /// Opens a file, which is made if there is none, or a database.
    pub fn open(place: Place, purpose: Purpose) -> Result<Self, CopyError> {
        let store = match &place {
            Place::File(path) => {
                let mut file = StateFile::open(path, Limits::default())?;
                if !file.is_written() {
                    file.write_out()?;
                    file = StateFile::open(path, Limits::default())?;
                }
                let begun = file.connection.execute_batch("BEGIN IMMEDIATE");
                begun.map_err(|error| StateError::of_sqlite(error, path, Limits::default().patience))?;
                Store::File(Box::new(file))
            }
            Place::Database(server) => {
                Store::Database(Box::new(Keeper::new(server.clone().used_for(purpose))?))
            }
        };
        Ok(Self { place, store })
    }

    /// Does what is to be done while nobody else writes: of a file that holds already, of a database all leases are locked
    /// for that. Nothing is written.
    pub fn at_rest<T>(
        &mut self,
        mut work: impl FnMut(Tables<'_>) -> tables::Result<T>,
    ) -> Result<T, CopyError> {
        match &mut self.store {
            Store::File(file) => self.place.in_file(file, work),
            Store::Database(keeper) => self.place.unless_used(keeper.at_rest(&mut work)?),
        }
    }

    /// Keeps everybody from a database until [`Side::end`] is called, by this copy or one of the same source that goes on with
    /// it.
    pub fn begin(&mut self, source: &str) -> Result<Begun, CopyError> {
        match &mut self.store {
            Store::File(_) => Ok(Begun::Nothing),
            Store::Database(keeper) => self.place.unless_used(keeper.shut_out(source)?),
        }
    }

    /// Writes, in a database as one transaction.
    pub fn write<T>(
        &mut self,
        mut work: impl FnMut(Tables<'_>) -> tables::Result<T>,
    ) -> Result<T, CopyError> {
        match &mut self.store {
            Store::File(file) => self.place.in_file(file, work),
            Store::Database(keeper) => self.place.unless_used(keeper.write(&mut work)?),
        }
    }

    /// Makes what was written the state, and lets everybody in.
    pub fn end(&mut self) -> Result<(), CopyError> {
        match &mut self.store {
            Store::File(file) => {
                let ended = file.connection.execute_batch("COMMIT");
                Ok(ended.map_err(|error| self.place.failed(error.into()))?)
            }
            Store::Database(keeper) => self.place.unless_used(keeper.let_in()?),
        }
    }
}

impl Place {
    fn in_file<T>(
        &self,
        file: &StateFile,
        work: impl FnOnce(Tables<'_>) -> tables::Result<T>,
    ) -> Result<T, CopyError> {
        Ok(work(Tables::Sqlite(&file.connection)).map_err(|fault| self.failed(fault))?)
    }

    fn unless_used<T>(&self, done: Result<T, Vec<String>>) -> Result<T, CopyError> {
        let worker = |workers: Vec<String>| workers.into_iter().next().unwrap_or_default();
        done.map_err(|workers| self.in_use(format!("worker {} polls with it", worker(workers))))
    }
}
