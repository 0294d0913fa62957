//! Holds the sources to their own order: which room may import which, no circles, one place that makes things durable,
//! one that deletes, and no argument that is true or false.

#[path = "house/reader.rs"]
mod reader;
#[path = "house/rules.rs"]
mod rules;

use std::collections::BTreeMap;
use std::path::Path;

use reader::{Crate, Token};
use rules::{Broken, Rule, violations};

/// Rooms, and what they may import besides the first line's, which is open to all: a room, or one file of it. Nothing
/// imports a line below its own. `disk` stands in most lines for `disk::blocking`, the one way off the thread that serves
/// all accounts for calls that may hang.
const ROOMS: &[(&[&str], &[&str])] = &[
    (&["text", "secret", "failure", "logging", "stop", "clock", "lock", "line", "seal"], &[]),
    (&["message"], &[]),
    (&["pop3", "smtp", "imap", "sasl"], &["message"]),
    (&["config"], &["sasl", "message"]),
    (&["import"], &["config", "message"]),
    (&["disk"], &[]),
    // Servers are reached as endpoints of the configuration, and one driver speaks AUTH for all protocols.
    (&["net"], &["config", "sasl", "disk"]),
    (&["autoconfig"], &["config", "net"]),
    // A database in the place of the file is configured and reached as any other server.
    (&["state"], &["config", "message", "disk", "net"]),
    // Tokens lie in the store, are had over HTTP, and commands are run by the one file that runs children.
    (&["credential"], &["config", "net", "state", "disk"]),
    (&["delivery"], &["config", "message", "net", "sasl", "smtp", "imap", "disk"]),
    // The password is asked for when the server has said that it takes one; the proof is what a deletion takes.
    (&["source"], &["config", "message", "net", "credential", "sasl", "pop3", "disk", "state/proof"]),
    // The connector that source and targets share and the targets' passwords are why `net` and `credential` are here, and
    // hooks, which are run as all children are: handed in from above it would be the same function for everybody.
    (&["session"], &["delivery", "state", "source", "credential", "net", "config", "message", "disk"]),
    (&["status"], &["session", "state", "config"]),
    // Where the spool lies, and which paths hang.
    (&["sandbox"], &["config", "disk"]),
    // The file with the metrics, and the socket that is served.
    (&["daemon"], &["status", "session", "state", "config", "sandbox", "disk"]),
    (&["cli", "testing"], &["all"]),
];

/// The files that may call what makes durable and renames.
const DURABLE: &[&str] = &["disk/durable.rs", "disk/files.rs", "disk/moving.rs"];

/// The file that may write DELE, besides the protocol's own words.
const DELETING: &str = "source/deletions.rs";

fn house() -> Crate {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    Crate::read(&|file| std::fs::read_to_string(source.join(file)).ok())
}

/// A crate of these files and a `lib.rs` that has their rooms.
fn sample(files: &[(&str, &str)]) -> Crate {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    Crate::read(&|file| files.get(file.to_str()?).map(|text| (*text).to_owned()))
}

fn rule<'a>(rooms: &'a [(&'a [&'a str], &'a [&'a str])]) -> Rule<'a> {
    Rule { rooms, durable: DURABLE, deleting: DELETING }
}

/// What a sample breaks.
fn broken(rooms: &[(&[&str], &[&str])], files: &[(&str, &str)]) -> Vec<String> {
    violations(&sample(files), &rule(rooms)).iter().map(Broken::to_string).collect()
}

