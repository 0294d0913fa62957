//! The store as a whole, on files, and the same once more in databases.
#![allow(clippy::duplicate_mod, reason = "each backend has the same tests, beside stores of its own")]

mod commits;
mod copy;
mod failures;
mod files;
mod forgetting;
mod on_pooler;
mod on_postgres;
mod on_serializable;
mod outlook;
mod postgres;
mod sessions;
mod targets;

#[path = "../../../tests/support/postgres.rs"]
#[allow(dead_code, reason = "each program of tests uses its part")]
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::message::{Fingerprint, UniqueId};

const DAY: Timestamp = 86_400;
const ALICE: &str = "alice@pop.example.org";
/// A message whose identity is certain.
const CERTAIN: &str = "Message-ID: <1@a>\r\nDate: today\r\n\r\nbody\r\n";

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    (directory, path)
}

/// Opens a store that has no file yet.
fn store() -> (TempDir, Store) {
    let (directory, path) = directory();
    (directory, Store::open(&path))
}

fn known(text: &str) -> Fingerprint {
    text.as_bytes().into()
}

fn uid(octets: impl AsRef<[u8]>) -> UniqueId {
    UniqueId::new(octets.as_ref())
}

fn delivery(name: impl AsRef<[u8]>, ordinal: u32) -> Delivery {
    Delivery { delivered_at: Some(1000), ..Delivery::new(uid(name), ordinal, 100, Kind::Delivered) }
}

/// Opens a store whose file is there.
async fn made(path: &Path) -> Store {
    let store = Store::open(path);
    store.remember("a target".into(), Vec::new()).await.unwrap();
    store
}

/// Names a database, of the path that stands for it.
fn name_of(path: &Path) -> &str {
    let name = path.to_str().unwrap().rsplit_once('/').unwrap().1;
    name.split_once('?').map_or(name, |(name, _)| name)
}

/// Opens a store that may have a file.
fn open(path: &Path) -> Store {
    Store::open(path)
}

async fn begin(store: &Store) -> Memory {
    begin_with(store, ALICE).await
}

/// Looks at what the next session will find.
async fn look(store: &Store) -> Memory {
    store.begin(ALICE.into()).await.unwrap()
}

/// Begins a session, and takes the lease for it where the kernel does not keep it, whoever has it.
async fn begin_with(store: &Store, maildrop: &str) -> Memory {
    let token = match store.server() {
        Some(server) => Some(on_postgres::seize(server, maildrop).await),
        None => None,
    };
    store.under(token).begin(maildrop.into()).await.unwrap()
}

/// No session has completed a listing or recorded anything.
fn is_fresh(memory: &Memory) -> bool {
    memory.listed_at.is_none() && memory.entries.is_empty()
}

async fn record(store: &Store, key: &MaildropKey, at: Timestamp, names: &[&str]) {
    let deliveries = names.iter().map(|name| delivery(name, 0)).collect();
    store.record(key, at, deliveries).await.unwrap();
}

fn listed(at: Timestamp) -> Closing {
    Closing { at, listed_at: Some(at), ..Closing::default() }
}

/// A session that lists at this time and does what `closing` says of the entries.
async fn session(store: &Store, closing: impl FnOnce(&Entries) -> Closing) {
    let memory = begin(store).await;
    store.close(&memory.key, &memory.entries, closing(&memory.entries)).await.unwrap();
}

fn index(entries: &Entries, name: &str) -> usize {
    entries.find(name.as_bytes(), 0).unwrap().index
}

async fn names(store: &Store) -> Vec<String> {
    let lines = store.seen(ALICE.into()).await.unwrap();
    lines.iter().map(|line| line.uid.to_string()).collect()
}

/// A command that runs one test of a program like this, which finds the state file in its environment.
fn child(program: &Path, test: &str, path: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([&format!("state::tests::{test}"), "--exact", "--nocapture"]).env(CHILD, path);
    command
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Runs a child to its end. A name that no test has would be no failure to the harness.
fn must_pass(mut child: Command) {
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("test result: ok. 1 passed"), "{said}");
}

const CHILD: &str = "POSTRIDER_TEST_CHILD";

fn child_path() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}
