//! OAuth2: log-ins in browsers and on other devices, tokens that are kept, renewed and refused.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::authorization_server::{AuthorizationServer, CLIENT, Instead, Person, browse};
use crate::support::maildrop::{Maildrop, Settings, What};
use crate::support::mounted::Mounted;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{Ended, mail_owner};

pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;

/// A maildrop with a message, the server whose tokens it takes, and a home whose account logs in by these keys.
pub fn servers(more: &str) -> (AuthorizationServer, Maildrop, Home) {
    let tokens = AuthorizationServer::start();
    let server = Maildrop::start(Settings::with_tokens(tokens.check("pop")));
    server.put("one", b"Subject: 1\r\n\r\n".to_vec());
    let home = Home::new();
    home.configure(&configuration(&server, &tokens.keys(more), "auth: [xoauth2]"));
    (tokens, server, home)
}

pub fn configuration(server: &Maildrop, oauth2: &str, more: &str) -> String {
    format!("accounts:\n{}", account("home", server, oauth2, more))
}

pub fn account(name: &str, server: &Maildrop, oauth2: &str, more: &str) -> String {
    format!(
        "  {name}: {{ host: 127.0.0.1, port: {}, tls: none, user: alice, maildrop_id: {name}, {more}, \
         oauth2: {oauth2}, deliver: {{ maildir: ~/{name} }} }}\n",
        server.port()
    )
}

/// The program while somebody logs in.
pub struct Terminal {
    pub child: Child,
    shown: BufReader<ChildStdout>,
    text: String,
}

impl Terminal {
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let shown = BufReader::new(child.stdout.take().unwrap());
        Self { child, shown, text: String::new() }
    }

    /// Reads until a line has this in it, and gives that line.
    pub fn shows(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let count = self.shown.read_line(&mut line).unwrap();
            if count == 0 {
                let mut stderr = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("no {words:?} in {}{stderr}", self.text);
            }
            self.text += &line;
            if line.contains(words) {
                return line.trim().to_owned();
            }
        }
    }

    pub fn paste(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn ends(mut self, status: i32) -> (String, String) {
        let (mut rest, mut stderr) = (String::new(), String::new());
        self.shown.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        self.text += &rest;
        assert_eq!(self.child.wait().unwrap().code(), Some(status), "{}{stderr}", self.text);
        (std::mem::take(&mut self.text), stderr)
    }
}

/// Who gives up does not leave it waiting for a browser.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Logs in with a browser on this machine.
pub fn log_in(home: &Home) {
    let mut terminal = Terminal::start(home, &["login", "home"]);
    let address = terminal.shows("/authorize?");
    let (status, location, _) = browse(&address).unwrap();
    assert_eq!(status, 302);
    let (status, _, page) = browse(&location.unwrap()).unwrap();
    assert!(status == 200 && page.contains("You may close this window"), "{page}");
    let (said, _) = terminal.ends(0);
    assert!(said.contains("Logged in as alice at 127.0.0.1"), "{said}");
}

pub fn is_told(ended: &Ended, words: &[&str]) {
    for words in words {
        assert!(ended.stderr.contains(words), "{words:?}: {}", ended.stderr);
    }
}

#[test]
fn a_login_in_a_browser_brings_tokens_that_outlive_the_process_until_shortly_before_they_end() {
    let (tokens, server, home) = servers("");
    let ended = home.must(&["sync"], 77);
    is_told(&ended, &["no login of alice is stored", "hint: run `postrider login home`"]);
    log_in(&home);
    assert_eq!(tokens.count("authorization_code"), 1);
    home.must(&["sync", "-v"], 0);
    home.must_at(58 * MINUTE - 20, &["sync"], 0);
    assert_eq!(tokens.count("refresh_token"), 0);
    home.must_at(58 * MINUTE + 20, &["sync"], 0);
    home.must_at(59 * MINUTE, &["sync"], 0);
    assert_eq!(tokens.count("refresh_token"), 1);
    assert_eq!(server.events().iter().filter(|event| event.what == What::LoggedIn).count(), 4);
    // Each time the next one: what was replaced is not good any more.
    for hours in 1..4 {
        home.must_at(hours * HOUR + 59 * MINUTE, &["sync"], 0);
    }
    assert_eq!(tokens.count("refresh_token"), 4);
}

