//! The dot-lock: a file `PATH.lock` that says "keep away" to every program that uses the mbox.
//!
//! It is made exclusively (as by `O_EXCL`) and holds `PID:HOST`, as Dovecot's does, so that Dovecot sees by itself if we died,
//! and we if Dovecot did. procmail and others write something else or nothing; how old their lock is has to tell.
//!
//! A lock is stale, and removed,
//!
//! - if it names a process of this host that is gone; while that process lives it is not, however old;
//! - else if neither it nor the mbox was changed for [`STALE`], or by no clock that can be right.
//!
//! Right before it is removed, it is looked at again: another program may have found it stale too, and be the holder
//! now. Two of us cannot meet there, since whoever comes here holds the kernel's lock on the mbox; and even with the
//! dot-lock taken from each other, that one keeps us and another program apart.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::unistd::{Pid, getpid};

use crate::delivery::TargetError;
use crate::delivery::error::file_error;
use crate::disk::{Directory, Identity, OpenFile};
use crate::net::host_name;
use crate::text::Shown;

/// How long a lock of nobody known may stay unchanged: what Dovecot waits for (`mbox_dotlock_change_timeout`).
pub(super) const STALE: Duration = Duration::from_secs(120);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Octets of somebody's lock that are read: a number and a host name.
const LOOKED_AT: usize = 256;

/// The lock, held; dropped = released.
#[derive(Debug)]
pub(super) struct DotLock<'a> {
    directory: &'a Directory,
    name: OsString,
    /// Open, so that no other file can be taken for it.
    file: OpenFile,
}

/// What came of trying.
#[derive(Debug)]
pub(super) enum Tried<'a> {
    Taken(DotLock<'a>),
    /// Somebody else has it; who, for the user.
    Held(String),
}

