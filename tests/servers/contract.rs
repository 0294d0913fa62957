//! What a user may rely on whichever POP3 server holds the mail, asked of real ones and of proxies before them.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::courier::Courier;
use crate::support::cyrus::Cyrus;
use crate::support::daemon::Daemon;
use crate::support::dovecot::Dovecot;
use crate::support::gnu_pop3d::GnuPop3d;
use crate::support::mails;
use crate::support::popa3d::Popa3d;
use crate::support::postrider::{Home, LIMIT, assert_same};
use crate::support::process::{Ended, wait_until};
use crate::support::proxies::{DovecotDovecot, HaproxyCourier, NginxDovecot, PerditionDovecot};
use crate::support::real_server::{RealServer, Way};
use crate::support::relay::Relay;
use crate::support::solid_pop3d::SolidPop3d;

/// What a poll after the first may take on a busy machine: far below `timeout`, which a wait for nothing would use up.
const QUICK: Duration = Duration::from_secs(5);
/// Kills of either side, one after the other.
const KILLS: usize = 10;
/// Messages that come before each kill.
const MAILS: usize = 8;

/// What becomes of mail, whoever is killed.
macro_rules! mail {
    ($server:ty) => {
        #[test]
        fn every_octet_arrives_and_a_second_sync_fetches_nothing() {
            super::every_octet_arrives::<$server>();
        }

        #[test]
        fn a_lost_state_file_repeats_nothing() {
            super::lost_state::<$server>();
        }

        #[test]
        fn keep_none_deletes_exactly_what_was_delivered() {
            super::keep_none::<$server>();
        }

        #[test]
        fn mail_that_comes_during_a_session_is_fetched_by_the_next_one() {
            super::mail_during_a_session::<$server>();
        }

        #[test]
        fn kills_of_the_program_neither_lose_nor_repeat_a_message() {
            super::kills_of_ours::<$server>();
        }

        #[test]
        fn kills_of_the_server_neither_lose_nor_repeat_a_message() {
            super::kills_of_the_server::<$server>();
        }

        #[test]
        fn a_rebuilt_maildrop_repeats_nothing() {
            super::rebuilt::<$server>();
        }
    };
}

/// What becomes of other mail in the place of what is known.
macro_rules! other_mail {
    ($server:ty) => {
        #[test]
        fn other_mail_in_the_place_of_deleted_mail_is_fetched() {
            super::replaced_after_deletion::<$server>();
        }

        #[test]
        fn other_mail_in_the_place_of_kept_mail_is_not_deleted_unfetched() {
            super::replaced_while_kept::<$server>();
        }
    };
}

/// How the user is let in.
macro_rules! log_ins {
    ($server:ty) => {
        #[test]
        fn each_way_of_logging_in_is_quick_at_every_poll() {
            super::each_way_of_logging_in::<$server>();
        }

        #[test]
        fn a_daemon_gets_each_new_message_quickly_and_without_a_warning() {
            super::daemon_polls::<$server>();
        }
    };
}

mod dovecot {
    use super::Dovecot;

    mail!(Dovecot);
    other_mail!(Dovecot);
    log_ins!(Dovecot);
}

mod gnu_pop3d {
    use super::GnuPop3d;

    mail!(GnuPop3d);
    other_mail!(GnuPop3d);
    log_ins!(GnuPop3d);
}

mod courier {
    use super::Courier;

    mail!(Courier);
    other_mail!(Courier);
    log_ins!(Courier);
}

mod cyrus {
    use super::Cyrus;

    mail!(Cyrus);
    other_mail!(Cyrus);
    log_ins!(Cyrus);
}

mod popa3d {
    use super::Popa3d;

    mail!(Popa3d);
    other_mail!(Popa3d);
    log_ins!(Popa3d);
}

mod solid_pop3d {
    use super::SolidPop3d;

    mail!(SolidPop3d);
    other_mail!(SolidPop3d);
    log_ins!(SolidPop3d);
}

mod nginx {
    use super::NginxDovecot;

    mail!(NginxDovecot);
    other_mail!(NginxDovecot);
    log_ins!(NginxDovecot);
}

mod perdition {
    use super::PerditionDovecot;

    mail!(PerditionDovecot);
    other_mail!(PerditionDovecot);
    log_ins!(PerditionDovecot);
}