#[test]
fn an_address_at_which_a_browser_elsewhere_ends_is_pasted_and_no_other() {
    let (tokens, _server, home) = servers("");
    let other = browse(&Terminal::start(&home, &["login", "home"]).shows("/authorize?")).unwrap().1.unwrap();
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let address = terminal.shows("/authorize?");
    for (pasted, told) in [
        ("yes", "there is no code in it"),
        ("http://127.0.0.1/", "there is no code in it"),
        (&other, "it is of another log-in than this one"),
    ] {
        terminal.paste(pasted);
        let line = terminal.shows("That is not the right address");
        assert!(line.contains(told), "{line}");
    }
    let location = browse(&address).unwrap().1.unwrap();
    terminal.paste(&location.replace("http://127.0.0.1", "  https://somewhere.example"));
    terminal.ends(0);
    assert_eq!(tokens.count("authorization_code"), 1);
    home.must(&["sync"], 0);
}

#[test]
fn a_browser_that_brings_something_else_is_told_so_and_waited_for() {
    let (_tokens, _server, home) = servers("");
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let address = terminal.shows("/authorize?");
    let location = browse(&address).unwrap().1.unwrap();
    let port = location.split(['/', '?']).nth(2).unwrap();
    assert_eq!(browse(&format!("http://{port}/favicon.ico")).unwrap().0, 404);
    assert_eq!(browse(&format!("http://{port}/?code=x&state=y")).unwrap().0, 400);
    assert!(terminal.shows("The browser brought").contains("another log-in"));
    assert_eq!(browse(&location).unwrap().0, 200);
    terminal.ends(0);
}

#[test]
fn an_access_that_is_declined_or_not_allowed_whole_is_told() {
    let (tokens, _server, home) = servers("");
    tokens.state().person = Person::Declines;
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let location = browse(&terminal.shows("/authorize?")).unwrap().1.unwrap();
    browse(&location).unwrap();
    let (_, stderr) = terminal.ends(77);
    assert!(stderr.contains("refused (access_denied)") && stderr.contains("The user declined."), "{stderr}");
    tokens.state().person = Person::AllowsAllBut("alice".into(), "offline_access".into());
    let mut terminal = Terminal::start(&home, &["login", "home"]);
    let location = browse(&terminal.shows("/authorize?")).unwrap().1.unwrap();
    terminal.paste(&location);
    let (_, stderr) = terminal.ends(77);
    assert!(stderr.contains("the provider gave no refresh token"), "{stderr}");
    home.must(&["sync"], 77);
}

#[test]
fn a_code_is_typed_in_on_another_device_by_whoever_takes_a_while() {
    let (tokens, _server, home) = servers("");
    tokens.state().person = Person::Waits;
    let mut terminal = Terminal::start(&home, &["login", "--device", "home"]);
    let line = terminal.shows("type in the code");
    assert!(line.contains("Open http://127.0.0.1/device") && line.contains("WDJB-MJHT"), "{line}");
    while tokens.count("device_code") < 2 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    tokens.state().person = Person::Allows("alice".into());
    terminal.ends(0);
    home.must(&["sync"], 0);
}

#[test]
fn a_code_that_expired_or_was_declined_is_told() {
    let (tokens, _server, home) = servers("");
    tokens.state().person = Person::Declines;
    let ended = home.must(&["login", "--device", "home"], 77);
    is_told(&ended, &["refused (access_denied)", "the access was declined"]);
    tokens.state().person = Person::Waits;
    let ended = home.must(&["login", "--device", "home"], 75);
    is_told(&ended, &["refused (expired_token)", "hint: the code has expired: begin again"]);
}

