//! A message on its way into a maildir.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::name::{self, Named};
use super::tmp::{Content, Stored, TmpFile, Unstored};
use super::{Shared, lost};
use crate::delivery::disk::{Buffer, Waited};
use crate::delivery::durable::FileSystem;
use crate::delivery::{MessageId, TargetError};
use crate::message::ToLf;

/// Messages up to this size are written in one visit of a worker when they are complete; larger ones go to their file
/// in parts of at least this size while they come.
const SPILL: usize = 64 << 10;

/// Octets that may gather while a worker writes the part before. On a busy machine a worker may wait longer for its
/// turn than a part takes to come in, and the network would wait with it: with no more than a part in each hand, a
/// message of 512 MiB took 1.14 times as long as mpop needs for it.
const AHEAD: usize = 256 << 10;

/// See [`crate::delivery::Draft`].
#[derive(Debug)]
pub struct Draft {
    shared: Arc<Shared>,
    message: Named,
    to_lf: ToLf,
    /// Octets that were not handed to a worker.
    buffer: Buffer,
    /// A used buffer, to be filled again.
    spare: Option<Buffer>,
    spill: Spill,
}

/// Where the octets are that are not in the buffer.
#[derive(Debug)]
enum Spill {
    /// There are none.
    None,
    /// In a file.
    Here(TmpFile),
    /// In a file that a worker is appending to; it comes back with the emptied buffer.
    Away(oneshot::Receiver<Result<(TmpFile, Buffer), Unstored>>),
    /// Lost; the message cannot be stored any more.
    Failed(Unstored),
}

/// See [`crate::delivery::Finished`].
#[derive(Debug)]
pub struct Finished(Ending);

#[derive(Debug)]
enum Ending {
    Coming(oneshot::Receiver<Result<Stored, Unstored>>),
    Failed(Unstored),
}

impl Draft {
    pub(super) fn new(shared: Arc<Shared>, message: Named) -> Self {
        let buffer = Buffer::new(shared.disk.room());
        Self { shared, message, to_lf: ToLf::default(), buffer, spare: None, spill: Spill::None }
    }

    pub(in crate::delivery) fn write(&mut self, octets: &[u8]) {
        self.look_after_spill();
        if let Spill::Failed(_) = self.spill {
            return;
        }
        let to_lf = &mut self.to_lf;
        self.buffer.fill(|held| to_lf.convert(octets, held));
        if self.buffer.octets().len() >= SPILL {
            self.spill();
        }
    }

    pub(in crate::delivery) fn is_full(&self) -> bool {
        let held = self.buffer.octets().len();
        match &self.spill {
            Spill::Failed(Unstored::Target(_)) => true,
            // What comes is thrown away.
            Spill::Failed(Unstored::Refused(_) | Unstored::Later(_)) => false,
            Spill::Away(_) if held >= AHEAD => true,
            Spill::None | Spill::Here(_) | Spill::Away(_) => self.shared.disk.room().makes_wait(held),
        }
    }

    /// Whatever is awaited here stays in `self` until it is there, so that this may be dropped and called again.
    pub(in crate::delivery) async fn flush(&mut self) -> Result<(), TargetError> {
        if self.buffer.octets().len() >= SPILL {
            self.await_spill().await;
            self.spill();
        }
        if self.shared.disk.room().wait().await == Waited::InVain && !self.buffer.octets().is_empty() {
            self.await_spill().await;
            self.spill();
            self.await_spill().await;
        }
        self.look_after_spill();
        match &self.spill {
            Spill::Failed(Unstored::Target(error)) => Err(error.again()),
            Spill::Failed(Unstored::Refused(_) | Unstored::Later(_))
            | Spill::None
            | Spill::Here(_)
            | Spill::Away(_) => Ok(()),
        }
    }

    pub(in crate::delivery) fn identify(&mut self, message: MessageId) {
        self.message.digest = name::digest(&message);
    }

    pub(in crate::delivery) fn finish(mut self) -> Finished {
        self.look_after_spill();
        let to_lf = &mut self.to_lf;
        self.buffer.fill(|held| to_lf.finish(held));
        let Self { shared, message, buffer, spill, .. } = self;
        let buffer = buffer.leaving();
        let (done, stored) = oneshot::channel();
        match spill {
            Spill::None => store(shared, message, buffer, done),
            Spill::Here(file) => end(&shared, file, message, buffer, done),
            Spill::Away(mut coming) => match Handle::try_current() {
                Ok(runtime) => {
                    let following = shared.disk.following();
                    drop(runtime.spawn(async move {
                        match coming.await {
                            Ok(Ok((file, _))) => end(&shared, file, message, buffer, done),
                            Ok(Err(error)) => drop(done.send(Err(error))),
                            Err(_) => drop(done.send(Err(Unstored::Target(lost_part(&shared))))),
                        }
                        drop(following);
                    }));
                }
                // Without a runtime, work was done at once and never away.
                Err(_) => coming.close(),
            },
            Spill::Failed(error) => return Finished(Ending::Failed(error)),
        }
        Finished(Ending::Coming(stored))
    }

