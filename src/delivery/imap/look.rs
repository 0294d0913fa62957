//! What lies in a mailbox, by what its messages are known.

use std::collections::VecDeque;

use super::dialogue::{Broken, Dialogue, Reader};
use crate::imap::{Command, Fetched, Items, Mailbox, Status};
use crate::message::file::digest_in_mailbox;
use crate::message::fingerprint::TELLING;
use crate::message::{FileId, Fingerprint, Fingerprinter, ToLf, trace};

/// Messages of a mailbox that are kept in mind, the newest.
const MOST: usize = 100_000;
/// Messages without an identity that are read whole, the newest, and octets of one and of all.
const MOST_WHOLE: usize = 1000;
const LARGEST_WHOLE: u32 = 8 << 20;
const MOST_OCTETS: u64 = 64 << 20;

/// Why a mailbox cannot be looked at.
#[derive(Debug)]
pub(super) enum Blind {
    /// The connection is of no more use.
    Broken(Broken),
    /// The server refused.
    Refused(Status),
}

impl From<Broken> for Blind {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Looks at the messages from a UID on; `name` goes into their digests.
///
/// Read by FETCH and never by SEARCH, which may be slow, stale or refused.
pub(super) async fn look(
    dialogue: &mut Dialogue,
    mailbox: &Mailbox,
    name: &str,
    from: u32,
) -> Result<Vec<FileId>, Blind> {
    accepted(dialogue.command(Command::Examine(mailbox)).await?)?;
    let mut headers = Headers { name, from, found: VecDeque::new(), weak: VecDeque::new() };
    let command = Command::UidFetch(from, None, Items::Fields(&TELLING));
    accepted(dialogue.fetch(command, &mut headers).await?)?;
    let Headers { mut found, weak, .. } = headers;
    let mut octets = 0;
    for (uid, size) in weak.into_iter().rev() {
        octets += u64::from(size);
        if octets > MOST_OCTETS {
            break;
        }
        let mut whole = Whole { fingerprinter: Fingerprinter::new(), is_there: false };
        accepted(dialogue.fetch(Command::UidFetch(uid, Some(uid), Items::Whole), &mut whole).await?)?;
        if whole.is_there {
            found.push_back(of(name, uid, &whole.fingerprinter.finish()));
        }
    }
    Ok(found.into())
}

fn accepted(status: Status) -> Result<(), Blind> {
    if status.is_ok() { Ok(()) } else { Err(Blind::Refused(status)) }
}

fn of(name: &str, uid: u32, whole: &Fingerprint) -> FileId {
    FileId { digest: digest_in_mailbox(name, whole.identity, whole.content), time: uid.into() }
}

/// Reads headers.
struct Headers<'a> {
    name: &'a str,
    from: u32,
    found: VecDeque<FileId>,
    /// What no header tells apart, with sizes.
    weak: VecDeque<(u32, u32)>,
}

impl Reader for Headers<'_> {
    /// A header that is so long tells nothing.
    fn octets(&mut self, _octets: &[u8]) {}

    fn fetched(&mut self, message: Fetched) {
        // `n:*` is the last message if there is none from n on (RFC 9051, 9: seq-range).
        let Some(uid) = message.uid.filter(|uid| *uid >= self.from) else { return };
        let mut header = Vec::new();
        let mut to_lf = ToLf::default();
        to_lf.convert(&message.section, &mut header);
        to_lf.finish(&mut header);
        // That which we have put on top is of this delivery, not of the message.
        let whole = Fingerprint::from(&header[trace::length(&header)..]);
        let size = message.size.unwrap_or(u32::MAX);
        if whole.identity.is_certain() {
            self.found.push_back(of(self.name, uid, &whole));
        } else if size <= LARGEST_WHOLE {
            self.weak.push_back((uid, size));
        }
        if self.found.len() > MOST {
            self.found.pop_front();
        }
        if self.weak.len() > MOST_WHOLE {
            self.weak.pop_front();
        }
    }
}

/// Reads one message.
struct Whole {
    fingerprinter: Fingerprinter,
    is_there: bool,
}

impl Reader for Whole {
    fn octets(&mut self, octets: &[u8]) {
        self.fingerprinter.write(octets);
    }

    fn fetched(&mut self, message: Fetched) {
        // A word on its flags may come, too.
        if !self.is_there {
            self.fingerprinter.write(&message.section);
        }
        self.is_there = true;
    }
}
