//! Roads to a server: SOCKS5 and CONNECT by Debian's proxies, and by ones that refuse, lie or hang; a command to a server
//! of old TLS; addresses and names; POP before SMTP.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::unistd::getuid;
use tempfile::TempDir;

use crate::support::authorization_server::AuthorizationServer;
use crate::support::certificate::Certificate;
use crate::support::dovecot::{Dovecot, Format, PASSWORD};
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::mail_server::MailServer;
use crate::support::maildrop::{Maildrop, Protection, Settings, What};
use crate::support::mails;
use crate::support::postrider::{Home, LIMIT};
use crate::support::process::{Running, Server, free_port};

const LOG_IN: (&str, &str) = ("walker", "p@ss:word");
/// The same in a URL.
const IN_URL: &str = "walker:p%40ss%3Aword@";

/// A proxy that runs, and its URL.
struct Road {
    server: Server,
    _directory: TempDir,
    port: u16,
}

fn run(program: &str, configure: impl Fn(&mut Command, &TempDir, u16)) -> Road {
    let directory = TempDir::new().expect("a temporary directory");
    let port = free_port();
    let mut command = Command::new(program);
    configure(&mut command, &directory, port);
    let server = Server::start(&mut command, &directory.path().join("log"), &[port]);
    let server = server.unwrap_or_else(|log| panic!("{program} does not start; run tests/run: {log}"));
    Road { server, _directory: directory, port }
}

fn microsocks(log_in: Option<(&str, &str)>) -> Road {
    run("microsocks", |command, _, port| {
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        if let Some((user, password)) = log_in {
            command.args(["-u", user, "-P", password]);
        }
    })
}

fn tinyproxy(log_in: Option<(&str, &str)>, allowed: u16) -> Road {
    run("tinyproxy", |command, directory, port| {
        let basic =
            log_in.map(|(user, password)| format!("BasicAuth {user} {password}\n")).unwrap_or_default();
        // It would rather be nobody.
        let user = if getuid().is_root() { "User root\nGroup root\n" } else { "" };
        let text = format!(
            "{user}Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 10\nConnectPort {allowed}\n{basic}"
        );
        let file = directory.path().join("tinyproxy.conf");
        fs::write(&file, text).expect("a configuration");
        command.arg("-d").arg("-c").arg(file);
    })
}

/// A home whose account reaches Dovecot, by its name, over this proxy.
fn home(server: &Dovecot, proxy: &str, deliver: &str) -> Home {
    let home = Home::new();
    let ca = home.write("ca.pem", &server.certificate.authority_pem);
    home.configure(&format!(
        "accounts:\n  home:\n    {{ host: localhost, port: {}, user: u1, password: '{PASSWORD}', tls_ca: {}, timeout: 5s,\n     \
         proxy: '{proxy}', deliver: {deliver} }}\n",
        server.tls_port,
        ca.display()
    ));
    home
}

#[test]
fn maildrop_and_targets_are_reached_by_each_kind_of_proxy() {
    let server = Dovecot::start(Format::Maildir, 1);
    server.put("u1", &mails::ordinary(3));
    let target = ImapServer::start(Habits::default());
    let open = microsocks(None);
    let closed = microsocks(Some(LOG_IN));
    let http = tinyproxy(None, server.tls_port);
    let http_closed = tinyproxy(Some(("walker", "word")), server.tls_port);
    for proxy in [
        format!("socks5://127.0.0.1:{}", open.port),
        format!("socks5://{IN_URL}localhost:{}", closed.port),
        format!("http://127.0.0.1:{}", http.port),
        format!("http://walker:word@127.0.0.1:{}/", http_closed.port),
    ] {
        let home = home(&server, &proxy, "{ maildir: ~/Mail }");
        home.must(&["sync"], 0);
        assert_eq!(home.files("Mail").len(), 3, "{proxy}");
        let told = home.must(&["doctor"], 0).stdout;
        assert!(told.contains(&format!("localhost:{} by the proxy", server.tls_port)), "{told}");
        let shown = home.must(&["config", "show"], 0).stdout;
        for secret in ["p%40ss", "p@ss", "walker:word"] {
            assert!(!told.contains(secret) && !shown.contains(secret), "{told}{shown}");
        }
    }
    let by_socks = target.target(&format!(", auth: [plain], proxy: 'socks5://127.0.0.1:{}'", open.port));
    let home = home(&server, &format!("http://127.0.0.1:{}", http.port), &by_socks);
    home.must(&["sync"], 0);
    assert_eq!(target.inbox().len(), 3);
}

