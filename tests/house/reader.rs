//! Reads what the files of a crate import of each other: tokens, modules, `use` and paths, as far as a crate without
//! path attributes and without macros that make modules needs. What stands under `cfg(test)` is not read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a line of source has, comments aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(String),
    /// A literal string, without its quotes.
    Text(String),
    /// `::`
    Colons,
    Mark(char),
}

impl Token {
    fn is(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }

    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// A token and its line, from 1.
pub type Placed = (Token, usize);

/// A path that a file writes, from the root of the crate on, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub segments: Vec<String>,
    pub line: usize,
}

/// A module in a file of its own.
#[derive(Debug, Default)]
pub struct Module {
    pub file: PathBuf,
    pub tokens: Vec<Placed>,
    /// What a name that a `use` brought stands for.
    names: BTreeMap<String, Vec<String>>,
    pub written: Vec<Written>,
    /// Paths of more than one word into other crates, or that begin with an item.
    pub outside: Vec<Written>,
}

/// An import: whose line, the room and the file that it reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: PathBuf,
    pub line: usize,
    /// Rooms on the way: the one that is named and the one that has the item.
    pub rooms: BTreeSet<String>,
    pub to: PathBuf,
}

/// All modules of a crate by their paths from its root.
#[derive(Debug, Default)]
pub struct Crate(pub BTreeMap<Vec<String>, Module>);

impl Crate {
    /// Reads a crate from its `lib.rs` on; files come by `read`, and `None` is a file that is not there.
    pub fn read(read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut modules = BTreeMap::new();
        let mut waiting = vec![Vec::<String>::new()];
        while let Some(path) = waiting.pop() {
            let (file, text) =
                places(&path).into_iter().find_map(|file| read(&file).map(|text| (file, text))).unwrap();
            let mut inline = vec![(path, without_tests(tokens(&text)))];
            while let Some((path, mut tokens)) = inline.pop() {
                while let Some((name, body)) = take_inline(&mut tokens) {
                    inline.push(([path.as_slice(), &[name]].concat(), body));
                }
                waiting.extend(declared(&tokens).into_iter().map(|name| [path.as_slice(), &[name]].concat()));
                modules.insert(path, Module { file: file.clone(), tokens, ..Module::default() });
            }
        }
        let known: BTreeSet<_> = modules.keys().cloned().collect();
        for (path, module) in &mut modules {
            (module.names, module.written, module.outside) = paths(path, &module.tokens, &known);
        }
        Self(modules)
    }

    /// What the files import of each other, in the order of their names.
    pub fn imports(&self) -> Vec<Import> {
        let mut imports = Vec::new();
        for (path, module) in &self.0 {
            for written in &module.written {
                let Some((home, item)) = self.resolve(&written.segments, 0) else { continue };
                let to = &self.0[&home].file;
                if *to == module.file || (item.is_none() && path.is_empty()) {
                    continue;
                }
                let rooms = [written.segments.first(), home.first()].into_iter().flatten().cloned().collect();
                imports.push(Import { from: module.file.clone(), line: written.line, rooms, to: to.clone() });
            }
        }
        imports.sort();
        imports.dedup();
        imports
    }

    /// Gives the module that has what a path names, and its name there; none if it is another crate's.
    fn resolve(&self, segments: &[String], depth: usize) -> Option<(Vec<String>, Option<String>)> {
        let inside = (0..=segments.len()).rev().find(|&end| self.0.contains_key(&segments[..end]))?;
        let module = &segments[..inside];
        let Some(item) = segments.get(inside) else { return Some((module.to_vec(), None)) };
        assert!(depth < 20, "{segments:?} is a re-export of itself");
        match self.0[module].names.get(item) {
            Some(other) if other.first().is_some_and(|first| first == "::") => None,
            Some(other) => self.resolve(&[other, &segments[inside + 1..]].concat(), depth + 1),
            None => Some((module.to_vec(), Some(item.clone()))),
        }
    }
}

/// Where the file of a module may be.
fn places(path: &[String]) -> Vec<PathBuf> {
    let whole: PathBuf = path.iter().collect();
    if path.is_empty() {
        vec!["lib.rs".into()]
    } else {
        vec![whole.with_extension("rs"), whole.join("mod.rs")]
    }
}

