//! What mpop's configuration says, said in ours.

mod parse;

use std::path::{Path, PathBuf};

use super::around::Around;
use super::cursor::{At, Wrong};
use super::place::is_here;
use super::seen::{List, SeenList};
use super::shape::{Account, Imported, VERIFIED, Value};
use super::words::{Stand, in_shell};
use crate::secret::Secret;
use parse::{Section, Setting, duration, sections, size};

/// What is told of a command that has no counterpart.
const TOLD: &[(&str, &str)] = &[
    ("ntlmdomain", "NTLM is no way to log in here"),
    ("tls_crl_file", "lists of revoked certificates are not read"),
    ("tls_priorities", "TLS 1.2 and 1.3 with today's ciphers are spoken; `tls_min: '1.3'` leaves 1.3"),
    ("tls_min_dh_prime_bits", "no prime is negotiated by the ciphers that are spoken"),
    ("tls_force_sslv3", "TLS 1.2 is the least that is spoken"),
    (
        "filter",
        "no counterpart: what is new is fetched whole; a `pipe` may look at it, and 67 or the like has it held",
    ),
    ("eval", "commands that a line is made of are not run here: write what they print"),
];

pub(super) fn read(file: &Path, text: &str, around: &Around) -> Result<Imported, Wrong> {
    let mut imported = Imported::default();
    for section in sections(file, text)? {
        let reading = Reading { section: &section, around };
        imported.accounts.push(reading.account());
    }
    let mut known: Vec<(String, String)> = Vec::new();
    for account in &mut imported.accounts {
        let Some(maildrop) = account.maildrop() else { continue };
        match known.iter().find(|(other, _)| *other == maildrop) {
            Some((_, other)) if account.name == "default" => {
                account.leave_out(format!(
                    "another name of {other}; without a name all accounts are polled here"
                ));
            }
            Some(_) => {}
            None => known.push((maildrop, account.name.clone())),
        }
    }
    Ok(imported)
}

/// One account that becomes one of ours.
struct Reading<'r> {
    section: &'r Section,
    around: &'r Around,
}

