//! Why a state was not copied, or not all of it.

use std::path::PathBuf;

use crate::state::StateError;
use crate::text::{Shown, counted};

/// Why a state was not copied, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("there is no state file {}", .0.display())]
    Missing(PathBuf),
    /// Somebody records there.
    #[error("cannot copy: {place} is in use: {by}")]
    InUse { place: String, by: String },
    /// A part of another state is there, which would be taken for all of it.
    #[error("cannot copy: {place} has a part of {} and not yet all of it", Shown(.of.as_bytes()))]
    Begun { place: String, of: String },
    /// Both have them, and one of them knows what the other does not.
    #[error("{} in both and not the same, {} the first; what {place} has of them stays", counted(*count, "maildrop"), Shown(.first.as_bytes()))]
    Differ {
        place: String,
        count: u64,
        /// One of them.
        first: String,
    },
    #[error("{} is not the same in {place} after it was copied there", Shown(.what.as_bytes()))]
    NotTheSame { place: String, what: String },
}

impl CopyError {
    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) => error.hint(),
            Self::Missing(_) => None,
            Self::InUse { .. } => Some(
                "stop all that polls with it, and wait half a minute for a worker that was killed; what was copied so far \
                 stays, and the next copy goes on from there"
                    .to_owned(),
            ),
            Self::Begun { .. } => {
                Some("copy that one first, which goes on where it was, or make the database anew".to_owned())
            }
            Self::Differ { .. } => Some("--replace takes what the other one has".to_owned()),
            Self::NotTheSame { .. } => {
                Some("copy again; if that lasts, the disk or somebody else changes what is written".to_owned())
            }
        }
    }
}
