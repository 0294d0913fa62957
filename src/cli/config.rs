//! `postrider config`: validates or shows the configuration.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use clap::Subcommand;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, User, access};
use zeroize::Zeroizing;

use super::exit::Exit;
use super::help::{self, below};
use super::owner::Owner;
use super::stdout::Results;
use super::{CliError, Common, common};
use crate::config::{self, Config, Mistake, Outside, Warnings};
use crate::disk::blocking;
use crate::seal::is_key;
use crate::text::counted;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Reads the configuration and says where it is wrong
    #[command(after_help = below("postrider --config new.yaml config check", help::CONFIG))]
    Check,
    /// Prints the effective configuration: defaults filled in, secrets masked
    #[command(after_help = below("postrider config show --origin", help::CONFIG))]
    Show {
        /// Say of each key of an account where it comes from: its line, `defaults`, or nowhere
        #[arg(long)]
        origin: bool,
    },
    /// Prints the names of the accounts, one a line
    #[command(after_help = below("postrider config accounts", help::CONFIG))]
    Accounts,
    /// Prints every key of the configuration with a line of help
    #[command(after_help = below("postrider config keys", help::CONFIG))]
    Keys,
}

impl ConfigCommand {
    pub fn run(&self, common: &Common, results: &mut Results) -> Result<Exit, CliError> {
        match self {
            Self::Check => check(&common.load()?, results)?,
            Self::Show { origin: false } => results.write(config::show(&common.load()?).as_bytes()),
            Self::Show { origin: true } => results.write(with_origins(&common.load()?)?.as_bytes()),
            Self::Accounts => {
                common.load()?.accounts.iter().for_each(|account| results.line(&account.name));
            }
            Self::Keys => {
                let keys = config::reference();
                let width = keys.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
                keys.iter().for_each(|(key, about)| results.line(format_args!("{key:width$}  {about}")));
            }
        }
        Ok(Exit::SUCCESS)
    }
}

fn with_origins(config: &Config) -> Result<String, CliError> {
    let Some(file) = config.file.clone() else { return Ok(config::show(config)) };
    let again = file.clone();
    let source = common::read(&file, move || fs::read_to_string(again))?;
    let source = source.map_err(|source| config::ConfigError::Unreadable { file, source })?;
    Ok(config::show_origins(config, &source))
}

fn check(config: &Config, results: &mut Results) -> Result<(), CliError> {
    let Some(file) = &config.file else { return Ok(()) };
    let again = file.clone();
    let Warnings { mut told, outside } = common::read(file, move || config::warnings(&again))?;
    // Asked before, since whoever looks at one that does not answer hangs.
    let paths = outside.iter().filter_map(|(outside, _)| path_of(outside)).map(Path::to_owned).collect();
    if let Some(silent) = blocking::first_silent(paths, common::PATIENCE)
        && let Some((_, Mistake { line, column, path, .. })) =
            outside.iter().find(|(outside, _)| path_of(outside) == Some(&silent))
    {
        let at = format!("{}:{line}:{column}: {path}", file.display());
        return Err(CliError::Silent { at, file: silent, source: blocking::silence(common::PATIENCE) });
    }
    // Whoever polls may read less than root.
    let owner = Owner::of_config(config);
    if let Some(owner) = &owner {
        owner.become_it().map_err(|_| CliError::Owner(config.state.clone()))?;
        if let Err(source) = common::read(file, {
            let file = file.clone();
            move || File::open(file)
        })? {
            let what = format!("{} runs the service and cannot read it: {source}", owner.name());
            return Err(CliError::Foreign { file: file.clone(), what });
        }
    }
    let who = owner.as_ref().map_or_else(|| "you".to_owned(), Owner::name);
    let found = move || {
        let one = |(outside, told): (Outside, Mistake)| match &outside {
            outside if is_missing(outside) => Some(told),
            Outside::File(path) if is_kept_from_us(path) => {
                Some(Mistake { what: format!("{} may not be read by {who}", path.display()), ..told })
            }
            _ => None,
        };
        outside.into_iter().filter_map(one).collect::<Vec<_>>()
    };
    told.extend(common::read(file, found)?);
    told.sort_by_key(|warning| (warning.line, warning.column));
    for Mistake { line, column, path, what } in told {
        log::warn!("{}:{line}:{column}: {path}: {what}", file.display());
    }
    let accounts = counted(config.accounts.len(), "account");
    let by = owner.map_or_else(String::new, |owner| format!(", as {} reads it", owner.name()));
    let tenants = match (&config.database, &config.fleet) {
        (Some(_), Some(fleet)) => {
            format!("; those of tenants are in the table {}, which was not asked", fleet.accounts)
        }
        _ => String::new(),
    };
    results.done(format_args!("{}: {accounts}, no mistakes{by}{tenants}", file.display()));
    Ok(())
}

/// Says whether something is there for others than us: it can neither be read nor run, or not even be looked at.
fn is_kept_from_us(path: &Path) -> bool {
    let is_denied = |what| access(path, what) == Err(Errno::EACCES);
    match fs::metadata(path) {
        // A socket is written to.
        Ok(found) => found.is_file() && is_denied(AccessFlags::R_OK) && is_denied(AccessFlags::X_OK),
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

fn path_of(outside: &Outside) -> Option<&Path> {
    match outside {
        Outside::File(path) | Outside::NoDirectory(path) | Outside::Pem(path, _) | Outside::Key(path) => {
            Some(path)
        }
        Outside::User(_) => None,
    }
}

/// Says whether something is certainly not there: what may not be looked at may be.
fn is_missing(outside: &Outside) -> bool {
    match outside {
        Outside::File(path) => fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound),
        Outside::NoDirectory(path) => fs::metadata(path).is_ok_and(|found| found.is_dir()),
        Outside::Pem(path, begins) => {
            let is_file = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
            let end = format!("{begins}-----");
            let is_begin = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end);
            is_file
                && fs::read(path).is_ok_and(|octets| !String::from_utf8_lossy(&octets).lines().any(is_begin))
        }
        Outside::Key(path) => {
            let is_file = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
            is_file && fs::read(path).map(Zeroizing::new).is_ok_and(|octets| !is_key(&octets))
        }
        Outside::User(name) => matches!(User::from_name(name), Ok(None)),
    }
}

/// No PEM file is larger, in octets; all of the system's roots have a tenth of it.
const LARGEST: u64 = 4 << 20;
