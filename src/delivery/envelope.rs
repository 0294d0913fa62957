//! Envelopes: from whom a message comes and to whom it goes, as MAIL and RCPT say it.

use crate::config::Recipients;
use crate::config::target::{Sender, is_address};
use crate::message::{Header, ReversePath};

/// Gives the recipients of a message, each of them an [`is_address`]; the error says why there are none.
pub fn recipients(to: &Recipients, _header: &Header<'_>) -> Result<Vec<String>, String> {
    match to {
        Recipients::List(addresses) => Ok(addresses.clone()),
    }
}

/// Gives the reverse-path without its angle brackets; empty is the null reverse-path.
///
/// What the header has in place of an address is not passed on: no message is worth a command that its sender wrote.
pub fn sender(from: &Sender, header: &Header<'_>) -> String {
    match from {
        Sender::Address(address) => address.clone(),
        Sender::Keep => match header.reverse_path() {
            ReversePath::Address(octets) => {
                String::from_utf8(octets).ok().filter(|text| is_address(text)).unwrap_or_default()
            }
            ReversePath::Null => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_header_becomes_more_than_an_address() {
        let of = |header: &str| sender(&Sender::Keep, &Header::new(header.as_bytes()));
        assert_eq!(of("Return-Path: <a@b>\r\n"), "a@b");
        assert_eq!(of("From: c@d\r\n"), "c@d");
        assert_eq!(of("Return-Path: <>\r\nFrom: c@d\r\n"), "");
        assert_eq!(of("Return-Path: <a@b SIZE=1>\r\n"), "");
        assert_eq!(of("Return-Path: <a@b\r\n RCPT TO:x>\r\n"), "");
        assert_eq!(of("From: <a\u{0}@b>\r\n"), "");
        assert_eq!(sender(&Sender::Keep, &Header::new(b"From: \xff@b\r\n")), "");
        let fixed = Sender::Address("me@example.org".into());
        assert_eq!(sender(&fixed, &Header::new(b"Return-Path: <a@b>\r\n")), "me@example.org");
    }
}
