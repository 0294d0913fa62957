//! What lies in a mailbox, by what its messages are known.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::dialogue::{Broken, Dialogue, Reader};
use super::judge;
use crate::imap::{Command, Fetched, Items, Mailbox, Status};
use crate::message::fields::TELLING;
use crate::message::file::{digest_in_mailbox, name_in_mailbox, sender_of};
use crate::message::in_mailbox::Said;
use crate::message::{Body, FileDigest, FileId, Fingerprint, Fingerprinter, trace};

/// Messages of a mailbox that are kept in mind, the newest.
pub(super) const MOST: usize = 100_000;
/// UIDs that are asked for at once where all messages back to some time are looked at, at least.
pub(super) const PAGE: u32 = 4096;
/// Messages without an identity that are read whole where nobody knows which are looked for, the newest, and octets of one
/// and of all.
const MOST_WHOLE: usize = 1000;
const LARGEST_WHOLE: u64 = 8 << 20;
const MOST_OCTETS: u64 = 64 << 20;
/// Octets of a header that are looked at.
const LARGEST_HEADER: usize = 256 << 10;

/// A server that adds nothing to a mailbox for so long is done with what it was sent, ...
const STILL: Duration = Duration::from_secs(2);
/// ... it is asked so often ...
const BETWEEN: Duration = Duration::from_millis(250);
/// ... and no longer than this.
const LONGEST: Duration = Duration::from_secs(30);

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

/// A mailbox, and how its messages are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Searched<'a> {
    pub(super) mailbox: &'a Mailbox,
    /// Goes into their digests.
    pub(super) name: &'a str,
    /// The UIDVALIDITY under which UIDs mean something.
    pub(super) validity: u32,
}

/// A message that lies in a mailbox.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its digest is the name that it has in the mailbox.
    pub(super) id: FileId,
    /// How a record would know it.
    pub(super) recorded: FileDigest,
    pub(super) said: Said,
}

/// Which messages are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sought<'a> {
    /// Nobody knows; what they say of their way is not kept.
    Any,
    /// Those whose senders say this.
    Of(&'a HashSet<FileDigest>),
}

/// What lies in a mailbox.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) found: Vec<Found>,
    /// UIDNEXT, if the server told it.
    next: Option<u32>,
}

/// Whether the server is done with what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing has come for a while.
    Still,
    /// Messages go on coming.
    Moving,
}

/// Looks at the messages from a UID on.
///
/// Read by FETCH and never by SEARCH, which may be slow, stale or refused. Where the server does not show the folder, as
/// one that may only be written into, nothing is found.
pub(super) async fn look(
    dialogue: &mut Dialogue,
    place: Searched<'_>,
    from: u32,
    sought: Sought<'_>,
) -> Result<Looked, Blind> {
    let Some(next) = examine(dialogue, place).await? else {
        return Ok(Looked { found: Vec::new(), next: None });
    };
    // All of another mailbox that has the name by now is new.
    let from =
        if dialogue.told.validity.is_some_and(|validity| validity != place.validity) { 1 } else { from };
    let mut headers = Headers::new(place, from, sought);
    let command = Command::UidFetch(from, None, Items::Fields(&TELLING));
    shown(dialogue.fetch(command, &mut headers).await?)?;
    let Headers { found, weak, .. } = headers;
    Ok(Looked { found: with_weak(dialogue, place, sought, found, weak).await?, next })
}

/// Which messages are looked at where nobody knows which are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    /// UIDNEXT.
    pub(super) next: u32,
    /// When the oldest of them came, in seconds since 1970, or before; `None`: nobody knows.
    pub(super) oldest: Option<i64>,
    /// How many of them, the newest.
    pub(super) most: usize,
}