/// Cuts source into tokens.
pub fn tokens(text: &str) -> Vec<Placed> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (token, length) = next(rest, first);
        if let Some(token) = token {
            tokens.push((token, line));
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// Takes one token, comment or space off the front, and says how many octets it had.
fn next(rest: &str, first: char) -> (Option<Token>, usize) {
    let until = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
    if rest.starts_with("//") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, until("*/"));
    }
    if let Some((text, length)) = string(rest) {
        return (Some(Token::Text(text.to_owned())), length);
    }
    if rest.starts_with("::") {
        return (Some(Token::Colons), 2);
    }
    if first == '\'' {
        return (None, character(rest));
    }
    if first.is_alphanumeric() || first == '_' {
        let word = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(rest);
        return (Some(Token::Word(word.to_owned())), word.len());
    }
    let token = (!first.is_whitespace()).then_some(Token::Mark(first));
    (token, first.len_utf8())
}

/// A literal string of any kind at the front: what it says, and its length with quotes.
fn string(rest: &str) -> Option<(&str, usize)> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or("");
        after.starts_with('"')
            || (prefix.ends_with('r')
                && after.trim_start_matches('#').starts_with('"')
                && after.starts_with('#'))
    })?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let (end, start) = (format!("\"{}", "#".repeat(hashes)), hashes + 1);
        let at = body[start..].find(&end)?;
        return Some((&body[start..start + at], prefix.len() + start + at + end.len()));
    }
    let mut escaped = false;
    let end = body[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&body[1..=end], prefix.len() + end + 2))
}

/// How long a character in quotes is, or the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest[from..].find('\'').map_or(1, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Leaves out what is compiled for tests alone.
fn without_tests(tokens: Vec<Placed>) -> Vec<Placed> {
    let mut left = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if starts(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"])
            || starts(&tokens[at..], &["#", "[", "cfg", "(", "all", "(", "test"])
        {
            at = end_of_item(&tokens, at);
        } else {
            left.push(tokens[at].clone());
            at += 1;
        }
    }
    left
}

fn starts(tokens: &[Placed], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len()
        && tokens.iter().zip(pattern).all(|((token, _), wanted)| match token {
            Token::Word(word) => word == wanted,
            Token::Mark(mark) => wanted.chars().eq([*mark]),
            _ => false,
        })
}

