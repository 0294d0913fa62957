//! Sessions of one account, `test`, with a server that plays transcripts or with an honest one.

use super::maildrop::{Maildrop, Settings};
use super::postrider::Home;
use super::scripted::{Script, ScriptedServer};

/// A server that is unknown to the client so far: TLS, greeting, capabilities with PIPELINING, log-in by PLAIN. NOOP and
/// CAPA go along, to see whether it takes that; it does.
pub const LOG_IN: &str = "
    !tls
    S: +OK ready
    C: CAPA
    S: +OK
    S: PIPELINING
    S: SASL PLAIN
    S: UIDL
    S: TOP
    S: .
    C: AUTH PLAIN *
    C: NOOP
    C: CAPA
    S: +OK
    S: +OK
    S: +OK
    S: PIPELINING
    S: UIDL
    S: .
    C: UIDL
    C: LIST
";

/// The same server, asked for its capabilities before the log-in.
pub const ASKED: &str = "
    !tls
    S: +OK ready
    C: CAPA
    S: +OK
    S: PIPELINING
    S: SASL PLAIN
    S: UIDL
    S: TOP
    S: .
";

/// The same, asked for them after it.
pub const ASKED_AFTER: &str = "
    C: CAPA
    S: +OK
    S: PIPELINING
    S: UIDL
    S: .
";

/// The same server at every later poll.
pub const KNOWN_LOG_IN: &str = "
    !tls
    S: +OK ready
    C: AUTH PLAIN *
    C: UIDL
    C: LIST
    S: +OK
";

/// One message, listed.
pub const ONE_LISTED: &str = "
    S: +OK
    S: 1 uid-1
    S: .
    S: +OK
    S: 1 36
    S: .
";

pub const ONE_RETRIEVED: &str = "
    C: RETR 1
    S: +OK
    S: Message-ID: <1@a>
    S: Date: b
    S:
    S: body
    S: .
";

/// Its header, to see whether it is the one that is recorded.
pub const ONE_ASKED: &str = "
    C: TOP 1 0
    S: +OK
    S: Message-ID: <1@a>
    S: Date: b
    S:
    S: .
";

/// The message as it is delivered.
pub const ONE: &[u8] = b"Message-ID: <1@a>\nDate: b\n\nbody\n";

/// The end of a session that deleted nothing: the client does not wait for an answer.
pub const GOODBYE: &str = "
    C: QUIT
";

/// The end of a session that deleted something.
pub const UPDATE: &str = "
    C: QUIT
    S: +OK bye
";

/// A home whose one account, `test`, polls a scripted server; `keys` are further keys of the account, a line each.
pub fn home(port: u16, authority: &str, keys: &str) -> Home {
    let home = Home::new();
    let ca = home.write("ca.pem", authority);
    let keys: String = keys.lines().map(|key| format!("    {}\n", key.trim())).collect();
    let tls =
        if keys.contains("tls: none") { String::new() } else { format!("    tls_ca: {}\n", ca.display()) };
    home.configure(&format!(
        "accounts:\n  test:\n    host: 127.0.0.1\n    port: {port}\n    user: alice\n    password: correct horse\n{tls}    timeout: 3s\n    deliver: {{ maildir: {} }}\n{keys}",
        home.path("Mail").display()
    ));
    home
}

/// A scripted server and a home that polls it; each script is put together from parts.
pub fn scripted(scripts: &[&[&str]], keys: &str) -> (ScriptedServer, Home) {
    let scripts =
        scripts.iter().enumerate().map(|(i, parts)| Script::parse(&format!("session {i}"), &parts.concat()));
    let server = ScriptedServer::start(scripts);
    let home = home(server.port(), &server.certificate.authority_pem, keys);
    (server, home)
}

/// An honest server in memory and a home that polls it.
pub fn honest(settings: Settings, keys: &str) -> (Maildrop, Home) {
    let server = Maildrop::start(settings);
    let home = home(server.port(), &server.certificate.authority_pem, keys);
    (server, home)
}

/// A small message, as the server sends it.
pub fn mail(i: usize) -> Vec<u8> {
    let header = format!("Message-ID: <{i}@example.org>\r\nDate: today\r\nSubject: number {i}\r\n");
    format!("{header}\r\nbody of {i}\r\n").into_bytes()
}
