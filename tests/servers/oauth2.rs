//! Tokens at Dovecot, which asks an authorization server about each (RFC 7662): maildrop, mailbox and submission.

use std::fs;

use crate::support::authorization_server::AuthorizationServer;
use crate::support::dovecot::{Dovecot, Format};
use crate::support::mail_server::MailServer;
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::{Home, assert_same};
use crate::support::process::free_port;

const SCOPE: &str = "pop imap smtp offline_access";

/// A Dovecot that has tokens checked, with ports for IMAP and for submission, which goes on to another server.
struct Checked {
    tokens: AuthorizationServer,
    dovecot: Dovecot,
    imap: u16,
    submission: u16,
    relay: MailServer,
}

fn checked() -> Checked {
    let tokens = AuthorizationServer::start();
    let (imap, submission) = (free_port(), free_port());
    let relay = MailServer::start(&["8BITMIME", "SIZE", "PIPELINING"]);
    let directory = tempfile::tempdir().unwrap();
    let check = directory.keep().join("oauth2.conf");
    let text = format!(
        "introspection_mode = post\nintrospection_url = {}\nusername_attribute = username\n\
         active_attribute = active\nactive_value = true\n",
        tokens.url("introspect")
    );
    fs::write(&check, text).unwrap();
    let more = format!(
        "protocols = pop3 imap submission\nauth_mechanisms = oauthbearer xoauth2\n\
         passdb {{\n  driver = oauth2\n  mechanisms = oauthbearer xoauth2\n  args = {}\n}}\n\
         submission_relay_host = 127.0.0.1\nsubmission_relay_port = {}\nhostname = localhost\n\
         service imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = {imap}\n  }}\n  inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
         service submission-login {{\n  chroot =\n  inet_listener submission {{\n    port = {submission}\n  }}\n}}\n",
        check.display(),
        relay.port()
    );
    Checked { tokens, dovecot: Dovecot::start_with(Format::Maildir, 1, &more), imap, submission, relay }
}

impl Checked {
    /// Gives the keys of a login that u1 has made, shared by all that have them.
    fn keys(&self, home: &Home) -> String {
        let token = self.tokens.refresh_token("u1", SCOPE);
        let secret = home.write("refresh", &token);
        let keys = self.tokens.keys(&format!(", refresh_token: {{ file: '{}' }}", secret.display()));
        keys.replace("scope: pop offline_access", &format!("scope: {SCOPE}"))
    }
}

#[test]
fn dovecot_takes_the_tokens_of_a_maildrop_by_both_mechanisms_and_its_refusal_is_told_in_words() {
    let server = checked();
    server.dovecot.deliver("u1", b"Subject: 1\n\nbody\n");
    for mechanism in ["auto", "[oauthbearer]", "[xoauth2]"] {
        let home = Home::new();
        home.write("ca.pem", &server.dovecot.certificate.authority_pem);
        let configure = |keys: &str| {
            // What the authorities have in common is none: the token endpoint is on this machine, without TLS.
            home.configure(&format!(
                "accounts:\n  home: {{ host: 127.0.0.1, port: {}, tls_ca: ~/ca.pem, user: u1, auth: {mechanism}, \
                 oauth2: {keys}, deliver: {{ maildir: ~/Mail }} }}\n",
                server.dovecot.tls_port
            ));
        };
        configure(&server.keys(&home));
        home.must(&["sync"], 0);
        home.must(&["sync"], 0);
        assert_same(home.maildir("Mail"), vec![b"Subject: 1\n\nbody\n".to_vec()]);
        server.tokens.revoke_access();
        home.must(&["sync"], 0);
        // Somebody else's.
        let token = server.tokens.refresh_token("u2", SCOPE);
        configure(
            &server
                .tokens
                .keys(&format!(", refresh_token: {token}"))
                .replace("pop offline", "pop imap smtp offline"),
        );
        let ended = home.must(&["sync"], 77);
        let told = ended.stderr.contains("the server does not take the access token (");
        assert!(told, "{mechanism}: {}{}", ended.stderr, server.dovecot.log());
    }
    assert_eq!(server.tokens.count("refresh_token"), 3 * 3);
}

#[test]
fn a_login_of_dovecots_lets_messages_into_a_mailbox_and_through_submission() {
    let server = checked();
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    maildrop.put("one", b"From: <a@example.org>\r\nMessage-ID: <1@a>\r\nSubject: 1\r\n\r\nbody\r\n".to_vec());
    let home = Home::new();
    let keys = server.keys(&home);
    let account = |name: &str, deliver: &str| {
        format!(
            "  {name}: {{ host: 127.0.0.1, port: {}, tls: none, auth: [user-pass], user: alice, maildrop_id: {name}, \
             password: correct horse, deliver: {deliver} }}\n",
            maildrop.port()
        )
    };
    let imap = format!(
        "{{ imap: {{ host: 127.0.0.1, port: {}, tls: none, user: u1, oauth2: {keys} }} }}",
        server.imap
    );
    let smtp = format!(
        "{{ smtp: {{ host: 127.0.0.1, port: {}, user: u1, oauth2: {keys}, to: [b@example.org] }} }}",
        server.submission
    );
    home.configure(&format!("accounts:\n{}{}", account("box", &imap), account("way", &smtp)));
    home.must(&["sync"], 0);
    assert_eq!(
        (server.dovecot.arrived("u1"), server.relay.arrived().len()),
        (1, 1),
        "{}",
        server.dovecot.log()
    );
    assert_eq!(server.tokens.count("refresh_token"), 1, "both share a login");
    // What was revoked is renewed once, for both.
    server.tokens.revoke_access();
    maildrop.put("two", b"From: <a@example.org>\r\nMessage-ID: <2@a>\r\nSubject: 2\r\n\r\nbody\r\n".to_vec());
    home.must(&["sync"], 0);
    assert_eq!(
        (server.dovecot.arrived("u1"), server.relay.arrived().len()),
        (2, 2),
        "{}",
        server.dovecot.log()
    );
    assert_eq!(server.tokens.count("refresh_token"), 2);
    server.tokens.revoke_logins();
    maildrop
        .put("three", b"From: <a@example.org>\r\nMessage-ID: <3@a>\r\nSubject: 3\r\n\r\nbody\r\n".to_vec());
    let ended = home.must(&["sync", "box"], 77);
    let told =
        ["the provider of u1's access tokens refuses one", "server: invalid_grant: Token has been expired"];
    told.iter().for_each(|words| assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr));
}