    /// Hands the buffer to a worker, to be appended to the file; nothing if one is at it.
    fn spill(&mut self) {
        let file = match std::mem::replace(&mut self.spill, Spill::None) {
            Spill::None => None,
            Spill::Here(file) => Some(file),
            other @ (Spill::Away(_) | Spill::Failed(_)) => {
                self.spill = other;
                return;
            }
        };
        let next = self.spare.take().unwrap_or_else(|| Buffer::new(self.shared.disk.room()));
        let part = std::mem::replace(&mut self.buffer, next).leaving();
        let (shared, message) = (self.shared.clone(), self.message);
        let (done, coming) = oneshot::channel();
        self.shared.disk.queue_work(move |files| {
            // If nobody listens, the draft was abandoned, and the file is removed as it is dropped.
            drop(done.send(append(&shared, files, message, file, part)));
        });
        self.spill = Spill::Away(coming);
    }

    /// Notices that a worker is done.
    fn look_after_spill(&mut self) {
        if let Spill::Away(coming) = &mut self.spill {
            match coming.try_recv() {
                Ok(back) => self.take_back(Ok(back)),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => self.take_back(Err(())),
            }
        }
    }

    async fn await_spill(&mut self) {
        if let Spill::Away(coming) = &mut self.spill {
            let back = coming.await.map_err(drop);
            self.take_back(back);
        }
    }

    fn take_back(&mut self, back: Result<Result<(TmpFile, Buffer), Unstored>, ()>) {
        self.spill = match back {
            Ok(Ok((file, buffer))) => {
                // Kept only while nobody needs the room.
                self.spare = (!self.shared.disk.room().is_full()).then_some(buffer);
                Spill::Here(file)
            }
            Ok(Err(error)) => Spill::Failed(error),
            Err(()) => Spill::Failed(Unstored::Target(lost_part(&self.shared))),
        };
        if let Spill::Failed(_) = self.spill {
            // What cannot be stored need not take room.
            self.buffer = Buffer::new(self.shared.disk.room());
        }
    }
}

impl Finished {
    pub(super) async fn stored(self, shared: &Shared) -> Result<Stored, Unstored> {
        match self.0 {
            Ending::Coming(stored) => {
                stored.await.unwrap_or_else(|_| Err(Unstored::Target(lost_part(shared))))
            }
            Ending::Failed(error) => Err(error),
        }
    }
}

/// Stores a message that is in memory whole.
fn store(
    shared: Arc<Shared>,
    message: Named,
    whole: Buffer,
    done: oneshot::Sender<Result<Stored, Unstored>>,
) {
    let disk = shared.disk.clone();
    disk.store(move |files| {
        match shared.is_there(files, &message.digest, Content::Octets(whole.octets())) {
            Ok(false) => {}
            Ok(true) => {
                drop(done.send(Ok(Stored::There)));
                return None;
            }
            Err(error) => {
                drop(done.send(Err(Unstored::Target(error))));
                return None;
            }
        }
        match append(&shared, files, message, None, whole) {
            Ok((mut file, whole)) => {
                drop(whole);
                file.start_writeback(files);
                Some(Box::new(move |files: &dyn FileSystem| {
                    drop(done.send(file.sync(files).map(Stored::New)))
                }))
            }
            Err(error) => {
                drop(done.send(Err(error)));
                None
            }
        }
    });
}

/// Stores the rest of a message that has a file.
fn end(
    shared: &Arc<Shared>,
    mut file: TmpFile,
    message: Named,
    rest: Buffer,
    done: oneshot::Sender<Result<Stored, Unstored>>,
) {
    file.identify(message);
    shared.disk.store(move |files| {
        let mut file = file;
        let appended = file.append(files, rest.octets());
        drop(rest);
        let there = appended.and_then(|()| file.is_there(files).map_err(Unstored::Target));
        match there {
            Ok(false) => {
                file.start_writeback(files);
                Some(Box::new(move |files: &dyn FileSystem| {
                    drop(done.send(file.sync(files).map(Stored::New)))
                }))
            }
            Ok(true) => {
                file.discard(files);
                drop(done.send(Ok(Stored::There)));
                None
            }
            Err(error) => {
                file.discard(files);
                drop(done.send(Err(error)));
                None
            }
        }
    });
}

/// Appends a part to a message's file, making the file for the first one.
fn append(
    shared: &Arc<Shared>,
    files: &dyn FileSystem,
    message: Named,
    file: Option<TmpFile>,
    part: Buffer,
) -> Result<(TmpFile, Buffer), Unstored> {
    let mut file = match file {
        Some(file) => file,
        None => TmpFile::create(shared, files, message)?,
    };
    match file.append(files, part.octets()) {
        Ok(()) => Ok((file, part.cleared())),
        Err(error) => {
            file.discard(files);
            Err(error)
        }
    }
}

fn lost_part(shared: &Shared) -> TargetError {
    lost("write into", &shared.directories.tmp.path)
}
