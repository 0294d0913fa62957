//! The configuration file as a whole: `defaults`, `accounts`, and what stands beside them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Found};
use super::fields::{Fields, KEYS, Level};
use super::places::Places;
use super::tree::{self, Complaint, Content, Entry, Node, Position};
use super::values::{self, CONFINEMENTS};
use super::{Account, Config, Confinement, Daemon, Notify};

/// Keys at the top of the file.
const TOP: [&str; 7] = ["defaults", "accounts", "state", "daemon", "notify", "metrics_file", "sandbox"];

/// Keys of `daemon`.
const DAEMON: [&str; 3] = ["max_sessions", "max_sessions_per_host", "startup_spread"];

/// Sessions that may be allowed at once: every one needs a descriptor and some memory.
const MOST_SESSIONS: usize = 100_000;

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
    let top = match tree::parse(text) {
        Ok(Some(root)) => whole.top(&root),
        Ok(None) => {
            whole.wrong("", Complaint::new(start, "the file is empty: it needs `accounts`"));
            None
        }
        Err(complaint) => {
            whole.wrong("", complaint);
            None
        }
    };
    let secrets = whole.secrets;
    if let Some(wrong) = found.told(file.to_owned()) {
        return Err(wrong);
    }
    // Nothing is missing where no mistake was found.
    let Top { accounts, state, daemon, notify, metrics_file, sandbox } = top.unwrap_or_default();
    let state = match state {
        Some(state) => state,
        None => places.default_state()?,
    };
    let file = Some(file.to_owned());
    let config = Config { file, accounts, state, daemon, notify, metrics_file, sandbox };
    Ok(Read { config, secrets })
}

/// What stands at the top of the file.
#[derive(Default)]
struct Top {
    accounts: Vec<Account>,
    state: Option<PathBuf>,
    daemon: Daemon,
    notify: Option<Notify>,
    metrics_file: Option<PathBuf>,
    sandbox: Confinement,
}

/// Reads the file and gathers its mistakes.
struct Whole<'r> {
    places: &'r Places,
    found: &'r mut Found,
    secrets: Secrets,
}

