//! Byte-stuffing of a message that is sent (RFC 5321, 4.5.2).

/// Stuffs a message part by part, and ends it.
#[derive(Debug)]
pub(super) struct Stuffing {
    /// The last two octets; before the first there is a line end.
    last: [u8; 2],
}

impl Stuffing {
    pub(super) fn new() -> Self {
        Self { last: *b"\r\n" }
    }

    /// Appends the next part of the message, with a dot before each dot at the beginning of a line.
    pub(super) fn stuff(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if self.last[1] == b'\n' && part.first() == Some(&b'.') {
            out.push(b'.');
        }
        let mut from = 0;
        for lf in memchr::memmem::find_iter(part, b"\n.") {
            out.extend_from_slice(&part[from..=lf]);
            out.push(b'.');
            from = lf + 1;
        }
        out.extend_from_slice(&part[from..]);
        match part {
            [] => {}
            [only] => self.last = [self.last[1], *only],
            [.., before, last] => self.last = [*before, *last],
        }
    }

    /// Gives what ends the message: the last CRLF of the message itself is the first of the end's.
    pub(super) fn end(&self) -> &'static [u8] {
        if self.last == *b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(parts: &[&[u8]]) -> Vec<u8> {
        let (mut stuffing, mut out) = (Stuffing::new(), Vec::new());
        parts.iter().for_each(|part| stuffing.stuff(part, &mut out));
        out.extend_from_slice(stuffing.end());
        out
    }

    /// The inverse, as a server does it: line by line up to the line that is a dot. `None` if there is none, or more.
    fn unstuffed(wire: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(wire).ok()?.strip_suffix(".\r\n")?;
        let lines = text.split_inclusive("\r\n");
        lines
            .map(|line| (line != ".\r\n").then_some(line.strip_prefix('.').unwrap_or(line)))
            .collect::<Option<String>>()
            .map(String::into_bytes)
    }

    #[test]
    fn dots_are_stuffed_at_the_beginning_of_lines_at_every_split() {
        let message = b".\r\n..\r\na.b\r\n\r\n.\r\nx\r.\r\n.";
        for first in 0..=message.len() {
            for second in first..=message.len() {
                let parts = [&message[..first], &message[first..second], &message[second..]];
                assert_eq!(
                    stuffed(&parts),
                    b"..\r\n...\r\na.b\r\n\r\n..\r\nx\r.\r\n..\r\n.\r\n",
                    "{first} {second}"
                );
            }
        }
    }

    #[test]
    fn a_message_ends_after_a_line_end_of_its_own() {
        assert_eq!(stuffed(&[]), b".\r\n");
        assert_eq!(stuffed(&[b"a\r", b"\n"]), b"a\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\r"]), b"a\r\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn what_is_stuffed_comes_out_as_it_was(
            lines in prop::collection::vec("[.\r\u{0}a]{0,4}", 0..12),
            split in 0usize..60,
        ) {
            let message: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
            let (first, second) = message.split_at(split.min(message.len()));
            let wire = stuffed(&[first, second]);
            prop_assert_eq!(unstuffed(&wire), Some(message.clone()));
        }
    }
}
