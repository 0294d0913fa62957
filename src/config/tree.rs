//! YAML text as a tree in which every key and value knows its line and column.
//!
//! Scalars keep the text as it was written. A YAML library that deserializes into types turns the password `0123`
//! into 123 and stops at the first mistake, and its messages may quote what stands in the file.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

/// Octets of text that are read at most: some ten thousand accounts.
pub(super) const MOST_OCTETS: usize = 4 * 1024 * 1024;

/// Keys, values and collections in one file at most; bounds memory, which is a multiple of the text.
const MOST_NODES: usize = 250_000;

/// Collections inside each other at most; the deepest key known here has four.
const DEEPEST: usize = 16;

/// Where something stands in the file; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong, where, and how the path goes on below the key that is being read.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) at: Position,
    /// Empty, `.command`, `[2]`.
    pub(super) below: String,
    pub(super) what: String,
}

/// A value of the file.
pub(super) struct Node<'t> {
    pub(super) at: Position,
    pub(super) content: Content<'t>,
}

pub(super) enum Content<'t> {
    /// Without quotes.
    Plain(Cow<'t, str>),
    /// In quotes, or as a block.
    Quoted(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Mapping(Vec<Entry<'t>>),
}

/// A key of a mapping and its value.
pub(super) struct Entry<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) at: Position,
    pub(super) value: Node<'t>,
    /// Where the same key stood before.
    pub(super) before: Option<Position>,
}

/// Reads a text that must hold one document. Time and memory are linear in the text and bounded.
///
/// # Errors
///
/// Text that is not YAML or goes beyond a bound; `None` if there is nothing but blanks and comments. The complaint
/// quotes nothing of the text.
pub(super) fn parse(text: &str) -> Result<Option<Node<'_>>, Complaint> {
    let start = Position { line: 1, column: 1 };
    if text.len() > MOST_OCTETS {
        return Err(Complaint::new(start, format!("larger than {MOST_OCTETS} octets")));
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut building = Building { open: Vec::new(), root: None, nodes: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| not_yaml(text, &error).within(building.bracket(text)))?;
        building.take(event, &span)?;
    }
    Ok(building.root.filter(|root| !root.is_nothing()))
}

impl Complaint {
    pub(super) fn new(at: Position, what: impl Into<String>) -> Self {
        Self { at, below: String::new(), what: what.into() }
    }

    /// Adds that a bracket of an earlier line is open where something is not YAML: what is told is often its end missing.
    fn within(mut self, bracket: Option<Position>) -> Self {
        if let Some(Position { line, column }) = bracket.filter(|bracket| bracket.line < self.at.line) {
            self.what += &format!("; the bracket at {line}:{column} is open here");
        }
        self
    }

    /// Puts a step in front of the path.
    pub(super) fn under(mut self, step: &str) -> Self {
        self.below.insert_str(0, step);
        self
    }
}

impl<'t> Node<'t> {
    /// Tells whether it is an empty value, `~` or `null` without quotes.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(&self.content, Content::Plain(text) if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(super) fn wrong(&self, what: impl Into<String>) -> Complaint {
        Complaint::new(self.at, what)
    }

    /// Gives the text of a scalar, quoted or not; `what` says what it must be.
    pub(super) fn text(&self, what: &str) -> Result<&str, Complaint> {
        match &self.content {
            Content::Plain(_) if self.is_nothing() => {
                Err(self.wrong(format!("has no value, must be {what}{}", self.tilde())))
            }
            Content::Plain(text) | Content::Quoted(text) => Ok(text),
            Content::List(_) => Err(self.wrong(format!("must be {what}, not a list"))),
            Content::Mapping(_) => Err(self.wrong(format!("must be {what}, not a mapping"))),
        }
    }

    /// Gives the entries of a mapping; `what` says what it must be.
    pub(super) fn mapping(&self, what: &str) -> Result<&[Entry<'t>], Complaint> {
        match &self.content {
            Content::Mapping(entries) => Ok(entries),
            Content::Plain(_) if self.is_nothing() => {
                Err(self.wrong(format!("has no value, must be {what}")))
            }
            Content::Plain(_) | Content::Quoted(_) => Err(self.wrong(format!("must be {what}, not a text"))),
            Content::List(_) => Err(self.wrong(format!("must be {what}, not a list"))),
        }
    }

    /// Counts the octets of text in the value and everything below it.
    pub(super) fn octets(&self) -> usize {
        match &self.content {
            Content::Plain(text) | Content::Quoted(text) => text.len(),
            Content::List(items) => items.iter().map(Node::octets).sum(),
            Content::Mapping(entries) => entries.iter().map(|entry| entry.value.octets()).sum(),
        }
    }

    /// `~` alone is YAML's word for no value; whoever writes it for a path means the home directory.
    fn tilde(&self) -> &'static str {
        match &self.content {
            Content::Plain(text) if text == "~" => " (YAML reads `~` alone as no value: quote it)",
            Content::Plain(_) | Content::Quoted(_) | Content::List(_) | Content::Mapping(_) => "",
        }
    }
}

