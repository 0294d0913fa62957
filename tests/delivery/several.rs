//! Several targets: each message goes to all of them, and whatever is wrong with one is not the others' trouble.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider::testing::config::{Config, Keep, Target};
use postrider::testing::failure::Class;
use postrider::testing::session::{Environment, WallClock};

use crate::support::imap_server::{Habits, ImapServer};
use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::poller::Poller;

/// A maildrop that is emptied, and an account with these targets.
struct Ways {
    maildrop: Maildrop,
    server: ImapServer,
    poller: Poller,
    directory: tempfile::TempDir,
}

impl Ways {
    /// `deliver`: YAML, in which IMAP stands for the server's target and DIR for a directory.
    fn new(deliver: &str) -> Self {
        let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
        let server = ImapServer::start(Habits::default());
        let poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
        let directory = tempfile::tempdir().unwrap();
        let mut ways = Self { maildrop, server, poller, directory };
        ways.deliver_to(deliver);
        ways
    }

    fn deliver_to(&mut self, deliver: &str) {
        let imap = self.server.target("");
        let imap = imap.strip_prefix("{ ").and_then(|imap| imap.strip_suffix(" }")).unwrap();
        let deliver = deliver.replace("IMAP", imap).replace("DIR", &self.directory.path().to_string_lossy());
        let yaml = format!("accounts: {{ a: {{ host: h, user: u, deliver: {deliver} }} }}\nstate: /s");
        let account = Config::from_yaml(&yaml, Path::new("f")).unwrap().accounts.remove(0);
        (self.poller.account.deliver, self.poller.account.refused) = (account.deliver, account.refused);
        self.poller.account.received = account.received;
    }

    fn put(&self, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| self.maildrop.put(&number.to_string(), message(number)));
    }

    /// Gives the messages in a maildir, sorted, with CRLF.
    fn maildir(&self, name: &str) -> Vec<String> {
        let folders = ["new", "cur"].map(|folder| self.directory.path().join(name).join(folder));
        let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let read = |path: PathBuf| fs::read_to_string(path).unwrap().replace('\n', "\r\n");
        let mut messages: Vec<String> = files.map(|file| read(file.unwrap().path())).collect();
        messages.sort();
        messages
    }

    fn inbox(&self) -> Vec<String> {
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        let mut messages: Vec<String> = self.server.inbox().into_iter().map(text).collect();
        messages.sort();
        messages
    }

    fn a_day_passes(&mut self) {
        let clock = &mut self.poller.environment.clock;
        *clock = WallClock::Set(Arc::new((clock.now() + 25 * 3600).into()));
    }

    /// Gives why each message is held.
    fn held(&self) -> Vec<String> {
        let status = self.poller.block_on(self.poller.environment.store.status()).unwrap();
        status.into_iter().flat_map(|status| status.held).map(|held| held.reason).collect()
    }
}

fn message(number: usize) -> String {
    format!(
        "Message-ID: <{number}@a>\r\nDate: Sat, 29 Nov 2025 11:00:00 +0000\r\nSubject: {number}\r\n\r\nof {number}\r\n"
    )
}

fn messages(numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut messages: Vec<String> = numbers.map(message).collect();
    messages.sort();
    messages
}

const BOTH: &str = "[{ maildir: DIR/one }, { IMAP }]";

#[test]
fn each_message_goes_to_all_targets_and_is_deleted_once_all_have_it() {
    let ways =
        Ways::new("[{ maildir: DIR/one }, { IMAP }, { maildir: DIR/two, name: copy }, { mbox: DIR/box }]");
    ways.put(0..200);
    let large = format!("Message-ID: <large@a>\r\n\r\n{}", "x\r\n".repeat(200_000));
    ways.maildrop.put("large", large.clone());
    let report = ways.poller.must();
    assert_eq!((report.delivered, report.deleted, report.held), (201, 201, 0), "{report:?}");
    let mut expected = messages(0..200);
    expected.push(large);
    expected.sort();
    assert_eq!(ways.maildir("one"), expected);
    assert_eq!(ways.maildir("two"), expected);
    assert_eq!(ways.inbox(), expected);
    let mbox = fs::read_to_string(ways.directory.path().join("box")).unwrap();
    assert_eq!(mbox.matches("\nMessage-ID: ").count(), 201);
    assert_eq!(ways.server.connections(), 1);
    assert_eq!(ways.held(), Vec::<String>::new());
}

