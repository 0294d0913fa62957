//! What commands that poll make before they confine themselves.

use crate::config::Target;
use crate::delivery::maildir;
use crate::sandbox::{Missing, Purpose};
use crate::state;

/// What a poll would make is made before.
pub const MADE: Missing<'static> = Missing::Made(&make);

/// Makes the directory of the state, and maildirs. What cannot be made is told by who needs it.
fn make(purpose: &Purpose<'_>) {
    if let Some(state) = purpose.state
        && let Err(error) = state::make_directory_of(state)
    {
        log::debug!("sandbox: {error}");
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
