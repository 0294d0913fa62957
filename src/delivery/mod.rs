//! Delivery targets: a message goes into a [`Draft`], and once complete through [`Sink::commit`] to where it stays.
//!
//! Knows nothing of POP3. The states of a message: draft (no reader sees it, dropping it leaves no trace), finished
//! (complete, not yet promised), and then one [`Outcome`].
//!
//! | file | what it is |
//! |---|---|
//! | `maildir`, `mbox`, `pipe`, `smtp`, `imap`, `gmail`, `http` | the sinks; `smtp` speaks LMTP, too |
//! | `spool`, `parts`, `reading`, `upload` | a message on its way in and out, where the target takes it only when it is complete |
//! | `access` | what a target is used with, besides its configuration |
//! | `envelope` | from whom a message comes and to whom it goes |
//! | `outcome`, `error` | what became of a message; what is wrong with a target |
//! | `series` | messages one after the other, and when a server is at fault that it takes none |
//! | `space`, `owner` | whether there is room again; whose files root delivers to |

mod access;
pub mod envelope;
mod error;
pub mod gmail;
pub mod http;
pub mod imap;
pub mod maildir;
pub mod mbox;
mod outcome;
mod owner;
mod parts;
pub mod pipe;
mod reading;
mod series;
pub mod smtp;
mod space;
pub mod spool;
mod upload;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::Target;
use crate::disk::{self, Disk};
use crate::lock::lock;
use crate::message::{FileId, Fingerprint, MessageId, UniqueId};
use crate::smtp::Dialect;

pub use access::{Access, Errand};
use error::{LARGE, file_error, is_no_room};
pub use error::{ServerError, TargetError};
pub use outcome::{Leftover, Others, Outcome};
use series::Faults;
pub use space::{has_room, probe};
use spool::{Content, Spooled};

/// One account's open target.
///
/// Cheap to clone; drafts and commits may go on at the same time.
#[derive(Debug, Clone)]
pub enum Sink {
    Maildir(maildir::Maildir),
    Mbox(mbox::Mbox),
    Pipe(pipe::Pipe),
    Server(smtp::Server),
    Imap(imap::Mailbox),
    Gmail(gmail::Gmail),
    Http(http::Receiver),
}

/// A message that is being received; dropping it leaves no trace of it.
#[derive(Debug)]
pub enum Draft {
    Maildir(maildir::Draft),
    Spool(spool::Draft),
}

/// A message that was received whole.
#[derive(Debug)]
pub enum Finished {
    Maildir(maildir::Finished),
    Spool(spool::Finished),
}

/// What holds for all sinks of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// It knows a message again that it has, so that none is ever there twice.
    pub recognizes: bool,
    /// Equal messages are to be counted, see [`Draft::count`].
    pub counts_copies: bool,
    /// Messages that should be committed together at most.
    pub most_at_once: usize,
    /// Batches of which it may be unknown to the record that they are delivered, the one that is being delivered included:
    /// so many does a crash repeat where the target does not know its messages again.
    pub most_unrecorded: usize,
    /// Complete messages that may wait for their turn; those that lie in the spool may each have a file open.
    pub most_waiting: usize,
}

impl Sink {
    /// Opens the target of one account, creating it if it is missing and may be created.
    ///
    /// `maildrop` is the account's `maildrop_id`.
    pub async fn open(
        target: &Target,
        maildrop: Arc<str>,
        disk: Disk,
        access: Access,
    ) -> Result<Self, TargetError> {
        Ok(match target {
            Target::Maildir(path) => {
                Self::Maildir(maildir::Maildir::open(path, maildrop, disk, access.clock).await?)
            }
            Target::Mbox(path) => Self::Mbox(mbox::Mbox::open(path, disk, access.stop).await?),
            Target::Pipe(command) => Self::Pipe(pipe::Pipe::open(command, disk, access).await?),
            Target::Smtp(server) => {
                Self::Server(smtp::Server::open(server, Dialect::Smtp, disk, access).await?)
            }
            Target::Lmtp(server) => {
                Self::Server(smtp::Server::open(server, Dialect::Lmtp, disk, access).await?)
            }
            Target::Imap(mailbox) => {
                Self::Imap(imap::Mailbox::open(mailbox, target.to_string(), disk, access).await?)
            }
            Target::Gmail(gmail) => {
                let opening = gmail::Gmail::open(gmail, target.to_string(), disk, access);
                Self::Gmail(Box::pin(opening).await?)
            }
            Target::Http(receiver) => {
                Self::Http(http::Receiver::open(receiver, target.to_string(), disk, access).await?)
            }
        })
    }

