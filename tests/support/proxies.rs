//! POP3 proxies before a Dovecot: nginx, perdition, Dovecot itself, and haproxy, which reads nothing of what it passes on.
//!
//! What is peculiar about them:
//! - nginx 1.22 (Debian: libnginx-mod-mail) logs in for its client by USER and PASS; before the log-in it shows its own
//!   capabilities, after it those of the server behind. When that is away: `-ERR internal server error`.
//! - perdition 2.2 announces no PIPELINING, the server behind it does; whatever was sent behind PASS before its answer
//!   is lost. It takes USER and PASS alone.
//! - Dovecot as a proxy knows all capabilities that the server behind has, since they are the same program.
//! - haproxy 2.6 ends a connection on which nothing was sent for a time (Debian: 50 s, here: 4 s).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::certificate::Certificate;
use super::chroot::found;
use super::courier::Courier;
use super::dovecot::{self, Dovecot};
use super::process::{Server, free_port};
use super::real_server::{RealServer, Way};

/// How a proxy is started, from a directory of its own.
pub trait Proxy {
    /// What the ways of logging in are, as `auth` names them.
    const MECHANISMS: &'static [&'static str];
    /// What `tls` has to be on the first port: the other one is `tls: implicit`.
    const TLS: &'static [&'static str] = &["none", "starttls"];

    /// Writes what it needs to be told, and gives it ready to be started on these two ports before `behind`.
    fn configured(directory: &Path, ports: (u16, u16), behind: u16) -> Vec<Command>;
}

/// A proxy before a real server.
#[derive(Debug)]
pub struct Proxied<P, S> {
    proxy: Vec<Server>,
    server: S,
    directory: TempDir,
    ports: (u16, u16),
    certificate: Certificate,
    kind: std::marker::PhantomData<P>,
}

impl<P: Proxy, S: RealServer> Proxied<P, S> {
    /// Gives the server behind it.
    pub fn behind(&mut self) -> &mut S {
        &mut self.server
    }

    fn run(directory: &Path, ports: (u16, u16), server: &S) -> Result<Vec<Server>, String> {
        let mut commands = P::configured(directory, ports, server.ways()[0].0);
        let last = commands.len() - 1;
        let mut started = Vec::new();
        for (number, command) in commands.iter_mut().enumerate() {
            let log = directory.join(format!("log-{number}"));
            let port = if number == last { ports.1 } else { ports.0 };
            started.push(Server::start(command, &log, &[port])?);
        }
        Ok(started)
    }
}

impl<P: Proxy, S: RealServer> RealServer for Proxied<P, S> {
    fn start() -> Self {
        let certificate = Certificate::for_loopback();
        let server = S::start();
        let directory = TempDir::new().expect("a temporary directory");
        for (name, text) in [
            ("certificate.pem", certificate.pem.clone()),
            ("key.pem", certificate.key_pem.clone()),
            ("both.pem", certificate.pem.clone() + &certificate.key_pem),
        ] {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        for _ in 0..5 {
            let ports = (free_port(), free_port());
            match Self::run(directory.path(), ports, &server) {
                Ok(proxy) => {
                    return Self {
                        proxy,
                        server,
                        directory,
                        ports,
                        certificate,
                        kind: std::marker::PhantomData,
                    };
                }
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("the proxy does not start: {log}"),
            }
        }
        panic!("the proxy found its ports in use five times");
    }

    fn ways(&self) -> Vec<Way> {
        let first = P::TLS.iter().map(|tls| (self.ports.0, *tls));
        first.chain([(self.ports.1, "implicit")]).collect()
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        P::MECHANISMS
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn stores(&self, message: &[u8]) -> bool {
        self.server.stores(message)
    }

    fn put(&self, messages: &[Vec<u8>]) {
        self.server.put(messages);
    }

    fn left(&self) -> usize {
        self.server.left()
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        self.server.replace(messages);
    }

    fn rebuild(&mut self) {
        self.server.rebuild();
    }

    fn crash(&mut self) {
        for proxy in self.proxy.drain(..) {
            proxy.kill();
        }
        self.server.crash();
        self.proxy =
            Self::run(self.directory.path(), self.ports, &self.server).expect("the proxy starts again");
    }

    fn messages(&self) -> Vec<(String, Vec<u8>)> {
        self.server.messages()
    }
}

/// nginx before Dovecot.
pub type NginxDovecot = Proxied<Nginx, Dovecot>;
/// perdition before Dovecot.
pub type PerditionDovecot = Proxied<Perdition, Dovecot>;
/// Dovecot before Dovecot.
pub type DovecotDovecot = Proxied<DovecotProxy, Dovecot>;
/// haproxy before Courier.
pub type HaproxyCourier = Proxied<Haproxy, Courier>;

/// nginx.
#[derive(Debug)]
pub struct Nginx;

impl Proxy for Nginx {
    const MECHANISMS: &'static [&'static str] = &["user-pass", "plain", "login", "cram-md5", "apop"];

    fn configured(directory: &Path, ports: (u16, u16), behind: u16) -> Vec<Command> {
        let at = directory.display();
        let text = format!(
            "\
load_module {};
user root;
daemon off;
worker_processes 1;
pid {at}/pid;
error_log {at}/error.log;
events {{ }}
mail {{
  auth_http 127.0.0.1:{}/;
  pop3_auth plain apop cram-md5;
  ssl_certificate {at}/certificate.pem;
  ssl_certificate_key {at}/key.pem;
  server {{ listen 127.0.0.1:{}; protocol pop3; starttls on; }}
  server {{ listen 127.0.0.1:{} ssl; protocol pop3; }}
}}
",
            found("/usr/lib/nginx/modules/ngx_mail_module.so").display(),
            authority(behind),
            ports.0,
            ports.1
        );
        fs::write(directory.join("nginx.conf"), text).expect("a file");
        let mut command = Command::new(found("/usr/sbin/nginx"));
        command.arg("-p").arg(directory).arg("-e").arg(directory.join("error.log"));
        command.arg("-c").arg(directory.join("nginx.conf"));
        vec![command]
    }
}

/// Answers nginx's questions (auth_http): the only user is known, and its server is behind this port.
fn authority(behind: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let port = listener.local_addr().expect("its address").port();
    // It ends with the process.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // nginx asks again if it was not answered.
            let _ = answer(stream, behind);
        }
    });
    port
}

