//! Durable 4 KiB messages a second with several numbers of workers, and how fast CRLF becomes LF.
//!
//! Files go below `POSTRIDER_BENCH_DIR`, or the system's directory for temporary files. A tmpfs there measures the
//! program alone; a journalled file system what a user gets. The numbers of workers are measured one after the other,
//! so that a disk which others use meanwhile can reverse their order: to choose one, interleave the runs.

use std::path::PathBuf;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use postrider::testing::config::Target;
use postrider::testing::delivery::{Access, Finished, MessageId, Outcome, Sink};
use postrider::testing::disk::{Disk, Limits};
use postrider::testing::message::ToLf;
use postrider::testing::pop3::UniqueId;
use tokio::sync::mpsc;

fn main() {
    divan::main();
}

/// Messages a run.
const MESSAGES: u32 = 2000;

#[divan::bench(args = [1, 4, 16, 32], sample_count = 5, sample_size = 1)]
fn durable_4_kib(bencher: Bencher<'_, '_>, workers: usize) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads start");
    let base = std::env::var_os("POSTRIDER_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| tempfile::tempdir_in(&base).expect("a directory"))
        .bench_values(|dir| {
            let disk = Disk::within(Limits { workers, ..Limits::default() });
            runtime.block_on(deliver(dir.path().join("Mail"), disk));
            dir
        });
}

/// Delivers as a session does: drafts in one future, commits of what has gathered in another.
async fn deliver(path: PathBuf, disk: Disk) {
    let maildrop: Arc<str> = "alice@pop.example.org".into();
    let sink = Sink::open(&Target::Maildir(path), maildrop.clone(), disk, Access::default())
        .await
        .expect("a maildir");
    let message = mail(4096);
    let (ready, mut waiting) = mpsc::channel::<Finished>(512);
    let drafts = async {
        for number in 0..MESSAGES {
            let uid = UniqueId::new(format!("{number:016x}").into_bytes());
            let mut draft = sink.draft(MessageId { maildrop: maildrop.clone(), uid, ordinal: 0 });
            draft.write(&message);
            if draft.is_full() {
                draft.flush().await.expect("room on the disk");
            }
            ready.send(draft.finish()).await.expect("the other future listens");
        }
        drop(ready);
    };
    let commits = async {
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, 512).await > 0 {
            let outcomes = sink.commit(std::mem::take(&mut batch)).await.expect("a working disk");
            assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Delivered));
        }
    };
    tokio::join!(drafts, commits);
}

#[divan::bench(args = [16 << 10, 1 << 20])]
fn crlf_to_lf(bencher: Bencher<'_, '_>, octets: usize) {
    let message = mail(octets);
    let mut out = Vec::with_capacity(octets);
    bencher.counter(BytesCount::new(octets)).bench_local(|| {
        out.clear();
        ToLf::default().convert(divan::black_box(&message), &mut out);
        divan::black_box(out.len())
    });
}

/// Makes a message of so many octets, in lines of 76 as base64 has them.
fn mail(octets: usize) -> Vec<u8> {
    let line = [&[b'x'; 76][..], b"\r\n"].concat();
    line.into_iter().cycle().take(octets).collect()
}
