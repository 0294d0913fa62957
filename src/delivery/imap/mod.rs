//! The target that is a mailbox on a server: IMAP (RFC 9051, RFC 3501).
//!
//! One connection serves all messages of a session, and several are under way at once. A message counts as delivered at
//! the server's OK to its APPEND, and at nothing else. Where that OK is lost the message is in doubt, and before
//! anything of it is sent again the mailbox is looked at: what lies there from the UID on that was next when the session
//! began (UIDNEXT, under this UIDVALIDITY; both are recorded durably before the first APPEND) is compared by what
//! messages are known by. The same is done by the next session after one that was killed or could not ask, and once, for
//! the whole mailbox, where nothing is remembered of it.
//!
//! What the user has moved out of the mailbox in between is not found there, and comes again.

mod connect;
mod dialogue;
mod doubt;
mod judge;
mod look;
mod memory;
mod round;
mod upload;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::spool::{self, Spooled, Unspooled};
use super::{Access, Leftover, MessageId, Outcome, TargetError};
use crate::config;
use crate::config::target::MessageDate;
use crate::disk::Disk;
use crate::failure::Class;
use crate::imap::{self, Status};
use crate::lock::lock;
use crate::message::file::{name_in_mailbox, sender_of};
use crate::message::in_mailbox::Said;
use crate::message::{FileDigest, FileId, Header, ToLines, arrival, trace};
use connect::{Connecting, Opened};
use dialogue::{At, Dialogue};
use doubt::Known;
use look::{Blind, Found, Place, Sought};
use memory::{Doubtful, Memory};
use round::{Message, Round, State};
use upload::{Letter, Together};

/// Messages in a row that a server refuses without saying whose trouble it is, before it is its own.
const MOST_STALLS: usize = 5;

const DAY: i64 = 24 * 60 * 60;

/// One account's way into a mailbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: config::Mailbox,
    access: Access,
    disk: Disk,
    mailbox: imap::Mailbox,
    /// Octets of a message that the folder takes at most, if it is one of those that differ.
    append_limit: Option<u64>,
    /// What the mailbox was at when the session began, or when it was made in it.
    at: Mutex<At>,
    /// Names the mailbox for as long as its messages keep their UIDs.
    name: String,
    /// What may be there that no record tells of, as earlier sessions left it.
    doubtful: Doubtful,
    memory: Mutex<Memory>,
    /// What was last kept of it.
    kept: Mutex<Option<Vec<u8>>>,
    /// The connection while nobody uses it.
    idle: Mutex<Option<Dialogue>>,
    /// Messages that the server took in this session, by what their senders say.
    taken: Mutex<HashMap<FileDigest, Vec<Known>>>,
    /// How records would know the messages that were found there.
    recorded: Mutex<Vec<FileDigest>>,
    /// Messages of earlier sessions that were recognized.
    claimed: Mutex<HashSet<FileId>>,
    /// Messages of this session that are in doubt.
    doubts: AtomicUsize,
    /// Connections that broke since one served.
    breaks: AtomicUsize,
    /// The server refused a log-in.
    turned_away: AtomicBool,
    /// Messages in a row that were put off for a reason that nobody knows.
    stalls: AtomicUsize,
    /// Why the last commit ended before its last message.
    failure: Mutex<Option<TargetError>>,
}

impl Mailbox {
    /// Connects to the server and finds the folder, so that nothing is fetched for one that is not there. `shown` is how
    /// the target is shown.
    pub(super) async fn open(
        target: &config::Mailbox,
        shown: String,
        disk: Disk,
        access: Access,
    ) -> Result<Self, TargetError> {
        let connecting = Connecting { target, access: &access };
        let before = access.remembered.as_deref().and_then(Memory::from_octets);
        let day = today(&access);
        let octets = before.filter(|before| before.day == day).map_or(0, |before| before.octets);
        if let Some(most) = target.octets_a_day()
            && octets >= most
        {
            return Err(spent(connecting, most));
        }
        let mut dialogue = connecting.connect().await?;
        let Opened { mailbox, at, append_limit } = connecting.open(&mut dialogue).await?;
        let doubtful = Memory::doubtful(before, at.validity);
        let from = Some(match doubtful {
            Doubtful::Nothing => at.next,
            Doubtful::Anything => 1,
            Doubtful::From(from) => from,
        });
        let (since, keeps) = before.map_or((0, false), |before| (before.since, before.keeps));
        let memory = Memory { validity: at.validity, from, since, keeps, day, octets };
        Ok(Self(Arc::new(Shared {
            target: target.clone(),
            name: format!("{shown};{}", at.validity),
            doubtful,
            memory: Mutex::new(memory),
            kept: Mutex::new(access.remembered.clone()),
            idle: Mutex::new(Some(dialogue)),
            taken: Mutex::default(),
            recorded: Mutex::default(),
            claimed: Mutex::default(),
            doubts: AtomicUsize::new(0),
            breaks: AtomicUsize::new(0),
            stalls: AtomicUsize::new(0),
            turned_away: AtomicBool::new(false),
            failure: Mutex::new(None),
            access,
            disk,
            mailbox,
            append_limit,
            at: Mutex::new(at),
        })))
    }