    /// Takes stock after a session that did not end, or without a memory of one: what is there already is found
    /// again, and leftovers of this maildrop are removed. Gives the files of this maildrop that are there. Called before
    /// the first draft, if at all. `oldest`: when the oldest message arrived that may be there, in seconds since 1970, where
    /// [`imap::Mailbox::looks_far_back`] wants to know.
    pub async fn recover(&self, oldest: Option<i64>) -> Result<Vec<FileId>, TargetError> {
        match self {
            Self::Maildir(maildir) => maildir.recover().await,
            Self::Imap(mailbox) => mailbox.recover(oldest).await,
            // Nothing in it tells which messages are there; what a server took is the server's.
            Self::Mbox(_) | Self::Pipe(_) | Self::Server(_) | Self::Gmail(_) | Self::Http(_) => {
                Ok(Vec::new())
            }
        }
    }

    /// Gives the mailbox on a server that it is, if it is one: what is in it is known by UIDs, and is others' as well.
    pub fn mailbox(&self) -> Option<&imap::Mailbox> {
        match self {
            Self::Imap(mailbox) => Some(mailbox),
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Server(_)
            | Self::Gmail(_)
            | Self::Http(_) => None,
        }
    }

    /// Gives the row of what holds for its kind.
    pub fn facts(&self) -> Facts {
        let usual = Facts {
            recognizes: false,
            counts_copies: false,
            most_at_once: 1,
            most_unrecorded: 2,
            most_waiting: 32,
        };
        match self {
            // Messages share the cost of making them durable.
            Self::Maildir(_) => {
                Facts { recognizes: true, most_at_once: usize::MAX, most_waiting: 256, ..usual }
            }
            Self::Mbox(_) => Facts { most_at_once: usize::MAX, ..usual },
            // The command may keep the record from the processor until it ends; and of single messages that much is little.
            Self::Pipe(_) => Facts { most_unrecorded: 3, ..usual },
            // One round trip more for so many.
            Self::Server(_) => Facts { most_at_once: 32, ..usual },
            Self::Imap(_) => Facts { recognizes: true, most_at_once: 64, most_waiting: 64, ..usual },
            // Gmail knows a message again by its Message-ID, and an endpoint may by the key; nobody hears of it.
            Self::Gmail(_) | Self::Http(_) => Facts { counts_copies: true, most_unrecorded: 3, ..usual },
        }
    }

