//! What accounts and targets are used with stands in nothing that is said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::provider::key_and_certificate;
use crate::support::authorization_server::browse;
use crate::support::http_server::{Answer, HttpServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::Home;
use crate::tokens::{Terminal, configuration, proxy, servers};

/// How a secret may be written.
fn spellings(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|octet| format!("{octet:02x}")).collect();
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    // Wherever it stands in what is encoded; what lies at its ends depends on its neighbours.
    let base64 = (0..3).map(|before| {
        let text = STANDARD.encode([&vec![0; before], secret.as_bytes()].concat());
        text[4..text.len() - 4].to_owned()
    });
    [secret.to_owned(), hex.to_uppercase(), hex, encoded].into_iter().chain(base64).collect()
}

#[test]
fn no_secret_of_an_endpoint_stands_in_anything_that_is_said() {
    let secrets =
        ["the/basic+password", "the-bearer+token", "the=hmac key", "the header key", "the-query-key"];
    let [password, bearer, hmac, header, query] = secrets;
    // It says what it was sent.
    let server = HttpServer::start(move |asked| match asked.field("authorization") {
        field if field.starts_with("Basic") => {
            let words = format!("{field} {hmac} {header} {password}");
            Answer::Is(401, "Content-Type: text/plain\r\n".into(), words.into_bytes())
        }
        field => Answer::Is(422, "Content-Type: text/plain\r\n".into(), field.as_bytes().to_vec()),
    });
    let maildrop = Maildrop::start(Settings { tls: Protection::None, ..Settings::default() });
    maildrop.put("1", "Subject: 1\r\n\r\n");
    let home = Home::new();
    let mut said = String::new();
    for log_in in [format!("user: desk, password: {password}"), format!("bearer: {bearer}")] {
        let url = server.url(&format!("/in?key={query}"));
        home.configure(&format!(
            "accounts:\n  home: {{ host: 127.0.0.1, port: {}, user: alice, password: correct horse, tls: none, auth: [plain],\n    \
             deliver: {{ http: {{ url: '{url}', {log_in}, hmac: {hmac}, headers: {{ X-Key: {header} }} }} }} }}\n",
            maildrop.port()
        ));
        for arguments in [
            &["sync", "-vvv"][..],
            &["sync", "-vvv", "--force", "--json", "--log-format", "json"],
            &["doctor", "-vvv"],
            &["check", "-vvv"],
            &["config", "show"],
            &["config", "show", "--origin"],
            &["config", "check"],
            &["status"],
            &["status", "--json"],
            &["held", "list", "home"],
        ] {
            let ended = home.run(arguments);
            said += &(ended.stdout + &ended.stderr);
        }
    }
    assert!(said.contains("401 Unauthorized: Basic [secret] [secret] [secret] [secret]"), "{said}");
    assert!(said.contains("422 Unprocessable Entity: Bearer [secret]"), "{said}");
    assert_eq!(said.matches("hmac: '[secret]'").count(), 4, "{said}");
    for secret in secrets {
        for spelling in spellings(secret) {
            assert!(!said.contains(&spelling), "{secret} as {spelling}: {said}");
        }
    }
}

#[test]
fn no_secret_stands_in_anything_that_is_said_or_handed_on_and_none_in_a_core_dump() {
    let (tokens, server, home) = servers("");
    tokens.state().secret = Some("the/client's+secret".into());
    let keys = tokens.keys(", client_secret: \"the/client's+secret\"");
    let (port, _asked) = proxy();
    let road = format!("http://walker:pr%40xy%2Fpass%20word@127.0.0.1:{port}");
    let more =
        format!("auth: [xoauth2], proxy: '{road}', hooks: {{ after: 'env; cat /proc/$PPID/cmdline' }}");
    let more = more.as_str();
    home.configure(&configuration(&server, &keys, more));
    let mut said = String::new();
    let mut terminal = Terminal::start(&home, &["login", "-vvv", "home"]);
    let location = browse(&terminal.shows("/authorize?")).unwrap().1.unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", terminal.child.id())).unwrap();
    let dumps = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(dumps.split_whitespace().nth(4), Some("0"), "{dumps}");
    terminal.paste(&location);
    let (stdout, stderr) = terminal.ends(0);
    said += &(stdout + &stderr);
    let mut run = |arguments: &[&str], status| {
        let ended = home.must(arguments, status);
        said += &(ended.stdout + &ended.stderr);
    };
    run(&["sync", "-vvv"], 0);
    tokens.revoke_access();
    run(&["sync", "-vvv"], 0);
    run(&["check", "-vvv", "--json"], 1);
    run(&["config", "show"], 0);
    run(&["status", "--json"], 0);
    tokens.revoke_logins();
    run(&["sync", "-vvv", "--log-format", "json"], 77);
    tokens.state().secret = Some("another secret".into());
    run(&["sync", "-vvv", "--force"], 77);
    let token = tokens.refresh_token("alice", "pop offline_access");
    let keys = tokens.keys(&format!(", refresh_token: {token}x, client_secret: another secret"));
    home.configure(&configuration(&server, &keys, more));
    // The server names what it was sent.
    run(&["sync", "-vvv"], 77);
    run(&["config", "show"], 0);
    // An assertion, and the key that signs it.
    let (key, certificate) = key_and_certificate(&home);
    tokens.state().certificate = Some(std::fs::read_to_string(&certificate).unwrap());
    let files = format!("client_certificate: '{}', client_key: '{}'", certificate.display(), key.display());
    let keys = tokens.keys(&format!(", grant: client_credentials, {files}"));
    home.configure(&configuration(&server, &keys, more));
    run(&["sync", "-vvv", "--force"], 0);
    run(&["doctor"], 0);
    run(&["config", "show"], 0);
    tokens.state().certificate = Some(std::fs::read_to_string(key_and_certificate(&home).1).unwrap());
    run(&["doctor", "--json"], 0);
    tokens.revoke_access();
    run(&["doctor", "--json"], 77);
    assert!(said.contains("Invalid request, [secret] is malformed"), "{said}");
    let pem = std::fs::read_to_string(&key).unwrap();
    let of_key = pem.lines().filter(|line| !line.contains("PRIVATE KEY")).map(str::to_owned);
    let assertions: Vec<String> =
        tokens.state().asked.iter().filter_map(|(_, form)| form.get("client_assertion").cloned()).collect();
    assert!(assertions.len() >= 2);
    let known = ["the/client's+secret".to_owned(), token, "pr@xy/pass word".to_owned()];
    let secrets = tokens.secrets().into_iter().chain(known).chain(of_key).chain(assertions);
    let mut looked = 0;
    for secret in secrets {
        for spelling in spellings(&secret) {
            let at = said.find(&spelling);
            assert!(at.is_none(), "{secret}: {}", &said[at.unwrap_or(0).saturating_sub(300)..][..600]);
            looked += 1;
        }
    }
    assert!(looked > 50 && said.contains("AUTH XOAUTH2"), "{looked}: {said}");
}
