//! Accounts as they are written into a configuration: keys, values, notes and where those belong.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::PathBuf;

use super::cursor::At;
use super::seen::SeenList;
use crate::secret::Secret;

/// What is otherwise where the other program verified no certificate.
pub(super) const VERIFIED: &str = "certificates are verified here: if the server's is refused, `postrider doctor` shows the line to \
                        write for it, `tls_pin: sha256:...`";

/// What was read of another program's configuration.
#[derive(Debug, Default)]
pub struct Imported {
    /// What concerns no account alone.
    pub(super) notes: Vec<Note>,
    /// Where the state is to be, if it has a place of its own.
    pub state: Option<String>,
    /// Keys that hold for all accounts.
    pub(super) defaults: Vec<(&'static str, Value)>,
    /// Seconds from poll to poll, if the program polls by itself.
    pub interval: Option<u64>,
    pub accounts: Vec<Account>,
}

/// One account, in the order in which it is written.
#[derive(Debug)]
pub struct Account {
    pub name: String,
    /// Where it stands in the other program's file.
    pub(super) at: At,
    pub(super) lines: Vec<Line>,
    /// Why it is no account here; then only that is written, and the notes.
    pub(super) left_out: Option<String>,
    /// Host and user, as the other program's list of what it fetched has them.
    pub seen: Option<SeenList>,
}

/// One line of an account.
#[derive(Debug)]
pub(super) enum Line {
    Key(&'static str, Value),
    Note(Note),
}

/// What is told of something that has no counterpart, at its place.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) at: Option<At>,
    pub(super) what: String,
}

impl Note {
    /// Gives the file that it is about, if that is not the one that was named.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        self.at.as_ref()?.file.as_ref()
    }
}

/// A value as YAML has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, quoted where it needs to be.
    Text(String),
    /// A word, number, size or duration, written as it is.
    Bare(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// A password that stood in the file. Each is replaced before anything is printed.
    Secret(Secret),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn bare(word: impl ToString) -> Self {
        Self::Bare(word.to_string())
    }

    pub(super) fn seconds(seconds: impl Display) -> Self {
        Self::Bare(format!("{seconds}s"))
    }

    pub(super) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    pub(super) fn words<T: ToString>(words: impl IntoIterator<Item = T>) -> Self {
        Self::List(words.into_iter().map(Self::bare).collect())
    }

    /// A mapping of one key.
    pub(super) fn of(key: &str, value: Self) -> Self {
        Self::Map(vec![(key.to_owned(), value)])
    }

    fn place_secrets<E>(&mut self, name: &str, put: &mut Put<'_, E>) -> Result<(), E> {
        match self {
            Self::Text(_) | Self::Bare(_) => Ok(()),
            Self::List(items) => items.iter_mut().try_for_each(|item| item.place_secrets(name, put)),
            Self::Map(entries) => entries.iter_mut().try_for_each(|(key, value)| match value {
                Self::Secret(_) => value.place_secrets(name, put),
                _ => value.place_secrets(&format!("{name}-{key}"), put),
            }),
            Self::Secret(secret) => {
                *self = put(name, secret)?;
                Ok(())
            }
        }
    }
}

/// Puts the secret of this name somewhere, and gives what the configuration says in its place.
type Put<'a, E> = dyn FnMut(&str, &Secret) -> Result<Value, E> + 'a;

impl Account {
    pub(super) fn new(name: impl Into<String>, at: At) -> Self {
        Self { name: name.into(), at, lines: Vec::new(), left_out: None, seen: None }
    }

    pub(super) fn set(&mut self, key: &'static str, value: Value) {
        self.lines.push(Line::Key(key, value));
    }

    pub(super) fn set_given(&mut self, key: &'static str, value: Option<Value>) {
        self.lines.extend(value.map(|value| Line::Key(key, value)));
    }

    pub(super) fn note(&mut self, at: &At, what: impl Into<String>) {
        self.lines.push(Line::Note(Note { at: Some(at.clone()), what: what.into() }));
    }

