//! Command lines, and how they are shown: what they assign may be a secret (`VAR=secret command`).

use std::fmt;

use crate::secret::MASK;
use crate::text::Shown;

/// Names of options that are given secrets.
const SECRETS: [&str; 5] = ["pass", "secret", "token", "key", "auth"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Passed to `sh -c`.
    Shell(String),
    /// Run as it is: program and arguments, never empty.
    Argv(Vec<String>),
}

/// Names a command in messages: the program; of shell text, which may hold more than a user wants to see in a log,
/// its first word that assigns nothing.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self {
            Self::Shell(text) => program(text),
            Self::Argv(argv) => argv.first().map(|word| masked_word(word)).unwrap_or_default(),
        };
        Shown(first.as_bytes()).fmt(f)
    }
}

/// Shows text for the shell with what it assigns masked, and the values of options that name a password, a token and the
/// like, and passwords in URLs.
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut begins_word = true;
    while let Some(c) = rest.chars().next() {
        if begins_word && let Some(name) = assigned(rest) {
            let quote = shown.chars().last().filter(|last| matches!(last, '\'' | '"'));
            let (name, value) = rest.split_at(name);
            shown.push_str(name);
            shown.push_str(MASK);
            rest = match quote {
                Some(quote) => value.find(quote).map_or("", |end| &value[end..]),
                None => &value[value_end(value)..],
            };
            begins_word = false;
            continue;
        }
        if let Some(from) = rest.strip_prefix("://").and_then(password_of_url) {
            shown.push_str(&rest[..3 + from]);
            shown.push_str(MASK);
            rest = &rest[3 + from..];
            rest = &rest[rest.find('@').unwrap_or(rest.len())..];
            continue;
        }
        begins_word = c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | '`' | '\'' | '"' | '{');
        shown.push(c);
        rest = &rest[c.len_utf8()..];
    }
    shown
}

/// Shows one word of a list of program and arguments in the same way.
pub fn masked_word(word: &str) -> String {
    match assigned(word) {
        Some(name) => format!("{}{MASK}", &word[..name]),
        None => masked(word),
    }
}

/// Names the program that text for the shell runs: its first word that assigns nothing.
pub fn program(text: &str) -> String {
    let masked = masked(text);
    let program = masked.split_whitespace().find(|word| assigned(word).is_none());
    program.unwrap_or("the shell").to_owned()
}

/// Shows a list of program and arguments in the same way; the argument of an option that names a secret is one, too.
pub fn masked_words(words: &[String]) -> Vec<String> {
    let before = std::iter::once(None).chain(words.iter().map(Some));
    let shown = |(before, word): (Option<&String>, &String)| match before {
        Some(option) if !word.starts_with('-') && names_secret(option) => MASK.to_owned(),
        _ => masked_word(word),
    };
    before.zip(words).map(shown).collect()
}

/// Finds where the password begins in what stands behind the `://` of a URL, if there is one before the host.
fn password_of_url(rest: &str) -> Option<usize> {
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"' | '?' | '#'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let (user, _) = authority.rsplit_once('@')?;
    user.find(':').map(|colon| colon + 1)
}

/// Says whether a word is an option whose argument, which follows it, is a secret.
fn names_secret(word: &str) -> bool {
    let lower = word.trim_start_matches('-').to_ascii_lowercase();
    lower.len() < word.len() && !word.contains('=') && SECRETS.iter().any(|secret| lower.contains(secret))
}

/// Finds how far the name goes, with its equals sign, if a word begins here that gives something a value.
fn assigned(text: &str) -> Option<usize> {
    let equals = text.find('=')?;
    // `A+=x` adds to it, `A[0]=x` sets one of many.
    let name = text[..equals].strip_suffix('+').unwrap_or(&text[..equals]);
    let name = name.split_once('[').filter(|(_, index)| index.ends_with(']')).map_or(name, |(name, _)| name);
    let is_word = |name: &str| {
        !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-".contains(&octet))
    };
    let assigns =
        is_word(name) && !name.contains('-') && !name.starts_with(|first: char| first.is_ascii_digit());
    let is_secret = is_word(name.trim_start_matches('-')) && names_secret(name);
    (assigns || is_secret).then_some(equals + 1)
}

/// Finds where a value ends: at the first blank or operator outside quotes and substitutions.
fn value_end(value: &str) -> usize {
    let (mut quote, mut depth, mut escaped) = (None, 0_usize, false);
    for (at, c) in value.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') if depth > 0 => depth -= 1,
            (None, c) if depth == 0 && (c.is_whitespace() || matches!(c, ';' | '&' | '|' | ')')) => {
                return at;
            }
            (None, _) => {}
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_line_assigns_is_masked_wherever_it_stands() {
        for (text, shown, name) in [
            ("VAR=hunter2 pass show x", "VAR=[secret] pass show x", "pass"),
            ("A='hun ter' B=\"x y\" get", "A=[secret] B=[secret] get", "get"),
            ("A=hun\\ ter2 get", "A=[secret] get", "get"),
            ("A=$(cat x | tr a b) get", "A=[secret] get", "get"),
            ("env PASS=x get; B=y other", "env PASS=[secret] get; B=[secret] other", "env"),
            ("get --password=x --port=1", "get --password=[secret] --port=1", "get"),
            ("sh -c 'P=x y get'", "sh -c 'P=[secret]'", "sh"),
            ("A=unended'quote", "A=[secret]", "the shell"),
            ("pass show mail/home | head -1", "pass show mail/home | head -1", "pass"),
            ("test a = b", "test a = b", "test"),
            ("A+=x B[0]=y get", "A+=[secret] B[0]=[secret] get", "get"),
            ("curl http://u:p@h/ -o x", "curl http://u:[secret]@h/ -o x", "curl"),
            ("curl http://h:80/ a@b", "curl http://h:80/ a@b", "curl"),
        ] {
            assert_eq!(masked(text), shown, "{text}");
            assert_eq!(program(text), name, "{text}");
        }
        assert_eq!(masked_word("PASS=hun ter"), "PASS=[secret]");
        assert_eq!(masked_word("A=x get; B=y"), "A=[secret]");
        assert_eq!(masked_word("-v"), "-v");
        let words = ["get", "--password", "x", "--token", "-v", "A=x"].map(str::to_owned);
        assert_eq!(masked_words(&words), ["get", "--password", MASK, "--token", "-v", "A=[secret]"]);
        assert_eq!(
            CommandLine::Argv(vec!["VAR=hunter2".to_owned(), "x".to_owned()]).to_string(),
            "VAR=[secret]"
        );
    }
}
