//! Durable 4 KiB messages a second with several numbers of workers, and how fast CRLF becomes LF.
//!
//! Files go below `POSTRIDER_BENCH_DIR`, or the system's directory for temporary files. A tmpfs there measures the
//! program alone; a journalled file system what a user gets. The numbers of workers are measured one after the other,
//! so that a disk which others use meanwhile can reverse their order: to choose one, interleave the runs.
//!
//! So the usual limits were chosen: 10,000 messages, fsync of each file, one fsync of `new` a batch, on a journalled ext4 on
//! a loop device, two cores, compilers and tests beside; messages/s, median (lowest..highest). Each column is one interleaved
//! set, with the load during it, and only figures of one column can be compared:
//!
//! | workers x group | load 3 to 17, 7 runs | load 6 to 26, 9 runs | load 10 to 28, 7 runs |
//! |---|---|---|---|
//! | 16 x 1 (each by itself) | 4,500 (2,150..6,858) | | 2,135 (1,917..9,461) |
//! | 32 x 1 | 6,331 (2,978..7,141) | | 3,714 (3,048..9,460) |
//! | 8 x 16 | 6,973 (4,854..7,931) | | 3,210 (2,438..11,275) |
//! | 16 x 8 | | 4,463 (3,484..6,359) | 3,706 (2,462..11,619) |
//! | 16 x 16 | 8,390 (3,067..10,564) | 4,930 (3,696..8,348) | 4,984 (3,967..12,467) |
//! | 32 x 4 | 7,309 (5,118..8,382) | 5,476 (4,240..6,938) | 5,698 (4,492..8,699) |
//! | 32 x 8 | 8,916 (6,502..10,077) | 6,867 (5,302..8,248) | 5,818 (4,863..7,909) |
//! | 64 x 4 | | | 6,272 (5,259..8,556) |
//!
//! 32 x 8 has the best median of each or is within its noise, with 10 to 11 MiB for the whole process, and takes as much CPU
//! time as 32 x 1 (1.16 and 1.20 s in the first column). One syncfs for a group of 64 was not much faster on a disk where
//! nobody else writes (12,124/s where 8 x 16 did 10,994/s), and waits for everything that others wrote.

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
