//! A whole poll, in this process, whose every operation on a file is known: server, maildir and state together.
//!
//! [`system`] writes the operations down as they happen (and lets them fail), [`disk`] says what a power cut after any
//! of them may leave, and this runs polls on such disks.

#![allow(dead_code, reason = "each test program uses a part of what is shared")]
#![cfg(target_os = "linux")]

#[path = "../account/mod.rs"]
mod account;
mod disk;
mod faulty_disks;
mod odd_disks;
mod power_cuts;
#[path = "../sink/mod.rs"]
mod sink;
#[path = "../support/mod.rs"]
mod support;
mod system;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use postrider::testing::config::{Account, Keep, Password, Target};
use postrider::testing::disk::Limits as DiskLimits;
use postrider::testing::sasl::{Auth, Mechanism};
use postrider::testing::secret::Secret;
use postrider::testing::session::{self, Environment, Limits, Report, Task};

use crate::support::maildrop::{Event, Maildrop, Protection, Settings, What};
use crate::support::mails;
use disk::{Disk, Model};
use system::{Entry, Fault, Lacks, Wanted, Watch};

/// A message: its unique-id and its octets on the server.
pub type Mail = (String, Vec<u8>);

/// A small message, one that is written in parts while it comes in, one without octets, and more small ones.
pub fn mails(prefix: &str) -> Vec<Mail> {
    let large = [b"Subject: large\r\n\r\n".as_slice(), &b"0123456789abcde\r\n".repeat(10_000)].concat();
    let uid = |number| format!("{prefix}{number}");
    let mail = |number, octets: &[u8]| {
        // No two are alike, but for the empty ones, and each but those tells by its header which it is.
        let name =
            format!("Message-ID: <{}@example.org>\r\nDate: Mon, 23 Nov 2026 14:05:12 +0000\r\n", uid(number));
        (uid(number), [name.as_bytes(), octets].concat())
    };
    vec![
        mail(0, b"Subject: one\r\n\r\nfirst\r\n"),
        mail(1, &large),
        (uid(2), Vec::new()),
        mail(3, b"Subject: last\r\n\r\n.\r\n"),
    ]
}

/// Gives a message as a maildir holds it.
pub fn delivered((_, octets): &Mail) -> Vec<u8> {
    mails::with_lf(octets)
}

/// Gives what the maildir holds in the end.
pub fn all<'a>(mails: impl IntoIterator<Item = &'a Mail>) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = mails.into_iter().map(delivered).collect();
    all.sort();
    all
}

/// A server that has been polled before and will be again. It is empty between polls that succeed.
pub struct Server {
    maildrop: Maildrop,
    /// Events before the poll that is under way.
    polls: usize,
}

impl Server {
    pub fn start() -> Self {
        let settings = Settings { tls: Protection::None, ..Settings::default() };
        Self { maildrop: Maildrop::start(settings), polls: 0 }
    }

    pub fn put<'a>(&mut self, mails: impl IntoIterator<Item = &'a Mail>) {
        // It remembers all that ever happened.
        self.polls += 1;
        if self.polls > 40 {
            assert_eq!(self.maildrop.uids(), Vec::<String>::new());
            *self = Self::start();
        }
        mails.into_iter().for_each(|(uid, octets)| self.maildrop.put(uid, octets.clone()));
    }

    pub fn uids(&self) -> Vec<String> {
        self.maildrop.uids()
    }

    /// Gives the unique-ids of the messages that the last session sent.
    pub fn sent(&self) -> BTreeSet<String> {
        let events = self.maildrop.events();
        let last = events.iter().map(|event| event.session).max();
        let sent = events.into_iter().filter(|event| Some(event.session) == last);
        sent.filter_map(|event| if let What::Sent(uid) = event.what { Some(uid) } else { None }).collect()
    }

    /// Polls once, as the program does it, with files below a directory.
    pub fn poll(&self, root: &Path) -> Report {
        let account = self.account(root);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let state = root.join("state/state.db");
            // Few at a time, so that a record is about the same in every run.
            let limits = DiskLimits { workers: 1, group: 4, octets: 1 << 20 };
            let disk = postrider::testing::disk::Disk::within(limits);
            let environment = Environment { disk: disk.clone(), ..Environment::new(state) };
            let report = session::run(&account, &environment, Task::Sync(Limits::default()), &()).await;
            disk.settled().await;
            report
        })
    }

    fn account(&self, root: &Path) -> Account {
        let mut account = account::plain("127.0.0.1", self.maildrop.port());
        account.maildrop_id = "alice@pop.example.org".into();
        account.auth = Auth::List(vec![Mechanism::UserPass]);
        account.password = Some(Password::Literal(Secret::new(*b"correct horse")));
        account.keep = Keep::None;
        account.deliver = vec![Target::Maildir(root.join("Mail")).into()];
        account
    }
}