#[test]
fn token_endpoints_and_mail_servers_are_reached_by_a_proxy_too() {
    let tokens = AuthorizationServer::start();
    let server = Maildrop::start(Settings::with_tokens(tokens.check("pop")));
    server.put("one", b"From: <a@b>\r\nSubject: 1\r\n\r\n".to_vec());
    let relay = MailServer::start(&["8BITMIME", "SIZE", "PIPELINING"]);
    let road = microsocks(Some(LOG_IN));
    let proxy = format!("socks5://{IN_URL}127.0.0.1:{}", road.port);
    let keys =
        tokens.keys(&format!(", refresh_token: {}", tokens.refresh_token("alice", "pop offline_access")));
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home: {{ host: 127.0.0.1, port: {}, tls: none, auth: [xoauth2], user: alice, oauth2: {keys}, \
         proxy: '{proxy}', deliver: {{ smtp: {{ host: 127.0.0.1, port: {}, to: [b@example.org], proxy: '{proxy}' }} }} }}\n",
        server.port(),
        relay.port()
    ));
    home.must(&["sync"], 0);
    assert_eq!(relay.arrived().len(), 1);
    let endpoint = tokens.url("").trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let log = road.server.log();
    for port in [endpoint, server.port(), relay.port()] {
        assert!(log.contains(&format!("127.0.0.1:{port}")), "{port}: {log}");
    }
}

#[test]
fn a_proxy_that_refuses_says_why_and_what_to_do() {
    let server = Dovecot::start(Format::Maildir, 1);
    let closed = microsocks(Some(LOG_IN));
    let http = tinyproxy(Some(("walker", "word")), 1);
    let nobody = free_port();
    for (proxy, said, hint) in [
        (format!("socks5://127.0.0.1:{}", closed.port), "without a log-in", "wants a user"),
        (
            format!("socks5://walker:wrong@127.0.0.1:{}", closed.port),
            "refused user and password",
            "check user",
        ),
        (format!("http://127.0.0.1:{}", http.port), "status 407", "wants a user"),
        (format!("http://walker:word@127.0.0.1:{}", http.port), "status 403", "port 443 alone"),
        (format!("socks5://127.0.0.1:{}", http.port), "gave up after 5s", ""),
        (format!("http://127.0.0.1:{}", closed.port), "", ""),
        (format!("http://127.0.0.1:{nobody}"), "connection refused by 127.0.0.1", "check `proxy`"),
        ("socks5://no.such.host.invalid".to_owned(), "no such name", "check `proxy`"),
    ] {
        let ended = home(&server, &proxy, "{ maildir: ~/Mail }").must(&["sync"], 75);
        let words = &ended.stderr;
        assert!(
            words.contains("connect: cannot connect by the proxy ") && words.contains(said),
            "{proxy}: {words}"
        );
        assert!(
            words.contains(hint) && !words.contains("wrong") && !words.contains(":word"),
            "{proxy}: {words}"
        );
    }
    let open = microsocks(None);
    let away = Home::new();
    away.configure(&format!(
        "accounts:\n  home: {{ host: 127.0.0.1, port: {nobody}, user: u, password: p, proxy: 'socks5://127.0.0.1:{}', \
         deliver: {{ maildir: ~/Mail }} }}\n",
        open.port
    ));
    let words = away.must(&["sync"], 75).stderr;
    assert!(words.contains("refused its connection") && words.contains("check `port`"), "{words}");
}

/// A proxy that answers what it is asked first as told; gives its port.
fn scripted(play: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || listener.incoming().flatten().for_each(play));
    port
}

