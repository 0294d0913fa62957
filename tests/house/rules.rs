//! The rules, and what a crate breaks of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::reader::{Crate, Token, Written, closing};

pub struct Rule<'a> {
    pub rooms: &'a [(&'a [&'a str], &'a [&'a str])],
    pub durable: &'a [&'a str],
    pub deleting: &'a str,
}

/// One line of one file that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    file: String,
    line: usize,
    /// A room or a file, and what it should not import or call.
    pair: (String, String),
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Room,
    Circle,
    Call,
    Dele,
    Switch,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, pair: (from, to), kind } = self;
        write!(f, "src/{file}:{line}: ")?;
        match kind {
            Kind::Room => write!(f, "{from} may not import {to}"),
            Kind::Circle => write!(f, "{from} -> {to} closes a circle"),
            Kind::Call => write!(f, "{from} may not call {to}"),
            Kind::Dele => write!(f, "{from} may not write {to}"),
            Kind::Switch => write!(f, "{to} is an argument that is true or false"),
        }
    }
}

/// What is broken; of a circle each import that is part of it.
pub fn violations(of: &Crate, rule: &Rule<'_>) -> Vec<Broken> {
    let mut broken = lines(of, rule);
    let arrows = Arrows::of(of);
    let all = arrows.0.iter().flat_map(|(from, to)| to.iter().map(move |(to, line)| (from, to, line)));
    for (from, to, line) in all {
        if arrows.lead(to, from) {
            let pair = (from.clone(), to.clone());
            broken.push(Broken { file: from.clone(), line: *line, pair, kind: Kind::Circle });
        }
    }
    broken
}

/// What is broken line by line: all but circles.
fn lines(of: &Crate, rule: &Rule<'_>) -> Vec<Broken> {
    let mut broken = imports(of, rule);
    for module in of.0.values() {
        let file = shown(&module.file);
        let mut add = |line, what: &str, kind| {
            let pair = (file.clone(), what.to_owned());
            broken.push(Broken { file: file.clone(), line, pair, kind });
        };
        if !rule.durable.contains(&file.as_str()) {
            durable(&module.tokens, &module.outside)
                .into_iter()
                .for_each(|(line, call)| add(line, call, Kind::Call));
        }
        if file != rule.deleting && !file.starts_with("pop3/") {
            deleting(&module.tokens).into_iter().for_each(|line| add(line, "DELE", Kind::Dele));
        }
        switches(&module.tokens).into_iter().for_each(|(line, name)| add(line, name, Kind::Switch));
    }
    broken
}

fn imports(of: &Crate, rule: &Rule<'_>) -> Vec<Broken> {
    let open = rule.rooms[0].0;
    let mut broken = Vec::new();
    for import in of.imports() {
        let file = shown(&import.from);
        let room = file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        let allowed = rule
            .rooms
            .iter()
            .find(|(rooms, _)| rooms.contains(&room.as_str()))
            .map_or(&[][..], |line| line.1);
        for other in import.rooms {
            let one_file = import.to.with_extension("");
            let may = other == room
                || open.contains(&other.as_str())
                || allowed.contains(&other.as_str())
                || allowed.iter().any(|allowed| Path::new(allowed) == one_file);
            if !may && allowed != ["all"] && room != "lib" {
                broken.push(Broken {
                    file: file.clone(),
                    line: import.line,
                    pair: (room.clone(), other),
                    kind: Kind::Room,
                });
            }
        }
    }
    broken
}

/// Calls that make durable, and renames; a method of that name may be our own, a function of another crate is not.
fn durable<'a>(tokens: &'a [(Token, usize)], outside: &'a [Written]) -> Vec<(usize, &'a str)> {
    const CALLS: [&str; 10] = [
        "fsync",
        "fdatasync",
        "sync_all",
        "sync_data",
        "renameat",
        "renameat2",
        "linkat",
        "hard_link",
        "persist",
        "persist_noclobber",
    ];
    let words = tokens.iter().filter_map(|(token, line)| Some((*line, token.word()?)));
    let mut calls: Vec<_> = words.filter(|(_, word)| CALLS.contains(word)).collect();
    let ends = outside.iter().filter_map(|written| Some((written.line, written.segments.last()?.as_str())));
    calls.extend(ends.filter(|(_, last)| *last == "rename"));
    calls
}

/// Lines that make the command, or that write it as text.
fn deleting(tokens: &[(Token, usize)]) -> Vec<usize> {
    let texts = tokens.iter().filter(
        |(token, _)| matches!(token, Token::Text(text) if text == "DELE" || text.starts_with("DELE ")),
    );
    let made = tokens.windows(3).filter(|of| {
        of[2].0.word() == Some("Dele") && of[1].0 == Token::Colons && of[0].0.word() != Some("Request")
    });
    texts.map(|(_, line)| *line).chain(made.map(|of| of[2].1)).collect()
}

/// Arguments of functions that are `bool`, or perhaps one: what they say must be looked up where they are given.
fn switches(tokens: &[(Token, usize)]) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at].0.word() == Some("fn")) {
        let mut generic = 0;
        let opens = |at: &usize| {
            let is = |at: usize, mark| tokens[at].0 == Token::Mark(mark);
            generic += i32::from(is(*at, '<')) - i32::from(is(*at, '>') && !is(at - 1, '-'));
            generic == 0 && is(*at, '(')
        };
        let Some(open) = (at..tokens.len()).find(opens) else { continue };
        let end = tokens.len().min(closing(tokens, open) + 2);
        for of in tokens[open..end].windows(5) {
            let kind = if of[2].0.word() == Some("Option") { &of[4].0 } else { &of[2].0 };
            if of[1].0 == Token::Mark(':') && kind.word() == Some("bool") {
                found.extend(of[0].0.word().map(|name| (of[0].1, name)));
            }
        }
    }
    found
}

/// Which file imports which, and in which line first.
struct Arrows(BTreeMap<String, BTreeMap<String, usize>>);

impl Arrows {
    fn of(of: &Crate) -> Self {
        let mut arrows: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for import in of.imports() {
            let from = arrows.entry(shown(&import.from)).or_default();
            from.entry(shown(&import.to)).or_insert(import.line);
        }
        Self(arrows)
    }

    fn lead(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
        while let Some(file) = waiting.pop() {
            if file == to {
                return true;
            }
            for next in self.0.get(file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next.as_str()) {
                    waiting.push(next);
                }
            }
        }
        false
    }
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}
