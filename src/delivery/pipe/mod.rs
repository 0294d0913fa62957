//! The pipe target: one process a message, which finds the message on its standard input.
//!
//! A process is started when its message is complete, and the next one when it has ended: one at a time for an
//! account, in the order in which the messages came. Standard input is a file that can be read at any pace, in parts,
//! or not at all; nobody waits for a command to take the next octet. So a command that succeeds without having read
//! everything has the message, and one that leaves a process behind, which reads on, cuts nothing off for it.
//!
//! Each process has its own process group, which is ended at the time limit and when nobody waits any more.
//!
//! # After a crash
//!
//! Messages are recorded while the next ones are handed over ([`super::Facts::most_unrecorded`]), so that a kill, or a
//! power cut, repeats at most three: two that were being recorded, and the one that a process had got. Nothing is lost:
//! what is not recorded is on the server.

mod facts;
mod status;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, geteuid};
use tokio::io::AsyncRead;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::mbox::from_line;
use super::spool::{self, Content, LineEnds, Spooled, Unspooled};
use super::{Access, LARGE, Outcome, TargetError, is_no_room};
use crate::config::account::CommandLine;
use crate::config::target::{self, Fact};
use crate::disk::workers::Following;
use crate::disk::{Disk, OpenFile, spool_directory};
use crate::lock::lock;
use crate::logging;
use crate::message::MessageId;
use crate::net::process::{self, Group};
use crate::stop;
use crate::text::Shown;
use facts::Facts;
use status::Verdict;
/// Lines of a command's output that go into the log, for one message.
const LOGGED_LINES: usize = 100;
/// Where a command is looked for that is run as another user.
const USERS_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What sh(1) exits with if it finds no program of a name.
const SHELL_FINDS_NONE: i32 = 127;
/// What it exits with if it cannot run one. That may be due to the message, which may have made its arguments too long.
const SHELL_CANNOT_RUN: i32 = 126;

/// A command that is delivered to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pipe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disk: Disk,
    access: Access,
    pipe: target::Pipe,
    /// Whom the command is run as, if not as ourselves.
    user: Option<RunAs>,
}

impl Pipe {
    /// Looks up the user that the command is to be run as; the command itself is met with the first message.
    pub(super) async fn open(pipe: &target::Pipe, disk: Disk, access: Access) -> Result<Self, TargetError> {
        let user = match &pipe.run_as {
            // The user database may be a server, and the home directory lie on one.
            Some(name) => {
                let (pipe, name) = (pipe.clone(), name.clone());
                let about = Path::new(&name).to_owned();
                let found = disk.run(&about, move || user(&pipe, &name)).await;
                found.map_err(|error| unknown(&about, error))??
            }
            None => None,
        };
        Ok(Self(Arc::new(Shared { disk, access, pipe: pipe.clone(), user })))
    }

    pub(super) fn draft(&self, message: MessageId) -> spool::Draft {
        spool::Draft::new(&self.0.disk, message, LineEnds::Lf)
    }

    /// Hands messages over one after the other. If the target fails after some of them, the rest is put off: what is
    /// delivered must be told.
    pub(super) async fn commit(&self, finished: Vec<spool::Finished>) -> Result<Vec<Outcome>, TargetError> {
        let count = finished.len();
        let mut outcomes = Vec::with_capacity(count);
        for message in finished {
            if self.0.access.stop.is_asked() {
                outcomes.resize(count, Outcome::NotTried);
                break;
            }
            let outcome = async {
                match message.spooled().await {
                    Ok(message) => self.0.hand_over(message).await,
                    Err(Unspooled::Later(reason)) => Ok(Outcome::Later(reason)),
                    Err(Unspooled::Disk(error)) => Err(error),
                }
            };
            match outcome.await {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if outcomes.is_empty() => return Err(error),
                Err(error) => {
                    outcomes.resize(count, Outcome::Later(error.to_string()));
                    break;
                }
            }
        }
        Ok(outcomes)
    }
}

