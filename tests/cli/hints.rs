//! What the program tells people to do must be possible.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::postrider::Home;

/// Gives all text of the program's source, file by file.
fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).expect("a source")));
        }
    }
}

/// Gives the words of a help text that begin so, without what stands behind them.
fn words(help: &str, prefix: &str) -> BTreeSet<String> {
    let split = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    help.split(split)
        .filter(|word| word.starts_with(prefix) && word.len() > prefix.len())
        .map(str::to_owned)
        .collect()
}

#[test]
fn hints_name_only_commands_and_options_that_exist() {
    let home = Home::new();
    let commands = home.commands();
    assert!(commands.contains("sync") && commands.len() > 5, "{commands:?}");
    let mut options = words(&home.must(&["--help"], 0).stdout, "--");
    // Help itself takes no option.
    for command in commands.iter().filter(|command| *command != "help") {
        options.extend(words(&home.must(&[command, "--help"], 0).stdout, "--"));
        for below in ["list", "mark", "forget", "retry", "discard", "check", "show"] {
            let help = home.run(&[command, below, "--help"]);
            if help.status == Some(0) {
                options.extend(words(&help.stdout, "--"));
            }
        }
    }

    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut looked_at = 0;
    for (file, text) in &files {
        for quoted in text.split("`postrider ").skip(1) {
            let line = quoted.split('`').next().unwrap_or_default();
            // Options of every command may stand before it, and a value may follow them.
            let command = line.split_whitespace().find(|word| commands.contains(*word));
            let first = line.split_whitespace().next().unwrap_or_default();
            assert!(first.starts_with(['-', '{']) || commands.contains(first), "{file}: `postrider {line}`");
            for option in words(line, "--") {
                assert!(options.contains(&option), "{file}: `postrider {line}`: {option}");
            }
            looked_at += usize::from(command.is_some());
        }
        for quoted in text.split("`--").skip(1) {
            let option =
                quoted.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap_or_default();
            assert!(options.contains(&format!("--{option}")), "{file}: `--{option}`");
            looked_at += 1;
        }
    }
    assert!(looked_at > 5, "only {looked_at}");
}
