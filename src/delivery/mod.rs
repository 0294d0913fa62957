//! Delivery targets: a message goes into a [`Draft`], and once complete through [`Sink::commit`] to where it stays.
//!
//! Knows nothing of POP3. The states of a message: draft (no reader sees it, dropping it leaves no trace), finished
//! (complete, not yet promised), and then one [`Outcome`].

pub mod disk;
pub mod durable;
pub mod envelope;
pub mod maildir;
pub mod mbox;
mod moving;
mod owner;
mod parts;
pub mod pipe;
mod room;
pub mod smtp;
mod space;
pub mod spool;
mod watched;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::watch;

use crate::clock::WallClock;
use crate::config::Target;
use crate::failure::Class;
use crate::message::{Content, FileId};
use crate::net::Connector;
use crate::pop3::UniqueId;
use crate::secret::Secret;
use crate::smtp::Dialect;

pub use disk::Disk;
pub use space::has_room;

/// Names one message for good: the maildrop's identity, the unique-id, and which of those that share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The account's `maildrop_id`.
    pub maildrop: Arc<str>,
    /// The server's unique-id (or a fingerprint where the server has none).
    pub uid: UniqueId,
    /// 0 for the first message in the listing that shows this unique-id, 1 for the second, ...
    pub ordinal: u32,
}

/// What became of a finished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the target and stays there whatever happens: file and directory are durable.
    Delivered,
    /// The identical message was already there (and is durable now); nothing was added.
    AlreadyThere,
    /// The target could not take it now; the reason is for the user.
    Later(String),
    /// The target does not want it; the reason is for the user.
    Refused(String),
    /// Some recipients have it, and others do not.
    Partly {
        /// Who has it, those of earlier sessions included.
        delivered: Vec<String>,
        /// Why others have not; for the user.
        reason: String,
        /// Whether one of them may get it later.
        others: Others,
    },
    /// It was not this message's turn: the target failed before, and [`Sink::failure`] says how, or the process was
    /// asked to end.
    NotTried,
}

/// What may become of recipients who did not get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// At least one could not get it now.
    Later,
    /// All of them were refused.
    Refused,
}

/// What a target is used with, besides what its configuration says.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The account's name, for the log.
    pub account: String,
    /// Makes the connections.
    pub connector: Connector,
    /// The password of the target's user, if it has one.
    pub secret: Option<Secret>,
    /// The longest wait for a connection.
    pub timeout: Duration,
    /// Tells when the process was asked to end.
    pub stop: Stop,
    /// What [`Sink::news`] said in an earlier session.
    pub remembered: Option<Vec<u8>>,
    /// Tells the time that names of files begin with, and when what a server lost is tried again.
    pub clock: WallClock,
}

/// How long a message that is being delivered may take once the process was asked to end.
const GRACE: Duration = Duration::from_secs(4);

/// Tells when the process was asked to end. Where messages are delivered one after the other, none is begun from then
/// on.
#[derive(Debug, Clone, Default)]
pub struct Stop(Option<watch::Receiver<bool>>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// Resolves once the process was asked to end.
    async fn set(&self) {
        if let Some(stop) = &self.0
            && stop.clone().wait_for(|stop| *stop).await.is_ok()
        {
            return;
        }
        // Nobody is there who could ask.
        std::future::pending::<()>().await;
    }
}

impl From<watch::Receiver<bool>> for Stop {
    /// True is the request to end.
    fn from(stop: watch::Receiver<bool>) -> Self {
        Self(Some(stop))
    }
}

/// The target as a whole failed: no message can be delivered until someone or something mends it.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// An operation on a file or directory failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// A verb: `create`, `make durable`.
        doing: &'static str,
        /// What it was about.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The target is something that mail must not be written into.
    #[error("{}: {what}", .path.display())]
    Unfit {
        /// The configured path.
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
    /// A command cannot be run, or not as the user that it should be run as.
    #[error("cannot run {command}: {what}")]
    Command {
        /// The program.
        command: String,
        /// Why not.
        what: String,
        /// What to do, if that is known.
        hint: Option<String>,
    },
    /// A server cannot be reached, does not let us in, or went away.
    #[error(transparent)]
    Server(Box<ServerError>),
}

