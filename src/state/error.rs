//! Why the state cannot be used, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{ErrorCode, ffi};

use super::trouble::Trouble;

/// Why the state cannot be used. Nothing may be fetched then, since nothing could be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The directory of the state file is missing and cannot be made.
    #[error("cannot create the directory {path}: {why}")]
    Directory { path: PathBuf, why: String },
    /// The file cannot be opened or created: permissions, a read-only file system, a directory in its place.
    #[error("cannot open the state file {path}: {why}")]
    Unreachable { path: PathBuf, why: String },
    /// What is there must not be used: it says why, and what to do.
    #[error("cannot use {path}: {why}")]
    Unfit { path: PathBuf, why: String },
    /// The file can be read, but not written.
    #[error("cannot write the state file {path}: {why}")]
    Unwritable { path: PathBuf, why: String },
    /// No room is left; what was to be recorded is not.
    #[error("cannot write the state file {path}: the disk is full")]
    Full { path: PathBuf },
    /// The file is something else.
    #[error("{path} is not a state file: {what}")]
    Foreign { path: PathBuf, what: String },
    /// The file is a state file with impossible content.
    #[error("the state file {path} is damaged: {what}")]
    Corrupt { path: PathBuf, what: String },
    /// A newer version wrote the file.
    #[error("the state file {path} was written by a newer version (schema {found}; this one knows {known})")]
    Newer {
        path: PathBuf,
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// An older version wrote the file, which is open for reading only and so cannot be migrated.
    #[error("the state file {path} was written by an older version (schema {found}; this one reads {known})")]
    Older {
        path: PathBuf,
        found: i64,
        /// The schema version that this program reads.
        known: i64,
    },
    /// Another process did not stop writing in time.
    #[error(
        "gave up after {} waiting for another process to finish writing the state file {path}",
        humantime::format_duration(*waited)
    )]
    Locked { path: PathBuf, waited: Duration },
    /// The file system does not answer; whatever was asked may still be done.
    #[error(
        "the file system of the state file {path} has not answered for {}", humantime::format_duration(*waited)
    )]
    Silent { path: PathBuf, waited: Duration },
    /// The disk failed. The store takes nothing more until it has opened it again: after a failed fsync the system
    /// forgets what it could not write, and a second fsync would succeed without it.
    #[error("cannot read or write the state file {path}: {why}")]
    Io {
        path: PathBuf,
        /// What was attempted and how it failed.
        why: String,
    },
    /// The file was removed, or another put in its place, while it was open.
    #[error("the state file {path} was removed or replaced while it was in use")]
    Replaced { path: PathBuf },
    /// Something was to be written to a store that is open for reading only.
    #[error("cannot write the state file {path}: it was opened for reading only")]
    ReadOnly { path: PathBuf },
    /// The lock file beside the state file cannot be used.
    #[error("cannot lock {path}: {why}")]
    Lock { path: PathBuf, why: String },
    /// What a login has left cannot be read, or not be replaced.
    #[error("cannot read or write the tokens in {path}: {why}")]
    Tokens { path: PathBuf, why: String },
    /// The store's thread did not start, or has met a defect.
    #[error("cannot use the state file {path}: {why}")]
    Thread { path: PathBuf, why: String },
    /// The database that holds the state cannot be used, or refused what was asked of it.
    #[error("cannot use the database {place}: {what}")]
    Database {
        /// Its name and its hosts.
        place: String,
        trouble: Trouble,
        what: String,
    },
    /// SQLite refused a statement for a reason that has no case of its own.
    #[error("cannot use the state file {path}: {what}")]
    Statement { path: PathBuf, what: String },
}

