//! Mechanisms against an independent implementation, GNU SASL's server behind a POP3 front of the test's own, where no
//! POP3 server of Debian's has them all; and a client's certificate at Dovecot.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::certificate::Certificate;
use crate::support::dovecot::{Dovecot, Format};
use crate::support::mails;
use crate::support::postrider::Home;

const USER: &str = "u=ser,1";
const PASSWORD: &str = "pencil and pen";

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// GNU SASL as the server of one exchange.
struct Gsasl {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// What the channel exports (RFC 9266), in base64.
    binding: String,
}

impl Gsasl {
    fn start(mechanism: &str, binding: &[u8]) -> Self {
        let mut command = Command::new("gsasl");
        command.args(["--server", "-m", mechanism, "-a", USER, "-p", PASSWORD, "--iteration-count=4096"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("gsasl (Debian: gsasl)");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut this = Self { child, input, output, binding: STANDARD.encode(binding) };
        assert_eq!(this.says().as_deref(), Some(mechanism));
        this
    }

    /// Gives what it says next, in base64; `None`: it has refused. It is told the channel's value when it asks for that.
    fn says(&mut self) -> Option<String> {
        let mut line = String::new();
        let mut octet = [0];
        while self.output.read(&mut octet).unwrap() == 1 {
            match octet[0] {
                b'\n' => return Some(line),
                octet => line.push(octet.into()),
            }
            if line.ends_with("tls-exporter channel binding: ") {
                writeln!(self.input, "{}", self.binding).unwrap();
                line.clear();
            } else if line.ends_with("tls-unique channel binding: ") {
                // TLS 1.3 has none.
                writeln!(self.input).unwrap();
                line.clear();
            }
        }
        None
    }

    /// Tells it what the client said, in base64; it may have refused already.
    fn hears(&mut self, line: &str) {
        let _ = writeln!(self.input, "{}", line.trim());
    }
}

impl Drop for Gsasl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A POP3 front over TLS 1.3 that announces these mechanisms, and has GNU SASL speak them.
struct Front {
    port: u16,
    certificate: Certificate,
}

impl Front {
    fn start(announced: &'static str, behind: fn(&str) -> &str, ok: &'static str) -> Self {
        let certificate = Certificate::for_loopback();
        let config = certificate.server();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                // A client that goes is no error of the server.
                let _ = serve(socket, &config, announced, behind, ok);
            }
        });
        Self { port, certificate }
    }

    /// A home whose account logs in here by this.
    fn home(&self, auth: &str, password: &str) -> Home {
        let home = Home::new();
        let ca = home.write("ca.pem", &self.certificate.authority_pem);
        home.configure(&format!(
            "accounts:\n  home: {{ host: 127.0.0.1, port: {}, tls_ca: '{}', user: '{USER}', password: '{password}', \
             auth: {auth}, timeout: 20s, deliver: {{ maildir: ~/Mail }} }}\n",
            self.port,
            ca.display()
        ));
        home
    }
}

fn serve(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    announced: &str,
    behind: fn(&str) -> &str,
    ok: &str,
) -> std::io::Result<()> {
    let session = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(session, socket));
    stream.get_mut().write_all(b"+OK\r\n")?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let answer = match line.strip_prefix("AUTH ") {
            Some(argument) => {
                let (name, initial) = argument.split_once(' ').unwrap_or((argument, ""));
                let mut binding = [0; 32];
                let tls = &mut stream.get_mut().conn;
                tls.export_keying_material(&mut binding, b"EXPORTER-Channel-Binding", Some(&[])).unwrap();
                let gsasl = Gsasl::start(behind(name), &binding);
                match exchange(gsasl, name, initial, &mut stream, ok)? {
                    true => "+OK\r\n".to_owned(),
                    false => "-ERR [AUTH] no\r\n".to_owned(),
                }
            }
            None if line == "CAPA" => format!("+OK\r\nUIDL\r\nRESP-CODES\r\nSASL {announced}\r\n.\r\n"),
            None if line == "UIDL" || line == "LIST" => "+OK\r\n.\r\n".to_owned(),
            None => "+OK 0 0\r\n".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes())?;
    }
}

/// Carries an exchange; `ok` stands where a challenge's `+` belongs.
fn exchange(
    mut gsasl: Gsasl,
    name: &str,
    initial: &str,
    stream: &mut BufReader<Stream>,
    ok: &str,
) -> std::io::Result<bool> {
    let steps = if name.starts_with("SCRAM") || name == "LOGIN" { 2 } else { 1 };
    let Some(mut said) = gsasl.says() else { return Ok(false) };
    for step in 0..steps {
        let response =
            if step == 0 && !initial.is_empty() { initial.to_owned() } else { ask(stream, ok, &said)? };
        gsasl.hears(&response);
        match gsasl.says() {
            Some(next) => said = next,
            None => return Ok(false),
        }
    }
    // The server's last message is a challenge in POP3 (RFC 5034, 4), which an empty line answers.
    Ok(said.is_empty() || ask(stream, ok, &said)?.trim().is_empty())
}

