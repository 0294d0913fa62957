//! What targets are used with stands in nothing that is said.

use crate::support::http_server::{Answer, HttpServer};
use crate::support::maildrop::{Maildrop, Protection, Settings};
use crate::support::postrider::Home;
use crate::tokens::spellings;

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
