//! Workers whose database is behind a pooler, is promoted in the middle, has no room, takes no writes, or is away.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::site::{EVICTED, Kind, SILENCE, Site, log_of};
use crate::support::daemon::{Daemon, SOON};
use crate::support::mounted::Mounted;
use crate::support::postgres::{Pooler, Postgres, own};
use crate::support::postrider::Home;
use crate::support::process::wait_until;

/// Everything that makes waiting for a disk but the commit, which a standby waits for.
const NEARLY_FAST: &str = "fsync = off\nfull_page_writes = off\n";

#[test]
fn workers_behind_a_pooler_by_transactions_lose_nothing_and_repeat_nothing() {
    let server = Postgres::shared();
    let url = server.database();
    let pooler = Pooler::start(server);
    let mut site = Site::new(60, url.clone());
    site.configure(&format!("{{ url: \"{}\" }}", pooler.url(url.rsplit('/').next().unwrap())));
    let mut workers: Vec<_> = (0..2).map(|_| Some(site.worker())).collect();
    for turn in 0..15 {
        (0..5).for_each(|step| site.put((turn * 5 + step) % 60));
        thread::sleep(Duration::from_millis(300));
        let killed = workers[turn % 2].take().unwrap();
        killed.running.signal(Signal::SIGKILL);
        drop(killed);
        workers[turn % 2] = Some(site.worker());
    }
    site.settles(2 * SOON, || log_of(&workers));
    site.has_each_once();
    site.had_one_session_each();
    site.polls_all_again(|| log_of(&workers));
    site.home.must(&["check", "a0"], 1);
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_synchronous_standby_that_is_promoted_in_the_middle_costs_no_message_and_repeats_none() {
    let mut primary = Postgres::start(0, NEARLY_FAST);
    let url = primary.database();
    let standby = primary.standby();
    let mut site = Site::new(60, primary.url_with(&standby, url.rsplit('/').next().unwrap()));
    let workers: Vec<_> = (0..2).map(|_| Some(site.worker())).collect();
    for turn in 0..6 {
        (0..20).for_each(|step| site.put((turn * 20 + step * 7) % 60));
        thread::sleep(Duration::from_millis(500));
        if turn == 2 {
            primary.stop_at_once();
            standby.execute("postgres", "SELECT pg_promote()");
        }
    }
    site.settles(2 * SOON, || log_of(&workers));
    site.has_each_once();
    site.had_one_session_each();
    site.polls_all_again(|| log_of(&workers));
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_standby_that_takes_no_writes_is_one_clear_error() {
    let primary = Postgres::start(0, NEARLY_FAST);
    let url = primary.database();
    let standby = primary.standby();
    let site = Site::plain(&[Kind::Http], 2, standby.url(url.rsplit('/').next().unwrap()));
    for arguments in [&["sync"][..], &["seen", "list", "a0"], &["wake"]] {
        let told = site.home.must(arguments, 75).stderr;
        assert!(
            told.contains("it takes no writes: it is a standby") && told.contains("name the primary"),
            "{told}"
        );
    }
    let worker = quiet(&site.home);
    worker.logs("it takes no writes");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(worker.log().matches("no writes").count(), 1, "{}", worker.log());
    worker.stop();
    drop(primary);
}

fn quiet(home: &Home) -> Daemon {
    Daemon::start_with(home, &["daemon"], &[("POSTRIDER_FLEET_SILENCE", SILENCE)])
}

#[test]
fn a_database_that_is_away_is_told_once_and_all_goes_on_when_it_is_back() {
    let mut server = Postgres::start(0, NEARLY_FAST);
    let url = server.database();
    let mut site = Site::new(40, url);
    let worker = quiet(&site.home);
    (0..40).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || worker.log());
    server.stop_at_once();
    (0..40).for_each(|maildrop| site.put(maildrop));
    thread::sleep(2 * EVICTED);
    let told = worker.log();
    assert_eq!(told.lines().filter(|line| line.contains("cannot ")).count(), 1, "{told}");
    server.run();
    site.settles(2 * SOON, || worker.log());
    worker.logs("the database answers again");
    site.has_each_once();
    worker.stop();
}

#[test]
fn a_full_disk_of_the_database_is_told_once_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let Some(disk) = Mounted::tmpfs(directory.path().join("disk"), "40m") else { return };
    own(directory.path());
    own(disk.path());
    let server = Postgres::start(0, NEARLY_FAST);
    let place = disk.path().display();
    server.execute("postgres", &format!("CREATE TABLESPACE small LOCATION '{place}'"));
    server.execute("postgres", "CREATE DATABASE small TABLESPACE small");
    let mut site = Site::plain(&[Kind::Http, Kind::Maildir], 10, server.url("small"));
    let worker = quiet(&site.home);
    site.put(0);
    site.settles(SOON, || worker.log());
    let filler = disk.fill();
    // More than the pages that are there have room for.
    (0..400).for_each(|number| site.put(number % 10));
    worker.logs("No space left on device");
    worker.logs("make room there");
    let received = || site.receiver.asked().len() + site.home.maildir("Mail").len();
    assert!(wait_until(SOON, || received() > 100));
    thread::sleep(Duration::from_secs(3));
    let told = worker.log();
    assert_eq!(told.matches("No space left on device").count(), 1, "{told}");
    std::fs::remove_file(filler).unwrap();
    site.home.must(&["wake"], 0);
    site.settles(2 * SOON, || worker.log());
    worker.logs("the database takes records again");
    site.has_each_once();
    worker.stop();
}
