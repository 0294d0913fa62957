//! The statements of fdm.conf.

use std::path::Path;

use super::super::around::Around;
use super::super::cursor::{Wrong, shown};
use super::lex::{Lexer, Text, Word};
use super::rules::DEEPEST;
use super::statement::{Account, Parsed, Server, Setting};
use super::words::Parser;

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
}
