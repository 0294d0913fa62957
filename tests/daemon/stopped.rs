//! Workers that are stopped in each phase of a session for longer than their lease lasts, while others go on, and that are
//! woken then.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use nix::sys::signal::Signal;

use crate::site::{ALL, Kind, Mailbox, Site};
use crate::support::daemon::{Daemon, SOON};
use crate::support::http_server::{HttpServer, answer};
use crate::support::postgres::{Open, Postgres, ask};
use crate::support::process::{free_port, wait_until};
use crate::support::relay::Relay;

/// Has a maildrop with two messages for each target.
fn site(kinds: &[Kind], own: (&Mailbox, &str), url: String) -> Site {
    let mut site = Site::with(kinds, own, kinds.len(), url);
    (0..2 * kinds.len()).for_each(|number| site.put(number % kinds.len()));
    site.provider.listen();
    site
}

/// Waits until each maildrop has had a whole session after these.
fn has_whole_sessions_after(site: &Site, held: &BTreeSet<u64>, other: &Daemon) {
    let last = held.last().unwrap();
    let is_so = || {
        let said = site.provider.said();
        let after = said.iter().filter(|(_, session, line)| session > last && line == "QUIT");
        after.map(|(user, ..)| user).collect::<BTreeSet<_>>().len() == site.provider.polls_of_each().len()
    };
    assert!(wait_until(SOON, is_so), "{}", other.log());
    site.settles(SOON, || other.log());
}

/// Wakes a worker whose sessions were these, which say nothing more; it goes on as another worker.
fn wakes(site: &mut Site, held: &BTreeSet<u64>, sleeper: Daemon, other: Daemon) {
    let said = |site: &Site| -> Vec<_> {
        site.provider.said().into_iter().filter(|(_, session, _)| held.contains(session)).collect()
    };
    let before = said(site);
    site.provider.release();
    site.servers.iter().for_each(|server| server.release());
    sleeper.running.signal(Signal::SIGCONT);
    sleeper.logs("evicted");
    assert!(wait_until(SOON, || site.provider.are_over(held)), "{}", sleeper.log());
    assert_eq!(said(site), before, "it went on");
    site.has_each_once();
    other.stop();
    (0..site.provider.polls_of_each().len()).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || sleeper.log());
    site.has_each_once();
    site.polls_all_again(|| sleeper.log());
    sleeper.stop();
}

/// Stops a worker whose sessions, one a target, all wait for the other half of an answer to this command.
fn stopped_at(command: &str, own: (&Mailbox, &str)) {
    let mut site = site(&ALL, own, Postgres::shared().database());
    site.provider.hold(command, ALL.len());
    let sleeper = site.worker();
    let is_held = || site.provider.held().len() == ALL.len();
    assert!(wait_until(SOON, is_held), "{command}: {}", sleeper.log());
    let held = site.provider.held();
    sleeper.running.signal(Signal::SIGSTOP);
    let other = site.worker();
    has_whole_sessions_after(&site, &held, &other);
    wakes(&mut site, &held, sleeper, other);
}

/// Does something for each of these at once, each with a mailbox of its own.
fn each_at_once<T: Send>(all: impl IntoIterator<Item = T>, count: usize, does: impl Fn(T, &Mailbox) + Sync) {
    let mailboxes = Mailbox::start(count);
    thread::scope(|scope| {
        for (one, mailbox) in all.into_iter().zip(&mailboxes) {
            let does = &does;
            scope.spawn(move || does(one, mailbox));
        }
    });
}

#[test]
fn a_worker_that_was_stopped_on_its_way_to_a_message_says_and_writes_nothing_more() {
    let phases = ["", "PASS", "UIDL", "LIST", "TOP"];
    each_at_once(phases, phases.len(), |command, mailbox| {
        let keys = if command == "TOP" { ", first_sync: 14d" } else { "" };
        stopped_at(command, (mailbox, keys));
    });
}

#[test]
fn a_worker_that_was_stopped_for_longer_than_its_lease_says_and_writes_nothing_more() {
    let phases = ["RETR 1", "RETR 2", "DELE", "QUIT"];
    each_at_once(phases, phases.len(), |command, mailbox| stopped_at(command, (mailbox, "")));
}

