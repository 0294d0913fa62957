//! The manual, the README and the pages of docs/: what they quote is there, and what they configure is sound.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::with;
use crate::support::postrider::Home;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Gives the files below a directory whose names end so.
fn below(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(below(&path, end)),
            false if path.to_string_lossy().ends_with(end) => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

/// Gives the blocks of a page whose fence begins so, without the fences.
fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let fence = format!("```{kind}\n");
    page.split(&*fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Gives what stands in code marks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The sources as one text, in which each string stands on one line.
fn sources() -> String {
    let mut all = String::new();
    for file in below(&repository().join("src"), ".rs") {
        let source = fs::read_to_string(file).unwrap();
        let mut lines = source.split("\\\n");
        all.push_str(lines.next().unwrap());
        lines.for_each(|line| all.push_str(line.trim_start()));
    }
    all
}

#[test]
fn each_message_that_troubleshooting_explains_is_one_of_the_program() {
    let (page, sources) = (text("docs/troubleshooting.md"), sources());
    let (mut told, mut missing) = (0, Vec::new());
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        for message in quoted(line.split(" | ").next().unwrap()) {
            // What is different each time stands between two pieces; punctuation at their ends may belong to it.
            let pieces = message.split("...").map(|piece| piece.trim_matches(|c: char| !c.is_alphanumeric()));
            let pieces: Vec<&str> = pieces.filter(|piece| piece.len() > 2).collect();
            assert!(!pieces.is_empty(), "{message}");
            missing.extend(pieces.into_iter().filter(|piece| !sources.contains(piece)));
            told += 1;
        }
    }
    assert!(told > 40, "{told}");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_configurations_of_the_recipes_are_sound() {
    let page = text("docs/recipes.md");
    let configurations = blocks(&page, "yaml");
    assert!(configurations.len() >= 4);
    for configuration in configurations {
        let home = Home::new();
        home.configure(configuration);
        let checked = home.must(&["config", "check"], 0);
        // The files of which an example speaks are not here.
        let other: Vec<_> = checked.stderr.lines().filter(|line| !line.ends_with(" is not there")).collect();
        assert_eq!(other, [""; 0], "{configuration}");
    }
    for password in page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| {
        let (_, configured) = line.split_once("| `password: ")?;
        configured.split('`').next()
    }) {
        let home = Home::new();
        let account = "host: h, user: u, deliver: { maildir: ~/Mail }";
        home.configure(&format!("accounts:\n  home: {{ {account}, password: {password} }}\n"));
        home.must(&["config", "check"], 0);
    }
    for script in blocks(&page, "sh network-up") {
        let checked = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}

/// Gives the anchor by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "- _".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let mut pages = below(&repository().join("docs"), ".md");
    pages.extend(["README.md", "CONTRIBUTING.md", "contrib/README.md"].map(|page| repository().join(page)));
    let (mut followed, mut dead) = (0, BTreeSet::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = target.exists()
                && (place.is_empty()
                    || fs::read_to_string(&target).unwrap().lines().any(|line| {
                        let heading = line.trim_start_matches('#');
                        heading.len() < line.len() && anchor(heading.trim()) == place
                    }));
            if !there {
                dead.insert(format!("{}: {link}", page.display()));
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn each_option_of_a_peer_has_a_row_on_its_page() {
    for (peer, least) in [("fetchmail", 110), ("mpop", 45), ("getmail", 90), ("fdm", 110)] {
        let script = repository().join("tests/cli/peer_options.py");
        let output = Command::new("python3").arg(script).arg(peer).output().expect("python3");
        let (options, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if said.contains("No such file or directory: '/usr/share/") {
            eprintln!("{peer}: not looked at: this system has its programs without their manuals");
            continue;
        }
        assert!(output.status.success() && options.lines().count() >= least, "{peer}: {options}{said}");
        let page = text(&format!("docs/coming-from-{peer}.md")).replace('-', "_");
        let rows =
            page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").next());
        let words: BTreeSet<&str> =
            rows.flat_map(|row| row.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '?')).collect();
        let words: BTreeSet<&str> = words.into_iter().map(|word| word.trim_start_matches('_')).collect();
        // `--nodetach` stands for `detach`, too.
        let there = |word: &str| words.contains(word) || words.contains(&*format!("no{word}"));
        let missing: Vec<&str> =
            options.lines().filter(|option| !option.replace('-', "_").split(' ').all(there)).collect();
        assert_eq!(missing, [""; 0], "{peer}");
        for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|___")) {
            let told = row.split(" | ").nth(1).unwrap_or_default();
            assert!(["same", "other", "not", "here"].contains(&told), "{peer}: {row}");
        }
    }
}

#[test]
fn every_key_of_the_configuration_is_in_the_manual() {
    let page = text("man/postrider.yaml.5");
    for (config, at_least) in [
        ("qqqqqqqqqq: 1\naccounts: { a: { } }\n", 5),
        ("accounts: { a: { qqqqqqqqqq: 1 } }\n", 29),
        ("accounts: { a: { } }\ndaemon: { qqqqqqqqqq: 1 }\n", 3),
        ("accounts: { a: { password: { qqqqqqqqqq: 1 } } }\n", 5),
        ("accounts: { a: { deliver: { qqqqqqqqqq: 1 } } }\n", 5),
        ("accounts: { a: { auth: [qqqqqqqqqq] } }\n", 11),
        ("accounts: { a: { tls: qqqqqqqqqq } }\n", 3),
    ] {
        let refused = with(config).run(&["config", "check"]);
        assert_eq!(refused.status, Some(78));
        // `... valid keys are a, b, c`, `... must be a, b or c`
        let line =
            refused.stderr.lines().find(|line| line.contains("valid keys are ") || line.contains("must be "));
        let line = line.unwrap_or_else(|| panic!("{config}: {}", refused.stderr));
        let (_, names) = line.split_once(" are ").or_else(|| line.split_once("must be ")).unwrap();
        let names: Vec<&str> = names.split(", ").flat_map(|names| names.split(" or ")).collect();
        assert!(names.len() >= at_least, "{config}: {line}");
        for name in names {
            let is_marked_up = |line: &str| {
                let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
                matches!(words.next(), Some(".It" | ".Ic" | ".Cm")) && words.any(|word| word == name)
            };
            assert!(page.lines().any(is_marked_up), "{name} ({config})");
        }
    }
}

#[test]
fn the_examples_of_the_page_on_gmail_are_sound_configurations() {
    let page = text("docs/gmail.md");
    let blocks =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(text, _)| text);
    let mut targets = 0;
    for block in blocks {
        let example = match block.trim().starts_with("deliver:") {
            false => {
                block.lines().map(|line| line.strip_prefix("   ").unwrap_or(line).to_owned() + "\n").collect()
            }
            true => {
                targets += 1;
                format!("accounts:\n  a:\n    host: h\n    user: u\n    {}\n", block.trim())
            }
        };
        let checked = with(&example).run(&["config", "check"]);
        let other: Vec<_> = checked.stderr.lines().filter(|line| !line.ends_with(" is not there")).collect();
        assert_eq!((checked.status, other), (Some(0), Vec::new()), "{example}");
    }
    assert_eq!(targets, 3);
}

#[test]
fn each_page_on_a_provider_has_ten_steps_at_most_and_sound_configurations() {
    let pages = ["google", "microsoft", "yahoo", "fastmail", "icloud", "gmx", "any"];
    for name in pages {
        let page = text(&format!("docs/providers/{name}.md"));
        assert!(page.contains("postrider says"), "{name}: what goes wrong");
        assert!(!page.lines().any(|line| line.starts_with("11. ")), "{name}");
        let blocks: Vec<_> =
            page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!blocks.is_empty(), "{name}");
        for block in blocks {
            let mut example: String =
                block.lines().map(|line| line.get(3..).unwrap_or("").to_owned() + "\n").collect();
            if !example.contains("accounts:") {
                example += "accounts: { a: { user: a, deliver: { maildir: /m } } }\n";
            }
            let checked = with(&example).run(&["config", "check"]);
            let other: Vec<_> =
                checked.stderr.lines().filter(|line| !line.ends_with(" is not there")).collect();
            assert_eq!((checked.status, other), (Some(0), Vec::new()), "{name}: {example}");
        }
    }
}

#[test]
fn the_examples_of_the_manual_and_the_readme_are_sound_configurations() {
    let readme = text("README.md");
    let manual = text("man/postrider.yaml.5");
    let fenced =
        readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(text, _)| text);
    let literal = manual.split(".Bd -literal -offset indent\n").skip(1);
    let literal = literal.filter_map(|rest| rest.split_once(".Ed")).map(|(text, _)| text);
    let examples: Vec<&str> = fenced.chain(literal).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let checked = with(example).run(&["config", "check"]);
        // The files of which an example speaks are not here; nothing else is to be said of it.
        let other: Vec<_> = checked.stderr.lines().filter(|line| !line.ends_with(" is not there")).collect();
        assert_eq!((checked.status, other), (Some(0), Vec::new()), "{example}");
    }
}
