//! What the demo shows last: what came, how fast, where it is, what to type next. At most 80 columns, and ASCII, so that
//! any terminal can show it.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use postrider::testing::session::{Octets, Took};

/// What a terminal does with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Colours are for a terminal that knows them, and for a person who wants them (`NO_COLOR`).
    pub fn of_standard_output() -> Self {
        let set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
        let knows = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
        match std::io::stdout().is_terminal() && knows && !set("NO_COLOR") {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }

    /// Makes a heading, or what is to be typed, stand out.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("1;32", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// What the demo did.
#[derive(Debug)]
pub struct Done<'a> {
    /// Messages that the first sync delivered, each of which was compared with the server's.
    pub messages: usize,
    pub octets: u64,
    pub took: Duration,
    /// What a sync that found nothing new took.
    pub idle: Duration,
    /// Messages that were fetched once more for want of a state file, and were there already.
    pub recognized: usize,
    pub maildir: &'a Path,
}

/// Gives the last screen.
pub fn last(done: &Done<'_>, style: Style) -> String {
    let seconds = done.took.as_secs_f64().max(1e-3);
    let rate = done.messages as f64 / seconds;
    let octets = Octets((done.octets as f64 / seconds) as u64);
    let mut screen = String::new();
    let mut say = |label: &str, text: &str| {
        let label = style.bold(&format!("{label:<9}"));
        writeln!(screen, "  {label}{text}").expect("a string takes everything");
    };
    say("came", &style.green(&format!("{} messages, {}", done.messages, Octets(done.octets))));
    say("", "compared with the server's, octet by octet: all there, none twice");
    say("fast", &format!("{} over TLS: {rate:.0} messages, {octets} a second,", Took(done.took)));
    say("", "each durable on the disk and recorded before it counted");
    say("again", &format!("nothing new, in {}", Took(done.idle)));
    say("lost", &format!("without its state file: {} recognized, 0 repeated", done.recognized));
    say("where", &format!("{}", done.maildir.display()));
    screen.push_str("\nWhat to type next\n\n");
    let mut next = |what: &str, commands: &[&str]| {
        writeln!(screen, "  {what}").expect("a string takes everything");
        for command in commands {
            writeln!(screen, "      {}", style.bold(command)).expect("a string takes everything");
        }
    };
    next("Look at what came:", &[&format!("ls {}/new", done.maildir.display())]);
    next(
        "Have the program (add ~/.cargo/bin to PATH), and your own mail:",
        &[
            "cargo install --locked --profile dist --path .",
            "postrider setup you@example.org && postrider sync",
        ],
    );
    next(
        "Coming from fetchmail (or mpop, getmail, fdm), nothing is fetched twice:",
        &["postrider import fetchmail --write", "postrider import fetchmail --seen"],
    );
    screen
}