#[test]
fn accounts_that_share_a_login_renew_its_token_once_among_all_processes() {
    let (tokens, server, home) = servers("");
    let keys = tokens.keys("");
    let accounts: String =
        ["home", "b", "c", "d"].map(|name| account(name, &server, &keys, "auth: [oauthbearer]")).concat();
    home.configure(&format!("accounts:\n{accounts}"));
    log_in(&home);
    for round in 1..=2 {
        tokens.revoke_access();
        let running: Vec<_> = ["home", "b", "c", "d"].map(|name| home.start(&["sync", name])).into();
        let together = home.start(&["sync"]);
        for ended in running.into_iter().chain([together]).map(|running| running.wait(LIMIT)) {
            assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        }
        assert_eq!(tokens.count("refresh_token"), round);
    }
}

#[test]
fn a_token_that_the_server_refuses_is_renewed_once_and_then_it_is_the_log_in() {
    let (tokens, server, home) = servers("");
    log_in(&home);
    tokens.revoke_access();
    let ended = home.must(&["sync", "-v"], 0);
    is_told(&ended, &["home: server refuses the access token; getting a new one"]);
    assert_eq!(tokens.count("refresh_token"), 1);
    // Tokens of somebody else, however new.
    let (sees, tries) = (Home::new(), server.events().len());
    let token = tokens.refresh_token("bob", "pop offline_access");
    let keys = tokens.keys(&format!(", refresh_token: {token}"));
    sees.configure(&configuration(&server, &keys, "auth: [oauthbearer]"));
    let ended = sees.must(&["sync"], 77);
    is_told(&ended, &["server: {\"status\":\"invalid_token\"", "(invalid_token); it wants one for pop"]);
    let log_ins = server.events()[tries..].iter().filter(|event| event.what == What::Connected).count();
    assert_eq!((log_ins, tokens.count("refresh_token")), (1, 2));
    // The next one, kept by now, is renewed; and then nothing is tried for a quarter of an hour.
    let ended = sees.must_at(16 * MINUTE, &["sync", "-v"], 77);
    is_told(&ended, &["invalid_token"]);
    assert_eq!(tokens.count("refresh_token"), 3);
    is_told(&sees.must_at(17 * MINUTE, &["sync", "-v"], 77), &["not tried"]);
    assert_eq!(tokens.count("refresh_token"), 3);
}

#[test]
fn a_login_that_expired_is_asked_for_as_seldom_as_a_refused_password_until_somebody_logs_in() {
    let (tokens, _server, home) = servers("");
    log_in(&home);
    home.must(&["sync"], 0);
    tokens.revoke_logins();
    let ended = home.must_at(HOUR, &["sync"], 77);
    is_told(
        &ended,
        &[
            "home: 127.0.0.1:",
            "get an access token for alice: refused",
            "server: invalid_grant: Token has been expired or revoked.",
            "hint: the login has expired or was revoked; run `postrider login home`",
            "no further unattended attempt before",
        ],
    );
    // By a crontab of five minutes, for four hours: after a quarter of an hour, another, and then once an hour.
    for poll in 1..=48 {
        home.must_at(HOUR + poll * 5 * MINUTE, &["sync"], 77);
    }
    assert_eq!(tokens.count("refresh_token"), 1 + 2 + 3);
    log_in(&home);
    home.must_at(HOUR + 49 * 5 * MINUTE, &["sync"], 0);
}

#[test]
fn a_configured_refresh_token_counts_until_the_provider_replaces_it_and_again_when_it_changes() {
    let (tokens, server, home) = servers("");
    let first = tokens.refresh_token("alice", "pop offline_access");
    let secret = home.write("secret", &format!("{first}\n"));
    let keys = tokens.keys(&format!(", refresh_token: {{ file: '{}' }}", secret.display()));
    home.configure(&configuration(&server, &keys, "auth: [xoauth2]"));
    for hour in 0..3 {
        home.must_at(hour * HOUR, &["sync"], 0);
    }
    assert_eq!(tokens.count("refresh_token"), 3);
    assert_eq!(std::fs::read_to_string(&secret).unwrap().trim(), first);
    let ended = home.must(&["login", "home"], 2);
    is_told(&ended, &["has no `oauth2` in which a person logs in"]);
    tokens.revoke_logins();
    let ended = home.must_at(4 * HOUR, &["sync"], 77);
    is_told(&ended, &["put a new one in the place of the configured `refresh_token`"]);
    is_told(&home.must_at(4 * HOUR + MINUTE, &["sync", "-v"], 77), &["not tried"]);
    home.write("secret", &tokens.refresh_token("alice", "pop offline_access"));
    home.must_at(4 * HOUR + 2 * MINUTE, &["sync"], 0);
}

