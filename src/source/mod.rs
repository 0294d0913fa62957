//! What a session fetches from: a POP3 maildrop.

mod credentials;
mod deletions;
mod error;
mod headers;
mod login;
mod server;
mod wire;

pub use credentials::{Ask, password};
pub use deletions::Deletions;
pub use error::{
    About, CHECK, Failed, LOCKED, OPERATOR, RefusedLogIn, SourceError, TOO_OFTEN, class_of_refused_log_in,
};
pub use headers::{Budget, ask};
pub use login::{Listed, Login, Trials};
pub use server::{Outcome, Server, Trial};
pub use wire::{Wire, WireError};
