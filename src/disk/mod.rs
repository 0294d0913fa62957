//! What touches files: the one place that makes them durable and gives them names, and the workers that wait for disks.
//!
//! | file | what it is |
//! |---|---|
//! | `durable` | fsync of files and directories, and what differs from file system to file system |
//! | `files`, `moving` | open directories and the files in them; a name given without replacing another |
//! | `trust` | whose a path is, which root asks before it goes there |
//! | `workers`, `part` | the threads that do all this for deliveries, and what a session has of them |
//! | `room` | the bound on the octets that wait for them |
//! | `answers` | what file systems have answered: slow is not dead |
//! | `blocking` | single calls that may never come back, each with a deadline |

mod answers;
pub(crate) mod blocking;
pub(crate) mod durable;
pub(crate) mod files;
mod moving;
pub(crate) mod part;
pub(crate) mod room;
pub(crate) mod trust;
pub(crate) mod workers;

pub(crate) use durable::above;
pub(crate) use files::{Directory, Identity, OpenFile, free, spool_directory};
pub(crate) use moving::Moved;
pub use workers::{Disk, Limits};
