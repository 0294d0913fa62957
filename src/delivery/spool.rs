//! The spool: a message on its way into a target that takes it only when it is complete.
//!
//! An mbox is locked only while it is appended to, a command's standard input must end where the message ends, and a
//! mail server takes a size first. So these targets get the message whole: small ones in memory, larger ones in a
//! file that has no name. Nothing of it outlives the process, and nothing of it needs to be durable: until the target
//! has taken the message, the server has it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

use tokio::sync::oneshot;

use super::TargetError;
use super::parts::{Destination, Ending, Parts, SPILL};
use crate::disk::room::Buffer;
use crate::disk::{Disk, OpenFile, spool_directory};
use crate::message::{FileId, Fingerprint, MessageId, ToCrlf, ToLf, ToLines, UniqueId};

/// Octets of the header section that are kept for a look at its fields.
const HEADER: usize = 64 << 10;

/// What ends a line in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnds {
    /// As in files: CRLF becomes LF, and nothing else changes.
    Lf,
    /// As in SMTP: every LF has a CR before it (RFC 5321, 2.3.8), whatever the server sent.
    Crlf,
    /// As in IMAP: neither CR nor LF stands alone.
    Lines,
    /// As the server sent them, for targets of several kinds.
    Any,
}

/// A message that comes in; see [`super::Draft`].
#[derive(Debug)]
pub struct Draft {
    id: MessageId,
    reached: Vec<String>,
    known: Traits,
    line_ends: Conversion,
    header: HeaderSection,
    octets: u64,
    parts: Parts<Spool>,
}

/// What is known of a message besides its octets.
#[derive(Debug, Default)]
pub struct Traits {
    /// By what it is known again, as it came.
    pub whole: Option<Box<Fingerprint>>,
    /// What it is in the target, if it is there already.
    pub unclaimed: Option<FileId>,
    /// There are NULs among its octets.
    pub has_nul: bool,
    /// Equal messages of its maildrop that the target had before.
    pub copies: u32,
}

/// A message in the spool.
#[derive(Debug, Clone)]
struct Spool(Disk);

/// A message that came in whole; what does not fit into memory may still be on its way to the file.
#[derive(Debug)]
pub struct Finished {
    id: MessageId,
    reached: Vec<String>,
    known: Traits,
    header: HeaderSection,
    octets: u64,
    content: InSpool,
}

/// A message that lies in the spool.
#[derive(Debug)]
pub struct Spooled {
    pub id: MessageId,
    /// Recipients who have it from an earlier session.
    pub reached: Vec<String>,
    /// What else is known of it.
    pub known: Traits,
    /// The header section as the server sent it, without the empty line that ends it; of its first 64 KiB the fields
    /// that are whole.
    pub header: Vec<u8>,
    /// The header section is longer: fields that are not in [`Self::header`] follow.
    pub is_header_cut: bool,
    pub octets: u64,
    /// The message, with the line ends that were asked for.
    pub content: Content,
}

/// Why a message does not lie in the spool.
#[derive(Debug)]
pub enum Unspooled {
    /// There is no room for this one, which is large, and may be for others; the reason is for the user.
    Later(String),
    Disk(TargetError),
}

/// The octets of a message.
#[derive(Debug)]
pub enum Content {
    Memory(Octets),
    /// In a file without a name, which is read from its start.
    File(File),
}

/// Octets in memory; they count against the bound on the memory of all messages until they are dropped.
#[derive(Debug)]
pub struct Octets(Buffer);

impl Draft {
    pub fn new(disk: &Disk, id: MessageId, line_ends: LineEnds) -> Self {
        Self {
            id,
            reached: Vec::new(),
            known: Traits::default(),
            line_ends: match line_ends {
                LineEnds::Lf => Conversion::Lf(ToLf::default()),
                LineEnds::Crlf => Conversion::Crlf(ToCrlf::default()),
                LineEnds::Lines => Conversion::Lines(ToLines::default()),
                LineEnds::Any => Conversion::None,
            },
            header: HeaderSection::default(),
            octets: 0,
            parts: Parts::new(disk, Spool(disk.clone())),
        }
    }

