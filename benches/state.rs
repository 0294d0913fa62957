//! Looking up listings, loading maildrops, durable commits. `cargo bench --bench state`.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use divan::Bencher;
use divan::counter::ItemsCount;
use postrider::testing::message::FileId;
use postrider::testing::pop3::UniqueId;
use postrider::testing::state::{Closing, Delivery, Kind, MaildropKey, Memory, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

fn main() {
    divan::main();
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// One state file with maildrops of 100,000 and 1,000,000 recorded unique-ids.
static LARGE: LazyLock<(TempDir, Store)> = LazyLock::new(|| {
    let (directory, path) = directory();
    let store = Store::open(&path);
    for count in SIZES {
        RUNTIME.block_on(async {
            let memory = begin(&store, count).await;
            for first in (0..count).step_by(10_000) {
                let deliveries = (first..first + 10_000).map(delivery).collect();
                store.record(&memory.key, 1, deliveries).await.expect("a record");
            }
            store.close(&memory.key, &memory.entries, Closing::default()).await.expect("an end");
        });
    }
    (directory, store)
});

const SIZES: [usize; 2] = [100_000, 1_000_000];

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.db");
    (directory, path)
}

async fn begin(store: &Store, count: usize) -> Memory {
    store.begin(format!("{count}@pop.example.org").into()).await.expect("a maildrop")
}

/// As Dovecot makes them by default: UID and UIDVALIDITY in hexadecimal.
fn uid(n: usize) -> String {
    format!("{n:08x}5f3a9c11")
}

fn delivery(n: usize) -> Delivery {
    let message = format!("Message-ID: <{n}@example.org>\r\nDate: today\r\n\r\n");
    let new = Delivery::new(UniqueId::new(uid(n).into_bytes()), 0, 4321, Kind::Delivered);
    Delivery {
        delivered_at: Some(1_700_000_000),
        fingerprint: Some(message.as_bytes().into()),
        files: vec![FileId { digest: [7; 16], time: n as u64 }],
        ..new
    }
}

/// The lines of a listing, without what a parser does.
fn listing(count: usize, order: impl Fn(usize) -> usize) -> Vec<String> {
    (0..count).map(|n| uid(order(n))).collect()
}

fn look_up(bencher: Bencher<'_, '_>, count: usize, lines: &[String]) {
    let memory = RUNTIME.block_on(begin(&LARGE.1, count));
    assert_eq!(memory.entries.len(), count);
    bencher.counter(ItemsCount::new(lines.len())).bench_local(|| {
        lines.iter().filter(|line| memory.entries.find(line.as_bytes(), 0).is_some()).count()
    });
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn look_up_sorted_listing(bencher: Bencher<'_, '_>, count: usize) {
    look_up(bencher, count, &listing(count, |n| n));
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn look_up_shuffled_listing(bencher: Bencher<'_, '_>, count: usize) {
    // A prime that divides neither count visits each once, far apart.
    look_up(bencher, count, &listing(count, |n| n * 611_953 % count));
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn look_up_listing_of_strangers(bencher: Bencher<'_, '_>, count: usize) {
    look_up(bencher, count, &listing(count, |n| n + count));
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn load(bencher: Bencher<'_, '_>, count: usize) {
    let store = &LARGE.1;
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| RUNTIME.block_on(begin(store, count)).entries.len());
}

/// From no file to a first answer.
#[divan::bench(sample_count = 100)]
fn create(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(directory).bench_local_values(|(directory, path)| {
        let store = Store::open(&path);
        RUNTIME.block_on(begin(&store, 0));
        (directory, store)
    });
}

/// From a file to a first answer.
#[divan::bench(sample_count = 100)]
fn open(bencher: Bencher<'_, '_>) {
    let (_directory, path) = directory();
    drop(RUNTIME.block_on(begin(&Store::open(&path), 0)));
    bencher.bench_local(|| {
        let store = Store::open(&path);
        RUNTIME.block_on(begin(&store, 0));
        store
    });
}

/// A run of its own that finds nothing: open, begin, close, end.
#[divan::bench(sample_count = 100)]
fn idle_run(bencher: Bencher<'_, '_>) {
    let (_directory, path) = directory();
    let mut closing = Closing::default();
    bencher.bench_local(|| {
        // SQLite does not write what is written already.
        closing.at += 1;
        let store = Store::open(&path);
        RUNTIME.block_on(async {
            let memory = begin(&store, 0).await;
            store.close(&memory.key, &memory.entries, closing.clone()).await.expect("an end");
        });
    });
}

struct Small {
    _directory: TempDir,
    store: Store,
    key: MaildropKey,
    next: AtomicUsize,
}

impl Small {
    fn new() -> Self {
        let (directory, path) = directory();
        let store = Store::open(&path);
        let key = RUNTIME.block_on(begin(&store, 0)).key;
        Self { _directory: directory, store, key, next: AtomicUsize::new(0) }
    }

    async fn record(&self, count: usize) {
        let first = self.next.fetch_add(count, Relaxed);
        let deliveries = (first..first + count).map(delivery).collect();
        self.store.record(&self.key, 1, deliveries).await.expect("a record");
    }
}

/// Durable commits of so many messages each, one after the other.
#[divan::bench(args = [1, 64, 1000], sample_count = 200)]
fn record(bencher: Bencher<'_, '_>, batch: usize) {
    let small = Small::new();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| RUNTIME.block_on(small.record(batch)));
}

/// As many callers at once, each with one message: they share commits.
#[divan::bench(args = [64], sample_count = 200)]
fn record_by_callers_at_once(bencher: Bencher<'_, '_>, callers: usize) {
    let small = std::sync::Arc::new(Small::new());
    bencher.counter(ItemsCount::new(callers)).bench_local(|| {
        RUNTIME.block_on(async {
            let mut waiting = JoinSet::new();
            for _ in 0..callers {
                let small = std::sync::Arc::clone(&small);
                waiting.spawn(async move { small.record(1).await });
            }
            waiting.join_all().await;
        });
    });
}