    /// Gives what is wrong with the target's server, if it is one.
    fn faults(&self) -> Option<&Faults> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Server(server) => Some(server.faults()),
            Self::Imap(mailbox) => Some(mailbox.faults()),
            Self::Gmail(gmail) => Some(gmail.faults()),
            Self::Http(receiver) => Some(receiver.faults()),
        }
    }

    /// Says whether the server refused a log-in that was made anew since the target was opened.
    pub fn was_turned_away(&self) -> bool {
        self.faults().is_some_and(|faults| faults.turned_away.load(Relaxed))
    }

    /// Says whether a server that hears of the credentials with each message, and not before, has taken them; `None`: it is
    /// no such server.
    pub fn was_let_in(&self) -> Option<bool> {
        match self {
            Self::Maildir(_)
            | Self::Mbox(_)
            | Self::Pipe(_)
            | Self::Server(_)
            | Self::Imap(_)
            | Self::Gmail(_) => None,
            Self::Http(receiver) => Some(receiver.was_let_in()),
        }
    }

    /// Takes the ids under which the target had messages of this maildrop, if it is one that tells merged ones by that.
    pub fn know(&self, files: Vec<FileId>) {
        if let Self::Gmail(gmail) = self {
            gmail.know(files);
        }
    }

    /// Says whether [`Self::know`] is to be told.
    pub fn has_ids(&self) -> bool {
        matches!(self, Self::Gmail(_))
    }

    pub fn draft(&self, message: MessageId) -> Draft {
        match self {
            Self::Maildir(maildir) => Draft::Maildir(maildir.draft(message)),
            Self::Mbox(mbox) => Draft::Spool(mbox.draft(message)),
            Self::Pipe(pipe) => Draft::Spool(pipe.draft(message)),
            Self::Server(server) => Draft::Spool(server.draft(message)),
            Self::Imap(mailbox) => Draft::Spool(mailbox.draft(message)),
            Self::Gmail(gmail) => Draft::Spool(gmail.draft(message)),
            Self::Http(receiver) => Draft::Spool(receiver.draft(message)),
        }
    }

    /// Delivers finished messages together, sharing the cost of making them durable; one outcome for each, in order.
    ///
    /// After an error, or if the future is dropped, none of them counts as delivered, and yet some may have become
    /// visible: the session must stay open in the state, so that the next one begins with [`Sink::recover`].
    pub async fn commit(&self, finished: Vec<Finished>) -> Result<Vec<Outcome>, TargetError> {
        const OWN: &str = "a sink gets its own messages back";
        match self {
            Self::Maildir(maildir) => {
                let own = |message| match message {
                    Finished::Maildir(message) => message,
                    Finished::Spool(_) => unreachable!("{OWN}"),
                };
                maildir.commit(finished.into_iter().map(own).collect()).await
            }
            Self::Mbox(mbox) => mbox.commit(finished.into_iter().map(spooled).collect()).await,
            Self::Pipe(pipe) => pipe.commit(finished.into_iter().map(spooled).collect()).await,
            Self::Server(server) => server.commit(finished.into_iter().map(spooled).collect()).await,
            Self::Imap(mailbox) => mailbox.commit(finished.into_iter().map(spooled).collect()).await,
            Self::Gmail(gmail) => Box::pin(gmail.commit(finished.into_iter().map(spooled).collect())).await,
            Self::Http(receiver) => {
                // Its futures are large.
                Box::pin(receiver.commit(finished.into_iter().map(spooled).collect())).await
            }
        }
    }

    /// Gives why messages of the last commit were [`Outcome::NotTried`].
    pub fn failure(&self) -> Option<TargetError> {
        lock(&self.faults()?.failure).take()
    }

    /// Says of how many of the messages that were [`Outcome::Later`] last the [`Sink::failure`] after them has shown that
    /// it was the target's trouble and not theirs: they count as [`Outcome::NotTried`].
    pub fn retracted(&self) -> usize {
        match self {
            Self::Server(server) => server.retracted(),
            other => other.faults().map_or(0, |faults| faults.stalls.retracted()),
        }
    }

    /// Gives what is to be remembered of the target's server until the next session, if it has changed: octets that
    /// only the sink understands.
    pub fn news(&self) -> Option<Vec<u8>> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Server(server) => server.news(),
            Self::Imap(mailbox) => mailbox.news(),
            Self::Gmail(gmail) => gmail.news(),
            Self::Http(receiver) => receiver.news(),
        }
    }

    /// Ends the use of the target; what is delivered is delivered without it.
    pub async fn close(&self) {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => {}
            Self::Server(server) => server.close().await,
            Self::Imap(mailbox) => mailbox.close().await,
            Self::Gmail(gmail) => gmail.close(),
            Self::Http(receiver) => receiver.close(),
        }
    }
}

fn spooled(message: Finished) -> spool::Finished {
    match message {
        Finished::Spool(message) => message,
        Finished::Maildir(_) => unreachable!("a sink gets its own messages back"),
    }
}

