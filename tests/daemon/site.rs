//! A fleet's site: a provider with many maildrops, each kind of target that is delivered into, a database, and the home that
//! all workers have. It notes what may be excused, and what came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::daemon::{Daemon, SOON};
use crate::support::dovecot::{Dovecot, Format, PASSWORD};
use crate::support::http_server::{HttpServer, answer};
use crate::support::mail_server::{MailServer, smtp};
use crate::support::postgres::ask;
use crate::support::postrider::Home;
use crate::support::process::{free_port, wait_until};
use crate::support::provider::Provider;

pub const SILENCE: &str = "2s";
/// The time after which a silent worker is evicted.
pub const EVICTED: Duration = Duration::from_secs(2);

/// Where a maildrop's mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    /// One that all workers see.
    Maildir,
    Imap,
    Lmtp,
    Smtp,
}

pub const ALL: [Kind; 5] = [Kind::Http, Kind::Maildir, Kind::Imap, Kind::Lmtp, Kind::Smtp];

/// Notes each record of a delivered message, and each lease that ended otherwise than by the close of a good session: what was
/// on its way then may come twice where nobody can be asked.
const WATCH: &str = "
CREATE TABLE test_recorded (maildrop BIGINT, uid BYTEA, at TIMESTAMPTZ);
CREATE TABLE test_ended (maildrop BIGINT, at TIMESTAMPTZ);
CREATE FUNCTION test_recorded() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test_recorded VALUES (NEW.maildrop, NEW.uid, clock_timestamp()); RETURN NULL; END $$;
CREATE FUNCTION test_ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test_ended VALUES (OLD.maildrop, clock_timestamp()); RETURN NULL; END $$;
CREATE TRIGGER test_recorded AFTER INSERT OR UPDATE OF delivered_at ON seen FOR EACH ROW
    WHEN (NEW.kind = 0 AND NEW.delivered_at IS NOT NULL) EXECUTE FUNCTION test_recorded();
CREATE TRIGGER test_ended AFTER UPDATE ON lease FOR EACH ROW
    WHEN (OLD.token <> 0 AND NEW.token <> OLD.token
        AND (NEW.owner <> OLD.owner OR NEW.failures > 0 OR NEW.due = OLD.due)) EXECUTE FUNCTION test_ended()";

/// A mailbox at a Dovecot.
#[derive(Clone)]
pub struct Mailbox {
    dovecot: Arc<Dovecot>,
    port: u16,
    user: String,
}

impl Mailbox {
    /// Starts a Dovecot with so many.
    pub fn start(count: usize) -> Vec<Self> {
        let port = free_port();
        let more = format!(
            "protocols = pop3 imap\nservice imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = {port}\n  }}\n  \
             inet_listener imaps {{\n    port = 0\n  }}\n}}\n"
        );
        let dovecot = Arc::new(Dovecot::start_with(Format::Maildir, count, &more));
        let mailbox = |user| Self { dovecot: dovecot.clone(), port, user: format!("u{user}") };
        (1..=count).map(mailbox).collect()
    }
}

/// A message that was put into a maildrop.
struct Message {
    maildrop: usize,
    octets: Vec<u8>,
    /// In seconds since 1970.
    put: f64,
}

pub struct Site {
    pub provider: Provider,
    pub receiver: HttpServer,
    /// LMTP and SMTP.
    pub servers: [MailServer; 2],
    mailbox: Option<Mailbox>,
    pub home: Home,
    kinds: Vec<Kind>,
    /// The database, and whether it notes what may be excused.
    pub url: String,
    is_watched: bool,
    /// By the number in its header: every message that was put.
    put: BTreeMap<usize, Message>,
    maildrops: usize,
}

impl Site {
    /// Makes so many maildrops whose mail goes to all kinds of targets in turn.
    pub fn new(maildrops: usize, url: String) -> Self {
        let mailbox = Mailbox::start(1).pop().unwrap();
        let mut site = Self::of(&ALL, maildrops, url);
        site.mailbox = Some(mailbox);
        site.watched("")
    }

    /// The same with targets of these kinds, a mailbox of somebody else's Dovecot, and these keys for all accounts.
    pub fn with(kinds: &[Kind], (mailbox, keys): (&Mailbox, &str), maildrops: usize, url: String) -> Self {
        let mut site = Self::of(kinds, maildrops, url);
        site.mailbox = Some(mailbox.clone());
        site.watched(keys)
    }

    /// The same without a mailbox, and with nothing that notes what may be excused.
    pub fn plain(kinds: &[Kind], maildrops: usize, url: String) -> Self {
        let site = Self::of(kinds, maildrops, url);
        site.configure(&format!("{{ url: \"{}\" }}", site.url));
        site
    }

