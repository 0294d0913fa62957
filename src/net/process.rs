//! Commands that the user configured: each in its own process group, which ends with whoever started it.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;

use crate::config::account::CommandLine;
use crate::disk::blocking;
use crate::stop::{self, COMMAND};

/// How long the system may take to start a program.
const STARTING: Duration = Duration::from_secs(30);
/// Octets of one line of a command's words that are kept.
const LINE_OCTETS: usize = 1024;

/// Prepares a command in a process group of its own, its output and errors piped.
pub(crate) fn command(line: &CommandLine) -> Command {
    match line {
        CommandLine::Shell(text) => argv(["sh", "-c", text]),
        CommandLine::Argv(words) => argv(words),
    }
}

/// Prepares a program with its arguments in the same way. One without a name fails to start, which is said.
pub(crate) fn argv(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut words = words.into_iter();
    let mut command = words.next().map_or_else(|| Command::new(""), Command::new);
    command.args(words).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command that was started, with its standard input, output and errors as far as they are piped.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) group: Group,
    pub(crate) input: Option<ChildStdin>,
    pub(crate) output: Option<ChildStdout>,
    pub(crate) errors: Option<ChildStderr>,
}

/// Starts a command that [`command`] prepared, on a thread that may block: its program, or the directory that it is to
/// run in, may lie on a file system that does not answer. One that was waited for in vain is ended.
pub(crate) async fn start(mut command: Command) -> io::Result<Started> {
    let program = PathBuf::from(command.as_std().get_program());
    let spawn = move || {
        let mut child = command.spawn()?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Started { group: Group::of(child), input, output, errors })
    };
    blocking::ask(&program, STARTING, spawn).await?
}

/// A running command with all that it started; dropped = ended, first politely.
#[derive(Debug)]
pub(crate) struct Group {
    child: Option<Child>,
    id: Option<Pid>,
}

impl Group {
    /// Takes a child over that was started by [`command`].
    pub(crate) fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { child: Some(child), id }
    }

    /// Waits until the command itself has ended. What it left in its process group goes on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.child {
            Some(child) => {
                let status = child.wait().await?;
                // Once waited for, its number may be another's.
                self.child = None;
                Ok(status)
            }
            None => Err(io::Error::other("it was already waited for")),
        }
    }
}

impl Group {
    /// Says whether the command has not been waited for to its end.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Ends the whole group: asks it to end, and ends whatever of it is left after the grace. May be dropped: then
    /// the grace begins again.
    pub(crate) async fn end(&mut self) {
        let (Some(child), Some(id)) = (&mut self.child, self.id) else { return };
        signal(id, Signal::SIGTERM);
        // The command is not waited for before, so that the group's number cannot be another's when the rest of the
        // group is ended, which may have outlived it.
        tokio::time::sleep(COMMAND).await;
        signal(id, Signal::SIGKILL);
        if let Err(error) = child.wait().await {
            log::debug!("cannot wait for process {id}: {error}");
        }
        self.child = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let (Some(mut child), Some(id)) = (self.child.take(), self.id) else { return };
        signal(id, Signal::SIGTERM);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if tokio::time::timeout(COMMAND, child.wait()).await.is_err() {
                    signal(id, Signal::SIGKILL);
                    if let Err(error) = child.wait().await {
                        log::debug!("cannot wait for process {id}: {error}");
                    }
                }
            });
        }
    }
}

/// Runs a command that [`command`] prepared to its end, with nothing to read; `take` is given its output, and `error`
/// each line of its standard error. Dropping the future ends the process group.
pub(crate) async fn run<R: Future<Output = ()>>(
    mut command: Command,
    take: impl FnOnce(ChildStdout) -> R,
    error: impl FnMut(&[u8]),
) -> io::Result<ExitStatus> {
    command.stdin(Stdio::null());
    let Started { mut group, output: Some(output), errors: Some(errors), .. } = start(command).await? else {
        return Err(io::Error::other("it has no pipes"));
    };
    let reading = async { tokio::join!(take(output), each_line(errors, error)) };
    tokio::pin!(reading);
    tokio::select! {
        biased;
        _ = &mut reading => group.wait().await,
        status = group.wait() => {
            // Timed out or not: what the command itself wrote is in by now.
            let _ = tokio::time::timeout(stop::PIPES, reading).await;
            status
        }
    }
}

/// Reads a command's words (its standard error) line by line to their end, without the CR that ssh writes at each; long
/// lines are cut.
pub(crate) async fn each_line(mut words: impl AsyncRead + Unpin, mut line: impl FnMut(&[u8])) {
    let mut chunk = [0; 512];
    let mut gathered = Vec::new();
    let mut line = |gathered: &[u8]| line(gathered.strip_suffix(b"\r").unwrap_or(gathered));
    // A failed read ends them too: there is nothing to be done about it.
    while let Ok(count @ 1..) = words.read(&mut chunk).await {
        for &octet in &chunk[..count] {
            if octet == b'\n' {
                line(&gathered);
                gathered.clear();
            } else if gathered.len() < LINE_OCTETS {
                gathered.push(octet);
            }
        }
    }
    if !gathered.is_empty() {
        line(&gathered);
    }
}

fn signal(group: Pid, signal: Signal) {
    match killpg(group, signal) {
        // ESRCH: it has ended already.
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => log::debug!("cannot send {signal} to process group {group}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_given_one_by_one_and_cut() {
        let mut lines = Vec::new();
        let words = [b"one\r\n\ntwo\n".as_slice(), &[b'x'; 5000], b"\nlast"].concat();
        each_line(words.as_slice(), |line| lines.push(line.to_vec())).await;
        let expected: Vec<Vec<u8>> =
            vec![b"one".to_vec(), vec![], b"two".to_vec(), vec![b'x'; LINE_OCTETS], b"last".to_vec()];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_command_is_named_without_its_arguments() {
        assert_eq!(CommandLine::Shell(" pass show\nx".into()).to_string(), "pass");
        assert_eq!(
            CommandLine::Argv(vec!["/bin/my prog".into(), "secret".into()]).to_string(),
            "/bin/my prog"
        );
    }
}