/// Looks at the messages from the newest back, until a whole page of them is older than all that are looked for. UIDs grow
/// with the time of delivery, and so does INTERNALDATE but for what was moved there.
pub(super) async fn look_back(
    dialogue: &mut Dialogue,
    place: Searched<'_>,
    back: Back,
) -> Result<Vec<Found>, Blind> {
    let Some(next) = examine(dialogue, place).await? else { return Ok(Vec::new()) };
    let mut last = next.unwrap_or(back.next).saturating_sub(1);
    let mut page = PAGE;
    let (mut found, mut weak) = (VecDeque::new(), VecDeque::new());
    while last > 0 && found.len() + weak.len() < back.most {
        let first = last.saturating_sub(page).saturating_add(1);
        let mut headers = Headers::new(place, first, Sought::Any);
        let command = Command::UidFetch(first, Some(last), Items::Dated(&TELLING));
        shown(dialogue.fetch(command, &mut headers).await?)?;
        let is_older = |newest: i64| back.oldest.is_some_and(|oldest| newest < oldest);
        let is_enough = headers.newest.is_some_and(is_older);
        // Most of the UIDs may be gone.
        if headers.seen.len() < (page / 2) as usize {
            page = page.saturating_mul(2);
        }
        headers.found.append(&mut found);
        headers.weak.append(&mut weak);
        (found, weak) = (headers.found, headers.weak);
        if is_enough {
            break;
        }
        last = first - 1;
    }
    found.drain(..found.len().saturating_sub(back.most));
    weak.drain(..weak.len().saturating_sub(MOST_WHOLE));
    with_weak(dialogue, place, Sought::Any, found, weak).await
}

/// Reads the messages that no header tells apart, as far as they are not too many or too large.
async fn with_weak(
    dialogue: &mut Dialogue,
    place: Searched<'_>,
    sought: Sought<'_>,
    mut found: VecDeque<Found>,
    weak: VecDeque<Weak>,
) -> Result<Vec<Found>, Blind> {
    let mut octets = 0;
    for Weak { uid, size, added, said } in weak.into_iter().rev() {
        octets += size;
        let is_much = size > LARGEST_WHOLE || octets > MOST_OCTETS;
        if matches!(sought, Sought::Any) && is_much {
            let name = name_in_mailbox(place.name, &said.known);
            found.push_back(Found { id: FileId::of_message(name, uid, size - added), recorded: name, said });
            continue;
        }
        let mut whole = Whole::new();
        shown(dialogue.fetch(Command::UidFetch(uid, Some(uid), Items::Whole), &mut whole).await?)?;
        if whole.is_there {
            found.push_back(of(place.name, uid, size - added, &whole.finish(), Said::default()));
        }
    }
    Ok(found.into())
}

/// Looks until the server is done with what it was sent over connections that broke, or all is found that is looked for: it
/// may still have been reading it.
pub(super) async fn look_until_still(
    dialogue: &mut Dialogue,
    place: Searched<'_>,
    from: u32,
    sought: Sought<'_>,
    is_all: impl Fn(&[Found]) -> bool,
) -> Result<(Vec<Found>, Settled), Blind> {
    let mut looked = look(dialogue, place, from, sought).await?;
    let began = Instant::now();
    let mut came = began;
    while !is_all(&looked.found) {
        if came.elapsed() >= STILL {
            return Ok((looked.found, Settled::Still));
        }
        if began.elapsed() >= LONGEST {
            return Ok((looked.found, Settled::Moving));
        }
        tokio::time::sleep(BETWEEN).await;
        match examine(dialogue, place).await? {
            Some(Some(next)) if looked.next == Some(next) => {}
            _ => {
                let before = looked.found.len();
                looked = look(dialogue, place, from, sought).await?;
                if looked.found.len() != before {
                    came = Instant::now();
                }
            }
        }
    }
    Ok((looked.found, Settled::Still))
}

/// Gives what the headers of messages say, by their UIDs.
pub(super) async fn headers(
    dialogue: &mut Dialogue,
    place: Searched<'_>,
    uids: &[u32],
) -> Result<HashMap<u32, Said>, Blind> {
    if examine(dialogue, place).await?.is_none() {
        return Ok(HashMap::new());
    }
    let mut said = Saids::default();
    shown(dialogue.fetch(Command::UidFetchThese(uids, Items::Fields(&TELLING)), &mut said).await?)?;
    Ok(said.said)
}

