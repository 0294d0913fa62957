//! One row a key: from it follow how the key is read, how `config show` writes it, hints at keys that were meant, and
//! the reference of `config keys`.

use std::fmt::Display;

use super::places::Places;
use super::suggest::nearest;
use super::tree::{Complaint, Content, Entry, Node};

/// A key of a mapping that is read into a `T`, which has the defaults until then.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    /// One line of help; none for a key of which the manual does not know yet.
    pub(super) about: &'static str,
    pub(super) kind: Kind,
    pub(super) marks: &'static [Mark],
    pub(super) read: fn(&Entry<'_>, &Places, &mut T) -> Result<(), Complaint>,
    /// Writes the value as it may stand in the file; an empty text if the key is left out.
    pub(super) show: fn(&T) -> String,
}

impl<T> Key<T> {
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }
}

/// What else is to be known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A tenant may say it, in a row of a table.
    Row,
    /// It says of one account which maildrop it is, whatever `defaults` say.
    Own,
    /// It means nothing without TLS.
    Tls,
}

/// How a value is read and written.
pub(super) struct Form<V: 'static> {
    pub(super) read: fn(&Node<'_>, &Places) -> Result<V, Complaint>,
    pub(super) show: fn(&V) -> String,
    pub(super) kind: Kind,
}