#[test]
fn a_refresh_token_that_a_command_prints_gives_way_to_the_providers_next_one_until_it_changes() {
    let (tokens, server, home) = servers("");
    let secret = home.write("secret", &tokens.refresh_token("alice", "pop offline_access"));
    let keys = tokens.keys(&format!(", refresh_token: {{ command: 'cat {}' }}", secret.display()));
    home.configure(&configuration(&server, &keys, "auth: [xoauth2]"));
    for hour in 0..3 {
        home.must_at(hour * HOUR, &["sync"], 0);
    }
    assert_eq!(tokens.count("refresh_token"), 3);
    tokens.revoke_logins();
    home.must_at(3 * HOUR, &["sync"], 77);
    home.write("secret", &tokens.refresh_token("alice", "pop offline_access"));
    home.must_at(3 * HOUR + MINUTE, &["sync"], 0);
    assert_eq!(tokens.count("refresh_token"), 5);
}

#[test]
fn an_endpoint_that_answers_badly_is_one_clear_error_and_loses_nothing() {
    let (tokens, server, home) = servers("");
    log_in(&home);
    home.must(&["sync"], 0);
    let keys = tokens.keys("");
    home.configure(&configuration(&server, &keys, "auth: [xoauth2], timeout: 2s"));
    let html = "Content-Type: text/html\r\n";
    let json = "Content-Type: application/json\r\n";
    for (instead, words) in [
        (
            Instead::Answer(200, html, "<p>log in to the hotel's network"),
            "server sent a web page (HTTP 200) where JSON belongs",
        ),
        (Instead::Answer(404, html, ""), "server sent a web page (HTTP 404) where JSON belongs"),
        (Instead::Answer(200, json, "{}"), "server sent JSON without an access token"),
        (
            Instead::Answer(302, "Location: https://else.example/?x=secret\r\n", ""),
            "server sent a redirect to https://else.example/ (HTTP 302), which is not followed",
        ),
        (
            Instead::Answer(
                429,
                "Retry-After: 30\r\nContent-Type: application/json\r\n",
                "{\"error\":\"slow_down\"}",
            ),
            "the provider cannot answer now (HTTP 429); it wants 30s of peace",
        ),
        (Instead::Answer(503, html, "<p>down"), "the provider cannot answer now (HTTP 503)"),
        (Instead::Silence, "gave up after 2s waiting for the answer"),
        (Instead::Endless, "server sent more than 262144 octets"),
    ] {
        tokens.state().instead.push_back(instead);
        let ended = home.must_at(HOUR, &["check"], 75);
        is_told(&ended, &["home: get an access token for alice: ", words]);
    }
    home.must_at(HOUR, &["sync"], 0);
}

#[test]
fn a_full_disk_keeps_the_provider_from_being_asked_and_loses_no_token() {
    let (tokens, _server, home) = servers("");
    let Some(disk) = Mounted::tmpfs(home.path("state/postrider/state.db.tokens"), "256k") else { return };
    log_in(&home);
    home.must(&["sync"], 0);
    let filler = disk.fill();
    let ended = home.must_at(HOUR, &["check"], 75);
    is_told(
        &ended,
        &["home: get an access token for alice: cannot write the state file", "the disk is full"],
    );
    assert_eq!(tokens.count("refresh_token"), 0);
    std::fs::remove_file(filler).unwrap();
    home.must_at(HOUR, &["check"], 1);
    assert_eq!(tokens.count("refresh_token"), 1);
}

