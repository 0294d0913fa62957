//! Options of every command.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use log::LevelFilter;

use crate::config::{Config, ConfigError};
use crate::disk::blocking;
use crate::logging::Format;

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Common {
    /// Configuration file [default: $POSTRIDER_CONFIG, $XDG_CONFIG_HOME/postrider/config.yaml, or
    /// /etc/postrider/config.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Say more: -v each message, -vv what is being done, -vvv the dialogue with secrets masked
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Lines on standard error: for people, one JSON object each, or with systemd's priorities
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
    Journal,
}

impl Common {
    /// Gives the level and format of the log.
    pub(super) fn log(&self) -> (LevelFilter, Format) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::Error,
            (false, 0) => LevelFilter::Warn,
            (false, 1) => LevelFilter::Info,
            (false, 2) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        };
        let format = match self.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
            LogFormat::Journal => Format::Journal,
        };
        (level, format)
    }

    /// Gives the configuration that was named: on the command line, else in the environment.
    pub(super) fn named(&self) -> Option<PathBuf> {
        let of_environment =
            || env::var_os("POSTRIDER_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(of_environment)
    }

    /// Gives the system's configuration if it is read until the user's own is made at this place, and no more then.
    pub(super) fn hidden_by(&self, made: &Path) -> Option<PathBuf> {
        Config::find().ok().filter(|found| self.named().is_none() && found != made)
    }

    /// Reads the configuration that was named, or that is found, on a file system that may not answer.
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        let named = self.named();
        let file = named.clone().unwrap_or_else(|| "the usual place".into());
        read(&file, move || Config::load(&named.map_or_else(Config::find, Ok)?))?
    }
}

/// Reads the configuration file on a file system that may not answer.
pub(super) fn read<T: Send + 'static>(
    file: &Path,
    reading: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    blocking::wait(PATIENCE, reading).map_err(unreadable)
}

/// Reads a file of so many octets at most on a file system that may not answer.
pub(super) fn content(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let path = file.to_owned();
    let read = move || {
        let mut octets = Vec::new();
        File::open(&path)?.take(most + 1).read_to_end(&mut octets)?;
        match octets.len() as u64 > most {
            true => Err(io::Error::other(format!("has more than {most} octets"))),
            false => Ok(octets),
        }
    };
    blocking::wait(PATIENCE, read)?
}

/// Says that a file which was made is read in place of the system's.
pub(super) fn hiding(system: &Path) -> String {
    format!("Your commands read that from now on, and no more {}.", system.display())
}

/// How long the configuration may take to be read, and the files that it names to be looked at.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
