//! Targets that cannot be asked what they have: `kill -9`, cut connections, targets that die, and full disks lose
//! nothing, and repeat only what was handed over and not recorded.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::support::dovecot::{Dovecot, Format};
use crate::support::mail_server::{MailServer, lmtp, smtp};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::mounted::Mounted;
use crate::support::poller::Poller;
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{Running, program, wait_until};
use crate::support::relay::{Relay, Side};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postrider::testing::config::{Config, Target};
use postrider::testing::pop3::UniqueId;

const EXTENSIONS: &[&str] = &["PIPELINING", "SIZE", "8BITMIME"];

fn maildrop() -> Maildrop {
    Maildrop::start(Settings { tls: Protection::None, ..Settings::default() })
}

fn message(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\nof {number}\r\n").into_bytes()
}

/// The program in a home of its own, with this target.
fn home(maildrop: &Maildrop, deliver: &str) -> Home {
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home:\n    {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none,\n     \
         auth: [user-pass], keep: none, received: false, deliver: {deliver}}}\n",
        maildrop.port()
    ));
    home
}

/// Kills the program at moments spread over its runs. Nothing comes twice in one run, and what came in a run that was
/// left alone never comes again: only what a killed run handed over may, once for each kill.
fn kills_lose_nothing(server: &MailServer, deliver: &str) {
    const KILLS: usize = 60;
    const ARRIVING: usize = 60;
    let maildrop = maildrop();
    let home = home(&maildrop, deliver);
    let mut sent = 0;
    let mut mail_arrives = || {
        (sent..sent + ARRIVING).for_each(|number| maildrop.put(&number.to_string(), message(number)));
        sent += ARRIVING;
        sent
    };
    let octets = |from: usize| -> Vec<Vec<u8>> {
        server.arrived().into_iter().skip(from).map(|arrived| arrived.octets).collect()
    };
    mail_arrives();
    let begin = Instant::now();
    home.must(&["sync"], 0);
    let whole = begin.elapsed();
    let mut settled: HashSet<Vec<u8>> = octets(0).into_iter().collect();
    let (mut seen, mut open, mut amid, mut sent) = (ARRIVING, HashSet::new(), 0, 0);
    for number in 0..KILLS {
        sent = mail_arrives();
        let mut running = home.start(&["sync"]);
        if number % 2 == 0 {
            wait_until(whole * number as u32 / KILLS as u32, || !running.is_running());
        } else {
            // However long a run takes just now: when so many messages have come.
            let enough = seen + 1 + number % (ARRIVING / 2);
            wait_until(LIMIT, || server.arrived().len() >= enough || !running.is_running());
        }
        let killed = running.is_running();
        running.signal(Signal::SIGKILL);
        running.wait(LIMIT);
        let came = octets(seen);
        seen += came.len();
        amid += usize::from(killed && !came.is_empty() && !maildrop.uids().is_empty());
        let once: HashSet<_> = came.iter().cloned().collect();
        assert_eq!(once.len(), came.len(), "twice in one run");
        assert!(once.is_disjoint(&settled), "again, although a run that was left alone had delivered it");
        if killed {
            open.extend(once);
        } else {
            settled.extend(once);
            settled.extend(open.drain());
        }
    }
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    octets(0).into_iter().for_each(|octets| *counts.entry(octets).or_default() += 1);
    for number in 0..sent {
        assert!(counts.remove(&message(number)).is_some_and(|count| count <= 1 + KILLS), "{number} is lost");
    }
    assert!(counts.is_empty(), "these were never sent: {counts:?}");
    assert!(amid > 3, "only {amid} kills fell while messages were handed over");
}

#[test]
fn kills_at_any_moment_lose_nothing_on_the_way_to_a_mail_server() {
    let server = MailServer::start(EXTENSIONS);
    kills_lose_nothing(&server, &smtp(server.port(), ""));
}

