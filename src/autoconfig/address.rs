//! A mail address, as people type it.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::text::Shown;

/// A mail address whose domain is a name (RFC 5321, 4.1.2, but for quoted local parts and address literals).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What stands before the `@`.
    pub local: String,
    /// The domain in lower case and in its ASCII form (RFC 5891).
    pub domain: String,
}

impl Address {
    /// Reads an address. The error says what is wrong, and shows it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{:?} is no mail address: {what}", Shown(text.as_bytes())));
        let Some((local, domain)) = text.rsplit_once('@') else {
            return wrong("it has no @; write it as alice@example.org");
        };
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || "<>()[],;:\\\"".contains(c)) {
            return wrong("it must be the address alone, without a name, blanks, quotes or brackets");
        }
        if local.is_empty() || local.contains('@') || local.len() > 64 {
            return wrong("before the @ stands one word of up to 64 characters");
        }
        let Ok(ascii) = idna::domain_to_ascii(domain.trim_end_matches('.')) else {
            return wrong("what follows the @ is no domain");
        };
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_number = |label: &str| label.bytes().all(|octet| octet.is_ascii_digit());
        let last = ascii.rsplit('.').next().unwrap_or_default();
        if ascii.len() > 253 || !ascii.contains('.') || !ascii.split('.').all(is_label) || is_number(last) {
            return wrong("what follows the @ must be a whole domain, such as example.org");
        }
        Ok(Self { local: local.to_owned(), domain: ascii })
    }

    /// Puts it where a document says so.
    pub(super) fn fill(&self, template: &str) -> String {
        let template = template.replace("%EMAILADDRESS%", &self.to_string());
        template.replace("%EMAILLOCALPART%", &self.local).replace("%EMAILDOMAIN%", &self.domain)
    }

    /// Gives it as a query has it.
    pub(super) fn encoded(&self) -> String {
        utf8_percent_encode(&self.to_string(), NON_ALPHANUMERIC).to_string()
    }

    /// Says whether a host is in the domain of the address.
    pub(super) fn has(&self, host: &str) -> bool {
        is_within(host, &self.domain)
    }
}

/// Says whether a host is a domain, or below it.
pub(super) fn is_within(host: &str, domain: &str) -> bool {
    let above = host.trim_end_matches('.').strip_suffix(domain);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_its_domain_written_in_ascii() {
        let address = Address::parse("Alice+x@Bücher.Example.").unwrap();
        assert_eq!(address.to_string(), "Alice+x@xn--bcher-kva.example");
        assert_eq!(address.encoded(), "Alice%2Bx%40xn%2D%2Dbcher%2Dkva%2Eexample");
        let filled = address.fill("%EMAILLOCALPART%#%EMAILDOMAIN%#%EMAILADDRESS%");
        assert_eq!(filled, "Alice+x#xn--bcher-kva.example#Alice+x@xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_address_is_told_with_what_is_wrong_with_it() {
        for (text, what) in [
            ("", "no @"),
            ("alice", "no @"),
            ("@example.org", "before the @"),
            ("a@b@example.org", "before the @"),
            ("Alice <alice@example.org>", "the address alone"),
            ("alice@", "domain"),
            ("alice@example", "whole domain"),
            ("alice@example..org", "domain"),
            ("alice@-x.org", "domain"),
            ("alice@192.0.2.1", "whole domain"),
            ("alice@[192.0.2.1]", "the address alone"),
            ("alice@exa mple.org", "the address alone"),
            ("alice@example.org/x?y", "domain"),
            ("\x1b[2J@example.org", "the address alone"),
        ] {
            let told = Address::parse(text).unwrap_err();
            assert!(told.contains(what) && !told.contains('\x1b'), "{text:?}: {told}");
        }
    }

    #[test]
    fn a_host_is_of_a_domain_only_as_its_own_or_below_it() {
        assert!(is_within("example.org", "example.org") && is_within("a.b.example.org.", "example.org"));
        assert!(!is_within("badexample.org", "example.org") && !is_within("org", "example.org"));
        assert!(!is_within("example.org.evil.example", "example.org"));
    }
}
