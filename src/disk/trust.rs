//! Whose a path is, which root asks before it goes there.
//!
//! Whoever owns a symbolic link on the way decides where root reads and writes, `~alice/Maildir` -> `/etc`. So root goes
//! a way step by step, and follows no link but its own. Everybody else goes where the system lets him.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::libc::{S_IFDIR, S_IFLNK, S_IFMT, mode_t};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{Uid, User, geteuid};

/// Links on one way at most, as the kernel's own limit.
const MOST_LINKS: usize = 40;

/// How directories are opened to be read.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// How they are opened to be gone through: under Linux the sandbox allows that everywhere.
#[cfg(target_os = "linux")]
const THROUGH: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlag = DIRECTORY;

/// Why root does not go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path} {what}", path = .path.display())]
pub(crate) struct Distrusted {
    path: PathBuf,
    what: String,
}

impl From<Distrusted> for io::Error {
    fn from(distrusted: Distrusted) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, distrusted)
    }
}

/// A path as far as it leads through directories.
struct Way {
    directory: OwnedFd,
    /// What is left: nothing; what is no directory; or what is missing.
    rest: Vec<OsString>,
}

/// Opens a directory; root follows no link of others to it.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    if !geteuid().is_root() {
        return Ok(open(path, DIRECTORY, Mode::empty())?);
    }
    let way = go(path)?;
    match way.rest.first() {
        None => Ok(openat(&way.directory, ".", DIRECTORY, Mode::empty())?),
        // Says by itself whether it is missing or no directory.
        Some(name) => {
            Ok(openat(&way.directory, name.as_os_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?)
        }
    }
}

/// Refuses a file that is to be opened by its path, there or not, where others than root decide what it is: by a link on
/// the way, or since they own it or its directory; or one beside it, whose name ends with one of these. Asks nobody but
/// root.
pub(crate) fn check_file(path: &Path, beside: &[&str]) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let way = go(path)?;
    let above = path.parent().unwrap_or(path);
    check_owner(owner(&fstat(&way.directory)?), above)?;
    // Where directories are missing, so is what would be in them.
    let [name] = way.rest.as_slice() else { return Ok(()) };
    for end in std::iter::once("").chain(beside.iter().copied()) {
        let mut name = name.clone();
        name.push(end);
        match fstatat(&way.directory, name.as_os_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => check_owner(owner(&found), &above.join(name))?,
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Refuses what belongs to somebody else, if we are root.
pub(crate) fn check_owner(owner: Uid, path: &Path) -> Result<(), Distrusted> {
    if owner.is_root() || !geteuid().is_root() {
        return Ok(());
    }
    let name = name_of(owner);
    Err(Distrusted {
        path: path.to_owned(),
        what: format!(
            "belongs to user {name}, and this runs as root, which writes to nobody else's files; {}",
            as_user(&name)
        ),
    })
}

/// Says how root has it run by a user.
pub(crate) fn as_user(name: &str) -> String {
    format!(
        "run it as that user (`runuser -u {name} -- postrider ...`; systemd: User={name}; cron: the crontab of {name})"
    )
}

pub(crate) fn name_of(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name)
}

fn go(path: &Path) -> io::Result<Way> {
    let mut directory = open(".", THROUGH, Mode::empty())?;
    let mut shown = PathBuf::new();
    let mut rest: VecDeque<OsString> = steps(path).collect();
    let mut links = 0;
    while let Some(step) = rest.pop_front() {
        shown.push(&step);
        if step == "/" {
            directory = open("/", THROUGH, Mode::empty())?;
            continue;
        }
        let (found, target) = match look(&directory, &step) {
            Ok(looked) => looked,
            Err(Errno::ENOENT) => {
                rest.push_front(step);
                return Ok(Way { directory, rest: rest.into() });
            }
            Err(errno) => return Err(errno.into()),
        };
        if let Some(target) = target {
            check_link(&fstat(&directory)?, &found, &shown)?;
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            shown.pop();
            for step in steps(Path::new(&target)).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(step);
            }
        } else if kind(&found) == S_IFDIR {
            directory = openat(&directory, step.as_os_str(), THROUGH | OFlag::O_NOFOLLOW, Mode::empty())?;
        } else {
            rest.push_front(step);
            return Ok(Way { directory, rest: rest.into() });
        }
    }
    Ok(Way { directory, rest: Vec::new() })
}

fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some("/".into()),
        Component::ParentDir => Some("..".into()),
        Component::Normal(name) => Some(name.to_owned()),
        Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Refuses a link that others may have put there.
