//! What is written of a target: what is accepted, shown and refused.

use std::path::Path;

use postrider::testing::config::{Config, show};

use crate::support::postrider::Home;

use super::FILE;

#[test]
fn targets_of_a_list_must_be_told_apart_by_name_or_by_kind_and_place() {
    let read = |keys: &str| {
        let text = format!("accounts: {{ a: {{ host: h, user: u, {keys} }} }}\nstate: /s");
        Config::from_yaml(&text, Path::new(FILE)).map_err(|error| error.to_string())
    };
    for (sound, keys) in [
        ("deliver: { maildir: /m }", vec!["maildir:/m"]),
        ("deliver: { maildir: /m, name: here }", vec!["here"]),
        ("deliver: [{ maildir: /m }, { name: b.2, mbox: /b }]", vec!["maildir:/m", "b.2"]),
        ("deliver: [{ pipe: [a, b] }, { pipe: [a, c], name: c }]", vec!["pipe:a", "c"]),
        ("deliver: [{ maildir: /m }, { mbox: /b }], refused: { maildir: /r }", vec!["maildir:/m", "mbox:/b"]),
    ] {
        let config = read(sound).unwrap_or_else(|error| panic!("{sound}: {error}"));
        let known: Vec<String> = config.accounts[0].deliver.iter().map(|to| to.key()).collect();
        assert_eq!(known, keys, "{sound}");
        let again = Config::from_yaml(&show(&config), Path::new(FILE));
        assert_eq!(again.unwrap(), config, "{sound}: {}", show(&config));
    }
    for (wrong, what) in [
        ("deliver: []", "deliver: is empty"),
        ("deliver: [{ maildir: /m }, { mabox: /b }]", "deliver[1].mabox: unknown key; did you mean `mbox`?"),
        ("deliver: [{ maildir: /m }, { maildir: /m }]", "deliver: has the same target twice"),
        ("deliver: [{ pipe: [a, b] }, { pipe: [a, c] }]", "deliver: has the same target twice"),
        ("deliver: [{ mbox: /b, name: x }, { maildir: /m, name: x }]", "deliver: has the same target twice"),
        (
            "deliver: { maildir: /m }, refused: { maildir: /m }",
            "deliver: has the target in it that is `refused`",
        ),
        ("deliver: { name: x }", "deliver: is empty"),
        ("deliver: { maildir: /m, name: 'a:b' }", "deliver.name: must be up to 64 letters"),
        ("deliver: { maildir: /m, mbox: /b }", "deliver: one key too many"),
    ] {
        let told = read(wrong).expect_err(wrong);
        assert!(told.contains(what), "{wrong}: {told}");
    }
}

