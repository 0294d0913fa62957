//! What fdm's rules do with an account's mail.

use super::super::place::port;
use super::super::shape::{self, Value};
use super::Reading;
use super::lex::Text;
use super::statement::{Condition, Does, Perform, Rule, Server, Test};
use crate::secret::Secret;

/// Actions within actions at most.
const DEEPEST: usize = 16;

/// What the rules come to for an account.
#[derive(Default)]
struct Outcome {
    targets: Vec<Value>,
    keeps: bool,
    /// A rule that fits all mail was met, and ends it.
    ended: bool,
}

/// Whether a condition holds for all mail of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Always,
    Never,
    /// The message tells.
    Sometimes,
}

impl Reading<'_> {
    pub(super) fn deliver(&self, account: &mut shape::Account) {
        let mut outcome = Outcome::default();
        self.rules(account, &self.parsed.rules, &mut outcome);
        let keeps = outcome.keeps || self.has("keep");
        account.set("keep", Value::bare(if keeps { "forever" } else { "none" }));
        if !outcome.ended && !outcome.targets.is_empty() {
            account.remark("fdm goes on with mail that no rule ends; here it has been delivered by then");
        }
        outcome.targets.dedup();
        match outcome.targets.len() {
            0 => {
                account.set("deliver", Value::of("maildir", Value::text("~/Mail")));
                account.disable("no rule says for all mail where it goes: say it, and remove this line");
            }
            1 => account.set("deliver", outcome.targets.remove(0)),
            _ => account.set("deliver", Value::List(outcome.targets)),
        }
    }

    fn rules(&self, account: &mut shape::Account, rules: &[Rule], outcome: &mut Outcome) {
        for rule in rules {
            if outcome.ended {
                return;
            }
            match (self.holds(&rule.conditions), &rule.perform) {
                (Holds::Never, _) => {}
                (Holds::Sometimes, _) => account.note(
                    &rule.at,
                    "no rule here goes by the message: all mail goes to `deliver`, which may sort it (Sieve, a `pipe`)",
                ),
                (Holds::Always, Perform::Rules(rules)) => self.rules(account, rules, outcome),
                (Holds::Always, perform) => {
                    match perform {
                        Perform::Actions(names) => self.actions(account, names, &rule.users, outcome, DEEPEST),
                        Perform::Does(does) => self.all(account, does, &rule.users, outcome, DEEPEST),
                        Perform::Rules(_) => {}
                    }
                    outcome.ended = !rule.goes_on;
                }
            }
        }
    }

    fn holds(&self, conditions: &[Condition]) -> Holds {
        let one = |condition: &Condition| {
            let holds = match &condition.test {
                Test::All => Holds::Always,
                Test::Message => Holds::Sometimes,
                Test::Accounts(names) => match names.iter().any(|name| fits(name, &self.account.name)) {
                    true => Holds::Always,
                    false => Holds::Never,
                },
            };
            match (holds, condition.not) {
                (Holds::Always, true) => Holds::Never,
                (Holds::Never, true) => Holds::Always,
                (holds, _) => holds,
            }
        };
        conditions.iter().fold(Holds::Always, |before, condition| {
            match (before, one(condition), condition.or) {
                (Holds::Always, _, true) | (_, Holds::Always, true) => Holds::Always,
                (Holds::Never, now, true) => now,
                (before, _, true) => before,
                (Holds::Never, _, false) | (_, Holds::Never, false) => Holds::Never,
                (Holds::Always, now, false) => now,
                (before, _, false) => before,
            }
        })
    }

    fn actions(
        &self,
        account: &mut shape::Account,
        names: &[String],
        users: &[String],
        outcome: &mut Outcome,
        deeper: usize,
    ) {
        for action in &self.parsed.actions {
            if deeper > 0 && names.iter().any(|name| fits(name, &action.name)) {
                let users = if users.is_empty() { &action.users } else { users };
                let before = outcome.targets.len();
                self.all(account, &action.does, users, outcome, deeper - 1);
                for target in &mut outcome.targets[before..] {
                    named(target, &action.name);
                }
            }
        }
    }

    fn all(
        &self,
        account: &mut shape::Account,
        does: &[Does],
        users: &[String],
        outcome: &mut Outcome,
        deeper: usize,
    ) {
        for does in does {
            self.one(account, does, users, outcome, deeper);
        }
    }

    fn one(
        &self,
        account: &mut shape::Account,
        does: &Does,
        users: &[String],
        outcome: &mut Outcome,
        deeper: usize,
    ) {
        let told = match does.what.as_str() {
            "keep" => {
                outcome.keeps = true;
                return;
            }
            "action" | "actions" => {
                let names: Vec<String> = does.texts.iter().filter_map(plain).collect();
                return self.actions(account, &names, users, outcome, deeper);
            }
            "maildir" | "mbox" => {
                if let Some(path) = self.written(account, does) {
                    let path = self.path(&path).to_string_lossy().into_owned();
                    outcome.targets.push(Value::of(&does.what, Value::text(path)));
                }
                if does.flags.is_empty() {
                    return;
                }
                "`compress`: an mbox is written as it is"
            }
            "pipe" => {
                if let Some(command) = self.written(account, does) {
                    let users = if users.is_empty() { &self.account.users } else { users };
                    outcome.targets.push(pipe(&command, users));
                }
                return;
            }
            "smtp" | "lmtp" => return self.mail_server(account, does, outcome),
            "imap" | "imaps" => return self.mailbox(account, does, outcome),
            "drop" => {
                account.note(&does.at, "`drop`: mail is never fetched to be thrown away");
                return account.disable("all mail of this account is dropped: it needs no polling");
            }
            "exec" => {
                "`exec`: `hooks: { on_new: COMMAND }` runs a command after mail has come, or a `pipe` for each message"
            }
            "rewrite" => {
                "`rewrite`: messages are not changed: a `pipe` whose command rewrites and delivers takes its place"
            }
            "write" | "append" => "a plain file is no target: a `pipe` with `cat >> FILE` is",
            "stdout" => "`stdout`: a `pipe` with `cat >&2` shows messages in the log",
            "tag" => "`tag`: no rules go by tags here",
            "add-to-cache" | "to-cache" | "remove-from-cache" => {
                "caches: a message that was fetched is not fetched again, by unique-id and content"
            }
            _ => "messages are delivered as the server sends them: nothing in them is changed",
        };
        account.note(&does.at, told);
    }

    /// Gives the text of an action, with what fdm puts in for `%h` and the like; none if that changes from message to
    /// message.
    fn written(&self, account: &mut shape::Account, does: &Does) -> Option<String> {
        let Some(text) = does.texts.first().and_then(plain) else {
            account.note(&does.at, format!("`{}`: what a command prints is not known: write it", does.what));
            account.disable("then remove this line");
            return None;
        };
        let mut written = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                written.push(c);
                continue;
            }
            match rest.next() {
                // Known when the action is.
                Some('h') => written += &self.around.home.to_string_lossy(),
                Some('u') => written += &self.around.user,
                Some('a') => written += &self.account.name,
                Some('s') => {
                    let host = self.account.server.as_ref().and_then(|server| server.host.as_ref());
                    written += host.and_then(plain).as_deref().unwrap_or_default();
                }
                Some('t') => written.push_str("%t"),
                Some('%') => written.push('%'),
                Some(other) => {
                    account.note(
                        &does.at,
                        format!(
                            "`%{other}`: what changes from message to message is no part of a target here"
                        ),
                    );
                    account.disable("look at `deliver`, and remove this line");
                    written.extend(['%', other]);
                }
                None => written.push('%'),
            }
        }
        Some(written)
    }

    fn mail_server(&self, account: &mut shape::Account, does: &Does, outcome: &mut Outcome) {
        let mut keys = Vec::new();
        let host = host_and_port(account, &does.server, &mut keys);
        if let Some(from) = does.texts.first().and_then(plain) {
            keys.push(("from".to_owned(), Value::text(from)));
        }
        let to = does.texts.get(1).and_then(plain);
        let to = to.unwrap_or_else(|| format!("{}@{host}", self.around.user));
        keys.push(("to".to_owned(), Value::texts([to])));
        outcome.targets.push(Value::of(&does.what, Value::Map(keys)));
    }

    fn mailbox(&self, account: &mut shape::Account, does: &Does, outcome: &mut Outcome) {
        let mut keys = Vec::new();
        host_and_port(account, &does.server, &mut keys);
        match (does.what.as_str(), does.flags.iter().any(|flag| flag == "starttls")) {
            ("imaps", _) => {}
            (_, true) => keys.push(("tls".to_owned(), Value::bare("starttls"))),
            (_, false) => {
                keys.push(("tls".to_owned(), Value::bare("starttls")));
                account.note(&does.at, "`imap`: a password goes by TLS alone");
            }
        }
        let user = does.server.user.as_ref().and_then(plain).unwrap_or_else(|| self.around.user.clone());
        keys.push(("user".to_owned(), Value::text(user)));
        keys.push((
            "password".to_owned(),
            match &does.server.pass {
                Some(Text::Plain(password)) => Value::Secret(Secret::new(password.as_str())),
                Some(Text::Command(command)) => Value::of("command", Value::text(command)),
                Some(Text::Mixed) | None => Value::of("netrc", Value::text("~/.netrc")),
            },
        ));
        if let Some(folder) = does.texts.first().and_then(plain) {
            keys.push(("folder".to_owned(), Value::text(folder)));
        }
        outcome.targets.push(Value::of("imap", Value::Map(keys)));
    }
}

