//! Disks that are full, broken, read-only or over quota, under target and state: a clear error, nothing lost, nothing
//! deleted that is not safe, and once the disk is well again the next poll goes on.
//!
//! On Linux only, whose system calls are interposed.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::disk::{Dice, Disk};
use crate::support::mail_server::{MailServer, smtp};
use crate::support::maildrop::{Maildrop, Settings};
use crate::support::mounted::Mounted;
use crate::support::postrider::{Home, assert_same};
use crate::support::process::Running;
use crate::system::{Entry, Fault, Lacks, Lasts, Op};
use crate::{Mail, Recording, Server, all, delivered, mails};
use nix::errno::Errno;
use postrider::testing::failure::Class;

const ERRORS: [Errno; 4] = [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::EROFS];

/// Polls with a fault, checks what must hold, and polls again without. Gives the operations.
fn survives(
    lacks: Lacks,
    server: &mut Server,
    before: &Disk,
    old: &[Mail],
    fault: Option<Fault>,
) -> Result<Vec<Op>, String> {
    let shown = mails("new");
    let recording = Recording::on(lacks, server, before, &shown, fault);
    let operations = recording.entries.len();
    is_told(&recording, fault)
        .and_then(|()| failed_fsyncs_are_not_repeated(&recording))
        .and_then(|()| deleted_is_durable(&recording, &shown))
        .and_then(|()| goes_on(server, &recording, old, &shown))
        .map(|()| recording.entries.iter().map(|entry| entry.op.clone()).collect())
        .map_err(|what| format!("{fault:?}: {what}\nthe operations:\n{}", recording.told(operations)))
}

/// A failure says where and what to do, and is one of those after which the next run is expected to succeed.
fn is_told(recording: &Recording, fault: Option<Fault>) -> Result<(), String> {
    let Some(failure) = &recording.report.failure else {
        let quiet = recording.report.newly_held == 0 && !recording.left.is_empty();
        return if quiet {
            Err(format!("{:?} are left on the server, and nothing is said of it", recording.left))
        } else {
            Ok(())
        };
    };
    let told = failure.to_string();
    let errno = fault.map(|fault| fault.errno);
    if errno.is_none() || !recording.entries.iter().any(|entry| entry.error == errno) {
        return Err(format!("the poll failed for another reason: {told}"));
    }
    if !matches!(failure.class, Class::Target | Class::State) || failure.class.exit_status() != 75 {
        return Err(format!("it should be a temporary failure of target or state: {told}"));
    }
    if !told.contains(&*recording.root.to_string_lossy()) {
        return Err(format!("it does not say where: {told}"));
    }
    if failure.hint.is_none() {
        return Err(format!("it does not say what to do: {told}"));
    }
    Ok(())
}

/// Polls again on the disk, which is well now.
fn goes_on(server: &mut Server, recording: &Recording, old: &[Mail], shown: &[Mail]) -> Result<(), String> {
    let root = crate::sink::scratch();
    recording.after.write(root.path());
    end_waits(&root.path().join("state/state.db"));
    let report = server.poll(root.path());
    if let Some(failure) = report.failure {
        return Err(format!("the poll after it failed: {failure}"));
    }
    let mut there: Vec<_> =
        crate::sink::maildir_files(root.path()).into_iter().map(|(_, octets)| octets).collect();
    there.sort();
    let expected = all(old.iter().chain(shown));
    if there != expected {
        let sizes: Vec<_> = there.iter().map(Vec::len).collect();
        return Err(format!("after the poll after it, messages of {sizes:?} octets are there"));
    }
    // The second copy of a message that was there, and that could not be removed, stays until a session is recovered from.
    let were_there = recording.before.running().files("Mail/new").count() > old.len();
    let stays = |entry: &Entry| {
        let in_tmp = entry.path.starts_with("Mail/tmp");
        entry.error.is_some() && in_tmp && matches!(entry.op, Op::Remove { .. })
    };
    let may_stay = were_there && recording.entries.iter().any(stays);
    if !may_stay && !crate::sink::names(&root.path().join("Mail/tmp")).is_empty() {
        return Err("the poll after it left something in tmp".into());
    }
    if !server.uids().is_empty() {
        return Err(format!("the poll after it left {:?} on the server", server.uids()));
    }
    Ok(())
}

