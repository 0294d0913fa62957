//! An adversary by chance: a server that draws by seed what it lies about, against a maildir that is counted.
//!
//! `POSTRIDER_SEEDS=10000 cargo test --test adversary seeds` plays so many stories (300 without it),
//! `POSTRIDER_SEED=4711` that one alone, and tells it, whether it fails or not. A story that fails is made as short as
//! it can be, and told.
//!
//! The same stories are played with a mailbox in the maildir's place (`POSTRIDER_MAILBOX_SEEDS` of them), whose server drops
//! connections at each point of an APPEND; and by the workers of a fleet (`POSTRIDER_FLEET_SEEDS`), each poll by another one,
//! with leases that are lost in the middle of it.

mod answers;
#[path = "../support/imap_server.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod imap_server;
mod judge;
mod kills;
mod mail;
mod play;
#[path = "../support/postgres.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod postgres;
mod scenario;
mod server;
mod shrink;
mod stories;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use judge::{Finding, Wrong};
use play::{Bench, Into};
use scenario::Scenario;

/// Stories that are played where nobody says how many.
const SEEDS: u64 = 300;
/// The same into a mailbox: after each break there is a wait of two seconds.
const MAILBOX_SEEDS: u64 = 16;
/// The same by the workers of a fleet, and among them all kinds of servers and events.
const FLEET_SEEDS: u64 = 60;
/// Stories that are made short and told where more fail, unless `POSTRIDER_TOLD` says how many.
const TOLD: u64 = 3;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

/// Plays stories on as many threads as the machine has; gives those that fail.
fn failing(into: Into, seeds: &[u64]) -> BTreeMap<u64, Vec<Finding>> {
    let next = AtomicUsize::new(0);
    let failing = Mutex::new(BTreeMap::new());
    let threads = match into {
        Into::Maildir | Into::SharedMaildir => std::thread::available_parallelism().map_or(1, usize::from),
        // They wait most of the time.
        Into::Mailbox => 8,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut bench = Bench::new(into);
                loop {
                    let Some(&seed) = seeds.get(next.fetch_add(1, Relaxed)) else { return };
                    let found = bench.play(&Scenario::drawn(seed), false).found;
                    if !found.is_empty() {
                        // At once, as it may be long until all are played.
                        eprintln!("seed {seed}: {:?}: {}", found[0].kind, found[0].words);
                        failing.lock().expect("no thread panics with it").insert(seed, found);
                    }
                }
            });
        }
    });
    failing.into_inner().expect("no thread panics with it")
}

/// Makes a failing story short, and tells it.
fn told(into: Into, seed: u64, wrong: Wrong) -> String {
    let mut bench = Bench::new(into);
    let shortest = shrink::shrunk(&mut bench, &Scenario::drawn(seed), wrong);
    let played = bench.play(&shortest, true);
    let found: Vec<_> =
        played.found.iter().map(|found| format!("{:?}: {}", found.kind, found.words)).collect();
    format!("seed {seed}: {}\n{}\n{}\n", found.join("; "), shortest.told(), played.told.join("\n"))
}

/// Gives so many seeds, and before all others those that have something which none before them has.
fn of_all_kinds(seeds: impl Iterator<Item = u64>, count: u64) -> Vec<u64> {
    let (mut known, mut rest) = (BTreeSet::new(), Vec::new());
    let mut chosen: Vec<u64> = Vec::new();
    for seed in seeds {
        let kinds = Scenario::drawn(seed).kinds();
        let is_new = !kinds.is_subset(&known);
        known.extend(kinds);
        if is_new { &mut chosen } else { &mut rest }.push(seed);
    }
    chosen.extend(rest);
    chosen.truncate(count as usize);
    chosen
}

#[test]
fn seeds() {
    let count = variable("POSTRIDER_SEEDS").unwrap_or(SEEDS);
    stories(Into::Maildir, &(first()..first() + count).collect::<Vec<_>>());
}

#[test]
fn seeds_into_a_mailbox() {
    let count = variable("POSTRIDER_MAILBOX_SEEDS").unwrap_or(MAILBOX_SEEDS);
    stories(Into::Mailbox, &(first()..first() + count).collect::<Vec<_>>());
}

#[test]
fn seeds_in_a_fleet() {
    let count = variable("POSTRIDER_FLEET_SEEDS").unwrap_or(FLEET_SEEDS);
    stories(Into::SharedMaildir, &of_all_kinds(first()..first() + 2 * count, count));
}

fn first() -> u64 {
    variable("POSTRIDER_FIRST_SEED").unwrap_or(0)
}

fn stories(into: Into, seeds: &[u64]) {
    if let Some(seed) = variable("POSTRIDER_SEED") {
        let played = Bench::new(into).play(&Scenario::drawn(seed), true);
        println!("{}\n{}", Scenario::drawn(seed).told(), played.told.join("\n"));
        if let Some(found) = played.found.first() {
            panic!("{}", told(into, seed, found.kind));
        }
        return;
    }
    let failing = failing(into, seeds);
    if failing.is_empty() {
        return;
    }
    let mut kinds: BTreeMap<Wrong, Vec<u64>> = BTreeMap::new();
    for (seed, found) in &failing {
        kinds.entry(found[0].kind).or_default().push(*seed);
    }
    for seeds in kinds.values_mut() {
        seeds.truncate(40);
    }
    let told_at_most = variable("POSTRIDER_TOLD").unwrap_or(TOLD) as usize;
    let shown: Vec<_> = kinds
        .iter()
        .filter_map(|(wrong, seeds)| Some((*seeds.first()?, *wrong)))
        .take(told_at_most)
        .collect();
    let stories: String = shown.into_iter().map(|(seed, wrong)| told(into, seed, wrong) + "\n").collect();
    let count = seeds.len();
    panic!("{} of {count} stories fail: {kinds:#?}\n{stories}", failing.len());
}