/// Writes host and port; gives the host.
fn host_and_port(account: &mut shape::Account, server: &Server, keys: &mut Vec<(String, Value)>) -> String {
    let host = server.host.as_ref().and_then(plain).unwrap_or_else(|| {
        account.remark("the name of a server is evaluated: write it in `deliver`");
        account.disable("then remove this line");
        "localhost".to_owned()
    });
    keys.push(("host".to_owned(), Value::text(host.as_str())));
    if let Some(port) = server.port.as_ref().and_then(plain).and_then(|given| port(&given)) {
        keys.push(("port".to_owned(), Value::bare(port)));
    }
    host
}

fn pipe(command: &str, users: &[String]) -> Value {
    let mut pipe = vec![("command".to_owned(), Value::text(command))];
    if let [user, ..] = users {
        pipe.push(("user".to_owned(), Value::text(user.as_str())));
    }
    Value::of("pipe", Value::Map(pipe))
}

/// Puts the name of an action in for `%t`.
fn named(target: &mut Value, name: &str) {
    match target {
        Value::Text(text) => *text = text.replace("%t", name),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| named(value, name)),
        Value::List(items) => items.iter_mut().for_each(|item| named(item, name)),
        Value::Bare(_) | Value::Secret(_) => {}
    }
}

fn plain(text: &Text) -> Option<String> {
    match text {
        Text::Plain(text) => Some(text.clone()),
        Text::Command(_) | Text::Mixed => None,
    }
}

/// Says whether a name fits a pattern with `*` and `?`.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, n) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_names_as_in_a_shell() {
        for (pattern, name) in [("a*", "abc"), ("*", ""), ("?b*d", "abcd"), ("a", "a"), ("*a*b", "xaxb")] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("?", ""), ("*a", "ab")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