/// A poll that was written down.
pub struct Recording {
    /// The disk before it.
    pub before: Model,
    pub entries: Vec<Entry>,
    pub events: Vec<Event>,
    pub report: Report,
    /// What is on the server after it.
    pub left: Vec<String>,
    /// The disk after it, as it is while there is power.
    pub after: Disk,
    /// Where it was.
    pub root: PathBuf,
}

impl Recording {
    /// Polls a server of its own once, on a disk whose content is durable.
    pub fn make<'a>(before: &Disk, mails: impl IntoIterator<Item = &'a Mail>) -> Self {
        Self::with(&mut Server::start(), before, mails, None)
    }

    /// Polls once, on a disk whose content is durable until the fault.
    pub fn with<'a>(
        server: &mut Server,
        before: &Disk,
        mails: impl IntoIterator<Item = &'a Mail>,
        fault: Option<Fault>,
    ) -> Self {
        Self::on(Lacks::Nothing, server, before, mails, fault)
    }

    /// Polls once, on a disk that cannot do everything.
    pub fn on<'a>(
        lacks: Lacks,
        server: &mut Server,
        before: &Disk,
        mails: impl IntoIterator<Item = &'a Mail>,
        fault: Option<Fault>,
    ) -> Self {
        let root = sink::scratch();
        before.write(root.path());
        server.put(mails);
        // The server may still be at the end of a session that lost its client.
        let earlier = server.maildrop.events().iter().map(|event| event.session).max();
        let (model, nodes) = Model::scan(root.path());
        let watch = Watch::begin(nodes, Wanted { fault, lacks, ..Wanted::default() });
        let report = server.poll(root.path());
        let entries = watch.end();
        let after = Disk::read(root.path());
        let mut replayed = model.clone();
        entries.iter().for_each(|entry| replayed.apply(entry));
        assert!(
            replayed.running().is_like(&after),
            "something went past the record, which says\n{}but there is\n{}",
            replayed.running().listing(),
            after.listing()
        );
        let mut events = server.maildrop.events();
        events.retain(|event| Some(event.session) > earlier);
        let (root, left) = (root.path().to_owned(), server.uids());
        Self { before: model, entries, events, report, left, after, root }
    }

    /// Gives the unique-ids of which this had happened by then.
    fn by(&self, then: Option<Instant>, wanted: impl Fn(&What) -> Option<&String>) -> BTreeSet<String> {
        let events = self.events.iter().filter(|event| then.is_none_or(|then| event.at <= then));
        events.filter_map(|event| wanted(&event.what).cloned()).collect()
    }

    /// Gives the messages that the server had been asked to delete (DELE) by a moment.
    pub fn marked(&self, then: Option<Instant>) -> BTreeSet<String> {
        self.by(then, |what| if let What::Marked(uid) = what { Some(uid) } else { None })
    }

    /// Gives the messages that the server had deleted (QUIT) by a moment.
    pub fn removed(&self, then: Option<Instant>) -> BTreeSet<String> {
        self.by(then, |what| if let What::Removed(uid) = what { Some(uid) } else { None })
    }

    /// Gives the disk and the moments around each cut: before the first operation, between each two, after the last.
    pub fn cuts(&self, mut each: impl FnMut(usize, &Model, Option<Instant>, Option<Instant>)) {
        let mut model = self.before.clone();
        for cut in 0..=self.entries.len() {
            let began = cut.checked_sub(1).map(|last| &self.entries[last]);
            if let Some(last) = began {
                model.apply(last);
            }
            let ended = self.entries.get(cut).map(|next| next.at);
            each(cut, &model, began.map(|last| last.at), ended);
        }
    }

    /// Tells the operations before a cut, for messages.
    pub fn told(&self, cut: usize) -> String {
        let line = |(number, entry): (usize, &Entry)| {
            let what = match &entry.op {
                system::Op::Write { offset, octets, .. } => format!("write {} at {offset}", octets.len()),
                system::Op::Rename { from, .. } => format!("rename {}", from.name.display()),
                system::Op::Link { from, .. } => format!("link {}", from.name.display()),
                other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase(),
            };
            let error = entry.error.map(|error| format!(": {error}")).unwrap_or_default();
            format!("  {number}: {what} {}{error}\n", entry.path.display())
        };
        let start = cut.saturating_sub(25);
        self.entries.iter().enumerate().take(cut).skip(start).map(line).collect()
    }
}
