//! The same where every transaction may be refused for others' sake, as CockroachDB does, and many are.

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
    let (directory, path) = on_postgres::directory();
    let options = "?options=-c%20default_transaction_isolation%3Dserializable";
    (directory, format!("{}{options}", path.display()).into())
}

fn open(path: &Path) -> Store {
    Store::connect(server(path))
}

fn server(path: &Path) -> Server {
    on_postgres::server(path).disturbed()
}

async fn made(path: &Path) -> Store {
    open(path)
}

fn store() -> (TempDir, Store) {
    let (directory, path) = directory();
    (directory, open(&path))
}
