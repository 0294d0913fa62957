//! The directories of a maildir: opened, and created durably where they are missing.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::delivery::TargetError;
use crate::delivery::error::file_error;
use crate::delivery::owner;
use crate::disk::{Directory, above};

/// The three directories of a maildir, open for as long as it is delivered to.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) tmp: Directory,
    pub(super) new: Directory,
    pub(super) cur: Directory,
}

impl Directories {
    /// Opens a maildir, creating what is missing, directories above it included, all 0700.
    ///
    /// The path may lead through symbolic links, and be one (root goes its own only, [`crate::disk::trust`]); `tmp`, `new` and `cur` may not: whoever can make a link
    /// there could let a root-run delivery write elsewhere (as in CVE-2004-0881).
    pub(super) fn open(path: &Path) -> Result<Self, TargetError> {
        let root = match Directory::open(path) {
            Ok(root) => {
                // An earlier run may have been killed between making it and making it durable.
                sync_parent(&root)?;
                check_owner(&root)?;
                root
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(not_opened(path, error)),
        };
        let tmp = subdirectory(&root, "tmp")?;
        let new = subdirectory(&root, "new")?;
        let cur = subdirectory(&root, "cur")?;
        for directory in [&tmp, &new, &cur] {
            check_owner(directory)?;
        }
        // Also if all three were there, for the same reason; a directory that is clean costs nothing.
        sync(&root)?;
        for directory in [&tmp, &new] {
            let writable = directory.check_writable();
            writable.map_err(|source| file_error("write into", &directory.path, source))?;
        }
        Ok(Self { tmp, new, cur })
    }
}

/// Makes a directory and those above it, each durable before anything is made in it. So only the last one that exists
/// can be not yet durable after a crash, and its parent is made durable too before it is built upon.
fn make(path: &Path) -> Result<Directory, TargetError> {
    let Some(name) = path.file_name() else {
        return Err(file_error("create", path, io::ErrorKind::NotFound.into()));
    };
    let above = above(path);
    let parent = match Directory::open(above) {
        Ok(parent) => {
            sync_parent(&parent)?;
            parent
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(above)?,
        Err(error) => return Err(not_opened(above, error)),
    };
    check_owner(&parent)?;
    make_in(&parent, name)?;
    sync(&parent)?;
    Directory::open(path).map_err(|error| not_opened(path, error))
}

fn subdirectory(root: &Directory, name: &str) -> Result<Directory, TargetError> {
    let name = OsStr::new(name);
    let opened = match root.open_subdirectory(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_in(root, name)?;
            root.open_subdirectory(name)
        }
        opened => opened,
    };
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => TargetError::Unfit {
            path: root.path.join(name),
            what: "is not a directory; one that mail is delivered into may not be a symbolic link either"
                .to_owned(),
        },
        _ => file_error("open", &root.path.join(name), error),
    })
}

fn check_owner(directory: &Directory) -> Result<(), TargetError> {
    let owner = directory.owner().map_err(|source| file_error("look at", &directory.path, source))?;
    owner::check(owner, &directory.path)
}

fn make_in(within: &Directory, name: &OsStr) -> Result<(), TargetError> {
    match within.make_directory(name) {
        // Another account made it just now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|source| file_error("create", &within.path.join(name), source)),
    }
}

fn sync(directory: &Directory) -> Result<(), TargetError> {
    directory.sync().map_err(|source| file_error("make durable", &directory.path, source))
}

/// Makes the name of a directory that exists durable.
fn sync_parent(directory: &Directory) -> Result<(), TargetError> {
    match directory.open_parent() {
        Ok(parent) => sync(&parent),
        // One that may be passed through but not read (0711) was not made by us.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(file_error("open", &directory.path.join(".."), error)),
    }
}

fn not_opened(path: &Path, error: io::Error) -> TargetError {
    match error.kind() {
        io::ErrorKind::NotADirectory => TargetError::Unfit {
            path: path.to_owned(),
            what: "is not a directory, or something above it is not; a maildir is a directory".to_owned(),
        },
        _ => file_error("open", path, error),
    }
}
