//! What is remembered between sessions: one SQLite file, one thread that owns the connection, group commit.
//!
//! | file | what it is |
//! |---|---|
//! | [`memory`] | what goes into the store and what comes out of it |
//! | [`store`] | the handle, the thread, group commit |
//! | [`entries`] | the recorded unique-ids of a maildrop, for looking up listings |
//! | [`lease`] | one session a maildrop: kernel locks beside the state file |
//! | [`error`] | why the state cannot be used, and what to do about it |
//! | `file` | creating, opening and watching the file |
//! | `schema` | the tables and their versions |
//! | `reading`, `writing` | the statements |
//!
//! A session goes `begin`, (recover the target), `publishing`, `record` ..., `close`, under a [`lease::Lease`]. What
//! `record` has answered is on the disk. What a session leaves that was cut off at any point:
//!
//! | cut off | the state says | the next session |
//! |---|---|---|
//! | before `publishing` | what it said before | as this one |
//! | after `publishing`, between publishing and recording a message | `unclosed` | recovers the target, which may hold messages that are not recorded, and asks it before it delivers |
//! | after `close` of a session that published | closed | trusts the unique-ids |
//! | after `close` of a session that did not (no log-in, nothing new) | what it said before, so `unclosed` if it was new or had been cut off | recovers the target, once there is something to publish |
//!
//! A lost state file is the first row of this table: no row for the maildrop reads as `fresh` and `unclosed`, and no
//! session changes that but one that recovered, published and closed.

pub mod entries;
pub mod error;
mod file;
pub mod lease;
pub mod memory;
mod reading;
mod schema;
pub mod store;
mod writing;

#[cfg(test)]
mod tests;

pub use entries::{Entries, Entry};
pub use error::StateError;
pub(crate) use file::make_directory_of;
pub use lease::Lease;
pub use memory::{
    Came, Change, Closing, Delivery, Detail, Held, HeldKind, Kind, LogIn, LogInRefused, LogInWorked,
    Maildrop, MaildropKey, Memory, Naming, PollResult, Reached, Recorded, RecordedFile, Seen, SeenLine,
    ServerMemory, Standing, Status, Timestamp, Told, Unclaimed, prove,
};
pub use store::Store;

/// Names a file beside the state file, wherever symbolic links to that lead.
pub fn beside(state: &std::path::Path, suffix: &str) -> std::path::PathBuf {
    file::beside(&file::resolve(state), suffix)
}