#[test]
fn kills_at_any_moment_lose_nothing_on_the_way_through_an_lmtp_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("lmtp");
    let server = MailServer::on_socket(&socket, EXTENSIONS);
    kills_lose_nothing(&server, &lmtp(&socket, "u1, u2"));
}

fn target(deliver: &str) -> Target {
    let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {deliver}}}}}");
    let config = Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{error}"));
    config.accounts.into_iter().next().unwrap().deliver.remove(0).target
}

/// Cuts the connection after so many octets of a side; says how many passed.
fn cut_after(side: Side, octets: Option<u64>, deliver: impl Fn(u16) -> String) -> u64 {
    const MESSAGES: usize = 3;
    let (maildrop, server) = (maildrop(), MailServer::start(EXTENSIONS));
    (0..MESSAGES).for_each(|number| maildrop.put(&number.to_string(), message(number)));
    let relay = Relay::start(server.port());
    if let Some(octets) = octets {
        relay.cut_after(side, octets);
    }
    let mut poller = Poller::new(maildrop.port(), "tls: none\nauth: [user-pass]\nkeep: none");
    poller.account.deliver = vec![target(&deliver(relay.port())).into()];
    let first = poller.poll();
    let after_one = server.arrived().len();
    assert!(first.delivered <= after_one, "{octets:?} of {side:?}: counted, and not there: {first:?}");
    let names = (0..MESSAGES).map(|number| (UniqueId::new(number.to_string().into_bytes()), 0)).collect();
    let maildrop_id = poller.account.maildrop_id.as_str().into();
    poller
        .block_on(poller.environment.store.hasten(maildrop_id, names, postrider::testing::session::now()))
        .unwrap();
    poller.must();
    assert_eq!(maildrop.uids(), Vec::<String>::new(), "{octets:?} of {side:?}");
    let arrived = server.arrived();
    for number in 0..MESSAGES {
        let count = arrived.iter().filter(|arrived| arrived.octets == message(number)).count();
        assert!((1..=2).contains(&count), "{octets:?} of {side:?}: {count} times {number}");
    }
    assert!(arrived.len() <= MESSAGES + 1, "{octets:?} of {side:?}: {} arrived", arrived.len());
    relay.passed(side)
}

fn cut_after_every_octet(deliver: impl Fn(u16) -> String) {
    for (side, step) in [(Side::Server, 1), (Side::Client, 3)] {
        let all = cut_after(side, None, &deliver);
        assert!(all > 150, "only {all} octets of {side:?}");
        for octets in (1..all).step_by(step) {
            cut_after(side, Some(octets), &deliver);
        }
    }
}

#[test]
fn a_mail_server_that_is_gone_after_any_octet_loses_nothing_and_gets_one_message_again_at_most() {
    cut_after_every_octet(|port| smtp(port, ""));
}

#[test]
fn an_lmtp_server_that_is_gone_after_any_octet_loses_nothing_and_gets_one_message_again_at_most() {
    cut_after_every_octet(|port| format!("{{ lmtp: {{ host: 127.0.0.1, port: {port}, to: [u1] }} }}"));
}

