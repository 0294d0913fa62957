//! Where the configuration and the state lie, and what `~` and `$HOME` stand for.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::error::ConfigError;

/// The configuration of the system.
const SYSTEM: &str = "/etc/postrider/config.yaml";

/// The directories of the user for whom the program runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// `~` and `$HOME`.
    pub(super) home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`.
    pub(super) config: Option<PathBuf>,
    /// What systemd gave for `StateDirectory=`; several, separated by colons, if several were asked for.
    pub(super) state_directory: Option<OsString>,
    /// `$XDG_STATE_HOME`.
    pub(super) state: Option<PathBuf>,
}

impl Places {
    /// Asks the environment, and the user database for a home directory that is not there.
    pub(super) fn of_process() -> Self {
        let user = directories::BaseDirs::new();
        Self {
            home: user.as_ref().map(|user| user.home_dir().to_owned()),
            config: user.as_ref().map(|user| user.config_dir().to_owned()),
            state_directory: env::var_os("STATE_DIRECTORY"),
            state: user.as_ref().and_then(|user| user.state_dir().map(Path::to_owned)),
        }
    }

    /// Gives where the user's own configuration is, or would be.
    pub(super) fn own(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|config| config.join("postrider/config.yaml"))
    }

    /// Finds the user's configuration, else the system's, if this user may read that.
    pub(super) fn find(&self) -> Result<PathBuf, ConfigError> {
        // A path that cannot even be looked at is taken, so that reading it says why.
        let is_there = |path: &PathBuf| path.try_exists().unwrap_or(true);
        if let Some(own) = self.own().filter(is_there) {
            return Ok(own);
        }
        let system = PathBuf::from(SYSTEM);
        if !is_there(&system) {
            let tried = self.own().into_iter().chain([system]).collect();
            return Err(ConfigError::NotFound { tried, hidden: None });
        }
        // What a service of the machine reads, and not everybody, is not this user's.
        match may(&system, AccessFlags::R_OK) {
            true => Ok(system),
            false => {
                Err(ConfigError::NotFound { tried: self.own().into_iter().collect(), hidden: Some(system) })
            }
        }
    }

    /// Finds the configuration that this user can put an account into: the system's only where it is there alone, and
    /// may be written.
    pub(super) fn find_writable(&self) -> Result<PathBuf, ConfigError> {
        match self.find() {
            Ok(path) if path == Path::new(SYSTEM) => {}
            Ok(path) => return Ok(path),
            Err(ConfigError::NotFound { hidden: None, .. }) => return self.own().ok_or(ConfigError::NoHome),
            Err(ConfigError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let system = Path::new(SYSTEM);
        // What replaces the file is written beside it.
        match system.ancestors().take(2).all(|path| may(path, AccessFlags::W_OK)) {
            true => Ok(system.to_owned()),
            false => self.own().ok_or(ConfigError::NoHome),
        }
    }

    /// Gives the state file's path when none is configured.
    pub(super) fn default_state(&self) -> Result<PathBuf, ConfigError> {
        let systemd = self.state_directory.as_ref().and_then(|all| env::split_paths(all).next());
        match systemd.filter(|path| path.is_absolute()) {
            Some(directory) => Ok(directory.join("state.db")),
            None => Ok(self.state.as_ref().ok_or(ConfigError::NoHome)?.join("postrider/state.db")),
        }
    }

    /// Expands `~`, `~/...`, `$HOME` and `${HOME}`. The words of an error complete "KEY: ..." and quote nothing.
    pub(super) fn expand(&self, text: &str) -> Result<PathBuf, &'static str> {
        if text.is_empty() {
            return Err("is an empty path");
        }
        if text.contains('\0') {
            return Err("must be a path, which has no NUL in it");
        }
        let home = || self.home.as_ref().ok_or("needs a home directory, and there is none: set $HOME");
        let mut expanded = OsString::new();
        let mut rest = text;
        if let Some(after) = rest.strip_prefix('~') {
            if !after.is_empty() && !after.starts_with('/') {
                return Err(
                    "names another user's home directory, which is not expanded: write the path in full",
                );
            }
            expanded.push(home()?);
            rest = after;
        }
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push(before);
            let beyond = after.strip_prefix("{HOME}").or_else(|| {
                let beyond = after.strip_prefix("HOME")?;
                (!beyond.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')).then_some(beyond)
            });
            match beyond {
                Some(beyond) => {
                    expanded.push(home()?);
                    rest = beyond;
                }
                None if after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{') => {
                    return Err("names a variable that is not expanded: only ~ and $HOME are");
                }
                None => {
                    expanded.push("$");
                    rest = after;
                }
            }
        }
        expanded.push(rest);
        Ok(PathBuf::from(expanded))
    }

    /// Expands a path that must not depend on the directory in which the program happens to be started.
    pub(super) fn absolute(&self, text: &str) -> Result<PathBuf, &'static str> {
        let path = self.expand(text)?;
        if path.is_absolute() { Ok(path) } else { Err("must begin with /, ~/ or $HOME/") }
    }
}

/// Says whether this process may do so with a file.
fn may(path: &Path, what: AccessFlags) -> bool {
    access(path, what).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            home: Some("/home/alice".into()),
            config: Some("/nowhere/alice/.config".into()),
            state_directory: None,
            state: Some("/home/alice/.local/state".into()),
        }
    }

    #[test]
    fn home_is_expanded_and_nothing_else() {
        let places = places();
        for (text, path) in [
            ("~", "/home/alice"),
            ("~/Mail", "/home/alice/Mail"),
            ("$HOME", "/home/alice"),
            ("$HOME/Mail", "/home/alice/Mail"),
            ("${HOME}/Mail", "/home/alice/Mail"),
            ("/var$HOME/x", "/var/home/alice/x"),
            ("/cost/5$", "/cost/5$"),
            ("/a~b/~", "/a~b/~"),
        ] {
            assert_eq!(places.absolute(text), Ok(PathBuf::from(path)), "{text}");
        }
        for text in ["", "Mail", "./Mail", "~bob/Mail", "$HOMES/x", "$MAIL", "/a/${USER}", "/a\0b"] {
            assert!(places.absolute(text).is_err(), "{text}");
        }
        assert!(Places::default().absolute("~/Mail").is_err());
    }

    #[test]
    fn state_lies_where_systemd_says_else_in_the_users_state_directory() {
        let mut places = places();
        assert_eq!(places.default_state().unwrap(), Path::new("/home/alice/.local/state/postrider/state.db"));
        places.state_directory = Some("/var/lib/postrider:/var/lib/other".into());
        assert_eq!(places.default_state().unwrap(), Path::new("/var/lib/postrider/state.db"));
        places.state_directory = Some("".into());
        places.state = None;
        assert!(matches!(places.default_state(), Err(ConfigError::NoHome)));
    }

    #[test]
    fn the_users_configuration_comes_before_the_systems() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places { config: Some(directory.path().to_owned()), ..places() };
        let own = directory.path().join("postrider/config.yaml");
        if !Path::new(SYSTEM).exists() {
            let Err(ConfigError::NotFound { tried, hidden }) = places.find() else { panic!("found one") };
            assert_eq!((tried, hidden), (vec![own.clone(), PathBuf::from(SYSTEM)], None));
            assert_eq!(places.find_writable().unwrap(), own);
        }
        std::fs::create_dir(directory.path().join("postrider")).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(places.find().unwrap(), own);
    }
}
