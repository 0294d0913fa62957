//! Servers that keep to no protocol in the place of a mailbox: each is somebody's trouble, loses nothing, and gets nothing
//! twice that it keeps.

use std::time::{Duration, Instant};

use postrider::testing::failure::Class;

use crate::imap::{Way, message};
use crate::support::imap_server::{Habits, Odd, Then};

const LARGE: usize = 8 << 20;

/// What a poll comes to that meets such a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// All is delivered.
    Through,
    /// Nothing is; the target is in trouble, or messages are held.
    ToNothing,
}

/// Polls once with a server that does something odd, and again with one that does not any more.
fn comes_through(odd: Odd, capabilities: &'static str, comes: Comes) {
    let why = format!("{odd:?} {capabilities}");
    let habits = Habits { capabilities, ..Habits::default() };
    let mut way = Way::with(habits, ", timeout: 1s", "");
    // So that the mailbox is looked at.
    way.server.put(&message(99));
    way.put(0..2);
    way.maildrop.put("large", large());
    way.server.change(|habits| habits.odd = Some(odd));
    let began = Instant::now();
    let report = way.poller.poll();
    assert!(began.elapsed() < Duration::from_secs(60), "{why}: {:?}", began.elapsed());
    match comes {
        Comes::Through => assert_eq!((report.delivered, &report.failure), (3, &None), "{why}"),
        Comes::ToNothing => {
            assert_eq!(report.delivered, 0, "{why}: {report:?}");
            let failure = report.failure.as_ref().unwrap_or_else(|| panic!("{why}: {report:?}"));
            assert!(matches!(failure.class, Class::Target | Class::Message), "{why}: {failure}");
            // It speaks of the target, in a few lines.
            let told = failure.to_string();
            assert!(told.contains("imap") && told.len() < 1500, "{why}: {told}");
        }
    }
    way.server.change(|habits| habits.odd = None);
    for _ in 0..3 {
        way.a_day_passes();
        way.poller.poll();
    }
    let mut inbox = way.server.inbox();
    inbox.sort();
    let mut expected = vec![message(0), message(1), message(99), large()];
    expected.sort();
    assert!(inbox == expected, "{why}: {} messages are there", inbox.len());
    assert!(way.maildrop.uids().is_empty(), "{why}: {:?}", way.maildrop.uids());
}

fn large() -> Vec<u8> {
    [message(7), b"0123456789abcde\r\n".repeat(LARGE / 17)].concat()
}

/// Tries them side by side, since most of them wait.
fn each_comes_through(capabilities: &'static str, odd: &[(&'static str, &'static str, Then, Comes)]) {
    std::thread::scope(|scope| {
        for (at, says, then, comes) in odd.iter().copied() {
            scope.spawn(move || comes_through(Odd { at, says, then }, capabilities, comes));
        }
    });
}

const USUAL: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ NAMESPACE";

#[test]
fn a_server_that_says_yes_before_it_has_a_message_has_none() {
    for capabilities in ["IMAP4rev1", USUAL, "IMAP4rev1 LITERAL+ MULTIAPPEND"] {
        let mut way = Way::with(Habits { capabilities, ..Habits::default() }, "", "");
        way.maildrop.put("large", large());
        let yes = Odd { at: "APPEND", says: "TAG OK [APPENDUID 7 1] taken\r\n", then: Then::GoesOn };
        way.server.change(|habits| habits.odd = Some(yes));
        let report = way.poller.poll();
        assert_eq!((report.delivered, report.held), (0, 1), "{capabilities}: {report:?}");
        let told = report.came_held.unwrap().words;
        assert!(told.contains("of which it has not had all"), "{capabilities}: {told}");
        way.server.change(|habits| habits.odd = None);
        way.a_day_passes();
        way.poller.must();
        assert!(way.server.inbox() == [large()], "{capabilities}");
    }
}

#[test]
fn servers_that_greet_log_in_or_open_a_folder_oddly_are_told_and_get_all_once_they_do_not() {
    use Comes::{Through, ToNothing};
    use Then::{Closes, GoesOn, Repeats};
    each_comes_through(
        USUAL,
        &[
            ("GREETING", "", Closes, ToNothing),
            ("GREETING", "+OK POP3 ready\r\n", GoesOn, ToNothing),
            ("GREETING", "* OK ", Repeats("endless"), ToNothing),
            ("GREETING", "", Repeats("* OK again\r\n"), ToNothing),
            ("GREETING", "* NO not today\r\n", GoesOn, ToNothing),
            ("AUTHENTICATE", "", Repeats("+ bW9yZQ==\r\n"), ToNothing),
            ("AUTHENTICATE", "P77 OK for somebody else\r\n", GoesOn, ToNothing),
            ("AUTHENTICATE", "TAG OK in\r\nTAG OK in\r\n", GoesOn, ToNothing),
            ("AUTHENTICATE", "* CAPABILITY ", Repeats("X-WORD "), ToNothing),
            ("AUTHENTICATE", "", Repeats("* 1 EXISTS\r\n"), ToNothing),
            ("AUTHENTICATE", "* CAPABILITY\r\nTAG OK\r\n", GoesOn, Through),
            ("STATUS", "TAG OK nothing to tell\r\n", GoesOn, ToNothing),
            ("STATUS", "* STATUS INBOX (UIDVALIDITY 0 UIDNEXT 0)\r\nTAG OK\r\n", GoesOn, Through),
            ("STATUS", "* STATUS INBOX (UIDVALIDITY 7 UIDNEXT 99999999999)\r\nTAG OK\r\n", GoesOn, ToNothing),
            ("STATUS", "* STATUS INBOX (UIDVALIDITY 7 UIDNEXT {9}\r\n", Closes, ToNothing),
            ("NAMESPACE", "* NAMESPACE NIL NIL NIL\r\nTAG OK\r\n", GoesOn, Through),
        ],
    );
}

#[test]
fn servers_that_show_a_folder_or_take_messages_oddly_are_told_and_get_all_once_they_do_not() {
    use Comes::{Through, ToNothing};
    use Then::{Closes, GoesOn, Repeats};
    each_comes_through(
        USUAL,
        &[
            ("EXAMINE", "", Repeats("* 1 RECENT\r\n"), ToNothing),
            ("EXAMINE", "TAG NO\r\n", GoesOn, Through),
            ("UID", "* 1 FETCH (UID 1 BODY[] {99999999999}\r\nx", Closes, ToNothing),
            ("UID", "* 1 FETCH (UID 1 BODY[] {4}\r\n", Repeats("x"), ToNothing),
            ("UID", "* 1 FETCH UID\r\n", Closes, ToNothing),
            ("UID", "* 1 FETCH (UID 4294967296 RFC822.SIZE -1 BODY[] NIL)\r\nTAG OK\r\n", GoesOn, Through),
            ("UID", "TAG BAD what is that\r\n", GoesOn, Through),
            ("APPEND", "", Closes, ToNothing),
            ("APPEND", "+ go on\r\nTAG NO [TOOBIG] no\r\n", Closes, ToNothing),
            ("APPEND", "* BYE [UNAVAILABLE] down\r\n", Closes, ToNothing),
            ("APPEND", "P9999 OK another one\r\n", GoesOn, ToNothing),
            ("APPEND", "* OK ", Repeats("still there "), ToNothing),
        ],
    );
}