    /// Names the mailbox for as long as its messages keep their UIDs.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, spool::LineEnds::Lines)
    }

    /// Gives the messages that may be there unrecorded, and others of that time.
    pub(super) async fn recover(&self) -> Result<Vec<FileId>, TargetError> {
        let at = *lock(&self.0.at);
        let (from, may_move) = match self.0.doubtful {
            Doubtful::Nothing => return Ok(Vec::new()),
            Doubtful::Anything if at.next == 1 => return Ok(Vec::new()),
            Doubtful::Anything => (1, false),
            Doubtful::From(from) => (from, true),
        };
        let idle = lock(&self.0.idle).take();
        let mut dialogue = match idle {
            Some(dialogue) => dialogue,
            None => self.0.connect().await?,
        };
        let place = self.0.place(at);
        let found = match may_move {
            true => {
                let looked = look::look_until_still(&mut dialogue, place, from, Sought::Any, |_| false).await;
                looked.map(|(found, _)| found)
            }
            false => look::look(&mut dialogue, place, from, Sought::Any).await.map(|looked| looked.found),
        };
        let found = found.map_err(|blind| self.0.blind(blind))?;
        let (found, recorded): (Vec<_>, _) =
            found.into_iter().map(|Found { id, recorded, .. }| (id, recorded)).unzip();
        *lock(&self.0.recorded) = recorded;
        log::debug!("{}: target: {} messages from UID {from} on", self.0.access.account, found.len());
        *lock(&self.0.idle) = Some(dialogue);
        Ok(found)
    }

    /// Gives how records would know what [`Mailbox::recover`] gave.
    pub(super) fn recorded_as(&self) -> Vec<FileDigest> {
        std::mem::take(&mut lock(&self.0.recorded))
    }

    /// Says since when polls may have delivered what [`Mailbox::recover`] gave; 0 if nobody knows.
    pub(super) fn since(&self) -> i64 {
        match self.0.doubtful {
            Doubtful::From(_) => lock(&self.0.memory).since,
            Doubtful::Nothing | Doubtful::Anything => 0,
        }
    }

    /// Says whether the server refused a log-in that was made anew.
    pub(super) fn was_turned_away(&self) -> bool {
        self.0.turned_away.load(Relaxed)
    }

    /// Says whether a message that was found there turned out to be one that came.
    pub(super) fn has_claimed(&self, found: &FileId) -> bool {
        lock(&self.0.claimed).contains(found)
    }

    pub(super) fn failure(&self) -> Option<TargetError> {
        lock(&self.0.failure).take()
    }

    pub(super) fn retracted(&self) -> usize {
        let stalls = self.0.stalls.load(Relaxed);
        if stalls < MOST_STALLS { 0 } else { stalls }
    }

    pub(super) fn news(&self) -> Option<Vec<u8>> {
        let now = lock(&self.0.memory).to_octets();
        let mut kept = lock(&self.0.kept);
        (kept.as_ref() != Some(&now)).then(|| kept.insert(now).clone())
    }

    /// Notes that all is recorded that was delivered, and what was found there is kept, or means nothing any more.
    pub(super) fn settle(&self, leftover: Leftover, polled_at: i64) {
        let mut memory = lock(&self.0.memory);
        memory.keeps = leftover == Leftover::Kept;
        match self.0.doubts.load(Relaxed) {
            0 => (memory.from, memory.since) = (None, polled_at.saturating_add(1)),
            _ => memory.from = Some(lock(&self.0.at).next),
        }
    }

    pub(super) async fn commit(&self, finished: Vec<spool::Finished>) -> Result<Vec<Outcome>, TargetError> {
        let mut batch = Vec::with_capacity(finished.len());
        for message in finished {
            batch.push(match message.spooled().await {
                Ok(message) => Message::new(Some(self.0.letter(message)), State::Waiting { cuts: 0 }),
                Err(Unspooled::Later(reason)) => Message::new(None, State::Decided(Outcome::Later(reason))),
                Err(Unspooled::Disk(error)) => return Err(error),
            });
        }
        let idle = lock(&self.0.idle).take();
        let mut round = Round {
            shared: &self.0,
            dialogue: idle,
            batch,
            together: Together::Several,
            made: false,
            spent: false,
        };
        round.recognize_by_name();
        if let Err(error) = round.deliver().await {
            if round.batch.iter().all(|message| matches!(message.state, State::Waiting { .. })) {
                return Err(error);
            }
            // What was delivered before must be recorded.
            *lock(&self.0.failure) = Some(error);
        }
        let Round { dialogue, batch, .. } = round;
        *lock(&self.0.idle) = dialogue;
        Ok(batch.into_iter().map(|message| self.0.outcome(message.state)).collect())
    }

    /// Says goodbye.
    pub(super) async fn close(&self) {
        let idle = lock(&self.0.idle).take();
        if let Some(dialogue) = idle {
            dialogue.leave().await;
        }
    }
}

