//! What the maildir target keeps on disks that are full, read-only or limited; what it keeps whatever operation fails, the
//! crash tests show by whole polls.

use crate::sink::{assert_tmp_is_empty, deliver, fill, id, maildir, maildir_files, open, scratch};
use crate::support::mounted::Mounted;
use postrider::testing::delivery::Outcome;
use postrider::testing::disk::Disk;

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_and_later_all_goes_on() {
    let scratch = scratch();
    let Some(mounted) = Mounted::tmpfs(scratch.path().join("small"), "1m") else { return };
    let dir = mounted.path();
    let disk = Disk::new();
    let sink = open(&maildir(dir), &disk).await.unwrap();
    let small = vec![b's'; 50_000];
    let large = vec![b'l'; 3 << 20];
    deliver(&sink, &[("before", &small)]).await.unwrap();

    // A large message is put off, and one that fits goes on.
    let mut draft = sink.draft(id("large"));
    fill(&mut draft, large.chunks(16_384)).await.unwrap();
    let outcomes = sink.commit(vec![draft.finish()]).await.unwrap();
    let [Outcome::Later(reason)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(reason.contains("No space left"), "{reason}");
    disk.settled().await;
    assert_tmp_is_empty(dir);
    deliver(&sink, &[("beside", &small)]).await.unwrap();

    // As is a small one that finds no room at the same moment.
    let outcomes = deliver(&sink, &[("large", &large), ("at the same moment", &small)]).await.unwrap();
    let [Outcome::Later(_), Outcome::Delivered | Outcome::Later(_)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    let there = 2 + usize::from(matches!(outcomes[1], Outcome::Delivered));
    // Where there is none for it without the large one either, the disk is full.
    let filler = mounted.fill();
    let error = deliver(&sink, &[("large", &large), ("crowded out", &small)]).await.unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    std::fs::remove_file(filler).unwrap();

    // With many small ones in a batch.
    let uids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let batch: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), &small[..])).collect();
    let error = deliver(&sink, &batch).await.unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(error.hint().unwrap().contains("free space"), "{error}");
    disk.settled().await;
    assert_tmp_is_empty(dir);
    assert_eq!(maildir_files(dir).len(), there);

    mounted.remount("size=16m");
    deliver(&sink, &batch).await.unwrap();
    deliver(&sink, &[("large", &large)]).await.unwrap();
    assert_eq!(maildir_files(dir).len(), there + 41);
}

#[tokio::test]
async fn a_read_only_disk_is_told_when_the_target_is_opened() {
    let scratch = scratch();
    let Some(mounted) = Mounted::tmpfs(scratch.path().join("small"), "1m") else { return };
    open(&maildir(mounted.path()), &Disk::new()).await.unwrap();
    mounted.remount("ro");
    let error = open(&maildir(mounted.path()), &Disk::new()).await.unwrap_err();
    assert!(error.to_string().contains("Read-only file system"), "{error}");
    assert!(error.hint().unwrap().contains("read-only"), "{error}");
}

#[tokio::test]
async fn a_message_larger_than_a_file_may_be_is_refused_and_the_others_are_delivered() {
    const LIMITED: &str = "POSTRIDER_TEST_LIMITED";
    if std::env::var_os(LIMITED).is_none() {
        // The limit holds for a whole process, so this test is run again in one that has it: 128 blocks of 512 octets.
        let this =
            "maildir_faults::a_message_larger_than_a_file_may_be_is_refused_and_the_others_are_delivered";
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -f 128 && exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(this)
            .env(LIMITED, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    }
    // The signal's default would end the process before the write could fail.
    let file_size = tokio::signal::unix::SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32);
    let _signal = tokio::signal::unix::signal(file_size).unwrap();
    let dir = scratch();
    let disk = Disk::new();
    let sink = open(&maildir(dir.path()), &disk).await.unwrap();
    let (large, almost) = (vec![b'l'; 500_000], vec![b'a'; 65_500]);
    let outcomes = deliver(&sink, &[("1", b"1"), ("2", &large), ("3", &almost)]).await.unwrap();
    let [Outcome::Delivered, Outcome::Refused(reason), Outcome::Delivered] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(reason.contains("File too large"), "{reason}");
    disk.settled().await;
    assert_eq!(maildir_files(dir.path()).len(), 2);
    assert_tmp_is_empty(dir.path());
}
