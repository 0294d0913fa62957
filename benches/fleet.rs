//! A fleet at work: maildrops at a provider in memory, a real PostgreSQL that waits for its disk, and workers, all on one
//! machine. Says how many polls a second they keep up, how late the latest is, and what that costs.
//!
//! `cargo bench --bench fleet -- 100000 588s 5m 1`: so many maildrops, the interval of each, how long it is measured, and
//! workers. Polls a second are maildrops by interval; a tenth of the polls finds a message. `POSTRIDER_FLEET_KILL=1` kills a
//! worker in the middle, and measures until all that it held is polled again.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::daemon::Daemon;
use support::http_server::{HttpServer, answer};
use support::postgres::Postgres;
use support::postrider::Home;
use support::process::free_port;
use support::provider::Provider;

/// What a hoster's database has, and no less durable.
const DATABASE: &str = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nautovacuum = on\n\
                        shared_buffers = 256MB\nwal_compression = on\nmax_wal_size = 2GB\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let word = |place: usize, usual: &str| arguments.get(place).cloned().unwrap_or_else(|| usual.to_owned());
    let maildrops: usize = word(0, "2000").parse().expect("a number of maildrops");
    let interval = humantime::parse_duration(&word(1, "20s")).expect("an interval");
    let measured = humantime::parse_duration(&word(2, "20s")).expect("a time");
    let count: usize = word(3, "1").parse().expect("a number of workers");

    let provider = Provider::start();
    let receiver = HttpServer::start(|_| answer(204));
    (0..maildrops).for_each(|number| provider.make(&format!("u{number}")));
    let server = Postgres::start(free_port(), DATABASE);
    let url = server.database();
    let database = url.rsplit('/').next().expect("a name").to_owned();
    let home = Home::new();
    home.configure(&configuration(&url, maildrops, interval, &provider, &receiver));
    let begun = Instant::now();
    let mut workers: Vec<_> = (0..count).map(|_| Daemon::start_with(&home, &["daemon"], &[])).collect();
    let entered = "SELECT count(*) FROM lease";
    let rows = || server.execute(&database, "SELECT to_regclass('lease') IS NOT NULL") == "t";
    while !rows() || server.execute(&database, entered) != maildrops.to_string() {
        std::thread::sleep(Duration::from_millis(500));
        assert!(begun.elapsed() < Duration::from_secs(300), "{}", workers[0].log());
    }
    println!("{maildrops} leases, entered after {:.1}s", begun.elapsed().as_secs_f64());
    // The first second of a process is not like the others.
    std::thread::sleep(Duration::from_secs(5));

    let lag =
        "SELECT greatest(coalesce(extract(epoch FROM now() - min(due)), 0), 0) FROM lease WHERE token = 0";
    let wal = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn";
    let commits = format!("SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'");
    let number = |sql: &str| server.execute(&database, sql).parse::<f64>().expect("a number");
    let (polls, octets, committed) = (provider.polls().0, number(wal), number(&commits));
    let before: Vec<f64> = workers.iter().map(|worker| cpu(worker.running.id())).collect();
    let (began, mut lags, mut put) = (Instant::now(), Vec::new(), 0_usize);
    let rate = maildrops as f64 / interval.as_secs_f64();
    let mut killed = None;
    while began.elapsed() < measured {
        std::thread::sleep(Duration::from_secs(1));
        // A tenth of those that are polled within the next interval have mail.
        while (put as f64) < began.elapsed().as_secs_f64() * rate / 10.0 {
            let (user, uid) = (format!("u{}", (put * 7919) % maildrops), format!("uid-{put}"));
            let head = format!("Message-ID: <{put}@a>\r\nDate: b\r\nSubject: {put}\r\n\r\n");
            provider.put(&user, &uid, head + &"some words of a message\r\n".repeat(200));
            put += 1;
        }
        lags.push(number(lag));
        if std::env::var_os("POSTRIDER_FLEET_KILL").is_some()
            && killed.is_none()
            && began.elapsed() > measured / 2
        {
            let held = "SELECT count(*) FROM lease WHERE token <> 0";
            println!("killing a worker; {} leases are held", server.execute(&database, held));
            workers.remove(0).running.signal(Signal::SIGKILL);
            killed = Some(Instant::now());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let polled = (provider.polls().0 - polls) as f64;
    println!(
        "polls: {:.1} a second of {rate:.1}, for {seconds:.0}s; {} sessions at once at most; {} overlaps",
        polled / seconds,
        provider.most_open(),
        provider.polls().1
    );
    lags.sort_by(f64::total_cmp);
    let part = |share: f64| lags[((lags.len() - 1) as f64 * share) as usize];
    println!("lag: median {:.1}s, p99 {:.1}s, longest {:.1}s", part(0.5), part(0.99), part(1.0));
    println!(
        "database: {:.2} transactions a poll, {:.0} octets of WAL a poll",
        (number(&commits) - committed) / polled,
        (number(wal) - octets) / polled
    );
    for (worker, before) in workers.iter().zip(before) {
        let own = cpu(worker.running.id()) - before;
        println!(
            "worker: {:.2} ms of CPU a poll, {:.0} MB resident",
            own * 1000.0 / polled * workers.len() as f64,
            resident(worker.running.id())
        );
    }
    println!("received: {}", receiver.asked().len());
    for worker in workers {
        worker.stop();
    }
}

fn configuration(
    url: &str,
    maildrops: usize,
    interval: Duration,
    provider: &Provider,
    receiver: &HttpServer,
) -> String {
    let mut yaml = format!(
        "state: {{ postgres: {{ url: \"{url}\" }} }}\n\
         daemon: {{ max_sessions: 1000, max_sessions_per_host: 1000, startup_spread: 1s }}\n\
         notify: {{ deliver: false }}\n\
         defaults: {{ host: 127.0.0.1, port: {}, password: x, tls: none, auth: [user-pass], interval: {}s, \
         keep: none, deliver: {{ http: {{ url: \"{}\" }} }} }}\naccounts:\n",
        provider.port(),
        interval.as_secs(),
        receiver.url("/in"),
    );
    (0..maildrops).for_each(|number| yaml += &format!("  a{number}: {{ user: u{number} }}\n"));
    yaml
}

/// Gives the seconds of CPU that a process has used.
fn cpu(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("user") + fields[12].parse::<f64>().expect("system");
    ticks / 100.0
}

/// Gives the megabytes of a process that are in memory.
fn resident(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}
