//! The statements of a run control file.

use std::path::Path;

use super::super::cursor::{At, Wrong, shown};
use super::lex::{Token, Word, words};

/// A whole file.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) globals: Vec<Setting>,
    pub(super) defaults: Option<Server>,
    pub(super) servers: Vec<Server>,
}

/// A `poll`, `skip` or `defaults` with what follows it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) skipped: bool,
    pub(super) settings: Vec<Setting>,
    pub(super) users: Vec<User>,
}

/// The settings of one mailbox.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) at: Option<At>,
    pub(super) settings: Vec<Setting>,
}

/// An option that was given.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) at: At,
    pub(super) key: &'static str,
    pub(super) given: Given,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// Written, or with `no` before it.
    Flag(bool),
    Text(String),
    Number(i64),
    Texts(Vec<String>),
    Numbers(Vec<i64>),
    /// Local names; for a mapped one the remote name comes first.
    Names(Vec<(String, Option<String>)>),
    /// How many headers are passed over, and the name of the header.
    Envelope(usize, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing, and `no` may stand before it.
    Flag,
    /// Nothing.
    Only,
    Text,
    Number,
    TextOrNumber,
    Texts,
    Numbers,
    Protocol,
    Auth,
    Envelope,
    Header,
}

const GLOBAL: &[(&str, Takes)] = &[
    ("logfile", Takes::Text),
    ("idfile", Takes::Text),
    ("pidfile", Takes::Text),
    ("daemon", Takes::Number),
    ("postmaster", Takes::Text),
    ("bouncemail", Takes::Flag),
    ("spambounce", Takes::Flag),
    ("softbounce", Takes::Flag),
    ("properties", Takes::Text),
    ("syslog", Takes::Flag),
    ("invisible", Takes::Flag),
    ("showdots", Takes::Flag),
];

const SERVER: &[(&str, Takes)] = &[
    ("aka", Takes::Texts),
    ("via", Takes::Text),
    ("local", Takes::Texts),
    ("protocol", Takes::Protocol),
    ("principal", Takes::Text),
    ("esmtpname", Takes::Text),
    ("esmtppassword", Takes::Text),
    ("uidl", Takes::Flag),
    ("checkalias", Takes::Flag),
    ("service", Takes::TextOrNumber),
    ("port", Takes::Number),
    ("interval", Takes::Number),
    ("auth", Takes::Auth),
    ("timeout", Takes::Number),
    ("idletimeout", Takes::Number),
    ("envelope", Takes::Envelope),
    ("qvirtual", Takes::Text),
    ("interface", Takes::Text),
    ("monitor", Takes::Text),
    ("plugin", Takes::Text),
    ("plugout", Takes::Text),
    ("dns", Takes::Flag),
    ("tracepolls", Takes::Flag),
    ("bad-header", Takes::Header),
];

const USER: &[(&str, Takes)] = &[
    ("pass", Takes::Text),
    ("folder", Takes::Texts),
    ("smtphost", Takes::Texts),
    ("fetchdomains", Takes::Texts),
    ("smtpaddress", Takes::Text),
    ("smtpname", Takes::Text),
    ("antispam", Takes::Numbers),
    ("mda", Takes::Text),
    ("bsmtp", Takes::Text),
    ("lmtp", Takes::Only),
    ("preconnect", Takes::Text),
    ("postconnect", Takes::Text),
    ("keep", Takes::Flag),
    ("flush", Takes::Flag),
    ("limitflush", Takes::Flag),
    ("fetchall", Takes::Flag),
    ("rewrite", Takes::Flag),
    ("forcecr", Takes::Flag),
    ("stripcr", Takes::Flag),
    ("pass8bits", Takes::Flag),
    ("dropstatus", Takes::Flag),
    ("dropdelivered", Takes::Flag),
    ("mimedecode", Takes::Flag),
    ("idle", Takes::Flag),
    ("forceidle", Takes::Flag),
    ("ssl", Takes::Flag),
    ("sslkey", Takes::Text),
    ("sslcert", Takes::Text),
    ("sslproto", Takes::Text),
    ("sslcertck", Takes::Flag),
    ("sslcertfile", Takes::Text),
    ("sslcertpath", Takes::Text),
    ("sslcommonname", Takes::Text),
    ("sslfingerprint", Takes::Text),
    ("limit", Takes::Number),
    ("warnings", Takes::Number),
    ("fetchlimit", Takes::Number),
    ("fetchsizelimit", Takes::Number),
    ("fastuidl", Takes::Number),
    ("batchlimit", Takes::Number),
    ("expunge", Takes::Number),
    ("properties", Takes::Text),
];

struct Parser<'p> {
    file: &'p Path,
    tokens: Vec<Token>,
    next: usize,
    end: At,
}

