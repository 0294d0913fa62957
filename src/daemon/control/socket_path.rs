//! Where the control socket lies, and that it is its owner's alone.
//!
//! It lies in the runtime directory, under a name that is made of the state file's. Beside the state file a link
//! (`state.db.control`) leads to it, since a client knows the state file but not the runtime directory that a service
//! manager gave the daemon. Without a runtime directory the socket itself lies there.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use crate::disk::{above, durable};
use crate::state;
use crate::text::hex;

/// Why there is no control socket. The daemon works without one.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Whoever else can write there could put another socket in its place.
    #[error("{path} is not ours alone: {why}")]
    NotOurs { path: PathBuf, why: &'static str },
    /// The directory, the socket or the link cannot be made.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A control socket that is being listened on; dropping it removes it.
#[derive(Debug)]
pub struct SocketPath {
    /// The socket, and the link to it if it lies elsewhere.
    made: Vec<PathBuf>,
}

/// Gives the path by which clients find the socket of the daemon that uses a state file.
pub fn by_state(state: &Path) -> PathBuf {
    state::beside(state, ".control")
}

/// Gives the directory in which the socket of a daemon lies that uses a state file.
pub fn directory(state: &Path) -> PathBuf {
    runtime_directory().unwrap_or_else(|| above(&by_state(state)).to_owned())
}

impl SocketPath {
    /// Makes the socket. The caller is the only daemon with this state file, so that what lies in its place was left by
    /// one that was killed.
    pub fn open(state: &Path) -> Result<(Self, UnixListener), SocketError> {
        let link = by_state(state);
        let socket = match runtime_directory() {
            Some(directory) => directory.join(name_of(&link)),
            None => link.clone(),
        };
        let directory = above(&socket);
        make(directory)?;
        check(directory)?;
        let listener = listen(directory, &socket, 0o600)?;
        let mut this = Self { made: vec![socket.clone()] };
        if socket != link {
            let new = state::beside(state, ".control.new");
            // One that a daemon left that was killed in this moment.
            let _ = fs::remove_file(&new);
            symlink(&socket, &new).map_err(at(&new))?;
            durable::replace(&link, &new).map_err(at(&link))?;
            this.made.push(link);
        }
        Ok((this, listener))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        for path in self.made.drain(..) {
            // What is left finds nobody who listens, and the next daemon takes it over.
            let _ = fs::remove_file(path);
        }
    }
}

/// Gives the directory for sockets: systemd's for the unit, else one of ours in that of the user's session.
fn runtime_directory() -> Option<PathBuf> {
    let unit = env::var_os("RUNTIME_DIRECTORY").and_then(|all| env::split_paths(&all).next());
    let session = || Some(PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?));
    let absolute = |path: &PathBuf| path.is_absolute();
    unit.filter(absolute).or_else(|| session().filter(absolute).map(|session| session.join("postrider")))
}

/// Makes a short name of a state file's path: paths of sockets have about a hundred octets, no more.
fn name_of(link: &Path) -> String {
    let digest = Sha256::digest(link.as_os_str().as_encoded_bytes());
    format!("control-{}", hex(&digest[..6]))
}

/// Makes a directory that is missing, but not those above it: a session's directory is made by the system or not at all.
fn make(directory: &Path) -> Result<(), SocketError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(directory)(error)),
    }
}

fn check(directory: &Path) -> Result<(), SocketError> {
    let found = fs::metadata(directory).map_err(at(directory))?;
    let why = if !found.is_dir() {
        "it is not a directory"
    } else if found.uid() != geteuid().as_raw() {
        "it belongs to another user"
    } else if found.mode() & 0o022 != 0 {
        "others may write there"
    } else {
        return Ok(());
    };
    Err(SocketError::NotOurs { path: directory.to_owned(), why })
}

/// Makes the socket where nobody else can reach it, and puts it into its place when only those may use it who shall.
pub fn listen(directory: &Path, socket: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let hidden =
        tempfile::Builder::new().prefix(".c").rand_bytes(4).tempdir_in(directory).map_err(at(directory))?;
    let new = hidden.path().join("s");
    let listener = UnixListener::bind(&new).map_err(at(&new))?;
    fs::set_permissions(&new, Permissions::from_mode(mode)).map_err(at(&new))?;
    durable::replace(socket, &new).map_err(at(socket))?;
    Ok(listener)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for (mode, ours) in [(0o700, true), (0o755, true), (0o770, false), (0o1777, false)] {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(directory.path()).is_ok(), ours, "{mode:o}");
        }
        let told = check(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(told, "/dev/null is not ours alone: it is not a directory");
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_takes_the_place_of_one_that_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let first = listen(directory.path(), &socket, 0o600).unwrap();
        std::mem::drop(first);
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_err());
        let _second = listen(directory.path(), &socket, 0o600).unwrap();
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
