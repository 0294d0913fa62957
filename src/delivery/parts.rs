//! A message's octets on their way into a file: they gather in memory, and workers append them in parts.

use std::io;
use std::path::PathBuf;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::TargetError;
use crate::disk::Disk;
use crate::disk::part::panicked;
use crate::disk::room::{Buffer, Waited};

/// Messages up to this size stay in memory until they are complete; larger ones go to a file in parts of at least this
/// size while they come.
pub(super) const SPILL: usize = 64 << 10;

/// Octets that may gather while a worker writes the part before. On a busy machine a worker may wait longer for its
/// turn than a part takes to come in, and the network would wait with it: with no more than a part in each hand, a
/// message of 512 MiB took 1.14 times as long as mpop needs for it.
const AHEAD: usize = 256 << 10;

/// What the parts are appended to.
pub(super) trait Destination: Clone + Send + 'static {
    /// The file; dropping it leaves no trace of it.
    type File: std::fmt::Debug + Send + 'static;
    /// Why a message cannot be stored.
    type Error: std::fmt::Debug + Send + 'static;

    /// Appends a part to a message's file, making the file for the first one; gives the buffer back, emptied.
    fn append(&self, file: Option<Self::File>, part: Buffer) -> Appended<Self>;

    /// Says whether an error ends the session; else what still comes of the message is thrown away.
    fn ends_session(error: &Self::Error) -> Option<&TargetError>;

    fn place(&self) -> PathBuf;

    /// What is said when a worker panicked, or does not come back.
    fn lost(&self, why: io::Error) -> Self::Error;
}

/// A file to which a part was appended, and the emptied buffer.
type Appended<D> = Result<(<D as Destination>::File, Buffer), <D as Destination>::Error>;

/// The octets of one message.
#[derive(Debug)]
pub(super) struct Parts<D: Destination> {
    disk: Disk,
    /// What the parts are appended to.
    pub(super) destination: D,
    /// Octets that were not handed to a worker.
    buffer: Buffer,
    /// A used buffer, to be filled again.
    spare: Option<Buffer>,
    spill: Spill<D>,
}

/// Where the octets are that are not in the buffer.
#[derive(Debug)]
enum Spill<D: Destination> {
    None,
    /// In a file.
    Here(D::File),
    /// In a file that a worker is appending to; it comes back with the emptied buffer.
    Away(oneshot::Receiver<Appended<D>>),
    /// Lost; the message cannot be stored any more.
    Failed(D::Error),
}

/// What becomes of a message that was received whole, while a worker is at it.
#[derive(Debug)]
pub(super) struct Ending<D: Destination, T> {
    disk: Disk,
    destination: D,
    coming: Result<oneshot::Receiver<Result<T, D::Error>>, D::Error>,
}

impl<D: Destination> Parts<D> {
    pub(super) fn new(disk: &Disk, destination: D) -> Self {
        let buffer = Buffer::new(disk.room());
        Self { disk: disk.clone(), destination, buffer, spare: None, spill: Spill::None }
    }

