//! The digest of a header, by which a message is known again when its unique-id has changed, and that of a whole
//! message, by which one is known that never had a name.

use sha2::{Digest, Sha256};

/// Digests the header of a message as it streams by: all lines up to the empty one that ends it.
///
/// Takes the octets as the server sends them, unstuffed, so that RETR and `TOP n 0` of one message give the same
/// digest. A header that no empty line ends is the whole message.
#[derive(Debug, Clone)]
pub struct HeaderDigest {
    hash: Sha256,
    at: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    LineStart,
    InLine,
    /// At the start of a line, a CR was seen.
    Cr,
    Ended,
}

impl HeaderDigest {
    /// Begins a message.
    pub fn new() -> Self {
        Self { hash: Sha256::new(), at: Position::LineStart }
    }

    /// Takes the next octets; those of the body cost nothing.
    pub fn write(&mut self, octets: &[u8]) {
        if self.at == Position::Ended {
            return;
        }
        let mut rest = octets;
        while let Some(&first) = rest.first() {
            match (self.at, first) {
                (Position::LineStart, b'\n') | (Position::Cr, b'\n') => {
                    self.at = Position::Ended;
                    return;
                }
                (Position::LineStart, b'\r') => {
                    self.at = Position::Cr;
                    rest = &rest[1..];
                }
                (at, _) => {
                    if at == Position::Cr {
                        self.hash.update(b"\r");
                    }
                    let (len, at) = match memchr::memchr(b'\n', rest) {
                        Some(lf) => (lf + 1, Position::LineStart),
                        None => (rest.len(), Position::InLine),
                    };
                    self.hash.update(&rest[..len]);
                    self.at = at;
                    rest = &rest[len..];
                }
            }
        }
    }

    /// Gives the digest (SHA-256).
    pub fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

/// Digests a whole message as it streams by.
#[derive(Debug, Clone, Default)]
pub struct ContentDigest(Sha256);

impl ContentDigest {
    /// Takes the next octets, as the server sends them, unstuffed.
    pub fn write(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// Gives the digest (SHA-256).
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl Default for HeaderDigest {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pieces: &[&[u8]]) -> [u8; 32] {
        let mut digest = HeaderDigest::new();
        pieces.iter().for_each(|piece| digest.write(piece));
        digest.finish()
    }

    #[test]
    fn a_whole_message_and_its_header_alone_have_one_digest_at_every_split() {
        let message = b"A: 1\r\nB: \r2\r\n\r x\r\n\r\nbody\r\n\r\nmore\r\n";
        let header = digest(&[b"A: 1\r\nB: \r2\r\n\r x\r\n\r\n"]);
        for at in 0..message.len() {
            assert_eq!(digest(&[&message[..at], &message[at..]]), header, "split at {at}");
        }
        assert_eq!(digest(&[b"A: 1\r\nB: \r2\r\n\r x\r\n"]), header, "a header without an empty line");
    }

    #[test]
    fn one_octet_makes_another_digest() {
        assert_ne!(digest(&[b"A: 1\r\n\r\n"]), digest(&[b"A: 2\r\n\r\n"]));
        assert_ne!(digest(&[b"A: 1\r\n\r\n"]), digest(&[b"A: 1 \r\n\r\n"]));
    }
}
