//! A fleet at work: tenants' maildrops at a provider in memory, a real PostgreSQL that waits for its disk, and workers, all
//! on one machine. Says how many polls a second they keep up, how late the latest is, and what that costs.
//!
//! `cargo bench --bench fleet -- MAILDROPS INTERVAL TIME WORKERS DELAY`: so many maildrops, polled so often, measured for so
//! long, by so many workers, at a server that takes so long to let anybody in. Polls a second are maildrops by interval; a
//! tenth of them finds a message. Without arguments it takes less than a minute; `100000 588s 5m 1 2s` is what docs/fleet.md
//! tells. `POSTRIDER_FLEET_KILL=1` kills a worker in the middle, and says how long it takes until others have what it held.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
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

/// A key, in base64.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// Accounts of each tenant.
const OF_TENANT: usize = 500;

/// What is measured.
struct Load {
    maildrops: usize,
    interval: Duration,
    measured: Duration,
    workers: usize,
    delay: Duration,
}

impl Load {
    fn of_arguments() -> Self {
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let word = |place: usize, usual: &str| words.get(place).cloned().unwrap_or_else(|| usual.to_owned());
        let span = |place, usual| humantime::parse_duration(&word(place, usual)).expect("a time");
        let number = |place, usual| word(place, usual).parse().expect("a number");
        Self {
            maildrops: number(0, "2000"),
            interval: span(1, "20s"),
            measured: span(2, "20s"),
            workers: number(3, "2"),
            delay: span(4, "0s"),
        }
    }

    /// Polls a second.
    fn rate(&self) -> f64 {
        self.maildrops as f64 / self.interval.as_secs_f64()
    }
}

fn main() {
    let load = Load::of_arguments();
    let provider = Provider::start();
    provider.set_delay(load.delay);
    (0..load.maildrops).for_each(|number| provider.make(&format!("u{number}")));
    let receiver = HttpServer::start(|_| answer(204));
    let server = Postgres::start(free_port(), DATABASE);
    let url = server.database();
    let site = Site { server: &server, database: url.rsplit('/').next().expect("a name").to_owned() };
    let home = Home::new();
    home.write("key", KEY);
    home.configure(&configuration(&url, &load, &receiver));
    let rows = (0..load.maildrops).fold(String::new(), |mut rows, number| {
        let (tenant, port) = (number / OF_TENANT, provider.port());
        let _ = writeln!(
            rows,
            "{{\"tenant\": \"t{tenant}\", \"name\": \"u{number}\", \"host\": \"127.0.0.1\", \"port\": {port}, \
             \"user\": \"u{number}\", \"password\": \"x\", \"deliver\": \"desk\"}}"
        );
        rows
    });
    home.write("rows", &rows);
    home.must(&["account", "import", "rows"], 0);
    let begun = Instant::now();
    let mut workers: Vec<Daemon> = (0..load.workers).map(|_| Daemon::start(&home)).collect();
    while site.asked("SELECT count(*) FROM lease") != load.maildrops.to_string() {
        assert!(begun.elapsed() < Duration::from_secs(600), "{}", workers[0].log());
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("{} leases, entered after {:.1}s", load.maildrops, begun.elapsed().as_secs_f64());
    // The first polls of a process are not like the others.
    std::thread::sleep(Duration::from_secs(5));
    measure(&load, &site, &provider, &mut workers);
    println!("received: {}", receiver.asked().len());
    workers.into_iter().for_each(Daemon::stop);
}

/// The database.
struct Site<'a> {
    server: &'a Postgres,
    database: String,
}

impl Site<'_> {
    fn asked(&self, sql: &str) -> String {
        self.server.execute(&self.database, sql)
    }

    fn number(&self, sql: &str) -> f64 {
        self.asked(sql).parse().expect("a number")
    }

    /// Which of these workers has the most leases.
    fn busiest(&self, workers: &[Daemon]) -> usize {
        let name = self.asked(
            "SELECT name FROM worker JOIN lease ON owner = worker.id WHERE token <> 0
             GROUP BY name ORDER BY count(*) DESC LIMIT 1",
        );
        let is = |worker: &Daemon| name.ends_with(&format!(":{}", worker.running.id()));
        workers.iter().position(is).unwrap_or_default()
    }

    /// Octets of WAL, and transactions, until now.
    fn cost(&self) -> (f64, f64) {
        let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        (self.number("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"), self.number(commits))
    }

    /// The tokens of all leases that are held, by maildrop.
    fn held(&self) -> HashMap<String, String> {
        let rows = self.asked("SELECT maildrop, token FROM lease WHERE token <> 0");
        let row = |row: &str| {
            let (maildrop, token) = row.split_once('|').expect("two columns");
            (maildrop.to_owned(), token.to_owned())
        };
        rows.lines().map(row).collect()
    }
}