/// Reads as many octets, or up to the end.
fn read(stream: &mut TcpStream, octets: usize) -> Vec<u8> {
    let mut all = vec![0; octets];
    let read = stream.read(&mut all).unwrap_or(0);
    all.truncate(read);
    all
}

#[test]
fn a_proxy_that_hangs_or_lies_is_one_clear_error() {
    const SOCKS: &str = "socks5";
    for (scheme, play, said) in [
        ("http", None, "gave up after 1s waiting for it to connect"),
        ("http", Some(&b""[..]), "closed the connection"),
        ("http", Some(b"+OK POP3 ready\r\n"), "what it sent"),
        ("http", Some(b"HTTP/1.1 200 \r\nContent-Length: 5\r\n"), "closed the connection"),
        ("http", Some(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"), "status 302"),
        ("http", Some(b"\x05\x00"), "what it sent"),
        (SOCKS, None, "gave up after 1s waiting for it to connect"),
        (SOCKS, Some(b""), "closed the connection"),
        (SOCKS, Some(b"+OK POP3 ready\r\n"), ""),
        (SOCKS, Some(b"\x05\x07"), ""),
        (SOCKS, Some(b"\x05\x00\x05\x04\x00\x01\0\0\0\0\0\0"), ""),
        (SOCKS, Some(b"\x05\x00\x05\x00\x00\x09\0\0\0\0\0\0"), ""),
    ] {
        let octets = play.map(<[u8]>::to_vec);
        let port = scripted(move |mut stream| {
            read(&mut stream, 4096);
            match &octets {
                Some(octets) => drop(stream.write_all(octets)),
                None => drop(read(&mut stream, 1)),
            }
        });
        let home = Home::new();
        home.configure(&format!(
            "accounts:\n  home: {{ host: pop.example.org, user: u, password: p, timeout: 1s, proxy: '{scheme}://127.0.0.1:{port}', \
             deliver: {{ maildir: ~/Mail }} }}\n"
        ));
        let words = home.must(&["sync"], 75).stderr;
        assert!(words.contains("cannot connect by the proxy ") && words.contains(said), "{play:?}: {words}");
        assert_eq!(words.matches("home: ").count(), 1, "{words}");
    }
}

#[test]
fn names_go_to_the_proxy_and_what_the_server_says_along_with_its_answer_is_heard() {
    // No machine has an address of this name, so it was not looked up here.
    let greeting = "+OK ready\r\n";
    let http = scripted(move |mut stream| {
        let asked = String::from_utf8(read(&mut stream, 4096)).unwrap();
        assert!(asked.starts_with("CONNECT pop.example.invalid:110 HTTP/1.1\r\n"), "{asked}");
        let _ = stream.write_all(format!("HTTP/1.1 200 Connected\r\n\r\n{greeting}").as_bytes());
        maildrop(&mut stream);
    });
    let socks = scripted(move |mut stream| {
        read(&mut stream, 3);
        let _ = stream.write_all(b"\x05\x00");
        let asked = read(&mut stream, 4096);
        assert_eq!(asked, [&b"\x05\x01\x00\x03\x13pop.example.invalid"[..], &110_u16.to_be_bytes()].concat());
        let _ = stream.write_all(&[&b"\x05\x00\x00\x01\0\0\0\0\0\0"[..], greeting.as_bytes()].concat());
        maildrop(&mut stream);
    });
    for proxy in [format!("http://127.0.0.1:{http}"), format!("socks5://127.0.0.1:{socks}")] {
        let home = Home::new();
        home.configure(&format!(
            "accounts:\n  home: {{ host: pop.example.invalid, user: u, password: p, tls: none, auth: [user-pass], \
             timeout: 5s, proxy: '{proxy}', deliver: {{ maildir: ~/Mail }} }}\n"
        ));
        home.must(&["sync"], 0);
    }
}

/// Serves an empty maildrop.
fn maildrop(stream: &mut TcpStream) {
    let mut line = String::new();
    let mut octet = [0];
    while stream.read(&mut octet).is_ok_and(|read| read == 1) {
        line.push(octet[0].into());
        if line.ends_with('\n') {
            let empty = ["CAPA", "UIDL", "LIST"].iter().any(|verb| line.starts_with(verb));
            let _ = stream.write_all(if empty { b"+OK\r\n.\r\n" } else { b"+OK 0 0\r\n" });
            line.clear();
        }
    }
}

#[test]
fn a_password_goes_to_no_proxys_own_machine_in_clear() {
    for target in [
        "{ imap: { host: localhost, tls: none, user: u, password: p, proxy: 'socks5://proxy.example' } }",
        "{ smtp: { tls: none, user: u, password: p, to: [a@b], proxy: 'socks5://proxy.example' } }",
    ] {
        let home = Home::new();
        home.configure(&format!(
            "accounts: {{ home: {{ host: h, user: u, password: p, deliver: {target} }} }}\n"
        ));
        let words = home.must(&["config", "check"], 78).stderr;
        assert!(words.contains("is sent to another machine"), "{words}");
        let near = target.replace(", proxy: 'socks5://proxy.example'", "");
        home.configure(&format!(
            "accounts: {{ home: {{ host: h, user: u, password: p, deliver: {near} }} }}\n"
        ));
        home.must(&["config", "check"], 0);
    }
}

/// An empty maildrop over TLS 1.0, which nothing written in Rust speaks.
const OF_OLD_TLS: &str = r"
import socket, ssl, sys
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1
tls.set_ciphers('ALL:@SECLEVEL=0')
tls.load_cert_chain('certificate.pem', 'key.pem')
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    client, _ = listener.accept()
    try:
        wire = tls.wrap_socket(client, server_side=True).makefile('rwb', buffering=0)
        wire.write(b'+OK ready\r\n')
        for line in wire:
            listing = line.split()[0] in (b'CAPA', b'UIDL', b'LIST')
            wire.write(b'+OK\r\n.\r\n' if listing else b'+OK 0 0\r\n')
    except OSError:
        pass
";

fn of_old_tls() -> (Road, Certificate) {
    let certificate = Certificate::for_loopback();
    let road = run("/usr/bin/python3", |command, directory, port| {
        fs::write(directory.path().join("key.pem"), &certificate.key_pem).unwrap();
        fs::write(directory.path().join("certificate.pem"), &certificate.pem).unwrap();
        command.args(["-W", "ignore", "-c", OF_OLD_TLS, &port.to_string()]).current_dir(directory.path());
    });
    (road, certificate)
}

#[test]
fn a_server_that_speaks_only_tls_1_0_is_told_and_reached_by_the_manuals_recipe() {
    let (server, certificate) = of_old_tls();
    let port = server.port;
    let home = Home::new();
    let ca = home.write("ca.pem", &certificate.authority_pem);
    let account = |more: &str| {
        home.configure(&format!(
            "accounts:\n  home:\n    host: localhost\n    user: u\n    password: p\n    deliver: {{ maildir: ~/Mail }}\n{more}"
        ));
    };
    account(&format!("    port: {port}\n    tls_ca: {}\n", ca.display()));
    let told = home.must(&["sync"], 75).stderr;
    assert!(told.contains("too old") && told.contains("openssl s_client"), "{told}");
    // As the manual has it, but for where the server is.
    let page = fs::read_to_string("man/postrider.yaml.5").unwrap();
    let recipe = page.lines().skip_while(|line| !line.contains("connect: >-"));
    let recipe: Vec<_> = recipe.take_while(|line| !line.starts_with(".Ed")).collect();
    let recipe = recipe.join("\n").replace("pop.example.org:995", &format!("localhost:{port}"));
    let recipe = recipe
        .replace("pop.example.org", "localhost")
        .replace("/etc/ssl/certs/ca-certificates.crt", &ca.display().to_string());
    let wrong = recipe.replace("-verify_hostname localhost", "-verify_hostname other.example");
    account(&recipe);
    let told = home.must(&["sync", "-v"], 0).stderr;
    assert!(!told.contains("FAILED"), "{told}");
    assert_ne!(wrong, recipe);
    account(&wrong);
    let told = home.must(&["sync"], 75).stderr;
    assert!(told.contains("certificate verify failed"), "{told}");
}

#[test]
fn a_host_may_be_an_address_of_either_family() {
    for (at, hosts) in [("127.0.0.1:0", &["127.0.0.1"][..]), ("[::1]:0", &["'::1'", "'[::1]'"])] {
        let Ok(listener) = TcpListener::bind(at) else {
            eprintln!("not tested: this machine has no {at}");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"+OK ready\r\n");
                maildrop(&mut stream);
            }
        });
        for host in hosts {
            let home = Home::new();
            home.configure(&format!(
                "accounts:\n  home: {{ host: {host}, port: {port}, user: u, password: p, tls: none, auth: [user-pass], \
                 deliver: {{ maildir: ~/Mail }} }}\n"
            ));
            home.must(&["sync"], 0);
        }
    }
}

