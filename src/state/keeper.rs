//! What the store's thread does with a file: carries out what waits together in one commit, and answers.

use std::mem;
use std::path::PathBuf;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::StateError;
use super::engine::{Answer, Engine, Query};
use super::file::{self, Limits, StateFile, Written};
use super::tables::{self, Fault, Tables};
use super::writing::Write;

/// Owns the connection, on the store's thread.
pub(super) struct Keeper {
    path: PathBuf,
    limits: Limits,
    access: Access,
}

/// Whether the file can be used.
enum Access {
    Open(StateFile),
    /// It will be opened for the next request.
    Shut,
    /// It could not be opened, and nobody has asked yet.
    Untold(StateError),
    /// It is damaged, or its disk failed: it is not touched again for a while.
    Broken {
        error: StateError,
        since: Instant,
    },
}

impl Keeper {
    pub(super) fn open(path: PathBuf, limits: Limits) -> Self {
        let mut this = Self { path, limits, access: Access::Shut };
        if let Err(error) = this.file()
            && matches!(this.access, Access::Shut)
        {
            this.access = Access::Untold(error);
        }
        this
    }

    /// Gives the open file; opens it if it can be.
    fn file(&mut self) -> Result<&mut StateFile, StateError> {
        match mem::replace(&mut self.access, Access::Shut) {
            Access::Open(file) if file.is_in_place() => self.access = Access::Open(file),
            // Another process has made it meanwhile.
            Access::Open(file) if !file.is_written() => return self.file(),
            // Closing the old file does no harm: SQLite notices too and leaves the new one's log alone.
            Access::Open(_) => return Err(StateError::Replaced { path: self.path.clone() }),
            Access::Untold(error) => return Err(error),
            Access::Broken { error, since } if since.elapsed() < self.limits.again => {
                self.access = Access::Broken { error: error.clone(), since };
                return Err(error);
            }
            Access::Shut | Access::Broken { .. } => match StateFile::open(&self.path, self.limits) {
                Ok(file) => self.access = Access::Open(file),
                Err(error) => {
                    self.note(Some(error.clone()));
                    return Err(error);
                }
            },
        }
        match &mut self.access {
            Access::Open(file) => Ok(file),
            Access::Shut | Access::Untold(_) | Access::Broken { .. } => unreachable!("it was just opened"),
        }
    }

    /// Runs the writes in one transaction and makes it durable, in a file that is made for it if there is none. What may
    /// be lost waits for no disk, and for the file that others make.
    fn write(&mut self, writes: &[Write]) -> Result<Vec<tables::Result<usize>>, StateError> {
        let may_be_lost = writes.iter().all(Write::may_be_lost);
        loop {
            let (path, patience) = (self.path.clone(), self.limits.patience);
            let connection = &mut self.file()?.connection;
            let outcomes =
                if may_be_lost { commit_lightly(connection, writes) } else { commit(connection, writes) };
            let outcomes = outcomes.map_err(|fault| StateError::of_fault(fault, &path, patience))?;
            if may_be_lost {
                return Ok(outcomes);
            }
            match mem::replace(&mut self.access, Access::Shut) {
                // It is opened from the disk by whoever asks next.
                Access::Open(file) if !file.is_written() => {
                    // What it left may look whole, and is not durable: whoever asks next asks later.
                    let broken = |error: &StateError| {
                        self.access = Access::Broken { error: error.clone(), since: Instant::now() };
                    };
                    if file.write_out().inspect_err(broken)? == Written::Now {
                        return Ok(outcomes);
                    }
                }
                access => {
                    self.access = access;
                    return Ok(outcomes);
                }
            }
        }
    }
}

impl Engine for Keeper {
    fn commit(&mut self, group: Vec<(Write, Answer<usize>)>) {
        let (writes, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let (path, limits) = (self.path.clone(), self.limits);
        let say = |fault| StateError::of_fault(fault, &path, limits.patience);
        match self.write(&writes) {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    answer.give(outcome.map_err(say));
                }
            }
            Err(error) => {
                // Before the answers, so that whoever hears of it and asks again hears the same.
                self.note(Some(error.clone()));
                for answer in answers {
                    answer.give(Err(error.clone()));
                }
            }
        }
    }

    fn look(&mut self, query: Query<'_>) -> Result<(), StateError> {
        self.file()?.look(query)
    }

    /// Lets the file be after a failure after which writing on could do harm.
    fn note(&mut self, failure: Option<StateError>) {
        let Some(error) = failure.filter(StateError::is_final) else { return };
        let broken = Access::Broken { error, since: Instant::now() };
        if let Access::Open(file) = mem::replace(&mut self.access, broken) {
            file.abandon();
        }
    }

    fn shut(&mut self) {
        self.access = Access::Shut;
    }
}

/// A file that is opened for each look at it.
pub(super) struct Looker(pub(super) PathBuf);

impl Engine for Looker {
    fn commit(&mut self, group: Vec<(Write, Answer<usize>)>) {
        for (_, answer) in group {
            answer.give(Err(StateError::ReadOnly { path: self.0.clone() }));
        }
    }

    fn look(&mut self, query: Query<'_>) -> Result<(), StateError> {
        file::look(&self.0, Limits::default(), query)
    }
}

/// Executes writes in one transaction and makes it durable. The outer error is that of all: nothing was committed. The
/// inner ones are those of single writes, which left no trace.
fn commit(connection: &mut Connection, writes: &[Write]) -> tables::Result<Vec<tables::Result<usize>>> {
    // IMMEDIATE: another process's writing is waited for here, not noticed half-way.
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let savepoint = transaction.savepoint()?;
        let outcome = write.apply(Tables::Sqlite(&savepoint)).and_then(|count| {
            savepoint.commit()?;
            Ok(count)
        });
        match outcome {
            // A full disk and a failed one end the whole transaction, whatever SQLite still has of it.
            Err(error) if transaction.is_autocommit() || spoils_all(&error) => return Err(error),
            outcome => outcomes.push(outcome),
        }
    }
    transaction.commit()?;
    Ok(outcomes)
}

/// Does the same without making it durable: others see it at once, and the next commit that is durable makes it so, too.
fn commit_lightly(
    connection: &mut Connection,
    writes: &[Write],
) -> tables::Result<Vec<tables::Result<usize>>> {
    // SQLite, "PRAGMA synchronous": in WAL mode NORMAL leaves out the fsync of a commit, and a power cut may roll it back.
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    let outcomes = commit(connection, writes);
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    outcomes
}

/// Says whether a write's error is one of the file or the disk, so that nothing beside it can be committed either.
fn spoils_all(fault: &Fault) -> bool {
    let Fault::Sqlite(error) = fault else { return false };
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::DatabaseBusy
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
        )
    )
}
