//! The power is cut at every moment of a whole poll, and every disk that may be left is polled again: each message is
//! there once and whole, and the server never deleted what a disk could still lose.
//!
//! What a record holds is all that system calls did to files of target and state, with the moments at which the server
//! marked (DELE) and deleted (QUIT) messages between. Shared memory (`-shm`) is the only thing that SQLite writes
//! otherwise; after a cut it is garbage.
//!
//! On Linux only, whose system calls are interposed.
#![cfg(target_os = "linux")]

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::Instant;

use crate::disk::{Dice, Disk};
use crate::system::{Lacks, Op};
use crate::{Mail, Recording, Server, all, delivered, mails};

/// Disks of one cut that are polled at most.
const MOST: usize = 24;

/// What was checked.
#[derive(Debug, Default)]
struct Count {
    operations: usize,
    allowed: usize,
    polled: usize,
}

/// The power is cut in this recording, whose server showed these messages.
struct Trial<'a> {
    recording: &'a Recording,
    /// On the server when the poll began.
    shown: &'a [Mail],
    /// The same as a maildir holds them.
    delivered: Vec<(&'a String, Vec<u8>)>,
    /// In the maildir after any number of polls.
    expected: Vec<Vec<u8>>,
    dice: Dice,
    most: usize,
    server: Server,
    known: HashSet<([u8; 32], BTreeSet<String>)>,
    count: Count,
}

impl<'a> Trial<'a> {
    fn new(recording: &'a Recording, expected: Vec<Vec<u8>>, shown: &'a [Mail], most: usize) -> Self {
        Self {
            recording,
            shown,
            delivered: shown.iter().map(|mail| (&mail.0, delivered(mail))).collect(),
            expected,
            dice: Dice::new(1),
            most,
            server: Server::start(),
            known: HashSet::new(),
            count: Count { operations: recording.entries.len(), ..Count::default() },
        }
    }

    /// Cuts the power at every moment; `each` gets some of the disks that were left, with what was on the server.
    fn run(mut self, mut each: impl FnMut(&Disk, Vec<&Mail>)) -> Count {
        let recording = self.recording;
        recording.cuts(|cut, model, began, ended| {
            for disk in model.cuts(self.most, &mut self.dice) {
                self.count.allowed += 1;
                self.check(cut, &disk, began, ended, &mut each);
            }
        });
        self.count
    }

    fn check(
        &mut self,
        cut: usize,
        disk: &Disk,
        began: Option<Instant>,
        ended: Option<Instant>,
        each: &mut impl FnMut(&Disk, Vec<&Mail>),
    ) {
        let recording = self.recording;
        let fail = |what: String| -> ! {
            panic!(
                "the power was cut before operation {cut}: {what}\nthe disk:\n{}the operations:\n{}",
                disk.listing(),
                recording.told(cut)
            )
        };
        let visible: Vec<&[u8]> = ["Mail/new", "Mail/cur"]
            .iter()
            .flat_map(|place| disk.files(place))
            .map(|(_, octets)| octets)
            .collect();
        if let Some(broken) =
            visible.iter().find(|octets| !self.expected.iter().any(|whole| whole == *octets))
        {
            fail(format!("{} octets are visible that are no message", broken.len()));
        }
        let marked = recording.marked(ended);
        for (uid, octets) in self.delivered.iter().filter(|(uid, _)| marked.contains(*uid)) {
            if !visible.contains(&&octets[..]) {
                fail(format!("{uid} was deleted on the server, and is not there"));
            }
        }
        // The server carries out deletions at QUIT; many do it as well when they lose the client.
        let gone = [recording.removed(began), recording.removed(ended), marked.clone()];
        let gone: BTreeSet<BTreeSet<String>> = if cut == 0 { [BTreeSet::new()].into() } else { gone.into() };
        for gone in gone {
            if !self.known.insert((disk.digest(), gone.clone())) {
                continue;
            }
            self.count.polled += 1;
            let left: Vec<&Mail> = self.shown.iter().filter(|(uid, _)| !gone.contains(uid)).collect();
            let root = crate::sink::scratch();
            disk.write(root.path());
            self.server.put(left.iter().copied());
            let report = self.server.poll(root.path());
            if let Err(what) = is_complete(&report, root.path(), &self.expected, &self.server) {
                fail(format!("{what}; the server had deleted {gone:?}"));
            }
            // Without a header that tells, only the content does.
            let tells =
                |uid: &&String| self.shown.iter().any(|(shown, octets)| shown == *uid && !octets.is_empty());
            let again: Vec<_> = self.server.sent().intersection(&marked).filter(tells).cloned().collect();
            if !again.is_empty() && !left.is_empty() {
                fail(format!("{again:?} were asked to be deleted, and yet downloaded again"));
            }
            each(disk, left);
        }
    }
}

