//! Delivery to servers by SMTP: what goes out octet for octet, and what every answer, cut and silence comes to.

use std::path::Path;

use postrider::testing::config::{Config, Target};
use postrider::testing::delivery::{Access, Outcome, Sink, TargetError};
use postrider::testing::disk::Disk;
use postrider::testing::failure::Class;
use postrider::testing::net::Connector;
use postrider::testing::secret::Secret;

use crate::sink::{MAILDROP, deliver};
use crate::support::mail_server::{MailServer, smtp};
use crate::support::scripted::{Script, ScriptedServer};

pub const MESSAGE: &[u8] = b"Return-Path: <alice@example.net>\r\nSubject: x\r\n\r\nHello\r\n";
pub const EXTENSIONS: &[&str] = &["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8"];
/// The beginning of a session with a server that pipelines.
const HELLO: &str = "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250 PIPELINING\n";
/// ... and of one that does not.
const PLAIN_HELLO: &str = "S: 220 test\nC: EHLO *\nS: 250 test\n";
pub const COMMANDS: &str = "C: MAIL FROM:<alice@example.net>\nC: RCPT TO:<bob@example.org>\nC: DATA\n";
pub const TEXT: &str = "C: Return-Path: <alice@example.net>\nC: Subject: x\nC: \nC: Hello\nC: .\n";

pub fn target(deliver: &str) -> Target {
    let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {deliver}}}}}");
    let config = Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap_or_else(|error| panic!("{error}"));
    config.accounts.into_iter().next().unwrap().deliver.remove(0).target
}

pub async fn open(deliver: &str) -> Result<Sink, TargetError> {
    open_as(deliver, None).await
}

pub async fn open_as(deliver: &str, password: Option<&str>) -> Result<Sink, TargetError> {
    let access = Access {
        account: "test".into(),
        connector: Connector::default(),
        secret: password.map(Secret::new),
        timeout: std::time::Duration::from_secs(20),
        ..Access::default()
    };
    Sink::open(&target(deliver), MAILDROP.into(), Disk::new(), access).await
}

/// Plays scripts, one for each connection, to a client that delivers so many messages in one batch.
async fn play(scripts: &[String], messages: usize) -> Result<Vec<Outcome>, TargetError> {
    play_to(scripts, messages, "").await
}

async fn play_to(scripts: &[String], messages: usize, keys: &str) -> Result<Vec<Outcome>, TargetError> {
    let scripts = scripts.iter().enumerate().map(|(at, text)| Script::parse(&at.to_string(), text));
    let server = ScriptedServer::start(scripts);
    let outcomes = async {
        let sink = open(&smtp(server.port(), keys)).await?;
        let uids: Vec<String> = (0..messages).map(|number| number.to_string()).collect();
        let batch: Vec<(&str, &[u8])> = uids.iter().map(|uid| (uid.as_str(), MESSAGE)).collect();
        let outcomes = deliver(&sink, &batch).await?;
        let failure = sink.failure();
        sink.close().await;
        match failure {
            // The outcomes of those before it are looked at by tests that ask for them.
            Some(error) if outcomes.iter().all(|outcome| *outcome == Outcome::NotTried) => Err(error),
            Some(_) | None => Ok(outcomes),
        }
    }
    .await;
    server.finish();
    outcomes
}

fn later(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Later(why) => why,
        other => panic!("not put off: {other:?}"),
    }
}

fn in_doubt(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::InDoubt(why) => why,
        other => panic!("not in doubt: {other:?}"),
    }
}

