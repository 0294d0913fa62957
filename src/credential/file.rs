//! A password from a file, systemd's credentials among them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::error::CredentialError;
use crate::disk::blocking;

/// What a file turned out to be.
enum Opened {
    /// What it holds.
    Content(Zeroizing<Vec<u8>>),
    /// A pipe, to which something is written sometime.
    Pipe(File),
}

/// Reads a file of at most `longest` octets. It may lie where nothing answers, and be a pipe to which nobody writes:
/// neither is waited for longer than `patience`, nor holds a thread for each try.
///
/// A file that others may read is used all the same, with a warning: systemd and containers mount some so.
pub(super) async fn content(
    path: PathBuf,
    longest: usize,
    patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let end = Instant::now() + patience;
    let file = path.clone();
    let opened = blocking::ask(&path, patience, move || open(&file, longest)).await;
    let read = match opened.flatten() {
        Ok(Opened::Content(octets)) => return Ok(octets),
        Ok(Opened::Pipe(pipe)) => timeout_at(end, read_pipe(pipe, longest)).await,
        Err(source) => Ok(Err(source)),
    };
    match read {
        Ok(Ok(octets)) => Ok(octets),
        Ok(Err(source)) => Err(CredentialError::File { path, source }),
        Err(_) => Err(CredentialError::TimedOut { what: path.display().to_string(), after: patience }),
    }
}

fn open(path: &Path, longest: usize) -> io::Result<Opened> {
    // Opening a pipe would else wait for somebody who writes to it.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if metadata.file_type().is_fifo() {
        return Ok(Opened::Pipe(file));
    }
    if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
        log::warn!("{} holds a password and is readable by everyone: chmod 600", path.display());
    }
    fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::empty()))?;
    read(file, longest).map(Opened::Content)
}

/// Reads a pipe from when somebody writes to it until all who did have closed it.
async fn read_pipe(pipe: File, longest: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let limit = limit(longest);
    let mut octets = Zeroizing::new(Vec::with_capacity(limit));
    let mut chunk = Zeroizing::new([0; 4096]);
    let pipe = pipe::Receiver::from_file(pipe)?;
    while octets.len() < limit {
        // Before anybody has opened it for writing, reading would give the end; and nothing is ready.
        pipe.readable().await?;
        match pipe.try_read(&mut *chunk) {
            Ok(0) => break,
            Ok(count) => {
                let room = limit - octets.len();
                octets.extend_from_slice(&chunk[..count.min(room)]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(octets)
}

/// One line end of two octets, and one octet more to see that it is too long.
fn limit(longest: usize) -> usize {
    longest + 3
}

fn read(file: File, longest: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let limit = limit(longest);
    let mut octets = Zeroizing::new(Vec::with_capacity(limit));
    let mut chunk = Zeroizing::new([0; 4096]);
    let mut file = file.take(limit as u64);
    loop {
        match file.read(&mut *chunk) {
            Ok(0) => return Ok(octets),
            Ok(count) => octets.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::io::Write;

    const LONG: Duration = Duration::from_secs(60);

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        (directory, path)
    }

    #[tokio::test]
    async fn a_pipe_to_which_nobody_writes_is_given_up_and_holds_no_thread() {
        let (_directory, path) = fifo();
        for _ in 0..2 {
            let given_up = content(path.clone(), 100, Duration::from_millis(50)).await.unwrap_err();
            assert!(matches!(given_up, CredentialError::TimedOut { .. }), "{given_up}");
        }
        // A reader that hung in opening it would let this one go on.
        let flags = OFlag::O_NONBLOCK.bits();
        let writing = OpenOptions::new().write(true).custom_flags(flags).open(&path);
        assert_eq!(writing.unwrap_err().raw_os_error(), Some(nix::errno::Errno::ENXIO as i32));
    }

    #[tokio::test]
    async fn a_pipe_is_read_from_its_first_writer_to_its_last() {
        let (_directory, path) = fifo();
        let reading = tokio::spawn(content(path.clone(), 100, LONG));
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all(b"cor").unwrap();
            file.write_all(b"rect\n").unwrap();
        });
        writing.await.unwrap();
        assert_eq!(**reading.await.unwrap().unwrap(), *b"correct\n");
    }
}