#[test]
fn the_sources_keep_their_order() {
    let broken: Vec<_> = violations(&house(), &rule(ROOMS)).iter().map(Broken::to_string).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_map_in_lib_rs_shows_the_same_table() {
    let lib = include_str!("../src/lib.rs");
    let shown = ROOMS.iter().enumerate().map(|(line, (rooms, imports))| {
        let imports = match (line, imports.is_empty()) {
            (0, _) => "- (open to all)".to_owned(),
            (_, true) => "-".to_owned(),
            (_, false) => imports.join(" "),
        };
        format!("//! {:<39} {imports}\n", rooms.join(" "))
    });
    let shown: String = shown.collect();
    assert!(lib.contains(&shown), "src/lib.rs does not show this:\n{shown}");
}

#[test]
fn every_room_has_its_line_and_imports_only_from_lines_above() {
    let mut above = vec!["all"];
    for (rooms, imports) in ROOMS {
        for import in *imports {
            let room = import.split('/').next().unwrap_or_default();
            assert!(above.contains(&room), "{rooms:?} may not import {import}");
        }
        above.extend(*rooms);
    }
    let rooms = house().0.into_keys().filter(|path| path.len() == 1);
    let unknown: Vec<_> = rooms.filter(|path| !above.contains(&path[0].as_str())).collect();
    assert!(unknown.is_empty(), "no line for {unknown:?}");
}

#[test]
fn the_table_on_a_rooms_page_names_each_of_its_files() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in house().0.into_keys() {
        let Some((file, room)) = path.split_last() else { continue };
        let page = std::fs::read_to_string(source.join(room.join("/")).join("mod.rs")).unwrap_or_default();
        let head: String = page.lines().filter(|line| line.starts_with("//!")).collect();
        let is_named = !head.contains("| file |") || head.contains(&format!("`{file}`"));
        assert!(is_named, "the table of src/{}/mod.rs lacks `{file}`", room.join("/"));
    }
}

#[test]
fn a_room_that_imports_what_its_line_does_not_allow_is_found_with_file_and_line() {
    let rooms: &[(&[&str], &[&str])] = &[(&["text"], &[]), (&["low"], &[]), (&["high"], &["low"])];
    let files = |low| {
        vec![
            ("lib.rs", "pub mod text; pub mod low; pub mod high;"),
            ("text.rs", "pub struct Shown;"),
            ("high.rs", "use crate::low::Low;\nuse crate::text::Shown;\npub struct High;\npub fn run() {}"),
            ("low.rs", low),
        ]
    };
    assert_eq!(broken(rooms, &files("pub struct Low;")), [""; 0]);
    let upwards = ["src/low.rs:2: low may not import high"];
    let circle = [
        "src/high.rs:1: high.rs -> low.rs closes a circle",
        "src/low.rs:2: low.rs -> high.rs closes a circle",
    ];
    let expected: Vec<&str> = circle.into_iter().chain(upwards).collect();
    for low in [
        "pub struct Low;\nuse crate::high::High;",
        "pub struct Low;\nuse crate::{text::Shown, high::{self, High as H}};",
        "pub struct Low;\nfn f() { log!(\"{}\", crate::high::run()) }",
        "pub struct Low;\nfn f() { super::high::run() }",
        "pub struct Low;\nuse super::high::{High}; // crate::text",
        "pub struct Low;\nmod inner { fn f<'a>(c: char) { c == '\"'; super::super::high::run(); } }",
    ] {
        let mut found = broken(rooms, &files(low));
        found.sort_by_key(|line| line.contains("may not"));
        assert_eq!(found, expected, "{low}");
    }
    for harmless in [
        "pub struct Low; // use crate::high::High;",
        "pub struct Low; /* use crate::high::High; */",
        "pub struct Low; const A: &str = \"\\\" crate::high::run()\"; const B: &str = r#\" crate::high::run() \"#;",
        "pub struct Low; #[cfg(test)] mod tests { use crate::high::High; }",
        "pub struct Low; #[cfg(test)]\n#[derive(Debug)]\nstruct Other { high: crate::high::High }",
        "pub struct Low; use high::run; fn f() { other::high::run() }",
    ] {
        assert_eq!(broken(rooms, &files(harmless)), [""; 0], "{harmless}");
    }
}

#[test]
fn a_room_that_may_import_one_file_of_another_may_import_nothing_else_of_it() {
    let rooms: &[(&[&str], &[&str])] = &[(&["none"], &[]), (&["low"], &[]), (&["high"], &["low/one"])];
    let found = |high| {
        let files = [
            ("lib.rs", "mod low;\nmod high;"),
            ("low/mod.rs", "mod one;\npub use one::One;\npub struct Other;"),
            ("low/one.rs", "pub struct One;"),
            ("high.rs", high),
        ];
        broken(rooms, &files)
    };
    assert_eq!(found("use crate::low::One;"), [""; 0]);
    assert_eq!(found("use crate::low::{One, Other};"), ["src/high.rs:1: high may not import low"]);
}

