//! A message in the spool, on its way out: read part by part on a thread that may block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::spool::{Content, Spooled};

/// Octets of a message that are read from the spool at once.
const PART: usize = 256 << 10;

/// How long the disk may take for a part.
const LIMIT: Duration = Duration::from_secs(3 * 60);

/// A message in a file; its next part is read while one is sent.
pub(super) struct Parts {
    file: Arc<File>,
    at: u64,
    length: u64,
    next: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Parts {
    /// Begins to read a file of so many octets.
    pub(super) fn of(file: &File, length: u64) -> io::Result<Self> {
        let mut parts = Self { file: Arc::new(file.try_clone()?), at: 0, length, next: None };
        parts.read();
        Ok(parts)
    }

    pub(super) fn are_left(&self) -> bool {
        self.next.is_some()
    }

    /// Gives the next part; an empty one if none is left.
    pub(super) async fn next(&mut self) -> io::Result<Vec<u8>> {
        let Some(reading) = self.next.take() else { return Ok(Vec::new()) };
        let read = match tokio::time::timeout(LIMIT, reading).await {
            Ok(Ok(read)) => read?,
            Ok(Err(panicked)) => return Err(io::Error::other(panicked)),
            Err(_) => {
                let after = humantime::format_duration(LIMIT);
                return Err(io::Error::other(format!("gave up after {after}")));
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

/// Has each part of a message looked at in its turn.
pub(super) async fn each_part(message: &Spooled, mut look: impl FnMut(&[u8])) -> io::Result<()> {
    match &message.content {
        Content::Memory(octets) => look(octets.as_ref()),
        Content::File(file) => {
            let mut parts = Parts::of(file, message.octets)?;
            while parts.are_left() {
                look(&parts.next().await?);
            }
        }
    }
    Ok(())
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
        Parts::of(&file, 5).expect("it is there").next().await.expect_err("it is too short");
    }
}