    fn of(kinds: &[Kind], maildrops: usize, url: String) -> Self {
        let (provider, receiver) = (Provider::start(), HttpServer::start(|_| answer(204)));
        (0..maildrops).for_each(|number| provider.make(&format!("u{number}")));
        Self {
            provider,
            receiver,
            servers: [(); 2].map(|()| MailServer::start(&["PIPELINING", "8BITMIME", "SIZE"])),
            mailbox: None,
            home: Home::new(),
            kinds: kinds.to_vec(),
            url,
            is_watched: false,
            put: BTreeMap::new(),
            maildrops,
        }
    }

    fn watched(mut self, keys: &str) -> Self {
        let database = format!("{{ url: \"{}\" }}", self.url);
        self.write("config/postrider/config.yaml", &database, keys);
        // Makes the tables.
        self.home.must(&["seen", "list", "a0"], 0);
        if self.url.contains(',') {
            self.url += "?target_session_attrs=read-write";
        }
        ask(&self.url, WATCH);
        self.provider.ask(&self.url);
        self.is_watched = true;
        self
    }

    /// Has the workers that are started from now on go by this database.
    pub fn configure(&self, database: &str) {
        self.write("config/postrider/config.yaml", database, "");
    }

    /// Writes the configuration of workers that go by another way to the database.
    pub fn write(&self, path: &str, database: &str, keys: &str) {
        let mut yaml = format!(
            "state: {{ postgres: {database} }}\n\
             daemon: {{ max_sessions: 60, max_sessions_per_host: 60, startup_spread: 1s }}\n\
             notify: {{ deliver: false }}\n\
             defaults: {{ host: 127.0.0.1, port: {}, password: x, tls: none, auth: [user-pass], interval: 1s, \
             keep: none, timeout: 10s{keys} }}\naccounts:\n",
            self.provider.port()
        );
        for number in 0..self.maildrops {
            yaml += &format!("  a{number}: {{ user: u{number}, deliver: {} }}\n", self.target(number));
        }
        self.home.write(path, &yaml);
    }

    fn kind(&self, maildrop: usize) -> Kind {
        self.kinds[maildrop % self.kinds.len()]
    }

    fn target(&self, maildrop: usize) -> String {
        match (self.kind(maildrop), &self.mailbox) {
            (Kind::Http, _) => format!("{{ http: {{ url: \"{}\" }} }}", self.receiver.url("/in")),
            (Kind::Maildir, _) => "{ maildir: ~/Mail, shared: true }".to_owned(),
            (Kind::Lmtp, _) => smtp(self.servers[0].port(), "").replace("smtp:", "lmtp:"),
            (Kind::Smtp, _) => smtp(self.servers[1].port(), ""),
            (Kind::Imap, Some(Mailbox { port, user, .. })) => format!(
                "{{ imap: {{ host: 127.0.0.1, port: {port}, tls: none, user: {user}, password: '{PASSWORD}' }} }}"
            ),
            (Kind::Imap, None) => panic!("there is no mailbox"),
        }
    }

    pub fn worker(&self) -> Daemon {
        self.worker_by("config/postrider/config.yaml", SILENCE)
    }

    /// Starts one by this configuration, which takes others for dead that are silent for so long.
    pub fn worker_by(&self, config: &str, silence: &str) -> Daemon {
        let path = self.home.path(config);
        let arguments = ["--config", path.to_str().unwrap(), "-v", "daemon"];
        Daemon::start_with(&self.home, &arguments, &[("POSTRIDER_FLEET_SILENCE", silence)])
    }

    /// Puts a message into a maildrop.
    pub fn put(&mut self, maildrop: usize) {
        let number = self.put.len();
        let octets = format!(
            "Message-ID: <{number}@a>\r\nDate: b\r\nSubject: {number}\r\n\r\n{}",
            format!("line of {number}\r\n").repeat(50)
        )
        .into_bytes();
        let put = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        self.provider.put(&format!("u{maildrop}"), &format!("uid-{number}"), octets.clone());
        self.put.insert(number, Message { maildrop, octets, put });
    }

    /// Waits until all has been fetched and deleted.
    pub fn settles(&self, limit: Duration, logs: impl Fn() -> String) {
        let is_empty = || self.provider.messages() == 0;
        assert!(wait_until(limit, is_empty), "{} are left\n{}", self.provider.messages(), logs());
    }

    /// Waits until each maildrop is polled again: no claim of one is lost for good.
    pub fn polls_all_again(&self, logs: impl Fn() -> String) {
        let before = self.provider.polls_of_each();
        let again = || self.provider.polls_of_each().iter().all(|(user, polls)| *polls > before[user]);
        assert!(wait_until(SOON, again), "not all are polled\n{}", logs());
    }

    /// Says that nobody logged in to a maildrop where somebody was.
    pub fn had_one_session_each(&self) {
        assert_eq!(self.provider.polls().1, 0, "a maildrop had two sessions at once");
    }