/// Once an fsync has failed, the system has dropped what it could not write; another would succeed and mean nothing.
fn failed_fsyncs_are_not_repeated(recording: &Recording) -> Result<(), String> {
    for (number, entry) in recording.entries.iter().enumerate() {
        let Op::Sync { node } = entry.op else { continue };
        let again = |later: &Entry| later.op == Op::Sync { node };
        if entry.error.is_some() && recording.entries[number + 1..].iter().any(again) {
            return Err(format!("the fsync of {} failed and was tried again", entry.path.display()));
        }
    }
    Ok(())
}

/// What the server was asked to delete is on every disk that a power cut could leave then.
fn deleted_is_durable(recording: &Recording, shown: &[Mail]) -> Result<(), String> {
    let mut outcome = Ok(());
    let mut dice = Dice::new(1);
    let mut known = BTreeSet::new();
    recording.cuts(|cut, model, _, ended| {
        let marked = recording.marked(ended);
        if marked.is_empty() || cut < recording.entries.len() && !known.insert(marked.clone()) {
            return;
        }
        let deleted: Vec<_> = shown
            .iter()
            .filter(|(uid, _)| marked.contains(uid))
            .map(|mail| (&mail.0, delivered(mail)))
            .collect();
        for disk in model.cuts(8, &mut dice) {
            let there: Vec<&[u8]> = disk.files("Mail/new").map(|(_, octets)| octets).collect();
            if let Some((uid, _)) = deleted.iter().find(|(_, octets)| !there.contains(&&octets[..])) {
                outcome = Err(format!("{uid} was deleted before operation {cut}, and is not durable"));
            }
        }
    });
    outcome
}

/// Lets the time pass after which held messages are tried again.
fn end_waits(state: &Path) {
    let Ok(found) = std::fs::metadata(state) else { return };
    if found.len() > 0 {
        let state = rusqlite::Connection::open(state).unwrap();
        state.execute("UPDATE held SET next_try = 0", []).unwrap();
    }
}

fn every_fault(lacks: Lacks, before: &Disk, old: &[Mail], lasts: Lasts, errors: &[Errno]) {
    let began = Instant::now();
    let mut server = Server::start();
    let operations = survives(lacks, &mut server, before, old, None).unwrap();
    assert!(operations.len() > 50, "{}", operations.len());
    let (mut runs, mut failed) = (0, BTreeMap::new());
    for &errno in errors {
        // A few more, since what runs side by side does not have the same order in each run.
        for at in 0..operations.len() + 5 {
            let fault = Fault { at, errno, lasts };
            // Else the next operation that may fail does, which has its own turn.
            if operations.get(at).is_some_and(|op| !fault.suits(op)) {
                continue;
            }
            runs += 1;
            if let Err(told) = survives(lacks, &mut server, before, old, Some(fault)) {
                let kind =
                    told.lines().next().unwrap_or_default().split_once(": ").map(|(_, kind)| kind.to_owned());
                server = Server::start();
                failed.entry(kind).or_insert((told, 0)).1 += 1;
            }
        }
    }
    println!("{runs} polls with faults, {:.1} s", began.elapsed().as_secs_f64());
    let told: Vec<_> = failed.values().map(|(told, times)| format!("{times} times, first: {told}")).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn a_disk_that_fails_once_at_any_operation_of_the_first_poll_costs_nothing_but_time() {
    every_fault(Lacks::Nothing, &Disk::default(), &[], Lasts::Once, &ERRORS);
}

#[test]
fn a_disk_that_fails_for_good_at_any_operation_of_the_first_poll_costs_nothing_but_time() {
    every_fault(Lacks::Nothing, &Disk::default(), &[], Lasts::ForGood, &ERRORS);
}

#[test]
fn a_disk_that_fails_once_at_any_operation_of_a_later_poll_costs_nothing_but_time() {
    let old = mails("old");
    let first = Recording::make(&Disk::default(), &old);
    every_fault(Lacks::Nothing, &first.after, &old, Lasts::Once, &ERRORS);
}

#[test]
fn a_disk_that_fails_once_at_any_operation_of_a_poll_after_a_lost_state_costs_nothing_but_time() {
    let before = Recording::make(&Disk::default(), &mails("new")).after.without("state");
    let errors = [Errno::ENOSPC, Errno::EIO, Errno::EACCES, Errno::EFBIG];
    every_fault(Lacks::Nothing, &before, &[], Lasts::Once, &errors);
}

#[test]
fn a_disk_without_exclusive_renames_or_links_that_fails_at_any_operation_costs_nothing_but_time() {
    for lacks in [Lacks::Exclusion, Lacks::Links] {
        every_fault(lacks, &Disk::default(), &[], Lasts::Once, &[Errno::ENOSPC, Errno::EIO]);
    }
}

#[test]
fn what_was_done_although_its_reply_was_lost_is_seen_to_be_done() {
    for lacks in [Lacks::Nothing, Lacks::Exclusion, Lacks::Links] {
        let lost = [Errno::ENOENT, Errno::EEXIST];
        every_fault(lacks, &Disk::default(), &[], Lasts::LostReply, &lost);
    }
}

/// A home whose one account, `test`, is delivered to `Mail` and deleted on the server.
fn home(server: &Maildrop) -> Home {
    let home = Home::new();
    let ca = home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  test:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: {}\n    keep: none\n    deliver: {{ maildir: {} }}\n",
        server.port(),
        ca.display(),
        home.path("Mail").display()
    ));
    home
}