/// Says whether the body of the message with this UID is this one.
pub(super) async fn has_body(
    dialogue: &mut Dialogue,
    place: Searched<'_>,
    uid: u32,
    body: [u8; 32],
) -> Result<bool, Blind> {
    if examine(dialogue, place).await?.is_none() {
        return Ok(false);
    }
    let mut message = OneBody { body: Body::default(), is_there: false };
    shown(dialogue.fetch(Command::UidFetch(uid, Some(uid), Items::Whole), &mut message).await?)?;
    Ok(message.is_there && message.body.finish() == body)
}

/// Opens the mailbox for reading; gives UIDNEXT if the server tells it, `None` if it does not show the mailbox.
async fn examine(dialogue: &mut Dialogue, place: Searched<'_>) -> Result<Option<Option<u32>>, Blind> {
    let status = dialogue.command(Command::Examine(place.mailbox)).await?;
    match status.is_ok() {
        true => Ok(Some(dialogue.told.next)),
        false if judge::is_the_targets(status.code().as_deref()) => Err(Blind::Refused(status)),
        false => {
            log::debug!("server does not show what is in the folder: {status}");
            Ok(None)
        }
    }
}

/// Takes what a server has shown for all that it can show: some say no at the end where single messages could not be
/// read.
fn shown(status: Status) -> Result<(), Blind> {
    if status.is_ok() || !judge::is_the_targets(status.code().as_deref()) {
        Ok(())
    } else {
        Err(Blind::Refused(status))
    }
}

fn of(name: &str, uid: u32, octets: u64, whole: &Fingerprint, said: Said) -> Found {
    let id = FileId::of_message(name_in_mailbox(name, &whole.in_mailbox), uid, octets);
    Found { id, recorded: digest_in_mailbox(name, whole.identity, whole.content), said }
}

/// A header that came, perhaps in parts.
#[derive(Debug, Default)]
struct Long(Vec<u8>);

impl Long {
    fn write(&mut self, octets: &[u8]) {
        let room = LARGEST_HEADER - self.0.len();
        self.0.extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// Gives the header of a message whose section this is, if one was asked for.
    fn end(&mut self, section: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let long = std::mem::take(&mut self.0);
        section.map(|section| if section.is_empty() { long } else { section })
    }
}

/// A message that no header tells apart.
#[derive(Debug)]
struct Weak {
    uid: u32,
    size: u64,
    /// Octets among them that were added on delivery.
    added: u64,
    said: Said,
}

/// Reads headers.
struct Headers<'a> {
    name: &'a str,
    from: u32,
    sought: Sought<'a>,
    seen: HashSet<u32>,
    /// The latest INTERNALDATE.
    newest: Option<i64>,
    found: VecDeque<Found>,
    weak: VecDeque<Weak>,
    long: Long,
}

impl<'a> Headers<'a> {
    fn new(place: Searched<'a>, from: u32, sought: Sought<'a>) -> Self {
        let (seen, newest, found, weak, long) = Default::default();
        Self { name: place.name, from, sought, seen, newest, found, weak, long }
    }

    fn is_sought(&self, said: &Said) -> bool {
        match self.sought {
            Sought::Any => true,
            Sought::Of(senders) => senders.contains(&sender_of(name_in_mailbox(self.name, &said.known))),
        }
    }
}

