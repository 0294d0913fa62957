//! What a mailbox refuses: the message, the target as a whole, or its log-in.

use postrider::testing::failure::Class;

use crate::imap::{LITERALS, Way, message};
use crate::smtp::target;
use crate::support::imap_server::{Drop, Habits};
use crate::support::postrider::Home;

#[test]
fn a_goodbye_tells_as_much_as_an_answer() {
    for (bye, class, held) in [
        ("* BYE [OVERQUOTA] full", Class::Target, 0),
        ("* BYE [EXPIRED] password", Class::Credentials, 0),
        ("* BYE [UNAVAILABLE] later", Class::Target, 0),
    ] {
        let way = Way::new(Habits { append: Some(bye), ..Habits::default() });
        way.put(0..3);
        let report = way.poller.poll();
        let failure = report.failure.as_ref().unwrap_or_else(|| panic!("{bye}: {report:?}"));
        assert_eq!((failure.class, report.held), (class, held), "{bye}: {failure}");
        assert!(failure.to_string().contains(&bye[2..]), "{failure}");
    }
    let way = Way::new(Habits { log_in: Some("* BYE [AUTHENTICATIONFAILED] no"), ..Habits::default() });
    way.put(0..1);
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Credentials, "{failure}");
    way.poller.poll();
    assert_eq!(way.server.connections(), 1, "the refusal is remembered");
}

#[test]
fn a_server_that_says_the_password_again_is_not_quoted() {
    for answer in ["NO unknown: AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=", "NO 'bob' 'secret' is wrong"] {
        let way = Way::new(Habits { log_in: Some(answer), ..Habits::default() });
        way.put(0..1);
        let said = format!("{:?}", way.poller.poll());
        assert!(said.contains("[secret]") || said.contains("91, 115, 101, 99"), "{said}");
        assert!(!said.contains("AGJvYgBzZWNyZXQ") && !said.contains("'secret'"), "{said}");
    }
}

#[test]
fn login_is_not_sent_where_the_server_disables_it() {
    let habits =
        Habits { greeting: Some("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hello"), ..Habits::default() };
    let way = Way::with(habits, ", auth: [user-pass]", "");
    way.put(0..1);
    let failure = way.poller.poll().failure.unwrap();
    assert!(failure.to_string().contains("server does not take LOGIN (LOGINDISABLED)"), "{failure}");
    assert_eq!(way.server.count("LOGIN"), 0);
}

#[test]
fn a_log_in_that_is_refused_in_the_middle_is_remembered_for_all_folders() {
    let mut way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), ..Habits::default() });
    way.put(0..4);
    way.server.change(|habits| habits.refused_from = 2);
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Credentials, "{failure}");
    way.poller.account.deliver = vec![target(&way.server.target(", folder: Other")).into()];
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!((failure.class, way.server.connections()), (Class::Credentials, 2), "{failure}");
    way.server.change(|habits| habits.refused_from = usize::MAX);
    way.poller.account.deliver = vec![target(&way.server.target("")).into()];
    way.a_day_passes();
    way.poller.must();
    way.assert_once(0..4, "revoked in the middle");
}

#[test]
fn refusals_are_the_messages_or_the_targets_by_their_codes() {
    for (answer, class, held, words) in [
        ("NO [TOOBIG] no", Class::Message, 3, "NO [TOOBIG] no"),
        ("BAD bare LF", Class::Message, 3, "BAD bare LF"),
        ("NO [OVERQUOTA] full", Class::Target, 0, "server: NO [OVERQUOTA] full"),
        ("NO [UNAVAILABLE] later", Class::Target, 0, "server: NO [UNAVAILABLE] later"),
        ("NO [LIMIT] enough", Class::Target, 0, "server: NO [LIMIT] enough"),
        ("NO [INUSE] busy", Class::Target, 0, "server: NO [INUSE] busy"),
        ("NO [SERVERBUG] oops", Class::Target, 0, "server: NO [SERVERBUG] oops"),
        ("NO [NOPERM] not yours", Class::Credentials, 0, "server: NO [NOPERM] not yours"),
        ("NO [EXPIRED] app password", Class::Credentials, 0, "server: NO [EXPIRED] app password"),
    ] {
        for capabilities in LITERALS {
            let way = Way::new(Habits { capabilities, append: Some(answer), ..Habits::default() });
            way.put(0..3);
            let report = way.poller.poll();
            let failure = report.failure.as_ref().unwrap_or_else(|| panic!("{answer}: {report:?}"));
            assert_eq!((failure.class, report.newly_held), (class, held), "{answer}: {report:?}");
            assert!(failure.to_string().contains(words), "{answer}: {failure}");
            assert_eq!(way.maildrop.uids().len(), 3);
        }
    }
}

#[test]
fn one_message_that_is_refused_stops_nobody() {
    for answer in ["NO [CANNOT] this one", "NO what", "BAD literal"] {
        let habits = Habits { append_of: Some(("of 1\r\n", answer)), ..Habits::default() };
        let way = Way::new(habits);
        way.put(0..4);
        let report = way.poller.poll();
        assert_eq!((report.delivered, report.held), (3, 1), "{answer}: {report:?}");
        assert_eq!(way.maildrop.uids(), ["1"]);
    }
}

