//! Where passwords come from: commands, files, the environment, systemd, netrc, the terminal; and tokens in their place.
//!
//! Whatever holds one on its way is wiped; one trailing newline is dropped, and what still has one is refused, since
//! no password has: `pass show` prints the whole entry.

mod command;
mod error;
mod file;
mod netrc;
pub mod oauth2;
mod ring;
mod sources;
mod terminal;

pub use error::CredentialError;
pub use ring::{KeyError, ring};
pub use sources::{ask, password};