impl<'a> DotLock<'a> {
    /// Takes the lock on `mbox`, the open file `name`, whose kernel lock must be held, unless somebody else has it.
    pub(super) fn try_take(
        directory: &'a Directory,
        name: &OsStr,
        mbox: &OpenFile,
    ) -> Result<Tried<'a>, TargetError> {
        let mut name = name.to_owned();
        name.push(".lock");
        if let Some(lock) = Self::create(directory, &name)? {
            return Ok(Tried::Taken(lock));
        }
        let error = |doing, error| file_error(doing, &directory.path.join(&name), error);
        let found = match directory.identify(&name) {
            Ok(found) => found,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(Tried::Held(someone())),
            Err(other) => return Err(error("look at", other)),
        };
        let holder = Holder::of(directory, &name);
        let is_unchanged = match mbox.identify() {
            Ok(mbox) => is_old(&found) && is_old(&mbox),
            Err(other) => return Err(file_error("look at", &mbox.path, other)),
        };
        if holder.lives().unwrap_or(!is_unchanged) {
            return Ok(Tried::Held(holder.to_string()));
        }
        match directory.identify(&name) {
            Ok(again) if again == found => {
                log::warn!("{}: removing the stale lock of {holder}", directory.path.join(&name).display());
                match directory.remove(&name) {
                    Err(other) if other.kind() != io::ErrorKind::NotFound => {
                        return Err(error("remove", other));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            // Somebody else was faster.
            Ok(_) | Err(_) => return Ok(Tried::Held(someone())),
        }
        Ok(match Self::create(directory, &name)? {
            Some(lock) => Tried::Taken(lock),
            None => Tried::Held(someone()),
        })
    }

    /// Makes the file; nothing if there is one.
    fn create(directory: &'a Directory, name: &OsStr) -> Result<Option<Self>, TargetError> {
        // A process that is killed between making it and writing into it would leave a lock that names nobody, and
        // that all wait for until it is old.
        let words = format!("{}:{}", getpid(), host_name());
        match directory.create_with(name, words.as_bytes()) {
            Ok(file) => Ok(Some(Self { directory, name: name.to_owned(), file })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(file_error("create", &directory.path.join(name), error)),
        }
    }
}

impl Drop for DotLock<'_> {
    fn drop(&mut self) {
        let found = self.directory.identify(&self.name);
        let removed = match (found, self.file.identify()) {
            (Ok(found), Ok(ours)) if found.is_file(&ours) => self.directory.remove(&self.name),
            // Somebody took it for stale, so the one that is there, if any, is not ours to remove.
            (Ok(_), Ok(_)) => Ok(()),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", self.file.path.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Who holds a lock, by its content.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Another process of this host.
    Process(Pid),
    /// A process with our own number: another account's delivery, or one that died in a container before this one,
    /// where the first process always has the same number.
    Namesake,
    /// A process of another host.
    Host(String),
    /// It does not say, or we may not read it.
    Unknown,
}

impl Holder {
    fn of(directory: &Directory, name: &OsStr) -> Self {
        let mut words = [0; LOOKED_AT];
        let read = directory.open_existing(name).and_then(|file| file.read_at(&mut words, 0));
        Self::named_by(&words[..read.unwrap_or(0)])
    }

    fn named_by(words: &[u8]) -> Self {
        let named = str::from_utf8(words).ok().and_then(|words| words.trim().split_once(':'));
        // 0 and what is negative would be groups of processes.
        let named =
            named.and_then(|(pid, host)| Some((pid.parse::<i32>().ok().filter(|pid| *pid > 0)?, host)));
        match named {
            Some((pid, at)) if at == host_name() => {
                let pid = Pid::from_raw(pid);
                if pid == getpid() { Self::Namesake } else { Self::Process(pid) }
            }
            Some((_, at)) => Self::Host(Shown(at.as_bytes()).to_string()),
            None => Self::Unknown,
        }
    }

    /// Says whether the holder is there; `None` where nothing but the age of lock and mbox can tell.
    fn lives(&self) -> Option<bool> {
        match self {
            // No signal is sent by that; EPERM means that it lives and is another user's.
            Self::Process(pid) => Some(nix::sys::signal::kill(*pid, None) != Err(Errno::ESRCH)),
            Self::Namesake | Self::Host(_) | Self::Unknown => None,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Namesake => f.write_str("another account's delivery"),
            Self::Host(host) => write!(f, "a process on {host}"),
            Self::Unknown => f.write_str("another program"),
        }
    }
}

fn is_old(file: &Identity) -> bool {
    was_long_ago(SystemTime::now(), file.modified)
}

/// Says whether a time is older than [`STALE`]. Another host's clock may be ahead, by minutes; what is ahead by more than a
/// day was written by a clock that was wrong, and nobody waits until then.
fn was_long_ago(now: SystemTime, modified: SystemTime) -> bool {
    match now.duration_since(modified) {
        Ok(age) => age > STALE,
        Err(ahead) => ahead.duration() > DAY,
    }
}

fn someone() -> String {
    Holder::Unknown.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_old_after_two_minutes_or_where_it_comes_from_another_day_ahead() {
        let now = SystemTime::now();
        for (time, old) in [(now, false), (now - STALE, false), (now - 2 * STALE, true)] {
            assert_eq!(was_long_ago(now, time), old);
        }
        assert!(!was_long_ago(now, now + DAY) && was_long_ago(now, now + 365 * DAY));
    }

    #[test]
    fn a_lock_names_its_holder_only_by_process_and_host() {
        let (own, host) = (getpid(), host_name());
        for (words, holder) in [
            (format!("1:{host}"), Holder::Process(Pid::from_raw(1))),
            (format!("1:{host}\n"), Holder::Process(Pid::from_raw(1))),
            (format!("{own}:{host}"), Holder::Namesake),
            ("1:elsewhere.example".into(), Holder::Host("elsewhere.example".into())),
            // procmail's, liblockfile's, mutt's; and what must not become a group of processes.
            ("0".into(), Holder::Unknown),
            ("1234\n".into(), Holder::Unknown),
            (String::new(), Holder::Unknown),
            (format!("0:{host}"), Holder::Unknown),
            (format!("-1:{host}"), Holder::Unknown),
        ] {
            assert_eq!(Holder::named_by(words.as_bytes()), holder, "{words}");
        }
    }
}
