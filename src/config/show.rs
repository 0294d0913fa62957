//! The effective configuration, and what may stand in one, as text.

use super::fleet_keys::FLEET_KEYS;
use super::gmail::GMAIL_KEYS;
use super::hosts::HOST_KEYS;
use super::http::HTTP_KEYS;
use super::imap::IMAP_KEYS;
use super::keys::{HOOKS, KEYS};
use super::mail_server::{LMTP_KEYS, SMTP_KEYS};
use super::oauth2_keys::OAUTH2_KEYS;
use super::postgres_keys::POSTGRES_KEYS;
use super::recipients::CATCH_ALL;
use super::rows::{Key, Kind, Mark, block};
use super::server::{Given, Level};
use super::top::{LIMITS, NOTIFY, TOP};
use super::tree::{self, Entry};
use super::values::SOURCES;
use super::yaml::text;
use super::{Account, Config, deliver, pipe};

/// Writes the configuration as YAML with every default filled in and every secret shown as `'[secret]'`; with the
/// secrets put back it can be loaded and means the same.
pub fn show(config: &Config) -> String {
    let mut out = head(config);
    out += "accounts:\n";
    for account in &config.accounts {
        out += &format!("  {}:\n{}", text(&account.name), block(4, KEYS, account));
    }
    out
}

/// Writes the keys of one account in the same way.
pub fn show_account(account: &Account) -> String {
    format!("{}:\n{}", text(&account.name), block(2, KEYS, account))
}

/// Writes what stands before the accounts.
fn head(config: &Config) -> String {
    let mut out = String::new();
    if let Some(file) = &config.file {
        // One line, whatever the path: a line end in it would end the comment.
        let shown = file.to_string_lossy().replace(char::is_control, "?");
        out += &format!("# read from {shown}\n");
    }
    out += &block(0, TOP, config);
    if let Some(fleet) = &config.fleet {
        // For rows; accounts are shown with all that holds for them.
        let shared = KEYS.iter().filter(|key| !key.has(Mark::Own));
        out += &format!("defaults:\n{}", block(2, shared, &fleet.defaults));
    }
    out
}

/// Writes the same with a comment at each key of an account: the line that it stands on, in the account or in `defaults`, or
/// that it is the default. `source` is the text that the configuration was read from.
pub fn show_origins(config: &Config, source: &str) -> String {
    let root = tree::parse(source).ok().flatten();
    let entries = root.as_ref().and_then(|root| root.mapping("").ok()).unwrap_or_default();
    let defaults = find(entries, "defaults").unwrap_or_default();
    let accounts = find(entries, "accounts").unwrap_or_default();
    let mut out = String::new();
    for account in &config.accounts {
        let given = Given { own: find(accounts, &account.name).unwrap_or_default(), defaults };
        let origin = |key: &str| match given.find(key) {
            Some((entry, Level::Own)) => format!("line {}", entry.at.line),
            Some((entry, Level::Defaults)) => format!("defaults, line {}", entry.at.line),
            None => "default".to_owned(),
        };
        out += &format!("  {}:\n", text(&account.name));
        for line in block(4, KEYS, account).lines() {
            let key = line.trim_start().split(':').next().unwrap_or_default();
            match line.starts_with("     ") {
                true => out += &format!("{line}\n"),
                false => out += &format!("{line}  # {}\n", origin(key)),
            }
        }
    }
    format!("{}accounts:\n{out}", head(config))
}

/// Gives the entries of the mapping that a key has.
fn find<'n, 't>(entries: &'n [Entry<'t>], key: &str) -> Option<&'n [Entry<'t>]> {
    entries.iter().find(|entry| entry.key == key)?.value.mapping("").ok()
}

/// A key of which the manual knows.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What it stands under, from the top of the file, with a dot behind each part.
    pub(super) under: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    about: &'static str,
}

/// Lists every key, by its path from the top of the file, with one line of help.
pub fn reference() -> Vec<(String, &'static str)> {
    known().iter().map(|key| (format!("{}{}", key.under, key.name), key.about)).collect()
}

pub(super) fn known() -> Vec<Known> {
    [
        below("", TOP),
        below("daemon.", LIMITS),
        below("state.postgres.", POSTGRES_KEYS),
        below("hosts.NAME.", HOST_KEYS),
        below("fleet.", FLEET_KEYS),
        below("notify.", NOTIFY),
        below("accounts.NAME.", KEYS),
        below("accounts.NAME.password.", SOURCES),
        below("accounts.NAME.oauth2.", OAUTH2_KEYS),
        below("accounts.NAME.hooks.", HOOKS),
        below("accounts.NAME.deliver.", deliver::BESIDE),
        below("accounts.NAME.deliver.", deliver::KEYS),
        below("accounts.NAME.deliver.pipe.", pipe::KEYS),
        below("accounts.NAME.deliver.smtp.", SMTP_KEYS),
        below("accounts.NAME.deliver.lmtp.", LMTP_KEYS),
        below("accounts.NAME.deliver.imap.", IMAP_KEYS),
        below("accounts.NAME.deliver.gmail.", GMAIL_KEYS),
        below("accounts.NAME.deliver.http.", HTTP_KEYS),
        below("accounts.NAME.deliver.SERVER.to.", CATCH_ALL),
    ]
    .concat()
}

fn below<T>(under: &'static str, keys: &[Key<T>]) -> Vec<Known> {
    let known = keys.iter().filter(|key| !key.about.is_empty());
    known.map(|Key { name, kind, about, .. }| Known { under, name, kind: *kind, about }).collect()
}