#[test]
fn a_dovecot_that_is_killed_while_it_takes_messages_loses_none() {
    let more = "protocols = pop3 lmtp\nauth_username_format = %Ln\nservice lmtp {\n  unix_listener {at}/lmtp {\n    mode = 0666\n  }\n}\n";
    let mut dovecot = Dovecot::start_with(Format::Maildir, 1, more);
    let maildrop = maildrop();
    let home = home(&maildrop, &lmtp(&dovecot.lmtp(), "u1"));
    let (mut sent, mut cut_off) = (0, 0);
    for round in 1..8 {
        for number in sent..sent + 40 {
            maildrop.put(&number.to_string(), message(number));
        }
        sent += 40;
        let before = dovecot.arrived("u1");
        let mut running = home.start(&["sync"]);
        wait_until(LIMIT, || dovecot.arrived("u1") >= before + 5 * round || !running.is_running());
        dovecot.kill();
        let ended = running.wait(LIMIT);
        assert!(matches!(ended.status, Some(0 | 75)), "{}", ended.stderr);
        cut_off += usize::from(ended.status == Some(75));
        dovecot.restart();
        home.must(&["held", "retry", "home"], 0);
    }
    home.must(&["sync"], 0);
    assert_eq!(maildrop.uids(), Vec::<String>::new());
    assert!(cut_off > 2, "only {cut_off} runs were cut off");
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, octets) in dovecot.messages("u1") {
        let text = String::from_utf8(octets).unwrap();
        let begin = text.find("Subject: ").unwrap();
        *counts.entry(text[begin..].to_owned()).or_default() += 1;
    }
    let mut surplus = 0;
    for number in 0..sent {
        let count = counts.get(std::str::from_utf8(&message(number)).unwrap()).copied().unwrap_or(0);
        assert!(count >= 1, "{number} is lost");
        surplus += count - 1;
    }
    assert!(surplus <= cut_off, "{surplus} repeats by {cut_off} dead servers");
}

#[test]
fn a_command_that_is_killed_amid_a_message_has_it_put_off_and_handed_over_again() {
    let maildrop = maildrop();
    (0..3).for_each(|number| maildrop.put(&format!("m{number}"), message(number)));
    let home = home(&maildrop, "{ pipe: [sh, '~/script'] }");
    let script = home.path("script");
    home.configure(
        &fs::read_to_string(home.path("config/postrider/config.yaml"))
            .unwrap()
            .replace("~/script", &script.display().to_string()),
    );
    let text = "cd ${0%/*}; read line; if [ $POSTRIDER_UID = m1 ] && [ ! -e again ]; then echo $$ > pid; while :; do sleep 1; done; fi\n\
                cat > /dev/null; echo $POSTRIDER_UID >> log\n";
    home.write("script", text);
    let running = home.start(&["sync"]);
    let pid = || fs::read_to_string(home.path("pid")).ok()?.trim().parse::<i32>().ok();
    assert!(wait_until(LIMIT, || pid().is_some()), "it never began");
    kill(Pid::from_raw(pid().unwrap()), Signal::SIGKILL).unwrap();
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("SIGKILL"), "{}", ended.stderr);
    assert_eq!(maildrop.uids(), ["m1"]);
    home.write("again", "");
    home.must(&["held", "retry", "home"], 0);
    home.must(&["sync"], 0);
    assert_eq!(fs::read_to_string(home.path("log")).unwrap(), "m0\nm2\nm1\n");
    assert!(maildrop.uids().is_empty());
}

fn large(number: usize) -> Vec<u8> {
    [message(number), b"0123456789abcde\r\n".repeat(30_000)].concat()
}

/// Spools onto a full disk: what does not fit in memory is not handed over, and comes whole when there is room.
fn spools_onto_a_full_disk(home: &Home, maildrop: &Maildrop, arrived: impl Fn() -> Vec<Vec<u8>>) {
    let Some(disk) = Mounted::tmpfs(home.path("spool"), "256k") else { return };
    maildrop.put("small", message(1));
    maildrop.put("large", large(2));
    let filler = disk.fill();
    let sync = || Running::start(home.command(&["sync"]).env("TMPDIR", disk.path())).wait(LIMIT);
    let ended = sync();
    assert_eq!(ended.status, Some(75), "{}", ended.stderr);
    assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
    assert!(maildrop.uids().contains(&"large".to_owned()), "{:?}", maildrop.uids());
    assert!(arrived().iter().all(|octets| *octets == message(1)), "a part of a message was handed over");
    fs::remove_file(filler).unwrap();
    disk.remount("size=16m");
    home.must(&["held", "retry", "home"], 0);
    let ended = sync();
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert_same(arrived(), vec![message(1), large(2)]);
    assert!(maildrop.uids().is_empty());
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0, "something was left in the spool");
}

