//! The words of fdm.conf, with its macros, conditions and included files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::super::around::Around;
use super::super::cursor::{At, Cursor, Wrong, shown};

/// Files within files at most.
const DEEPEST: usize = 16;

/// Octets of all included files together at most.
const MOST_OCTETS: usize = 8 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Name(String),
    Text(Text),
    Number(u64),
    /// What a command is to print, as a number.
    Evaluated(String),
    Macro(String),
    Mark(char),
    Equal,
    Unequal,
    End,
}

/// A text, which may be what a command prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Plain(String),
    /// `$(COMMAND)`
    Command(String),
    /// A text and what commands print, put together.
    Mixed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Macro {
    Text(Text),
    Number(u64),
}

/// A token, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) at: At,
    pub(super) word: Word,
}

/// Reads tokens one by one: what a macro means, and what a condition skips, depends on what was read before.
pub(super) struct Lexer<'l> {
    file: &'l Path,
    around: &'l Around,
    read: &'l dyn Fn(&Path) -> std::io::Result<String>,
    files: Vec<Open>,
    pub(super) macros: HashMap<String, Macro>,
    conditions: usize,
    skips: bool,
    octets: usize,
    /// Tokens that were read ahead.
    ahead: Option<Token>,
}

/// A file that is being read: its text, and how far.
struct Open {
    text: String,
    path: Option<PathBuf>,
    offset: usize,
    at: At,
}

impl<'l> Lexer<'l> {
    pub(super) fn new(
        file: &'l Path,
        text: &str,
        around: &'l Around,
        read: &'l dyn Fn(&Path) -> std::io::Result<String>,
    ) -> Self {
        let at = At { line: 1, column: 1, file: None };
        let first = Open { text: text.to_owned(), path: None, offset: 0, at };
        let (macros, octets) = (HashMap::new(), text.len());
        Self {
            file,
            around,
            read,
            files: vec![first],
            macros,
            conditions: 0,
            skips: false,
            octets,
            ahead: None,
        }
    }

    pub(super) fn wrong(&self, at: &At, what: impl Into<String>) -> Wrong {
        Wrong::new(self.file, at, what)
    }