/// Where the item that begins here, attributes first, is over: after its `;`, its `,` or its braces.
fn end_of_item(tokens: &[Placed], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|(token, _)| token.is('#')) {
        at = closing(tokens, at + 1) + 1;
    }
    let used = starts(&tokens[at..], &["use"]) || starts(&tokens[at..], &["pub", "use"]);
    while at < tokens.len() {
        match &tokens[at].0 {
            Token::Mark(';' | ',') => return at + 1,
            Token::Mark('{') if !used => return closing(tokens, at) + 1,
            Token::Mark('(' | '[' | '{') => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

/// Where the bracket that opens here is closed.
pub fn closing(tokens: &[Placed], open: usize) -> usize {
    let mut depth = 0;
    for (at, (token, _)) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// The modules in files of their own that tokens declare.
fn declared(tokens: &[Placed]) -> Vec<String> {
    let modules = tokens.windows(3).filter_map(|of| match [&of[0].0, &of[1].0, &of[2].0] {
        [Token::Word(key), Token::Word(name), Token::Mark(';')] if key == "mod" => Some(name.clone()),
        _ => None,
    });
    modules.collect()
}

/// Takes the first module out that has its body here.
fn take_inline(tokens: &mut Vec<Placed>) -> Option<(String, Vec<Placed>)> {
    let at = tokens.windows(3).position(|of| of[0].0.word() == Some("mod") && of[2].0.is('{'))?;
    let name = tokens[at + 1].0.word()?.to_owned();
    let end = closing(tokens, at + 2);
    let mut taken: Vec<Placed> = tokens.drain(at..=end).collect();
    taken.pop();
    Some((name, taken.split_off(3)))
}

type Names = BTreeMap<String, Vec<String>>;

/// Reads the `use` declarations and the other paths of a module. A re-export alone imports nothing: the file stands at
/// the door of the items, and needs those alone that it names itself.
fn paths(
    own: &[String],
    tokens: &[Placed],
    known: &BTreeSet<Vec<String>>,
) -> (Names, Vec<Written>, Vec<Written>) {
    let (mut names, mut used, mut bare, mut outside) = (Names::new(), Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].0.word() == Some("use") && (at == 0 || !tokens[at - 1].0.is('+')) {
            let public = at > 0 && matches!(&tokens[at - 1].0, Token::Word(word) if word == "pub")
                || at > 1 && tokens[at - 1].0.is(')');
            let mut leaves = Vec::new();
            at = tree(tokens, at + 1, &[], &mut leaves);
            for (path, name, line) in leaves {
                let segments = absolute(own, &path, known, &Names::new());
                names.insert(name.clone(), segments.clone().unwrap_or_else(|| vec!["::".to_owned()]));
                match segments {
                    Some(segments) => used.push((name, public, Written { segments, line })),
                    None => outside.push(Written { segments: path, line }),
                }
            }
        } else {
            bare.push(tokens[at].clone());
            at += 1;
        }
    }
    let declares = |at: usize| at > 0 && bare[at - 1].0.word() == Some("mod");
    let said = bare.iter().enumerate().filter(|(at, _)| !declares(*at));
    let spoken: BTreeSet<&str> = said.filter_map(|(_, (token, _))| token.word()).collect();
    // A module that is imported is reached by what is named in it.
    let reaches = |(name, public, written): (String, bool, Written)| {
        let needed = !public || spoken.contains(name.as_str());
        (needed && !known.contains(&written.segments)).then_some(written)
    };
    let mut written: Vec<Written> = used.into_iter().filter_map(reaches).collect();
    let mut at = 0;
    while at < bare.len() {
        let (path, after) = path(&bare, at);
        let line = bare[at].1;
        if path.len() > 1 {
            match absolute(own, &path, known, &names) {
                Some(segments) => written.push(Written { segments, line }),
                None => outside.push(Written { segments: path, line }),
            }
        }
        at = after.max(at + 1);
    }
    (names, written, outside)
}

/// Reads a path of words from here on; it ends where no `::` with a word follows.
fn path(tokens: &[Placed], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(word) = tokens.get(at).and_then(|(token, _)| token.word()) {
        path.push(word.to_owned());
        at += 1;
        if tokens.get(at).is_none_or(|(token, _)| *token != Token::Colons) {
            break;
        }
        at += 1;
    }
    (path, at)
}

type Leaf = (Vec<String>, String, usize);

/// Reads a tree of `use` from here on, and gives what it brings with the names that it gets here.
fn tree(tokens: &[Placed], mut at: usize, before: &[String], leaves: &mut Vec<Leaf>) -> usize {
    let line = tokens[at].1;
    let (words, after) = path(tokens, at);
    let mut whole = [before, &words].concat();
    at = after;
    match tokens.get(at).map(|(token, _)| token) {
        Some(Token::Mark('{')) => {
            let end = closing(tokens, at);
            at += 1;
            while at < end {
                at = tree(tokens, at, &whole, leaves);
                at += usize::from(tokens[at].0.is(','));
            }
            return end + 1;
        }
        Some(Token::Mark('*')) => {
            leaves.push((whole, "*".to_owned(), line));
            return at + 1;
        }
        // `::name` is another crate's.
        Some(Token::Colons) => return tree(tokens, at + 1, &["::".to_owned()], leaves),
        _ => {}
    }
    if before.len() < whole.len() && whole.len() > 1 && whole.last().is_some_and(|last| last == "self") {
        whole.pop();
    }
    let mut name = whole.last().cloned().unwrap_or_default();
    if tokens.get(at).and_then(|(token, _)| token.word()) == Some("as") {
        name = tokens[at + 1].0.word().unwrap_or_default().to_owned();
        at += 2;
    }
    leaves.push((whole, name, line));
    at
}

/// Makes a path one from the root of the crate; none if it is another crate's, or begins with an item.
fn absolute(
    own: &[String],
    path: &[String],
    known: &BTreeSet<Vec<String>>,
    names: &Names,
) -> Option<Vec<String>> {
    let first = path.first()?;
    let rest = &path[1..];
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([own, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            Some([&own[..own.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        name if known.contains(&[own, &[name.to_owned()]].concat()) => Some([own, path].concat()),
        name => {
            let module = names.get(name).filter(|module| known.contains(*module))?;
            Some([module, rest].concat())
        }
    }
}
