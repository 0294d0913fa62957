use std::time::Duration;

use super::ago::{Age, age, time};
use super::*;
use crate::config::account::Interval;
use crate::message::UniqueId;
use crate::state::{Held, HeldKind, Maildrop, PollResult, Status};

const NOW: Timestamp = 1_763_900_180;

/// A maildrop as the store has it, polled three minutes ago.
fn known(maildrop: &str, failure: Option<(&str, &str)>) -> Status {
    let last = PollResult {
        account: "old-name".into(),
        host: "pop.example.org:995".into(),
        failure: failure.map(|(class, text)| (class.into(), text.into())),
        messages: 2,
        octets: 4096,
        listed: Some(120),
        backlog: 3,
        target: None,
    };
    let maildrop = Maildrop {
        identity: maildrop.into(),
        last: Some((NOW - 180, last)),
        last_success: Some(1_763_800_000),
        failures: u32::from(failure.is_some()) * 3,
        ..Maildrop::default()
    };
    Status { maildrop, seen: 118, held: Vec::new() }
}

fn account(name: &str) -> Account {
    let interval = Interval::Every(Duration::from_secs(300));
    Account { maildrop_id: format!("{name}@pop.example.org"), interval, ..Account::new(name) }
}

fn row(name: &str, failure: Option<(&str, &str)>) -> Row {
    let account = account(name);
    let known = known(&account.maildrop_id, failure);
    Row { polling: Some(false), next_poll: Some(NOW + 240), ..Row::of(Some(&account), Some(known)) }
}

pub(crate) fn fine(name: &str) -> Row {
    row(name, None)
}

pub(crate) fn failing(name: &str) -> Row {
    let text = format!("{name}: pop.example.org:995: log in: refused\n  server: \x1b[31mno");
    row(name, Some(("credentials", &text)))
}

pub(crate) fn snapshot(rows: Vec<Row>) -> Snapshot {
    let hour =
        |back, failures| Hour { hour: NOW.div_euclid(3600) - back, messages: 3, octets: 3072, failures };
    Snapshot { at: NOW, rows, hours: vec![hour(7, 0), hour(2, 3)], fleet: None, in_all: None }
}

pub(crate) fn held() -> Held {
    Held {
        uid: UniqueId::new(*b"QhdPYR"),
        ordinal: 0,
        octets: 25 << 20,
        reason: "larger than max_size\x07".into(),
        since: 0,
        tries: 4,
        next_try: 3600,
        kind: HeldKind::Refused,
        standing: crate::state::Standing::Held,
        tried_at: 0,
        came: None,
    }
}

fn json(row: &Row) -> serde_json::Value {
    serde_json::from_str(&row.json()).unwrap()
}

#[test]
fn a_poll_that_succeeded_is_told_with_what_it_brought() {
    let at = time(NOW - 180);
    let said = "succeeded, 2 messages delivered (4.0 KiB), 120 in the maildrop, 3 left for later\n  118 seen";
    let next = time(NOW + 240);
    assert_eq!(
        fine("home").told(NOW),
        format!("home: {at} (3 minutes ago) {said}\n  next poll {next} (in 4 minutes)")
    );
}

#[test]
fn a_poll_that_failed_is_told_with_its_words_and_the_last_success() {
    let (at, before) = (time(NOW - 180), time(1_763_800_000));
    let told = failing("home").told(NOW);
    let expected = format!(
        "home: {at} (3 minutes ago) failed (credentials), 3 times in a row\n  pop.example.org:995: log in: refused\n  \
         server: \\u{{1b}}[31mno\n  last succeeded {before} (27 hours ago)\n  118 seen"
    );
    assert!(told.starts_with(&expected), "{told}");
}

#[test]
fn a_held_message_is_told_with_its_reason_and_next_try() {
    let row = Row { held: vec![held()], ..fine("home") };
    let told = row.told(NOW);
    assert!(told.contains(" succeeded but for 1 message held, 2 messages delivered"), "{told}");
    let stale = row.stale(1_763_803_601, Duration::from_secs(3600)).unwrap().to_string();
    assert_eq!(stale, "no poll has succeeded for 1h 1s; 1 message held");
    let line = told.lines().find(|line| line.starts_with("  held ")).unwrap();
    let started = format!("  held QhdPYR (25.0 MiB) since {} (", time(0));
    assert!(line.starts_with(&started), "{line}");
    assert!(
        line.ends_with(" days ago): larger than max_size\\u{7}") && line.contains(", tried 4 times, again ")
    );
    let expected = serde_json::json!({
        "uid": "QhdPYR", "octets": 25 << 20, "reason": "larger than max_size\u{7}",
        "since": "1970-01-01T00:00:00Z", "tries": 4, "next_try": "1970-01-01T01:00:00Z"
    });
    assert_eq!(json(&row)["held"][0], expected);
}

