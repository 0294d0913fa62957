//! What the statements of fdm.conf say.

use super::super::cursor::At;
use super::lex::Text;

#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) options: Vec<Setting>,
    pub(super) accounts: Vec<Account>,
    pub(super) actions: Vec<Action>,
    pub(super) rules: Vec<Rule>,
}

/// `set OPTION VALUE`
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) at: At,
    pub(super) key: String,
    /// The value, or several, as they stand there; times in seconds, sizes in octets.
    pub(super) values: Vec<Text>,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) disabled: bool,
    pub(super) users: Vec<String>,
    /// `pop3`, `imaps`, `stdin` ...
    pub(super) kind: String,
    /// A command in the place of a server.
    pub(super) pipe: Option<Text>,
    pub(super) server: Option<Server>,
    /// Which mail, and the list of what was fetched.
    pub(super) only: Option<(String, Text)>,
    /// `no-apop`, `keep` and the like, and where each stands.
    pub(super) flags: Vec<(At, String)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) host: Option<Text>,
    pub(super) port: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) pass: Option<Text>,
}

/// `action NAME`, and what it does, one after the other.
#[derive(Debug)]
pub(super) struct Action {
    pub(super) name: String,
    pub(super) users: Vec<String>,
    pub(super) does: Vec<Does>,
}

/// One thing that an action does.
#[derive(Debug, Clone)]
pub(super) struct Does {
    pub(super) at: At,
    /// `maildir`, `pipe`, `drop` ...
    pub(super) what: String,
    pub(super) texts: Vec<Text>,
    pub(super) server: Server,
    pub(super) flags: Vec<String>,
}

/// `match CONDITION ...`
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) at: At,
    pub(super) conditions: Vec<Condition>,
    pub(super) users: Vec<String>,
    pub(super) perform: Perform,
    pub(super) goes_on: bool,
}

#[derive(Debug)]
pub(super) enum Perform {
    /// Actions by name.
    Actions(Vec<String>),
    /// What stands there itself.
    Does(Vec<Does>),
    Rules(Vec<Rule>),
}

#[derive(Debug)]
pub(super) struct Condition {
    /// Whether it is tied to the one before by `or`, else by `and`.
    pub(super) or: bool,
    pub(super) not: bool,
    pub(super) test: Test,
}

#[derive(Debug)]
pub(super) enum Test {
    All,
    /// The account has one of these names.
    Accounts(Vec<String>),
    /// What only the message tells.
    Message,
}
