//! fdm.conf: accounts, actions, and the rules that tie them together.

mod deliver;
mod lex;
mod parse;
mod rules;
mod statement;
mod words;

use std::path::{Path, PathBuf};

use super::around::Around;
use super::cursor::Wrong;
use super::place::port;
use super::seen::{List, SeenList};
use super::shape::{self, Imported, VERIFIED, Value};
use crate::config::Proxy;
use crate::secret::Secret;
use lex::Text;
use parse::parse;
use statement::{Account, Parsed, Setting};

/// What is told of an option that has no counterpart.
const TOLD: &[(&str, &str)] = &[
    (
        "delete-oversized",
        "nothing is deleted unread: what is over `max_size` stays, and `postrider held discard` deletes it",
    ),
    ("command-user", "commands run as whoever runs postrider, or as the `user` of a `pipe`"),
    ("default-user", "everything runs as whoever runs postrider; a `pipe` may have a `user`"),
    ("file-group", "files are for their owner alone"),
    ("file-umask", "files are for their owner alone (0600)"),
    ("no-create", "a maildir or mbox that is missing is made"),
    ("strip-characters", "nothing of a message becomes text for a shell, so nothing is taken out of it"),
    ("ignore-errors", "one message's failure keeps no other from being fetched, and it is tried again"),
];

/// Reads a configuration; `read` gives the files that it includes.
pub(super) fn read(
    file: &Path,
    text: &str,
    around: &Around,
    read: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Result<Imported, Wrong> {
    let parsed = parse(file, text, around, read)?;
    let mut imported = Imported::default();
    for option in &parsed.options {
        if let Some((key, what)) = TOLD.iter().find(|(key, _)| *key == option.key) {
            imported.note(&option.at, format!("`set {key}`: {what}"));
        }
    }
    for account in &parsed.accounts {
        imported.accounts.push(Reading { parsed: &parsed, account, around }.account());
    }
    Ok(imported)
}

/// One account that becomes one of ours.
struct Reading<'r> {
    parsed: &'r Parsed,
    account: &'r Account,
    around: &'r Around,
}