/// What happened to a target that is a server.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct ServerError {
    /// `localhost:25`, `/run/dovecot/lmtp`.
    pub place: String,
    /// What happened.
    pub what: String,
    /// The server's own words, if it said any.
    pub said: Option<Vec<u8>>,
    /// What the user can do, if that is known.
    pub hint: Option<String>,
    /// What kind of trouble it is.
    pub class: Class,
}

impl TargetError {
    /// Gives what the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let (path, source) = match self {
            Self::File { path, source, .. } => (path.display(), source),
            // It says what to do.
            Self::Unfit { .. } => return None,
            Self::Command { hint, .. } => return hint.clone(),
            Self::Server(error) => return error.hint.clone(),
        };
        if source.kind() == io::ErrorKind::TimedOut {
            return Some(SILENT.to_owned());
        }
        let errno = Errno::from_raw(source.raw_os_error()?);
        Some(match errno {
            Errno::EACCES | Errno::EPERM => {
                let user = nix::unistd::geteuid();
                format!(
                    "check who may write there: this runs as user {user}, {path} and what is above it say who may"
                )
            }
            Errno::EROFS => {
                "the file system is mounted read-only; a disk that failed is often found like that".into()
            }
            Errno::ENOSPC => {
                "free space or inodes on that file system (df, df -i); nothing is lost meanwhile".into()
            }
            Errno::EDQUOT => "free space, or have the quota raised; nothing is lost meanwhile".into(),
            Errno::ENOTDIR => "something in the path is a file; give the path of a directory".into(),
            Errno::EIO => "the disk failed; see the kernel's log (dmesg) and save what is there".into(),
            Errno::ENOENT => "it was removed, or a symbolic link in the path leads nowhere".into(),
            Errno::EMFILE | Errno::ENFILE => "raise the limit of open files, or lower max_sessions".into(),
            _ => return None,
        })
    }

    /// Tells the same once more.
    fn again(&self) -> Self {
        match self {
            Self::File { doing, path, source } => Self::File {
                doing,
                path: path.clone(),
                source: match source.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::new(source.kind(), source.to_string()),
                },
            },
            Self::Unfit { path, what } => Self::Unfit { path: path.clone(), what: what.clone() },
            Self::Command { command, what, hint } => {
                Self::Command { command: command.clone(), what: what.clone(), hint: hint.clone() }
            }
            Self::Server(error) => Self::Server(error.clone()),
        }
    }
}

/// What to do about a file system that does not answer.
const SILENT: &str =
    "see whether the server or disk behind that path is there; nothing is lost, and other accounts go on";

/// One account's open target.
///
/// Cheap to clone; drafts and commits may go on at the same time.
#[derive(Debug, Clone)]
pub enum Sink {
    /// See [`maildir`].
    Maildir(maildir::Maildir),
    /// See [`mbox`].
    Mbox(mbox::Mbox),
    /// See [`pipe`].
    Pipe(pipe::Pipe),
    /// See [`smtp`].
    Server(smtp::Server),
}

/// A message that is being received; dropping it leaves no trace of it.
#[derive(Debug)]
pub enum Draft {
    /// See [`maildir`].
    Maildir(maildir::Draft),
    /// See [`spool`].
    Spool(spool::Draft),
}