impl Reader for Headers<'_> {
    fn octets(&mut self, octets: &[u8]) {
        self.long.write(octets);
    }

    fn fetched(&mut self, message: Fetched) {
        let section = self.long.end(message.section);
        // `n:*` is the last message if there is none from n on (RFC 9051, 9: seq-range).
        let Some(uid) = message.uid.filter(|uid| *uid >= self.from) else { return };
        // A server that shows more than a folder has may show it again.
        if self.seen.len() >= MOST {
            self.seen.clear();
        }
        // It may be news of its flags, or come twice.
        let Some(section) = section.filter(|_| self.seen.insert(uid)) else { return };
        self.newest = self.newest.max(message.date);
        // That which we have put on top is of this delivery, not of the message.
        let added = trace::length_with_crlf(&section);
        let mut said = Said::by(&section[added..]);
        if !self.is_sought(&said) {
            return;
        }
        if let Sought::Any = self.sought {
            said.way = Vec::new();
        }
        let (size, added) = (message.size.unwrap_or(u64::MAX), added as u64);
        if said.known.is_certain {
            let whole = Fingerprint::from(&section[added as usize..]);
            self.found.push_back(of(self.name, uid, size.saturating_sub(added), &whole, said));
        } else {
            self.weak.push_back(Weak { uid, size, added: added.min(size), said });
        }
        if self.found.len() > MOST {
            self.found.pop_front();
        }
        if self.weak.len() > MOST_WHOLE {
            self.weak.pop_front();
        }
    }
}

/// Reads what headers say.
#[derive(Default)]
struct Saids {
    said: HashMap<u32, Said>,
    long: Long,
}

impl Reader for Saids {
    fn octets(&mut self, octets: &[u8]) {
        self.long.write(octets);
    }

    fn fetched(&mut self, message: Fetched) {
        let section = self.long.end(message.section);
        if let (Some(uid), Some(section)) = (message.uid, section) {
            self.said.insert(uid, Said::by(&section[trace::length_with_crlf(&section)..]));
        }
    }
}

/// Reads one message, less that which we have put on top.
struct Whole {
    fingerprinter: Fingerprinter,
    /// The first octets, until they are enough to see what is on top.
    beginning: Vec<u8>,
    has_begun: bool,
    is_there: bool,
}

impl Whole {
    fn new() -> Self {
        let fingerprinter = Fingerprinter::with_mailbox();
        Self { fingerprinter, beginning: Vec::new(), has_begun: false, is_there: false }
    }

    fn write(&mut self, octets: &[u8]) {
        if self.has_begun {
            return self.fingerprinter.write(octets);
        }
        self.beginning.extend_from_slice(octets);
        if self.beginning.len() >= trace::LONGEST {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.fingerprinter.write(&self.beginning[trace::length_with_crlf(&self.beginning)..]);
        (self.beginning, self.has_begun) = (Vec::new(), true);
    }

    fn finish(mut self) -> Fingerprint {
        if !self.has_begun {
            self.begin();
        }
        self.fingerprinter.finish()
    }
}

impl Reader for Whole {
    fn octets(&mut self, octets: &[u8]) {
        self.write(octets);
    }

    fn fetched(&mut self, message: Fetched) {
        // A word on its flags may come, too.
        let Some(section) = message.section else { return };
        if !self.is_there {
            self.write(&section);
        }
        self.is_there = true;
    }
}

/// Reads the body of one message.
struct OneBody {
    body: Body,
    is_there: bool,
}

impl Reader for OneBody {
    fn octets(&mut self, octets: &[u8]) {
        self.body.write(octets);
    }

    fn fetched(&mut self, message: Fetched) {
        let Some(section) = message.section else { return };
        if !self.is_there {
            self.body.write(&section);
        }
        self.is_there = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::Capabilities;

    #[test]
    fn a_folder_that_is_shown_without_end_takes_no_more_memory_than_its_newest_messages() {
        let mailbox = Mailbox::new("INBOX", Capabilities::default().charset());
        let searched = Searched { mailbox: &mailbox, name: "INBOX", validity: 1 };
        let mut headers = Headers::new(searched, 1, Sought::Any);
        let last = 2 * MOST as u32 + 7;
        for uid in 1..=last {
            headers.fetched(Fetched { uid: Some(uid), section: Some(Vec::new()), ..Fetched::default() });
        }
        assert!(headers.seen.len() <= MOST, "{}", headers.seen.len());
        assert_eq!((headers.weak.len(), headers.weak.back().map(|weak| weak.uid)), (MOST_WHOLE, Some(last)));
    }
}
