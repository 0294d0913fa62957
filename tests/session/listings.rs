//! Listings as servers really send them: names that are odd, doubled, missing or all new.

use std::time::Duration;

use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::poller::Poller;
use crate::support::scripted::{Script, ScriptedServer};
use postrider::testing::pop3::UniqueId;
use postrider::testing::state::{Closing, Delivery, Kind};

const PLAIN: &str = "tls: none\nauth: [user-pass]\ntimeout: 5s";

/// A log-in on a server without CAPA, unknown so far.
const AT_FIRST: &str = "S: +OK\nC: CAPA\nS: -ERR\n";
const LATER: &str = "S: +OK\n";
const CREDENTIALS: &str = "C: USER alice\nS: +OK\nC: PASS correct horse\nS: +OK\n";

/// A session that shows these lines for UIDL and LIST, and is asked for these messages only: number and text.
fn session(start: &str, uidl: &[&str], list: &[&str], retrieved: &[(u32, &str)]) -> String {
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("S: {line}\n")).collect::<String>();
    let mut text = format!(
        "{start}{CREDENTIALS}C: UIDL\nS: +OK\n{}S: .\nC: LIST\nS: +OK\n{}S: .\n",
        lines(uidl),
        lines(list)
    );
    for (number, body) in retrieved {
        text += &format!("C: RETR {number}\nS: +OK\nS: A: {body}\nS:\nS: .\n");
    }
    if !retrieved.is_empty() {
        // Sizes that are unknown or wrong leave the end of the last message to be confirmed.
        text += "C: NOOP\nS: +OK\n";
    }
    text + "C: QUIT\n"
}

fn play(sessions: &[String]) -> Vec<Vec<u8>> {
    let scripts = sessions.iter().enumerate().map(|(i, text)| Script::parse(&format!("session {i}"), text));
    let server = ScriptedServer::start(scripts);
    let poller = Poller::new(server.port(), PLAIN);
    sessions.iter().for_each(|_| drop(poller.must()));
    server.finish();
    // No two messages of a listing share a record, nor is a name cut short.
    let seen = poller.seen();
    assert_ne!(seen.iter().filter(|uid| *uid == "twice").count(), 1, "{seen:?}");
    assert!(seen.iter().all(|uid| !uid.starts_with('u') || uid.len() >= 500), "{seen:?}");
    poller.maildir()
}

fn delivered(bodies: &[&str]) -> Vec<Vec<u8>> {
    bodies.iter().map(|body| format!("A: {body}\n\n").into_bytes()).collect()
}

fn mail(i: usize) -> Vec<u8> {
    let header = format!("Message-ID: <{i}@example.org>\r\nDate: today\r\nSubject: number {i}\r\n");
    format!("{header}\r\nbody of {i}\r\n").into_bytes()
}

fn honest(settings: Settings) -> (Maildrop, Poller) {
    let server = Maildrop::start(Settings { tls: Protection::None, ..settings });
    let poller = Poller::new(server.port(), PLAIN);
    (server, poller)
}

fn retrieved(server: &Maildrop) -> usize {
    server.count(|what| matches!(what, What::Sent(_)))
}

