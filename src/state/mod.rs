//! What is remembered between sessions: one SQLite file, one thread that owns the connection, group commit.
//!
//! | file | what it is |
//! |---|---|
//! | [`memory`] | what a session takes out of the store and leaves in it |
//! | `maildrop`, `held` | a maildrop's row, and the messages of it that are held |
//! | [`store`], `thread`, `engine`, `keeper` | the handle; its thread; what that is asked; what it does with a file, group commit |
//! | [`entries`] | the recorded unique-ids of a maildrop, for looking up listings |
//! | [`lease`], `claim`, `guest` | one session a maildrop: kernel locks beside the state file; rows of a database, taken one by one |
//! | [`tokens`] | what logins of OAuth2 leave, in files or a database |
//! | [`fleet`] | how the workers stand that share a database |
//! | [`outlook`] | when maildrops are polled next, what the last day brought |
//! | `spending` | what may be uploaded in a day |
//! | `proof` | what only a durable record gives, and a deletion takes |
//! | [`error`], `trouble` | why the state cannot be used, and what to do about it |
//! | `path` | where the file lies, and directories that are made for it |
//! | `file` | creating, opening and watching the file |
//! | `schema` | the tables and their versions |
//! | [`postgres`] | the same in a database that any number of processes share |
//! | [`copy`] | a state from one store into another |
//! | `tables` | one way to both engines, for the statements |
//! | `reading`; `writing`, `recording`, `closing` | the statements |
//!
//! A session goes `begin`, (recover the target), `publishing`, `record` ..., `close`, under a [`lease::Lease`]. What
//! `record` has answered is on the disk. What a session leaves that was cut off at any point:
//!
//! | cut off | the state says | the next session |
//! |---|---|---|
//! | before `publishing` | what it said before | as this one |
//! | after `publishing`, between publishing and recording a message | `CutOff` | recovers the target, which may hold messages that are not recorded, and asks it before it delivers |
//! | after `close` of a session that published | closed | trusts the unique-ids |
//! | after `close` of a session that did not (no log-in, nothing new) | what it said before, so unclosed if it was new or had been cut off | recovers the target, once there is something to publish |
//!
//! A lost state file is the first row of this table: no row for the maildrop reads as unclosed, and no
//! session changes that but one that recovered, published and closed.

mod claim;
mod closing;
pub mod copy;
mod engine;
pub mod entries;
pub mod error;
mod file;
pub mod fleet;
mod guest;
mod held;
mod keeper;
pub mod lease;
mod maildrop;
pub mod memory;
pub mod outlook;
mod path;
pub mod postgres;
mod proof;
mod reading;
mod recording;
mod schema;
pub mod spending;
pub mod store;
mod tables;
mod thread;
pub mod tokens;
mod trouble;
mod writing;

#[cfg(test)]
mod tests;

pub use crate::clock::Timestamp;
pub use claim::{Claimed, Leaseholder};
pub use entries::{Entries, Entry, Kind};
pub use error::StateError;
pub use guest::Guest;
pub use held::{Came, Held, HeldKind, Holder, Reached, Standing};
pub use lease::{Lease, Taken};
pub use maildrop::{
    Hour, LogIn, LogInRefused, LogInWorked, LogIns, Maildrop, Overview, PollResult, SeenLine, Status,
    Subject, Told,
};
pub use memory::{
    Change, Closing, Confirmed, Delivery, Detail, Left, MaildropKey, Memory, Naming, RecordedFiles, Unclaimed,
};
pub(crate) use path::make_directory_of;
pub use proof::{Recorded, Seen};
pub use store::Store;
pub use trouble::Trouble;

/// Names a file beside the state file, wherever symbolic links to that lead.
pub fn beside(state: &std::path::Path, suffix: &str) -> std::path::PathBuf {
    path::beside(&path::resolve(state), suffix)
}
