//! What a configuration says that may be right, and probably is not: for `config check`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::command_line::program;
use super::error::Mistake;
use super::places::Places;
use super::rows::Kind;
use super::show::{Known, known};
use super::tree::{self, Content, Entry, Node, Position};
use crate::seal::is_key;

/// What a key of `secrets_key` is.
const KEY: &str = "it must be 32 octets in base64, as `openssl rand -base64 32` prints them";

/// What is probably not meant.
#[derive(Debug, Default)]
pub struct Warnings {
    /// In the order of the file.
    pub told: Vec<Mistake>,
    /// What is outside. Whoever looks may have to wait for ever.
    pub outside: Vec<(Outside, Mistake)>,
}

/// Something outside of the configuration that must be there, and is a mistake of the configuration if it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// A file or directory.
    File(PathBuf),
    /// What, if it is there, is no directory.
    NoDirectory(PathBuf),
    /// A file that, if it is there, has a block of PEM of this kind.
    Pem(PathBuf, &'static str),
    /// A file that, if it is there, is a key of `secrets_key`.
    Key(PathBuf),
    User(String),
}

/// Finds what is probably not meant in a configuration that is sound otherwise; nothing if it cannot be read.
pub fn warnings(path: &Path) -> Warnings {
    let Ok(octets) = fs::read(path).map(Zeroizing::new) else { return Warnings::default() };
    let Ok(text) = str::from_utf8(&octets) else { return Warnings::default() };
    of_text(text, &Places::of_process())
}

fn of_text(text: &str, places: &Places) -> Warnings {
    let Ok(Some(root)) = tree::parse(text) else { return Warnings::default() };
    let warnings = Warnings::default();
    let mut found = Found { lines: text.lines().collect(), places, known: known(), warnings };
    found.below("", &root);
    let entry = |key| entries(&root).iter().find(|entry| entry.key == key);
    let defaults = entry("defaults").map(|entry| &entry.value);
    for account in entry("accounts").map_or(&[][..], |accounts| entries(&accounts.value)) {
        found.port(&format!("accounts.{}", account.key), &account.value, defaults, "implicit");
    }
    found.warnings.told.sort_by_key(|warning| (warning.line, warning.column));
    found.warnings
}

struct Found<'t> {
    lines: Vec<&'t str>,
    places: &'t Places,
    known: Vec<Known>,
    warnings: Warnings,
}

