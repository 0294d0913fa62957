//! What a server says that it can do.

use super::command::Literal;
use super::name::Charset;

/// Octets of a literal that may follow at once where the server has LITERAL- alone (RFC 7888, 5).
const SMALL: u64 = 4096;

/// The names that a server tells, in capitals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(Vec<String>);

impl Capabilities {
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Says whether one is there; `name` in capitals.
    /// Gives them all, as the server spells them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    pub fn mechanisms(&self) -> Vec<&str> {
        self.0.iter().filter_map(|name| name.strip_prefix("AUTH=")).collect()
    }

    /// Says how a message of so many octets is announced.
    pub fn literal(&self, octets: u64) -> Literal {
        let is_small = || self.has("LITERAL-") && octets <= SMALL;
        if self.has("LITERAL+") || is_small() { Literal::NonSynchronizing } else { Literal::Synchronizing }
    }

    /// Gives the octets that a message may have at most, if the server says so (RFC 7889).
    pub fn append_limit(&self) -> Option<u64> {
        self.0.iter().find_map(|name| name.strip_prefix("APPENDLIMIT=")?.parse().ok())
    }

    /// Says whether names in UTF-8 must be enabled first.
    pub fn enables_utf8(&self) -> bool {
        self.has("UTF8=ONLY")
    }

    /// Says how names of mailboxes are spelt, once that is enabled which must be.
    pub fn charset(&self) -> Charset {
        let has_utf8 = self.enables_utf8() || self.has("IMAP4REV2") && !self.has("IMAP4REV1");
        if has_utf8 { Charset::Utf8 } else { Charset::ModifiedUtf7 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &str) -> Capabilities {
        Capabilities::new(names.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn what_a_server_can_do_is_read_off_its_names() {
        let gmail = of("IMAP4REV1 AUTH=PLAIN AUTH=XOAUTH2 LITERAL- APPENDLIMIT=35651584");
        assert_eq!(gmail.mechanisms(), ["PLAIN", "XOAUTH2"]);
        assert_eq!(gmail.append_limit(), Some(35_651_584));
        assert_eq!(gmail.literal(4096), Literal::NonSynchronizing);
        assert_eq!(gmail.literal(4097), Literal::Synchronizing);
        assert_eq!(of("LITERAL+").literal(u64::MAX), Literal::NonSynchronizing);
        assert_eq!(of("APPENDLIMIT").append_limit(), None);
        assert_eq!(of("IMAP4REV1 IMAP4REV2").charset(), Charset::ModifiedUtf7);
        assert_eq!(of("IMAP4REV2").charset(), Charset::Utf8);
        assert_eq!(of("IMAP4REV1 UTF8=ONLY").charset(), Charset::Utf8);
    }
}
