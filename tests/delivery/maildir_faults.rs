//! What the maildir target keeps when operations fail: nothing lost, nothing repeated, nothing left behind.

use std::path::Path;
use std::sync::Arc;

use crate::sink::recorder::{Fault, Lasts, Operation, Recorder};
use crate::sink::{assert_tmp_is_empty, deliver, fill, id, maildir, maildir_files, names, open, scratch};
use crate::support::mounted::Mounted;
use nix::errno::Errno;
use postrider::testing::delivery::{Outcome, TargetError};
use postrider::testing::disk::{Disk, Limits};

/// What the maildir holds when a session with a fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// All of the messages, as after a kill just before they were recorded.
    Delivered,
}

/// Runs a session with a fault in it and another one after it, and checks what must hold between.
async fn fails_safely(before: Before, fault: Option<Fault>) -> usize {
    let large = vec![b'l'; 150_000];
    let batch: [(&str, &[u8]); 3] = [("1", b"one\n"), ("2", &large), ("3", b"")];
    let dir = scratch();
    let whole = Limits { workers: 1, group: 4, octets: 1 << 20 };
    let target = maildir(dir.path());
    match before {
        Before::Nothing => {}
        Before::Delivered => {
            let sink = open(&target, &Disk::new()).await.unwrap();
            deliver(&sink, &batch).await.unwrap();
        }
    }

    let recorder = Arc::new(Recorder::new(fault));
    let disk = Disk::over(recorder.clone(), whole);
    let session = async {
        let sink = open(&target, &disk).await?;
        sink.recover().await?;
        deliver(&sink, &batch).await
    };
    let outcomes = session.await;
    disk.settled().await;
    let context = format!("{before:?} {fault:?}");
    let record = recorder.record().clone();
    let failed: Vec<_> = record.iter().filter(|(_, result)| result.is_err()).collect();
    let removal_failed = failed.iter().any(|(operation, _)| matches!(operation, Operation::Remove(_)));
    match &outcomes {
        Ok(outcomes) => {
            assert_eq!(outcomes.len(), batch.len(), "{context}");
            for (outcome, (_, octets)) in outcomes.iter().zip(batch) {
                match outcome {
                    Outcome::Delivered | Outcome::AlreadyThere => {
                        assert_durable(&record, dir.path(), octets, &context)
                    }
                    // Larger than a file may be, or, for a large one, than what is free.
                    Outcome::Refused(reason) => {
                        assert!(
                            fault.is_some_and(|fault| fault.errno == Errno::EFBIG),
                            "{context}: {reason}"
                        );
                    }
                    Outcome::Later(reason) => {
                        let no_room = [Errno::ENOSPC, Errno::EDQUOT];
                        assert!(
                            fault.is_some_and(|fault| no_room.contains(&fault.errno)),
                            "{context}: {reason}"
                        );
                    }
                    Outcome::Partly { .. } | Outcome::NotTried => {
                        panic!("{context}: a maildir tries all or fails")
                    }
                }
            }
        }
        Err(error) => {
            assert!(error.hint().is_some() || fault.unwrap().errno == Errno::EFBIG, "{context}: {error}");
            // The failure that the caller is told of is the one that happened, not a later one.
            let errno = fault.unwrap().errno;
            let TargetError::File { source, .. } = error else { panic!("{context}: {error}") };
            assert_eq!(source.raw_os_error(), Some(errno as i32), "{context}: {error}");
            if before == Before::Nothing && !removal_failed {
                assert_eq!(maildir_files(dir.path()), [], "{context}: a failed batch is visible");
            }
        }
    }
    if !removal_failed && dir.path().join("Mail/tmp").exists() {
        assert_eq!(names(&dir.path().join("Mail/tmp")), Vec::<String>::new(), "{context}");
    }

    let disk = Disk::new();
    let sink = open(&target, &disk).await.unwrap();
    sink.recover().await.unwrap();
    for outcome in deliver(&sink, &batch).await.unwrap() {
        assert!(matches!(outcome, Outcome::Delivered | Outcome::AlreadyThere), "{context}: {outcome:?}");
    }
    disk.settled().await;
    let mut there: Vec<_> = maildir_files(dir.path()).into_iter().map(|(_, octets)| octets).collect();
    there.sort();
    assert!(there == [&b""[..], &large, b"one\n"], "{context}: {} messages", there.len());
    assert_tmp_is_empty(dir.path());
    record.len()
}