#[test]
fn odd_unique_ids_name_each_message_once_and_for_good() {
    let long = "u".repeat(500);
    let uidl = [
        &format!("1 {long}"),
        &format!("2 {long}x"),
        "3 \\xe4\\xff\\x01",
        "4 with a blank",
        "5  \\t  many blanks",
        "6\\ttab",
        "7 slash/..",
        "8 slash-..",
        "9 twice",
        "10 twice",
        "11 twice",
    ];
    let uidl: Vec<&str> = uidl.iter().map(|line| &**line).collect();
    let list: Vec<String> = (1..=11).map(|n| format!("{n} 100")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let names = ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"];
    let fetched: Vec<(u32, &str)> = (1..).zip(names).collect();
    let first = session(AT_FIRST, &uidl, &list, &fetched);
    // Those that share one go by their place: the last of them is looked at.
    let asked = "C: TOP 11 0\nS: +OK\nS: A: 11\nS:\nS: .\nC: QUIT\n";
    let again = session(LATER, &uidl, &list, &[]).replace("C: QUIT\n", asked);
    assert_eq!(play(&[first, again]), delivered(&names));
}

#[test]
fn one_octet_more_or_less_is_another_unique_id() {
    let first = session(AT_FIRST, &["1 a\\xff", "2 B"], &["1 9", "2 9"], &[(1, "1"), (2, "2")]);
    let uidl = ["1 a\\xff", "2 B", "3 a\\xfe", "4 b", "5 a"];
    let list = ["1 9", "2 9", "3 9", "4 9", "5 9"];
    let later = session(LATER, &uidl, &list, &[(3, "3"), (4, "4"), (5, "5")]);
    assert_eq!(play(&[first, later]), delivered(&["1", "2", "3", "4", "5"]));
}

#[test]
fn garbage_holes_and_negative_sizes_hide_no_message() {
    let uidl = ["garbage", "2 b", "", "0 zero", "-3 minus", "7 g", "99999999999 far", "x 8"];
    let list = ["2 %!d(float64=5461)", "7 -1972428639", "nonsense", ""];
    let first = session(AT_FIRST, &uidl, &list, &[(2, "2"), (7, "7")]);
    let again = session(LATER, &["3 b", "5 g"], &["3 8", "5 9"], &[]);
    assert_eq!(play(&[first, again]), delivered(&["2", "7"]));
}

#[test]
fn messages_with_an_empty_unique_id_go_by_their_place_and_keep_no_other_away() {
    let lines = |start: &str, rest: &str| {
        format!(
            "{start}{CREDENTIALS}C: UIDL\nS: +OK\nS: 1 a\nS: 2 \nS: 3\nS: .\nC: LIST\nS: +OK\nS: 1 8\nS: 2 8\nS: 3 8\nS: .\n{rest}C: QUIT\n"
        )
    };
    let top = |n: u32| format!("C: TOP {n} 0\nS: +OK\nS: A: {n}\nS:\nS: .\n");
    let retrieved = |n: u32| format!("C: RETR {n}\nS: +OK\nS: A: {n}\nS:\nS: .\n");
    // What needs no question comes first. One header shows that they can be told apart at all.
    let first = [retrieved(1), top(2), retrieved(2), retrieved(3)].concat();
    let sessions = [lines(AT_FIRST, &first), lines(LATER, &top(3)), lines(LATER, &top(3))];
    assert_eq!(play(&sessions), delivered(&["1", "2", "3"]));
}

#[test]
fn a_listing_that_is_short_or_empty_for_once_repeats_nothing_afterwards() {
    let (server, poller) = honest(Settings::default());
    let all: Vec<_> = (0..3).map(|i| (format!("uid-{i}"), mail(i))).collect();
    for shown in [&all[..], &[], &all[1..2], &all, &all] {
        all.iter().for_each(|(uid, _)| server.remove(uid));
        shown.iter().for_each(|(uid, octets)| server.put(uid, octets.clone()));
        poller.must();
    }
    assert_eq!((retrieved(&server), poller.maildir().len()), (3, 3));
    // And a listing in which only one of the two is short.
    let all = (["1 a", "2 b", "3 c"], ["1 9", "2 9", "3 9"]);
    let fetched = [(1, "1"), (2, "2"), (3, "3")];
    let sessions = [
        session(AT_FIRST, &all.0, &all.1, &fetched),
        session(LATER, &all.0, &["1 9"], &[]),
        session(LATER, &all.0[..2], &all.1, &[]),
        session(LATER, &all.0, &all.1, &[]),
    ];
    assert_eq!(play(&sessions), delivered(&["1", "2", "3"]));
}

#[test]
fn a_unique_id_used_again_with_another_size_is_another_message() {
    let text = |n: u32, body: &str| format!("C: RETR {n}\nS: +OK\nS: A: {body}\nS:\nS: .\n");
    let lines = |start: &str, octets: u32, rest: &str| {
        format!(
            "{start}{CREDENTIALS}C: UIDL\nS: +OK\nS: 1 a\nS: .\nC: LIST\nS: +OK\nS: 1 {octets}\nS: .\n{rest}C: QUIT\n"
        )
    };
    let sessions = [lines(AT_FIRST, 8, &text(1, "1")), lines(LATER, 9, &text(1, "22")), lines(LATER, 9, "")];
    assert_eq!(play(&sessions), delivered(&["1", "22"]));
}

#[test]
fn a_server_that_refuses_uidl_is_served_by_fingerprints_and_one_that_hides_it_by_unique_ids() {
    let refusing = Settings { unknown: vec!["UIDL".into()], ..Settings::default().without("UIDL") };
    let (server, poller) = honest(refusing);
    (0..4).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    poller.must();
    poller.must();
    assert_eq!((retrieved(&server), poller.maildir().len()), (4, 4));
    assert!(poller.seen().iter().all(|uid| uid.starts_with("header:")), "{:?}", poller.seen());

    let (server, poller) = honest(Settings::default().without("UIDL"));
    (0..4).for_each(|i| server.put(&format!("uid-{i}"), mail(i)));
    poller.must();
    poller.must();
    assert_eq!((retrieved(&server), poller.seen()), (4, (0..4).map(|i| format!("uid-{i}")).collect()));
    assert_eq!(server.count(|what| matches!(what, What::Command(line) if line.starts_with("TOP"))), 0);
}

/// Records messages as delivered a while ago, under the names of a server that is no more.
fn record(poller: &Poller, messages: &[(String, Vec<u8>)]) {
    let store = &poller.environment.store;
    poller.block_on(async {
        let memory = store.begin(poller.account.maildrop_id.as_str().into()).await.unwrap();
        let deliveries = messages.iter().map(|(uid, octets)| {
            let size = octets.len() as u64;
            let new = Delivery::new(UniqueId::new(uid.as_bytes()), 0, size, Kind::Delivered);
            let fingerprint = Some(octets.as_slice().into());
            Delivery { fingerprint, delivered_at: Some(1_700_000_000), ..new }
        });
        store.record(&memory.key, 1_700_000_000, deliveries.collect()).await.unwrap();
        let closing = Closing { at: 1_700_000_000, listed_at: Some(1_700_000_000), ..Closing::default() };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
    });
}

#[test]
fn ten_thousand_renumbered_messages_cost_one_pipelined_top_each_and_another_header_is_seen() {
    const MESSAGES: usize = 10_000;
    let (server, poller) = honest(Settings::default());
    let old: Vec<_> = (0..MESSAGES).map(|i| (format!("old-{i:05}"), mail(i))).collect();
    record(&poller, &old);
    for (i, (_, octets)) in old.iter().enumerate() {
        let mut octets = octets.clone();
        if i == 4321 {
            octets = String::from_utf8(octets).unwrap().replacen("today", "todax", 1).into_bytes();
        }
        server.put(&format!("new-{i:05}"), octets);
    }
    let commands =
        |word: &str| server.count(|what| matches!(what, What::Command(line) if line.starts_with(word)));
    // A turn asks 2,000 at most; what is unasked is left alone.
    for turn in 1..=MESSAGES / 2000 {
        let report = poller.must();
        assert_eq!(commands("TOP"), turn * 2000);
        assert!(report.took < Duration::from_secs(60), "{:?}", report.took);
    }
    assert_eq!(commands("RETR"), 1);
    let changed = String::from_utf8(mail(4321)).unwrap().replacen("today", "todax", 1).replace("\r\n", "\n");
    assert_eq!(poller.maildir(), [changed.into_bytes()]);
    let all = server.count(|what| matches!(what, What::Command(_)));
    let waited = all - server.count(|what| *what == What::Pipelined);
    assert!(waited < 1000, "{waited} of {all} commands waited for the answer before");
    // From now on they are known.
    let report = poller.must();
    assert_eq!((report.new, report.delivered, commands("TOP")), (0, 0, MESSAGES));
}

#[test]
fn messages_that_share_a_header_are_not_taken_for_the_one_that_was_delivered() {
    let (server, poller) = honest(Settings::default());
    let mut old: Vec<_> = (0..20).map(|i| (format!("old-{i}"), mail(i))).collect();
    old.push(("old-report".into(), b"Subject: report\r\n\r\nof Monday\r\n".to_vec()));
    record(&poller, &old);
    (0..20).for_each(|i| server.put(&format!("new-{i}"), mail(i)));
    server.put("new-report", b"Subject: report\r\n\r\nof Monday\r\n".to_vec());
    server.put("next-report", b"Subject: report\r\n\r\nof Tuesday\r\n".to_vec());
    poller.must();
    let delivered = poller.maildir();
    assert!(delivered.iter().any(|message| message.ends_with(b"of Tuesday\n")), "{delivered:?}");
    assert!(delivered.len() <= 2);
}

#[test]
fn renumbered_messages_whose_headers_are_refused_are_fetched_and_compared() {
    let (server, poller) = honest(Settings { unknown: vec!["TOP".into()], ..Settings::default() });
    let old: Vec<_> = (0..12).map(|i| (format!("old-{i}"), mail(i))).collect();
    record(&poller, &old);
    (0..12).for_each(|i| server.put(&format!("new-{i}"), mail(i)));
    assert_eq!((poller.must().delivered, retrieved(&server)), (0, 12));
    poller.must();
    assert_eq!(retrieved(&server), 12, "they are known by their new names");
}
