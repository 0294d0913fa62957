//! The words of a run control file.

use super::super::cursor::{At, Cursor};

/// One word, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) at: At,
    pub(super) word: Word,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// A keyword, by the name that all its spellings have.
    Key(&'static str),
    /// `proto pop3` and the like, in lower case.
    Protocol(&'static str),
    /// `auth password` and the like.
    Auth(&'static str),
    Number(i64),
    /// What is none of these, or quoted, or stands where a name is wanted.
    Text(String),
    /// `=`
    Map,
}

/// Keywords that are called otherwise, too.
const SPELLINGS: &[(&[&str], &str)] = &[
    (&["server"], "poll"),
    (&["localdomains"], "local"),
    (&["proto"], "protocol"),
    (&["preauth", "preauthenticate", "auth", "authenticate"], "auth"),
    (&["user", "username"], "user"),
    (&["pass", "password"], "pass"),
    (&["folders"], "folder"),
    (&["smtp"], "smtphost"),
    (&["pre"], "preconnect"),
    (&["post"], "postconnect"),
    (&["pass8"], "pass8bits"),
    (&["mimedec"], "mimedecode"),
];

/// All other keywords.
const KEYWORDS: &[&str] = &[
    "set",
    "logfile",
    "idfile",
    "pidfile",
    "daemon",
    "syslog",
    "invisible",
    "showdots",
    "postmaster",
    "bouncemail",
    "spambounce",
    "softbounce",
    "warnings",
    "tracepolls",
    "defaults",
    "poll",
    "skip",
    "via",
    "aka",
    "local",
    "protocol",
    "service",
    "port",
    "interval",
    "timeout",
    "idletimeout",
    "envelope",
    "qvirtual",
    "principal",
    "esmtpname",
    "esmtppassword",
    "bad-header",
    "accept",
    "reject",
    "folder",
    "smtphost",
    "fetchdomains",
    "smtpaddress",
    "smtpname",
    "antispam",
    "mda",
    "bsmtp",
    "lmtp",
    "preconnect",
    "postconnect",
    "interface",
    "monitor",
    "plugin",
    "plugout",
    "batchlimit",
    "fetchlimit",
    "fetchsizelimit",
    "fastuidl",
    "expunge",
    "properties",
    "is",
    "here",
    "there",
    "to",
    "no",
    "keep",
    "flush",
    "limitflush",
    "fetchall",
    "rewrite",
    "forcecr",
    "stripcr",
    "pass8bits",
    "dropstatus",
    "dropdelivered",
    "mimedecode",
    "idle",
    "forceidle",
    "dns",
    "uidl",
    "ssl",
    "sslkey",
    "sslcert",
    "sslproto",
    "sslcertck",
    "sslcertfile",
    "sslcertpath",
    "sslcommonname",
    "sslfingerprint",
    "checkalias",
    "limit",
    "sdps",
    "kpop",
];

/// Keywords that may be written in one word with a `no` before them.
const NEGATED: &[&str] = &[
    "bouncemail",
    "uidl",
    "checkalias",
    "dns",
    "envelope",
    "keep",
    "flush",
    "limitflush",
    "fetchall",
    "rewrite",
    "forcecr",
    "stripcr",
    "pass8",
    "pass8bits",
    "dropstatus",
    "dropdelivered",
    "mimedec",
    "mimedecode",
    "spambounce",
    "idle",
    "forceidle",
];

/// Words that say nothing.
const NOISE: &[&str] = &["with", "and", "has", "wants", "options"];

const PROTOCOLS: &[&str] = &["auto", "pop2", "pop3", "imap", "apop", "rpop", "etrn", "odmr"];

const AUTHS: &[(&str, &str)] = &[
    ("any", "any"),
    ("gssapi", "gssapi"),
    ("kerberos", "kerberos"),
    ("kerberos4", "kerberos"),
    ("kerberos_v4", "kerberos"),
    ("kerberos5", "kerberos"),
    ("kerberos_v5", "kerberos"),
    ("ssh", "ssh"),
    ("implicit", "ssh"),
    ("external", "external"),
    ("otp", "otp"),
    ("opie", "otp"),
    ("cram", "cram-md5"),
    ("cram-md5", "cram-md5"),
    ("msn", "msn"),
    ("ntlm", "ntlm"),
];

/// What the next bare word is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Keywords,
    /// A name, whatever it is called.
    Name,
    /// A way to log in, of which one is called as a keyword is.
    Auth,
}

/// Splits a file into its words. There is none that it cannot split: what a quote begins and nothing ends is a bare word.
pub(super) fn words(text: &str) -> (Vec<Token>, At) {
    let mut cursor = Cursor::new(text, None);
    let (mut tokens, mut mode) = (Vec::new(), Mode::Keywords);
    while let Some(next) = cursor.peek() {
        let at = cursor.at();
        let rest = cursor.rest();
        if next == '=' {
            cursor.skip(1);
            mode = Mode::Name;
            tokens.push(Token { at, word: Word::Map });
            continue;
        }
        let (quoted, bare, comment) = (quoted(rest), bare(rest), comment(rest));
        // The longest match counts, of two as long the one named first.
        if comment > quoted && comment > bare {
            cursor.skip(comment);
        } else if quoted > 0 && quoted >= bare {
            let word = cursor.skip(quoted);
            tokens.push(Token { at, word: Word::Text(escaped(&word[1..quoted - 1])) });
            mode = Mode::Keywords;
        } else if bare > 0 {
            let word = cursor.skip(bare);
            tokens.extend(of_bare(word, mode).into_iter().map(|word| Token { at: at.clone(), word }));
            mode = match tokens.last().map(|token| &token.word) {
                _ if NOISE.contains(&word) && mode != Mode::Name => mode,
                Some(Word::Key("user" | "pass" | "is" | "to")) => Mode::Name,
                Some(Word::Key("auth")) => Mode::Auth,
                _ => Mode::Keywords,
            };
        } else {
            cursor.skip(next.len_utf8());
        }
    }
    (tokens, cursor.at())
}

/// Counts the octets of a quoted text, quotes included.
fn quoted(rest: &str) -> usize {
    let Some(quote @ ('"' | '\'')) = rest.chars().next() else { return 0 };
    rest[1..].find(quote).map_or(0, |end| end + 2)
}

fn bare(rest: &str) -> usize {
    let ends = |c: char| matches!(c, '=' | ';' | ':' | ',' | ' ' | '\t' | '\r' | '\n');
    rest.find(ends).unwrap_or(rest.len())
}

/// Counts the octets of a comment and the line's end behind it; what no line's end follows is none.
fn comment(rest: &str) -> usize {
    let end = rest.find('\n');
    match (rest.chars().next(), end) {
        (Some('#'), Some(end)) => end + 1,
        (Some('\\'), Some(1)) => 2,
        (Some('\n'), _) => 1,
        _ => 0,
    }
}

fn of_bare(word: &str, mode: Mode) -> Vec<Word> {
    if mode == Mode::Name {
        return vec![Word::Text(escaped(word))];
    }
    if mode == Mode::Auth && word == "password" {
        return vec![Word::Auth("password")];
    }
    if NOISE.contains(&word) {
        return Vec::new();
    }
    if let Some(glued) = word.strip_prefix("no").filter(|glued| NEGATED.contains(glued)) {
        return [vec![Word::Key("no")], of_bare(glued, mode)].concat();
    }
    let spelt = SPELLINGS.iter().find(|(spellings, _)| spellings.contains(&word)).map(|(_, key)| *key);
    if let Some(key) = spelt.or_else(|| KEYWORDS.iter().find(|known| **known == word).copied()) {
        return vec![Word::Key(key)];
    }
    if let Some((_, auth)) = AUTHS.iter().find(|(known, _)| *known == word) {
        return vec![Word::Auth(auth)];
    }
    // All of one case, or neither is known.
    let is_protocol = |known: &&&str| **known == word || known.to_ascii_uppercase() == word;
    if let Some(protocol) = PROTOCOLS.iter().find(is_protocol) {
        return vec![Word::Protocol(protocol)];
    }
    match word {
        "SDPS" => return vec![Word::Key("sdps")],
        "KPOP" => return vec![Word::Key("kpop")],
        _ => {}
    }
    let digits = word.strip_prefix('-').unwrap_or(word);
    if !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return vec![word.parse().map_or_else(|_| Word::Text(word.to_owned()), Word::Number)];
    }
    vec![Word::Text(escaped(word))]
}

