//! Line ends: CRLF on the wire (RFC 5322, 2.1), LF in files.

use memchr::{memchr, memchr_iter};

/// Turns each CRLF into LF, in slices of any size, and changes nothing else.
///
/// A CR that no LF follows stays, NUL and 8-bit octets stay, and a missing last newline stays missing. A CR at the
/// end of a slice is kept back until the next octet shows what it is; [`ToLf::finish`] gives it up.
#[derive(Debug, Clone, Default)]
pub struct ToLf {
    /// The last slice ended with a CR that is not written yet.
    cr_kept: bool,
}

impl ToLf {
    /// Appends `octets`, converted, to `out`.
    pub fn convert(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let Some(&first) = octets.first() else { return };
        // Never more than what came in, and the CR kept back: one allocation a slice at most.
        out.reserve(octets.len() + usize::from(self.cr_kept));
        if std::mem::take(&mut self.cr_kept) && first != b'\n' {
            out.push(b'\r');
        }
        let mut from = 0;
        for cr in memchr_iter(b'\r', octets) {
            let next = octets.get(cr + 1);
            self.cr_kept = next.is_none();
            if next.is_none_or(|next| *next == b'\n') {
                out.extend_from_slice(&octets[from..cr]);
                from = cr + 1;
            }
        }
        out.extend_from_slice(&octets[from..]);
    }

    /// Ends the message: a last CR was not half a line end after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.cr_kept) {
            out.push(b'\r');
        }
    }
}

/// Puts a CR before each LF that has none, in slices of any size, and changes nothing else.
///
/// What is sent by SMTP must have no other LF (RFC 5321, 2.3.8): between servers that take a bare one for the end of
/// a line and those that do not, a message could be made to look like two.
#[derive(Debug, Clone, Default)]
pub struct ToCrlf {
    after_cr: bool,
}

impl ToCrlf {
    /// Appends `octets`, converted, to `out`.
    pub fn convert(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len());
        let mut rest = octets;
        while let Some(lf) = memchr(b'\n', rest) {
            let line = &rest[..lf];
            out.extend_from_slice(line);
            let has_cr = line.last().map_or(self.after_cr, |last| *last == b'\r');
            out.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
            self.after_cr = false;
            rest = &rest[lf + 1..];
        }
        out.extend_from_slice(rest);
        self.after_cr = rest.last().map_or(self.after_cr, |last| *last == b'\r');
    }
}

/// Makes each CR that no LF follows, and each LF that no CR precedes, a CRLF, in slices of any size, and changes nothing
/// else.
///
/// IMAP has lines as RFC 5322 has them (RFC 9051, 4.3.1), and servers refuse any other, or make two lines of one. A CR at
/// the end of a slice is kept back until the next octet shows what it is; [`ToLines::finish`] gives it up.
#[derive(Debug, Clone, Default)]
pub struct ToLines {
    /// The last slice ended with a CR that is not written yet.
    cr_kept: bool,
}

impl ToLines {
    /// Appends `octets`, converted, to `out`.
    pub fn convert(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if octets.is_empty() {
            return;
        }
        out.reserve(octets.len() + 1);
        let mut rest = octets;
        if std::mem::take(&mut self.cr_kept) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            out.extend_from_slice(b"\r\n");
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
            out.extend_from_slice(&rest[..end]);
            let length = match &rest[end..] {
                [b'\r'] => {
                    self.cr_kept = true;
                    return;
                }
                [b'\r', b'\n', ..] => 2,
                _ => 1,
            };
            out.extend_from_slice(b"\r\n");
            rest = &rest[end + length..];
        }
        out.extend_from_slice(rest);
    }

    /// Ends the message: a last CR was not half a line end after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.cr_kept) {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn converted(slices: &[&[u8]]) -> Vec<u8> {
        let (mut to_lf, mut out) = (ToLf::default(), Vec::new());
        for slice in slices {
            to_lf.convert(slice, &mut out);
        }
        to_lf.finish(&mut out);
        out
    }

    #[test]
    fn every_crlf_becomes_lf_and_nothing_else_changes_at_every_split() {
        let table: &[(&[u8], &[u8])] = &[
            (b"", b""),
            (b"\r", b"\r"),
            (b"\n", b"\n"),
            (b"\r\n", b"\n"),
            (b"\r\r\n", b"\r\n"),
            (b"\r\n\r\n", b"\n\n"),
            (b"\n\r", b"\n\r"),
            (b"a\rb\nc\r\nd", b"a\rb\nc\nd"),
            (b"\0\xff\r\n\r\0\r", b"\0\xff\n\r\0\r"),
            (b"no newline at the end", b"no newline at the end"),
            (b"\r\r\r\n\n\r\n\r\r", b"\r\r\n\n\n\r\r"),
        ];
        for (octets, expected) in table {
            assert_eq!(converted(&[octets]), *expected, "{octets:?}");
            for first in 0..=octets.len() {
                for second in first..=octets.len() {
                    let slices = [&octets[..first], &octets[first..second], &octets[second..]];
                    assert_eq!(converted(&slices), *expected, "{slices:?}");
                }
            }
            let single: Vec<&[u8]> = octets.chunks(1).collect();
            assert_eq!(converted(&single), *expected, "{single:?}");
        }
    }

    #[test]
    fn every_lf_gets_its_cr_at_every_split() {
        for (octets, expected) in [
            (&b""[..], &b""[..]),
            (b"\n", b"\r\n"),
            (b"\r\n", b"\r\n"),
            (b"\r", b"\r"),
            (b"\r\r\n\n", b"\r\r\n\r\n"),
            (b"a\n.\nb\r\n.\r\nc\rd", b"a\r\n.\r\nb\r\n.\r\nc\rd"),
        ] {
            for at in 0..=octets.len() {
                let (mut to_crlf, mut out) = (ToCrlf::default(), Vec::new());
                to_crlf.convert(&octets[..at], &mut out);
                to_crlf.convert(&octets[at..], &mut out);
                assert_eq!(out, expected, "{octets:?} split at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_octets_in_any_slices_come_out_as_by_plain_replacement(
            slices in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..9), 0..9)
        ) {
            let whole: Vec<u8> = slices.concat();
            let mut expected = Vec::new();
            for (at, octet) in whole.iter().enumerate() {
                if *octet != b'\r' || whole.get(at + 1) != Some(&b'\n') {
                    expected.push(*octet);
                }
            }
            let slices: Vec<&[u8]> = slices.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(converted(&slices), expected);
        }
    }

    #[test]
    fn every_line_end_becomes_crlf_at_every_split() {
        let text = b"\r\r\n\n\ra\r\nb\n\n\r\rc\r";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let (mut to_lines, mut out) = (ToLines::default(), Vec::new());
                for slice in [&text[..first], &text[first..second], &text[second..]] {
                    to_lines.convert(slice, &mut out);
                }
                to_lines.finish(&mut out);
                let expected = "\r\n\r\n\r\n\r\na\r\nb\r\n\r\n\r\n\r\nc\r\n";
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{first} {second}");
            }
        }
    }
}
