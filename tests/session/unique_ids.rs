//! Conversations about listings: unique-ids that change, come back or are refused, sizes, lines without end.

use crate::support::dialogue::*;
use crate::support::maildrop::{Fault, Settings, What};

#[test]
fn endless_lines_and_listings_are_given_up_with_a_word() {
    for (endless, words) in
        [("!endless 1", "a line of more than"), ("!endless 1 a\\r\\n", "a listing without end")]
    {
        let script = format!("{LOG_IN}S: +OK\n{endless}");
        let (server, home) = scripted(&[&[&script]], "");
        let ended = home.must(&["sync"], 75);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        drop(server);
    }
}

#[test]
fn what_a_listing_should_not_hold_is_read_as_far_as_it_means_anything() {
    let listing = "
        S: +OK
        S: 1 \\t  same uid\\xff
        S: 2 same uid\\xff
        S: garbage
        S: 3 fine
        S: .
        S: +OK
        S: 1 14
        S: 2 %!d(float64=5461)
        S: 3 -7
        S: .
        C: RETR 1
        C: RETR 2
        C: RETR 3
        S: +OK
        S: A: 1
        S:
        S: .
        S: +OK
        S: A: 2
        S:
        S: .
        S: +OK
        S: A: 3
        S:
        S: .
        C: NOOP
        S: +OK
    ";
    let again = "
        S: +OK
        S: 1 same uid\\xff
        S: 2 same uid\\xff
        S: 3 fine
        S: .
        S: +OK
        S: .
        C: TOP 2 0
        S: +OK
        S: A: 2
        S:
        S: .
    ";
    let (server, home) = scripted(&[&[LOG_IN, listing, GOODBYE], &[KNOWN_LOG_IN, again, GOODBYE]], "");
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    server.finish();
    assert_eq!(home.maildir("Mail"), [b"A: 1\n\n", b"A: 2\n\n", b"A: 3\n\n"]);
}

#[test]
fn a_maildrop_whose_unique_ids_all_changed_is_not_fetched_again() {
    let (server, home) = honest(Settings::default(), "");
    (0..30).for_each(|i| server.put(&format!("old-{i}"), mail(i)));
    home.must(&["sync"], 0);
    (0..30).for_each(|i| server.rename(&format!("old-{i}"), &format!("new-{i}")));
    server.put("new-30", mail(30));
    let sent = server.count(|what| matches!(what, What::Sent(_)));
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 31);
    assert_eq!(
        server.count(|what| matches!(what, What::Sent(_))) - sent,
        1,
        "messages were downloaded again"
    );
    assert_eq!(home.must(&["sync"], 0).stderr, "");
}

#[test]
fn a_listing_that_is_empty_for_once_forgets_nothing() {
    let empty = "S: +OK\nS: .\nS: +OK\nS: .\n";
    let (server, home) = scripted(
        &[
            &[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE],
            &[KNOWN_LOG_IN, empty, GOODBYE],
            &[KNOWN_LOG_IN, ONE_LISTED, ONE_ASKED, GOODBYE],
            &[KNOWN_LOG_IN, ONE_LISTED, GOODBYE],
        ],
        "",
    );
    (0..4).for_each(|_| drop(home.must(&["sync"], 0)));
    server.finish();
    assert_eq!(home.maildir("Mail").len(), 1);
}

#[test]
fn a_unique_id_used_again_for_another_message_is_fetched() {
    let again = "
        S: +OK
        S: 1 uid-1
        S: .
        S: +OK
        S: 1 15
        S: .
        C: TOP 1 0
        S: +OK
        S: A: b
        S:
        S: .
        C: RETR 1
        S: +OK
        S: A: b
        S:
        S: other
        S: .
    ";
    let (server, home) =
        scripted(&[&[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE], &[KNOWN_LOG_IN, again, GOODBYE]], "");
    (0..2).for_each(|_| drop(home.must(&["sync"], 0)));
    server.finish();
    assert_eq!(home.maildir("Mail"), [b"A: b\n\nother\n".to_vec(), ONE.to_vec()]);
}

#[test]
fn uidl_that_is_refused_for_once_is_no_reason_to_fetch_anything() {
    let refused = "S: -ERR busy\nS: +OK\nS: 1 14\nS: .\nC: UIDL\nS: -ERR busy\nC: LIST\nS: +OK\nS: 1 14\nS: .\n!expect-close";
    let (server, home) =
        scripted(&[&[LOG_IN, ONE_LISTED, ONE_RETRIEVED, GOODBYE], &[KNOWN_LOG_IN, refused]], "");
    home.must(&["sync"], 0);
    let ended = home.must(&["sync"], 75);
    server.finish();
    assert!(ended.stderr.contains("ask for unique-ids (UIDL): refused"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: the server announces UIDL"), "{}", ended.stderr);
}

#[test]
fn a_renumbered_maildrop_is_known_again_though_the_first_comparison_was_cut_off_or_a_limit_was_set() {
    let (server, home) = honest(Settings::default(), "");
    (0..30).for_each(|i| server.put(&format!("old-{i}"), mail(i)));
    home.must(&["sync"], 0);
    (0..30).for_each(|i| server.rename(&format!("old-{i}"), &format!("new-{i}")));
    let sent = server.count(|what| matches!(what, What::Sent(_)));
    // AUTH, UIDL and LIST come first, and then a TOP for each message.
    server.set_fault(Fault::CutInsteadOf(10));
    home.must(&["sync", "--limit", "5"], 0);
    assert_eq!(server.count(|what| matches!(what, What::Faulted(_))), 1);
    home.must(&["sync"], 0);
    assert_eq!(home.maildir("Mail").len(), 30);
    assert_eq!(server.count(|what| matches!(what, What::Sent(_))), sent, "messages were downloaded again");
}

#[test]
fn sizes_that_are_refused_for_once_end_the_poll() {
    let refused = "S: +OK\nS: 1 uid-1\nS: .\nS: -ERR busy\n";
    let again = "C: UIDL\nS: +OK\nS: 1 uid-1\nS: .\nC: LIST\nS: -ERR busy\n!expect-close";
    let (server, home) = scripted(&[&[LOG_IN, refused, again]], "");
    let ended = home.must(&["sync"], 75);
    server.finish();
    assert!(ended.stderr.contains("ask for sizes (LIST): refused"), "{}", ended.stderr);
}
