//! A private Cyrus 3.6.1 (Debian: cyrus-common, cyrus-pop3d, cyrus-imapd), its passwords in a sasldb of its own.
//!
//! What is peculiar about it:
//! - PIPELINING is announced, and what was sent behind AUTH before its answer is lost (PLAIN), or taken for an answer to
//!   a challenge (LOGIN, SCRAM).
//! - After the log-in it announces no mechanisms and no STLS.
//! - LMTP puts Return-Path, Received and more on top; a message with NULs or without a header is refused there.
//! - A unique-id is UIDVALIDITY and UID: `1795950958.3`; UIDVALIDITY is the second in which the mailbox was made.
//! - It says `Mailbox locked and ready`, and lets a second session in.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::certificate::Certificate;
use super::chroot::{Root, SERVER, libraries};
use super::process::{Server, free_port, program, wait_until};
use super::reader::Reader;
use super::real_server::{PASSWORD, RealServer, USER, Way};
use super::wire::PATIENCE;

const BIN: &str = "/usr/lib/cyrus/bin";
const PLUGINS: [&str; 6] = ["sasldb", "plain", "login", "crammd5", "digestmd5", "scram"];
const SPOOL: &str = "var/spool/cyrus/mail";
const SOCKET: &str = "run/cyrus/socket";

/// What Debian's file says where it matters; 8-bit headers stay as they are.
const IMAPD: &str = "\
configdirectory: /var/lib/cyrus
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
altnamespace: no
unixhierarchysep: no
allowplaintext: yes
allowapop: yes
autocreate_quota: 0
autocreate_post: yes
popminpoll: 0
munge8bit: no
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256
tls_server_cert: /etc/certificate.pem
tls_server_key: /etc/key.pem
tls_client_ca_dir: /etc
lmtpsocket: /run/cyrus/socket/lmtp
servername: localhost
";

/// A running Cyrus; it ends when this is dropped.
#[derive(Debug)]
pub struct Cyrus {
    server: Option<Server>,
    root: Root,
    port: u16,
    tls_port: u16,
    imap_port: u16,
    certificate: Certificate,
}

impl Cyrus {
    fn run(root: &Root, port: u16, tls_port: u16) -> Result<Server, String> {
        let mut command = root.command(&format!("{BIN}/master"), &["-D"], &[]);
        // One that was killed leaves it behind.
        let _ = fs::remove_file(root.at("run/cyrus-master.pid"));
        Server::start(&mut command, &root.at("var/log"), &[port, tls_port])
    }

    /// Gives the port on which it speaks IMAP.
    pub fn imap_port(&self) -> u16 {
        self.imap_port
    }

    /// Gives what is in the mailbox.
    pub fn messages(&self) -> Vec<(String, Vec<u8>)> {
        Reader::plain(self.port).log_in(USER, PASSWORD).messages()
    }

    /// Gives the path of the socket on which it speaks LMTP.
    pub fn lmtp(&self) -> PathBuf {
        self.root.at(SOCKET).join("lmtp")
    }

    /// Gives the files of the messages, by their numbers.
    fn files(&self) -> Vec<(u32, PathBuf)> {
        let mut files = Vec::new();
        walk(&self.root.at(SPOOL), &mut |path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(number) = name.strip_suffix('.').and_then(|number| number.parse().ok()) {
                files.push((number, path.to_path_buf()));
            }
        });
        files.sort();
        files
    }

    /// Stops it, takes all mail and everything that is known about it away, and starts it with an empty mailbox.
    fn begin_anew(&mut self) {
        self.root.kill_all();
        if let Some(server) = self.server.take() {
            server.kill();
        }
        for folder in ["var/lib/cyrus", "var/spool/cyrus", "run/cyrus"] {
            fs::remove_dir_all(self.root.at(folder)).expect("a folder of the server's");
        }
        folders(&self.root);
        self.server = Some(Self::run(&self.root, self.port, self.tls_port).expect("Cyrus starts again"));
        // Makes the mailbox.
        Reader::plain(self.port).log_in(USER, PASSWORD).ok("QUIT");
    }
}

