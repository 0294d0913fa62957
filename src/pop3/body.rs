//! Dot-unstuffing of multi-line responses, without copying (RFC 1939, 3).

use std::ops::Range;

use memchr::memmem;

/// What ends a line in a multi-line response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// CRLF, as the RFC demands; a bare LF is content.
    Crlf,
    /// A server whose status lines end in a bare LF: LF and CRLF both end a line.
    Lf,
}

/// What stands next in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Octets of the body, as a part of the input.
    Octets(Range<usize>),
    /// The termination line; the body is complete.
    End,
    /// Not enough input to say; call again with more.
    More,
}

/// Removes dot-stuffing and finds the end of one body.
///
/// The caller keeps what was not consumed and offers it again with more behind it; at most two octets are ever left
/// over. The pieces joined are the body, line ends included, and do not depend on how the input was split.
#[derive(Debug, Clone)]
pub struct Unstuffer {
    line_end: LineEnd,
    at: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    LineStart,
    InLine,
    /// In a line, and the last octet was CR.
    AfterCr,
}

impl Unstuffer {
    pub fn new(line_end: LineEnd) -> Self {
        Self { line_end, at: Position::LineStart }
    }

    /// Takes the next piece off the input: how many octets are consumed, and what they are.
    ///
    /// A piece of octets is never empty. After [`Piece::End`] nothing more may be asked.
    pub fn next(&mut self, input: &[u8]) -> (usize, Piece) {
        let mut start = 0;
        if self.at == Position::LineStart && input.first() == Some(&b'.') {
            match (input.get(1), input.get(2), self.line_end) {
                (Some(b'\n'), _, LineEnd::Lf) => return (2, Piece::End),
                (Some(b'\r'), Some(b'\n'), _) => return (3, Piece::End),
                (None, _, _) | (Some(b'\r'), None, _) => return (0, Piece::More),
                // Any other line that begins with a dot was stuffed with one.
                (Some(_), _, _) => start = 1,
            }
        }
        let rest = &input[start..];
        let Some(last) = rest.last() else { return (0, Piece::More) };
        let len = match self.next_dotted_line(rest) {
            Some(len) => {
                self.at = Position::LineStart;
                len
            }
            None => {
                let cr_before_last = match rest.len() {
                    1 => self.at == Position::AfterCr,
                    len => rest[len - 2] == b'\r',
                };
                self.at = match last {
                    b'\n' if cr_before_last || self.line_end == LineEnd::Lf => Position::LineStart,
                    b'\r' => Position::AfterCr,
                    _ => Position::InLine,
                };
                rest.len()
            }
        };
        (start + len, Piece::Octets(start..start + len))
    }