#[test]
fn a_resolver_that_does_not_answer_is_told_apart_from_a_name_that_is_not_there() {
    if !getuid().is_root() {
        return eprintln!("not tested: only root can give a program another resolver");
    }
    let home = Home::new();
    home.configure(
        "accounts:\n  home: { host: pop.example.org, user: u, password: p, timeout: 60s, deliver: { maildir: ~/Mail } }\n",
    );
    // Nobody answers there; or the name is looked for in a file that does not have it.
    for (resolver, lookup, told) in [
        (
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
            "hosts: dns\n",
            "Temporary failure in name resolution",
        ),
        ("", "hosts: files\n", "no such name"),
    ] {
        let (resolver, lookup) = (home.write("resolv.conf", resolver), home.write("nsswitch.conf", lookup));
        let mut command = home.command(&["sync", "--force"]);
        let script = format!(
            "mount --bind {} /etc/resolv.conf && mount --bind {} /etc/nsswitch.conf && exec \"$0\" check",
            resolver.display(),
            lookup.display()
        );
        let program = command.get_program().to_owned();
        command = {
            let mut outer = Command::new("unshare");
            outer.args(["--mount", "sh", "-c", &script]).arg(program);
            outer.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            outer
        };
        let ended = Running::start(&mut command).wait(LIMIT);
        assert_eq!(ended.status, Some(75), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("look up the host") && ended.stderr.contains(told),
            "{told}: {}",
            ended.stderr
        );
    }
}

