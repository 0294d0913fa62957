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
#[path = "outlook.rs"]
mod outlook;
#[path = "sessions.rs"]
mod sessions;
#[path = "targets.rs"]
mod targets;
#[path = "vault.rs"]
mod vault;

fn directory() -> (TempDir, PathBuf) {
    static POOLER: OnceLock<Pooler> = OnceLock::new();
    let pooler = POOLER.get_or_init(|| Pooler::start(Postgres::shared()));
    let (directory, path) = on_postgres::directory();
    let name = path.file_name().unwrap().to_str().unwrap();
    (directory, pooler.url(name).into())
}

fn open(path: &Path) -> Store {
    Store::connect(server(path))
}

fn server(path: &Path) -> Server {
    on_postgres::server(path)
}

async fn made(path: &Path) -> Store {
    open(path)
}

fn store() -> (TempDir, Store) {
    let (directory, path) = directory();
    (directory, open(&path))
}
