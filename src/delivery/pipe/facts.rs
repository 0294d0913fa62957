//! What a command is told about a message, in its environment and in arguments.
//!
//! All of it may have been written by a stranger: the sender of the message, the server. So nothing of it becomes
//! text for a shell (the configuration refuses that), an argument is one argument whatever it contains, and one that
//! would begin with `-`, and so could be taken for an option, is empty.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::config::target::{Fact, Pipe};
use crate::delivery::Access;
use crate::delivery::envelope::recipients_of;
use crate::delivery::spool::Spooled;
use crate::message::{Header, ReversePath};
use crate::text::Shown;

/// The longest address that is passed on (RFC 5321, 4.5.3.1.3).
const LONGEST_ADDRESS: usize = 254;

/// The facts about one message.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pipe: &'a Pipe,
    access: &'a Access,
    /// The recipients, with blanks between them.
    to: String,
    from: Vec<u8>,
    uid: Vec<u8>,
    size: String,
}

impl<'a> Facts<'a> {
    /// Gathers them; the error says why the recipients are not known.
    pub(super) fn of(pipe: &'a Pipe, access: &'a Access, message: &Spooled) -> Result<Self, String> {
        let to = match &pipe.to {
            Some(to) => recipients(recipients_of(to, message)?)?,
            None => access.user.clone(),
        };
        let from = match Header::new(&message.header).reverse_path() {
            ReversePath::Address(address) if is_harmless(&address) => address,
            ReversePath::Address(_) | ReversePath::Null => Vec::new(),
        };
        // An argument ends at a NUL, and there may be one in what a server shows for a unique-id.
        let uid = message.id.uid.as_bytes().iter().copied().filter(|octet| *octet != 0).collect();
        Ok(Self { pipe, access, to, from, uid, size: message.octets.to_string() })
    }

    /// Gives the envelope sender; empty if the message names none that could be passed on.
    pub(super) fn from(&self) -> &[u8] {
        &self.from
    }

    /// Gives a fact as an argument: one, or of several recipients one each.
    pub(super) fn arguments(&self, fact: Fact) -> Vec<OsString> {
        if fact == Fact::To && self.pipe.to.is_some() {
            return self.to.split(' ').map(OsString::from).collect();
        }
        let value = self.value(fact);
        vec![if value.as_bytes().starts_with(b"-") { OsString::new() } else { value.into_owned() }]
    }

    /// Gives the variables that the command finds in its environment.
    pub(super) fn variables(&self) -> [(&'static str, Cow<'_, OsStr>); 9] {
        [
            ("POSTRIDER_ACCOUNT", Fact::Account),
            ("POSTRIDER_USER", Fact::User),
            ("POSTRIDER_UID", Fact::Uid),
            ("POSTRIDER_SIZE", Fact::Size),
            ("POSTRIDER_FROM", Fact::From),
            ("POSTRIDER_TO", Fact::To),
            // As from Postfix and qmail, which many scripts know.
            ("SENDER", Fact::From),
            ("RECIPIENT", Fact::To),
            ("EXTENSION", Fact::Extension),
        ]
        .map(|(name, fact)| (name, self.value(fact)))
    }

    fn value(&self, fact: Fact) -> Cow<'_, OsStr> {
        match fact {
            Fact::From => Cow::Borrowed(OsStr::from_bytes(&self.from)),
            Fact::Uid => Cow::Owned(OsString::from_vec(self.uid.clone())),
            Fact::To => Cow::Borrowed(OsStr::new(&self.to)),
            Fact::User => Cow::Borrowed(OsStr::new(&self.access.user)),
            Fact::Account => Cow::Borrowed(OsStr::new(&self.access.account)),
            Fact::Size => Cow::Borrowed(OsStr::new(&self.size)),
            Fact::Extension => {
                Cow::Borrowed(OsStr::new(extension(self.to.split(' ').next().unwrap_or_default())))
            }
        }
    }
}

/// Writes recipients with blanks between them, as Postfix does; whoever could be taken for an option is none.
fn recipients(to: Vec<String>) -> Result<String, String> {
    match to.iter().find(|address| !is_harmless(address.as_bytes())) {
        Some(odd) => {
            Err(format!("it is for {}, which a command may take for something else", Shown(odd.as_bytes())))
        }
        None => Ok(to.join(" ")),
    }
}

/// Gives what follows the first `+` in the local part of an address.
fn extension(address: &str) -> &str {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    local.split_once('+').map_or("", |(_, extension)| extension)
}

/// Says whether an address is one word that nothing takes for an option, several words, or several lines.
fn is_harmless(address: &[u8]) -> bool {
    let breaks = |c: char| c.is_control() || c.is_whitespace();
    address.len() <= LONGEST_ADDRESS
        && !address.starts_with(b"-")
        && str::from_utf8(address).is_ok_and(|text| !text.contains(breaks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_follows_the_first_plus_of_the_local_part() {
        for (address, expected) in [
            ("alice", ""),
            ("alice@example.org", ""),
            ("alice+lists@example.org", "lists"),
            ("alice+a+b@example.org", "a+b"),
            ("alice+lists", "lists"),
            ("alice@a+b.example", ""),
            ("+x@y", "x"),
        ] {
            assert_eq!(extension(address), expected, "{address}");
        }
    }

    #[test]
    fn an_address_that_could_be_more_than_one_is_none() {
        for sound in ["a@b", "$(id)@b", "';x'@b", "grün@b", "a-b@c"] {
            assert!(is_harmless(sound.as_bytes()), "{sound}");
        }
        for bad in [&b"-oQ/tmp@b"[..], b"a b@c", b"a\n@c", b"a\0@c", b"\xff@c", b"a@b\x1b[2J", &[b'a'; 300]] {
            assert!(!is_harmless(bad), "{}", bad.escape_ascii());
        }
    }
}
