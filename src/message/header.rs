//! A bounded look at the header section of a message.
//!
//! What is there is whatever somebody sent: fields may be broken, folded anywhere, or missing. Nothing here fails;
//! what is no field is passed over.

use std::borrow::Cow;

/// The header section of a message, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8]);

/// Where a message says that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversePath {
    /// An address, without angle brackets.
    Address(Vec<u8>),
    /// The null reverse-path, `<>`, of messages that must not be answered (RFC 5321, 4.5.5).
    Null,
}

impl<'a> Header<'a> {
    /// Takes the lines of a header section; an empty line ends it.
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// Gives the values of all fields of this name, from the top, unfolded (RFC 5322, 2.2.3) and without the blanks
    /// around them. Case does not matter in names.
    pub fn fields(self, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let name = name.as_bytes().to_vec();
        let mut rest = self.0;
        std::iter::from_fn(move || {
            loop {
                let (field, after) = field(rest)?;
                rest = after;
                if let Some(colon) = memchr::memchr(b':', field)
                    && field[..colon].trim_ascii_end().eq_ignore_ascii_case(&name)
                {
                    return Some(unfolded(&field[colon + 1..]));
                }
            }
        })
    }

    /// Gives the envelope sender that the header tells: `Return-Path`, else the first address in `From`, else none.
    pub fn reverse_path(self) -> ReversePath {
        if let Some(path) = self.fields("Return-Path").next() {
            return match address(&path) {
                Some(address) => ReversePath::Address(address.to_vec()),
                None => ReversePath::Null,
            };
        }
        match self.fields("From").next().and_then(|from| address(&from).map(<[u8]>::to_vec)) {
            Some(address) => ReversePath::Address(address),
            None => ReversePath::Null,
        }
    }
}

/// Finds the first address in a field's value: what stands in angle brackets, else the first word with an `@`.
pub fn address(value: &[u8]) -> Option<&[u8]> {
    let found = match memchr::memchr(b'<', value) {
        Some(open) => {
            let rest = &value[open + 1..];
            &rest[..memchr::memchr(b'>', rest)?]
        }
        None => value
            .split(|octet| octet.is_ascii_whitespace() || matches!(octet, b',' | b';' | b'(' | b')'))
            .find(|word| word.contains(&b'@'))?,
    };
    let found = found.trim_ascii();
    (!found.is_empty()).then_some(found)
}

/// Splits the first field, its continuation lines included, from the rest.
fn field(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    if octets.is_empty() || octets.starts_with(b"\n") || octets.starts_with(b"\r\n") {
        return None;
    }
    let goes_on = |after: usize| matches!(octets.get(after), Some(b' ' | b'\t'));
    let end = memchr::memchr_iter(b'\n', octets).map(|lf| lf + 1).find(|after| !goes_on(*after));
    Some(octets.split_at(end.unwrap_or(octets.len())))
}

fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if value.contains(&b'\n') {
        let kept = value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n'));
        Cow::Owned(kept.collect())
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_from_the_top_unfolded_whatever_their_case() {
        let header = Header::new(
            b"Received: x\r\nX-Original-To: a@b\r\nsubject: one\r\n two\r\n\tthree\r\nno field\r\nSUBJECT : four\r\n\r\nSubject: body\r\n",
        );
        let subjects: Vec<_> = header.fields("Subject").collect();
        assert_eq!(subjects, [&b"one two\tthree"[..], b"four"]);
        assert_eq!(header.fields("x-original-to").next().as_deref(), Some(&b"a@b"[..]));
        assert_eq!(header.fields("To").count(), 0);
    }

    #[test]
    fn the_reverse_path_comes_from_return_path_else_from_else_is_null() {
        for (header, path) in [
            ("Return-Path: <a@b>\nFrom: c@d\n", Some("a@b")),
            ("Return-Path: <>\nFrom: c@d\n", None),
            ("From: \"C\" <c@d>\n", Some("c@d")),
            ("From: c@d (C)\n", Some("c@d")),
            ("From: nobody\n", None),
            ("", None),
        ] {
            let expected = match path {
                Some(address) => ReversePath::Address(address.into()),
                None => ReversePath::Null,
            };
            assert_eq!(Header::new(header.as_bytes()).reverse_path(), expected, "{header}");
        }
    }
}