#[test]
fn servers_as_targets_are_shown_whole_but_for_the_password() {
    let deliver = |target: &str| format!("accounts: {{a: {{host: h, user: u, deliver: {target}}}}}");
    for (target, expected) in [
        (
            "{smtp: {to: [a@b, c@e]}}".to_owned(),
            "{ smtp: { host: localhost, port: 25, tls: none, to: [a@b, c@e] } }",
        ),
        (
            "{smtp: {host: MX, tls: implicit, user: me, password: hunter2, to: [a], from: x@y}}".to_owned(),
            "{ smtp: { host: mx, port: 465, tls: implicit, user: me, password: '[secret]', to: [a], from: x@y } }",
        ),
        (
            "{smtp: {host: mx, tls: starttls, port: 587, tls_ca: /ca.pem, tls_server_name: n, to: [a], from: keep}}".to_owned(),
            "{ smtp: { host: mx, port: 587, tls: starttls, tls_ca: /ca.pem, tls_server_name: n, to: [a] } }",
        ),
        (
            "{lmtp: {host: mx, tls: implicit, tls_client_cert: /c, tls_client_key: /k, tls_min: '1.3', bind: '::1', timeout: 90s, to: [a]}}"
                .to_owned(),
            "{ lmtp: { host: mx, port: 24, tls: implicit, tls_client_cert: /c, tls_client_key: /k, tls_min: '1.3', bind: '::1', \
             timeout: 90s, to: [a] } }",
        ),
        ("{lmtp: {socket: /l, timeout: 2m, to: [a]}}".to_owned(), "{ lmtp: { socket: /l, timeout: 2m, to: [a] } }"),
        (
            "{lmtp: {socket: /l, to: {header: X-Original-To, domains: [a], map: {b: c@d}, strip_prefix: e-, unknown: f@g}}}"
                .to_owned(),
            "{ lmtp: { socket: /l, to: { header: X-Original-To, occurrence: first, strip_prefix: e-, domains: [a], map: { b: \
             c@d }, unknown: f@g } } }",
        ),
        (
            "{lmtp: {socket: /l, to: {header: X-Original-To, occurrence: 2}}}".to_owned(),
            "{ lmtp: { socket: /l, to: { header: X-Original-To, occurrence: 2, unknown: hold } } }",
        ),
        (
            "{lmtp: {socket: /l, to: {header: X-Original-To, occurrence: last}}}".to_owned(),
            "{ lmtp: { socket: /l, to: { header: X-Original-To, occurrence: last, unknown: hold } } }",
        ),
        ("{lmtp: {socket: /run/l, to: [a]}}".to_owned(), "{ lmtp: { socket: /run/l, to: [a] } }"),
        ("{lmtp: {host: '::1', to: [a]}}".to_owned(), "{ lmtp: { host: '::1', port: 24, tls: none, to: [a] } }"),
        ("{http: {url: 'https://Desk.example/in'}}".to_owned(), "{ http: { url: 'https://desk.example/in' } }"),
        (
            "{http: {url: 'http://desk.example/in', tls: none, method: PUT, hmac: hunter2, success: [200, 409], timeout: 5s}}"
                .to_owned(),
            "{ http: { url: 'http://desk.example/in', method: PUT, tls: none, timeout: 5s, hmac: '[secret]', success: [200, \
             409] } }",
        ),
        (
            "{http: {url: 'https://d/', user: u, password: hunter2, headers: {X-Key: hunter2, X-Id: {file: /i}}, tls_min: '1.3'}}"
                .to_owned(),
            "{ http: { url: 'https://d/', tls_min: '1.3', user: u, password: '[secret]', headers: { X-Key: '[secret]', X-Id: \
             { file: /i } } } }",
        ),
        (
            "{gmail: {user: a@gmail.com, oauth2: {token_command: t}}}".to_owned(),
            "{ gmail: { user: a@gmail.com, oauth2: { token_command: t } } }",
        ),
        (
            "{gmail: {user: a, labels: [INBOX, Lists/x], spam: never, date: now, url: 'http://localhost:9/', timeout: 5s, oauth2: \
             {token_command: t}}}"
                .to_owned(),
            "{ gmail: { user: a, oauth2: { token_command: t }, labels: [INBOX, Lists/x], spam: never, date: now, url: \
             'http://localhost:9/', timeout: 5s } }",
        ),
        (
            "{http: {url: 'https://d/', bearer: {env: TOKEN}, bind: '::1'}}".to_owned(),
            "{ http: { url: 'https://d/', bind: '::1', bearer: { env: TOKEN } } }",
        ),
    ] {
        let config = Config::from_yaml(&deliver(&target), Path::new(FILE)).unwrap();
        let shown = show(&config);
        assert!(shown.contains(&format!("deliver: {expected}\n")), "{shown}");
        let again = Config::from_yaml(&shown.replace("[secret]", "hunter2"), Path::new(FILE)).unwrap();
        assert_eq!(again.accounts[0].deliver, config.accounts[0].deliver);
        assert!(!shown.contains("hunter2"));
    }
    let shown = |target: &str| {
        Config::from_yaml(&deliver(target), Path::new(FILE)).unwrap().accounts[0].deliver[0].to_string()
    };
    assert_eq!(shown("{smtp: {to: [a]}}"), "smtp:localhost:25");
    assert_eq!(shown("{lmtp: {host: '::1', to: [a]}}"), "lmtp:[::1]:24");
    assert_eq!(shown("{lmtp: {socket: /run/l, to: [a]}}"), "lmtp:/run/l");
}

#[test]
fn an_endpoint_that_contradicts_itself_or_gives_a_secret_away_is_refused() {
    for (keys, told) in [
        ("{}", "needs `url`"),
        ("{url: 'ftp://d/'}", "url: must be a URL that begins with https://"),
        ("{url: 'https://u:p@d/'}", "url: must be a URL without a user in it"),
        ("{url: 'http://d.example/'}", "url: is an http:// URL of another machine"),
        ("{url: 'http://d.example/', tls: implicit}", "tls: contradicts `url`"),
        ("{url: 'https://d.example/', tls: none}", "tls: contradicts `url`"),
        ("{url: 'https://d.example/', tls: starttls}", "tls: has no starttls in HTTP"),
        (
            "{url: 'http://d.example/', tls: none, user: u, password: p}",
            "password: is sent to another machine only",
        ),
        (
            "{url: 'http://d.example/', tls: none, bearer: p}",
            "bearer: is sent to another machine only over TLS",
        ),
        (
            "{url: 'http://localhost/', proxy: 'socks5://p', bearer: p}",
            "bearer: is sent to another machine only over TLS",
        ),
        ("{url: 'https://d/', user: u}", "user: needs `password` too"),
        ("{url: 'https://d/', password: p}", "needs `user` beside `password`"),
        ("{url: 'https://d/', user: u, bearer: p}", "user: has no meaning with `bearer`"),
        ("{url: 'https://d/', user: 'u:v', password: p}", "user: must have no colon"),
        ("{url: 'https://d/', method: GET}", "method: must be POST or PUT"),
        ("{url: 'https://d/', success: []}", "success: must be a list of statuses"),
        ("{url: 'https://d/', success: [100]}", "success[0]: must be a status from 200 to 599"),
        ("{url: 'https://d/', headers: {Host: x}}", "Host is written by postrider itself"),
        (
            "{url: 'https://d/', headers: {idempotency-KEY: x}}",
            "idempotency-KEY is written by postrider itself",
        ),
        (
            "{url: 'https://d/', headers: {X-Postrider-Uid: x}}",
            "X-Postrider-Uid is written by postrider itself",
        ),
        ("{url: 'https://d/', headers: {'a b': x}}", "the name of a header field"),
        ("{url: 'https://d/', headers: {A: x, a: y}}", "a is given twice"),
        ("{url: 'https://d/', headers: {A: \"x\\r\\nB: y\"}}", "headers.A: must have no control characters"),
        ("{url: 'https://d/', bearer: b, headers: {authorization: x}}", "headers: has Authorization in it"),
        ("{url: 'http://127.0.0.1/', tls_ca: /c}", "tls_ca: has no meaning with `tls: none`"),
    ] {
        let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {{http: {keys}}}}}}}");
        let error = Config::from_yaml(&yaml, Path::new(FILE)).unwrap_err().to_string();
        assert!(error.contains(told), "{keys}: {error}");
        assert!(!error.contains("u:p@"), "{error}");
    }
}