impl RealServer for Cyrus {
    fn start() -> Self {
        let certificate = Certificate::for_loopback();
        let plugin = |name: &str| format!("{}/sasl2/lib{name}.so", libraries());
        let saslpasswd = "/usr/sbin/saslpasswd2";
        let mut files: Vec<String> = ["master", "pop3d", "imapd", "lmtpd", "reconstruct", "ctl_cyrusdb"]
            .map(|name| format!("{BIN}/{name}"))
            .into();
        files.extend(PLUGINS.map(plugin));
        files.push(saslpasswd.to_string());
        let root = Root::new(&files.iter().map(String::as_str).collect::<Vec<_>>());
        root.users(USER, "*", &["cyrus"]);
        folders(&root);
        root.write("etc/imapd.conf", IMAPD, 0o644, 0);
        root.write("etc/certificate.pem", &certificate.pem, 0o644, SERVER);
        root.write("etc/key.pem", &certificate.key_pem, 0o600, SERVER);
        // Without a list of time zones it does not start.
        root.write("usr/share/zoneinfo/zone.tab", "XX\t+0000+00000\tEtc/UTC\n", 0o644, 0);
        root.write("usr/share/zoneinfo/Etc/UTC", utc(), 0o644, 0);
        let mut command = root.command(saslpasswd, &["-p", "-c", "-u", "localhost", USER], &[]);
        feed(&mut command, PASSWORD);
        std::os::unix::fs::chown(root.at("etc/sasldb2"), Some(SERVER), None).expect("its owner");
        for _ in 0..5 {
            let (port, tls_port, imap_port) = (free_port(), free_port(), free_port());
            root.write("etc/cyrus.conf", services(port, tls_port, imap_port), 0o644, 0);
            match Self::run(&root, port, tls_port) {
                Ok(server) => {
                    return Self { server: Some(server), root, port, tls_port, imap_port, certificate };
                }
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("Cyrus does not start: {log}"),
            }
        }
        panic!("Cyrus found its ports in use five times");
    }

    fn ways(&self) -> Vec<Way> {
        vec![(self.port, "none"), (self.port, "starttls"), (self.tls_port, "implicit")]
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        &["user-pass", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "apop"]
    }

    fn authority(&self) -> &str {
        &self.certificate.authority_pem
    }

    fn stores(&self, message: &[u8]) -> bool {
        let header = message.split(|octet| *octet == b'\n').next().unwrap_or_default();
        !message.contains(&0) && header.contains(&b':') && !header.starts_with(b"From ")
    }

    fn put(&self, messages: &[Vec<u8>]) {
        // A path to a socket may not be long, and this one is.
        let folder = File::open(self.root.at(SOCKET)).expect("the socket's folder");
        let path = format!("/proc/self/fd/{}/lmtp", folder.as_raw_fd());
        let mut socket = UnixStream::connect(&path);
        // It listens a little later than to POP3.
        wait_until(PATIENCE, || {
            socket.is_ok() || {
                socket = UnixStream::connect(&path);
                false
            }
        });
        let mut lmtp = Lmtp(BufReader::new(socket.expect("LMTP")));
        lmtp.reply("220");
        lmtp.command(b"LHLO test", "250");
        for message in messages {
            lmtp.command(b"MAIL FROM:<>", "250");
            lmtp.command(format!("RCPT TO:<{USER}>").as_bytes(), "250");
            lmtp.command(b"DATA", "354");
            let mut octets = Vec::new();
            for line in message.split_inclusive(|octet| *octet == b'\n') {
                if line.starts_with(b".") {
                    octets.push(b'.');
                }
                octets.extend(line.strip_suffix(b"\n").unwrap_or(line));
                octets.extend(b"\r\n");
            }
            octets.push(b'.');
            lmtp.command(&octets, "250");
        }
        lmtp.command(b"QUIT", "221");
    }

