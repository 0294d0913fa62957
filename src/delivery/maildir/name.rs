//! Names of files in a maildir: `{seconds}.M{microseconds}R{maildrop}{message}.{host},S={octets}`.
//!
//! The unique part follows the usual form (`M` and `R` as others write them; readers sort by seconds, then `M`).
//! `maildrop` is 8 and `message` 32 hexadecimal digits of digests, so the maildir itself tells which message of which
//! maildrop was delivered. Whoever moves a message may add to the end (`:2,FS`, `,W=4400`); the digits stay.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::clock::WallClock;
use crate::delivery::MessageId;

/// Names one message: maildrop, unique-id and ordinal.
pub(super) type Digest = [u8; 16];

/// Names a maildrop among the others that deliver into the same maildir.
pub(super) type Tag = [u8; 4];

/// A message's digest, and the microseconds since 1970 in its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) digest: Digest,
    pub(super) time: u64,
}

/// Makes the names of one maildrop's messages.
#[derive(Debug)]
pub(super) struct Namer {
    tag: Tag,
    host: String,
    clock: WallClock,
    /// Microseconds since 1970 in the last name.
    last: AtomicU64,
}

impl Namer {
    pub(super) fn new(maildrop: &str, host: &OsStr) -> Self {
        Self { tag: tag(maildrop), host: escaped(host), clock: WallClock::System, last: AtomicU64::new(0) }
    }

    /// Takes the time for names from this clock.
    pub(super) fn with(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// Takes the time for a name; it is later than all before, so that names sort as messages were begun.
    pub(super) fn time(&self) -> u64 {
        let now = self.clock.micros();
        let later = |last: u64| now.max(last.saturating_add(1));
        let changed = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
        // Both hold the time before.
        let (Ok(last) | Err(last)) = changed;
        later(last)
    }

    /// Makes a message's name in `tmp`.
    pub(super) fn name(&self, message: &Named) -> String {
        let Named { digest, time } = message;
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        format!("{seconds}.M{micros:06}R{}{}.{}", hex(&self.tag), hex(digest), self.host)
    }

    /// Gives the digest in a name, and the octets before and after tag and digest, if the name is one of this
    /// maildrop's.
    pub(super) fn parse<'a>(&self, name: &'a [u8]) -> Option<(Digest, &'a [u8], &'a [u8])> {
        let start = start(name)?;
        let (tag, rest) = name[start..].split_at_checked(8)?;
        let (digest, tail) = rest.split_at_checked(32)?;
        let matches =
            unhex::<4>(tag)? == self.tag && matches!(tail.first(), None | Some(b'.' | b',' | b':' | b'_'));
        matches.then_some((unhex(digest)?, &name[..start], tail))
    }

    /// Puts a name together again that [`Namer::parse`] took apart.
    pub(super) fn join(&self, digest: &Digest, head: &[u8], tail: &[u8]) -> OsString {
        let middle = hex(&self.tag) + &hex(digest);
        OsStr::from_bytes(&[head, middle.as_bytes(), tail].concat()).to_owned()
    }
}

/// Digests what names a message. Lengths go before the parts, so that no two messages give the same octets.
pub(super) fn digest(message: &MessageId) -> Digest {
    let mut hash = Sha256::new();
    for part in [message.maildrop.as_bytes(), message.uid.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(message.ordinal.to_be_bytes());
    first(&hash.finalize())
}

fn tag(maildrop: &str) -> Tag {
    first(&Sha256::digest(maildrop.as_bytes()))
}

fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    *digest.first_chunk().expect("SHA-256 has 32 octets")
}

/// Finds where the digits begin: after `seconds.`, `M` with microseconds if they are there, and `R`.
fn start(name: &[u8]) -> Option<usize> {
    let digits = |from: usize| name[from..].iter().take_while(|octet| octet.is_ascii_digit()).count();
    let seconds = digits(0);
    if seconds == 0 || name.get(seconds) != Some(&b'.') {
        return None;
    }
    let mut at = seconds + 1;
    if name.get(at) == Some(&b'M') {
        at += 1 + digits(at + 1);
    }
    (name.get(at) == Some(&b'R')).then_some(at + 1)
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |octet: u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut octets = [0; N];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(octets)
}

