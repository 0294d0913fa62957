//! The same where every transaction may be refused for others' sake, as CockroachDB does, and many are.

use super::*;
use crate::state::postgres::Server;

#[path = "accounts.rs"]
mod accounts;
#[path = "forgetting.rs"]
mod forgetting;
#[path = "leases.rs"]
mod leases;