#[test]
fn a_gmail_that_cannot_be_is_refused() {
    let oauth2 = "oauth2: {token_command: t}";
    for (keys, told) in [
        ("{user: a}".to_owned(), "needs `user` and `oauth2`"),
        (format!("{{{oauth2}}}"), "needs `user` and `oauth2`"),
        (
            "{user: a, oauth2: {provider: microsoft, client_id: c}}".to_owned(),
            "oauth2: has tokens of microsoft",
        ),
        (format!("{{user: a, {oauth2}, labels: INBOX}}"), "labels: must be a list"),
        (format!("{{user: a, {oauth2}, labels: [SENT]}}"), "labels[0]: is given by Gmail alone"),
        (format!("{{user: a, {oauth2}, labels: [x, x]}}"), "labels[1]: stands in the list twice"),
        (format!("{{user: a, {oauth2}, labels: ['']}}"), "labels[0]: must be a label"),
        (format!("{{user: a, {oauth2}, spam: always}}"), "spam: must be classify or never"),
        (format!("{{user: a, {oauth2}, date: received}}"), "date: must be header or now"),
        (format!("{{user: a, {oauth2}, url: 'http://gmail.example/'}}"), "url: must be an https:// URL"),
        (
            format!("{{user: a, {oauth2}, url: 'https://gmail.example/?x'}}"),
            "url: must be a URL without a query",
        ),
        (format!("{{user: a, {oauth2}, tls: none}}"), "tls: contradicts `url`"),
        (format!("{{user: a, {oauth2}, password: p}}"), "password: unknown key"),
    ] {
        let yaml = format!("accounts: {{a: {{host: h, user: u, deliver: {{gmail: {keys}}}}}}}");
        let error = Config::from_yaml(&yaml, Path::new(FILE)).unwrap_err().to_string();
        assert!(error.contains(told), "{keys}: {error}");
    }
}

#[test]
fn a_targets_password_makes_the_file_one_that_others_must_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let text = "state: /s\naccounts: {a: {host: h, user: u, deliver: {smtp: {to: [a], user: u, password: hunter2}}}}";
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    for target in
        ["", "http: {url: 'https://d/', hmac: hunter2}", "http: {url: 'https://d/', headers: {X: hunter2}}"]
    {
        if !target.is_empty() {
            let text = format!("state: /s\naccounts: {{a: {{host: h, user: u, deliver: {{{target}}}}}}}");
            std::fs::write(&file, text).unwrap();
        }
        let error = Config::load(&file).unwrap_err().to_string();
        assert!(error.contains("holds a password and is readable by others"), "{target}: {error}");
    }
}

#[test]
fn fields_that_never_hold_the_envelopes_recipients_are_no_header_of_a_catch_all() {
    let home = Home::new();
    for field in [
        "Received",
        "Received-SPF",
        "List-Id",
        "list-post",
        "Resent-From",
        "DKIM-Signature",
        "Content-Type",
        "Authentication-Results",
        "ARC-Seal",
        "DomainKey-Signature",
    ] {
        home.configure(&format!(
            "accounts: {{ a: {{ host: h, user: u, deliver: {{ smtp: {{ to: {{ header: {field} }} }} }} }} }}\n"
        ));
        let told = home.must(&["config", "check"], 78).stderr;
        assert!(told.contains("so that every message would be held"), "{field}: {told}");
    }
    for field in ["X-Original-To", "Delivered-To", "Envelope-To", "X-Received-For", "Listed"] {
        home.configure(&format!(
            "accounts: {{ a: {{ host: h, user: u, deliver: {{ smtp: {{ to: {{ header: {field} }} }} }} }} }}\n"
        ));
        home.must(&["config", "check"], 0);
    }
}