impl Shared {
    async fn hand_over(&self, message: Spooled) -> Result<Outcome, TargetError> {
        let facts = match Facts::of(&self.pipe, &self.access, &message) {
            Ok(facts) => facts,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        let mut command = self.command(&facts);
        let from_line = self.pipe.from_line.then(|| {
            let from = Some(facts.from()).filter(|from| !from.is_empty());
            from_line(from, jiff::Timestamp::now())
        });
        drop(facts);
        let octets = message.octets;
        let input = match self.input(message.content, from_line).await {
            Ok(input) => input,
            Err(source) => {
                let is_crowded = octets > LARGE && is_no_room(&source);
                let error = TargetError::File { doing: "spool into", path: spool_directory(), source };
                return if is_crowded { Ok(Outcome::Later(error.to_string())) } else { Err(error) };
            }
        };
        command.stdin(Stdio::from(input));
        let started = process::start(command).await.map_err(|error| self.cannot_run(&error))?;
        let words =
            [started.output.map(|output| self.log(output)), started.errors.map(|errors| self.log(errors))];
        let mut running = Running { group: Some(started.group), _following: self.disk.following() };
        let Ok(ended) = tokio::time::timeout(self.pipe.timeout, running.wait()).await else {
            running.end().await;
            let reason =
                format!("gave up after {}s waiting for {}", self.pipe.timeout.as_secs_f64(), self.name());
            return Ok(Outcome::Later(reason + &last(words).await));
        };
        let status = ended.map_err(|error| self.cannot_run(&error))?;
        let last = last(words).await;
        match (&self.pipe.command, status.code()) {
            (CommandLine::Shell(_), Some(SHELL_FINDS_NONE)) => {
                return Err(TargetError::Command {
                    command: self.name(),
                    what: format!(
                        "sh exited with {SHELL_FINDS_NONE}, as it does if it finds no such program{last}"
                    ),
                    hint: Some(
                        "install it, or write its path in full; what a daemon finds by PATH may be little"
                            .into(),
                    ),
                });
            }
            (CommandLine::Shell(_), Some(SHELL_CANNOT_RUN)) => {
                return Ok(Outcome::Later(format!(
                    "sh exited with {SHELL_CANNOT_RUN}, as it does if it cannot run a program (not executable, or its \
                     arguments are too long){last}"
                )));
            }
            (CommandLine::Shell(_) | CommandLine::Argv(_), _) => {}
        }
        Ok(match Verdict::of(status) {
            Verdict::Delivered => Outcome::Delivered,
            Verdict::Later(what) => Outcome::Later(format!("{} {what}{last}", self.name())),
            Verdict::Refused(what) => Outcome::Refused(format!("{} {what}{last}", self.name())),
        })
    }

    /// Gives the message as a file that is read from its start; nobody else has it open. It belongs to whom the command
    /// runs as, who may open it again (`/dev/stdin`).
    async fn input(&self, content: Content, from_line: Option<Vec<u8>>) -> io::Result<File> {
        let owner = self.user.as_ref().map(|user| (user.uid, user.gid));
        let (content, first) = match (content, from_line, owner) {
            // It was rewound when it was spooled.
            (Content::File(file), None, None) => return Ok(file),
            (Content::File(file), None, Some(owner)) => {
                let spool = spool_directory();
                let given = self.disk.run(&spool, move || {
                    give(&file, owner);
                    file
                });
                return given.await;
            }
            (content, first, _) => (content, first.unwrap_or_default()),
        };
        if let Content::Memory(octets) = &content
            && let Some(file) = in_memory(&first, octets.as_ref())
        {
            return Ok(file);
        }
        let spool = spool_directory();
        let copied = self.disk.run(&spool, move || {
            let file = copy(first, content)?;
            if let Some(owner) = owner {
                give(&file, owner);
            }
            Ok(file)
        });
        copied.await?
    }

    fn command(&self, facts: &Facts<'_>) -> Command {
        let words = |word: &String| match Fact::named(word) {
            Some(fact) => facts.arguments(fact),
            None => vec![word.into()],
        };
        let mut command = match &self.pipe.command {
            line @ CommandLine::Shell(_) => process::command(line),
            CommandLine::Argv(argv) => process::argv(argv.iter().flat_map(words)),
        };
        if let Some(user) = &self.user {
            // Root's environment is root's.
            command.env_clear().env("PATH", USERS_PATH);
            command.envs(std::env::vars_os().filter(|(name, _)| is_anybodys(name)));
            // Being root, uid() lets go of all supplementary groups, too (std::os::unix::process::CommandExt).
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
            let home = &user.home;
            command
                .env("HOME", home)
                .env("USER", &user.name)
                .env("LOGNAME", &user.name)
                .env("SHELL", &user.shell);
            command.current_dir(home);
        }
        command.envs(facts.variables());
        command
    }

    /// Logs what a command says, line by line, and keeps its last words. What it left running may go on speaking for
    /// as long as a command may take.
    fn log(&self, output: impl AsyncRead + Unpin + Send + 'static) -> Words {
        let last = Arc::new(Mutex::new(String::new()));
        // Whoever is ended may still say something in its grace; without a listener it would die of that (SIGPIPE).
        let patience = self.pipe.timeout.saturating_add(stop::COMMAND + stop::PIPES);
        let (spoken, name) = (last.clone(), self.name());
        let logged = async move {
            let mut lines = 0;
            let speaking = process::each_line(output, |line| {
                lines += 1;
                let line = Shown(line).to_string();
                match lines {
                    ..=LOGGED_LINES => log::info!("{name}: {line}"),
                    _ if lines == LOGGED_LINES + 1 => log::info!("{name}: (more is not logged)"),
                    _ => {}
                }
                if !line.trim().is_empty() {
                    *lock(&spoken) = line;
                }
            });
            // Too late to tell anyone.
            let _ = tokio::time::timeout(patience, speaking).await;
        };
        let account = self.access.account.as_str().into();
        Words { last, logged: tokio::spawn(logging::of_account(account, logged)) }
    }

    fn name(&self) -> String {
        self.pipe.command.to_string()
    }

    fn cannot_run(&self, error: &io::Error) -> TargetError {
        let hint = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Some("install it, or write its path in full"),
            Some(Errno::EACCES) => {
                Some("it is not executable, or this user may not enter a directory above it")
            }
            Some(Errno::ENOEXEC) => Some("a script begins with #! and its interpreter"),
            Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => {
                Some("the system is short of processes, memory or open files; it is tried again")
            }
            _ => None,
        };
        TargetError::Command { command: self.name(), what: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

/// Says whether a variable of ours is of use to another user, too: language and time zone.
fn is_anybodys(name: &OsStr) -> bool {
    matches!(name.as_encoded_bytes(), b"LANG" | b"TZ" | [b'L', b'C', b'_', ..])
}

/// Whom a command is run as.
#[derive(Debug)]
struct RunAs {
    name: String,
    uid: Uid,
    gid: Gid,
    /// The home directory, if it is there.
    home: PathBuf,
    shell: PathBuf,
}

impl From<User> for RunAs {
    fn from(user: User) -> Self {
        let User { name, uid, gid, dir, shell, .. } = user;
        Self { name, uid, gid, home: if dir.is_dir() { dir } else { PathBuf::from("/") }, shell }
    }
}

/// What is said when the user database does not answer.
fn unknown(user: &Path, source: io::Error) -> TargetError {
    TargetError::File { doing: "look up the user", path: user.to_owned(), source }
}

/// Gives a file without a name to a user: with that, he may open it again, and it is all that he may. Where files have no
/// owners, he still reads what he was handed.
fn give(file: &File, (uid, gid): (Uid, Gid)) {
    if let Err(error) = nix::unistd::fchown(file, Some(uid), Some(gid)) {
        log::debug!("cannot give the message to user {uid}, who may be unable to open /dev/stdin: {error}");
    }
}

/// Finds the user that a command is to be run as; nothing if that is who we are.
fn user(pipe: &target::Pipe, name: &str) -> Result<Option<RunAs>, TargetError> {
    let refused = |what: String, hint: &str| TargetError::Command {
        command: pipe.command.to_string(),
        what,
        hint: Some(hint.to_owned()),
    };
    let user = User::from_name(name)
        .map_err(|error| refused(format!("cannot look up user {name}: {error}"), "check the user database"))?
        .ok_or_else(|| refused(format!("there is no user {name}"), "check the name after `user:`"))?;
    let us = geteuid();
    if user.uid == us {
        Ok(None)
    } else if us.is_root() {
        Ok(Some(user.into()))
    } else {
        Err(refused(
            format!("only root can run it as {name}, and this runs as user {us}"),
            "remove `user:`, or run postrider as root or as that user",
        ))
    }
}

/// Makes a file that lies in memory, without a worker's help; nothing where there is no such thing, or no more room.
#[cfg(target_os = "linux")]
fn in_memory(first: &[u8], octets: &[u8]) -> Option<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};

    let mut file = File::from(memfd_create("message", MFdFlags::MFD_CLOEXEC).ok()?);
    file.write_all(first).and_then(|()| file.write_all(octets)).and_then(|()| file.rewind()).ok()?;
    Some(file)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_: &[u8], _: &[u8]) -> Option<File> {
    None
}

/// Makes a file of a first line and a message.
fn copy(first: Vec<u8>, content: Content) -> io::Result<File> {
    let unnamed = OpenFile::unnamed(&spool_directory())?;
    let mut part = first;
    let mut reader = content.reader()?;
    loop {
        // In one piece if it is in memory.
        let count = reader.by_ref().take(PART).read_to_end(&mut part)?;
        unnamed.append(&part)?;
        part.clear();
        if count == 0 {
            break;
        }
    }
    let mut file = unnamed.into_file();
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

/// Octets that are copied at once.
const PART: u64 = 256 << 10;

/// What a command says, being logged.
struct Words {
    last: Arc<Mutex<String>>,
    logged: JoinHandle<()>,
}

/// Gives the last line that a command has said, on standard error if it said anything there, after a colon.
async fn last(words: [Option<Words>; 2]) -> String {
    let until = tokio::time::Instant::now() + stop::PIPES;
    let mut last = String::new();
    for mut words in words.into_iter().flatten() {
        // If it is not at its end by then, it goes on by itself.
        let _ = tokio::time::timeout_at(until, &mut words.logged).await;
        let line = lock(&words.last).clone();
        if !line.is_empty() {
            last = format!(": {line}");
        }
    }
    last
}

/// A process with all that it started; dropped = ended, and [`Disk::settled`] waits for that.
#[derive(Debug)]
struct Running {
    group: Option<Group>,
    _following: Following,
}

impl Running {
    async fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        match &mut self.group {
            Some(group) => group.wait().await,
            None => Err(io::Error::other("it was ended")),
        }
    }

    async fn end(&mut self) {
        if let Some(group) = &mut self.group {
            group.end().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut group) = self.group.take().filter(Group::is_running) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let following = self._following.again();
            runtime.spawn(async move {
                group.end().await;
                drop(following);
            });
        }
    }
}
