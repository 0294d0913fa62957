//! What a server says it can do (RFC 2449).

use std::time::Duration;

/// The capabilities of a server, from its answers to CAPA.
///
/// Kept as the lines that were sent, so that they can be remembered and shown; unknown ones mean nothing to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    lines: Vec<Box<[u8]>>,
}

/// Capability lines kept at most; a server that sends more is not believed to be serious.
const MOST_LINES: usize = 256;

impl Capabilities {
    /// Those of a server that has told none.
    pub const NONE: Self = Self { lines: Vec::new() };

    /// Adds a line of an answer. Of two lines for one capability that has a value the later counts, so that an
    /// answer after log-in may follow one from before (RFC 2449, 5: LOGIN-DELAY and EXPIRE may differ by user).
    pub fn add(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if !line.is_empty()
            && self.lines.len() < MOST_LINES
            && !self.lines.iter().any(|known| **known == *line)
        {
            self.lines.push(line.into());
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| &**line)
    }

    /// Says whether none is announced.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Says whether the same is announced, in whatever order.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.lines.len() == other.lines.len() && self.lines.iter().all(|line| other.lines.contains(line))
    }

    /// Gives the parameters of the last line with this name (compared without regard to case).
    fn parameters(&self, name: &str) -> Option<impl Iterator<Item = &[u8]>> {
        self.lines.iter().rev().find_map(|line| {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.next()?.eq_ignore_ascii_case(name.as_bytes()).then_some(words)
        })
    }

    /// Says whether a capability is announced.
    pub fn has(&self, name: &str) -> bool {
        self.parameters(name).is_some()
    }

    /// Says whether commands may be sent before earlier ones are answered (RFC 2449, 6.6).
    pub fn pipelining(&self) -> bool {
        self.has("PIPELINING")
    }

    /// Gives the SASL mechanisms, as the server spells them (RFC 5034, 3).
    pub fn sasl(&self) -> Vec<&[u8]> {
        self.parameters("SASL").map(Iterator::collect).unwrap_or_default()
    }

    /// Says whether the server passes headers on as they are, 8-bit octets and all, once it is told UTF8 (RFC 6856, 2).
    pub fn utf8(&self) -> bool {
        self.has("UTF8")
    }

    /// Says that messages vanish once they were shown: `EXPIRE 0` (RFC 2449, 6.7).
    pub fn expires_at_once(&self) -> bool {
        self.parameters("EXPIRE").and_then(|mut words| words.next()) == Some(b"0")
    }

    /// Gives the shortest time between log-ins (RFC 2449, 6.5).
    pub fn login_delay(&self) -> Option<Duration> {
        let seconds = self.parameters("LOGIN-DELAY")?.next()?;
        std::str::from_utf8(seconds).ok()?.parse().ok().map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(lines: &str) -> Capabilities {
        let mut capabilities = Capabilities::default();
        lines.split('\n').for_each(|line| capabilities.add(line.as_bytes()));
        capabilities
    }

    #[test]
    fn the_example_of_the_rfc_is_understood() {
        // RFC 2449, 5
        let c = capabilities(
            "TOP\nUSER\nSASL CRAM-MD5 KERBEROS_V4\nRESP-CODES\nLOGIN-DELAY 900\nPIPELINING\nEXPIRE 60\nUIDL\nIMPLEMENTATION Shlemazle-Plotz-v302",
        );
        assert!(c.has("top") && c.has("USER") && c.pipelining() && c.has("UIDL"));
        assert_eq!(c.sasl(), [&b"CRAM-MD5"[..], b"KERBEROS_V4"]);
        assert_eq!(c.login_delay(), Some(Duration::from_secs(900)));
        assert!(!c.expires_at_once() && !c.has("STLS"));
    }

    #[test]
    fn the_later_of_two_values_counts() {
        let c = capabilities("LOGIN-DELAY 0\nEXPIRE 0 USER\nlogin-delay 300 USER\nEXPIRE NEVER");
        assert_eq!(c.login_delay(), Some(Duration::from_secs(300)));
        assert!(!c.expires_at_once());
        assert!(capabilities("EXPIRE   0").expires_at_once());
    }

    #[test]
    fn lines_survive_being_remembered() {
        let c = capabilities("TOP\r\n\n  UIDL \nTOP\n\u{fc}mlaut");
        assert_eq!(c.lines().collect::<Vec<_>>(), [b"TOP", &b"UIDL"[..], "\u{fc}mlaut".as_bytes()]);
        assert_eq!(capabilities("TOP\nUIDL\n\u{fc}mlaut"), c);
    }

    #[test]
    fn endless_capabilities_are_cut() {
        let mut c = Capabilities::default();
        (0..100_000).for_each(|i| c.add(format!("X{i}").as_bytes()));
        assert_eq!(c.lines.len(), MOST_LINES);
    }
}
