//! The statements of fdm.conf.

use std::path::Path;

use super::super::around::Around;
use super::super::cursor::{At, Wrong, shown};
use super::lex::{Lexer, Macro, Text, Token, Word};

/// Blocks within blocks at most.
const DEEPEST: usize = 64;

/// What an action can do.
const THINGS: &[&str] = &[
    "maildir",
    "mbox",
    "exec",
    "pipe",
    "rewrite",
    "write",
    "append",
    "remove-header",
    "remove-headers",
    "add-header",
    "imap",
    "imaps",
    "smtp",
    "lmtp",
    "stdout",
    "tag",
    "add-to-cache",
    "to-cache",
    "remove-from-cache",
    "action",
    "actions",
    "drop",
    "keep",
];

#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) options: Vec<Setting>,
    pub(super) accounts: Vec<Account>,
    pub(super) actions: Vec<Action>,
    pub(super) rules: Vec<Rule>,
}

/// `set OPTION VALUE`
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) at: At,
    pub(super) key: String,
    /// The value, or several, as they stand there; times in seconds, sizes in octets.
    pub(super) values: Vec<Text>,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) disabled: bool,
    pub(super) users: Vec<String>,
    /// `pop3`, `imaps`, `stdin` ...
    pub(super) kind: String,
    /// A command in the place of a server.
    pub(super) pipe: Option<Text>,
    pub(super) server: Option<Server>,
    /// Which mail, and the list of what was fetched.
    pub(super) only: Option<(String, Text)>,
    /// `no-apop`, `keep` and the like, and where each stands.
    pub(super) flags: Vec<(At, String)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) host: Option<Text>,
    pub(super) port: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) pass: Option<Text>,
}

/// `action NAME`, and what it does, one after the other.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) name: String,
    pub(super) users: Vec<String>,
    pub(super) does: Vec<Does>,
}

/// One thing that an action does.
#[derive(Debug, Clone)]
pub(super) struct Does {
    pub(super) at: At,
    /// `maildir`, `pipe`, `drop` ...
    pub(super) what: String,
    pub(super) texts: Vec<Text>,
    pub(super) server: Server,
    pub(super) flags: Vec<String>,
}

/// `match CONDITION ...`
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) at: At,
    pub(super) conditions: Vec<Condition>,
    pub(super) users: Vec<String>,
    pub(super) perform: Perform,
    pub(super) goes_on: bool,
}

#[derive(Debug)]
pub(super) enum Perform {
    /// Actions by name.
    Actions(Vec<String>),
    /// What stands there itself.
    Does(Vec<Does>),
    Rules(Vec<Rule>),
}

#[derive(Debug)]
pub(super) struct Condition {
    /// Whether it is tied to the one before by `or`, else by `and`.
    pub(super) or: bool,
    pub(super) not: bool,
    pub(super) test: Test,
}

#[derive(Debug)]
pub(super) enum Test {
    All,
    /// The account has one of these names.
    Accounts(Vec<String>),
    /// What only the message tells.
    Message,
}

pub(super) struct Parser<'p> {
    lexer: Lexer<'p>,
    peeked: Option<Token>,
}

