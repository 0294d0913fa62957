//! The spool: a message on its way into a target that takes it only when it is complete.
//!
//! An mbox is locked only while it is appended to, a command's standard input must end where the message ends, and a
//! mail server takes a size first. So these targets get the message whole: small ones in memory, larger ones in a
//! file that has no name. Nothing of it outlives the process, and nothing of it needs to be durable: until the target
//! has taken the message, the server has it.

use std::fs::File;
use std::io::{self, Read, Seek};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::disk::{Buffer, Waited};
use super::durable::{FileSystem, OpenFile};
use super::{Disk, MessageId, TargetError};
use crate::message::{ToCrlf, ToLf};

/// Messages up to this size stay in memory; larger ones go to a file in parts of at least this size.
const SPILL: usize = 64 << 10;
/// Octets that may gather while a part is written.
const AHEAD: usize = 256 << 10;
/// Octets of the header section that are kept for a look at its fields.
const HEADER: usize = 64 << 10;

/// What ends a line in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnds {
    /// As in files: CRLF becomes LF, and nothing else changes.
    Lf,
    /// As in SMTP: every LF has a CR before it (RFC 5321, 2.3.8), whatever the server sent.
    Crlf,
}

/// Where a message lies that would fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Small {
    /// There.
    InMemory,
    /// In a file as the large ones, which is made before anybody waits for it.
    InFile,
}

/// A message that comes in; see [`super::Draft`].
#[derive(Debug)]
pub struct Draft {
    disk: Disk,
    small: Small,
    id: MessageId,
    reached: Vec<String>,
    line_ends: Conversion,
    header: HeaderSection,
    octets: u64,
    /// Octets that are not in the file.
    buffer: Buffer,
    spill: Spill,
}

/// A message that came in whole; what does not fit into memory may still be on its way to the file.
#[derive(Debug)]
pub struct Finished {
    id: MessageId,
    reached: Vec<String>,
    header: Vec<u8>,
    octets: u64,
    content: Ending,
}

/// A message that lies in the spool.
#[derive(Debug)]
pub struct Spooled {
    /// Which message it is.
    pub id: MessageId,
    /// Recipients who have it from an earlier session.
    pub reached: Vec<String>,
    /// The header section as the server sent it, without the empty line that ends it; the first 64 KiB.
    pub header: Vec<u8>,
    /// Octets of the content.
    pub octets: u64,
    /// The message, with the line ends that were asked for.
    pub content: Content,
}

/// Why a message does not lie in the spool.
#[derive(Debug)]
pub enum Unspooled {
    /// There is no room for this one, which is large, and may be for others; the reason is for the user.
    Later(String),
    /// The disk's fault.
    Disk(TargetError),
}

/// The octets of a message.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Octets),
    /// In a file without a name, which is read from its start.
    File(File),
}

/// Octets in memory; they count against the bound on the memory of all messages until they are dropped.
#[derive(Debug)]
pub struct Octets(Buffer);

impl Draft {
    /// Begins a message.
    pub fn new(disk: &Disk, id: MessageId, line_ends: LineEnds, small: Small) -> Self {
        Self {
            disk: disk.clone(),
            small,
            id,
            reached: Vec::new(),
            line_ends: match line_ends {
                LineEnds::Lf => Conversion::Lf(ToLf::default()),
                LineEnds::Crlf => Conversion::Crlf(ToCrlf::default()),
            },
            header: HeaderSection { octets: Vec::new(), ended: false },
            octets: 0,
            buffer: Buffer::new(disk.room()),
            spill: Spill::None,
        }
    }

