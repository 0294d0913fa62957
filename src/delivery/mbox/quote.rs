//! How a message looks in an mbox: the `From ` line, and mboxrd's quoting.
//!
//! A line that begins with `From ` begins a message. So a line of a message that looks like one gets a `>` in front,
//! and so does one that looks like a quoted one: `>From ` becomes `>>From `, and taking one `>` away from each line
//! that begins with `>`s and `From ` gives back what came. (With the older mboxo, `>From ` stays and nobody knows what
//! it was.)

use memchr::memchr;

/// What begins a message.
pub(super) const FROM: &[u8] = b"From ";
/// The longest path of RFC 5321, 4.5.3.1.3, without its angle brackets; what is longer is no address.
const LONGEST_PATH: usize = 254;

/// Makes the line that begins a message: the envelope sender, and the time of the delivery as asctime(3) writes it,
/// UTC.
///
/// A sender that is missing, empty, or could be mistaken for something else in this line is `MAILER-DAEMON`.
pub(crate) fn from_line(sender: Option<&[u8]>, now: jiff::Timestamp) -> Vec<u8> {
    let mut line = FROM.to_vec();
    line.extend_from_slice(sender.filter(|sender| is_sound(sender)).unwrap_or(b"MAILER-DAEMON"));
    line.extend_from_slice(now.strftime(" %a %b %e %H:%M:%S %Y\n").to_string().as_bytes());
    line
}

/// Quotes a message in slices of any size, and ends it as the format needs it.
#[derive(Debug, Default)]
pub(super) struct Quoter {
    line: Line,
}

/// How much of the current line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Line {
    #[default]
    New,
    /// Any number of `>`, which are written, and so many octets of `From `, which are not.
    Undecided(usize),
    /// So much that it needs no more quoting.
    Decided,
}

impl Quoter {
    /// Appends octets, quoted, to `out`; up to a few of them are kept back until it is clear what they begin.
    pub(super) fn convert(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while let Some(&octet) = rest.first() {
            match self.line {
                Line::Decided => {
                    let end = memchr(b'\n', rest).map(|lf| lf + 1);
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    out.extend_from_slice(line);
                    if end.is_some() {
                        self.line = Line::New;
                    }
                    rest = after;
                }
                Line::New | Line::Undecided(0) if octet == b'>' => {
                    // Written at once, so that a line of a million of them takes no memory: the one more that quoting
                    // adds can as well stand behind them.
                    out.push(octet);
                    self.line = Line::Undecided(0);
                    rest = &rest[1..];
                }
                Line::New => self.line = Line::Undecided(0),
                Line::Undecided(matched) if octet == FROM[matched] => {
                    self.line = Line::Undecided(matched + 1);
                    rest = &rest[1..];
                    if matched + 1 == FROM.len() {
                        out.push(b'>');
                        out.extend_from_slice(FROM);
                        self.line = Line::Decided;
                    }
                }
                Line::Undecided(matched) => {
                    out.extend_from_slice(&FROM[..matched]);
                    self.line = Line::Decided;
                }
            }
        }
    }

    /// Ends the message: its last line gets an end if it has none, and an empty line follows.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        match self.line {
            Line::New => {}
            Line::Undecided(matched) => {
                out.extend_from_slice(&FROM[..matched]);
                out.push(b'\n');
            }
            Line::Decided => out.push(b'\n'),
        }
        out.push(b'\n');
    }
}

/// Says whether an address stays one word among the others of the line.
fn is_sound(sender: &[u8]) -> bool {
    (1..=LONGEST_PATH).contains(&sender.len())
        && sender.iter().all(|octet| octet.is_ascii_graphic() || !octet.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(slices: &[&[u8]]) -> Vec<u8> {
        let (mut quoter, mut out) = (Quoter::default(), Vec::new());
        for slice in slices {
            quoter.convert(slice, &mut out);
        }
        quoter.finish(&mut out);
        out
    }

    /// Takes the empty line away, and one `>` from each quoted line.
    fn unquoted(octets: &[u8]) -> Vec<u8> {
        let lines =
            octets.strip_suffix(b"\n").expect("an empty line").split_inclusive(|octet| *octet == b'\n');
        let plain = lines.flat_map(|line| {
            let quotes = line.iter().take_while(|octet| **octet == b'>').count();
            &line[usize::from(quotes > 0 && line[quotes..].starts_with(FROM))..]
        });
        plain.copied().collect()
    }

    #[test]
    fn lines_that_begin_a_message_are_quoted_at_every_split() {
        for (message, expected) in [
            ("", "\n"),
            ("\n", "\n\n"),
            ("From", "From\n\n"),
            ("From ", ">From \n\n"),
            (
                "From: a\n\nFrom b\n>From c\n>>From d\n> From e\nfrom f\nFrom\n",
                "From: a\n\n>From b\n>>From c\n>>>From d\n> From e\nfrom f\nFrom\n\n",
            ),
            ("a From b\n>>>\n>F", "a From b\n>>>\n>F\n\n"),
            ("FFrom \nFrFrom \n\rFrom \n\0", "FFrom \nFrFrom \n\rFrom \n\0\n\n"),
        ] {
            let message = message.as_bytes();
            for first in 0..=message.len() {
                for second in first..=message.len() {
                    let slices = [&message[..first], &message[first..second], &message[second..]];
                    assert_eq!(quoted(&slices), expected.as_bytes(), "{slices:?}");
                }
            }
        }
    }

    #[test]
    fn the_from_line_has_one_word_for_the_sender_whatever_the_header_says() {
        let now = jiff::Timestamp::from_second(1_795_404_334).unwrap();
        for (address, sender) in [
            ("alice@example.org", "alice@example.org"),
            ("J\u{fc}rgen@example.org", "J\u{fc}rgen@example.org"),
            ("", "MAILER-DAEMON"),
            ("a@b Mon Nov 23 00:00:00 2026", "MAILER-DAEMON"),
            ("a@b\tFrom c", "MAILER-DAEMON"),
            ("a\0@b", "MAILER-DAEMON"),
            ("a\n@b", "MAILER-DAEMON"),
            (&"a".repeat(300), "MAILER-DAEMON"),
        ] {
            let line = from_line(Some(address.as_bytes()), now);
            let expected = format!("From {sender} Mon Nov 23 03:25:34 2026\n");
            assert_eq!(String::from_utf8(line).unwrap(), expected, "{address}");
        }
        assert!(from_line(None, now).starts_with(b"From MAILER-DAEMON "));
        let early = jiff::Timestamp::from_second(1_793_491_200).unwrap();
        assert!(from_line(None, early).ends_with(b" Sun Nov  1 00:00:00 2026\n"));
    }

    proptest! {
        #[test]
        fn unquoting_gives_back_any_message_that_ends_its_last_line(
            slices in prop::collection::vec("(F|r|o|m| |>|\n|From |>From |x){0,6}", 0..9)
        ) {
            let whole = slices.concat();
            let slices: Vec<&[u8]> = slices.iter().map(String::as_bytes).collect();
            let end = if whole.is_empty() || whole.ends_with('\n') { "" } else { "\n" };
            let quoted = quoted(&slices);
            let expected = whole + end;
            prop_assert_eq!(unquoted(&quoted), expected.as_bytes());
            prop_assert!(!quoted.split(|octet| *octet == b'\n').any(|line| line.starts_with(FROM)));
        }
    }
}