    fn left(&self) -> usize {
        Reader::plain(self.port).log_in(USER, PASSWORD).lines("LIST").len()
    }

    fn replace(&mut self, messages: &[Vec<u8>]) {
        self.begin_anew();
        self.put(messages);
    }

    fn rebuild(&mut self) {
        let kept: Vec<_> =
            self.files().into_iter().map(|(_, path)| fs::read(path).expect("a message")).collect();
        self.begin_anew();
        let mut header = None;
        walk(&self.root.at(SPOOL), &mut |path| {
            if path.ends_with("cyrus.header") {
                header = Some(path.to_path_buf());
            }
        });
        let folder = header.expect("a mailbox").parent().expect("its folder").to_path_buf();
        let folder = folder.strip_prefix(self.root.at("/")).expect("a folder inside").display().to_string();
        for (number, octets) in (1..).zip(kept) {
            self.root.write(&format!("{folder}/{number}."), octets, 0o600, SERVER);
        }
        let reconstruct = format!("{BIN}/reconstruct");
        let mut command = Command::new(program("chroot").expect("chroot, of coreutils"));
        command.arg(format!("--userspec={SERVER}:{}", super::chroot::MAIL)).arg(self.root.at("/"));
        let output = command.arg(reconstruct).arg(format!("user.{USER}")).output().expect("reconstruct runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn crash(&mut self) {
        self.root.kill_all();
        if let Some(server) = self.server.take() {
            server.kill();
        }
        self.server = Some(Self::run(&self.root, self.port, self.tls_port).expect("Cyrus starts again"));
    }
}

fn folders(root: &Root) {
    for folder in ["var/lib/cyrus", "var/spool/cyrus", SPOOL, "run/cyrus"] {
        root.folder(folder, 0o750, SERVER);
    }
    for folder in ["proc", "lock", "socket"] {
        root.folder(&format!("run/cyrus/{folder}"), 0o755, SERVER);
    }
}

fn services(port: u16, tls_port: u16, imap_port: u16) -> String {
    format!(
        "START {{\n recover cmd=\"ctl_cyrusdb -r\"\n}}\nSERVICES {{\n \
         pop3 cmd=\"pop3d\" listen=\"127.0.0.1:{port}\" prefork=0 maxchild=50\n \
         imap cmd=\"imapd\" listen=\"127.0.0.1:{imap_port}\" prefork=0 maxchild=20\n \
         pop3s cmd=\"pop3d -s\" listen=\"127.0.0.1:{tls_port}\" prefork=0 maxchild=50\n \
         lmtp cmd=\"lmtpd -a\" listen=\"/{SOCKET}/lmtp\" prefork=0 maxchild=20\n}}\n"
    )
}

/// The smallest file that says what UTC is (RFC 9636).
fn utc() -> Vec<u8> {
    let counts = [0_u32, 0, 0, 0, 1, 4].map(u32::to_be_bytes).concat();
    [b"TZif".as_slice(), &[0; 16], &counts, &[0; 6], b"UTC\0"].concat()
}

fn walk(folder: &Path, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, found) } else { found(&path) }
    }
}

fn feed(command: &mut Command, text: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("a program of the server's");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("what it reads");
    assert!(child.wait().expect("its end").success(), "{command:?}");
}

/// A dialogue by LMTP.
struct Lmtp(BufReader<UnixStream>);

impl Lmtp {
    fn command(&mut self, command: &[u8], expected: &str) {
        self.0.get_mut().write_all(&[command, b"\r\n"].concat()).expect("a command");
        self.reply(expected);
    }

    fn reply(&mut self, expected: &str) {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a reply");
            assert!(line.starts_with(expected), "{line}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return;
            }
        }
    }
}