fn ask(stream: &mut BufReader<Stream>, ok: &str, challenge: &str) -> std::io::Result<String> {
    stream.get_mut().write_all(format!("{ok} {challenge}\r\n").as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line)
}

const ALL: &str = "SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN";

#[test]
fn each_mechanism_logs_in_at_an_independent_server_and_a_wrong_password_does_not() {
    let front = Front::start(ALL, |name| name, "+");
    for (auth, name) in [
        ("[scram-sha-256-plus]", "SCRAM-SHA-256-PLUS"),
        ("[scram-sha-256]", "SCRAM-SHA-256"),
        ("[scram-sha-1]", "SCRAM-SHA-1"),
        ("[cram-md5]", "CRAM-MD5"),
        ("[plain]", "PLAIN"),
        ("[login]", "LOGIN"),
        // What can be bound to the channel is the best there is.
        ("auto", "SCRAM-SHA-256-PLUS"),
    ] {
        let ended = front.home(auth, PASSWORD).must(&["check", "-vvv"], 1);
        assert!(ended.stderr.contains(&format!("AUTH {name}")), "{name}: {}", ended.stderr);
        let ended = front.home(auth, "pencil").must(&["check"], 77);
        assert!(ended.stderr.contains("[AUTH] no"), "{name}: {}", ended.stderr);
    }
}

#[test]
fn ok_in_the_place_of_a_challenge_is_taken_for_one_within_an_exchange() {
    let front = Front::start(ALL, |name| name, "+OK");
    for auth in ["[scram-sha-256-plus]", "[scram-sha-1]", "[cram-md5]", "[login]"] {
        front.home(auth, PASSWORD).must(&["check"], 1);
    }
}

#[test]
fn a_server_that_could_bind_and_is_shown_not_to_notices_it() {
    // Somebody between has taken SCRAM-SHA-256-PLUS off the list.
    let front = Front::start("SCRAM-SHA-256", |name| name, "+");
    let ended = front.home("[scram-sha-256]", PASSWORD).must(&["check", "-vvv"], 77);
    assert!(ended.stderr.contains("AUTH SCRAM-SHA-256"), "{}", ended.stderr);
    // A proof that is bound to another channel than the server's own is worth nothing.
    let front = Front::start(ALL, |_| "SCRAM-SHA-256", "+");
    front.home("[scram-sha-256-plus]", PASSWORD).must(&["check"], 77);
}

#[test]
fn a_certificate_logs_in_by_external_at_dovecot_and_another_s_does_not() {
    let home = Home::new();
    client_certificates(&home, &["u1", "u2"]);
    let server = Dovecot::start_with(Format::Maildir, 1, &by_certificate(&home));
    server.put("u1", &mails::ordinary(1));
    home.write("ca.pem", &server.certificate.authority_pem);
    for (auth, certificate, status) in
        [("auto, password: unused", "u1", 0), ("[external]", "u1", 0), ("[external]", "u2", 77)]
    {
        home.configure(&format!(
            "accounts:\n  home: {{ host: localhost, port: {}, tls_ca: ~/ca.pem, user: u1, auth: {auth}, \
             tls_client_cert: ~/{certificate}.pem, tls_client_key: ~/{certificate}.key, deliver: {{ maildir: ~/Mail }} }}\n",
            server.tls_port
        ));
        let ended = home.run(&["sync", "-vvv", "--force"]);
        assert_eq!(ended.status, Some(status), "{auth} {certificate}: {}{}", ended.stderr, server.log());
        assert!(ended.stderr.contains("AUTH EXTERNAL"), "{}", ended.stderr);
    }
    assert_eq!(home.files("Mail").len(), 1);
}

/// Makes certificates of clients, with their keys, and that of their authority.
pub fn client_certificates(home: &Home, users: &[&str]) {
    let openssl = |arguments: &str| {
        let made =
            Command::new("openssl").args(arguments.split(' ')).current_dir(home.path("")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let key = "-newkey rsa:2048 -nodes -keyout";
    openssl(&format!("req -x509 {key} clients.key -out clients.pem -subj /CN=clients -days 30"));
    for user in users {
        openssl(&format!(
            "req -x509 -CA clients.pem -CAkey clients.key -extensions usr_cert {key} {user}.key -out {user}.pem -subj \
             /CN={user} -days 30"
        ));
    }
}

/// What makes Dovecot log in who shows such a certificate.
pub fn by_certificate(home: &Home) -> String {
    format!(
        "ssl_ca = <{}\nssl_verify_client_cert = yes\nssl_require_crl = no\nauth_ssl_username_from_cert = yes\n\
         ssl_cert_username_field = commonName\nauth_mechanisms = external plain\n\
         passdb {{\n  driver = static\n  mechanisms = external\n  args = nopassword\n}}\n",
        home.path("clients.pem").display()
    )
}