/// Writes a host name as maildir asks (`/` as `\057`, `:` as `\072`), and likewise whatever else would not do in a
/// file name of that form.
fn escaped(host: &OsStr) -> String {
    let mut text = String::new();
    for octet in host.as_bytes() {
        match octet {
            b'/' | b':' | b',' | b'\\' | 0..=b' ' | 0x7f..=0xff => text += &format!("\\{octet:03o}"),
            _ => text.push(char::from(*octet)),
        }
    }
    if text.is_empty() { "localhost".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pop3::UniqueId;

    fn message(maildrop: &str, uid: &[u8], ordinal: u32) -> MessageId {
        MessageId { maildrop: maildrop.into(), uid: UniqueId::new(uid), ordinal }
    }

    #[test]
    fn a_name_is_found_again_whatever_was_added_to_it() {
        let namer = Namer::new("alice@pop.example.org", OsStr::new("host"));
        let digest = digest(&message("alice@pop.example.org", b"uid", 0));
        let name = namer.name(&Named { digest, time: namer.time() });
        for added in ["", ",S=4321", ",S=4321,W=4400:2,FS", ":2,", "_1"] {
            let name = name.clone() + added;
            let (found, head, tail) = namer.parse(name.as_bytes()).unwrap();
            assert_eq!(found, digest);
            assert_eq!(namer.join(&found, head, tail), OsStr::new(&name));
        }
        assert_eq!(Namer::new("bob@pop.example.org", OsStr::new("host")).parse(name.as_bytes()), None);
    }

    #[test]
    fn names_of_others_are_not_taken_for_ours() {
        let namer = Namer::new("alice@pop.example.org", OsStr::new("host"));
        let ours = namer.name(&Named { digest: [7; 16], time: namer.time() });
        let (secs, rest) = ours.split_once(".M").unwrap();
        for name in [
            "",
            "1",
            "1.",
            "1.R",
            "1.M",
            "1.M5",
            "1.M5R",
            "1795404334.M857660P24084Q1.host",
            "1795404335.24150_0.host",
            &format!(".M{rest}"),
            &format!("{secs}M{rest}"),
            &ours[..ours.len() - ".host".len() - 1],
            &ours.replace(".host", "0.host"),
            &ours.to_uppercase(),
        ] {
            assert_eq!(namer.parse(name.as_bytes()), None, "{name}");
        }
        for end in 0..ours.len() - ".host".len() {
            assert_eq!(namer.parse(&ours.as_bytes()[..end]), None);
        }
    }

    #[test]
    fn messages_that_differ_in_anything_have_different_digests() {
        let all = [
            message("a", b"bc", 0),
            message("ab", b"c", 0),
            message("a", b"bc", 1),
            message("", b"abc", 0),
            message("abc", b"", 0),
        ];
        let digests: std::collections::HashSet<_> = all.iter().map(digest).collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn the_digest_of_a_message_is_the_same_in_every_version() {
        // Another value would deliver mail again that lies in maildirs already.
        let digest = digest(&message("alice@pop.example.org", b"0000000152f3a1c2", 1));
        assert_eq!(hex(&digest), "18de2c7ca33aefe0011f906d20c65c5a");
        assert_eq!(hex(&tag("alice@pop.example.org")), "c74e04cc");
    }

    #[test]
    fn names_go_up_even_within_a_microsecond() {
        let namer = Namer::new("a", OsStr::new("h"));
        let names: Vec<_> =
            (0..1000).map(|_| namer.name(&Named { digest: [0; 16], time: namer.time() })).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_host_cannot_leave_the_directory_or_look_like_flags() {
        assert_eq!(escaped(OsStr::new("a/b:2,S")), "a\\057b\\0722\\054S");
        assert_eq!(escaped(OsStr::from_bytes(b"a\n\xff")), "a\\012\\377");
        assert_eq!(escaped(OsStr::new("")), "localhost");
    }
}