/// Lets nobody through to a mail server who has not logged in at the maildrop since the last one who came; gives its port.
fn pop_before_smtp(maildrop: &Arc<Maildrop>, behind: u16) -> u16 {
    let (maildrop, mut seen) = (Arc::clone(maildrop), 0);
    scripted(move |mut client| {
        let log_ins = maildrop.count(|what| *what == What::LoggedIn);
        if log_ins == seen {
            let _ = client.write_all(b"554 5.7.1 first fetch your mail\r\n");
            return;
        }
        seen = log_ins;
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, behind)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut client);
    })
}

#[test]
fn the_log_in_at_the_maildrop_comes_before_the_way_to_the_same_providers_mail_server() {
    let maildrop = Arc::new(Maildrop::start(Settings { tls: Protection::None, ..Settings::default() }));
    let relay = MailServer::start(&["8BITMIME", "SIZE", "PIPELINING"]);
    let home = Home::new();
    home.configure(&format!(
        "accounts:\n  home: {{ host: 127.0.0.1, port: {}, tls: none, auth: [user-pass], user: alice, password: correct horse, \
         deliver: {{ smtp: {{ host: 127.0.0.1, port: {}, to: [b@example.org] }} }} }}\n",
        maildrop.port(),
        pop_before_smtp(&maildrop, relay.port())
    ));
    for poll in 1..=3 {
        maildrop.put(&format!("uid-{poll}"), format!("From: <a@b>\r\nMessage-ID: <{poll}@a>\r\n\r\n"));
        home.must(&["sync"], 0);
        assert_eq!(relay.arrived().len(), poll);
    }
}