/// Says what is wrong after a poll on a disk that a cut has left.
fn is_complete(
    report: &postrider::testing::session::Report,
    root: &Path,
    expected: &[Vec<u8>],
    server: &Server,
) -> Result<(), String> {
    if let Some(failure) = &report.failure {
        return Err(format!("the next poll failed: {failure}"));
    }
    let there: Vec<_> = crate::sink::maildir_files(root).into_iter().collect();
    let mut octets: Vec<_> = there.iter().map(|(_, octets)| octets.clone()).collect();
    octets.sort();
    if octets != expected {
        let lines: Vec<_> =
            there.iter().map(|(path, octets)| format!("{}: {}", path.display(), octets.len())).collect();
        return Err(format!("after the next poll {} messages are there: {lines:#?}", there.len()));
    }
    let tmp = crate::sink::names(&root.join("Mail/tmp"));
    if !tmp.is_empty() {
        return Err(format!("the next poll left {tmp:?} in tmp"));
    }
    if !server.uids().is_empty() {
        return Err(format!("the next poll left {:?} on the server", server.uids()));
    }
    Ok(())
}

fn say(what: &str, began: Instant, count: &Count) {
    println!(
        "{what}: {} operations, {} disks, {} different ones polled, {:.1} s",
        count.operations,
        count.allowed,
        count.polled,
        began.elapsed().as_secs_f64()
    );
}

/// The disk after a poll of some messages that succeeded.
fn polled_before() -> (Disk, Vec<Mail>) {
    let old = mails("old");
    let first = Recording::make(&Disk::default(), &old);
    assert_eq!(first.report.failure, None);
    (first.after, old)
}

#[test]
fn whenever_the_power_is_cut_in_the_first_poll_nothing_is_lost_or_repeated() {
    let began = Instant::now();
    let shown = mails("new");
    let recording = Recording::make(&Disk::default(), &shown);
    assert_eq!(recording.report.failure, None);
    let count = Trial::new(&recording, all(&shown), &shown, MOST).run(|_, _| {});
    say("first poll", began, &count);
    assert!(count.operations > 60 && count.polled > 300, "{count:?}");
}

#[test]
fn whenever_the_power_is_cut_on_a_disk_without_exclusive_renames_or_links_nothing_is_lost_or_repeated() {
    for lacks in [Lacks::Exclusion, Lacks::Links] {
        let began = Instant::now();
        let shown = mails("new");
        let recording = Recording::on(lacks, &mut Server::start(), &Disk::default(), &shown, None);
        assert_eq!(recording.report.failure, None);
        let links = recording.entries.iter().filter(|entry| matches!(entry.op, Op::Link { .. })).count();
        assert_eq!(links, if lacks == Lacks::Links { 0 } else { shown.len() });
        let count = Trial::new(&recording, all(&shown), &shown, MOST).run(|_, _| {});
        say(&format!("without {lacks:?}"), began, &count);
        assert!(count.operations > 60 && count.polled > 300, "{count:?}");
    }
}

#[test]
fn whenever_the_power_is_cut_in_a_later_poll_nothing_is_lost_or_repeated() {
    let began = Instant::now();
    let (before, old) = polled_before();
    let shown = mails("new");
    let recording = Recording::make(&before, &shown);
    assert_eq!(recording.report.failure, None);
    let count = Trial::new(&recording, all(old.iter().chain(&shown)), &shown, MOST).run(|_, _| {});
    say("later poll", began, &count);
    assert!(count.operations > 60 && count.polled > 300, "{count:?}");
}

#[test]
fn whenever_the_power_is_cut_again_in_the_poll_after_a_cut_nothing_is_lost_or_repeated() {
    let began = Instant::now();
    let (before, old) = polled_before();
    let shown = mails("new");
    let expected = all(old.iter().chain(&shown));
    let recording = Recording::make(&before, &shown);
    let (mut sum, mut seen, mut unrecorded) = (Count::default(), 0, 0);
    // Few disks a cut, and of those one in so many: each is a whole trial by itself. Two of those on which everything
    // is delivered and nothing is deleted are among them: then the second poll finds again what it fetches.
    Trial::new(&recording, expected.clone(), &shown, 4).run(|disk, left| {
        if left.is_empty() {
            return;
        }
        seen += 1;
        let complete = left.len() == shown.len() && disk.files("Mail/new").count() == expected.len();
        unrecorded += usize::from(complete);
        if seen % 16 != 0 && !(complete && unrecorded <= 1) {
            return;
        }
        let left: Vec<Mail> = left.into_iter().cloned().collect();
        let second = Recording::make(disk, &left);
        assert_eq!(second.report.failure, None);
        let count = Trial::new(&second, expected.clone(), &left, 6).run(|_, _| {});
        sum.operations += count.operations;
        sum.allowed += count.allowed;
        sum.polled += count.polled;
    });
    say("second cuts", began, &sum);
    assert!(sum.polled > 200, "{sum:?}");
}
