//! Catch-all maildrops, whose recipients a header tells, and the `Received` line on top of a message.

use std::fs;

use crate::support::mail_server::MailServer;
use crate::support::maildrop::{Maildrop, Settings};
use crate::support::postrider::Home;

const EXTENSIONS: &[&str] = &["PIPELINING", "SIZE", "8BITMIME"];

fn home(server: &Maildrop, keys: &str) -> Home {
    let home = Home::new();
    home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  home:\n    host: 127.0.0.1\n    port: {}\n    user: alice\n    password: correct horse\n    \
         tls_ca: ~/ca.pem\n{keys}",
        server.port()
    ));
    home
}

fn put(server: &Maildrop, uid: &str, header: &str) {
    server.put(uid, format!("{header}Subject: {uid}\r\n\r\nbody of {uid}\r\n").into_bytes());
}

fn delivered_files(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.path("Mail/new")).unwrap();
    entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn each_message_goes_to_whom_the_providers_header_names_and_to_nobody_else() {
    let (maildrop, server) = (Maildrop::start(Settings::default()), MailServer::start(EXTENSIONS));
    put(&maildrop, "one", "X-Original-To: mbox-alice@example.org\r\nTo: carol@example.org\r\n");
    put(&maildrop, "two", "X-Original-To: sales@example.org,\r\n <bob@example.org>\r\n");
    put(&maildrop, "forged", "X-Original-To: bob@example.org\r\nX-Original-To: carol@example.org\r\n");
    put(&maildrop, "missing", "To: carol@example.org\r\nCc: dave@example.org\r\n");
    put(&maildrop, "unknown", "X-Original-To: eve@elsewhere.example\r\n");
    put(&maildrop, "doubtful", "X-Original-To: bob@example.org (or carol@example.org)\r\n");
    let home = home(
        &maildrop,
        &format!(
            "    keep: none\n    deliver:\n      smtp:\n        host: 127.0.0.1\n        port: {}\n        to:\n          \
             header: X-Original-To\n          strip_prefix: mbox-\n          domains: [example.org]\n          map: {{ sales: \
             chief@home.example }}\n",
            server.port()
        ),
    );
    let told = home.must(&["sync"], 75).stderr;
    assert!(told.contains(": missing: held: ") && told.contains("; 2 more held"), "{told}");
    let told = home.must(&["held", "list", "home"], 0).stdout;
    for (uid, why) in [
        ("missing", "it has no X-Original-To header, which tells the recipients"),
        ("unknown", "names eve@elsewhere.example, which neither `domains` nor `map` has"),
        ("doubtful", "names what is no address: bob@example.org (or carol@example.org)"),
    ] {
        let line = told.lines().find(|line| line.contains(&format!(" {uid}: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{uid}: {told}");
    }
    let arrived: Vec<(Vec<String>, String)> = server
        .arrived()
        .into_iter()
        .map(|message| (message.rcpt, String::from_utf8(message.octets).unwrap()))
        .collect();
    let of = |uid: &str| -> Vec<&[String]> {
        let body = format!("body of {uid}\r\n");
        arrived.iter().filter(|(_, text)| text.ends_with(&body)).map(|(rcpt, _)| rcpt.as_slice()).collect()
    };
    assert_eq!(of("one"), [["<alice@example.org>".to_owned()]]);
    assert_eq!(of("two"), [["<chief@home.example>".to_owned(), "<bob@example.org>".to_owned()]]);
    assert_eq!(of("forged"), [["<bob@example.org>".to_owned()]]);
    assert_eq!(arrived.len(), 3);
    assert_eq!(maildrop.uids(), ["missing", "unknown", "doubtful"], "what is held stays on the server");
}

#[test]
fn what_goes_to_a_mail_server_has_a_received_line_unless_it_is_switched_off() {
    for (key, has_one) in [("", true), ("    received: true\n", true), ("    received: false\n", false)] {
        let (maildrop, server) = (Maildrop::start(Settings::default()), MailServer::start(EXTENSIONS));
        put(&maildrop, "1(a", "Received: from elsewhere\r\n by nowhere; Mon, 23 Nov 2026 15:39:15 +0000\r\n");
        let target = format!(
            "{key}    deliver: {{ smtp: {{ host: 127.0.0.1, port: {}, to: [bob] }} }}\n",
            server.port()
        );
        home(&maildrop, &target).must(&["sync"], 0);
        let octets = String::from_utf8(server.arrived()[0].octets.clone()).unwrap();
        let theirs = octets.find("Received: from elsewhere\r\n").unwrap();
        let ours = &octets[..theirs];
        if !has_one {
            assert_eq!(ours, "");
            continue;
        }
        assert!(ours.starts_with("Received: from [127.0.0.1]\r\n by "), "{ours}");
        assert!(
            ours.contains(" with POP3\r\n (postrider; account home;\r\n unique-id 1\\(a);\r\n "),
            "{ours}"
        );
        let (_, time) = ours.trim_end().rsplit_once("\r\n ").unwrap();
        let time = jiff::fmt::rfc2822::parse(time).unwrap().timestamp();
        let age = jiff::Timestamp::now().duration_since(time);
        assert!((0..60).contains(&age.as_secs()), "{age:?}");
    }
}

#[test]
fn a_message_in_a_maildir_is_known_again_though_its_received_line_is_another() {
    let maildrop = Maildrop::start(Settings::default());
    (0..30).for_each(|number| put(&maildrop, &number.to_string(), ""));
    // Larger than what is compared at once.
    maildrop.put("large", format!("Subject: large\r\n\r\n{}", "line\r\n".repeat(50_000)).into_bytes());
    let target = "    deliver: { maildir: ~/Mail }\n";
    let home = home(&maildrop, &format!("    received: true\n{target}"));
    home.must(&["sync"], 0);
    let first = delivered_files(&home);
    assert_eq!(first.len(), 31);
    assert!(first.iter().all(|text| text.starts_with("Received: from [127.0.0.1]\n by ")));
    // The account's name stands in the line, so it becomes longer; then there is none at all.
    let config = fs::read_to_string(home.path("config/postrider/config.yaml")).unwrap();
    for other in
        [config.replace("  home:", "  another:"), config.replace("received: true", "received: false")]
    {
        fs::remove_dir_all(home.path("state")).unwrap();
        home.configure(&other);
        home.must(&["sync"], 0);
        let mut again = delivered_files(&home);
        let mut first = first.clone();
        again.sort();
        first.sort();
        assert!(again == first, "{} files", again.len());
    }
    // The same name, and another text below the line, is another message.
    maildrop.put("large", b"Subject: another\r\n\r\n".to_vec());
    fs::remove_dir_all(home.path("state")).unwrap();
    home.must(&["sync"], 0);
    assert_eq!(delivered_files(&home).len(), 32);
}

#[test]
fn a_header_too_long_to_be_seen_whole_holds_the_message_and_no_forged_field_wins() {
    let (maildrop, server) = (Maildrop::start(Settings::default()), MailServer::start(EXTENSIONS));
    let padding = format!("X-Padding: {}\r\n", "x".repeat(900)).repeat(80);
    let forged = "X-Original-To: carol@example.org\r\n";
    put(&maildrop, "long", &format!("{forged}{padding}X-Original-To: alice@example.org\r\n"));
    put(&maildrop, "short", &format!("{forged}X-Original-To: alice@example.org\r\n"));
    let home = home(
        &maildrop,
        &format!(
            "    deliver:\n      smtp:\n        host: 127.0.0.1\n        port: {}\n        to: {{ header: X-Original-To, \
             occurrence: last }}\n",
            server.port()
        ),
    );
    let told = home.must(&["sync"], 75).stderr;
    assert!(
        told.contains(": long: held: its header is too long to tell which X-Original-To counts"),
        "{told}"
    );
    let arrived: Vec<_> = server.arrived().into_iter().map(|message| message.rcpt).collect();
    assert_eq!(arrived, [["<alice@example.org>".to_owned()]]);
}
