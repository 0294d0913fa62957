//! The state file on disk: created whole or not at all, opened, watched for being replaced.
//!
//! Apart from a file that is just being created, nothing here opens the state file but SQLite: POSIX drops all locks
//! of a process on a file when it closes any descriptor of it, and with them those of another connection.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result};

use super::StateError;
use super::engine::Query;
use super::lease::Lease;
use super::path::{beside, check, is_ours, make_directory_of, names_are_durable, resolve};
use super::schema::{self, Found};
use super::tables::{self, Fault, Tables};
use crate::disk::{above, durable};

/// Pages (4 KiB) in the write-ahead log before they are copied into the file.
const CHECKPOINT_PAGES: i64 = 1000;

/// KiB of pages that SQLite keeps; the system's cache keeps the rest.
const CACHE_KIB: i64 = 1024;

/// Statements that are kept as SQLite has read them: more than a poll has.
const STATEMENTS: usize = 64;

/// A reader that takes no locks may trust a file that has not changed for longer than the file system's clock ticks.
const QUIET: Duration = Duration::from_millis(20);

/// The same where times are whole seconds (FAT: every other one; ext3).
const QUIET_SECONDS: Duration = Duration::from_millis(2020);

/// What stands in the path of a `file:` URI as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// What a connection may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long to wait for another process that writes.
    pub(super) patience: Duration,
    /// How long a damaged file, or a failed disk, is let be.
    pub(super) again: Duration,
    /// Pages (4 KiB) of the file.
    pub(super) pages: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), again: Duration::from_secs(5), pages: None }
    }
}

/// The state file, open for writing. One that is missing is in memory until there is something to be written.
///
/// Closing it, SQLite copies the log into the file and removes it, so that the file alone is everything and a backup
/// can be put in its place. (To leave the log would save 2 ms of a run on ext4 with `discard`, but one left beside a
/// backup that was put in place would be played into it.)
#[derive(Debug)]
pub(super) struct StateFile {
    pub(super) connection: Connection,
    path: PathBuf,
    limits: Limits,
    /// Which file it is; `None`: none yet.
    identity: Option<(u64, u64)>,
}

/// What became of a file that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there, and durable.
    Now,
    /// Another process was first.
    ByAnother,
}

impl StateFile {
    /// Opens the file, and migrates it if it is older. One that is missing or empty is made by
    /// [`StateFile::write_out`]; that it can be is found out here.
    pub(super) fn open(path: &Path, limits: Limits) -> Result<Self, StateError> {
        check(path)?;
        let path = &resolve(path);
        match fs::metadata(path) {
            Ok(found) if found.is_file() && found.len() > 0 => make_private(path, &found),
            Ok(found) if !found.is_file() => {
                return Err(StateError::Foreign {
                    path: path.clone(),
                    what: "it is not a regular file".to_owned(),
                });
            }
            Ok(_) => return Self::in_memory(path, limits),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::in_memory(path, limits),
            Err(error) => return Err(StateError::of_io(&error, path)),
        }
        let unclean = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
        // All links are resolved, and nobody may put another in between.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags)
            .and_then(|connection| configure(&connection, limits).map(|()| connection))
            .map_err(|error| opening(error, path, limits))?;
        let found = fs::metadata(path).map_err(|error| StateError::of_io(&error, path))?;
        let identity = Some((found.dev(), found.ino()));
        let mut this = Self { connection, path: path.clone(), limits, identity };
        this.bring_up_to_date()?;
        if unclean {
            this.settle().map_err(|error| opening(error, path, limits))?;
        }
        Ok(this)
    }

    /// Begins a file in memory.
    fn in_memory(path: &Path, limits: Limits) -> Result<Self, StateError> {
        make_directory_of(path)?;
        // Before anybody is answered, and so before anything else is made beside it: an fsync of a directory that
        // failed must not be followed by another.
        names_are_durable(path)?;
        let right = right_to_create(path, limits)?;
        remove_leftover(path)?;
        drop(right);
        let begun = Connection::open_in_memory().and_then(|mut connection| {
            configure(&connection, limits)?;
            schema::migrate(&mut connection)?;
            Ok(connection)
        });
        let connection = begun.map_err(|error| opening(error, path, limits))?;
        Ok(Self { connection, path: path.to_owned(), limits, identity: None })
    }

    /// Says whether there is a file.
    pub(super) fn is_written(&self) -> bool {
        self.identity.is_some()
    }