    pub(super) fn write(&mut self, octets: &[u8]) {
        self.header.write(octets);
        self.look_after_spill();
        if let Spill::Failed(_) = self.spill {
            return;
        }
        self.append(|line_ends, held| line_ends.convert(octets, held));
        if self.buffer.octets().len() >= SPILL {
            self.spill();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        let held = self.buffer.octets().len();
        match &self.spill {
            Spill::Failed(Unspooled::Disk(_)) => true,
            // What comes is thrown away.
            Spill::Failed(Unspooled::Later(_)) => false,
            Spill::Away(_) if held >= AHEAD => true,
            Spill::None | Spill::Here(_) | Spill::Away(_) => self.disk.room().makes_wait(held),
        }
    }

    /// Whatever is awaited here stays in `self` until it is there, so that this may be dropped and called again.
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
            Spill::Failed(Unspooled::Disk(error)) => Err(error.again()),
            Spill::Failed(Unspooled::Later(_)) | Spill::None | Spill::Here(_) | Spill::Away(_) => Ok(()),
        }
    }

    pub(super) fn identify(&mut self, message: MessageId) {
        self.id = message;
    }

    pub(super) fn spare(&mut self, recipients: Vec<String>) {
        self.reached = recipients;
    }

    pub(super) fn finish(mut self) -> Finished {
        self.look_after_spill();
        self.append(Conversion::finish);
        let Self { disk, small, id, reached, header, octets, buffer, spill, .. } = self;
        let in_file = |file, buffer: Buffer| {
            let (done, coming) = oneshot::channel();
            end(&disk, file, buffer.leaving(), done);
            Ending::Coming(coming)
        };
        let content = match spill {
            Spill::None if small == Small::InMemory => Ending::Memory(buffer),
            Spill::None => in_file(None, buffer),
            Spill::Failed(error) => Ending::Failed(error),
            Spill::Here(file) => in_file(Some(file), buffer),
            Spill::Away(part) => {
                let (done, coming) = oneshot::channel();
                // Without a runtime, work was done at once and never away.
                if let Ok(runtime) = Handle::try_current() {
                    let (following, buffer) = (disk.following(), buffer.leaving());
                    drop(runtime.spawn(async move {
                        match part.await {
                            Ok(Ok((file, _))) => end(&disk, Some(file), buffer, done),
                            Ok(Err(error)) => drop(done.send(Err(error))),
                            Err(_) => drop(done.send(Err(lost()))),
                        }
                        drop(following);
                    }));
                }
                Ending::Coming(coming)
            }
        };
        Finished { id, reached, header: header.octets, octets, content }
    }

    fn append(&mut self, convert: impl FnOnce(&mut Conversion, &mut Vec<u8>)) {
        let (line_ends, before) = (&mut self.line_ends, self.buffer.octets().len());
        self.buffer.fill(|held| convert(line_ends, held));
        self.octets += (self.buffer.octets().len() - before) as u64;
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
        let part = std::mem::replace(&mut self.buffer, Buffer::new(self.disk.room())).leaving();
        let (done, coming) = oneshot::channel();
        self.disk.queue_work(move |files| {
            // If nobody listens, the draft was abandoned, and its file goes with it.
            drop(done.send(write(files, file, part)));
        });
        self.spill = Spill::Away(coming);
    }

    /// Notices that a worker is done.
    fn look_after_spill(&mut self) {
        if let Spill::Away(coming) = &mut self.spill {
            match coming.try_recv() {
                Ok(back) => self.take_back(back),
                Err(oneshot::error::TryRecvError::Empty) => {}
                Err(oneshot::error::TryRecvError::Closed) => self.take_back(Err(lost())),
            }
        }
    }

    async fn await_spill(&mut self) {
        if let Spill::Away(coming) = &mut self.spill {
            let back = coming.await.unwrap_or_else(|_| Err(lost()));
            self.take_back(back);
        }
    }

    fn take_back(&mut self, back: Result<(OpenFile, Buffer), Unspooled>) {
        self.spill = match back {
            Ok((file, _)) => Spill::Here(file),
            Err(error) => {
                // What cannot be kept need not take room.
                self.buffer = Buffer::new(self.disk.room());
                Spill::Failed(error)
            }
        };
    }
}

impl Finished {
    /// Waits until the whole message lies in the spool.
    ///
    /// # Errors
    ///
    /// The spool's file could not be written.
    pub async fn spooled(self) -> Result<Spooled, Unspooled> {
        let content = match self.content {
            Ending::Memory(buffer) => Content::Memory(Octets(buffer)),
            Ending::Coming(coming) => Content::File(coming.await.unwrap_or_else(|_| Err(lost()))?),
            Ending::Failed(error) => return Err(error),
        };
        Ok(Spooled { id: self.id, reached: self.reached, header: self.header, octets: self.octets, content })
    }
}

