//! Accounts that are rows of a table. A row is a tenant's and not the operator's: it may say what has [`Mark::Row`] among
//! the keys of an account, and nothing of it names a command, a file, or a way to the server; its `deliver` and `oauth2`
//! name what the worker's file has.

use std::path::PathBuf;
use std::time::Duration;

use super::account::{Account, Interval};
use super::error::{ConfigError, Found};
use super::file;
use super::fleet::{Fleet, asked_of_broker, of_account};
use super::keys::{KEYS, complete};
use super::networks::Reach;
use super::oauth2::OAuth2;
use super::password::Password;
use super::places::Places;
use super::rows::{self, Mark, marked, unknown_among, within};
use super::server::Given;
use super::target::Destination;
use super::tree::{self, Complaint, Content, Entry, Position};
use crate::seal::{Ring, SealError, Sealed, place};
use crate::secret::Secret;
use crate::text::Shown;

/// Octets of a row's keys at most: a list of pins is the longest thing in it.
const MOST_OCTETS: usize = 64 * 1024;

/// How often a row may have its maildrop polled at most.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);

/// An account as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    pub id: i64,
    /// Whose it is.
    pub tenant: String,
    /// Its name among its tenant's.
    pub name: String,
    /// The identity under which unique-ids are recorded; empty: of tenant, user and host.
    pub maildrop: String,
    /// Its keys, as YAML or JSON.
    pub config: String,
    /// The password, or the refresh token of a provider.
    pub secret: Option<Sealed>,
    pub enabled: bool,
    /// Changes with the row.
    pub revision: i64,
}

impl Row {
    /// Gives the name that the account has everywhere: `TENANT/NAME`.
    pub fn account(&self) -> String {
        format!("{}/{}", self.tenant, self.name)
    }

    /// Names the place that its secret is sealed for.
    pub fn place(&self) -> String {
        place("account", &self.id.to_string(), "secret")
    }
}

impl Fleet {
    /// Makes the account of a row, but for its secret.
    ///
    /// # Errors
    ///
    /// All mistakes of the row at once; they quote keys, and no value.
    pub fn account(&self, row: &Row) -> Result<Account, ConfigError> {
        let mut reading = Reading { fleet: self, row, found: Found::default() };
        let account = reading.account();
        let whose = format!("account {}", Shown(row.account().as_bytes()));
        match reading.found.told(PathBuf::from(whose)) {
            Some(wrong) => Err(wrong),
            None => Ok(account),
        }
    }

    /// Gives what is known of a row's account whatever is wrong with it: its name, its maildrop (empty: not even that),
    /// whether it is to be polled, and how often.
    pub fn outline(&self, row: &Row) -> Account {
        let known = Reading { fleet: self, row, found: Found::default() }.account();
        let maildrop_id = match row.maildrop.as_str() {
            "" if known.host.is_empty() || known.user.is_empty() => String::new(),
            "" => format!("{}/{}@{}", row.tenant, known.user, known.host),
            given => given.to_owned(),
        };
        let Account { host, interval, .. } = known;
        Account { host, interval, maildrop_id, enabled: row.enabled, ..Account::new(row.account()) }
    }

    /// Makes the account of a row, with its secret.
    ///
    /// # Errors
    ///
    /// What is wrong with the row, or why its secret does not open.
    pub fn open(&self, row: &Row, ring: &Ring) -> Result<Account, RowError> {
        let mut account = self.account(row)?;
        if let Some(sealed) = &row.secret {
            let closed = |error| RowError::Secret { account: account.name.clone(), error };
            let secret = ring.open(&row.place(), sealed).map_err(closed)?;
            set_secret(&mut account, secret);
        }
        Ok(account)
    }
}

/// Why a row is no account that can be polled.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("account {account}: {error}")]
    Secret { account: String, error: SealError },
}

impl RowError {
    /// Says whether another process may well be able to use the row: one that has its key.
    pub fn is_of_key(&self) -> bool {
        matches!(self, Self::Secret { error: SealError::Missing { .. } | SealError::NoKey, .. })
    }
}

