//! The limit on open files, which on many systems is 1,024 though 500,000 are allowed.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Enough for 64 sessions with everything that each may have open at worst: 512 messages that wait for the disk. No
/// more, since what is started inherits the limit, and some programs close all numbers up to it.
const WANTED: u64 = 32 << 10;

/// Raises the limit as far as is wanted and allowed; where it cannot be raised, it is met and told when it is met.
pub fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(WANTED);
    if soft < wanted
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        log::debug!("cannot raise the limit of open files from {soft} to {wanted}: {errno}");
    }
}
