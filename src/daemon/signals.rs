//! Signals: what ends the process, and what a daemon is asked by them.

use std::io;
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::failure::Class;
use crate::stop::{self, LAST_WORDS, PROCESS, Stop};

/// Asks to end at the first SIGINT or SIGTERM. The second ends the process at once, which loses nothing either, and
/// [`PROCESS`] does so with this exit status.
///
/// Both hold whatever the process waits for: they are seen to by a thread of their own, since a system call on a file
/// system that hangs, or a log that nobody reads, stops all that the program's own thread does.
pub fn stop(overdue: u8) -> Stop {
    stop_within(PROCESS, overdue)
}

/// Asks this process to end, as whoever sends it a signal does.
pub fn end() -> Option<()> {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).ok()
}

fn stop_within(limit: Duration, overdue: u8) -> Stop {
    let (stopper, stop) = stop::channel();
    // Before anything is begun, and without waiting for the thread's first turn.
    let waiting = listen().and_then(|(runtime, [mut int, mut term])| {
        let wait = async move {
            either(&mut int, &mut term).await;
            stopper.stop();
            tokio::select! {
                () = either(&mut int, &mut term) => process::exit(Class::Stopped.exit_status().into()),
                () = sleep(limit) => {}
            }
            say("did not wait any longer for what hangs; nothing is lost");
            process::exit(overdue.into())
        };
        let waiting = thread::Builder::new().name("signals".to_owned());
        waiting.spawn(move || runtime.0.as_ref().map(|runtime| runtime.block_on(wait))).map(drop)
    });
    if let Err(error) = waiting {
        log::warn!("cannot wait for signals: {error}");
        return stop;
    }
    // Its default would end the process where a write beyond the limit on file sizes can fail (EFBIG), and one message
    // that is larger than that would stop all others. Taking the signal is all; nobody waits for it.
    if let Err(error) = signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32)) {
        log::warn!("cannot take SIGXFSZ: {error}");
    }
    let asked = stop.clone();
    tokio::spawn(async move {
        asked.asked().await;
        log::warn!("stopping; a second signal ends at once");
    });
    stop
}

/// A runtime that may be dropped wherever it is.
struct Background(Option<runtime::Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Takes SIGINT and SIGTERM. A runtime hears of signals by itself, however little the others of the process do.
fn listen() -> io::Result<(Background, [Signal; 2])> {
    let runtime = Background(Some(runtime::Builder::new_current_thread().enable_all().build()?));
    let _entered = runtime.0.as_ref().map(runtime::Runtime::enter);
    let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    drop(_entered);
    Ok((runtime, signals))
}

/// Writes to the log, unless that hangs.
fn say(words: &'static str) {
    let (said, heard) = mpsc::channel();
    let saying = thread::Builder::new().spawn(move || {
        log::warn!("{words}");
        let _ = said.send(());
    });
    // Without a thread nobody holds the sender, and there is nothing to wait for.
    drop(saying);
    let _ = heard.recv_timeout(LAST_WORDS);
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    const CHILD: &str = "POSTRIDER_TEST_SIGNALS";

    /// A process whose only thread beside that of the signals hangs, and which has this long to end.
    fn hanging(test: &str, limit: &str) -> Child {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&format!("daemon::signals::tests::{test}"), "--exact", "--nocapture"])
            .env(CHILD, limit)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("hanging")));
        child
    }

    fn send(child: &Child, signal: Signal) {
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    async fn hang_if_asked_to() {
        if let Ok(limit) = std::env::var(CHILD) {
            let _stop = stop_within(humantime::parse_duration(&limit).unwrap(), 7);
            println!("hanging");
            thread::sleep(Duration::from_secs(600));
        }
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_ended_when_its_time_is_over() {
        hang_if_asked_to().await;
        let mut child = hanging("a_process_that_hangs_is_ended_when_its_time_is_over", "300ms");
        let asked = Instant::now();
        send(&child, Signal::SIGTERM);
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(7), None));
        assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_ended_by_the_second_signal() {
        hang_if_asked_to().await;
        let mut child = hanging("a_process_that_hangs_is_ended_by_the_second_signal", "10m");
        // Two that come before one was looked at are one.
        while child.try_wait().unwrap().is_none() {
            send(&child, Signal::SIGINT);
            thread::yield_now();
        }
        assert_eq!(child.wait().unwrap().code(), Some(75));
    }
}
