//! Providers of tokens that refuse, and what is said of each refusal; how often they are asked in a day of refusals; and
//! endpoints that are not what they should be.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use postrider::testing::config::Config;
use postrider::testing::session::WallClock;
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use super::tokens::{HOUR, Terminal, configuration, is_told, log_in, servers};
use crate::support::authorization_server::{
    AuthorizationServer, CLIENT, Instead, OUTLOOK_POP, Person, browse, post,
};
use crate::support::certificate::{Certificate, Validity};
use crate::support::maildrop::{Maildrop, Settings, TokenCheck, What};
use crate::support::poller::Poller;
use crate::support::postrider::Home;

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn each_refusal_of_a_provider_is_told_in_words_of_its_own_with_its_exit_status() {
    let (tokens, _server, home) = servers("");
    log_in(&home);
    for (status, body, exit, told) in [
        (
            400,
            r#"{"error":"invalid_grant"}"#,
            77,
            "the login has expired or was revoked; run `postrider login",
        ),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS50173: The provided grant has expired"}"#,
            77,
            "the password was changed, or sessions were revoked: log in again",
        ),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS65001: The user or administrator has not consented"}"#,
            77,
            "nobody has allowed this application",
        ),
        (
            400,
            r#"{"error":"interaction_required","error_description":"AADSTS50076: you must use multi-factor"}"#,
            77,
            "more proof of who it is (multi-factor)",
        ),
        (
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS53003: blocked by Conditional Access policies."}"#,
            77,
            "the administrator's rules block this access (conditional access)",
        ),
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired."}"#,
            77,
            "`client_secret` has expired",
        ),
        (401, r#"{"error":"invalid_client"}"#, 77, "the provider does not know this client"),
        (400, r#"{"error":"unauthorized_client"}"#, 77, "this client may not do this"),
        (400, r#"{"error":"invalid_scope"}"#, 77, "the client may not ask for this access"),
        (
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS90002: Tenant 'x' not found."}"#,
            77,
            "there is no such directory: check `tenant`",
        ),
        (400, r#"{"error":"temporarily_unavailable"}"#, 75, "refused (temporarily_unavailable)"),
        (429, r#"{"error":"slow_down"}"#, 75, "the provider cannot answer now (HTTP 429)"),
        (500, r#"{"error":"server_error"}"#, 75, "the provider cannot answer now (HTTP 500)"),
        (503, "", 75, "the provider cannot answer now (HTTP 503)"),
        (200, r#"{"access_token":"t","token_type":"mac"}"#, 75, "a token of another kind than Bearer"),
    ] {
        tokens.state().instead.push_back(Instead::Answer(status, JSON, body));
        let ended = home.must_at(HOUR, &["check", "--force"], exit);
        is_told(&ended, &["home: ", "get an access token for alice: ", told]);
        assert!(!ended.stderr.contains("check user and password"), "{}", ended.stderr);
    }
    // Nothing was lost by any of it.
    home.must_at(HOUR, &["sync", "--force"], 0);
}

#[test]
fn a_mailbox_with_pop_switched_off_is_told_apart_from_a_token_that_is_wrong() {
    let tokens = AuthorizationServer::start();
    let refusals = ["-ERR [SYS/PERM] Your account is not enabled for POP access.", "-ERR POP3 is disabled"];
    for refusal in refusals {
        // The greeting, and what the log-in is answered, whatever it is.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"+OK\r\n");
                let mut octets = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut octets) {
                    let said = String::from_utf8_lossy(&octets[..read]).into_owned();
                    let answer = match said.trim() {
                        "CAPA" => "+OK\r\nSASL XOAUTH2\r\n.\r\n".to_owned(),
                        "AUTH XOAUTH2" => "+ \r\n".to_owned(),
                        _ => format!("{refusal}\r\n"),
                    };
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        let home = Home::new();
        let token = tokens.refresh_token("alice", "pop offline_access");
        let keys = tokens.keys(&format!(", refresh_token: {token}"));
        home.configure(&format!(
            "accounts:\n  home: {{ host: 127.0.0.1, port: {port}, tls: none, user: alice, auth: [xoauth2], oauth2: {keys}, \
             deliver: {{ maildir: ~/Mail }} }}\n"
        ));
        is_told(
            &home.must(&["sync"], 77),
            &["POP is switched off for this mailbox: switch it on in its settings"],
        );
    }
}

#[test]
fn a_code_that_was_slipped_in_from_another_log_in_is_refused_for_its_verifier() {
    // The same redirect each time, so that the verifier alone is another.
    let (_tokens, _server, home) = servers(", redirect: 'https://elsewhere.example/done'");
    let other = browse(&Terminal::start(&home, &["login", "home"]).shows("/authorize?")).unwrap().1.unwrap();
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let own = browse(&terminal.shows("/authorize?")).unwrap().1.unwrap();
    let value = |address: &str, name: &str| {
        let query = address.split_once('?').unwrap().1;
        query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    };
    terminal.paste(&format!(
        "http://127.0.0.1/?code={}&state={}",
        value(&other, "code"),
        value(&own, "state")
    ));
    let (_, stderr) = terminal.ends(77);
    for words in
        ["refused (invalid_grant)", "The verifier is wrong.", "the code came too late, or is another's"]
    {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn the_authorization_server_of_the_tests_refuses_what_a_real_one_would() {
    let tokens = AuthorizationServer::start();
    let (url, redirect) = (tokens.url("token"), "http://127.0.0.1:4711");
    // RFC 7636, B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let code = |scope: &str| {
        let asked = format!(
            "authorize?response_type=code&client_id={CLIENT}&redirect_uri={redirect}&state=s&scope={scope}\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
        );
        let location = browse(&tokens.url(&asked)).unwrap().1.unwrap();
        let code = location.split("code=").nth(1).and_then(|rest| rest.split('&').next());
        code.map(|code| percent_decode_str(code).decode_utf8_lossy().into_owned())
    };
    let spend = |code: &str, redirect: &str, verifier: &str| {
        post(
            &url,
            &[
                ("grant_type", "authorization_code"),
                ("client_id", CLIENT),
                ("code", code),
                ("redirect_uri", redirect),
                ("code_verifier", verifier),
            ],
        )
    };
    let refresh = |token: &str, scope: &str| {
        let form = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)];
        post(&url, &[&form[..], &[("scope", scope)]].concat())
    };
    let is = |answer: (u16, serde_json::Value), error: &str| {
        assert!(answer.0 == 400 && answer.1["error"] == error, "{error}: {answer:?}");
    };
    let scope = "pop%20offline_access";
    is(spend(&code(scope).unwrap(), redirect, &verifier.replace('d', "e")), "invalid_grant");
    is(spend(&code(scope).unwrap(), "http://127.0.0.1:4712", verifier), "invalid_grant");
    assert_eq!(code("calendar"), None);
    let code = code(scope).unwrap();
    let (status, granted) = spend(&code, redirect, verifier);
    let text = |answer: &serde_json::Value, field: &str| answer[field].as_str().unwrap().to_owned();
    let (access, first) = (text(&granted, "access_token"), text(&granted, "refresh_token"));
    assert!(
        status == 200 && tokens.accepts("alice", &access, "pop") && !tokens.accepts("alice", &access, "imap")
    );
    is(refresh(&first, "imap"), "invalid_scope");
    let (_, granted) = refresh(&first, "pop");
    let second = text(&granted, "refresh_token");
    // What was replaced is in a stranger's hands: nobody's is good any more.
    is(refresh(&first, "pop"), "invalid_grant");
    is(refresh(&second, "pop"), "invalid_grant");
    assert!(!tokens.accepts("alice", &access, "pop"));
    is(spend(&code, redirect, verifier), "invalid_grant");
    let (status, answer) = post(&url, &[("grant_type", "refresh_token"), ("client_id", "another")]);
    assert!(status == 401 && answer["error"] == "invalid_client", "{answer}");
}

#[test]
fn a_refresh_token_out_of_an_old_copy_of_the_state_is_told_as_a_login_that_is_over() {
    let (tokens, _server, home) = servers("");
    log_in(&home);
    let directory = home.path("state/postrider/state.db.tokens");
    let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let copy = std::fs::read(&file).unwrap();
    home.must_at(HOUR, &["sync"], 0);
    std::fs::write(&file, copy).unwrap();
    let ended = home.must_at(2 * HOUR, &["sync"], 77);
    is_told(&ended, &["invalid_grant", "run `postrider login home`"]);
    assert_eq!(tokens.count("refresh_token"), 2);
    log_in(&home);
    home.must_at(2 * HOUR, &["sync"], 0);
}

#[test]
fn a_device_that_a_rule_or_the_provider_forbids_is_told() {
    let (tokens, _server, home) = servers("");
    tokens.state().person = Person::Waits;
    let forbidden = r#"{"error":"invalid_scope","error_description":"Invalid device flow scope: mail"}"#;
    tokens.state().instead.push_back(Instead::Answer(400, JSON, forbidden));
    let ended = home.must(&["login", "--device", "home"], 77);
    is_told(&ended, &["refused (invalid_scope)", "server: Invalid device flow scope: mail"]);
    let blocked = r#"{"error":"access_denied","error_description":"AADSTS530034: blocked by policy"}"#;
    tokens.state().instead.push_back(Instead::Answer(
        200,
        JSON,
        r#"{"device_code":"d","user_code":"u","verification_uri":"v","interval":1}"#,
    ));
    tokens.state().instead.push_back(Instead::Answer(400, JSON, r#"{"error":"slow_down"}"#));
    tokens.state().instead.push_back(Instead::Answer(400, JSON, blocked));
    let ended = home.must(&["login", "--device", "home"], 77);
    is_told(&ended, &["the administrator's rules block this access (conditional access)"]);
}

/// Serves TLS with a certificate for this name, and nothing behind the handshake.
fn tls_for(name: &str) -> (u16, String) {
    let certificate = Certificate::issue(&[name], Validity::Current);
    let (config, authority) = (certificate.server(), certificate.authority_pem);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = StreamOwned::new(session, socket).read(&mut [0; 1]);
        }
    });
    (port, authority)
}

#[test]
fn an_endpoint_without_tls_of_another_host_or_of_an_octet_now_and_then_is_one_clear_error() {
    let (tokens, server, home) = servers("");
    let token = tokens.refresh_token("alice", "pop offline_access");
    let ask = |token_url: &str, more: &str| {
        let keys = format!(
            "{{ token_url: '{token_url}', client_id: {CLIENT}, scope: pop offline_access, refresh_token: {token} }}"
        );
        let account = configuration(&server, &keys, &format!("auth: [xoauth2], timeout: 3s{more}"));
        // It comes to no connection to the maildrop.
        home.configure(&account.replace("tls: none, ", ""));
        home.must(&["check"], 75)
    };
    let plain = tokens.url("token").replace("http:", "https:");
    is_told(&ask(&plain, ""), &["get an access token for alice: ", "TLS"]);
    let (port, authority) = tls_for("other.example");
    let ca = home.write("ca.pem", &authority);
    let more = format!(", tls_ca: '{}'", ca.display());
    let told = ask(&format!("https://127.0.0.1:{port}/token"), &more);
    is_told(&told, &["get an access token for alice: ", "is for other.example, not for 127.0.0.1"]);
    tokens.state().instead.push_back(Instead::Trickle);
    is_told(&ask(&tokens.url("token"), ""), &["gave up after 3s waiting for the answer"]);
    let keys = tokens.keys("").replace("http://127.0.0.1", "http://login.example");
    home.configure(&configuration(&server, &keys, "auth: [xoauth2]"));
    is_told(&home.must(&["sync"], 78), &["without TLS only this machine is asked"]);
    // Nobody was asked who was not the one.
    assert_eq!(tokens.count("refresh_token"), 1);
}

/// An account by this refresh token, polled inside this process by a clock that the test sets.
fn polled(tokens: &AuthorizationServer, server: &Maildrop) -> (Poller, Arc<AtomicI64>) {
    let mut poller = Poller::new(server.port(), "tls: none\nauth: [plain]");
    let token = tokens.refresh_token("alice", "pop offline_access");
    let keys = tokens.keys(&format!(", refresh_token: {token}"));
    let yaml = configuration(server, &keys, "auth: [xoauth2]").replace("~/home", "/nowhere");
    let config = Config::from_yaml(&yaml, Path::new("config.yaml")).unwrap();
    poller.account = config.accounts.into_iter().next().unwrap();
    let clock = Arc::new(AtomicI64::new(1_800_000_000));
    poller.environment.clock = WallClock::Set(Arc::clone(&clock));
    (poller, clock)
}

/// Polls each quarter of an hour for a day; says at which minutes something was asked or tried.
fn a_day(poller: &Poller, clock: &AtomicI64, mut count: impl FnMut() -> usize) -> Vec<i64> {
    let begin = clock.load(Relaxed);
    let mut tried = Vec::new();
    for minute in (0..24 * 60).step_by(15) {
        clock.store(begin + minute * 60, Relaxed);
        let before = count();
        assert!(poller.poll().failure.is_some());
        tried.extend((count() > before).then_some(minute));
    }
    tried
}

/// After a quarter of an hour, another, and then once an hour.
fn seldom() -> Vec<i64> {
    [0, 15].into_iter().chain((30..24 * 60).step_by(60)).collect()
}

#[test]
fn a_day_in_which_the_provider_refuses_asks_it_twenty_six_times_and_logs_in_nowhere() {
    let tokens = AuthorizationServer::start();
    let server = Maildrop::start(Settings::with_tokens(tokens.check("pop")));
    let (poller, clock) = polled(&tokens, &server);
    tokens.revoke_logins();
    assert_eq!(a_day(&poller, &clock, || tokens.count("refresh_token")), seldom());
    assert_eq!((tokens.count("refresh_token"), server.count(|what| *what == What::Connected)), (26, 0));
}

#[test]
fn a_day_in_which_the_server_refuses_each_token_makes_twenty_six_log_ins_of_a_token_each() {
    let tokens = AuthorizationServer::start();
    // Good for a week, so that the one that was refused last is still there.
    tokens.state().lifetime = 7 * 24 * 3600;
    let server = Maildrop::start(Settings::with_tokens(TokenCheck(Arc::new(|_, _| false))));
    let (poller, clock) = polled(&tokens, &server);
    let log_ins = || server.count(|what| matches!(what, What::Command(line) if line.starts_with("AUTH")));
    assert_eq!(a_day(&poller, &clock, log_ins), seldom());
    assert_eq!((log_ins(), tokens.count("refresh_token")), (26, 26));
}

/// Gives what was asked last at this endpoint.
fn asked(tokens: &AuthorizationServer, endpoint: &str, parameter: &str) -> String {
    let state = tokens.state();
    let (_, form) = state.asked.iter().rfind(|(path, _)| path == endpoint).expect("a question");
    form.get(parameter).cloned().unwrap_or_default()
}

#[test]
fn microsofts_row_of_the_table_lets_in_a_person_a_device_and_an_application() {
    let tokens = AuthorizationServer::start();
    let server = Maildrop::start(Settings::with_tokens(tokens.check(OUTLOOK_POP)));
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    let home = Home::new();
    let authority = tokens.url("").trim_end_matches('/').to_owned();
    let row =
        format!("provider: microsoft, authority: '{authority}', tenant: example.org, client_id: {CLIENT}");
    let account = configuration(&server, &format!("{{ {row} }}"), "auth: [xoauth2]");
    let mailbox = format!(
        "[{{ maildir: ~/home }}, {{ imap: {{ host: 127.0.0.1, tls: none, user: alice, oauth2: {{ {row} }} }} }}]"
    );
    home.configure(&account.replace("{ maildir: ~/home }", &mailbox));
    // One login for both, with what both need.
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let location = browse(&terminal.shows("/example.org/oauth2/v2.0/authorize?")).unwrap().1.unwrap();
    assert!(location.starts_with("http://localhost:"), "{location}");
    assert_eq!(browse(&location).unwrap().0, 200);
    terminal.ends(0);
    let scopes = format!("{OUTLOOK_POP} offline_access https://outlook.office.com/IMAP.AccessAsUser.All");
    assert_eq!(asked(&tokens, "/authorize", "scope"), scopes);
    assert_eq!(asked(&tokens, "/authorize", "login_hint"), "alice");
    home.must(&["check"], 0);
    home.must_at(HOUR, &["check"], 0);
    assert_eq!((asked(&tokens, "/token", "scope"), tokens.count("refresh_token")), (scopes.clone(), 1));
    home.must(&["login", "--device", "home"], 0);
    assert_eq!(asked(&tokens, "/devicecode", "scope"), scopes);
    // An application needs nobody.
    let (key, certificate) = key_and_certificate(&home);
    tokens.state().certificate = Some(std::fs::read_to_string(&certificate).unwrap());
    let files = format!("client_certificate: '{}', client_key: '{}'", certificate.display(), key.display());
    let keys = format!("{{ {row}, grant: client_credentials, {files} }}");
    home.configure(&configuration(&server, &keys, "auth: [xoauth2]"));
    home.must(&["check"], 0);
    home.must(&["check"], 0);
    assert_eq!(tokens.count("client_credentials"), 1);
    let header = asked(&tokens, "/token", "client_assertion").split('.').next().unwrap().to_owned();
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert!(header.contains("\"alg\":\"PS256\""), "{header}");
}

#[test]
fn google_gives_no_codes_for_other_devices() {
    let home = Home::new();
    home.configure(
        "accounts:\n  home: { host: pop.gmail.com, user: alice, oauth2: { provider: google, client_id: x }, \
         deliver: { maildir: ~/Mail } }\n",
    );
    let ended = home.must(&["login", "--device", "home"], 77);
    is_told(
        &ended,
        &["no codes for other devices, or not for mail", "hint: log in in a browser, without --device"],
    );
}

/// Makes an RSA key and a certificate for it.
pub fn key_and_certificate(home: &Home) -> (PathBuf, PathBuf) {
    let serial = std::fs::read_dir(home.path("")).unwrap().count();
    let (key, certificate) = (home.path(format!("key-{serial}.pem")), home.path(format!("{serial}.pem")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=postrider", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (key, certificate)
}

#[test]
fn an_application_has_access_by_its_secret_or_its_certificate() {
    let (tokens, server, home) = servers("");
    tokens.state().secret = Some("the client's secret".into());
    let of = |more: &str| {
        configuration(&server, &tokens.keys(&format!(", grant: client_credentials{more}")), "auth: [xoauth2]")
    };
    home.configure(&of(", client_secret: another secret"));
    let ended = home.must(&["sync"], 77);
    is_told(
        &ended,
        &[
            "server: invalid_client: AADSTS7000215: Invalid client secret [secret] provided.",
            "hint: `client_secret` is wrong: it is the secret's value that counts, not its id",
        ],
    );
    home.configure(&of(", client_secret: the client's secret"));
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    assert_eq!(tokens.count("client_credentials"), 2);
    let (key, certificate) = key_and_certificate(&home);
    tokens.state().certificate = Some(std::fs::read_to_string(&certificate).unwrap());
    let fresh = Home::new();
    fresh.configure(&of(&format!(
        ", client_certificate: '{}', client_key: '{}'",
        certificate.display(),
        key.display()
    )));
    fresh.must(&["sync"], 0);
    assert_eq!(tokens.count("client_credentials"), 3);
}
