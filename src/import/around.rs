//! What a configuration leaves to the place where its program runs.

use std::path::PathBuf;

/// What a configuration leaves to the place where its program runs.
pub struct Around {
    /// The home directory of whoever runs the program.
    pub home: PathBuf,
    /// Who runs it.
    pub user: String,
    /// Whether there is a `~/.netrc`.
    pub has_netrc: bool,
}

impl Around {
    /// Gives `~` and `~/...` in full.
    pub(super) fn expand(&self, path: &str) -> PathBuf {
        match path.strip_prefix('~') {
            Some("") => self.home.clone(),
            Some(rest) if rest.starts_with('/') => self.home.join(rest.trim_start_matches('/')),
            Some(_) | None => PathBuf::from(path),
        }
    }

    /// Does the same, and takes a path that depends on the working directory for one of the home.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        self.home.join(self.expand(path))
    }
}