impl Shared {
    fn connecting(&self) -> Connecting<'_> {
        Connecting { target: &self.target, access: &self.access }
    }

    /// Connects once more.
    async fn connect(&self) -> Result<Dialogue, TargetError> {
        let connected = self.connecting().connect().await;
        if let Err(TargetError::Server(error)) = &connected
            && error.class == Class::Credentials
        {
            self.turned_away.store(true, Relaxed);
        }
        connected
    }

    fn place(&self, at: At) -> Place<'_> {
        Place { mailbox: &self.mailbox, name: &self.name, validity: at.validity }
    }

    fn letter(&self, message: Spooled) -> Letter {
        let whole = message.known.whole.as_ref();
        let name = whole.map(|whole| name_in_mailbox(&self.name, &whole.in_mailbox));
        let date = match self.target.date {
            MessageDate::Received => whole.and_then(|whole| whole.arrived),
            MessageDate::Header => {
                Header::new(&message.header).fields("Date").next().and_then(|date| arrival::of_date(&date))
            }
            MessageDate::Now => None,
        };
        let added = trace::length_with_crlf(&message.header);
        let is_traced = Header::new(&message.header[added..]).fields("Received").next().is_some();
        let octets = message.octets.saturating_sub(added as u64);
        let mut lines = Vec::new();
        ToLines::default().convert(&message.header[added..], &mut lines);
        let known = name.map(|name| Known { name, way: Said::by(&lines).way, octets });
        Letter { known, date: date.and_then(date_time), octets, is_traced, message }
    }

    fn blind(&self, blind: Blind) -> TargetError {
        match blind {
            Blind::Broken(broken) => self.connecting().broken(broken),
            Blind::Refused(status) => {
                let what = format!("server does not show what is in the folder {}", self.target.folder);
                self.connecting().refused(&what, &status, Class::Target, None)
            }
        }
    }

    fn takes_nothing(&self, status: &Status, class: Class) -> TargetError {
        let hint = (class == Class::Target)
            .then(|| "nothing is lost: what is left is fetched at the next poll".to_owned());
        self.connecting().refused("server takes no messages now", status, class, hint)
    }

    fn outcome(&self, state: State) -> Outcome {
        match state {
            State::Decided(outcome) => {
                if matches!(outcome, Outcome::InDoubt(_)) {
                    self.doubts.fetch_add(1, Relaxed);
                }
                outcome
            }
            State::Waiting { .. } => Outcome::NotTried,
            // The target went away, which is no trouble of the message's: the next poll asks first.
            State::Doubtful { .. } => {
                self.doubts.fetch_add(1, Relaxed);
                Outcome::NotTried
            }
        }
    }

    /// Notes that the server took a message.
    fn took(&self, letter: &Letter) {
        if let Some(known) = &letter.known {
            lock(&self.taken).entry(sender_of(known.name)).or_default().push(known.clone());
        }
        let mut memory = lock(&self.memory);
        let day = today(&self.access);
        let octets = if memory.day == day { memory.octets } else { 0 };
        (memory.day, memory.octets) = (day, octets.saturating_add(letter.message.octets));
    }
}

/// Counts the days since 1970.
fn today(access: &Access) -> i64 {
    access.clock.now().div_euclid(DAY)
}

fn spent(connecting: Connecting<'_>, most: u64) -> TargetError {
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
