//! The configuration file as a whole: `defaults`, `accounts`, and what stands beside them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::account::Password;
use super::error::{ConfigError, Found};
use super::keys::{KEYS, complete};
use super::oauth2::OAuth2;
use super::places::Places;
use super::rows::{self, Key, unknown, within};
use super::server::Given;
use super::target::{Login, Target};
use super::top::{LIMITS, TOP};
use super::tree::{self, Complaint, Content, Entry, Node, Position};
use super::{Account, Config};

/// Octets of `defaults`, times accounts, at most: every account gets its own copy.
const MOST_COPIED: usize = 64 * 1024 * 1024;

/// Characters of an account's name at most.
const LONGEST_NAME: usize = 64;

/// What a configuration text means, and whether a password stands in it.
pub(super) struct Read {
    pub(super) config: Config,
    pub(super) secrets: Secrets,
}

/// Whether a password stands in the file itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Inside,
    Elsewhere,
}

/// Reads a configuration text; `file` is where it came from.
pub(super) fn read(text: &str, file: &Path, places: &Places) -> Result<Read, ConfigError> {
    let mut found = Found::default();
    let mut whole = Whole { places, found: &mut found, secrets: Secrets::Elsewhere };
    let start = Position { line: 1, column: 1 };
    let mut config = Config { file: Some(file.to_owned()), ..Config::default() };
    match tree::parse(text) {
        Ok(Some(root)) => whole.top(&root, &mut config),
        Ok(None) => whole.wrong("", Complaint::new(start, "the file is empty: it needs `accounts`")),
        Err(complaint) => whole.wrong("", complaint),
    }
    let secrets = whole.secrets;
    if let Some(wrong) = found.told(file.to_owned()) {
        return Err(wrong);
    }
    if config.state.as_os_str().is_empty() {
        config.state = match places.default_state() {
            Err(ConfigError::NoHome) if !config.has_files() => PathBuf::new(),
            state => state?,
        };
    }
    Ok(Read { config, secrets })
}

struct Whole<'r> {
    places: &'r Places,
    found: &'r mut Found,
    secrets: Secrets,
}

