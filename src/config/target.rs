//! Where messages go.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::text::Shown;

/// One delivery target; `delivery::open` makes a sink of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A maildir, created if missing.
    Maildir(PathBuf),
    /// An mbox, created if missing.
    Mbox(PathBuf),
    /// A command that takes each message on its standard input.
    Pipe(Box<Pipe>),
}

/// A command that delivers messages, one process each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipe {
    /// What is run.
    pub command: PipeCommand,
    /// How long it may take for one message.
    pub timeout: Duration,
    /// Whether a `From ` line, as in an mbox, comes before the message.
    pub from_line: bool,
    /// The user that it is run as; ours if none is named.
    pub run_as: Option<String>,
    /// The account's name, which the command is told.
    pub account: String,
    /// The account's user, who is the recipient.
    pub user: String,
}

/// What is run for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipeCommand {
    /// Text for the shell; nothing of a message stands in it.
    Shell(String),
    /// A program and its arguments.
    Argv {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<Word>,
    },
}

/// An argument of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// As it is written.
    Text(String),
    /// `%(from)` and the like: a fact about the message, as one argument whatever it contains.
    Fact(Fact),
}

/// What a command is told about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The envelope sender as the header tells it; empty if there is none.
    From,
    /// The recipient.
    To,
    /// The account's name.
    Account,
    /// The account's user.
    User,
    /// The unique-id.
    Uid,
    /// Octets of the message.
    Size,
    /// What follows a `+` in the recipient's local part.
    Extension,
}

impl Fact {
    /// All of them, as they are written.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("%(from)", Self::From),
        ("%(to)", Self::To),
        ("%(account)", Self::Account),
        ("%(user)", Self::User),
        ("%(uid)", Self::Uid),
        ("%(size)", Self::Size),
        ("%(extension)", Self::Extension),
    ];

    /// Gives the name, parentheses and all.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, fact)| *fact == self).map_or("", |(name, _)| name)
    }
}

impl PipeCommand {
    /// Names the program; of shell text, the first word.
    pub fn name(&self) -> &str {
        match self {
            Self::Shell(text) => text.split_whitespace().next().unwrap_or_default(),
            Self::Argv { program, .. } => program,
        }
    }
}

impl Target {
    /// Tells a target that passes them on whose messages it gets.
    pub(super) fn of_account(mut self, name: &str, user: &str) -> Self {
        match &mut self {
            Self::Pipe(pipe) => (pipe.account, pipe.user) = (name.to_owned(), user.to_owned()),
            Self::Maildir(_) | Self::Mbox(_) => {}
        }
        self
    }
}

/// Shows the target as users write it: `maildir:/home/alice/Mail`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Mbox(path) => write!(f, "mbox:{}", path.display()),
            // Arguments may hold what is nobody else's business.
            Self::Pipe(pipe) => write!(f, "pipe:{}", Shown(pipe.command.name().as_bytes())),
        }
    }
}
