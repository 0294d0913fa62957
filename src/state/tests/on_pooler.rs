//! The same through a pooler that gives each transaction another connection.

use std::sync::OnceLock;

use super::server::{Pooler, Postgres};
use super::*;
use crate::state::postgres::Server;

#[path = "accounts.rs"]
mod accounts;
#[path = "forgetting.rs"]
mod forgetting;
#[path = "leases.rs"]
mod leases;