/// Gives an account the secret of its row: its password, or the refresh token of its provider.
fn set_secret(account: &mut Account, secret: Secret) {
    match &mut account.oauth2 {
        None => account.password = Some(Password::Literal(secret)),
        Some(OAuth2::Client(client)) => client.refresh_token = Some(Password::Literal(secret)),
        // The broker has it.
        Some(OAuth2::Command(_)) => {}
    }
}

struct Reading<'r> {
    fleet: &'r Fleet,
    row: &'r Row,
    found: Found,
}

impl Reading<'_> {
    fn account(&mut self) -> Account {
        let mut account =
            Account { name: self.row.account(), enabled: self.row.enabled, ..self.fleet.defaults.clone() };
        let start = Position { line: 1, column: 1 };
        for (column, name) in [("tenant", &self.row.tenant), ("name", &self.row.name)] {
            if let Err(what) = file::name(name) {
                self.found.add(column, Complaint::new(start, what));
            }
        }
        if self.row.maildrop.contains(char::is_control) {
            self.found.add("maildrop", Complaint::new(start, "must be a text without control characters"));
        }
        let text = &self.row.config;
        let root = match tree::parse(text) {
            _ if text.len() > MOST_OCTETS => {
                return self
                    .wrong(account, Complaint::new(start, format!("larger than {MOST_OCTETS} octets")));
            }
            Ok(Some(root)) => root,
            Ok(None) => {
                return self.wrong(account, Complaint::new(start, "is empty: it needs `host` and `user`"));
            }
            Err(complaint) => return self.wrong(account, complaint),
        };
        let at = root.at;
        let Content::Mapping(mut entries) = root.content else {
            return self.wrong(account, Complaint::new(at, "must be a mapping of account keys"));
        };
        // What a view has nothing for is null.
        entries.retain(|entry| !entry.value.is_nothing());
        for entry in &entries {
            if let Err(complaint) = self.key(entry, &mut account) {
                self.found.add("", complaint);
            }
        }
        if account.deliver.is_empty()
            && let [only] = &*self.fleet.targets.values().collect::<Vec<_>>()
        {
            account.deliver = self.targets(only);
        }
        if self.found.is_empty() {
            account = self.complete(account, &entries, at);
        }
        account
    }

    /// Fills in what follows from the keys, and what a tenant has no say in.
    fn complete(&mut self, account: Account, own: &[Entry<'_>], at: Position) -> Account {
        let incomplete = account.clone();
        match complete(account, Given { own, defaults: &[] }, at) {
            Ok(mut account) => {
                account.maildrop_id = match self.row.maildrop.as_str() {
                    "" => format!("{}/{}", self.row.tenant, account.maildrop_id),
                    given => given.to_owned(),
                };
                account.received = self.fleet.defaults.received.or(account.received);
                account.reach = Reach::Public(self.fleet.allow_networks.clone());
                if let Some(host) = own.iter().find(|entry| entry.key == "host")
                    && !account.reach.allows_host(&account.host)
                {
                    let what =
                        "is loopback, private or link-local, and `fleet: allow_networks` does not name it";
                    self.found.add("", within(host, host.value.wrong(what)));
                }
                if self.row.secret.is_none() && account.oauth2.is_none() {
                    self.found.add(
                        "secret",
                        Complaint::new(at, "is missing: there is no password, and no `oauth2`"),
                    );
                }
                account
            }
            Err(complaints) => {
                complaints.into_iter().for_each(|complaint| self.found.add("", complaint));
                incomplete
            }
        }
    }

    fn key(&self, entry: &Entry<'_>, account: &mut Account) -> Result<(), Complaint> {
        let key = &*entry.key;
        let places = &Places::default();
        match key {
            "deliver" => account.deliver = self.deliver(entry)?,
            "oauth2" => account.oauth2 = Some(self.provider(entry)?),
            "password" => {
                let what = "must not stand here: what a row has is sealed in its column `secret`, by `postrider account`";
                return Err(inner(entry, what));
            }
            _ => {
                let of_rows = || marked(KEYS, Mark::Row).collect::<Vec<_>>();
                if KEYS.iter().any(|known| known.name == key && !known.has(Mark::Row)) {
                    let what = format!("is not for a row to say; it may have {}", of_rows().join(", "));
                    return Err(inner(entry, &what));
                }
                rows::read(entry, places, KEYS, account)
                    .map_err(|wrong| wrong.unwrap_or_else(|| unknown_among(entry, &of_rows())))?;
            }
        }
        match account.interval {
            Interval::Every(interval) if key == "interval" && interval < SHORTEST_INTERVAL => {
                Err(within(entry, entry.value.wrong("must be at least 1m")))
            }
            Interval::Every(_) | Interval::Manual => Ok(()),
        }
    }

    fn deliver(&self, entry: &Entry<'_>) -> Result<Vec<Destination>, Complaint> {
        let name = named(entry, "the name of a target of `fleet: targets`")?;
        match self.fleet.targets.get(name) {
            Some(targets) => Ok(self.targets(targets)),
            None => Err(within(entry, entry.value.wrong("names no target of `fleet: targets`"))),
        }
    }

    fn targets(&self, targets: &[Destination]) -> Vec<Destination> {
        targets.iter().map(|to| of_account(to, &self.row.name, &self.row.tenant)).collect()
    }

    fn provider(&self, entry: &Entry<'_>) -> Result<OAuth2, Complaint> {
        const WHAT: &str = "{ provider: NAME }, with a name of `fleet: providers`";
        let name = match &entry.value.content {
            Content::Mapping(entries) => match &entries[..] {
                [only] if only.key == "provider" => named(only, WHAT)?,
                _ => return Err(inner(entry, &format!("is not for a row to say; `oauth2` must be {WHAT}"))),
            },
            Content::Plain(_) | Content::Quoted(_) | Content::List(_) => named(entry, WHAT)?,
        };
        let known = self.fleet.providers.get(name).map(|known| match known {
            OAuth2::Command(line) => OAuth2::Command(asked_of_broker(line, &self.row.name, &self.row.tenant)),
            OAuth2::Client(_) => known.clone(),
        });
        known.ok_or_else(|| within(entry, entry.value.wrong("names no provider of `fleet: providers`")))
    }

    fn wrong(&mut self, account: Account, complaint: Complaint) -> Account {
        self.found.add("config", complaint);
        account
    }
}

