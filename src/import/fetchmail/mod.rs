//! fetchmail's run control file.

mod deliver;
mod lex;
mod parse;

use std::path::{Path, PathBuf};

use super::around::Around;
use super::cursor::Wrong;
use super::place::port;
use super::seen::{List, SeenList};
use super::shape::{Account, Imported, VERIFIED, Value};
use parse::{Given, Server, Setting, User, parse};

/// What is told of an option of the whole program.
const OF_PROGRAM: &[(&str, &str)] = &[
    ("logfile", "the log goes to standard error: let systemd or cron keep it (`--log-format journal`)"),
    ("pidfile", "not needed: kernel locks keep two polls of one maildrop apart"),
    (
        "syslog",
        "the log goes to standard error: `--log-format journal` under systemd, or `postrider sync 2>&1 | logger`",
    ),
    (
        "bouncemail",
        "nothing is ever bounced: what the target refuses is held, reported and left on the server",
    ),
    (
        "spambounce",
        "nothing is ever bounced: what the target refuses is held, reported and left on the server",
    ),
    ("properties", "for other programs, and not read here"),
];

const UNCHANGED: &str = "messages are delivered as the server sends them: nothing in them is changed";
const IMAP_ALONE: &str = "for IMAP alone";
const NOT_NEEDED: &str = "not needed: deletions follow as soon as a message is recorded, whatever breaks";

/// What is told of an option that has no counterpart, if it is on.
const TOLD: &[(&str, &str)] = &[
    ("principal", "Kerberos is no way to log in here"),
    (
        "interface",
        "to poll only on one network, test for it: `hooks: { before: COMMAND }`; where that fails, there is no poll",
    ),
    ("monitor", "no counterpart: traffic of an interface is not watched"),
    (
        "plugout",
        "no counterpart: a target has no connection by a command; deliver by `pipe` to what connects",
    ),
    ("tracepolls", "the Received line names the account anyway"),
    ("idletimeout", IMAP_ALONE),
    ("idle", IMAP_ALONE),
    ("forceidle", IMAP_ALONE),
    ("folder", "a POP3 maildrop has no folders"),
    ("fetchdomains", "for ETRN and ODMR alone"),
    ("antispam", "what a server refuses is held: reported, left on the server, neither deleted nor bounced"),
    ("limitflush", "what is larger than `max_size` stays on the server: nothing is deleted unread"),
    (
        "fetchall",
        "everything that is not recorded is fetched; `postrider seen forget --all` makes the record empty",
    ),
    ("rewrite", UNCHANGED),
    ("forcecr", UNCHANGED),
    ("pass8bits", UNCHANGED),
    ("dropstatus", UNCHANGED),
    ("dropdelivered", UNCHANGED),
    ("mimedecode", UNCHANGED),
    ("stripcr", UNCHANGED),
    ("warnings", "a message over `max_size` is reported once, and listed by `postrider held list`"),
    ("fetchsizelimit", NOT_NEEDED),
    ("fastuidl", "not needed: unique-ids are listed by one command"),
    ("batchlimit", NOT_NEEDED),
    ("expunge", NOT_NEEDED),
    ("properties", "for other programs, and not read here"),
    ("sslcertpath", "no counterpart for a directory: name a file of certificates with `tls_ca`"),
    (
        "sslfingerprint",
        "an MD5 of the certificate pins nothing today: chain and name are verified; to pin, write `tls_pin: sha256:...`",
    ),
];