/// Takes backslashes as C does, but that `\ddd` is decimal and of `\0oo` three digits count, the zero among them.
fn escaped(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let number = |rest: &mut &[u8], radix: u32, most: usize| {
        let is_digit = |octet: &u8| char::from(*octet).is_digit(radix);
        let digits = rest.iter().take(most).take_while(|octet| is_digit(octet)).count();
        let digit = |octet: &u8| char::from(*octet).to_digit(radix).unwrap_or_default();
        let value = rest[..digits].iter().fold(0, |value, octet| value * radix + digit(octet));
        *rest = &rest[digits..];
        (value & 0xff) as u8
    };
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        let Some((&second, after)) = rest.split_first() else { break };
        match second {
            b'x' | b'X' => {
                rest = after;
                octets.push(number(&mut rest, 16, 2));
            }
            b'0' => octets.push(number(&mut rest, 8, 3)),
            b'1'..=b'9' => octets.push(number(&mut rest, 10, 3)),
            _ => {
                rest = after;
                match second {
                    b'\n' => {}
                    b'n' => octets.push(b'\n'),
                    b't' => octets.push(b'\t'),
                    b'b' => octets.push(8),
                    b'r' => octets.push(b'\r'),
                    other => octets.push(other),
                }
            }
        }
    }
    // A C string ends there.
    octets.truncate(octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len()));
    String::from_utf8(octets).unwrap_or_else(|error| {
        // Octets of another character set, each of them taken for that of Latin-1.
        error.into_bytes().into_iter().map(char::from).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Word> {
        words(text).0.into_iter().map(|token| token.word).collect()
    }

    fn text(text: &str) -> Word {
        Word::Text(text.to_owned())
    }

    #[test]
    fn a_word_is_what_fetchmail_takes_it_for() {
        assert_eq!(
            of("user keep pass 42, to 1=2 here"),
            [
                Word::Key("user"),
                text("keep"),
                Word::Key("pass"),
                text("42"),
                Word::Key("to"),
                text("1"),
                Word::Map,
                text("2"),
                Word::Key("here")
            ]
        );
        assert_eq!(of("port 1100 x"), [Word::Key("port"), Word::Number(1100), text("x")]);
        assert_eq!(
            of("auth password; pass x"),
            [Word::Key("auth"), Word::Auth("password"), Word::Key("pass"), text("x")]
        );
        assert_eq!(of("nokeep # no\nnokeeps"), [Word::Key("no"), Word::Key("keep"), text("nokeeps")]);
        assert_eq!(of("POP3 Pop3"), [Word::Protocol("pop3"), text("Pop3")]);
        assert_eq!(of("with and \\\nhas wants options"), []);
    }

    #[test]
    fn quotes_protect_what_stands_between_them_and_no_backslash_protects_a_quote() {
        assert_eq!(of("'p w\\x41\\101'"), [text("p wAe")]);
        assert_eq!(of("\"ab\\\"cd\""), [text("\"ab\"cd\"")]);
        assert_eq!(of("'a\nb' \"open"), [text("a\nb"), text("\"open")]);
        assert_eq!(of("'\\0662' 'a\\\nb' 'q\\z'"), [text("62"), text("ab"), text("qz")]);
        assert_eq!(of("x#y"), [text("x#y")]);
    }
}
