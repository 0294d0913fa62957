//! TLS and log-in at a server by SMTP.

use postrider::testing::delivery::Outcome;
use postrider::testing::failure::Class;

use crate::sink::deliver;
use crate::smtp::{COMMANDS, MESSAGE, TEXT, failed, open, open_as};
use crate::support::mail_server::smtp;
use crate::support::scripted::{Script, ScriptedServer};

#[tokio::test]
async fn nothing_that_came_before_tls_is_believed_after_it() {
    let hello = "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250 STARTTLS\nC: STARTTLS\n";
    let script = format!("{hello}S- 220 go\\r\\n250-evil\\r\\n250 AUTH PLAIN\\r\\n\n!expect-close\n");
    let server = ScriptedServer::start([Script::parse("forged", &script)]);
    let keys = format!(", tls: starttls, tls_pin: {}", server.certificate.pin());
    let (what, said, _) = failed(open(&smtp(server.port(), &keys)).await);
    assert!(what.contains("sent something before TLS was started"), "{what}");
    assert_eq!(said.as_deref(), Some("250-evil"));
    server.finish();
    let script = format!(
        "{hello}S: 220 go\n!tls\nC: EHLO *\nS: 250-test\nS: 250 PIPELINING\n{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}S: 250 done\nC: QUIT\nS: 221 bye\n"
    );
    let server = ScriptedServer::start([Script::parse("honest", &script)]);
    let keys = format!(", tls: starttls, tls_pin: {}", server.certificate.pin());
    let sink = open(&smtp(server.port(), &keys)).await.unwrap();
    assert_eq!(deliver(&sink, &[("1", MESSAGE)]).await.unwrap(), [Outcome::Delivered]);
    sink.close().await;
    server.finish();
}

#[tokio::test]
async fn a_server_without_starttls_or_with_a_wrong_certificate_gets_nothing() {
    let script = "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250 PIPELINING\n!expect-close\n";
    let server = ScriptedServer::start([Script::parse("none", script)]);
    let (what, _, _) = failed(open(&smtp(server.port(), ", tls: starttls")).await);
    assert_eq!(what, "server does not offer STARTTLS");
    server.finish();
    let server = ScriptedServer::start([Script::parse("wrong", "!tls refused\n")]);
    let wrong = format!(", tls: implicit, tls_pin: 'sha256:{}'", "0".repeat(64));
    let (what, _, class) = failed(open(&smtp(server.port(), &wrong)).await);
    assert!(what.contains("tls_pin"), "{what}");
    assert_eq!(class, Class::Target);
    server.finish();
}

#[tokio::test]
async fn log_in_takes_what_the_server_offers() {
    let hello =
        |auth: &str| format!("S: 220 test\nC: EHLO *\nS: 250-test\nS: 250-PIPELINING\nS: 250 AUTH {auth}\n");
    let keys = ", user: alice, password: { env: UNUSED }";
    let plain = "C: AUTH PLAIN AGFsaWNlAHMzY3JldA==\n";
    let rows = [
        (format!("{}{plain}S: 235 ok\nC: QUIT\nS: 221 bye\n", hello("PLAIN LOGIN")), None),
        (
            format!(
                "{}C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YWxpY2U=\nS: 334 UGFzc3dvcmQ6\nC: czNjcmV0\nS: 235 ok\nC: QUIT\nS: 221 bye\n",
                hello("LOGIN")
            ),
            None,
        ),
        (
            format!("{}{plain}S: 535-5.7.8 no\nS: 535 5.7.8 way\n", hello("PLAIN")),
            Some(("server refused the log-in as alice (PLAIN)", Class::Credentials)),
        ),
        (
            format!("{}{plain}S: 454 4.7.0 busy\n", hello("PLAIN")),
            Some(("server refused the log-in as alice (PLAIN)", Class::Target)),
        ),
        (
            hello("GSSAPI"),
            Some(("server offers no way to log in that is known here (GSSAPI)", Class::Target)),
        ),
    ];
    for (script, failure) in rows {
        let server = ScriptedServer::start([Script::parse("auth", &script)]);
        let opened = open_as(&smtp(server.port(), keys), Some("s3cret")).await;
        match failure {
            None => opened.unwrap().close().await,
            Some((expected, expected_class)) => {
                let (what, _, class) = failed(opened);
                assert_eq!((what.as_str(), class), (expected, expected_class));
            }
        }
        server.finish();
    }
}

#[tokio::test]
async fn scram_believes_only_a_server_that_knows_the_password() {
    let script = "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250 AUTH SCRAM-SHA-256 PLAIN\nC: AUTH SCRAM-SHA-256 *\nS: 235 welcome\n";
    let server = ScriptedServer::start([Script::parse("scram", script)]);
    let keys = ", user: alice, password: { env: UNUSED }";
    let (what, _, _) = failed(open_as(&smtp(server.port(), keys), Some("s3cret")).await);
    assert!(what.contains("without proving that it knows the password"), "{what}");
    server.finish();
}
