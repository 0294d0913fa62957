//! Which POP3 server a mail address has: what is known, what its domain says, and at last a guess that is tried.
//!
//! | file | what it is |
//! |---|---|
//! | `address` | a mail address |
//! | `known` | providers that need not be asked for |
//! | `document` | the XML in which a domain says it (draft-ietf-mailmaint-autoconfig): octets in, servers out |
//! | `fetch` | gets such a document over HTTPS |
//! | `dns` | SRV (RFC 6186) and MX records |
//! | `guess` | `pop.`, `pop3.` and `mail.` of the domain, tried |
//! | `look` | asks all of them at once; the first in order wins |
//! | `server` | what comes out, and why one may doubt it |

mod address;
mod dns;
mod document;
mod fetch;
mod guess;
mod known;
mod look;
mod server;

pub use address::Address;
pub use document::Document;
pub use fetch::Asking;
pub use look::{Outcome, look_up};
pub use server::{Doubt, Found, Server};
