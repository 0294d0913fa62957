//! From whom and to whom messages go, where the target has envelopes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// To these addresses, at least one, each of them an [`is_address`].
    List(Vec<String>),
    /// To whom a header names that the provider writes: the maildrop of a whole domain.
    Header(Box<CatchAll>),
}

/// How the recipients of a catch-all maildrop's messages are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchAll {
    /// The name of the trusted header field: `X-Original-To`.
    pub header: String,
    pub occurrence: Occurrence,
    /// What the provider puts in front of the local part.
    pub strip_prefix: Option<String>,
    /// The domains whose addresses are known, whatever their local part.
    pub domains: Vec<String>,
    /// Addresses in place of local parts.
    pub map: BTreeMap<String, String>,
    /// What is done with an address that is not known.
    pub unknown: Unknown,
}

/// Which of several fields of one name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    /// The topmost, which was written last.
    First,
    /// The lowest.
    Last,
    /// This one, counted from the topmost, which is 1.
    Nth(NonZeroUsize),
}

/// What is done with a message for an unknown address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    Hold,
    /// It goes to this address.
    Address(String),
}

/// From whom messages come, for the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// From whom the message's header says: `Return-Path`, else `From`, else nobody.
    Keep,
    /// From this address, an [`is_address`].
    Address(String),
}

/// Octets of an address at most; RFC 5321, 4.5.3.1.3 lets a path be 256, and some forwarders make longer ones.
const LONGEST_ADDRESS: usize = 512;

/// Says whether a text can stand between the angle brackets of MAIL and RCPT: nothing in it ends the address, the
/// argument or the command.
pub fn is_address(text: &str) -> bool {
    let breaks_out = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>');
    !text.is_empty() && text.len() <= LONGEST_ADDRESS && !text.contains(breaks_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_can_end_the_command_it_stands_in() {
        for sound in ["a@b.example", "u1", "-a@b", "\"x\"@b", "grün@bücher.example", "a@[::1]"] {
            assert!(is_address(sound), "{sound}");
        }
        for bad in
            ["", "a b@c", "a@b\r\nDATA", "a@b\n", "a\0@b", "<a@b>", "a>", "a@b\tX", "a@b\u{a0}", "a\u{7f}@b"]
        {
            assert!(!is_address(bad), "{bad:?}");
        }
        assert!(!is_address(&"a".repeat(LONGEST_ADDRESS + 1)));
    }
}