/// So many messages of so many octets and some.
fn filled(prefix: &str, count: usize, octets: usize) -> Vec<Mail> {
    let line = b"0123456789abcde\r\n";
    let mail = |number| {
        let header = format!("Subject: {prefix} {number}\r\n\r\n").into_bytes();
        (format!("{prefix}{number}"), [header, line.repeat(octets / line.len())].concat())
    };
    (0..count).map(mail).collect()
}

fn put(server: &Maildrop, mails: &[Mail]) {
    mails.iter().for_each(|(uid, octets)| server.put(uid, octets.clone()));
}

/// Each message is on the server, or in the maildir and whole, or (before QUIT) both.
fn assert_nothing_lost(home: &Home, server: &Maildrop, mails: &[Mail]) {
    let (there, left) = (home.maildir("Mail"), server.uids());
    for mail in mails {
        assert!(left.contains(&mail.0) || there.contains(&delivered(mail)), "{} is lost", mail.0);
    }
    let whole = all(mails);
    assert!(there.iter().all(|octets| whole.contains(octets)), "something is there that is no whole message");
    assert_eq!(home.leftovers("Mail"), Vec::<PathBuf>::new());
}

fn assert_complete(home: &Home, server: &Maildrop, mails: &[Mail]) {
    assert_same(home.maildir("Mail"), all(mails));
    assert_eq!(server.uids(), Vec::<String>::new());
    assert_eq!(home.leftovers("Mail"), Vec::<PathBuf>::new());
}

#[test]
fn a_target_that_fills_up_ends_the_poll_and_the_next_goes_on_once_there_is_room() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let Some(disk) = Mounted::tmpfs(home.path("Mail"), "1m") else { return };
    let mails = filled("small", 60, 30_000);
    put(&server, &mails);
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&*home.path("Mail/tmp").to_string_lossy()), "{}", ended.stderr);
    assert!(ended.stderr.contains("free space"), "{}", ended.stderr);
    assert_nothing_lost(&home, &server, &mails);
    // It is told once a day.
    assert_eq!(home.must(&["sync"], 75).stderr, "");
    assert_nothing_lost(&home, &server, &mails);
    disk.remount("size=16m");
    home.must(&["sync"], 0);
    assert_complete(&home, &server, &mails);
}

#[test]
fn a_message_that_does_not_fit_is_held_and_keeps_no_smaller_one_away() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let Some(disk) = Mounted::tmpfs(home.path("Mail"), "1m") else { return };
    let mut mails = filled("before", 5, 20_000);
    // One that is much too large, and one that is just so.
    mails.extend(filled("large", 1, 3 << 20));
    mails.extend(filled("between", 5, 20_000));
    mails.extend(filled("somewhat", 1, 900_000));
    mails.extend(filled("after", 5, 20_000));
    put(&server, &mails);
    let ended = home.must(&["sync"], 75);
    assert!(ended.stderr.contains(": large0: held: cannot write into "), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert_nothing_lost(&home, &server, &mails);
    // What came in just while the large ones took all there was may be held as well, and is tried before them.
    for _ in 0..3 {
        end_waits(&home.path("state/postrider/state.db"));
        home.run(&["sync"]);
        assert_nothing_lost(&home, &server, &mails);
    }
    assert_eq!(server.uids(), ["large0", "somewhat0"]);
    // Held and unchanged: a cron job does not nag, but its status tells.
    assert_eq!(home.must(&["sync"], 75).stderr, "");

    disk.remount("size=16m");
    end_waits(&home.path("state/postrider/state.db"));
    home.must(&["sync"], 0);
    assert_complete(&home, &server, &mails);
}

