//! What follows the header of a message, by which it is known where its header tells too little.

use std::io;

use sha2::{Digest as _, Sha256};

use crate::delivery::reading::Parts;
use crate::delivery::spool::{Content, Spooled};

/// Digests what follows the header of a message, with the line ends that it has in a mailbox.
pub(super) async fn of(message: &Spooled) -> io::Result<[u8; 32]> {
    let mut body = Body::default();
    match &message.content {
        Content::Memory(octets) => body.write(octets.as_ref()),
        Content::File(file) => {
            let mut parts = Parts::of(file, message.octets)?;
            while parts.are_left() {
                body.write(&parts.next().await?);
            }
        }
    }
    Ok(body.finish())
}

/// Takes a message as it streams by.
#[derive(Default)]
pub(super) struct Body {
    hash: Sha256,
    at: At,
}

/// Where in a message its next octet is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
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
    pub(super) fn write(&mut self, octets: &[u8]) {
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

    pub(super) fn finish(self) -> [u8; 32] {
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
