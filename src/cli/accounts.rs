//! Which accounts a command is about.

use std::collections::HashMap;
use std::mem;
use std::slice;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::account::Table;
use super::{CliError, Common, progress};
use crate::config::account::TlsMode;
use crate::config::suggest::nearest;
use crate::config::{Account, Config, default_state};
use crate::session::{Ask, Environment, Retry};
use crate::state::Store;
use crate::text::Shown;

/// What is said of a maildrop beside its URL.
#[derive(Debug, Default, Args)]
pub struct OfUrl {
    /// With a URL: how the connection is protected [default: as the URL says]
    #[arg(long, value_enum, value_name = "MODE")]
    tls: Option<Mode>,
    /// With a URL: a shell command that prints the password [default: ask on the terminal]
    #[arg(long, value_name = "COMMAND")]
    password_command: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Implicit,
    Starttls,
    None,
}

impl From<Mode> for TlsMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Implicit => Self::Implicit,
            Mode::Starttls => Self::StartTls,
            Mode::None => Self::None,
        }
    }
}

impl OfUrl {
    pub fn is_given(&self) -> bool {
        self.tls.is_some() || self.password_command.is_some()
    }

    /// Makes an account of a URL, and the configuration that it goes with.
    pub fn account(&self, url: &str, deliver: &[impl AsRef<str>]) -> Result<(Config, Account), CliError> {
        let command = self.password_command.as_deref();
        let account = Account::from_url(url, deliver, self.tls.map(TlsMode::from), command)?;
        Ok((Config { state: default_state()?, ..Config::default() }, account))
    }
}

/// Takes the named accounts out of a configuration, each once, in the order of the command line; without names all
/// enabled ones.
pub fn chosen(config: &mut Config, names: &[String]) -> Result<Vec<Arc<Account>>, CliError> {
    if names.is_empty() {
        let all = mem::take(&mut config.accounts);
        let enabled: Vec<_> = all.into_iter().filter(|account| account.enabled).map(Arc::new).collect();
        if enabled.is_empty() && config.database.is_some() {
            let what = "no account of the configuration is enabled; accounts of the table have to be named: TENANT/NAME";
            return Err(CliError::Usage(what.to_owned()));
        }
        if enabled.is_empty() {
            log::warn!("no account is enabled");
        }
        return Ok(enabled);
    }
    let mut chosen: Vec<Arc<Account>> = Vec::new();
    for name in names {
        if !chosen.iter().any(|account| account.name == *name) {
            chosen.push(Arc::new(named(config, name)?.clone()));
        }
    }
    Ok(chosen)
}

/// Says when log-ins that servers refused may be tried again: a person who names accounts wants it now.
pub fn retry(names: &[String]) -> Retry {
    let names_on_a_terminal = !names.is_empty() && progress::ask() == Ask::Terminal;
    if names_on_a_terminal { Retry::Now } else { Retry::InTime }
}

/// Reads the configuration, and finds an account in it; or makes one of a URL, whose state is where `sync URL` has it.
pub async fn load(common: &Common, name: &str) -> Result<(Config, Account), CliError> {
    if is_url(name) {
        // What it delivers to is not asked for: no message is fetched.
        return OfUrl::default().account(name, &["maildir:/"]);
    }
    let mut config = common.load()?;
    add_rows(&mut config, slice::from_ref(&name.to_owned())).await?;
    let account = named(&config, name)?.clone();
    Ok((config, account))
}

/// Says whether this names an account of a table: `TENANT/NAME`.
pub fn is_row(name: &str) -> bool {
    name.contains('/') && !is_url(name)
}

/// Adds those of these accounts to a configuration that are rows of its table.
pub async fn add_rows(config: &mut Config, names: &[String]) -> Result<(), CliError> {
    let rows: Vec<&String> = names.iter().filter(|name| is_row(name)).collect();
    if rows.is_empty() || config.database.is_none() {
        return Ok(());
    }
    let table = Table::of(config).await?;
    for name in rows {
        config.accounts.push(table.account(name).await?);
    }
    Ok(())
}

