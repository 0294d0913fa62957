//! What a session knows of the mailbox that it delivers into.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::connect::Connecting;
use super::dialogue::{At, Dialogue};
use super::known::KnownBy;
use super::look::{Blind, Searched};
use super::memory::{Doubtful, Memory};
use super::upload::Letter;
use crate::config;
use crate::config::target::MessageDate;
use crate::delivery::series::Faults;
use crate::delivery::spool::Spooled;
use crate::delivery::{Access, TargetError};
use crate::disk::Disk;
use crate::failure::Class;
use crate::imap::{self, Status};
use crate::lock::lock;
use crate::message::file::{name_in_mailbox, sender_of};
use crate::message::in_mailbox::Said;
use crate::message::{FileDigest, FileId, Header, ToLines, arrival, trace};

/// What all that use a mailbox in a session share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: config::Mailbox,
    pub(super) access: Access,
    pub(super) disk: Disk,
    pub(super) mailbox: imap::Mailbox,
    /// Where what is in doubt is looked for.
    pub(super) asked: imap::Mailbox,
    /// Octets of a message that the folder takes at most, if it is one of those that differ.
    pub(super) append_limit: Option<u64>,
    /// What the mailbox was at when the session began, or when it was made in it.
    pub(super) at: Mutex<At>,
    /// Names the mailbox for as long as its messages keep their UIDs.
    pub(super) name: String,
    /// What may be there that no record tells of, as earlier sessions left it.
    pub(super) doubtful: Doubtful,
    pub(super) memory: Mutex<Memory>,
    /// What was last kept of it.
    pub(super) kept: Mutex<Option<Vec<u8>>>,
    /// The connection while nobody uses it.
    pub(super) idle: Mutex<Option<Dialogue>>,
    /// Messages that the server took in this session, by what their senders say.
    pub(super) taken: Mutex<HashMap<FileDigest, Vec<KnownBy>>>,
    /// How records would know the messages that were found there.
    pub(super) recorded: Mutex<Vec<FileDigest>>,
    /// Messages of earlier sessions that were recognized.
    pub(super) claimed: Mutex<HashSet<FileId>>,
    /// Messages of this session that are in doubt.
    pub(super) doubts: AtomicUsize,
    /// Connections that broke since one served.
    pub(super) breaks: AtomicUsize,
    /// It stalls for a reason that nobody knows.
    pub(super) faults: Faults,
    /// Octets that may still be uploaded today, where there is a budget for that, and whether they were too few.
    pub(super) granted: Mutex<u64>,
    pub(super) is_spent: AtomicBool,
}

impl Shared {
    pub(super) fn connecting(&self) -> Connecting<'_> {
        Connecting { target: &self.target, access: &self.access }
    }

    pub(super) async fn connect(&self) -> Result<Dialogue, TargetError> {
        let connected = self.connecting().connect().await;
        if let Err(TargetError::Server(error)) = &connected
            && error.class == Class::Credentials
        {
            self.faults.turned_away.store(true, Relaxed);
        }
        connected
    }

    pub(super) fn place(&self, at: At) -> Searched<'_> {
        Searched { mailbox: &self.asked, name: &self.name, validity: at.validity }
    }

    pub(super) fn letter(&self, message: Spooled) -> Letter {
        let whole = message.known.whole.as_ref();
        let name = whole.map(|whole| name_in_mailbox(&self.name, &whole.in_mailbox));
        let date = match self.target.date {
            MessageDate::Received => whole.and_then(|whole| whole.arrived),
            MessageDate::Header => {
                let date = Header::new(&message.header).fields("Date").next();
                // What says nothing has a date all the same.
                date.and_then(|date| arrival::of_date(&date)).or(whole.and_then(|whole| whole.arrived))
            }
            MessageDate::Now => None,
        };
        let added = trace::length_with_crlf(&message.header);
        let is_traced = Header::new(&message.header[added..]).fields("Received").next().is_some();
        let octets = message.octets.saturating_sub(added as u64);
        let mut lines = Vec::new();
        ToLines::default().convert(&message.header[added..], &mut lines);
        let known = name.map(|name| KnownBy { name, way: Said::by(&lines).way, octets });
        Letter { known, date: date.and_then(date_time), octets, is_traced, message }
    }

    pub(super) fn blind(&self, blind: Blind) -> TargetError {
        match blind {
            Blind::Broken(broken) => self.connecting().broken(broken),
            Blind::Refused(status) => {
                let what = format!("server does not show what is in the folder {}", self.target.folder);
                self.connecting().refused(&what, &status, Class::Target, None)
            }
        }
    }

    pub(super) fn takes_nothing(&self, status: &Status, class: Class) -> TargetError {
        let hint = (class == Class::Target)
            .then(|| "nothing is lost: what is left is fetched at the next poll".to_owned());
        self.connecting().refused("server takes no messages now", status, class, hint)
    }

    /// Notes that the server took a message.
    pub(super) fn took(&self, letter: &Letter) {
        if let Some(known) = &letter.known {
            lock(&self.taken).entry(sender_of(known.name)).or_default().push(known.clone());
        }
        let mut granted = lock(&self.granted);
        *granted = granted.saturating_sub(letter.message.octets);
    }
}

pub(super) fn spent(connecting: Connecting<'_>, most: u64) -> TargetError {
    let what = format!("the {} MiB that may be uploaded there in a day are used up", most >> 20);
    let hint =
        "nothing is lost: what is left is fetched tomorrow (UTC); more would have the account suspended";
    connecting.failed(what, Some(hint.to_owned()))
}

/// Writes a time, in seconds since 1970, as RFC 9051, 9 (`date-time`) has it.
fn date_time(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok().filter(|_| seconds >= 0)?;
    Some(time.strftime("%d-%b-%Y %H:%M:%S +0000").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_imap_has_it() {
        assert_eq!(date_time(1_764_417_600).as_deref(), Some("29-Nov-2025 12:00:00 +0000"));
        assert_eq!(date_time(0).as_deref(), Some("01-Jan-1970 00:00:00 +0000"));
        assert_eq!(date_time(-1), None);
        assert_eq!(date_time(i64::MAX), None);
    }
}
