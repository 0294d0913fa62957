//! The state in PostgreSQL: any number of processes, on any number of machines, share one database.
//!
//! | file | what it is |
//! |---|---|
//! | [`accounts`] | the table of tenants' accounts, or a view of its shape |
//! | [`rows`] | its rows, as far as they can be read |
//! | [`roll`] | these accounts as they change |
//! | [`connection`] | connections, and statements on them; what is tried again |
//! | `error` | what the server's errors mean |
//! | `transaction` | one transaction, for a thread that may wait |
//! | `vault` | tokens of logins, sealed |
//! | `keeper` | what the store's thread does |
//! | [`beat`] | the heartbeat of a worker, and how long what it holds may be used |
//! | `leases` | workers, and the leases of maildrops that they hold |
//! | `copying` | what copies of a state ask |
//! | [`schema`] | the tables |
//! | `prepare` | who may use them, and how they are brought up to date |
//! | `tries` | how often, and when, something is tried again |
//!
//! The statements keep to what CockroachDB and YugabyteDB share with PostgreSQL 13 and later, and to what a pooler by
//! transactions lets through: no SKIP LOCKED, advisory locks, LISTEN, triggers or partial indexes, no named statements,
//! nothing that a session would have to remember.

mod accounts;
pub mod beat;
pub mod connection;
mod copying;
mod error;
mod keeper;
mod leases;
pub mod prepare;
mod roll;
mod rows;
pub mod schema;
mod transaction;
mod tries;
mod vault;

pub use accounts::{Accounts, Written};
pub use connection::{Database, Param, Server};
pub use copying::Begun;
pub use keeper::Keeper;
pub use leases::{Claim, Close, Due, Entered, Leases, NEW, NOBODY, Named, Peer};
pub use prepare::Purpose;
pub use roll::{Roll, Rows};
pub use rows::Strange;
pub use transaction::{Asked, Column, Fault, Transaction, value};
pub use vault::{Turn as TokensTurn, Vault};