#[test]
fn accounts_come_in_their_order_and_forgotten_maildrops_last() {
    let new = Account { enabled: false, ..account("new") };
    let accounts = [new, account("home")].map(Arc::new);
    let maildrops = vec![known("gone@example.com", None), known("home@pop.example.org", None)];
    let overview = Overview { maildrops, ..Overview::default() };
    let snapshot = Snapshot::of(overview, &accounts, NOW, |_| false);
    let names: Vec<_> = snapshot.rows.iter().map(|row| row.account.as_str()).collect();
    assert_eq!(names, ["new", "home", "old-name"]);
    assert_eq!(snapshot.rows[0].told(NOW), "new: never polled, not enabled");
    let gone = snapshot.rows[2].told(NOW);
    assert!(gone.contains(" 3 left for later, not in the configuration\n  118 seen"), "{gone}");
    assert!(gone.ends_with("\n  `postrider status forget gone@example.com` drops it"), "{gone}");
    let json = json(&snapshot.rows[0]);
    assert_eq!((&json["maildrop"], &json["last_poll"]), (&"new@pop.example.org".into(), &().into()));
}

#[test]
fn an_account_that_was_mended_and_what_it_polled_before_have_two_names() {
    let maildrops = vec![known("home@mistyped.example.org", None), known("home@pop.example.org", None)];
    let overview = Overview { maildrops, ..Overview::default() };
    let snapshot = Snapshot::of(overview, &[Arc::new(account("old-name"))], NOW, |_| false);
    let names: Vec<_> = snapshot.rows.iter().map(|row| row.account.as_str()).collect();
    assert_eq!(names, ["old-name", "home@mistyped.example.org", "home@pop.example.org"]);
}

#[test]
fn a_running_daemon_adds_when_the_next_poll_is() {
    let due = [("home@pop.example.org".to_owned(), NOW + 300)];
    let seen = |due: &[(String, Timestamp)], held: &[&str]| {
        let overview = Overview { due: due.iter().cloned().collect(), ..Overview::default() };
        Snapshot::of(overview, &[Arc::new(account("home"))], NOW, |name| held.contains(&name)).rows.remove(0)
    };
    let waiting = seen(&due, &[DAEMON]);
    assert!(waiting.told(NOW).ends_with(&format!("\n  next poll {} (in 5 minutes)", time(NOW + 300))));
    assert_eq!(json(&waiting)["next_poll"], "2025-11-23T12:21:20Z");
    assert_eq!(json(&waiting)["polling"], false);
    assert!(seen(&[(due[0].0.clone(), NOW)], &[DAEMON]).told(NOW).ends_with("\n  to be polled next"));
    assert!(seen(&[], &[DAEMON]).told(NOW).ends_with("\n  polled when asked for"));
    let begun = [(due[0].0.clone(), NOW - 180)];
    let polling = seen(&begun, &[DAEMON, "home@pop.example.org"]);
    assert!(polling.told(NOW).ends_with(&format!("\n  polling since {} (3 minutes ago)", time(NOW - 180))));
    assert_eq!(json(&polling)["polling"], true);
    let alone = seen(&due, &["home@pop.example.org"]);
    assert_eq!(
        (&json(&alone)["polling"], alone.next_poll),
        (&serde_json::Value::Null, None),
        "no daemon runs"
    );
}

#[test]
fn an_account_is_stale_when_its_last_success_is_too_old_and_only_if_it_is_polled_by_itself() {
    let row = failing("home");
    let (success, hour) = (1_763_800_000, Duration::from_secs(3600));
    assert!(row.stale(success + 3600, hour).is_none());
    assert!(row.stale(success - 10, hour).is_none(), "the clock was set back a little");
    let ahead = row.stale(success - 7200, hour).unwrap();
    assert!(ahead.to_string().starts_with("the last success is 2h ahead, by a clock that was wrong; "));
    let stale = row.stale(success + 3601, hour).unwrap();
    assert_eq!(stale.to_string(), "no poll has succeeded for 1h 1s; the last one failed (credentials)");
    assert_eq!(stale.class().exit_status(), 77);
    let never = Row::of(Some(&account("home")), None);
    let said = never.stale(0, hour).unwrap();
    assert_eq!((said.to_string().as_str(), said.class().exit_status()), ("no poll has ever succeeded", 75));
    for other in [
        Account { interval: Interval::Manual, ..account("home") },
        Account { enabled: false, ..account("home") },
    ] {
        assert!(Row::of(Some(&other), None).stale(0, hour).is_none());
    }
}

