//! What a scripted server says and expects, as a transcript or built step by step.
//!
//! One directive a line; blank lines and lines that begin with `#` mean nothing, blanks before a directive neither.
//!
//! ```text
//! S: +OK ready                what the server says, and CRLF
//! S- +OK no line e            the same without CRLF
//! C: USER alice               a line that the client must send
//! C: AUTH PLAIN *             ... that begins so; `*` alone is any line
//! !capture NAME               takes any line and keeps it under the name
//! !any 3                      takes three lines, whatever they are
//! !body 512M                  so many octets of text in lines of 76 at most (CRLF included), no dot in front
//! !repeat 100 {} 42\r\n       the text a hundred times; `{}` is the count from 1
//! !endless x                  the text again and again until the client goes
//! !split 1                    from here on, what is said leaves in pieces of so many octets (0: whole)
//! !trickle 10                 ... with a pause of so many milliseconds after each piece (one octet, unless split)
//! !tls                        does the TLS handshake now
//! !tls refused                ... which the client must refuse
//! !flight 2                   the client waited for an answer twice so far (makes the session's count exact)
//! !expect-close               the client must close the connection, sending nothing more
//! !cut                        ends the connection (FIN), `!cut rst` resets it
//! !stall                      says nothing more until the client goes
//! ```
//!
//! Octets that are not text are written `\r \n \t \0 \\ \* \xHH`; `\s` is a blank where an editor would eat it. A
//! script that does not end with `!cut`, `!stall` or `!endless` ends as if by `!expect-close`, after the server
//! closed its own direction.

use std::time::Duration;

use super::wire::Cut;

/// One step of a scripted session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sends these octets.
    Say(Vec<u8>),
    /// Sends so many octets of text; see [`body`].
    Body(u64),
    /// Sends the octets so many times (`None`: until the client goes), `{}` replaced by the count from 1.
    Repeat(Option<u64>, Vec<u8>),
    /// Takes a line that must match.
    Expect(Pattern),
    /// Takes any line and keeps it under a name.
    Capture(String),
    /// Takes so many lines.
    Any(usize),
    /// Sends what follows in pieces of so many octets; 0: whole.
    Split(usize),
    /// Pauses after each piece.
    Trickle(Duration),
    /// Does the TLS handshake.
    Tls,
    /// Begins a TLS handshake that must fail.
    TlsRefused,
    /// The client must have waited for an answer so many times.
    Flight(usize),
    /// The client must close without another octet.
    ExpectClose,
    /// Ends the connection.
    Cut(Cut),
    /// Says nothing more until the client goes.
    Stall,
}

/// What a client's line must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// These octets.
    Exactly(Vec<u8>),
    /// Octets that begin so.
    Begins(Vec<u8>),
}

impl Pattern {
    /// Says whether a line (without its CRLF) is such a one.
    pub fn matches(&self, line: &[u8]) -> bool {
        match self {
            Self::Exactly(octets) => line == octets,
            Self::Begins(octets) => line.starts_with(octets),
        }
    }
}

/// What a scripted server does in one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Names the session in reports.
    pub name: String,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Script {
    /// Begins an empty script.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_string(), steps: Vec::new() }
    }

    /// Reads a transcript; panics with the line that it cannot read.
    pub fn parse(name: &str, transcript: &str) -> Self {
        let mut script = Self::new(name);
        for (index, line) in transcript.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match step(line) {
                Some(step) => script.steps.push(step),
                None => panic!("script {name:?}, line {}: cannot read {line:?}", index + 1),
            }
        }
        script
    }

    /// Adds a step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds the steps of a transcript.
    pub fn play(mut self, transcript: &str) -> Self {
        self.steps.extend(Self::parse(&self.name, transcript).steps);
        self
    }

    /// Says a line; CRLF is added.
    pub fn says(self, line: impl AsRef<[u8]>) -> Self {
        self.then(Step::Say([line.as_ref(), b"\r\n"].concat()))
    }

    /// Expects exactly this line.
    pub fn expects(self, line: impl Into<Vec<u8>>) -> Self {
        self.then(Step::Expect(Pattern::Exactly(line.into())))
    }
}