mod dovecot_proxy {
    use super::DovecotDovecot;

    mail!(DovecotDovecot);
    other_mail!(DovecotDovecot);
    log_ins!(DovecotDovecot);
}

mod haproxy {
    use super::HaproxyCourier;

    mail!(HaproxyCourier);
    other_mail!(HaproxyCourier);
    log_ins!(HaproxyCourier);
}

/// The user's home, whose only account is the server's maildrop by way of this port.
fn home(server: &impl RealServer, way: Way, more: &str) -> Home {
    let home = Home::new();
    configure(&home, server, way, more);
    home
}

fn configure(home: &Home, server: &impl RealServer, (port, tls): Way, more: &str) {
    home.write("ca.pem", server.authority());
    let mut keys = vec![format!("tls: {tls}")];
    if tls != "none" {
        keys.push("tls_ca: ~/ca.pem".to_string());
    } else if !more.contains("auth:") {
        keys.push("auth: [user-pass]".to_string());
    }
    // A wait for nothing would use it up, and no test should. Less than LOGIN-DELAY is waited out in a run (Courier: 10 s).
    keys.push("timeout: 9s".to_string());
    keys.extend(more.lines().map(str::to_string));
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {port}\n    user: {}\n    password: {}\n    \
         deliver: {{ maildir: ~/Mail }}\n    {}\n",
        server.user(),
        server.password(),
        keys.join("\n    ")
    ));
}

/// The last of a server's ways: by TLS from the beginning where it can.
fn best(server: &impl RealServer) -> Way {
    server.ways().pop().expect("a port")
}

/// The messages in the maildrop as a maildir must hold them.
fn held(server: &impl RealServer) -> Vec<Vec<u8>> {
    server.messages().iter().map(|(_, octets)| mails::with_lf(octets)).collect()
}

/// Puts those messages that the server stores, and gives how it shows all that it has.
fn put(server: &impl RealServer, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let stored: Vec<_> = messages.iter().filter(|message| server.stores(message)).cloned().collect();
    server.put(&stored);
    let held = held(server);
    assert!(held.len() >= stored.len(), "the server shows {} of {} messages", held.len(), stored.len());
    held
}

/// Syncs until a run goes well: a server that was cut off may hold its lock for a moment.
fn sync_well(home: &Home) -> Ended {
    let mut last = None;
    let well = wait_until(Duration::from_secs(30), || {
        let ended = home.run(&["sync"]);
        assert!(matches!(ended.status, Some(0 | 75)), "{:?} {}", ended.status, ended.stderr);
        last.insert(ended).status == Some(0)
    });
    let last = last.expect("one run");
    assert!(well, "no sync goes well: {}", last.stderr);
    last
}

/// Syncs until nothing is left on the server: a deletion may need a session more, and a wait between two.
fn sync_until_empty(home: &Home, server: &impl RealServer) {
    for _ in 0..4 {
        sync_well(home);
        if server.left() == 0 {
            return;
        }
    }
    panic!("{} messages are left on the server", server.left());
}

fn assert_delivered(home: &Home, expected: &[Vec<u8>]) {
    assert_same(home.maildir("Mail"), expected.to_vec());
    assert_eq!(home.leftovers("Mail"), Vec::<std::path::PathBuf>::new(), "left in tmp");
}

/// What servers and clients get wrong, octets above 127 in a header included.
fn awkward() -> Vec<Vec<u8>> {
    let mut messages = mails::odd();
    messages.push(mails::with_nul());
    messages.push(b"From: \xc3\xbc@example.org\nSubject: Gr\xfc\xdfe\nTo: a\n\nbody \xe4\n".to_vec());
    messages
}

/// Messages of one header and one size: only their bodies differ.
fn alike(count: usize, word: &str) -> Vec<Vec<u8>> {
    let header = "From: root@example.org\nTo: admin@example.org\nSubject: status\n\n";
    (0..count).map(|number| format!("{header}disk {word} {number:03}\n").into_bytes()).collect()
}

fn every_octet_arrives<S: RealServer>() {
    let server = S::start();
    let expected = put(&server, &awkward());
    for way in server.ways() {
        let home = home(&server, way, "");
        for _ in 0..2 {
            let ended = home.must(&["sync"], 0);
            assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""), "a run that works says nothing");
            assert_delivered(&home, &expected);
        }
    }
    assert_eq!(server.left(), expected.len());
}