    /// Has octets put behind those that are there, unless the message is lost; gives their number. Never waits.
    pub(super) fn fill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.look_after_spill();
        if let Spill::Failed(_) = self.spill {
            return 0;
        }
        let before = self.buffer.octets().len();
        self.buffer.fill(fill);
        let held = self.buffer.octets().len();
        if held >= SPILL {
            self.spill();
        }
        held - before
    }

    /// See [`super::Draft::is_full`].
    pub(super) fn is_full(&self) -> bool {
        let held = self.buffer.octets().len();
        match &self.spill {
            Spill::Failed(error) => D::ends_session(error).is_some(),
            Spill::Away(_) if held >= AHEAD => true,
            Spill::None | Spill::Here(_) | Spill::Away(_) => self.disk.room().makes_wait(held),
        }
    }

    /// See [`super::Draft::flush`]. Whatever is awaited here stays in `self` until it is there, so that this may be
    /// dropped and called again.
    pub(super) async fn flush(&mut self) -> Result<(), TargetError> {
        if self.buffer.octets().len() >= SPILL {
            self.await_spill().await;
            self.spill();
        }
        if self.disk.room().wait().await == Waited::InVain && !self.buffer.octets().is_empty() {
            self.await_spill().await;
            self.spill();
            self.await_spill().await;
        }
        self.look_after_spill();
        match &self.spill {
            Spill::Failed(error) => D::ends_session(error).map_or(Ok(()), |error| Err(error.again())),
            Spill::None | Spill::Here(_) | Spill::Away(_) => Ok(()),
        }
    }

    /// Gives a message back that is in memory whole.
    pub(super) fn in_memory(self) -> Result<Buffer, Box<Self>> {
        match self.spill {
            Spill::None => Ok(self.buffer),
            Spill::Here(_) | Spill::Away(_) | Spill::Failed(_) => Err(Box::new(self)),
        }
    }

    /// Ends the message: `end` is given its file, if it has one, and the octets that are to be appended to it.
    pub(super) fn finish<T: Send + 'static>(
        self,
        end: impl FnOnce(D, Option<D::File>, Buffer, oneshot::Sender<Result<T, D::Error>>) + Send + 'static,
    ) -> Ending<D, T> {
        let Self { disk, destination, buffer, spill, .. } = self;
        let buffer = buffer.leaving();
        let (done, coming) = oneshot::channel();
        let mut ending = Ending { disk: disk.clone(), destination: destination.clone(), coming: Ok(coming) };
        match spill {
            Spill::None => end(destination, None, buffer, done),
            Spill::Here(file) => end(destination, Some(file), buffer, done),
            Spill::Away(part) => {
                // Without a runtime, work was done at once and never away.
                if let Ok(runtime) = Handle::try_current() {
                    let following = disk.following();
                    drop(runtime.spawn(async move {
                        match part.await {
                            Ok(Ok((file, _))) => end(destination, Some(file), buffer, done),
                            Ok(Err(error)) => drop(done.send(Err(error))),
                            Err(_) => drop(done.send(Err(destination.lost(panicked())))),
                        }
                        drop(following);
                    }));
                }
            }
            Spill::Failed(error) => ending.coming = Err(error),
        }
        ending
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
        let next = self.spare.take().unwrap_or_else(|| Buffer::new(self.disk.room()));
        let part = std::mem::replace(&mut self.buffer, next).leaving();
        let destination = self.destination.clone();
        let (done, coming) = oneshot::channel();
        self.disk.queue_work(move || {
            // If nobody listens, the draft was abandoned, and its file goes with it.
            drop(done.send(destination.append(file, part)));
        });
        self.spill = Spill::Away(coming);
    }

    /// Notices that a worker is done.
    fn look_after_spill(&mut self) {
        if let Spill::Away(coming) = &mut self.spill {
            match coming.try_recv() {
                Ok(back) => self.take_back(back),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.take_back(Err(self.destination.lost(panicked())));
                }
            }
        }
    }

    async fn await_spill(&mut self) {
        if let Spill::Away(coming) = &mut self.spill {
            let back = self.disk.answer(|| self.destination.place(), coming).await;
            self.take_back(back.unwrap_or_else(|why| Err(self.destination.lost(why))));
        }
    }

    fn take_back(&mut self, back: Appended<D>) {
        self.spill = match back {
            Ok((file, buffer)) => {
                // Kept only while nobody needs the room.
                self.spare = (!self.disk.room().is_full()).then_some(buffer);
                Spill::Here(file)
            }
            Err(error) => {
                // What cannot be stored need not take room.
                self.buffer = Buffer::new(self.disk.room());
                Spill::Failed(error)
            }
        };
    }
}

impl<D: Destination, T> Ending<D, T> {
    pub(super) async fn ended(self) -> Result<T, D::Error> {
        let Self { disk, destination, coming } = self;
        let answer = disk.answer(|| destination.place(), &mut coming?).await;
        answer.unwrap_or_else(|why| Err(destination.lost(why)))
    }
}
