//! What FETCH tells of a message (RFC 9051, 7.5.2), of which this must not be missed: a message that is not read counts as
//! one that is not there. So blanks too many, items that nobody asked for and odd flags are passed over.

use crate::message::arrival;

/// What FETCH tells of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    pub uid: Option<u32>,
    /// Octets, by the server's word.
    pub size: Option<u64>,
    /// INTERNALDATE, in seconds since 1970.
    pub date: Option<i64>,
    /// The section that was asked for: empty if it was streamed, or is NIL; `None` in a word on something else.
    pub section: Option<Vec<u8>>,
}

/// Says whether an untagged response is one of FETCH, whatever it says.
pub(super) fn is_fetch(response: &[u8]) -> bool {
    items(response).is_some()
}

/// Reads an untagged response, CRLF included; `None` if it makes no sense.
pub(super) fn read(response: &[u8]) -> Option<Fetched> {
    let mut rest = Rest(items(response)?.trim_ascii_start().strip_prefix(b"(")?);
    let mut fetched = Fetched::default();
    loop {
        rest.skip_blanks();
        if rest.0.starts_with(b")") {
            return Some(fetched);
        }
        let name = rest.name()?.to_ascii_uppercase();
        rest.skip_blanks();
        let value = rest.value()?;
        match &name[..] {
            b"UID" => fetched.uid = value.number(),
            b"RFC822.SIZE" => fetched.size = value.number(),
            b"INTERNALDATE" => fetched.date = arrival::of_date(&value.octets()),
            name if name.starts_with(b"BODY[") => fetched.section = Some(value.octets()),
            _ => {}
        }
    }
}

/// Gives what stands behind `* n FETCH`.
fn items(response: &[u8]) -> Option<&[u8]> {
    let rest = response.strip_prefix(b"* ")?;
    let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (word, rest) = rest[digits..].trim_ascii_start().split_at_checked(b"FETCH".len())?;
    (digits > 0 && word.eq_ignore_ascii_case(b"FETCH")).then_some(rest)
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

enum Value<'a> {
    Word(&'a [u8]),
    Text(Vec<u8>),
    List,
}

impl Value<'_> {
    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        match self {
            Self::Word(word) => std::str::from_utf8(word).ok()?.parse().ok(),
            Self::Text(_) | Self::List => None,
        }
    }

    fn octets(self) -> Vec<u8> {
        match self {
            Self::Text(octets) => octets,
            // NIL.
            Self::Word(_) | Self::List => Vec::new(),
        }
    }
}

impl<'a> Rest<'a> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Takes the octets up to a place.
    fn take(&mut self, octets: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(octets)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes a name, with the section in brackets if it has one.
    fn name(&mut self) -> Option<&'a [u8]> {
        let mut is_within = false;
        let end = self.0.iter().position(|octet| {
            match octet {
                b'[' => is_within = true,
                b']' => is_within = false,
                _ => {}
            }
            !is_within && matches!(octet, b' ' | b'(' | b')' | b'\r')
        })?;
        self.take(end).filter(|name| !name.is_empty())
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.0 {
            [b'(', ..] => self.skip_list().map(|()| Value::List),
            [b'"', ..] => self.quoted().map(Value::Text),
            [b'{', ..] | [b'~', b'{', ..] => self.literal().map(Value::Text),
            rest => {
                let end = rest.iter().position(|octet| matches!(octet, b' ' | b')' | b'\r'))?;
                self.take(end).filter(|word| !word.is_empty()).map(Value::Word)
            }
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let (mut text, mut at) = (Vec::new(), 1);
        loop {
            match self.0.get(at)? {
                b'"' => return self.take(at + 1).map(|_| text),
                b'\\' => {
                    text.push(*self.0.get(at + 1)?);
                    at += 2;
                }
                octet => {
                    text.push(*octet);
                    at += 1;
                }
            }
        }
    }

    fn literal(&mut self) -> Option<Vec<u8>> {
        let open = memchr::memchr(b'{', self.0)?;
        let end = memchr::memchr(b'\n', self.0)? + 1;
        let digits = self.0.get(open + 1..end)?.trim_ascii_end().strip_suffix(b"}")?;
        let octets: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
        self.take(end)?;
        self.take(octets).map(<[u8]>::to_vec)
    }

    /// Passes over a list and the lists in it.
    fn skip_list(&mut self) -> Option<()> {
        let mut depth = 0;
        loop {
            match self.0.first()? {
                b'"' => drop(self.quoted()?),
                b'{' => drop(self.literal()?),
                octet => {
                    match octet {
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        _ => {}
                    }
                    self.take(1)?;
                    if depth == 0 {
                        return Some(());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_however_its_server_writes_it() {
        let message = |size, section: &[u8]| {
            Some(Fetched { uid: Some(8), size, date: None, section: Some(section.to_vec()) })
        };
        for (response, expected) in [
            (
                "* 3 FETCH (UID 8 RFC822.SIZE 41 BODY[HEADER.FIELDS (DATE)] {4}\r\na)\r\n)",
                message(Some(41), b"a)\r\n"),
            ),
            ("* 3 fetch  ( body[header.fields (\"DATE\" from)] \"a \\\"b\" uid 8 )", message(None, b"a \"b")),
            (
                "* 3 FETCH (MODSEQ (5) X-GM-LABELS (\"\\\\Inbox\" {3}\r\n)(\" x) UID 8 BODY[]<0> ~{2}\r\n\0) )",
                message(None, b"\0)"),
            ),
            (
                "* 3 FETCH (FLAGS (\\Seen $a[b] \\*) INTERNALDATE \"29-Nov\" X NIL UID 8 RFC822.SIZE 5000000000 BODY[] NIL)",
                message(Some(5_000_000_000), b""),
            ),
            (
                "* 3 FETCH (UID 8 INTERNALDATE \" 1-Nov-2025 12:00:00 +0200\" RFC822.SIZE 1 BODY[] NIL)",
                Some(Fetched { date: Some(1_761_991_200), ..message(Some(1), b"").unwrap() }),
            ),
            ("* 3 FETCH (UID 8 FLAGS ())", Some(Fetched { uid: Some(8), ..Fetched::default() })),
            ("* 3 FETCH ()", Some(Fetched::default())),
            ("* 3 FETCH", None),
            ("* 3 FETCH (UID 8", None),
            ("* 3 FETCH (UID)", None),
            ("* 3 FETCH (BODY[] {9}\r\nx)", None),
            ("* 3 FETCH (BODY[] \"x)", None),
            ("* 3 FETCH (A ((\"x\")", None),
            ("* FETCH (UID 8)", None),
            ("* 3 EXISTS", None),
        ] {
            assert_eq!(read(format!("{response}\r\n").as_bytes()), expected, "{response}");
        }
    }
}