fn lost_state<S: RealServer>() {
    let server = S::start();
    let expected = put(&server, &[awkward(), mails::ordinary(30), alike(3, "full")].concat());
    let home = home(&server, best(&server), "");
    home.must(&["sync"], 0);
    assert_delivered(&home, &expected);
    std::fs::remove_dir_all(home.path("state")).expect("the state was there");
    home.must(&["sync"], 0);
    assert_delivered(&home, &expected);
}

fn keep_none<S: RealServer>() {
    let server = S::start();
    let first = put(&server, &[awkward(), alike(3, "full")].concat());
    let home = home(&server, best(&server), "keep: none");
    home.must(&["sync"], 0);
    assert_delivered(&home, &first);
    // Messages that share a unique-id may take one poll more.
    home.must(&["sync"], 0);
    assert_eq!(server.left(), 0);
    let second = put(&server, &mails::ordinary(5));
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    assert_delivered(&home, &[first, second].concat());
    assert_eq!(server.left(), 0);
}

fn mail_during_a_session<S: RealServer>() {
    let server = S::start();
    let mails = mails::ordinary(40);
    let first = put(&server, &mails[..30]);
    let (port, tls) = best(&server);
    let relay = Relay::start(port);
    let home = home(&server, (relay.port(), tls), "keep: none");
    relay.hold_after(15_000);
    let running = home.start(&["sync"]);
    relay.wait_for_hold();
    server.put(&mails[30..]);
    relay.open();
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let second = held(&server);
    sync_well(&home);
    sync_well(&home);
    let second: Vec<_> = second.into_iter().filter(|message| !first.contains(message)).collect();
    assert_eq!(second.len(), 10, "mail that came during the session");
    assert_delivered(&home, &[first, second].concat());
    assert_eq!(server.left(), 0);
}

/// A home by way of a relay, that deletes what it has.
fn relayed<S: RealServer>(server: &S) -> (Relay, Home) {
    let (port, tls) = best(server);
    let relay = Relay::start(port);
    let home = home(server, (relay.port(), tls), "keep: none");
    (relay, home)
}

/// Has a sync stopped each time at another moment, new mail before each, and gives everything that was sent. The
/// moments are from the greeting to the answers to DELE and QUIT.
fn stopped<S: RealServer>(
    server: &mut S,
    home: &Home,
    relay: &Relay,
    stop: impl Fn(&mut S, &Home),
) -> Vec<Vec<u8>> {
    let mails = mails::ordinary(KILLS * MAILS);
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for (number, mails) in mails.chunks(MAILS).enumerate() {
        let shown = put(server, mails);
        let octets: usize = shown.iter().map(|message| message.len() + 50).sum();
        let new: Vec<_> = shown.into_iter().filter(|message| !sent.contains(message)).collect();
        assert_eq!(new.len(), MAILS, "a message was changed or lost by the server");
        sent.extend(new);
        relay.hold_after((30 + octets * number / (KILLS - 2)) as u64);
        stop(server, home);
        relay.open();
    }
    sent
}

fn kills_of_ours<S: RealServer>() {
    let mut server = S::start();
    let (relay, home) = relayed(&server);
    let sent = stopped(&mut server, &home, &relay, |_, home| {
        let mut running = home.start(&["sync"]);
        wait_until(LIMIT, || relay.is_holding() || !running.is_running());
        running.signal(Signal::SIGKILL);
        running.wait(LIMIT);
    });
    sync_until_empty(&home, &server);
    assert_delivered(&home, &sent);
}

fn kills_of_the_server<S: RealServer>() {
    let mut server = S::start();
    let (relay, home) = relayed(&server);
    let sent = stopped(&mut server, &home, &relay, |server, home| {
        let mut running = home.start(&["sync"]);
        wait_until(LIMIT, || relay.is_holding() || !running.is_running());
        server.crash();
        relay.open();
        let ended = running.wait(LIMIT);
        assert!(matches!(ended.status, Some(0 | 75)), "{:?} {}", ended.status, ended.stderr);
    });
    sync_until_empty(&home, &server);
    assert_delivered(&home, &sent);
}

