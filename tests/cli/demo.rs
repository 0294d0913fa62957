//! The demo, as it is run on a fresh machine: what a person sees last.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::postrider::LIMIT;
use crate::support::process::{Ended, Running};

/// Gives the demo as it is built now.
fn demo() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--locked", "--example", "demo"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        // Those that cargo sets for tests would have ring, and what is built on it, compiled once more.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|its| name.to_string_lossy().starts_with(its)) {
                build.env_remove(name);
            }
        }
        let built = build.status();
        assert!(built.expect("cargo").success(), "the demo does not build");
        let tests = std::env::current_exe().expect("the program of tests");
        let beside = tests.ancestors().nth(2).expect("target/debug");
        beside.join("examples/demo")
    })
}

/// Runs the demo with these variables and no others; `TMPDIR` is a directory of its own.
fn run(mut command: Command, environment: &[(&str, &str)]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    command.env_clear().env("TMPDIR", directory.path()).env("PATH", "/usr/bin:/bin");
    let ended = Running::start(command.envs(environment.iter().copied())).wait(LIMIT);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended
}

/// Runs it on a terminal, as `script` makes one.
fn on_terminal(environment: &[(&str, &str)]) -> String {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command"]).arg(demo()).arg("/dev/null").env("SHELL", "/bin/sh");
    run(script, environment).stdout
}

#[test]
fn the_demo_ends_with_what_came_how_fast_where_it_is_and_what_to_type() {
    let shown = run(Command::new(demo()), &[("TERM", "xterm")]).stdout;
    let (_, last) = shown.split_once("\n  came     1005 messages, ").expect(&shown);
    for word in
        ["\n  fast     ", "\n  where    ", "a second", "0 repeated", "/Maildir/new", "postrider import"]
    {
        assert!(last.contains(word), "{word}: {shown}");
    }
    assert!(last.lines().count() < 24, "more than a screen: {last}");
    // The place is as long as it is.
    let wide = |line: &&str| line.chars().count() > 80 && !line.contains("/postrider-demo-");
    assert_eq!(shown.lines().filter(wide).collect::<Vec<_>>(), [""; 0]);
    // No colours, either.
    assert!(shown.chars().all(|shown| shown == '\n' || (' '..='~').contains(&shown)), "{shown}");
}

#[test]
fn the_demo_has_colours_on_a_terminal_that_knows_them_and_nowhere_else() {
    let coloured = |shown: &str| shown.contains('\x1b');
    assert!(coloured(&on_terminal(&[("TERM", "xterm")])));
    assert!(!coloured(&on_terminal(&[("TERM", "xterm"), ("NO_COLOR", "1")])));
    assert!(!coloured(&on_terminal(&[("TERM", "dumb")])));
}