#[test]
fn a_target_that_is_down_for_a_week_keeps_nothing_from_the_others_and_gets_all_of_it_then() {
    let mut ways = Ways::new(BOTH);
    ways.server.change(|habits| habits.greeting = Some("* BYE down"));
    for day in 0..7 {
        ways.put(day * 30..(day + 1) * 30);
        let before = ways.server.connections();
        let report = ways.poller.poll();
        assert_eq!(report.delivered, 30, "{report:?}");
        assert_eq!((report.held, report.deleted), ((day + 1) * 30, 0), "{report:?}");
        assert!(report.serves_others && report.exit_status() == 75);
        let failure = report.failure.unwrap();
        assert_eq!(failure.class, Class::Target);
        assert!(failure.host.starts_with("imap:bob@127.0.0.1"), "{failure}");
        assert!(ways.server.connections() - before <= 3, "each poll tries it, and not each message");
        assert_eq!(ways.maildir("one"), messages(0..(day + 1) * 30));
        ways.a_day_passes();
    }
    let held = ways.held();
    assert_eq!(held.len(), 210);
    assert!(
        held[0].starts_with("in maildir:") && held[0].contains("; not in imap:bob@127.0.0.1"),
        "{held:?}"
    );
    ways.server.change(|habits| habits.greeting = None);
    ways.put(210..211);
    let report = ways.poller.must();
    assert_eq!((report.delivered, report.deleted, report.held), (211, 211, 0), "{report:?}");
    assert_eq!((ways.maildir("one"), ways.inbox()), (messages(0..211), messages(0..211)));
}

#[test]
fn a_target_that_does_not_answer_costs_a_poll_one_time_limit_and_the_others_nothing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = format!(
        "[{{ imap: {{ host: 127.0.0.1, port: {port}, tls: none, user: b, password: p, timeout: 2s }} }}, {{ maildir: DIR/one }}]"
    );
    let ways = Ways::new(&silent);
    ways.put(0..200);
    let directory = ways.directory.path().to_owned();
    let arrived = std::thread::spawn(move || {
        let began = Instant::now();
        let all = || fs::read_dir(directory.join("one/new")).is_ok_and(|files| files.count() == 200);
        while !all() && began.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        Instant::now()
    });
    let report = ways.poller.poll();
    let ended = Instant::now();
    assert_eq!((report.delivered, report.held), (200, 200), "{report:?}");
    assert!(arrived.join().unwrap() < ended, "the others waited");
    assert!(report.took < Duration::from_secs(15), "{report:?}");
    // Nothing is fetched for it alone while it is away.
    let again = ways.poller.poll();
    assert_eq!(
        (again.delivered, again.held, ways.maildrop.count(|what| matches!(what, What::Sent(_)))),
        (0, 200, 200),
        "{again:?}"
    );
}

#[test]
fn a_target_that_is_slower_holds_the_others_up_for_five_seconds_and_gets_the_rest_later() {
    let mut ways = Ways::new("[{ maildir: DIR/one }, { pipe: 'cat >> DIR/slow && sleep 0.1' }]");
    let all = 300;
    ways.put(0..all);
    let report = ways.poller.poll();
    assert_eq!((report.delivered, ways.maildir("one")), (all, messages(0..all)), "{report:?}");
    let held = ways.held();
    assert!(
        !held.is_empty() && held.iter().all(|why| why.contains("it is slower than the others")),
        "{held:?}"
    );
    for _ in 0..5 {
        ways.a_day_passes();
        ways.poller.poll();
    }
    assert_eq!(ways.maildrop.uids(), Vec::<String>::new());
    let slow = fs::read_to_string(ways.directory.path().join("slow")).unwrap();
    (0..all).for_each(|number| {
        assert_eq!(slow.matches(&format!("Message-ID: <{number}@a>")).count(), 1, "{number}");
    });
    assert_eq!(ways.maildir("one").len(), all);
}

#[test]
fn a_target_that_does_not_open_is_given_up_after_twenty_seconds_whatever_its_time_limit() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = format!(
        "[{{ imap: {{ host: 127.0.0.1, port: {port}, tls: none, user: b, password: p, timeout: 10m }} }}, {{ maildir: DIR/one }}]"
    );
    let ways = Ways::new(&silent);
    ways.put(0..3);
    let report = ways.poller.poll();
    assert_eq!((report.delivered, ways.maildir("one").len()), (3, 3), "{report:?}");
    assert!(report.took >= Duration::from_secs(19) && report.took < Duration::from_secs(120), "{report:?}");
    assert!(report.failure.unwrap().to_string().contains("the target does not open"));
}

