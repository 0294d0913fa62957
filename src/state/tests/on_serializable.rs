//! The same where every transaction may be refused for others' sake, as CockroachDB does, and many are.

use super::*;

#[path = "forgetting.rs"]
mod forgetting;
#[path = "outlook.rs"]
mod outlook;
#[path = "sessions.rs"]
mod sessions;
#[path = "targets.rs"]
mod targets;

fn directory() -> (TempDir, PathBuf) {
    let (directory, path) = on_postgres::directory();
    let options = "?options=-c%20default_transaction_isolation%3Dserializable";
    (directory, format!("{}{options}", path.display()).into())
}

fn open(path: &Path) -> Store {
    Store::connect(on_postgres::server(path).disturbed())
}

async fn made(path: &Path) -> Store {
    open(path)
}

fn store() -> (TempDir, Store) {
    let (directory, path) = directory();
    (directory, open(&path))
}
