//! What logins of OAuth2 leave behind, opaque octets here: in a fleet a row each in the database, sealed, else a file each, in
//! a directory beside the state file.
//!
//! Not in the state file itself: a token that was replaced would stay in its free pages and its log, and in the copies
//! that people make of it. And the room for what replaces a file can be taken before it is known: a provider that gives a
//! new refresh token has forgotten the old one by the time it could turn out that the disk is full.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::lease::Lease;
use super::postgres::{TokensTurn, Vault};
use super::{StateError, path};
use crate::clock::WallClock;
use crate::disk::{blocking, durable};
use crate::text::hex;

/// Octets that a login may leave, and for which room is taken beforehand.
pub const MOST: usize = 64 << 10;

/// The directory of the files, beside the state file.
pub(super) const DIRECTORY: &str = ".tokens";

/// Where they are kept. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Shelf {
    /// In files beside this state file.
    Beside(PathBuf),
    /// In a database that workers share.
    In(Vault),
}

/// One login's turn to change what it leaves: no other task or process does so meanwhile.
#[derive(Debug)]
pub enum Turn {
    File { _lease: Option<Lease>, path: PathBuf, patience: Duration },
    Row(TokensTurn),
}

/// Room for what is to be written.
#[derive(Debug)]
pub enum Room<'t> {
    /// On the disk, and already taken.
    File {
        path: PathBuf,
        new: PathBuf,
        file: File,
        patience: Duration,
    },
    Row(&'t TokensTurn),
}

impl Shelf {
    /// Gives the clock that the times in what logins leave are of.
    pub fn clock(&self) -> WallClock {
        match self {
            Self::Beside(_) => WallClock::System,
            Self::In(vault) => vault.clock(),
        }
    }

    /// Reads what the login of this name has left; `None` if there is nothing.
    pub async fn read(
        &self,
        login: &str,
        patience: Duration,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        self.kept(&digest(login), patience).await
    }