impl Whole<'_> {
    fn top(&mut self, root: &Node<'_>, config: &mut Config) {
        let what = "a mapping with `accounts`";
        self.gather("", root, what, TOP, config);
        let Ok(entries) = root.mapping(what) else { return };
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key);
        if let Some(daemon) = entry("daemon") {
            self.gather("daemon", &daemon.value, "a mapping of limits", LIMITS, config);
        }
        let mut defaults = Defaults { account: Account::new(""), entries: &[], are_sound: true };
        if let Some(given) = entry("defaults") {
            defaults.are_sound = self.account("defaults", given, &mut defaults.account);
            defaults.entries = given.value.mapping("").unwrap_or_default();
            let users =
                entry("accounts").map_or(0, |accounts| accounts.value.mapping("").map_or(0, <[_]>::len));
            if given.value.octets().saturating_mul(users) > MOST_COPIED {
                self.wrong("defaults", Complaint::new(given.at, "too much text for so many accounts"));
                return;
            }
        }
        if let Some(database) = &config.database {
            let mut secrets = database.password.iter().chain(&database.secrets_keys);
            if secrets.any(|from| matches!(from, Password::Literal(_))) {
                self.secrets = Secrets::Inside;
            }
        }
        if entry("fleet").is_some() {
            let fleet = config.fleet.get_or_insert_default();
            fleet.take_defaults(&defaults.account);
            fleet.samples().iter().for_each(|account| self.note_secrets(account));
        }
        match entry("accounts") {
            Some(entry) => config.accounts = self.accounts(entry, &defaults),
            // A table has them.
            None if config.fleet.is_some() => {}
            None => {
                self.wrong("", Complaint::new(root.at, "`accounts` is missing: there is nothing to poll"));
            }
        }
    }

    fn accounts(&mut self, entry: &Entry<'_>, defaults: &Defaults<'_, '_>) -> Vec<Account> {
        let nobody = "names no account: there is nothing to poll";
        let accounts = match &entry.value.content {
            Content::Mapping(accounts) if !accounts.is_empty() => accounts,
            Content::Mapping(_) | Content::Plain(_) | Content::Quoted(_) | Content::List(_) => {
                let empty = matches!(entry.value.content, Content::Mapping(_)) || entry.value.is_nothing();
                let what = if empty { nobody } else { "must be a mapping from account names to their keys" };
                self.wrong("", within(entry, entry.value.wrong(what)));
                return Vec::new();
            }
        };
        let mut read = Vec::new();
        let mut maildrops: HashMap<String, (String, u16)> = HashMap::new();
        for entry in accounts {
            if let Err(what) = name(&entry.key) {
                self.wrong("accounts", Complaint::new(entry.at, what));
                continue;
            }
            let path = format!("accounts.{}", entry.key);
            if let Some(before) = entry.before {
                let what = format!("given before, on line {}", before.line);
                self.wrong(&path, Complaint::new(entry.at, what));
                continue;
            }
            let mut account = Account { name: entry.key.to_string(), ..defaults.account.clone() };
            if !self.account(&path, entry, &mut account) || !defaults.are_sound {
                continue;
            }
            let own = entry.value.mapping("").unwrap_or_default();
            let given = Given { own, defaults: defaults.entries };
            let account = match complete(account, given, entry.at) {
                Ok(account) => account,
                Err(complaints) => {
                    complaints.into_iter().for_each(|complaint| self.wrong(&path, complaint));
                    continue;
                }
            };
            if account.enabled {
                if let Some((other, port)) = maildrops.get(&account.maildrop_id) {
                    // What one has seen the other would never fetch.
                    let remedy = if *port == account.port {
                        "disable one, or set another `maildrop_id` to fetch every message twice"
                    } else {
                        "if their two ports are two maildrops, give each a `maildrop_id` of its own, else disable one"
                    };
                    let what = format!(
                        "has the same `maildrop_id` (USER@HOST unless set) as account {other}, and both are enabled: \
                         {remedy}"
                    );
                    let at = given.find("maildrop_id").map_or(entry.at, |(entry, _)| entry.value.at);
                    self.wrong(&path, Complaint::new(at, what));
                } else {
                    maildrops.insert(account.maildrop_id.clone(), (account.name.clone(), account.port));
                }
            }
            read.push(account);
        }
        read
    }

    /// Reads the keys of one account, or of `defaults`; tells whether all of them are sound.
    fn account(&mut self, path: &str, entry: &Entry<'_>, account: &mut Account) -> bool {
        let are_sound = self.gather(path, &entry.value, "a mapping of account keys", KEYS, account);
        self.note_secrets(account);
        are_sound
    }

    fn note_secrets(&mut self, account: &Account) {
        let of_targets = account.targets().filter_map(Target::login);
        let of_targets = of_targets.flat_map(|(_, Login { credential, .. })| credential.secrets());
        let of_tokens = account.oauth2.iter().flat_map(OAuth2::secrets);
        let others = account.targets().flat_map(Target::secrets).map(|(secret, _)| secret);
        let secrets = of_targets.chain(of_tokens).map(|(secret, _)| secret).chain(others);
        let has_secret = secrets.chain(&account.password).any(|from| matches!(from, Password::Literal(_)));
        let routes = account.targets().filter_map(Target::route);
        let mut proxies = account.proxy.iter().chain(routes.filter_map(|route| route.proxy.as_ref()));
        if has_secret || proxies.any(|proxy| proxy.login.is_some()) {
            self.secrets = Secrets::Inside;
        }
    }

    /// Reads a mapping, which may be left empty, with all of its mistakes; tells whether there are none.
    fn gather<T>(&mut self, path: &str, node: &Node<'_>, what: &str, keys: &[Key<T>], into: &mut T) -> bool {
        let entries = match node.mapping(what) {
            Ok(entries) => entries,
            Err(_) if node.is_nothing() => return true,
            Err(complaint) => {
                self.wrong(path, complaint);
                return false;
            }
        };
        let mut are_sound = true;
        for entry in entries {
            if let Err(complaint) = rows::read(entry, self.places, keys, into) {
                are_sound = false;
                match complaint {
                    Some(complaint) => self.wrong(path, complaint),
                    None => self.unknown(path, entry, keys),
                }
            }
        }
        are_sound
    }

    fn unknown<T>(&mut self, path: &str, entry: &Entry<'_>, keys: &[Key<T>]) {
        if path.is_empty() && KEYS.iter().any(|key| key.name == entry.key) {
            let what =
                "belongs to an account: put it under `accounts`, its name and a colon, or under `defaults`";
            self.wrong(&entry.key, Complaint::new(entry.at, what));
        } else {
            let keys = if self.found.is_full() { &[] } else { keys };
            self.wrong(path, unknown(entry, keys));
        }
    }

    fn wrong(&mut self, path: &str, complaint: Complaint) {
        self.found.add(path, complaint);
    }
}

/// What `defaults` says.
struct Defaults<'n, 't> {
    account: Account,
    entries: &'n [Entry<'t>],
    are_sound: bool,
}

/// Checks an account's name: it is typed in shells, stands in logs, in the environment of commands and in key paths,
/// and must not be taken for a URL or an option.
pub(super) fn name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("an account's name is empty");
    }
    if name.chars().count() > LONGEST_NAME {
        return Err("an account's name has more than 64 characters");
    }
    let sound = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
    if !name.chars().all(sound) || name.starts_with(['-', '.']) {
        return Err("an account's name must be letters, digits, and - _ . @ + but not first a - or a dot");
    }
    Ok(())
}
