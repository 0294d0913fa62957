//! APOP (RFC 1939, 7): MD5 of the greeting's time stamp and the password. Broken, and used only when it is listed.

use md5::{Digest, Md5};

use crate::secret::Secret;
use crate::text::hex;

/// Finds the time stamp in a greeting: the first `<...>` that is a msg-id of RFC 822.
///
/// Anything looser must not be signed: with freely chosen octets a false server can find out the password by MD5
/// collisions (CVE-2007-1558).
pub fn stamp(greeting: &[u8]) -> Option<&[u8]> {
    let mut rest = greeting;
    while let Some(start) = memchr::memchr(b'<', rest) {
        rest = &rest[start..];
        let end = memchr::memchr(b'>', rest)?;
        let candidate = &rest[..=end];
        if is_msg_id(&candidate[1..end]) {
            return Some(candidate);
        }
        rest = &rest[1..];
    }
    None
}

/// Makes APOP's digest argument: 32 lower-case hexadecimal digits.
pub fn digest(stamp: &[u8], secret: &Secret) -> String {
    hex(&Md5::new().chain_update(stamp).chain_update(secret.reveal()).finalize())
}

fn is_msg_id(inner: &[u8]) -> bool {
    let mut parts = inner.split(|&octet| octet == b'@');
    let (Some(left), Some(right), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    !left.is_empty()
        && !right.is_empty()
        && inner.iter().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1939_comes_out() {
        let stamp =
            stamp(b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>").expect("there is a stamp");
        assert_eq!(stamp, b"<1896.697170952@dbc.mtview.ca.us>");
        assert_eq!(digest(stamp, &Secret::new(*b"tanstaaf")), "c4c9334bac560ecc979e58001b3e22fb");
    }

    #[test]
    fn what_is_no_msg_id_is_no_stamp() {
        for greeting in [
            "+OK ready",
            "+OK <>",
            "+OK <a>",
            "+OK <a@>",
            "+OK <@b>",
            "+OK <a@b@c>",
            "+OK <a b@c>",
            "+OK <a\u{80}@c>",
            "+OK >a@b<",
            "+OK <a@b",
        ] {
            assert_eq!(stamp(greeting.as_bytes()), None, "{greeting}");
        }
        assert_eq!(stamp(b"+OK <here> <<a.1@b> x"), Some(b"<a.1@b>".as_slice()));
    }
}