impl Reading<'_> {
    fn option(&self, key: &str) -> Option<&Setting> {
        self.parsed.options.iter().rfind(|option| option.key == key)
    }

    fn value(&self, key: &str) -> Option<&str> {
        match self.option(key)?.values.first() {
            Some(Text::Plain(text)) => Some(text),
            Some(Text::Command(_) | Text::Mixed) | None => None,
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.account.flags.iter().any(|(_, known)| known == flag)
    }

    fn account(&self) -> shape::Account {
        let Account { at, name, kind, .. } = self.account;
        let mut account = shape::Account::new(name, at.clone());
        if !kind.starts_with("pop3") {
            account.leave_out(format!("`{kind}`: mail is fetched by POP3 alone"));
            return account;
        }
        self.server(&mut account);
        self.tls(&mut account);
        self.login(&mut account);
        if let Some(command) = &self.account.pipe {
            match command {
                Text::Plain(command) => account.set("connect", Value::text(command)),
                Text::Command(_) | Text::Mixed => account.leave_out("the command that connects is evaluated"),
            }
        }
        account.set_given("timeout", self.value("timeout").map(Value::seconds));
        self.proxy(&mut account);
        let octets = self.value("maximum-size").filter(|octets| *octets != "0");
        account.set_given("max_size", octets.map(Value::bare));
        self.deliver(&mut account);
        account.set("received", Value::bare(self.option("no-received").is_none()));
        if self.account.disabled {
            account.set("enabled", Value::bare(false));
            account.note(at, "`disabled`: polled only where it is named");
        }
        self.list(&mut account);
        account
    }

    fn proxy(&self, account: &mut shape::Account) {
        let (Some(option), Some(proxy)) = (self.option("proxy"), self.value("proxy")) else { return };
        const SCHEMES: [(&str, &str, &str); 3] = [
            ("socks://", "socks5://", ":1080"),
            ("socks5://", "socks5://", ":1080"),
            ("http://", "http://", ":80"),
        ];
        let known = SCHEMES.iter().find_map(|(theirs, ours, port)| {
            let host = proxy.strip_prefix(theirs)?.trim_end_matches('/');
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            Some(format!("{ours}{host}{}", if has_port { "" } else { port }))
        });
        match known.filter(|known| !proxy.contains('@') && Proxy::parse(known).is_ok()) {
            Some(proxy) => account.set("proxy", Value::text(proxy)),
            None => {
                account
                    .note(&option.at, "`set proxy`: `proxy: socks5://USER:PASSWORD@HOST:PORT`, or `http:`");
                account
                    .disable("without the proxy the server would see from where you come: see to it first");
            }
        }
    }

    /// Gives a text that stands in the file; what a command would print is told.
    fn plain<'t>(&self, account: &mut shape::Account, what: &str, text: Option<&'t Text>) -> Option<&'t str> {
        match text? {
            Text::Plain(text) => Some(text),
            Text::Command(command) => {
                account.leave_out(format!("its {what} is what a command prints: {command}"));
                None
            }
            Text::Mixed => {
                account.leave_out(format!("its {what} is evaluated"));
                None
            }
        }
    }

    fn server(&self, account: &mut shape::Account) {
        let server = self.account.server.as_ref();
        match self.plain(account, "host", server.and_then(|server| server.host.as_ref())) {
            Some(host) => account.set("host", Value::text(host)),
            None if self.account.pipe.is_some() => account.set("host", Value::text("localhost")),
            None => {}
        }
        if let Some(given) = self.plain(account, "port", server.and_then(|server| server.port.as_ref())) {
            match port(given) {
                Some(port) => account.set("port", Value::bare(port)),
                None => account.note(
                    &self.account.at,
                    format!("the port of the service {given} is not known: write `port: N`"),
                ),
            }
        }
        match self.plain(account, "user", server.and_then(|server| server.user.as_ref())) {
            Some(user) => account.set("user", Value::text(user)),
            None => account.leave_out("its user is that of ~/.netrc: write `user` into fdm.conf first"),
        }
    }

    /// Says whether TLS protects the connection.
    fn is_protected(&self) -> bool {
        self.account.kind == "pop3s" || self.has("starttls")
    }

    fn tls(&self, account: &mut shape::Account) {
        let at = &self.account.at;
        match (self.account.kind.as_str(), self.has("starttls")) {
            ("pop3s", _) => {}
            (_, true) => account.set("tls", Value::bare("starttls")),
            (_, false) => {
                account.set("tls", Value::bare("none"));
                if self.account.pipe.is_none() {
                    account.note(
                        at,
                        "nothing protects this connection: try `tls: implicit`, or `tls: starttls`",
                    );
                }
                return;
            }
        }
        if self.option("verify-certificates").is_none() || self.has("no-verify") {
            account.note(at, format!("fdm verifies no certificate unless it is told to; {VERIFIED}"));
        }
        if self.has("insecure") {
            account.note(at, "`insecure`: TLS 1.2 is the least that is spoken");
        }
    }

    fn login(&self, account: &mut shape::Account) {
        match (self.is_protected(), self.has("no-apop")) {
            (true, _) => {}
            (false, true) => account.set("auth", Value::words(["user-pass"])),
            (false, false) => account.set("auth", Value::words(["apop", "user-pass"])),
        }
        match self.account.server.as_ref().and_then(|server| server.pass.as_ref()) {
            Some(Text::Plain(password)) => {
                account.set("password", Value::Secret(Secret::new(password.as_str())));
            }
            Some(Text::Command(command)) => {
                account.set("password", Value::of("command", Value::text(command)));
            }
            Some(Text::Mixed) => {
                account.note(
                    &self.account.at,
                    "`pass`: put together of what commands print: write one command that prints it",
                );
                account.disable("then remove this line");
            }
            None => account.set("password", Value::of("netrc", Value::text("~/.netrc"))),
        }
    }

    fn list(&self, account: &mut shape::Account) {
        match &self.account.only {
            Some((which, path)) => {
                if which == "old-only" {
                    account.note(&self.account.at, "`old-only`: no counterpart: what is not recorded is fetched");
                    account.disable("that is the other half of the maildrop: see to it, and remove this line");
                }
                let user = |key| match account.get(key) {
                    Some(Value::Text(text)) => text.clone(),
                    _ => String::new(),
                };
                let (host, user) = (user("host"), user("user"));
                let path = match path {
                    Text::Plain(path) => self.path(path),
                    Text::Command(_) | Text::Mixed => {
                        let what = "the path of the cache is evaluated: name it with `--list`";
                        account.note(&self.account.at, what);
                        PathBuf::from("file whose name a command prints")
                    }
                };
                account.seen = Some(SeenList { list: List::Fdm, path, host, user });
            }
            None => account.note(
                &self.account.at,
                "no `new-only cache`: fdm knows nothing of what it fetched; what it left on the server comes again, unless \
                 `postrider seen mark --all` takes it as fetched",
            ),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.around.absolute(&path.replace("%h", &self.around.home.to_string_lossy()))
    }
}