#[test]
fn refused_credentials_of_one_target_are_told_as_such_and_hold_the_mail_for_it_alone() {
    let ways = Ways::new(BOTH);
    ways.server.change(|habits| habits.log_in = Some("NO [AUTHENTICATIONFAILED] no"));
    ways.put(0..3);
    let report = ways.poller.poll();
    assert_eq!((report.delivered, report.exit_status(), report.deleted), (3, 77, 0), "{report:?}");
    let before = ways.server.count("AUTHENTICATE") + ways.server.count("LOGIN");
    assert_eq!(ways.poller.poll().exit_status(), 77);
    assert_eq!(ways.server.count("AUTHENTICATE") + ways.server.count("LOGIN"), before, "it was tried again");
}

#[test]
fn what_one_target_refuses_is_held_with_who_has_it_or_goes_to_the_target_for_that() {
    let mut ways = Ways::new(BOTH);
    ways.server.change(|habits| habits.append_of = Some(("of 1", "NO [CANNOT] never")));
    ways.put(0..3);
    let report = ways.poller.poll();
    assert_eq!(
        (report.delivered, report.held, report.deleted, report.exit_status()),
        (3, 1, 2, 75),
        "{report:?}"
    );
    let held = ways.held();
    assert!(held[0].starts_with("in maildir:") && held[0].contains("[CANNOT] never"), "{held:?}");
    ways.a_day_passes();
    ways.deliver_to("[{ maildir: DIR/one }, { IMAP }], refused: { maildir: DIR/refused }");
    ways.put(3..4);
    let report = ways.poller.must();
    assert_eq!((report.delivered, report.held, report.deleted), (2, 0, 2), "{report:?}");
    assert_eq!((ways.maildir("one"), ways.maildir("refused")), (messages(0..4), messages(1..2)));
    assert_eq!(ways.inbox().len(), 3);
}

#[test]
fn what_the_only_target_refuses_goes_to_the_target_for_that() {
    let ways = Ways::new("{ IMAP }, refused: { mbox: DIR/refused }");
    ways.server.change(|habits| habits.append_of = Some(("of 1", "NO [CANNOT] never")));
    ways.put(0..3);
    let report = ways.poller.must();
    assert_eq!((report.delivered, report.held, report.deleted), (3, 0, 3), "{report:?}");
    assert_eq!(ways.inbox(), [message(0), message(2)]);
    let refused = fs::read_to_string(ways.directory.path().join("refused")).unwrap();
    assert_eq!(refused.matches("of 1").count(), 1, "{refused}");
}

#[test]
fn a_target_is_known_by_its_name_else_by_kind_and_place_and_order_means_nothing() {
    let refuse = |ways: &Ways| {
        ways.server.change(|habits| habits.greeting = Some("* BYE down"));
        ways.put(0..1);
        assert_eq!(ways.poller.poll().held, 1);
        ways.server.change(|habits| habits.greeting = None);
    };
    for (before, after, one, two) in [
        // Reordered.
        ("[{ maildir: DIR/one }, { IMAP }]", "[{ IMAP }, { maildir: DIR/one }]", 1, 0),
        // Moved: another place is another target, unless it keeps its name.
        ("[{ maildir: DIR/one }, { IMAP }]", "[{ maildir: DIR/two }, { IMAP }]", 1, 1),
        (
            "[{ maildir: DIR/one, name: here }, { IMAP }]",
            "[{ name: here, maildir: DIR/two }, { IMAP }]",
            1,
            0,
        ),
        // Renamed.
        ("[{ maildir: DIR/one, name: a }, { IMAP }]", "[{ maildir: DIR/two, name: b }, { IMAP }]", 1, 1),
        // Another one comes.
        ("[{ maildir: DIR/one }, { IMAP }]", "[{ maildir: DIR/one }, { maildir: DIR/two }, { IMAP }]", 1, 1),
    ] {
        let mut ways = Ways::new(before);
        refuse(&ways);
        ways.deliver_to(after);
        let report = ways.poller.must();
        assert_eq!((report.held, report.deleted), (0, 1), "{before} {after}");
        assert_eq!((ways.maildir("one").len(), ways.maildir("two").len()), (one, two), "{before} {after}");
        assert_eq!(ways.inbox().len(), 1, "{before} {after}");
    }
    // One that is taken off is waited for no more.
    let mut ways = Ways::new(BOTH);
    refuse(&ways);
    ways.deliver_to("{ maildir: DIR/one }");
    let report = ways.poller.must();
    assert_eq!((report.held, report.deleted, ways.maildir("one").len()), (0, 1, 1));
    assert_eq!(ways.inbox(), Vec::<String>::new());
}