/// The tree while it grows: collections that are open, outermost first.
struct Building<'t> {
    open: Vec<Open<'t>>,
    root: Option<Node<'t>>,
    nodes: usize,
}

/// A collection whose end was not seen yet.
enum Open<'t> {
    List(Position, Vec<Node<'t>>),
    Mapping {
        at: Position,
        entries: Vec<Entry<'t>>,
        keys: HashMap<Cow<'t, str>, Position>,
        key: Option<Key<'t>>,
    },
}

/// A key whose value was not seen yet.
struct Key<'t> {
    text: Cow<'t, str>,
    at: Position,
    before: Option<Position>,
}

impl<'t> Building<'t> {
    /// Gives where the innermost bracket was opened that is open.
    fn bracket(&self, text: &str) -> Option<Position> {
        let (Open::List(at, _) | Open::Mapping { at, .. }) = self.open.last()?;
        let line = text.lines().nth(at.line.checked_sub(1)?)?;
        line.chars().nth(at.column.checked_sub(1)?).filter(|c| matches!(c, '[' | '{')).map(|_| *at)
    }

    fn take(&mut self, event: Event<'t>, span: &Span) -> Result<(), Complaint> {
        let at = Position { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, _, tag) => {
                self.begin(at, tag.as_ref())?;
                // The parser's text for a value that is not there is the `~` that nobody wrote.
                let text = if span.is_empty() { Cow::Borrowed("") } else { text };
                let content = match style {
                    ScalarStyle::Plain => Content::Plain(text),
                    ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => Content::Quoted(text),
                };
                self.close(Node { at, content })
            }
            Event::SequenceStart(_, _, tag) => {
                self.begin(at, tag.as_ref())?;
                self.open.push(Open::List(at, Vec::new()));
                Ok(())
            }
            Event::MappingStart(_, _, tag) => {
                self.begin(at, tag.as_ref())?;
                self.open.push(Open::Mapping { at, entries: Vec::new(), keys: HashMap::new(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(at, items)) => self.close(Node { at, content: Content::List(items) }),
                Some(Open::Mapping { at, entries, .. }) => {
                    self.close(Node { at, content: Content::Mapping(entries) })
                }
                None => Err(Complaint::new(at, "not valid YAML: something ends that did not begin")),
            },
            // Aliases would let a small text stand for an endless tree.
            Event::Alias(_) | Event::UnresolvedAlias(_) => Err(Complaint::new(
                at,
                "aliases are not supported: put what accounts share under `defaults`, and quote text that begins with `*`",
            )),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Complaint::new(at, "a second YAML document begins here: only one is read"))
            }
            // Start and end of stream and document, anchors that nothing refers to; the enum is open.
            _ => Ok(()),
        }
    }

    /// Counts a node that begins, and refuses what has no meaning here.
    fn begin<T>(&mut self, at: Position, tag: Option<&T>) -> Result<(), Complaint> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(Complaint::new(at, format!("more than {MOST_NODES} keys and values")));
        }
        if tag.is_some() {
            return Err(Complaint::new(at, "YAML tags are not supported: quote text that begins with `!`"));
        }
        Ok(())
    }

    /// Puts a whole node where it belongs.
    fn close(&mut self, node: Node<'t>) -> Result<(), Complaint> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Mapping { entries, keys, key, .. }) => match key.take() {
                Some(Key { text, at, before }) => entries.push(Entry { key: text, at, value: node, before }),
                None => {
                    let (Content::Plain(text) | Content::Quoted(text)) = node.content else {
                        return Err(Complaint::new(node.at, "a key must be a word, not a list or a mapping"));
                    };
                    let before = keys.get(&text).copied();
                    if before.is_none() {
                        keys.insert(text.clone(), node.at);
                    }
                    *key = Some(Key { text, at: node.at, before });
                }
            },
        }
        Ok(())
    }
}