impl Spooled {
    /// Writes the message into another draft.
    ///
    /// # Errors
    ///
    /// The draft's, and that of the spool's file.
    pub async fn copy_into(&self, draft: &mut Draft) -> Result<(), TargetError> {
        match &self.content {
            Content::Memory(octets) => fill(draft, octets.as_ref()).await,
            Content::File(file) => {
                let failed = |source| file_error("read", &disk::spool_directory(), source);
                let mut parts = reading::Parts::of(file, self.octets).map_err(failed)?;
                while parts.are_left() {
                    fill(draft, &parts.next().await.map_err(failed)?).await?;
                }
                Ok(())
            }
        }
    }
}

/// Octets that are written into a draft at once.
const SLICE: usize = 32 << 10;

async fn fill(draft: &mut Draft, octets: &[u8]) -> Result<(), TargetError> {
    for slice in octets.chunks(SLICE) {
        draft.write(slice);
        if draft.is_full() {
            draft.flush().await?;
        }
    }
    Ok(())
}

impl Finished {
    /// Says how many octets of it lie in the spool, or will.
    pub fn spooled_octets(&self) -> u64 {
        match self {
            Self::Maildir(_) => 0,
            Self::Spool(message) => message.octets(),
        }
    }

    /// Waits until the whole message lies in the spool, for a draft that [`Draft::for_several`] began.
    ///
    /// # Errors
    ///
    /// There is no room for it, or the spool's file could not be written.
    pub async fn spooled(self) -> Result<Spooled, spool::Unspooled> {
        spooled(self).spooled().await
    }
}

impl Draft {
    /// Begins a message that goes to several targets.
    pub fn for_several(disk: &Disk, message: MessageId) -> Self {
        Self::Spool(spool::Draft::new(disk, message, spool::LineEnds::Any))
    }

    /// Takes octets as the server sent them, dot-unstuffed, line ends CRLF. Never waits; see [`Draft::is_full`].
    pub fn write(&mut self, octets: &[u8]) {
        match self {
            Self::Maildir(draft) => draft.write(octets),
            Self::Spool(draft) => draft.write(octets),
        }
    }

    /// Says that [`Draft::flush`] should be awaited before more is written.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Maildir(draft) => draft.is_full(),
            Self::Spool(draft) => draft.is_full(),
        }
    }

    /// Waits until there is room again. Safe to drop and call again.
    pub async fn flush(&mut self) -> Result<(), TargetError> {
        match self {
            Self::Maildir(draft) => draft.flush().await,
            Self::Spool(draft) => draft.flush().await,
        }
    }

    /// Says what the message consists of, and which file may be it already: one that no record claims. Without this, any
    /// file may be it that has its unique-id's digest in its name. A message that had no name gets one.
    pub fn identify(&mut self, uid: &UniqueId, ordinal: u32, whole: &Fingerprint, unclaimed: Option<FileId>) {
        match self {
            Self::Maildir(draft) => draft.identify(&whole.content, unclaimed),
            Self::Spool(draft) => draft.identify(uid.clone(), ordinal, whole, unclaimed),
        }
    }

    /// Gives the file that the message has once it is delivered, if it has one of its own.
    pub fn file(&self) -> Option<FileId> {
        match self {
            Self::Maildir(draft) => Some(draft.file()),
            Self::Spool(_) => None,
        }
    }

    /// Says how many equal messages of its maildrop the target had before this session.
    pub fn count(&mut self, copies: u32) {
        match self {
            // Its name counts them.
            Self::Maildir(_) => {}
            Self::Spool(draft) => draft.count(copies),
        }
    }

    /// Names recipients who have the message from an earlier session and do not get it again.
    pub fn spare(&mut self, recipients: Vec<String>) {
        match self {
            // It has one owner.
            Self::Maildir(_) => {}
            Self::Spool(draft) => draft.spare(recipients),
        }
    }

    /// Ends the message: all of it has been written.
    pub fn finish(self) -> Finished {
        match self {
            Self::Maildir(draft) => Finished::Maildir(draft.finish()),
            Self::Spool(draft) => Finished::Spool(draft.finish()),
        }
    }
}
