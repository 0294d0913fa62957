//! Actions, and the rules that lead to them.

use super::super::cursor::Wrong;
use super::lex::{Text, Word};
use super::statement::{Action, Condition, Does, Perform, Rule, Server, Test};
use super::words::Parser;

/// Blocks within blocks at most.
pub(super) const DEEPEST: usize = 64;

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

impl Parser<'_> {
    pub(super) fn action(&mut self) -> Result<Action, Wrong> {
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

    pub(super) fn rule(&mut self, deeper: usize) -> Result<Rule, Wrong> {
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