fn check_link(directory: &FileStat, link: &FileStat, path: &Path) -> Result<(), Distrusted> {
    let distrusted = |what| Err(Distrusted { path: path.to_owned(), what });
    let owner = owner(link);
    if !owner.is_root() && owner != geteuid() {
        let name = name_of(owner);
        return distrusted(format!(
            "is a symbolic link of user {name}, and this runs as root, which follows nobody else's; {}, or give the path \
             that it leads to",
            as_user(&name)
        ));
    }
    let mode = directory.st_mode & 0o1777;
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return distrusted("is a symbolic link in a directory in which everybody may put another".into());
    }
    Ok(())
}

/// Says what a name leads to, and of a link where that leads.
#[cfg(target_os = "linux")]
fn look(within: &OwnedFd, name: &OsStr) -> nix::Result<(FileStat, Option<OsString>)> {
    // Held by this, it stays the one that is looked at.
    let held = openat(within, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let found = fstat(&held)?;
    let target = if kind(&found) == S_IFLNK { Some(readlinkat(&held, "")?) } else { None };
    Ok((found, target))
}

#[cfg(not(target_os = "linux"))]
fn look(within: &OwnedFd, name: &OsStr) -> nix::Result<(FileStat, Option<OsString>)> {
    let found = fstatat(within, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let target = if kind(&found) == S_IFLNK { Some(readlinkat(within, name)?) } else { None };
    Ok((found, target))
}

fn kind(found: &FileStat) -> mode_t {
    found.st_mode & S_IFMT
}

fn owner(found: &FileStat) -> Uid {
    Uid::from_raw(found.st_uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    /// Some user who is not root.
    const OTHER: u32 = 12_345;

    #[test]
    fn root_follows_its_own_links_and_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("real/below")).unwrap();
        symlink("real", path("link")).unwrap();
        symlink(path("real"), path("absolute")).unwrap();
        symlink("loop", path("loop")).unwrap();
        for good in ["real/below", "link/below", "absolute/below", "real/../link/./below", "link"] {
            assert!(open_directory(&path(good)).is_ok(), "{good}");
        }
        assert!(open_directory(Path::new(".")).is_ok());
        let errno = |name: &str| open_directory(&path(name)).unwrap_err().raw_os_error();
        assert_eq!(errno("real/missing"), Some(Errno::ENOENT as i32));
        assert_eq!(errno("loop"), Some(Errno::ELOOP as i32));
        fs::write(path("file"), "").unwrap();
        assert_eq!(errno("file"), Some(Errno::ENOTDIR as i32));
        assert_eq!(errno("file/below"), Some(Errno::ENOTDIR as i32));
        if !geteuid().is_root() {
            eprintln!("not tested as root: links of others");
            return;
        }
        lchown(path("link"), Some(OTHER), None).unwrap();
        for bad in ["link", "link/below", "link/missing"] {
            let told = open_directory(&path(bad)).unwrap_err().to_string();
            assert!(told.contains("link is a symbolic link of user 12345"), "{told}");
        }
        fs::create_dir(path("open")).unwrap();
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o777)).unwrap();
        symlink(path("real"), path("open/link")).unwrap();
        let told = open_directory(&path("open/link")).unwrap_err().to_string();
        assert!(told.contains("everybody may put another"), "{told}");
        fs::set_permissions(path("open"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(open_directory(&path("open/link")).is_ok());
    }

    #[test]
    fn root_uses_no_file_that_is_anothers_or_lies_where_another_decides() {
        if !geteuid().is_root() {
            eprintln!("not tested: files of others, which only root may make");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["ours", "theirs"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), "").unwrap();
        }
        fs::write(path("ours/foreign"), "").unwrap();
        symlink(path("ours/file"), path("link")).unwrap();
        symlink(path("ours/missing"), path("dangling")).unwrap();
        for good in ["ours/file", "ours/missing", "missing/missing", "link", "dangling"] {
            assert!(check_file(&path(good), &["-wal"]).is_ok(), "{good}");
        }
        fs::write(path("ours/beside-wal"), "").unwrap();
        for name in ["theirs", "ours/foreign", "link", "dangling", "ours/beside-wal"] {
            lchown(path(name), Some(OTHER), None).unwrap();
        }
        for bad in ["ours/foreign", "ours/beside", "theirs/file", "theirs/missing/file", "link", "dangling"] {
            assert!(check_file(&path(bad), &["-wal"]).is_err(), "{bad}");
        }
    }
}
