//! A password from a netrc file, as ftp(1), curl and fetchmail read it.
//!
//! Tokens are separated by blanks and line ends: `machine NAME` or `default` begins an entry, `login`, `password` and
//! `account` take one value each, `macdef` is skipped up to an empty line. A value in double quotes may hold blanks, and
//! `\"`, `\\`, `\n`, `\r`, `\t`. A line that begins with `#` is a comment.

use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{CredentialError, file};

/// Octets of a netrc file at most.
const LONGEST_FILE: usize = 1024 * 1024;

/// Finds the password of the first entry for this host (or `default`) and user that has one.
pub(super) async fn password(
    path: &Path,
    host: &str,
    user: &str,
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let text = file::content(path.to_owned(), LONGEST_FILE, patience).await?;
    if text.len() > LONGEST_FILE {
        return Err(CredentialError::TooLong { what: path.display().to_string() });
    }
    match find(&text, host, user) {
        Ok(Some(password)) => Ok(password),
        Ok(None) => Err(CredentialError::NoEntry {
            path: path.to_owned(),
            host: host.to_owned(),
            user: user.to_owned(),
        }),
        Err(Fault { line, what }) => Err(CredentialError::Netrc { path: path.to_owned(), line, what }),
    }
}

/// Where a file is not a netrc.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    line: usize,
    what: &'static str,
}

#[derive(Default)]
struct Entry {
    fits_host: bool,
    login: Option<Zeroizing<Vec<u8>>>,
    password: Option<Zeroizing<Vec<u8>>>,
}

impl Entry {
    fn take(&mut self, user: &str) -> Option<Zeroizing<Vec<u8>>> {
        let fits_user = self.login.as_ref().is_none_or(|login| login.as_slice() == user.as_bytes());
        if self.fits_host && fits_user { self.password.take() } else { None }
    }
}

fn find(text: &[u8], host: &str, user: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
    let mut tokens = Tokens { rest: text, line: 1 };
    let mut entry = Entry::default();
    while let Some(keyword) = tokens.keyword()? {
        match keyword.as_slice() {
            beginning @ (b"machine" | b"default") => {
                if let Some(password) = entry.take(user) {
                    return Ok(Some(password));
                }
                let fits_host =
                    beginning == b"default" || tokens.value()?.eq_ignore_ascii_case(host.as_bytes());
                entry = Entry { fits_host, ..Entry::default() };
            }
            b"login" => entry.login = Some(tokens.value()?),
            b"password" => entry.password = Some(tokens.value()?),
            b"account" => drop(tokens.value()?),
            b"macdef" => tokens.skip_macro(),
            _ => return Err(tokens.fault("there is something other than machine, login or password")),
        }
    }
    Ok(entry.take(user))
}

struct Tokens<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Tokens<'_> {
    /// Gives the next token where a keyword is due, past comments.
    fn keyword(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        loop {
            let line = self.line;
            self.skip_blanks();
            let at_line_start = line != self.line || line == 1;
            match self.rest.first() {
                None => return Ok(None),
                Some(b'#') if at_line_start => self.skip_line(),
                Some(_) => return self.token().map(Some),
            }
        }
    }

    fn value(&mut self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let line = self.line;
        self.skip_blanks();
        if self.rest.is_empty() {
            return Err(Fault { line, what: "a value is missing at the end" });
        }
        self.token()
    }

    fn token(&mut self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let Some(quoted) = self.rest.strip_prefix(b"\"") else {
            let end =
                self.rest.iter().position(|octet| octet.is_ascii_whitespace()).unwrap_or(self.rest.len());
            let (token, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(Zeroizing::new(token.to_vec()));
        };
        // Never longer than what is left, so that it does not grow and leave octets behind.
        let mut token = Zeroizing::new(Vec::with_capacity(quoted.len()));
        let mut octets = quoted.iter();
        while let Some(&octet) = octets.next() {
            match octet {
                b'"' => {
                    self.rest = octets.as_slice();
                    return Ok(token);
                }
                b'\n' => break,
                b'\\' => match octets.next() {
                    Some(b'n') => token.push(b'\n'),
                    Some(b'r') => token.push(b'\r'),
                    Some(b't') => token.push(b'\t'),
                    Some(b'\n') | None => break,
                    Some(&other) => token.push(other),
                },
                other => token.push(other),
            }
        }
        Err(self.fault("a quoted value has no end"))
    }

    fn skip_blanks(&mut self) {
        while let Some((&octet, rest)) = self.rest.split_first()
            && octet.is_ascii_whitespace()
        {
            self.line += usize::from(octet == b'\n');
            self.rest = rest;
        }
    }

    /// Skips up to the line end, which stays.
    fn skip_line(&mut self) {
        let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
    }

    /// A macro ends with an empty line.
    fn skip_macro(&mut self) {
        let end = memchr::memmem::find(self.rest, b"\n\n").map_or(self.rest.len(), |start| start + 1);
        let (skipped, rest) = self.rest.split_at(end);
        self.line += memchr::memchr_iter(b'\n', skipped).count();
        self.rest = rest;
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { line: self.line, what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NETRC: &str = r#"# machine pop.example.org login alice password no
machine pop.example.org login alice password first
machine POP.example.org
    login bob password "two \"words\" \\ here" account x

macdef init
machine pop.example.org login carol password macro

machine other.example.org login carol password #hash
machine pop.example.org
  login dave
machine pop.example.org password anyone
default login erin password fallback
"#;

    fn found(host: &str, user: &str) -> Option<String> {
        let password = find(NETRC.as_bytes(), host, user).unwrap();
        password.map(|password| String::from_utf8_lossy(&password).into_owned())
    }

    #[test]
    fn the_entry_of_host_and_user_is_found() {
        assert_eq!(found("pop.example.org", "alice").as_deref(), Some("first"));
        assert_eq!(found("pop.EXAMPLE.org", "bob").as_deref(), Some(r#"two "words" \ here"#));
        assert_eq!(found("other.example.org", "carol").as_deref(), Some("#hash"));
        assert_eq!(found("nowhere.example.org", "erin").as_deref(), Some("fallback"));
    }

    #[test]
    fn other_entries_are_not_taken() {
        // Without a login an entry is for everyone; a macro is no entry; one without a password gives none.
        assert_eq!(found("pop.example.org", "carol").as_deref(), Some("anyone"));
        assert_eq!(found("pop.example.org", "dave").as_deref(), Some("anyone"));
        assert_eq!(found("other.example.org", "alice"), None);
        assert_eq!(found("nowhere.example.org", "Erin"), None);
    }

    #[test]
    fn a_broken_file_is_reported_by_line_and_never_by_content() {
        let fault = |text: &str| find(text.as_bytes(), "h", "u").unwrap_err();
        assert_eq!(fault("machine a\nlogin b\npassword").line, 3);
        assert_eq!(fault("machine a login b\nsecret").line, 2);
        assert_eq!(fault("machine a\nlogin \"b\n").line, 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(machine|login|password|macdef|default|#|\"|\\\\|a| |\n|\r){0,40}") {
            let _ = find(text.as_bytes(), "a", "a");
        }
    }
}