impl Found<'_> {
    /// Looks at a value and everything below it.
    fn below(&mut self, path: &str, node: &Node<'_>) {
        match &node.content {
            Content::List(items) => items.iter().for_each(|item| self.below(path, item)),
            Content::Mapping(entries) => {
                for entry in entries {
                    let path =
                        if path.is_empty() { entry.key.to_string() } else { format!("{path}.{}", entry.key) };
                    self.one(&path, entry);
                    self.below(&path, &entry.value);
                }
            }
            Content::Plain(_) | Content::Quoted(_) => {}
        }
    }

    fn one(&mut self, path: &str, entry: &Entry<'_>) {
        let value = &entry.value;
        let kind = self.kind(path, &entry.key);
        let text = |what| value.text(what).ok();
        let file = match kind {
            Kind::Inside => None,
            Kind::Text | Kind::LocalUser => {
                if self.loses_its_tail(value) {
                    let what = "ends before the `#`, which begins a comment: put the whole value into quotes if that belongs to it";
                    self.warn(value.at, path, what.to_owned());
                }
                if let Some(user) = text("a user").filter(|_| kind == Kind::LocalUser) {
                    let what = format!("the user {user} is not there");
                    self.outside(value.at, path, Outside::User(user.to_owned()), what);
                }
                None
            }
            Kind::Server(begins) => {
                self.port(path, value, None, begins);
                None
            }
            Kind::SealingKeys => {
                self.keys(path, value);
                None
            }
            Kind::File | Kind::Pem(_) | Kind::NewFile => text("a path").map(str::to_owned),
            // What is looked for in `PATH` may be elsewhere for whoever runs this.
            Kind::Command => run_by(value).filter(|file| file.starts_with(['/', '~'])),
        };
        let Some(Ok(file)) = file.map(|file| self.places.expand(&file)) else { return };
        let file = match file.parent() {
            Some(directory) if kind == Kind::NewFile => directory.to_owned(),
            Some(_) | None => file,
        };
        if let Kind::Pem(begins) = kind {
            let what = format!(
                "{} holds nothing in PEM that begins with -----BEGIN ... {begins}-----",
                file.display()
            );
            self.outside(value.at, path, Outside::Pem(file.clone(), begins), what);
        }
        if kind != Kind::NewFile {
            let what = format!("{} is a directory", file.display());
            self.outside(value.at, path, Outside::NoDirectory(file.clone()), what);
        }
        let what = format!("{} is not there", file.display());
        self.outside(value.at, path, Outside::File(file), what);
    }

    /// Gives what kind of value a key has: that of the known key whose path ends most like this one.
    fn kind(&self, path: &str, key: &str) -> Kind {
        let alike = |known: &&Known| {
            let parts = known.under.trim_end_matches('.').rsplit('.');
            path.rsplit('.').skip(1).zip(parts).take_while(|(part, known)| part == known).count()
        };
        let named = self.known.iter().filter(|known| known.name == key);
        named.rev().max_by_key(alike).map_or(Kind::Inside, |known| known.kind)
    }

    /// Looks at keys that seal secrets, as far as that takes no command.
    fn keys(&mut self, path: &str, keys: &Node<'_>) {
        let all = match &keys.content {
            Content::List(items) => items.iter().collect(),
            Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_) => vec![keys],
        };
        for key in all {
            let from = |name: &str| {
                let source = entries(key).iter().find(|entry| entry.key == name);
                source.and_then(|entry| entry.value.text("a text").ok())
            };
            let file = match (from("file"), from("credential")) {
                (Some(file), _) => self.places.expand(file).ok(),
                (None, Some(name)) => {
                    env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(name))
                }
                (None, None) => None,
            };
            if let Some(file) = file {
                let what = format!("{} holds no key: {KEY}", file.display());
                self.outside(key.at, path, Outside::Key(file), what);
            }
            let own = from("env").map_or_else(
                || key.text("a key").ok().map(|text| text.as_bytes().to_vec()),
                |name| Some(env::var_os(name).unwrap_or_default().into_encoded_bytes()),
            );
            if own.map(Zeroizing::new).is_some_and(|own| !is_key(&own)) {
                self.warn(key.at, path, format!("is no key: {KEY}"));
            }
        }
    }

    /// Says whether a comment follows a text without quotes, which may go on over several lines.
    fn loses_its_tail(&self, value: &Node<'_>) -> bool {
        let Content::Plain(text) = &value.content else { return false };
        let mut rest = &**text;
        for (at, line) in self.lines.iter().enumerate().skip(value.at.line.saturating_sub(1)) {
            let skipped = if at + 1 == value.at.line { value.at.column.saturating_sub(1) } else { 0 };
            let part: String = line.chars().skip(skipped).collect();
            let part = part.trim_start();
            if let Some(tail) = part.strip_prefix(rest) {
                let comment = tail.trim_start();
                return comment.len() < tail.len() && comment.starts_with('#');
            }
            // Where a line ends there is a blank, or a line end where some are empty.
            match rest.strip_prefix(part.trim_end()) {
                Some(more) => rest = more.trim_start(),
                None => return false,
            }
        }
        false
    }

    /// Compares the port with how the connection begins.
    fn port(&mut self, path: &str, server: &Node<'_>, defaults: Option<&Node<'_>>, begins: &str) {
        let own = |key: &str| entries(server).iter().find(|entry| entry.key == key);
        let shared =
            |key: &str| defaults.and_then(|defaults| entries(defaults).iter().find(|entry| entry.key == key));
        let text = |entry: &Entry<'_>| entry.value.text("").unwrap_or_default().to_owned();
        let Some(port) = own("port").or_else(|| shared("port")) else { return };
        let mode = own("tls").or_else(|| shared("tls")).map_or_else(|| begins.to_owned(), text);
        let what = match (text(port).as_str(), mode.as_str()) {
            ("110" | "143" | "25" | "587", "implicit") => "without TLS: write `tls: starttls`",
            ("995" | "993" | "465", "none" | "starttls") => "with TLS: write `tls: implicit`",
            _ => return,
        };
        let what = format!("is {}, where servers begin {what}, or leave out the port", text(port));
        self.warn(port.value.at, &format!("{path}.port"), what);
    }

    fn outside(&mut self, at: Position, path: &str, outside: Outside, what: String) {
        self.warnings.outside.push((outside, mistake(at, path, what)));
    }

    fn warn(&mut self, at: Position, path: &str, what: String) {
        self.warnings.told.push(mistake(at, path, what));
    }
}

/// Gives the program that a command runs.
fn run_by(command: &Node<'_>) -> Option<String> {
    match &command.content {
        Content::List(words) => words.first()?.text("a program").map(str::to_owned).ok(),
        Content::Plain(line) | Content::Quoted(line) => Some(program(line)),
        Content::Mapping(_) => None,
    }
}

fn mistake(at: Position, path: &str, what: String) -> Mistake {
    Mistake { line: at.line, column: at.column, path: path.to_owned(), what }
}