#[test]
fn a_worker_that_was_stopped_between_hand_over_and_record_records_nothing() {
    let port = free_port();
    let server = Postgres::start(port, "fsync = off\n");
    server.execute("postgres", "ALTER USER postrider PASSWORD 'secret'");
    let relay = Relay::start(port);
    let mailbox = Mailbox::start(1).pop().unwrap();
    let mut site = site(&ALL, (&mailbox, ""), server.database());
    let far = site.url.rsplit('/').next().unwrap();
    let far = format!("postgresql://postrider@127.0.0.1:{}/{far}", relay.port());
    site.write("far.yaml", &format!("{{ url: \"{far}\", password: secret, tls: none }}"), "");
    site.provider.hold("RETR 2", ALL.len());
    // Time enough for the hand-over.
    let sleeper = site.worker_by("far.yaml", "4s");
    let has_first = || site.provider.held().len() == ALL.len() && site.recorded().len() == ALL.len();
    assert!(wait_until(SOON, has_first), "{}", sleeper.log());
    let held = site.provider.held();
    relay.hold_client();
    site.provider.release();
    let delivered = || sleeper.log().matches(": delivered\n").count();
    assert!(wait_until(SOON, || delivered() == 2 * ALL.len()), "{}", sleeper.log());
    sleeper.running.signal(Signal::SIGSTOP);
    let other = site.worker_by("config/postrider/config.yaml", "4s");
    has_whole_sessions_after(&site, &held, &other);
    // What the sleeper said of its records comes now.
    relay.open();
    wakes(&mut site, &held, sleeper, other);
    let recorded = site.recorded();
    assert!(recorded.len() == 3 * ALL.len() && recorded.values().all(|times| *times == 1), "{recorded:?}");
}

#[test]
fn a_worker_that_was_stopped_inside_a_transaction_keeps_its_maildrop_for_seconds_only() {
    let mailbox = Mailbox::start(1).pop().unwrap();
    let mut site = site(&[Kind::Imap], (&mailbox, ""), Postgres::shared().database());
    let nobody_records = Open::with(&site.url, "LOCK TABLE seen IN SHARE ROW EXCLUSIVE MODE");
    let sleeper = site.worker();
    // The record waits, and its transaction has the row of the lease.
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'seen'::regclass
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!(wait_until(SOON, || ask(&site.url, waiting) == "1"), "{}", sleeper.log());
    assert!(!site.came(Kind::Imap).is_empty(), "it was not handed over");
    let held = BTreeSet::from([1]);
    sleeper.running.signal(Signal::SIGSTOP);
    drop(nobody_records);
    let other = site.worker();
    has_whole_sessions_after(&site, &held, &other);
    wakes(&mut site, &held, sleeper, other);
}

#[test]
fn a_worker_that_was_stopped_before_the_octets_of_a_message_sends_no_end_of_it() {
    let kinds = [Kind::Lmtp, Kind::Smtp];
    let mailbox = Mailbox::start(1).pop().unwrap();
    let mut site = site(&kinds, (&mailbox, ""), Postgres::shared().database());
    site.servers.iter().for_each(|server| server.hold_data());
    let sleeper = site.worker();
    let is_held = || site.servers.iter().all(|server| server.holds_data());
    assert!(wait_until(SOON, is_held), "{}", sleeper.log());
    let held = BTreeSet::from([1, 2]);
    sleeper.running.signal(Signal::SIGSTOP);
    let other = site.worker();
    has_whole_sessions_after(&site, &held, &other);
    wakes(&mut site, &held, sleeper, other);
    assert_eq!(site.has_each_once(), 0, "it was sent twice");
}

#[test]
fn a_worker_that_was_stopped_while_a_receiver_had_its_message_says_no_quit() {
    let mut site = Site::plain(&[Kind::Http], 1, Postgres::shared().database());
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let held = gate.clone();
    site.receiver = HttpServer::start(move |_| {
        let (count, changed) = &*held;
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count == 1 {
            drop(changed.wait_while(count, |count| *count < 100).unwrap());
        }
        answer(204)
    });
    site.configure(&format!("{{ url: \"{}\" }}", site.url));
    site.put(0);
    site.provider.listen();
    let sleeper = site.worker();
    assert!(wait_until(SOON, || *gate.0.lock().unwrap() == 1), "{}", sleeper.log());
    sleeper.running.signal(Signal::SIGSTOP);
    let other = site.worker();
    site.settles(SOON, || other.log());
    *gate.0.lock().unwrap() = 100;
    gate.1.notify_all();
    sleeper.running.signal(Signal::SIGCONT);
    sleeper.logs("evicted");
    site.has_each_once();
    let said = site.provider.said();
    assert!(!said.iter().any(|(_, session, line)| *session == 1 && line == "QUIT"), "{said:?}");
    other.stop();
    sleeper.stop();
}
