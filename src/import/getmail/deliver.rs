//! getmail's destinations.

use super::super::cursor::{At, Wrong, shown};
use super::super::shape::{Account, Value};
use super::super::words::word;
use super::literal::{Literal, literal, texts};
use super::{Rc, Section};

/// Destinations within destinations at most.
const DEEPEST: usize = 8;

impl Rc<'_> {
    pub(super) fn deliver(&self, account: &mut Account, to: Option<Value>) -> Result<(), Wrong> {
        let destination = self.section("destination").expect("looked for before");
        let mut targets = Vec::new();
        self.targets(account, destination, to.as_ref(), DEEPEST, &mut targets)?;
        targets.dedup();
        match targets.len() {
            0 => {
                account.set("deliver", Value::of("maildir", Value::text("~/Mail")));
                account.disable("say where this mail goes, and remove this line");
            }
            1 => account.set("deliver", targets.remove(0)),
            _ => account.set("deliver", Value::List(targets)),
        }
        Ok(())
    }

    fn targets(
        &self,
        account: &mut Account,
        section: &Section,
        to: Option<&Value>,
        deeper: usize,
        targets: &mut Vec<Value>,
    ) -> Result<(), Wrong> {
        let at = section.find("type").map_or(&section.at, |option| &option.at);
        let kind = section.text("type").unwrap_or_default();
        match kind {
            "Maildir" | "Mboxrd" => {
                let path = section.text("path").unwrap_or_default();
                targets.push(self.file_target(account, at, path, kind));
                for (key, what) in [
                    (
                        "user",
                        "files are delivered as whoever runs postrider: run it as that user, or `pipe` with `user`",
                    ),
                    ("filemode", "files are for their owner alone (0600)"),
                    ("locktype", "an mbox is locked by fcntl and a dot-lock"),
                ] {
                    if let Some(option) = section.find(key) {
                        account.note(&option.at, format!("`{key}`: {what}"));
                    }
                }
            }
            "MDA_external" => targets.extend(self.command(account, section, to)?),
            "MDA_lmtp" => targets.push(self.lmtp(account, section, to)?),
            "MultiDestination" => {
                let listed = section.find("destinations");
                let names = listed.and_then(|option| texts(&option.value));
                let Some(names) = names.filter(|names| !names.is_empty()) else {
                    account.note(at, "`destinations` is made by Python: write each as one of `deliver`");
                    return Ok(());
                };
                for name in names {
                    self.named(account, at, &name, to, deeper, targets)?;
                }
            }
            "MultiSorter" | "MultiGuesser" => {
                self.sorter(account, section, at);
                if let Some(name) = section.text("default") {
                    self.named(account, at, name, to, deeper, targets)?;
                }
            }
            "MDA_qmaillocal" => {
                account.note(at, "`MDA_qmaillocal`: no counterpart; `pipe` runs what .qmail files would");
                account.disable("look at `deliver`, and remove this line");
            }
            other => {
                let what = format!("{}: a kind of destination was expected", shown(other));
                return Err(Wrong::new(self.file, at, what));
            }
        }
        Ok(())
    }

    /// A destination by its name: `[section]`, a maildir or an mbox.
    fn named(
        &self,
        account: &mut Account,
        at: &At,
        name: &str,
        to: Option<&Value>,
        deeper: usize,
        targets: &mut Vec<Value>,
    ) -> Result<(), Wrong> {
        let name = name.trim();
        if let Some(name) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let section = self.section(name).filter(|_| deeper > 0);
            let missing = || Wrong::new(self.file, at, format!("there is no section [{name}]"));
            return self.targets(account, section.ok_or_else(missing)?, to, deeper - 1, targets);
        }
        let kind = if name.ends_with('/') { "Maildir" } else { "Mboxrd" };
        targets.push(self.file_target(account, at, name, kind));
        Ok(())
    }

    fn file_target(&self, account: &mut Account, at: &At, path: &str, kind: &str) -> Value {
        let path = self.path(path);
        let after = path.strip_prefix("$HOME").or(path.strip_prefix("${HOME}")).unwrap_or(&path);
        if after.contains('$') {
            account.note(at, format!("{}: of variables only $HOME is known", shown(&path)));
            account.disable("write the path, and remove this line");
            return Value::of("maildir", Value::text("~/Mail"));
        }
        match kind {
            "Maildir" => Value::of("maildir", Value::text(path.trim_end_matches('/'))),
            _ => Value::of("mbox", Value::text(path)),
        }
    }

    fn sorter(&self, account: &mut Account, section: &Section, at: &At) {
        let locals = section.find("locals");
        let rules = locals.and_then(|option| literal(&option.value));
        let rules = match rules {
            Some(Literal::Tuple(rules)) => rules,
            _ => Vec::new(),
        };
        let kind = section.text("type").unwrap_or_default();
        account.note(
            at,
            format!("`{kind}`: mail is not sorted by patterns; all goes to one target, which may sort it (Sieve, a `pipe`)"),
        );
        for rule in rules {
            if let Literal::Tuple(pair) = rule
                && let [Literal::Text(pattern), Literal::Text(target)] = &pair[..]
            {
                account.note(locals.map_or(at, |option| &option.at), format!("{pattern} went to {target}"));
            }
        }
        account.disable("see to it, and remove this line");
    }

    /// `MDA_external`: a program and its arguments, in which the envelope is put.
    fn command(
        &self,
        account: &mut Account,
        section: &Section,
        to: Option<&Value>,
    ) -> Result<Option<Value>, Wrong> {
        let Some(path) = section.text("path") else {
            return Err(Wrong::new(
                self.file,
                &section.at,
                "`path` was expected: the program that takes messages",
            ));
        };
        let arguments = match section.find("arguments") {
            None => Vec::new(),
            Some(option) => match texts(&option.value) {
                Some(arguments) => arguments,
                None => {
                    account.note(&option.at, "`arguments` is made by Python: write the words of the command");
                    account.disable("then remove this line");
                    Vec::new()
                }
            },
        };
        let words: Vec<String> = std::iter::once(self.path(path)).chain(arguments).collect();
        let mut pipe = vec![("command".to_owned(), command(&words))];
        if self.switch(Some(section), "unixfrom")? == Some(true) {
            pipe.push(("from_line".to_owned(), Value::bare(true)));
        }
        if let Some(user) = section.text("user") {
            pipe.push(("user".to_owned(), Value::text(user)));
        }
        if let Some(to) = to {
            pipe.push(("to".to_owned(), to.clone()));
        }
        if self.switch(Some(section), "ignore_stderr")? != Some(true) {
            account.note(
                &section.at,
                "a command that says something on standard error has not failed for that: its exit status tells",
            );
        }
        if let Some(option) = section.find("group") {
            account.note(&option.at, "`group`: the command has the primary group of `user`");
        }
        Ok(Some(Value::of("pipe", Value::Map(pipe))))
    }

    fn lmtp(&self, account: &mut Account, section: &Section, to: Option<&Value>) -> Result<Value, Wrong> {
        let host = section.text("host").unwrap_or("127.0.0.1");
        let mut lmtp = Vec::new();
        let mut set = |key: &str, value: Value| lmtp.push((key.to_owned(), value));
        match host.starts_with('/') {
            true => set("socket", Value::text(host)),
            false => {
                set("host", Value::text(host));
                set("port", Value::bare(self.number(Some(section), "port")?.unwrap_or(2003)));
            }
        }
        match (section.text("override"), to) {
            (Some(address), _) => set("to", Value::texts([address])),
            (None, Some(to)) => set("to", to.clone()),
            (None, None) => {
                let user = match account.get("user") {
                    Some(Value::Text(user)) => user.clone(),
                    _ => self.around.user.clone(),
                };
                set("to", Value::texts([user]));
                account.note(
                    &section.at,
                    "`MDA_lmtp` without `override`: recipients are not guessed from To and Cc: say in `to` who has this mail",
                );
                account.disable("then remove this line");
            }
        }
        if let Some(option) = section.find("fallback") {
            account.note(
                &option.at,
                "`fallback`: what is refused is held and reported; `to` may have `unknown: ADDRESS`",
            );
        }
        Ok(Value::of("lmtp", Value::Map(lmtp)))
    }
}