#[test]
fn whoever_has_a_message_has_that_one_and_no_other_of_its_unique_id() {
    let ways = Ways::new(BOTH);
    ways.server.change(|habits| habits.greeting = Some("* BYE down"));
    ways.put(0..1);
    ways.poller.poll();
    ways.maildrop.remove("0");
    ways.maildrop.put("0", message(7));
    ways.server.change(|habits| habits.greeting = None);
    ways.poller.must();
    assert_eq!((ways.maildir("one"), ways.inbox()), (vec![message(0), message(7)], vec![message(7)]));
}

#[test]
fn a_message_that_has_another_unique_id_meanwhile_is_the_one_that_some_have() {
    let ways = Ways::new(BOTH);
    ways.server.change(|habits| habits.greeting = Some("* BYE down"));
    ways.put(0..1);
    ways.poller.poll();
    ways.maildrop.remove("0");
    ways.maildrop.put("renumbered", message(0));
    ways.server.change(|habits| habits.greeting = None);
    ways.poller.must();
    assert_eq!((ways.maildir("one"), ways.inbox()), (messages(0..1), messages(0..1)));
}

#[test]
fn of_equal_messages_each_arrives_in_each_target() {
    let mut ways = Ways::new("[{ maildir: DIR/one }, { maildir: DIR/two }, { IMAP }]");
    ways.poller.account.keep = Keep::Forever;
    ["a", "b"].iter().for_each(|uid| ways.maildrop.put(uid, message(0)));
    ways.poller.must();
    let counts = || ["one", "two"].map(|name| ways.maildir(name).len());
    assert_eq!((counts(), ways.inbox().len()), ([2, 2], 2));
    ways.maildrop.put("c", message(0));
    ways.poller.must();
    assert_eq!((counts(), ways.inbox().len()), ([3, 3], 3));
}

#[test]
fn a_state_that_was_lost_repeats_nothing_where_the_target_can_be_asked() {
    let mut ways = Ways::new("[{ maildir: DIR/one }, { maildir: DIR/two }, { IMAP }]");
    ways.poller.account.keep = Keep::Forever;
    ways.put(0..50);
    ways.poller.must();
    // As another process that knows nothing of it.
    let other = ways.directory.path().join("other.db");
    ways.poller.environment = Environment::new(other);
    let report = ways.poller.must();
    assert_eq!((report.delivered, report.already_there), (0, 50), "{report:?}");
    assert_eq!(
        (ways.maildir("one"), ways.maildir("two"), ways.inbox()),
        (messages(0..50), messages(0..50), messages(0..50))
    );
    // None of them is taken for one that comes later.
    ways.maildrop.put("twin", message(0));
    ways.poller.must();
    assert_eq!(["one", "two"].map(|name| ways.maildir(name).len()), [51, 51]);
    assert_eq!(ways.inbox().len(), 51);
}

#[test]
fn targets_of_every_kind_may_be_down_beside_one_that_is_not() {
    let ways = |down: &str| Ways::new(&format!("[{{ maildir: DIR/one }}, {down}]"));
    for down in [
        "{ maildir: /proc/nothing/here }",
        "{ mbox: /proc/nothing/here }",
        "{ pipe: 'exit 75' }",
        "{ smtp: { port: 1, to: [a@b] } }",
        "{ lmtp: { socket: /nonexistent/lmtp, to: [a] } }",
        "{ imap: { host: 127.0.0.1, port: 1, tls: none, user: u, password: p } }",
        "{ imap: { host: 127.0.0.1, tls: none, user: u, password: { file: /nonexistent } } }",
    ] {
        let ways = ways(down);
        ways.put(0..30);
        let report = ways.poller.poll();
        assert_eq!((report.delivered, report.deleted), (30, 0), "{down}: {report:?}");
        assert!(report.held > 0 && report.exit_status() != 0, "{down}: {report:?}");
        assert_eq!(ways.maildir("one"), messages(0..30), "{down}");
        ways.put(30..35);
        ways.poller.poll();
        assert_eq!(ways.maildir("one"), messages(0..35), "{down}");
    }
}

#[test]
fn mail_servers_get_a_received_line_and_files_beside_them_none() {
    let account = Ways::new("[{ maildir: DIR/one }, { smtp: { port: 1, to: [a@b] } }]").poller.account;
    let traced: Vec<bool> = account.deliver.iter().map(|to| account.traces(&to.target)).collect();
    assert_eq!(traced, [false, true]);
    assert!(matches!(account.deliver[0].target, Target::Maildir(_)));
}