fn entries<'n, 't>(node: &'n Node<'t>) -> &'n [Entry<'t>] {
    match &node.content {
        Content::Mapping(entries) => entries,
        Content::Plain(_) | Content::Quoted(_) | Content::List(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(warning: &Mistake) -> String {
        format!("{}: {}: {}", warning.line, warning.path, warning.what)
    }

    fn told(text: &str) -> Vec<String> {
        of_text(text, &Places::default()).told.iter().map(shown).collect()
    }

    #[test]
    fn a_comment_behind_a_password_is_told_and_one_elsewhere_is_not() {
        let tail = "ends before the `#`, which begins a comment: put the whole value into quotes if that belongs to it";
        let text = "accounts:\n  a:\n    password: abc #123\n    user: 'x' #1\n    host: h # here\n";
        assert_eq!(told(text), [format!("3: accounts.a.password: {tail}")]);
        let text = "accounts:\n  a: { password: abc#123, deliver: { smtp: { user: ä #1\n } } }\n";
        assert_eq!(told(text), [format!("2: accounts.a.deliver.smtp.user: {tail}")]);
        let text = "accounts:\n  a:\n    oauth2:\n      client_secret: abc #1\n      client_id: abc #1\n";
        assert_eq!(told(text), [format!("4: accounts.a.oauth2.client_secret: {tail}")]);
        // It may go on over several lines.
        for password in ["abc\n      def #123", "\n      abc\n\n      def  # 123", "ab\n      cd\n      ef #"]
        {
            let text = format!("accounts:\n  a:\n    password: {password}\n    user: x\n");
            assert_eq!(told(&text).len(), 1, "{password}");
        }
        let text = "accounts:\n  a:\n    password: abc\n      def#1\n      ghi\n    user: x # here\n";
        assert_eq!(told(text).len(), 1, "of the user alone");
    }

    #[test]
    fn files_that_must_be_there_are_found_wherever_they_are_named() {
        for (yaml, path) in [
            ("tls_ca: FILE", "tls_ca"),
            ("tls_client_cert: FILE", "tls_client_cert"),
            ("tls_client_key: FILE", "tls_client_key"),
            ("password: { file: FILE }", "password.file"),
            ("password: { netrc: FILE }", "password.netrc"),
            ("deliver: { lmtp: { socket: FILE } }", "deliver.lmtp.socket"),
            ("deliver: { mbox: FILE }", "deliver.mbox"),
            ("password: { command: [FILE, -x] }", "password.command"),
            ("deliver: { pipe: A=b FILE -d alice }", "deliver.pipe"),
            ("deliver: { pipe: { command: FILE } }", "deliver.pipe.command"),
            ("connect: [FILE, host]", "connect"),
            ("hooks: { on_error: FILE }", "hooks.on_error"),
            ("oauth2: { client_key: FILE }", "oauth2.client_key"),
            ("deliver: { http: { headers: { X-Key: { file: FILE } } } }", "deliver.http.headers.X-Key.file"),
        ] {
            let text = format!("accounts:\n  a:\n    {}\n", yaml.replace("FILE", "/nowhere/x"));
            let Warnings { told, mut outside } = of_text(&text, &Places::default());
            outside.retain(|(outside, _)| matches!(outside, Outside::File(_)));
            let [(file, missing)] = outside.as_slice() else { panic!("{yaml}: {outside:?}") };
            let there = if yaml.contains("mbox") { "/nowhere" } else { "/nowhere/x" };
            assert_eq!((told.len(), file), (0, &Outside::File(there.into())), "{yaml}");
            assert_eq!(shown(missing), format!("3: accounts.a.{path}: {there} is not there"));
        }
    }

    #[test]
    fn a_port_of_the_other_way_to_begin_is_told() {
        for (keys, count) in [
            ("port: 110", 1),
            ("port: 110, tls: implicit", 1),
            ("port: 995, tls: starttls", 1),
            ("port: 995, tls: none", 1),
            ("port: 110, tls: starttls", 0),
            ("port: 995", 0),
            ("port: 1110", 0),
        ] {
            assert_eq!(told(&format!("accounts: {{ a: {{ {keys} }} }}")).len(), count, "{keys}");
        }
        assert_eq!(told("defaults: { tls: none }\naccounts: { a: { port: 995 } }").len(), 1);
    }

    #[test]
    fn a_port_of_a_target_that_begins_otherwise_is_told() {
        for (target, count) in [
            ("smtp: { port: 465 }", 1),
            ("smtp: { port: 465, tls: implicit }", 0),
            ("smtp: { port: 587, tls: implicit }", 1),
            ("smtp: { port: 587, tls: starttls }", 0),
            ("smtp: { port: 25 }", 0),
            ("imap: { port: 143 }", 1),
            ("imap: { port: 993, tls: starttls }", 1),
            ("imap: { port: 993 }", 0),
        ] {
            let text = format!("accounts:\n  a: {{ deliver: {{ {target} }} }}\n");
            assert_eq!(told(&text).len(), count, "{target}");
        }
    }
}