    /// Says something that stands nowhere in the other program's file.
    pub(super) fn remark(&mut self, what: impl Into<String>) {
        self.lines.push(Line::Note(Note { at: None, what: what.into() }));
    }

    /// Leaves it out for a reason, if there is none yet.
    pub(super) fn leave_out(&mut self, why: impl Into<String>) {
        self.left_out.get_or_insert(why.into());
    }

    /// Has it polled by nobody until a person has looked.
    pub(super) fn disable(&mut self, why: impl Into<String>) {
        let what = why.into();
        if !self.lines.iter().any(|line| matches!(line, Line::Note(note) if note.what == what)) {
            self.remark(what);
        }
        if self.get("enabled").is_none() {
            self.set("enabled", Value::bare(false));
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.lines.iter().find_map(|line| match line {
            Line::Key(known, value) if *known == key => Some(value),
            Line::Key(..) | Line::Note(_) => None,
        })
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text),
            Some(_) | None => None,
        }
    }

    /// Gives the identity of its maildrop, `user@host`, unless it is left out.
    pub fn maildrop(&self) -> Option<String> {
        let is_there = self.left_out.is_none();
        Some(format!("{}@{}", self.text("user")?, self.text("host")?)).filter(|_| is_there)
    }

    /// Says whether it is left out, and why.
    pub fn left_out(&self) -> Option<&str> {
        self.left_out.as_deref()
    }

    fn is_enabled(&self) -> bool {
        self.left_out.is_none() && self.get("enabled").is_none()
    }
}

impl Imported {
    pub(super) fn append(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.defaults.extend(other.defaults);
        self.interval = self.interval.or(other.interval);
        self.accounts.extend(other.accounts);
    }

    pub(super) fn note(&mut self, at: &At, what: impl Into<String>) {
        self.notes.push(Note { at: Some(at.clone()), what: what.into() });
    }

    /// Replaces each secret by what the configuration is to say of it.
    ///
    /// # Errors
    ///
    /// The first error of `put`.
    pub fn place_secrets<E>(
        &mut self,
        mut put: impl FnMut(&str, &Secret) -> Result<Value, E>,
    ) -> Result<(), E> {
        for account in self.accounts.iter_mut().filter(|account| account.left_out.is_none()) {
            for line in &mut account.lines {
                if let Line::Key(key, value) = line {
                    let name = match *key {
                        "password" => account.name.clone(),
                        key => format!("{}-{key}", account.name),
                    };
                    value.place_secrets(&name, &mut put)?;
                }
            }
        }
        Ok(())
    }

    /// Gives each account a name that a configuration can have, and lets one alone poll a maildrop.
    pub(super) fn finish(&mut self) {
        let mut names = HashSet::new();
        for account in &mut self.accounts {
            account.name = free(&sound(&account.name), &mut names);
            let missing = ["host", "user"].into_iter().find(|key| account.get(key).is_none());
            if let Some(missing) = missing {
                account.leave_out(format!("its {missing} is not known"));
            }
        }
        let mut polled: Vec<(String, String)> = Vec::new();
        for account in &mut self.accounts {
            let Some(maildrop) = account.maildrop().filter(|_| account.is_enabled()) else { continue };
            match polled.iter().find(|(known, _)| *known == maildrop) {
                Some((_, other)) => account.disable(format!(
                    "{other} polls this maildrop already; two accounts that do would share what is recorded of it. If \
                     they are two maildrops (two ports, say), give this one a `maildrop_id` of its own"
                )),
                None => polled.push((maildrop, account.name.clone())),
            }
        }
    }
}

/// Characters of an account's name at most.
const LONGEST_NAME: usize = 60;

/// Makes a text a name that an account can have.
fn sound(name: &str) -> String {
    let is_sound = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
    let name: String = name.chars().take(LONGEST_NAME).map(|c| if is_sound(c) { c } else { '-' }).collect();
    match name.trim_start_matches(['-', '.']) {
        "" => "account".to_owned(),
        name => name.to_owned(),
    }
}

fn free(name: &str, taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let name = names.find(|name| !taken.contains(name)).expect("there are numbers enough");
    taken.insert(name.clone());
    name
}
