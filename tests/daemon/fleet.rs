//! Workers that share a database, and what becomes of mail when they are killed, stopped, or cut off from it.
//!
//! Some seconds each; `POSTRIDER_FLEET=5m` lets the killing go on for so long.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::site::{ALL, EVICTED, Kind, SILENCE, Site, log_of};
use crate::support::daemon::{Daemon, SOON};
use crate::support::postgres::Postgres;
use crate::support::process::{free_port, wait_until};
use crate::support::relay::Relay;

#[test]
fn three_workers_of_which_one_is_killed_again_and_again_lose_nothing_and_repeat_at_most_what_was_in_flight() {
    let long = std::env::var("POSTRIDER_FLEET").ok().and_then(|text| humantime::parse_duration(&text).ok());
    let mut site = Site::new(200, Postgres::shared().database());
    // So that some are killed in between.
    site.servers.iter().for_each(|server| server.think(Duration::from_millis(200)));
    let mut workers: Vec<_> = (0..3).map(|_| Some(site.worker())).collect();
    let until = Instant::now() + long.unwrap_or(Duration::from_secs(8));
    let mut turn = 0;
    while Instant::now() < until {
        for step in 0..10 {
            site.put((turn * 37 + step * 19) % 200);
        }
        thread::sleep(Duration::from_millis(300));
        let killed = workers[turn % 3].take().unwrap();
        killed.running.signal(Signal::SIGKILL);
        drop(killed);
        workers[turn % 3] = Some(site.worker());
        turn += 1;
    }
    site.settles(2 * SOON, || log_of(&workers));
    println!("{} repeated by {turn} kills", site.has_each_once());
    site.had_one_session_each();
    site.polls_all_again(|| log_of(&workers));
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_worker_that_is_killed_while_mail_servers_have_a_message_each_repeats_those_and_no_others() {
    let mut site = Site::new(ALL.len(), Postgres::shared().database());
    let place = |kind: Kind| ALL.iter().position(|one| *one == kind).unwrap();
    let maildrops = [Kind::Lmtp, Kind::Smtp].map(place);
    (0..3).for_each(|_| maildrops.iter().for_each(|maildrop| site.put(*maildrop)));
    site.servers.iter().for_each(|server| server.hold(1));
    let worker = site.worker();
    let is_held = || site.servers.iter().all(|server| server.arrived().len() == 1);
    assert!(wait_until(SOON, is_held), "{}", worker.log());
    worker.running.signal(Signal::SIGKILL);
    drop(worker);
    site.servers.iter().for_each(|server| server.release());
    let worker = site.worker();
    site.settles(SOON, || worker.log());
    assert_eq!(site.has_each_once(), 2, "{}", worker.log());
    site.polls_all_again(|| worker.log());
    worker.stop();
}

#[test]
fn a_database_that_stops_at_once_and_cuts_connections_costs_no_message() {
    let port = free_port();
    let mut server = Postgres::start(port, "");
    let url = server.database();
    let mut site = Site::new(60, url);
    let workers: Vec<_> = (0..2).map(|_| Some(site.worker())).collect();
    for round in 0..3 {
        for step in 0..20 {
            site.put((round * 20 + step * 7) % 60);
        }
        thread::sleep(Duration::from_millis(700));
        match round {
            0 => {
                let cut =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
                server.execute("postgres", cut);
            }
            _ => {
                server.stop_at_once();
                thread::sleep(if round == 1 { Duration::ZERO } else { 2 * EVICTED });
                server.run();
            }
        }
    }
    site.settles(2 * SOON, || log_of(&workers));
    println!("{} repeated", site.has_each_once());
    site.polls_all_again(|| log_of(&workers));
    workers.into_iter().flatten().for_each(Daemon::stop);
}

#[test]
fn a_worker_that_is_cut_off_from_the_database_leaves_its_maildrops_to_others() {
    let port = free_port();
    let server = Postgres::start(port, "");
    server.execute("postgres", "ALTER USER postrider PASSWORD 'secret'");
    let url = server.database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let mut site = Site::new(30, url);
    let relay = Relay::start(port);
    let far = format!("postgresql://postrider@127.0.0.1:{}/{database}", relay.port());
    site.write("far.yaml", &format!("{{ url: \"{far}\", password: secret, tls: none }}"), "");
    let near = site.worker();
    let far = site.worker_by("far.yaml", SILENCE);
    (0..30).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || far.log());
    relay.hold_after(0);
    (0..30).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || near.log());
    site.has_each_once();
    near.logs("was not heard of for too long");
    relay.open();
    (0..30).for_each(|maildrop| site.put(maildrop));
    site.settles(SOON, || near.log());
    far.logs("evicted");
    site.has_each_once();
    site.polls_all_again(|| near.log());
    [near, far].into_iter().for_each(Daemon::stop);
}

#[test]
fn a_target_that_is_one_machines_own_is_refused() {
    let site = Site::plain(&[Kind::Http, Kind::Maildir], 2, Postgres::shared().database());
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    site.home.configure(&config.replace(", shared: true", ""));
    let ended = site.home.must(&["daemon"], 78);
    assert!(ended.stderr.contains("a1: ") && ended.stderr.contains("shared: true"), "{}", ended.stderr);
}

#[test]
fn a_worker_that_starts_later_soon_polls_its_share_of_quiet_maildrops() {
    let url = Postgres::shared().database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let site = Site::plain(&[Kind::Http, Kind::Maildir], 200, url);
    let config = std::fs::read_to_string(site.home.path("config/postrider/config.yaml")).unwrap();
    site.home.configure(&config.replace("interval: 1s", "interval: 5s"));
    let ask = |sql: &str| Postgres::shared().execute(&database, sql);
    let first = site.worker();
    let all = "SELECT count(*) FROM lease JOIN worker ON worker.id = owner";
    let has_all = || site.provider.polls().0 >= 200 && ask(all) == "200";
    assert!(wait_until(2 * SOON, has_all), "{}", first.log());
    // What was polled first is due again, and in time.
    site.polls_all_again(|| first.log());
    let second = site.worker();
    let shares = |column: &str| -> Vec<u64> {
        let sql = format!("SELECT {column} FROM worker WHERE NOT evicted ORDER BY id");
        ask(&sql).lines().map(|line| line.parse().unwrap()).collect()
    };
    let owned = || shares("(SELECT count(*) FROM lease WHERE owner = worker.id)");
    let is_shared = || owned().len() == 2 && owned().iter().all(|count| *count >= 60);
    assert!(wait_until(2 * SOON, is_shared), "{:?}\n{}", owned(), second.log());
    let before = shares("claims");
    // Longer than the interval.
    thread::sleep(Duration::from_secs(6));
    let polled: Vec<_> = shares("claims").iter().zip(before).map(|(now, before)| now - before).collect();
    let sum: u64 = polled.iter().sum();
    assert!(polled.iter().all(|count| count * 10 >= sum * 3), "{polled:?}\n{}", second.log());
    site.had_one_session_each();
    [first, second].into_iter().for_each(Daemon::stop);
}
