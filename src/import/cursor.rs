//! A text that is read from its start, and where in it something is wrong.

use std::path::{Path, PathBuf};

use crate::text::Shown;

/// A place in a file: line and column, counted from 1 in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub line: usize,
    pub column: usize,
    /// The file, if it is not the one that was named.
    pub file: Option<PathBuf>,
}

/// What a program would not understand in its configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}:{}:{}: {what}", .file.display(), .at.line, .at.column)]
pub struct Wrong {
    file: PathBuf,
    at: At,
    what: String,
}

impl Wrong {
    /// Says what is wrong at a place of a file; the words quote nothing secret.
    pub(super) fn new(file: &Path, at: &At, what: impl Into<String>) -> Self {
        let file = at.file.clone().unwrap_or_else(|| file.to_owned());
        Self { file, at: at.clone(), what: what.into() }
    }
}

/// A text, and how far it was read.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'t> {
    rest: &'t str,
    line: usize,
    column: usize,
    file: Option<PathBuf>,
}

impl<'t> Cursor<'t> {
    /// Begins at the start; `file` is only given for another file than the one that was named.
    pub(super) fn new(text: &'t str, file: Option<PathBuf>) -> Self {
        Self { rest: text, line: 1, column: 1, file }
    }

    /// Goes on where another one stopped.
    pub(super) fn resumed(text: &'t str, at: At) -> Self {
        Self { rest: text, line: at.line, column: at.column, file: at.file }
    }

    pub(super) fn at(&self) -> At {
        At { line: self.line, column: self.column, file: self.file.clone() }
    }

    pub(super) fn rest(&self) -> &'t str {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.skip(next.len_utf8());
        Some(next)
    }

    /// Reads so many octets, which end at a character's end.
    pub(super) fn skip(&mut self, octets: usize) -> &'t str {
        let (read, rest) = self.rest.split_at(octets);
        for c in read.chars() {
            match c {
                '\n' => (self.line, self.column) = (self.line + 1, 1),
                _ => self.column += 1,
            }
        }
        self.rest = rest;
        read
    }

    /// Reads characters as long as they are of a kind.
    pub(super) fn take_while(&mut self, is: impl Fn(char) -> bool) -> &'t str {
        self.skip(self.rest.find(|c| !is(c)).unwrap_or(self.rest.len()))
    }
}

/// Shows a word of a configuration in a message.
pub(super) fn shown(word: &str) -> String {
    format!("`{}`", Shown(word.as_bytes()))
}