/// Gives the octets that `!body` sends: lines of 76 octets with their CRLF, the last one as long as it takes.
pub fn body(octets: u64) -> Vec<u8> {
    let mut all = Vec::new();
    body_lines(octets, |line| {
        all.extend_from_slice(line);
        Ok::<(), ()>(())
    })
    .expect("it never fails");
    all
}

/// Passes the lines of a body on, one after the other, until one is not taken.
pub fn body_lines<E>(octets: u64, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    const LINE: usize = 76;
    assert!(octets != 1, "a body of lines has no octet, or two or more");
    let mut line = [0; LINE + 2];
    let mut left = octets;
    while left > 0 {
        // The last line takes what would be too short for a line of its own.
        let length = if left < (LINE + 2) as u64 { left as usize } else { LINE };
        for (place, octet) in line[..length - 2].iter_mut().enumerate() {
            // Depends on the place in the whole, so that a line left out or moved is noticed.
            *octet = b'a' + ((octets - left + place as u64) % 25) as u8;
        }
        line[length - 2..length].copy_from_slice(b"\r\n");
        take(&line[..length])?;
        left -= length as u64;
    }
    Ok(())
}

/// Writes octets so that they can be read in a transcript again.
pub fn escaped(octets: &[u8]) -> String {
    let mut text = String::new();
    for &octet in octets {
        match octet {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            0 => text.push_str("\\0"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("\\x{octet:02x}")),
        }
    }
    text
}

fn step(line: &str) -> Option<Step> {
    if let Some(said) = line.strip_prefix("S:") {
        let mut octets = unescaped(said.strip_prefix(' ').unwrap_or(said))?;
        octets.extend_from_slice(b"\r\n");
        return Some(Step::Say(octets));
    }
    if let Some(said) = line.strip_prefix("S-") {
        return Some(Step::Say(unescaped(said.strip_prefix(' ').unwrap_or(said))?));
    }
    if let Some(expected) = line.strip_prefix("C:") {
        let expected = expected.strip_prefix(' ').unwrap_or(expected);
        let open = expected.strip_suffix('*').filter(|start| !start.ends_with('\\'));
        return Some(Step::Expect(match open {
            Some(start) => Pattern::Begins(unescaped(start)?),
            None => Pattern::Exactly(unescaped(expected)?),
        }));
    }
    let (directive, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match (directive, rest) {
        ("!cut", "" | "fin") => Step::Cut(Cut::Fin),
        ("!cut", "rst") => Step::Cut(Cut::Rst),
        ("!stall", "") => Step::Stall,
        ("!expect-close", "") => Step::ExpectClose,
        ("!tls", "") => Step::Tls,
        ("!tls", "refused") => Step::TlsRefused,
        ("!capture", name) if !name.is_empty() => Step::Capture(name.to_string()),
        ("!any", count) => Step::Any(count.parse().ok()?),
        ("!split", octets) => Step::Split(octets.parse().ok()?),
        ("!trickle", pause) => Step::Trickle(Duration::from_millis(pause.parse().ok()?)),
        ("!flight", count) => Step::Flight(count.parse().ok()?),
        ("!body", octets) => Step::Body(size(octets)?),
        ("!endless", text) if !text.is_empty() => Step::Repeat(None, unescaped(text)?),
        ("!repeat", rest) => {
            let (count, text) = rest.split_once(' ')?;
            Step::Repeat(Some(size(count)?), unescaped(text)?)
        }
        _ => return None,
    })
}

fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    Some(digits.parse::<u64>().ok()? * unit)
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b's' => b' ',
                b'0' => 0,
                b'\\' => b'\\',
                b'*' => b'*',
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                _ => return None,
            },
            octet => octet,
        });
    }
    Some(octets)
}