impl Whole<'_> {
    fn top(&mut self, root: &Node<'_>) -> Option<Top> {
        let entries = match root.mapping("a mapping with `accounts`") {
            Ok(entries) => entries,
            Err(complaint) => {
                self.wrong("", complaint);
                return None;
            }
        };
        let mut top = Top::default();
        let (mut defaults, mut accounts) = (None, None);
        for entry in entries {
            if self.again("", entry, &TOP) {
                continue;
            }
            match &*entry.key {
                "defaults" => defaults = Some(entry),
                "accounts" => accounts = Some(entry),
                "state" => match values::path(&entry.value, self.places) {
                    Ok(path) => top.state = Some(path),
                    Err(complaint) => self.at_key("", entry, complaint),
                },
                "daemon" => top.daemon = self.daemon(entry),
                "notify" if entry.value.is_nothing() => top.notify = Some(Notify::default()),
                "notify" => match super::hooks::notify(&entry.value) {
                    Ok(notify) => top.notify = Some(notify),
                    Err(complaint) => self.at_key("", entry, complaint),
                },
                "metrics_file" => match values::path(&entry.value, self.places) {
                    Ok(path) => top.metrics_file = Some(path),
                    Err(complaint) => self.at_key("", entry, complaint),
                },
                "sandbox" => match values::choice(&entry.value, &CONFINEMENTS) {
                    Ok(confinement) => top.sandbox = confinement,
                    Err(complaint) => self.at_key("", entry, complaint),
                },
                misplaced if KEYS.contains(&misplaced) => {
                    let what = "belongs to an account: put it under `accounts`, its name and a colon, or under `defaults`";
                    self.wrong(misplaced, Complaint::new(entry.at, what));
                }
                _ => self.unknown("", entry, &TOP),
            }
        }
        let mut shared = Fields::default();
        if let Some(entry) = defaults.filter(|entry| !entry.value.is_nothing()) {
            self.fields(&mut shared, "defaults", entry, Level::Defaults);
            let users = accounts.map_or(0, |accounts| accounts.value.mapping("").map_or(0, <[_]>::len));
            if entry.value.octets().saturating_mul(users) > MOST_COPIED {
                self.wrong("defaults", Complaint::new(entry.at, "too much text for so many accounts"));
                return None;
            }
        }
        match accounts {
            Some(entry) => top.accounts = self.accounts(entry, &shared),
            None => {
                self.wrong("", Complaint::new(root.at, "`accounts` is missing: there is nothing to poll"))
            }
        }
        Some(top)
    }

    fn accounts(&mut self, entry: &Entry<'_>, shared: &Fields) -> Vec<Account> {
        let nobody = "names no account: there is nothing to poll";
        let accounts = match &entry.value.content {
            Content::Mapping(accounts) if !accounts.is_empty() => accounts,
            Content::Mapping(_) | Content::Plain(_) | Content::Quoted(_) | Content::List(_) => {
                let empty = matches!(entry.value.content, Content::Mapping(_)) || entry.value.is_nothing();
                let what = if empty { nobody } else { "must be a mapping from account names to their keys" };
                self.at_key("", entry, entry.value.wrong(what));
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
            if self.again("accounts", entry, &[&*entry.key]) {
                continue;
            }
            let mut fields = shared.clone();
            if !self.fields(&mut fields, &path, entry, Level::Account) || shared.broken {
                continue;
            }
            let identity = fields.maildrop_id.as_ref().map_or(entry.at, |field| field.at);
            let account = match fields.account(&entry.key, entry.at) {
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
                    self.wrong(&path, Complaint::new(identity, what));
                } else {
                    maildrops.insert(account.maildrop_id.clone(), (account.name.clone(), account.port));
                }
            }
            read.push(account);
        }
        read
    }

    /// Reads the keys of one account, or of `defaults`; tells whether all of them are sound.
    fn fields(&mut self, fields: &mut Fields, path: &str, entry: &Entry<'_>, level: Level) -> bool {
        let entries = match entry.value.mapping("a mapping of account keys") {
            Ok(entries) => entries,
            // An account whose every key comes from the defaults.
            Err(_) if entry.value.is_nothing() => &[],
            Err(complaint) => {
                self.wrong(path, complaint);
                return false;
            }
        };
        let mut sound = true;
        for entry in entries {
            if self.again(path, entry, &KEYS) {
                sound = false;
                continue;
            }
            match fields.take(entry, level, self.places) {
                Ok(Some(secrets)) => self.secrets = secrets,
                Ok(None) => {}
                Err(Some(complaint)) => {
                    sound = false;
                    self.at_key(path, entry, complaint);
                }
                Err(None) => {
                    sound = false;
                    self.unknown(path, entry, &KEYS);
                }
            }
        }
        fields.broken |= !sound;
        sound
    }

    fn daemon(&mut self, entry: &Entry<'_>) -> Daemon {
        let mut daemon = Daemon::default();
        let entries = match entry.value.mapping("a mapping of limits") {
            Ok(entries) => entries,
            Err(_) if entry.value.is_nothing() => return daemon,
            Err(complaint) => {
                self.wrong("daemon", complaint);
                return daemon;
            }
        };
        for entry in entries {
            if self.again("daemon", entry, &DAEMON) {
                continue;
            }
            let read = match &*entry.key {
                "max_sessions" => {
                    values::count(&entry.value, MOST_SESSIONS).map(|count| daemon.max_sessions = count)
                }
                "max_sessions_per_host" => values::count(&entry.value, MOST_SESSIONS)
                    .map(|count| daemon.max_sessions_per_host = count),
                "startup_spread" => {
                    values::duration(&entry.value).map(|duration| daemon.startup_spread = duration)
                }
                _ => {
                    self.unknown("daemon", entry, &DAEMON);
                    continue;
                }
            };
            if let Err(complaint) = read {
                self.at_key("daemon", entry, complaint);
            }
        }
        daemon
    }

    /// Refuses a key that stood in the same mapping before.
    fn again(&mut self, path: &str, entry: &Entry<'_>, known: &[&str]) -> bool {
        let Some(before) = entry.before else { return false };
        let complaint = Complaint::new(entry.at, format!("given before, on line {}", before.line));
        let named = known.contains(&&*entry.key);
        self.wrong(path, if named { complaint.under(&format!(".{}", entry.key)) } else { complaint });
        true
    }

    fn unknown(&mut self, path: &str, entry: &Entry<'_>, known: &[&str]) {
        let known = if self.found.is_full() { &[] } else { known };
        self.wrong(path, values::unknown(entry, known));
    }

    /// Adds a complaint about the value of a known key.
    fn at_key(&mut self, path: &str, entry: &Entry<'_>, complaint: Complaint) {
        let complaint = values::within(entry, complaint);
        self.wrong(path, complaint);
    }

    fn wrong(&mut self, path: &str, complaint: Complaint) {
        self.found.add(path, complaint);
    }
}

impl Default for Daemon {
    fn default() -> Self {
        Self { max_sessions: 64, max_sessions_per_host: 4, startup_spread: Duration::from_secs(30) }
    }
}

/// Checks an account's name: it is typed in shells, stands in logs, in the environment of commands and in key paths,
/// and must not be taken for a URL or an option.
fn name(name: &str) -> Result<(), &'static str> {
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