impl Content {
    /// Gives a reader from the first octet on.
    ///
    /// # Errors
    ///
    /// The system's error, if the file cannot be read.
    pub fn reader(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        match self {
            Self::Memory(octets) => Ok(Box::new(octets.as_ref())),
            Self::File(file) => {
                let mut file: &File = file;
                file.rewind()?;
                Ok(Box::new(file))
            }
        }
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        self.0.octets()
    }
}

/// Where the octets are that are not in the buffer.
#[derive(Debug)]
enum Spill {
    /// There are none.
    None,
    /// In a file.
    Here(OpenFile),
    /// In a file that a worker is appending to.
    Away(oneshot::Receiver<Result<(OpenFile, Buffer), Unspooled>>),
    /// Lost; the message cannot be delivered in this session.
    Failed(Unspooled),
}

/// Where the end of a finished message is.
#[derive(Debug)]
enum Ending {
    Memory(Buffer),
    Coming(oneshot::Receiver<Result<File, Unspooled>>),
    Failed(Unspooled),
}

#[derive(Debug)]
enum Conversion {
    Lf(ToLf),
    Crlf(ToCrlf),
}

impl Conversion {
    fn convert(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Lf(to_lf) => to_lf.convert(octets, out),
            Self::Crlf(to_crlf) => to_crlf.convert(octets, out),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Lf(to_lf) => to_lf.finish(out),
            Self::Crlf(_) => {}
        }
    }
}

/// The header section as far as it came.
#[derive(Debug)]
struct HeaderSection {
    octets: Vec<u8>,
    ended: bool,
}

impl HeaderSection {
    fn write(&mut self, octets: &[u8]) {
        if self.ended {
            return;
        }
        let before = self.octets.len();
        let taken = octets.len().min(HEADER - before);
        self.octets.extend_from_slice(&octets[..taken]);
        // The empty line may have begun in an earlier slice.
        let from = before.saturating_sub(2);
        for lf in memchr::memchr_iter(b'\n', &self.octets[from..]) {
            let line_start = from + lf + 1;
            let at_end = match &self.octets[..line_start] {
                [b'\r', b'\n'] | [b'\n'] => Some(0),
                [.., b'\n', b'\r', b'\n'] => Some(line_start - 2),
                [.., b'\n', b'\n'] => Some(line_start - 1),
                _ => None,
            };
            if let Some(end) = at_end {
                self.octets.truncate(end);
                self.ended = true;
                return;
            }
        }
        self.ended = self.octets.len() == HEADER;
    }
}

fn write(
    files: &dyn FileSystem,
    file: Option<OpenFile>,
    part: Buffer,
) -> Result<(OpenFile, Buffer), Unspooled> {
    let is_large = file.is_some() || part.octets().len() >= SPILL;
    let failed = |doing, path, source| {
        let is_crowded = is_large && super::is_no_room(&source);
        let error = TargetError::File { doing, path, source };
        if is_crowded { Unspooled::Later(error.to_string()) } else { Unspooled::Disk(error) }
    };
    let file = match file {
        Some(file) => file,
        None => {
            let directory = super::durable::spool_directory();
            let created = files.create_unnamed(&directory);
            created.map_err(|source| failed("create a file in", directory, source))?
        }
    };
    let appended = files.append(&file, part.octets());
    appended.map_err(|source| failed("spool into", file.path.clone(), source))?;
    Ok((file, part.cleared()))
}

fn end(disk: &Disk, file: Option<OpenFile>, rest: Buffer, done: oneshot::Sender<Result<File, Unspooled>>) {
    disk.queue_work(move |files| {
        let ended = write(files, file, rest).and_then(|(file, _)| {
            let path = file.path.clone();
            let mut file = file.into_file();
            match file.rewind() {
                Ok(()) => Ok(file),
                Err(source) => Err(Unspooled::Disk(TargetError::File { doing: "read", path, source })),
            }
        });
        drop(done.send(ended));
    });
}

