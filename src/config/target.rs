//! Where messages go.

use std::fmt;
use std::path::PathBuf;

/// One delivery target; `delivery::open` makes a sink of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A maildir, created if missing.
    Maildir(PathBuf),
    /// An mbox, created if missing.
    Mbox(PathBuf),
}

/// Shows the target as users write it: `maildir:/home/alice/Mail`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Mbox(path) => write!(f, "mbox:{}", path.display()),
        }
    }
}