fn refused(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn failed(result: Result<Sink, TargetError>) -> (String, Option<String>, Class) {
    match result {
        Err(TargetError::Server(error)) => {
            (error.what, error.said.map(|said| String::from_utf8(said).unwrap()), error.class)
        }
        other => panic!("no failure of the server: {other:?}"),
    }
}

#[tokio::test]
async fn what_arrives_is_what_was_fetched_octet_for_octet() {
    let long = [&b"Subject: long\r\n\r\n"[..], &[b'x'; 1 << 20], b"\r\n.\r\n"].concat();
    let large =
        [&b"Subject: large\r\n\r\n"[..], &b"..\r\n.\r\n.x\r\n\r\n8-bit \xff\0\r\n".repeat(100_000)].concat();
    let rows: Vec<(&[u8], Vec<u8>)> = vec![
        (MESSAGE, MESSAGE.to_vec()),
        (b"", b"".to_vec()),
        (b"\r\n", b"\r\n".to_vec()),
        (b"\r\n\r\n", b"\r\n\r\n".to_vec()),
        (b".", b".\r\n".to_vec()),
        (b".\r\n", b".\r\n".to_vec()),
        (b".\r\n.\r\n..\r\n", b".\r\n.\r\n..\r\n".to_vec()),
        (b"Subject: x\r\n\r\nno end", b"Subject: x\r\n\r\nno end\r\n".to_vec()),
        // What a server that takes a bare LF for a line end would take for the end of the message.
        (b"a\r\n\r\nb\n.\r\nMAIL FROM:<>\r\n", b"a\r\n\r\nb\r\n.\r\nMAIL FROM:<>\r\n".to_vec()),
        (b"a\n.\nb\n", b"a\r\n.\r\nb\r\n".to_vec()),
        (b"a\r.\r\nb\r\r\n.\r", b"a\r.\r\nb\r\r\n.\r\r\n".to_vec()),
        (b"EHLO x\r\n", b"EHLO x\r\n".to_vec()),
        (b"\0\x01\xff\xfe\r\n", b"\0\x01\xff\xfe\r\n".to_vec()),
        (&long, long.clone()),
        (&large, large.clone()),
    ];
    for extensions in [EXTENSIONS, &[]] {
        let server = MailServer::start(extensions);
        let sink = open(&smtp(server.port(), "")).await.unwrap();
        let uids: Vec<String> = (0..rows.len()).map(|number| number.to_string()).collect();
        let batch: Vec<(&str, &[u8])> =
            uids.iter().zip(&rows).map(|(uid, (sent, _))| (uid.as_str(), *sent)).collect();
        let outcomes = deliver(&sink, &batch).await.unwrap();
        assert_eq!(outcomes, vec![Outcome::Delivered; rows.len()]);
        let arrived = server.arrived();
        assert_eq!(arrived.len(), rows.len());
        for ((sent, expected), arrived) in rows.iter().zip(arrived) {
            let shown = String::from_utf8_lossy(&sent[..sent.len().min(40)]);
            assert!(arrived.octets == *expected, "{shown:?} came as {} octets", arrived.octets.len());
            assert_eq!(arrived.rcpt, ["<bob@example.org>"]);
        }
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn the_envelope_says_what_the_server_offers_to_hear() {
    let of = async |extensions, keys: &str, message: &[u8]| {
        let server = MailServer::start(extensions);
        let sink = open(&smtp(server.port(), keys)).await.unwrap();
        let outcomes = deliver(&sink, &[("1", message)]).await.unwrap();
        (server.arrived().pop().map(|arrived| arrived.mail), outcomes)
    };
    let mail = async |extensions, keys: &str, message: &[u8]| of(extensions, keys, message).await.0.unwrap();
    assert_eq!(mail(&[], "", MESSAGE).await, "<alice@example.net>");
    assert_eq!(mail(EXTENSIONS, "", MESSAGE).await, format!("<alice@example.net> SIZE={}", MESSAGE.len()));
    assert_eq!(mail(EXTENSIONS, "", b"From: <c@d>\r\n\xff").await, "<c@d> SIZE=14 BODY=8BITMIME");
    assert_eq!(mail(&[], "", b"From: <c@d>\r\n\xff").await, "<c@d>");
    assert_eq!(mail(&[], "", b"Subject: x\r\n").await, "<>");
    assert_eq!(mail(&[], ", from: me@example.org", MESSAGE).await, "<me@example.org>");
    assert_eq!(mail(&[], "", b"Return-Path: <a@b> \r\nX: <y>\r\n").await, "<a@b>");
    assert_eq!(mail(&[], "", b"Return-Path: <a@b SIZE=0>\r\n").await, "<>");
    let utf8 = "Return-Path: <grün@example.net>\r\n".as_bytes();
    assert_eq!(mail(&["SMTPUTF8"], "", utf8).await, "<grün@example.net> SMTPUTF8");
    let (arrived, outcomes) = of(&["8BITMIME"], "", utf8).await;
    assert_eq!(arrived, None);
    assert!(refused(&outcomes[0]).contains("does not offer SMTPUTF8"), "{outcomes:?}");
    let (arrived, outcomes) = of(&["SIZE 10"], "", MESSAGE).await;
    assert_eq!(arrived, None);
    assert_eq!(refused(&outcomes[0]), "server takes messages of 10 octets at most (SIZE)");
}

#[tokio::test]
async fn a_message_costs_one_round_trip_once_it_goes() {
    let script = format!(
        "{HELLO}{COMMANDS}!flight 2\nS: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}{COMMANDS}!flight 3\nS: 250 done\nS: 250 ok\nS: 250 ok\nS: 354 go\n\
         {TEXT}!flight 4\nS: 250 done\nC: QUIT\nS: 221 bye\n"
    );
    assert_eq!(play(&[script], 2).await.unwrap(), [Outcome::Delivered, Outcome::Delivered]);
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_its_answer() {
    let script = format!(
        "{PLAIN_HELLO}C: MAIL FROM:<alice@example.net>\n!flight 2\nS: 250 ok\nC: RCPT TO:<bob@example.org>\n!flight 3\nS: 250 ok\n\
         C: DATA\n!flight 4\nS: 354 go\n{TEXT}S: 250 done\nC: QUIT\nS: 221 bye\n"
    );
    assert_eq!(play(&[script], 1).await.unwrap(), [Outcome::Delivered]);
}

#[tokio::test]
async fn only_250_to_the_message_itself_is_a_delivery() {
    for (answer, expected) in [
        ("S: 250 done", "delivered"),
        ("S: 250-done\nS: 250 and done", "delivered"),
        ("S: 251 done", "may have arrived"),
        ("S: 354 go on", "may have arrived"),
        ("S: 200 done", "may have arrived"),
        ("S: hello", "may have arrived"),
        (
            "S: 451-4.3.0 no\nS: 451 4.3.0 room",
            "later: server cannot take the message now: 451 4.3.0 no room",
        ),
        ("S: 554 5.7.1 spam\\x1b[1m", "refused: server refused the message: 554 5.7.1 spam\\u{1b}[1m"),
        ("!cut", "may have arrived"),
        ("!cut rst", "may have arrived"),
    ] {
        let script = format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}{answer}\n");
        let ends = if expected.contains("arrived") { "" } else { "C: QUIT\nS: 221 bye\n" };
        let outcomes = play(&[script + ends], 1).await.unwrap();
        let shown = match &outcomes[0] {
            Outcome::Delivered => "delivered".to_owned(),
            Outcome::Later(why) => format!("later: {why}"),
            Outcome::InDoubt(why) => why.clone(),
            Outcome::Refused(why) => format!("refused: {why}"),
            other => panic!("{other:?}"),
        };
        assert!(shown.contains(expected), "{answer}: {shown}");
        if expected == "may have arrived" {
            in_doubt(&outcomes[0]);
        }
    }
}

#[tokio::test]
async fn a_no_at_any_stage_is_told_with_all_its_lines_and_the_next_message_goes_on() {
    let good = format!("{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}S: 250 done\nC: QUIT\nS: 221 bye\n");
    let no = |code: &str| format!("S: {code}-5.0.0 not\nS: {code} 5.0.0 this one\n");
    for code in ["450", "550"] {
        let rows = [
            ("the sender <alice@example.net>", format!("{}S: 503 no\nS: 503 no\n", no(code)), ""),
            ("the recipient <bob@example.org>", format!("S: 250 ok\n{}S: 503 no\n", no(code)), "C: RSET\n"),
            ("the message (DATA)", format!("S: 250 ok\nS: 250 ok\n{}", no(code)), "C: RSET\n"),
        ];
        // 450 to MAIL is no word about the message: see smtp_habits.
        for (what, answers, reset) in rows.into_iter().skip(usize::from(code == "450")) {
            let ok = if reset.is_empty() { "" } else { "S: 250 reset\n" };
            let good = good.replacen("S: 250 ok", &format!("{ok}S: 250 ok"), 1);
            let script = format!("{HELLO}{COMMANDS}{answers}{reset}{good}");
            let outcomes = play(&[script], 2).await.unwrap();
            let why = if code == "450" { later(&outcomes[0]) } else { refused(&outcomes[0]) };
            assert!(why.contains(what), "{why}");
            // The library leaves out an enhanced code that it has seen.
            let words = if code == "450" { "450 5.0.0 not 5.0.0 this one" } else { "550 5.0.0 not this one" };
            assert!(why.ends_with(words), "{why}");
            assert_eq!(outcomes[1], Outcome::Delivered);
        }
    }
}

#[tokio::test]
async fn a_message_that_the_server_wants_for_nobody_is_ended_empty() {
    let script = format!(
        "{HELLO}{COMMANDS}S: 250 ok\nS: 550 nobody\nS: 354 go\nC: .\nS: 554 no recipients\n\
         {COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}S: 250 done\nC: QUIT\nS: 221 bye\n"
    );
    let outcomes = play(&[script], 2).await.unwrap();
    assert_eq!(refused(&outcomes[0]), "server refused the recipient <bob@example.org>: 550 nobody");
    assert_eq!(outcomes[1], Outcome::Delivered);
}

#[tokio::test]
async fn a_reply_too_many_is_never_taken_for_the_answer_to_a_message() {
    let good =
        format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}S: 250 done\nC: QUIT\nS: 221 bye\n");
    // Before the message: the reply to DATA is another then.
    let script = format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n");
    let outcomes = play(&[script], 1).await.unwrap();
    assert!(
        later(&outcomes[0]).contains("server sent 250 ok to DATA, where 354 was expected"),
        "{outcomes:?}"
    );
    // While the message goes out: 250 would be a delivery.
    let script =
        format!("{HELLO}{COMMANDS}S- 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n250 early\\r\\n\n!any 3\n!stall\n");
    let outcomes = play(&[script], 1).await.unwrap();
    assert!(later(&outcomes[0]).contains("server spoke out of turn"), "{outcomes:?}");
    // After one message, the next has its commands out already.
    let script = format!(
        "{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}{COMMANDS}S: 250 done\nS: 250 done\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
    );
    assert_eq!(play(&[script, good.clone()], 2).await.unwrap(), [Outcome::Delivered, Outcome::Delivered]);
}

#[tokio::test]
async fn in_lock_step_a_reply_too_many_ends_the_session_before_the_next_command() {
    let script = format!(
        "{PLAIN_HELLO}C: MAIL FROM:<alice@example.net>\nS- 250 ok\\r\\n250 ok\\r\\n\n!expect-close\n"
    );
    let outcomes = play(&[script], 1).await.unwrap();
    assert_eq!(later(&outcomes[0]), "server spoke out of turn, before the reply to RCPT: 250 ok");
}

#[tokio::test]
async fn replies_that_wait_for_the_next_message_are_not_taken_for_its_own() {
    let begun = format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}");
    // As many as a whole transaction has: far away, all of it would be written before the true ones come.
    let scripts = [
        format!("{begun}S- 250 done\\r\\n250 x\\r\\n250 x\\r\\n354 x\\r\\n250 x\\r\\n\n!expect-close\n"),
        format!("{begun}S: 554 no\nC: QUIT\nS: 221 bye\n"),
    ];
    let server = ScriptedServer::start(scripts.map(|text| Script::parse("replies", &text)));
    let sink = open(&smtp(server.port(), "")).await.unwrap();
    assert_eq!(deliver(&sink, &[("1", MESSAGE)]).await.unwrap(), [Outcome::Delivered]);
    let outcomes = deliver(&sink, &[("2", MESSAGE)]).await.unwrap();
    assert_eq!(refused(&outcomes[0]), "server refused the message: 554 no");
    sink.close().await;
    server.finish();
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_a_message_is_one() {
    let script = format!(
        "{HELLO}{COMMANDS}S- 250 ok\\r\\n250 ok\\r\\n354 go\\r\\n552 5.3.4 too big\\r\\n\n!any 3\n!stall\n"
    );
    let outcomes = play(&[script], 1).await.unwrap();
    assert_eq!(refused(&outcomes[0]), "server refused the message before its end: 552 5.3.4 too big");
}

#[tokio::test]
async fn a_connection_that_ended_meanwhile_costs_no_message() {
    let begun = format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}");
    let good = format!("{begun}S: 250 done\n");
    // Within a batch, after the commands of the second had gone out; and with the server's word for it.
    for end in ["!cut\n", "S: 421 going down\n!cut\n", "S: 250 ok\nS: 421 going down\n!cut\n"] {
        let cut = format!("{begun}{COMMANDS}S: 250 done\n{end}");
        let outcomes = play(&[cut, good.clone() + "C: QUIT\nS: 221 bye\n"], 2).await.unwrap();
        assert_eq!(outcomes, [Outcome::Delivered, Outcome::Delivered], "{end}");
    }
    // Between two batches.
    let scripts = [good.clone() + "S: 421 idle for too long\n!cut\n", good + "C: QUIT\nS: 221 bye\n"];
    let server = ScriptedServer::start(scripts.map(|text| Script::parse("batch", &text)));
    let sink = open(&smtp(server.port(), "")).await.unwrap();
    for uid in ["1", "2"] {
        assert_eq!(deliver(&sink, &[(uid, MESSAGE)]).await.unwrap(), [Outcome::Delivered]);
    }
    sink.close().await;
    server.finish();
}

#[tokio::test]
async fn a_server_that_breaks_off_again_and_again_fails_as_a_whole() {
    let cut = format!("{HELLO}{COMMANDS}!cut\n");
    let error = play(std::slice::from_ref(&cut), 1).await.unwrap();
    assert!(later(&error[0]).contains("server closed the connection before the reply to MAIL"), "{error:?}");
    let scripts = [cut.clone(), cut.clone(), cut];
    let outcomes = play(&scripts, 9).await.unwrap();
    assert!(
        matches!(&outcomes[..3], [Outcome::Later(_), Outcome::Later(_), Outcome::NotTried]),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_server_that_breaks_off_after_the_end_of_each_message_gets_no_more_than_three() {
    let cut = format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}!cut\n");
    let outcomes = play(&[cut.clone(), cut.clone(), cut], 9).await.unwrap();
    let (doubtful, rest) = outcomes.split_at(3);
    assert!(doubtful.iter().all(|outcome| in_doubt(outcome).contains("may have arrived")), "{doubtful:?}");
    assert_eq!(rest, vec![Outcome::NotTried; 6]);
}

#[tokio::test]
async fn a_commit_that_is_dropped_takes_the_connection_with_it() {
    let good = format!("{HELLO}{COMMANDS}S: 250 ok\nS: 250 ok\nS: 354 go\n{TEXT}");
    let scripts = [good.clone() + "!stall\n", good + "S: 250 done\nC: QUIT\nS: 221 bye\n"];
    let server = ScriptedServer::start(scripts.map(|text| Script::parse("dropped", &text)));
    let sink = open(&smtp(server.port(), "")).await.unwrap();
    let commit = deliver(&sink, &[("1", MESSAGE)]);
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(300), commit).await;
    assert!(dropped.is_err(), "{dropped:?}");
    assert_eq!(deliver(&sink, &[("2", MESSAGE)]).await.unwrap(), [Outcome::Delivered]);
    sink.close().await;
    server.finish();
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_no_fails_as_a_whole() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (what, _, class) = failed(open(&smtp(closed, "")).await);
    assert!(what.starts_with("connection refused by 127.0.0.1"), "{what}");
    assert_eq!(class, Class::Target);
    let rows = [
        ("S: 554 5.7.1 go away\n", "server refused the session (greeting)", Some("554 5.7.1 go away")),
        ("S: 421-busy\nS: 421 later\n", "server refused the session (greeting)", Some("421 busy later")),
        (
            "S: 220 x\nC: EHLO *\nS: 550 you?\nC: QUIT\n",
            "server refused the session (EHLO)",
            Some("550 you?"),
        ),
        ("!cut\n", "server closed the connection before the greeting", None),
        ("S: +OK POP3\n", "server sent what is no reply, in place of the greeting", None),
        ("!endless x\n", "server sent a line that is too long for a reply, in place of the greeting", None),
        ("!endless 220-x\\r\\n\n", "server sent far more than a reply, in place of the greeting", None),
    ];
    for (script, expected, words) in rows {
        let server = ScriptedServer::start([Script::parse(expected, script)]);
        let (what, said, class) = failed(open(&smtp(server.port(), "")).await);
        assert!(what.starts_with(expected), "{script}: {what}");
        if words.is_some() {
            assert_eq!(said.as_deref(), words);
        }
        assert_eq!(class, Class::Target);
    }
}

#[tokio::test]
async fn a_port_that_speaks_otherwise_is_told_in_plain_words() {
    let rows = [
        ("smtp", "S: +OK POP3\n", "tls: none", "this is a POP3 server; SMTP is usually on port 25"),
        ("smtp", "S: * OK IMAP4\n", "tls: starttls", "this is an IMAP server; SMTP is usually on port 25"),
        ("lmtp", "S: +OK POP3\n", "tls: none", "this is a POP3 server; LMTP is usually on port 24"),
        (
            "smtp",
            "!expect-close\n",
            "tls: none",
            "if the server expects TLS at once on this port, write `tls: implicit`",
        ),
        (
            "lmtp",
            "!expect-close\n",
            "tls: none",
            "if the server expects TLS at once on this port, write `tls: implicit`",
        ),
        (
            "smtp",
            "S: 220 test\n!stall\n",
            "tls: implicit",
            "this port begins without TLS: write `tls: starttls`",
        ),
        ("imap", "S: +OK POP3\n", "tls: none", "this is a POP3 server; IMAP is usually on port 993"),
        (
            "imap",
            "!expect-close\n",
            "tls: none",
            "if the server expects TLS at once on this port, write `tls: implicit`",
        ),
        (
            "imap",
            "S: * OK x\n!stall\n",
            "tls: implicit",
            "this port begins without TLS: write `tls: starttls`",
        ),
    ];
    for (kind, script, tls, hint) in rows {
        let server = ScriptedServer::start([Script::parse(hint, script)]);
        let to = if kind == "imap" { "user: a, password: b" } else { "to: [a@b.example]" };
        let keys = format!("timeout: 2s, {tls}, {to}");
        let deliver = format!("{{ {kind}: {{ host: 127.0.0.1, port: {}, {keys} }} }}", server.port());
        let error = open(&deliver).await.unwrap_err();
        assert!(error.hint().is_some_and(|told| told.starts_with(hint)), "{script}: {:?}", error.hint());
    }
}

#[tokio::test]
async fn what_left_ahead_of_a_message_that_is_not_fit_is_not_sent_again_after_it() {
    // The commands of the third leave with the end of the first, and are answered when they have all come.
    let commands = "C: MAIL FROM:<alice@example.net> *\nC: RCPT TO:<bob@example.org>\nC: DATA\n";
    let ready = "S: 250 ok\nS: 250 ok\nS: 354 go\n";
    let script = format!(
        "S: 220 test\nC: EHLO *\nS: 250-test\nS: 250-SIZE 100\nS: 250 PIPELINING\n{commands}{ready}{TEXT}{commands}S: 250 first\n\
         {ready}{TEXT}S: 250 third\nC: QUIT\nS: 221 bye\n"
    );
    let server = ScriptedServer::start([Script::parse("ahead", &script)]);
    let sink = open(&smtp(server.port(), "")).await.unwrap();
    let large = [MESSAGE, &[b'x'; 200]].concat();
    let outcomes = deliver(&sink, &[("1", MESSAGE), ("2", &large), ("3", MESSAGE)]).await.unwrap();
    assert!(
        matches!(&outcomes[..], [Outcome::Delivered, Outcome::Refused(_), Outcome::Delivered]),
        "{outcomes:?}"
    );
    sink.close().await;
    server.finish();
}
