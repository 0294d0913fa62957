//! The configuration that an account is put into.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::draft::{Draft, Keys};
use crate::autoconfig::{Address, Asking};
use crate::cli::common::content;
use crate::cli::import::{Written, stored};
use crate::cli::owner::Owner;
use crate::cli::{CliError, Common, common};
use crate::config::{Account, Config, ConfigError, with_account};
use crate::disk::durable::{Successor, above};

/// Octets of a configuration at most; a longer one is refused when it is read.
const LONGEST: u64 = 4 << 20;
/// Stands on top of a new file.
const HEAD: &str = "# The configuration of postrider; `man postrider.yaml` has all keys.\n";

/// A configuration file, which need not be there.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// Whether it is found without being named.
    is_usual: bool,
    /// What was read until now, and is no more once this file is there.
    pub(super) hides: Option<PathBuf>,
    /// What it says; `None` without a file, or without an account in it.
    pub(super) config: Option<Config>,
}

/// What became of a draft.
pub(super) struct Drafted {
    /// The whole text.
    text: String,
    pub(super) account: Account,
    /// What it is part of.
    pub(super) config: Config,
}

impl ConfigFile {
    /// Reads the configuration that was named, or the usual one.
    pub(super) fn read(common: &Common) -> Result<Self, CliError> {
        let named = common.named();
        let is_usual = named.is_none() || common.config.is_none();
        let path = match named {
            Some(path) => path,
            None => common::read(Path::new("the usual place"), Config::find_writable)??,
        };
        let path = std::path::absolute(&path).map_err(|source| CliError::Unwritten { file: path, source })?;
        let hides = common.hidden_by(&path);
        let mut place = Self { path, is_usual, hides, config: None };
        if place.text()?.is_empty() {
            return Ok(place);
        }
        let file = place.path.clone();
        place.config = match common::read(&place.path, move || Config::load(&file))? {
            Ok(config) => Some(config),
            // All that it lacks is an account.
            Err(ConfigError::Wrong(_)) if place.probe().is_some_and(|config| config.accounts.len() == 1) => {
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(place)
    }

    fn text(&self) -> Result<String, CliError> {
        match content(&self.path, LONGEST) {
            Ok(octets) => String::from_utf8(octets).map_err(|_| {
                let what = "is no UTF-8 text".to_owned();
                CliError::Foreign { file: self.path.clone(), what }
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(ConfigError::Unreadable { file: self.path.clone(), source }.into()),
        }
    }

    /// Gives the configuration as it would be with an account that says nothing of its own.
    fn probe(&self) -> Option<Config> {
        let account = "setup-probe:\n  host: localhost\n  user: setup-probe\n  deliver: { maildir: / }\n";
        let text = with_account(&self.text().ok()?, account)?;
        Config::from_yaml(&text, &self.path).ok()
    }

    /// Says by what way questions go: as an account's of this file would.
    pub(super) fn asking(&self) -> Asking {
        let account = self.probe().and_then(|mut config| config.accounts.pop());
        Asking::as_of(&account.unwrap_or_else(|| Account::new("setup")))
    }

    /// Says whether other commands find it without `--config`.
    pub(super) fn is_usual(&self) -> bool {
        self.is_usual
    }

    pub(super) fn accounts(&self) -> &[Account] {
        self.config.as_ref().map_or(&[], |config| &config.accounts)
    }

    /// Gives a name that no account has: of the domain, else the address.
    pub(super) fn free_name(&self, address: &Address) -> String {
        let label = address.domain.split('.').next().unwrap_or("mail").to_owned();
        let is_sound = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
        let whole = address.to_string();
        let whole = Some(whole).filter(|whole| whole.chars().all(is_sound) && !whole.starts_with(['-', '.']));
        let numbered = (2..).map(|number| format!("{label}-{number}"));
        let mut names = [label.clone()].into_iter().chain(whole).chain(numbered);
        let is_free = |name: &String| self.accounts().iter().all(|account| account.name != *name);
        names.find(is_free).unwrap_or(label)
    }

    /// Gives the file that a secret of this name would be in.
    pub(super) fn secret_file(&self, name: &str) -> PathBuf {
        above(&self.path).join("secrets").join(name)
    }

    /// Puts a draft into the text as it is now, and looks that nothing else changes by that.
    pub(super) fn with(&self, draft: &Draft, stored: &Path) -> Result<Drafted, CliError> {
        let before = self.text()?;
        // As it is by now: somebody may have changed it while questions were answered.
        let accounts =
            Config::from_yaml(&before, &self.path).map(|config| config.accounts).unwrap_or_default();
        let old = if before.is_empty() { HEAD } else { &before };
        for keys in [Keys::Needed, Keys::All] {
            let Some(text) = with_account(old, &draft.yaml(stored, keys)) else { break };
            let config = match Config::from_yaml(&text, &self.path) {
                Ok(config) => config,
                Err(_) if keys == Keys::Needed => continue,
                Err(error) => return Err(error.into()),
            };
            let Some((account, others)) = config.accounts.split_last() else { break };
            if account.name != draft.name || others != accounts {
                break;
            }
            let wanted = (draft.server.port, draft.server.mode, draft.first_sync);
            if (account.port, account.tls.mode, account.first_sync) == wanted {
                return Ok(Drafted { account: account.clone(), text, config });
            }
        }
        let what = format!(
            "there is no place in it where an account can be put without a person's care; put this below `accounts:`\n{}",
            draft.yaml(stored, Keys::Needed).trim_end()
        );
        Err(CliError::Foreign { file: self.path.clone(), what })
    }

    /// Writes an account, and what was typed into a file of its own; gives that file. What was written before an error is
    /// removed again.
    pub(super) fn write(&self, draft: &Draft) -> Result<Option<PathBuf>, CliError> {
        let unwritten = |file: &Path| {
            let file = file.to_owned();
            move |source| CliError::Unwritten { file, source }
        };
        let directory = above(&self.path);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unwritten(directory))?;
        let secret = match draft.typed() {
            Some(secret) => {
                Some(stored(&directory.join("secrets"), &draft.name, secret, &mut HashSet::new())?)
            }
            None => None,
        };
        let write = || {
            let file = secret.as_ref().map_or(Path::new(""), |(path, _)| path);
            let drafted = self.with(draft, file)?;
            if let (Some((path, Written::Now)), Some(owner)) = (&secret, Owner::of_config(&drafted.config)) {
                // The service of the machine, and not root, reads it.
                [path, above(path)]
                    .into_iter()
                    .try_for_each(|path| owner.give(path))
                    .map_err(unwritten(path))?;
            }
            let successor = Successor::write(&self.path, drafted.text.as_bytes());
            successor.and_then(Successor::put_in_place).map_err(unwritten(&self.path))
        };
        let written = write();
        if let (Some((path, Written::Now)), Err(_)) = (&secret, &written) {
            // It may be kept by a directory that cannot be written any more.
            let _ = fs::remove_file(path);
        }
        written.map(|()| secret.map(|(path, _)| path))
    }
}
