//! `doctor` against servers, and what it says where something is wrong.

use serde_json::Value;

use crate::support::authorization_server::AuthorizationServer;
use crate::support::dovecot::{Dovecot, Format, PASSWORD};
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::mails;
use crate::support::postrider::Home;
use crate::support::process::free_port;

/// The steps that a run of `doctor --json` told: where, name, whether it went well, and all that was said of it.
fn steps(home: &Home, status: i32) -> Vec<(String, String, bool, String)> {
    let ended = home.must(&["doctor", "--json"], status);
    assert_eq!(ended.stderr, "", "what is found is a result");
    let step = |line: &str| {
        let step: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
        let words = ["seen", "server", "hint"].map(text).join(" | ");
        (text("at"), text("step"), step["ok"].as_bool().unwrap(), words)
    };
    ended.stdout.lines().map(step).collect()
}

fn names(steps: &[(String, String, bool, String)]) -> Vec<&str> {
    steps.iter().map(|(_, name, ..)| name.as_str()).collect()
}

/// A home whose account is at this Dovecot over TLS.
fn home(server: &Dovecot, password: &str, more: &str, deliver: &str) -> Home {
    let home = Home::new();
    let ca = home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  home:\n    {{ host: localhost, port: {}, user: u1, password: '{password}', tls_ca: {}, {more}\n     \
         deliver: {deliver} }}\n",
        server.tls_port,
        ca.display()
    ));
    home
}

#[test]
fn each_step_is_told_with_what_was_seen_and_nothing_is_changed() {
    let server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(3));
    let target = ImapServer::start(Habits::default());
    let home = home(&server, PASSWORD, "keep: none,", &target.target(""));
    let steps = steps(&home, 0);
    let maildrop = [
        "password",
        "name",
        "connection",
        "tls",
        "greeting",
        "capabilities",
        "mechanism",
        "log-in",
        "capabilities",
        "listing",
        "mail",
    ];
    let mailbox = [
        "password",
        "name",
        "connection",
        "greeting",
        "capabilities",
        "mechanism",
        "log-in",
        "capabilities",
        "folder",
        "directory",
    ];
    assert_eq!(names(&steps), [&maildrop[..], &mailbox[..]].concat());
    assert!(steps.iter().all(|(.., ok, _)| *ok));
    let said = |name: &str| &steps.iter().find(|step| step.1 == name).unwrap().3;
    let pin = said("tls").split("tls_pin: ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(said("tls").starts_with("TLSv1.3, ") && said("tls").contains("certificate for localhost"));
    assert!(said("tls").contains(" days left") && said("tls").contains("chain: "), "{}", said("tls"));
    assert!(said("mechanism").starts_with("PLAIN of PLAIN"), "{}", said("mechanism"));
    assert!(said("listing").starts_with("3 messages, "), "{}", said("listing"));
    assert!(said("mail").starts_with("3 new "), "{}", said("mail"));
    assert_eq!((target.inbox().len(), server.left("u1")), (0, 3));
    // The pin is ready to be pasted.
    let pinned = self::home(&server, PASSWORD, &format!("tls_pin: '{pin}',"), "{ maildir: ~/Mail }");
    pinned.must(&["sync"], 0);
    // For people it is the same, and what is known of the server hides none of it.
    let told = pinned.must(&["doctor", "home"], 0).stdout;
    for words in
        ["home: u1 at localhost:", "capabilities", "SASL", "after the log-in", "0 new", "target maildir:"]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains(PASSWORD) && !told.contains("FAILED"), "{told}");
}

#[test]
fn a_token_is_told_with_its_end_and_scopes_and_a_starttls_server_by_what_it_says_before() {
    let tokens = AuthorizationServer::start();
    let server =
        Maildrop::start(Settings { tls: Protection::Stls, ..Settings::with_tokens(tokens.check("pop")) });
    let home = Home::new();
    let ca = home.write("ca.pem", &server.certificate.authority_pem);
    let token = tokens.refresh_token("alice", "pop offline_access");
    let keys = tokens.keys(&format!(", refresh_token: {token}"));
    let target = ImapServer::start(Habits::default());
    home.configure(&format!(
        "accounts:\n  home: {{ host: 127.0.0.1, port: {}, tls: starttls, tls_ca: '{}', user: alice, oauth2: {keys}, \
         deliver: {} }}\n",
        server.port(),
        ca.display(),
        target.target("")
    ));
    let first = steps(&home, 0);
    let expected =
        ["provider", "name", "connection", "token", "name", "connection", "greeting", "capabilities", "tls"];
    assert_eq!(names(&first)[..9], expected);
    assert_eq!(names(&first)[9..12], ["capabilities", "mechanism", "log-in"]);
    assert_eq!(first[3].3, "had just now; good for 60 minutes\nscopes: pop offline_access |  | ");
    assert!(
        first[7].3.starts_with("before TLS: ") && first[9].3.starts_with("before the log-in: "),
        "{first:?}"
    );
    let second = steps(&home, 0);
    assert_eq!(names(&second)[..3], ["token", "name", "connection"]);
    assert!(second[0].3.starts_with("kept from an earlier poll; good for "), "{second:?}");
    let told = home.must(&["doctor"], 0).stdout;
    assert!(told.contains("scopes: pop offline_access") && !told.contains("access-"), "{told}");
}

#[test]
fn the_step_that_fails_says_what_to_do_and_the_target_is_looked_at_all_the_same() {
    let server = Dovecot::start(Format::Maildir, 1);
    let nobody = free_port();
    let smtp = format!("{{ smtp: {{ host: 127.0.0.1, port: {nobody}, to: [a@example.org] }} }}");
    let refused = home(&server, "wrong", "", &smtp);
    let steps_of_refused = steps(&refused, 77);
    let failed: Vec<_> = steps_of_refused.iter().filter(|(.., ok, _)| !ok).collect();
    assert_eq!(failed.len(), 2, "{steps_of_refused:?}");
    assert!(failed[0].1.starts_with("log in as u1"), "{failed:?}");
    assert!(failed[0].3.contains("Authentication failed") && failed[0].3.contains("check user and password"));
    assert!(
        failed[1].0.contains(&nobody.to_string()) && failed[1].3.contains("connection refused"),
        "{failed:?}"
    );
    // It is no log-in that nobody asked for: a poll waits.
    refused.must(&["sync"], 77);

    let untrusted = Home::new();
    untrusted.configure(&format!(
        "accounts:\n  home: {{ host: localhost, port: {}, user: u1, password: x, deliver: {{ mbox: /nowhere/at/all }} }}\n",
        server.tls_port
    ));
    let steps = steps(&untrusted, 75);
    let failed: Vec<_> = steps.iter().filter(|(.., ok, _)| !ok).collect();
    assert!(failed[0].3.contains("not trusted") && failed[0].3.contains("tls_pin: sha256:"), "{failed:?}");
    assert!(failed[1].3.contains("there is no such directory"), "{failed:?}");
    let told = untrusted.must(&["doctor"], 75).stdout;
    assert_eq!(told.matches("FAILED").count(), 2, "{told}");
    assert_eq!(told.matches("what to do: ").count(), 1, "{told}");
}
