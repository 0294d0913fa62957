//! An adversary by chance: a server that draws by seed what it lies about, against a maildir that is counted.
//!
//! `POSTRIDER_SEEDS=10000 cargo test --test adversary seeds` plays so many stories (300 without it),
//! `POSTRIDER_SEED=4711` that one alone, and tells it, whether it fails or not. A story that fails is made as short as
//! it can be, and told.
//!
//! The same stories are played with a mailbox in the maildir's place (`POSTRIDER_MAILBOX_SEEDS` of them), whose server drops
//! connections at each point of an APPEND.

mod answers;
#[path = "../support/imap_server.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod imap_server;
mod judge;
mod kills;
mod mail;
mod play;
mod scenario;
mod server;
mod shrink;
mod stories;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use judge::{Finding, Wrong};
use play::{Bench, Into};
use scenario::Scenario;

/// Stories that are played where nobody says how many.
const SEEDS: u64 = 300;
/// The same into a mailbox: after each break there is a wait of two seconds.
const MAILBOX_SEEDS: u64 = 16;
/// Stories that are made short and told where more fail, unless `POSTRIDER_TOLD` says how many.
const TOLD: u64 = 3;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

/// Plays stories on as many threads as the machine has; gives those that fail.
fn failing(into: Into, seeds: std::ops::Range<u64>) -> BTreeMap<u64, Vec<Finding>> {
    let next = AtomicU64::new(seeds.start);
    let failing = Mutex::new(BTreeMap::new());
    let threads = match into {
        Into::Maildir => std::thread::available_parallelism().map_or(1, usize::from),
        // They wait most of the time.
        Into::Mailbox => 8,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut bench = Bench::new(into);
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
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

#[test]
fn seeds() {
    stories(Into::Maildir, variable("POSTRIDER_SEEDS").unwrap_or(SEEDS));
}

#[test]
fn seeds_into_a_mailbox() {
    stories(Into::Mailbox, variable("POSTRIDER_MAILBOX_SEEDS").unwrap_or(MAILBOX_SEEDS));
}

fn stories(into: Into, count: u64) {
    if let Some(seed) = variable("POSTRIDER_SEED") {
        let played = Bench::new(into).play(&Scenario::drawn(seed), true);
        println!("{}\n{}", Scenario::drawn(seed).told(), played.told.join("\n"));
        if let Some(found) = played.found.first() {
            panic!("{}", told(into, seed, found.kind));
        }
        return;
    }
    let first = variable("POSTRIDER_FIRST_SEED").unwrap_or(0);
    let failing = failing(into, first..first + count);
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
    panic!("{} of {count} stories fail: {kinds:#?}\n{stories}", failing.len());
}
