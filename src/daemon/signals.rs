//! Signals: what ends the process, and what a daemon is asked by them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Class;

/// Becomes true at the first SIGINT or SIGTERM; the second ends the process at once, which loses nothing either.
pub fn stop() -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    match signals {
        Ok((mut int, mut term)) => {
            // Its default would end the process where a write beyond the limit on file sizes can fail (EFBIG), and one
            // message that is larger than that would stop all others. Taking the signal is all; nobody waits for it.
            let file_size = SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32);
            if let Err(error) = signal(file_size) {
                log::warn!("cannot take SIGXFSZ: {error}");
            }
            tokio::spawn(async move {
                either(&mut int, &mut term).await;
                log::warn!("stopping; a second signal ends at once");
                // No receiver is left when the last session has ended.
                let _ = stop.send(true);
                either(&mut int, &mut term).await;
                std::process::exit(Class::Stopped.exit_status().into());
            });
        }
        Err(error) => log::warn!("cannot wait for signals: {error}"),
    }
    stopped
}

/// What a daemon is asked by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: poll now.
    Wake,
}

/// The signals by which a daemon is asked for something.
#[derive(Debug)]
pub struct Requests {
    reload: Signal,
    wake: Signal,
}

impl Requests {
    /// Takes the signals; from here on they do not end the process.
    pub fn new() -> io::Result<Self> {
        Ok(Self { reload: signal(SignalKind::hangup())?, wake: signal(SignalKind::user_defined1())? })
    }

    /// Waits for one. Several of a kind that come before they are looked at are one. Nothing is lost if it is dropped.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            Some(()) = self.reload.recv() => Request::Reload,
            Some(()) = self.wake.recv() => Request::Wake,
            // The runtime is ending.
            else => std::future::pending().await,
        }
    }
}

async fn either(int: &mut Signal, term: &mut Signal) {
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
}
