//! Names of files in a maildir: `{seconds}.M{microseconds}R{maildrop}{message}.{host},S={octets}`.
//!
//! The unique part follows the usual form (`M` and `R` as others write them; readers sort by seconds, then `M`).
//! `maildrop` is 8 and `message` 32 hexadecimal digits of digests, so the maildir itself tells which message of which
//! maildrop was delivered. Whoever moves a message may add to the end (`:2,FS`, `,W=4400`); the digits stay.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::clock::WallClock;
use crate::message::MessageId;
use crate::message::file::{self, FileDigest as Digest};
use crate::message::{Content, FileId};
use crate::text::hex;

/// A message's digest, the microseconds since 1970 in its name, and which files may be the message already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) digest: Digest,
    pub(super) time: u64,
    pub(super) may_be: MayBe,
}

/// Which files may be a message that is about to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayBe {
    /// All that have its digest in their names.
    Any,
    /// None: those that have it are others.
    None,
    File(FileId),
}

impl Named {
    /// Gives the file that it has once it is delivered.
    pub(super) fn file(&self) -> FileId {
        FileId { digest: self.digest, time: self.time }
    }
}

/// Octets of a name but for the host's, the size and what readers add: room for those of the size is there, too.
const LONGEST: usize = 96;

/// Makes the names of one maildrop's messages.
#[derive(Debug)]
pub(super) struct Namer {
    /// The digits that name the maildrop among the others that deliver into the same maildir.
    tag: String,
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
        let Named { digest, time, .. } = message;
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        let mut name = String::with_capacity(LONGEST + self.host.len());
        write!(name, "{seconds}.M{micros:06}R").expect("writing to a String does not fail");
        name.extend([&self.tag, &hex(digest), ".", &self.host]);
        name
    }

    /// Gives the digest in a name, and the octets before and after tag and digest, if the name is one of this
    /// maildrop's.
    pub(super) fn parse<'a>(&self, name: &'a [u8]) -> Option<(Digest, &'a [u8], &'a [u8])> {
        let start = start(name)?;
        let (digest, tail) = name[start..].strip_prefix(self.tag.as_bytes())?.split_at_checked(32)?;
        let matches = matches!(tail.first(), None | Some(b'.' | b',' | b':' | b'_'));
        matches.then_some((unhex(digest)?, &name[..start], tail))
    }

    /// Puts a name together again that [`Namer::parse`] took apart.
    pub(super) fn join(&self, digest: &Digest, head: &[u8], tail: &[u8]) -> OsString {
        let digest = hex(digest);
        OsStr::from_bytes(&[head, self.tag.as_bytes(), digest.as_bytes(), tail].concat()).to_owned()
    }
}

/// Digests what names a message of which nothing else is known: maildrop, unique-id, ordinal.
pub(super) fn digest(message: &MessageId) -> Digest {
    file::digest_of_name(&message.maildrop, message.uid.as_bytes(), message.ordinal)
}

/// Digests what a message is.
pub(super) fn digest_of(message: &MessageId, content: &Content) -> Digest {
    file::digest_of_content(&message.maildrop, content)
}

/// Reads the time in what stands before the digits of a name.
pub(super) fn time(head: &[u8]) -> Option<u64> {
    let (seconds, rest) = head.split_at(head.iter().position(|octet| *octet == b'.')?);
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    let micros = rest.strip_prefix(b".M").and_then(|rest| number(rest.strip_suffix(b"R")?)).unwrap_or(0);
    number(seconds)?.checked_mul(1_000_000)?.checked_add(micros)
}

fn tag(maildrop: &str) -> String {
    hex(&Sha256::digest(maildrop.as_bytes())[..4])
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
    use crate::message::UniqueId;

    fn message(maildrop: &str, uid: &[u8], ordinal: u32) -> MessageId {
        MessageId { maildrop: maildrop.into(), uid: UniqueId::new(uid), ordinal }
    }

    #[test]
    fn a_name_is_found_again_whatever_was_added_to_it() {
        let namer = Namer::new("alice@pop.example.org", OsStr::new("host"));
        let digest = digest(&message("alice@pop.example.org", b"uid", 0));
        let name = namer.name(&Named { digest, time: namer.time(), may_be: MayBe::None });
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
        let ours = namer.name(&Named { digest: [7; 16], time: namer.time(), may_be: MayBe::None });
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
    fn the_tag_of_a_maildrop_is_the_same_in_every_version() {
        assert_eq!(tag("alice@pop.example.org"), "c74e04cc");
    }

    #[test]
    fn the_time_of_a_message_is_read_from_its_name() {
        let namer = Namer::new("a", OsStr::new("host"));
        let message = Named { digest: [7; 16], time: 1_764_414_000_000_042, may_be: MayBe::None };
        let name = namer.name(&message) + ",S=5:2,S";
        let (digest, head, _) = namer.parse(name.as_bytes()).unwrap();
        assert_eq!(time(head).map(|time| FileId { digest, time }), Some(message.file()));
        assert_eq!(time(b"12.R"), Some(12_000_000));
        assert_eq!(time(b"99999999999999999999.R"), None);
    }

    #[test]
    fn names_go_up_even_within_a_microsecond() {
        let namer = Namer::new("a", OsStr::new("h"));
        let names: Vec<_> = (0..1000)
            .map(|_| namer.name(&Named { digest: [0; 16], time: namer.time(), may_be: MayBe::None }))
            .collect();
        assert!(names.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_host_cannot_leave_the_directory_or_look_like_flags() {
        assert_eq!(escaped(OsStr::new("a/b:2,S")), "a\\057b\\0722\\054S");
        assert_eq!(escaped(OsStr::from_bytes(b"a\n\xff")), "a\\012\\377");
        assert_eq!(escaped(OsStr::new("")), "localhost");
    }
}
