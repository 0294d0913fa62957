//! What follows the header of a message, by which it is known where its header tells too little.

use sha2::{Digest as _, Sha256};

/// Digests what follows the header of a message, which streams by with CRLF.
#[derive(Debug, Clone, Default)]
pub struct Body {
    hash: Sha256,
    at: At,
}

/// Where in a message its next octet is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// At the start of a line of the header, ...
    #[default]
    Start,
    /// ... behind a CR there, ...
    Cr,
    /// ... further on in it, ...
    Within,
    /// ... or behind the empty line.
    Body,
}

impl Body {
    pub fn write(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while self.at != At::Body
            && let Some((first, after)) = rest.split_first()
        {
            self.at = match (self.at, first) {
                (At::Start, b'\r') => At::Cr,
                (At::Cr, b'\n') => At::Body,
                (_, b'\n') => At::Start,
                _ => At::Within,
            };
            rest = after;
        }
        self.hash.update(rest);
    }

    pub fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_follows_the_empty_line_at_every_split() {
        for (message, expected) in [
            (&b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\nmore"[..], &b"body\r\n\r\nmore"[..]),
            (b"\r\nbody", b"body"),
            (b"A: 1\r\n", b""),
            (b"", b""),
        ] {
            for at in 0..=message.len() {
                let mut body = Body::default();
                body.write(&message[..at]);
                body.write(&message[at..]);
                assert_eq!(body.finish()[..], Sha256::digest(expected)[..], "{message:?} {at}");
            }
        }
    }
}