#[test]
fn a_circle_inside_a_room_is_found_with_file_and_line() {
    let files = |a, b| {
        [
            ("lib.rs", "mod room;"),
            ("room/mod.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::B;"),
            ("room/a.rs", a),
            ("room/b.rs", b),
            ("room/c.rs", "use super::A;\npub struct C;"),
        ]
    };
    let rooms: &[(&[&str], &[&str])] = &[(&["room"], &[])];
    assert_eq!(broken(rooms, &files("pub struct A;", "use super::A;\npub struct B;")), [""; 0]);
    let circle = broken(rooms, &files("use super::c::C;\npub struct A;", "pub struct B;"));
    assert_eq!(
        circle,
        [
            "src/room/a.rs:1: room/a.rs -> room/c.rs closes a circle",
            "src/room/c.rs:1: room/c.rs -> room/a.rs closes a circle"
        ]
    );
}

#[test]
fn what_makes_durable_or_renames_in_another_file_is_found() {
    let found = |text| broken(&[(&["a"], &[])], &[("lib.rs", "mod a;"), ("a.rs", text)]);
    for (text, call) in [
        ("fn f(x: File) {\n x.sync_all() }", "sync_all"),
        ("use nix::unistd;\nfn f() { unistd::fsync(1) }", "fsync"),
        ("\nuse nix::unistd::{fdatasync as make};", "fdatasync"),
        ("use std::fs;\nfn f() { fs::rename(a, b) }", "rename"),
        ("\nuse std::fs::{self, rename};", "rename"),
        ("fn f() {\n temporary.persist(to) }", "persist"),
        ("\nuse nix::unistd::linkat;", "linkat"),
        ("use std::fs;\nfn f() { fs::hard_link(a, b) }", "hard_link"),
    ] {
        assert_eq!(found(text), [format!("src/a.rs:2: a.rs may not call {call}")], "{text}");
    }
    assert_eq!(found("fn f() { draft.rename(uid); log!(\"fsync\") }"), [""; 0]);
}

#[test]
fn dele_written_in_another_file_is_found() {
    let found = |text| broken(&[(&["a"], &[])], &[("lib.rs", "mod a;"), ("a.rs", text)]);
    for text in [
        "\nfn f() { send(Command::Dele(1)) }",
        "use pop3::Command as C;\nfn f() { C::Dele(1) }",
        "\nfn f() { \"DELE 1\\r\\n\" }",
    ] {
        assert_eq!(found(text), ["src/a.rs:2: a.rs may not write DELE"], "{text}");
    }
    assert_eq!(found("fn f() { Request::Dele(1); \"waiting for DELE 1\" }"), [""; 0]);
}

#[test]
fn an_argument_that_is_true_or_false_is_found() {
    let found = |text| broken(&[(&["a"], &[])], &[("lib.rs", "mod a;"), ("a.rs", text)]);
    for text in [
        "\nfn f(whole: bool) {}",
        "fn g(f: &dyn Fn(&str) -> bool) -> bool { true }\nfn f<T: Fn(u8) -> Vec<u8>>(&self, of: (u8, u8), whole: bool, t: T) {}",
        "\nimpl A { pub const fn f(whole: Option<bool>) {} }",
    ] {
        assert_eq!(found(text), ["src/a.rs:2: whole is an argument that is true or false"], "{text}");
    }
    assert_eq!(
        found("struct A { whole: bool }\nfn f(is: impl Fn(bool) -> bool, m: fn(u8) -> bool) {}"),
        [""; 0]
    );
}

#[test]
fn the_reader_finds_what_stands_in_the_sources() {
    let house = house();
    let session = &house.0[&vec!["source".to_owned(), "deletions".to_owned()]];
    assert!(session.tokens.iter().any(|(token, _)| *token == Token::Word("Dele".to_owned())));
    let imports = house.imports();
    let reaches = |from: &str, to: &str| {
        imports.iter().any(|import| import.from == Path::new(from) && import.to == Path::new(to))
    };
    assert!(
        reaches("source/deletions.rs", "pop3/command.rs") && reaches("disk/moving.rs", "disk/durable.rs")
    );
    assert!(house.0.len() > 150 && imports.len() > 500);
}
