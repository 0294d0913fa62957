//! The sandbox: what the process may still do to files once it knows its configuration (Linux, Landlock).
//!
//! A mail fetcher reads what strangers wrote. Should one of them find a hole in it, the kernel keeps the process from
//! reading keys and other mail of its user, and from writing anywhere but into the state and the targets.
//!
//! # What holds
//!
//! - [`enter`] confines the calling thread and those that it starts later: Landlock's domain, as no_new_privs, belongs
//!   to a thread and is inherited. So it must be called before the runtime has started a worker, and it looks whether
//!   this thread is the only one; if it is not, nothing is confined, since a half of it would be none.
//! - What was entered cannot be left or widened. A configuration read later is taken over only if it is covered
//!   ([`Sandbox::admit`]).
//! - Commands inherit it, and what a command needs nobody here knows: one command among the accounts, and nothing is
//!   confined. Not even no_new_privs is set then, since set-user-id programs are common there: procmail, maildrop,
//!   sendmail's postdrop, sudo.
//! - Best effort: a system without Landlock runs as before.
//!
//! Rules are about directories where a file may be replaced instead of rewritten, as resolv.conf, certificates and
//! secrets are: a rule for a file is a rule for its inode. What would take in a whole home directory or everyone's
//! temporary files (`needs`) stays a rule for the file.

mod confined;
mod needs;
mod purpose;

#[cfg(target_os = "linux")]
mod landlock;

#[cfg(not(target_os = "linux"))]
mod landlock {
    //! No other system has it.
    use super::{Confined, Needs};

    pub(super) fn confine(_: &Needs) -> Confined {
        Confined::Not("this system has no Landlock".to_owned())
    }
}

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::config::{Config, ConfigError, Confinement};
use crate::failure;

use confined::Confined;
pub use needs::{Access, Needs};
pub use purpose::{ConfigReads, Purpose};

/// What this process has confined itself to. The kernel keeps it for the process, so there is one.
static IN_FORCE: OnceLock<Needs> = OnceLock::new();

/// How this process is confined, from [`enter`] to its end.
#[derive(Debug)]
pub struct Sandbox {
    /// Nothing if it is not.
    confined_to: Option<Needs>,
}

/// What becomes of directories that a poll would make and that are missing.
#[derive(Clone, Copy)]
pub enum Missing<'m> {
    /// This makes them before the process confines itself, so that they need nothing above them: only what exists can
    /// be given to a process that confines itself.
    Made(&'m dyn Fn(&Purpose<'_>)),
    /// They are left to the poll, which may write where they are missing.
    Left,
}

/// Confines this thread, and all that it starts from now on, to what its purpose needs; says on the log how far that
/// went.
pub fn enter(wanted: Confinement, missing: Missing<'_>, purpose: &Purpose<'_>) -> Sandbox {
    let unconfined = Sandbox { confined_to: None };
    match wanted {
        Confinement::Off => {
            log::debug!("sandbox: off by the configuration");
            return unconfined;
        }
        Confinement::Auto => {}
    }
    if let Some(path) = purpose.silent() {
        log::warn!(
            "sandbox: none, since {} does not answer, and what lies there is not known",
            path.display()
        );
        return unconfined;
    }
    let mut needs = Needs::of(purpose);
    if let Some(command) = needs.first_command() {
        log::info!("sandbox: none, since {command} is a command, and what commands need is not known");
        return unconfined;
    }
    if threads() != Some(1) {
        log::debug!("sandbox: none, since this process has other threads, which would stay outside");
        return unconfined;
    }
    match missing {
        Missing::Made(make) if needs.lack_directories() => {
            make(purpose);
            needs = Needs::of(purpose);
        }
        Missing::Made(_) | Missing::Left => {}
    }
    match landlock::confine(&needs) {
        Confined::Wholly => log::debug!("sandbox: {needs}"),
        Confined::Partly(how) => log::debug!("sandbox, {how}: {needs}"),
        Confined::Not(why) => {
            log::debug!("sandbox: none: {why}");
            return unconfined;
        }
    }
    for (path, what) in needs.wide() {
        let path = path.display();
        log::info!(
            "sandbox: all of {path} can be written: {what} lies directly in it, or where a directory is missing"
        );
    }
    // Entered twice, the stricter first one stays in force; nobody does.
    let _ = IN_FORCE.set(needs.clone());
    failure::set_explanation(hint);
    Sandbox { confined_to: Some(needs) }
}

impl Sandbox {
    /// Lets a configuration pass that was read after [`enter`], if all that it needs is covered.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uncovered`] with the first path or command that is not.
    pub fn admit(&self, config: &Config) -> Result<(), ConfigError> {
        let Some(confined_to) = &self.confined_to else { return Ok(()) };
        let purpose = Purpose::of(config);
        let lacking = match purpose.silent() {
            Some(path) => Some(format!("{} does not answer", path.display())),
            None => confined_to.lacks(&Needs::of(&purpose)),
        };
        match lacking {
            None => Ok(()),
            Some(what) => Err(ConfigError::Uncovered { file: config.file.clone().unwrap_or_default(), what }),
        }
    }

    /// Says why a configuration cannot be read again, if it is that the file was replaced where only the one may be
    /// read that was there.
    pub fn explain(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Unreadable { file, source } if hint(&file, Some(&source)).is_some() => {
                ConfigError::Uncovered { file, what: "the file was replaced".to_owned() }
            }
            other => other,
        }
    }
}

/// Gives a hint for a failed operation on a path if it was the sandbox that refused it: the user's permissions would
/// allow it. Without `error` the rules have to tell.
fn hint(path: &Path, error: Option<&io::Error>) -> Option<String> {
    let confined_to = IN_FORCE.get()?;
    let refused = match error {
        // Another cause that the rules cover: the directory was made anew, or its file system mounted again.
        // Landlock says EACCES; EPERM is a file system's.
        Some(error) => error.raw_os_error() == Some(Errno::EACCES as i32),
        None => !confined_to.covers(path, Access::Read),
    };
    // Landlock lets everyone look, so what is allowed there is the system's own permissions.
    (refused && is_permitted(path)).then(|| {
        format!(
            "the sandbox refused it: {} is not what the configuration led to when this process started (replaced, or a \
             symbolic link to elsewhere?); if it is meant, start postrider again, or write `sandbox: off`",
            path.display()
        )
    })
}

/// Says whether the system's permissions let this user read a path, or write into the nearest directory above it.
fn is_permitted(path: &Path) -> bool {
    if path.exists() {
        return access(path, AccessFlags::R_OK).is_ok();
    }
    let above = path.ancestors().skip(1).find(|above| above.exists());
    above.is_some_and(|above| access(above, AccessFlags::W_OK | AccessFlags::X_OK).is_ok())
}

fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}