/// Reads a run control file.
pub(super) fn parse(file: &Path, text: &str) -> Result<Parsed, Wrong> {
    // fetchmail refuses a byte order mark, too, and says less of it.
    let (tokens, end) = words(text);
    let mut parser = Parser { file, tokens, next: 0, end };
    let mut parsed = Parsed::default();
    while let Some(at) = parser.at() {
        match parser.key() {
            Some("set") => {
                parser.next += 1;
                let setting = parser.setting(GLOBAL, "an option of the whole program")?;
                parsed.globals.push(setting);
            }
            Some(key @ ("poll" | "skip")) => {
                parser.next += 1;
                let name = parser.text("the name of a server")?;
                let skipped = key == "skip";
                parsed.servers.push(Server { skipped, ..parser.server(at, name)? });
            }
            Some("defaults") => {
                parser.next += 1;
                let server = parser.server(at.clone(), String::new())?;
                if !parsed.servers.is_empty() || parsed.defaults.is_some() {
                    return Err(Wrong::new(
                        file,
                        &at,
                        "`defaults` must come once, before every `poll` and `skip`",
                    ));
                }
                parsed.defaults = Some(server);
            }
            _ => return Err(parser.expected("`poll`, `skip`, `defaults` or `set`")),
        }
    }
    Ok(parsed)
}

