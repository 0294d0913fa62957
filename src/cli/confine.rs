//! What commands that poll make before they confine themselves.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;

use crate::config::Target;
use crate::delivery::maildir;
use crate::sandbox::{Missing, Purpose};
use crate::state;

/// What a poll would make is made before.
pub const MADE: Missing<'static> = Missing::Made(&make);

/// Makes the directories of the state, of the socket, and maildirs. What cannot be made is told by who needs it.
fn make(purpose: &Purpose<'_>) {
    if let Err(error) = state::make_directory_of(purpose.state) {
        log::debug!("sandbox: {error}");
    }
    if let Some(directory) = &purpose.socket {
        // It is there, or cannot be made.
        let _ = DirBuilder::new().mode(0o700).create(directory);
    }
    for account in &purpose.accounts {
        for target in account.targets() {
            match target {
                Target::Maildir(path) if !path.exists() => {
                    if let Err(error) = maildir::create(path) {
                        log::debug!("sandbox: {error}");
                    }
                }
                Target::Maildir(_)
                | Target::Mbox(_)
                | Target::Pipe(_)
                | Target::Smtp(_)
                | Target::Lmtp(_)
                | Target::Imap(_)
                | Target::Gmail(_)
                | Target::Http(_) => {}
            }
        }
    }
}
