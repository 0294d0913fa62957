//! A message on its way into a maildir.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::content::Content;
use super::name::{self, MayBe, Named};
use super::opened::Opened;
use super::tmp::{Stored, TmpFile, Unstored};
use crate::delivery::parts::{Destination, Ending, Parts};
use crate::delivery::{TargetError, file_error};
use crate::disk::room::Buffer;
use crate::message::{self, FileId, MessageId, ToLf};

/// See [`crate::delivery::Draft`]. A small message is written in one visit of a worker when it is complete.
#[derive(Debug)]
pub struct Draft {
    id: MessageId,
    to_lf: ToLf,
    parts: Parts<Tmp>,
}

/// See [`crate::delivery::Finished`].
#[derive(Debug)]
pub struct Finished(Ending<Tmp, Stored>);

/// A message of a maildir, in `tmp`.
#[derive(Debug, Clone)]
struct Tmp {
    opened: Arc<Opened>,
    message: Named,
}

impl Draft {
    pub(super) fn new(opened: Arc<Opened>, id: MessageId, message: Named) -> Self {
        let disk = opened.disk.clone();
        Self { id, to_lf: ToLf::default(), parts: Parts::new(&disk, Tmp { opened, message }) }
    }

    pub(crate) fn write(&mut self, octets: &[u8]) {
        self.parts.fill(|held| self.to_lf.convert(octets, held));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.parts.is_full()
    }

    pub(crate) async fn flush(&mut self) -> Result<(), TargetError> {
        self.parts.flush().await
    }

    pub(crate) fn identify(&mut self, content: &message::Content, unclaimed: Option<FileId>) {
        let message = &mut self.parts.destination.message;
        message.digest = name::digest_of(&self.id, content);
        message.may_be = unclaimed.map_or(MayBe::None, MayBe::File);
    }

    pub(crate) fn file(&self) -> FileId {
        self.parts.destination.message.file()
    }

    pub(crate) fn finish(mut self) -> Finished {
        self.parts.fill(|held| self.to_lf.finish(held));
        Finished(self.parts.finish(|Tmp { opened, message }, file, rest, done| match file {
            None => store(opened, message, rest, done),
            Some(file) => end(&opened, file, message, rest, done),
        }))
    }
}

impl Finished {
    pub(super) async fn stored(self) -> Result<Stored, Unstored> {
        self.0.ended().await
    }
}

impl Destination for Tmp {
    type File = TmpFile;
    type Error = Unstored;

    fn append(&self, file: Option<TmpFile>, part: Buffer) -> Result<(TmpFile, Buffer), Unstored> {
        append(&self.opened, self.message, file, part)
    }

    fn ends_session(error: &Unstored) -> Option<&TargetError> {
        match error {
            Unstored::Target(error) => Some(error),
            Unstored::Refused(_) | Unstored::Later(_) => None,
        }
    }

    fn place(&self) -> PathBuf {
        self.opened.directories.tmp.path.clone()
    }

    fn lost(&self, why: io::Error) -> Unstored {
        Unstored::Target(file_error("write into", &self.opened.directories.tmp.path, why))
    }
}

/// Stores a message that is in memory whole.
fn store(
    opened: Arc<Opened>,
    message: Named,
    whole: Buffer,
    done: oneshot::Sender<Result<Stored, Unstored>>,
) {
    let disk = opened.disk.clone();
    disk.store(move || {
        match opened.is_there(&message, Content::Octets(whole.octets())) {
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
        match append(&opened, message, None, whole) {
            Ok((mut file, whole)) => {
                drop(whole);
                file.start_writeback();
                Some(Box::new(move || drop(done.send(file.sync().map(Stored::New)))))
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
    opened: &Arc<Opened>,
    mut file: TmpFile,
    message: Named,
    rest: Buffer,
    done: oneshot::Sender<Result<Stored, Unstored>>,
) {
    file.identify(message);
    opened.disk.store(move || {
        let mut file = file;
        let appended = file.append(rest.octets());
        drop(rest);
        let there = appended.and_then(|()| file.is_there().map_err(Unstored::Target));
        match there {
            Ok(false) => {
                file.start_writeback();
                Some(Box::new(move || drop(done.send(file.sync().map(Stored::New)))))
            }
            Ok(true) => {
                file.discard();
                drop(done.send(Ok(Stored::There)));
                None
            }
            Err(error) => {
                file.discard();
                drop(done.send(Err(error)));
                None
            }
        }
    });
}

/// Appends a part to a message's file, making the file for the first one.
fn append(
    opened: &Arc<Opened>,
    message: Named,
    file: Option<TmpFile>,
    part: Buffer,
) -> Result<(TmpFile, Buffer), Unstored> {
    let mut file = match file {
        Some(file) => file,
        None => TmpFile::create(opened, message)?,
    };
    match file.append(part.octets()) {
        Ok(()) => Ok((file, part.cleared())),
        Err(error) => {
            file.discard();
            Err(error)
        }
    }
}