#[test]
fn a_message_that_the_spool_has_no_room_for_is_held_and_keeps_no_smaller_one_away() {
    let taken = MailServer::start(&["PIPELINING"]);
    for deliver in ["{ mbox: HOME/mbox }", "{ pipe: 'cat >> HOME/mbox' }", &smtp(taken.port(), "")] {
        let server = Maildrop::start(Settings::default());
        let home = home(&server);
        let configured = std::fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
        let (rest, _) = configured.split_once("deliver:").unwrap();
        let root = home.path("").to_string_lossy().trim_end_matches('/').to_owned();
        home.configure(&format!("{rest}deliver: {}\n", deliver.replace("HOME", &root)));
        let Some(spool) = Mounted::tmpfs(home.path("spool"), "400k") else { return };
        let mut mails = filled("before", 5, 20_000);
        mails.extend(filled("large", 1, 3 << 20));
        mails.extend(filled("after", 5, 20_000));
        put(&server, &mails);
        let sync = || {
            let mut command = home.command(&["sync"]);
            Running::start(command.env("TMPDIR", spool.path())).wait(Duration::from_secs(60))
        };
        let ended = sync();
        assert_eq!(ended.status, Some(75), "{deliver}: {}", ended.stderr);
        assert!(ended.stderr.contains(": large0: held: cannot spool into "), "{deliver}: {}", ended.stderr);
        assert_eq!(server.uids(), ["large0"], "{deliver}");
        spool.remount("size=16m");
        end_waits(&home.path("state/postrider/state.db"));
        assert_eq!(sync().status, Some(0), "{deliver}");
        assert_eq!(server.uids(), Vec::<String>::new(), "{deliver}");
    }
    assert_eq!(taken.arrived().len(), 11);
}

#[test]
fn a_state_on_a_full_disk_ends_the_poll_and_the_next_goes_on_once_there_is_room() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let Some(disk) = Mounted::tmpfs(home.path("state"), "400k") else { return };
    let mut mails = filled("first", 3, 5_000);
    put(&server, &mails);
    let full = |mails: &[Mail]| {
        let filler = disk.fill();
        let ended = home.must(&["sync"], 75);
        assert!(ended.stderr.contains("state.db"), "{}", ended.stderr);
        assert!(ended.stderr.contains("disk is full"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: make room"), "{}", ended.stderr);
        assert_nothing_lost(&home, &server, mails);
        std::fs::remove_file(filler).unwrap();
    };
    // When it is to be created, and when it is there.
    full(&mails);
    home.must(&["sync"], 0);
    assert_complete(&home, &server, &mails);
    let more = filled("second", 3, 5_000);
    put(&server, &more);
    mails.extend(more);
    full(&mails);
    home.must(&["sync"], 0);
    assert_complete(&home, &server, &mails);
}

#[test]
fn a_read_only_target_or_state_is_told_and_costs_nothing() {
    let server = Maildrop::start(Settings::default());
    let home = home(&server);
    let Some(target) = Mounted::tmpfs(home.path("Mail"), "1m") else { return };
    let Some(state) = Mounted::tmpfs(home.path("state"), "1m") else { return };
    let mut mails = filled("first", 3, 5_000);
    put(&server, &mails);
    home.must(&["sync"], 0);
    for (disk, named) in [(&target, "/Mail"), (&state, "/state")] {
        let more = filled(named, 3, 5_000);
        put(&server, &more);
        mails.extend(more);
        disk.remount("ro");
        let ended = home.must(&["sync"], 75);
        let named = home.path(&named[1..]);
        assert!(ended.stderr.contains(&*named.to_string_lossy()), "{}", ended.stderr);
        assert!(
            ended.stderr.to_lowercase().contains("read-only") || ended.stderr.contains("readonly"),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
        assert_nothing_lost(&home, &server, &mails);
        // Whoever looks why no mail comes is told.
        let status = home.must(&["status"], 0).stdout;
        assert!(status.contains(" seen"), "{status}");
        disk.remount("rw");
        home.must(&["sync"], 0);
        assert_complete(&home, &server, &mails);
    }
}