/// What stands in arguments, as an argument of its own, and in text for a shell.
const FACTS: [(&str, &str, &str); 4] = [
    ("%(sender)", "%(from)", "$POSTRIDER_FROM"),
    ("%(recipient)", "%(to)", "$POSTRIDER_TO"),
    ("%(local)", "", "${POSTRIDER_TO%@*}"),
    ("%(domain)", "", "${POSTRIDER_TO##*@}"),
];

/// Writes a command as a list of words, or, where the envelope is a part of a word, as text for a shell.
fn command(words: &[String]) -> Value {
    let alone = |word: &str| FACTS.iter().find(|(name, own, _)| *name == word && !own.is_empty());
    let has_part =
        |word: &&String| alone(word).is_none() && FACTS.iter().any(|(name, _, _)| word.contains(name));
    if !words.iter().any(|word| has_part(&word)) {
        let words = words.iter().map(|word| alone(word).map_or(word.as_str(), |(_, own, _)| own));
        return Value::texts(words);
    }
    let shell = words.iter().map(|text| {
        let first =
            FACTS.iter().filter_map(|(name, _, variable)| Some((text.find(name)?, *name, *variable))).min();
        let Some((at, name, variable)) = first else { return word(text) };
        let (before, rest) = (&text[..at], &text[at + name.len()..]);
        let quoted = |part: &str| if part.is_empty() { String::new() } else { word(part) };
        format!("{}\"{variable}\"{}", quoted(before), rest_of(rest))
    });
    Value::text(format!("exec {}", shell.collect::<Vec<_>>().join(" ")))
}

/// Writes what follows a fact in a word.
fn rest_of(rest: &str) -> String {
    if rest.is_empty() {
        return String::new();
    }
    match command(&[String::new(), rest.to_owned()]) {
        Value::Text(shell) => shell.strip_prefix("exec '' ").unwrap_or_default().to_owned(),
        _ => word(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_stays_a_word_of_its_own_or_a_part_of_one() {
        let of = |words: &[&str]| command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&["/mda", "-f", "%(sender)", "%(recipient)"]),
            Value::texts(["/mda", "-f", "%(from)", "%(to)"])
        );
        assert_eq!(
            of(&["/m da", "-f<%(sender)>", "%(local)+x@%(domain)", "it's"]),
            Value::text(
                r#"exec '/m da' '-f<'"$POSTRIDER_FROM"'>' "${POSTRIDER_TO%@*}"+x@"${POSTRIDER_TO##*@}" 'it'\''s'"#
            )
        );
    }
}