fn measure(load: &Load, site: &Site<'_>, provider: &Provider, workers: &mut Vec<Daemon>) {
    let lag =
        "SELECT greatest(coalesce(extract(epoch FROM now() - min(due)), 0), 0) FROM lease WHERE token = 0";
    let (polls, (octets, commits)) = (provider.polls().0, site.cost());
    let before: Vec<(u32, f64)> =
        workers.iter().map(|worker| (worker.running.id(), cpu(worker.running.id()))).collect();
    let (began, mut lags, mut put) = (Instant::now(), Vec::new(), 0_usize);
    let mut taken: Option<Takeover> = None;
    let wants_kill = std::env::var_os("POSTRIDER_FLEET_KILL").is_some();
    while began.elapsed() < load.measured {
        std::thread::sleep(Duration::from_secs(1));
        put_mail(load, provider, began.elapsed(), &mut put);
        lags.push(site.number(lag));
        // In the middle of as many sessions as there are.
        let is_time = wants_kill && began.elapsed() > load.measured / 3;
        if is_time && (taken.is_some() || site.held().len() as f64 >= load.rate() / 4.0) {
            let kill = || Takeover::by_killing(workers.remove(site.busiest(workers)), site);
            taken.get_or_insert_with(kill).look(site);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let polled = (provider.polls().0 - polls) as f64;
    if polled == 0.0 {
        workers.iter().for_each(|worker| println!("nothing was polled: {}", worker.log()));
    }
    println!(
        "polls: {:.1} a second of {:.1}, for {seconds:.0}s; {} sessions at once at most; {} overlaps",
        polled / seconds,
        load.rate(),
        provider.most_open(),
        provider.polls().1
    );
    println!(
        "lag: median {:.1}s, p99 {:.1}s, longest {:.1}s",
        part(&mut lags, 0.5),
        part(&mut lags, 0.99),
        part(&mut lags, 1.0)
    );
    let (after, committed) = site.cost();
    println!(
        "database: {:.2} transactions a poll, {:.0} octets of WAL a poll",
        (committed - commits) / polled,
        (after - octets) / polled
    );
    let claims = "SELECT string_agg(claims::text, ', ' ORDER BY claims) FROM worker WHERE NOT evicted";
    println!("claims of the workers since they began: {}", site.asked(claims));
    for worker in workers.iter() {
        let id = worker.running.id();
        let own = before.iter().find(|(before, _)| *before == id).map_or(0.0, |(_, used)| cpu(id) - used);
        println!(
            "worker: {:.0}% of a core, {:.2} ms of CPU a poll if all poll alike, {:.0} MB resident",
            own / seconds * 100.0,
            own * 1000.0 / polled * load.workers as f64,
            resident(id)
        );
    }
    if let Some(taken) = taken {
        taken.tell();
    }
}

/// Puts mail into a tenth of those that are polled within the next interval, and counts what was `put`.
fn put_mail(load: &Load, provider: &Provider, elapsed: Duration, put: &mut usize) {
    while (*put as f64) < elapsed.as_secs_f64() * load.rate() / 10.0 {
        let user = format!("u{}", (*put * 7919) % load.maildrops);
        let head = format!("Message-ID: <{put}@a>\r\nDate: b\r\nSubject: {put}\r\n\r\n");
        provider.put(&user, &format!("uid-{put}"), head + &"some words of a message\r\n".repeat(200));
        *put += 1;
    }
}

/// What a worker held that was killed, and when others had it.
struct Takeover {
    killed: Instant,
    held: HashMap<String, String>,
    since: Vec<f64>,
}

impl Takeover {
    /// Kills a worker. What the others hold has other tokens soon.
    fn by_killing(worker: Daemon, site: &Site<'_>) -> Self {
        let name = format!(":{}", worker.running.id());
        worker.running.signal(Signal::SIGKILL);
        let killed = Instant::now();
        let own = site.asked(&format!(
            "SELECT maildrop, token FROM lease JOIN worker ON worker.id = owner WHERE token <> 0 AND name LIKE '%{name}'"
        ));
        let row =
            |row: &str| row.split_once('|').map(|(maildrop, token)| (maildrop.to_owned(), token.to_owned()));
        let held: HashMap<_, _> = own.lines().filter_map(row).collect();
        println!("killed a worker that held {} leases", held.len());
        Self { killed, held, since: Vec::new() }
    }

    /// Looks which of them somebody else has by now, or has had.
    fn look(&mut self, site: &Site<'_>) {
        let now = site.held();
        let free = site.asked("SELECT maildrop FROM lease WHERE token = 0 AND owner <> 0");
        let free: Vec<&str> = free.lines().collect();
        let (killed, since) = (self.killed, &mut self.since);
        self.held.retain(|maildrop, token| {
            let is_anothers =
                now.get(maildrop).map_or(free.contains(&maildrop.as_str()), |other| other != token);
            if is_anothers {
                since.push(killed.elapsed().as_secs_f64());
            }
            !is_anothers
        });
    }

    fn tell(mut self) {
        println!(
            "taken over: {} leases, median {:.0}s, p99 {:.0}s, longest {:.0}s; {} not yet",
            self.since.len(),
            part(&mut self.since, 0.5),
            part(&mut self.since, 0.99),
            part(&mut self.since, 1.0),
            self.held.len()
        );
    }
}

/// Gives the value that this share is not above.
fn part(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).ceil() as usize).copied().unwrap_or_default()
}

fn configuration(url: &str, load: &Load, receiver: &HttpServer) -> String {
    format!(
        "state: {{ postgres: {{ url: \"{url}\", secrets_key: {{ file: ~/key }} }} }}\n\
         daemon: {{ max_sessions: 1000, max_sessions_per_host: 1000, startup_spread: 1s }}\n\
         notify: {{ deliver: false }}\n\
         fleet: {{ allow_networks: [127.0.0.0/8], targets: {{ desk: {{ http: {{ url: \"{}\" }} }} }} }}\n\
         defaults: {{ tls: none, auth: [user-pass], interval: {}s, keep: none }}\n",
        receiver.url("/in"),
        load.interval.as_secs(),
    )
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