/// Reads a run control file.
pub(super) fn read(file: &Path, text: &str, around: &Around) -> Result<Imported, Wrong> {
    let parsed = parse(file, text)?;
    let mut imported = Imported::default();
    for (key, what) in OF_PROGRAM {
        let given = parsed.globals.iter().rfind(|setting| setting.key == *key);
        if let Some(setting) = given.filter(|setting| setting.given != Given::Flag(false)) {
            imported.note(&setting.at, format!("`set {key}`: {what}"));
        }
    }
    let globals = Options { layers: vec![&parsed.globals] };
    let cycle = globals.number("daemon").filter(|seconds| *seconds > 0);
    if let Some(seconds) = cycle {
        imported.defaults.push(("interval", Value::seconds(seconds)));
        imported.interval = u64::try_from(seconds).ok();
    }
    let directory = file.parent().unwrap_or(Path::new("/"));
    let ids = match globals.text("idfile") {
        Some(path) => around_directory(directory, path),
        None => around.home.join(".fetchids"),
    };
    let common = Common { around, directory, cycle, globals, ids };
    let nobody = User::default();
    for server in &parsed.servers {
        let users = if server.users.is_empty() { std::slice::from_ref(&nobody) } else { &server.users };
        for user in users {
            let mut layers = vec![&user.settings[..], &server.settings];
            if let Some(defaults) = &parsed.defaults {
                layers.extend(defaults.users.first().map(|user| &user.settings[..]));
                layers.push(&defaults.settings);
            }
            let mailbox = Mailbox { server, user, options: Options { layers }, common: &common };
            imported.accounts.push(mailbox.account(users.len()));
        }
    }
    Ok(imported)
}

/// A path as the run control file has it: relative to its own directory.
fn around_directory(directory: &Path, path: &str) -> PathBuf {
    directory.join(path)
}

/// What all accounts of a file have in common.
struct Common<'p> {
    around: &'p Around,
    directory: &'p Path,
    /// Seconds from one poll to the next.
    cycle: Option<i64>,
    globals: Options<'p>,
    /// The list of what was fetched.
    ids: PathBuf,
}

/// Options in layers: what the first has weighs more than what the next says.
struct Options<'p> {
    layers: Vec<&'p [Setting]>,
}

