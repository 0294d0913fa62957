//! The target that is a command: `pipe`.

use std::time::Duration;

use super::account::CommandLine;
use super::places::Places;
use super::recipients::RECIPIENTS;
use super::rows::{Form, Key, inline, key, mapping};
use super::target::{Fact, Pipe, Recipients};
use super::tree::{Complaint, Content, Node};
use super::values::{self, BOOLEAN, LOCAL_USER, POSITIVE};

pub(super) const KEYS: &[Key<Pipe>] = &[
    key!("command", command, COMMAND, "What is run for each message; required."),
    key!("timeout", timeout, POSITIVE, "How long it may take for one message."),
    key!("from_line", from_line, BOOLEAN, "Whether a From line, as in an mbox, comes first."),
    key!("user", run_as, LOCAL_USER, "The user of this system that it is run as."),
    key!("to", to, TO, "Whom the command is told to deliver to: addresses, or the header that names them."),
];

const TO: Form<Option<Recipients>> = Form::new(
    |node, places| (RECIPIENTS.read)(node, places).map(Some),
    |to| to.as_ref().map_or_else(String::new, |to| (RECIPIENTS.show)(to)),
);

/// A command alone, or a mapping.
pub(super) const PIPE: Form<Pipe> = Form { kind: COMMAND.kind, read: pipe, show: |pipe| inline(KEYS, pipe) };

const COMMAND: Form<CommandLine> = Form { read: |node, _| command(node), ..values::COMMAND };

fn pipe(node: &Node<'_>, places: &Places) -> Result<Pipe, Complaint> {
    let Content::Mapping(entries) = &node.content else { return Ok(of(command(node)?)) };
    let nothing = of(CommandLine::Argv(Vec::new()));
    let pipe = mapping(node, places, "a command, or a mapping with `command`", KEYS, nothing)?;
    if entries.iter().any(|entry| entry.key == "command") {
        Ok(pipe)
    } else {
        Err(node.wrong("needs `command`"))
    }
}

/// Makes a target of shell text, as on a command line.
pub(super) fn of_shell(text: &str) -> Result<Pipe, String> {
    shell(text)?;
    Ok(of(CommandLine::Shell(text.to_owned())))
}

fn of(command: CommandLine) -> Pipe {
    Pipe { command, timeout: Duration::from_secs(5 * 60), from_line: false, run_as: None, to: None }
}

fn command(node: &Node<'_>) -> Result<CommandLine, Complaint> {
    let command = values::command(node)?;
    match (&command, &node.content) {
        (CommandLine::Shell(text), _) => shell(text).map_err(|what| node.wrong(what))?,
        (CommandLine::Argv(words), Content::List(items)) => {
            for (index, (word, item)) in words.iter().zip(items).enumerate() {
                let sound = if index == 0 { program(word) } else { argument(word) };
                sound.map_err(|what| item.wrong(what).under(&format!("[{index}]")))?;
            }
        }
        (CommandLine::Argv(_), Content::Plain(_) | Content::Quoted(_) | Content::Mapping(_)) => {}
    }
    Ok(command)
}

/// What comes from a message must never be read by a shell.
fn shell(text: &str) -> Result<(), String> {
    let Some(name) = mentioned(text) else { return Ok(()) };
    let variable = name.trim_matches(['%', '(', ')']).to_ascii_uppercase();
    let variable = match &*variable {
        "EXTENSION" => variable,
        _ => format!("POSTRIDER_{variable}"),
    };
    Err(format!(
        "must have no {name} in text for the shell: write \"${variable}\", in double quotes, or a list of program and \
         arguments"
    ))
}

fn program(word: &str) -> Result<(), String> {
    match mentioned(word) {
        None => Ok(()),
        Some(name) => Err(format!("names no program: {name} can only be an argument")),
    }
}

fn argument(word: &str) -> Result<(), String> {
    if Fact::named(word).is_some() {
        return Ok(());
    }
    if let Some(name) = mentioned(word) {
        return Err(format!("must have {name} as an argument of its own, not as a part of one"));
    }
    let inside = word.strip_prefix("%(").and_then(|rest| rest.strip_suffix(')'));
    if inside.is_some_and(|name| name.bytes().all(|octet| octet.is_ascii_alphabetic())) {
        return Err(format!("must be one of {}", Fact::NAMES.map(|(name, _)| name).join(", ")));
    }
    Ok(())
}

/// Finds a fact that a text mentions.
fn mentioned(text: &str) -> Option<&'static str> {
    Fact::NAMES.into_iter().map(|(name, _)| name).find(|name| text.contains(name))
}