    /// Reads what the login of this digest has left.
    async fn kept(&self, login: &str, patience: Duration) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let state = match self {
            Self::Beside(state) => state,
            Self::In(vault) => return vault.read(login).await,
        };
        let path = place(state, login);
        let found = path.clone();
        let read = move || match open(&found, OpenOptions::new().read(true)) {
            Ok(file) => {
                // Sized first: a vector that grows leaves its old octets behind in freed memory.
                let mut octets = Zeroizing::new(Vec::with_capacity(MOST + 1));
                file.take(MOST as u64 + 1).read_to_end(&mut octets)?;
                Ok(Some(octets))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        asked(&path, patience, read).await
    }

    /// Waits for this login's turn; `Ok(None)` if somebody else still has it after `patience`.
    pub async fn turn(&self, login: &str, patience: Duration) -> Result<Option<Turn>, StateError> {
        match self {
            Self::Beside(state) => {
                let lease = Lease::take(state, &format!("login {login}"), patience).await?;
                let path = place(state, &digest(login));
                Ok(lease.map(|lease| Turn::File { _lease: Some(lease), path, patience }))
            }
            Self::In(vault) => Ok(vault.turn(&digest(login), patience).await?.map(Turn::Row)),
        }
    }

    /// Copies what all logins have left to another, while nobody uses either; what that has of a login stays. Gives how many
    /// were copied.
    pub async fn copy_to(&self, other: &Self, patience: Duration) -> Result<usize, StateError> {
        let mut copied = 0;
        for login in self.logins(patience).await? {
            let there = other.kept(&login, patience).await?;
            let Some(octets) = self.kept(&login, patience).await?.filter(|_| there.is_none()) else {
                continue;
            };
            let turn = match other {
                Self::Beside(state) => Turn::File { _lease: None, path: place(state, &login), patience },
                Self::In(vault) => {
                    Turn::Row(vault.turn(&login, patience).await?.ok_or_else(|| vault.busy())?)
                }
            };
            turn.room().await?.write(octets).await?;
            copied += 1;
        }
        Ok(copied)
    }

    /// Gives the digests of all logins that have left something.
    async fn logins(&self, patience: Duration) -> Result<Vec<String>, StateError> {
        let state = match self {
            Self::Beside(state) => state,
            Self::In(vault) => return vault.logins().await,
        };
        let directory = super::beside(state, DIRECTORY);
        let about = directory.clone();
        let list = move || match fs::read_dir(&directory) {
            Ok(entries) => {
                let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
                let names = entries.map(name).collect::<io::Result<Vec<_>>>()?;
                let is_digest =
                    |name: &String| name.len() == 32 && name.bytes().all(|c| c.is_ascii_hexdigit());
                Ok(names.into_iter().flatten().filter(is_digest).collect())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        asked(&about, patience, list).await
    }
}

impl Turn {
    /// Takes room for what is to be written. A database has it, or is full whenever that is.
    pub async fn room(&self) -> Result<Room<'_>, StateError> {
        let (path, patience) = match self {
            Self::File { path, patience, .. } => (path.clone(), *patience),
            Self::Row(turn) => return Ok(Room::Row(turn)),
        };
        let about = path.clone();
        let take = move || {
            let directory = durable::above(&path);
            match DirBuilder::new().mode(0o700).create(directory) {
                Ok(()) => durable::sync_directory_of(directory)?,
                Err(_) if directory.is_dir() => {}
                Err(error) => return Err(error),
            }
            let new = path::beside(&path, ".new");
            // What an earlier one has left may be another's file or link.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = open(&new, OpenOptions::new().write(true).create_new(true).mode(0o600))?;
            durable::make_private(&file)?;
            // Octets, not a hole: a hole has no room.
            file.write_all(&[b' '; MOST])?;
            durable::sync(&file)?;
            Ok(Room::File { path, new, file, patience })
        };
        asked(&about, patience, take).await
    }
}

impl Room<'_> {
    /// Puts the octets in the place of what was there, durably; until then that is what is there.
    pub async fn write(self, octets: Zeroizing<Vec<u8>>) -> Result<(), StateError> {
        let (path, new, file, patience) = match self {
            Self::File { path, new, file, patience } => (path, new, file, patience),
            Self::Row(turn) => return turn.write(octets).await,
        };
        let about = path.clone();
        let write = move || {
            if octets.len() > MOST {
                return Err(io::Error::other("tokens of more than 64 KiB"));
            }
            file.write_all_at(&octets, 0)?;
            // Blanks behind it would do, too; but what is there shall be what was written.
            file.set_len(octets.len() as u64)?;
            durable::sync(&file)?;
            durable::replace(&path, &new)?;
            durable::sync_directory_of(&path)
        };
        asked(&about, patience, write).await
    }
}

/// Names the file of the login of this digest.
fn place(state: &Path, login: &str) -> PathBuf {
    super::beside(state, DIRECTORY).join(login)
}

/// Gives what stands for the name of a login: that says more of its user than a directory should.
fn digest(login: &str) -> String {
    hex(&Sha256::digest(login)[..16])
}

/// Opens a file that is no link.
fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    how.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

async fn asked<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StateError> {
    let done = blocking::ask(path, patience, work).await;
    done.flatten().map_err(|error| match error.kind() {
        ErrorKind::TimedOut => StateError::Silent { path: path.to_owned(), waited: patience },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StateError::Full { path: path.to_owned() },
        _ => StateError::Tokens { path: path.to_owned(), why: error.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn shelf(state: &Path) -> Shelf {
        Shelf::Beside(state.to_owned())
    }

    fn octets(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    async fn keep(state: &Path, login: &str, text: &str) {
        let turn = shelf(state).turn(login, PATIENCE).await.unwrap().unwrap();
        turn.room().await.unwrap().write(octets(text)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_kept_is_nobody_elses_and_of_one_login() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        assert_eq!(shelf(&state).read("a", PATIENCE).await.unwrap(), None);
        keep(&state, "a", "one").await;
        keep(&state, "a", "two").await;
        assert_eq!(shelf(&state).read("a", PATIENCE).await.unwrap(), Some(octets("two")));
        assert_eq!(shelf(&state).read("b", PATIENCE).await.unwrap(), None);
        let kept = directory.path().join("state.db.tokens");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&kept), 0o700);
        let files: Vec<_> = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!((files.len(), mode(&files[0])), (1, 0o600));
    }

    #[tokio::test]
    async fn one_changes_it_at_a_time_and_until_then_the_old_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        keep(&state, "a", "old").await;
        let first = shelf(&state).turn("a", PATIENCE).await.unwrap().unwrap();
        assert!(shelf(&state).turn("a", Duration::ZERO).await.unwrap().is_none());
        assert!(shelf(&state).turn("b", Duration::ZERO).await.unwrap().is_some());
        // Room that was taken and never used changes nothing.
        drop(first.room().await.unwrap());
        let room = first.room().await.unwrap();
        assert_eq!(shelf(&state).read("a", PATIENCE).await.unwrap(), Some(octets("old")));
        room.write(octets("new")).await.unwrap();
        drop(first);
        assert!(shelf(&state).turn("a", PATIENCE).await.unwrap().is_some());
        assert_eq!(shelf(&state).read("a", PATIENCE).await.unwrap(), Some(octets("new")));
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_the_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state.db");
        keep(&state, "a", "old").await;
        let (file, other) = (place(&state, &digest("a")), directory.path().join("other"));
        fs::rename(&file, &other).unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        let refused = shelf(&state).read("a", PATIENCE).await.unwrap_err();
        assert!(matches!(refused, StateError::Tokens { .. }), "{refused}");
    }
}
