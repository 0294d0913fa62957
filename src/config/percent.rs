//! Octets in URLs that cannot stand for themselves (RFC 3986, 2.1).

use percent_encoding::percent_decode_str;

/// Turns `%41` into `A`; nothing if that is not possible.
pub(super) fn decode(text: &str) -> Option<String> {
    let is_whole = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let is_sound = text.split('%').skip(1).all(is_whole);
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    is_sound.then(|| decoded.into_owned())
}