    pub(super) fn write(&mut self, octets: &[u8]) {
        self.header.write(octets);
        if let Conversion::Lines(_) = self.line_ends {
            self.known.has_nul |= memchr::memchr(0, octets).is_some();
        }
        self.append(|line_ends, held| line_ends.convert(octets, held));
    }

    pub(super) fn is_full(&self) -> bool {
        self.parts.is_full()
    }

    pub(super) async fn flush(&mut self) -> Result<(), TargetError> {
        self.parts.flush().await
    }

    pub(super) fn identify(
        &mut self,
        uid: UniqueId,
        ordinal: u32,
        whole: &Fingerprint,
        unclaimed: Option<FileId>,
    ) {
        (self.id.uid, self.id.ordinal) = (uid, ordinal);
        (self.known.whole, self.known.unclaimed) = (Some(Box::new(*whole)), unclaimed);
    }

    pub(super) fn count(&mut self, copies: u32) {
        self.known.copies = copies;
    }

    pub(super) fn spare(&mut self, recipients: Vec<String>) {
        self.reached = recipients;
    }

    pub(super) fn finish(mut self) -> Finished {
        self.append(Conversion::finish);
        let Self { id, reached, known, header, octets, parts, .. } = self;
        let content = match parts.in_memory() {
            Ok(buffer) => InSpool::Memory(buffer),
            Err(parts) => InSpool::File(parts.finish(end)),
        };
        Finished { id, reached, known, header, octets, content }
    }

    fn append(&mut self, convert: impl FnOnce(&mut Conversion, &mut Vec<u8>)) {
        self.octets += self.parts.fill(|held| convert(&mut self.line_ends, held)) as u64;
    }
}

impl Finished {
    /// Counts the octets that it has in the target.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Waits until the whole message lies in the spool.
    ///
    /// # Errors
    ///
    /// The spool's file could not be written.
    pub async fn spooled(self) -> Result<Spooled, Unspooled> {
        let content = match self.content {
            InSpool::Memory(buffer) => Content::Memory(Octets(buffer)),
            InSpool::File(ending) => Content::File(ending.ended().await?),
        };
        let Self { id, reached, known, header, octets, .. } = self;
        Ok(Spooled {
            id,
            reached,
            known,
            header: header.octets,
            is_header_cut: header.is_cut,
            octets,
            content,
        })
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

/// Where a finished message is.
#[derive(Debug)]
enum InSpool {
    Memory(Buffer),
    File(Ending<Spool, File>),
}

#[derive(Debug)]
enum Conversion {
    Lf(ToLf),
    Crlf(ToCrlf),
    Lines(ToLines),
    None,
}

impl Conversion {
    fn convert(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Lf(to_lf) => to_lf.convert(octets, out),
            Self::Crlf(to_crlf) => to_crlf.convert(octets, out),
            Self::Lines(to_lines) => to_lines.convert(octets, out),
            Self::None => out.extend_from_slice(octets),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Lf(to_lf) => to_lf.finish(out),
            Self::Crlf(_) | Self::None => {}
            Self::Lines(to_lines) => to_lines.finish(out),
        }
    }
}

/// The header section as far as it came.
#[derive(Debug, Default)]
struct HeaderSection {
    octets: Vec<u8>,
    ended: bool,
    is_cut: bool,
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
        if taken < octets.len() {
            self.ended = true;
            self.is_cut = true;
            self.octets.truncate(whole_fields(&self.octets));
        }
    }
}

/// Gives the length of the fields that are followed by another's beginning, and so are not cut.
fn whole_fields(octets: &[u8]) -> usize {
    let goes_on = |after: usize| matches!(octets.get(after), None | Some(b' ' | b'\t'));
    memchr::memrchr_iter(b'\n', octets).map(|lf| lf + 1).find(|after| !goes_on(*after)).unwrap_or(0)
}