    /// Writes what is in memory under another name and then gives it its own, so that a power cut leaves either no file
    /// or a whole one, with all that was to be written into it. One fsync for the file, one for the directory; to make an
    /// empty file first and then write the log, and at the end the file, took five more.
    pub(super) fn write_out(mut self) -> Result<Written, StateError> {
        make_directory_of(&self.path)?;
        names_are_durable(&self.path)?;
        let path = &resolve(&self.path);
        let _right = right_to_create(path, self.limits)?;
        if fs::metadata(path).is_ok_and(|found| found.len() > 0) {
            return Ok(Written::ByAnother);
        }
        remove_leftover(path)?;
        let failed = |error: io::Error| StateError::of_io(&error, path);
        let image = self.image().map_err(|error| opening(error, path, self.limits))?;
        let new = beside(path, ".new");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        // The umask may have taken bits. SQLite gives the files beside it the same mode.
        durable::make_private(&file).map_err(failed)?;
        file.write_all(&image).map_err(failed)?;
        durable::sync(&file).map_err(failed)?;
        durable::replace(path, &new).map_err(failed)?;
        durable::sync_directory_of(path).map_err(failed)?;
        Ok(Written::Now)
    }

    /// Gives the octets that the file will have.
    fn image(&mut self) -> Result<Vec<u8>> {
        let mut image = self.connection.serialize("main")?.to_vec();
        // SQLite, Database File Format, 1.3.3: 2 is the version of files with a write-ahead log, to write and to read.
        for version in image.iter_mut().skip(18).take(2) {
            *version = 2;
        }
        Ok(image)
    }

    /// Reads by a query that sees one state of the file.
    pub(super) fn look(&mut self, query: Query<'_>) -> Result<(), StateError> {
        snapshot(&mut self.connection, query)
            .map_err(|fault| StateError::of_fault(fault, &self.path, self.limits.patience))
    }

    /// Says whether the path still leads to the file that is open, or still to none. SQLite would go on in a file that
    /// nobody will ever find again.
    pub(super) fn is_in_place(&self) -> bool {
        match (fs::metadata(&self.path), self.identity) {
            (Ok(found), Some(identity)) => (found.dev(), found.ino()) == identity,
            (Ok(found), None) => found.len() == 0,
            (Err(_), identity) => identity.is_none(),
        }
    }

    /// Closes the file without copying the log into it, which would write to a damaged file or a failed disk.
    pub(super) fn abandon(self) {
        let left = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if left.is_err() {
            // Three descriptors are the smaller evil.
            std::mem::forget(self.connection);
        }
    }

    fn bring_up_to_date(&mut self) -> Result<(), StateError> {
        let path = &self.path;
        let failed = |error| opening(error, path, self.limits);
        match schema::examine(&self.connection).map_err(failed)? {
            Found::Current => {}
            Found::Older(_) => schema::migrate(&mut self.connection).map_err(failed)?,
            Found::Newer(found) => {
                return Err(StateError::Newer { path: path.clone(), found, known: schema::VERSION });
            }
            Found::Foreign => {
                let what = "it is another program's database".to_owned();
                return Err(StateError::Foreign { path: path.clone(), what });
            }
        }
        // A no-op for a file of ours; somebody may have changed it by hand.
        let mode: String =
            self.connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
        if mode != "wal" {
            let what = format!("its journal mode stays {mode}, so its file system may lack shared memory");
            return Err(StateError::Statement { path: path.clone(), what });
        }
        Ok(())
    }

    /// Copies a log that a process left behind into the file. If that process met a failed fsync, the log is whole in
    /// the system's memory but not on the disk, and nothing appended to it would be safe; a copy is written anew.
    fn settle(&self) -> Result<()> {
        // The log of a process that lives may be in use: then it is sound, and there is nothing to wait for.
        self.connection.busy_timeout(Duration::ZERO)?;
        let settled = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.connection.busy_timeout(self.limits.patience)?;
        match settled {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(()),
            other => other,
        }
    }
}

/// Opens a file for one look at it; a missing one is empty. Creates nothing: when nobody has the file open it is read
/// without locks and without the files that SQLite would put beside it, and read again if it changed meanwhile.
pub(super) fn look(path: &Path, limits: Limits, query: Query<'_>) -> Result<(), StateError> {
    let path = &resolve(path);
    let log = beside(path, "-wal");
    let end = Instant::now() + limits.patience;
    loop {
        let before = match fs::metadata(path) {
            Ok(found) if found.len() > 0 => found,
            Ok(_) => return look_at_nothing(query).map_err(|error| opening(error, path, limits)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return look_at_nothing(query).map_err(|error| opening(error, path, limits));
            }
            Err(error) => return Err(StateError::of_io(&error, path)),
        };
        let others = match fs::metadata(&log) {
            Ok(log) if log.len() > 0 => Others::MayWrite,
            _ => Others::AreAway,
        };
        let outcome = read_once(path, limits, others, query);
        if others == Others::MayWrite || is_unchanged(path, &log, &before) {
            return outcome;
        }
        if Instant::now() >= end {
            return Err(StateError::Locked { path: path.clone(), waited: limits.patience });
        }
        std::thread::sleep(QUIET);
    }
}

fn look_at_nothing(query: Query<'_>) -> tables::Result<()> {
    let mut nothing = Connection::open_in_memory()?;
    schema::migrate(&mut nothing)?;
    snapshot(&mut nothing, query)
}