/// What is said when a worker came to grief.
fn lost() -> Unspooled {
    Unspooled::Disk(TargetError::File {
        doing: "spool into",
        path: super::durable::spool_directory(),
        source: io::Error::other("the worker ended before its work was done"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pop3::UniqueId;
    use std::sync::Arc;

    fn draft(disk: &Disk, line_ends: LineEnds) -> Draft {
        let id = MessageId { maildrop: Arc::from("m"), uid: UniqueId::new(*b"1"), ordinal: 0 };
        Draft::new(disk, id, line_ends, Small::InMemory)
    }

    async fn spooled(mut draft: Draft, slices: impl Iterator<Item = &[u8]>) -> (Spooled, Vec<u8>) {
        for slice in slices {
            draft.write(slice);
            while draft.is_full() {
                draft.flush().await.unwrap();
            }
        }
        let spooled = draft.finish().spooled().await.unwrap();
        let mut octets = Vec::new();
        spooled.content.reader().unwrap().read_to_end(&mut octets).unwrap();
        assert_eq!(spooled.octets, octets.len() as u64);
        (spooled, octets)
    }

    #[tokio::test]
    async fn a_message_of_any_size_comes_out_as_it_went_in_but_for_its_line_ends() {
        let disk = Disk::new();
        for lines in [0, 1, 3, 10_000, 100_000] {
            let sent = "a line of some octets\r\n.\r\nbare\nand\rodd\r\n".repeat(lines);
            for size in [sent.len().max(1), 1000, 70_000] {
                let (message, octets) =
                    spooled(draft(&disk, LineEnds::Lf), sent.as_bytes().chunks(size)).await;
                assert!(octets == sent.replace("\r\n", "\n").as_bytes(), "{lines} lines in parts of {size}");
                assert_eq!(matches!(message.content, Content::File(_)), sent.len() > 2 * SPILL);
                let (_, octets) = spooled(draft(&disk, LineEnds::Crlf), sent.as_bytes().chunks(size)).await;
                let expected = sent.replace("\r\n", "\n").replace('\n', "\r\n");
                assert!(octets == expected.as_bytes(), "{lines} lines in parts of {size}");
            }
        }
    }

    #[tokio::test]
    async fn the_header_section_is_found_at_every_split() {
        let disk = Disk::new();
        for (message, header) in [
            ("A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n", "A: 1\r\nB: 2\r\n"),
            ("A: 1\nB: 2\n\nbody\n\n", "A: 1\nB: 2\n"),
            ("\r\nbody\r\n\r\n", ""),
            ("\nbody\n\n", ""),
            ("A: 1\r\nno end", "A: 1\r\nno end"),
            ("", ""),
        ] {
            for at in 0..=message.len() {
                let (first, second) = message.as_bytes().split_at(at);
                let (found, _) = spooled(draft(&disk, LineEnds::Lf), [first, second].into_iter()).await;
                assert_eq!(String::from_utf8(found.header).unwrap(), header, "split at {at}");
            }
        }
        let long = "A: 1\r\n".repeat(100_000);
        let (found, _) = spooled(draft(&disk, LineEnds::Lf), long.as_bytes().chunks(1000)).await;
        assert_eq!(found.header, &long.as_bytes()[..HEADER]);
    }

    #[tokio::test]
    async fn many_large_messages_leave_memory_when_there_is_no_room() {
        let limits = super::super::disk::Limits { workers: 1, group: 1, octets: 100_000 };
        let disk = Disk::over(Arc::new(super::super::durable::Native), limits);
        let sent = vec![b'x'; 50_000];
        let mut drafts = Vec::new();
        for _ in 0..20 {
            let mut draft = draft(&disk, LineEnds::Lf);
            draft.write(&sent);
            while draft.is_full() {
                draft.flush().await.unwrap();
            }
            drafts.push(draft);
        }
        assert!(!disk.room().is_full(), "the drafts hold what should lie in files");
        for draft in drafts {
            let (_, octets) = spooled(draft, [].into_iter()).await;
            assert!(octets == sent);
        }
    }
}
