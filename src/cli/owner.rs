//! Whose a state is, where root looks after a service that runs as another user.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, chown, geteuid, initgroups, setgid, setgroups, setuid};

/// The user that a state belongs to, who is not the one that runs this: root.
#[derive(Debug)]
pub(super) struct Owner {
    uid: Uid,
    gid: Gid,
    user: Option<User>,
}

impl Owner {
    /// Finds whose the directory of a state is, if this is root and that is somebody else.
    pub(super) fn of(state: &Path) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let there = state.ancestors().skip(1).find_map(|directory| directory.metadata().ok())?;
        let (uid, gid) = (Uid::from_raw(there.uid()), Gid::from_raw(there.gid()));
        let user = User::from_uid(uid).ok().flatten();
        (!uid.is_root()).then_some(Self { uid, gid, user })
    }

    /// Has this process be that user from here on.
    pub(super) fn become_it(&self) -> io::Result<()> {
        match &self.user {
            Some(user) => {
                let name = CString::new(user.name.as_str())?;
                initgroups(&name, user.gid)?;
                setgid(user.gid)?;
            }
            None => {
                setgroups(&[self.gid])?;
                setgid(self.gid)?;
            }
        }
        setuid(self.uid)?;
        Ok(())
    }

    /// Gives a file away to that user.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        Ok(chown(path, Some(self.uid), Some(self.gid))?)
    }

    pub(super) fn name(&self) -> String {
        self.user.as_ref().map_or_else(|| format!("user {}", self.uid), |user| user.name.clone())
    }
}