/// A message that was received whole.
#[derive(Debug)]
pub enum Finished {
    /// See [`maildir`].
    Maildir(maildir::Finished),
    /// See [`spool`].
    Spool(spool::Finished),
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
        let (stop, clock) = (access.stop.clone(), access.clock.clone());
        let server =
            async |server, protocol| smtp::Server::open(server, protocol, disk.clone(), access).await;
        Ok(match target {
            Target::Maildir(path) => {
                Self::Maildir(maildir::Maildir::open(path, maildrop, disk.clone(), clock).await?)
            }
            Target::Mbox(path) => Self::Mbox(mbox::Mbox::open(path, disk.clone(), stop).await?),
            Target::Pipe(command) => Self::Pipe(pipe::Pipe::open(command, disk.clone(), stop).await?),
            Target::Smtp(target) => Self::Server(server(target, Dialect::Smtp).await?),
            Target::Lmtp(target) => Self::Server(server(target, Dialect::Lmtp).await?),
        })
    }

    /// Takes stock after a session that did not end, or without a memory of one: what is there already is found
    /// again, and leftovers of this maildrop are removed. Gives the files of this maildrop that are there. Called before
    /// the first draft, if at all.
    pub async fn recover(&self) -> Result<Vec<FileId>, TargetError> {
        match self {
            Self::Maildir(maildir) => maildir.recover().await,
            // Nothing in it tells which messages are there; what a server took is the server's.
            Self::Mbox(_) | Self::Pipe(_) | Self::Server(_) => Ok(Vec::new()),
        }
    }

    /// Says whether the target knows a message again that it has, so that none is ever there twice.
    pub fn recognizes(&self) -> bool {
        match self {
            Self::Maildir(_) => true,
            Self::Mbox(_) | Self::Pipe(_) | Self::Server(_) => false,
        }
    }

    /// Begins a message.
    pub fn draft(&self, message: MessageId) -> Draft {
        match self {
            Self::Maildir(maildir) => Draft::Maildir(maildir.draft(message)),
            Self::Mbox(mbox) => Draft::Spool(mbox.draft(message)),
            Self::Pipe(pipe) => Draft::Spool(pipe.draft(message)),
            Self::Server(server) => Draft::Spool(server.draft(message)),
        }
    }

    /// Says how many messages should be committed together at most.
    pub fn most_at_once(&self) -> usize {
        match self {
            // They share the cost of making them durable.
            Self::Maildir(_) | Self::Mbox(_) => usize::MAX,
            // One round trip more for so many.
            Self::Server(_) => 32,
            Self::Pipe(_) => 1,
        }
    }

    /// Says of how many batches at once it may be unknown to the record that they are delivered, the one that is being
    /// delivered included: so many does a crash repeat where the target does not know its messages again.
    pub fn most_unrecorded(&self) -> usize {
        match self {
            // One is recorded while the next is delivered.
            Self::Maildir(_) | Self::Mbox(_) | Self::Server(_) => 2,
            // The command may keep the record from the processor until it ends.
            Self::Pipe(_) => 3,
        }
    }

    /// Says how many complete messages may wait for their turn; those that lie in the spool may each have a file open.
    pub fn most_waiting(&self) -> usize {
        match self {
            Self::Maildir(_) => 256,
            Self::Mbox(_) | Self::Pipe(_) | Self::Server(_) => 32,
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
        }
    }

    /// Gives why messages of the last commit were [`Outcome::NotTried`].
    pub fn failure(&self) -> Option<TargetError> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Server(server) => server.failure(),
        }
    }

    /// Says of how many of the messages that were [`Outcome::Later`] last the [`Sink::failure`] after them has shown that
    /// it was the target's trouble and not theirs: they count as [`Outcome::NotTried`].
    pub fn retracted(&self) -> usize {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => 0,
            Self::Server(server) => server.retracted(),
        }
    }

    /// Gives what is to be remembered of the target's server until the next session, if it has changed: octets that
    /// only the sink understands.
    pub fn news(&self) -> Option<Vec<u8>> {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => None,
            Self::Server(server) => server.news(),
        }
    }

    /// Ends the use of the target; what is delivered is delivered without it.
    pub async fn close(&self) {
        match self {
            Self::Maildir(_) | Self::Mbox(_) | Self::Pipe(_) => {}
            Self::Server(server) => server.close().await,
        }
    }
}

/// Where there is no room for a message of more octets than this, there may be for others, which are mostly smaller: it
/// must not keep them away for ever. Where there is none for one of fewer, there is none for anybody.
const LARGE: u64 = 64 << 10;

/// Says whether something could not be written for want of space or quota, or because files may not be that long.
fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG))
}

fn spooled(message: Finished) -> spool::Finished {
    match message {
        Finished::Spool(message) => message,
        Finished::Maildir(_) => unreachable!("a sink gets its own messages back"),
    }
}

impl Draft {
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
    pub fn identify(&mut self, uid: &UniqueId, ordinal: u32, content: &Content, unclaimed: Option<FileId>) {
        match self {
            Self::Maildir(draft) => draft.identify(content, unclaimed),
            Self::Spool(draft) => draft.rename(uid.clone(), ordinal),
        }
    }

    /// Gives the file that the message has once it is delivered, if it has one of its own.
    pub fn file(&self) -> Option<FileId> {
        match self {
            Self::Maildir(draft) => Some(draft.file()),
            Self::Spool(_) => None,
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