/// Does the same for whoever only looks: of what cannot be used there is what is known of it. Gives why that is so, by name.
pub async fn add_rows_to_look_at(
    config: &mut Config,
    names: &[String],
) -> Result<HashMap<String, String>, CliError> {
    let mut unusable = HashMap::new();
    let rows: Vec<&String> = names.iter().filter(|name| is_row(name)).collect();
    if rows.is_empty() || config.database.is_none() {
        return Ok(unusable);
    }
    let table = Table::of(config).await?;
    for name in rows {
        let row = table.named(name).await?;
        config.accounts.push(table.fleet.open(&row, &table.ring).unwrap_or_else(|error| {
            unusable.insert(name.clone(), error.to_string());
            table.fleet.outline(&row)
        }));
    }
    Ok(unusable)
}

/// Opens the state of a configuration for looking at it alone.
pub async fn look(config: &Config) -> Result<Store, CliError> {
    match config.database {
        None => Ok(Store::open_read_only(&config.state)),
        Some(_) => Ok(Environment::of_config(config).await?.store),
    }
}

/// Says whether a URL stands where an account's name may stand. No name looks like this, so that a mistyped scheme is
/// told as such.
pub fn is_url(name: &str) -> bool {
    name.contains("://")
}

pub fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Account, CliError> {
    config.accounts.iter().find(|account| account.name == name).ok_or_else(|| CliError::UnknownAccount {
        name: name.into(),
        file: match &config.file {
            Some(file) => file.display().to_string(),
            None => "the configuration".into(),
        },
        nearest: nearest(
            name,
            &config.accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>(),
        )
        .map(str::to_owned),
        hint: address_hint(name, &config.accounts),
    })
}

/// Says what somebody can do who gave a mail address where an account's name is wanted.
pub fn address_hint(name: &str, accounts: &[Account]) -> Option<String> {
    let (user, domain) = name.split_once('@')?;
    let is_whose = |account: &&Account| {
        account.user == name || account.user == user && account.host.ends_with(domain) && !domain.is_empty()
    };
    Some(match accounts.iter().find(is_whose) {
        Some(account) => {
            format!("the account of that address is called {0}: `postrider sync {0}`", account.name)
        }
        None => format!(
            "a mail address is no account: `postrider setup {}` makes one of it; or name the POP3 server in a URL, such \
             as `postrider sync pops://{}@HOST --deliver maildir:~/Mail` with HOST in place of its name",
            Shown(name.as_bytes()),
            Shown(user.as_bytes())
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::poll::tests::account;

    fn config() -> Config {
        let mut accounts: Vec<Account> =
            ["home", "work", "old"].map(|name| (*account(name, "pop.example.org")).clone()).into();
        accounts[2].enabled = false;
        Config { file: Some("/etc/postrider/config.yaml".into()), accounts, ..Config::default() }
    }

    fn names(wanted: &[&str]) -> Result<Vec<String>, String> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).into()).collect();
        let accounts = chosen(&mut config(), &wanted).map_err(|error| error.to_string())?;
        Ok(accounts.iter().map(|account| account.name.clone()).collect())
    }

    #[test]
    fn without_names_all_enabled_accounts_are_meant_and_a_name_means_also_one_that_is_not() {
        assert_eq!(names(&[]).unwrap(), ["home", "work"]);
        assert_eq!(names(&["work", "old", "work"]).unwrap(), ["work", "old"]);
    }

    #[test]
    fn whoever_gives_an_address_hears_what_to_give_instead() {
        let all: Vec<Account> =
            ["home", "work@example.net"].map(|name| (*account(name, "pop.example.org")).clone()).into();
        let hint = |name| address_hint(name, &all);
        assert_eq!(hint("alice"), None);
        assert!(hint("home@example.org").unwrap().ends_with("called home: `postrider sync home`"));
        assert!(hint("work@example.net").unwrap().contains("called work@example.net"));
        let other = hint("alice@example.com").unwrap();
        assert!(other.contains("`postrider sync pops://alice@HOST --deliver maildir:~/Mail`"), "{other}");
    }

    #[test]
    fn an_unknown_name_is_told_with_the_nearest() {
        let told = names(&["work", "hmoe"]).unwrap_err();
        assert_eq!(told, r#"no account "hmoe" in /etc/postrider/config.yaml; did you mean "home"?"#);
        let told = names(&["\x1b[2J"]).unwrap_err();
        assert_eq!(told, r#"no account "\u{1b}[2J" in /etc/postrider/config.yaml"#);
    }
}
