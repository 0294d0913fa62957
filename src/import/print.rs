//! What was read of another program's configuration, as YAML.

use std::fmt::Write;

use super::cursor::At;
use super::shape::{Account, Imported, Line, Note, Value};
use crate::config::yaml::{list, text};

/// Columns of a comment.
const WIDTH: usize = 100;

/// Writes it as a configuration; the lines of `head` stand on top, as comments. No secret may be left in it.
pub fn print(imported: &Imported, head: &[String]) -> String {
    let mut out = String::new();
    head.iter().for_each(|line| match line.starts_with(' ') {
        // To be typed, as it is.
        true => out += &format!("# {}\n", line.replace(char::is_control, "?")),
        false => comment(&mut out, 0, line),
    });
    imported.notes.iter().for_each(|note| told(&mut out, 0, &[note]));
    if let Some(state) = &imported.state {
        out += &format!("state: {}\n", text(state));
    }
    if !imported.defaults.is_empty() {
        out += "defaults:\n";
        imported.defaults.iter().for_each(|(key, value)| entry(&mut out, 2, key, value));
    }
    out += "accounts:\n";
    imported.accounts.iter().for_each(|account| one(&mut out, account));
    out
}

fn one(out: &mut String, account: &Account) {
    if let Some(why) = &account.left_out {
        return comment(out, 2, &format!("{} ({}): left out: {why}", account.name, place(&[&account.at])));
    }
    let _ = writeln!(out, "  {}:  # {}", text(&account.name), place(&[&account.at]));
    let mut lines = &account.lines[..];
    while let [line, rest @ ..] = lines {
        lines = rest;
        let first = match line {
            Line::Key(key, value) => {
                entry(out, 4, key, value);
                continue;
            }
            Line::Note(note) => note,
        };
        // The same of one place behind the other, such as thirty rules, is told once.
        let is_same = |next: &Note| next.what == first.what && next.file() == first.file();
        let mut notes = vec![first];
        while let [Line::Note(next), rest @ ..] = lines
            && is_same(next)
        {
            notes.push(next);
            lines = rest;
        }
        told(out, 4, &notes);
    }
}

fn entry(out: &mut String, indent: usize, key: &str, value: &Value) {
    match value {
        Value::List(items) if items.iter().all(|item| matches!(item, Value::Map(_))) && !items.is_empty() => {
            let _ = writeln!(out, "{:indent$}{key}:", "");
            items.iter().for_each(|item| {
                let _ = writeln!(out, "{:indent$}  - {}", "", flow(item));
            });
        }
        value => {
            let _ = writeln!(out, "{:indent$}{key}: {}", "", flow(value));
        }
    }
}

/// Writes a value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Text(value) => text(value),
        Value::Bare(word) => word.clone(),
        Value::List(items) => list(items.iter().map(flow)),
        Value::Map(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{}: {}", text(key), flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Secret(secret) => format!("'{secret}'"),
    }
}

/// Writes what is told of one place, or the same of several places of one file.
fn told(out: &mut String, indent: usize, notes: &[&Note]) {
    let what = notes.first().map_or("", |note| &note.what);
    let places: Vec<&At> = notes.iter().filter_map(|note| note.at.as_ref()).collect();
    match places[..] {
        [] => comment(out, indent, what),
        _ => comment(out, indent, &format!("{}: {what}", place(&places))),
    }
}

/// `line 4`, `lines 4, 7, 9`, or with the file that another one includes.
fn place(places: &[&At]) -> String {
    let mut lines: Vec<String> = places.iter().map(|at| at.line.to_string()).collect();
    lines.dedup();
    let lines = format!("line{} {}", if lines.len() == 1 { "" } else { "s" }, lines.join(", "));
    match places.first().and_then(|at| at.file.as_ref()) {
        Some(file) => format!("{}, {lines}", file.display()),
        None => lines,
    }
}

/// Writes a comment, wrapped; nothing in it ends the comment.
fn comment(out: &mut String, indent: usize, what: &str) {
    let what = what.replace(char::is_control, "?");
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        let _ = writeln!(out, "{:indent$}# {}", "", std::mem::take(line));
    };
    for word in what.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && indent + 3 + line.chars().count() + word.chars().count() > WIDTH {
            flush(&mut line);
            line.push_str("  ");
        }
        if !line.trim_start().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    flush(&mut line);
}