/// Checks that a message's octets were made durable under a name that was made durable after it.
fn assert_durable(record: &[(Operation, Result<(), Errno>)], dir: &Path, octets: &[u8], context: &str) {
    let done = |wanted: &dyn Fn(&Operation) -> bool| {
        record.iter().rposition(|(operation, result)| result.is_ok() && wanted(operation))
    };
    let (path, _) = maildir_files(dir).into_iter().find(|(_, found)| found == octets).expect(context);
    let written_as = record.iter().find_map(|(operation, result)| match operation {
        Operation::Rename(from, to) if *to == path && result.is_ok() => Some(from.clone()),
        _ => None,
    });
    let name = path.parent().unwrap().to_owned();
    let file_synced = |path: &Path| {
        done(&|operation| matches!(operation, Operation::SyncFile(of) if of == path)).expect(context)
    };
    let named_durably =
        done(&|operation| matches!(operation, Operation::SyncDirectory(of) if *of == name)).expect(context);
    match written_as {
        Some(tmp) => {
            let appended = done(&|operation| matches!(operation, Operation::Append(to, _) if *to == tmp));
            let named =
                done(&|operation| matches!(operation, Operation::Rename(from, _) if *from == tmp)).unwrap();
            assert!(appended.is_some_and(|at| at < file_synced(&tmp)), "{context}: written after its fsync");
            assert!(file_synced(&tmp) < named, "{context}: named before its fsync");
            assert!(named < named_durably, "{context}: its name is not durable");
        }
        None => assert!(file_synced(&path) < named_durably, "{context}: counted as there, but not durable"),
    }
}

#[tokio::test]
async fn whatever_operation_fails_nothing_is_lost_repeated_or_left_behind() {
    for before in [Before::Nothing, Before::Delivered] {
        let operations = fails_safely(before, None).await;
        assert!(operations > 20, "{operations}");
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::EROFS, Errno::EACCES, Errno::EFBIG] {
            for lasts in [Lasts::Once, Lasts::ForGood] {
                for at in 0..operations {
                    fails_safely(before, Some(Fault { at, errno, lasts })).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_failed_fsync_is_never_repeated() {
    let dir = scratch();
    for at in 0.. {
        let fault = Fault { at, errno: Errno::EIO, lasts: Lasts::Once };
        let recorder = Arc::new(Recorder::new(Some(fault)));
        let disk = Disk::over(recorder.clone(), Limits::default());
        if let Ok(sink) = open(&maildir(dir.path()), &disk).await {
            // The error is looked for in the record.
            let _ = deliver(&sink, &[("1", b"1")]).await;
        }
        disk.settled().await;
        let record = recorder.record();
        let Some((failed, _)) = record.iter().find(|(_, result)| result.is_err()) else { break };
        if matches!(failed, Operation::SyncFile(_) | Operation::SyncDirectory(_)) {
            assert_eq!(record.iter().filter(|(operation, _)| operation == failed).count(), 1, "{failed:?}");
        }
    }
}

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
    let filler = mounted.fill();
    let outcomes = deliver(&sink, &[("large", &large), ("crowded out", &small)]).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Later(_))), "{outcomes:?}");
    std::fs::remove_file(filler).unwrap();

    // With many small ones in a batch.
    let uids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let batch: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), &small[..])).collect();
    let error = deliver(&sink, &batch).await.unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(error.hint().unwrap().contains("free space"), "{error}");
    disk.settled().await;
    assert_tmp_is_empty(dir);
    assert_eq!(maildir_files(dir).len(), 2);

    mounted.remount("size=16m");
    deliver(&sink, &batch).await.unwrap();
    deliver(&sink, &[("large", &large)]).await.unwrap();
    assert_eq!(maildir_files(dir).len(), 43);
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