#[test]
fn a_full_spool_hands_no_part_of_a_message_to_a_mail_server() {
    let (maildrop, server) = (maildrop(), MailServer::start(EXTENSIONS));
    let home = home(&maildrop, &smtp(server.port(), ""));
    spools_onto_a_full_disk(&home, &maildrop, || {
        server.arrived().into_iter().map(|arrived| arrived.octets).collect()
    });
}

#[test]
fn a_full_spool_hands_no_part_of_a_message_to_an_lmtp_server() {
    let (maildrop, directory) = (maildrop(), tempfile::tempdir().unwrap());
    let socket = directory.path().join("lmtp");
    let server = MailServer::on_socket(&socket, EXTENSIONS);
    let home = home(&maildrop, &lmtp(&socket, "u1"));
    spools_onto_a_full_disk(&home, &maildrop, || {
        server.arrived().into_iter().map(|arrived| arrived.octets).collect()
    });
}

#[test]
fn a_full_spool_hands_no_part_of_a_message_to_a_command() {
    let maildrop = maildrop();
    let out = tempfile::tempdir().unwrap();
    let to = out.path().display();
    let home = home(&maildrop, &format!("{{ pipe: 'cat > {to}/$POSTRIDER_UID' }}"));
    spools_onto_a_full_disk(&home, &maildrop, || {
        let files = fs::read_dir(out.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        let crlf = |octets: Vec<u8>| String::from_utf8(octets).unwrap().replace('\n', "\r\n").into_bytes();
        files.map(crlf).collect()
    });
}

/// Delivers onto a full disk, makes room, and gives what is there in the end.
fn delivers_onto_a_full_disk(deliver: &str, read: impl Fn(&Path) -> Vec<Vec<u8>>) {
    let maildrop = maildrop();
    let home = home(&maildrop, "{ maildir: replaced }");
    let Some(disk) = Mounted::tmpfs(home.path("disk"), "512k") else { return };
    let at = home.path("").display().to_string();
    let config = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    home.configure(&config.replace("{ maildir: replaced }", &deliver.replace("~/", &at)));
    home.write("filter", &format!("to \"{at}disk/Mail\"\n"));
    if deliver.contains("pipe") {
        for folder in ["", "tmp", "new", "cur"] {
            fs::create_dir(home.path("disk/Mail").join(folder)).unwrap();
        }
    }
    let sent: Vec<_> =
        (0..4).map(|number| [message(number), vec![b'x'; 20_000], b"\r\n".to_vec()].concat()).collect();
    for (number, octets) in sent.iter().enumerate() {
        maildrop.put(&number.to_string(), octets.clone());
    }
    let filler = disk.fill();
    let ended = home.must(&["sync"], 75);
    assert_eq!(maildrop.uids().len(), 4, "{}", ended.stderr);
    fs::remove_file(filler).unwrap();
    home.must(&["held", "retry", "home"], 0);
    home.must(&["sync"], 0);
    let lf = |octets: &Vec<u8>| String::from_utf8(octets.clone()).unwrap().replace("\r\n", "\n").into_bytes();
    assert_same(read(disk.path()), sent.iter().map(lf).collect());
    assert!(maildrop.uids().is_empty());
}

#[test]
fn an_mbox_on_a_full_disk_keeps_every_message_for_later() {
    delivers_onto_a_full_disk("{ mbox: ~/disk/mbox }", |disk| {
        crate::sink::mbox_messages(&fs::read(disk.join("mbox")).unwrap())
    });
}

#[test]
fn a_command_whose_disk_is_full_keeps_every_message_for_later() {
    program("maildrop").expect("maildrop (Debian: maildrop)");
    delivers_onto_a_full_disk("{ pipe: [maildrop, ~/filter] }", |disk| {
        let files = fs::read_dir(disk.join("Mail/new")).unwrap();
        files.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    });
}