impl<'p> Options<'p> {
    fn find(&self, key: &str) -> Option<&'p Setting> {
        self.layers.iter().find_map(|layer| layer.iter().rfind(|setting| setting.key == key))
    }

    fn all(&self, key: &'static str) -> impl Iterator<Item = &'p Setting> {
        self.layers.iter().flat_map(move |layer| layer.iter().filter(move |setting| setting.key == key))
    }

    fn text(&self, key: &str) -> Option<&'p str> {
        match &self.find(key)?.given {
            Given::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<i64> {
        match &self.find(key)?.given {
            Given::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match &self.find(key)?.given {
            Given::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// Gives the items of lists, which all layers have together.
    fn texts(&self, key: &'static str) -> Vec<&'p str> {
        self.all(key)
            .flat_map(|setting| match &setting.given {
                Given::Texts(texts) => texts.iter().map(String::as_str).collect(),
                _ => Vec::new(),
            })
            .collect()
    }

    fn names(&self) -> Vec<&'p (String, Option<String>)> {
        self.all("names")
            .flat_map(|setting| match &setting.given {
                Given::Names(names) => names.iter().collect(),
                _ => Vec::new(),
            })
            .collect()
    }
}

/// One mailbox of one server.
struct Mailbox<'p> {
    server: &'p Server,
    user: &'p User,
    options: Options<'p>,
    common: &'p Common<'p>,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    Implicit,
    StartTls,
    None,
}

impl Mailbox<'_> {
    fn account(&self, mailboxes: usize) -> Account {
        let host = self.host();
        let user = self.options.text("user").unwrap_or(&self.common.around.user);
        let name = match mailboxes {
            1 => self.server.name.clone(),
            _ => format!("{}@{}", user.split('@').next().unwrap_or(user), self.server.name),
        };
        let at = self.user.at.clone().filter(|_| mailboxes > 1).unwrap_or_else(|| self.server.at.clone());
        let mut account = Account::new(name, at);
        self.protocol(&mut account);
        account.set("host", Value::text(host));
        self.port(&mut account);
        account.set("user", Value::text(user));
        let protection = self.tls(&mut account);
        self.login(&mut account, protection);
        self.connection(&mut account);
        self.disposal(&mut account);
        self.deliver(&mut account);
        self.note_more(&mut account);
        if let (Some(setting), Some("reject")) =
            (self.options.find("bad-header"), self.options.text("bad-header"))
        {
            account.note(
                &setting.at,
                "`bad-header reject`: a message with a broken header is delivered as it is",
            );
        }
        if self.server.skipped {
            account.set("enabled", Value::bare(false));
            account.note(&self.server.at, "`skip`: polled only where it is named");
        }
        account.seen = Some(SeenList {
            list: List::Fetchmail,
            path: self.common.ids.clone(),
            host: host.to_owned(),
            user: user.to_owned(),
        });
        account
    }

    /// Tells what has no counterpart, once for all options of which the same is said.
    fn note_more(&self, account: &mut Account) {
        let is_on = |setting: &&Setting| setting.given != Given::Flag(false);
        let mut told: Vec<(&Setting, Vec<&str>, &str)> = Vec::new();
        for (key, what) in TOLD {
            let Some(setting) = self.options.find(key).filter(is_on) else { continue };
            match told.iter_mut().find(|(_, _, known)| known == what) {
                Some((_, keys, _)) => keys.push(key),
                None => told.push((setting, vec![key], what)),
            }
        }
        for (setting, keys, what) in told {
            account.note(&setting.at, format!("`{}`: {what}", keys.join("`, `")));
        }
    }

    fn host(&self) -> &str {
        self.options.text("via").unwrap_or(&self.server.name)
    }

    fn is_apop(&self) -> bool {
        self.options.text("protocol") == Some("apop")
    }

    fn protocol(&self, account: &mut Account) {
        match self.options.text("protocol") {
            Some("pop3" | "apop") => {}
            Some("auto") | None => account.remark(
                "no `protocol`: fetchmail asks for IMAP first; if that is how this mail came, its list of what it \
                 fetched knows nothing of it",
            ),
            Some("sdps") => account.disable(
                "`proto sdps`: the recipients that Demon's *ENV command told are not asked for; name the header that has \
                 them with `to: { header: ... }`",
            ),
            Some(other) => account.leave_out(format!("`proto {other}`: mail is fetched by POP3 alone")),
        }
    }

    fn port(&self, account: &mut Account) {
        let Some(setting) = ["port", "service"].iter().find_map(|key| self.options.find(key)) else { return };
        let given = match &setting.given {
            Given::Number(number) => number.to_string(),
            Given::Text(text) => text.clone(),
            _ => return,
        };
        match port(&given) {
            Some(port) => account.set("port", Value::bare(port)),
            None => account
                .note(&setting.at, format!("the port of the service {given} is not known: write `port: N`")),
        }
    }

    /// Without `ssl`, STLS is demanded unless APOP needs none, or nobody looks at the certificate.
    fn tls(&self, account: &mut Account) -> Protection {
        let options = &self.options;
        let version = options.text("sslproto").map(str::to_ascii_lowercase);
        let protection = match (options.flag("ssl"), version.as_deref()) {
            (Some(true), _) => Protection::Implicit,
            (_, Some("")) => Protection::None,
            (_, None) if self.is_apop() && options.find("sslfingerprint").is_none() => Protection::None,
            _ => Protection::StartTls,
        };
        match protection {
            Protection::Implicit => {}
            Protection::StartTls => account.set("tls", Value::bare("starttls")),
            Protection::None => account.set("tls", Value::bare("none")),
        }
        if protection == Protection::None {
            account.remark("nothing protects this connection: try `tls: starttls`, or `tls: implicit`");
            return protection;
        }
        if let (Some(setting), Some(false)) = (options.find("sslcertck"), options.flag("sslcertck")) {
            account.note(&setting.at, format!("`no sslcertck`: {VERIFIED}. STLS never falls back"));
        }
        let path = |text: &str| Value::text(around_directory(self.common.directory, text).to_string_lossy());
        account.set_given("tls_ca", options.text("sslcertfile").map(path));
        if let Some(chain) = options.text("sslcert") {
            account.set("tls_client_cert", path(chain));
            account.set("tls_client_key", path(options.text("sslkey").unwrap_or(chain)));
        }
        account.set_given("tls_server_name", options.text("sslcommonname").map(Value::text));
        match (options.find("sslproto"), version.as_deref()) {
            (_, Some("tls1.3" | "tls1.3+")) => account.set("tls_min", Value::text("1.3")),
            (_, Some("" | "auto" | "tls1.2" | "tls1.2+") | None) => {}
            (Some(setting), Some(_)) => {
                account.note(&setting.at, "`sslproto`: TLS 1.2 is the least that is spoken here");
            }
            (None, Some(_)) => {}
        }
        protection
    }

    fn login(&self, account: &mut Account, protection: Protection) {
        let auth = self.options.text("auth").unwrap_or("any");
        let mechanisms = match auth {
            _ if self.is_apop() => vec!["apop"],
            "cram-md5" => vec!["cram-md5"],
            "external" => vec!["external"],
            "password" if protection == Protection::None => vec!["user-pass"],
            "any" if protection == Protection::None => vec!["cram-md5", "user-pass"],
            _ => Vec::new(),
        };
        if !mechanisms.is_empty() {
            account.set("auth", Value::words(mechanisms));
        }
        if let (Some(setting), "gssapi" | "kerberos" | "otp" | "msn" | "ntlm" | "ssh") =
            (self.options.find("auth"), auth)
        {
            account.note(
                &setting.at,
                format!("`auth {auth}`: no such way to log in; a password is asked for instead"),
            );
            if protection == Protection::None {
                account.set("auth", Value::words(["user-pass"]));
            }
        }
        match self.options.text("pass") {
            Some(password) => account.set("password", Value::Secret(crate::secret::Secret::new(password))),
            None if self.common.around.has_netrc => {
                account.set("password", Value::of("netrc", Value::text("~/.netrc")));
                if self.options.text("via").is_some() {
                    account.remark(format!(
                        "fetchmail looks for {} in ~/.netrc first; here the entry must be that of the host",
                        self.server.name
                    ));
                }
            }
            None => account.remark("no password: it is asked for on the terminal"),
        }
    }

    fn connection(&self, account: &mut Account) {
        let options = &self.options;
        if let Some(plugin) = options.text("plugin") {
            let port = match account.get("port") {
                Some(Value::Bare(port)) => port.clone(),
                _ => (if options.flag("ssl") == Some(true) { "995" } else { "110" }).to_owned(),
            };
            let words = plugin.split_ascii_whitespace();
            let words = words.map(|part| part.replace("%h", self.host()).replace("%p", &port));
            account.set("connect", Value::texts(words));
        }
        let timeout = options.number("timeout").filter(|seconds| *seconds > 0);
        account.set_given("timeout", timeout.map(Value::seconds));
        if let (Some(setting), Some(every)) =
            (options.find("interval"), options.number("interval").filter(|n| *n > 1))
        {
            match self.common.cycle {
                Some(cycle) => {
                    account.set("interval", Value::bare(format!("{}s", cycle.saturating_mul(every))));
                }
                None => account.note(
                    &setting.at,
                    format!("`interval {every}`: every run polls it; a daemon has `interval: DURATION`"),
                ),
            }
        }
        let hooks = [("preconnect", "before"), ("postconnect", "after")].into_iter();
        let hooks = hooks.filter_map(|(key, hook)| Some((hook.to_owned(), Value::text(options.text(key)?))));
        let hooks: Vec<_> = hooks.collect();
        account.set_given("hooks", (!hooks.is_empty()).then_some(Value::Map(hooks)));
    }

    fn disposal(&self, account: &mut Account) {
        let options = &self.options;
        match (options.flag("keep"), options.flag("flush")) {
            (Some(true), Some(true)) => {
                account.set("keep", Value::bare("1s"));
                account.remark("`keep flush`: what one poll fetches, a later one deletes");
            }
            (Some(true), _) => account.set("keep", Value::bare("forever")),
            _ => account.set("keep", Value::bare("none")),
        }
        account.set_given("max_size", options.number("limit").filter(|octets| *octets > 0).map(Value::bare));
        let most = options.number("fetchlimit").filter(|most| *most > 0);
        account.set_given("max_messages", most.map(Value::bare));
    }
}