impl Reading<'_> {
    fn find(&self, key: &str) -> Option<&Setting> {
        self.section.settings.iter().rfind(|setting| setting.key == key)
    }

    /// Gives an argument, unless it is empty, which unsets it.
    fn text(&self, key: &str) -> Option<&str> {
        self.find(key).map(|setting| setting.argument.as_str()).filter(|argument| !argument.is_empty())
    }

    fn switch(&self, key: &str) -> Option<bool> {
        self.text(key).map(|argument| argument == "on")
    }

    fn path(&self, text: &str) -> PathBuf {
        self.around.absolute(text)
    }

    fn account(&self) -> Account {
        let mut account = Account::new(&self.section.name, self.section.at.clone());
        let host = self.text("host").or(self.text("socket").map(|_| "localhost"));
        account.set_given("host", host.map(Value::text));
        account.set_given("port", self.text("port").map(Value::bare));
        account.set_given("user", self.text("user").map(Value::text));
        self.tls(&mut account);
        self.login(&mut account);
        self.connection(&mut account);
        self.disposal(&mut account);
        self.deliver(&mut account);
        for (key, what) in TOLD {
            if let Some(setting) = self.find(key).filter(|setting| !["", "off"].contains(&&*setting.argument))
            {
                account.note(&setting.at, format!("`{key}`: {what}"));
            }
        }
        if let (Some(host), Some(user)) = (self.text("socket").or(host), self.text("user")) {
            let list = self.text("uidls_file").unwrap_or("~/.mpop_uidls/%U_at_%H");
            let path = self.path(&list.replace("%U", user).replace("%H", host));
            account.seen =
                Some(SeenList { list: List::Mpop, path, host: host.to_owned(), user: user.to_owned() });
        }
        account
    }

    /// Says whether TLS protects the connection.
    fn is_protected(&self) -> bool {
        self.switch("tls") == Some(true)
    }

    fn tls(&self, account: &mut Account) {
        match (self.is_protected(), self.switch("tls_starttls") != Some(false)) {
            (true, false) => {}
            (true, true) => account.set("tls", Value::bare("starttls")),
            (false, _) => {
                account.set("tls", Value::bare("none"));
                if self.text("socket").is_none() {
                    account
                        .remark("nothing protects this connection: try `tls: implicit`, or `tls: starttls`");
                }
                return;
            }
        }
        match self.text("tls_trust_file") {
            Some("system" | "off") | None => {}
            Some(file) => account.set("tls_ca", Value::text(self.path(file).to_string_lossy())),
        }
        if let Some(setting) = self.find("tls_fingerprint").filter(|setting| !setting.argument.is_empty()) {
            let digits: String = setting.argument.chars().filter(|c| *c != ':').collect();
            match digits.len() {
                64 => account.set("tls_pin", Value::text(format!("sha256:{}", digits.to_ascii_lowercase()))),
                _ => account.note(
                    &setting.at,
                    "`tls_fingerprint`: only SHA-256 pins a certificate here: `openssl x509 -noout -fingerprint -sha256` \
                     prints it, for `tls_pin: sha256:...`",
                ),
            }
        }
        if let (Some(setting), Some(false)) = (self.find("tls_certcheck"), self.switch("tls_certcheck")) {
            account.note(&setting.at, format!("`tls_certcheck off`: {VERIFIED}"));
        }
        self.client(account);
        account.set_given("tls_server_name", self.text("tls_host_override").map(Value::text));
    }

    fn client(&self, account: &mut Account) {
        let (Some(setting), Some(key)) = (self.find("tls_cert_file"), self.text("tls_key_file")) else {
            return;
        };
        if [setting.argument.as_str(), key].iter().any(|file| file.starts_with("pkcs11:")) {
            let what = "`tls_cert_file`: keys on tokens (PKCS#11) are not read: name files";
            return account.note(&setting.at, what);
        }
        for (name, file) in [("tls_client_cert", setting.argument.as_str()), ("tls_client_key", key)] {
            account.set(name, Value::text(self.path(file).to_string_lossy()));
        }
    }

    fn login(&self, account: &mut Account) {
        let is_protected = self.is_protected();
        let auth = self.text("auth").unwrap_or("on");
        let here = self.text("host").is_some_and(is_here);
        let mechanisms: &[&str] = match auth {
            "on" if is_protected => &[],
            "on" => &["scram-sha-256", "scram-sha-1", "cram-md5", "apop"],
            "user" => &["user-pass"],
            "plain" => &["plain"],
            "login" => &["login"],
            "cram-md5" => &["cram-md5"],
            "apop" => &["apop"],
            "external" => &["external"],
            "scram-sha-1" => &["scram-sha-1"],
            "scram-sha-256" => &["scram-sha-256"],
            "scram-sha-256-plus" => &["scram-sha-256-plus"],
            _ if is_protected => &[],
            _ => &["user-pass"],
        };
        if !mechanisms.is_empty() {
            account.set("auth", Value::words(mechanisms.iter().copied()));
        }
        let at = self.find("auth").map_or(&self.section.at, |setting| &setting.at);
        match auth {
            "oauthbearer" | "xoauth2" => return self.token(account, at),
            "digest-md5" | "ntlm" | "gssapi" | "scram-sha-1-plus" => {
                account.note(
                    at,
                    format!("`auth {auth}`: no such way to log in; the best that is offered is taken"),
                );
                if !is_protected && !here {
                    account.disable("without TLS that would be the password itself: look at `auth` first");
                }
            }
            _ => {}
        }
        match (self.text("password"), self.text("passwordeval")) {
            (Some(password), _) => account.set("password", Value::Secret(Secret::new(password))),
            (None, Some(command)) => account.set("password", Value::of("command", Value::text(first_line(command)))),
            (None, None) if self.around.has_netrc => {
                account.set("password", Value::of("netrc", Value::text("~/.netrc")));
            }
            (None, None) if auth == "external" => {}
            (None, None) => account.remark(
                "no password: it is asked for on the terminal; one of a key ring: `{ command: \"secret-tool lookup ...\" }`",
            ),
        }
    }

    /// The command prints an access token.
    fn token(&self, account: &mut Account, at: &At) {
        match self.text("passwordeval") {
            Some(command) => {
                account.set("oauth2", Value::of("token_command", Value::text(first_line(command))));
            }
            None => {
                account.note(at, "`auth`: for OAuth2 write `oauth2: { provider: google }`, or `microsoft`");
                account.disable("write `oauth2`, and remove this line");
            }
        }
    }

    fn connection(&self, account: &mut Account) {
        if let Some(host) = self.text("proxy_host") {
            let port = self.text("proxy_port").unwrap_or("1080");
            account.set("proxy", Value::text(format!("socks5://{host}:{port}")));
        }
        if let Some(socket) = self.text("socket") {
            account.set("connect", Value::texts(["socat", "STDIO", &format!("UNIX-CONNECT:{socket}")]));
            account.remark("`socket`: socat connects to it; it must be installed");
        }
        account.set_given("bind", self.text("source_ip").map(Value::text));
        match self.text("timeout") {
            Some("off") | None => {}
            Some(seconds) => account.set("timeout", Value::seconds(seconds)),
        }
        if let Some(when @ ("on" | "off")) = self.text("pipelining") {
            account.set("pipelining", Value::bare(when));
        }
    }

    fn disposal(&self, account: &mut Account) {
        match self.text("keep").unwrap_or("off") {
            "on" => account.set("keep", Value::bare("forever")),
            "off" => account.set("keep", Value::bare("none")),
            time => match duration(time) {
                Some(seconds) => account.set("keep", Value::bare(format!("{}s", seconds.max(1)))),
                None => account.set("keep", Value::bare("forever")),
            },
        }
        if let (Some(setting), Some(false)) = (self.find("only_new"), self.switch("only_new")) {
            account.note(
                &setting.at,
                "`only_new off`: what is recorded is not fetched again; `postrider seen forget --all` makes the record empty",
            );
        }
        let octets = self.text("skipsize").and_then(size);
        account.set_given("max_size", octets.map(|octets| Value::bare(octets.max(1))));
        if let Some(setting) = self.find("killsize").filter(|setting| setting.argument != "off") {
            account.note(
                &setting.at,
                "`killsize`: nothing is deleted unread; what is over `max_size` stays, and `postrider held discard` deletes it",
            );
        }
    }

    fn deliver(&self, account: &mut Account) {
        let Some(setting) = self.find("delivery") else {
            account.set("deliver", Value::of("maildir", Value::text("~/Mail")));
            return account.disable("no `delivery`: say where this mail goes, and remove this line");
        };
        let (method, argument) = setting.argument.split_once([' ', '\t']).unwrap_or((&setting.argument, ""));
        let argument = argument.trim_start();
        let quoted = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let argument = quoted.unwrap_or(argument);
        let path = || Value::text(self.path(argument).to_string_lossy());
        match method {
            "maildir" | "mbox" => account.set("deliver", Value::of(method, path())),
            "mda" => {
                let command = in_shell(argument, |code| match code {
                    'F' => Some(Stand::Variable("POSTRIDER_FROM")),
                    _ => None,
                });
                account.set("deliver", Value::of("pipe", Value::of("command", Value::text(command))));
            }
            _ => {
                account.set("deliver", Value::of("maildir", Value::text("~/Mail")));
                account.note(&setting.at, "`delivery exchange`: no counterpart for a pickup directory");
                account.disable("say where this mail goes, and remove this line");
            }
        }
        if self.switch("received_header") != Some(false) {
            account.set("received", Value::bare(true));
        }
    }
}

/// mpop takes the first line that a command prints.
fn first_line(command: &str) -> String {
    match command.contains(['|', ';', '\n']) {
        true => format!("{{ {command}; }} | head -n 1"),
        false => format!("{command} | head -n 1"),
    }
}