impl StateError {
    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let words = match self {
            Self::Directory { .. } => {
                "make the directory, owned by the user that runs this, or name another file with `state:`"
                    .to_owned()
            }
            Self::Unreachable { path, .. } | Self::Unwritable { path, .. } => {
                format!(
                    "{} must be a file, or none yet, and the user that runs this must be able to write it and its directory",
                    path.display()
                )
            }
            Self::Full { .. } => {
                "make room; what was deleted on the server had been recorded, nothing is lost, and the next poll goes on".to_owned()
            }
            Self::Foreign { .. } => "name another file with `state:`".to_owned(),
            Self::Corrupt { path, .. } => format!(
                "move {0} aside, together with {0}-wal and {0}-shm if they are there, and put a backup in its place; \
                 without one every message on the server is downloaded again, and a maildir keeps only those it lacks",
                path.display()
            ),
            Self::Newer { .. } => "use that version, or name another file with `state:`".to_owned(),
            Self::Older { .. } => "poll once, which brings it up to date".to_owned(),
            Self::Locked { .. } => "see which other process has it open (fuser, lsof)".to_owned(),
            Self::Silent { .. } => {
                "see whether the disk or server behind that path is there, and what load it has; nothing is lost"
                    .to_owned()
            }
            // SQLite tells a full disk, but not an exceeded quota.
            Self::Io { .. } => {
                "see the system's log for errors of the disk, and your quota if there is one; the next poll opens it anew"
                    .to_owned()
            }
            Self::Replaced { .. } => "remove or move it only while nothing runs".to_owned(),
            Self::Lock { path, .. } | Self::Tokens { path, .. } => {
                format!(
                    "{} must be a file, or none yet, that the user who runs this can write",
                    path.display()
                )
            }
            Self::Database { trouble, .. } => return trouble.hint().map(str::to_owned),
            Self::Unfit { .. } | Self::ReadOnly { .. } | Self::Thread { .. } | Self::Statement { .. } => return None,
        };
        Some(words)
    }

    /// Says whether a newer version has made the tables of a database, and taken away what this one needs.
    pub fn is_of_newer_tables(&self) -> bool {
        matches!(self, Self::Database { trouble: Trouble::Newer, .. })
    }

    /// Says whether the file or the disk is in a state in which writing on could do harm.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Io { .. } => true,
            Self::Directory { .. }
            | Self::Unreachable { .. }
            | Self::Unfit { .. }
            | Self::Unwritable { .. }
            | Self::Full { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Locked { .. }
            | Self::Silent { .. }
            | Self::Replaced { .. }
            | Self::ReadOnly { .. }
            | Self::Lock { .. }
            | Self::Tokens { .. }
            | Self::Thread { .. }
            | Self::Database { .. }
            | Self::Statement { .. } => false,
        }
    }

    /// Says what SQLite's error means; `patience` is how long it waited for locks.
    pub(super) fn of_sqlite(error: rusqlite::Error, path: &Path, patience: Duration) -> Self {
        let path = path.to_owned();
        let (failure, words) = match &error {
            rusqlite::Error::SqliteFailure(failure, words) => (failure, words.clone()),
            // A column of another type than we ever write.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => return Self::Corrupt { path, what: error.to_string() },
            _ => return Self::Statement { path, what: error.to_string() },
        };
        let what = failure.to_string();
        match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                Self::Locked { path, waited: patience }
            }
            ErrorCode::DiskFull => Self::Full { path },
            ErrorCode::DatabaseCorrupt => Self::Corrupt { path, what: words.unwrap_or(what) },
            ErrorCode::NotADatabase => Self::Foreign {
                path,
                what: "it is not an SQLite file, or its first page is damaged".to_owned(),
            },
            // The file that is mapped as shared memory could not grow: SQLite does not say why, and it is for want of
            // room nearly always.
            ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
                Self::Full { path }
            }
            ErrorCode::SystemIoFailure => {
                Self::Io { path, why: attempted(failure.extended_code).unwrap_or(what) }
            }
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
                Self::Unreachable { path, why: words.unwrap_or(what) }
            }
            ErrorCode::ReadOnly => Self::Unwritable { path, why: words.unwrap_or(what) },
            _ => Self::Statement { path, what: words.unwrap_or(what) },
        }
    }

    /// Says what the system's error about the state file means.
    pub(super) fn of_io(error: &io::Error, path: &Path) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::Unwritable { path, why: error.to_string() },
            // No word of the system's: it is ours, of a file that is not to be trusted.
            _ if error.raw_os_error().is_none() => Self::Unfit { path, why: error.to_string() },
            _ => Self::Unreachable { path, why: error.to_string() },
        }
    }
}

/// Says what failed on the disk; SQLite's words say only "disk I/O error".
fn attempted(extended_code: i32) -> Option<String> {
    let what = match extended_code {
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => "read",
        ffi::SQLITE_IOERR_WRITE => "write",
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => "fsync",
        ffi::SQLITE_IOERR_TRUNCATE => "ftruncate",
        ffi::SQLITE_IOERR_LOCK | ffi::SQLITE_IOERR_SHMLOCK => "lock",
        ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMMAP => {
            return Some(
                "its file system gives no shared memory, as some in user space and shared folders do not; name a file on \
                 another disk with `state:`"
                    .to_owned(),
            );
        }
        _ => return None,
    };
    Some(format!("{what} failed (I/O error)"))
}