#[test]
fn tokens_that_cannot_be_read_are_told_and_damaged_ones_are_none() {
    let (_tokens, _server, home) = servers("");
    log_in(&home);
    let kept = std::fs::read_dir(home.path("state/postrider/state.db.tokens")).unwrap();
    let file = kept.map(|entry| entry.unwrap().path()).next().unwrap();
    assert_eq!(home.mode(&file), 0o600);
    std::fs::write(&file, "{}").unwrap();
    is_told(&home.must(&["check"], 77), &["no login of alice is stored"]);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    is_told(&home.must(&["check"], 75), &["cannot read or write the tokens in", "Is a directory"]);
    std::fs::remove_dir(&file).unwrap();
    log_in(&home);
    home.must(&["sync"], 0);
}

/// A proxy that connects to whatever it is asked for (RFC 9110, 9.3.6), and what it was asked for.
pub fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::default());
    let noted: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let noted = Arc::clone(&noted);
            std::thread::spawn(move || {
                let mut head = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
                let line = head.next().unwrap();
                head.take_while(|line| !line.is_empty()).for_each(drop);
                let target = line.split(' ').nth(1).unwrap().to_owned();
                noted.lock().unwrap().push(target.clone());
                let mut server = TcpStream::connect(target).unwrap();
                client.write_all(b"HTTP/1.1 200 ok\r\n\r\n").unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (port, asked)
}

#[test]
fn tokens_come_by_the_accounts_own_proxy() {
    let (tokens, server, home) = servers("");
    let (port, asked) = proxy();
    let token = tokens.refresh_token("alice", "pop offline_access");
    let keys = tokens.keys(&format!(", refresh_token: {token}"));
    let more = format!("auth: [xoauth2], proxy: 'http://127.0.0.1:{port}'");
    home.configure(&configuration(&server, &keys, &more));
    home.must(&["sync"], 0);
    let endpoint = tokens.url("").trim_start_matches("http://").trim_end_matches('/').to_owned();
    assert_eq!(*asked.lock().unwrap(), [endpoint, format!("127.0.0.1:{}", server.port())]);
}

#[test]
fn root_logs_in_for_whom_the_state_is() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested: only root can become another");
    }
    let (_tokens, _server, home) = servers("");
    let (owner, directory) = (mail_owner(), home.path("state/postrider"));
    std::fs::create_dir_all(&directory).unwrap();
    // Whoever it becomes must get there.
    std::fs::set_permissions(home.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&directory, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    log_in(&home);
    let kept = std::fs::read_dir(directory.join("state.db.tokens")).unwrap();
    for file in kept.map(|entry| entry.unwrap().path()).chain([directory.join("state.db.lock")]) {
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), owner.uid.as_raw(), "{}", file.display());
    }
}

#[test]
fn a_command_prints_tokens_and_is_not_run_before_they_end() {
    let (tokens, server, home) = servers("");
    let refresh = tokens.refresh_token("alice", "pop offline_access");
    let script = format!(
        "echo ran >> \"$HOME/runs\"; curl -s -d grant_type=refresh_token -d client_id={CLIENT} -d refresh_token={refresh} {}",
        tokens.url("token")
    );
    tokens.state().rotates = false;
    home.configure(&configuration(
        &server,
        &format!("{{ token_command: '{}' }}", script.replace('\'', "''")),
        "auth: [xoauth2]",
    ));
    home.must(&["sync"], 0);
    home.must(&["sync"], 0);
    let runs = |home: &Home| std::fs::read_to_string(home.path("runs")).unwrap().lines().count();
    assert_eq!(runs(&home), 1);
    home.must_at(HOUR, &["sync"], 0);
    assert_eq!(runs(&home), 2);
    tokens.revoke_access();
    home.must_at(HOUR, &["sync"], 0);
    assert_eq!(runs(&home), 3);
    home.configure(&configuration(&server, "{ token_command: 'echo two words' }", "auth: [xoauth2]"));
    is_told(&home.must(&["sync"], 77), &["the command echo printed what is no access token"]);
}
