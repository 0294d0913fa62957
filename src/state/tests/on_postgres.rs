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
#[path = "outlook.rs"]
mod outlook;
#[path = "sessions.rs"]
mod sessions;
#[path = "targets.rs"]
mod targets;
#[path = "vault.rs"]
mod vault;

/// Makes a database, whose place stands for the path of a file.
pub(super) fn directory() -> (TempDir, PathBuf) {
    (tempfile::tempdir().unwrap(), PathBuf::from(Postgres::shared().database()))
}

pub(super) fn server(path: &Path) -> Server {
    Server::new(config::Postgres::new(path.to_str().unwrap()).unwrap(), None)
}

fn open(path: &Path) -> Store {
    Store::connect(server(path))
}

async fn made(path: &Path) -> Store {
    open(path)
}

fn store() -> (TempDir, Store) {
    let (directory, path) = directory();
    (directory, open(&path))
}

/// Takes the lease on a maildrop away from whoever has it, and gives the token.
pub(super) async fn seize(server: &Server, maildrop: &str) -> i64 {
    let database = Database::new(server.clone());
    let row = "INSERT INTO maildrop (identity) VALUES ($1) ON CONFLICT DO NOTHING";
    database.query(row, &[(&maildrop, Type::TEXT)]).await.unwrap();
    let token = (getrandom::u64().unwrap() >> 1).max(1).cast_signed();
    let lease = "INSERT INTO lease (maildrop, token) SELECT id, $2 FROM maildrop WHERE identity = $1
         ON CONFLICT (maildrop) DO UPDATE SET token = excluded.token";
    database.query(lease, &[(&maildrop, Type::TEXT), (&token, Type::INT8)]).await.unwrap();
    token
}
