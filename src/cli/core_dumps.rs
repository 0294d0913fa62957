//! What is in memory stays there.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Has the kernel write no core dump of this process: there would be passwords and tokens in it.
pub fn forbid() {
    // The hard limit is left: what the commands of a configuration dump is theirs to say.
    let forbidden =
        getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
    if let Err(error) = forbidden {
        log::debug!("cannot forbid core dumps: {error}");
    }
}