impl Destination for Spool {
    type File = OpenFile;
    type Error = Unspooled;

    fn append(&self, file: Option<OpenFile>, part: Buffer) -> Result<(OpenFile, Buffer), Unspooled> {
        let is_large = file.is_some() || part.octets().len() >= SPILL;
        let failed = |doing, path, source| {
            let is_crowded = is_large && super::is_no_room(&source);
            let error = TargetError::File { doing, path, source };
            if is_crowded { Unspooled::Later(error.to_string()) } else { Unspooled::Disk(error) }
        };
        let file = match file {
            Some(file) => file,
            None => {
                let directory = spool_directory();
                let created = OpenFile::unnamed(&directory);
                created.map_err(|source| failed("create a file in", directory, source))?
            }
        };
        let appended = file.append(part.octets());
        appended.map_err(|source| failed("spool into", file.path.clone(), source))?;
        Ok((file, part.cleared()))
    }

    fn ends_session(error: &Unspooled) -> Option<&TargetError> {
        match error {
            Unspooled::Disk(error) => Some(error),
            Unspooled::Later(_) => None,
        }
    }

    fn place(&self) -> PathBuf {
        spool_directory()
    }

    fn lost(&self, source: io::Error) -> Unspooled {
        Unspooled::Disk(TargetError::File { doing: "spool into", path: spool_directory(), source })
    }
}

/// Appends the rest of a message to its file, and goes back to its beginning.
fn end(spool: Spool, file: Option<OpenFile>, rest: Buffer, done: oneshot::Sender<Result<File, Unspooled>>) {
    let disk = spool.0.clone();
    disk.queue_work(move || {
        let ended = spool.append(file, rest).and_then(|(file, _)| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::UniqueId;
    use std::sync::Arc;

    fn draft(disk: &Disk, line_ends: LineEnds) -> Draft {
        let id = MessageId { maildrop: Arc::from("m"), uid: UniqueId::new(*b"1"), ordinal: 0 };
        Draft::new(disk, id, line_ends)
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
    async fn of_a_header_section_that_is_cut_only_whole_fields_are_kept() {
        let disk = Disk::new();
        let filled = |last: &str, from_end: usize| {
            let start = "A: 1\r\nB: ";
            let padding = "x".repeat(HEADER - start.len() - 2 - from_end);
            (format!("{start}{padding}\r\n"), last.to_owned())
        };
        // Octets of the last field that lie within the bound.
        for (within, last, is_cut, keeps_all) in [
            // The bound ends before it, in it, and where it could go on.
            (0, "C: 2\r\n", true, false),
            (3, "C: 2\r\n", true, true),
            (6, "C: 2\r\n folded\r\n", true, true),
            (8, "C: 2\r\n folded\r\n", true, true),
            // It is continued across the bound from a line that is within.
            (2, " folded\r\n", true, false),
            // The end is within.
            (2, "\r\n", false, true),
            // Nothing follows.
            (0, "", false, true),
        ] {
            let (fields, last) = filled(last, within);
            let body = if is_cut || last.is_empty() { "" } else { "body\r\n" };
            let message = format!("{fields}{last}{body}");
            for size in [message.len(), HEADER, HEADER - 1, 1000] {
                let (found, octets) =
                    spooled(draft(&disk, LineEnds::Crlf), message.as_bytes().chunks(size)).await;
                assert!(octets == message.as_bytes());
                assert_eq!(found.is_header_cut, is_cut, "{last:?}, {within} within, parts of {size}");
                let expected = if keeps_all { &*fields } else { "A: 1\r\n" };
                assert!(found.header == expected.as_bytes(), "{last:?}, {within} within, parts of {size}");
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
    }

    #[tokio::test]
    async fn many_large_messages_leave_memory_when_there_is_no_room() {
        let limits = crate::disk::Limits { workers: 1, group: 1, octets: 100_000 };
        let disk = Disk::within(limits);
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
