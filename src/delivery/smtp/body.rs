//! A message on its way to the server: read from the spool on a thread that may block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::dialogue::{Broken, Dialogue, PART_LIMIT};
use crate::delivery::spool::{Content, Spooled};

/// Octets of a message that are read from the spool at once.
const PART: usize = 256 << 10;

/// Sends a message, whose lines all end with CRLF, but for its last part, which is queued with its end. One that cannot be
/// read whole is not ended. So many recipients were accepted.
pub(super) async fn send(
    dialogue: &mut Dialogue,
    message: &Spooled,
    recipients: usize,
) -> Result<(), Broken> {
    match &message.content {
        Content::Memory(octets) => dialogue.last_part(octets.as_ref(), recipients).await,
        Content::File(file) => {
            let mut parts = Parts::of(file, message.octets)?;
            let mut part = parts.next().await?;
            while parts.are_left() {
                dialogue.part(&part).await?;
                part = parts.next().await?;
            }
            dialogue.last_part(&part, recipients).await
        }
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

    /// Begins to read another part.
    fn read(&mut self) {
        let (file, at, left) = (Arc::clone(&self.file), self.at, self.length - self.at);
        let count = match usize::try_from(left) {
            Ok(0) => return,
            Ok(left) => left.min(PART),
            Err(_) => PART,
        };
        self.at += count as u64;
        self.next = Some(tokio::task::spawn_blocking(move || {
            let mut part = vec![0; count];
            file.read_exact_at(&mut part, at).map(|()| part)
        }));
    }
}

fn unreadable(error: &io::Error) -> Broken {
    Broken::new(format!("cannot read the message from the spool: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_in_the_spool_comes_in_parts() {
        for length in [0, 1, 2, PART - 1, PART, PART + 1, PART + 2, 2 * PART, 2 * PART + 1, 2 * PART + 2] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let file = tempfile::tempfile().expect("a file");
            file.write_all_at(&content, 0).expect("it is written");
            let mut parts = Parts::of(&file, length as u64).expect("it is there");
            let mut read = Vec::new();
            while parts.are_left() {
                read.extend(parts.next().await.expect("it can be read"));
            }
            assert!(read == content, "{length}");
        }
        let file = tempfile::tempfile().expect("a file");
        let broken = Parts::of(&file, 5).expect("it is there").next().await.expect_err("it is too short");
        assert!(broken.what.starts_with("cannot read the message from the spool"), "{broken}");
    }
}
