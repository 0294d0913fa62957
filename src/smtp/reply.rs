//! Replies (RFC 5321, 4.2), read by lettre.

use std::fmt;
use std::ops::Range;

use lettre::transport::smtp::response::Response;

use crate::line::{self, TooLong};
use crate::text::Shown;

/// Octets of a reply line. RFC 5321, 4.5.3.1.5 has 512, CRLF included.
const LONGEST_LINE: usize = 992;
/// Octets of a reply.
const LONGEST_REPLY: usize = 64 << 10;

/// What a server said, all lines of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// RFC 5321, 4.2.1.
    pub code: u16,
    /// The lines, without codes.
    lines: Vec<String>,
}

/// Why input is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// A line is none.
    Line,
    /// A line does not end.
    LineTooLong,
    /// The reply does not end.
    TooLong,
}

impl Reply {
    /// Takes the first reply off the input; `None` if it has not come whole. Gives the number of octets consumed.
    pub(super) fn first(input: &[u8]) -> Result<Option<(usize, Self)>, Bad> {
        let (mut text, mut consumed) = (String::new(), 0);
        loop {
            let Some((line, octets)) =
                line::first(&input[consumed..], LONGEST_LINE).map_err(|TooLong| Bad::LineTooLong)?
            else {
                return Ok(None);
            };
            let is_last = add(&mut text, &input[shifted(line, consumed)]);
            consumed += octets;
            if consumed > LONGEST_REPLY {
                return Err(Bad::TooLong);
            }
            if is_last {
                break;
            }
        }
        let response: Response = text.parse().map_err(|_| Bad::Line)?;
        let lines = response.message().map(str::to_owned).collect();
        Ok(Some((consumed, Self { code: response.code().into(), lines })))
    }

    /// Gives the lines, without codes.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Gives all lines in one, joined by blanks; an enhanced status code (RFC 2034, 4) that each has stands there once.
    pub fn text(&self) -> String {
        let Some((first, rest)) = self.lines.split_first() else { return String::new() };
        let repeated = self.enhanced_code(first);
        rest.iter().fold(first.clone(), |mut text, line| {
            let without = repeated.and_then(|code| line.strip_prefix(code)?.strip_prefix(' '));
            text.push(' ');
            text.push_str(without.map_or(line.as_str(), str::trim_start));
            text
        })
    }

    /// Says whether it is 2yz or 3yz.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Says whether it is 2yz.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Says whether it is 4yz.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Says, of a reply to MAIL, whether this sender is the trouble (RFC 3463, 3.2: bad sender's address; sendmail's
    /// 451 4.1.8 where its domain does not resolve).
    pub fn is_about_the_sender(&self) -> bool {
        matches!(self.lines.first().and_then(|line| line.get(..5)), Some("4.1.7" | "4.1.8"))
    }

    /// Says that the server wants TLS (RFC 3207, 4) or a log-in (RFC 4954, 6) before this command.
    pub fn wants_more_first(&self) -> bool {
        self.code == 530
    }

    /// Says that the server is about to end the connection (RFC 5321, 3.8).
    pub fn is_closing(&self) -> bool {
        self.code == 421
    }

    /// Finds the enhanced status code with which a line begins; its class must be that of the reply.
    fn enhanced_code<'a>(&self, line: &'a str) -> Option<&'a str> {
        let word = line.split_ascii_whitespace().next()?;
        let mut parts = word.split('.');
        let class = parts.next()?.parse().ok().filter(|class: &u16| *class == self.code / 100)?;
        let is_number =
            |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        (class != 3 && parts.clone().count() == 2 && parts.all(is_number)).then_some(word)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, Shown(self.text().as_bytes()))
    }
}

/// Adds a line as the library reads it: in ASCII (a refusal in another charset is one all the same), with a blank behind
/// a code that has no text. Says whether it is the last of its reply.
fn add(text: &mut String, line: &[u8]) -> bool {
    text.extend(line.iter().map(|octet| if octet.is_ascii() { char::from(*octet) } else { '?' }));
    if line.len() == 3 {
        text.push(' ');
    }
    text.push_str("\r\n");
    line.get(3) != Some(&b'-')
}

fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(mut octets: &[u8]) -> Result<Vec<String>, Bad> {
        let mut replies = Vec::new();
        while let Some((consumed, reply)) = Reply::first(octets)? {
            replies.push(reply.to_string());
            octets = &octets[consumed..];
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_told_apart_and_made_readable() {
        assert_eq!(
            replies(b"250-a\r\n250 b\r\n354\r\n550 \xfcber\n250 unfinished").unwrap(),
            ["250 a b", "354 ", "550 ?ber"]
        );
        assert_eq!(replies(b"+OK ready\r\n"), Err(Bad::Line));
        assert_eq!(replies(b"250-a\r\n251 b\r\n"), Err(Bad::Line));
    }

    #[test]
    fn an_enhanced_code_that_each_line_has_is_told_once() {
        let told = |octets: &[u8]| replies(octets).unwrap().remove(0);
        assert_eq!(told(b"550-5.7.1 no\r\n550 5.7.1  way\r\n"), "550 5.7.1 no way");
        assert_eq!(told(b"550-4.7.1 no\r\n550 4.7.1 way\r\n"), "550 4.7.1 no 4.7.1 way");
        assert_eq!(told(b"550-5.7.1 no\r\n550 5.7.10 way\r\n"), "550 5.7.1 no 5.7.10 way");
    }

    #[test]
    fn no_server_fills_the_memory() {
        assert_eq!(replies(&[b'2'; 5000]), Err(Bad::LineTooLong));
        assert_eq!(replies(&b"250-x\r\n".repeat(20_000)), Err(Bad::TooLong));
    }
}