/// Gives the text of a value that must be one.
fn named<'n>(entry: &'n Entry<'_>, what: &str) -> Result<&'n str, Complaint> {
    match &entry.value.content {
        Content::Mapping(_) => Err(inner(entry, &format!("is not for a row to say; it must be {what}"))),
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) => {
            entry.value.text(what).map_err(|complaint| within(entry, complaint))
        }
    }
}

/// Complains of what stands in an entry by the innermost name that it has: `deliver.pipe`, `password.command`.
fn inner(entry: &Entry<'_>, what: &str) -> Complaint {
    let below = match &entry.value.content {
        Content::Mapping(entries) => {
            entries.iter().find(|entry| entry.key != "provider" && is_word(&entry.key))
        }
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) => None,
    };
    match below {
        Some(inner) => {
            Complaint::new(inner.at, what).under(&format!(".{}", inner.key)).under(&format!(".{}", entry.key))
        }
        None => Complaint::new(entry.at, what).under(&format!(".{}", entry.key)),
    }
}

/// Says whether a key looks like one: anything else may be part of a secret.
fn is_word(key: &str) -> bool {
    key.len() <= 40 && key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::account::CommandLine;
    use crate::config::{Config, Target};

    const FILE: &str = r#"
defaults: { interval: 10m, keep: 14d, timeout: 20s, password: operators, connect: nc, port: 1110, tls_client_cert: /c, tls_client_key: /k, proxy: 'socks5://127.0.0.1:1080' }
fleet:
  allow_networks: [10.1.0.0/16]
  targets:
    desk: { http: { url: https://desk.example.org/mail } }
    mail: { lmtp: { host: mx.example.org, to: ['%(account)@%(tenant).example.org'] } }
    disk: { maildir: '/srv/mail/%(tenant)/%(account)', shared: true }
  providers:
    google: { provider: google, client_id: ID }
    broker: { token_command: [broker, token, '%(tenant)/%(account)'] }
"#;

    fn fleet() -> Fleet {
        Config::from_yaml(FILE, Path::new("f")).unwrap_or_else(|error| panic!("{error}")).fleet.unwrap()
    }

    fn row(config: &str) -> Row {
        let secret = Some(Sealed { key: "k".into(), octets: vec![0] });
        let (tenant, name) = ("acme".to_owned(), "alice".to_owned());
        Row { id: 17, tenant, name, config: config.to_owned(), secret, enabled: true, ..Row::default() }
    }

    fn wrong(config: &str) -> String {
        match fleet().account(&row(config)) {
            Ok(account) => panic!("{config}: {account:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_row_is_an_account_with_what_the_file_says_for_strangers() {
        let config = r#"{"host": "pop.example.org", "user": "alice", "tls": "starttls", "keep": null, "deliver": "mail", "max_messages": 50}"#;
        let mut account = fleet().account(&row(config)).unwrap();
        assert_eq!((account.name.as_str(), account.port), ("acme/alice", 110));
        assert_eq!(account.maildrop_id, "acme/alice@pop.example.org");
        assert_eq!(account.timeout, Duration::from_secs(20));
        assert_eq!(account.keep, crate::config::account::Keep::For(Duration::from_secs(14 * 24 * 3600)));
        assert_eq!(account.target().to_string(), "lmtp:mx.example.org:24");
        assert_eq!(account.tls.client, None);
        assert!(account.connect.is_none() && account.password.is_none() && account.proxy.is_some());
        assert!(
            account.reach.allows("10.1.2.3".parse().unwrap())
                && !account.reach.allows("10.2.0.0".parse().unwrap())
        );
        let Target::Lmtp(server) = account.target() else { panic!("no lmtp") };
        assert_eq!(server.to, crate::config::Recipients::List(vec!["alice@acme.example.org".to_owned()]));
        set_secret(&mut account, Secret::new(*b"hunter2"));
        assert!(matches!(account.password, Some(Password::Literal(_))));
    }

    #[test]
    fn the_only_target_is_meant_where_a_row_names_none() {
        let file = "fleet: { targets: { desk: { http: { url: https://desk.example.org } } } }";
        let fleet = Config::from_yaml(file, Path::new("f")).unwrap().fleet.unwrap();
        let account = fleet.account(&row("{ host: h, user: u }")).unwrap();
        assert_eq!(account.target().to_string(), "https://desk.example.org/");
    }

    #[test]
    fn a_row_names_a_provider_and_a_target_of_the_file() {
        let config = "{ host: h, user: u, deliver: disk, oauth2: { provider: google } }";
        let mut account =
            fleet().account(&Row { secret: None, maildrop: "old".into(), ..row(config) }).unwrap();
        assert_eq!(
            (account.maildrop_id.as_str(), account.target().to_string().as_str()),
            ("old", "maildir:/srv/mail/acme/alice")
        );
        set_secret(&mut account, Secret::new(*b"1//0g"));
        let Some(OAuth2::Client(client)) = &account.oauth2 else { panic!("no client") };
        assert!(client.refresh_token.is_some() && account.password.is_none());
        let broker = fleet().account(&row("{ host: h, user: u, deliver: desk, oauth2: broker }")).unwrap();
        let Some(OAuth2::Command(CommandLine::Argv(argv))) = broker.oauth2 else { panic!("no command") };
        assert_eq!(argv, ["broker", "token", "acme/alice"]);
    }

    #[test]
    fn what_is_not_for_a_tenant_to_say_is_refused_by_its_name() {
        for (keys, path) in [
            ("connect: 'nc evil 1'", "connect"),
            ("proxy: 'socks5://10.0.0.1:1'", "proxy"),
            ("bind: 10.0.0.1", "bind"),
            ("timeout: 10h", "timeout"),
            ("tls_ca: /etc/shadow", "tls_ca"),
            ("tls_client_cert: /etc/ssl/c", "tls_client_cert"),
            ("tls_client_key: /etc/ssl/k", "tls_client_key"),
            ("hooks: { before: rm }", "hooks.before"),
            ("password: hunter2", "password"),
            ("password: { command: id }", "password.command"),
            ("password: { file: /etc/shadow }", "password.file"),
            ("password: { env: HOME }", "password.env"),
            ("password: { credential: key }", "password.credential"),
            ("password: { netrc: /root/.netrc }", "password.netrc"),
            ("oauth2: { token_command: id }", "oauth2.token_command"),
            ("oauth2: { provider: google, client_id: x }", "oauth2.client_id"),
            ("oauth2: { token_url: 'https://evil.example' }", "oauth2.token_url"),
            ("deliver: { pipe: { command: id } }", "deliver.pipe"),
            ("deliver: { maildir: /home/bob }", "deliver.maildir"),
            ("refused: { mbox: /x }", "refused.mbox"),
            ("maildrop_id: other", "maildrop_id"),
            ("first_sync: none", "first_sync"),
            ("received: true", "received"),
            ("pipelining: on", "pipelining"),
            ("enabled: true", "enabled"),
        ] {
            let told = wrong(&format!("{{ host: h, user: u, deliver: desk, {keys} }}"));
            assert!(
                told.starts_with("account acme/alice:1:") && told.contains(&format!(": {path}: ")),
                "{keys}: {told}"
            );
            assert!(!told.contains("hunter2") && !told.contains('\n'), "{keys}: {told}");
        }
    }

    #[test]
    fn nonsense_is_told_and_none_of_it_repeated() {
        for (config, words) in [
            ("", "config: is empty: it needs `host` and `user`"),
            ("[]", "config: must be a mapping"),
            ("hunter2", "config: must be a mapping"),
            ("{ host: h", "config: not valid YAML"),
            ("{ host: h, user: u, deliver: hunter2 }", "deliver: names no target of `fleet: targets`"),
            (
                "{ host: h, user: u, deliver: desk, oauth2: hunter2 }",
                "oauth2: names no provider of `fleet: providers`",
            ),
            ("{ host: h, user: u, deliver: desk, interval: 1s }", "interval: must be at least 1m"),
            (
                "{ host: h, user: u, deliver: desk, conect: nc }",
                "conect: unknown key; valid keys are host, user,",
            ),
            ("{ host: h, user: u, deliver: desk, prot: 1 }", "prot: unknown key; did you mean `port`?"),
            ("{ host: h, user: u, deliver: desk, tls: none }", "without TLS, `auth: auto` sends no password"),
            ("{ host: 'a b', user: u, deliver: desk }", "host: must be a host name"),
            ("{ host: h, deliver: desk }", "`user` is missing"),
            ("{ host: 127.0.0.1, user: u, deliver: desk }", "host: is loopback, private or link-local"),
            ("{ host: '::1', user: u, deliver: desk }", "host: is loopback"),
            ("{ host: 169.254.169.254, user: u, deliver: desk }", "host: is loopback"),
            ("{ host: LocalHost, user: u, deliver: desk }", "host: is loopback"),
            ("{ host: h, user: u }", "`deliver` is missing"),
            ("{ host: h, user: u, host: i, deliver: desk }", "host: given before"),
        ] {
            let told = wrong(config);
            assert!(told.contains(words) && !told.contains("hunter2"), "{config}: {told}");
        }
        let unnamed = Row { tenant: "../x".into(), ..row("{ host: h, user: u, deliver: desk }") };
        assert!(
            fleet().account(&unnamed).unwrap_err().to_string().contains("tenant: an account's name must be")
        );
        for (config, maildrop) in [("{ host: h, user: u, deliver: none }", "acme/u@h"), ("{ host: h", "")] {
            let outline = fleet().outline(&row(config));
            assert_eq!((outline.name.as_str(), outline.maildrop_id.as_str()), ("acme/alice", maildrop));
            assert_eq!(outline.interval, Interval::Every(Duration::from_secs(600)), "that of the file");
        }
        let asked_for = fleet().outline(&row("{ host: h, user: u, interval: manual, deliver: none }"));
        assert_eq!(asked_for.interval, Interval::Manual);
        assert!(fleet().account(&row("{ host: 10.1.2.3, user: u, deliver: desk }")).is_ok(), "it is named");
        let bare = Row { secret: None, ..row("{ host: h, user: u, deliver: desk }") };
        assert!(fleet().account(&bare).unwrap_err().to_string().contains("secret: is missing"));
        assert!(wrong(&format!("{{ host: h, user: {} }}", "x".repeat(MOST_OCTETS))).contains("larger than"));
    }
}
