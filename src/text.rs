//! Octets from strangers, made safe to show on a terminal or in a log.

use std::borrow::Cow;
use std::fmt;

/// Shows octets that a server or a message sent: control characters and invalid UTF-8 escaped, length bounded.
///
/// A terminal that prints it cannot be steered by it, and a log line stays one line.
pub struct Shown<'a>(pub &'a [u8]);

/// Octets of a stranger's text that are shown at most.
const SHOWN_OCTETS: usize = 512;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (octets, cut) = match self.0.get(..SHOWN_OCTETS) {
            Some(start) => (start, self.0.len() > SHOWN_OCTETS),
            None => (self.0, false),
        };
        for chunk in octets.utf8_chunks() {
            for part in chunk.valid().split_inclusive(steers) {
                let text = part.trim_end_matches(steers);
                f.write_str(text)?;
                write!(f, "{}", part[text.len()..].escape_default())?;
            }
            for octet in chunk.invalid() {
                write!(f, "\\x{octet:02x}")?;
            }
        }
        if cut {
            f.write_str("...")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Says whether a character steers what shows it. Bidirectional overrides reorder what a terminal shows, so they are
/// escaped as controls are.
fn steers(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders
}

/// Counts things in words: `1 message`, `3 messages`.
pub fn counted(count: impl fmt::Display + Copy + TryInto<u8>, noun: &str) -> String {
    let plural = if matches!(count.try_into(), Ok(1)) { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Writes a word so that a shell takes it for one.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@%+,=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

/// Writes octets as hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("four bits");
    let mut digits = String::with_capacity(2 * octets.len());
    octets.iter().for_each(|octet| digits.extend([digit(octet >> 4), digit(octet & 15)]));
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_text_is_not() {
        let shown = Shown("Grüße\x1b[31m\r\n\u{202e}".as_bytes()).to_string();
        assert_eq!(shown, "Grüße\\u{1b}[31m\\r\\n\\u{202e}");
        assert_eq!(Shown(b"\xff\x00").to_string(), "\\xff\\u{0}");
    }

    #[test]
    fn a_shell_takes_a_word_for_one() {
        assert_eq!(shell_word("pops://alice@h"), "pops://alice@h");
        assert_eq!(shell_word("pop://a;AUTH=+USER@h"), "'pop://a;AUTH=+USER@h'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "message")),
            ["0 messages", "1 message", "2 messages"]
        );
    }

    #[test]
    fn endless_text_is_cut() {
        assert_eq!(Shown(&[b'a'; 5000]).to_string().len(), SHOWN_OCTETS + 3);
    }
}