/// Every message was delivered, or is still on the server.
fn assert_none_lost(home: &Home, server: &impl RealServer, messages: &[Vec<u8>]) {
    let (delivered, left) = (home.maildir("Mail"), held(server));
    let lost: Vec<_> = messages
        .iter()
        .filter(|message| !delivered.contains(message) && !left.contains(message))
        .map(|message| message.escape_ascii().to_string())
        .collect();
    assert_eq!(lost, Vec::<String>::new(), "deleted and never delivered");
}

fn replaced_after_deletion<S: RealServer>() {
    let mut server = S::start();
    let mut sent = put(&server, &alike(6, "full"));
    let home = home(&server, best(&server), "keep: none");
    for word in ["FULL", "fine"] {
        sync_well(&home);
        sync_well(&home);
        assert_eq!(server.left(), 0);
        server.replace(&alike(6, word));
        let other = held(&server);
        sync_well(&home);
        assert_none_lost(&home, &server, &other);
        sent.extend(other);
    }
    sync_until_empty(&home, &server);
    assert_delivered(&home, &sent);
}

fn replaced_while_kept<S: RealServer>() {
    let mut server = S::start();
    let mut sent = put(&server, &alike(12, "full"));
    let way = best(&server);
    let home = home(&server, way, "");
    home.must(&["sync"], 0);
    server.replace(&alike(12, "fine"));
    let other = held(&server);
    // Now everything that an earlier session delivered is due.
    configure(&home, &server, way, "keep: none");
    for _ in 0..4 {
        sync_well(&home);
        assert_none_lost(&home, &server, &other);
    }
    sent.extend(other);
    assert_delivered(&home, &sent);
    assert_eq!(server.left(), 0);
}

fn rebuilt<S: RealServer>() {
    let mut server = S::start();
    let expected = put(&server, &[mails::ordinary(15), alike(3, "full")].concat());
    let way = best(&server);
    let home = home(&server, way, "");
    home.must(&["sync"], 0);
    assert_delivered(&home, &expected);
    server.rebuild();
    for _ in 0..2 {
        sync_well(&home);
        assert_eq!(home.files("Mail").len(), expected.len(), "messages came again");
    }
    configure(&home, &server, way, "keep: none");
    for _ in 0..4 {
        sync_well(&home);
    }
    assert_delivered(&home, &expected);
    assert_eq!(server.left(), 0);
}

fn each_way_of_logging_in<S: RealServer>() {
    let server = S::start();
    let mails = mails::ordinary(3);
    for mechanism in server.mechanisms() {
        for (port, tls) in server.ways() {
            let what = format!("{mechanism}, tls {tls}");
            let more = format!("auth: [{mechanism}]");
            let home = home(&server, (port, tls), &more);
            for poll in 0..4 {
                let ended = home.must(&["sync"], 0);
                if poll > 0 {
                    assert!(ended.took < QUICK, "{what}: poll {poll} took {:?}", ended.took);
                }
                assert_eq!(ended.stderr, "", "{what}: poll {poll}");
                if poll == 1 {
                    server.put(&mails[..1]);
                }
            }
            assert_delivered(&home, &held(&server));
        }
    }
}

fn daemon_polls<S: RealServer>() {
    let server = S::start();
    let mails = mails::ordinary(4);
    let ways = server.ways();
    // Courier lets ten seconds pass between two polls of a daemon: the ports, not all ways.
    for (way, mails) in [ways[0], ways[ways.len() - 1]].into_iter().zip(mails.chunks(2)) {
        let home = home(&server, way, "interval: 1h");
        let daemon = Daemon::start(&home);
        for mail in mails {
            server.put(std::slice::from_ref(mail));
            let expected = server.left();
            // LOGIN-DELAY is kept, and Courier announces ten seconds.
            let woken = Instant::now();
            let mut wakes = 0;
            let come = wait_until(QUICK + Duration::from_secs(12), || {
                if woken.elapsed() > Duration::from_secs(wakes) {
                    // It may not listen yet; it polls at its start by itself.
                    home.run(&["wake"]);
                    wakes += 1;
                }
                home.files("Mail").len() >= expected
            });
            assert!(come, "tls {}: {} messages: {}", way.1, home.files("Mail").len(), daemon.log());
        }
        let log = daemon.log();
        assert_eq!(log, "", "tls {}", way.1);
        // Until its session is over, a server may be writing its mbox.
        daemon.stop();
        assert_delivered(&home, &held(&server));
    }
}