    /// Finds the first line of `rest` but its own first that begins with a dot: the octets before it.
    fn next_dotted_line(&self, rest: &[u8]) -> Option<usize> {
        memmem::find_iter(rest, b"\n.").map(|lf| lf + 1).find(|&dot| {
            self.line_end == LineEnd::Lf
                || match dot.checked_sub(2) {
                    Some(before) => rest[before] == b'\r',
                    None => self.at == Position::AfterCr,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inverse, as a server does it: line by line, and the termination line behind.
    fn stuff(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut line_start = true;
        for (i, octet) in body.iter().enumerate() {
            if line_start && *octet == b'.' {
                out.push(b'.');
            }
            out.push(*octet);
            line_start = body[..=i].ends_with(b"\r\n");
        }
        if !line_start {
            out.extend(b"\r\n");
        }
        out.extend(b".\r\n");
        out
    }

    /// Feeds the input in two steps split at `at`, then octet by octet if `at` is 0; gives the body and where its end is.
    fn unstuff_split(stuffed: &[u8], at: usize, line_end: LineEnd) -> Option<(Vec<u8>, usize)> {
        let mut unstuffer = Unstuffer::new(line_end);
        let (mut body, mut start) = (Vec::new(), 0);
        let ends: Vec<usize> = if at == 0 { (1..=stuffed.len()).collect() } else { vec![at, stuffed.len()] };
        for end in ends {
            loop {
                let (consumed, piece) = unstuffer.next(&stuffed[start..end]);
                match piece {
                    Piece::Octets(octets) => {
                        assert!(!octets.is_empty());
                        body.extend_from_slice(&stuffed[start..end][octets]);
                    }
                    Piece::End => return Some((body, start + consumed)),
                    Piece::More => {
                        assert_eq!(consumed, 0);
                        assert!(end - start <= 2, "more than two octets kept back");
                        break;
                    }
                }
                start += consumed;
            }
        }
        None
    }

    const STUFFED: &[(&[u8], &[u8])] = &[
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n..x\r\n.\r\n", b"..\r\n.x\r\n"),
        (b"a\r\n..\r\n\r\n.\r\n", b"a\r\n.\r\n\r\n"),
        (b"bare\n.\nlf\n.\r\n\r\n.\r\n", b"bare\n.\nlf\n.\r\n\r\n"),
        (b"cr\r\r\n.\r\n", b"cr\r\r\n"),
        (b"cr\r.\r\n.\r\n", b"cr\r.\r\n"),
        (b".\rx\r\n.\r\n", b"\rx\r\n"),
        (b".\nx\r\n.\r\n", b"\nx\r\n"),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n"),
    ];

    #[test]
    fn bodies_come_out_the_same_at_every_split() {
        for (stuffed, body) in STUFFED {
            let with_next = [stuffed, &b"+OK next\r\n"[..]].concat();
            for at in 0..with_next.len() {
                assert_eq!(
                    unstuff_split(&with_next, at, LineEnd::Crlf),
                    Some((body.to_vec(), stuffed.len())),
                    "{stuffed:?} split at {at}"
                );
            }
        }
    }

    #[test]
    fn a_server_that_ends_lines_with_lf_is_understood_at_every_split() {
        let cases: [(&[u8], &[u8]); 3] =
            [(b"a\n..b\n.\n", b"a\n.b\n"), (b".\n", b""), (b"mixed\r\n..\nx\n.\r\n", b"mixed\r\n.\nx\n")];
        for (stuffed, body) in cases {
            for at in 0..stuffed.len() {
                assert_eq!(
                    unstuff_split(stuffed, at, LineEnd::Lf),
                    Some((body.to_vec(), stuffed.len())),
                    "{at}"
                );
            }
        }
    }

    #[test]
    fn an_end_glued_to_the_last_line_is_no_end() {
        assert_eq!(unstuff_split(b"last line.\r\n", 0, LineEnd::Crlf), None);
    }

    proptest! {
        #[test]
        fn unstuffing_undoes_stuffing(lines in prop::collection::vec("[.\r\nab\u{0}]{0,6}", 0..20), at in 1usize..200) {
            let body = lines.join("\r\n").into_bytes();
            let stuffed = stuff(&body);
            let whole = if body.is_empty() || body.ends_with(b"\r\n") { body } else { [&body[..], b"\r\n"].concat() };
            for at in [0, at.min(stuffed.len()), stuffed.len()] {
                prop_assert_eq!(unstuff_split(&stuffed, at, LineEnd::Crlf), Some((whole.clone(), stuffed.len())));
            }
        }

        #[test]
        fn any_octets_come_out_the_same_at_every_split(octets in prop::collection::vec(prop::sample::select(&b".\r\na"[..]), 0..40)) {
            let stuffed = [&octets[..], b"\r\n.\r\n"].concat();
            let whole = unstuff_split(&stuffed, stuffed.len(), LineEnd::Crlf);
            prop_assert!(whole.is_some());
            for at in 0..stuffed.len() {
                prop_assert_eq!(&unstuff_split(&stuffed, at, LineEnd::Crlf), &whole);
            }
        }
    }
}