    /// Gives what came into the targets of a kind.
    pub fn came(&self, kind: Kind) -> Vec<Vec<u8>> {
        let arrived =
            |server: &MailServer| server.arrived().into_iter().map(|message| message.octets).collect();
        match kind {
            Kind::Http => self.receiver.asked().into_iter().map(|asked| asked.body).collect(),
            Kind::Maildir => {
                let with_crlf = |text: Vec<u8>| String::from_utf8(text).unwrap().replace('\n', "\r\n").into();
                self.home.maildir("Mail").into_iter().map(with_crlf).collect()
            }
            Kind::Imap => {
                let mailbox = self.mailbox.as_ref().unwrap();
                mailbox.dovecot.messages(&mailbox.user).into_iter().map(|(_, octets)| octets).collect()
            }
            Kind::Lmtp => arrived(&self.servers[0]),
            Kind::Smtp => arrived(&self.servers[1]),
        }
    }

    /// Counts how often each message was recorded as delivered, by its number.
    pub fn recorded(&self) -> BTreeMap<usize, usize> {
        let rows =
            ask(&self.url, "SELECT convert_from(uid, 'UTF8'), count(*) FROM test_recorded GROUP BY uid");
        rows.lines()
            .map(|row| row.split_once('|').unwrap())
            .map(|(uid, count)| (number_of(uid), count.parse().unwrap()))
            .collect()
    }

    /// Counts how often a message may have been on its way when its lease was lost or its session failed, before it was
    /// recorded.
    fn excused(&self) -> BTreeMap<usize, usize> {
        let sql = "SELECT convert_from(uid, 'UTF8'), extract(epoch FROM ended.at)
                   FROM (SELECT maildrop, uid, min(at) AS at FROM test_recorded GROUP BY maildrop, uid) AS recorded
                   JOIN test_ended AS ended ON ended.maildrop = recorded.maildrop AND ended.at <= recorded.at";
        let mut excused = BTreeMap::new();
        let rows = if self.is_watched { ask(&self.url, sql) } else { String::new() };
        for (uid, at) in rows.lines().map(|row| row.split_once('|').unwrap()) {
            let number = number_of(uid);
            if self.put[&number].put <= at.parse::<f64>().unwrap() {
                *excused.entry(number).or_default() += 1;
            }
        }
        excused
    }

    /// Says that each message came unchanged, once: into a mail server, and to the receiver under its one key, once more at most
    /// for each time that it was on its way when its lease was lost. Nothing was deleted that was not recorded. Gives
    /// how many came once more.
    pub fn has_each_once(&self) -> usize {
        let (excused, mut repeated) = (self.excused(), 0);
        for kind in ALL.into_iter().filter(|kind| self.kinds.contains(kind)) {
            let mut times: BTreeMap<usize, usize> = BTreeMap::new();
            for octets in self.came(kind) {
                let text = String::from_utf8_lossy(&octets);
                let number = number_of(text.lines().find(|line| line.starts_with("Subject: ")).unwrap());
                assert!(
                    octets.ends_with(&self.put[&number].octets),
                    "{kind:?}: {number} was changed: {text}"
                );
                *times.entry(number).or_default() += 1;
            }
            let own = self.put.iter().filter(|(_, message)| self.kind(message.maildrop) == kind);
            let own: Vec<usize> = own.map(|(number, _)| *number).collect();
            assert_eq!(times.keys().copied().collect::<Vec<_>>(), own, "{kind:?}: one is lost");
            for (number, times) in times {
                let more = match kind {
                    Kind::Maildir | Kind::Imap => 0,
                    Kind::Http if !self.is_watched => usize::MAX - 1,
                    Kind::Http | Kind::Lmtp | Kind::Smtp => excused.get(&number).copied().unwrap_or(0),
                };
                assert!(times <= 1 + more, "{kind:?}: {number} came {times} times, {more} are excused");
                repeated += times - 1;
            }
        }
        self.has_a_key_for_each();
        let (deletions, unrecorded) = self.provider.deletions();
        assert!(unrecorded.is_empty(), "deleted, and not recorded: {unrecorded:?}");
        assert!(!self.is_watched || deletions >= self.put.len(), "{deletions} of {}", self.put.len());
        repeated
    }

    fn has_a_key_for_each(&self) {
        let (mut keys, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for asked in self.receiver.asked() {
            let key = asked.field("idempotency-key").to_owned();
            let text = String::from_utf8_lossy(&asked.body);
            let number = number_of(text.lines().find(|line| line.starts_with("Subject: ")).unwrap());
            assert_eq!(*keys.entry(key.clone()).or_insert(number), number, "two messages have one key");
            assert_eq!(*numbers.entry(number).or_insert(key.clone()), key, "{number} has two keys");
        }
    }
}

/// The number at the end of a word or line.
fn number_of(text: &str) -> usize {
    text.trim_end().rsplit([' ', '-']).next().unwrap().parse().unwrap()
}

pub fn log_of(workers: &[Option<Daemon>]) -> String {
    workers.iter().flatten().map(|worker| worker.log()).collect::<Vec<_>>().join("\n--\n")
}
