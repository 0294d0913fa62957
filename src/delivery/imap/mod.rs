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
//!
//! | file | what it is |
//! |---|---|
//! | `connect`, `dialogue` | the way to the folder; commands and answers |
//! | `round`, `upload`, `judge` | one commit: APPENDs, several under way, and what a refusal means |
//! | `doubt`, `look`, `known` | which messages are there already, and by what they are known |
//! | `shared`, `memory` | what a session knows of the mailbox, and what the next one is to know |

mod connect;
mod dialogue;
mod doubt;
mod judge;
mod known;
mod look;
mod memory;
mod round;
mod shared;
mod upload;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::series::Faults;
use super::spool::{self, Unspooled};
use super::{Access, Leftover, Outcome, TargetError};
use crate::config;
use crate::config::target::MessageDate;
use crate::disk::Disk;
use crate::lock::lock;
use crate::message::{FileDigest, FileId, MessageId};
use connect::{Connecting, Opened};
use look::{Back, Found, Sought};
use memory::{Doubtful, Memory};
use round::{Message, Round, State};
use shared::{Shared, spent};
use upload::Together;

/// Messages of a folder that has those of all others that are looked at where nobody knows what is there.
const MOST_OF_ALL: usize = 10_000;
/// The clock of whoever noted when a message arrived may differ from the mailbox's by so many seconds.
const CLOCKS: i64 = 24 * 60 * 60;

/// One account's way into a mailbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailbox(Arc<Shared>);

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
        if let Some(most) = target.octets_a_day()
            && access.uploaded >= most
        {
            return Err(spent(connecting, most));
        }
        let mut dialogue = connecting.connect().await?;
        let Opened { mailbox, asked, at, append_limit } = connecting.open(&mut dialogue).await?;
        let doubtful = Memory::doubtful(before, at.validity);
        let from = Some(match doubtful {
            Doubtful::Nothing => at.next,
            Doubtful::Anything => 1,
            Doubtful::From(from) => from,
        });
        let (since, keeps) = before.map_or((0, false), |before| (before.since, before.keeps));
        let memory = Memory { validity: at.validity, from, since, keeps };
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
            faults: Faults::default(),
            granted: Mutex::new(0),
            is_spent: AtomicBool::new(false),
            access,
            disk,
            mailbox,
            asked,
            append_limit,
            at: Mutex::new(at),
        })))
    }

    /// Names the mailbox for as long as its messages keep their UIDs: by this they are known
    /// (see [`crate::message::file::name_in_mailbox`]).
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, spool::LineEnds::Lines)
    }

    /// Says whether [`Mailbox::recover`] has much to look at, unless it is told how far back.
    pub fn looks_far_back(&self) -> bool {
        // What was delivered by its date may seem older than it is.
        self.0.doubtful == Doubtful::Anything
            && lock(&self.0.at).next > look::PAGE
            && self.0.target.date != MessageDate::Header
    }

    /// Gives the messages that may be there unrecorded, and others of that time. Where nobody knows which they are, they
    /// are none that came before `oldest`, in seconds since 1970.
    pub(super) async fn recover(&self, oldest: Option<i64>) -> Result<Vec<FileId>, TargetError> {
        let at = *lock(&self.0.at);
        if self.0.doubtful == Doubtful::Nothing || self.0.doubtful == Doubtful::Anything && at.next == 1 {
            return Ok(Vec::new());
        }
        let idle = lock(&self.0.idle).take();
        let mut dialogue = match idle {
            Some(dialogue) => dialogue,
            None => self.0.connect().await?,
        };
        let place = self.0.place(at);
        let found = match self.0.doubtful {
            Doubtful::From(from) => {
                let looked = look::look_until_still(&mut dialogue, place, from, Sought::Any, |_| false).await;
                looked.map(|(found, _)| found)
            }
            Doubtful::Nothing | Doubtful::Anything => {
                // A provider that merges what comes again has no need of what is older.
                let most = if self.0.asked == self.0.mailbox { look::MOST } else { MOST_OF_ALL };
                let oldest = oldest.map(|oldest| oldest.saturating_sub(CLOCKS));
                look::look_back(&mut dialogue, place, Back { next: at.next, oldest, most }).await
            }
        };
        let found = found.map_err(|blind| self.0.blind(blind))?;
        let (found, recorded): (Vec<_>, _) =
            found.into_iter().map(|Found { id, recorded, .. }| (id, recorded)).unzip();
        *lock(&self.0.recorded) = recorded;
        log::debug!("{}: target: {} messages may be there unrecorded", self.0.access.account, found.len());
        *lock(&self.0.idle) = Some(dialogue);
        Ok(found)
    }

    /// Gives the digests by which records would know what [`Mailbox::recover`] gave, in the same order
    /// (see [`crate::message::file::digest_in_mailbox`]).
    pub fn recorded_as(&self) -> Vec<FileDigest> {
        std::mem::take(&mut lock(&self.0.recorded))
    }

    /// Says since when polls may have delivered what [`Mailbox::recover`] gave, in seconds since 1970; 0 if nobody knows.
    pub fn since(&self) -> i64 {
        match self.0.doubtful {
            Doubtful::From(_) => lock(&self.0.memory).since,
            Doubtful::Nothing | Doubtful::Anything => 0,
        }
    }

    /// Says whether a message that was found there turned out to be one that came.
    pub fn has_claimed(&self, found: &FileId) -> bool {
        lock(&self.0.claimed).contains(found)
    }

    /// Says what of a day's budget is to be granted for so many octets, and what is left of what was: octets, each. `None`:
    /// there is no budget.
    pub fn takes(&self, octets: u64) -> Option<(u64, u64)> {
        self.0.target.octets_a_day()?;
        let unspent = std::mem::take(&mut *lock(&self.0.granted));
        // No message is fetched for it again today.
        let octets = if self.0.is_spent.swap(false, Relaxed) { u64::MAX } else { octets };
        Some((octets, unspent))
    }

    /// Grants octets of a day's budget.
    pub fn grant(&self, octets: u64) {
        *lock(&self.0.granted) = octets;
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(super) fn news(&self) -> Option<Vec<u8>> {
        let now = lock(&self.0.memory).to_octets();
        let mut kept = lock(&self.0.kept);
        (kept.as_ref() != Some(&now)).then(|| kept.insert(now).clone())
    }

    /// Notes that all is recorded that was delivered by the poll that began at this time, and what was found there is kept, or
    /// means nothing any more.
    pub fn settle(&self, leftover: Leftover, polled_at: i64) {
        let mut memory = lock(&self.0.memory);
        match leftover {
            Leftover::SoughtAgain if self.0.doubtful != Doubtful::Nothing => return,
            Leftover::SoughtAgain => {}
            Leftover::Nothing | Leftover::Kept => memory.keeps = leftover == Leftover::Kept,
        }
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
            *lock(&self.0.faults.failure) = Some(error);
        }
        *lock(&self.0.idle) = round.dialogue.take();
        Ok(round.outcomes())
    }

    pub(super) async fn close(&self) {
        let idle = lock(&self.0.idle).take();
        if let Some(dialogue) = idle {
            dialogue.leave().await;
        }
    }
}