#[test]
fn a_server_that_says_no_to_everything_without_a_reason_is_in_trouble_itself() {
    let way = Way::new(Habits { append: Some("NO [X] computer says no"), ..Habits::default() });
    way.put(0..30);
    let report = way.poller.poll();
    let failure = report.failure.as_ref().unwrap();
    assert_eq!((failure.class, report.held), (Class::Target, 0), "{failure} {report:?}");
}

#[test]
fn messages_that_are_larger_than_the_server_takes_are_not_sent() {
    let capabilities = "IMAP4rev1 LITERAL+ APPENDLIMIT=300";
    let way = Way::new(Habits { capabilities, ..Habits::default() });
    way.put(0..1);
    way.maildrop.put("large", [message(1), vec![b'x'; 300], b"\r\n".to_vec()].concat());
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (1, 1), "{report:?}");
    assert_eq!(way.server.count("APPEND"), 1);
    // One that has a limit for each folder, and is asked for it.
    let capabilities = "IMAP4rev1 LITERAL+ APPENDLIMIT";
    let way = Way::new(Habits { capabilities, limit: Some(300), ..Habits::default() });
    way.put(0..1);
    way.maildrop.put("large", [message(1), vec![b'x'; 300], b"\r\n".to_vec()].concat());
    let report = way.poller.poll();
    assert_eq!((report.delivered, report.held), (1, 1), "{report:?}");
    assert_eq!(way.server.count("APPEND"), 1);
}

#[test]
fn a_log_in_that_is_refused_is_the_targets_credentials_unless_it_speaks_of_a_lock() {
    for (answer, class) in [
        ("NO [AUTHENTICATIONFAILED] Invalid credentials", Class::Credentials),
        ("NO [EXPIRED] password", Class::Credentials),
        ("NO no", Class::Credentials),
        ("NO [UNAVAILABLE] try later", Class::Target),
        ("NO Too many simultaneous connections", Class::Target),
    ] {
        let way = Way::new(Habits { log_in: Some(answer), ..Habits::default() });
        way.put(0..1);
        let failure = way.poller.poll().failure.unwrap();
        assert_eq!(failure.class, class, "{failure}");
        assert!(failure.to_string().contains("server refused the log-in as bob (PLAIN)"), "{failure}");
        assert_eq!(way.maildrop.uids().len(), 1);
    }
    let busy = Way::new(Habits { greeting: Some("* BYE busy"), ..Habits::default() });
    busy.put(0..1);
    let failure = busy.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target, "{failure}");
}

#[test]
fn an_app_password_that_is_revoked_in_the_middle_loses_nothing() {
    let mut way = Way::new(Habits { drops: Some((2, Drop::BeforeOk)), ..Habits::default() });
    way.put(0..4);
    // The first connection has logged in when it is refused from then on.
    way.poller.account.deliver = vec![target(&way.server.target("")).into()];
    way.server.change(|habits| habits.down_after = Some(2));
    let failure = way.poller.poll().failure.unwrap();
    assert_eq!(failure.class, Class::Target, "{failure}");
    way.server.change(|habits| {
        habits.down_after = None;
        habits.log_in = Some("NO [AUTHENTICATIONFAILED] revoked");
    });
    way.a_day_passes();
    assert_eq!(way.poller.poll().failure.unwrap().class, Class::Credentials);
    way.server.change(|habits| habits.log_in = None);
    way.a_day_passes();
    way.poller.must();
    way.assert_once(0..4, "revoked in the middle");
}

#[test]
fn a_goodbye_that_refuses_one_message_among_several_holds_that_one_alone() {
    for answer in ["* BYE [TOOBIG] too large", "* BYE gone"] {
        let mut way = Way::new(Habits { append_of: Some(("of 2\r\n", answer)), ..Habits::default() });
        way.put(0..6);
        let report = way.poller.poll();
        assert_eq!((report.delivered, report.held), (5, 1), "{answer}: {report:?}");
        assert_eq!(way.maildrop.uids(), ["2"]);
        way.a_day_passes();
        way.server.change(|habits| habits.append_of = None);
        way.poller.must();
        way.assert_once(0..6, answer);
    }
}

#[test]
fn no_trace_shows_a_password_that_the_server_says_again() {
    for answer in ["NO unknown: AUTHENTICATE PLAIN AGJvYgBzZWNyZXQ=", "* BYE 'bob' 'secret' is wrong"] {
        let way = Way::new(Habits { log_in: Some(answer), ..Habits::default() });
        let home = Home::new();
        home.configure(&format!(
            "accounts:\n  a: {{host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none, auth: [user-pass], \
             deliver: {}}}\n",
            way.maildrop.port(),
            way.server.target("")
        ));
        let ended = home.run(&["-vvv", "sync"]);
        assert!(ended.stderr.contains("[secret]"), "{}", ended.stderr);
        assert!(
            !ended.stderr.contains("AGJvYgBzZWNyZXQ") && !ended.stderr.contains("'secret'"),
            "{}",
            ended.stderr
        );
    }
}
