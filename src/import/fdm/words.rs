//! The words and values that statements of fdm.conf are made of.

use super::super::cursor::{Wrong, shown};
use super::lex::{Lexer, Macro, Text, Token, Word};
use super::statement::Server;

pub(super) struct Parser<'p> {
    pub(super) lexer: Lexer<'p>,
    pub(super) peeked: Option<Token>,
}

impl Parser<'_> {
    pub(super) fn peek(&mut self) -> Result<&Token, Wrong> {
        if self.peeked.is_none() {
            self.peeked = Some(self.lexer.next()?);
        }
        Ok(self.peeked.as_ref().expect("it was read"))
    }

    pub(super) fn take(&mut self) -> Result<Token, Wrong> {
        self.peek()?;
        Ok(self.peeked.take().expect("it was read"))
    }

    pub(super) fn expected(&mut self, what: &str) -> Wrong {
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

    pub(super) fn is_name(&mut self, names: &[&str]) -> Result<bool, Wrong> {
        Ok(matches!(&self.peek()?.word, Word::Name(name) if names.contains(&name.as_str())))
    }

    /// Reads one of these names, if it stands there.
    pub(super) fn name(&mut self, names: &[&str]) -> Result<Option<String>, Wrong> {
        if !self.is_name(names)? {
            return Ok(None);
        }
        match self.take()?.word {
            Word::Name(name) => Ok(Some(name)),
            _ => Ok(None),
        }
    }

    pub(super) fn mark(&mut self, mark: char) -> Result<bool, Wrong> {
        let is_it = self.peek()?.word == Word::Mark(mark);
        if is_it {
            self.take()?;
        }
        Ok(is_it)
    }

    pub(super) fn must(&mut self, mark: char) -> Result<(), Wrong> {
        match self.mark(mark)? {
            true => Ok(()),
            false => Err(self.expected(&shown(&mark.to_string()))),
        }
    }

    pub(super) fn define(&mut self, name: &str) -> Result<(), Wrong> {
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

    pub(super) fn is_text(&mut self) -> Result<bool, Wrong> {
        Ok(match &self.peek()?.word {
            Word::Text(_) => true,
            Word::Macro(name) => name.starts_with('$'),
            _ => false,
        })
    }

    /// Reads texts joined by `+`.
    pub(super) fn text(&mut self, what: &str) -> Result<Text, Wrong> {
        let mut text = self.one_text(what)?;
        while self.mark('+')? {
            text = match (text, self.one_text(what)?) {
                (Text::Plain(first), Text::Plain(second)) => Text::Plain(first + &second),
                _ => Text::Mixed,
            };
        }
        Ok(text)
    }

    pub(super) fn one_text(&mut self, what: &str) -> Result<Text, Wrong> {
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

    pub(super) fn plain(&mut self, what: &str) -> Result<String, Wrong> {
        let at = self.peek()?.at.clone();
        match self.text(what)? {
            Text::Plain(text) => Ok(text),
            Text::Command(_) | Text::Mixed => {
                Err(self.lexer.wrong(&at, format!("{what} was expected, and not what a command prints")))
            }
        }
    }

    /// Reads a number; none if a command is to print it.
    pub(super) fn number(&mut self, what: &str) -> Result<Option<u64>, Wrong> {
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
    pub(super) fn measure(&mut self, what: &str) -> Result<u64, Wrong> {
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
    pub(super) fn texts(&mut self, what: &str) -> Result<Vec<String>, Wrong> {
        if !self.mark('{')? {
            return Ok(vec![self.plain(what)?]);
        }
        let mut texts = Vec::new();
        while !self.mark('}')? {
            texts.push(self.plain(what)?);
        }
        Ok(texts)
    }

    pub(super) fn users(&mut self) -> Result<Vec<String>, Wrong> {
        match self.name(&["user", "users"])? {
            Some(_) => self.texts("the name of a user"),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn server(&mut self) -> Result<Server, Wrong> {
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

    pub(super) fn login(&mut self, mut server: Server) -> Result<Server, Wrong> {
        if self.name(&["user"])?.is_some() {
            server.user = Some(self.text("the name of a user")?);
        }
        if self.name(&["pass"])?.is_some() {
            server.pass = Some(self.text("a password")?);
        }
        Ok(server)
    }
}