impl<V> Form<V> {
    pub(super) const fn new(
        read: fn(&Node<'_>, &Places) -> Result<V, Complaint>,
        show: fn(&V) -> String,
    ) -> Self {
        Self { read, show, kind: Kind::Inside }
    }
}

/// What a value stands for outside of the configuration, and how it is easily written wrong: for `config check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Inside,
    /// A text that may well have ` #` in it.
    Text,
    /// A file that must be there before anything is fetched.
    File,
    /// The same, with a block of PEM that begins so.
    Pem(&'static str),
    /// A file that is made, in a directory that is not.
    NewFile,
    Command,
    /// A user of this system.
    LocalUser,
    /// Keys that seal secrets.
    SealingKeys,
    /// A server, and how a connection to it begins where nothing is said of that.
    Server(&'static str),
}

/// Makes the row of a key whose value goes into a field, which may be an `Option`: name, field, form, help, marks.
macro_rules! key {
    ($name:literal, $($field:ident).+, $form:expr, $about:literal $(, $mark:ident)*) => {
        Key {
            name: $name,
            about: $about,
            kind: $form.kind,
            marks: &[$($crate::config::rows::Mark::$mark),*],
            read: |entry, places, into| {
                into.$($field).+ = ($form.read)(&entry.value, places)?.into();
                Ok(())
            },
            show: |from| Option::<&_>::from(&from.$($field).+).map_or_else(String::new, $form.show),
        }
    };
}

/// Makes the row of a key whose value goes into a field of what may not be there: name, that and its field, form, help,
/// marks.
macro_rules! part {
    ($name:literal, $($whole:ident).+ => $field:ident, $form:expr, $about:literal $(, $mark:ident)*) => {
        Key {
            name: $name,
            about: $about,
            kind: $form.kind,
            marks: &[$($crate::config::rows::Mark::$mark),*],
            read: |entry, places, into| {
                into.$($whole).+.get_or_insert_default().$field = ($form.read)(&entry.value, places)?;
                Ok(())
            },
            show: |from| from.$($whole).+.as_ref().map_or_else(String::new, |whole| ($form.show)(&whole.$field)),
        }
    };
}

/// Makes the row of a key that says which variant of an enum is meant: name, variant, form of what is in it, help.
macro_rules! variant {
    ($name:literal, $variant:path, $form:expr, $about:literal) => {
        Key {
            name: $name,
            about: $about,
            kind: $form.kind,
            marks: &[],
            read: |entry, places, into| {
                *into = $variant(($form.read)(&entry.value, places)?.into());
                Ok(())
            },
            show: |from| if let $variant(inner) = from { ($form.show)(inner) } else { String::new() },
        }
    };
}

pub(super) use {key, part, variant};

/// Reads the key of one entry.
///
/// # Errors
///
/// A complaint about the key or its value, or nothing if the key is unknown.
pub(super) fn read<T>(
    entry: &Entry<'_>,
    places: &Places,
    keys: &[Key<T>],
    into: &mut T,
) -> Result<(), Option<Complaint>> {
    let known = keys.iter().find(|key| key.name == entry.key);
    if let Some(before) = entry.before {
        let again = Complaint::new(entry.at, format!("given before, on line {}", before.line));
        return Err(Some(if known.is_some() { again.under(&format!(".{}", entry.key)) } else { again }));
    }
    let read = known.ok_or(None)?.read;
    read(entry, places, into).map_err(|complaint| Some(within(entry, complaint)))
}

/// Reads a mapping, up to its first mistake, into what has the defaults.
pub(super) fn mapping<T>(
    node: &Node<'_>,
    places: &Places,
    what: &str,
    keys: &[Key<T>],
    mut into: T,
) -> Result<T, Complaint> {
    for entry in node.mapping(what)? {
        read(entry, places, keys, &mut into)
            .map_err(|complaint| complaint.unwrap_or_else(|| unknown(entry, keys)))?;
    }
    Ok(into)
}

/// Gives the only entry of a mapping.
pub(super) fn only<'n, 't>(node: &'n Node<'t>, what: &str) -> Result<&'n Entry<'t>, Complaint> {
    match node.mapping(what)? {
        [entry] => Ok(entry),
        [] => Err(node.wrong(format!("is empty, must be {what}"))),
        [_, second, ..] => Err(Complaint::new(second.at, format!("one key too many: must be {what}"))),
    }
}

/// Says that a key is unknown, and which one was probably meant. A key that looks like none is not quoted: it may be a
/// password that slipped into the wrong line.
pub(super) fn unknown<T>(entry: &Entry<'_>, keys: &[Key<T>]) -> Complaint {
    unknown_among(entry, &names(keys))
}

/// Says the same where these names are known.
pub(super) fn unknown_among(entry: &Entry<'_>, known: &[&str]) -> Complaint {
    let wrong = |what: String| Complaint::new(entry.at, what);
    match nearest(&entry.key, known) {
        _ if entry.key == "<<" => {
            wrong("merge keys are not supported: put what accounts share under `defaults`".to_owned())
        }
        Some(near) => named(entry, wrong(format!("unknown key; did you mean `{near}`?"))),
        None => named(entry, wrong(format!("unknown key; valid keys are {}", known.join(", ")))),
    }
}

pub(super) fn names<T>(keys: &[Key<T>]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// Names the keys that have a mark.
pub(super) fn marked<T>(keys: &[Key<T>], mark: Mark) -> impl Iterator<Item = &'static str> {
    keys.iter().filter(move |key| key.has(mark)).map(|key| key.name)
}

/// Puts an unknown key into the path if it looks like one. What has no value may be what follows a comma in a password.
fn named(entry: &Entry<'_>, complaint: Complaint) -> Complaint {
    let is_word = entry.key.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    let has_value = !matches!(&entry.value.content, Content::Plain(text) if text.is_empty());
    let looks_like_a_key = is_word && has_value && entry.key.len() <= 40;
    if looks_like_a_key { complaint.under(&format!(".{}", entry.key)) } else { complaint }
}

/// Puts the key of an entry in front of a complaint's path, and points to the key if there is no value to point to.
pub(super) fn within(entry: &Entry<'_>, complaint: Complaint) -> Complaint {
    let mut complaint = complaint.under(&format!(".{}", entry.key));
    if entry.value.is_nothing() {
        complaint.at = entry.at;
    }
    complaint
}

/// Writes keys and values on lines of their own.
pub(super) fn block<'k, T: 'static>(
    indent: usize,
    keys: impl IntoIterator<Item = &'k Key<T>>,
    from: &T,
) -> String {
    let line = |(name, value): (&str, String)| {
        // A block begins on a line of its own.
        let space = if value.starts_with('\n') { "" } else { " " };
        format!("{:indent$}{name}:{space}{value}\n", "")
    };
    shown(keys, from).map(line).collect()
}

/// Writes keys and values as `{ a: b, c: d }`; an empty text if there are none.
pub(super) fn inline<'k, T: 'static>(keys: impl IntoIterator<Item = &'k Key<T>>, from: &T) -> String {
    braced(shown(keys, from))
}

/// Writes the same of any names and values.
pub(super) fn braced(entries: impl Iterator<Item = (impl Display, String)>) -> String {
    let entries: Vec<_> = entries.map(|(name, value)| format!("{name}: {value}")).collect();
    if entries.is_empty() { String::new() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// Gives the keys that are written, with their values.
pub(super) fn shown<'k, T: 'static>(
    keys: impl IntoIterator<Item = &'k Key<T>>,
    from: &T,
) -> impl Iterator<Item = (&'static str, String)> {
    let shown = move |key: &'k Key<T>| (key.name, (key.show)(from));
    keys.into_iter().map(shown).filter(|(_, value)| !value.is_empty())
}