/// Several statements that see one state, whatever is committed meanwhile.
fn snapshot(connection: &mut Connection, query: Query<'_>) -> tables::Result<()> {
    let transaction = connection.transaction()?;
    query(Tables::Sqlite(&transaction))?;
    Ok(transaction.commit()?)
}

/// Whether another process may write while a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    MayWrite,
    AreAway,
}

fn read_once(path: &Path, limits: Limits, others: Others, query: Query<'_>) -> Result<(), StateError> {
    let failed = |error: rusqlite::Error| opening(error, path, limits);
    let immutable = match others {
        Others::MayWrite => "",
        Others::AreAway => "?immutable=1",
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}{immutable}", percent_encode(path.as_os_str().as_bytes(), IN_PATH));
    let mut connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
    connection.busy_timeout(limits.patience).map_err(failed)?;
    match schema::examine(&connection).map_err(failed)? {
        Found::Current => snapshot(&mut connection, query).map_err(|fault| opening(fault, path, limits)),
        Found::Older(found) => {
            Err(StateError::Older { path: path.to_owned(), found, known: schema::VERSION })
        }
        Found::Newer(found) => {
            Err(StateError::Newer { path: path.to_owned(), found, known: schema::VERSION })
        }
        Found::Foreign => Err(StateError::Foreign {
            path: path.to_owned(),
            what: "it is another program's database".to_owned(),
        }),
    }
}

/// Says whether nobody has written the file since `before`. Every write goes through the log, which lives on until the
/// writer has copied it into the file, which changes the file's time.
fn is_unchanged(path: &Path, log: &Path, before: &Metadata) -> bool {
    let stamp = |found: &Metadata| {
        (
            found.dev(),
            found.ino(),
            found.len(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        )
    };
    let log_is_empty = fs::metadata(log).map_or(true, |log| log.len() == 0);
    // A write within the same tick of the file system's clock would not show.
    let quiet = if before.mtime_nsec() == 0 { QUIET_SECONDS } else { QUIET };
    let settled = before
        .modified()
        .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > quiet));
    log_is_empty && settled && fs::metadata(path).is_ok_and(|after| stamp(&after) == stamp(before))
}

fn configure(connection: &Connection, limits: Limits) -> Result<()> {
    connection.busy_timeout(limits.patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else some are read again for each parameter that another value is given to.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if cfg!(target_vendor = "apple") {
        // fsync(2) gets as far as the drive's own cache only.
        connection.execute_batch("PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")?;
    }
    // FULL: a commit is on the disk when it returns. cell_size_check finds some damage at no cost that was measured.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
    ))?;
    if let Some(pages) = limits.pages {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    Ok(())
}

/// Takes the right to make the file, which nobody else has then.
fn right_to_create(path: &Path, limits: Limits) -> Result<Lease, StateError> {
    let taken = Lease::take_creation(path, limits.patience)?;
    taken.ok_or_else(|| StateError::Locked { path: path.to_owned(), waited: limits.patience })
}

/// Removes what a process left that was killed while it made the file.
fn remove_leftover(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(beside(path, ".new")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::of_io(&error, path)),
        _ => Ok(()),
    }
}

/// Takes from others what they may do with a file of ours: it holds host names and what the server said.
fn make_private(path: &Path, found: &Metadata) {
    if found.mode() & 0o077 == 0 || !is_ours(found) {
        return;
    }
    for file in [path, &beside(path, "-wal"), &beside(path, "-shm")] {
        match durable::make_private_at(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot take from others the right to read {}: {error}", file.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl StateError {
    /// Says what a fault of a file means; `patience` is how long locks were waited for.
    pub(super) fn of_fault(fault: Fault, path: &Path, patience: Duration) -> Self {
        match fault {
            Fault::Sqlite(error) => Self::of_sqlite(error, path, patience),
            Fault::Damaged(what) => Self::Corrupt { path: path.to_owned(), what },
            Fault::Postgres(fault) => Self::Statement { path: path.to_owned(), what: fault.to_string() },
            Fault::Elsewhere(error) => *error,
        }
    }
}

/// Says what SQLite's error at opening means. Its "unable to open database file" has no reason, so that is asked for.
fn opening(error: impl Into<Fault>, path: &Path, limits: Limits) -> StateError {
    let error = StateError::of_fault(error.into(), path, limits.patience);
    let vague = matches!(error, StateError::Unreachable { .. } | StateError::Unwritable { .. });
    if !vague {
        return error;
    }
    use nix::unistd::{AccessFlags, access};
    let needs = AccessFlags::R_OK | AccessFlags::W_OK;
    for (what, flags) in [(path, needs), (above(path), needs | AccessFlags::X_OK)] {
        if let Err(errno) = access(what, flags) {
            let why = if what == path {
                io::Error::from(errno).to_string()
            } else {
                format!("{}: {}", what.display(), io::Error::from(errno))
            };
            return match error {
                StateError::Unwritable { path, .. } => StateError::Unwritable { path, why },
                _ => StateError::Unreachable { path: path.to_owned(), why },
            };
        }
    }
    error
}