#[test]
fn what_fails_comes_first_then_what_is_held_then_what_was_never_polled() {
    let held = Row { held: vec![held()], ..fine("held") };
    let never = Row::of(Some(&account("never")), None);
    let off = Row::of(Some(&Account { enabled: false, ..account("off") }), None);
    let gone = Row::of(None, Some(known("gone", Some(("tls", "x")))));
    let network = |name| row(name, Some(("network", "pop.example.org:995: connect: no")));
    let rows = vec![gone, off, fine("fine"), never, held, network("n1"), failing("first"), network("n2")];
    let snapshot = snapshot(rows);
    let names: Vec<_> = snapshot.worst_first().into_iter().map(|row| row.account.as_str()).collect();
    assert_eq!(names, ["first", "n1", "n2", "held", "never", "fine", "off", "old-name"]);
    assert_eq!(
        snapshot.sum(),
        "8 accounts: 3 failing, 1 with 1 message held, 1 never polled, 1 fine, 1 not enabled, 1 not in the configuration"
    );
}

#[test]
fn a_time_is_told_by_how_far_away_it_is() {
    for (seconds, past, ahead) in [
        (0, "now", "now"),
        (1, "1 second ago", "in 1 second"),
        (59, "59 seconds ago", "in 59 seconds"),
        (119, "1 minute ago", "in 1 minute"),
        (7199, "119 minutes ago", "in 119 minutes"),
        (7200, "2 hours ago", "in 2 hours"),
        (172_800, "2 days ago", "in 2 days"),
    ] {
        let time = Duration::from_secs(seconds);
        let shown = [Age::Past(time), Age::Ahead(time)].map(|age| age.to_string());
        assert_eq!(shown, [past, ahead]);
        assert_eq!(age(0, -Timestamp::try_from(seconds).unwrap()).to_string(), past);
    }
}

#[test]
fn of_many_accounts_of_a_fleet_those_are_listed_that_want_a_look() {
    use crate::state::fleet::{Fleet, NextPoll, Standings};
    let accounts: Vec<_> = (0..30).map(|number| Arc::new(account(&number.to_string()))).collect();
    let maildrops =
        vec![known("17@pop.example.org", Some(("network", "x"))), known("gone@h", Some(("tls", "x")))];
    let next = NextPoll { worker: Some("mx1:1".into()), is_polled: false, due: Some(NOW + 60) };
    let fleet = Fleet {
        workers: vec![Default::default()],
        accounts: Standings { polled: 990, failing: 2, holding: 1, held: 3 },
        ..Fleet::default()
    };
    let next_polls = [("17@pop.example.org".to_owned(), next)].into_iter().collect();
    let overview =
        Overview { maildrops, next_polls, fleet: Some(fleet), in_all: Some(1001), ..Overview::default() };
    let snapshot = Snapshot::of_fleet(overview, &accounts, NOW);
    let names: Vec<_> = snapshot.rows.iter().map(|row| row.account.as_str()).collect();
    assert_eq!(names, ["17", "old-name"]);
    assert_eq!(snapshot.rows[0].next_poll, Some(NOW + 60));
    assert_eq!(snapshot.rows[0].worker.as_deref(), Some("mx1:1"));
    assert_eq!(snapshot.sum(), "1001 accounts: 990 polled, 2 failing, 1 with 3 messages held");
    let json: serde_json::Value = serde_json::from_str(&snapshot.json()).unwrap();
    assert_eq!((&json["accounts_in_all"], &json["fleet"]["lag_seconds"]), (&1001.into(), &0.into()));
}

#[test]
fn an_account_that_nobody_polls_since_its_row_cannot_be_used_says_so_and_one_that_others_poll_does_not() {
    let never = |name: &str, next_poll| Row {
        last_poll: None,
        listed: None,
        recorded: false,
        polling: Some(false),
        next_poll,
        ..fine(name)
    };
    let others = Row { worker: Some("mx1:1".into()), ..never("t/others", Some(NOW - 90)) };
    let rows =
        vec![never("t/none", None), never("t/late", Some(NOW - 90)), never("t/soon", Some(NOW + 90)), others];
    let mut snapshot = snapshot(rows);
    let why = ["t/none", "t/late", "t/soon", "t/others"]
        .map(|name| (name.to_owned(), "its key is not here".to_owned()));
    snapshot.note_unusable(&why.into());
    let says = |row: &Row| row.told(NOW).contains("not polled: its key is not here");
    assert_eq!(snapshot.rows.iter().map(says).collect::<Vec<_>>(), [true, true, false, false]);
}