/// Reads a configuration; `read` gives the files that it includes.
pub(super) fn parse(
    file: &Path,
    text: &str,
    around: &Around,
    read: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Result<Parsed, Wrong> {
    let mut parser = Parser { lexer: Lexer::new(file, text, around, read), peeked: None };
    let mut parsed = Parsed::default();
    loop {
        let token = parser.peek()?.clone();
        match &token.word {
            Word::End => return Ok(parsed),
            Word::Macro(name) => parser.define(&name.clone())?,
            Word::Name(name) => match name.as_str() {
                "set" => parsed.options.push(parser.set()?),
                "account" => parsed.accounts.push(parser.account()?),
                "action" => parsed.actions.push(parser.action()?),
                "match" => parsed.rules.push(parser.rule(DEEPEST)?),
                "cache" => parser.cache()?,
                _ => return Err(parser.expected("`set`, `account`, `action`, `match`, `cache` or a macro")),
            },
            _ => return Err(parser.expected("`set`, `account`, `action`, `match`, `cache` or a macro")),
        }
    }
}

impl Parser<'_> {
    fn peek(&mut self) -> Result<&Token, Wrong> {
        if self.peeked.is_none() {
            self.peeked = Some(self.lexer.next()?);
        }
        Ok(self.peeked.as_ref().expect("it was read"))
    }

    fn take(&mut self) -> Result<Token, Wrong> {
        self.peek()?;
        Ok(self.peeked.take().expect("it was read"))
    }

    fn expected(&mut self, what: &str) -> Wrong {
        let token = match self.take() {
            Ok(token) => token,
            Err(wrong) => return wrong,
        };
        let found = match &token.word {
            Word::Name(name) | Word::Macro(name) => shown(name),
            Word::Text(_) => "a text".to_owned(),
            Word::Number(_) | Word::Evaluated(_) => "a number".to_owned(),
            Word::Mark(mark) => shown(&mark.to_string()),
            Word::Equal => "`==`".to_owned(),
            Word::Unequal => "`!=`".to_owned(),
            Word::End => "the end of the file".to_owned(),
        };
        self.lexer.wrong(&token.at, format!("{found} where {what} was expected"))
    }

    fn is_name(&mut self, names: &[&str]) -> Result<bool, Wrong> {
        Ok(matches!(&self.peek()?.word, Word::Name(name) if names.contains(&name.as_str())))
    }

    /// Reads one of these names, if it stands there.
    fn name(&mut self, names: &[&str]) -> Result<Option<String>, Wrong> {
        if !self.is_name(names)? {
            return Ok(None);
        }
        match self.take()?.word {
            Word::Name(name) => Ok(Some(name)),
            _ => Ok(None),
        }
    }

    fn mark(&mut self, mark: char) -> Result<bool, Wrong> {
        let is_it = self.peek()?.word == Word::Mark(mark);
        if is_it {
            self.take()?;
        }
        Ok(is_it)
    }

    fn must(&mut self, mark: char) -> Result<(), Wrong> {
        match self.mark(mark)? {
            true => Ok(()),
            false => Err(self.expected(&shown(&mark.to_string()))),
        }
    }

    fn define(&mut self, name: &str) -> Result<(), Wrong> {
        self.take()?;
        self.must('=')?;
        let value = match name.starts_with('$') {
            true => Macro::Text(self.text("a text")?),
            false => match self.number("a number")? {
                Some(number) => Macro::Number(number),
                None => return Err(self.expected("a number, and not what a command prints")),
            },
        };
        self.lexer.macros.insert(name.to_owned(), value);
        Ok(())
    }

    fn is_text(&mut self) -> Result<bool, Wrong> {
        Ok(match &self.peek()?.word {
            Word::Text(_) => true,
            Word::Macro(name) => name.starts_with('$'),
            _ => false,
        })
    }

    /// Reads texts joined by `+`.
    fn text(&mut self, what: &str) -> Result<Text, Wrong> {
        let mut text = self.one_text(what)?;
        while self.mark('+')? {
            text = match (text, self.one_text(what)?) {
                (Text::Plain(first), Text::Plain(second)) => Text::Plain(first + &second),
                _ => Text::Mixed,
            };
        }
        Ok(text)
    }

    fn one_text(&mut self, what: &str) -> Result<Text, Wrong> {
        if !self.is_text()? {
            return Err(self.expected(what));
        }
        let token = self.take()?;
        match token.word {
            Word::Text(text) => Ok(text),
            Word::Macro(name) => match self.lexer.macros.get(&name) {
                Some(Macro::Text(text)) => Ok(text.clone()),
                Some(Macro::Number(_)) | None => {
                    Err(self.lexer.wrong(&token.at, format!("no macro {}", shown(&name))))
                }
            },
            _ => Ok(Text::Mixed),
        }
    }

    fn plain(&mut self, what: &str) -> Result<String, Wrong> {
        let at = self.peek()?.at.clone();
        match self.text(what)? {
            Text::Plain(text) => Ok(text),
            Text::Command(_) | Text::Mixed => {
                Err(self.lexer.wrong(&at, format!("{what} was expected, and not what a command prints")))
            }
        }
    }

    /// Reads a number; none if a command is to print it.
    fn number(&mut self, what: &str) -> Result<Option<u64>, Wrong> {
        let token = self.peek()?.clone();
        match token.word {
            Word::Number(number) => {
                self.take()?;
                Ok(Some(number))
            }
            Word::Evaluated(_) => {
                self.take()?;
                Ok(None)
            }
            Word::Macro(name) if name.starts_with('%') => {
                self.take()?;
                match self.lexer.macros.get(&name) {
                    Some(Macro::Number(number)) => Ok(Some(*number)),
                    _ => Err(self.lexer.wrong(&token.at, format!("no macro {}", shown(&name)))),
                }
            }
            _ => Err(self.expected(what)),
        }
    }

    /// Reads a number with a unit of time or of size.
    fn measure(&mut self, what: &str) -> Result<u64, Wrong> {
        const UNITS: [(&[&str], u64); 11] = [
            (&["second", "seconds"], 1),
            (&["minute", "minutes"], 60),
            (&["hour", "hours"], 3600),
            (&["day", "days"], 86_400),
            (&["week", "weeks"], 604_800),
            (&["month", "months"], 2_592_000),
            (&["year", "years"], 31_536_000),
            (&["b", "B", "byte", "bytes"], 1),
            (&["k", "K", "kb", "KB", "kilobyte", "kilobytes"], 1 << 10),
            (&["m", "M", "mb", "MB", "megabyte", "megabytes"], 1 << 20),
            (&["g", "G", "gb", "GB", "gigabyte", "gigabytes"], 1 << 30),
        ];
        let number = self.number(what)?.unwrap_or_default();
        for (names, factor) in UNITS {
            if self.name(names)?.is_some() {
                return Ok(number.saturating_mul(factor));
            }
        }
        Ok(number)
    }

    /// Reads `{ a b c }`, or one text.
    fn texts(&mut self, what: &str) -> Result<Vec<String>, Wrong> {
        if !self.mark('{')? {
            return Ok(vec![self.plain(what)?]);
        }
        let mut texts = Vec::new();
        while !self.mark('}')? {
            texts.push(self.plain(what)?);
        }
        Ok(texts)
    }

    fn set(&mut self) -> Result<Setting, Wrong> {
        let at = self.take()?.at;
        let Word::Name(key) = self.peek()?.word.clone() else {
            return Err(self.expected("the name of an option"));
        };
        self.take()?;
        let mut values = Vec::new();
        match key.as_str() {
            "allow-multiple"
            | "delete-oversized"
            | "ignore-errors"
            | "lock-wait"
            | "no-create"
            | "no-received"
            | "verify-certificates" => {}
            "maximum-size" | "timeout" | "lock-timeout" | "queue-high" | "queue-low"
            | "parallel-accounts" => {
                values.push(Text::Plain(self.measure("a number")?.to_string()));
            }
            "purge-after" => match self.name(&["none"])? {
                Some(_) => {}
                None => values.push(Text::Plain(self.measure("a number or `none`")?.to_string())),
            },
            "file-umask" | "file-group" => match self.name(&["user"])? {
                Some(name) => values.push(Text::Plain(name)),
                None if self.is_text()? => values.push(self.text("a group")?),
                None => values.push(Text::Plain(self.measure("a number or `user`")?.to_string())),
            },
            "unmatched-mail" => match self.name(&["keep", "drop"])? {
                Some(name) => values.push(Text::Plain(name)),
                None => return Err(self.expected("`keep` or `drop`")),
            },
            "lock-type" | "lock-types" | "lookup-order" => {
                let words = ["fcntl", "flock", "dotlock", "none", "passwd", "courier"];
                while let Some(word) = self.name(&words)? {
                    values.push(Text::Plain(word));
                }
            }
            "lock-file" | "command-user" | "default-user" | "strip-characters" | "proxy" => {
                values.push(self.text("a text")?);
            }
            _ => return Err(self.lexer.wrong(&at, format!("no option {}", shown(&key)))),
        }
        Ok(Setting { at, key, values })
    }

    fn cache(&mut self) -> Result<(), Wrong> {
        self.take()?;
        self.text("a path")?;
        if self.name(&["expire"])?.is_some() {
            self.measure("a time")?;
        }
        Ok(())
    }

    fn users(&mut self) -> Result<Vec<String>, Wrong> {
        match self.name(&["user", "users"])? {
            Some(_) => self.texts("the name of a user"),
            None => Ok(Vec::new()),
        }
    }

    fn account(&mut self) -> Result<Account, Wrong> {
        let at = self.take()?.at;
        let name = self.plain("the name of an account")?;
        let disabled = self.name(&["disabled"])?.is_some();
        let users = self.users()?;
        let kinds = [
            "pop3", "pop3s", "imap", "imaps", "nntp", "nntps", "stdin", "maildir", "maildirs", "mbox",
            "mboxes",
        ];
        let Some(kind) = self.name(&kinds)? else {
            return Err(self.expected("`pop3`, `pop3s` or another kind of account"));
        };
        let (mut pipe, mut server, mut only) = (None, None, None);
        match kind.as_str() {
            "stdin" => {}
            "maildir" | "maildirs" | "mbox" | "mboxes" => {
                self.texts("a path")?;
            }
            _ if self.name(&["pipe"])?.is_some() => {
                pipe = Some(self.text("a command")?);
                server = Some(self.login(Server::default())?);
            }
            _ => server = Some(self.server()?),
        }
        let mut flags = Vec::new();
        loop {
            let here = self.peek()?.at.clone();
            if let Some(which) = self.name(&["new-only", "old-only"])? {
                let cache = match self.name(&["cache"])? {
                    Some(_) => self.text("a path")?,
                    None => Text::Mixed,
                };
                only = Some((which, cache));
            } else if self.name(&["folder", "folders", "group", "groups", "cache"])?.is_some() {
                self.texts("a text")?;
            } else if let Some(flag) = self.name(&[
                "no-apop",
                "no-verify",
                "no-uidl",
                "starttls",
                "insecure",
                "no-tls1",
                "no-cram-md5",
                "no-login",
                "no-plain",
                "oauthbearer",
                "xoauth2",
                "keep",
            ])? {
                flags.push((here, flag));
            } else {
                return Ok(Account { at, name, disabled, users, kind, pipe, server, only, flags });
            }
        }
    }

    fn server(&mut self) -> Result<Server, Wrong> {
        if self.name(&["server"])?.is_none() {
            return Err(self.expected("`server`"));
        }
        let mut server = Server { host: Some(self.text("the name of a server")?), ..Server::default() };
        if self.name(&["port"])?.is_some() {
            server.port = Some(match self.is_text()? {
                true => self.text("a port")?,
                false => self.number("a port")?.map_or(Text::Mixed, |port| Text::Plain(port.to_string())),
            });
        }
        self.login(server)
    }

    fn login(&mut self, mut server: Server) -> Result<Server, Wrong> {
        if self.name(&["user"])?.is_some() {
            server.user = Some(self.text("the name of a user")?);
        }
        if self.name(&["pass"])?.is_some() {
            server.pass = Some(self.text("a password")?);
        }
        Ok(server)
    }

    fn action(&mut self) -> Result<Action, Wrong> {
        self.take()?;
        let name = self.plain("the name of an action")?;
        let users = self.users()?;
        let does = self.does()?;
        Ok(Action { name, users, does })
    }

    /// What is done: one thing, or several in braces.
    fn does(&mut self) -> Result<Vec<Does>, Wrong> {
        if !self.mark('{')? {
            return Ok(vec![self.one_thing()?]);
        }
        let mut all = Vec::new();
        while !self.mark('}')? {
            all.push(self.one_thing()?);
        }
        Ok(all)
    }

    fn one_thing(&mut self) -> Result<Does, Wrong> {
        let at = self.peek()?.at.clone();
        let Some(what) = self.name(THINGS)? else {
            return Err(self.expected("an action, such as `maildir`"));
        };
        let mut does = Does { at, what, texts: Vec::new(), server: Server::default(), flags: Vec::new() };
        match does.what.as_str() {
            "maildir" | "exec" | "pipe" | "rewrite" | "write" | "append" => {
                does.texts.push(self.text("a text")?);
            }
            "mbox" => {
                does.texts.push(self.text("a path")?);
                does.flags.extend(self.name(&["compress"])?);
            }
            "remove-header" | "remove-headers" | "action" | "actions" => {
                does.texts = self.texts("a text")?.into_iter().map(Text::Plain).collect();
            }
            "add-header" | "tag" => {
                does.texts.push(self.text("a text")?);
                if self.name(&["value"])?.is_some() || self.is_text()? {
                    does.texts.push(self.text("a text")?);
                }
            }
            "add-to-cache" | "to-cache" | "remove-from-cache" => {
                does.texts.push(self.text("a path")?);
                if self.name(&["key"])?.is_some() {
                    does.texts.push(self.text("a text")?);
                }
            }
            "imap" | "imaps" => self.mailbox(&mut does)?,
            "smtp" | "lmtp" => self.mail_server(&mut does)?,
            _ => {}
        }
        Ok(does)
    }

    fn mailbox(&mut self, does: &mut Does) -> Result<(), Wrong> {
        const FLAGS: &[&str] =
            &["folder", "no-verify", "no-cram-md5", "no-login", "no-plain", "starttls", "insecure"];
        does.server = self.server()?;
        while let Some(flag) = self.name(FLAGS)? {
            match flag.as_str() {
                "folder" => does.texts.push(self.text("a folder")?),
                _ => does.flags.push(flag),
            }
        }
        Ok(())
    }

    /// `smtp server HOST [from A] [to B]`; the sender comes first of the texts.
    fn mail_server(&mut self, does: &mut Does) -> Result<(), Wrong> {
        does.server = self.server()?;
        for key in ["from", "to"] {
            match self.name(&[key])? {
                Some(_) => does.texts.push(self.text("an address")?),
                None => does.texts.push(Text::Mixed),
            }
        }
        Ok(())
    }

    fn rule(&mut self, deeper: usize) -> Result<Rule, Wrong> {
        let at = self.take()?.at;
        if deeper == 0 {
            return Err(self.lexer.wrong(&at, "too many blocks within blocks"));
        }
        let mut conditions = Vec::new();
        let mut or = false;
        loop {
            let not = self.name(&["not"])?.is_some();
            conditions.push(Condition { or, not, test: self.test()? });
            match self.name(&["and", "or"])? {
                Some(word) => or = word == "or",
                None => break,
            }
        }
        let users = self.users()?;
        let perform = if let Some(word) = self.name(&["action", "actions"])? {
            let own = word == "action" && !self.is_text()? && self.peek()?.word != Word::Mark('{');
            match own || self.is_block_of_things()? {
                true => Perform::Does(self.does()?),
                false => Perform::Actions(self.texts("the name of an action")?),
            }
        } else if self.mark('{')? {
            let mut rules = Vec::new();
            while !self.mark('}')? {
                match self.is_name(&["match"])? {
                    true => rules.push(self.rule(deeper - 1)?),
                    false => return Err(self.expected("`match` or `}`")),
                }
            }
            return Ok(Rule { at, conditions, users, perform: Perform::Rules(rules), goes_on: true });
        } else {
            return Err(self.expected("`action`, or `{` and further rules"));
        };
        let goes_on = self.name(&["continue"])?.is_some();
        Ok(Rule { at, conditions, users, perform, goes_on })
    }

    /// Says whether braces follow in which things are done, and not names of actions.
    fn is_block_of_things(&mut self) -> Result<bool, Wrong> {
        if self.peek()?.word != Word::Mark('{') {
            return Ok(false);
        }
        let brace = self.take()?;
        let is_text = self.is_text()?;
        let behind = self.peeked.take();
        self.peeked = Some(brace);
        self.lexer.push_back(behind);
        Ok(!is_text)
    }

    fn test(&mut self) -> Result<Test, Wrong> {
        if self.name(&["all"])?.is_some() {
            return Ok(Test::All);
        }
        if self.name(&["account", "accounts"])?.is_some() {
            return Ok(Test::Accounts(self.texts("the name of an account")?));
        }
        let known = [
            "case",
            "exec",
            "pipe",
            "tagged",
            "size",
            "string",
            "in-cache",
            "matched",
            "unmatched",
            "age",
            "attachment",
        ];
        match self.name(&known)?.as_deref() {
            Some("matched" | "unmatched") => {}
            Some("tagged") => drop(self.text("a tag")?),
            Some("exec" | "pipe") => self.returns()?,
            Some("size") => self.compared()?,
            Some("string") => {
                self.text("a text")?;
                self.name(&["to"])?;
                self.name(&["case"])?;
                self.text("a pattern")?;
            }
            Some("in-cache") => {
                self.text("a path")?;
                if self.name(&["key"])?.is_some() {
                    self.text("a text")?;
                }
            }
            Some("age") => {
                if self.name(&["invalid"])?.is_none() {
                    self.compared()?;
                }
            }
            Some("attachment") => {
                match self.name(&["count", "total-size", "any-size", "any-type", "any-name"])?.as_deref() {
                    Some("any-type" | "any-name") => drop(self.text("a pattern")?),
                    Some(_) => self.compared()?,
                    None => return Err(self.expected("`count` or another property of attachments")),
                }
            }
            _ => {
                self.text("a condition, such as `all` or a pattern,")?;
                if self.name(&["in"])?.is_some() && self.name(&["all", "headers", "body"])?.is_none() {
                    return Err(self.expected("`headers`, `body` or `all`"));
                }
            }
        }
        Ok(Test::Message)
    }

    fn compared(&mut self) -> Result<(), Wrong> {
        match self.take()?.word {
            Word::Mark('<' | '>') | Word::Equal | Word::Unequal => self.measure("a number").map(drop),
            _ => Err(self.expected("a number behind `<` or `>`")),
        }
    }

    /// `COMMAND [user NAME] returns (CODE, PATTERN)`
    fn returns(&mut self) -> Result<(), Wrong> {
        self.text("a command")?;
        self.users()?;
        if self.name(&["returns"])?.is_none() {
            return Err(self.expected("`returns`"));
        }
        self.must('(')?;
        if self.peek()?.word != Word::Mark(',') {
            self.number("a number")?;
        }
        self.must(',')?;
        self.name(&["case"])?;
        if self.is_text()? {
            self.text("a pattern")?;
        }
        self.must(')')
    }
}
