//! Where passwords come from.

use std::path::PathBuf;

use super::command_line::CommandLine;
use crate::secret::Secret;

/// Where a password comes from. One trailing newline is dropped from all but `Literal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// It stands in the configuration, or was asked for.
    Literal(Secret),
    /// A command's standard output.
    Command(CommandLine),
    /// A file's content.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A file of this name in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A netrc file; the entry is looked up by host and user.
    Netrc(PathBuf),
}
