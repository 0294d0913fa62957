//! What a process does, as far as that decides which files it needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::account::{Password, Tls};
use crate::config::oauth2::{Credential, OAuth2};
use crate::config::target::Address;
use crate::config::{Account, Config, Fleet, Listen, MailServer, Postgres};
use crate::disk::{above, blocking, spool_directory};

/// How long the paths of a configuration may take to answer at the start.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Purpose<'a> {
    pub accounts: Vec<&'a Account>,
    /// What accounts of a table may need.
    pub fleet: Vec<Account>,
    /// The state file; `None`: a database has all of it.
    pub state: Option<&'a Path>,
    /// The database in the place of that.
    pub database: Option<&'a Postgres>,
    /// The configuration file, if it may be read again.
    pub file: Option<&'a Path>,
    /// A file of metrics that is replaced again and again.
    pub metrics: Option<&'a Path>,
    /// Sockets at which the status is served.
    pub served: Vec<&'a Path>,
    pub reading: ConfigReads,
}

/// How often a configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigReads {
    Once,
    /// At SIGHUP, mostly with new accounts in it.
    Again,
}

fn files<'a>(tls: &'a Tls, secrets: impl IntoIterator<Item = &'a Password>) -> Vec<PathBuf> {
    let client = tls.client.iter().flat_map(|client| [&client.chain, &client.key]);
    let secrets = secrets.into_iter().filter_map(|secret| match secret {
        Password::File(path) | Password::Netrc(path) => Some(path),
        Password::Command(_) | Password::Credential(_) | Password::Literal(_) | Password::Env(_) => None,
    });
    tls.ca.iter().chain(client).chain(secrets).cloned().collect()
}

/// Gives the files that tokens come by.
fn token_files(oauth2: &OAuth2) -> impl Iterator<Item = PathBuf> {
    oauth2.files().into_iter().map(|(path, _)| path.clone())
}

fn path_of(listen: &Listen) -> Option<&Path> {
    match listen {
        Listen::Unix(path) => Some(path),
        Listen::Tcp(_) => None,
    }
}

impl<'a> Purpose<'a> {
    /// Polls all enabled accounts of a configuration.
    pub fn of(config: &'a Config) -> Self {
        Self {
            accounts: config.accounts.iter().filter(|account| account.enabled).collect(),
            fleet: config.fleet.as_ref().map(Fleet::samples).unwrap_or_default(),
            state: config.has_files().then_some(config.state.as_path()),
            database: config.database.as_ref(),
            file: config.file.as_deref(),
            metrics: config.metrics_file.as_deref(),
            served: config.status_listen.iter().filter_map(path_of).collect(),
            reading: ConfigReads::Once,
        }
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter().copied().chain(&self.fleet)
    }

    /// Gives a path of the configuration that does not answer, if there is one: whoever looked there would hang.
    pub(super) fn silent(&self) -> Option<PathBuf> {
        let mut paths = Vec::new();
        paths.extend([self.state, self.file, self.metrics].into_iter().flatten().map(Path::to_owned));
        paths.extend(self.served.iter().map(|path| above(path).to_owned()));
        paths.push(spool_directory());
        if let Some(database) = self.database {
            paths.extend(files(&database.tls, database.password.iter().chain(&database.secrets_keys)));
        }
        for account in self.accounts() {
            let secrets = account.oauth2.iter().flat_map(OAuth2::secrets).map(|(secret, _)| secret);
            paths.extend(files(&account.tls, secrets.chain(&account.password)));
            paths.extend(account.oauth2.iter().flat_map(token_files));
            for target in account.targets() {
                let login = target.login().map(|(_, login)| &login.credential);
                let of_target = login.and_then(Credential::oauth2);
                paths.extend(of_target.into_iter().flat_map(token_files));
                if let Some(route) = target.route() {
                    let of_login = login.into_iter().flat_map(Credential::secrets).map(|(secret, _)| secret);
                    let others = target.secrets().into_iter().map(|(secret, _)| secret);
                    paths.extend(files(&route.tls, of_login.chain(others)));
                }
                paths.extend(target.path().map(Path::to_owned));
                if let Some(MailServer { address: Address::Socket(socket), .. }) = target.mail_server() {
                    paths.push(socket.clone());
                }
            }
        }
        // Many accounts name the same.
        paths.sort_unstable();
        paths.dedup();
        blocking::first_silent(paths, PATIENCE)
    }
}