fn answer(mut stream: TcpStream, behind: u16) -> std::io::Result<()> {
    let mut password = None;
    let mut by_digest = false;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        match line.split_once(": ") {
            Some(("Auth-Method", method)) => by_digest = method != "plain",
            // A blank is sent as %20.
            Some(("Auth-Pass", sent)) => password = Some(sent.replace("%20", " ")),
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    // A digest is compared by nginx itself, with the password that it is told.
    let status = match password {
        Some(sent) if !by_digest && sent != dovecot::PASSWORD => "Invalid login or password",
        _ => "OK",
    };
    let reply = format!(
        "HTTP/1.0 200 OK\r\nAuth-Status: {status}\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: {behind}\r\n\
         Auth-Pass: {}\r\n\r\n",
        dovecot::PASSWORD
    );
    stream.write_all(reply.as_bytes())
}

/// perdition.
#[derive(Debug)]
pub struct Perdition;

impl Proxy for Perdition {
    const MECHANISMS: &'static [&'static str] = &["user-pass"];

    fn configured(directory: &Path, ports: (u16, u16), behind: u16) -> Vec<Command> {
        let one = |program: &str, port: u16, mode: &str| {
            let mut command = Command::new(found(&format!("/usr/sbin/{program}")));
            command.args(["--no_daemon", "-f", "/dev/null", "--bind_address", "127.0.0.1"]);
            command.args(["--username", "root", "--group", "root", "--log_facility", "-"]);
            command.arg("--listen_port").arg(port.to_string());
            command.arg("--outgoing_server").arg(format!("127.0.0.1:{behind}"));
            command.arg("--ssl_mode").arg(mode);
            command.arg("--ssl_cert_file").arg(directory.join("certificate.pem"));
            command.arg("--ssl_key_file").arg(directory.join("key.pem"));
            command.arg("--pid_file").arg(directory.join(format!("pid-{port}")));
            command.arg("--map_library").arg("");
            command
        };
        vec![one("perdition.pop3", ports.0, "tls_listen"), one("perdition.pop3s", ports.1, "ssl_listen")]
    }
}

/// Dovecot, which logs in for its client elsewhere.
#[derive(Debug)]
pub struct DovecotProxy;

impl Proxy for DovecotProxy {
    // It must know the password to log in with it.
    const MECHANISMS: &'static [&'static str] = &["user-pass", "plain", "login"];

    fn configured(directory: &Path, ports: (u16, u16), behind: u16) -> Vec<Command> {
        let extra = format!("proxy=y host=127.0.0.1 port={behind} nopassword=y");
        vec![dovecot::proxy(&directory.join("dovecot"), ports, directory, &extra)]
    }
}

/// haproxy.
#[derive(Debug)]
pub struct Haproxy;

impl Proxy for Haproxy {
    const MECHANISMS: &'static [&'static str] = &["user-pass", "plain", "login", "cram-md5"];
    // The certificate that STLS would show is the server's own.
    const TLS: &'static [&'static str] = &["none"];

    fn configured(directory: &Path, ports: (u16, u16), behind: u16) -> Vec<Command> {
        let at = directory.display();
        let text = format!(
            "\
defaults
  mode tcp
  timeout connect 5s
  timeout client 4s
  timeout server 4s
listen plain
  bind 127.0.0.1:{}
  server one 127.0.0.1:{behind}
listen tls
  bind 127.0.0.1:{} ssl crt {at}/both.pem
  server one 127.0.0.1:{behind}
",
            ports.0, ports.1
        );
        fs::write(directory.join("haproxy.cfg"), text).expect("a file");
        let mut command = Command::new(found("/usr/sbin/haproxy"));
        command.arg("-db").arg("-f").arg(directory.join("haproxy.cfg"));
        vec![command]
    }
}
