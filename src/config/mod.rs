//! Configuration: a YAML file or a POP URL becomes [`Account`]s that cannot be wrong.
//!
//! | file | what it is |
//! |---|---|
//! | `account`, `tls`, `password`, `oauth2`, `target`, `target_server`, `envelope`, `fleet`, `postgres` | what it comes to |
//! | `keys`, `top`, `server`, `fleet_keys`, `oauth2_keys`, `postgres_keys`, `hosts` | the keys, one row each |
//! | `deliver`; `pipe`, `mail_server`, `recipients`, `imap`, `gmail`, `http` | the same of targets |
//! | `rows`, `values` | what a row is; how values are read and written |
//! | `units`, `host`, `http_url`, `proxy`, `networks`, `command_line`, `listen`, `percent` | values that are more than a word |
//! | `load`, `file`, `tree`, `yaml`, `insert` | the file: found, read, its text as a tree, written into |
//! | `url`, `url_parts` | accounts and targets on the command line |
//! | `tenant`, `enrol` | accounts that are rows of a table |
//! | `providers` | what is known of providers of tokens |
//! | `show`, `error`, `suggest`, `warnings` | what is shown of it, and what is wrong with it |
//! | `places` | where file and state lie, and what `~` stands for |

pub mod account;
pub(crate) mod command_line;
mod deliver;
mod enrol;
mod envelope;
mod error;
mod file;
mod fleet;
mod fleet_keys;
mod gmail;
mod host;
mod hosts;
mod http;
mod http_url;
mod imap;
mod insert;
mod keys;
mod listen;
mod load;
mod mail_server;
mod networks;
pub mod oauth2;
mod oauth2_keys;
mod password;
mod percent;
mod pipe;
mod places;
mod postgres;
mod postgres_keys;
pub mod providers;
mod proxy;
pub(crate) mod recipients;
mod rows;
mod server;
mod show;
pub(crate) mod suggest;
pub mod target;
mod target_server;
mod tenant;
mod tls;
mod top;
mod tree;
pub(crate) mod units;
mod url;
mod url_parts;
mod values;
mod warnings;
pub(crate) mod yaml;

use std::path::PathBuf;
use std::time::Duration;

pub use account::Account;
pub use enrol::NewRow;
pub use error::{ConfigError, Mistake};
pub use fleet::Fleet;
pub use host::HostAndPort;
pub(crate) use host::host_name;
pub use hosts::Hosts;
pub use http_url::HttpUrl;
pub(crate) use insert::with_account;
pub use listen::Listen;
pub(crate) use load::default_state;
pub(crate) use load::targets_as_yaml;
pub use networks::Reach;
pub use postgres::Postgres;
pub use proxy::{Proxy, ProxyKind};
pub(crate) use show::reference;
pub use show::{show, show_account, show_origins};
pub use target::{Gmail, MailServer, Mailbox, Receiver, Recipients, Target};
pub use tenant::{Row, RowError};
pub(crate) use url::{Whose, on_command_line};
pub use url_parts::UrlError;
pub(crate) use warnings::{Outside, Warnings, warnings};

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The file it was read from; `None` for `sync URL`.
    pub file: Option<PathBuf>,
    /// Accounts in the order of the file.
    pub accounts: Vec<Account>,
    /// The state file; what lies beside it lies there with a database, too.
    pub state: PathBuf,
    /// The database that holds the state in place of that file.
    pub database: Option<Postgres>,
    pub daemon: SessionLimits,
    /// Limits of single hosts.
    pub hosts: Hosts,
    /// What holds for accounts that are rows of a table, if there are such.
    pub fleet: Option<Fleet>,
    /// How failures that last are told, if the file says so.
    pub notify: Option<Notify>,
    /// Where a daemon shows how the accounts stand.
    pub status_listen: Vec<Listen>,
    /// Where a daemon writes its metrics.
    pub metrics_file: Option<PathBuf>,
    /// Whether the process confines itself to the files that it needs.
    pub sandbox: Confinement,
}

impl Config {
    /// Says whether anything of the state is a file: where it is a database, tokens that it has no keys to seal with.
    pub fn has_files(&self) -> bool {
        let Some(database) = &self.database else { return true };
        let samples = self.fleet.as_ref().map(Fleet::samples).unwrap_or_default();
        let has_tokens = |account: &Account| {
            let mut log_ins = account.targets().filter_map(Target::login);
            account.oauth2.is_some() || log_ins.any(|(_, login)| login.credential.oauth2().is_some())
        };
        database.secrets_keys.is_empty() && self.accounts.iter().chain(&samples).any(has_tokens)
    }
}

/// How a failure that lasts is told: as a message in the account's own target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// After so many failed polls in a row.
    pub after: usize,
    /// And again when it has lasted so much longer.
    pub remind: Duration,
    /// Whether there is such a message at all.
    pub deliver: bool,
}

impl Default for Notify {
    fn default() -> Self {
        Self { after: 3, remind: Duration::from_secs(24 * 3600), deliver: true }
    }
}

/// Whether the process confines itself to the files that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confinement {
    /// Where the system can, and no command is configured.
    #[default]
    Auto,
    Off,
}

/// Limits that hold for all accounts together; `sync` obeys them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    pub max_sessions: usize,
    pub max_sessions_per_host: usize,
    /// Time over which a daemon's first polls are spread.
    pub startup_spread: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_sessions: 64, max_sessions_per_host: 4, startup_spread: Duration::from_secs(30) }
    }
}
