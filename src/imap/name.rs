//! Names of mailboxes, as they go onto the wire.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// RFC 3501, 5.1.3: base64 with a comma for the slash, without padding.
const MODIFIED: GeneralPurpose = GeneralPurpose::new(&alphabet::IMAP_MUTF7, NO_PAD);

/// A mailbox by the name that its server has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(String);

/// How a server spells what is not ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// In modified UTF-7 (RFC 3501, 5.1.3), which every server of IMAP4rev1 understands.
    ModifiedUtf7,
    /// As it is: IMAP4rev2, and after `ENABLE UTF8=ACCEPT` (RFC 6855, 3).
    Utf8,
}

impl Mailbox {
    /// Spells a name, in which the hierarchy's separator is the server's.
    pub fn new(name: &str, charset: Charset) -> Self {
        match charset {
            // Whatever its case, it is one mailbox, and some servers know it in capitals alone.
            _ if name.eq_ignore_ascii_case("INBOX") => Self("INBOX".to_owned()),
            Charset::ModifiedUtf7 => Self(modified_utf7(name)),
            Charset::Utf8 => Self(name.to_owned()),
        }
    }

    /// Takes a name as its server spells it.
    pub fn spelt(name: String) -> Self {
        Self(name)
    }

    /// Gives the name as it is spelt on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn modified_utf7(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let is_plain = |c: char| matches!(c, ' '..='~');
        if is_plain(first) {
            out.push(first);
            if first == '&' {
                out.push('-');
            }
            rest = &rest[1..];
            continue;
        }
        let end = rest.find(is_plain).unwrap_or(rest.len());
        let units: Vec<u8> = rest[..end].encode_utf16().flat_map(u16::to_be_bytes).collect();
        out.push('&');
        MODIFIED.encode_string(units, &mut out);
        out.push('-');
        rest = &rest[end..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_as_the_rfc_has_them() {
        for (name, spelt) in [
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("a & b", "a &- b"),
            ("&", "&-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("😀", "&2D3eAA-"),
            ("\u{7f}", "&AH8-"),
            ("inbox", "INBOX"),
            ("inbox/x", "inbox/x"),
            ("", ""),
        ] {
            assert_eq!(Mailbox::new(name, Charset::ModifiedUtf7).as_str(), spelt);
        }
        assert_eq!(Mailbox::new("Entwürfe & x", Charset::Utf8).as_str(), "Entwürfe & x");
        assert_eq!(Mailbox::new("Inbox", Charset::Utf8).as_str(), "INBOX");
    }
}
