//! What holds for files holds for databases.

use tokio_postgres::types::Type;

use super::server::Postgres;
use super::*;
use crate::config;
use crate::state::postgres::{Database, Server};

#[path = "accounts.rs"]
mod accounts;
#[path = "forgetting.rs"]
mod forgetting;
#[path = "leases.rs"]
mod leases;