/// The parser's words for what is not YAML. None of them quotes more than one character of the text, and that one is
/// left out: it may be the first of a password.
fn not_yaml(text: &str, error: &ScanError) -> Complaint {
    let at = Position { line: error.marker().line(), column: error.marker().col() + 1 };
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    let indent = line.bytes().take_while(|octet| matches!(octet, b' ' | b'\t'));
    if indent.clone().count() < line.len() && indent.clone().any(|octet| octet == b'\t') {
        return Complaint::new(at, "not valid YAML: a tab cannot indent, only spaces can");
    }
    let what = match error.kind() {
        ErrorKind::UnexpectedCharacter { .. } => "unquoted text cannot begin with this character".to_owned(),
        ErrorKind::RecursionLimitExceeded => format!("more than {DEEPEST} levels inside each other"),
        kind => kind.to_string(),
    };
    Complaint::new(
        at,
        format!("not valid YAML: {what} (text with `: `, ` #` or a special first character needs quotes)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(text: &str) -> (usize, usize, String) {
        match parse(text) {
            Ok(_) => panic!("was read"),
            Err(complaint) => (complaint.at.line, complaint.at.column, complaint.what),
        }
    }

    #[test]
    fn a_bracket_that_is_not_closed_is_told_where_it_stands() {
        for text in ["a:\n  b: { c: d,\n    e: f\n  g:\n    h: i\n", "a:\n  b: [ c, d\n  g: { h: i }\n"] {
            let (line, _, what) = what(text);
            assert!(line > 2 && what.ends_with("; the bracket at 2:6 is open here"), "{line}: {what}");
        }
    }

    #[test]
    fn keys_and_values_know_where_they_stand() {
        let Ok(Some(root)) = parse("# Ä\na:\n  bé: [x, 0123]\n") else { panic!("not read") };
        let a = &root.mapping("").unwrap()[0];
        let b = &a.value.mapping("").unwrap()[0];
        let Content::List(items) = &b.value.content else { panic!("no list") };
        assert_eq!((b.at, b.value.at), (Position { line: 3, column: 3 }, Position { line: 3, column: 7 }));
        assert_eq!(items[1].at, Position { line: 3, column: 11 });
        assert_eq!(items[1].text("").unwrap(), "0123");
    }

    #[test]
    fn a_text_without_content_is_nothing() {
        for text in ["", "\n\n", "# only words\n", "---\n", "~", "\u{feff}"] {
            assert!(matches!(parse(text), Ok(None)), "{text:?}");
        }
    }

    #[test]
    fn aliases_tags_documents_and_odd_keys_are_refused() {
        assert!(what("a: &x 1\nb: *x\n").2.starts_with("aliases"));
        assert!(what("a: !!str 1").2.starts_with("YAML tags"));
        assert_eq!(what("a: 1\n---\nb: 2\n").0, 2);
        assert!(what("[a]: 1").2.starts_with("a key must be"));
    }

    #[test]
    fn hostile_shapes_are_refused_quickly() {
        assert!(what(&"[".repeat(200_000)).2.contains("levels"));
        assert!(what(&"- ".repeat(200_000)).2.contains("levels"));
        assert!(what(&"a".repeat(MOST_OCTETS + 1)).2.starts_with("larger"));
        assert!(what(&"- a\n".repeat(MOST_NODES + 1)).2.starts_with("more than 250000"));
    }
}
