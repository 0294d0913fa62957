//! A message on its way to the server: read from the spool on a thread that may block, byte-stuffed, ended.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::dialogue::{Broken, Dialogue, Reply};
use super::stream::PART_LIMIT;
use crate::delivery::spool::{Content, Spooled};

/// Octets of a message that are read from the spool at once.
const PART: usize = 256 << 10;
const END: &[u8] = b"\r\n.\r\n";
/// The end of a message without any octet.
pub(super) const EMPTY_END: &[u8] = b".\r\n";

/// Sends a message, whose lines all end with CRLF, its end, and the commands that follow that; gives the (first) reply to
/// the message. One that cannot be read whole is not ended.
pub(super) async fn send(
    dialogue: &mut Dialogue,
    message: &Spooled,
    commands: &[u8],
) -> Result<Reply, Broken> {
    if message.octets == 0 {
        return dialogue.end(&[EMPTY_END, commands].concat(), 0).await;
    }
    let mut stuffing = Stuffing { at_line_start: true };
    let last = match &message.content {
        Content::Memory(octets) => stuffing.stuff(without_end(octets.as_ref())).into_owned(),
        Content::File(file) => {
            let mut parts = Parts::of(file, message.octets)?;
            let mut part = parts.next().await?;
            while parts.are_left() {
                dialogue.part(&stuffing.stuff(&part)).await?;
                part = parts.next().await?;
            }
            stuffing.stuff(without_end(&part)).into_owned()
        }
    };
    let at = last.len();
    dialogue.end(&[&last[..], END, commands].concat(), at).await
}

/// The message's own last CRLF is the first of those that end it.
fn without_end(octets: &[u8]) -> &[u8] {
    octets.strip_suffix(b"\r\n").unwrap_or(octets)
}

/// Puts a dot before each dot at the beginning of a line (RFC 5321, 4.5.2).
struct Stuffing {
    at_line_start: bool,
}

impl Stuffing {
    /// Stuffs the next part of a message.
    fn stuff<'a>(&mut self, part: &'a [u8]) -> Cow<'a, [u8]> {
        let begins_so = self.at_line_start && part.starts_with(b".");
        if let Some(last) = part.last() {
            self.at_line_start = *last == b'\n';
        }
        let mut stuffed = if begins_so { b".".to_vec() } else { Vec::new() };
        let mut from = 0;
        for lf in memchr::memmem::find_iter(part, b"\n.") {
            stuffed.extend_from_slice(&part[from..=lf]);
            stuffed.push(b'.');
            from = lf + 1;
        }
        if stuffed.is_empty() {
            return Cow::Borrowed(part);
        }
        stuffed.extend_from_slice(&part[from..]);
        Cow::Owned(stuffed)
    }
}

/// A message in the spool, part by part; the next is read while one is sent.
struct Parts {
    file: Arc<File>,
    at: u64,
    length: u64,
    next: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Parts {
    fn of(file: &File, length: u64) -> Result<Self, Broken> {
        let file = Arc::new(file.try_clone().map_err(|error| unreadable(&error))?);
        let mut parts = Self { file, at: 0, length, next: None };
        parts.read();
        Ok(parts)
    }

    fn are_left(&self) -> bool {
        self.next.is_some()
    }

    async fn next(&mut self) -> Result<Vec<u8>, Broken> {
        let Some(reading) = self.next.take() else { return Ok(Vec::new()) };
        let read = match tokio::time::timeout(PART_LIMIT, reading).await {
            Ok(Ok(read)) => read.map_err(|error| unreadable(&error))?,
            Ok(Err(panicked)) => return Err(unreadable(&io::Error::other(panicked))),
            Err(_) => {
                let after = humantime::format_duration(PART_LIMIT);
                return Err(unreadable(&io::Error::other(format!("gave up after {after}"))));
            }
        };
        self.read();
        Ok(read)
    }

    /// Begins to read another part. The last has at least two octets: no CRLF is divided before it.
    fn read(&mut self) {
        let (file, at, left) = (Arc::clone(&self.file), self.at, self.length - self.at);
        let count = match usize::try_from(left) {
            Ok(0) => return,
            Ok(left) if left <= PART + 1 => left,
            Ok(_) | Err(_) => PART,
        };
        self.at += count as u64;
        self.next = Some(tokio::task::spawn_blocking(move || {
            let mut part = vec![0; count];
            file.read_exact_at(&mut part, at).map(|()| part)
        }));
    }
}

fn unreadable(error: &io::Error) -> Broken {
    Broken { what: format!("cannot read the message from the spool: {error}"), said: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_stuffed_at_the_beginning_of_lines_at_every_split() {
        let message = b".\r\n..\r\na.b\r\n\r\n.\r\nx\r.\r\n.";
        let stuffed = b"..\r\n...\r\na.b\r\n\r\n..\r\nx\r.\r\n..";
        for first in 0..=message.len() {
            for second in first..=message.len() {
                let parts = [&message[..first], &message[first..second], &message[second..]];
                let mut stuffing = Stuffing { at_line_start: true };
                let whole: Vec<u8> =
                    parts.iter().flat_map(|part| stuffing.stuff(part).into_owned()).collect();
                assert_eq!(whole, stuffed, "{first} {second}");
            }
        }
    }

    #[tokio::test]
    async fn a_message_in_the_spool_comes_in_parts_of_which_the_last_has_its_whole_line_end() {
        for length in [0, 1, 2, PART - 1, PART, PART + 1, PART + 2, 2 * PART, 2 * PART + 1, 2 * PART + 2] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let file = tempfile::tempfile().expect("a file");
            file.write_all_at(&content, 0).expect("it is written");
            let mut parts = Parts::of(&file, length as u64).expect("it is there");
            let (mut read, mut last) = (Vec::new(), 0);
            while parts.are_left() {
                let part = parts.next().await.expect("it can be read");
                last = part.len();
                read.extend(part);
            }
            assert!(read == content && last >= length.min(2), "{length}");
        }
        let file = tempfile::tempfile().expect("a file");
        let broken = Parts::of(&file, 5).expect("it is there").next().await.expect_err("it is too short");
        assert!(broken.what.starts_with("cannot read the message from the spool"), "{broken}");
    }
}