impl Parser<'_> {
    fn server(&mut self, at: At, name: String) -> Result<Server, Wrong> {
        let mut server = Server { at, name, skipped: false, settings: Vec::new(), users: Vec::new() };
        while self.begins(SERVER) {
            server.settings.push(self.setting(SERVER, "an option of a server")?);
        }
        if self.begins(USER) || matches!(self.key(), Some("is" | "to")) {
            server.users.push(self.user()?);
        } else {
            while self.key() == Some("user") {
                server.users.push(self.user()?);
            }
        }
        if self.begins(SERVER) {
            let wrong = "is an option of the server, which must stand before the first option of a user";
            return Err(self.wrong(&format!("{} {wrong}", self.found())));
        }
        if server.users.len() == 1 && self.key() == Some("user") {
            return Err(self.wrong("`user` must come before the other options of a user"));
        }
        Ok(server)
    }

    /// Reads the options of one mailbox up to the next `user`.
    fn user(&mut self) -> Result<User, Wrong> {
        let mut user = User { at: self.at(), settings: Vec::new() };
        if self.key() == Some("user") {
            user.settings.push(self.named_user()?);
        }
        loop {
            if matches!(self.key(), Some("is" | "to")) {
                user.settings.push(self.names()?);
            } else if self.begins(USER) {
                user.settings.push(self.setting(USER, "an option of a user")?);
            } else {
                return Ok(user);
            }
        }
    }

    /// `user NAME [there]`, or `user NAMES here`.
    fn named_user(&mut self) -> Result<Setting, Wrong> {
        let at = self.at().unwrap_or_else(|| self.end.clone());
        self.next += 1;
        let names = self.mapping_list()?;
        if self.key() == Some("here") {
            self.next += 1;
            return Ok(Setting { at, key: "names", given: Given::Names(names) });
        }
        if self.key() == Some("there") {
            self.next += 1;
        }
        match names.as_slice() {
            [(name, None)] => Ok(Setting { at, key: "user", given: Given::Text(name.clone()) }),
            _ => Err(self.expected("`here` after several names of users")),
        }
    }

    /// `is NAMES [here]`, `to NAMES [here]`, or `is NAME there`.
    fn names(&mut self) -> Result<Setting, Wrong> {
        let (at, key) = (self.at().unwrap_or_else(|| self.end.clone()), self.key());
        self.next += 1;
        let names = self.mapping_list()?;
        match (self.key(), names.as_slice()) {
            (Some("there"), [(name, None)]) if key == Some("is") => {
                self.next += 1;
                return Ok(Setting { at, key: "user", given: Given::Text(name.clone()) });
            }
            (Some("there"), _) => return Err(self.expected("another option")),
            (Some("here"), _) => self.next += 1,
            _ => {}
        }
        Ok(Setting { at, key: "names", given: Given::Names(names) })
    }

    fn mapping_list(&mut self) -> Result<Vec<(String, Option<String>)>, Wrong> {
        let mut names = vec![self.mapping()?];
        while matches!(self.word(), Some(Word::Text(_))) {
            names.push(self.mapping()?);
        }
        Ok(names)
    }

    fn mapping(&mut self) -> Result<(String, Option<String>), Wrong> {
        let name = self.text("a name")?;
        if self.word() != Some(&Word::Map) {
            return Ok((name, None));
        }
        self.next += 1;
        Ok((name, Some(self.text("a local name")?)))
    }

    /// Reads an option with what it takes.
    fn setting(&mut self, known: &[(&'static str, Takes)], what: &str) -> Result<Setting, Wrong> {
        let at = self.at().unwrap_or_else(|| self.end.clone());
        let negated = self.key() == Some("no");
        self.next += usize::from(negated);
        let found = self.key().and_then(|key| known.iter().find(|(name, _)| *name == key));
        let Some((key, takes)) = found else { return Err(self.expected(what)) };
        if negated && *takes != Takes::Flag && *key != "envelope" {
            return Err(self.expected(&format!("{what} that `no` can stand before")));
        }
        self.next += 1;
        // The options of the whole program may have an equals sign.
        if known == GLOBAL && self.word() == Some(&Word::Map) {
            self.next += 1;
        }
        let given = match takes {
            Takes::Flag => Given::Flag(!negated),
            Takes::Only => Given::Flag(true),
            Takes::Envelope if negated => Given::Flag(false),
            takes => self.given(*takes)?,
        };
        Ok(Setting { at, key, given })
    }

    fn given(&mut self, takes: Takes) -> Result<Given, Wrong> {
        Ok(match takes {
            Takes::Flag | Takes::Only => Given::Flag(true),
            Takes::Text => Given::Text(self.text("a text; one that is a number or a keyword wants quotes")?),
            Takes::Number => Given::Number(self.number("a number")?),
            Takes::TextOrNumber => match self.word() {
                Some(Word::Number(_)) => Given::Number(self.number("a number")?),
                _ => Given::Text(self.text("a port, or the name of a service")?),
            },
            Takes::Texts => {
                let mut texts = vec![self.text("a text")?];
                while matches!(self.word(), Some(Word::Text(_))) {
                    texts.push(self.text("a text")?);
                }
                Given::Texts(texts)
            }
            Takes::Numbers => {
                let mut numbers = vec![self.number("a number")?];
                while matches!(self.word(), Some(Word::Number(_))) {
                    numbers.push(self.number("a number")?);
                }
                Given::Numbers(numbers)
            }
            Takes::Protocol => match self.word() {
                Some(Word::Protocol(name) | Word::Key(name @ ("sdps" | "kpop"))) => {
                    let name = (*name).to_owned();
                    self.next += 1;
                    Given::Text(name)
                }
                _ => return Err(self.expected("a protocol, all in lower or all in upper case")),
            },
            Takes::Auth => match self.word() {
                Some(Word::Auth(name)) => {
                    let name = (*name).to_owned();
                    self.next += 1;
                    Given::Text(name)
                }
                _ => return Err(self.expected("a way to log in, such as `password` or `any`")),
            },
            Takes::Envelope => {
                let skipped = match self.word() {
                    Some(Word::Number(_)) => self.number("a number")?,
                    _ => 0,
                };
                let header = self.text("the name of a header")?;
                Given::Envelope(usize::try_from(skipped).unwrap_or_default(), header)
            }
            Takes::Header => match self.key() {
                Some(key @ ("accept" | "reject")) => {
                    self.next += 1;
                    Given::Text(key.to_owned())
                }
                _ => return Err(self.expected("`accept` or `reject`")),
            },
        })
    }

    fn begins(&self, known: &[(&str, Takes)]) -> bool {
        let key = match self.key() {
            Some("no") => match self.tokens.get(self.next + 1).map(|token| &token.word) {
                Some(Word::Key(key)) => Some(*key),
                _ => None,
            },
            key => key,
        };
        key.is_some_and(|key| known.iter().any(|(name, _)| *name == key))
    }

    fn word(&self) -> Option<&Word> {
        self.tokens.get(self.next).map(|token| &token.word)
    }

    fn key(&self) -> Option<&'static str> {
        match self.word() {
            Some(Word::Key(key)) => Some(key),
            _ => None,
        }
    }

    fn at(&self) -> Option<At> {
        self.tokens.get(self.next).map(|token| token.at.clone())
    }

    fn text(&mut self, what: &str) -> Result<String, Wrong> {
        let Some(Word::Text(text)) = self.word() else { return Err(self.expected(what)) };
        let text = text.clone();
        self.next += 1;
        Ok(text)
    }

    fn number(&mut self, what: &str) -> Result<i64, Wrong> {
        let Some(Word::Number(number)) = self.word() else { return Err(self.expected(what)) };
        let number = *number;
        self.next += 1;
        Ok(number)
    }

    fn expected(&self, what: &str) -> Wrong {
        self.wrong(&format!("{} where {what} was expected", self.found()))
    }

    fn wrong(&self, what: &str) -> Wrong {
        Wrong::new(self.file, &self.at().unwrap_or_else(|| self.end.clone()), what)
    }

    /// Names the next word. A text may be a password that stands in the wrong place.
    fn found(&self) -> String {
        match self.word() {
            None => "the end of the file".to_owned(),
            Some(Word::Key(key) | Word::Protocol(key) | Word::Auth(key)) => shown(key),
            Some(Word::Number(_)) => "a number".to_owned(),
            Some(Word::Text(_)) => "a text".to_owned(),
            Some(Word::Map) => "`=`".to_owned(),
        }
    }
}
