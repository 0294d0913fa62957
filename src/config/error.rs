//! What is wrong with a configuration, told so that it can be found and mended.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::tree::Complaint;

/// Mistakes that are told at once; the rest is counted.
const MOST_TOLD: usize = 20;

/// Mistakes that are kept to find the first of them in the file.
const MOST_KEPT: usize = 1000;

/// Why there is no configuration. Nothing was contacted.
///
/// Display quotes keys, valid values, account names and paths of files, never a value that stands in the file: it
/// might be a password in the wrong place.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no file in any of the usual places.
    #[error("cannot find a configuration: there is no {}; write one, or name one with --config", or(.tried, .hidden.as_deref()))]
    NotFound {
        /// The places, in order.
        tried: Vec<PathBuf>,
        /// One that is there, but not for this user to read.
        hidden: Option<PathBuf>,
    },
    #[error("{}: cannot read the configuration: {source}", .file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// A directory, a device, a pipe.
    #[error("{}: cannot read the configuration: not a regular file", .file.display())]
    NotAFile { file: PathBuf },
    #[error("{}: cannot read the configuration: larger than {most} octets", .file.display())]
    TooLarge { file: PathBuf, most: usize },
    /// Read again by a process whose sandbox was made for another configuration.
    #[error("{}: not taken over: {what}; the process confined itself at its start and cannot widen that: restart it", .file.display())]
    Uncovered { file: PathBuf, what: String },
    #[error("{}:{line}:{column}: not UTF-8 text from here on", .file.display())]
    NotUtf8 {
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    #[error(
        "{0}: holds a password and is readable by others (mode {mode:04o}): chmod 600 {0}",
        .file.display()
    )]
    Exposed { file: PathBuf, mode: u32 },
    #[error(
        "{0}: others may write it (mode {mode:04o}), and have commands run by what they write: chmod go-w {0}",
        .file.display()
    )]
    Writable { file: PathBuf, mode: u32 },
    #[error(
        "{}: it is neither yours nor root's, and whoever has it may write into it what commands are run: make it yours (chown)",
        .file.display()
    )]
    Strange { file: PathBuf },
    #[error("{}: everybody may replace it, since its directory is everybody's to write: chmod o-w on that", .file.display())]
    Replaceable { file: PathBuf },
    /// No `state:`, and no directory for it.
    #[error(
        "cannot tell where to keep state: there is no home directory; set $HOME, or `state` in the configuration"
    )]
    NoHome,
    #[error("{0}")]
    Wrong(Mistakes),
}

/// Mistakes of one file, in the order of the file; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    pub file: PathBuf,
    /// The first of them.
    pub told: Vec<Mistake>,
    pub more: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line of the key or value, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The path of keys, as in `accounts.home.tls`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what to write instead if that is known.
    pub what: String,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { line, column, path, what }) in self.told.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{}:{line}:{column}: {path}{colon}{what}", self.file.display())?;
        }
        match self.more {
            0 => Ok(()),
            1 => write!(f, "\n{}: one more mistake", self.file.display()),
            more => write!(f, "\n{}: {more} more mistakes", self.file.display()),
        }
    }
}

/// Mistakes while they are gathered.
#[derive(Debug, Default)]
pub(super) struct Found {
    mistakes: Vec<Mistake>,
    more: usize,
}

impl Found {
    /// Adds what is wrong with the value at this path.
    pub(super) fn add(&mut self, path: &str, complaint: Complaint) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let Complaint { at, below, what } = complaint;
        // Below the top of the file there is no path to put a dot behind.
        let path =
            if path.is_empty() { below.trim_start_matches('.').to_owned() } else { format!("{path}{below}") };
        self.mistakes.push(Mistake { line: at.line, column: at.column, path, what });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Tells whether further mistakes are only counted, so that no work need be spent on their words.
    pub(super) fn is_full(&self) -> bool {
        self.mistakes.len() >= MOST_KEPT
    }

    /// Gives the mistakes, first in the file first; `None` if there is none.
    pub(super) fn told(mut self, file: PathBuf) -> Option<ConfigError> {
        if self.mistakes.is_empty() {
            return None;
        }
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        let more = self.more + self.mistakes.len().saturating_sub(MOST_TOLD);
        self.mistakes.truncate(MOST_TOLD);
        Some(ConfigError::Wrong(Mistakes { file, told: self.mistakes, more }))
    }
}

/// Writes `A and no B`, and `, and C is not yours to read`.
fn or(tried: &[PathBuf], hidden: Option<&Path>) -> String {
    let mut all = tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and no ");
    if let Some(hidden) = hidden {
        if all.is_empty() {
            all.push_str("home directory");
        }
        all += &format!(", and {} is not yours to read", hidden.display());
    }
    all
}
