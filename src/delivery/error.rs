//! What can be wrong with a target, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::disk::part::Silence;
use crate::failure::Class;

/// The target as a whole failed: no message can be delivered until someone or something mends it.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// An operation on a file or directory failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// A verb: `create`, `make durable`.
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The target is something that mail must not be written into.
    #[error("{}: {what}", .path.display())]
    Unfit {
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
    /// A command cannot be run, or not as the user that it should be run as.
    #[error("cannot run {command}: {what}")]
    Command {
        command: String,
        what: String,
        /// What to do, if that is known.
        hint: Option<String>,
    },
    /// A server cannot be reached, does not let us in, or went away.
    #[error(transparent)]
    Server(Box<ServerError>),
}

/// What happened to a target that is a server.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct ServerError {
    /// `localhost:25`, `/run/dovecot/lmtp`.
    pub place: String,
    pub what: String,
    /// The server's own words, if it said any.
    pub said: Option<Vec<u8>>,
    /// What the user can do, if that is known.
    pub hint: Option<String>,
    /// What kind of trouble it is.
    pub class: Class,
}

impl From<Silence> for TargetError {
    fn from(silence: Silence) -> Self {
        let source = silence.error();
        Self::File { doing: "use", path: silence.path, source }
    }
}

impl TargetError {
    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let (path, source) = match self {
            Self::File { path, source, .. } => (path.display(), source),
            // It says what to do.
            Self::Unfit { .. } => return None,
            Self::Command { hint, .. } => return hint.clone(),
            Self::Server(error) => return error.hint.clone(),
        };
        if source.kind() == io::ErrorKind::TimedOut {
            return Some(SILENT.to_owned());
        }
        let errno = Errno::from_raw(source.raw_os_error()?);
        Some(match errno {
            Errno::EACCES | Errno::EPERM => {
                let user = nix::unistd::geteuid();
                format!(
                    "check who may write there: this runs as user {user}, {path} and what is above it say who may"
                )
            }
            Errno::EROFS => {
                "the file system is mounted read-only; a disk that failed is often found like that".into()
            }
            Errno::ENOSPC => {
                "free space or inodes on that file system (df, df -i); nothing is lost meanwhile".into()
            }
            Errno::EDQUOT => "free space, or have the quota raised; nothing is lost meanwhile".into(),
            Errno::ENOTDIR => "something in the path is a file; give the path of a directory".into(),
            Errno::EIO => "the disk failed; see the kernel's log (dmesg) and save what is there".into(),
            Errno::ENOENT => "it was removed, or a symbolic link in the path leads nowhere".into(),
            Errno::EMFILE | Errno::ENFILE => "raise the limit of open files, or lower max_sessions".into(),
            _ => return None,
        })
    }

    /// Gives what the server said, if it was one.
    pub(super) fn said(&self) -> Option<&[u8]> {
        match self {
            Self::Server(error) => error.said.as_deref(),
            Self::File { .. } | Self::Unfit { .. } | Self::Command { .. } => None,
        }
    }

    /// Says why a server refused, in place of what to do about it.
    pub(super) fn because(self, why: String) -> Self {
        match self {
            Self::Server(error) => Self::Server(Box::new(ServerError { hint: Some(why), ..*error })),
            other => other,
        }
    }

    /// Tells the same once more.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::File { doing, path, source } => Self::File {
                doing,
                path: path.clone(),
                source: match source.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::new(source.kind(), source.to_string()),
                },
            },
            Self::Unfit { path, what } => Self::Unfit { path: path.clone(), what: what.clone() },
            Self::Command { command, what, hint } => {
                Self::Command { command: command.clone(), what: what.clone(), hint: hint.clone() }
            }
            Self::Server(error) => Self::Server(error.clone()),
        }
    }
}

/// What to do about a file system that does not answer.
const SILENT: &str =
    "see whether the server or disk behind that path is there; nothing is lost, and other accounts go on";

/// Where there is no room for a message of more octets than this, there may be for others, which are mostly smaller: it
/// must not keep them away for ever. Where there is none for one of fewer, there is none for anybody.
pub(super) const LARGE: u64 = 64 << 10;

/// Says whether something could not be written for want of space or quota, or because files may not be that long.
pub(super) fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG))
}

/// Says what could not be done with which file.
pub(super) fn file_error(doing: &'static str, path: &Path, source: io::Error) -> TargetError {
    TargetError::File { doing, path: path.to_owned(), source }
}
