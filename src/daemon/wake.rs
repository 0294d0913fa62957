//! How a running daemon hears that it is asked for polls: by a named pipe beside the state file (`state.db.wake`).
//!
//! What is asked for stands in the store; the octet in the pipe only says that there is something. Nobody but a running
//! daemon reads it, so that whoever can open it to write has found one, and no other process can be met in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::stat::Mode;
use tokio::net::unix::pipe;

use crate::state;

/// The daemon's end; dropped = the pipe is gone.
#[derive(Debug)]
pub struct Asked {
    path: PathBuf,
    pipe: Option<pipe::Receiver>,
}

impl Asked {
    /// Makes the pipe, which only its owner can open. The caller is the only daemon with this state file, so that one
    /// that is there was left by a daemon that was killed. Without a pipe the daemon has signals.
    pub fn listen(state: &Path) -> Self {
        let path = by_state(state);
        let pipe = match open(&path) {
            Ok(pipe) => Some(pipe),
            Err(error) => {
                let path = path.display();
                log::warn!("{path}: not a pipe by which wake could ask this daemon: {error}");
                None
            }
        };
        Self { path, pipe }
    }

    /// Gives one that nobody asks: what is due stands in the database, for all workers.
    pub fn by_nobody() -> Self {
        Self { path: PathBuf::new(), pipe: None }
    }

    /// Waits until somebody has asked. Nothing is lost if it is dropped.
    pub async fn next(&mut self) {
        let Some(pipe) = &self.pipe else { return std::future::pending().await };
        loop {
            let ready = pipe.readable().await;
            match ready.and_then(|()| pipe.try_read(&mut [0; 512])) {
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.pipe.take().is_some() {
            // What is left has no reader, and the next daemon takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A client's end: a daemon runs.
#[derive(Debug)]
pub struct Running(File);

impl Running {
    /// Finds the daemon that uses this state file; `None` if none runs.
    pub fn find(state: &Path) -> io::Result<Option<Self>> {
        match OpenOptions::new().write(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(by_state(state)) {
            Ok(pipe) => Ok(Some(Self(pipe))),
            // A daemon that was killed has left it.
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has it look into the store; says whether it still runs.
    pub fn wake(mut self) -> io::Result<bool> {
        match self.0.write(b"\n") {
            Ok(_) => Ok(true),
            // It is full of the same.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn by_state(state: &Path) -> PathBuf {
    state::beside(state, ".wake")
}

fn open(path: &Path) -> io::Result<pipe::Receiver> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // Being a writer as well, it never sees the end of all others.
    let file = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)?;
    pipe::Receiver::from_file(file)
}