    /// Reads a token with the file that is open.
    fn with<T>(&mut self, reading: impl FnOnce(&mut Self, &mut Cursor<'_>) -> T) -> T {
        let open = self.files.last_mut().expect("the first stays");
        let (text, path) = (std::mem::take(&mut open.text), open.path.clone());
        let mut cursor = Cursor::resumed(&text[open.offset..], open.at.clone());
        let result = reading(self, &mut cursor);
        let (offset, at) = (text.len() - cursor.rest().len(), cursor.at());
        let open = self.files.iter_mut().rfind(|open| open.path == path).expect("it is still open");
        (open.text, open.offset, open.at) = (text, offset, at);
        result
    }

    /// Gives a token back that was read ahead.
    pub(super) fn push_back(&mut self, token: Option<Token>) {
        self.ahead = token;
    }

    pub(super) fn next(&mut self) -> Result<Token, Wrong> {
        if let Some(token) = self.ahead.take() {
            return Ok(token);
        }
        loop {
            let token = self.with(Self::token)?;
            match &token.word {
                Word::End if self.files.len() > 1 => {
                    self.files.pop();
                }
                Word::End if self.conditions > 0 => return Err(self.wrong(&token.at, "`endif` was expected")),
                Word::End => return Ok(token),
                Word::Name(name) if ["ifdef", "ifndef"].contains(&name.as_str()) => {
                    let wanted = name == "ifdef";
                    let condition = self.with(Self::token)?;
                    let Word::Macro(name) = &condition.word else {
                        return Err(self.wrong(&condition.at, "the name of a macro was expected"));
                    };
                    self.skips |= self.macros.contains_key(name) != wanted;
                    self.conditions += 1;
                }
                Word::Name(name) if name == "endif" => {
                    if self.conditions == 0 {
                        return Err(self.wrong(&token.at, "`endif` without `ifdef`"));
                    }
                    self.conditions -= 1;
                    self.skips &= self.conditions > 0;
                }
                Word::Name(name) if name == "include" && !self.skips => self.include()?,
                _ if self.skips => {}
                _ => return Ok(token),
            }
        }
    }

    fn include(&mut self) -> Result<(), Wrong> {
        let name = self.with(Self::token)?;
        let Word::Text(Text::Plain(path)) = &name.word else {
            return Err(self.wrong(&name.at, "the path of a file was expected, in quotes"));
        };
        let path = self.around.expand(path);
        // As it is named, else beside the main file.
        let beside = self.file.parent().unwrap_or(Path::new("/")).join(&path);
        let found = (self.read)(&path).map(|text| (path.clone(), text));
        let found = found.or_else(|_| (self.read)(&beside).map(|text| (beside.clone(), text)));
        let (path, text) =
            found.map_err(|error| self.wrong(&name.at, format!("{}: {error}", beside.display())))?;
        self.octets += text.len();
        let is_open = self.files.iter().any(|open| open.path.as_ref() == Some(&path));
        if self.files.len() == DEEPEST || self.octets > MOST_OCTETS || is_open {
            return Err(self.wrong(&name.at, "files include each other, or are too many"));
        }
        let at = At { line: 1, column: 1, file: Some(path.clone()) };
        self.files.push(Open { text, path: Some(path), offset: 0, at });
        Ok(())
    }

    fn token(&mut self, cursor: &mut Cursor<'_>) -> Result<Token, Wrong> {
        loop {
            cursor.take_while(|c| matches!(c, ' ' | '\t' | '\n'));
            if cursor.peek() != Some('#') {
                break;
            }
            cursor.take_while(|c| c != '\n');
        }
        let at = cursor.at();
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let Some(first) = cursor.peek() else { return Ok(Token { at, word: Word::End }) };
        let word = match first {
            quote @ ('"' | '\'') => {
                cursor.next();
                Word::Text(match self.text(cursor, quote, &at)? {
                    (text, false) => Text::Plain(text),
                    (_, true) => Text::Mixed,
                })
            }
            sign @ ('$' | '%') => {
                cursor.next();
                match cursor.peek() {
                    Some('(') => {
                        let command = self.command(cursor, &at)?;
                        if sign == '$' {
                            Word::Text(Text::Command(command))
                        } else {
                            Word::Evaluated(command)
                        }
                    }
                    _ => Word::Macro(self.macro_name(cursor, sign, &at)?),
                }
            }
            '=' | '!' => {
                cursor.next();
                let both = cursor.peek() == Some('=');
                if both {
                    cursor.next();
                }
                match (first, both) {
                    ('=', true) => Word::Equal,
                    ('!', true) => Word::Unequal,
                    (mark, _) => Word::Mark(mark),
                }
            }
            mark @ ('~' | '+' | '(' | ')' | ',' | '<' | '>' | '{' | '}' | '*') => {
                cursor.next();
                Word::Mark(mark)
            }
            '0'..='9' => {
                let digits = cursor.take_while(|c| c.is_ascii_digit());
                Word::Number(digits.parse().map_err(|_| self.wrong(&at, "a number that is too large"))?)
            }
            c if is_word(c) => Word::Name(cursor.take_while(is_word).to_owned()),
            _ => return Err(self.wrong(&at, format!("{} was not expected", shown(&first.to_string())))),
        };
        Ok(Token { at, word })
    }

    /// Reads the name of a macro behind its sign, in braces or not.
    fn macro_name(&self, cursor: &mut Cursor<'_>, sign: char, at: &At) -> Result<String, Wrong> {
        let braces = cursor.peek() == Some('{');
        if braces {
            cursor.next();
        }
        let name = cursor.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).to_owned();
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || braces && cursor.next() != Some('}') {
            return Err(self.wrong(at, "the name of a macro was expected"));
        }
        Ok(format!("{sign}{name}"))
    }

    /// Reads a text up to its quote. Between double quotes there are backslashes and macros in braces; says whether there is
    /// one that a command makes.
    fn text(&self, cursor: &mut Cursor<'_>, quote: char, at: &At) -> Result<(String, bool), Wrong> {
        let (mut text, mut is_evaluated) = (String::new(), false);
        loop {
            match cursor.next() {
                None => return Err(self.wrong(at, format!("a text begins here, and no {quote} ends it"))),
                Some(c) if c == quote => return Ok((text, is_evaluated)),
                Some('\\') if quote == '"' => match cursor.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    other => text.extend(other),
                },
                Some(sign @ ('$' | '%')) if quote == '"' && cursor.peek() == Some('{') => {
                    let name = self.macro_name(cursor, sign, at)?;
                    match self.macros.get(&name) {
                        Some(Macro::Text(Text::Plain(value))) => text.push_str(value),
                        Some(Macro::Number(number)) => text += &number.to_string(),
                        // What a command prints is not known; what is not there is nothing.
                        Some(Macro::Text(Text::Command(_) | Text::Mixed)) => {
                            is_evaluated = true;
                            text += &format!("{sign}{{{}}}", &name[1..]);
                        }
                        None => {}
                    }
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn command(&self, cursor: &mut Cursor<'_>, at: &At) -> Result<String, Wrong> {
        cursor.next();
        let (mut command, mut nesting) = (String::new(), 0);
        loop {
            match cursor.next() {
                None => return Err(self.wrong(at, "a command begins here, and no `)` ends it")),
                Some(')') if nesting == 0 => return Ok(command),
                Some(quote @ ('"' | '\'')) => {
                    let (text, _) = self.text(cursor, quote, at)?;
                    command.extend([quote]);
                    command += &text;
                    command.extend([quote]);
                }
                Some(c) => {
                    nesting += i32::from(c == '(') - i32::from(c == ')');
                    command.push(c);
                }
            }
        }
    }
}
