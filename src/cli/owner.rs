//! Whose a state is, where root looks after a service that runs as another user.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::{Gid, Uid, User, chown, geteuid, initgroups, setgid, setgroups, setuid};

use crate::config::{Config, default_state};

/// The user that a state belongs to, who is not the one that runs this: root.
#[derive(Debug)]
pub(super) struct Owner {
    uid: Uid,
    gid: Gid,
    user: Option<User>,
}

/// The machine's configuration, and the state that the service of a package keeps if that names none.
const SERVICE: [&str; 2] = ["/etc/postrider/config.yaml", "/var/lib/postrider/state.db"];

/// Gives the state of the machine's service if this is its configuration and it has a place for one.
pub(super) fn state_of_service(config: &Path) -> Option<&'static Path> {
    let [machine, state] = SERVICE.map(Path::new);
    (config == machine && state.parent().is_some_and(Path::is_dir)).then_some(state)
}

/// Gives the state that the machine's service keeps where its configuration names none, and a shell would look elsewhere.
pub(super) fn unnamed_state(config: &Config) -> Option<&'static Path> {
    let is_usual = default_state().is_ok_and(|usual| usual == config.state);
    let is_file = config.database.is_none() && is_usual;
    config.file.as_deref().and_then(state_of_service).filter(|state| is_file && *state != config.state)
}

impl Owner {
    /// Finds who polls with a configuration, if this is root and that is somebody else.
    pub(super) fn of_config(config: &Config) -> Option<Self> {
        Self::of(unnamed_state(config).unwrap_or(&config.state))
    }

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

    /// Lets that user read a file of root's, and nobody else.
    pub(super) fn let_read(&self, path: &Path) -> io::Result<()> {
        chown(path, None, Some(self.gid))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o640))
    }

    pub(super) fn name(&self) -> String {
        self.user.as_ref().map_or_else(|| format!("user {}", self.uid), |user| user.name.clone())
    }
}
